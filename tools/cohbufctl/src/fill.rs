// SPDX-License-Identifier: GPL-2.0

//! `fill` and `check`: known bytes into a buffer, and whether they are there.

use cohbuf::{Access, Buffer, Device, Errno, Protection, Region};
use serde_json::{Value, json};

use crate::cli::PatternArgs;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::show::{Look, columns, print, show};
use crate::{fds, transfer};

/// Bytes that are made, moved and compared at a time.
const CHUNK: usize = 1 << 20;

/// Places with other bytes that are listed.
const PLACES: usize = 8;

/// Bytes of a place that are shown.
const SHOWN: usize = 16;

pub(crate) fn fill(args: &PatternArgs, look: Look) -> Result<()> {
    let buffer = Buffer::try_from(fds::open(args.buffer.fd, args.buffer.pid)?)?;
    let region = transfer::region(&args.region);
    check_region(region, buffer.size())?;
    let mapping = buffer.map()?;
    let progress = Progress::bytes("filling", bytes_of(region, &buffer));
    let mut bytes = vec![0; CHUNK];
    let mut done = 0;
    within(&buffer, Access::Write, region, || {
        for (offset, len) in pieces(region, buffer.size()) {
            let bytes = &mut bytes[..len];
            args.pattern.write(offset, bytes);
            mapping.write(offset as usize, bytes)?;
            done += len as u64;
            progress.set(done);
        }
        Ok(())
    })?;
    progress.done();
    show(look, &json!({ "filled": done }))
}

pub(crate) fn check(args: &PatternArgs, look: Look) -> Result<()> {
    let buffer = Buffer::try_from(fds::open(args.buffer.fd, args.buffer.pid)?)?;
    let region = transfer::region(&args.region);
    check_region(region, buffer.size())?;
    let mapping = buffer.map_range(0, buffer.size(), Protection::Read)?;
    let progress = Progress::bytes("checking", bytes_of(region, &buffer));
    let (mut is, mut must) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut found = Differences::default();
    let mut done = 0;
    within(&buffer, Access::Read, region, || {
        for (offset, len) in pieces(region, buffer.size()) {
            mapping.read(offset as usize, &mut is[..len])?;
            args.pattern.write(offset, &mut must[..len]);
            found.compare(offset, &is[..len], &must[..len]);
            done += len as u64;
            progress.set(done);
        }
        Ok(())
    })?;
    progress.done();
    found.print(look, done)?;
    match found.places.first() {
        None => Ok(()),
        Some(place) => Err(Error::Differs {
            different: found.bytes,
            bytes: done,
            first: place.offset,
        }),
    }
}

/// Does something inside of a window over a region.
fn within(
    buffer: &Buffer,
    access: Access,
    region: Region,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if region == Region::Whole {
        let window = buffer.cpu_access(access)?;
        work()?;
        return Ok(window.end()?);
    }
    if let Ok(device) = Device::open() {
        match device.cpu_access_region(buffer, access, region) {
            Ok(window) => {
                work()?;
                window.end()?;
                return Ok(());
            }
            Err(error) if error.errno() == Errno::MEDIUMTYPE => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Of another exporter only the whole can be synced, and what is not written must stay.
    let access = match access {
        Access::Read => Access::Read,
        Access::Write | Access::ReadWrite => Access::ReadWrite,
    };
    let window = buffer.cpu_access(access)?;
    work()?;
    Ok(window.end()?)
}

/// By the rules of the driver, which says nothing of a buffer that is not its own.
fn check_region(region: Region, size: u64) -> Result<()> {
    let (offset, length, stride, rows) = numbers(region, size);
    if length == 0 || rows == 0 {
        return Err(Error::Empty);
    }
    if rows > 1 && stride < length {
        return Err(Error::Overlap { length, stride });
    }
    let last = (rows - 1).checked_mul(stride);
    let end = last.and_then(|last| last.checked_add(offset)?.checked_add(length));
    match end.filter(|end| *end <= size) {
        Some(_) => Ok(()),
        None => Err(Error::PastTheEnd { size }),
    }
}

/// Offset, length, stride and rows.
fn numbers(region: Region, size: u64) -> (u64, u64, u64, u64) {
    match region {
        Region::Linear { offset, length } => (offset, length, 0, 1),
        Region::Rows {
            offset,
            length,
            stride,
            rows,
        } => (offset, length, stride, rows),
        _ => (0, size, 0, 1),
    }
}

fn bytes_of(region: Region, buffer: &Buffer) -> u64 {
    let bytes = cohbuf::CopyRegion::from(region).bytes();
    bytes.unwrap_or_else(|| buffer.size())
}

/// Where the bytes of a region are, by pieces of at most a chunk.
fn pieces(region: Region, size: u64) -> impl Iterator<Item = (u64, usize)> {
    let (offset, length, stride, rows) = numbers(region, size);
    (0..rows).flat_map(move |row| {
        let start = offset.saturating_add(row.saturating_mul(stride));
        (0..length).step_by(CHUNK).map(move |at| {
            let len = (length - at).min(CHUNK as u64);
            (start.saturating_add(at), len as usize)
        })
    })
}

/// Bytes one after the other that are not what they must be.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    offset: u64,
    length: u64,
    /// The first of them.
    is: Vec<u8>,
    must: Vec<u8>,
}

#[derive(Debug, Default)]
struct Differences {
    bytes: u64,
    count: u64,
    /// The first ones.
    places: Vec<Place>,
    /// Where the last one ends.
    end: u64,
}

impl Differences {
    fn compare(&mut self, offset: u64, is: &[u8], must: &[u8]) {
        if is == must {
            return;
        }
        for (at, (is, must)) in (offset..).zip(is.iter().zip(must)) {
            if is != must {
                self.add(at, *is, *must);
            }
        }
    }

    fn add(&mut self, at: u64, is: u8, must: u8) {
        self.bytes += 1;
        if self.count == 0 || self.end != at {
            self.count += 1;
            if self.places.len() < PLACES {
                self.places.push(Place {
                    offset: at,
                    length: 0,
                    is: Vec::new(),
                    must: Vec::new(),
                });
            }
        }
        self.end = at + 1;
        if self.count as usize > PLACES {
            return;
        }
        if let Some(place) = self.places.last_mut() {
            place.length += 1;
            if place.is.len() < SHOWN {
                place.is.push(is);
                place.must.push(must);
            }
        }
    }

    fn print(&self, look: Look, compared: u64) -> Result<()> {
        let shown = json!({
            "compared": compared,
            "different": self.bytes,
            "places": self.count,
        });
        if look.json {
            let mut shown = shown;
            shown["first"] = self.places.iter().map(Place::json).collect();
            return show(look, &shown);
        }
        show(look, &shown)?;
        if self.places.is_empty() {
            return Ok(());
        }
        let rows = self.places.iter().map(|place| {
            [
                format!("{:#x}", place.offset),
                place.length.to_string(),
                hex(&place.is),
                hex(&place.must),
            ]
        });
        print(&columns(
            look,
            &[">OFFSET", ">BYTES", "IS", "MUST BE"],
            rows,
        ))?;
        let more = self.count - self.places.len() as u64;
        if more > 0 {
            print(&format!("and {more} more places\n"))?;
        }
        Ok(())
    }
}

impl Place {
    fn json(&self) -> Value {
        json!({
            "offset": self.offset,
            "length": self.length,
            "is": hex(&self.is),
            "must": hex(&self.must),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_bytes_of_a_region() {
        let of = |region, size| pieces(region, size).collect::<Vec<_>>();
        assert_eq!(of(Region::Whole, 10), [(0, 10)]);
        let big = 2 * CHUNK as u64 + 5;
        let chunk = CHUNK as u64;
        let must = [(0, CHUNK), (chunk, CHUNK), (2 * chunk, 5)];
        assert_eq!(of(Region::Whole, big), must);
        assert_eq!(of(Region::linear(100..107), 0), [(100, 7)]);
        let rows = Region::Rows {
            offset: 3,
            length: 2,
            stride: 10,
            rows: 3,
        };
        assert_eq!(of(rows, 0), [(3, 2), (13, 2), (23, 2)]);
    }

    #[test]
    fn regions_are_parts_of_the_buffer() {
        let rows = |offset, length, stride, rows| Region::Rows {
            offset,
            length,
            stride,
            rows,
        };
        for region in [
            Region::Whole,
            Region::linear(0..100),
            Region::linear(99..100),
            rows(10, 30, 30, 3),
            rows(0, 100, 0, 1),
            rows(5, 5, 90, 2),
        ] {
            assert!(check_region(region, 100).is_ok(), "{region:?}");
        }
        for region in [
            Region::linear(0..101),
            Region::linear(100..101),
            Region::linear(u64::MAX - 1..u64::MAX),
            rows(11, 30, 30, 3),
            rows(6, 5, 90, 2),
            rows(0, 1, u64::MAX / 2, 4),
            rows(u64::MAX, 1, 1, 2),
        ] {
            let result = check_region(region, 100);
            assert!(
                matches!(result, Err(Error::PastTheEnd { size: 100 })),
                "{region:?}: {result:?}"
            );
        }
        for region in [Region::linear(4..4), rows(0, 4, 4, 0), rows(0, 0, 4, 1)] {
            let result = check_region(region, 100);
            assert!(matches!(result, Err(Error::Empty)), "{region:?}");
        }
        let result = check_region(rows(0, 10, 9, 2), 100);
        assert!(matches!(result, Err(Error::Overlap { .. })));
    }

    #[test]
    fn places_are_runs_of_wrong_bytes() {
        let mut found = Differences::default();
        found.compare(0, &[0; 8], &[0; 8]);
        assert_eq!(found.count, 0);
        // At 10 to 12, across two calls, and at 15.
        found.compare(8, &[0, 0, 1, 2], &[0; 4]);
        found.compare(12, &[3, 0, 0, 4], &[0; 4]);
        assert_eq!((found.bytes, found.count), (4, 2));
        let must = [
            Place {
                offset: 10,
                length: 3,
                is: vec![1, 2, 3],
                must: vec![0; 3],
            },
            Place {
                offset: 15,
                length: 1,
                is: vec![4],
                must: vec![0],
            },
        ];
        assert_eq!(found.places, must);
    }

    #[test]
    fn all_are_counted_and_the_first_are_listed() {
        let mut found = Differences::default();
        let is: Vec<u8> = (0..64).map(|n| n % 2).collect();
        found.compare(0, &is, &[0; 64]);
        assert_eq!((found.bytes, found.count), (32, 32));
        assert_eq!(found.places.len(), PLACES);
        assert!(found.places.iter().all(|place| place.length == 1));
    }
}
