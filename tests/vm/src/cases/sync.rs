// SPDX-License-Identifier: GPL-2.0

//! `DMA_BUF_IOCTL_SYNC` in any order, and the other ioctls of every dma-buf.

use std::thread;

use cohbuf::{Access, CreateFlags};
use cohbuf_testdev::{Direction, TestDevice};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, fails_with};
use crate::raw::{self, WRITE, ioc};

crate::guest_suite!("sync":
    every_flag,
    bad_flags,
    unpaired_and_nested,
    before_attach_and_after_detach,
    counts_with_none_one_and_eight,
    coherent_costs_nothing,
    parallel_threads_and_processes,
    names_polls_and_sync_files,
);

const SYNC: u32 = ioc(WRITE, b'b', 0, 8);
const READ: u64 = 1;
const WRITES: u64 = 2;
const END: u64 = 4;

pub fn sync(fd: impl AsFd, flags: u64) -> Result<(), Errno> {
    raw::ioctl(fd, SYNC, &mut flags.to_ne_bytes()).map(drop)
}

fn every_flag(guest: &Guest) -> Outcome {
    for flags in [CreateFlags::empty(), CreateFlags::COHERENT] {
        let buffer = guest.buffer(page(), flags)?;
        for access in [READ, WRITES, READ | WRITES] {
            sync(&buffer, access)?;
            sync(&buffer, END | access)?;
        }
    }
    Ok(())
}

fn bad_flags(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    for flags in [0, END, 8, 1 << 63, READ | 16] {
        fails_with(
            sync(&buffer, flags),
            Errno::INVAL,
            &format!("flags {flags:#x}"),
        )?;
    }
    Ok(())
}

fn unpaired_and_nested(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    for flags in [
        END | READ,
        END | READ | WRITES,
        READ,
        WRITES,
        READ | WRITES,
        READ,
        END | WRITES,
        END | READ,
    ] {
        sync(&buffer, flags)?;
    }
    Ok(())
}

fn before_attach_and_after_detach(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let device = guest.device()?;
    sync(&buffer, READ | WRITES)?;
    let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
    sync(&buffer, END | READ | WRITES)?;
    check!(
        device.info(&buffer)?.syncs_for_device == 0,
        "synced, and not mapped"
    );
    attachment.map(Direction::Bidirectional)?;
    sync(&buffer, READ | WRITES)?;
    attachment.unmap()?;
    sync(&buffer, END | READ | WRITES)?;
    attachment.detach()?;
    sync(&buffer, READ)?;
    sync(&buffer, END | READ)?;
    let info = device.info(&buffer)?;
    check!(
        info.attachments == 0 && info.mappings == 0,
        "something is left: {info:?}"
    );
    check!(
        info.syncs_for_cpu == u64::from(guest.maintains(1)),
        "one pass for the CPU was due at most: {info:?}"
    );
    Ok(())
}

fn counts_with_none_one_and_eight(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let device = guest.device()?;
    for count in [0, 1, 8] {
        let buffer = guest.bracketed(4 * page())?;
        let mut attachments = Vec::new();
        for _ in 0..count {
            let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
            attachment.map(Direction::ToDevice)?;
            attachments.push(attachment);
        }
        buffer.cpu_access(Access::Write)?.end()?;
        let info = device.info(&buffer)?;
        check!(
            info.mappings == count,
            "{count} mappings, INFO says {}",
            info.mappings
        );
        check!(
            info.syncs_for_device == u64::from(guest.maintains(count)),
            "{count}: {info:?}"
        );
        check!(
            info.syncs_for_cpu == 0,
            "a device that reads has nothing: {info:?}"
        );
    }
    Ok(())
}

fn coherent_costs_nothing(guest: &Guest) -> Outcome {
    if guest.swiotlb {
        return crate::harness::skip("a coherent buffer cannot be mapped under swiotlb=force");
    }
    let importer = guest.importer()?;
    let buffer = guest.coherent(page())?;
    let attachment = importer.attach(&buffer, TestDevice::Coherent, 0)?;
    attachment.map(Direction::Bidirectional)?;
    buffer.cpu_access(Access::ReadWrite)?.end()?;
    let info = guest.device()?.info(&buffer)?;
    check!(
        info.syncs_for_cpu == 0 && info.syncs_for_device == 0,
        "{info:?}"
    );
    Ok(())
}

fn parallel_threads_and_processes(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(4 * page())?;
    let rounds = 200;
    let hammer = |seed: u64| -> Result<(), Errno> {
        for round in 0..rounds {
            let access = 1 + (seed + round) % 3;
            sync(&buffer, access)?;
            sync(&buffer, END | access)?;
        }
        Ok(())
    };
    let children = [0, 1].map(|seed| raw::fork(|| i32::from(hammer(seed).is_err())));
    let importer = guest.importer()?;
    thread::scope(|scope| -> Outcome {
        let threads: Vec<_> = (0..3)
            .map(|seed| scope.spawn(move || hammer(seed)))
            .collect();
        // Attach, map, unmap and detach meanwhile.
        for _ in 0..50 {
            let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
            attachment.map(Direction::Bidirectional)?;
            attachment.unmap()?;
            attachment.detach()?;
        }
        for thread in threads {
            thread.join().expect("a thread panicked")?;
        }
        Ok(())
    })?;
    for child in children {
        check!(child?.wait()? == 0, "a SYNC failed in another process");
    }
    let info = guest.device()?.info(&buffer)?;
    check!(
        info.attachments == 0 && info.mappings == 0,
        "something is left: {info:?}"
    );
    Ok(())
}

fn names_polls_and_sync_files(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(page())?;
    let name = c"cohbuf-vm-test";
    // DMA_BUF_SET_NAME_B takes the address as a number.
    raw::ioctl_fd_value(&buffer, ioc(WRITE, b'b', 1, 8), name.as_ptr() as usize)?;
    let info = std::fs::read_to_string("/sys/kernel/debug/dma_buf/bufinfo")?;
    check!(
        info.contains("cohbuf-vm-test"),
        "bufinfo does not show the name"
    );

    let mut fds = [PollFd::new(&buffer, PollFlags::IN | PollFlags::OUT)];
    let zero = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    check!(
        poll(&mut fds, Some(&zero))? == 1,
        "an idle buffer is not ready"
    );

    // DMA_BUF_IOCTL_EXPORT_SYNC_FILE: flags, fd.
    let mut arg = [0; 8];
    arg[0] = (READ | WRITES) as u8;
    raw::ioctl(&buffer, ioc(raw::READ_WRITE, b'b', 2, 8), &mut arg)?;
    drop(raw::take_fd(&arg, 4));
    Ok(())
}
