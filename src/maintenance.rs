// SPDX-License-Identifier: GPL-2.0

//! Carries out on the mappings of a buffer what the policy says, under the reservation lock.

use core::ops::Range;

use dma_buf::{
    cache_line_size,
    trace::{
        self,
        Timer, //
    },
    Fences,
    Locked,
    LockedMut,
    Mapping,
    Pages,
    Rows,
    Synced,
    UnmapRequest,
    WrittenPages, //
};
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    dma::DataDirection,
    mm::Mm,
    prelude::*, //
};

#[cfg(doc)]
use crate::argument::*;
use crate::{
    buffer::CohBuf,
    copies::{
        Base,
        Merge, //
    },
    cost::Cost,
    plan::{
        self,
        Asked,
        Memo,
        Plan, //
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
    region::{
        union,
        within,
        without,
        Region, //
    },
    stats::Stats,
    tracing,
    windows::{
        By,
        Windows, //
    }, //
};

/// What is kept for a buffer under the reservation lock.
pub(crate) struct State {
    pub(crate) windows: Windows,
    /// Mappings, of those that devices have, that are ever maintained: that do not snoop.
    maintained: usize,
    /// Mappings, of those that devices have, of which a part cannot be maintained.
    indivisible: usize,
    /// Of those mappings. [`None`] where none was ever maintained, or no memory was there.
    plans: Option<KBox<Plans>>,
    /// Besides `windows`. [dirty]
    dirty: bool,
    /// There while a mapping has a base.
    merge: Option<KBox<Merge>>,
    /// Pages that CPU mappings have written, and no END has covered; of buffers that track them.
    written: Option<KBox<WrittenPages>>,
    /// A mapping that its device may have written is gone, and no END has pushed the whole buffer
    /// since. [written]
    device_wrote: bool,
}

impl State {
    /// `written`: where written pages are tracked, the empty set.
    pub(crate) fn new(written: Option<KBox<WrittenPages>>) -> impl Init<Self> {
        init!(Self {
            windows: Windows::new(),
            maintained: 0,
            indivisible: 0,
            plans: None,
            dirty: policy::State::NEW.dirty,
            merge: None,
            written,
            device_wrote: false,
        })
    }

    /// Whether there is a mapping that is ever maintained. Where there is none, a START has nothing
    /// to do, and an END leaves lines dirty. [quick]
    pub(crate) fn maintains(&self) -> bool {
        self.maintained > 0
    }

    /// Where `part` is all that is to be maintained. [`None`]: the CPU owns it.
    fn of_policy(&self, part: Option<Part<'_>>) -> policy::State {
        policy::State {
            dirty: self.dirty,
            written: self.written.as_deref().is_some_and(WrittenPages::any),
            writing: part.is_none(),
            partial: !matches!(part, Some(Part::Whole)),
        }
    }
}

/// What the policy has said, while no mapping comes or goes.
#[derive(Default)]
struct Plans {
    begin: Known,
    end: Known,
}

/// What it has said of a START, or of an END.
#[derive(Default)]
struct Known {
    memo: Memo,
    /// Of each step, which mapping that was.
    mappings: [usize; plan::MOST],
    /// Of all steps on the whole buffer, as [`charge_half`] has it.
    cost: Cost,
}

impl Known {
    /// What was said to the same, if the mappings of its steps are where they were: of an importer
    /// that detaches without an unmap they go before anybody hears of it.
    #[inline(always)]
    fn get<'l>(&'l self, locked: &'l LockedBuf<'_>, asked: Asked) -> Option<Ready<'l>> {
        let plan = self.memo.get(asked)?;
        let mut mappings = [None; plan::MOST];
        for ((step, known), room) in plan.steps().zip(&self.mappings).zip(&mut mappings) {
            *room = mapping_at(locked, step.index());
            if identity(*room) != *known {
                return None;
            }
        }
        Some(Ready {
            plan,
            mappings,
            cost: &self.cost,
        })
    }
}

/// What is known, with the mappings of its steps.
struct Ready<'l> {
    plan: Plan,
    mappings: [Option<&'l Mapping<'l>>; plan::MOST],
    /// Of all steps on the whole buffer.
    cost: &'l Cost,
}

impl Ready<'_> {
    /// Does all steps on the whole buffer. Returns [`State::dirty`] after them.
    #[inline(always)]
    fn follow(&self, locked: &LockedBuf<'_>) -> bool {
        for (step, mapping) in self.plan.steps().zip(&self.mappings) {
            if let Some(mapping) = mapping {
                pass(locked, mapping, step.is_for_cpu(), Part::Whole);
            }
        }
        locked.stats().charge(self.cost);
        self.plan.dirty()
    }
}

/// Tells mappings apart, of which none comes meanwhile.
fn identity(mapping: Option<&Mapping<'_>>) -> usize {
    mapping.map_or(0, |mapping| core::ptr::from_ref(mapping).addr())
}

/// Bytes of the buffer to maintain, in whole cache lines. [region]
#[derive(Copy, Clone)]
enum Part<'r> {
    /// All, at one go.
    Whole,
    /// A region.
    Lines(&'r Region),
    /// What no window owns of it.
    Free(&'r Region),
    /// What windows own of it.
    Owned(&'r Region),
    /// What was written of it.
    Written(&'r Region),
    /// What was written of what windows own of it.
    WrittenOwned(&'r Region),
}

impl Part<'_> {
    /// Calls `f` with the part as ranges of bytes, in order.
    fn with<R>(
        self,
        windows: &Windows,
        written: Option<&WrittenPages>,
        size: usize,
        f: impl FnOnce(&mut dyn Iterator<Item = Range<usize>>) -> R,
    ) -> R {
        let line = cache_line_size();
        let lines = |region: &Region| region.lines(line, size);
        let owned = |of: &Region| union(windows.owned(), line, size).near(&of.bounds());
        let written = || written.into_iter().flat_map(WrittenPages::ranges);
        match self {
            Part::Whole => f(&mut core::iter::once(0..size)),
            Part::Lines(region) => f(&mut lines(region)),
            Part::Free(region) => f(&mut without(lines(region), owned(region))),
            Part::Owned(region) => f(&mut within(lines(region), owned(region))),
            Part::Written(region) => f(&mut within(lines(region), written())),
            Part::WrittenOwned(region) => {
                f(&mut within(within(lines(region), owned(region)), written()))
            }
        }
    }

    fn with_locked<R>(
        self,
        locked: &LockedBuf<'_>,
        f: impl FnOnce(&mut dyn Iterator<Item = Range<usize>>) -> R,
    ) -> R {
        let state = locked.state();
        let size = locked.buffer().pages().size();
        self.with(&state.windows, state.written.as_deref(), size, f)
    }

    #[inline(always)]
    fn sync(self, locked: &LockedBuf<'_>, mapping: &Mapping<'_>, for_cpu: bool) -> Synced {
        match (self, for_cpu) {
            (Part::Whole, true) => mapping.sync_for_cpu(),
            (Part::Whole, false) => mapping.sync_for_device(),
            _ => self.sync_parts(locked, mapping, for_cpu),
        }
    }

    /// Apart, as what it needs to remember is more than the rest of a START needs.
    #[inline(never)]
    fn sync_parts(self, locked: &LockedBuf<'_>, mapping: &Mapping<'_>, for_cpu: bool) -> Synced {
        let lines = |region: &Region| region.lines(cache_line_size(), size(locked));
        let rows = |region: &Region| {
            let (first, stride, count) = lines(region).even()?;
            Some(Rows {
                offset: first.start,
                length: first.end - first.start,
                stride,
                count,
            })
        };
        match (self, for_cpu) {
            (Part::Lines(region), _) => match (rows(region), for_cpu) {
                (Some(rows), true) => mapping.sync_rows_for_cpu(rows),
                (Some(rows), false) => mapping.sync_rows_for_device(rows),
                (None, true) => mapping.sync_parts_for_cpu(lines(region)),
                (None, false) => mapping.sync_parts_for_device(lines(region)),
            },
            (_, true) => self.with_locked(locked, |ranges| mapping.sync_parts_for_cpu(ranges)),
            (_, false) => self.with_locked(locked, |ranges| mapping.sync_parts_for_device(ranges)),
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

/// All that may write outside of windows. The kernel comes last, if it has the buffer mapped, so
/// that the numbers of the others are those of [`Locked::mappings`].
fn list<'a>(locked: &'a LockedBuf<'_>) -> impl Iterator<Item = Mapped> + Clone + 'a {
    Iterator::chain(
        devices(locked),
        locked.is_vmapped().then_some(Mapped::KERNEL),
    )
}

fn devices<'a>(locked: &'a LockedBuf<'_>) -> impl Iterator<Item = Mapped> + Clone + 'a {
    locked.mappings().map(|(mapping, _)| mapped_as(mapping))
}

/// Whether copies are fetched byte by byte.
pub(crate) fn is_contested(locked: &LockedBuf<'_>) -> bool {
    locked.state().merge.is_some() && locked.mappings().any(|(_, base)| base.is_some())
}

fn size(locked: &LockedBuf<'_>) -> usize {
    locked.buffer().pages().size()
}

fn whole(locked: &LockedBuf<'_>) -> Region {
    Region::whole(size(locked))
}

fn is_whole(locked: &LockedBuf<'_>, region: &Region) -> bool {
    region.is_whole(size(locked))
}

/// Whether there is a mapping of which a part cannot be maintained. `new`: one that is not in the
/// list.
fn is_indivisible(locked: &LockedBuf<'_>, new: Option<&Mapping<'_>>) -> bool {
    locked.state().indivisible > 0 || new.is_some_and(|new| !new.can_sync_parts())
}

/// Of a region, what no window owns. [`None`]: nothing.
fn free<'r>(
    locked: &LockedBuf<'_>,
    new: Option<&Mapping<'_>>,
    region: &'r Region,
) -> Option<Part<'r>> {
    let indivisible = is_indivisible(locked, new);
    if locked.state().windows.any() {
        if indivisible {
            return None;
        }
        let part = Part::Free(region);
        let any = part.with_locked(locked, |ranges| ranges.next().is_some());
        return any.then_some(part);
    }
    Some(if indivisible || is_whole(locked, region) {
        Part::Whole
    } else {
        Part::Lines(region)
    })
}

fn mapping_at<'a>(locked: &'a LockedBuf<'_>, index: usize) -> Option<&'a Mapping<'a>> {
    locked.mapping(index).map(|(mapping, _)| mapping)
}

/// Does one step. `new`: the mapping that comes after those in the list.
fn carry_out<'p>(
    locked: &LockedBuf<'_>,
    new: Option<&Mapping<'_>>,
    step: Step,
    part: impl FnOnce(&Mapping<'_>) -> Option<Part<'p>>,
    cost: &mut Cost,
) {
    // The policy numbers what it was given.
    if let Some(mapping) = mapping_at(locked, step.index()).or(new) {
        if let Some(part) = part(mapping) {
            sync(locked, mapping, step.is_for_cpu(), part, cost);
        }
    }
}

fn sync(
    locked: &LockedBuf<'_>,
    mapping: &Mapping<'_>,
    for_cpu: bool,
    part: Part<'_>,
    cost: &mut Cost,
) {
    let synced = pass(locked, mapping, for_cpu, part);
    cost.add(reach_of(mapping), for_cpu, synced);
}

/// The same for who knows what it costs.
#[inline(always)]
fn pass(locked: &LockedBuf<'_>, mapping: &Mapping<'_>, for_cpu: bool, part: Part<'_>) -> Synced {
    let timer = Timer::start(trace::maintain_is_on());
    let synced = part.sync(locked, mapping, for_cpu);
    trace_pass(|| locked.stats().ino(), mapping, for_cpu, synced, &timer);
    match for_cpu {
        _ if synced.bytes == 0 => {}
        true => locked.stats().synced_for_cpu(),
        false => locked.stats().synced_for_device(),
    }
    synced
}

#[inline(always)]
fn trace_pass(
    ino: impl FnOnce() -> c_ulong,
    mapping: &Mapping<'_>,
    for_cpu: bool,
    synced: Synced,
    timer: &Timer,
) {
    trace::maintain(|| trace::Maintain {
        ino: ino(),
        attachment: mapping.number(),
        dev: Some(mapping.device()),
        direction: mapping.direction(),
        reach: tracing::reach(Some(mapping)),
        for_device: !for_cpu,
        bytes: synced.bytes,
        bounced: synced.bounced,
        duration: timer.nanos(),
    });
}

/// Adds to what the buffer's maintenance has cost.
fn charge(locked: &mut LockedBufMut<'_, '_>, cost: &Cost) {
    locked.stats().charge(cost);
}

/// Adds what a START or END has cost, with what it has saved: see [`Cost::saved`].
fn charge_half(locked: &mut LockedBufMut<'_, '_>, cost: &mut Cost) {
    if locked.kind() == policy::Kind::Bracketed {
        cost.saved = saved(locked, cost);
    }
    charge(locked, cost);
}

/// See [`Cost::saved`].
fn saved(locked: &LockedBuf<'_>, cost: &Cost) -> u64 {
    // CAST: A size fits.
    let all = locked.state().maintained as u64 * size(locked) as u64;
    all.saturating_sub(cost.done())
}

/// Whether `new` may be mapped beside what is.
///
/// # Errors
///
/// Why not.
pub(crate) fn beside(locked: &LockedBuf<'_>, new: &Mapping<'_>) -> Result<(), Refusal> {
    let windows = &locked.state().windows;
    let owns_all = || windows.owned().any(|of| is_whole(locked, of));
    if !new.can_sync_parts() && windows.any() && !owns_all() {
        // They would be windows of the whole buffer from now on, where devices may have written
        // what nobody has fetched. [region]
        return Err(Refusal::Beside);
    }
    policy::beside(
        locked.kind(),
        mapped_as(new),
        devices(locked),
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
    let base = added(locked, Some(new))?;
    let state = locked.state_mut();
    state.maintained += usize::from(is_maintained(mapped_as(new)));
    state.indivisible += usize::from(!new.can_sync_parts());
    forget_plans(locked);
    let asks = locked.state().maintains() && locked.kind() == policy::Kind::Bracketed;
    if asks && locked.state().plans.is_none() {
        // Who has none asks each time.
        locked.state_mut().plans = KBox::new(Plans::default(), GFP_KERNEL_ACCOUNT).ok();
    }
    Ok(base)
}

/// What was said of other mappings is out of date.
fn forget_plans(locked: &mut LockedBufMut<'_, '_>) {
    if let Some(plans) = &mut locked.state_mut().plans {
        **plans = Plans::default();
    }
}

/// Mappings are gone of which [`unmap`] was not told: their importer has detached.
pub(crate) fn lost(locked: &mut LockedBufMut<'_, '_>) {
    let maintained = devices(locked).filter(|of| is_maintained(*of)).count();
    let listed = locked.mappings().map(|(mapping, _)| mapping);
    let indivisible = listed.filter(|mapping| !mapping.can_sync_parts()).count();
    let contested = is_contested(locked);
    let state = locked.state_mut();
    state.maintained = maintained;
    state.indivisible = indivisible;
    // What they wrote nobody has fetched.
    state.dirty = true;
    state.device_wrote = true;
    if !contested {
        state.merge = None;
    }
    forget_plans(locked);
}

/// Whether anything is ever done for a mapping.
fn is_maintained(of: Mapped) -> bool {
    of.reach != Reach::Snooping
}

/// Before the kernel maps the buffer: from then on it may write as a device does that snoops, and
/// outside of windows. [vmap]
///
/// # Errors
///
/// [`ENOMEM`]. Nothing has changed then.
pub(crate) fn vmapped(locked: &mut LockedBufMut<'_, '_>) -> Result {
    added(locked, None)?;
    locked.state_mut().dirty = true;
    Ok(())
}

/// `new`: [`None`] for the kernel.
fn added(locked: &mut LockedBufMut<'_, '_>, new: Option<&Mapping<'_>>) -> Result<Base> {
    let kind = locked.kind();
    let pages = locked.buffer().pages();
    let of_new = new.map_or(Mapped::KERNEL, mapped_as);
    let all = Iterator::chain(list(locked), core::iter::once(of_new));
    let contested = policy::is_contested(kind, all.clone());
    let state = locked.state().of_policy(Some(Part::Whole));
    let untouched = new.is_some_and(Mapping::was_untouched);
    let synced = policy::mapped(state, of_new, all);
    // What was never unmapped is mapped without a sync, and nothing is dirty then. [idle]
    let next = if untouched { state } else { synced };
    let mut cost = Cost::default();
    // `dma_map_sgtable()` has maintained all of it; not what is past the caches altogether.
    match new {
        Some(new) if !pages.is_write_combine() && !untouched => {
            cost.add(of_new.reach, false, new.all());
        }
        _ => {}
    }
    if !contested {
        locked.state_mut().dirty = next.dirty;
        charge(locked, &cost);
        return Ok(Base::none());
    }

    // First what can fail.
    let lacks_base =
        |mapping: &Mapping<'_>, base: &Base| mapped_as(mapping).is_copy_writer() && !base.is_some();
    let mut bases = KVec::new();
    for _ in locked.mappings().filter(|(m, base)| lacks_base(m, base)) {
        bases.push(Base::alloc(pages.size())?, GFP_KERNEL)?;
    }
    if new.is_none() && bases.is_empty() {
        // The kernel has no copy. All who have one have their bases: nothing is waited for.
        locked.state_mut().dirty = next.dirty;
        charge(locked, &cost);
        return Ok(Base::none());
    }
    let mut base = if of_new.is_copy_writer() {
        Base::alloc(pages.size())?
    } else {
        Base::none()
    };
    let region = whole(locked);
    let part = free(locked, new, &region);
    if part.is_some() {
        // Nothing may be in flight when bases are taken. The core warns where vmap fails, which no
        // signal may bring about.
        locked.wait_fences(Fences::All, new.is_some())?;
    }
    if locked.state().merge.is_none() {
        let merge = KBox::new(Merge::alloc(pages.size())?, GFP_KERNEL_ACCOUNT)?;
        locked.state_mut().merge = Some(merge);
    }
    locked.state_mut().dirty = next.dirty;

    // In a write window no device writes there, and its end takes bases anew.
    if let Some(part) = part {
        begin_part(locked, Some(part), &mut cost);
        if let (Some(new), true) = (new, base.is_some()) {
            sync(locked, new, false, part, &mut cost);
        }
    }
    let all = || core::iter::once(0..pages.size());
    base.is_now(pages, &mut all());
    for (mapping, base) in locked.mappings_mut() {
        if lacks_base(mapping, base) {
            if let Some(room) = bases.pop() {
                *base = room;
            }
            base.is_now(pages, &mut all());
        }
    }
    if let Some(part) = part {
        settle(locked, new, part, &mut cost);
    }
    charge(locked, &cost);
    Ok(base)
}

/// Takes a mapping away.
pub(crate) fn unmap(request: &mut UnmapRequest<'_, CohBuf>) {
    let locked = request.locked();
    let region = whole(locked);
    let part = free(locked, None, &region);
    let state = locked.state().of_policy(part);
    let Some(index) = request.index() else {
        return;
    };
    let Some((of_old, has_base)) = locked
        .mapping(index)
        .map(|(mapping, base)| (mapped_as(mapping), base.is_some()))
    else {
        return;
    };
    let mut cost = Cost::default();
    let mut idles = false;
    let (how, next) = if has_base && !state.writing {
        // Its bytes are fetched as all are, and with that it has none any more. No other device may
        // be at work: its copy is moved as well. It does not fail without interruptions.
        let _ = locked.wait_fences(Fences::All, false);
        begin_part(&mut request.locked_mut(), part, &mut cost);
        let state = request.locked().state().of_policy(part);
        (Unmap::Discard, state)
    } else {
        let others = list(locked)
            .enumerate()
            .filter(|(at, _)| *at != index)
            .map(|(_, of)| of);
        idles = policy::idles(locked.kind(), state, of_old, others.clone());
        policy::unmap(locked.kind(), state, of_old, others)
    };
    let mut locked = request.locked_mut();
    locked.state_mut().dirty = next.dirty;
    locked.state_mut().device_wrote |= of_old.is_writer();

    let Some((old, _)) = request.take() else {
        return;
    };
    let mut locked = request.locked_mut();
    let state = locked.state_mut();
    state.maintained -= usize::from(is_maintained(of_old));
    state.indivisible -= usize::from(!old.can_sync_parts());
    forget_plans(&mut locked);
    let old = match old {
        // There is nothing to maintain, nor has it a base.
        old if old.costs_nothing() => return request.keep(old),
        old if idles => match request.put_off(old) {
            Some(old) => old,
            None => return,
        },
        old => old,
    };
    let locked = request.locked();
    match (how, part) {
        (Unmap::Discard, _) | (_, None) => old.discard(),
        (_, Some(Part::Whole)) => {
            if how == Unmap::CleanAndSync {
                sync(locked, &old, false, Part::Whole, &mut cost);
            }
            if of_old.is_writer() {
                cost.add(of_old.reach, true, old.all());
            }
            old.unmap();
        }
        // The DMA API would sync what windows own as well.
        (_, Some(part)) => {
            hand_over(locked, &old, of_old, how, part, &mut cost);
            old.discard();
        }
    }
    charge(&mut request.locked_mut(), &cost);
    if !is_contested(request.locked()) {
        request.locked_mut().state_mut().merge = None;
    }
}

/// The sync of unmaps that were put off was done. `number`, `direction`: the last attachment of which
/// one was, and how it was mapped. [idle]
pub(crate) fn caught_up(
    locked: &mut LockedBufMut<'_, '_>,
    number: u32,
    direction: DataDirection,
    timer: &Timer,
) {
    let mut cost = Cost::default();
    let synced = Synced {
        bytes: size(locked),
        bounced: 0,
    };
    cost.add(Reach::Direct, true, synced);
    trace::maintain(|| trace::Maintain {
        ino: locked.stats().ino(),
        attachment: number,
        // It may be detached.
        dev: locked
            .attachments()
            .find(|attachment| attachment.data().number() == number)
            .map(|attachment| attachment.device()),
        direction,
        reach: tracing::number_of(Reach::Direct),
        for_device: false,
        bytes: synced.bytes,
        bounced: synced.bounced,
        duration: timer.nanos(),
    });
    charge(locked, &cost);
}

/// What the sync of an unmap does.
fn hand_over(
    locked: &LockedBuf<'_>,
    mapping: &Mapping<'_>,
    of: Mapped,
    how: Unmap,
    part: Part<'_>,
    cost: &mut Cost,
) {
    if how == Unmap::Discard || !of.is_writer() || of.reach == Reach::Snooping {
        return;
    }
    if how == Unmap::CleanAndSync {
        sync(locked, mapping, false, part, cost);
    }
    sync(locked, mapping, true, part, cost);
}

/// What `begin_cpu_access` does for a region, once the fences have signalled. `cost`: nothing, to
/// which it adds what it costs.
pub(crate) fn begin(locked: &mut LockedBufMut<'_, '_>, region: &Region, cost: &mut Cost) {
    if !locked.state().maintains() {
        return;
    }
    let part = free(locked, None, region);
    let state = locked.state().of_policy(part);
    match is_contested(locked) {
        true => begin_part(locked, part, cost),
        false => by_plan(
            locked,
            state,
            (|plans| &plans.begin, |plans| &mut plans.begin),
            |locked, step| policy::begin(locked.kind(), state, false, list(locked), step),
            |_| part,
            cost,
        ),
    }
    charge_half(locked, cost);
}

/// START of the whole buffer, to write, by the calling task, where nobody else has to do with it:
/// there is no other window, nor are bytes told apart, or pages tracked, and what the policy says
/// is known. As [`begin`], with the window. Returns whether that was so; nothing is done where it
/// was not. [usual]
pub(crate) fn begin_usual(locked: &mut LockedBufMut<'_, '_>) -> bool {
    let Some(ready) = usual(locked, false) else {
        return false;
    };
    let stats = stats_of(locked);
    let Some(only) = locked.state().windows.only(stats) else {
        return false;
    };
    let dirty = ready.follow(locked);
    let state = locked.state_mut();
    state.dirty = dirty;
    state.windows.open_only(stats, only);
    true
}

/// END of what [`begin_usual`] has begun. As [`end`], with the window. [usual]
pub(crate) fn end_usual(locked: &mut LockedBufMut<'_, '_>) -> bool {
    if !locked.state().windows.has_only() {
        return false;
    }
    let Some(ready) = usual(locked, true) else {
        return false;
    };
    let dirty = ready.follow(locked);
    let stats = stats_of(locked);
    let state = locked.state_mut();
    state.dirty = dirty;
    state.windows.end_only(stats);
    true
}

/// What is known of the whole buffer. `writing`: whether there is a window.
#[inline(always)]
fn usual<'l>(locked: &'l LockedBuf<'_>, writing: bool) -> Option<Ready<'l>> {
    let state = locked.state();
    if state.merge.is_some() || state.written.is_some() {
        return None;
    }
    let of_policy = policy::State {
        dirty: state.dirty,
        written: false,
        writing,
        partial: false,
    };
    let plans = state.plans.as_deref()?;
    let known = if writing { &plans.end } else { &plans.begin };
    known.get(locked, Asked::new(of_policy, locked.is_vmapped()))
}

/// Does what the policy says when it is asked in a state, or has said before. `known`: where that
/// is kept.
fn by_plan<'p>(
    locked: &mut LockedBufMut<'_, '_>,
    state: policy::State,
    known: (impl Fn(&Plans) -> &Known, impl Fn(&mut Plans) -> &mut Known),
    ask: impl Fn(&LockedBuf<'_>, &mut dyn FnMut(Step)) -> policy::State,
    part: impl Fn(&Mapping<'_>) -> Option<Part<'p>>,
    cost: &mut Cost,
) {
    let asked = Asked::new(state, locked.is_vmapped());
    let (known, known_mut) = known;
    let plans = locked.state().plans.as_deref();
    let plan = match plans.and_then(|plans| known(plans).get(locked, asked)) {
        Some(ready) => Some(ready.plan),
        None => {
            let plan = Plan::of(|step| ask(locked, step));
            if let Some(plan) = plan {
                remember(locked, known_mut, asked, plan);
            }
            plan
        }
    };
    let dirty = match plan {
        Some(plan) => {
            plan.steps()
                .for_each(|step| carry_out(locked, None, step, &part, cost));
            plan.dirty()
        }
        None => {
            let mut step = |step| carry_out(locked, None, step, &part, cost);
            ask(locked, &mut step).dirty
        }
    };
    locked.state_mut().dirty = dirty;
}

#[cold]
fn remember(
    locked: &mut LockedBufMut<'_, '_>,
    known: impl FnOnce(&mut Plans) -> &mut Known,
    asked: Asked,
    plan: Plan,
) {
    let mut mappings = [0; plan::MOST];
    let mut cost = Cost::default();
    for (step, room) in plan.steps().zip(&mut mappings) {
        let mapping = mapping_at(locked, step.index());
        *room = identity(mapping);
        if let Some(mapping) = mapping {
            cost.add(reach_of(mapping), step.is_for_cpu(), mapping.all());
        }
    }
    cost.saved = saved(locked, &cost);
    if let Some(plans) = locked.state_mut().plans.as_deref_mut() {
        let known = known(plans);
        known.memo.set(asked, plan);
        known.mappings = mappings;
        known.cost = cost;
    }
}

/// `part`: what no window owns.
fn begin_part(locked: &mut LockedBufMut<'_, '_>, part: Option<Part<'_>>, cost: &mut Cost) {
    let state = locked.state().of_policy(part);
    let contested = is_contested(locked);
    let next = policy::begin(locked.kind(), state, contested, list(locked), |step| {
        carry_out(locked, None, step, |_| part, cost)
    });
    locked.state_mut().dirty = next.dirty;
    if let (true, Some(part)) = (contested, part) {
        fetch(locked, part, cost);
    }
}

/// Fetches the copies, byte by byte.
fn fetch(locked: &mut LockedBufMut<'_, '_>, part: Part<'_>, cost: &mut Cost) {
    let pages = locked.buffer().pages();
    let Some(mut merge) = locked.state_mut().merge.take() else {
        return;
    };
    if policy::clean_before_fetch(locked.state().of_policy(Some(part)), list(locked)) {
        pages.clean();
    }
    // The mappings are changed meanwhile, the windows are not.
    let windows = core::mem::replace(&mut locked.state_mut().windows, Windows::new());
    let size = pages.size();
    if policy::invalidate_before_fetch(list(locked)) {
        part.with(&windows, None, size, |ranges| pages.invalidate(ranges));
    }
    part.with(&windows, None, size, |ranges| merge.begin(pages, ranges));
    let mut syncs = Syncs::of(locked.stats().ino());
    let mut dirtied = false;
    for first in [true, false] {
        for (mapping, base) in locked.mappings_mut() {
            if base.is_some() && policy::comes_first(mapped_as(mapping)) == first {
                let timer = Timer::start(trace::maintain_is_on());
                let synced = match part {
                    Part::Whole => mapping.sync_for_cpu(),
                    part => part.with(&windows, None, size, |r| mapping.sync_parts_for_cpu(r)),
                };
                syncs.add(mapping, true, synced, &timer);
                part.with(&windows, None, size, |r| merge.take(pages, base, r));
                dirtied |= policy::dirties(mapped_as(mapping));
            }
        }
    }
    dirtied |= part.with(&windows, None, size, |r| merge.finish(pages, r));
    // A copy that lacks what another device wrote gets it: if its own device then writes the very
    // byte that the copy had, it must show.
    for (mapping, base) in locked.mappings_mut() {
        let news = part.with(&windows, None, size, |r| merge.is_news(base, r));
        if base.is_some() && policy::refresh(mapped_as(mapping), news, dirtied) {
            let timer = Timer::start(trace::maintain_is_on());
            let synced = match part {
                Part::Whole => mapping.sync_for_device(),
                part => part.with(&windows, None, size, |r| mapping.sync_parts_for_device(r)),
            };
            syncs.add(mapping, false, synced, &timer);
        }
    }
    let state = locked.state_mut();
    state.windows = windows;
    state.merge = Some(merge);
    *cost += syncs.cost;
    for _ in 0..syncs.for_cpu {
        locked.stats().synced_for_cpu();
    }
    for _ in 0..syncs.for_device {
        locked.stats().synced_for_device();
    }
    settle(locked, None, part, cost);
}

/// Syncs to count later, when the mappings are not borrowed any more.
struct Syncs {
    ino: c_ulong,
    for_cpu: usize,
    for_device: usize,
    cost: Cost,
}

impl Syncs {
    fn of(ino: c_ulong) -> Self {
        Self {
            ino,
            for_cpu: 0,
            for_device: 0,
            cost: Cost::default(),
        }
    }

    fn add(&mut self, mapping: &Mapping<'_>, for_cpu: bool, synced: Synced, timer: &Timer) {
        trace_pass(|| self.ino, mapping, for_cpu, synced, timer);
        self.cost.add(reach_of(mapping), for_cpu, synced);
        match for_cpu {
            true => self.for_cpu += 1,
            false => self.for_device += 1,
        }
    }
}

/// After the CPU has written what copies held. `new`: a mapping that is not in the list yet.
fn settle(
    locked: &mut LockedBufMut<'_, '_>,
    new: Option<&Mapping<'_>>,
    part: Part<'_>,
    cost: &mut Cost,
) {
    let all = Iterator::chain(list(locked), new.map(mapped_as));
    let state = locked.state().of_policy(Some(part));
    let next = policy::fetched(state, all, |step| {
        carry_out(locked, new, step, |_| Some(part), cost)
    });
    locked.state_mut().dirty = next.dirty;
}

/// What `end_cpu_access` does for a region, except for the window. `cost`: as for [`begin`].
pub(crate) fn end(
    locked: &mut LockedBufMut<'_, '_>,
    access: Access,
    region: &Region,
    cost: &mut Cost,
) {
    let writes = locked.kind() == policy::Kind::Bracketed && access.writes();
    if !locked.state().maintains() && locked.state().written.is_none() {
        if writes {
            // As `policy::end` has it for those that snoop. [quick]
            locked.state_mut().dirty = true;
        }
        return;
    }
    if writes {
        end_write(locked, access, region, cost);
    }
    charge_half(locked, cost);
}

fn end_write(locked: &mut LockedBufMut<'_, '_>, access: Access, region: &Region, cost: &mut Cost) {
    let kind = locked.kind();
    let all = whole(locked);
    let indivisible = is_indivisible(locked, None);
    let region = if indivisible { &all } else { region };
    let tracked = !indivisible && record_written(locked, region);
    let state = locked.state();
    let lines = match is_whole(locked, region) {
        _ if tracked && policy::cleans_written(state.of_policy(Some(Part::Whole))) => {
            Part::Written(region)
        }
        true => Part::Whole,
        false => Part::Lines(region),
    };
    // What windows own goes to copies: the rest of the buffer may be older than a copy. [window]
    let owned = match is_whole(locked, region) {
        _ if tracked && policy::copies_written(state.device_wrote, list(locked)) => {
            Part::WrittenOwned(region)
        }
        true if indivisible || state.windows.owned().any(|of| is_whole(locked, of)) => Part::Whole,
        _ => Part::Owned(region),
    };
    let any = locked.state().windows.any();
    let state = policy::State {
        writing: any,
        ..locked.state().of_policy(Some(lines))
    };
    by_plan(
        locked,
        state,
        (|plans| &plans.end, |plans| &mut plans.end),
        |locked, step| policy::end(kind, state, access, list(locked), step),
        |mapping| match mapped_as(mapping).is_copy() {
            true => Some(owned),
            false => Some(lines),
        },
        cost,
    );

    // Whether all copies equal the buffer now, and not just where windows are.
    let all_pushed = any && matches!(owned, Part::Whole);
    if is_contested(locked) && any {
        let pages = locked.buffer().pages();
        let contested = !all_pushed || policy::is_contested(kind, list(locked));
        let windows = core::mem::replace(&mut locked.state_mut().windows, Windows::new());
        let written = locked.state_mut().written.take();
        for (_, base) in locked.mappings_mut() {
            if contested {
                owned.with(&windows, written.as_deref(), pages.size(), |ranges| {
                    base.is_now(pages, ranges)
                });
            } else {
                base.forget();
            }
        }
        let state = locked.state_mut();
        state.windows = windows;
        state.written = written;
        if !contested {
            state.merge = None;
        }
    }

    if all_pushed {
        locked.state_mut().device_wrote = false;
    }
    forget_written(locked, region);
}

/// Records which pages of a region the CPU has written, where that is tracked. Returns whether
/// those are all that was written. [written]
fn record_written(locked: &mut LockedBufMut<'_, '_>, region: &Region) -> bool {
    let maintained = locked.state().maintains();
    let tracks = tracks_pages(locked);
    let buffer = locked.buffer();
    let Some(written) = &mut locked.state_mut().written else {
        return false;
    };
    // Who has nothing to do with it need not know.
    if maintained && tracks {
        written.record(buffer, &region.bounds());
    }
    tracks
}

/// Whether the next END maintains what was written, and no more.
pub(crate) fn tracks_pages(locked: &LockedBuf<'_>) -> bool {
    locked.state().written.is_some() && WrittenPages::can_record() && !locked.was_vmapped()
}

/// An END has covered the region.
fn forget_written(locked: &mut LockedBufMut<'_, '_>, region: &Region) {
    if let Some(written) = &mut locked.state_mut().written {
        region.rows().for_each(|row| written.remove(&row));
    }
    if is_whole(locked, region) {
        locked.forget_vmapped();
    }
}

/// The mappings of these bytes into user space are about to be taken away, and with them what tells
/// whether they were written.
pub(crate) fn record_for_zap(locked: &mut LockedBufMut<'_, '_>, bytes: &Range<usize>) {
    let Some(mut written) = locked.state_mut().written.take() else {
        return;
    };
    written.record_for_zap(locked, bytes);
    locked.state_mut().written = Some(written);
}

/// A mapping is gone, and with it what could have told whether these bytes were written.
pub(crate) fn add_written(locked: &mut LockedBufMut<'_, '_>, bytes: &Range<usize>) {
    if let Some(written) = &mut locked.state_mut().written {
        written.add(bytes);
    }
}

/// Hands what the device of a mapping wrote to others, while it stays mapped (R7). All fences that
/// matter have signalled: where [`is_contested`], those of everybody.
pub(crate) fn sync_for_cpu(locked: &mut LockedBufMut<'_, '_>, index: usize) {
    let mut cost = Cost::default();
    let region = whole(locked);
    let part = free(locked, None, &region);
    if is_contested(locked) {
        begin_part(locked, part, &mut cost);
    } else if let (Some(part), Some(mapping)) = (part, mapping_at(locked, index)) {
        let of = mapped_as(mapping);
        let others = list(locked).enumerate().filter(|(at, _)| *at != index);
        let state = locked.state().of_policy(Some(part));
        let (how, next) =
            policy::device_for_cpu(locked.kind(), state, of, others.map(|(_, of)| of));
        hand_over(locked, mapping, of, how, part, &mut cost);
        locked.state_mut().dirty = next.dirty;
    }
    charge(locked, &cost);
}

/// Hands what others wrote to the device of a mapping, while it stays mapped (R7). See
/// [`sync_for_cpu`].
pub(crate) fn sync_for_device(locked: &mut LockedBufMut<'_, '_>, index: usize) {
    let mut cost = Cost::default();
    let region = whole(locked);
    let part = free(locked, None, &region);
    let contested = is_contested(locked);
    if contested {
        // Each copy that is written, and lacks something, gets it.
        begin_part(locked, part, &mut cost);
    }
    if let (Some(part), Some(mapping)) = (part, mapping_at(locked, index)) {
        let of = mapped_as(mapping);
        let state = locked.state().of_policy(Some(part));
        let (wanted, next) =
            policy::device_for_device(locked.kind(), state, contested, of, list(locked));
        if wanted {
            sync(locked, mapping, false, part, &mut cost);
        }
        locked.state_mut().dirty = next.dirty;
    }
    charge(locked, &cost);
}

/// Those of the buffer, for who changes what is under the lock.
#[inline(always)]
fn stats_of<'a>(locked: &LockedBufMut<'_, 'a>) -> &'a Stats {
    locked.buffer().data().stats()
}

/// When windows have come or gone: for those who look without the lock.
pub(crate) fn note_windows(locked: &LockedBuf<'_>) {
    locked
        .stats()
        .set_write_windows(locked.state().windows.count());
}

/// When the lock is given back: lets START and END of the whole buffer do without it, where they
/// have nothing to maintain, nor to change but windows. `by`: who has just opened a window, or has
/// ended one. [quick]
pub(crate) fn rest(locked: &mut LockedBufMut<'_, '_>, by: By) {
    if locked.kind() != policy::Kind::Bracketed || locked.enforcement().is_on() {
        return;
    }
    // What is put off is of a mapping that is maintained, and of lines that are not dirty. Who has
    // just taken the lock has caught up. [idle]
    let puts_off = locked.buffer().has_put_off();
    let stats = stats_of(locked);
    let state = locked.state_mut();
    if !state.maintains() && state.dirty && state.written.is_none() && !puts_off {
        state.windows.rest(stats, by);
    }
}

/// Forgets the windows of those who are gone. All takes the lock from now on. [quick]
///
/// One that is exiting may have mappings still, whose end comes too late then: what it has left in
/// the caches goes to memory here. Copies are left alone, as their devices may be at work.
pub(crate) fn forget_dead(locked: &mut LockedBufMut<'_, '_>) {
    let stats = stats_of(locked);
    if locked.state_mut().windows.forget_dead(stats) {
        note_windows(locked);
        clean_dead(locked);
    }
}

/// The same, but for an address space of which a mapping goes.
pub(crate) fn forget_dead_but(locked: &mut LockedBufMut<'_, '_>, mm: &Mm) {
    let stats = stats_of(locked);
    if locked.state_mut().windows.forget_dead_but(stats, mm) {
        note_windows(locked);
        clean_dead(locked);
    }
}

fn clean_dead(locked: &mut LockedBufMut<'_, '_>) {
    let mut cost = Cost::default();
    let state = policy::State {
        writing: false,
        ..locked.state().of_policy(Some(Part::Whole))
    };
    let next = policy::end(locked.kind(), state, Access::Write, list(locked), |step| {
        carry_out(locked, None, step, |_| Some(Part::Whole), &mut cost)
    });
    locked.state_mut().dirty = next.dirty;
    charge(locked, &cost);
}
