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
/// `COHBUF_CONTIGUOUS`.
pub const CONTIGUOUS: u32 = 1 << 2;
/// `COHBUF_TRACK_DIRTY`.
pub const TRACK_DIRTY: u32 = 1 << 3;
/// `COHBUF_ENFORCE_REPORT`.
pub const ENFORCE_REPORT: u32 = 1 << 4;
/// `COHBUF_ENFORCE_POISON`.
pub const ENFORCE_POISON: u32 = 1 << 5;

/// `COHBUF_CACHING_WRITE_BACK`.
pub const CACHING_WRITE_BACK: u32 = 0;
/// `COHBUF_CACHING_WRITE_COMBINE`.
pub const CACHING_WRITE_COMBINE: u32 = 1;

/// `COHBUF_REACH_NONE`.
pub const REACH_NONE: u32 = 0;
/// `COHBUF_REACH_SNOOPING`.
pub const REACH_SNOOPING: u32 = 1;
/// `COHBUF_REACH_DIRECT`.
pub const REACH_DIRECT: u32 = 2;
/// `COHBUF_REACH_IOMMU`.
pub const REACH_IOMMU: u32 = 3;
/// `COHBUF_REACH_BOUNCED`.
pub const REACH_BOUNCED: u32 = 4;
/// `COHBUF_REACH_PARTLY_BOUNCED`.
pub const REACH_PARTLY_BOUNCED: u32 = 5;
/// `COHBUF_REACH_UNKNOWN`.
pub const REACH_UNKNOWN: u32 = 6;

/// `COHBUF_ATTACHMENT_COHERENT`.
pub const ATTACHMENT_COHERENT: u32 = 1 << 0;
/// `COHBUF_ATTACHMENT_AUTOFENCE`.
pub const ATTACHMENT_AUTOFENCE: u32 = 1 << 1;
/// `COHBUF_ATTACHMENT_DYNAMIC`.
pub const ATTACHMENT_DYNAMIC: u32 = 1 << 2;

/// `COHBUF_STATE_POISONED`.
pub const STATE_POISONED: u32 = 1 << 0;
/// `COHBUF_STATE_TRACKS_PAGES`.
pub const STATE_TRACKS_PAGES: u32 = 1 << 1;

/// `COHBUF_LAYOUT_WHOLE`.
pub const LAYOUT_WHOLE: u32 = 0;
/// `COHBUF_LAYOUT_1D`.
pub const LAYOUT_1D: u32 = 1;
/// `COHBUF_LAYOUT_2D`.
pub const LAYOUT_2D: u32 = 2;

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
    /// In: [`COHERENT`], [`WRITE_COMBINE`] or neither; [`CONTIGUOUS`]; [`TRACK_DIRTY`]; and
    /// [`ENFORCE_REPORT`], [`ENFORCE_POISON`] or neither.
    pub flags: u32,
    /// In: `O_CLOEXEC`, and `O_RDONLY` or `O_RDWR`.
    pub fd_flags: u32,
    /// Out: the file descriptor. Must be 0 on the way in.
    pub fd: i32,
    /// Zero.
    pub reserved: u32,
}

/// `struct cohbuf_attachment`: one importer of a buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttachment {
    /// Name of the device, with a NUL at its end.
    pub device: [u8; 64],
    /// Name of its driver, or of its bus, with a NUL at its end.
    pub driver: [u8; 32],
    /// [`ATTACHMENT_COHERENT`] and others.
    pub flags: u32,
    /// Mappings that it holds now.
    pub mappings: u32,
    /// Those of them with a segment that is bounced.
    pub bounced: u32,
    /// [`REACH_SNOOPING`] and others: of the last mapping that it holds.
    pub reach: u32,
}

impl Default for RawAttachment {
    fn default() -> Self {
        Self {
            device: [0; 64],
            driver: [0; 32],
            flags: 0,
            mappings: 0,
            bounced: 0,
            reach: 0,
        }
    }
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
    /// Out: [`CACHING_WRITE_BACK`] or [`CACHING_WRITE_COMBINE`].
    pub caching: u32,
    /// Out: [`STATE_POISONED`] and others. Must be 0 on the way in.
    pub state: u32,
    /// Out: bytes of which the CPU caches were to be written back.
    pub bytes_cleaned: u64,
    /// Out: bytes of which they were to be dropped.
    pub bytes_invalidated: u64,
    /// Out: bytes copied to bounce buffers.
    pub bytes_to_copies: u64,
    /// Out: bytes copied back.
    pub bytes_from_copies: u64,
    /// Out: bytes handed to DMA ops of a device's own.
    pub bytes_own_ops: u64,
    /// Out: bytes that whole maintenance for each mapping would have cost besides.
    pub bytes_saved: u64,
    /// Out: reads outside of a window.
    pub outside_reads: u64,
    /// Out: writes outside of a window that says so.
    pub outside_writes: u64,
    /// In: bytes of an element at `attachment_array`; 0 where there is none.
    pub attachment_size: u32,
    /// In: elements that there is room for. Out: elements that were written.
    pub attachment_room: u32,
    /// In: address of an array of [`RawAttachment`].
    pub attachment_array: u64,
}

/// `struct cohbuf_sync`: `DMA_BUF_IOCTL_SYNC` of a region.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionSync {
    /// In: the dma-buf.
    pub fd: i32,
    /// In: [`LAYOUT_WHOLE`] and others.
    pub layout: u32,
    /// In: [`SYNC_START`] or [`SYNC_END`], with [`SYNC_READ`], [`SYNC_WRITE`] or both.
    pub flags: u64,
    /// In: where the region begins.
    pub offset: u64,
    /// In: bytes of it; of a row, if 2-D.
    pub length: u64,
    /// In: from a row to the next, if 2-D.
    pub stride: u64,
    /// In: rows, if 2-D.
    pub rows: u64,
    /// Out: bytes cleaned by this call.
    pub cleaned: u64,
    /// Out: bytes invalidated by it.
    pub invalidated: u64,
    /// Out: bytes it copied to bounce buffers.
    pub to_copies: u64,
    /// Out: bytes it copied back.
    pub from_copies: u64,
    /// Out: bytes it handed to DMA ops of a device's own.
    pub own_ops: u64,
    /// Out: bytes it did not maintain, and would have as a whole, for each mapping.
    pub saved: u64,
}

/// `struct cohbuf_copy`: copy by the CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// In: the dma-buf to read.
    pub src_fd: i32,
    /// In: the dma-buf to write.
    pub dst_fd: i32,
    /// In: [`LAYOUT_WHOLE`] and others.
    pub layout: u32,
    /// Zero.
    pub flags: u32,
    /// In: where the region begins in the source.
    pub src_offset: u64,
    /// In: where it begins in the destination.
    pub dst_offset: u64,
    /// In: from a row to the next in the source, if 2-D.
    pub src_stride: u64,
    /// In: the same in the destination.
    pub dst_stride: u64,
    /// In: bytes; of a row, if 2-D.
    pub length: u64,
    /// In: rows, if 2-D.
    pub rows: u64,
    /// In: bytes that earlier calls have copied. Out: those, and the ones of this call.
    pub done: u64,
}

/// `COHBUF_IOCTL_CAPS`.
pub const IOCTL_CAPS: Opcode = opcode::read_write::<Caps>(b'C', 0xb0);
/// `COHBUF_IOCTL_CREATE`.
pub const IOCTL_CREATE: Opcode = opcode::read_write::<Create>(b'C', 0xb1);
/// `COHBUF_IOCTL_INFO`.
pub const IOCTL_INFO: Opcode = opcode::read_write::<RawInfo>(b'C', 0xb2);
/// `COHBUF_IOCTL_SYNC`.
pub const IOCTL_SYNC: Opcode = opcode::read_write::<RegionSync>(b'C', 0xb3);
/// `COHBUF_IOCTL_COPY`.
pub const IOCTL_COPY: Opcode = opcode::read_write::<Copy>(b'C', 0xb4);

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
/// `DMA_BUF_MAGIC` of `linux/magic.h`: the type of the file system that all dma-bufs are of.
pub const DMA_BUF_MAGIC: u64 = 0x444d_4142;
/// `DMA_BUF_SET_NAME`, of which the argument is an address.
pub const DMA_BUF_SET_NAME: Opcode = opcode::write::<usize>(b'b', 1);
/// `DMA_BUF_IOCTL_SYNC`.
pub const DMA_BUF_IOCTL_SYNC: Opcode = opcode::write::<DmaBufSync>(b'b', 0);

/// `struct udmabuf_create` of `linux/udmabuf.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UdmabufCreate {
    pub(crate) memfd: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl UdmabufCreate {
    /// `UDMABUF_FLAGS_CLOEXEC`.
    pub(crate) const CLOEXEC: u32 = 1;
}

/// `UDMABUF_CREATE`.
pub(crate) const UDMABUF_CREATE: Opcode = opcode::write::<UdmabufCreate>(b'u', 0x42);

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
    layout!(RawAttachment, "cohbuf_attachment", 112, {
        device: 0, 64;
        driver: 64, 32;
        flags: 96, 4;
        mappings: 100, 4;
        bounced: 104, 4;
        reach: 108, 4;
    }),
    layout!(RawInfo, "cohbuf_info", 160, {
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
        caching: 72, 4;
        state: 76, 4;
        bytes_cleaned: 80, 8;
        bytes_invalidated: 88, 8;
        bytes_to_copies: 96, 8;
        bytes_from_copies: 104, 8;
        bytes_own_ops: 112, 8;
        bytes_saved: 120, 8;
        outside_reads: 128, 8;
        outside_writes: 136, 8;
        attachment_size: 144, 4;
        attachment_room: 148, 4;
        attachment_array: 152, 8;
    }),
    layout!(RegionSync, "cohbuf_sync", 96, {
        fd: 0, 4;
        layout: 4, 4;
        flags: 8, 8;
        offset: 16, 8;
        length: 24, 8;
        stride: 32, 8;
        rows: 40, 8;
        cleaned: 48, 8;
        invalidated: 56, 8;
        to_copies: 64, 8;
        from_copies: 72, 8;
        own_ops: 80, 8;
        saved: 88, 8;
    }),
    layout!(Copy, "cohbuf_copy", 72, {
        src_fd: 0, 4;
        dst_fd: 4, 4;
        layout: 8, 4;
        flags: 12, 4;
        src_offset: 16, 8;
        dst_offset: 24, 8;
        src_stride: 32, 8;
        dst_stride: 40, 8;
        length: 48, 8;
        rows: 56, 8;
        done: 64, 8;
    }),
];

const _: () = {
    assert!(size_of::<DmaBufSync>() == 8);
    assert!(size_of::<UdmabufCreate>() == 24);
};
