// SPDX-License-Identifier: GPL-2.0

//! A reference model of memory, caches, devices and the DMA API. It knows nothing of the policy.

use std::cell::Cell;
use std::ops::Range;

pub const LINE: usize = 8;
pub const LINES: usize = 6;
pub const LEN: usize = LINE * LINES;
pub const PAGE: usize = 2 * LINE;
pub const PAGES: usize = LEN / PAGE;
pub type Bytes = [u8; LEN];

/// What was in memory before it was allocated.
pub const OLD: u8 = 0xA5;

/// A line in the CPU's caches.
#[derive(Copy, Clone, Debug)]
struct Line {
    bytes: [u8; LINE],
    dirty: bool,
}

/// What the caches do by themselves. They may do any of it to any line at any moment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Caches {
    /// Nothing: what is in them stays, what is not does not come.
    Idle,
    /// Dirty lines are written back at once.
    WriteBack,
    /// Nothing stays: dirty lines are written back, all lines go.
    Evict,
    /// Lines that are not in come back at once.
    Prefetch,
    /// Dirty lines are written back, lines that are not in come back.
    WriteBackPrefetch,
    /// Any of it, by chance from this seed on.
    Random(u64),
}

impl Caches {
    pub const FIXED: [Self; 5] = [
        Self::Idle,
        Self::WriteBack,
        Self::Evict,
        Self::Prefetch,
        Self::WriteBackPrefetch,
    ];
}

/// Bytes that were maintained.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub cleaned: usize,
    pub invalidated: usize,
    /// From the buffer into copies.
    pub copied_out: usize,
    /// From copies into the buffer.
    pub copied_in: usize,
}

/// How a device reaches memory, as it really is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Snooping,
    Direct,
    Iommu,
    /// All of it is in a bounce buffer.
    Bounced,
    /// The first half is; the device is past the caches for the rest.
    HalfBounced,
    /// The first half is; the device snoops for the rest.
    HalfSnooping,
    /// `dma_map_ops` of its own that clean and invalidate.
    UnknownPast,
    /// `dma_map_ops` of its own that copy.
    UnknownCopy,
    /// `dma_map_ops` of its own that have nothing to do, as the device snoops.
    UnknownSnooping,
    /// `dma_map_ops` of its own that copy, and have nothing to sync a part.
    UnknownWhole,
}

/// By what a device reaches one line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// The CPU's caches.
    Snoop,
    /// Memory.
    Past,
    /// A copy of its own.
    Copy,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dir {
    To,
    From,
    Both,
}

impl Dir {
    pub const ALL: [Self; 3] = [Self::To, Self::From, Self::Both];

    pub fn writes(self) -> bool {
        self != Dir::To
    }

    pub fn reads(self) -> bool {
        self != Dir::From
    }
}

/// An sg table of the buffer that is mapped for a device.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub way: Way,
    dir: Dir,
    copy: Bytes,
}

impl Mapping {
    fn path(&self, line: usize) -> Path {
        self.way.path(line)
    }
}

impl Way {
    /// All but the last.
    pub const DIVISIBLE: [Self; 9] = [
        Self::Snooping,
        Self::Direct,
        Self::Iommu,
        Self::Bounced,
        Self::HalfBounced,
        Self::HalfSnooping,
        Self::UnknownPast,
        Self::UnknownCopy,
        Self::UnknownSnooping,
    ];

    pub fn path(self, line: usize) -> Path {
        match self {
            Way::Snooping | Way::UnknownSnooping => Path::Snoop,
            Way::Direct | Way::Iommu | Way::UnknownPast => Path::Past,
            Way::Bounced | Way::UnknownCopy | Way::UnknownWhole => Path::Copy,
            Way::HalfBounced | Way::HalfSnooping if line < LINES / 2 => Path::Copy,
            Way::HalfSnooping => Path::Snoop,
            Way::HalfBounced => Path::Past,
        }
    }
}

/// Memory, and the CPU's view of it.
#[derive(Clone, Debug)]
pub struct Memory {
    dram: Bytes,
    lines: [Option<Line>; LINES],
    pub caches: Caches,
    pub counts: Counts,
    chance: Cell<u64>,
}

/// No device, and no cache, is asked for less than a line, or for a line twice.
fn lines_of(parts: &[Range<usize>]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    for part in parts {
        assert!(at <= part.start && part.start < part.end && part.end <= LEN);
        assert!(part.start % LINE == 0 && part.end % LINE == 0, "{part:?}");
        at = part.end;
    }
    parts.iter().flat_map(|p| p.start / LINE..p.end / LINE)
}

fn range(line: usize) -> Range<usize> {
    line * LINE..(line + 1) * LINE
}

impl Memory {
    /// Zeroed by the CPU just now; the zeros are in its caches still (R15).
    pub fn new(caches: Caches) -> Self {
        let zeros = Line {
            bytes: [0; LINE],
            dirty: true,
        };
        let mut memory = Self {
            dram: [OLD; LEN],
            lines: [Some(zeros); LINES],
            caches: Caches::Idle,
            counts: Counts::default(),
            chance: Cell::new(1),
        };
        memory.set_caches(caches);
        memory
    }

    /// From now on; what they like to do may change at any moment, too.
    pub fn set_caches(&mut self, caches: Caches) {
        self.caches = caches;
        if let Caches::Random(seed) = caches {
            self.chance.set(seed | 1);
        }
        self.breathe();
    }

    fn fill(&mut self, line: usize) {
        if self.lines[line].is_none() {
            let bytes = self.dram[range(line)].try_into().unwrap();
            self.lines[line] = Some(Line {
                bytes,
                dirty: false,
            });
        }
    }

    fn write_back(&mut self, line: usize) {
        if let Some(of) = &mut self.lines[line] {
            if of.dirty {
                self.dram[range(line)].copy_from_slice(&of.bytes);
                of.dirty = false;
            }
        }
    }

    fn evict(&mut self, line: usize) {
        self.write_back(line);
        self.lines[line] = None;
    }

    fn random(&self) -> u64 {
        let mut x = self.chance.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.chance.set(x);
        x
    }

    /// The caches do what they like. Called between any two things that anybody does.
    fn breathe(&mut self) {
        for line in 0..LINES {
            match self.caches {
                Caches::Idle => {}
                Caches::WriteBack => self.write_back(line),
                Caches::Evict => self.evict(line),
                Caches::Prefetch => self.fill(line),
                Caches::WriteBackPrefetch => {
                    self.write_back(line);
                    self.fill(line);
                }
                Caches::Random(_) => match (self.random() >> 32) & 7 {
                    0 => self.write_back(line),
                    1 => self.evict(line),
                    2 => self.fill(line),
                    _ => {}
                },
            }
        }
    }

    pub fn cpu_read(&mut self, at: usize) -> u8 {
        self.breathe();
        self.fill(at / LINE);
        self.lines[at / LINE].as_ref().unwrap().bytes[at % LINE]
    }

    pub fn cpu_write(&mut self, at: usize, value: u8) {
        self.breathe();
        self.fill(at / LINE);
        let line = self.lines[at / LINE].as_mut().unwrap();
        line.bytes[at % LINE] = value;
        line.dirty = true;
    }

    pub fn cpu_read_all(&mut self) -> Bytes {
        std::array::from_fn(|at| self.cpu_read(at))
    }

    pub fn device_read(&mut self, by: &Mapping, at: usize) -> u8 {
        self.breathe();
        match by.path(at / LINE) {
            Path::Snoop => match &self.lines[at / LINE] {
                Some(line) => line.bytes[at % LINE],
                None => self.dram[at],
            },
            Path::Past => self.dram[at],
            Path::Copy => by.copy[at],
        }
    }

    pub fn device_write(&mut self, by: &mut Mapping, at: usize, value: u8) {
        match by.path(at / LINE) {
            Path::Snoop => self.cpu_write(at, value),
            Path::Past => {
                self.breathe();
                self.dram[at] = value;
            }
            Path::Copy => by.copy[at] = value,
        }
        self.breathe();
    }

    /// `arch_sync_dma_for_device()` of arm64, whatever the direction.
    fn clean(&mut self, line: usize) {
        self.breathe();
        self.write_back(line);
        self.counts.cleaned += LINE;
    }

    /// `arch_wb_cache_pmem()`, where it does anything.
    pub fn clean_all(&mut self) {
        (0..LINES).for_each(|line| self.clean(line));
    }

    /// `arch_invalidate_pmem()`, where it does anything.
    pub fn invalidate_parts(&mut self, parts: &[Range<usize>]) {
        lines_of(parts).for_each(|line| self.invalidate(line));
    }

    /// `arch_sync_dma_for_cpu()` of arm64.
    fn invalidate(&mut self, line: usize) {
        self.breathe();
        self.lines[line] = None;
        self.counts.invalidated += LINE;
    }

    fn copy_out(&mut self, to: &mut Mapping, line: usize) {
        for at in range(line) {
            to.copy[at] = self.cpu_read(at);
        }
        self.counts.copied_out += LINE;
    }

    fn copy_in(&mut self, from: &Mapping, line: usize) {
        for at in range(line) {
            self.cpu_write(at, from.copy[at]);
        }
        self.counts.copied_in += LINE;
    }

    /// `dma_map_sgtable()`. A bounce buffer is filled whatever the direction.
    pub fn map(&mut self, way: Way, dir: Dir) -> Mapping {
        let mut mapping = Mapping {
            way,
            dir,
            copy: [OLD; LEN],
        };
        for line in 0..LINES {
            match mapping.path(line) {
                Path::Snoop => {}
                Path::Past => self.clean(line),
                Path::Copy => self.copy_out(&mut mapping, line),
            }
        }
        mapping
    }

    /// `dma_sync_sgtable_for_device()`
    pub fn sync_for_device(&mut self, mapping: &mut Mapping) {
        self.lines_for_device(mapping, 0..LINES);
    }

    /// `dma_sync_single_range_for_device()` of each range, all of whole lines.
    pub fn sync_parts_for_device(&mut self, mapping: &mut Mapping, parts: &[Range<usize>]) {
        assert_ne!(mapping.way, Way::UnknownWhole);
        self.lines_for_device(mapping, lines_of(parts));
    }

    fn lines_for_device(&mut self, mapping: &mut Mapping, lines: impl Iterator<Item = usize>) {
        for line in lines {
            match mapping.path(line) {
                Path::Snoop => {}
                Path::Past => self.clean(line),
                Path::Copy if mapping.dir.reads() => self.copy_out(mapping, line),
                Path::Copy => {}
            }
        }
        self.breathe();
    }

    /// `dma_sync_sgtable_for_cpu()`
    pub fn sync_for_cpu(&mut self, mapping: &Mapping) {
        self.lines_for_cpu(mapping, 0..LINES);
    }

    /// `dma_sync_single_range_for_cpu()` of each range, all of whole lines.
    pub fn sync_parts_for_cpu(&mut self, mapping: &Mapping, parts: &[Range<usize>]) {
        assert_ne!(mapping.way, Way::UnknownWhole);
        self.lines_for_cpu(mapping, lines_of(parts));
    }

    fn lines_for_cpu(&mut self, mapping: &Mapping, lines: impl Iterator<Item = usize>) {
        if mapping.dir.writes() {
            for line in lines {
                match mapping.path(line) {
                    Path::Snoop => {}
                    Path::Past => self.invalidate(line),
                    Path::Copy => self.copy_in(mapping, line),
                }
            }
        }
        self.breathe();
    }

    /// `dma_unmap_sgtable()`, without `DMA_ATTR_SKIP_CPU_SYNC`; with it nothing happens.
    pub fn unmap(&mut self, mapping: Mapping) {
        self.sync_for_cpu(&mapping);
    }
}
