// SPDX-License-Identifier: GPL-2.0

//! A way for those refused (R12), and what else the library does with the ioctls beyond SYNC.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cohbuf::share::{Failure, Importer as _, ShareError, Step, Way, WithUdmabuf, share, share_by};
use cohbuf::{
    Access, AttachmentFlags, Buffer, CopyRegion, Mapping, Protection, Reach, Region, Udmabuf,
};
use cohbuf_testdev::{Attachment, Direction, Importer, TestDevice};
use rustix::io::Errno;

use crate::enforced;
use crate::guest::{self, Guest, ModelReset, page};
use crate::harness::{Outcome, Stop, expect, expect_eq, expect_errno, fail, skip};

crate::guest_suite!("share":
    vgem_takes_a_bracketed_buffer,
    vgem_gets_a_coherent_buffer,
    vgem_by_reverse,
    vgem_by_copy,
    model_device_by_copy,
    device_that_snoops_by_udmabuf,
    buffer_of_another_exporter,
    nobody_is_left_attached,
    errors_of_the_caller_stop_it,
    nothing_that_is_no_dma_buf,
    nothing_that_is_poisoned,
    imports_of_one_buffer_are_counted,
    inspect_lists_all,
    region_access_counts,
    copy_is_of_any_exporter,
);

/// Not a power of two, so that a rounding shows. Below 64 KiB, as DMA-API debug tells of longer
/// segments of udmabuf.
fn size() -> usize {
    13 * page()
}

/// Bytes without a period of pages, and other ones for another seed.
fn pattern(seed: u32, len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| ((n ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b) >> 24) as u8)
        .collect()
}

fn write(buffer: &Buffer, bytes: &[u8]) -> Result<(), Stop> {
    let mapping = buffer.map()?;
    let window = buffer.cpu_access(Access::Write)?;
    mapping.write(0, bytes)?;
    Ok(window.end()?)
}

fn read(buffer: &Buffer, len: usize) -> Result<Vec<u8>, Stop> {
    let mapping: Mapping = buffer.map_range(0, len as u64, Protection::Read)?;
    let window = buffer.cpu_access(Access::Read)?;
    let bytes = mapping.to_vec()?;
    window.end()?;
    Ok(bytes)
}

/// A buffer of udmabuf, where the kernel has it. It is mapped in both directions: udmabuf does so
/// in that of the first access, and DMA-API debug tells of any other after that.
fn udmabuf_buffer() -> Result<Option<Buffer>, Stop> {
    let Ok(udmabuf) = Udmabuf::open() else {
        return Ok(None);
    };
    let buffer = udmabuf.create(size() as u64)?;
    buffer.cpu_access(Access::ReadWrite)?.end()?;
    Ok(Some(buffer))
}

/// A device of the test importer, which maps what it imports.
struct TestImporter<'a> {
    importer: &'a Importer,
    kind: TestDevice,
    direction: Direction,
}

impl cohbuf::share::Importer for TestImporter<'_> {
    type Import<'a>
        = Attachment<'a>
    where
        Self: 'a;

    fn import(&self, buffer: BorrowedFd<'_>) -> Result<Attachment<'_>, Errno> {
        let attached = self.importer.attach(buffer, self.kind, 0);
        let attachment = attached.map_err(|refused| refused.errno)?;
        attachment.map(self.direction)?;
        Ok(attachment)
    }
}

/// Takes nothing, and counts how often it was asked.
struct Refuses {
    errno: Errno,
    asked: Cell<u32>,
}

impl Refuses {
    fn with(errno: Errno) -> Self {
        Self {
            errno,
            asked: Cell::new(0),
        }
    }
}

impl cohbuf::share::Importer for Refuses {
    type Import<'a> = ();

    fn import(&self, _: BorrowedFd<'_>) -> Result<(), Errno> {
        self.asked.set(self.asked.get() + 1);
        Err(self.errno)
    }

    fn export(&self, size: u64) -> Result<OwnedFd, Errno> {
        // What it could not import either.
        let own = Udmabuf::open().and_then(|device| device.create(size));
        own.map(Buffer::into_fd).map_err(|error| error.errno())
    }
}

fn no_way<T>(result: Result<T, ShareError>) -> Result<ShareError, Stop> {
    match result {
        Ok(_) => fail("it was shared"),
        Err(error) => Ok(error),
    }
}

fn shared_with_failure<T>(result: Result<T, ShareError>) -> Result<T, Stop> {
    result.or_else(|error| fail(error.to_string()))
}

fn vgem_takes_a_bracketed_buffer(guest: &Guest) -> Outcome {
    let vgem = guest::vgem()?;
    let device = guest.device()?;
    let buffer = guest.bracketed(size())?;
    let shared = shared_with_failure(share(&device, &buffer, vgem.device()))?;
    expect_eq("way", shared.way(), Way::Direct)?;
    expect_eq("tried", shared.attempts().len(), 1)?;
    let cost = shared.cost();
    expect_eq("copied", (cost.copied_once, cost.copied_per_update), (0, 0))?;
    // vgem does not map: what that would cost is known only where it snoops.
    let maintained = guest.all_coherent().then_some(0);
    expect_eq("maintained", cost.maintained_per_update, maintained)?;
    for (what, buffer) in [
        ("producers'", shared.producer_buffer()),
        ("importer's", shared.importer_buffer()),
    ] {
        expect_eq(what, device.info(buffer)?.attachments, 1)?;
    }
    let bytes = pattern(1, size());
    write(shared.producer_buffer(), &bytes)?;
    expect_eq("refresh", shared.refresh()?, 0)?;
    expect("bytes", read(shared.importer_buffer(), size())? == bytes)?;
    drop(shared);
    expect_eq("attached after", device.info(&buffer)?.attachments, 0)
}

/// On arm64 it refuses the buffer, and exports one itself.
fn vgem_gets_a_coherent_buffer(guest: &Guest) -> Outcome {
    let vgem = guest::vgem()?;
    let device = guest.device()?;
    let buffer = guest.coherent(size())?;
    let first = pattern(1, size());
    write(&buffer, &first)?;
    let shared = shared_with_failure(share(&device, &buffer, vgem.device()))?;
    let direct = shared.attempts().first().map(|attempt| attempt.result);
    if guest.all_coherent() {
        expect_eq("way", shared.way(), Way::Direct)?;
        expect_eq("direct", direct, Some(Ok(())))?;
        expect_eq("once", shared.cost().copied_once, 0)?;
    } else {
        let refused = Failure {
            step: Step::Import,
            errno: Errno::OPNOTSUPP,
        };
        expect_eq("way", shared.way(), Way::Reverse)?;
        expect_eq("direct", direct, Some(Err(refused)))?;
        expect_eq("once", shared.cost().copied_once, size() as u64)?;
    }
    expect_eq("update", shared.cost().copied_per_update, 0)?;
    expect("bytes", read(shared.importer_buffer(), size())? == first)?;
    let second = pattern(2, size());
    write(shared.producer_buffer(), &second)?;
    expect_eq("refresh", shared.refresh()?, 0)?;
    expect("update", read(shared.importer_buffer(), size())? == second)
}

fn vgem_by_reverse(guest: &Guest) -> Outcome {
    let vgem = guest::vgem()?;
    let device = guest.device()?;
    for buffer in [guest.bracketed(size())?, guest.coherent(size())?] {
        let first = pattern(3, size());
        write(&buffer, &first)?;
        let ways = [Way::Reverse];
        let shared = shared_with_failure(share_by(&device, &buffer, vgem.device(), &ways))?;
        expect_eq("way", shared.way(), Way::Reverse)?;
        expect_errno(
            "it is not cohbuf's",
            device.info(shared.importer_buffer()),
            Errno::MEDIUMTYPE,
        )?;
        expect("bytes", read(shared.importer_buffer(), size())? == first)?;
        write(shared.producer_buffer(), &pattern(4, size()))?;
        expect(
            "update",
            read(shared.importer_buffer(), size())? == pattern(4, size()),
        )?;
        expect("the old one", read(&buffer, size())? == first)?;
        expect_eq("nobody knows", shared.cost().maintained_per_update, None)?;
        // What vgem exports is a buffer as long as it lives.
        let own = shared.importer_buffer().as_fd().try_clone_to_owned()?;
        drop(shared);
        let own = Buffer::try_from(own)?;
        expect("after", read(&own, size())? == pattern(4, size()))?;
    }
    Ok(())
}

fn vgem_by_copy(guest: &Guest) -> Outcome {
    let vgem = guest::vgem()?;
    let device = guest.device()?;
    let buffer = guest.coherent(size())?;
    let (first, second) = (pattern(5, size()), pattern(6, size()));
    write(&buffer, &first)?;
    let shared = shared_with_failure(share_by(&device, &buffer, vgem.device(), &[Way::Copy]))?;
    expect_eq("way", shared.way(), Way::Copy)?;
    let copied = (shared.cost().copied_once, shared.cost().copied_per_update);
    expect_eq("copied", copied, (size() as u64, size() as u64))?;
    let copy = shared.importer_buffer();
    expect_eq("attached", device.info(copy)?.attachments, 1)?;
    expect("bytes", read(copy, size())? == first)?;

    write(shared.producer_buffer(), &second)?;
    expect("before refresh", read(copy, size())? == first)?;
    // A region of it: 5 rows.
    let (offset, length, stride, rows) = (100, 70, 5000, 5);
    let region = Region::Rows {
        offset: offset as u64,
        length: length as u64,
        stride: stride as u64,
        rows: rows as u64,
    };
    let bytes = shared.refresh_region(region)?;
    expect_eq("copied", bytes, (length * rows) as u64)?;
    let mut must = first;
    for row in 0..rows {
        let at = offset + row * stride;
        must[at..at + length].copy_from_slice(&second[at..at + length]);
    }
    expect("region", read(copy, size())? == must)?;
    expect_eq("copied", shared.refresh()?, size() as u64)?;
    expect("after refresh", read(copy, size())? == second)?;

    let third = pattern(7, size());
    write(copy, &third)?;
    expect_eq("fetched", shared.fetch()?, size() as u64)?;
    expect("fetch", read(&buffer, size())? == third)
}

/// A device with a memory of its own, which a coherent buffer refuses everywhere: what was not
/// maintained would be old there.
fn model_device_by_copy(guest: &Guest) -> Outcome {
    for kind in [
        TestDevice::CacheModel,
        TestDevice::CacheModelMerged,
        TestDevice::BounceModel,
    ] {
        let importer = guest.importer()?;
        importer.model().reset()?;
        let device = guest.device()?;
        let buffer = guest.coherent(size())?;
        // Longer than the models look at it.
        let mut _keep = None;
        let _reset = ModelReset(&importer);
        let test_importer = TestImporter {
            importer: &importer,
            kind,
            direction: Direction::Bidirectional,
        };
        let mut bytes = pattern(8, size());
        write(&buffer, &bytes)?;
        let shared = shared_with_failure(share(&device, &buffer, &test_importer))?;
        _keep = Some(shared.importer_buffer().as_fd().try_clone_to_owned()?);
        expect_eq("way", shared.way(), Way::Copy)?;
        let failed = |number: usize| shared.attempts().get(number).map(|a| a.result);
        let unsupported = |step| {
            let errno = Errno::OPNOTSUPP;
            Some(Err(Failure { step, errno }))
        };
        expect_eq("direct", failed(0), unsupported(Step::Import))?;
        expect_eq("reverse", failed(1), unsupported(Step::Export))?;
        // Its ops are its own: nobody knows what they do.
        expect_eq("maintained", shared.cost().maintained_per_update, None)?;

        let seen = |attachment: &Attachment<'_>| -> Result<Vec<u8>, Errno> {
            let mut seen = vec![0; size()];
            attachment.device_reads(0, &mut seen)?;
            Ok(seen)
        };
        expect(format!("{kind:?}: bytes"), seen(shared.import())? == bytes)?;
        let old = bytes;
        bytes = pattern(9, size());
        write(shared.producer_buffer(), &bytes)?;
        expect("before refresh", seen(shared.import())? == old)?;
        shared.refresh()?;
        expect(format!("{kind:?}: update"), seen(shared.import())? == bytes)?;

        let written = pattern(10, size());
        shared.import().device_writes(0, &written)?;
        expect_eq("fetched", shared.fetch()?, size() as u64)?;
        expect(
            format!("{kind:?}: what it wrote"),
            read(&buffer, size())? == written,
        )?;
        drop(shared);
    }
    Ok(())
}

fn device_that_snoops_by_udmabuf(guest: &Guest) -> Outcome {
    let Ok(udmabuf) = Udmabuf::open() else {
        return skip("this kernel has no udmabuf");
    };
    let importer = guest.importer()?;
    let device = guest.device()?;
    let buffer = guest.coherent(size())?;
    let _reset = ModelReset(&importer);
    let own = WithUdmabuf::new(
        TestImporter {
            importer: &importer,
            kind: TestDevice::SnoopModel,
            direction: Direction::ToDevice,
        },
        udmabuf,
    );
    let mut bytes = pattern(11, size());
    write(&buffer, &bytes)?;
    let shared = shared_with_failure(share_by(&device, &buffer, &own, &[Way::Reverse]))?;
    let mut seen = vec![0; size()];
    shared.import().device_reads(0, &mut seen)?;
    expect("bytes", seen == bytes)?;
    bytes = pattern(12, size());
    write(shared.producer_buffer(), &bytes)?;
    shared.import().device_reads(0, &mut seen)?;
    expect("update", seen == bytes)
}

/// A buffer of udmabuf, for a device that does not snoop: udmabuf refuses nobody and maintains
/// nothing, so that only a copy is right.
fn buffer_of_another_exporter(guest: &Guest) -> Outcome {
    let Some(source) = udmabuf_buffer()? else {
        return skip("this kernel has no udmabuf");
    };
    let importer = guest.importer()?;
    importer.model().reset()?;
    let device = guest.device()?;
    let mut _keep = None;
    let _reset = ModelReset(&importer);
    let cache = TestImporter {
        importer: &importer,
        kind: TestDevice::CacheModel,
        direction: Direction::ToDevice,
    };
    let bytes = pattern(13, size());
    write(&source, &bytes)?;
    let shared = shared_with_failure(share_by(&device, &source, &cache, &[Way::Copy]))?;
    _keep = Some(shared.importer_buffer().as_fd().try_clone_to_owned()?);
    let mut seen = vec![0; size()];
    shared.import().device_reads(0, &mut seen)?;
    expect("bytes", seen == bytes)?;
    let bytes = pattern(14, size());
    write(&source, &bytes)?;
    shared.refresh()?;
    shared.import().device_reads(0, &mut seen)?;
    expect("update", seen == bytes)?;
    drop(shared);
    Ok(())
}

fn nobody_is_left_attached(guest: &Guest) -> Outcome {
    if Udmabuf::open().is_err() {
        return skip("this kernel has no udmabuf to export by");
    }
    let device = guest.device()?;
    let buffer = guest.coherent(size())?;
    let (files, buffers) = (guest::open_files()?, guest::live_buffers()?);
    let refuses = Refuses::with(Errno::OPNOTSUPP);
    let error = no_way(share(&device, &buffer, &refuses))?;
    let failed = |way| {
        let mut attempts = error.attempts().iter().filter(|a| a.way == way);
        attempts.next().map(|attempt| attempt.result)
    };
    let refused = Some(Err(Failure {
        step: Step::Import,
        errno: Errno::OPNOTSUPP,
    }));
    for way in Way::ALL {
        expect_eq("a way", failed(way), refused)?;
    }
    expect_eq("asked", refuses.asked.get(), 3)?;
    expect_eq("files", guest::open_files()?, files)?;
    expect_eq("buffers", guest::live_buffers()?, buffers)?;
    expect_eq("attached", device.info(&buffer)?.attachments, 0)
}

fn errors_of_the_caller_stop_it(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let buffer = guest.bracketed(page())?;
    for errno in [Errno::ACCESS, Errno::PERM, Errno::NODEV, Errno::MFILE] {
        let refuses = Refuses::with(errno);
        let error = no_way(share(&device, &buffer, &refuses))?;
        let must = ShareError::Importer(Failure {
            step: Step::Import,
            errno,
        });
        expect_eq("error", error, must)?;
        expect_eq("asked", refuses.asked.get(), 1)?;
    }
    Ok(())
}

fn nothing_that_is_no_dma_buf(guest: &Guest) -> Outcome {
    let file = OwnedFd::from(std::fs::File::open("/proc/self/exe")?);
    expect_errno("a file", Buffer::try_from(file), Errno::INVAL)?;
    // A kernel may have no sockets at all.
    if let Ok((socket, _other)) = std::os::unix::net::UnixStream::pair() {
        expect_errno(
            "a socket",
            Buffer::try_from(OwnedFd::from(socket)),
            Errno::INVAL,
        )?;
    }
    // Of cohbuf, and of each other exporter that this kernel has.
    let ours = guest.bracketed(page())?.into_fd();
    expect_eq("ours", Buffer::try_from(ours)?.size(), page() as u64)?;
    let mut others = Vec::new();
    others.extend(udmabuf_buffer()?.map(Buffer::into_fd));
    others.extend(cohbuf_testdev::system_heap(size() as u64));
    if let Ok(vgem) = guest::vgem() {
        others.push(vgem.device().export(size() as u64)?);
    }
    for other in others {
        expect(
            "another's",
            Buffer::try_from(other)?.size() >= size() as u64,
        )?;
    }
    Ok(())
}

fn nothing_that_is_poisoned(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let scene = enforced::Scene::new(guest, 1, enforced::POISON)?;
    let importer = guest.importer()?;
    let (files, buffers) = (guest::open_files()?, guest::live_buffers()?);
    // It would have gone, by each way.
    let takes = TestImporter {
        importer: &importer,
        kind: TestDevice::SnoopModel,
        direction: Direction::ToDevice,
    };
    for way in [Way::Direct, Way::Copy] {
        shared_with_failure(share_by(&device, &scene.buffer, &takes, &[way]))?;
    }
    scene.poison()?;
    let refuses = Refuses::with(Errno::OPNOTSUPP);
    for ways in [
        &Way::ALL[..],
        &[Way::Direct],
        &[Way::Reverse],
        &[Way::Copy],
        &[],
    ] {
        for error in [
            no_way(share_by(&device, &scene.buffer, &takes, ways))?,
            no_way(share_by(&device, &scene.buffer, &refuses, ways))?,
        ] {
            match error {
                ShareError::Buffer(error) => expect_eq("errno", error.errno(), Errno::IO)?,
                other => return fail(format!("{ways:?}: {other:?}")),
            }
        }
    }
    expect_eq("asked", refuses.asked.get(), 0)?;
    expect_eq("attached", device.info(&scene.buffer)?.attachments, 0)?;
    expect_eq("buffers", guest::live_buffers()?, buffers)?;
    expect_eq("files", guest::open_files()?, files)
}

/// PRIME gives the same handle again; to let go of one import leaves the other.
fn imports_of_one_buffer_are_counted(guest: &Guest) -> Outcome {
    let vgem = guest::vgem()?;
    let device = guest.device()?;
    let buffer = guest.bracketed(page())?;
    let attachments = || -> Result<u32, Stop> { Ok(device.info(&buffer)?.attachments) };
    let first = vgem.device().import(buffer.as_fd())?;
    let second = vgem.device().import(buffer.as_fd())?;
    expect_eq("handle", first.handle(), second.handle())?;
    drop(first);
    expect_eq("with one left", attachments()?, 1)?;
    drop(second);
    expect_eq("with none", attachments()?, 0)
}

/// More than the library asks for at first.
fn inspect_lists_all(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let device = guest.device()?;
    let buffer = guest.bracketed(page())?;
    let (info, list) = device.inspect(&buffer)?;
    expect_eq("none", (info.attachments, list.len()), (0, 0))?;
    let mut attachments = Vec::new();
    for number in 0..20 {
        let kind = if number % 2 == 0 {
            TestDevice::Coherent
        } else {
            TestDevice::NonCoherent
        };
        let attachment = importer.attach(&buffer, kind, 0)?;
        if number >= 10 {
            attachment.map(Direction::ToDevice)?;
        }
        attachments.push(attachment);
    }
    let (info, list) = device.inspect(&buffer)?;
    expect_eq("all", (info.attachments, list.len()), (20, 20))?;
    let mapped = list.iter().filter(|one| one.mappings == 1).count();
    expect_eq("mapped", mapped, 10)?;
    let bounced: u32 = list.iter().map(|one| one.bounced).sum();
    expect_eq("bounced", bounced, if guest.swiotlb { 10 } else { 0 })?;
    let snooping = list
        .iter()
        .filter(|one| one.flags.contains(AttachmentFlags::COHERENT))
        .count();
    let must = if guest.all_coherent() { 20 } else { 10 };
    expect_eq("coherent", snooping, must)?;
    for one in &list {
        let reach = match one.mappings {
            0 => Reach::None,
            _ if guest.swiotlb => Reach::Bounced,
            _ if one.flags.contains(AttachmentFlags::COHERENT) => Reach::Snooping,
            _ => Reach::Direct,
        };
        expect_eq(&one.device, one.reach, reach)?;
        let named = one.device.contains("coherent") && !one.driver.is_empty();
        expect(format!("{one:?} has names"), named)?;
    }
    Ok(())
}

/// The guard gives what both ends cost, and its drop is an END.
fn region_access_counts(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let device = guest.device()?;
    let buffer = guest.bracketed(size())?;
    let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
    attachment.map(Direction::ToDevice)?;
    let region = Region::linear(256..512);
    let window = device.cpu_access_region(&buffer, Access::Write, region)?;
    expect_eq("open", device.info(&buffer)?.write_windows, 1)?;
    expect_eq("START", window.begin_cost().maintained(), 0)?;
    let cost = window.end()?;
    let must = if guest.maintains(1) == 0 { 0 } else { 256 };
    expect_eq("END", cost.maintained(), must)?;
    expect_eq("closed", device.info(&buffer)?.write_windows, 0)?;
    drop(device.cpu_access_region(&buffer, Access::Write, region)?);
    expect_eq("dropped", device.info(&buffer)?.write_windows, 0)?;
    for (region, errno) in [
        (Region::linear(0..0), Errno::INVAL),
        (Region::linear(0..size() as u64 + 1), Errno::INVAL),
    ] {
        let result = device.cpu_access_region(&buffer, Access::Write, region);
        expect_errno("a region", result.map(drop), errno)?;
    }
    expect_eq("refused", device.info(&buffer)?.write_windows, 0)
}

/// From each exporter that this kernel has to each.
fn copy_is_of_any_exporter(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let mut buffers = vec![
        ("bracketed", guest.bracketed(size())?),
        ("coherent", guest.coherent(size())?),
    ];
    if let Some(buffer) = udmabuf_buffer()? {
        buffers.push(("udmabuf", buffer));
    }
    if let Ok(vgem) = guest::vgem() {
        let fd = vgem.device().export(size() as u64)?;
        buffers.push(("vgem", Buffer::try_from(fd)?));
    }
    if let Ok(fd) = cohbuf_testdev::system_heap(size() as u64) {
        buffers.push(("system heap", Buffer::try_from(fd)?));
    }
    let mut seed = 100;
    for (from, source) in &buffers {
        for (to, target) in &buffers {
            if from == to {
                continue;
            }
            seed += 2;
            let (bytes, mut must) = (pattern(seed, size()), pattern(seed + 1, size()));
            write(source, &bytes)?;
            write(target, &must)?;
            let (src_offset, dst_offset, length) = (5000, 333, 9001);
            let region = CopyRegion::Linear {
                src_offset: src_offset as u64,
                dst_offset: dst_offset as u64,
                length: length as u64,
            };
            let copied = device.copy(source, target, region)?;
            expect_eq("bytes", copied, length as u64)?;
            must[dst_offset..dst_offset + length]
                .copy_from_slice(&bytes[src_offset..src_offset + length]);
            expect(
                format!("{from} to {to}"),
                read(target, size())? == must && read(source, size())? == bytes,
            )?;
        }
    }
    Ok(())
}
