// SPDX-License-Identifier: GPL-2.0

//! What is wanted, and how far it is met.

use super::table::table;
use super::{At, Index, grouped, ratio};
use crate::record::{Arch, Device, Exporter, Measured, Op, PICTURE, size_name};

const RW: [Op; 2] = [Op::BeginRw, Op::EndRw];
const READ: [Op; 2] = [Op::BeginRead, Op::EndRead];
const LIFE: [Op; 2] = [Op::Create, Op::Destroy];
const IMPORT: [Op; 4] = [Op::Attach, Op::Map, Op::Unmap, Op::Detach];
const MIB: u64 = 1 << 20;

/// On which side of the limit what was found has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    Most(f64),
    Least(f64),
}

/// One thing that is wanted.
struct Target {
    arch: Arch,
    what: String,
    /// What is put into relation, in words.
    of: String,
    limit: Limit,
    found: f64,
}

impl Target {
    fn is_met(&self) -> bool {
        match self.limit {
            Limit::Most(limit) => self.found <= limit,
            Limit::Least(limit) => self.found >= limit,
        }
    }

    /// How many times what was found is over, or under, the limit.
    fn missed_by(&self) -> f64 {
        match self.limit {
            Limit::Most(limit) => self.found / limit,
            Limit::Least(limit) => limit / self.found,
        }
    }
}

/// All targets, met or not.
pub fn report(measured: &Measured) -> String {
    let targets = all(measured);
    let missed = targets.iter().filter(|target| !target.is_met()).count();
    let mut table = table(&["target", "", "of", "wanted", "found", ""], 3);
    for target in &targets {
        let (sign, limit) = match target.limit {
            Limit::Most(limit) => ("≤", limit),
            Limit::Least(limit) => ("≥", limit),
        };
        let verdict = match target.is_met() {
            true => "met".into(),
            false if target.missed_by().is_finite() => {
                format!("{} x off", ratio(target.missed_by()))
            }
            false => "not met".into(),
        };
        table.add_row([
            target.what.clone(),
            target.arch.name().into(),
            target.of.clone(),
            format!("{sign} {}", number(limit)),
            number(target.found),
            verdict,
        ]);
    }
    let met = targets.len() - missed;
    format!("{table}\n{met} of {} targets met\n", targets.len())
}

/// Ratios as they are; counts without decimals.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value >= 100.0 {
        return grouped(value as u64);
    }
    ratio(value)
}

fn all(measured: &Measured) -> Vec<Target> {
    let mut found = Found {
        index: Index::new(&measured.rows),
        measured,
        targets: Vec::new(),
    };
    for arch in [Arch::Arm64, Arch::Amd64] {
        found.syncs(arch);
        found.maintenance(arch);
        found.regions(arch);
        found.making(arch);
        found.importing(arch);
        found.memory(arch);
        found.scale(arch);
    }
    found.targets
}

struct Found<'a> {
    index: Index<'a>,
    measured: &'a Measured,
    targets: Vec<Target>,
}

impl Found<'_> {
    /// Puts a target in where all that it needs was measured.
    fn push(
        &mut self,
        arch: Arch,
        what: &str,
        of: impl Into<String>,
        limit: Limit,
        found: Option<f64>,
    ) {
        let Some(found) = found else {
            return;
        };
        self.targets.push(Target {
            arch,
            what: what.into(),
            of: of.into(),
            limit,
            found,
        });
    }

    /// cohbuf over the system heap.
    fn to_system(&self, at: At, ops: &[Op]) -> Option<f64> {
        self.over(at, Exporter::System, ops)
    }

    fn over(&self, at: At, rival: Exporter, ops: &[Op]) -> Option<f64> {
        let own = self.index.sum(at, Exporter::Cohbuf, ops)?;
        Some(own as f64 / self.index.sum(at, rival, ops)? as f64)
    }

    fn to_better(&self, at: At, ops: &[Op]) -> Option<f64> {
        let own = self.index.sum(at, Exporter::Cohbuf, ops)?;
        Some(own as f64 / self.index.better_rival(at, ops)?.1 as f64)
    }

    /// cohbuf at one place over cohbuf at another.
    fn own(&self, at: At, base: At, ops: &[Op]) -> Option<f64> {
        let of = |at| Some(self.index.sum(at, Exporter::Cohbuf, ops)? as f64);
        Some(of(at)? / of(base)?)
    }

    fn syncs(&mut self, arch: Arch) {
        let what = "begin + end, no cache maintenance";
        for (name, ops) in [("READ | WRITE", RW), ("READ", READ)] {
            for size in [4096, 8 * MIB, 64 * MIB] {
                let at = At::new(arch, size, 0, Device::None);
                let found = self.to_system(at, &ops);
                let of = format!("{name}, {}, no importer / system heap", size_name(size));
                self.push(arch, what, of, Limit::Most(1.0), found);
            }
            for count in [8, 64, 1000] {
                let base = At::new(arch, 8 * MIB, 0, Device::None);
                let at = At::new(arch, 8 * MIB, count, Device::Coherent);
                let found = self.own(at, base, &ops);
                let of = format!("{name}, {count} coherent importers / none");
                self.push(arch, what, of, Limit::Most(1.02), found);
            }
        }
    }

    fn maintenance(&mut self, arch: Arch) {
        let at = |count| At::new(arch, 8 * MIB, count, Device::NonCoherent);
        let what = "begin + end, 8 MiB, not coherent";
        let found = self.own(at(8), at(1), &RW);
        self.push(arch, what, "8 importers / 1", Limit::Most(1.05), found);
        let found = self.to_system(at(1), &RW);
        self.push(
            arch,
            what,
            "1 importer / system heap",
            Limit::Most(1.0),
            found,
        );
        let found = self.to_system(at(8), &RW).map(f64::recip);
        self.push(
            arch,
            what,
            "system heap / 8 importers",
            Limit::Least(7.5),
            found,
        );

        let picture = At::new(arch, PICTURE, 1, Device::NonCoherent);
        let what = "READ window, 1600x1200x4, not coherent";
        let found = self.to_system(picture, &READ).map(f64::recip);
        self.push(
            arch,
            what,
            "system heap / begin + end",
            Limit::Least(1.9),
            found,
        );
        let found = self.to_system(picture, &READ[1..]).map(f64::recip);
        self.push(arch, what, "system heap / end", Limit::Least(500.0), found);
        let cleaned = self.index.row(picture, Exporter::Cohbuf, Op::EndRead);
        let found = cleaned.map(|row| row.bytes_cleaned as f64);
        self.push(arch, what, "bytes cleaned at end", Limit::Most(0.0), found);
    }

    fn regions(&mut self, arch: Arch) {
        let at = At::new(arch, PICTURE, 1, Device::NonCoherent);
        let what = "10x10 of 1600x1200, not coherent";
        let begin = self.index.row(at, Exporter::Cohbuf, Op::RegionBegin);
        let end = self.index.row(at, Exporter::Cohbuf, Op::RegionEnd);
        let whole = self.index.sum(at, Exporter::System, &RW);
        let region = begin.zip(end);
        let found = region.zip(whole).map(|((begin, end), whole)| {
            whole as f64 / (begin.instructions + end.instructions) as f64
        });
        let of = "system heap's SYNC / region's";
        self.push(arch, what, of, Limit::Least(400.0), found);
        for (of, bytes) in [
            (
                "bytes cleaned",
                region.map(|(b, e)| b.bytes_cleaned + e.bytes_cleaned),
            ),
            (
                "bytes invalidated",
                region.map(|(b, e)| b.bytes_invalidated + e.bytes_invalidated),
            ),
        ] {
            let found = bytes.map(|bytes| bytes as f64);
            self.push(arch, what, of, Limit::Most(1280.0), found);
        }
        let dirty = self.index.sum(at, Exporter::Cohbuf, &[Op::DirtyEnd]);
        let end = self.index.sum(at, Exporter::System, &[Op::EndRw]);
        let found = dirty.zip(end).map(|(dirty, end)| end as f64 / dirty as f64);
        let of = "system heap's end / dirty-tracking end";
        self.push(arch, what, of, Limit::Least(10.0), found);
    }

    fn making(&mut self, arch: Arch) {
        // `rep stos` counts once per byte in emulation: there is nothing to compare on amd64.
        if arch == Arch::Arm64 {
            let what = "create + destroy";
            for size in [4096, MIB, 64 * MIB] {
                let at = At::new(arch, size, 0, Device::None);
                let found = self.to_better(at, &LIFE);
                let of = format!("{} / better rival", size_name(size));
                self.push(arch, what, of, Limit::Most(1.0), found);
                let of = format!("{}, above clear_page / system heap's", size_name(size));
                let found = self.above_floor(at);
                self.push(arch, what, of, Limit::Most(0.5), found);
            }
        }
        let at = At::new(arch, 64 * MIB, 0, Device::None);
        let found = self.to_better(at, &[Op::MmapTouch]);
        let what = "mmap + first write to each page";
        self.push(arch, what, "64 MiB / better rival", Limit::Most(0.1), found);
    }

    /// What is left of a life without zeroing, over the same of the system heap.
    fn above_floor(&self, at: At) -> Option<f64> {
        let floor = self.measured.floors.iter().find(|floor| {
            floor.arch == at.arch && floor.size == at.size && floor.what == "clear-pages"
        })?;
        let above = |exporter| {
            let cost = self.index.sum(at, exporter, &LIFE)?;
            Some(cost.saturating_sub(floor.instructions) as f64)
        };
        Some(above(Exporter::Cohbuf)? / above(Exporter::System)?)
    }

    fn importing(&mut self, arch: Arch) {
        let at = At::new(arch, 64 * MIB, 1, Device::Coherent);
        let what = "attach + map + unmap + detach";
        let found = self.to_system(at, &IMPORT);
        let of = "64 MiB, coherent / system heap";
        self.push(arch, what, of, Limit::Most(0.8), found);

        let what = "unmap + map again, no CPU access";
        for size in [8 * MIB, 64 * MIB] {
            let base = At::new(arch, size, 1, Device::Coherent);
            let at = At::new(arch, size, 1, Device::NonCoherent);
            let found = self.own(at, base, &[Op::Remap]);
            let of = format!("{}, not coherent / coherent", size_name(size));
            self.push(arch, what, of, Limit::Most(2.0), found);
            let row = self.index.row(at, Exporter::Cohbuf, Op::Remap);
            let found = row.map(|row| (row.bytes_cleaned + row.bytes_invalidated) as f64);
            let of = format!("{}, bytes maintained", size_name(size));
            self.push(arch, what, of, Limit::Most(0.0), found);
        }
    }

    fn memory(&mut self, arch: Arch) {
        let measured = self.measured;
        for row in &measured.memory {
            let Some(segments) = row.segments.filter(|_| row.arch == arch) else {
                continue;
            };
            let limit = Limit::Most(f64::from(512 + 32 * segments));
            let size = size_name(row.size);
            let what = "kernel memory of a buffer, bytes";
            let of = format!("{size}, {} alive, all", row.buffers);
            self.push(arch, what, of, limit, Some(row.bytes as f64));
            let of = format!("{size}, without dma_buf_export()'s");
            self.push(arch, what, of, limit, Some(row.own() as f64));
        }
    }

    fn scale(&mut self, arch: Arch) {
        let measured = self.measured;
        for row in &measured.scale {
            if row.arch == arch && row.exporter == Exporter::Cohbuf {
                let of = format!("{}, beside {}", row.op, row.beside);
                let found = row.instructions as f64 / row.alone as f64;
                self.push(arch, "scale", of, Limit::Most(1.02), Some(found));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(limit: Limit, found: f64) -> Target {
        Target {
            arch: Arch::Arm64,
            what: String::new(),
            of: String::new(),
            limit,
            found,
        }
    }

    #[test]
    fn a_limit_is_met_at_the_limit_and_not_beyond() {
        assert!(target(Limit::Most(1.0), 1.0).is_met());
        assert!(!target(Limit::Most(1.0), 1.01).is_met());
        assert!(target(Limit::Least(7.5), 7.5).is_met());
        assert!(!target(Limit::Least(7.5), 7.4).is_met());
        assert!(!target(Limit::Most(1.0), f64::NAN).is_met());
    }

    #[test]
    fn what_is_missed_is_missed_by_a_factor() {
        assert_eq!(target(Limit::Most(0.5), 1.0).missed_by(), 2.0);
        assert_eq!(target(Limit::Least(500.0), 250.0).missed_by(), 2.0);
    }
}
