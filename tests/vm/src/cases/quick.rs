// SPDX-License-Identifier: GPL-2.0

//! START and END of a buffer that no mapping needs maintenance of go without its lock: what comes
//! between them must see their windows all the same.

use std::time::Duration;

use cohbuf::{Access, Buffer, Mapping, Region, SyncCost};
use cohbuf_testdev::{Attachment, Direction, Importer, TestDevice};

use crate::cases::sync::sync;
use crate::check;
use crate::guest::{Guest, ModelReset, page};
use crate::harness::{Outcome, Stop};
use crate::raw;
use crate::scene::{END_WRITE, START_WRITE, request, sync_raw};

crate::guest_suite!("quick":
    mapped_in_a_window,
    mapped_after_windows,
    maintained_again,
    windows_are_counted,
    windows_of_others,
    killed_in_a_window,
    starts_race_with_maps,
);

const MODELS: [TestDevice; 5] = [
    TestDevice::CacheModel,
    TestDevice::BounceModel,
    TestDevice::DirectModel,
    TestDevice::SnoopModel,
    TestDevice::BouncedModel,
];

const READS: u64 = 1;
const WRITES: u64 = 2;
const ENDS: u64 = 4;

/// A buffer of a page, mapped by the CPU and tracked by the cache model. Its windows go without the
/// lock.
struct Scene<'a> {
    mapping: Mapping,
    _reset: ModelReset<'a>,
    buffer: Buffer,
}

fn scene<'a>(guest: &Guest, importer: &'a Importer) -> Result<Scene<'a>, Stop> {
    importer.model().reset()?;
    let buffer = guest.bracketed(page())?;
    let mapping = buffer.map()?;
    let _ = mapping.to_vec()?;
    importer.model().track(mapping.as_ptr(), page())?;
    settle(&buffer)?;
    Ok(Scene {
        mapping,
        _reset: ModelReset(importer),
        buffer,
    })
}

/// The first window takes the lock, those after it need not.
fn settle(buffer: &Buffer) -> Outcome {
    for _ in 0..3 {
        sync(buffer, WRITES)?;
        sync(buffer, WRITES | ENDS)?;
    }
    Ok(())
}

fn attach<'a>(
    importer: &'a Importer,
    buffer: &Buffer,
    model: TestDevice,
    index: u32,
) -> Result<Attachment<'a>, Stop> {
    let device = importer.attach(buffer, model, index)?;
    device.map(Direction::Bidirectional)?;
    Ok(device)
}

fn sees(device: &Attachment<'_>, at: u64, must: &[u8; 4], what: &str) -> Outcome {
    let mut seen = [0; 4];
    device.device_reads(at, &mut seen)?;
    check!(
        seen == *must,
        "{what}: the device sees {seen:?}, not {must:?}"
    );
    Ok(())
}

fn cpu_sees(mapping: &Mapping, at: usize, must: &[u8; 4], what: &str) -> Outcome {
    let mut seen = [0; 4];
    mapping.read(at, &mut seen)?;
    check!(seen == *must, "{what}: the CPU sees {seen:?}, not {must:?}");
    Ok(())
}

/// A device that comes in a window is handed what the CPU writes by the END, and no START takes it
/// away before.
fn mapped_in_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        sync(&scene.buffer, WRITES)?;
        scene.mapping.write(0, b"mine")?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        cpu_sees(&scene.mapping, 0, b"mine", &format!("{model:?}, mapped"))?;
        scene.mapping.write(4, b"more")?;
        for access in [READS, WRITES, READS | WRITES] {
            let case = format!("{model:?}, another window of {access}");
            sync(&scene.buffer, access)?;
            cpu_sees(&scene.mapping, 4, b"more", &case)?;
            sync(&scene.buffer, access | ENDS)?;
            cpu_sees(&scene.mapping, 4, b"more", &case)?;
        }
        scene.mapping.write(8, b"last")?;
        sync(&scene.buffer, WRITES | ENDS)?;
        let case = format!("{model:?}, ended");
        sees(&device, 0, b"mine", &case)?;
        sees(&device, 4, b"more", &case)?;
        sees(&device, 8, b"last", &case)?;
        device.device_writes(64, b"dev0")?;
        sync(&scene.buffer, READS)?;
        cpu_sees(&scene.mapping, 64, b"dev0", &format!("{model:?}, after it"))?;
        sync(&scene.buffer, READS | ENDS)?;
        device.unmap()?;
    }
    Ok(())
}

/// Windows that are closed are no windows: a device that comes may be written back and fetched.
fn mapped_after_windows(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        sync(&scene.buffer, WRITES)?;
        scene.mapping.write(0, b"mine")?;
        sync(&scene.buffer, WRITES | ENDS)?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        let case = format!("{model:?}");
        sees(&device, 0, b"mine", &case)?;
        device.device_writes(0, b"dev0")?;
        for access in [READS, WRITES] {
            sync(&scene.buffer, access)?;
            cpu_sees(&scene.mapping, 0, b"dev0", &format!("{model:?}, {access}"))?;
            sync(&scene.buffer, access | ENDS)?;
        }
        device.device_writes(0, b"dev1")?;
        device.unmap()?;
        cpu_sees(
            &scene.mapping,
            0,
            b"dev1",
            &format!("{model:?}, after unmap"),
        )?;
    }
    Ok(())
}

/// One device after the other, on the same buffer, with windows between without any: each is
/// maintained as if it were the first. Beside one that snoops, whose coming and going counts for
/// nothing.
fn maintained_again(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for beside in [false, true] {
        let scene = scene(guest, &importer)?;
        let snooping = match beside {
            true => Some(attach(&importer, &scene.buffer, TestDevice::SnoopModel, 1)?),
            false => None,
        };
        for round in 0..2u8 {
            for model in MODELS {
                let case = format!("{model:?}, beside {beside}, round {round}");
                settle(&scene.buffer)?;
                sync(&scene.buffer, WRITES)?;
                scene.mapping.write(0, &[b'a' + round; 4])?;
                sync(&scene.buffer, WRITES | ENDS)?;
                let device = attach(&importer, &scene.buffer, model, 0)?;
                sees(&device, 0, &[b'a' + round; 4], &case)?;
                device.device_writes(0, &[b'A' + round; 4])?;
                sync(&scene.buffer, READS | WRITES)?;
                cpu_sees(&scene.mapping, 0, &[b'A' + round; 4], &case)?;
                scene.mapping.write(128, &[b'0' + round; 4])?;
                sync(&scene.buffer, READS | WRITES | ENDS)?;
                sees(&device, 128, &[b'0' + round; 4], &case)?;
                device.unmap()?;
                // Nor is anything saved where nothing could be spent.
                for flags in [START_WRITE, END_WRITE] {
                    let whole = request(&scene.buffer, flags, Region::Whole);
                    let cost = sync_raw(&guest.device()?, &whole)?;
                    check!(cost == SyncCost::default(), "{case}, unmapped: {cost:?}");
                }
            }
        }
        if let Some(snooping) = snooping {
            sees(&snooping, 128, b"1111", "the one beside them")?;
            snooping.unmap()?;
        }
    }
    Ok(())
}

fn count(guest: &Guest, buffer: &Buffer) -> Result<u32, Stop> {
    Ok(guest.device()?.info(buffer)?.write_windows)
}

fn expect_count(guest: &Guest, buffer: &Buffer, must: u32, what: &str) -> Outcome {
    let is = count(guest, buffer)?;
    check!(is == must, "{what}: INFO says {is} windows, not {must}");
    Ok(())
}

fn windows_are_counted(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    settle(&buffer)?;
    expect_count(guest, &buffer, 0, "settled")?;
    settle(&buffer)?;
    sync(&buffer, WRITES)?;
    expect_count(guest, &buffer, 1, "one")?;
    sync(&buffer, WRITES | ENDS)?;
    expect_count(guest, &buffer, 0, "ended")?;
    settle(&buffer)?;
    for _ in 0..3 {
        sync(&buffer, WRITES)?;
    }
    expect_count(guest, &buffer, 3, "three")?;
    for _ in 0..3 {
        sync(&buffer, WRITES | ENDS)?;
    }
    expect_count(guest, &buffer, 0, "three ended")?;
    settle(&buffer)?;
    // Neither an END too many nor one that only read takes anything away.
    sync(&buffer, WRITES | ENDS)?;
    sync(&buffer, WRITES)?;
    sync(&buffer, READS | ENDS)?;
    expect_count(guest, &buffer, 1, "left")?;
    sync(&buffer, WRITES | ENDS)?;
    sync(&buffer, WRITES | ENDS)?;
    sync(&buffer, WRITES)?;
    expect_count(guest, &buffer, 1, "after one too many")?;
    Ok(sync(&buffer, WRITES | ENDS)?)
}

/// Runs a function in a child of its own address space.
fn in_child(run: impl FnOnce() -> Outcome) -> Outcome {
    let status = raw::fork(|| i32::from(run().is_err()))?.wait()?;
    check!(status == 0, "the child ends with {status:#x}");
    Ok(())
}

/// Nobody ends the window of another address space, and both have theirs.
fn windows_of_others(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    settle(&buffer)?;
    sync(&buffer, WRITES)?;
    in_child(|| Ok(sync(&buffer, WRITES | ENDS)?))?;
    expect_count(guest, &buffer, 1, "a child ended what it had not begun")?;
    sync(&buffer, WRITES | ENDS)?;

    settle(&buffer)?;
    sync(&buffer, WRITES)?;
    in_child(|| {
        sync(&buffer, WRITES)?;
        Ok(sync(&buffer, WRITES | ENDS)?)
    })?;
    expect_count(guest, &buffer, 1, "a child had one besides")?;
    sync(&buffer, WRITES | ENDS)?;
    expect_count(guest, &buffer, 0, "ended")?;

    settle(&buffer)?;
    in_child(|| Ok(sync(&buffer, WRITES)?))?;
    expect_count(guest, &buffer, 0, "a child left one")?;
    in_child(|| settle(&buffer))?;
    sync(&buffer, WRITES)?;
    expect_count(guest, &buffer, 1, "after a child")?;
    Ok(sync(&buffer, WRITES | ENDS)?)
}

/// The window of a process that is gone is gone as well, whether a device comes before that is
/// known or after.
fn killed_in_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        for asked in [false, true] {
            let case = format!("{model:?}, asked {asked}");
            let scene = scene(guest, &importer)?;
            let child = raw::fork(|| {
                if settle(&scene.buffer).is_err() || sync(&scene.buffer, WRITES).is_err() {
                    return 1;
                }
                if scene.mapping.write(0, b"dead").is_err() {
                    return 1;
                }
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            })?;
            // Nobody takes the lock to ask for windows.
            for _ in 0..500 {
                let mut seen = [0; 4];
                scene.mapping.read(0, &mut seen)?;
                if seen == *b"dead" {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            cpu_sees(&scene.mapping, 0, b"dead", &case)?;
            child.signal(libc::SIGKILL)?;
            child.wait()?;
            if asked {
                expect_count(guest, &scene.buffer, 0, &case)?;
            }
            let device = attach(&importer, &scene.buffer, model, 0)?;
            device.device_writes(0, b"dev0")?;
            importer.model().evict()?;
            sync(&scene.buffer, READS)?;
            cpu_sees(&scene.mapping, 0, b"dev0", &case)?;
            sync(&scene.buffer, READS | ENDS)?;
            expect_count(guest, &scene.buffer, 0, &case)?;
            device.unmap()?;
        }
    }
    Ok(())
}

/// A thread opens and closes windows while devices come and go: at the end none is left, and each
/// device has seen what was written before it came.
fn starts_race_with_maps(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let ran = std::thread::scope(|scope| -> Outcome {
        let windows = scope.spawn(|| -> Result<u64, cohbuf::Error> {
            let mut done = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                buffer.cpu_access(Access::Write)?.end()?;
                done += 1;
            }
            Ok(done)
        });
        let mapped = (0..200).try_for_each(|_| -> Outcome {
            let device = attach(&importer, &buffer, TestDevice::DirectModel, 0)?;
            device.unmap()?;
            Ok(())
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let done = windows
            .join()
            .map_err(|_| Stop::Failed("a thread has died".into()))??;
        mapped?;
        check!(done > 0, "no window was opened");
        Ok(())
    });
    ran?;
    expect_count(guest, &buffer, 0, "at the end")
}
