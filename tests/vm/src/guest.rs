// SPDX-License-Identifier: GPL-2.0

//! What the guest has.

use std::fs;
use std::path::Path;

use cohbuf::{Buffer, CreateFlags, Device, Errno};
use cohbuf_testdev::{Importer, TestDevice, Vgem};

use crate::harness::{Outcome, Stop, fail, skip};

pub(crate) const PAGE: usize = 4096;

/// Whether every streaming mapping is bounced.
pub(crate) fn swiotlb_forced() -> bool {
    fs::read_to_string("/proc/cmdline").is_ok_and(|line| {
        line.split_whitespace()
            .filter_map(|word| word.strip_prefix("swiotlb="))
            .any(|value| value.split(',').any(|part| part == "force"))
    })
}

/// Whether edu's DMA addresses are translated by an IOMMU.
pub(crate) fn edu_is_behind_iommu() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/pci/devices") else {
        return false;
    };
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    devices.flatten().map(|device| device.path()).any(|device| {
        read(device.join("vendor")).trim() == "0x1234"
            && read(device.join("device")).trim() == "0x11e8"
            // Not "identity", which translates nothing.
            && read(device.join("iommu_group/type")).starts_with("DMA")
    })
}

/// How this guest was booted, by what it shows.
pub(crate) fn boot() -> &'static str {
    match (swiotlb_forced(), edu_is_behind_iommu()) {
        (false, false) => "plain",
        (true, false) => "swiotlb",
        (false, true) => "iommu",
        (true, true) => "swiotlb behind an IOMMU",
    }
}

/// Whether this architecture has devices that do not snoop.
pub(crate) fn has_noncoherent() -> bool {
    cfg!(target_arch = "aarch64")
}

pub(crate) fn bracketed(pages: usize) -> Result<Buffer, Stop> {
    Ok(Device::open()?.create((pages * PAGE) as u64, CreateFlags::empty())?)
}

/// The test importer must be there: without it half of the tests would not run.
pub(crate) fn importer() -> Result<Importer, Stop> {
    match Importer::open() {
        Ok(importer) => Ok(importer),
        Err(errno) => fail(format!(
            "{}: {errno}; load cohbuf_importer.ko",
            Importer::PATH
        )),
    }
}

pub(crate) fn vgem() -> Result<Vgem, Stop> {
    match Vgem::open() {
        Ok(vgem) => Ok(vgem),
        Err(_) => skip("this kernel has no vgem"),
    }
}

/// Open files of this process.
pub(crate) fn open_files() -> Result<usize, Stop> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// The dma-bufs of cohbuf in the whole system, by debugfs.
pub(crate) fn live_buffers() -> Result<usize, Stop> {
    let path = "/sys/kernel/debug/dma_buf/bufinfo";
    let Ok(text) = fs::read_to_string(path) else {
        return skip(format!("{path} cannot be read: debugfs is not mounted"));
    };
    Ok(text
        .lines()
        .filter(|line| line.split_whitespace().any(|word| word == "cohbuf"))
        .count())
}

/// A number of /proc/meminfo, in KiB.
pub(crate) fn meminfo(field: &str) -> Result<u64, Stop> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let number = text
        .lines()
        .filter_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .find_map(|rest| rest.split_whitespace().next()?.parse().ok());
    number.map_or_else(|| fail(format!("no {field} in /proc/meminfo")), Ok)
}

/// Whether a file or folder is there.
pub(crate) fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

/// Whether the kernel is the debug kernel, with every checker.
pub(crate) fn is_debug() -> bool {
    exists("/sys/kernel/debug/kmemleak")
}

/// Skips where the kernel has no sockets of its own: a process of another user, or one that waits
/// for keys and signals, takes a pair of them.
pub(crate) fn needs_sockets() -> Outcome {
    match std::os::unix::net::UnixStream::pair() {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => {
            skip("this kernel has no AF_UNIX")
        }
        Err(error) => Err(error.into()),
    }
}

/// Bytes of a page here.
pub(crate) fn page() -> usize {
    rustix::param::page_size()
}

/// When dropped, has the models of the importer forget what they track. They hold the pages: it
/// comes after the last unmap, and before the buffer goes.
pub(crate) struct ModelReset<'a>(pub(crate) &'a Importer);

impl Drop for ModelReset<'_> {
    fn drop(&mut self) {
        // Whoever begins with a reset learns of what is left mapped.
        let _ = self.0.model().reset();
    }
}

/// What tests ask of the guest that they run in.
pub(crate) struct Guest {
    /// Booted with `swiotlb=force`: every direct mapping is bounced.
    pub(crate) swiotlb: bool,
    /// edu is behind an IOMMU that translates.
    pub(crate) iommu: bool,
}

impl Guest {
    pub(crate) fn look() -> Self {
        Self {
            swiotlb: swiotlb_forced(),
            iommu: edu_is_behind_iommu(),
        }
    }

    pub(crate) fn device(&self) -> Result<Device, Stop> {
        Ok(Device::open()?)
    }

    pub(crate) fn buffer(&self, size: usize, flags: CreateFlags) -> Result<Buffer, Stop> {
        Ok(self.device()?.create(size as u64, flags)?)
    }

    /// A bracketed buffer of so many bytes.
    pub(crate) fn bracketed(&self, size: usize) -> Result<Buffer, Stop> {
        self.buffer(size, CreateFlags::empty())
    }

    /// A coherent buffer of so many bytes.
    pub(crate) fn coherent(&self, size: usize) -> Result<Buffer, Stop> {
        self.buffer(size, CreateFlags::COHERENT)
    }

    pub(crate) fn importer(&self) -> Result<Importer, Stop> {
        importer()
    }

    /// How many passes serve so many mappings of a device that is not coherent where the
    /// architecture has such: its own for each that is bounced, else one for all.
    pub(crate) fn maintains(&self, mappings: u32) -> u32 {
        if self.swiotlb {
            mappings
        } else if self.all_coherent() {
            0
        } else {
            mappings.min(1)
        }
    }

    pub(crate) fn all_coherent(&self) -> bool {
        !has_noncoherent()
    }

    pub(crate) fn is_coherent(&self, device: TestDevice) -> bool {
        match device {
            TestDevice::Edu
            | TestDevice::Coherent
            | TestDevice::BounceModel
            | TestDevice::SnoopModel
            | TestDevice::BouncedModel => true,
            TestDevice::NonCoherent
            | TestDevice::EduNonCoherent
            | TestDevice::CacheModel
            | TestDevice::CacheModelMerged
            | TestDevice::DirectModel => self.all_coherent(),
        }
    }
}
