// SPDX-License-Identifier: GPL-2.0

//! Kernel memory of a buffer, beyond its pages.

use std::collections::BTreeMap;
use std::fs;

use cohbuf::Device as CohbufDevice;

use super::{Bench, KIB};
use crate::guest::exporters::Made;
use crate::guest::{Result, raw};
use crate::record::{Arch, Exporter, MemoryRow};

const BUFFERS: u64 = 10_000;

/// 1 / the part of all memory, at most; 0: as the kernel has it by default.
const KEPT_BY_CPU: &str = "/proc/sys/vm/percpu_pagelist_high_fraction";

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    raw::allow_files(200_000)?;
    // A CPU keeps up to an eighth of all memory for itself otherwise, which counts as used.
    fs::write(KEPT_BY_CPU, "100000")?;
    for exporter in [Exporter::Cohbuf, Exporter::System] {
        for size in [4 * KIB, 36 * KIB, 60 * KIB, 64 * KIB] {
            let row = measure(bench, exporter, size)?;
            bench.measured.memory.push(row);
        }
    }
    // With next to none, to free a page and to allocate it again may each move 63 of them.
    fs::write(KEPT_BY_CPU, "0")?;
    Ok(())
}

fn measure(bench: &Bench, exporter: Exporter, size: u64) -> Result<MemoryRow> {
    let maker = bench.maker(exporter);
    let make = |count| {
        (0..count)
            .map(|_| maker.make(size))
            .collect::<std::io::Result<Vec<_>>>()
    };
    // What the first ones bring along, and what the CPU has kept of pages that were freed.
    drop(make(512)?);
    let _room = make(256)?;
    let before = Memory::now()?;
    let made = make(BUFFERS)?;
    let after = Memory::now()?;
    let per_buffer = |bytes: i64| bytes / BUFFERS as i64;
    let slabs = after.slabs.iter().filter_map(|(name, bytes)| {
        let grown = bytes - before.slabs.get(name).unwrap_or(&0);
        (per_buffer(grown) > 0).then(|| (name.clone(), per_buffer(grown)))
    });
    Ok(MemoryRow {
        arch: Arch::here(),
        exporter,
        size,
        buffers: BUFFERS,
        segments: segments(exporter, &made[0])?,
        bytes: per_buffer(before.free - after.free) - size as i64,
        slabs: slabs.collect(),
    })
}

fn segments(exporter: Exporter, made: &Made) -> Result<Option<u32>> {
    if exporter != Exporter::Cohbuf {
        return Ok(None);
    }
    let info = CohbufDevice::open()?.info(raw::borrow(made))?;
    Ok(Some(info.segments))
}

/// Memory of the machine, in bytes.
struct Memory {
    free: i64,
    slabs: BTreeMap<String, i64>,
}

impl Memory {
    fn now() -> Result<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let free = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemFree:")?.split_whitespace().next())
            .ok_or("no MemFree in /proc/meminfo")?;
        let slabinfo = fs::read_to_string("/proc/slabinfo")?;
        Ok(Self {
            free: free.parse::<i64>()? << 10,
            // Two lines of headings.
            slabs: slabinfo.lines().skip(2).filter_map(slab).collect(),
        })
    }
}

/// Name and bytes of a slab cache, of its line in /proc/slabinfo: pages of a slab is the sixth
/// word, the number of slabs the last but one.
fn slab(line: &str) -> Option<(String, i64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let pages: i64 = words.get(5)?.parse().ok()?;
    let slabs: i64 = words.get(words.len().checked_sub(2)?)?.parse().ok()?;
    Some((words[0].into(), pages * slabs * raw::PAGE as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_cache_is_as_large_as_its_slabs() {
        let line = "dentry 4263 4263 192 21 1 : tunables 0 0 0 : slabdata 203 203 0";
        assert_eq!(slab(line), Some(("dentry".into(), 203 * 4096)));
    }
}
