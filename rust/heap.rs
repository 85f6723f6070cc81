// SPDX-License-Identifier: GPL-2.0

//! dma-buf heaps, `/dev/dma_heap/*`, whose buffers an exporter makes.
//!
//! A heap cannot be taken away again (`drivers/dma-buf/dma-heap.c`), and a module that has one
//! can never go. So the heaps are in a module of their own, `cohbuf_heaps.ko` (`heaps.c`), which
//! stays, and which has no reference to the exporter: it takes one for each allocation. While
//! there is no exporter, an allocation fails with `ENODEV`. A kernel without heaps does without
//! that module.
//!
//! C header: `include/linux/dma-heap.h`.

use core::ptr;

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    bindings,
    buf::DmaBuf,
    static_mutex, //
};

/// What a heap is asked for.
#[derive(Copy, Clone, Debug)]
pub struct Request {
    /// Which heap: the flags that stand beside its name in `heaps.c`.
    pub kind: u32,
    /// Bytes.
    pub size: u64,
    /// Flags of the file, see [`DmaBuf::export`].
    pub fd_flags: u32,
}

/// An exporter whose buffers heaps hand out.
pub trait Heap: 'static {
    /// Makes a buffer.
    ///
    /// # Errors
    ///
    /// What is returned is what `DMA_HEAP_IOCTL_ALLOC` returns.
    fn allocate(request: Request) -> Result<ARef<DmaBuf>>;
}

type Allocate = fn(Request) -> Result<ARef<DmaBuf>>;

static_mutex! {
    /// Who makes the buffers.
    static MADE_BY: Option<Allocate> = None;
}

/// The heaps get their buffers from an exporter while this lives.
pub struct Registration(());

impl Registration {
    /// Has `T` make the buffers.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] where somebody else does.
    pub fn new<T: Heap>() -> Result<Self> {
        let mut allocate = MADE_BY.lock();
        if allocate.is_some() {
            return Err(EBUSY);
        }
        *allocate = Some(T::allocate);
        Ok(Self(()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        *MADE_BY.lock() = None;
    }
}

/// Allocates for `cohbuf_heap_allocate()`, which exports it.
///
/// The caller has a reference to this module, so that it does not go meanwhile.
#[no_mangle]
pub(crate) extern "C" fn cohbuf_rs_heap_allocate(
    kind: u32,
    size: u64,
    fd_flags: u32,
) -> *mut bindings::dma_buf {
    // Not called with the lock held: it takes long.
    let allocate = *MADE_BY.lock();
    let result = allocate.ok_or(ENODEV).and_then(|allocate| {
        allocate(Request {
            kind,
            size,
            fd_flags,
        })
    });
    match result {
        // The reference goes to the caller.
        Ok(buf) => ARef::into_raw(buf).as_ptr().cast(),
        Err(error) => ptr::without_provenance_mut(error.to_errno() as isize as usize),
    }
}
