// SPDX-License-Identifier: MIT
/* Jobs that don't end, or end badly, and what their owner learns of it. */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Job timeout and job status");

static void assert_timed_out(struct npu_ctx *ctx, uint64_t seqno)
{
	struct drm_npu_job_status status;

	igt_assert_eq(npu_job_status(ctx->fd, ctx->queue, &status), 0);
	igt_assert_eq_u32(status.error, ETIMEDOUT);
	igt_assert_eq_u64(status.seqno, seqno);
	igt_assert_eq_u64(status.detail, 0);
	igt_assert_eq_u32(status.reason, 0);
	igt_assert_eq_u32(status.access, 0);
	igt_assert_lte_u64(seqno, status.completed);
}

/* Submits a job that waits for what never comes. */
static void submit_endless(struct npu_ctx *ctx, uint32_t queue, struct npu_blocker *blocker)
{
	npu_block_submit(ctx, queue, blocker);
}

static void expect_timeout(struct npu_ctx *ctx, struct npu_blocker *blocker)
{
	igt_assert_eq(npu_fence_result(ctx->fd, blocker->syncobj), -ETIMEDOUT);
	igt_assert_eq(npu_syncobj_wait(ctx->fd, blocker->syncobj), 0);
	igt_assert_eq(npu_syncobj_destroy(ctx->fd, blocker->syncobj), 0);
}

/* The job is ended, its fence says why, and its queue takes new jobs. */
static void test_timeout(void)
{
	struct npu_blocker blocker;
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	npu_assert_alive(&ctx);
	for (unsigned int i = 0; i < npu_scale(2); i++) {
		submit_endless(&ctx, ctx.queue, &blocker);
		expect_timeout(&ctx, &blocker);
		assert_timed_out(&ctx, ctx.seqno);
		npu_assert_alive(&ctx);
		assert_timed_out(&ctx, ctx.seqno - 1);
	}
	npu_ctx_close(&ctx);
}

/* Jobs behind it in the same queue run when it has been ended. */
static void test_same_queue(void)
{
	struct npu_blocker blocker;
	struct npu_cell cell;
	struct npu_ctx ctx;
	struct drm_gmem_sync sync;

	npu_ctx_open(&ctx);
	cell = npu_cell(&ctx, 0);
	submit_endless(&ctx, ctx.queue, &blocker);
	for (int i = 0; i < 5; i++) {
		struct npu_cb cb = npu_begin(&ctx);

		npu_cmd_write(&cb, cell.va, i + 1);
		sync = npu_signal(ctx.syncobj);
		igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, i == 4), 0);
	}
	expect_timeout(&ctx, &blocker);
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq_u64(*cell.cpu, 5);
	assert_timed_out(&ctx, 1);
	npu_ctx_close(&ctx);
}

/* Other queues and other files don't notice. */
static void test_others(void)
{
	struct npu_blocker blocker;
	struct npu_ctx ctx, same_file, other;
	int jobs = 0;

	npu_ctx_open(&ctx);
	npu_ctx_init(&same_file, ctx.fd);
	npu_ctx_open(&other);
	igt_require(npu_facts(ctx.fd).num_queues >= 2);
	submit_endless(&ctx, ctx.queue, &blocker);
	while (npu_syncobj_poll(ctx.fd, blocker.syncobj) == -ETIME) {
		npu_assert_alive(&same_file);
		npu_assert_alive(&other);
		jobs += 2;
	}
	igt_info("%d jobs of others ran in the meantime\n", jobs);
	expect_timeout(&ctx, &blocker);
	for (int i = 0; i < 5; i++) {
		npu_assert_alive(&same_file);
		npu_assert_alive(&other);
		npu_assert_alive(&ctx);
	}
	igt_assert_eq_u64(other.status.seqno, 0);
	igt_assert_eq_u64(same_file.status.seqno, 0);
	npu_ctx_fini(&same_file);
	npu_ctx_close(&ctx);
	npu_ctx_close(&other);
}

/* A job is given its time from when it begins, not from when it was submitted. */
static void test_running_time(void)
{
	struct npu_blocker blocker[16];
	struct npu_ctx ctx;
	struct npu_cell cell;
	struct npu_cb cb;
	uint32_t queue[16];
	struct drm_gmem_sync sync;
	unsigned int n;

	npu_ctx_open(&ctx);
	n = npu_facts(ctx.fd).num_queues;
	/* Each hardware queue is busy for as long as can be. */
	for (unsigned int i = 0; i < n; i++) {
		igt_assert_eq(npu_queue_create(ctx.fd, &queue[i]), 0);
		submit_endless(&ctx, queue[i], &blocker[i]);
	}
	cell = npu_cell(&ctx, 0);
	cb = npu_begin(&ctx);
	npu_cmd_write(&cb, cell.va, 1);
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
	for (unsigned int i = 0; i < n; i++)
		expect_timeout(&ctx, &blocker[i]);
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq_u64(*cell.cpu, 1);
	npu_ctx_close(&ctx);
}

/* Nor does time count in which it waits for a fence. */
static void test_waiting_time(void)
{
	struct npu_blocker blocker;
	struct drm_gmem_sync syncs[2];
	struct npu_ctx ctx;
	struct npu_cell cell;
	struct npu_cb cb;
	uint32_t queue;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
	submit_endless(&ctx, queue, &blocker);
	cell = npu_cell(&ctx, 0);
	cb = npu_begin(&ctx);
	npu_cmd_write(&cb, cell.va, 1);
	syncs[0] = npu_wait_for(blocker.syncobj);
	syncs[1] = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, syncs, 2), 0);
	expect_timeout(&ctx, &blocker);
	igt_assert_neq(npu_fence_result(ctx.fd, ctx.syncobj), -ETIMEDOUT);
	npu_ctx_close(&ctx);
}

/* A command that the device works on for long is ended as well as one that waits. */
static void test_busy(void)
{
	const uint32_t words = MIB(1) / 8;
	struct drm_gmem_sync sync;
	struct npu_bo cmds, data;
	struct npu_ctx ctx;
	struct npu_cb cb;
	int result;

	npu_ctx_open(&ctx);
	igt_require(npu_mem_free(ctx.fd) >= MIB(20));
	cmds = npu_bo(&ctx, MIB(1), NPU_HOST, DRM_GMEM_BIND_EXEC);
	data = npu_bo(&ctx, MIB(16), NPU_DEVICE, 0);
	cb = (struct npu_cb) {
		.start = cmds.cpu, .p = cmds.cpu, .end = (uint64_t *)cmds.cpu + words, .va = cmds.va,
	};
	while (cb.p + 4 <= cb.end)
		npu_cmd_fill(&cb, data.va, data.size, (uintptr_t)cb.p);
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
	ctx.cmds_at = 0;
	result = npu_fence_result(ctx.fd, ctx.syncobj);
	igt_info("32768 fills of 16 MiB: %d\n", result);
	igt_assert(result == 0 || result == -ETIMEDOUT);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

/* status of a queue in all its states */
static void test_status(void)
{
	struct drm_npu_job_status status;
	struct npu_ctx ctx;
	struct npu_cb cb;
	uint64_t failed;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &status), 0);
	igt_assert_eq_u32(status.error, 0);
	igt_assert_eq_u64(status.seqno, 0);
	igt_assert_eq_u64(status.detail, 0);
	igt_assert_eq_u32(status.reason, 0);
	igt_assert_eq_u64(status.completed, 0);

	for (int i = 0; i < 3; i++)
		npu_assert_alive(&ctx);
	igt_assert_eq_u64(ctx.status.completed, 3);
	igt_assert_eq_u64(ctx.status.seqno, 0);

	npu_assert_fault(&ctx, npu_write(&ctx, GIB(77), 0), GIB(77), NPU_NOT_MAPPED);
	igt_assert_eq_u32(ctx.status.access, npu_can_fault(ctx.fd) ? NPU_WRITE : 0);
	igt_assert_eq_u64(ctx.status.seqno, 4);
	igt_assert_eq_u64(ctx.status.completed, 4);

	/* It stays until another one fails. */
	npu_assert_alive(&ctx);
	igt_assert_eq_u64(ctx.status.seqno, 4);
	igt_assert_eq_u32(ctx.status.error, EFAULT);
	igt_assert_eq_u64(ctx.status.completed, 5);

	cb = npu_begin(&ctx);
	npu_cmd_nop(&cb);
	npu_cmd(&cb, 0x99, 1, 0);
	igt_assert_eq(npu_run(&ctx, &cb), -EINVAL);
	igt_assert_eq_u64(ctx.status.seqno, 6);
	igt_assert_eq_u32(ctx.status.reason, NPU_BAD_OPCODE);
	igt_assert_eq_u64(ctx.status.detail, 8);
	igt_assert_eq_u32(ctx.status.access, 0);
	failed = ctx.status.seqno;

	/* What was refused isn't a submission. */
	igt_assert_eq(npu_submit_raw(ctx.fd, ctx.queue, ctx.vm, ctx.cmds.va + 4, 8, NULL, 0), -EINVAL);
	npu_assert_alive(&ctx);
	igt_assert_eq_u64(ctx.status.seqno, failed);
	igt_assert_eq_u64(ctx.status.completed, 7);
	npu_ctx_close(&ctx);
}

/* Several failures in a row, not waited for one by one: the last one counts. */
static void test_last_failure(void)
{
	struct drm_gmem_sync sync;
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	for (int i = 0; i < 8; i++) {
		struct npu_cb cb = npu_begin(&ctx);

		if (i == 6)
			npu_cmd_write(&cb, GIB(100), 0);
		else if (i & 1)
			npu_cmd_nop(&cb);
		else
			npu_cmd(&cb, 0x99, 1, 0);
		sync = npu_signal(ctx.syncobj);
		igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
	}
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
	igt_assert_eq_u64(ctx.status.completed, 8);
	igt_assert_eq_u64(ctx.status.seqno, 7);
	igt_assert_eq_u32(ctx.status.error, EFAULT);
	igt_assert_eq_u32(ctx.status.reason, NPU_NOT_MAPPED);
	npu_ctx_close(&ctx);
}

/* Each queue has its own. */
static void test_status_per_queue(void)
{
	struct drm_npu_job_status status;
	struct npu_ctx ctx, other;

	npu_ctx_open(&ctx);
	npu_ctx_init(&other, ctx.fd);
	npu_assert_fault(&ctx, npu_write(&ctx, GIB(77), 0), GIB(77), NPU_NOT_MAPPED);
	npu_assert_alive(&other);
	igt_assert_eq(npu_job_status(ctx.fd, other.queue, &status), 0);
	igt_assert_eq_u64(status.seqno, 0);
	igt_assert_eq_u32(status.error, 0);
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &status), 0);
	igt_assert_eq_u64(status.seqno, 1);
	npu_ctx_fini(&other);
	npu_ctx_close(&ctx);
}

/* A file that's closed takes its jobs along, and their fences tell those who kept them. */
static bool try_close(void *arg)
{
	struct npu_blocker blocker;
	struct drm_gmem_sync sync;
	struct npu_ctx ctx, other;
	int running, queued, result;
	struct npu_cb cb;

	(void)arg;
	npu_ctx_open(&other);
	npu_ctx_open(&ctx);
	npu_block(&ctx, ctx.queue, &blocker);
	running = npu_sync_file_export(ctx.fd, blocker.syncobj);
	cb = npu_begin(&ctx);
	npu_cmd_nop(&cb);
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
	queued = npu_sync_file_export(ctx.fd, ctx.syncobj);
	igt_assert(running >= 0 && queued >= 0);
	npu_ctx_drop(&ctx);
	igt_assert_eq(npu_sync_file_wait(running), 0);
	igt_assert_eq(npu_sync_file_wait(queued), 0);
	result = npu_sync_file_status(running);
	if (result != -ETIMEDOUT) {
		igt_assert_eq(result, -ECANCELED);
		igt_assert_eq(npu_sync_file_status(queued), -ECANCELED);
	}
	close(running);
	close(queued);
	npu_assert_alive(&other);
	npu_ctx_close(&other);
	return result != -ETIMEDOUT;
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("A job that doesn't end is ended, and its queue goes on");
	igt_subtest("timeout")
		test_timeout();

	igt_describe("Jobs behind one that timed out run");
	igt_subtest("same-queue")
		test_same_queue();

	igt_describe("Other queues and other files go on all the while");
	igt_subtest("others")
		test_others();

	igt_describe("Time in which all hardware queues are busy doesn't count");
	igt_subtest("running-time")
		test_running_time();

	igt_describe("Time in which a job waits for a fence doesn't count");
	igt_subtest("waiting-time")
		test_waiting_time();

	igt_describe("A job that works for too long is ended, too");
	igt_subtest("busy")
		test_busy();

	igt_describe("job_status tells of the last failed job");
	igt_subtest("status")
		test_status();

	igt_describe("After several failures job_status tells of the last");
	igt_subtest("last-failure")
		test_last_failure();

	igt_describe("Failures of one queue aren't another's");
	igt_subtest("status-per-queue")
		test_status_per_queue();

	igt_describe("Jobs of a file that's closed end with -ECANCELED");
	igt_subtest("close")
		npu_retry(try_close, NULL);
}
