// SPDX-License-Identifier: GPL-2.0

//! Devices without hardware, to try exporters with.
//!
//! Compiled into the modules of the tests alone (`cfg(cohbuf_test_device)`).

use kernel::{
    device::{
        Bound,
        Core,
        Device, //
    },
    dma::DmaMask,
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
    ImportedAttachment, //
};

/// Takes a device as not DMA-coherent from here on, where the architecture has such devices.
///
/// For a driver's probe function, before it sets the mask: nothing is mapped for the device yet.
pub fn take_as_noncoherent(dev: &Device<Core<'_>>) {
    // SAFETY: The device is valid, and is being probed: its driver, which calls, has not mapped
    // anything for it.
    unsafe { bindings::cohbuf_rs_test_device_noncoherent(device_as_raw(dev)) }
}

/// A device that can be attached and mapped, and that never accesses anything.
///
/// Its DMA is direct: no IOMMU, no `dma_map_ops`.
pub struct TestDevice(faux::Registration);

impl TestDevice {
    /// Makes a device that reaches the addresses in `mask`.
    ///
    /// On an architecture where every device is DMA-coherent, x86 for one, this device is so too,
    /// whatever `coherent` says; [`is_dma_coherent`](crate::device::is_dma_coherent) tells.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: there is a device of that name, or no memory for another.
    /// - `EIO`: the platform cannot do DMA with `mask`.
    pub fn new(name: &CStr, mask: DmaMask, coherent: bool) -> Result<Self> {
        let registration = faux::Registration::new(name, None)?;
        let dev = compat::faux_device(&registration);

        // SAFETY: The device is valid. It was made just now, on a bus whose driver does no DMA, so
        // that nobody maps anything for it yet; no other code sets its mask.
        to_result(unsafe {
            bindings::cohbuf_rs_test_device_setup_dma(device_as_raw(dev), mask.value(), coherent)
        })?;

        Ok(Self(registration))
    }

    /// Attaches the device to a buffer.
    ///
    /// # Errors
    ///
    /// As [`ImportedAttachment::new`].
    pub fn attach(&self, buf: ARef<DmaBuf>) -> Result<ImportedAttachment<'_>> {
        // SAFETY: The device has no driver that could set up or tear down anything for its DMA,
        // which is direct: a sync of a mapping that was leaked finds all that it needs in the
        // `struct device`, to which the attachment has a reference.
        unsafe { ImportedAttachment::new(buf, self.as_ref()) }
    }

    /// Has the device take segments of at most `max` bytes, none across a multiple of
    /// `boundary` + 1, as a driver says it.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn segments(&self, max: u32, boundary: usize) -> Result {
        let dev: &Device<Bound> = self.as_ref();

        // SAFETY: The device is valid, and bound. Nothing is mapped for it while its test sets it
        // up.
        to_result(unsafe {
            bindings::cohbuf_rs_test_device_segments(device_as_raw(dev), max, boundary)
        })
    }

    /// Lets the device reach only addresses up to `limit`, as the firmware says it of a bus. What
    /// is mapped from then on is bounced where it lies above.
    pub fn limit(&self, limit: u64) {
        let dev: &Device<Bound> = self.as_ref();

        // SAFETY: The device is valid. Nothing is mapped for it while its test sets it up.
        unsafe { bindings::cohbuf_rs_test_device_limit(device_as_raw(dev), limit) }
    }
}

impl AsRef<Device<Bound>> for TestDevice {
    fn as_ref(&self) -> &Device<Bound> {
        compat::faux_device(&self.0)
    }
}
