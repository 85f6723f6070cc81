// SPDX-License-Identifier: GPL-2.0

//! Windows of CPU access (`DMA_BUF_IOCTL_SYNC`, and `COHBUF_IOCTL_SYNC` of a region).

use core::mem::ManuallyDrop;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::io::Errno;

use crate::device::Device;
use crate::error::{Operation, Result, during};
use crate::region::{Region, SyncCost};
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
}

impl<'a> CpuAccess<'a> {
    pub(crate) fn begin_of(fd: BorrowedFd<'a>, access: Access) -> Result<Self> {
        sync(fd, uapi::SYNC_START | access.bits()).map_err(during(Operation::Begin))?;
        Ok(Self { fd, access })
    }

    /// Ends the window.
    pub fn end(self) -> Result<()> {
        let this = ManuallyDrop::new(self);
        this.finish().map_err(during(Operation::End))
    }

    fn finish(&self) -> core::result::Result<(), Errno> {
        sync(self.fd, uapi::SYNC_END | self.access.bits())
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
    region: Region,
    begin_cost: SyncCost,
}

impl<'a> RegionAccess<'a> {
    pub(crate) fn begin_of(
        device: &'a Device,
        buffer: BorrowedFd<'a>,
        access: Access,
        region: Region,
    ) -> Result<Self> {
        let device = device.as_fd();
        let flags = uapi::SYNC_START | access.bits();
        let begin_cost =
            sync_region(device, buffer, flags, region).map_err(during(Operation::Begin))?;
        Ok(Self {
            device,
            buffer,
            access,
            region,
            begin_cost,
        })
    }

    /// What it cost to open the window.
    pub fn begin_cost(&self) -> SyncCost {
        self.begin_cost
    }

    /// Ends the window, and says what that cost.
    pub fn end(self) -> Result<SyncCost> {
        let this = ManuallyDrop::new(self);
        this.finish().map_err(during(Operation::End))
    }

    fn finish(&self) -> core::result::Result<SyncCost, Errno> {
        let flags = uapi::SYNC_END | self.access.bits();
        sync_region(self.device, self.buffer, flags, self.region)
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
