// SPDX-License-Identifier: GPL-2.0

//! What C offers: the bindings of the kernel crate, and those of `helpers.h`.

pub(crate) use kernel::bindings::*;

#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    unreachable_pub,
    reason = "made by bindgen"
)]
mod helpers {
    use kernel::{
        bindings::*,
        ffi, //
    };

    include!(concat!(env!("COHBUF_GENERATED"), "/helpers_generated.rs"));
}

pub(crate) use helpers::*;
