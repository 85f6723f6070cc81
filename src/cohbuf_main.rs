// SPDX-License-Identifier: GPL-2.0

//! cohbuf: a dma-buf exporter that knows which device can see what.

#![crate_name = "cohbuf"]
#![deny(unsafe_code)]

use dma_buf::{
    debugfs::File,
    heap,
    slab::Cache, //
};
use kernel::{
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*, //
};

#[cfg(doc)]
mod argument;
mod buffer;
mod coherency;
mod copies;
mod copy;
mod copy_plan;
mod cost;
mod debugfs;
mod enforcement;
mod fencing;
mod heaps;
mod importer;
mod ioctl;
mod live;
mod maintenance;
mod plan;
mod policy;
mod quick;
mod region;
mod stats;
mod tracing;
mod windows;

use buffer::CohBuf;

module! {
    type: CohbufModule,
    name: "cohbuf",
    authors: ["The cohbuf developers"],
    description: "Coherency-aware dma-buf exporter",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

/// The module while it is loaded.
#[pin_data]
struct CohbufModule {
    #[pin]
    misc: MiscDeviceRegistration<ioctl::Device>,
    _heaps: heap::Registration,
    _buffers: File<debugfs::Buffers>,
    /// Last: of those above whoever makes buffers is gone before it.
    _cache: Cache<CohBuf>,
}

impl kernel::InPlaceModule for CohbufModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _cache: Cache::new()?,
            misc <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"cohbuf" }),
            _heaps: heap::Registration::new::<heaps::Heaps>()?,
            _buffers: File::new(),
        })
    }
}
