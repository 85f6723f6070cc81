// SPDX-License-Identifier: GPL-2.0

//! One attachment: what is kept for it.

use dma_buf::{
    roll::Entry,
    trace, //
};

use crate::{
    fencing::Autofence,
    stats::Stats, //
};

/// Dropped when it detaches.
pub(crate) struct Importer {
    pub(crate) autofence: Autofence,
    number: u32,
    stats: Entry<Stats>,
}

impl Importer {
    /// Attaches. `number`: no other attachment of the buffer has or had it.
    pub(crate) fn new(number: u32, autofence: bool, stats: &Entry<Stats>) -> Self {
        stats.attached();
        Self {
            autofence: Autofence::new(autofence),
            number,
            stats: stats.clone(),
        }
    }

    /// By which trace events know it.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        self.stats.detached();
        trace::detach(self.stats.ino(), self.number);
    }
}
