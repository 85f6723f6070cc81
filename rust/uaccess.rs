// SPDX-License-Identifier: GPL-2.0

//! Ioctl arguments that are extended by their size.
//!
//! C header: `include/linux/uaccess.h`, `copy_struct_from_user()`.

use core::mem::size_of;

use kernel::{
    error::to_result,
    ioctl::_IOC_SIZE,
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    bindings,
    uapi::IoctlStruct, //
};

/// The user's structure that an ioctl was called with.
pub struct UserStruct {
    addr: usize,
    size: usize,
}

impl UserStruct {
    /// `arg` and the size that `cmd` says, both as `ioctl` got them.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where the size is below `min`, the size of the structure's first version.
    /// - [`E2BIG`] where it is above the size of a page.
    pub fn new(cmd: u32, arg: usize, min: usize) -> Result<Self> {
        let size = _IOC_SIZE(cmd);
        if size < min {
            return Err(EINVAL);
        }
        if size > PAGE_SIZE {
            return Err(E2BIG);
        }
        Ok(Self { addr: arg, size })
    }

    /// Reads the structure, once. Fields that the user does not have are zero.
    ///
    /// # Errors
    ///
    /// - [`EFAULT`] where it cannot be read.
    /// - [`E2BIG`] where the user sets fields that we do not have.
    pub fn read<S: IoctlStruct>(&self) -> Result<S> {
        let mut value = S::default();
        // SAFETY: `value` is writable for its size, and any bytes make an `S`.
        to_result(unsafe {
            bindings::cohbuf_rs_copy_struct_from_user(
                (&raw mut value).cast(),
                size_of::<S>(),
                self.addr,
                self.size,
            )
        })?;
        Ok(value)
    }

    /// Writes the structure back, as much of it as the user has.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] where it cannot be written.
    pub fn write<S: IoctlStruct>(&self, value: &S) -> Result {
        // SAFETY: `value` is readable for its size, and all its bytes are initialised.
        to_result(unsafe {
            bindings::cohbuf_rs_copy_struct_to_user(
                self.addr,
                self.size,
                core::ptr::from_ref(value).cast(),
                size_of::<S>(),
            )
        })
    }
}
