// SPDX-License-Identifier: GPL-2.0

//! R8 on the models: while a write window is open, no other START and no unmap may take away what
//! the CPU is writing; and a process that dies in the middle leaves nothing behind that could.

use std::time::Duration;

use cohbuf::{Access, Buffer, CreateFlags, FdFlags, Mapping};
use cohbuf_testdev::{Attachment, Counts, Direction, Importer, TestDevice};
use rustix::io::Errno;

use crate::cases::sync::sync;
use crate::check;
use crate::guest::{Guest, ModelReset, page};
use crate::harness::{Outcome, Stop, fails_with, skip};
use crate::raw;

crate::guest_suite!("windows":
    start_beside_a_window,
    start_beside_a_window_costs_nothing,
    snooping_device_mapped_last,
    copy_without_news_leaves_no_line,
    unmap_beside_a_window,
    map_beside_a_window,
    end_beside_a_window,
    nested_windows,
    killed_in_a_window,
    killed_after_munmap,
    windows_are_counted,
    read_only_buffer_has_no_windows,
    read_windows_do_not_count,
);

pub(super) const MODELS: [TestDevice; 5] = [
    TestDevice::CacheModel,
    TestDevice::BounceModel,
    TestDevice::DirectModel,
    TestDevice::SnoopModel,
    TestDevice::BouncedModel,
];

const WRITES: u64 = 2;

/// A buffer of a page, mapped by the CPU and tracked by the cache model.
pub(super) struct Scene<'a> {
    pub(super) mapping: Mapping,
    _reset: ModelReset<'a>,
    pub(super) buffer: Buffer,
}

pub(super) fn scene<'a>(guest: &Guest, importer: &'a Importer) -> Result<Scene<'a>, Stop> {
    importer.model().reset()?;
    let buffer = guest.bracketed(page())?;
    let mapping = buffer.map()?;
    let _ = mapping.to_vec()?;
    importer.model().track(mapping.as_ptr(), page())?;
    Ok(Scene {
        mapping,
        _reset: ModelReset(importer),
        buffer,
    })
}

pub(super) fn attach<'a>(
    importer: &'a Importer,
    buffer: &Buffer,
    model: TestDevice,
    index: u32,
) -> Result<Attachment<'a>, Stop> {
    let device = importer.attach(buffer, model, index)?;
    device.map(Direction::Bidirectional)?;
    Ok(device)
}

fn sees(device: &Attachment<'_>, at: u64) -> Result<[u8; 4], Stop> {
    let mut seen = [0; 4];
    device.device_reads(at, &mut seen)?;
    Ok(seen)
}

fn cpu(mapping: &Mapping, at: usize) -> Result<[u8; 4], Stop> {
    let mut seen = [0; 4];
    mapping.read(at, &mut seen)?;
    Ok(seen)
}

fn start_beside_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        device.device_writes(64, b"dev0")?;
        let window = scene.buffer.cpu_access(Access::Write)?;
        scene.mapping.write(0, b"mine")?;
        for access in [Access::Read, Access::Write, Access::ReadWrite] {
            let other = scene.buffer.cpu_access(access)?;
            check!(
                cpu(&scene.mapping, 0)? == *b"mine",
                "{model:?}: {access:?} lost a byte"
            );
            check!(
                cpu(&scene.mapping, 64)? == *b"dev0",
                "{model:?}: {access:?} lost the device's"
            );
            other.end()?;
            check!(
                cpu(&scene.mapping, 0)? == *b"mine",
                "{model:?}: END of {access:?} lost a byte"
            );
        }
        scene.mapping.write(4, b"more")?;
        window.end()?;
        check!(
            sees(&device, 0)? == *b"mine",
            "{model:?}: the device does not see it"
        );
        check!(
            sees(&device, 4)? == *b"more",
            "{model:?}: the device does not see the rest"
        );
        check!(
            sees(&device, 64)? == *b"dev0",
            "{model:?}: the device's own is lost"
        );
        device.unmap()?;
    }
    Ok(())
}

/// Nothing is moved either way, which a writer in parallel would lose bytes by.
fn start_beside_a_window_costs_nothing(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        let first = attach(&importer, &scene.buffer, model, 0)?;
        let second = attach(&importer, &scene.buffer, model, 1)?;
        let window = scene.buffer.cpu_access(Access::Write)?;
        scene.mapping.write(0, b"mine")?;
        importer.model().zero_counts()?;
        scene.buffer.cpu_access(Access::Read)?.end()?;
        let counts = importer.model().counts()?;
        check!(counts == Counts::default(), "{model:?}: {counts:?}");
        window.end()?;
        first.unmap()?;
        second.unmap()?;
    }
    Ok(())
}

/// To map for a direct device has cleaned all; a device that snoops is dirty again from then on.
fn snooping_device_mapped_last(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    // Where direct devices snoop as well, the other one is what there is past the caches.
    for model in [TestDevice::DirectModel, TestDevice::CacheModel] {
        let scene = scene(guest, &importer)?;
        let past = attach(&importer, &scene.buffer, model, 0)?;
        let snoops = attach(&importer, &scene.buffer, TestDevice::SnoopModel, 0)?;
        snoops.device_writes(0, b"snop")?;
        let window = scene.buffer.cpu_access(Access::Read)?;
        check!(
            cpu(&scene.mapping, 0)? == *b"snop",
            "{model:?}: an invalidate dropped it"
        );
        window.end()?;
        snoops.unmap()?;
        past.unmap()?;
    }
    Ok(())
}

/// To fetch a copy dirties lines, be there news in it or not: they must not stay under a device
/// that may be past the caches.
fn copy_without_news_leaves_no_line(guest: &Guest) -> Outcome {
    if !guest.swiotlb {
        return skip("nothing is bounced in this boot");
    }
    let importer = guest.importer()?;
    let scene = scene(guest, &importer)?;
    let bounced = attach(&importer, &scene.buffer, TestDevice::BouncedModel, 0)?;
    let cache = attach(&importer, &scene.buffer, TestDevice::CacheModel, 0)?;
    scene.buffer.cpu_access(Access::Read)?.end()?;
    importer.model().zero_counts()?;
    scene.buffer.cpu_access(Access::Read)?.end()?;
    let counts = importer.model().counts()?;
    check!(counts.clean_bytes == page() as u64, "{counts:?}");
    cache.unmap()?;
    bounced.unmap()?;
    Ok(())
}

fn unmap_beside_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        let first = attach(&importer, &scene.buffer, model, 0)?;
        let second = attach(&importer, &scene.buffer, model, 1)?;
        first.device_writes(64, b"dev0")?;
        let window = scene.buffer.cpu_access(Access::Write)?;
        scene.mapping.write(0, b"mine")?;
        first.unmap()?;
        check!(
            cpu(&scene.mapping, 0)? == *b"mine",
            "{model:?}: an unmap lost a byte"
        );
        window.end()?;
        check!(
            sees(&second, 0)? == *b"mine",
            "{model:?}: the other device does not see it"
        );
        check!(
            sees(&second, 64)? == *b"dev0",
            "{model:?}: what the first wrote is lost"
        );
        second.unmap()?;
        // Nobody is mapped any more; nothing is lost either.
        let window = scene.buffer.cpu_access(Access::Read)?;
        check!(
            cpu(&scene.mapping, 0)? == *b"mine",
            "{model:?}: lost after the last unmap"
        );
        window.end()?;
    }
    Ok(())
}

fn map_beside_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        for before in MODELS {
            let scene = scene(guest, &importer)?;
            let other = attach(&importer, &scene.buffer, before, 1)?;
            other.device_writes(64, b"dev1")?;
            let window = scene.buffer.cpu_access(Access::Write)?;
            scene.mapping.write(0, b"mine")?;
            let case = format!("{model:?} beside {before:?}");
            let own_ops = [TestDevice::CacheModel, TestDevice::BounceModel];
            if model != before && own_ops.contains(&model) && own_ops.contains(&before) {
                // Ops of two kinds are told apart by nobody.
                let device = importer.attach(&scene.buffer, model, 0)?;
                fails_with(device.map(Direction::Bidirectional), Errno::BUSY, &case)?;
                check!(
                    cpu(&scene.mapping, 0)? == *b"mine",
                    "{case}: a refusal lost a byte"
                );
                device.map(Direction::ToDevice)?;
                continue;
            }
            let device = attach(&importer, &scene.buffer, model, 0)?;
            check!(
                cpu(&scene.mapping, 0)? == *b"mine",
                "{case}: a map lost a byte"
            );
            scene.mapping.write(4, b"more")?;
            window.end()?;
            check!(
                sees(&device, 4)? == *b"more",
                "{case}: the new device does not see all"
            );
            check!(
                sees(&other, 4)? == *b"more",
                "{case}: the old device does not see all"
            );
            check!(
                sees(&device, 64)? == *b"dev1",
                "{case}: what the old one wrote is lost"
            );
            device.device_writes(128, b"dev0")?;
            let window = scene.buffer.cpu_access(Access::Read)?;
            check!(
                cpu(&scene.mapping, 128)? == *b"dev0",
                "{case}: the CPU sees stale bytes"
            );
            check!(
                cpu(&scene.mapping, 0)? == *b"mine",
                "{case}: the CPU lost its own"
            );
            window.end()?;
            device.unmap()?;
            other.unmap()?;
        }
    }
    Ok(())
}

fn end_beside_a_window(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        let window = scene.buffer.cpu_access(Access::Write)?;
        scene.mapping.write(0, b"mine")?;
        // Another process's bracket. What it wrote is the device's at its END.
        let child = raw::fork(|| {
            let run = || -> Result<(), Stop> {
                let own = scene.buffer.cpu_access(Access::Write)?;
                scene.mapping.write(64, b"kid0")?;
                own.end()?;
                Ok(())
            };
            i32::from(run().is_err())
        })?;
        check!(child.wait()? == 0, "{model:?}: the child failed");
        check!(
            sees(&device, 64)? == *b"kid0",
            "{model:?}: END did not bring it to the device"
        );
        check!(
            cpu(&scene.mapping, 0)? == *b"mine",
            "{model:?}: END of another lost a byte"
        );
        window.end()?;
        check!(
            sees(&device, 0)? == *b"mine",
            "{model:?}: the device does not see it"
        );
        device.unmap()?;
    }
    Ok(())
}

fn nested_windows(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        let outer = scene.buffer.cpu_access(Access::ReadWrite)?;
        let inner = scene.buffer.cpu_access(Access::Write)?;
        scene.mapping.write(0, b"in00")?;
        inner.end()?;
        // The outer window is open still.
        scene.mapping.write(64, b"out0")?;
        scene.buffer.cpu_access(Access::Read)?.end()?;
        check!(
            cpu(&scene.mapping, 64)? == *b"out0",
            "{model:?}: lost in the outer window"
        );
        outer.end()?;
        check!(
            sees(&device, 64)? == *b"out0",
            "{model:?}: the device does not see it"
        );
        device.device_writes(64, b"dev0")?;
        let window = scene.buffer.cpu_access(Access::Read)?;
        check!(
            cpu(&scene.mapping, 64)? == *b"dev0",
            "{model:?}: stale after nested windows"
        );
        window.end()?;
        device.unmap()?;
    }
    Ok(())
}

/// Runs a child that begins a window, writes, and then waits to be killed.
fn killed(guest: &Guest, prepare: impl Fn(&Scene<'_>) -> Result<(), Stop>) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        let child = raw::fork(|| {
            if prepare(&scene).is_err() {
                return 1;
            }
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        })?;
        // Until its window shows.
        let info = || guest.device()?.info(&scene.buffer).map_err(Stop::from);
        for _ in 0..500 {
            if info()?.write_windows == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        check!(
            info()?.write_windows == 1,
            "{model:?}: the child has no window"
        );
        child.signal(libc::SIGKILL)?;
        child.wait()?;
        check!(
            info()?.write_windows == 0,
            "{model:?}: the window outlives its process"
        );
        // What the dead wrote must not go over the device later.
        device.device_writes(0, b"dev0")?;
        importer.model().evict()?;
        let window = scene.buffer.cpu_access(Access::Read)?;
        check!(
            cpu(&scene.mapping, 0)? == *b"dev0",
            "{model:?}: the dead went over the device"
        );
        window.end()?;
        device.unmap()?;
    }
    Ok(())
}

fn killed_in_a_window(guest: &Guest) -> Outcome {
    killed(guest, |scene| {
        scene.mapping.write(0, &[0; 4])?;
        sync(&scene.buffer, WRITES)?;
        scene.mapping.write(0, b"dead")?;
        Ok(())
    })
}

fn killed_after_munmap(guest: &Guest) -> Outcome {
    killed(guest, |scene| {
        let own = scene.buffer.map()?;
        sync(&scene.buffer, WRITES)?;
        own.write(0, b"dead")?;
        drop(own);
        Ok(())
    })
}

fn windows_are_counted(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    let count = || -> Result<u32, Stop> { Ok(guest.device()?.info(&buffer)?.write_windows) };
    check!(count()? == 0, "a new buffer has a window");
    let first = buffer.cpu_access(Access::Write)?;
    let second = buffer.cpu_access(Access::ReadWrite)?;
    check!(count()? == 2, "two are open, INFO says {}", count()?);
    first.end()?;
    check!(count()? == 1, "one is open, INFO says {}", count()?);
    second.end()?;
    check!(count()? == 0, "none is open, INFO says {}", count()?);
    // An END too many is none.
    sync(&buffer, 4 | WRITES)?;
    check!(count()? == 0, "an END too many counts");
    for flags in [
        cohbuf::CreateFlags::COHERENT,
        cohbuf::CreateFlags::WRITE_COMBINE,
    ] {
        let other = guest.buffer(page(), flags)?;
        let _window = other.cpu_access(Access::Write)?;
        let windows = guest.device()?.info(&other)?.write_windows;
        check!(
            windows == 0,
            "{flags:?} has no windows, INFO says {windows}"
        );
    }
    Ok(())
}

/// Who cannot map the buffer to write has no window, and takes nothing from others.
fn read_only_buffer_has_no_windows(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let buffer = device.create_with(page() as u64, CreateFlags::empty(), FdFlags::CLOEXEC)?;
    sync(&buffer, WRITES)?;
    let windows = device.info(&buffer)?.write_windows;
    check!(windows == 0, "INFO says {windows}");
    Ok(())
}

fn read_windows_do_not_count(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let scene = scene(guest, &importer)?;
        let device = attach(&importer, &scene.buffer, model, 0)?;
        let _open = scene.buffer.cpu_access(Access::Read)?;
        device.device_writes(0, b"dev0")?;
        let again = scene.buffer.cpu_access(Access::Read)?;
        check!(
            cpu(&scene.mapping, 0)? == *b"dev0",
            "{model:?}: a READ window kept it stale"
        );
        again.end()?;
        device.unmap()?;
    }
    Ok(())
}
