// SPDX-License-Identifier: GPL-2.0

//! A file of debugfs that keeps its module while it is open.
//!
//! Those of `kernel::debugfs` do not, as their file operations have no owner: whoever has one open
//! closes it after the module has gone.
//!
//! C header: `include/linux/debugfs.h`.

use core::marker::PhantomData;

use kernel::{
    prelude::*,
    seq_file::SeqFile, //
};

use crate::bindings;

/// What a file shows.
pub trait Show: 'static {
    /// The directory that it is in, and is alone in.
    const DIR: &'static CStr;
    /// Its name.
    const NAME: &'static CStr;

    /// Writes all of it. Called again, from the beginning, where there was no room.
    fn show(to: &SeqFile);
}

/// The file is there while this lives. A kernel without debugfs does without.
///
/// # Invariants
///
/// `dir` came from `cohbuf_rs_debugfs_register()`.
pub struct File<T: Show> {
    dir: *mut bindings::dentry,
    _shows: PhantomData<fn() -> T>,
}

// SAFETY: A directory is removed by any task.
unsafe impl<T: Show> Send for File<T> {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl<T: Show> Sync for File<T> {}

impl<T: Show> File<T> {
    /// Makes the file, and its directory.
    #[expect(clippy::new_without_default, reason = "it is there from then on")]
    pub fn new() -> Self {
        // SAFETY: Both names are NUL-terminated, and `show` is a function of this module, which
        // whoever has the file open keeps, and whose `File` is gone before it is.
        let dir = unsafe {
            bindings::cohbuf_rs_debugfs_register(
                T::DIR.as_char_ptr(),
                T::NAME.as_char_ptr(),
                Some(show::<T>),
            )
        };
        // INVARIANT: As just said.
        Self {
            dir,
            _shows: PhantomData,
        }
    }
}

impl<T: Show> Drop for File<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it came from there; it is removed once.
        unsafe { bindings::cohbuf_rs_debugfs_unregister(self.dir) };
    }
}

/// # Safety
///
/// Called by `cohbuf_rs_debugfs_show()` alone, with the file that it got.
unsafe extern "C" fn show<T: Show>(m: *mut bindings::seq_file) -> c_int {
    // SAFETY: The seq file is valid for the call, and locked, by `seq_read_iter()`.
    T::show(unsafe { SeqFile::from_raw(m) });
    0
}
