// SPDX-License-Identifier: GPL-2.0

//! The memory of a buffer.

use core::{
    cmp::{
        max,
        min, //
    },
    ops::{
        Deref,
        Range, //
    },
    ptr::NonNull, //
};

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    pr_warn_once,
    prelude::*, //
};

use crate::{
    bindings,
    compat,
    fault::Populate, //
};

/// The orders that are tried: as in `drivers/dma-buf/heaps/system_heap.c`, the sizes that IOMMUs and
/// TLBs like, and above those up to 4 MiB, with pages of 4 KiB. What an architecture has not is tried
/// for nothing, once.
const ORDERS: [u32; 5] = [10, 9, 8, 4, 0];

/// How the CPU sees the memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Through its caches.
    WriteBack,
    /// Past them, by way of write-combining buffers. No cache line ever holds it, except on an
    /// architecture where the kernel's own mapping stays cached, see
    /// [`Caching::alias_stays_cached`].
    WriteCombine,
}

impl Caching {
    /// Whether memory can be [`Caching::WriteCombine`] here.
    pub fn can_write_combine() -> bool {
        // SAFETY: No requirements.
        unsafe { bindings::cohbuf_rs_can_write_combine() }
    }

    /// Whether the kernel's own mapping of memory that is [`Caching::WriteCombine`] stays cached.
    ///
    /// Nobody writes by it, so that no line of it is ever dirty, but the CPU may fetch clean lines
    /// on speculation. A device that snoops could hit one that is older than memory.
    pub fn alias_stays_cached() -> bool {
        // SAFETY: No requirements.
        unsafe { bindings::cohbuf_rs_alias_stays_cached() }
    }
}

/// Orders what the CPU has written to memory that is [`Caching::WriteCombine`] before all that it
/// does next: empties its write-combining buffers.
pub fn write_barrier() {
    // SAFETY: No requirements.
    unsafe { bindings::cohbuf_rs_write_barrier() };
}

/// Bytes of a line of the CPU caches, a power of two: what maintenance works on.
pub fn cache_line_size() -> usize {
    // SAFETY: No requirements.
    unsafe { bindings::cohbuf_rs_cache_line_size() }
}

/// What the pages of a chunk were allocated as.
enum Origin {
    /// By the page allocator, of an order.
    Order,
    /// By `cohbuf_rs_alloc_contiguous()`.
    Contiguous,
}

/// Pages that are next to each other.
///
/// # Invariants
///
/// The `count` pages are the chunk's own, allocated as `origin` says, and cached as `caching` says.
/// Those of an order are as many as it has. `user` is whom `cohbuf_rs_alloc_contiguous()` has charged
/// for them, or null.
struct Chunk {
    page: NonNull<bindings::page>,
    user: *mut bindings::user_struct,
    count: u32,
    origin: Origin,
    caching: Caching,
}

impl Chunk {
    fn count(&self) -> usize {
        // CAST: It fits.
        self.count as usize
    }

    fn size(&self) -> usize {
        self.count() << PAGE_SHIFT
    }

    /// Allocates a chunk. An order above 0 can be done without, so it is not tried hard for.
    fn alloc(order: u32) -> Option<Self> {
        // SAFETY: No requirements.
        let page = unsafe { bindings::cohbuf_rs_alloc_pages(order, order > 0) };
        // INVARIANT: Fresh pages are cached.
        NonNull::new(page).map(|page| Self {
            page,
            user: core::ptr::null_mut(),
            count: 1 << order,
            origin: Origin::Order,
            caching: Caching::WriteBack,
        })
    }

    /// Allocates a chunk of any number of pages but 0.
    fn alloc_contiguous(count: usize) -> Option<Self> {
        // More than that nobody has.
        let count = u32::try_from(count).ok()?;
        let mut user = core::ptr::null_mut();
        // SAFETY: `user` may be written.
        // CAST: It fits.
        let page = unsafe { bindings::cohbuf_rs_alloc_contiguous(count as usize, &mut user) };
        // INVARIANT: Fresh pages are cached.
        NonNull::new(page).map(|page| Self {
            page,
            user,
            count,
            origin: Origin::Contiguous,
            caching: Caching::WriteBack,
        })
    }

    /// Where the device would find it without an IOMMU, of an offset in it.
    fn phys(&self, offset: usize) -> bindings::phys_addr_t {
        // SAFETY: The chunk owns the page. CAST: An offset fits into an address.
        unsafe {
            bindings::cohbuf_rs_page_to_phys(self.page.as_ptr()) + offset as bindings::phys_addr_t
        }
    }

    /// Takes the pages out of the CPU caches, and their zeros with them.
    fn write_combine(&mut self) -> Result {
        // INVARIANT: What fails may have done a part: `drop` takes that back, or loses the pages.
        self.caching = Caching::WriteCombine;
        // SAFETY: The chunk owns the pages; nobody has written by another mapping than the
        // kernel's own so far.
        to_result(unsafe { bindings::cohbuf_rs_write_combine(self.page.as_ptr(), self.count()) })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.caching == Caching::WriteCombine {
            // SAFETY: The chunk owns the pages, which have no other mapping any more.
            let back = unsafe { bindings::cohbuf_rs_write_back(self.page.as_ptr(), self.count()) };
            if back != 0 {
                // Better lost than in the hands of somebody who takes them for cached.
                pr_warn_once!("pages stay write-combined, and are lost: error {}\n", back);
                return;
            }
        }
        let page = self.page.as_ptr();
        match self.origin {
            // SAFETY: The chunk owns the pages, which were allocated with this order.
            Origin::Order => unsafe { bindings::__free_pages(page, self.count.trailing_zeros()) },
            // SAFETY: The chunk owns the pages, which were allocated so, and for this user.
            Origin::Contiguous => unsafe {
                bindings::cohbuf_rs_free_contiguous(page, self.count(), self.user)
            },
        }
    }
}

/// The chunks of a buffer. One has no memory of its own.
enum Chunks {
    One(Chunk),
    Many(KVVec<Chunk>),
}

impl Deref for Chunks {
    type Target = [Chunk];

    fn deref(&self) -> &[Chunk] {
        match self {
            Self::One(chunk) => core::slice::from_ref(chunk),
            Self::Many(chunks) => chunks,
        }
    }
}

/// How many chunks of these orders, which fall to 0, make up so many bytes.
fn fewest(bytes: usize, orders: &[u32]) -> usize {
    let mut left = bytes >> PAGE_SHIFT;
    let count = |order: &u32| {
        let count = left >> order;
        left -= count << order;
        count
    };
    orders.iter().map(count).sum()
}

/// Zeroed kernel pages that make up a buffer, in physically contiguous chunks as large as could
/// be had, or in one; charged to who allocated them, see [`Pages::alloc`] and
/// [`Pages::alloc_contiguous`].
///
/// # Invariants
///
/// The sizes of `chunks` add up to `size`, which is a multiple of the page size and not 0. No
/// chunk is empty, or larger than the one before it.
pub struct Pages {
    chunks: Chunks,
    size: usize,
    caching: Caching,
}

// SAFETY: The pages belong to `Pages`, and may be freed by any task.
unsafe impl Send for Pages {}
// SAFETY: What changes through a shared reference is memory that user space and devices may change
// at any time, and that is accessed in C alone.
unsafe impl Sync for Pages {}

impl Pages {
    /// Allocates `size` bytes, for which the memory cgroup is charged.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where `size` is 0 or not a multiple of the page size.
    /// - [`ENOMEM`] where there is not that much memory, or the memory cgroup may not have it.
    /// - [`EINTR`] where the task was killed meanwhile.
    /// - [`EOPNOTSUPP`] where memory cannot be cached so here.
    pub fn alloc(size: usize, caching: Caching) -> Result<Self> {
        if size == 0 || size % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }

        let mut many: Option<KVVec<Chunk>> = None;
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
                Some(mut chunk) => {
                    if caching == Caching::WriteCombine {
                        chunk.write_combine()?;
                    }
                    left -= chunk.size();
                    match &mut many {
                        Some(many) => many.push(chunk, GFP_KERNEL_ACCOUNT)?,
                        None if left > 0 => {
                            // Without a chunk too many, where none of these orders fails.
                            let count = 1 + fewest(left, orders);
                            let mut chunks = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
                            chunks.push(chunk, GFP_KERNEL_ACCOUNT)?;
                            many = Some(chunks);
                        }
                        None => {
                            // INVARIANT: It is all of them.
                            return Ok(Self {
                                chunks: Chunks::One(chunk),
                                size,
                                caching,
                            });
                        }
                    }
                }
                // An order that failed once is not tried again.
                None => orders = lower,
            }
        }
        match many {
            // INVARIANT: `left` went from `size` to 0 by the sizes of the chunks, and `orders` lost
            // its highest ones.
            Some(chunks) if left == 0 => Ok(Self {
                chunks: Chunks::Many(chunks),
                size,
                caching,
            }),
            _ => Err(ENOMEM),
        }
    }

    /// Allocates `size` bytes in one physically contiguous chunk, without a page too many.
    ///
    /// The memory cgroup is charged for up to [`Pages::max_charged_contiguous`] bytes. What is
    /// larger, the kernel has no way to charge it for: it counts against `RLIMIT_MEMLOCK` of the
    /// user instead, unless that has `CAP_IPC_LOCK`.
    ///
    /// # Errors
    ///
    /// As [`Pages::alloc`]; [`ENOMEM`] also where there is no such chunk.
    pub fn alloc_contiguous(size: usize, caching: Caching) -> Result<Self> {
        if size == 0 || size % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        let mut chunk = Chunk::alloc_contiguous(size >> PAGE_SHIFT).ok_or(ENOMEM)?;
        if caching == Caching::WriteCombine {
            chunk.write_combine()?;
        }
        // INVARIANT: The one chunk has that size.
        Ok(Self {
            chunks: Chunks::One(chunk),
            size,
            caching,
        })
    }

    /// The most bytes that [`Pages::alloc_contiguous`] charges the memory cgroup for.
    pub fn max_charged_contiguous() -> usize {
        // SAFETY: No requirements.
        unsafe { bindings::cohbuf_rs_max_charged_contiguous() }
    }

    /// How the CPU sees them.
    pub fn caching(&self) -> Caching {
        self.caching
    }

    /// Whether they are [`Caching::WriteCombine`].
    pub fn is_write_combine(&self) -> bool {
        self.caching == Caching::WriteCombine
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Physically contiguous chunks.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The chunks in order, cut into pieces of at most `max` bytes, none of which goes across a
    /// multiple of `boundary` + 1: first page and bytes.
    ///
    /// `max` is a multiple of the page size, and not 0; `boundary` is a power of two less 1, and at
    /// least that of a page.
    pub(crate) fn pieces(
        &self,
        max: usize,
        boundary: usize,
    ) -> impl Iterator<Item = (*mut bindings::page, usize)> + '_ {
        self.chunks.iter().flat_map(move |chunk| {
            let mut next = 0;
            core::iter::from_fn(move || {
                let offset = next;
                if offset == chunk.size() {
                    return None;
                }
                // CAST: What is cut off is above the boundary.
                let to_boundary =
                    (boundary - (chunk.phys(offset) as usize & boundary)).saturating_add(1);
                let len = min(min(max, to_boundary), chunk.size() - offset);
                next += len;
                // SAFETY: `offset` is inside of the chunk, whose pages are next to each other.
                let page = unsafe {
                    bindings::cohbuf_rs_nth_page(chunk.page.as_ptr(), offset >> PAGE_SHIFT)
                };
                Some((page, len))
            })
        })
    }

    /// Each page in order.
    #[cfg(cohbuf_test_device)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = *mut bindings::page> + '_ {
        self.pieces(PAGE_SIZE, usize::MAX).map(|(page, _)| page)
    }

    /// The page of that number, [`None`] behind the end.
    pub(crate) fn page(&self, number: usize) -> Option<*mut bindings::page> {
        let mut left = number;
        let mut chunks = &self.chunks[..];
        while let Some(count) = chunks.first().map(Chunk::count) {
            // By the type invariant those of this size come before the rest.
            let (run, rest) = chunks.split_at(chunks.partition_point(|c| c.count() == count));
            if let Some(chunk) = run.get(left / count) {
                // SAFETY: The remainder is below the pages of a chunk of this size, which are next
                // to each other.
                return Some(unsafe {
                    bindings::cohbuf_rs_nth_page(chunk.page.as_ptr(), left % count)
                });
            }
            left -= run.len() * count;
            chunks = rest;
        }
        None
    }

    /// Whether [`Self::clean`] and [`Self::invalidate`] do anything here.
    pub fn can_clean() -> bool {
        // SAFETY: No requirements.
        unsafe { bindings::cohbuf_rs_can_clean() }
    }

    /// Writes what is dirty in the CPU caches back to memory, by no mapping of any device:
    /// `arch_wb_cache_pmem()`.
    pub fn clean(&self) {
        for chunk in self.chunks.iter() {
            // SAFETY: The chunk owns the pages.
            unsafe { bindings::cohbuf_rs_clean(chunk.page.as_ptr(), chunk.count()) };
        }
    }

    /// Drops lines from the CPU caches, dirty or not, by no mapping of any device:
    /// `arch_invalidate_pmem()`. What is beyond the buffer is left out.
    pub fn invalidate(&self, ranges: &mut dyn Iterator<Item = Range<usize>>) {
        for (page, at, len) in ranges.flat_map(|range| self.spans(range)) {
            // SAFETY: `page` is one of ours, and has `len` bytes at `at`.
            unsafe { bindings::cohbuf_rs_invalidate(page, at, len) };
        }
    }

    /// [`Self::invalidate`] of all of it.
    pub(crate) fn invalidate_all(&self) {
        for chunk in self.chunks.iter() {
            // SAFETY: The chunk owns the pages.
            unsafe { bindings::cohbuf_rs_invalidate(chunk.page.as_ptr(), 0, chunk.size()) };
        }
    }

    /// The bytes of `range`, cut where a page ends: page, offset in it, bytes. What is beyond the
    /// buffer is left out.
    fn spans(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (*mut bindings::page, usize, usize)> + '_ {
        let mut start = 0;
        self.chunks
            .iter()
            .map(move |chunk| {
                let at = start;
                start += chunk.size();
                (chunk, at)
            })
            .filter(move |(chunk, at)| at + chunk.size() > range.start && *at < range.end)
            .flat_map(move |(chunk, at)| {
                let from = range.start.saturating_sub(at);
                let to = min(range.end - at, chunk.size());
                let pages = from >> PAGE_SHIFT..to.div_ceil(PAGE_SIZE);
                pages.map(move |number| {
                    let of_page = number * PAGE_SIZE;
                    let from = max(from, of_page);
                    let to = min(to, of_page + PAGE_SIZE);
                    // SAFETY: The number is that of a page of the chunk, whose pages are next to
                    // each other.
                    let page = unsafe { bindings::cohbuf_rs_nth_page(chunk.page.as_ptr(), number) };
                    (page, from - of_page, to - from)
                })
            })
    }

    /// Copies bytes of the buffer, from `offset` on, to `to`. They may change meanwhile.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where that is beyond the buffer.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let range = self.check(offset, to.len())?;
        let mut rest = to;
        for (page, at, len) in self.spans(range) {
            let (here, behind) = rest.split_at_mut(len);
            // SAFETY: `page` is one of ours, and has `len` bytes at `at`; `here` is as long.
            unsafe { bindings::cohbuf_rs_page_read(here.as_mut_ptr().cast(), page, at, len) };
            rest = behind;
        }
        Ok(())
    }

    /// Makes bytes of the buffer, from `offset` on, those of `from`, and writes only those that
    /// differ. Returns whether any did.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where that is beyond the buffer.
    pub fn update(&self, offset: usize, from: &[u8]) -> Result<bool> {
        let range = self.check(offset, from.len())?;
        let mut rest = from;
        let mut changed = false;
        for (page, at, len) in self.spans(range) {
            let (here, behind) = rest.split_at(len);
            // SAFETY: `page` is one of ours, and has `len` bytes at `at`; `here` is as long.
            changed |= unsafe { bindings::cohbuf_rs_page_update(page, at, here.as_ptr(), len) };
            rest = behind;
        }
        Ok(changed)
    }

    fn check(&self, offset: usize, len: usize) -> Result<Range<usize>> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(offset..end),
            _ => Err(EINVAL),
        }
    }

    /// Maps the pages into user space, from the offset of the VMA on: now, or by fault.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] for a private mapping, which would show copies of pages, and for one that
    ///   reaches beyond the buffer.
    /// - [`EACCES`] for one to be written, where it is not `writable`: importers map by files of
    ///   their own.
    /// - [`ENOMEM`], with nothing mapped.
    ///
    /// # Safety
    ///
    /// `vma` must be a VMA that is being set up by mmap, and whose file keeps `self` alive.
    pub(crate) unsafe fn mmap(
        &self,
        vma: *mut bindings::vm_area_struct,
        populate: Populate,
        writable: bool,
    ) -> Result {
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
        if flags & compat::MAYSHARE == 0 {
            return Err(EINVAL);
        }

        if !writable {
            if flags & kernel::mm::virt::flags::WRITE != 0 {
                return Err(EACCES);
            }
            // SAFETY: The caller owns the VMA, which is being set up.
            unsafe { bindings::cohbuf_rs_vma_never_write(vma) };
        }

        let mut skip = pgoff.checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
        if skip.checked_add(end - start).ok_or(EINVAL)? > self.size {
            return Err(EINVAL);
        }

        if self.is_write_combine() {
            // SAFETY: The caller owns the VMA, which is being set up.
            unsafe { bindings::cohbuf_rs_vma_write_combine(vma) };
        }
        // SAFETY: The caller owns the VMA, which is being set up.
        unsafe { bindings::cohbuf_rs_vma_pfnmap(vma) };
        let Populate::AtMmap { recorded } = populate else {
            return Ok(());
        };
        let mut addr = start;
        for chunk in self.chunks.iter() {
            if addr == end {
                break;
            }
            if skip >= chunk.size() {
                skip -= chunk.size();
                continue;
            }
            let len = min(chunk.size() - skip, end - addr);
            // SAFETY: `skip` is inside of the chunk, and so is `len` behind it; `addr` and `len`
            // are inside of the VMA, which has nothing mapped there. The pages outlive it by the
            // requirement of this function.
            to_result(unsafe {
                let page = bindings::cohbuf_rs_nth_page(chunk.page.as_ptr(), skip >> PAGE_SHIFT);
                bindings::cohbuf_rs_mmap_pages(vma, addr, page, len, recorded)
            })
            .inspect_err(|_| {
                // Nothing else keeps the pages once it has failed.
                // SAFETY: The VMA has the flags for it, and the mmap lock is held to write.
                unsafe { bindings::zap_special_vma_range(vma, start, end - start) };
            })?;
            addr += len;
            skip = 0;
        }
        Ok(())
    }
}
