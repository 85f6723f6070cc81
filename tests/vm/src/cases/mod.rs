// SPDX-License-Identifier: GPL-2.0

//! The tests, by subject.

mod caps;
mod create;

use crate::harness::Suite;

pub(crate) fn all() -> Vec<Suite> {
    vec![caps::SUITE, create::SUITE]
}
