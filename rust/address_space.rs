// SPDX-License-Identifier: GPL-2.0

//! Who accesses a buffer: the address space of a process.

use kernel::{
    mm::Mm,
    sync::atomic::Atomic, //
};

use crate::bindings;

/// Whether somebody lives in the address space still. Once false, it stays so: nobody can access
/// memory by it any more.
pub fn has_users(mm: &Mm) -> bool {
    // SAFETY: By its type `mm` is a valid `mm_struct`, which need not have users.
    unsafe { bindings::cohbuf_rs_mm_has_users(mm.as_raw()) }
}

/// The lowest bit of a word that has an address, which is even: see [`flag`].
pub const FLAG: usize = 1;

/// Sets [`FLAG`], fully ordered, where the word is the address of the calling task's address space,
/// as [`Mm::as_raw`] says it, without it. Returns whether that was so.
#[inline]
pub fn flag(word: &Atomic<usize>) -> bool {
    // SAFETY: The word is valid, and changed atomically alone. CAST: `unsigned long` and `usize` are
    // the same.
    unsafe { bindings::cohbuf_rs_flag_mm(word.as_ptr().cast()) }
}

/// Takes it away, likewise. Returns whether that was so, or the word was another but 0. A task
/// without an address space gets false.
#[inline]
pub fn unflag(word: &Atomic<usize>) -> bool {
    // SAFETY: As for `flag`. CAST: As there.
    unsafe { bindings::cohbuf_rs_unflag_mm(word.as_ptr().cast()) }
}
