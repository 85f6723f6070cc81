// SPDX-License-Identifier: GPL-2.0

//! Carries out the policy on the model. Mirrors `src/maintenance.rs` and `src/buffer.rs`, call by
//! call; what differs there must be changed here.

use crate::memory::{Bytes, Dir, Mapping, Memory, Way};
use crate::policy::{self, Access, Direction, Kind, Mapped, Reach, Step, Unmap};

/// Bits of who may open write windows.
pub type Owner = usize;

#[derive(Debug)]
struct Attached {
    id: usize,
    mapping: Mapping,
    base: Option<Bytes>,
}

#[derive(Debug)]
pub struct Driver {
    pub memory: Memory,
    attached: Vec<Attached>,
    dirty: bool,
    /// Owners, once for each window.
    windows: Vec<Owner>,
    next_id: usize,
}

fn mapped_as(mapping: &Mapping) -> Mapped {
    Mapped {
        reach: match mapping.way {
            Way::Snooping => Reach::Snooping,
            Way::Direct => Reach::Direct,
            Way::Iommu => Reach::Iommu,
            Way::Bounced => Reach::Bounced,
            Way::HalfBounced | Way::UnknownPast | Way::UnknownCopy => Reach::Unknown,
        },
        dir: match mapping.dir {
            Dir::To => Direction::ToDevice,
            Dir::From => Direction::FromDevice,
            Dir::Both => Direction::Bidirectional,
        },
    }
}

impl Driver {
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            attached: Vec::new(),
            dirty: policy::State::NEW.dirty,
            windows: Vec::new(),
            next_id: 0,
        }
    }

    fn state(&self) -> policy::State {
        policy::State {
            dirty: self.dirty,
            writing: self.is_writing(),
        }
    }

    pub fn is_writing(&self) -> bool {
        !self.windows.is_empty()
    }

    fn list(&self) -> Vec<Mapped> {
        self.attached
            .iter()
            .map(|a| mapped_as(&a.mapping))
            .collect()
    }

    fn has_bases(&self) -> bool {
        self.attached.iter().any(|a| a.base.is_some())
    }

    fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::ForCpu(index) => self.memory.sync_for_cpu(&self.attached[index].mapping),
                Step::ForDevice(index) => self
                    .memory
                    .sync_for_device(&mut self.attached[index].mapping),
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

    pub fn map(&mut self, way: Way, dir: Dir) -> usize {
        self.map_with(way, dir, |_| {})
    }

    /// `then` happens right after `dma_map_sgtable()`.
    pub fn map_with(&mut self, way: Way, dir: Dir, then: impl FnOnce(&mut Memory)) -> usize {
        let new = self.memory.map(way, dir);
        then(&mut self.memory);
        let mut all = self.list();
        let of_new = mapped_as(&new);
        all.push(of_new);
        let next = policy::mapped(self.state(), of_new, all.iter().copied());
        self.dirty = next.dirty;
        let contested = policy::is_contested(Kind::Bracketed, all.iter().copied());
        let id = self.next_id;
        self.next_id += 1;
        if contested && !self.is_writing() {
            // Nothing may be in flight when bases are taken.
            self.begin();
        }
        self.attached.push(Attached {
            id,
            mapping: new,
            base: None,
        });
        if contested {
            let writing = self.is_writing();
            let now = self.memory.cpu_read_all();
            for a in &mut self.attached {
                if mapped_as(&a.mapping).is_copy_writer() && a.base.is_none() {
                    if a.id == id && !writing {
                        self.memory.sync_for_device(&mut a.mapping);
                    }
                    a.base = Some(now);
                }
            }
            if !writing {
                self.settle();
            }
        }
        id
    }

    fn index(&self, id: usize) -> usize {
        self.attached.iter().position(|a| a.id == id).unwrap()
    }

    pub fn unmap(&mut self, id: usize) {
        let index = self.index(id);
        // While it is in the list still.
        if self.attached[index].base.is_some() && !self.is_writing() {
            self.begin();
            self.attached.remove(index);
            return;
        }
        let mut old = self.attached.remove(index);
        let of_old = mapped_as(&old.mapping);
        let others = self.list();
        let (how, next) = policy::unmap(Kind::Bracketed, self.state(), of_old, others.into_iter());
        self.dirty = next.dirty;
        match how {
            Unmap::Discard => {}
            Unmap::CleanAndSync => {
                self.memory.sync_for_device(&mut old.mapping);
                self.memory.unmap(old.mapping);
            }
            Unmap::Sync => self.memory.unmap(old.mapping),
        }
    }

    fn begin(&mut self) {
        let state = self.state();
        let contested = self.has_bases();
        let mut steps = Vec::new();
        let next = policy::begin(
            Kind::Bracketed,
            state,
            contested,
            self.list().into_iter(),
            |step| steps.push(step),
        );
        self.carry_out(steps);
        self.dirty = next.dirty;
        if contested && !state.writing {
            self.fetch();
        }
    }

    fn fetch(&mut self) {
        if policy::clean_before_fetch(self.state(), self.list().into_iter()) {
            // By no mapping: arch_wb_cache_pmem().
            self.memory.clean_all();
        }
        let mut merged = self.memory.cpu_read_all();
        for first in [true, false] {
            for a in &mut self.attached {
                if let (Some(base), true) = (
                    &mut a.base,
                    policy::comes_first(mapped_as(&a.mapping)) == first,
                ) {
                    self.memory.sync_for_cpu(&a.mapping);
                    let seen = self.memory.cpu_read_all();
                    policy::absorb(&seen, base, &mut merged);
                }
            }
        }
        self.update(&merged);
        for a in &mut self.attached {
            if let Some(base) = &mut a.base {
                let news = *base != merged;
                *base = merged;
                if policy::refresh(mapped_as(&a.mapping), news) {
                    self.memory.sync_for_device(&mut a.mapping);
                }
            }
        }
        self.settle();
    }

    /// After the CPU has written what copies held.
    fn settle(&mut self) {
        let mut steps = Vec::new();
        let next = policy::fetched(self.state(), self.list().into_iter(), |step| {
            steps.push(step);
        });
        self.carry_out(steps);
        self.dirty = next.dirty;
    }

    fn end(&mut self, access: Access) {
        if !access.writes() || !self.is_writing() {
            return;
        }
        let mut steps = Vec::new();
        let next = policy::end(
            Kind::Bracketed,
            self.state(),
            access,
            self.list().into_iter(),
            |step| steps.push(step),
        );
        self.carry_out(steps);
        self.dirty = next.dirty;
        if self.has_bases() {
            let contested = policy::is_contested(Kind::Bracketed, self.list().into_iter());
            for a in &mut self.attached {
                if a.base.is_some() {
                    a.base = contested.then(|| self.memory.cpu_read_all());
                }
            }
        }
    }

    pub fn start(&mut self, owner: Owner, access: Access) {
        self.begin();
        if access.writes() {
            self.windows.push(owner);
        }
    }

    pub fn finish(&mut self, owner: Owner, access: Access) {
        self.end(access);
        if access.writes() {
            if let Some(index) = self.windows.iter().position(|&w| w == owner) {
                self.windows.remove(index);
            }
        }
    }

    /// The owner's last mapping into user space goes, where it has any, and its address space.
    pub fn kill(&mut self, owner: Owner) {
        if self.windows.contains(&owner) {
            self.end(Access::Write);
            self.windows.retain(|&w| w != owner);
        }
    }

    pub fn device_read(&mut self, id: usize, at: usize) -> u8 {
        let index = self.index(id);
        self.memory.device_read(&self.attached[index].mapping, at)
    }

    pub fn device_write(&mut self, id: usize, at: usize, value: u8) {
        let index = self.index(id);
        self.memory
            .device_write(&mut self.attached[index].mapping, at, value);
    }
}
