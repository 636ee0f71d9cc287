// SPDX-License-Identifier: MIT
/* dma-bufs: those of buffer objects, and those that others export. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include "npu_lib.h"

int npu_export(int fd, uint32_t handle)
{
	struct drm_prime_handle arg = { .handle = handle, .flags = O_CLOEXEC | O_RDWR, .fd = -1 };

	igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &arg), 0);
	igt_assert_fd(arg.fd);
	return arg.fd;
}

int npu_import(int fd, int dmabuf, uint32_t *handle)
{
	struct drm_prime_handle arg = { .fd = dmabuf };
	int ret = npu_ioctl(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &arg);

	*handle = ret ? 0 : arg.handle;
	igt_assert(ret || arg.handle);
	return ret;
}

/* A dma-buf of the pages of a memfd: page i is page order(i) there. */
struct npu_dmabuf npu_udmabuf(uint64_t size, unsigned int memfd_flags,
			      uint64_t (*order)(uint64_t page, uint64_t pages))
{
	uint64_t pages = size / PAGE, count = order ? pages : 1;
	struct udmabuf_create_list *list;
	struct npu_dmabuf buf = { .size = size };
	int memfd, dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);

	igt_require_f(dev >= 0, "/dev/udmabuf: %m\n");
	memfd = memfd_create("npu", MFD_CLOEXEC | MFD_ALLOW_SEALING | memfd_flags);
	igt_assert_f(memfd >= 0, "memfd_create: %m\n");
	igt_assert_eq(ftruncate(memfd, size), 0);
	igt_assert_eq(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	buf.cpu = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	igt_require_f(buf.cpu != MAP_FAILED, "mmap: %m\n");

	list = calloc(1, sizeof(*list) + count * sizeof(list->list[0]));
	igt_assert(list);
	list->flags = UDMABUF_FLAGS_CLOEXEC;
	list->count = count;
	for (uint64_t i = 0; i < count; i++) {
		list->list[i].memfd = memfd;
		list->list[i].offset = order ? order(i, pages) * PAGE : 0;
		list->list[i].size = order ? PAGE : size;
	}
	buf.fd = ioctl(dev, UDMABUF_CREATE_LIST, list);
	igt_assert_f(buf.fd >= 0, "UDMABUF_CREATE_LIST: %m\n");
	free(list);
	close(memfd);
	close(dev);
	return buf;
}

/* One of the system heap, in pieces as large as there are. */
struct npu_dmabuf npu_heap(uint64_t size)
{
	struct dma_heap_allocation_data arg = { .len = size, .fd_flags = O_RDWR | O_CLOEXEC };
	struct npu_dmabuf buf = { .size = size };
	int heap = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);

	igt_require_f(heap >= 0, "/dev/dma_heap/system: %m\n");
	igt_assert_eq(npu_ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &arg), 0);
	buf.fd = arg.fd;
	buf.cpu = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, buf.fd, 0);
	igt_assert(buf.cpu != MAP_FAILED);
	close(heap);
	return buf;
}

void npu_dmabuf_free(struct npu_dmabuf *buf)
{
	igt_assert_eq(munmap((void *)buf->cpu, buf->size), 0);
	igt_assert_eq(close(buf->fd), 0);
	*buf = (struct npu_dmabuf) { .fd = -1 };
}

/* The CPU tags the pages, as npu_assert_tags() wants to see them. */
void npu_dmabuf_tag(const struct npu_dmabuf *buf, uint32_t id)
{
	for (uint64_t page = 0; page < buf->size / PAGE; page++) {
		buf->cpu[page * (PAGE / 8)] = npu_tag(id, page);
		buf->cpu[(page + 1) * (PAGE / 8) - 1] = npu_tag(id, page);
	}
}

/* How many dma-bufs there are, and how many devices are attached to all of them. */
struct npu_dmabufs npu_dmabufs(void)
{
	FILE *f = fopen("/sys/kernel/debug/dma_buf/bufinfo", "r");
	struct npu_dmabufs sum = {};
	unsigned int count;
	char line[512], what[16];

	igt_require_f(f, "no list of dma-bufs: %m\n");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Total %u %15s", &count, what) != 2)
			continue;
		if (!strcmp(what, "devices"))
			sum.attached += count;
		else
			sum.buffers = count;
	}
	fclose(f);
	return sum;
}

/* What a process or a file leaves is gone a little later. */
void npu_assert_dmabufs(struct npu_dmabufs expected)
{
	struct npu_dmabufs now = npu_dmabufs();

	for (int ms = 0; ms < 20000; ms += 5) {
		if (now.buffers == expected.buffers && now.attached == expected.attached)
			return;
		usleep(5000);
		now = npu_dmabufs();
	}
	igt_assert_eq(now.buffers, expected.buffers);
	igt_assert_eq(now.attached, expected.attached);
}
