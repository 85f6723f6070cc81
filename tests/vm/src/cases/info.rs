// SPDX-License-Identifier: GPL-2.0

//! R13: INFO lists who is attached, and counts what maintenance costs. What it says of a new
//! buffer, and its errors, are in `create`.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use cohbuf::{
    Access, AttachmentFlags, Buffer, CreateFlags, Reach, Region, SyncCost, uapi,
    uapi::{RawAttachment, RawInfo},
};
use cohbuf_testdev::{Direction, TestDevice};
use rustix::io::Errno;

use crate::cases::sync::sync;
use crate::check;
use crate::driver::{Driver, How};
use crate::guest::{Guest, has_noncoherent, page};
use crate::harness::{Outcome, Stop, fail, fails_with};
use crate::raw;
use crate::scene::{END_WRITE, MODELS, START_WRITE, Scene, Upkeep, cost, spent, upkeep};

crate::guest_suite!("info":
    attachments_are_listed,
    attachment_of_edu,
    autofence_is_told,
    reach_is_that_of_the_mapping,
    room_for_the_list,
    elements_of_another_size,
    bad_lists,
    first_version,
    bytes_of_a_known_sequence,
    bytes_saved,
    segments_and_caching,
);

const SIZE: usize = 5 * 4096;
const NONE: CreateFlags = CreateFlags::empty();

/// What the model devices are called, by the test importer.
fn name(model: TestDevice, index: u32) -> String {
    let kind = match model {
        TestDevice::CacheModel => "cache-model",
        TestDevice::CacheModelMerged => "cache-model-merged",
        TestDevice::BounceModel => "bounce-model",
        TestDevice::DirectModel => "direct-model",
        TestDevice::SnoopModel => "snoop-model",
        _ => "bounced-model",
    };
    format!("cohbuf-{kind}-{index}")
}

fn reach(guest: &Guest, model: TestDevice) -> Reach {
    match upkeep(guest, model) {
        Upkeep::None => Reach::Snooping,
        Upkeep::Caches => Reach::Direct,
        Upkeep::Copy => Reach::Bounced,
        Upkeep::OwnOps => Reach::Unknown,
    }
}

/// Whether the device snoops, which says nothing of its mappings.
fn snoops(model: TestDevice) -> bool {
    !has_noncoherent()
        || matches!(
            model,
            TestDevice::BounceModel | TestDevice::SnoopModel | TestDevice::BouncedModel
        )
}

fn attachments_are_listed(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let mut scene = Scene::new(guest, &importer, SIZE, NONE)?;
    let (info, list) = scene.cohbuf.inspect(&scene.buffer)?;
    check!(info.attachments == 0 && list.is_empty(), "nobody: {list:?}");
    // One of each, and a second of one; those that exclude each other only read.
    let mut models: Vec<(TestDevice, u32)> = MODELS.map(|model| (model, 0)).to_vec();
    models.push((TestDevice::SnoopModel, 1));
    for (model, index) in &models {
        scene.attach(*model, *index, Direction::ToDevice)?;
    }
    let (info, list) = scene.cohbuf.inspect(&scene.buffer)?;
    check!(
        info.attachments as usize == models.len() && list.len() == models.len(),
        "{info:?}: {list:?}"
    );
    check!(info.mappings as usize == models.len(), "{info:?}");
    for (model, index) in &models {
        let name = name(*model, *index);
        let Some(one) = list.iter().find(|one| one.device == name) else {
            return fail(format!("{name} is not listed: {list:?}"));
        };
        check!(one.driver == "faux_driver", "{one:?}");
        let bounced = upkeep(guest, *model) == Upkeep::Copy;
        check!(
            one.mappings == 1 && one.bounced == u32::from(bounced),
            "{one:?}"
        );
        check!(
            one.flags.contains(AttachmentFlags::COHERENT) == snoops(*model),
            "{one:?}"
        );
        // None of these importers can move its mapping.
        check!(!one.flags.contains(AttachmentFlags::DYNAMIC), "{one:?}");
        check!(one.reach == reach(guest, *model), "{one:?}");
    }
    let bounced: u32 = list.iter().map(|one| one.bounced).sum();
    check!(bounced == info.bounced, "{info:?}: {list:?}");

    // Attached, and not mapped.
    scene.devices[0].unmap()?;
    let gone = scene.devices.remove(1);
    gone.detach()?;
    let (info, list) = scene.cohbuf.inspect(&scene.buffer)?;
    check!(
        list.len() == models.len() - 1 && info.attachments as usize == list.len(),
        "{list:?}"
    );
    check!(
        list.iter().all(|one| one.device != name(models[1].0, 0)),
        "detached, and listed"
    );
    let unmapped = list
        .iter()
        .find(|one| one.device == name(models[0].0, models[0].1));
    check!(
        unmapped
            .is_some_and(|one| one.mappings == 0 && one.bounced == 0 && one.reach == Reach::None),
        "{unmapped:?}"
    );
    Ok(())
}

fn autofence_is_told(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let cohbuf = guest.device()?;
    for (dynamic, autofence, must) in [
        (false, None, true),
        (false, Some(true), true),
        (false, Some(false), false),
        (true, None, false),
        (true, Some(true), true),
        (true, Some(false), false),
    ] {
        let how = How {
            index: 0,
            dynamic,
            autofence,
        };
        let buffer = guest.bracketed(page())?;
        let device = driver.attach(&buffer, TestDevice::SnoopModel, how)?;
        let check = |must: bool| -> Outcome {
            let (_, list) = cohbuf.inspect(&buffer)?;
            check!(list.len() == 1, "{list:?}");
            let flags = list[0].flags;
            check!(
                flags.contains(AttachmentFlags::AUTOFENCE) == must
                    && flags.contains(AttachmentFlags::DYNAMIC) == dynamic,
                "{how:?}: {flags:?}"
            );
            Ok(())
        };
        check(must)?;
        // Mapped or not, and as often as it changes.
        device.map(Direction::Bidirectional)?;
        check(must)?;
        for autofence in [true, false, true] {
            device.set_autofence(autofence)?;
            check(autofence)?;
        }
    }
    Ok(())
}

// Names as /sys has them.
fn attachment_of_edu(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(page())?;
    let device = importer.attach(&buffer, TestDevice::Edu, 0)?;
    device.map(Direction::Bidirectional)?;
    let (_, list) = cohbuf.inspect(&buffer)?;
    let [one] = list.as_slice() else {
        return fail(format!("{list:?}"));
    };
    let path = format!("/sys/bus/pci/devices/{}", one.device);
    let driver = fs::read_link(format!("{path}/driver"))?;
    check!(
        driver
            .file_name()
            .is_some_and(|name| name == one.driver.as_str()),
        "{one:?}, the driver is {driver:?}"
    );
    check!(
        fs::read_to_string(format!("{path}/device"))?.trim() == "0x11e8",
        "{one:?} is no edu"
    );
    check!(one.flags.contains(AttachmentFlags::COHERENT), "{one:?}");
    let must = if guest.swiotlb {
        Reach::Bounced
    } else {
        Reach::Snooping
    };
    check!(one.reach == must, "{one:?}");
    Ok(())
}

fn reach_is_that_of_the_mapping(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    for (kind, must) in [
        (TestDevice::Coherent, Reach::Snooping),
        (TestDevice::NonCoherent, Reach::Direct),
        (TestDevice::EduNonCoherent, Reach::Iommu),
    ] {
        let buffer = guest.bracketed(page())?;
        let device = importer.attach(&buffer, kind, 0)?;
        device.map(Direction::Bidirectional)?;
        let (_, list) = cohbuf.inspect(&buffer)?;
        let must = match must {
            _ if guest.swiotlb => Reach::Bounced,
            _ if !has_noncoherent() => Reach::Snooping,
            Reach::Iommu if !guest.iommu => Reach::Direct,
            must => must,
        };
        check!(
            list.len() == 1 && list[0].reach == must,
            "{kind:?}: {list:?}, must be {must:?}"
        );
    }
    Ok(())
}

const ELEMENT: usize = size_of::<RawAttachment>();

/// INFO with these bytes for a list, at any address.
fn info_at(
    guest: &Guest,
    buffer: &Buffer,
    address: u64,
    size: u32,
    room: u32,
) -> Result<(u32, u32), Errno> {
    let cohbuf = guest.device().map_err(|_| Errno::IO)?;
    let mut bytes = vec![0; size_of::<RawInfo>()];
    let at = core::mem::offset_of!(RawInfo, attachment_size);
    bytes[..4].copy_from_slice(&buffer.as_fd().as_raw_fd().to_ne_bytes());
    bytes[at..at + 4].copy_from_slice(&size.to_ne_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&room.to_ne_bytes());
    bytes[at + 8..at + 16].copy_from_slice(&address.to_ne_bytes());
    let before = bytes.clone();
    let result = raw::ioctl(&cohbuf, uapi::IOCTL_INFO, &mut bytes);
    if let Err(errno) = result {
        assert_eq!(bytes, before, "an INFO that fails writes nothing");
        return Err(errno);
    }
    let field = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four"));
    assert_eq!(
        (field(at), bytes[at + 8..at + 16] == before[at + 8..at + 16]),
        (size, true)
    );
    Ok((
        field(core::mem::offset_of!(RawInfo, attachments)),
        field(at + 4),
    ))
}

/// The same, of a list that is there: how many are attached, how many were written, and the bytes.
fn info_with(
    guest: &Guest,
    buffer: &Buffer,
    size: usize,
    room: usize,
) -> Result<(u32, u32, Vec<u8>), Stop> {
    let mut list = vec![0xee; size * room + 64];
    let address = list.as_mut_ptr().expose_provenance() as u64;
    let (attached, written) = info_at(guest, buffer, address, size as u32, room as u32)?;
    Ok((attached, written, list))
}

fn room_for_the_list(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let mut devices = Vec::new();
    for count in 0..=4_usize {
        for room in [0, 1, count.saturating_sub(1), count, count + 1, count + 50] {
            let (attached, written, list) = info_with(guest, &buffer, ELEMENT, room)?;
            let what = format!("{count} attached, room for {room}");
            check!(attached as usize == count, "{what}: {attached}");
            check!(written as usize == count.min(room), "{what}: {written}");
            for (number, element) in list.chunks(ELEMENT).enumerate() {
                if number < written as usize {
                    check!(
                        element.starts_with(b"cohbuf-snoop-model-"),
                        "{what}: {number}"
                    );
                    // Names end with a NUL.
                    check!(element[63] == 0 && element[95] == 0, "{what}: {number}");
                } else {
                    check!(element.iter().all(|byte| *byte == 0xee), "{what}: {number}");
                }
            }
        }
        // Without a list it just counts, as ever.
        check!(
            info_at(guest, &buffer, 0, 0, 0)? == (count as u32, 0),
            "{count} attached, no list"
        );
        check!(
            info_at(guest, &buffer, 1, ELEMENT as u32, 0)? == (count as u32, 0),
            "{count} attached, no room at a bad address"
        );
        if count < 4 {
            devices.push(importer.attach(&buffer, TestDevice::SnoopModel, count as u32)?);
        }
    }
    Ok(())
}

// Of a newer program, with more fields: the rest is zero.
fn elements_of_another_size(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let mut devices = Vec::new();
    for index in 0..2 {
        devices.push(importer.attach(&buffer, TestDevice::SnoopModel, index)?);
    }
    let (_, _, plain) = info_with(guest, &buffer, ELEMENT, 2)?;
    for size in [ELEMENT + 1, ELEMENT + 8, 4096] {
        let (_, written, list) = info_with(guest, &buffer, size, 2)?;
        check!(written == 2, "{size} bytes: {written}");
        for number in 0..2 {
            let element = &list[number * size..(number + 1) * size];
            check!(
                element[..ELEMENT] == plain[number * ELEMENT..(number + 1) * ELEMENT],
                "{size} bytes: element {number} is another"
            );
            check!(
                element[ELEMENT..].iter().all(|byte| *byte == 0),
                "{size} bytes: the rest of element {number} is not zero"
            );
        }
        check!(
            list[2 * size..].iter().all(|byte| *byte == 0xee),
            "{size} bytes: behind the list"
        );
    }
    Ok(())
}

fn bad_lists(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let mut list = vec![0xee_u8; 8 * 4097];
    let address = list.as_mut_ptr().expose_provenance() as u64;
    // Before anybody is attached and after, as it does not depend on that.
    for attached in [false, true] {
        let _device = if attached {
            Some(importer.attach(&buffer, TestDevice::SnoopModel, 0)?)
        } else {
            None
        };
        let fails = |address, size, room, errno, what: &str| {
            fails_with(info_at(guest, &buffer, address, size, room), errno, what)
        };
        for room in [0, 1, 8] {
            for size in [1, 64, ELEMENT as u32 - 1] {
                fails(address, size, room, Errno::INVAL, "an element too short")?;
            }
            for size in [4097, u32::MAX] {
                fails(address, size, room, Errno::TOOBIG, "an element too long")?;
            }
        }
        fails(address, 0, 1, Errno::INVAL, "room, and no size")?;
        if attached {
            for address in [0, 8, u64::MAX - 4096, u64::MAX] {
                fails(address, ELEMENT as u32, 1, Errno::FAULT, "a bad address")?;
            }
        }
        check!(
            list.iter().all(|byte| *byte == 0xee),
            "it wrote all the same"
        );
        // As much room as there can be costs nothing.
        let count = u32::from(attached);
        check!(
            info_at(guest, &buffer, address, ELEMENT as u32, u32::MAX)? == (count, count),
            "all the room that there can be"
        );
        list.fill(0xee);
    }
    Ok(())
}

// 72 bytes, without all that came later.
fn first_version(guest: &Guest) -> Outcome {
    const V1: usize = 72;
    let importer = guest.importer()?;
    let cohbuf = guest.device()?;
    let buffer = guest.bracketed(SIZE)?;
    let device = importer.attach(&buffer, TestDevice::SnoopModel, 0)?;
    device.map(Direction::Bidirectional)?;
    let mut bytes = vec![0; V1];
    bytes[..4].copy_from_slice(&buffer.as_fd().as_raw_fd().to_ne_bytes());
    // What is behind it is nobody's.
    bytes.extend([0xee; 200]);
    raw::ioctl(&cohbuf, raw::resized(uapi::IOCTL_INFO, V1), &mut bytes)?;
    check!(
        bytes[V1..].iter().all(|byte| *byte == 0xee),
        "it wrote behind the structure"
    );
    let size = u64::from_ne_bytes(bytes[8..16].try_into().expect("eight bytes"));
    let mappings = u32::from_ne_bytes(bytes[20..24].try_into().expect("four bytes"));
    check!(size == SIZE as u64 && mappings == 1, "{size}, {mappings}");
    // In between, too; one byte less is none.
    for size in [V1 + 8, size_of::<RawInfo>() - 8] {
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&buffer.as_fd().as_raw_fd().to_ne_bytes());
        raw::ioctl(&cohbuf, raw::resized(uapi::IOCTL_INFO, size), &mut bytes)?;
    }
    fails_with(
        raw::ioctl(&cohbuf, raw::resized(uapi::IOCTL_INFO, V1 - 1), &mut bytes),
        Errno::INVAL,
        "shorter than the first version",
    )
}

fn bytes_of_a_known_sequence(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let linear = Region::Linear {
        offset: 100,
        length: 100,
    };
    for model in MODELS {
        let scene = Scene::new(guest, &importer, SIZE, NONE)?;
        check!(
            spent(&scene.info()?) == SyncCost::default(),
            "{model:?}: a new buffer has cost something"
        );
        // Of START and END with nobody mapped there is nothing to save.
        scene.measured("nobody", |scene| {
            let start = scene.sync(START_WRITE, Region::Whole)?;
            let end = scene.sync(END_WRITE, Region::Whole)?;
            check!(start == end && start == SyncCost::default(), "{start:?}");
            Ok(start)
        })?;
        // Map and unmap are counted, and save nothing.
        let unsaved = |for_cpu, for_device| SyncCost {
            saved: 0,
            ..cost(guest, model, SIZE, for_cpu, for_device)
        };
        let device = importer.attach(&scene.buffer, model, 0)?;
        scene.measured("map", |_| {
            device.map(Direction::Bidirectional)?;
            Ok(unsaved(0, SIZE))
        })?;
        scene.measured("START of all", |scene| {
            sync(&scene.buffer, START_WRITE)?;
            Ok(cost(guest, model, SIZE, SIZE, 0))
        })?;
        scene.measured("END of all", |scene| {
            sync(&scene.buffer, END_WRITE)?;
            Ok(cost(guest, model, SIZE, 0, SIZE))
        })?;
        let (start, end) = scene.bracket("region", Access::ReadWrite, linear)?;
        check!(
            start == cost(guest, model, SIZE, 192, 0) && end == cost(guest, model, SIZE, 0, 192),
            "{model:?}: region: {start:?}, {end:?}"
        );
        scene.measured("unmap", |_| {
            device.unmap()?;
            Ok(unsaved(SIZE, 0))
        })?;
        // The sum of it.
        let total = spent(&scene.info()?);
        let need = upkeep(guest, model) != Upkeep::None;
        let size = SIZE as u64;
        let saved = u64::from(need) * (2 * size - 2 * 192);
        check!(total.saved == saved, "{model:?}: {total:?}");
        check!(
            total.maintained() == u64::from(need) * (4 * size + 2 * 192),
            "{model:?}: {total:?}"
        );
        let mapped = scene.measured("map to read", |_| {
            device.map(Direction::ToDevice)?;
            Ok(unsaved(0, SIZE))
        })?;
        scene.measured("unmap", |_| {
            device.unmap()?;
            Ok(SyncCost::default())
        })?;
        check!(mapped.saved == 0, "{mapped:?}");
    }
    Ok(())
}

// Against a pass over all for each mapping whose device does not snoop.
fn bytes_saved(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        let mut scene = Scene::new(guest, &importer, SIZE, NONE)?;
        for index in 0..3 {
            scene.attach(model, index, Direction::ToDevice)?;
        }
        scene.attach(TestDevice::SnoopModel, 3, Direction::ToDevice)?;
        let (start, end) = scene.bracket("three", Access::Write, Region::Whole)?;
        let size = SIZE as u64;
        // All but direct ones get their own.
        let (need, passes) = match upkeep(guest, model) {
            Upkeep::None => (0, 0),
            Upkeep::Caches => (3, 1),
            _ => (3, 3),
        };
        check!(
            start.maintained() == 0 && start.saved == need * size,
            "{model:?}: START: {start:?}"
        );
        check!(
            end.maintained() == passes * size && end.saved == (need - passes) * size,
            "{model:?}: END: {end:?}"
        );
    }
    Ok(())
}

fn segments_and_caching(guest: &Guest) -> Outcome {
    let cohbuf = guest.device()?;
    for (flags, caching) in [
        (NONE, cohbuf::Caching::WriteBack),
        (CreateFlags::COHERENT, cohbuf::Caching::WriteBack),
        (CreateFlags::TRACK_DIRTY, cohbuf::Caching::WriteBack),
        (CreateFlags::WRITE_COMBINE, cohbuf::Caching::WriteCombine),
    ] {
        let info = cohbuf.info(guest.buffer(page(), flags)?)?;
        check!(info.caching == caching && info.segments == 1, "{info:?}");
        check!(
            info.outside_reads == 0 && info.outside_writes == 0,
            "{info:?}"
        );
    }
    Ok(())
}
