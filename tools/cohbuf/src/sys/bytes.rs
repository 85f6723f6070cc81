// SPDX-License-Identifier: GPL-2.0

//! Copies from and to memory that devices and other processes may write meanwhile.
//!
//! They are of relaxed atomics, word by word: the compiler takes none of them twice, as it may
//! where nobody else is known to write, and a value that was checked is the one that is used.
//! Rust has no rules for atomics of several sizes that race, so that copies of this process that
//! overlap exclude each other, unless both only read (`claims`).

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

const WORD: usize = size_of::<usize>();

/// Bytes before the first word.
fn head(shared: *const u8, len: usize) -> usize {
    (shared.addr().wrapping_neg() % WORD).min(len)
}

/// Copies out.
///
/// # Safety
///
/// As many bytes as `to` has are mapped at `from`, and nobody in this process has a `&mut` to
/// them, or writes them meanwhile.
pub(super) unsafe fn load(from: *mut u8, to: &mut [u8]) {
    // SAFETY: within what the caller says is mapped; a byte is always aligned.
    let byte = |at: usize| unsafe { AtomicU8::from_ptr(from.wrapping_add(at)) }.load(Relaxed);
    let first = head(from, to.len());
    let (edge, rest) = to.split_at_mut(first);
    for (at, to) in edge.iter_mut().enumerate() {
        *to = byte(at);
    }
    let mut at = first;
    let mut words = rest.chunks_exact_mut(WORD);
    for to in &mut words {
        // SAFETY: within what the caller says is mapped, and aligned from `head` on. No access
        // of another size races with it in this process. Memory that is mapped to be read only
        // is good for relaxed loads of a word.
        let word = unsafe { AtomicUsize::from_ptr(from.wrapping_add(at).cast()) };
        to.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        at += WORD;
    }
    for (offset, to) in words.into_remainder().iter_mut().enumerate() {
        *to = byte(at + offset);
    }
}

/// Copies in.
///
/// # Safety
///
/// As many bytes as `from` has are mapped at `to`, to be written, and nobody in this process
/// has a reference to them, or copies from or to them meanwhile.
pub(super) unsafe fn store(to: *mut u8, from: &[u8]) {
    let byte = |at: usize, value: u8| {
        // SAFETY: within what the caller says is mapped; a byte is always aligned.
        unsafe { AtomicU8::from_ptr(to.wrapping_add(at)) }.store(value, Relaxed);
    };
    let first = head(to, from.len());
    let (edge, rest) = from.split_at(first);
    for (at, value) in edge.iter().enumerate() {
        byte(at, *value);
    }
    let mut at = first;
    let mut words = rest.chunks_exact(WORD);
    for from in &mut words {
        let mut value = [0; WORD];
        value.copy_from_slice(from);
        // SAFETY: as in `load`.
        let word = unsafe { AtomicUsize::from_ptr(to.wrapping_add(at).cast()) };
        word.store(usize::from_ne_bytes(value), Relaxed);
        at += WORD;
    }
    for (offset, value) in words.remainder().iter().enumerate() {
        byte(at + offset, *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each alignment of either side, and each number of words with each rest.
    #[test]
    fn all_bytes_and_no_others() {
        let source: Vec<u8> = (1..=64).collect();
        for shared in 0..WORD {
            for private in 0..WORD {
                for len in 0..4 * WORD {
                    let from = &source[private..private + len];
                    let mut memory = [0_u64; 8];
                    let start = memory.as_mut_ptr().cast::<u8>();
                    // SAFETY: 64 bytes of this function alone, of which `shared + len` are
                    // fewer.
                    unsafe { store(start.wrapping_add(shared), from) };
                    let mut seen = [0xff; 64];
                    // SAFETY: the same.
                    unsafe { load(start.wrapping_add(shared), &mut seen[private..][..len]) };
                    assert_eq!(&seen[private..][..len], from, "{shared} {private} {len}");
                    let others = seen.iter().filter(|byte| **byte == 0xff).count();
                    assert_eq!(others, 64 - len, "{shared} {private} {len}");
                    let mut all = [0xff; 64];
                    // SAFETY: the same, all 64.
                    unsafe { load(start, &mut all) };
                    let mut must = [0; 64];
                    must[shared..][..len].copy_from_slice(from);
                    assert_eq!(all, must, "{shared} {private} {len}");
                }
            }
        }
    }
}
