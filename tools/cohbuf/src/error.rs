// SPDX-License-Identifier: GPL-2.0

//! Errors that say what to do.

use rustix::io::Errno;

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Operation {
    /// Opening the device file.
    #[error("open {}", crate::Device::PATH)]
    Open,
    /// Asking what the driver can do.
    #[error("read the driver's capabilities")]
    Caps,
    /// Making a buffer.
    #[error("create a buffer")]
    Create,
    /// Asking what is known of a buffer.
    #[error("read what is known of the buffer")]
    Info,
    /// Asking how large a buffer is.
    #[error("find the size of the buffer")]
    Size,
    /// Mapping a buffer for the CPU.
    #[error("map the buffer")]
    Map,
    /// Reading or writing through a mapping.
    #[error("access the mapping")]
    Access,
    /// Opening a window of CPU access.
    #[error("begin CPU access")]
    Begin,
    /// Closing a window of CPU access.
    #[error("end CPU access")]
    End,
    /// Copying from a buffer to another.
    #[error("copy from buffer to buffer")]
    Copy,
    /// Sharing a buffer with an importer.
    #[error("share the buffer")]
    Share,
    /// Naming a buffer.
    #[error("name the buffer")]
    Name,
    /// Making a buffer of udmabuf.
    #[error("create a udmabuf")]
    Udmabuf,
    /// Opening a DRM device.
    #[error("open the DRM device")]
    Drm,
}

/// An operation that failed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation}: {errno}{}", hint_suffix(*.operation, *.errno))]
pub struct Error {
    operation: Operation,
    errno: Errno,
}

/// The result of this crate's functions.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(operation: Operation, errno: Errno) -> Self {
        Self { operation, errno }
    }

    /// What was tried.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// What the kernel answered.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// What to do about it, where that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        hint(self.operation, self.errno)
    }
}

/// For `map_err`: names the operation that an errno came from.
pub(crate) fn during(operation: Operation) -> impl Fn(Errno) -> Error {
    move |errno| Error::new(operation, errno)
}

fn hint(operation: Operation, errno: Errno) -> Option<&'static str> {
    use Operation as Op;
    Some(match (operation, errno) {
        (Op::Open, Errno::NOENT) => "is the module loaded? try: modprobe cohbuf",
        (Op::Open | Op::Udmabuf | Op::Drm, Errno::ACCESS | Errno::PERM) => {
            "run as root, or let your group have the device file"
        }
        (Op::Open, Errno::NOTTY | Errno::INVAL) => "the file is not /dev/cohbuf",
        (Op::Drm, Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
            "is its driver loaded? see /sys/class/drm, and whether you may open /dev/dri/card*"
        }
        (Op::Drm, Errno::NOTTY | Errno::INVAL) => "the file is not that of a DRM device",
        (Op::Udmabuf, Errno::NOTTY) => "the file descriptor is not of /dev/udmabuf",
        (Op::Name, Errno::NOTTY) => "the file descriptor is not a dma-buf",
        // The ioctl is one of the dma-buf's, or, for a region, one of the driver's.
        (Op::Begin | Op::End, Errno::NOTTY) => {
            "the file descriptor is not a dma-buf, or the driver is older than this library"
        }
        (_, Errno::NOTTY) => "the driver is older than this library: update the module",
        (Op::Map | Op::Begin | Op::End | Op::Copy | Op::Share, Errno::IO) => {
            "the buffer may be poisoned, by an access outside of a window (see cohbufctl info)"
        }
        (Op::Create, Errno::OPNOTSUPP) => {
            "memory cannot be write-combined here, or the flags do not go together"
        }
        (Op::Create, Errno::INVAL) => {
            "the size must be above 0, and the driver must know each flag (see caps)"
        }
        (Op::Create, Errno::OVERFLOW) => "the size is larger than any address space",
        (Op::Create, Errno::FBIG) => {
            "the size is above the limit: see the module parameter max_size_mb"
        }
        (Op::Create | Op::Udmabuf, Errno::NOMEM) => {
            "free memory, or raise memory.max of the memory cgroup that this runs in"
        }
        (Op::Create, Errno::MFILE) => "close files, or raise the limit (ulimit -n)",
        (Op::Create, Errno::NFILE) => "the system has no file left: see /proc/sys/fs/file-max",
        (Op::Info, Errno::BADF) => "the file descriptor is not open",
        (Op::Info | Op::Size, Errno::INVAL | Errno::SPIPE) => {
            "the file descriptor is not a dma-buf"
        }
        (Op::Begin | Op::End, Errno::INVAL) => {
            "the file descriptor is not a dma-buf, or the region is empty, not inside of it, or of \
             more than 32768 rows"
        }
        (Op::Info, Errno::MEDIUMTYPE) => "the dma-buf was made by another exporter",
        (Op::Begin | Op::End, Errno::MEDIUMTYPE) => {
            "the dma-buf was made by another exporter: only the whole of it can be synced"
        }
        (Op::Begin | Op::Copy, Errno::NOSPC) => {
            "windows of too many different regions, or rows, are open: end some, or take all of it"
        }
        (Op::Begin, Errno::NOMEM) => "free memory: a window needs some",
        (Op::Copy, Errno::BADF) => "a file descriptor is not open",
        (Op::Copy, Errno::ACCESS) => {
            "the source must be open to be read, the destination to be written"
        }
        (Op::Copy, Errno::INVAL) => {
            "a file descriptor is not a dma-buf, or a region is empty or not inside of its buffer"
        }
        (Op::Copy, Errno::OPNOTSUPP) => {
            "the exporter of one of the buffers cannot map it for the kernel"
        }
        (Op::Copy, Errno::NOMEM) => "free memory: a buffer could not be mapped",
        (Op::Udmabuf, Errno::NOENT) => "is the module loaded? try: modprobe udmabuf",
        (Op::Udmabuf, Errno::INVAL) => {
            "the size is 0 or above the limit: see the module parameter size_limit_mb of udmabuf"
        }
        (Op::Begin | Op::End, Errno::BADF) => "the file descriptor is not open",
        (Op::Map, Errno::ACCESS) => "the file descriptor is read-only: map it read-only",
        (Op::Map, Errno::INVAL) => {
            "offset must be a multiple of the page size, and the range lie in the buffer"
        }
        (Op::Name, Errno::INVAL) => "a name has at most 31 bytes, none of them NUL",
        (Op::Access | Op::Begin, Errno::RANGE) => "the bytes are not all inside of the mapping",
        (Op::Access, Errno::BUSY) => {
            "a window of this process hands out a slice of the same bytes: end it first"
        }
        (Op::Begin | Op::Copy, Errno::BUSY) => {
            "a window of this process hands out a slice of bytes that this may change: end it first"
        }
        (Op::Begin, Errno::ACCESS) => "the view is read-only",
        (Op::Access, Errno::ACCESS) => "the mapping is read-only",
        _ => return None,
    })
}

fn hint_suffix(operation: Operation, errno: Errno) -> String {
    hint(operation, errno).map_or_else(String::new, |hint| format!(" ({hint})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_operation_errno_and_hint() {
        let text = Error::new(Operation::Create, Errno::FBIG).to_string();
        assert!(text.starts_with("cannot create a buffer: "), "{text}");
        assert!(
            text.ends_with("(the size is above the limit: see the module parameter max_size_mb)"),
            "{text}"
        );
    }

    #[test]
    fn a_dma_buf_that_is_none_is_not_an_old_driver() {
        let hint = |operation| Error::new(operation, Errno::NOTTY).hint().unwrap();
        for operation in [Operation::Begin, Operation::End, Operation::Name] {
            let hint = hint(operation);
            assert!(hint.contains("is not a dma-buf"), "{operation}: {hint}");
        }
        for operation in [Operation::Caps, Operation::Create, Operation::Copy] {
            let hint = hint(operation);
            assert!(hint.contains("update the module"), "{operation}: {hint}");
        }
    }

    #[test]
    fn who_may_not_open_is_told_what_to_do() {
        for operation in [Operation::Open, Operation::Udmabuf, Operation::Drm] {
            let hint = |errno| Error::new(operation, errno).hint().unwrap_or("nothing");
            let (absent, locked) = (hint(Errno::NOENT), hint(Errno::ACCESS));
            assert!(absent.contains("loaded?"), "{operation}: {absent}");
            assert!(locked.contains("run as root"), "{operation}: {locked}");
        }
    }

    #[test]
    fn display_without_hint_ends_with_errno() {
        let error = Error::new(Operation::Begin, Errno::NXIO);
        assert_eq!(error.hint(), None);
        assert_eq!(
            error.to_string(),
            format!("cannot begin CPU access: {}", Errno::NXIO)
        );
    }
}
