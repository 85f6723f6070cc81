// SPDX-License-Identifier: GPL-2.0

//! The fences of a reservation object, by who has added them.

use crate::direction::CpuAccess;

/// Fences that somebody has to wait for (`dma_resv_usage_rw()`). Kernel-internal moves of the memory
/// are among both.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fences {
    /// Those of writers: for who reads.
    Writers,
    /// Those of readers as well: for who writes.
    All,
}

impl From<CpuAccess> for Fences {
    /// Before a read those of writers, before a write all, as the 2013 mail has it.
    fn from(access: CpuAccess) -> Self {
        if access.writes() {
            Fences::All
        } else {
            Fences::Writers
        }
    }
}
