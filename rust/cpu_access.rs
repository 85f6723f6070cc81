// SPDX-License-Identifier: GPL-2.0

//! CPU access by the kernel to a dma-buf of any exporter.
//!
//! C header: `include/linux/dma-buf.h`
//!
//! The kernel reads a buffer by a [`Reader`] and writes it by a [`Writer`]. Each stands for a
//! mapping of the buffer into the kernel between the begin and the end of CPU access: there is no
//! way to the bytes without both, and none that outlives them. What lies between begin and end is a
//! [`Bracket`]; that of the core, [`CoreBracket`], is right for every buffer.
//!
//! Others may write the memory at any time, so that no reference to it is given out: bytes are moved
//! from one buffer to another, or to a [`Scratch`] and back.
//!
//! None of the functions here may be called with the reservation lock of the buffer held.
//!
//! # Examples
//!
//! ```ignore
//! fn first_bytes(src: &DmaBuf, dst: &DmaBuf) -> Result {
//!     let from = Reader::begin(src, CoreBracket)?;
//!     let mut to = Writer::begin(dst, CoreBracket)?;
//!     let copied = to.copy(0, &from, 0, 16);
//!     // An end may fail, and what was written is not visible to devices then.
//!     let ended = to.end();
//!     from.end()?;
//!     copied.and(ended)
//! }
//! ```

use core::ptr::{
    self,
    NonNull, //
};

use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

use crate::{
    bindings,
    buf::DmaBuf,
    direction::CpuAccess,
    pages::Pages,
    vmap::KernelMapping, //
};

/// How CPU access to a buffer is begun and ended.
pub trait Bracket {
    /// Begins CPU access to `buf`.
    ///
    /// # Errors
    ///
    /// Nothing has been begun then.
    fn begin(&self, buf: &DmaBuf, access: CpuAccess) -> Result;

    /// Ends what [`Bracket::begin`] has begun, whether a signal is pending or not.
    ///
    /// # Errors
    ///
    /// What was written may not be visible to devices then.
    fn end(&self, buf: &DmaBuf, access: CpuAccess) -> Result;

    /// The pages of `buf`, where its exporter learns of all that is written from the bracket itself.
    /// They are mapped as they are then. [`None`]: the exporter maps them (`vmap`), and looks for
    /// what is written by that.
    fn pages(&self, buf: &DmaBuf) -> Option<Arc<Pages>> {
        let _ = buf;
        None
    }
}

/// The bracket of the core, around the whole buffer: `dma_buf_begin_cpu_access()` and
/// `dma_buf_end_cpu_access()`.
pub struct CoreBracket;

impl Bracket for CoreBracket {
    fn begin(&self, buf: &DmaBuf, access: CpuAccess) -> Result {
        // SAFETY: A valid dma-buf by its type; the caller does not hold the reservation lock.
        to_result(unsafe { bindings::dma_buf_begin_cpu_access(buf.as_raw(), access.into_raw()) })
    }

    fn end(&self, buf: &DmaBuf, access: CpuAccess) -> Result {
        // SAFETY: A valid dma-buf by its type; the caller does not hold the reservation lock.
        to_result(unsafe { bindings::cohbuf_rs_end_cpu_access(buf.as_raw(), access.into_raw()) })
    }
}

impl DmaBuf {
    /// Whether the file of the dma-buf may be read.
    pub fn is_readable(&self) -> bool {
        // SAFETY: A valid dma-buf by its type.
        unsafe { bindings::cohbuf_rs_is_readable(self.as_raw()) }
    }

    /// Whether the file of the dma-buf may be written.
    pub fn is_writable(&self) -> bool {
        // SAFETY: A valid dma-buf by its type.
        unsafe { bindings::cohbuf_rs_is_writable(self.as_raw()) }
    }

    /// Whether the exporter can map it into the kernel.
    pub fn can_vmap(&self) -> bool {
        // SAFETY: A valid dma-buf by its type, which has ops.
        unsafe { (*(*self.as_raw()).ops).vmap.is_some() }
    }

    /// Waits for the fences that a CPU access depends on, as [`Buffer::wait_fences`] does.
    ///
    /// [`Buffer::wait_fences`]: crate::Buffer::wait_fences
    ///
    /// # Errors
    ///
    /// [`ERESTARTSYS`] where a signal came.
    pub fn wait_fences(&self, access: CpuAccess) -> Result {
        // SAFETY: A valid dma-buf by its type, which has a reservation object.
        let left =
            unsafe { bindings::cohbuf_rs_resv_wait((*self.as_raw()).resv, access.writes(), true) };
        // CAST: An errno fits. What is not one is the time that was left.
        to_result(left.min(0) as c_int)
    }
}

/// A buffer that is mapped into the kernel between the begin and the end of CPU access.
///
/// # Invariants
///
/// While `open`, all of `buf` is mapped at `map`: by `own`, or else by `dma_buf_vmap_unlocked()`.
struct Window<'a, B: Bracket> {
    buf: &'a DmaBuf,
    bracket: B,
    access: CpuAccess,
    map: bindings::iosys_map,
    own: Option<KernelMapping>,
    open: bool,
}

impl<'a, B: Bracket> Window<'a, B> {
    fn open(buf: &'a DmaBuf, bracket: B, access: CpuAccess) -> Result<Self> {
        // Fences first: there are exporters that maintain, and wait after that.
        buf.wait_fences(access)?;
        // What the exporter refuses is not mapped.
        bracket.begin(buf, access)?;
        let mut map = bindings::iosys_map::default();
        let mapped = Self::map(buf, bracket.pages(buf), &mut map).inspect_err(|_| {
            // Nothing was written, so that nothing is missed where this fails.
            let _ = bracket.end(buf, access);
        });
        // INVARIANT: It was just mapped.
        Ok(Self {
            own: mapped?,
            buf,
            bracket,
            access,
            map,
            open: true,
        })
    }

    fn map(
        buf: &DmaBuf,
        pages: Option<Arc<Pages>>,
        map: &mut bindings::iosys_map,
    ) -> Result<Option<KernelMapping>> {
        let Some(pages) = pages else {
            // SAFETY: A valid dma-buf by its type; the caller does not hold the reservation lock.
            to_result(unsafe { bindings::dma_buf_vmap_unlocked(buf.as_raw(), map) })?;
            return Ok(None);
        };
        let mapping = KernelMapping::new(&pages)?;
        // SAFETY: `map` is ours.
        unsafe { bindings::cohbuf_rs_iosys_map_set_vaddr(map, mapping.addr()) };
        Ok(Some(mapping))
    }

    fn close(&mut self) -> Result {
        // INVARIANT: It is not open any more.
        self.open = false;
        // While it is mapped: an exporter may have to know that it is, to look for what was written.
        let ended = self.bracket.end(self.buf, self.access);
        if self.own.take().is_none() {
            // SAFETY: By the type invariant `map` is that of `buf`; this is called once for it. The
            // caller does not hold the reservation lock.
            unsafe { bindings::dma_buf_vunmap_unlocked(self.buf.as_raw(), &mut self.map) };
        }
        ended
    }

    /// # Errors
    ///
    /// [`EINVAL`] where not all of it is in the buffer.
    fn check(&self, offset: usize, len: usize) -> Result {
        inside(offset, len, self.buf.size())
    }
}

impl<B: Bracket> Drop for Window<'_, B> {
    fn drop(&mut self) {
        if self.open {
            // Who wants to know calls `end()`.
            let _ = self.close();
        }
    }
}

fn inside(offset: usize, len: usize, size: usize) -> Result {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(EINVAL),
    }
}

/// A buffer that the kernel reads. CPU access ends when it is dropped.
pub struct Reader<'a, B: Bracket>(Window<'a, B>);

impl<'a, B: Bracket> Reader<'a, B> {
    /// Waits for the fences of those that write the buffer, begins CPU access, and maps it.
    ///
    /// # Errors
    ///
    /// - [`ERESTARTSYS`] where a signal came while fences were waited for.
    /// - Those of `bracket`, and of the exporter's `vmap`.
    pub fn begin(buf: &'a DmaBuf, bracket: B) -> Result<Self> {
        Window::open(buf, bracket, CpuAccess::Read).map(Self)
    }

    /// Reads `len` bytes from `from` on into a scratch, from `at` on.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where not all of them are inside of the buffer and of the scratch.
    pub fn read(&self, from: usize, scratch: &mut Scratch, at: usize, len: usize) -> Result {
        self.0.check(from, len)?;
        inside(at, len, scratch.size)?;
        // SAFETY: By the type invariant all of the buffer is mapped, and both ranges were checked.
        unsafe { bindings::cohbuf_rs_iosys_read(scratch.at(at), &self.0.map, from, len) };
        Ok(())
    }

    /// Ends CPU access.
    ///
    /// # Errors
    ///
    /// See [`Bracket::end`].
    pub fn end(mut self) -> Result {
        self.0.close()
    }
}

/// A buffer that the kernel writes. CPU access ends when it is dropped.
///
/// Bytes that are not written stay as they are, also in cache lines of which others are.
pub struct Writer<'a, B: Bracket>(Window<'a, B>);

impl<'a, B: Bracket> Writer<'a, B> {
    /// Waits for the fences of all that use the buffer, begins CPU access, and maps it.
    ///
    /// # Errors
    ///
    /// As [`Reader::begin`].
    pub fn begin(buf: &'a DmaBuf, bracket: B) -> Result<Self> {
        Window::open(buf, bracket, CpuAccess::ReadWrite).map(Self)
    }

    /// Copies `len` bytes of `src` from `from` on, to `to` on, as `memmove()` does: `src` may be the
    /// same buffer.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where not all of them are inside of both buffers.
    pub fn copy<C: Bracket>(
        &mut self,
        to: usize,
        src: &Reader<'_, C>,
        from: usize,
        len: usize,
    ) -> Result {
        self.0.check(to, len)?;
        src.0.check(from, len)?;
        // One buffer that is mapped twice overlaps in one mapping alone.
        let src_map = match ptr::eq(self.0.buf, src.0.buf) {
            true => &self.0.map,
            false => &src.0.map,
        };
        // SAFETY: By the type invariants all of both buffers is mapped, and both ranges were
        // checked.
        unsafe { bindings::cohbuf_rs_iosys_move(&self.0.map, to, src_map, from, len) };
        Ok(())
    }

    /// Writes `len` bytes of a scratch from `at` on, to `to` on.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where not all of them are inside of the buffer and of the scratch.
    pub fn write(&mut self, to: usize, scratch: &Scratch, at: usize, len: usize) -> Result {
        self.0.check(to, len)?;
        inside(at, len, scratch.size)?;
        // SAFETY: By the type invariant all of the buffer is mapped, and both ranges were checked.
        unsafe { bindings::cohbuf_rs_iosys_write(&self.0.map, to, scratch.at(at), len) };
        Ok(())
    }

    /// Ends CPU access.
    ///
    /// # Errors
    ///
    /// See [`Bracket::end`].
    pub fn end(mut self) -> Result {
        self.0.close()
    }
}

/// Memory of the kernel's own, charged to the memory cgroup of the caller.
///
/// # Invariants
///
/// `memory` is `size` bytes of `kvmalloc()`, which nobody else has.
pub struct Scratch {
    memory: NonNull<c_void>,
    size: usize,
}

impl Scratch {
    /// Allocates `size` bytes, which are zero.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], also where the cgroup may not have it; no task is killed for it.
    pub fn new(size: usize) -> Result<Self> {
        // SAFETY: No requirements.
        let memory = unsafe { bindings::cohbuf_rs_scratch_alloc(size) };
        // INVARIANT: It was just allocated.
        Ok(Self {
            memory: NonNull::new(memory).ok_or(ENOMEM)?,
            size,
        })
    }

    /// Where a byte is that must be inside, or at its end.
    fn at(&self, offset: usize) -> *mut c_void {
        self.memory.as_ptr().wrapping_byte_add(offset)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it came from `kvmalloc()`, and is freed once.
        unsafe { bindings::kvfree(self.memory.as_ptr()) };
    }
}

/// Lets other tasks run, where one should: `cond_resched()`.
pub fn cond_resched() {
    // SAFETY: Whoever may take a `Reader` may sleep.
    unsafe { bindings::cohbuf_rs_cond_resched() };
}

/// Whether the calling task was killed: nobody is left to see what it does.
pub fn fatal_signal_pending() -> bool {
    // SAFETY: No requirements.
    unsafe { bindings::cohbuf_rs_fatal_signal_pending() }
}
