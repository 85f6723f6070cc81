// SPDX-License-Identifier: GPL-2.0

//! DRM devices, by PRIME.

use core::fmt;
use core::num::NonZeroU32;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use drm::Device as _;
use drm::buffer::{DrmFourcc, Handle};
use drm::control::Device as _;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::error::{Error, Operation, during};
use crate::share::importer::Importer;

/// Pixels of a row of the dumb buffers that are made here: a page.
const WIDTH: u32 = 1024;
const BITS_PER_PIXEL: u32 = 32;

/// An open DRM device.
#[derive(Debug)]
pub struct DrmDevice {
    card: Card,
    driver: String,
    /// How often each handle was imported. PRIME gives the same one for the same dma-buf
    /// again, and one GEM_CLOSE ends it for all.
    imports: Mutex<HashMap<NonZeroU32, usize>>,
}

/// What the traits of the crate `drm` are for. They stay out of the interface of this one.
#[derive(Debug)]
struct Card(OwnedFd);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

impl DrmDevice {
    /// Opens a device file, such as `/dev/dri/card0`. Of a render node, DRM exports no
    /// buffer, but imports.
    ///
    /// # Errors
    ///
    /// Those of `open`; `ENOTTY` and the like where the file is not of a DRM device.
    pub fn open(path: impl AsRef<Path>) -> crate::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = open(path.as_ref(), flags, Mode::empty()).map_err(during(Operation::Drm))?;
        Self::try_from(fd)
    }

    /// Opens the first card whose driver has this name, such as `vgem`.
    ///
    /// # Errors
    ///
    /// `ENODEV`: there is none, or none that this user may open.
    pub fn open_driver(name: &str) -> crate::Result<Self> {
        (0..64)
            .filter_map(|card| Self::open(format!("/dev/dri/card{card}")).ok())
            .find(|device| device.driver() == name)
            .ok_or(Error::new(Operation::Drm, Errno::NODEV))
    }

    /// Name of the driver.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    fn imports(&self) -> MutexGuard<'_, HashMap<NonZeroU32, usize>> {
        self.imports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TryFrom<OwnedFd> for DrmDevice {
    type Error = Error;

    /// Takes an open device file, if it is that of a DRM device.
    fn try_from(fd: OwnedFd) -> crate::Result<Self> {
        let card = Card(fd);
        // Which another file does not answer.
        let driver = card.get_driver().map_err(errno);
        let driver = driver.map_err(during(Operation::Drm))?;
        Ok(Self {
            driver: driver.name().to_string_lossy().into_owned(),
            card,
            imports: Mutex::default(),
        })
    }
}

impl AsFd for DrmDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.card.as_fd()
    }
}

impl Importer for DrmDevice {
    type Import<'a> = DrmImport<'a>;

    fn import(&self, buffer: BorrowedFd<'_>) -> Result<DrmImport<'_>, Errno> {
        // With the lock held nobody closes the handle that is given again.
        let mut imports = self.imports();
        let handle = self.card.prime_fd_to_buffer(buffer).map_err(errno)?;
        *imports.entry(handle.into()).or_default() += 1;
        Ok(DrmImport {
            device: self,
            handle,
        })
    }

    /// A dumb buffer, which the DRM device needs to be able to make.
    fn export(&self, size: u64) -> Result<OwnedFd, Errno> {
        let row = u64::from(WIDTH * BITS_PER_PIXEL / 8);
        let height = u32::try_from(size.div_ceil(row)).map_err(|_| Errno::FBIG)?;
        // Nothing is ever shown from it: the format is only what the crate asks for.
        let dumb = self
            .card
            .create_dumb_buffer((WIDTH, height), DrmFourcc::Xrgb8888, BITS_PER_PIXEL)
            .map_err(errno)?;
        let flags = OFlags::CLOEXEC | OFlags::RDWR;
        let handle = drm::buffer::Buffer::handle(&dumb);
        let exported = self.card.buffer_to_prime_fd(handle, flags.bits());
        // The dma-buf, where there is one, keeps the object.
        self.card.destroy_dumb_buffer(dumb).map_err(errno)?;
        exported.map_err(errno)
    }
}

/// A buffer that a DRM device has imported. Let go when dropped.
pub struct DrmImport<'a> {
    device: &'a DrmDevice,
    handle: Handle,
}

impl DrmImport<'_> {
    /// The GEM handle, for the ioctls of the driver. It is good while this lives.
    pub fn handle(&self) -> NonZeroU32 {
        self.handle.into()
    }
}

impl fmt::Debug for DrmImport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrmImport")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

impl Drop for DrmImport<'_> {
    fn drop(&mut self) {
        let mut imports = self.device.imports();
        let handle = self.handle();
        if let Some(count) = imports.get_mut(&handle) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        imports.remove(&handle);
        // It fails for a handle that is not there, which this one is.
        let _ = self.device.card.close_buffer(self.handle);
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
