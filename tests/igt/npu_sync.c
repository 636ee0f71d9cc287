// SPDX-License-Identifier: MIT
/* Jobs that wait for others and signal others, by syncobjs and sync files. */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Syncobjs, timelines and sync files");

/* A job that takes a cell on to the next one. */
static int submit_copy(struct npu_ctx *ctx, uint32_t queue, struct npu_cell to,
		       struct npu_cell from, const struct drm_gmem_sync *syncs, uint32_t count)
{
	struct npu_cb cb = npu_begin(ctx);

	npu_cmd_copy(&cb, to.va, from.va, 8);
	return npu_submit(ctx, &cb, queue, syncs, count);
}

static int submit_nop(struct npu_ctx *ctx, const struct drm_gmem_sync *syncs, uint32_t count)
{
	struct npu_cb cb = npu_begin(ctx);

	npu_cmd_nop(&cb);
	return npu_submit(ctx, &cb, ctx->queue, syncs, count);
}

static uint32_t syncobj(int fd, uint32_t flags)
{
	uint32_t handle;

	igt_assert_eq(npu_syncobj_create(fd, flags, &handle), 0);
	return handle;
}

/* A job that signals while it's blocked, and one of another queue that waits for it. */
static bool try_binary(void *arg)
{
	struct npu_blocker blocker;
	struct drm_gmem_sync syncs[2];
	struct npu_cell from, to;
	struct npu_ctx ctx;
	uint32_t queue, done;
	uint64_t copied;
	int result;

	(void)arg;
	npu_ctx_open(&ctx);
	igt_require(npu_facts(ctx.fd).num_queues >= 2);
	igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
	done = syncobj(ctx.fd, 0);
	from = npu_cell(&ctx, 0);
	to = npu_cell(&ctx, 77);
	igt_assert_eq(npu_syncobj_poll(ctx.fd, done), -EINVAL);

	npu_block(&ctx, ctx.queue, &blocker);
	syncs[0] = npu_wait_for(blocker.syncobj);
	syncs[1] = npu_signal(done);
	igt_assert_eq(submit_copy(&ctx, queue, to, from, syncs, 2), 0);
	usleep(20000);
	/* If the first still runs, the second hasn't begun: it would have copied this. */
	copied = *to.cpu;
	result = npu_syncobj_poll(ctx.fd, done);
	if (npu_syncobj_poll(ctx.fd, blocker.syncobj) == -ETIME) {
		igt_assert_eq_u64(copied, 77);
		igt_assert_eq(result, -ETIME);
		*from.cpu = 88;
	}
	result = npu_unblock(&ctx, &blocker);
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	if (!result)
		igt_assert_eq_u64(*to.cpu, 88);
	npu_ctx_close(&ctx);
	return !result;
}

static void test_signaled(void)
{
	struct drm_gmem_sync syncs[2];
	struct npu_ctx ctx;
	uint32_t wait, done;

	npu_ctx_open(&ctx);
	wait = syncobj(ctx.fd, DRM_SYNCOBJ_CREATE_SIGNALED);
	done = syncobj(ctx.fd, 0);
	syncs[0] = npu_wait_for(wait);
	syncs[1] = npu_signal(done);
	igt_assert_eq(submit_nop(&ctx, syncs, 2), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	igt_assert_eq(npu_syncobj_wait(ctx.fd, done), 0);

	/* Reset, it has no fence; signalled by the CPU, it has again. */
	igt_assert_eq(npu_syncobj_reset(ctx.fd, wait), 0);
	igt_assert_eq(submit_nop(&ctx, syncs, 2), -EINVAL);
	igt_assert_eq(npu_syncobj_signal(ctx.fd, wait), 0);
	igt_assert_eq(submit_nop(&ctx, syncs, 2), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	npu_ctx_close(&ctx);
}

enum { CHAIN = 64, QUEUES = 4 };

/* 64 jobs over four queues, each copying what the one before left; @how names the links. */
enum links { POINTS, BINARIES, ONE_BINARY };

static void test_chain(enum links how)
{
	struct npu_cell cell[CHAIN + 1];
	uint32_t queue[QUEUES], line, link[CHAIN + 1];
	struct npu_ctx ctx;
	uint64_t point;

	npu_ctx_open(&ctx);
	for (int i = 0; i < QUEUES; i++)
		igt_assert_eq(npu_queue_create(ctx.fd, &queue[i]), 0);
	line = syncobj(ctx.fd, 0);
	for (int i = 0; i <= CHAIN; i++) {
		cell[i] = npu_cell(&ctx, i ? 0 : 0xc4a1);
		link[i] = how == BINARIES ? syncobj(ctx.fd, 0) : line;
	}
	for (int i = 0; i < CHAIN; i++) {
		struct drm_gmem_sync syncs[2];

		if (how == POINTS) {
			syncs[0] = npu_signal_point(line, i + 1);
			syncs[1] = npu_wait_point(line, i);
		} else {
			syncs[0] = npu_signal(link[i + 1]);
			syncs[1] = npu_wait_for(link[i]);
		}
		igt_assert_eq(submit_copy(&ctx, queue[i % QUEUES], cell[i + 1], cell[i], syncs,
					  i ? 2 : 1), 0);
	}
	if (how == POINTS) {
		igt_assert_eq(npu_syncobj_wait_point(ctx.fd, line, CHAIN, 0), 0);
		igt_assert_eq(npu_syncobj_query(ctx.fd, line, &point), 0);
		igt_assert_eq_u64(point, CHAIN);
		for (int i = 1; i <= CHAIN; i++)
			igt_assert_eq(npu_syncobj_poll_point(ctx.fd, line, i), 0);
	} else {
		igt_assert_eq(npu_syncobj_wait(ctx.fd, link[CHAIN]), 0);
	}
	for (int i = 0; i <= CHAIN; i++)
		igt_assert_eq_u64(*cell[i].cpu, 0xc4a1);
	npu_ctx_close(&ctx);
}

/* Points far apart, one after the other, and the CPU's own among them. */
static void test_timeline(void)
{
	struct drm_gmem_sync syncs[2];
	struct npu_ctx ctx;
	uint64_t point;
	uint32_t line;

	npu_ctx_open(&ctx);
	line = syncobj(ctx.fd, 0);
	syncs[0] = npu_wait_point(line, 10);
	syncs[1] = npu_signal_point(line, 1ull << 40);
	igt_assert_eq(submit_nop(&ctx, syncs, 2), -EINVAL);
	igt_assert_eq(npu_syncobj_signal_point(ctx.fd, line, 9), 0);
	igt_assert_eq(submit_nop(&ctx, syncs, 2), -EINVAL);
	igt_assert_eq(npu_syncobj_signal_point(ctx.fd, line, 10), 0);
	igt_assert_eq(submit_nop(&ctx, syncs, 2), 0);
	igt_assert_eq(npu_syncobj_wait_point(ctx.fd, line, 11, 0), 0);
	igt_assert_eq(npu_syncobj_wait_point(ctx.fd, line, 1ull << 40, 0), 0);
	igt_assert_eq(npu_syncobj_query(ctx.fd, line, &point), 0);
	igt_assert_eq_u64(point, 1ull << 40);

	/* A point below one that has been submitted is as good as that one. */
	syncs[0] = npu_wait_point(line, 5000);
	syncs[1] = npu_signal_point(line, ~0ull);
	igt_assert_eq(submit_nop(&ctx, syncs, 2), 0);
	igt_assert_eq(npu_syncobj_wait_point(ctx.fd, line, ~0ull, 0), 0);
	npu_ctx_close(&ctx);
}

static void test_no_fence(void)
{
	struct drm_gmem_sync syncs[3];
	struct npu_ctx ctx;
	uint32_t empty, done, gone;

	npu_ctx_open(&ctx);
	empty = syncobj(ctx.fd, 0);
	done = syncobj(ctx.fd, 0);
	gone = syncobj(ctx.fd, DRM_SYNCOBJ_CREATE_SIGNALED);
	igt_assert_eq(npu_syncobj_destroy(ctx.fd, gone), 0);
	syncs[0] = npu_signal(done);
	for (int i = 0; i < 4; i++) {
		const struct { struct drm_gmem_sync sync; int error; } bad[] = {
			{ npu_wait_for(empty), -EINVAL },
			{ npu_wait_point(empty, 1), -EINVAL },
			{ npu_wait_for(gone), -ENOENT },
			{ npu_signal(gone), -ENOENT },
		};

		/* Wherever it stands, the others are left alone. */
		syncs[1] = bad[i].sync;
		igt_assert_eq(submit_nop(&ctx, syncs, 2), bad[i].error);
		igt_assert_eq(npu_syncobj_poll(ctx.fd, done), -EINVAL);
		syncs[2] = syncs[0];
		igt_assert_eq(submit_nop(&ctx, syncs + 1, 2), bad[i].error);
		igt_assert_eq(npu_syncobj_poll(ctx.fd, done), -EINVAL);
	}

	/* None of these counted as a job. */
	igt_assert_eq(submit_nop(&ctx, syncs, 1), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, done), 0);
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
	igt_assert_eq_u64(ctx.status.completed, 1);
	npu_ctx_close(&ctx);
}

/* 32 to wait for and 32 to signal; 65 are too many. */
static void test_many(void)
{
	struct drm_gmem_sync syncs[65];
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	for (int i = 0; i < 65; i++) {
		uint32_t handle = syncobj(ctx.fd, i & 1 ? 0 : DRM_SYNCOBJ_CREATE_SIGNALED);

		syncs[i] = i & 1 ? npu_signal(handle) : npu_wait_for(handle);
	}
	igt_assert_eq(submit_nop(&ctx, syncs, 65), -EINVAL);
	for (int i = 1; i < 65; i += 2)
		igt_assert_eq(npu_syncobj_poll(ctx.fd, syncs[i].handle), -EINVAL);
	igt_assert_eq(submit_nop(&ctx, syncs, 64), 0);
	for (int i = 1; i < 64; i += 2)
		igt_assert_eq(npu_fence_result(ctx.fd, syncs[i].handle), 0);
	npu_ctx_close(&ctx);
}

/* To wait for a syncobj and signal the same one: it waits for the fence it had before. */
static void test_wait_and_signal(void)
{
	struct drm_gmem_sync syncs[2];
	struct npu_ctx ctx;
	uint32_t handle;

	npu_ctx_open(&ctx);
	handle = syncobj(ctx.fd, DRM_SYNCOBJ_CREATE_SIGNALED);
	for (int i = 0; i < 20; i++) {
		syncs[i & 1] = npu_wait_for(handle);
		syncs[!(i & 1)] = npu_signal(handle);
		igt_assert_eq(submit_nop(&ctx, syncs, 2), 0);
	}
	igt_assert_eq(npu_fence_result(ctx.fd, handle), 0);
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
	igt_assert_eq_u64(ctx.status.completed, 20);
	npu_ctx_close(&ctx);
}

static void test_no_syncs(void)
{
	struct drm_gmem_sync sync;
	struct npu_cell cell;
	struct npu_ctx ctx;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	cell = npu_cell(&ctx, 0);
	for (int i = 0; i < 10; i++) {
		cb = npu_begin(&ctx);
		npu_cmd_write(&cb, cell.va, i + 1);
		igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, NULL, 0), 0);
	}
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(submit_nop(&ctx, &sync, 1), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq_u64(*cell.cpu, 10);
	npu_ctx_close(&ctx);
}

/* A job's fence leaves its file as a sync file and delays a job of another. */
static bool try_sync_file(void *arg)
{
	struct drm_gmem_sync syncs[2];
	struct npu_blocker blocker;
	struct npu_ctx ctx, other;
	uint32_t wait, done;
	int sync_file, result;

	(void)arg;
	npu_ctx_open(&ctx);
	igt_require(npu_facts(ctx.fd).num_queues >= 2);
	npu_ctx_open(&other);
	wait = syncobj(other.fd, 0);
	done = syncobj(other.fd, 0);
	npu_block(&ctx, ctx.queue, &blocker);
	sync_file = npu_sync_file_export(ctx.fd, blocker.syncobj);
	igt_assert_fd(sync_file);
	igt_assert_eq(npu_sync_file_import(other.fd, wait, sync_file), 0);
	syncs[0] = npu_wait_for(wait);
	syncs[1] = npu_signal(done);
	igt_assert_eq(submit_nop(&other, syncs, 2), 0);
	usleep(20000);
	/* In this order: a fence may be signalled in between. */
	result = npu_syncobj_poll(other.fd, done);
	if (npu_sync_file_status(sync_file) == 0)
		igt_assert_eq(result, -ETIME);
	result = npu_unblock(&ctx, &blocker);
	igt_assert_eq(npu_sync_file_wait(sync_file), 0);
	igt_assert_eq(npu_sync_file_status(sync_file), result ? result : 1);
	igt_assert_eq(npu_fence_result(other.fd, done), 0);
	close(sync_file);
	npu_ctx_close(&ctx);
	npu_ctx_close(&other);
	return !result;
}

/* A timeline shared by two files in two processes. */
static void test_processes(void)
{
	struct npu_ctx ctx;
	uint32_t line;
	int shared;

	npu_ctx_open(&ctx);
	line = syncobj(ctx.fd, 0);
	shared = npu_syncobj_export(ctx.fd, line);
	igt_assert_fd(shared);
	igt_fork(child, 2) {
		struct npu_ctx mine;
		uint32_t handle;

		npu_ctx_open(&mine);
		igt_assert_eq(npu_syncobj_import(mine.fd, shared, &handle), 0);
		for (uint64_t i = 1; i <= 16; i++) {
			struct drm_gmem_sync sync = npu_signal_point(handle, 2 * i - 1 + child);

			/* Each waits for the other's point, which may not be submitted yet. */
			if (2 * i - 2 + child)
				igt_assert_eq(npu_syncobj_wait_point(mine.fd, handle,
					2 * i - 2 + child, DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT), 0);
			igt_assert_eq(submit_nop(&mine, &sync, 1), 0);
		}
		npu_ctx_close(&mine);
	}
	igt_assert_eq(npu_syncobj_wait_point(ctx.fd, line, 32,
					     DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT), 0);
	igt_waitchildren();
	close(shared);
	npu_ctx_close(&ctx);
}

/* Syncobjs destroyed while jobs wait for them and will signal them. */
static bool try_destroyed(void *arg)
{
	struct drm_gmem_sync syncs[2];
	struct npu_blocker blocker;
	struct npu_ctx ctx;
	uint32_t wait, done, last;
	int result, sync_file;

	(void)arg;
	npu_ctx_open(&ctx);
	wait = syncobj(ctx.fd, 0);
	done = syncobj(ctx.fd, 0);
	last = syncobj(ctx.fd, 0);
	npu_block(&ctx, ctx.queue, &blocker);
	sync_file = npu_sync_file_export(ctx.fd, blocker.syncobj);
	igt_assert_fd(sync_file);
	igt_assert_eq(npu_sync_file_import(ctx.fd, wait, sync_file), 0);
	close(sync_file);
	syncs[0] = npu_wait_for(wait);
	syncs[1] = npu_signal(done);
	igt_assert_eq(submit_nop(&ctx, syncs, 2), 0);
	igt_assert_eq(npu_syncobj_destroy(ctx.fd, wait), 0);
	igt_assert_eq(npu_syncobj_destroy(ctx.fd, done), 0);
	syncs[0] = npu_signal(last);
	igt_assert_eq(submit_nop(&ctx, syncs, 1), 0);
	result = npu_unblock(&ctx, &blocker);
	igt_assert_eq(npu_fence_result(ctx.fd, last), 0);
	npu_ctx_close(&ctx);
	return !result;
}

/* A job that waits for one which fails has its turn, and an end. */
static void test_after_failure(void)
{
	struct drm_gmem_sync syncs[2];
	struct npu_ctx ctx, other;
	uint32_t failed, done;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	npu_ctx_init(&other, ctx.fd);
	failed = syncobj(ctx.fd, 0);
	done = syncobj(ctx.fd, 0);
	cb = npu_begin(&ctx);
	npu_cmd_write(&cb, GIB(99), 0);
	syncs[0] = npu_signal(failed);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, syncs, 1), 0);
	syncs[0] = npu_wait_for(failed);
	syncs[1] = npu_signal(done);
	igt_assert_eq(submit_nop(&other, syncs, 2), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, failed), -EFAULT);
	npu_fence_result(ctx.fd, done);
	npu_assert_alive(&ctx);
	npu_assert_alive(&other);
	npu_ctx_fini(&other);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("A job waits for the fence of another and signals its own");
	igt_subtest("binary")
		npu_retry(try_binary, NULL);

	igt_describe("A syncobj that's signalled already delays nobody");
	igt_subtest("signaled")
		test_signaled();

	igt_describe("64 jobs over several queues, linked by points of a timeline");
	igt_subtest("chain-timeline")
		test_chain(POINTS);

	igt_describe("64 jobs over several queues, linked by binary syncobjs");
	igt_subtest("chain-binary")
		test_chain(BINARIES);

	igt_describe("64 jobs over several queues, linked by one binary syncobj");
	igt_subtest("chain-one-syncobj")
		test_chain(ONE_BINARY);

	igt_describe("Points of a timeline, signalled by jobs and by the CPU");
	igt_subtest("timeline")
		test_timeline();

	igt_describe("A wait that can't be done refuses the job and leaves other syncobjs alone");
	igt_subtest("wait-before-submit")
		test_no_fence();

	igt_describe("A job can have 64 syncs and no more");
	igt_subtest("many-syncs")
		test_many();

	igt_describe("A job can wait for the syncobj that it signals");
	igt_subtest("wait-and-signal")
		test_wait_and_signal();

	igt_describe("Jobs need no syncs");
	igt_subtest("no-syncs")
		test_no_syncs();

	igt_describe("Sync files carry fences from file to file");
	igt_subtest("sync-file")
		npu_retry(try_sync_file, NULL);

	igt_describe("A timeline shared by two processes");
	igt_subtest("processes")
		test_processes();

	igt_describe("Syncobjs can be destroyed under jobs that use them");
	igt_subtest("destroyed")
		npu_retry(try_destroyed, NULL);

	igt_describe("A job that waits for one that fails comes to an end");
	igt_subtest("after-failure")
		test_after_failure();
}
