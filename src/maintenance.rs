// SPDX-License-Identifier: GPL-2.0

//! Carries out on the mappings of a buffer what the policy says, under the reservation lock.

use dma_buf::{
    Locked,
    LockedMut,
    Mapping,
    Pages,
    UnmapRequest, //
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
        Refusal,
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
type LockedBufMut<'l, 'a> = LockedMut<'l, 'a, CohBuf>;

pub(crate) fn reach_of(mapping: &Mapping<'_>) -> Reach {
    match mapping.reach() {
        dma_buf::Reach::Snooping => Reach::Snooping,
        dma_buf::Reach::Direct => Reach::Direct,
        dma_buf::Reach::Iommu => Reach::Iommu,
        dma_buf::Reach::Bounced => Reach::Bounced,
        dma_buf::Reach::PartlyBounced => Reach::PartlyBounced,
        dma_buf::Reach::Unknown(number) => Reach::Unknown(number),
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

/// Does one step. `new`: the mapping that comes after those in the list.
fn carry_out(locked: &LockedBuf<'_>, new: Option<&Mapping<'_>>, step: Step) {
    let (Step::ForCpu(index) | Step::ForDevice(index)) = step;
    // The policy numbers what it was given.
    let listed = locked.mappings().map(|(mapping, _)| mapping).nth(index);
    let Some(mapping) = listed.or(new) else {
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

/// Whether `new` may be mapped beside what is.
///
/// # Errors
///
/// Why not.
pub(crate) fn beside(locked: &LockedBuf<'_>, new: &Mapping<'_>) -> Result<(), Refusal> {
    policy::beside(
        locked.kind(),
        mapped_as(new),
        list(locked),
        Pages::can_clean(),
    )
}

/// After `new` was mapped, which is not in the list yet. Returns what is kept with it.
///
/// # Errors
///
/// - [`ENOMEM`].
/// - [`ERESTARTSYS`] where a signal came while devices were waited for.
///
/// Nothing has changed then.
pub(crate) fn mapped(locked: &mut LockedBufMut<'_, '_>, new: &Mapping<'_>) -> Result<Base> {
    let kind = locked.kind();
    let pages = locked.buffer().pages().clone();
    let of_new = mapped_as(new);
    let all = Iterator::chain(list(locked), core::iter::once(of_new));
    let contested = policy::is_contested(kind, all.clone());
    let next = policy::mapped(locked.state().of_policy(), of_new, all);
    if !contested {
        locked.state_mut().dirty = next.dirty;
        return Ok(Base::none());
    }

    // First what can fail.
    let mut bases = KVec::new();
    for _ in list(locked).filter(|m| m.is_copy_writer()) {
        bases.push(Base::alloc(pages.size())?, GFP_KERNEL)?;
    }
    let mut base = if of_new.is_copy_writer() {
        Base::alloc(pages.size())?
    } else {
        Base::none()
    };
    let writing = locked.state().windows.any();
    if !writing {
        // Nothing may be in flight when bases are taken.
        locked.wait_all_fences(true)?;
    }
    if locked.state().merge.is_none() {
        locked.state_mut().merge = Some(Merge::alloc(pages.size())?);
    }
    locked.state_mut().dirty = next.dirty;

    // In a write window no device writes, and its end takes bases anew.
    if !writing {
        begin(locked);
        if base.is_some() {
            new.sync_for_device();
            locked.stats().synced_for_device();
        }
    }
    base.is_now(&pages);
    for (mapping, base) in locked.mappings_mut() {
        if mapped_as(mapping).is_copy_writer() && !base.is_some() {
            if let Some(room) = bases.pop() {
                *base = room;
            }
            base.is_now(&pages);
        }
    }
    if !writing {
        settle(locked, Some(new));
    }
    Ok(base)
}

/// Takes a mapping away.
pub(crate) fn unmap(request: &mut UnmapRequest<'_, CohBuf>) {
    let locked = request.locked();
    let state = locked.state().of_policy();
    let Some(index) = request.index() else {
        return;
    };
    let Some((of_old, has_base)) = locked
        .mappings()
        .nth(index)
        .map(|(mapping, base)| (mapped_as(mapping), base.is_some()))
    else {
        return;
    };
    let (how, next) = if has_base && !state.writing {
        // Its bytes are fetched as all are, and with that it has none any more. No other device may
        // be at work: its copy is moved as well. It does not fail without interruptions.
        let _ = locked.wait_all_fences(false);
        begin(&mut request.locked_mut());
        (Unmap::Discard, request.locked().state().of_policy())
    } else {
        let others = list(locked).enumerate().filter(|(at, _)| *at != index);
        policy::unmap(locked.kind(), state, of_old, others.map(|(_, of)| of))
    };
    request.locked_mut().state_mut().dirty = next.dirty;

    let Some((old, _)) = request.take() else {
        return;
    };
    match how {
        Unmap::Discard => old.discard(),
        Unmap::CleanAndSync => {
            old.sync_for_device();
            old.unmap();
        }
        Unmap::Sync => old.unmap(),
    }
    if !is_contested(request.locked()) {
        request.locked_mut().state_mut().merge = None;
    }
}

/// What `begin_cpu_access` does once the fences have signalled.
pub(crate) fn begin(locked: &mut LockedBufMut<'_, '_>) {
    let state = locked.state().of_policy();
    let contested = is_contested(locked);
    let next = policy::begin(locked.kind(), state, contested, list(locked), |step| {
        carry_out(locked, None, step)
    });
    locked.state_mut().dirty = next.dirty;
    if contested && !state.writing {
        fetch(locked);
    }
}

/// Fetches the copies, byte by byte.
fn fetch(locked: &mut LockedBufMut<'_, '_>) {
    let pages = locked.buffer().pages().clone();
    let Some(mut merge) = locked.state_mut().merge.take() else {
        return;
    };
    if policy::clean_before_fetch(locked.state().of_policy(), list(locked)) {
        pages.clean();
    }
    merge.begin(&pages);
    let (mut for_cpu, mut for_device) = (0, 0);
    let mut dirtied = false;
    for first in [true, false] {
        for (mapping, base) in locked.mappings_mut() {
            if base.is_some() && policy::comes_first(mapped_as(mapping)) == first {
                mapping.sync_for_cpu();
                merge.take(&pages, base);
                dirtied |= policy::dirties(mapped_as(mapping));
                for_cpu += 1;
            }
        }
    }
    dirtied |= merge.finish(&pages);
    // A copy that lacks what another device wrote gets it: if its own device then writes the very
    // byte that the copy had, it must show.
    for (mapping, base) in locked.mappings_mut() {
        let news = merge.is_news(base);
        if base.is_some() && policy::refresh(mapped_as(mapping), news, dirtied) {
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
    locked.state_mut().merge = Some(merge);
    settle(locked, None);
}

/// After the CPU has written what copies held. `new`: a mapping that is not in the list yet.
fn settle(locked: &mut LockedBufMut<'_, '_>, new: Option<&Mapping<'_>>) {
    let all = Iterator::chain(list(locked), new.map(mapped_as));
    let next = policy::fetched(locked.state().of_policy(), all, |step| {
        carry_out(locked, new, step)
    });
    locked.state_mut().dirty = next.dirty;
}

/// What `end_cpu_access` does, except for the window.
pub(crate) fn end(locked: &mut LockedBufMut<'_, '_>, access: Access) {
    let kind = locked.kind();
    let state = locked.state().of_policy();
    let next = policy::end(kind, state, access, list(locked), |step| {
        carry_out(locked, None, step)
    });
    locked.state_mut().dirty = next.dirty;

    // All copies equal the buffer now, if they got it.
    if is_contested(locked) && state.writing {
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

/// Forgets the windows of those who are gone.
///
/// One that is exiting may have mappings still, whose end comes too late then: what it has left in
/// the caches goes to memory here. Copies are left alone, as their devices may be at work.
pub(crate) fn forget_dead(locked: &mut LockedBufMut<'_, '_>) {
    if locked.state_mut().windows.forget_dead() {
        let state = policy::State {
            writing: false,
            ..locked.state().of_policy()
        };
        let next = policy::end(locked.kind(), state, Access::Write, list(locked), |step| {
            carry_out(locked, None, step)
        });
        locked.state_mut().dirty = next.dirty;
    }
}
