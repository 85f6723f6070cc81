// SPDX-License-Identifier: GPL-2.0

//! The devices that can be an importer.

use dma_buf::{
    compat::EOPNOTSUPP,
    static_mutex,
    test_device::TestDevice,
    test_models::{
        ModelDevice,
        ModelKind, //
    },
    Port, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DmaMask,
    prelude::*,
    str::CString,
    sync::Arc, //
};

use crate::{
    edu::Edu,
    uapi::Kind, //
};

/// What moves the bytes of a device.
pub(crate) enum Engine {
    /// Nothing.
    None,
    /// The hardware.
    Edu(Edu),
    /// The kernel, in the device's place.
    Model,
}

/// A device, with its DMA engine.
pub(crate) type DevicePort = Port<Engine>;

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

/// Returns how many devices of that kind there are.
pub(crate) fn count(kind: Kind) -> usize {
    let of_kind = |(of_kind, _): &&(Kind, Arc<DevicePort>)| *of_kind == kind;

    DEVICES.lock().iter().filter(of_kind).count()
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
pub(crate) struct SoftDevice<D = TestDevice> {
    // Fields drop in this order: nobody finds the device when it goes.
    _registered: Registered,
    _dev: D,
}

impl<D: AsRef<Device<Bound>>> SoftDevice<D> {
    fn register(kind: Kind, dev: D, engine: Engine) -> Result<Self> {
        let registered = Registered::new(kind, Port::new(dev.as_ref(), engine)?)?;

        Ok(Self {
            _registered: registered,
            _dev: dev,
        })
    }
}

impl SoftDevice {
    /// One that accesses nothing.
    pub(crate) fn new(kind: Kind, name: &CStr) -> Result<Self> {
        let dev = TestDevice::new(name, DmaMask::new::<64>(), kind == Kind::Coherent)?;

        Self::register(kind, dev, Engine::None)
    }
}

/// How many there are of each model.
const MODELS: u32 = 4;

/// The model devices.
pub(crate) struct ModelDevices(KVec<SoftDevice<ModelDevice>>);

impl ModelDevices {
    pub(crate) fn none() -> Self {
        Self(KVec::new())
    }

    /// Makes those that the kernel can have.
    pub(crate) fn new() -> Result<Self> {
        let mut devices = KVec::new();

        for (kind, name) in [
            (ModelKind::Bounce, "bounce-model"),
            (ModelKind::Cache, "cache-model"),
            (ModelKind::CacheMerged, "cache-model-merged"),
            (ModelKind::Direct, "direct-model"),
            (ModelKind::Snoop, "snoop-model"),
            (ModelKind::Bounced, "bounced-model"),
        ] {
            for index in 0..MODELS {
                let name = CString::try_from_fmt(fmt!("cohbuf-{name}-{index}"))?;
                let dev = match ModelDevice::new(&name, kind) {
                    Err(EOPNOTSUPP) => break,
                    result => result?,
                };
                let device = SoftDevice::register(Kind::Model(kind), dev, Engine::Model)?;

                devices.push(device, GFP_KERNEL)?;
            }
        }
        Ok(Self(devices))
    }
}

impl Drop for ModelDevices {
    fn drop(&mut self) {
        // The last one made goes first, as modules do it.
        while self.0.pop().is_some() {}
    }
}
