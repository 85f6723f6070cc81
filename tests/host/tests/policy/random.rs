// SPDX-License-Identifier: GPL-2.0

//! Long random sequences that keep the rules of use: nobody sees what may not be seen.

use proptest::prelude::*;

use crate::memory::{Caches, Dir, LEN, Way};
use crate::policy::Access;
use crate::rules::{PROCESSES, World};

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
    Munmap(usize),
    Kill(usize, bool),
    CpuWrite(usize, usize, u8),
    CpuRead(usize),
    Caches(Caches),
}

fn way() -> impl Strategy<Value = Way> {
    prop::sample::select(&Way::ALL[..])
}

fn dir() -> impl Strategy<Value = Dir> {
    prop::sample::select(&Dir::ALL[..])
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(&[Access::Read, Access::Write, Access::ReadWrite][..])
}

fn caches() -> impl Strategy<Value = Caches> {
    prop_oneof![
        prop::sample::select(&Caches::FIXED[..]),
        any::<u64>().prop_map(Caches::Random),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..MAPPINGS;
    let process = 0..PROCESSES;
    let value = 0..VALUES;
    prop_oneof![
        3 => (way(), dir()).prop_map(|(w, d)| Op::Map(w, d)),
        2 => n.clone().prop_map(Op::Unmap),
        10 => (n.clone(), 0..LEN, value.clone()).prop_map(|(n, a, v)| Op::DeviceWrite(n, a, v)),
        6 => (n, 0..LEN).prop_map(|(n, a)| Op::DeviceRead(n, a)),
        5 => (process.clone(), access()).prop_map(|(p, a)| Op::Start(p, a)),
        6 => process.clone().prop_map(Op::End),
        1 => process.clone().prop_map(Op::Munmap),
        1 => (process.clone(), any::<bool>()).prop_map(|(p, m)| Op::Kill(p, m)),
        6 => (process, 0..LEN, value).prop_map(|(p, a, v)| Op::CpuWrite(p, a, v)),
        6 => (0..LEN).prop_map(Op::CpuRead),
        8 => caches().prop_map(Op::Caches),
    ]
}

/// What names a device that is not there does nothing.
fn run(world: &mut World, op: &Op) -> Result<(), String> {
    let is_there = |n: usize| n < world.devices();
    match *op {
        Op::Map(way, dir) if world.devices() < MAPPINGS => world.map(way, dir)?,
        Op::Unmap(n) if is_there(n) => world.unmap(n),
        Op::DeviceWrite(n, at, value) if is_there(n) => world.device_write(n, at, value),
        Op::DeviceRead(n, at) if is_there(n) => world.device_read(n, at)?,
        Op::Start(process, access) => world.start(process, access),
        Op::End(process) => world.end(process),
        Op::Munmap(process) => world.munmap(process),
        Op::Kill(process, mapped) => world.kill(process, mapped),
        Op::CpuWrite(process, at, value) => world.cpu_write(process, at, value),
        Op::CpuRead(at) => world.cpu_read(at)?,
        Op::Caches(caches) => world.set_caches(caches),
        Op::Map(..) | Op::Unmap(_) | Op::DeviceWrite(..) | Op::DeviceRead(..) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 5_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_byte_is_stale_or_lost(
        caches in caches(),
        can_clean in any::<bool>(),
        ops in prop::collection::vec(op(), 0..300),
    ) {
        let mut world = World::new(caches, can_clean);
        for op in &ops {
            run(&mut world, op).map_err(TestCaseError::fail)?;
        }
        world.settle().map_err(TestCaseError::fail)?;
    }
}
