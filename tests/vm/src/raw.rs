// SPDX-License-Identifier: GPL-2.0

//! All unsafe code of the tests: system calls as a hostile program makes them.

#![allow(unsafe_code)]

use core::ffi::c_void;
use core::ptr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use cohbuf::Errno;

fn check(result: libc::c_long) -> Result<i32, Errno> {
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(result as i32)
}

/// An ioctl number: read and write, so many bytes.
pub(crate) const fn iowr(group: u8, number: u8, bytes: usize) -> u32 {
    (3 << 30) | ((bytes as u32) << 16) | ((group as u32) << 8) | number as u32
}

/// The same with another size.
pub(crate) const fn resized(command: u32, bytes: usize) -> u32 {
    (command & !(0x3fff << 16)) | ((bytes as u32) << 16)
}

/// An ioctl on bytes, of which there must be as many as its number says.
pub(crate) fn ioctl(fd: impl AsFd, command: u32, bytes: &mut [u8]) -> Result<i32, Errno> {
    assert!(bytes.len() >= ((command >> 16) & 0x3fff) as usize);
    let argument = bytes.as_mut_ptr();
    // SAFETY: the kernel touches as many bytes as the number says, which are
    // there. Commands with addresses in them are made by functions below, or
    // by safe code with addresses that are bad on purpose.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command as _, argument) }.into())
}

/// An ioctl on an address where nothing is.
pub(crate) fn ioctl_bad_address(fd: impl AsFd, command: u32) -> Result<i32, Errno> {
    // SAFETY: page 0 is never mapped, so the kernel can only fail.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command as _, 8_usize) }.into())
}

/// The same with a number for an argument, of an ioctl that takes no address.
pub(crate) fn ioctl_fd_value(fd: impl AsFd, command: u32, value: usize) -> Result<i32, Errno> {
    // SAFETY: for the ioctls used with this, the argument is a number.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command as _, value) }.into())
}

/// An ioctl on bytes that the kernel can read, but not write back.
pub(crate) fn ioctl_read_only(fd: impl AsFd, command: u32, bytes: &[u8]) -> Result<i32, Errno> {
    let page = Map::anonymous(4096)?;
    page.write(0, bytes);
    page.protect(libc::PROT_READ)?;
    // SAFETY: the page lives until the end of this function, and nobody in this
    // process has a reference into it.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command as _, page.start) }.into())
}

/// Takes a file descriptor that an ioctl has just made.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    assert!(fd > 2);
    // SAFETY: the callers give what the kernel installed for them.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A mapping, which may have been cut by `cut`.
pub(crate) struct Map {
    start: *mut c_void,
    len: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; no reference into it
// is ever made, and every value of a byte is valid.
unsafe impl Sync for Map {}

impl Map {
    pub(crate) fn new(
        fd: impl AsFd,
        len: usize,
        protection: i32,
        flags: i32,
        offset: i64,
    ) -> Result<Self, Errno> {
        let fd = fd.as_fd().as_raw_fd();
        Self::any(fd, len, protection, flags, offset)
    }

    pub(crate) fn anonymous(len: usize) -> Result<Self, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Self::any(-1, len, libc::PROT_READ | libc::PROT_WRITE, flags, 0)
    }

    fn any(fd: RawFd, len: usize, protection: i32, flags: i32, offset: i64) -> Result<Self, Errno> {
        assert!(flags & libc::MAP_FIXED == 0);
        // SAFETY: without MAP_FIXED the kernel picks a range that is free.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            check(-1)?;
        }
        Ok(Self { start, len })
    }

    /// One that begins at a multiple of `align`, where memory that is contiguous may be mapped so.
    pub(crate) fn aligned(
        fd: impl AsFd,
        len: usize,
        protection: i32,
        align: usize,
    ) -> Result<Self, Errno> {
        let place = Self::anonymous(len + align)?;
        let head = place.start.addr().next_multiple_of(align) - place.start.addr();
        let start = place.at(head, len).cast::<c_void>();
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: the range is ours, and no reference into it exists.
        let mapped =
            unsafe { libc::mmap(start, len, protection, flags, fd.as_fd().as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED {
            check(-1)?;
        }
        for (from, len) in [(0, head), (head + len, align - head)] {
            if len > 0 {
                place.cut(from, len)?;
            }
        }
        core::mem::forget(place);
        Ok(Self { start, len })
    }

    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset);
        self.start.cast::<u8>().wrapping_add(offset)
    }

    /// The range must be mapped, and writable.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: `at` checked the range; nobody holds a reference into it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// One byte, as it is now. It must be mapped, and readable.
    pub(crate) fn byte(&self, offset: usize) -> u8 {
        let from = self.at(offset, 1);
        // SAFETY: `at` checked the range; nobody holds a reference into it.
        unsafe { from.read_volatile() }
    }

    /// The byte must be mapped, and writable.
    pub(crate) fn put(&self, offset: usize, byte: u8) {
        let to = self.at(offset, 1);
        // SAFETY: `at` checked the range; nobody holds a reference into it.
        unsafe { to.write_volatile(byte) };
    }

    pub(crate) fn protect(&self, protection: i32) -> Result<(), Errno> {
        // SAFETY: the range is ours; no reference into it exists.
        check(unsafe { libc::mprotect(self.start, self.len, protection) }.into()).map(drop)
    }

    /// Changes the protection of a part.
    pub(crate) fn protect_part(
        &self,
        offset: usize,
        len: usize,
        protection: i32,
    ) -> Result<(), Errno> {
        let from = self.at(offset, len).cast();
        // SAFETY: the range is ours; no reference into it exists.
        check(unsafe { libc::mprotect(from, len, protection) }.into()).map(drop)
    }

    /// Moves a part to a place that was free. It must not be read or written here any more.
    pub(crate) fn move_part(&self, offset: usize, len: usize) -> Result<Self, Errno> {
        let from = self.at(offset, len).cast();
        let place = Self::anonymous(len)?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both ranges are ours, and no reference into either exists; the
        // kernel replaces what is mapped at `place`.
        let start = unsafe { libc::mremap(from, len, len, flags, place.start) };
        if start == libc::MAP_FAILED {
            check(-1)?;
        }
        Ok(place)
    }

    /// Unmaps a part. It must not be read or written any more.
    pub(crate) fn cut(&self, offset: usize, len: usize) -> Result<(), Errno> {
        let from = self.at(offset, len);
        // SAFETY: the range is ours; no reference into it exists.
        check(unsafe { libc::munmap(from.cast(), len) }.into()).map(drop)
    }

    /// write(2) of a part of it: how many bytes the kernel could read.
    pub(crate) fn send(&self, offset: usize, len: usize, to: impl AsFd) -> Result<usize, Errno> {
        let from = self.at(offset, len).cast();
        // SAFETY: `at` checked the range; the kernel fails where it is not mapped.
        let sent = unsafe { libc::write(to.as_fd().as_raw_fd(), from, len) };
        check(sent as libc::c_long).map(|sent| sent as usize)
    }

    /// read(2) into a part of it: how many bytes the kernel could write.
    pub(crate) fn receive(
        &self,
        offset: usize,
        len: usize,
        from: impl AsFd,
    ) -> Result<usize, Errno> {
        let to = self.at(offset, len).cast();
        // SAFETY: `at` checked the range; nobody holds a reference into it.
        let got = unsafe { libc::read(from.as_fd().as_raw_fd(), to, len) };
        check(got as libc::c_long).map(|got| got as usize)
    }

    /// vmsplice(2) of a part of it: how many bytes of it the pipe has references to the pages of.
    pub(crate) fn give(&self, offset: usize, len: usize, to: impl AsFd) -> Result<usize, Errno> {
        let part = libc::iovec {
            iov_base: self.at(offset, len).cast(),
            iov_len: len,
        };
        // SAFETY: `at` checked the range, of which the kernel reads only; `part` is valid.
        let given = unsafe { libc::vmsplice(to.as_fd().as_raw_fd(), &raw const part, 1, 0) };
        check(given as libc::c_long).map(|given| given as usize)
    }

    /// madvise(2) of all of it, with an advice that throws nothing away which tests rely on.
    pub(crate) fn advise(&self, advice: i32) -> Result<(), Errno> {
        // SAFETY: the range is ours; no reference into it exists.
        check(unsafe { libc::madvise(self.start, self.len, advice) }.into()).map(drop)
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> usize {
        self.start.addr()
    }

    /// Moves it to a place that was free.
    pub(crate) fn move_elsewhere(&mut self) -> Result<(), Errno> {
        let place = Self::anonymous(self.len)?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both ranges are ours, and no reference into either exists; the
        // kernel replaces what is mapped at `place`.
        let start = unsafe { libc::mremap(self.start, self.len, self.len, flags, place.start) };
        if start == libc::MAP_FAILED {
            check(-1)?;
        }
        // It is ours by another name now.
        core::mem::forget(place);
        self.start = start;
        Ok(())
    }

    /// Moves or resizes it, as the kernel likes.
    pub(crate) fn remap(&mut self, len: usize) -> Result<(), Errno> {
        // SAFETY: the range is ours; no reference into it exists.
        let start = unsafe { libc::mremap(self.start, self.len, len, libc::MREMAP_MAYMOVE) };
        if start == libc::MAP_FAILED {
            check(-1)?;
        }
        self.start = start;
        self.len = len;
        Ok(())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and parts that were cut are not in use by
        // others: the tests run one after the other and map nothing meanwhile.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// `_IOC()` of the kernel.
pub(crate) const fn ioc(direction: u32, group: u8, number: u32, bytes: usize) -> u32 {
    (direction << 30) | ((bytes as u32) << 16) | ((group as u32) << 8) | number
}

pub(crate) const WRITE: u32 = 1;
pub(crate) const READ_WRITE: u32 = 3;

/// The file descriptor that an ioctl wrote at an offset of its bytes.
pub(crate) fn take_fd(bytes: &[u8], at: usize) -> OwnedFd {
    let fd = i32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    own(fd)
}

/// A forked child that has not been waited for.
pub(crate) struct Child(libc::pid_t);

/// Runs a function in a forked child, whose exit status it makes. It must not
/// allocate.
pub(crate) fn fork(run: impl FnOnce() -> i32) -> Result<Child, Errno> {
    // SAFETY: the child only runs `run`, then ends without running destructors.
    let pid = check(unsafe { libc::fork() }.into())?;
    if pid == 0 {
        let status = run();
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    Ok(Child(pid))
}

impl Child {
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Errno> {
        // SAFETY: the child is ours, and has not been waited for.
        check(unsafe { libc::kill(self.0, signal) }.into()).map(drop)
    }

    fn wait_with(&self, flags: i32) -> Result<Option<i32>, Errno> {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = check(unsafe { libc::waitpid(self.0, &raw mut status, flags) }.into())?;
        Ok((pid != 0).then_some(status))
    }

    /// Its wait status, if it has ended.
    pub(crate) fn poll(&self) -> Result<Option<i32>, Errno> {
        self.wait_with(libc::WNOHANG)
    }

    pub(crate) fn wait(self) -> Result<i32, Errno> {
        Ok(self.wait_with(0)?.unwrap_or_default())
    }
}

/// Gives up all privileges. In a process of one thread.
pub(crate) fn become_user(uid: libc::uid_t) -> Result<(), Errno> {
    // SAFETY: there is no other thread that it would not reach.
    check(unsafe { libc::setresuid(uid, uid, uid) }.into()).map(drop)
}

pub(crate) fn delete_module(name: &core::ffi::CStr) -> Result<(), Errno> {
    // SAFETY: the name ends in NUL.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    check(result).map(drop)
}

pub(crate) fn load_module(file: impl AsFd) -> Result<(), Errno> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the parameters end in NUL.
    check(unsafe { libc::syscall(libc::SYS_finit_module, fd, c"".as_ptr(), 0) }).map(drop)
}

extern "C" fn do_nothing(_signal: i32) {}

/// Lets SIGUSR1 interrupt a system call of this process, and do nothing else.
pub(crate) fn let_signal_interrupt() -> Result<(), Errno> {
    // SAFETY: all zero is a valid sigaction: no flags, thus no SA_RESTART.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = do_nothing as extern "C" fn(i32) as usize;
    // SAFETY: the handler touches nothing, and the old action is not asked for.
    check(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()) }.into())
        .map(drop)
}

/// `COHBUF_IOCTL_COPY`.
pub(crate) const COPY: u32 = iowr(b'C', 0xb4, size_of::<cohbuf::uapi::Copy>());

pub(crate) fn copy(device: impl AsFd, arg: &mut cohbuf::uapi::Copy) -> Result<(), Errno> {
    let fd = device.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes one such structure, which is there.
    check(unsafe { libc::ioctl(fd, COPY as _, arg) }.into()).map(drop)
}

/// Sends SIGUSR1 to the calling thread, over and over, while `run` runs.
pub(crate) fn pestered<R>(run: impl FnOnce() -> R) -> Result<R, Errno> {
    use std::sync::atomic::{AtomicBool, Ordering};
    let_signal_interrupt()?;
    let process = std::process::id();
    // SAFETY: takes nothing, and always succeeds.
    let thread = unsafe { libc::gettid() };
    let over = AtomicBool::new(false);
    Ok(std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(1));
                // SAFETY: takes numbers only; the thread waits for this one.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            }
        });
        let result = run();
        over.store(true, Ordering::Relaxed);
        result
    }))
}

/// What a process exits with that got SIGBUS after [`catch_sigbus`].
pub(crate) const CAUGHT: i32 = 77;

extern "C" fn exit_caught(_signal: i32) {
    // SAFETY: ends the process, and may be called in a signal handler.
    unsafe { libc::_exit(CAUGHT) };
}

/// Lets SIGBUS end this process with [`CAUGHT`].
pub(crate) fn catch_sigbus() -> Result<(), Errno> {
    // SAFETY: all zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = exit_caught as extern "C" fn(i32) as usize;
    // SAFETY: the handler calls one function, which is safe in handlers.
    check(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) }.into())
        .map(drop)
}
