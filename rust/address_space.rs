// SPDX-License-Identifier: GPL-2.0

//! Who accesses a buffer: the address space of a process.

use kernel::mm::Mm;

use crate::bindings;

/// Whether somebody lives in the address space still. Once false, it stays so: nobody can access
/// memory by it any more.
pub fn has_users(mm: &Mm) -> bool {
    // SAFETY: By its type `mm` is a valid `mm_struct`, which need not have users.
    unsafe { bindings::cohbuf_rs_mm_has_users(mm.as_raw()) }
}
