// SPDX-License-Identifier: GPL-2.0

//! The exporters: how each makes a buffer.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use cohbuf::uapi;

use super::{Result, check, raw};
use crate::record::Exporter;

/// `struct dma_heap_allocation_data` of `linux/dma-heap.h`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

/// `struct udmabuf_create` of `linux/udmabuf.h`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

const RDWR_CLOEXEC: u32 = (libc::O_RDWR | libc::O_CLOEXEC) as u32;
const DMA_HEAP_IOCTL_ALLOC: u32 = 0xc018_4800;
const UDMABUF_CREATE: u32 = 0x4018_7542;
const UDMABUF_FLAGS_CLOEXEC: u32 = 1;

/// The open device file of an exporter.
pub(crate) struct Maker {
    pub(crate) exporter: Exporter,
    file: File,
}

impl Maker {
    /// [`None`] where this kernel has no such exporter.
    pub(crate) fn open(exporter: Exporter) -> Result<Option<Self>> {
        let path = match exporter {
            Exporter::Cohbuf => "/dev/cohbuf",
            Exporter::System => "/dev/dma_heap/system",
            Exporter::Udmabuf => "/dev/udmabuf",
        };
        match File::options().read(true).write(true).open(path) {
            Ok(file) => Ok(Some(Self { exporter, file })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{path}: {error}").into()),
        }
    }

    /// The file descriptor of a new buffer, or a negative error.
    #[inline(always)]
    fn make_raw(&self, size: u64, flags: u32) -> isize {
        let device = self.file.as_raw_fd();
        match self.exporter {
            Exporter::Cohbuf => {
                let mut create = uapi::Create {
                    size,
                    flags,
                    fd_flags: RDWR_CLOEXEC,
                    ..uapi::Create::default()
                };
                match raw::ioctl(device, uapi::IOCTL_CREATE, &mut create) {
                    0 => create.fd as isize,
                    error => error,
                }
            }
            Exporter::System => {
                let mut allocation = HeapAllocation {
                    len: size,
                    fd_flags: RDWR_CLOEXEC,
                    ..HeapAllocation::default()
                };
                match raw::ioctl(device, DMA_HEAP_IOCTL_ALLOC, &mut allocation) {
                    0 => allocation.fd as isize,
                    error => error,
                }
            }
            // With its memory, which is part of what it takes to get such a buffer.
            Exporter::Udmabuf => {
                let memory = raw::sealed_memfd(size);
                let mut create = UdmabufCreate {
                    memfd: memory as u32,
                    flags: UDMABUF_FLAGS_CLOEXEC,
                    offset: 0,
                    size,
                };
                let made = raw::ioctl(device, UDMABUF_CREATE, &mut create);
                raw::close(memory as i32);
                made
            }
        }
    }

    /// Makes a buffer, and says what that cost.
    pub(crate) fn make_timed(&self, size: u64) -> io::Result<(u64, Made)> {
        let start = raw::now();
        let fd = self.make_raw(size, 0);
        let end = raw::now();
        Ok((end - start, Made { fd: check(fd)? }))
    }

    pub(crate) fn make(&self, size: u64) -> io::Result<Made> {
        self.make_with(size, 0)
    }

    /// With flags of `COHBUF_IOCTL_CREATE`.
    pub(crate) fn make_with(&self, size: u64, flags: u32) -> io::Result<Made> {
        let fd = check(self.make_raw(size, flags))?;
        Ok(Made { fd })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// A dma-buf.
pub(crate) struct Made {
    fd: i32,
}

impl Made {
    pub(crate) fn fd(&self) -> i32 {
        self.fd
    }

    /// Closes the last file descriptor of it, and says what that cost.
    pub(crate) fn destroy_timed(self) -> u64 {
        let fd = self.fd;
        core::mem::forget(self);
        let start = raw::now();
        raw::close(fd);
        raw::now() - start
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        raw::close(self.fd);
    }
}

const _: () = {
    assert!(size_of::<HeapAllocation>() == 24);
    assert!(size_of::<UdmabufCreate>() == 24);
};
