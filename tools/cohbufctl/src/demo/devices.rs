// SPDX-License-Identifier: GPL-2.0

//! What devices that stay mapped do among themselves: device-side sync, fences, and what INFO
//! tells of them.

use std::time::Instant;

use cohbuf::{CreateFlags, Errno};
use cohbuf_testdev::driver::{Driver, How, Importer, Sync, uapi::BYTES};
use cohbuf_testdev::{Direction, TestDevice};

use crate::demo::beyond::{Beside, failed, update};
use crate::demo::carry::differing;
use crate::demo::picture;
use crate::demo::record::{Fenced, HandedOver, Known, Late, Listed};
use crate::error::Result;

/// What one device writes for another.
pub(crate) const HANDED_OVER: usize = 16 << 10;
const _: () = assert!(HANDED_OVER % BYTES == 0);

/// How late a device writes, and how much.
pub(crate) const DELAY_MS: u32 = 500;
pub(crate) const LATE: usize = BYTES;

/// Has the models forget their pages, when the devices are gone and before the buffer goes.
struct Forget<'a>(&'a Driver);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        // Whoever begins with a reset learns of what is left mapped.
        let _ = self.0.reset();
    }
}

impl Beside<'_> {
    fn forget(&self) -> Result<Forget<'_>> {
        let reset = self.driver.reset();
        reset.map_err(|errno| failed("reset the models of cohbuf_driver", errno))?;
        Ok(Forget(self.driver))
    }

    /// R7, and what comes of it without.
    pub(super) fn handed_over(&self) -> Result<HandedOver> {
        Ok(HandedOver {
            bytes: HANDED_OVER,
            wrong_without: self.wrong_handed_over(false)?,
            wrong: self.wrong_handed_over(true)?,
        })
    }

    /// A device that has a copy writes, and one past the CPU caches reads: what it finds wrong.
    fn wrong_handed_over(&self, synced: bool) -> Result<usize> {
        let buffer = self.create(HANDED_OVER, CreateFlags::empty())?;
        let _forget = self.forget()?;
        let attach = |kind| self.driver.attach(&buffer, kind, How::default());
        let hand_over = || -> core::result::Result<usize, Errno> {
            let writer = attach(TestDevice::BounceModel)?;
            let reader = attach(TestDevice::CacheModel)?;
            writer.map(Direction::FromDevice)?;
            reader.map(Direction::ToDevice)?;
            let must = content();
            write(&writer, &must)?;
            if synced {
                writer.sync(Sync::FOR_CPU)?;
                reader.sync(Sync::FOR_DEVICE)?;
            }
            Ok(differing(&read(&reader)?, &must))
        };
        hand_over().map_err(|errno| failed("hand a buffer from device to device", errno))
    }

    /// R6, and what comes of it where the importer says that it waits by itself.
    pub(super) fn fenced(&self) -> Result<Fenced> {
        Ok(Fenced {
            bytes: LATE,
            delay: DELAY_MS.into(),
            autofence: self.late(None)?,
            off: self.late(Some(false))?,
        })
    }

    /// A device is to write late, and the buffer is mapped for one that has a copy.
    fn late(&self, autofence: Option<bool>) -> Result<Late> {
        let buffer = self.create(LATE, CreateFlags::empty())?;
        let _forget = self.forget()?;
        let attach = |kind, autofence| {
            let how = How {
                autofence,
                ..How::default()
            };
            self.driver.attach(&buffer, kind, how)
        };
        let late = || -> core::result::Result<Late, Errno> {
            let writer = attach(TestDevice::SnoopModel, None)?;
            let reader = attach(TestDevice::BounceModel, autofence)?;
            writer.map(Direction::FromDevice)?;
            let must = *content().first_chunk::<LATE>().expect("there is more");
            writer.writes_later(DELAY_MS, 0, &must)?;
            let began = Instant::now();
            reader.map(Direction::ToDevice)?;
            let took = began.elapsed();
            Ok(Late {
                millis: took.as_millis() as u64,
                wrong: differing(&reader.reads::<LATE>(0)?, &must),
            })
        };
        late().map_err(|errno| failed("map beside a device that is to write", errno))
    }

    /// R13: two devices, and the update of R9.
    pub(super) fn known(&self) -> Result<Known> {
        let buffer = self.create(picture::BYTES, CreateFlags::empty())?;
        let mut mapped = Vec::new();
        for kind in [TestDevice::Coherent, TestDevice::NonCoherent] {
            let attached = self.importer.attach(&buffer, kind, 0);
            let attachment =
                attached.map_err(|refused| failed("attach the platform devices", refused.errno))?;
            attachment
                .map(Direction::ToDevice)
                .map_err(|errno| failed("map for the platform devices", errno))?;
            mapped.push(attachment);
        }
        let mapping = buffer.map()?;
        self.window(&buffer, update(), || self.draw_update(&mapping))?;
        let (info, list) = self.device.inspect(&buffer)?;
        let mut attachments: Vec<_> = list
            .into_iter()
            .map(|one| Listed {
                device: one.device,
                reach: one.reach.to_string(),
            })
            .collect();
        // Whatever order the kernel lists them in.
        attachments.sort_by(|one, other| one.device.cmp(&other.device));
        Ok(Known {
            attachments,
            cleaned: info.bytes_cleaned,
            copied: info.bytes_to_copies,
            saved: info.bytes_saved,
        })
    }
}

/// New memory is zero, and no byte of this is.
fn content() -> Vec<u8> {
    (0..HANDED_OVER).map(|n| (n % 251) as u8 + 1).collect()
}

fn write(device: &Importer<'_>, bytes: &[u8]) -> core::result::Result<(), Errno> {
    for (number, chunk) in bytes.chunks_exact(BYTES).enumerate() {
        let chunk = chunk.first_chunk::<BYTES>().expect("it is that long");
        device.writes(number * BYTES, chunk)?;
    }
    Ok(())
}

/// All that was handed over, as the device sees it.
fn read(device: &Importer<'_>) -> core::result::Result<Vec<u8>, Errno> {
    let mut seen = Vec::new();
    while seen.len() < HANDED_OVER {
        seen.extend(device.reads::<BYTES>(seen.len())?);
    }
    Ok(seen)
}
