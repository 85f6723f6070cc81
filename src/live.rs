// SPDX-License-Identifier: GPL-2.0

//! The buffers that live, for debugfs.

use dma_buf::{
    cpu_access::cond_resched,
    roll,
    static_mutex, //
};

use crate::stats::Stats;

roll! {
    /// In the order in which they were made, unless some are made while they are gone through: each
    /// from when it is a dma-buf until it goes. Nothing else is locked under it, so that whoever reads
    /// it waits for no buffer, whatever becomes of that.
    pub(crate) static LIVE: Roll<Stats>;
}

static_mutex! {
    /// Whoever goes through them. Nobody else waits for it.
    static READER: () = ();
}

/// Calls `f` for each buffer that lives all the time, and for some that come or go meanwhile: once.
/// Nobody makes a buffer, or drops one, while `f` is at it.
pub(crate) fn for_each(mut f: impl FnMut(&Stats)) {
    let _alone = READER.lock();
    LIVE.lock().begin();
    while LIVE.lock().next(&mut f) {
        cond_resched();
    }
}
