// SPDX-License-Identifier: GPL-2.0

//! What fails in the kernel, one thing at a time (R16): `/proc/self/fail-nth` lets
//! the Nth allocation or user copy of a system call fail. Each call then succeeds
//! or fails with an errno of its documentation; either way nothing is left behind.

use std::cell::Cell;
use std::fs;

use cohbuf::{Access, Buffer, CreateFlags};
use cohbuf_testdev::{Attachment, Direction, TestDevice};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pread, pwrite};

use crate::cases::sync::sync;
use crate::check;
use crate::guest::{Guest, exists, live_buffers, meminfo, open_files, page};
use crate::harness::{Outcome, Stop, fail, skip};
use crate::raw::Map;

crate::guest_suite!("faults":
    create,
    large_create,
    info,
    attach,
    map,
    sync_start_and_end,
    mmap,
    unmap,
    detach,
);

/// More faults than any call here has places for.
const LIMIT: u32 = 2000;

/// Of more than one chunk, of two orders.
const PAGES: usize = 20;

/// Pages in a chunk of a megabyte.
const LARGE_CHUNK: usize = 256;

/// One fault: the Nth of the calls that this thread makes while it is armed.
struct Fault {
    file: OwnedFd,
    nth: u32,
    hit: Cell<bool>,
}

impl Fault {
    /// Calls something with the fault armed. It must not touch fresh memory: a page
    /// fault allocates, too.
    fn during<R>(&self, call: impl FnOnce() -> R) -> Result<R, Stop> {
        let text = self.nth.to_string();
        pwrite(&self.file, text.as_bytes(), 0)?;
        let result = call();
        // Of what is left: to read it is a user copy, and may be the one to fail.
        let mut left = [0; 16];
        let unused = match pread(&self.file, &mut left, 0) {
            Ok(bytes) => left[..bytes].trim_ascii() != b"0",
            Err(Errno::FAULT) => true,
            Err(errno) => return Err(errno.into()),
        };
        self.hit.set(!unused);
        // So is to write it, which fails once at most.
        while let Err(errno) = pwrite(&self.file, b"0", 0) {
            check!(errno == Errno::FAULT, "fail-nth: {errno}");
        }
        Ok(result)
    }
}

/// Makes every kind of allocation and user copy fail, and none of it chatty: the
/// kernel prints a stack for each fault else. Fails where the kernel has the
/// framework and not all of its parts.
fn set_up() -> Outcome {
    if !exists("/proc/thread-self/fail-nth") {
        return skip("this kernel has no fault injection");
    }
    for (name, value) in [
        ("failslab/verbose", "0"),
        ("failslab/ignore-gfp-wait", "N"),
        ("fail_page_alloc/verbose", "0"),
        ("fail_page_alloc/ignore-gfp-wait", "N"),
        ("fail_page_alloc/ignore-gfp-highmem", "N"),
        ("fail_page_alloc/min-order", "0"),
        ("fail_usercopy/verbose", "0"),
    ] {
        let path = format!("/sys/kernel/debug/{name}");
        if let Err(error) = fs::write(&path, value) {
            return fail(format!("{path}: {error}"));
        }
    }
    Ok(())
}

/// Repeats a round with the first, the second, ... fault until it has no place for
/// one more. A round calls something once with its fault armed, checks that nothing
/// is left behind, and gives what came of the call.
fn sweep(
    what: &str,
    errnos: &[Errno],
    mut round: impl FnMut(&Fault) -> Result<Result<(), Errno>, Stop>,
) -> Outcome {
    set_up()?;
    let mut failed = 0;
    for nth in 1..LIMIT {
        let fault = Fault {
            file: open(
                "/proc/thread-self/fail-nth",
                OFlags::RDWR | OFlags::CLOEXEC,
                Mode::empty(),
            )?,
            nth,
            hit: Cell::new(false),
        };
        match (round(&fault)?, fault.hit.get()) {
            (Ok(()), false) => {
                check!(failed > 0, "{what}: of {nth} faults none made it fail");
                return Ok(());
            }
            // The kernel did without.
            (Ok(()), true) => {}
            (Err(errno), true) if errnos.contains(&errno) => failed += 1,
            (Err(errno), hit) => {
                return fail(format!("{what}: {errno} with fault {nth}, hit: {hit}"));
            }
        }
    }
    fail(format!("{what}: still faults after {LIMIT}"))
}

/// Fails unless the buffer has so many attachments and mappings.
fn has(guest: &Guest, buffer: &Buffer, attachments: u32, mappings: u32) -> Outcome {
    let info = guest.device()?.info(buffer)?;
    check!(
        info.attachments == attachments && info.mappings == mappings,
        "must be {attachments} attached, {mappings} mapped: {info:?}"
    );
    Ok(())
}

/// Runs a test, after which no file, no buffer and no attachment may be left over,
/// and the device must still work.
fn leaves_nothing(guest: &Guest, test: impl FnOnce() -> Outcome) -> Outcome {
    let before = (open_files()?, live_buffers()?);
    test()?;
    let after = (open_files()?, live_buffers()?);
    check!(before == after, "files and buffers: {before:?}, {after:?}");

    let importer = guest.importer()?;
    let buffer = guest.bracketed(PAGES * page())?;
    let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
    attachment.map(Direction::Bidirectional)?;
    let mapping = buffer.map()?;
    let window = buffer.cpu_access(Access::ReadWrite)?;
    check!(
        mapping.to_vec()?.iter().all(|byte| *byte == 0),
        "new memory is not zero"
    );
    mapping.write(0, b"works")?;
    window.end()?;
    has(guest, &buffer, 1, 1)
}

/// A sweep over CREATE. Of each round neither a file nor a buffer may stay.
fn creates(guest: &Guest, pages: usize, flags: CreateFlags) -> Outcome {
    let device = guest.device()?;
    let size = (pages * page()) as u64;
    sweep("CREATE", &[Errno::NOMEM, Errno::FAULT], |fault| {
        let before = (open_files()?, live_buffers()?);
        let result = fault.during(|| device.create(size, flags))?;
        let outcome = match result {
            Ok(buffer) => {
                check!(buffer.size() == size, "{} bytes", buffer.size());
                Ok(())
            }
            Err(error) => Err(error.errno()),
        };
        let after = (open_files()?, live_buffers()?);
        check!(
            before == after,
            "fault {}: files and buffers: {before:?}, {after:?}",
            fault.nth
        );
        Ok(outcome)
    })
}

fn create(guest: &Guest) -> Outcome {
    leaves_nothing(guest, || {
        creates(guest, PAGES, CreateFlags::empty())?;
        creates(guest, PAGES, CreateFlags::WRITE_COMBINE)
    })
}

// A chunk left behind in a few of the rounds would be more than what the system
// takes and gives meanwhile: none is below a megabyte.
fn large_create(guest: &Guest) -> Outcome {
    leaves_nothing(guest, || {
        creates(guest, 16 * LARGE_CHUNK, CreateFlags::empty())?;
        let before = meminfo("MemFree")?;
        creates(guest, 16 * LARGE_CHUNK, CreateFlags::empty())?;
        let after = meminfo("MemFree")?;
        check!(
            after + (16 << 10) > before,
            "of {before} KiB free memory {after} KiB are left"
        );
        Ok(())
    })
}

fn info(guest: &Guest) -> Outcome {
    leaves_nothing(guest, || {
        let device = guest.device()?;
        let buffer = guest.bracketed(page())?;
        sweep("INFO", &[Errno::FAULT], |fault| {
            let result = fault.during(|| device.info(&buffer))?;
            Ok(result.map(drop).map_err(|error| error.errno()))
        })
    })
}

fn attach(guest: &Guest) -> Outcome {
    leaves_nothing(guest, || {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(page())?;
        sweep("ATTACH", &[Errno::NOMEM, Errno::FAULT], |fault| {
            let result = fault.during(|| importer.attach(&buffer, TestDevice::NonCoherent, 0))?;
            let outcome = match result {
                Ok(attachment) => {
                    has(guest, &buffer, 1, 0)?;
                    attachment.detach()?;
                    Ok(())
                }
                Err(refused) => Err(refused.errno),
            };
            has(guest, &buffer, 0, 0)?;
            Ok(outcome)
        })
    })
}

/// A sweep over something that is done to an attached buffer.
fn attached(
    guest: &Guest,
    what: &str,
    errnos: &[Errno],
    mut round: impl FnMut(&Fault, &Buffer, &Attachment<'_>) -> Result<Result<(), Errno>, Stop>,
) -> Outcome {
    leaves_nothing(guest, || {
        let importer = guest.importer()?;
        let buffer = guest.bracketed(PAGES * page())?;
        let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
        sweep(what, errnos, |fault| round(fault, &buffer, &attachment))
    })
}

// For a device that reads: of the other mappings CONFIG_DMA_API_DEBUG tracks each
// cache line, and turns itself off where it gets no memory for that.
fn map(guest: &Guest) -> Outcome {
    attached(
        guest,
        "MAP",
        &[Errno::NOMEM, Errno::FAULT],
        |fault, buffer, attachment| {
            let result = fault.during(|| attachment.map(Direction::ToDevice))?;
            if result.is_err() {
                has(guest, buffer, 1, 0)?;
                attachment.map(Direction::ToDevice)?;
            }
            has(guest, buffer, 1, 1)?;
            attachment.unmap()?;
            has(guest, buffer, 1, 0)?;
            Ok(result.map(drop))
        },
    )
}

// Maintenance allocates nothing: what can fail is to read the flags, and, before anything is
// done, to remember a window.
fn sync_start_and_end(guest: &Guest) -> Outcome {
    for flags in [1, 2, 3, 4 | 1, 4 | 2, 4 | 3] {
        let opens = matches!(flags, 2 | 3);
        let errnos = [Errno::FAULT, Errno::NOMEM];
        attached(
            guest,
            &format!("SYNC {flags}"),
            &errnos[..1 + usize::from(opens)],
            |fault, buffer, attachment| {
                attachment.map(Direction::Bidirectional)?;
                let result = fault.during(|| sync(buffer, flags))?;
                // One or more windows, which this ends, or none.
                sync(buffer, 4 | 3)?;
                attachment.unmap()?;
                has(guest, buffer, 1, 0)?;
                Ok(result)
            },
        )?;
    }
    Ok(())
}

fn mmap(guest: &Guest) -> Outcome {
    leaves_nothing(guest, || {
        let len = PAGES * page();
        let buffer = guest.bracketed(len)?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        sweep("mmap", &[Errno::NOMEM], |fault| {
            let result = fault.during(|| Map::new(&buffer, len, prot, libc::MAP_SHARED, 0))?;
            Ok(result.map(|mapping| mapping.put(len - 1, 1)))
        })
    })
}

fn unmap(guest: &Guest) -> Outcome {
    attached(
        guest,
        "UNMAP",
        &[Errno::FAULT],
        |fault, buffer, attachment| {
            attachment.map(Direction::Bidirectional)?;
            let result = fault.during(|| attachment.unmap())?;
            if result.is_err() {
                has(guest, buffer, 1, 1)?;
                attachment.unmap()?;
            }
            has(guest, buffer, 1, 0)?;
            Ok(result)
        },
    )
}

fn detach(guest: &Guest) -> Outcome {
    leaves_nothing(guest, || {
        let buffer = guest.bracketed(page())?;
        sweep("DETACH", &[Errno::FAULT], |fault| {
            let importer = guest.importer()?;
            let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
            attachment.map(Direction::Bidirectional)?;
            let result = fault.during(|| attachment.detach())?;
            let left = u32::from(result.is_err());
            has(guest, &buffer, left, left)?;
            // Closing it takes what is left.
            drop(importer);
            has(guest, &buffer, 0, 0)?;
            Ok(result)
        })
    })
}
