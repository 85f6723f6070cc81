// SPDX-License-Identifier: GPL-2.0

//! Map, unmap and device-side sync wait for fences, unless the importer does so itself (R6).

use std::thread;
use std::time::{Duration, Instant};

use cohbuf::Buffer;
use cohbuf_testdev::{Direction, TestDevice};
use rustix::io::Errno;

use crate::cases::fences::{PENDING, READ, Source, WRITES, end_of};
use crate::check;
use crate::driver::{Driver, How, Importer, Sync};
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, expect_eq, fails_with};
use crate::raw;

crate::guest_suite!("autofence":
    map_waits,
    map_for_a_reader_does_not_wait_for_readers,
    map_moves_bytes_after_the_job,
    unmap_waits,
    unmap_fetches_after_the_job,
    sync_waits,
    sync_does_not_wait_for_what_does_not_matter,
    sync_moves_bytes_after_the_job,
    off_waits_for_nobody,
    dynamic_importers_wait_by_themselves,
    bytes_told_apart_wait_in_any_case,
    unlocked_sync_keeps_nobody_waiting,
    handled_signal_interrupts,
    killed_while_it_waits,
);

const ON: How = How {
    index: 0,
    dynamic: false,
    autofence: None,
};

const OFF: How = How {
    index: 0,
    dynamic: false,
    autofence: Some(false),
};

/// What a device is to do later, in time for `PENDING`.
const LATER: u32 = PENDING.as_millis() as u32;

/// Models with ops of their own: what is late finds nothing, and does no harm.
const CARELESS: [TestDevice; 2] = [TestDevice::BounceModel, TestDevice::CacheModel];

fn directed(direction: Direction) -> impl Fn(&Importer<'_>) -> Result<(), Errno> {
    move |device| device.map(direction)
}

/// Whether `run` waits for a pending fence. It must be done soon after it has signalled.
fn waits(
    buffer: &Buffer,
    usage: u64,
    run: impl FnOnce() -> Result<(), Errno> + Send,
) -> Result<bool, Stop> {
    let source = Source::find()?;
    let fence = source.add_fence(buffer, usage)?;
    thread::scope(|scope| {
        let waiter = scope.spawn(run);
        thread::sleep(PENDING);
        let early = waiter.is_finished();
        fence.signal()?;
        waiter.join().expect("the waiter panicked")?;
        Ok(!early)
    })
}

fn map_waits(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for (direction, usage) in [
        (Direction::ToDevice, WRITES),
        (Direction::FromDevice, WRITES),
        (Direction::FromDevice, READ),
        (Direction::Bidirectional, WRITES),
        (Direction::Bidirectional, READ),
    ] {
        let buffer = guest.bracketed(page())?;
        let device = driver.attach(&buffer, TestDevice::SnoopModel, ON)?;
        let waited = waits(&buffer, usage, || directed(direction)(&device))?;
        check!(waited, "{direction:?} did not wait for usage {usage}");
    }
    Ok(())
}

fn map_for_a_reader_does_not_wait_for_readers(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let buffer = guest.bracketed(page())?;
    let device = driver.attach(&buffer, TestDevice::SnoopModel, ON)?;
    let waited = waits(&buffer, READ, || device.map(Direction::ToDevice))?;
    check!(!waited, "a reader waited for a reader");
    Ok(())
}

// To map copies the buffer out: not before what is to be seen was written.
fn map_moves_bytes_after_the_job(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for how in [ON, OFF] {
        driver.reset()?;
        let buffer = guest.bracketed(page())?;
        let writer = driver.attach(&buffer, TestDevice::SnoopModel, how)?;
        let reader = driver.attach(&buffer, TestDevice::BounceModel, how)?;
        writer.map(Direction::FromDevice)?;
        writer.writes_later(LATER, 0, b"late bts")?;
        reader.map(Direction::ToDevice)?;
        let must = if how.autofence == Some(false) {
            [0; 8]
        } else {
            *b"late bts"
        };
        expect_eq(&format!("{how:?}"), reader.reads(0)?, must)?;
        drop((writer, reader));
        driver.reset()?;
    }
    Ok(())
}

fn unmap_waits(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for (direction, usage, must) in [
        (Direction::ToDevice, WRITES, true),
        // Its own may be one of them.
        (Direction::ToDevice, READ, true),
        (Direction::FromDevice, WRITES, true),
        (Direction::FromDevice, READ, false),
        (Direction::Bidirectional, WRITES, true),
        (Direction::Bidirectional, READ, true),
    ] {
        let buffer = guest.bracketed(page())?;
        let device = driver.attach(&buffer, TestDevice::SnoopModel, ON)?;
        device.map(direction)?;
        let waited = waits(&buffer, usage, || device.unmap())?;
        check!(
            waited == must,
            "{direction:?}, usage {usage}: waited is {waited}"
        );
    }
    Ok(())
}

/// The driver unmaps while its device is at work; what the CPU sees after that.
fn after_unmap(
    guest: &Guest,
    driver: &Driver,
    kind: TestDevice,
    how: How,
) -> Result<(Duration, [u8; 8]), Stop> {
    driver.reset()?;
    let buffer = guest.bracketed(page())?;
    let mapping = buffer.map()?;
    let device = driver.attach(&buffer, kind, how)?;
    device.map(Direction::Bidirectional)?;
    let began = Instant::now();
    device.writes_later(LATER, 0, b"late bts")?;
    device.unmap_carelessly()?;
    let took = began.elapsed();
    let mut seen = [0; 8];
    mapping.read(0, &mut seen)?;
    // The job ends before the models forget.
    drop(device);
    driver.reset()?;
    Ok((took, seen))
}

fn unmap_fetches_after_the_job(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for kind in CARELESS {
        let (took, seen) = after_unmap(guest, &driver, kind, ON)?;
        check!(took >= PENDING / 2, "{kind:?}: unmap took {took:?}");
        check!(seen == *b"late bts", "{kind:?}: the CPU sees {seen:?}");
        // The control: whoever says that it waits by itself has to.
        let (took, seen) = after_unmap(guest, &driver, kind, OFF)?;
        check!(took < PENDING / 2, "{kind:?}, off: unmap took {took:?}");
        check!(seen == [0; 8], "{kind:?}, off: the CPU sees {seen:?}");

        // A device that reads must not be left with nothing to read either.
        let buffer = guest.bracketed(page())?;
        let device = driver.attach(&buffer, kind, ON)?;
        device.map(Direction::ToDevice)?;
        let began = Instant::now();
        device.reads_later(LATER)?;
        device.unmap_carelessly()?;
        let took = began.elapsed();
        check!(
            took >= PENDING / 2,
            "{kind:?}: unmap of a reader took {took:?}"
        );
        drop(device);
        driver.reset()?;
    }
    Ok(())
}

/// A fence that a sync has to wait for.
fn usage_for(sync: Sync) -> u64 {
    if sync.for_device { READ } else { WRITES }
}

fn sync_waits(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for sync in Sync::ALL {
        for usage in [WRITES, usage_for(sync)] {
            let buffer = guest.bracketed(page())?;
            let device = driver.attach(&buffer, TestDevice::SnoopModel, ON)?;
            device.map(Direction::Bidirectional)?;
            let waited = waits(&buffer, usage, || device.sync(sync))?;
            check!(waited, "{sync:?} did not wait for usage {usage}");
        }
    }
    // A device that reads waits for writers.
    for sync in Sync::ALL.into_iter().filter(|sync| sync.for_device) {
        let buffer = guest.bracketed(page())?;
        let device = driver.attach(&buffer, TestDevice::SnoopModel, ON)?;
        device.map(Direction::ToDevice)?;
        let waited = waits(&buffer, WRITES, || device.sync(sync))?;
        check!(waited, "{sync:?} of a reader did not wait");
    }
    Ok(())
}

fn sync_does_not_wait_for_what_does_not_matter(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for sync in Sync::ALL {
        let cases = if sync.for_device {
            // A reader does not wait for readers.
            vec![(Direction::ToDevice, READ)]
        } else {
            // Nor does who takes bytes over; and a reader has none.
            vec![
                (Direction::Bidirectional, READ),
                (Direction::FromDevice, READ),
                (Direction::ToDevice, WRITES),
            ]
        };
        for (direction, usage) in cases {
            let buffer = guest.bracketed(page())?;
            let device = driver.attach(&buffer, TestDevice::SnoopModel, ON)?;
            device.map(direction)?;
            let waited = waits(&buffer, usage, || device.sync(sync))?;
            check!(!waited, "{sync:?}, {direction:?} waited for usage {usage}");
        }
    }
    Ok(())
}

// One device writes late, another one is synced meanwhile: it must see it.
fn sync_moves_bytes_after_the_job(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for locked in [false, true] {
        for how in [ON, OFF] {
            driver.reset()?;
            let buffer = guest.bracketed(page())?;
            let mapping = buffer.map()?;
            let writer = driver.attach(&buffer, TestDevice::BounceModel, how)?;
            let second = How { index: 1, ..how };
            let reader = driver.attach(&buffer, TestDevice::BounceModel, second)?;
            writer.map(Direction::FromDevice)?;
            reader.map(Direction::ToDevice)?;
            writer.writes_later(LATER, 0, b"late bts")?;
            writer.sync(Sync {
                for_device: false,
                locked,
            })?;
            reader.sync(Sync {
                for_device: true,
                locked,
            })?;
            let mut cpu = [0; 8];
            mapping.read(0, &mut cpu)?;
            let must = if how.autofence == Some(false) {
                [0; 8]
            } else {
                *b"late bts"
            };
            let what = format!("locked: {locked}, {how:?}");
            expect_eq(&format!("{what}: the CPU"), cpu, must)?;
            expect_eq(&format!("{what}: the reader"), reader.reads(0)?, must)?;
            drop((writer, reader));
            driver.reset()?;
        }
    }
    Ok(())
}

/// Maps, syncs and unmaps beside a pending fence of a writer. Whether anything of it waited.
fn anything_waits(driver: &Driver, buffer: &Buffer, how: How) -> Result<bool, Stop> {
    let device = driver.attach(buffer, TestDevice::SnoopModel, how)?;
    waits(buffer, WRITES, || {
        device.map(Direction::Bidirectional)?;
        Sync::ALL
            .into_iter()
            .try_for_each(|sync| device.sync(sync))?;
        device.unmap()
    })
}

fn off_waits_for_nobody(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let buffer = guest.bracketed(page())?;
    check!(
        !anything_waits(&driver, &buffer, OFF)?,
        "it waited although it is off"
    );
    // It can be said later, and again.
    let device = driver.attach(&buffer, TestDevice::SnoopModel, OFF)?;
    device.map(Direction::Bidirectional)?;
    for on in [true, false, true] {
        device.set_autofence(on)?;
        let waited = waits(&buffer, WRITES, || device.sync(Sync::ALL[0]))?;
        check!(waited == on, "set to {on}: waited is {waited}");
    }
    Ok(())
}

fn dynamic_importers_wait_by_themselves(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for (autofence, must) in [(None, false), (Some(true), true), (Some(false), false)] {
        let buffer = guest.bracketed(page())?;
        let how = How {
            index: 0,
            dynamic: true,
            autofence,
        };
        let waited = anything_waits(&driver, &buffer, how)?;
        check!(waited == must, "{how:?}: waited is {waited}");
    }
    Ok(())
}

// Two copies that may be written: a device that writes while they are fetched would be lost, so that
// nobody can opt out.
fn bytes_told_apart_wait_in_any_case(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for sync in Sync::ALL {
        for usage in [READ, WRITES] {
            driver.reset()?;
            let buffer = guest.bracketed(page())?;
            let kind = TestDevice::BounceModel;
            let one = driver.attach(&buffer, kind, OFF)?;
            let other = driver.attach(&buffer, kind, How { index: 1, ..OFF })?;
            one.map(Direction::Bidirectional)?;
            let mapped = waits(&buffer, usage, || other.map(Direction::Bidirectional))?;
            check!(mapped, "map did not wait for usage {usage}");
            let synced = waits(&buffer, usage, || one.sync(sync))?;
            check!(synced, "{sync:?} did not wait for usage {usage}");
            let unmapped = waits(&buffer, usage, || other.unmap())?;
            check!(unmapped, "unmap did not wait for usage {usage}");
            // Now there is one writer. Its END forgets what it has kept to tell bytes apart.
            drop((one, other));
            driver.reset()?;
        }
    }
    Ok(())
}

/// What needs the reservation lock, and waits for no fence.
fn takes_the_lock(guest: &Guest, buffer: &Buffer) -> Result<Duration, Stop> {
    let began = Instant::now();
    guest.device()?.info(buffer)?;
    Ok(began.elapsed())
}

fn unlocked_sync_keeps_nobody_waiting(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for sync in Sync::ALL {
        let source = Source::find()?;
        let buffer = guest.bracketed(page())?;
        let device = driver.attach(&buffer, TestDevice::SnoopModel, ON)?;
        device.map(Direction::Bidirectional)?;
        let fence = source.add_fence(&buffer, WRITES)?;
        thread::scope(|scope| -> Outcome {
            let waiter = scope.spawn(|| device.sync(sync));
            thread::sleep(PENDING / 2);
            let other = scope.spawn(|| takes_the_lock(guest, &buffer));
            thread::sleep(PENDING);
            let kept = !other.is_finished();
            fence.signal()?;
            waiter.join().expect("the waiter panicked")?;
            other.join().expect("the other panicked")?;
            check!(kept == sync.locked, "{sync:?}: the lock was kept is {kept}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What can be interrupted.
const INTERRUPTIBLE: [Option<Sync>; 5] = [
    None,
    Some(Sync::ALL[0]),
    Some(Sync::ALL[1]),
    Some(Sync::ALL[2]),
    Some(Sync::ALL[3]),
];

/// Sends a signal to a child that waits for a fence to map, or else to sync.
fn interrupted(
    guest: &Guest,
    what: Option<Sync>,
    signal: i32,
    ends_well: impl FnOnce(i32) -> bool,
) -> Outcome {
    let driver = Driver::open()?;
    let source = Source::find()?;
    let buffer = guest.bracketed(page())?;
    let device = driver.attach(&buffer, TestDevice::SnoopModel, ON)?;
    if what.is_some() {
        device.map(Direction::Bidirectional)?;
    }
    let run = || match what {
        None => device.map(Direction::Bidirectional),
        Some(sync) => device.sync(sync),
    };
    let fence = source.add_fence(&buffer, WRITES)?;
    let child = raw::fork(|| match run() {
        Err(Errno::INTR) => 42,
        _ => 1,
    })?;
    thread::sleep(PENDING);
    check!(
        child.poll()?.is_none(),
        "{what:?} came back with the fence pending"
    );
    child.signal(signal)?;
    let status = end_of(&child)?;
    check!(
        ends_well(status),
        "{what:?}: the child ended with {status:#x}"
    );
    fence.signal()?;
    // Nothing is half done: the same works now.
    run()?;
    if what.is_none() {
        fails_with(
            device.map(Direction::Bidirectional),
            Errno::BUSY,
            "map of what is mapped",
        )?;
    }
    device.unmap()?;
    Ok(())
}

fn handled_signal_interrupts(guest: &Guest) -> Outcome {
    // Before the fork, so that the signal cannot come first.
    raw::let_signal_interrupt()?;
    for what in INTERRUPTIBLE {
        interrupted(guest, what, libc::SIGUSR1, |status| {
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42
        })?;
    }
    Ok(())
}

fn killed_while_it_waits(guest: &Guest) -> Outcome {
    for what in INTERRUPTIBLE {
        interrupted(guest, what, libc::SIGKILL, |status| {
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
        })?;
    }
    Ok(())
}
