// SPDX-License-Identifier: GPL-2.0

//! How to make a buffer, said step by step.

use crate::buffer::Buffer;
use crate::device::{CreateFlags, Device, FdFlags};
use crate::error::Result;

/// What comes of CPU access outside of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforce {
    /// It is counted, and logged by the kernel.
    Report,
    /// It raises SIGBUS, and the buffer is good for nothing from then on.
    Poison,
}

/// A buffer to be: [`Device::buffer`] begins one, [`create`](Self::create) makes it.
///
/// Without more words it is bracketed, takes any importer, can be mapped to read and to
/// write, and is not handed on to other programs.
///
/// ```no_run
/// # fn main() -> cohbuf::Result<()> {
/// use cohbuf::{Device, Enforce};
///
/// let device = Device::open()?;
/// let frame = device
///     .buffer(1920 * 1080 * 4)
///     .name("frame 0")
///     .track_dirty()
///     .enforce(Enforce::Report)
///     .create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is made before create()"]
pub struct BufferBuilder<'a> {
    device: &'a Device,
    size: u64,
    flags: CreateFlags,
    fd_flags: FdFlags,
    name: Option<&'a str>,
}

impl<'a> BufferBuilder<'a> {
    pub(crate) fn new(device: &'a Device, size: u64) -> Self {
        Self {
            device,
            size,
            flags: CreateFlags::empty(),
            fd_flags: FdFlags::CLOEXEC | FdFlags::RDWR,
            name: None,
        }
    }

    /// Every importer must be DMA-coherent; others are refused. Nobody maintains anything.
    pub fn coherent(self) -> Self {
        self.flags(CreateFlags::COHERENT)
    }

    /// The CPU sees the memory past its caches. Not with [`coherent`](Self::coherent).
    pub fn write_combine(self) -> Self {
        self.flags(CreateFlags::WRITE_COMBINE)
    }

    /// One physically contiguous piece of memory.
    pub fn contiguous(self) -> Self {
        self.flags(CreateFlags::CONTIGUOUS)
    }

    /// The end of a window maintains just the pages that the CPU has written. Of bracketed
    /// buffers only.
    pub fn track_dirty(self) -> Self {
        self.flags(CreateFlags::TRACK_DIRTY)
    }

    /// CPU access outside of windows does not go unseen.
    pub fn enforce(mut self, how: Enforce) -> Self {
        self.flags
            .remove(CreateFlags::ENFORCE_REPORT | CreateFlags::ENFORCE_POISON);
        self.flags(match how {
            Enforce::Report => CreateFlags::ENFORCE_REPORT,
            Enforce::Poison => CreateFlags::ENFORCE_POISON,
        })
    }

    /// Flags beside those that were said.
    pub fn flags(mut self, flags: CreateFlags) -> Self {
        self.flags |= flags;
        self
    }

    /// The descriptor can be mapped to read only. Devices may write all the same.
    pub fn read_only(mut self) -> Self {
        self.fd_flags.remove(FdFlags::RDWR);
        self
    }

    /// The descriptor stays open in programs that this process executes.
    pub fn inheritable(mut self) -> Self {
        self.fd_flags.remove(FdFlags::CLOEXEC);
        self
    }

    /// A name, which the kernel shows beside the buffer: at most 31 bytes.
    pub fn name(mut self, name: &'a str) -> Self {
        self.name = Some(name);
        self
    }

    /// Makes the buffer. It has at least the bytes that were asked for, all zero.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the size is 0, or two flags exclude each other, or one is not known to the
    /// driver, or the name is too long. `EFBIG`: the size is above the limit of the driver.
    /// `ENOMEM`: there is not that much memory, or the memory cgroup may not have it.
    /// `EOPNOTSUPP`: memory cannot be write-combined here. `EMFILE`, `ENFILE`: no file
    /// descriptor is left.
    pub fn create(self) -> Result<Buffer> {
        let buffer = self
            .device
            .create_with(self.size, self.flags, self.fd_flags)?;
        if let Some(name) = self.name {
            buffer.set_name(name)?;
        }
        Ok(buffer)
    }
}
