// SPDX-License-Identifier: GPL-2.0

//! START and END of the whole buffer without the reservation lock, where all that they do is to open
//! and to close a window: [quick] in `Documentation/coherency.rst`.

#[cfg(doc)]
use crate::argument::*;

use dma_buf::address_space::{
    flag,
    unflag,
    FLAG, //
};
use kernel::{
    mm::Mm,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Release, //
    }, //
};

/// Whoever has to know takes the lock.
const OFF: usize = 0;
/// There are no windows, and nobody may open one. No `mm_struct` is there.
const NOBODY: usize = 2;
/// Beside the address of an `mm_struct`, which is even: its window is open.
const OPEN: usize = FLAG;

/// Which address space may open a window without the lock, and whether it has.
///
/// Turned on and off with the lock held, by [`Windows`](crate::windows::Windows) alone, which has a
/// reference to the `mm_struct` for as long as its address is here: no other has the same.
pub(crate) struct Quick(Atomic<usize>);

impl Quick {
    pub(crate) fn new() -> Self {
        Self(Atomic::new(OFF))
    }

    /// Begins CPU access of the calling task. Returns whether that was all there is to do.
    #[inline]
    pub(crate) fn begin(&self, writes: bool) -> bool {
        if !writes {
            return self.0.load(Acquire) != OFF;
        }
        flag(&self.0)
    }

    /// Ends CPU access of the calling task. Returns whether that was all there is to do.
    #[inline]
    pub(crate) fn end(&self, writes: bool) -> bool {
        if !writes {
            return self.0.load(Acquire) != OFF;
        }
        // The window of another is left alone, as are lines, which count as dirty.
        unflag(&self.0)
    }

    /// Whether a window is open.
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Acquire) & OPEN != 0
    }

    /// Whether everybody takes the lock. With the lock it stays so.
    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        self.0.load(Acquire) == OFF
    }

    /// Whether it is that address space's turn.
    pub(crate) fn is_of(&self, mm: &Mm) -> bool {
        self.0.load(Acquire) & !OPEN == address(mm)
    }

    /// From now on everybody takes the lock. Returns whether a window is open. With the lock.
    pub(crate) fn stop(&self) -> bool {
        // There is nothing to change most of the time, and others do not turn it on.
        self.0.load(Acquire) != OFF && self.0.xchg(OFF, Full) & OPEN != 0
    }

    /// There are no windows. With the lock.
    pub(crate) fn allow_nobody(&self) {
        self.0.store(NOBODY, Release);
    }

    /// `mm` has the only one. With the lock.
    pub(crate) fn allow(&self, mm: &Mm) {
        self.0.store(address(mm) | OPEN, Release);
    }
}

fn address(mm: &Mm) -> usize {
    // CAST: It is compared, and nothing else.
    mm.as_raw() as usize
}
