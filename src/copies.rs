// SPDX-License-Identifier: GPL-2.0

//! Devices that may work on a copy, where more than one device may write: what each has written is
//! told apart byte by byte, [merge] in `Documentation/coherency.md`.

use dma_buf::Pages;
use kernel::{
    alloc::flags::{
        GFP_KERNEL_ACCOUNT,
        __GFP_NOWARN, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::policy;

/// Bytes of the length of a buffer, charged to the calling task.
fn bytes(len: usize) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::new();
    bytes.resize(len, 0, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
    Ok(bytes)
}

/// What a copy was when it last equalled the buffer. Kept with a mapping.
pub(crate) struct Base(Option<KVVec<u8>>);

impl Base {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Makes room, so that what follows cannot fail.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn alloc(len: usize) -> Result<Self> {
        Ok(Self(Some(bytes(len)?)))
    }

    /// The copy equals the buffer now.
    pub(crate) fn is_now(&mut self, pages: &Pages) {
        if let Some(base) = &mut self.0 {
            // The lengths are the same.
            let _ = pages.read(base);
        }
    }

    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// What the bytes of several devices are put together in. Kept with the buffer.
pub(crate) struct Merge {
    /// The buffer to be.
    merged: KVVec<u8>,
    page: KVVec<u8>,
}

impl Merge {
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn alloc(len: usize) -> Result<Self> {
        Ok(Self {
            merged: bytes(len)?,
            page: bytes(PAGE_SIZE)?,
        })
    }

    /// Remembers the buffer before copies are fetched into it.
    pub(crate) fn begin(&mut self, pages: &Pages) {
        // The lengths are the same.
        let _ = pages.read(&mut self.merged);
    }

    /// Takes over what a device wrote, after its copy was fetched into the buffer as a whole.
    pub(crate) fn take(&mut self, pages: &Pages, base: &mut Base) {
        let (merged, Some(base)) = (&mut self.merged, &mut base.0) else {
            return;
        };
        // A buffer and its pages are as long as each other.
        let _ = pages.read_each(&mut self.page, |number, seen| {
            let range = number * PAGE_SIZE..(number + 1) * PAGE_SIZE;
            if let (Some(base), Some(merged)) = (base.get_mut(range.clone()), merged.get_mut(range))
            {
                policy::absorb(seen, base, merged);
            }
        });
    }

    /// Puts the result into the buffer. Returns whether any byte was written.
    pub(crate) fn finish(&self, pages: &Pages) -> bool {
        pages.update(&self.merged).unwrap_or(true)
    }

    /// Makes the base that of the result; whether the copy lacked any of it.
    pub(crate) fn is_news(&self, base: &mut Base) -> bool {
        match &mut base.0 {
            Some(base) if **base != *self.merged => {
                base.copy_from_slice(&self.merged);
                true
            }
            _ => false,
        }
    }
}
