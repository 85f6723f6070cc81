// SPDX-License-Identifier: GPL-2.0

//! Buffers of the kernel's own exporters, to compare with.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open,
};
use rustix::io::Errno;

use crate::sys;
use crate::uapi::{HeapAllocation, UdmabufCreate};

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
    let device = open(
        "/dev/udmabuf",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let memory = memfd_create(
        "cohbuf-test",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    ftruncate(&memory, size)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK)?;
    let create = UdmabufCreate {
        flags: UdmabufCreate::CLOEXEC,
        size,
        ..UdmabufCreate::default()
    };
    sys::udmabuf_create(device.as_fd(), memory.as_fd(), create)
}
