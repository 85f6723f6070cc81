// SPDX-License-Identifier: GPL-2.0
/*
 * The trace events, and what calls them from Rust: rust/trace.rs.
 */
#include <linux/build_bug.h>
#include <linux/dma-direction.h>
#include <linux/sched.h>

#include <uapi/linux/cohbuf.h>
#include <uapi/linux/dma-buf.h>

#include "helpers.h"

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include <trace/events/cohbuf.h>

/* What the header writes out as numbers. */
static_assert(COHBUF_COHERENT == 0x01 && COHBUF_WRITE_COMBINE == 0x02);
static_assert(COHBUF_CONTIGUOUS == 0x04 && COHBUF_TRACK_DIRTY == 0x08);
static_assert(COHBUF_ENFORCE_REPORT == 0x10 && COHBUF_ENFORCE_POISON == 0x20);
static_assert(COHBUF_ATTACHMENT_COHERENT == 1 && COHBUF_ATTACHMENT_AUTOFENCE == 2);
static_assert(COHBUF_ATTACHMENT_DYNAMIC == 4);
static_assert(DMA_BIDIRECTIONAL == 0 && DMA_TO_DEVICE == 1 && DMA_FROM_DEVICE == 2);
static_assert(COHBUF_REACH_NONE == 0 && COHBUF_REACH_SNOOPING == 1);
static_assert(COHBUF_REACH_DIRECT == 2 && COHBUF_REACH_IOMMU == 3);
static_assert(COHBUF_REACH_BOUNCED == 4 && COHBUF_REACH_PARTLY_BOUNCED == 5);
static_assert(COHBUF_REACH_UNKNOWN == 6);
static_assert(DMA_BUF_SYNC_READ == 1 && DMA_BUF_SYNC_WRITE == 2 && DMA_BUF_SYNC_END == 4);

/* As the events have it, whatever the pid namespace. */
int cohbuf_rs_current_tgid(void)
{
	return task_tgid_nr(current);
}
