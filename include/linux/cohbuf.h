/* SPDX-License-Identifier: GPL-2.0 */
/*
 * cohbuf for drivers: what an importer can ask of a buffer, and how it hands one
 * between its device, other devices and the CPU while it stays mapped.
 *
 * All functions are exported by cohbuf.ko with EXPORT_SYMBOL_GPL(). A driver that
 * can do without gets them by symbol_get(). One that is built outside of the kernel
 * tree needs the Module.symvers of cohbuf.ko in KBUILD_EXTRA_SYMBOLS.
 *
 * Those that take the reservation lock or wait for fences must not be called in a
 * fence signalling critical section (dma_fence_begin_signalling()).
 */
#ifndef _LINUX_COHBUF_H
#define _LINUX_COHBUF_H

#include <linux/types.h>

struct dma_buf;
struct dma_buf_attachment;
struct sg_table;

/* How the CPU sees the memory of a buffer; the numbers of &enum cohbuf_caching. */
#define COHBUF_QUERY_WRITE_BACK		0
#define COHBUF_QUERY_WRITE_COMBINE	1

/**
 * struct cohbuf_query - what never changes of a buffer
 * @coherent:	It was made with COHBUF_COHERENT: nobody needs maintenance.
 * @caching:	COHBUF_QUERY_*.
 */
struct cohbuf_query {
	bool coherent;
	unsigned int caching;
};

/**
 * cohbuf_query_dma_buf() - ask whether a dma-buf is cohbuf's, and what it is
 * @dmabuf:	dma-buf of any exporter, of which the caller has a reference.
 * @query:	Where the answer goes; may be %NULL.
 *
 * It may be asked before attaching. Takes no lock, and does not sleep.
 *
 * Return: %true, and @query is filled, where cohbuf has exported it; otherwise
 * %false, and @query is left alone.
 */
bool cohbuf_query_dma_buf(struct dma_buf *dmabuf, struct cohbuf_query *query);

/**
 * cohbuf_set_autofence() - say who waits for fences
 * @attach:	attachment of a buffer of cohbuf.
 * @autofence:	%true: mapping @attach, unmapping it, cohbuf_sync_for_cpu() and
 *		cohbuf_sync_for_device() wait for the fences of the reservation
 *		object. %false: the importer does so itself
 *		(``DMA_BUF_ATTACH_NO_AUTOFENCE`` of Vetter's 2013 mail).
 *
 * To map waits as cohbuf_sync_for_device() does, and fails with -ERESTARTSYS where a
 * signal comes. To unmap waits until the device can have nothing in flight: where it
 * only writes, for the fences of writers, else for all. It cannot fail, and no signal
 * ends it. Both wait with the reservation lock held, as the dma-buf core calls them
 * so. So the fence of a device must not depend on the unmap of its mapping, as no
 * fence may depend on anything that takes the reservation lock.
 *
 * An attachment that dma_buf_attach() made begins with %true, one of
 * dma_buf_dynamic_attach() with %false: importers of that kind do their own
 * fencing. It is for the importer to call, before it maps. Takes no lock.
 *
 * Where more than one device writes and one of them may have a copy, bytes are told
 * apart when one is mapped, unmapped or synced, and no device may be at work: fences
 * are waited for then in any case.
 *
 * Return: 0; -EOPNOTSUPP where the buffer is not cohbuf's.
 */
int cohbuf_set_autofence(struct dma_buf_attachment *attach, bool autofence);

/**
 * cohbuf_sync_for_cpu() - make what the device wrote visible to others
 * @attach:	attachment of a buffer of cohbuf.
 * @sgt:	table that dma_buf_map_attachment() returned for @attach.
 *
 * What dma_buf_unmap_attachment() does, and leaves it mapped. After it, the CPU sees
 * what the device wrote, and so does a device that is mapped, or synced with
 * cohbuf_sync_for_device(), after that. Not in lines of which a process has opened a
 * window to write: the CPU owns those.
 *
 * The direction is the one that was mapped. Where the device only reads, there is
 * nothing to do, and nothing to wait for. With autofence, waits for the fences of
 * writers first. Where bytes of several devices have to be told apart, waits for all,
 * whatever the autofence and the direction.
 *
 * Context: Process context. The caller holds the reservation lock, and waits with it
 * held. May sleep.
 * Return: 0; -EOPNOTSUPP where the buffer is not cohbuf's; -EINVAL where @sgt is no
 * mapping of @attach (with CONFIG_DMABUF_DEBUG, as far as its addresses tell); -EIO
 * where the buffer is poisoned; -ERESTARTSYS where a signal came. Nothing has changed
 * where it is not 0.
 */
int cohbuf_sync_for_cpu(struct dma_buf_attachment *attach, struct sg_table *sgt);

/**
 * cohbuf_sync_for_device() - make what others wrote visible to the device
 * @attach:	attachment of a buffer of cohbuf.
 * @sgt:	table that dma_buf_map_attachment() returned for @attach.
 *
 * What dma_buf_map_attachment() does, for what is mapped already: the
 * ``dma_buf_sync_sg_attachment()`` of Vetter's 2013 mail. After it, the device sees
 * what the CPU wrote in windows that have ended, and what other devices wrote before
 * their cohbuf_sync_for_cpu() or unmap. Not in lines of which a process has opened a
 * window to write: those come with its end.
 *
 * The direction is the one that was mapped. With autofence, waits first, for the
 * fences of writers where the device only reads, else for all. Where bytes of several
 * devices have to be told apart, waits for all, whatever the autofence.
 *
 * Context: Process context. The caller holds the reservation lock. May sleep.
 * Return: as cohbuf_sync_for_cpu().
 */
int cohbuf_sync_for_device(struct dma_buf_attachment *attach, struct sg_table *sgt);

/**
 * cohbuf_sync_for_cpu_unlocked() - cohbuf_sync_for_cpu() without the lock
 * @attach:	See there.
 * @sgt:	See there.
 *
 * Waits for fences before it takes the reservation lock, and keeps nobody waiting.
 *
 * Context: Process context. The caller does not hold the reservation lock.
 * Return: as cohbuf_sync_for_cpu().
 */
int cohbuf_sync_for_cpu_unlocked(struct dma_buf_attachment *attach, struct sg_table *sgt);

/**
 * cohbuf_sync_for_device_unlocked() - cohbuf_sync_for_device() without the lock
 * @attach:	See there.
 * @sgt:	See there.
 *
 * Waits for fences before it takes the reservation lock, and keeps nobody waiting.
 *
 * Context: Process context. The caller does not hold the reservation lock.
 * Return: as cohbuf_sync_for_cpu().
 */
int cohbuf_sync_for_device_unlocked(struct dma_buf_attachment *attach, struct sg_table *sgt);

#endif /* _LINUX_COHBUF_H */
