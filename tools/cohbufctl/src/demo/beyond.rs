// SPDX-License-Identifier: GPL-2.0

//! What goes beyond the SYNC ioctl: regions, dirty pages, enforcement, a way for those refused.
//! What devices do among themselves is in `devices`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use cohbuf::share::{DrmDevice, Importer as _, Shared, Way, share_by};
use cohbuf::{
    Access, Buffer, CopyRegion, CreateFlags, Device, FdFlags, Mapping, Region, State, SyncCost,
};
use cohbuf_testdev::driver::Driver;
use cohbuf_testdev::{Direction, Importer, TestDevice, Vgem};
use rustix::fd::{AsFd as _, AsRawFd as _};

use crate::cli::PoisonArgs;
use crate::demo::carry::differing;
use crate::demo::picture;
use crate::demo::record::{Beyond, Copied, Maintained, Outcome, Poisoned, Reported, Sharing};
use crate::error::{Error, Result};
use crate::fds;

const PAGE: usize = 4096;
const STRIDE: usize = picture::WIDTH as usize * 4;

/// The update of the 2015 mail: 10 by 10 pixels, here where each row straddles two cache lines.
const UPDATE: (u32, u32) = (76, 100);
const SIDE: u32 = 10;

/// A rectangle of the picture, and the rows of the foreign buffer that it is copied to.
const CUT_AT: (u32, u32) = (600, 450);
const CUT: (u32, u32) = (400, 300);
const CUT_OFFSET: usize = 100;
const CUT_STRIDE: usize = 2048;

pub(crate) struct Beside<'a> {
    pub(crate) device: &'a Device,
    pub(crate) importer: &'a Importer,
    pub(crate) driver: &'a Driver,
    pub(crate) vgem: &'a Vgem,
    pub(crate) drawn: &'a [u8],
}

impl Beside<'_> {
    pub(crate) fn run(&self) -> Result<Beyond> {
        Ok(Beyond {
            regions: self.maintained(CreateFlags::empty(), Region::Whole, update())?,
            dirty_pages: self.maintained(CreateFlags::TRACK_DIRTY, Region::Whole, Region::Whole)?,
            report: self.report()?,
            poison: self.poison()?,
            handed_over: self.handed_over()?,
            fenced: self.fenced()?,
            share: self.share(&Way::ALL)?,
            share_by_copy: self.share(&[Way::Copy])?,
            copy: self.copy()?,
            known: self.known()?,
        })
    }

    pub(super) fn create(&self, size: usize, flags: CreateFlags) -> Result<Buffer> {
        Ok(self.device.create(size as u64, flags)?)
    }

    /// What it costs to draw all of a buffer, and then the update, for a device that reads it.
    fn maintained(&self, flags: CreateFlags, first: Region, then: Region) -> Result<Maintained> {
        let buffer = self.create(picture::BYTES, flags)?;
        let attachment = self
            .importer
            .attach(&buffer, TestDevice::NonCoherent, 0)
            .map_err(|refused| failed("attach the non-coherent device", refused.errno))?;
        let info = attachment
            .map(Direction::ToDevice)
            .map_err(|errno| failed("map for the non-coherent device", errno))?;
        if attachment.is_coherent() && !info.bounced {
            return Ok(Maintained::NotHere(
                "each device snoops, and nothing is maintained".to_owned(),
            ));
        }
        let mapping = buffer.map()?;
        let whole = self.window(&buffer, first, || mapping.write(0, self.drawn))?;
        let state = self.device.info(&buffer)?.state;
        if flags.contains(CreateFlags::TRACK_DIRTY) && !state.contains(State::TRACKS_PAGES) {
            return Ok(Maintained::NotHere(
                "the kernel cannot tell which pages were written".to_owned(),
            ));
        }
        let part = self.window(&buffer, then, || self.draw_update(&mapping))?;
        Ok(Maintained::Bytes {
            whole: whole.maintained(),
            part: part.maintained(),
        })
    }

    pub(super) fn draw_update(&self, mapping: &Mapping) -> cohbuf::Result<()> {
        update_rows().try_for_each(|row| mapping.write(row.start, &self.drawn[row]))
    }

    pub(super) fn window(
        &self,
        buffer: &Buffer,
        region: Region,
        write: impl FnOnce() -> cohbuf::Result<()>,
    ) -> Result<SyncCost> {
        let window = self
            .device
            .cpu_access_region(buffer, Access::Write, region)?;
        let begin = window.begin_cost();
        write()?;
        Ok(begin + window.end()?)
    }

    fn report(&self) -> Result<Reported> {
        let buffer = self.create(4 * PAGE, CreateFlags::ENFORCE_REPORT)?;
        let mapping = buffer.map()?;
        let counts = || -> Result<(u64, u64)> {
            let info = self.device.info(&buffer)?;
            Ok((info.outside_reads, info.outside_writes))
        };
        let window = buffer.cpu_access(Access::ReadWrite)?;
        write(&mapping, 0)?;
        read(&mapping, 0)?;
        window.end()?;
        let (reads, writes) = counts()?;
        let inside = reads + writes;

        read(&mapping, PAGE)?;
        write(&mapping, 2 * PAGE)?;
        let window = buffer.cpu_access(Access::Read)?;
        read(&mapping, 3 * PAGE)?;
        write(&mapping, 3 * PAGE)?;
        window.end()?;
        let (reads, writes) = counts()?;
        Ok(Reported {
            inside,
            reads,
            writes,
        })
    }

    fn poison(&self) -> Result<Poisoned> {
        let flags = CreateFlags::ENFORCE_POISON;
        let buffer = self
            .device
            .create_with(4 * PAGE as u64, flags, FdFlags::RDWR)?;
        let fd = buffer.as_fd().as_raw_fd().to_string();
        let spawned = Command::new("/proc/self/exe")
            .args(["demo-poison", "--fd", &fd])
            .status();
        let status = spawned.map_err(|error| Error::Exec {
            program: "/proc/self/exe".to_owned(),
            error,
        })?;
        let info = self.device.info(&buffer)?;
        let start = buffer.cpu_access(Access::Read).map(drop);
        let attach = self
            .importer
            .attach(&buffer, TestDevice::Coherent, 0)
            .map(drop);
        Ok(Poisoned {
            signal: status.signal(),
            poisoned: info.state.contains(State::POISONED),
            start: Outcome::of(&start.map_err(|error| error.errno())),
            attach: Outcome::of(&attach.map_err(|refused| refused.errno)),
        })
    }

    /// A coherent buffer for vgem.
    fn share(&self, ways: &[Way]) -> Result<Sharing> {
        let buffer = self.create(picture::BYTES, CreateFlags::COHERENT)?;
        fill(&buffer, self.drawn)?;
        let shared = share_by(self.device, &buffer, self.vgem.device(), ways)?;
        let direct = shared
            .attempts()
            .iter()
            .find(|attempt| attempt.way == Way::Direct);
        let direct = direct.map(|attempt| match attempt.result {
            Ok(()) => Outcome::ok(),
            Err(failure) => Outcome::errno(failure.errno),
        });
        let wrong = wrong_in(shared.importer_buffer(), self.drawn)?;
        Ok(Sharing {
            way: shared.way().to_string(),
            direct,
            copied_once: shared.cost().copied_once,
            copied_per_update: shared.cost().copied_per_update,
            bytes: picture::BYTES,
            wrong,
            wrong_after_update: self.wrong_after_update(&shared)?,
        })
    }

    fn wrong_after_update(&self, shared: &Shared<'_, DrmDevice>) -> Result<usize> {
        let negative: Vec<u8> = self.drawn.iter().map(|byte| !byte).collect();
        fill(shared.producer_buffer(), &negative)?;
        shared.refresh()?;
        wrong_in(shared.importer_buffer(), &negative)
    }

    /// A rectangle of the picture to a buffer that vgem has exported.
    fn copy(&self) -> Result<Copied> {
        let source = self.create(picture::BYTES, CreateFlags::empty())?;
        fill(&source, self.drawn)?;
        let size = CUT_OFFSET + CUT.1 as usize * CUT_STRIDE;
        let foreign = self
            .vgem
            .device()
            .export(size as u64)
            .map_err(|errno| failed("let vgem export a buffer", errno))?;
        let foreign = Buffer::try_from(foreign)?;
        let from = rows(CUT_AT, CUT);
        let region = CopyRegion::Rows {
            src_offset: from.clone().next().unwrap_or_default().start as u64,
            dst_offset: CUT_OFFSET as u64,
            src_stride: STRIDE as u64,
            dst_stride: CUT_STRIDE as u64,
            length: u64::from(CUT.0) * 4,
            rows: CUT.1.into(),
        };
        let copied = self.device.copy(&source, &foreign, region)?;

        // Nothing beside the rows may have changed: the buffer was zero.
        let mut must = vec![0; foreign.size() as usize];
        for (number, row) in from.enumerate() {
            let at = CUT_OFFSET + number * CUT_STRIDE;
            must[at..at + row.len()].copy_from_slice(&self.drawn[row]);
        }
        Ok(Copied {
            bytes: copied,
            compared: must.len(),
            wrong: wrong_in(&foreign, &must)?,
        })
    }
}

/// What the child of the demo does: a write outside of a window. It does not come back.
pub(crate) fn poison(args: &PoisonArgs) -> Result<()> {
    let buffer = Buffer::try_from(fds::open(args.fd, None)?)?;
    write(&buffer.map()?, 0)
}

fn read(mapping: &Mapping, at: usize) -> Result<()> {
    let mut byte = [0];
    mapping.read(at, &mut byte)?;
    // The read is for its fault, and must not be left out.
    std::hint::black_box(byte);
    Ok(())
}

fn write(mapping: &Mapping, at: usize) -> Result<()> {
    Ok(mapping.write(at, &[1])?)
}

fn fill(buffer: &Buffer, bytes: &[u8]) -> Result<()> {
    let mapping = buffer.map()?;
    let window = buffer.cpu_access(Access::Write)?;
    mapping.write(0, bytes)?;
    Ok(window.end()?)
}

/// Bytes at the beginning of a buffer that are not as they must be.
fn wrong_in(buffer: &Buffer, must: &[u8]) -> Result<usize> {
    let mapping = buffer.map()?;
    let mut is = vec![0; must.len()];
    let window = buffer.cpu_access(Access::Read)?;
    mapping.read(0, &mut is)?;
    window.end()?;
    Ok(differing(&is, must))
}

pub(super) fn update() -> Region {
    Region::Rows {
        offset: update_rows().next().unwrap_or_default().start as u64,
        length: u64::from(SIDE) * 4,
        stride: STRIDE as u64,
        rows: SIDE.into(),
    }
}

fn update_rows() -> impl Iterator<Item = Range<usize>> + Clone {
    rows(UPDATE, (SIDE, SIDE))
}

/// The bytes of a rectangle of the picture, row by row.
fn rows(
    (x, y): (u32, u32),
    (width, height): (u32, u32),
) -> impl Iterator<Item = Range<usize>> + Clone {
    (y..y + height).map(move |y| {
        let start = y as usize * STRIDE + x as usize * 4;
        start..start + width as usize * 4
    })
}

/// Bytes of the cache lines that the update touches.
pub(crate) fn lines_of_update() -> u64 {
    touched(64)
}

/// Bytes of the pages that it touches.
pub(crate) fn pages_of_update() -> u64 {
    touched(PAGE)
}

/// Bytes of the rectangle that is copied.
pub(crate) fn bytes_of_cut() -> u64 {
    u64::from(CUT.0) * 4 * u64::from(CUT.1)
}

fn touched(unit: usize) -> u64 {
    let units = update_rows().flat_map(|row| row.start / unit..row.end.div_ceil(unit));
    (units.collect::<BTreeSet<_>>().len() * unit) as u64
}

pub(super) fn failed(what: &str, errno: cohbuf::Errno) -> Error {
    Error::Demo {
        what: what.to_owned(),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 20 lines of the contract.
    #[test]
    fn the_update_touches_two_lines_a_row() {
        assert_eq!(lines_of_update(), 1280);
        // 6400 bytes from row to row: 10 rows lie in 10 pages.
        assert_eq!(pages_of_update(), 10 * 4096);
    }

    #[test]
    fn the_rectangle_lies_in_the_picture() {
        let last = rows(CUT_AT, CUT).last().unwrap();
        assert!(last.end <= picture::BYTES);
        assert!(last.len() <= CUT_STRIDE - CUT_OFFSET);
    }
}
