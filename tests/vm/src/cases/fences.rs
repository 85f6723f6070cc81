// SPDX-License-Identifier: GPL-2.0

//! CPU access waits for fences (R5): those of `sw_sync`, or, where a kernel has none,
//! those that vgem adds to a buffer that it imported.

use std::thread;
use std::time::{Duration, Instant};

use cohbuf::Buffer;
use cohbuf_testdev::{Direction, TestDevice, Vgem, VgemFence, VgemImport, system_heap};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::cases::sync::sync;
use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, fail, fails_with, skip};
use crate::raw::{self, Child, READ_WRITE, WRITE, ioc};

crate::guest_suite!("fences":
    read_waits_for_a_writer,
    write_waits_for_a_reader,
    nobody_waits_for_what_does_not_matter,
    killed_while_it_waits,
    handled_signal_interrupts,
    data_is_fetched_after_the_fence,
    system_heap_fetches_before_the_fence,
    fence_with_an_error,
    fence_that_times_out,
);

pub(super) const READ: u64 = 1;
pub(super) const WRITES: u64 = 2;
const END: u64 = 4;

/// Where fences come from.
pub(super) enum Source {
    SwSync(Timeline),
    Vgem(Vgem),
}

impl Source {
    pub(super) fn find() -> Result<Self, Stop> {
        if let Ok(timeline) = Timeline::open() {
            return Ok(Self::SwSync(timeline));
        }
        match Vgem::open() {
            Ok(vgem) => Ok(Self::Vgem(vgem)),
            Err(_) => skip("this kernel has neither sw_sync nor vgem"),
        }
    }

    /// For [`Source::add_fence_to`].
    pub(super) fn import(&self, buffer: impl AsFd) -> Result<Option<VgemImport<'_>>, Stop> {
        Ok(match self {
            Self::SwSync(_) => None,
            Self::Vgem(vgem) => Some(vgem.import(buffer)?),
        })
    }

    /// Adds a pending fence of a writer, without a word to the exporter.
    pub(super) fn add_fence_to<'a>(
        &'a self,
        buffer: impl AsFd,
        import: Option<&VgemImport<'a>>,
    ) -> Result<Fence<'a>, Stop> {
        match import {
            Some(import) => Ok(Fence::Vgem(import.add_fence(true)?)),
            None => self.add_fence(buffer, WRITES),
        }
    }

    /// Adds a pending fence, of a reader or of a writer, to the reservation object
    /// of a dma-buf.
    pub(super) fn add_fence(&self, buffer: impl AsFd, usage: u64) -> Result<Fence<'_>, Stop> {
        Ok(match self {
            Self::SwSync(timeline) => {
                timeline.add_fence(buffer, usage)?;
                Fence::SwSync(timeline)
            }
            // The fence stays when the import goes.
            Self::Vgem(vgem) => Fence::Vgem(vgem.import(buffer)?.add_fence(usage == WRITES)?),
        })
    }
}

/// A pending fence.
pub(super) enum Fence<'a> {
    SwSync(&'a Timeline),
    Vgem(VgemFence<'a>),
}

impl Fence<'_> {
    pub(super) fn signal(self) -> Outcome {
        match self {
            Self::SwSync(timeline) => timeline.signal(),
            Self::Vgem(fence) => Ok(fence.signal()?),
        }
    }
}

/// A timeline of `sw_sync`, whose fences this process signals. Where it is dropped,
/// pending ones end with an error.
pub(super) struct Timeline(OwnedFd);

impl Timeline {
    fn open() -> Result<Self, Errno> {
        open(
            "/sys/kernel/debug/sync/sw_sync",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(Self)
    }

    /// Adds a fence that signals at the next step.
    fn add_fence(&self, buffer: impl AsFd, usage: u64) -> Outcome {
        // SW_SYNC_IOC_CREATE_FENCE: value, name, fence.
        let mut arg = [0; 40];
        arg[0] = 1;
        raw::ioctl(&self.0, ioc(READ_WRITE, b'W', 0, 40), &mut arg)?;
        let fence = raw::take_fd(&arg, 36);
        // DMA_BUF_IOCTL_IMPORT_SYNC_FILE: flags, fd.
        let mut arg = [0; 8];
        arg[0] = usage as u8;
        arg[4..8].copy_from_slice(&fence.as_raw_fd().to_ne_bytes());
        raw::ioctl(buffer, ioc(WRITE, b'b', 3, 8), &mut arg)?;
        Ok(())
    }

    /// Takes that step.
    fn signal(&self) -> Outcome {
        // SW_SYNC_IOC_INC.
        raw::ioctl(&self.0, ioc(WRITE, b'W', 1, 4), &mut 1u32.to_ne_bytes())?;
        Ok(())
    }
}

pub(super) const PENDING: Duration = Duration::from_millis(500);

fn waits(guest: &Guest, usage: u64, access: u64) -> Outcome {
    let source = Source::find()?;
    let buffer = guest.bracketed(page())?;
    let fence = source.add_fence(&buffer, usage)?;
    let began = Instant::now();
    thread::scope(|scope| -> Outcome {
        let waiter = scope.spawn(|| sync(&buffer, access).map(|()| began.elapsed()));
        thread::sleep(PENDING);
        let early = waiter.is_finished();
        fence.signal()?;
        let took = waiter.join().expect("the waiter panicked")?;
        check!(!early, "START came back with the fence pending");
        check!(took >= PENDING, "START took {took:?}");
        Ok(())
    })
}

fn read_waits_for_a_writer(guest: &Guest) -> Outcome {
    waits(guest, WRITES, READ)
}

fn write_waits_for_a_reader(guest: &Guest) -> Outcome {
    waits(guest, READ, WRITES)
}

// Readers do not wait for readers, and END waits for nobody.
fn nobody_waits_for_what_does_not_matter(guest: &Guest) -> Outcome {
    let source = Source::find()?;
    let buffer = guest.bracketed(page())?;
    let fence = source.add_fence(&buffer, READ)?;
    let began = Instant::now();
    sync(&buffer, READ)?;
    sync(&buffer, END | READ | WRITES)?;
    let took = began.elapsed();
    check!(took < PENDING, "it took {took:?}");
    fence.signal()
}

/// Waits until a child ends, and gives its status.
pub(super) fn end_of(child: &Child) -> Result<i32, Stop> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.poll()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return fail("the signal did not interrupt the wait");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn killed_while_it_waits(guest: &Guest) -> Outcome {
    interrupted(
        guest,
        libc::SIGTERM,
        |buffer| i32::from(sync(buffer, READ).is_err()),
        |status| libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM,
    )
}

/// With a handler that does not ask for a restart, START says so.
fn handled_signal_interrupts(guest: &Guest) -> Outcome {
    // Before the fork, so that the signal cannot come first.
    raw::let_signal_interrupt()?;
    interrupted(
        guest,
        libc::SIGUSR1,
        |buffer| match sync(buffer, READ) {
            Err(Errno::INTR) => 42,
            _ => 1,
        },
        |status| libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42,
    )
}

/// Sends a signal to a child that waits for a fence.
fn interrupted(
    guest: &Guest,
    signal: i32,
    run: impl FnOnce(&Buffer) -> i32,
    ends_well: impl FnOnce(i32) -> bool,
) -> Outcome {
    let source = Source::find()?;
    let buffer = guest.bracketed(page())?;
    let fence = source.add_fence(&buffer, WRITES)?;
    let child = raw::fork(|| run(&buffer))?;
    thread::sleep(PENDING);
    check!(
        child.poll()?.is_none(),
        "START came back with the fence pending"
    );
    child.signal(signal)?;
    let status = end_of(&child)?;
    check!(ends_well(status), "the child ended with status {status:#x}");
    fence.signal()?;
    // Nothing is half done: the next one works.
    sync(&buffer, READ)?;
    sync(&buffer, END | READ)?;
    Ok(())
}

/// What the CPU sees in a window that it asked for with the fence of a device
/// pending, which then writes and signals.
fn seen_after_the_fence(
    guest: &Guest,
    source: &Source,
    buffer: &Buffer,
    kind: TestDevice,
    bytes: &[u8],
) -> Result<Vec<u8>, Stop> {
    let importer = guest.importer()?;
    importer.model().reset()?;
    let mapping = buffer.map()?;
    let device = importer.attach(buffer, kind, 0)?;
    device.map(Direction::Bidirectional)?;
    let fence = source.add_fence(buffer, WRITES)?;
    let mut seen = vec![0; bytes.len()];
    thread::scope(|scope| -> Outcome {
        let seen = &mut seen;
        let mapping = &mapping;
        let waiter = scope.spawn(move || -> Outcome {
            sync(buffer, READ)?;
            mapping.read(0, seen)?;
            sync(buffer, END | READ)?;
            Ok(())
        });
        thread::sleep(PENDING);
        let wrote = device.device_writes(0, bytes);
        let early = waiter.is_finished();
        fence.signal()?;
        waiter.join().expect("the waiter panicked")?;
        wrote?;
        check!(!early, "START came back with the fence pending");
        Ok(())
    })?;
    device.unmap()?;
    importer.model().reset()?;
    Ok(seen)
}

/// Devices that a sync has to fetch from, in every boot.
const FETCHED: [TestDevice; 2] = [TestDevice::CacheModel, TestDevice::BounceModel];

const DATA: &[u8] = b"written while the fence was pending";

fn data_is_fetched_after_the_fence(guest: &Guest) -> Outcome {
    let edu = guest.swiotlb.then_some(TestDevice::Edu);
    for kind in FETCHED.into_iter().chain(edu) {
        let source = Source::find()?;
        let buffer = guest.bracketed(page())?;
        let seen = seen_after_the_fence(guest, &source, &buffer, kind, DATA)?;
        check!(seen == DATA, "{kind:?}: the CPU sees {seen:?}");
    }
    Ok(())
}

// The control: an exporter that has it the other way round shows old bytes in the
// same test. If it does not, the test shows nothing.
fn system_heap_fetches_before_the_fence(guest: &Guest) -> Outcome {
    for kind in FETCHED {
        let source = Source::find()?;
        let Ok(heap) = system_heap(page() as u64) else {
            return skip("this kernel has no system heap");
        };
        let buffer = Buffer::try_from(heap)?;
        let seen = seen_after_the_fence(guest, &source, &buffer, kind, DATA)?;
        check!(
            seen == vec![0; DATA.len()],
            "{kind:?}: the CPU sees {seen:?}"
        );
    }
    Ok(())
}

/// An error ends the device's access as well as a success: the CPU goes on.
fn fence_with_an_error(guest: &Guest) -> Outcome {
    let Ok(timeline) = Timeline::open() else {
        return skip("this kernel has no sw_sync, and vgem's fences have no errors");
    };
    let buffer = guest.bracketed(page())?;
    timeline.add_fence(&buffer, WRITES)?;
    thread::scope(|scope| -> Outcome {
        let waiter = scope.spawn(|| sync(&buffer, READ));
        thread::sleep(PENDING);
        let early = waiter.is_finished();
        // ENOENT to the fence.
        drop(timeline);
        waiter.join().expect("the waiter panicked")?;
        check!(!early, "START came back with the fence pending");
        sync(&buffer, END | READ)?;
        sync(&buffer, WRITES)?;
        sync(&buffer, END | WRITES)?;
        Ok(())
    })
}

/// Nobody signals: vgem does, after 10 s.
fn fence_that_times_out(guest: &Guest) -> Outcome {
    if guest.swiotlb || guest.iommu {
        return skip("it takes 10 s, so the plain boot does it");
    }
    let vgem = crate::guest::vgem()?;
    let buffer = guest.bracketed(page())?;
    let fence = vgem.import(&buffer)?.add_fence(true)?;
    let began = Instant::now();
    sync(&buffer, READ)?;
    let took = began.elapsed();
    sync(&buffer, END | READ)?;
    check!(took >= Duration::from_secs(9), "START took {took:?}");
    fails_with(fence.signal(), Errno::TIMEDOUT, "signal after the timeout")?;
    sync(&buffer, WRITES)?;
    sync(&buffer, END | WRITES)?;
    Ok(())
}
