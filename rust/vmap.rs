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
    sync::Arc, //
};

use crate::{
    bindings,
    cpu_access::Scratch,
    pages::Pages, //
};

/// Pages that are mapped one after the other into the kernel.
///
/// # Invariants
///
/// `bytes` of the buffer are mapped at `addr`, which came from `vmap()`.
pub struct KernelMapping {
    addr: NonNull<c_void>,
    bytes: Range<usize>,
    _pages: Arc<Pages>,
    /// The list of the pages, which the memory cgroup is charged for. As large as the page tables,
    /// which it is not charged for: who has many mappings runs into a limit.
    _list: Scratch,
}

// SAFETY: `vunmap()` may be called by another task than `vmap()`.
unsafe impl Send for KernelMapping {}
// SAFETY: Nothing changes what is behind a shared reference.
unsafe impl Sync for KernelMapping {}

impl KernelMapping {
    /// Maps the pages that have `bytes`, cached as they are.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where there are none, or not all of them are of the buffer.
    /// - [`ENOMEM`], also where the cgroup of the caller may not have the list.
    pub fn new(pages: &Arc<Pages>, bytes: Range<usize>) -> Result<Self> {
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
            _pages: pages.clone(),
            _list: list,
        })
    }

    /// What of the buffer is mapped.
    pub(crate) fn bytes(&self) -> Range<usize> {
        self.bytes.clone()
    }

    pub(crate) fn addr(&self) -> *mut c_void {
        self.addr.as_ptr()
    }
}

impl Drop for KernelMapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the address came from `vmap()`; it is unmapped once.
        unsafe { bindings::cohbuf_rs_vunmap(self.addr.as_ptr()) };
    }
}
