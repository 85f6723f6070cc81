// SPDX-License-Identifier: GPL-2.0

//! What maintenance costs (R13): bytes, by what is done with them.

use core::ops::{
    AddAssign,
    Sub, //
};

use dma_buf::Synced;

use crate::policy::Reach;

/// Bytes that were handed to the DMA API, and that were not.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// To be written back from the CPU caches.
    pub(crate) cleaned: u64,
    /// To be dropped from them.
    pub(crate) invalidated: u64,
    /// Copied to bounce buffers.
    pub(crate) to_copies: u64,
    /// Copied back.
    pub(crate) from_copies: u64,
    /// To DMA ops of a device's own, both ways.
    pub(crate) own_ops: u64,
    /// What a START or END of the whole buffer for each device that does not snoop, or has a copy,
    /// would have been more.
    pub(crate) saved: u64,
}

impl Cost {
    /// A sync by a mapping.
    #[inline]
    pub(crate) fn add(&mut self, reach: Reach, for_cpu: bool, synced: Synced) {
        // CAST: A size fits.
        let (bytes, bounced) = (synced.bytes as u64, synced.bounced as u64);
        match (reach, for_cpu) {
            (Reach::Snooping, _) => {}
            (Reach::Direct | Reach::Iommu, true) => self.invalidated += bytes,
            (Reach::Direct | Reach::Iommu, false) => self.cleaned += bytes,
            (Reach::Bounced | Reach::PartlyBounced, true) => self.from_copies += bounced,
            (Reach::Bounced | Reach::PartlyBounced, false) => self.to_copies += bounced,
            (Reach::Unknown(_), _) => self.own_ops += bytes,
        }
    }

    /// All that was handed to the DMA API.
    pub(crate) const fn done(&self) -> u64 {
        self.cleaned + self.invalidated + self.to_copies + self.from_copies + self.own_ops
    }
}

impl Cost {
    /// Bytes in the order of the fields.
    pub(crate) const fn of(bytes: [u64; 6]) -> Self {
        let [cleaned, invalidated, to_copies, from_copies, own_ops, saved] = bytes;
        Self {
            cleaned,
            invalidated,
            to_copies,
            from_copies,
            own_ops,
            saved,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.cleaned += other.cleaned;
        self.invalidated += other.invalidated;
        self.to_copies += other.to_copies;
        self.from_copies += other.from_copies;
        self.own_ops += other.own_ops;
        self.saved += other.saved;
    }
}

impl Sub for Cost {
    type Output = Self;

    /// What came since it was `other`.
    fn sub(self, other: Self) -> Self {
        Self {
            cleaned: self.cleaned.wrapping_sub(other.cleaned),
            invalidated: self.invalidated.wrapping_sub(other.invalidated),
            to_copies: self.to_copies.wrapping_sub(other.to_copies),
            from_copies: self.from_copies.wrapping_sub(other.from_copies),
            own_ops: self.own_ops.wrapping_sub(other.own_ops),
            saved: self.saved.wrapping_sub(other.saved),
        }
    }
}
