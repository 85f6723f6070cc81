// SPDX-License-Identifier: GPL-2.0

//! What a demo writes into demo.json.

use cohbuf::Errno;
use serde::{Deserialize, Serialize};

use crate::cli::Boot;

pub(crate) const FILE: &str = "demo.json";
pub(crate) const PICTURE: &str = "picture.png";

/// One boot of one guest.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Demo {
    pub(crate) kernel: String,
    pub(crate) arch: String,
    pub(crate) boot: Boot,
    pub(crate) importers: Vec<Importer>,
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
        let name = match errno {
            Errno::OPNOTSUPP => "EOPNOTSUPP",
            Errno::NODEV => "ENODEV",
            Errno::NOENT => "ENOENT",
            Errno::INVAL => "EINVAL",
            Errno::NOMEM => "ENOMEM",
            Errno::IO => "EIO",
            Errno::NOTTY => "ENOTTY",
            other => return Self(format!("errno {}", other.raw_os_error())),
        };
        Self(name.to_owned())
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
