// SPDX-License-Identifier: GPL-2.0

//! The tests, by subject.

mod autofence;
mod caps;
mod cohbufctl;
mod contiguous;
mod contract;
mod copy;
mod copy_limits;
mod create;
mod data;
mod debugfs;
mod device_sync;
mod dirty;
mod enforce;
mod enforce_cost;
mod examples;
mod faults;
mod fences;
mod heap_clients;
mod heaps;
mod idle;
mod importers;
mod info;
mod iommu;
mod lifetime;
mod limits;
mod memory;
mod mixes;
mod models;
mod new_memory;
mod poison;
mod query;
mod quick;
mod regions;
mod share;
mod stock;
mod stress;
mod sync;
mod terminal;
mod trace_command;
mod trace_events;
mod views;
mod windows;
mod write_combine;

use crate::harness::Suite;

pub(crate) fn all() -> Vec<Suite> {
    vec![
        caps::SUITE,
        create::SUITE,
        memory::SUITE,
        limits::SUITE,
        sync::SUITE,
        importers::SUITE,
        stock::SUITE,
        data::SUITE,
        fences::SUITE,
        query::SUITE,
        quick::SUITE,
        device_sync::SUITE,
        autofence::SUITE,
        models::SUITE,
        contract::SUITE,
        copy::SUITE,
        copy_limits::SUITE,
        mixes::SUITE,
        new_memory::SUITE,
        idle::SUITE,
        windows::SUITE,
        write_combine::SUITE,
        enforce::SUITE,
        poison::SUITE,
        enforce_cost::SUITE,
        contiguous::SUITE,
        heaps::SUITE,
        heap_clients::SUITE,
        iommu::SUITE,
        share::SUITE,
        regions::SUITE,
        views::SUITE,
        examples::SUITE,
        cohbufctl::SUITE,
        terminal::SUITE,
        dirty::SUITE,
        info::SUITE,
        trace_events::SUITE,
        trace_command::SUITE,
        debugfs::SUITE,
        stress::SUITE,
        faults::SUITE,
        // Unloads the module, so it comes last.
        lifetime::SUITE,
    ]
}
