// SPDX-License-Identifier: GPL-2.0

//! A buffer on the models: what the CPU and devices see of it, and what its maintenance costs.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use cohbuf::{Access, Buffer, CreateFlags, Device, Info, Mapping, Region, SyncCost, uapi};
use cohbuf_testdev::{Attachment, Direction, Importer, TestDevice};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, ModelReset, has_noncoherent};
use crate::harness::{Outcome, Stop};
use crate::raw;

/// Of each kind that is maintained in a way of its own.
pub(crate) const MODELS: [TestDevice; 6] = [
    TestDevice::CacheModel,
    TestDevice::CacheModelMerged,
    TestDevice::BounceModel,
    TestDevice::DirectModel,
    TestDevice::SnoopModel,
    TestDevice::BouncedModel,
];

/// Of the models, and of the CPUs that are emulated.
pub(crate) const LINE: usize = 64;

/// How cohbuf counts the maintenance of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// It needs none.
    None,
    /// Of the CPU caches.
    Caches,
    /// Of a bounce buffer.
    Copy,
    /// By DMA ops of its own.
    OwnOps,
}

pub(crate) fn upkeep(guest: &Guest, model: TestDevice) -> Upkeep {
    match model {
        TestDevice::CacheModel | TestDevice::CacheModelMerged | TestDevice::BounceModel => {
            Upkeep::OwnOps
        }
        TestDevice::DirectModel if has_noncoherent() => Upkeep::Caches,
        TestDevice::BouncedModel if guest.swiotlb => Upkeep::Copy,
        _ => Upkeep::None,
    }
}

/// What so many bytes for the CPU and for the device of one mapping of a buffer of `size` cost.
pub(crate) fn cost(
    guest: &Guest,
    model: TestDevice,
    size: usize,
    for_cpu: usize,
    for_device: usize,
) -> SyncCost {
    let (cpu, device) = (for_cpu as u64, for_device as u64);
    let saved = size as u64 - cpu - device;
    match upkeep(guest, model) {
        Upkeep::None => SyncCost::default(),
        Upkeep::Caches => SyncCost {
            invalidated: cpu,
            cleaned: device,
            saved,
            ..SyncCost::default()
        },
        Upkeep::Copy => SyncCost {
            from_copies: cpu,
            to_copies: device,
            saved,
            ..SyncCost::default()
        },
        Upkeep::OwnOps => SyncCost {
            own_ops: cpu + device,
            saved,
            ..SyncCost::default()
        },
    }
}

/// The bytes that INFO has, as a cost.
pub(crate) fn spent(info: &Info) -> SyncCost {
    SyncCost {
        cleaned: info.bytes_cleaned,
        invalidated: info.bytes_invalidated,
        to_copies: info.bytes_to_copies,
        from_copies: info.bytes_from_copies,
        own_ops: info.bytes_own_ops,
        saved: info.bytes_saved,
    }
}

fn minus(after: SyncCost, before: SyncCost) -> SyncCost {
    SyncCost {
        cleaned: after.cleaned - before.cleaned,
        invalidated: after.invalidated - before.invalidated,
        to_copies: after.to_copies - before.to_copies,
        from_copies: after.from_copies - before.from_copies,
        own_ops: after.own_ops - before.own_ops,
        saved: after.saved - before.saved,
    }
}

/// The rows of a region, of a buffer of `size` bytes.
pub(crate) fn rows(region: Region, size: usize) -> Vec<Range<usize>> {
    let (offset, length, stride, rows) = match region {
        Region::Linear { offset, length } => (offset, length, 0, 1),
        Region::Rows {
            offset,
            length,
            stride,
            rows,
        } => (offset, length, stride, rows),
        _ => (0, size as u64, 0, 1),
    };
    (0..rows)
        .map(|row| {
            let start = (offset + row * stride) as usize;
            start..start + length as usize
        })
        .collect()
}

/// Whether a region has a byte in the line, for each line of the buffer.
pub(crate) fn lines(region: Region, size: usize) -> Vec<bool> {
    let mut lines = vec![false; size / LINE];
    for row in rows(region, size) {
        lines[row.start / LINE..row.end.div_ceil(LINE)].fill(true);
    }
    lines
}

/// The bytes of these lines.
pub(crate) fn bytes_of(lines: &[bool]) -> usize {
    lines.iter().filter(|line| **line).count() * LINE
}

/// `inside` in these lines, `outside` elsewhere.
pub(crate) fn mixed(lines: &[bool], inside: &[u8], outside: &[u8]) -> Vec<u8> {
    let mut bytes = outside.to_vec();
    for (number, _) in lines.iter().enumerate().filter(|(_, line)| **line) {
        let line = number * LINE..(number + 1) * LINE;
        bytes[line.clone()].copy_from_slice(&inside[line]);
    }
    bytes
}

/// Where two differ first.
pub(crate) fn difference(is: &[u8], must: &[u8]) -> Option<usize> {
    (0..must.len().max(is.len())).find(|&at| is.get(at) != must.get(at))
}

/// No byte is 0 or 0xa5, which is what is there before; those of another seed differ everywhere.
pub(crate) fn pattern(size: usize, seed: usize) -> Vec<u8> {
    (0..size)
        .map(|n| 1 + ((n * 7 + n / 251 + seed * 31) % 150) as u8)
        .collect()
}

/// The structure as the kernel reads it.
pub(crate) fn sync_bytes(sync: &uapi::RegionSync) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(sync.fd.to_ne_bytes());
    bytes.extend(sync.layout.to_ne_bytes());
    for field in [
        sync.flags,
        sync.offset,
        sync.length,
        sync.stride,
        sync.rows,
        sync.cleaned,
        sync.invalidated,
        sync.to_copies,
        sync.from_copies,
        sync.own_ops,
        sync.saved,
    ] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes
}

/// `COHBUF_IOCTL_SYNC` as it is, with bytes for a structure.
pub(crate) fn sync_raw(cohbuf: &Device, sync: &uapi::RegionSync) -> Result<SyncCost, Errno> {
    let mut bytes = sync_bytes(sync);
    let before = bytes.clone();
    if let Err(errno) = raw::ioctl(cohbuf, uapi::IOCTL_SYNC, &mut bytes) {
        assert_eq!(bytes, before, "a SYNC that fails writes nothing");
        return Err(errno);
    }
    assert_eq!(bytes[..48], before[..48], "SYNC writes what is only read");
    let field = |n: usize| {
        let at = 48 + 8 * n;
        u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    Ok(SyncCost {
        cleaned: field(0),
        invalidated: field(1),
        to_copies: field(2),
        from_copies: field(3),
        own_ops: field(4),
        saved: field(5),
    })
}

/// The structure that names a region.
pub(crate) fn request(buffer: &Buffer, flags: u64, region: Region) -> uapi::RegionSync {
    let mut sync = uapi::RegionSync {
        fd: buffer.as_fd().as_raw_fd(),
        flags,
        ..uapi::RegionSync::default()
    };
    match region {
        Region::Linear { offset, length } => {
            (sync.layout, sync.offset, sync.length) = (uapi::LAYOUT_1D, offset, length);
        }
        Region::Rows {
            offset,
            length,
            stride,
            rows,
        } => {
            (sync.layout, sync.offset, sync.length) = (uapi::LAYOUT_2D, offset, length);
            (sync.stride, sync.rows) = (stride, rows);
        }
        _ => sync.layout = uapi::LAYOUT_WHOLE,
    }
    sync
}

pub(crate) const START_WRITE: u64 = uapi::SYNC_START | uapi::SYNC_WRITE;
pub(crate) const END_WRITE: u64 = uapi::SYNC_END | uapi::SYNC_WRITE;

/// A buffer that the CPU has mapped and the cache model tracks, with devices.
pub(crate) struct Scene<'a> {
    importer: &'a Importer,
    // Dropped in this order: unmapped, forgotten by the model, freed.
    pub(crate) devices: Vec<Attachment<'a>>,
    pub(crate) mapping: Mapping,
    _reset: ModelReset<'a>,
    pub(crate) buffer: Buffer,
    pub(crate) cohbuf: Device,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(
        guest: &Guest,
        importer: &'a Importer,
        size: usize,
        flags: CreateFlags,
    ) -> Result<Self, Stop> {
        importer.model().reset()?;
        let cohbuf = guest.device()?;
        let buffer = guest.buffer(size, flags)?;
        let mapping = buffer.map()?;
        // The pages have to be there to be found.
        let _ = mapping.to_vec()?;
        importer.model().track(mapping.as_ptr(), mapping.len())?;
        Ok(Self {
            importer,
            devices: Vec::new(),
            mapping,
            _reset: ModelReset(importer),
            buffer,
            cohbuf,
        })
    }

    /// With a device of that model, which may read and write.
    pub(crate) fn with(
        guest: &Guest,
        importer: &'a Importer,
        size: usize,
        flags: CreateFlags,
        model: TestDevice,
    ) -> Result<Self, Stop> {
        let mut scene = Self::new(guest, importer, size, flags)?;
        scene.attach(model, 0, Direction::Bidirectional)?;
        Ok(scene)
    }

    pub(crate) fn attach(
        &mut self,
        model: TestDevice,
        index: u32,
        direction: Direction,
    ) -> Result<(), Stop> {
        let device = self.importer.attach(&self.buffer, model, index)?;
        device.map(direction)?;
        self.devices.push(device);
        Ok(())
    }

    pub(crate) fn size(&self) -> usize {
        self.mapping.len()
    }

    pub(crate) fn info(&self) -> Result<Info, Stop> {
        Ok(self.cohbuf.info(&self.buffer)?)
    }

    /// A START or END by `COHBUF_IOCTL_SYNC`, with or without the other.
    pub(crate) fn sync(&self, flags: u64, region: Region) -> Result<SyncCost, Errno> {
        sync_raw(&self.cohbuf, &request(&self.buffer, flags, region))
    }

    pub(crate) fn start(
        &self,
        access: Access,
        region: Region,
    ) -> Result<cohbuf::RegionAccess<'_>, cohbuf::Error> {
        self.cohbuf.cpu_access_region(&self.buffer, access, region)
    }

    /// What the CPU sees now, of all.
    pub(crate) fn cpu(&self) -> Result<Vec<u8>, Stop> {
        Ok(self.mapping.to_vec()?)
    }

    /// What the CPU sees now, of some bytes.
    pub(crate) fn cpu_at<const N: usize>(&self, at: usize) -> Result<[u8; N], Stop> {
        let mut seen = [0; N];
        self.mapping.read(at, &mut seen)?;
        Ok(seen)
    }

    /// What a device sees, of all.
    pub(crate) fn device(&self, number: usize) -> Result<Vec<u8>, Stop> {
        let mut seen = vec![0; self.size()];
        self.devices[number].device_reads(0, &mut seen)?;
        Ok(seen)
    }

    /// What a device sees, of some bytes.
    pub(crate) fn device_at<const N: usize>(
        &self,
        number: usize,
        at: usize,
    ) -> Result<[u8; N], Stop> {
        let mut seen = [0; N];
        self.devices[number].device_reads(at as u64, &mut seen)?;
        Ok(seen)
    }

    /// What `run` cost by what it returns, which INFO and the models must agree with.
    pub(crate) fn measured(
        &self,
        what: &str,
        run: impl FnOnce(&Self) -> Result<SyncCost, Stop>,
    ) -> Result<SyncCost, Stop> {
        let before = spent(&self.info()?);
        self.importer.model().zero_counts()?;
        let cost = run(self)?;
        let counts = self.importer.model().counts()?;
        let by_info = minus(spent(&self.info()?), before);
        check!(
            cost == by_info,
            "{what}: SYNC says {cost:?}, INFO {by_info:?}"
        );
        // Each device that the models count is of one kind, so that the sum tells.
        let moved = counts.clean_bytes
            + counts.invalidate_bytes
            + counts.to_bounce_bytes
            + counts.from_bounce_bytes;
        check!(
            moved == cost.cleaned + cost.invalidated + cost.own_ops,
            "{what}: SYNC says {cost:?}, the models {counts:?}"
        );
        Ok(cost)
    }

    /// What the two halves of a window cost.
    pub(crate) fn bracket(
        &self,
        what: &str,
        access: Access,
        region: Region,
    ) -> Result<(SyncCost, SyncCost), Stop> {
        let flags = match access {
            Access::Read => uapi::SYNC_READ,
            Access::Write => uapi::SYNC_WRITE,
            Access::ReadWrite => uapi::SYNC_READ | uapi::SYNC_WRITE,
        };
        let half = |when, flags| {
            self.measured(&format!("{what}: {when}"), |scene| {
                Ok(scene.sync(flags, region)?)
            })
        };
        Ok((
            half("START", uapi::SYNC_START | flags)?,
            half("END", uapi::SYNC_END | flags)?,
        ))
    }

    /// Fails unless so many write windows are open.
    pub(crate) fn expect_windows(&self, what: &str, count: u32) -> Outcome {
        let open = self.info()?.write_windows;
        check!(
            open == count,
            "{what}: {open} windows are open, must be {count}"
        );
        Ok(())
    }
}
