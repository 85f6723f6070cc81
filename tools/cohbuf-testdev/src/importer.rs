// SPDX-License-Identifier: GPL-2.0

//! The test importer, `/dev/cohbuf_importer`.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::model::Model;
use crate::sys;
use crate::uapi::{Attach, Map};

/// A kind of device that can be an importer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TestDevice {
    /// QEMU's edu PCI device, which does real DMA.
    Edu = 0,
    /// A platform device that is DMA-coherent.
    Coherent = 1,
    /// A platform device that is not, where the architecture has such.
    NonCoherent = 2,
    /// A model with `dma_map_ops` of its own, which copies as swiotlb does.
    BounceModel = 3,
    /// A model with `dma_map_ops` of its own, on the cache model.
    CacheModel = 4,
    /// The same, with one DMA segment in each mapping.
    CacheModelMerged = 5,
    /// A model that is mapped directly and never bounced, not DMA-coherent
    /// where the architecture has such: on the cache model then.
    DirectModel = 6,
    /// A model that is mapped directly and never bounced, DMA-coherent.
    SnoopModel = 7,
    /// A model that is mapped directly, DMA-coherent, and bounced in a boot
    /// with `swiotlb=force`.
    BouncedModel = 8,
    /// An edu that the kernel takes as not DMA-coherent, where the architecture
    /// has such devices.
    EduNonCoherent = 9,
}

/// Direction of a mapping, with the numbers of `enum dma_data_direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// Both.
    Bidirectional = 0,
    /// The device reads.
    ToDevice = 1,
    /// The device writes.
    FromDevice = 2,
}

/// An attach that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the ioctl returned.
    pub errno: Errno,
    /// Whether the device is DMA-coherent. Means nothing where there is no
    /// such device (`ENODEV`).
    pub coherent: bool,
}

/// What a mapping is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// DMA segments.
    pub segments: u32,
    /// Whether a segment is bounced.
    pub bounced: bool,
}

/// The open device file.
#[derive(Debug)]
pub struct Importer {
    fd: OwnedFd,
}

impl Importer {
    /// Where the device file is.
    pub const PATH: &'static str = "/dev/cohbuf_importer";

    /// Opens the device file.
    pub fn open() -> Result<Self, Errno> {
        let fd = open(Self::PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd })
    }

    /// The cache model, and what all models count.
    pub fn model(&self) -> Model<'_> {
        Model::new(self.fd.as_fd())
    }

    /// Attaches a dma-buf to the `index`th device of a kind.
    pub fn attach(
        &self,
        buffer: impl AsFd,
        device: TestDevice,
        index: u32,
    ) -> Result<Attachment<'_>, Refused> {
        let mut attach = Attach {
            fd: buffer.as_fd().as_raw_fd(),
            device: device as u32,
            index,
            ..Attach::default()
        };
        let result = sys::attach(self.fd.as_fd(), &mut attach);
        let coherent = attach.coherent != 0;
        result.map_err(|errno| Refused { errno, coherent })?;
        Ok(Attachment {
            importer: self,
            handle: attach.handle,
            coherent,
        })
    }
}

impl AsFd for Importer {
    fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A dma-buf that is attached to a device. Unmapped and detached when dropped.
#[derive(Debug)]
pub struct Attachment<'a> {
    importer: &'a Importer,
    handle: u32,
    coherent: bool,
}

impl Attachment<'_> {
    /// Whether the device is DMA-coherent.
    pub fn is_coherent(&self) -> bool {
        self.coherent
    }

    /// What names the attachment in the raw ioctls.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Maps the buffer for the device.
    pub fn map(&self, direction: Direction) -> Result<MapInfo, Errno> {
        let mut map = Map {
            handle: self.handle,
            direction: direction as u32,
            ..Map::default()
        };
        sys::map(self.importer.as_fd(), &mut map)?;
        Ok(MapInfo {
            segments: map.segments,
            bounced: map.bounced != 0,
        })
    }

    /// Takes the mapping away.
    pub fn unmap(&self) -> Result<(), Errno> {
        sys::unmap(self.importer.as_fd(), self.handle)
    }

    /// The device reads the mapped buffer; what it sees is put into `seen`.
    pub fn device_reads(&self, offset: u64, seen: &mut [u8]) -> Result<(), Errno> {
        sys::device_reads(self.importer.as_fd(), self.handle, offset, seen)
    }

    /// The device writes `bytes` into the mapped buffer.
    pub fn device_writes(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        sys::device_writes(self.importer.as_fd(), self.handle, offset, bytes)
    }

    /// Detaches, and says whether that worked.
    pub fn detach(self) -> Result<(), Errno> {
        let this = core::mem::ManuallyDrop::new(self);
        sys::detach(this.importer.as_fd(), this.handle)
    }
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        // Nobody to tell: whoever wants to know calls detach().
        let _ = sys::detach(self.importer.as_fd(), self.handle);
    }
}
