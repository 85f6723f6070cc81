// SPDX-License-Identifier: GPL-2.0

//! `COHBUF_IOCTL_COPY` (R12): the bytes, between buffers of any exporters and inside of one, against
//! a copy at one go; and that devices see them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use cohbuf::uapi::Copy as CopyArg;
use cohbuf::{Access, Buffer, CreateFlags, Region};
use cohbuf_testdev::{Attachment, Direction, TestDevice, Vgem};
use rustix::fd::AsRawFd;
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, ModelReset, is_debug, page};
use crate::harness::{Outcome, Stop, skip};
use crate::raw;
use crate::scene::{END_WRITE, START_WRITE, request, sync_raw};

crate::guest_suite!("copy":
    whole_buffers,
    part_of_a_row,
    every_exporter_to_every_other,
    overlap_in_one_buffer,
    overlap_in_one_buffer_of_another_exporter,
    interrupted_copies_come_to_the_right_end,
    device_sees_what_is_copied,
    copy_sees_what_a_device_wrote,
    device_bytes_beside_the_region_stay,
    system_heap_keeps_device_bytes_beside_the_region,
    region_alone_is_maintained,
    region_alone_is_written,
    window_is_closed,
    window_is_of_the_copy_alone,
    more_rows_than_a_window_may_have,
);

pub(super) const WHOLE: u32 = 0;
pub(super) const LINEAR: u32 = 1;
pub(super) const ROWS: u32 = 2;

pub(super) fn size() -> usize {
    4 * page()
}

/// One call, which copies all, as no signal comes.
pub(super) fn copy(guest: &Guest, src: &Buffer, dst: &Buffer, arg: CopyArg) -> Outcome {
    let mut arg = between(src, dst, arg);
    raw::copy(guest.device()?, &mut arg)?;
    check!(
        arg.done == bytes_of(&arg, src.size()),
        "not all was copied: {arg:?}"
    );
    Ok(())
}

pub(super) fn between(src: &Buffer, dst: &Buffer, arg: CopyArg) -> CopyArg {
    use std::os::fd::AsFd;
    CopyArg {
        src_fd: src.as_fd().as_raw_fd(),
        dst_fd: dst.as_fd().as_raw_fd(),
        ..arg
    }
}

pub(super) fn bytes_of(arg: &CopyArg, size: u64) -> u64 {
    match arg.layout {
        WHOLE => size,
        LINEAR => arg.length,
        _ => arg.length * arg.rows,
    }
}

pub(super) fn linear(src_offset: usize, dst_offset: usize, length: usize) -> CopyArg {
    CopyArg {
        layout: LINEAR,
        src_offset: src_offset as u64,
        dst_offset: dst_offset as u64,
        length: length as u64,
        ..CopyArg::default()
    }
}

/// Offset and stride of each side.
pub(super) fn rows(src: (u64, u64), dst: (u64, u64), length: u64, rows: u64) -> CopyArg {
    CopyArg {
        layout: ROWS,
        src_offset: src.0,
        src_stride: src.1,
        dst_offset: dst.0,
        dst_stride: dst.1,
        length,
        rows,
        ..CopyArg::default()
    }
}

pub(super) fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 23) as u8)
        .collect()
}

pub(super) fn fill(buffer: &Buffer, bytes: &[u8]) -> Outcome {
    let mapping = buffer.map()?;
    // udmabuf keeps the direction of its first window, which must cover those that follow.
    let window = buffer.cpu_access(Access::ReadWrite)?;
    mapping.write(0, bytes)?;
    window.end()?;
    Ok(())
}

pub(super) fn content(buffer: &Buffer) -> Result<Vec<u8>, Stop> {
    let mapping = buffer.map()?;
    let window = buffer.cpu_access(Access::Read)?;
    let bytes = mapping.to_vec()?;
    window.end()?;
    Ok(bytes)
}

/// A copy at one go: all is read before anything is written.
pub(super) fn oracle(arg: &CopyArg, src: &[u8], dst: &mut [u8]) {
    let length = match arg.layout {
        WHOLE => src.len(),
        _ => arg.length as usize,
    };
    for row in 0..arg.rows.max(1) {
        let from = (arg.src_offset + row * arg.src_stride) as usize;
        let to = (arg.dst_offset + row * arg.dst_stride) as usize;
        dst[to..to + length].copy_from_slice(&src[from..from + length]);
    }
}

/// Copies between two buffers, and compares all bytes of both.
fn copy_right(guest: &Guest, src: &Buffer, dst: &Buffer, arg: CopyArg, what: &str) -> Outcome {
    let (before, mut wanted) = (content(src)?, content(dst)?);
    oracle(&arg, &before, &mut wanted);
    check!(wanted != content(dst)?, "{what}: it would change nothing");
    copy(guest, src, dst, arg)?;
    check!(content(dst)? == wanted, "{what} {arg:?}: wrong bytes");
    check!(
        content(src)? == before,
        "{what} {arg:?}: the source is another"
    );
    Ok(())
}

fn two(guest: &Guest, size: usize) -> Result<(Buffer, Buffer), Stop> {
    let (src, dst) = (guest.bracketed(size)?, guest.bracketed(size)?);
    fill(&src, &pattern(size, 1))?;
    fill(&dst, &pattern(size, 1000))?;
    Ok((src, dst))
}

fn whole_buffers(guest: &Guest) -> Outcome {
    for pages in [1, 19, 300] {
        let (src, dst) = two(guest, pages * page())?;
        copy_right(guest, &src, &dst, CopyArg::default(), "whole")?;
    }
    Ok(())
}

/// Regions that lie in two buffers of [`size`].
fn regions() -> Vec<CopyArg> {
    let size = size();
    let wide = page() as u64;
    vec![
        linear(0, 0, 1),
        linear(size - 1, 0, 1),
        linear(0, size - 1, 1),
        linear(13, 4099, 5000),
        linear(4099, 13, 7001),
        linear(0, 0, size),
        rows((0, 64), (0, 64), 64, 10),
        rows((3, 100), (5, 100), 33, 90),
        rows((3, 100), (5, 71), 33, 90),
        rows((3, 33), (5, 71), 33, 90),
        rows((3, 71), (5, 33), 33, 90),
        rows((1, 2), (0, 3), 1, wide),
        rows((0, wide), (7, wide - 8), wide - 8, 4),
        // The last row ends with the buffer, and not with its stride.
        rows((3 * wide - 10, wide), (3 * wide - 10, wide), 10, 2),
        rows((0, u64::MAX), (8, 9), 9, 1),
    ]
}

fn part_of_a_row(guest: &Guest) -> Outcome {
    for arg in regions() {
        let (src, dst) = two(guest, size())?;
        copy_right(guest, &src, &dst, arg, "cohbuf")?;
    }
    Ok(())
}

/// A buffer of [`size`] of each exporter that there is.
fn exporters(guest: &Guest) -> Result<Vec<(&'static str, Buffer)>, Stop> {
    let mut buffers = vec![
        ("bracketed", guest.bracketed(size())?),
        ("coherent", guest.coherent(size())?),
        (
            "write-combined",
            guest.buffer(size(), CreateFlags::WRITE_COMBINE)?,
        ),
    ];
    if let Ok(fd) = cohbuf_testdev::system_heap(size() as u64) {
        buffers.push(("system heap", Buffer::try_from(fd)?));
    }
    if let Ok(fd) = cohbuf_testdev::udmabuf(size() as u64) {
        buffers.push(("udmabuf", Buffer::try_from(fd)?));
    }
    if let Ok(vgem) = Vgem::open() {
        buffers.push(("vgem", Buffer::try_from(vgem.export()?)?));
    }
    Ok(buffers)
}

fn every_exporter_to_every_other(guest: &Guest) -> Outcome {
    let (from, to) = (exporters(guest)?, exporters(guest)?);
    check!(from.len() > 3, "no exporter besides cohbuf");
    for (src_name, src) in &from {
        for (dst_name, dst) in &to {
            let what = format!("{src_name} to {dst_name}");
            fill(src, &pattern(src.size() as usize, 1))?;
            fill(dst, &pattern(dst.size() as usize, 1000))?;
            for arg in [
                linear(13, 4099, 5000),
                rows((3, 100), (5, 71), 33, 90),
                CopyArg::default(),
            ] {
                copy_right(guest, src, dst, arg, &what)?;
            }
        }
    }
    Ok(())
}

fn overlaps() -> Vec<CopyArg> {
    let size = size();
    vec![
        linear(0, 1, size - 1),
        linear(1, 0, size - 1),
        linear(100, 5000, 9000),
        linear(5000, 100, 9000),
        linear(0, size / 2, size / 2),
        rows((0, 100), (1, 100), 60, 90),
        rows((1, 100), (0, 100), 60, 90),
        rows((0, 100), (320, 100), 60, 90),
        rows((320, 100), (0, 100), 60, 90),
        rows((50, 100), (10, 100), 100, 90),
        // Two strides.
        rows((0, 100), (7, 90), 60, 90),
        rows((7, 90), (0, 100), 60, 90),
        rows((1000, 60), (0, 100), 60, 90),
        rows((0, 160), (5000, 61), 61, 60),
        rows((0, 1), (1, 2), 1, 4000),
    ]
}

fn overlap_right(guest: &Guest, buffer: &Buffer, what: &str) -> Outcome {
    for arg in overlaps() {
        let before = pattern(size(), 7);
        fill(buffer, &before)?;
        let mut wanted = before.clone();
        oracle(&arg, &before, &mut wanted);
        copy(guest, buffer, buffer, arg)?;
        check!(content(buffer)? == wanted, "{what} {arg:?}: wrong bytes");
    }
    // Onto itself, which changes nothing.
    let before = content(buffer)?;
    for arg in [CopyArg::default(), linear(5, 5, 600)] {
        copy(guest, buffer, buffer, arg)?;
        check!(content(buffer)? == before, "{what} {arg:?}: onto itself");
    }
    Ok(())
}

fn overlap_in_one_buffer(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(size())?;
    overlap_right(guest, &buffer, "cohbuf")?;
    // Another descriptor of the same buffer.
    let second = Buffer::try_from(rustix::io::dup(&buffer)?)?;
    let before = pattern(size(), 7);
    fill(&buffer, &before)?;
    let arg = linear(0, 100, size() - 100);
    let mut wanted = before.clone();
    oracle(&arg, &before, &mut wanted);
    copy(guest, &buffer, &second, arg)?;
    check!(content(&buffer)? == wanted, "two descriptors: wrong bytes");
    Ok(())
}

fn overlap_in_one_buffer_of_another_exporter(guest: &Guest) -> Outcome {
    for (name, buffer) in exporters(guest)? {
        overlap_right(guest, &buffer, name)?;
    }
    Ok(())
}

/// Copies inside of a buffer while signals come, call after call. Returns how often it was stopped.
fn pestered_copy(guest: &Guest, buffer: &Buffer, arg: CopyArg) -> Result<u32, Stop> {
    let device = guest.device()?;
    let before = pattern(buffer.size() as usize, 7);
    fill(buffer, &before)?;
    let mut wanted = before.clone();
    oracle(&arg, &before, &mut wanted);
    let mut arg = between(buffer, buffer, arg);
    let all = bytes_of(&arg, buffer.size());
    let mut stopped = 0;
    raw::pestered(|| -> Outcome {
        while arg.done < all {
            let done = arg.done;
            match raw::copy(&device, &mut arg) {
                Ok(()) => check!(arg.done > done, "no progress: {arg:?}"),
                // While it waited for a lock.
                Err(Errno::INTR) => check!(arg.done == done, "it has copied: {arg:?}"),
                Err(errno) => return Err(errno.into()),
            }
            check!(arg.done <= all, "more than all: {arg:?}");
            stopped += u32::from(arg.done < all);
        }
        Ok(())
    })??;
    check!(content(buffer)? == wanted, "{arg:?}: wrong bytes");
    Ok(stopped)
}

/// Signals come all the time. Each call does something, and all of them what one would have done,
/// also where what is read is overwritten.
fn interrupted_copies_come_to_the_right_end(guest: &Guest) -> Outcome {
    // Where it is slow, less will do.
    let size = if is_debug() { 4 << 20 } else { 16 << 20 };
    let buffer = guest.bracketed(size)?;
    let device = guest.device()?;
    let before = pattern(size, 7);
    let some = size - (1 << 20);
    let wide = 8192_u64;
    let high = (size as u64 - (1 << 20)) / wide;
    for arg in [
        linear(0, 4097, some),
        linear(4097, 0, some),
        rows((0, wide), (100, wide), wide - 8, high),
        rows((100, wide), (0, wide), wide - 8, high),
    ] {
        // A fast machine may be done before a signal comes.
        let mut tries = 1;
        while pestered_copy(guest, &buffer, arg)? == 0 {
            check!(tries < 20, "no signal came in time, this shows nothing");
            tries += 1;
        }
    }

    // By way of a second copy, it is all or nothing.
    let arg = rows((0, wide), (100, wide + 1), wide - 8, high);
    fill(&buffer, &before)?;
    let mut wanted = before.clone();
    oracle(&arg, &before, &mut wanted);
    let mut arg = between(&buffer, &buffer, arg);
    let all = bytes_of(&arg, size as u64);
    raw::pestered(|| -> Outcome {
        // It might never get through.
        for _ in 0..5 {
            match raw::copy(&device, &mut arg) {
                Ok(()) => {
                    check!(arg.done == all, "a part: {arg:?}");
                    break;
                }
                Err(errno) => {
                    check!(errno == Errno::INTR, "{errno}");
                    check!(arg.done == 0, "it has copied: {arg:?}");
                }
            }
        }
        Ok(())
    })??;
    if arg.done == 0 {
        check!(content(&buffer)? == before, "it has changed something");
        raw::copy(&device, &mut arg)?;
        check!(arg.done == all, "a part, and no signal came: {arg:?}");
    }
    check!(content(&buffer)? == wanted, "{arg:?}: wrong bytes");
    Ok(())
}

/// What loses bytes that are not maintained, in every boot.
const MODELS: [TestDevice; 4] = [
    TestDevice::CacheModel,
    TestDevice::CacheModelMerged,
    TestDevice::BounceModel,
    TestDevice::DirectModel,
];

/// Runs a test for each device, with its buffers.
fn with_devices(
    guest: &Guest,
    mut test: impl FnMut(
        &Buffer,
        &Buffer,
        &dyn Fn(&Buffer) -> Result<Attachment<'static>, Stop>,
    ) -> Outcome,
) -> Outcome {
    // It lives as long as this process: attachments borrow it.
    let importer: &'static _ = Box::leak(Box::new(guest.importer()?));
    let edu = guest.swiotlb.then_some(TestDevice::Edu);
    for kind in MODELS.into_iter().chain(edu) {
        importer.model().reset()?;
        let (src, dst) = two(guest, size())?;
        let _forget = ModelReset(importer);
        for buffer in [&src, &dst] {
            let mapping = buffer.map()?;
            importer.model().track(mapping.as_ptr(), size())?;
            // What is in the caches now has gone to memory.
            importer.model().evict()?;
        }
        let attach = |buffer: &Buffer| -> Result<Attachment<'static>, Stop> {
            let device = importer.attach(buffer, kind, 0)?;
            device.map(Direction::Bidirectional)?;
            Ok(device)
        };
        test(&src, &dst, &attach).map_err(|stop| match stop {
            Stop::Failed(why) => Stop::Failed(format!("{kind:?}: {why}")),
            skipped => skipped,
        })?;
    }
    Ok(())
}

fn seen_by(device: &Attachment<'_>) -> Result<Vec<u8>, Stop> {
    let mut seen = vec![0; size()];
    device.device_reads(0, &mut seen)?;
    Ok(seen)
}

fn device_sees_what_is_copied(guest: &Guest) -> Outcome {
    for arg in regions() {
        with_devices(guest, |src, dst, attach| {
            let device = attach(dst)?;
            let mut wanted = content(dst)?;
            oracle(&arg, &content(src)?, &mut wanted);
            copy(guest, src, dst, arg)?;
            check!(
                seen_by(&device)? == wanted,
                "{arg:?}: it sees something else"
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn copy_sees_what_a_device_wrote(guest: &Guest) -> Outcome {
    for arg in regions() {
        with_devices(guest, |src, dst, attach| {
            let device = attach(src)?;
            let mut wanted = content(dst)?;
            let written = pattern(size(), 77);
            device.device_writes(0, &written)?;
            oracle(&arg, &written, &mut wanted);
            copy(guest, src, dst, arg)?;
            check!(content(dst)? == wanted, "{arg:?}: wrong bytes");
            Ok(())
        })?;
    }
    Ok(())
}

/// Not even in the lines of which a part is copied.
fn device_bytes_beside_the_region_stay(guest: &Guest) -> Outcome {
    for arg in regions() {
        with_devices(guest, |src, dst, attach| {
            let device = attach(dst)?;
            let mut wanted = pattern(size(), 77);
            device.device_writes(0, &wanted)?;
            oracle(&arg, &content(src)?, &mut wanted);
            copy(guest, src, dst, arg)?;
            check!(
                seen_by(&device)? == wanted,
                "{arg:?}: it sees something else"
            );
            check!(
                content(dst)? == wanted,
                "{arg:?}: the CPU sees something else"
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// The system heap loses them where CPU access does not say that it reads, too.
fn system_heap_keeps_device_bytes_beside_the_region(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for kind in [TestDevice::CacheModel, TestDevice::BounceModel] {
        importer.model().reset()?;
        let Ok(heap) = cohbuf_testdev::system_heap(size() as u64) else {
            return skip("this kernel has no system heap");
        };
        let (src, dst) = (guest.bracketed(size())?, Buffer::try_from(heap)?);
        fill(&src, &pattern(size(), 1))?;
        let _forget = ModelReset(&importer);
        let device = importer.attach(&dst, kind, 0)?;
        device.map(Direction::Bidirectional)?;
        let mut wanted = pattern(size(), 77);
        device.device_writes(0, &wanted)?;
        let arg = linear(13, 4099, 5000);
        oracle(&arg, &content(&src)?, &mut wanted);
        copy(guest, &src, &dst, arg)?;
        check!(
            seen_by(&device)? == wanted,
            "{kind:?}: it sees something else"
        );
    }
    Ok(())
}

/// Bytes that were maintained for the CPU, and for devices.
fn maintained(guest: &Guest, buffer: &Buffer) -> Result<(u64, u64), Stop> {
    let info = guest.device()?.info(buffer)?;
    Ok((
        info.bytes_invalidated + info.bytes_from_copies,
        info.bytes_cleaned + info.bytes_to_copies,
    ))
}

/// Each line that the region touches, and no other.
fn region_alone_is_maintained(guest: &Guest) -> Outcome {
    if guest.all_coherent() && !guest.swiotlb {
        return skip("nothing is maintained here");
    }
    /// No cache of today has longer ones.
    const LINE: u64 = 128;
    let importer = guest.importer()?;
    for arg in regions() {
        let (src, dst) = two(guest, size())?;
        let attach = |buffer| -> Result<Attachment<'_>, Stop> {
            let device = importer.attach(buffer, TestDevice::NonCoherent, 0)?;
            device.map(Direction::Bidirectional)?;
            Ok(device)
        };
        let _devices = [attach(&src)?, attach(&dst)?];
        let before = [maintained(guest, &src)?, maintained(guest, &dst)?];
        copy(guest, &src, &dst, arg)?;
        let after = [maintained(guest, &src)?, maintained(guest, &dst)?];
        let cpu = [after[0].0 - before[0].0, after[1].0 - before[1].0];
        let device = [after[0].1 - before[0].1, after[1].1 - before[1].1];

        let least = bytes_of(&arg, size() as u64);
        let most = (least + arg.rows.max(1) * 2 * LINE).min(size() as u64);
        for (what, bytes) in [
            ("source", cpu[0]),
            ("destination", cpu[1]),
            ("END", device[1]),
        ] {
            check!(
                (least..=most).contains(&bytes),
                "{arg:?}: {what}: {bytes} bytes, must be {least} to {most}"
            );
        }
        check!(device[0] == 0, "{arg:?}: the source was not written");
    }
    Ok(())
}

/// A process that writes beside the region meanwhile loses nothing.
fn region_alone_is_written(guest: &Guest) -> Outcome {
    let (src, dst) = two(guest, size())?;
    let mapping = dst.map()?;
    let device = guest.device()?;
    let mut arg = between(&src, &dst, rows((0, 16), (0, 16), 8, (size() / 16) as u64));
    for round in 1..100_u8 {
        arg.done = 0;
        std::thread::scope(|scope| -> Outcome {
            let copier = scope.spawn(|| raw::copy(&device, &mut arg));
            for at in (8..size()).step_by(16) {
                mapping.write(at, &[round; 8])?;
            }
            copier.join().expect("the copier panicked")?;
            Ok(())
        })?;
        let mut seen = [0; 8];
        for at in (8..size()).step_by(16) {
            mapping.read(at, &mut seen)?;
            check!(seen == [round; 8], "round {round}: {at} is overwritten");
        }
    }
    Ok(())
}

fn window_is_closed(guest: &Guest) -> Outcome {
    let (src, dst) = two(guest, size())?;
    let device = guest.device()?;
    for arg in regions() {
        copy(guest, &src, &dst, arg)?;
        for buffer in [&src, &dst] {
            let info = device.info(buffer)?;
            check!(info.write_windows == 0, "{arg:?}: {info:?}");
        }
    }
    Ok(())
}

/// An END of another thread that closes all windows of the process does not close that of a copy,
/// whose own END would push nothing to the device's copy then.
fn window_is_of_the_copy_alone(guest: &Guest) -> Outcome {
    const ROUNDS: u32 = 300;
    let size = 16 * size();
    let importer = guest.importer()?;
    importer.model().reset()?;
    let (src, dst) = two(guest, size)?;
    let _forget = ModelReset(&importer);
    let attached = importer.attach(&dst, TestDevice::BounceModel, 0)?;
    attached.map(Direction::ToDevice)?;
    let device = guest.device()?;
    let stop = AtomicBool::new(false);
    let ends = AtomicU32::new(0);
    std::thread::scope(|scope| -> Outcome {
        let other = scope.spawn(|| -> Result<(), Errno> {
            let part = |offset| Region::Linear { offset, length: 8 };
            while !stop.load(Relaxed) {
                sync_raw(&device, &request(&dst, START_WRITE, part(0)))?;
                sync_raw(&device, &request(&dst, START_WRITE, part(64)))?;
                sync_raw(&device, &request(&dst, END_WRITE, Region::Whole))?;
                ends.fetch_add(1, Relaxed);
            }
            Ok(())
        });
        let copies = || -> Outcome {
            let mut seen = vec![0; size];
            for round in 0..ROUNDS {
                let bytes = pattern(size, 1000 + round);
                fill(&src, &bytes)?;
                copy(guest, &src, &dst, linear(128, 128, size - 128))?;
                attached.device_reads(0, &mut seen)?;
                let stale = (128..size).find(|&at| seen[at] != bytes[at]);
                check!(stale.is_none(), "round {round}: the device lacks {stale:?}");
            }
            Ok(())
        };
        let copied = copies();
        stop.store(true, Relaxed);
        other.join().expect("the other thread panicked")?;
        copied
    })?;
    let ends = ends.load(Relaxed);
    check!(ends > ROUNDS, "{ends} END of another thread");
    let left = device.info(&dst)?.write_windows;
    check!(left == 0, "{left} windows are open");
    Ok(())
}

fn more_rows_than_a_window_may_have(guest: &Guest) -> Outcome {
    const ROWS: usize = 40_000;
    let importer = guest.importer()?;
    for kind in MODELS {
        importer.model().reset()?;
        let (src, dst) = two(guest, (2 * ROWS).next_multiple_of(page()))?;
        let _forget = ModelReset(&importer);
        let attached = importer.attach(&dst, kind, 0)?;
        attached.map(Direction::Bidirectional)?;
        let arg = rows((1, 2), (0, 2), 1, ROWS as u64 - 1);
        copy_right(guest, &src, &dst, arg, "many rows")?;
        let wanted = content(&dst)?;
        let mut seen = vec![0; wanted.len()];
        attached.device_reads(0, &mut seen)?;
        check!(seen == wanted, "{kind:?}: it sees something else");
        let left = guest.device()?.info(&dst)?.write_windows;
        check!(left == 0, "{kind:?}: {left} windows are open");
    }
    Ok(())
}
