// SPDX-License-Identifier: GPL-2.0

//! The same again and again, while the host looks where the instructions go.

use std::os::fd::AsRawFd;
use std::str::FromStr;

use cohbuf::uapi::{IOCTL_SYNC, SYNC_END, SYNC_READ, SYNC_START, SYNC_WRITE};
use cohbuf_testdev::uapi::{IOCTL_ATTACH, IOCTL_DETACH, IOCTL_MAP, IOCTL_UNMAP};

use super::syncing::{rectangle, sync};
use super::{Attached, Bench, Case, Device, Exporter, Extent, attach_arg, map_arg};
use crate::guest::{Result, check, raw};

/// What to do: "sync,cohbuf,4096,0,coherent".
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    what: What,
    case: Case,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// START and END.
    Sync,
    /// The same of 10x10 pixels in a picture of 1600 pixels a row.
    Region,
    /// CREATE, and close.
    Life,
    /// Attach, map, unmap, detach.
    Import,
    /// mmap, the first write to each page, munmap.
    Mmap,
}

impl FromStr for Spin {
    type Err = String;

    fn from_str(text: &str) -> core::result::Result<Self, String> {
        let words: Vec<_> = text.split(',').collect();
        let [what, exporter, size, attachments, device] = words[..] else {
            return Err("five words, with commas between them, are wanted".into());
        };
        let what = match what {
            "sync" => What::Sync,
            "region" => What::Region,
            "life" => What::Life,
            "import" => What::Import,
            "mmap" => What::Mmap,
            _ => return Err(format!("'{what}': say sync, region, life, import or mmap")),
        };
        let exporter = Exporter::ALL.into_iter().find(|of| of.name() == exporter);
        let exporter = exporter.ok_or("no such exporter")?;
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|error| format!("'{text}': {error}"))
        };
        let device = match device {
            "coherent" => Device::Coherent,
            "noncoherent" => Device::NonCoherent,
            _ => return Err(format!("'{device}': say coherent or noncoherent")),
        };
        let case = Case::with(exporter, number(size)?.into(), number(attachments)?, device);
        Ok(Self { what, case })
    }
}

/// Does it until the guest is ended. Says on standard output that it begins, for the host.
pub fn spin(spin: Spin) -> Result<()> {
    let bench = Bench::new(Extent::Quick)?;
    let Spin { what, case } = spin;
    let maker = bench.maker(case.exporter);
    let buffer = maker.make(case.size)?;
    let importer = bench.importer.as_raw_fd();
    let _attached = Attached::new(&bench.importer, &buffer, case)?;
    let regions = bench.maker(Exporter::Cohbuf).file().as_raw_fd();
    println!("cohbuf-mark: spin");
    loop {
        match what {
            What::Sync => {
                check(sync(buffer.fd(), SYNC_START | SYNC_READ | SYNC_WRITE))?;
                check(sync(buffer.fd(), SYNC_END | SYNC_READ | SYNC_WRITE))?;
            }
            What::Region => {
                let access = SYNC_READ | SYNC_WRITE;
                for half in [SYNC_START, SYNC_END] {
                    let mut arg = rectangle(buffer.fd(), half | access, 10, 10);
                    check(raw::ioctl(regions, IOCTL_SYNC, &mut arg))?;
                }
            }
            What::Life => drop(maker.make(case.size)?),
            What::Mmap => raw::Shared::map(buffer.fd(), case.size)?.touch(),
            What::Import => {
                let mut attach = attach_arg(&buffer, case.device);
                check(raw::ioctl(importer, IOCTL_ATTACH, &mut attach))?;
                let mut map = map_arg(attach.handle);
                check(raw::ioctl(importer, IOCTL_MAP, &mut map))?;
                check(raw::ioctl(importer, IOCTL_UNMAP, &mut map))?;
                check(raw::ioctl(importer, IOCTL_DETACH, &mut attach.handle))?;
            }
        }
    }
}
