// SPDX-License-Identifier: GPL-2.0
/*
 * What cohbuf.ko has for cohbuf_heaps.ko.
 */
#include <linux/export.h>
#include <linux/module.h>

#include "heap.h"

#ifdef CONFIG_DMABUF_HEAPS
/* modprobe goes on where it fails. */
MODULE_SOFTDEP("post: cohbuf_heaps");
#endif

/* The caller has a reference to this module, by symbol_get(). */
struct dma_buf *cohbuf_heap_allocate(u32 kind, u64 size, u32 fd_flags)
{
	return cohbuf_rs_heap_allocate(kind, size, fd_flags);
}
EXPORT_SYMBOL_FOR_MODULES(cohbuf_heap_allocate, "cohbuf_heaps");
