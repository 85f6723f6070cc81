// SPDX-License-Identifier: GPL-2.0

//! R3 and R4 on the models: all mixes of up to four mapped devices, by kind and direction, in all
//! brackets. Every byte, and the bytes of all maintenance.

use cohbuf::Access;
use cohbuf_testdev::{Attachment, Counts, Direction, Importer, TestDevice};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, has_noncoherent, is_debug, page};
use crate::harness::{Outcome, fail, skip};

crate::guest_suite!("mixes":
    every_mix_of_devices,
);

/// One device of a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    kind: TestDevice,
    direction: Direction,
}

impl Part {
    fn writes(self) -> bool {
        self.direction != Direction::ToDevice
    }

    fn reads(self) -> bool {
        self.direction != Direction::FromDevice
    }
}

const DIRECTIONS: [Direction; 3] = [
    Direction::ToDevice,
    Direction::FromDevice,
    Direction::Bidirectional,
];

/// All multisets of so many out of `parts`, as indices that never go down.
fn multisets(parts: usize, count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut sets = Vec::new();
    for set in multisets(parts, count - 1) {
        for next in set.last().copied().unwrap_or(0)..parts {
            let mut longer = set.clone();
            longer.push(next);
            sets.push(longer);
        }
    }
    sets
}

/// Where a device writes, and where the CPU writes beside it in the same cache line.
const LINES: usize = 128;
const BESIDE: usize = 32;

/// What the contract says that a bracket costs, worked out by hand, not by the policy.
///
/// `dirty`: the CPU caches may hold what a snooping device, or the CPU with the bytes of a copy,
/// has put there since the last clean.
struct Cost {
    start: Counts,
    end: Counts,
    /// START has left lines dirty, besides those of a snooping device.
    leaves_dirty: bool,
}

fn is_direct(kind: TestDevice) -> bool {
    kind == TestDevice::DirectModel && has_noncoherent()
}

fn is_snooping(kind: TestDevice) -> bool {
    kind == TestDevice::SnoopModel || (kind == TestDevice::DirectModel && !has_noncoherent())
}

/// With `dma_map_ops` of their own.
fn is_cache(kind: TestDevice) -> bool {
    matches!(kind, TestDevice::CacheModel | TestDevice::CacheModelMerged)
}

fn is_bounce(kind: TestDevice) -> bool {
    kind == TestDevice::BounceModel
}

/// Bounced by swiotlb, which no model counts.
fn is_swiotlb(kind: TestDevice) -> bool {
    kind == TestDevice::BouncedModel
}

fn any(_: TestDevice) -> bool {
    true
}

fn count(mix: &[Part], kind: fn(TestDevice) -> bool) -> u64 {
    mix.iter().filter(|part| kind(part.kind)).count() as u64
}

fn writers(mix: &[Part], kind: fn(TestDevice) -> bool) -> u64 {
    mix.iter()
        .filter(|part| part.writes() && kind(part.kind))
        .count() as u64
}

/// Devices with ops of their own, of two kinds, that may write at the same time.
fn is_refused(mix: &[Part]) -> bool {
    writers(mix, is_cache) > 0 && writers(mix, is_bounce) > 0
}

fn cost(mix: &[Part], len: u64, dirty: bool) -> Cost {
    let direct = writers(mix, is_direct).min(1);
    let cache = writers(mix, is_cache);
    let bounce = writers(mix, is_bounce);
    let copies = cache + bounce + writers(mix, is_swiotlb);
    // Two may write, and one of them may have a copy: bytes are told apart.
    let contested = copies > 0 && writers(mix, any) > 1;
    // The pass for direct devices comes first, and leaves only what snooping ones may write.
    let dirty_for_copies = if direct > 0 {
        writers(mix, is_snooping) > 0
    } else {
        dirty
    };
    let tells_apart = u64::from(contested);
    // The CPU has copied, and dirtied lines that devices past the caches may write.
    let dirtied = writers(mix, is_swiotlb) > 0;
    // For all that the module knows, one with ops of its own may snoop.
    let must_clean = dirty || cache + bounce > 0;
    Cost {
        start: Counts {
            // Before the invalidate; after the copies; and back to each that may have missed some.
            clean_bytes: len
                * (direct * u64::from(must_clean)
                    + tells_apart * (direct + cache * u64::from(dirtied))),
            invalidate_bytes: len * (direct + cache),
            to_bounce_bytes: len * bounce * tells_apart,
            from_bounce_bytes: len * bounce,
            // By the CPU, where ops of their own could drop it; and before the invalidate by the CPU,
            // which no pass for direct devices has done.
            wb_bytes: len
                * u64::from(contested && cache + bounce > 0 && (dirty_for_copies || direct == 0)),
            // By the CPU as well, after that; the model sees that of arm64.
            drop_bytes: len
                * u64::from(contested && cache + bounce > 0 && direct == 0 && has_noncoherent()),
            ..Counts::default()
        },
        end: Counts {
            clean_bytes: len * (count(mix, is_direct).min(1) + count(mix, is_cache)),
            to_bounce_bytes: len * count(mix, is_bounce),
            ..Counts::default()
        },
        // A copy was fetched, and no pass for direct devices followed.
        leaves_dirty: copies > 0 && !(contested && direct > 0),
    }
}

/// Only bytes are compared: pieces depend on the segments.
fn bytes_of(counts: Counts) -> [u64; 6] {
    [
        counts.clean_bytes,
        counts.invalidate_bytes,
        counts.to_bounce_bytes,
        counts.from_bounce_bytes,
        counts.wb_bytes,
        counts.drop_bytes,
    ]
}

/// Eight bytes that say who wrote them when.
fn word(who: usize, when: usize) -> [u8; 8] {
    let mut word = *b"........";
    word[0] = who as u8 + 1;
    word[1] = when as u8 + 1;
    word
}

fn run(guest: &Guest, importer: &Importer, mix: &[Part]) -> Outcome {
    let len = page();
    let model = importer.model();
    model.reset()?;
    let buffer = guest.bracketed(len)?;
    let mapping = buffer.map()?;
    // R15: what a device sees before anybody has written is zero, not what memory held before.
    let _ = mapping.to_vec()?;
    model.track(mapping.as_ptr(), len)?;

    let mut devices: Vec<Attachment<'_>> = Vec::new();
    for (at, part) in mix.iter().enumerate() {
        let index = mix[..at].iter().filter(|p| p.kind == part.kind).count() as u32;
        let device = importer.attach(&buffer, part.kind, index)?;
        let before = is_refused(&mix[..at]);
        match device.map(part.direction) {
            Ok(_) => check!(
                before == is_refused(&mix[..=at]),
                "{part:?} was not refused: {mix:?}"
            ),
            Err(Errno::BUSY) if is_refused(&mix[..=at]) => {
                // What is refused changes nothing; the rest has a mix of its own.
                let info = guest.device()?.info(&buffer)?;
                check!(
                    info.mappings as usize == at && info.refused_map == 1,
                    "{info:?}"
                );
                drop(devices);
                model.reset()?;
                return Ok(());
            }
            Err(errno) => return fail(format!("map of {part:?}: {errno}: {mix:?}")),
        }
        devices.push(device);
    }
    let each = || mix.iter().zip(&devices).enumerate();
    for (_, (part, device)) in each().filter(|(_, (part, _))| part.reads()) {
        let mut seen = vec![1; len];
        device.device_reads(0, &mut seen)?;
        check!(seen == vec![0; len], "{part:?} sees old content: {mix:?}");
    }

    let snoops = writers(mix, is_snooping) > 0;
    // So that what mapping left behind does not matter.
    buffer.cpu_access(Access::ReadWrite)?.end()?;
    // Nothing was cleaned where nobody is past the caches for certain.
    let mut dirty = snoops || count(mix, is_direct) == 0;

    let mut expected = vec![0; len];
    for (round, access) in [Access::Read, Access::Write, Access::ReadWrite]
        .into_iter()
        .enumerate()
    {
        let case = || format!("{access:?} of {mix:?}");
        for (who, (part, device)) in each() {
            if part.writes() {
                let at = who * LINES;
                expected[at..at + 8].copy_from_slice(&word(who, round));
                device.device_writes(at as u64, &word(who, round))?;
            }
        }
        // A cache may write back and refill whenever it likes.
        if round == 1 {
            model.evict()?;
            model.drop_clean()?;
        }
        let cost = cost(mix, len as u64, dirty);
        model.zero_counts()?;
        let window = buffer.cpu_access(access)?;
        let start = model.counts()?;
        check!(
            mapping.to_vec()? == expected,
            "the CPU does not see all: {}",
            case()
        );
        let writes = access != Access::Read;
        if writes {
            for who in 0..mix.len() {
                let at = who * LINES + BESIDE;
                expected[at..at + 8].copy_from_slice(&word(9, round));
                mapping.write(at, &word(9, round))?;
            }
        }
        model.zero_counts()?;
        window.end()?;
        let end = model.counts()?;
        // After what a cache did by itself, too: START knows nothing of it.
        check!(
            bytes_of(start) == bytes_of(cost.start),
            "START of {}: {:?}, must be {:?} (cleaned, invalidated, to and from copies, by the CPU both ways)",
            case(),
            bytes_of(start),
            bytes_of(cost.start)
        );
        let must = if writes { cost.end } else { Counts::default() };
        check!(
            bytes_of(end) == bytes_of(must),
            "END of {}: {:?}, must be {:?}",
            case(),
            bytes_of(end),
            bytes_of(must)
        );
        dirty = if writes {
            snoops || count(mix, is_direct) == 0
        } else if writers(mix, is_direct) > 0 {
            snoops || cost.leaves_dirty
        } else {
            dirty || cost.leaves_dirty
        };
        if writes {
            model.evict()?;
            for (_, (part, device)) in each().filter(|(_, (part, _))| part.reads()) {
                let mut seen = vec![0; len];
                device.device_reads(0, &mut seen)?;
                check!(
                    seen == expected,
                    "{part:?} does not see all after {}",
                    case()
                );
            }
        }
    }

    // An unmap brings the last bytes, and goes over nobody's.
    for (who, (part, device)) in each() {
        if part.writes() {
            let at = who * LINES;
            expected[at..at + 8].copy_from_slice(&word(who, 7));
            device.device_writes(at as u64, &word(who, 7))?;
        }
    }
    for device in &devices {
        device.unmap()?;
        model.evict()?;
    }
    let window = buffer.cpu_access(Access::Read)?;
    check!(mapping.to_vec()? == expected, "lost by unmap: {mix:?}");
    window.end()?;
    drop(devices);
    model.reset()?;
    Ok(())
}

fn every_mix_of_devices(guest: &Guest) -> Outcome {
    if guest.iommu {
        return skip("no model is behind the IOMMU, so that this is what the plain boot does");
    }
    let importer = guest.importer()?;
    let bounced = if guest.swiotlb {
        TestDevice::BouncedModel
    } else {
        TestDevice::BounceModel
    };
    let parts: Vec<Part> = [
        TestDevice::SnoopModel,
        TestDevice::DirectModel,
        TestDevice::CacheModelMerged,
        bounced,
        TestDevice::CacheModel,
    ]
    .into_iter()
    .flat_map(|kind| DIRECTIONS.map(|direction| Part { kind, direction }))
    .collect();
    for count in 0..=4 {
        let sets = multisets(parts.len(), count);
        // An emulated debug kernel takes long: there, a sample of the large ones.
        let step = match count {
            3 if is_debug() => 7,
            4 if is_debug() => 61,
            _ => 1,
        };
        for set in sets.iter().step_by(step) {
            let mut mix: Vec<Part> = set.iter().map(|part| parts[*part]).collect();
            run(guest, &importer, &mix)?;
            // The order of attaching must not matter.
            mix.reverse();
            run(guest, &importer, &mix)?;
        }
    }
    Ok(())
}
