// SPDX-License-Identifier: GPL-2.0

//! Where a buffer is allocated, besides its pages: in a slab cache, while the module has one.
//!
//! `kmalloc()` has 512 bytes for what needs 416, and the kernel crate goes to it by `krealloc()`.
//!
//! C header: `include/linux/slab.h`.

use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of,
        MaybeUninit, //
    },
    ptr::with_exposed_provenance_mut, //
};

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed,
        Release, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

use crate::{
    bindings,
    exporter::{
        Exporter,
        Private, //
    }, //
};

/// The `kmem_cache`, or 0: [`Cache`] has it. Its objects are of [`SIZE`] bytes.
static CACHE: Atomic<usize> = Atomic::new(0);
static SIZE: Atomic<usize> = Atomic::new(0);
/// Who is about to allocate from it.
static USERS: Atomic<i32> = Atomic::new(0);

/// The buffers of an exporter are allocated in a slab cache of its name while this lives. They may
/// outlive it: [`kfree()`] is told by the memory itself where it is of. To drop it while there are
/// some leaves the cache behind, with a warning.
///
/// [`kfree()`]: srctree/include/linux/slab.h
pub struct Cache<T: Exporter>(PhantomData<fn() -> T>);

impl<T: Exporter> Cache<T> {
    /// Makes the cache.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`].
    /// - [`EBUSY`] where the module has one.
    pub fn new() -> Result<Self> {
        let size = size_of::<Private<T>>();
        // SAFETY: The name is copied.
        let cache = unsafe { bindings::cohbuf_rs_cache_create(T::NAME.as_char_ptr(), size) };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        if SIZE.cmpxchg(0, size, Full).is_err() {
            // SAFETY: Nobody else has seen it.
            unsafe { bindings::kmem_cache_destroy(cache) };
            return Err(EBUSY);
        }
        CACHE.store(cache.expose_provenance(), Release);
        Ok(Self(PhantomData))
    }
}

impl<T: Exporter> Drop for Cache<T> {
    fn drop(&mut self) {
        let cache = CACHE.xchg(0, Full);
        while USERS.load(Acquire) != 0 {
            fsleep(Delta::from_micros(10));
        }
        // SAFETY: It is what `new` has made. Whoever allocates from now on does not find it, and who
        // has found it is done.
        unsafe { bindings::kmem_cache_destroy(with_exposed_provenance_mut(cache)) };
        SIZE.store(0, Release);
    }
}

/// Allocates a `V`, in the cache if it is what that is for.
///
/// # Errors
///
/// [`ENOMEM`].
pub(crate) fn alloc<V>() -> Result<KBox<MaybeUninit<V>>> {
    const {
        // What a cache aligns by itself.
        assert!(align_of::<V>() <= align_of::<u64>());
    }
    // Either this sees that the cache is gone, or who destroys it sees this.
    USERS.fetch_add(1, Full);
    let cache = CACHE.load(Acquire);
    if cache == 0 || SIZE.load(Relaxed) != size_of::<V>() {
        USERS.fetch_sub(1, Release);
        return Ok(KBox::new_uninit(GFP_KERNEL)?);
    }
    // SAFETY: It is not destroyed before `USERS` is 0.
    let raw = unsafe { bindings::cohbuf_rs_cache_alloc(with_exposed_provenance_mut(cache)) };
    USERS.fetch_sub(1, Release);
    if raw.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: It is as large as a `V`, and aligned for it. `Kmalloc` frees by `kfree()`, which takes
    // what is of any slab cache.
    Ok(unsafe { KBox::from_raw(raw.cast()) })
}
