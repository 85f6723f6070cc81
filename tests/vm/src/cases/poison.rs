// SPDX-License-Identifier: GPL-2.0

//! R10: a buffer that was poisoned. Nobody uses it any more, and nothing that is there breaks.

use cohbuf::uapi::Copy as CopyArg;
use cohbuf::{Access, CreateFlags};
use cohbuf_testdev::{Direction, TestDevice};
use rustix::io::Errno;

use crate::cases::copy;
use crate::cases::sync::sync;
use crate::check;
use crate::driver::{Driver, How, Sync};
use crate::enforced::{Died, KINDS, Outside, POISON, Scene, died, sync_bytes};
use crate::guest::{Guest, ModelReset, page};
use crate::harness::{Outcome, Stop, expect_eq, fails_with};
use crate::raw::{self, Map};

crate::guest_suite!("poison":
    read_outside_poisons,
    write_outside_poisons,
    write_in_a_read_window_poisons,
    sigbus_can_be_caught,
    system_calls_fault,
    everything_fails,
    open_windows_are_of_no_use,
    end_leaves_no_window,
    end_hands_over_what_was_written,
    importer_goes_on,
    map_fails_beside_one_that_goes_on,
    device_sync_fails_and_moves_nothing,
    copy_fails_and_changes_nothing,
    unmap_fetches,
    who_waits_gets_the_error,
);

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const READ: u64 = 1;
const WRITES: u64 = 2;
const END: u64 = 4;
const PAGES: usize = 40;

fn poisoned(reads: u64, writes: u64) -> Outside {
    Outside {
        reads,
        writes,
        poisoned: true,
    }
}

fn read_outside_poisons(guest: &Guest) -> Outcome {
    for kind in KINDS {
        let scene = Scene::new(guest, PAGES, POISON | kind)?;
        let child = raw::fork(|| i32::from(scene.read(9)))?;
        expect_eq("the child", died(child)?, Died::Sigbus)?;
        expect_eq("", scene.outside(guest)?, poisoned(1, 0))?;
        // Others as well, and nothing counts any more.
        let child = raw::fork(|| i32::from(scene.read(0)))?;
        expect_eq("another child", died(child)?, Died::Sigbus)?;
        expect_eq("", scene.outside(guest)?, poisoned(1, 0))?;
    }
    Ok(())
}

fn write_outside_poisons(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, POISON)?;
    let window = scene.window(Access::Write)?;
    scene.write(0, 1);
    window.end()?;
    let child = raw::fork(|| {
        scene.write(0, 2);
        0
    })?;
    expect_eq("the child", died(child)?, Died::Sigbus)?;
    expect_eq("", scene.outside(guest)?, poisoned(0, 1))
}

fn write_in_a_read_window_poisons(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, POISON)?;
    let child = raw::fork(|| {
        if sync(&scene.buffer, READ).is_err() || scene.read(0) != 0 {
            return 1;
        }
        scene.write(0, 2);
        0
    })?;
    expect_eq("the child", died(child)?, Died::Sigbus)?;
    expect_eq("", scene.outside(guest)?, poisoned(0, 1))
}

fn sigbus_can_be_caught(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, POISON)?;
    for _ in 0..2 {
        let child = raw::fork(|| {
            if raw::catch_sigbus().is_err() {
                return 1;
            }
            i32::from(scene.read(0))
        })?;
        expect_eq("the child", died(child)?, Died::Exit(raw::CAUGHT))?;
    }
    expect_eq("", scene.outside(guest)?, poisoned(1, 0))
}

fn system_calls_fault(guest: &Guest) -> Outcome {
    let (from, to) = rustix::pipe::pipe()?;
    let scene = Scene::new(guest, PAGES, POISON)?;
    fails_with(scene.map.send(0, 4, &to), Errno::FAULT, "write(2) from it")?;
    expect_eq("", scene.outside(guest)?, poisoned(1, 0))?;
    let scene = Scene::new(guest, PAGES, POISON)?;
    rustix::io::write(&to, b"pipe")?;
    fails_with(
        scene.map.receive(0, 4, &from),
        Errno::FAULT,
        "read(2) into it",
    )?;
    expect_eq("", scene.outside(guest)?, poisoned(0, 1))?;
    fails_with(scene.map.send(0, 4, &to), Errno::FAULT, "after that")?;
    expect_eq("", scene.outside(guest)?, poisoned(0, 1))
}

fn everything_fails(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for kind in KINDS {
        let scene = Scene::new(guest, PAGES, POISON | kind)?;
        // One that is fit for all kinds.
        let device = if kind == CreateFlags::WRITE_COMBINE && !guest.all_coherent() {
            TestDevice::NonCoherent
        } else {
            TestDevice::Coherent
        };
        let before = if guest.is_coherent(device) || kind != CreateFlags::COHERENT {
            match importer.attach(&scene.buffer, device, 0) {
                Ok(attachment) => Some(attachment),
                Err(refused) => return Err(refused.into()),
            }
        } else {
            None
        };
        scene.poison()?;
        for access in [READ, WRITES, READ | WRITES] {
            fails_with(sync(&scene.buffer, access), Errno::IO, "START")?;
            fails_with(sync(&scene.buffer, END | access), Errno::IO, "END")?;
            fails_with(
                sync_bytes(guest, &scene.buffer, access, 0, page()),
                Errno::IO,
                "START of a region",
            )?;
            fails_with(
                sync_bytes(guest, &scene.buffer, END | access, 0, page()),
                Errno::IO,
                "END of a region",
            )?;
        }
        for protection in [RW, libc::PROT_READ] {
            let map = Map::new(&scene.buffer, page(), protection, libc::MAP_SHARED, 0);
            fails_with(map.map(drop), Errno::IO, "mmap")?;
        }
        let refused = importer.attach(&scene.buffer, device, 0).map(drop);
        fails_with(refused.map_err(|r| r.errno), Errno::IO, "attach")?;
        if let Some(attachment) = before {
            fails_with(
                attachment.map(Direction::Bidirectional).map(drop),
                Errno::IO,
                "map",
            )?;
            attachment.detach()?;
        }
        let info = guest.device()?.info(&scene.buffer)?;
        check!(
            info.attachments == 0 && info.mappings == 0 && info.write_windows == 0,
            "{info:?}"
        );
        check!(info.flags == POISON | kind, "{info:?}");
    }
    Ok(())
}

/// Pages that were mapped in a window are taken away.
fn open_windows_are_of_no_use(guest: &Guest) -> Outcome {
    let scene = Scene::new(guest, PAGES, POISON)?;
    let (told, tell) = rustix::pipe::pipe()?;
    let (wait, go) = rustix::pipe::pipe()?;
    let child = raw::fork(|| {
        let run = || -> Result<(), Errno> {
            raw::catch_sigbus()?;
            sync(&scene.buffer, READ | WRITES)?;
            scene.write(0, 1);
            rustix::io::write(&tell, &[0])?;
            rustix::io::read(&wait, &mut [0_u8][..])?;
            scene.write(0, 2);
            Ok(())
        };
        i32::from(run().is_err())
    })?;
    rustix::io::read(&told, &mut [0_u8][..])?;
    scene.poison()?;
    rustix::io::write(&go, &[0])?;
    expect_eq("the child", died(child)?, Died::Exit(raw::CAUGHT))
}

fn end_leaves_no_window(guest: &Guest) -> Outcome {
    for kind in KINDS {
        let scene = Scene::new(guest, PAGES, POISON | kind)?;
        let windows =
            || -> Result<u32, Stop> { Ok(guest.device()?.info(&scene.buffer)?.write_windows) };
        sync(&scene.buffer, READ | WRITES)?;
        sync(&scene.buffer, WRITES)?;
        expect_eq("open", windows()?, 2)?;
        scene.poison()?;
        for left in [1, 0, 0] {
            fails_with(sync(&scene.buffer, END | WRITES), Errno::IO, "END")?;
            expect_eq("after END", windows()?, left)?;
        }
    }
    Ok(())
}

const MODELS: [TestDevice; 3] = [
    TestDevice::CacheModel,
    TestDevice::BounceModel,
    TestDevice::DirectModel,
];

/// What is in the caches must not go over a device's bytes later.
fn end_hands_over_what_was_written(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        importer.model().reset()?;
        let scene = Scene::new(guest, 1, POISON)?;
        let window = scene.window(Access::ReadWrite)?;
        scene.write(0, 1);
        let start = core::ptr::with_exposed_provenance_mut(scene.map.address());
        importer.model().track(start, page())?;
        let _reset = ModelReset(&importer);
        let device = importer.attach(&scene.buffer, model, 0)?;
        device.map(Direction::Bidirectional)?;
        scene.write(0, 7);
        scene.poison()?;
        fails_with(window.end().map_err(|e| e.errno()), Errno::IO, "END")?;
        let mut seen = [0];
        device.device_reads(0, &mut seen)?;
        check!(seen == [7], "{model:?}: the device sees {seen:?}");
        device.device_writes(0, &[8])?;
        importer.model().evict()?;
        device.device_reads(0, &mut seen)?;
        check!(seen == [8], "{model:?}: its byte is gone: {seen:?}");
        device.unmap()?;
    }
    Ok(())
}

fn importer_goes_on(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in [
        TestDevice::Edu,
        TestDevice::CacheModel,
        TestDevice::BounceModel,
        TestDevice::DirectModel,
    ] {
        importer.model().reset()?;
        let scene = Scene::new(guest, PAGES, POISON)?;
        let _reset = ModelReset(&importer);
        let device = importer.attach(&scene.buffer, model, 0)?;
        device.map(Direction::Bidirectional)?;
        device.device_writes(64, b"before")?;
        scene.poison()?;
        let mut seen = [0; 6];
        device.device_reads(64, &mut seen)?;
        check!(&seen == b"before", "{model:?}: {seen:?}");
        device.device_writes(64, b"after.")?;
        device.device_reads(64, &mut seen)?;
        check!(&seen == b"after.", "{model:?}: {seen:?}");
        let info = guest.device()?.info(&scene.buffer)?;
        check!(info.attachments == 1 && info.mappings == 1, "{info:?}");
        device.unmap()?;
        device.detach()?;
        let info = guest.device()?.info(&scene.buffer)?;
        check!(info.attachments == 0 && info.mappings == 0, "{info:?}");
    }
    Ok(())
}

/// Importers that have not mapped learn of it, while those that have see what they saw.
fn map_fails_beside_one_that_goes_on(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for model in [
        TestDevice::CacheModel,
        TestDevice::BounceModel,
        TestDevice::DirectModel,
        TestDevice::SnoopModel,
    ] {
        driver.reset()?;
        let scene = Scene::new(guest, 1, POISON)?;
        let how = |index, dynamic| How {
            index,
            dynamic,
            ..How::default()
        };
        let first = driver.attach(&scene.buffer, model, how(0, false))?;
        first.map(Direction::Bidirectional)?;
        first.writes(64, b"before")?;
        for dynamic in [false, true] {
            let second = driver.attach(&scene.buffer, model, how(1, dynamic))?;
            // It could.
            second.map(Direction::Bidirectional)?;
            second.unmap()?;
        }
        let late =
            [false, true].map(|dynamic| driver.attach(&scene.buffer, model, how(1, dynamic)));
        scene.poison()?;
        for second in late {
            let second = second?;
            for direction in [
                Direction::Bidirectional,
                Direction::ToDevice,
                Direction::FromDevice,
            ] {
                fails_with(second.map(direction), Errno::IO, "map")?;
            }
        }
        expect_eq(&format!("{model:?} sees"), first.reads(64)?, *b"before")?;
        first.writes(64, b"after.")?;
        expect_eq(&format!("{model:?} sees"), first.reads(64)?, *b"after.")?;
        let info = guest.device()?.info(&scene.buffer)?;
        check!(info.attachments == 1 && info.mappings == 1, "{info:?}");
        drop(first);
        driver.reset()?;
    }
    Ok(())
}

fn device_sync_fails_and_moves_nothing(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    driver.reset()?;
    let scene = Scene::new(guest, 1, POISON)?;
    let attach = |kind| driver.attach(&scene.buffer, kind, How::default());
    let (writer, reader) = (
        attach(TestDevice::BounceModel)?,
        attach(TestDevice::SnoopModel)?,
    );
    writer.map(Direction::Bidirectional)?;
    reader.map(Direction::ToDevice)?;
    for sync in Sync::ALL {
        writer.sync(sync)?;
    }
    writer.writes(0, b"dev0")?;
    let cost = guest.device()?.info(&scene.buffer)?.bytes_own_ops;
    scene.poison()?;
    for device in [&writer, &reader] {
        for sync in Sync::ALL {
            fails_with(device.sync(sync), Errno::IO, &format!("{sync:?}"))?;
        }
    }
    expect_eq("the other sees", reader.reads(0)?, [0; 4])?;
    expect_eq("it has", writer.reads(0)?, *b"dev0")?;
    let info = guest.device()?.info(&scene.buffer)?;
    expect_eq("bytes moved", info.bytes_own_ops, cost)?;
    drop((writer, reader));
    driver.reset()?;
    Ok(())
}

fn copy_fails_and_changes_nothing(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    importer.model().reset()?;
    let scene = Scene::new(guest, 4, POISON)?;
    let _reset = ModelReset(&importer);
    // It shows what the CPU may not see any more.
    let device = importer.attach(&scene.buffer, TestDevice::SnoopModel, 0)?;
    device.map(Direction::ToDevice)?;
    let was = copy::pattern(copy::size(), 1);
    let window = scene.window(Access::Write)?;
    scene.map.write(0, &was);
    window.end()?;
    let other = guest.bracketed(copy::size())?;
    let others = copy::pattern(copy::size(), 1000);
    copy::fill(&other, &others)?;
    // It works with these, both ways, before that.
    copy::copy(guest, &scene.buffer, &other, copy::linear(0, 0, 4))?;
    copy::fill(&other, &others)?;
    copy::copy(guest, &scene.buffer, &scene.buffer, copy::linear(0, 0, 4))?;

    scene.poison()?;
    let before = guest.device()?.info(&scene.buffer)?;
    for arg in [
        CopyArg::default(),
        copy::linear(100, 200, 1000),
        copy::rows((0, 100), (64, 200), 50, 10),
        // By way of a second copy, where both are one.
        copy::rows((0, 100), (20, 200), 50, 10),
    ] {
        for (src, dst) in [
            (&scene.buffer, &other),
            (&other, &scene.buffer),
            (&scene.buffer, &scene.buffer),
        ] {
            let arg = copy::between(src, dst, arg);
            let mut after = arg;
            fails_with(raw::copy(guest.device()?, &mut after), Errno::IO, "COPY")?;
            check!(after == arg, "it has written {after:?}");
        }
    }
    check!(copy::content(&other)? == others, "the other has changed");
    let mut seen = vec![0; was.len()];
    device.device_reads(0, &mut seen)?;
    check!(seen == was, "the poisoned one has changed");
    let info = guest.device()?.info(&scene.buffer)?;
    expect_eq("INFO", info, before)?;
    let info = guest.device()?.info(&other)?;
    check!(info.write_windows == 0, "{info:?}");
    Ok(())
}

/// An unmap brings what its device wrote to where another one sees it.
fn unmap_fetches(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    importer.model().reset()?;
    let scene = Scene::new(guest, 1, POISON)?;
    let _reset = ModelReset(&importer);
    let reader = importer.attach(&scene.buffer, TestDevice::SnoopModel, 0)?;
    reader.map(Direction::ToDevice)?;
    let writer = importer.attach(&scene.buffer, TestDevice::BounceModel, 0)?;
    writer.map(Direction::FromDevice)?;
    scene.poison()?;
    writer.device_writes(0, b"dev0")?;
    let mut seen = [0; 4];
    reader.device_reads(0, &mut seen)?;
    check!(seen == [0; 4], "there is no copy to fetch: {seen:?}");
    writer.unmap()?;
    reader.device_reads(0, &mut seen)?;
    check!(&seen == b"dev0", "it was not fetched: {seen:?}");
    reader.unmap()?;
    Ok(())
}

/// START that waits for a fence learns that the buffer was poisoned meanwhile.
fn who_waits_gets_the_error(guest: &Guest) -> Outcome {
    let Ok(vgem) = cohbuf_testdev::Vgem::open() else {
        return crate::harness::skip("this kernel has no vgem");
    };
    let scene = Scene::new(guest, 1, POISON)?;
    let import = match vgem.import(&scene.buffer) {
        Ok(import) => import,
        Err(errno) => return Err(errno.into()),
    };
    let fence = import.add_fence(true)?;
    let (told, tell) = rustix::pipe::pipe()?;
    let child = raw::fork(|| {
        let _ = rustix::io::write(&tell, &[0]);
        match sync(&scene.buffer, READ) {
            Err(Errno::IO) => 0,
            Ok(()) => 1,
            Err(_) => 2,
        }
    })?;
    rustix::io::read(&told, &mut [0_u8][..])?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    check!(child.poll()?.is_none(), "it does not wait for the fence");
    scene.poison()?;
    fence.signal()?;
    expect_eq("the child", died(child)?, Died::Exit(0))
}
