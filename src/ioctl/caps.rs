// SPDX-License-Identifier: GPL-2.0

//! What the module can do: `COHBUF_IOCTL_CAPS`.

use dma_buf::{
    uaccess::UserStruct,
    uapi::{
        cohbuf_caps,
        COHBUF_API_VERSION,
        COHBUF_COHERENT,
        COHBUF_CONTIGUOUS,
        COHBUF_ENFORCE_POISON,
        COHBUF_ENFORCE_REPORT,
        COHBUF_TRACK_DIRTY,
        COHBUF_WRITE_COMBINE, //
    },
    Caching, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// `COHBUF_IOCTL_CAPS`.
pub(super) fn ioctl(user: &UserStruct) -> Result {
    if user.read::<cohbuf_caps>()?.reserved != 0 {
        return Err(EINVAL);
    }
    let mut flags = COHBUF_COHERENT
        | COHBUF_CONTIGUOUS
        | COHBUF_TRACK_DIRTY
        | COHBUF_ENFORCE_REPORT
        | COHBUF_ENFORCE_POISON;
    if Caching::can_write_combine() {
        flags |= COHBUF_WRITE_COMBINE;
    }
    user.write(&cohbuf_caps {
        version: COHBUF_API_VERSION,
        reserved: 0,
        flags: u64::from(flags),
        max_size: super::max_size(),
        // CAST: It fits each way.
        page_size: PAGE_SIZE as u64,
    })
}
