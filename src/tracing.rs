// SPDX-License-Identifier: GPL-2.0

//! What trace events and `COHBUF_IOCTL_INFO` say of things, in the numbers of the uapi header.

use dma_buf::{
    trace,
    uapi::{
        cohbuf_reach_COHBUF_REACH_BOUNCED as REACH_BOUNCED,
        cohbuf_reach_COHBUF_REACH_DIRECT as REACH_DIRECT,
        cohbuf_reach_COHBUF_REACH_IOMMU as REACH_IOMMU,
        cohbuf_reach_COHBUF_REACH_NONE as REACH_NONE,
        cohbuf_reach_COHBUF_REACH_PARTLY_BOUNCED as REACH_PARTLY_BOUNCED,
        cohbuf_reach_COHBUF_REACH_SNOOPING as REACH_SNOOPING,
        cohbuf_reach_COHBUF_REACH_UNKNOWN as REACH_UNKNOWN,
        COHBUF_ATTACHMENT_AUTOFENCE,
        COHBUF_ATTACHMENT_COHERENT,
        COHBUF_ATTACHMENT_DYNAMIC, //
    },
    Mapping, //
};
use kernel::device::Device;

use crate::{
    coherency::is_dma_coherent,
    cost::Cost,
    maintenance,
    policy::{
        Access,
        Reach, //
    },
    region::Region, //
};

/// `enum cohbuf_reach`
pub(crate) fn reach(mapping: Option<&Mapping<'_>>) -> u32 {
    mapping
        .map(maintenance::reach_of)
        .map_or(REACH_NONE, number_of)
}

/// Likewise, of one that is known.
pub(crate) fn number_of(reach: Reach) -> u32 {
    match reach {
        Reach::Snooping => REACH_SNOOPING,
        Reach::Direct => REACH_DIRECT,
        Reach::Iommu => REACH_IOMMU,
        Reach::Bounced => REACH_BOUNCED,
        Reach::PartlyBounced => REACH_PARTLY_BOUNCED,
        Reach::Unknown(_) => REACH_UNKNOWN,
    }
}

/// `COHBUF_ATTACHMENT_*`
pub(crate) fn attachment_flags(dev: &Device, autofence: bool, dynamic: bool) -> u32 {
    let flag = |is, flag| if is { flag } else { 0 };
    flag(is_dma_coherent(dev), COHBUF_ATTACHMENT_COHERENT)
        | flag(autofence, COHBUF_ATTACHMENT_AUTOFENCE)
        | flag(dynamic, COHBUF_ATTACHMENT_DYNAMIC)
}

/// `DMA_BUF_SYNC_READ`, `DMA_BUF_SYNC_WRITE`
pub(crate) fn access(access: Access) -> u32 {
    match access {
        Access::Read => 1,
        Access::Write => 2,
        Access::ReadWrite => 3,
    }
}

/// `DMA_BUF_SYNC_END`
pub(crate) const END: u32 = 4;

pub(crate) fn region(region: &Region) -> trace::Region {
    // CAST: What a region has fits.
    trace::Region {
        offset: region.bounds().start as u64,
        length: (region.bytes() / region.height()) as u64,
        stride: region.stride() as u64,
        rows: region.height() as u64,
    }
}

pub(crate) fn cost(cost: &Cost) -> trace::Cost {
    trace::Cost {
        cleaned: cost.cleaned,
        invalidated: cost.invalidated,
        to_copies: cost.to_copies,
        from_copies: cost.from_copies,
        own_ops: cost.own_ops,
        saved: cost.saved,
    }
}
