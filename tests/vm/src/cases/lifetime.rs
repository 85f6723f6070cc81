// SPDX-License-Identifier: GPL-2.0

//! The module cannot go while a buffer lives, or its device is open. The heaps cannot go at all, and do not keep it.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use super::heaps::{self, HEAPS, kernel_has_heaps};
use crate::check;
use crate::guest::{Guest, exists, page};
use crate::harness::{Outcome, Stop, fail, fails_with};
use crate::raw::{delete_module, load_module};
use crate::traced::BUFFERS;

crate::guest_suite!("lifetime":
    rmmod_is_refused_while_a_buffer_lives,
    rmmod_is_refused_while_the_device_is_open,
    rmmod_is_refused_while_debugfs_is_open,
    device_while_the_module_comes_and_goes,
    heaps_stay_without_buffers,
    heaps_while_the_module_comes_and_goes,
);

fn rmmod_is_refused_while_a_buffer_lives(guest: &Guest) -> Outcome {
    fails_with(
        delete_module(c"cohbuf"),
        Errno::AGAIN,
        "rmmod under a driver that uses what it exports",
    )?;
    delete_module(c"cohbuf_driver")?;
    let buffer = guest.bracketed(page())?;
    fails_with(
        delete_module(c"cohbuf"),
        Errno::AGAIN,
        "rmmod with a buffer",
    )?;
    let mapping = buffer.map()?;
    drop(buffer);
    fails_with(
        delete_module(c"cohbuf"),
        Errno::AGAIN,
        "rmmod with a mapping",
    )?;
    drop(mapping);
    delete_module(c"cohbuf")?;
    let gone = !std::path::Path::new(cohbuf::Device::PATH).exists();
    load_module(File::open("/modules/cohbuf.ko")?)?;
    load_module(File::open("/modules/cohbuf_driver.ko")?)?;
    check!(gone, "the device node stays");
    guest.bracketed(page())?;
    Ok(())
}

fn load() -> Outcome {
    Ok(load_module(File::open("/modules/cohbuf.ko")?)?)
}

/// Runs a test without the driver that keeps cohbuf.ko. Both are there again after it.
fn without_driver(test: impl FnOnce() -> Outcome) -> Outcome {
    delete_module(c"cohbuf_driver")?;
    let result = test();
    if !exists(cohbuf::Device::PATH) {
        load()?;
    }
    load_module(File::open("/modules/cohbuf_driver.ko")?)?;
    result
}

fn rmmod_is_refused_while_the_device_is_open(_guest: &Guest) -> Outcome {
    without_driver(|| {
        let first = cohbuf::Device::open()?;
        fails_with(
            delete_module(c"cohbuf"),
            Errno::AGAIN,
            "rmmod with the device open",
        )?;
        let second = cohbuf::Device::open()?;
        drop(first);
        fails_with(
            delete_module(c"cohbuf"),
            Errno::AGAIN,
            "rmmod with the device open still",
        )?;
        second.caps()?;
        drop(second);
        Ok(delete_module(c"cohbuf")?)
    })
}

/// Who closes the file calls into the module.
fn rmmod_is_refused_while_debugfs_is_open(_guest: &Guest) -> Outcome {
    without_driver(|| {
        let file = File::open(BUFFERS)?;
        fails_with(
            delete_module(c"cohbuf"),
            Errno::AGAIN,
            "rmmod with the file open",
        )?;
        drop(file);
        delete_module(c"cohbuf")?;
        check!(!exists(BUFFERS), "the file stays");
        Ok(())
    })
}

/// Whoever opens the device has the module, or nothing.
fn device_while_the_module_comes_and_goes(_guest: &Guest) -> Outcome {
    without_driver(|| {
        let stop = AtomicBool::new(false);
        let open = || -> Result<(u32, u32), Stop> {
            let mut counts = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(500));
                match cohbuf::Device::open() {
                    Ok(device) => {
                        device.caps()?;
                        counts.0 += 1;
                    }
                    Err(error)
                        if [Errno::NODEV, Errno::NOENT, Errno::NXIO].contains(&error.errno()) =>
                    {
                        counts.1 += 1;
                    }
                    Err(error) => return fail(format!("open: {error}")),
                }
            }
            Ok(counts)
        };
        let (result, counts) = std::thread::scope(|scope| {
            let thread = scope.spawn(open);
            let result = unload_and_load();
            stop.store(true, Ordering::Relaxed);
            (result, thread.join())
        });
        result?;
        let Ok(counts) = counts else {
            return fail("a thread panicked");
        };
        let (opened, without) = counts?;
        check!(
            opened > 0 && without > 0,
            "{opened} times open, {without} times without the module"
        );
        Ok(())
    })
}

fn heaps_stay_without_buffers(_guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    fails_with(
        delete_module(c"cohbuf_heaps"),
        Errno::BUSY,
        "rmmod of the heaps",
    )?;
    without_driver(unload_under_heaps)
}

fn unload_under_heaps() -> Outcome {
    for (heap, _) in HEAPS {
        let buffer = heaps::allocate(heap, page())?;
        fails_with(
            delete_module(c"cohbuf"),
            Errno::AGAIN,
            "rmmod with a buffer of a heap",
        )?;
        drop(buffer);
        delete_module(c"cohbuf")?;
        let stays = exists(&heaps::path(heap));
        let without = heaps::request(heap, page());
        load()?;
        check!(stays, "{heap} is gone");
        fails_with(without.map(drop), Errno::NODEV, "a heap without cohbuf.ko")?;
        heaps::allocate(heap, page())?;
    }
    Ok(())
}

/// An allocation finds the module or not, and nothing in between; a module that it has found stays.
fn heaps_while_the_module_comes_and_goes(_guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    without_driver(come_and_go)
}

fn unload_and_load() -> Outcome {
    for _ in 0..8 {
        loop {
            match delete_module(c"cohbuf") {
                Ok(()) => break,
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(errno) => return fail(format!("rmmod: {errno}")),
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        load()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn come_and_go() -> Outcome {
    let stop = AtomicBool::new(false);
    let allocate = |heap: &str| -> Result<(u32, u32), Stop> {
        let mut counts = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            // Long enough for a moment without any buffer.
            std::thread::sleep(Duration::from_micros(500));
            match heaps::request(heap, page()) {
                Ok(_) => counts.0 += 1,
                Err(Errno::NODEV) => counts.1 += 1,
                Err(errno) => return fail(format!("{heap}: {errno}")),
            }
        }
        Ok(counts)
    };
    let (result, counts) = std::thread::scope(|scope| {
        let threads = [HEAPS[0].0, HEAPS[3].0].map(|heap| scope.spawn(|| allocate(heap)));
        let result = unload_and_load();
        stop.store(true, Ordering::Relaxed);
        (result, threads.map(|thread| thread.join()))
    });
    result?;
    for count in counts {
        let Ok(count) = count else {
            return fail("a thread panicked");
        };
        let (made, without) = count?;
        check!(
            made > 0 && without > 0,
            "{made} allocations, {without} without the module"
        );
    }
    Ok(())
}
