// SPDX-License-Identifier: GPL-2.0

//! Sg tables, and what they are when a device has them.

use core::marker::PhantomData;

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
    _pages: Arc<Pages>,
}

impl SgTable {
    /// Makes a table of segments that `dev` can take.
    fn new(pages: &Arc<Pages>, dev: &Device) -> Result<KBox<Self>> {
        // SAFETY: `dev` is a valid device, by its type.
        let max = unsafe { bindings::cohbuf_rs_max_segment(device_as_raw(dev)) };
        // A segment is of whole pages, and its length is an `unsigned int`.
        let max = max.min(1 << 30) & !(PAGE_SIZE - 1);
        if max == 0 {
            return Err(EINVAL);
        }
        let count = u32::try_from(pages.count_pieces(max)).map_err(|_| ENOMEM)?;

        let inner = Opaque::<bindings::sg_table>::zeroed();
        // SAFETY: `inner` is zeroed, and may be written.
        to_result(unsafe {
            bindings::sg_alloc_table(inner.get(), count, bindings::GFP_KERNEL_ACCOUNT)
        })?;
        // INVARIANT: The table was just made. An empty entry is none of anybody's pages.
        let table = Self {
            inner,
            _pages: pages.clone(),
        };

        // SAFETY: The table has been allocated.
        let mut sg = unsafe { (*table.inner.get()).sgl };
        for (page, len) in pages.pieces(max) {
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
    unmap_attrs: c_ulong,
    _attachment: PhantomData<&'a ()>,
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
            unmap_attrs: attrs,
            _attachment: PhantomData,
        };
        mapping.reach = mapping.look();
        Ok(mapping)
    }

    /// Finds out how the device reaches the memory.
    fn look(&self) -> Reach {
        let dev = device_as_raw(&self.dev);
        // SAFETY: The device is valid.
        let ops = unsafe { bindings::cohbuf_rs_own_dma_ops(dev) };
        let coherent = device::is_dma_coherent(&self.dev);
        if ops != 0 {
            // Ops are aligned, so that there is room for what they do otherwise for such devices.
            return Reach::Unknown(ops | usize::from(coherent));
        }
        let (bounced, of) = self.count_bounced();
        // SAFETY: The device is valid.
        let iommu = unsafe { bindings::cohbuf_rs_has_iommu(dev) };
        match (bounced, coherent, iommu) {
            (0, true, _) => Reach::Snooping,
            (0, false, true) => Reach::Iommu,
            (0, false, false) => Reach::Direct,
            (bounced, true, _) if bounced < of => Reach::PartlyBounced,
            (bounced, false, _) if bounced < of => Reach::Unknown(dev as usize),
            _ => Reach::Bounced,
        }
    }

    /// The DMA segments that are bounced, and all.
    fn count_bounced(&self) -> (u32, u32) {
        let mut bounced = 0;
        // SAFETY: The table is mapped by the type invariant; its first `nents` entries have a
        // DMA address.
        unsafe {
            let table = &*self.table.inner.get();
            let mut sg = table.sgl;
            for _ in 0..table.nents {
                let addr = bindings::sg_dma_address(sg);
                let dev = device_as_raw(&self.dev);
                bounced += u32::from(bindings::cohbuf_rs_dma_addr_is_bounced(dev, addr));
                sg = bindings::sg_next(sg);
            }
            (bounced, table.nents)
        }
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
        self.count_bounced().0 > 0
    }

    /// Makes what the device wrote visible to the CPU: `dma_sync_sgtable_for_cpu()`.
    pub fn sync_for_cpu(&self) {
        // SAFETY: By the type invariant the table is mapped for the device with this direction.
        unsafe {
            bindings::cohbuf_rs_sync_for_cpu(
                device_as_raw(&self.dev),
                self.table.inner.get(),
                self.mapped.into(),
            )
        }
    }

    /// Makes what the CPU wrote visible to the device: `dma_sync_sgtable_for_device()`.
    pub fn sync_for_device(&self) {
        // SAFETY: By the type invariant the table is mapped for the device with this direction.
        unsafe {
            bindings::cohbuf_rs_sync_for_device(
                device_as_raw(&self.dev),
                self.table.inner.get(),
                self.mapped.into(),
            )
        }
    }

    /// Unmaps without a sync: for a mapping that no device has used, so that a bounce buffer
    /// does not go over what the CPU has written meanwhile.
    pub fn discard(mut self) {
        self.unmap_attrs |= SKIP_CPU_SYNC;
    }

    /// Unmaps. A device that may write gets the sync that brings its bytes to the CPU, as the DMA
    /// API has it.
    pub fn unmap(self) {}

    /// The table as importers get it.
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
