// SPDX-License-Identifier: GPL-2.0

//! Device-side sync (R7): devices that stay mapped hand a buffer to each other and to the CPU. On the
//! models, on which a sync that is missing shows old bytes.

use cohbuf::{Access, Buffer, CreateFlags, Mapping};
use cohbuf_testdev::{Direction, TestDevice, system_heap, udmabuf};
use rustix::io::Errno;

use crate::check;
use crate::driver::{Driver, How, Importer, Sync};
use crate::guest::{Guest, has_noncoherent, page};
use crate::harness::{Outcome, Stop, expect_eq, fails_with, skip};

crate::guest_suite!("device_sync":
    without_it_bytes_are_stale,
    device_to_device,
    device_to_cpu,
    cpu_to_device,
    several_writers_at_once,
    beside_a_window,
    reader_has_nothing_for_the_cpu,
    coherent_and_write_combined_cost_nothing,
    table_must_be_of_the_attachment,
    other_exporters,
);

const MODELS: [TestDevice; 6] = [
    TestDevice::BounceModel,
    TestDevice::CacheModel,
    TestDevice::CacheModelMerged,
    TestDevice::DirectModel,
    TestDevice::SnoopModel,
    TestDevice::BouncedModel,
];

/// More than one chunk of memory.
const PAGES: usize = 19;

const LINE: usize = 64;

/// In the first page, in another chunk, and in the last.
fn places() -> [usize; 3] {
    [0, 17 * page() + 3 * LINE, PAGES * page() - LINE]
}

/// A buffer that the CPU has mapped and the cache model tracks.
struct Scene<'a> {
    mapping: Mapping,
    _forget: Forget<'a>,
    buffer: Buffer,
}

/// Has the models forget their pages, when the devices are gone and before the buffer goes.
struct Forget<'a>(&'a Driver);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        // Whoever begins with a reset learns of what is left mapped.
        let _ = self.0.reset();
    }
}

impl<'a> Scene<'a> {
    fn new(guest: &Guest, driver: &'a Driver) -> Result<Self, Stop> {
        driver.reset()?;
        let buffer = guest.bracketed(PAGES * page())?;
        let mapping = buffer.map()?;
        // What is tracked must be there.
        let _ = mapping.to_vec()?;
        driver.track(mapping.as_ptr(), mapping.len())?;
        Ok(Self {
            mapping,
            _forget: Forget(driver),
            buffer,
        })
    }

    fn attach(
        &self,
        driver: &'a Driver,
        kind: TestDevice,
        index: u32,
    ) -> Result<Importer<'a>, Stop> {
        let how = How {
            index,
            ..How::default()
        };
        driver.attach(&self.buffer, kind, how)
    }

    fn cpu(&self, at: usize) -> Result<[u8; 8], Stop> {
        let mut seen = [0; 8];
        self.mapping.read(at, &mut seen)?;
        Ok(seen)
    }
}

/// Where a device finds the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// Behind the CPU caches.
    Behind,
    /// As the CPU sees them.
    Cached,
    /// In a copy of its own.
    Copy,
}

fn memory(guest: &Guest, kind: TestDevice) -> Memory {
    match kind {
        TestDevice::CacheModel | TestDevice::CacheModelMerged => Memory::Behind,
        TestDevice::DirectModel if has_noncoherent() => Memory::Behind,
        TestDevice::BounceModel => Memory::Copy,
        TestDevice::BouncedModel if guest.swiotlb => Memory::Copy,
        _ => Memory::Cached,
    }
}

/// Whether two devices see each other's bytes without any sync.
fn share(guest: &Guest, one: TestDevice, other: TestDevice) -> bool {
    let memory = [memory(guest, one), memory(guest, other)];
    memory[0] == memory[1] && memory[0] != Memory::Copy
}

/// Ops of their own of two kinds cannot both write: `EBUSY`.
fn both_may_write(one: TestDevice, other: TestDevice) -> bool {
    let bounce = |kind| kind == TestDevice::BounceModel;
    let cache = |kind| matches!(kind, TestDevice::CacheModel | TestDevice::CacheModelMerged);
    !(bounce(one) && cache(other) || cache(one) && bounce(other))
}

/// Maps both so that the first writes and the second reads, and where they can, both do both.
fn each_pair(
    guest: &Guest,
    mut run: impl FnMut(&Scene<'_>, [TestDevice; 2], [&Importer<'_>; 2], bool) -> Outcome,
) -> Outcome {
    let driver = Driver::open()?;
    for one in MODELS {
        for other in MODELS {
            for both in [false, true] {
                if both && !both_may_write(one, other) {
                    continue;
                }
                let directions = if both {
                    [Direction::Bidirectional; 2]
                } else {
                    [Direction::FromDevice, Direction::ToDevice]
                };
                let scene = Scene::new(guest, &driver)?;
                let first = scene.attach(&driver, one, 0)?;
                let second = scene.attach(&driver, other, 1)?;
                first.map(directions[0])?;
                second.map(directions[1])?;
                run(&scene, [one, other], [&first, &second], both)?;
            }
        }
    }
    Ok(())
}

fn hand_over(from: &Importer<'_>, to: &Importer<'_>, locked: bool) -> Result<(), Errno> {
    from.sync(Sync {
        for_device: false,
        locked,
    })?;
    to.sync(Sync {
        for_device: true,
        locked,
    })
}

// The control: if this shows new bytes, the tests below show nothing.
fn without_it_bytes_are_stale(guest: &Guest) -> Outcome {
    each_pair(guest, |_, kinds, [first, second], both| {
        first.writes(0, b"by first")?;
        let seen: [u8; 8] = second.reads(0)?;
        let must = if share(guest, kinds[0], kinds[1]) {
            *b"by first"
        } else {
            [0; 8]
        };
        check!(seen == must, "{kinds:?}, both: {both}: it sees {seen:?}");
        // Half of a handover is not enough where both have copies: nobody has fetched.
        if memory(guest, kinds[0]) == Memory::Copy && !both {
            second.sync(Sync {
                for_device: true,
                locked: false,
            })?;
            let seen: [u8; 8] = second.reads(0)?;
            check!(seen == [0; 8], "{kinds:?}: for_device alone: {seen:?}");
        }
        Ok(())
    })
}

fn device_to_device(guest: &Guest) -> Outcome {
    each_pair(guest, |_, kinds, [first, second], both| {
        for (round, at) in places().into_iter().cycle().take(6).enumerate() {
            let locked = round >= 3;
            let what = format!("{kinds:?}, both: {both}, round {round}");
            let word = [round as u8 + 1; 8];
            first.writes(at, &word)?;
            hand_over(first, second, locked)?;
            expect_eq(&what, second.reads(at)?, word)?;
            if !both {
                continue;
            }
            // Back, in the same cache line and over what was there.
            let answer = [round as u8 + 101; 8];
            second.writes(at + 4, &answer)?;
            hand_over(second, first, locked)?;
            let mut line = [0; 12];
            line[..4].copy_from_slice(&word[..4]);
            line[4..].copy_from_slice(&answer);
            expect_eq(&format!("{what}, back"), first.reads(at)?, line)?;
            // What it had before counts as written, where it writes the same again.
            first.writes(at + 4, &word)?;
            hand_over(first, second, locked)?;
            expect_eq(&format!("{what}, again"), second.reads(at + 4)?, word)?;
        }
        Ok(())
    })
}

// The CPU reads, with no START: it is for the driver that has handed it over.
fn device_to_cpu(guest: &Guest) -> Outcome {
    each_pair(guest, |scene, kinds, [first, second], both| {
        for (round, at) in places().into_iter().enumerate() {
            let word = [round as u8 + 1; 8];
            first.writes(at, &word)?;
            first.sync(Sync {
                for_device: false,
                locked: round == 0,
            })?;
            check!(
                scene.cpu(at)? == word,
                "{kinds:?}, both: {both}: the CPU sees {:?}",
                scene.cpu(at)?
            );
            // And it stays, whatever else is done.
            let window = scene.buffer.cpu_access(Access::Read)?;
            check!(scene.cpu(at)? == word, "{kinds:?}, both: {both}: START");
            window.end()?;
            hand_over(first, second, round == 0)?;
            expect_eq(&format!("{kinds:?}"), second.reads(at)?, word)?;
        }
        Ok(())
    })
}

// What the CPU wrote in a window is there after a handover; and the next device's bytes after it.
fn cpu_to_device(guest: &Guest) -> Outcome {
    each_pair(guest, |scene, kinds, [first, second], both| {
        for (round, at) in places().into_iter().enumerate() {
            let word = [round as u8 + 1; 8];
            let window = scene.buffer.cpu_access(Access::Write)?;
            scene.mapping.write(at, &word)?;
            window.end()?;
            second.sync(Sync {
                for_device: true,
                locked: round == 0,
            })?;
            expect_eq(&format!("{kinds:?}, both: {both}"), second.reads(at)?, word)?;
            // In the same line, what the CPU wrote must survive.
            first.writes(at + 8, b"by first")?;
            hand_over(first, second, round == 0)?;
            let mut line = [round as u8 + 1; 16];
            line[8..].copy_from_slice(b"by first");
            expect_eq(&format!("{kinds:?}, both: {both}"), second.reads(at)?, line)?;
            check!(
                scene.cpu(at)? == word,
                "{kinds:?}, both: {both}: the CPU's own are lost"
            );
        }
        Ok(())
    })
}

// Bytes are told apart: three devices of which some have a copy write at the same time, each in
// lines of its own, and hand over after that.
fn several_writers_at_once(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let mixes = [
        [
            TestDevice::BounceModel,
            TestDevice::BounceModel,
            TestDevice::SnoopModel,
        ],
        [
            TestDevice::BounceModel,
            TestDevice::BouncedModel,
            TestDevice::DirectModel,
        ],
        [
            TestDevice::CacheModel,
            TestDevice::CacheModelMerged,
            TestDevice::SnoopModel,
        ],
        [
            TestDevice::CacheModel,
            TestDevice::BouncedModel,
            TestDevice::DirectModel,
        ],
        [
            TestDevice::BouncedModel,
            TestDevice::BouncedModel,
            TestDevice::SnoopModel,
        ],
    ];
    for kinds in mixes {
        let scene = Scene::new(guest, &driver)?;
        let mut devices = Vec::new();
        for (at, kind) in kinds.into_iter().enumerate() {
            let index = kinds[..at].iter().filter(|of| **of == kind).count() as u32;
            let device = scene.attach(&driver, kind, index)?;
            device.map(Direction::Bidirectional)?;
            devices.push(device);
        }
        for round in 0..3_u8 {
            let words: Vec<[u8; 8]> = (0..3).map(|who| [10 * (round + 1) + who; 8]).collect();
            let place = |who: usize| places()[usize::from(round)] / LINE * LINE + who * 8 * page();
            let place = |who| place(who) % (PAGES * page());
            for (who, device) in devices.iter().enumerate() {
                device.writes(place(who), &words[who])?;
            }
            for device in &devices {
                device.sync(Sync {
                    for_device: false,
                    locked: round == 1,
                })?;
            }
            for (who, word) in words.iter().enumerate() {
                check!(
                    scene.cpu(place(who))? == *word,
                    "{kinds:?}, round {round}: the CPU sees {:?} of device {who}",
                    scene.cpu(place(who))?
                );
            }
            for (to, device) in devices.iter().enumerate() {
                device.sync(Sync {
                    for_device: true,
                    locked: round == 1,
                })?;
                for (who, word) in words.iter().enumerate() {
                    let what = format!("{kinds:?}, round {round}: {to} sees {who}");
                    expect_eq(&what, device.reads(place(who))?, *word)?;
                }
            }
        }
    }
    Ok(())
}

// While the CPU writes, a handover neither drops what it has written, nor shows it too early: that
// is for the END.
fn beside_a_window(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for kind in MODELS {
        for direction in [Direction::Bidirectional, Direction::ToDevice] {
            for sync in Sync::ALL {
                let what = format!("{kind:?}, {direction:?}, {sync:?}");
                let scene = Scene::new(guest, &driver)?;
                let device = scene.attach(&driver, kind, 0)?;
                device.map(direction)?;
                if direction == Direction::Bidirectional {
                    device.writes(LINE, b"device's")?;
                }
                let window = scene.buffer.cpu_access(Access::ReadWrite)?;
                scene.mapping.write(0, b"the CPUs")?;
                device.sync(sync)?;
                check!(scene.cpu(0)? == *b"the CPUs", "{what}: a byte is lost");
                scene.mapping.write(8, b"and more")?;
                device.sync(sync)?;
                check!(scene.cpu(0)? == *b"the CPUs", "{what}: a byte is lost");
                check!(scene.cpu(8)? == *b"and more", "{what}: a byte is lost");
                window.end()?;
                expect_eq(&what, device.reads(0)?, *b"the CPUsand more")?;
                if direction == Direction::Bidirectional {
                    check!(
                        scene.cpu(LINE)? == *b"device's",
                        "{what}: the device's are lost"
                    );
                }
            }
        }
    }
    Ok(())
}

fn passes(guest: &Guest, buffer: &Buffer) -> Result<(u64, u64), Stop> {
    let info = guest.device()?.info(buffer)?;
    Ok((info.syncs_for_cpu, info.syncs_for_device))
}

fn reader_has_nothing_for_the_cpu(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for kind in MODELS {
        let scene = Scene::new(guest, &driver)?;
        let device = scene.attach(&driver, kind, 0)?;
        device.map(Direction::ToDevice)?;
        let before = passes(guest, &scene.buffer)?;
        for sync in Sync::ALL.into_iter().filter(|sync| !sync.for_device) {
            device.sync(sync)?;
        }
        check!(
            passes(guest, &scene.buffer)? == before,
            "{kind:?}: it was maintained"
        );
        fails_with(device.writes(0, b"x"), Errno::ACCESS, "write of a reader")?;
    }
    Ok(())
}

fn coherent_and_write_combined_cost_nothing(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for flags in [CreateFlags::COHERENT, CreateFlags::WRITE_COMBINE] {
        let buffer = guest.buffer(page(), flags)?;
        for kind in [TestDevice::SnoopModel, TestDevice::DirectModel] {
            let device = match driver.try_attach(&buffer, kind, How::default()) {
                // Each flavour takes one kind at least.
                Err(Errno::OPNOTSUPP) => continue,
                result => result?,
            };
            device.map(Direction::Bidirectional)?;
            for sync in Sync::ALL {
                device.sync(sync)?;
            }
        }
        let info = guest.device()?.info(&buffer)?;
        check!(info.refused_attach < 2, "{flags:?}: nobody was taken");
        check!(
            passes(guest, &buffer)? == (0, 0),
            "{flags:?} was maintained: {info:?}"
        );
    }
    Ok(())
}

fn table_must_be_of_the_attachment(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let scene = Scene::new(guest, &driver)?;
    let apart = guest.bracketed(page())?;
    // Their addresses are their own, by which tables are told apart with CONFIG_DMABUF_DEBUG.
    let kind = TestDevice::CacheModel;
    let device = scene.attach(&driver, kind, 0)?;
    let beside = scene.attach(&driver, kind, 1)?;
    let elsewhere = driver.attach(&apart, kind, How::default())?;
    beside.map(Direction::Bidirectional)?;
    elsewhere.map(Direction::Bidirectional)?;
    for sync in Sync::ALL {
        for mapped in [false, true] {
            if mapped {
                device.map(Direction::Bidirectional)?;
                device.sync(sync)?;
            } else {
                fails_with(device.sync(sync), Errno::INVAL, "no table")?;
            }
            for other in [&beside, &elsewhere] {
                let result = device.sync_table_of(other, sync);
                fails_with(
                    result,
                    Errno::INVAL,
                    &format!("{sync:?} of another's table"),
                )?;
            }
            if mapped {
                device.unmap()?;
            }
        }
        beside.sync(sync)?;
        elsewhere.sync(sync)?;
    }
    Ok(())
}

fn other_exporters(_: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let mut any = false;
    for exported in [udmabuf(page() as u64), system_heap(page() as u64)] {
        let Ok(foreign) = exported else { continue };
        any = true;
        let device = driver.attach(&foreign, TestDevice::SnoopModel, How::default())?;
        let check = |what: &str| -> Outcome {
            for sync in Sync::ALL {
                fails_with(device.sync(sync), Errno::OPNOTSUPP, what)?;
            }
            fails_with(device.set_autofence(true), Errno::OPNOTSUPP, what)
        };
        check("attached")?;
        device.map(Direction::Bidirectional)?;
        check("mapped")?;
    }
    if !any {
        return skip("this kernel has no other exporter");
    }
    Ok(())
}
