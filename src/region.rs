// SPDX-License-Identifier: GPL-2.0

//! Regions of a buffer (R9), and the cache lines that they touch.
//!
//! Pure, as `policy.rs`: `core` alone, compiled into the tests on the host as well.

use core::ops::Range;

/// How a region lies in a buffer: `enum cohbuf_layout`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The whole buffer.
    Whole,
    /// A range of bytes.
    Linear,
    /// Rows of bytes, a stride apart.
    Rows,
}

/// A region, not empty, that lies in its buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// Where the first row begins.
    offset: usize,
    /// Bytes of a row; above 0.
    length: usize,
    /// Bytes from a row to the next, at least `length`.
    stride: usize,
    /// Rows; above 0.
    rows: usize,
}

/// The numbers do not describe a region of the buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

impl Region {
    /// All of a buffer of `size` bytes, which is above 0.
    pub(crate) const fn whole(size: usize) -> Self {
        Self {
            offset: 0,
            length: size,
            stride: size,
            rows: 1,
        }
    }

    /// What an ioctl says, of a buffer of `size` bytes. Fields that `layout` does not use are 0.
    pub(crate) fn new(
        layout: Layout,
        offset: u64,
        length: u64,
        stride: u64,
        rows: u64,
        size: usize,
    ) -> Result<Self, Invalid> {
        let of = |number: u64| usize::try_from(number).map_err(|_| Invalid);
        let (offset, length, stride, rows) = (of(offset)?, of(length)?, of(stride)?, of(rows)?);
        let region = match layout {
            Layout::Whole if (offset, length, stride, rows) == (0, 0, 0, 0) => Self::whole(size),
            Layout::Linear if stride == 0 && rows == 0 => Self {
                offset,
                length,
                stride: length,
                rows: 1,
            },
            Layout::Rows if stride >= length => Self {
                offset,
                length,
                stride,
                rows,
            },
            _ => return Err(Invalid),
        };
        if region.length == 0 || region.rows == 0 {
            return Err(Invalid);
        }
        match region.end() {
            Some(end) if end <= size => Ok(region.plain()),
            _ => Err(Invalid),
        }
    }

    fn end(&self) -> Option<usize> {
        (self.rows - 1)
            .checked_mul(self.stride)?
            .checked_add(self.offset)?
            .checked_add(self.length)
    }

    /// Rows without a gap are one row, so that equal regions are equal.
    fn plain(self) -> Self {
        if self.rows > 1 && self.stride > self.length {
            return self;
        }
        let length = self.length * self.rows;
        Self {
            length,
            stride: length,
            rows: 1,
            ..self
        }
    }

    /// Bytes that the region has.
    pub(crate) const fn bytes(&self) -> usize {
        self.length * self.rows
    }

    /// From its first byte to its last, with what lies between rows.
    pub(crate) const fn bounds(&self) -> Range<usize> {
        self.offset..self.offset + (self.rows - 1) * self.stride + self.length
    }

    /// Each row, in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Range<usize>> + Clone {
        let Self {
            offset,
            length,
            stride,
            rows,
        } = *self;
        (0..rows).map(move |row| {
            let start = offset + row * stride;
            start..start + length
        })
    }

    /// The region in units of `line` bytes, a power of two, none of them twice: ranges in order
    /// that neither overlap nor touch each other, and end with the buffer at the latest.
    pub(crate) fn lines(&self, line: usize, size: usize) -> Lines<impl Iterator<Item = Range<usize>> + Clone> {
        Lines {
            rows: self.rows().map(move |row| {
                let end = (row.end + line - 1) & !(line - 1);
                row.start & !(line - 1)..if end < size { end } else { size }
            }),
            next: None,
        }
    }

    /// Whether all of `other` lies in the region.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        let mut rows = self.rows();
        let mut mine = rows.next();
        other.rows().all(|theirs| {
            while let Some(row) = &mine {
                if row.end > theirs.start {
                    break;
                }
                mine = rows.next();
            }
            mine.as_ref()
                .is_some_and(|row| row.start <= theirs.start && theirs.end <= row.end)
        })
    }

    /// Whether the region has a byte of `range`.
    pub(crate) const fn touches(&self, range: &Range<usize>) -> bool {
        let bounds = self.bounds();
        if range.start >= range.end || range.end <= bounds.start || range.start >= bounds.end {
            return false;
        }
        // The first row that ends behind the start of the range.
        let row = if range.start < self.offset + self.length {
            0
        } else {
            (range.start - self.offset - self.length) / self.stride + 1
        };
        row < self.rows && self.offset + row * self.stride < range.end
    }
}

/// See [`Region::lines`].
#[derive(Clone)]
pub(crate) struct Lines<I> {
    rows: I,
    next: Option<Range<usize>>,
}

impl<I: Iterator<Item = Range<usize>>> Iterator for Lines<I> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let mut range = self.next.take().or_else(|| self.rows.next())?;
        for row in self.rows.by_ref() {
            if row.start > range.end {
                self.next = Some(row);
                break;
            }
            // Rows are in order, and so are their ends.
            range.end = row.end;
        }
        Some(range)
    }
}

/// What is in `from` and in none of `without`, both in order and without overlap.
pub(crate) fn subtract(
    from: impl Iterator<Item = Range<usize>>,
    without: impl Iterator<Item = Range<usize>>,
    mut each: impl FnMut(Range<usize>),
) {
    let mut without = without.peekable();
    for mut range in from {
        while range.start < range.end {
            match without.peek() {
                Some(hole) if hole.end <= range.start => {
                    without.next();
                }
                Some(hole) if hole.start < range.end => {
                    if range.start < hole.start {
                        each(range.start..hole.start);
                    }
                    range.start = hole.end;
                }
                _ => {
                    each(range.clone());
                    break;
                }
            }
        }
    }
}

/// What is in both, each in order and without overlap.
pub(crate) fn intersect(
    a: impl Iterator<Item = Range<usize>>,
    b: impl Iterator<Item = Range<usize>>,
    mut each: impl FnMut(Range<usize>),
) {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let (start, end) = (x.start.max(y.start), x.end.min(y.end));
        if start < end {
            each(start..end);
        }
        if x.end <= y.end {
            a.next();
        } else {
            b.next();
        }
    }
}
