// SPDX-License-Identifier: GPL-2.0

//! Who waits for which fences (R6). CPU access always waits, see `buffer.rs`.

use dma_buf::Fences;
use kernel::{
    dma::DataDirection,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Whether the exporter waits for fences in the place of an importer.
pub(crate) struct Autofence(Atomic<bool>);

impl Autofence {
    pub(crate) fn new(on: bool) -> Self {
        Self(Atomic::new(on))
    }

    /// It is for the importer to order this with what it calls.
    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Before a device begins. One that only reads waits for those that write; one that writes for
/// those that read, too.
pub(crate) fn before_device(dir: DataDirection) -> Fences {
    match dir {
        DataDirection::ToDevice => Fences::Writers,
        _ => Fences::All,
    }
}

/// Before what a device wrote is taken over. One that only reads has nothing to take.
pub(crate) fn before_cpu(dir: DataDirection) -> Option<Fences> {
    match dir {
        DataDirection::ToDevice => None,
        _ => Some(Fences::Writers),
    }
}

/// Before a mapping goes. The fence of its own device must be among them, and nobody can tell which
/// one that is.
pub(crate) fn before_unmap(dir: DataDirection) -> Fences {
    match dir {
        DataDirection::FromDevice => Fences::Writers,
        _ => Fences::All,
    }
}
