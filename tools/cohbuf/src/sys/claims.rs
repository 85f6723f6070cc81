// SPDX-License-Identifier: GPL-2.0

//! Who in this process holds references into the memory of a buffer, and who writes there.
//!
//! The same buffer may be mapped any number of times, so that the borrow checker alone
//! cannot tell that two slices are of the same bytes. As a `RefCell` does, this counts
//! at run time: one list for each buffer, whatever mapping its bytes are reached by.
//!
//! The kernel writes there, too, when this process tells it to. COPY does; and so does a START,
//! which fetches what a device has in a copy of its own, such as a bounce buffer. Even where
//! nothing is new it may write: where bytes of several devices are told apart, old ones come
//! back for a moment. So a START is claimed while it is under way, and does not go with slices
//! of bytes that it may move. It moves
//!
//! - by `DMA_BUF_IOCTL_SYNC`: any byte, whatever the exporter;
//! - by `COHBUF_IOCTL_SYNC`: whole cache lines of the region, but none that a window to write
//!   owns, whose slices can stay. (Beside a mapping that can only be synced as a whole it moves
//!   all that no window owns; no DMA ops of Linux 7.3 are like that.)
//!
//! An END moves none. Windows to read would exclude each other by this. But while one hands out
//! slices no device may write, so that there is nothing to fetch for another that wants the same
//! bytes: they share one START, and the END of the last is the END of all.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustix::fd::BorrowedFd;
use rustix::fs::fstat;
use rustix::io::Errno;

use crate::region::Region;

/// Cache lines are not longer than this, on any machine that the module runs on.
const LINE: u64 = 256;

/// Rows that COHBUF_IOCTL_SYNC takes.
const MAX_ROWS: u64 = 32768;

/// The file system and the inode of a buffer: the same for every descriptor of it.
type Key = (u64, u64);

static BUFFERS: LazyLock<Mutex<HashMap<Key, Weak<Claims>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is consistent between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of a buffer: rows of `length` bytes, `stride` apart. None of these is beyond
/// the address space, as they lie in a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) stride: u64,
    pub(crate) rows: u64,
}

impl Span {
    const ALL: Self = Self {
        offset: 0,
        length: u64::MAX,
        stride: u64::MAX,
        rows: 1,
    };

    /// [`None`]: it has no bytes, or they are beyond all numbers.
    pub(crate) fn of(region: Region) -> Option<Self> {
        let span = match region {
            Region::Whole => Self::ALL,
            Region::Linear { offset, length } => Self::linear(offset, length),
            Region::Rows {
                offset,
                length,
                stride,
                rows,
            } => Self {
                offset,
                length,
                stride,
                rows,
            },
        };
        span.end().map(|_| span)
    }

    /// In whole cache lines. It may have more than these, but not less.
    fn lines(self) -> Self {
        let down = |at: u64| at - at % LINE;
        let up = |at: u64| at.checked_next_multiple_of(LINE).unwrap_or(u64::MAX);
        let Some(end) = self.end() else {
            return Self::ALL;
        };
        let (start, first_end) = if self.rows == 1 || self.stride % LINE == 0 {
            (down(self.offset), up(self.offset + self.length))
        } else {
            // Each row begins elsewhere in its line.
            let more = LINE - 1;
            let Some(start) = self.offset.checked_sub(more) else {
                return Self::linear(0, up(end));
            };
            (start, (self.offset + self.length).saturating_add(more))
        };
        let length = first_end - start;
        if self.rows == 1 || length >= self.stride || self.rows > MAX_ROWS {
            return Self::linear(down(self.offset), up(end) - down(self.offset));
        }
        Self {
            offset: start,
            length,
            ..self
        }
    }

    /// Whether all bytes of another are here.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        let begins = self.rows == 1 && self.offset <= other.offset;
        self == other || begins && other.end().is_some_and(|end| Some(end) <= self.end())
    }

    pub(crate) fn linear(offset: u64, length: u64) -> Self {
        Self {
            offset,
            length,
            stride: length,
            rows: 1,
        }
    }

    /// Where the last row ends. `None` beyond all numbers, and where it has no bytes.
    pub(crate) fn end(&self) -> Option<u64> {
        if self.length == 0 || self.stride < self.length {
            return None;
        }
        let last = self.rows.checked_sub(1)?.checked_mul(self.stride)?;
        self.offset.checked_add(last)?.checked_add(self.length)
    }

    fn touches(&self, start: u64, end: u64) -> bool {
        if end <= self.offset {
            return false;
        }
        // The last row that begins before `end`.
        let row = ((end - 1 - self.offset) / self.stride.max(1)).min(self.rows - 1);
        self.offset + row * self.stride + self.length > start
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (few, many) = if self.rows <= other.rows {
            (self, other)
        } else {
            (other, self)
        };
        (0..few.rows).any(|row| {
            let start = few.offset + row * few.stride;
            many.touches(start, start + few.length)
        })
    }
}

/// What somebody does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Holds `&[u8]`.
    Slice,
    /// Holds `&mut [u8]`.
    SliceMut,
    /// Copies out.
    CopyOut,
    /// Copies in.
    CopyIn,
    /// Has the kernel copy, in or out, by `COHBUF_IOCTL_COPY`. It brackets, too.
    Copy,
    /// Begins CPU access, and is not done with it.
    Start {
        /// Of lines that no window owns, and no others.
        lines: bool,
        writes: bool,
    },
}

/// Whether there can be a claim beside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Yes.
    Beside,
    /// When the other is gone, which is soon, and waits for nobody.
    After,
    /// No: nobody knows how long the other stays.
    Never,
}

impl Use {
    fn order(self, held: Self) -> Order {
        match (self, held) {
            (Self::Slice | Self::CopyOut, Self::Slice | Self::CopyOut) => Order::Beside,
            // To race with each other is for devices and other processes.
            (Self::CopyIn, Self::CopyIn | Self::CopyOut) | (Self::CopyOut, Self::CopyIn) => {
                Order::After
            }
            // As devices and others do.
            (
                Self::Start { .. } | Self::Copy,
                Self::Start { .. } | Self::Copy | Self::CopyIn | Self::CopyOut,
            )
            | (Self::CopyIn | Self::CopyOut, Self::Start { .. } | Self::Copy) => Order::Beside,
            // It has a window, or will have one before it is handed out.
            (Self::SliceMut, Self::Start { lines: true, .. })
            | (Self::Start { lines: true, .. }, Self::SliceMut) => Order::Beside,
            // Its own START would wait for the same devices.
            (Self::Slice, Self::Start { writes: false, .. }) => Order::After,
            (Self::Slice | Self::SliceMut, _) | (_, Self::Slice | Self::SliceMut) => Order::Never,
        }
    }
}

/// What a START or an END is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The buffer, by `DMA_BUF_IOCTL_SYNC`.
    Buffer,
    /// By `COHBUF_IOCTL_SYNC`.
    Region(Region),
}

impl Extent {
    /// Bytes that a START may move. [`None`]: it is no region, and the kernel will say so.
    fn moves(self) -> Option<Span> {
        match self {
            Self::Buffer => Some(Span::ALL),
            Self::Region(region) => Span::of(region).map(Span::lines),
        }
    }

    /// Whether its START is as good as that of another, and whoever has begun that can end this.
    fn serves(self, other: Self) -> bool {
        match (self, other) {
            (Self::Buffer, _) => true,
            (Self::Region(_), Self::Buffer) => false,
            (Self::Region(all), Self::Region(some)) => match (Span::of(all), Span::of(some)) {
                (Some(all), Some(some)) => all.contains(&some),
                _ => false,
            },
        }
    }
}

struct Entry {
    number: u64,
    span: Span,
    what: Use,
}

/// A START that reads, and all who have their access by it.
struct Reading {
    /// That of the entry that the START has while it is under way.
    number: u64,
    extent: Extent,
    is_begun: bool,
    holders: usize,
    /// Those that hand out slices.
    slices: usize,
}

#[derive(Default)]
struct List {
    next: u64,
    entries: Vec<Entry>,
    readings: Vec<Reading>,
    waiting: usize,
}

impl List {
    fn order(&self, span: &Span, what: Use) -> Order {
        let others = self.entries.iter();
        let orders = others
            .filter(|other| other.span.overlaps(span))
            .map(|other| what.order(other.what));
        orders.max().unwrap_or(Order::Beside)
    }

    fn push(&mut self, span: Span, what: Use) -> u64 {
        let number = self.number();
        self.entries.push(Entry { number, span, what });
        number
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn remove(&mut self, number: u64) {
        self.entries.retain(|entry| entry.number != number);
    }

    fn reading(&mut self, number: u64) -> Option<&mut Reading> {
        let mut all = self.readings.iter_mut();
        all.find(|reading| reading.number == number)
    }

    /// One that another can share: while slices are handed out no device writes.
    fn shared(&mut self, extent: Extent) -> Option<&mut Reading> {
        let mut all = self.readings.iter_mut();
        all.find(|reading| reading.slices > 0 && reading.extent.serves(extent))
    }
}

/// All claims on one buffer.
#[derive(Default)]
pub(crate) struct Claims {
    list: Mutex<List>,
    changed: Condvar,
    of_cohbuf: OnceLock<bool>,
}

impl core::fmt::Debug for Claims {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

impl Claims {
    /// Those on the buffer of a descriptor.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Arc<Self>, Errno> {
        let stat = fstat(fd)?;
        let mut buffers = lock(&BUFFERS);
        if let Some(claims) = buffers
            .get(&(stat.st_dev, stat.st_ino))
            .and_then(Weak::upgrade)
        {
            return Ok(claims);
        }
        buffers.retain(|_, claims| claims.strong_count() > 0);
        let claims = Arc::default();
        buffers.insert((stat.st_dev, stat.st_ino), Arc::downgrade(&claims));
        Ok(claims)
    }

    /// Claims bytes until the claim is dropped. Copies wait for each other. `EBUSY` where
    /// another use does not go with it.
    pub(crate) fn claim(self: &Arc<Self>, span: Span, what: Use) -> Result<Claim, Errno> {
        let mut list = lock(&self.list);
        loop {
            match list.order(&span, what) {
                Order::Never => return Err(Errno::BUSY),
                Order::After => list = self.wait(list),
                Order::Beside => break,
            }
        }
        let number = list.push(span, what);
        Ok(self.claimed(number, span, what))
    }

    /// Claims a side of COPY, of a buffer that may be of cohbuf.
    pub(crate) fn claim_copy(
        self: &Arc<Self>,
        span: Option<Span>,
        is_of_cohbuf: impl FnOnce() -> bool,
    ) -> Result<Claim, Errno> {
        let span = match span {
            Some(span) if *self.of_cohbuf.get_or_init(is_of_cohbuf) => span.lines(),
            // It is bracketed as a whole.
            _ => Span::ALL,
        };
        self.claim(span, Use::Copy)
    }

    /// Begins access without slices.
    pub(crate) fn begin(self: &Arc<Self>, extent: Extent, writes: bool) -> Result<Opening, Errno> {
        self.open(extent, writes, None)
    }

    /// Begins access to bytes that are then handed out, to be written if `writes`.
    pub(crate) fn begin_slices(
        self: &Arc<Self>,
        extent: Extent,
        writes: bool,
        span: Span,
    ) -> Result<(Opening, Claim), Errno> {
        let what = if writes { Use::SliceMut } else { Use::Slice };
        let opening = self.open(extent, writes, Some((span, what)))?;
        let number = opening.slice.unwrap_or_default();
        Ok((opening, self.claimed(number, span, what)))
    }

    fn open(
        self: &Arc<Self>,
        extent: Extent,
        writes: bool,
        slice: Option<(Span, Use)>,
    ) -> Result<Opening, Errno> {
        let start = Use::Start {
            lines: matches!(extent, Extent::Region(_)),
            writes,
        };
        let mut list = lock(&self.list);
        loop {
            let shared = match list.shared(extent) {
                Some(reading) if !writes => {
                    if !reading.is_begun {
                        list = self.wait(list);
                        continue;
                    }
                    Some(reading.number)
                }
                _ => None,
            };
            let own = match shared {
                Some(_) => None,
                None => extent.moves().map(|span| (span, start)),
            };
            let wanted = slice.iter().chain(&own);
            let orders = wanted.map(|(span, what)| list.order(span, *what));
            match orders.max() {
                Some(Order::Never) => return Err(Errno::BUSY),
                Some(Order::After) => {
                    list = self.wait(list);
                    continue;
                }
                Some(Order::Beside) | None => {}
            }
            let slice = slice.map(|(span, what)| list.push(span, what));
            let slices = usize::from(slice.is_some());
            if let Some(reading) = shared.and_then(|number| list.reading(number)) {
                reading.holders += 1;
                reading.slices += slices;
                let number = reading.number;
                return Ok(self.opening(number, slice, Stage::Open, extent));
            }
            let number = match own {
                Some((span, start)) => list.push(span, start),
                None => list.number(),
            };
            if !writes {
                list.readings.push(Reading {
                    number,
                    extent,
                    is_begun: false,
                    holders: 1,
                    slices,
                });
            }
            return Ok(self.opening(number, slice, Stage::Starting, extent));
        }
    }

    fn claimed(self: &Arc<Self>, number: u64, span: Span, what: Use) -> Claim {
        Claim {
            claims: Arc::clone(self),
            number,
            span,
            what,
        }
    }

    fn opening(
        self: &Arc<Self>,
        number: u64,
        slice: Option<u64>,
        stage: Stage,
        extent: Extent,
    ) -> Opening {
        Opening {
            claims: Arc::clone(self),
            number,
            slice,
            stage,
            extent,
        }
    }

    /// Until something has changed, or for no reason.
    fn wait<'l>(&self, mut list: MutexGuard<'l, List>) -> MutexGuard<'l, List> {
        list.waiting += 1;
        let mut list = self
            .changed
            .wait(list)
            .unwrap_or_else(PoisonError::into_inner);
        list.waiting -= 1;
        list
    }

    /// Something is gone.
    fn wake(&self, list: MutexGuard<'_, List>) {
        let anybody = list.waiting > 0;
        drop(list);
        if anybody {
            self.changed.notify_all();
        }
    }
}

/// Bytes that are claimed.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    number: u64,
    span: Span,
    what: Use,
}

impl Claim {
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    pub(crate) fn what(&self) -> Use {
        self.what
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut list = lock(&self.claims.list);
        list.entries.retain(|entry| entry.number != self.number);
        self.claims.wake(list);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The START is still to be made.
    Starting,
    Open,
    Left,
}

/// CPU access from before its START to before its END.
#[derive(Debug)]
pub(crate) struct Opening {
    claims: Arc<Claims>,
    number: u64,
    /// The entry of the slice that it is for.
    slice: Option<u64>,
    stage: Stage,
    extent: Extent,
}

impl Opening {
    /// Makes the START, unless that of another window serves.
    pub(crate) fn start<E>(&mut self, start: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        if self.stage != Stage::Starting {
            return Ok(());
        }
        start()?;
        self.stage = Stage::Open;
        let mut list = lock(&self.claims.list);
        list.remove(self.number);
        if let Some(reading) = list.reading(self.number) {
            reading.is_begun = true;
        }
        self.claims.wake(list);
        Ok(())
    }

    /// What the END is to be of. [`None`]: it is left to others who read, or was made.
    pub(crate) fn leave(&mut self) -> Option<Extent> {
        let stage = core::mem::replace(&mut self.stage, Stage::Left);
        if stage == Stage::Left {
            return None;
        }
        let mut list = lock(&self.claims.list);
        if stage == Stage::Starting {
            // It has failed, and whoever waits for it has to try, without a slice in the way
            // that nobody will get.
            list.remove(self.number);
            if let Some(slice) = self.slice {
                list.remove(slice);
            }
            list.readings
                .retain(|reading| reading.number != self.number);
            self.claims.wake(list);
            return None;
        }
        let Some(reading) = list.reading(self.number) else {
            // It writes.
            return Some(self.extent);
        };
        reading.holders -= 1;
        reading.slices -= usize::from(self.slice.is_some());
        if reading.holders > 0 {
            return None;
        }
        let extent = reading.extent;
        list.readings
            .retain(|reading| reading.number != self.number);
        Some(extent)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        // Those who end it have left before.
        let _ = self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn rows(offset: u64, length: u64, stride: u64, rows: u64) -> Span {
        Span {
            offset,
            length,
            stride,
            rows,
        }
    }

    #[test]
    fn spans_overlap_where_they_share_a_byte() {
        // Every pair of small ones, against the bytes themselves.
        let mut all = Vec::new();
        for offset in 0..6 {
            for length in 1..4 {
                for stride in length..5 {
                    for count in 1..4 {
                        all.push(rows(offset, length, stride, count));
                    }
                }
            }
        }
        let bytes = |span: &Span| {
            let mut mask = 0_u64;
            for row in 0..span.rows {
                for byte in 0..span.length {
                    mask |= 1 << (span.offset + row * span.stride + byte);
                }
            }
            mask
        };
        let (mut some, mut none) = (0, 0);
        for a in &all {
            for b in &all {
                let must = bytes(a) & bytes(b) != 0;
                assert_eq!(a.overlaps(b), must, "{a:?} {b:?}");
                *(if must { &mut some } else { &mut none }) += 1;
            }
        }
        assert!(some > 1000 && none > 1000, "{some} {none}");
    }

    #[test]
    fn the_end_of_a_span() {
        assert_eq!(Span::linear(64, 128).end(), Some(192));
        assert_eq!(rows(1, 2, 10, 3).end(), Some(23));
        assert_eq!(rows(0, 0, 10, 3).end(), None);
        assert_eq!(rows(0, 4, 3, 3).end(), None);
        assert_eq!(rows(0, 4, 4, 0).end(), None);
        assert_eq!(rows(0, 4, u64::MAX, 3).end(), None);
        assert_eq!(rows(u64::MAX, 4, 4, 1).end(), None);
    }

    #[test]
    fn a_slice_to_write_is_alone() {
        let claims: Arc<Claims> = Arc::default();
        let left = rows(0, 4, 8, 4);
        let right = rows(4, 4, 8, 4);
        let held = claims.claim(left, Use::SliceMut).unwrap();
        for what in [Use::Slice, Use::SliceMut, Use::CopyOut, Use::CopyIn] {
            assert!(claims.claim(left, what).is_err(), "{what:?}");
            assert!(claims.claim(right, what).is_ok(), "{what:?}");
        }
        drop(held);
        assert!(claims.claim(left, Use::SliceMut).is_ok());
    }

    #[test]
    fn slices_to_read_share() {
        let claims: Arc<Claims> = Arc::default();
        let span = Span::linear(0, 64);
        let first = claims.claim(span, Use::Slice).unwrap();
        let second = claims.claim(span, Use::Slice).unwrap();
        assert!(claims.claim(span, Use::CopyOut).is_ok());
        assert_eq!(claims.claim(span, Use::CopyIn).err(), Some(Errno::BUSY));
        drop(first);
        assert!(claims.claim(span, Use::SliceMut).is_err());
        drop(second);
        assert!(claims.claim(span, Use::SliceMut).is_ok());
    }

    fn until_one_waits(claims: &Claims) {
        let begin = Instant::now();
        while lock(&claims.list).waiting == 0 {
            assert!(begin.elapsed() < Duration::from_secs(60), "nobody waits");
            thread::yield_now();
        }
    }

    #[test]
    fn copies_in_wait_for_other_copies() {
        for (held, next, waits) in [
            (Use::CopyIn, Use::CopyIn, true),
            (Use::CopyIn, Use::CopyOut, true),
            (Use::CopyOut, Use::CopyIn, true),
            (Use::CopyOut, Use::CopyOut, false),
        ] {
            let claims: Arc<Claims> = Arc::default();
            let first = claims.claim(Span::linear(0, 64), held).unwrap();
            // Beside it, there is nothing to wait for.
            assert!(claims.claim(Span::linear(64, 64), next).is_ok());
            let (tell, told) = mpsc::channel();
            let other = Arc::clone(&claims);
            let thread = thread::spawn(move || {
                let claim = other.claim(Span::linear(63, 64), next);
                tell.send(()).unwrap();
                claim.map(drop)
            });
            if waits {
                until_one_waits(&claims);
                assert!(told.try_recv().is_err(), "{next:?} beside {held:?}");
            } else {
                told.recv().unwrap();
            }
            drop(first);
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    }

    #[test]
    fn a_slice_waits_for_no_copy() {
        let claims: Arc<Claims> = Arc::default();
        let span = Span::linear(0, 64);
        let _first = claims.claim(span, Use::CopyIn).unwrap();
        assert_eq!(claims.claim(span, Use::Slice).err(), Some(Errno::BUSY));
        assert_eq!(claims.claim(span, Use::SliceMut).err(), Some(Errno::BUSY));
    }

    const READ: bool = false;
    const WRITE: bool = true;

    fn never<E>() -> Result<(), E> {
        panic!("a second START");
    }

    /// Begun, with a slice of all bytes of the extent.
    fn begun(
        claims: &Arc<Claims>,
        extent: Extent,
        writes: bool,
    ) -> Result<(Opening, Claim), Errno> {
        let span = match extent {
            Extent::Buffer => Span::linear(0, 4096),
            Extent::Region(region) => Span::of(region).unwrap(),
        };
        let (mut opening, claim) = claims.begin_slices(extent, writes, span)?;
        opening.start(|| Ok::<_, Errno>(()))?;
        Ok((opening, claim))
    }

    fn part(range: core::ops::Range<u64>) -> Extent {
        Extent::Region(Region::linear(range))
    }

    #[test]
    fn lines_have_all_bytes_of_a_span() {
        for offset in [0, 1, 255, 256, 300] {
            for length in [1, 40, 256, 257] {
                for stride in [300, 512, 640, 1024] {
                    for count in [1, 2, 5] {
                        let span = rows(offset, length, stride, count);
                        let lines = span.lines();
                        for row in 0..count {
                            let first = offset + row * stride;
                            let (start, end) = (first - first % LINE, first + length);
                            for at in [start, first, end - 1, end.next_multiple_of(LINE) - 1] {
                                assert!(lines.overlaps(&Span::linear(at, 1)), "{span:?} {at}");
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(Span::linear(256, 512).lines(), Span::linear(256, 512));
        assert_eq!(rows(256, 40, 512, 3).lines(), rows(256, 256, 512, 3));
        assert_eq!(Span::ALL.lines(), Span::ALL);
    }

    /// Each use that the kernel may move bytes by, beside each slice.
    #[test]
    fn no_byte_of_a_slice_is_moved() {
        let claims: Arc<Claims> = Arc::default();
        let buffer = || claims.begin(Extent::Buffer, WRITE).map(drop);
        let lines = |range| claims.begin(part(range), WRITE).map(drop);
        let copy = |range: core::ops::Range<u64>, of_cohbuf| {
            let claims: Arc<Claims> = Arc::clone(&claims);
            let _ = claims.of_cohbuf.set(of_cohbuf);
            let span = Span::linear(range.start, range.end - range.start);
            claims.claim_copy(Some(span), || of_cohbuf).map(drop)
        };
        for what in [Use::Slice, Use::SliceMut] {
            let held = claims.claim(Span::linear(512, 64), what).unwrap();
            assert_eq!(buffer(), Err(Errno::BUSY), "{what:?}");
            // What a window owns is left alone.
            let must = match what {
                Use::Slice => Err(Errno::BUSY),
                _ => Ok(()),
            };
            assert_eq!(lines(600..700), must, "{what:?}");
            assert_eq!(lines(0..4096), must, "{what:?}");
            assert_eq!(lines(0..512), Ok(()), "{what:?}");
            assert_eq!(lines(768..1024), Ok(()), "{what:?}");
            assert_eq!(copy(512..576, true), Err(Errno::BUSY), "{what:?}");
            assert_eq!(copy(767..768, true), Err(Errno::BUSY), "{what:?}");
            assert_eq!(copy(768..1024, true), Ok(()), "{what:?}");
            drop(held);
            assert_eq!(buffer(), Ok(()));
        }
        let claims: Arc<Claims> = Arc::default();
        let held = claims.claim(Span::linear(512, 64), Use::Slice).unwrap();
        let far = Some(Span::linear(2048, 64));
        let copied = claims.claim_copy(far, || false);
        assert_eq!(copied.err(), Some(Errno::BUSY), "another exporter");
        drop(held);
        assert!(claims.claim_copy(far, || panic!("asked again")).is_ok());
    }

    /// The other way round: what is under way lets no slice in.
    #[test]
    fn no_slice_is_made_while_bytes_are_moved() {
        let claims: Arc<Claims> = Arc::default();
        let all = Span::linear(0, 4096);
        let copying = claims.claim_copy(None, || true).unwrap();
        for what in [Use::Slice, Use::SliceMut] {
            assert_eq!(claims.claim(all, what).err(), Some(Errno::BUSY), "{what:?}");
        }
        assert!(claims.claim(all, Use::CopyIn).is_ok());
        drop(copying);
        let mut starting = claims.begin(Extent::Buffer, WRITE).unwrap();
        for what in [Use::Slice, Use::SliceMut] {
            assert_eq!(claims.claim(all, what).err(), Some(Errno::BUSY), "{what:?}");
        }
        starting.start(|| Ok::<_, Errno>(())).unwrap();
        assert!(claims.claim(all, Use::Slice).is_ok());
        assert_eq!(starting.leave(), Some(Extent::Buffer));
        assert_eq!(starting.leave(), None);
    }

    #[test]
    fn slices_to_read_share_a_start_and_an_end() {
        let claims: Arc<Claims> = Arc::default();
        let (mut first, one) = begun(&claims, Extent::Buffer, READ).unwrap();
        for extent in [Extent::Buffer, part(64..128), Extent::Region(Region::Whole)] {
            let (mut second, two) = claims
                .begin_slices(extent, READ, Span::linear(64, 64))
                .unwrap();
            second.start(never::<Errno>).unwrap();
            // And one that hands out nothing.
            let mut third = claims.begin(extent, READ).unwrap();
            third.start(never::<Errno>).unwrap();
            drop(two);
            assert_eq!(second.leave(), None);
            assert_eq!(third.leave(), None);
        }
        let (mut last, two) = claims
            .begin_slices(part(0..64), READ, Span::linear(0, 64))
            .unwrap();
        last.start(never::<Errno>).unwrap();
        drop(one);
        assert_eq!(first.leave(), None);
        drop(two);
        assert_eq!(last.leave(), Some(Extent::Buffer));
        assert!(claims.begin(Extent::Buffer, WRITE).is_ok());
    }

    #[test]
    fn a_start_serves_what_it_is_of() {
        for (held, other, serves) in [
            (part(0..4096), Extent::Buffer, false),
            (part(64..128), part(64..128), true),
            (part(64..128), part(65..127), true),
            (part(64..128), part(63..127), false),
            (part(64..128), part(120..129), false),
            (part(64..128), Extent::Region(Region::Whole), false),
        ] {
            let claims: Arc<Claims> = Arc::default();
            let _held = begun(&claims, held, READ).unwrap();
            let second = begun(&claims, other, READ);
            assert_eq!(second.is_ok(), serves, "{other:?} beside {held:?}");
        }
        // Of other lines.
        let claims: Arc<Claims> = Arc::default();
        let _held = begun(&claims, part(64..128), READ).unwrap();
        assert!(begun(&claims, part(256..512), READ).is_ok());
    }

    /// Where nobody has a slice devices may write, so that each START has to be made.
    #[test]
    fn what_hands_out_nothing_serves_nobody() {
        let claims: Arc<Claims> = Arc::default();
        let mut plain = claims.begin(Extent::Buffer, READ).unwrap();
        plain.start(|| Ok::<_, Errno>(())).unwrap();
        let (mut window, slice) = claims
            .begin_slices(Extent::Buffer, READ, Span::linear(0, 64))
            .unwrap();
        let mut starts = 0;
        let mut start = || {
            starts += 1;
            Ok::<_, Errno>(())
        };
        window.start(&mut start).unwrap();
        // Shares that of the slice, and keeps it.
        let mut again = claims.begin(Extent::Buffer, READ).unwrap();
        again.start(never::<Errno>).unwrap();
        drop(slice);
        assert_eq!(window.leave(), None);
        let mut later = claims.begin(Extent::Buffer, READ).unwrap();
        later.start(&mut start).unwrap();
        assert_eq!(starts, 2);
        for mut each in [plain, again, later] {
            assert_eq!(each.leave(), Some(Extent::Buffer));
        }
    }

    /// Whoever shares a START that is under way waits for it, and where it fails makes one.
    #[test]
    fn a_start_under_way_is_waited_for() {
        for (fails, slice) in [(false, false), (false, true), (true, false), (true, true)] {
            let claims: Arc<Claims> = Arc::default();
            let span = Span::linear(0, 64);
            let (mut first, first_slice) = claims.begin_slices(Extent::Buffer, READ, span).unwrap();
            let other = Arc::clone(&claims);
            let thread = thread::spawn(move || {
                let (mut second, _slice) = match slice {
                    true => {
                        let (second, slice) =
                            other.begin_slices(Extent::Buffer, READ, span).unwrap();
                        (second, Some(slice))
                    }
                    false => (other.begin(Extent::Buffer, READ).unwrap(), None),
                };
                let mut own = false;
                let start = || {
                    own = true;
                    Ok::<_, Errno>(())
                };
                second.start(start).unwrap();
                (own, second.leave())
            });
            until_one_waits(&claims);
            if fails {
                assert_eq!(first.start(|| Err(Errno::IO)), Err(Errno::IO));
                drop(first);
                assert_eq!(thread.join().unwrap(), (true, Some(Extent::Buffer)));
                drop(first_slice);
            } else {
                first.start(|| Ok::<_, Errno>(())).unwrap();
                assert_eq!(thread.join().unwrap(), (false, None));
                drop(first_slice);
                assert_eq!(first.leave(), Some(Extent::Buffer));
            }
            assert!(lock(&claims.list).entries.is_empty());
            assert!(lock(&claims.list).readings.is_empty());
        }
    }
}
