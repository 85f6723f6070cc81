/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The functions of interface.rs, for interface.c. Not for bindgen.
 */
#ifndef _COHBUF_RUST_INTERFACE_H
#define _COHBUF_RUST_INTERFACE_H

#include <linux/types.h>

struct dma_buf;
struct dma_buf_attachment;
struct sg_table;

void cohbuf_rs_query(struct dma_buf *dmabuf, bool *coherent, unsigned int *caching);
int cohbuf_rs_set_autofence(struct dma_buf_attachment *attach, bool autofence);
int cohbuf_rs_sync(struct dma_buf_attachment *attach, const struct sg_table *table,
		   bool for_device, bool locked);

#endif /* _COHBUF_RUST_INTERFACE_H */
