// SPDX-License-Identifier: GPL-2.0

//! What is measured.

use std::hint::black_box;
use std::time::Instant;

use cohbuf::share::{DrmDevice, Importer as _};
use cohbuf::{Access, Buffer, CopyRegion, Device, Region, Udmabuf};

use crate::bench::Measured;
use crate::cli::{self, BenchArgs};
use crate::error::Result;
use crate::progress::Progress;
use crate::share::open_importer;

pub(super) struct All {
    pub(super) measured: Vec<Measured>,
    pub(super) missing: Vec<String>,
}

type Make = Box<dyn Fn(u64) -> Words<Buffer>>;

/// Who makes a buffer.
struct Exporter {
    name: &'static str,
    make: Make,
}

/// A rectangle of ten by ten pixels, in rows that make 64 of a buffer.
fn sprite(size: u64) -> Region {
    Region::Rows {
        offset: 0,
        length: 40,
        stride: (size / 64).max(40),
        rows: 10,
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<All> {
    let device = Device::open();
    let importer = args.with.as_deref().map(open_importer).transpose()?;
    let mut all = All {
        measured: Vec::new(),
        missing: Vec::new(),
    };
    let exporters = exporters(&args.exporter, &mut all.missing);
    let steps = args.size.len() * exporters.len();
    let progress = Progress::steps("measuring", steps as u64);
    for &size in &args.size {
        for exporter in &exporters {
            let place = Place {
                exporter,
                size,
                rounds: args.rounds,
                importer: importer.as_ref(),
                device: device.as_ref().ok(),
            };
            if let Err(error) = place.run(&mut all.measured) {
                let name = exporter.name;
                all.missing.push(format!("{name} of {size} bytes: {error}"));
            }
            progress.step();
        }
    }
    progress.done();
    // The same operation and size side by side.
    all.measured.sort_by_key(|one| {
        let order = OPERATIONS.iter().position(|name| *name == one.operation);
        let size = args.size.iter().position(|size| *size == one.size);
        (order, size)
    });
    Ok(all)
}

const OPERATIONS: [&str; 7] = [
    "create and close",
    "first write of all",
    "begin and end, write",
    "begin and end, read",
    "begin and end, 10x10",
    "write all in a window",
    "copy",
];

fn exporters(wanted: &[cli::Exporter], missing: &mut Vec<String>) -> Vec<Exporter> {
    let mut list = Vec::new();
    for one in wanted {
        match exporter(*one) {
            Ok(exporter) => list.push(exporter),
            // Both kinds of cohbuf say the same.
            Err(error) if missing.contains(&error) => {}
            Err(error) => missing.push(error),
        }
    }
    list
}

fn exporter(wanted: cli::Exporter) -> Words<Exporter> {
    let (name, make): (_, Make) = match wanted {
        cli::Exporter::Cohbuf | cli::Exporter::Coherent => {
            let device = Device::open().map_err(words)?;
            let coherent = wanted == cli::Exporter::Coherent;
            let make = move |size| {
                let builder = device.buffer(size);
                let builder = if coherent {
                    builder.coherent()
                } else {
                    builder
                };
                builder.create().map_err(words)
            };
            let name = if coherent {
                "cohbuf coherent"
            } else {
                "cohbuf"
            };
            (name, Box::new(make))
        }
        cli::Exporter::SystemHeap => {
            let heap = dma_heap::Heap::new(dma_heap::HeapKind::System);
            let heap = heap.map_err(|error| format!("the system heap: {error}"))?;
            let make = move |size| {
                let fd = heap.allocate(size as usize).map_err(words)?;
                Buffer::try_from(fd).map_err(words)
            };
            ("system heap", Box::new(make))
        }
        cli::Exporter::Udmabuf => {
            let udmabuf = Udmabuf::open().map_err(words)?;
            let make = move |size| udmabuf.create(size).map_err(words);
            ("udmabuf", Box::new(make))
        }
    };
    Ok(Exporter { name, make })
}

/// An exporter and a size.
struct Place<'a> {
    exporter: &'a Exporter,
    size: u64,
    rounds: u32,
    importer: Option<&'a DrmDevice>,
    device: Option<&'a Device>,
}

type Words<T> = std::result::Result<T, String>;

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Place<'_> {
    fn run(&self, measured: &mut Vec<Measured>) -> Words<()> {
        let [create, first, write, read, part, all, copy] = OPERATIONS;
        let make = || (self.exporter.make)(self.size);
        self.measure(measured, create, || make().map(drop))?;

        // The pages of a buffer may come with the first access.
        let mut fresh = Vec::new();
        for _ in 0..self.rounds {
            let buffer = make()?;
            let mut view = buffer.view().map_err(words)?;
            // udmabuf keeps the direction of the first window.
            let began = Instant::now();
            let mut window = view.read_write().map_err(words)?;
            window.fill(1);
            window.end().map_err(words)?;
            fresh.push(began.elapsed().as_nanos() as u64);
        }
        measured.extend(Measured::new(self.exporter.name, first, self.size, fresh));

        let (buffer, other) = (make()?, make()?);
        let _import = match self.importer {
            Some(importer) => {
                let import = importer.import(rustix::fd::AsFd::as_fd(&buffer));
                Some(import.map_err(|errno| format!("the importer refuses it: {errno}"))?)
            }
            None => None,
        };
        let mut view = buffer.view().map_err(words)?;
        let mut window = view.read_write().map_err(words)?;
        window.fill(2);
        window.end().map_err(words)?;
        let bracket = |access| -> Words<()> {
            let window = buffer.cpu_access(access).map_err(words)?;
            window.end().map_err(words)
        };
        self.measure(measured, write, || bracket(Access::ReadWrite))?;
        self.measure(measured, read, || bracket(Access::Read))?;
        self.measure(measured, all, || {
            let mut window = view.read_write().map_err(words)?;
            window.fill(3);
            black_box(&window[..]);
            window.end().map_err(words)
        })?;
        let Some(device) = self.device else {
            return Ok(());
        };
        if device.info(&buffer).is_ok() {
            self.measure(measured, part, || {
                let window =
                    device.cpu_access_region(&buffer, Access::ReadWrite, sprite(self.size));
                window
                    .and_then(|window| window.end())
                    .map(drop)
                    .map_err(words)
            })?;
        }
        self.measure(measured, copy, || {
            let copied = device.copy(&buffer, &other, CopyRegion::Whole);
            copied.map(drop).map_err(words)
        })
    }

    /// Times an operation, after a round that is not counted.
    fn measure(
        &self,
        measured: &mut Vec<Measured>,
        operation: &'static str,
        mut work: impl FnMut() -> Words<()>,
    ) -> Words<()> {
        work()?;
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            let began = Instant::now();
            work()?;
            rounds.push(began.elapsed().as_nanos() as u64);
        }
        measured.extend(Measured::new(
            self.exporter.name,
            operation,
            self.size,
            rounds,
        ));
        Ok(())
    }
}
