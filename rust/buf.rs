// SPDX-License-Identifier: GPL-2.0

//! A dma-buf, whoever exported it.

use core::{
    any::TypeId,
    mem::forget,
    ptr::NonNull, //
};

use kernel::{
    error::from_err_ptr,
    fs::file::FileDescriptorReservation,
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};

use crate::{
    bindings,
    compat,
    exporter::{
        Buffer,
        Exporter,
        Private,
        Vtable, //
    },
    pages::Pages,
    slab, //
};

/// A dma-buf.
///
/// # Invariants
///
/// `self.0` is a dma-buf that `dma_buf_export()` has made; its reference count is that of its
/// file.
#[repr(transparent)]
pub struct DmaBuf(Opaque<bindings::dma_buf>);

// SAFETY: The references of a dma-buf are references of its file, which any task may take and
// drop.
unsafe impl Send for DmaBuf {}
// SAFETY: What `&self` allows may be called in parallel.
unsafe impl Sync for DmaBuf {}

// SAFETY: `get_dma_buf()` and `dma_buf_put()` count the references of the file, which owns the
// dma-buf.
unsafe impl AlwaysRefCounted for DmaBuf {
    fn inc_ref(&self) {
        // SAFETY: By the type invariant it is a valid dma-buf.
        unsafe { bindings::cohbuf_rs_get_dma_buf(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller owns the reference that is dropped here.
        unsafe { bindings::dma_buf_put(obj.cast().as_ptr()) };
    }
}

impl DmaBuf {
    /// The dma-buf behind a file descriptor of the calling task: `dma_buf_get()`.
    ///
    /// # Errors
    ///
    /// - [`EBADF`] where `fd` is not open.
    /// - [`EINVAL`] where it is not a dma-buf.
    pub fn from_fd(fd: i32) -> Result<ARef<Self>> {
        // SAFETY: No requirements on `fd`.
        let raw = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // SAFETY: `dma_buf_get()` returned a reference, which is handed over here.
        Ok(unsafe { ARef::from_raw(NonNull::new(raw).ok_or(EINVAL)?.cast()) })
    }

    /// Exports a buffer: `dma_buf_export()`. `data`, `state` and `pages` are dropped with it.
    ///
    /// `flags` are those of the file: `O_RDONLY` or `O_RDWR`, `O_CLOEXEC`.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`], [`ENFILE`].
    /// - [`ENOENT`] where the exporter's module is being unloaded.
    pub fn export<T: Exporter, E>(
        data: impl PinInit<T, E>,
        state: impl Init<T::State>,
        pages: Pages,
        flags: u32,
    ) -> Result<ARef<Self>>
    where
        Error: From<E>,
    {
        let size = pages.size();
        let private: Pin<KBox<Private<T>>> =
            slab::alloc()?.write_pin_init(Private::new(data, state, pages))?;
        // SAFETY: It is a part of the dma-buf from here on, and does not move until it is dropped.
        let private = KBox::into_raw(unsafe { Pin::into_inner_unchecked(private) });
        let info = bindings::dma_buf_export_info {
            exp_name: T::NAME.as_char_ptr(),
            owner: compat::exporter_module::<T::OwnerModule>(),
            ops: Vtable::<T>::build(),
            size,
            // CAST: The flags of open(2) are positive.
            flags: flags as c_int,
            resv: core::ptr::null_mut(),
            priv_: private.cast(),
        };

        // SAFETY: `info` is complete, and its ops fit its `priv`.
        match from_err_ptr(unsafe { bindings::dma_buf_export(&info) }) {
            Ok(raw) => {
                // SAFETY: `T` has exported it. The reference that `dma_buf_export()` returned is
                // ours for the call.
                T::exported(unsafe { Buffer::from_raw(raw) });
                // SAFETY: `dma_buf_export()` returned a reference, which is handed over here.
                Ok(unsafe { ARef::from_raw(NonNull::new(raw).ok_or(EINVAL)?.cast()) })
            }
            Err(e) => {
                // SAFETY: An export that failed does not call `release`, so that `private` is
                // ours still.
                drop(unsafe { KBox::from_raw(private) });
                Err(e)
            }
        }
    }

    /// Puts the dma-buf behind a reserved file descriptor: `dma_buf_fd_install()`.
    ///
    /// User space can use it at once, so that this must be the last act, after all that can fail.
    pub fn install_fd(buf: ARef<Self>, fd: FileDescriptorReservation) {
        // SAFETY: `fd` is reserved in the calling task, by its type. CAST: it came from an `int`.
        unsafe { bindings::dma_buf_fd_install(buf.as_raw(), fd.reserved_fd() as c_int) };
        // Both have been handed over.
        forget(fd);
        forget(buf);
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        // SAFETY: By the type invariant it is a valid dma-buf; the size never changes.
        unsafe { (*self.as_raw()).size }
    }

    /// The inode number of its file, see [`Buffer::id`].
    pub fn id(&self) -> c_ulong {
        // SAFETY: By the type invariant it is a valid dma-buf.
        unsafe { bindings::cohbuf_rs_inode_number(self.as_raw()) }
    }

    /// The exporter's side of the dma-buf, where `T` exported it.
    pub fn exported_by<T: Exporter>(&self) -> Option<Buffer<'_, T>> {
        // SAFETY: By the type invariant it is a valid dma-buf, which has ops.
        let release = unsafe { (*(*self.as_raw()).ops).release }?;
        if release as usize != Vtable::<T>::release as usize {
            return None;
        }
        // Functions of several exporters may be one where the compiler found them equal. They
        // have the same layout of `Private` then, up to `data`.
        //
        // SAFETY: It is the `release` of this crate, so that `priv` is a `Private`.
        let head = unsafe { &raw const (*(*self.as_raw()).priv_.cast::<Private<T>>()).head };
        // SAFETY: As above; `head` is the first field, and never changes.
        if unsafe { (*head).type_id } != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: `T` has exported it; `&self` keeps it for the lifetime.
        Some(unsafe { Buffer::from_raw(self.as_raw()) })
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::dma_buf {
        self.0.get()
    }
}
