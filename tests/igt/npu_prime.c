// SPDX-License-Identifier: MIT
/* Buffer objects as dma-bufs, between files and processes. */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Export of buffer objects as dma-bufs, and import of them");

static struct npu_ctx tagged(uint32_t placement, struct npu_bo *bo)
{
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	*bo = npu_bo(&ctx, MIB(1), placement, 0);
	npu_bo_tag(&ctx, bo->handle, bo->size, 7);
	return ctx;
}

/* The same file gets the same handle back, which counts once. */
static void test_same_file(uint32_t placement)
{
	struct npu_bo bo;
	struct npu_ctx ctx = tagged(placement, &bo);
	int dmabuf = npu_export(ctx.fd, bo.handle);
	uint32_t handle;

	igt_assert_eq(npu_import(ctx.fd, dmabuf, &handle), 0);
	igt_assert_eq_u32(handle, bo.handle);
	close(dmabuf);
	npu_assert_tags(&ctx, bo.va, bo.size / PAGE, 7, 0);
	npu_ctx_close(&ctx);
}

/* Another file sees the same memory, also when the first one has gone. */
static void test_other_file(uint32_t placement)
{
	struct npu_bo bo;
	struct npu_ctx ctx = tagged(placement, &bo), other;
	int dmabuf = npu_export(ctx.fd, bo.handle);
	uint64_t va, value;
	uint32_t handle;

	npu_ctx_open(&other);
	igt_assert_eq(npu_import(other.fd, dmabuf, &handle), 0);
	close(dmabuf);
	va = npu_va(&other, bo.size, MIB(2));
	igt_assert_eq(npu_map(other.fd, other.vm, handle, va, 0, bo.size, 0), 0);
	npu_assert_tags(&other, va, bo.size / PAGE, 7, 0);
	igt_assert_eq(npu_write(&other, va + PAGE, 0x1234), 0);
	igt_assert_eq(npu_read(&ctx, bo.va + PAGE, &value), 0);
	igt_assert_eq_u64(value, 0x1234);
	npu_ctx_close(&ctx);
	igt_assert_eq(npu_read(&other, va + PAGE, &value), 0);
	igt_assert_eq_u64(value, 0x1234);
	/* Closing the handle leaves what is mapped. */
	igt_assert_eq(npu_bo_close(other.fd, handle), 0);
	npu_assert_tags(&other, va + 2 * PAGE, bo.size / PAGE - 2, 7, 2);
	npu_ctx_close(&other);
}

/* A child that got nothing but the dma-buf. */
static void test_process(uint32_t placement)
{
	struct npu_bo bo;
	struct npu_ctx ctx = tagged(placement, &bo);
	int dmabuf = npu_export(ctx.fd, bo.handle);
	uint64_t value;

	igt_fork(child, 1) {
		struct npu_ctx own;
		uint32_t handle;
		uint64_t va;

		npu_ctx_open(&own);
		igt_assert_eq(npu_import(own.fd, dmabuf, &handle), 0);
		va = npu_va(&own, bo.size, MIB(2));
		igt_assert_eq(npu_map(own.fd, own.vm, handle, va, 0, bo.size, 0), 0);
		npu_assert_tags(&own, va, bo.size / PAGE, 7, 0);
		igt_assert_eq(npu_write(&own, va, 0x4321), 0);
		/* It ends without closing anything. */
	}
	igt_waitchildren();
	igt_assert_eq(npu_read(&ctx, bo.va, &value), 0);
	igt_assert_eq_u64(value, 0x4321);
	close(dmabuf);
	npu_ctx_close(&ctx);
}

/* A dma-buf alone keeps the memory, and gives it back. */
static void test_lifetime(void)
{
	int fd = npu_open();
	uint64_t free_before = npu_mem_free(fd);
	uint32_t handle;
	int dmabuf;

	igt_assert_eq(npu_bo_create(fd, MIB(1), NPU_DEVICE, &handle), 0);
	dmabuf = npu_export(fd, handle);
	igt_assert_eq(npu_bo_close(fd, handle), 0);
	igt_assert_eq_u64(npu_mem_free(fd), free_before - MIB(1));
	igt_assert_eq(npu_import(fd, dmabuf, &handle), 0);
	close(dmabuf);
	igt_assert_eq_u64(npu_mem_free(fd), free_before - MIB(1));
	igt_assert_eq(npu_bo_close(fd, handle), 0);
	npu_assert_mem_free(fd, free_before);
	close(fd);
}

/* The CPU maps the dma-buf as it maps the object. */
static void test_mmap(void)
{
	struct npu_bo bo;
	struct npu_ctx ctx = tagged(NPU_HOST, &bo);
	int dmabuf = npu_export(ctx.fd, bo.handle);
	volatile uint64_t *cpu = mmap(NULL, bo.size, PROT_READ | PROT_WRITE, MAP_SHARED, dmabuf, 0);
	uint64_t value;

	igt_assert(cpu != MAP_FAILED);
	cpu[PAGE / 8] = 0x77;
	igt_assert_eq(npu_read(&ctx, bo.va + PAGE, &value), 0);
	igt_assert_eq_u64(value, 0x77);
	munmap((void *)cpu, bo.size);
	close(dmabuf);
	npu_ctx_close(&ctx);
}

static void test_bad(void)
{
	int fd = npu_open(), pipes[2];
	struct drm_prime_handle arg = { .handle = 1234, .flags = O_CLOEXEC, .fd = -1 };
	uint32_t handle;

	igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &arg), -ENOENT);
	igt_assert_eq(npu_import(fd, -1, &handle), -EBADF);
	igt_assert_eq(pipe(pipes), 0);
	igt_assert_eq(npu_import(fd, pipes[0], &handle), -EINVAL);
	igt_assert_eq(npu_import(fd, fd, &handle), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

int igt_main()
{
	static const struct {
		const char *name;
		uint32_t placement;
	} placements[] = { { "host", NPU_HOST }, { "device", NPU_DEVICE } };

	igt_fixture()
		close(npu_open());

	for (int i = 0; i < 2; i++) {
		igt_describe("An object that comes back to its file is the same one");
		igt_subtest_f("same-file-%s", placements[i].name)
			test_same_file(placements[i].placement);

		igt_describe("Two files share an object, and the last one keeps it");
		igt_subtest_f("other-file-%s", placements[i].name)
			test_other_file(placements[i].placement);

		igt_describe("Two processes share an object");
		igt_subtest_f("process-%s", placements[i].name)
			test_process(placements[i].placement);
	}

	igt_describe("A dma-buf keeps the memory of its object, and no longer");
	igt_subtest("lifetime")
		test_lifetime();

	igt_describe("A dma-buf can be mapped by the CPU");
	igt_subtest("mmap")
		test_mmap();

	igt_describe("What is no dma-buf is refused");
	igt_subtest("bad")
		test_bad();
}
