// SPDX-License-Identifier: GPL-2.0

//! What runs in the guest.

mod bytes;
mod cases;
mod exporters;
mod raw;

use std::error::Error;
use std::io;

pub use cases::{Extent, Spin, run, spin};

/// What stops the bench.
pub(crate) type Result<T> = core::result::Result<T, Box<dyn Error>>;

/// The middle one; of two, the lower.
pub(crate) fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all[(all.len() - 1) / 2]
}

/// An ioctl or system call, as its result says.
pub(crate) fn check(result: isize) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result as i32));
    }
    Ok(result as i32)
}
