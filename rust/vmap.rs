// SPDX-License-Identifier: GPL-2.0

//! A mapping of a buffer into the kernel.

use core::{
    mem::size_of,
    ops::Range,
    ptr::NonNull, //
};

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    bindings,
    buf::DmaBuf,
    cpu_access::Scratch,
    exporter::{
        Buffer,
        Exporter, //
    },
    pages::Pages, //
};

/// Pages that are mapped one after the other into the kernel.
///
/// # Invariants
///
/// `bytes` of the buffer are mapped at `addr`, which came from `vmap()`.
pub(crate) struct Vmapped {
    addr: NonNull<c_void>,
    bytes: Range<usize>,
    /// The list of the pages, which the memory cgroup is charged for. As large as the page tables,
    /// which it is not charged for: who has many mappings runs into a limit.
    _list: Scratch,
}

// SAFETY: `vunmap()` may be called by another task than `vmap()`.
unsafe impl Send for Vmapped {}
// SAFETY: Nothing changes what is behind a shared reference.
unsafe impl Sync for Vmapped {}

impl Vmapped {
    /// Maps the pages that have `bytes`, cached as they are.
    ///
    /// # Errors
    ///
    /// As [`KernelMapping::new`].
    ///
    /// # Safety
    ///
    /// The pages must outlive it.
    pub(crate) unsafe fn new(pages: &Pages, bytes: Range<usize>) -> Result<Self> {
        if bytes.is_empty() || bytes.end > pages.size() {
            return Err(EINVAL);
        }
        let numbers = bytes.start / PAGE_SIZE..bytes.end.div_ceil(PAGE_SIZE);
        let count = u32::try_from(numbers.len()).map_err(|_| ENOMEM)?;
        let list = Scratch::new(numbers.len() * size_of::<*mut bindings::page>())?;
        let first = list.as_ptr().cast::<*mut bindings::page>();
        let bytes = numbers.start * PAGE_SIZE..numbers.end * PAGE_SIZE;
        for (at, number) in numbers.enumerate() {
            // SAFETY: There is room for as many as there are numbers.
            unsafe { first.add(at).write(pages.page(number).ok_or(EINVAL)?) };
        }
        // SAFETY: `list` has `count` valid pages.
        let addr = unsafe { bindings::cohbuf_rs_vmap(first, count, pages.is_write_combine()) };
        // INVARIANT: They were just mapped.
        Ok(Self {
            addr: NonNull::new(addr).ok_or(ENOMEM)?,
            bytes,
            _list: list,
        })
    }

    pub(crate) fn addr(&self) -> *mut c_void {
        self.addr.as_ptr()
    }
}

impl Drop for Vmapped {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the address came from `vmap()`; it is unmapped once.
        unsafe { bindings::cohbuf_rs_vunmap(self.addr.as_ptr()) };
    }
}

/// A part of a buffer that is mapped into the kernel, and lives while it is.
pub struct KernelMapping {
    map: Vmapped,
    /// Dropped after `map`.
    _buf: ARef<DmaBuf>,
}

impl KernelMapping {
    /// Maps the pages that have `bytes`, cached as they are.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where there are none, or not all of them are of the buffer.
    /// - [`ENOMEM`], also where the cgroup of the caller may not have the list.
    pub fn new<T: Exporter>(buffer: Buffer<'_, T>, bytes: Range<usize>) -> Result<Self> {
        Ok(Self {
            // SAFETY: The pages are there for as long as the buffer, of which there is a reference
            // that is dropped later.
            map: unsafe { Vmapped::new(buffer.pages(), bytes) }?,
            _buf: buffer.dma_buf().into(),
        })
    }

    /// What of the buffer is mapped.
    pub(crate) fn bytes(&self) -> Range<usize> {
        self.map.bytes.clone()
    }

    pub(crate) fn addr(&self) -> *mut c_void {
        self.map.addr()
    }
}
