// SPDX-License-Identifier: GPL-2.0

//! Devices that may work on a copy, where more than one device may write: what each has written is
//! told apart byte by byte, [merge] in `Documentation/coherency.rst`.

use core::ops::Range;

use dma_buf::Pages;
use kernel::{
    alloc::flags::{
        GFP_KERNEL_ACCOUNT,
        __GFP_NOWARN, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

#[cfg(doc)]
use crate::argument::*;
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

    /// The copy equals the buffer now, in those bytes.
    pub(crate) fn is_now(&mut self, pages: &Pages, ranges: &mut dyn Iterator<Item = Range<usize>>) {
        let Some(base) = &mut self.0 else {
            return;
        };
        for range in ranges {
            // They are as long as each other.
            if let Some(base) = base.get_mut(range.clone()) {
                let _ = pages.read(range.start, base);
            }
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

    /// Remembers bytes of the buffer before copies are fetched into them.
    pub(crate) fn begin(&mut self, pages: &Pages, ranges: &mut dyn Iterator<Item = Range<usize>>) {
        for range in ranges {
            if let Some(merged) = self.merged.get_mut(range.clone()) {
                let _ = pages.read(range.start, merged);
            }
        }
    }

    /// Takes over what a device wrote there, after its copy was fetched into the buffer.
    pub(crate) fn take(
        &mut self,
        pages: &Pages,
        base: &mut Base,
        ranges: &mut dyn Iterator<Item = Range<usize>>,
    ) {
        let Some(base) = &mut base.0 else {
            return;
        };
        for range in ranges {
            for start in range.clone().step_by(PAGE_SIZE) {
                let range = start..range.end.min(start + PAGE_SIZE);
                // They are as long as each other, and the page as long as each piece at least.
                let (Some(seen), Some(base), Some(merged)) = (
                    self.page.get_mut(..range.len()),
                    base.get_mut(range.clone()),
                    self.merged.get_mut(range),
                ) else {
                    continue;
                };
                if pages.read(start, seen).is_ok() {
                    policy::absorb(seen, base, merged);
                }
            }
        }
    }

    /// Puts the result into the buffer. Returns whether any byte was written.
    pub(crate) fn finish(
        &self,
        pages: &Pages,
        ranges: &mut dyn Iterator<Item = Range<usize>>,
    ) -> bool {
        let mut changed = false;
        for range in ranges {
            if let Some(merged) = self.merged.get(range.clone()) {
                changed |= pages.update(range.start, merged).unwrap_or(true);
            }
        }
        changed
    }

    /// Makes the base that of the result there; whether the copy lacked any of it.
    pub(crate) fn is_news(
        &self,
        base: &mut Base,
        ranges: &mut dyn Iterator<Item = Range<usize>>,
    ) -> bool {
        let Some(base) = &mut base.0 else {
            return false;
        };
        let mut news = false;
        for range in ranges {
            if let (Some(base), Some(merged)) =
                (base.get_mut(range.clone()), self.merged.get(range))
            {
                if *base != *merged {
                    base.copy_from_slice(merged);
                    news = true;
                }
            }
        }
        news
    }
}
