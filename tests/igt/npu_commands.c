// SPDX-License-Identifier: MIT
/* Commands that move data: FILL, COPY, COMPARE, WRITE, TIMESTAMP, WAIT, NOP. */

#include <string.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Commands that move data, against a CPU reference");

/*
 * Two windows that the CPU sees from one end and the device, page by page in
 * another order, from both: offsets are the same, memory is not contiguous.
 */
#define SIZE	KIB(64)

struct window {
	struct npu_bo stage;	/* host memory, contiguous */
	uint64_t va;		/* the same contents in scattered pages, on the device */
	uint8_t ref[SIZE];
};

static void window_init(struct npu_ctx *ctx, struct window *w)
{
	struct drm_gmem_bind_op ops[SIZE / PAGE];
	uint32_t bo[2];

	w->stage = npu_bo(ctx, SIZE, NPU_HOST, 0);
	w->va = npu_va(ctx, SIZE, KIB(64));
	igt_assert_eq(npu_bo_create(ctx->fd, SIZE, NPU_DEVICE, &bo[0]), 0);
	igt_assert_eq(npu_bo_create(ctx->fd, SIZE, NPU_HOST, &bo[1]), 0);
	for (unsigned int i = 0; i < SIZE / PAGE; i++)
		ops[i] = npu_op_map(bo[i / 2 & 1], w->va + i * PAGE, (i * 7 + 3) % 16 * PAGE, PAGE);
	igt_assert_eq(npu_bind(ctx->fd, ctx->vm, ops, SIZE / PAGE), 0);
}

static void window_random(struct window *w, uint64_t *seed)
{
	for (uint64_t i = 0; i < SIZE; i += 8) {
		uint64_t r = npu_random(seed);

		memcpy(w->ref + i, &r, 8);
	}
	memcpy(w->stage.cpu, w->ref, SIZE);
}

static struct npu_cb window_begin(struct npu_ctx *ctx, struct window *w, int count)
{
	struct npu_cb cb = npu_begin(ctx);

	for (int i = 0; i < count; i++)
		npu_cmd_copy(&cb, w[i].va, w[i].stage.va, SIZE);
	return cb;
}

static void window_end(struct npu_ctx *ctx, struct window *w, int count, struct npu_cb *cb)
{
	for (int i = 0; i < count; i++)
		npu_cmd_copy(cb, w[i].stage.va, w[i].va, SIZE);
	igt_assert_eq(npu_run(ctx, cb), 0);
	for (int i = 0; i < count; i++)
		igt_assert(!memcmp(w[i].stage.cpu, w[i].ref, SIZE));
}

static void test_fill(void)
{
	static const struct { uint32_t at, size; } cases[] = {
		{ 0, 0 }, { 0, 4 }, { 4, 4 }, { 8, 12 }, { 4092, 4 }, { 4092, 8 }, { 4096, 4096 },
		{ 4, 8188 }, { 12284, 20484 }, { 60, 65000 }, { 0, SIZE }, { SIZE - 4, 4 },
	};
	static struct window w;
	uint64_t seed = npu_seed();
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	window_init(&ctx, &w);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t pattern = npu_random(&seed);
		struct npu_cb cb;

		window_random(&w, &seed);
		cb = window_begin(&ctx, &w, 1);
		npu_cmd_fill(&cb, w.va + cases[i].at, cases[i].size, pattern);
		for (uint32_t j = 0; j < cases[i].size; j += 4)
			memcpy(w.ref + cases[i].at + j, &pattern, 4);
		window_end(&ctx, &w, 1, &cb);
	}
	npu_ctx_close(&ctx);
}

static const struct { uint32_t dst, src, size; } copies[] = {
	{ 0, 0, 0 }, { 0, 0, 1 }, { 1, 0, 1 }, { 3, 5, 7 }, { 7, 8, 64 }, { 4095, 1, 1 },
	{ 4095, 4094, 3 }, { 4090, 10, 20 }, { 1, 2, 4096 }, { 5000, 77, 9999 },
	{ 0, 1, SIZE - 1 }, { 0, 0, SIZE }, { 8191, 16383, 16387 }, { SIZE - 1, SIZE - 1, 1 },
};

static void test_copy(void)
{
	static struct window w[2];
	uint64_t seed = npu_seed();
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	window_init(&ctx, &w[0]);
	window_init(&ctx, &w[1]);
	for (size_t i = 0; i < ARRAY_LEN(copies); i++) {
		struct npu_cb cb;

		window_random(&w[0], &seed);
		window_random(&w[1], &seed);
		cb = window_begin(&ctx, w, 2);
		npu_cmd_copy(&cb, w[0].va + copies[i].dst, w[1].va + copies[i].src, copies[i].size);
		memcpy(w[0].ref + copies[i].dst, w[1].ref + copies[i].src, copies[i].size);
		window_end(&ctx, w, 2, &cb);
	}
	npu_ctx_close(&ctx);
}

/* In place, nothing changes. */
static void test_copy_in_place(void)
{
	static struct window w;
	uint64_t seed = npu_seed();
	struct npu_ctx ctx;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	window_init(&ctx, &w);
	window_random(&w, &seed);
	cb = window_begin(&ctx, &w, 1);
	npu_cmd_copy(&cb, w.va, w.va, SIZE);
	npu_cmd_copy(&cb, w.va + 4093, w.va + 4093, 5001);
	window_end(&ctx, &w, 1, &cb);
	npu_ctx_close(&ctx);
}

/* Copies in random places, one after the other in one job. */
static void test_copy_random(void)
{
	static struct window w[2];
	uint64_t seed = npu_seed();
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	window_init(&ctx, &w[0]);
	window_init(&ctx, &w[1]);
	for (unsigned int round = 0; round < npu_scale(8); round++) {
		struct npu_cb cb;

		window_random(&w[0], &seed);
		window_random(&w[1], &seed);
		cb = window_begin(&ctx, w, 2);
		for (int i = 0; i < 100; i++) {
			unsigned int to = npu_random(&seed) & 1;
			uint32_t size = npu_random(&seed) % (i & 1 ? 100 : 10000);
			uint32_t dst = npu_random(&seed) % (SIZE - size);
			uint32_t src = npu_random(&seed) % (SIZE - size);

			npu_cmd_copy(&cb, w[to].va + dst, w[!to].va + src, size);
			memcpy(w[to].ref + dst, w[!to].ref + src, size);
		}
		window_end(&ctx, w, 2, &cb);
	}
	npu_ctx_close(&ctx);
}

static void check_compare(struct npu_ctx *ctx, struct window *w, uint32_t from, uint32_t size,
			  uint64_t expected)
{
	struct npu_cell cell = npu_cell(ctx, 0);
	struct npu_cb cb;

	if (!size)
		return;
	cb = npu_begin(ctx);
	npu_cmd_compare(&cb, cell.va, w[0].va + from, w[1].va + from, size);
	igt_assert_eq(npu_run(ctx, &cb), 0);
	igt_assert_eq_u64(*cell.cpu, expected);
}

static void test_compare(void)
{
	static struct window w[2];
	static const uint32_t differ[] = { 0, 1, 7, 8, 4094, 4095, 4096, 30001, SIZE - 2 };
	uint64_t seed = npu_seed();
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	window_init(&ctx, &w[0]);
	window_init(&ctx, &w[1]);
	window_random(&w[0], &seed);
	for (size_t i = 0; i < ARRAY_LEN(differ); i++) {
		uint32_t at = differ[i];
		struct npu_cb cb;

		/* The byte in question, and the very last. */
		memcpy(w[1].ref, w[0].ref, SIZE);
		w[1].ref[at] ^= 1 << (i % 8);
		w[1].ref[SIZE - 1] ^= 0x80;
		memcpy(w[1].stage.cpu, w[1].ref, SIZE);
		cb = window_begin(&ctx, w, 2);
		window_end(&ctx, w, 2, &cb);
		check_compare(&ctx, w, 0, SIZE, at);
		check_compare(&ctx, w, 0, at, NPU_COMPARE_EQUAL);
		check_compare(&ctx, w, 0, at + 1, at);
		check_compare(&ctx, w, at / 2, SIZE - at / 2, at - at / 2);
		check_compare(&ctx, w, at, 1, 0);
		check_compare(&ctx, w, at + 1, SIZE - 2 - at, NPU_COMPARE_EQUAL);
		check_compare(&ctx, w, at + 1, SIZE - 1 - at, SIZE - 2 - at);
	}
	npu_ctx_close(&ctx);
}

static void test_write(void)
{
	static struct window w;
	uint64_t seed = npu_seed();
	struct npu_ctx ctx;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	window_init(&ctx, &w);
	window_random(&w, &seed);
	cb = window_begin(&ctx, &w, 1);
	for (int i = 0; i < 200; i++) {
		uint32_t at = npu_random(&seed) % (SIZE / 8) * 8;
		uint64_t value = npu_random(&seed);

		npu_cmd_write(&cb, w.va + at, value);
		memcpy(w.ref + at, &value, 8);
	}
	window_end(&ctx, &w, 1, &cb);
	npu_ctx_close(&ctx);
}

/* The clock goes forward within a job and from job to job, and is the one of QUERY. */
static void test_timestamp(void)
{
	struct npu_cell cell[16];
	uint64_t last;
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	last = npu_facts(ctx.fd).timestamp;
	for (int round = 0; round < 3; round++) {
		struct npu_cb cb = npu_begin(&ctx);

		for (int i = 0; i < 16; i++) {
			cell[i] = npu_cell(&ctx, 0);
			npu_cmd_timestamp(&cb, cell[i].va);
		}
		igt_assert_eq(npu_run(&ctx, &cb), 0);
		for (int i = 0; i < 16; i++) {
			igt_assert_lte_u64(last, *cell[i].cpu);
			last = *cell[i].cpu;
		}
	}
	igt_assert_lte_u64(last, npu_facts(ctx.fd).timestamp);
	npu_ctx_close(&ctx);
}

/* WAIT goes on as soon as the value is large enough, wherever it comes from. */
static void test_wait(void)
{
	struct npu_cell cell, mark;
	struct npu_ctx ctx;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	cell = npu_cell(&ctx, 100);
	mark = npu_cell(&ctx, 0);
	cb = npu_begin(&ctx);
	npu_cmd_wait(&cb, cell.va, 0);
	npu_cmd_wait(&cb, cell.va, 99);
	npu_cmd_wait(&cb, cell.va, 100);
	npu_cmd_write(&cb, cell.va, ~0ull);
	npu_cmd_wait(&cb, cell.va, 1ull << 63);
	npu_cmd_wait(&cb, cell.va, ~0ull);
	npu_cmd_write(&cb, mark.va, 1);
	igt_assert_eq(npu_run(&ctx, &cb), 0);
	igt_assert_eq_u64(*mark.cpu, 1);
	npu_ctx_close(&ctx);
}

static bool try_wait_for_queue(void *arg)
{
	struct npu_cell cell, mark;
	struct drm_gmem_sync sync;
	struct npu_ctx ctx;
	struct npu_cb cb;
	uint32_t queue;
	int result;

	(void)arg;
	npu_ctx_open(&ctx);
	igt_require(npu_facts(ctx.fd).num_queues >= 2);
	igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
	cell = npu_cell(&ctx, 0);
	mark = npu_cell(&ctx, 0);
	cb = npu_begin(&ctx);
	npu_cmd_wait(&cb, cell.va, 7);
	npu_cmd_copy(&cb, mark.va, cell.va, 8);
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
	cb = npu_begin(&ctx);
	npu_cmd_write(&cb, cell.va, 6);
	npu_cmd_write(&cb, cell.va, 8);
	igt_assert_eq(npu_submit(&ctx, &cb, queue, NULL, 0), 0);
	result = npu_fence_result(ctx.fd, ctx.syncobj);
	if (!result)
		igt_assert_eq_u64(*mark.cpu, 8);
	else
		igt_assert_eq(result, -ETIMEDOUT);
	npu_ctx_close(&ctx);
	return !result;
}

/* As many commands as a job can have: 1 MiB of them. */
static void test_long_job(void)
{
	const uint32_t words = MIB(1) / 8;
	struct drm_gmem_sync sync;
	struct npu_cell cell;
	struct npu_ctx ctx;
	struct npu_bo bo;
	uint64_t *c;

	npu_ctx_open(&ctx);
	bo = npu_bo(&ctx, MIB(1), NPU_HOST, DRM_GMEM_BIND_EXEC);
	c = bo.cpu;
	for (uint32_t i = 0; i < words - 3; i++)
		c[i] = NPU_CMD_NOP | 1 << 16;
	cell = npu_cell(&ctx, 0);
	c[words - 3] = NPU_CMD_WRITE | 3 << 16;
	c[words - 2] = cell.va;
	c[words - 1] = 4711;
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit_raw(ctx.fd, ctx.queue, ctx.vm, bo.va, MIB(1), &sync, 1), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq_u64(*cell.cpu, 4711);

	/* The shortest there is, at the end of the buffer. */
	c[words - 1] = NPU_CMD_NOP | 1 << 16;
	igt_assert_eq(npu_submit_raw(ctx.fd, ctx.queue, ctx.vm, bo.va + MIB(1) - 8, 8, &sync, 1), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	npu_bo_free(&ctx, &bo);
	npu_ctx_close(&ctx);
}

/* Commands that lie across pages of several objects. */
static void test_scattered_commands(void)
{
	static struct window w;
	struct drm_gmem_sync sync;
	struct drm_gmem_bind_op ops[4];
	struct npu_ctx ctx;
	uint64_t va, *c;
	struct npu_cell cell[32];

	npu_ctx_open(&ctx);
	window_init(&ctx, &w);
	va = npu_va(&ctx, 4 * PAGE, PAGE);
	for (int i = 0; i < 4; i++) {
		ops[i] = npu_op_map(w.stage.handle, va + i * PAGE, (15 - 3 * i) * PAGE, PAGE);
		ops[i].flags = DRM_GMEM_BIND_EXEC | DRM_GMEM_BIND_READONLY;
	}
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 4), 0);

	/* Three words each, from 8 bytes before a page's end on, so that they cross over. */
	c = (uint64_t *)w.ref;
	for (int i = 0; i < 32; i++) {
		cell[i] = npu_cell(&ctx, 0);
		c[3 * i] = NPU_CMD_WRITE | 3 << 16;
		c[3 * i + 1] = cell[i].va;
		c[3 * i + 2] = npu_tag(9, i);
	}
	for (uint64_t i = 0; i < 96; i++) {
		uint64_t at = PAGE - 8 * 17 + 8 * i, page = at / PAGE;

		((uint64_t *)w.stage.cpu)[((15 - 3 * page) * PAGE + at % PAGE) / 8] = c[i];
	}
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit_raw(ctx.fd, ctx.queue, ctx.vm, va + PAGE - 8 * 17, 96 * 8,
				     &sync, 1), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	for (int i = 0; i < 32; i++)
		igt_assert_eq_u64(*cell[i].cpu, npu_tag(9, i));
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("FILL writes its pattern and nothing else");
	igt_subtest("fill")
		test_fill();

	igt_describe("COPY takes any alignment and size");
	igt_subtest("copy")
		test_copy();

	igt_describe("COPY of a range onto itself changes nothing");
	igt_subtest("copy-in-place")
		test_copy_in_place();

	igt_describe("Random copies agree with the CPU's");
	igt_subtest("copy-random")
		test_copy_random();

	igt_describe("COMPARE finds the first byte that differs");
	igt_subtest("compare")
		test_compare();

	igt_describe("WRITE writes eight bytes");
	igt_subtest("write")
		test_write();

	igt_describe("TIMESTAMP goes forward");
	igt_subtest("timestamp")
		test_timestamp();

	igt_describe("WAIT goes on once the value is large enough");
	igt_subtest("wait")
		test_wait();

	igt_describe("WAIT sees what another queue writes");
	igt_subtest("wait-for-queue")
		npu_retry(try_wait_for_queue, NULL);

	igt_describe("Jobs of 1 MiB and of 8 bytes run");
	igt_subtest("longest-and-shortest")
		test_long_job();

	igt_describe("Commands may lie across pages and objects");
	igt_subtest("scattered-commands")
		test_scattered_commands();
}
