// SPDX-License-Identifier: GPL-2.0

//! The KUnit tests of cohbuf: the same sources as in `cohbuf.ko`, and the suites.
//!
//! They run when the module is loaded into a kernel with `CONFIG_KUNIT=y`.

#![crate_name = "cohbuf_kunit"]
#![deny(unsafe_code)]

use dma_buf::slab::Cache;
use kernel::prelude::*;

#[path = "../../src/buffer.rs"]
mod buffer;
#[path = "../../src/coherency.rs"]
mod coherency;
#[path = "../../src/copies.rs"]
mod copies;
#[path = "../../src/copy.rs"]
mod copy;
#[path = "../../src/copy_plan.rs"]
mod copy_plan;
// What debugfs alone reads is of no use here.
#[allow(dead_code)]
#[path = "../../src/cost.rs"]
mod cost;
#[path = "../../src/enforcement.rs"]
mod enforcement;
#[path = "../../src/fencing.rs"]
mod fencing;
#[path = "../../src/importer.rs"]
mod importer;
// What debugfs alone reads is of no use here.
#[allow(dead_code)]
#[path = "../../src/ioctl/mod.rs"]
mod ioctl;
// What debugfs alone reads is of no use here.
#[allow(dead_code)]
#[path = "../../src/live.rs"]
mod live;
#[path = "../../src/maintenance.rs"]
mod maintenance;
#[path = "../../src/plan.rs"]
mod plan;
#[path = "../../src/policy.rs"]
mod policy;
#[path = "../../src/quick.rs"]
mod quick;
#[path = "../../src/region.rs"]
mod region;
// What debugfs alone reads is of no use here.
#[allow(dead_code)]
#[path = "../../src/stats.rs"]
mod stats;
#[path = "../../src/tracing.rs"]
mod tracing;
#[path = "../../src/windows.rs"]
mod windows;

mod attach_kunit;
mod copy_kunit;
mod cpu_access_kunit;
mod device_sync_kunit;
mod dirty_kunit;
mod enforcement_kunit;
mod fixture;
mod ioctl_kunit;
mod lifetime_kunit;
mod map_kunit;
mod models_kunit;
mod regions_kunit;
mod roll_kunit;

use buffer::CohBuf;

module! {
    type: CohbufKunit,
    name: "cohbuf_kunit",
    authors: ["The cohbuf developers"],
    description: "KUnit tests of cohbuf",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

struct CohbufKunit {
    _cache: Cache<CohBuf>,
}

impl kernel::Module for CohbufKunit {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _cache: Cache::new()?,
        })
    }
}
