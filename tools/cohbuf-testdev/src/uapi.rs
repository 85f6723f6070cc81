// SPDX-License-Identifier: GPL-2.0

//! The structures of `tests/importer/cohbuf_test.h`, and those of DRM PRIME.

use cohbuf::layout;
use cohbuf::uapi::StructLayout;
use rustix::ioctl::{Opcode, opcode};

/// `struct cohbuf_test_attach`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    /// In: dma-buf.
    pub fd: i32,
    /// In: kind of device.
    pub device: u32,
    /// In: which of the devices of that kind.
    pub index: u32,
    /// Out: names the attachment.
    pub handle: u32,
    /// Out: 1 where the device is DMA-coherent.
    pub coherent: u32,
}

/// `struct cohbuf_test_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Map {
    /// In: attachment.
    pub handle: u32,
    /// In: direction.
    pub direction: u32,
    /// Out: DMA segments.
    pub segments: u32,
    /// Out: 1 where a segment is bounced.
    pub bounced: u32,
}

/// `struct cohbuf_test_dma`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Dma {
    /// In: attachment.
    pub handle: u32,
    /// In: 1 where the device writes the buffer.
    pub write: u32,
    /// In: where in the buffer.
    pub offset: u64,
    /// In: bytes.
    pub len: u64,
    /// In: address of the user memory.
    pub data: u64,
}

/// `COHBUF_TEST_IOCTL_ATTACH`.
pub const IOCTL_ATTACH: Opcode = opcode::read_write::<Attach>(b'C', 0xd0);
/// `COHBUF_TEST_IOCTL_DETACH`.
pub const IOCTL_DETACH: Opcode = opcode::write::<u32>(b'C', 0xd1);
/// `COHBUF_TEST_IOCTL_MAP`.
pub const IOCTL_MAP: Opcode = opcode::read_write::<Map>(b'C', 0xd2);
/// `COHBUF_TEST_IOCTL_UNMAP`.
pub const IOCTL_UNMAP: Opcode = opcode::write::<Map>(b'C', 0xd3);
/// `COHBUF_TEST_IOCTL_DMA`.
pub const IOCTL_DMA: Opcode = opcode::write::<Dma>(b'C', 0xd4);

/// Every structure of `cohbuf_test.h`.
pub const LAYOUT: &[StructLayout] = &[
    layout!(Attach, "cohbuf_test_attach", 20, {
        fd: 0, 4;
        device: 4, 4;
        index: 8, 4;
        handle: 12, 4;
        coherent: 16, 4;
    }),
    layout!(Map, "cohbuf_test_map", 16, {
        handle: 0, 4;
        direction: 4, 4;
        segments: 8, 4;
        bounced: 12, 4;
    }),
    layout!(Dma, "cohbuf_test_dma", 32, {
        handle: 0, 4;
        write: 4, 4;
        offset: 8, 8;
        len: 16, 8;
        data: 24, 8;
    }),
];

/// `struct drm_version` of `drm/drm.h`, on 64 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DrmVersion {
    pub(crate) version: [i32; 3],
    pub(crate) name_len: u64,
    pub(crate) name: u64,
    pub(crate) date_len: u64,
    pub(crate) date: u64,
    pub(crate) desc_len: u64,
    pub(crate) desc: u64,
}

/// `struct drm_prime_handle` of `drm/drm.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DrmPrimeHandle {
    pub(crate) handle: u32,
    pub(crate) flags: u32,
    pub(crate) fd: i32,
}

/// `struct drm_mode_create_dumb` of `drm/drm_mode.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DrmCreateDumb {
    pub(crate) height: u32,
    pub(crate) width: u32,
    pub(crate) bpp: u32,
    pub(crate) flags: u32,
    pub(crate) handle: u32,
    pub(crate) pitch: u32,
    pub(crate) size: u64,
}

/// `struct drm_gem_close` of `drm/drm.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DrmGemClose {
    pub(crate) handle: u32,
    pub(crate) pad: u32,
}

/// `struct drm_vgem_fence_attach` of `drm/vgem_drm.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct VgemFenceAttach {
    pub(crate) handle: u32,
    pub(crate) flags: u32,
    pub(crate) out_fence: u32,
    pub(crate) pad: u32,
}

/// `struct drm_vgem_fence_signal` of `drm/vgem_drm.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct VgemFenceSignal {
    pub(crate) fence: u32,
    pub(crate) flags: u32,
}

/// `VGEM_FENCE_WRITE`.
pub(crate) const VGEM_FENCE_WRITE: u32 = 1;

const _: () = {
    assert!(size_of::<DrmVersion>() == 64);
    assert!(size_of::<DrmPrimeHandle>() == 12);
    assert!(size_of::<DrmCreateDumb>() == 32);
    assert!(size_of::<DrmGemClose>() == 8);
    assert!(size_of::<VgemFenceAttach>() == 16);
    assert!(size_of::<VgemFenceSignal>() == 8);
};

pub(crate) const DRM_IOCTL_VERSION: Opcode = opcode::read_write::<DrmVersion>(b'd', 0x00);
pub(crate) const DRM_IOCTL_GEM_CLOSE: Opcode = opcode::write::<DrmGemClose>(b'd', 0x09);
pub(crate) const DRM_IOCTL_PRIME_HANDLE_TO_FD: Opcode =
    opcode::read_write::<DrmPrimeHandle>(b'd', 0x2d);
pub(crate) const DRM_IOCTL_PRIME_FD_TO_HANDLE: Opcode =
    opcode::read_write::<DrmPrimeHandle>(b'd', 0x2e);
pub(crate) const DRM_IOCTL_MODE_CREATE_DUMB: Opcode =
    opcode::read_write::<DrmCreateDumb>(b'd', 0xb2);
// DRM_COMMAND_BASE is 0x40.
pub(crate) const DRM_IOCTL_VGEM_FENCE_ATTACH: Opcode =
    opcode::read_write::<VgemFenceAttach>(b'd', 0x41);
pub(crate) const DRM_IOCTL_VGEM_FENCE_SIGNAL: Opcode = opcode::write::<VgemFenceSignal>(b'd', 0x42);
