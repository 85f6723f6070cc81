// SPDX-License-Identifier: GPL-2.0

//! The structures and the ioctls of `cohbuf_test.h`.

use core::mem::{
    offset_of,
    size_of, //
};

use kernel::{
    dma::DataDirection,
    ioctl::{
        _IOW,
        _IOWR, //
    },
    prelude::*, //
};

/// `struct cohbuf_test_attach`
#[derive(FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct Attach {
    pub(crate) fd: i32,
    pub(crate) device: u32,
    pub(crate) index: u32,
    pub(crate) handle: u32,
    pub(crate) coherent: u32,
}

/// `struct cohbuf_test_map`
#[derive(FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct Map {
    pub(crate) handle: u32,
    pub(crate) direction: u32,
    pub(crate) segments: u32,
    pub(crate) bounced: u32,
}

/// `struct cohbuf_test_dma`
#[derive(FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct Dma {
    pub(crate) handle: u32,
    pub(crate) write: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) data: u64,
}

// What the header says, on 32 and on 64 bits.
const _: () = {
    assert!(size_of::<Attach>() == 20);
    assert!(offset_of!(Attach, coherent) == 16);
    assert!(size_of::<Map>() == 16);
    assert!(offset_of!(Map, bounced) == 12);
    assert!(size_of::<Dma>() == 32);
    assert!(offset_of!(Dma, offset) == 8);
    assert!(offset_of!(Dma, data) == 24);
};

const MAGIC: u32 = 'C' as u32;

pub(crate) const IOCTL_ATTACH: u32 = _IOWR::<Attach>(MAGIC, 0xd0);
pub(crate) const IOCTL_DETACH: u32 = _IOW::<u32>(MAGIC, 0xd1);
pub(crate) const IOCTL_MAP: u32 = _IOWR::<Map>(MAGIC, 0xd2);
pub(crate) const IOCTL_UNMAP: u32 = _IOW::<Map>(MAGIC, 0xd3);
pub(crate) const IOCTL_DMA: u32 = _IOW::<Dma>(MAGIC, 0xd4);

/// `enum cohbuf_test_device`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Edu,
    Coherent,
    NonCoherent,
}

impl TryFrom<u32> for Kind {
    type Error = Error;

    fn try_from(value: u32) -> Result<Self> {
        match value {
            0 => Ok(Kind::Edu),
            1 => Ok(Kind::Coherent),
            2 => Ok(Kind::NonCoherent),
            _ => Err(EINVAL),
        }
    }
}

/// Converts `enum cohbuf_test_dir`.
pub(crate) fn direction(value: u32) -> Result<DataDirection> {
    match value {
        0 => Ok(DataDirection::Bidirectional),
        1 => Ok(DataDirection::ToDevice),
        2 => Ok(DataDirection::FromDevice),
        _ => Err(EINVAL),
    }
}
