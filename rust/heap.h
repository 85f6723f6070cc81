/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between cohbuf_heaps.ko, heap.c and heap.rs. Not for bindgen.
 */
#ifndef _COHBUF_RUST_HEAP_H
#define _COHBUF_RUST_HEAP_H

#include <linux/types.h>

struct dma_buf;

struct dma_buf *cohbuf_rs_heap_allocate(u32 kind, u64 size, u32 fd_flags);
struct dma_buf *cohbuf_heap_allocate(u32 kind, u64 size, u32 fd_flags);

#endif /* _COHBUF_RUST_HEAP_H */
