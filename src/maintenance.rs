// SPDX-License-Identifier: GPL-2.0

//! Carries out on the mappings of a buffer what the policy says, under the reservation lock.

use dma_buf::{
    Locked,
    Mapping, //
};
use kernel::{
    dma::DataDirection,
    prelude::*, //
};

use crate::{
    buffer::CohBuf,
    copies::{
        Base,
        Merge, //
    },
    policy::{
        self,
        Access,
        Direction,
        Mapped,
        Reach,
        Step,
        Unmap, //
    },
    windows::Windows, //
};

/// What is kept for a buffer under the reservation lock.
pub(crate) struct State {
    pub(crate) windows: Windows,
    /// Besides `windows`. [dirty]
    dirty: bool,
    /// There while a mapping has a base.
    merge: Option<Merge>,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            windows: Windows::new(),
            dirty: policy::State::NEW.dirty,
            merge: None,
        }
    }

    fn of_policy(&self) -> policy::State {
        policy::State {
            dirty: self.dirty,
            writing: self.windows.any(),
        }
    }
}

type LockedBuf<'a> = Locked<'a, CohBuf>;

pub(crate) fn reach_of(mapping: &Mapping<'_>) -> Reach {
    match mapping.reach() {
        dma_buf::Reach::Snooping => Reach::Snooping,
        dma_buf::Reach::Direct => Reach::Direct,
        dma_buf::Reach::Iommu => Reach::Iommu,
        dma_buf::Reach::Bounced => Reach::Bounced,
        dma_buf::Reach::Unknown => Reach::Unknown,
    }
}

fn mapped_as(mapping: &Mapping<'_>) -> Mapped {
    Mapped {
        reach: reach_of(mapping),
        dir: match mapping.direction() {
            DataDirection::ToDevice => Direction::ToDevice,
            DataDirection::FromDevice => Direction::FromDevice,
            // No mapping has none.
            DataDirection::Bidirectional | DataDirection::None => Direction::Bidirectional,
        },
    }
}

fn list<'a>(locked: &'a LockedBuf<'_>) -> impl Iterator<Item = Mapped> + Clone + 'a {
    locked.mappings().map(|(mapping, _)| mapped_as(mapping))
}

/// Whether copies are fetched byte by byte.
fn is_contested(locked: &LockedBuf<'_>) -> bool {
    locked.mappings().any(|(_, base)| base.is_some())
}

/// Does one step.
fn carry_out(locked: &LockedBuf<'_>, step: Step) {
    let (Step::ForCpu(index) | Step::ForDevice(index)) = step;
    // The policy numbers what it was given.
    let Some((mapping, _)) = locked.mappings().nth(index) else {
        return;
    };
    match step {
        Step::ForCpu(_) => {
            mapping.sync_for_cpu();
            locked.stats().synced_for_cpu();
        }
        Step::ForDevice(_) => {
            mapping.sync_for_device();
            locked.stats().synced_for_device();
        }
    }
}

/// After `new` was mapped, which is not in the list yet. Returns what is kept with it.
///
/// # Errors
///
/// [`ENOMEM`]; nothing has changed.
pub(crate) fn mapped(locked: &mut LockedBuf<'_>, new: &Mapping<'_>) -> Result<Base> {
    let kind = locked.kind();
    let pages = locked.buffer().pages().clone();
    let of_new = mapped_as(new);
    let all = Iterator::chain(list(locked), core::iter::once(of_new));
    let contested = policy::is_contested(kind, all.clone());
    let next = policy::mapped(locked.state().of_policy(), of_new, all);

    let mut base = Base::none();
    if contested {
        // First what can fail.
        let mut bases = KVec::new();
        for _ in list(locked).filter(|m| m.is_copy_writer()) {
            bases.push(Base::alloc(pages.size())?, GFP_KERNEL)?;
        }
        if of_new.is_copy_writer() {
            base = Base::alloc(pages.size())?;
        }
        if locked.state().merge.is_none() {
            locked.state_mut().merge = Some(Merge::alloc(pages.size())?);
        }
        // The new copy was made just now; those before it are fetched after that.
        base.is_now(&pages);
        let writing = locked.state().windows.any();
        let mut fetched = false;
        for (mapping, base) in locked.mappings_mut() {
            if !mapped_as(mapping).is_copy_writer() || base.is_some() {
                continue;
            }
            if let Some(room) = bases.pop() {
                *base = room;
            }
            // In a write window its device does not write, and the end of the window makes the
            // base anew.
            if !writing {
                mapping.sync_for_cpu();
                fetched = true;
            }
            base.is_now(&pages);
        }
        locked.state_mut().dirty = policy::fetched(next, fetched).dirty;
    } else {
        locked.state_mut().dirty = next.dirty;
    }
    Ok(base)
}

/// Takes `old` away, which is not in the list any more.
pub(crate) fn unmap(locked: &mut LockedBuf<'_>, old: Mapping<'_>, mut base: Base) {
    let of_old = mapped_as(&old);
    let (how, next) = policy::unmap(
        locked.kind(),
        locked.state().of_policy(),
        of_old,
        list(locked),
    );
    locked.state_mut().dirty = next.dirty;
    match how {
        Unmap::Discard => old.discard(),
        Unmap::CleanAndSync => {
            old.sync_for_device();
            old.unmap();
        }
        Unmap::Sync if base.is_some() => {
            let pages = locked.buffer().pages().clone();
            if let Some(merge) = &mut locked.state_mut().merge {
                merge.begin(&pages);
                old.unmap();
                merge.take(&pages, &mut base);
                merge.finish(&pages);
            }
        }
        Unmap::Sync => old.unmap(),
    }
    if !is_contested(locked) {
        locked.state_mut().merge = None;
    }
}

/// What `begin_cpu_access` does once the fences have signalled.
pub(crate) fn begin(locked: &mut LockedBuf<'_>) {
    let state = locked.state().of_policy();
    let contested = is_contested(locked);
    let next = policy::begin(locked.kind(), state, contested, list(locked), |step| {
        carry_out(locked, step)
    });
    locked.state_mut().dirty = next.dirty;
    if contested && !state.writing {
        fetch(locked);
    }
}

/// Fetches the copies, byte by byte.
fn fetch(locked: &mut LockedBuf<'_>) {
    let pages = locked.buffer().pages().clone();
    let Some(mut merge) = locked.state_mut().merge.take() else {
        return;
    };
    merge.begin(&pages);
    let mut for_cpu = 0;
    for (mapping, base) in locked.mappings_mut().filter(|(_, base)| base.is_some()) {
        mapping.sync_for_cpu();
        merge.take(&pages, base);
        for_cpu += 1;
    }
    let changed = merge.finish(&pages);
    // A copy that lacks what another device wrote gets it: if its own device then writes the very
    // byte that the copy had, it must show.
    let mut for_device = 0;
    for (mapping, base) in locked.mappings_mut() {
        if merge.is_news(base) {
            mapping.sync_for_device();
            for_device += 1;
        }
    }
    for _ in 0..for_cpu {
        locked.stats().synced_for_cpu();
    }
    for _ in 0..for_device {
        locked.stats().synced_for_device();
    }
    let next = policy::fetched(locked.state().of_policy(), changed);
    let state = locked.state_mut();
    state.dirty = next.dirty;
    state.merge = Some(merge);
}

/// What `end_cpu_access` does, except for the window.
pub(crate) fn end(locked: &mut LockedBuf<'_>, access: Access) {
    let kind = locked.kind();
    let next = policy::end(
        kind,
        locked.state().of_policy(),
        access,
        list(locked),
        |step| carry_out(locked, step),
    );
    locked.state_mut().dirty = next.dirty;

    // All copies equal the buffer now.
    if is_contested(locked) {
        let pages = locked.buffer().pages().clone();
        let contested = policy::is_contested(kind, list(locked));
        for (_, base) in locked.mappings_mut() {
            if contested {
                base.is_now(&pages);
            } else {
                base.forget();
            }
        }
        if !contested {
            locked.state_mut().merge = None;
        }
    }
}

/// Ends the windows of those who are gone.
pub(crate) fn forget_dead(locked: &mut LockedBuf<'_>) {
    if locked.state_mut().windows.forget_dead() {
        end(locked, Access::Write);
    }
}
