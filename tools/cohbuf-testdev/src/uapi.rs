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

/// `struct cohbuf_test_model`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Model {
    /// In: what to do.
    pub op: u32,
    /// In: 0.
    pub reserved: u32,
    /// In: address in a mapping of a dma-buf.
    pub addr: u64,
    /// In: bytes from there.
    pub len: u64,
    /// Out: memory type of the user's mapping.
    pub user_type: u32,
    /// Out: the same of the kernel's linear map.
    pub linear_type: u32,
    /// Out: cleaned by the cache model.
    pub clean_bytes: u64,
    /// Out: in so many pieces.
    pub clean_calls: u64,
    /// Out: invalidated by the cache model.
    pub invalidate_bytes: u64,
    /// Out: in so many pieces.
    pub invalidate_calls: u64,
    /// Out: copied to private copies of the bounce model.
    pub to_bounce_bytes: u64,
    /// Out: in so many pieces.
    pub to_bounce_calls: u64,
    /// Out: copied back from there.
    pub from_bounce_bytes: u64,
    /// Out: in so many pieces.
    pub from_bounce_calls: u64,
    /// Out: written back by `arch_wb_cache_pmem()`.
    pub wb_bytes: u64,
    /// Out: dropped by `arch_invalidate_pmem()`.
    pub drop_bytes: u64,
}

/// `COHBUF_TEST_MODEL_RESET`.
pub const MODEL_RESET: u32 = 0;
/// `COHBUF_TEST_MODEL_COUNTS`.
pub const MODEL_COUNTS: u32 = 1;
/// `COHBUF_TEST_MODEL_ZERO_COUNTS`.
pub const MODEL_ZERO_COUNTS: u32 = 2;
/// `COHBUF_TEST_MODEL_EVICT`.
pub const MODEL_EVICT: u32 = 3;
/// `COHBUF_TEST_MODEL_DROP_CLEAN`.
pub const MODEL_DROP_CLEAN: u32 = 4;
/// `COHBUF_TEST_MODEL_TRACK`.
pub const MODEL_TRACK: u32 = 5;
/// `COHBUF_TEST_MODEL_ATTRS`.
pub const MODEL_ATTRS: u32 = 6;

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
/// `COHBUF_TEST_IOCTL_MODEL`.
pub const IOCTL_MODEL: Opcode = opcode::read_write::<Model>(b'C', 0xd5);

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
    layout!(Model, "cohbuf_test_model", 112, {
        op: 0, 4;
        reserved: 4, 4;
        addr: 8, 8;
        len: 16, 8;
        user_type: 24, 4;
        linear_type: 28, 4;
        clean_bytes: 32, 8;
        clean_calls: 40, 8;
        invalidate_bytes: 48, 8;
        invalidate_calls: 56, 8;
        to_bounce_bytes: 64, 8;
        to_bounce_calls: 72, 8;
        from_bounce_bytes: 80, 8;
        from_bounce_calls: 88, 8;
        wb_bytes: 96, 8;
        drop_bytes: 104, 8;
    }),
];

/// `struct dma_heap_allocation_data` of `linux/dma-heap.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeapAllocation {
    pub(crate) len: u64,
    pub(crate) fd: u32,
    pub(crate) fd_flags: u32,
    pub(crate) heap_flags: u64,
}

pub(crate) const DMA_HEAP_IOCTL_ALLOC: Opcode = opcode::read_write::<HeapAllocation>(b'H', 0);

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
    assert!(size_of::<HeapAllocation>() == 24);
    assert!(size_of::<VgemFenceAttach>() == 16);
    assert!(size_of::<VgemFenceSignal>() == 8);
};

// DRM_COMMAND_BASE is 0x40.
pub(crate) const DRM_IOCTL_VGEM_FENCE_ATTACH: Opcode =
    opcode::read_write::<VgemFenceAttach>(b'd', 0x41);
pub(crate) const DRM_IOCTL_VGEM_FENCE_SIGNAL: Opcode = opcode::write::<VgemFenceSignal>(b'd', 0x42);
