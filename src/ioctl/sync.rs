// SPDX-License-Identifier: GPL-2.0

//! Windows for the CPU over a region: `COHBUF_IOCTL_SYNC`.

use dma_buf::{
    compat::EMEDIUMTYPE,
    uaccess::UserStruct,
    uapi::cohbuf_sync,
    CpuAccess,
    DmaBuf, //
};
use kernel::prelude::*;

use super::region::region_of;
use crate::buffer::CohBuf;

/// `COHBUF_IOCTL_SYNC`.
pub(super) fn ioctl(user: &UserStruct) -> Result {
    let mut arg: cohbuf_sync = user.read()?;
    let (access, ends) = CpuAccess::from_sync_flags(arg.flags)?;
    let buf = DmaBuf::from_fd(arg.fd)?;
    let buffer = buf.exported_by::<CohBuf>().ok_or(EMEDIUMTYPE)?;
    let region = region_of(
        arg.layout,
        arg.offset,
        arg.length,
        arg.stride,
        arg.rows,
        buf.size(),
    )?;
    // A window of which nobody could be told that it is open must not be opened: an ioctl that fails
    // changes nothing.
    user.write(&arg)?;
    let cost = if ends {
        CohBuf::end(buffer, access, &region)?
    } else {
        CohBuf::begin(buffer, access, &region)?
    };
    arg.cleaned = cost.cleaned;
    arg.invalidated = cost.invalidated;
    arg.to_copies = cost.to_copies;
    arg.from_copies = cost.from_copies;
    arg.own_ops = cost.own_ops;
    arg.saved = cost.saved;
    user.write(&arg)
}
