// SPDX-License-Identifier: GPL-2.0

//! One dma-buf, of cohbuf or of any other exporter.

use std::ffi::CString;
use std::sync::{Arc, OnceLock};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{SeekFrom, fstatfs, seek};
use rustix::io::Errno;

use crate::access::{Access, CpuAccess};
use crate::error::{Error, Operation, Result, during};
use crate::mapping::{Mapping, Protection};
use crate::sys::{self, claims::Claims};
use crate::uapi::DMA_BUF_MAGIC;
use crate::view::View;

/// A dma-buf and its size.
#[derive(Debug)]
pub struct Buffer {
    fd: OwnedFd,
    size: u64,
    claims: OnceLock<Arc<Claims>>,
}

impl Buffer {
    pub(crate) fn new(fd: OwnedFd, size: u64) -> Self {
        Self {
            fd,
            size,
            claims: OnceLock::new(),
        }
    }

    fn claims(&self) -> core::result::Result<&Arc<Claims>, Errno> {
        match self.claims.get() {
            Some(claims) => Ok(claims),
            None => {
                let claims = Claims::of(self.fd.as_fd())?;
                Ok(self.claims.get_or_init(|| claims))
            }
        }
    }

    /// Bytes that the buffer has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Maps the whole buffer, to read and to write.
    pub fn map(&self) -> Result<Mapping> {
        self.map_range(0, self.size, Protection::ReadWrite)
    }

    /// Maps `len` bytes from `offset`, a multiple of the page size.
    pub fn map_range(&self, offset: u64, len: u64, protection: Protection) -> Result<Mapping> {
        let claims = self.claims().map_err(during(Operation::Map))?;
        Mapping::new(self.fd.as_fd(), claims.clone(), offset, len, protection)
    }

    /// Maps the whole buffer, for windows that hand out slices.
    ///
    /// # Errors
    ///
    /// `EACCES`: the descriptor is read-only. `EIO`: the buffer is poisoned.
    pub fn view(&self) -> Result<View<'_>> {
        self.view_range(0, self.size, Protection::ReadWrite)
    }

    /// The same of `len` bytes from `offset`, a multiple of the page size.
    ///
    /// # Errors
    ///
    /// Those of [`view`](Self::view); and `EINVAL`: not inside of the buffer, or not from a
    /// page on.
    pub fn view_range(&self, offset: u64, len: u64, protection: Protection) -> Result<View<'_>> {
        let mapping = self.map_range(offset, len, protection)?;
        Ok(View::new(self.fd.as_fd(), mapping))
    }

    /// Gives the buffer a name, which the kernel shows beside it (`DMA_BUF_SET_NAME`).
    ///
    /// # Errors
    ///
    /// `EINVAL`: the name has more than 31 bytes, or a NUL.
    pub fn set_name(&self, name: &str) -> Result<()> {
        CString::new(name)
            .map_err(|_| Errno::INVAL)
            .and_then(|name| sys::set_name(self.fd.as_fd(), &name))
            .map_err(during(Operation::Name))
    }

    /// Opens a window of CPU access. It waits for the devices that use the
    /// buffer, then does what makes their writes visible.
    ///
    /// [`Device::cpu_access_region`](crate::Device::cpu_access_region) does the
    /// same for a part of the buffer.
    ///
    /// # Errors
    ///
    /// `EIO`: the buffer is poisoned. `EBUSY`: a window of a [`View`] hands out a slice, which
    /// this might change: see [there](View#windows-beside-each-other). `ENOMEM`, `ENOSPC`: no
    /// room for one more window.
    pub fn cpu_access(&self, access: Access) -> Result<CpuAccess<'_>> {
        let claims = self.claims().map_err(during(Operation::Begin))?;
        CpuAccess::begin_of(self.fd.as_fd(), claims, access)
    }

    /// Gives the file descriptor away.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl TryFrom<OwnedFd> for Buffer {
    type Error = Error;

    /// Takes a file descriptor that came from somewhere else, and asks it for
    /// its size.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is not a dma-buf.
    fn try_from(fd: OwnedFd) -> Result<Self> {
        // Of any exporter: they are all files of one file system, and of no other.
        let size = match fstatfs(&fd) {
            Ok(of) if u64::try_from(of.f_type) == Ok(DMA_BUF_MAGIC) => seek(&fd, SeekFrom::End(0)),
            Ok(_) => Err(Errno::INVAL),
            Err(errno) => Err(errno),
        };
        let size = size.map_err(during(Operation::Size))?;
        Ok(Self::new(fd, size))
    }
}

impl AsFd for Buffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Buffer> for OwnedFd {
    fn from(buffer: Buffer) -> Self {
        buffer.fd
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    #[test]
    fn what_is_no_dma_buf_is_refused() {
        let memory = memfd_create("buffer", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, 8192).unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        for fd in [
            memory,
            File::open("/proc/self/exe").unwrap().into(),
            File::open("/dev/null").unwrap().into(),
            socket.into(),
        ] {
            let error = Buffer::try_from(fd).unwrap_err();
            assert_eq!(error.operation(), Operation::Size);
            assert_eq!(error.errno(), Errno::INVAL);
            assert_eq!(error.hint(), Some("the file descriptor is not a dma-buf"));
        }
    }
}
