// SPDX-License-Identifier: MIT
/* Binds that wait for fences and signal them. */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Asynchronous binds: fences in and out, order, all or nothing");

/* An object of @pages pages, tagged with @id, that is mapped nowhere. */
static uint32_t tagged(struct npu_ctx *ctx, uint64_t pages, uint32_t id)
{
	uint32_t bo;

	igt_assert_eq(npu_bo_create(ctx->fd, pages * PAGE, id & 1 ? NPU_HOST : NPU_DEVICE, &bo), 0);
	npu_bo_tag(ctx, bo, pages * PAGE, id);
	return bo;
}

/* A job that waits for a bind's fence sees what it mapped; the CPU waits for neither. */
static void test_out_fence(bool timeline)
{
	enum { N = 32 };
	struct npu_cell cell[N];
	struct npu_ctx ctx;
	uint32_t bo, done, read, queue;
	uint64_t va;

	npu_ctx_open(&ctx);
	bo = tagged(&ctx, N, 1);
	va = npu_va(&ctx, MIB(2), MIB(2));
	done = npu_syncobj(ctx.fd, 0);
	read = npu_syncobj(ctx.fd, 0);
	igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
	igt_assert_eq(npu_syncobj_poll(ctx.fd, done), -EINVAL);
	for (int i = 0; i < N; i++) {
		struct drm_gmem_bind_op op = npu_op_map(bo, va, i * PAGE, PAGE);
		struct drm_gmem_sync after[2] = { npu_signal(done), npu_wait_for(read) };
		struct drm_gmem_sync before[2] = { npu_wait_for(done), npu_signal(read) };

		if (timeline) {
			after[0] = npu_signal_point(done, i + 1);
			before[0] = npu_wait_point(done, i + 1);
		}
		/* Not before the job that reads what is mapped now. */
		igt_assert_eq(npu_bind_async(&ctx, 0, &op, 1, after, i ? 2 : 1), 0);
		cell[i] = npu_cell(&ctx, 0);
		igt_assert_eq(npu_submit_copy(&ctx, queue, cell[i].va, va, before, 2), 0);
	}
	igt_assert_eq(npu_fence_result(ctx.fd, read), 0);
	for (int i = 0; i < N; i++)
		igt_assert_eq_u64(*cell[i].cpu, npu_tag(1, i));
	if (timeline)
		igt_assert_eq(npu_syncobj_poll_point(ctx.fd, done, N), 0);
	else
		igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	npu_assert_tags(&ctx, va, 1, 1, N - 1);
	npu_ctx_close(&ctx);
}

/* A bind does nothing until what it waits for has signalled; query_range knows it at once. */
static void test_in_fence(bool timeline)
{
	struct drm_gmem_bind_op ops[3];
	struct drm_gmem_sync syncs[3];
	uint32_t a, b, wait, done, line, queue;
	struct drm_gmem_range range;
	struct npu_hold hold;
	struct npu_ctx ctx;
	struct npu_cb cb;
	uint64_t va;

	npu_ctx_open(&ctx);
	a = tagged(&ctx, 16, 1);
	b = tagged(&ctx, 16, 2);
	va = npu_va(&ctx, MIB(2), MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, a, va, 0, KIB(64), 0), 0);
	npu_hold(&hold);
	wait = npu_hold_syncobj(&hold, ctx.fd);
	line = npu_syncobj(ctx.fd, 0);
	done = npu_syncobj(ctx.fd, 0);
	syncs[0] = npu_wait_for(wait);
	syncs[1] = npu_signal(done);
	if (timeline) {
		/* A job makes a point of it; a lower one is as good. */
		igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
		cb = npu_begin(&ctx);
		npu_cmd_nop(&cb);
		syncs[1] = npu_signal_point(line, 50);
		igt_assert_eq(npu_submit(&ctx, &cb, queue, syncs, 2), 0);
		syncs[0] = npu_wait_point(line, 49);
		syncs[1] = npu_signal_point(line, 51);
		syncs[2] = npu_signal(done);
	}
	ops[0] = npu_op_map(b, va, 0, KIB(16));
	ops[1] = npu_op_unmap(va + KIB(16), KIB(16));
	ops[2] = npu_op_map(b, va + MIB(1), 0, KIB(64));
	igt_assert_eq(npu_bind_async(&ctx, 0, ops, 3, syncs, timeline ? 3 : 2), 0);

	igt_assert_eq(npu_syncobj_poll(ctx.fd, done), -ETIME);
	npu_assert_tags(&ctx, va, 16, 1, 0);
	npu_assert_unmapped(&ctx, va + MIB(1));
	igt_assert_eq(npu_syncobj_poll(ctx.fd, done), -ETIME);
	range = npu_range_at(&ctx, va);
	igt_assert_eq_u32(range.mapping, DRM_GMEM_MAPPING_BO);
	igt_assert_eq_u32(range.residency, DRM_GMEM_RESIDENT_DEVICE);
	igt_assert_eq_u32(npu_range_at(&ctx, va + KIB(16)).mapping, DRM_GMEM_MAPPING_NONE);
	igt_assert_eq_u32(npu_range_at(&ctx, va + MIB(1)).mapping, DRM_GMEM_MAPPING_BO);

	npu_release(&hold);
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	if (timeline)
		igt_assert_eq(npu_syncobj_poll_point(ctx.fd, line, 51), 0);
	npu_assert_tags(&ctx, va, 4, 2, 0);
	npu_assert_unmapped(&ctx, va + KIB(16));
	npu_assert_tags(&ctx, va + KIB(32), 8, 1, 8);
	npu_assert_tags(&ctx, va + MIB(1), 16, 2, 0);
	npu_ctx_close(&ctx);
}

/* bind -> job -> bind -> job ... on one timeline, all queued before the first may begin. */
static void test_chain(void)
{
	enum { ROUNDS = 24 };
	struct npu_cell cell[ROUNDS];
	struct npu_hold hold;
	struct npu_ctx ctx;
	uint32_t bo[2], line, wait;
	uint64_t va, point = 0;

	npu_ctx_open(&ctx);
	bo[0] = tagged(&ctx, ROUNDS, 0);
	bo[1] = tagged(&ctx, ROUNDS, 1);
	va = npu_va(&ctx, MIB(2), MIB(2));
	line = npu_syncobj(ctx.fd, 0);
	npu_hold(&hold);
	wait = npu_hold_syncobj(&hold, ctx.fd);
	for (int i = 0; i < ROUNDS; i++) {
		struct drm_gmem_bind_op op = npu_op_map(bo[i & 1], va, i * PAGE, PAGE);
		struct drm_gmem_sync syncs[2];

		syncs[0] = i ? npu_wait_point(line, point) : npu_wait_for(wait);
		syncs[1] = npu_signal_point(line, ++point);
		igt_assert_eq(npu_bind_async(&ctx, 0, &op, 1, syncs, 2), 0);
		syncs[0] = npu_wait_point(line, point);
		syncs[1] = npu_signal_point(line, ++point);
		cell[i] = npu_cell(&ctx, 0);
		igt_assert_eq(npu_submit_copy(&ctx, ctx.queue, cell[i].va, va, syncs, 2), 0);
	}
	igt_assert_eq(npu_syncobj_poll_point(ctx.fd, line, 1), -ETIME);
	npu_release(&hold);
	igt_assert_eq(npu_syncobj_wait_point(ctx.fd, line, point, 0), 0);
	for (int i = 0; i < ROUNDS; i++)
		igt_assert_eq_u64(*cell[i].cpu, npu_tag(i & 1, i));
	npu_ctx_close(&ctx);
}

/* 1000 binds of one page: the last wins, whether they pile up or not. */
static void test_order(bool held)
{
	enum { BOS = 32, N = 1000 };
	struct drm_gmem_sync syncs[2];
	struct npu_hold hold;
	struct npu_ctx ctx;
	uint32_t bo[BOS], done;
	uint64_t va;

	npu_ctx_open(&ctx);
	for (int i = 0; i < BOS; i++)
		bo[i] = tagged(&ctx, N / BOS + 1, i);
	va = npu_va(&ctx, MIB(2), MIB(2));
	done = npu_syncobj(ctx.fd, 0);
	syncs[0] = npu_signal(done);
	if (held) {
		npu_hold(&hold);
		syncs[1] = npu_wait_for(npu_hold_syncobj(&hold, ctx.fd));
	}
	for (int i = 0; i < N; i++) {
		struct drm_gmem_bind_op op = npu_op_map(bo[i % BOS], va, i / BOS * PAGE, PAGE);

		/* Only the first waits; the others come behind it. */
		igt_assert_eq(npu_bind_async(&ctx, 0, &op, 1, syncs, held && !i ? 2 : 1), 0);
	}
	if (held) {
		igt_assert_eq(npu_syncobj_poll(ctx.fd, done), -ETIME);
		npu_release(&hold);
	}
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	npu_assert_tags(&ctx, va, 1, (N - 1) % BOS, (N - 1) / BOS);
	npu_ctx_close(&ctx);
}

/* Without syncs nobody is told; a bind without ASYNC comes behind them all the same. */
static void test_no_syncs(void)
{
	struct npu_ctx ctx;
	uint32_t bo;
	uint64_t va;

	npu_ctx_open(&ctx);
	bo = tagged(&ctx, 64, 1);
	va = npu_va(&ctx, MIB(2), MIB(2));
	for (int i = 0; i < 63; i++) {
		struct drm_gmem_bind_op op = npu_op_map(bo, va + i * PAGE, i * PAGE, PAGE);

		igt_assert_eq(npu_bind_async(&ctx, 0, &op, 1, NULL, 0), 0);
	}
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va + 63 * PAGE, 63 * PAGE, PAGE, 0), 0);
	npu_assert_tags(&ctx, va, 64, 1, 0);
	npu_ctx_close(&ctx);
}

/* 32 to wait for and 32 to signal; 65 are too many. */
static void test_many_syncs(bool async)
{
	struct drm_gmem_sync syncs[65];
	struct drm_gmem_bind_op op;
	struct npu_ctx ctx;
	uint64_t va;
	uint32_t bo;

	npu_ctx_open(&ctx);
	bo = tagged(&ctx, 1, 1);
	va = npu_va(&ctx, PAGE, MIB(2));
	op = npu_op_map(bo, va, 0, PAGE);
	for (int i = 0; i < 65; i++) {
		uint32_t handle = npu_syncobj(ctx.fd, i & 1 ? 0 : DRM_SYNCOBJ_CREATE_SIGNALED);

		syncs[i] = i & 1 ? npu_signal(handle) : npu_wait_for(handle);
		if (i % 4 == 3)
			syncs[i] = npu_signal_point(handle, i);
	}
	for (uint32_t count = 65; count >= 64; count--) {
		int ret = async ? npu_bind_async(&ctx, 0, &op, 1, syncs, count) :
				  npu_bind_once(&ctx, 0, &op, 1, syncs, count);

		igt_assert_eq(ret, count > 64 ? -EINVAL : 0);
		if (ret)
			npu_assert_unmapped(&ctx, va);
		for (int i = 1; i < 64; i += 2) {
			if (ret)
				igt_assert_eq(npu_syncobj_poll(ctx.fd, syncs[i].handle), -EINVAL);
			else if (!async)
				igt_assert_eq(npu_syncobj_poll(ctx.fd, syncs[i].handle), 0);
			else if (syncs[i].point)
				igt_assert_eq(npu_syncobj_wait_point(ctx.fd, syncs[i].handle, i, 0),
					      0);
			else
				igt_assert_eq(npu_fence_result(ctx.fd, syncs[i].handle), 0);
		}
	}
	npu_assert_tags(&ctx, va, 1, 1, 0);
	npu_ctx_close(&ctx);
}

/* To wait for a syncobj and signal the same one: it waits for the fence it had before. */
static void test_wait_and_signal(void)
{
	struct drm_gmem_sync syncs[2];
	struct npu_ctx ctx;
	uint32_t handle, bo;
	uint64_t va;

	npu_ctx_open(&ctx);
	bo = tagged(&ctx, 20, 1);
	va = npu_va(&ctx, MIB(2), MIB(2));
	handle = npu_syncobj(ctx.fd, DRM_SYNCOBJ_CREATE_SIGNALED);
	for (int i = 0; i < 20; i++) {
		struct drm_gmem_bind_op op = npu_op_map(bo, va, i * PAGE, PAGE);

		syncs[i & 1] = npu_wait_for(handle);
		syncs[!(i & 1)] = npu_signal(handle);
		igt_assert_eq(npu_bind_async(&ctx, 0, &op, 1, syncs, 2), 0);
	}
	igt_assert_eq(npu_fence_result(ctx.fd, handle), 0);
	npu_assert_tags(&ctx, va, 1, 1, 19);
	npu_ctx_close(&ctx);
}

/* A fence that ends with an error, or belongs to a syncobj that's gone, only orders. */
static void test_in_error(void)
{
	struct drm_gmem_sync syncs[2];
	struct drm_gmem_bind_op op;
	struct npu_ctx ctx;
	uint32_t failed, done, bo;
	uint64_t va;

	npu_ctx_open(&ctx);
	bo = tagged(&ctx, 1, 1);
	va = npu_va(&ctx, PAGE, MIB(2));
	failed = npu_syncobj(ctx.fd, 0);
	done = npu_syncobj(ctx.fd, 0);
	syncs[0] = npu_signal(failed);
	igt_assert_eq(npu_submit_copy(&ctx, ctx.queue, va, va, syncs, 1), 0);
	syncs[0] = npu_wait_for(failed);
	syncs[1] = npu_signal(done);
	op = npu_op_map(bo, va, 0, PAGE);
	igt_assert_eq(npu_bind_async(&ctx, 0, &op, 1, syncs, 2), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, failed), -EFAULT);
	igt_assert_eq(npu_syncobj_destroy(ctx.fd, failed), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	npu_assert_tags(&ctx, va, 1, 1, 0);
	npu_ctx_close(&ctx);
}

/* What is unmapped can be used until it is, also when nobody else has the object any more. */
static void test_object_lives(void)
{
	struct drm_gmem_sync syncs[2];
	struct drm_gmem_bind_op op;
	struct npu_hold hold;
	struct npu_ctx ctx;
	uint32_t done;
	struct npu_bo bo;
	uint64_t before;

	npu_ctx_open(&ctx);
	npu_hold(&hold);
	bo = npu_bo(&ctx, MIB(2), NPU_DEVICE, 0);
	npu_bo_tag(&ctx, bo.handle, bo.size, 1);
	npu_assert_alive(&ctx);
	before = npu_mem_free(ctx.fd);
	done = npu_syncobj(ctx.fd, 0);
	syncs[0] = npu_wait_for(npu_hold_syncobj(&hold, ctx.fd));
	syncs[1] = npu_signal(done);
	op = npu_op_unmap(bo.va, bo.size);
	igt_assert_eq(npu_bind_async(&ctx, 0, &op, 1, syncs, 2), 0);
	igt_assert_eq(npu_bo_close(ctx.fd, bo.handle), 0);
	igt_assert_eq(npu_syncobj_destroy(ctx.fd, syncs[0].handle), 0);
	npu_assert_tags(&ctx, bo.va, bo.size / PAGE, 1, 0);
	igt_assert_lte_u64(npu_mem_free(ctx.fd), before);
	npu_release(&hold);
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	npu_assert_unmapped(&ctx, bo.va);
	npu_assert_mem_at_least(ctx.fd, before + bo.size);
	npu_ctx_close(&ctx);
}

/* If one operation or sync can't be, nothing is mapped and no fence published. */
static void test_atomic(void)
{
	struct drm_gmem_bind_op ops[4], bad[5];
	struct drm_gmem_sync syncs[3];
	struct npu_ctx ctx;
	uint32_t bo, done, line;
	uint64_t va, before;

	npu_ctx_open(&ctx);
	bo = tagged(&ctx, 16, 1);
	va = npu_va(&ctx, MIB(8), MIB(2));
	done = npu_syncobj(ctx.fd, 0);
	line = npu_syncobj(ctx.fd, 0);
	igt_assert_eq(npu_syncobj_signal_point(ctx.fd, line, 1), 0);
	npu_assert_alive(&ctx);
	before = npu_mem_free(ctx.fd);
	ops[0] = npu_op_map(bo, va, 0, KIB(64));
	ops[1] = npu_op_sparse(va + MIB(2), MIB(2));
	ops[2] = npu_op_map(bo, va + MIB(6), 0, PAGE);
	syncs[0] = npu_signal(done);
	syncs[1] = npu_signal_point(line, 2);
	syncs[2] = npu_wait_point(line, 3);
	bad[0] = npu_op_map(0x7fffffff, va, 0, PAGE);
	bad[1] = npu_op_map(bo, va, KIB(64), PAGE);
	bad[2] = npu_op_unmap(va + 1, PAGE);
	bad[3] = npu_op_sparse(va, (1ull << 40) + PAGE);
	bad[4] = npu_op_unmap(va, PAGE);	/* a good one: the third sync is bad */
	for (int i = 0; i < 5; i++) {
		static const int error[] = { -ENOENT, -ERANGE, -EINVAL, -EINVAL, -EINVAL };
		struct drm_gmem_range range;

		ops[3] = bad[i];
		igt_assert_eq(npu_bind_async(&ctx, 0, ops, 4, syncs, i == 4 ? 3 : 2), error[i]);
		igt_assert_eq(npu_syncobj_poll(ctx.fd, done), -EINVAL);
		igt_assert_eq(npu_syncobj_poll_point(ctx.fd, line, 2), -EINVAL);
		igt_assert_eq(npu_ranges(&ctx, va, MIB(8), &range, 1), 1);
		igt_assert_eq_u32(range.mapping, DRM_GMEM_MAPPING_NONE);
		igt_assert_eq_u64(npu_mem_free(ctx.fd), before);
	}
	npu_assert_unmapped(&ctx, va);
	npu_assert_unmapped(&ctx, va + MIB(2));
	npu_assert_unmapped(&ctx, va + MIB(6));

	/* And if nothing is bad all is done. */
	igt_assert_eq(npu_bind_async(&ctx, 0, ops, 3, syncs, 2), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	igt_assert_eq(npu_syncobj_poll_point(ctx.fd, line, 2), 0);
	npu_assert_tags(&ctx, va, 16, 1, 0);
	npu_assert_tags(&ctx, va + MIB(6), 1, 1, 0);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("A job that waits for a bind's fence sees what it mapped");
	igt_subtest("out-fence")
		test_out_fence(false);

	igt_describe("A job that waits for a bind's point of a timeline sees what it mapped");
	igt_subtest("out-point")
		test_out_fence(true);

	igt_describe("A bind isn't done before the fence it waits for; query_range has it at once");
	igt_subtest("in-fence")
		test_in_fence(false);

	igt_describe("A bind isn't done before the point of a timeline that it waits for");
	igt_subtest("in-point")
		test_in_fence(true);

	igt_describe("Binds and jobs take turns on one timeline");
	igt_subtest("chain")
		test_chain();

	igt_describe("Of 1000 binds of a page the last one wins");
	igt_subtest("order")
		test_order(false);

	igt_describe("Of 1000 binds of a page that had to wait the last one wins");
	igt_subtest("order-held")
		test_order(true);

	igt_describe("Asynchronous binds need no syncs; one that isn't comes behind them");
	igt_subtest("no-syncs")
		test_no_syncs();

	igt_describe("An asynchronous bind can have 64 syncs and no more");
	igt_subtest("many-syncs")
		test_many_syncs(true);

	igt_describe("A bind without ASYNC can have 64 syncs, and has signalled when it returns");
	igt_subtest("many-syncs-synchronous")
		test_many_syncs(false);

	igt_describe("A bind can wait for the syncobj that it signals");
	igt_subtest("wait-and-signal")
		test_wait_and_signal();

	igt_describe("A fence that ended with an error holds up no bind, and fails none");
	igt_subtest("in-error")
		test_in_error();

	igt_describe("An object lives until the bind that unmaps it is done");
	igt_subtest("object-lives")
		test_object_lives();

	igt_describe("If one operation or sync is bad, nothing is mapped and nothing signalled");
	igt_subtest("atomic")
		test_atomic();
}
