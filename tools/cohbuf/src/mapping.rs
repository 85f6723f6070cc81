// SPDX-License-Identifier: GPL-2.0

//! A buffer in this process's address space.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::error::{Error, Operation, Result, during};
use crate::sys::Pages;

/// What a mapping can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// To read only.
    Read,
    /// To read and to write.
    ReadWrite,
}

/// Part of a buffer, or all of it. Unmapped when dropped; it may outlive the
/// [`Buffer`](crate::Buffer), whose memory it keeps.
///
/// Devices and other processes may change the memory at any time, so there is
/// no slice of it: [`read`](Self::read) and [`write`](Self::write) copy.
#[derive(Debug)]
pub struct Mapping {
    pages: Pages,
    protection: Protection,
}

impl Mapping {
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        protection: Protection,
    ) -> Result<Self> {
        let bytes =
            usize::try_from(len).map_err(|_| Error::new(Operation::Map, Errno::OVERFLOW))?;
        let pages = Pages::map(fd, offset, bytes, protection == Protection::ReadWrite)
            .map_err(during(Operation::Map))?;
        Ok(Self { pages, protection })
    }

    /// Bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the kernel maps no empty range"
    )]
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Copies bytes out, from `offset` of the mapping on.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        self.pages.read(offset, bytes);
        Ok(())
    }

    /// Copies all of it out.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.pages.read(0, &mut bytes);
        bytes
    }

    /// Copies bytes in, to `offset` of the mapping on.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        if self.protection == Protection::Read {
            return Err(Error::new(Operation::Access, Errno::ACCESS));
        }
        self.pages.write(offset, bytes);
        Ok(())
    }

    /// The address, for code that is not in Rust. It is good while this lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.pages.as_ptr()
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(Error::new(Operation::Access, Errno::RANGE)),
        }
    }
}
