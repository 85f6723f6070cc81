// SPDX-License-Identifier: GPL-2.0
/*
 * C side of cpu_access.rs: moves bytes of buffers that others may write
 * meanwhile, so that no Rust reference may see them.
 */
#include <linux/io.h>
#include <linux/iosys-map.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "helpers.h"

bool cohbuf_rs_is_readable(struct dma_buf *dmabuf)
{
	return dmabuf->file->f_mode & FMODE_READ;
}

/*
 * An exporter that takes its lock with a signal in mind would not end what was
 * begun, and nobody would: signals are blocked meanwhile. What a fatal one does
 * to a wait remains.
 */
int cohbuf_rs_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	ret = dma_buf_end_cpu_access(dmabuf, dir);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return ret;
}

/* memmove() by way of the stack: there is none from I/O memory to I/O memory. */
static void io_move(void __iomem *dst, const void __iomem *src, size_t len)
{
	bool backward = dst > src;
	u8 bytes[256];

	while (len) {
		size_t n = min(len, sizeof(bytes));
		size_t at = backward ? len - n : 0;

		memcpy_fromio(bytes, src + at, n);
		memcpy_toio(dst + at, bytes, n);
		if (!backward) {
			src += n;
			dst += n;
		}
		len -= n;
	}
}

/* Of one buffer, all is I/O memory or nothing is. */
void cohbuf_rs_iosys_move(const struct iosys_map *dst, size_t to,
			  const struct iosys_map *src, size_t from, size_t len)
{
	if (dst->is_iomem && src->is_iomem)
		io_move(dst->vaddr_iomem + to, src->vaddr_iomem + from, len);
	else if (dst->is_iomem)
		memcpy_toio(dst->vaddr_iomem + to, src->vaddr + from, len);
	else if (src->is_iomem)
		memcpy_fromio(dst->vaddr + to, src->vaddr_iomem + from, len);
	else
		memmove(dst->vaddr + to, src->vaddr + from, len);
}

void cohbuf_rs_iosys_read(void *to, const struct iosys_map *src, size_t from, size_t len)
{
	iosys_map_memcpy_from(to, src, from, len);
}

void cohbuf_rs_iosys_write(const struct iosys_map *dst, size_t to, const void *from, size_t len)
{
	struct iosys_map map = *dst;

	iosys_map_memcpy_to(&map, to, from, len);
}

/*
 * Zero, so that no memory of others can get out. The caller gets -ENOMEM: it is
 * not worth the life of a task.
 */
void *cohbuf_rs_scratch_alloc(size_t size)
{
	return kvzalloc(size, GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
}

void cohbuf_rs_cond_resched(void)
{
	cond_resched();
}
