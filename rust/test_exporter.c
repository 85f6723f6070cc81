// SPDX-License-Identifier: GPL-2.0
/*
 * C side of test_exporter.rs: an exporter in C that does what it is told, and
 * counts what it is asked. Part of cohbuf_kunit.ko alone.
 */
#include <linux/bits.h>
#include <linux/dma-buf.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "helpers.h"

/* Bits of how, see test_exporter.rs. */
#define NO_VMAP			BIT(0)
#define IO_MEMORY		BIT(1)
#define BEGIN_FAILS		BIT(2)
#define END_FAILS		BIT(3)
#define END_INTERRUPTED		BIT(4)

struct test_buffer {
	void *memory;
	u32 how;
	/* Of begin and end by direction, then what was begun with a fence pending. */
	u32 calls[7];
	u32 vmaps;
};

static int test_begin(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	struct test_buffer *buffer = dmabuf->priv;
	bool write = dir != DMA_FROM_DEVICE;

	buffer->calls[dir]++;
	if (!dma_resv_test_signaled(dmabuf->resv, dma_resv_usage_rw(write)))
		buffer->calls[6]++;
	return buffer->how & BEGIN_FAILS ? -ENODEV : 0;
}

static int test_end(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	struct test_buffer *buffer = dmabuf->priv;

	if (buffer->how & END_INTERRUPTED && signal_pending(current))
		return -ERESTARTSYS;
	buffer->calls[3 + dir]++;
	return buffer->how & END_FAILS ? -ERESTARTSYS : 0;
}

static int test_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct test_buffer *buffer = dmabuf->priv;

	if (buffer->how & IO_MEMORY)
		iosys_map_set_vaddr_iomem(map, (void __iomem *)buffer->memory);
	else
		iosys_map_set_vaddr(map, buffer->memory);
	buffer->vmaps++;
	return 0;
}

static void test_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct test_buffer *buffer = dmabuf->priv;

	buffer->vmaps--;
}

static struct sg_table *test_map(struct dma_buf_attachment *attach, enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void test_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
}

static void test_release(struct dma_buf *dmabuf)
{
	struct test_buffer *buffer = dmabuf->priv;

	WARN_ON(buffer->vmaps);
	vfree(buffer->memory);
	kfree(buffer);
}

static const struct dma_buf_ops test_ops = {
	.map_dma_buf = test_map,
	.unmap_dma_buf = test_unmap,
	.release = test_release,
	.begin_cpu_access = test_begin,
	.end_cpu_access = test_end,
	.vmap = test_vmap,
	.vunmap = test_vunmap,
};

static const struct dma_buf_ops test_ops_no_vmap = {
	.map_dma_buf = test_map,
	.unmap_dma_buf = test_unmap,
	.release = test_release,
	.begin_cpu_access = test_begin,
	.end_cpu_access = test_end,
};

struct dma_buf *cohbuf_rs_test_exporter_new(size_t size, u32 how, int flags)
{
	struct test_buffer *buffer = kzalloc(sizeof(*buffer), GFP_KERNEL);
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dma_buf *dmabuf;

	if (!buffer)
		return ERR_PTR(-ENOMEM);
	buffer->how = how;
	buffer->memory = vzalloc(size);
	if (!buffer->memory) {
		kfree(buffer);
		return ERR_PTR(-ENOMEM);
	}
	info.ops = how & NO_VMAP ? &test_ops_no_vmap : &test_ops;
	info.size = size;
	info.flags = flags;
	info.priv = buffer;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		vfree(buffer->memory);
		kfree(buffer);
	}
	return dmabuf;
}

void cohbuf_rs_test_exporter_calls(struct dma_buf *dmabuf, u32 *calls)
{
	struct test_buffer *buffer = dmabuf->priv;

	memcpy(calls, buffer->calls, sizeof(buffer->calls));
}

void *cohbuf_rs_test_exporter_memory(struct dma_buf *dmabuf)
{
	struct test_buffer *buffer = dmabuf->priv;

	return buffer->memory;
}
