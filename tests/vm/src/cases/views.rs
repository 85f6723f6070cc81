// SPDX-License-Identifier: GPL-2.0

//! The library's windows that hand out slices, and its builder.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use cohbuf::{Access, CopyRegion, CreateFlags, Device, Enforce, Protection, Region};
use cohbuf_testdev::{Direction, TestDevice};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, expect, expect_eq, expect_errno};

crate::guest_suite!("views":
    a_device_sees_what_was_written,
    the_cpu_sees_what_a_device_wrote,
    rows_of_a_rectangle_reach_the_device,
    a_range_counts_what_it_costs,
    a_window_is_open_while_it_lives,
    slices_exclude_each_other,
    slices_exclude_copies,
    slices_exclude_what_begins_beside_them,
    no_start_moves_the_bytes_of_a_slice,
    the_last_of_those_who_read_ends_it,
    threads_read_the_same_slices,
    slices_are_inside_of_windows,
    any_exporter,
    built_as_it_was_said,
    a_name_is_shown,
);

fn size() -> usize {
    8 * page()
}

/// With a copy of its own, which a forgotten sync would leave as it was.
fn a_device_sees_what_was_written(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size())?;
    let device = importer.attach(&buffer, TestDevice::BounceModel, 0)?;
    device.map(Direction::Bidirectional)?;
    let mut view = buffer.view()?;
    let mut seen = vec![0xff; size()];

    let mut window = view.write()?;
    window.fill(0x11);
    window[size() - 1] = 0x12;
    device.device_reads(0, &mut seen)?;
    expect_eq("seen while the window is open", seen[0], 0)?;
    window.end()?;
    device.device_reads(0, &mut seen)?;
    let right = seen[..size() - 1].iter().all(|byte| *byte == 0x11) && seen[size() - 1] == 0x12;
    expect("seen after the window", right)?;

    // Dropped, it ends as well.
    view.write()?.fill(0x22);
    device.device_reads(0, &mut seen)?;
    expect("seen after a drop", seen.iter().all(|byte| *byte == 0x22))
}

fn the_cpu_sees_what_a_device_wrote(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size())?;
    let device = importer.attach(&buffer, TestDevice::BounceModel, 0)?;
    device.map(Direction::Bidirectional)?;
    let mut view = buffer.view()?;
    device.device_writes(0, &vec![0x33; size()])?;
    let window = view.read()?;
    expect("to read", window.iter().all(|byte| *byte == 0x33))?;
    window.end()?;

    device.device_writes(0, &vec![0x44; size()])?;
    let mut window = view.read_write()?;
    for byte in window.iter_mut() {
        *byte += 1;
    }
    window.end()?;
    let mut seen = vec![0; size()];
    device.device_reads(0, &mut seen)?;
    expect("to read and write", seen.iter().all(|byte| *byte == 0x45))
}

fn rows_of_a_rectangle_reach_the_device(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(size())?;
    let device = importer.attach(&buffer, TestDevice::BounceModel, 0)?;
    device.map(Direction::Bidirectional)?;
    let mut view = buffer.view()?;
    // 20 rows of 40 bytes.
    let Some(region) = Region::rectangle((64, 5), (10, 20), 4, 512) else {
        return crate::harness::fail("no rectangle");
    };
    let mut window = view.write_rows(&cohbuf, region)?;
    let rows = window.rows_mut();
    expect_eq("rows", rows.len(), 20)?;
    for (number, row) in rows.enumerate() {
        expect_eq("bytes of a row", row.len(), 40)?;
        row.fill(number as u8 + 1);
    }
    if let Some(row) = window.row_mut(19) {
        row[39] = 0xee;
    }
    let cost = window.end()?;
    expect("it is counted", cost.to_copies + cost.own_ops > 0)?;

    let mut must = vec![0; size()];
    for row in 0..20 {
        must[(row + 5) * 512 + 256..][..40].fill(row as u8 + 1);
    }
    must[24 * 512 + 256 + 39] = 0xee;
    let mut seen = vec![0xff; size()];
    device.device_reads(0, &mut seen)?;
    expect("the device has the rectangle, and zeros", seen == must)?;

    let window = view.read_rows(&cohbuf, region)?;
    let first: Option<u32> = window
        .rows()
        .next()
        .map(|row| row.iter().map(|byte| u32::from(*byte)).sum());
    expect_eq("first row", first, Some(40))?;
    expect_eq("past the last", window.row(20), None)?;
    window.end()?;
    Ok(())
}

/// Of a device that does not snoop: two lines, there and back, and no more.
fn a_range_counts_what_it_costs(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(size())?;
    let device = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
    device.map(Direction::Bidirectional)?;
    let mut view = buffer.view()?;
    let mut window = view.read_write_range(&cohbuf, 4096..4096 + 128)?;
    expect_eq("bytes", window.len(), 128)?;
    window.fill(9);
    let cost = window.end()?;
    let must = if guest.all_coherent() && !guest.swiotlb {
        0
    } else {
        256
    };
    expect_eq("maintained", cost.maintained(), must)?;
    let window = view.read_range(&cohbuf, 4095..4097)?;
    expect_eq("bytes around the edge", &window[..], &[0, 9][..])?;
    window.end()?;
    expect_errno(
        "beyond the end",
        view.read_range(&cohbuf, 0..size() as u64 + 1),
        Errno::RANGE,
    )?;
    let empty = 64..64;
    expect_errno("empty", view.read_range(&cohbuf, empty), Errno::RANGE)
}

fn a_window_is_open_while_it_lives(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(size())?;
    let mut view = buffer.view()?;
    let open = || -> Result<u32, Stop> { Ok(cohbuf.info(&buffer)?.write_windows) };
    let window = view.write()?;
    expect_eq("inside", open()?, 1)?;
    window.end()?;
    expect_eq("after the end", open()?, 0)?;
    let window = view.write_range(&cohbuf, 0..64)?;
    expect_eq("inside of a range", open()?, 1)?;
    drop(window);
    expect_eq("after a drop", open()?, 0)?;
    let window = view.read()?;
    expect_eq("inside, to read", open()?, 0)?;
    drop(window);
    Ok(())
}

fn slices_exclude_each_other(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(size())?;
    // Another descriptor, another mapping, the same buffer.
    let again = cohbuf::Buffer::try_from(rustix::io::dup(buffer.as_fd())?)?;
    let (mut one, mut two) = (buffer.view()?, again.view()?);
    let left = Region::rectangle((0, 0), (16, 8), 4, 128).unwrap_or_default();
    let right = Region::rectangle((16, 0), (16, 8), 4, 128).unwrap_or_default();
    let held = one.write_rows(&cohbuf, left)?;
    expect_errno("the same", two.write_rows(&cohbuf, left), Errno::BUSY)?;
    expect_errno("all, to read", two.read(), Errno::BUSY)?;
    two.write_rows(&cohbuf, right)?.end()?;
    let windows = cohbuf.info(&buffer)?.write_windows;
    expect_eq("refused ones opened no window", windows, 1)?;
    held.end()?;
    two.write()?.end()?;
    Ok(())
}

/// What the kernel writes is seen by whoever has a `&[u8]`, which Rust does not allow.
fn slices_exclude_copies(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let (buffer, other) = (guest.bracketed(size())?, guest.bracketed(size())?);
    let mut view = buffer.view()?;
    let whole = CopyRegion::Whole;
    let rows = |offset| CopyRegion::Rows {
        src_offset: offset,
        dst_offset: offset,
        src_stride: 1024,
        dst_stride: 1024,
        length: 512,
        rows: 8,
    };
    let right = Region::rectangle((128, 0), (128, 8), 4, 1024).unwrap_or_default();

    let held = view.read()?;
    for region in [whole, rows(0)] {
        expect_errno("into", cohbuf.copy(&other, &buffer, region), Errno::BUSY)?;
        // A bracket of it may write to its source.
        expect_errno("from", cohbuf.copy(&buffer, &other, region), Errno::BUSY)?;
    }
    expect("unchanged", held.iter().all(|byte| *byte == 0))?;
    held.end()?;

    let held = view.write_rows(&cohbuf, right)?;
    expect_errno("all", cohbuf.copy(&other, &buffer, whole), Errno::BUSY)?;
    expect_errno(
        "the same",
        cohbuf.copy(&other, &buffer, rows(512)),
        Errno::BUSY,
    )?;
    expect_errno(
        "within",
        cohbuf.copy(&buffer, &buffer, rows(512)),
        Errno::BUSY,
    )?;
    expect_eq("beside", cohbuf.copy(&other, &buffer, rows(0))?, 4096)?;
    held.end()?;
    expect_eq("after", cohbuf.copy(&other, &buffer, whole)?, size() as u64)?;

    // Of another exporter: the kernel begins access to all of it.
    let vgem = crate::guest::vgem()?;
    let foreign = cohbuf::share::Importer::export(vgem.device(), size() as u64)?;
    let foreign = cohbuf::Buffer::try_from(foreign)?;
    let view = foreign.view_range((4 * page()) as u64, page() as u64, Protection::Read)?;
    let held = view.read()?;
    let copy = || cohbuf.copy(&other, &foreign, rows(0));
    expect_errno("far from it", copy(), Errno::BUSY)?;
    held.end()?;
    expect_eq("then", copy()?, 4096)
}

fn slices_exclude_what_begins_beside_them(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(size())?;
    let (mut one, mut two) = (buffer.view()?, buffer.view()?);
    let all = [Access::Read, Access::Write, Access::ReadWrite];

    let held = one.read_range(&cohbuf, 1024..2048)?;
    for access in all {
        expect_errno("all", buffer.cpu_access(access), Errno::BUSY)?;
        let beside = Region::linear(2048..4096);
        cohbuf.cpu_access_region(&buffer, access, beside)?.end()?;
        let partly = Region::linear(2047..4096);
        let window = cohbuf.cpu_access_region(&buffer, access, partly);
        expect_errno("in part", window.map(drop), Errno::BUSY)?;
    }
    expect_errno("to read all", two.read(), Errno::BUSY)?;
    two.read_range(&cohbuf, 1024..1030)?.end()?;
    two.write_range(&cohbuf, 0..1024)?.end()?;
    held.end()?;

    let held = one.write_range(&cohbuf, 1024..1056)?;
    for access in all {
        expect_errno("all", buffer.cpu_access(access), Errno::BUSY)?;
        let same_line = Region::linear(1056..1060);
        let window = cohbuf.cpu_access_region(&buffer, access, same_line)?;
        window.end()?;
    }
    two.write_range(&cohbuf, 1056..1064)?.end()?;
    expect_eq("windows", cohbuf.info(&buffer)?.write_windows, 1)?;
    held.end()?;
    for access in all {
        buffer.cpu_access(access)?.end()?;
    }
    expect_eq("windows", cohbuf.info(&buffer)?.write_windows, 0)
}

/// The device breaks the contract here, to show who fetches what it has.
fn no_start_moves_the_bytes_of_a_slice(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(size())?;
    let device = importer.attach(&buffer, TestDevice::BounceModel, 0)?;
    device.map(Direction::Bidirectional)?;
    let (one, two) = (buffer.view()?, buffer.view()?);
    device.device_writes(0, &vec![1; size()])?;
    let held = one.read()?;
    let is = |bytes: &[u8], value| {
        std::hint::black_box(bytes)
            .iter()
            .all(|byte| *byte == value)
    };
    expect("at first", is(&held, 1))?;
    device.device_writes(0, &vec![2; size()])?;
    let again = two.read()?;
    let range = two.read_range(&cohbuf, 64..128)?;
    let plain = buffer.cpu_access(Access::Read)?;
    expect("of a second window", is(&again, 1) && is(&range, 1))?;
    expect("unchanged", is(&held, 1))?;
    held.end()?;
    expect("by the others", is(&again, 1))?;
    again.end()?;
    expect_eq("shared", range.end()?.maintained(), 0)?;
    // Who only copies has no slice that would change.
    let next = one.read()?;
    expect("of a window after them", is(&next, 2))?;
    next.end()?;
    Ok(plain.end()?)
}

/// An END before that would leave the others outside of windows.
fn the_last_of_those_who_read_ends_it(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let buffer = cohbuf
        .buffer(size() as u64)
        .enforce(Enforce::Report)
        .create()?;
    let (one, two) = (buffer.view()?, buffer.view()?);
    let outside = || -> Result<u64, Stop> { Ok(cohbuf.info(&buffer)?.outside_reads) };
    for last in 0..3 {
        let windows = (one.read()?, two.read()?, two.read_range(&cohbuf, 0..64)?);
        let zero = |bytes: &[u8]| std::hint::black_box(bytes).iter().all(|byte| *byte == 0);
        match last {
            0 => {
                drop(windows.1);
                windows.2.end()?;
                expect("the first is left", zero(&windows.0))?;
            }
            1 => {
                windows.0.end()?;
                drop(windows.2);
                expect("the second is left", zero(&windows.1))?;
            }
            _ => {
                windows.1.end()?;
                windows.0.end()?;
                expect("the range is left", zero(&windows.2))?;
            }
        }
    }
    expect_eq("outside", outside()?, 0)?;
    buffer.map()?.to_vec()?;
    expect("it has ended", outside()? > 0)
}

fn threads_read_the_same_slices(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(size())?;
    let mut view = buffer.view()?;
    view.write()?.fill(5);
    let right = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 5);
    let read = |ranges: bool, number: usize| -> cohbuf::Result<bool> {
        Ok(match number {
            0 => {
                let window = buffer.cpu_access(Access::Read)?;
                let bytes = buffer.map()?.to_vec()?;
                window.end()?;
                right(&bytes)
            }
            1 if ranges => right(&view.read_range(&cohbuf, 64..4000)?),
            _ => right(&view.read()?),
        })
    };
    let by_threads = |ranges| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let read = &read;
                    scope.spawn(move || {
                        (0..200).try_for_each(|_| match read(ranges, number) {
                            Ok(true) => Ok(()),
                            other => Err(format!("{number}: {other:?}")),
                        })
                    })
                })
                .collect();
            let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
            results
                .filter(|result| !matches!(result, Ok(Ok(()))))
                .map(|r| format!("{r:?}"))
                .collect::<Vec<_>>()
        })
    };
    expect_eq("all of it", by_threads(false), Vec::new())?;
    // A range goes with what has all of it.
    let held = view.read()?;
    expect_eq("ranges", by_threads(true), Vec::new())?;
    Ok(held.end()?)
}

/// Where accesses outside raise SIGBUS, slices do not.
fn slices_are_inside_of_windows(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let buffer = cohbuf
        .buffer(size() as u64)
        .enforce(Enforce::Poison)
        .create()?;
    let mut view = buffer.view()?;
    let mut window = view.write()?;
    window.fill(1);
    window.end()?;
    let rows = Region::rectangle((0, 0), (8, 8), 4, 64).unwrap_or_default();
    let mut window = view.read_write_rows(&cohbuf, rows)?;
    for row in window.rows_mut() {
        row.reverse();
    }
    window.end()?;
    let window = view.read()?;
    expect("bytes", window.iter().all(|byte| *byte == 1))?;
    window.end()?;
    let info = cohbuf.info(&buffer)?;
    expect_eq("outside", (info.outside_reads, info.outside_writes), (0, 0))
}

fn any_exporter(guest: &Guest) -> Outcome {
    let vgem = crate::guest::vgem()?;
    let fd = cohbuf::share::Importer::export(vgem.device(), size() as u64)?;
    let buffer = cohbuf::Buffer::try_from(fd)?;
    buffer.set_name("of vgem")?;
    let mut view = buffer.view()?;
    let mut window = view.read_write()?;
    window.fill(7);
    window.end()?;
    let window = view.read()?;
    expect("bytes", window.iter().all(|byte| *byte == 7))?;
    window.end()?;
    expect_errno(
        "a range",
        view.write_range(&guest.device()?, 0..64),
        Errno::MEDIUMTYPE,
    )
}

fn built_as_it_was_said(guest: &Guest) -> Outcome {
    let device: Device = guest.device()?;
    let size = size() as u64;
    let all = [
        (device.buffer(size), CreateFlags::empty()),
        (device.buffer(size).coherent(), CreateFlags::COHERENT),
        (device.buffer(size).contiguous(), CreateFlags::CONTIGUOUS),
        (
            device.buffer(size).track_dirty().enforce(Enforce::Report),
            CreateFlags::TRACK_DIRTY | CreateFlags::ENFORCE_REPORT,
        ),
        (
            device
                .buffer(size)
                .enforce(Enforce::Report)
                .enforce(Enforce::Poison),
            CreateFlags::ENFORCE_POISON,
        ),
    ];
    for (builder, flags) in all {
        let buffer = builder.create()?;
        let info = device.info(&buffer)?;
        expect_eq("flags", info.flags, flags)?;
        expect_eq("size", info.size, size)?;
    }
    match device.buffer(size).write_combine().create() {
        Ok(buffer) => expect_eq(
            "flags",
            device.info(&buffer)?.flags,
            CreateFlags::WRITE_COMBINE,
        )?,
        Err(error) => expect_eq("write-combined", error.errno(), Errno::OPNOTSUPP)?,
    }
    let both = device.buffer(size).coherent().write_combine();
    expect_errno("both", both.create(), Errno::INVAL)?;

    let buffer = device.buffer(size).read_only().create()?;
    expect_errno("a view of it", buffer.view(), Errno::ACCESS)?;
    let mut view = buffer.view_range(0, size, Protection::Read)?;
    view.read()?.end()?;
    expect_errno("to write", view.write(), Errno::ACCESS)?;

    for (builder, is_open) in [
        (device.buffer(size), "no"),
        (device.buffer(size).inheritable(), "yes"),
    ] {
        let buffer = builder.create()?;
        let fd = buffer.as_fd().as_raw_fd().to_string();
        let output = crate::child::run(&["is-open", &fd])?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        expect_eq("open in a child", text.as_str(), is_open)?;
    }
    // What is no view's is a window all the same.
    device
        .buffer(size)
        .create()?
        .cpu_access(Access::Read)?
        .end()?;
    Ok(())
}

fn a_name_is_shown(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let longest = "n".repeat(31);
    let buffer = device.buffer(size() as u64).name(&longest).create()?;
    let shown = |what: &cohbuf::Buffer| -> Result<String, Stop> {
        let fd = what.as_fd().as_raw_fd();
        Ok(fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?)
    };
    let text = shown(&buffer)?;
    check!(text.contains(&format!("name:\t{longest}\n")), "{text}");
    buffer.set_name("another")?;
    let text = shown(&buffer)?;
    check!(text.contains("name:\tanother\n"), "{text}");
    for bad in ["n".repeat(32), "a\0b".to_owned()] {
        expect_errno("a bad name", buffer.set_name(&bad), Errno::INVAL)?;
    }
    let bad = "n".repeat(32);
    let error = device.buffer(size() as u64).name(&bad).create();
    expect_errno("created with a bad name", error, Errno::INVAL)
}
