// SPDX-License-Identifier: GPL-2.0

//! Module parameters that can be written while the module is loaded.

use crate::bindings;

/// `max_size_mb` as it is now, in MiB.
///
/// Inline, so that a module without the parameter can have this crate.
#[inline]
pub fn max_size_mb() -> u32 {
    // SAFETY: No requirements; the value is read once.
    unsafe { bindings::cohbuf_rs_max_size_mb() }
}
