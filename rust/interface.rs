// SPDX-License-Identifier: GPL-2.0

//! What importers in C can ask of an exporter besides what the dma-buf core has: the Rust side of
//! `interface.c`, which exports it.
//!
//! A dma-buf carries the functions of its exporter with it (`Interface`), so that C need not know
//! which one it is, and nothing has to be registered.

use core::ffi::{
    c_int,
    c_uint, //
};

use kernel::{
    error::from_result,
    prelude::*, //
};

use crate::{
    bindings,
    exporter::Head,
    pages::Caching, //
};

/// What never changes of a buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Nobody needs maintenance.
    pub coherent: bool,
    /// How the CPU sees the memory.
    pub caching: Caching,
}

/// To whom an importer hands the buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SyncFor {
    /// From its device to the CPU, and by way of it to other devices.
    Cpu,
    /// To its device.
    Device,
}

/// The functions of an exporter. Each is `unsafe`: the dma-buf must be one of that exporter.
pub(crate) struct Interface {
    pub(crate) query: unsafe fn(*mut bindings::dma_buf) -> Query,
    pub(crate) set_autofence: unsafe fn(*mut bindings::dma_buf_attachment, bool) -> Result,
    pub(crate) sync: SyncFn,
    pub(crate) sync_unlocked: SyncFn,
}

type SyncFn =
    unsafe fn(*mut bindings::dma_buf_attachment, *const bindings::sg_table, SyncFor) -> Result;

/// # Safety
///
/// `dmabuf` must be one that this copy of the crate has exported: its owner is the module that the
/// crate is in. It must live for the call.
unsafe fn interface_of(dmabuf: *mut bindings::dma_buf) -> &'static Interface {
    // SAFETY: By the requirement of this function `priv` is a `Private`, which begins with its
    // head and lives as long as the dma-buf.
    unsafe { (*(*dmabuf).priv_.cast::<Head>()).interface }
}

/// Asks what never changes of a buffer. `caching` gets a `COHBUF_QUERY_*`.
///
/// # Safety
///
/// As for [`interface_of`]; `coherent` and `caching` must be valid to be written.
#[no_mangle]
pub(crate) unsafe extern "C" fn cohbuf_rs_query(
    dmabuf: *mut bindings::dma_buf,
    coherent: *mut bool,
    caching: *mut c_uint,
) {
    // SAFETY: As the requirements of this function have it.
    let query = unsafe { (interface_of(dmabuf).query)(dmabuf) };
    // SAFETY: Both may be written, by the requirements of this function.
    unsafe {
        *coherent = query.coherent;
        *caching = match query.caching {
            Caching::WriteBack => 0,
            Caching::WriteCombine => 1,
        };
    }
}

/// Says whether the exporter waits for fences.
///
/// # Safety
///
/// `attach` must be an attachment, not detached meanwhile, of a dma-buf as for [`interface_of`].
#[no_mangle]
pub(crate) unsafe extern "C" fn cohbuf_rs_set_autofence(
    attach: *mut bindings::dma_buf_attachment,
    autofence: bool,
) -> c_int {
    from_result(|| {
        // SAFETY: As the requirements of this function have it.
        unsafe { (interface_of((*attach).dmabuf).set_autofence)(attach, autofence) }?;
        Ok(0)
    })
}

/// Hands a mapping over.
///
/// # Safety
///
/// `attach` must be an attachment, not detached meanwhile, of a dma-buf as for [`interface_of`];
/// `table` a table that `dma_buf_map_attachment()` returned and that is not unmapped meanwhile, or
/// null. The caller holds the reservation lock if and only if `locked`.
#[no_mangle]
pub(crate) unsafe extern "C" fn cohbuf_rs_sync(
    attach: *mut bindings::dma_buf_attachment,
    table: *const bindings::sg_table,
    for_device: bool,
    locked: bool,
) -> c_int {
    let whom = if for_device {
        SyncFor::Device
    } else {
        SyncFor::Cpu
    };
    from_result(|| {
        // SAFETY: As the requirements of this function have it.
        unsafe {
            let interface = interface_of((*attach).dmabuf);
            if locked {
                (interface.sync)(attach, table, whom)
            } else {
                (interface.sync_unlocked)(attach, table, whom)
            }
        }?;
        Ok(0)
    })
}
