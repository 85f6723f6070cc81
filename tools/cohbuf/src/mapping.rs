// SPDX-License-Identifier: GPL-2.0

//! A buffer in this process's address space.

use std::sync::Arc;

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::error::{Error, Operation, Result, during};
use crate::sys::Pages;
use crate::sys::claims::{Claim, Claims, Span, Use};
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
#[derive(Debug)]
pub struct Mapping {
    pages: Pages,
    /// Where it begins in the buffer.
    offset: u64,
    claims: Arc<Claims>,
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
        let claims = Claims::of(fd).map_err(during(Operation::Map))?;
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
        let _claim = self.claim(offset, bytes.len(), Use::CopyOut)?;
        self.pages
            .read(offset, bytes)
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
        let _claim = self.claim(offset, bytes.len(), Use::CopyIn)?;
        self.pages
            .write(offset, bytes)
            .map_err(during(Operation::Access))
    }

    /// The address, for code that is not in Rust. It is good while this lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.pages.as_ptr()
    }

    /// Nothing, where there are no bytes.
    fn claim(&self, offset: usize, len: usize, what: Use) -> Result<Option<Claim>> {
        let span = Span::linear(self.offset.saturating_add(offset as u64), len as u64);
        if span.end().is_none() {
            return Ok(None);
        }
        let claim = self.claims.claim(span, what);
        claim.map(Some).map_err(during(Operation::Access))
    }

    pub(crate) fn slices(&self, span: Option<Span>) -> Result<Bytes<'_>> {
        let span = span.unwrap_or_else(|| self.span());
        Bytes::new(&self.pages, self.offset, &self.claims, span).map_err(during(Operation::Begin))
    }

    pub(crate) fn slices_mut(&mut self, span: Option<Span>) -> Result<BytesMut<'_>> {
        let span = span.unwrap_or_else(|| self.span());
        BytesMut::new(&self.pages, self.offset, &self.claims, span)
            .map_err(during(Operation::Begin))
    }

    fn span(&self) -> Span {
        Span::linear(self.offset, self.len() as u64)
    }
}
