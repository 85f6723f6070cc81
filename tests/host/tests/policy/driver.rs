// SPDX-License-Identifier: GPL-2.0

//! Carries out the policy on the model. Mirrors `src/maintenance.rs`, `src/buffer.rs`,
//! `src/copies.rs` and `src/windows.rs`, call by call, and the direction that `rust/sg_table.rs`
//! maps with; what changes there must be changed here.

use crate::memory::{Bytes, Dir, Mapping, Memory, Way};
use crate::policy::{self, Access, Direction, Kind, Mapped, Reach, Refusal, Step, Unmap};

const KIND: Kind = Kind::Bracketed;

/// An address space.
pub type Owner = usize;

#[derive(Debug)]
struct Attached {
    id: usize,
    mapping: Mapping,
    /// As the importer wants it.
    dir: Dir,
    base: Option<Bytes>,
}

/// The windows of one address space.
#[derive(Debug)]
struct Windows {
    owner: Owner,
    open: usize,
    lives: bool,
}

#[derive(Debug)]
pub struct Driver {
    pub memory: Memory,
    /// `Pages::can_clean()`
    can_clean: bool,
    attached: Vec<Attached>,
    dirty: bool,
    merge: Option<Bytes>,
    windows: Vec<Windows>,
    next_id: usize,
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

impl Driver {
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            can_clean: true,
            attached: Vec::new(),
            dirty: policy::State::NEW.dirty,
            merge: None,
            windows: Vec::new(),
            next_id: 0,
        }
    }

    /// On an architecture where the CPU cannot clean by itself.
    pub fn without_clean(memory: Memory) -> Self {
        Self {
            can_clean: false,
            ..Self::new(memory)
        }
    }

    fn state(&self) -> policy::State {
        policy::State {
            dirty: self.dirty,
            writing: !self.windows.is_empty(),
            partial: false,
        }
    }

    fn list(&self) -> Vec<Mapped> {
        self.attached.iter().map(Attached::as_mapped).collect()
    }

    fn is_contested(&self) -> bool {
        self.attached.iter().any(|a| a.base.is_some())
    }

    /// `new`: the mapping that comes after those in the list.
    fn carry_out(&mut self, mut new: Option<&mut Attached>, steps: Vec<Step>) {
        for step in steps {
            let (Step::ForCpu(index) | Step::ForDevice(index)) = step;
            let Some(of) = self.attached.get_mut(index).or(new.as_deref_mut()) else {
                continue;
            };
            match step {
                Step::ForCpu(_) => self.memory.sync_for_cpu(&of.mapping),
                Step::ForDevice(_) => self.memory.sync_for_device(&mut of.mapping),
            }
        }
    }

    /// `Pages::update()`
    fn update(&mut self, from: &Bytes) -> bool {
        let mut changed = false;
        for (at, &byte) in from.iter().enumerate() {
            if self.memory.cpu_read(at) != byte {
                self.memory.cpu_write(at, byte);
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
        let mapping = self.dma_map(way, dir);
        then(&mut self.memory);
        let mut new = Attached {
            id: self.next_id,
            mapping,
            dir,
            base: None,
        };
        policy::map(KIND, reach_of(way))?;
        let others = self.list();
        policy::beside(KIND, new.as_mapped(), others.into_iter(), self.can_clean)?;
        self.mapped(&mut new);
        self.next_id += 1;
        self.attached.push(new);
        Ok(self.next_id - 1)
    }

    fn mapped(&mut self, new: &mut Attached) {
        let mut all = self.list();
        all.push(new.as_mapped());
        let contested = policy::is_contested(KIND, all.iter().copied());
        let next = policy::mapped(self.state(), new.as_mapped(), all.iter().copied());
        self.dirty = next.dirty;
        if !contested {
            return;
        }
        self.merge.get_or_insert_default();
        let writing = self.state().writing;
        let with_base = new.as_mapped().is_copy_writer();
        if !writing {
            self.begin();
            if with_base {
                self.memory.sync_for_device(&mut new.mapping);
            }
        }
        if with_base {
            new.base = Some(self.memory.cpu_read_all());
        }
        for a in &mut self.attached {
            if a.as_mapped().is_copy_writer() && a.base.is_none() {
                a.base = Some(self.memory.cpu_read_all());
            }
        }
        if !writing {
            self.settle(Some(new));
        }
    }

    fn index(&self, id: usize) -> usize {
        self.attached.iter().position(|a| a.id == id).unwrap()
    }

    /// `Exporter::unmap()`
    pub fn unmap(&mut self, id: usize) {
        self.forget_dead();
        let index = self.index(id);
        let state = self.state();
        let how = if self.attached[index].base.is_some() && !state.writing {
            self.begin();
            Unmap::Discard
        } else {
            let mut others = self.list();
            let of_old = others.remove(index);
            let (how, next) = policy::unmap(KIND, state, of_old, others.into_iter());
            self.dirty = next.dirty;
            how
        };
        let mut old = self.attached.remove(index);
        match how {
            Unmap::Discard => {}
            Unmap::CleanAndSync => {
                self.memory.sync_for_device(&mut old.mapping);
                self.memory.unmap(old.mapping);
            }
            Unmap::Sync => self.memory.unmap(old.mapping),
        }
        if !self.is_contested() {
            self.merge = None;
        }
    }

    fn begin(&mut self) {
        let state = self.state();
        let contested = self.is_contested();
        let mut steps = Vec::new();
        let next = policy::begin(KIND, state, contested, self.list().into_iter(), |step| {
            steps.push(step)
        });
        self.carry_out(None, steps);
        self.dirty = next.dirty;
        if contested && !state.writing {
            self.fetch();
        }
    }

    fn fetch(&mut self) {
        let Some(mut merged) = self.merge else {
            return;
        };
        if policy::clean_before_fetch(self.state(), self.list().into_iter()) && self.can_clean {
            self.memory.clean_all();
        }
        merged.copy_from_slice(&self.memory.cpu_read_all());
        let mut dirtied = false;
        for first in [true, false] {
            for a in &mut self.attached {
                let of = a.as_mapped();
                let is_turn = policy::comes_first(of) == first;
                if let (Some(base), true) = (&mut a.base, is_turn) {
                    self.memory.sync_for_cpu(&a.mapping);
                    let seen = self.memory.cpu_read_all();
                    policy::absorb(&seen, base, &mut merged);
                    dirtied |= policy::dirties(of);
                }
            }
        }
        dirtied |= self.update(&merged);
        for a in &mut self.attached {
            let of = a.as_mapped();
            if let Some(base) = &mut a.base {
                let news = *base != merged;
                *base = merged;
                if policy::refresh(of, news, dirtied) {
                    self.memory.sync_for_device(&mut a.mapping);
                }
            }
        }
        self.merge = Some(merged);
        self.settle(None);
    }

    /// `new`: a mapping that is not in the list yet.
    fn settle(&mut self, new: Option<&mut Attached>) {
        let mut all = self.list();
        all.extend(new.as_deref().map(Attached::as_mapped));
        let mut steps = Vec::new();
        let next = policy::fetched(self.state(), all.into_iter(), |step| steps.push(step));
        self.carry_out(new, steps);
        self.dirty = next.dirty;
    }

    fn end(&mut self, access: Access) {
        let state = self.state();
        let mut steps = Vec::new();
        let next = policy::end(KIND, state, access, self.list().into_iter(), |step| {
            steps.push(step)
        });
        self.carry_out(None, steps);
        self.dirty = next.dirty;

        if self.is_contested() && state.writing {
            let contested = policy::is_contested(KIND, self.list().into_iter());
            for a in self.attached.iter_mut().filter(|a| a.base.is_some()) {
                a.base = contested.then(|| self.memory.cpu_read_all());
            }
            if !contested {
                self.merge = None;
            }
        }
    }

    /// `Exporter::begin_cpu_access()`, after the fences.
    pub fn start(&mut self, owner: Owner, access: Access) {
        self.forget_dead();
        self.begin();
        if !access.writes() {
            return;
        }
        match self.windows.iter_mut().find(|w| w.owner == owner) {
            Some(windows) => windows.open += 1,
            None => self.windows.push(Windows {
                owner,
                open: 1,
                lives: true,
            }),
        }
    }

    /// `Exporter::end_cpu_access()`
    pub fn finish(&mut self, owner: Owner, access: Access) {
        if !access.writes() {
            return;
        }
        self.forget_dead();
        self.end(access);
        for windows in self.windows.iter_mut().filter(|w| w.owner == owner) {
            windows.open -= 1;
        }
        self.windows.retain(|w| w.open > 0);
    }

    /// `Exporter::vma_close()`: a mapping into user space of the owner goes.
    pub fn munmap(&mut self, owner: Owner) {
        if self.windows.iter().any(|w| w.owner == owner) {
            self.end(Access::Write);
            self.windows.retain(|w| w.lives);
        }
    }

    /// The owner's address space goes. `mapped`: with mappings of the buffer.
    pub fn kill(&mut self, owner: Owner, mapped: bool) {
        for windows in self.windows.iter_mut().filter(|w| w.owner == owner) {
            windows.lives = false;
        }
        if mapped {
            self.munmap(owner);
        }
    }

    fn forget_dead(&mut self) {
        let before = self.windows.len();
        self.windows.retain(|w| w.lives);
        if self.windows.len() == before {
            return;
        }
        let state = policy::State {
            writing: false,
            ..self.state()
        };
        let mut steps = Vec::new();
        let next = policy::end(
            KIND,
            state,
            Access::Write,
            self.list().into_iter(),
            |step| steps.push(step),
        );
        self.carry_out(None, steps);
        self.dirty = next.dirty;
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
