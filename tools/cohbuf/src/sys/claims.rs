// SPDX-License-Identifier: GPL-2.0

//! Who in this process holds references into the memory of a buffer.
//!
//! The same buffer may be mapped any number of times, so that the borrow checker alone
//! cannot tell that two slices are of the same bytes. As a `RefCell` does, this counts
//! at run time: one list for each buffer, whatever mapping its bytes are reached by.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

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
    /// Copies out by pointers.
    CopyOut,
    /// Copies in by pointers.
    CopyIn,
}

impl Use {
    /// Whether two can be at the same time. Copies race with each other as they do with
    /// devices and other processes.
    fn goes_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Slice, Self::Slice | Self::CopyOut)
            | (Self::CopyOut, Self::Slice)
            | (Self::CopyIn | Self::CopyOut, Self::CopyIn | Self::CopyOut) => true,
            (Self::SliceMut, _)
            | (_, Self::SliceMut)
            | (Self::Slice, Self::CopyIn)
            | (Self::CopyIn, Self::Slice) => false,
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
}

/// All claims on one buffer.
#[derive(Default)]
pub(crate) struct Claims {
    list: Mutex<List>,
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

    /// Claims bytes until the claim is dropped. `EBUSY` where another does not go with it.
    pub(crate) fn claim(self: &Arc<Self>, span: Span, what: Use) -> Result<Claim, Errno> {
        let mut list = lock(&self.list);
        let free = list
            .entries
            .iter()
            .all(|entry| what.goes_with(entry.what) || !entry.span.overlaps(&span));
        if !free {
            return Err(Errno::BUSY);
        }
        let number = list.next;
        list.next += 1;
        list.entries.push(Entry { number, span, what });
        Ok(Claim {
            claims: Arc::clone(self),
            number,
        })
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
    }
}

#[cfg(test)]
mod tests {
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
    fn copies_race_with_each_other() {
        let claims: Arc<Claims> = Arc::default();
        let span = Span::linear(0, 64);
        let _first = claims.claim(span, Use::CopyIn).unwrap();
        assert!(claims.claim(span, Use::CopyIn).is_ok());
        assert!(claims.claim(span, Use::CopyOut).is_ok());
        assert!(claims.claim(span, Use::Slice).is_err());
    }
}
