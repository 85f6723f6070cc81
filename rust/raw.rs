// SPDX-License-Identifier: GPL-2.0

//! The way around walls of the kernel crate, all in one place.

use kernel::device::Device;

use crate::bindings;

/// Returns the C device.
///
/// `Device::as_raw` is `pub(crate)` (`rust/kernel/device.rs`); `Device` is
/// `repr(transparent)` over `Opaque<bindings::device>`, so that the address is the same.
pub(crate) fn device_as_raw(dev: &Device) -> *mut bindings::device {
    core::ptr::from_ref(dev).cast_mut().cast()
}
