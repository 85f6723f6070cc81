// SPDX-License-Identifier: GPL-2.0

//! `COHBUF_IOCTL_CAPS`, and what all ioctls of /dev/cohbuf have in common.

use cohbuf::{Device, Errno, uapi};

use crate::guest::{PAGE, exists};
use crate::harness::{Outcome, expect, expect_eq, expect_errno, fail, skip};
use crate::raw;
use crate::suite;

suite!("caps":
    says_what_there_is,
    limit_is_read_at_use,
    reserved_must_be_zero,
    unknown_command,
    command_of_another_direction,
    bad_address,
    unwritable_address,
    too_short,
    shorter_than_now,
    longer_with_zeros,
    longer_with_something,
    longer_than_a_page,
);

fn says_what_there_is() -> Outcome {
    let caps = Device::open()?.caps()?;
    expect_eq("version", caps.version, uapi::API_VERSION)?;
    expect_eq(
        "flags",
        caps.flags,
        (uapi::COHERENT
            | uapi::WRITE_COMBINE
            | uapi::CONTIGUOUS
            | uapi::TRACK_DIRTY
            | uapi::ENFORCE_REPORT
            | uapi::ENFORCE_POISON)
            .into(),
    )?;
    expect_eq("page size", caps.page_size, PAGE as u64)?;
    expect_eq("reserved", caps.reserved, 0)?;
    expect(
        "a limit that is some pages",
        caps.max_size >= caps.page_size,
    )
}

const LIMIT: &str = "/sys/module/cohbuf/parameters/max_size_mb";

fn limit_is_read_at_use() -> Outcome {
    if !exists(LIMIT) {
        return fail(format!("{LIMIT} is not there"));
    }
    let before = std::fs::read_to_string(LIMIT)?;
    if std::fs::write(LIMIT, "3").is_err() {
        return skip("the parameter cannot be changed at run time");
    }
    let result = with_limit_of_three();
    std::fs::write(LIMIT, before.trim())?;
    result
}

fn with_limit_of_three() -> Outcome {
    let device = Device::open()?;
    let flags = cohbuf::CreateFlags::empty();
    expect_eq("max_size", device.caps()?.max_size, 3 << 20)?;
    device.create(3 << 20, flags)?;
    expect_errno(
        "a byte above",
        device.create((3 << 20) + 1, flags),
        Errno::FBIG,
    )
}

/// Number, and a structure that the driver takes.
pub(super) fn commands() -> [(u32, Vec<u8>); 3] {
    let mut create = vec![0; 24];
    create[..8].copy_from_slice(&(PAGE as u64).to_ne_bytes());
    create[12..16].copy_from_slice(&(libc::O_RDWR as u32).to_ne_bytes());
    [
        (uapi::IOCTL_CAPS, vec![0; 32]),
        (uapi::IOCTL_CREATE, create),
        // Of no file; what is tested here fails before that is looked at.
        (uapi::IOCTL_INFO, info_of(-1)),
    ]
}

fn info_of(fd: i32) -> Vec<u8> {
    let mut info = vec![0; size_of::<uapi::RawInfo>()];
    info[..4].copy_from_slice(&fd.to_ne_bytes());
    info
}

fn reserved_must_be_zero() -> Outcome {
    let device = Device::open()?;
    let mut caps = vec![0; 32];
    caps[4] = 1;
    expect_errno(
        "reserved",
        raw::ioctl(&device, uapi::IOCTL_CAPS, &mut caps),
        Errno::INVAL,
    )?;
    // The other fields are not looked at.
    let mut caps = vec![0xff; 32];
    caps[4..8].fill(0);
    raw::ioctl(&device, uapi::IOCTL_CAPS, &mut caps)?;
    Ok(())
}

fn unknown_command() -> Outcome {
    let device = Device::open()?;
    for (group, number) in [(b'C', 0xaf), (b'C', 0xb5), (b'C', 0xff), (b'D', 0xb0)] {
        expect_errno(
            &format!("command {group:#x} {number:#x}"),
            raw::ioctl(&device, raw::iowr(group, number, 32), &mut [0; 32]),
            Errno::NOTTY,
        )?;
    }
    Ok(())
}

fn command_of_another_direction() -> Outcome {
    let device = Device::open()?;
    for (command, mut bytes) in commands() {
        let read_only = (command & !(3 << 30)) | (2 << 30);
        expect_errno(
            "_IOR",
            raw::ioctl(&device, read_only, &mut bytes),
            Errno::NOTTY,
        )?;
    }
    Ok(())
}

fn bad_address() -> Outcome {
    let device = Device::open()?;
    for (command, _) in commands() {
        expect_errno(
            &format!("command {command:#x}"),
            raw::ioctl_bad_address(&device, command),
            Errno::FAULT,
        )?;
    }
    Ok(())
}

fn unwritable_address() -> Outcome {
    let device = Device::open()?;
    let buffer = crate::guest::bracketed(1)?;
    let files = crate::guest::open_files()?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&buffer));
    let mut all = commands();
    all[2].1 = info_of(fd);
    for (command, bytes) in all {
        expect_errno(
            &format!("command {command:#x}"),
            raw::ioctl_read_only(&device, command, &bytes),
            Errno::FAULT,
        )?;
    }
    expect_eq("open files", crate::guest::open_files()?, files)
}

/// Bytes that the first version of a structure had.
fn first_version(command: u32, bytes: &[u8]) -> usize {
    if command == uapi::IOCTL_INFO {
        72
    } else {
        bytes.len()
    }
}

fn too_short() -> Outcome {
    let device = Device::open()?;
    for (command, mut bytes) in commands() {
        let first = first_version(command, &bytes);
        for size in [0, 1, first - 8, first - 1] {
            expect_errno(
                &format!("command {command:#x} with {size} bytes"),
                raw::ioctl(&device, raw::resized(command, size), &mut bytes),
                Errno::INVAL,
            )?;
        }
    }
    Ok(())
}

/// A program that was built when INFO had fewer fields.
fn shorter_than_now() -> Outcome {
    let device = Device::open()?;
    let buffer = crate::guest::bracketed(3)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&buffer));
    let all = info_of(fd);
    for size in first_version(uapi::IOCTL_INFO, &all)..all.len() {
        let mut bytes = all.clone();
        bytes[size..].fill(0xa5);
        raw::ioctl(&device, raw::resized(uapi::IOCTL_INFO, size), &mut bytes)?;
        let bytes_of = u64::from_ne_bytes(bytes[8..16].try_into().unwrap_or_default());
        expect_eq("size", bytes_of, 3 * PAGE as u64)?;
        let untouched = bytes[size..].iter().all(|byte| *byte == 0xa5);
        expect_eq("what lies beyond", untouched, true)?;
    }
    Ok(())
}

fn longer_with_zeros() -> Outcome {
    let device = Device::open()?;
    let buffer = crate::guest::bracketed(1)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&buffer));
    let mut all = commands();
    all[2].1 = info_of(fd);
    for (command, bytes) in all {
        for size in [bytes.len() + 8, bytes.len() + 1, PAGE] {
            let mut longer = bytes.clone();
            longer.resize(size, 0);
            raw::ioctl(&device, raw::resized(command, size), &mut longer)?;
            if command == uapi::IOCTL_CREATE {
                let made = i32::from_ne_bytes([longer[16], longer[17], longer[18], longer[19]]);
                drop(raw::own(made));
            }
        }
    }
    Ok(())
}

fn longer_with_something() -> Outcome {
    let device = Device::open()?;
    let files = crate::guest::open_files()?;
    for (command, bytes) in commands() {
        for at in [bytes.len(), bytes.len() + 7, PAGE - 1] {
            let mut longer = bytes.clone();
            longer.resize(PAGE, 0);
            longer[at] = 1;
            expect_errno(
                &format!("command {command:#x} with byte {at}"),
                raw::ioctl(&device, raw::resized(command, PAGE), &mut longer),
                Errno::TOOBIG,
            )?;
        }
    }
    expect_eq("open files", crate::guest::open_files()?, files)
}

fn longer_than_a_page() -> Outcome {
    let device = Device::open()?;
    for (command, bytes) in commands() {
        let mut longer = bytes.clone();
        longer.resize(PAGE + 8, 0);
        expect_errno(
            &format!("command {command:#x}"),
            raw::ioctl(&device, raw::resized(command, PAGE + 8), &mut longer),
            Errno::TOOBIG,
        )?;
    }
    Ok(())
}
