// SPDX-License-Identifier: GPL-2.0

//! `/dev/cohbuf_driver`, an importer in C that uses the in-kernel interface
//! (`tests/driver`). Nothing here allocates, so that a forked child may call it.

pub mod uapi;

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::importer::{Direction, TestDevice};
use crate::sys;

type Result<T> = core::result::Result<T, Errno>;

/// The open device file.
#[derive(Debug)]
pub struct Driver {
    fd: OwnedFd,
}

/// How a device is attached.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Which of the devices of its kind, 0 or 1.
    pub index: u32,
    /// By `dma_buf_dynamic_attach()`.
    pub dynamic: bool,
    /// What is said to `cohbuf_set_autofence()`, if anything.
    pub autofence: Option<bool>,
}

/// What `cohbuf_query_dma_buf()` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whether the buffer is coherent.
    pub coherent: bool,
    /// How the CPU sees it.
    pub caching: u32,
}

/// Which of the four functions hands a mapping over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// To the device, or else to the CPU.
    pub for_device: bool,
    /// With the reservation lock held.
    pub locked: bool,
}

impl Sync {
    /// `cohbuf_sync_for_cpu_unlocked()`.
    pub const FOR_CPU: Self = Self::new(false, false);
    /// `cohbuf_sync_for_device_unlocked()`.
    pub const FOR_DEVICE: Self = Self::new(true, false);
    /// All four.
    pub const ALL: [Self; 4] = [
        Self::FOR_CPU,
        Self::new(false, true),
        Self::FOR_DEVICE,
        Self::new(true, true),
    ];

    const fn new(for_device: bool, locked: bool) -> Self {
        Self { for_device, locked }
    }

    fn flags(self) -> u32 {
        let mut flags = 0;
        if self.for_device {
            flags |= uapi::FOR_DEVICE;
        }
        if self.locked {
            flags |= uapi::LOCKED;
        }
        flags
    }
}

impl Driver {
    /// Where the device file is.
    pub const PATH: &'static str = "/dev/cohbuf_driver";

    /// Opens the device file.
    pub fn open() -> Result<Self> {
        let fd = open(Self::PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Attaches a device. `ENODEV` where this kernel has not what it needs.
    pub fn attach(&self, buffer: impl AsFd, kind: TestDevice, how: How) -> Result<Importer<'_>> {
        let mut attach = uapi::Attach {
            fd: buffer.as_fd().as_raw_fd(),
            kind: kind as u32,
            index: how.index,
            dynamic: how.dynamic.into(),
            autofence: match how.autofence {
                None => uapi::DEFAULT,
                Some(true) => uapi::ON,
                Some(false) => uapi::OFF,
            },
            handle: 0,
        };
        sys::driver_attach(self.fd.as_fd(), &mut attach)?;
        Ok(Importer {
            driver: self,
            handle: attach.handle,
        })
    }

    /// [`None`] where it is not one of cohbuf. `EPROTO` where the answer makes no sense.
    pub fn query(&self, buffer: impl AsFd) -> Result<Option<Query>> {
        const UNTOUCHED: u32 = 1;
        let mut query = uapi::Query {
            fd: buffer.as_fd().as_raw_fd(),
            known: 7,
            coherent: UNTOUCHED,
            caching: UNTOUCHED,
        };
        sys::driver_query(self.fd.as_fd(), &mut query)?;
        match query {
            uapi::Query {
                known: 0,
                coherent: UNTOUCHED,
                caching: UNTOUCHED,
                ..
            } => Ok(None),
            uapi::Query {
                known: 1,
                coherent,
                caching,
                ..
            } => Ok(Some(Query {
                coherent: coherent != 0,
                caching,
            })),
            _ => Err(Errno::PROTO),
        }
    }

    /// Drops a reference to a dma-buf that somebody else in the kernel has lost: of a bug that is
    /// not ours. Whoever calls it has counted them. `EINVAL` where there is none.
    pub fn put_lost(&self, buffer: impl AsFd) -> Result<()> {
        let fd = buffer.as_fd().as_raw_fd();
        sys::driver_put_lost(self.fd.as_fd(), uapi::Lost { fd })
    }

    /// Has the cache model of these devices forget all pages.
    pub fn reset(&self) -> Result<()> {
        self.model(0, 0, 0)
    }

    /// Has it track pages of a dma-buf that this process has mapped.
    pub fn track(&self, addr: *const u8, len: usize) -> Result<()> {
        self.model(1, addr.addr(), len)
    }

    fn model(&self, op: u32, addr: usize, len: usize) -> Result<()> {
        let model = uapi::Model {
            op,
            addr: addr as u64,
            len: len as u64,
            ..uapi::Model::default()
        };
        sys::driver_model(self.fd.as_fd(), model)
    }
}

impl AsFd for Driver {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A device that is attached. Unmapped and detached when dropped.
#[derive(Debug)]
pub struct Importer<'a> {
    driver: &'a Driver,
    handle: u32,
}

impl Importer<'_> {
    /// Maps the buffer for the device.
    pub fn map(&self, direction: Direction) -> Result<()> {
        let map = uapi::Map {
            handle: self.handle,
            direction: direction as u32,
            careless: 0,
        };
        sys::driver_map(self.driver.as_fd(), map)
    }

    /// Once the device is idle.
    pub fn unmap(&self) -> Result<()> {
        self.unmap_as(0)
    }

    /// Without a thought about the device: the exporter will wait. For devices with ops of
    /// their own only.
    pub fn unmap_carelessly(&self) -> Result<()> {
        self.unmap_as(uapi::CARELESS)
    }

    fn unmap_as(&self, careless: u32) -> Result<()> {
        let map = uapi::Map {
            handle: self.handle,
            direction: 0,
            careless,
        };
        sys::driver_unmap(self.driver.as_fd(), map)
    }

    fn sync_table(&self, table_of: u32, sync: Sync) -> Result<()> {
        let sync = uapi::Sync {
            handle: self.handle,
            flags: sync.flags(),
            table_of,
        };
        sys::driver_sync(self.driver.as_fd(), sync)
    }

    /// Hands the mapping over.
    pub fn sync(&self, sync: Sync) -> Result<()> {
        self.sync_table(0, sync)
    }

    /// With the sg table of another.
    pub fn sync_table_of(&self, other: &Importer<'_>, sync: Sync) -> Result<()> {
        self.sync_table(other.handle, sync)
    }

    /// `cohbuf_set_autofence()`.
    pub fn set_autofence(&self, autofence: bool) -> Result<()> {
        let arg = uapi::Autofence {
            handle: self.handle,
            autofence: autofence.into(),
        };
        sys::driver_autofence(self.driver.as_fd(), arg)
    }

    fn dma(&self, write: bool, offset: usize, bytes: &[u8]) -> uapi::Dma {
        let mut dma = uapi::Dma {
            handle: self.handle,
            write: write.into(),
            offset: offset as u64,
            len: bytes.len() as u32,
            delay_ms: 0,
            bytes: [0; uapi::BYTES],
        };
        dma.bytes[..bytes.len()].copy_from_slice(bytes);
        dma
    }

    /// At most [`uapi::BYTES`] at a time.
    pub fn writes<const N: usize>(&self, offset: usize, bytes: &[u8; N]) -> Result<()> {
        let mut dma = self.dma(true, offset, bytes);
        sys::driver_dma(self.driver.as_fd(), &mut dma)
    }

    /// What the device sees. Likewise.
    pub fn reads<const N: usize>(&self, offset: usize) -> Result<[u8; N]> {
        let mut seen = [0; N];
        let mut dma = self.dma(false, offset, &seen);
        sys::driver_dma(self.driver.as_fd(), &mut dma)?;
        seen.copy_from_slice(&dma.bytes[..N]);
        Ok(seen)
    }

    /// Adds the fence of a writer, and writes and signals so many milliseconds later.
    pub fn writes_later<const N: usize>(
        &self,
        millis: u32,
        offset: usize,
        bytes: &[u8; N],
    ) -> Result<()> {
        let dma = uapi::Dma {
            delay_ms: millis,
            ..self.dma(true, offset, bytes)
        };
        sys::driver_job(self.driver.as_fd(), dma)
    }

    /// Adds the fence of a reader, and signals so many milliseconds later.
    pub fn reads_later(&self, millis: u32) -> Result<()> {
        let dma = uapi::Dma {
            delay_ms: millis,
            ..self.dma(false, 0, &[0])
        };
        sys::driver_job(self.driver.as_fd(), dma)
    }
}

impl Drop for Importer<'_> {
    fn drop(&mut self) {
        // Nobody to tell. The jobs of the device end first.
        let _ = sys::driver_detach(self.driver.as_fd(), self.handle);
    }
}
