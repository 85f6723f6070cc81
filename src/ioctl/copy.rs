// SPDX-License-Identifier: GPL-2.0

//! Copies between dma-bufs of any exporters (R12): `COHBUF_IOCTL_COPY`.

use dma_buf::{
    uaccess::UserStruct,
    uapi::cohbuf_copy,
    DmaBuf, //
};
use kernel::prelude::*;

use super::region::layout_of;
use crate::{
    copy,
    copy_plan::Request, //
};

/// `COHBUF_IOCTL_COPY`.
pub(super) fn ioctl(user: &UserStruct) -> Result {
    let mut arg: cohbuf_copy = user.read()?;
    let request = request(&arg)?;
    let src = DmaBuf::from_fd(arg.src_fd)?;
    let dst = DmaBuf::from_fd(arg.dst_fd)?;
    // A copy of which nobody could be told how far it got must not begin.
    user.write(&arg)?;
    arg.done = copy::copy(&src, &dst, &request, arg.done)?;
    user.write(&arg)
}

/// # Errors
///
/// [`EINVAL`] where there are no buffers that it could be right for.
fn request(arg: &cohbuf_copy) -> Result<Request> {
    let request = Request {
        layout: layout_of(arg.layout)?,
        src_offset: arg.src_offset,
        dst_offset: arg.dst_offset,
        src_stride: arg.src_stride,
        dst_stride: arg.dst_stride,
        length: arg.length,
        rows: arg.rows,
    };
    if arg.flags != 0 {
        return Err(EINVAL);
    }
    request.check().map_err(|_| EINVAL)?;
    Ok(request)
}
