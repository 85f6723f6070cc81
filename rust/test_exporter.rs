// SPDX-License-Identifier: GPL-2.0

//! An exporter that is not of this crate, and fails where it is told to.
//!
//! Compiled into the KUnit module alone (`cfg(cohbuf_kunit)`).

use core::ptr::NonNull;

use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    bindings,
    DmaBuf, //
};

/// It has no `vmap`.
pub const NO_VMAP: u32 = 1 << 0;
/// Its memory is I/O memory.
pub const IO_MEMORY: u32 = 1 << 1;
/// `begin_cpu_access` fails with `ENODEV`.
pub const BEGIN_FAILS: u32 = 1 << 2;
/// `end_cpu_access` fails with `ERESTARTSYS`, and is counted.
pub const END_FAILS: u32 = 1 << 3;
/// `end_cpu_access` fails with `ERESTARTSYS` while a signal is pending, and is not counted then.
pub const END_INTERRUPTED: u32 = 1 << 4;

/// How often CPU access was begun and ended.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// To read.
    pub begin_read: u32,
    /// To write what is not read.
    pub begin_write: u32,
    /// Both.
    pub begin_both: u32,
    /// To read.
    pub end_read: u32,
    /// To write what is not read.
    pub end_write: u32,
    /// Both.
    pub end_both: u32,
    /// Begun while a fence was pending that it depends on.
    pub too_early: u32,
}

/// A buffer of that exporter.
///
/// # Invariants
///
/// `buf` was made by `cohbuf_rs_test_exporter_new()`.
pub struct TestBuffer {
    buf: ARef<DmaBuf>,
}

impl TestBuffer {
    /// Exports `size` bytes, which are zero. `flags` are those of the file.
    pub fn new(size: usize, how: u32, flags: u32) -> Result<Self> {
        // CAST: The flags of open(2) are positive.
        // SAFETY: No requirements.
        let raw = from_err_ptr(unsafe {
            bindings::cohbuf_rs_test_exporter_new(size, how, flags as c_int)
        })?;
        let raw = NonNull::new(raw).ok_or(EINVAL)?;
        // INVARIANT: It was just made.
        Ok(Self {
            // SAFETY: A reference was returned, which is handed over here.
            buf: unsafe { ARef::from_raw(raw.cast()) },
        })
    }

    /// The dma-buf.
    pub fn buf(&self) -> &ARef<DmaBuf> {
        &self.buf
    }

    /// What was called so far.
    pub fn calls(&self) -> Calls {
        let mut calls = [0; 7];
        // SAFETY: By the type invariant it is of that exporter, which has seven numbers.
        unsafe { bindings::cohbuf_rs_test_exporter_calls(self.buf.as_raw(), calls.as_mut_ptr()) };
        // By `enum dma_data_direction`.
        let [begin_both, begin_write, begin_read, end_both, end_write, end_read, too_early] = calls;
        Calls {
            begin_read,
            begin_write,
            begin_both,
            end_read,
            end_write,
            end_both,
            too_early,
        }
    }

    fn at(&self, offset: usize, len: usize) -> Result<*mut u8> {
        if offset.checked_add(len).ok_or(EINVAL)? > self.buf.size() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant it is of that exporter.
        let memory = unsafe { bindings::cohbuf_rs_test_exporter_memory(self.buf.as_raw()) };
        Ok(memory.cast::<u8>().wrapping_add(offset))
    }

    /// Writes to its memory.
    pub fn put(&self, offset: usize, bytes: &[u8]) -> Result {
        let to = self.at(offset, bytes.len())?;
        // SAFETY: The range is inside of the memory, of which the test alone has the dma-buf.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Reads its memory.
    pub fn get(&self, offset: usize, bytes: &mut [u8]) -> Result {
        let from = self.at(offset, bytes.len())?;
        // SAFETY: As for `put`.
        unsafe { core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }
}
