// SPDX-License-Identifier: GPL-2.0

//! Model devices: in an emulator too, a sync that is missing loses data with them.
//!
//! Compiled into the modules of the tests alone (`cfg(cohbuf_test_device)`).
//!
//! An emulator has no caches. The *cache model* makes up for that: one for the whole module, it
//! knows of each page that it tracks what is in memory and what the CPU sees of it, line by line
//! of 64 bytes. The *bounce model* has a private copy in each mapping, as swiotlb does. Every
//! maintenance is counted, see [`Counts`].
//!
//! # Rules
//!
//! - What is mapped for a device of [`ModelKind::Cache`] or [`ModelKind::CacheMerged`] is tracked
//!   from then on by itself. For [`ModelKind::Direct`] it must be tracked before: [`track`],
//!   [`track_user`].
//! - Tracked pages are forgotten when they are freed. Call [`reset`] when the buffer goes and is not
//!   mapped any more; and before a test, so that it finds nothing of another one.

use core::ffi::c_void;

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    error::to_result,
    faux,
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    bindings,
    compat,
    raw::device_as_raw,
    DmaBuf,
    ImportedAttachment,
    ImportedMapping,
    Pages, //
};

/// A kind of model device. All of them reach 64 bits of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ModelKind {
    /// With `dma_map_ops` of its own, of the bounce model. DMA-coherent.
    Bounce = 3,
    /// With `dma_map_ops` of its own, of the cache model. It does not snoop.
    Cache = 4,
    /// The same, with one DMA segment over all pages of a mapping, as behind an IOMMU.
    CacheMerged = 5,
    /// Mapped directly and never bounced. Where the architecture has devices that do not snoop,
    /// it is one, and the cache model does what the architecture's own maintenance would.
    Direct = 6,
    /// Mapped directly and never bounced; DMA-coherent.
    Snoop = 7,
    /// Mapped directly, DMA-coherent, and bounced in a boot with `swiotlb=force`.
    Bounced = 8,
}

/// The cache model at work: the architecture's cache maintenance is done in the model too, where
/// the architecture has any. When dropped, it forgets all pages.
///
/// Devices and their mappings must go before it.
pub struct CacheModel(());

impl CacheModel {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: it was started before, and not dropped.
    /// - `EOPNOTSUPP`: the kernel has no kprobes.
    /// - What `register_kprobes()` returns.
    pub fn start() -> Result<Self> {
        // SAFETY: No requirements; may sleep, as whatever makes devices.
        to_result(unsafe { bindings::cohbuf_rs_model_start() })?;
        Ok(Self(()))
    }
}

impl Drop for CacheModel {
    fn drop(&mut self) {
        // SAFETY: `start` succeeded, and `self` is the only one; may sleep.
        unsafe { bindings::cohbuf_rs_model_stop() };
    }
}

/// A model device.
pub struct ModelDevice(faux::Registration);

impl ModelDevice {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: there is a device of that name, or no memory for another.
    /// - `EOPNOTSUPP`: this kernel has no `dma_map_ops`, or, of [`ModelKind::Direct`], nothing
    ///   drives the cache model: there is no [`CacheModel`], or the kernel has no kprobes.
    /// - `EIO`: the platform cannot do DMA with a mask of 64 bits.
    pub fn new(name: &CStr, kind: ModelKind) -> Result<Self> {
        let registration = faux::Registration::new(name, None)?;
        let dev = compat::faux_device(&registration);

        // SAFETY: The device is valid. It was made just now, on a bus whose driver does no DMA, so
        // that nobody maps anything for it yet; no other code sets its mask or its ops.
        // CAST: The numbers are those that C has.
        to_result(unsafe { bindings::cohbuf_rs_model_setup(device_as_raw(dev), kind as u32) })?;

        Ok(Self(registration))
    }

    /// Attaches the device to a buffer.
    ///
    /// # Errors
    ///
    /// As [`ImportedAttachment::new`].
    pub fn attach(&self, buf: ARef<DmaBuf>) -> Result<ImportedAttachment<'_>> {
        // SAFETY: The device has no driver that could set up or tear down anything for its DMA. A
        // sync of a mapping that was leaked finds all that it needs in the `struct device`, to
        // which the attachment has a reference, and in this module, to which the mapping has one.
        unsafe { ImportedAttachment::new(buf, self.as_ref()) }
    }
}

impl AsRef<Device<Bound>> for ModelDevice {
    fn as_ref(&self) -> &Device<Bound> {
        compat::faux_device(&self.0)
    }
}

/// DMA by a model device.
///
/// # Errors
///
/// - `EINVAL`: out of the buffer.
/// - `EACCES`: against the direction of the mapping.
/// - `ENXIO`: nothing is mapped where the exporter said that the device finds it.
/// - `EOPNOTSUPP`: the device is neither mapped directly nor has it `dma_map_ops` of a model.
impl ImportedMapping<'_> {
    /// The device reads from `offset` on; what it sees is put into `seen`.
    pub fn device_read(&self, offset: usize, seen: &mut [u8]) -> Result {
        if self.direction() == DataDirection::FromDevice {
            return Err(EACCES);
        }
        self.access(offset, seen.as_mut_ptr(), seen.len(), false)
    }

    /// The device writes `bytes` from `offset` on.
    pub fn device_write(&self, offset: usize, bytes: &[u8]) -> Result {
        if self.direction() == DataDirection::ToDevice {
            return Err(EACCES);
        }
        self.access(offset, bytes.as_ptr().cast_mut(), bytes.len(), true)
    }

    /// Moves `len` bytes from or to `data`, which is only read where the device writes.
    fn access(&self, offset: usize, data: *mut u8, len: usize, write: bool) -> Result {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        let mut at = offset;

        while at < end {
            let segment = self.segment_at(at).ok_or(EINVAL)?;
            let part = segment.len.min(end - at);
            let here: *mut c_void = data.wrapping_add(at - offset).cast();

            // SAFETY: The device is valid, and has mapped `part` bytes at the address for as long
            // as `self` is borrowed. Both callers have `len` bytes at `data`, good for what is
            // done with them, and `part` bytes from `here` on are of these.
            to_result(unsafe {
                bindings::cohbuf_rs_model_access(
                    device_as_raw(self.device()),
                    segment.address,
                    here,
                    part,
                    write,
                )
            })?;
            at += part;
        }
        Ok(())
    }
}

/// What was done since [`zero_counts`] or [`reset`].
///
/// Bytes are those that were asked for, be their lines dirty or not. Of the cache model only bytes
/// of tracked pages count, and calls that had any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Cleaned by the cache model.
    pub clean_bytes: u64,
    /// The number of pieces.
    pub clean_calls: u64,
    /// Invalidated by the cache model.
    pub invalidate_bytes: u64,
    /// The number of pieces.
    pub invalidate_calls: u64,
    /// Copied to the private copies of the bounce model.
    pub to_bounce_bytes: u64,
    /// The number of pieces.
    pub to_bounce_calls: u64,
    /// Copied back from there.
    pub from_bounce_bytes: u64,
    /// The number of pieces.
    pub from_bounce_calls: u64,
    /// Written back by `arch_wb_cache_pmem()`, tracked or not. Not among the cleaned ones.
    pub wb_bytes: u64,
    /// Dropped from the cache by `arch_invalidate_pmem()`, where that is modelled (arm64). Not among
    /// the invalidated ones.
    pub drop_bytes: u64,
}

/// Returns what was counted.
pub fn counts() -> Counts {
    let mut raw = [0; 10];

    // SAFETY: `raw` is writable for its length.
    unsafe { bindings::cohbuf_rs_model_counts(raw.as_mut_ptr(), raw.len()) };

    // As `enum model_count` has them.
    let [clean_bytes, clean_calls, invalidate_bytes, invalidate_calls, to_bounce_bytes, to_bounce_calls, from_bounce_bytes, from_bounce_calls, wb_bytes, drop_bytes] =
        raw;
    Counts {
        clean_bytes,
        clean_calls,
        invalidate_bytes,
        invalidate_calls,
        to_bounce_bytes,
        to_bounce_calls,
        from_bounce_bytes,
        from_bounce_calls,
        wb_bytes,
        drop_bytes,
    }
}

/// Counts from zero again.
pub fn zero_counts() {
    // SAFETY: No requirements.
    unsafe { bindings::cohbuf_rs_model_zero_counts() };
}

/// Forgets all pages and what was counted.
///
/// # Errors
///
/// `EBUSY`: a mapping of a device with `dma_map_ops` of its own is live. Nothing changed then.
pub fn reset() -> Result {
    // SAFETY: No requirements; may sleep.
    to_result(unsafe { bindings::cohbuf_rs_model_reset() })
}

/// Writes all dirty lines to memory, uncounted: a cache may do so at any time.
pub fn evict() {
    // SAFETY: No requirements but the rules above; may sleep.
    unsafe { bindings::cohbuf_rs_model_evict() };
}

/// Reads all clean lines from memory again, uncounted: a cache may do so at any time.
///
/// The CPU must not write to tracked pages meanwhile, as that could be lost.
pub fn drop_clean() {
    // SAFETY: No requirements but the rules above; may sleep.
    unsafe { bindings::cohbuf_rs_model_drop_clean() };
}

/// Has the pages tracked.
///
/// # Errors
///
/// `ENOMEM`.
pub fn track(pages: &Pages) -> Result {
    for page in pages.iter() {
        // SAFETY: The page is valid, and is forgotten when it is freed; may sleep.
        to_result(unsafe { bindings::cohbuf_rs_model_track_page(page) })?;
    }
    Ok(())
}

/// Has the pages tracked that the calling task has mapped from a dma-buf.
///
/// # Errors
///
/// - `EINVAL`: `addr` or `len` is not a multiple of the page size, or `len` is 0, or the range goes
///   beyond all addresses, or what is mapped is no memory.
/// - `EFAULT`: something in it is not mapped, or not from a dma-buf.
/// - `ENOMEM`.
/// - `EINTR`: the task was killed.
pub fn track_user(addr: usize, len: usize) -> Result {
    // SAFETY: It looks at the page tables of the calling task, whatever the address; may sleep.
    to_result(unsafe { bindings::cohbuf_rs_model_track_user(addr, len) })
}

/// How a page is mapped for the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryType {
    /// Cached.
    WriteBack = 0,
    /// Not cached; writes may be combined. On arm64, Normal-NC.
    WriteCombining = 1,
    /// Anything else.
    Other = 2,
}

impl MemoryType {
    fn from_raw(raw: u32) -> Self {
        match raw {
            0 => MemoryType::WriteBack,
            1 => MemoryType::WriteCombining,
            _ => MemoryType::Other,
        }
    }
}

/// Memory types of a page of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserAttrs {
    /// Of the user's mapping.
    pub user: MemoryType,
    /// Of the kernel's linear map.
    pub linear: MemoryType,
}

/// Returns the memory types of a page that the calling task has mapped from a dma-buf.
///
/// # Errors
///
/// - `EFAULT`: nothing is mapped there, or not from a dma-buf, or the linear map does not have it.
/// - `EINVAL`: it is no memory.
/// - `EOPNOTSUPP`: not known how on this architecture.
/// - `EINTR`: the task was killed.
pub fn user_attrs(addr: usize) -> Result<UserAttrs> {
    let (mut user, mut linear) = (0, 0);

    // SAFETY: It looks at the page tables of the calling task, whatever the address, and writes to
    // the two that are borrowed here; may sleep.
    to_result(unsafe { bindings::cohbuf_rs_user_attrs(addr, &raw mut user, &raw mut linear) })?;
    Ok(UserAttrs {
        user: MemoryType::from_raw(user),
        linear: MemoryType::from_raw(linear),
    })
}

/// Returns the memory type of a mapping of the kernel's own.
///
/// # Errors
///
/// - `EFAULT`: nothing is mapped there.
/// - `EOPNOTSUPP`: not known how on this architecture.
pub fn kernel_attrs(addr: *const u8) -> Result<MemoryType> {
    // SAFETY: It looks the address up and does not access it.
    let raw = unsafe { bindings::cohbuf_rs_kernel_attrs(addr.cast()) };

    to_result(raw)?;
    Ok(MemoryType::from_raw(raw.try_into()?))
}
