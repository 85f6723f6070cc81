// SPDX-License-Identifier: GPL-2.0

//! The pages of a buffer that the CPU has written by mappings into user space.

use core::ops::Range;

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bitmap::BitmapVec,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

use crate::{
    bindings,
    exporter::{
        Buffer,
        Exporter,
        Locked, //
    }, //
};

/// `__bitmap_set()`, `__bitmap_clear()`.
type Change = unsafe extern "C" fn(*mut c_ulong, c_uint, c_int);

/// A set of pages of one buffer.
pub struct WrittenPages {
    bits: BitmapVec,
    size: usize,
}

impl WrittenPages {
    /// Whether the kernel can tell: `CONFIG_MAPPING_DIRTY_HELPERS`, `CONFIG_PER_VMA_LOCK`.
    pub fn can_record() -> bool {
        // SAFETY: No requirements.
        unsafe { bindings::cohbuf_rs_can_record_written() }
    }

    /// An empty set, for a buffer of `size` bytes.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`].
    /// - [`EINVAL`] where there are more pages than an `int` can count.
    pub fn new(size: usize) -> Result<Self> {
        let pages = size.div_ceil(PAGE_SIZE);
        i32::try_from(pages).map_err(|_| EINVAL)?;
        Ok(Self {
            bits: BitmapVec::new(pages, GFP_KERNEL_ACCOUNT)?,
            size,
        })
    }

    /// Adds what was written since it was last recorded, of the pages that have a byte of `range`:
    /// `clean_record_shared_mapping_range()`. Who writes afterwards is recorded the next time.
    ///
    /// All of them count as written where a mapping is on its way out of an address space, and can
    /// not be asked any more: it is closed later, see
    /// [`Exporter::vma_close`]. Called with the reservation lock, which that waits for.
    ///
    /// `buffer` has the size that the set was made for, or nothing is recorded.
    pub fn record<T: Exporter>(&mut self, buffer: Buffer<'_, T>, range: &Range<usize>) {
        if buffer.pages().size() != self.size {
            return;
        }
        let pages = self.pages(range);
        if pages.is_empty() {
            return;
        }
        let bits = self.bits.as_mut_ptr();
        // SAFETY: The buffer lives. The pages are some of it, and the bitmap has a bit for each.
        // CAST: `unsigned long` and `usize` are the same.
        unsafe {
            bindings::cohbuf_rs_record_written(
                buffer.as_raw(),
                pages.start,
                pages.len(),
                bits.cast(),
            )
        };
        // After that, in this order: who is not in the tree any more is in the number until it is
        // closed, and who is in the tree is in it as well.
        // SAFETY: The buffer lives.
        let recorded = unsafe { bindings::cohbuf_rs_recorded_vmas(buffer.as_raw()) };
        if recorded != buffer.vmas() {
            self.add(range);
        }
    }

    /// As [`Self::record`], for [`Locked::zap`](crate::Locked::zap), by which what was written
    /// since would be lost: nobody writes the pages until a fault maps them again, which
    /// waits for the reservation lock. Of mappings [by fault](crate::Populate::ByFault).
    pub fn record_for_zap<T: Exporter>(&mut self, locked: &Locked<'_, T>, range: &Range<usize>) {
        let pages = self.pages(range);
        if pages.is_empty() {
            return;
        }
        let buffer = locked.buffer();
        // SAFETY: The buffer lives. CAST: `unsigned long` and `usize` are the same.
        unsafe { bindings::cohbuf_rs_write_protect(buffer.as_raw(), pages.start, pages.len()) };
        self.record(buffer, range);
    }

    /// The pages that have a byte of `range`.
    fn pages(&self, range: &Range<usize>) -> Range<usize> {
        let end = range.end.min(self.size);
        if range.start >= end {
            return 0..0;
        }
        range.start >> PAGE_SHIFT..end.div_ceil(PAGE_SIZE)
    }

    /// Adds the pages that have a byte of `range`.
    pub fn add(&mut self, range: &Range<usize>) {
        let pages = self.pages(range);
        self.change(pages, bindings::__bitmap_set);
    }

    /// Removes the pages that lie in `range` as a whole.
    pub fn remove(&mut self, range: &Range<usize>) {
        let end = match range.end {
            end if end >= self.size => self.bits.len(),
            end => end >> PAGE_SHIFT,
        };
        self.change(
            range.start.div_ceil(PAGE_SIZE)..end,
            bindings::__bitmap_clear,
        );
    }

    fn change(&mut self, pages: Range<usize>, change: Change) {
        if pages.is_empty() || pages.end > self.bits.len() {
            return;
        }
        // CAST: There are no more than an `int` can count.
        let (start, len) = (pages.start as c_uint, pages.len() as c_int);
        // SAFETY: The bitmap has a bit for each of the pages. CAST: `unsigned long` and `usize` are
        // the same.
        unsafe { change(self.bits.as_mut_ptr().cast(), start, len) };
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.next_bit(0).is_some()
    }

    /// The set as ranges of bytes, in order, which do not touch each other.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + Clone + '_ {
        let mut at = 0;
        core::iter::from_fn(move || {
            let start = self.next_bit(at)?;
            let end = self.bits.next_zero_bit(start).unwrap_or(self.bits.len());
            at = end;
            Some(start << PAGE_SHIFT..(end << PAGE_SHIFT).min(self.size))
        })
    }

    fn next_bit(&self, at: usize) -> Option<usize> {
        (at < self.bits.len())
            .then(|| self.bits.next_bit(at))
            .flatten()
    }
}
