// SPDX-License-Identifier: GPL-2.0

//! What a user may take: the size limit, and the memory cgroup.

use std::fs;
use std::process::{Command, ExitCode};

use cohbuf::{CreateFlags, Device};
use rustix::io::Errno;

use crate::check;
use crate::guest::Guest;
use crate::harness::{Outcome, Stop, skip};

crate::tests![size_limit_is_read_at_use, memory_cgroup_is_charged];

const PARAMETER: &str = "/sys/module/cohbuf/parameters/max_size_mb";

fn size_limit_is_read_at_use(guest: &Guest) -> Outcome {
    let device = guest.device()?;
    let old = fs::read_to_string(PARAMETER)?;
    fs::write(PARAMETER, "2")?;
    let caps = device.caps();
    let fits = device.create(2 << 20, CreateFlags::empty());
    let above = device.create((2 << 20) + 1, CreateFlags::empty());
    fs::write(PARAMETER, old.trim())?;
    check!(caps?.max_size == 2 << 20, "CAPS does not say the new limit");
    fits?;
    let errno = above.err().map(|error| error.errno());
    check!(errno == Some(Errno::FBIG), "above the limit: {errno:?}");
    device.create((2 << 20) + 1, CreateFlags::empty())?;
    Ok(())
}

const CGROUP: &str = "/tmp/cgroup";
/// Exit statuses of the child.
const CHARGED: u8 = 10;
const NOT_CHARGED: u8 = 11;
const OVER_THE_LIMIT: u8 = 12;
const BROKEN: u8 = 13;

fn memory_cgroup_is_charged(_guest: &Guest) -> Outcome {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

    fs::create_dir_all(CGROUP)?;
    if mount("none", CGROUP, "cgroup2", MountFlags::empty(), None).is_err() {
        return skip("no cgroup2 here");
    }
    let result = in_cgroup();
    let _ = fs::remove_dir(format!("{CGROUP}/limited"));
    unmount(CGROUP, UnmountFlags::empty())?;
    result
}

fn in_cgroup() -> Outcome {
    let controllers = fs::read_to_string(format!("{CGROUP}/cgroup.controllers"))?;
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return skip("no memory controller here");
    }
    fs::write(format!("{CGROUP}/cgroup.subtree_control"), "+memory")?;
    let limited = format!("{CGROUP}/limited");
    fs::create_dir_all(&limited)?;
    fs::write(format!("{limited}/memory.max"), "33554432")?;
    let status = Command::new(std::env::current_exe()?)
        .arg("--child-of-limits")
        .status()?;
    match status.code() {
        Some(code) if code == CHARGED.into() => Ok(()),
        Some(code) if code == NOT_CHARGED.into() => {
            Err(Stop::Failed("memory.current does not grow by the buffer".into()))
        }
        Some(code) if code == OVER_THE_LIMIT.into() => {
            Err(Stop::Failed("more than memory.max: not ENOMEM".into()))
        }
        // A signal would be the OOM killer's.
        _ => Err(Stop::Failed(format!("the child in the cgroup: {status}"))),
    }
}

/// The process inside of the cgroup.
pub fn child() -> ExitCode {
    ExitCode::from(charge().unwrap_or_else(|error| {
        println!("in the cgroup: {error}");
        BROKEN
    }))
}

fn charge() -> Result<u8, Box<dyn std::error::Error>> {
    let limited = format!("{CGROUP}/limited");
    fs::write(format!("{limited}/cgroup.procs"), "0")?;
    let current = || -> Result<u64, Box<dyn std::error::Error>> {
        Ok(fs::read_to_string(format!("{limited}/memory.current"))?.trim().parse()?)
    };
    let device = Device::open()?;
    let before = current()?;
    let buffer = device.create(8 << 20, CreateFlags::empty())?;
    if current()? < before + (8 << 20) {
        return Ok(NOT_CHARGED);
    }
    drop(buffer);
    match device.create(64 << 20, CreateFlags::empty()) {
        Err(error) if error.errno() == Errno::NOMEM => Ok(CHARGED),
        result => {
            println!("64 MiB with memory.max of 32 MiB: {result:?}");
            Ok(OVER_THE_LIMIT)
        }
    }
}
