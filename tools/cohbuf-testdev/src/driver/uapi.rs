// SPDX-License-Identifier: GPL-2.0

//! The structures of `tests/driver/cohbuf_driver.h`.

use cohbuf::layout;
use cohbuf::uapi::StructLayout;
use rustix::ioctl::{Opcode, opcode};

/// `COHBUF_DRIVER_BYTES`.
pub const BYTES: usize = 64;

/// `COHBUF_DRIVER_DEFAULT`.
pub const DEFAULT: u32 = 0;
/// `COHBUF_DRIVER_ON`.
pub const ON: u32 = 1;
/// `COHBUF_DRIVER_OFF`.
pub const OFF: u32 = 2;

/// `COHBUF_DRIVER_CARELESS`.
pub const CARELESS: u32 = 1;

/// `COHBUF_DRIVER_FOR_DEVICE`.
pub const FOR_DEVICE: u32 = 1;
/// `COHBUF_DRIVER_LOCKED`.
pub const LOCKED: u32 = 2;

/// `struct cohbuf_driver_attach`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    /// In: dma-buf.
    pub fd: i32,
    /// In: kind of device.
    pub kind: u32,
    /// In: which of those.
    pub index: u32,
    /// In: 1 for `dma_buf_dynamic_attach()`.
    pub dynamic: u32,
    /// In: what is said of fences.
    pub autofence: u32,
    /// Out: names the attachment.
    pub handle: u32,
}

/// `struct cohbuf_driver_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Map {
    /// In: attachment.
    pub handle: u32,
    /// In: direction, for map.
    pub direction: u32,
    /// In: to unmap without a wait.
    pub careless: u32,
}

/// `struct cohbuf_driver_dma`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Dma {
    /// In: attachment that is mapped.
    pub handle: u32,
    /// In: 1 where the device writes.
    pub write: u32,
    /// In: where in the buffer.
    pub offset: u64,
    /// In: bytes.
    pub len: u32,
    /// In: for a job, when it begins.
    pub delay_ms: u32,
    /// In: what it writes. Out: what it has read.
    pub bytes: [u8; BYTES],
}

/// `struct cohbuf_driver_sync`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sync {
    /// In: attachment.
    pub handle: u32,
    /// In: which of the functions.
    pub flags: u32,
    /// In: an attachment whose sg table is given, or 0.
    pub table_of: u32,
}

/// `struct cohbuf_driver_autofence_arg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Autofence {
    /// In: attachment.
    pub handle: u32,
    /// In: 0 or 1.
    pub autofence: u32,
}

/// `struct cohbuf_driver_query`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// In: dma-buf.
    pub fd: i32,
    /// Out: 1 where it is one of cohbuf.
    pub known: u32,
    /// Out: whether it is coherent.
    pub coherent: u32,
    /// Out: how it is cached.
    pub caching: u32,
}

/// `struct cohbuf_driver_model`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Model {
    /// In: 0 forgets all pages, 1 tracks some.
    pub op: u32,
    /// In: 0.
    pub reserved: u32,
    /// In: address in a mapping of a dma-buf.
    pub addr: u64,
    /// In: bytes from there.
    pub len: u64,
}

/// `struct cohbuf_driver_lost`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Lost {
    /// In: dma-buf.
    pub fd: i32,
}

/// `COHBUF_DRIVER_ATTACH`.
pub const IOCTL_ATTACH: Opcode = opcode::read_write::<Attach>(b'C', 0xe0);
/// `COHBUF_DRIVER_DETACH`.
pub const IOCTL_DETACH: Opcode = opcode::write::<u32>(b'C', 0xe1);
/// `COHBUF_DRIVER_MAP`.
pub const IOCTL_MAP: Opcode = opcode::write::<Map>(b'C', 0xe2);
/// `COHBUF_DRIVER_UNMAP`.
pub const IOCTL_UNMAP: Opcode = opcode::write::<Map>(b'C', 0xe3);
/// `COHBUF_DRIVER_DMA`.
pub const IOCTL_DMA: Opcode = opcode::read_write::<Dma>(b'C', 0xe4);
/// `COHBUF_DRIVER_JOB`.
pub const IOCTL_JOB: Opcode = opcode::write::<Dma>(b'C', 0xe5);
/// `COHBUF_DRIVER_SYNC`.
pub const IOCTL_SYNC: Opcode = opcode::write::<Sync>(b'C', 0xe6);
/// `COHBUF_DRIVER_AUTOFENCE`.
pub const IOCTL_AUTOFENCE: Opcode = opcode::write::<Autofence>(b'C', 0xe7);
/// `COHBUF_DRIVER_QUERY`.
pub const IOCTL_QUERY: Opcode = opcode::read_write::<Query>(b'C', 0xe8);
/// `COHBUF_DRIVER_MODEL`.
pub const IOCTL_MODEL: Opcode = opcode::write::<Model>(b'C', 0xe9);

/// `COHBUF_DRIVER_PUT_LOST`.
pub const IOCTL_PUT_LOST: Opcode = opcode::write::<Lost>(b'C', 0xea);

/// Every structure of `cohbuf_driver.h`.
pub const LAYOUT: &[StructLayout] = &[
    layout!(Attach, "cohbuf_driver_attach", 24, {
        fd: 0, 4;
        kind: 4, 4;
        index: 8, 4;
        dynamic: 12, 4;
        autofence: 16, 4;
        handle: 20, 4;
    }),
    layout!(Map, "cohbuf_driver_map", 12, {
        handle: 0, 4;
        direction: 4, 4;
        careless: 8, 4;
    }),
    layout!(Dma, "cohbuf_driver_dma", 88, {
        handle: 0, 4;
        write: 4, 4;
        offset: 8, 8;
        len: 16, 4;
        delay_ms: 20, 4;
        bytes: 24, 64;
    }),
    layout!(Sync, "cohbuf_driver_sync", 12, {
        handle: 0, 4;
        flags: 4, 4;
        table_of: 8, 4;
    }),
    layout!(Autofence, "cohbuf_driver_autofence_arg", 8, {
        handle: 0, 4;
        autofence: 4, 4;
    }),
    layout!(Query, "cohbuf_driver_query", 16, {
        fd: 0, 4;
        known: 4, 4;
        coherent: 8, 4;
        caching: 12, 4;
    }),
    layout!(Model, "cohbuf_driver_model", 24, {
        op: 0, 4;
        reserved: 4, 4;
        addr: 8, 8;
        len: 16, 8;
    }),
    layout!(Lost, "cohbuf_driver_lost", 4, {
        fd: 0, 4;
    }),
];
