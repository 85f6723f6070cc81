/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The test importer of cohbuf, /dev/cohbuf_importer. For tests and for the demo
 * only; not a stable interface.
 */
#ifndef _UAPI_LINUX_COHBUF_TEST_H
#define _UAPI_LINUX_COHBUF_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Devices that can be an importer. */
enum cohbuf_test_device {
	COHBUF_TEST_EDU = 0,		/* QEMU's edu PCI device: real DMA */
	COHBUF_TEST_COHERENT = 1,	/* a platform device, DMA-coherent */
	COHBUF_TEST_NONCOHERENT = 2,	/* a platform device, not DMA-coherent
					 * where the architecture has such
					 */
	/*
	 * Model devices, four of each, see COHBUF_TEST_IOCTL_MODEL; none where the
	 * module was loaded with models=0, for measurements: kprobes cost time.
	 */
	COHBUF_TEST_BOUNCE_MODEL = 3,	/* dma_map_ops that copy as swiotlb does */
	COHBUF_TEST_CACHE_MODEL = 4,	/* dma_map_ops of the cache model */
	COHBUF_TEST_CACHE_MODEL_MERGED = 5,	/* the same, always one DMA segment */
	COHBUF_TEST_DIRECT_MODEL = 6,	/* mapped directly, never bounced, not
					 * DMA-coherent where the architecture has
					 * such: on the cache model then
					 */
	COHBUF_TEST_SNOOP_MODEL = 7,	/* mapped directly, never bounced, DMA-coherent */
	COHBUF_TEST_BOUNCED_MODEL = 8,	/* mapped directly, DMA-coherent, bounced in a
					 * boot with swiotlb=force
					 */
	COHBUF_TEST_EDU_NONCOHERENT = 9,	/* an edu that is taken as not
						 * DMA-coherent where the architecture
						 * has such: the fifth that QEMU has
						 */
};

/* Directions, as enum dma_data_direction has them. */
enum cohbuf_test_dir {
	COHBUF_TEST_BIDIRECTIONAL = 0,
	COHBUF_TEST_TO_DEVICE = 1,
	COHBUF_TEST_FROM_DEVICE = 2,
};

/**
 * struct cohbuf_test_attach - attach a dma-buf to a device
 * @fd:		In: dma-buf.
 * @device:	In: &enum cohbuf_test_device.
 * @index:	In: which of the devices of that kind, from 0. There is one of
 *		each kind; but of edu there are as many as QEMU has, and of each
 *		model four.
 * @handle:	Out: names the attachment in the other ioctls. It belongs to the
 *		open file of the test importer and goes with it.
 * @coherent:	Out: 1 where the device is DMA-coherent. Written where the attach
 *		fails too (the ioctl then still returns the errno of the attach),
 *		and even where @fd is not a dma-buf.
 *
 * -ENODEV: there is no such device here; of the models that need them, also
 * where the kernel has no dma_map_ops or no kprobes. -EBADF: @fd is no open file
 * descriptor. -EINVAL: @fd is not a dma-buf, or @device is not known.
 * Otherwise what dma_buf_attach() returns, -EOPNOTSUPP from a coherent buffer.
 */
struct cohbuf_test_attach {
	__s32 fd;
	__u32 device;
	__u32 index;
	__u32 handle;
	__u32 coherent;
};

/**
 * struct cohbuf_test_map - map or unmap an attachment
 * @handle:	In: attachment.
 * @direction:	In: &enum cohbuf_test_dir. Looked at by map only.
 * @segments:	Out: DMA segments of the mapping. Written by map only.
 * @bounced:	In: 2 to have nobody look, which takes time; it stays 2.
 *		Out: 1 where a segment is bounced. Written by map only.
 *
 * -ENOENT: no such attachment. -EINVAL: @direction is not known. -EBUSY: map of
 * one that is mapped. -ENOTCONN: unmap of one that is not. -ENODEV: the device
 * went away. Otherwise what dma_buf_map_attachment() returns, -EOPNOTSUPP from a
 * coherent buffer whose mapping would be bounced.
 */
struct cohbuf_test_map {
	__u32 handle;
	__u32 direction;
	__u32 segments;
	__u32 bounced;
};

/**
 * struct cohbuf_test_dma - let the device move bytes
 * @handle:	In: attachment that is mapped, of COHBUF_TEST_EDU or of a model.
 * @write:	In: 1 where the device writes the buffer, 0 where it reads it.
 * @offset:	In: where in the buffer, in bytes.
 * @len:	In: bytes. They may cross pages and segments.
 * @data:	In: user memory of @len bytes that the device's own memory is
 *		filled from (@write = 1) or delivered to (@write = 0).
 *
 * A model device moves them at once: one on the cache model to and from what the
 * model has as memory, one of the bounce model to and from its private copy, and
 * all others to and from the memory that they have mapped, which may be a slot of
 * swiotlb.
 *
 * Of edu, the bytes go through the 4 KiB of memory inside of edu, by its DMA engine,
 * a piece at a time: what @data gets is what the device saw. Each piece takes
 * two transfers, and edu takes 100 ms of guest time for each. Several devices
 * work at the same time, for callers in as many threads.
 *
 * -ENOENT: no such attachment. -ENOTCONN: it is not mapped. -EINVAL: empty or
 * out of the buffer, or @write is neither 0 nor 1. -EACCES: the mapping has not
 * the direction. -EOPNOTSUPP: the device has no DMA engine. -ETIMEDOUT: the
 * device did not answer. -EFAULT: bad @data. -ENXIO: nothing is mapped where
 * the exporter said (models only). -ENODEV: the device went away.
 * -EINTR: a signal came; some pieces may have been moved.
 */
struct cohbuf_test_dma {
	__u32 handle;
	__u32 write;
	__u64 offset;
	__u64 len;
	__u64 data;
};

/* What COHBUF_TEST_IOCTL_MODEL does. */
enum cohbuf_test_model_op {
	COHBUF_TEST_MODEL_RESET = 0,	/* forget all pages, count from zero */
	COHBUF_TEST_MODEL_COUNTS = 1,	/* read the counters */
	COHBUF_TEST_MODEL_ZERO_COUNTS = 2,
	COHBUF_TEST_MODEL_EVICT = 3,	/* all dirty lines are written to memory */
	COHBUF_TEST_MODEL_DROP_CLEAN = 4,	/* all clean lines are read again */
	COHBUF_TEST_MODEL_TRACK = 5,	/* track the pages at addr */
	COHBUF_TEST_MODEL_ATTRS = 6,	/* read the memory types of the page at addr */
};

/* How a page is mapped for the CPU. */
enum cohbuf_test_memory_type {
	COHBUF_TEST_WRITE_BACK = 0,
	COHBUF_TEST_WRITE_COMBINING = 1,	/* on arm64, Normal-NC */
	COHBUF_TEST_OTHER_TYPE = 2,
};

/**
 * struct cohbuf_test_model - the cache model and what the models count
 * @op:		In: &enum cohbuf_test_model_op.
 * @reserved:	In: must be 0.
 * @addr:	In: address in a mapping of a dma-buf, for TRACK and ATTRS.
 * @len:	In: bytes, for TRACK.
 * @user_type:	Out of ATTRS: &enum cohbuf_test_memory_type of the user's mapping.
 * @linear_type: Out of ATTRS: the same of the kernel's linear map.
 * @clean_bytes: Out of COUNTS: cleaned by the cache model.
 * @clean_calls: Out of COUNTS: the number of pieces.
 * @invalidate_bytes: Out of COUNTS: invalidated by the cache model.
 * @invalidate_calls: Out of COUNTS: the number of pieces.
 * @to_bounce_bytes: Out of COUNTS: copied to private copies of the bounce model.
 * @to_bounce_calls: Out of COUNTS: the number of pieces.
 * @from_bounce_bytes: Out of COUNTS: copied back from there.
 * @from_bounce_calls: Out of COUNTS: the number of pieces.
 * @wb_bytes:	Out of COUNTS: written back by arch_wb_cache_pmem(), of any page.
 *		Not in @clean_bytes.
 * @drop_bytes:	Out of COUNTS: dropped by arch_invalidate_pmem(), on arm64. Not in
 *		@invalidate_bytes.
 *
 * The cache model is one for all devices. It tracks pages: each has a memory of
 * its own behind it, which devices that do not snoop access, and is itself what
 * the CPU sees through its cache, in lines of 64 bytes. A page that is tracked
 * anew has 0xa5 in its memory, and what the CPU sees is in the cache alone. It is
 * tracked when it is mapped for a COHBUF_TEST_CACHE_MODEL or
 * COHBUF_TEST_CACHE_MODEL_MERGED device, or by TRACK, which a
 * COHBUF_TEST_DIRECT_MODEL device needs before it is mapped, until RESET, after the
 * last unmap, or until the page is freed.
 *
 * EVICT and DROP_CLEAN do what a cache may do at any time, and count nothing. The
 * CPU must not write during DROP_CLEAN.
 *
 * Of the cache model, bytes of tracked pages are counted, be their lines dirty or
 * not, and calls that had any.
 *
 * -EINVAL: @op is not known or @reserved is not 0; of TRACK, @addr or @len is not
 * a multiple of the page size, or @len is 0, or both go beyond all addresses, or
 * what is mapped is no memory; the latter of ATTRS, too. -EBUSY: RESET while a
 * COHBUF_TEST_BOUNCE_MODEL, COHBUF_TEST_CACHE_MODEL or
 * COHBUF_TEST_CACHE_MODEL_MERGED device has a mapping. -EFAULT: bad argument; of
 * TRACK and ATTRS, something is not mapped, or not from a dma-buf (or other memory
 * without struct page). -ENOMEM: TRACK. -EINTR: the task was killed. -EOPNOTSUPP:
 * ATTRS on an architecture that is not known. A TRACK that fails may have tracked
 * some pages.
 */
struct cohbuf_test_model {
	__u32 op;
	__u32 reserved;
	__u64 addr;
	__u64 len;
	__u32 user_type;
	__u32 linear_type;
	__u64 clean_bytes;
	__u64 clean_calls;
	__u64 invalidate_bytes;
	__u64 invalidate_calls;
	__u64 to_bounce_bytes;
	__u64 to_bounce_calls;
	__u64 from_bounce_bytes;
	__u64 from_bounce_calls;
	__u64 wb_bytes;
	__u64 drop_bytes;
};

/* The ioctls of /dev/cohbuf_importer; an enum for bindgen's sake. */
enum cohbuf_test_ioctl {
	COHBUF_TEST_IOCTL_ATTACH = _IOWR('C', 0xd0, struct cohbuf_test_attach),
	COHBUF_TEST_IOCTL_DETACH = _IOW('C', 0xd1, __u32),
	COHBUF_TEST_IOCTL_MAP = _IOWR('C', 0xd2, struct cohbuf_test_map),
	COHBUF_TEST_IOCTL_UNMAP = _IOW('C', 0xd3, struct cohbuf_test_map),
	COHBUF_TEST_IOCTL_DMA = _IOW('C', 0xd4, struct cohbuf_test_dma),
	COHBUF_TEST_IOCTL_MODEL = _IOWR('C', 0xd5, struct cohbuf_test_model),
};

#endif /* _UAPI_LINUX_COHBUF_TEST_H */
