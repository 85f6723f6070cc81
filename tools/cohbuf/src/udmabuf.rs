// SPDX-License-Identifier: GPL-2.0

//! `/dev/udmabuf`: dma-bufs over memory of user space.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open,
};
use rustix::io::Errno;

use crate::buffer::Buffer;
use crate::error::{Operation, Result, during};
use crate::sys;
use crate::uapi::UdmabufCreate;

/// The open `/dev/udmabuf`, which makes a dma-buf of pages of a memfd.
///
/// Up to Linux 7.3 it does no cache maintenance for its importers: a device that does not
/// snoop sees old bytes in such a buffer, and nothing says so. START and END sync a mapping
/// of its own alone: with `swiotlb=force` a START writes old bytes over what a device wrote.
/// cohbuf does neither; this is for importers that take nothing else.
#[derive(Debug)]
pub struct Udmabuf {
    fd: OwnedFd,
}

impl Udmabuf {
    /// Where the device file is.
    pub const PATH: &'static str = "/dev/udmabuf";

    /// Opens the device file.
    ///
    /// # Errors
    ///
    /// `ENOENT`: the kernel has no udmabuf, or its module is not loaded. `EACCES`: the
    /// device file is not for this user.
    pub fn open() -> Result<Self> {
        let fd = open(Self::PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(during(Operation::Udmabuf))?;
        Ok(Self { fd })
    }

    /// Makes a buffer of at least `size` bytes, all zero.
    ///
    /// # Errors
    ///
    /// `EINVAL`: `size` is 0, or above the limit of the driver. `ENOMEM`: there is not that
    /// much memory.
    pub fn create(&self, size: u64) -> Result<Buffer> {
        let size = self.round_up(size).map_err(during(Operation::Udmabuf))?;
        let fd = self
            .create_pages(size)
            .map_err(during(Operation::Udmabuf))?;
        Ok(Buffer::new(fd, size))
    }

    fn round_up(&self, size: u64) -> core::result::Result<u64, Errno> {
        if size == 0 {
            return Err(Errno::INVAL);
        }
        size.checked_next_multiple_of(rustix::param::page_size() as u64)
            .ok_or(Errno::OVERFLOW)
    }

    fn create_pages(&self, size: u64) -> core::result::Result<OwnedFd, Errno> {
        let memory = memfd_create("cohbuf", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&memory, size)?;
        // udmabuf takes no memory that could shrink.
        fcntl_add_seals(&memory, SealFlags::SHRINK)?;
        let create = UdmabufCreate {
            flags: UdmabufCreate::CLOEXEC,
            size,
            ..UdmabufCreate::default()
        };
        sys::udmabuf_create(self.fd.as_fd(), memory.as_fd(), create)
    }
}

impl AsFd for Udmabuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Udmabuf {
    /// Takes a device file that is open already. That it is one shows at the first buffer.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<Udmabuf> for OwnedFd {
    fn from(udmabuf: Udmabuf) -> Self {
        udmabuf.fd
    }
}
