// SPDX-License-Identifier: GPL-2.0

//! What a way costs, as far as that can be known beforehand.

use crate::buffer::Buffer;
use crate::device::{CreateFlags, Device};
use crate::info::{Attachment, AttachmentFlags, Info, Reach};
use crate::share::Way;

/// What it costs to share a buffer, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Copied when it was shared.
    pub copied_once: u64,
    /// Copied at each hand-over of the whole: none, but for the copy way.
    pub copied_per_update: u64,
    /// Of which CPU caches are written back, or bounce buffers filled, at each hand-over of
    /// the whole. Where devices write too, a START moves as much again.
    ///
    /// It is `None` where nobody knows: the buffer is of another exporter; or an importer
    /// that may not snoop has not mapped it yet; or has DMA ops of its own.
    pub maintained_per_update: Option<u64>,
}

impl Cost {
    pub(super) fn of(device: &Device, way: Way, source: &Buffer, own: Option<&Buffer>) -> Self {
        let copied = |yes| if yes { source.size() } else { 0 };
        let source_is_read = way != Way::Reverse;
        let buffers = [source_is_read.then_some(source), own];
        let mut buffers = buffers.into_iter().flatten();
        let maintained = buffers.try_fold(0_u64, |sum, buffer| {
            let (info, attachments) = device.inspect(buffer).ok()?;
            sum.checked_add(maintained(&info, &attachments)?)
        });
        Self {
            copied_once: copied(way != Way::Direct),
            copied_per_update: copied(way == Way::Copy),
            maintained_per_update: maintained,
        }
    }
}

/// What the END of a window over a whole buffer maintains for those who have it now.
fn maintained(info: &Info, attachments: &[Attachment]) -> Option<u64> {
    let never = CreateFlags::COHERENT | CreateFlags::WRITE_COMBINE;
    if info.flags.intersects(never) {
        return Some(0);
    }
    let mut direct = false;
    let mut passes: u64 = 0;
    for attachment in attachments {
        match attachment.reach {
            // A mapping may be bounced yet, but hardly of a device that snoops.
            Reach::None if attachment.flags.contains(AttachmentFlags::COHERENT) => {}
            Reach::Snooping => {}
            // One pass serves all of those.
            Reach::Direct => direct = true,
            Reach::Iommu | Reach::Bounced | Reach::PartlyBounced => {
                passes = passes.checked_add(attachment.mappings.into())?;
            }
            Reach::None | Reach::Unknown | Reach::Other(_) => return None,
        }
    }
    passes.checked_add(direct.into())?.checked_mul(info.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi::{RawAttachment, RawInfo};

    fn info(flags: CreateFlags) -> Info {
        Info::from(&RawInfo {
            size: 1000,
            flags: flags.bits(),
            ..RawInfo::default()
        })
    }

    fn attachment(reach: u32, coherent: bool, mappings: u32) -> Attachment {
        Attachment::from(&RawAttachment {
            reach,
            flags: coherent.into(),
            mappings,
            ..RawAttachment::default()
        })
    }

    fn bracketed(attachments: &[Attachment]) -> Option<u64> {
        maintained(&info(CreateFlags::empty()), attachments)
    }

    #[test]
    fn who_snoops_costs_nothing() {
        assert_eq!(bracketed(&[]), Some(0));
        assert_eq!(bracketed(&[attachment(1, true, 3)]), Some(0));
        assert_eq!(bracketed(&[attachment(0, true, 0)]), Some(0));
    }

    #[test]
    fn direct_mappings_share_a_pass() {
        let direct = attachment(2, false, 2);
        assert_eq!(bracketed(&[direct.clone(), direct]), Some(1000));
    }

    #[test]
    fn others_have_their_own() {
        let list = [
            attachment(2, false, 1),
            attachment(3, false, 2),
            attachment(4, true, 1),
        ];
        assert_eq!(bracketed(&list), Some(4000));
    }

    #[test]
    fn what_nobody_knows_is_not_guessed() {
        assert_eq!(bracketed(&[attachment(0, false, 0)]), None);
        assert_eq!(bracketed(&[attachment(6, true, 1)]), None);
        assert_eq!(bracketed(&[attachment(42, true, 1)]), None);
    }

    #[test]
    fn coherent_and_write_combined_buffers_cost_nothing() {
        for flags in [CreateFlags::COHERENT, CreateFlags::WRITE_COMBINE] {
            assert_eq!(
                maintained(&info(flags), &[attachment(6, false, 1)]),
                Some(0)
            );
        }
    }
}
