// SPDX-License-Identifier: GPL-2.0

//! What operations cannot cost less than.

use std::os::fd::AsRawFd;

use cohbuf_testdev::uapi::IOCTL_DETACH;

use super::{Bench, MIB, SIZES, timed};
use crate::guest::raw::{PAGE, Page};
use crate::guest::{Result, raw};
use crate::record::{Arch, FloorRow};

/// `_IO('b', 0x7f)`, which no dma-buf knows: the core says so without asking the exporter.
const UNKNOWN: u32 = 0x627f;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let [syscall] = bench.cost(|| Ok([timed(raw::getppid).0]))?;
    record(bench, "syscall", 0, syscall);

    let buffer = bench.makers[1].make(4096)?;
    let [ioctl] = bench.cost(|| Ok([timed(|| raw::ioctl(buffer.fd(), UNKNOWN, &mut 0u32)).0]))?;
    record(bench, "ioctl", 0, ioctl);

    // What the test importer itself takes of attach, map, unmap and detach.
    let importer = bench.importer.as_raw_fd();
    let [ioctl] = bench.cost(|| Ok([timed(|| raw::ioctl(importer, IOCTL_DETACH, &mut 0u32)).0]))?;
    record(bench, "importer", 0, ioctl);

    let most = if bench.is_quick() { MIB } else { SIZES[4] };
    let mut pages = vec![Page::ZERO; most as usize / PAGE];
    for size in SIZES.into_iter().filter(|size| *size <= most) {
        let pages = &mut pages[..size as usize / PAGE];
        let [clear] = bench.cost(|| Ok([timed(|| raw::clear_pages(pages)).0]))?;
        record(bench, "clear-pages", size, clear);
    }
    Ok(())
}

fn record(bench: &mut Bench, what: &str, size: u64, instructions: u64) {
    bench.measured.floors.push(FloorRow {
        arch: Arch::here(),
        what: what.into(),
        size,
        instructions,
    });
}
