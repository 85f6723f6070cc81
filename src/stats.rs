// SPDX-License-Identifier: GPL-2.0

//! What has happened to a buffer since it was made.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// Counters from 0. Each is exact; together they are no snapshot.
pub(crate) struct Stats {
    refused_attach: Atomic<u64>,
    refused_map: Atomic<u64>,
    syncs_for_cpu: Atomic<u64>,
    syncs_for_device: Atomic<u64>,
}

impl Stats {
    pub(crate) const fn new() -> Self {
        Self {
            refused_attach: Atomic::new(0),
            refused_map: Atomic::new(0),
            syncs_for_cpu: Atomic::new(0),
            syncs_for_device: Atomic::new(0),
        }
    }

    pub(crate) fn attach_refused(&self) {
        self.refused_attach.add(1, Relaxed);
    }

    pub(crate) fn map_refused(&self) {
        self.refused_map.add(1, Relaxed);
    }

    pub(crate) fn synced_for_cpu(&self) {
        self.syncs_for_cpu.add(1, Relaxed);
    }

    pub(crate) fn synced_for_device(&self) {
        self.syncs_for_device.add(1, Relaxed);
    }

    /// Attachments refused.
    pub(crate) fn refused_attach(&self) -> u64 {
        self.refused_attach.load(Relaxed)
    }

    /// Mappings refused.
    pub(crate) fn refused_map(&self) -> u64 {
        self.refused_map.load(Relaxed)
    }

    /// Passes over a mapping for the CPU.
    pub(crate) fn syncs_for_cpu(&self) -> u64 {
        self.syncs_for_cpu.load(Relaxed)
    }

    /// Passes over a mapping for a device.
    pub(crate) fn syncs_for_device(&self) -> u64 {
        self.syncs_for_device.load(Relaxed)
    }
}
