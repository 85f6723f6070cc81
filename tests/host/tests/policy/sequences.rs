// SPDX-License-Identifier: GPL-2.0

//! Short sequences, each of which lost a byte with an earlier policy.

use crate::driver::Driver;
use crate::memory::{Caches, Dir, Memory, Way};
use crate::policy::Access::{Read, ReadWrite};

/// In all behaviours of the caches; says all that fail.
fn each(f: impl Fn(&mut Driver) -> Result<(), String>) {
    let failed: Vec<_> = Caches::FIXED
        .into_iter()
        .filter_map(|caches| {
            let result = f(&mut Driver::new(Memory::new(caches)));
            result.err().map(|e| format!("{caches:?}: {e}"))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn look(d: &mut Driver, what: &str, expected: &[(usize, u8)]) -> Result<(), String> {
    d.start(0, Read);
    let mut result = Ok(());
    for &(at, value) in expected {
        let seen = d.memory.cpu_read(at);
        if seen != value {
            result = Err(format!("{what}: byte {at} is {seen}, not {value}"));
        }
    }
    d.finish(0, Read);
    result
}

/// What was fetched from a copy is in dirty lines, which the next invalidate would drop.
#[test]
fn fetched_copy_survives_a_second_begin() {
    each(|d| {
        d.map(Way::Direct, Dir::From).unwrap();
        let copy = d.map(Way::Bounced, Dir::From).unwrap();
        d.device_write(copy, 0, 1);
        look(d, "first", &[(0, 1)])?;
        look(d, "second", &[(0, 1)])
    });
}

/// Nor may those lines go over what a device past the caches writes next.
#[test]
fn fetched_copy_does_not_go_over_a_later_write() {
    each(|d| {
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        d.map(Way::Bounced, Dir::From).unwrap();
        d.device_write(direct, 0, 1);
        look(d, "first", &[(0, 1)])?;
        d.device_write(direct, 0, 2);
        look(d, "second", &[(0, 2)])
    });
}

#[test]
fn unmapped_copy_does_not_go_over_an_earlier_write() {
    each(|d| {
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        let copy = d.map(Way::Bounced, Dir::From).unwrap();
        d.device_write(direct, 0, 1);
        d.unmap(copy);
        look(d, "after", &[(0, 1)])
    });
}

#[test]
fn unmapped_copy_does_not_go_over_a_later_write() {
    each(|d| {
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        let copy = d.map(Way::Bounced, Dir::From).unwrap();
        d.unmap(copy);
        d.device_write(direct, 0, 1);
        look(d, "after", &[(0, 1)])
    });
}

#[test]
fn copy_that_gets_a_base_does_not_go_over_a_later_write() {
    each(|d| {
        d.map(Way::Bounced, Dir::From).unwrap();
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        d.device_write(direct, 0, 1);
        look(d, "after", &[(0, 1)])
    });
}

/// The copy is made by a view that is behind memory, and the base by one that is not.
#[test]
fn base_is_what_the_copy_is() {
    each(|d| {
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        d.device_write(direct, 0, 1);
        // The line comes into the caches again between the copy and the base.
        let caches = d.memory.caches;
        d.memory.caches = Caches::Idle;
        let _ = d.memory.cpu_read(0);
        d.device_write(direct, 0, 2);
        d.map_with(Way::Bounced, Dir::From, |memory| {
            memory.caches = Caches::Evict;
        })
        .unwrap();
        d.memory.caches = caches;
        look(d, "after", &[(0, 2)])
    });
}

#[test]
fn part_past_the_caches_survives_the_copies() {
    each(|d| {
        d.map(Way::Bounced, Dir::From).unwrap();
        let half = d.map(Way::HalfBounced, Dir::From).unwrap();
        d.device_write(half, 30, 1);
        look(d, "first", &[(30, 1)])?;
        d.device_write(half, 30, 2);
        look(d, "second", &[(30, 2)])
    });
}

#[test]
fn unknown_and_bounced_survive_each_other() {
    each(|d| {
        d.map(Way::Bounced, Dir::From).unwrap();
        let past = d.map(Way::UnknownPast, Dir::From).unwrap();
        d.device_write(past, 0, 1);
        look(d, "first", &[(0, 1)])?;
        d.device_write(past, 0, 2);
        look(d, "second", &[(0, 2)])
    });
}

/// A line that a device behind the caches wrote came to memory once, and was written again.
#[test]
fn line_written_back_is_not_taken_for_another_device_s() {
    each(|d| {
        let caches = d.memory.caches;
        d.map(Way::UnknownPast, Dir::Both).unwrap();
        let snooping = d.map(Way::Snooping, Dir::Both).unwrap();
        d.device_write(snooping, 0, 1);
        d.memory.set_caches(Caches::WriteBack);
        d.memory.set_caches(Caches::Idle);
        d.device_write(snooping, 0, 2);
        d.memory.set_caches(caches);
        look(d, "after", &[(0, 2)])
    });
}

/// A copy that brings nothing new dirties the lines all the same.
#[test]
fn fetched_copy_without_news_does_not_go_over_a_later_write() {
    each(|d| {
        let caches = d.memory.caches;
        d.map(Way::Bounced, Dir::From).unwrap();
        let past = d.map(Way::UnknownPast, Dir::From).unwrap();
        d.memory.set_caches(Caches::Idle);
        look(d, "before", &[(0, 0)])?;
        d.device_write(past, 0, 1);
        d.memory.set_caches(caches);
        look(d, "after", &[(0, 1)])
    });
}

/// An END without START says nothing of what devices have written meanwhile.
#[test]
fn unpaired_end_loses_nothing() {
    each(|d| {
        let copy = d.map(Way::Bounced, Dir::Both).unwrap();
        d.device_write(copy, 0, 1);
        d.finish(0, ReadWrite);
        look(d, "after", &[(0, 1)])
    });
}

/// A device that is bounced in part may snoop for the rest.
#[test]
fn snooping_part_survives_an_invalidate() {
    each(|d| {
        d.map(Way::Direct, Dir::From).unwrap();
        let half = d.map(Way::HalfSnooping, Dir::From).unwrap();
        d.device_write(half, 30, 1);
        look(d, "first", &[(30, 1)])
    });
}

/// So may one that has ops of its own.
#[test]
fn unknown_that_snoops_survives_an_invalidate() {
    each(|d| {
        d.map(Way::Direct, Dir::From).unwrap();
        let unknown = d.map(Way::UnknownSnooping, Dir::From).unwrap();
        d.device_write(unknown, 0, 1);
        look(d, "first", &[(0, 1)])
    });
}

#[test]
fn unknown_that_snoops_survives_an_unmap() {
    each(|d| {
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        let unknown = d.map(Way::UnknownSnooping, Dir::From).unwrap();
        d.device_write(unknown, 0, 1);
        d.unmap(direct);
        look(d, "after", &[(0, 1)])
    });
}

/// Its dirty lines stay when the device goes, whoever comes.
#[test]
fn unmapped_snooping_device_loses_nothing() {
    for (way, dir) in [(Way::Snooping, Dir::To), (Way::Bounced, Dir::To)] {
        each(|d| {
            d.map(Way::Direct, Dir::From).unwrap();
            let snooping = d.map(Way::Snooping, Dir::From).unwrap();
            d.device_write(snooping, 0, 1);
            d.unmap(snooping);
            d.map(way, dir).unwrap();
            look(d, "after", &[(0, 1)])
        });
    }
}

/// The clean of an unmap says nothing of what a snooping device writes after it.
#[test]
fn snooping_device_survives_an_unmap_and_an_invalidate() {
    for way in [Way::Direct, Way::Iommu] {
        each(|d| {
            d.map(way, Dir::From).unwrap();
            let other = d.map(way, Dir::From).unwrap();
            let snooping = d.map(Way::Snooping, Dir::From).unwrap();
            d.unmap(other);
            d.device_write(snooping, 0, 1);
            look(d, "after", &[(0, 1)])
        });
    }
}

/// What the CPU has written is in its caches alone, or in the buffer alone.
#[test]
fn start_of_another_in_a_window_drops_nothing() {
    for way in Way::ALL {
        each(|d| {
            let device = d.map(way, Dir::Both).unwrap();
            d.start(0, ReadWrite);
            d.memory.cpu_write(0, 1);
            look(d, "within", &[(0, 1)])?;
            d.finish(0, ReadWrite);
            match d.device_read(device, 0) {
                1 => Ok(()),
                other => Err(format!("{way:?} reads {other}")),
            }
        });
    }
}
