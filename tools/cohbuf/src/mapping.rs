// SPDX-License-Identifier: GPL-2.0

//! A buffer in this process's address space.

use std::sync::Arc;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::error::{Error, Operation, Result, during};
use crate::sys::Pages;
use crate::sys::claims::{Claim, Claims, Span};
use crate::sys::slices::{Bytes, BytesMut};

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
/// [`read`](Self::read) and [`write`](Self::write) copy. A [`View`](crate::View) hands out
/// slices instead, inside of windows.
///
/// Threads may use it at the same time. A copy in, and another copy of some of the same bytes,
/// take turns: whichever mapping of this process they are by, one waits for the other. Devices and
/// other processes do not wait. What they write meanwhile is copied as it is found, some old and
/// some new, but no byte is looked at twice.
#[derive(Debug)]
pub struct Mapping {
    pages: Pages,
    /// Where it begins in the buffer.
    offset: u64,
    claims: Arc<Claims>,
}

impl Mapping {
    /// `claims`: those of the buffer.
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        claims: Arc<Claims>,
        offset: u64,
        len: u64,
        protection: Protection,
    ) -> Result<Self> {
        let bytes =
            usize::try_from(len).map_err(|_| Error::new(Operation::Map, Errno::OVERFLOW))?;
        let pages = Pages::map(fd, offset, bytes, protection == Protection::ReadWrite)
            .map_err(during(Operation::Map))?;
        Ok(Self {
            pages,
            offset,
            claims,
        })
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
    ///
    /// # Errors
    ///
    /// `ERANGE`: they are not all inside. `EBUSY`: a window of a [`View`](crate::View) of this
    /// process hands them out to be written.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.pages
            .read(self.offset, &self.claims, offset, bytes)
            .map_err(during(Operation::Access))
    }

    /// Copies all of it out.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.len()];
        self.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies bytes in, to `offset` of the mapping on.
    ///
    /// # Errors
    ///
    /// `ERANGE`: they are not all inside. `EACCES`: the mapping is read-only. `EBUSY`: a
    /// window of a [`View`](crate::View) of this process hands out a slice of them.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.pages
            .write(self.offset, &self.claims, offset, bytes)
            .map_err(during(Operation::Access))
    }

    /// The address, for code that is not in Rust. It is good while this lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.pages.as_ptr()
    }

    pub(crate) fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// What is to be claimed for slices. [`None`]: of all.
    ///
    /// # Errors
    ///
    /// `ERANGE`: not all of it is here. `EACCES`: it is to be written, and cannot be.
    pub(crate) fn claimable(&self, span: Option<Span>, writes: bool) -> Result<Span> {
        let all = self.span();
        let span = span.unwrap_or(all);
        if !all.contains(&span) {
            return Err(Error::new(Operation::Begin, Errno::RANGE));
        }
        if writes && !self.pages.is_writable() {
            return Err(Error::new(Operation::Begin, Errno::ACCESS));
        }
        Ok(span)
    }

    pub(crate) fn slices(&self, claim: Claim) -> Result<Bytes<'_>> {
        Bytes::new(&self.pages, self.offset, claim).map_err(during(Operation::Begin))
    }

    pub(crate) fn slices_mut(&mut self, claim: Claim) -> Result<BytesMut<'_>> {
        BytesMut::new(&self.pages, self.offset, claim).map_err(during(Operation::Begin))
    }

    fn span(&self) -> Span {
        Span::linear(self.offset, self.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::thread;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    /// Memory of this process, in the place of a buffer.
    fn mapping(len: u64) -> Mapping {
        let fd = memfd_create("mapping", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, len).unwrap();
        let claims = Claims::of(fd.as_fd()).unwrap();
        Mapping::new(fd.as_fd(), claims, 0, len, Protection::ReadWrite).unwrap()
    }

    /// Two that race would show bytes of both, sooner or later.
    #[test]
    fn copies_of_threads_take_turns() {
        const LEN: usize = 64 << 10;
        const ROUNDS: usize = 200;
        let map = mapping(LEN as u64);
        thread::scope(|scope| {
            for value in [0x11, 0x22] {
                let map = &map;
                scope.spawn(move || {
                    let bytes = vec![value; LEN];
                    for _ in 0..ROUNDS {
                        map.write(0, &bytes).unwrap();
                    }
                });
            }
            let mut seen = vec![0; LEN];
            for _ in 0..ROUNDS {
                map.read(0, &mut seen).unwrap();
                let first = seen[0];
                assert!([0, 0x11, 0x22].contains(&first));
                let others = seen.iter().filter(|byte| **byte != first).count();
                assert_eq!(others, 0, "bytes of another copy");
            }
        });
        let last = map.to_vec().unwrap();
        assert!(last.iter().all(|byte| *byte == last[0]));
    }

    #[test]
    fn no_bytes_are_copied_up_to_the_end() {
        let map = mapping(8192);
        map.write(8192, &[]).unwrap();
        map.read(8192, &mut []).unwrap();
        assert_eq!(map.read(8193, &mut []).unwrap_err().errno(), Errno::RANGE);
        assert_eq!(map.write(8192, &[0]).unwrap_err().errno(), Errno::RANGE);
    }
}
