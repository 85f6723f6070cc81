// SPDX-License-Identifier: GPL-2.0

//! What KUnit tests of an exporter need besides devices.
//!
//! Compiled into the KUnit module alone (`cfg(cohbuf_kunit)`).

use core::{
    mem::size_of,
    ptr::NonNull, //
};

use kernel::{
    dma::DataDirection,
    error::to_result,
    prelude::*,
    types::NotThreadSafe, //
};

use crate::{
    bindings,
    compat::EOPNOTSUPP,
    interface::{
        self,
        SyncFor, //
    },
    raw::device_as_raw,
    test_models::{
        kernel_attrs,
        MemoryType,
        ModelDevice, //
    },
    uapi::IoctlStruct,
    CpuAccess,
    DmaBuf,
    Exporter,
    ImportedMapping, //
};

/// Waits until the dma-bufs whose last reference this task dropped are released: a kernel thread
/// leaves `fput()` to a work item.
pub fn flush_releases() {
    // SAFETY: No requirements; a test holds no lock.
    unsafe { bindings::flush_delayed_fput() };
}

/// `dma_buf_begin_cpu_access()`, as an importer in the kernel calls it.
pub fn begin_cpu_access(buf: &DmaBuf, access: CpuAccess) -> Result {
    // SAFETY: A valid dma-buf by its type; the test does not hold the reservation lock.
    to_result(unsafe { bindings::dma_buf_begin_cpu_access(buf.as_raw(), access.into_raw()) })
}

/// `dma_buf_end_cpu_access()`, as an importer in the kernel calls it.
pub fn end_cpu_access(buf: &DmaBuf, access: CpuAccess) -> Result {
    // SAFETY: A valid dma-buf by its type; the test does not hold the reservation lock.
    to_result(unsafe { bindings::dma_buf_end_cpu_access(buf.as_raw(), access.into_raw()) })
}

/// `cohbuf_sync_for_cpu()` and its like, without the C that exports them, which a module of the
/// tests cannot have.
///
/// # Errors
///
/// - [`EOPNOTSUPP`] where `T` has not exported the buffer.
/// - What they return.
pub fn sync<T: Exporter>(mapping: &ImportedMapping<'_>, whom: SyncFor, locked: bool) -> Result {
    mapping.buf().exported_by::<T>().ok_or(EOPNOTSUPP)?;
    let (attach, table) = mapping.as_raw();
    // SAFETY: A valid dma-buf by its type.
    let resv = unsafe { (*mapping.buf().as_raw()).resv };
    if locked {
        // SAFETY: The reservation object of the dma-buf, whose lock the test does not hold.
        unsafe { bindings::cohbuf_rs_resv_lock(resv) };
    }
    // SAFETY: `T` of this crate has exported the dma-buf. The table is mapped for the attachment
    // while `mapping` is borrowed. The lock is held if and only if `locked`.
    let result = to_result(unsafe {
        interface::cohbuf_rs_sync(attach, table, whom == SyncFor::Device, locked)
    });
    if locked {
        // SAFETY: It was taken above.
        unsafe { bindings::dma_resv_unlock(resv) };
    }
    result
}

/// `cohbuf_set_autofence()`, likewise.
///
/// # Errors
///
/// As [`sync`].
pub fn set_autofence<T: Exporter>(mapping: &ImportedMapping<'_>, autofence: bool) -> Result {
    mapping.buf().exported_by::<T>().ok_or(EOPNOTSUPP)?;
    let (attach, _) = mapping.as_raw();
    // SAFETY: `T` of this crate has exported the dma-buf, and `mapping` keeps it attached.
    to_result(unsafe { interface::cohbuf_rs_set_autofence(attach, autofence) })
}

/// Calls `vmap` of the exporter through the core, `f` with the address, and `vunmap`.
fn with_vmap<R>(buf: &DmaBuf, f: impl FnOnce(*mut u8) -> R) -> Result<R> {
    let mut map = bindings::iosys_map::default();
    // SAFETY: A valid dma-buf by its type; the test does not hold the reservation lock.
    to_result(unsafe { bindings::dma_buf_vmap_unlocked(buf.as_raw(), &mut map) })?;
    // SAFETY: The exporter is this crate, which maps memory.
    let result = f(unsafe { map.__bindgen_anon_1.vaddr }.cast());
    // SAFETY: `map` was just mapped.
    unsafe { bindings::dma_buf_vunmap_unlocked(buf.as_raw(), &mut map) };
    Ok(result)
}

/// Calls `f` while the kernel has the buffer mapped.
pub fn while_vmapped<R>(buf: &DmaBuf, f: impl FnOnce() -> R) -> Result<R> {
    with_vmap(buf, |_| f())
}

/// Calls `f` at the moment of a detach at which the attachment, the first of the buffer, is in the
/// list no more, and the exporter does not know yet.
///
/// # Errors
///
/// [`ENODEV`] where nothing is attached.
pub fn while_one_detaches<R>(buf: &DmaBuf, f: impl FnOnce() -> R) -> Result<R> {
    // SAFETY: A valid dma-buf by its type; the caller does not hold the lock.
    let attachment = unsafe { bindings::cohbuf_rs_test_unlist(buf.as_raw()) };
    if attachment.is_null() {
        return Err(ENODEV);
    }
    let result = f();
    // SAFETY: As above. It was taken out of there, and nobody detaches it meanwhile.
    unsafe { bindings::cohbuf_rs_test_list(buf.as_raw(), attachment) };
    Ok(result)
}

/// Runs `f` while `dev` has the buffer mapped, and detaches without an unmap.
///
/// # Errors
///
/// [`ENODEV`] where it does not get there.
pub fn while_badly_mapped<R>(
    buf: &DmaBuf,
    dev: &ModelDevice,
    dir: DataDirection,
    f: impl FnOnce() -> R,
) -> Result<R> {
    let dev = device_as_raw(dev.as_ref());
    // SAFETY: A valid dma-buf, and a device that can do DMA, by their types; the caller does not hold
    // the lock.
    let attachment = unsafe { bindings::cohbuf_rs_test_map(buf.as_raw(), dev, dir.into()) };
    if attachment.is_null() {
        return Err(ENODEV);
    }
    let result = f();
    // SAFETY: It was attached to this dma-buf just now, and is detached once.
    unsafe { bindings::dma_buf_detach(buf.as_raw(), attachment) };
    Ok(result)
}

/// What the CPU sees from `offset` on.
pub fn peek<const N: usize>(buf: &DmaBuf, offset: usize) -> Result<[u8; N]> {
    if offset.checked_add(N).ok_or(EINVAL)? > buf.size() {
        return Err(EINVAL);
    }
    let mut seen = [0; N];
    with_vmap(buf, |from| {
        // SAFETY: The range is inside of the buffer, which is mapped there.
        unsafe { core::ptr::copy_nonoverlapping(from.add(offset), seen.as_mut_ptr(), N) }
    })?;
    Ok(seen)
}

/// The CPU writes from `offset` on.
pub fn poke(buf: &DmaBuf, offset: usize, bytes: &[u8]) -> Result {
    if offset.checked_add(bytes.len()).ok_or(EINVAL)? > buf.size() {
        return Err(EINVAL);
    }
    with_vmap(buf, |to| {
        // SAFETY: The range is inside of the buffer, which is mapped there.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(offset), bytes.len()) }
    })
}

/// The memory type of a mapping of the buffer into the kernel, at its last byte.
pub fn vmap_type(buf: &DmaBuf) -> Result<MemoryType> {
    with_vmap(buf, |addr| kernel_attrs(addr.wrapping_add(buf.size() - 1)))?
}

/// A fence that is signalled by hand.
pub struct TestFence(NonNull<bindings::dma_fence>);

// SAFETY: Any task may signal and put a fence.
unsafe impl Send for TestFence {}

impl TestFence {
    /// Makes a fence that is pending.
    pub fn new() -> Result<Self> {
        // SAFETY: No requirements.
        let raw = unsafe { bindings::cohbuf_rs_test_fence_new() };
        Ok(Self(NonNull::new(raw).ok_or(ENOMEM)?))
    }

    /// Adds it to the reservation object of a buffer, as a writer's or as a reader's.
    pub fn add_to(&self, buf: &DmaBuf, write: bool) -> Result {
        // SAFETY: Both are valid by their types; the test does not hold the reservation lock.
        to_result(unsafe {
            bindings::cohbuf_rs_test_fence_add(buf.as_raw(), self.0.as_ptr(), write)
        })
    }

    /// Signals it.
    pub fn signal(&self) {
        // SAFETY: The fence is valid for as long as `self`.
        unsafe { bindings::dma_fence_signal(self.0.as_ptr()) };
    }
}

impl Drop for TestFence {
    fn drop(&mut self) {
        // A fence must be signalled before it goes.
        self.signal();
        // SAFETY: The reference is ours, and is dropped once.
        unsafe { bindings::cohbuf_rs_test_fence_put(self.0.as_ptr()) };
    }
}

/// A signal that is pending for the calling task until this is dropped.
pub struct PendingSignal(());

impl PendingSignal {
    /// Makes one pending.
    pub fn new() -> Self {
        // SAFETY: No requirements.
        unsafe { bindings::cohbuf_rs_test_set_signal(true) };
        Self(())
    }
}

impl Default for PendingSignal {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PendingSignal {
    fn drop(&mut self) {
        // SAFETY: No requirements.
        unsafe { bindings::cohbuf_rs_test_set_signal(false) };
    }
}

/// A page of user memory, in an address space that lives as long as this does.
///
/// A test has one at a time. It stays with the task that made it.
pub struct UserPage(usize, NotThreadSafe);

impl UserPage {
    /// Maps a page.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] where the task has an address space already.
    /// - [`ENOMEM`].
    pub fn new() -> Result<Self> {
        // SAFETY: The task that runs is valid; only it changes its `mm`.
        if unsafe { !(*bindings::get_current()).mm.is_null() } {
            return Err(EBUSY);
        }
        // SAFETY: No requirements; it looks for the running test itself.
        match unsafe { bindings::cohbuf_rs_test_user_page() } {
            0 => Err(ENOMEM),
            addr => Ok(Self(addr, NotThreadSafe)),
        }
    }

    /// Its address in user space.
    pub fn addr(&self) -> usize {
        self.0
    }

    /// Writes a structure to its beginning.
    pub fn put<S: IoctlStruct>(&self, value: &S) -> Result {
        // SAFETY: `value` is readable for its size.
        let left = unsafe {
            bindings::cohbuf_rs_test_copy_to_user(
                self.0,
                core::ptr::from_ref(value).cast(),
                size_of::<S>(),
            )
        };
        (left == 0).then_some(()).ok_or(EFAULT)
    }

    /// Reads a structure from its beginning.
    pub fn get<S: IoctlStruct>(&self) -> Result<S> {
        let mut value = S::default();
        // SAFETY: `value` is writable for its size, and any bytes make an `S`.
        let left = unsafe {
            bindings::cohbuf_rs_test_copy_from_user((&raw mut value).cast(), self.0, size_of::<S>())
        };
        (left == 0).then_some(value).ok_or(EFAULT)
    }
}

impl Drop for UserPage {
    fn drop(&mut self) {
        // SAFETY: `new` gave this task its address space, and there is one `UserPage` at a time.
        unsafe { bindings::cohbuf_rs_test_user_page_put() };
    }
}
