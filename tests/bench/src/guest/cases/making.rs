// SPDX-License-Identifier: GPL-2.0

//! Buffers that are made, written for the first time by the CPU, and go.

use super::{Bench, Case, KIB, MIB, SIZES, timed};
use crate::guest::Result;
use crate::guest::raw::{self, Shared};
use crate::record::Op;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    raw::prepare_place()?;
    let sizes: &[u64] = match bench.is_quick() {
        true => &[4 * KIB, MIB, 8 * MIB],
        false => &SIZES,
    };
    for exporter in bench.exporters() {
        for &size in sizes {
            create(bench, Case::of(exporter, size))?;
            touch(bench, Case::of(exporter, size))?;
        }
    }
    Ok(())
}

fn create(bench: &mut Bench, case: Case) -> Result<()> {
    let maker = bench.maker(case.exporter);
    let [create, destroy] = bench.cost(|| {
        let (create, made) = maker.make_timed(case.size)?;
        Ok([create, made.destroy_timed()])
    })?;
    let (made, cleaned) = bench.counter.count(|| maker.make(case.size))?;
    let made = made?;
    let (_, dropped) = bench.counter.count(|| drop(made))?;
    bench.record(case, Op::Create, create, cleaned);
    bench.record(case, Op::Destroy, destroy, dropped);
    Ok(())
}

/// mmap and the first write to each page. To unmap is not counted.
fn touch(bench: &mut Bench, case: Case) -> Result<()> {
    let made = bench.maker(case.exporter).make(case.size)?;
    let [touch] = bench.cost(|| {
        let (touch, mapping) = timed(|| {
            let mapping = Shared::map(made.fd(), case.size);
            if let Ok(mapping) = &mapping {
                mapping.touch();
            }
            mapping
        });
        drop(mapping?);
        Ok([touch])
    })?;
    let (mapping, bytes) = bench
        .counter
        .count(|| Shared::map(made.fd(), case.size).inspect(Shared::touch))?;
    drop(mapping?);
    bench.record(case, Op::MmapTouch, touch, bytes);
    Ok(())
}
