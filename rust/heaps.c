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
 *
 * symbol_get() itself is not safe beside that: it may find a module that has become
 * MODULE_STATE_UNFORMED before strong_try_module_get() looks, which is a BUG() there.
 * That state comes after the notifiers have returned.
 */
#include <linux/dma-heap.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/rwsem.h>
#include <linux/string.h>
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

/* Protects may_look_up. To read, for a symbol_get(). */
static DECLARE_RWSEM(look_up_lock);
/* Not from when cohbuf.ko begins to go until one comes. */
static bool may_look_up = true;

static int cohbuf_heaps_on_module(struct notifier_block *block, unsigned long state,
				  void *data)
{
	const struct module *mod = data;

	if (strcmp(mod->name, "cohbuf"))
		return NOTIFY_DONE;
	/* Whoever has found it has its reference, or has done with it, after this. */
	down_write(&look_up_lock);
	may_look_up = state != MODULE_STATE_GOING;
	up_write(&look_up_lock);
	return NOTIFY_OK;
}

static struct notifier_block cohbuf_heaps_modules = {
	.notifier_call = cohbuf_heaps_on_module,
};

/* The core has checked the flags, and rounded the length. There are no heap flags. */
static struct dma_buf *cohbuf_heaps_allocate(struct dma_heap *heap, unsigned long len,
					     u32 fd_flags, u64 heap_flags)
{
	const struct cohbuf_heap *wanted = dma_heap_get_drvdata(heap);
	typeof(&cohbuf_heap_allocate) allocate;
	struct dma_buf *dmabuf;

	down_read(&look_up_lock);
	allocate = may_look_up ? symbol_get(cohbuf_heap_allocate) : NULL;
	up_read(&look_up_lock);
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
	size_t i;
	int error;

	error = register_module_notifier(&cohbuf_heaps_modules);
	if (error)
		return error;
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
	if (any)
		return 0;
	unregister_module_notifier(&cohbuf_heaps_modules);
	return error;
}
module_init(cohbuf_heaps_init);

MODULE_AUTHOR("The cohbuf developers");
MODULE_DESCRIPTION("dma-buf heaps of cohbuf");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF_HEAP");
