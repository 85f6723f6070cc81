// SPDX-License-Identifier: GPL-2.0

//! What a buffer is, and what has happened to it since it was made: what can be told without its
//! lock. Whoever tells it of all buffers has the lock of their list: none goes meanwhile.

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    }, //
};

use crate::{
    buffer::Purpose,
    cost::Cost,
    quick::Quick, //
};

/// Adds to what others read meanwhile, and nobody else changes: with the reservation lock.
#[inline(always)]
fn add(to: &Atomic<u64>, more: u64) {
    to.store(to.load(Relaxed).wrapping_add(more), Relaxed);
}

/// Counters from 0. Each is exact; together they are no snapshot.
pub(crate) struct Stats {
    purpose: Purpose,
    size: usize,
    segments: usize,
    /// The inode number of the dma-buf, once there is one.
    ino: Atomic<c_ulong>,
    refused_attach: Atomic<u64>,
    refused_map: Atomic<u64>,
    syncs_for_cpu: Atomic<u64>,
    syncs_for_device: Atomic<u64>,
    attachments: Atomic<i32>,
    mappings: Atomic<i32>,
    /// How many write windows there may be. Changed under the reservation lock.
    write_windows: Atomic<u32>,
    /// Has one more.
    quick: Quick,
    /// Likewise, as in [`Cost`].
    cost: [Atomic<u64>; 6],
    poisoned: Atomic<bool>,
    outside_reads: Atomic<u64>,
    outside_writes: Atomic<u64>,
}

impl Stats {
    pub(crate) fn new(purpose: Purpose, size: usize, segments: usize) -> impl Init<Self> {
        init!(Self {
            purpose,
            size,
            segments,
            ino: Atomic::new(0),
            refused_attach: Atomic::new(0),
            refused_map: Atomic::new(0),
            syncs_for_cpu: Atomic::new(0),
            syncs_for_device: Atomic::new(0),
            attachments: Atomic::new(0),
            mappings: Atomic::new(0),
            write_windows: Atomic::new(0),
            quick: Quick::new(),
            cost: [const { Atomic::new(0) }; 6],
            poisoned: Atomic::new(false),
            outside_reads: Atomic::new(0),
            outside_writes: Atomic::new(0),
        })
    }

    /// It is a dma-buf now.
    pub(crate) fn set_ino(&self, ino: c_ulong) {
        self.ino.store(ino, Relaxed);
    }

    /// 0 where there is no dma-buf yet.
    pub(crate) fn ino(&self) -> c_ulong {
        self.ino.load(Relaxed)
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Physically contiguous pieces.
    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    pub(crate) fn attach_refused(&self) {
        self.refused_attach.add(1, Relaxed);
    }

    pub(crate) fn map_refused(&self) {
        self.refused_map.add(1, Relaxed);
    }

    /// With the reservation lock.
    pub(crate) fn synced_for_cpu(&self) {
        add(&self.syncs_for_cpu, 1);
    }

    /// With the reservation lock.
    pub(crate) fn synced_for_device(&self) {
        add(&self.syncs_for_device, 1);
    }

    pub(crate) fn attached(&self) {
        self.attachments.add(1, Relaxed);
    }

    pub(crate) fn detached(&self) {
        self.attachments.add(-1, Relaxed);
    }

    pub(crate) fn mapped(&self) {
        self.mappings.add(1, Relaxed);
    }

    pub(crate) fn unmapped(&self) {
        self.mappings.add(-1, Relaxed);
    }

    /// With the reservation lock.
    pub(crate) fn set_write_windows(&self, count: usize) {
        self.write_windows
            .store(u32::try_from(count).unwrap_or(u32::MAX), Release);
    }

    /// Adds to what maintenance has cost. With the reservation lock.
    #[inline(always)]
    pub(crate) fn charge(&self, cost: &Cost) {
        // Most are none.
        let add = |to, bytes| {
            if bytes != 0 {
                add(to, bytes);
            }
        };
        let [cleaned, invalidated, to_copies, from_copies, own_ops, saved] = &self.cost;
        add(cleaned, cost.cleaned);
        add(invalidated, cost.invalidated);
        add(to_copies, cost.to_copies);
        add(from_copies, cost.from_copies);
        add(own_ops, cost.own_ops);
        add(saved, cost.saved);
    }

    /// From now on.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Release);
    }

    pub(crate) fn outside(&self, write: bool) {
        match write {
            true => self.outside_writes.add(1, Relaxed),
            false => self.outside_reads.add(1, Relaxed),
        }
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

    /// Attachments now.
    pub(crate) fn attachments(&self) -> i32 {
        self.attachments.load(Relaxed)
    }

    /// Mappings that they hold now.
    pub(crate) fn mappings(&self) -> i32 {
        self.mappings.load(Relaxed)
    }

    /// Write windows; some may be gone already.
    pub(crate) fn write_windows(&self) -> u32 {
        // In this order: one that is not in the one any more is in the other.
        let quick = u32::from(self.quick.is_open());
        self.write_windows.load(Acquire).saturating_add(quick)
    }

    pub(crate) fn quick(&self) -> &Quick {
        &self.quick
    }

    /// What maintenance has cost. With the reservation lock, all of it until now.
    pub(crate) fn cost(&self) -> Cost {
        Cost::of(self.cost.each_ref().map(|bytes| bytes.load(Relaxed)))
    }

    /// What it has cost since it was `before`: nothing, where nobody has asked then. With the
    /// reservation lock.
    pub(crate) fn cost_since(&self, before: Option<Cost>) -> Cost {
        before.map_or_else(Cost::default, |before| self.cost() - before)
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Acquire)
    }

    /// Reads outside of a window.
    pub(crate) fn outside_reads(&self) -> u64 {
        self.outside_reads.load(Relaxed)
    }

    /// Writes outside of a window that says WRITE.
    pub(crate) fn outside_writes(&self) -> u64 {
        self.outside_writes.load(Relaxed)
    }
}
