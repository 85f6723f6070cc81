/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * cohbuf - a dma-buf exporter that knows which device can see what
 */
#ifndef _UAPI_LINUX_COHBUF_H
#define _UAPI_LINUX_COHBUF_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: structures and errors
 *
 * Every structure is the same on 32 and 64 bits, and is extended by its size:
 * the kernel takes a shorter structure than its own and reads the missing
 * fields as zero; it takes a longer one if what it does not know is zero
 * (%-E2BIG otherwise). A field called reserved must be zero (%-EINVAL otherwise).
 *
 * Errors of every ioctl:
 *
 * * %-EFAULT: the structure cannot be read or written back.
 * * %-ENOTTY: the command is not known.
 * * %-EINVAL: the structure is shorter than its first version.
 * * %-E2BIG: it is longer than a page or sets what this kernel does not know.
 * * %-EINTR: a signal came while fences or the reservation lock were waited for.
 *   Where SA_RESTART is set the ioctl is restarted instead.
 *
 * An ioctl that fails changes nothing: no file descriptor is left behind, no
 * memory is held.
 */

/** define COHBUF_API_VERSION - the version of this interface */
#define COHBUF_API_VERSION	1

/**
 * DOC: bracketed buffers
 *
 * A buffer without %COHBUF_COHERENT and %COHBUF_WRITE_COMBINE is bracketed:
 * it takes every importer, and CPU access to it goes between the START and END
 * of DMA_BUF_IOCTL_SYNC. From a START that says WRITE to its END the buffer
 * belongs to the CPU: what a device writes meanwhile may be lost. A process that
 * exits ends what it has started.
 *
 * START with WRITE, and each START of a buffer that enforces windows, may fail with
 * %-ENOMEM or %-ENOSPC (see &struct cohbuf_sync), and has done nothing then. START and
 * END may fail with %-EINTR: call them again. A START that failed so has begun
 * nothing, unless a fence was added at that moment, for which the core waits once
 * more; %COHBUF_IOCTL_SYNC has no such case.
 *
 * When it is made, a mapping that its device may write is refused with
 *
 * * %-EBUSY where that device or the one of another such mapping has DMA ops of its
 *   own, and they differ: nobody could tell who wrote what. So is one by DMA ops
 *   that cannot sync a part of it, while windows are open over parts of the buffer
 *   alone (%COHBUF_IOCTL_SYNC).
 * * %-ENOMEM where there is no room to tell bytes apart: where two devices may
 *   write, and one of them may have a copy, a mapping takes the size of the buffer
 *   in memory, and the first of them twice.
 */

/**
 * define COHBUF_COHERENT - every importer must be DMA-coherent
 *
 * A flag of %COHBUF_IOCTL_CREATE. Excludes %COHBUF_WRITE_COMBINE.
 *
 * Refused with %-EOPNOTSUPP are, when they attach, devices that are not, and those
 * with DMA ops of their own, of which nobody knows; and when it is made, a mapping
 * that is bounced.
 */
#define COHBUF_COHERENT		(1U << 0)
/**
 * define COHBUF_WRITE_COMBINE - the CPU sees the memory past its caches
 *
 * A flag of %COHBUF_IOCTL_CREATE. Excludes %COHBUF_COHERENT.
 *
 * Nobody needs maintenance, and reads are slow. Refused with %-EOPNOTSUPP are, when
 * they attach, devices with DMA ops of their own, and where the kernel's own mapping
 * of the memory stays cached (arm64) those that snoop; and when it is made, a
 * mapping that is bounced.
 */
#define COHBUF_WRITE_COMBINE	(1U << 1)
/**
 * define COHBUF_CONTIGUOUS - the memory is one physically contiguous piece
 *
 * A flag of %COHBUF_IOCTL_CREATE, beside any other.
 *
 * For devices without scatter-gather and without IOMMU; %-ENOMEM where there is none.
 * A device gets it in segments of at most its dma_get_max_seg_size(), cut at its
 * dma_get_seg_boundary() too. Where nothing is bounced, each begins where the one
 * before ends, so that a driver which wants one segment has to say so by
 * dma_set_max_seg_size().
 *
 * A piece that is larger than the page allocator's largest (4 MiB with pages of
 * 4 KiB) cannot be charged to the memory cgroup: it counts against RLIMIT_MEMLOCK of
 * the user, unless the caller has CAP_IPC_LOCK, and takes a kernel with
 * CONFIG_CONTIG_ALLOC (%-ENOMEM otherwise).
 */
#define COHBUF_CONTIGUOUS	(1U << 2)
/**
 * define COHBUF_TRACK_DIRTY - an END maintains the pages that were written
 *
 * A flag of %COHBUF_IOCTL_CREATE. Of bracketed buffers only, as nobody maintains the
 * others.
 *
 * An END that says WRITE maintains just those pages that the CPU has written by any
 * mapping of any process since the last END that covered them. What was mapped to
 * write and is unmapped counts as written. What was written by a mapping that
 * another thread unmaps while the END runs may be left to the next END.
 *
 * All pages, as without the flag,
 *
 * * while a kernel mapping exists (dma_buf_vmap()) or has existed since the last END
 *   of the whole buffer, and on a kernel without CONFIG_MAPPING_DIRTY_HELPERS:
 *   %COHBUF_STATE_TRACKS_PAGES says so;
 * * where an END may have to hand to a device what another has written: beside a
 *   device that snoops or one that has a copy, and writes.
 */
#define COHBUF_TRACK_DIRTY	(1U << 3)
/**
 * define COHBUF_ENFORCE_REPORT - count and log what the CPU does outside of windows
 *
 * A flag of %COHBUF_IOCTL_CREATE, beside all but %COHBUF_ENFORCE_POISON.
 *
 * Pages are mapped for a process only inside its own windows, between START and END,
 * to write where the window says WRITE. An access outside is counted, and logged
 * with comm, pid, offset and name of the buffer, at a limited rate, and goes on;
 * each page is reported once until the next START, END, map or unmap.
 *
 * Windows are told apart by pages here. A mapping that is never touched is no
 * access. Kernel mappings are not checked.
 */
#define COHBUF_ENFORCE_REPORT	(1U << 4)
/**
 * define COHBUF_ENFORCE_POISON - CPU access outside of windows raises SIGBUS
 *
 * A flag of %COHBUF_IOCTL_CREATE, beside all but %COHBUF_ENFORCE_REPORT.
 *
 * What is outside, and what of it is counted and logged, is as with
 * %COHBUF_ENFORCE_REPORT. The access raises SIGBUS (%-EFAULT where a system call made
 * it) and the buffer is poisoned: every access raises SIGBUS from then on, and
 * whatever else is done with the buffer fails with %-EIO, but for %COHBUF_IOCTL_INFO
 * and for taking away what is there. Importers keep what they have mapped.
 */
#define COHBUF_ENFORCE_POISON	(1U << 5)

/**
 * struct cohbuf_caps - what this driver can do (%COHBUF_IOCTL_CAPS)
 * @version:	%COHBUF_API_VERSION of the driver.
 * @reserved:	Zero.
 * @flags:	The flags that %COHBUF_IOCTL_CREATE knows.
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
 * struct cohbuf_create - make a buffer (%COHBUF_IOCTL_CREATE)
 * @size:	In: bytes wanted, above 0. Out: bytes that the buffer has, which
 *		is @size rounded up to a multiple of the page size.
 * @flags:	In: %COHBUF_COHERENT, %COHBUF_WRITE_COMBINE or neither, and
 *		%COHBUF_CONTIGUOUS, %COHBUF_TRACK_DIRTY and %COHBUF_ENFORCE_*.
 * @fd_flags:	In: O_CLOEXEC and one of O_RDONLY, O_RDWR.
 * @fd:		Out: file descriptor of the dma-buf. Must be 0 on the way in.
 * @reserved:	Zero.
 *
 * The memory is zero, and is charged to the memory cgroup of the caller, but see
 * %COHBUF_CONTIGUOUS.
 *
 * Where the kernel has dma-buf heaps (CONFIG_DMABUF_HEAPS), cohbuf_heaps.ko adds
 * /dev/dma_heap/cohbuf, cohbuf-coherent, cohbuf-wc and cohbuf-contiguous.
 * DMA_HEAP_IOCTL_ALLOC makes the same buffers, with no flag or the one of that name,
 * and has the same errors; and %-ENODEV while cohbuf.ko is not loaded.
 *
 * * %-EINVAL: @size is 0; a bit of @flags or @fd_flags is not known; @flags has two
 *   that exclude each other; @fd is not 0.
 * * %-EOPNOTSUPP: memory cannot be write-combined here (see &struct cohbuf_caps).
 * * %-EOVERFLOW: @size cannot be rounded up to a multiple of the page size.
 * * %-EFBIG: @size is above the limit of the module (see &struct cohbuf_caps).
 * * %-ENOMEM: there is not that much memory, or the cgroup or the user may not have it.
 * * %-EMFILE, %-ENFILE: no file descriptor is left.
 * * %-EINTR: the task was killed while it waited for memory.
 */
struct cohbuf_create {
	__u64 size;
	__u32 flags;
	__u32 fd_flags;
	__s32 fd;
	__u32 reserved;
};

/**
 * enum cohbuf_caching - how the CPU sees the memory of a buffer
 * @COHBUF_CACHING_WRITE_BACK:		Through its caches.
 * @COHBUF_CACHING_WRITE_COMBINE:	Past them.
 */
enum cohbuf_caching {
	COHBUF_CACHING_WRITE_BACK = 0,
	COHBUF_CACHING_WRITE_COMBINE = 1,
};

/**
 * enum cohbuf_reach - how a device reaches the memory of a mapping
 * @COHBUF_REACH_NONE:		Nothing is mapped.
 * @COHBUF_REACH_SNOOPING:	By the CPU caches.
 * @COHBUF_REACH_DIRECT:	Past them, by physical addresses.
 * @COHBUF_REACH_IOMMU:		Past them, through an IOMMU.
 * @COHBUF_REACH_BOUNCED:	It has a copy (swiotlb).
 * @COHBUF_REACH_PARTLY_BOUNCED: A copy of some, the CPU caches else.
 * @COHBUF_REACH_UNKNOWN:	By DMA ops of its own.
 */
enum cohbuf_reach {
	COHBUF_REACH_NONE = 0,
	COHBUF_REACH_SNOOPING = 1,
	COHBUF_REACH_DIRECT = 2,
	COHBUF_REACH_IOMMU = 3,
	COHBUF_REACH_BOUNCED = 4,
	COHBUF_REACH_PARTLY_BOUNCED = 5,
	COHBUF_REACH_UNKNOWN = 6,
};

/** define COHBUF_ATTACHMENT_COHERENT - the device of an attachment snoops */
#define COHBUF_ATTACHMENT_COHERENT	(1U << 0)
/** define COHBUF_ATTACHMENT_AUTOFENCE - map and sync wait for fences */
#define COHBUF_ATTACHMENT_AUTOFENCE	(1U << 1)
/** define COHBUF_ATTACHMENT_DYNAMIC - attached by dma_buf_dynamic_attach() */
#define COHBUF_ATTACHMENT_DYNAMIC	(1U << 2)

/**
 * struct cohbuf_attachment - one importer of a buffer
 * @device:	Name of the device, as in /sys, cut to fit. Ends with a NUL.
 * @driver:	Name of its driver, or of its bus, likewise.
 * @flags:	%COHBUF_ATTACHMENT_COHERENT, %COHBUF_ATTACHMENT_AUTOFENCE and
 *		%COHBUF_ATTACHMENT_DYNAMIC.
 * @mappings:	Mappings that it holds now.
 * @bounced:	Of @mappings, those with a segment that is bounced.
 * @reach:	&enum cohbuf_reach of the last mapping that it holds.
 */
struct cohbuf_attachment {
	char device[64];
	char driver[32];
	__u32 flags;
	__u32 mappings;
	__u32 bounced;
	__u32 reach;
};

/** define COHBUF_STATE_POISONED - see %COHBUF_ENFORCE_POISON */
#define COHBUF_STATE_POISONED		(1U << 0)
/** define COHBUF_STATE_TRACKS_PAGES - it is known which pages were written */
#define COHBUF_STATE_TRACKS_PAGES	(1U << 1)

/**
 * struct cohbuf_info - what is known of a buffer (%COHBUF_IOCTL_INFO)
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
 * @caching:		Out: &enum cohbuf_caching.
 * @state:		Out: %COHBUF_STATE_POISONED, %COHBUF_STATE_TRACKS_PAGES. Must be 0
 *			on the way in.
 * @bytes_cleaned:	Out: bytes of which the DMA API was asked to write the CPU
 *			caches back.
 * @bytes_invalidated:	Out: bytes of which it was asked to drop them.
 * @bytes_to_copies:	Out: bytes copied to bounce buffers.
 * @bytes_from_copies:	Out: bytes copied back.
 * @bytes_own_ops:	Out: bytes that were handed to DMA ops of a device's own,
 *			both ways. Nobody knows what they do with them.
 * @bytes_saved:	Out: bytes that START and END did not maintain, but would
 *			have if each maintained the whole buffer for each mapping
 *			whose device does not snoop, or has a copy.
 * @outside_reads:	Out: reads outside of a window (%COHBUF_ENFORCE_*).
 * @outside_writes:	Out: writes outside of a window that says WRITE.
 * @attachment_size:	In: bytes of an element of the array at @attachment_array.
 *			0 where there is none.
 * @attachment_room:	In: elements that there is room for. Out: elements that
 *			were written, at most @attachments.
 * @attachment_array:	In: address of an array of &struct cohbuf_attachment, which
 *			grows as all structures here do: @attachment_size says what
 *			the caller knows.
 *
 * The counters go up from 0 at CREATE. Bytes count what map and unmap move, too.
 * The first version ends with @reserved, the second with @attachment_array.
 *
 * * %-EBADF: @fd is no open file descriptor.
 * * %-EINVAL: @fd is not a dma-buf; @flags, @write_windows, @state or @reserved is not
 *   0; @attachment_size is neither 0 nor at least that of &struct cohbuf_attachment in
 *   its first version, or 0 beside @attachment_room.
 * * %-E2BIG: @attachment_size is above a page.
 * * %-EMEDIUMTYPE: @fd is a dma-buf of another exporter.
 * * %-ENOMEM: no memory to list the attachments in.
 * * %-EFAULT: the array cannot be written.
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
	__u32 caching;
	__u32 state;
	__u64 bytes_cleaned;
	__u64 bytes_invalidated;
	__u64 bytes_to_copies;
	__u64 bytes_from_copies;
	__u64 bytes_own_ops;
	__u64 bytes_saved;
	__u64 outside_reads;
	__u64 outside_writes;
	__u32 attachment_size;
	__u32 attachment_room;
	__u64 attachment_array;
};

/**
 * enum cohbuf_layout - how a region lies in a buffer
 * @COHBUF_LAYOUT_WHOLE:	The whole buffer; all fields are 0.
 * @COHBUF_LAYOUT_1D:		``length`` bytes from ``offset`` on.
 * @COHBUF_LAYOUT_2D:		``rows`` rows of ``length`` bytes, ``stride`` apart.
 *
 * All numbers are bytes, except where they count.
 *
 * A later kind takes a number of its own, and what it needs besides goes to the end
 * of the structures that have a layout, where callers that do not know it leave
 * zeros, and kernels that do not know it answer %-E2BIG. A box of a 3-D texture, for
 * example, would be ``COHBUF_LAYOUT_3D = 3`` with two fields more, ``__u64 slices``
 * and ``__u64 slice_stride``: slice after slice of what %COHBUF_LAYOUT_2D describes.
 */
enum cohbuf_layout {
	COHBUF_LAYOUT_WHOLE = 0,
	COHBUF_LAYOUT_1D = 1,
	COHBUF_LAYOUT_2D = 2,
};

/**
 * struct cohbuf_sync - DMA_BUF_IOCTL_SYNC of a region (%COHBUF_IOCTL_SYNC)
 * @fd:		In: file descriptor of a dma-buf made by cohbuf.
 * @layout:	In: &enum cohbuf_layout.
 * @flags:	In: those of DMA_BUF_IOCTL_SYNC: DMA_BUF_SYNC_START or
 *		DMA_BUF_SYNC_END, with DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE or both.
 * @offset:	In: where the region begins in the buffer.
 * @length:	In: bytes of the region; of a row, if 2-D.
 * @stride:	In: bytes from the beginning of a row to that of the next, if
 *		2-D; at least @length. Otherwise 0.
 * @rows:	In: rows, if 2-D. Otherwise 0.
 * @cleaned:	Out: see @bytes_cleaned of &struct cohbuf_info, of this call alone.
 * @invalidated: Out: likewise @bytes_invalidated.
 * @to_copies:	Out: likewise @bytes_to_copies.
 * @from_copies: Out: likewise @bytes_from_copies.
 * @own_ops:	Out: likewise @bytes_own_ops.
 * @saved:	Out: likewise @bytes_saved.
 *
 * As DMA_BUF_IOCTL_SYNC, for the CPU cache lines alone that the region touches; what
 * is said there of the buffer holds for those lines. A START that says WRITE opens a
 * window over them. The END that closes it names the same region; one that names a
 * region for which its process has no window closes all windows of the process that
 * lie in it. Windows of several threads and processes may overlap, and mix with
 * DMA_BUF_IOCTL_SYNC, which is a sync of %COHBUF_LAYOUT_WHOLE.
 *
 * A device with DMA ops of its own which cannot sync a part of a mapping makes
 * every region the whole buffer while it has one.
 *
 * * %-EBADF: @fd is no open file descriptor.
 * * %-EINVAL: @fd is not a dma-buf; @layout or a bit of @flags is not known; @flags has
 *   neither READ nor WRITE; a field is not 0 where @layout does not use it; the region
 *   is empty; @stride is below @length; the region does not end inside of the buffer,
 *   or beyond all numbers; it has more than 32768 rows, where rows without a gap
 *   count as one.
 * * %-EMEDIUMTYPE: @fd is a dma-buf of another exporter.
 * * %-EIO: the buffer is poisoned.
 * * %-ENOMEM: there is no memory for the window.
 * * %-ENOSPC: the process would have more than 512 windows of different regions open in
 *   the buffer, or more than 32768 rows in them; or all that have it open, together,
 *   more than twice that. Of an open window of the same region there may always be
 *   another, and of the whole buffer, which counts for nothing here.
 */
struct cohbuf_sync {
	__s32 fd;
	__u32 layout;
	__u64 flags;
	__u64 offset;
	__u64 length;
	__u64 stride;
	__u64 rows;
	__u64 cleaned;
	__u64 invalidated;
	__u64 to_copies;
	__u64 from_copies;
	__u64 own_ops;
	__u64 saved;
};

/**
 * struct cohbuf_copy - copy by the CPU (%COHBUF_IOCTL_COPY)
 * @src_fd:	In: file descriptor of the dma-buf to read, of any exporter.
 * @dst_fd:	In: file descriptor of the dma-buf to write, of any exporter. It may
 *		be that of the source.
 * @layout:	In: &enum cohbuf_layout. %COHBUF_LAYOUT_WHOLE copies two buffers of the
 *		same size.
 * @flags:	Must be 0.
 * @src_offset:	In: where the region begins in the source.
 * @dst_offset:	In: where it begins in the destination.
 * @src_stride:	In: bytes from a row to the next in the source, if 2-D; at least
 *		@length. Otherwise 0.
 * @dst_stride:	In: the same of the destination.
 * @length:	In: bytes; of a row, if 2-D.
 * @rows:	In: rows, if 2-D. Otherwise 0.
 * @done:	In: bytes that earlier calls with the same arguments have copied, 0 for
 *		the first. Out: those, and the bytes that this call has.
 *
 * Waits for the fences of both buffers, begins CPU access to both, copies, and ends
 * CPU access to both. Of a buffer of cohbuf only the cache lines of its region are
 * maintained; those between its rows, too, where it has more than 32768, gaps
 * between them. No END but its own ends the CPU access. The result is that of a copy
 * at one go, also where both regions overlap in one buffer.
 *
 * A signal stops it. If it has copied something then, it succeeds, and @done is less
 * than the bytes of the region: call it again to go on. %-EINTR: it has copied
 * nothing. Two regions that overlap and have different strides are copied by way of
 * a second copy, all or nothing.
 *
 * * %-EBADF: @src_fd or @dst_fd is no open file descriptor.
 * * %-EACCES: the dma-buf of @dst_fd is read-only, or that of @src_fd write-only.
 * * %-EINVAL: one of them is not a dma-buf; @layout is not known, a field is not 0 where
 *   it does not use it, @flags is not 0; a region is empty, has a stride below
 *   @length, or does not end inside of its buffer; both buffers are to be copied
 *   as a whole, and differ in size; @done is beyond the region.
 * * %-EOPNOTSUPP: an exporter cannot map its buffer into the kernel. (Where its vmap
 *   fails, be it for the want of memory, the core warns once in the log.)
 * * %-EIO: a buffer is poisoned.
 * * %-ENOMEM: no memory to map a buffer, or for the second copy.
 * * %-ENOSPC: the windows that are open in a buffer leave no room for that of the copy;
 *   see &struct cohbuf_sync. It does not count for those of the process.
 *
 * Any other error is that of an exporter of another driver, from its
 * begin_cpu_access, vmap or end_cpu_access. If END fails, what was copied is
 * there, but may not be visible to devices.
 */
struct cohbuf_copy {
	__s32 src_fd;
	__s32 dst_fd;
	__u32 layout;
	__u32 flags;
	__u64 src_offset;
	__u64 dst_offset;
	__u64 src_stride;
	__u64 dst_stride;
	__u64 length;
	__u64 rows;
	__u64 done;
};

/*
 * An enum, as bindgen resolves the numbers of an enum, but not those of a macro
 * with an expression.
 */
/**
 * enum cohbuf_ioctl - the ioctls of /dev/cohbuf
 * @COHBUF_IOCTL_CAPS:		What this driver can do: &struct cohbuf_caps.
 * @COHBUF_IOCTL_CREATE:	Make a buffer: &struct cohbuf_create.
 * @COHBUF_IOCTL_INFO:		What is known of a buffer: &struct cohbuf_info.
 * @COHBUF_IOCTL_SYNC:		Begin or end CPU access to a region: &struct cohbuf_sync.
 * @COHBUF_IOCTL_COPY:		Copy from buffer to buffer: &struct cohbuf_copy.
 */
enum cohbuf_ioctl {
	COHBUF_IOCTL_CAPS = _IOWR('C', 0xb0, struct cohbuf_caps),
	COHBUF_IOCTL_CREATE = _IOWR('C', 0xb1, struct cohbuf_create),
	COHBUF_IOCTL_INFO = _IOWR('C', 0xb2, struct cohbuf_info),
	COHBUF_IOCTL_SYNC = _IOWR('C', 0xb3, struct cohbuf_sync),
	COHBUF_IOCTL_COPY = _IOWR('C', 0xb4, struct cohbuf_copy),
};

#endif /* _UAPI_LINUX_COHBUF_H */
