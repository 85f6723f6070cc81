// SPDX-License-Identifier: GPL-2.0

//! CPU access: START and END of whole buffers, of regions, and of what was written.

use std::os::fd::AsRawFd;

use cohbuf::uapi::{
    DMA_BUF_IOCTL_SYNC, DmaBufSync, IOCTL_SYNC, LAYOUT_2D, RegionSync, SYNC_END, SYNC_READ,
    SYNC_START, SYNC_WRITE, TRACK_DIRTY,
};

use super::{Attached, Bench, Case, KIB, MIB, PICTURE, SIZES, devices, timed};
use crate::guest::bytes::Bytes;
use crate::guest::raw::Shared;
use crate::guest::{Result, check, raw};
use crate::record::{Arch, Device, Exporter, Op, RegionRow};

const READ_WRITE: u64 = SYNC_READ | SYNC_WRITE;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    for exporter in bench.exporters() {
        for case in whole_cases(bench.is_quick(), exporter) {
            whole(bench, case)?;
        }
    }
    for &device in devices() {
        let sides: &[(u32, u32)] = match bench.is_quick() {
            true => &[(10, 10)],
            false => &[
                (10, 10),
                (50, 50),
                (100, 100),
                (400, 300),
                (800, 600),
                (1600, 1200),
            ],
        };
        for &(width, height) in sides {
            region(bench, device, width, height)?;
        }
        dirty(bench, device)?;
    }
    Ok(())
}

/// What is synced as a whole.
fn whole_cases(quick: bool, exporter: Exporter) -> Vec<Case> {
    let of = |size, attachments, device| Case::with(exporter, size, attachments, device);
    let coherent: &[u32] = match quick {
        true => &[0, 8, 64],
        false => &[0, 1, 2, 4, 8, 64],
    };
    let noncoherent: &[u32] = match quick {
        true => &[1, 8],
        false => &[1, 2, 4, 8],
    };
    let mut cases = Vec::new();
    cases.extend(coherent.iter().map(|n| of(8 * MIB, *n, Device::Coherent)));
    if !quick {
        cases.push(of(64 * KIB, 1000, Device::Coherent));
        // Each attachment of udmabuf has a list of all pages of its own.
        if exporter != Exporter::Udmabuf {
            cases.push(of(8 * MIB, 1000, Device::Coherent));
        }
        for size in SIZES.into_iter().filter(|size| *size != 8 * MIB) {
            cases.extend([0, 1].map(|n| of(size, n, Device::Coherent)));
        }
        cases.push(of(PICTURE, 1, Device::Coherent));
    }
    if devices().contains(&Device::NonCoherent) {
        cases.extend(
            noncoherent
                .iter()
                .map(|n| of(8 * MIB, *n, Device::NonCoherent)),
        );
        cases.push(of(4 * KIB, 1, Device::NonCoherent));
        cases.push(of(PICTURE, 1, Device::NonCoherent));
        if !quick {
            cases.extend([64 * KIB, MIB, 64 * MIB].map(|size| of(size, 1, Device::NonCoherent)));
        }
    }
    cases
}

/// DMA_BUF_IOCTL_SYNC.
#[inline(always)]
pub(super) fn sync(fd: i32, flags: u64) -> isize {
    raw::ioctl(fd, DMA_BUF_IOCTL_SYNC, &mut DmaBufSync { flags })
}

fn whole(bench: &mut Bench, case: Case) -> Result<()> {
    let mut found = Vec::new();
    {
        let buffer = bench.maker(case.exporter).make(case.size)?;
        let fd = buffer.fd();
        let _attached = Attached::new(&bench.importer, &buffer, case)?;
        for (ops, access) in [
            ([Op::BeginRw, Op::EndRw], READ_WRITE),
            ([Op::BeginRead, Op::EndRead], SYNC_READ),
        ] {
            let costs = bench.cost(|| {
                let (begin, begun) = timed(|| sync(fd, SYNC_START | access));
                let (end, ended) = timed(|| sync(fd, SYNC_END | access));
                check(begun)?;
                check(ended)?;
                Ok([begin, end])
            })?;
            let (_, begin) = bench.counter.count(|| sync(fd, SYNC_START | access))?;
            let (_, end) = bench.counter.count(|| sync(fd, SYNC_END | access))?;
            for ((op, cost), bytes) in ops.into_iter().zip(costs).zip([begin, end]) {
                found.push((op, cost, bytes));
            }
        }
    }
    for (op, cost, bytes) in found {
        bench.record(case, op, cost, bytes);
    }
    Ok(())
}

/// The arguments of COHBUF_IOCTL_SYNC for a rectangle in the middle of a picture.
pub(super) fn rectangle(fd: i32, flags: u64, width: u32, height: u32) -> RegionSync {
    let (width, height) = (u64::from(width), u64::from(height));
    let stride = 1600 * 4;
    RegionSync {
        fd,
        layout: LAYOUT_2D,
        flags,
        offset: (1200 - height) / 2 * stride + (1600 - width) / 2 * 4,
        length: width * 4,
        stride,
        rows: height,
        ..RegionSync::default()
    }
}

fn region(bench: &mut Bench, device: Device, width: u32, height: u32) -> Result<()> {
    let case = Case::with(Exporter::Cohbuf, PICTURE, 1, device);
    let maker = bench.maker(case.exporter);
    let cohbuf = maker.file().as_raw_fd();
    let buffer = maker.make(case.size)?;
    let attached = Attached::new(&bench.importer, &buffer, case)?;
    let start = rectangle(buffer.fd(), SYNC_START | READ_WRITE, width, height);
    let end = RegionSync {
        flags: SYNC_END | READ_WRITE,
        ..start
    };
    let costs = bench.cost(|| {
        let (mut start, mut end) = (start, end);
        let (begin_cost, begun) = timed(|| raw::ioctl(cohbuf, IOCTL_SYNC, &mut start));
        let (end_cost, ended) = timed(|| raw::ioctl(cohbuf, IOCTL_SYNC, &mut end));
        check(begun)?;
        check(ended)?;
        Ok([begin_cost, end_cost])
    })?;
    let counted = |mut arg: RegionSync| -> Result<Bytes> {
        let (done, bytes) = bench
            .counter
            .count(|| raw::ioctl(cohbuf, IOCTL_SYNC, &mut arg))?;
        check(done)?;
        // Two who count, by different means, and one result.
        let said = Bytes {
            cleaned: arg.cleaned,
            invalidated: arg.invalidated,
        };
        if said != bytes {
            return Err(format!("SYNC of a region says {said:?}, the kernel did {bytes:?}").into());
        }
        Ok(bytes)
    };
    let bytes = [counted(start)?, counted(end)?];
    drop(attached);
    if (width, height) == (10, 10) {
        bench.record(case, Op::RegionBegin, costs[0], bytes[0]);
        bench.record(case, Op::RegionEnd, costs[1], bytes[1]);
    }
    bench.measured.regions.push(RegionRow {
        arch: Arch::here(),
        device,
        width,
        height,
        begin: costs[0],
        end: costs[1],
        bytes_cleaned: bytes[0].cleaned + bytes[1].cleaned,
        bytes_invalidated: bytes[0].invalidated + bytes[1].invalidated,
    });
    Ok(())
}

/// END of a whole picture, of which 10x10 pixels were written, and the pages of them are known.
fn dirty(bench: &mut Bench, device: Device) -> Result<()> {
    let case = Case::with(Exporter::Cohbuf, PICTURE, 1, device);
    let buffer = bench
        .maker(case.exporter)
        .make_with(case.size, TRACK_DIRTY)?;
    let fd = buffer.fd();
    let attached = Attached::new(&bench.importer, &buffer, case)?;
    let mapping = Shared::map(fd, case.size)?;
    let written = rectangle(fd, 0, 10, 10);
    let write = || {
        for row in 0..written.rows {
            let at = written.offset + row * written.stride;
            mapping.write(at as usize, written.length as usize);
        }
    };
    let [end] = bench.cost(|| {
        check(sync(fd, SYNC_START | READ_WRITE))?;
        write();
        let (end, ended) = timed(|| sync(fd, SYNC_END | READ_WRITE));
        check(ended)?;
        Ok([end])
    })?;
    check(sync(fd, SYNC_START | READ_WRITE))?;
    write();
    let (_, bytes) = bench.counter.count(|| sync(fd, SYNC_END | READ_WRITE))?;
    drop(attached);
    bench.record(case, Op::DirtyEnd, end, bytes);
    Ok(())
}
