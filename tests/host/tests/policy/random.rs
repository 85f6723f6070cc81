// SPDX-License-Identifier: GPL-2.0

//! Long random sequences that keep the rules of use: nobody sees what may not be seen.

use proptest::prelude::*;

use crate::memory::{Caches, Dir, LEN, LINE, Way};
use crate::policy::Access;
use crate::rules::{Area, PROCESSES, World};

const MAPPINGS: usize = 4;
const VALUES: u8 = 4;
const CASES: u32 = 1_500;

#[derive(Clone, Debug)]
enum Op {
    Map(Way, Dir),
    Unmap(usize),
    MapAgain(usize),
    DeviceWrite(usize, usize, u8),
    DeviceRead(usize, usize),
    SyncForCpu(usize),
    SyncForDevice(usize),
    Start(usize, Access, Area),
    End(usize, usize),
    EndOf(usize, Area),
    Munmap(usize),
    MunmapAll,
    Kill(usize, bool),
    Vmap,
    Vunmap,
    CpuWrite(usize, usize, u8, bool),
    CpuRead(usize),
    Caches(Caches),
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        15 => prop::sample::select(&Way::DIVISIBLE[..]),
        1 => Just(Way::UnknownWhole),
    ]
}

fn dir() -> impl Strategy<Value = Dir> {
    prop::sample::select(&Dir::ALL[..])
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(&[Access::Read, Access::Write, Access::ReadWrite][..])
}

/// The whole buffer, or some of it, by bytes or by lines, in one row or more.
fn area() -> impl Strategy<Value = Area> {
    let some = (
        0..LEN,
        1..=2 * LINE,
        0..=2 * LINE,
        1..=4usize,
        any::<bool>(),
    )
        .prop_map(|(offset, length, gap, rows, lines)| {
            let round = |n: usize| if lines { n / LINE * LINE } else { n };
            let offset = round(offset);
            let length = round(length).max(if lines { LINE } else { 1 });
            let length = length.min(LEN - offset);
            let stride = length + round(gap);
            Area {
                offset,
                length,
                stride,
                rows: rows.min((LEN - offset - length) / stride + 1),
            }
        });
    prop_oneof![1 => Just(Area::WHOLE), 2 => some]
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
        6 => (n.clone(), 0..LEN).prop_map(|(n, a)| Op::DeviceRead(n, a)),
        3 => n.clone().prop_map(Op::SyncForCpu),
        3 => n.prop_map(Op::SyncForDevice),
        6 => (process.clone(), access(), area()).prop_map(|(p, a, r)| Op::Start(p, a, r)),
        12 => (process.clone(), 0..4usize).prop_map(|(p, n)| Op::End(p, n)),
        1 => (process.clone(), area()).prop_map(|(p, r)| Op::EndOf(p, r)),
        1 => process.clone().prop_map(Op::Munmap),
        1 => (process.clone(), any::<bool>()).prop_map(|(p, m)| Op::Kill(p, m)),
        1 => Just(Op::Vmap),
        2 => Just(Op::Vunmap),
        6 => (process, 0..LEN, value, any::<bool>())
            .prop_map(|(p, a, v, k)| Op::CpuWrite(p, a, v, k)),
        6 => (0..LEN).prop_map(Op::CpuRead),
        8 => caches().prop_map(Op::Caches),
    ]
}

/// The same where importers unmap and map again, few at a time, of devices that go past the caches and
/// now and then of one that does not, and no process has the buffer mapped for long.
fn op_or_idle() -> impl Strategy<Value = Op> {
    let way = prop_oneof![
        4 => Just(Way::Direct),
        1 => Just(Way::Snooping),
        1 => Just(Way::Bounced),
    ];
    let process = 0..PROCESSES;
    prop_oneof![
        2 => op(),
        6 => (0..MAPPINGS).prop_map(Op::Unmap),
        4 => (0..2usize).prop_map(Op::MapAgain),
        1 => (way, dir()).prop_map(|(w, d)| Op::Map(w, d)),
        2 => (process.clone(), access()).prop_map(|(p, a)| Op::Start(p, a, Area::WHOLE)),
        6 => (process, 0..4usize).prop_map(|(p, n)| Op::End(p, n)),
        5 => Just(Op::MunmapAll),
    ]
}

/// What names a device, or a bracket, takes one of those that are there; without any it does
/// nothing.
fn run(world: &mut World, op: &Op) -> Result<(), String> {
    let of = |n: usize, count: usize| (count > 0).then(|| n % count);
    let device = |n| of(n, world.devices());
    match *op {
        Op::Map(way, dir) if world.devices() < MAPPINGS => world.map(way, dir)?,
        Op::Map(..) => {}
        Op::MapAgain(n) if world.devices() < MAPPINGS => {
            if let Some(n) = of(n, world.idle()) {
                world.map_again(n)?;
            }
        }
        Op::MapAgain(_) => {}
        Op::Unmap(n) => device(n).into_iter().for_each(|n| world.unmap(n)),
        Op::DeviceWrite(n, at, value) => {
            if let Some(n) = device(n) {
                world.device_write(n, at, value);
            }
        }
        Op::DeviceRead(n, at) => {
            if let Some(n) = device(n) {
                world.device_read(n, at)?;
            }
        }
        Op::SyncForCpu(n) => device(n).into_iter().for_each(|n| world.sync_for_cpu(n)),
        Op::SyncForDevice(n) => device(n).into_iter().for_each(|n| world.sync_for_device(n)),
        Op::Start(process, access, area) => world.start(process, access, area),
        Op::End(process, n) => {
            if let Some(n) = of(n, world.brackets(process)) {
                world.end(process, n);
            }
        }
        // It may hand over what others have written in their windows.
        Op::EndOf(process, area) => world.end_of(process, area),
        Op::Munmap(process) => world.munmap(process),
        Op::MunmapAll => world.munmap_all(),
        Op::Kill(process, mapped) => world.kill(process, mapped),
        Op::Vmap => world.vmap(),
        Op::Vunmap => world.vunmap(),
        Op::CpuWrite(process, at, value, by_kernel) => {
            world.cpu_write(process, at, value, by_kernel)
        }
        Op::CpuRead(at) => world.cpu_read(at)?,
        Op::Caches(caches) => world.set_caches(caches),
    }
    Ok(())
}

fn play(world: &mut World, ops: &[Op]) -> Result<(), TestCaseError> {
    for op in ops {
        run(world, op).map_err(TestCaseError::fail)?;
    }
    world.settle().map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        ..crate::cases(CASES.max(ProptestConfig::default().cases))
    })]

    #[test]
    fn no_byte_is_stale_or_lost(
        caches in caches(),
        can_clean in any::<bool>(),
        tracked in any::<bool>(),
        ops in prop::collection::vec(op(), 0..300),
    ) {
        play(&mut World::new(caches, can_clean, tracked), &ops)?;
    }

    #[test]
    fn no_byte_is_stale_or_lost_by_an_unmap_put_off(
        caches in caches(),
        tracked in any::<bool>(),
        ops in prop::collection::vec(op_or_idle(), 0..300),
    ) {
        play(&mut World::new(caches, true, tracked), &ops)?;
    }
}
