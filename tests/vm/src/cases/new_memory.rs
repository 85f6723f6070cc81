// SPDX-License-Identifier: GPL-2.0

//! R15 on the cache model: new memory is zero for every device, and its zeros are out of the
//! caches before the first one looks.

use cohbuf::Access;
use cohbuf_testdev::{Direction, TestDevice};

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::Outcome;

crate::guest_suite!("new_memory":
    device_sees_zeros,
    late_zeros_do_not_go_over_the_device,
    zeros_after_a_snooping_device,
);

const MODELS: [TestDevice; 4] = [
    TestDevice::CacheModel,
    TestDevice::CacheModelMerged,
    TestDevice::DirectModel,
    TestDevice::BounceModel,
];

/// Chunks of three orders.
fn size() -> usize {
    (1 << 20) + 17 * page()
}

fn device_sees_zeros(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        importer.model().reset()?;
        let buffer = guest.bracketed(size())?;
        let mapping = buffer.map()?;
        let _ = mapping.to_vec()?;
        importer.model().track(mapping.as_ptr(), size())?;
        for direction in [Direction::ToDevice, Direction::Bidirectional] {
            let device = importer.attach(&buffer, model, 0)?;
            device.map(direction)?;
            let mut seen = vec![1; size()];
            device.device_reads(0, &mut seen)?;
            check!(
                seen == vec![0; size()],
                "{model:?} {direction:?} sees old content"
            );
            device.unmap()?;
        }
        importer.model().reset()?;
    }
    Ok(())
}

fn late_zeros_do_not_go_over_the_device(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        for direction in [Direction::FromDevice, Direction::Bidirectional] {
            importer.model().reset()?;
            let buffer = guest.bracketed(size())?;
            let mapping = buffer.map()?;
            let _ = mapping.to_vec()?;
            importer.model().track(mapping.as_ptr(), size())?;
            let device = importer.attach(&buffer, model, 0)?;
            device.map(direction)?;
            let written = vec![7; size()];
            device.device_writes(0, &written)?;
            // What is dirty now is written back now.
            importer.model().evict()?;
            let window = buffer.cpu_access(Access::Read)?;
            check!(
                mapping.to_vec()? == written,
                "{model:?} {direction:?}: a late zero went over it"
            );
            window.end()?;
            device.unmap()?;
            importer.model().reset()?;
        }
    }
    Ok(())
}

/// A device that snoops leaves the zeros in the caches; the next one that does not must still
/// see zeros, and what the first wrote.
fn zeros_after_a_snooping_device(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for model in MODELS {
        importer.model().reset()?;
        let buffer = guest.bracketed(page())?;
        let mapping = buffer.map()?;
        let _ = mapping.to_vec()?;
        importer.model().track(mapping.as_ptr(), page())?;
        let snoops = importer.attach(&buffer, TestDevice::SnoopModel, 0)?;
        snoops.map(Direction::Bidirectional)?;
        snoops.device_writes(64, b"snoop")?;
        snoops.unmap()?;
        let device = importer.attach(&buffer, model, 0)?;
        device.map(Direction::Bidirectional)?;
        let mut seen = [1; 128];
        device.device_reads(0, &mut seen)?;
        check!(seen[..64] == [0; 64], "{model:?} sees old content");
        check!(
            seen[64..69] == *b"snoop",
            "{model:?} does not see what the other wrote"
        );
        device.unmap()?;
        importer.model().reset()?;
    }
    Ok(())
}
