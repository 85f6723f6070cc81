// SPDX-License-Identifier: GPL-2.0

//! dma-bufs: the safe side of exporting and of importing them.
//!
//! C header: `include/linux/dma-buf.h`. Reference:
//! <https://docs.kernel.org/driver-api/dma-buf.html>
//!
//! # Concepts
//!
//! A *dma-buf* ([`DmaBuf`]) is memory that the CPU and several devices share. Whoever made it is
//! its *exporter* ([`Exporter`]), a driver that uses it with a device is an *importer*
//! ([`ImportedAttachment`]). The importer *attaches* its device, and *maps* the attachment when the
//! device shall use it. The exporter sees an [`Attachment`] and, for as long as it is mapped, one
//! or more [`Mapping`]s, each with an sg table and a direction of its own.
//!
//! # Writing an exporter
//!
//! 1. Implement [`Exporter`] for the data of one buffer. `attach` decides who may come, `map` who
//!    may map, `begin_cpu_access` and `end_cpu_access` what is maintained, which depends on how a
//!    device reaches the memory: [`Mapping::reach`].
//! 2. Allocate [`Pages`] and hand both to [`DmaBuf::export`]. From then on they belong to the
//!    dma-buf, which frees them after the last reference to it is gone.
//! 3. Reserve a file descriptor before, and [`DmaBuf::install_fd`] as the last act of an ioctl.
//! 4. Where buffers are many, keep a [`slab::Cache`] in the module, as its last field.
//!
//! The memory is pages of the kernel's own, which the crate maps for devices, into user space and
//! into the kernel; the exporter decides, the crate does.
//!
//! # Locking
//!
//! The reservation lock (`dma_resv`) of a dma-buf guards its list of attachments, the mappings of
//! each with what the exporter keeps for it ([`Exporter::Mapping`]), and what it keeps for the
//! buffer ([`Exporter::State`]). What needs it takes a [`Locked`], which the crate hands to callbacks
//! that are called with the lock held (`map`, `unmap`, `fault`), and which [`Buffer::lock`] gives to
//! the others (`attach`, `mmap`, `begin_cpu_access`, `end_cpu_access`, `vma_close`). There is one `Locked` for
//! each time that the lock is held, so that a [`LockedMut`] of it may change what it guards. Nothing
//! here takes a lock of its own. The mmap lock comes before it.
//!
//! # Fences
//!
//! Wait for fences without the lock where you can: [`Buffer::lock_after_fences`]. `map` and `unmap`
//! cannot, as the core calls them with the lock held; nor can an importer that hands its buffer
//! over with the lock held. To wait under it is allowed ([`Locked::wait_fences`]), and cannot
//! deadlock: a fence signals in finite time, and what signals it must not take a reservation lock
//! (`dma_resv_lockdep()` of `drivers/dma-buf/dma-resv.c` makes lockdep know the order: mmap lock,
//! reservation lock, reclaim, fences; the core waits so itself in `dma_buf_map_attachment()`). But
//! whoever wants the lock waits as well, and not all of them can be interrupted: a task that exits
//! takes it in `vma_close`.
//!
//! # Lifetimes
//!
//! A [`DmaBuf`] is reference counted by its file; the file of a dma-buf pins the module of its
//! exporter. A [`Mapping`] holds a reference to the device, and is of an attachment, whose importer
//! holds the dma-buf, of which the pages are. References that a callback gets end with the callback,
//! or with the lock.

pub mod address_space;
mod bindings;
mod buf;
pub mod compat;
pub mod cpu_access;
pub mod debugfs;
pub mod device;
mod direction;
mod exporter;
mod fault;
mod fences;
pub mod heap;
mod importer;
pub mod interface;
#[cfg(cohbuf_kunit)]
pub mod kunit_support;
mod pages;
pub mod params;
mod raw;
pub mod roll;
mod sg_table;
pub mod slab;
pub mod static_mutex;
#[cfg(cohbuf_test_device)]
pub mod test_device;
#[cfg(cohbuf_kunit)]
pub mod test_exporter;
#[cfg(cohbuf_test_device)]
pub mod test_models;
pub mod trace;
pub mod uaccess;
pub mod uapi;
mod vmap;
mod written;

/// Before each line of the log, with a NUL as C has it.
const __LOG_PREFIX: &[u8] = b"dma_buf\0";

pub use buf::DmaBuf;
pub use direction::CpuAccess;
pub use exporter::{
    Attachment,
    Buffer,
    ClosedVma,
    Exporter,
    LockGuard,
    Locked,
    LockedMut,
    Look,
    MapRequest,
    SyncRequest,
    UnmapRequest, //
};
pub use fault::{
    notice_outside,
    Fault,
    Populate,
    Verdict, //
};
pub use fences::Fences;
pub use importer::*;
pub use pages::{
    cache_line_size,
    write_barrier,
    Caching,
    Pages, //
};
pub use sg_table::{
    Mapping,
    Reach,
    Rows,
    Synced, //
};
pub use written::WrittenPages;
