// SPDX-License-Identifier: GPL-2.0

//! `COHBUF_IOCTL_CREATE` and `COHBUF_IOCTL_INFO`: each errno, and that nothing
//! is lost.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use cohbuf::uapi::{self, Create, RawInfo};
use cohbuf::{CreateFlags, Device, Errno, FdFlags};

use crate::guest::{self, PAGE};
use crate::harness::{Outcome, Stop, expect, expect_eq, expect_errno, fail, skip};
use crate::{child, raw, suite};

suite!("create":
    gives_what_was_asked_for,
    size_is_rounded_up,
    size_zero,
    size_above_the_limit,
    size_that_overflows,
    unknown_flags,
    unknown_fd_flags,
    fd_must_be_zero,
    reserved_must_be_zero,
    every_flag_and_fd_flag,
    cloexec_is_honoured,
    no_file_descriptor_left,
    info_of_a_new_buffer,
    info_of_a_read_only_fd,
    info_of_no_file,
    info_of_no_dma_buf,
    info_of_another_exporter,
    info_in_fields_must_be_zero,
    nothing_lost_in_10000_failures,
    nothing_lost_in_10000_buffers,
);

fn create(change: impl FnOnce(&mut Create)) -> Result<OwnedFd, Errno> {
    let device = Device::open().map_err(|error| error.errno())?;
    let mut request = Create {
        size: PAGE as u64,
        fd_flags: libc::O_RDWR as u32 | libc::O_CLOEXEC as u32,
        ..Create::default()
    };
    change(&mut request);
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&request.size.to_ne_bytes());
    bytes[8..12].copy_from_slice(&request.flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&request.fd_flags.to_ne_bytes());
    bytes[16..20].copy_from_slice(&request.fd.to_ne_bytes());
    bytes[20..24].copy_from_slice(&request.reserved.to_ne_bytes());
    let before = bytes;
    match raw::ioctl(&device, uapi::IOCTL_CREATE, &mut bytes) {
        Ok(_) => Ok(raw::own(i32::from_ne_bytes([
            bytes[16], bytes[17], bytes[18], bytes[19],
        ]))),
        Err(errno) => {
            assert_eq!(bytes, before, "a CREATE that fails changes nothing");
            Err(errno)
        }
    }
}

/// INFO of a number, as it comes back.
fn info(change: impl FnOnce(&mut RawInfo)) -> Result<(), Errno> {
    let device = Device::open().map_err(|error| error.errno())?;
    let mut request = RawInfo::default();
    change(&mut request);
    let mut bytes = [0; size_of::<RawInfo>()];
    bytes[..4].copy_from_slice(&request.fd.to_ne_bytes());
    bytes[4..8].copy_from_slice(&request.flags.to_ne_bytes());
    bytes[28..32].copy_from_slice(&request.write_windows.to_ne_bytes());
    bytes[68..72].copy_from_slice(&request.reserved.to_ne_bytes());
    bytes[76..80].copy_from_slice(&request.state.to_ne_bytes());
    raw::ioctl(&device, uapi::IOCTL_INFO, &mut bytes).map(drop)
}

fn gives_what_was_asked_for() -> Outcome {
    let device = Device::open()?;
    for (size, flags) in [
        (PAGE, CreateFlags::empty()),
        (PAGE, CreateFlags::COHERENT),
        (PAGE, CreateFlags::WRITE_COMBINE),
        ((2 << 20) + PAGE, CreateFlags::WRITE_COMBINE),
        (1 << 20, CreateFlags::empty()),
        ((1 << 20) + PAGE, CreateFlags::COHERENT),
    ] {
        let buffer = device.create(size as u64, flags)?;
        expect_eq("size", buffer.size(), size as u64)?;
        expect_eq("flags", device.info(&buffer)?.flags, flags)?;
        let bytes = buffer.map()?.to_vec()?;
        expect("new memory is zero", bytes.iter().all(|byte| *byte == 0))?;
    }
    Ok(())
}

fn size_is_rounded_up() -> Outcome {
    let device = Device::open()?;
    for (size, must) in [(1, 1), (PAGE - 1, 1), (PAGE, 1), (PAGE + 1, 2)] {
        let buffer = device.create(size as u64, CreateFlags::empty())?;
        let must = (must * PAGE) as u64;
        expect_eq("size that CREATE says", buffer.size(), must)?;
        expect_eq("size that INFO says", device.info(&buffer)?.size, must)?;
        let again = cohbuf::Buffer::try_from(buffer.into_fd())?;
        expect_eq("size that lseek says", again.size(), must)?;
    }
    Ok(())
}

fn size_zero() -> Outcome {
    expect_errno("size 0", create(|c| c.size = 0), Errno::INVAL)
}

fn size_above_the_limit() -> Outcome {
    let limit = Device::open()?.caps()?.max_size;
    for size in [limit + 1, limit + PAGE as u64, 1 << 46, 1 << 62] {
        expect_errno(
            &format!("size {size}"),
            create(|c| c.size = size),
            Errno::FBIG,
        )?;
    }
    Ok(())
}

fn size_that_overflows() -> Outcome {
    for size in [u64::MAX, u64::MAX - PAGE as u64 + 2] {
        expect_errno(
            &format!("size {size:#x}"),
            create(|c| c.size = size),
            Errno::OVERFLOW,
        )?;
    }
    Ok(())
}

fn unknown_flags() -> Outcome {
    let known = uapi::CONTIGUOUS | uapi::TRACK_DIRTY | uapi::ENFORCE_REPORT | uapi::ENFORCE_POISON;
    for bit in (2..32).filter(|bit| (1 << bit) & known == 0) {
        expect_errno(
            &format!("flag bit {bit}"),
            create(|c| c.flags = 1 << bit),
            Errno::INVAL,
        )?;
    }
    for flags in [
        uapi::COHERENT | uapi::WRITE_COMBINE,
        uapi::COHERENT | uapi::TRACK_DIRTY,
        uapi::WRITE_COMBINE | uapi::TRACK_DIRTY,
        uapi::ENFORCE_REPORT | uapi::ENFORCE_POISON,
        uapi::COHERENT | uapi::TRACK_DIRTY | uapi::ENFORCE_POISON,
        uapi::CONTIGUOUS | uapi::COHERENT | uapi::WRITE_COMBINE,
    ] {
        expect_errno(
            &format!("flags {flags:#x}, which exclude each other"),
            create(|c| c.flags = flags),
            Errno::INVAL,
        )?;
    }
    Ok(())
}

fn unknown_fd_flags() -> Outcome {
    let known = (libc::O_ACCMODE | libc::O_CLOEXEC) as u32;
    for bit in (0..32)
        .map(|bit| 1_u32 << bit)
        .filter(|bit| bit & known == 0)
    {
        expect_errno(
            &format!("fd flag {bit:#x}"),
            create(|c| c.fd_flags |= bit),
            Errno::INVAL,
        )?;
    }
    // Of the access modes, two.
    for mode in [libc::O_WRONLY, libc::O_ACCMODE] {
        expect_errno(
            &format!("access mode {mode}"),
            create(|c| c.fd_flags = mode as u32),
            Errno::INVAL,
        )?;
    }
    Ok(())
}

fn fd_must_be_zero() -> Outcome {
    for fd in [1, -1, i32::MAX] {
        expect_errno(&format!("fd {fd}"), create(|c| c.fd = fd), Errno::INVAL)?;
    }
    Ok(())
}

fn reserved_must_be_zero() -> Outcome {
    for reserved in [1, 1 << 31] {
        expect_errno("reserved", create(|c| c.reserved = reserved), Errno::INVAL)?;
    }
    Ok(())
}

fn every_flag_and_fd_flag() -> Outcome {
    for flags in [0, uapi::COHERENT, uapi::WRITE_COMBINE] {
        for fd_flags in [libc::O_RDONLY, libc::O_RDWR] {
            for cloexec in [0, libc::O_CLOEXEC] {
                let fd = create(|c| {
                    c.flags = flags;
                    c.fd_flags = (fd_flags | cloexec) as u32;
                })?;
                let mode = rustix::fs::fcntl_getfl(&fd)?.bits() as i32 & libc::O_ACCMODE;
                expect_eq("access mode", mode, fd_flags)?;
                let closes = rustix::io::fcntl_getfd(&fd)?.contains(rustix::io::FdFlags::CLOEXEC);
                expect_eq("close on exec", closes, cloexec != 0)?;
            }
        }
    }
    Ok(())
}

fn cloexec_is_honoured() -> Outcome {
    for (flags, must) in [(libc::O_CLOEXEC, "no"), (0, "yes")] {
        let fd = create(|c| c.fd_flags = (libc::O_RDWR | flags) as u32)?;
        let output = child::run(&["is-open", &fd.as_raw_fd().to_string()])?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        expect_eq("open in another program", said.as_str(), must)?;
    }
    Ok(())
}

fn no_file_descriptor_left() -> Outcome {
    let output = child::run(&["many-files", "64"])?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    expect_eq("CREATE", (said.as_str(), error.as_str()), ("EMFILE", ""))
}

fn info_of_a_new_buffer() -> Outcome {
    let buffer = guest::bracketed(3)?;
    let info = Device::open()?.info(&buffer)?;
    expect_eq("size", info.size, 3 * PAGE as u64)?;
    expect_eq("attachments", info.attachments, 0)?;
    expect_eq("mappings", info.mappings, 0)?;
    expect_eq("bounced", info.bounced, 0)?;
    expect_eq("refused to attach", info.refused_attach, 0)?;
    expect_eq("refused to map", info.refused_map, 0)?;
    expect_eq("syncs", (info.syncs_for_cpu, info.syncs_for_device), (0, 0))?;
    expect("1 to 3 segments", (1..=3).contains(&info.segments))
}

fn info_of_a_read_only_fd() -> Outcome {
    let device = Device::open()?;
    let buffer = device.create_with(PAGE as u64, CreateFlags::COHERENT, FdFlags::CLOEXEC)?;
    expect_eq("flags", device.info(&buffer)?.flags, CreateFlags::COHERENT)
}

fn info_of_no_file() -> Outcome {
    for fd in [-1, 987, i32::MAX, i32::MIN] {
        expect_errno(&format!("fd {fd}"), info(|i| i.fd = fd), Errno::BADF)?;
    }
    let closed = {
        let buffer = guest::bracketed(1)?;
        buffer.as_fd().as_raw_fd()
    };
    expect_errno("closed fd", info(|i| i.fd = closed), Errno::BADF)
}

fn info_of_no_dma_buf() -> Outcome {
    let files = [
        File::open("/dev/null")?,
        File::open("/dev/cohbuf")?,
        File::open("/proc/self/status")?,
    ];
    for file in &files {
        expect_errno("a file", info(|i| i.fd = file.as_raw_fd()), Errno::INVAL)?;
    }
    Ok(())
}

fn info_of_another_exporter() -> Outcome {
    let foreign = guest::vgem()?.export()?;
    expect_errno(
        "a dma-buf of vgem",
        info(|i| i.fd = foreign.as_raw_fd()),
        Errno::MEDIUMTYPE,
    )
}

fn info_in_fields_must_be_zero() -> Outcome {
    let buffer = guest::bracketed(1)?;
    let fd = buffer.as_fd().as_raw_fd();
    for field in ["flags", "write_windows", "state", "reserved"] {
        let result = info(|i| {
            i.fd = fd;
            match field {
                "flags" => i.flags = 1,
                "write_windows" => i.write_windows = 1,
                "state" => i.state = 1,
                _ => i.reserved = 1,
            }
        });
        expect_errno(field, result, Errno::INVAL)?;
    }
    Ok(())
}

const REPETITIONS: usize = 10_000;

/// Bytes of each buffer: large, so that losing some stands out.
const BYTES: u64 = 64 << 10;

/// What may be missing afterwards, in KiB: KASAN keeps up to 1/32 of all memory
/// after it was freed. Of the buffers of the failures, 128 MB would be missing.
const NOISE: u64 = 48 << 10;

/// Memory that can be had, in KiB: with the pages that were freed and that a CPU keeps at hand,
/// which may be an eighth of all and are not in MemAvailable.
fn free_memory() -> Result<u64, Stop> {
    let zones = std::fs::read_to_string("/proc/zoneinfo")?;
    let kept: u64 = zones
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("count:")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .sum();
    Ok(guest::meminfo("MemAvailable")? + kept * (PAGE as u64 >> 10))
}

/// Runs something again and again, and looks whether files, dma-bufs or memory
/// are gone after it.
pub(super) fn nothing_lost(run: impl Fn(usize) -> Outcome) -> Outcome {
    // What is kept for the next time must not count.
    for turn in 0..100 {
        run(turn)?;
    }
    let files = guest::open_files()?;
    let buffers = match guest::live_buffers() {
        Ok(buffers) => buffers,
        Err(Stop::Skipped(reason)) => return fail(reason),
        Err(stop) => return Err(stop),
    };
    let free = free_memory()?;
    for turn in 0..REPETITIONS {
        run(turn)?;
    }
    expect_eq("open files", guest::open_files()?, files)?;
    expect_eq("dma-bufs of cohbuf", guest::live_buffers()?, buffers)?;
    let lost = free.saturating_sub(free_memory()?);
    expect(format!("{lost} KiB lost, of {NOISE} allowed"), lost < NOISE)
}

fn nothing_lost_in_10000_failures() -> Outcome {
    let device = Device::open()?;
    let limit = device.caps()?.max_size;
    nothing_lost(|turn| {
        match turn % 5 {
            0 => expect_errno("size", create(|c| c.size = limit + 1), Errno::FBIG),
            1 => expect_errno("flags", create(|c| c.flags = 1 << 31), Errno::INVAL),
            2 => expect_errno(
                "bad address",
                raw::ioctl_bad_address(&device, uapi::IOCTL_CREATE),
                Errno::FAULT,
            ),
            // Fails last of all, with the buffer made already.
            3 => {
                let (command, mut bytes) = super::caps::commands()[1].clone();
                bytes[..8].copy_from_slice(&BYTES.to_ne_bytes());
                expect_errno(
                    "write back",
                    raw::ioctl_read_only(&device, command, &bytes),
                    Errno::FAULT,
                )
            }
            _ => expect_errno("info", info(|i| i.fd = 987), Errno::BADF),
        }
    })
}

fn nothing_lost_in_10000_buffers() -> Outcome {
    let device = Device::open()?;
    if guest::meminfo("MemAvailable")? < 64 << 10 {
        return skip("less than 64 MiB of memory");
    }
    nothing_lost(|turn| {
        let flags = CreateFlags::from_bits_retain((turn % 2) as u32);
        let buffer = device.create(BYTES, flags)?;
        device.info(&buffer)?;
        Ok(())
    })
}
