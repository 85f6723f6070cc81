// SPDX-License-Identifier: GPL-2.0

//! User space mappings that get their pages when they are accessed.

use core::ops::Range;

use kernel::{
    mm::Mm,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

use crate::{
    bindings,
    exporter::{
        Buffer,
        Exporter,
        LockedMut, //
    }, //
};

/// How many bytes one fault maps at most: those around the page, aligned.
const AROUND: usize = 16 * PAGE_SIZE;

/// When a mapping into user space gets its pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Populate {
    /// All of them by mmap(2). They stay.
    AtMmap {
        /// Whether it matters which of them are written:
        /// [`WrittenPages`](crate::WrittenPages). All count as written otherwise, which can save
        /// a fault for each.
        recorded: bool,
    },
    /// Each when it is accessed: [`Exporter::fault`]. [`Locked::zap`](crate::Locked::zap) takes
    /// them away again. A child that a process forks begins with none.
    ByFault,
}

/// An access to a page that is not mapped, or not to be written.
pub struct Fault<'a> {
    mm: &'a Mm,
    page: Range<usize>,
    around: Range<usize>,
    write: bool,
}

impl Fault<'_> {
    /// Whose mapping it is. The task that runs may be another, of the kernel.
    pub fn mm(&self) -> &Mm {
        self.mm
    }

    /// The page, as bytes of the buffer.
    pub fn page(&self) -> Range<usize> {
        self.page.clone()
    }

    /// What could be mapped with it at little cost: bytes of the buffer, whole pages.
    pub fn around(&self) -> Range<usize> {
        self.around.clone()
    }

    /// Whether it is a write.
    pub fn is_write(&self) -> bool {
        self.write
    }
}

/// What becomes of a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The page is mapped to be read, and so are those of the bytes that are in
    /// [`Fault::around`] and not mapped. For a read.
    Read(Range<usize>),
    /// The same, to be written as far as the mapping allows that.
    Write(Range<usize>),
    /// SIGBUS, or `EFAULT` where a system call accesses it.
    Refuse,
}

/// Writes the log line of an access that it should not have been: comm and pid of the task that
/// runs, offset, name of the buffer, and its number, see [`Buffer::id`].
///
/// Rate limited, as anybody who may map the buffer could fill the log otherwise.
pub fn notice_outside<T: Exporter>(buffer: Buffer<'_, T>, fault: &Fault<'_>) {
    let name = T::NAME.as_char_ptr();
    // SAFETY: A valid dma-buf by its type; the name ends in NUL, and is static.
    unsafe {
        bindings::cohbuf_rs_notice_outside(buffer.as_raw(), name, fault.page.start, fault.write)
    };
}

/// Handles a fault of a VMA.
///
/// # Safety
///
/// Called from a fault handler for a VMA that maps the buffer by fault, with the mmap lock.
pub(crate) unsafe fn serve<T: Exporter>(
    locked: &mut LockedMut<'_, '_, T>,
    vmf: *mut bindings::vm_fault,
) -> bindings::vm_fault_t {
    // SAFETY: `vmf` is that of the handler, and nobody changes the VMA under the mmap lock.
    let (vma, pgoff, addr, flags, start, end) = unsafe {
        let at = &(*vmf).__bindgen_anon_1;
        let range = &(*at.vma).__bindgen_anon_1.__bindgen_anon_1;
        (
            at.vma,
            at.pgoff,
            at.address,
            (*vmf).flags,
            range.vm_start,
            range.vm_end,
        )
    };
    let pages = locked.buffer().pages();
    // mmap has checked that the VMA is inside of the buffer, so that nothing overflows.
    let offset = pgoff << PAGE_SHIFT;
    let first = offset - (addr - start);
    let last = first + (end - start);
    let block = offset & !(AROUND - 1);
    let fault = Fault {
        // SAFETY: The VMA is part of a valid address space.
        mm: unsafe { Mm::from_raw((*vma).vm_mm) },
        page: offset..offset + PAGE_SIZE,
        around: block.max(first)..(block + AROUND).min(last),
        write: flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0,
    };

    let (bytes, writable) = match T::fault(locked, &fault) {
        Verdict::Read(bytes) => (bytes, false),
        Verdict::Write(bytes) => (bytes, true),
        Verdict::Refuse => return bindings::vm_fault_reason_VM_FAULT_SIGBUS,
    };
    let insert = |offset: usize, dirty| {
        let Some(page) = pages.page(offset >> PAGE_SHIFT) else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };
        // SAFETY: `first..last` is what the VMA maps, so that the address is one of it. The page
        // outlives the VMA, whose file keeps the buffer. The mmap lock is held.
        unsafe {
            bindings::cohbuf_rs_insert_page(vma, start + (offset - first), page, writable, dirty)
        }
    };
    if flags & bindings::fault_flag_FAULT_FLAG_MKWRITE != 0 {
        // Not left to the core, which makes the page writable after the lock was dropped: it could
        // have been taken away, and mapped to be read, meanwhile.
        // SAFETY: The page is in the VMA, and the mmap lock is held.
        unsafe { bindings::zap_special_vma_range(vma, addr, PAGE_SIZE) };
    }
    let result = insert(offset, fault.write);
    if result == bindings::vm_fault_reason_VM_FAULT_NOPAGE {
        let from = bytes.start.max(fault.around.start) & !(PAGE_SIZE - 1);
        for other in (from..bytes.end.min(fault.around.end)).step_by(PAGE_SIZE) {
            // What fails is mapped when it is accessed.
            if other != offset && insert(other, false) != result {
                break;
            }
        }
    }
    result
}
