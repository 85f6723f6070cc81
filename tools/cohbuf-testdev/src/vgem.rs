// SPDX-License-Identifier: GPL-2.0

//! vgem, the kernel's virtual GEM driver, with its fences.

use cohbuf::share::{DrmDevice, DrmImport, Importer as _};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use crate::sys;
use crate::uapi::{VGEM_FENCE_WRITE, VgemFenceAttach};

/// vgem's device file. On import it attaches the dma-buf and does not map it.
#[derive(Debug)]
pub struct Vgem {
    device: DrmDevice,
}

impl Vgem {
    /// Finds the card whose driver is vgem; `ENODEV` where there is none.
    pub fn open() -> Result<Self, Errno> {
        let device = DrmDevice::open_driver("vgem").map_err(|error| error.errno())?;
        Ok(Self { device })
    }

    /// The device itself, as an importer to share with.
    pub fn device(&self) -> &DrmDevice {
        &self.device
    }

    /// Imports a dma-buf, which attaches it to vgem's device.
    pub fn import(&self, buffer: impl AsFd) -> Result<VgemImport<'_>, Errno> {
        Ok(VgemImport {
            import: self.device.import(buffer.as_fd())?,
            vgem: self,
        })
    }

    /// A dma-buf that vgem itself exports, of four pages.
    pub fn export(&self) -> Result<OwnedFd, Errno> {
        self.device.export(16 << 10)
    }
}

/// A dma-buf that vgem holds attached. Let go when dropped.
#[derive(Debug)]
pub struct VgemImport<'a> {
    import: DrmImport<'a>,
    vgem: &'a Vgem,
}

impl<'a> VgemImport<'a> {
    /// Adds a pending fence to the reservation object of the dma-buf, as of a
    /// device that writes the buffer, or else reads it. `EBUSY` where a fence is
    /// there that it would have to wait for.
    pub fn add_fence(&self, writes: bool) -> Result<VgemFence<'a>, Errno> {
        let mut attach = VgemFenceAttach {
            handle: self.import.handle().get(),
            flags: if writes { VGEM_FENCE_WRITE } else { 0 },
            ..VgemFenceAttach::default()
        };
        sys::vgem_fence_attach(self.vgem.device.as_fd(), &mut attach)?;
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
        sys::vgem_fence_signal(this.vgem.device.as_fd(), this.fence)
    }
}

impl Drop for VgemFence<'_> {
    fn drop(&mut self) {
        // Nobody to tell: whoever wants to know calls signal().
        let _ = sys::vgem_fence_signal(self.vgem.device.as_fd(), self.fence);
    }
}
