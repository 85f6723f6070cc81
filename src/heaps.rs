// SPDX-License-Identifier: GPL-2.0

//! The heaps `/dev/dma_heap/cohbuf*`: the buffers of CREATE, by its rules, for programs that know
//! heaps.

use dma_buf::{
    heap::{
        Heap,
        Request, //
    },
    DmaBuf, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use crate::ioctl;

pub(crate) struct Heaps;

impl Heap for Heaps {
    fn allocate(request: Request) -> Result<ARef<DmaBuf>> {
        // What tells the heaps apart is the flags of CREATE.
        ioctl::create::make(request.size, request.kind, request.fd_flags)
    }
}
