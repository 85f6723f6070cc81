// SPDX-License-Identifier: GPL-2.0

//! The regions that ioctls name (R9).

use dma_buf::uapi::{
    cohbuf_layout_COHBUF_LAYOUT_1D as LAYOUT_1D,
    cohbuf_layout_COHBUF_LAYOUT_2D as LAYOUT_2D,
    cohbuf_layout_COHBUF_LAYOUT_WHOLE as LAYOUT_WHOLE, //
};
use kernel::prelude::*;

use crate::region::{
    Layout,
    Region,
    MOST_ROWS, //
};

/// The layout that an ioctl names.
///
/// # Errors
///
/// [`EINVAL`] where it is not known.
pub(super) fn layout_of(layout: u32) -> Result<Layout> {
    match layout {
        LAYOUT_WHOLE => Ok(Layout::Whole),
        LAYOUT_1D => Ok(Layout::Linear),
        LAYOUT_2D => Ok(Layout::Rows),
        _ => Err(EINVAL),
    }
}

/// The region that an ioctl names, of a buffer of `size` bytes.
///
/// # Errors
///
/// [`EINVAL`] where it is none, or one of too many rows.
pub(super) fn region_of(
    layout: u32,
    offset: u64,
    length: u64,
    stride: u64,
    rows: u64,
    size: usize,
) -> Result<Region> {
    let region = Region::new(layout_of(layout)?, offset, length, stride, rows, size);
    // Rows are walked under the reservation lock.
    region
        .ok()
        .filter(|region| region.height() <= MOST_ROWS)
        .ok_or(EINVAL)
}
