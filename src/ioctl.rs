// SPDX-License-Identifier: GPL-2.0

//! The ioctls of `/dev/cohbuf`. Errors are those of `include/uapi/linux/cohbuf.h`.

use core::mem::size_of;

use dma_buf::{
    params,
    uaccess::UserStruct,
    uapi::{
        cohbuf_caps,
        cohbuf_create,
        cohbuf_info,
        cohbuf_ioctl_COHBUF_IOCTL_CAPS as CAPS,
        cohbuf_ioctl_COHBUF_IOCTL_CREATE as CREATE,
        cohbuf_ioctl_COHBUF_IOCTL_INFO as INFO,
        COHBUF_API_VERSION,
        COHBUF_COHERENT,
        COHBUF_WRITE_COMBINE, //
    },
    Caching,
    DmaBuf, //
};
use kernel::{
    fs::{
        file::{
            flags::{
                O_ACCMODE,
                O_CLOEXEC,
                O_RDONLY,
                O_RDWR, //
            },
            FileDescriptorReservation, //
        },
        File, //
    },
    ioctl::{
        _IOC_NR,
        _IOC_TYPE,
        _IOWR, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

use crate::{
    buffer::CohBuf,
    maintenance,
    policy::Kind, //
};

// The numbers of the C header and those of the structures in Rust must agree.
const _: () = {
    assert!(CAPS == _IOWR::<cohbuf_caps>(b'C' as u32, 0xb0));
    assert!(CREATE == _IOWR::<cohbuf_create>(b'C' as u32, 0xb1));
    assert!(INFO == _IOWR::<cohbuf_info>(b'C' as u32, 0xb2));
};

/// An open `/dev/cohbuf`. It has no state: a buffer belongs to its file descriptor.
pub(crate) struct Device;

#[vtable]
impl MiscDevice for Device {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
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
        (kernel::ioctl::_IOC_DIR(cmd), _IOC_TYPE(cmd), _IOC_NR(cmd))
    }

    if name(cmd) == name(CAPS) {
        caps(&UserStruct::new(cmd, arg, size_of::<cohbuf_caps>())?)
    } else if name(cmd) == name(CREATE) {
        create(&UserStruct::new(cmd, arg, size_of::<cohbuf_create>())?)
    } else if name(cmd) == name(INFO) {
        info(&UserStruct::new(cmd, arg, size_of::<cohbuf_info>())?)
    } else {
        Err(ENOTTY)
    }
}

/// The largest buffer, in bytes, as the module parameter is now.
fn max_size() -> u64 {
    u64::from(params::max_size_mb()) << 20
}

fn caps(user: &UserStruct) -> Result {
    if user.read::<cohbuf_caps>()?.reserved != 0 {
        return Err(EINVAL);
    }
    let mut flags = COHBUF_COHERENT;
    if Caching::can_write_combine() {
        flags |= COHBUF_WRITE_COMBINE;
    }
    user.write(&cohbuf_caps {
        version: COHBUF_API_VERSION,
        reserved: 0,
        flags: u64::from(flags),
        max_size: max_size(),
        // CAST: It fits each way.
        page_size: PAGE_SIZE as u64,
    })
}

/// The size in bytes that a buffer gets, a multiple of the page size.
///
/// # Errors
///
/// [`EINVAL`], [`EOVERFLOW`], [`EFBIG`]; see `struct cohbuf_create`.
fn buffer_size(wanted: u64, max: u64) -> Result<usize> {
    if wanted == 0 {
        return Err(EINVAL);
    }
    let size = wanted
        .checked_next_multiple_of(PAGE_SIZE as u64)
        .ok_or(EOVERFLOW)?;
    if size > max {
        return Err(EFBIG);
    }
    usize::try_from(size).map_err(|_| EFBIG)
}

/// What a buffer is made for.
///
/// # Errors
///
/// [`EINVAL`] for a flag that is not known, and for two that exclude each other.
fn kind(flags: u32) -> Result<Kind> {
    match flags {
        0 => Ok(Kind::Bracketed),
        COHBUF_COHERENT => Ok(Kind::Coherent),
        COHBUF_WRITE_COMBINE => Ok(Kind::WriteCombine),
        _ => Err(EINVAL),
    }
}

/// # Errors
///
/// [`EINVAL`] for a flag of open(2) that says nothing about a dma-buf.
fn check_fd_flags(flags: u32) -> Result {
    let mode = flags & O_ACCMODE;
    if flags & !(O_ACCMODE | O_CLOEXEC) != 0 || (mode != O_RDONLY && mode != O_RDWR) {
        return Err(EINVAL);
    }
    Ok(())
}

fn create(user: &UserStruct) -> Result {
    let mut arg: cohbuf_create = user.read()?;
    let kind = kind(arg.flags)?;
    check_fd_flags(arg.fd_flags)?;
    if arg.fd != 0 || arg.reserved != 0 {
        return Err(EINVAL);
    }
    let size = buffer_size(arg.size, max_size())?;

    let fd = FileDescriptorReservation::get_unused_fd_flags(arg.fd_flags)?;
    let buf = CohBuf::export(size, kind, arg.fd_flags)?;
    arg.size = size as u64;
    // CAST: A file descriptor is an `int`.
    arg.fd = fd.reserved_fd() as i32;
    user.write(&arg)?;
    DmaBuf::install_fd(buf, fd);
    Ok(())
}

fn info(user: &UserStruct) -> Result {
    let arg: cohbuf_info = user.read()?;
    if arg.flags != 0 || arg.write_windows != 0 || arg.reserved != 0 {
        return Err(EINVAL);
    }
    let buf = DmaBuf::from_fd(arg.fd)?;
    let buffer = buf.exported_by::<CohBuf>().ok_or(EMEDIUMTYPE)?;

    let mut out = cohbuf_info {
        fd: arg.fd,
        flags: match buffer.kind() {
            Kind::Coherent => COHBUF_COHERENT,
            Kind::WriteCombine => COHBUF_WRITE_COMBINE,
            Kind::Bracketed => 0,
        },
        size: buf.size() as u64,
        refused_attach: buffer.stats().refused_attach(),
        refused_map: buffer.stats().refused_map(),
        syncs_for_cpu: buffer.stats().syncs_for_cpu(),
        syncs_for_device: buffer.stats().syncs_for_device(),
        // CAST: There are fewer chunks than pages in 2^44 bytes.
        segments: buffer.pages().chunks() as u32,
        ..Default::default()
    };
    {
        // Not held over the copy to user space, which may fault on a mapping of this very buffer.
        let mut locked = buffer.lock()?;
        let mut locked = locked.as_mut();
        maintenance::forget_dead(&mut locked);
        out.attachments = u32::try_from(locked.attachments().count()).unwrap_or(u32::MAX);
        for (mapping, _) in locked.mappings() {
            out.mappings += 1;
            out.bounced += u32::from(mapping.is_bounced());
        }
        out.write_windows = u32::try_from(locked.state().windows.count()).unwrap_or(u32::MAX);
    }
    user.write(&out)
}
