// SPDX-License-Identifier: GPL-2.0

//! Trace events of an exporter: the Rust side of `include/trace/events/cohbuf.h`, which says what
//! the fields are.
//!
//! What an event has is asked for where somebody records it; otherwise it costs a branch that is
//! never taken, patched into the code (`kernel::tracepoint` has this for the events of the kernel
//! itself alone). No event allocates or sleeps, so that any may come under any lock.
//!
//! Inline, so that a module without the events can have this crate.

use core::ptr;

use kernel::{
    device::Device,
    dma::DataDirection,
    prelude::*,
    time::{
        Instant,
        Monotonic, //
    }, //
};

use crate::{
    bindings,
    raw::device_as_raw, //
};

#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    unreachable_pub,
    reason = "made by bindgen"
)]
mod c {
    use kernel::{
        bindings::*,
        ffi, //
    };

    include!(concat!(env!("COHBUF_GENERATED"), "/trace_generated.rs"));
}

pub use c::{
    cohbuf_trace_copy as Copy,
    cohbuf_trace_cost as Cost,
    cohbuf_trace_region as Region,
    cohbuf_trace_sync as Sync,
    cohbuf_trace_window as Window, //
};

/// Defines whether somebody records an event.
macro_rules! is_on {
    ($($name:ident: $tracepoint:ident),* $(,)?) => {$(
        #[doc = concat!("Whether somebody records `", stringify!($tracepoint), "`.")]
        #[inline(always)]
        pub fn $name() -> bool {
            #[cfg(CONFIG_TRACEPOINTS)]
            {
                // SAFETY: C defines the tracepoint, of which this is the static key.
                unsafe {
                    kernel::jump_label::static_branch_unlikely!(
                        c::$tracepoint,
                        bindings::tracepoint,
                        key
                    )
                }
            }
            #[cfg(not(CONFIG_TRACEPOINTS))]
            false
        }
    )*};
}

is_on! {
    create_is_on: __tracepoint_cohbuf_create,
    release_is_on: __tracepoint_cohbuf_release,
    attach_is_on: __tracepoint_cohbuf_attach,
    detach_is_on: __tracepoint_cohbuf_detach,
    map_is_on: __tracepoint_cohbuf_map,
    unmap_is_on: __tracepoint_cohbuf_unmap,
    sync_for_cpu_is_on: __tracepoint_cohbuf_sync_for_cpu,
    sync_for_device_is_on: __tracepoint_cohbuf_sync_for_device,
    maintain_is_on: __tracepoint_cohbuf_maintain,
    sync_is_on: __tracepoint_cohbuf_sync,
    window_open_is_on: __tracepoint_cohbuf_window_open,
    window_close_is_on: __tracepoint_cohbuf_window_close,
    window_abandon_is_on: __tracepoint_cohbuf_window_abandon,
    fence_wait_begin_is_on: __tracepoint_cohbuf_fence_wait_begin,
    fence_wait_end_is_on: __tracepoint_cohbuf_fence_wait_end,
    outside_is_on: __tracepoint_cohbuf_outside,
    copy_is_on: __tracepoint_cohbuf_copy,
}

/// Calls what C has for an event, where there is tracing.
macro_rules! call {
    ($function:ident($($arg:expr),*)) => {{
        #[cfg(CONFIG_TRACEPOINTS)]
        {
            // SAFETY: The arguments are valid for the call, and so is what they point to: devices
            // and strings are borrowed by who calls this.
            unsafe { c::$function($($arg),*) };
        }
        #[cfg(not(CONFIG_TRACEPOINTS))]
        let _ = ($($arg),*);
    }};
}

/// Measures what an event tells of, where it is recorded.
pub struct Timer(Option<Instant<Monotonic>>);

impl Timer {
    /// Begins now, if `on`.
    #[inline]
    pub fn start(on: bool) -> Self {
        Self(on.then(Instant::now))
    }

    /// Nanoseconds from the start to now; 0 where it was not on.
    #[inline]
    pub fn nanos(&self) -> u64 {
        // CAST: The clock does not go back.
        self.0
            .as_ref()
            .map_or(0, |began| began.elapsed().as_nanos() as u64)
    }
}

/// What an event says of a result: 0, or a negative errno.
#[inline]
pub fn errno<T>(result: &Result<T>) -> c_int {
    match result {
        Ok(_) => 0,
        Err(e) => e.to_errno(),
    }
}

/// The thread group of the calling task, as events have it.
#[inline]
pub fn current_tgid() -> c_int {
    // SAFETY: No requirements.
    unsafe { bindings::cohbuf_rs_current_tgid() }
}

/// Calls what nobody should have to step over where no event is recorded.
#[cold]
#[inline(never)]
fn out_of_line(event: impl FnOnce()) {
    event();
}

/// A buffer was made.
#[inline]
pub fn create(ino: c_ulong, size: usize, segments: usize, flags: u32) {
    if create_is_on() {
        out_of_line(|| {
            // CAST: A size fits, and there are fewer segments than pages in 2^44 bytes.
            call!(rust_do_trace_cohbuf_create(
                ino,
                size as u64,
                segments as u32,
                flags
            ));
        });
    }
}

/// A buffer is gone.
#[inline]
pub fn release(ino: c_ulong) {
    if release_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_release(ino));
        });
    }
}

/// An importer wants to attach.
pub struct Attach<'a> {
    /// The buffer.
    pub ino: c_ulong,
    /// Its number; 0 where it is refused.
    pub attachment: u32,
    /// The importer's device.
    pub dev: &'a Device,
    /// `COHBUF_ATTACHMENT_*`
    pub flags: u32,
    /// Why it is refused; empty where it is not.
    pub reason: &'static CStr,
    /// 0, or a negative errno.
    pub error: c_int,
}

/// An importer attaches, or is refused.
#[inline]
pub fn attach<'a>(event: impl FnOnce() -> Attach<'a>) {
    if attach_is_on() {
        out_of_line(|| {
            let event = event();
            let attach = c::cohbuf_trace_attach {
                ino: event.ino,
                dev: device_as_raw(event.dev),
                attachment: event.attachment,
                flags: event.flags,
                reason: event.reason.as_char_ptr(),
                error: event.error,
            };
            call!(rust_do_trace_cohbuf_attach(&attach));
        });
    }
}

/// An importer has detached.
#[inline]
pub fn detach(ino: c_ulong, attachment: u32) {
    if detach_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_detach(ino, attachment));
        });
    }
}

/// Something was done with a mapping.
pub struct Mapped<'a> {
    /// The buffer.
    pub ino: c_ulong,
    /// The attachment.
    pub attachment: u32,
    /// Its device.
    pub dev: &'a Device,
    /// As the importer said it.
    pub direction: DataDirection,
    /// `enum cohbuf_reach`
    pub reach: u32,
    /// Pieces that the device sees.
    pub segments: u32,
    /// Why it is refused; empty where it is not.
    pub reason: &'static CStr,
    /// 0, or a negative errno.
    pub error: c_int,
    /// What it has cost.
    pub cost: Cost,
    /// How long it took, with what it waited for.
    pub duration: u64,
}

impl Mapped<'_> {
    #[inline]
    fn into_c(self) -> c::cohbuf_trace_mapping {
        c::cohbuf_trace_mapping {
            ino: self.ino,
            dev: device_as_raw(self.dev),
            attachment: self.attachment,
            direction: number(self.direction),
            reach: self.reach,
            segments: self.segments,
            reason: self.reason.as_char_ptr(),
            error: self.error,
            cost: self.cost,
            duration: self.duration,
        }
    }
}

/// `enum dma_data_direction`
#[inline]
fn number(direction: DataDirection) -> u32 {
    match direction {
        DataDirection::Bidirectional => 0,
        DataDirection::ToDevice => 1,
        DataDirection::FromDevice => 2,
        DataDirection::None => 3,
    }
}

/// An attachment was mapped, or was not.
#[inline]
pub fn map<'a>(event: impl FnOnce() -> Mapped<'a>) {
    if map_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_map(&event().into_c()));
        });
    }
}

/// A mapping was taken away.
#[inline]
pub fn unmap<'a>(event: impl FnOnce() -> Mapped<'a>) {
    if unmap_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_unmap(&event().into_c()));
        });
    }
}

/// A mapping was handed to the CPU.
#[inline]
pub fn sync_for_cpu<'a>(event: impl FnOnce() -> Mapped<'a>) {
    if sync_for_cpu_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_sync_for_cpu(&event().into_c()));
        });
    }
}

/// A mapping was handed to its device.
#[inline]
pub fn sync_for_device<'a>(event: impl FnOnce() -> Mapped<'a>) {
    if sync_for_device_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_sync_for_device(&event().into_c()));
        });
    }
}

/// One pass over a mapping.
pub struct Maintain<'a> {
    /// The buffer.
    pub ino: c_ulong,
    /// The attachment.
    pub attachment: u32,
    /// Its device, if it is attached.
    pub dev: Option<&'a Device>,
    /// As the importer said it.
    pub direction: DataDirection,
    /// `enum cohbuf_reach`
    pub reach: u32,
    /// For the device, or else for the CPU.
    pub for_device: bool,
    /// Bytes that were handed to the DMA API, or invalidated by the CPU itself.
    pub bytes: usize,
    /// Of those, the ones in bounce buffers.
    pub bounced: usize,
    /// How long it took.
    pub duration: u64,
}

/// A mapping was maintained.
#[inline]
pub fn maintain<'a>(event: impl FnOnce() -> Maintain<'a>) {
    if maintain_is_on() {
        out_of_line(|| {
            let event = event();
            // CAST: A size fits.
            let pass = c::cohbuf_trace_maintain {
                ino: event.ino,
                dev: event.dev.map_or(ptr::null_mut(), device_as_raw),
                attachment: event.attachment,
                direction: number(event.direction),
                reach: event.reach,
                for_device: event.for_device,
                bytes: event.bytes as u64,
                bounced: event.bounced as u64,
                duration: event.duration,
            };
            call!(rust_do_trace_cohbuf_maintain(&pass));
        });
    }
}

/// A START or END of CPU access.
#[inline]
pub fn sync(event: impl FnOnce() -> Sync) {
    if sync_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_sync(&event()));
        });
    }
}

/// A window was opened.
#[inline]
pub fn window_open(event: impl FnOnce() -> Window) {
    if window_open_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_window_open(&event()));
        });
    }
}

/// A window was closed by an END.
#[inline]
pub fn window_close(event: impl FnOnce() -> Window) {
    if window_close_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_window_close(&event()));
        });
    }
}

/// A window was forgotten, as nobody is left to end it.
#[inline]
pub fn window_abandon(event: impl FnOnce() -> Window) {
    if window_abandon_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_window_abandon(&event()));
        });
    }
}

/// A pending fence is waited for.
#[inline]
pub(crate) fn fence_wait_begin(ino: c_ulong, all: bool) {
    if fence_wait_begin_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_fence_wait_begin(ino, all));
        });
    }
}

/// It was.
#[inline]
pub(crate) fn fence_wait_end(ino: c_ulong, all: bool, result: &Result, timer: &Timer) {
    if fence_wait_end_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_fence_wait_end(
                ino,
                all,
                errno(result),
                timer.nanos()
            ));
        });
    }
}

/// Somebody accessed a page outside of his windows.
#[inline]
pub fn outside(ino: c_ulong, offset: usize, write: bool, poisons: bool) {
    if outside_is_on() {
        out_of_line(|| {
            // CAST: An offset fits.
            call!(rust_do_trace_cohbuf_outside(
                ino,
                offset as u64,
                write,
                poisons
            ));
        });
    }
}

/// Bytes were copied between two dma-bufs.
#[inline]
pub fn copy(event: impl FnOnce() -> Copy) {
    if copy_is_on() {
        out_of_line(|| {
            call!(rust_do_trace_cohbuf_copy(&event()));
        });
    }
}
