// SPDX-License-Identifier: GPL-2.0

//! What there is to know of a buffer (R13): `COHBUF_IOCTL_INFO`.

use core::mem::offset_of;

use dma_buf::{
    compat::EMEDIUMTYPE,
    device,
    uaccess::{
        UserArray,
        UserStruct, //
    },
    uapi::{
        cohbuf_attachment,
        cohbuf_caching_COHBUF_CACHING_WRITE_BACK as CACHING_WRITE_BACK,
        cohbuf_caching_COHBUF_CACHING_WRITE_COMBINE as CACHING_WRITE_COMBINE,
        cohbuf_info,
        COHBUF_STATE_POISONED,
        COHBUF_STATE_TRACKS_PAGES, //
    },
    Attachment,
    DmaBuf,
    LockedMut, //
};
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    prelude::*, //
};

use super::create;
use crate::{
    buffer::CohBuf,
    maintenance,
    policy::Kind,
    tracing, //
};

/// The sizes of the first versions of structures that have grown.
pub(super) const FIRST_SIZE: usize = offset_of!(cohbuf_info, caching);
const ATTACHMENT_FIRST_SIZE: usize = 112;

/// `COHBUF_IOCTL_INFO`.
pub(super) fn ioctl(user: &UserStruct) -> Result {
    let arg: cohbuf_info = user.read()?;
    if arg.flags != 0 || arg.write_windows != 0 || arg.reserved != 0 || arg.state != 0 {
        return Err(EINVAL);
    }
    let array = match (arg.attachment_size, arg.attachment_room) {
        (0, 0) => None,
        (size, _) => Some(UserArray::new(
            arg.attachment_array,
            size,
            ATTACHMENT_FIRST_SIZE,
        )?),
    };
    let buf = DmaBuf::from_fd(arg.fd)?;
    let buffer = buf.exported_by::<CohBuf>().ok_or(EMEDIUMTYPE)?;

    let mut out = cohbuf_info {
        fd: arg.fd,
        flags: create::flags_of(buffer.purpose()),
        size: buf.size() as u64,
        refused_attach: buffer.stats().refused_attach(),
        refused_map: buffer.stats().refused_map(),
        syncs_for_cpu: buffer.stats().syncs_for_cpu(),
        syncs_for_device: buffer.stats().syncs_for_device(),
        // CAST: There are fewer chunks than pages in 2^44 bytes.
        segments: buffer.pages().chunks() as u32,
        caching: match buffer.kind() {
            Kind::Bracketed | Kind::Coherent => CACHING_WRITE_BACK,
            Kind::WriteCombine => CACHING_WRITE_COMBINE,
        },
        outside_reads: buffer.enforcement().outside_reads(),
        outside_writes: buffer.enforcement().outside_writes(),
        state: match buffer.enforcement().is_poisoned() {
            true => COHBUF_STATE_POISONED,
            false => 0,
        },
        attachment_size: arg.attachment_size,
        attachment_array: arg.attachment_array,
        ..Default::default()
    };
    let mut list = KVec::new();
    if array.is_some() {
        // More of them may come before the lock is held: those are left out.
        let room = usize::try_from(arg.attachment_room)?;
        let now = buffer.lock()?.attachments().count();
        list.reserve(room.min(now), GFP_KERNEL_ACCOUNT)?;
    }
    {
        // Not held over the copy to user space, which may fault on a mapping of this very buffer.
        let mut locked = buffer.lock()?;
        describe(&mut locked.as_mut(), &mut out, &mut list);
    }
    if let Some(array) = array {
        array.write(&list)?;
    }
    user.write(&out)
}

/// What has to be asked under the lock. `list`: as many attachments as it has room for.
fn describe(
    locked: &mut LockedMut<'_, '_, CohBuf>,
    out: &mut cohbuf_info,
    list: &mut KVec<cohbuf_attachment>,
) {
    maintenance::forget_dead(locked);
    for attachment in locked.attachments() {
        let one = describe_attachment(attachment);
        out.attachments += 1;
        out.mappings += one.mappings;
        out.bounced += one.bounced;
        if list.push_within_capacity(one).is_ok() {
            out.attachment_room += 1;
        }
    }
    out.write_windows = u32::try_from(locked.state().windows.count()).unwrap_or(u32::MAX);
    if maintenance::tracks_pages(locked) {
        out.state |= COHBUF_STATE_TRACKS_PAGES;
    }
    let cost = locked.stats().cost();
    out.bytes_cleaned = cost.cleaned;
    out.bytes_invalidated = cost.invalidated;
    out.bytes_to_copies = cost.to_copies;
    out.bytes_from_copies = cost.from_copies;
    out.bytes_own_ops = cost.own_ops;
    out.bytes_saved = cost.saved;
}

fn describe_attachment(attachment: Attachment<'_, CohBuf>) -> cohbuf_attachment {
    let dev = attachment.device();
    let mut one = cohbuf_attachment {
        flags: tracing::attachment_flags(
            dev,
            attachment.data().autofence.is_on(),
            attachment.is_dynamic(),
        ),
        reach: tracing::reach(None),
        ..Default::default()
    };
    copy_name(&mut one.device, dev.name());
    copy_name(&mut one.driver, device::driver_name(dev));
    for (mapping, _) in attachment.mappings() {
        one.mappings += 1;
        one.bounced += u32::from(mapping.is_bounced());
        one.reach = tracing::reach(Some(mapping));
    }
    one
}

/// Cuts what does not fit; the last byte stays 0.
fn copy_name(to: &mut [u8], name: &CStr) {
    let room = to.len() - 1;
    for (to, from) in to.iter_mut().take(room).zip(name.to_bytes()) {
        *to = *from;
    }
}
