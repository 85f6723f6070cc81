// SPDX-License-Identifier: GPL-2.0

//! A device past the caches, unmapped while nobody can look: its unmap is put off, and not needed
//! where the same is mapped again. Whoever looks finds what it wrote.

use cohbuf::{Access, Buffer, CopyRegion, Device, Info, Mapping};
use cohbuf_testdev::{Attachment, Counts, Direction, Importer, TestDevice};

use crate::check;
use crate::guest::{Guest, ModelReset, has_noncoherent, page};
use crate::harness::{Outcome, Stop, expect_eq};
use crate::traced::{events_of, inode, tracer};

crate::guest_suite!("idle":
    mapped_again_costs_nothing,
    process_that_maps_it_sees,
    process_that_has_it_mapped_sees,
    copy_sees,
    other_devices_see,
    other_device_that_was_here_before_sees,
    device_sees_what_another_wrote_between,
    device_sees_what_the_cpu_wrote,
    detach_hands_over,
    other_direction_is_another_mapping,
    two_devices_take_turns,
    what_was_put_off_is_traced,
);

const MODEL: TestDevice = TestDevice::DirectModel;

/// A buffer that no process has mapped, and that the cache model tracks, with a device.
struct Scene<'a> {
    importer: &'a Importer,
    device: Attachment<'a>,
    _reset: ModelReset<'a>,
    buffer: Buffer,
    cohbuf: Device,
}

impl<'a> Scene<'a> {
    fn new(guest: &Guest, importer: &'a Importer) -> Result<Self, Stop> {
        importer.model().reset()?;
        let buffer = guest.bracketed(size())?;
        let mapping = buffer.map()?;
        // The pages have to be there to be found.
        let _ = mapping.to_vec()?;
        importer.model().track(mapping.as_ptr(), mapping.len())?;
        drop(mapping);
        Ok(Self {
            importer,
            device: importer.attach(&buffer, MODEL, 0)?,
            _reset: ModelReset(importer),
            buffer,
            cohbuf: guest.device()?,
        })
    }

    fn info(&self) -> Result<Info, Stop> {
        Ok(self.cohbuf.info(&self.buffer)?)
    }

    fn counts(&self) -> Result<Counts, Stop> {
        Ok(self.importer.model().counts()?)
    }

    /// The device writes, and lets go. Lines that the CPU has are older then.
    fn device_wrote(&self, bytes: &[u8]) -> Outcome {
        self.device.map(Direction::Bidirectional)?;
        self.device.device_writes(0, bytes)?;
        self.importer.model().zero_counts()?;
        self.device.unmap()?;
        expect_eq("unmap", self.counts()?, Counts::default())
    }

    /// What was put off was done, and once.
    fn expect_caught_up(&self, what: &str) -> Outcome {
        let counts = self.counts()?;
        let bytes = if has_noncoherent() { size() as u64 } else { 0 };
        check!(
            (
                counts.clean_bytes,
                counts.invalidate_bytes,
                counts.drop_bytes
            ) == (0, 0, bytes),
            "{what}: {counts:?}, must be {bytes} bytes for the CPU to drop"
        );
        Ok(())
    }
}

fn size() -> usize {
    20 * page()
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..size())
        .map(|n| 1 + ((n * 7 + n / 251) % 100) as u8 + seed)
        .collect()
}

fn expect_bytes(what: &str, is: &[u8], must: &[u8]) -> Outcome {
    match is.iter().zip(must).position(|(is, must)| is != must) {
        Some(at) => {
            check!(
                false,
                "{what}: byte {at} is {}, must be {}",
                is[at],
                must[at]
            );
            Ok(())
        }
        None => expect_eq(what, is.len(), must.len()),
    }
}

fn expect_mapping(what: &str, mapping: &Mapping, must: &[u8]) -> Outcome {
    expect_bytes(what, &mapping.to_vec()?, must)
}

fn read_by(device: &Attachment<'_>) -> Result<Vec<u8>, Stop> {
    let mut seen = vec![0; size()];
    device.device_reads(0, &mut seen)?;
    Ok(seen)
}

fn mapped_again_costs_nothing(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    for (seed, direction) in [
        Direction::Bidirectional,
        Direction::ToDevice,
        Direction::FromDevice,
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = pattern(seed as u8);
        scene.device.map(Direction::Bidirectional)?;
        scene.device.device_writes(0, &bytes)?;
        scene.device.unmap()?;
        scene.device.map(direction)?;
        // To ask is to look: the table is kept, and what it is mapped for is maintained once more.
        let before = scene.info()?;
        scene.device.unmap()?;
        scene.device.map(direction)?;
        importer.model().zero_counts()?;
        for _ in 0..3 {
            scene.device.unmap()?;
            scene.device.map(direction)?;
        }
        let what = format!("{direction:?}");
        expect_eq(&what, scene.counts()?, Counts::default())?;
        let after = scene.info()?;
        // Four times are as one for who looks.
        let invalidated = match direction {
            Direction::ToDevice => 0,
            _ if has_noncoherent() => size() as u64,
            _ => 0,
        };
        check!(
            (before.bytes_cleaned, before.bytes_invalidated + invalidated)
                == (after.bytes_cleaned, after.bytes_invalidated),
            "{what}: {before:?}, then {after:?}"
        );
        if direction != Direction::FromDevice {
            expect_bytes(&what, &read_by(&scene.device)?, &bytes)?;
        }
        scene.device.unmap()?;
    }
    Ok(())
}

/// In a bracket that is older than what the device wrote: its unmap hands over.
fn process_that_maps_it_sees(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    let bytes = pattern(1);
    // What the kernel zeroed is clean from here on.
    scene.device.map(Direction::Bidirectional)?;
    let bracket = scene.buffer.cpu_access(Access::Read)?;
    scene.device.device_writes(0, &bytes)?;
    importer.model().zero_counts()?;
    scene.device.unmap()?;
    expect_eq("unmap", scene.counts()?, Counts::default())?;
    let mapping = scene.buffer.map()?;
    expect_mapping("mmap", &mapping, &bytes)?;
    scene.expect_caught_up("mmap")?;
    bracket.end()?;
    scene.expect_caught_up("END")
}

fn process_that_has_it_mapped_sees(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    let bytes = pattern(2);
    let mapping = scene.buffer.map()?;
    scene.device.map(Direction::Bidirectional)?;
    let bracket = scene.buffer.cpu_access(Access::Read)?;
    scene.device.device_writes(0, &bytes)?;
    importer.model().zero_counts()?;
    scene.device.unmap()?;
    expect_mapping("unmap", &mapping, &bytes)?;
    let counts = scene.counts()?;
    let must = if has_noncoherent() { size() as u64 } else { 0 };
    check!(
        (counts.invalidate_bytes, counts.drop_bytes) == (must, 0),
        "{counts:?}, must be {must} to invalidate"
    );
    bracket.end()?;
    Ok(())
}

fn copy_sees(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    let bytes = pattern(3);
    scene.device_wrote(&bytes)?;
    let copy = guest.bracketed(size())?;
    scene.cohbuf.copy(&scene.buffer, &copy, CopyRegion::Whole)?;
    scene.expect_caught_up("COPY")?;
    let mapping = copy.map()?;
    let bracket = copy.cpu_access(Access::Read)?;
    expect_mapping("COPY", &mapping, &bytes)?;
    bracket.end()?;
    Ok(())
}

/// Also where the device that wrote has the buffer again: what was handed over once is so.
fn other_devices_see(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let kinds = [
        TestDevice::SnoopModel,
        TestDevice::BouncedModel,
        TestDevice::CacheModel,
        TestDevice::BounceModel,
    ];
    for (kind, beside) in kinds.iter().flat_map(|&kind| [(kind, false), (kind, true)]) {
        let scene = Scene::new(guest, &importer)?;
        // What the kernel zeroed is clean from here on.
        scene.device.map(Direction::Bidirectional)?;
        scene.device.unmap()?;
        let bytes = pattern(4);
        scene.device_wrote(&bytes)?;
        if beside {
            scene.device.map(Direction::Bidirectional)?;
        }
        let other = importer.attach(&scene.buffer, kind, 0)?;
        other.map(Direction::ToDevice)?;
        let what = format!("{kind:?}, beside it: {beside}");
        expect_bytes(&what, &read_by(&other)?, &bytes)?;
        other.unmap()?;
        if beside {
            scene.device.unmap()?;
        }
    }
    Ok(())
}

/// Also one that gets what it had: it snoops lines that are older.
fn other_device_that_was_here_before_sees(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for direction in [Direction::ToDevice, Direction::Bidirectional] {
        let scene = Scene::new(guest, &importer)?;
        let other = importer.attach(&scene.buffer, TestDevice::SnoopModel, 0)?;
        other.map(direction)?;
        other.unmap()?;
        // What the kernel zeroed is clean from here on, and in the caches.
        scene.device.map(Direction::Bidirectional)?;
        scene.device.unmap()?;
        other.map(direction)?;
        expect_bytes("nothing yet", &read_by(&other)?, &vec![0; size()])?;
        other.unmap()?;
        let bytes = pattern(9);
        scene.device_wrote(&bytes)?;
        other.map(direction)?;
        expect_bytes(&format!("{direction:?}"), &read_by(&other)?, &bytes)?;
        other.unmap()?;
    }
    Ok(())
}

/// What it kept is of no use then but for the table.
fn device_sees_what_another_wrote_between(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    let other = importer.attach(&scene.buffer, TestDevice::SnoopModel, 0)?;
    for seed in 10..13 {
        scene.device_wrote(&pattern(6))?;
        scene.device.map(Direction::Bidirectional)?;
        scene.device.unmap()?;
        let bytes = pattern(seed);
        other.map(Direction::FromDevice)?;
        other.device_writes(0, &bytes)?;
        other.unmap()?;
        scene.device.map(Direction::Bidirectional)?;
        expect_bytes("after another", &read_by(&scene.device)?, &bytes)?;
        scene.device.unmap()?;
    }
    Ok(())
}

fn device_sees_what_the_cpu_wrote(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    let bytes = pattern(5);
    for direction in [Direction::Bidirectional, Direction::ToDevice] {
        scene.device_wrote(&pattern(6))?;
        scene.device.map(direction)?;
        scene.device.unmap()?;
        let mapping = scene.buffer.map()?;
        let window = scene.buffer.cpu_access(Access::ReadWrite)?;
        mapping.write(0, &bytes)?;
        window.end()?;
        drop(mapping);
        scene.device.map(direction)?;
        let what = format!("{direction:?}");
        expect_bytes(&what, &read_by(&scene.device)?, &bytes)?;
        scene.device.unmap()?;
    }
    Ok(())
}

fn detach_hands_over(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    let bytes = pattern(7);
    // To ask is to look, and would end it.
    let before = scene.info()?.bytes_invalidated;
    scene.device_wrote(&bytes)?;
    let Scene {
        device,
        _reset,
        buffer,
        cohbuf,
        ..
    } = scene;
    drop(device);
    let info = cohbuf.info(&buffer)?;
    let must = if has_noncoherent() { size() as u64 } else { 0 };
    expect_eq("invalidated", info.bytes_invalidated - before, must)?;
    let mapping = buffer.map()?;
    let bracket = buffer.cpu_access(Access::Read)?;
    expect_mapping("detach", &mapping, &bytes)?;
    bracket.end()?;
    Ok(())
}

fn other_direction_is_another_mapping(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    let bytes = pattern(8);
    scene.device_wrote(&bytes)?;
    scene.device.map(Direction::ToDevice)?;
    let counts = scene.counts()?;
    let must = if has_noncoherent() { size() as u64 } else { 0 };
    check!(
        (
            counts.clean_bytes,
            counts.invalidate_bytes,
            counts.drop_bytes
        ) == (must, 0, 0),
        "{counts:?}, must be {must} bytes to clean"
    );
    expect_bytes("reads", &read_by(&scene.device)?, &bytes)?;
    let mapping = scene.buffer.map()?;
    let bracket = scene.buffer.cpu_access(Access::Read)?;
    expect_mapping("the CPU", &mapping, &bytes)?;
    bracket.end()?;
    Ok(())
}

/// A producer and a consumer that map for each picture: neither keeps the other from it.
fn two_devices_take_turns(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let scene = Scene::new(guest, &importer)?;
    let other = importer.attach(&scene.buffer, MODEL, 1)?;
    scene.device.map(Direction::FromDevice)?;
    scene.device.unmap()?;
    other.map(Direction::ToDevice)?;
    other.unmap()?;
    importer.model().zero_counts()?;
    for seed in 0..5 {
        let bytes = pattern(seed);
        scene.device.map(Direction::FromDevice)?;
        scene.device.device_writes(0, &bytes)?;
        scene.device.unmap()?;
        other.map(Direction::ToDevice)?;
        expect_bytes("picture", &read_by(&other)?, &bytes)?;
        other.unmap()?;
    }
    expect_eq("all pictures", scene.counts()?, Counts::default())?;
    let mapping = scene.buffer.map()?;
    let bracket = scene.buffer.cpu_access(Access::Read)?;
    expect_mapping("the CPU", &mapping, &pattern(4))?;
    scene.expect_caught_up("the CPU")?;
    bracket.end()?;
    drop(other);
    Ok(())
}

/// The bytes, and whose they were, who may have detached.
fn what_was_put_off_is_traced(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for is_attached in [true, false] {
        let scene = Scene::new(guest, &importer)?;
        scene.device_wrote(&pattern(11))?;
        let Scene {
            device,
            _reset,
            buffer,
            ..
        } = scene;
        let device = is_attached.then_some(device);
        let tracer = tracer()?;
        buffer.cpu_access(Access::Read)?.end()?;
        let mut events = events_of(&tracer, inode(&buffer)?)?;
        events.retain(|event| event.name == "cohbuf_maintain");
        drop(device);
        if !has_noncoherent() {
            check!(events.is_empty(), "{events:?}");
            continue;
        }
        let name = if is_attached {
            "cohbuf-direct-model-0"
        } else {
            "-"
        };
        let must = format!(
            "ino={} attachment=1 device={name} for=cpu direction=BIDIRECTIONAL reach=direct bytes={}",
            inode(&buffer)?,
            size()
        );
        check!(
            events.len() == 1 && events[0].text.starts_with(&must),
            "{events:?}, must be {must}"
        );
    }
    Ok(())
}
