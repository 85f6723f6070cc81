// SPDX-License-Identifier: GPL-2.0

//! The pure policy of the module, as the module compiles it, against a model of memory, caches and
//! devices.

mod driver;
mod memory;
//mod mixes;
#[path = "../../../../src/policy.rs"]
mod policy;
mod random;
mod rules;
mod sequences;
