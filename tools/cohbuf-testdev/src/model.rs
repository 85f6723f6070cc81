// SPDX-License-Identifier: GPL-2.0

//! The models of the test importer: its cache model, and what is counted.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::{sys, uapi};

/// What the models did since [`Model::zero_counts`] or [`Model::reset`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Cleaned by the cache model.
    pub clean_bytes: u64,
    /// In so many pieces.
    pub clean_calls: u64,
    /// Invalidated by the cache model.
    pub invalidate_bytes: u64,
    /// In so many pieces.
    pub invalidate_calls: u64,
    /// Copied to private copies of the bounce model.
    pub to_bounce_bytes: u64,
    /// In so many pieces.
    pub to_bounce_calls: u64,
    /// Copied back from there.
    pub from_bounce_bytes: u64,
    /// In so many pieces.
    pub from_bounce_calls: u64,
    /// Written back by `arch_wb_cache_pmem()`, of any page. Not in `clean_bytes`.
    pub wb_bytes: u64,
    /// Dropped from the cache by `arch_invalidate_pmem()`, on arm64. Not in `invalidate_bytes`.
    pub drop_bytes: u64,
}

/// How a page is mapped for the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryType {
    /// Cached.
    WriteBack = 0,
    /// Not cached; writes may be combined. On arm64, Normal-NC.
    WriteCombining = 1,
    /// Anything else.
    Other = 2,
}

impl From<u32> for MemoryType {
    fn from(raw: u32) -> Self {
        match raw {
            0 => Self::WriteBack,
            1 => Self::WriteCombining,
            _ => Self::Other,
        }
    }
}

/// Memory types of a page of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attrs {
    /// Of this process's mapping.
    pub user: MemoryType,
    /// Of the kernel's linear map.
    pub linear: MemoryType,
}

/// The cache model, one for all devices of the test importer.
///
/// It tracks pages: what is mapped for a device of one of the cache models,
/// and what [`track`](Self::track) says. It does not hold them: call
/// [`reset`](Self::reset) after the last unmap and before a buffer goes.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    fd: BorrowedFd<'a>,
}

impl<'a> Model<'a> {
    pub(crate) fn new(fd: BorrowedFd<'a>) -> Self {
        Self { fd }
    }

    fn run(&self, op: u32, addr: u64, len: u64) -> Result<uapi::Model, Errno> {
        let mut model = uapi::Model {
            op,
            addr,
            len,
            ..uapi::Model::default()
        };
        sys::model(self.fd, &mut model)?;
        Ok(model)
    }

    /// What was counted.
    pub fn counts(&self) -> Result<Counts, Errno> {
        let model = self.run(uapi::MODEL_COUNTS, 0, 0)?;
        Ok(Counts {
            clean_bytes: model.clean_bytes,
            clean_calls: model.clean_calls,
            invalidate_bytes: model.invalidate_bytes,
            invalidate_calls: model.invalidate_calls,
            to_bounce_bytes: model.to_bounce_bytes,
            to_bounce_calls: model.to_bounce_calls,
            from_bounce_bytes: model.from_bounce_bytes,
            from_bounce_calls: model.from_bounce_calls,
            wb_bytes: model.wb_bytes,
            drop_bytes: model.drop_bytes,
        })
    }

    /// Counts from zero again.
    pub fn zero_counts(&self) -> Result<(), Errno> {
        self.run(uapi::MODEL_ZERO_COUNTS, 0, 0).map(drop)
    }

    /// Forgets all pages and what was counted. `EBUSY` while a device with
    /// `dma_map_ops` of its own has a mapping.
    pub fn reset(&self) -> Result<(), Errno> {
        self.run(uapi::MODEL_RESET, 0, 0).map(drop)
    }

    /// Writes all dirty lines to memory, as a cache may do at any time.
    pub fn evict(&self) -> Result<(), Errno> {
        self.run(uapi::MODEL_EVICT, 0, 0).map(drop)
    }

    /// Reads all clean lines from memory again, as a cache may do at any time.
    /// What the CPU writes to a buffer meanwhile could be lost.
    pub fn drop_clean(&self) -> Result<(), Errno> {
        self.run(uapi::MODEL_DROP_CLEAN, 0, 0).map(drop)
    }

    /// Tracks pages of a dma-buf that this process has mapped; both numbers are
    /// multiples of the page size.
    pub fn track(&self, addr: *const u8, len: usize) -> Result<(), Errno> {
        self.run(uapi::MODEL_TRACK, addr.addr() as u64, len as u64)
            .map(drop)
    }

    /// Memory types of a page of a dma-buf that this process has mapped.
    pub fn attrs(&self, addr: *const u8) -> Result<Attrs, Errno> {
        let model = self.run(uapi::MODEL_ATTRS, addr.addr() as u64, 0)?;
        Ok(Attrs {
            user: model.user_type.into(),
            linear: model.linear_type.into(),
        })
    }
}
