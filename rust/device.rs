// SPDX-License-Identifier: GPL-2.0

//! What an exporter asks of, and says to, an importer's device.

use kernel::{
    device::Device,
    prelude::*, //
};

use crate::{
    bindings,
    exporter::{
        Buffer,
        Exporter, //
    },
    raw::device_as_raw, //
};

/// Whether the device snoops the CPU caches, so that neither needs maintenance for the other.
///
/// Mirrors `dev_is_dma_coherent()`. Always true on x86. On arm64 it comes from the firmware
/// (`dma-coherent`), and is false for devices without firmware node.
pub fn is_dma_coherent(dev: &Device) -> bool {
    // SAFETY: `dev` is a valid device, by its type.
    unsafe { bindings::cohbuf_rs_dev_is_dma_coherent(device_as_raw(dev)) }
}

/// Whether the device has `dma_map_ops` of its own, so that nobody but them knows how it reaches
/// memory. An IOMMU that the DMA core drives is none.
pub fn has_own_dma_ops(dev: &Device) -> bool {
    // SAFETY: `dev` is a valid device, by its type.
    unsafe { bindings::cohbuf_rs_own_dma_ops(device_as_raw(dev)) != 0 }
}

/// Whether neither an IOMMU nor `dma_map_ops` of its own are between the device and memory, and it
/// goes past the CPU caches.
pub(crate) fn is_direct(dev: &Device) -> bool {
    // SAFETY: `dev` is a valid device, by its type.
    let iommu = unsafe { bindings::cohbuf_rs_has_iommu(device_as_raw(dev)) };
    !iommu && !has_own_dma_ops(dev) && !is_dma_coherent(dev)
}

/// Writes the log line of a refusal, which names the importer's device and the buffer.
///
/// The buffer goes by its exporter's name and by the inode number that `dma_buf/bufinfo` in
/// debugfs shows. Rate limited, as anybody who may attach could fill the log otherwise.
pub fn notice_refused<T: Exporter>(dev: &Device, buffer: Buffer<'_, T>, why: &'static CStr) {
    // SAFETY: `dev` is a valid device by its type, both strings end in NUL and are static.
    unsafe {
        bindings::cohbuf_rs_notice_refused(
            device_as_raw(dev),
            T::NAME.as_char_ptr(),
            buffer.id(),
            why.as_char_ptr(),
        )
    }
}

/// The name of the device's driver, or of its bus where it has none: `dev_driver_string()`.
pub fn driver_name(dev: &Device) -> &CStr {
    // SAFETY: `dev` is a valid device by its type. What is returned ends in NUL, and belongs to the
    // device, its driver or its bus. An importer's driver stays while the importer is attached.
    unsafe { CStr::from_char_ptr(bindings::dev_driver_string(device_as_raw(dev))) }
}
