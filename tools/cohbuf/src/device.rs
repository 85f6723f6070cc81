// SPDX-License-Identifier: GPL-2.0

//! `/dev/cohbuf`.

use core::ops::ControlFlow;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::Errno;

use crate::access::{Access, RegionAccess};
use crate::buffer::Buffer;
use crate::builder::BufferBuilder;
use crate::error::{Error, Operation, Result, during};
use crate::info::{Attachment, Info};
use crate::region::{CopyRegion, Region};
use crate::sys::claims::{Claim, Claims, Span};
use crate::uapi::{Caps, Create, RawAttachment, RawInfo};
#[cfg(doc)]
use crate::view::View;
use crate::{sys, uapi};

bitflags::bitflags! {
    /// What kind of buffer to make. Without `COHERENT` and `WRITE_COMBINE` it is
    /// bracketed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct CreateFlags: u32 {
        /// Every importer must be DMA-coherent.
        const COHERENT = uapi::COHERENT;
        /// The CPU sees the memory past its caches. Not with `COHERENT`.
        const WRITE_COMBINE = uapi::WRITE_COMBINE;
        /// One physically contiguous piece of memory.
        const CONTIGUOUS = uapi::CONTIGUOUS;
        /// The end of a window maintains just the pages that the CPU has written.
        /// Of bracketed buffers only.
        const TRACK_DIRTY = uapi::TRACK_DIRTY;
        /// CPU access outside of windows is counted and logged.
        const ENFORCE_REPORT = uapi::ENFORCE_REPORT;
        /// CPU access outside of windows raises SIGBUS, and the buffer is good for
        /// nothing from then on. Not with `ENFORCE_REPORT`.
        const ENFORCE_POISON = uapi::ENFORCE_POISON;
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

    /// Begins to make a buffer of at least `size` bytes, all zero.
    pub fn buffer(&self, size: u64) -> BufferBuilder<'_> {
        BufferBuilder::new(self, size)
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
    ///
    /// # Errors
    ///
    /// `EMEDIUMTYPE`: the dma-buf is of another exporter. `EINVAL`: it is none.
    pub fn info(&self, buffer: impl AsFd) -> Result<Info> {
        self.raw_info(buffer.as_fd(), &mut [])
            .map(|raw| Info::from(&raw))
    }

    /// The same, with a list of the importers that are attached.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info); and `ENOMEM`: no memory to list them in.
    pub fn inspect(&self, buffer: impl AsFd) -> Result<(Info, Vec<Attachment>)> {
        let buffer = buffer.as_fd();
        let mut room = 8;
        loop {
            let mut list = vec![RawAttachment::default(); room];
            let raw = self.raw_info(buffer, &mut list)?;
            // Others may have attached since the last try.
            if raw.attachment_room < raw.attachments {
                room = (raw.attachments as usize).max(room).saturating_mul(2);
                continue;
            }
            list.truncate(raw.attachment_room as usize);
            return Ok((
                Info::from(&raw),
                list.iter().map(Attachment::from).collect(),
            ));
        }
    }

    fn raw_info(&self, buffer: BorrowedFd<'_>, list: &mut [RawAttachment]) -> Result<RawInfo> {
        loop {
            let mut raw = RawInfo {
                fd: buffer.as_raw_fd(),
                ..RawInfo::default()
            };
            match sys::info(self.fd.as_fd(), &mut raw, list) {
                Ok(()) => return Ok(raw),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(during(Operation::Info)(errno)),
            }
        }
    }

    /// Opens a window of CPU access to a part of a buffer that cohbuf made, for which
    /// only the cache lines of that part are maintained.
    ///
    /// [`Buffer::cpu_access`] opens one to the whole of any dma-buf. This one is of the
    /// device, as it is the device file that the kernel is asked by.
    ///
    /// ```no_run
    /// use cohbuf::{Access, CreateFlags, Device, Region};
    ///
    /// # fn main() -> cohbuf::Result<()> {
    /// let device = Device::open()?;
    /// let buffer = device.create(1600 * 1200 * 4, CreateFlags::empty())?;
    /// let mapping = buffer.map()?;
    ///
    /// // 10 by 10 pixels of 1600 by 1200.
    /// let region = Region::Rows { offset: 640_400, length: 40, stride: 6400, rows: 10 };
    /// let window = device.cpu_access_region(&buffer, Access::Write, region)?;
    /// for row in 0..10 {
    ///     mapping.write(640_400 + row * 6400, &[0xff; 40])?;
    /// }
    /// let cost = window.end()?;
    /// assert!(cost.maintained() <= 1280);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `EINVAL`: the region is empty, or does not lie in the buffer, or the stride is
    /// below the bytes of a row, or there are more than 32768 rows. `EMEDIUMTYPE`: the
    /// dma-buf is of another exporter. `EIO`: the buffer is poisoned. `EBUSY`: a window of a
    /// [`View`] hands out a slice of bytes that this might change: see
    /// [there](View#windows-beside-each-other). `ENOMEM`, `ENOSPC`: no room for one more
    /// window.
    pub fn cpu_access_region<'a>(
        &'a self,
        buffer: &'a impl AsFd,
        access: Access,
        region: Region,
    ) -> Result<RegionAccess<'a>> {
        let buffer = buffer.as_fd();
        let claims = Claims::of(buffer).map_err(during(Operation::Begin))?;
        RegionAccess::begin_of(self, buffer, &claims, access, region)
    }

    /// Copies from a dma-buf to another, or within one, of any exporters. Gives the
    /// bytes, which are all; signals do not end it.
    ///
    /// Both are bracketed and fenced by the kernel: do not open windows for it. It does not go
    /// with slices of the same bytes in this process, neither of the source, as its bracket may
    /// write there, too. Of buffers that cohbuf made, that is those of cache lines that it
    /// touches; of others all of the buffer.
    ///
    /// # Errors
    ///
    /// `EACCES`: the destination is read-only, or the source write-only. `EINVAL`: one
    /// is no dma-buf, or a region is empty or does not lie in its buffer, or
    /// [`CopyRegion::Whole`] with buffers that differ in size. `EOPNOTSUPP`: an exporter
    /// cannot map its buffer for the kernel. `EIO`: a buffer is poisoned. `EBUSY`: a window of
    /// a [`View`] hands out a slice of either side. `ENOMEM`, `ENOSPC`: no room for it.
    pub fn copy(&self, src: impl AsFd, dst: impl AsFd, region: CopyRegion) -> Result<u64> {
        self.copy_from(src, dst, region, 0, |_| ControlFlow::Continue(()))
    }

    /// As [`copy`](Self::copy), where `done` bytes have been copied before. Each time
    /// that a signal has interrupted it, `interrupted` gets the bytes that are copied by
    /// then, and says whether to go on. Gives the bytes that are copied when it stops;
    /// called with them again, it goes on from there.
    ///
    /// ```no_run
    /// use std::ops::ControlFlow;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// # fn main() -> cohbuf::Result<()> {
    /// # let device = cohbuf::Device::open()?;
    /// # let src = device.create(4096, cohbuf::CreateFlags::empty())?;
    /// # let dst = device.create(4096, cohbuf::CreateFlags::empty())?;
    /// static STOP: AtomicBool = AtomicBool::new(false); // set by a signal handler
    /// let whole = cohbuf::CopyRegion::Whole;
    /// let done = device.copy_from(&src, &dst, whole, 0, |_| {
    ///     if STOP.load(Ordering::Relaxed) {
    ///         ControlFlow::Break(())
    ///     } else {
    ///         ControlFlow::Continue(())
    ///     }
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As `copy`; and `EINVAL` where `done` is beyond the region.
    pub fn copy_from(
        &self,
        src: impl AsFd,
        dst: impl AsFd,
        region: CopyRegion,
        done: u64,
        mut interrupted: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<u64> {
        let (src, dst) = (src.as_fd(), dst.as_fd());
        let total = match region {
            // What has no size is no dma-buf, as the kernel will say.
            CopyRegion::Whole => seek(src, SeekFrom::End(0)).unwrap_or(u64::MAX),
            // Beyond all numbers: the kernel says so, too.
            _ => region.bytes().unwrap_or(u64::MAX),
        };
        let (read, written) = region.spans();
        let _claims = [self.claim_copy(src, read)?, self.claim_copy(dst, written)?];
        let mut done = done;
        loop {
            let mut copy = uapi::Copy {
                src_fd: src.as_raw_fd(),
                dst_fd: dst.as_raw_fd(),
                done,
                ..region.to_raw()
            };
            match sys::copy(self.fd.as_fd(), &mut copy) {
                Ok(()) => done = copy.done,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(during(Operation::Copy)(errno)),
            }
            if done >= total || interrupted(done).is_break() {
                return Ok(done);
            }
        }
    }

    fn claim_copy(&self, side: BorrowedFd<'_>, span: Option<Span>) -> Result<Claim> {
        Claims::of(side)
            .and_then(|claims| claims.claim_copy(span, || self.info(side).is_ok()))
            .map_err(during(Operation::Copy))
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl TryFrom<OwnedFd> for Device {
    type Error = Error;

    /// Takes a device file that is open already, as one that a broker has passed on.
    ///
    /// # Errors
    ///
    /// `ENOTTY` and the like: it is another file.
    fn try_from(fd: OwnedFd) -> Result<Self> {
        let device = Self { fd };
        let caps = device.caps();
        caps.map_err(|error| Error::new(Operation::Open, error.errno()))?;
        Ok(device)
    }
}

impl From<Device> for OwnedFd {
    fn from(device: Device) -> Self {
        device.fd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_is_no_device() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = Device::try_from(OwnedFd::from(file)).unwrap_err();
        assert_eq!(error.operation(), Operation::Open);
        let text = error.to_string();
        assert!(text.ends_with("(the file is not /dev/cohbuf)"), "{text}");
    }
}
