// SPDX-License-Identifier: GPL-2.0

//! The devices that can be an importer.

use dma_buf::{
    static_mutex,
    test_device::TestDevice,
    Port, //
};
use kernel::{
    dma::DmaMask,
    prelude::*,
    sync::Arc, //
};

use crate::{
    edu::Edu,
    uapi::Kind, //
};

/// A device, with its DMA engine where it has one.
pub(crate) type DevicePort = Port<Option<Edu>>;

static_mutex! {
    /// All devices, in the order in which they were found.
    static DEVICES: KVec<(Kind, Arc<DevicePort>)> = KVec::new();
}

/// Returns the device of that kind and index, `ENODEV` where there is none.
pub(crate) fn find(kind: Kind, index: u32) -> Result<Arc<DevicePort>> {
    let index = usize::try_from(index)?;

    DEVICES
        .lock()
        .iter()
        .filter(|(of_kind, _)| *of_kind == kind)
        .nth(index)
        .map(|(_, port)| port.clone())
        .ok_or(ENODEV)
}

/// A device that [`find`] finds. Dropping it ends that.
pub(crate) struct Registered(Arc<DevicePort>);

impl Registered {
    pub(crate) fn new(kind: Kind, port: Arc<DevicePort>) -> Result<Self> {
        DEVICES.lock().push((kind, port.clone()), GFP_KERNEL)?;
        Ok(Self(port))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut devices = DEVICES.lock();

        devices.retain(|(_, port)| !Arc::ptr_eq(port, &self.0));
        if devices.is_empty() {
            // Nobody drops a static when the module goes: give the memory back now.
            *devices = KVec::new();
        }
    }
}

/// A device without hardware.
pub(crate) struct SoftDevice {
    // Fields drop in this order: nobody finds the device when it goes.
    _registered: Registered,
    _dev: TestDevice,
}

impl SoftDevice {
    pub(crate) fn new(kind: Kind, name: &CStr) -> Result<Self> {
        let dev = TestDevice::new(name, DmaMask::new::<64>(), kind == Kind::Coherent)?;
        let registered = Registered::new(kind, Port::new(dev.as_ref(), None)?)?;

        Ok(Self {
            _registered: registered,
            _dev: dev,
        })
    }
}
