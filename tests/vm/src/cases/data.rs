// SPDX-License-Identifier: GPL-2.0

//! Bytes, carried by a device that does real DMA. Under `swiotlb=force` the
//! device has a copy, so that a missing sync shows as stale bytes.

use cohbuf::{Access, Buffer};
use cohbuf_testdev::{Attachment, Direction, Importer, TestDevice};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, fails_with, skip};

crate::guest_suite!("data":
    cpu_writes_device_reads,
    device_writes_cpu_reads,
    write_only_window_keeps_device_data,
    read_window_keeps_device_data,
    bytes_across_segments,
    from_device_mapping_keeps_cpu_data,
    coherent_buffer_needs_no_bracket,
    two_writers_both_show,
    without_bracket_is_stale_where_bounced,
    dma_against_the_direction,
    dma_out_of_the_buffer,
);

fn edu<'a>(
    importer: &'a Importer,
    buffer: &Buffer,
    direction: Direction,
) -> Result<Attachment<'a>, crate::harness::Stop> {
    let attachment = importer.attach(buffer, TestDevice::Edu, 0)?;
    attachment.map(direction)?;
    Ok(attachment)
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn cpu_write(buffer: &Buffer, at: usize, bytes: &[u8], access: Access) -> Outcome {
    let mapping = buffer.map()?;
    let window = buffer.cpu_access(access)?;
    mapping.write(at, bytes)?;
    window.end()?;
    Ok(())
}

fn cpu_read(buffer: &Buffer, at: usize, len: usize) -> Result<Vec<u8>, crate::harness::Stop> {
    let mapping = buffer.map()?;
    let mut bytes = vec![0; len];
    let window = buffer.cpu_access(Access::Read)?;
    mapping.read(at, &mut bytes)?;
    window.end()?;
    Ok(bytes)
}

fn device_read(device: &Attachment<'_>, at: usize, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    device.device_reads(at as u64, &mut bytes)?;
    Ok(bytes)
}

fn cpu_writes_device_reads(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for direction in [Direction::ToDevice, Direction::Bidirectional] {
        let buffer = guest.bracketed(4 * page())?;
        let device = edu(&importer, &buffer, direction)?;
        let bytes = pattern(page(), 1);
        cpu_write(&buffer, page() + 100, &bytes, Access::Write)?;
        let seen = device_read(&device, page() + 100, bytes.len())?;
        check!(
            seen == bytes,
            "{direction:?}: the device sees something else"
        );
    }
    Ok(())
}

fn device_writes_cpu_reads(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for direction in [Direction::FromDevice, Direction::Bidirectional] {
        let buffer = guest.bracketed(4 * page())?;
        let device = edu(&importer, &buffer, direction)?;
        let bytes = pattern(page(), 2);
        device.device_writes((page() + 100) as u64, &bytes)?;
        let seen = cpu_read(&buffer, page() + 100, bytes.len())?;
        check!(seen == bytes, "{direction:?}: the CPU sees something else");
    }
    Ok(())
}

// The CPU writes one byte of what the device wrote.
fn write_only_window_keeps_device_data(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let device = edu(&importer, &buffer, Direction::Bidirectional)?;
    let mut bytes = pattern(page(), 3);
    device.device_writes(0, &bytes)?;
    bytes[77] ^= 0xff;
    cpu_write(&buffer, 77, &bytes[77..78], Access::Write)?;
    check!(
        device_read(&device, 0, page())? == bytes,
        "the device's data is lost"
    );
    check!(
        cpu_read(&buffer, 0, page())? == bytes,
        "the CPU sees something else"
    );
    Ok(())
}

// The device writes while the CPU only reads: the end of the window must not
// write back what the CPU had.
fn read_window_keeps_device_data(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let device = edu(&importer, &buffer, Direction::Bidirectional)?;
    let bytes = pattern(page(), 4);
    let window = buffer.cpu_access(Access::Read)?;
    device.device_writes(0, &bytes)?;
    window.end()?;
    check!(
        device_read(&device, 0, page())? == bytes,
        "the device's data is lost"
    );
    check!(
        cpu_read(&buffer, 0, page())? == bytes,
        "the CPU sees something else"
    );
    Ok(())
}

fn bytes_across_segments(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    // Behind the first segment of 64 KiB, across its end.
    let buffer = guest.bracketed(1 << 20)?;
    let device = edu(&importer, &buffer, Direction::Bidirectional)?;
    for end in [64 << 10, 128 << 10, 1 << 20] {
        let len = 2 * page();
        let at = if end == 1 << 20 {
            end - len
        } else {
            end - len / 2 - 13
        };
        let bytes = pattern(len, end as u32);
        cpu_write(&buffer, at, &bytes, Access::ReadWrite)?;
        check!(
            device_read(&device, at, len)? == bytes,
            "at {at}: the device sees otherwise"
        );
    }
    Ok(())
}

// A bounce buffer of a device that only writes has old bytes where the device
// wrote none. They must not go over what the CPU wrote.
fn from_device_mapping_keeps_cpu_data(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let device = edu(&importer, &buffer, Direction::FromDevice)?;
    cpu_write(&buffer, 0, b"cpu", Access::Write)?;
    device.device_writes(512, b"device")?;
    check!(
        cpu_read(&buffer, 0, 3)? == b"cpu",
        "what the CPU wrote is lost"
    );
    check!(
        cpu_read(&buffer, 512, 6)? == b"device",
        "what the device wrote is lost"
    );
    drop(device);
    check!(
        cpu_read(&buffer, 0, 3)? == b"cpu",
        "unmap lost what the CPU wrote"
    );
    check!(
        cpu_read(&buffer, 512, 6)? == b"device",
        "unmap lost what the device wrote"
    );
    Ok(())
}

fn coherent_buffer_needs_no_bracket(guest: &Guest) -> Outcome {
    if guest.swiotlb {
        return skip("a coherent buffer cannot be mapped under swiotlb=force");
    }
    let importer = guest.importer()?;
    let buffer = guest.coherent(page())?;
    let device = edu(&importer, &buffer, Direction::Bidirectional)?;
    let mapping = buffer.map()?;
    let bytes = pattern(256, 5);
    mapping.write(16, &bytes)?;
    check!(
        device_read(&device, 16, 256)? == bytes,
        "the device sees something else"
    );
    device.device_writes(1024, &bytes)?;
    let mut seen = vec![0; 256];
    mapping.read(1024, &mut seen)?;
    check!(seen == bytes, "the CPU sees something else");
    Ok(())
}

// The oracle itself: where this shows no stale bytes, the tests above show nothing.
fn without_bracket_is_stale_where_bounced(guest: &Guest) -> Outcome {
    if !guest.swiotlb {
        return skip("nothing is bounced in this boot");
    }
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let device = edu(&importer, &buffer, Direction::Bidirectional)?;
    let mapping = buffer.map()?;
    mapping.write(0, b"unsynced")?;
    check!(
        device_read(&device, 0, 8)? == [0; 8],
        "no END, and the device sees it"
    );
    device.device_writes(64, b"unsynced")?;
    let mut seen = [0; 8];
    mapping.read(64, &mut seen)?;
    check!(seen == [0; 8], "no START, and the CPU sees it");
    Ok(())
}

/// Two devices write the same buffer, each its own bytes. Where both have copies, neither copy has
/// what the other device wrote, and each is moved as a whole.
fn two_writers_both_show(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(2 * page())?;
    let first = edu(&importer, &buffer, Direction::Bidirectional)?;
    let second = importer.attach(&buffer, TestDevice::Edu, 1)?;
    second.map(Direction::FromDevice)?;
    first.device_writes(0, b"first")?;
    second.device_writes(100, b"second")?;
    check!(
        cpu_read(&buffer, 0, 5)? == b"first" && cpu_read(&buffer, 100, 6)? == b"second",
        "one of them went over the other"
    );
    // Back to the old bytes, by the other device: its copy had them all the while.
    second.device_writes(0, &[0; 5])?;
    check!(
        cpu_read(&buffer, 0, 5)? == [0; 5] && cpu_read(&buffer, 100, 6)? == b"second",
        "what was written back to what it was is lost"
    );
    cpu_write(&buffer, 200, b"processor", Access::Write)?;
    check!(
        device_read(&first, 200, 9)? == b"processor" && device_read(&first, 100, 6)? == b"second",
        "after a write window a device sees all"
    );
    // An unmap moves a copy as well.
    first.device_writes(4, b"last")?;
    second.device_writes(300, b"least")?;
    first.unmap()?;
    check!(
        cpu_read(&buffer, 4, 4)? == b"last" && cpu_read(&buffer, 300, 5)? == b"least",
        "an unmap went over the other device's bytes"
    );
    Ok(())
}

fn dma_against_the_direction(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let reads = edu(&importer, &buffer, Direction::ToDevice)?;
    fails_with(
        reads.device_writes(0, b"no"),
        Errno::ACCESS,
        "write of TO_DEVICE",
    )?;
    let writes = edu(&importer, &buffer, Direction::FromDevice)?;
    fails_with(
        writes.device_reads(0, &mut [0; 2]),
        Errno::ACCESS,
        "read of FROM_DEVICE",
    )
}

fn dma_out_of_the_buffer(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let device = edu(&importer, &buffer, Direction::Bidirectional)?;
    let end = page() as u64;
    fails_with(
        device.device_writes(end, b"x"),
        Errno::INVAL,
        "behind the end",
    )?;
    fails_with(
        device.device_writes(end - 1, b"xx"),
        Errno::INVAL,
        "across the end",
    )?;
    fails_with(
        device.device_writes(u64::MAX, b"xx"),
        Errno::INVAL,
        "overflow",
    )?;
    fails_with(device.device_writes(0, b""), Errno::INVAL, "nothing")
}
