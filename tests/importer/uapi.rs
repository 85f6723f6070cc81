// SPDX-License-Identifier: GPL-2.0

//! The structures and the ioctls of `cohbuf_test.h`.

use core::mem::{
    offset_of,
    size_of, //
};

use dma_buf::test_models::ModelKind;
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

/// [`Map::bounced`] where nobody shall look.
pub(crate) const DO_NOT_LOOK: u32 = 2;

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

/// `struct cohbuf_test_model`
#[derive(FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct Model {
    pub(crate) op: u32,
    pub(crate) reserved: u32,
    pub(crate) addr: u64,
    pub(crate) len: u64,
    pub(crate) user_type: u32,
    pub(crate) linear_type: u32,
    pub(crate) clean_bytes: u64,
    pub(crate) clean_calls: u64,
    pub(crate) invalidate_bytes: u64,
    pub(crate) invalidate_calls: u64,
    pub(crate) to_bounce_bytes: u64,
    pub(crate) to_bounce_calls: u64,
    pub(crate) from_bounce_bytes: u64,
    pub(crate) from_bounce_calls: u64,
    pub(crate) wb_bytes: u64,
    pub(crate) drop_bytes: u64,
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
    assert!(size_of::<Model>() == 112);
    assert!(offset_of!(Model, addr) == 8);
    assert!(offset_of!(Model, user_type) == 24);
    assert!(offset_of!(Model, clean_bytes) == 32);
    assert!(offset_of!(Model, drop_bytes) == 104);
};

const MAGIC: u32 = 'C' as u32;

pub(crate) const IOCTL_ATTACH: u32 = _IOWR::<Attach>(MAGIC, 0xd0);
pub(crate) const IOCTL_DETACH: u32 = _IOW::<u32>(MAGIC, 0xd1);
pub(crate) const IOCTL_MAP: u32 = _IOWR::<Map>(MAGIC, 0xd2);
pub(crate) const IOCTL_UNMAP: u32 = _IOW::<Map>(MAGIC, 0xd3);
pub(crate) const IOCTL_DMA: u32 = _IOW::<Dma>(MAGIC, 0xd4);
pub(crate) const IOCTL_MODEL: u32 = _IOWR::<Model>(MAGIC, 0xd5);

/// `enum cohbuf_test_device`
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Edu,
    Coherent,
    NonCoherent,
    Model(ModelKind),
    EduNonCoherent,
}

impl TryFrom<u32> for Kind {
    type Error = Error;

    fn try_from(value: u32) -> Result<Self> {
        match value {
            0 => Ok(Kind::Edu),
            1 => Ok(Kind::Coherent),
            2 => Ok(Kind::NonCoherent),
            3 => Ok(Kind::Model(ModelKind::Bounce)),
            4 => Ok(Kind::Model(ModelKind::Cache)),
            5 => Ok(Kind::Model(ModelKind::CacheMerged)),
            6 => Ok(Kind::Model(ModelKind::Direct)),
            7 => Ok(Kind::Model(ModelKind::Snoop)),
            8 => Ok(Kind::Model(ModelKind::Bounced)),
            9 => Ok(Kind::EduNonCoherent),
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

/// `enum cohbuf_test_model_op`
#[derive(Clone, Copy)]
pub(crate) enum ModelOp {
    Reset,
    Counts,
    ZeroCounts,
    Evict,
    DropClean,
    Track,
    Attrs,
}

impl TryFrom<u32> for ModelOp {
    type Error = Error;

    fn try_from(value: u32) -> Result<Self> {
        match value {
            0 => Ok(ModelOp::Reset),
            1 => Ok(ModelOp::Counts),
            2 => Ok(ModelOp::ZeroCounts),
            3 => Ok(ModelOp::Evict),
            4 => Ok(ModelOp::DropClean),
            5 => Ok(ModelOp::Track),
            6 => Ok(ModelOp::Attrs),
            _ => Err(EINVAL),
        }
    }
}
