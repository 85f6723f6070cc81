// SPDX-License-Identifier: GPL-2.0

//! `/dev/cohbuf`.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::buffer::Buffer;
use crate::error::{Operation, Result, during};
use crate::uapi::{Caps, Create, RawInfo};
use crate::{sys, uapi};

bitflags::bitflags! {
    /// What kind of buffer to make. Without a flag it is bracketed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct CreateFlags: u32 {
        /// Every importer must be DMA-coherent.
        const COHERENT = uapi::COHERENT;
        /// The CPU sees the memory past its caches. Not with `COHERENT`.
        const WRITE_COMBINE = uapi::WRITE_COMBINE;
    }

    /// What kind of file descriptor to make for a buffer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct FdFlags: u32 {
        /// It is closed when this process executes another program.
        const CLOEXEC = OFlags::CLOEXEC.bits();
        /// It can be mapped to write, not to read only.
        const RDWR = OFlags::RDWR.bits();
    }
}

/// What is known of a buffer. See [`RawInfo`] for each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The flags that the buffer was made with.
    pub flags: CreateFlags,
    /// Bytes.
    pub size: u64,
    /// Importers that are attached now.
    pub attachments: u32,
    /// Mappings that they hold now.
    pub mappings: u32,
    /// Of those, the bounced ones.
    pub bounced: u32,
    /// Write windows that are open: START without END so far.
    pub write_windows: u32,
    /// Attachments that were refused.
    pub refused_attach: u64,
    /// Mappings that were refused.
    pub refused_map: u64,
    /// Passes over a mapping for the CPU; one may serve several mappings.
    pub syncs_for_cpu: u64,
    /// Passes over a mapping for devices.
    pub syncs_for_device: u64,
    /// Physically contiguous pieces.
    pub segments: u32,
}

impl From<RawInfo> for Info {
    fn from(raw: RawInfo) -> Self {
        Self {
            flags: CreateFlags::from_bits_retain(raw.flags),
            size: raw.size,
            attachments: raw.attachments,
            mappings: raw.mappings,
            bounced: raw.bounced,
            write_windows: raw.write_windows,
            refused_attach: raw.refused_attach,
            refused_map: raw.refused_map,
            syncs_for_cpu: raw.syncs_for_cpu,
            syncs_for_device: raw.syncs_for_device,
            segments: raw.segments,
        }
    }
}

/// The open device file. Buffers outlive it.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
}

impl Device {
    /// Where the device file is.
    pub const PATH: &'static str = "/dev/cohbuf";

    /// Opens the device file.
    pub fn open() -> Result<Self> {
        let fd = open(Self::PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(during(Operation::Open))?;
        Ok(Self { fd })
    }

    /// What the driver can do.
    pub fn caps(&self) -> Result<Caps> {
        let mut caps = Caps::default();
        sys::caps(self.fd.as_fd(), &mut caps).map_err(during(Operation::Caps))?;
        Ok(caps)
    }

    /// Makes a buffer of at least `size` bytes, all zero, that can be mapped to
    /// read and to write and is not handed on to other programs.
    pub fn create(&self, size: u64, flags: CreateFlags) -> Result<Buffer> {
        self.create_with(size, flags, FdFlags::CLOEXEC | FdFlags::RDWR)
    }

    /// Makes a buffer with a file descriptor of a chosen kind.
    pub fn create_with(&self, size: u64, flags: CreateFlags, fd_flags: FdFlags) -> Result<Buffer> {
        let mut create = Create {
            size,
            flags: flags.bits(),
            fd_flags: fd_flags.bits(),
            ..Create::default()
        };
        let fd = sys::create(self.fd.as_fd(), &mut create).map_err(during(Operation::Create))?;
        Ok(Buffer::new(fd, create.size))
    }

    /// What is known of a buffer that cohbuf made.
    pub fn info(&self, buffer: impl AsFd) -> Result<Info> {
        let fd = buffer.as_fd().as_raw_fd();
        loop {
            let mut raw = RawInfo {
                fd,
                ..RawInfo::default()
            };
            match sys::info(self.fd.as_fd(), &mut raw) {
                Ok(()) => return Ok(raw.into()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(during(Operation::Info)(errno)),
            }
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
