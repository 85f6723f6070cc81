// SPDX-License-Identifier: GPL-2.0

//! The pure policy of the module, as the module compiles it, against a model of memory, caches and
//! devices.

mod broken_rules;
mod driver;
mod memory;
mod mixes;
#[path = "../../../../src/policy.rs"]
mod policy;
mod random;
mod refusals;
mod rules;
mod sequences;
