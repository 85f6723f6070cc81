// SPDX-License-Identifier: GPL-2.0

//! References into mapped memory.
//!
//! What they rest on: nobody else in this process has a reference to the same bytes that
//! would exclude them, nor writes there, nor has the kernel do it, for which `claims` has a
//! list of the buffer. Devices and other processes are not in that list. A window of CPU
//! access is what orders them: they get the bytes when it is over, and whoever writes into a
//! buffer while another has a window breaks the contract of dma-bufs. A program that shares
//! buffers with those whom it does not trust copies, by [`Mapping`](crate::Mapping), and has no
//! slices.

use core::marker::PhantomData;
use core::slice;

use rustix::io::Errno;

use super::Pages;
use super::claims::{Claim, Use};

/// Rows of bytes of a mapping, claimed.
#[derive(Debug)]
struct Rows<'a> {
    pages: &'a Pages,
    /// Where the first one begins in the mapping.
    first: usize,
    length: usize,
    stride: usize,
    rows: usize,
    _claim: Claim,
}

impl<'a> Rows<'a> {
    /// What is claimed is of the buffer, of which the mapping begins at `mapped_from`.
    fn new(pages: &'a Pages, mapped_from: u64, claim: Claim, what: Use) -> Result<Self, Errno> {
        if claim.what() != what {
            return Err(Errno::INVAL);
        }
        let span = claim.span();
        let mapped_to = mapped_from.saturating_add(pages.len() as u64);
        let end = span.end().ok_or(Errno::RANGE)?;
        let first = span.offset.checked_sub(mapped_from).ok_or(Errno::RANGE)?;
        if end > mapped_to {
            return Err(Errno::RANGE);
        }
        // They fit, as their sum is within the mapping; but the stride of a single row.
        let number = |value: u64| usize::try_from(value).map_err(|_| Errno::RANGE);
        Ok(Self {
            first: number(first)?,
            length: number(span.length)?,
            stride: if span.rows == 1 {
                0
            } else {
                number(span.stride)?
            },
            rows: number(span.rows)?,
            _claim: claim,
            pages,
        })
    }

    fn start(&self, row: usize) -> Option<*mut u8> {
        (row < self.rows).then(|| {
            self.pages
                .as_ptr()
                .wrapping_add(self.first + row * self.stride)
        })
    }
}

/// Bytes to read.
#[derive(Debug)]
pub(crate) struct Bytes<'a>(Rows<'a>);

impl<'a> Bytes<'a> {
    pub(crate) fn new(pages: &'a Pages, mapped_from: u64, claim: Claim) -> Result<Self, Errno> {
        Rows::new(pages, mapped_from, claim, Use::Slice).map(Self)
    }

    pub(crate) fn rows(&self) -> usize {
        self.0.rows
    }

    pub(crate) fn row(&self, row: usize) -> Option<&[u8]> {
        let start = self.0.start(row)?;
        // SAFETY: the row lies in the mapping, which the borrow of `Pages` keeps, by the
        // check in `Rows::new`; nobody in this process writes to it, or has the kernel do
        // it, by the claim.
        Some(unsafe { slice::from_raw_parts(start, self.0.length) })
    }
}

/// Bytes to write. The pages must be mapped so.
#[derive(Debug)]
pub(crate) struct BytesMut<'a>(Rows<'a>);

impl<'a> BytesMut<'a> {
    pub(crate) fn new(pages: &'a Pages, mapped_from: u64, claim: Claim) -> Result<Self, Errno> {
        if !pages.is_writable() {
            return Err(Errno::ACCESS);
        }
        Rows::new(pages, mapped_from, claim, Use::SliceMut).map(Self)
    }

    pub(crate) fn rows(&self) -> usize {
        self.0.rows
    }

    pub(crate) fn row(&self, row: usize) -> Option<&[u8]> {
        let start = self.0.start(row)?;
        // SAFETY: as in `Bytes::row`; the references of this type itself borrow it.
        Some(unsafe { slice::from_raw_parts(start, self.0.length) })
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> Option<&mut [u8]> {
        let start = self.0.start(row)?;
        // SAFETY: the row lies in the mapping, which is writable; nobody else in this
        // process has a reference to it, or has the kernel write there, by the claim and
        // the borrow of `self`.
        Some(unsafe { slice::from_raw_parts_mut(start, self.0.length) })
    }

    pub(crate) fn rows_mut(&mut self) -> RowsMut<'_> {
        RowsMut {
            start: self.0.pages.as_ptr().wrapping_add(self.0.first),
            length: self.0.length,
            stride: self.0.stride,
            left: self.0.rows,
            _borrow: PhantomData,
        }
    }
}

/// The rows of a window, to write into them.
#[derive(Debug)]
pub struct RowsMut<'w> {
    start: *mut u8,
    length: usize,
    stride: usize,
    left: usize,
    _borrow: PhantomData<&'w mut [u8]>,
}

// SAFETY: as `&mut [u8]`, which it hands out.
unsafe impl Send for RowsMut<'_> {}
// SAFETY: a shared reference to it can do nothing with the memory.
unsafe impl Sync for RowsMut<'_> {}

impl<'w> Iterator for RowsMut<'w> {
    type Item = &'w mut [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let start = self.start;
        self.start = start.wrapping_add(self.stride);
        // SAFETY: as in `BytesMut::row_mut`, which `'w` borrows; each row is given once,
        // and rows do not overlap, as the stride is not below the length.
        Some(unsafe { slice::from_raw_parts_mut(start, self.length) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for RowsMut<'_> {}
