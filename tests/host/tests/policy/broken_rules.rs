// SPDX-License-Identifier: GPL-2.0

//! Each rule of use is needed: where it is broken, a byte is lost, or an old one is seen.

use crate::driver::Driver;
use crate::memory::{Caches, Dir, LEN, LINE, Memory, Way};
use crate::policy::Access::{Read, Write};
use crate::region::{Layout, Region};

/// What is seen, for each behaviour of the caches.
fn seen(f: impl Fn(&mut Driver) -> u8) -> Vec<u8> {
    Caches::FIXED
        .iter()
        .map(|caches| f(&mut Driver::new(Memory::new(*caches))))
        .collect()
}

fn line(line: usize) -> Region {
    let offset = (line * LINE) as u64;
    Region::new(Layout::Linear, offset, LINE as u64, 0, 0, LEN).unwrap()
}

fn cpu_reads(d: &mut Driver, at: usize) -> u8 {
    d.start(0, Read);
    let value = d.memory.cpu_read(at);
    d.finish(0, Read);
    value
}

/// Rule 1.
#[test]
fn cpu_that_reads_without_a_bracket_may_see_old_bytes() {
    let seen = seen(|d| {
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        cpu_reads(d, 0);
        d.device_write(direct, 0, 1);
        d.memory.cpu_read(0)
    });
    assert!(seen.contains(&0), "{seen:?}");
}

/// Rule 1.
#[test]
fn cpu_that_writes_without_a_window_may_lose_bytes() {
    let seen = seen(|d| {
        d.map(Way::Direct, Dir::From).unwrap();
        d.memory.cpu_write(0, 1);
        cpu_reads(d, 0)
    });
    assert!(seen.contains(&0), "{seen:?}");
}

/// Rule 1: a window of another process may end first, and with it the protection.
#[test]
fn cpu_that_writes_in_the_window_of_another_may_lose_bytes() {
    let seen = seen(|d| {
        d.map(Way::Direct, Dir::From).unwrap();
        d.start(1, Write);
        d.finish(1, Write);
        d.memory.cpu_write(0, 1);
        cpu_reads(d, 0)
    });
    assert!(seen.contains(&0), "{seen:?}");
}

/// Rule 1: the START was of other lines.
#[test]
fn cpu_that_reads_lines_without_a_start_may_see_old_bytes() {
    for way in [Way::Direct, Way::Bounced] {
        let seen = seen(|d| {
            let device = d.map(way, Dir::From).unwrap();
            cpu_reads(d, LINE);
            d.device_write(device, LINE, 1);
            d.start_region(0, Read, &line(0));
            d.memory.cpu_read(LINE)
        });
        assert!(seen.contains(&0), "{way:?}: {seen:?}");
    }
}

/// Rule 1: the window is over other lines.
#[test]
fn cpu_that_writes_lines_without_a_window_may_lose_bytes() {
    for way in [Way::Direct, Way::Bounced] {
        let seen = seen(|d| {
            d.map(way, Dir::From).unwrap();
            d.start_region(0, Write, &line(0));
            d.memory.cpu_write(LINE, 1);
            d.finish_region(0, Write, &line(0));
            cpu_reads(d, LINE)
        });
        assert!(seen.contains(&0), "{way:?}: {seen:?}");
    }
}

/// Rule 1: an END of more than the window ends it.
#[test]
fn cpu_that_writes_after_an_end_of_more_may_lose_bytes() {
    for way in [Way::Direct, Way::Bounced] {
        let seen = seen(|d| {
            d.map(way, Dir::From).unwrap();
            d.start_region(0, Write, &line(0));
            d.finish(0, Write);
            d.memory.cpu_write(0, 1);
            cpu_reads(d, 0)
        });
        assert!(seen.contains(&0), "{way:?}: {seen:?}");
    }
}

/// Rule 2: another byte of a line.
#[test]
fn device_that_writes_a_line_of_a_window_may_lose_bytes() {
    for way in [Way::Bounced, Way::Direct] {
        let seen = seen(|d| {
            let device = d.map(way, Dir::Both).unwrap();
            let byte = Region::new(Layout::Linear, 1, 1, 0, 0, LEN).unwrap();
            d.start_region(0, Write, &byte);
            d.memory.cpu_write(1, 2);
            d.device_write(device, 0, 1);
            d.finish_region(0, Write, &byte);
            cpu_reads(d, 0)
        });
        assert!(seen.contains(&0), "{way:?}: {seen:?}");
    }
}

/// Rule 2: beside a mapping of which no part can be synced, any line.
#[test]
fn device_that_writes_beside_an_indivisible_mapping_may_lose_bytes() {
    let seen = seen(|d| {
        d.map(Way::UnknownWhole, Dir::To).unwrap();
        let device = d.map(Way::Bounced, Dir::Both).unwrap();
        d.start_region(0, Write, &line(0));
        d.device_write(device, LINE, 1);
        d.finish_region(0, Write, &line(0));
        cpu_reads(d, LINE)
    });
    assert!(seen.contains(&0), "{seen:?}");
}

/// Rule 2.
#[test]
fn device_that_writes_in_a_window_may_lose_bytes() {
    for way in [Way::Bounced, Way::Direct] {
        let seen = seen(|d| {
            let device = d.map(way, Dir::Both).unwrap();
            d.start(0, Write);
            d.memory.cpu_write(1, 2);
            d.device_write(device, 0, 1);
            d.finish(0, Write);
            cpu_reads(d, 0)
        });
        assert!(seen.contains(&0), "{way:?}: {seen:?}");
    }
}

/// Rule 3: the later write does not win.
#[test]
fn devices_that_write_the_same_byte_without_order_may_lose_it() {
    let seen = seen(|d| {
        let second = d.map(Way::Bounced, Dir::From).unwrap();
        let first = d.map(Way::Bounced, Dir::From).unwrap();
        d.device_write(first, 0, 1);
        d.device_write(second, 0, 2);
        cpu_reads(d, 0)
    });
    assert!(seen.contains(&1), "{seen:?}");
}

/// Rule 3.
#[test]
fn devices_that_write_the_same_line_by_two_paths_without_order_may_lose_a_byte() {
    let seen = seen(|d| {
        let snooping = d.map(Way::Snooping, Dir::From).unwrap();
        let direct = d.map(Way::Direct, Dir::From).unwrap();
        d.device_write(snooping, 0, 1);
        d.device_write(direct, 1, 2);
        cpu_reads(d, 1)
    });
    assert!(seen.contains(&0), "{seen:?}");
}

/// Rule 3: the START was of other lines.
#[test]
fn start_of_other_lines_does_not_order_devices() {
    let seen = seen(|d| {
        let second = d.map(Way::Bounced, Dir::From).unwrap();
        let first = d.map(Way::Bounced, Dir::From).unwrap();
        d.device_write(first, LINE, 1);
        d.start_region(0, Read, &line(0));
        d.device_write(second, LINE, 2);
        cpu_reads(d, LINE)
    });
    assert!(seen.contains(&1), "{seen:?}");
}

/// Rule 3: the second has not taken what the first has handed over.
#[test]
fn device_that_writes_before_it_takes_a_line_may_lose_bytes() {
    let seen = seen(|d| {
        let snooping = d.map(Way::Snooping, Dir::Both).unwrap();
        let direct = d.map(Way::Direct, Dir::Both).unwrap();
        d.device_write(snooping, 0, 1);
        d.sync_for_cpu(snooping);
        d.device_write(direct, 1, 2);
        cpu_reads(d, 1)
    });
    assert!(seen.contains(&0), "{seen:?}");
}

/// Rule 3: the first has not handed over what the second takes.
#[test]
fn device_that_takes_what_was_not_handed_over_may_lose_bytes() {
    let seen = seen(|d| {
        let snooping = d.map(Way::Snooping, Dir::Both).unwrap();
        let direct = d.map(Way::Direct, Dir::Both).unwrap();
        cpu_reads(d, 0);
        d.device_write(direct, 0, 1);
        d.sync_for_device(snooping);
        d.device_write(snooping, 1, 2);
        cpu_reads(d, 0)
    });
    assert!(seen.contains(&0), "{seen:?}");
}

/// Rule 4: taking alone does not hand over, nor does handing over take.
#[test]
fn device_that_takes_or_hands_over_alone_may_show_old_bytes() {
    for syncs in [[true, false], [false, true]] {
        let seen = seen(|d| {
            let writer = d.map(Way::Bounced, Dir::From).unwrap();
            let reader = d.map(Way::Bounced, Dir::To).unwrap();
            d.device_write(writer, 0, 1);
            if syncs[0] {
                d.sync_for_cpu(writer);
            }
            if syncs[1] {
                d.sync_for_device(reader);
            }
            d.device_read(reader, 0)
        });
        assert!(seen.contains(&0), "{syncs:?}: {seen:?}");
    }
}

/// Rule 4: devices neither hand over nor take what a window is over.
#[test]
fn device_sync_in_a_window_hands_nothing_over() {
    let seen = seen(|d| {
        let writer = d.map(Way::Bounced, Dir::From).unwrap();
        let reader = d.map(Way::Bounced, Dir::To).unwrap();
        d.device_write(writer, 0, 1);
        d.start_region(0, Write, &line(0));
        d.sync_for_cpu(writer);
        d.sync_for_device(reader);
        d.device_read(reader, 0)
    });
    assert!(seen.contains(&0), "{seen:?}");
}

/// Rule 4: the END was of other lines, or of lines that no window was over.
#[test]
fn end_without_a_window_over_a_line_hands_nothing_over() {
    for whole in [false, true] {
        let seen = seen(|d| {
            let writer = d.map(Way::Snooping, Dir::From).unwrap();
            let reader = d.map(Way::Bounced, Dir::To).unwrap();
            d.device_write(writer, LINE, 1);
            d.start(1, Read);
            d.start_region(0, Write, &line(0));
            match whole {
                true => d.finish(1, Write),
                false => d.finish_region(0, Write, &line(0)),
            }
            d.device_read(reader, LINE)
        });
        assert!(seen.contains(&0), "{whole}: {seen:?}");
    }
}

/// Rule 4: START alone hands nothing over.
#[test]
fn device_that_reads_before_an_end_with_write_may_see_old_bytes() {
    let seen = seen(|d| {
        let writer = d.map(Way::Snooping, Dir::From).unwrap();
        let reader = d.map(Way::Direct, Dir::To).unwrap();
        d.device_write(writer, 0, 1);
        cpu_reads(d, 0);
        d.device_read(reader, 0)
    });
    assert!(seen.contains(&0), "{seen:?}");
}
