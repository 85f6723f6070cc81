// SPDX-License-Identifier: GPL-2.0

//! The table of issue 3: what comes of the bytes, by exporter and by model. cohbuf must be right
//! everywhere, with the least maintenance; the kernel's own exporters are the controls, which
//! must fail where they are known to, so that the test is no weaker than it looks.

use std::fmt;

use cohbuf::{Access, Buffer};
use cohbuf_testdev::{Attachment, Counts, Direction, Importer, TestDevice, system_heap, udmabuf};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, ModelReset, has_noncoherent};
use crate::harness::{self, Outcome, Stop};

crate::guest_suite!("contract":
    cohbuf_is_right_in_every_row,
    controls_are_wrong_where_known,
    prints_the_table,
);

const SIZE: usize = 64 << 10;

/// DMA-API debug takes it for an error that other exporters map a page for two devices: while this
/// lives it looks at a driver alone that there is not. Elsewhere there is nothing to say it to.
struct Quiet;

const FILTER: &str = "/sys/kernel/debug/dma-api/driver_filter";

impl Quiet {
    fn new() -> Self {
        let _ = std::fs::write(FILTER, "nobody");
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // What is no name ends it.
        let _ = std::fs::write(FILTER, "\n");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exporter {
    Cohbuf,
    SystemHeap,
    Udmabuf,
}

const EXPORTERS: [Exporter; 3] = [Exporter::Cohbuf, Exporter::SystemHeap, Exporter::Udmabuf];

impl Exporter {
    /// [`None`] where the kernel has no such exporter.
    fn buffer(self, guest: &Guest) -> Result<Option<Buffer>, Stop> {
        let fd = match self {
            Exporter::Cohbuf => return guest.bracketed(SIZE).map(Some),
            Exporter::SystemHeap => system_heap(SIZE as u64),
            Exporter::Udmabuf => udmabuf(SIZE as u64),
        };
        match fd {
            Ok(fd) => Ok(Some(Buffer::try_from(fd)?)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Exporter::Cohbuf => "cohbuf",
            Exporter::SystemHeap => "system heap",
            Exporter::Udmabuf => "udmabuf",
        }
    }
}

const MODELS: [(TestDevice, &str); 4] = [
    (TestDevice::CacheModel, "cache model"),
    (TestDevice::CacheModelMerged, "cache model, merged"),
    (TestDevice::BounceModel, "bounce model"),
    (TestDevice::DirectModel, "direct device"),
];

/// What came of the bytes in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Right,
    /// What was there before is seen.
    Stale,
    /// The bytes beside those that the CPU wrote are gone, in its cache line.
    LineLost,
    /// And everywhere else.
    AllLost,
    /// KiB to the device's side, KiB to the CPU's.
    Moved(u64, u64),
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Right => f.write_str("right"),
            Cell::Stale => f.write_str("stale"),
            Cell::LineLost => f.write_str("line lost"),
            Cell::AllLost => f.write_str("all lost"),
            Cell::Moved(to, from) => write!(f, "{to} / {from} KiB"),
        }
    }
}

/// A buffer with devices of one model, all of them mapped.
struct Scene<'a> {
    importer: &'a Importer,
    // Dropped in this order: unmapped, forgotten by the model, freed.
    devices: Vec<Attachment<'a>>,
    mapping: cohbuf::Mapping,
    _reset: ModelReset<'a>,
    buffer: Buffer,
}

impl<'a> Scene<'a> {
    fn new(
        importer: &'a Importer,
        buffer: Buffer,
        model: TestDevice,
        count: u32,
    ) -> Result<Self, Stop> {
        importer.model().reset()?;
        let mapping = buffer.map()?;
        // The pages have to be there to be found.
        let _ = mapping.to_vec()?;
        if model == TestDevice::DirectModel {
            importer.model().track(mapping.as_ptr(), SIZE)?;
        }
        let mut devices = Vec::new();
        for index in 0..count {
            let device = importer.attach(&buffer, model, index)?;
            device.map(Direction::Bidirectional)?;
            devices.push(device);
        }
        Ok(Self {
            importer,
            devices,
            mapping,
            _reset: ModelReset(importer),
            buffer,
        })
    }

    fn device_sees(&self, index: usize) -> Result<Vec<u8>, Stop> {
        let mut seen = vec![0; SIZE];
        self.devices[index].device_reads(0, &mut seen)?;
        Ok(seen)
    }

    fn cpu_sees(&self) -> Result<Vec<u8>, Stop> {
        let window = self.buffer.cpu_access(Access::Read)?;
        let seen = self.mapping.to_vec()?;
        window.end()?;
        Ok(seen)
    }

    fn moved(&self) -> Result<Counts, Stop> {
        Ok(self.importer.model().counts()?)
    }
}

fn pattern(seed: usize) -> Vec<u8> {
    // No byte is 0 or 0xa5, which is what is there before.
    (0..SIZE)
        .map(|n| 1 + ((n * 7 + seed * 31) % 150) as u8)
        .collect()
}

fn right_or_stale(seen: &[u8], expected: &[u8]) -> Cell {
    if seen == expected {
        Cell::Right
    } else {
        Cell::Stale
    }
}

const AT: usize = 1000;

type Row = fn(&Scene<'_>) -> Result<Cell, Stop>;

const ROWS: [(&str, u32, Row); 6] = [
    ("CPU writes, device reads", 1, |scene| {
        let window = scene.buffer.cpu_access(Access::Write)?;
        scene.mapping.write(0, &pattern(1))?;
        window.end()?;
        Ok(right_or_stale(&scene.device_sees(0)?, &pattern(1)))
    }),
    ("device writes, CPU reads", 1, |scene| {
        scene.devices[0].device_writes(0, &pattern(2))?;
        Ok(right_or_stale(&scene.cpu_sees()?, &pattern(2)))
    }),
    (
        "device writes all, CPU one byte WRITE-only, device reads",
        1,
        |scene| {
            let mut expected = pattern(3);
            scene.devices[0].device_writes(0, &expected)?;
            let window = scene.buffer.cpu_access(Access::Write)?;
            expected[AT] = 200;
            scene.mapping.write(AT, &[200])?;
            window.end()?;
            // The cache may write back what is dirty whenever it likes.
            scene.importer.model().evict()?;
            let seen = scene.device_sees(0)?;
            let wrong =
                |(at, (seen, expected)): (usize, (&u8, &u8))| (seen != expected).then_some(at);
            let wrong: Vec<usize> = seen
                .iter()
                .zip(&expected)
                .enumerate()
                .filter_map(wrong)
                .collect();
            Ok(match wrong.as_slice() {
                [] => Cell::Right,
                [AT] => Cell::Stale,
                lines if lines.iter().all(|at| at / 64 == AT / 64) => Cell::LineLost,
                _ => Cell::AllLost,
            })
        },
    ),
    ("two devices, the first writes, CPU reads", 2, |scene| {
        scene.devices[0].device_writes(0, &pattern(4))?;
        Ok(right_or_stale(&scene.cpu_sees()?, &pattern(4)))
    }),
    ("two devices, the second writes, CPU reads", 2, |scene| {
        scene.devices[1].device_writes(0, &pattern(5))?;
        Ok(right_or_stale(&scene.cpu_sees()?, &pattern(5)))
    }),
    (
        "one RW bracket, two devices: to device / to CPU",
        2,
        |scene| {
            scene.importer.model().zero_counts()?;
            scene.buffer.cpu_access(Access::ReadWrite)?.end()?;
            let counts = scene.moved()?;
            Ok(Cell::Moved(
                (counts.clean_bytes + counts.to_bounce_bytes) >> 10,
                (counts.invalidate_bytes + counts.from_bounce_bytes) >> 10,
            ))
        },
    ),
];

/// Runs one row in a scene of its own; [`None`] where the kernel has not got the exporter.
fn cell(
    guest: &Guest,
    importer: &Importer,
    exporter: Exporter,
    model: TestDevice,
    row: usize,
) -> Result<Option<Cell>, Stop> {
    let (_, devices, run) = ROWS[row];
    let warns = exporter != Exporter::Cohbuf && model == TestDevice::DirectModel && devices > 1;
    let _quiet = warns.then(Quiet::new);
    match exporter.buffer(guest)? {
        None => Ok(None),
        Some(buffer) => run(&Scene::new(importer, buffer, model, devices)?).map(Some),
    }
}

/// What the last row must be for cohbuf: each device of unknown kind gets its own pass, direct
/// ones share one, where they do not snoop.
fn least(model: TestDevice) -> Cell {
    match model {
        TestDevice::DirectModel if has_noncoherent() => Cell::Moved(64, 64),
        TestDevice::DirectModel => Cell::Moved(0, 0),
        _ => Cell::Moved(128, 128),
    }
}

fn cohbuf_is_right_in_every_row(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    for (model, name) in MODELS {
        for (row, (title, ..)) in ROWS.iter().enumerate() {
            let is = cell(guest, &importer, Exporter::Cohbuf, model, row)?;
            let must = if row == ROWS.len() - 1 {
                least(model)
            } else {
                Cell::Right
            };
            check!(
                is == Some(must),
                "{name}: {title}: {is:?}, must be {must:?}"
            );
        }
    }
    Ok(())
}

/// What the kernel's own exporters are known to do in Linux 7.3. Where one of these turns right,
/// either the kernel was mended or the model has gone blind.
fn controls_are_wrong_where_known(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let lucky = has_noncoherent() && !guest.swiotlb;
    let cache = |model| matches!(model, TestDevice::CacheModel | TestDevice::CacheModelMerged);
    let known = |exporter, model, row| match (exporter, model, row) {
        (Exporter::Udmabuf, TestDevice::DirectModel, _) => None,
        // It maintains for a pseudo-device of its own. Where that is not coherent, nor bounced, the
        // cache model sees it, and is right by luck, except that the first START cleans the CPU's
        // old bytes over the device's.
        (Exporter::Udmabuf, model, 2) if cache(model) => Some(Cell::AllLost),
        (Exporter::Udmabuf, model, 5) if cache(model) && lucky => Some(Cell::Moved(64, 64)),
        (Exporter::Udmabuf, model, _) if cache(model) && lucky => None,
        (Exporter::Udmabuf, _, 5) => Some(Cell::Moved(0, 0)),
        (Exporter::Udmabuf, _, _) => Some(Cell::Stale),
        (Exporter::SystemHeap, model, 2) if cache(model) => Some(Cell::LineLost),
        (Exporter::SystemHeap, TestDevice::BounceModel, 2) => Some(Cell::AllLost),
        (Exporter::SystemHeap, TestDevice::BounceModel, 4) => Some(Cell::Stale),
        // A pass for each attachment, where cohbuf has one for all.
        (Exporter::SystemHeap, TestDevice::DirectModel, 5) if !has_noncoherent() => {
            Some(Cell::Moved(0, 0))
        }
        (Exporter::SystemHeap, _, 5) => Some(Cell::Moved(128, 128)),
        _ => None,
    };
    let mut seen = 0;
    for exporter in [Exporter::SystemHeap, Exporter::Udmabuf] {
        for (model, name) in MODELS {
            for (row, (title, ..)) in ROWS.iter().enumerate() {
                let Some(must) = known(exporter, model, row) else {
                    continue;
                };
                let Some(is) = cell(guest, &importer, exporter, model, row)? else {
                    continue;
                };
                let exporter = exporter.name();
                check!(
                    is == must,
                    "{exporter}, {name}: {title}: {is}, known as {must}"
                );
                seen += 1;
            }
        }
    }
    if seen == 0 {
        return harness::skip("this kernel has neither the system heap nor udmabuf");
    }
    Ok(())
}

/// The table, for a person to read.
fn prints_the_table(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let mut table = vec![["model", "64 KiB buffer"].map(str::to_owned).to_vec()];
    table[0].extend(EXPORTERS.map(|exporter| exporter.name().to_owned()));
    for (model, name) in MODELS {
        for (row, (title, ..)) in ROWS.iter().enumerate() {
            let mut cells = vec![name.to_owned(), (*title).to_owned()];
            for exporter in EXPORTERS {
                let cell = cell(guest, &importer, exporter, model, row)?;
                cells.push(cell.map_or("not here".to_owned(), |cell| cell.to_string()));
            }
            table.push(cells);
        }
    }
    let width = |column: usize| {
        table
            .iter()
            .map(|cells| cells[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect();
    table.insert(1, rule);
    let mut text = String::new();
    for cells in &table {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        text += &format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "));
    }
    harness::leave("contract.txt", &text)?;
    Ok(())
}
