// SPDX-License-Identifier: GPL-2.0

//! R3 and R4 on the models: all mixes of up to four mapped devices, by kind and direction, in all
//! brackets. Every byte, and the bytes of all maintenance.

use cohbuf::Access;
use cohbuf_testdev::{Attachment, Counts, Direction, Importer, TestDevice};

use crate::check;
use crate::guest::{Guest, has_noncoherent, is_debug, page};
use crate::harness::Outcome;

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
    /// The bytes of copies were put together in the buffer by START.
    copied: bool,
}

fn cost(mix: &[Part], len: u64, dirty: bool) -> Cost {
    let count = |kind: fn(TestDevice) -> bool, writers: bool| {
        let of = |part: &&Part| kind(part.kind) && (part.writes() || !writers);
        mix.iter().filter(of).count() as u64
    };
    let is_direct = |kind| kind == TestDevice::DirectModel && has_noncoherent();
    let is_cache = |kind| matches!(kind, TestDevice::CacheModel | TestDevice::CacheModelMerged);
    let is_bounce = |kind| kind == TestDevice::BounceModel;
    let is_snoop = |kind| {
        kind == TestDevice::SnoopModel || (kind == TestDevice::DirectModel && !has_noncoherent())
    };
    let direct = count(is_direct, true).min(1);
    let cache = count(is_cache, true);
    let bounce = count(is_bounce, true);
    let snoop = count(is_snoop, true);
    // Two may write, and one of them may have a copy: bytes are told apart, and a copy that lacks
    // the news gets them.
    let contested = cache + bounce > 0 && count(|_| true, true) > 1;
    // What a copy brings, or a snooping device writes, is not in memory yet.
    let news_in_caches = contested && (bounce > 0 || (snoop > 0 && !(direct > 0 && dirty)));
    Cost {
        start: Counts {
            clean_bytes: len * (direct * u64::from(dirty) + cache * u64::from(news_in_caches)),
            invalidate_bytes: len * (direct + cache),
            to_bounce_bytes: len * bounce * u64::from(contested),
            from_bounce_bytes: len * bounce,
            ..Counts::default()
        },
        end: Counts {
            clean_bytes: len * (count(is_direct, false).min(1) + count(is_cache, false)),
            to_bounce_bytes: len * count(is_bounce, false),
            ..Counts::default()
        },
        copied: news_in_caches,
    }
}

/// Only bytes are compared: pieces depend on the segments.
fn bytes_of(counts: Counts) -> [u64; 4] {
    [
        counts.clean_bytes,
        counts.invalidate_bytes,
        counts.to_bounce_bytes,
        counts.from_bounce_bytes,
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
    let _ = mapping.to_vec();
    model.track(mapping.as_ptr(), len)?;

    let mut devices: Vec<Attachment<'_>> = Vec::new();
    for (at, part) in mix.iter().enumerate() {
        let index = mix[..at].iter().filter(|p| p.kind == part.kind).count() as u32;
        let device = importer.attach(&buffer, part.kind, index)?;
        device.map(part.direction)?;
        devices.push(device);
    }
    let each = || mix.iter().zip(&devices).enumerate();
    for (_, (part, device)) in each().filter(|(_, (part, _))| part.reads()) {
        let mut seen = vec![1; len];
        device.device_reads(0, &mut seen)?;
        check!(seen == vec![0; len], "{part:?} sees old content: {mix:?}");
    }

    let snoops = |part: &Part| {
        part.writes()
            && (part.kind == TestDevice::SnoopModel
                || (part.kind == TestDevice::DirectModel && !has_noncoherent()))
    };
    // Real bounces and those who look at them are counted by nobody.
    let counted = mix.iter().all(|part| part.kind != TestDevice::BouncedModel);
    // So that what mapping left behind does not matter.
    buffer.cpu_access(Access::ReadWrite)?.end()?;
    let mut dirty = mix.iter().any(snoops);

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
            mapping.to_vec() == expected,
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
        if counted && round != 1 {
            check!(
                bytes_of(start) == bytes_of(cost.start),
                "START of {}: {:?}, must be {:?} (cleaned, invalidated, to and from copies)",
                case(),
                bytes_of(start),
                bytes_of(cost.start)
            );
        }
        if counted {
            let must = if writes { cost.end } else { Counts::default() };
            check!(
                bytes_of(end) == bytes_of(must),
                "END of {}: {:?}, must be {:?}",
                case(),
                bytes_of(end),
                bytes_of(must)
            );
        }
        dirty = mix.iter().any(snoops) || (!writes && cost.copied);
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
    check!(mapping.to_vec() == expected, "lost by unmap: {mix:?}");
    window.end()?;
    drop(devices);
    model.reset()?;
    Ok(())
}

fn every_mix_of_devices(guest: &Guest) -> Outcome {
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
        // An emulated debug kernel takes long: there, a sample of those of four.
        let step = if count == 4 && is_debug() { 29 } else { 1 };
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
