// SPDX-License-Identifier: GPL-2.0
/*
 * C side of kunit_support.rs: a fence that is signalled by hand, and a page of
 * user memory for a KUnit test. Part of cohbuf_kunit.ko alone.
 */
#include <linux/dma-fence.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <kunit/test.h>
#include <kunit/test-bug.h>

#include "helpers.h"

struct cohbuf_test_fence {
	struct dma_fence base;
	spinlock_t lock;
};

static const char *test_fence_name(struct dma_fence *fence)
{
	return "cohbuf_kunit";
}

static const struct dma_fence_ops test_fence_ops = {
	.get_driver_name = test_fence_name,
	.get_timeline_name = test_fence_name,
};

struct dma_fence *cohbuf_rs_test_fence_new(void)
{
	struct cohbuf_test_fence *fence = kzalloc(sizeof(*fence), GFP_KERNEL);

	if (!fence)
		return NULL;

	spin_lock_init(&fence->lock);
	dma_fence_init(&fence->base, &test_fence_ops, &fence->lock,
		       dma_fence_context_alloc(1), 1);
	return &fence->base;
}

int cohbuf_rs_test_fence_add(struct dma_buf *dmabuf, struct dma_fence *fence, bool write)
{
	int ret;

	dma_resv_lock(dmabuf->resv, NULL);
	ret = dma_resv_reserve_fences(dmabuf->resv, 1);
	if (!ret)
		dma_resv_add_fence(dmabuf->resv, fence,
				   write ? DMA_RESV_USAGE_WRITE : DMA_RESV_USAGE_READ);
	dma_resv_unlock(dmabuf->resv);
	return ret;
}

/*
 * Takes the first attachment out of the list, as dma_buf_detach() does before it
 * calls the exporter, without the lock.
 */
struct dma_buf_attachment *cohbuf_rs_test_unlist(struct dma_buf *dmabuf)
{
	struct dma_buf_attachment *attach;

	dma_resv_lock(dmabuf->resv, NULL);
	attach = list_first_entry_or_null(&dmabuf->attachments, struct dma_buf_attachment, node);
	if (attach)
		list_del(&attach->node);
	dma_resv_unlock(dmabuf->resv);
	return attach;
}

void cohbuf_rs_test_list(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	dma_resv_lock(dmabuf->resv, NULL);
	list_add(&attach->node, &dmabuf->attachments);
	dma_resv_unlock(dmabuf->resv);
}

/*
 * An importer that maps, and forgets what. Past the core, whose copy of the table
 * nobody would free (CONFIG_DMABUF_DEBUG).
 */
struct dma_buf_attachment *cohbuf_rs_test_map(struct dma_buf *dmabuf, struct device *dev,
					      enum dma_data_direction dir)
{
	struct dma_buf_attachment *attach = dma_buf_attach(dmabuf, dev);
	struct sg_table *table;

	if (IS_ERR(attach))
		return NULL;
	dma_resv_lock(dmabuf->resv, NULL);
	table = dmabuf->ops->map_dma_buf(attach, dir);
	dma_resv_unlock(dmabuf->resv);
	if (IS_ERR(table)) {
		dma_buf_detach(dmabuf, attach);
		return NULL;
	}
	return attach;
}

void cohbuf_rs_test_fence_put(struct dma_fence *fence)
{
	dma_fence_put(fence);
}

unsigned long cohbuf_rs_test_user_page(void)
{
	struct kunit *test = kunit_get_current_test();

	if (!test)
		return 0;
	return kunit_vm_mmap(test, NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_ANONYMOUS | MAP_PRIVATE, 0);
}

/*
 * kunit_attach_mm() leaves the mm to the end of the thread, which puts it but
 * does not undo kthread_use_mm(): one mm_struct is lost each time.
 */
void cohbuf_rs_test_user_page_put(void)
{
	struct mm_struct *mm = current->mm;

	kthread_unuse_mm(mm);
	mmput(mm);
}

unsigned long cohbuf_rs_test_copy_to_user(unsigned long to, const void *from, size_t len)
{
	return copy_to_user((void __user *)to, from, len);
}

unsigned long cohbuf_rs_test_copy_from_user(void *to, unsigned long from, size_t len)
{
	return copy_from_user(to, (const void __user *)from, len);
}

/* A signal for the calling task, as if somebody had sent it, and its end. */
void cohbuf_rs_test_set_signal(bool pending)
{
	if (pending)
		set_thread_flag(TIF_SIGPENDING);
	else
		clear_thread_flag(TIF_SIGPENDING);
}
