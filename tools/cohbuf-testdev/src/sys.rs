// SPDX-License-Identifier: GPL-2.0

//! All unsafe code of this crate: the ioctls.

#![allow(unsafe_code)]

use core::ffi::c_void;

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, Updater, ioctl};

use crate::uapi::{
    Attach, DMA_HEAP_IOCTL_ALLOC, DRM_IOCTL_GEM_CLOSE, DRM_IOCTL_MODE_CREATE_DUMB,
    DRM_IOCTL_PRIME_FD_TO_HANDLE, DRM_IOCTL_PRIME_HANDLE_TO_FD, DRM_IOCTL_VERSION,
    DRM_IOCTL_VGEM_FENCE_ATTACH, DRM_IOCTL_VGEM_FENCE_SIGNAL, Dma, DrmCreateDumb, DrmGemClose,
    DrmPrimeHandle, DrmVersion, HeapAllocation, IOCTL_ATTACH, IOCTL_DETACH, IOCTL_DMA, IOCTL_MAP,
    IOCTL_MODEL, IOCTL_UNMAP, Map, Model, UDMABUF_CREATE, UdmabufCreate, VgemFenceAttach,
    VgemFenceSignal,
};

type Result<T> = core::result::Result<T, Errno>;

/// Lets the kernel read and write a structure.
///
/// # Safety
///
/// `OPCODE` must be that of an ioctl that reads and writes a `T`, for which
/// every bit pattern is valid, and what addresses the structure holds must be
/// good for what the ioctl does with them.
unsafe fn update<const OPCODE: Opcode, T>(fd: BorrowedFd<'_>, value: &mut T) -> Result<()> {
    // SAFETY: by this function's own contract.
    let request = unsafe { Updater::<OPCODE, T>::new(value) };
    // SAFETY: by this function's own contract.
    unsafe { ioctl(fd, request) }
}

/// Lets the kernel read a structure.
///
/// # Safety
///
/// As `update`, but the ioctl only reads the `T`.
unsafe fn set<const OPCODE: Opcode, T>(fd: BorrowedFd<'_>, value: T) -> Result<()> {
    // SAFETY: by this function's own contract.
    let request = unsafe { Setter::<OPCODE, T>::new(value) };
    // SAFETY: by this function's own contract.
    unsafe { ioctl(fd, request) }
}

pub(crate) fn attach(fd: BorrowedFd<'_>, attach: &mut Attach) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { update::<IOCTL_ATTACH, _>(fd, attach) }
}

pub(crate) fn detach(fd: BorrowedFd<'_>, handle: u32) -> Result<()> {
    // SAFETY: an integer, and no address.
    unsafe { set::<IOCTL_DETACH, _>(fd, handle) }
}

pub(crate) fn map(fd: BorrowedFd<'_>, map: &mut Map) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { update::<IOCTL_MAP, _>(fd, map) }
}

pub(crate) fn unmap(fd: BorrowedFd<'_>, handle: u32) -> Result<()> {
    let map = Map {
        handle,
        ..Map::default()
    };
    // SAFETY: integers only, and no address.
    unsafe { set::<IOCTL_UNMAP, _>(fd, map) }
}

/// The device reads the buffer: what it sees is put into `seen`.
pub(crate) fn device_reads(
    fd: BorrowedFd<'_>,
    handle: u32,
    offset: u64,
    seen: &mut [u8],
) -> Result<()> {
    let dma = Dma {
        handle,
        write: 0,
        offset,
        len: seen.len() as u64,
        data: seen.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: the kernel writes `seen.len()` bytes to `seen`, which is borrowed
    // for us alone.
    unsafe { set::<IOCTL_DMA, _>(fd, dma) }
}

/// The device writes `bytes` into the buffer.
pub(crate) fn device_writes(
    fd: BorrowedFd<'_>,
    handle: u32,
    offset: u64,
    bytes: &[u8],
) -> Result<()> {
    let dma = Dma {
        handle,
        write: 1,
        offset,
        len: bytes.len() as u64,
        data: bytes.as_ptr().expose_provenance() as u64,
    };
    // SAFETY: the kernel only reads `bytes`.
    unsafe { set::<IOCTL_DMA, _>(fd, dma) }
}

pub(crate) fn model(fd: BorrowedFd<'_>, model: &mut Model) -> Result<()> {
    // SAFETY: integers only. The kernel looks up what is mapped at the address,
    // and accesses nothing through it.
    unsafe { update::<IOCTL_MODEL, _>(fd, model) }
}

/// Name of the driver of a DRM device.
pub(crate) fn drm_driver(fd: BorrowedFd<'_>) -> Result<String> {
    let mut name = [0_u8; 64];
    let mut version = DrmVersion {
        name_len: name.len() as u64,
        name: name.as_mut_ptr().expose_provenance() as u64,
        ..DrmVersion::default()
    };
    // SAFETY: the kernel writes at most `name_len` bytes to `name`, and nothing
    // to the other two, whose length is 0.
    unsafe { update::<DRM_IOCTL_VERSION, _>(fd, &mut version) }?;
    let len = name.len().min(version.name_len as usize);
    Ok(String::from_utf8_lossy(&name[..len]).into_owned())
}

pub(crate) fn prime_import(fd: BorrowedFd<'_>, prime: &mut DrmPrimeHandle) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { update::<DRM_IOCTL_PRIME_FD_TO_HANDLE, _>(fd, prime) }
}

pub(crate) fn prime_export(fd: BorrowedFd<'_>, prime: &mut DrmPrimeHandle) -> Result<OwnedFd> {
    // SAFETY: integers only, and no address.
    unsafe { update::<DRM_IOCTL_PRIME_HANDLE_TO_FD, _>(fd, prime) }?;
    // SAFETY: the ioctl succeeded, so the kernel has just installed this file
    // descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(prime.fd) })
}

pub(crate) fn create_dumb(fd: BorrowedFd<'_>, dumb: &mut DrmCreateDumb) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { update::<DRM_IOCTL_MODE_CREATE_DUMB, _>(fd, dumb) }
}

pub(crate) fn gem_close(fd: BorrowedFd<'_>, handle: u32) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { set::<DRM_IOCTL_GEM_CLOSE, _>(fd, DrmGemClose { handle, pad: 0 }) }
}

pub(crate) fn heap_allocate(
    fd: BorrowedFd<'_>,
    allocation: &mut HeapAllocation,
) -> Result<OwnedFd> {
    // SAFETY: integers only, and no address.
    unsafe { update::<DMA_HEAP_IOCTL_ALLOC, _>(fd, allocation) }?;
    // SAFETY: the ioctl succeeded, so the kernel has just installed this file
    // descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(allocation.fd as RawFd) })
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

pub(crate) fn vgem_fence_attach(fd: BorrowedFd<'_>, attach: &mut VgemFenceAttach) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { update::<DRM_IOCTL_VGEM_FENCE_ATTACH, _>(fd, attach) }
}

pub(crate) fn vgem_fence_signal(fd: BorrowedFd<'_>, fence: u32) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { set::<DRM_IOCTL_VGEM_FENCE_SIGNAL, _>(fd, VgemFenceSignal { fence, flags: 0 }) }
}
