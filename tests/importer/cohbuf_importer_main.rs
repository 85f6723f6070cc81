// SPDX-License-Identifier: GPL-2.0

//! An importer of dma-bufs for the tests and the demo of cohbuf, driven by ioctls.
//!
//! Its devices are QEMU's `edu`, any number of it, which does real DMA; two without hardware that
//! access nothing, of which one is DMA-coherent and the other is not; and model devices, which lose
//! data where a sync is missing. Interface: `cohbuf_test.h`.

#![crate_name = "cohbuf_importer"]
#![deny(unsafe_code)]

mod devices;
mod edu;
mod session;
mod uapi;

use dma_buf::{
    compat,
    test_models::CacheModel, //
};
use kernel::{
    driver,
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    pci,
    prelude::*, //
};

use crate::{
    devices::{
        ModelDevices,
        SoftDevice, //
    },
    edu::EduDriver,
    session::Session,
    uapi::Kind, //
};

module! {
    type: Importer,
    name: "cohbuf_importer",
    authors: ["The cohbuf developers"],
    description: "dma-buf importer to test cohbuf with",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
    params: {
        models: u8 {
            default: 1,
            description: "Make the model devices. Without, nothing slows down cache maintenance",
        },
    },
}

#[pin_data]
struct Importer {
    // Fields drop in this order: first nobody comes in, then the devices go.
    #[pin]
    _misc: MiscDeviceRegistration<Session>,
    #[pin]
    _edu: driver::Registration<pci::Adapter<EduDriver>>,
    _coherent: SoftDevice,
    _noncoherent: SoftDevice,
    _models: ModelDevices,
    _cache: Option<CacheModel>,
}

impl kernel::InPlaceModule for Importer {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let models = compat::is_set(module_parameters::models.value());

        try_pin_init!(Self {
            _cache: models.then(CacheModel::start).transpose()?,
            _models: if models {
                ModelDevices::new()?
            } else {
                ModelDevices::none()
            },
            _coherent: SoftDevice::new(Kind::Coherent, c"cohbuf-coherent")?,
            _noncoherent: SoftDevice::new(Kind::NonCoherent, c"cohbuf-noncoherent")?,
            _edu <- driver::Registration::new(c"cohbuf_importer", module),
            _misc <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"cohbuf_importer",
            }),
        })
    }
}
