// SPDX-License-Identifier: GPL-2.0

//! The heaps `/dev/dma_heap/cohbuf*`: buffers as those of CREATE, by the same rules.

use std::fs;
use std::os::fd::OwnedFd;

use cohbuf::{Access, Buffer, Caching, CreateFlags, Errno};
use cohbuf_testdev::{Direction, TestDevice, Vgem};
use rustix::fs::{Mode, OFlags, open};

use super::create::nothing_lost;
use super::limits::with_cgroup;
use crate::check;
use crate::child;
use crate::guest::{Guest, ModelReset, exists, page};
use crate::harness::{Outcome, Stop, expect_eq, expect_errno, fail, skip};
use crate::raw;

crate::guest_suite!("heaps":
    heaps_are_there,
    buffers_are_those_of_create,
    file_flags,
    bad_requests,
    limit_of_the_module,
    charged_to_the_cgroup,
    who_may_attach,
    bytes_reach_both_sides,
    size_of_the_structure,
    nothing_lost_in_10000_allocations,
);

/// The heaps, and the flags of CREATE that make the same buffer.
pub(super) const HEAPS: [(&str, CreateFlags); 4] = [
    ("cohbuf", CreateFlags::empty()),
    ("cohbuf-coherent", CreateFlags::COHERENT),
    ("cohbuf-wc", CreateFlags::WRITE_COMBINE),
    ("cohbuf-contiguous", CreateFlags::CONTIGUOUS),
];

const RDWR: u32 = (libc::O_RDWR | libc::O_CLOEXEC) as u32;

/// `DMA_HEAP_IOCTL_ALLOC`
const ALLOC: u32 = raw::iowr(b'H', 0, 24);

/// Skips where the kernel has no heaps. Where it has, ours must be there.
pub(super) fn kernel_has_heaps() -> Outcome {
    if !exists("/sys/class/dma_heap") {
        return skip("this kernel has no dma-buf heaps");
    }
    Ok(())
}

pub(super) fn path(heap: &str) -> String {
    format!("/dev/dma_heap/{heap}")
}

/// What a heap is asked.
struct Request {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

impl Request {
    fn of(len: usize) -> Self {
        Self {
            len: len as u64,
            fd: 0,
            fd_flags: RDWR,
            heap_flags: 0,
        }
    }

    fn ask(&self, heap: &str) -> Result<OwnedFd, Errno> {
        let file = open(path(heap), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.len.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.fd.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.fd_flags.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.heap_flags.to_ne_bytes());
        raw::ioctl(&file, ALLOC, &mut bytes)?;
        Ok(raw::take_fd(&bytes, 8))
    }
}

/// What comes of a request of so many bytes.
pub(super) fn request(heap: &str, len: usize) -> Result<OwnedFd, Errno> {
    Request::of(len).ask(heap)
}

/// A buffer of so many bytes.
pub(super) fn allocate(heap: &str, len: usize) -> Result<Buffer, Stop> {
    Ok(Buffer::try_from(request(heap, len)?)?)
}

fn heaps_are_there(_guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    for (heap, _) in HEAPS {
        let what = fs::metadata(path(heap))?.file_type();
        use std::os::unix::fs::FileTypeExt;
        check!(what.is_char_device(), "{heap}: {what:?}");
    }
    Ok(())
}

fn buffers_are_those_of_create(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let device = guest.device()?;
    for (heap, flags) in HEAPS {
        for (len, size) in [
            (1, page()),
            (5 * page() - 1, 5 * page()),
            ((1 << 20) + 1, (1 << 20) + page()),
        ] {
            let buffer = allocate(heap, len)?;
            let (info, made) = (
                device.info(&buffer)?,
                device.info(&device.create(len as u64, flags)?)?,
            );
            expect_eq(heap, (info.flags, info.size), (flags, size as u64))?;
            expect_eq(heap, (info.flags, info.size), (made.flags, made.size))?;
            expect_eq(heap, info.caching, made.caching)?;
            expect_eq(heap, buffer.size(), size as u64)?;
            if flags == CreateFlags::CONTIGUOUS {
                expect_eq("pieces", info.segments, 1)?;
            }
            let mapping = buffer.map()?;
            check!(
                mapping.to_vec()?.iter().all(|byte| *byte == 0),
                "{heap}: new memory is not zero"
            );
            // For whoever gets these pages next.
            mapping.write(0, &vec![0xa5; size])?;
        }
    }
    Ok(())
}

fn file_flags(_guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    for (heap, _) in HEAPS {
        for mode in [libc::O_RDONLY, libc::O_RDWR] {
            for cloexec in [0, libc::O_CLOEXEC] {
                let request = Request {
                    fd_flags: (mode | cloexec) as u32,
                    ..Request::of(page())
                };
                let fd = request.ask(heap)?;
                let is = rustix::fs::fcntl_getfl(&fd)?.bits() as i32 & libc::O_ACCMODE;
                expect_eq("access mode", is, mode)?;
                let closes = rustix::io::fcntl_getfd(&fd)?.contains(rustix::io::FdFlags::CLOEXEC);
                expect_eq("close on exec", closes, cloexec != 0)?;
            }
        }
        // CREATE knows two access modes.
        for mode in [libc::O_WRONLY, libc::O_ACCMODE] {
            let request = Request {
                fd_flags: mode as u32,
                ..Request::of(page())
            };
            expect_errno(
                &format!("{heap}: mode {mode}"),
                request.ask(heap),
                Errno::INVAL,
            )?;
        }
    }
    Ok(())
}

fn bad_requests(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let limit = guest.device()?.caps()?.max_size;
    let files = crate::guest::open_files()?;
    for (heap, _) in HEAPS {
        let bad = |what: &str, request: Request, errno| {
            expect_errno(&format!("{heap}: {what}"), request.ask(heap), errno)
        };
        let request = || Request::of(page());
        for bit in [0, 1, 31, 63] {
            let heap_flags = 1 << bit;
            bad(
                "heap flags",
                Request {
                    heap_flags,
                    ..request()
                },
                Errno::INVAL,
            )?;
        }
        for flag in [libc::O_NONBLOCK, libc::O_APPEND, libc::O_DIRECTORY] {
            let fd_flags = RDWR | flag as u32;
            bad(
                "file flags",
                Request {
                    fd_flags,
                    ..request()
                },
                Errno::INVAL,
            )?;
        }
        bad("a descriptor", Request { fd: 1, ..request() }, Errno::INVAL)?;
        bad(
            "no bytes",
            Request {
                len: 0,
                ..request()
            },
            Errno::INVAL,
        )?;
        // The core rounds up to pages, beyond all numbers.
        bad(
            "all bytes",
            Request {
                len: u64::MAX,
                ..request()
            },
            Errno::INVAL,
        )?;
        for len in [limit + 1, 1 << 46, 1 << 62] {
            bad("too many bytes", Request { len, ..request() }, Errno::FBIG)?;
        }
        let file = open(path(heap), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        expect_errno(
            "an address that is bad",
            raw::ioctl_bad_address(&file, ALLOC),
            Errno::FAULT,
        )?;
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&(page() as u64).to_ne_bytes());
        bytes[12..16].copy_from_slice(&RDWR.to_ne_bytes());
        // Fails last of all, with the buffer made already.
        expect_errno(
            "an address that cannot be written",
            raw::ioctl_read_only(&file, ALLOC, &bytes),
            Errno::FAULT,
        )?;
        let command = raw::iowr(b'H', 1, 24);
        let result = raw::ioctl(&file, command, &mut bytes);
        expect_errno("a command that is none", result, Errno::INVAL)?;
    }
    expect_eq("open files", crate::guest::open_files()?, files)
}

fn limit_of_the_module(_guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let parameter = "/sys/module/cohbuf/parameters/max_size_mb";
    let before = fs::read_to_string(parameter)?;
    fs::write(parameter, "1")?;
    let result = HEAPS.into_iter().try_for_each(|(heap, _)| {
        allocate(heap, 1 << 20)?;
        let above = Request::of((1 << 20) + 1).ask(heap);
        expect_errno(&format!("{heap}: above max_size_mb"), above, Errno::FBIG)
    });
    fs::write(parameter, before.trim())?;
    result
}

fn charged_to_the_cgroup(_guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    for (heap, _) in HEAPS {
        with_cgroup(|group| {
            let bytes: u64 = 4 << 20;
            let output = child::run(&["heap-in-cgroup", group, &path(heap), &bytes.to_string()])?;
            let text = String::from_utf8_lossy(&output.stdout);
            let numbers: Vec<u64> = text
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            let [before, with, after] = numbers[..] else {
                return fail(format!("{heap}: the process in the cgroup: {output:?}"));
            };
            check!(
                with >= before + bytes && after + bytes / 2 < with,
                "{heap}: charged {before} before, {with} with the buffer, {after} after it"
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// A heap's buffers take and refuse the devices that the buffers of CREATE do.
fn who_may_attach(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let importer = guest.importer()?;
    let device = guest.device()?;
    for (heap, flags) in HEAPS {
        let ours = allocate(heap, page())?;
        let made = guest.buffer(page(), flags)?;
        let mut refused = 0;
        for kind in [
            TestDevice::Edu,
            TestDevice::Coherent,
            TestDevice::NonCoherent,
            TestDevice::DirectModel,
            TestDevice::SnoopModel,
            TestDevice::CacheModel,
            TestDevice::BounceModel,
        ] {
            let errno = |buffer| {
                let result = importer.attach(buffer, kind, 0).map(drop);
                result.map_err(|refusal| refusal.errno)
            };
            let (is, must) = (errno(&ours), errno(&made));
            check!(is == must, "{heap}: {kind:?}: {is:?}, of CREATE {must:?}");
            if flags == CreateFlags::COHERENT {
                // Not by what CREATE does alone.
                let own_ops = matches!(kind, TestDevice::CacheModel | TestDevice::BounceModel);
                let comes = guest.is_coherent(kind) && !own_ops;
                check!(is.is_ok() == comes, "{heap}: {kind:?}: {is:?}");
            }
            refused += u64::from(is.is_err());
        }
        let counted = device.info(&ours)?.refused_attach;
        expect_eq(heap, counted, refused)?;
        check!(
            (refused > 0) == matches!(heap, "cohbuf-coherent" | "cohbuf-wc"),
            "{heap}: {refused} were refused"
        );
    }
    Ok(())
}

fn bytes_reach_both_sides(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let importer = guest.importer()?;
    let size = 37 * page();
    for (heap, flags) in HEAPS {
        let kinds: &[TestDevice] = match flags {
            CreateFlags::COHERENT => &[TestDevice::SnoopModel],
            CreateFlags::WRITE_COMBINE => &[TestDevice::DirectModel],
            _ => &[
                TestDevice::CacheModel,
                TestDevice::DirectModel,
                TestDevice::SnoopModel,
                TestDevice::BounceModel,
                TestDevice::BouncedModel,
            ],
        };
        for &kind in kinds {
            let buffer = allocate(heap, size)?;
            let mapping = buffer.map()?;
            let _reset = ModelReset(&importer);
            let device = importer.attach(&buffer, kind, 0)?;
            device.map(Direction::Bidirectional)?;
            for at in [0, page() - 5, (16 * page()) - 5, size - 9] {
                let window = buffer.cpu_access(Access::Write)?;
                mapping.write(at, b"processor")?;
                window.end()?;
                let mut seen = [0; 9];
                device.device_reads(at as u64, &mut seen)?;
                check!(
                    seen == *b"processor",
                    "{heap}, {kind:?} at {at}: the device does not see it"
                );
                device.device_writes(at as u64, b"appliance")?;
                let window = buffer.cpu_access(Access::Read)?;
                mapping.read(at, &mut seen)?;
                window.end()?;
                check!(
                    seen == *b"appliance",
                    "{heap}, {kind:?} at {at}: the CPU does not see it"
                );
            }
            let info = guest.device()?.info(&buffer)?;
            let snoops = matches!(flags, CreateFlags::COHERENT | CreateFlags::WRITE_COMBINE);
            check!(
                !snoops || info.syncs_for_cpu + info.syncs_for_device == 0,
                "{heap}: {info:?}"
            );
            let caching = match flags {
                CreateFlags::WRITE_COMBINE => Caching::WriteCombine,
                _ => Caching::WriteBack,
            };
            expect_eq(heap, info.caching, caching)?;
        }
    }
    Ok(())
}

/// A program that knows a smaller structure, and one that knows a larger.
fn size_of_the_structure(guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    for (heap, flags) in HEAPS {
        for bytes in [16, 48] {
            let file = open(path(heap), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            let mut request = vec![0; bytes];
            request[..8].copy_from_slice(&(page() as u64).to_ne_bytes());
            request[12..16].copy_from_slice(&RDWR.to_ne_bytes());
            raw::ioctl(&file, raw::iowr(b'H', 0, bytes), &mut request)?;
            let buffer = raw::take_fd(&request, 8);
            let info = guest.device()?.info(&buffer)?;
            expect_eq(heap, info.flags, flags)?;
        }
    }
    Ok(())
}

fn nothing_lost_in_10000_allocations(_guest: &Guest) -> Outcome {
    kernel_has_heaps()?;
    let vgem = Vgem::open().ok();
    nothing_lost(|turn| {
        let (heap, _) = HEAPS[turn % HEAPS.len()];
        match turn % 5 {
            0 => {
                let request = Request {
                    heap_flags: 1,
                    ..Request::of(page())
                };
                expect_errno("heap flags", request.ask(heap), Errno::INVAL)
            }
            1 => {
                let buffer = allocate(heap, 64 << 10)?;
                // It may be refused, and is attached otherwise.
                let _ = vgem.as_ref().map(|vgem| vgem.import(&buffer).map(drop));
                Ok(())
            }
            _ => allocate(heap, 64 << 10).map(drop),
        }
    })
}
