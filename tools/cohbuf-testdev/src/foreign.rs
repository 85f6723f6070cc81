// SPDX-License-Identifier: GPL-2.0

//! Buffers of the kernel's own exporters, to compare with.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::sys;
use crate::uapi::HeapAllocation;

/// A buffer of the system heap, of `size` bytes. `ENOENT` where the kernel has none.
pub fn system_heap(size: u64) -> Result<OwnedFd, Errno> {
    let heap = open(
        "/dev/dma_heap/system",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut allocation = HeapAllocation {
        len: size,
        fd_flags: (OFlags::RDWR | OFlags::CLOEXEC).bits(),
        ..HeapAllocation::default()
    };
    sys::heap_allocate(heap.as_fd(), &mut allocation)
}

/// A buffer of udmabuf over new memory, of `size` bytes. `ENOENT` where the kernel has none.
pub fn udmabuf(size: u64) -> Result<OwnedFd, Errno> {
    let buffer = cohbuf::Udmabuf::open().and_then(|device| device.create(size));
    buffer
        .map(cohbuf::Buffer::into_fd)
        .map_err(|error| error.errno())
}
