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

use core::{
    ops::Range,
    ptr::NonNull, //
};

use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc, //
};

use crate::{
    bindings,
    buf::DmaBuf,
    direction::CpuAccess, //
};

pub use crate::vmap::KernelMapping;

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

    /// A mapping of what is to be read or written of `buf`, where its exporter learns of all that is
    /// written from the bracket itself. [`None`]: the exporter maps all of it (`vmap`), and looks
    /// for what is written by that.
    ///
    /// Where two brackets are for one buffer, it is one mapping: what overlaps does so in one
    /// mapping alone.
    fn mapping(&self) -> Option<&Arc<KernelMapping>> {
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
/// While `open`, `bytes` of `buf` are mapped at `map`: by `own`, or else by
/// `dma_buf_vmap_unlocked()`.
struct Window<'a, B: Bracket> {
    buf: &'a DmaBuf,
    bracket: B,
    access: CpuAccess,
    map: bindings::iosys_map,
    bytes: Range<usize>,
    own: Option<Arc<KernelMapping>>,
    open: bool,
}

impl<'a, B: Bracket> Window<'a, B> {
    fn open(buf: &'a DmaBuf, bracket: B, access: CpuAccess) -> Result<Self> {
        // Fences first: there are exporters that maintain, and wait after that.
        buf.wait_fences(access)?;
        // What the exporter refuses is not mapped.
        bracket.begin(buf, access)?;
        let own = bracket.mapping().cloned();
        let mut map = bindings::iosys_map::default();
        let bytes = match &own {
            Some(mapping) => {
                // SAFETY: `map` is ours.
                unsafe { bindings::cohbuf_rs_iosys_map_set_vaddr(&mut map, mapping.addr()) };
                mapping.bytes()
            }
            None => {
                // SAFETY: A valid dma-buf by its type; the caller does not hold the reservation
                // lock.
                to_result(unsafe { bindings::dma_buf_vmap_unlocked(buf.as_raw(), &mut map) })
                    .inspect_err(|_| {
                        // Nothing was written, so that nothing is missed where this fails.
                        let _ = bracket.end(buf, access);
                    })?;
                0..buf.size()
            }
        };
        // INVARIANT: They were just mapped, or `own` has them mapped.
        Ok(Self {
            buf,
            bracket,
            access,
            map,
            bytes,
            own,
            open: true,
        })
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

    /// Where `len` bytes of the buffer from `offset` on are behind `map`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where not all of them are mapped.
    fn at(&self, offset: usize, len: usize) -> Result<usize> {
        let at = offset.checked_sub(self.bytes.start).ok_or(EINVAL)?;
        inside(at, len, self.bytes.len())?;
        Ok(at)
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
    /// [`EINVAL`] where not all of them are inside of what is mapped, and of the scratch.
    pub fn read(&self, from: usize, scratch: &mut Scratch, at: usize, len: usize) -> Result {
        let from = self.0.at(from, len)?;
        inside(at, len, scratch.size)?;
        // SAFETY: By the type invariant what was checked is mapped, and so was the other range.
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
    /// [`EINVAL`] where not all of them are inside of what is mapped of both buffers.
    pub fn copy<C: Bracket>(
        &mut self,
        to: usize,
        src: &Reader<'_, C>,
        from: usize,
        len: usize,
    ) -> Result {
        let to = self.0.at(to, len)?;
        let from = src.0.at(from, len)?;
        // SAFETY: By the type invariants what was checked is mapped.
        unsafe { bindings::cohbuf_rs_iosys_move(&self.0.map, to, &src.0.map, from, len) };
        Ok(())
    }

    /// Writes `len` bytes of a scratch from `at` on, to `to` on.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where not all of them are inside of what is mapped, and of the scratch.
    pub fn write(&mut self, to: usize, scratch: &Scratch, at: usize, len: usize) -> Result {
        let to = self.0.at(to, len)?;
        inside(at, len, scratch.size)?;
        // SAFETY: As in `Reader::read`.
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

    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.memory.as_ptr()
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
