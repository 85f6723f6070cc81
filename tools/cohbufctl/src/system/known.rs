// SPDX-License-Identifier: GPL-2.0

//! What cohbuf knows of a buffer that it made.

use cohbuf::{Attachment, Info};
use serde::{Deserialize, Serialize};

use crate::buffers;

/// What `COHBUF_IOCTL_INFO` says, or, without what is of importers alone, debugfs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) flags: Vec<String>,
    pub(crate) state: Vec<String>,
    pub(crate) caching: Option<String>,
    pub(crate) attachments: u32,
    pub(crate) mappings: u32,
    pub(crate) bounced: Option<u32>,
    pub(crate) write_windows: u32,
    pub(crate) refused: u64,
    pub(crate) outside: u64,
    pub(crate) bytes: Bytes,
    pub(crate) importers: Option<Vec<Importer>>,
}

/// What was maintained since the buffer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bytes {
    pub(crate) cleaned: u64,
    pub(crate) invalidated: u64,
    pub(crate) copied: u64,
    pub(crate) own_ops: u64,
    pub(crate) saved: u64,
}

/// An importer, as cohbuf knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Importer {
    pub(crate) device: String,
    pub(crate) driver: String,
    pub(crate) flags: Vec<String>,
    pub(crate) mappings: u32,
    pub(crate) reach: String,
}

impl Known {
    pub(super) fn new(info: &Info, importers: &[Attachment]) -> Self {
        Self {
            flags: buffers::flag_names(&info.flags),
            state: buffers::flag_names(&info.state),
            caching: Some(info.caching.to_string()),
            attachments: info.attachments,
            mappings: info.mappings,
            bounced: Some(info.bounced),
            write_windows: info.write_windows,
            refused: info.refused_attach.saturating_add(info.refused_map),
            outside: info.outside_reads.saturating_add(info.outside_writes),
            bytes: Bytes {
                cleaned: info.bytes_cleaned,
                invalidated: info.bytes_invalidated,
                copied: info.bytes_to_copies.saturating_add(info.bytes_from_copies),
                own_ops: info.bytes_own_ops,
                saved: info.bytes_saved,
            },
            importers: Some(importers.iter().map(Importer::new).collect()),
        }
    }

    /// These numbers, and what an earlier answer has beside them.
    pub(super) fn with_importers_of(self, earlier: &Self) -> Self {
        Self {
            caching: earlier.caching.clone(),
            bounced: earlier.bounced,
            importers: earlier.importers.clone(),
            ..self
        }
    }
}

impl Importer {
    fn new(one: &Attachment) -> Self {
        Self {
            device: one.device.clone(),
            driver: one.driver.clone(),
            flags: buffers::flag_names(&one.flags),
            mappings: one.mappings,
            reach: one.reach.to_string(),
        }
    }
}
