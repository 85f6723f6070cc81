// SPDX-License-Identifier: GPL-2.0

//! Sg tables, and what they are when a device has them.

use core::{
    cmp::min,
    marker::PhantomData,
    ops::Range, //
};

use kernel::{
    device::Device,
    dma::DataDirection,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    types::Opaque, //
};

use crate::{
    bindings,
    device,
    pages::Pages,
    raw::device_as_raw, //
};

// CAST: An attribute is a bit of an `unsigned long`.
const SKIP_CPU_SYNC: c_ulong = bindings::DMA_ATTR_SKIP_CPU_SYNC as c_ulong;

/// A dma-buf is there to be mapped for several devices at a time. Who dirties its cache lines when
/// is what begin and end of CPU access order, so DMA-API debug need not warn of the overlap.
// CAST: As above.
const OVERLAPS: c_ulong = bindings::DMA_ATTR_DEBUGGING_IGNORE_CACHELINES as c_ulong;

/// An sg table over the pages of a buffer, not mapped for any device.
///
/// # Invariants
///
/// `inner` was made by `sg_alloc_table()`, and all its entries are of `pages`.
struct SgTable {
    inner: Opaque<bindings::sg_table>,
    pages: Arc<Pages>,
}

impl SgTable {
    /// Makes a table of segments that `dev` can take.
    fn new(pages: &Arc<Pages>, dev: &Device) -> Result<KBox<Self>> {
        // SAFETY: `dev` is a valid device, by its type.
        let max = unsafe { bindings::cohbuf_rs_max_segment(device_as_raw(dev)) };
        // SAFETY: As above.
        let boundary = unsafe { bindings::cohbuf_rs_segment_boundary(device_as_raw(dev)) };
        // A segment is of whole pages, and its length is an `unsigned int`.
        let max = max.min(1 << 30) & !(PAGE_SIZE - 1);
        if max == 0 || boundary < PAGE_SIZE - 1 {
            return Err(EINVAL);
        }
        let pieces = || pages.pieces(max, boundary);
        let count = u32::try_from(pieces().count()).map_err(|_| ENOMEM)?;

        let inner = Opaque::<bindings::sg_table>::zeroed();
        // SAFETY: `inner` is zeroed, and may be written.
        to_result(unsafe {
            bindings::sg_alloc_table(inner.get(), count, bindings::GFP_KERNEL_ACCOUNT)
        })?;
        // INVARIANT: The table was just made. An empty entry is none of anybody's pages.
        let table = Self {
            inner,
            pages: pages.clone(),
        };

        // SAFETY: The table has been allocated.
        let mut sg = unsafe { (*table.inner.get()).sgl };
        for (page, len) in pieces() {
            // SAFETY: The table has as many entries as there are pieces, so that `sg` is one.
            // CAST: `len` is at most `max`, which fits.
            unsafe {
                bindings::cohbuf_rs_sg_set_page(sg, page, len as u32, 0);
                sg = bindings::sg_next(sg);
            }
        }
        Ok(KBox::new(table, GFP_KERNEL)?)
    }
}

impl Drop for SgTable {
    fn drop(&mut self) {
        // SAFETY: The table was made by `sg_alloc_table()`, and is freed once.
        unsafe { bindings::sg_free_table(self.inner.get()) };
    }
}

/// How a device reaches the memory of a mapping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It snoops the CPU caches (`dev_is_dma_coherent()`), with an IOMMU or without.
    Snooping,
    /// Past the CPU caches, by physical addresses: `kernel/dma/direct.c`.
    Direct,
    /// Past the CPU caches, through an IOMMU: `drivers/iommu/dma-iommu.c`.
    Iommu,
    /// All segments are copies, in bounce buffers (swiotlb).
    Bounced,
    /// Some segments are copies; the device snoops the CPU caches for the rest.
    PartlyBounced,
    /// Nobody knows: by `dma_map_ops` of its own; or past the CPU caches where it is not bounced,
    /// and bounced elsewhere. Mappings of the same number are alike: it is that of the ops, or of
    /// the device.
    Unknown(usize),
}

impl Reach {
    /// Whether a sync for a device that only writes may leave out what the CPU wrote.
    fn wants_bidirectional(self) -> bool {
        matches!(
            self,
            Reach::Bounced | Reach::PartlyBounced | Reach::Unknown(_)
        )
    }
}

/// `dma_sync_single_for_cpu()` or `dma_sync_single_for_device()`.
type SyncPart = unsafe extern "C" fn(
    *mut bindings::device,
    bindings::dma_addr_t,
    usize,
    bindings::dma_data_direction,
);

/// `dma_sync_sgtable_for_cpu()`, `dma_sync_sgtable_for_device()`.
type SyncAll = unsafe extern "C" fn(
    *mut bindings::device,
    *mut bindings::sg_table,
    bindings::dma_data_direction,
);

/// A place in a list of entries.
///
/// # Invariants
///
/// While `left` is not 0, `sg` is an entry of a list of at least `left`.
#[derive(Copy, Clone)]
struct Place {
    sg: *mut bindings::scatterlist,
    /// Where its first byte is.
    at: usize,
    left: c_uint,
}

impl Place {
    /// Goes on to the entry that has byte `to`, which is not before this one. Returns it, and where
    /// it ends. [`None`]: there is none.
    ///
    /// `dma`: of DMA segments, which all that are left must have.
    fn seek(&mut self, to: usize, dma: bool) -> Option<(*mut bindings::scatterlist, usize)> {
        let seek = match dma {
            true => bindings::cohbuf_rs_sg_seek_dma,
            false => bindings::cohbuf_rs_sg_seek,
        };
        // SAFETY: By the type invariant there are `left` entries from `sg` on.
        // INVARIANT: It returns the entry before which there were as many as it has taken off.
        self.sg = unsafe { seek(self.sg, &mut self.left, &mut self.at, to) };
        if self.sg.is_null() {
            return None;
        }
        // SAFETY: It is an entry.
        let len = unsafe {
            match dma {
                true => bindings::sg_dma_len(self.sg),
                false => (*self.sg).length,
            }
        };
        // CAST: `unsigned int` fits.
        Some((self.sg, self.at + len as usize))
    }
}

/// Goes along a mapped table: its entries for the CPU, and beside them its DMA segments, which are
/// fewer where entries were merged.
///
/// # Invariants
///
/// Both places are in the table. Those in `segments` are its first `nents` entries, which have a
/// DMA segment; `entries` is [`None`] where each segment is one of an entry, with the same bytes.
struct Cursor<'a> {
    mapping: &'a Mapping<'a>,
    entries: Option<Place>,
    segments: Place,
}

impl<'a> Cursor<'a> {
    fn new(mapping: &'a Mapping<'a>) -> Self {
        // SAFETY: The table is valid, as it is mapped.
        let table = unsafe { &*mapping.as_raw() };
        // INVARIANT: Both begin with the first.
        let first = |left| Place {
            sg: table.sgl,
            at: 0,
            left,
        };
        Self {
            mapping,
            // INVARIANT: `dma_direct_map_sg()` maps each entry by itself, and merges none.
            entries: (mapping.reach != Reach::Direct).then(|| first(table.orig_nents)),
            segments: first(table.nents),
        }
    }

    /// Where the bytes from `from` on are for the device: the address, and how many up to `to` are
    /// both in one entry and in one segment. [`None`] where there are none.
    fn seek(&mut self, from: usize, to: usize) -> Option<(bindings::dma_addr_t, usize)> {
        if from >= to {
            return None;
        }
        if from < self.segments.at || self.entries.is_some_and(|entries| from < entries.at) {
            *self = Self::new(self.mapping);
        }
        let mut end = to;
        if let Some(entries) = &mut self.entries {
            end = min(end, entries.seek(from, false)?.1);
        }
        let (segment, segment_end) = self.segments.seek(from, true)?;
        let len = min(end, segment_end) - from;
        // SAFETY: By the type invariant it is an entry with a DMA segment.
        let addr = unsafe { bindings::sg_dma_address(segment) };
        // CAST: An offset in a segment fits into an address.
        Some((
            addr + (from - self.segments.at) as bindings::dma_addr_t,
            len,
        ))
    }
}

/// The sg table of a buffer, mapped for the device of one attachment.
///
/// It is made by `MapRequest::map`, and given back to the core by `Exporter::map`; dropped
/// instead, it is unmapped. `'a` keeps it from outliving the attachment.
///
/// # Invariants
///
/// `table` is mapped for `dev` in direction `mapped`, until `Drop`.
pub struct Mapping<'a> {
    table: KBox<SgTable>,
    dev: ARef<Device>,
    dir: DataDirection,
    mapped: DataDirection,
    reach: Reach,
    /// Of all segments, the bytes that are bounced.
    bounced: usize,
    unmap_attrs: c_ulong,
    /// See [`Mapping::set_number`].
    number: u32,
    _attachment: PhantomData<&'a ()>,
}

/// What a sync has done.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Bytes that were handed to the DMA API.
    pub bytes: usize,
    /// Of those, the ones in bounce buffers. Not known of `dma_map_ops` of a device's own, and 0.
    pub bounced: usize,
}

// SAFETY: The DMA API does not care which task calls it.
unsafe impl Send for Mapping<'_> {}
// SAFETY: What `&self` allows is to read, and to sync, which may be done in parallel.
unsafe impl Sync for Mapping<'_> {}

impl Mapping<'_> {
    /// Maps `pages` for `dev`.
    ///
    /// # Safety
    ///
    /// A driver must be bound to `dev`, or whoever made `dev` must have set it up for DMA, and it
    /// must stay so until the mapping is dropped.
    pub(crate) unsafe fn new(pages: &Arc<Pages>, dev: &Device, dir: DataDirection) -> Result<Self> {
        // SAFETY: `dev` is a valid device, by its type.
        if !unsafe { bindings::cohbuf_rs_has_dma_mask(device_as_raw(dev)) } {
            return Err(EINVAL);
        }
        // SAFETY: As required of our caller.
        let mapping = unsafe { Self::new_as(pages, dev, dir, dir) }?;
        if mapping.reach.wants_bidirectional() && dir == DataDirection::FromDevice {
            // swiotlb never copies to a device that only writes. What the CPU writes would be lost
            // when the bounce buffer, which still has the old bytes there, is copied back.
            mapping.discard();
            // SAFETY: As required of our caller.
            return unsafe { Self::new_as(pages, dev, dir, DataDirection::Bidirectional) };
        }
        Ok(mapping)
    }

    /// Maps in direction `mapped` what the importer wants mapped in direction `dir`.
    ///
    /// # Safety
    ///
    /// As for [`Self::new`].
    unsafe fn new_as(
        pages: &Arc<Pages>,
        dev: &Device,
        dir: DataDirection,
        mapped: DataDirection,
    ) -> Result<Self> {
        let table = SgTable::new(pages, dev)?;
        // What no cache line holds needs no maintenance.
        let attrs = if pages.is_write_combine() {
            OVERLAPS | SKIP_CPU_SYNC
        } else {
            OVERLAPS
        };
        // SAFETY: `dev` is set up for DMA by the requirement of this function; the table is valid
        // and not mapped.
        to_result(unsafe {
            bindings::dma_map_sgtable(device_as_raw(dev), table.inner.get(), mapped.into(), attrs)
        })?;
        // INVARIANT: The table was just mapped.
        let mut mapping = Self {
            table,
            dev: dev.into(),
            dir,
            mapped,
            reach: Reach::Unknown(0),
            bounced: 0,
            unmap_attrs: attrs,
            number: 0,
            _attachment: PhantomData,
        };
        (mapping.reach, mapping.bounced) = mapping.look();
        Ok(mapping)
    }

    /// Finds out how the device reaches the memory, and how many bytes are bounced.
    fn look(&self) -> (Reach, usize) {
        let dev = device_as_raw(&self.dev);
        // SAFETY: The device is valid.
        let ops = unsafe { bindings::cohbuf_rs_own_dma_ops(dev) };
        let coherent = device::is_dma_coherent(&self.dev);
        if ops != 0 {
            // Ops are aligned, so that there is room for what they do otherwise for such devices.
            return (Reach::Unknown(ops | usize::from(coherent)), 0);
        }
        let bounced = self.count_bounced();
        // SAFETY: The device is valid.
        let iommu = unsafe { bindings::cohbuf_rs_has_iommu(dev) };
        let reach = match (bounced, coherent, iommu) {
            (0, true, _) => Reach::Snooping,
            (0, false, true) => Reach::Iommu,
            (0, false, false) => Reach::Direct,
            (bounced, true, _) if bounced < self.size() => Reach::PartlyBounced,
            (bounced, false, _) if bounced < self.size() => Reach::Unknown(dev as usize),
            _ => Reach::Bounced,
        };
        (reach, bounced)
    }

    /// The bytes of DMA segments that are bounced.
    fn count_bounced(&self) -> usize {
        let mut bounced = 0;
        // SAFETY: The table is mapped by the type invariant; its first `nents` entries have a
        // DMA address.
        unsafe {
            let table = &*self.table.inner.get();
            let mut sg = table.sgl;
            for _ in 0..table.nents {
                if self.is_bounced_at(bindings::sg_dma_address(sg)) {
                    bounced += bindings::sg_dma_len(sg) as usize;
                }
                sg = bindings::sg_next(sg);
            }
        }
        bounced
    }

    /// Whether an address of the mapping leads into a bounce buffer.
    fn is_bounced_at(&self, addr: bindings::dma_addr_t) -> bool {
        // SAFETY: The device is valid, by its type.
        unsafe { bindings::cohbuf_rs_dma_addr_is_bounced(device_as_raw(&self.dev), addr) }
    }

    /// Its device.
    pub fn device(&self) -> &Device {
        &self.dev
    }

    /// The number that the exporter knows its attachment by.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Says what that is; 0 at first.
    pub fn set_number(&mut self, number: u32) {
        self.number = number;
    }

    /// Pieces that the device sees, which may be fewer than the buffer is of.
    pub fn segments(&self) -> u32 {
        // SAFETY: The table is valid, by the type invariant of `SgTable`.
        unsafe { (*self.table.inner.get()).nents }
    }

    /// Bytes of the buffer.
    fn size(&self) -> usize {
        self.table.pages.size()
    }

    /// What the device may do, as the importer said it.
    ///
    /// A sync always takes the direction that the table was mapped with, never that of the CPU
    /// access: `dma-api.rst`, "must be the same as those passed to the mapping".
    pub fn direction(&self) -> DataDirection {
        self.dir
    }

    /// How the device reaches the memory: by its DMA ops, and by where the addresses of its
    /// segments lead to. Does not change while it is mapped.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether a segment at least is in a bounce buffer (swiotlb). Of a device with
    /// `dma_map_ops` of its own nobody knows, and it is false.
    pub fn is_bounced(&self) -> bool {
        self.bounced > 0
    }

    /// Makes what the device wrote visible to the CPU: `dma_sync_sgtable_for_cpu()`.
    pub fn sync_for_cpu(&self) -> Synced {
        self.sync(bindings::cohbuf_rs_sync_for_cpu, true)
    }

    /// Makes what the CPU wrote visible to the device: `dma_sync_sgtable_for_device()`.
    pub fn sync_for_device(&self) -> Synced {
        self.sync(bindings::cohbuf_rs_sync_for_device, false)
    }

    /// `for_cpu`: what `sync` does.
    fn sync(&self, sync: SyncAll, for_cpu: bool) -> Synced {
        let (dev, table) = (device_as_raw(&self.dev), self.table.inner.get());
        let dir = self.mapped.into();
        // SAFETY: By the type invariant the table is mapped for the device with this direction. By
        // its reach `dma_direct_map_sg()` has mapped it, and no entry is bounced.
        unsafe {
            match self.reach {
                Reach::Direct => bindings::cohbuf_rs_sync_direct(dev, table, dir, for_cpu),
                _ => sync(dev, table, dir),
            }
        }
        self.all()
    }

    /// All of it, as a sync of the whole mapping counts.
    pub fn all(&self) -> Synced {
        Synced {
            bytes: self.size(),
            bounced: self.bounced,
        }
    }

    /// Whether a part of the mapping can be synced: `dma_map_ops` of a device's own may have
    /// nothing for it, and would do nothing without a word.
    pub fn can_sync_parts(&self) -> bool {
        // SAFETY: The device is valid, by its type.
        unsafe { bindings::cohbuf_rs_can_sync_parts(device_as_raw(&self.dev)) }
    }

    /// [`Mapping::sync_for_cpu`] of some ranges of bytes: `dma_sync_single_range_for_cpu()`.
    ///
    /// They are faster where they are in order. What is beyond the buffer is left out.
    pub fn sync_parts_for_cpu(&self, ranges: &mut dyn Iterator<Item = Range<usize>>) -> Synced {
        self.sync_parts(ranges, bindings::cohbuf_rs_sync_part_for_cpu)
    }

    /// [`Mapping::sync_for_device`] of some ranges of bytes, see [`Mapping::sync_parts_for_cpu`].
    pub fn sync_parts_for_device(&self, ranges: &mut dyn Iterator<Item = Range<usize>>) -> Synced {
        self.sync_parts(ranges, bindings::cohbuf_rs_sync_part_for_device)
    }

    fn sync_parts(&self, ranges: &mut dyn Iterator<Item = Range<usize>>, sync: SyncPart) -> Synced {
        let mut synced = Synced::default();
        let mut at = Cursor::new(self);
        for range in ranges {
            let mut next = range.start;
            while let Some((addr, len)) = at.seek(next, range.end) {
                // SAFETY: By the type invariant the table is mapped for the device with this
                // direction. By the cursor `len` bytes from `addr` on are in one DMA segment of it,
                // and in one CPU entry: behind an IOMMU a segment may be of pages that are not next
                // to each other, and the DMA API would go on by the address of the first
                // (`iommu_dma_sync_single_for_cpu()`).
                unsafe { sync(device_as_raw(&self.dev), addr, len, self.mapped.into()) };
                next += len;
                synced.bytes += len;
                if self.bounced == self.size() || (self.bounced > 0 && self.is_bounced_at(addr)) {
                    synced.bounced += len;
                }
            }
        }
        synced
    }

    /// Unmaps without a sync: for a mapping that no device has used, so that a bounce buffer
    /// does not go over what the CPU has written meanwhile.
    pub fn discard(mut self) {
        self.unmap_attrs |= SKIP_CPU_SYNC;
    }

    /// Unmaps. A device that may write gets the sync that brings its bytes to the CPU, as the DMA
    /// API has it.
    pub fn unmap(self) {}

    /// Whether importers know the mapping by `table`. With `CONFIG_DMABUF_DEBUG` they have a copy
    /// that the core made, in which the addresses are the same, and which has no pages.
    ///
    /// # Safety
    ///
    /// `table` must be a table that the core gave to an importer and that is not unmapped
    /// meanwhile, or null.
    pub(crate) unsafe fn is_known_as(&self, table: *const bindings::sg_table) -> bool {
        if !cfg!(CONFIG_DMABUF_DEBUG) || table.is_null() {
            return core::ptr::eq(self.as_raw(), table);
        }
        // SAFETY: Both are valid tables, by the type invariant and by the requirement of this
        // function, and nobody changes them. Their first `nents` entries have a DMA address.
        unsafe {
            let ours = &*self.as_raw();
            let theirs = &*table;
            if ours.nents != theirs.nents {
                return false;
            }
            let (mut our_sg, mut their_sg) = (ours.sgl, theirs.sgl);
            for _ in 0..ours.nents {
                if bindings::sg_dma_address(our_sg) != bindings::sg_dma_address(their_sg)
                    || bindings::sg_dma_len(our_sg) != bindings::sg_dma_len(their_sg)
                {
                    return false;
                }
                our_sg = bindings::sg_next(our_sg);
                their_sg = bindings::sg_next(their_sg);
            }
        }
        true
    }

    /// The table as the core gets it.
    pub(crate) fn as_raw(&self) -> *mut bindings::sg_table {
        self.table.inner.get()
    }

    /// Forgets the attachment that bounds the mapping.
    ///
    /// # Safety
    ///
    /// The mapping must be dropped before the attachment is gone.
    pub(crate) unsafe fn unbound(self) -> Mapping<'static> {
        // SAFETY: Only the lifetime changes, for which the caller vouches.
        unsafe { core::mem::transmute::<Mapping<'_>, Mapping<'static>>(self) }
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the table is mapped for the device with this direction.
        unsafe {
            bindings::dma_unmap_sgtable(
                device_as_raw(&self.dev),
                self.table.inner.get(),
                self.mapped.into(),
                self.unmap_attrs,
            )
        }
    }
}
