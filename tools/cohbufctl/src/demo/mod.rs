// SPDX-License-Identifier: GPL-2.0

//! The demonstration: one picture, two kinds of buffer, four importers; then what goes beyond
//! the SYNC ioctl.

mod beyond;
mod carry;
mod devices;
mod expect;
mod picture;
mod record;
mod table;

use std::fs;
use std::time::Duration;

use cohbuf::{Buffer, CreateFlags, Device};
use cohbuf_testdev::driver::Driver;
use cohbuf_testdev::{Direction, Importer, TestDevice, Vgem};

use crate::cli::{Boot, DemoArgs};
use crate::demo::beyond::Beside;
use crate::demo::carry::{Discipline, Start};
use crate::demo::expect::Kind;
use crate::demo::record::{Demo, FILE, Importer as Row, Outcome, PICTURE, Use};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::show::{Look, print, print_json};

pub(crate) use beyond::poison;
pub(crate) use table::report;

/// The two buffers, with the picture to draw in them.
struct Stage {
    coherent: Buffer,
    bracketed: Buffer,
    drawn: Vec<u8>,
    boot: Boot,
    budget: Duration,
}

pub(crate) fn run(args: &DemoArgs, look: Look) -> Result<()> {
    let system = rustix::system::uname();
    let kernel = system.release().to_string_lossy().into_owned();
    let arch = system.machine().to_string_lossy().into_owned();

    let device = Device::open()?;
    let importer = Importer::open().map_err(|errno| Error::Demo {
        what: format!("open {} (load cohbuf_importer.ko)", Importer::PATH),
        errno,
    })?;
    let driver = Driver::open().map_err(|errno| Error::Demo {
        what: format!("open {} (load cohbuf_driver.ko)", Driver::PATH),
        errno,
    })?;
    let vgem = Vgem::open().map_err(|errno| Error::Demo {
        what: "find vgem in /dev/dri (modprobe vgem)".to_owned(),
        errno,
    })?;
    let bytes = picture::BYTES as u64;
    let stage = Stage {
        coherent: device.create(bytes, CreateFlags::COHERENT)?,
        bracketed: device.create(bytes, CreateFlags::empty())?,
        drawn: picture::draw("cohbuf", &format!("{arch}  Linux {kernel}")),
        boot: args.boot,
        budget: Duration::from_secs(args.seconds),
    };

    let progress = Progress::spinner("moving the picture");
    let (edu, seen) = stage.edu(&importer)?;
    let rows = [
        (Kind::Edu, edu),
        (
            Kind::Coherent,
            stage.platform(&importer, "coherent platform device", TestDevice::Coherent),
        ),
        (
            Kind::NonCoherent,
            stage.platform(
                &importer,
                "non-coherent platform device",
                TestDevice::NonCoherent,
            ),
        ),
        (Kind::Vgem, stage.vgem(&vgem)),
    ];

    let beside = Beside {
        device: &device,
        importer: &importer,
        driver: &driver,
        vgem: &vgem,
        drawn: &stage.drawn,
    };
    let beyond = beside.run()?;
    progress.done();

    let mut deviations: Vec<String> = rows
        .iter()
        .flat_map(|(kind, row)| expect::deviations(*kind, row, &arch, args.boot))
        .collect();
    deviations.extend(expect::beyond_deviations(&beyond, &arch, args.boot));
    let demo = Demo {
        kernel,
        arch,
        boot: args.boot,
        importers: rows.into_iter().map(|(_, row)| row).collect(),
        beyond,
        deviations,
    };
    write(args, &demo, &seen)?;
    if look.json {
        print_json(&serde_json::json!(demo))?;
    } else {
        print(&table::text_of(std::slice::from_ref(&demo)))?;
    }
    if demo.deviations.is_empty() {
        Ok(())
    } else {
        Err(Error::Deviates(demo.deviations))
    }
}

fn write(args: &DemoArgs, demo: &Demo, seen: &[u8]) -> Result<()> {
    let failed = |path: &std::path::Path| {
        let path = path.to_owned();
        move |error| Error::Write { path, error }
    };
    fs::create_dir_all(&args.out).map_err(failed(&args.out))?;
    let json = args.out.join(FILE);
    let text = serde_json::to_string_pretty(demo)
        .map_err(std::io::Error::from)
        .map_err(failed(&json))?;
    fs::write(&json, text + "\n").map_err(failed(&json))?;
    let png = args.out.join(PICTURE);
    picture::write_png(&png, seen).map_err(failed(&png))
}

impl Stage {
    /// Real DMA. Also gives what the devices saw: of the coherent buffer, or,
    /// where that one is refused, of the bracketed one.
    fn edu(&self, importer: &Importer) -> Result<(Row, Vec<u8>)> {
        let (from_coherent, coherent, device_coherent) =
            self.edu_use(importer, &self.coherent, Discipline::None, self.budget)?;
        // One whole picture is enough; of a second, a sample.
        let budget = match from_coherent {
            Some(_) => self.budget / 4,
            None => self.budget,
        };
        let (from_bracketed, bracketed, _) =
            self.edu_use(importer, &self.bracketed, Discipline::Bracketed, budget)?;
        let row = Row {
            name: "edu (PCI, real DMA)".to_owned(),
            device_coherent,
            coherent,
            bracketed,
        };
        let seen = from_coherent
            .or(from_bracketed)
            .unwrap_or_else(|| vec![0; picture::BYTES]);
        Ok((row, seen))
    }

    fn edu_use(
        &self,
        importer: &Importer,
        buffer: &Buffer,
        discipline: Discipline,
        budget: Duration,
    ) -> Result<(Option<Vec<u8>>, Use, Option<bool>)> {
        let mut used = Use {
            attach: Outcome::ok(),
            map: None,
            bounced: None,
            data: None,
        };
        match carry::start(importer, buffer, self.boot)? {
            Start::Refused(refused) => {
                used.attach = Outcome::errno(refused.errno);
                Ok((None, used, Some(refused.coherent)))
            }
            Start::Unmapped { coherent, errno } => {
                used.map = Some(Outcome::errno(errno));
                Ok((None, used, Some(coherent)))
            }
            Start::Mapped(readers) => {
                let coherent = readers.is_coherent();
                used.map = Some(Outcome::ok());
                used.bounced = Some(readers.info.bounced);
                let (seen, data) =
                    readers.carry(importer, buffer, &self.drawn, discipline, budget)?;
                used.data = Some(data);
                Ok((Some(seen), used, Some(coherent)))
            }
        }
    }

    fn platform(&self, importer: &Importer, name: &str, device: TestDevice) -> Row {
        let attach_and_map = |buffer: &Buffer| {
            let mut used = Use {
                attach: Outcome::ok(),
                map: None,
                bounced: None,
                data: None,
            };
            let coherent = match importer.attach(buffer, device, 0) {
                Ok(attachment) => {
                    let mapped = attachment.map(Direction::Bidirectional);
                    used.map = Some(Outcome::of(&mapped));
                    used.bounced = mapped.ok().map(|info| info.bounced);
                    attachment.is_coherent()
                }
                Err(refused) => {
                    used.attach = Outcome::errno(refused.errno);
                    refused.coherent
                }
            };
            (used, coherent)
        };
        let (coherent, device_coherent) = attach_and_map(&self.coherent);
        let (bracketed, _) = attach_and_map(&self.bracketed);
        Row {
            name: name.to_owned(),
            device_coherent: Some(device_coherent),
            coherent,
            bracketed,
        }
    }

    fn vgem(&self, vgem: &Vgem) -> Row {
        let attach = |buffer: &Buffer| Use {
            attach: Outcome::of(&vgem.import(buffer)),
            map: None,
            bounced: None,
            data: None,
        };
        Row {
            name: "vgem (attach only)".to_owned(),
            device_coherent: None,
            coherent: attach(&self.coherent),
            bracketed: attach(&self.bracketed),
        }
    }
}
