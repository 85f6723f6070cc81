// SPDX-License-Identifier: GPL-2.0

//! The rules of use, and what each party may see while they are kept.
//!
//! All of it is about cache lines. A window is open over the lines that its region touches: from a
//! START with WRITE to the END of the same region by the same address space, or to its END of a
//! region that has all bytes of it, where no window of just that one is open. While a device is
//! mapped of whose mapping no part can be synced, every window is open over all lines; such a device
//! is not mapped while all windows are open over parts.
//!
//! 1. The CPU reads a line between a START and an END of it. It writes in a window of its own
//!    alone.
//! 2. While any window is open over a line, no device writes it.
//! 3. Two devices that write the same byte are ordered: by a START of its line between the writes;
//!    or the first hands it over (its unmap, or `cohbuf_sync_for_cpu()`) before the second takes it
//!    (when it is mapped, or by `cohbuf_sync_for_device()`). So are two that write the same cache
//!    line, where one snoops and the other goes past the caches.
//! 4. A device sees what another party wrote once that has been handed over: by an END with WRITE
//!    of lines over which a window was open; or by taking it, when the CPU could see it.
//!
//! The CPU can see what a device wrote once a START of the line, or the unmap or
//! `cohbuf_sync_for_cpu()` of that device, came after it. Until a write has been handed over, it
//! may be seen or not. Devices neither hand over nor take lines over which a window is open.

use crate::driver::Driver;
use crate::memory::{Caches, Dir, LEN, LINE, LINES, Memory, Path, Way};
use crate::policy::{Access, Refusal};
use crate::region::{Layout, Region};
use crate::windows::Owner;

pub const PROCESSES: usize = 3;

/// Rows of bytes, in the buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Area {
    pub offset: usize,
    pub length: usize,
    pub stride: usize,
    pub rows: usize,
}

impl Area {
    pub const WHOLE: Self = Self {
        offset: 0,
        length: LEN,
        stride: LEN,
        rows: 1,
    };

    fn region(self) -> Region {
        let Self {
            offset,
            length,
            stride,
            rows,
        } = self;
        let [offset, length, stride, rows] = [offset, length, stride, rows].map(|n| n as u64);
        Region::new(Layout::Rows, offset, length, stride, rows, LEN).unwrap()
    }

    fn has(self, at: usize) -> bool {
        (0..self.rows)
            .map(|row| self.offset + row * self.stride)
            .any(|start| (start..start + self.length).contains(&at))
    }

    fn is(self, other: Self) -> bool {
        (0..LEN).all(|at| self.has(at) == other.has(at))
    }

    fn contains(self, other: Self) -> bool {
        (0..LEN).all(|at| self.has(at) || !other.has(at))
    }

    fn lines(self) -> Lines {
        std::array::from_fn(|line| (line * LINE..(line + 1) * LINE).any(|at| self.has(at)))
    }
}

type Lines = [bool; LINES];

/// Values of one byte, as bits.
type Set = u8;

/// Of those lines the newest bytes alone.
fn only(seen: &mut [Set; LEN], truth: &[u8; LEN], lines: Lines) {
    for at in (0..LEN).filter(|at| lines[at / LINE]) {
        seen[at] = 1 << truth[at];
    }
}

/// With `dma_map_ops` of its own, or partly bounced and past the caches.
fn is_unknown(way: Way) -> bool {
    matches!(
        way,
        Way::HalfBounced
            | Way::UnknownPast
            | Way::UnknownCopy
            | Way::UnknownSnooping
            | Way::UnknownWhole
    )
}

/// Whether two devices that may write are not to be mapped at the same time.
pub fn exclude(a: Way, b: Way, can_clean: bool) -> bool {
    (is_unknown(a) && is_unknown(b) && a != b) || (!can_clean && (is_unknown(a) || is_unknown(b)))
}

pub struct Device {
    id: usize,
    way: Way,
    dir: Dir,
    taken_at: usize,
    sees: [Set; LEN],
}

/// By a device, since the last START.
struct Write {
    at: usize,
    by: usize,
    path: Path,
    handed_at: Option<usize>,
}

/// One address space.
#[derive(Default)]
struct Process {
    id: Owner,
    /// Brackets that are open.
    brackets: Vec<(Access, Area)>,
    /// It has written what no END has handed over yet.
    has_written: bool,
}

impl Process {
    fn windows(&self) -> impl Iterator<Item = Area> {
        self.brackets
            .iter()
            .filter(|(access, _)| access.writes())
            .map(|(_, area)| *area)
    }

    /// What an END with WRITE does to its windows.
    fn close(&mut self, area: Area) {
        let is = |(access, of): &(Access, Area)| access.writes() && of.is(area);
        match self.brackets.iter().position(is) {
            Some(at) => {
                self.brackets.remove(at);
            }
            None => self
                .brackets
                .retain(|(access, of)| !access.writes() || !area.contains(*of)),
        }
    }
}

/// Does what is within the rules, and says what is seen that may not be.
pub struct World {
    driver: Driver,
    can_clean: bool,
    now: usize,
    devices: Vec<Device>,
    /// Attached, and mapped no more.
    idle: Vec<(usize, Way, Dir)>,
    processes: [Process; PROCESSES],
    vmaps: usize,
    /// The newest value of each byte.
    truth: [u8; LEN],
    /// The device that wrote it.
    last_writer: [Option<usize>; LEN],
    cpu_sees: [Set; LEN],
    writes: Vec<Write>,
}

pub type Result = std::result::Result<(), String>;

impl World {
    pub fn new(caches: Caches, can_clean: bool, tracked: bool) -> Self {
        let mut driver = Driver::new(Memory::new(caches));
        if !can_clean {
            driver = driver.without_clean();
        }
        if tracked {
            driver = driver.tracked();
        }
        Self {
            driver,
            can_clean,
            now: 0,
            devices: Vec::new(),
            idle: Vec::new(),
            processes: std::array::from_fn(|id| Process {
                id,
                ..Process::default()
            }),
            vmaps: 0,
            truth: [0; LEN],
            last_writer: [None; LEN],
            cpu_sees: [1; LEN],
            writes: Vec::new(),
        }
    }

    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    pub fn brackets(&self, process: usize) -> usize {
        self.processes[process].brackets.len()
    }

    fn has_indivisible(&self) -> bool {
        self.devices.iter().any(|d| d.way == Way::UnknownWhole)
    }

    /// Over which a window is open.
    fn owned(&self) -> Lines {
        let mut owned = [false; LINES];
        for area in self.processes.iter().flat_map(Process::windows) {
            let area = match self.has_indivisible() {
                true => Area::WHOLE,
                false => area,
            };
            let lines = area.lines();
            owned = std::array::from_fn(|line| owned[line] || lines[line]);
        }
        owned
    }

    /// What was written there is handed over, where a window is open.
    fn handed_over(&mut self, area: Area) {
        let (lines, owned) = (area.lines(), self.owned());
        let lines = std::array::from_fn(|line| lines[line] && owned[line]);
        for device in &mut self.devices {
            only(&mut device.sees, &self.truth, lines);
        }
        if lines == owned {
            for process in &mut self.processes {
                process.has_written = false;
            }
        }
    }

    pub fn set_caches(&mut self, caches: Caches) {
        self.driver.memory.set_caches(caches);
    }

    pub fn map(&mut self, way: Way, dir: Dir) -> Result {
        self.map_by(way, dir, |driver| driver.map(way, dir))
    }

    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// An importer that has unmapped maps again: 0 is who was the last to do so.
    pub fn map_again(&mut self, n: usize) -> Result {
        let (id, way, dir) = self.idle.remove(self.idle.len() - 1 - n);
        self.map_by(way, dir, |driver| driver.map_again(id, way, dir))
    }

    fn map_by(
        &mut self,
        way: Way,
        dir: Dir,
        map: impl FnOnce(&mut Driver) -> std::result::Result<usize, Refusal>,
    ) -> Result {
        self.now += 1;
        let mut windows = self.processes.iter().flat_map(Process::windows).peekable();
        let in_part = windows.peek().is_some() && !windows.any(|area| area.is(Area::WHOLE));
        let excluded = (way == Way::UnknownWhole && in_part)
            || dir.writes()
                && self
                    .devices
                    .iter()
                    .any(|d| d.dir.writes() && exclude(d.way, way, self.can_clean));
        match map(&mut self.driver) {
            Ok(id) if !excluded => self.devices.push(Device {
                id,
                way,
                dir,
                taken_at: self.now,
                sees: self.cpu_sees,
            }),
            Err(_) if excluded => {}
            other => return Err(format!("map of {way:?} {dir:?}: {other:?}")),
        }
        Ok(())
    }

    pub fn unmap(&mut self, n: usize) {
        self.given(n);
        let device = self.devices.remove(n);
        self.driver.unmap(device.id);
        self.idle.push((device.id, device.way, device.dir));
    }

    /// All mappings into user space go.
    pub fn munmap_all(&mut self) {
        for process in 0..PROCESSES {
            self.munmap(process);
        }
        self.driver.nobody_maps();
    }

    /// `cohbuf_sync_for_cpu()`
    pub fn sync_for_cpu(&mut self, n: usize) {
        self.given(n);
        self.driver.sync_for_cpu(self.devices[n].id);
    }

    /// The device hands over what it has written.
    fn given(&mut self, n: usize) {
        self.now += 1;
        let id = self.devices[n].id;
        for write in self.writes.iter_mut().filter(|w| w.by == id) {
            write.handed_at = Some(self.now);
        }
        let owned = self.owned();
        for at in (0..LEN).filter(|at| !owned[at / LINE]) {
            if self.last_writer[at] == Some(id) {
                self.cpu_sees[at] = 1 << self.truth[at];
            }
        }
    }

    /// `cohbuf_sync_for_device()`
    pub fn sync_for_device(&mut self, n: usize) {
        self.now += 1;
        let owned = self.owned();
        let device = &mut self.devices[n];
        device.taken_at = self.now;
        self.driver.sync_for_device(device.id);
        for at in (0..LEN).filter(|at| !owned[at / LINE]) {
            // It sees what it wrote itself.
            if self.last_writer[at] != Some(device.id) {
                device.sees[at] = self.cpu_sees[at];
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
        let ordered =
            |w: &Write| w.by == device.id || w.handed_at.is_some_and(|then| then < device.taken_at);
        device.dir.writes()
            && !self.owned()[at / LINE]
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
            handed_at: None,
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

    pub fn start(&mut self, process: usize, access: Access, area: Area) {
        let owner = self.processes[process].id;
        self.driver.start_region(owner, access, &area.region());
        self.processes[process].brackets.push((access, area));
        let lines = area.lines();
        only(&mut self.cpu_sees, &self.truth, lines);
        self.writes.retain(|w| !lines[w.at / LINE]);
    }

    /// Ends that one of the brackets that are open.
    pub fn end(&mut self, process: usize, n: usize) {
        let (access, area) = self.processes[process].brackets[n];
        if access.writes() {
            self.end_of(process, area);
        } else {
            let owner = self.processes[process].id;
            self.driver.finish_region(owner, access, &area.region());
            self.processes[process].brackets.remove(n);
        }
    }

    /// END with WRITE, with a window of that region or without.
    pub fn end_of(&mut self, process: usize, area: Area) {
        let owner = self.processes[process].id;
        self.driver
            .finish_region(owner, Access::ReadWrite, &area.region());
        self.handed_over(area);
        self.processes[process].close(area);
    }

    /// One of several mappings into user space goes.
    pub fn munmap(&mut self, process: usize) {
        self.driver.munmap(self.processes[process].id);
        if self.processes[process].windows().next().is_some() {
            self.handed_over(Area::WHOLE);
        }
    }

    /// `mapped`: while it has the buffer mapped. It has, where it has written. Another process
    /// takes its place.
    pub fn kill(&mut self, process: usize, mapped: bool) {
        let id = self.processes[process].id;
        let mapped = mapped || self.processes[process].has_written;
        self.driver.kill(id, mapped);
        if mapped && self.processes[process].windows().next().is_some() {
            self.handed_over(Area::WHOLE);
        }
        self.processes[process] = Process {
            id: id + PROCESSES,
            ..Process::default()
        };
    }

    pub fn vmap(&mut self) {
        self.vmaps += 1;
        self.driver.vmap();
    }

    pub fn vunmap(&mut self) {
        if self.vmaps > 0 {
            self.vmaps -= 1;
            self.driver.vunmap();
        }
    }

    /// `by_kernel`: by a mapping of the kernel, where there is one.
    pub fn cpu_write(&mut self, process: usize, at: usize, value: u8, by_kernel: bool) {
        let of = &mut self.processes[process];
        if !of.windows().any(|area| area.lines()[at / LINE]) {
            return;
        }
        if by_kernel && self.vmaps > 0 {
            self.driver.kernel_write(at, value);
        } else {
            self.driver.cpu_write(of.id, at, value);
        }
        of.has_written = true;
        self.truth[at] = value;
        self.last_writer[at] = None;
        self.cpu_sees[at] = 1 << value;
        for device in &mut self.devices {
            device.sees[at] |= 1 << value;
        }
    }

    pub fn cpu_read(&mut self, at: usize) -> Result {
        let mut brackets = self.processes.iter().flat_map(|p| &p.brackets);
        if !brackets.any(|(_, area)| area.lines()[at / LINE]) {
            return Ok(());
        }
        check(self.driver.cpu_read(at), self.cpu_sees[at])
            .map_err(|e| format!("the CPU at {at}: {e}"))
    }

    /// All brackets end, and one follows that hands all over to all.
    pub fn settle(&mut self) -> Result {
        for process in 0..PROCESSES {
            while !self.processes[process].brackets.is_empty() {
                self.end(process, 0);
            }
        }
        self.start(0, Access::ReadWrite, Area::WHOLE);
        for at in 0..LEN {
            self.cpu_read(at)?;
        }
        self.end(0, 0);
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
