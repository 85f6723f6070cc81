// SPDX-License-Identifier: GPL-2.0

//! What to refuse, what to maintain, in which order.
//!
//! Pure: no call into the kernel, `core` alone. It is compiled into the module and into the tests
//! on the host alike. The rest of the driver carries out what this file decides. The argument for
//! each decision is in `Documentation/coherency.rst`, under the name that stands here in brackets.

#[cfg(doc)]
use crate::argument::*;

/// What a buffer was made for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The default: CPU access goes between begin and end, which maintain each mapping.
    Bracketed,
    /// `COHBUF_COHERENT`: every importer is DMA-coherent, nothing is ever maintained.
    Coherent,
    /// `COHBUF_WRITE_COMBINE`: no cache ever holds it, nothing is ever maintained.
    WriteCombine,
}

/// Why an importer is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// R1: the device does not snoop.
    NotCoherent,
    /// R14: the device snoops caches that hold the kernel's own mapping of uncached memory.
    Snoops,
    /// The device has `dma_map_ops` of its own, which may copy.
    Unknown,
    /// R2: the device would get a copy.
    Bounced,
    /// Beside what other devices may write, that of ops of its own cannot be told apart.
    Beside,
}

/// How a device reaches the memory of a mapping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It snoops the CPU caches.
    Snooping,
    /// Past the CPU caches, by physical addresses.
    Direct,
    /// Past the CPU caches, through an IOMMU.
    Iommu,
    /// It has a copy of all segments, in bounce buffers (swiotlb).
    Bounced,
    /// It has a copy of some segments, and snoops the CPU caches for the rest.
    PartlyBounced,
    /// Nobody knows: by `dma_map_ops` of its own, snooping, past the caches, or with a copy; or
    /// past the caches where it is not bounced, and bounced elsewhere. Those of the same number are
    /// alike.
    Unknown(usize),
}

impl Reach {
    /// Whether all that a sync does is to clean or invalidate CPU caches. [caches]
    const fn is_past_caches(self) -> bool {
        matches!(self, Reach::Direct | Reach::Iommu)
    }

    /// Whether a sync may move a copy as a whole. [copies]
    const fn may_copy(self) -> bool {
        matches!(
            self,
            Reach::Bounced | Reach::PartlyBounced | Reach::Unknown(_)
        )
    }

    /// Whether the device is known to snoop the CPU caches, for some of the buffer at least.
    const fn snoops(self) -> bool {
        matches!(self, Reach::Snooping | Reach::PartlyBounced)
    }

    const fn is_unknown(self) -> bool {
        matches!(self, Reach::Unknown(_))
    }
}

/// What the CPU does with the buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads.
    Read,
    /// It writes, and may leave bytes as they are.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    pub(crate) const fn writes(self) -> bool {
        !matches!(self, Access::Read)
    }
}

/// What the device may do with a mapping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Read and write.
    Bidirectional,
    /// Read.
    ToDevice,
    /// Write.
    FromDevice,
}

/// What the policy has to know of a mapping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) reach: Reach,
    pub(crate) dir: Direction,
}

impl Mapped {
    /// The kernel, by a mapping of its own, as it may write outside of windows. [vmap]
    pub(crate) const KERNEL: Self = Self {
        reach: Reach::Snooping,
        dir: Direction::Bidirectional,
    };

    /// Whether its device may write.
    pub(crate) const fn is_writer(self) -> bool {
        !matches!(self.dir, Direction::ToDevice)
    }

    /// Whether the CPU may have to fetch a copy that its device wrote.
    pub(crate) const fn is_copy_writer(self) -> bool {
        self.reach.may_copy() && self.is_writer()
    }

    /// Whether a sync may move a copy.
    pub(crate) const fn is_copy(self) -> bool {
        self.reach.may_copy()
    }

    const fn is_snooping_writer(self) -> bool {
        self.reach.snoops() && self.is_writer()
    }

    const fn is_unknown_writer(self) -> bool {
        self.reach.is_unknown() && self.is_writer()
    }
}

/// What is known of the buffer's bytes. Changed by these functions alone, except for `writing`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The CPU caches may hold lines that are newer than memory, besides those that an open write
    /// window made. [dirty]
    pub(crate) dirty: bool,
    /// So may they because of CPU mappings, of which nobody has ended a window since. [written]
    pub(crate) written: bool,
    /// The CPU owns all that is to be maintained, by write windows. [window]
    pub(crate) writing: bool,
    /// Not all of the buffer is maintained, but a region, or what no window owns, or what was
    /// written: the rest stays as dirty as it was. [region]
    pub(crate) partial: bool,
}

impl State {
    /// Of memory that the CPU has just zeroed (R15).
    pub(crate) const NEW: Self = Self {
        dirty: true,
        written: false,
        writing: false,
        partial: false,
    };

    /// After a clean of what is maintained.
    fn cleaned(self, mut mappings: impl Iterator<Item = Mapped>) -> Self {
        let dirty = (self.partial && self.dirty) || mappings.any(Mapped::is_snooping_writer);
        Self { dirty, ..self }
    }

    /// Whether an invalidate may drop what is newer than memory. What is unknown may snoop.
    /// [dirty]
    fn must_clean(self, mut mappings: impl Iterator<Item = Mapped>) -> bool {
        self.dirty || self.written || mappings.any(Mapped::is_unknown_writer)
    }
}

/// One call of the DMA API, for the mapping of that number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `dma_sync_sgtable_for_cpu()`
    ForCpu(usize),
    /// `dma_sync_sgtable_for_device()`
    ForDevice(usize),
}

impl Step {
    /// The number of the mapping.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        let (Step::ForCpu(index) | Step::ForDevice(index)) = self;
        index
    }

    #[inline]
    pub(crate) const fn is_for_cpu(self) -> bool {
        matches!(self, Step::ForCpu(_))
    }
}

/// Whether a device may attach (R1, R14).
///
/// `cached_alias`: the kernel's own mapping of write-combined memory stays cached.
pub(crate) const fn attach(
    kind: Kind,
    dma_coherent: bool,
    own_ops: bool,
    cached_alias: bool,
) -> Result<(), Refusal> {
    match kind {
        Kind::Bracketed => Ok(()),
        Kind::Coherent if !dma_coherent => Err(Refusal::NotCoherent),
        Kind::WriteCombine if dma_coherent && cached_alias => Err(Refusal::Snoops),
        Kind::Coherent | Kind::WriteCombine if own_ops => Err(Refusal::Unknown),
        Kind::Coherent | Kind::WriteCombine => Ok(()),
    }
}

/// Whether a mapping may stay (R2, R14).
pub(crate) const fn map(kind: Kind, reach: Reach) -> Result<(), Refusal> {
    match (kind, reach) {
        (Kind::Bracketed, _) => Ok(()),
        (_, Reach::Bounced | Reach::PartlyBounced) => Err(Refusal::Bounced),
        (_, Reach::Unknown(_)) => Err(Refusal::Unknown),
        (Kind::Coherent, Reach::Direct | Reach::Iommu) => Err(Refusal::NotCoherent),
        (Kind::Coherent, Reach::Snooping) | (Kind::WriteCombine, _) => Ok(()),
    }
}

/// Whether a mapping may stay beside `others`. [beside]
///
/// `can_clean`: the CPU can write back and invalidate its caches without the help of a mapping.
pub(crate) fn beside(
    kind: Kind,
    new: Mapped,
    others: impl Iterator<Item = Mapped>,
    can_clean: bool,
) -> Result<(), Refusal> {
    let excludes = |a: Mapped, b: Mapped| match (a.reach, b.reach) {
        (Reach::Unknown(a), Reach::Unknown(b)) if a != b => true,
        (Reach::Unknown(_), _) => !can_clean,
        _ => false,
    };
    let mut writers = others.filter(|m| m.is_writer());
    if kind == Kind::Bracketed
        && new.is_writer()
        && writers.any(|m| excludes(new, m) || excludes(m, new))
    {
        return Err(Refusal::Beside);
    }
    Ok(())
}

/// Whether bytes have to be told apart by who wrote them, as copies are moved as a whole and more
/// than one device may write. [merge]
pub(crate) fn is_contested(kind: Kind, mappings: impl Iterator<Item = Mapped> + Clone) -> bool {
    kind == Kind::Bracketed
        && mappings.clone().any(Mapped::is_copy_writer)
        && mappings.filter(|m| m.is_writer()).nth(1).is_some()
}

/// After a mapping was made, which has cleaned what was dirty for a device past the caches.
/// `mappings`: with the new one.
pub(crate) fn mapped(
    state: State,
    new: Mapped,
    mut mappings: impl Iterator<Item = Mapped>,
) -> State {
    let dirty =
        mappings.any(Mapped::is_snooping_writer) || (state.dirty && !new.reach.is_past_caches());
    State { dirty, ..state }
}

/// How a mapping ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unmap {
    /// Without a sync: the CPU owns the bytes. [window]
    Discard,
    /// With the sync that the DMA API does.
    Sync,
    /// The same after a `dma_sync_sgtable_for_device()`, which saves what is dirty. [dirty]
    CleanAndSync,
}

/// How to take a mapping away. `others`: without it.
pub(crate) fn unmap(
    kind: Kind,
    state: State,
    old: Mapped,
    others: impl Iterator<Item = Mapped> + Clone,
) -> (Unmap, State) {
    if kind != Kind::Bracketed || state.writing {
        return (Unmap::Discard, state);
    }
    if !old.is_writer() {
        return (Unmap::Sync, state);
    }
    match old.reach {
        Reach::Snooping => (Unmap::Sync, state),
        Reach::Direct | Reach::Iommu if state.must_clean(others.clone()) => {
            (Unmap::CleanAndSync, state.cleaned(others))
        }
        Reach::Direct | Reach::Iommu => (Unmap::Sync, state),
        // The CPU copies.
        Reach::Bounced | Reach::PartlyBounced | Reach::Unknown(_) => (
            Unmap::Sync,
            State {
                dirty: true,
                ..state
            },
        ),
    }
}

/// Whether an unmap can be put off until somebody may look, and is not needed at all where the same
/// is mapped again before that. `others`: without it. [idle]
pub(crate) fn idles(
    kind: Kind,
    state: State,
    old: Mapped,
    mut others: impl Iterator<Item = Mapped>,
) -> bool {
    // What is not partial is not the CPU's either.
    let clean = !state.dirty && !state.written && !state.partial;
    let direct = |m: Mapped| m.reach == Reach::Direct;
    kind == Kind::Bracketed && clean && direct(old) && others.all(direct)
}

/// How to hand what the device of a mapping wrote to others, while it stays mapped (R7): as
/// [`unmap`] does. [device]
///
/// `others`: without it.
pub(crate) fn device_for_cpu(
    kind: Kind,
    state: State,
    of: Mapped,
    others: impl Iterator<Item = Mapped> + Clone,
) -> (Unmap, State) {
    unmap(kind, state, of, others)
}

/// Whether to hand what others wrote to the device of a mapping by a sync, while it stays mapped
/// (R7), and the state after that. `mappings`: with it. [device]
///
/// `contested`: copies were just fetched byte by byte, which has brought those up to date that
/// their devices may write, and cleaned for devices that write past the caches. The rest has got
/// nothing yet.
pub(crate) fn device_for_device(
    kind: Kind,
    state: State,
    contested: bool,
    of: Mapped,
    mappings: impl Iterator<Item = Mapped> + Clone,
) -> (bool, State) {
    if kind != Kind::Bracketed || state.writing || (contested && of.is_writer()) {
        return (false, state);
    }
    match of.reach {
        Reach::Snooping => (false, state),
        Reach::Direct | Reach::Iommu => (true, state.cleaned(mappings)),
        // Nobody else writes, so that its copy is no older than the buffer, but may be newer.
        Reach::Bounced | Reach::PartlyBounced | Reach::Unknown(_) if of.is_writer() => {
            (false, state)
        }
        Reach::Bounced | Reach::PartlyBounced | Reach::Unknown(_) => (true, state),
    }
}

/// The mapping by which one pass serves all direct ones. [shared]
///
/// To clean, one that its device reads is better: what `dma_sync_sgtable_for_device()` does for a
/// device that only writes is up to the architecture (arm64 cleans).
fn shared(
    mappings: impl Iterator<Item = Mapped> + Clone,
    good: impl Fn(Mapped) -> bool,
) -> Option<usize> {
    let direct = |m: &Mapped| m.reach == Reach::Direct;
    mappings
        .clone()
        .position(|m| direct(&m) && good(m))
        .or_else(|| mappings.clone().position(|m| direct(&m)))
}

/// What `begin_cpu_access` does (R3, R4), after the fences (R5).
///
/// What the CPU intends does not matter. Where it will write only, some bytes of a cache line, or
/// of a copy, may stay as they are, and `end` would write the old ones over those of the device. A
/// device that only reads has left nothing to fetch.
///
/// `contested`: fetch the copies byte by byte after that, and call [`fetched`]. Where it is true
/// the copies get no step here.
pub(crate) fn begin(
    kind: Kind,
    state: State,
    contested: bool,
    mappings: impl Iterator<Item = Mapped> + Clone,
    mut step: impl FnMut(Step),
) -> State {
    if kind != Kind::Bracketed || state.writing {
        return state;
    }
    let mut next = state;
    let must_clean = state.must_clean(mappings.clone());

    // Caches first: what is copied after that must not be invalidated. [order]
    let readable = |m: Mapped| m.dir != Direction::FromDevice;
    if let Some(index) = mappings
        .clone()
        .position(|m| m.reach == Reach::Direct && m.is_writer())
    {
        if let (true, Some(clean)) = (must_clean, shared(mappings.clone(), readable)) {
            step(Step::ForDevice(clean));
        }
        step(Step::ForCpu(index));
        next = state.cleaned(mappings.clone());
    }
    for (index, mapped) in mappings.clone().enumerate() {
        if mapped.reach == Reach::Iommu && mapped.is_writer() {
            if must_clean {
                step(Step::ForDevice(index));
            }
            step(Step::ForCpu(index));
            next = state.cleaned(mappings.clone());
        }
    }
    if !contested {
        for (index, mapped) in mappings.enumerate() {
            if mapped.is_copy_writer() {
                step(Step::ForCpu(index));
                next.dirty = true;
            }
        }
    }
    next
}

/// Whether the CPU's dirty lines must be written back before copies are fetched: what a device that
/// snoops has written would be dropped by ops that invalidate, and an older state of it, which had
/// been written back, be taken for what their device wrote. [dirty]
pub(crate) fn clean_before_fetch(
    state: State,
    mappings: impl Iterator<Item = Mapped> + Clone,
) -> bool {
    ((state.dirty || state.written) && mappings.clone().any(Mapped::is_unknown_writer))
        || invalidate_before_fetch(mappings)
}

/// Whether the CPU's lines must go, after that, before copies are fetched: ops of a device's own
/// may go past the caches, and a line may be older than what its device wrote. [`begin`] has
/// invalidated all where another device past the caches may write. [merge]
pub(crate) fn invalidate_before_fetch(mut mappings: impl Iterator<Item = Mapped> + Clone) -> bool {
    mappings.clone().any(Mapped::is_unknown_writer)
        && !mappings.any(|m| m.reach.is_past_caches() && m.is_writer())
}

/// Whether a copy has to be fetched before those of which this is false.
///
/// Ops of a device's own may go past the caches: what the device wrote is in memory, and would be
/// lost where a line that an earlier copy has dirtied is written back. [order]
pub(crate) const fn comes_first(mapped: Mapped) -> bool {
    mapped.reach.is_unknown()
}

/// Whether to fetch a copy makes the CPU write every line of the buffer.
///
/// Ops of a device's own may do that too. Nobody of their kind is past the caches then. [beside]
pub(crate) const fn dirties(mapped: Mapped) -> bool {
    matches!(mapped.reach, Reach::Bounced | Reach::PartlyBounced)
}

/// Whether a copy that was fetched byte by byte needs a `dma_sync_sgtable_for_device()` after
/// that. `news`: another device has written what it lacks. `dirtied`: the CPU has written lines
/// of the buffer, which must not stay under ops that may go past the caches. [merge]
pub(crate) const fn refresh(mapped: Mapped, news: bool, dirtied: bool) -> bool {
    news || (dirtied && mapped.reach.is_unknown())
}

/// After copies were fetched byte by byte. The CPU has written them, and so dirtied lines under
/// devices that write past the caches. Those lines must go before such a device writes again.
/// [dirty]
pub(crate) fn fetched(
    state: State,
    mappings: impl Iterator<Item = Mapped> + Clone,
    mut step: impl FnMut(Step),
) -> State {
    let mut cleaned = false;
    if mappings
        .clone()
        .any(|m| m.reach == Reach::Direct && m.is_writer())
    {
        if let Some(index) = shared(mappings.clone(), |m| m.dir != Direction::FromDevice) {
            step(Step::ForDevice(index));
            cleaned = true;
        }
    }
    for (index, mapped) in mappings.clone().enumerate() {
        if mapped.reach == Reach::Iommu && mapped.is_writer() {
            step(Step::ForDevice(index));
            cleaned = true;
        }
    }
    if cleaned {
        state.cleaned(mappings)
    } else {
        State {
            dirty: true,
            ..state
        }
    }
}

/// What `end_cpu_access` does (R3, R4).
///
/// A CPU that only read has left nothing to write back (DMA-API-HOWTO, "the CPU does not modify");
/// to write back all the same could go over what the device has written meanwhile. One that wrote
/// must be written back for a device that only writes, too: a dirty line that is evicted later
/// would go over the device's data.
pub(crate) fn end(
    kind: Kind,
    state: State,
    access: Access,
    mappings: impl Iterator<Item = Mapped> + Clone,
    mut step: impl FnMut(Step),
) -> State {
    if kind != Kind::Bracketed || !access.writes() {
        return state;
    }
    let mut cleaned = false;
    if let Some(index) = shared(mappings.clone(), |m| m.dir != Direction::FromDevice) {
        step(Step::ForDevice(index));
        cleaned = true;
    }
    for (index, mapped) in mappings.clone().enumerate() {
        match mapped.reach {
            Reach::Snooping | Reach::Direct => {}
            Reach::Iommu => {
                step(Step::ForDevice(index));
                cleaned = true;
            }
            // Without a window the CPU has written nothing: what is there may be older than the
            // copy. [window]
            Reach::Bounced | Reach::PartlyBounced | Reach::Unknown(_) if !state.writing => {}
            Reach::Bounced | Reach::PartlyBounced | Reach::Unknown(_) => {
                step(Step::ForDevice(index));
            }
        }
    }
    if cleaned {
        state.cleaned(mappings)
    } else {
        State {
            dirty: true,
            ..state
        }
    }
}

/// Whether it is enough that `end` cleans what CPU mappings have written. Not where other lines may
/// be newer than memory: devices get those by an END, too. [written]
pub(crate) const fn cleans_written(state: State) -> bool {
    !state.dirty
}

/// Whether it is enough that `end` copies out what CPU mappings have written. Not where a device
/// may have written what a copy lacks. `gone`: a device that may have is not mapped any more.
/// [written]
pub(crate) fn copies_written(gone: bool, mappings: impl Iterator<Item = Mapped> + Clone) -> bool {
    let copies = mappings.clone().filter(|m| m.is_copy()).count();
    let mut writers = mappings.filter(|m| m.is_writer());
    match (writers.next(), writers.next()) {
        _ if gone => false,
        (None, _) => true,
        (Some(only), None) => only.is_copy() && copies == 1,
        (Some(_), Some(_)) => false,
    }
}

/// Takes what a device wrote into its copy over into the buffer.
///
/// `seen` is the copy now, `base` what it was when it last equalled the buffer: what differs was
/// written by the device. `merged` is the buffer to be. All three are of the same length. [merge]
pub(crate) fn absorb(seen: &[u8], base: &mut [u8], merged: &mut [u8]) {
    for ((seen, base), merged) in seen.iter().zip(base).zip(merged) {
        if *seen != *base {
            *base = *seen;
            *merged = *seen;
        }
    }
}

/// What is done about CPU access outside of windows (R10).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Enforce {
    /// Nothing.
    Off,
    /// `COHBUF_ENFORCE_REPORT`
    Report,
    /// `COHBUF_ENFORCE_POISON`
    Poison,
}

/// What becomes of an access to a page by a user space mapping.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is in a window: map the page to be read, so that a write shows.
    Read,
    /// It is in a window that says WRITE: map the page to be written.
    Write,
    /// It is not: report it, and let it go on.
    Report,
    /// It is not: poison the buffer.
    Poison,
}

/// Judges an access. `may_read`, `may_write`: what the windows of its process allow for the page.
pub(crate) const fn judge(
    mode: Enforce,
    write: bool,
    may_read: bool,
    may_write: bool,
) -> Judgement {
    match mode {
        Enforce::Off => Judgement::Write,
        // A page that is read first is written next, mostly: one fault for both.
        _ if may_write => Judgement::Write,
        _ if may_read && !write => Judgement::Read,
        Enforce::Report => Judgement::Report,
        Enforce::Poison => Judgement::Poison,
    }
}
