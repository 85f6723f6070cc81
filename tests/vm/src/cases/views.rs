// SPDX-License-Identifier: GPL-2.0

//! The library's windows that hand out slices, and its builder.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use cohbuf::{Access, CreateFlags, Device, Enforce, Protection, Region};
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
