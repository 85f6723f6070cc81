// SPDX-License-Identifier: GPL-2.0

//! `share`: a buffer for an importer that may refuse it.

use std::path::Path;

use cohbuf::share::{Attempt, DrmDevice, ShareError, Shared, Way, share_by};
use cohbuf::{Access, Buffer, CreateFlags, Device, Protection};
use serde_json::{Value, json};

use crate::cli::{self, ShareArgs};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::show::{self, Look, columns, show};
use crate::{errno, fds};

/// Bytes of a pattern that are made, written and compared at a time.
const CHUNK: usize = 1 << 20;

pub(crate) fn share(args: &ShareArgs, look: Look) -> Result<()> {
    let device = Device::open()?;
    let importer = open_importer(&args.with)?;
    let driver = importer.driver();
    let (buffer, is_new) = match args.fd {
        Some(fd) => (Buffer::try_from(fds::open(fd, args.pid)?)?, false),
        None => {
            let mut flags = CreateFlags::empty();
            flags.set(CreateFlags::COHERENT, args.coherent);
            flags.set(CreateFlags::WRITE_COMBINE, args.write_combine);
            (device.create(args.size, flags)?, true)
        }
    };
    if args.verify && is_new {
        write_pattern(&buffer, buffer.size(), 1)?;
    }

    let progress = Progress::spinner("sharing");
    let ways: Vec<Way> = args.way.iter().map(|way| (*way).into()).collect();
    let shared = match share_by(&device, &buffer, &importer, &ways) {
        Ok(shared) => shared,
        Err(error) => {
            progress.done();
            if matches!(error, ShareError::NoWay(_)) {
                let shown = json!({
                    "driver": driver,
                    "size": buffer.size(),
                    "tried": tried(&ways, error.attempts()),
                    "way": null,
                });
                print(look, &shown)?;
            }
            return Err(error.into());
        }
    };

    let mut shown = json!({
        "driver": driver,
        "size": buffer.size(),
        "tried": tried(&ways, shared.attempts()),
        "way": shared.way().to_string(),
        "copied_once": shared.cost().copied_once,
        "copied_per_update": shared.cost().copied_per_update,
        "maintained_per_update": shared.cost().maintained_per_update,
    });
    let verified = if args.verify {
        let verified = verify(&buffer, &shared, is_new)?;
        shown["compared"] = json!(verified.compared);
        shown["wrong"] = json!(verified.wrong);
        Some(verified)
    } else {
        None
    };
    progress.done();
    print(look, &shown)?;
    verified.map_or(Ok(()), Verified::into_result)
}

/// Bytes.
#[derive(Clone, Copy)]
struct Verified {
    compared: u64,
    wrong: u64,
}

impl Verified {
    fn into_result(self) -> Result<()> {
        match self {
            Self { wrong: 0, .. } => Ok(()),
            Self { compared, wrong } => Err(Error::Wrong {
                wrong,
                bytes: compared,
            }),
        }
    }
}

impl From<cli::Way> for Way {
    fn from(way: cli::Way) -> Self {
        match way {
            cli::Way::Direct => Self::Direct,
            cli::Way::Reverse => Self::Reverse,
            cli::Way::Copy => Self::Copy,
        }
    }
}

/// A file, or else the name of a driver.
pub(crate) fn open_importer(with: &Path) -> Result<DrmDevice> {
    let text = with.display().to_string();
    let opened = if text.contains('/') {
        DrmDevice::open(with)
    } else {
        DrmDevice::open_driver(&text)
    };
    opened.map_err(|error| Error::Importer { with: text, error })
}

/// How each way went, those not tried included.
fn tried(ways: &[Way], attempts: &[Attempt]) -> Vec<Value> {
    let attempt = |way: &Way| {
        let result = attempts.iter().find(|attempt| attempt.way == *way);
        match result.map(|attempt| attempt.result) {
            None => json!({ "way": way.to_string(), "result": "not tried" }),
            Some(Ok(())) => json!({ "way": way.to_string(), "result": "ok" }),
            Some(Err(failure)) => json!({
                "way": way.to_string(),
                "result": errno::name(failure.errno),
                "step": failure.step.to_string(),
            }),
        }
    };
    ways.iter().map(attempt).collect()
}

fn print(look: Look, shown: &Value) -> Result<()> {
    if look.json {
        return show(look, shown);
    }
    let rows = shown["tried"].as_array().into_iter().flatten().map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        [text("way"), text("step"), text("result")]
    });
    show::print(&columns(look, &["WAY", "STEP", "RESULT"], rows))?;
    let mut rest = shown.clone();
    if let Some(rest) = rest.as_object_mut() {
        rest.shift_remove("tried");
        if rest["way"].is_null() {
            rest["way"] = json!("none");
        }
    }
    show(look, &rest)
}

/// Compares what the importer has with what it must have; once more after an update, where the
/// buffer is ours to write.
fn verify(buffer: &Buffer, shared: &Shared<'_, DrmDevice>, is_new: bool) -> Result<Verified> {
    let size = buffer.size();
    if !is_new {
        return Ok(Verified {
            compared: size,
            wrong: differing(buffer, shared.importer_buffer(), size)?,
        });
    }
    let mut wrong = unlike_pattern(shared.importer_buffer(), size, 1)?;
    write_pattern(shared.producer_buffer(), size, 2)?;
    shared.refresh()?;
    wrong += unlike_pattern(shared.importer_buffer(), size, 2)?;
    Ok(Verified {
        compared: 2 * size,
        wrong,
    })
}

/// Bytes that have no period of pages, and differ from round to round.
fn pattern(round: u32, offset: usize, bytes: &mut [u8]) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        let number = (offset + at) as u32;
        let mixed = (number ^ round.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        *byte = (mixed >> 24) as u8 ^ round as u8;
    }
}

fn write_pattern(buffer: &Buffer, size: u64, round: u32) -> Result<()> {
    let mapping = buffer.map_range(0, size, Protection::ReadWrite)?;
    let mut bytes = vec![0; CHUNK];
    let window = buffer.cpu_access(Access::Write)?;
    for offset in (0..mapping.len()).step_by(CHUNK) {
        let bytes = &mut bytes[..CHUNK.min(mapping.len() - offset)];
        pattern(round, offset, bytes);
        mapping.write(offset, bytes)?;
    }
    window.end()?;
    Ok(())
}

fn unlike_pattern(buffer: &Buffer, size: u64, round: u32) -> Result<u64> {
    let mapping = buffer.map_range(0, size, Protection::Read)?;
    let (mut is, mut must) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut wrong = 0;
    let window = buffer.cpu_access(Access::Read)?;
    for offset in (0..mapping.len()).step_by(CHUNK) {
        let len = CHUNK.min(mapping.len() - offset);
        mapping.read(offset, &mut is[..len])?;
        pattern(round, offset, &mut must[..len]);
        wrong += count_differing(&is[..len], &must[..len]);
    }
    window.end()?;
    Ok(wrong)
}

fn differing(a: &Buffer, b: &Buffer, size: u64) -> Result<u64> {
    let maps = [
        a.map_range(0, size, Protection::Read)?,
        b.map_range(0, size, Protection::Read)?,
    ];
    let mut bytes = [vec![0; CHUNK], vec![0; CHUNK]];
    let mut wrong = 0;
    let windows = [a.cpu_access(Access::Read)?, b.cpu_access(Access::Read)?];
    for offset in (0..maps[0].len()).step_by(CHUNK) {
        let len = CHUNK.min(maps[0].len() - offset);
        for (map, bytes) in maps.iter().zip(&mut bytes) {
            map.read(offset, &mut bytes[..len])?;
        }
        wrong += count_differing(&bytes[0][..len], &bytes[1][..len]);
    }
    for window in windows {
        window.end()?;
    }
    Ok(wrong)
}

fn count_differing(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).filter(|(a, b)| a != b).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use cohbuf::Errno;
    use cohbuf::share::{Failure, Step};

    #[test]
    fn patterns_differ_by_page_and_by_round() {
        let page = |round, page: usize| {
            let mut bytes = vec![0; 4096];
            pattern(round, page * 4096, &mut bytes);
            bytes
        };
        let first = page(1, 0);
        for other in [page(1, 1), page(1, 256), page(2, 0)] {
            let differing = count_differing(&first, &other);
            assert!(differing > 3 << 10, "{differing}");
        }
    }

    #[test]
    fn wrong_bytes_are_of_those_compared() {
        let result = |compared, wrong| Verified { compared, wrong }.into_result();
        assert!(result(8192, 0).is_ok());
        // All, in both rounds of a buffer of 4096.
        let text = result(8192, 8192).unwrap_err().to_string();
        assert!(text.contains("8192 of 8192 bytes"), "{text}");
    }

    #[test]
    fn every_way_is_listed() {
        let attempts = [
            Attempt {
                way: Way::Direct,
                result: Err(Failure {
                    step: Step::Import,
                    errno: Errno::OPNOTSUPP,
                }),
            },
            Attempt {
                way: Way::Reverse,
                result: Ok(()),
            },
        ];
        let must = [
            json!({ "way": "direct", "result": "EOPNOTSUPP", "step": "import" }),
            json!({ "way": "reverse", "result": "ok" }),
            json!({ "way": "copy", "result": "not tried" }),
        ];
        assert_eq!(tried(&Way::ALL, &attempts), must);
    }
}
