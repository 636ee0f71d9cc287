// SPDX-License-Identifier: MIT
/* Arrays of operations: in order, all or nothing, up to 4096. */

#include <stdlib.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Arrays of operations given to BIND");

/* Later operations see what earlier ones did. */
static void test_order(void)
{
	struct npu_ctx ctx;
	struct drm_gmem_bind_op ops[6];
	uint32_t a, b;
	uint64_t va;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, KIB(256), NPU_DEVICE, &a), 0);
	igt_assert_eq(npu_bo_create(ctx.fd, KIB(256), NPU_HOST, &b), 0);
	npu_bo_tag(&ctx, a, KIB(256), 1);
	npu_bo_tag(&ctx, b, KIB(256), 2);
	va = npu_va(&ctx, KIB(512), MIB(2));

	/* The last of them wins. */
	ops[0] = npu_op_map(a, va, 0, KIB(256));
	ops[1] = npu_op_map(b, va, 0, KIB(256));
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 2), 0);
	npu_assert_tags(&ctx, va, 64, 2, 0);
	ops[2] = npu_op_unmap(va, KIB(256));
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 3), 0);
	npu_assert_unmapped(&ctx, va);

	/* Mapped, cut, filled, cut again: all in one. */
	ops[0] = npu_op_map(a, va, 0, KIB(256));
	ops[1] = npu_op_unmap(va + KIB(64), KIB(64));
	ops[2] = npu_op_map(b, va + KIB(60), KIB(8), KIB(16));
	ops[3] = npu_op_map(a, va + KIB(256), 0, KIB(64));
	ops[4] = npu_op_unmap(va + KIB(68), KIB(4));
	ops[5] = npu_op_unmap(va + KIB(252), KIB(8));
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 6), 0);
	npu_assert_tags(&ctx, va, 15, 1, 0);
	npu_assert_tags(&ctx, va + KIB(60), 2, 2, 2);
	npu_assert_unmapped(&ctx, va + KIB(68));
	npu_assert_tags(&ctx, va + KIB(72), 1, 2, 5);
	npu_assert_unmapped(&ctx, va + KIB(76));
	npu_assert_unmapped(&ctx, va + KIB(124));
	npu_assert_tags(&ctx, va + KIB(128), 31, 1, 32);
	npu_assert_unmapped(&ctx, va + KIB(252));
	npu_assert_unmapped(&ctx, va + KIB(256));
	npu_assert_tags(&ctx, va + KIB(260), 15, 1, 1);

	/* To swap two objects takes no moment without either. */
	ops[0] = npu_op_map(b, va, 0, KIB(256));
	ops[1] = npu_op_map(a, va + KIB(256), 0, KIB(256));
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 2), 0);
	npu_assert_tags(&ctx, va, 64, 2, 0);
	npu_assert_tags(&ctx, va + KIB(256), 64, 1, 0);
	npu_ctx_close(&ctx);
}

/* One operation that can't be done, at each place, and none is done. */
static void test_atomic(void)
{
	enum { N = 5 };
	struct npu_ctx ctx;
	struct drm_gmem_query_device info;
	uint32_t a, b;
	uint64_t va;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(2), NPU_DEVICE, &a), 0);
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(2), NPU_DEVICE, &b), 0);
	npu_bo_tag(&ctx, a, MIB(2), 1);
	npu_bo_tag(&ctx, b, MIB(2), 2);
	va = npu_va(&ctx, MIB(8), MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, a, va, 0, MIB(2), 0), 0);
	npu_assert_tags(&ctx, va, 512, 1, 0);
	info = npu_device_info(ctx.fd);

	for (int bad = 0; bad < N; bad++) {
		const struct drm_gmem_bind_op good[N] = {
			npu_op_unmap(va + KIB(64), KIB(4)),
			npu_op_map(b, va + MIB(1), 0, KIB(64)),
			npu_op_map(b, va + MIB(2), 0, MIB(2)),
			npu_op_unmap(va, MIB(1)),
			npu_op_map(b, va + MIB(7) + GIB(40), 0, KIB(4)),
		};
		const struct {
			struct drm_gmem_bind_op op;
			int error;
		} wrong[] = {
			{ npu_op_map(0x7fffffff, va, 0, PAGE), -ENOENT },
			{ npu_op_map(b, va, MIB(2), PAGE), -ERANGE },
			{ npu_op_map(b, info.va_end - PAGE, 0, 2 * PAGE), -ERANGE },
			{ npu_op_map(b, va + 1, 0, PAGE), -EINVAL },
			{ npu_op_unmap(va, 0), -EINVAL },
			{ { .op = 99, .va = va, .size = PAGE }, -EINVAL },
		};

		for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
			struct drm_gmem_bind_op ops[N];

			for (int j = 0; j < N; j++)
				ops[j] = j == bad ? wrong[i].op : good[j];
			igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, N), wrong[i].error);
			igt_assert_eq_u64(npu_mem_free(ctx.fd), info.mem_free);
		}
		npu_assert_tags(&ctx, va, 512, 1, 0);
		npu_assert_unmapped(&ctx, va + MIB(2));
		npu_assert_unmapped(&ctx, va + MIB(7) + GIB(40));
	}
	npu_ctx_close(&ctx);
}

/* As many operations as there may be, each with a page of its own. */
static void test_4096(void)
{
	const unsigned int n = 4096, pages = 256;
	struct drm_gmem_bind_op *ops = calloc(n + 1, sizeof(*ops));
	struct npu_ctx ctx;
	uint64_t va, *at, *value;
	uint32_t bo[2];

	npu_ctx_open(&ctx);
	at = calloc(n, sizeof(*at));
	value = calloc(n, sizeof(*value));
	igt_assert(ops && at && value);
	igt_assert_eq(npu_bo_create(ctx.fd, pages * PAGE, NPU_DEVICE, &bo[0]), 0);
	igt_assert_eq(npu_bo_create(ctx.fd, pages * PAGE, NPU_HOST, &bo[1]), 0);
	npu_bo_tag(&ctx, bo[0], pages * PAGE, 0);
	npu_bo_tag(&ctx, bo[1], pages * PAGE, 1);
	va = npu_va(&ctx, (uint64_t)n * PAGE, MIB(2));

	for (unsigned int i = 0; i < n; i++) {
		at[i] = va + (uint64_t)i * PAGE;
		ops[i] = npu_op_map(bo[i / 3 % 2], at[i], (uint64_t)(n - 1 - i) % pages * PAGE, PAGE);
	}
	ops[n] = npu_op_unmap(va, PAGE);
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, n + 1), -EINVAL);
	npu_assert_unmapped(&ctx, va);
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, n), 0);
	npu_read_many(&ctx, at, value, n);
	for (unsigned int i = 0; i < n; i++)
		igt_assert_eq_u64(value[i], npu_tag(i / 3 % 2, (n - 1 - i) % pages));

	for (unsigned int i = 0; i < n; i++)
		ops[i] = npu_op_unmap(at[n - 1 - i], PAGE);
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, n), 0);
	npu_assert_unmapped(&ctx, va);
	npu_assert_unmapped(&ctx, at[n / 2]);
	npu_assert_unmapped(&ctx, at[n - 1]);
	npu_ctx_close(&ctx);
	free(ops);
	free(at);
	free(value);
}

/* The last of 4096 fails: 4095 are undone, or were never done. */
static void test_4096_atomic(void)
{
	const unsigned int n = 4096;
	struct drm_gmem_bind_op *ops = calloc(n, sizeof(*ops));
	struct npu_ctx ctx;
	uint64_t va, before;
	uint32_t a, b;

	npu_ctx_open(&ctx);
	igt_assert(ops);
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(2), NPU_DEVICE, &a), 0);
	igt_assert_eq(npu_bo_create(ctx.fd, PAGE, NPU_DEVICE, &b), 0);
	npu_bo_tag(&ctx, a, MIB(2), 1);
	va = npu_va(&ctx, MIB(32), MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, a, va, 0, MIB(2), 0), 0);
	for (unsigned int i = 0; i < n; i++)
		ops[i] = i & 1 ? npu_op_map(b, va + (uint64_t)i * PAGE, 0, PAGE)
			       : npu_op_unmap(va + (uint64_t)i * PAGE, PAGE);
	ops[n - 1].bo_offset = PAGE;
	before = npu_mem_free(ctx.fd);
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, n), -ERANGE);
	igt_assert_eq_u64(npu_mem_free(ctx.fd), before);
	npu_assert_tags(&ctx, va, 512, 1, 0);
	npu_assert_unmapped(&ctx, va + MIB(2) + PAGE);
	npu_ctx_close(&ctx);
	free(ops);
}

/* Single pages all over a reservation of 64 GiB. */
static void test_sparse(void)
{
	const unsigned int n = npu_scale(256);
	struct drm_gmem_bind_op *ops = calloc(n, sizeof(*ops));
	uint64_t base, *at = calloc(n, sizeof(*at)), *value = calloc(n, sizeof(*value));
	uint64_t stride = GIB(64) / n / PAGE * PAGE;
	struct npu_ctx ctx;
	uint32_t bo;

	npu_ctx_open(&ctx);
	igt_assert(ops && at && value);
	/* Each may need a table of its own. */
	igt_require(npu_mem_free(ctx.fd) >= n * PAGE + MIB(4));
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(1), NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, MIB(1), 1);
	base = npu_va(&ctx, GIB(64), GIB(1));
	for (unsigned int i = 0; i < n; i++) {
		at[i] = base + i * stride;
		ops[i] = npu_op_map(bo, at[i], i % 256 * PAGE, PAGE);
	}
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, n), 0);
	npu_read_many(&ctx, at, value, n);
	for (unsigned int i = 0; i < n; i++)
		igt_assert_eq_u64(value[i], npu_tag(1, i % 256));
	npu_assert_unmapped(&ctx, at[1] + PAGE);
	npu_assert_unmapped(&ctx, at[n - 1] - PAGE);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, base, GIB(64)), 0);
	npu_assert_unmapped(&ctx, at[0]);
	npu_assert_unmapped(&ctx, at[n - 1]);
	npu_ctx_close(&ctx);
	free(ops);
	free(at);
	free(value);
}

/* VMs are changed by several threads of control at once, each in a range of its own. */
static void test_parallel(void)
{
	struct npu_ctx ctx;
	uint64_t va;
	uint32_t bo;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, KIB(256), NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, KIB(256), 1);
	va = npu_va(&ctx, MIB(64), MIB(2));
	igt_fork(child, 4) {
		/* Neighbours, in the same table. */
		uint64_t mine = va + child * KIB(256);

		for (unsigned int i = 0; i < npu_scale(30); i++) {
			uint64_t page = i % 8;

			igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, mine, page * PAGE,
					      KIB(256) - page * PAGE, 0), 0);
			igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, mine + 8 * PAGE, KIB(64)), 0);
		}
	}
	igt_waitchildren();
	for (int child = 0; child < 4; child++) {
		uint64_t mine = va + child * KIB(256);
		uint64_t page = (npu_scale(30) - 1) % 8;

		npu_assert_tags(&ctx, mine, 8, 1, page);
		npu_assert_unmapped(&ctx, mine + 8 * PAGE);
		npu_assert_tags(&ctx, mine + 24 * PAGE, 40 - page, 1, page + 24);
	}
	npu_ctx_close(&ctx);
}

/* How many TLB invalidations it takes to do an array of operations. */
static uint64_t flushes(const struct npu_ctx *ctx, struct drm_gmem_bind_op *ops, uint32_t count)
{
	uint64_t before = npu_facts(ctx->fd).tlb_invalidations;

	igt_assert_eq(npu_bind(ctx->fd, ctx->vm, ops, count), 0);
	return npu_facts(ctx->fd).tlb_invalidations - before;
}

/*
 * An array costs one TLB invalidation, and none if nothing of it was mapped
 * before, which the TLB can't know then.
 */
static void test_flush(void)
{
	enum { N = 64 };
	struct drm_gmem_bind_op map[N], unmap[N];
	struct npu_ctx ctx;
	uint32_t bo;
	uint64_t va;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(4), NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, MIB(4), 1);
	va = npu_va(&ctx, N * MIB(4), MIB(2));
	for (int i = 0; i < N; i++) {
		map[i] = npu_op_map(bo, va + i * MIB(4), 0, i % 2 ? KIB(68) : MIB(4));
		unmap[i] = npu_op_unmap(va + i * MIB(4) + KIB(4), KIB(4));
	}
	igt_assert_eq_u64(flushes(&ctx, map, N), 0);
	for (int i = 0; i < N; i++)
		npu_assert_tags(&ctx, map[i].va, map[i].size / PAGE, 1, 0);
	/* Over what is there, splitting it, and nothing but the last that counts. */
	igt_assert_eq_u64(flushes(&ctx, map, N), 1);
	igt_assert_eq_u64(flushes(&ctx, unmap, N), 1);
	for (int i = 0; i < N; i++)
		npu_assert_unmapped(&ctx, unmap[i].va);
	/* There is nothing any more: no matter what, nothing changes. */
	igt_assert_eq_u64(flushes(&ctx, unmap, N), 0);
	/* Into the holes, beside what is cached. */
	for (int i = 0; i < N; i++)
		map[i] = npu_op_map(bo, unmap[i].va, KIB(4), KIB(4));
	igt_assert_eq_u64(flushes(&ctx, map, N), 0);
	for (int i = 0; i < N; i++)
		npu_assert_tags(&ctx, unmap[i].va - PAGE, 3, 1, 0);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Operations take effect in the order of the array");
	igt_subtest("order")
		test_order();

	igt_describe("If one operation can't be done none is, wherever it stands");
	igt_subtest("atomic")
		test_atomic();

	igt_describe("4096 operations can be given at once, 4097 can't");
	igt_subtest("4096")
		test_4096();

	igt_describe("The last of 4096 operations fails and nothing has changed");
	igt_subtest("4096-atomic")
		test_4096_atomic();

	igt_describe("An array takes one TLB invalidation, or none");
	igt_subtest("flush")
		test_flush();

	igt_describe("Single pages far apart in 64 GiB");
	igt_subtest("sparse")
		test_sparse();

	igt_describe("Several processes change neighbouring ranges of one VM");
	igt_subtest("parallel")
		test_parallel();
}
