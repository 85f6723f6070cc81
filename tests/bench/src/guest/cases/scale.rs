// SPDX-License-Identifier: GPL-2.0

//! One buffer while many others live, or another has many attachments.

use cohbuf::uapi::{SYNC_END, SYNC_READ, SYNC_START, SYNC_WRITE};

use super::syncing::sync;
use super::{Attached, Bench, Case, KIB, timed};
use crate::guest::{Result, check, raw};
use crate::record::{Arch, Device, Exporter, Op, ScaleRow};

const LIVE: u32 = 100_000;
const ATTACHED: u32 = 1000;
const OPS: [Op; 4] = [Op::Create, Op::BeginRw, Op::EndRw, Op::Destroy];

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    raw::allow_files(u64::from(LIVE) * 2)?;
    for exporter in [Exporter::Cohbuf, Exporter::System] {
        let case = Case::with(exporter, 4 * KIB, ATTACHED, Device::Coherent);
        let alone = life(bench, exporter)?;

        let other = bench.maker(exporter).make(case.size)?;
        let attached = Attached::new(&bench.importer, &other, case)?;
        let beside = life(bench, exporter)?;
        drop(attached);
        record(
            bench,
            exporter,
            format!("{ATTACHED} attachments of another"),
            alone,
            beside,
        );

        let maker = bench.maker(exporter);
        let live = (0..LIVE).map(|_| maker.make(case.size));
        let live = live.collect::<std::io::Result<Vec<_>>>()?;
        let beside = life(bench, exporter)?;
        drop(live);
        record(
            bench,
            exporter,
            format!("{LIVE} live buffers"),
            alone,
            beside,
        );
    }
    Ok(())
}

/// One of 4 KiB, from CREATE to the end.
fn life(bench: &Bench, exporter: Exporter) -> Result<[u64; 4]> {
    let maker = bench.maker(exporter);
    let access = SYNC_READ | SYNC_WRITE;
    bench.cost(|| {
        let (create, made) = maker.make_timed(4 * KIB)?;
        let (begin, begun) = timed(|| sync(made.fd(), SYNC_START | access));
        let (end, ended) = timed(|| sync(made.fd(), SYNC_END | access));
        check(begun)?;
        check(ended)?;
        Ok([create, begin, end, made.destroy_timed()])
    })
}

fn record(bench: &mut Bench, exporter: Exporter, beside: String, alone: [u64; 4], found: [u64; 4]) {
    for ((op, alone), instructions) in OPS.into_iter().zip(alone).zip(found) {
        bench.measured.scale.push(ScaleRow {
            arch: Arch::here(),
            exporter,
            beside: beside.clone(),
            op,
            alone,
            instructions,
        });
    }
}
