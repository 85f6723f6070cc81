// SPDX-License-Identifier: GPL-2.0

//! The write windows that are open: who has begun to write, and not ended.

use dma_buf::address_space;
use kernel::{
    mm::Mm,
    prelude::*,
    sync::aref::ARef, //
};

/// Windows of one address space. Threads share them: one may begin what another ends.
struct Owner {
    /// [`None`]: threads of the kernel.
    mm: Option<ARef<Mm>>,
    open: usize,
}

impl Owner {
    fn is(&self, mm: Option<&Mm>) -> bool {
        self.mm.as_deref().map(Mm::as_raw) == mm.map(Mm::as_raw)
    }

    /// Whether the owner may end its windows still.
    fn lives(&self) -> bool {
        self.mm.as_deref().is_none_or(address_space::has_users)
    }
}

/// The write windows of a buffer.
pub(crate) struct Windows(KVec<Owner>);

impl Windows {
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|owner| owner.open).sum()
    }

    /// Makes room for one more, so that [`Windows::open`] cannot fail.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub(crate) fn reserve(&mut self) -> Result {
        Ok(self.0.reserve(1, GFP_KERNEL)?)
    }

    /// Opens a window of the calling task.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] where [`Windows::reserve`] was not called.
    pub(crate) fn open(&mut self) -> Result {
        with_current(|mm| {
            if let Some(owner) = self.0.iter_mut().find(|owner| owner.is(mm)) {
                owner.open += 1;
                return Ok(());
            }
            let owner = Owner {
                mm: mm.map(ARef::from),
                open: 1,
            };
            self.0.push_within_capacity(owner).map_err(|_| ENOMEM)
        })
    }

    /// Ends a window of the calling task, where it has one.
    pub(crate) fn end(&mut self) {
        with_current(|mm| {
            if let Some(owner) = self.0.iter_mut().find(|owner| owner.is(mm)) {
                owner.open -= 1;
            }
        });
        self.0.retain(|owner| owner.open > 0);
    }

    /// Whether an address space has any.
    pub(crate) fn any_of(&self, mm: &Mm) -> bool {
        self.0.iter().any(|owner| owner.is(Some(mm)))
    }

    /// Forgets those that nobody can end any more. Returns whether there were any.
    pub(crate) fn forget_dead(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|owner| owner.lives());
        self.0.len() < before
    }
}

/// Calls `f` with the address space of the calling task.
fn with_current<R>(f: impl FnOnce(Option<&Mm>) -> R) -> R {
    let task = kernel::current!();
    f(task.mm().map(|mm| &**mm))
}
