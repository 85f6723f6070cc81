// SPDX-License-Identifier: GPL-2.0

//! The importer's side of a dma-buf.
//!
//! C header: `include/linux/dma-buf.h`
//!
//! An importer attaches its device to a buffer and then maps it, which gives it the addresses that
//! the device is to use. The two states are two types:
//!
//! - [`ImportedAttachment`]: the exporter knows the device, and has agreed to it.
//! - [`ImportedMapping`]: the device may access the memory, at the addresses that
//!   [`ImportedMapping::segments`] yields.
//!
//! [`ImportedAttachment::map`] and [`ImportedMapping::unmap`] turn one into the other; dropping
//! either undoes whatever was done. Both borrow the device as bound to its driver, so that no
//! mapping outlives the driver. A driver that hands attachments to user space, whose lifetime it
//! does not know, keeps them in a [`Port`], which takes them back when the device is unbound.
//!
//! Attachments are static: the exporter does not move the memory while it is mapped. None of the
//! functions here may be called with the reservation lock of the buffer held.
//!
//! # Examples
//!
//! ```ignore
//! fn first_address(buf: ARef<DmaBuf>, dev: &Device<Bound>) -> Result<DmaAddress> {
//!     // SAFETY: Both are dropped below, before `dev` can be unbound.
//!     let attachment = unsafe { ImportedAttachment::new(buf, dev) }?;
//!     let mapping = attachment
//!         .map(DataDirection::ToDevice)
//!         .map_err(|(_attachment, error)| error)?;
//!
//!     // The address is of use while `mapping` lives.
//!     let segment = mapping.segments().next().ok_or(EINVAL)?;
//!     Ok(segment.address)
//! }
//! ```

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::{
        DataDirection,
        DmaAddress, //
    },
    error::from_err_ptr,
    prelude::*,
    scatterlist::SGTable,
    sync::aref::ARef, //
};

use crate::{
    bindings,
    buf::DmaBuf,
    raw::device_as_raw, //
};

mod port;

pub use self::port::{
    MappingInfo,
    Port,
    PortAttachment, //
};

/// A device that is attached to a buffer; it has no access to the memory.
///
/// # Invariants
///
/// - `attachment` was returned by `dma_buf_attach()` for `buf` and `dev`, and has not been
///   detached.
/// - No mapping of it exists, unless `self` is part of an [`ImportedMapping`].
pub struct ImportedAttachment<'dev> {
    attachment: NonNull<bindings::dma_buf_attachment>,
    buf: ARef<DmaBuf>,
    // A leaked attachment must not be left with a dangling device, hence a reference of its own
    // beside the borrow.
    dev: ARef<Device>,
    _bound: PhantomData<&'dev Device<Bound>>,
}

// SAFETY: The C functions that take an attachment lock what they need and may run on any task.
unsafe impl Send for ImportedAttachment<'_> {}

// SAFETY: `&ImportedAttachment` gives access to `buf` and `dev` only, which are `Sync`.
unsafe impl Sync for ImportedAttachment<'_> {}

impl<'dev> ImportedAttachment<'dev> {
    /// Attaches `dev` to `buf`.
    ///
    /// A driver that hands attachments to user space takes a [`Port`], which is safe.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: the buffer is coherent and `dev` is not.
    /// - `ENOMEM`: no memory for the attachment.
    /// - Whatever else the exporter refuses the device with.
    ///
    /// # Safety
    ///
    /// What is returned, or a mapping made of it, must not be leaked: the exporter syncs it for as
    /// long as it is mapped, which must not be after `dev` is unbound.
    pub unsafe fn new(buf: ARef<DmaBuf>, dev: &'dev Device<Bound>) -> Result<Self> {
        // SAFETY: Both pointers are valid: `buf` and `dev` hold references. The reservation lock
        // is not held, as the documentation of the module demands.
        let attachment = unsafe { bindings::dma_buf_attach(buf.as_raw(), device_as_raw(dev)) };
        let attachment = from_err_ptr(attachment)?;

        // INVARIANT: `attachment` comes from `dma_buf_attach()` for these two; it is not mapped.
        Ok(Self {
            attachment: NonNull::new(attachment).ok_or(EINVAL)?,
            buf,
            dev: dev.into(),
            _bound: PhantomData,
        })
    }

    /// Returns the buffer.
    pub fn buf(&self) -> &DmaBuf {
        &self.buf
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.dev
    }

    /// Maps the buffer for the device, which may then access it in direction `dir`.
    ///
    /// # Errors
    ///
    /// The attachment comes back with the error, as it was:
    ///
    /// - `EINVAL`: `dir` is [`DataDirection::None`].
    /// - `EOPNOTSUPP`: the buffer is coherent and the mapping would be bounced.
    /// - `ENOMEM`: no memory, or no space in the bounce buffer or the IOMMU.
    /// - Whatever else the exporter fails with.
    pub fn map(self, dir: DataDirection) -> Result<ImportedMapping<'dev>, (Self, Error)> {
        if dir == DataDirection::None {
            return Err((self, EINVAL));
        }

        // SAFETY: By the type invariant, the attachment is live and not mapped; the device is bound
        // for `'dev`. The reservation lock is not held.
        let table = from_err_ptr(unsafe {
            bindings::dma_buf_map_attachment_unlocked(self.attachment.as_ptr(), dir.into())
        });

        match table.and_then(|table| NonNull::new(table).ok_or(ENOMEM)) {
            // INVARIANT: `table` comes from the map call for this attachment and direction. It is
            // dropped before the attachment, as it stands before it in `ImportedMapping`.
            Ok(table) => Ok(ImportedMapping {
                table: MappedTable {
                    table,
                    attachment: self.attachment,
                    dir,
                },
                attachment: self,
            }),
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for ImportedAttachment<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, the attachment belongs to `buf` and has not been detached;
        // where it was mapped, `ImportedMapping` has dropped the mapping before.
        unsafe { bindings::dma_buf_detach(self.buf.as_raw(), self.attachment.as_ptr()) };
    }
}

/// The table of a mapping, as the exporter gave it out.
///
/// # Invariants
///
/// `table` was returned by `dma_buf_map_attachment_unlocked()` for `attachment` and `dir`, and has
/// not been unmapped; `attachment` is live.
struct MappedTable {
    table: NonNull<bindings::sg_table>,
    attachment: NonNull<bindings::dma_buf_attachment>,
    dir: DataDirection,
}

impl Drop for MappedTable {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, these are the arguments and the result of the map call,
        // and this is the only unmap.
        unsafe {
            bindings::dma_buf_unmap_attachment_unlocked(
                self.attachment.as_ptr(),
                self.table.as_ptr(),
                self.dir.into(),
            )
        };
    }
}

// SAFETY: Unmapping locks what it needs and may run on any task; nobody changes the table.
unsafe impl Send for MappedTable {}

// SAFETY: The table is only read while it is mapped.
unsafe impl Sync for MappedTable {}

/// A buffer that is mapped for a device.
pub struct ImportedMapping<'dev> {
    // Fields drop in this order: unmap, then detach.
    table: MappedTable,
    attachment: ImportedAttachment<'dev>,
}

/// A piece of a mapping: contiguous for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where the device finds it.
    pub address: DmaAddress,
    /// How long it is, in bytes.
    pub len: usize,
}

impl<'dev> ImportedMapping<'dev> {
    /// Takes the access to the memory away from the device.
    pub fn unmap(self) -> ImportedAttachment<'dev> {
        let Self { table, attachment } = self;

        drop(table);
        attachment
    }

    /// Returns the buffer.
    pub fn buf(&self) -> &DmaBuf {
        self.attachment.buf()
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        self.attachment.device()
    }

    /// Returns what C knows the mapping by.
    #[cfg(cohbuf_kunit)]
    pub(crate) fn as_raw(&self) -> (*mut bindings::dma_buf_attachment, *mut bindings::sg_table) {
        (self.table.attachment.as_ptr(), self.table.table.as_ptr())
    }

    /// Returns the direction that the buffer was mapped for.
    pub fn direction(&self) -> DataDirection {
        self.table.dir
    }

    /// Yields the pieces of the buffer in order, as the device sees them.
    ///
    /// There are DMA addresses and nothing else: the pages are the exporter's own, and with
    /// `CONFIG_DMABUF_DEBUG` the table has none.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        // SAFETY: By the type invariant of `MappedTable`, the table is mapped, and it stays so while
        // `self` is borrowed. Nobody writes to it.
        let table: &SGTable = unsafe { SGTable::from_raw(self.table.table.as_ptr()) };

        table.iter().map(|entry| Segment {
            address: entry.dma_address(),
            // CAST: `dma_len` is an `unsigned int` in C.
            len: entry.dma_len() as usize,
        })
    }

    /// Returns how many pieces there are.
    pub fn segment_count(&self) -> usize {
        // SAFETY: By the type invariant of `MappedTable`, the table is mapped.
        // CAST: A number of entries fits.
        unsafe { (*self.table.table.as_ptr()).nents as usize }
    }

    /// Returns the piece at `offset` bytes into the buffer: where the device finds it and how far it
    /// goes on contiguously. [`None`] at and after the end.
    pub fn segment_at(&self, offset: usize) -> Option<Segment> {
        let mut skip = offset;

        for segment in self.segments() {
            if skip < segment.len {
                return Some(Segment {
                    // CAST: From `usize`, which is no wider than `u64`; a DMA address that the
                    // segment holds does not overflow.
                    address: segment.address + skip as DmaAddress,
                    len: segment.len - skip,
                });
            }
            skip -= segment.len;
        }
        None
    }

    /// Returns whether the device gets at least one piece of the buffer through the bounce buffer
    /// (swiotlb), so that it and the CPU do not see the same memory.
    pub fn is_bounced(&self) -> bool {
        // SAFETY: The device is valid.
        if !unsafe { bindings::cohbuf_rs_may_be_bounced(device_as_raw(self.device())) } {
            return false;
        }
        self.segments().any(|segment| {
            // SAFETY: The device is valid, and the address is one that it has mapped now.
            unsafe {
                bindings::cohbuf_rs_dma_addr_is_bounced(
                    device_as_raw(self.device()),
                    segment.address,
                )
            }
        })
    }
}
