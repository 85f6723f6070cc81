// SPDX-License-Identifier: GPL-2.0

//! Windows of CPU access (`DMA_BUF_IOCTL_SYNC`).

use core::mem::ManuallyDrop;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

use crate::error::{Operation, Result, during};
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
    pub(crate) fn begin(fd: &'a impl AsFd, access: Access) -> Result<Self> {
        let fd = fd.as_fd();
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

/// A signal or a busy reservation lock asks for another try.
fn sync(fd: BorrowedFd<'_>, flags: u64) -> core::result::Result<(), Errno> {
    loop {
        match sys::sync(fd, flags) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            result => return result,
        }
    }
}
