// SPDX-License-Identifier: GPL-2.0

//! Parts of a buffer that have one writer each, who keeps the rules: whatever the
//! others do, none of its bytes may get lost.

use std::thread;
use std::time::{Duration, Instant};

use cohbuf::{Access, Buffer, Errno, Mapping};

/// Cache lines that nobody else writes. No cache of today has longer ones.
const LINE: usize = 128;

/// From one slot to the next: four to a page.
const STRIDE: usize = 1024;

/// Rounds that every writer makes.
const LEAST: u32 = 10;

/// A slot, and what its writer put there last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) number: usize,
    pub(crate) round: u32,
}

impl Slot {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, round: 0 }
    }

    /// Bytes of a buffer that has room for so many slots.
    pub(crate) const fn room(slots: usize) -> usize {
        slots * STRIDE
    }

    pub(crate) fn offset(self) -> usize {
        self.number * STRIDE
    }

    /// What is there after that round. Before the first, a new buffer is zero.
    pub(crate) fn bytes(self) -> [u8; LINE] {
        let mut bytes = [0; LINE];
        if self.round > 0 {
            let mut value = self.round.wrapping_mul(2_654_435_761) ^ ((self.number as u32) << 24);
            for byte in &mut bytes {
                value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (value >> 24) as u8;
            }
        }
        bytes
    }

    pub(crate) fn write_next(&mut self, mapping: &Mapping) -> Result<(), Errno> {
        self.round += 1;
        mapping
            .write(self.offset(), &self.bytes())
            .map_err(|error| error.errno())
    }

    pub(crate) fn is_intact(self, mapping: &Mapping) -> Result<bool, Errno> {
        let mut seen = [0; LINE];
        mapping
            .read(self.offset(), &mut seen)
            .map_err(|error| error.errno())?;
        Ok(seen == self.bytes())
    }
}

/// What became of a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) slot: Slot,
    /// Windows in which what the writer had put there was not there any more.
    pub(crate) lost: u32,
}

/// Opens one window after the other until the time is up, and writes in each: some
/// even where the kernel is slow. Allocates nothing.
pub(crate) fn write_for(
    buffer: &Buffer,
    mapping: &Mapping,
    number: usize,
    time: Duration,
) -> Result<Written, Errno> {
    let mut slot = Slot::new(number);
    let mut lost = 0;
    let began = Instant::now();
    while began.elapsed() < time || slot.round < LEAST {
        // Who says WRITE must not read.
        let reads = slot.round % 2 == 1;
        let access = if reads {
            Access::ReadWrite
        } else {
            Access::Write
        };
        let window = buffer.cpu_access(access).map_err(|error| error.errno())?;
        if reads && !slot.is_intact(mapping)? {
            lost += 1;
        }
        slot.write_next(mapping)?;
        window.end().map_err(|error| error.errno())?;
    }
    Ok(Written { slot, lost })
}

/// The same by a thread for each slot.
pub(crate) fn write_by_threads(
    buffer: &Buffer,
    slots: std::ops::Range<usize>,
    time: Duration,
) -> Result<Vec<Written>, Errno> {
    let mapping = buffer.map().map_err(|error| error.errno())?;
    let mapping = &mapping;
    thread::scope(|scope| {
        let threads: Vec<_> = slots
            .map(|number| scope.spawn(move || write_for(buffer, mapping, number, time)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a writer panicked"))
            .collect()
    })
}
