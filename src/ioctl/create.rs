// SPDX-License-Identifier: GPL-2.0

//! Buffers on request: `COHBUF_IOCTL_CREATE`.

use dma_buf::{
    uaccess::UserStruct,
    uapi::{
        cohbuf_create,
        COHBUF_COHERENT,
        COHBUF_CONTIGUOUS,
        COHBUF_ENFORCE_POISON,
        COHBUF_ENFORCE_REPORT,
        COHBUF_TRACK_DIRTY,
        COHBUF_WRITE_COMBINE, //
    },
    DmaBuf, //
};
use kernel::{
    fs::file::{
        flags::{
            O_ACCMODE,
            O_CLOEXEC,
            O_RDONLY,
            O_RDWR, //
        },
        FileDescriptorReservation, //
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
    policy::{
        Enforce,
        Kind, //
    }, //
};

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

/// Each flag, and its name without the prefix.
pub(crate) const FLAGS: [(u32, &str); 6] = [
    (COHBUF_COHERENT, "COHERENT"),
    (COHBUF_WRITE_COMBINE, "WRITE_COMBINE"),
    (COHBUF_CONTIGUOUS, "CONTIGUOUS"),
    (COHBUF_TRACK_DIRTY, "TRACK_DIRTY"),
    (COHBUF_ENFORCE_REPORT, "ENFORCE_REPORT"),
    (COHBUF_ENFORCE_POISON, "ENFORCE_POISON"),
];

/// The flags that make such a buffer.
pub(crate) fn flags_of(made_for: Purpose) -> u32 {
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
    CohBuf::export(buffer_size(size, super::max_size())?, purpose, fd_flags)
}

/// `COHBUF_IOCTL_CREATE`.
pub(super) fn ioctl(user: &UserStruct) -> Result {
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
