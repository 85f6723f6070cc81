// SPDX-License-Identifier: GPL-2.0

//! Each errno of each ioctl, as `include/uapi/linux/cohbuf.h` has it.

use core::mem::size_of;

use cohbuf::uapi::{Caps, Create, RawInfo};
use cohbuf::{CreateFlags, Device, FdFlags};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, FdFlags as RustixFdFlags, fcntl_getfd};

use crate::check;
use crate::guest::{Guest, dma_bufs, free_memory, open_fds, page};
use crate::harness::{Outcome, fails_with};
use crate::raw::{self, READ_WRITE, ioc};

crate::tests![
    caps_says_what_is_so,
    caps_refuses_reserved,
    create_rounds_up,
    create_makes_both_kinds,
    create_refuses_unknown_flags,
    create_refuses_bad_fd_flags,
    create_refuses_fields_not_zero,
    create_refuses_sizes,
    create_honours_cloexec,
    create_says_emfile,
    bad_pointers,
    write_back_fails,
    structure_lengths,
    unknown_commands,
    info_errnos,
    info_of_read_only_fd,
    failed_creates_lose_nothing,
    creates_lose_nothing,
];

const CAPS: u32 = ioc(READ_WRITE, b'C', 0xb0, size_of::<Caps>());
const CREATE: u32 = ioc(READ_WRITE, b'C', 0xb1, size_of::<Create>());
const INFO: u32 = ioc(READ_WRITE, b'C', 0xb2, size_of::<RawInfo>());

/// `struct cohbuf_create` as bytes.
fn create(size: u64, flags: u32, fd_flags: u32, fd: i32, reserved: u32) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[0..8].copy_from_slice(&size.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&fd_flags.to_ne_bytes());
    bytes[16..20].copy_from_slice(&fd.to_ne_bytes());
    bytes[20..24].copy_from_slice(&reserved.to_ne_bytes());
    bytes
}

fn rdwr() -> u32 {
    OFlags::RDWR.bits()
}

/// Calls CREATE, which must fail, write nothing and leave nothing behind.
fn create_fails(device: &Device, arg: [u8; 24], errno: Errno, what: &str) -> Outcome {
    let (fds, bufs) = (open_fds()?, dma_bufs()?);
    let mut bytes = arg;
    fails_with(raw::ioctl(device, CREATE, &mut bytes), errno, what)?;
    check!(bytes == arg, "{what}: the structure was written");
    check!(open_fds()? == fds, "{what}: a file descriptor is left");
    check!(dma_bufs()? == bufs, "{what}: a dma-buf is left");
    Ok(())
}

fn caps_says_what_is_so(guest: &Guest) -> Outcome {
    let caps = guest.device()?.caps()?;
    check!(caps.version == 1, "version {}", caps.version);
    check!(caps.flags == u64::from(CreateFlags::all().bits()), "flags {}", caps.flags);
    check!(caps.page_size == page() as u64, "page size {}", caps.page_size);
    check!(caps.max_size > 0, "limit {}", caps.max_size);
    Ok(())
}

fn caps_refuses_reserved(guest: &Guest) -> Outcome {
    let mut bytes = [0; size_of::<Caps>()];
    bytes[4] = 1;
    fails_with(raw::ioctl(guest.device()?, CAPS, &mut bytes), Errno::INVAL, "reserved")
}

fn create_rounds_up(guest: &Guest) -> Outcome {
    for (wanted, got) in [(1, page()), (page(), page()), (page() + 1, 2 * page())] {
        let buffer = guest.bracketed(wanted)?;
        check!(buffer.size() == got as u64, "{wanted} made {}", buffer.size());
        check!(guest.device()?.info(&buffer)?.size == got as u64, "INFO says otherwise");
    }
    Ok(())
}

fn create_makes_both_kinds(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    for flags in [CreateFlags::empty(), CreateFlags::COHERENT] {
        let buffer = device.create(page() as u64, flags)?;
        let info = device.info(&buffer)?;
        check!(info.flags == flags, "made {flags:?}, is {:?}", info.flags);
        check!(info.attachments == 0 && info.mappings == 0, "somebody is attached");
        check!(info.segments == 1, "a page in {} segments", info.segments);
    }
    Ok(())
}

fn create_refuses_unknown_flags(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    for bit in 1..32 {
        let arg = create(4096, 1 << bit, rdwr(), 0, 0);
        create_fails(&device, arg, Errno::INVAL, &format!("flag {bit}"))?;
    }
    Ok(())
}

fn create_refuses_bad_fd_flags(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let known = (OFlags::RDWR | OFlags::CLOEXEC).bits();
    for bit in 0..32 {
        let flags = rdwr() | 1 << bit;
        if flags & !known != 0 {
            let arg = create(4096, 0, flags, 0, 0);
            create_fails(&device, arg, Errno::INVAL, &format!("fd flag {bit}"))?;
        }
    }
    let arg = create(4096, 0, OFlags::WRONLY.bits(), 0, 0);
    create_fails(&device, arg, Errno::INVAL, "O_WRONLY")
}

fn create_refuses_fields_not_zero(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    create_fails(&device, create(4096, 0, rdwr(), 1, 0), Errno::INVAL, "fd")?;
    create_fails(&device, create(4096, 0, rdwr(), -1, 0), Errno::INVAL, "fd")?;
    create_fails(&device, create(4096, 0, rdwr(), 0, 1), Errno::INVAL, "reserved")
}

fn create_refuses_sizes(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let limit = device.caps()?.max_size;
    let page = page() as u64;
    for (size, errno) in [
        (0, Errno::INVAL),
        (limit + 1, Errno::FBIG),
        (u64::MAX - page + 1, Errno::FBIG),
        (u64::MAX - page + 2, Errno::OVERFLOW),
        (u64::MAX, Errno::OVERFLOW),
    ] {
        let arg = create(size, 0, rdwr(), 0, 0);
        create_fails(&device, arg, errno, &format!("size {size}"))?;
    }
    Ok(())
}

fn create_honours_cloexec(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    for (flags, cloexec) in [(FdFlags::RDWR, false), (FdFlags::RDWR | FdFlags::CLOEXEC, true)] {
        let buffer = device.create_with(1, CreateFlags::empty(), flags)?;
        let set = fcntl_getfd(&buffer)?.contains(RustixFdFlags::CLOEXEC);
        check!(set == cloexec, "{flags:?} made {set}");
    }
    Ok(())
}

fn create_says_emfile(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let bufs = dma_bufs()?;
    // The lowest free descriptor is above the limit.
    let old = raw::set_fd_limit(3)?;
    let mut arg = create(4096, 0, rdwr(), 0, 0);
    let result = raw::ioctl(&device, CREATE, &mut arg);
    raw::set_fd_limit(old)?;
    fails_with(result, Errno::MFILE, "no descriptor left")?;
    check!(dma_bufs()? == bufs, "a dma-buf is left");
    Ok(())
}

fn bad_pointers(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    for cmd in [CAPS, CREATE, INFO] {
        for address in [0, 8, usize::MAX - 4095] {
            fails_with(raw::ioctl_value(&device, cmd, address), Errno::FAULT, "bad address")?;
        }
    }
    Ok(())
}

// The buffer is made by then, and must go again.
fn write_back_fails(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let (fds, bufs) = (open_fds()?, dma_bufs()?);
    let arg = create(4096, 0, rdwr(), 0, 0);
    fails_with(raw::ioctl_read_only(&device, CREATE, &arg), Errno::FAULT, "CREATE")?;
    fails_with(
        raw::ioctl_read_only(&device, CAPS, &[0; size_of::<Caps>()]),
        Errno::FAULT,
        "CAPS",
    )?;
    check!(open_fds()? == fds, "a file descriptor is left");
    check!(dma_bufs()? == bufs, "a dma-buf is left");
    Ok(())
}

fn structure_lengths(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    for (number, size) in [
        (0xb0, size_of::<Caps>()),
        (0xb1, size_of::<Create>()),
        (0xb2, size_of::<RawInfo>()),
    ] {
        let mut bytes = vec![0; 16383];
        for short in [0, 1, size - 1] {
            let cmd = ioc(READ_WRITE, b'C', number, short);
            fails_with(raw::ioctl(&device, cmd, &mut bytes), Errno::INVAL, "too short")?;
        }
        let cmd = ioc(READ_WRITE, b'C', number, page() + 1);
        // 16 KiB pages are longer than any ioctl says.
        if page() < 16383 {
            fails_with(raw::ioctl(&device, cmd, &mut bytes), Errno::TOOBIG, "too long")?;
        }
        bytes[size + 3] = 1;
        let cmd = ioc(READ_WRITE, b'C', number, size + 8);
        fails_with(raw::ioctl(&device, cmd, &mut bytes), Errno::TOOBIG, "a tail that is set")?;
    }
    // A tail of zeros is what a newer program has.
    let mut bytes = [0; size_of::<Caps>() + 8];
    raw::ioctl(&device, ioc(READ_WRITE, b'C', 0xb0, bytes.len()), &mut bytes)?;
    check!(bytes[0] == 1, "no version was written");
    Ok(())
}

fn unknown_commands(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let mut bytes = [0; 256];
    for cmd in [
        ioc(READ_WRITE, b'C', 0xb3, 24),
        ioc(READ_WRITE, b'C', 0xff, 24),
        ioc(READ_WRITE, b'D', 0xb1, 24),
        ioc(raw::WRITE, b'C', 0xb1, 24),
        ioc(raw::NONE, b'C', 0xb0, 0),
    ] {
        fails_with(raw::ioctl(&device, cmd, &mut bytes), Errno::NOTTY, &format!("{cmd:#x}"))?;
    }
    Ok(())
}

fn info_errnos(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let buffer = guest.bracketed(1)?;
    let info = |fd: i32, at: usize, value: u8| {
        let mut bytes = [0; size_of::<RawInfo>()];
        bytes[0..4].copy_from_slice(&fd.to_ne_bytes());
        if at > 0 {
            bytes[at] = value;
        }
        raw::ioctl(&device, INFO, &mut bytes)
    };
    use rustix::fd::AsFd;
    let fd = buffer.as_fd().as_raw_fd();
    fails_with(info(-1, 0, 0), Errno::BADF, "fd -1")?;
    fails_with(info(1000, 0, 0), Errno::BADF, "fd that is not open")?;
    fails_with(info(fd, 4, 1), Errno::INVAL, "flags")?;
    fails_with(info(fd, 28, 1), Errno::INVAL, "reserved")?;
    fails_with(info(fd, 68, 1), Errno::INVAL, "reserved2")?;
    let null = open("/dev/null", OFlags::RDWR, Mode::empty())?;
    fails_with(info(null.as_raw_fd(), 0, 0), Errno::INVAL, "no dma-buf")?;
    info(fd, 0, 0)?;
    let foreign = guest.foreign()?;
    fails_with(info(foreign.as_raw_fd(), 0, 0), Errno::MEDIUMTYPE, "another exporter's")
}

fn info_of_read_only_fd(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let buffer = device.create_with(1, CreateFlags::COHERENT, FdFlags::CLOEXEC)?;
    let info = device.info(&buffer)?;
    check!(info.flags == CreateFlags::COHERENT, "flags {:?}", info.flags);
    Ok(())
}

const REPETITIONS: usize = 10_000;
const BYTES: u64 = 64 << 10;
/// What else may come and go meanwhile. A page lost each time would be 40 MiB,
/// a buffer 640 MiB.
const SLACK: u64 = 36 << 20;

fn loses_nothing(f: impl Fn() -> Outcome) -> Outcome {
    // Caches fill up first.
    for _ in 0..100 {
        f()?;
    }
    let (fds, bufs, free) = (open_fds()?, dma_bufs()?, free_memory()?);
    for _ in 0..REPETITIONS {
        f()?;
    }
    check!(open_fds()? == fds, "file descriptors are left");
    check!(dma_bufs()? == bufs, "dma-bufs are left");
    let lost = free.saturating_sub(free_memory()?);
    check!(lost < SLACK, "{lost} bytes are gone");
    Ok(())
}

fn failed_creates_lose_nothing(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let arg = create(BYTES, 0, rdwr(), 0, 0);
    loses_nothing(|| {
        fails_with(raw::ioctl_read_only(&device, CREATE, &arg), Errno::FAULT, "CREATE")
    })
}

fn creates_lose_nothing(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    loses_nothing(|| {
        let fd: OwnedFd = device.create(BYTES, CreateFlags::empty())?.into_fd();
        drop(fd);
        Ok(())
    })
}
