// SPDX-License-Identifier: GPL-2.0

//! Importers: what it takes to attach and map a buffer, and to let go of it.

use std::os::fd::AsRawFd;

use cohbuf_testdev::uapi::{IOCTL_ATTACH, IOCTL_DETACH, IOCTL_MAP, IOCTL_UNMAP};

use super::{Bench, Case, MIB, SIZES, attach_arg, devices, map_arg, timed};
use crate::guest::{Result, check, raw};
use crate::record::Op;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let sizes: &[u64] = match bench.is_quick() {
        true => &[8 * MIB],
        false => &SIZES,
    };
    for exporter in bench.exporters() {
        for &device in devices() {
            for &size in sizes {
                import(bench, Case::with(exporter, size, 1, device))?;
            }
        }
    }
    Ok(())
}

fn import(bench: &mut Bench, case: Case) -> Result<()> {
    let importer = bench.importer.as_raw_fd();
    let buffer = bench.maker(case.exporter).make(case.size)?;
    let attach_once = || attach_arg(&buffer, case.device);

    let once = bench.cost(|| {
        let mut attach = attach_once();
        let (attach_cost, done) = timed(|| raw::ioctl(importer, IOCTL_ATTACH, &mut attach));
        check(done)?;
        let mut map = map_arg(attach.handle);
        let (map_cost, done) = timed(|| raw::ioctl(importer, IOCTL_MAP, &mut map));
        check(done)?;
        let (unmap_cost, done) = timed(|| raw::ioctl(importer, IOCTL_UNMAP, &mut map));
        check(done)?;
        let (detach_cost, done) = timed(|| raw::ioctl(importer, IOCTL_DETACH, &mut attach.handle));
        check(done)?;
        Ok([attach_cost, map_cost, unmap_cost, detach_cost])
    })?;

    let mut attach = attach_once();
    let count = |request, arg: &mut _| bench.counter.count(|| raw::ioctl(importer, request, arg));
    let attach_bytes = bench
        .counter
        .count(|| raw::ioctl(importer, IOCTL_ATTACH, &mut attach))?
        .1;
    let mut map = map_arg(attach.handle);
    let map_bytes = count(IOCTL_MAP, &mut map)?.1;

    // An importer that unmaps, and maps again what it had: no CPU access between.
    let [remap] = bench.cost(|| {
        let (cost, (unmapped, mapped)) = timed(|| {
            let unmapped = raw::ioctl(importer, IOCTL_UNMAP, &mut map);
            (unmapped, raw::ioctl(importer, IOCTL_MAP, &mut map))
        });
        check(unmapped)?;
        check(mapped)?;
        Ok([cost])
    })?;
    let remap_bytes = bench
        .counter
        .count(|| {
            raw::ioctl(importer, IOCTL_UNMAP, &mut map);
            raw::ioctl(importer, IOCTL_MAP, &mut map)
        })?
        .1;

    let unmap_bytes = count(IOCTL_UNMAP, &mut map)?.1;
    let detach_bytes = bench
        .counter
        .count(|| raw::ioctl(importer, IOCTL_DETACH, &mut attach.handle))?
        .1;

    let bytes = [attach_bytes, map_bytes, unmap_bytes, detach_bytes];
    let ops = [Op::Attach, Op::Map, Op::Unmap, Op::Detach];
    for ((op, cost), bytes) in ops.into_iter().zip(once).zip(bytes) {
        bench.record(case, op, cost, bytes);
    }
    bench.record(case, Op::Remap, remap, remap_bytes);
    Ok(())
}
