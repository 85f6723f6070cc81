// SPDX-License-Identifier: GPL-2.0

//! All unsafe code of this crate: the ioctls.

#![allow(unsafe_code)]

use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl};

use crate::driver::uapi as driver;
use crate::uapi::{
    Attach, DMA_HEAP_IOCTL_ALLOC, DRM_IOCTL_VGEM_FENCE_ATTACH, DRM_IOCTL_VGEM_FENCE_SIGNAL, Dma,
    HeapAllocation, IOCTL_ATTACH, IOCTL_DETACH, IOCTL_DMA, IOCTL_MAP, IOCTL_MODEL, IOCTL_UNMAP,
    Map, Model, VgemFenceAttach, VgemFenceSignal,
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

pub(crate) fn driver_attach(fd: BorrowedFd<'_>, arg: &mut driver::Attach) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { update::<{ driver::IOCTL_ATTACH }, _>(fd, arg) }
}

pub(crate) fn driver_detach(fd: BorrowedFd<'_>, arg: u32) -> Result<()> {
    // SAFETY: an integer, and no address.
    unsafe { set::<{ driver::IOCTL_DETACH }, _>(fd, arg) }
}

pub(crate) fn driver_map(fd: BorrowedFd<'_>, arg: driver::Map) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { set::<{ driver::IOCTL_MAP }, _>(fd, arg) }
}

pub(crate) fn driver_unmap(fd: BorrowedFd<'_>, arg: driver::Map) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { set::<{ driver::IOCTL_UNMAP }, _>(fd, arg) }
}

pub(crate) fn driver_dma(fd: BorrowedFd<'_>, arg: &mut driver::Dma) -> Result<()> {
    // SAFETY: integers and bytes only, and no address.
    unsafe { update::<{ driver::IOCTL_DMA }, _>(fd, arg) }
}

pub(crate) fn driver_job(fd: BorrowedFd<'_>, arg: driver::Dma) -> Result<()> {
    // SAFETY: integers and bytes only, and no address.
    unsafe { set::<{ driver::IOCTL_JOB }, _>(fd, arg) }
}

pub(crate) fn driver_sync(fd: BorrowedFd<'_>, arg: driver::Sync) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { set::<{ driver::IOCTL_SYNC }, _>(fd, arg) }
}

pub(crate) fn driver_autofence(fd: BorrowedFd<'_>, arg: driver::Autofence) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { set::<{ driver::IOCTL_AUTOFENCE }, _>(fd, arg) }
}

pub(crate) fn driver_query(fd: BorrowedFd<'_>, arg: &mut driver::Query) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { update::<{ driver::IOCTL_QUERY }, _>(fd, arg) }
}

pub(crate) fn driver_model(fd: BorrowedFd<'_>, arg: driver::Model) -> Result<()> {
    // SAFETY: integers only. The kernel looks up what is mapped at the address,
    // and accesses nothing through it.
    unsafe { set::<{ driver::IOCTL_MODEL }, _>(fd, arg) }
}

pub(crate) fn driver_put_lost(fd: BorrowedFd<'_>, arg: driver::Lost) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { set::<{ driver::IOCTL_PUT_LOST }, _>(fd, arg) }
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

pub(crate) fn vgem_fence_attach(fd: BorrowedFd<'_>, attach: &mut VgemFenceAttach) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { update::<DRM_IOCTL_VGEM_FENCE_ATTACH, _>(fd, attach) }
}

pub(crate) fn vgem_fence_signal(fd: BorrowedFd<'_>, fence: u32) -> Result<()> {
    // SAFETY: integers only, and no address.
    unsafe { set::<DRM_IOCTL_VGEM_FENCE_SIGNAL, _>(fd, VgemFenceSignal { fence, flags: 0 }) }
}
