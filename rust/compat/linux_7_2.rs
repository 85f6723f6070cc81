// SPDX-License-Identifier: GPL-2.0

//! Linux 7.2.

use core::mem::transmute;

use kernel::{
    error::to_result,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    prelude::*,
    ModuleMetadata, //
};

use crate::bindings;

/// An error that the kernel crate has no name for.
const fn error(number: u32) -> Error {
    // CAST: The numbers are small.
    // SAFETY: An `Error` is its number, which is negative and small: see below.
    unsafe { transmute::<i32, Error>(-(number as i32)) }
}

const _: () = {
    // SAFETY: Every error is a valid `i32`, if it has the size of one, which the compiler checks.
    let number = unsafe { transmute::<Error, i32>(EPERM) };

    assert!(number == -(bindings::EPERM as i32));
};

/// Not a data message.
pub const EBADMSG: Error = error(bindings::EBADMSG);
/// Wrong medium type.
pub const EMEDIUMTYPE: Error = error(bindings::EMEDIUMTYPE);
/// Transport endpoint is not connected.
pub const ENOTCONN: Error = error(bindings::ENOTCONN);
/// Operation not supported on transport endpoint.
pub const EOPNOTSUPP: Error = error(bindings::EOPNOTSUPP);

/// `VM_MAYSHARE`, which is `VM_MAYEXEC` in `kernel::mm::virt::flags`, by a slip of the kernel crate.
pub(crate) const MAYSHARE: bindings::vm_flags_t = 1 << bindings::VMA_MAYSHARE_BIT;

pub(crate) const BIDIRECTIONAL: bindings::dma_data_direction =
    bindings::dma_data_direction_DMA_BIDIRECTIONAL;
pub(crate) const TO_DEVICE: bindings::dma_data_direction =
    bindings::dma_data_direction_DMA_TO_DEVICE;
pub(crate) const FROM_DEVICE: bindings::dma_data_direction =
    bindings::dma_data_direction_DMA_FROM_DEVICE;

/// The module of an exporter: the one that this crate is linked into.
#[expect(
    clippy::extra_unused_type_parameters,
    reason = "newer kernels say it by type"
)]
pub(crate) fn exporter_module<M: ModuleMetadata>() -> *mut bindings::module {
    // SAFETY: No requirements.
    unsafe { bindings::cohbuf_rs_this_module() }
}

/// For `MiscDevice::open`: keeps the module while the file is open.
///
/// # Errors
///
/// [`ENODEV`] where the module is being unloaded, [`EINVAL`] where the file is open already, or is
/// that of another device than the first that was kept so: a module has one.
pub fn keep_module<T: MiscDevice>(file: &File, misc: &MiscDeviceRegistration<T>) -> Result {
    // SAFETY: The file and the device are valid. The function does nothing where the file is not
    // being opened by way of this device.
    to_result(unsafe { bindings::cohbuf_rs_own_misc_file(file.as_ptr(), misc.as_raw()) })
}

#[cfg(cohbuf_test_device)]
mod for_tests {
    use kernel::{
        device::{
            Bound,
            Device, //
        },
        devres::Devres,
        dma::{
            Coherent,
            DmaAddress, //
        },
        faux,
        pci,
        prelude::*, //
    };

    /// The device of a registration.
    pub(crate) fn faux_device(registration: &faux::Registration) -> &Device<Bound> {
        let dev: &Device = registration.as_ref();

        // SAFETY: The driver of the faux bus is bound to a device from its registration on, which
        // fails without, until it is destroyed; `registration` is borrowed for as long.
        unsafe { dev.as_bound() }
    }

    /// A BAR that goes with its device.
    pub type DevresBar<const SIZE: usize> = Devres<pci::Bar<'static, SIZE>>;

    /// What the id table has beside an id, as probe gets it.
    pub type IdInfo<'a, T> = &'a T;

    /// The address at which the device finds the memory.
    pub fn dma_address(memory: &Coherent<[u8]>) -> DmaAddress {
        memory.dma_handle()
    }

    /// Copies `data` to the beginning of the memory.
    pub fn copy_in(memory: &mut Coherent<[u8]>, data: &[u8]) -> Result {
        if data.len() > memory.len() {
            return Err(ERANGE);
        }
        let to = memory.as_mut_ptr().cast::<u8>();
        // SAFETY: The memory has as many bytes, as said above, and is nobody else's on the CPU by
        // `&mut`.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
        Ok(())
    }

    /// Copies the beginning of the memory to `data`.
    pub fn copy_out(memory: &mut Coherent<[u8]>, data: &mut [u8]) -> Result {
        if data.len() > memory.len() {
            return Err(ERANGE);
        }
        let from = memory.as_ptr().cast::<u8>();
        // SAFETY: As for `copy_in`.
        unsafe { core::ptr::copy_nonoverlapping(from, data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    /// A table of PCI ids, and its copy for modpost, where it has a name of its own.
    #[macro_export]
    macro_rules! pci_ids {
        ($table:ident, $copy:ident, $info:ty, $ids:tt) => {
            ::kernel::pci_device_table!($table, $copy, $info, $ids);
        };
    }
}
#[cfg(cohbuf_test_device)]
pub use for_tests::*;
