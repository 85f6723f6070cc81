// SPDX-License-Identifier: GPL-2.0

//! All unsafe code of this crate: the ioctls, and mapped memory.

#![allow(unsafe_code)]

mod bytes;
pub(crate) mod claims;
pub(crate) mod slices;

use core::ffi::{CStr, c_void};
use core::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, Updater, ioctl};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use claims::{Claim, Claims, Span, Use};

use crate::uapi::{
    Caps, Copy, Create, DMA_BUF_IOCTL_SYNC, DMA_BUF_SET_NAME, DmaBufSync, IOCTL_CAPS, IOCTL_COPY,
    IOCTL_CREATE, IOCTL_INFO, IOCTL_SYNC, RawAttachment, RawInfo, RegionSync, UDMABUF_CREATE,
    UdmabufCreate,
};

type Result<T> = core::result::Result<T, Errno>;

pub(crate) fn caps(fd: BorrowedFd<'_>, caps: &mut Caps) -> Result<()> {
    // SAFETY: the opcode has the size and the direction of `Caps`, which is
    // plain integers: whatever the kernel writes is valid.
    let request = unsafe { Updater::<IOCTL_CAPS, Caps>::new(caps) };
    // SAFETY: the kernel touches no memory but the structure.
    unsafe { ioctl(fd, request) }
}

pub(crate) fn create(fd: BorrowedFd<'_>, create: &mut Create) -> Result<OwnedFd> {
    // SAFETY: as in `caps`.
    let request = unsafe { Updater::<IOCTL_CREATE, Create>::new(create) };
    // SAFETY: as in `caps`.
    unsafe { ioctl(fd, request) }?;
    // SAFETY: the ioctl succeeded, so the kernel has just installed this file
    // descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(create.fd) })
}

/// Asks what is known of a buffer, and lists as many attachments as there is room for.
pub(crate) fn info(
    fd: BorrowedFd<'_>,
    info: &mut RawInfo,
    attachments: &mut [RawAttachment],
) -> Result<()> {
    if attachments.is_empty() {
        info.attachment_size = 0;
        info.attachment_room = 0;
        info.attachment_array = 0;
    } else {
        info.attachment_size = size_of::<RawAttachment>() as u32;
        info.attachment_room = u32::try_from(attachments.len()).unwrap_or(u32::MAX);
        info.attachment_array = attachments.as_mut_ptr().expose_provenance() as u64;
    }
    // SAFETY: as in `caps`.
    let request = unsafe { Updater::<IOCTL_INFO, RawInfo>::new(info) };
    // SAFETY: besides the structure the kernel writes at most `attachment_room`
    // elements of `attachment_size` bytes to the array, which has as many and is
    // borrowed for us alone; they are plain integers.
    unsafe { ioctl(fd, request) }
}

/// A START is claimed before, as a [`Use::Start`] of what it may move.
pub(crate) fn sync_region(fd: BorrowedFd<'_>, sync: &mut RegionSync) -> Result<()> {
    // SAFETY: as in `caps`.
    let request = unsafe { Updater::<IOCTL_SYNC, RegionSync>::new(sync) };
    // SAFETY: the kernel touches the structure. A START may also write to the memory of the
    // dma-buf, to which no reference is made meanwhile, by the claim, but of bytes that a window
    // to write owns, which it leaves alone. An END writes to none.
    unsafe { ioctl(fd, request) }
}

/// Both sides are claimed before, as [`Use::Copy`].
pub(crate) fn copy(fd: BorrowedFd<'_>, copy: &mut Copy) -> Result<()> {
    // SAFETY: as in `caps`.
    let request = unsafe { Updater::<IOCTL_COPY, Copy>::new(copy) };
    // SAFETY: the kernel touches the structure, and the memory of two dma-bufs: what it writes
    // there, in its brackets and between them, is where no reference is made meanwhile, by the
    // claims.
    unsafe { ioctl(fd, request) }
}

/// A START is claimed before, as a [`Use::Start`] of the buffer.
pub(crate) fn sync(fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    // SAFETY: the opcode has the size and the direction of `DmaBufSync`.
    let request = unsafe { Setter::<DMA_BUF_IOCTL_SYNC, DmaBufSync>::new(DmaBufSync { flags }) };
    // SAFETY: the kernel only reads the structure. A START may write to the memory of the
    // dma-buf, to which no reference is made meanwhile, by the claim. An END writes to none.
    unsafe { ioctl(fd, request) }
}

/// `UDMABUF_CREATE`, which returns the file descriptor.
struct Udmabuf(UdmabufCreate);

// SAFETY: the opcode is that of an ioctl that reads a `UdmabufCreate`, which is
// integers only, and that returns a file descriptor.
unsafe impl Ioctl for Udmabuf {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        UDMABUF_CREATE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<OwnedFd> {
        // SAFETY: the ioctl succeeded, so the kernel has just installed this
        // file descriptor for us; nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(out) })
    }
}

pub(crate) fn udmabuf_create(
    fd: BorrowedFd<'_>,
    memory: BorrowedFd<'_>,
    create: UdmabufCreate,
) -> Result<OwnedFd> {
    let request = Udmabuf(UdmabufCreate {
        memfd: memory.as_raw_fd() as u32,
        ..create
    });
    // SAFETY: by the implementation of `Ioctl` above.
    unsafe { ioctl(fd, request) }
}

/// `DMA_BUF_SET_NAME`, whose argument is the address of a string.
struct SetName<'a>(&'a CStr);

// SAFETY: the opcode is that of an ioctl that reads a string which ends with a NUL.
unsafe impl Ioctl for SetName<'_> {
    type Output = ();

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        DMA_BUF_SET_NAME
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn set_name(fd: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: by the implementation of `Ioctl` above.
    unsafe { ioctl(fd, SetName(name)) }
}

/// A shared mapping of a file.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the memory belongs to the process, not to a thread.
unsafe impl Send for Pages {}
// SAFETY: all that reads or writes the memory by it has claimed the bytes: references are
// made by `slices` alone, copies by `read` and `write`. Those that would race are not there
// at the same time. Devices and other processes are not in the list of claims: see `slices`,
// and `bytes`.
unsafe impl Sync for Pages {}

impl Pages {
    pub(crate) fn map(fd: BorrowedFd<'_>, offset: u64, len: usize, writable: bool) -> Result<Self> {
        let protection = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        // SAFETY: without MAP_FIXED the kernel picks a range that is free.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                fd,
                offset,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self {
            start,
            len,
            writable,
        })
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// `ERANGE` where the bytes are not all inside of the mapping, of which the buffer has the
    /// first at `mapped_from`. `EBUSY`: see [`Claims::claim`].
    pub(crate) fn read(
        &self,
        mapped_from: u64,
        claims: &Arc<Claims>,
        offset: usize,
        bytes: &mut [u8],
    ) -> Result<()> {
        let from = self.at(offset, bytes.len())?;
        let _claim = claim(mapped_from, claims, offset, bytes.len(), Use::CopyOut)?;
        // SAFETY: the bytes are mapped, by the check in `at`. By the claim nobody in this
        // process has a `&mut` to them, as `bytes` is one, nor copies to them.
        unsafe { bytes::load(from, bytes) };
        Ok(())
    }

    /// The same; and `EACCES` where the mapping is read-only.
    pub(crate) fn write(
        &self,
        mapped_from: u64,
        claims: &Arc<Claims>,
        offset: usize,
        bytes: &[u8],
    ) -> Result<()> {
        let to = self.at(offset, bytes.len())?;
        if !self.writable {
            return Err(Errno::ACCESS);
        }
        let _claim = claim(mapped_from, claims, offset, bytes.len(), Use::CopyIn)?;
        // SAFETY: the bytes are mapped, by the check in `at`, and writable. By the claim nobody
        // in this process has a reference to them, as `bytes` is one, nor copies from or to
        // them.
        unsafe { bytes::store(to, bytes) };
        Ok(())
    }

    fn at(&self, offset: usize, len: usize) -> Result<*mut u8> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.start.as_ptr().wrapping_add(offset)),
            _ => Err(Errno::RANGE),
        }
    }
}

/// Nothing, where there are no bytes.
fn claim(
    mapped_from: u64,
    claims: &Arc<Claims>,
    offset: usize,
    len: usize,
    what: Use,
) -> Result<Option<Claim>> {
    let span = Span::linear(mapped_from.saturating_add(offset as u64), len as u64);
    if len == 0 {
        return Ok(None);
    }
    claims.claim(span, what).map(Some)
}

impl Drop for Pages {
    fn drop(&mut self) {
        // It may fail where a process has as many mappings as it may: the range is lost then.
        // SAFETY: the range is ours alone, and nobody holds a reference into it.
        let _ = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.len) };
    }
}
