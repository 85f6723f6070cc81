/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events of cohbuf: Documentation/tracing.rst says what the fields are.
 *
 * A buffer goes by the inode number of its dma-buf, as in fdinfo, in
 * dma_buf/bufinfo of debugfs and in the log; an attachment by a number that no
 * other attachment of the buffer has or had, from 1. Sizes and offsets are bytes,
 * durations nanoseconds. An event comes at the end of what it tells of, which
 * began its duration earlier.
 *
 * Numbers are written out where they are printed: what reads the format of an
 * event has no enums. Nor does it take quotes in a format.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM cohbuf

#if !defined(_TRACE_COHBUF_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_COHBUF_H

#include <linux/device.h>
#include <linux/tracepoint.h>
#include <linux/types.h>

#ifndef _TRACE_COHBUF_STRUCTS
#define _TRACE_COHBUF_STRUCTS

/* What maintenance has cost; the counters of &struct cohbuf_info. */
struct cohbuf_trace_cost {
	u64 cleaned;
	u64 invalidated;
	u64 to_copies;
	u64 from_copies;
	u64 own_ops;
	u64 saved;
};

/* As &struct cohbuf_sync has it, rows without a gap between them being one. */
struct cohbuf_trace_region {
	u64 offset;
	u64 length;
	u64 stride;
	u64 rows;
};

struct cohbuf_trace_attach {
	unsigned long ino;
	struct device *dev;
	u32 attachment;
	u32 flags;
	const char *reason;
	int error;
};

/* Of a map, an unmap, a device-side sync. */
struct cohbuf_trace_mapping {
	unsigned long ino;
	struct device *dev;
	u32 attachment;
	u32 direction;
	u32 reach;
	u32 segments;
	const char *reason;
	int error;
	struct cohbuf_trace_cost cost;
	u64 duration;
};

/* One pass over a mapping, or over the buffer for one that is gone. @dev: null then. */
struct cohbuf_trace_maintain {
	unsigned long ino;
	struct device *dev;
	u32 attachment;
	u32 direction;
	u32 reach;
	bool for_device;
	u64 bytes;
	u64 bounced;
	u64 duration;
};

struct cohbuf_trace_sync {
	unsigned long ino;
	u32 flags;
	bool copy;
	struct cohbuf_trace_region region;
	struct cohbuf_trace_cost cost;
	u32 windows;
	int error;
	u64 duration;
};

struct cohbuf_trace_window {
	unsigned long ino;
	int tgid;
	u32 access;
	struct cohbuf_trace_region region;
	u32 open;
};

struct cohbuf_trace_copy {
	unsigned long src;
	unsigned long dst;
	u64 bytes;
	int error;
	u64 duration;
};

#endif /* _TRACE_COHBUF_STRUCTS */

#define show_cohbuf_flags(flags)					\
	__print_flags(flags, "|",					\
		{ 0x01, "COHERENT" },					\
		{ 0x02, "WRITE_COMBINE" },				\
		{ 0x04, "CONTIGUOUS" },					\
		{ 0x08, "TRACK_DIRTY" },				\
		{ 0x10, "ENFORCE_REPORT" },				\
		{ 0x20, "ENFORCE_POISON" })

#define show_cohbuf_attachment(flags)					\
	__print_flags(flags, "|",					\
		{ 0x01, "COHERENT" },					\
		{ 0x02, "AUTOFENCE" },					\
		{ 0x04, "DYNAMIC" })

/* enum dma_data_direction */
#define show_cohbuf_direction(direction)				\
	__print_symbolic(direction,					\
		{ 0, "BIDIRECTIONAL" },					\
		{ 1, "TO_DEVICE" },					\
		{ 2, "FROM_DEVICE" })

/* enum cohbuf_reach */
#define show_cohbuf_reach(reach)					\
	__print_symbolic(reach,						\
		{ 0, "none" },						\
		{ 1, "snooping" },					\
		{ 2, "direct" },					\
		{ 3, "iommu" },						\
		{ 4, "bounced" },					\
		{ 5, "partly-bounced" },				\
		{ 6, "unknown" })

/* DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE */
#define show_cohbuf_access(flags)					\
	__print_symbolic((flags) & 3,					\
		{ 1, "READ" },						\
		{ 2, "WRITE" },						\
		{ 3, "RW" })

/* DMA_BUF_SYNC_END */
#define show_cohbuf_half(flags)						\
	__print_symbolic((flags) & 4,					\
		{ 0, "START" },						\
		{ 4, "END" })

TRACE_EVENT(cohbuf_create,

	TP_PROTO(unsigned long ino, u64 size, u32 segments, u32 flags),

	TP_ARGS(ino, size, segments, flags),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u64, size)
		__field(u32, segments)
		__field(u32, flags)
	),

	TP_fast_assign(
		__entry->ino = ino;
		__entry->size = size;
		__entry->segments = segments;
		__entry->flags = flags;
	),

	TP_printk("ino=%lu size=%llu segments=%u flags=%s",
		  __entry->ino, __entry->size, __entry->segments,
		  show_cohbuf_flags(__entry->flags))
);

TRACE_EVENT(cohbuf_release,

	TP_PROTO(unsigned long ino),

	TP_ARGS(ino),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
	),

	TP_fast_assign(
		__entry->ino = ino;
	),

	TP_printk("ino=%lu", __entry->ino)
);

TRACE_EVENT(cohbuf_attach,

	TP_PROTO(const struct cohbuf_trace_attach *attach),

	TP_ARGS(attach),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u32, attachment)
		__field(u32, flags)
		__field(int, error)
		__string(device, dev_name(attach->dev))
		__string(driver, dev_driver_string(attach->dev))
		__string(reason, attach->reason)
	),

	TP_fast_assign(
		__entry->ino = attach->ino;
		__entry->attachment = attach->attachment;
		__entry->flags = attach->flags;
		__entry->error = attach->error;
		__assign_str(device);
		__assign_str(driver);
		__assign_str(reason);
	),

	TP_printk("ino=%lu attachment=%u device=%s driver=%s flags=%s error=%d reason=%s",
		  __entry->ino, __entry->attachment, __get_str(device), __get_str(driver),
		  show_cohbuf_attachment(__entry->flags), __entry->error, __get_str(reason))
);

TRACE_EVENT(cohbuf_detach,

	TP_PROTO(unsigned long ino, u32 attachment),

	TP_ARGS(ino, attachment),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u32, attachment)
	),

	TP_fast_assign(
		__entry->ino = ino;
		__entry->attachment = attachment;
	),

	TP_printk("ino=%lu attachment=%u", __entry->ino, __entry->attachment)
);

TRACE_EVENT(cohbuf_map,

	TP_PROTO(const struct cohbuf_trace_mapping *map),

	TP_ARGS(map),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u32, attachment)
		__field(u32, direction)
		__field(u32, reach)
		__field(u32, segments)
		__field(int, error)
		__field(u64, cleaned)
		__field(u64, invalidated)
		__field(u64, to_copies)
		__field(u64, from_copies)
		__field(u64, own_ops)
		__field(u64, duration)
		__string(device, dev_name(map->dev))
		__string(reason, map->reason)
	),

	TP_fast_assign(
		__entry->ino = map->ino;
		__entry->attachment = map->attachment;
		__entry->direction = map->direction;
		__entry->reach = map->reach;
		__entry->segments = map->segments;
		__entry->error = map->error;
		__entry->cleaned = map->cost.cleaned;
		__entry->invalidated = map->cost.invalidated;
		__entry->to_copies = map->cost.to_copies;
		__entry->from_copies = map->cost.from_copies;
		__entry->own_ops = map->cost.own_ops;
		__entry->duration = map->duration;
		__assign_str(device);
		__assign_str(reason);
	),

	TP_printk("ino=%lu attachment=%u device=%s direction=%s reach=%s segments=%u error=%d cleaned=%llu invalidated=%llu to_copies=%llu from_copies=%llu own_ops=%llu duration=%llu reason=%s",
		  __entry->ino, __entry->attachment, __get_str(device),
		  show_cohbuf_direction(__entry->direction), show_cohbuf_reach(__entry->reach),
		  __entry->segments, __entry->error, __entry->cleaned, __entry->invalidated,
		  __entry->to_copies, __entry->from_copies, __entry->own_ops, __entry->duration,
		  __get_str(reason))
);

TRACE_EVENT(cohbuf_unmap,

	TP_PROTO(const struct cohbuf_trace_mapping *unmap),

	TP_ARGS(unmap),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u32, attachment)
		__field(u32, direction)
		__field(u32, reach)
		__field(u64, cleaned)
		__field(u64, invalidated)
		__field(u64, to_copies)
		__field(u64, from_copies)
		__field(u64, own_ops)
		__field(u64, duration)
		__string(device, dev_name(unmap->dev))
	),

	TP_fast_assign(
		__entry->ino = unmap->ino;
		__entry->attachment = unmap->attachment;
		__entry->direction = unmap->direction;
		__entry->reach = unmap->reach;
		__entry->cleaned = unmap->cost.cleaned;
		__entry->invalidated = unmap->cost.invalidated;
		__entry->to_copies = unmap->cost.to_copies;
		__entry->from_copies = unmap->cost.from_copies;
		__entry->own_ops = unmap->cost.own_ops;
		__entry->duration = unmap->duration;
		__assign_str(device);
	),

	TP_printk("ino=%lu attachment=%u device=%s direction=%s reach=%s cleaned=%llu invalidated=%llu to_copies=%llu from_copies=%llu own_ops=%llu duration=%llu",
		  __entry->ino, __entry->attachment, __get_str(device),
		  show_cohbuf_direction(__entry->direction), show_cohbuf_reach(__entry->reach),
		  __entry->cleaned, __entry->invalidated, __entry->to_copies,
		  __entry->from_copies, __entry->own_ops, __entry->duration)
);

/* cohbuf_sync_for_device() and its like */
DECLARE_EVENT_CLASS(cohbuf_device_sync,

	TP_PROTO(const struct cohbuf_trace_mapping *sync),

	TP_ARGS(sync),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u32, attachment)
		__field(u32, direction)
		__field(u32, reach)
		__field(int, error)
		__field(u64, cleaned)
		__field(u64, invalidated)
		__field(u64, to_copies)
		__field(u64, from_copies)
		__field(u64, own_ops)
		__field(u64, duration)
		__string(device, dev_name(sync->dev))
	),

	TP_fast_assign(
		__entry->ino = sync->ino;
		__entry->attachment = sync->attachment;
		__entry->direction = sync->direction;
		__entry->reach = sync->reach;
		__entry->error = sync->error;
		__entry->cleaned = sync->cost.cleaned;
		__entry->invalidated = sync->cost.invalidated;
		__entry->to_copies = sync->cost.to_copies;
		__entry->from_copies = sync->cost.from_copies;
		__entry->own_ops = sync->cost.own_ops;
		__entry->duration = sync->duration;
		__assign_str(device);
	),

	TP_printk("ino=%lu attachment=%u device=%s direction=%s reach=%s error=%d cleaned=%llu invalidated=%llu to_copies=%llu from_copies=%llu own_ops=%llu duration=%llu",
		  __entry->ino, __entry->attachment, __get_str(device),
		  show_cohbuf_direction(__entry->direction), show_cohbuf_reach(__entry->reach),
		  __entry->error, __entry->cleaned, __entry->invalidated, __entry->to_copies,
		  __entry->from_copies, __entry->own_ops, __entry->duration)
);

DEFINE_EVENT(cohbuf_device_sync, cohbuf_sync_for_cpu,
	TP_PROTO(const struct cohbuf_trace_mapping *sync),
	TP_ARGS(sync)
);

DEFINE_EVENT(cohbuf_device_sync, cohbuf_sync_for_device,
	TP_PROTO(const struct cohbuf_trace_mapping *sync),
	TP_ARGS(sync)
);

TRACE_EVENT(cohbuf_maintain,

	TP_PROTO(const struct cohbuf_trace_maintain *pass),

	TP_ARGS(pass),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u32, attachment)
		__field(u32, direction)
		__field(u32, reach)
		__field(bool, for_device)
		__field(u64, bytes)
		__field(u64, bounced)
		__field(u64, duration)
		__string(device, pass->dev ? dev_name(pass->dev) : "-")
	),

	TP_fast_assign(
		__entry->ino = pass->ino;
		__entry->attachment = pass->attachment;
		__entry->direction = pass->direction;
		__entry->reach = pass->reach;
		__entry->for_device = pass->for_device;
		__entry->bytes = pass->bytes;
		__entry->bounced = pass->bounced;
		__entry->duration = pass->duration;
		__assign_str(device);
	),

	TP_printk("ino=%lu attachment=%u device=%s for=%s direction=%s reach=%s bytes=%llu bounced=%llu duration=%llu",
		  __entry->ino, __entry->attachment, __get_str(device),
		  __print_symbolic(__entry->for_device, { 0, "cpu" }, { 1, "device" }),
		  show_cohbuf_direction(__entry->direction), show_cohbuf_reach(__entry->reach),
		  __entry->bytes, __entry->bounced, __entry->duration)
);

TRACE_EVENT(cohbuf_sync,

	TP_PROTO(const struct cohbuf_trace_sync *sync),

	TP_ARGS(sync),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u32, flags)
		__field(bool, copy)
		__field(u32, windows)
		__field(int, error)
		__field(u64, offset)
		__field(u64, length)
		__field(u64, stride)
		__field(u64, rows)
		__field(u64, cleaned)
		__field(u64, invalidated)
		__field(u64, to_copies)
		__field(u64, from_copies)
		__field(u64, own_ops)
		__field(u64, saved)
		__field(u64, duration)
	),

	TP_fast_assign(
		__entry->ino = sync->ino;
		__entry->flags = sync->flags;
		__entry->copy = sync->copy;
		__entry->windows = sync->windows;
		__entry->error = sync->error;
		__entry->offset = sync->region.offset;
		__entry->length = sync->region.length;
		__entry->stride = sync->region.stride;
		__entry->rows = sync->region.rows;
		__entry->cleaned = sync->cost.cleaned;
		__entry->invalidated = sync->cost.invalidated;
		__entry->to_copies = sync->cost.to_copies;
		__entry->from_copies = sync->cost.from_copies;
		__entry->own_ops = sync->cost.own_ops;
		__entry->saved = sync->cost.saved;
		__entry->duration = sync->duration;
	),

	TP_printk("ino=%lu %s access=%s by=%s offset=%llu length=%llu stride=%llu rows=%llu error=%d cleaned=%llu invalidated=%llu to_copies=%llu from_copies=%llu own_ops=%llu saved=%llu windows=%u duration=%llu",
		  __entry->ino, show_cohbuf_half(__entry->flags),
		  show_cohbuf_access(__entry->flags),
		  __print_symbolic(__entry->copy, { 0, "task" }, { 1, "copy" }),
		  __entry->offset, __entry->length, __entry->stride, __entry->rows,
		  __entry->error, __entry->cleaned, __entry->invalidated, __entry->to_copies,
		  __entry->from_copies, __entry->own_ops, __entry->saved, __entry->windows,
		  __entry->duration)
);

DECLARE_EVENT_CLASS(cohbuf_window,

	TP_PROTO(const struct cohbuf_trace_window *window),

	TP_ARGS(window),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(int, tgid)
		__field(u32, access)
		__field(u32, open)
		__field(u64, offset)
		__field(u64, length)
		__field(u64, stride)
		__field(u64, rows)
	),

	TP_fast_assign(
		__entry->ino = window->ino;
		__entry->tgid = window->tgid;
		__entry->access = window->access;
		__entry->open = window->open;
		__entry->offset = window->region.offset;
		__entry->length = window->region.length;
		__entry->stride = window->region.stride;
		__entry->rows = window->region.rows;
	),

	TP_printk("ino=%lu tgid=%d access=%s offset=%llu length=%llu stride=%llu rows=%llu open=%u",
		  __entry->ino, __entry->tgid, show_cohbuf_access(__entry->access),
		  __entry->offset, __entry->length, __entry->stride, __entry->rows,
		  __entry->open)
);

DEFINE_EVENT(cohbuf_window, cohbuf_window_open,
	TP_PROTO(const struct cohbuf_trace_window *window),
	TP_ARGS(window)
);

/* By an END. */
DEFINE_EVENT(cohbuf_window, cohbuf_window_close,
	TP_PROTO(const struct cohbuf_trace_window *window),
	TP_ARGS(window)
);

/* As its process is gone, which may be seen later. */
DEFINE_EVENT(cohbuf_window, cohbuf_window_abandon,
	TP_PROTO(const struct cohbuf_trace_window *window),
	TP_ARGS(window)
);

/* Only where a fence is pending. */
TRACE_EVENT(cohbuf_fence_wait_begin,

	TP_PROTO(unsigned long ino, bool all),

	TP_ARGS(ino, all),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(bool, all)
	),

	TP_fast_assign(
		__entry->ino = ino;
		__entry->all = all;
	),

	TP_printk("ino=%lu fences=%s", __entry->ino,
		  __print_symbolic(__entry->all, { 0, "writers" }, { 1, "all" }))
);

TRACE_EVENT(cohbuf_fence_wait_end,

	TP_PROTO(unsigned long ino, bool all, int error, u64 duration),

	TP_ARGS(ino, all, error, duration),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(bool, all)
		__field(int, error)
		__field(u64, duration)
	),

	TP_fast_assign(
		__entry->ino = ino;
		__entry->all = all;
		__entry->error = error;
		__entry->duration = duration;
	),

	TP_printk("ino=%lu fences=%s error=%d duration=%llu", __entry->ino,
		  __print_symbolic(__entry->all, { 0, "writers" }, { 1, "all" }),
		  __entry->error, __entry->duration)
);

/* Enforcement: an access outside of all windows that allow it. */
TRACE_EVENT(cohbuf_outside,

	TP_PROTO(unsigned long ino, u64 offset, bool write, bool poisons),

	TP_ARGS(ino, offset, write, poisons),

	TP_STRUCT__entry(
		__field(unsigned long, ino)
		__field(u64, offset)
		__field(bool, write)
		__field(bool, poisons)
	),

	TP_fast_assign(
		__entry->ino = ino;
		__entry->offset = offset;
		__entry->write = write;
		__entry->poisons = poisons;
	),

	TP_printk("ino=%lu offset=%llu access=%s verdict=%s", __entry->ino, __entry->offset,
		  __print_symbolic(__entry->write, { 0, "READ" }, { 1, "WRITE" }),
		  __print_symbolic(__entry->poisons, { 0, "report" }, { 1, "poison" }))
);

TRACE_EVENT(cohbuf_copy,

	TP_PROTO(const struct cohbuf_trace_copy *copy),

	TP_ARGS(copy),

	TP_STRUCT__entry(
		__field(unsigned long, src)
		__field(unsigned long, dst)
		__field(u64, bytes)
		__field(int, error)
		__field(u64, duration)
	),

	TP_fast_assign(
		__entry->src = copy->src;
		__entry->dst = copy->dst;
		__entry->bytes = copy->bytes;
		__entry->error = copy->error;
		__entry->duration = copy->duration;
	),

	TP_printk("src=%lu dst=%lu bytes=%llu error=%d duration=%llu",
		  __entry->src, __entry->dst, __entry->bytes, __entry->error,
		  __entry->duration)
);

#endif /* _TRACE_COHBUF_H */

/* <trace/events/cohbuf.h> is found by the include path of the module. */
#include <trace/define_trace.h>
