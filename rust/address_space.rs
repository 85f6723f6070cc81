// SPDX-License-Identifier: GPL-2.0

//! Who accesses a buffer: the address space of a process.

use kernel::{
    mm::Mm,
    sync::atomic::Atomic, //
};

use crate::bindings;

/// Whether somebody lives in the address space still. Once false, it stays so: nobody can access
/// memory by it any more.
pub fn has_users(mm: &Mm) -> bool {
    // SAFETY: By its type `mm` is a valid `mm_struct`, which need not have users.
    unsafe { bindings::cohbuf_rs_mm_has_users(mm.as_raw()) }
}

/// What [`flip`] has found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Flipped {
    /// It is changed.
    Done,
    /// The word is 0, or the task has no address space.
    Nothing,
    /// The word is another.
    Other,
}

/// Changes a word, fully ordered, that has the address of the calling task's address space, as
/// [`Mm::as_raw`] says it, and the bits `from`, to the same with the bits `to`.
#[inline]
pub fn flip(word: &Atomic<usize>, from: usize, to: usize) -> Flipped {
    // SAFETY: The word is valid, and changed atomically alone. CAST: `unsigned long` and `usize` are
    // the same.
    match unsafe { bindings::cohbuf_rs_flip(word.as_ptr().cast(), from, to) } {
        0 => Flipped::Nothing,
        1 => Flipped::Done,
        _ => Flipped::Other,
    }
}
