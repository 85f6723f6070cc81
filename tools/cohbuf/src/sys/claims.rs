// SPDX-License-Identifier: GPL-2.0

//! Who in this process holds references into the memory of a buffer.
//!
//! The same buffer may be mapped any number of times, so that the borrow checker alone
//! cannot tell that two slices are of the same bytes. As a `RefCell` does, this counts
//! at run time: one list for each buffer, whatever mapping its bytes are reached by.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fd::BorrowedFd;
use rustix::fs::fstat;
use rustix::io::Errno;

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
            (Self::SliceMut, _)
            | (_, Self::SliceMut)
            | (Self::Slice, Self::CopyIn)
            | (Self::CopyIn, Self::Slice) => Order::Never,
        }
    }
}

struct Entry {
    number: u64,
    span: Span,
    what: Use,
}

#[derive(Default)]
struct List {
    next: u64,
    entries: Vec<Entry>,
    waiting: usize,
}

/// All claims on one buffer.
#[derive(Default)]
pub(crate) struct Claims {
    list: Mutex<List>,
    changed: Condvar,
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
            let others = list.entries.iter();
            let worst = others
                .filter(|other| other.span.overlaps(&span))
                .map(|other| what.order(other.what))
                .max();
            match worst {
                Some(Order::Never) => return Err(Errno::BUSY),
                Some(Order::After) => list = self.wait(list),
                Some(Order::Beside) | None => break,
            }
        }
        let number = list.next;
        list.next += 1;
        list.entries.push(Entry { number, span, what });
        Ok(Claim {
            claims: Arc::clone(self),
            number,
        })
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
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut list = lock(&self.claims.list);
        list.entries.retain(|entry| entry.number != self.number);
        self.claims.wake(list);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

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
            let early = told.recv_timeout(Duration::from_millis(if waits { 50 } else { 10_000 }));
            assert_eq!(early.is_err(), waits, "{next:?} beside {held:?}");
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
}
