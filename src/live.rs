// SPDX-License-Identifier: GPL-2.0

//! The buffers that live, for debugfs.

use dma_buf::static_mutex;
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::stats::Stats;

static_mutex! {
    /// By a number that no other buffer has or had. Nothing else is locked under it, so that
    /// whoever reads it waits for no buffer, whatever becomes of that.
    static LIVE: Option<RBTree<u64, Arc<Stats>>> = None;
}

/// Room for a buffer, so that to list it cannot fail.
pub(crate) struct Room(RBTreeNodeReservation<u64, Arc<Stats>>);

impl Room {
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL)?))
    }
}

/// A buffer that may be listed, and is not any more when this is dropped.
pub(crate) struct Listed(u64);

impl Listed {
    pub(crate) fn new() -> Self {
        static NEXT: Atomic<u64> = Atomic::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }

    /// Lists it.
    pub(crate) fn list(&self, room: Room, stats: Arc<Stats>) {
        let node = room.0.into_node(self.0, stats);
        LIVE.lock().get_or_insert_with(RBTree::new).insert(node);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let gone = LIVE
            .lock()
            .as_mut()
            .and_then(|live| live.remove_node(&self.0));
        // Freed without the lock.
        drop(gone);
    }
}

/// The first buffer of that number or above, with its number.
pub(crate) fn at(number: u64) -> Option<(u64, Arc<Stats>)> {
    let live = LIVE.lock();
    let cursor = live.as_ref()?.cursor_lower_bound(&number)?;
    let (number, stats) = cursor.current();
    Some((*number, stats.clone()))
}
