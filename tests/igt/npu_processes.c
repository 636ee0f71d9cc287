// SPDX-License-Identifier: MIT
/* Many processes at once, and processes that end in the middle of something. */

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Many clients, and clients that die");

/* Memory that parent and children share, to tell each other how far they are. */
static volatile uint32_t *shared_flags(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	igt_assert(p != MAP_FAILED);
	return p;
}

static void await(volatile uint32_t *flag)
{
	for (int ms = 0; !*flag && ms < 60000; ms++)
		usleep(1000);
	igt_assert(*flag);
}

/* Killed with a job on the device and others behind it: nobody else notices. */
static void test_killed(unsigned int jobs)
{
	volatile uint32_t *ready = shared_flags();
	struct npu_ctx ctx;
	uint64_t before;
	int base = npu_open();

	before = npu_mem_free(base);
	for (unsigned int round = 0; round < npu_scale(3); round++) {
		*ready = 0;
		igt_fork(child, 1) {
			struct npu_blocker blocker;
			struct npu_ctx mine;
			struct npu_bo bo;

			npu_ctx_open(&mine);
			bo = npu_bo(&mine, MIB(4), NPU_DEVICE, 0);
			npu_block(&mine, mine.queue, &blocker);
			for (unsigned int i = 0; i < jobs; i++) {
				struct npu_cb cb = npu_begin(&mine);

				npu_cmd_fill(&cb, bo.va, bo.size, i);
				igt_assert_eq(npu_submit(&mine, &cb, mine.queue, NULL, 0), 0);
			}
			*ready = 1;
			for (;;)
				pause();
		}
		await(ready);
		igt_kill_children(SIGKILL);
		igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
		npu_ctx_open(&ctx);
		for (int i = 0; i < 3; i++)
			npu_assert_alive(&ctx);
		npu_ctx_close(&ctx);
		npu_assert_mem_free(base, before);
	}
	close(base);
}

/* Killed at any moment of setting up, working and taking down. */
static void test_killed_anywhere(void)
{
	uint64_t seed = npu_seed(), before;
	volatile uint32_t *ready = shared_flags();
	struct npu_ctx ctx;
	int base = npu_open();

	before = npu_mem_free(base);
	for (unsigned int round = 0; round < npu_scale(12); round++) {
		*ready = 0;
		igt_fork(child, 2) {
			*ready = 1;
			for (;;) {
				struct npu_ctx mine;
				struct npu_bo bo;

				npu_ctx_open(&mine);
				bo = npu_bo(&mine, KIB(256), child ? NPU_HOST : NPU_DEVICE, 0);
				npu_bo_tag(&mine, bo.handle, bo.size, child);
				npu_bo_free(&mine, &bo);
				npu_ctx_close(&mine);
			}
		}
		await(ready);
		usleep(npu_random(&seed) % 60000);
		igt_kill_children(SIGKILL);
		igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
	}
	npu_ctx_open(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
	npu_assert_mem_free(base, before);
	close(base);
}

/* Exits with jobs queued, of its own accord, with or without closing things in order. */
static void test_exit_queued(bool waiting)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);
	struct npu_ctx ctx;

	igt_fork(child, 4) {
		struct npu_blocker blocker;
		struct npu_ctx mine;
		struct npu_bo bo;

		npu_ctx_open(&mine);
		bo = npu_bo(&mine, MIB(1), NPU_DEVICE, 0);
		npu_block_submit(&mine, mine.queue, &blocker);
		for (int i = 0; i < 64; i++) {
			struct npu_cb cb = npu_begin(&mine);
			struct drm_gmem_sync sync = npu_wait_for(blocker.syncobj);
			uint32_t queue = mine.queue;

			/* Behind the blocked one, or in queues of their own, waiting for its fence. */
			if (waiting && i % 8 == 0)
				igt_assert_eq(npu_queue_create(mine.fd, &queue), 0);
			npu_cmd_fill(&cb, bo.va, bo.size, i);
			igt_assert_eq(npu_submit(&mine, &cb, queue, &sync, waiting), 0);
		}
		if (child & 1)
			npu_ctx_drop(&mine);
	}
	igt_waitchildren();
	npu_assert_mem_free(base, before);
	npu_ctx_open(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
	close(base);
}

/* What one of many does: an object in device memory, kept in step with a copy of its own. */
struct work {
	struct npu_ctx ctx;
	uint64_t seed;
	uint8_t *shadow;
	uint64_t size;
	uint32_t bo;
	uint64_t va;
	struct npu_bo stage;
};

static void work_init(struct work *w, int child, uint64_t seed)
{
	npu_ctx_open(&w->ctx);
	w->seed = seed + child * 7919;
	w->size = KIB(64) * (1 + child % 4) + (child & 1 ? PAGE : 0);
	w->shadow = calloc(1, w->size);
	igt_assert(w->shadow);
	igt_assert_eq(npu_bo_create(w->ctx.fd, w->size, child % 3 ? NPU_DEVICE : NPU_HOST, &w->bo), 0);
	w->va = npu_va(&w->ctx, w->size, MIB(2));
	igt_assert_eq(npu_map(w->ctx.fd, w->ctx.vm, w->bo, w->va, 0, w->size, 0), 0);
	w->stage = npu_bo(&w->ctx, w->size, NPU_HOST, 0);
}

static void work_step(struct work *w)
{
	uint64_t at = npu_random(&w->seed) % (w->size - 8), size, value;
	struct npu_cb cb;

	size = 1 + npu_random(&w->seed) % (w->size - at);
	switch (npu_random(&w->seed) % 6) {
	case 0:	/* fill */
		at &= ~3ull;
		size = npu_max(size & ~3ull, 4);
		value = (uint32_t)npu_random(&w->seed);
		cb = npu_begin(&w->ctx);
		npu_cmd_fill(&cb, w->va + at, size, value);
		igt_assert_eq(npu_run(&w->ctx, &cb), 0);
		for (uint64_t i = 0; i < size; i += 4)
			memcpy(w->shadow + at + i, &value, 4);
		break;
	case 1:	/* data from the CPU */
		memset((char *)w->stage.cpu + at, size, size);
		cb = npu_begin(&w->ctx);
		npu_cmd_copy(&cb, w->va + at, w->stage.va + at, size);
		igt_assert_eq(npu_run(&w->ctx, &cb), 0);
		memset(w->shadow + at, size, size);
		break;
	case 2:	/* the same object at another address */
		igt_assert_eq(npu_unmap(w->ctx.fd, w->ctx.vm, w->va, w->size), 0);
		w->va = npu_va(&w->ctx, w->size, size & 1 ? MIB(2) : PAGE);
		igt_assert_eq(npu_map(w->ctx.fd, w->ctx.vm, w->bo, w->va, 0, w->size, 0), 0);
		break;
	case 3:	/* a hole, noticed and mended */
		at &= ~(PAGE - 1);
		igt_assert_eq(npu_unmap(w->ctx.fd, w->ctx.vm, w->va + at, PAGE), 0);
		npu_assert_fault(&w->ctx, npu_read(&w->ctx, w->va + at, &value), w->va + at,
				 NPU_NOT_MAPPED);
		igt_assert_eq(npu_map(w->ctx.fd, w->ctx.vm, w->bo, w->va + at, at, PAGE, 0), 0);
		break;
	case 4:	/* a job that fails */
		cb = npu_begin(&w->ctx);
		npu_cmd(&cb, 0x66, 1, 0);
		igt_assert_eq(npu_run(&w->ctx, &cb), -EINVAL);
		break;
	default: /* all of it is as it should be */
		cb = npu_begin(&w->ctx);
		npu_cmd_copy(&cb, w->stage.va, w->va, w->size);
		igt_assert_eq(npu_run(&w->ctx, &cb), 0);
		igt_assert(!memcmp(w->stage.cpu, w->shadow, w->size));
	}
}

static void test_many(void)
{
	uint64_t seed = npu_seed();
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	igt_require(before >= MIB(8));
	igt_fork(child, 16) {
		struct npu_cb cb;
		struct work w;

		work_init(&w, child, seed);
		for (unsigned int i = 0; i < npu_scale(20); i++)
			work_step(&w);
		cb = npu_begin(&w.ctx);
		npu_cmd_copy(&cb, w.stage.va, w.va, w.size);
		igt_assert_eq(npu_run(&w.ctx, &cb), 0);
		igt_assert(!memcmp(w.stage.cpu, w.shadow, w.size));
		/* Some leave it to the kernel. */
		if (child & 1)
			npu_ctx_close(&w.ctx);
	}
	igt_waitchildren();
	npu_assert_mem_free(base, before);
	close(base);
}

/* Several processes on one file: queues, VMs and objects are shared by all. */
static void test_one_file(void)
{
	uint64_t before, seed = npu_seed();
	int base = npu_open(), fd = npu_open();

	before = npu_mem_free(base);
	igt_fork(child, 4) {
		struct npu_ctx ctx;
		struct npu_bo bo;

		npu_ctx_init(&ctx, fd);
		bo = npu_bo(&ctx, KIB(64), NPU_DEVICE, 0);
		/* DRM waits for RCU whenever a file changes hands: not too many. */
		for (unsigned int i = 0; i < npu_scale(2); i++) {
			uint64_t at = npu_random(&seed) % 512 * 8, value;

			igt_assert_eq(npu_write(&ctx, bo.va + at, npu_tag(child, i)), 0);
			igt_assert_eq(npu_read(&ctx, bo.va + at, &value), 0);
			igt_assert_eq_u64(value, npu_tag(child, i));
		}
		npu_bo_free(&ctx, &bo);
		npu_ctx_fini(&ctx);
	}
	igt_waitchildren();
	close(fd);
	npu_assert_mem_free(base, before);
	close(base);
}

/* They fight for memory; each either gets it or is told that there is none. */
static void test_scarce(void)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	igt_fork(child, 4) {
		int fd = npu_open();
		uint64_t seed = child;
		uint32_t bo[64] = {};

		for (unsigned int i = 0; i < npu_scale(60); i++) {
			unsigned int at = npu_random(&seed) % 64;
			uint64_t size = npu_round_up(before / 24 >> npu_random(&seed) % 6, PAGE);
			int ret;

			if (bo[at])
				igt_assert_eq(npu_bo_close(fd, bo[at]), 0);
			ret = npu_bo_create(fd, size, NPU_DEVICE, &bo[at]);
			igt_assert(ret == 0 || ret == -ENOSPC);
		}
		close(fd);
	}
	igt_waitchildren();
	npu_assert_mem_free(base, before);
	close(base);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("A process killed while its job waits leaves nothing behind");
	igt_subtest("killed")
		test_killed(0);

	igt_describe("A process killed with many jobs queued leaves nothing behind");
	igt_subtest("killed-queued")
		test_killed(32);

	igt_describe("Processes killed at random moments leave nothing behind");
	igt_subtest("killed-anywhere")
		test_killed_anywhere();

	igt_describe("Processes that exit with jobs queued leave nothing behind");
	igt_subtest("exit-queued")
		test_exit_queued(false);

	igt_describe("Processes that exit with jobs waiting for fences leave nothing behind");
	igt_subtest("exit-waiting")
		test_exit_queued(true);

	igt_describe("16 processes do all sorts of things at once, and check them");
	igt_subtest("many")
		test_many();

	igt_describe("Several processes share one file");
	igt_subtest("one-file")
		test_one_file();

	igt_describe("Several processes fight for device memory");
	igt_subtest("scarce")
		test_scarce();
}
