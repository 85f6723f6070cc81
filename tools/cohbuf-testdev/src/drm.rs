// SPDX-License-Identifier: GPL-2.0

//! vgem, the kernel's virtual GEM driver, through DRM PRIME.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::sys;
use crate::uapi::{DrmCreateDumb, DrmPrimeHandle, VGEM_FENCE_WRITE, VgemFenceAttach};

/// vgem's device file. On import it attaches the dma-buf and does not map it.
#[derive(Debug)]
pub struct Vgem {
    fd: OwnedFd,
}

impl Vgem {
    /// Finds the card whose driver is vgem; `ENODEV` where there is none.
    pub fn open() -> Result<Self, Errno> {
        for card in 0..64 {
            let path = format!("/dev/dri/card{card}");
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            let Ok(fd) = open(path, flags, Mode::empty()) else {
                continue;
            };
            if sys::drm_driver(fd.as_fd()).is_ok_and(|name| name == "vgem") {
                return Ok(Self { fd });
            }
        }
        Err(Errno::NODEV)
    }

    /// Imports a dma-buf, which attaches it to vgem's device.
    pub fn import(&self, buffer: impl AsFd) -> Result<VgemImport<'_>, Errno> {
        let mut prime = DrmPrimeHandle {
            fd: buffer.as_fd().as_raw_fd(),
            ..DrmPrimeHandle::default()
        };
        sys::prime_import(self.fd.as_fd(), &mut prime)?;
        Ok(VgemImport {
            vgem: self,
            handle: prime.handle,
        })
    }

    /// A dma-buf that vgem itself exports.
    pub fn export(&self) -> Result<OwnedFd, Errno> {
        let mut dumb = DrmCreateDumb {
            height: 64,
            width: 64,
            bpp: 32,
            ..DrmCreateDumb::default()
        };
        sys::create_dumb(self.fd.as_fd(), &mut dumb)?;
        let mut prime = DrmPrimeHandle {
            handle: dumb.handle,
            flags: OFlags::CLOEXEC.bits() | OFlags::RDWR.bits(),
            ..DrmPrimeHandle::default()
        };
        let exported = sys::prime_export(self.fd.as_fd(), &mut prime);
        // The dma-buf, where there is one, keeps the object.
        sys::gem_close(self.fd.as_fd(), dumb.handle)?;
        exported
    }
}

/// A dma-buf that vgem holds attached. Let go when dropped.
#[derive(Debug)]
pub struct VgemImport<'a> {
    vgem: &'a Vgem,
    handle: u32,
}

impl<'a> VgemImport<'a> {
    /// Adds a pending fence to the reservation object of the dma-buf, as of a
    /// device that writes the buffer, or else reads it. `EBUSY` where a fence is
    /// there that it would have to wait for.
    pub fn add_fence(&self, writes: bool) -> Result<VgemFence<'a>, Errno> {
        let mut attach = VgemFenceAttach {
            handle: self.handle,
            flags: if writes { VGEM_FENCE_WRITE } else { 0 },
            ..VgemFenceAttach::default()
        };
        sys::vgem_fence_attach(self.vgem.fd.as_fd(), &mut attach)?;
        Ok(VgemFence {
            vgem: self.vgem,
            fence: attach.out_fence,
        })
    }
}

/// A pending fence. It signals when it is dropped, or by itself after 10 s.
#[derive(Debug)]
pub struct VgemFence<'a> {
    vgem: &'a Vgem,
    fence: u32,
}

impl VgemFence<'_> {
    /// Signals it. `ETIMEDOUT` where it has signalled by itself.
    pub fn signal(self) -> Result<(), Errno> {
        let this = core::mem::ManuallyDrop::new(self);
        sys::vgem_fence_signal(this.vgem.fd.as_fd(), this.fence)
    }
}

impl Drop for VgemFence<'_> {
    fn drop(&mut self) {
        // Nobody to tell: whoever wants to know calls signal().
        let _ = sys::vgem_fence_signal(self.vgem.fd.as_fd(), self.fence);
    }
}

impl Drop for VgemImport<'_> {
    fn drop(&mut self) {
        // It fails for a handle that is not there, which this one is.
        let _ = sys::gem_close(self.vgem.fd.as_fd(), self.handle);
    }
}
