// SPDX-License-Identifier: GPL-2.0

//! The buffers that live, for debugfs.

use dma_buf::{
    roll,
    roll::{
        Entry,
        NewEntry, //
    },
    static_mutex, //
};

use crate::stats::Stats;

roll! {
    /// In the order in which they were made, unless some are made while they are gone through.
    /// Nothing else is locked under it, so that whoever reads it waits for no buffer, whatever becomes
    /// of that.
    static LIVE: Roll<Stats>;
}

static_mutex! {
    /// Whoever goes through them. Nobody else waits for it.
    static READER: () = ();
}

/// Lists a buffer, until [`unlist`].
pub(crate) fn list(new: NewEntry<Stats>) {
    LIVE.lock().insert(new);
}

/// It is not listed any more, if it was.
pub(crate) fn unlist(stats: &Entry<Stats>) {
    LIVE.lock().remove(stats);
}

/// Calls `f` for each buffer that lives all the time, and for some that come or go meanwhile: once.
pub(crate) fn for_each(mut f: impl FnMut(&Stats)) {
    let _alone = READER.lock();
    let next = || LIVE.lock().next();
    LIVE.lock().begin();
    while let Some(stats) = next() {
        f(&stats);
    }
}
