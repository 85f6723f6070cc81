// SPDX-License-Identifier: GPL-2.0

//! What a demo writes into demo.json.

use cohbuf::Errno;
use serde::{Deserialize, Serialize};

use crate::cli::Boot;
use crate::errno;

pub(crate) const FILE: &str = "demo.json";
pub(crate) const PICTURE: &str = "picture.png";

/// One boot of one guest.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Demo {
    pub(crate) kernel: String,
    pub(crate) arch: String,
    pub(crate) boot: Boot,
    pub(crate) importers: Vec<Importer>,
    pub(crate) beyond: Beyond,
    /// Where this differs from what the contract says; empty where all is well.
    pub(crate) deviations: Vec<String>,
}

/// What one importer got of the two buffers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Importer {
    pub(crate) name: String,
    /// None where the importer has no way to say.
    pub(crate) device_coherent: Option<bool>,
    pub(crate) coherent: Use,
    pub(crate) bracketed: Use,
}

/// What one importer got of one buffer.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Use {
    pub(crate) attach: Outcome,
    /// None where it was not tried: attach failed, or the importer never maps.
    pub(crate) map: Option<Outcome>,
    /// Whether a segment of the mapping is bounced.
    pub(crate) bounced: Option<bool>,
    /// None where the device cannot move data, or had no mapping.
    pub(crate) data: Option<Data>,
}

/// "ok", or the name of an errno.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Outcome(pub(crate) String);

impl Outcome {
    pub(crate) fn ok() -> Self {
        Self("ok".to_owned())
    }

    pub(crate) fn errno(errno: Errno) -> Self {
        Self(errno::name(errno))
    }

    pub(crate) fn of<T>(result: &Result<T, Errno>) -> Self {
        match result {
            Ok(_) => Self::ok(),
            Err(errno) => Self::errno(*errno),
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.0 == "ok"
    }
}

/// What a device moved by DMA, and whether it was right.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Data {
    /// Devices that worked at the same time.
    pub(crate) devices: u32,
    /// Pages of the picture that they read, of `pages`.
    pub(crate) pages_read: usize,
    pub(crate) pages: usize,
    pub(crate) seconds: f64,
    /// Bytes that differ from what the CPU drew.
    pub(crate) wrong_read: usize,
    /// Bytes that a device wrote for the CPU to read.
    pub(crate) written: usize,
    /// Bytes of the whole buffer that the CPU then found not as they must be.
    pub(crate) wrong_written: usize,
}

impl Data {
    pub(crate) fn is_right(&self) -> bool {
        self.pages_read > 0 && self.written > 0 && self.wrong_read == 0 && self.wrong_written == 0
    }
}

/// What goes beyond the SYNC ioctl.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Beyond {
    /// R9: the whole buffer, and a region of it.
    pub(crate) regions: Maintained,
    /// R11: all pages written, and those of the same region.
    pub(crate) dirty_pages: Maintained,
    /// R10.
    pub(crate) report: Reported,
    /// R10.
    pub(crate) poison: Poisoned,
    /// R7.
    pub(crate) handed_over: HandedOver,
    /// R6.
    pub(crate) fenced: Fenced,
    /// R12, by the first way that works.
    pub(crate) share: Sharing,
    /// R12, by the last one.
    pub(crate) share_by_copy: Sharing,
    /// R12.
    pub(crate) copy: Copied,
    /// R13.
    pub(crate) known: Known,
}

/// Bytes that the START and the END of a window maintained.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Maintained {
    /// Nothing to measure, and why.
    NotHere(String),
    Bytes {
        whole: u64,
        part: u64,
    },
}

/// What a buffer counted that reports accesses outside of windows.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Reported {
    /// Of the accesses within windows.
    pub(crate) inside: u64,
    /// Of one read outside.
    pub(crate) reads: u64,
    /// Of one write outside, and one in a window to read.
    pub(crate) writes: u64,
}

/// What came of a write outside of a window.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Poisoned {
    /// The signal that ended the process.
    pub(crate) signal: Option<i32>,
    pub(crate) poisoned: bool,
    pub(crate) start: Outcome,
    pub(crate) attach: Outcome,
}

/// What one device wrote and another read, while both stay mapped.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct HandedOver {
    pub(crate) bytes: usize,
    /// Bytes that the other finds wrong without a device-side sync.
    pub(crate) wrong_without: usize,
    pub(crate) wrong: usize,
}

/// A buffer that is mapped for one device while another is to write it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Fenced {
    pub(crate) bytes: usize,
    /// Milliseconds until it writes.
    pub(crate) delay: u64,
    pub(crate) autofence: Late,
    /// By an importer that waits by itself, and does not.
    pub(crate) off: Late,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Late {
    /// How long map took.
    pub(crate) millis: u64,
    /// Bytes that the device then finds wrong.
    pub(crate) wrong: usize,
}

/// What INFO says.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Known {
    pub(crate) attachments: Vec<Listed>,
    pub(crate) cleaned: u64,
    /// To bounce buffers.
    pub(crate) copied: u64,
    pub(crate) saved: u64,
}

/// Who is attached, and how it reaches the memory.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Listed {
    pub(crate) device: String,
    pub(crate) reach: String,
}

/// How a coherent buffer got to vgem.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Sharing {
    pub(crate) way: String,
    /// None where it was not tried.
    pub(crate) direct: Option<Outcome>,
    pub(crate) copied_once: u64,
    pub(crate) copied_per_update: u64,
    pub(crate) bytes: usize,
    /// Bytes of the importer's buffer that are not as they must be.
    pub(crate) wrong: usize,
    pub(crate) wrong_after_update: usize,
}

/// A rectangle that was copied to a buffer of another exporter.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Copied {
    pub(crate) bytes: u64,
    pub(crate) compared: usize,
    pub(crate) wrong: usize,
}
