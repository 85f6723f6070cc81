// SPDX-License-Identifier: GPL-2.0

//! `COHBUF_IOCTL_COPY`: every errno that it has, fences and signals, and that nothing is left
//! behind.

use std::thread;
use std::time::{Duration, Instant};

use cohbuf::uapi::Copy as CopyArg;
use cohbuf::{Buffer, CreateFlags, FdFlags};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::cases::copy::{
    LINEAR, ROWS, WHOLE, between, content, copy, fill, linear, pattern, rows, size,
};
use crate::cases::fences::{PENDING, READ, Source, WRITES, end_of};
use crate::cases::limits::with_cgroup;
use crate::check;
use crate::child;
use crate::guest::{Guest, live_buffers, meminfo, open_files, page};
use crate::harness::{Outcome, Stop, fails_with, skip};
use crate::raw::{self, COPY};

crate::guest_suite!("copy_limits":
    what_is_no_region,
    what_is_no_buffer,
    who_may_not,
    heap_that_is_write_only_is_no_source,
    bad_addresses,
    structure_sizes,
    source_waits_for_writers,
    destination_waits_for_all,
    readers_of_the_source_are_not_waited_for,
    signal_before_it_begins,
    both_ways_at_once,
    page_tables_have_a_limit,
    nothing_is_left_behind,
);

fn two(guest: &Guest) -> Result<(Buffer, Buffer), Stop> {
    let (src, dst) = (guest.bracketed(size())?, guest.bracketed(size())?);
    fill(&src, &pattern(size(), 1))?;
    fill(&dst, &pattern(size(), 1000))?;
    Ok((src, dst))
}

/// A call that fails leaves its argument and the destination alone.
#[track_caller]
fn fails(guest: &Guest, arg: CopyArg, dst: &Buffer, errno: Errno, what: &str) -> Outcome {
    let before = content(dst)?;
    let mut after = arg;
    fails_with(raw::copy(guest.device()?, &mut after), errno, what)?;
    check!(after == arg, "{what}: it has written {after:?}");
    check!(content(dst)? == before, "{what}: it has copied");
    Ok(())
}

fn what_is_no_region(guest: &Guest) -> Outcome {
    let (src, dst) = two(guest)?;
    let large = guest.bracketed(size() + page())?;
    let (bytes, max) = (size() as u64, u64::MAX);
    let invalid =
        |arg: CopyArg, what: &str| fails(guest, between(&src, &dst, arg), &dst, Errno::INVAL, what);
    let good = linear(0, 0, 16);
    invalid(CopyArg { flags: 1, ..good }, "flags")?;
    invalid(
        CopyArg {
            flags: 1 << 31,
            ..good
        },
        "flags",
    )?;
    for layout in [3, 4, u32::MAX] {
        let arg = CopyArg { layout, ..good };
        invalid(arg, "a layout that is not known")?;
    }

    // What the layout does not use.
    let whole = CopyArg::default();
    check!(whole.layout == WHOLE && good.layout == LINEAR, "layouts");
    invalid(
        CopyArg {
            src_offset: 1,
            ..whole
        },
        "whole, src_offset",
    )?;
    invalid(
        CopyArg {
            dst_offset: 1,
            ..whole
        },
        "whole, dst_offset",
    )?;
    for arg in [whole, good] {
        let name = arg.layout;
        invalid(
            CopyArg {
                src_stride: 16,
                ..arg
            },
            &format!("src_stride {name}"),
        )?;
        invalid(
            CopyArg {
                dst_stride: 16,
                ..arg
            },
            &format!("dst_stride {name}"),
        )?;
        invalid(CopyArg { rows: 1, ..arg }, &format!("rows {name}"))?;
    }
    invalid(
        CopyArg {
            length: 16,
            ..whole
        },
        "whole, length",
    )?;

    // Empty, and with a stride that is too short.
    invalid(linear(0, 0, 0), "no bytes")?;
    invalid(rows((0, 16), (0, 16), 0, 1), "no bytes in a row")?;
    invalid(rows((0, 16), (0, 16), 16, 0), "no rows")?;
    invalid(rows((0, 15), (0, 16), 16, 1), "short src_stride")?;
    invalid(rows((0, 16), (0, 15), 16, 1), "short dst_stride")?;
    check!(rows((0, 0), (0, 0), 0, 0).layout == ROWS, "layouts");

    // Beyond the end, and beyond all numbers.
    for (src, dst, length) in [
        (bytes, 0, 1),
        (0, bytes, 1),
        (1, 0, bytes),
        (0, 1, bytes),
        (0, 0, bytes + 1),
        (max, 0, 1),
        (0, max, 1),
        (2, 0, max),
        (0, 0, max),
        (max, max, max),
    ] {
        let arg = CopyArg {
            src_offset: src,
            dst_offset: dst,
            length,
            ..good
        };
        invalid(arg, &format!("{src} {dst} {length}"))?;
    }
    let wide = page() as u64;
    for arg in [
        rows((0, wide), (0, wide), wide, 5),
        rows((1, wide), (0, wide), wide, 4),
        rows((0, wide), (1, wide), wide, 4),
        rows((0, wide), (0, wide + 1), wide, 4),
        rows((0, max), (0, 16), 16, 2),
        rows((0, 16), (0, max), 16, 2),
        rows((0, 16), (0, 16), 16, max),
        rows((0, 16), (0, 16), 16, 1 << 60),
        rows((0, 1 << 63), (0, 1 << 63), 16, 3),
    ] {
        invalid(arg, &format!("{arg:?}"))?;
    }

    for done in [17, max] {
        invalid(CopyArg { done, ..good }, "done is beyond the region")?;
    }
    let done = bytes + 1;
    invalid(CopyArg { done, ..whole }, "done is beyond the buffer")?;
    for (src, dst) in [(&src, &large), (&large, &src)] {
        let arg = between(src, dst, whole);
        fails(guest, arg, dst, Errno::INVAL, "two sizes")?;
    }

    // What is all done already is no mistake.
    copy(guest, &src, &dst, CopyArg { done: 16, ..good })?;
    copy(guest, &src, &dst, good)
}

fn what_is_no_buffer(guest: &Guest) -> Outcome {
    let (src, dst) = two(guest)?;
    let null = open("/dev/null", OFlags::RDWR, Mode::empty())?;
    let device = guest.device()?;
    let good = between(&src, &dst, linear(0, 0, 16));
    for (fd, errno) in [
        (-1, Errno::BADF),
        (i32::MAX, Errno::BADF),
        (1000, Errno::BADF),
        (null.as_raw_fd(), Errno::INVAL),
        (device.as_fd().as_raw_fd(), Errno::INVAL),
    ] {
        let arg = CopyArg { src_fd: fd, ..good };
        fails(guest, arg, &dst, errno, &format!("source {fd}"))?;
        let arg = CopyArg { dst_fd: fd, ..good };
        fails(guest, arg, &dst, errno, &format!("destination {fd}"))?;
    }
    Ok(())
}

fn who_may_not(guest: &Guest) -> Outcome {
    let (src, dst) = two(guest)?;
    let device = guest.device()?;
    let flags = FdFlags::CLOEXEC;
    let read_only = device.create_with(size() as u64, CreateFlags::empty(), flags)?;
    let arg = between(&src, &read_only, linear(0, 0, 16));
    fails(guest, arg, &dst, Errno::ACCESS, "to a read-only buffer")?;
    let mapping = read_only.map_range(0, size() as u64, cohbuf::Protection::Read)?;
    check!(mapping.to_vec()? == vec![0; size()], "it was written");
    // Before a look at the region.
    let arg = between(&src, &read_only, linear(size(), 0, 16));
    fails(guest, arg, &dst, Errno::ACCESS, "no region of it")?;

    copy(guest, &read_only, &dst, linear(0, 0, 16))?;
    check!(content(&dst)?[..16] == [0; 16], "from a read-only buffer");
    Ok(())
}

fn heap_that_is_write_only_is_no_source(guest: &Guest) -> Outcome {
    let Ok(heap) = open("/dev/dma_heap/system", OFlags::RDWR, Mode::empty()) else {
        return skip("this kernel has no system heap");
    };
    // DMA_HEAP_IOCTL_ALLOC: len, fd, fd_flags, heap_flags.
    let mut arg = [0; 24];
    arg[..8].copy_from_slice(&(size() as u64).to_ne_bytes());
    let flags = (OFlags::WRONLY | OFlags::CLOEXEC).bits();
    arg[12..16].copy_from_slice(&flags.to_ne_bytes());
    raw::ioctl(&heap, raw::iowr(b'H', 0, 24), &mut arg)?;
    let write_only = Buffer::try_from(raw::take_fd(&arg, 8))?;
    let (src, dst) = two(guest)?;
    let arg = between(&write_only, &dst, linear(0, 0, 16));
    fails(guest, arg, &dst, Errno::ACCESS, "from a write-only buffer")?;
    copy(guest, &src, &write_only, linear(0, 0, 16))
}

fn bytes_of(arg: &CopyArg) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [arg.src_fd as u32, arg.dst_fd as u32, arg.layout, arg.flags] {
        bytes.extend(number.to_ne_bytes());
    }
    for number in [
        arg.src_offset,
        arg.dst_offset,
        arg.src_stride,
        arg.dst_stride,
        arg.length,
        arg.rows,
        arg.done,
    ] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

/// Who could not be told how far it got gets no copy.
fn bad_addresses(guest: &Guest) -> Outcome {
    let (src, dst) = two(guest)?;
    let device = guest.device()?;
    let before = content(&dst)?;
    fails_with(
        raw::ioctl_bad_address(&device, COPY),
        Errno::FAULT,
        "no argument",
    )?;
    let arg = bytes_of(&between(&src, &dst, linear(0, 0, 16)));
    fails_with(
        raw::ioctl_read_only(&device, COPY, &arg),
        Errno::FAULT,
        "an argument that cannot be written",
    )?;
    check!(content(&dst)? == before, "it has copied");
    Ok(())
}

fn structure_sizes(guest: &Guest) -> Outcome {
    let (src, dst) = two(guest)?;
    let device = guest.device()?;
    let mut arg = bytes_of(&between(&src, &dst, linear(0, 0, 16)));
    let first = arg.len();
    check!(first == size_of::<CopyArg>(), "{first} bytes");
    arg.resize(2 * page(), 0);
    let mut call = |bytes: usize, tail: u8| {
        arg[first..].fill(tail);
        raw::ioctl(&device, raw::resized(COPY, bytes), &mut arg)
    };
    let before = content(&dst)?;
    for bytes in [0, first - 8, first - 1] {
        fails_with(call(bytes, 0), Errno::INVAL, &format!("{bytes} bytes"))?;
    }
    fails_with(call(page() + 1, 0), Errno::TOOBIG, "more than a page")?;
    fails_with(call(first + 8, 1), Errno::TOOBIG, "what is not known")?;
    check!(content(&dst)? == before, "it has copied");
    call(first + 8, 0)?;
    check!(content(&dst)?[..16] == content(&src)?[..16], "longer");
    Ok(())
}

/// Whether a copy waits for a fence of one of its buffers.
fn waits(guest: &Guest, of_source: bool, usage: u64) -> Outcome {
    let source = Source::find()?;
    let (src, dst) = two(guest)?;
    let device = guest.device()?;
    let before = content(&dst)?;
    let fence = source.add_fence(if of_source { &src } else { &dst }, usage)?;
    let mut arg = between(&src, &dst, linear(0, 0, 16));
    let mapping = dst.map()?;
    thread::scope(|scope| -> Outcome {
        let copier = scope.spawn(|| raw::copy(&device, &mut arg));
        thread::sleep(PENDING);
        let early = copier.is_finished();
        let seen = mapping.to_vec()?;
        fence.signal()?;
        copier.join().expect("the copier panicked")?;
        check!(!early, "COPY came back with the fence pending");
        check!(seen == before, "it has copied with the fence pending");
        Ok(())
    })?;
    check!(content(&dst)?[..16] == content(&src)?[..16], "no copy");
    Ok(())
}

fn source_waits_for_writers(guest: &Guest) -> Outcome {
    waits(guest, true, WRITES)
}

fn destination_waits_for_all(guest: &Guest) -> Outcome {
    waits(guest, false, READ)?;
    waits(guest, false, WRITES)
}

fn readers_of_the_source_are_not_waited_for(guest: &Guest) -> Outcome {
    let source = Source::find()?;
    let (src, dst) = two(guest)?;
    let fence = source.add_fence(&src, READ)?;
    let began = Instant::now();
    copy(guest, &src, &dst, linear(0, 0, 16))?;
    let took = began.elapsed();
    check!(took < PENDING, "it took {took:?}");
    fence.signal()
}

/// Nothing is copied then, and no window is left.
fn signal_before_it_begins(guest: &Guest) -> Outcome {
    raw::let_signal_interrupt()?;
    for of_source in [true, false] {
        let source = Source::find()?;
        let (src, dst) = two(guest)?;
        let device = guest.device()?;
        let before = content(&dst)?;
        let fence = source.add_fence(if of_source { &src } else { &dst }, WRITES)?;
        let arg = between(&src, &dst, linear(0, 0, 16));
        let child = raw::fork(|| {
            let mut after = arg;
            match raw::copy(&device, &mut after) {
                Err(Errno::INTR) if after == arg => 42,
                _ => 1,
            }
        })?;
        thread::sleep(PENDING);
        check!(
            child.poll()?.is_none(),
            "COPY came back with the fence pending"
        );
        child.signal(libc::SIGUSR1)?;
        let status = end_of(&child)?;
        check!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42,
            "the child ended with status {status:#x}"
        );
        fence.signal()?;
        check!(content(&dst)? == before, "it has copied");
        for buffer in [&src, &dst] {
            let info = device.info(buffer)?;
            check!(info.write_windows == 0, "{info:?}");
        }
        copy(guest, &src, &dst, linear(0, 0, 16))?;
    }
    Ok(())
}

/// Two tasks that copy between two buffers, each its way, do not wait for each other.
fn both_ways_at_once(guest: &Guest) -> Outcome {
    let (a, b) = two(guest)?;
    let device = guest.device()?;
    let rounds = 300;
    thread::scope(|scope| -> Outcome {
        let copiers = [(&a, &b), (&b, &a), (&a, &a)].map(|(src, dst)| {
            let device = &device;
            scope.spawn(move || -> Result<(), Errno> {
                for _ in 0..rounds {
                    raw::copy(device, &mut between(src, dst, CopyArg::default()))?;
                }
                Ok(())
            })
        });
        for copier in copiers {
            copier.join().expect("a copier panicked")?;
        }
        Ok(())
    })
}

/// The kernel does not charge page tables of its own to anybody. So a copy maps no more than it is
/// asked for, and what it maps has a list that is charged.
fn page_tables_have_a_limit(_guest: &Guest) -> Outcome {
    with_cgroup(|group| {
        let output = child::run(&["copy-in-full-cgroup", group, &(192 << 20).to_string()])?;
        check!(output.status.success(), "the process in it: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let wanted = format!("whole: errno {}; at the end: 16 bytes", libc::ENOMEM);
        check!(text.trim() == wanted, "{text}, wanted {wanted}");
        Ok(())
    })
}

fn nothing_is_left_behind(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let large = 4 << 20;
    // No larger than what can be bounced in one piece: udmabuf maps it for a device of its own.
    let small = 64 << 10;
    let other: Option<OwnedFd> = cohbuf_testdev::udmabuf(small as u64).ok();
    let round = |times: u32| -> Outcome {
        let (src, dst) = (guest.bracketed(large)?, guest.bracketed(large)?);
        let flags = FdFlags::CLOEXEC;
        let read_only = device.create_with(large as u64, CreateFlags::empty(), flags)?;
        for _ in 0..times {
            copy(guest, &src, &dst, linear(0, 1, 64))?;
            copy(guest, &src, &src, rows((0, 100), (1, 101), 50, 40_000))?;
            if let Some(other) = &other {
                let mut arg = between(&src, &dst, linear(0, 0, small));
                arg.src_fd = other.as_raw_fd();
                raw::copy(&device, &mut arg)?;
            }
            for arg in [
                between(&src, &read_only, linear(0, 0, 1)),
                between(&src, &dst, linear(large, 0, 1)),
                CopyArg {
                    dst_fd: -1,
                    ..between(&src, &dst, linear(0, 0, 1))
                },
            ] {
                check!(
                    raw::copy(&device, &mut arg.clone()).is_err(),
                    "it must not work: {arg:?}"
                );
            }
        }
        Ok(())
    };
    round(1)?;
    let look = || -> Result<_, Stop> {
        // Memory goes back a little later.
        thread::sleep(Duration::from_millis(300));
        Ok((open_files()?, live_buffers()?, meminfo("MemAvailable")?))
    };
    let (files, buffers, before) = look()?;
    // A second copy that is left would be two megabytes each time.
    round(40)?;
    let (files_now, buffers_now, after) = look()?;
    check!(files == files_now, "{files} files, now {files_now}");
    check!(
        buffers == buffers_now,
        "{buffers} buffers, now {buffers_now}"
    );
    check!(
        after + (32 << 10) > before,
        "{before} KiB available, now {after}"
    );
    Ok(())
}
