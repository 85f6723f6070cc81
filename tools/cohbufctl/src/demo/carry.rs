// SPDX-License-Identifier: GPL-2.0

//! Pages of the picture through edu, by DMA.
//!
//! edu takes 100 ms for each transfer of at most a page, whatever the host, so
//! several devices work side by side, and where time runs out it is a sample.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cohbuf::{Access, Buffer, Mapping};
use cohbuf_testdev::{Attachment, Direction, Importer, MapInfo, Refused, TestDevice};

use crate::cli::Boot;
use crate::demo::picture;
use crate::demo::record::Data;
use crate::error::{Error, Result};

const PAGE: usize = 4096;
const PAGES: usize = picture::BYTES.div_ceil(PAGE);

/// Where the device writes: from within a page, over some, into another.
const WRITE_AT: usize = 300 * PAGE + 100;
const WRITE_BYTES: usize = 2 * PAGE + 1000;
const _: () = {
    assert!(WRITE_AT + WRITE_BYTES <= picture::BYTES);
    assert!(WRITE_AT % PAGE != 0 && (WRITE_AT + WRITE_BYTES) % PAGE != 0);
};

/// Bounced mappings share 64 MiB: of those of the picture, a few fit.
const DEVICES_BOUNCED: usize = 4;

/// How CPU access to a buffer is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discipline {
    /// At any time: nothing but coherence makes the data right.
    None,
    /// Within windows.
    Bracketed,
}

/// The edu devices that a buffer is mapped for.
pub(crate) struct Readers<'a> {
    attachments: Vec<Attachment<'a>>,
    pub(crate) info: MapInfo,
}

/// Where the first device got to.
pub(crate) enum Start<'a> {
    Refused(Refused),
    /// Attached, but not mapped.
    Unmapped {
        coherent: bool,
        errno: cohbuf::Errno,
    },
    Mapped(Readers<'a>),
}

/// Attaches and maps a buffer for as many edu devices as there are.
pub(crate) fn start<'a>(importer: &'a Importer, buffer: &Buffer, boot: Boot) -> Result<Start<'a>> {
    let limit = match boot {
        Boot::Plain => usize::MAX,
        Boot::Swiotlb => DEVICES_BOUNCED,
    };
    let first = match importer.attach(buffer, TestDevice::Edu, 0) {
        Ok(attachment) => attachment,
        Err(refused) => return Ok(Start::Refused(refused)),
    };
    let coherent = first.is_coherent();
    let info = match first.map(Direction::ToDevice) {
        Ok(info) => info,
        Err(errno) => return Ok(Start::Unmapped { coherent, errno }),
    };
    let mut attachments = vec![first];
    while attachments.len() < limit {
        let index = attachments.len() as u32;
        let next = match importer.attach(buffer, TestDevice::Edu, index) {
            Ok(next) => next,
            Err(refused) if refused.errno == cohbuf::Errno::NODEV => break,
            Err(refused) => return Err(failed(format!("attach edu {index}"), refused.errno)),
        };
        next.map(Direction::ToDevice)
            .map_err(|errno| failed(format!("map edu {index}"), errno))?;
        attachments.push(next);
    }
    Ok(Start::Mapped(Readers { attachments, info }))
}

impl Readers<'_> {
    pub(crate) fn is_coherent(&self) -> bool {
        self.attachments[0].is_coherent()
    }

    /// Draws while the devices have their mappings, lets them read, then lets
    /// one write. Gives what the devices saw, pages that none read in black.
    pub(crate) fn carry(
        self,
        importer: &Importer,
        buffer: &Buffer,
        drawn: &[u8],
        discipline: Discipline,
        budget: Duration,
    ) -> Result<(Vec<u8>, Data)> {
        let mapping = buffer.map()?;
        access(buffer, discipline, Access::Write, || {
            mapping.write(0, drawn)
        })?;

        let begin = Instant::now();
        let (seen, read) = self.read(begin + budget)?;
        let seconds = begin.elapsed().as_secs_f64();
        let wrong_read = (0..PAGES)
            .filter(|page| read[*page])
            .map(|page| differing(&seen[range(page)], &drawn[range(page)]))
            .sum();

        let devices = self.attachments.len() as u32;
        // The one that writes is alone: two bounced mappings of the same pages
        // would overwrite each other, as two devices that write may always do.
        drop(self);
        let wrong_written = write(importer, buffer, &mapping, drawn, discipline)?;

        let data = Data {
            devices,
            pages_read: read.iter().filter(|read| **read).count(),
            pages: PAGES,
            seconds,
            wrong_read,
            written: WRITE_BYTES,
            wrong_written,
        };
        Ok((seen, data))
    }

    fn read(&self, deadline: Instant) -> Result<(Vec<u8>, Vec<bool>)> {
        let next = AtomicUsize::new(0);
        let result = Mutex::new((vec![0; picture::BYTES], vec![false; PAGES]));
        let work = |attachment: &Attachment<'_>| -> Result<()> {
            let mut bytes = vec![0; PAGE];
            while Instant::now() < deadline {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= PAGES {
                    break;
                }
                let page = spread(turn);
                let range = range(page);
                let bytes = &mut bytes[..range.len()];
                attachment
                    .device_reads(range.start as u64, bytes)
                    .map_err(|errno| failed(format!("let edu read page {page}"), errno))?;
                let mut result = result.lock().unwrap_or_else(|poison| poison.into_inner());
                result.0[range].copy_from_slice(bytes);
                result.1[page] = true;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .attachments
                .iter()
                .map(|attachment| scope.spawn(|| work(attachment)))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("a reader does not panic"))
        })?;
        Ok(result
            .into_inner()
            .unwrap_or_else(|poison| poison.into_inner()))
    }
}

/// Lets one device write into the buffer. Gives the bytes of the whole buffer
/// that the CPU then finds wrong.
fn write(
    importer: &Importer,
    buffer: &Buffer,
    mapping: &Mapping,
    drawn: &[u8],
    discipline: Discipline,
) -> Result<usize> {
    let writer = importer
        .attach(buffer, TestDevice::Edu, 0)
        .map_err(|refused| failed("attach edu to write".to_owned(), refused.errno))?;
    writer
        .map(Direction::FromDevice)
        .map_err(|errno| failed("map edu to write".to_owned(), errno))?;
    // The complement: no byte of it is there already.
    let written: Vec<u8> = drawn[WRITE_AT..][..WRITE_BYTES]
        .iter()
        .map(|byte| !byte)
        .collect();
    writer
        .device_writes(WRITE_AT as u64, &written)
        .map_err(|errno| failed("let edu write".to_owned(), errno))?;

    let mut expected = drawn.to_vec();
    expected[WRITE_AT..][..WRITE_BYTES].copy_from_slice(&written);
    let mut found = vec![0; drawn.len()];
    access(buffer, discipline, Access::Read, || {
        mapping.read(0, &mut found)
    })?;
    Ok(differing(&found, &expected))
}

fn access(
    buffer: &Buffer,
    discipline: Discipline,
    access: Access,
    work: impl FnOnce() -> cohbuf::Result<()>,
) -> Result<()> {
    match discipline {
        Discipline::None => work()?,
        Discipline::Bracketed => {
            let window = buffer.cpu_access(access)?;
            work()?;
            window.end()?;
        }
    }
    Ok(())
}

fn failed(what: String, errno: cohbuf::Errno) -> Error {
    Error::Demo { what, errno }
}

/// How many bytes are not the same.
pub(crate) fn differing(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}

fn range(page: usize) -> std::ops::Range<usize> {
    page * PAGE..picture::BYTES.min((page + 1) * PAGE)
}

/// The page for a turn. Each page has one, and those of the first turns are
/// spread evenly: the step is prime to the number of pages, and near the
/// golden section of it.
const fn spread(turn: usize) -> usize {
    const STEP: usize = 1159;
    turn * STEP % PAGES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_a_turn() {
        let mut turns: Vec<usize> = (0..PAGES).map(spread).collect();
        turns.sort_unstable();
        assert!(turns.iter().copied().eq(0..PAGES));
    }

    #[test]
    fn a_sample_is_spread() {
        let mut sample: Vec<usize> = (0..100).map(spread).collect();
        sample.sort_unstable();
        let gap = sample.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(gap <= Some(2 * PAGES / 100 + 4), "{gap:?}");
    }
}
