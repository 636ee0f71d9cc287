// SPDX-License-Identifier: MIT
/* Queues: order within each, independence of each other, and their end. */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Queues: order and independence");

/* Jobs of a queue run one after the other, in the order of their submission. */
static void test_order(void)
{
	enum { N = 64 };
	struct npu_cell cell[N + 1], start[N], end[N];
	struct drm_gmem_sync sync;
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	cell[0] = npu_cell(&ctx, 0x0bde);
	for (int i = 0; i < N; i++) {
		struct npu_cb cb = npu_begin(&ctx);

		cell[i + 1] = npu_cell(&ctx, 0);
		start[i] = npu_cell(&ctx, 0);
		end[i] = npu_cell(&ctx, 0);
		npu_cmd_timestamp(&cb, start[i].va);
		npu_cmd_copy(&cb, cell[i + 1].va, cell[i].va, 8);
		npu_cmd_timestamp(&cb, end[i].va);
		sync = npu_signal(ctx.syncobj);
		igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, i == N - 1), 0);
	}
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	for (int i = 0; i < N; i++) {
		igt_assert_eq_u64(*cell[i + 1].cpu, 0x0bde);
		igt_assert_lte_u64(*start[i].cpu, *end[i].cpu);
		if (i)
			igt_assert_lte_u64(*end[i - 1].cpu, *start[i].cpu);
	}
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
	igt_assert_eq_u64(ctx.status.completed, N);
	igt_assert_eq_u64(ctx.status.seqno, 0);
	npu_ctx_close(&ctx);
}

/* A job that waits for a fence holds up its own queue, and nobody else's. */
static bool try_waiting(void *arg)
{
	struct npu_blocker blocker;
	struct drm_gmem_sync sync;
	struct npu_cell cell, mark;
	struct npu_ctx ctx;
	struct npu_cb cb;
	uint32_t waiting[40], alive = 0;
	int result;

	(void)arg;
	npu_ctx_open(&ctx);
	igt_require(npu_facts(ctx.fd).num_queues >= 2);
	npu_block(&ctx, ctx.queue, &blocker);

	/* More of them than the hardware has queues. */
	mark = npu_cell(&ctx, 0);
	sync = npu_wait_for(blocker.syncobj);
	for (size_t i = 0; i < ARRAY_LEN(waiting); i++) {
		igt_assert_eq(npu_queue_create(ctx.fd, &waiting[i]), 0);
		cb = npu_begin(&ctx);
		npu_cmd_write(&cb, mark.va, 1);
		igt_assert_eq(npu_submit(&ctx, &cb, waiting[i], &sync, 1), 0);
	}
	igt_assert_eq(npu_queue_create(ctx.fd, &alive), 0);
	cell = npu_cell(&ctx, 0);
	cb = npu_begin(&ctx);
	npu_cmd_write(&cb, cell.va, 1);
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit(&ctx, &cb, alive, &sync, 1), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq_u64(*cell.cpu, 1);
	result = npu_syncobj_poll(ctx.fd, blocker.syncobj);
	if (result == -ETIME)
		igt_assert_eq_u64(*mark.cpu, 0);
	result |= npu_unblock(&ctx, &blocker);
	npu_ctx_close(&ctx);
	return result == -ETIME;
}

/* One queue in a WAIT that won't end, while jobs of many others come and go. */
static bool try_blocked(void *arg)
{
	struct npu_blocker blocker;
	uint32_t queue[24];
	struct npu_ctx ctx;
	bool in_time;

	(void)arg;
	npu_ctx_open(&ctx);
	igt_require(npu_facts(ctx.fd).num_queues >= 2);
	for (size_t i = 0; i < ARRAY_LEN(queue); i++)
		igt_assert_eq(npu_queue_create(ctx.fd, &queue[i]), 0);
	npu_block(&ctx, ctx.queue, &blocker);
	for (size_t i = 0; i < ARRAY_LEN(queue); i++) {
		struct npu_cell cell = npu_cell(&ctx, 0);
		struct npu_cb cb = npu_begin(&ctx);
		struct drm_gmem_sync sync = npu_signal(ctx.syncobj);

		npu_cmd_write(&cb, cell.va, i + 1);
		igt_assert_eq(npu_submit(&ctx, &cb, queue[i], &sync, 1), 0);
		igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
		igt_assert_eq_u64(*cell.cpu, i + 1);
	}
	in_time = npu_syncobj_poll(ctx.fd, blocker.syncobj) == -ETIME;
	if (npu_unblock(&ctx, &blocker))
		in_time = false;
	npu_ctx_close(&ctx);
	return in_time;
}

/* All hardware queues but one are blocked, from another file; the last serves the rest. */
static bool try_last_queue(void *arg)
{
	struct npu_blocker blocker[16];
	struct npu_ctx ctx, other;
	unsigned int n;
	bool in_time = true;

	(void)arg;
	npu_ctx_open(&ctx);
	npu_ctx_open(&other);
	n = npu_facts(ctx.fd).num_queues - 1;
	igt_require(n >= 1);
	for (unsigned int i = 0; i < n; i++) {
		uint32_t queue;

		igt_assert_eq(npu_queue_create(other.fd, &queue), 0);
		npu_block_submit(&other, queue, &blocker[i]);
	}
	for (unsigned int i = 0; i < n; i++)
		npu_block_started(&blocker[i]);
	for (int i = 0; i < 5; i++)
		npu_assert_alive(&ctx);
	for (unsigned int i = 0; i < n; i++)
		in_time &= npu_syncobj_poll(other.fd, blocker[i].syncobj) == -ETIME;
	for (unsigned int i = 0; i < n; i++)
		in_time &= npu_unblock(&other, &blocker[i]) == 0;
	npu_ctx_close(&ctx);
	npu_ctx_close(&other);
	return in_time;
}

/* More queues than the hardware has, all busy. */
static void test_many(void)
{
	enum { QUEUES = 48, ROUNDS = 3 };
	uint32_t queue[QUEUES], line[QUEUES];
	struct npu_cell cell[QUEUES];
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	for (int i = 0; i < QUEUES; i++) {
		igt_assert_eq(npu_queue_create(ctx.fd, &queue[i]), 0);
		igt_assert_eq(npu_syncobj_create(ctx.fd, 0, &line[i]), 0);
		cell[i] = npu_cell(&ctx, 0);
	}
	for (int round = 1; round <= ROUNDS; round++) {
		for (int i = 0; i < QUEUES; i++) {
			struct drm_gmem_sync sync = npu_signal_point(line[i], round);
			struct npu_cb cb = npu_begin(&ctx);

			npu_cmd_write(&cb, cell[i].va, round);
			igt_assert_eq(npu_submit(&ctx, &cb, queue[i], &sync, 1), 0);
		}
	}
	for (int i = 0; i < QUEUES; i++) {
		struct drm_npu_job_status status;

		igt_assert_eq(npu_syncobj_wait_point(ctx.fd, line[i], ROUNDS, 0), 0);
		igt_assert_eq_u64(*cell[i].cpu, ROUNDS);
		igt_assert_eq(npu_job_status(ctx.fd, queue[i], &status), 0);
		igt_assert_eq_u64(status.completed, ROUNDS);
		igt_assert_eq_u64(status.seqno, 0);
		igt_assert_eq(npu_queue_destroy(ctx.fd, queue[i]), 0);
	}
	npu_ctx_close(&ctx);
}

/* So many jobs, and no more, can wait in a queue. */
static void test_full(void)
{
	enum { MOST = 1024 };
	struct drm_gmem_sync sync;
	struct npu_hold hold;
	struct npu_ctx ctx;
	struct npu_cell cell;
	struct npu_cb cb;
	uint64_t value;

	npu_ctx_open(&ctx);
	cell = npu_cell(&ctx, 0);
	cb = npu_begin(&ctx);
	npu_cmd_write(&cb, cell.va, 5);
	npu_hold(&hold);
	for (int i = 0; i < MOST; i++) {
		sync = i ? npu_signal(ctx.syncobj) :
			   npu_wait_for(npu_hold_syncobj(&hold, ctx.fd));
		igt_assert_eq(npu_submit_raw(ctx.fd, ctx.queue, ctx.vm, cb.va, npu_cb_size(&cb),
					     &sync, !i || i == MOST - 1), 0);
	}
	igt_assert_eq(npu_submit_raw(ctx.fd, ctx.queue, ctx.vm, cb.va, npu_cb_size(&cb), NULL, 0),
		      -EBUSY);
	npu_assert_held(&hold);
	npu_release(&hold);
	igt_assert_eq(npu_syncobj_wait(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq(npu_submit_raw(ctx.fd, ctx.queue, ctx.vm, cb.va, npu_cb_size(&cb), &sync, 1), 0);
	igt_assert_eq(npu_syncobj_wait(ctx.fd, ctx.syncobj), 0);
	value = *cell.cpu;
	igt_assert_eq_u64(value, 5);
	npu_ctx_close(&ctx);
}

/* More jobs than any ring can hold. */
static void test_deep(void)
{
	const unsigned int n = npu_min(npu_scale(600), 1000);
	struct drm_gmem_sync sync;
	struct npu_cell cell;
	struct npu_ctx ctx;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	cell = npu_cell(&ctx, 0);
	for (unsigned int i = 1; i <= n; i++) {
		cb = npu_begin(&ctx);
		npu_cmd_write(&cb, cell.va, i);
		sync = npu_signal(ctx.syncobj);
		igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, i == n), 0);
	}
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq_u64(*cell.cpu, n);
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
	igt_assert_eq_u64(ctx.status.completed, n);
	npu_ctx_close(&ctx);
}

/* Its jobs end with -ECANCELED, the running one and those that wait, and nobody else's. */
static bool try_destroy(void *arg)
{
	struct npu_blocker blocker;
	uint32_t queue, done[8];
	struct npu_cell cell;
	struct npu_ctx ctx;
	bool in_time;
	int result;

	(void)arg;
	npu_ctx_open(&ctx);
	igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
	cell = npu_cell(&ctx, 0);
	npu_block(&ctx, queue, &blocker);
	for (int i = 0; i < 8; i++) {
		struct npu_cb cb = npu_begin(&ctx);
		struct drm_gmem_sync sync;

		npu_cmd_write(&cb, cell.va, 1);
		igt_assert_eq(npu_syncobj_create(ctx.fd, 0, &done[i]), 0);
		sync = npu_signal(done[i]);
		igt_assert_eq(npu_submit(&ctx, &cb, queue, &sync, 1), 0);
	}
	in_time = npu_syncobj_poll(ctx.fd, blocker.syncobj) == -ETIME;
	igt_assert_eq(npu_queue_destroy(ctx.fd, queue), 0);
	result = npu_fence_result(ctx.fd, blocker.syncobj);
	if (result == -ETIMEDOUT)
		in_time = false;
	else
		igt_assert_eq(result, -ECANCELED);
	for (int i = 0; i < 8; i++) {
		result = npu_fence_result(ctx.fd, done[i]);
		if (in_time)
			igt_assert_eq(result, -ECANCELED);
	}
	if (in_time)
		igt_assert_eq_u64(*cell.cpu, 0);
	igt_assert_eq(npu_queue_destroy(ctx.fd, queue), -ENOENT);
	igt_assert_eq(npu_job_status(ctx.fd, queue, &ctx.status), -ENOENT);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
	return in_time;
}

/* What waits for a job of a destroyed queue goes on. */
static bool try_destroy_chain(void *arg)
{
	struct npu_blocker blocker;
	struct drm_gmem_sync syncs[2];
	struct npu_ctx ctx;
	struct npu_cb cb;
	uint32_t queue;
	bool in_time;

	(void)arg;
	npu_ctx_open(&ctx);
	igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
	npu_block(&ctx, queue, &blocker);
	syncs[0] = npu_wait_for(blocker.syncobj);
	syncs[1] = npu_signal(ctx.syncobj);
	cb = npu_begin(&ctx);
	npu_cmd_nop(&cb);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, syncs, 2), 0);
	igt_assert_eq(npu_queue_destroy(ctx.fd, queue), 0);
	in_time = npu_fence_result(ctx.fd, blocker.syncobj) == -ECANCELED;
	npu_fence_result(ctx.fd, ctx.syncobj);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
	return in_time;
}

static void test_churn(void)
{
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	for (unsigned int i = 0; i < npu_scale(60); i++) {
		struct npu_cell cell = npu_cell(&ctx, 0);
		struct npu_cb cb = npu_begin(&ctx);
		struct drm_gmem_sync sync = npu_signal(ctx.syncobj);
		uint32_t queue;
		int result;

		npu_cmd_write(&cb, cell.va, i + 1);
		igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
		igt_assert_eq(npu_submit(&ctx, &cb, queue, &sync, 1), 0);
		if (i % 3 == 0)
			igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
		igt_assert_eq(npu_queue_destroy(ctx.fd, queue), 0);
		result = npu_fence_result(ctx.fd, ctx.syncobj);
		igt_assert(result == 0 || (i % 3 && result == -ECANCELED));
		if (!result)
			igt_assert_eq_u64(*cell.cpu, i + 1);
	}
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Jobs of a queue run in order, one at a time");
	igt_subtest("order")
		test_order();

	igt_describe("Queues whose jobs wait for fences don't hold up others");
	igt_subtest("waiting")
		npu_retry(try_waiting, NULL);

	igt_describe("A queue whose job doesn't end doesn't hold up others");
	igt_subtest("blocked")
		npu_retry(try_blocked, NULL);

	igt_describe("All hardware queues but one are blocked: that one does all the work");
	igt_subtest("last-queue")
		npu_retry(try_last_queue, NULL);

	igt_describe("More queues than the hardware has");
	igt_subtest("many")
		test_many();

	igt_describe("Hundreds of jobs in one queue");
	igt_subtest("deep")
		test_deep();

	igt_describe("Jobs of a queue that's destroyed end with -ECANCELED");
	igt_subtest("destroy")
		npu_retry(try_destroy, NULL);

	igt_describe("A queue takes a bounded number of jobs, and more once they end");
	igt_subtest("full")
		test_full();

	igt_describe("Who waits for a job of a queue that's destroyed needn't wait any more");
	igt_subtest("destroy-chain")
		npu_retry(try_destroy_chain, NULL);

	igt_describe("Queues made for one job each");
	igt_subtest("churn")
		test_churn();
}
