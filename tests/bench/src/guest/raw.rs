// SPDX-License-Identifier: GPL-2.0

//! All unsafe code: the clock, system calls without a library around them, and the memory that
//! they map.

#![allow(unsafe_code)]

use core::arch::asm;
use std::io;

use super::check;

/// Instructions since the guest was started.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: reads a counter, which the kernel leaves open to user space.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Instructions since the guest was started, where the counter runs at 1 GHz.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn now() -> u64 {
    let count;
    // SAFETY: reads a counter, which the kernel leaves open to user space.
    unsafe { asm!("mrs {}, cntvct_el0", out(reg) count, options(nostack)) };
    count
}

/// What the counter runs at, where it says so.
pub(crate) fn frequency() -> Option<u64> {
    #[cfg(target_arch = "aarch64")]
    {
        let hertz;
        // SAFETY: reads a register that is open to user space.
        unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack)) };
        Some(hertz)
    }
    #[cfg(target_arch = "x86_64")]
    None
}

/// A system call: two instructions in user space, the rest is the kernel's.
///
/// # Safety
///
/// As of that system call.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: by this function's own contract; the kernel clobbers rcx and r11 alone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _, options(nostack),
        );
    }
    result
}

/// A system call: two instructions in user space, the rest is the kernel's.
///
/// # Safety
///
/// As of that system call.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: by this function's own contract.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// ioctl(2). Of an error, its negative number.
#[inline(always)]
pub(crate) fn ioctl<T: Plain>(fd: i32, request: u32, arg: &mut T) -> isize {
    let arg = core::ptr::from_mut(arg).expose_provenance();
    // SAFETY: every ioctl of this bench reads or writes the one structure that its number says,
    // of which any bits are valid.
    unsafe {
        syscall(
            libc::SYS_ioctl,
            [fd as usize, request as usize, arg, 0, 0, 0],
        )
    }
}

/// Structures of integers.
pub(crate) trait Plain {}
impl Plain for cohbuf::uapi::DmaBufSync {}
impl Plain for cohbuf::uapi::RegionSync {}
impl Plain for cohbuf::uapi::Create {}
impl Plain for cohbuf_testdev::uapi::Attach {}
impl Plain for cohbuf_testdev::uapi::Map {}
impl Plain for u32 {}
impl Plain for super::exporters::HeapAllocation {}
impl Plain for super::exporters::UdmabufCreate {}

/// close(2).
#[inline(always)]
pub(crate) fn close(fd: i32) -> isize {
    // SAFETY: file descriptors of this bench are plain numbers, which nobody else closes.
    unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) }
}

/// The cheapest system call there is.
#[inline(always)]
pub(crate) fn getppid() -> isize {
    // SAFETY: takes nothing.
    unsafe { syscall(libc::SYS_getppid, [0; 6]) }
}

/// A memfd of that size which cannot shrink, as udmabuf wants it.
#[inline(always)]
pub(crate) fn sealed_memfd(size: u64) -> isize {
    let name = c"bench".as_ptr().expose_provenance();
    let flags = libc::MFD_ALLOW_SEALING as usize | libc::MFD_CLOEXEC as usize;
    // SAFETY: the name ends with NUL.
    let fd = unsafe { syscall(libc::SYS_memfd_create, [name, flags, 0, 0, 0, 0]) };
    // SAFETY: takes numbers only.
    unsafe {
        syscall(
            libc::SYS_ftruncate,
            [fd as usize, size as usize, 0, 0, 0, 0],
        )
    };
    let seal = [
        fd as usize,
        libc::F_ADD_SEALS as usize,
        libc::F_SEAL_SHRINK as usize,
        0,
        0,
        0,
    ];
    // SAFETY: takes numbers only.
    unsafe { syscall(libc::SYS_fcntl, seal) };
    fd
}

/// Where nothing is mapped, and a page table begins: how many of them a mapping needs must not depend
/// on chance (ASLR).
const PLACE: usize = 1 << 39;

/// Makes the tables above those of [`PLACE`], as a process has them where it maps anything: a page
/// beside, which stays.
pub(crate) fn prepare_place() -> io::Result<()> {
    let beside = PLACE + (1 << 30) - PAGE;
    let args = [
        beside,
        PAGE,
        (libc::PROT_READ | libc::PROT_WRITE) as usize,
        (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as usize,
        usize::MAX,
        0,
    ];
    // SAFETY: MAP_FIXED_NOREPLACE takes nothing away.
    check(unsafe { syscall(libc::SYS_mmap, args) })?;
    // SAFETY: it was just mapped, to be written, and belongs to nobody else.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(beside).write_volatile(1) };
    Ok(())
}

/// Memory of a file, shared.
pub(crate) struct Shared {
    start: *mut u32,
    size: usize,
}

impl Shared {
    /// Maps it, to read and to write.
    #[inline(always)]
    pub(crate) fn map(fd: i32, size: u64) -> io::Result<Self> {
        let size = size as usize;
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let args = [
            PLACE,
            size,
            protection,
            libc::MAP_SHARED as usize,
            fd as usize,
            0,
        ];
        // SAFETY: without MAP_FIXED the kernel picks a range that is free.
        let start = unsafe { syscall(libc::SYS_mmap, args) };
        if start < 0 && start > -4096 {
            check(start)?;
        }
        Ok(Self {
            start: core::ptr::with_exposed_provenance_mut(start as usize),
            size,
        })
    }

    /// Writes the first bytes of each page.
    #[inline(always)]
    pub(crate) fn touch(&self) {
        for page in 0..self.size / PAGE {
            let word = self.start.wrapping_add(page * PAGE / 4);
            // SAFETY: within the mapping, and aligned; nobody holds a reference into it.
            unsafe { word.write_volatile(1) };
        }
    }

    /// Writes some bytes, of a multiple of four.
    pub(crate) fn write(&self, offset: usize, len: usize) {
        assert!(offset % 4 == 0 && len % 4 == 0 && offset + len <= self.size);
        for word in offset / 4..(offset + len) / 4 {
            let word = self.start.wrapping_add(word);
            // SAFETY: within the mapping, by the assertion; nobody holds a reference into it.
            unsafe { word.write_volatile(1) };
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let args = [self.start.expose_provenance(), self.size, 0, 0, 0, 0];
        // SAFETY: the range is ours, and goes with this.
        unsafe { syscall(libc::SYS_munmap, args) };
    }
}

/// A page of this process, aligned.
#[derive(Clone)]
#[repr(C, align(4096))]
pub(crate) struct Page([u8; PAGE]);

impl Page {
    pub(crate) const ZERO: Self = Self([0; PAGE]);
}

/// Zeroes pages as the kernel's `clear_page()` does, in this process: what zeroing costs at least.
pub(crate) fn clear_pages(pages: &mut [Page]) {
    for page in pages {
        let start = page.0.as_mut_ptr();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: writes the page, which is borrowed for us alone.
        unsafe {
            asm!(
                "rep stosb",
                inout("rcx") PAGE => _, inout("rdi") start => _, in("al") 0u8,
                options(nostack, preserves_flags),
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above, by blocks of 64 bytes, which is what the CPU of the bench zeroes at a
        // time, up to the next multiple of the page size, as the page is aligned.
        unsafe {
            asm!(
                "2: dc zva, {at}", "add {at}, {at}, #64", "tst {at}, #0xfff", "b.ne 2b",
                at = inout(reg) start => _,
                options(nostack),
            );
        }
    }
}

pub(crate) const PAGE: usize = 4096;

/// The file descriptor of a buffer, for the library.
pub(crate) fn borrow(made: &super::exporters::Made) -> rustix::fd::BorrowedFd<'_> {
    // SAFETY: it is open for as long as `made` is there.
    unsafe { rustix::fd::BorrowedFd::borrow_raw(made.fd()) }
}

/// Lets this process have so many open files.
pub(crate) fn allow_files(count: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: count,
    };
    // SAFETY: reads the structure, which outlives the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
