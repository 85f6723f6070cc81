// SPDX-License-Identifier: GPL-2.0

//! In which pieces and in which order a region is copied (R12), so that the result is that of a
//! copy at one go.
//!
//! Pure, as `region.rs`: `core` alone, compiled into the tests on the host as well.

use crate::region::{
    Invalid,
    Layout,
    Region, //
};

/// What is to be copied: the numbers of `struct cohbuf_copy`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) layout: Layout,
    pub(crate) src_offset: u64,
    pub(crate) dst_offset: u64,
    pub(crate) src_stride: u64,
    pub(crate) dst_stride: u64,
    pub(crate) length: u64,
    pub(crate) rows: u64,
}

/// Where pieces go that have been read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// To their place, from the first byte on.
    Forward,
    /// To their place, from the last byte back: the destination lies behind what it overlaps.
    Backward,
    /// To memory of nobody else's, and to their place when all have been read. The rows of two
    /// strides cross each other, so that no order of them is right.
    Staged,
}

/// Bytes that are next to each other on both sides.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) src: usize,
    pub(crate) dst: usize,
    pub(crate) len: usize,
}

/// Where the rows of one side are.
#[derive(Copy, Clone, Debug)]
struct Side {
    offset: usize,
    stride: usize,
    region: Region,
}

/// A copy from a region to another one, both of which lie in their buffers.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Plan {
    src: Side,
    dst: Side,
    length: usize,
    rows: usize,
    order: Order,
}

impl Request {
    /// Whether there are buffers for which this could be a copy.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.sides(usize::MAX, usize::MAX).map(drop)
    }

    fn sides(&self, src_size: usize, dst_size: usize) -> Result<(Side, Side), Invalid> {
        let side = |offset: u64, stride: u64, size: usize| {
            let region = Region::new(self.layout, offset, self.length, stride, self.rows, size)?;
            // CAST: Both are numbers of `region`, or 0.
            let (offset, stride) = (offset as usize, stride as usize);
            Ok(Side {
                offset,
                stride,
                region,
            })
        };
        Ok((
            side(self.src_offset, self.src_stride, src_size)?,
            side(self.dst_offset, self.dst_stride, dst_size)?,
        ))
    }

    /// The copy between buffers of these sizes, `same` where both are one.
    pub(crate) fn plan(
        &self,
        src_size: usize,
        dst_size: usize,
        same: bool,
    ) -> Result<Plan, Invalid> {
        let (mut src, mut dst) = self.sides(src_size, dst_size)?;
        let bytes = src.region.bytes();
        // Of whole buffers of two sizes.
        if bytes != dst.region.bytes() {
            return Err(Invalid);
        }
        let (mut length, mut rows) = match self.layout {
            // CAST: Both are numbers of `src.region`.
            Layout::Rows => (self.length as usize, self.rows as usize),
            Layout::Whole | Layout::Linear => (bytes, 1),
        };
        // One row, as are rows without a gap on either side.
        if rows == 1 || (src.stride, dst.stride) == (length, length) {
            (length, rows) = (bytes, 1);
            (src.stride, dst.stride) = (bytes, bytes);
        }
        Ok(Plan {
            order: order(&src, &dst, same),
            src,
            dst,
            length,
            rows,
        })
    }
}

/// Rows count as overlapping where the space from the first byte to the last does: to look at each
/// of a billion rows would take as long as to copy them.
fn order(src: &Side, dst: &Side, same: bool) -> Order {
    let (from, to) = (src.region.bounds(), dst.region.bounds());
    if !same || from.end <= to.start || to.end <= from.start {
        Order::Forward
    } else if src.stride != dst.stride {
        Order::Staged
    } else if dst.offset <= src.offset {
        // Each byte goes to a lower address, all by the same distance: what is overwritten has been
        // read before.
        Order::Forward
    } else {
        Order::Backward
    }
}

impl Plan {
    /// Bytes to copy; above 0.
    pub(crate) const fn bytes(&self) -> usize {
        self.length * self.rows
    }

    /// What is read.
    pub(crate) const fn src(&self) -> &Region {
        &self.src.region
    }

    /// What is written.
    pub(crate) const fn dst(&self) -> &Region {
        &self.dst.region
    }

    pub(crate) const fn order(&self) -> Order {
        self.order
    }

    /// The piece that comes when `done` bytes have been copied, of at most `max` bytes, which is
    /// above 0. Inside of a piece bytes may overlap as well: it is moved as by `memmove()`.
    pub(crate) fn piece(&self, done: usize, max: usize) -> Option<Piece> {
        let left = self.bytes().checked_sub(done).filter(|&left| left > 0)?;
        let (row, column, len) = match self.order {
            Order::Forward | Order::Staged => {
                let column = done % self.length;
                let len = (self.length - column).min(max);
                (done / self.length, column, len)
            }
            Order::Backward => {
                let row = (left - 1) / self.length;
                let end = left - row * self.length;
                let len = end.min(max);
                (row, end - len, len)
            }
        };
        let at = |side: &Side| side.offset + row * side.stride + column;
        Some(Piece {
            src: at(&self.src),
            dst: at(&self.dst),
            len,
        })
    }
}
