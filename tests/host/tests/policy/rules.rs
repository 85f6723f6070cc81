// SPDX-License-Identifier: GPL-2.0

//! The rules of use, and what each party may see while they are kept.
//!
//! 1. The CPU reads between START and END. It writes in a window of its own alone: between START
//!    with WRITE and END, by the same address space.
//! 2. While any write window is open, no device writes.
//! 3. Two devices that write the same byte are ordered: by a START between the writes, or by an
//!    unmap of the first before the second is mapped. So are two that write the same cache line,
//!    where one snoops and the other goes past the caches.
//! 4. A device sees what another party wrote once that has been handed over: by an END with WRITE;
//!    or by being mapped after the CPU could see it.
//!
//! The CPU can see what a device wrote once a START, or the unmap of that device, came after it.
//! Until a write has been handed over, it may be seen or not.

use crate::driver::{Driver, Owner};
use crate::memory::{Caches, Dir, LEN, LINE, Memory, Path, Way};
use crate::policy::Access;

pub const PROCESSES: usize = 3;

/// Values of one byte, as bits.
type Set = u8;

fn only(values: &[u8; LEN]) -> [Set; LEN] {
    values.map(|value| 1 << value)
}

/// With `dma_map_ops` of its own, or partly bounced and past the caches.
fn is_unknown(way: Way) -> bool {
    matches!(
        way,
        Way::HalfBounced | Way::UnknownPast | Way::UnknownCopy | Way::UnknownSnooping
    )
}

fn snoops(way: Way) -> bool {
    matches!(way, Way::Snooping | Way::HalfSnooping)
}

/// Whether two devices that may write are not to be mapped at the same time.
pub fn exclude(a: Way, b: Way, can_clean: bool) -> bool {
    (is_unknown(a) && is_unknown(b) && a != b)
        || (!can_clean && (is_unknown(a) && snoops(b) || snoops(a) && is_unknown(b)))
}

pub struct Device {
    id: usize,
    way: Way,
    dir: Dir,
    mapped_at: usize,
    sees: [Set; LEN],
}

/// By a device, since the last START.
struct Write {
    at: usize,
    by: usize,
    path: Path,
    unmapped_at: Option<usize>,
}

/// One address space.
#[derive(Default)]
struct Process {
    id: Owner,
    /// Brackets that are open.
    brackets: Vec<Access>,
    /// It has written what no END has handed over yet.
    has_written: bool,
}

impl Process {
    fn windows(&self) -> usize {
        self.brackets.iter().filter(|a| a.writes()).count()
    }
}

/// Does what is within the rules, and says what is seen that may not be.
pub struct World {
    driver: Driver,
    can_clean: bool,
    now: usize,
    devices: Vec<Device>,
    processes: [Process; PROCESSES],
    /// The newest value of each byte.
    truth: [u8; LEN],
    /// The device that wrote it.
    last_writer: [Option<usize>; LEN],
    cpu_sees: [Set; LEN],
    writes: Vec<Write>,
}

pub type Result = std::result::Result<(), String>;

impl World {
    pub fn new(caches: Caches, can_clean: bool) -> Self {
        let memory = Memory::new(caches);
        Self {
            driver: if can_clean {
                Driver::new(memory)
            } else {
                Driver::without_clean(memory)
            },
            can_clean,
            now: 0,
            devices: Vec::new(),
            processes: std::array::from_fn(|id| Process {
                id,
                ..Process::default()
            }),
            truth: [0; LEN],
            last_writer: [None; LEN],
            cpu_sees: [1; LEN],
            writes: Vec::new(),
        }
    }

    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    fn is_writing(&self) -> bool {
        self.processes.iter().any(|p| p.windows() > 0)
    }

    /// All that was written is handed over.
    fn handed_over(&mut self) {
        for device in &mut self.devices {
            device.sees = only(&self.truth);
        }
        for process in &mut self.processes {
            process.has_written = false;
        }
    }

    pub fn set_caches(&mut self, caches: Caches) {
        self.driver.memory.set_caches(caches);
    }

    pub fn map(&mut self, way: Way, dir: Dir) -> Result {
        self.now += 1;
        let excluded = dir.writes()
            && self
                .devices
                .iter()
                .any(|d| d.dir.writes() && exclude(d.way, way, self.can_clean));
        match self.driver.map(way, dir) {
            Ok(id) if !excluded => self.devices.push(Device {
                id,
                way,
                dir,
                mapped_at: self.now,
                sees: self.cpu_sees,
            }),
            Err(_) if excluded => {}
            other => return Err(format!("map of {way:?} {dir:?}: {other:?}")),
        }
        Ok(())
    }

    pub fn unmap(&mut self, n: usize) {
        self.now += 1;
        let device = self.devices.remove(n);
        self.driver.unmap(device.id);
        for write in self.writes.iter_mut().filter(|w| w.by == device.id) {
            write.unmapped_at = Some(self.now);
        }
        for at in 0..LEN {
            if self.last_writer[at] == Some(device.id) {
                self.cpu_sees[at] = 1 << self.truth[at];
            }
        }
    }

    /// Rules 2 and 3.
    fn may_write(&self, device: &Device, at: usize) -> bool {
        let path = device.way.path(at / LINE);
        let meets = |w: &Write| {
            w.at == at
                || (w.at / LINE == at / LINE
                    && matches!(
                        (w.path, path),
                        (Path::Snoop, Path::Past) | (Path::Past, Path::Snoop)
                    ))
        };
        let ordered = |w: &Write| {
            w.by == device.id || w.unmapped_at.is_some_and(|then| then < device.mapped_at)
        };
        device.dir.writes()
            && !self.is_writing()
            && self.writes.iter().all(|w| ordered(w) || !meets(w))
    }

    pub fn device_write(&mut self, n: usize, at: usize, value: u8) {
        if !self.may_write(&self.devices[n], at) {
            return;
        }
        let id = self.devices[n].id;
        self.driver.device_write(id, at, value);
        self.truth[at] = value;
        self.last_writer[at] = Some(id);
        self.cpu_sees[at] |= 1 << value;
        for device in &mut self.devices {
            device.sees[at] |= 1 << value;
        }
        self.devices[n].sees[at] = 1 << value;
        self.writes.push(Write {
            at,
            by: id,
            path: self.devices[n].way.path(at / LINE),
            unmapped_at: None,
        });
    }

    pub fn device_read(&mut self, n: usize, at: usize) -> Result {
        if !self.devices[n].dir.reads() {
            return Ok(());
        }
        let value = self.driver.device_read(self.devices[n].id, at);
        check(value, self.devices[n].sees[at]).map_err(|e| {
            let device = &self.devices[n];
            format!("device {n} {:?} {:?} at {at}: {e}", device.way, device.dir)
        })
    }

    pub fn start(&mut self, process: usize, access: Access) {
        self.driver.start(self.processes[process].id, access);
        self.processes[process].brackets.push(access);
        self.cpu_sees = only(&self.truth);
        self.writes.clear();
    }

    /// Ends the last bracket that is open; an END that has no START where there is none.
    pub fn end(&mut self, process: usize) {
        let owner = self.processes[process].id;
        match self.processes[process].brackets.pop() {
            Some(access) => {
                self.driver.finish(owner, access);
                if access.writes() {
                    self.handed_over();
                }
            }
            // Promises nothing. It may hand over what others have written in their windows.
            None => self.driver.finish(owner, Access::ReadWrite),
        }
    }

    /// One of several mappings into user space goes.
    pub fn munmap(&mut self, process: usize) {
        self.driver.munmap(self.processes[process].id);
        if self.processes[process].windows() > 0 {
            self.handed_over();
        }
    }

    /// `mapped`: while it has the buffer mapped. It has, where it has written. Another process
    /// takes its place.
    pub fn kill(&mut self, process: usize, mapped: bool) {
        let killed = std::mem::take(&mut self.processes[process]);
        self.processes[process].id = killed.id + PROCESSES;
        let mapped = mapped || killed.has_written;
        self.driver.kill(killed.id, mapped);
        if mapped && killed.windows() > 0 {
            self.handed_over();
        }
    }

    pub fn cpu_write(&mut self, process: usize, at: usize, value: u8) {
        if self.processes[process].windows() == 0 {
            return;
        }
        self.driver.memory.cpu_write(at, value);
        self.processes[process].has_written = true;
        self.truth[at] = value;
        self.last_writer[at] = None;
        self.cpu_sees[at] = 1 << value;
        for device in &mut self.devices {
            device.sees[at] |= 1 << value;
        }
    }

    pub fn cpu_read(&mut self, at: usize) -> Result {
        if self.processes.iter().all(|p| p.brackets.is_empty()) {
            return Ok(());
        }
        check(self.driver.memory.cpu_read(at), self.cpu_sees[at])
            .map_err(|e| format!("the CPU at {at}: {e}"))
    }

    /// All brackets end, and one follows that hands all over to all.
    pub fn settle(&mut self) -> Result {
        for process in 0..PROCESSES {
            while !self.processes[process].brackets.is_empty() {
                self.end(process);
            }
        }
        self.start(0, Access::ReadWrite);
        for at in 0..LEN {
            self.cpu_read(at)?;
        }
        self.end(0);
        for n in 0..self.devices.len() {
            for at in 0..LEN {
                self.device_read(n, at)?;
            }
        }
        Ok(())
    }
}

fn check(value: u8, may_be: Set) -> Result {
    if value < 8 && may_be & (1 << value) != 0 {
        return Ok(());
    }
    let values: Vec<_> = (0..8).filter(|v| may_be & (1 << v) != 0).collect();
    Err(format!("{value}, must be one of {values:?}"))
}
