// SPDX-License-Identifier: GPL-2.0
/*
 * cohbuf_heaps.ko: /dev/dma_heap/cohbuf*, the buffers of cohbuf.ko for programs
 * that know heaps.
 *
 * The kernel cannot take a heap away again: the file operations of an open heap
 * lead here for ever. So this module has no exit and stays, as the kernel's own
 * system_heap does. It is one of its own, and refers to cohbuf.ko by symbol_get()
 * alone, for the time of an allocation, so that cohbuf.ko can be unloaded, and
 * loaded again, at any time. In between there are heaps without buffers.
 */
#include <linux/dma-heap.h>
#include <linux/err.h>
#include <linux/module.h>
#include <uapi/linux/cohbuf.h>

#include "heap.h"

static const struct cohbuf_heap {
	const char *name;
	u32 kind;
} heaps[] = {
	{ "cohbuf", 0 },
	{ "cohbuf-coherent", COHBUF_COHERENT },
	{ "cohbuf-wc", COHBUF_WRITE_COMBINE },
	{ "cohbuf-contiguous", COHBUF_CONTIGUOUS },
};

/* The core has checked the flags, and rounded the length. There are no heap flags. */
static struct dma_buf *cohbuf_heaps_allocate(struct dma_heap *heap, unsigned long len,
					     u32 fd_flags, u64 heap_flags)
{
	const struct cohbuf_heap *wanted = dma_heap_get_drvdata(heap);
	typeof(&cohbuf_heap_allocate) allocate;
	struct dma_buf *dmabuf;

	allocate = symbol_get(cohbuf_heap_allocate);
	if (!allocate)
		return ERR_PTR(-ENODEV);
	/* The dma-buf has a reference to cohbuf.ko of its own. */
	dmabuf = allocate(wanted->kind, len, fd_flags);
	symbol_put(cohbuf_heap_allocate);
	return dmabuf;
}

static const struct dma_heap_ops cohbuf_heaps_ops = {
	.allocate = cohbuf_heaps_allocate,
};

static int __init cohbuf_heaps_init(void)
{
	bool any = false;
	int error = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(heaps); i++) {
		struct dma_heap_export_info info = {
			.name = heaps[i].name,
			.ops = &cohbuf_heaps_ops,
			.priv = (void *)&heaps[i],
		};
		struct dma_heap *heap = dma_heap_add(&info);

		if (IS_ERR(heap)) {
			error = PTR_ERR(heap);
			pr_warn("cohbuf_heaps: no heap %s: error %d\n", info.name, error);
		} else {
			any = true;
		}
	}
	/* Once there is one, this module must not go. */
	return any ? 0 : error;
}
module_init(cohbuf_heaps_init);

MODULE_AUTHOR("The cohbuf developers");
MODULE_DESCRIPTION("dma-buf heaps of cohbuf");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF_HEAP");
