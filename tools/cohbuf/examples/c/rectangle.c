// SPDX-License-Identifier: GPL-2.0
/*
 * A buffer by include/uapi/linux/cohbuf.h alone: CREATE, INFO, SYNC of a rectangle, COPY.
 *
 *	cc -Wall -Wextra -I include/uapi rectangle.c -o rectangle
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/cohbuf.h>
#include <linux/dma-buf.h>

#define STRIDE	6400
#define SIZE	(STRIDE * 1200)

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 1;
}

/* A signal that comes while fences are waited for asks for another try. */
static int again(int fd, unsigned long command, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, command, arg);
	} while (ret < 0 && errno == EINTR);
	return ret;
}

static int make(int device)
{
	struct cohbuf_create create = {
		.size = SIZE,
		.fd_flags = O_CLOEXEC | O_RDWR,
	};

	return ioctl(device, COHBUF_IOCTL_CREATE, &create) < 0 ? -1 : create.fd;
}

int main(void)
{
	struct cohbuf_caps caps = { 0 };
	struct cohbuf_info info = { 0 };
	/* 10 by 10 pixels of 4 bytes, from column 76 and row 100 on. */
	struct cohbuf_sync window = {
		.layout = COHBUF_LAYOUT_2D,
		.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE,
		.offset = 100 * STRIDE + 76 * 4,
		.length = 40,
		.stride = STRIDE,
		.rows = 10,
	};
	struct cohbuf_copy copy = { .layout = COHBUF_LAYOUT_WHOLE };
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	uint64_t sum = 0;
	uint8_t *bytes;
	int device, src, dst, row;

	device = open("/dev/cohbuf", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return fail("open /dev/cohbuf");
	if (ioctl(device, COHBUF_IOCTL_CAPS, &caps) < 0)
		return fail("COHBUF_IOCTL_CAPS");
	src = make(device);
	dst = make(device);
	if (src < 0 || dst < 0)
		return fail("COHBUF_IOCTL_CREATE");

	bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, src, 0);
	if (bytes == MAP_FAILED)
		return fail("mmap");
	window.fd = src;
	if (again(device, COHBUF_IOCTL_SYNC, &window) < 0)
		return fail("COHBUF_IOCTL_SYNC, START");
	for (row = 0; row < 10; row++)
		memset(bytes + window.offset + row * STRIDE, 1, window.length);

	info.fd = src;
	if (again(device, COHBUF_IOCTL_INFO, &info) < 0)
		return fail("COHBUF_IOCTL_INFO");

	window.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE;
	if (again(device, COHBUF_IOCTL_SYNC, &window) < 0)
		return fail("COHBUF_IOCTL_SYNC, END");
	munmap(bytes, SIZE);

	/* A signal may have stopped it half way: @done says where it goes on. */
	copy.src_fd = src;
	copy.dst_fd = dst;
	while (copy.done < SIZE)
		if (again(device, COHBUF_IOCTL_COPY, &copy) < 0)
			return fail("COHBUF_IOCTL_COPY");

	bytes = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, dst, 0);
	if (bytes == MAP_FAILED)
		return fail("mmap");
	if (again(dst, DMA_BUF_IOCTL_SYNC, &sync) < 0)
		return fail("DMA_BUF_IOCTL_SYNC, START");
	for (row = 0; row < SIZE; row++)
		sum += bytes[row];
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
	if (again(dst, DMA_BUF_IOCTL_SYNC, &sync) < 0)
		return fail("DMA_BUF_IOCTL_SYNC, END");

	printf("version %u, %llu bytes, %u write window open\n", caps.version,
	       (unsigned long long)info.size, info.write_windows);
	printf("copied %llu bytes, of which %llu are set\n",
	       (unsigned long long)copy.done, (unsigned long long)sum);
	close(dst);
	close(src);
	close(device);
	return 0;
}
