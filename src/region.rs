// SPDX-License-Identifier: GPL-2.0

//! Regions of a buffer (R9), and the cache lines that they touch.
//!
//! Pure, as `policy.rs`: `core` alone, compiled into the tests on the host as well.

use core::{
    iter::Peekable,
    ops::Range, //
};

/// Rows that a region may have whose rows are walked under the reservation lock.
pub(crate) const MOST_ROWS: usize = 32768;

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

    /// Whether it is all of its buffer, which is of `size` bytes.
    pub(crate) const fn is_whole(&self, size: usize) -> bool {
        // It lies in its buffer, so that there is room for no other.
        self.length == size
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

    /// Bytes from a row to the next; those of a row where there is one alone.
    #[allow(dead_code, reason = "the tests on the host have no use for it")]
    pub(crate) const fn stride(&self) -> usize {
        self.stride
    }

    /// How many rows it has, where rows without a gap are one.
    pub(crate) const fn height(&self) -> usize {
        self.rows
    }

    /// A region to maintain for this one: itself, or with what lies between its rows where they are
    /// more than [`MOST_ROWS`].
    pub(crate) const fn walkable(&self) -> Self {
        if self.rows <= MOST_ROWS {
            return *self;
        }
        let Range { start, end } = self.bounds();
        Self {
            offset: start,
            length: end - start,
            stride: end - start,
            rows: 1,
        }
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
    pub(crate) const fn lines(&self, line: usize, size: usize) -> Lines {
        Lines {
            region: *self,
            line,
            size,
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
        let first = self.strides(from.saturating_sub(self.offset + self.length + line));
        (first..self.rows)
            .map(|row| {
                let start = self.offset + row * self.stride;
                aligned(start..start + self.length, line, size)
            })
            .find(|lines| lines.end > from)
    }

    /// How many strides fit into so many bytes.
    fn strides(&self, bytes: usize) -> usize {
        // A stride is not 0, but the compiler does not know, and objtool does not know what it
        // calls for that.
        bytes.checked_div(self.stride).unwrap_or(0)
    }

    /// The number of the first row that ends behind `at`; as many as there are if none does.
    fn row_behind(&self, at: usize) -> usize {
        if at < self.offset + self.length {
            return 0;
        }
        let row = self.strides(at - self.offset - self.length) + 1;
        row.min(self.rows)
    }

    /// Whether all of `other` lies in the region. Takes as long as `other` has rows.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.bounds(), other.bounds());
        mine.start <= theirs.start
            && theirs.end <= mine.end
            && other.rows().all(|theirs| {
                // There is one, as all ends behind it.
                let start = self.offset + self.row_behind(theirs.start) * self.stride;
                start <= theirs.start && theirs.end <= start + self.length
            })
    }

    /// Whether the region has a byte of `range`.
    pub(crate) fn touches(&self, range: &Range<usize>) -> bool {
        let bounds = self.bounds();
        if range.start >= range.end || range.end <= bounds.start || range.start >= bounds.end {
            return false;
        }
        let row = self.row_behind(range.start);
        row < self.rows && self.offset + row * self.stride < range.end
    }
}

/// See [`Region::lines`].
#[derive(Clone)]
pub(crate) struct Lines {
    /// Of which rows are taken away, from the first on.
    region: Region,
    line: usize,
    size: usize,
}

impl Lines {
    /// The first range, the bytes from where one begins to where the next does, and how many there
    /// are, where all are as far apart and of the same length. [`None`]: they may not be.
    pub(crate) fn even(&self) -> Option<(Range<usize>, usize, usize)> {
        let Region {
            offset,
            length,
            stride,
            rows,
        } = self.region;
        if rows == 0 {
            return None;
        }
        let first = aligned(offset..offset + length, self.line, self.size);
        // A stride of whole lines takes those of one row to those of the next. So far apart they do
        // not meet, wherever rows begin.
        let apart = stride & (self.line - 1) == 0 && stride - length >= 2 * self.line;
        if rows > 1 && !(apart && first.end + (rows - 1) * stride <= self.size) {
            return None;
        }
        Some((first, stride, rows))
    }
}

impl Iterator for Lines {
    type Item = Range<usize>;

    #[inline(always)]
    fn next(&mut self) -> Option<Range<usize>> {
        let row = |of: &Self| {
            let start = of.region.offset;
            aligned(start..start + of.region.length, of.line, of.size)
        };
        if self.region.rows == 0 {
            return None;
        }
        let mut range = row(self);
        loop {
            self.region.rows -= 1;
            if self.region.rows == 0 {
                break;
            }
            self.region.offset += self.region.stride;
            // The lines of rows so far apart do not meet, wherever they begin.
            if self.region.stride - self.region.length >= 2 * self.line {
                break;
            }
            let next = row(self);
            if next.start > range.end {
                break;
            }
            // Rows are in order, and so are their ends.
            range.end = next.end;
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

/// Lines that [`Union`] looks at together.
const LINES: usize = 2048;

/// Which of [`LINES`] lines any of several regions has, one bit each.
#[derive(Clone)]
struct Chunk {
    start: usize,
    bits: [u64; LINES / 64],
}

impl Chunk {
    fn set(&mut self, lines: Range<usize>) {
        let mut at = lines.start;
        while at < lines.end {
            let bits = (lines.end - at).min(64 - at % 64);
            self.bits[at / 64] |= (u64::MAX >> (64 - bits)) << (at % 64);
            at += bits;
        }
    }

    /// The first line, from one on, which is in a region, or is not.
    fn find(&self, from: usize, in_region: bool) -> Option<usize> {
        let mut at = from;
        while at < LINES {
            let word = self.bits[at / 64];
            let wanted = if in_region { word } else { !word } >> (at % 64);
            if wanted != 0 {
                // CAST: At most 63.
                return Some(at + wanted.trailing_zeros() as usize);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

/// What any of several regions has, in ranges of whole lines that neither overlap nor touch.
///
/// Each region is asked once for each [`LINES`] lines, and not once for each range.
#[derive(Clone)]
pub(crate) struct Union<I> {
    regions: I,
    line: usize,
    size: usize,
    at: usize,
    until: usize,
    chunk: Option<Chunk>,
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
        chunk: None,
    }
}

impl<I> Union<I> {
    /// What of it is in the lines of `range`: with many regions the rest takes long.
    pub(crate) fn near(self, range: &Range<usize>) -> Self {
        let lines = aligned(range.clone(), self.line, self.size);
        Self {
            at: lines.start,
            until: lines.end,
            ..self
        }
    }
}

impl<'a, I: Iterator<Item = &'a Region> + Clone> Union<I> {
    /// The lines from one on.
    fn load(&self, start: usize) -> Chunk {
        let mut chunk = Chunk {
            start,
            bits: [0; LINES / 64],
        };
        let end = self.until.min(start.saturating_add(LINES * self.line));
        for region in self.regions.clone() {
            for row in region.row_behind(start)..region.rows {
                let from = region.offset + row * region.stride;
                if from >= end {
                    break;
                }
                let to = (from + region.length).min(end);
                let from = from.max(start) - start;
                chunk.set(from / self.line..(to - start).div_ceil(self.line));
            }
        }
        chunk
    }

    /// Where the first line begins, from `self.at` on, which any region has.
    fn first(&self) -> Option<usize> {
        let behind = |region: &Region| region.lines_behind(self.at, self.line, self.size);
        let first = self.regions.clone().filter_map(behind);
        first.map(|lines| lines.start.max(self.at)).min()
    }

    /// Where a line begins, from `self.at` on, which is in a region, or is not; in this chunk.
    fn next_line(&self, in_region: bool) -> Option<usize> {
        let chunk = self.chunk.as_ref()?;
        let line = chunk.find((self.at - chunk.start) / self.line, in_region)?;
        Some(chunk.start + line * self.line)
    }
}

impl<'a, I: Iterator<Item = &'a Region> + Clone> Iterator for Union<I> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.at >= self.until {
            return None;
        }
        let start = match self.next_line(true) {
            Some(start) => start,
            None => {
                if let Some(chunk) = self.chunk.take() {
                    self.at = chunk.start.saturating_add(LINES * self.line);
                }
                self.at = self.first()?;
                if self.at < self.until {
                    self.chunk = Some(self.load(self.at));
                }
                self.at
            }
        };
        self.at = start;
        while self.at < self.until {
            if let Some(end) = self.next_line(false) {
                self.at = end;
                break;
            }
            let next = self.chunk.as_ref()?.start.saturating_add(LINES * self.line);
            self.at = next;
            if next < self.until {
                self.chunk = Some(self.load(next));
            }
        }
        self.at = self.at.min(self.until);
        (start < self.at).then_some(start..self.at)
    }
}
