// SPDX-License-Identifier: GPL-2.0

//! The windows that are open: who has begun to access which region, and not ended.

use core::ops::Range;

use dma_buf::address_space;
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    mm::Mm,
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    policy::Access,
    region::Region, //
};

/// Windows of different regions that an address space may have open. Each makes the others slower.
const MOST: usize = 1024;

/// Windows of one region.
struct Window {
    region: Region,
    writes: bool,
    open: usize,
}

impl Window {
    fn is(&self, region: &Region, writes: bool) -> bool {
        self.region == *region && self.writes == writes
    }
}

/// Windows of one address space. Threads share them: one may begin what another ends.
struct Owner {
    /// [`None`]: threads of the kernel.
    mm: Option<ARef<Mm>>,
    windows: KVec<Window>,
}

impl Owner {
    fn is(&self, mm: Option<&Mm>) -> bool {
        self.mm.as_deref().map(Mm::as_raw) == mm.map(Mm::as_raw)
    }

    fn writes(&self) -> bool {
        self.windows.iter().any(|window| window.writes)
    }

    /// Whether the owner may end its windows still.
    fn lives(&self) -> bool {
        self.mm.as_deref().is_none_or(address_space::has_users)
    }
}

/// The windows of a buffer.
pub(crate) struct Windows(KVec<Owner>);

impl Windows {
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    fn writing(&self) -> impl Iterator<Item = &Window> + Clone {
        self.0
            .iter()
            .flat_map(|owner| owner.windows.iter())
            .filter(|window| window.writes)
    }

    /// Whether there is any to write.
    pub(crate) fn any(&self) -> bool {
        self.writing().next().is_some()
    }

    /// How many there are to write.
    pub(crate) fn count(&self) -> usize {
        self.writing().map(|window| window.open).sum()
    }

    /// The regions that the CPU owns; they may overlap.
    pub(crate) fn owned(&self) -> impl Iterator<Item = &Region> + Clone {
        self.writing().map(|window| &window.region)
    }

    /// Makes room for one more, so that [`Windows::open`] cannot fail.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`].
    /// - [`ENOSPC`] where the calling task has too many.
    pub(crate) fn reserve(&mut self, region: &Region, access: Access) -> Result {
        with_current(|mm| {
            let Some(owner) = self.0.iter_mut().find(|owner| owner.is(mm)) else {
                self.0.reserve(1, GFP_KERNEL_ACCOUNT)?;
                let windows = KVec::with_capacity(1, GFP_KERNEL_ACCOUNT)?;
                let mm = mm.map(ARef::from);
                return Ok(self.0.push_within_capacity(Owner { mm, windows })?);
            };
            if owner.windows.iter().any(|w| w.is(region, access.writes())) {
                return Ok(());
            }
            if owner.windows.len() >= MOST {
                return Err(ENOSPC);
            }
            Ok(owner.windows.reserve(1, GFP_KERNEL_ACCOUNT)?)
        })
    }

    /// Opens a window of the calling task.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] where [`Windows::reserve`] was not called.
    pub(crate) fn open(&mut self, region: &Region, access: Access) -> Result {
        let writes = access.writes();
        with_current(|mm| {
            let owner = self.0.iter_mut().find(|owner| owner.is(mm));
            let windows = &mut owner.ok_or(ENOMEM)?.windows;
            if let Some(window) = windows.iter_mut().find(|w| w.is(region, writes)) {
                window.open += 1;
                return Ok(());
            }
            let window = Window {
                region: *region,
                writes,
                open: 1,
            };
            windows.push_within_capacity(window).map_err(|_| ENOMEM)
        })
    }

    /// Ends a window of the calling task: one of that region, or, if it has none, all that lie in
    /// the region.
    pub(crate) fn end(&mut self, region: &Region, access: Access) {
        let writes = access.writes();
        with_current(|mm| {
            let Some(owner) = self.0.iter_mut().find(|owner| owner.is(mm)) else {
                return;
            };
            match owner.windows.iter_mut().find(|w| w.is(region, writes)) {
                Some(window) => {
                    window.open -= 1;
                    owner.windows.retain(|window| window.open > 0);
                }
                None => owner
                    .windows
                    .retain(|window| window.writes != writes || !region.contains(&window.region)),
            }
        });
        self.0.retain(|owner| !owner.windows.is_empty());
    }

    /// Whether an address space has any to write.
    pub(crate) fn any_of(&self, mm: &Mm) -> bool {
        self.0
            .iter()
            .any(|owner| owner.is(Some(mm)) && owner.writes())
    }

    /// Whether an address space may access some of those bytes, by a window that has one of them.
    pub(crate) fn allows(&self, mm: &Mm, bytes: &Range<usize>, writes: bool) -> bool {
        self.0
            .iter()
            .filter(|owner| owner.is(Some(mm)))
            .flat_map(|owner| owner.windows.iter())
            .any(|window| (window.writes || !writes) && window.region.touches(bytes))
    }

    /// Forgets those that nobody can end any more. Returns whether there were any to write.
    pub(crate) fn forget_dead(&mut self) -> bool {
        self.keep(|owner| owner.lives())
    }

    /// The same, but for those of `mm`.
    pub(crate) fn forget_dead_but(&mut self, mm: &Mm) -> bool {
        self.keep(|owner| owner.is(Some(mm)) || owner.lives())
    }

    /// Returns whether any of the others was to write.
    fn keep(&mut self, kept: impl Fn(&Owner) -> bool) -> bool {
        let mut wrote = false;
        self.0.retain(|owner| {
            let keeps = kept(owner);
            wrote |= !keeps && owner.writes();
            keeps
        });
        wrote
    }
}

/// Calls `f` with the address space of the calling task.
fn with_current<R>(f: impl FnOnce(Option<&Mm>) -> R) -> R {
    let task = kernel::current!();
    f(task.mm().map(|mm| &**mm))
}
