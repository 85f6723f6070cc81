// SPDX-License-Identifier: GPL-2.0

//! A mapping of a buffer into the kernel.

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    bindings,
    pages::Pages, //
};

/// Pages that are mapped one after the other into the kernel.
pub(crate) struct KernelMapping {
    addr: NonNull<c_void>,
    _pages: Arc<Pages>,
}

// SAFETY: `vunmap()` may be called by another task than `vmap()`.
unsafe impl Send for KernelMapping {}

impl KernelMapping {
    /// Maps `pages`, cached as they are.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn new(pages: &Arc<Pages>) -> Result<Self> {
        let mut list = KVVec::new();
        for page in pages.iter() {
            list.push(page, GFP_KERNEL)?;
        }
        let count = u32::try_from(list.len()).map_err(|_| ENOMEM)?;
        // SAFETY: `list` has `count` valid pages.
        let addr =
            unsafe { bindings::cohbuf_rs_vmap(list.as_mut_ptr(), count, pages.is_write_combine()) };
        Ok(Self {
            addr: NonNull::new(addr).ok_or(ENOMEM)?,
            _pages: pages.clone(),
        })
    }

    pub(crate) fn addr(&self) -> *mut c_void {
        self.addr.as_ptr()
    }
}

impl Drop for KernelMapping {
    fn drop(&mut self) {
        // SAFETY: The address came from `vmap()`, and is unmapped once.
        unsafe { bindings::cohbuf_rs_vunmap(self.addr.as_ptr()) };
    }
}
