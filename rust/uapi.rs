// SPDX-License-Identifier: GPL-2.0

//! The structures of `include/uapi/linux/cohbuf.h`, made by bindgen.

use core::mem::{
    offset_of,
    size_of, //
};

use kernel::transmute::{
    AsBytes,
    FromBytes, //
};

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    reason = "made by bindgen"
)]
mod generated {
    use kernel::ffi;

    include!(concat!(env!("COHBUF_GENERATED"), "/uapi_generated.rs"));
}

pub use generated::*;

// What user space relies on. Offsets that follow from these are not repeated: all fields are of
// their natural alignment, and the sizes leave no room for padding.
const _: () = {
    assert!(size_of::<cohbuf_caps>() == 32);
    assert!(offset_of!(cohbuf_caps, flags) == 8);
    assert!(offset_of!(cohbuf_caps, page_size) == 24);
    assert!(size_of::<cohbuf_create>() == 24);
    assert!(offset_of!(cohbuf_create, flags) == 8);
    assert!(offset_of!(cohbuf_create, fd) == 16);
    assert!(size_of::<cohbuf_info>() == 160);
    assert!(offset_of!(cohbuf_info, size) == 8);
    assert!(offset_of!(cohbuf_info, refused_attach) == 32);
    assert!(offset_of!(cohbuf_info, segments) == 64);
    assert!(offset_of!(cohbuf_info, bytes_cleaned) == 80);
    assert!(offset_of!(cohbuf_info, attachment_size) == 144);
    assert!(size_of::<cohbuf_attachment>() == 112);
    assert!(offset_of!(cohbuf_attachment, flags) == 96);
    assert!(size_of::<cohbuf_sync>() == 96);
    assert!(offset_of!(cohbuf_sync, flags) == 8);
    assert!(size_of::<cohbuf_copy>() == 72);
    assert!(offset_of!(cohbuf_copy, src_offset) == 16);
    assert!(offset_of!(cohbuf_copy, done) == 64);
};

/// An ioctl structure: any bytes make one, and all its bytes are initialised.
pub trait IoctlStruct: FromBytes + AsBytes + Default {}

macro_rules! ioctl_struct {
    ($($name:ident),*) => {$(
        // SAFETY: The structure is of integers only, each bit pattern of which is valid.
        unsafe impl FromBytes for $name {}
        // SAFETY: By the sizes asserted above the structure has no padding.
        unsafe impl AsBytes for $name {}
        impl IoctlStruct for $name {}
    )*};
}

ioctl_struct!(
    cohbuf_attachment,
    cohbuf_caps,
    cohbuf_copy,
    cohbuf_create,
    cohbuf_info,
    cohbuf_sync
);
