// SPDX-License-Identifier: GPL-2.0

//! Regions of a buffer (R9), and the cache lines that they touch.
//!
//! Pure, as `policy.rs`: `core` alone, compiled into the tests on the host as well.

use core::{
    iter::Peekable,
    ops::Range, //
};

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
    pub(crate) fn lines(
        &self,
        line: usize,
        size: usize,
    ) -> Lines<impl Iterator<Item = Range<usize>> + Clone> {
        Lines {
            rows: self.rows().map(move |row| aligned(row, line, size)),
            next: None,
        }
    }

    /// The lines of the first row whose lines end behind `from`.
    pub(crate) fn lines_behind(
        &self,
        from: usize,
        line: usize,
        size: usize,
    ) -> Option<Range<usize>> {
        // A row whose own bytes end behind it has lines that do. Lines may reach farther than the
        // rows before it, by less than one.
        let first = from.saturating_sub(self.offset + self.length + line) / self.stride;
        (first..self.rows)
            .map(|row| {
                let start = self.offset + row * self.stride;
                aligned(start..start + self.length, line, size)
            })
            .find(|lines| lines.end > from)
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

fn aligned(bytes: Range<usize>, line: usize, size: usize) -> Range<usize> {
    let end = (bytes.end + line - 1) & !(line - 1);
    bytes.start & !(line - 1)..if end < size { end } else { size }
}

/// What is in ranges of one iterator and in none of another, both in order and without overlap.
#[derive(Clone)]
pub(crate) struct Without<A: Iterator<Item = Range<usize>>, B: Iterator<Item = Range<usize>>> {
    from: A,
    rest: Range<usize>,
    holes: Peekable<B>,
}

pub(crate) fn without<A, B>(from: A, holes: B) -> Without<A, B>
where
    A: Iterator<Item = Range<usize>>,
    B: Iterator<Item = Range<usize>>,
{
    Without {
        from,
        rest: 0..0,
        holes: holes.peekable(),
    }
}

impl<A, B> Iterator for Without<A, B>
where
    A: Iterator<Item = Range<usize>>,
    B: Iterator<Item = Range<usize>>,
{
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            if self.rest.is_empty() {
                self.rest = self.from.next()?;
                continue;
            }
            let rest = self.rest.clone();
            match self.holes.peek() {
                Some(hole) if hole.end <= rest.start => {
                    self.holes.next();
                }
                Some(hole) if hole.start < rest.end => {
                    self.rest.start = hole.end;
                    if rest.start < hole.start {
                        return Some(rest.start..hole.start);
                    }
                }
                _ => {
                    self.rest = 0..0;
                    return Some(rest);
                }
            }
        }
    }
}

/// What is in ranges of both iterators, each in order and without overlap.
#[derive(Clone)]
pub(crate) struct Within<A: Iterator<Item = Range<usize>>, B: Iterator<Item = Range<usize>>> {
    a: Peekable<A>,
    b: Peekable<B>,
}

pub(crate) fn within<A, B>(a: A, b: B) -> Within<A, B>
where
    A: Iterator<Item = Range<usize>>,
    B: Iterator<Item = Range<usize>>,
{
    Within {
        a: a.peekable(),
        b: b.peekable(),
    }
}

impl<A, B> Iterator for Within<A, B>
where
    A: Iterator<Item = Range<usize>>,
    B: Iterator<Item = Range<usize>>,
{
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let (a, b) = (self.a.peek()?, self.b.peek()?);
            let both = a.start.max(b.start)..a.end.min(b.end);
            if a.end <= b.end {
                self.a.next();
            } else {
                self.b.next();
            }
            if !both.is_empty() {
                return Some(both);
            }
        }
    }
}

/// What any of several regions has, in ranges of whole lines that neither overlap nor touch.
#[derive(Clone)]
pub(crate) struct Union<I> {
    regions: I,
    line: usize,
    size: usize,
    at: usize,
    until: usize,
}

/// The union of the regions that `regions` yields, each time that it is cloned.
pub(crate) fn union<'a, I>(regions: I, line: usize, size: usize) -> Union<I>
where
    I: Iterator<Item = &'a Region> + Clone,
{
    Union {
        regions,
        line,
        size,
        at: 0,
        until: size,
    }
}

impl<I> Union<I> {
    /// What of it matters to `range`, which is in whole lines or not: with many regions the rest
    /// takes long. The last range may end before the union does there.
    pub(crate) fn near(self, range: &Range<usize>) -> Self {
        Self {
            at: range.start,
            until: range.end,
            ..self
        }
    }
}

impl<'a, I: Iterator<Item = &'a Region> + Clone> Iterator for Union<I> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let (line, size) = (self.line, self.size);
        if self.at >= self.until {
            return None;
        }
        let behind = |at| {
            self.regions
                .clone()
                .filter_map(move |region| region.lines_behind(at, line, size))
        };
        let mut range = behind(self.at).min_by_key(|lines| lines.start)?;
        while range.end < self.until {
            let more = behind(range.end).filter(|lines| lines.start <= range.end);
            match more.map(|lines| lines.end).max() {
                Some(end) => range.end = end,
                None => break,
            }
        }
        self.at = range.end;
        Some(range)
    }
}
