// SPDX-License-Identifier: GPL-2.0

//! The model devices themselves: that they lose what a real device or cache would
//! lose, and count what was done. What other suites conclude rests on that.

use cohbuf::{Access, Buffer, Mapping};
use cohbuf_testdev::{
    Attachment, Counts, Direction, Importer, MapInfo, MemoryType, Model, TestDevice, Vgem, uapi,
};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, expect_eq, fails_with, skip};
use crate::raw;

crate::guest_suite!("models":
    map_cleans,
    unsynced_cpu_write_is_stale,
    unsynced_device_write_is_stale,
    sync_carries_both_ways,
    cache_keeps_to_lines,
    clean_line_is_refilled,
    skipped_syncs_are_skipped,
    cache_models_share_memory,
    bounce_models_have_copies,
    merged_is_one_segment,
    counters_count,
    snoop_and_direct_are_never_bounced,
    direct_is_on_the_cache_model,
    kprobes_count_exactly,
    dma_is_checked,
    reset_while_mapped,
    reset_forgets,
    memory_types,
    bad_requests,
);

/// What a page that is tracked anew has in memory.
const OLD: u8 = 0xa5;
const LINE: usize = 64;
/// With the chunks of cohbuf, not contiguous.
const PAGES: usize = 19;

/// Those with `dma_map_ops` of their own.
const OWN_OPS: [TestDevice; 3] = [
    TestDevice::BounceModel,
    TestDevice::CacheModel,
    TestDevice::CacheModelMerged,
];
const CACHES: [TestDevice; 2] = [TestDevice::CacheModel, TestDevice::CacheModelMerged];

/// Has the models forget everything, before and after: to be dropped after the
/// attachments and before the buffers.
struct Clean<'a>(Model<'a>);

impl<'a> Clean<'a> {
    fn start(importer: &'a Importer) -> Result<Self, Stop> {
        importer.model().reset()?;
        Ok(Self(importer.model()))
    }
}

impl Drop for Clean<'_> {
    fn drop(&mut self) {
        let result = self.0.reset();
        assert!(
            result.is_ok() || std::thread::panicking(),
            "reset: {result:?}"
        );
    }
}

fn size() -> usize {
    PAGES * page()
}

fn attach<'a>(
    importer: &'a Importer,
    buffer: &Buffer,
    kind: TestDevice,
    index: u32,
) -> Result<Attachment<'a>, Stop> {
    match importer.attach(buffer, kind, index) {
        // Without dma_map_ops. The stock kernels have them.
        Err(refused) if refused.errno == Errno::NODEV && is_debug_kernel()? => {
            skip(format!("this kernel has not what {kind:?} needs"))
        }
        result => Ok(result?),
    }
}

fn is_debug_kernel() -> Result<bool, Stop> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(release.contains("cohbuf-debug"))
}

fn mapped<'a>(
    importer: &'a Importer,
    buffer: &Buffer,
    kind: TestDevice,
    direction: Direction,
) -> Result<(Attachment<'a>, MapInfo), Stop> {
    let attachment = attach(importer, buffer, kind, 0)?;
    let info = attachment.map(direction)?;
    Ok((attachment, info))
}

fn device_read(device: &Attachment<'_>, at: usize, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    device.device_reads(at as u64, &mut bytes)?;
    Ok(bytes)
}

fn cpu_read(mapping: &Mapping, at: usize, len: usize) -> Result<Vec<u8>, Stop> {
    let mut bytes = vec![0; len];
    mapping.read(at, &mut bytes)?;
    Ok(bytes)
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// A dma-buf of udmabuf, which maps and unmaps with `DMA_ATTR_SKIP_CPU_SYNC`.
fn udmabuf(size: usize) -> Result<Buffer, Stop> {
    match cohbuf_testdev::udmabuf(size as u64) {
        Ok(fd) => Ok(Buffer::try_from(fd)?),
        Err(Errno::NOENT) => skip("this kernel has no udmabuf"),
        Err(errno) => Err(errno.into()),
    }
}

// The zeros of a new page are in the cache, until map cleans it.
fn map_cleans(guest: &Guest) -> Outcome {
    for kind in OWN_OPS {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(size())?;
        let _clean = Clean::start(&importer)?;
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        check!(
            device_read(&device, 0, size())? == vec![0; size()],
            "{kind:?} sees what was there before"
        );
    }
    Ok(())
}

fn unsynced_cpu_write_is_stale(guest: &Guest) -> Outcome {
    for kind in OWN_OPS {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(size())?;
        let cpu = buffer.map()?;
        let clean = Clean::start(&importer)?;
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        cpu.write(100, b"unsynced")?;
        check!(
            device_read(&device, 100, 8)? == [0; 8],
            "{kind:?} sees it at once"
        );
        clean.0.drop_clean()?;
        check!(
            cpu_read(&cpu, 100, 8)? == b"unsynced",
            "{kind:?}: a dirty line was dropped"
        );
        clean.0.evict()?;
        let seen = device_read(&device, 100, 8)?;
        if CACHES.contains(&kind) {
            check!(seen == b"unsynced", "{kind:?}: eviction wrote nothing");
        } else {
            check!(seen == [0; 8], "{kind:?} has no cache, and sees it");
        }
    }
    Ok(())
}

fn unsynced_device_write_is_stale(guest: &Guest) -> Outcome {
    for kind in OWN_OPS {
        for direction in [Direction::Bidirectional, Direction::FromDevice] {
            let importer = guest.importer()?;
            let buffer = guest.bracketed(size())?;
            let cpu = buffer.map()?;
            let _clean = Clean::start(&importer)?;
            let (device, _) = mapped(&importer, &buffer, kind, direction)?;
            let bytes = pattern(size(), 1);
            device.device_writes(0, &bytes)?;
            check!(
                cpu.to_vec()? == vec![0; size()],
                "{kind:?}: the CPU sees it at once"
            );
            device.unmap()?;
            check!(
                cpu.to_vec()? == bytes,
                "{kind:?} {direction:?}: the CPU does not see it after unmap"
            );
        }
    }
    Ok(())
}

fn sync_carries_both_ways(guest: &Guest) -> Outcome {
    for kind in OWN_OPS {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(size())?;
        let cpu = buffer.map()?;
        let _clean = Clean::start(&importer)?;
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;

        let bytes = pattern(size(), 2);
        let window = buffer.cpu_access(Access::Write)?;
        cpu.write(0, &bytes)?;
        window.end()?;
        check!(
            device_read(&device, 0, size())? == bytes,
            "{kind:?} does not see what the CPU wrote"
        );

        let bytes = pattern(size(), 3);
        device.device_writes(0, &bytes)?;
        let window = buffer.cpu_access(Access::Read)?;
        check!(
            cpu.to_vec()? == bytes,
            "the CPU does not see what {kind:?} wrote"
        );
        window.end()?;
    }
    Ok(())
}

// One line that the CPU changed goes to memory, whole, and no other; and what was
// dirty is lost in an invalidate.
fn cache_keeps_to_lines(guest: &Guest) -> Outcome {
    for kind in CACHES {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(size())?;
        let cpu = buffer.map()?;
        let clean = Clean::start(&importer)?;
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        let at = page() + 3 * LINE;
        device.device_writes(0, &vec![0x11; size()])?;
        cpu.write(at + 5, &[0x22])?;
        clean.0.evict()?;
        let mut memory = vec![0x11; size()];
        memory[at..at + LINE].fill(0);
        memory[at + 5] = 0x22;
        check!(
            device_read(&device, 0, size())? == memory,
            "{kind:?}: not that line, or not just that"
        );

        cpu.write(at + LINE - 1, &[0x33, 0x33])?;
        device.unmap()?;
        check!(
            cpu.to_vec()? == memory,
            "{kind:?}: an invalidate keeps a dirty line"
        );
    }
    Ok(())
}

fn clean_line_is_refilled(guest: &Guest) -> Outcome {
    for kind in CACHES {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(page())?;
        let cpu = buffer.map()?;
        let clean = Clean::start(&importer)?;
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        cpu.write(LINE, &[1])?;
        device.device_writes(0, &[7; 3 * LINE])?;
        clean.0.drop_clean()?;
        let mut seen = vec![7; 3 * LINE];
        seen[LINE..2 * LINE].fill(0);
        seen[LINE] = 1;
        check!(
            cpu_read(&cpu, 0, 3 * LINE)? == seen,
            "{kind:?}: not the clean lines, or not just those"
        );
    }
    Ok(())
}

// udmabuf skips the sync of map and unmap, and so tells whether they do it.
fn skipped_syncs_are_skipped(guest: &Guest) -> Outcome {
    for kind in OWN_OPS {
        let importer = guest.importer()?;
        let buffer = udmabuf(size())?;
        let cpu = buffer.map()?;
        cpu.write(0, &vec![0x44; size()])?;
        let clean = Clean::start(&importer)?;
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        let cached = CACHES.contains(&kind);
        check!(
            device_read(&device, 0, size())? == vec![if cached { OLD } else { 0x44 }; size()],
            "{kind:?}: map"
        );
        if cached {
            clean.0.evict()?;
            check!(
                device_read(&device, 0, size())? == vec![0x44; size()],
                "{kind:?}: eviction wrote not all"
            );
        }
        device.device_writes(0, &vec![0x55; size()])?;
        device.unmap()?;
        check!(
            cpu.to_vec()? == vec![0x44; size()],
            "{kind:?}: unmap did what it was to skip"
        );
        let counts = clean.0.counts()?;
        expect_eq("cleaned", counts.clean_bytes, 0)?;
        expect_eq("invalidated", counts.invalidate_bytes, 0)?;
        expect_eq("copied back", counts.from_bounce_bytes, 0)?;
        // swiotlb copies in map whatever the attributes are.
        let to_bounce = if cached { 0 } else { size() as u64 };
        expect_eq("copied", counts.to_bounce_bytes, to_bounce)?;
    }
    Ok(())
}

fn cache_models_share_memory(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size())?;
    let _clean = Clean::start(&importer)?;
    let writer = attach(&importer, &buffer, TestDevice::CacheModel, 0)?;
    writer.map(Direction::Bidirectional)?;
    let bytes = pattern(size(), 4);
    writer.device_writes(0, &bytes)?;
    let kinds = [
        (TestDevice::CacheModel, 1),
        (TestDevice::CacheModel, 3),
        (TestDevice::CacheModelMerged, 0),
    ];
    for (kind, index) in kinds {
        let reader = attach(&importer, &buffer, kind, index)?;
        reader.map(Direction::ToDevice)?;
        check!(
            device_read(&reader, 0, size())? == bytes,
            "{kind:?} {index} sees something else"
        );
    }
    Ok(())
}

fn bounce_models_have_copies(_guest: &Guest) -> Outcome {
    // cohbuf may refuse the second one.
    let importer = crate::guest::importer()?;
    let buffer = udmabuf(size())?;
    let _clean = Clean::start(&importer)?;
    let first = attach(&importer, &buffer, TestDevice::BounceModel, 0)?;
    let second = attach(&importer, &buffer, TestDevice::BounceModel, 1)?;
    first.map(Direction::Bidirectional)?;
    second.map(Direction::Bidirectional)?;
    first.device_writes(0, &vec![1; size()])?;
    check!(
        device_read(&second, 0, size())? == vec![0; size()],
        "both have one copy"
    );
    check!(
        device_read(&first, 0, size())? == vec![1; size()],
        "it is lost"
    );
    Ok(())
}

fn merged_is_one_segment(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size())?;
    let _clean = Clean::start(&importer)?;
    for kind in OWN_OPS {
        let (_device, info) = mapped(&importer, &buffer, kind, Direction::ToDevice)?;
        if kind == TestDevice::CacheModelMerged {
            check!(info.segments == 1, "{info:?}");
        } else {
            check!(info.segments > 1, "{kind:?}: {info:?}: nothing to merge");
        }
        check!(!info.bounced, "{kind:?}: {info:?}");
    }
    Ok(())
}

fn counters_count(guest: &Guest) -> Outcome {
    let bytes = size() as u64;
    for kind in OWN_OPS {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(size())?;
        let clean = Clean::start(&importer)?;
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        let calls = u64::from(match kind {
            // As many as there are pieces behind the segment.
            TestDevice::CacheModelMerged => {
                let other = attach(&importer, &buffer, TestDevice::BounceModel, 0)?;
                let info = other.map(Direction::ToDevice)?;
                info.segments
            }
            _ => mapped_again(&device)?.segments,
        });
        clean.0.zero_counts()?;
        expect_eq("zeroed", clean.0.counts()?, Counts::default())?;
        device.unmap()?;
        let unmapped = clean.0.counts()?;
        device.map(Direction::Bidirectional)?;
        let again = clean.0.counts()?;
        clean.0.zero_counts()?;
        clean.0.evict()?;
        clean.0.drop_clean()?;
        expect_eq("eviction", clean.0.counts()?, Counts::default())?;

        let cached = CACHES.contains(&kind);
        let unmap = if cached {
            Counts {
                invalidate_bytes: bytes,
                invalidate_calls: calls,
                ..Counts::default()
            }
        } else {
            Counts {
                from_bounce_bytes: bytes,
                from_bounce_calls: calls,
                ..Counts::default()
            }
        };
        let map = if cached {
            Counts {
                clean_bytes: bytes,
                clean_calls: calls,
                ..unmap
            }
        } else {
            Counts {
                to_bounce_bytes: bytes,
                to_bounce_calls: calls,
                ..unmap
            }
        };
        // It depends on the exporter, and is not of the models.
        let without_wb = |counts| Counts {
            wb_bytes: 0,
            drop_bytes: 0,
            ..counts
        };
        expect_eq("unmap", without_wb(unmapped), unmap)?;
        expect_eq("unmap and map", without_wb(again), map)?;
    }
    Ok(())
}

/// Unmaps and maps, to learn what the mapping is like.
fn mapped_again(device: &Attachment<'_>) -> Result<MapInfo, Errno> {
    device.unmap()?;
    device.map(Direction::Bidirectional)
}

fn snoop_and_direct_are_never_bounced(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size())?;
    let cpu = buffer.map()?;
    let _clean = Clean::start(&importer)?;
    for kind in [TestDevice::SnoopModel, TestDevice::DirectModel] {
        let (device, info) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        check!(!info.bounced, "{kind:?}: {info:?}");
        check!(
            device.is_coherent() == guest.is_coherent(kind),
            "{kind:?}: coherent or not"
        );
        // Of the second, nothing is tracked: it sees the memory itself.
        cpu.write(0, b"cpu")?;
        check!(
            device_read(&device, 0, 3)? == b"cpu",
            "{kind:?} sees a copy"
        );
        device.device_writes(size() as u64 - 6, b"device")?;
        check!(
            cpu_read(&cpu, size() - 6, 6)? == b"device",
            "{kind:?} wrote to a copy"
        );
    }

    let kind = TestDevice::BouncedModel;
    let (device, info) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
    check!(info.bounced == guest.swiotlb, "{kind:?}: {info:?}");
    cpu.write(0, b"new")?;
    let seen: &[u8] = if guest.swiotlb { b"cpu" } else { b"new" };
    check!(device_read(&device, 0, 3)? == seen, "{kind:?}: a slot");
    device.device_writes(0, b"dev")?;
    device.unmap()?;
    check!(cpu_read(&cpu, 0, 3)? == b"dev", "{kind:?}: unmap");
    Ok(())
}

fn direct_is_on_the_cache_model(guest: &Guest) -> Outcome {
    if guest.all_coherent() {
        return skip("every device is coherent on this architecture");
    }
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size())?;
    let cpu = buffer.map()?;
    let clean = Clean::start(&importer)?;
    clean.0.track(cpu.as_ptr(), size())?;
    // Whatever the exporter does for new memory, it is all clean now.
    clean.0.evict()?;
    let device = attach(&importer, &buffer, TestDevice::DirectModel, 0)?;
    device.map(Direction::Bidirectional)?;
    cpu.write(0, b"cpu")?;
    check!(
        device_read(&device, 0, 3)? == [0; 3],
        "the device sees it at once"
    );
    let window = buffer.cpu_access(Access::Write)?;
    cpu.write(0, b"cpu")?;
    window.end()?;
    check!(
        device_read(&device, 0, 3)? == b"cpu",
        "the device does not see it"
    );
    let bytes = pattern(size(), 5);
    device.device_writes(0, &bytes)?;
    check!(cpu.to_vec()? != bytes, "the CPU sees it at once");
    let window = buffer.cpu_access(Access::Read)?;
    check!(cpu.to_vec()? == bytes, "the CPU does not see it");
    window.end()?;

    // It shares the memory with all others on the cache model.
    let (other, _) = mapped(
        &importer,
        &buffer,
        TestDevice::CacheModel,
        Direction::ToDevice,
    )?;
    check!(
        device_read(&other, 0, size())? == bytes,
        "another device sees otherwise"
    );
    Ok(())
}

// udmabuf syncs the whole buffer for a device of its own, whoever is attached.
fn kprobes_count_exactly(guest: &Guest) -> Outcome {
    if guest.all_coherent() {
        return skip("the architecture maintains nothing");
    }
    let importer = guest.importer()?;
    let buffer = udmabuf(size())?;
    let cpu = buffer.map()?;
    let clean = Clean::start(&importer)?;
    // Only some of it: the rest must not be counted.
    let tracked = 7 * page();
    clean.0.track(cpu.as_ptr(), tracked)?;
    clean.0.evict()?;
    let bytes = if guest.swiotlb { 0 } else { tracked as u64 };

    let window = buffer.cpu_access(Access::ReadWrite)?;
    let counts = clean.0.counts()?;
    expect_eq("START invalidates", counts.invalidate_bytes, bytes)?;
    expect_eq("START cleans", counts.clean_bytes, 0)?;
    window.end()?;
    let counts = clean.0.counts()?;
    expect_eq("END invalidates", counts.invalidate_bytes, bytes)?;
    expect_eq("END cleans", counts.clean_bytes, bytes)?;
    check!(
        (counts.clean_calls != 0) == (bytes != 0),
        "no calls: {counts:?}"
    );
    expect_eq("calls", counts.clean_calls, counts.invalidate_calls)?;

    clean.0.zero_counts()?;
    buffer.cpu_access(Access::Write)?.end()?;
    let counts = clean.0.counts()?;
    expect_eq("TO_DEVICE invalidates", counts.invalidate_bytes, 0)?;
    expect_eq("TO_DEVICE cleans", counts.clean_bytes, bytes)
}

fn dma_is_checked(guest: &Guest) -> Outcome {
    let kinds = [
        TestDevice::BounceModel,
        TestDevice::CacheModel,
        TestDevice::CacheModelMerged,
        TestDevice::DirectModel,
        TestDevice::SnoopModel,
    ];
    for kind in kinds {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(size())?;
        let _clean = Clean::start(&importer)?;
        let device = attach(&importer, &buffer, kind, 0)?;
        let mut seen = [0; 2];
        fails_with(
            device.device_reads(0, &mut seen),
            Errno::NOTCONN,
            "not mapped",
        )?;
        device.map(Direction::ToDevice)?;
        fails_with(
            device.device_writes(0, b"no"),
            Errno::ACCESS,
            "write of TO_DEVICE",
        )?;
        let end = size() as u64;
        fails_with(
            device.device_reads(end - 1, &mut seen),
            Errno::INVAL,
            "across the end",
        )?;
        fails_with(
            device.device_reads(end, &mut seen),
            Errno::INVAL,
            "behind the end",
        )?;
        device.unmap()?;
        device.map(Direction::FromDevice)?;
        fails_with(
            device.device_reads(0, &mut seen),
            Errno::ACCESS,
            "read of FROM_DEVICE",
        )?;
    }
    Ok(())
}

fn reset_while_mapped(guest: &Guest) -> Outcome {
    for kind in OWN_OPS {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(size())?;
        let clean = Clean::start(&importer)?;
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        let bytes = pattern(size(), 6);
        device.device_writes(0, &bytes)?;
        fails_with(clean.0.reset(), Errno::BUSY, "reset while mapped")?;
        check!(
            device_read(&device, 0, size())? == bytes,
            "{kind:?}: a reset that fails forgets"
        );
        device.unmap()?;
        clean.0.reset()?;
    }
    Ok(())
}

fn reset_forgets(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = udmabuf(size())?;
    let cpu = buffer.map()?;
    let clean = Clean::start(&importer)?;
    for kind in CACHES {
        let (device, _) = mapped(&importer, &buffer, kind, Direction::Bidirectional)?;
        check!(
            device_read(&device, 0, size())? == vec![OLD; size()],
            "{kind:?} sees what another test left"
        );
        device.device_writes(0, &vec![1; size()])?;
        device.unmap()?;
        // What is not forgotten is there at the next map.
        device.map(Direction::Bidirectional)?;
        check!(
            device_read(&device, 0, size())? == vec![1; size()],
            "{kind:?}: unmap forgets"
        );
        device.unmap()?;
        clean.0.reset()?;
    }
    clean.0.track(cpu.as_ptr(), size())?;
    let (device, _) = mapped(
        &importer,
        &buffer,
        TestDevice::CacheModel,
        Direction::Bidirectional,
    )?;
    check!(
        device_read(&device, 0, size())? == vec![OLD; size()],
        "a page that is tracked by TRACK is another"
    );
    check!(
        guest.swiotlb || clean.0.counts()? == Counts::default(),
        "something was counted: {:?}",
        clean.0.counts()?
    );
    Ok(())
}

fn memory_types(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let model = importer.model();
    for buffer in [guest.bracketed(size())?, udmabuf(size())?] {
        let cpu = buffer.map()?;
        for at in [0, size() - 1] {
            let attrs = model.attrs(cpu.as_ptr().wrapping_add(at))?;
            expect_eq("user mapping", attrs.user, MemoryType::WriteBack)?;
            expect_eq("linear map", attrs.linear, MemoryType::WriteBack)?;
        }
    }

    let Ok(vgem) = Vgem::open() else {
        return skip("this kernel has no vgem, which has write-combined memory");
    };
    let buffer = Buffer::try_from(vgem.export()?)?;
    let cpu = buffer.map()?;
    let attrs = model.attrs(cpu.as_ptr())?;
    expect_eq("vgem, user", attrs.user, MemoryType::WriteCombining)?;
    // Shmem helpers of DRM change the linear map on x86 alone.
    let linear = if cfg!(target_arch = "x86_64") {
        MemoryType::WriteCombining
    } else {
        MemoryType::WriteBack
    };
    expect_eq("vgem, linear map", attrs.linear, linear)
}

fn bad_requests(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size())?;
    let cpu = buffer.map()?;
    let clean = Clean::start(&importer)?;
    let model = clean.0;
    let start = cpu.as_ptr().cast_const();
    let track = |at: usize, len| model.track(start.wrapping_add(at), len);
    fails_with(track(1, page()), Errno::INVAL, "odd address")?;
    fails_with(track(0, page() + 1), Errno::INVAL, "odd length")?;
    fails_with(track(0, 0), Errno::INVAL, "no length")?;
    fails_with(
        track(0, 0_usize.wrapping_sub(page())),
        Errno::INVAL,
        "overflow",
    )?;
    let hole = core::ptr::without_provenance(page());
    fails_with(model.track(hole, page()), Errno::FAULT, "track of a hole")?;
    fails_with(model.attrs(hole), Errno::FAULT, "attrs of a hole")?;
    let anonymous = vec![1_u8; 2 * page()];
    fails_with(
        model.attrs(anonymous.as_ptr()),
        Errno::FAULT,
        "attrs of other memory",
    )?;

    let request = |op: u32, reserved: u32| {
        let mut bytes = [0; 112];
        bytes[..4].copy_from_slice(&op.to_ne_bytes());
        bytes[4..8].copy_from_slice(&reserved.to_ne_bytes());
        raw::ioctl(&importer, uapi::IOCTL_MODEL, &mut bytes)
    };
    fails_with(request(7, 0), Errno::INVAL, "unknown op")?;
    fails_with(request(uapi::MODEL_COUNTS, 1), Errno::INVAL, "reserved")?;
    fails_with(
        raw::ioctl_bad_address(&importer, uapi::IOCTL_MODEL),
        Errno::FAULT,
        "bad argument",
    )
}
