// SPDX-License-Identifier: GPL-2.0

//! CPU access waits for fences (R5), with the fences of `sw_sync`.

use std::thread;
use std::time::{Duration, Instant};

use cohbuf::Buffer;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::cases::sync::sync;
use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, fail};
use crate::raw::{self, Child, READ_WRITE, WRITE, ioc};

crate::guest_suite!("fences":
    read_waits_for_a_writer,
    write_waits_for_a_reader,
    killed_while_it_waits,
    handled_signal_interrupts,
);

const READ: u64 = 1;
const WRITES: u64 = 2;

/// A timeline whose fences this process signals.
struct Timeline(OwnedFd);

impl Timeline {
    fn open() -> Result<Self, Stop> {
        open(
            "/sys/kernel/debug/sync/sw_sync",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(Self)
        .map_err(|_| Stop::Skipped("this kernel has no sw_sync".into()))
    }

    /// Adds a pending fence to the reservation object of a dma-buf.
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

    fn signal(&self) -> Outcome {
        // SW_SYNC_IOC_INC.
        raw::ioctl(&self.0, ioc(WRITE, b'W', 1, 4), &mut 1u32.to_ne_bytes())?;
        Ok(())
    }
}

const PENDING: Duration = Duration::from_millis(500);

fn waits(guest: &Guest, usage: u64, access: u64) -> Outcome {
    let timeline = Timeline::open()?;
    let buffer = guest.bracketed(page())?;
    timeline.add_fence(&buffer, usage)?;
    let began = Instant::now();
    thread::scope(|scope| -> Outcome {
        let waiter = scope.spawn(|| sync(&buffer, access).map(|()| began.elapsed()));
        thread::sleep(PENDING);
        let early = waiter.is_finished();
        timeline.signal()?;
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

/// Waits until a child ends, and gives its status.
fn end_of(child: &Child) -> Result<i32, Stop> {
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
    let timeline = Timeline::open()?;
    let buffer = guest.bracketed(page())?;
    timeline.add_fence(&buffer, WRITES)?;
    let child = raw::fork(|| run(&buffer))?;
    thread::sleep(PENDING);
    check!(
        child.poll()?.is_none(),
        "START came back with the fence pending"
    );
    child.signal(signal)?;
    let status = end_of(&child)?;
    check!(ends_well(status), "the child ended with status {status:#x}");
    timeline.signal()?;
    // Nothing is half done: the next one works.
    sync(&buffer, READ)?;
    sync(&buffer, 4 | READ)?;
    Ok(())
}
