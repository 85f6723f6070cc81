// SPDX-License-Identifier: GPL-2.0

//! Long random sequences that keep the rules of use. Of every byte it is known which values each
//! party may see; none may see another.

use proptest::prelude::*;

use crate::driver::Driver;
use crate::memory::{Caches, Dir, LEN, LINE, Memory, Way};
use crate::policy::Access;

const OWNERS: usize = 3;
const MAPPINGS: usize = 4;
const VALUES: u8 = 4;

#[derive(Clone, Debug)]
enum Op {
    Map(Way, Dir),
    Unmap(usize),
    DeviceWrite(usize, usize, u8),
    DeviceRead(usize, usize),
    Start(usize, Access),
    End(usize),
    Kill(usize),
    CpuWrite(usize, usize, u8),
    CpuRead(usize),
    Caches(Caches),
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Snooping),
        Just(Way::Direct),
        Just(Way::Iommu),
        Just(Way::Bounced),
        Just(Way::HalfBounced),
        Just(Way::UnknownPast),
        Just(Way::UnknownCopy),
    ]
}

fn dir() -> impl Strategy<Value = Dir> {
    prop_oneof![Just(Dir::Both), Just(Dir::From), Just(Dir::To)]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        Just(Access::Read),
        Just(Access::Write),
        Just(Access::ReadWrite)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let number = 0..MAPPINGS;
    let value = 0..VALUES;
    prop_oneof![
        3 => (way(), dir()).prop_map(|(w, d)| Op::Map(w, d)),
        2 => number.clone().prop_map(Op::Unmap),
        10 => (number.clone(), 0..LEN, value.clone()).prop_map(|(n, a, v)| Op::DeviceWrite(n, a, v)),
        6 => (number, 0..LEN).prop_map(|(n, a)| Op::DeviceRead(n, a)),
        5 => (0..OWNERS, access()).prop_map(|(o, a)| Op::Start(o, a)),
        6 => (0..OWNERS).prop_map(Op::End),
        1 => (0..OWNERS).prop_map(Op::Kill),
        6 => (0..OWNERS, 0..LEN, value).prop_map(|(o, a, v)| Op::CpuWrite(o, a, v)),
        6 => (0..LEN).prop_map(Op::CpuRead),
        8 => caches().prop_map(Op::Caches),
    ]
}

/// A set of values of one byte, as bits.
type Set = u8;

fn only(values: &[u8; LEN]) -> [Set; LEN] {
    values.map(|v| 1 << v)
}

/// How a write gets into memory.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Medium {
    Caches,
    Memory,
    Copy,
}

struct Device {
    id: usize,
    way: Way,
    dir: Dir,
    mapped_at: usize,
    sees: [Set; LEN],
}

impl Device {
    fn medium(&self, line: usize) -> Medium {
        match self.way {
            Way::Snooping => Medium::Caches,
            Way::Direct | Way::Iommu | Way::UnknownPast => Medium::Memory,
            Way::Bounced | Way::UnknownCopy => Medium::Copy,
            Way::HalfBounced if line < 2 => Medium::Copy,
            Way::HalfBounced => Medium::Memory,
        }
    }
}

/// A device's write since the last START or END.
struct Write {
    at: usize,
    by: usize,
    medium: Medium,
    unmapped_at: Option<usize>,
}

struct World {
    driver: Driver,
    now: usize,
    devices: Vec<Device>,
    brackets: [Vec<Access>; OWNERS],
    /// The newest value of each byte.
    truth: [u8; LEN],
    last_writer: [Option<usize>; LEN],
    cpu_sees: [Set; LEN],
    writes: Vec<Write>,
}

impl World {
    fn new(caches: Caches) -> Self {
        Self {
            driver: Driver::new(Memory::new(caches)),
            now: 0,
            devices: Vec::new(),
            brackets: Default::default(),
            truth: [0; LEN],
            last_writer: [None; LEN],
            cpu_sees: [1; LEN],
            writes: Vec::new(),
        }
    }

    fn is_writing(&self) -> bool {
        self.brackets.iter().flatten().any(|a| a.writes())
    }

    /// Whether a write by a device is ordered after all others that it could meet.
    fn may_write(&self, device: &Device, at: usize) -> bool {
        let medium = device.medium(at / LINE);
        !self.is_writing()
            && device.dir.writes()
            && self.writes.iter().all(|w| {
                let ordered =
                    w.by == device.id || w.unmapped_at.is_some_and(|t| t <= device.mapped_at);
                let meets = w.at == at
                    || (w.at / LINE == at / LINE
                        && w.medium != medium
                        && w.medium != Medium::Copy
                        && medium != Medium::Copy);
                ordered || !meets
            })
    }

    fn pushed(&mut self) {
        for device in &mut self.devices {
            device.sees = only(&self.truth);
        }
        self.writes.clear();
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        self.now += 1;
        match *op {
            Op::Map(way, dir) => {
                let unknown =
                    |w: Way| matches!(w, Way::HalfBounced | Way::UnknownPast | Way::UnknownCopy);
                let mixed = unknown(way)
                    && dir.writes()
                    && self
                        .devices
                        .iter()
                        .any(|d| unknown(d.way) && d.way != way && d.dir.writes());
                if self.devices.len() < MAPPINGS && !mixed {
                    let id = self.driver.map(way, dir);
                    self.devices.push(Device {
                        id,
                        way,
                        dir,
                        mapped_at: self.now,
                        sees: self.cpu_sees,
                    });
                }
            }
            Op::Unmap(n) if n < self.devices.len() => {
                let device = self.devices.remove(n);
                self.driver.unmap(device.id);
                for w in &mut self.writes {
                    if w.by == device.id {
                        w.unmapped_at = Some(self.now);
                    }
                }
                for at in 0..LEN {
                    if self.last_writer[at] == Some(device.id) {
                        self.cpu_sees[at] = 1 << self.truth[at];
                    }
                }
            }
            Op::DeviceWrite(n, at, value) if n < self.devices.len() => {
                if self.may_write(&self.devices[n], at) {
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
                        medium: self.devices[n].medium(at / LINE),
                        unmapped_at: None,
                    });
                }
            }
            Op::DeviceRead(n, at) if n < self.devices.len() && self.devices[n].dir.reads() => {
                let value = self.driver.device_read(self.devices[n].id, at);
                prop_assert!(
                    value < 8 && self.devices[n].sees[at] & 1 << value != 0,
                    "device {n} reads {value} at {at}, may see {:b}",
                    self.devices[n].sees[at]
                );
            }
            Op::Start(owner, access) => {
                self.driver.start(owner, access);
                self.brackets[owner].push(access);
                self.cpu_sees = only(&self.truth);
                self.writes.clear();
            }
            Op::End(owner) => {
                if let Some(access) = self.brackets[owner].pop() {
                    self.driver.finish(owner, access);
                    if access.writes() {
                        self.pushed();
                    }
                }
            }
            Op::Kill(owner) => {
                let wrote = self.brackets[owner].iter().any(|a| a.writes());
                self.driver.kill(owner);
                self.brackets[owner].clear();
                if wrote {
                    self.pushed();
                }
            }
            Op::CpuWrite(owner, at, value) if self.brackets[owner].iter().any(|a| a.writes()) => {
                self.driver.memory.cpu_write(at, value);
                self.truth[at] = value;
                self.last_writer[at] = None;
                self.cpu_sees[at] = 1 << value;
                for device in &mut self.devices {
                    device.sees[at] |= 1 << value;
                }
            }
            Op::CpuRead(at) if self.brackets.iter().any(|b| !b.is_empty()) => {
                let value = self.driver.memory.cpu_read(at);
                prop_assert!(
                    value < 8 && self.cpu_sees[at] & 1 << value != 0,
                    "the CPU reads {value} at {at}, may see {:b}",
                    self.cpu_sees[at]
                );
            }
            Op::Caches(caches) => self.driver.memory.set_caches(caches),
            _ => {}
        }
        Ok(())
    }

    /// All brackets end, and one of all bytes follows.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for owner in 0..OWNERS {
            while !self.brackets[owner].is_empty() {
                self.run(&Op::End(owner))?;
            }
        }
        self.run(&Op::Start(0, Access::ReadWrite))?;
        for at in 0..LEN {
            self.run(&Op::CpuRead(at))?;
        }
        self.run(&Op::End(0))?;
        for n in 0..self.devices.len() {
            for at in 0..LEN {
                self.run(&Op::DeviceRead(n, at))?;
            }
        }
        Ok(())
    }
}

fn caches() -> impl Strategy<Value = Caches> {
    prop_oneof![
        Just(Caches::Idle),
        Just(Caches::WriteBack),
        Just(Caches::Evict),
        Just(Caches::Prefetch),
        Just(Caches::WriteBackPrefetch),
        any::<u64>().prop_map(Caches::Random),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn no_byte_is_stale_or_lost(
        caches in caches(),
        ops in prop::collection::vec(op(), 0..300),
    ) {
        let mut world = World::new(caches);
        for op in &ops {
            world.run(op)?;
        }
        world.settle()?;
    }
}
