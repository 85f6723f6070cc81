// SPDX-License-Identifier: GPL-2.0

//! Carries out the policy on the model. Mirrors `src/maintenance.rs` and `src/buffer.rs`, call by
//! call; what differs there must be changed here.

use crate::memory::{Bytes, Dir, Mapping, Memory, Way};
use crate::policy::{self, Access, Direction, Kind, Mapped, Reach, Step, Unmap};

/// Bits of who may open write windows.
pub type Owner = usize;

struct Attached {
    id: usize,
    mapping: Mapping,
    base: Option<Bytes>,
}

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
            Way::Bounced | Way::HalfBounced => Reach::Bounced,
            Way::UnknownPast | Way::UnknownCopy => Reach::Unknown,
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

    /// Takes over what a device wrote after its copy was fetched as a whole.
    fn take(&mut self, base: &mut Bytes, merged: &mut Bytes) {
        let seen = self.memory.cpu_read_all();
        policy::absorb(&seen, base, merged);
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
        let mut base = None;
        if policy::is_contested(Kind::Bracketed, all.iter().copied()) {
            if of_new.is_copy_writer() {
                base = Some(self.memory.cpu_read_all());
            }
            let mut fetched = false;
            let writing = self.is_writing();
            for a in &mut self.attached {
                if !mapped_as(&a.mapping).is_copy_writer() || a.base.is_some() {
                    continue;
                }
                if !writing {
                    self.memory.sync_for_cpu(&a.mapping);
                    fetched = true;
                }
                a.base = Some(self.memory.cpu_read_all());
            }
            self.dirty = policy::fetched(next, fetched).dirty;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.attached.push(Attached {
            id,
            mapping: new,
            base,
        });
        id
    }

    fn index(&self, id: usize) -> usize {
        self.attached.iter().position(|a| a.id == id).unwrap()
    }

    pub fn unmap(&mut self, id: usize) {
        let mut old = self.attached.remove(self.index(id));
        let of_old = mapped_as(&old.mapping);
        let others = self.list();
        let (how, next) =
            policy::unmap(Kind::Bracketed, self.state(), of_old, others.into_iter());
        self.dirty = next.dirty;
        match (how, &mut old.base) {
            (Unmap::Discard, _) => {}
            (Unmap::CleanAndSync, _) => {
                self.memory.sync_for_device(&mut old.mapping);
                self.memory.unmap(old.mapping);
            }
            (Unmap::Sync, Some(base)) => {
                let mut merged = self.memory.cpu_read_all();
                self.memory.unmap(old.mapping);
                self.take(base, &mut merged);
                self.update(&merged);
            }
            (Unmap::Sync, None) => self.memory.unmap(old.mapping),
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
        let mut merged = self.memory.cpu_read_all();
        for index in 0..self.attached.len() {
            if let Some(mut base) = self.attached[index].base {
                self.memory.sync_for_cpu(&self.attached[index].mapping);
                self.take(&mut base, &mut merged);
                self.attached[index].base = Some(base);
            }
        }
        let changed = self.update(&merged);
        for a in &mut self.attached {
            if let Some(base) = &mut a.base {
                if *base != merged {
                    *base = merged;
                    self.memory.sync_for_device(&mut a.mapping);
                }
            }
        }
        self.dirty = policy::fetched(self.state(), changed).dirty;
    }

    fn end(&mut self, access: Access) {
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

    /// The owner's mapping into user space goes, and its address space with it.
    pub fn kill(&mut self, owner: Owner) {
        if self.windows.contains(&owner) {
            self.end(Access::Write);
            self.windows.retain(|&w| w != owner);
            self.end(Access::Write);
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
