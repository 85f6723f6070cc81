// SPDX-License-Identifier: GPL-2.0

//! What is measured.

mod floors;
mod importing;
mod making;
mod memory;
mod scale;
mod spinning;
mod syncing;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use cohbuf_testdev::TestDevice;
use cohbuf_testdev::uapi::{Attach, IOCTL_ATTACH, IOCTL_DETACH, IOCTL_MAP, Map};

use super::bytes::{Bytes, Counter};
use super::exporters::{Made, Maker};
use super::{Result, check, median, raw};
use crate::record::{Arch, Device, Exporter, Measured, Op, PICTURE, Row};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The sizes that curves are drawn over.
const SIZES: [u64; 5] = [4 * KIB, 64 * KIB, MIB, 8 * MIB, 64 * MIB];

pub use spinning::{Spin, spin};

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Extent {
    /// All of it.
    Full,
    /// What the regression gate compares, in some seconds.
    Quick,
}

/// Measures all that there is.
pub fn run(extent: Extent) -> Result<Measured> {
    let mut bench = Bench::new(extent)?;
    floors::run(&mut bench)?;
    making::run(&mut bench)?;
    syncing::run(&mut bench)?;
    importing::run(&mut bench)?;
    if extent == Extent::Full {
        memory::run(&mut bench)?;
        scale::run(&mut bench)?;
    }
    Ok(bench.measured)
}

/// The bench, and what it has measured so far.
struct Bench {
    extent: Extent,
    makers: Vec<Maker>,
    importer: File,
    counter: Counter,
    /// Of reading the clock twice.
    overhead: u64,
    measured: Measured,
}

impl Bench {
    fn new(extent: Extent) -> Result<Self> {
        if let Some(hertz) = raw::frequency().filter(|hertz| *hertz != 1_000_000_000) {
            return Err(format!(
                "the counter runs at {hertz} Hz, which is not an instruction a tick: \
                 boot with -cpu ...,cntfrq=1000000000"
            )
            .into());
        }
        let importer = File::options()
            .read(true)
            .write(true)
            .open("/dev/cohbuf_importer")
            .map_err(|error| format!("/dev/cohbuf_importer: {error}"))?;
        wait_until_idle()?;
        let makers = Exporter::ALL.into_iter().map(Maker::open);
        let makers: Vec<_> = makers
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        if makers.len() < 2 || makers[0].exporter != Exporter::Cohbuf {
            return Err("cohbuf and another exporter are what is to be compared".into());
        }
        Ok(Self {
            extent,
            makers,
            importer,
            counter: Counter::new()?,
            overhead: overhead()?,
            measured: Measured::default(),
        })
    }

    fn is_quick(&self) -> bool {
        self.extent == Extent::Quick
    }

    /// The exporters that there are; a kernel may lack one.
    fn exporters(&self) -> Vec<Exporter> {
        self.makers.iter().map(|maker| maker.exporter).collect()
    }

    fn maker(&self, exporter: Exporter) -> &Maker {
        let of = |maker: &&Maker| maker.exporter == exporter;
        self.makers
            .iter()
            .find(of)
            .expect("one of those that there are")
    }

    /// How often something is measured that costs so much.
    fn times(&self, cost: u64) -> usize {
        let (budget, least, most) = match self.extent {
            Extent::Full => (6_000_000, 3, 65),
            Extent::Quick => (3_000_000, 3, 33),
        };
        (budget / cost.max(1)).clamp(least, most) as usize
    }

    /// What `run` costs, which returns what it has taken with the overhead of the clock. It is
    /// warmed up, and disturbed by timer interrupts in less than half of the cases.
    fn cost<const N: usize>(&self, mut run: impl FnMut() -> Result<[u64; N]>) -> Result<[u64; N]> {
        run()?;
        let times = self.times(run()?.iter().sum());
        let mut all = [(); N].map(|()| Vec::with_capacity(times));
        for _ in 0..times {
            for (all, one) in all.iter_mut().zip(run()?) {
                all.push(one);
            }
        }
        Ok(all.map(|all| median(all).saturating_sub(self.overhead)))
    }

    fn record(&mut self, case: Case, op: Op, instructions: u64, bytes: Bytes) {
        let Case {
            exporter,
            size,
            attachments,
            device,
        } = case;
        self.measured.rows.push(Row {
            arch: Arch::here(),
            exporter,
            op,
            size,
            attachments,
            device,
            instructions,
            bytes_cleaned: bytes.cleaned,
            bytes_invalidated: bytes.invalidated,
        });
    }
}

/// What is measured, but for the operation.
#[derive(Clone, Copy, Debug)]
struct Case {
    exporter: Exporter,
    size: u64,
    attachments: u32,
    device: Device,
}

impl Case {
    fn of(exporter: Exporter, size: u64) -> Self {
        Self::with(exporter, size, 0, Device::None)
    }

    fn with(exporter: Exporter, size: u64, attachments: u32, device: Device) -> Self {
        let device = if attachments == 0 {
            Device::None
        } else {
            device
        };
        Self {
            exporter,
            size,
            attachments,
            device,
        }
    }
}

/// Devices that this architecture has.
fn devices() -> &'static [Device] {
    match Arch::here() {
        Arch::Amd64 => &[Device::Coherent],
        Arch::Arm64 => &[Device::Coherent, Device::NonCoherent],
    }
}

/// Waits until nothing else runs: a kernel that has just booted has much to do in the background,
/// and takes turns with whoever is measured. Idle time costs nothing under -icount sleep=off.
fn wait_until_idle() -> Result<()> {
    // Hundredths of a second, by /proc/stat: user, nice, system, idle, ...
    let idle = || -> Result<u64> {
        let stat = fs::read_to_string("/proc/stat")?;
        Ok(stat
            .split_whitespace()
            .nth(4)
            .ok_or("/proc/stat is empty")?
            .parse()?)
    };
    let mut quiet = 0;
    for _ in 0..300 {
        let before = idle()?;
        thread::sleep(Duration::from_secs(1));
        quiet = if idle()? - before >= 99 { quiet + 1 } else { 0 };
        if quiet == 3 {
            return Ok(());
        }
    }
    Err("something else is running all the time".into())
}

fn overhead() -> Result<u64> {
    let pairs = (0..64).map(|_| {
        let start = raw::now();
        raw::now() - start
    });
    let overhead = median(pairs.collect());
    if overhead > 64 {
        return Err(format!("{overhead} ns to read the clock: boot with -icount shift=0").into());
    }
    Ok(overhead)
}

/// Runs something, and says how long it took, and what it returned.
#[inline(always)]
fn timed<R>(run: impl FnOnce() -> R) -> (u64, R) {
    let start = raw::now();
    let result = run();
    (raw::now() - start, result)
}

/// Attachments of a test device. They are detached when this goes.
struct Attached<'a> {
    importer: &'a File,
    handles: Vec<u32>,
}

impl<'a> Attached<'a> {
    /// Attaches a buffer so many times, and maps it each time.
    fn new(importer: &'a File, buffer: &Made, case: Case) -> Result<Self> {
        let mut this = Self {
            importer,
            handles: Vec::new(),
        };
        for _ in 0..case.attachments {
            let mut attach = attach_arg(buffer, case.device);
            check(raw::ioctl(importer.as_raw_fd(), IOCTL_ATTACH, &mut attach))?;
            this.handles.push(attach.handle);
            if (attach.coherent != 0) != (case.device == Device::Coherent) {
                return Err(format!("the test device is not {}", case.device).into());
            }
            let mut map = map_arg(attach.handle);
            check(raw::ioctl(importer.as_raw_fd(), IOCTL_MAP, &mut map))?;
        }
        Ok(this)
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        // The last first, as that is the end of the list where the next is put.
        for mut handle in self.handles.drain(..).rev() {
            raw::ioctl(self.importer.as_raw_fd(), IOCTL_DETACH, &mut handle);
        }
    }
}

fn attach_arg(buffer: &Made, device: Device) -> Attach {
    let device = match device {
        Device::NonCoherent => TestDevice::NonCoherent,
        Device::Coherent | Device::None => TestDevice::Coherent,
    };
    Attach {
        fd: buffer.fd(),
        device: device as u32,
        ..Attach::default()
    }
}

/// Bidirectional.
fn map_arg(handle: u32) -> Map {
    Map {
        handle,
        // It would walk the segments.
        bounced: 2,
        ..Map::default()
    }
}
