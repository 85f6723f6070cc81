// SPDX-License-Identifier: GPL-2.0

//! What differs between the kernel series that are supported (`scripts/kernel-series`): all in this
//! folder. No other code knows a version.
//!
//! There is a file for each series, with the same items, where they are said differently. `Kbuild`
//! says which one it is, to this crate alone; for C, `compat.h` does.

#[cfg_attr(cohbuf_before_7_3, path = "linux_7_2.rs")]
#[cfg_attr(not(cohbuf_before_7_3), path = "linux_7_3.rs")]
mod series;

#[cfg(cohbuf_test_device)]
pub(crate) use series::faux_device;
#[cfg(cohbuf_test_device)]
pub use series::{
    copy_in,
    copy_out,
    dma_address,
    DevresBar,
    IdInfo, //
};
pub(crate) use series::{
    exporter_module,
    BIDIRECTIONAL,
    FROM_DEVICE,
    MAYSHARE,
    TO_DEVICE, //
};
pub use series::{
    keep_module,
    EBADMSG,
    EMEDIUMTYPE,
    ENOTCONN,
    EOPNOTSUPP, //
};

/// Whether a module parameter of 0 or 1 is set.
///
/// Parameters yield their value, or up to 7.2 a reference to it; a `bool` they are since 7.3.
#[cfg(cohbuf_test_device)]
pub fn is_set(parameter: impl core::borrow::Borrow<u8>) -> bool {
    *parameter.borrow() != 0
}
