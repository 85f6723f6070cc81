// SPDX-License-Identifier: GPL-2.0

//! The memory of a buffer.

use core::{
    cmp::min,
    ptr::NonNull, //
};

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

use crate::bindings;

/// The orders that are tried, as in `drivers/dma-buf/heaps/system_heap.c`: the sizes that IOMMUs
/// and TLBs like.
const ORDERS: [u32; 3] = [8, 4, 0];

/// Pages that are next to each other.
struct Chunk {
    page: NonNull<bindings::page>,
    order: u32,
}

impl Chunk {
    fn size(&self) -> usize {
        PAGE_SIZE << self.order
    }

    /// Allocates a chunk. An order above 0 can be done without, so it is not tried hard for.
    fn alloc(order: u32) -> Option<Self> {
        // SAFETY: No requirements.
        let page = unsafe { bindings::cohbuf_rs_alloc_pages(order, order > 0) };
        NonNull::new(page).map(|page| Self { page, order })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: The chunk owns the pages, which were allocated with this order.
        unsafe { bindings::__free_pages(self.page.as_ptr(), self.order) };
    }
}

/// Zeroed kernel pages that make up a buffer, in physically contiguous chunks as large as could
/// be had, charged to the memory cgroup of who allocated them.
///
/// # Invariants
///
/// The sizes of `chunks` add up to `size`, which is a multiple of the page size and not 0.
pub struct Pages {
    chunks: KVVec<Chunk>,
    size: usize,
}

// SAFETY: The pages belong to `Pages`, and may be freed by any task.
unsafe impl Send for Pages {}
// SAFETY: Nothing changes through a shared reference.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates `size` bytes.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where `size` is 0 or not a multiple of the page size.
    /// - [`ENOMEM`] where there is not that much memory, or the memory cgroup may not have it.
    /// - [`EINTR`] where the task was killed meanwhile.
    pub fn alloc(size: usize) -> Result<Self> {
        if size == 0 || size % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }

        let mut chunks = KVVec::new();
        let mut left = size;
        let mut orders = &ORDERS[..];
        while let (Some((&order, lower)), true) = (orders.split_first(), left > 0) {
            if left < PAGE_SIZE << order {
                orders = lower;
                continue;
            }
            // SAFETY: No requirements.
            if unsafe { bindings::cohbuf_rs_fatal_signal_pending() } {
                return Err(EINTR);
            }
            match Chunk::alloc(order) {
                Some(chunk) => {
                    left -= chunk.size();
                    chunks.push(chunk, GFP_KERNEL_ACCOUNT)?;
                }
                // An order that failed once is not tried again.
                None => orders = lower,
            }
        }
        if left > 0 {
            return Err(ENOMEM);
        }

        // INVARIANT: `left` went from `size` to 0 by the sizes of the chunks.
        Ok(Self { chunks, size })
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Physically contiguous chunks.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// How many pieces of at most `max` bytes [`Self::pieces`] yields.
    pub(crate) fn count_pieces(&self, max: usize) -> usize {
        self.chunks.iter().map(|c| c.size().div_ceil(max)).sum()
    }

    /// The chunks in order, cut into pieces of at most `max` bytes: first page and bytes.
    ///
    /// `max` is a multiple of the page size, and not 0.
    pub(crate) fn pieces(
        &self,
        max: usize,
    ) -> impl Iterator<Item = (*mut bindings::page, usize)> + '_ {
        self.chunks.iter().flat_map(move |chunk| {
            (0..chunk.size()).step_by(max).map(move |offset| {
                // SAFETY: `offset` is inside of the chunk, whose pages are next to each other.
                let page = unsafe {
                    bindings::cohbuf_rs_nth_page(chunk.page.as_ptr(), offset >> PAGE_SHIFT)
                };
                (page, min(max, chunk.size() - offset))
            })
        })
    }

    /// Each page in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = *mut bindings::page> + '_ {
        self.pieces(PAGE_SIZE).map(|(page, _)| page)
    }

    /// Maps the pages into user space, from the offset of the VMA on.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] for a private mapping, which would show copies of pages, and for one that
    ///   reaches beyond the buffer.
    /// - What `remap_pfn_range()` returns.
    ///
    /// # Safety
    ///
    /// `vma` must be a VMA that is being set up by mmap, and whose file keeps `self` alive.
    pub(crate) unsafe fn mmap(&self, vma: *mut bindings::vm_area_struct) -> Result {
        // SAFETY: The caller owns the VMA, which is being set up.
        let (start, end, pgoff, flags) = unsafe {
            (
                (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_start,
                (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_end,
                (*vma).vm_pgoff,
                (*vma).__bindgen_anon_2.vm_flags,
            )
        };
        // A shared mapping of a read-only file has lost `SHARED` by now, but not this.
        if flags & kernel::mm::virt::flags::MAYSHARE == 0 {
            return Err(EINVAL);
        }

        let mut skip = pgoff.checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
        if skip.checked_add(end - start).ok_or(EINVAL)? > self.size {
            return Err(EINVAL);
        }

        let mut addr = start;
        for chunk in &self.chunks {
            if addr == end {
                break;
            }
            if skip >= chunk.size() {
                skip -= chunk.size();
                continue;
            }
            let len = min(chunk.size() - skip, end - addr);
            // SAFETY: `skip` is inside of the chunk, and so is `len` behind it; `addr` and `len`
            // are inside of the VMA. The pages outlive it by the requirement of this function.
            to_result(unsafe {
                let page = bindings::cohbuf_rs_nth_page(chunk.page.as_ptr(), skip >> PAGE_SHIFT);
                bindings::cohbuf_rs_mmap_pages(vma, addr, page, len)
            })?;
            addr += len;
            skip = 0;
        }
        Ok(())
    }
}
