// SPDX-License-Identifier: GPL-2.0

//! Windows of CPU access (`DMA_BUF_IOCTL_SYNC`, and `COHBUF_IOCTL_SYNC` of a region).

use std::sync::Arc;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;

use crate::device::Device;
use crate::error::{Operation, Result, during};
use crate::region::{Region, SyncCost};
use crate::sys::claims::{Claim, Claims, Extent, Opening, Span};
use crate::{sys, uapi};

/// What the CPU does in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    fn bits(self) -> u64 {
        match self {
            Access::Read => uapi::SYNC_READ,
            Access::Write => uapi::SYNC_WRITE,
            Access::ReadWrite => uapi::SYNC_READ | uapi::SYNC_WRITE,
        }
    }

    pub(crate) fn writes(self) -> bool {
        self != Access::Read
    }
}

/// A window in which the CPU sees what devices wrote; when it ends, devices see
/// what the CPU wrote.
///
/// Dropping it ends the window too, but cannot report an error; [`end`] can.
///
/// [`end`]: CpuAccess::end
#[derive(Debug)]
#[must_use = "the window ends when this is dropped"]
pub struct CpuAccess<'a> {
    fd: BorrowedFd<'a>,
    access: Access,
    opening: Opening,
}

impl<'a> CpuAccess<'a> {
    /// `claims`: those of the buffer.
    pub(crate) fn begin_of(
        fd: BorrowedFd<'a>,
        claims: &Arc<Claims>,
        access: Access,
    ) -> Result<Self> {
        let opening = claims.begin(Extent::Buffer, access.writes());
        Self::started(fd, access, opening.map_err(during(Operation::Begin))?)
    }

    /// With a claim to slices, to be written where `access` writes.
    pub(crate) fn begin_slices(
        fd: BorrowedFd<'a>,
        claims: &Arc<Claims>,
        access: Access,
        span: Span,
    ) -> Result<(Self, Claim)> {
        let (opening, claim) = claims
            .begin_slices(Extent::Buffer, access.writes(), span)
            .map_err(during(Operation::Begin))?;
        Ok((Self::started(fd, access, opening)?, claim))
    }

    fn started(fd: BorrowedFd<'a>, access: Access, mut opening: Opening) -> Result<Self> {
        opening
            .start(|| sync(fd, uapi::SYNC_START | access.bits()))
            .map_err(during(Operation::Begin))?;
        Ok(Self {
            fd,
            access,
            opening,
        })
    }

    /// Ends the window.
    pub fn end(mut self) -> Result<()> {
        self.finish().map_err(during(Operation::End))
    }

    /// Nothing the second time.
    fn finish(&mut self) -> core::result::Result<(), Errno> {
        match self.opening.leave() {
            // What this has begun, or shares, is of the buffer.
            Some(_) => sync(self.fd, uapi::SYNC_END | self.access.bits()),
            None => Ok(()),
        }
    }
}

impl Drop for CpuAccess<'_> {
    fn drop(&mut self) {
        // Nobody to tell: whoever wants to know calls end().
        let _ = self.finish();
    }
}

/// The same of a region: only the cache lines that it touches are maintained.
///
/// It counts what that cost. Dropping it ends the window too, but cannot report an
/// error nor the cost; [`end`] can.
///
/// [`end`]: RegionAccess::end
#[derive(Debug)]
#[must_use = "the window ends when this is dropped"]
pub struct RegionAccess<'a> {
    device: BorrowedFd<'a>,
    buffer: BorrowedFd<'a>,
    access: Access,
    begin_cost: SyncCost,
    opening: Opening,
}

impl<'a> RegionAccess<'a> {
    /// `claims`: those of the buffer.
    pub(crate) fn begin_of(
        device: &'a Device,
        buffer: BorrowedFd<'a>,
        claims: &Arc<Claims>,
        access: Access,
        region: Region,
    ) -> Result<Self> {
        let opening = claims.begin(Extent::Region(region), access.writes());
        let opening = opening.map_err(during(Operation::Begin))?;
        Self::started(device, buffer, access, region, opening)
    }

    /// With a claim to slices, to be written where `access` writes.
    pub(crate) fn begin_slices(
        device: &'a Device,
        buffer: BorrowedFd<'a>,
        claims: &Arc<Claims>,
        access: Access,
        region: Region,
        span: Span,
    ) -> Result<(Self, Claim)> {
        let (opening, claim) = claims
            .begin_slices(Extent::Region(region), access.writes(), span)
            .map_err(during(Operation::Begin))?;
        let this = Self::started(device, buffer, access, region, opening)?;
        Ok((this, claim))
    }

    fn started(
        device: &'a Device,
        buffer: BorrowedFd<'a>,
        access: Access,
        region: Region,
        mut opening: Opening,
    ) -> Result<Self> {
        let device = device.as_fd();
        let flags = uapi::SYNC_START | access.bits();
        let mut begin_cost = SyncCost::default();
        let start = || {
            begin_cost = sync_region(device, buffer, flags, region)?;
            Ok(())
        };
        opening.start(start).map_err(during(Operation::Begin))?;
        Ok(Self {
            device,
            buffer,
            access,
            begin_cost,
            opening,
        })
    }

    /// What it cost to open the window.
    pub fn begin_cost(&self) -> SyncCost {
        self.begin_cost
    }

    /// Ends the window, and says what that cost.
    pub fn end(mut self) -> Result<SyncCost> {
        self.finish().map_err(during(Operation::End))
    }

    /// Nothing the second time.
    fn finish(&mut self) -> core::result::Result<SyncCost, Errno> {
        let flags = uapi::SYNC_END | self.access.bits();
        match self.opening.leave() {
            Some(Extent::Region(region)) => sync_region(self.device, self.buffer, flags, region),
            // Shared with who did not ask for a region.
            Some(Extent::Buffer) => sync(self.buffer, flags).map(|()| SyncCost::default()),
            None => Ok(SyncCost::default()),
        }
    }
}

impl Drop for RegionAccess<'_> {
    fn drop(&mut self) {
        // Nobody to tell: whoever wants to know calls end().
        let _ = self.finish();
    }
}

/// An ioctl that a signal interrupted has done nothing.
fn sync_region(
    device: BorrowedFd<'_>,
    buffer: BorrowedFd<'_>,
    flags: u64,
    region: Region,
) -> core::result::Result<SyncCost, Errno> {
    loop {
        let mut sync = uapi::RegionSync {
            fd: buffer.as_raw_fd(),
            flags,
            ..region.to_raw()
        };
        match sys::sync_region(device, &mut sync) {
            Ok(()) => return Ok(sync.into()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// A signal or a busy reservation lock asks for another try.
fn sync(fd: BorrowedFd<'_>, flags: u64) -> core::result::Result<(), Errno> {
    loop {
        match sys::sync(fd, flags) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            result => return result,
        }
    }
}
