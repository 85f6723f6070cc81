// SPDX-License-Identifier: GPL-2.0

//! Ioctl arguments that are extended by their size.
//!
//! C header: `include/linux/uaccess.h`, `copy_struct_from_user()`.

use core::mem::{
    size_of,
    MaybeUninit, //
};

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
    #[inline(always)]
    pub fn read<S: IoctlStruct>(&self) -> Result<S> {
        let mut value = MaybeUninit::<S>::uninit();
        // SAFETY: `value` is writable for its size.
        to_result(unsafe {
            bindings::cohbuf_rs_copy_struct_from_user(
                value.as_mut_ptr().cast(),
                size_of::<S>(),
                self.addr,
                self.size,
            )
        })?;
        // SAFETY: It did not fail, so that it has written all of `value`, what the user does not
        // have with zeroes; any bytes make an `S`.
        Ok(unsafe { value.assume_init() })
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

/// A user's array of structures, each of the size that the user knows.
pub struct UserArray {
    addr: usize,
    size: usize,
}

impl UserArray {
    /// The array at `addr`, of elements of `size` bytes.
    ///
    /// # Errors
    ///
    /// As [`UserStruct::new`]; [`EFAULT`] where `addr` is no address.
    pub fn new(addr: u64, size: u32, min: usize) -> Result<Self> {
        let addr = usize::try_from(addr).map_err(|_| EFAULT)?;
        let size = usize::try_from(size).map_err(|_| E2BIG)?;
        if size < min {
            return Err(EINVAL);
        }
        if size > PAGE_SIZE {
            return Err(E2BIG);
        }
        Ok(Self { addr, size })
    }

    /// Writes elements, as much of each as the user has.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] where they cannot be written. Some may have been.
    pub fn write<S: IoctlStruct>(&self, values: &[S]) -> Result {
        for (number, value) in values.iter().enumerate() {
            let offset = number.checked_mul(self.size).ok_or(EFAULT)?;
            let one = UserStruct {
                addr: self.addr.checked_add(offset).ok_or(EFAULT)?,
                size: self.size,
            };
            one.write(value)?;
        }
        Ok(())
    }
}
