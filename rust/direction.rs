// SPDX-License-Identifier: GPL-2.0

//! Directions, converted once at the edge to C.

use kernel::{
    dma::DataDirection,
    prelude::*, //
};

use crate::{
    bindings,
    compat, //
};

/// Converts the direction that C passes to a callback.
///
/// # Errors
///
/// [`EINVAL`] for `DMA_NONE` and for what is no direction.
pub(crate) fn from_raw(dir: bindings::dma_data_direction) -> Result<DataDirection> {
    match dir {
        compat::BIDIRECTIONAL => Ok(DataDirection::Bidirectional),
        compat::TO_DEVICE => Ok(DataDirection::ToDevice),
        compat::FROM_DEVICE => Ok(DataDirection::FromDevice),
        _ => Err(EINVAL),
    }
}

/// What the CPU does between `begin_cpu_access` and `end_cpu_access`.
///
/// `DMA_BUF_IOCTL_SYNC` says it as a direction, seen from the device that wrote or shall read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CpuAccess {
    /// `DMA_BUF_SYNC_READ`, `DMA_FROM_DEVICE`.
    Read,
    /// `DMA_BUF_SYNC_WRITE`, `DMA_TO_DEVICE`.
    Write,
    /// `DMA_BUF_SYNC_RW`, `DMA_BIDIRECTIONAL`.
    ReadWrite,
}

impl CpuAccess {
    pub(crate) fn from_raw(dir: bindings::dma_data_direction) -> Result<Self> {
        match from_raw(dir)? {
            DataDirection::FromDevice => Ok(CpuAccess::Read),
            DataDirection::ToDevice => Ok(CpuAccess::Write),
            DataDirection::Bidirectional => Ok(CpuAccess::ReadWrite),
            DataDirection::None => Err(EINVAL),
        }
    }

    /// What the flags of `DMA_BUF_IOCTL_SYNC` say: the access, and whether it ends.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] for a flag that is not known, and without any access.
    pub fn from_sync_flags(flags: u64) -> Result<(Self, bool)> {
        const READ: u64 = bindings::DMA_BUF_SYNC_READ as u64;
        const WRITE: u64 = bindings::DMA_BUF_SYNC_WRITE as u64;
        const BOTH: u64 = READ | WRITE;
        const END: u64 = bindings::DMA_BUF_SYNC_END as u64;

        let access = match flags & !END {
            READ => CpuAccess::Read,
            WRITE => CpuAccess::Write,
            BOTH => CpuAccess::ReadWrite,
            _ => return Err(EINVAL),
        };
        Ok((access, flags & END != 0))
    }

    /// The direction that C takes for it.
    pub(crate) fn into_raw(self) -> bindings::dma_data_direction {
        match self {
            CpuAccess::Read => compat::FROM_DEVICE,
            CpuAccess::Write => compat::TO_DEVICE,
            CpuAccess::ReadWrite => compat::BIDIRECTIONAL,
        }
    }

    /// Whether the CPU may write.
    pub fn writes(self) -> bool {
        self != CpuAccess::Read
    }
}
