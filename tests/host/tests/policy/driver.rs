// SPDX-License-Identifier: GPL-2.0

//! Carries out the policy on the model. Mirrors `src/maintenance.rs`, `src/buffer.rs` and
//! `src/copies.rs`, call by call, and the direction that `rust/sg_table.rs` maps with; what changes
//! there must be changed here.

use std::ops::Range;

use crate::memory::{Bytes, Dir, LEN, LINE, Mapping, Memory, Way};
use crate::policy::{self, Access, Direction, Kind, Mapped, Reach, Refusal, Step, Unmap};
use crate::region::{Region, union, within, without};
use crate::windows::{Owner, Windows};
use crate::written::{PageTables, Written};

const KIND: Kind = Kind::Bracketed;

#[derive(Debug)]
struct Attached {
    id: usize,
    mapping: Mapping,
    /// As the importer wants it.
    dir: Dir,
    base: Option<Bytes>,
}

/// Bytes of the buffer to maintain.
#[derive(Copy, Clone, Debug)]
enum Part<'r> {
    Whole,
    Lines(&'r Region),
    Free(&'r Region),
    Owned(&'r Region),
    Written(&'r Region),
    WrittenOwned(&'r Region),
}

impl Part<'_> {
    fn ranges(self, windows: &Windows, written: Option<&Written>) -> Vec<Range<usize>> {
        fn lines(region: &Region) -> impl Iterator<Item = Range<usize>> + Clone + '_ {
            region.lines(LINE, LEN)
        }
        let owned = |of: &Region| union(windows.owned(), LINE, LEN).near(&of.bounds());
        let written = || written.into_iter().flat_map(Written::ranges);
        match self {
            Part::Whole => std::iter::once(0..LEN).collect(),
            Part::Lines(region) => lines(region).collect(),
            Part::Free(region) => without(lines(region), owned(region)).collect(),
            Part::Owned(region) => within(lines(region), owned(region)).collect(),
            Part::Written(region) => within(lines(region), written()).collect(),
            Part::WrittenOwned(region) => {
                within(within(lines(region), owned(region)), written()).collect()
            }
        }
    }
}

fn sync(
    memory: &mut Memory,
    mapping: &mut Mapping,
    for_cpu: bool,
    part: Part<'_>,
    ranges: &[Range<usize>],
) {
    match (part, for_cpu) {
        (Part::Whole, true) => memory.sync_for_cpu(mapping),
        (Part::Whole, false) => memory.sync_for_device(mapping),
        (_, true) => memory.sync_parts_for_cpu(mapping, ranges),
        (_, false) => memory.sync_parts_for_device(mapping, ranges),
    }
}

#[derive(Debug)]
pub struct Driver {
    pub memory: Memory,
    /// `Pages::can_clean()`
    can_clean: bool,
    attached: Vec<Attached>,
    windows: Windows,
    dirty: bool,
    merge: Option<Bytes>,
    /// There where pages are tracked.
    written: Option<Written>,
    device_wrote: bool,
    tables: PageTables,
    /// As the core counts them.
    vmaps: usize,
    was_vmapped: bool,
    /// What importers may map again, and the round that an unmap was put off in.
    kept: Vec<(Attached, Option<u64>)>,
    late: Late,
    /// Whether any process has the buffer mapped.
    has_vmas: bool,
    next_id: usize,
}

/// What was put off.
#[derive(Debug, Default)]
struct Late {
    put_off: bool,
    written: bool,
    round: u64,
}

/// Of what number a device of each kind is.
fn reach_of(way: Way) -> Reach {
    match way {
        Way::Snooping => Reach::Snooping,
        Way::Direct => Reach::Direct,
        Way::Iommu => Reach::Iommu,
        Way::Bounced => Reach::Bounced,
        Way::HalfSnooping => Reach::PartlyBounced,
        Way::HalfBounced => Reach::Unknown(1),
        Way::UnknownPast => Reach::Unknown(2),
        Way::UnknownCopy => Reach::Unknown(3),
        Way::UnknownSnooping => Reach::Unknown(4),
        Way::UnknownWhole => Reach::Unknown(5),
    }
}

impl Attached {
    fn as_mapped(&self) -> Mapped {
        Mapped {
            reach: reach_of(self.mapping.way),
            dir: match self.dir {
                Dir::To => Direction::ToDevice,
                Dir::From => Direction::FromDevice,
                Dir::Both => Direction::Bidirectional,
            },
        }
    }
}

fn whole() -> Region {
    Region::whole(LEN)
}

/// `Base::is_now()`
fn is_now(memory: &mut Memory, base: &mut Bytes, ranges: &[Range<usize>]) {
    for at in ranges.iter().cloned().flatten() {
        base[at] = memory.cpu_read(at);
    }
}

impl Driver {
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            can_clean: true,
            attached: Vec::new(),
            windows: Windows::default(),
            dirty: policy::State::NEW.dirty,
            merge: None,
            written: None,
            device_wrote: false,
            tables: PageTables::default(),
            vmaps: 0,
            was_vmapped: false,
            kept: Vec::new(),
            late: Late::default(),
            has_vmas: true,
            next_id: 0,
        }
    }

    /// On an architecture where the CPU cannot clean by itself.
    pub fn without_clean(self) -> Self {
        Self {
            can_clean: false,
            ..self
        }
    }

    /// `COHBUF_TRACK_DIRTY`
    pub fn tracked(self) -> Self {
        Self {
            written: Some(Written::default()),
            ..self
        }
    }

    fn of_policy(&self, part: Option<Part<'_>>) -> policy::State {
        policy::State {
            dirty: self.dirty,
            written: self.written.as_ref().is_some_and(Written::any),
            writing: part.is_none(),
            partial: !matches!(part, Some(Part::Whole)),
        }
    }

    fn list(&self) -> Vec<Mapped> {
        let mut list = self.devices();
        list.extend((self.vmaps > 0).then_some(Mapped::KERNEL));
        list
    }

    fn devices(&self) -> Vec<Mapped> {
        self.attached.iter().map(Attached::as_mapped).collect()
    }

    /// Whether bytes are told apart.
    pub fn is_contested(&self) -> bool {
        self.attached.iter().any(|a| a.base.is_some())
    }

    fn is_indivisible(&self, new: Option<&Attached>) -> bool {
        self.attached
            .iter()
            .chain(new)
            .any(|a| !can_sync_parts(&a.mapping))
    }

    fn ranges(&self, part: Part<'_>) -> Vec<Range<usize>> {
        part.ranges(&self.windows, self.written.as_ref())
    }

    fn free<'r>(&self, new: Option<&Attached>, region: &'r Region) -> Option<Part<'r>> {
        let indivisible = self.is_indivisible(new);
        if self.windows.any() {
            if indivisible {
                return None;
            }
            let part = Part::Free(region);
            return (!self.ranges(part).is_empty()).then_some(part);
        }
        Some(if indivisible || *region == whole() {
            Part::Whole
        } else {
            Part::Lines(region)
        })
    }

    /// `new`: the mapping that comes after those in the list.
    fn carry_out<'p>(
        &mut self,
        mut new: Option<&mut Attached>,
        steps: Vec<Step>,
        part: impl Fn(Mapped) -> Part<'p>,
    ) {
        for step in steps {
            let index = step.index();
            let Some(of) = self.attached.get_mut(index).or(new.as_deref_mut()) else {
                continue;
            };
            let part = part(of.as_mapped());
            let ranges = part.ranges(&self.windows, self.written.as_ref());
            let for_cpu = step.is_for_cpu();
            sync(&mut self.memory, &mut of.mapping, for_cpu, part, &ranges);
        }
    }

    /// `Pages::update()`
    fn update(&mut self, from: &Bytes, ranges: &[Range<usize>]) -> bool {
        let mut changed = false;
        for at in ranges.iter().cloned().flatten() {
            if self.memory.cpu_read(at) != from[at] {
                self.memory.cpu_write(at, from[at]);
                changed = true;
            }
        }
        changed
    }

    /// `Mapping::new()`
    fn dma_map(&mut self, way: Way, dir: Dir) -> Mapping {
        let mapping = self.memory.map(way, dir);
        match reach_of(way) {
            Reach::Bounced | Reach::PartlyBounced | Reach::Unknown(_) if dir == Dir::From => {
                self.memory.map(way, Dir::Both)
            }
            _ => mapping,
        }
    }

    /// `Exporter::map()`
    pub fn map(&mut self, way: Way, dir: Dir) -> Result<usize, Refusal> {
        self.map_with(way, dir, |_| {})
    }

    /// `then` happens right after `dma_map_sgtable()`.
    pub fn map_with(
        &mut self,
        way: Way,
        dir: Dir,
        then: impl FnOnce(&mut Memory),
    ) -> Result<usize, Refusal> {
        self.forget_dead();
        // `MapRequest::map()`
        if reach_of(way) != Reach::Direct {
            self.catch_up();
        }
        let mapping = self.dma_map(way, dir);
        then(&mut self.memory);
        self.insert(mapping, dir, false)
    }

    /// `Exporter::map()` of an attachment whose mapping `id` was. `way`, `dir`: as that was.
    pub fn map_again(&mut self, id: usize, way: Way, dir: Dir) -> Result<usize, Refusal> {
        let Some(at) = self.kept.iter().position(|(a, _)| a.id == id) else {
            return self.map(way, dir);
        };
        self.forget_dead();
        if reach_of(way) != Reach::Direct {
            self.catch_up();
        }
        let (old, put_off) = self.kept.remove(at);
        if put_off != Some(self.late.round) {
            let mapping = self.dma_map(way, dir);
            return self.insert(mapping, dir, false);
        }
        self.insert(old.mapping, dir, true)
    }

    /// `untouched`: mapped without a sync.
    fn insert(&mut self, mapping: Mapping, dir: Dir, untouched: bool) -> Result<usize, Refusal> {
        let reach = reach_of(mapping.way);
        let mut new = Attached {
            id: self.next_id,
            mapping,
            dir,
            base: None,
        };
        policy::map(KIND, reach)?;
        self.beside(&new)?;
        self.added(Some(&mut new), untouched);
        self.next_id += 1;
        self.attached.push(new);
        Ok(self.next_id - 1)
    }

    /// `LockedMut::catch_up()`
    fn catch_up(&mut self) {
        if self.late.put_off {
            if self.late.written {
                self.memory
                    .invalidate_parts(std::slice::from_ref(&(0..LEN)));
            }
            self.late = Late {
                round: self.late.round + 1,
                ..Late::default()
            };
        }
    }

    /// Some process maps the buffer, if none has.
    pub fn mmap(&mut self) {
        if !self.has_vmas {
            self.has_vmas = true;
            self.catch_up();
        }
    }

    /// All processes have unmapped it.
    pub fn nobody_maps(&mut self) {
        self.has_vmas = false;
    }

    fn beside(&self, new: &Attached) -> Result<(), Refusal> {
        let all = whole();
        let owns_all = self.windows.owned().any(|of| *of == all);
        if !can_sync_parts(&new.mapping) && self.windows.any() && !owns_all {
            return Err(Refusal::Beside);
        }
        let others = self.devices().into_iter();
        policy::beside(KIND, new.as_mapped(), others, self.can_clean)
    }

    /// `new`: [`None`] for the kernel.
    fn added(&mut self, mut new: Option<&mut Attached>, untouched: bool) {
        let of_new = new.as_deref().map_or(Mapped::KERNEL, Attached::as_mapped);
        let mut all = self.list();
        all.push(of_new);
        let contested = policy::is_contested(KIND, all.iter().copied());
        let state = self.of_policy(Some(Part::Whole));
        let next = match untouched {
            true => state,
            false => policy::mapped(state, of_new, all.iter().copied()),
        };
        self.dirty = next.dirty;
        if !contested {
            return;
        }
        let region = whole();
        let part = self.free(new.as_deref(), &region);
        self.merge.get_or_insert([0; LEN]);
        if let Some(part) = part {
            self.begin_part(Some(part));
        }
        if let Some(new) = new.as_deref_mut().filter(|_| of_new.is_copy_writer()) {
            if let Some(part) = part {
                let ranges = self.ranges(part);
                sync(&mut self.memory, &mut new.mapping, false, part, &ranges);
            }
            new.base = Some(self.memory.cpu_read_all());
        }
        for a in &mut self.attached {
            if a.as_mapped().is_copy_writer() && a.base.is_none() {
                a.base = Some(self.memory.cpu_read_all());
            }
        }
        if let Some(part) = part {
            self.settle(new, part);
        }
    }

    fn index(&self, id: usize) -> usize {
        self.attached.iter().position(|a| a.id == id).unwrap()
    }

    fn others(&self, index: usize) -> impl Iterator<Item = Mapped> + Clone + use<> {
        let mut others = self.list();
        others.remove(index);
        others.into_iter()
    }

    /// `Exporter::unmap()`
    pub fn unmap(&mut self, id: usize) {
        self.forget_dead();
        let index = self.index(id);
        let region = whole();
        let part = self.free(None, &region);
        let state = self.of_policy(part);
        let of_old = self.attached[index].as_mapped();
        let mut idles = false;
        let how = if self.attached[index].base.is_some() && !state.writing {
            self.begin_part(part);
            Unmap::Discard
        } else {
            idles = policy::idles(KIND, state, of_old, self.others(index));
            let (how, next) = policy::unmap(KIND, state, of_old, self.others(index));
            self.dirty = next.dirty;
            how
        };
        self.device_wrote |= of_old.is_writer();

        let mut old = self.attached.remove(index);
        if idles && !self.has_vmas && self.vmaps == 0 {
            self.late.put_off = true;
            self.late.written |= of_old.is_writer();
            self.kept.push((old, Some(self.late.round)));
            return;
        }
        if of_old.reach == Reach::Snooping {
            self.kept.push((old, None));
            return;
        }
        match (how, part) {
            (Unmap::Discard, _) | (_, None) => {}
            (_, Some(Part::Whole)) => {
                if how == Unmap::CleanAndSync {
                    self.memory.sync_for_device(&mut old.mapping);
                }
                self.memory.unmap(old.mapping);
            }
            (_, Some(part)) => {
                let ranges = self.ranges(part);
                hand_over(&mut self.memory, &mut old, how, part, &ranges);
            }
        }
        if !self.is_contested() {
            self.merge = None;
        }
    }

    fn begin(&mut self, region: &Region) {
        let part = self.free(None, region);
        self.begin_part(part);
    }

    /// `part`: what no window owns.
    fn begin_part(&mut self, part: Option<Part<'_>>) {
        let state = self.of_policy(part);
        let contested = self.is_contested();
        let mut steps = Vec::new();
        let next = policy::begin(KIND, state, contested, self.list().into_iter(), |step| {
            steps.push(step)
        });
        if let Some(part) = part {
            self.carry_out(None, steps, |_| part);
        }
        self.dirty = next.dirty;
        if let (true, Some(part)) = (contested, part) {
            self.fetch(part);
        }
    }

    fn fetch(&mut self, part: Part<'_>) {
        let Some(mut merged) = self.merge else {
            return;
        };
        let state = self.of_policy(Some(part));
        if policy::clean_before_fetch(state, self.list().into_iter()) && self.can_clean {
            self.memory.clean_all();
        }
        let ranges = self.ranges(part);
        if policy::invalidate_before_fetch(self.list().into_iter()) && self.can_clean {
            self.memory.invalidate_parts(&ranges);
        }
        let bytes = || ranges.iter().cloned().flatten();
        for at in bytes() {
            merged[at] = self.memory.cpu_read(at);
        }
        let mut dirtied = false;
        for first in [true, false] {
            for a in &mut self.attached {
                let of = a.as_mapped();
                let is_turn = policy::comes_first(of) == first;
                if let (Some(base), true) = (&mut a.base, is_turn) {
                    sync(&mut self.memory, &mut a.mapping, true, part, &ranges);
                    for range in ranges.iter().cloned() {
                        let seen: Vec<_> =
                            range.clone().map(|at| self.memory.cpu_read(at)).collect();
                        policy::absorb(&seen, &mut base[range.clone()], &mut merged[range]);
                    }
                    dirtied |= policy::dirties(of);
                }
            }
        }
        dirtied |= self.update(&merged, &ranges);
        for a in &mut self.attached {
            let of = a.as_mapped();
            if let Some(base) = &mut a.base {
                let news = bytes().any(|at| base[at] != merged[at]);
                bytes().for_each(|at| base[at] = merged[at]);
                if policy::refresh(of, news, dirtied) {
                    sync(&mut self.memory, &mut a.mapping, false, part, &ranges);
                }
            }
        }
        self.merge = Some(merged);
        self.settle(None, part);
    }

    /// `new`: a mapping that is not in the list yet.
    fn settle(&mut self, new: Option<&mut Attached>, part: Part<'_>) {
        let mut all = self.list();
        all.extend(new.as_deref().map(Attached::as_mapped));
        let state = self.of_policy(Some(part));
        let mut steps = Vec::new();
        let next = policy::fetched(state, all.into_iter(), |step| steps.push(step));
        self.carry_out(new, steps, |_| part);
        self.dirty = next.dirty;
    }

    fn end(&mut self, access: Access, region: &Region) {
        if access.writes() {
            self.end_write(access, region);
        }
    }

    fn end_write(&mut self, access: Access, region: &Region) {
        let all = whole();
        let indivisible = self.is_indivisible(None);
        let region = if indivisible { &all } else { region };
        let tracked = !indivisible && self.record_written(region);
        let state = self.of_policy(Some(Part::Whole));
        let lines = match *region == all {
            _ if tracked && policy::cleans_written(state) => Part::Written(region),
            true => Part::Whole,
            false => Part::Lines(region),
        };
        let owned = match *region == all {
            _ if tracked && policy::copies_written(self.device_wrote, self.list().into_iter()) => {
                Part::WrittenOwned(region)
            }
            true if indivisible || self.windows.owned().any(|of| *of == all) => Part::Whole,
            _ => Part::Owned(region),
        };
        let any = self.windows.any();
        let state = policy::State {
            writing: any,
            ..self.of_policy(Some(lines))
        };
        let mut steps = Vec::new();
        let next = policy::end(KIND, state, access, self.list().into_iter(), |step| {
            steps.push(step)
        });
        self.carry_out(None, steps, |of| match of.is_copy() {
            true => owned,
            false => lines,
        });
        self.dirty = next.dirty;

        let all_pushed = any && matches!(owned, Part::Whole);
        if self.is_contested() && any {
            let contested = !all_pushed || policy::is_contested(KIND, self.list().into_iter());
            let ranges = self.ranges(owned);
            for a in &mut self.attached {
                match &mut a.base {
                    Some(base) if contested => is_now(&mut self.memory, base, &ranges),
                    _ => a.base = None,
                }
            }
            if !contested {
                self.merge = None;
            }
        }

        if all_pushed {
            self.device_wrote = false;
        }
        self.forget_written(region);
    }

    fn record_written(&mut self, region: &Region) -> bool {
        let maintained = self.list().iter().any(|m| m.reach != Reach::Snooping);
        let tracks = self.tracks_pages();
        let Some(written) = &mut self.written else {
            return false;
        };
        if maintained && tracks {
            written.record(&mut self.tables, &region.bounds());
        }
        tracks
    }

    fn tracks_pages(&self) -> bool {
        self.written.is_some() && !self.was_vmapped()
    }

    fn forget_written(&mut self, region: &Region) {
        if let Some(written) = &mut self.written {
            region.rows().for_each(|row| written.remove(&row));
        }
        if *region == whole() {
            self.forget_vmapped();
        }
    }

    /// `Locked::was_vmapped()`
    fn was_vmapped(&self) -> bool {
        self.was_vmapped || self.vmaps > 0
    }

    /// `LockedMut::forget_vmapped()`
    fn forget_vmapped(&mut self) {
        self.was_vmapped = self.vmaps > 0;
    }

    /// `dma_buf_vmap()`
    pub fn vmap(&mut self) {
        if self.vmaps == 0 {
            self.catch_up();
            self.forget_dead();
            self.added(None, false);
            self.dirty = true;
            self.was_vmapped = true;
        }
        self.vmaps += 1;
    }

    /// `dma_buf_vunmap()`
    pub fn vunmap(&mut self) {
        self.vmaps -= 1;
    }

    /// `cohbuf_sync_for_cpu()` (R7), after the fences.
    pub fn sync_for_cpu(&mut self, id: usize) {
        self.catch_up();
        self.forget_dead();
        let index = self.index(id);
        let region = whole();
        let part = self.free(None, &region);
        if self.is_contested() {
            self.begin_part(part);
        } else if let Some(part) = part {
            let of = self.attached[index].as_mapped();
            let state = self.of_policy(Some(part));
            let (how, next) = policy::device_for_cpu(KIND, state, of, self.others(index));
            let ranges = self.ranges(part);
            let a = &mut self.attached[index];
            hand_over(&mut self.memory, a, how, part, &ranges);
            self.dirty = next.dirty;
        }
    }

    /// `cohbuf_sync_for_device()` (R7), after the fences.
    pub fn sync_for_device(&mut self, id: usize) {
        self.catch_up();
        self.forget_dead();
        let index = self.index(id);
        let region = whole();
        let part = self.free(None, &region);
        let contested = self.is_contested();
        if contested {
            self.begin_part(part);
        }
        if let Some(part) = part {
            let of = self.attached[index].as_mapped();
            let state = self.of_policy(Some(part));
            let list = self.list().into_iter();
            let (wanted, next) = policy::device_for_device(KIND, state, contested, of, list);
            if wanted {
                let ranges = self.ranges(part);
                let a = &mut self.attached[index];
                sync(&mut self.memory, &mut a.mapping, false, part, &ranges);
            }
            self.dirty = next.dirty;
        }
    }

    /// `CohBuf::begin()`, after the fences.
    pub fn start_region(&mut self, owner: Owner, access: Access, region: &Region) {
        self.catch_up();
        self.forget_dead();
        self.begin(region);
        if access.writes() {
            self.windows.open(owner, region, access);
        }
    }

    /// `Exporter::begin_cpu_access()`, after the fences.
    pub fn start(&mut self, owner: Owner, access: Access) {
        self.start_region(owner, access, &whole());
    }

    /// `CohBuf::end()`
    pub fn finish_region(&mut self, owner: Owner, access: Access, region: &Region) {
        self.catch_up();
        self.forget_dead();
        self.end(access, region);
        if access.writes() {
            self.windows.end(owner, region, access);
        }
    }

    /// `Exporter::end_cpu_access()`
    pub fn finish(&mut self, owner: Owner, access: Access) {
        self.finish_region(owner, access, &whole());
    }

    /// `Exporter::vma_close()`: a mapping into user space of the owner goes.
    pub fn munmap(&mut self, owner: Owner) {
        self.mmap();
        if self.windows.forget_dead_but(owner) {
            self.clean_dead();
        }
        self.tables.unmap(owner);
        if let Some(written) = &mut self.written {
            written.add(&(0..LEN));
        }
        if self.windows.any_of(owner) {
            self.end(Access::Write, &whole());
            self.windows.forget_dead();
        }
    }

    /// The owner's address space goes. `mapped`: with mappings of the buffer.
    pub fn kill(&mut self, owner: Owner, mapped: bool) {
        self.windows.dies(owner);
        if mapped {
            self.munmap(owner);
        }
    }

    fn forget_dead(&mut self) {
        if self.windows.forget_dead() {
            self.clean_dead();
        }
    }

    fn clean_dead(&mut self) {
        let state = policy::State {
            writing: false,
            ..self.of_policy(Some(Part::Whole))
        };
        let mut steps = Vec::new();
        let next = policy::end(
            KIND,
            state,
            Access::Write,
            self.list().into_iter(),
            |step| steps.push(step),
        );
        self.carry_out(None, steps, |_| Part::Whole);
        self.dirty = next.dirty;
    }

    /// By a mapping into user space.
    pub fn cpu_write(&mut self, owner: Owner, at: usize, value: u8) {
        self.mmap();
        self.tables.write(owner, at);
        self.memory.cpu_write(at, value);
    }

    /// By a mapping into user space, or of the kernel.
    pub fn cpu_read(&mut self, at: usize) -> u8 {
        if self.vmaps == 0 {
            self.mmap();
        }
        self.memory.cpu_read(at)
    }

    /// By a mapping of the kernel.
    pub fn kernel_write(&mut self, at: usize, value: u8) {
        assert!(self.vmaps > 0);
        self.memory.cpu_write(at, value);
    }

    pub fn device_read(&mut self, id: usize, at: usize) -> u8 {
        let index = self.index(id);
        self.memory.device_read(&self.attached[index].mapping, at)
    }

    pub fn device_write(&mut self, id: usize, at: usize, value: u8) {
        let index = self.index(id);
        assert!(self.attached[index].dir.writes());
        self.memory
            .device_write(&mut self.attached[index].mapping, at, value);
    }
}

/// `cohbuf_rs_can_sync_parts()`
fn can_sync_parts(mapping: &Mapping) -> bool {
    mapping.way != Way::UnknownWhole
}

/// What the sync of an unmap does.
fn hand_over(
    memory: &mut Memory,
    of: &mut Attached,
    how: Unmap,
    part: Part<'_>,
    ranges: &[Range<usize>],
) {
    let mapped = of.as_mapped();
    if how == Unmap::Discard || !mapped.is_writer() || mapped.reach == Reach::Snooping {
        return;
    }
    if how == Unmap::CleanAndSync {
        sync(memory, &mut of.mapping, false, part, ranges);
    }
    sync(memory, &mut of.mapping, true, part, ranges);
}
