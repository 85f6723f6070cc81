// SPDX-License-Identifier: GPL-2.0

//! One buffer: carries out for the dma-buf core what the policy decides.

use dma_buf::{
    device::notice_refused,
    Buffer,
    CpuAccess,
    DmaBuf,
    Exporter,
    MapRequest,
    Mapping,
    Pages, //
};
use kernel::{
    device::Device,
    dma::DataDirection,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

use crate::{
    coherency,
    policy::{
        self,
        Access,
        Direction,
        Kind,
        Refusal, //
    },
    stats::Stats, //
};

/// What is known of a buffer besides its memory.
pub(crate) struct CohBuf {
    kind: Kind,
    stats: Stats,
}

impl CohBuf {
    /// Allocates a buffer of `size` bytes, a multiple of the page size, and exports it.
    ///
    /// # Errors
    ///
    /// As [`Pages::alloc`] and [`DmaBuf::export`].
    pub(crate) fn export(size: usize, kind: Kind, file_flags: u32) -> Result<ARef<DmaBuf>> {
        let pages = Arc::new(Pages::alloc(size)?, GFP_KERNEL)?;
        let data = Self {
            kind,
            stats: Stats::new(),
        };
        DmaBuf::export(data, pages, file_flags)
    }

    /// What it was made for; never changes.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What has happened to it.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    fn refuse(buffer: Buffer<'_, Self>, dev: &Device, refusal: Refusal) -> Error {
        buffer.stats.refused(refusal);
        let why = match refusal {
            Refusal::NotCoherent => c"coherent buffer, device is not DMA-coherent",
            Refusal::Bounced => c"coherent buffer, mapping would be bounced",
            Refusal::SecondBounced => c"another bounced mapping may be written by its device",
        };
        notice_refused(dev, buffer, why);
        match refusal {
            Refusal::NotCoherent | Refusal::Bounced => EOPNOTSUPP,
            Refusal::SecondBounced => EBUSY,
        }
    }
}

impl Exporter for CohBuf {
    type OwnerModule = crate::LocalModule;
    type Attachment = ();
    const NAME: &'static CStr = c"cohbuf";

    fn attach(buffer: Buffer<'_, Self>, dev: &Device) -> Result {
        policy::attach(buffer.kind, coherency::is_dma_coherent(dev))
            .map_err(|refusal| Self::refuse(buffer, dev, refusal))
    }

    fn map<'a>(request: MapRequest<'a, Self>) -> Result<Mapping<'a>> {
        let buffer = request.buffer();
        let dev = request.attachment().device();
        let dir = direction_of(request.direction());
        let other = request
            .locked()
            .attachments()
            .flat_map(|a| a.mappings())
            .any(|m| m.is_bounced() && policy::device_writes(direction_of(m.direction())));

        // Ask first: what is certain to be bounced need not be copied, nor fail for the want of
        // bounce buffers. Then look, as the answer does not cover an IOMMU.
        policy::map(buffer.kind, request.would_bounce(), dir, other)
            .map_err(|refusal| Self::refuse(buffer, dev, refusal))?;
        let mapping = request.map()?;
        if let Err(refusal) = policy::map(buffer.kind, mapping.is_bounced(), dir, other) {
            mapping.discard();
            return Err(Self::refuse(buffer, dev, refusal));
        }
        Ok(mapping)
    }

    fn begin_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        // Fences first (R5): what is invalidated while a device still writes is stale again.
        // Once without the lock, so that nobody is kept waiting, and again for those that came
        // before we had it.
        buffer.wait_fences(access)?;
        let locked = buffer.lock()?;
        locked.wait_fences(access)?;
        for mapping in locked.attachments().flat_map(|a| a.mappings()) {
            if policy::begin(
                buffer.kind,
                access_of(access),
                direction_of(mapping.direction()),
            ) {
                mapping.sync_for_cpu();
                buffer.stats.synced_for_cpu();
            }
        }
        Ok(())
    }

    fn end_cpu_access(buffer: Buffer<'_, Self>, access: CpuAccess) -> Result {
        let locked = buffer.lock()?;
        for mapping in locked.attachments().flat_map(|a| a.mappings()) {
            if policy::end(
                buffer.kind,
                access_of(access),
                direction_of(mapping.direction()),
            ) {
                mapping.sync_for_device();
                buffer.stats.synced_for_device();
            }
        }
        Ok(())
    }
}

fn access_of(access: CpuAccess) -> Access {
    match access {
        CpuAccess::Read => Access::Read,
        CpuAccess::Write => Access::Write,
        CpuAccess::ReadWrite => Access::ReadWrite,
    }
}

fn direction_of(dir: DataDirection) -> Direction {
    match dir {
        DataDirection::ToDevice => Direction::ToDevice,
        DataDirection::FromDevice => Direction::FromDevice,
        // No mapping has none.
        DataDirection::Bidirectional | DataDirection::None => Direction::Bidirectional,
    }
}
