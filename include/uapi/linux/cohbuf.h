/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * cohbuf - a dma-buf exporter that knows which device can see what
 *
 * Every structure is the same on 32 and 64 bits, and is extended by its size:
 * the kernel takes a shorter structure than its own and reads the missing
 * fields as zero; it takes a longer one if what it does not know is zero
 * (-E2BIG otherwise). A field called reserved must be zero (-EINVAL otherwise).
 *
 * Errors of every ioctl: -EFAULT where the structure cannot be read or written
 * back, -ENOTTY where the command is not known, -EINVAL where the structure is
 * shorter than its first version, -E2BIG where it is longer than a page or
 * sets what this kernel does not know. An ioctl that fails changes nothing:
 * no file descriptor is left behind, no memory is held.
 */
#ifndef _UAPI_LINUX_COHBUF_H
#define _UAPI_LINUX_COHBUF_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The version of this interface. */
#define COHBUF_API_VERSION	1

/*
 * Flags of COHBUF_IOCTL_CREATE, one at most. A buffer without any is bracketed:
 * it takes every importer, and CPU access to it goes between the START and END
 * of DMA_BUF_IOCTL_SYNC. From a START that says WRITE to its END the buffer
 * belongs to the CPU: what a device writes meanwhile may be lost. A process that
 * exits ends what it has started. START with WRITE may fail with -ENOMEM, and has
 * done nothing then. START and END may fail with -EINTR: call END again; where a
 * START failed so, END ends what it may have begun. When it is made, a mapping that
 * its device may write is refused with -EBUSY where that device or the one of
 * another such mapping has DMA ops of its own, and they differ: nobody could tell
 * who wrote what. -ENOMEM: where two devices may write, and one of them may have a
 * copy, a mapping takes the size of the buffer in memory, and the first of them
 * twice.
 *
 * COHBUF_COHERENT: every importer must be DMA-coherent. Refused with -EOPNOTSUPP
 * are, when they attach, devices that are not, and those with DMA ops of their
 * own, of which nobody knows; and when it is made, a mapping that is bounced.
 *
 * COHBUF_WRITE_COMBINE: the CPU sees the memory past its caches, so that nobody
 * needs maintenance, and reads are slow. Refused with -EOPNOTSUPP are, when they
 * attach, devices with DMA ops of their own, and where the kernel's own mapping
 * of the memory stays cached (arm64) those that snoop; and when it is made, a
 * mapping that is bounced.
 */
#define COHBUF_COHERENT		(1U << 0)
#define COHBUF_WRITE_COMBINE	(1U << 1)

/**
 * struct cohbuf_caps - what this driver can do (COHBUF_IOCTL_CAPS)
 * @version:	COHBUF_API_VERSION of the driver.
 * @reserved:	Zero.
 * @flags:	The flags that COHBUF_IOCTL_CREATE knows.
 * @max_size:	The largest buffer, in bytes: the module parameter max_size_mb
 *		as it is now.
 * @page_size:	Sizes are rounded up to a multiple of this, in bytes.
 *
 * All fields are written by the driver. What the caller puts into them is not
 * looked at, but for @reserved.
 */
struct cohbuf_caps {
	__u32 version;
	__u32 reserved;
	__u64 flags;
	__u64 max_size;
	__u64 page_size;
};

/**
 * struct cohbuf_create - make a buffer (COHBUF_IOCTL_CREATE)
 * @size:	In: bytes wanted, above 0. Out: bytes that the buffer has, which
 *		is @size rounded up to a multiple of the page size.
 * @flags:	In: COHBUF_COHERENT, COHBUF_WRITE_COMBINE or 0.
 * @fd_flags:	In: O_CLOEXEC and one of O_RDONLY, O_RDWR.
 * @fd:		Out: file descriptor of the dma-buf. Must be 0 on the way in.
 *
 * The memory is zero, and is charged to the memory cgroup of the caller.
 *
 * -EINVAL: @size is 0; a bit of @flags or @fd_flags is not known; @flags has both;
 * @fd is not 0.
 * -EOPNOTSUPP: memory cannot be write-combined here (see &struct cohbuf_caps).
 * -EOVERFLOW: @size cannot be rounded up to a multiple of the page size.
 * -EFBIG: @size is above the limit of the module (see &struct cohbuf_caps).
 * -ENOMEM: there is not that much memory, or the cgroup may not have it.
 * -EMFILE, -ENFILE: no file descriptor is left.
 * -EINTR: the task was killed while it waited for memory.
 */
struct cohbuf_create {
	__u64 size;
	__u32 flags;
	__u32 fd_flags;
	__s32 fd;
	__u32 reserved;
};

/**
 * struct cohbuf_info - what is known of a buffer (COHBUF_IOCTL_INFO)
 * @fd:			In: file descriptor of a dma-buf made by cohbuf. It may
 *			be read-only.
 * @flags:		Out: the flags that the buffer was made with. Must be 0 on
 *			the way in.
 * @size:		Out: bytes.
 * @attachments:	Out: importers that are attached now.
 * @mappings:		Out: mappings that they hold now.
 * @bounced:		Out: of @mappings, those with a segment that is bounced.
 * @write_windows:	Out: START with WRITE that had no END yet. Must be 0 on the
 *			way in.
 * @refused_attach:	Out: attachments that were refused.
 * @refused_map:	Out: mappings that were refused.
 * @syncs_for_cpu:	Out: passes over a mapping for the CPU. One may serve
 *			several mappings.
 * @syncs_for_device:	Out: passes over a mapping for devices.
 * @segments:		Out: physically contiguous pieces that the buffer is of.
 * @reserved:		Zero.
 *
 * The counters go up from 0 at CREATE.
 *
 * -EBADF: @fd is no open file descriptor.
 * -EINVAL: @fd is not a dma-buf; @flags or @write_windows is not 0.
 * -EMEDIUMTYPE: @fd is a dma-buf of another exporter.
 * -ERESTARTSYS (-EINTR): a signal came while the reservation lock was waited for.
 */
struct cohbuf_info {
	__s32 fd;
	__u32 flags;
	__u64 size;
	__u32 attachments;
	__u32 mappings;
	__u32 bounced;
	__u32 write_windows;
	__u64 refused_attach;
	__u64 refused_map;
	__u64 syncs_for_cpu;
	__u64 syncs_for_device;
	__u32 segments;
	__u32 reserved;
};

/*
 * The ioctls of /dev/cohbuf. An enum, as bindgen resolves the numbers of an
 * enum, but not those of a macro with an expression.
 */
enum cohbuf_ioctl {
	COHBUF_IOCTL_CAPS = _IOWR('C', 0xb0, struct cohbuf_caps),
	COHBUF_IOCTL_CREATE = _IOWR('C', 0xb1, struct cohbuf_create),
	COHBUF_IOCTL_INFO = _IOWR('C', 0xb2, struct cohbuf_info),
};

#endif /* _UAPI_LINUX_COHBUF_H */
