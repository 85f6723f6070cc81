// SPDX-License-Identifier: GPL-2.0

//! R10: access outside of a window is found, and nothing else is taken for it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cohbuf::{Access, CreateFlags, FdFlags, Protection, Region, State};
use cohbuf_testdev::{Attrs, Direction, MemoryType, TestDevice};
use rustix::io::Errno;

use crate::cases::sync::sync;
use crate::check;
use crate::child;
use crate::enforced::{
    Died, KINDS, Outside, POISON, REPORT, Scene, died, outside, sync_bytes, sync_region,
};
use crate::guest::{Guest, has_noncoherent, page};
use crate::harness::{Outcome, Stop, expect_eq, fails_with};
use crate::raw::{self, Map};
use crate::slots::{self, Slot};

crate::guest_suite!("enforce":
    report_is_logged,
    log_is_limited_and_counts_are_not,
    flags,
    windows_are_free,
    before_a_window_and_after_it,
    each_page_is_reported_once,
    again_after_start_end_map_and_unmap,
    write_in_a_read_window,
    untouched_mapping_is_no_access,
    read_only_descriptor,
    fork_gives_no_window,
    keeponfork_gives_no_pages,
    windows_of_several_processes,
    threads_share_windows,
    nested_windows,
    regions_by_page,
    end_of_a_region_takes_its_pages,
    overlapping_regions,
    rows_by_page,
    moved_and_cut_mappings,
    mprotect_gives_no_access,
    advice_gives_no_access,
    system_calls,
    killed_in_a_window,
    window_in_a_window_of_a_dead_process,
    cache_modes,
    devices_see_what_they_should,
    pages_that_were_written_are_not_forgotten,
    tracking_goes_by_pages_that_were_written,
    parallel_writers,
    parallel_processes_with_their_own_windows,
    faults_while_windows_change,
    write_after_read_while_the_lock_is_held,
);

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const READ: u64 = 1;
const WRITES: u64 = 2;
const END: u64 = 4;

/// More than one fault maps.
const PAGES: usize = 40;

fn kernel_log() -> Result<String, Stop> {
    let output = std::process::Command::new("dmesg").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `DMA_BUF_SET_NAME_B`.
fn set_name(scene: &Scene, name: &core::ffi::CStr) -> Result<(), Errno> {
    let command = raw::ioc(raw::WRITE, b'b', 1, 8);
    raw::ioctl_fd_value(&scene.buffer, command, name.as_ptr().addr()).map(drop)
}

/// Calls `access` until the log, which is limited, has a line like that.
fn logged(what: &str, line: &str, mut access: impl FnMut() -> Outcome) -> Outcome {
    let began = Instant::now();
    loop {
        let before = kernel_log()?.matches(line).count();
        access()?;
        // Old lines leave the log.
        let lines = kernel_log()?.matches(line).count().saturating_sub(before);
        match lines {
            1 => return Ok(()),
            0 if began.elapsed() < Duration::from_secs(20) => {
                thread::sleep(Duration::from_secs(1));
            }
            _ => return crate::harness::fail(format!("{what}: {lines} lines of {line:?}")),
        }
    }
}

fn report_is_logged(guest: &Guest) -> Outcome {
    for kind in KINDS {
        let scene = Scene::new(guest, PAGES, REPORT | kind)?;
        let number = rustix::fs::fstat(&scene.buffer)?.st_ino;
        let comm = std::fs::read_to_string("/proc/thread-self/comm")?;
        let comm = comm.trim_end();
        let task = rustix::thread::gettid().as_raw_nonzero();
        let again = || scene.window(Access::Read).map(drop);
        for (name, shown) in [(None, ""), (Some(c"camera 1\nx"), "camera 1\\nx")] {
            if let Some(name) = name {
                set_name(&scene, name)?;
            }
            let line = |what: &str, at: usize| {
                format!(
                    "cohbuf buffer {number} \"{shown}\": {comm}[{task}] {what} at {at:#x} \
                     outside of its windows"
                )
            };
            logged("a read", &line("reads", 3 * page()), || {
                again()?;
                let _ = scene.read(3);
                Ok(())
            })?;
            logged("a write", &line("writes", 0), || {
                again()?;
                scene.write(0, 1);
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn log_is_limited_and_counts_are_not(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, 400, REPORT)?;
    let number = rustix::fs::fstat(&scene.buffer)?.st_ino;
    for number in 0..400 {
        let _ = scene.read(number);
    }
    expect_eq("counted", scene.outside(guest)?, Outside::reported(400, 0))?;
    let lines = kernel_log()?
        .matches(&format!("cohbuf buffer {number} "))
        .count();
    check!(lines < 100, "{lines} lines in the log for 400 reads");
    Ok(())
}

fn flags(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let track = CreateFlags::from_bits_retain(1 << 3);
    for kind in KINDS {
        for mode in [REPORT, POISON] {
            let flags = mode | kind;
            let buffer = device.create(1, flags)?;
            expect_eq("INFO has the flags", device.info(&buffer)?.flags, flags)?;
            expect_eq("a new buffer", outside(guest, &buffer)?, Outside::NONE)?;
            let caps = device.caps()?.flags;
            check!(
                caps & u64::from(flags.bits()) == u64::from(flags.bits()),
                "CAPS"
            );
        }
        let both = device
            .create(1, REPORT | POISON | kind)
            .map_err(|e| e.errno());
        fails_with(both, Errno::INVAL, "both modes")?;
        if !kind.is_empty() {
            let result = device.create(1, track | kind).map_err(|e| e.errno());
            fails_with(result, Errno::INVAL, "tracking what nobody maintains")?;
        }
    }
    Ok(())
}

fn windows_are_free(guest: &Guest) -> Outcome {
    for mode in [REPORT, POISON] {
        for kind in KINDS {
            let scene = Scene::new(guest, PAGES, mode | kind)?;
            for (round, access) in [Access::Write, Access::ReadWrite].into_iter().enumerate() {
                let window = scene.window(access)?;
                for number in 0..PAGES {
                    scene.write(number, (number + round) as u8);
                }
                window.end()?;
                let window = scene.window(Access::Read)?;
                for number in 0..PAGES {
                    let seen = scene.read(number);
                    check!(seen == (number + round) as u8, "page {number} shows {seen}");
                }
                window.end()?;
            }
            // Who says WRITE may read as well.
            let window = scene.window(Access::Write)?;
            check!(scene.read(7) == 8, "shows something else");
            window.end()?;
            expect_eq(
                &format!("{mode:?} {kind:?}"),
                scene.outside(guest)?,
                Outside::NONE,
            )?;
        }
    }
    Ok(())
}

fn before_a_window_and_after_it(guest: &Guest) -> Outcome {
    for kind in KINDS {
        let scene = Scene::new(guest, PAGES, REPORT | kind)?;
        let is = |reads, writes, when: &str| {
            expect_eq(
                &format!("{kind:?}: {when}"),
                scene.outside(guest)?,
                Outside::reported(reads, writes),
            )
        };
        let _ = scene.read(0);
        is(1, 0, "a read before START")?;
        scene.write(1, 9);
        is(1, 1, "a write before START")?;
        let window = scene.window(Access::ReadWrite)?;
        check!(scene.read(1) == 9, "a write that was reported is lost");
        scene.write(0, 8);
        scene.write(20, 7);
        is(1, 1, "in the window")?;
        window.end()?;
        check!(scene.read(20) == 7, "shows something else");
        is(2, 1, "a read after END")?;
        scene.write(0, 6);
        is(2, 2, "a write after END")?;
    }
    Ok(())
}

fn each_page_is_reported_once(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let is = |reads, writes| expect_eq("", scene.outside(guest)?, Outside::reported(reads, writes));
    for _ in 0..3 {
        let _ = scene.read(5);
    }
    is(1, 0)?;
    let _ = scene.read(6);
    is(2, 0)?;
    // A page that was read is not mapped to be written.
    scene.write(5, 1);
    is(2, 1)?;
    scene.write(5, 2);
    let _ = scene.read(5);
    is(2, 1)?;
    scene.write(4, 1);
    is(2, 2)?;
    // Another mapping is another page table.
    let other = Map::new(&scene.buffer, page(), RW, libc::MAP_SHARED, 0)?;
    let _ = other.byte(0);
    is(3, 2)
}

fn again_after_start_end_map_and_unmap(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let attachment = importer.attach(&scene.buffer, TestDevice::NonCoherent, 0)?;
    // START and END are another process's. Ours has no window.
    let another = |flags| {
        let child = raw::fork(|| i32::from(sync(&scene.buffer, flags).is_err()))?;
        expect_eq("the child", died(child)?, Died::Exit(0))
    };
    let steps: [(&str, &dyn Fn() -> Outcome); 5] = [
        ("START", &|| another(READ)),
        ("END", &|| another(END | READ)),
        ("END of a region", &|| {
            Ok(sync_bytes(guest, &scene.buffer, END | READ, 9 * page(), 1)?)
        }),
        ("map", &|| {
            attachment.map(Direction::ToDevice)?;
            Ok(())
        }),
        ("unmap", &|| Ok(attachment.unmap()?)),
    ];
    for (round, (what, step)) in (1..).zip(steps) {
        let is = |reads, writes, when: &str| {
            expect_eq(
                &format!("{what}: {when}"),
                scene.outside(guest)?,
                Outside::reported(reads, writes),
            )
        };
        let _ = scene.read(0);
        scene.write(1, 1);
        is(2 * round - 1, 2 * round - 1, "before")?;
        let _ = scene.read(0);
        scene.write(1, 1);
        is(2 * round - 1, 2 * round - 1, "once")?;
        step()?;
        let _ = scene.read(0);
        scene.write(1, 1);
        is(2 * round, 2 * round, "after")?;
        // Nothing is left of it for the next round.
        another(READ)?;
    }
    Ok(())
}

fn write_in_a_read_window(guest: &Guest) -> Outcome {
    for kind in KINDS {
        let scene = Scene::new(guest, PAGES, REPORT | kind)?;
        let is = |writes, when: &str| {
            expect_eq(when, scene.outside(guest)?, Outside::reported(0, writes))
        };
        let window = scene.window(Access::Read)?;
        for number in 0..PAGES {
            let _ = scene.read(number);
        }
        is(0, "reads in a READ window")?;
        scene.write(3, 1);
        is(1, "a write to a page that was read")?;
        scene.write(4, 1);
        is(2, "a write to the one beside")?;
        window.end()?;
        // And to one that was not.
        let window = scene.window(Access::Read)?;
        scene.write(30, 1);
        is(3, "a write first")?;
        // WRITE beside it makes good what was mapped to be read.
        let other = scene.window(Access::Write)?;
        let _ = scene.read(8);
        scene.write(8, 1);
        other.end()?;
        window.end()?;
        is(3, "in a WRITE window beside a READ window")?;
        let window = scene.window(Access::Read)?;
        let _ = scene.read(8);
        let other = scene.window(Access::Write)?;
        scene.write(8, 2);
        is(3, "a page that was mapped to be read before")?;
        other.end()?;
        scene.write(8, 3);
        is(4, "the READ window goes on alone")?;
        window.end()?;
    }
    Ok(())
}

fn untouched_mapping_is_no_access(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for mode in [REPORT, POISON] {
        let mut scene = Scene::new(guest, PAGES, mode)?;
        let attachment = importer.attach(&scene.buffer, TestDevice::NonCoherent, 0)?;
        attachment.map(Direction::Bidirectional)?;
        scene.window(Access::ReadWrite)?.end()?;
        attachment.unmap()?;
        scene.map.move_elsewhere()?;
        let populated = Map::new(
            &scene.buffer,
            page(),
            RW,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            0,
        )?;
        let locked = Map::new(
            &scene.buffer,
            page(),
            RW,
            libc::MAP_SHARED | libc::MAP_LOCKED,
            0,
        )?;
        expect_eq("the child", died(raw::fork(|| 0)?)?, Died::Exit(0))?;
        expect_eq("untouched", scene.outside(guest)?, Outside::NONE)?;
        drop((populated, locked));
        expect_eq("unmapped", scene.outside(guest)?, Outside::NONE)?;
    }
    Ok(())
}

/// There is nothing to write by, but reads are told apart.
fn read_only_descriptor(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let buffer = device.create_with(page() as u64, REPORT, FdFlags::CLOEXEC)?;
    let map = Map::new(&buffer, page(), libc::PROT_READ, libc::MAP_SHARED, 0)?;
    for access in [READ, READ | WRITES, WRITES] {
        sync(&buffer, access)?;
        let _ = map.byte(0);
        check!(device.info(&buffer)?.write_windows == 0, "a write window");
        sync(&buffer, END | access)?;
    }
    expect_eq("in windows", outside(guest, &buffer)?, Outside::NONE)?;
    let _ = map.byte(0);
    expect_eq("outside", outside(guest, &buffer)?, Outside::reported(1, 0))
}

fn fork_gives_no_window(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let window = scene.window(Access::ReadWrite)?;
    scene.write(0, 7);
    let child = raw::fork(|| i32::from(scene.read(0) != 7))?;
    expect_eq("the child", died(child)?, Died::Exit(0))?;
    expect_eq("its read", scene.outside(guest)?, Outside::reported(1, 0))?;
    let child = raw::fork(|| {
        scene.write(0, 8);
        0
    })?;
    expect_eq("the child", died(child)?, Died::Exit(0))?;
    expect_eq("its write", scene.outside(guest)?, Outside::reported(1, 1))?;
    // With a window of its own it may.
    let child = raw::fork(|| {
        let good = sync(&scene.buffer, READ | WRITES).is_ok();
        scene.write(0, scene.read(0) + 1);
        i32::from(!good || sync(&scene.buffer, END | READ | WRITES).is_err())
    })?;
    expect_eq("the child", died(child)?, Died::Exit(0))?;
    check!(scene.read(0) == 9, "the parent does not see what it wrote");
    scene.write(1, 1);
    window.end()?;
    expect_eq(
        "nothing more",
        scene.outside(guest)?,
        Outside::reported(1, 1),
    )?;
    // The window of a child is not the parent's either.
    let child = raw::fork(|| i32::from(sync(&scene.buffer, READ | WRITES).is_err()))?;
    expect_eq("the child", died(child)?, Died::Exit(0))?;
    let _ = scene.read(0);
    expect_eq(
        "the parent's",
        scene.outside(guest)?,
        Outside::reported(2, 1),
    )
}

/// What is undone by advice is done again by fork.
fn keeponfork_gives_no_pages(guest: &Guest) -> Outcome {
    const MADV_KEEPONFORK: i32 = 19;
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let window = scene.window(Access::ReadWrite)?;
    scene.write(0, 7);
    let mut reads = 0;
    for _ in 0..2 {
        scene.map.advise(MADV_KEEPONFORK)?;
        let child = raw::fork(|| {
            if scene.read(0) != 7 || scene.map.advise(MADV_KEEPONFORK).is_err() {
                return 1;
            }
            // A grandchild gets nothing of what the child has mapped.
            match raw::fork(|| i32::from(scene.read(0) != 7)).map(died) {
                Ok(Ok(Died::Exit(status))) => status,
                _ => 2,
            }
        })?;
        expect_eq("the child", died(child)?, Died::Exit(0))?;
        reads += 2;
        expect_eq("", scene.outside(guest)?, Outside::reported(reads, 0))?;
    }
    window.end()?;
    Ok(())
}

fn windows_of_several_processes(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, REPORT)?;
    // A process opens a window, waits for ours to end, and reads on.
    let (wait, go) = rustix::pipe::pipe()?;
    let (told, tell) = rustix::pipe::pipe()?;
    let child = raw::fork(|| {
        let run = || -> Result<(), Errno> {
            sync(&scene.buffer, READ | WRITES)?;
            scene.write(0, 1);
            rustix::io::write(&tell, &[0])?;
            rustix::io::read(&wait, &mut [0_u8][..])?;
            scene.write(0, 2);
            scene.write(1, 2);
            sync(&scene.buffer, END | READ | WRITES)?;
            // Outside now, and told to.
            scene.write(1, 3);
            Ok(())
        };
        i32::from(run().is_err())
    })?;
    rustix::io::read(&told, &mut [0_u8][..])?;
    let window = scene.window(Access::ReadWrite)?;
    scene.write(2, 1);
    window.end()?;
    expect_eq("in both windows", scene.outside(guest)?, Outside::NONE)?;
    rustix::io::write(&go, &[0])?;
    expect_eq("the child", died(child)?, Died::Exit(0))?;
    expect_eq(
        "after its END",
        scene.outside(guest)?,
        Outside::reported(0, 1),
    )?;
    check!(
        scene.read(0) == 2 && scene.read(1) == 3,
        "its bytes are not there"
    );
    Ok(())
}

fn threads_share_windows(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let scene = &scene;
    let window = scene.window(Access::ReadWrite)?;
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                for page in 0..PAGES {
                    scene.map.put(page * crate::guest::page() + number, 1);
                }
            });
        }
    });
    expect_eq("in the window", scene.outside(guest)?, Outside::NONE)?;
    let ended = thread::scope(|scope| {
        scope
            .spawn(|| sync(&scene.buffer, END | READ | WRITES))
            .join()
    });
    ended.expect("END panicked")?;
    let _ = scene.read(0);
    expect_eq(
        "ended by a thread",
        scene.outside(guest)?,
        Outside::reported(1, 0),
    )?;
    // An END too many.
    drop(window);
    Ok(())
}

fn nested_windows(guest: &Guest) -> Outcome {
    for kind in KINDS {
        let scene = Scene::new(guest, PAGES, REPORT | kind)?;
        let is = |reads, writes, when: &str| {
            expect_eq(
                when,
                scene.outside(guest)?,
                Outside::reported(reads, writes),
            )
        };
        let outer = scene.window(Access::ReadWrite)?;
        let inner = scene.window(Access::Write)?;
        scene.write(0, 1);
        inner.end()?;
        scene.write(0, 2);
        let inner = scene.window(Access::Read)?;
        scene.write(1, 1);
        inner.end()?;
        scene.write(1, 2);
        is(0, 0, "in the outer window")?;
        outer.end()?;
        scene.write(1, 3);
        is(0, 1, "after the outer window")?;
    }
    Ok(())
}

fn regions_by_page(guest: &Guest) -> Outcome {
    let page = page();
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let is = |reads, writes, when: &str| {
        expect_eq(
            when,
            scene.outside(guest)?,
            Outside::reported(reads, writes),
        )
    };
    // From the middle of page 3 to that of page 5.
    let (at, len) = (3 * page + page / 2, 2 * page);
    sync_bytes(guest, &scene.buffer, READ | WRITES, at, len)?;
    for number in [3, 4, 5] {
        scene.write(number, 1);
        let _ = scene.map.byte(number * page + page - 1);
    }
    is(0, 0, "pages of the region")?;
    let _ = scene.read(2);
    is(1, 0, "the page before")?;
    scene.write(6, 1);
    is(1, 1, "the page behind")?;
    // Of a READ region.
    sync_bytes(guest, &scene.buffer, READ, 10 * page, page)?;
    let _ = scene.read(10);
    let _ = scene.read(11);
    is(2, 1, "behind a READ region")?;
    scene.write(10, 1);
    is(2, 2, "a write to it")?;
    scene.write(4, 2);
    sync_bytes(guest, &scene.buffer, END | READ | WRITES, at, len)?;
    is(2, 2, "up to END")?;
    for (writes, number) in (3..).zip([3, 4, 5]) {
        scene.write(number, 3);
        is(2, writes, "after END")?;
    }
    let _ = scene.read(10);
    is(2, 5, "the other window is open")?;
    sync_bytes(guest, &scene.buffer, END | READ, 10 * page, page)?;
    let _ = scene.read(10);
    is(3, 5, "and is not any more")
}

/// All that it touches, and no more: nothing was reported that would take the rest away.
fn end_of_a_region_takes_its_pages(guest: &Guest) -> Outcome {
    let page = page();
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let (at, len) = (3 * page + page / 2, 2 * page);
    let all = scene.window(Access::ReadWrite)?;
    sync_bytes(guest, &scene.buffer, WRITES, at, len)?;
    for number in 0..PAGES {
        scene.write(number, 1);
    }
    sync_bytes(guest, &scene.buffer, END | WRITES, at, len)?;
    for number in 0..PAGES {
        scene.write(number, 2);
    }
    expect_eq("the window over all", scene.outside(guest)?, Outside::NONE)?;
    all.end()?;
    sync_bytes(guest, &scene.buffer, WRITES, at, len)?;
    for number in [3, 4, 5] {
        scene.write(number, 3);
    }
    sync_bytes(guest, &scene.buffer, END | WRITES, at, len)?;
    for (writes, number) in (1..).zip([3, 4, 5]) {
        scene.write(number, 4);
        expect_eq("", scene.outside(guest)?, Outside::reported(0, writes))?;
    }
    Ok(())
}

fn overlapping_regions(guest: &Guest) -> Outcome {
    let page = page();
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let is = |reads, writes, when: &str| {
        expect_eq(
            when,
            scene.outside(guest)?,
            Outside::reported(reads, writes),
        )
    };
    let start = |flags, first: usize, count: usize| {
        sync_bytes(guest, &scene.buffer, flags, first * page, count * page)
    };
    start(READ | WRITES, 0, 10)?;
    start(READ, 5, 10)?;
    for number in 0..10 {
        scene.write(number, 1);
    }
    for number in 0..15 {
        let _ = scene.read(number);
    }
    is(0, 0, "both regions")?;
    scene.write(12, 1);
    is(0, 1, "a write where READ is alone")?;
    start(END | READ | WRITES, 0, 10)?;
    for number in 5..15 {
        let _ = scene.read(number);
    }
    is(0, 1, "the READ region goes on")?;
    scene.write(7, 1);
    is(0, 2, "which WRITE is not any more")?;
    let _ = scene.read(4);
    is(1, 2, "and where none is")?;
    start(END | READ, 5, 10)?;
    // A window within one over all.
    let window = scene.window(Access::Read)?;
    start(READ | WRITES, 20, 1)?;
    scene.write(20, 1);
    is(1, 2, "a WRITE region in a READ window")?;
    scene.write(21, 1);
    is(1, 3, "beside it")?;
    start(END | READ | WRITES, 20, 1)?;
    let _ = scene.read(20);
    is(1, 3, "READ goes on")?;
    window.end()?;
    Ok(())
}

/// Rows of a page each, with a page between them.
fn rows_by_page(guest: &Guest) -> Outcome {
    let bytes = page() as u64;
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let region = Region::Rows {
        offset: 0,
        length: bytes,
        stride: 2 * bytes,
        rows: 5,
    };
    sync_region(guest, &scene.buffer, READ | WRITES, region)?;
    for number in [0, 2, 4, 6, 8] {
        scene.write(number, 1);
    }
    expect_eq("the rows", scene.outside(guest)?, Outside::NONE)?;
    for (reads, number) in (1..).zip([1, 3, 5, 7, 9]) {
        let _ = scene.read(number);
        expect_eq(
            "between",
            scene.outside(guest)?,
            Outside::reported(reads, 0),
        )?;
    }
    sync_region(guest, &scene.buffer, END | READ | WRITES, region)?;
    scene.write(4, 2);
    expect_eq("after END", scene.outside(guest)?, Outside::reported(5, 1))
}

fn moved_and_cut_mappings(guest: &Guest) -> Outcome {
    let page = page();
    let mut scene = Scene::new(guest, PAGES, REPORT)?;
    let window = scene.buffer.cpu_access(Access::ReadWrite)?;
    scene.write(20, 1);
    scene.map.move_elsewhere()?;
    scene.write(20, 2);
    check!(scene.read(20) == 2, "shows something else");
    expect_eq("moved in a window", scene.outside(guest)?, Outside::NONE)?;
    // What is left of a mapping begins at another address, and in the middle of a block.
    scene.map.cut(0, 19 * page)?;
    scene.map.cut(30 * page, 10 * page)?;
    scene.write(29, 3);
    scene.write(19, 4);
    expect_eq("cut in a window", scene.outside(guest)?, Outside::NONE)?;
    window.end()?;
    let _ = scene.read(29);
    expect_eq("after END", scene.outside(guest)?, Outside::reported(1, 0))?;
    // A mapping of a part, which begins elsewhere in the buffer.
    let part = Map::new(
        &scene.buffer,
        3 * page,
        RW,
        libc::MAP_SHARED,
        7 * page as i64,
    )?;
    part.put(page, 5);
    expect_eq("a part", scene.outside(guest)?, Outside::reported(1, 1))?;
    let window = scene.buffer.cpu_access(Access::Read)?;
    let whole = Map::new(&scene.buffer, PAGES * page, RW, libc::MAP_SHARED, 0)?;
    for (number, must) in [(20, 2), (29, 3), (19, 4), (8, 5), (0, 0)] {
        let seen = whole.byte(number * page);
        check!(seen == must, "page {number} shows {seen}");
    }
    window.end()?;
    expect_eq("all", scene.outside(guest)?, Outside::reported(1, 1))
}

fn mprotect_gives_no_access(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let is = |reads, writes, when: &str| {
        expect_eq(
            when,
            scene.outside(guest)?,
            Outside::reported(reads, writes),
        )
    };
    // What is mapped to be read stays so.
    let window = scene.buffer.cpu_access(Access::Read)?;
    let _ = scene.read(0);
    scene.map.protect(libc::PROT_READ)?;
    let _ = scene.read(1);
    scene.map.protect(libc::PROT_NONE)?;
    scene.map.protect(RW)?;
    is(0, 0, "in a READ window")?;
    scene.write(0, 1);
    scene.write(1, 1);
    is(0, 2, "written in a READ window")?;
    window.end()?;
    // What was dirty and could not be written any more comes back where it may be.
    let window = scene.buffer.cpu_access(Access::ReadWrite)?;
    scene.write(0, 2);
    scene.map.protect(libc::PROT_READ)?;
    scene.map.protect(RW)?;
    scene.write(0, 3);
    scene.map.protect(libc::PROT_READ)?;
    is(0, 2, "in a window")?;
    window.end()?;
    scene.map.protect(RW)?;
    scene.write(0, 4);
    is(0, 3, "after END")?;
    check!(scene.read(0) == 4, "shows something else");
    Ok(())
}

/// No advice maps a page, keeps one, or takes its protection away.
fn advice_gives_no_access(guest: &Guest) -> Outcome {
    const ADVICE: [(&str, i32); 14] = [
        ("NORMAL", 0),
        ("RANDOM", 1),
        ("SEQUENTIAL", 2),
        ("WILLNEED", 3),
        ("DONTNEED", 4),
        ("FREE", 8),
        ("REMOVE", 9),
        ("HUGEPAGE", 14),
        ("WIPEONFORK", 18),
        ("COLD", 20),
        ("PAGEOUT", 21),
        ("POPULATE_READ", 22),
        ("POPULATE_WRITE", 23),
        ("COLLAPSE", 25),
    ];
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let mut writes = 0;
    for (name, advice) in ADVICE {
        // Whatever the kernel makes of it.
        let _ = scene.map.advise(advice);
        expect_eq(name, scene.outside(guest)?, Outside::reported(0, writes))?;
        let window = scene.window(Access::Read)?;
        let _ = scene.read(0);
        let _ = scene.map.advise(advice);
        scene.write(0, 1);
        writes += 1;
        window.end()?;
        expect_eq(
            &format!("{name}, a write in a READ window"),
            scene.outside(guest)?,
            Outside::reported(0, writes),
        )?;
    }
    // Nobody gets at the pages but by a fault.
    let mut byte = [0];
    let memory = File::open("/proc/self/mem")?;
    let seen = memory.read_at(&mut byte, scene.map.address() as u64);
    check!(seen.is_err(), "/proc/self/mem shows it: {seen:?}");
    expect_eq("", scene.outside(guest)?, Outside::reported(0, writes))
}

fn system_calls(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let (from, to) = rustix::pipe::pipe()?;
    let is = |reads, writes, when: &str| {
        expect_eq(
            when,
            scene.outside(guest)?,
            Outside::reported(reads, writes),
        )
    };
    let window = scene.window(Access::ReadWrite)?;
    scene.map.write(0, b"pipe");
    expect_eq("sent", scene.map.send(0, 4, &to)?, 4)?;
    expect_eq("got", scene.map.receive(5 * page(), 4, &from)?, 4)?;
    is(0, 0, "in a window")?;
    window.end()?;
    expect_eq("sent", scene.map.send(5 * page(), 4, &to)?, 4)?;
    is(1, 0, "write(2) from it")?;
    expect_eq("got", scene.map.receive(6 * page(), 4, &from)?, 4)?;
    is(1, 1, "read(2) into it")?;
    let window = scene.window(Access::Read)?;
    check!(
        scene.map.byte(6 * page() + 3) == b'e',
        "shows something else"
    );
    window.end()?;
    is(1, 1, "")
}

fn killed_in_a_window(guest: &Guest) -> Outcome {
    for kind in KINDS {
        let scene = Scene::new(guest, PAGES, REPORT | kind)?;
        let (told, tell) = rustix::pipe::pipe()?;
        let child = raw::fork(|| {
            let opened = sync(&scene.buffer, READ | WRITES).is_ok();
            scene.write(0, 1);
            let _ = rustix::io::write(&tell, &[u8::from(opened)]);
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        })?;
        let mut opened = [0];
        rustix::io::read(&told, &mut opened)?;
        check!(opened == [1], "the child has no window");
        child.signal(libc::SIGKILL)?;
        child.wait()?;
        expect_eq("in its window", scene.outside(guest)?, Outside::NONE)?;
        check!(
            guest.device()?.info(&scene.buffer)?.write_windows == 0,
            "the window outlives its process"
        );
        let _ = scene.read(0);
        expect_eq("not its", scene.outside(guest)?, Outside::reported(1, 0))?;
        let window = scene.window(Access::ReadWrite)?;
        check!(scene.read(0) == 1, "what it wrote is lost");
        window.end()?;
    }
    Ok(())
}

/// Its address space may be somebody else's now.
fn window_in_a_window_of_a_dead_process(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, 1, REPORT)?;
    for round in 1..=50_u64 {
        let child = raw::fork(|| i32::from(sync(&scene.buffer, READ | WRITES).is_err()))?;
        expect_eq("a child", died(child)?, Died::Exit(0))?;
        let child = raw::fork(|| {
            scene.write(0, 1);
            0
        })?;
        expect_eq("a child", died(child)?, Died::Exit(0))?;
        expect_eq(
            "each has none",
            scene.outside(guest)?,
            Outside::reported(0, round),
        )?;
    }
    Ok(())
}

/// The cache mode and the protection of pages that come by fault.
fn cache_modes(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for kind in KINDS {
        let combined = kind == CreateFlags::WRITE_COMBINE;
        let user = if combined {
            MemoryType::WriteCombining
        } else {
            MemoryType::WriteBack
        };
        let linear = if combined && !has_noncoherent() {
            MemoryType::WriteCombining
        } else {
            MemoryType::WriteBack
        };
        let buffer = guest.buffer(300 * page(), REPORT | kind)?;
        for protection in [Protection::Read, Protection::ReadWrite] {
            let mapping = buffer.map_range(0, buffer.size(), protection)?;
            for access in [Access::Read, Access::ReadWrite] {
                let window = buffer.cpu_access(access)?;
                check!(mapping.to_vec()? == vec![0; mapping.len()], "not zero");
                for at in (0..mapping.len()).step_by(page()) {
                    let is = importer.model().attrs(mapping.as_ptr().wrapping_add(at))?;
                    check!(
                        is == Attrs { user, linear },
                        "{kind:?} {protection:?} {access:?}, byte {at}: {is:?}"
                    );
                }
                window.end()?;
            }
        }
        expect_eq("in windows", outside(guest, &buffer)?, Outside::NONE)?;
    }
    Ok(())
}

/// The bytes are those of any buffer.
fn devices_see_what_they_should(guest: &Guest) -> Outcome {
    const MODELS: [TestDevice; 5] = [
        TestDevice::CacheModel,
        TestDevice::BounceModel,
        TestDevice::DirectModel,
        TestDevice::SnoopModel,
        TestDevice::BouncedModel,
    ];
    let importer = guest.importer()?;
    for mode in [REPORT, POISON] {
        for model in MODELS {
            importer.model().reset()?;
            let scene = Scene::new(guest, PAGES, mode)?;
            let window = scene.window(Access::ReadWrite)?;
            for number in 0..PAGES {
                scene.write(number, 0xa5);
            }
            let start = core::ptr::with_exposed_provenance_mut(scene.map.address());
            importer.model().track(start, PAGES * page())?;
            window.end()?;
            let _reset = crate::guest::ModelReset(&importer);
            let device = importer.attach(&scene.buffer, model, 0)?;
            device.map(Direction::Bidirectional)?;
            for round in 0..3_u8 {
                for at in [0, 17, PAGES - 1] {
                    let at_byte = (at * page()) as u64;
                    device.device_writes(at_byte, &[10 + round])?;
                    let window = scene.window(Access::ReadWrite)?;
                    let seen = scene.read(at);
                    check!(seen == 10 + round, "{model:?}: the CPU sees {seen}");
                    scene.write(at, 20 + round);
                    window.end()?;
                    importer.model().evict()?;
                    let mut seen = [0];
                    device.device_reads(at_byte, &mut seen)?;
                    check!(seen == [20 + round], "{model:?}: the device sees {seen:?}");
                }
            }
            device.unmap()?;
            expect_eq("", scene.outside(guest)?, Outside::NONE)?;
        }
    }
    Ok(())
}

/// With `COHBUF_TRACK_DIRTY`: to take pages away must not lose which of them were written.
fn pages_that_were_written_are_not_forgotten(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in [
        TestDevice::BounceModel,
        TestDevice::CacheModel,
        TestDevice::DirectModel,
        TestDevice::NonCoherent,
    ] {
        importer.model().reset()?;
        let scene = Scene::new(guest, PAGES, REPORT | CreateFlags::TRACK_DIRTY)?;
        let window = scene.window(Access::ReadWrite)?;
        scene.write(0, 1);
        let start = core::ptr::with_exposed_provenance_mut(scene.map.address());
        importer.model().track(start, PAGES * page())?;
        window.end()?;
        let _reset = crate::guest::ModelReset(&importer);
        let device = importer.attach(&scene.buffer, model, 0)?;
        device.map(Direction::Bidirectional)?;
        for round in 0..3_u8 {
            let window = scene.window(Access::ReadWrite)?;
            scene.write(3, 10 + round);
            // Others take the page away, each in its way.
            let child = raw::fork(|| {
                let take = || -> Result<(), Errno> {
                    match round {
                        0 => {
                            let _ = scene.read(20);
                            sync(&scene.buffer, READ)?;
                        }
                        1 => sync(&scene.buffer, END | READ)?,
                        _ => {
                            let _ = scene.read(3);
                            sync(&scene.buffer, READ | WRITES)?;
                        }
                    }
                    Ok(())
                };
                i32::from(take().is_err())
            })?;
            expect_eq("the child", died(child)?, Died::Exit(0))?;
            scene.write(17, 20 + round);
            window.end()?;
            importer.model().evict()?;
            if model == TestDevice::NonCoherent {
                continue;
            }
            for (at, must) in [(3, 10 + round), (17, 20 + round)] {
                let mut seen = [0];
                device.device_reads((at * page()) as u64, &mut seen)?;
                check!(
                    seen == [must],
                    "{model:?}, round {round}: page {at} is {seen:?}, must be {must}"
                );
            }
        }
        device.unmap()?;
    }
    Ok(())
}

/// A fault that maps several pages does not write them all.
fn tracking_goes_by_pages_that_were_written(guest: &Guest) -> Outcome {
    if guest.maintains(1) == 0 {
        return crate::harness::skip("every device snoops, nothing is maintained");
    }
    let importer = guest.importer()?;
    let scene = Scene::new(guest, PAGES, REPORT | CreateFlags::TRACK_DIRTY)?;
    let device = importer.attach(&scene.buffer, TestDevice::NonCoherent, 0)?;
    device.map(Direction::Bidirectional)?;
    scene.window(Access::ReadWrite)?.end()?;
    let info = || -> Result<_, Stop> { Ok(guest.device()?.info(&scene.buffer)?) };
    if !info()?.state.contains(State::TRACKS_PAGES) {
        return crate::harness::skip("this kernel cannot tell which pages were written");
    }
    let maintained = || -> Result<u64, Stop> {
        let info = info()?;
        Ok(info.bytes_cleaned + info.bytes_to_copies)
    };
    for written in [&[5][..], &[], &[0, 1, 39], &[7]] {
        let window = scene.window(Access::ReadWrite)?;
        let before = maintained()?;
        for number in 0..PAGES {
            let _ = scene.read(number);
        }
        for &number in written {
            scene.write(number, 1);
        }
        window.end()?;
        expect_eq(
            &format!("bytes of {written:?}"),
            maintained()? - before,
            (written.len() * page()) as u64,
        )?;
    }
    device.unmap()?;
    expect_eq("in windows", scene.outside(guest)?, Outside::NONE)
}

/// Two processes with two threads each, and two threads here: windows of an address space
/// overlap all the time.
fn parallel_writers(guest: &Guest) -> Outcome {
    const SLOTS: usize = 6;
    const TIME: Duration = Duration::from_millis(1000);
    for mode in [REPORT, POISON] {
        let device = guest.device()?;
        let buffer = device.create_with(Slot::room(SLOTS) as u64, mode, FdFlags::RDWR)?;
        let children: Vec<_> = [0..2, 2..4]
            .into_iter()
            .map(|slots| child::start_slots(&buffer, slots, TIME))
            .collect::<Result<_, _>>()?;
        let mut written = slots::write_by_threads(&buffer, 4..SLOTS, TIME)?;
        for child in children {
            written.extend(child::end_slots(child)?);
        }
        check!(written.len() == SLOTS, "not all wrote: {written:?}");
        let mapping = buffer.map()?;
        let window = buffer.cpu_access(Access::Read)?;
        for of in &written {
            check!(
                of.lost == 0 && of.slot.is_intact(&mapping)?,
                "lost bytes: {of:?}"
            );
        }
        window.end()?;
        expect_eq("all in windows", outside(guest, &buffer)?, Outside::NONE)?;
    }
    Ok(())
}

/// Each keeps to its windows; those of the others come and go.
fn parallel_processes_with_their_own_windows(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, POISON)?;
    let mut children = Vec::new();
    for seed in 1..=4_u64 {
        children.push(raw::fork(|| {
            let mut random = seed * 0x9e37_79b9_7f4a_7c15;
            let began = Instant::now();
            let mut rounds = 0;
            while began.elapsed() < Duration::from_millis(1500) || rounds < 20 {
                rounds += 1;
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let access = [READ, WRITES, READ | WRITES][(random % 3) as usize];
                if sync(&scene.buffer, access).is_err() {
                    return 1;
                }
                for step in 0..random % 8 {
                    let number = (random >> (8 + step)) as usize % PAGES;
                    if access == READ {
                        let _ = scene.read(number);
                    } else {
                        scene.write(number, seed as u8);
                    }
                }
                if sync(&scene.buffer, END | access).is_err() {
                    return 2;
                }
            }
            0
        })?);
    }
    for child in children {
        expect_eq("a child", died(child)?, Died::Exit(0))?;
    }
    expect_eq("all in windows", scene.outside(guest)?, Outside::NONE)
}

/// Faults beside what takes pages away: START, END, map, unmap, fork, mremap and munmap. Who keeps
/// no rules is reported, and nothing worse.
fn faults_while_windows_change(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, PAGES, REPORT)?;
    let until = Instant::now() + Duration::from_millis(2000);
    let mut children = Vec::new();
    for seed in 0..2_usize {
        children.push(raw::fork(|| {
            let mut number = seed;
            while Instant::now() < until {
                number = (number * 13 + 7) % PAGES;
                if number % 3 == 0 {
                    scene.write(number, 1);
                } else {
                    let _ = scene.read(number);
                }
            }
            0
        })?);
    }
    children.push(raw::fork(|| {
        while Instant::now() < until {
            let Ok(map) = Map::new(&scene.buffer, page(), RW, libc::MAP_SHARED, 0) else {
                return 1;
            };
            let _ = map.byte(0);
            let child = raw::fork(|| i32::from(map.byte(0) == 255));
            match child.map(died) {
                Ok(Ok(Died::Exit(0))) => {}
                _ => return 2,
            }
        }
        0
    })?);
    let attachment = importer.attach(&scene.buffer, TestDevice::NonCoherent, 0)?;
    let mut rounds = 0;
    while Instant::now() < until || rounds < 20 {
        rounds += 1;
        let window = scene.window(Access::ReadWrite)?;
        scene.write(rounds % PAGES, 2);
        window.end()?;
        attachment.map(Direction::ToDevice)?;
        attachment.unmap()?;
    }
    for child in children {
        expect_eq("a child", died(child)?, Died::Exit(0))?;
    }
    let is = scene.outside(guest)?;
    check!(is.reads > 0 && is.writes > 0 && !is.poisoned, "{is:?}");
    check!(
        guest.device()?.info(&scene.buffer)?.write_windows == 0,
        "a window is left"
    );
    expect_eq("pages", scene.pages(), PAGES)
}

/// The first write to a page that is mapped to be read, while others keep the reservation lock: a
/// child that moves the copy of a device in windows of its own, and a thread that asks what there is.
fn write_after_read_while_the_lock_is_held(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let pages = 512;
    let scene = Scene::new(guest, pages, REPORT)?;
    let attachment = importer.attach(&scene.buffer, TestDevice::BounceModel, 0)?;
    attachment.map(Direction::Bidirectional)?;
    let device = guest.device()?;
    let window = scene.window(Access::Read)?;
    let child = raw::fork(|| {
        loop {
            if sync(&scene.buffer, READ).is_err() || sync(&scene.buffer, END | READ).is_err() {
                return 1;
            }
        }
    })?;
    let stop = AtomicBool::new(false);
    let mut written = 0;
    let outcome = thread::scope(|scope| -> Outcome {
        let asker = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                device.info(&scene.buffer)?;
            }
            Ok::<_, Stop>(())
        });
        let until = Instant::now() + Duration::from_millis(2000);
        'rounds: for round in 1..=u8::MAX {
            for block in (0..pages).step_by(16) {
                // Maps those around it, too.
                let _ = scene.read(block);
                for number in block..block + 16 {
                    scene.write(number, round);
                    written += 1;
                }
                if Instant::now() >= until {
                    break 'rounds;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        asker.join().expect("who asks panicked")
    });
    stop.store(true, Ordering::Relaxed);
    let alive = child.poll()?.is_none();
    child.signal(libc::SIGKILL)?;
    if alive {
        child.wait()?;
    }
    outcome?;
    check!(alive, "the child could not open a window");
    let seen = scene.outside(guest)?;
    // All of them in the first round; what a START has taken away since is reported again.
    check!(
        seen.reads == 0 && seen.writes >= written.min(pages) as u64,
        "{written} writes: {seen:?}"
    );
    window.end()?;
    attachment.unmap()?;
    Ok(())
}
