// SPDX-License-Identifier: GPL-2.0

//! Short sequences, each of which lost a byte with an earlier policy.

use crate::driver::Driver;
use crate::memory::{Caches, Dir, LEN, LINE, Memory, Way};
use crate::policy::Access::{Read, ReadWrite, Write};
use crate::policy::Refusal;
use crate::region::{Layout, Region};

/// In all behaviours of the caches; says all that fail.
fn each(f: impl Fn(&mut Driver) -> Result<(), String>) {
    each_of(|driver| driver, f);
}

/// Likewise, where pages are tracked.
fn each_tracked(f: impl Fn(&mut Driver) -> Result<(), String>) {
    each_of(Driver::tracked, f);
}

fn each_of(made: impl Fn(Driver) -> Driver, f: impl Fn(&mut Driver) -> Result<(), String>) {
    let failed: Vec<_> = Caches::FIXED
        .into_iter()
        .filter_map(|caches| {
            let result = f(&mut made(Driver::new(Memory::new(caches))));
            result.err().map(|e| format!("{caches:?}: {e}"))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// One line of the buffer.
fn line(line: usize) -> Region {
    let offset = (line * LINE) as u64;
    Region::new(Layout::Linear, offset, LINE as u64, 0, 0, LEN).unwrap()
}

fn reads(d: &mut Driver, device: usize, at: usize, value: u8) -> Result<(), String> {
    match d.device_read(device, at) {
        seen if seen == value => Ok(()),
        seen => Err(format!("device reads {seen} at {at}, not {value}")),
    }
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
    for way in Way::DIVISIBLE {
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

/// A line that came between two writes is older than the second, which makes the byte what it was.
#[test]
fn line_of_an_earlier_write_is_not_taken_for_the_last() {
    for (way, other) in [
        (Way::UnknownPast, Way::Snooping),
        (Way::UnknownPast, Way::Bounced),
        (Way::UnknownPast, Way::UnknownPast),
        (Way::HalfBounced, Way::Bounced),
        (Way::HalfBounced, Way::HalfSnooping),
    ] {
        each(|d| {
            let caches = d.memory.caches;
            let past = d.map(way, Dir::From).unwrap();
            d.map(other, Dir::From).unwrap();
            // It reads, and has nothing invalidated.
            d.map(Way::Direct, Dir::To).unwrap();
            d.memory.set_caches(Caches::Evict);
            d.memory.set_caches(Caches::Idle);
            d.device_write(past, LEN - 1, 1);
            // On speculation.
            d.memory.cpu_read(LEN - 1);
            d.device_write(past, LEN - 1, 0);
            d.memory.caches = caches;
            look(d, "after", &[(LEN - 1, 0)]).map_err(|e| format!("{way:?} {other:?}: {e}"))
        });
    }
}

/// Its windows were over lines that nobody owns now.
#[test]
fn process_that_was_killed_owns_nothing() {
    each(|d| {
        d.start(1, Write);
        let copy = d.map(Way::Bounced, Dir::From).unwrap();
        d.start_region(0, Write, &line(5));
        d.kill(1, false);
        d.device_write(copy, 0, 1);
        d.munmap(0);
        d.finish_region(0, Write, &line(5));
        look(d, "after", &[(0, 1)])
    });
}

/// Until then nobody had fetched what it lacks.
#[test]
fn base_outlives_an_end_of_other_lines() {
    for way in [Way::Direct, Way::Snooping, Way::Bounced] {
        each(|d| {
            let copy = d.map(Way::Bounced, Dir::From).unwrap();
            let other = d.map(way, Dir::From).unwrap();
            d.device_write(other, 4 * LINE, 1);
            d.unmap(other);
            d.start_region(0, Write, &line(0));
            d.finish_region(0, Write, &line(0));
            d.device_write(copy, 2 * LINE, 2);
            look(d, "after", &[(4 * LINE, 1), (2 * LINE, 2)])
        });
    }
}

/// The same of an END of all, while a window is open over some.
#[test]
fn base_outlives_an_end_that_hands_over_some_lines() {
    each(|d| {
        let copy = d.map(Way::Bounced, Dir::From).unwrap();
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        d.device_write(direct, 4 * LINE, 1);
        d.unmap(direct);
        d.start_region(0, Write, &line(0));
        d.finish(1, Write);
        d.finish_region(0, Write, &line(0));
        d.device_write(copy, 2 * LINE, 2);
        look(d, "after", &[(4 * LINE, 1), (2 * LINE, 2)])
    });
}

/// Of several that write, one reads by a copy of its own, or past the caches.
#[test]
fn device_that_only_reads_gets_what_contested_copies_held() {
    for way in Way::DIVISIBLE {
        each(|d| {
            let first = d.map(Way::Bounced, Dir::From).unwrap();
            d.map(Way::Bounced, Dir::From).unwrap();
            let reader = d.map(way, Dir::To).unwrap();
            d.device_write(first, 0, 1);
            d.sync_for_cpu(first);
            d.sync_for_device(reader);
            reads(d, reader, 0, 1).map_err(|e| format!("{way:?}: {e}"))
        });
    }
}

/// An END of all that pushes nothing, or not all, does not make copies what the buffer is.
#[test]
fn copy_gets_what_a_device_that_is_gone_wrote() {
    for region in [None, Some(line(0))] {
        each_tracked(|d| {
            let reader = d.map(Way::Bounced, Dir::To).unwrap();
            let writer = d.map(Way::Direct, Dir::From).unwrap();
            d.device_write(writer, 4 * LINE, 1);
            d.unmap(writer);
            if let Some(region) = region {
                d.start_region(1, Write, &region);
            }
            d.finish(0, Write);
            d.start(0, Write);
            d.finish(0, Write);
            reads(d, reader, 4 * LINE, 1).map_err(|e| format!("{region:?}: {e}"))
        });
    }
}

/// It may be written until it is gone.
#[test]
fn mapping_of_the_kernel_outlives_an_end() {
    each_tracked(|d| {
        let device = d.map(Way::Direct, Dir::To).unwrap();
        d.vmap();
        d.start(0, Write);
        d.finish(0, Write);
        d.start(0, Write);
        d.kernel_write(0, 1);
        d.vunmap();
        d.finish(0, Write);
        reads(d, device, 0, 1)
    });
}

/// As videobuf2 does: it has imported a buffer, and the CPU fills it by the mapping of the kernel, in
/// no window.
#[test]
fn kernel_may_write_outside_of_windows() {
    for (way, dir) in Way::DIVISIBLE
        .into_iter()
        .flat_map(|w| [Dir::From, Dir::Both].map(|d| (w, d)))
    {
        for kernel_first in [false, true] {
            each(|d| {
                if kernel_first {
                    d.vmap();
                }
                let device = d.map(way, dir).unwrap();
                if !kernel_first {
                    d.vmap();
                }
                let what = format!("{way:?} {dir:?}, the kernel first: {kernel_first}");
                d.start(0, Write);
                d.cpu_write(0, 0, 9);
                d.finish(0, Write);
                d.kernel_write(0, 1);
                look(d, &what, &[(0, 1)])?;
                d.kernel_write(LINE, 2);
                d.device_write(device, 2 * LINE, 3);
                look(d, &what, &[(0, 1), (LINE, 2), (2 * LINE, 3)])?;
                d.kernel_write(0, 4);
                d.vunmap();
                look(d, &what, &[(0, 4), (LINE, 2), (2 * LINE, 3)])?;
                d.unmap(device);
                look(d, &what, &[(0, 4), (LINE, 2), (2 * LINE, 3)])
            });
        }
    }
}

/// It would make the window one of the whole buffer, where a device has written.
#[test]
fn indivisible_mapping_is_refused_in_a_window_of_a_part() {
    each(|d| {
        let device = d.map(Way::Bounced, Dir::Both).unwrap();
        d.start_region(0, Write, &line(1));
        d.device_write(device, 0, 1);
        let refused = d.map(Way::UnknownWhole, Dir::To);
        assert_eq!(refused, Err(Refusal::Beside));
        d.finish_region(0, Write, &line(1));
        d.map(Way::UnknownWhole, Dir::To).unwrap();
        look(d, "after", &[(0, 1)])
    });
}

/// An unmap is not put off where a line may be newer than memory: to map again would leave it
/// there, and to catch up would drop it.
#[test]
fn unmap_with_dirty_lines_is_not_put_off() {
    each(|d| {
        d.nobody_maps();
        let snooping = d.map(Way::Snooping, Dir::Both).unwrap();
        let direct = d.map(Way::Direct, Dir::Both).unwrap();
        d.device_write(snooping, 3, 7);
        d.unmap(snooping);
        d.unmap(direct);
        let direct = d.map_again(direct, Way::Direct, Dir::Both).unwrap();
        reads(d, direct, 3, 7)?;
        d.unmap(direct);
        look(d, "what a device that is gone wrote", &[(3, 7)])
    });
}

/// Nor where a process may have written, and no END has come.
#[test]
fn unmap_with_written_pages_is_not_put_off() {
    each_tracked(|d| {
        let direct = d.map(Way::Direct, Dir::Both).unwrap();
        d.start(0, ReadWrite);
        d.cpu_write(0, 3, 7);
        d.kill(0, true);
        d.nobody_maps();
        d.unmap(direct);
        let direct = d.map_again(direct, Way::Direct, Dir::Both).unwrap();
        reads(d, direct, 3, 7)?;
        d.unmap(direct);
        look(d, "what a process that is gone wrote", &[(3, 7)])
    });
}

/// Nor in a window: a `COHBUF_IOCTL_COPY` writes without a mapping.
#[test]
fn unmap_in_a_window_is_not_put_off() {
    for region in [Region::whole(LEN), line(0)] {
        each(|d| {
            d.nobody_maps();
            let direct = d.map(Way::Direct, Dir::Both).unwrap();
            d.start_region(0, ReadWrite, &region);
            d.memory.cpu_write(3, 7);
            d.unmap(direct);
            d.finish_region(0, ReadWrite, &region);
            let direct = d.map_again(direct, Way::Direct, Dir::Both).unwrap();
            reads(d, direct, 3, 7)?;
            d.unmap(direct);
            look(d, "what a COPY wrote", &[(3, 7)])
        });
    }
}

/// Nor where a process may look, in a bracket that is older than what the device wrote.
#[test]
fn unmap_beside_a_process_is_not_put_off() {
    each(|d| {
        let direct = d.map(Way::Direct, Dir::Both).unwrap();
        d.start(0, Read);
        let _ = d.cpu_read(3);
        d.device_write(direct, 3, 7);
        d.unmap(direct);
        match d.cpu_read(3) {
            7 => Ok(()),
            seen => Err(format!("the process sees {seen}")),
        }
    });
}

/// Whoever looks finds what a device has written whose unmap is put off.
#[test]
fn who_looks_sees_what_was_put_off() {
    let wrote = |d: &mut Driver| -> Result<usize, String> {
        let first = d.map(Way::Direct, Dir::Both).unwrap();
        // Lines that are older than what the device writes next.
        look(d, "nothing", &[(3, 0)])?;
        d.nobody_maps();
        d.device_write(first, 3, 7);
        d.unmap(first);
        Ok(first)
    };
    // What the importer maps again has been handed over all the same.
    let and_mapped_again = |d: &mut Driver| -> Result<usize, String> {
        let first = wrote(d)?;
        let mapped = d.map_again(first, Way::Direct, Dir::Both);
        mapped.map_err(|refusal| format!("{refusal:?}"))
    };
    for wrote in [&wrote as &dyn Fn(&mut Driver) -> _, &and_mapped_again] {
        each(|d| {
            wrote(d)?;
            d.mmap();
            match d.memory.cpu_read(3) {
                7 => Ok(()),
                seen => Err(format!("a process sees {seen}")),
            }
        });
        each(|d| {
            wrote(d)?;
            d.vmap();
            match d.memory.cpu_read(3) {
                7 => Ok(()),
                seen => Err(format!("the kernel sees {seen}")),
            }
        });
        each(|d| {
            wrote(d)?;
            look(d, "START", &[(3, 7)])
        });
        for way in Way::DIVISIBLE {
            each(|d| {
                wrote(d)?;
                let other = d.map(way, Dir::To).unwrap();
                reads(d, other, 3, 7)
            });
        }
        // Also who gets what it had.
        each(|d| {
            d.nobody_maps();
            let snooping = d.map(Way::Snooping, Dir::To).unwrap();
            d.unmap(snooping);
            wrote(d)?;
            let snooping = d.map_again(snooping, Way::Snooping, Dir::To).unwrap();
            reads(d, snooping, 3, 7)
        });
    }
}

/// What was handed over by a look in between is as if it had been mapped anew: the CPU may have
/// written, or a device that snoops, which comes and goes.
#[test]
fn who_maps_again_after_a_look_sees_what_was_written() {
    let by_cpu = |d: &mut Driver| {
        d.start(0, ReadWrite);
        d.cpu_write(0, 3, 7);
        d.finish(0, ReadWrite);
        d.nobody_maps();
    };
    let by_device = |d: &mut Driver| {
        let snooping = d.map(Way::Snooping, Dir::Both).unwrap();
        d.device_write(snooping, 3, 7);
        d.unmap(snooping);
    };
    for write in [&by_cpu as &dyn Fn(&mut Driver), &by_device] {
        each(|d| {
            d.nobody_maps();
            let direct = d.map(Way::Direct, Dir::Both).unwrap();
            d.unmap(direct);
            write(d);
            let direct = d.map_again(direct, Way::Direct, Dir::Both).unwrap();
            reads(d, direct, 3, 7)
        });
    }
}
