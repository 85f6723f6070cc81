// SPDX-License-Identifier: GPL-2.0

//! The ioctls of `/dev/cohbuf`, each in a file of its own. Errors are those of
//! `include/uapi/linux/cohbuf.h`.

use core::mem::size_of;

use dma_buf::{
    compat,
    params,
    uaccess::UserStruct,
    uapi::{
        cohbuf_caps,
        cohbuf_copy,
        cohbuf_create,
        cohbuf_info,
        cohbuf_ioctl_COHBUF_IOCTL_CAPS as CAPS,
        cohbuf_ioctl_COHBUF_IOCTL_COPY as COPY,
        cohbuf_ioctl_COHBUF_IOCTL_CREATE as CREATE,
        cohbuf_ioctl_COHBUF_IOCTL_INFO as INFO,
        cohbuf_ioctl_COHBUF_IOCTL_SYNC as SYNC,
        cohbuf_sync, //
    }, //
};
use kernel::{
    fs::File,
    ioctl::{
        _IOC_DIR,
        _IOC_NR,
        _IOC_TYPE,
        _IOWR, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    prelude::*, //
};

mod caps;
mod copy;
pub(crate) mod create;
mod info;
mod region;
mod sync;

// The numbers of the C header and those of the structures in Rust must agree.
const _: () = {
    assert!(CAPS == _IOWR::<cohbuf_caps>(b'C' as u32, 0xb0));
    assert!(CREATE == _IOWR::<cohbuf_create>(b'C' as u32, 0xb1));
    assert!(INFO == _IOWR::<cohbuf_info>(b'C' as u32, 0xb2));
    assert!(SYNC == _IOWR::<cohbuf_sync>(b'C' as u32, 0xb3));
    assert!(COPY == _IOWR::<cohbuf_copy>(b'C' as u32, 0xb4));
};

/// An open `/dev/cohbuf`. It has no state: a buffer belongs to its file descriptor.
pub(crate) struct Device;

#[vtable]
impl MiscDevice for Device {
    type Ptr = KBox<Self>;

    fn open(file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        compat::keep_module(file, misc)?;
        Ok(KBox::new(Self, GFP_KERNEL)?)
    }

    fn ioctl(_device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        dispatch(cmd, arg)?;
        Ok(0)
    }
}

/// Calls the ioctl. The size in `cmd` is the size that the caller's structure has, not part of the
/// ioctl's name.
pub(crate) fn dispatch(cmd: u32, arg: usize) -> Result {
    /// A command without the size of its structure.
    const fn name(cmd: u32) -> (u32, u32, u32) {
        (_IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd))
    }

    if name(cmd) == name(CAPS) {
        caps::ioctl(&UserStruct::new(cmd, arg, size_of::<cohbuf_caps>())?)
    } else if name(cmd) == name(CREATE) {
        create::ioctl(&UserStruct::new(cmd, arg, size_of::<cohbuf_create>())?)
    } else if name(cmd) == name(INFO) {
        info::ioctl(&UserStruct::new(cmd, arg, info::FIRST_SIZE)?)
    } else if name(cmd) == name(SYNC) {
        sync::ioctl(&UserStruct::new(cmd, arg, size_of::<cohbuf_sync>())?)
    } else if name(cmd) == name(COPY) {
        copy::ioctl(&UserStruct::new(cmd, arg, size_of::<cohbuf_copy>())?)
    } else {
        Err(ENOTTY)
    }
}

/// The largest buffer, in bytes, as the module parameter is now.
fn max_size() -> u64 {
    u64::from(params::max_size_mb()) << 20
}
