// SPDX-License-Identifier: MIT
/* What is mapped where, and what a job may do with it. */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Mappings: placement, rights, lifetime");

/* Every placement can be mapped, at every alignment. */
static void test_map(uint32_t placement)
{
	static const uint64_t sizes[] = { KIB(4), KIB(64), KIB(76), MIB(2), MIB(2) + KIB(68) };
	static const uint64_t shifts[] = { 0, KIB(4), KIB(60) };
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	igt_require(placement != NPU_VISIBLE || npu_device_info(ctx.fd).mem_visible >= MIB(4));
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint32_t bo;

		igt_assert_eq(npu_bo_create(ctx.fd, sizes[i], placement, &bo), 0);
		npu_bo_tag(&ctx, bo, sizes[i], i + 1);
		for (size_t j = 0; j < ARRAY_LEN(shifts); j++) {
			uint64_t va = npu_va(&ctx, MIB(5), MIB(2)) + MIB(2) + shifts[j];

			igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, sizes[i], 0), 0);
			npu_assert_tags(&ctx, va, sizes[i] / PAGE, i + 1, 0);
			npu_assert_unmapped(&ctx, va - PAGE);
			npu_assert_unmapped(&ctx, va + sizes[i]);
			igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, sizes[i]), 0);
			npu_assert_unmapped(&ctx, va);
			npu_assert_unmapped(&ctx, va + sizes[i] - PAGE);
		}
		igt_assert_eq(npu_bo_close(ctx.fd, bo), 0);
	}
	npu_ctx_close(&ctx);
}

/* The whole address space can be used, to its ends and across the borders of tables. */
static void test_addresses(void)
{
	struct drm_gmem_query_device info;
	uint64_t va[8];
	struct npu_ctx ctx;
	uint32_t bo;

	npu_ctx_open(&ctx);
	info = npu_device_info(ctx.fd);
	va[0] = info.va_start;
	va[1] = info.va_end - 2 * PAGE;
	va[2] = GIB(512) - PAGE;
	va[3] = GIB(1) - PAGE;
	va[4] = MIB(2) * 1000 - PAGE;
	va[5] = 1ull << 47;
	va[6] = (1ull << 47) - 2 * PAGE;
	va[7] = GIB(512) * 511;
	igt_assert_eq(npu_bo_create(ctx.fd, 2 * PAGE, NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, 2 * PAGE, 1);
	for (int i = 0; i < 8; i++)
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va[i], 0, 2 * PAGE, 0), 0);
	for (int i = 0; i < 8; i++)
		npu_assert_tags(&ctx, va[i], 2, 1, 0);
	for (int i = 0; i < 8; i++)
		igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va[i], 2 * PAGE), 0);
	for (int i = 0; i < 8; i++)
		npu_assert_unmapped(&ctx, va[i]);
	npu_ctx_close(&ctx);
}

/* Outside the address space there is nothing. */
static void test_outside(void)
{
	struct npu_ctx ctx;
	uint64_t value;

	npu_ctx_open(&ctx);
	npu_assert_fault(&ctx, npu_read(&ctx, 1ull << 48, &value), 1ull << 48, NPU_OUTSIDE);
	npu_assert_fault(&ctx, npu_write(&ctx, 1ull << 60, 0), 1ull << 60, NPU_OUTSIDE);
	npu_assert_fault(&ctx, npu_write(&ctx, ~7ull, 0), ~7ull, NPU_OUTSIDE);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

static void test_offset(void)
{
	const uint64_t size = MIB(2) + KIB(128);
	static const uint64_t offsets[] = {
		KIB(4), KIB(60), KIB(64), KIB(68), MIB(1), MIB(2) - KIB(4), MIB(2),
	};
	struct npu_ctx ctx;
	uint32_t bo;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, size, NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, size, 1);
	for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
		uint64_t rest = size - offsets[i];
		uint64_t va = npu_va(&ctx, size, MIB(2));

		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, offsets[i], rest, 0), 0);
		npu_assert_tags(&ctx, va, rest / PAGE, 1, offsets[i] / PAGE);
		npu_assert_unmapped(&ctx, va + rest);
	}
	npu_ctx_close(&ctx);
}

/* One object at many places, in one VM and in several, is one object. */
static void test_alias(void)
{
	const uint64_t size = KIB(128);
	struct npu_ctx ctx, other;
	uint64_t va[4], value;
	struct npu_bo bo;

	npu_ctx_open(&ctx);
	npu_ctx_init(&other, ctx.fd);
	bo = npu_bo(&ctx, size, NPU_DEVICE, 0);
	for (int i = 0; i < 4; i++) {
		va[i] = npu_va(&ctx, size, MIB(2)) + i * PAGE;
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo.handle, va[i], 0, size, 0), 0);
	}
	igt_assert_eq(npu_map(ctx.fd, other.vm, bo.handle, GIB(3), 0, size, 0), 0);
	for (int i = 0; i < 4; i++) {
		igt_assert_eq(npu_write(&ctx, va[i] + 5 * PAGE + 8 * i, npu_tag(i, 5)), 0);
		igt_assert_eq(npu_read(&ctx, bo.va + 5 * PAGE + 8 * i, &value), 0);
		igt_assert_eq_u64(value, npu_tag(i, 5));
		igt_assert_eq(npu_read(&ctx, va[3 - i] + 5 * PAGE + 8 * i, &value), 0);
		igt_assert_eq_u64(value, npu_tag(i, 5));
		igt_assert_eq(npu_read(&other, GIB(3) + 5 * PAGE + 8 * i, &value), 0);
		igt_assert_eq_u64(value, npu_tag(i, 5));
	}

	/* Each of them goes by itself. */
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va[1], size), 0);
	npu_assert_unmapped(&ctx, va[1] + 5 * PAGE);
	igt_assert_eq(npu_read(&ctx, va[2] + 5 * PAGE, &value), 0);
	igt_assert_eq_u64(value, npu_tag(0, 5));
	npu_ctx_fini(&ctx);
	igt_assert_eq(npu_read(&other, GIB(3) + 5 * PAGE, &value), 0);
	igt_assert_eq_u64(value, npu_tag(0, 5));
	npu_ctx_close(&other);
}

/* The same address means something else in another VM. */
static void test_many_vms(void)
{
	struct npu_ctx ctx[8];
	uint32_t bo[8];
	int fd = npu_open();

	for (int i = 0; i < 8; i++) {
		npu_ctx_init(&ctx[i], fd);
		igt_assert_eq(npu_bo_create(fd, KIB(64), NPU_DEVICE, &bo[i]), 0);
		npu_bo_tag(&ctx[i], bo[i], KIB(64), i);
		igt_assert_eq(npu_map(fd, ctx[i].vm, bo[i], GIB(5), 0, KIB(64), 0), 0);
	}
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 8; i++)
			npu_assert_tags(&ctx[i], GIB(5), 16, i, 0);
	for (int i = 0; i < 8; i += 2)
		igt_assert_eq(npu_vm_destroy(fd, ctx[i].vm), 0);
	for (int i = 1; i < 8; i += 2)
		npu_assert_tags(&ctx[i], GIB(5), 16, i, 0);
	close(fd);
}

static void test_readonly(void)
{
	const uint64_t size = KIB(128);
	struct npu_ctx ctx;
	uint64_t va;
	uint32_t bo;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, size, NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, size, 1);
	va = npu_va(&ctx, size, KIB(64));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, size, DRM_GMEM_BIND_READONLY), 0);
	npu_assert_tags(&ctx, va, 32, 1, 0);
	npu_assert_fault(&ctx, npu_write(&ctx, va + 7 * PAGE, 0), va + 7 * PAGE, NPU_NOT_WRITABLE);
	npu_assert_tags(&ctx, va, 32, 1, 0);

	/* Mapped again with other rights, back and forth, in part and as a whole. */
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va + PAGE, PAGE, PAGE, 0), 0);
	igt_assert_eq(npu_write(&ctx, va + PAGE, npu_tag(1, 1)), 0);
	npu_assert_fault(&ctx, npu_write(&ctx, va, 0), va, NPU_NOT_WRITABLE);
	npu_assert_fault(&ctx, npu_write(&ctx, va + 2 * PAGE, 0), va + 2 * PAGE, NPU_NOT_WRITABLE);
	for (int i = 0; i < 4; i++) {
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, size, 0), 0);
		igt_assert_eq(npu_write(&ctx, va + 7 * PAGE, npu_tag(1, 7)), 0);
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, size, DRM_GMEM_BIND_READONLY), 0);
		npu_assert_fault(&ctx, npu_write(&ctx, va + 7 * PAGE, 0), va + 7 * PAGE,
				 NPU_NOT_WRITABLE);
	}
	npu_assert_tags(&ctx, va, 32, 1, 0);
	npu_ctx_close(&ctx);
}

static int run_at(struct npu_ctx *ctx, uint64_t va)
{
	struct drm_gmem_sync sync = npu_signal(ctx->syncobj);
	int result;

	igt_assert_eq(npu_submit_raw(ctx->fd, ctx->queue, ctx->vm, va, 8, &sync, 1), 0);
	ctx->seqno++;
	result = npu_fence_result(ctx->fd, ctx->syncobj);
	igt_assert_eq(npu_job_status(ctx->fd, ctx->queue, &ctx->status), 0);
	return result;
}

static void test_exec(void)
{
	struct npu_ctx ctx;
	struct npu_bo bo;
	uint64_t *nop;

	npu_ctx_open(&ctx);
	bo = npu_bo(&ctx, KIB(64), NPU_HOST, 0);
	nop = bo.cpu;
	nop[3 * 512] = NPU_CMD_NOP | 1 << 16;

	npu_assert_fault(&ctx, run_at(&ctx, bo.va + 3 * PAGE), bo.va + 3 * PAGE, NPU_NOT_EXECUTABLE);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo.handle, bo.va, 0, bo.size,
			      DRM_GMEM_BIND_EXEC | DRM_GMEM_BIND_READONLY), 0);
	igt_assert_eq(run_at(&ctx, bo.va + 3 * PAGE), 0);
	npu_assert_fault(&ctx, npu_write(&ctx, bo.va, 0), bo.va, NPU_NOT_WRITABLE);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo.handle, bo.va, 0, bo.size, DRM_GMEM_BIND_EXEC), 0);
	igt_assert_eq(run_at(&ctx, bo.va + 3 * PAGE), 0);
	igt_assert_eq(npu_write(&ctx, bo.va, 0), 0);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo.handle, bo.va, 0, bo.size, 0), 0);
	npu_assert_fault(&ctx, run_at(&ctx, bo.va + 3 * PAGE), bo.va + 3 * PAGE, NPU_NOT_EXECUTABLE);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, bo.va, bo.size), 0);
	npu_assert_fault(&ctx, run_at(&ctx, bo.va + 3 * PAGE), bo.va + 3 * PAGE, NPU_NOT_MAPPED);
	bo.va = 0;
	npu_bo_free(&ctx, &bo);
	npu_ctx_close(&ctx);
}

/* Attributes of the driver's own don't change what is read or written. */
static void test_attrs(void)
{
	static const uint64_t cache[] = {
		NPU_ATTR_CACHE_WRITE_BACK, NPU_ATTR_CACHE_UNCACHED, NPU_ATTR_CACHE_WRITE_THROUGH,
	};
	struct npu_ctx ctx;
	uint32_t bo;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(2), NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, MIB(2), 1);
	for (size_t i = 0; i < ARRAY_LEN(cache); i++) {
		for (uint64_t class = 0; class < 4; class++) {
			uint64_t va = npu_va(&ctx, MIB(2), MIB(2));
			struct drm_gmem_bind_op op = npu_op_map(bo, va, 0, MIB(2));

			op.attrs = cache[i] | NPU_ATTR_COMPRESSION(class);
			igt_assert_eq(npu_bind(ctx.fd, ctx.vm, &op, 1), 0);
			npu_assert_tags(&ctx, va + KIB(64) * (4 * i + class), 20, 1,
					16 * (4 * i + class));
			igt_assert_eq(npu_write(&ctx, va, npu_tag(1, 0)), 0);

			/* Neighbours with other attributes, in one leaf's range. */
			op.attrs = NPU_ATTR_COMPRESSION(3 - class);
			op.va += KIB(68);
			op.bo_offset = KIB(68);
			op.size = KIB(8);
			igt_assert_eq(npu_bind(ctx.fd, ctx.vm, &op, 1), 0);
			npu_assert_tags(&ctx, va, 40, 1, 0);
		}
	}
	npu_ctx_close(&ctx);
}

/* A mapping keeps its object; the last of them to go takes it along. */
static void test_close_mapped(void)
{
	const uint64_t size = MIB(1);
	uint64_t before, during, va;
	struct npu_ctx ctx;
	uint32_t bo;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, size, MIB(2));
	/* Page tables that a VM keeps are not what this is about. */
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, ctx.cells.handle, va, 0, PAGE, 0), 0);
	npu_assert_alive(&ctx);

	igt_assert_eq(npu_bo_create(ctx.fd, size, NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, size, 1);
	during = npu_mem_free(ctx.fd);
	before = during + size;
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, size, 0), 0);
	igt_assert_eq(npu_bo_close(ctx.fd, bo), 0);
	igt_assert_lte_u64(npu_mem_free(ctx.fd), during);
	npu_assert_tags(&ctx, va, size / PAGE, 1, 0);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + PAGE, size - PAGE), 0);
	npu_assert_tags(&ctx, va, 1, 1, 0);
	igt_assert_lte_u64(npu_mem_free(ctx.fd), during);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, PAGE), 0);
	npu_assert_unmapped(&ctx, va);
	npu_assert_mem_at_least(ctx.fd, before);
	npu_ctx_close(&ctx);
}

static void test_destroy_mapped(void)
{
	int fd = npu_open();
	uint64_t before = npu_mem_free(fd);
	struct npu_ctx ctx;
	struct npu_bo bo;
	uint32_t vm;

	npu_ctx_init(&ctx, fd);
	bo = npu_bo(&ctx, MIB(4), NPU_DEVICE, 0);
	igt_assert_eq(npu_bo_close(fd, bo.handle), 0);
	npu_fill(&ctx, ctx.cells.handle, PAGE, 0);
	igt_assert_eq(npu_vm_destroy(fd, ctx.vm), 0);
	igt_assert_eq(npu_vm_destroy(fd, ctx.vm), -ENOENT);
	igt_assert_eq(npu_unmap(fd, ctx.vm, bo.va, bo.size), -ENOENT);
	npu_assert_mem_free(fd, before);
	igt_assert_eq(npu_vm_create(fd, &vm), 0);
	igt_assert_eq(npu_vm_destroy(fd, vm), 0);
	npu_assert_mem_free(fd, before);
	close(fd);
}

/* Its mappings end at once, also for a job that runs; its root table goes with the job. */
static bool try_destroy_running(void *arg)
{
	struct npu_blocker blocker;
	struct npu_ctx ctx;
	struct npu_cb cb;
	uint64_t before;
	int result;

	(void)arg;
	npu_ctx_open(&ctx);
	before = npu_mem_free(ctx.fd);
	npu_block(&ctx, ctx.queue, &blocker);
	igt_assert_eq(npu_vm_destroy(ctx.fd, ctx.vm), 0);
	cb = npu_begin(&ctx);
	npu_cmd_nop(&cb);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, NULL, 0), -ENOENT);
	result = npu_fence_result(ctx.fd, blocker.syncobj);
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
	if (result != -ETIMEDOUT)
		npu_assert_fault(&ctx, result, blocker.gate.va, NPU_NOT_MAPPED);
	npu_assert_mem_at_least(ctx.fd, before + PAGE);
	npu_ctx_drop(&ctx);
	return result != -ETIMEDOUT;
}

/* A range without mappings can be unmapped, however large it is. */
static void test_unmap_nothing(void)
{
	struct drm_gmem_query_device info;
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	info = npu_device_info(ctx.fd);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, GIB(700), PAGE), 0);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, GIB(700), GIB(5000)), 0);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, info.va_end - PAGE, PAGE), 0);
	npu_assert_alive(&ctx);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, info.va_start, info.va_end - info.va_start), 0);
	npu_assert_fault(&ctx, run_at(&ctx, ctx.cmds.va), ctx.cmds.va, NPU_NOT_MAPPED);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, ctx.cmds.handle, ctx.cmds.va, 0, ctx.cmds.size,
			      DRM_GMEM_BIND_EXEC), 0);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, ctx.cells.handle, ctx.cells.va, 0, ctx.cells.size,
			      0), 0);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Objects in host memory can be mapped at any page");
	igt_subtest("map-host")
		test_map(NPU_HOST);

	igt_describe("Objects in device memory can be mapped at any page");
	igt_subtest("map-device")
		test_map(NPU_DEVICE);

	igt_describe("Objects in CPU-visible device memory can be mapped at any page");
	igt_subtest("map-visible")
		test_map(NPU_VISIBLE);

	igt_describe("The address space can be used from end to end");
	igt_subtest("addresses")
		test_addresses();

	igt_describe("A job that leaves the address space is told so");
	igt_subtest("outside")
		test_outside();

	igt_describe("A mapping can begin anywhere in its object");
	igt_subtest("offset")
		test_offset();

	igt_describe("Several mappings of an object show the same memory");
	igt_subtest("alias")
		test_alias();

	igt_describe("VMs are independent of each other");
	igt_subtest("many-vms")
		test_many_vms();

	igt_describe("The device can't write where it may not");
	igt_subtest("readonly")
		test_readonly();

	igt_describe("The device fetches commands only where it may");
	igt_subtest("exec")
		test_exec();

	igt_describe("The driver's own attributes are taken, and change no data");
	igt_subtest("attrs")
		test_attrs();

	igt_describe("An object that was closed stays as long as it's mapped");
	igt_subtest("close-mapped")
		test_close_mapped();

	igt_describe("A VM that's destroyed takes its mappings along");
	igt_subtest("destroy-mapped")
		test_destroy_mapped();

	igt_describe("A VM that's destroyed takes its mappings away from running jobs");
	igt_subtest("destroy-running")
		npu_retry(try_destroy_running, NULL);

	igt_describe("Unmapping where nothing is mapped is no error");
	igt_subtest("unmap-nothing")
		test_unmap_nothing();
}
