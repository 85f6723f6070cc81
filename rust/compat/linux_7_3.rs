// SPDX-License-Identifier: GPL-2.0

//! Linux 7.3.

use kernel::{
    bindings::dma_data_direction,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    module::this_module,
    prelude::*,
    ModuleMetadata, //
};

use crate::bindings;

pub use kernel::error::code::{
    EBADMSG,
    EMEDIUMTYPE,
    ENOTCONN,
    EOPNOTSUPP, //
};
pub(crate) use kernel::mm::virt::flags::MAYSHARE;

pub(crate) const BIDIRECTIONAL: dma_data_direction = dma_data_direction::DMA_BIDIRECTIONAL;
pub(crate) const TO_DEVICE: dma_data_direction = dma_data_direction::DMA_TO_DEVICE;
pub(crate) const FROM_DEVICE: dma_data_direction = dma_data_direction::DMA_FROM_DEVICE;

/// The module of an exporter.
pub(crate) fn exporter_module<M: ModuleMetadata>() -> *mut bindings::module {
    this_module::<M>().as_ptr()
}

/// For `MiscDevice::open`: keeps the module while the file is open.
///
/// # Errors
///
/// [`ENODEV`] where the module is being unloaded, [`EINVAL`] where the file is open already.
pub fn keep_module<T: MiscDevice>(_file: &File, _misc: &MiscDeviceRegistration<T>) -> Result {
    // The kernel crate does so.
    Ok(())
}

#[cfg(cohbuf_test_device)]
mod for_tests {
    use kernel::{
        device::{
            Bound,
            Device, //
        },
        dma::{
            Coherent,
            DmaAddress, //
        },
        faux,
        io::{
            io_project,
            Io, //
        },
        pci,
        prelude::*, //
    };

    /// The device of a registration.
    pub(crate) fn faux_device(registration: &faux::Registration) -> &Device<Bound> {
        let dev: &faux::Device<Bound> = registration.as_ref();

        dev.as_ref()
    }

    /// A BAR that goes with its device.
    pub type DevresBar<const SIZE: usize> = pci::DevresBar<SIZE>;

    /// What the id table has beside an id, as probe gets it.
    pub type IdInfo<'a, T> = Option<&'a T>;

    /// The address at which the device finds the memory.
    pub fn dma_address(memory: &Coherent<[u8]>) -> DmaAddress {
        memory.dma_address()
    }

    /// Copies `data` to the beginning of the memory.
    pub fn copy_in(memory: &mut Coherent<[u8]>, data: &[u8]) -> Result {
        io_project!(&*memory, [try: ..data.len()]).copy_from_slice(data);
        Ok(())
    }

    /// Copies the beginning of the memory to `data`.
    pub fn copy_out(memory: &mut Coherent<[u8]>, data: &mut [u8]) -> Result {
        io_project!(&*memory, [try: ..data.len()]).copy_to_slice(data);
        Ok(())
    }

    /// A table of PCI ids, and its copy for modpost, where it has a name of its own.
    #[macro_export]
    macro_rules! pci_ids {
        ($table:ident, $copy:ident, $info:ty, $ids:tt) => {
            ::kernel::pci_device_table!($table, $info, $ids);
        };
    }
}
#[cfg(cohbuf_test_device)]
pub use for_tests::*;
