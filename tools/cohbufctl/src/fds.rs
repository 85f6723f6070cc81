// SPDX-License-Identifier: GPL-2.0

//! File descriptors of this process and of others.

use cohbuf::Errno;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::error::{Error, Result};

/// A descriptor of our own for what a number is in another process, or in this one.
pub(crate) fn open(fd: i32, pid: Option<i32>) -> Result<OwnedFd> {
    match pid {
        Some(pid) => from_process(pid, fd).map_err(|errno| Error::OtherProcess { pid, fd, errno }),
        // A second descriptor: the inherited one is not ours to own.
        None => from_process(std::process::id() as i32, fd).map_err(|_| Error::NotOpen(fd)),
    }
}

fn from_process(pid: i32, fd: i32) -> core::result::Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty())
}
