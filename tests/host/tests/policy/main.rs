// SPDX-License-Identifier: GPL-2.0

//! The pure policy of the module, as the module compiles it, against a model of memory, caches and
//! devices.

mod broken_rules;
mod driver;
mod enforcement;
mod memory;
mod mixes;
mod parts;
#[path = "../../../../src/plan.rs"]
mod plan;
mod plans;
#[path = "../../../../src/policy.rs"]
mod policy;
mod quick;
mod random;
mod refusals;
#[path = "../../../../src/region.rs"]
mod region;
mod regions;
mod rules;
mod sequences;
mod windows;
mod written;

/// A test that fails prints its case, and leaves no file.
fn cases(cases: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig {
        cases,
        failure_persistence: None,
        ..Default::default()
    }
}
