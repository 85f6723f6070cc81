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
 *		each kind but of edu, of which there are as many as QEMU has.
 * @handle:	Out: names the attachment in the other ioctls. It belongs to the
 *		open file of the test importer and goes with it.
 * @coherent:	Out: 1 where the device is DMA-coherent. Written where the attach
 *		fails too (the ioctl then still returns the errno of the attach),
 *		and even where @fd is not a dma-buf.
 *
 * -ENODEV: there is no such device here. -EBADF: @fd is no open file
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
 * @bounced:	Out: 1 where a segment is bounced. Written by map only.
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
 * @handle:	In: attachment that is mapped, of COHBUF_TEST_EDU.
 * @write:	In: 1 where the device writes the buffer, 0 where it reads it.
 * @offset:	In: where in the buffer, in bytes.
 * @len:	In: bytes. They may cross pages and segments.
 * @data:	In: user memory of @len bytes that the device's own memory is
 *		filled from (@write = 1) or delivered to (@write = 0).
 *
 * The bytes go through the 4 KiB of memory inside of edu, by its DMA engine,
 * a piece at a time: what @data gets is what the device saw. Each piece takes
 * two transfers, and edu takes 100 ms of guest time for each. Several devices
 * work at the same time, for callers in as many threads.
 *
 * -ENOENT: no such attachment. -ENOTCONN: it is not mapped. -EINVAL: empty or
 * out of the buffer, or @write is neither 0 nor 1. -EACCES: the mapping has not
 * the direction. -EOPNOTSUPP: the device has no DMA engine. -ETIMEDOUT: the
 * device did not answer. -EFAULT: bad @data. -ENODEV: the device went away.
 * -EINTR: a signal came; some pieces may have been moved.
 */
struct cohbuf_test_dma {
	__u32 handle;
	__u32 write;
	__u64 offset;
	__u64 len;
	__u64 data;
};

/* The ioctls of /dev/cohbuf_importer; an enum for bindgen's sake. */
enum cohbuf_test_ioctl {
	COHBUF_TEST_IOCTL_ATTACH = _IOWR('C', 0xd0, struct cohbuf_test_attach),
	COHBUF_TEST_IOCTL_DETACH = _IOW('C', 0xd1, __u32),
	COHBUF_TEST_IOCTL_MAP = _IOWR('C', 0xd2, struct cohbuf_test_map),
	COHBUF_TEST_IOCTL_UNMAP = _IOW('C', 0xd3, struct cohbuf_test_map),
	COHBUF_TEST_IOCTL_DMA = _IOW('C', 0xd4, struct cohbuf_test_dma),
};

#endif /* _UAPI_LINUX_COHBUF_TEST_H */
