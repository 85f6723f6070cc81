// SPDX-License-Identifier: GPL-2.0

//! Sg tables, and what they are when a device has them.

use core::{
    cmp::{
        max,
        min, //
    },
    marker::PhantomData,
    ops::Range, //
};

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
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
/// `inner` was made by `sg_alloc_table()`. Its entries are pages of the buffer, which may be gone by
/// the time that the table is: nobody looks at them when it is freed.
struct SgTable(Opaque<bindings::sg_table>);

/// What a device says of its segments.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Limits {
    /// The longest, in bytes: whole pages, and not 0.
    max: usize,
    /// Where none goes across: a power of two less 1, and at least that of a page.
    boundary: usize,
}

impl Limits {
    fn of(dev: &Device) -> Result<Self> {
        // SAFETY: `dev` is a valid device, by its type.
        let max = unsafe { bindings::cohbuf_rs_max_segment(device_as_raw(dev)) };
        // SAFETY: As above.
        let boundary = unsafe { bindings::cohbuf_rs_segment_boundary(device_as_raw(dev)) };
        // A segment is of whole pages, and its length is an `unsigned int`.
        let max = max.min(1 << 30) & !(PAGE_SIZE - 1);
        if max == 0 || boundary < PAGE_SIZE - 1 {
            return Err(EINVAL);
        }
        Ok(Self { max, boundary })
    }
}

impl SgTable {
    /// Makes a table of segments of these limits.
    fn new(pages: &Pages, limits: Limits) -> Result<Self> {
        let pieces = || pages.pieces(limits.max, limits.boundary);
        let count = u32::try_from(pieces().count()).map_err(|_| ENOMEM)?;
        Self::of(count, pieces())
    }

    /// Makes a table of `count` pieces, none of which is longer than an `unsigned int`
    /// has it.
    fn of(count: u32, pieces: impl Iterator<Item = (*mut bindings::page, usize)>) -> Result<Self> {
        let inner = Opaque::<bindings::sg_table>::zeroed();
        // SAFETY: `inner` is zeroed, and may be written.
        to_result(unsafe {
            bindings::sg_alloc_table(inner.get(), count, bindings::GFP_KERNEL_ACCOUNT)
        })?;
        // INVARIANT: The table was just made. An empty entry is none of anybody's pages.
        let table = Self(inner);

        // SAFETY: The table has been allocated.
        let mut sg = unsafe { (*table.as_raw()).sgl };
        for (page, len) in pieces {
            // SAFETY: The table has as many entries as there are pieces, so that `sg` is one.
            // CAST: It fits.
            unsafe {
                bindings::cohbuf_rs_sg_set_page(sg, page, len as u32, 0);
                sg = bindings::sg_next(sg);
            }
        }
        Ok(table)
    }

    fn as_raw(&self) -> *mut bindings::sg_table {
        self.0.get()
    }
}

impl Drop for SgTable {
    fn drop(&mut self) {
        // SAFETY: The table was made by `sg_alloc_table()`, and is freed once.
        unsafe { bindings::sg_free_table(self.as_raw()) };
    }
}

/// Pages that are next to each other.
struct Run {
    page: *mut bindings::page,
    len: usize,
    /// Where every device finds it that the layout is for.
    addr: bindings::dma_addr_t,
}

impl Run {
    /// The longest. Its length is an `unsigned int`.
    const MAX: usize = 1 << 30;
}

/// Ranges of bytes that are of one length, and as far apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Where the first begins.
    pub offset: usize,
    /// Bytes of each.
    pub length: usize,
    /// Bytes from where one begins to where the next does.
    pub stride: usize,
    /// How many there are.
    pub count: usize,
}

impl Rows {
    fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count).map_while(move |row| {
            // What does not fit into a number is beyond every buffer.
            let start = row.checked_mul(self.stride)?.checked_add(self.offset)?;
            Some(start..start.checked_add(self.length)?)
        })
    }

    /// Where the first row is for the devices, if one of the runs has all rows, of which there is
    /// one at least, none is empty, and none touches another's bytes.
    fn run_of(self, runs: &[Run]) -> Option<bindings::dma_addr_t> {
        if self.length == 0 || (self.count > 1 && self.stride < self.length) {
            return None;
        }
        let last = self.count.checked_sub(1)?.checked_mul(self.stride)?;
        let span = last.checked_add(self.length)?;
        let mut offset = self.offset;
        for run in runs {
            match offset.checked_sub(run.len) {
                Some(behind) => offset = behind,
                // CAST: An offset in a run fits into an address.
                None if span <= run.len - offset => {
                    return Some(run.addr + offset as bindings::dma_addr_t)
                }
                None => return None,
            }
        }
        None
    }
}

/// A table with the DMA addresses that all devices see without an IOMMU, without ranges of their own,
/// and without a copy, and whose segments are of the same limits: made once, and shared by their
/// mappings, which only read it. Importers may not write to tables either.
///
/// The table is cut as the devices want it. The DMA API gets runs, of which there are few: the
/// limits are those of the segments that a device is given, and no matter to `kernel/dma/direct.c`.
/// DMA-API debug takes it for an oversight, and has the runs cut as well.
///
/// # Invariants
///
/// `runs` are the pages of `table` in order, and `last` is the highest physical address of them. An
/// entry has the DMA address that it has in its run.
pub(crate) struct Layout {
    table: SgTable,
    limits: Limits,
    runs: KVVec<Run>,
    last: bindings::phys_addr_t,
}

// SAFETY: The table belongs to it, and may be freed by any task, which looks at no page for that.
unsafe impl Send for Layout {}
// SAFETY: What `&self` allows is to read.
unsafe impl Sync for Layout {}

impl Layout {
    /// Makes one as `dev` sees it.
    fn new(pages: &Pages, limits: Limits, dev: &Device) -> Result<Self> {
        let table = SgTable::new(pages, limits)?;
        let mut runs = KVVec::<Run>::new();
        let mut last = 0;
        let mut end = None;
        // SAFETY: The table was just made, and nobody else has it.
        let (mut sg, count) = unsafe {
            let raw = &*table.as_raw();
            (raw.sgl, raw.orig_nents)
        };
        for _ in 0..count {
            // SAFETY: It is an entry of the table, and has pages.
            let (page, phys, len) = unsafe {
                (
                    bindings::cohbuf_rs_sg_page(sg),
                    bindings::cohbuf_rs_sg_phys(sg),
                    (*sg).length as usize,
                )
            };
            // SAFETY: `dev` is a valid device, by its type.
            let addr = unsafe { bindings::cohbuf_rs_phys_to_dma(device_as_raw(dev), phys) };
            // SAFETY: It is an entry of the table, which nobody else has.
            unsafe { bindings::cohbuf_rs_sg_set_dma(sg, addr) };
            match runs.last_mut() {
                Some(run)
                    if end == Some((phys, addr))
                        && run.len + len <= Run::MAX
                        && !cfg!(CONFIG_DMA_API_DEBUG) =>
                {
                    run.len += len
                }
                _ => runs.push(Run { page, len, addr }, GFP_KERNEL_ACCOUNT)?,
            }
            // CAST: A length fits into an address.
            end = Some((phys + len as u64, addr + len as u64));
            last = max(last, phys + len as u64 - 1);
            // SAFETY: It is an entry of the table. Behind the last it is not looked at.
            sg = unsafe { bindings::sg_next(sg) };
        }
        // INVARIANT: Each entry is the next part of the last run, or the first of a new one.
        Ok(Self {
            table,
            limits,
            runs,
            last,
        })
    }

    /// Whether the DMA API has nothing to do for `dev` but cache maintenance, and to say where it finds
    /// the memory.
    fn is_for(&self, dev: &Device) -> bool {
        // SAFETY: `dev` is a valid device, by its type.
        unsafe { bindings::cohbuf_rs_reaches(device_as_raw(dev), self.last) }
    }

    /// Makes a table of the runs.
    fn run_table(&self) -> Result<SgTable> {
        let count = u32::try_from(self.runs.len()).map_err(|_| ENOMEM)?;
        SgTable::of(count, self.runs.iter().map(|run| (run.page, run.len)))
    }

    /// Whether the runs are where the layout says, of a mapped table of them.
    fn is_at(&self, runs: &SgTable) -> bool {
        // SAFETY: The table is valid.
        let (mut sg, count) = unsafe {
            let raw = &*runs.as_raw();
            (raw.sgl, raw.nents)
        };
        count as usize == self.runs.len()
            && self.runs.iter().all(|run| {
                let at = sg;
                // SAFETY: It is an entry of the table. Behind the last it is not looked at.
                sg = unsafe { bindings::sg_next(at) };
                // SAFETY: It is an entry of the table, which is mapped.
                unsafe { bindings::sg_dma_address(at) == run.addr }
            })
    }
}

/// The layout that was used last, to be looked for by the next mapping.
pub(crate) type LastLayout = Option<Arc<Layout>>;

/// Whether `dev` is known to reach all of the memory by itself, without a copy.
pub(crate) fn is_reached(layout: &LastLayout, dev: &Device) -> bool {
    layout.as_ref().is_some_and(|layout| layout.is_for(dev))
}

/// A table of its own for each mapping, as the importer knows it, with the entries of a layout.
struct Shared {
    inner: Opaque<bindings::sg_table>,
    /// What the DMA API has mapped.
    runs: SgTable,
    layout: Arc<Layout>,
}

/// The table of a mapping.
enum Table {
    /// As it was mapped.
    Own(KBox<SgTable>),
    /// Mapped by runs.
    Shared(KBox<Shared>),
}

impl Table {
    fn shared(layout: Arc<Layout>) -> Result<Self> {
        let inner = Opaque::<bindings::sg_table>::zeroed();
        // SAFETY: Both are valid. The entries are there for as long as the layout.
        unsafe { *inner.get() = *layout.table.as_raw() };
        let runs = layout.run_table()?;
        Ok(Self::Shared(KBox::new(
            Shared {
                inner,
                runs,
                layout,
            },
            GFP_KERNEL_ACCOUNT,
        )?))
    }

    /// What the DMA API knows.
    fn mapped(&self) -> *mut bindings::sg_table {
        match self {
            Self::Own(table) => table.as_raw(),
            Self::Shared(table) => table.runs.as_raw(),
        }
    }

    /// What the importer knows.
    fn as_raw(&self) -> *mut bindings::sg_table {
        match self {
            Self::Own(table) => table.as_raw(),
            Self::Shared(table) => table.inner.get(),
        }
    }

    /// Whether the importer's table is what was mapped.
    fn is_as_said(&self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Shared(table) => table.layout.is_at(&table.runs),
        }
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
/// instead, it is unmapped. `'a` keeps it from outliving the attachment, and with that the buffer and
/// its pages.
///
/// # Invariants
///
/// `table` is mapped for `dev` in direction `mapped`, until `Drop`, and its pages are there; but in a
/// `Kept`.
pub struct Mapping<'a> {
    table: Table,
    dev: ARef<Device>,
    dir: DataDirection,
    mapped: DataDirection,
    reach: Reach,
    /// Bytes of the buffer.
    size: usize,
    /// Of all segments, the bytes that are bounced.
    bounced: usize,
    /// See [`Mapping::can_sync_parts`].
    has_parts: bool,
    /// Of the buffer: see [`Pages::is_write_combine`].
    is_write_combine: bool,
    unmap_attrs: c_ulong,
    /// What the segments were cut for.
    limits: Limits,
    /// See [`Mapping::set_number`].
    number: u32,
    /// See [`Mapping::was_untouched`].
    untouched: bool,
    /// False in a [`Kept`] alone.
    is_mapped: bool,
    _pages: PhantomData<&'a Pages>,
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

/// See [`Mapping::can_sync_parts`].
fn has_parts(dev: &Device) -> bool {
    // SAFETY: The device is valid, by its type.
    unsafe { bindings::cohbuf_rs_can_sync_parts(device_as_raw(dev)) }
}

impl<'a> Mapping<'a> {
    /// Maps `pages` for `dev`. `last`: [`None`], or a layout of these pages.
    ///
    /// # Safety
    ///
    /// `last` must be of these pages. A driver must be bound to `dev`, or whoever made `dev` must have set it up for DMA, and it
    /// must stay so until the mapping is dropped.
    pub(crate) unsafe fn new(
        pages: &'a Pages,
        dev: &Device,
        dir: DataDirection,
        last: &mut LastLayout,
    ) -> Result<Self> {
        // SAFETY: `dev` is a valid device, by its type.
        if !unsafe { bindings::cohbuf_rs_has_dma_mask(device_as_raw(dev)) } {
            return Err(EINVAL);
        }
        // SAFETY: As required of our caller.
        if let Some(mapping) = unsafe { Self::new_shared(pages, dev, dir, last) }? {
            return Ok(mapping);
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

    /// Maps by a layout, where the device is one that there can be one for.
    ///
    /// # Safety
    ///
    /// As for [`Self::new`].
    unsafe fn new_shared(
        pages: &'a Pages,
        dev: &Device,
        dir: DataDirection,
        last: &mut LastLayout,
    ) -> Result<Option<Self>> {
        // SAFETY: `dev` is a valid device, by its type.
        if !unsafe { bindings::cohbuf_rs_is_plain(device_as_raw(dev)) } {
            return Ok(None);
        }
        let limits = Limits::of(dev)?;
        let layout = match last {
            Some(layout) if layout.limits == limits => layout.clone(),
            _ => {
                let Ok(layout) = Layout::new(pages, limits, dev) else {
                    // A table of its own takes less.
                    return Ok(None);
                };
                let layout = Arc::new(layout, GFP_KERNEL_ACCOUNT)?;
                *last = Some(layout.clone());
                layout
            }
        };
        if !layout.is_for(dev) {
            return Ok(None);
        }
        let attrs = Self::attrs(pages);
        let table = Table::shared(layout)?;
        // SAFETY: `dev` is set up for DMA by the requirement of this function; the table is valid
        // and not mapped.
        to_result(unsafe {
            bindings::dma_map_sgtable(device_as_raw(dev), table.mapped(), dir.into(), attrs)
        })?;
        // INVARIANT: All of it was just mapped.
        let mapping = Self {
            table,
            dev: dev.into(),
            dir,
            mapped: dir,
            // It is at the addresses of its pages, so that nothing is bounced.
            reach: match device::is_dma_coherent(dev) {
                true => Reach::Snooping,
                false => Reach::Direct,
            },
            size: pages.size(),
            bounced: 0,
            has_parts: has_parts(dev),
            is_write_combine: pages.is_write_combine(),
            unmap_attrs: attrs,
            limits,
            number: 0,
            untouched: false,
            is_mapped: true,
            _pages: PhantomData,
        };
        if !mapping.table.is_as_said() {
            mapping.discard();
            return Ok(None);
        }
        Ok(Some(mapping))
    }

    fn attrs(pages: &Pages) -> c_ulong {
        // What no cache line holds needs no maintenance.
        match pages.is_write_combine() {
            true => OVERLAPS | SKIP_CPU_SYNC,
            false => OVERLAPS,
        }
    }

    /// Maps in direction `mapped` what the importer wants mapped in direction `dir`.
    ///
    /// # Safety
    ///
    /// As for [`Self::new`].
    unsafe fn new_as(
        pages: &'a Pages,
        dev: &Device,
        dir: DataDirection,
        mapped: DataDirection,
    ) -> Result<Self> {
        let limits = Limits::of(dev)?;
        let table = KBox::new(SgTable::new(pages, limits)?, GFP_KERNEL)?;
        let attrs = Self::attrs(pages);
        // SAFETY: `dev` is set up for DMA by the requirement of this function; the table is valid
        // and not mapped.
        to_result(unsafe {
            bindings::dma_map_sgtable(device_as_raw(dev), table.as_raw(), mapped.into(), attrs)
        })?;
        // INVARIANT: The table was just mapped.
        let mut mapping = Self {
            table: Table::Own(table),
            dev: dev.into(),
            dir,
            mapped,
            reach: Reach::Unknown(0),
            size: pages.size(),
            bounced: 0,
            has_parts: has_parts(dev),
            is_write_combine: pages.is_write_combine(),
            unmap_attrs: attrs,
            limits,
            number: 0,
            untouched: false,
            is_mapped: true,
            _pages: PhantomData,
        };
        (mapping.reach, mapping.bounced) = mapping.look();
        Ok(mapping)
    }
}

impl Mapping<'_> {
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
            let table = &*self.table.as_raw();
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

    /// Whether the device reaches the memory without anybody's help, mapped or not, and nothing is
    /// ever maintained for it: neither an IOMMU nor a copy is between, nor a cache line.
    pub fn costs_nothing(&self) -> bool {
        self.needs_no_sync() || (self.reach == Reach::Direct && self.is_write_combine)
    }

    /// Whether a sync has nothing to do.
    fn needs_no_sync(&self) -> bool {
        self.reach == Reach::Snooping && matches!(self.table, Table::Shared(_))
    }

    /// Whether it was mapped before, and nothing has happened to the buffer since that the device
    /// had to be told: it has not been maintained now.
    pub fn was_untouched(&self) -> bool {
        self.untouched
    }

    /// Pieces that the device sees, which may be fewer than the buffer is of.
    pub fn segments(&self) -> u32 {
        // SAFETY: The table is valid, as it is mapped.
        unsafe { (*self.table.as_raw()).nents }
    }

    /// Bytes of the buffer.
    fn size(&self) -> usize {
        self.size
    }

    /// What the device may do, as the importer said it.
    ///
    /// A sync always takes the direction that the table was mapped with, never that of the CPU
    /// access: `dma-api.rst`, "must be the same as those passed to the mapping".
    pub fn direction(&self) -> DataDirection {
        self.dir
    }

    /// Whether the device may write.
    pub(crate) fn may_write(&self) -> bool {
        self.dir != DataDirection::ToDevice
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
    #[inline]
    pub fn sync_for_cpu(&self) -> Synced {
        self.sync(bindings::cohbuf_rs_sync_for_cpu)
    }

    /// Makes what the CPU wrote visible to the device: `dma_sync_sgtable_for_device()`.
    #[inline]
    pub fn sync_for_device(&self) -> Synced {
        self.sync(bindings::cohbuf_rs_sync_for_device)
    }

    #[inline(always)]
    fn sync(&self, sync: SyncAll) -> Synced {
        if !self.needs_no_sync() {
            let (dev, table) = (device_as_raw(&self.dev), self.table.mapped());
            // SAFETY: By the type invariant the table is mapped for the device with this direction.
            unsafe { sync(dev, table, self.mapped.into()) };
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
    /// nothing for it, and would do nothing without a word. Does not change while it is mapped.
    pub fn can_sync_parts(&self) -> bool {
        self.has_parts
    }

    /// [`Mapping::sync_for_cpu`] of some ranges of bytes: `dma_sync_single_range_for_cpu()`.
    ///
    /// They are faster where they are in order. What is beyond the buffer is left out.
    pub fn sync_parts_for_cpu(&self, ranges: impl Iterator<Item = Range<usize>>) -> Synced {
        self.sync_parts(ranges, bindings::cohbuf_rs_sync_part_for_cpu)
    }

    /// [`Mapping::sync_for_device`] of some ranges of bytes, see [`Mapping::sync_parts_for_cpu`].
    pub fn sync_parts_for_device(&self, ranges: impl Iterator<Item = Range<usize>>) -> Synced {
        self.sync_parts(ranges, bindings::cohbuf_rs_sync_part_for_device)
    }

    /// [`Mapping::sync_parts_for_cpu`] of rows.
    pub fn sync_rows_for_cpu(&self, rows: Rows) -> Synced {
        self.sync_rows(rows, bindings::cohbuf_rs_sync_part_for_cpu)
    }

    /// [`Mapping::sync_parts_for_device`] of rows.
    pub fn sync_rows_for_device(&self, rows: Rows) -> Synced {
        self.sync_rows(rows, bindings::cohbuf_rs_sync_part_for_device)
    }

    #[inline(always)]
    fn sync_rows(&self, rows: Rows, sync: SyncPart) -> Synced {
        let run = match &self.table {
            Table::Shared(table) if !self.needs_no_sync() => rows.run_of(&table.layout.runs),
            _ => None,
        };
        let Some(mut addr) = run else {
            return self.sync_parts(rows.ranges(), sync);
        };
        let (dev, dir) = (device_as_raw(&self.dev), self.mapped.into());
        let Rows { length, stride, .. } = rows;
        for _ in 0..rows.count {
            // SAFETY: By the type invariant the table of the runs is mapped for the device with this
            // direction, and one of them has all rows.
            unsafe { sync(dev, addr, length, dir) };
            // CAST: A distance in a run fits into an address. Behind the last row nobody looks.
            addr = addr.wrapping_add(stride as bindings::dma_addr_t);
        }
        // They are side by side in a run, so that it fits.
        Synced {
            bytes: length * rows.count,
            bounced: 0,
        }
    }

    #[inline(always)]
    fn sync_parts(&self, mut ranges: impl Iterator<Item = Range<usize>>, sync: SyncPart) -> Synced {
        match &self.table {
            Table::Own(_) => self.sync_segments(&mut ranges, sync),
            Table::Shared(table) => self.sync_runs(&table.layout.runs, ranges, sync),
        }
    }

    /// Nothing of it is bounced. Apart for each kind of ranges, and from whoever calls it, as most of
    /// the time of a short one goes by in the loop.
    #[inline(never)]
    fn sync_runs(
        &self,
        runs: &[Run],
        ranges: impl Iterator<Item = Range<usize>>,
        sync: SyncPart,
    ) -> Synced {
        let (dev, dir) = (device_as_raw(&self.dev), self.mapped.into());
        let is_idle = self.needs_no_sync();
        let mut synced = Synced::default();
        let (mut rest, mut start) = (runs, 0);
        for range in ranges {
            if range.start < start {
                (rest, start) = (runs, 0);
            }
            let mut next = range.start;
            while next < range.end {
                let [run, behind @ ..] = rest else {
                    break;
                };
                let offset = next - start;
                if offset >= run.len {
                    start += run.len;
                    rest = behind;
                    continue;
                }
                let len = min(range.end - next, run.len - offset);
                if !is_idle {
                    // CAST: An offset in a run fits into an address.
                    let addr = run.addr + offset as bindings::dma_addr_t;
                    // SAFETY: By the type invariant the table of the runs is mapped for the device
                    // with this direction, each at the address that the layout says. `len` bytes
                    // from `addr` on are in one of them.
                    unsafe { sync(dev, addr, len, dir) };
                }
                next += len;
                synced.bytes += len;
            }
        }
        synced
    }

    fn sync_segments(
        &self,
        ranges: &mut dyn Iterator<Item = Range<usize>>,
        sync: SyncPart,
    ) -> Synced {
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

    /// Unmaps what was mapped for an importer that shall not have it: no device has used it, unless
    /// it [was mapped before], in which case the sync of that unmap is still due.
    ///
    /// [was mapped before]: Self::was_untouched
    pub fn take_back(self) {
        match self.untouched {
            true => self.unmap(),
            false => self.discard(),
        }
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
        self.table.as_raw()
    }

    /// Forgets the attachment that bounds the mapping.
    ///
    /// # Safety
    ///
    /// The mapping must be dropped before the attachment is gone, and with it the pages, if it is
    /// mapped.
    pub(crate) unsafe fn unbound(self) -> Mapping<'static> {
        // SAFETY: Only the lifetime changes, for which the caller vouches.
        unsafe { core::mem::transmute::<Mapping<'_>, Mapping<'static>>(self) }
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        if self.is_mapped {
            // SAFETY: By the type invariant the table is mapped for the device with this direction.
            unsafe {
                bindings::dma_unmap_sgtable(
                    device_as_raw(&self.dev),
                    self.table.mapped(),
                    self.mapped.into(),
                    self.unmap_attrs,
                )
            }
        }
    }
}

/// What an importer has unmapped, for it to map again: the table, which is mapped for nobody, so that
/// its device may go.
///
/// # Invariants
///
/// The table is not mapped.
pub(crate) struct Kept(Mapping<'static>);

impl Kept {
    /// Unmaps without a sync.
    pub(crate) fn new(mut mapping: Mapping<'_>) -> Self {
        // SAFETY: By its type invariant the table is mapped for the device with this direction.
        unsafe {
            bindings::dma_unmap_sgtable(
                device_as_raw(&mapping.dev),
                mapping.table.mapped(),
                mapping.mapped.into(),
                mapping.unmap_attrs | SKIP_CPU_SYNC,
            )
        };
        mapping.is_mapped = false;
        // SAFETY: It is not mapped any more.
        // INVARIANT: It was just unmapped.
        Self(unsafe { mapping.unbound() })
    }

    /// Whether to map it is to map as `dev` and `dir` want it now.
    pub(crate) fn is_for(&self, dev: &Device, dir: DataDirection) -> bool {
        let Self(kept) = self;
        // SAFETY: `dev` is a valid device, by its type.
        let has_mask = unsafe { bindings::cohbuf_rs_has_dma_mask(device_as_raw(dev)) };
        kept.dir == dir
            && has_mask
            && Limits::of(dev).is_ok_and(|limits| limits == kept.limits)
            && match &kept.table {
                Table::Own(_) => true,
                Table::Shared(table) => table.layout.is_for(dev),
            }
    }

    /// Maps it, if the device reaches the memory as it has before. `untouched`: without a sync, see
    /// [`Mapping::was_untouched`].
    ///
    /// # Safety
    ///
    /// As for [`Mapping::new`], of the device that it was mapped for. The buffer must be there for
    /// `'a`.
    pub(crate) unsafe fn map<'a>(self, untouched: bool) -> Option<Mapping<'a>> {
        let Self(mut mapping) = self;
        let attrs = match untouched {
            true => mapping.unmap_attrs | SKIP_CPU_SYNC,
            false => mapping.unmap_attrs,
        };
        // SAFETY: The device is set up for DMA by the requirement of this function, and the pages are
        // there; the table is valid, and not mapped by the type invariant.
        to_result(unsafe {
            bindings::dma_map_sgtable(
                device_as_raw(&mapping.dev),
                mapping.table.mapped(),
                mapping.mapped.into(),
                attrs,
            )
        })
        .ok()?;
        // INVARIANT: It was just mapped.
        mapping.is_mapped = true;
        mapping.untouched = untouched;
        let is_same = match &mapping.table {
            Table::Own(_) => mapping.look() == (mapping.reach, mapping.bounced),
            Table::Shared(table) => table.layout.is_at(&table.runs),
        };
        if !is_same {
            mapping.discard();
            return None;
        }
        Some(mapping)
    }
}
