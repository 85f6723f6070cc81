// SPDX-License-Identifier: GPL-2.0

//! R11: an END maintains the pages that the CPU has written, and no byte is lost by that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cohbuf::{Access, CreateFlags, Device, FdFlags, Protection, Region, State, uapi};
use cohbuf_testdev::{Direction, Importer, TestDevice};
use rustix::io::Errno;

use crate::cases::sync::sync;
use crate::check;
use crate::guest::{Guest, ModelReset};
use crate::harness::{Outcome, Stop, fail, fails_with};
use crate::raw::{self, Map};
use crate::scene::{
    END_WRITE, LINE, MODELS, START_WRITE, Scene, Upkeep, cost, difference, pattern, request,
    sync_raw, upkeep,
};

crate::guest_suite!("dirty":
    just_the_pages_written,
    what_nobody_wrote_is_left_alone,
    by_any_mapping_of_any_process,
    unmapped_counts_as_written,
    unmapped_in_part,
    moved_mapping,
    protected_mapping,
    forked_mapping,
    to_read_is_not_to_write,
    read_only_descriptor,
    region_keeps_partly_covered_pages,
    rows_keep_what_is_between_them,
    all_beside_a_device_that_snoops,
    all_for_copies_beside_another_writer,
    all_after_a_writer_is_gone,
    threads_lose_nothing,
    exit_beside_end,
    munmap_beside_end,
    protected_beside_end,
    flag_and_state,
);

const PAGE: usize = 4096;
const PAGES: usize = 18;
const SIZE: usize = PAGES * PAGE;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn scene<'a>(guest: &Guest, importer: &'a Importer, model: TestDevice) -> Result<Scene<'a>, Stop> {
    let scene = Scene::with(guest, importer, SIZE, CreateFlags::TRACK_DIRTY, model)?;
    check!(
        scene.info()?.state == State::TRACKS_PAGES,
        "it does not track pages"
    );
    Ok(scene)
}

fn map(scene: &Scene<'_>, first: usize, pages: usize, protection: i32) -> Result<Map, Stop> {
    let offset = (first * PAGE) as i64;
    let flags = libc::MAP_SHARED;
    Ok(Map::new(
        &scene.buffer,
        pages * PAGE,
        protection,
        flags,
        offset,
    )?)
}

/// Ends a window of all, and fails unless that maintained so many pages.
fn expect_pages(
    guest: &Guest,
    scene: &Scene<'_>,
    model: TestDevice,
    what: &str,
    pages: usize,
) -> Outcome {
    let what = format!("{model:?}: {what}");
    let end = scene.measured(&what, |scene| Ok(scene.sync(END_WRITE, Region::Whole)?))?;
    let must = cost(guest, model, SIZE, 0, pages * PAGE);
    check!(
        end == must,
        "{what}: {end:?}, must be {must:?}, {pages} pages"
    );
    Ok(())
}

/// The same of a window in which something is unmapped: that does what an END does, and what it
/// has maintained is left alone by the END. So many pages are those of both.
fn expect_pages_of_both(
    guest: &Guest,
    scene: &Scene<'_>,
    model: TestDevice,
    what: &str,
    pages: usize,
    run: impl FnOnce() -> Outcome,
) -> Outcome {
    let what = format!("{model:?}: {what}");
    scene.measured(&what, |scene| {
        run()?;
        scene.sync(END_WRITE, Region::Whole)?;
        let mut both = cost(guest, model, SIZE, 0, pages * PAGE);
        if upkeep(guest, model) != Upkeep::None {
            both.saved += SIZE as u64;
        }
        Ok(both)
    })?;
    Ok(())
}

/// Fails unless a device sees what the CPU sees in those pages.
fn expect_seen(scene: &Scene<'_>, what: &str, pages: impl IntoIterator<Item = usize>) -> Outcome {
    let (device, cpu) = (scene.device(0)?, scene.cpu()?);
    for page in pages {
        let at = page * PAGE..(page + 1) * PAGE;
        let wrong = difference(&device[at.clone()], &cpu[at]);
        check!(
            wrong.is_none(),
            "{what}: the device sees other in page {page} at {wrong:?}"
        );
    }
    Ok(())
}

fn just_the_pages_written(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let mut must = pattern(SIZE, 1);
        scene.devices[0].device_writes(0, &must)?;
        for written in [&[3, 7, 8][..], &[0, PAGES - 1], &[15, 16], &[3]] {
            let start =
                scene.measured("START", |scene| Ok(scene.sync(START_WRITE, Region::Whole)?))?;
            check!(
                start == cost(guest, model, SIZE, SIZE, 0),
                "{model:?}: START: {start:?}"
            );
            for page in written {
                // One byte of it will do.
                let at = page * PAGE + 77 * (page + 1);
                must[at] ^= 0xff;
                scene.mapping.write(at, &must[at..=at])?;
            }
            expect_pages(guest, &scene, model, "END", written.len())?;
            let wrong = difference(&scene.device(0)?, &must);
            check!(
                wrong.is_none(),
                "{model:?}: the device sees other at {wrong:?}"
            );
        }
        // By the ioctl of every dma-buf, too.
        sync(&scene.buffer, START_WRITE)?;
        scene.mapping.write(5 * PAGE, &[99])?;
        let end = scene.measured("END of all", |scene| {
            sync(&scene.buffer, END_WRITE)?;
            Ok(cost(guest, model, SIZE, 0, PAGE))
        });
        end?;
        expect_seen(&scene, "END of all", 0..PAGES)?;
    }
    Ok(())
}

fn what_nobody_wrote_is_left_alone(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        // The zeros of a new buffer got to the device when it was mapped.
        scene.sync(START_WRITE, Region::Whole)?;
        expect_pages(guest, &scene, model, "never written", 0)?;
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(0, &pattern(SIZE, 2))?;
        expect_pages(guest, &scene, model, "all written", PAGES)?;
        expect_seen(&scene, "all written", 0..PAGES)?;
        for _ in 0..2 {
            scene.sync(START_WRITE, Region::Whole)?;
            expect_pages(guest, &scene, model, "not written again", 0)?;
        }
        // What was fetched is nothing that the CPU has written.
        scene.devices[0].device_writes(0, &pattern(SIZE, 3))?;
        scene.sync(START_WRITE, Region::Whole)?;
        expect_pages(guest, &scene, model, "written by the device", 0)?;
        expect_seen(&scene, "written by the device", 0..PAGES)?;
    }
    Ok(())
}

// In a window of this process, by mappings of this one and of one that lives on.
fn by_any_mapping_of_any_process(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let other = map(&scene, 2, 4, RW)?;
        scene.sync(START_WRITE, Region::Whole)?;
        let child = raw::fork(|| {
            let own = map(&scene, 0, PAGES, RW);
            let Ok(own) = own else {
                return 1;
            };
            own.put(10 * PAGE + 5, 210);
            if scene.mapping.write(11 * PAGE, &[211]).is_err() {
                return 1;
            }
            other.put(2 * PAGE, 204);
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        })?;
        let written = || -> Result<bool, Stop> { Ok(scene.cpu_at(4 * PAGE)? == [204]) };
        for _ in 0..2000 {
            if written()? || child.poll()?.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        check!(
            child.poll()?.is_none() && written()?,
            "{model:?}: the child did not write"
        );
        other.put(PAGE + 9, 203);
        scene.mapping.write(16 * PAGE, &[216])?;
        // Two mappings of one page are one page.
        scene.mapping.write(3 * PAGE, &[202])?;
        expect_pages(guest, &scene, model, "five pages", 5)?;
        expect_seen(&scene, "five pages", 0..PAGES)?;
        scene.sync(START_WRITE, Region::Whole)?;
        expect_pages(guest, &scene, model, "none since", 0)?;

        scene.sync(START_WRITE, Region::Whole)?;
        child.signal(libc::SIGKILL)?;
        child.wait()?;
        expect_pages(guest, &scene, model, "all of the child's", PAGES)?;
    }
    Ok(())
}

fn unmapped_counts_as_written(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let other = map(&scene, 5, 3, RW)?;
        scene.sync(START_WRITE, Region::Whole)?;
        other.put(PAGE + 1, 66);
        other.put(2 * PAGE, 67);
        expect_pages_of_both(guest, &scene, model, "unmapped before END", 3, || {
            drop(other);
            Ok(())
        })?;
        check!(
            scene.device_at(0, 6 * PAGE + 1)? == [66] && scene.device_at(0, 7 * PAGE)? == [67],
            "{model:?}: the device does not see it"
        );
        scene.sync(START_WRITE, Region::Whole)?;
        expect_pages(guest, &scene, model, "and no more", 0)?;
    }
    Ok(())
}

fn unmapped_in_part(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let other = map(&scene, 4, 8, RW)?;
        scene.sync(START_WRITE, Region::Whole)?;
        // In the first piece that stays, in what goes, in the second that stays.
        for page in [0, 3, 7] {
            other.put(page * PAGE + 3, 70 + page as u8);
        }
        let what = "three cut out, three written";
        expect_pages_of_both(guest, &scene, model, what, 6, || {
            other.cut(2 * PAGE, 3 * PAGE)?;
            other.put(6 * PAGE, 80);
            Ok(())
        })?;
        for (page, at, byte) in [(4, 3, 70), (7, 3, 73), (11, 3, 77), (10, 0, 80)] {
            check!(
                scene.device_at(0, page * PAGE + at)? == [byte],
                "{model:?}: the device does not see page {page}"
            );
        }
        scene.sync(START_WRITE, Region::Whole)?;
        other.put(7 * PAGE, 81);
        expect_pages(guest, &scene, model, "what is left is watched", 1)?;
        expect_seen(&scene, "what is left", 0..PAGES)?;
    }
    Ok(())
}

fn moved_mapping(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let mut other = map(&scene, 9, 4, RW)?;
        scene.sync(START_WRITE, Region::Whole)?;
        other.put(PAGE, 90);
        // The old place is unmapped; a page is written after that.
        expect_pages_of_both(guest, &scene, model, "moved", 5, || {
            other.move_elsewhere()?;
            other.put(2 * PAGE, 91);
            Ok(())
        })?;
        check!(
            scene.device_at(0, 10 * PAGE)? == [90] && scene.device_at(0, 11 * PAGE)? == [91],
            "{model:?}: the device does not see it"
        );
        scene.sync(START_WRITE, Region::Whole)?;
        other.put(3 * PAGE, 92);
        expect_pages(guest, &scene, model, "where it is now", 1)?;
        expect_seen(&scene, "where it is now", 0..PAGES)?;
    }
    Ok(())
}

fn protected_mapping(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let other = map(&scene, 3, 5, RW)?;
        scene.sync(START_WRITE, Region::Whole)?;
        other.put(PAGE, 41);
        other.protect(libc::PROT_READ)?;
        expect_pages(guest, &scene, model, "written, then protected", 1)?;
        check!(
            scene.device_at(0, 4 * PAGE)? == [41],
            "{model:?}: the device does not see it"
        );
        scene.sync(START_WRITE, Region::Whole)?;
        other.protect(libc::PROT_NONE)?;
        other.protect(RW)?;
        expect_pages(guest, &scene, model, "not written", 0)?;
        scene.sync(START_WRITE, Region::Whole)?;
        other.put(2 * PAGE, 42);
        other.protect(libc::PROT_NONE)?;
        expect_pages(guest, &scene, model, "written, then out of reach", 1)?;
        expect_seen(&scene, "protected", 0..PAGES)?;
    }
    Ok(())
}

// Written before the fork, after it by either; the child exits, with no window of its own.
fn forked_mapping(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(2 * PAGE, &[51])?;
        let child = raw::fork(|| i32::from(scene.mapping.write(3 * PAGE, &[52]).is_err()))?;
        scene.mapping.write(4 * PAGE, &[53])?;
        check!(child.wait()? == 0, "{model:?}: the child could not write");
        expect_pages(guest, &scene, model, "all that the child had", PAGES)?;
        for (page, byte) in [(2, 51), (3, 52), (4, 53)] {
            check!(
                scene.device_at(0, page * PAGE)? == [byte],
                "{model:?}: the device does not see page {page}"
            );
        }
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(5 * PAGE, &[54])?;
        expect_pages(guest, &scene, model, "the parent goes on", 1)?;
        expect_seen(&scene, "the parent goes on", 0..PAGES)?;
    }
    Ok(())
}

fn to_read_is_not_to_write(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let other = map(&scene, 0, PAGES, libc::PROT_READ)?;
        scene.sync(START_WRITE, Region::Whole)?;
        let sum: u32 = (0..PAGES)
            .map(|page| u32::from(other.byte(page * PAGE)))
            .sum();
        check!(
            sum == 0 && scene.cpu()? == vec![0; SIZE],
            "a new buffer is not zero"
        );
        expect_pages(guest, &scene, model, "read by both", 0)?;
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(PAGE, &[1])?;
        check!(other.byte(PAGE) == 1, "other memory");
        expect_pages(guest, &scene, model, "written by one, read by both", 1)?;
        expect_seen(&scene, "read", 0..PAGES)?;
    }
    Ok(())
}

// Nobody can have written, so that nothing counts when it is unmapped.
fn read_only_descriptor(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let cohbuf: Device = guest.device()?;
    for model in MODELS {
        importer.model().reset()?;
        let buffer = cohbuf.create_with(SIZE as u64, CreateFlags::TRACK_DIRTY, FdFlags::CLOEXEC)?;
        let _reset = ModelReset(&importer);
        let mapping = buffer.map_range(0, SIZE as u64, Protection::Read)?;
        importer.model().track(mapping.as_ptr(), SIZE)?;
        let device = importer.attach(&buffer, model, 0)?;
        device.map(Direction::Bidirectional)?;
        let mut seen = vec![0; SIZE];
        mapping.read(0, &mut seen)?;
        drop(mapping);
        sync_raw(&cohbuf, &request(&buffer, START_WRITE, Region::Whole))?;
        let end = sync_raw(&cohbuf, &request(&buffer, END_WRITE, Region::Whole))?;
        check!(end.maintained() == 0, "{model:?}: {end:?}");
        device.unmap()?;
    }
    Ok(())
}

fn linear(offset: usize, length: usize) -> Region {
    Region::Linear {
        offset: offset as u64,
        length: length as u64,
    }
}

fn region_keeps_partly_covered_pages(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let old = pattern(SIZE, 5);
        scene.devices[0].device_writes(0, &old)?;
        scene.sync(START_WRITE, Region::Whole)?;
        // Both halves of page 2, and page 3; page 4 is the region's and not written.
        for at in [2 * PAGE, 2 * PAGE + 3000, 3 * PAGE + 1000] {
            scene.mapping.write(at, &[222])?;
        }
        let region = linear(2 * PAGE + PAGE / 2, PAGE / 2 + 2 * PAGE);
        let end = scene.measured("END of the region", |scene| {
            Ok(scene.sync(END_WRITE, region)?)
        })?;
        check!(
            end == cost(guest, model, SIZE, 0, PAGE / 2 + PAGE),
            "{model:?}: END of the region: {end:?}"
        );
        scene.expect_windows("that of all", 1)?;
        for at in [2 * PAGE + 3000, 3 * PAGE + 1000] {
            check!(
                scene.device_at(0, at)? == [222],
                "{model:?}: the device does not see it at {at}"
            );
        }
        if upkeep(guest, model) != Upkeep::None {
            check!(
                scene.device_at(0, 2 * PAGE)? == [old[2 * PAGE]],
                "{model:?}: END of the region brought what is outside"
            );
        }
        // Nobody writes again; the rest of page 2 must come all the same.
        expect_pages(guest, &scene, model, "END of all", 1)?;
        expect_seen(&scene, "END of all", 0..PAGES)?;
        scene.sync(START_WRITE, Region::Whole)?;
        expect_pages(guest, &scene, model, "none since", 0)?;

        // A window of the region alone goes by pages as well.
        scene.sync(START_WRITE, region)?;
        scene.mapping.write(4 * PAGE + 1, &[223])?;
        let end = scene.measured("window of the region", |scene| {
            Ok(scene.sync(END_WRITE, region)?)
        })?;
        check!(
            end == cost(guest, model, SIZE, 0, PAGE),
            "{model:?}: END of its own window: {end:?}"
        );
        expect_seen(&scene, "window of the region", 0..PAGES)?;
    }
    Ok(())
}

fn rows_keep_what_is_between_them(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    // Two pages of each three.
    let region = Region::Rows {
        offset: 0,
        length: 2 * PAGE as u64,
        stride: 3 * PAGE as u64,
        rows: 6,
    };
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        scene.sync(START_WRITE, Region::Whole)?;
        for page in [1, 2, 5, 6, 7, 17] {
            scene
                .mapping
                .write(page * PAGE + page, &[100 + page as u8])?;
        }
        let end = scene.measured("rows", |scene| Ok(scene.sync(END_WRITE, region)?))?;
        check!(
            end == cost(guest, model, SIZE, 0, 3 * PAGE),
            "{model:?}: END of the rows: {end:?}"
        );
        expect_seen(&scene, "rows", [0, 1, 3, 4, 6, 7])?;
        expect_pages(guest, &scene, model, "between the rows", 3)?;
        expect_seen(&scene, "between the rows", 0..PAGES)?;
    }
    Ok(())
}

// Lines that such a device has written are newer than memory, and no page of the CPU's tells.
fn all_beside_a_device_that_snoops(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in [TestDevice::DirectModel, TestDevice::CacheModel] {
        let mut scene = scene(guest, &importer, model)?;
        scene.attach(TestDevice::SnoopModel, 0, Direction::Bidirectional)?;
        scene.devices[1].device_writes(9 * PAGE as u64, b"snop")?;
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(0, b"mine")?;
        expect_pages(guest, &scene, model, "beside a device that snoops", PAGES)?;
        check!(
            scene.device_at(0, 0)? == *b"mine" && scene.device_at(0, 9 * PAGE)? == *b"snop",
            "{model:?}: the device does not see it"
        );
        check!(
            scene.info()?.state == State::TRACKS_PAGES,
            "{model:?}: it is not known what was written"
        );
    }
    Ok(())
}

// What the one wrote the other lacks, and that is no page that the CPU wrote.
fn all_for_copies_beside_another_writer(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let models = [
        TestDevice::CacheModel,
        TestDevice::BounceModel,
        TestDevice::BouncedModel,
    ];
    for model in models {
        let mut scene = scene(guest, &importer, model)?;
        scene.attach(model, 1, Direction::Bidirectional)?;
        scene.devices[1].device_writes(9 * PAGE as u64, b"dev1")?;
        scene.devices[0].device_writes(10 * PAGE as u64, b"dev0")?;
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(0, b"mine")?;
        let end = scene.measured("END", |scene| Ok(scene.sync(END_WRITE, Region::Whole)?))?;
        let must = 2 * cost(guest, model, SIZE, 0, SIZE).maintained();
        check!(
            end.maintained() == must,
            "{model:?}: {end:?}, must be {must}"
        );
        for device in 0..2 {
            check!(
                scene.device_at(device, 0)? == *b"mine"
                    && scene.device_at(device, 9 * PAGE)? == *b"dev1"
                    && scene.device_at(device, 10 * PAGE)? == *b"dev0",
                "{model:?}: device {device} does not see all"
            );
        }
        // One that only reads is no writer; but there are two copies, of which one lacks it.
        scene.devices[1].unmap()?;
        scene.devices[1].map(Direction::ToDevice)?;
        scene.devices[0].device_writes(11 * PAGE as u64, b"more")?;
        for round in 0..2_u8 {
            scene.sync(START_WRITE, Region::Whole)?;
            scene.mapping.write(0, &[round; 4])?;
            scene.sync(END_WRITE, Region::Whole)?;
            for device in 0..2 {
                check!(
                    scene.device_at(device, 0)? == [round; 4]
                        && scene.device_at(device, 11 * PAGE)? == *b"more",
                    "{model:?}: device {device} does not see all in round {round}"
                );
            }
        }
    }
    Ok(())
}

// A copy that is mapped still lacks what the other wrote, until one END of all.
fn all_after_a_writer_is_gone(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for (model, writer) in [
        (TestDevice::BounceModel, TestDevice::BounceModel),
        (TestDevice::BounceModel, TestDevice::DirectModel),
        (TestDevice::BounceModel, TestDevice::SnoopModel),
        (TestDevice::CacheModel, TestDevice::CacheModel),
        (TestDevice::BouncedModel, TestDevice::BouncedModel),
        (TestDevice::BouncedModel, TestDevice::SnoopModel),
    ] {
        let what = format!("{model:?}, after {writer:?}");
        let mut scene = Scene::new(guest, &importer, SIZE, CreateFlags::TRACK_DIRTY)?;
        scene.attach(model, 0, Direction::ToDevice)?;
        scene.attach(writer, 1, Direction::Bidirectional)?;
        scene.devices[1].device_writes(9 * PAGE as u64, b"gone")?;
        scene.devices[1].unmap()?;
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(0, b"mine")?;
        scene.sync(END_WRITE, Region::Whole)?;
        check!(
            scene.device_at(0, 0)? == *b"mine" && scene.device_at(0, 9 * PAGE)? == *b"gone",
            "{what}: the device does not see all"
        );
        // From then on pages suffice.
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(0, b"last")?;
        expect_pages(guest, &scene, model, &what, 1)?;
        expect_seen(&scene, &what, 0..PAGES)?;
    }
    Ok(())
}

const TIME: Duration = Duration::from_millis(400);
const LEAST: usize = 12;

/// A thread writes two pages of its own in windows of all, or of these, and looks whether the
/// device sees that.
fn write_rounds(scene: &Scene<'_>, number: usize, region: Region, until: Instant) -> Outcome {
    for turn in 0.. {
        if turn >= LEAST && Instant::now() >= until {
            break;
        }
        let at = (2 * number + turn % 2) * PAGE;
        let bytes = pattern(PAGE - 100, turn);
        let window = scene.start(Access::Write, region)?;
        // Not at one go, so that an END of another comes in between.
        let (head, tail) = bytes.split_at(LINE * 3 + 5);
        scene.mapping.write(at, head)?;
        thread::yield_now();
        scene.mapping.write(at + head.len(), tail)?;
        window.end()?;
        let mut seen = vec![0; bytes.len()];
        scene.devices[0].device_reads(at as u64, &mut seen)?;
        let wrong = difference(&seen, &bytes);
        check!(
            wrong.is_none(),
            "thread {number}, round {turn}: the device sees other at {wrong:?}"
        );
    }
    Ok(())
}

// Two write pages of their own, a third some in a window of these alone, and a fourth ends
// windows in which it wrote nothing: it takes what the others have written so far.
fn threads_lose_nothing(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        let (scene, stop) = (&scene, &AtomicBool::new(false));
        let until = Instant::now() + TIME;
        let outcome = thread::scope(|scope| -> Outcome {
            let its = |number| match number {
                2 => linear(4 * PAGE, 2 * PAGE),
                _ => Region::Whole,
            };
            let writers: Vec<_> = (0..3)
                .map(|number| scope.spawn(move || write_rounds(scene, number, its(number), until)))
                .collect();
            let ender = scope.spawn(move || -> Outcome {
                while !stop.load(Ordering::Relaxed) {
                    scene.start(Access::Write, Region::Whole)?.end()?;
                }
                Ok(())
            });
            let results: Vec<_> = writers
                .into_iter()
                .map(|thread| thread.join().expect("a writer panicked"))
                .collect();
            stop.store(true, Ordering::Relaxed);
            ender.join().expect("who ends panicked")?;
            results.into_iter().collect()
        });
        if let Err(Stop::Failed(why)) = outcome {
            return fail(format!("{model:?}: {why}"));
        }
        outcome?;
        scene.expect_windows("at the end", 0)?;
        expect_seen(scene, "at the end", 0..PAGES)?;
    }
    Ok(())
}

/// How long to wait before the END of a round, so that it comes at any moment of what it meets.
fn wait_a_little(round: usize) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(40 * (round as u64 % 32)) {
        core::hint::spin_loop();
    }
}

const ROUNDS: usize = 64;

// Page tables are emptied long before mappings are closed: with more memory, the gap is longer.
fn exit_beside_end(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let ballast = vec![1_u8; 8 << 20];
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        for round in 0..ROUNDS {
            let (at, byte) = (round % PAGES * PAGE + round, round as u8 + 1);
            let (reader, writer) = rustix::pipe::pipe()?;
            scene.sync(START_WRITE, Region::Whole)?;
            let child = raw::fork(|| {
                let good = scene.mapping.write(at, &[byte]).is_ok()
                    && ballast[0] == 1
                    && rustix::io::write(&writer, &[1]).is_ok();
                i32::from(!good)
            })?;
            drop(writer);
            let told = rustix::io::read(&reader, &mut [0_u8])?;
            wait_a_little(round);
            scene.sync(END_WRITE, Region::Whole)?;
            let seen = scene.device_at(0, at)?;
            check!(
                child.wait()? == 0 && told == 1,
                "{model:?}: the child could not write"
            );
            check!(
                seen == [byte],
                "{model:?}: round {round}: the device sees {seen:?} where {byte} was written"
            );
            // Nor is it dropped by what comes after.
            scene.sync(START_WRITE, Region::Whole)?;
            let seen = scene.cpu_at(at)?;
            scene.sync(END_WRITE, Region::Whole)?;
            check!(
                seen == [byte],
                "{model:?}: round {round}: the CPU sees {seen:?} where it wrote {byte}"
            );
        }
    }
    Ok(())
}

fn munmap_beside_end(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer, model)?;
        for round in 0..ROUNDS {
            let page = round % (PAGES - 4);
            let byte = round as u8 + 1;
            let other = map(&scene, page, 5, RW)?;
            scene.sync(START_WRITE, Region::Whole)?;
            other.put(2 * PAGE, byte);
            let go = AtomicBool::new(false);
            let seen = thread::scope(|scope| {
                let unmaps = scope.spawn(|| {
                    go.store(true, Ordering::Release);
                    if round % 2 == 0 {
                        // Splits it, and leaves the ends.
                        other.cut(PAGE, 3 * PAGE)
                    } else {
                        other.cut(0, 5 * PAGE)
                    }
                });
                while !go.load(Ordering::Acquire) {
                    core::hint::spin_loop();
                }
                wait_a_little(round);
                scene.sync(END_WRITE, Region::Whole)?;
                let seen = scene.device_at(0, (page + 2) * PAGE)?;
                unmaps.join().expect("who unmaps panicked")?;
                Ok::<_, Stop>(seen)
            })?;
            check!(
                seen == [byte],
                "{model:?}: round {round}: the device sees {seen:?} where {byte} was written"
            );
        }
        // All that is gone is gone: what was written is known again.
        scene.sync(END_WRITE, Region::Whole)?;
        scene.sync(START_WRITE, Region::Whole)?;
        scene.mapping.write(PAGE, &[7])?;
        expect_pages(guest, &scene, model, "after that", 1)?;
    }
    Ok(())
}

// Who changes the protection of a page takes its entry away for a moment, with the bit in it.
fn protected_beside_end(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = scene(guest, &importer, MODELS[0])?;
    let other = map(&scene, 0, PAGES, RW)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| -> Outcome {
        let protects = scope.spawn(|| -> Result<(), Errno> {
            // It may be written all the time.
            for protection in [libc::PROT_WRITE, RW].into_iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                other.protect(protection)?;
            }
            Ok(())
        });
        let lost = (0..4000).try_for_each(|round: usize| -> Outcome {
            let byte = [1 + (round % 250) as u8];
            let at = round % PAGES * PAGE;
            scene.sync(START_WRITE, Region::Whole)?;
            other.put(at, byte[0]);
            scene.sync(END_WRITE, Region::Whole)?;
            let seen = scene.device_at(0, at)?;
            check!(
                seen == byte,
                "round {round}: the device sees {seen:?} where {byte:?} was written"
            );
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        protects.join().expect("who protects panicked")?;
        lost
    })
}

fn flag_and_state(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    let tracked = guest.buffer(SIZE, CreateFlags::TRACK_DIRTY)?;
    let info = cohbuf.info(&tracked)?;
    check!(
        info.flags == CreateFlags::TRACK_DIRTY && info.state == State::TRACKS_PAGES,
        "{info:?}"
    );
    let info = cohbuf.info(guest.bracketed(SIZE)?)?;
    check!(info.state == State::empty(), "without the flag: {info:?}");
    check!(
        cohbuf.caps()?.flags & u64::from(uapi::TRACK_DIRTY) != 0,
        "CAPS does not say it"
    );
    for other in [CreateFlags::COHERENT, CreateFlags::WRITE_COMBINE] {
        let made = cohbuf.create(SIZE as u64, CreateFlags::TRACK_DIRTY | other);
        fails_with(
            made.map_err(|error| error.errno()),
            Errno::INVAL,
            &format!("with {other:?}"),
        )?;
    }
    Ok(())
}
