// SPDX-License-Identifier: GPL-2.0

//! All mixes of up to four mapped devices, by kind and direction, in all brackets: every byte, and
//! the bytes of all maintenance.

use std::ops::AddAssign;

use crate::driver::Driver;
use crate::memory::{Caches, Counts, Dir, LEN, LINE, LINES, Memory, Path, Way};
use crate::policy::Access;
use crate::rules::exclude;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Part {
    way: Way,
    dir: Dir,
}

impl Part {
    /// Of the buffer, how much the device reaches so.
    fn bytes(self, path: Path) -> usize {
        (0..LINES).filter(|l| self.way.path(*l) == path).count() * LINE
    }

    fn is(self, ways: &[Way]) -> bool {
        ways.contains(&self.way)
    }
}

fn parts() -> Vec<Part> {
    Way::DIVISIBLE
        .into_iter()
        .flat_map(|way| Dir::ALL.map(|dir| Part { way, dir }))
        .collect()
}

/// All mixes of `count` parts: in all orders, or in that of `parts` alone.
fn mixes(parts: &[Part], count: usize, all_orders: bool) -> Vec<Vec<Part>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in parts.iter().enumerate() {
        let rest = if all_orders { parts } else { &parts[at..] };
        for mut mix in mixes(rest, count - 1, all_orders) {
            mix.insert(0, *first);
            all.push(mix);
        }
    }
    all
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.cleaned += other.cleaned;
        self.invalidated += other.invalidated;
        self.copied_out += other.copied_out;
        self.copied_in += other.copied_in;
    }
}

/// Which device wrote each line.
type Wrote = [Option<usize>; LINES];

/// What the contract says that a bracket costs: worked out by hand, not by the policy.
struct Cost<'a>(&'a [Part]);

impl Cost<'_> {
    fn writers(&self) -> impl Iterator<Item = Part> {
        self.0.iter().copied().filter(|p| p.dir.writes())
    }

    fn any_writer(&self, ways: &[Way]) -> bool {
        self.writers().any(|p| p.is(ways))
    }

    /// One pass for all that are direct, and one for each behind an IOMMU.
    fn past(parts: impl Iterator<Item = Part> + Clone) -> usize {
        let direct = parts.clone().any(|p| p.is(&[Way::Direct]));
        LEN * (usize::from(direct) + parts.filter(|p| p.is(&[Way::Iommu])).count())
    }

    fn past_writers(&self) -> usize {
        Self::past(self.writers().collect::<Vec<_>>().into_iter())
    }

    fn snoops(&self) -> bool {
        self.any_writer(&[Way::Snooping, Way::HalfSnooping])
    }

    fn is_unknown(&self) -> bool {
        self.any_writer(UNKNOWN)
    }

    /// Two may write, and of one at least nobody knows that it has no copy.
    fn is_contested(&self) -> bool {
        self.any_writer(COPIES) && self.writers().count() > 1
    }

    /// What the DMA API does for each that may have a copy.
    fn own(part: Part, for_device: bool) -> Counts {
        let (past, copy) = (part.bytes(Path::Past), part.bytes(Path::Copy));
        if for_device {
            Counts {
                cleaned: past,
                copied_out: copy,
                ..Counts::default()
            }
        } else {
            Counts {
                invalidated: past,
                copied_in: copy,
                ..Counts::default()
            }
        }
    }

    /// Whether a fetch of the device's copy goes over that line of the buffer.
    fn copies(&self, who: usize, line: usize) -> bool {
        self.0[who].dir.writes() && self.0[who].way.path(line) == Path::Copy
    }

    /// In which copies are fetched.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.0.len()).collect();
        order.sort_by_key(|who| !self.0[*who].is(UNKNOWN));
        order
    }

    /// Whether the copy of device `of` lacks what another has written. One that is bounced in part,
    /// and snoops, has the rest; but that shows only if it is in the buffer when the turn comes.
    fn has_news(&self, of: usize, wrote: &Wrote) -> bool {
        let before: Vec<_> = self
            .order()
            .into_iter()
            .take_while(|who| *who != of)
            .collect();
        let lacks = |line, by: usize| {
            if self.copies(of, line) {
                return by != of;
            }
            match before.iter().rfind(|who| self.copies(**who, line)) {
                Some(last) => *last != by,
                None => self.copies(by, line),
            }
        };
        (0..LINES).any(|line| wrote[line].is_some_and(|by| lacks(line, by)))
    }

    /// Whether the CPU has written lines of the buffer to fetch copies: a bounced one as a whole; or
    /// what a copy has gone over, to put it back.
    fn dirtied(&self, wrote: &Wrote) -> bool {
        let order = self.order();
        let gone_over = |line, by| {
            let last = order.iter().rfind(|who| self.copies(**who, line));
            last.is_some_and(|last| *last != by)
        };
        self.any_writer(&[Way::Bounced, Way::HalfSnooping])
            || (0..LINES).any(|line| wrote[line].is_some_and(|by| gone_over(line, by)))
    }

    /// Of a START. `wrote`: since the last.
    fn start(&self, wrote: &Wrote) -> Counts {
        let past = self.past_writers();
        let mut counts = Counts {
            invalidated: past,
            ..Counts::default()
        };
        if self.snoops() || self.is_unknown() {
            counts.cleaned += past;
        }
        for part in self.writers().filter(|p| p.is(COPIES)) {
            counts += Self::own(part, false);
        }
        if self.is_contested() {
            if self.is_unknown() && (self.snoops() || past == 0) {
                counts.cleaned += LEN;
            }
            if self.is_unknown() && past == 0 {
                counts.invalidated += LEN;
            }
            for (who, part) in self.0.iter().copied().enumerate() {
                let may_lack = part.dir.writes() && part.is(COPIES);
                let dirtied = part.is(UNKNOWN) && self.dirtied(wrote);
                if may_lack && (dirtied || self.has_news(who, wrote)) {
                    counts += Self::own(part, true);
                }
            }
            counts.cleaned += past;
        }
        counts
    }

    /// Of an END with WRITE, that of READ costs nothing.
    fn end(&self) -> Counts {
        let mut counts = Counts {
            cleaned: Self::past(self.0.iter().copied()),
            ..Counts::default()
        };
        for part in self.0.iter().filter(|p| p.is(COPIES)) {
            counts += Self::own(*part, true);
        }
        counts
    }
}

const UNKNOWN: &[Way] = &[
    Way::HalfBounced,
    Way::UnknownPast,
    Way::UnknownCopy,
    Way::UnknownSnooping,
];

/// That may have a copy.
const COPIES: &[Way] = &[
    Way::Bounced,
    Way::HalfSnooping,
    Way::HalfBounced,
    Way::UnknownPast,
    Way::UnknownCopy,
    Way::UnknownSnooping,
];

struct Run<'a> {
    mix: &'a [Part],
    ids: Vec<usize>,
    driver: Driver,
    expected: [u8; LEN],
    case: String,
}

impl Run<'_> {
    fn write(&mut self, who: usize, at: usize, value: u8) {
        self.driver.device_write(self.ids[who], at, value);
        self.expected[at] = value;
    }

    /// The CPU sees all, and START has cost that.
    fn start(&mut self, access: Access, cost: Counts) {
        self.driver.memory.counts = Counts::default();
        self.driver.start(0, access);
        let counts = self.driver.memory.counts;
        assert_eq!(counts, cost, "START of {}", self.case);
        let seen = self.driver.memory.cpu_read_all();
        assert_eq!(seen, self.expected, "the CPU, {}", self.case);
    }

    /// END has cost that; who was mapped, and may read, sees all that the CPU wrote.
    fn end(&mut self, access: Access, cost: Counts) {
        self.driver.memory.counts = Counts::default();
        self.driver.finish(0, access);
        let counts = self.driver.memory.counts;
        assert_eq!(counts, cost, "END of {}", self.case);
        if access.writes() {
            self.see_all();
        }
    }

    fn see_all(&mut self) {
        for (part, id) in self.mix.iter().zip(&self.ids) {
            for at in (0..LEN).filter(|_| part.dir.reads()) {
                let seen = self.driver.device_read(*id, at);
                assert_eq!(seen, self.expected[at], "{part:?} at {at}, {}", self.case);
            }
        }
    }
}

/// Each device that may write has a line of its own, and the CPU writes beside it. In the second
/// round each writes the line of the next, and puts one byte back to what it was at first.
fn run(mix: &[Part], access: Access, caches: Caches) {
    let mut driver = Driver::new(Memory::new(caches));
    let mut ids = Vec::new();
    for (at, part) in mix.iter().enumerate() {
        let excluded = part.dir.writes()
            && mix[..at]
                .iter()
                .any(|p| p.dir.writes() && exclude(p.way, part.way, true));
        let mapped = driver.map(part.way, part.dir);
        assert_eq!(mapped.is_err(), excluded, "map of {part:?} in {mix:?}");
        let Ok(id) = mapped else {
            // The rest has a mix of its own.
            return;
        };
        ids.push(id);
    }
    let mut run = Run {
        mix,
        ids,
        driver,
        expected: [0; LEN],
        case: String::new(),
    };
    // New memory is zero for every device.
    run.case = format!("mapped, {caches:?}, {mix:?}");
    run.see_all();
    let writers: Vec<_> = (0..mix.len()).filter(|w| mix[*w].dir.writes()).collect();
    let cost = Cost(mix);
    let end = if access.writes() {
        cost.end()
    } else {
        Counts::default()
    };

    for round in 0..2 {
        let mut wrote = [None; LINES];
        run.case = format!("round {round}, {access:?}, {caches:?}, {mix:?}");
        for (n, who) in writers.iter().copied().enumerate() {
            let line = writers[(n + round) % writers.len()];
            wrote[line] = Some(who);
            let line = line * LINE;
            let value = 16 * (round + 1) + who;
            if round == 1 {
                run.write(who, line, 0);
                run.write(who, line + 1, value as u8);
            } else {
                (0..4).for_each(|at| run.write(who, line + at, value as u8));
            }
        }
        run.start(Access::Read, cost.start(&wrote));
        run.end(Access::Read, Counts::default());
        // There is nothing new.
        run.start(access, cost.start(&[None; LINES]));
        if access.writes() {
            for line in 0..LINES {
                let value = (64 + round) as u8;
                run.driver.memory.cpu_write(line * LINE + 6, value);
                run.expected[line * LINE + 6] = value;
            }
            // What a device wrote, back to what it was.
            run.driver.memory.cpu_write(3, 0);
            run.expected[3] = 0;
        }
        run.end(access, end);
    }

    // The last bytes come with the unmap, and go over nobody's.
    for who in writers {
        run.write(who, who * LINE + 2, 99);
    }
    for id in run.ids.clone() {
        run.driver.unmap(id);
    }
    run.case = format!("all unmapped, {access:?}, {caches:?}, {mix:?}");
    run.start(Access::Read, Counts::default());
}

fn run_all(access: Access) {
    let parts = parts();
    for count in 0..=4 {
        for (number, mix) in mixes(&parts, count, count < 4).iter().enumerate() {
            for caches in Caches::FIXED {
                run(mix, access, caches);
            }
            run(mix, access, Caches::Random(number as u64));
        }
    }
}

#[test]
fn all_mixes_in_read() {
    run_all(Access::Read);
}

#[test]
fn all_mixes_in_write() {
    run_all(Access::Write);
}

#[test]
fn all_mixes_in_read_write() {
    run_all(Access::ReadWrite);
}

/// Of a device alone: what the DMA API does to map and unmap it. The abstraction maps anew, for
/// both directions, what may have a copy and only writes.
#[test]
fn mapping_alone_costs_what_the_dma_api_does() {
    for part in parts() {
        let mut driver = Driver::new(Memory::new(Caches::Idle));
        let id = driver.map(part.way, part.dir).unwrap();
        let mut cost = Cost::own(part, true);
        if part.is(COPIES) && part.dir == Dir::From {
            cost += Cost::own(part, true);
        }
        assert_eq!(driver.memory.counts, cost, "map of {part:?}");

        driver.memory.counts = Counts::default();
        driver.unmap(id);
        let cost = if part.dir.writes() {
            Cost::own(part, false)
        } else {
            Counts::default()
        };
        assert_eq!(driver.memory.counts, cost, "unmap of {part:?}");
    }
}

/// The CPU owns the bytes: an unmap moves none, and goes over none.
#[test]
fn unmap_in_a_window_costs_nothing() {
    for mix in mixes(&parts(), 2, true) {
        for caches in Caches::FIXED {
            let mut driver = Driver::new(Memory::new(caches));
            let ids: Vec<_> = mix
                .iter()
                .filter_map(|p| driver.map(p.way, p.dir).ok())
                .collect();
            driver.start(0, Access::Write);
            driver.memory.cpu_write(0, 1);
            driver.memory.counts = Counts::default();
            driver.unmap(ids[0]);
            assert_eq!(driver.memory.counts, Counts::default(), "{mix:?}");
            assert_eq!(driver.memory.cpu_read(0), 1, "{caches:?}, {mix:?}");
            driver.finish(0, Access::Write);
            for id in &ids[1..] {
                if mix[1].dir.reads() {
                    assert_eq!(driver.device_read(*id, 0), 1, "{caches:?}, {mix:?}");
                }
            }
        }
    }
}

/// What one START has cleaned, the next does not clean again.
#[test]
fn lines_of_a_device_that_is_gone_are_cleaned_once() {
    for way in [Way::Direct, Way::Iommu] {
        let mut driver = Driver::new(Memory::new(Caches::Idle));
        driver.map(way, Dir::From).unwrap();
        let snooping = driver.map(Way::Snooping, Dir::From).unwrap();
        driver.unmap(snooping);
        for cleaned in [LEN, 0] {
            driver.memory.counts = Counts::default();
            driver.start(0, Access::Read);
            driver.finish(0, Access::Read);
            assert_eq!(driver.memory.counts.cleaned, cleaned, "{way:?}");
        }
    }
}
