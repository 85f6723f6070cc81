// SPDX-License-Identifier: GPL-2.0

//! The ioctls of `/dev/cohbuf`. Errors are those of `include/uapi/linux/cohbuf.h`.

use core::mem::size_of;

use dma_buf::{
    device,
    params,
    uaccess::{
        UserArray,
        UserStruct, //
    },
    uapi::{
        cohbuf_attachment,
        cohbuf_caching_COHBUF_CACHING_WRITE_BACK as CACHING_WRITE_BACK,
        cohbuf_caching_COHBUF_CACHING_WRITE_COMBINE as CACHING_WRITE_COMBINE,
        cohbuf_caps,
        cohbuf_copy,
        cohbuf_create,
        cohbuf_info,
        cohbuf_ioctl_COHBUF_IOCTL_CAPS as CAPS,
        cohbuf_ioctl_COHBUF_IOCTL_COPY as COPY,
        cohbuf_ioctl_COHBUF_IOCTL_CREATE as CREATE,
        cohbuf_ioctl_COHBUF_IOCTL_INFO as INFO,
        cohbuf_ioctl_COHBUF_IOCTL_SYNC as SYNC,
        cohbuf_layout_COHBUF_LAYOUT_1D as LAYOUT_1D,
        cohbuf_layout_COHBUF_LAYOUT_2D as LAYOUT_2D,
        cohbuf_layout_COHBUF_LAYOUT_WHOLE as LAYOUT_WHOLE,
        cohbuf_reach_COHBUF_REACH_BOUNCED as REACH_BOUNCED,
        cohbuf_reach_COHBUF_REACH_DIRECT as REACH_DIRECT,
        cohbuf_reach_COHBUF_REACH_IOMMU as REACH_IOMMU,
        cohbuf_reach_COHBUF_REACH_NONE as REACH_NONE,
        cohbuf_reach_COHBUF_REACH_PARTLY_BOUNCED as REACH_PARTLY_BOUNCED,
        cohbuf_reach_COHBUF_REACH_SNOOPING as REACH_SNOOPING,
        cohbuf_reach_COHBUF_REACH_UNKNOWN as REACH_UNKNOWN,
        cohbuf_sync,
        COHBUF_API_VERSION,
        COHBUF_ATTACHMENT_AUTOFENCE,
        COHBUF_ATTACHMENT_COHERENT,
        COHBUF_ATTACHMENT_DYNAMIC,
        COHBUF_COHERENT,
        COHBUF_CONTIGUOUS,
        COHBUF_ENFORCE_POISON,
        COHBUF_ENFORCE_REPORT,
        COHBUF_STATE_POISONED,
        COHBUF_STATE_TRACKS_PAGES,
        COHBUF_TRACK_DIRTY,
        COHBUF_WRITE_COMBINE, //
    },
    Attachment,
    Caching,
    CpuAccess,
    DmaBuf,
    LockedMut, //
};
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
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
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    buffer::{
        CohBuf,
        Purpose, //
    },
    coherency,
    copy,
    maintenance,
    policy::{
        Enforce,
        Kind,
        Reach, //
    },
    region::{
        Layout,
        Region,
        MOST_ROWS, //
    }, //
};

// The numbers of the C header and those of the structures in Rust must agree.
const _: () = {
    assert!(CAPS == _IOWR::<cohbuf_caps>(b'C' as u32, 0xb0));
    assert!(CREATE == _IOWR::<cohbuf_create>(b'C' as u32, 0xb1));
    assert!(INFO == _IOWR::<cohbuf_info>(b'C' as u32, 0xb2));
    assert!(SYNC == _IOWR::<cohbuf_sync>(b'C' as u32, 0xb3));
    assert!(COPY == _IOWR::<cohbuf_copy>(b'C' as u32, 0xb4));
};

/// The sizes of the first versions of structures that have grown.
const INFO_V1: usize = core::mem::offset_of!(cohbuf_info, caching);
const ATTACHMENT_V1: usize = 112;

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
        info(&UserStruct::new(cmd, arg, INFO_V1)?)
    } else if name(cmd) == name(SYNC) {
        sync(&UserStruct::new(cmd, arg, size_of::<cohbuf_sync>())?)
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

fn caps(user: &UserStruct) -> Result {
    if user.read::<cohbuf_caps>()?.reserved != 0 {
        return Err(EINVAL);
    }
    let mut flags = COHBUF_COHERENT
        | COHBUF_CONTIGUOUS
        | COHBUF_TRACK_DIRTY
        | COHBUF_ENFORCE_REPORT
        | COHBUF_ENFORCE_POISON;
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
/// [`EINVAL`] for a flag that is not known, and for those that exclude each other.
fn purpose(flags: u32) -> Result<Purpose> {
    let tracks_dirty = flags & COHBUF_TRACK_DIRTY != 0;
    const ENFORCE: u32 = COHBUF_ENFORCE_REPORT | COHBUF_ENFORCE_POISON;
    let enforces = match flags & ENFORCE {
        0 => Enforce::Off,
        COHBUF_ENFORCE_REPORT => Enforce::Report,
        COHBUF_ENFORCE_POISON => Enforce::Poison,
        _ => return Err(EINVAL),
    };
    let kind = match flags & !(ENFORCE | COHBUF_CONTIGUOUS | COHBUF_TRACK_DIRTY) {
        0 => Kind::Bracketed,
        COHBUF_COHERENT if !tracks_dirty => Kind::Coherent,
        COHBUF_WRITE_COMBINE if !tracks_dirty => Kind::WriteCombine,
        _ => return Err(EINVAL),
    };
    Ok(Purpose {
        kind,
        tracks_dirty,
        enforces,
        contiguous: flags & COHBUF_CONTIGUOUS != 0,
    })
}

/// The flags that make such a buffer.
fn flags_of(made_for: Purpose) -> u32 {
    let kind = match made_for.kind {
        Kind::Bracketed => 0,
        Kind::Coherent => COHBUF_COHERENT,
        Kind::WriteCombine => COHBUF_WRITE_COMBINE,
    };
    let tracks_dirty = match made_for.tracks_dirty {
        true => COHBUF_TRACK_DIRTY,
        false => 0,
    };
    let enforces = match made_for.enforces {
        Enforce::Off => 0,
        Enforce::Report => COHBUF_ENFORCE_REPORT,
        Enforce::Poison => COHBUF_ENFORCE_POISON,
    };
    let contiguous = match made_for.contiguous {
        true => COHBUF_CONTIGUOUS,
        false => 0,
    };
    kind | tracks_dirty | enforces | contiguous
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

/// Makes a buffer by the rules of CREATE, whoever asks for it.
///
/// # Errors
///
/// See `struct cohbuf_create`.
pub(crate) fn make(size: u64, flags: u32, fd_flags: u32) -> Result<ARef<DmaBuf>> {
    let purpose = purpose(flags)?;
    check_fd_flags(fd_flags)?;
    CohBuf::export(buffer_size(size, max_size())?, purpose, fd_flags)
}

fn create(user: &UserStruct) -> Result {
    let mut arg: cohbuf_create = user.read()?;
    if arg.fd != 0 || arg.reserved != 0 {
        return Err(EINVAL);
    }
    let buf = make(arg.size, arg.flags, arg.fd_flags)?;
    let fd = FileDescriptorReservation::get_unused_fd_flags(arg.fd_flags)?;
    arg.size = buf.size() as u64;
    // CAST: A file descriptor is an `int`.
    arg.fd = fd.reserved_fd() as i32;
    user.write(&arg)?;
    DmaBuf::install_fd(buf, fd);
    Ok(())
}

fn info(user: &UserStruct) -> Result {
    let arg: cohbuf_info = user.read()?;
    if arg.flags != 0 || arg.write_windows != 0 || arg.reserved != 0 || arg.state != 0 {
        return Err(EINVAL);
    }
    let array = match (arg.attachment_size, arg.attachment_room) {
        (0, 0) => None,
        (size, _) => Some(UserArray::new(arg.attachment_array, size, ATTACHMENT_V1)?),
    };
    let buf = DmaBuf::from_fd(arg.fd)?;
    let buffer = buf.exported_by::<CohBuf>().ok_or(EMEDIUMTYPE)?;

    let mut out = cohbuf_info {
        fd: arg.fd,
        flags: flags_of(buffer.purpose()),
        size: buf.size() as u64,
        refused_attach: buffer.stats().refused_attach(),
        refused_map: buffer.stats().refused_map(),
        syncs_for_cpu: buffer.stats().syncs_for_cpu(),
        syncs_for_device: buffer.stats().syncs_for_device(),
        // CAST: There are fewer chunks than pages in 2^44 bytes.
        segments: buffer.pages().chunks() as u32,
        caching: match buffer.kind() {
            Kind::Bracketed | Kind::Coherent => CACHING_WRITE_BACK,
            Kind::WriteCombine => CACHING_WRITE_COMBINE,
        },
        outside_reads: buffer.enforcement().outside_reads(),
        outside_writes: buffer.enforcement().outside_writes(),
        state: match buffer.enforcement().is_poisoned() {
            true => COHBUF_STATE_POISONED,
            false => 0,
        },
        attachment_size: arg.attachment_size,
        attachment_array: arg.attachment_array,
        ..Default::default()
    };
    let mut list = KVec::new();
    if array.is_some() {
        // More of them may come before the lock is held: those are left out.
        let room = usize::try_from(arg.attachment_room)?;
        let now = buffer.lock()?.attachments().count();
        list.reserve(room.min(now), GFP_KERNEL_ACCOUNT)?;
    }
    {
        // Not held over the copy to user space, which may fault on a mapping of this very buffer.
        let mut locked = buffer.lock()?;
        describe(&mut locked.as_mut(), &mut out, &mut list);
    }
    if let Some(array) = array {
        array.write(&list)?;
    }
    user.write(&out)
}

/// What has to be asked under the lock. `list`: as many attachments as it has room for.
fn describe(
    locked: &mut LockedMut<'_, '_, CohBuf>,
    out: &mut cohbuf_info,
    list: &mut KVec<cohbuf_attachment>,
) {
    maintenance::forget_dead(locked);
    for attachment in locked.attachments() {
        let one = describe_attachment(attachment);
        out.attachments += 1;
        out.mappings += one.mappings;
        out.bounced += one.bounced;
        if list.push_within_capacity(one).is_ok() {
            out.attachment_room += 1;
        }
    }
    out.write_windows = u32::try_from(locked.state().windows.count()).unwrap_or(u32::MAX);
    if maintenance::tracks_pages(locked) {
        out.state |= COHBUF_STATE_TRACKS_PAGES;
    }
    let cost = locked.state().cost();
    out.bytes_cleaned = cost.cleaned;
    out.bytes_invalidated = cost.invalidated;
    out.bytes_to_copies = cost.to_copies;
    out.bytes_from_copies = cost.from_copies;
    out.bytes_own_ops = cost.own_ops;
    out.bytes_saved = cost.saved;
}

fn describe_attachment(attachment: Attachment<'_, CohBuf>) -> cohbuf_attachment {
    let mut one = cohbuf_attachment {
        reach: REACH_NONE,
        ..Default::default()
    };
    copy_name(&mut one.device, attachment.device().name());
    copy_name(&mut one.driver, device::driver_name(attachment.device()));
    if coherency::is_dma_coherent(attachment.device()) {
        one.flags |= COHBUF_ATTACHMENT_COHERENT;
    }
    if attachment.data().is_on() {
        one.flags |= COHBUF_ATTACHMENT_AUTOFENCE;
    }
    if attachment.is_dynamic() {
        one.flags |= COHBUF_ATTACHMENT_DYNAMIC;
    }
    for (mapping, _) in attachment.mappings() {
        one.mappings += 1;
        one.bounced += u32::from(mapping.is_bounced());
        one.reach = match maintenance::reach_of(mapping) {
            Reach::Snooping => REACH_SNOOPING,
            Reach::Direct => REACH_DIRECT,
            Reach::Iommu => REACH_IOMMU,
            Reach::Bounced => REACH_BOUNCED,
            Reach::PartlyBounced => REACH_PARTLY_BOUNCED,
            Reach::Unknown(_) => REACH_UNKNOWN,
        };
    }
    one
}

/// Cuts what does not fit; the last byte stays 0.
fn copy_name(to: &mut [u8], name: &CStr) {
    let room = to.len() - 1;
    for (to, from) in to.iter_mut().take(room).zip(name.to_bytes()) {
        *to = *from;
    }
}

/// The layout that an ioctl names.
///
/// # Errors
///
/// [`EINVAL`] where it is not known.
pub(crate) fn layout_of(layout: u32) -> Result<Layout> {
    match layout {
        LAYOUT_WHOLE => Ok(Layout::Whole),
        LAYOUT_1D => Ok(Layout::Linear),
        LAYOUT_2D => Ok(Layout::Rows),
        _ => Err(EINVAL),
    }
}

/// The region that an ioctl names, of a buffer of `size` bytes.
///
/// # Errors
///
/// [`EINVAL`] where it is none, or one of too many rows.
pub(crate) fn region(
    layout: u32,
    offset: u64,
    length: u64,
    stride: u64,
    rows: u64,
    size: usize,
) -> Result<Region> {
    let region = Region::new(layout_of(layout)?, offset, length, stride, rows, size);
    // Rows are walked under the reservation lock.
    region
        .ok()
        .filter(|region| region.height() <= MOST_ROWS)
        .ok_or(EINVAL)
}

fn sync(user: &UserStruct) -> Result {
    let mut arg: cohbuf_sync = user.read()?;
    let (access, ends) = CpuAccess::from_sync_flags(arg.flags)?;
    let buf = DmaBuf::from_fd(arg.fd)?;
    let buffer = buf.exported_by::<CohBuf>().ok_or(EMEDIUMTYPE)?;
    let region = region(
        arg.layout,
        arg.offset,
        arg.length,
        arg.stride,
        arg.rows,
        buf.size(),
    )?;
    let cost = if ends {
        CohBuf::end(buffer, access, &region)?
    } else {
        CohBuf::begin(buffer, access, &region)?
    };
    arg.cleaned = cost.cleaned;
    arg.invalidated = cost.invalidated;
    arg.to_copies = cost.to_copies;
    arg.from_copies = cost.from_copies;
    arg.own_ops = cost.own_ops;
    arg.saved = cost.saved;
    user.write(&arg)
}
