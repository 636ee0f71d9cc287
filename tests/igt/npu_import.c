// SPDX-License-Identifier: MIT
/* dma-bufs that others exported, as buffer objects. */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Import of dma-bufs of other exporters");

#define ID	9	/* of the tags in what is imported */

static uint64_t reversed(uint64_t page, uint64_t pages)
{
	return pages - 1 - page;
}

/* Every other page first: no two neighbours are neighbours in the memfd. */
static uint64_t shuffled(uint64_t page, uint64_t pages)
{
	return page < pages / 2 ? 2 * page : 2 * (page - pages / 2) + 1;
}

static uint64_t map_import(struct npu_ctx *ctx, const struct npu_dmabuf *buf, uint32_t flags,
			   uint32_t *handle)
{
	uint64_t va = npu_va(ctx, buf->size, MIB(2));

	igt_assert_eq(npu_import(ctx->fd, buf->fd, handle), 0);
	igt_assert_eq(npu_map(ctx->fd, ctx->vm, *handle, va, 0, buf->size, flags), 0);
	return va;
}

/* Device and CPU see each other's writes, in each page. */
static void assert_shared(struct npu_ctx *ctx, const struct npu_dmabuf *buf, uint64_t va,
			  uint64_t (*order)(uint64_t page, uint64_t pages))
{
	uint64_t pages = buf->size / PAGE;

	npu_dmabuf_tag(buf, ID);
	if (!order)
		npu_assert_tags(ctx, va, pages, ID, 0);
	for (uint64_t page = 0; order && page < pages; page++)
		npu_assert_tags(ctx, va + page * PAGE, 1, ID, order(page, pages));
	for (uint64_t page = 0; page < pages;) {
		struct npu_cb cb = npu_begin(ctx);

		for (int i = 0; i < 512 && page < pages; i++, page++)
			npu_cmd_write(&cb, va + page * PAGE + 64, npu_tag(ID + 1, page));
		igt_assert_eq(npu_run(ctx, &cb), 0);
	}
	for (uint64_t page = 0; page < pages; page++) {
		uint64_t at = order ? order(page, pages) : page;

		igt_assert_eq_u64(buf->cpu[at * (PAGE / 8) + 8], npu_tag(ID + 1, page));
	}
}

static void test_udmabuf(uint64_t (*order)(uint64_t page, uint64_t pages))
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_dmabuf buf = npu_udmabuf(KIB(1024), 0, order);
	struct npu_ctx ctx;
	uint32_t handle;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = map_import(&ctx, &buf, 0, &handle);
	igt_assert_eq(npu_dmabufs().attached, before.attached + 1);
	assert_shared(&ctx, &buf, va, order);
	npu_ctx_close(&ctx);
	npu_dmabuf_free(&buf);
	npu_assert_dmabufs(before);
}

/* The number of extents that the object mapped at @va has. */
static unsigned int extents(uint64_t va, uint64_t size)
{
	char path[256], line[256], wanted[128];
	unsigned int count = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/gmem_vm-%s/objects",
		 npu_device_bdf(npu_device_under_test()));
	snprintf(wanted, sizeof(wanted), " %#llx %#llx %#llx Imported ", (unsigned long long)va,
		 (unsigned long long)(va + size), (unsigned long long)size);
	f = fopen(path, "r");
	igt_assert_f(f, "%s: %m\n", path);
	while (fgets(line, sizeof(line), f)) {
		const char *found = strstr(line, wanted);

		if (found)
			count = strtoul(found + strlen(wanted), NULL, 10);
	}
	fclose(f);
	igt_assert_lt(0, count);
	return count;
}

/* Memory in large pieces, of which few extents are made. */
static void test_heap(void)
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_dmabuf buf = npu_heap(MIB(4));
	struct npu_ctx ctx;
	uint32_t handle;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = map_import(&ctx, &buf, 0, &handle);
	igt_info("%u extents\n", extents(va, buf.size));
	/* The heap takes blocks of 1 MiB, of 64 KiB and pages. */
	igt_assert_lte(extents(va, buf.size), 64);
	assert_shared(&ctx, &buf, va, NULL);
	npu_ctx_close(&ctx);
	npu_dmabuf_free(&buf);
	npu_assert_dmabufs(before);
}

static int set_hugepages(unsigned int count)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", count);
	return npu_sysfs_write("/proc/sys/vm/nr_hugepages", text);
}

static unsigned int hugepages(void)
{
	FILE *file = fopen("/proc/sys/vm/nr_hugepages", "r");
	unsigned int count = 0;

	if (file) {
		if (fscanf(file, "%u", &count) != 1)
			count = 0;
		fclose(file);
	}
	return count;
}

/* One page of 2 MiB, also for the device if it is mapped as a whole. */
static void test_huge(void)
{
	struct npu_dmabuf buf;
	struct npu_ctx ctx;
	uint32_t handle;
	uint64_t va;

	/* The write succeeds also if there is none to be had. It is given back at the end of all. */
	igt_require(set_hugepages(1) == 0 && hugepages() == 1);
	buf = npu_udmabuf(MIB(2), MFD_HUGETLB, NULL);
	npu_ctx_open(&ctx);
	va = map_import(&ctx, &buf, 0, &handle);
	igt_assert_eq(extents(va, buf.size), 1);
	assert_shared(&ctx, &buf, va, NULL);
	/* A hole in the large page, and an odd place for a part of it. */
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + KIB(64), PAGE), 0);
	npu_assert_unmapped(&ctx, va + KIB(64));
	npu_dmabuf_tag(&buf, ID);
	npu_assert_tags(&ctx, va, 16, ID, 0);
	npu_assert_tags(&ctx, va + KIB(68), 32, ID, 17);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, handle, va + MIB(4) + PAGE, KIB(128), KIB(256), 0), 0);
	npu_assert_tags(&ctx, va + MIB(4) + PAGE, 64, ID, 32);
	npu_ctx_close(&ctx);
	npu_dmabuf_free(&buf);
}

/* The file knows the dma-buf; other files get objects of their own. */
static void test_same_handle(void)
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_dmabuf buf = npu_udmabuf(KIB(64), 0, NULL);
	struct npu_ctx ctx, other;
	uint32_t handle, again;
	uint64_t va, va2;
	int dup_fd = dup(buf.fd);

	npu_ctx_open(&ctx);
	npu_ctx_open(&other);
	va = map_import(&ctx, &buf, 0, &handle);
	for (int i = 0; i < 3; i++) {
		igt_assert_eq(npu_import(ctx.fd, i & 1 ? dup_fd : buf.fd, &again), 0);
		igt_assert_eq_u32(again, handle);
	}
	close(dup_fd);
	igt_assert_eq(npu_dmabufs().attached, before.attached + 1);
	va2 = map_import(&other, &buf, 0, &again);
	igt_assert_eq(npu_dmabufs().attached, before.attached + 2);
	assert_shared(&ctx, &buf, va, NULL);
	assert_shared(&other, &buf, va2, NULL);
	igt_assert_eq(npu_write(&ctx, va + PAGE, 0x1234), 0);
	igt_assert_eq(npu_read(&other, va2 + PAGE, &va), 0);
	igt_assert_eq_u64(va, 0x1234);
	/* One close is enough, however often it was imported. */
	igt_assert_eq(npu_bo_close(ctx.fd, handle), 0);
	igt_assert_eq(npu_bo_close(ctx.fd, handle), -EINVAL);
	npu_ctx_close(&ctx);
	npu_ctx_close(&other);
	npu_dmabuf_free(&buf);
	npu_assert_dmabufs(before);
}

static uint64_t inode(int fd)
{
	struct stat st;

	igt_assert_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

/* Exported again it is what it was, for us and for others. */
static void test_reexport(void)
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_dmabuf buf = npu_udmabuf(KIB(64), 0, NULL);
	volatile uint64_t *cpu;
	struct npu_ctx ctx, other;
	uint32_t handle, theirs;
	uint64_t va;
	int fd;

	npu_ctx_open(&ctx);
	npu_ctx_open(&other);
	igt_assert_eq(npu_import(ctx.fd, buf.fd, &handle), 0);
	fd = npu_export(ctx.fd, handle);
	igt_assert_eq_u64(inode(fd), inode(buf.fd));
	igt_assert_eq(npu_dmabufs().buffers, before.buffers + 1);
	/* That is what the CPU maps. */
	cpu = mmap(NULL, buf.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	igt_assert(cpu != MAP_FAILED);
	cpu[PAGE / 8] = 0x2468;
	igt_assert_eq_u64(buf.cpu[PAGE / 8], 0x2468);
	igt_assert_eq(munmap((void *)cpu, buf.size), 0);
	igt_assert_eq(npu_import(other.fd, fd, &theirs), 0);
	close(fd);
	va = npu_va(&other, buf.size, MIB(2));
	igt_assert_eq(npu_map(other.fd, other.vm, theirs, va, 0, buf.size, 0), 0);
	npu_ctx_close(&ctx);
	assert_shared(&other, &buf, va, NULL);
	npu_ctx_close(&other);
	npu_dmabuf_free(&buf);
	npu_assert_dmabufs(before);
}

/* A mapping keeps the memory when all handles and files are closed, and no longer. */
static void test_mapped(void)
{
	struct npu_dmabufs before = npu_dmabufs(), now = before;
	struct npu_dmabuf buf = npu_udmabuf(KIB(256), 0, shuffled);
	struct npu_ctx ctx;
	uint32_t handle;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = map_import(&ctx, &buf, 0, &handle);
	npu_dmabuf_tag(&buf, ID);
	npu_dmabuf_free(&buf);
	igt_assert_eq(npu_bo_close(ctx.fd, handle), 0);
	for (uint64_t page = 0; page < 64; page++)
		npu_assert_tags(&ctx, va + page * PAGE, 1, ID, shuffled(page, 64));
	/* Cut in two: both halves hold it. */
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + KIB(64), KIB(64)), 0);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, KIB(64)), 0);
	now.buffers++;
	now.attached++;
	npu_assert_dmabufs(now);
	npu_assert_tags(&ctx, va + KIB(128), 1, ID, shuffled(32, 64));
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + KIB(128), KIB(128)), 0);
	npu_assert_dmabufs(before);
	npu_assert_unmapped(&ctx, va + KIB(128));
	npu_ctx_close(&ctx);
}

/* The VM goes, with or without a job that uses the memory. */
static void test_vm_destroy(void)
{
	struct npu_dmabufs before = npu_dmabufs();

	for (unsigned int i = 0; i < npu_scale(4); i++) {
		struct npu_dmabuf buf = npu_udmabuf(KIB(64), 0, NULL);
		struct npu_ctx ctx;
		uint32_t handle;
		uint64_t va;

		npu_ctx_open(&ctx);
		va = map_import(&ctx, &buf, 0, &handle);
		igt_assert_eq(npu_bo_close(ctx.fd, handle), 0);
		if (i & 1) {
			struct npu_cb cb = npu_begin(&ctx);

			for (int j = 0; j < 256; j++)
				npu_cmd_fill(&cb, va, buf.size, j);
			igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, NULL, 0), 0);
		}
		npu_dmabuf_free(&buf);
		igt_assert_eq(npu_vm_destroy(ctx.fd, ctx.vm), 0);
		npu_assert_dmabufs(before);
		npu_ctx_drop(&ctx);
	}
}

/* An asynchronous unbind keeps it until it is done. */
static void test_async(void)
{
	struct npu_dmabufs before = npu_dmabufs(), now = before;
	struct npu_dmabuf buf = npu_udmabuf(KIB(64), 0, NULL);
	struct drm_gmem_bind_op op;
	struct drm_gmem_sync sync;
	struct npu_hold hold;
	struct npu_ctx ctx;
	uint32_t handle, queue;
	uint64_t va;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bind_queue_create(ctx.fd, ctx.vm, &queue), 0);
	va = map_import(&ctx, &buf, 0, &handle);
	npu_dmabuf_tag(&buf, ID);
	igt_assert_eq(npu_bo_close(ctx.fd, handle), 0);
	npu_dmabuf_free(&buf);
	npu_hold(&hold);
	sync = npu_wait_for(npu_hold_syncobj(&hold, ctx.fd));
	op = npu_op_unmap(va, KIB(64));
	igt_assert_eq(npu_bind_async(&ctx, queue, &op, 1, &sync, 1), 0);
	now.buffers++;
	now.attached++;
	npu_assert_dmabufs(now);
	npu_assert_tags(&ctx, va, 16, ID, 0);
	npu_release(&hold);
	npu_assert_dmabufs(before);
	npu_assert_unmapped(&ctx, va);
	npu_ctx_close(&ctx);
}

static void await(volatile uint32_t *flag)
{
	for (int ms = 0; !*flag && ms < 60000; ms++)
		usleep(1000);
	igt_assert(*flag);
}

/* Killed with imports in its hands, mapped and in use: all of them go. */
static void test_killed(void)
{
	volatile uint32_t *ready = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct npu_dmabufs before = npu_dmabufs();
	int base = npu_open();
	uint64_t free_before = npu_mem_free(base);
	struct npu_ctx ctx;

	igt_assert(ready != MAP_FAILED);
	for (unsigned int round = 0; round < npu_scale(3); round++) {
		*ready = 0;
		igt_fork(child, 1) {
			struct npu_blocker blocker;
			struct npu_dmabuf buf;
			struct npu_ctx mine;
			uint32_t handle;
			uint64_t va;

			npu_ctx_open(&mine);
			for (int i = 0; i < 8; i++) {
				buf = npu_udmabuf(KIB(256), 0, i & 1 ? reversed : NULL);
				va = map_import(&mine, &buf, 0, &handle);
				if (i & 2)
					igt_assert_eq(npu_bo_close(mine.fd, handle), 0);
				if (i & 4)
					npu_dmabuf_free(&buf);
			}
			npu_block(&mine, mine.queue, &blocker);
			for (int i = 0; i < 8; i++) {
				struct npu_cb cb = npu_begin(&mine);

				npu_cmd_fill(&cb, va, KIB(256), i);
				igt_assert_eq(npu_submit(&mine, &cb, mine.queue, NULL, 0), 0);
			}
			*ready = 1;
			for (;;)
				pause();
		}
		await(ready);
		igt_kill_children(SIGKILL);
		igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
		npu_assert_dmabufs(before);
		npu_assert_mem_free(base, free_before);
	}
	npu_ctx_open(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
	munmap((void *)ready, PAGE);
	close(base);
}

/* Nothing is left of many. */
static void test_lifetime(void)
{
	struct npu_dmabufs before = npu_dmabufs(), now = before;
	struct npu_dmabuf buf;
	int fd = npu_open();
	uint32_t handle;

	for (unsigned int i = 0; i < npu_scale(100); i++) {
		buf = npu_udmabuf(KIB(64), 0, i & 1 ? reversed : NULL);
		igt_assert_eq(npu_import(fd, buf.fd, &handle), 0);
		npu_dmabuf_free(&buf);
		igt_assert_eq(npu_bo_close(fd, handle), 0);
	}
	npu_assert_dmabufs(before);

	/* The handle alone keeps it; it's found again by what it exports. */
	buf = npu_udmabuf(KIB(64), 0, NULL);
	igt_assert_eq(npu_import(fd, buf.fd, &handle), 0);
	npu_dmabuf_free(&buf);
	now.buffers++;
	now.attached++;
	npu_assert_dmabufs(now);
	close(npu_export(fd, handle));
	npu_assert_dmabufs(now);
	close(fd);
	npu_assert_dmabufs(before);
}

static volatile bool race_over;

static void *race(void *arg)
{
	const int *fds = arg;
	uint32_t handle;

	while (!race_over) {
		int ret = npu_import(fds[0], fds[1], &handle);

		/* Whoever closes it first closes it for both. */
		if (!ret)
			ret = npu_bo_close(fds[0], handle);
		igt_assert_f(ret == 0 || ret == -EINVAL, "error %d\n", ret);
	}
	return NULL;
}

/* Threads that import and close the same dma-buf in the same file, while it's mapped elsewhere. */
static void test_race(void)
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_dmabuf buf = npu_udmabuf(KIB(64), 0, NULL);
	pthread_t threads[4];
	struct npu_ctx ctx;
	uint32_t handle;
	int fds[2];
	uint64_t va;

	npu_ctx_open(&ctx);
	va = map_import(&ctx, &buf, 0, &handle);
	fds[0] = npu_open();
	fds[1] = buf.fd;
	race_over = false;
	for (int i = 0; i < 4; i++)
		igt_assert_eq(pthread_create(&threads[i], NULL, race, fds), 0);
	for (unsigned int i = 0; i < npu_scale(20); i++)
		assert_shared(&ctx, &buf, va, NULL);
	race_over = true;
	for (int i = 0; i < 4; i++)
		igt_assert_eq(pthread_join(threads[i], NULL), 0);
	close(fds[0]);
	npu_ctx_close(&ctx);
	npu_dmabuf_free(&buf);
	npu_assert_dmabufs(before);
}

/* What the mapping says holds for imports, too. */
static void test_readonly(void)
{
	struct npu_dmabuf buf = npu_udmabuf(KIB(64), 0, NULL);
	struct npu_ctx ctx;
	uint32_t handle;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = map_import(&ctx, &buf, DRM_GMEM_BIND_READONLY, &handle);
	npu_dmabuf_tag(&buf, ID);
	npu_assert_tags(&ctx, va, 16, ID, 0);
	npu_assert_fault(&ctx, npu_write(&ctx, va + PAGE, 1), va + PAGE, NPU_NOT_WRITABLE);
	igt_assert_eq_u64(buf.cpu[PAGE / 8], npu_tag(ID, 1));
	npu_ctx_close(&ctx);
	npu_dmabuf_free(&buf);
}

/* Bytes. */
static uint64_t fdinfo(int fd, const char *key)
{
	char path[64], line[256], *unit;
	uint64_t value = ~0ull;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	igt_assert(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key))) {
			value = strtoull(line + strlen(key), &unit, 10);
			value <<= !strncmp(unit, " KiB", 4) ? 10 : !strncmp(unit, " MiB", 4) ? 20 : 0;
		}
	fclose(f);
	igt_assert_f(value != ~0ull, "no %s\n", key);
	return value;
}

/* Wherever one can look it is what it is: shared memory of the host. */
static void test_seeing(void)
{
	struct npu_dmabuf buf = npu_udmabuf(MIB(1), 0, reversed);
	struct drm_gmem_range range;
	uint64_t shared, resident, va;
	struct npu_ctx ctx;
	uint32_t handle;

	npu_ctx_open(&ctx);
	shared = fdinfo(ctx.fd, "drm-shared-memory:");
	resident = fdinfo(ctx.fd, "drm-resident-memory:");
	va = map_import(&ctx, &buf, 0, &handle);
	igt_assert_eq_u64(fdinfo(ctx.fd, "drm-shared-memory:"), shared + MIB(1));
	igt_assert_eq_u64(fdinfo(ctx.fd, "drm-resident-memory:"), resident + MIB(1));
	igt_assert_eq(npu_ranges(&ctx, va, buf.size, &range, 1), 1);
	igt_assert_eq_u64(range.va, va);
	igt_assert_eq_u64(range.size, buf.size);
	igt_assert_eq_u32(range.mapping, DRM_GMEM_MAPPING_BO);
	igt_assert_eq_u32(range.residency, DRM_GMEM_RESIDENT_HOST);
	igt_assert_lte(1, extents(va, buf.size));
	npu_ctx_close(&ctx);
	npu_dmabuf_free(&buf);
}

static void test_bad(void)
{
	struct npu_dmabuf buf = npu_udmabuf(KIB(64), 0, NULL);
	struct npu_ctx ctx;
	uint32_t handle;
	uint64_t offset, va;
	int fd;

	npu_ctx_open(&ctx);

	/* Files that are no dma-bufs, and none. */
	fd = memfd_create("npu", MFD_CLOEXEC);
	igt_assert_eq(npu_import(ctx.fd, fd, &handle), -EINVAL);
	close(fd);
	igt_assert_eq(npu_import(ctx.fd, fd, &handle), -EBADF);
	igt_assert_eq(npu_import(ctx.fd, INT32_MAX, &handle), -EBADF);
	npu_assert_alive(&ctx);
	fd = npu_sync_file_export(ctx.fd, ctx.syncobj);
	igt_assert_fd(fd);
	igt_assert_eq(npu_import(ctx.fd, fd, &handle), -EINVAL);
	close(fd);

	/* The CPU maps the dma-buf, not what was made of it. */
	igt_assert_eq(npu_import(ctx.fd, buf.fd, &handle), 0);
	igt_assert_eq(npu_bo_offset(ctx.fd, handle, &offset), -EPERM);

	/* It's no longer than it is. */
	va = npu_va(&ctx, MIB(1), MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, handle, va, 0, buf.size + PAGE, 0), -ERANGE);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, handle, va, PAGE, buf.size, 0), -ERANGE);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, handle, va, PAGE, buf.size - PAGE, 0), 0);
	igt_assert_eq(npu_bo_close(ctx.fd, handle), 0);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, handle, va, 0, buf.size, 0), -ENOENT);
	npu_ctx_close(&ctx);
	npu_dmabuf_free(&buf);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Memory of a process, in its own order");
	igt_subtest("udmabuf")
		test_udmabuf(NULL);

	igt_describe("Memory of a process, page by page backwards");
	igt_subtest("udmabuf-reversed")
		test_udmabuf(reversed);

	igt_describe("Memory of a process in which no two pages continue each other");
	igt_subtest("udmabuf-scattered")
		test_udmabuf(shuffled);

	igt_describe("Memory in large pieces");
	igt_subtest("heap")
		test_heap();

	igt_describe("A page of 2 MiB, as a whole and in parts");
	igt_subtest("huge")
		test_huge();

	igt_describe("The same dma-buf has the same handle in a file, and another object in another");
	igt_subtest("same-handle")
		test_same_handle();

	igt_describe("Exported again it is the original dma-buf");
	igt_subtest("reexport")
		test_reexport();

	igt_describe("A mapping keeps what it maps, and no longer");
	igt_subtest("mapped")
		test_mapped();

	igt_describe("Destroying the VM lets go of it");
	igt_subtest("vm-destroy")
		test_vm_destroy();

	igt_describe("An unbind that waits keeps it");
	igt_subtest("async")
		test_async();

	igt_describe("A process that is killed leaves nothing");
	igt_subtest("killed")
		test_killed();

	igt_describe("Nothing is left of what was closed");
	igt_subtest("lifetime")
		test_lifetime();

	igt_describe("Threads that import and close the same");
	igt_subtest("race")
		test_race();

	igt_describe("A mapping can be read-only");
	igt_subtest("readonly")
		test_readonly();

	igt_describe("fdinfo, debugfs and query_range tell what it is");
	igt_subtest("seeing")
		test_seeing();

	igt_describe("What can't be is refused");
	igt_subtest("bad")
		test_bad();

	igt_fixture()
		set_hugepages(0);
}
