/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/cohbuf_driver: an importer that uses include/linux/cohbuf.h. For the tests
 * and the demo of cohbuf only; not a stable interface.
 */
#ifndef _UAPI_LINUX_COHBUF_DRIVER_H
#define _UAPI_LINUX_COHBUF_DRIVER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Bytes that a device moves at a time. */
#define COHBUF_DRIVER_BYTES	64

/* What to say to cohbuf_set_autofence() when a device is attached. */
enum cohbuf_driver_autofence {
	COHBUF_DRIVER_DEFAULT = 0,	/* nothing */
	COHBUF_DRIVER_ON = 1,
	COHBUF_DRIVER_OFF = 2,
};

/**
 * struct cohbuf_driver_attach - attach a device
 * @fd:		In: dma-buf.
 * @kind:	In: a model, by its number in &enum cohbuf_test_device.
 * @index:	In: which of those, 0 or 1.
 * @dynamic:	In: 1 for dma_buf_dynamic_attach().
 * @autofence:	In: &enum cohbuf_driver_autofence.
 * @handle:	Out: names the attachment from now on, in this open file.
 *
 * -ENODEV: no such device here.
 */
struct cohbuf_driver_attach {
	__s32 fd;
	__u32 kind;
	__u32 index;
	__u32 dynamic;
	__u32 autofence;
	__u32 handle;
};

/* @careless of &struct cohbuf_driver_map: to rely on the exporter. */
#define COHBUF_DRIVER_CARELESS	1

/**
 * struct cohbuf_driver_map - map and unmap
 * @handle:	In: attachment.
 * @direction:	In: &enum cohbuf_test_dir, for map.
 * @careless:	In: COHBUF_DRIVER_CARELESS to unmap without a wait for the jobs of
 *		the device. Only for devices with dma_map_ops of their own, which
 *		find nothing then.
 *
 * -EBUSY: map of what is mapped. -ENOTCONN: unmap of what is not.
 */
struct cohbuf_driver_map {
	__u32 handle;
	__u32 direction;
	__u32 careless;
};

/**
 * struct cohbuf_driver_dma - what the device does
 * @handle:	In: attachment that is mapped.
 * @write:	In: 1 where the device writes, 0 where it reads.
 * @offset:	In: where in the buffer.
 * @len:	In: bytes, 1 to COHBUF_DRIVER_BYTES, in one DMA segment.
 * @delay_ms:	In: for a job. It adds a fence to the reservation object, of a
 *		reader or of a writer, begins after that time, and signals.
 * @bytes:	In: what it writes. Out: what it has read, unless it is a job.
 *
 * -ENOTCONN: not mapped. -EACCES: against the direction of the mapping.
 */
struct cohbuf_driver_dma {
	__u32 handle;
	__u32 write;
	__u64 offset;
	__u32 len;
	__u32 delay_ms;
	__u8 bytes[COHBUF_DRIVER_BYTES];
};

/* @flags of &struct cohbuf_driver_sync. */
#define COHBUF_DRIVER_FOR_DEVICE	1	/* else for the CPU */
#define COHBUF_DRIVER_LOCKED		2	/* with the reservation lock held */

/**
 * struct cohbuf_driver_sync - cohbuf_sync_for_cpu() and its like
 * @handle:	In: attachment.
 * @flags:	In: COHBUF_DRIVER_*.
 * @table_of:	In: an attachment whose sg table is given, or 0 for its own. One
 *		that is not mapped has none (%NULL).
 */
struct cohbuf_driver_sync {
	__u32 handle;
	__u32 flags;
	__u32 table_of;
};

/**
 * struct cohbuf_driver_autofence_arg - cohbuf_set_autofence()
 * @handle:	In: attachment.
 * @autofence:	In: 0 or 1.
 */
struct cohbuf_driver_autofence_arg {
	__u32 handle;
	__u32 autofence;
};

/**
 * struct cohbuf_driver_query - cohbuf_query_dma_buf()
 * @fd:		In: dma-buf.
 * @known:	Out: 1 where it is one of cohbuf.
 * @coherent:	Out: of &struct cohbuf_query.
 * @caching:	Out: likewise. Both stay as they are where it is not one of cohbuf.
 */
struct cohbuf_driver_query {
	__s32 fd;
	__u32 known;
	__u32 coherent;
	__u32 caching;
};

/**
 * struct cohbuf_driver_model - the cache model of these devices
 * @op:		In: 0 forgets all pages, 1 tracks some; see &struct cohbuf_test_model.
 * @reserved:	In: 0.
 * @addr:	In: address in a mapping of a dma-buf.
 * @len:	In: bytes.
 */
struct cohbuf_driver_model {
	__u32 op;
	__u32 reserved;
	__u64 addr;
	__u64 len;
};

/**
 * struct cohbuf_driver_lost - dma_buf_put() of a reference that somebody has lost
 * @fd:		In: dma-buf.
 *
 * videobuf2 loses one where dma_buf_attach() fails (__prepare_dmabuf(), up to 7.3).
 * Only who has counted them may call it: one put too many is a use after free.
 *
 * -EINVAL: nobody has one but the file descriptor.
 */
struct cohbuf_driver_lost {
	__s32 fd;
};

#define COHBUF_DRIVER_ATTACH	_IOWR('C', 0xe0, struct cohbuf_driver_attach)
#define COHBUF_DRIVER_DETACH	_IOW('C', 0xe1, __u32)
#define COHBUF_DRIVER_MAP	_IOW('C', 0xe2, struct cohbuf_driver_map)
#define COHBUF_DRIVER_UNMAP	_IOW('C', 0xe3, struct cohbuf_driver_map)
#define COHBUF_DRIVER_DMA	_IOWR('C', 0xe4, struct cohbuf_driver_dma)
#define COHBUF_DRIVER_JOB	_IOW('C', 0xe5, struct cohbuf_driver_dma)
#define COHBUF_DRIVER_SYNC	_IOW('C', 0xe6, struct cohbuf_driver_sync)
#define COHBUF_DRIVER_AUTOFENCE	_IOW('C', 0xe7, struct cohbuf_driver_autofence_arg)
#define COHBUF_DRIVER_QUERY	_IOWR('C', 0xe8, struct cohbuf_driver_query)
#define COHBUF_DRIVER_MODEL	_IOW('C', 0xe9, struct cohbuf_driver_model)
#define COHBUF_DRIVER_PUT_LOST	_IOW('C', 0xea, struct cohbuf_driver_lost)

#endif /* _UAPI_LINUX_COHBUF_DRIVER_H */
