// SPDX-License-Identifier: GPL-2.0

//! What is known of a buffer (`COHBUF_IOCTL_INFO`).

use core::fmt;

use crate::device::CreateFlags;
use crate::uapi::{self, RawAttachment, RawInfo};

/// How the CPU sees the memory of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Caching {
    /// Through its caches.
    WriteBack,
    /// Past its caches.
    WriteCombine,
    /// As a newer driver says, by its number.
    Other(u32),
}

impl From<u32> for Caching {
    fn from(raw: u32) -> Self {
        match raw {
            uapi::CACHING_WRITE_BACK => Self::WriteBack,
            uapi::CACHING_WRITE_COMBINE => Self::WriteCombine,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Caching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteBack => f.pad("write-back"),
            Self::WriteCombine => f.pad("write-combine"),
            Self::Other(number) => number.fmt(f),
        }
    }
}

/// How a device reaches the memory of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// Nothing is mapped.
    None,
    /// By the CPU caches.
    Snooping,
    /// Past them, by physical addresses.
    Direct,
    /// Past them, through an IOMMU.
    Iommu,
    /// It has a copy (swiotlb).
    Bounced,
    /// It has a copy of some, and snoops the CPU caches for the rest.
    PartlyBounced,
    /// By DMA ops of its own: nobody knows.
    Unknown,
    /// As a newer driver says, by its number.
    Other(u32),
}

impl From<u32> for Reach {
    fn from(raw: u32) -> Self {
        match raw {
            uapi::REACH_NONE => Self::None,
            uapi::REACH_SNOOPING => Self::Snooping,
            uapi::REACH_DIRECT => Self::Direct,
            uapi::REACH_IOMMU => Self::Iommu,
            uapi::REACH_BOUNCED => Self::Bounced,
            uapi::REACH_PARTLY_BOUNCED => Self::PartlyBounced,
            uapi::REACH_UNKNOWN => Self::Unknown,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Snooping => "snooping",
            Self::Direct => "direct",
            Self::Iommu => "iommu",
            Self::Bounced => "bounced",
            Self::PartlyBounced => "partly-bounced",
            Self::Unknown => "unknown",
            Self::Other(number) => return number.fmt(f),
        })
    }
}

bitflags::bitflags! {
    /// What is known of an attachment.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct AttachmentFlags: u32 {
        /// The device snoops.
        const COHERENT = uapi::ATTACHMENT_COHERENT;
        /// Map and sync wait for fences.
        const AUTOFENCE = uapi::ATTACHMENT_AUTOFENCE;
        /// The importer can move its mapping (`dma_buf_dynamic_attach()`).
        const DYNAMIC = uapi::ATTACHMENT_DYNAMIC;
    }

    /// What state a buffer is in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct State: u32 {
        /// It was accessed outside of a window, and is good for nothing any more.
        const POISONED = uapi::STATE_POISONED;
        /// The next end of a window goes by the pages that were written.
        const TRACKS_PAGES = uapi::STATE_TRACKS_PAGES;
    }
}

/// What is known of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The flags that the buffer was made with.
    pub flags: CreateFlags,
    /// Bytes.
    pub size: u64,
    /// Importers that are attached now.
    pub attachments: u32,
    /// Mappings that they hold now.
    pub mappings: u32,
    /// Of those, the bounced ones.
    pub bounced: u32,
    /// Write windows that are open: START without END so far.
    pub write_windows: u32,
    /// Attachments that were refused.
    pub refused_attach: u64,
    /// Mappings that were refused.
    pub refused_map: u64,
    /// Passes over a mapping for the CPU; one may serve several mappings.
    pub syncs_for_cpu: u64,
    /// Passes over a mapping for devices.
    pub syncs_for_device: u64,
    /// Physically contiguous pieces.
    pub segments: u32,
    /// How the CPU sees the memory.
    pub caching: Caching,
    /// What state it is in.
    pub state: State,
    /// Bytes of which the CPU caches were to be written back, since it was made.
    pub bytes_cleaned: u64,
    /// Bytes of which they were to be dropped.
    pub bytes_invalidated: u64,
    /// Bytes copied to bounce buffers.
    pub bytes_to_copies: u64,
    /// Bytes copied back from there.
    pub bytes_from_copies: u64,
    /// Bytes handed to DMA ops of a device's own.
    pub bytes_own_ops: u64,
    /// Bytes that windows did not maintain, but would have as a whole for each mapping
    /// whose device does not snoop, or has a copy.
    pub bytes_saved: u64,
    /// Reads outside of a window, where that is watched.
    pub outside_reads: u64,
    /// Writes outside of a window that says so.
    pub outside_writes: u64,
}

impl From<&RawInfo> for Info {
    fn from(raw: &RawInfo) -> Self {
        Self {
            flags: CreateFlags::from_bits_retain(raw.flags),
            size: raw.size,
            attachments: raw.attachments,
            mappings: raw.mappings,
            bounced: raw.bounced,
            write_windows: raw.write_windows,
            refused_attach: raw.refused_attach,
            refused_map: raw.refused_map,
            syncs_for_cpu: raw.syncs_for_cpu,
            syncs_for_device: raw.syncs_for_device,
            segments: raw.segments,
            caching: raw.caching.into(),
            state: State::from_bits_retain(raw.state),
            bytes_cleaned: raw.bytes_cleaned,
            bytes_invalidated: raw.bytes_invalidated,
            bytes_to_copies: raw.bytes_to_copies,
            bytes_from_copies: raw.bytes_from_copies,
            bytes_own_ops: raw.bytes_own_ops,
            bytes_saved: raw.bytes_saved,
            outside_reads: raw.outside_reads,
            outside_writes: raw.outside_writes,
        }
    }
}

/// An importer of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the device, as in `/sys`, cut to fit.
    pub device: String,
    /// Name of its driver, or of its bus.
    pub driver: String,
    /// What is known of it.
    pub flags: AttachmentFlags,
    /// Mappings that it holds now.
    pub mappings: u32,
    /// Of those, the bounced ones.
    pub bounced: u32,
    /// How the device reaches the last mapping that it holds.
    pub reach: Reach,
}

impl From<&RawAttachment> for Attachment {
    fn from(raw: &RawAttachment) -> Self {
        Self {
            device: until_nul(&raw.device),
            driver: until_nul(&raw.driver),
            flags: AttachmentFlags::from_bits_retain(raw.flags),
            mappings: raw.mappings,
            bounced: raw.bounced,
            reach: raw.reach.into(),
        }
    }
}

fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_where_the_kernel_says() {
        assert_eq!(until_nul(b"0000:00:02.0\0\0x"), "0000:00:02.0");
        assert_eq!(until_nul(b"no end"), "no end");
        assert_eq!(until_nul(b""), "");
    }

    #[test]
    fn numbers_of_a_newer_driver_are_kept() {
        assert_eq!(Reach::from(99), Reach::Other(99));
        assert_eq!(Reach::from(99).to_string(), "99");
        assert_eq!(Caching::from(7), Caching::Other(7));
        let info = Info::from(&RawInfo {
            state: 0x81,
            flags: 0x100,
            ..RawInfo::default()
        });
        assert_eq!(info.state.bits(), 0x81);
        assert_eq!(info.flags.bits(), 0x100);
    }
}
