// SPDX-License-Identifier: GPL-2.0

//! R9: sync of a region. Just the cache lines that it touches are maintained, and nothing else is
//! lost by that.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cohbuf::{Access, CreateFlags, FdFlags, Region, SyncCost, uapi};
use cohbuf_testdev::{Attachment, Direction, TestDevice};
use rustix::io::Errno;

use crate::cases::sync::sync;
use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, fail, fails_with};
use crate::raw;
use crate::scene::{
    END_WRITE, LINE, MODELS, START_WRITE, Scene, Upkeep, bytes_of, cost, difference, lines, mixed,
    pattern, request, rows, spent, sync_bytes, sync_raw, upkeep,
};

crate::guest_suite!("regions":
    ten_by_ten_pixels,
    data_of_a_region_and_of_nothing_else,
    by_direction_of_the_mapping,
    write_only_window_keeps_device_data,
    end_of_a_read_does_nothing,
    end_without_a_window_pushes_no_copy,
    start_beside_a_window,
    end_of_another_region_beside_a_window,
    unmap_beside_a_window,
    map_beside_a_window,
    nested_windows,
    end_closes_what_lies_in_it,
    whole_sync_of_another_process,
    exit_ends_the_windows,
    two_devices_that_write,
    threads_on_their_own_regions,
    most_windows,
    most_rows,
    bad_regions,
    argument_that_cannot_be_written,
    bad_files,
    read_only_descriptor,
    other_buffers_cost_nothing,
);

const NONE: CreateFlags = CreateFlags::empty();
const BOTH: u64 = uapi::SYNC_READ | uapi::SYNC_WRITE;

const fn linear(offset: usize, length: usize) -> Region {
    Region::Linear {
        offset: offset as u64,
        length: length as u64,
    }
}

const fn grid(offset: usize, length: usize, stride: usize, rows: usize) -> Region {
    Region::Rows {
        offset: offset as u64,
        length: length as u64,
        stride: stride as u64,
        rows: rows as u64,
    }
}

// The use case of the mail of 2015: an update of 10x10 pixels in a buffer of 1600x1200.
fn ten_by_ten_pixels(guest: &Guest) -> Outcome {
    const STRIDE: u64 = 1600 * 4;
    const SIZE: usize = STRIDE as usize * 1200;
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        check!(scene.size() == SIZE, "{} bytes", scene.size());
        // In one line each; in two each, from the middle of one; at the end of the buffer.
        for (at, each) in [((16, 100), 1), ((76, 100), 2), ((1590, 1190), 1)] {
            let Some(region) = Region::rectangle(at, (10, 10), 4, STRIDE) else {
                return fail("no such region");
            };
            let bytes = 10 * each * LINE;
            let what = format!("{model:?} at {at:?}");
            let (start, end) = scene.bracket(&what, Access::ReadWrite, region)?;
            let must = (
                cost(guest, model, SIZE, bytes, 0),
                cost(guest, model, SIZE, 0, bytes),
            );
            check!((start, end) == must, "{what}: {start:?}, {end:?}");
        }
        // Against all of it.
        let must = (
            cost(guest, model, SIZE, SIZE, 0),
            cost(guest, model, SIZE, 0, SIZE),
        );
        let whole = scene.bracket("whole", Access::ReadWrite, Region::Whole)?;
        check!(whole == must, "{model:?}: whole: {whole:?}");
        let all = scene.bracket("1-D", Access::ReadWrite, linear(0, SIZE))?;
        check!(all == must, "{model:?}: all, 1-D: {all:?}");
        let before = spent(&scene.info()?);
        sync(&scene.buffer, BOTH)?;
        sync(&scene.buffer, uapi::SYNC_END | BOTH)?;
        let after = spent(&scene.info()?);
        check!(
            after.maintained() - before.maintained() == must.0.maintained() + must.1.maintained(),
            "{model:?}: DMA_BUF_IOCTL_SYNC: {before:?}, {after:?}"
        );
    }
    Ok(())
}

const SIZE: usize = 20 * 4096;

/// Of all shapes. The chunks of a buffer of that size are not contiguous.
const REGIONS: [Region; 14] = [
    linear(0, 1),
    linear(LINE, LINE),
    linear(3 * LINE - 1, 2),
    linear(1000, 5000),
    // From the last chunk but one into the last.
    linear(16 * 4096 - 1, 2),
    linear(SIZE - 1, 1),
    linear(0, SIZE),
    // A row in a line each, and in two each.
    grid(128, 40, 1600, 10),
    grid(150, 40, 1600, 10),
    // Rows that share lines: next to each other, overlapping in lines, in one line.
    grid(64, 64, 128, 5),
    grid(70, 60, 96, 20),
    grid(4100, 4, 8, 100),
    // Rows without a gap.
    grid(777, 100, 100, 30),
    // Across pages, up to the end.
    grid(SIZE - 3 * 8192 - 4000, 4000, 8192, 4),
];

// Both ways, in each shape, and the control: what lies outside of its lines is as stale as it was,
// where something is stale at all. That shows that it was not maintained, byte by byte.
fn data_of_a_region_and_of_nothing_else(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        for (number, region) in REGIONS.into_iter().enumerate() {
            let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
            let what = format!("{model:?}, {region:?}");
            let its = lines(region, SIZE);
            let bytes = bytes_of(&its);
            let stale = upkeep(guest, model) != Upkeep::None;

            let by_device = pattern(SIZE, number);
            scene.devices[0].device_writes(0, &by_device)?;
            let start = scene.measured(&what, |scene| {
                Ok(scene.sync(uapi::SYNC_START | BOTH, region)?)
            })?;
            check!(
                start == cost(guest, model, SIZE, bytes, 0),
                "{what}: START: {start:?}"
            );
            let old = if stale {
                vec![0; SIZE]
            } else {
                by_device.clone()
            };
            let wrong = difference(&scene.cpu()?, &mixed(&its, &by_device, &old));
            check!(wrong.is_none(), "{what}: the CPU sees other at {wrong:?}");

            // Against the rules, everywhere.
            let by_cpu = pattern(SIZE, number + 1);
            scene.mapping.write(0, &by_cpu)?;
            let end =
                scene.measured(
                    &what,
                    |scene| Ok(scene.sync(uapi::SYNC_END | BOTH, region)?),
                )?;
            check!(
                end == cost(guest, model, SIZE, 0, bytes),
                "{what}: END: {end:?}"
            );
            let old = if stale { &by_device } else { &by_cpu };
            let wrong = difference(&scene.device(0)?, &mixed(&its, &by_cpu, old));
            check!(
                wrong.is_none(),
                "{what}: the device sees other at {wrong:?}"
            );
            scene.expect_windows(&what, 0)?;
        }
    }
    Ok(())
}

// A device that only reads has left nothing to fetch; one that only writes is cleaned for.
fn by_direction_of_the_mapping(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let region = grid(150, 40, 1600, 10);
    let bytes = bytes_of(&lines(region, SIZE));
    for model in MODELS {
        for direction in [Direction::ToDevice, Direction::FromDevice] {
            let mut scene = Scene::new(guest, &importer, SIZE, NONE)?;
            scene.attach(model, 0, direction)?;
            let what = format!("{model:?}, {direction:?}");
            let fetched = usize::from(direction == Direction::FromDevice) * bytes;
            let is = scene.bracket(&what, Access::ReadWrite, region)?;
            let must = (
                cost(guest, model, SIZE, fetched, 0),
                cost(guest, model, SIZE, 0, bytes),
            );
            check!(is == must, "{what}: {is:?}, must be {must:?}");
        }
    }
    Ok(())
}

// What the CPU leaves alone in a line of its region is the device's.
fn write_only_window_keeps_device_data(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        let mut must = pattern(SIZE, 3);
        scene.devices[0].device_writes(0, &must)?;
        let window = scene.start(Access::Write, grid(130, 1, 100, 20))?;
        for row in rows(grid(130, 1, 100, 20), SIZE) {
            must[row.start] = 200;
            scene.mapping.write(row.start, &[200])?;
        }
        importer.model().evict()?;
        window.end()?;
        let wrong = difference(&scene.device(0)?, &must);
        check!(
            wrong.is_none(),
            "{model:?}: the device sees other at {wrong:?}"
        );
    }
    Ok(())
}

fn end_of_a_read_does_nothing(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        let bytes = 3 * LINE;
        let (start, end) = scene.bracket("READ", Access::Read, linear(100, 100))?;
        check!(
            start == cost(guest, model, SIZE, bytes, 0),
            "{model:?}: START: {start:?}"
        );
        check!(
            end == cost(guest, model, SIZE, 0, 0),
            "{model:?}: END: {end:?}"
        );
        scene.expect_windows("READ", 0)?;
    }
    Ok(())
}

// Nobody has written within the rules: a copy may be newer than the buffer.
fn end_without_a_window_pushes_no_copy(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        // Elsewhere a window is open.
        let window = scene.start(Access::Write, linear(8192, LINE))?;
        scene.devices[0].device_writes(0, b"newer")?;
        scene.sync(END_WRITE, linear(0, 4096))?;
        check!(
            scene.device_at(0, 0)? == *b"newer",
            "{model:?}: END went over what the device had written"
        );
        scene.expect_windows("the other one", 1)?;
        window.end()?;
        let window = scene.start(Access::Read, linear(0, 5))?;
        check!(scene.cpu_at(0)? == *b"newer", "{model:?}: it is lost");
        window.end()?;
    }
    Ok(())
}

// A is written, and a START of B, which it lies in, fetches all but that.
fn start_beside_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    // From the middle of a line to the middle of another.
    let a = linear(1000, 500);
    for model in MODELS {
        for b in [
            linear(0, 4096),
            linear(900, 200),
            linear(1100, 100),
            grid(800, 100, 200, 30),
            Region::Whole,
        ] {
            for access in [Access::Read, Access::Write, Access::ReadWrite] {
                let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
                let what = format!("{model:?}, {b:?}, {access:?}");
                let by_device = pattern(SIZE, 1);
                scene.devices[0].device_writes(0, &by_device)?;
                let window = scene.start(Access::Write, a)?;
                let mut must = by_device.clone();
                must[1000..1500].fill(222);
                scene.mapping.write(1000, &[222; 500])?;

                let (of_a, of_b) = (lines(a, SIZE), lines(b, SIZE));
                let fetched: Vec<bool> = of_a.iter().zip(&of_b).map(|(a, b)| *b && !*a).collect();
                let known: Vec<bool> = of_a.iter().zip(&of_b).map(|(a, b)| *b || *a).collect();
                let old = match upkeep(guest, model) {
                    Upkeep::None => by_device.clone(),
                    _ => vec![0; SIZE],
                };
                let start = scene.measured(&what, |scene| {
                    let other = scene.start(access, b)?;
                    let cost = other.begin_cost();
                    // Ended below.
                    std::mem::forget(other);
                    Ok(cost)
                })?;
                check!(
                    start == cost(guest, model, SIZE, bytes_of(&fetched), 0),
                    "{what}: START: {start:?}"
                );
                let wrong = difference(&scene.cpu()?, &mixed(&known, &must, &old));
                check!(wrong.is_none(), "{what}: the CPU sees other at {wrong:?}");

                let flags = match access {
                    Access::Read => uapi::SYNC_READ,
                    Access::Write => uapi::SYNC_WRITE,
                    Access::ReadWrite => BOTH,
                };
                scene.sync(uapi::SYNC_END | flags, b)?;
                scene.expect_windows(&what, 1)?;
                check!(
                    scene.cpu_at(1000)? == [222; 500],
                    "{what}: END of the other took a byte"
                );
                scene.mapping.write(1100, &[223; 10])?;
                must[1100..1110].fill(223);
                window.end()?;
                let wrong = difference(&scene.device(0)?, &must);
                check!(
                    wrong.is_none(),
                    "{what}: the device sees other at {wrong:?}"
                );
            }
        }
    }
    Ok(())
}

// END of B brings nothing of A's to a copy but what B has, and leaves A with the CPU.
fn end_of_another_region_beside_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        let a = scene.start(Access::Write, linear(0, 4096))?;
        let b = scene.start(Access::Write, linear(8192, 4096))?;
        scene.mapping.write(0, b"of a")?;
        scene.mapping.write(8192, b"of b")?;
        let cost_of_b = scene.measured("END", |_| Ok(b.end()?))?;
        check!(
            cost_of_b == cost(guest, model, SIZE, 0, 4096),
            "{model:?}: {cost_of_b:?}"
        );
        check!(
            scene.device_at(0, 8192)? == *b"of b",
            "{model:?}: END did not bring it to the device"
        );
        if upkeep(guest, model) != Upkeep::None {
            check!(
                scene.device_at(0, 0)? == [0; 4],
                "{model:?}: END of one brought the other's"
            );
        }
        // The device may write there again.
        scene.devices[0].device_writes(8192, b"dev0")?;
        scene.start(Access::Read, Region::Whole)?.end()?;
        check!(
            scene.cpu_at(8192)? == *b"dev0" && scene.cpu_at(0)? == *b"of a",
            "{model:?}: a START lost something"
        );
        a.end()?;
        check!(
            scene.device_at(0, 0)? == *b"of a" && scene.device_at(0, 8192)? == *b"dev0",
            "{model:?}: the device does not see it"
        );
    }
    Ok(())
}

// One device and two, of which one goes in the middle of a window.
fn unmap_beside_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let a = linear(1000, 500);
    for model in MODELS {
        for others in [0, 1] {
            let what = format!("{model:?} with {others} more");
            let mut scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
            if others == 1 {
                scene.attach(model, 1, Direction::Bidirectional)?;
            }
            let mut must = pattern(SIZE, 2);
            scene.devices[0].device_writes(0, &must)?;
            let window = scene.start(Access::Write, a)?;
            must[1000..1500].fill(222);
            scene.mapping.write(1000, &[222; 500])?;
            scene.devices[0].unmap()?;
            // All that it wrote is the CPU's now, and all that the CPU wrote.
            let wrong = difference(&scene.cpu()?, &must);
            check!(wrong.is_none(), "{what}: the CPU sees other at {wrong:?}");
            window.end()?;
            if others == 1 {
                let window = scene.start(Access::Write, Region::Whole)?;
                window.end()?;
                let wrong = difference(&scene.device(1)?, &must);
                check!(
                    wrong.is_none(),
                    "{what}: the other device sees other at {wrong:?}"
                );
                scene.devices[1].unmap()?;
            }
            let window = scene.start(Access::Read, Region::Whole)?;
            let wrong = difference(&scene.cpu()?, &must);
            check!(wrong.is_none(), "{what}: at the end, {wrong:?}");
            window.end()?;
        }
    }
    Ok(())
}

/// Whether two devices may write at the same time.
fn may_write_together(one: TestDevice, other: TestDevice) -> bool {
    let bounce = |model| model == TestDevice::BounceModel;
    let cache = |model| matches!(model, TestDevice::CacheModel | TestDevice::CacheModelMerged);
    !(bounce(one) && cache(other) || cache(one) && bounce(other))
}

fn map_beside_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let a = linear(1000, 500);
    for model in MODELS {
        for before in MODELS {
            if !may_write_together(model, before) {
                continue;
            }
            let what = format!("{model:?} beside {before:?}");
            let mut scene = Scene::new(guest, &importer, SIZE, NONE)?;
            scene.attach(before, 1, Direction::Bidirectional)?;
            let mut must = pattern(SIZE, 4);
            scene.devices[0].device_writes(0, &must)?;
            scene.sync(START_WRITE, a)?;
            must[1000..1200].fill(222);
            scene.mapping.write(1000, &[222; 200])?;
            scene.attach(model, 0, Direction::Bidirectional)?;
            check!(
                scene.cpu_at(1000)? == [222; 200],
                "{what}: a map lost a byte"
            );
            must[1200..1500].fill(223);
            scene.mapping.write(1200, &[223; 300])?;
            scene.sync(END_WRITE, a)?;
            for device in 0..2 {
                check!(
                    scene.device_at::<500>(device, 1000)? == must[1000..1500],
                    "{what}: device {device} does not see what the CPU wrote"
                );
            }
            // Another line, which is of nobody's window. Both devices write it: a START orders that.
            scene.start(Access::Read, Region::Whole)?.end()?;
            must[5000..5100].fill(224);
            scene.devices[1].device_writes(5000, &[224; 100])?;
            let window = scene.start(Access::ReadWrite, Region::Whole)?;
            let wrong = difference(&scene.cpu()?, &must);
            check!(wrong.is_none(), "{what}: the CPU sees other at {wrong:?}");
            window.end()?;
            for device in 0..2 {
                let wrong = difference(&scene.device(device)?, &must);
                check!(
                    wrong.is_none(),
                    "{what}: device {device} sees other at {wrong:?}"
                );
            }
        }
    }
    Ok(())
}

fn nested_windows(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    // The same region by two names.
    let (outer_region, inner_region) = (linear(256, 320), grid(256, 32, 32, 10));
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        let outer = scene.start(Access::ReadWrite, outer_region)?;
        scene.mapping.write(256, b"outr")?;
        let inner = scene.start(Access::Write, inner_region)?;
        scene.expect_windows("nested", 2)?;
        check!(
            inner.begin_cost() == cost(guest, model, SIZE, 0, 0),
            "{model:?}: a nested START: {:?}",
            inner.begin_cost()
        );
        scene.mapping.write(320, b"innr")?;
        inner.end()?;
        scene.expect_windows("one ended", 1)?;
        scene.mapping.write(384, b"more")?;
        scene.start(Access::Read, linear(0, 8192))?.end()?;
        check!(
            scene.cpu_at(384)? == *b"more" && scene.cpu_at(256)? == *b"outr",
            "{model:?}: lost in the outer window"
        );
        outer.end()?;
        scene.expect_windows("both ended", 0)?;
        for (at, bytes) in [(256, b"outr"), (320, b"innr"), (384, b"more")] {
            check!(
                scene.device_at(0, at)? == *bytes,
                "{model:?}: the device does not see it at {at}"
            );
        }
    }
    Ok(())
}

// END of a region for which there is no window.
fn end_closes_what_lies_in_it(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        let pieces = [
            linear(1000, 10),
            grid(1100, 10, 100, 3),
            grid(1100, 10, 100, 3),
            linear(3000, 100),
        ];
        for piece in pieces {
            scene.sync(START_WRITE, piece)?;
        }
        scene.expect_windows("all", 4)?;
        for (at, bytes) in [(1000, b"one."), (1200, b"two."), (3000, b"last")] {
            scene.mapping.write(at, bytes)?;
        }
        // None lies in these; the third has rows that go past one of them.
        for region in [linear(0, 1005), linear(3001, 90), grid(1100, 9, 100, 3)] {
            scene.sync(END_WRITE, region)?;
            scene.expect_windows("in none", 4)?;
        }
        // A window to read is another.
        scene.sync(uapi::SYNC_END | uapi::SYNC_READ, linear(0, 4096))?;
        scene.expect_windows("READ", 4)?;
        // All but the last, the nested ones with them.
        scene.sync(END_WRITE, linear(1000, 2000))?;
        scene.expect_windows("those in it", 1)?;
        for (at, bytes) in [(1000, b"one."), (1200, b"two.")] {
            check!(
                scene.device_at(0, at)? == *bytes,
                "{model:?}: the device does not see it at {at}"
            );
        }
        sync(&scene.buffer, END_WRITE)?;
        scene.expect_windows("the rest", 0)?;
        check!(
            scene.device_at(0, 3000)? == *b"last",
            "{model:?}: the device does not see the last"
        );
    }
    Ok(())
}

// A START and END of all by another process, in the middle of a window; and by a thread.
fn whole_sync_of_another_process(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        for threads in [false, true] {
            let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
            scene.devices[0].device_writes(6000, b"dev0")?;
            let window = scene.start(Access::Write, linear(0, 4096))?;
            scene.mapping.write(100, b"mine")?;
            let (buffer, mapping) = (&scene.buffer, &scene.mapping);
            let run = move || -> Result<(), Errno> {
                sync(buffer, START_WRITE)?;
                let mut seen = [0; 4];
                let read = mapping.read(6000, &mut seen);
                let wrote = mapping.write(8192, b"kid0");
                sync(buffer, END_WRITE)?;
                match (read, wrote) {
                    (Ok(()), Ok(())) if seen == *b"dev0" => Ok(()),
                    _ => Err(Errno::IO),
                }
            };
            let ran = if threads {
                thread::scope(|scope| scope.spawn(run).join().expect("it panicked"))
            } else {
                match raw::fork(|| i32::from(run().is_err()))?.wait()? {
                    0 => Ok(()),
                    _ => Err(Errno::IO),
                }
            };
            check!(ran.is_ok(), "{model:?}: the other one: {ran:?}");
            scene.expect_windows("mine", 1)?;
            check!(
                scene.cpu_at(100)? == *b"mine",
                "{model:?}: it took a byte of mine"
            );
            check!(
                scene.device_at(0, 8192)? == *b"kid0",
                "{model:?}: its END did not bring it to the device"
            );
            scene.mapping.write(200, b"more")?;
            window.end()?;
            check!(
                scene.device_at(0, 100)? == *b"mine" && scene.device_at(0, 200)? == *b"more",
                "{model:?}: the device does not see mine"
            );
            check!(
                scene.device_at(0, 6000)? == *b"dev0",
                "{model:?}: the device's own is lost"
            );
        }
    }
    Ok(())
}

// Beside a window of a process that lives.
fn exit_ends_the_windows(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        let window = scene.start(Access::Write, linear(0, 100))?;
        scene.mapping.write(0, b"mine")?;
        let child = raw::fork(|| {
            let run = || -> Result<(), Stop> {
                for at in [4096, 4500, 9000] {
                    std::mem::forget(scene.start(Access::Write, linear(at, 100))?);
                    scene.mapping.write(at, b"kid0")?;
                }
                Ok(())
            };
            i32::from(run().is_err())
        })?;
        check!(child.wait()? == 0, "{model:?}: the child failed");
        scene.expect_windows("mine", 1)?;
        for at in [4096, 4500, 9000] {
            check!(
                scene.device_at(0, at)? == *b"kid0",
                "{model:?}: the device does not see what it left at {at}"
            );
        }
        scene.devices[0].device_writes(4096, b"dev0")?;
        scene.start(Access::Read, Region::Whole)?.end()?;
        check!(
            scene.cpu_at(4096)? == *b"dev0" && scene.cpu_at(0)? == *b"mine",
            "{model:?}: stale, or lost"
        );
        window.end()?;
        check!(
            scene.device_at(0, 0)? == *b"mine",
            "{model:?}: the device does not see mine"
        );
    }
    Ok(())
}

// Both may write, and one may have a copy: bytes are told apart, in the region alone.
fn two_devices_that_write(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let region = linear(2 * LINE, 6 * LINE);
    let (inside, outside) = ([3 * LINE, 4 * LINE], [40 * LINE, 50 * LINE]);
    for first in MODELS {
        for second in MODELS {
            if !may_write_together(first, second) {
                continue;
            }
            let what = format!("{first:?} and {second:?}");
            let mut scene = Scene::new(guest, &importer, SIZE, NONE)?;
            scene.attach(first, 0, Direction::Bidirectional)?;
            scene.attach(second, 1, Direction::Bidirectional)?;
            for round in 0..3_u8 {
                for (number, device) in scene.devices.iter().enumerate() {
                    let byte = 100 + 10 * round + number as u8;
                    device.device_writes(inside[number] as u64, &[byte; 16])?;
                    device.device_writes(outside[number] as u64, &[byte + 5; 16])?;
                }
                let wrote = |number: usize| 100 + 10 * round + number as u8;
                let window = scene.start(Access::ReadWrite, region)?;
                for (number, at) in inside.into_iter().enumerate() {
                    check!(
                        scene.cpu_at(at)? == [wrote(number); 16],
                        "{what}: the CPU does not see what device {number} wrote"
                    );
                }
                // In a line of the first, and in one of nobody.
                for at in [3 * LINE + 32, 6 * LINE] {
                    scene.mapping.write(at, &[50 + round; 16])?;
                }
                window.end()?;
                for (device, its) in outside.into_iter().enumerate() {
                    let seen: [u8; 16] = scene.device_at(device, 3 * LINE + 32)?;
                    let other: [u8; 16] = scene.device_at(device, 6 * LINE)?;
                    check!(
                        seen == [50 + round; 16] && other == seen,
                        "{what}: device {device} does not see what the CPU wrote"
                    );
                    for (number, at) in inside.into_iter().enumerate() {
                        check!(
                            scene.device_at(device, at)? == [wrote(number); 16],
                            "{what}: device {device} does not see what {number} wrote"
                        );
                    }
                    check!(
                        scene.device_at(device, its)? == [wrote(device) + 5; 16],
                        "{what}: device {device} lost its own, outside"
                    );
                }
                if round < 2 {
                    continue;
                }
                // Nothing of it is lost, though no region had it.
                let window = scene.start(Access::ReadWrite, Region::Whole)?;
                for (number, at) in outside.into_iter().enumerate() {
                    check!(
                        scene.cpu_at(at)? == [wrote(number) + 5; 16],
                        "{what}: the CPU does not see what device {number} wrote outside"
                    );
                }
                window.end()?;
                // Rule 3 has them ordered from here on.
                for device in [0, 1] {
                    for (number, at) in outside.into_iter().enumerate() {
                        check!(
                            scene.device_at(device, at)? == [wrote(number) + 5; 16],
                            "{what}: device {device} does not see what {number} wrote outside"
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

/// How long the threads work, on each model.
const TIME: Duration = Duration::from_millis(400);

/// Rounds that each makes, be the kernel as slow as it may.
const LEAST: u32 = 12;

/// Where the device writes, outside of all windows.
const OF_THE_DEVICE: usize = 16 * 1024;

/// Windows of a thread: a slot of its own, and rows between those of the others.
fn of_thread(number: usize) -> [Region; 2] {
    [
        linear(number * 1024 + 10, 300),
        grid(8192 + number * LINE, LINE, 4 * LINE, 20),
    ]
}

fn write_rounds(
    scene: &Scene<'_>,
    device: &Attachment<'_>,
    number: usize,
    until: Instant,
) -> Result<[u32; 2], Stop> {
    let mut rounds = [0; 2];
    for turn in 0.. {
        if turn >= LEAST && Instant::now() >= until {
            break;
        }
        let which = turn as usize % 2;
        let region = of_thread(number)[which];
        let content = |round: u32, length| match round {
            0 => vec![0; length],
            _ => pattern(length, round as usize * 4 + number),
        };
        let window = scene.start(Access::ReadWrite, region)?;
        for row in rows(region, SIZE) {
            let mut seen = vec![0; row.len()];
            scene.mapping.read(row.start, &mut seen)?;
            check!(
                seen == content(rounds[which], row.len()),
                "thread {number}, round {turn}: the CPU lost its bytes at {}",
                row.start
            );
        }
        rounds[which] += 1;
        for row in rows(region, SIZE) {
            scene
                .mapping
                .write(row.start, &content(rounds[which], row.len()))?;
        }
        window.end()?;
        for row in rows(region, SIZE) {
            let mut seen = vec![0; row.len()];
            device.device_reads(row.start as u64, &mut seen)?;
            check!(
                seen == content(rounds[which], row.len()),
                "thread {number}, round {turn}: the device does not see it at {}",
                row.start
            );
        }
    }
    Ok(rounds)
}

/// The device writes, and the CPU reads that.
fn device_rounds(
    scene: &Scene<'_>,
    device: &Attachment<'_>,
    stop: &AtomicBool,
) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    for round in 0.. {
        if round >= LEAST && stop.load(Ordering::Relaxed) {
            break;
        }
        bytes = pattern(1000, round as usize);
        device.device_writes(OF_THE_DEVICE as u64 + 5, &bytes)?;
        let window = scene.start(Access::Read, linear(OF_THE_DEVICE + 5, 1000))?;
        let mut seen = vec![0; 1000];
        scene.mapping.read(OF_THE_DEVICE + 5, &mut seen)?;
        window.end()?;
        check!(
            seen == bytes,
            "round {round}: the CPU sees other than what the device wrote"
        );
    }
    Ok(bytes)
}

fn threads_on_their_own_regions(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = Scene::with(guest, &importer, SIZE, NONE, model)?;
        let (scene, device) = (&scene, &scene.devices[0]);
        let stop = &AtomicBool::new(false);
        let until = Instant::now() + TIME;
        let (rounds, bytes) = thread::scope(|scope| -> Result<_, Stop> {
            let writers: Vec<_> = (0..3)
                .map(|number| scope.spawn(move || write_rounds(scene, device, number, until)))
                .collect();
            let writer = scope.spawn(move || device_rounds(scene, device, stop));
            // One looks at all of it.
            let reader = scope.spawn(move || -> Outcome {
                while !stop.load(Ordering::Relaxed) {
                    scene.start(Access::Read, Region::Whole)?.end()?;
                }
                Ok(())
            });
            let rounds: Vec<_> = writers
                .into_iter()
                .map(|thread| thread.join().expect("a writer panicked"))
                .collect();
            stop.store(true, Ordering::Relaxed);
            let bytes = writer.join().expect("the device panicked");
            reader.join().expect("the reader panicked")?;
            let rounds: Result<Vec<_>, _> = rounds.into_iter().collect();
            Ok((rounds, bytes))
        })?;
        let (rounds, bytes) = match (rounds, bytes) {
            (Ok(rounds), Ok(bytes)) => (rounds, bytes),
            (Err(Stop::Failed(why)), _) | (_, Err(Stop::Failed(why))) => {
                return fail(format!("{model:?}: {why}"));
            }
            (Err(stop), _) | (_, Err(stop)) => return Err(stop),
        };
        scene.expect_windows("at the end", 0)?;
        // Everything is there still, for both.
        let mut must = vec![0; SIZE];
        must[OF_THE_DEVICE + 5..OF_THE_DEVICE + 1005].copy_from_slice(&bytes);
        for (number, rounds) in rounds.iter().enumerate() {
            for (which, round) in rounds.iter().enumerate() {
                for row in rows(of_thread(number)[which], SIZE) {
                    let bytes = pattern(row.len(), *round as usize * 4 + number);
                    must[row].copy_from_slice(&bytes);
                }
            }
        }
        let wrong = difference(&scene.device(0)?, &must);
        check!(
            wrong.is_none(),
            "{model:?}: the device sees other at {wrong:?}"
        );
        let window = scene.start(Access::Read, Region::Whole)?;
        let wrong = difference(&scene.cpu()?, &must);
        check!(
            wrong.is_none(),
            "{model:?}: the CPU sees other at {wrong:?}"
        );
        window.end()?;
    }
    Ok(())
}

const MOST: usize = 512;

fn most_windows(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let size = MOST * LINE;
    for model in [TestDevice::BounceModel, TestDevice::DirectModel] {
        let scene = Scene::with(guest, &importer, size, NONE, model)?;
        for number in 0..MOST {
            scene.sync(START_WRITE, linear(number * LINE, LINE))?;
            scene.mapping.write(number * LINE, &[number as u8, 77])?;
        }
        scene.expect_windows("all", MOST as u32)?;
        let before = scene.info()?;
        for region in [linear(0, 1), linear(5 * LINE, 2 * LINE), grid(0, 1, 2, 2)] {
            fails_with(
                scene.sync(START_WRITE, region),
                Errno::NOSPC,
                &format!("one more, {region:?}"),
            )?;
        }
        let after = scene.info()?;
        check!(after == before, "{model:?}: {before:?}, then {after:?}");

        // What is no window more, and the windows of others.
        scene.sync(START_WRITE, linear(LINE, LINE))?;
        scene.sync(uapi::SYNC_START | uapi::SYNC_READ, Region::Whole)?;
        scene.expect_windows("one twice", MOST as u32 + 1)?;
        let child = raw::fork(|| {
            // Two together keep a third out, but not out of all of it.
            let fits = |n| scene.sync(START_WRITE, linear(n * LINE + 3, 9)).is_ok();
            let third = || {
                let part = scene.sync(START_WRITE, linear(3, 9));
                let whole = sync(&scene.buffer, START_WRITE);
                let ended = sync(&scene.buffer, uapi::SYNC_END | uapi::SYNC_WRITE);
                i32::from(part != Err(Errno::NOSPC) || whole.is_err() || ended.is_err())
            };
            if !(0..MOST).all(fits) {
                return 2;
            }
            raw::fork(third).and_then(|c| c.wait()).unwrap_or(3)
        })?;
        let status = child.wait()?;
        check!(status == 0, "{model:?}: other processes: {status}");
        // Of the whole buffer there is one always.
        sync(&scene.buffer, START_WRITE)?;
        scene.expect_windows("one of the whole", MOST as u32 + 2)?;
        sync(&scene.buffer, uapi::SYNC_END | uapi::SYNC_WRITE)?;
        scene.expect_windows("just that ended", MOST as u32 + 1)?;

        // They can be ended, one at a time and all at once.
        for number in [1, 1, 0, MOST - 1] {
            let end = scene.sync(END_WRITE, linear(number * LINE, LINE))?;
            check!(
                end == cost(guest, model, size, 0, LINE),
                "{model:?}: END of one: {end:?}"
            );
        }
        scene.expect_windows("three ended", MOST as u32 - 3)?;
        scene.sync(START_WRITE, linear(0, 10))?;
        scene.sync(END_WRITE, Region::Whole)?;
        scene.expect_windows("all ended", 0)?;
        let seen = scene.device(0)?;
        let lost = (0..MOST).find(|n| seen[n * LINE..n * LINE + 2] != [*n as u8, 77]);
        check!(lost.is_none(), "{model:?}: lost in window {lost:?}");
    }
    Ok(())
}

/// Rows are walked under the lock.
fn most_rows(guest: &Guest) -> Outcome {
    const ROWS: usize = 32768;
    let importer = guest.importer()?;
    let size = 4 * ROWS;
    let scene = Scene::with(guest, &importer, size, NONE, TestDevice::BounceModel)?;
    for flags in [START_WRITE, END_WRITE, uapi::SYNC_READ] {
        for rows in [ROWS + 1, 2 * ROWS] {
            fails_with(
                scene.sync(flags, grid(0, 1, 2, rows)),
                Errno::INVAL,
                &format!("{rows} rows, {flags:#x}"),
            )?;
        }
    }
    // One row, named as many.
    scene.sync(START_WRITE, grid(0, 2, 2, 2 * ROWS))?;
    scene.sync(END_WRITE, grid(0, 1, 1, 4 * ROWS))?;
    scene.expect_windows("rows without a gap", 0)?;

    let most = grid(0, 1, 2, ROWS);
    scene.sync(START_WRITE, most)?;
    scene.sync(START_WRITE, most)?;
    fails_with(
        scene.sync(START_WRITE, linear(size - LINE, 1)),
        Errno::NOSPC,
        "a row more",
    )?;
    sync(&scene.buffer, START_WRITE)?;
    scene.expect_windows("nested, and one of the whole", 3)?;
    sync(&scene.buffer, uapi::SYNC_END | uapi::SYNC_WRITE)?;
    scene.mapping.write(2 * ROWS - 2, &[77])?;
    scene.sync(END_WRITE, most)?;
    check!(scene.device_at(0, 2 * ROWS - 2)? == [77], "the last row");
    scene.sync(END_WRITE, Region::Whole)?;
    scene.expect_windows("all ended", 0)?;
    scene.sync(START_WRITE, linear(size - LINE, 1))?;
    Ok(())
}

fn bad_regions(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::with(guest, &importer, SIZE, NONE, TestDevice::BounceModel)?;
    let before = scene.info()?;
    let size = SIZE as u64;
    let max = u64::MAX;
    let half = 1 << 63;
    let numbers: [(u32, [u64; 4]); 47] = [
        // Of all: no number is looked at, so that none may be there.
        (uapi::LAYOUT_WHOLE, [1, 0, 0, 0]),
        (uapi::LAYOUT_WHOLE, [0, 1, 0, 0]),
        (uapi::LAYOUT_WHOLE, [0, size, 0, 0]),
        (uapi::LAYOUT_WHOLE, [0, 0, 1, 0]),
        (uapi::LAYOUT_WHOLE, [0, 0, 0, 1]),
        // 1-D: fields of 2-D, empty, beyond the end, beyond all numbers.
        (uapi::LAYOUT_1D, [0, 64, 64, 0]),
        (uapi::LAYOUT_1D, [0, 64, 0, 1]),
        (uapi::LAYOUT_1D, [0, 0, 0, 0]),
        (uapi::LAYOUT_1D, [64, 0, 0, 0]),
        (uapi::LAYOUT_1D, [size, 0, 0, 0]),
        (uapi::LAYOUT_1D, [size, 1, 0, 0]),
        (uapi::LAYOUT_1D, [0, size + 1, 0, 0]),
        (uapi::LAYOUT_1D, [1, size, 0, 0]),
        (uapi::LAYOUT_1D, [size - 1, 2, 0, 0]),
        (uapi::LAYOUT_1D, [0, max, 0, 0]),
        (uapi::LAYOUT_1D, [1, max, 0, 0]),
        (uapi::LAYOUT_1D, [max, 1, 0, 0]),
        (uapi::LAYOUT_1D, [max, max, 0, 0]),
        (uapi::LAYOUT_1D, [half, half, 0, 0]),
        (uapi::LAYOUT_1D, [max - 63, 64, 0, 0]),
        (uapi::LAYOUT_1D, [max - 63, 128, 0, 0]),
        // 2-D: empty, a stride below the length, rows beyond the end.
        (uapi::LAYOUT_2D, [0, 0, 0, 0]),
        (uapi::LAYOUT_2D, [0, 0, 64, 1]),
        (uapi::LAYOUT_2D, [0, 64, 64, 0]),
        (uapi::LAYOUT_2D, [0, 0, 0, 1]),
        (uapi::LAYOUT_2D, [0, 64, 0, 1]),
        (uapi::LAYOUT_2D, [0, 64, 63, 1]),
        (uapi::LAYOUT_2D, [0, 64, 63, 2]),
        (uapi::LAYOUT_2D, [0, 2, 1, 5]),
        (uapi::LAYOUT_2D, [0, 64, 4096, 21]),
        (uapi::LAYOUT_2D, [4096 - 63, 64, 4096, 20]),
        (uapi::LAYOUT_2D, [size, 1, 1, 1]),
        (uapi::LAYOUT_2D, [size - 1, 1, 1, 2]),
        (uapi::LAYOUT_2D, [0, 1, size, 2]),
        (uapi::LAYOUT_2D, [0, size, size, 2]),
        // The last row begins, or ends, beyond all numbers; which wrapped would be inside.
        (uapi::LAYOUT_2D, [0, 64, half, 3]),
        (uapi::LAYOUT_2D, [0, 64, half, 2]),
        (uapi::LAYOUT_2D, [64, 64, max - 63, 2]),
        (uapi::LAYOUT_2D, [0, 1, 1 << 32, (1 << 32) + 1]),
        (uapi::LAYOUT_2D, [0, 1, 1 << 33, (1 << 31) + 1]),
        (uapi::LAYOUT_2D, [max, 1, 1, 2]),
        (uapi::LAYOUT_2D, [0, max, max, max]),
        (uapi::LAYOUT_2D, [max, max, max, max]),
        (uapi::LAYOUT_2D, [0, 1, 1, max]),
        (uapi::LAYOUT_2D, [64, 128, max, 2]),
        // Layouts that nobody knows.
        (3, [0, 64, 64, 1]),
        (u32::MAX, [0, 0, 0, 0]),
    ];
    for ends in [uapi::SYNC_START, uapi::SYNC_END] {
        for (layout, [offset, length, stride, rows]) in numbers {
            let sync = uapi::RegionSync {
                layout,
                offset,
                length,
                stride,
                rows,
                ..request(&scene.buffer, ends | BOTH, Region::Whole)
            };
            let what = format!("layout {layout}, {offset} {length} {stride} {rows}");
            fails_with(sync_raw(&scene.cohbuf, &sync), Errno::INVAL, &what)?;
        }
        for flags in [0, 8, 16, 1 << 32, 1 << 63, BOTH | 8, BOTH | (1 << 63)] {
            let sync = request(&scene.buffer, ends | flags, linear(0, 64));
            let what = format!("flags {:#x}", ends | flags);
            fails_with(sync_raw(&scene.cohbuf, &sync), Errno::INVAL, &what)?;
        }
    }
    // What comes in where something goes out is not looked at.
    let sync = uapi::RegionSync {
        cleaned: max,
        invalidated: 1,
        saved: 7,
        ..request(
            &scene.buffer,
            uapi::SYNC_START | uapi::SYNC_READ,
            linear(0, 64),
        )
    };
    let after = scene.info()?;
    check!(after == before, "{before:?}, then {after:?}");
    let seen = sync_raw(&scene.cohbuf, &sync)?;
    check!(
        seen == cost(guest, TestDevice::BounceModel, SIZE, LINE, 0),
        "{seen:?}"
    );
    // The largest that there are.
    for (layout, [offset, length, stride, rows]) in [
        (uapi::LAYOUT_1D, [0, size, 0, 0]),
        (uapi::LAYOUT_1D, [size - 1, 1, 0, 0]),
        (uapi::LAYOUT_2D, [0, 1, 1, size]),
        (uapi::LAYOUT_2D, [4096 - 64, 64, 4096, 20]),
        (uapi::LAYOUT_2D, [0, size, size, 1]),
        (uapi::LAYOUT_2D, [0, size, max, 1]),
        (uapi::LAYOUT_2D, [0, 1, size - 1, 2]),
    ] {
        let sync = uapi::RegionSync {
            layout,
            offset,
            length,
            stride,
            rows,
            ..request(&scene.buffer, uapi::SYNC_READ, Region::Whole)
        };
        sync_raw(&scene.cohbuf, &sync)?;
    }
    Ok(())
}

/// A window of which nobody can be told is not opened, nor closed.
fn argument_that_cannot_be_written(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(SIZE)?;
    let device = guest.device()?;
    let windows = || Ok::<_, Stop>(device.info(&buffer)?.write_windows);
    let read_only = |sync: &uapi::RegionSync, what: &str| {
        let bytes = sync_bytes(sync);
        fails_with(
            raw::ioctl_read_only(&device, uapi::IOCTL_SYNC, &bytes),
            Errno::FAULT,
            what,
        )
    };
    let start = request(&buffer, uapi::SYNC_START | BOTH, linear(0, 64));
    let end = request(&buffer, uapi::SYNC_END | BOTH, linear(0, 64));
    read_only(&start, "START")?;
    check!(windows()? == 0, "START has opened {} windows", windows()?);
    sync_raw(&device, &start)?;
    read_only(&end, "END")?;
    check!(windows()? == 1, "END has left {} windows", windows()?);
    sync_raw(&device, &end)?;
    check!(windows()? == 0, "{} windows are left", windows()?);
    Ok(())
}

fn bad_files(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(page())?;
    let null = std::fs::File::open("/dev/null")?;
    let with = |fd: i32, region| {
        let sync = uapi::RegionSync {
            fd,
            ..request(&buffer, BOTH, region)
        };
        sync_raw(&cohbuf, &sync)
    };
    for region in [Region::Whole, linear(0, 64), grid(0, 1, 2, 3)] {
        for fd in [-1, i32::MIN, 1 << 20] {
            fails_with(with(fd, region), Errno::BADF, &format!("fd {fd}"))?;
        }
        for file in [null.as_fd(), cohbuf.as_fd()] {
            fails_with(with(file.as_raw_fd(), region), Errno::INVAL, "no dma-buf")?;
        }
    }
    // vgem, or else udmabuf: both stock kernels have one of them.
    let foreign = match crate::guest::vgem().and_then(|vgem| Ok(vgem.export()?)) {
        Ok(fd) => fd,
        Err(_) => match cohbuf_testdev::udmabuf(page() as u64) {
            Ok(fd) => fd,
            Err(_) => return crate::harness::skip("neither vgem nor udmabuf is here"),
        },
    };
    for region in [Region::Whole, linear(0, 64)] {
        fails_with(
            with(foreign.as_raw_fd(), region),
            Errno::MEDIUMTYPE,
            "of another exporter",
        )?;
    }
    // It is not an ioctl of the dma-buf itself.
    let mut bytes = [0; 96];
    fails_with(
        raw::ioctl(&buffer, uapi::IOCTL_SYNC, &mut bytes),
        Errno::NOTTY,
        "on the dma-buf",
    )
}

// Who cannot map it to write has no window to write in; to look is allowed.
fn read_only_descriptor(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    for model in MODELS {
        importer.model().reset()?;
        let buffer = cohbuf.create_with(SIZE as u64, NONE, FdFlags::CLOEXEC)?;
        let _reset = crate::guest::ModelReset(&importer);
        let mapping = buffer.map_range(0, SIZE as u64, cohbuf::Protection::Read)?;
        importer.model().track(mapping.as_ptr(), SIZE)?;
        let device = importer.attach(&buffer, model, 0)?;
        device.map(Direction::Bidirectional)?;
        device.device_writes(0, b"dev0")?;
        let run = |flags, region| sync_raw(&cohbuf, &request(&buffer, flags, region));
        let start = run(uapi::SYNC_START | BOTH, linear(0, 10))?;
        check!(
            start == cost(guest, model, SIZE, LINE, 0),
            "{model:?}: {start:?}"
        );
        let mut seen = [0; 4];
        mapping.read(0, &mut seen)?;
        check!(seen == *b"dev0", "{model:?}: the CPU does not see it");
        check!(
            cohbuf.info(&buffer)?.write_windows == 0,
            "{model:?}: a window is open"
        );
        // So that the device may go on.
        device.device_writes(0, b"more")?;
        run(uapi::SYNC_END | BOTH, linear(0, 10))?;
        run(uapi::SYNC_READ, linear(0, 10))?;
        mapping.read(0, &mut seen)?;
        check!(seen == *b"more", "{model:?}: END went over it");
        device.unmap()?;
    }
    Ok(())
}

fn other_buffers_cost_nothing(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for (flags, model) in [
        (CreateFlags::COHERENT, TestDevice::SnoopModel),
        (CreateFlags::WRITE_COMBINE, TestDevice::DirectModel),
    ] {
        let cohbuf = guest.device()?;
        let buffer = guest.buffer(SIZE, flags)?;
        let device = importer.attach(&buffer, model, 0)?;
        device.map(Direction::Bidirectional)?;
        for region in [Region::Whole, linear(0, 64), grid(3, 5, 7, 9)] {
            for access in [uapi::SYNC_READ, uapi::SYNC_WRITE, BOTH] {
                for ends in [uapi::SYNC_START, uapi::SYNC_END] {
                    let seen = sync_raw(&cohbuf, &request(&buffer, ends | access, region))?;
                    check!(seen == SyncCost::default(), "{flags:?}: {seen:?}");
                }
            }
        }
        let info = cohbuf.info(&buffer)?;
        check!(
            info.write_windows == 0 && spent(&info) == SyncCost::default(),
            "{flags:?}: {info:?}"
        );
    }
    Ok(())
}
