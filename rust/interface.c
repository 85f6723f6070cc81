// SPDX-License-Identifier: GPL-2.0
/*
 * include/linux/cohbuf.h, exported. Part of cohbuf.ko alone: a symbol has one
 * home.
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/export.h>
#include <linux/kernel.h>

#include <linux/cohbuf.h>

#include "interface.h"

/* Exporters that are built in have no owner to be told by. */
#ifndef MODULE
#error "cohbuf is a module"
#endif

/*
 * What this module has exported, it has exported by the crate `dma_buf`. Whoever
 * has got a symbol of ours keeps the module, as the dma-buf does.
 */
static bool is_ours(const struct dma_buf *dmabuf)
{
	return dmabuf->owner == THIS_MODULE;
}

bool cohbuf_query_dma_buf(struct dma_buf *dmabuf, struct cohbuf_query *query)
{
	struct cohbuf_query answer;

	if (!is_ours(dmabuf))
		return false;
	if (query) {
		cohbuf_rs_query(dmabuf, &answer.coherent, &answer.caching);
		*query = answer;
	}
	return true;
}
EXPORT_SYMBOL_GPL(cohbuf_query_dma_buf);

int cohbuf_set_autofence(struct dma_buf_attachment *attach, bool autofence)
{
	if (!is_ours(attach->dmabuf))
		return -EOPNOTSUPP;
	return cohbuf_rs_set_autofence(attach, autofence);
}
EXPORT_SYMBOL_GPL(cohbuf_set_autofence);

static int sync_locked(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       bool for_device)
{
	might_sleep();
	dma_resv_assert_held(attach->dmabuf->resv);

	if (!is_ours(attach->dmabuf))
		return -EOPNOTSUPP;
	return cohbuf_rs_sync(attach, sgt, for_device, true);
}

static int sync_unlocked(struct dma_buf_attachment *attach, struct sg_table *sgt,
			 bool for_device)
{
	might_sleep();
	might_lock(&attach->dmabuf->resv->lock.base);

	if (!is_ours(attach->dmabuf))
		return -EOPNOTSUPP;
	return cohbuf_rs_sync(attach, sgt, for_device, false);
}

int cohbuf_sync_for_cpu(struct dma_buf_attachment *attach, struct sg_table *sgt)
{
	return sync_locked(attach, sgt, false);
}
EXPORT_SYMBOL_GPL(cohbuf_sync_for_cpu);

int cohbuf_sync_for_device(struct dma_buf_attachment *attach, struct sg_table *sgt)
{
	return sync_locked(attach, sgt, true);
}
EXPORT_SYMBOL_GPL(cohbuf_sync_for_device);

int cohbuf_sync_for_cpu_unlocked(struct dma_buf_attachment *attach, struct sg_table *sgt)
{
	return sync_unlocked(attach, sgt, false);
}
EXPORT_SYMBOL_GPL(cohbuf_sync_for_cpu_unlocked);

int cohbuf_sync_for_device_unlocked(struct dma_buf_attachment *attach, struct sg_table *sgt)
{
	return sync_unlocked(attach, sgt, true);
}
EXPORT_SYMBOL_GPL(cohbuf_sync_for_device_unlocked);
