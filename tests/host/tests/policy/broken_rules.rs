// SPDX-License-Identifier: GPL-2.0

//! Each rule of use is needed: where it is broken, a byte is lost, or an old one is seen.

use crate::driver::Driver;
use crate::memory::{Caches, Dir, Memory, Way};
use crate::policy::Access::{Read, Write};

/// What is seen, for each behaviour of the caches.
fn seen(f: impl Fn(&mut Driver) -> u8) -> Vec<u8> {
    Caches::FIXED
        .iter()
        .map(|caches| f(&mut Driver::new(Memory::new(*caches))))
        .collect()
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
