// SPDX-License-Identifier: GPL-2.0

//! R14: write-combined buffers. Memory types by the page tables, no maintenance, who may come.

use cohbuf::{Access, CreateFlags, Protection};
use cohbuf_testdev::{Attrs, Counts, Direction, MemoryType, TestDevice};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, has_noncoherent, page};
use crate::harness::{Outcome, fails_with, skip};

crate::guest_suite!("write_combine":
    memory_types,
    memory_is_cached_again,
    who_may_attach,
    bounced_is_refused,
    bytes_without_maintenance,
    mapping_costs_nothing,
    zeros_are_in_memory,
);

/// Chunks of three orders.
fn size() -> usize {
    (1 << 20) + 17 * page()
}

fn memory_types(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let attrs = |flags, protection, what: &str, must: Attrs| -> Outcome {
        let buffer = guest.buffer(size(), flags)?;
        let mapping = buffer.map_range(0, size() as u64, protection)?;
        check!(
            mapping.to_vec()? == vec![0; size()],
            "{what}: new memory is not zero"
        );
        for at in (0..size()).step_by(page()) {
            let is = importer.model().attrs(mapping.as_ptr().wrapping_add(at))?;
            check!(is == must, "{what}, byte {at}: {is:?}, must be {must:?}");
        }
        Ok(())
    };
    let cached = Attrs {
        user: MemoryType::WriteBack,
        linear: MemoryType::WriteBack,
    };
    // The linear map is changed on x86; on arm64 it stays, and nobody writes by it.
    let combined = Attrs {
        user: MemoryType::WriteCombining,
        linear: if has_noncoherent() {
            MemoryType::WriteBack
        } else {
            MemoryType::WriteCombining
        },
    };
    for protection in [Protection::ReadWrite, Protection::Read] {
        attrs(CreateFlags::empty(), protection, "bracketed", cached)?;
        attrs(CreateFlags::COHERENT, protection, "coherent", cached)?;
        attrs(
            CreateFlags::WRITE_COMBINE,
            protection,
            "write-combined",
            combined,
        )?;
    }
    Ok(())
}

/// Pages go back as they came: the next owner, a bracketed buffer, has them cached.
fn memory_is_cached_again(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for _ in 0..20 {
        drop(guest.buffer(size(), CreateFlags::WRITE_COMBINE)?);
        let buffer = guest.bracketed(size())?;
        let mapping = buffer.map()?;
        let _ = mapping.to_vec()?;
        for at in (0..size()).step_by(page()) {
            let is = importer.model().attrs(mapping.as_ptr().wrapping_add(at))?;
            check!(
                is.linear == MemoryType::WriteBack && is.user == MemoryType::WriteBack,
                "byte {at}: {is:?}"
            );
        }
    }
    Ok(())
}

fn who_may_attach(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let device = guest.device()?;
    let buffer = guest.buffer(page(), CreateFlags::WRITE_COMBINE)?;
    // Where the kernel's own mapping stays cached, a device that snoops could see a stale line.
    let snoops = [
        TestDevice::Coherent,
        TestDevice::SnoopModel,
        TestDevice::Edu,
    ];
    for (kind, accepted) in [
        (TestDevice::DirectModel, true),
        (TestDevice::CacheModel, false),
        (TestDevice::BounceModel, false),
    ]
    .into_iter()
    .chain(snoops.map(|kind| (kind, guest.all_coherent())))
    {
        let refused = device.info(&buffer)?.refused_attach;
        let result = importer.attach(&buffer, kind, 0).map(drop);
        if accepted {
            result?;
        } else {
            fails_with(
                result.map_err(|refusal| refusal.errno),
                Errno::OPNOTSUPP,
                &format!("attach of {kind:?}"),
            )?;
            check!(
                device.info(&buffer)?.refused_attach == refused + 1,
                "{kind:?} is not counted"
            );
        }
    }
    Ok(())
}

fn bounced_is_refused(guest: &Guest) -> Outcome {
    if !guest.swiotlb {
        return skip("nothing is bounced in this boot");
    }
    let importer = guest.importer()?;
    let buffer = guest.buffer(page(), CreateFlags::WRITE_COMBINE)?;
    let kind = TestDevice::NonCoherent;
    let attachment = importer.attach(&buffer, kind, 0)?;
    fails_with(
        attachment.map(Direction::Bidirectional),
        Errno::OPNOTSUPP,
        "map of what is bounced",
    )?;
    let info = guest.device()?.info(&buffer)?;
    check!(info.mappings == 0 && info.refused_map == 1, "{info:?}");
    Ok(())
}

/// The device and the CPU see each other's bytes, and nobody maintained anything.
fn bytes_without_maintenance(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.buffer(size(), CreateFlags::WRITE_COMBINE)?;
    let mapping = buffer.map()?;
    let device = importer.attach(&buffer, TestDevice::DirectModel, 0)?;
    for direction in [
        Direction::Bidirectional,
        Direction::ToDevice,
        Direction::FromDevice,
    ] {
        device.map(direction)?;
        let at = size() - 10;
        if direction != Direction::FromDevice {
            let window = buffer.cpu_access(Access::Write)?;
            mapping.write(at, b"processor")?;
            window.end()?;
            let mut seen = [0; 9];
            device.device_reads(at as u64, &mut seen)?;
            check!(
                seen == *b"processor",
                "{direction:?}: the device does not see it"
            );
        }
        if direction != Direction::ToDevice {
            device.device_writes(0, b"device")?;
            let window = buffer.cpu_access(Access::Read)?;
            let mut seen = [0; 6];
            mapping.read(0, &mut seen)?;
            check!(seen == *b"device", "{direction:?}: the CPU does not see it");
            window.end()?;
        }
        device.unmap()?;
    }
    let info = guest.device()?.info(&buffer)?;
    check!(
        info.syncs_for_cpu == 0 && info.syncs_for_device == 0,
        "{info:?}"
    );
    Ok(())
}

/// To map and to unmap costs nothing either, whatever the cache model has of the pages.
fn mapping_costs_nothing(guest: &Guest) -> Outcome {
    if guest.all_coherent() {
        return skip("the DMA API maintains caches for no device that may attach here");
    }
    let importer = guest.importer()?;
    let buffer = guest.buffer(size(), CreateFlags::WRITE_COMBINE)?;
    let mapping = buffer.map()?;
    importer.model().reset()?;
    importer.model().track(mapping.as_ptr(), size())?;
    importer.model().zero_counts()?;
    let device = importer.attach(&buffer, TestDevice::DirectModel, 0)?;
    for direction in [
        Direction::Bidirectional,
        Direction::ToDevice,
        Direction::FromDevice,
    ] {
        device.map(direction)?;
        buffer.cpu_access(Access::ReadWrite)?.end()?;
        device.unmap()?;
    }
    let counts = importer.model().counts()?;
    importer.model().reset()?;
    check!(counts == Counts::default(), "{counts:?}");
    Ok(())
}

/// arm64 has no way to see that lines left the caches but to count what cleans them. x86 flushes
/// when the memory type changes, which `memory_types` shows.
fn zeros_are_in_memory(guest: &Guest) -> Outcome {
    if !has_noncoherent() {
        return skip("x86 flushes with the change of memory type");
    }
    let importer = guest.importer()?;
    importer.model().reset()?;
    let buffer = guest.buffer(size(), CreateFlags::WRITE_COMBINE)?;
    let cleaned = importer.model().counts()?.wb_bytes;
    check!(
        cleaned == buffer.size(),
        "{cleaned} of {} bytes were cleaned",
        buffer.size()
    );
    importer.model().reset()?;
    let _cached = guest.bracketed(size())?;
    check!(
        importer.model().counts()?.wb_bytes == 0,
        "a cached buffer was cleaned"
    );
    Ok(())
}
