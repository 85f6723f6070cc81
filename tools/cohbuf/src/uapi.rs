// SPDX-License-Identifier: GPL-2.0

//! The structures of `include/uapi/linux/cohbuf.h`, field by field.
//!
//! Sizes and offsets are asserted when this is compiled. [`LAYOUT`] holds the
//! same numbers, for the test that compares them with the C header.

use rustix::ioctl::{Opcode, opcode};

/// `COHBUF_API_VERSION`.
pub const API_VERSION: u32 = 1;
/// `COHBUF_COHERENT`.
pub const COHERENT: u32 = 1 << 0;
/// `COHBUF_WRITE_COMBINE`.
pub const WRITE_COMBINE: u32 = 1 << 1;

/// `struct cohbuf_caps`: what the driver can do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Version of the driver's interface.
    pub version: u32,
    /// Zero.
    pub reserved: u32,
    /// Flags that creation knows.
    pub flags: u64,
    /// The largest buffer, in bytes.
    pub max_size: u64,
    /// Sizes are rounded up to a multiple of this.
    pub page_size: u64,
}

/// `struct cohbuf_create`: make a buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Create {
    /// In: bytes wanted. Out: bytes that the buffer has.
    pub size: u64,
    /// In: [`COHERENT`], [`WRITE_COMBINE`] or 0.
    pub flags: u32,
    /// In: `O_CLOEXEC`, and `O_RDONLY` or `O_RDWR`.
    pub fd_flags: u32,
    /// Out: the file descriptor. Must be 0 on the way in.
    pub fd: i32,
    /// Zero.
    pub reserved: u32,
}

/// `struct cohbuf_info`: what is known of a buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawInfo {
    /// In: the dma-buf.
    pub fd: i32,
    /// Out: the flags that the buffer was made with. Must be 0 on the way in.
    pub flags: u32,
    /// Out: bytes.
    pub size: u64,
    /// Out: importers that are attached now.
    pub attachments: u32,
    /// Out: mappings that they hold now.
    pub mappings: u32,
    /// Out: those of them with a segment that is bounced.
    pub bounced: u32,
    /// Out: write windows that are open. Must be 0 on the way in.
    pub write_windows: u32,
    /// Out: attachments that were refused.
    pub refused_attach: u64,
    /// Out: mappings that were refused.
    pub refused_map: u64,
    /// Out: passes over a mapping for the CPU.
    pub syncs_for_cpu: u64,
    /// Out: passes over a mapping for devices.
    pub syncs_for_device: u64,
    /// Out: physically contiguous pieces.
    pub segments: u32,
    /// Zero.
    pub reserved: u32,
}

/// `COHBUF_IOCTL_CAPS`.
pub const IOCTL_CAPS: Opcode = opcode::read_write::<Caps>(b'C', 0xb0);
/// `COHBUF_IOCTL_CREATE`.
pub const IOCTL_CREATE: Opcode = opcode::read_write::<Create>(b'C', 0xb1);
/// `COHBUF_IOCTL_INFO`.
pub const IOCTL_INFO: Opcode = opcode::read_write::<RawInfo>(b'C', 0xb2);

/// `struct dma_buf_sync` of `linux/dma-buf.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DmaBufSync {
    /// Start or end, and what the CPU does in between.
    pub flags: u64,
}

/// `DMA_BUF_SYNC_READ`.
pub const SYNC_READ: u64 = 1 << 0;
/// `DMA_BUF_SYNC_WRITE`.
pub const SYNC_WRITE: u64 = 1 << 1;
/// `DMA_BUF_SYNC_START`.
pub const SYNC_START: u64 = 0;
/// `DMA_BUF_SYNC_END`.
pub const SYNC_END: u64 = 1 << 2;
/// `DMA_BUF_IOCTL_SYNC`.
pub const DMA_BUF_IOCTL_SYNC: Opcode = opcode::write::<DmaBufSync>(b'b', 0);

/// A structure as this crate lays it out: C name, size, and each field with its
/// offset and size.
pub type StructLayout = (&'static str, usize, &'static [(&'static str, usize, usize)]);

/// Asserts the layout of a structure, and yields it as a [`StructLayout`].
///
/// The first list is what the ABI is; it is written by hand on purpose.
#[macro_export]
macro_rules! layout {
    ($rust:ty, $c:literal, $size:literal, { $($field:ident: $offset:literal, $bytes:literal;)* }) => {{
        const _: () = {
            assert!(::core::mem::size_of::<$rust>() == $size);
            $(
                assert!(::core::mem::offset_of!($rust, $field) == $offset);
                assert!({
                    const fn size<S, F>(_: fn(&S) -> &F) -> usize {
                        ::core::mem::size_of::<F>()
                    }
                    size(|s: &$rust| &s.$field)
                } == $bytes);
            )*
        };
        ($c, $size, &[$((stringify!($field), $offset, $bytes)),*])
    }};
}

/// Every structure of `cohbuf.h` that this crate knows.
pub const LAYOUT: &[StructLayout] = &[
    layout!(Caps, "cohbuf_caps", 32, {
        version: 0, 4;
        reserved: 4, 4;
        flags: 8, 8;
        max_size: 16, 8;
        page_size: 24, 8;
    }),
    layout!(Create, "cohbuf_create", 24, {
        size: 0, 8;
        flags: 8, 4;
        fd_flags: 12, 4;
        fd: 16, 4;
        reserved: 20, 4;
    }),
    layout!(RawInfo, "cohbuf_info", 72, {
        fd: 0, 4;
        flags: 4, 4;
        size: 8, 8;
        attachments: 16, 4;
        mappings: 20, 4;
        bounced: 24, 4;
        write_windows: 28, 4;
        refused_attach: 32, 8;
        refused_map: 40, 8;
        syncs_for_cpu: 48, 8;
        syncs_for_device: 56, 8;
        segments: 64, 4;
        reserved: 68, 4;
    }),
];

const _: () = assert!(size_of::<DmaBufSync>() == 8);
