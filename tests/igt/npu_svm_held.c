// SPDX-License-Identifier: MIT
/* A device that cannot fault: memory is held for jobs that say what they touch. */

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Mirrors on a device that cannot fault");

#define SIZE	MIB(1)
#define ROUNDS	20

static struct npu_ctx ctx;

static int submit(struct npu_cb *cb, const void *p, uint64_t size, uint32_t syncobj)
{
	struct drm_npu_range range = { .va = svm_va(p), .size = size };
	struct drm_gmem_sync sync = npu_signal(syncobj);
	struct drm_npu_submit arg = {
		.queue_id = ctx.queue, .vm_id = ctx.vm, .commands = cb->va, .size = npu_cb_size(cb),
		.num_syncs = 1, .syncs = (uintptr_t)&sync,
		.num_ranges = size ? 1 : 0, .ranges = size ? (uintptr_t)&range : 0,
	};
	int ret;

	__sync_synchronize();
	ret = npu_ioctl(ctx.fd, DRM_IOCTL_NPU_SUBMIT, &arg);
	if (ret == 0) {
		ctx.seqno++;
		ctx.cmds_at += npu_round_up(npu_cb_size(cb), 64);
	}
	return ret;
}

static struct npu_cb fill(const void *p, uint32_t pattern)
{
	struct npu_cb cb = npu_begin(&ctx);

	npu_cmd_fill(&cb, svm_va(p), SIZE, pattern);
	return cb;
}

static void assert_words(const uint32_t *p, uint32_t pattern)
{
	for (uint64_t i = 0; i < SIZE / 4; i++)
		igt_assert_f(p[i] == pattern, "word %llu is %#x, not %#x\n",
			     (unsigned long long)i, p[i], pattern);
}

/* What is named is there, wherever its pages are; what isn't, is not. */
static void test_named(void)
{
	uint32_t syncobj = npu_syncobj(ctx.fd, 0);
	char *p = svm_anon(SIZE, SVM_SMALL), *q = svm_anon(SIZE, SVM_SMALL);

	for (uint32_t round = 1; round < 8; round++) {
		struct npu_cb cb = fill(p, round);

		igt_assert_eq(submit(&cb, p, SIZE, syncobj), 0);
		igt_assert_eq(npu_fence_result(ctx.fd, syncobj), 0);
		assert_words((uint32_t *)p, round);
	}
	{
		struct npu_cb cb = fill(q, 9);

		igt_assert_eq(submit(&cb, p, SIZE, syncobj), 0);
		igt_assert_eq(npu_fence_result(ctx.fd, syncobj), -EFAULT);
		assert_words((uint32_t *)q, 0);
	}
	svm_free(p, SIZE);
	svm_free(q, SIZE);
	npu_syncobj_destroy(ctx.fd, syncobj);
}

/* Who gives memory up waits for the job that needs it. */
static void test_given_up(void)
{
	uint32_t syncobj = npu_syncobj(ctx.fd, 0);
	char *p = svm_anon(SIZE, SVM_SMALL);

	for (uint32_t round = 1; round <= ROUNDS; round++) {
		struct npu_cb cb = fill(p, round);

		igt_assert_eq(submit(&cb, p, SIZE, syncobj), 0);
		igt_assert_eq(madvise(p, SIZE, MADV_DONTNEED), 0);
		igt_assert_eq(npu_syncobj_poll(ctx.fd, syncobj), 0);
		igt_assert_eq(npu_fence_result(ctx.fd, syncobj), 0);
		assert_words((uint32_t *)p, 0);
	}
	svm_free(p, SIZE);
	npu_syncobj_destroy(ctx.fd, syncobj);
}

/* A job that waits for others has its memory all the while, or gets it again. */
static volatile bool stop;

static void *disturb(void *p)
{
	while (!stop) {
		/* Forks leave it write-protected; reading it brings it back from the device. */
		pid_t child = fork();

		if (child == 0)
			_exit(*(volatile char *)p & 0);
		igt_assert(child > 0);
		igt_assert_eq(waitpid(child, NULL, 0), child);
	}
	return NULL;
}

static void *advise_on(void *p)
{
	while (!stop) {
		/* Nothing changes, but what is mapped goes. */
		const struct drm_gmem_attr attr = { .kind = DRM_GMEM_ATTR_EXEC };

		igt_assert_eq(npu_advise(ctx.fd, ctx.vm, svm_va(p), SIZE, 0, &attr, 1), 0);
		/* Whoever does nothing else lets nobody submit: -EBUSY. */
		usleep(5000);
	}
	return NULL;
}

/* Runs jobs while a thread does something to their memory, and looks at what every so many have done. */
static void jobs_beside(void *(*body)(void *), uint32_t every)
{
	uint32_t syncobj = npu_syncobj(ctx.fd, 0);
	char *p = svm_anon(SIZE, SVM_SMALL);
	pthread_t thread;

	memset(p, 1, SIZE);
	stop = false;
	igt_assert_eq(pthread_create(&thread, NULL, body, p), 0);
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		struct npu_cb cb = fill(p, round);
		int ret;

		do
			ret = submit(&cb, p, SIZE, syncobj);
		while (ret == -EBUSY);
		igt_assert_eq(ret, 0);
		if (round % every)
			continue;
		igt_assert_eq(npu_fence_result(ctx.fd, syncobj), 0);
		assert_words((uint32_t *)p, round);
	}
	stop = true;
	pthread_join(thread, NULL);
	svm_free(p, SIZE);
	npu_syncobj_destroy(ctx.fd, syncobj);
}

static void test_disturbed(void)
{
	jobs_beside(disturb, 1);
}

/* Far more jobs than may hold memory at a time: who submits them waits. */
static void test_many(void)
{
	uint32_t syncobj = npu_syncobj(ctx.fd, 0);
	char *p = svm_anon(SIZE, SVM_SMALL);

	for (uint32_t round = 1; round <= 100; round++) {
		struct npu_cb cb = fill(p, round);

		igt_assert_eq(submit(&cb, p, SIZE, syncobj), 0);
	}
	/* Jobs of a queue end in order. */
	igt_assert_eq(npu_fence_result(ctx.fd, syncobj), 0);
	assert_words((uint32_t *)p, 100);
	svm_free(p, SIZE);
	npu_syncobj_destroy(ctx.fd, syncobj);
}

/* Jobs that need the same memory are queued one behind the other: submitting waits for none of them. */
static bool try_behind(void *arg)
{
	uint32_t syncobj = npu_syncobj(ctx.fd, 0);
	struct npu_blocker blocker;
	char *p = arg;
	int result;

	npu_block(&ctx, ctx.queue, &blocker);
	for (uint32_t job = 1; job <= 15; job++) {
		struct npu_cb cb = fill(p, job);

		igt_assert_eq(submit(&cb, p, SIZE, syncobj), 0);
	}
	result = npu_unblock(&ctx, &blocker);
	igt_assert_eq(npu_fence_result(ctx.fd, syncobj), 0);
	assert_words((uint32_t *)p, 15);
	npu_syncobj_destroy(ctx.fd, syncobj);
	return !result;
}

static void test_behind(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);

	/* It is brought in by the first, and for the others it is there. */
	npu_retry(try_behind, p);
	npu_retry(try_behind, p);
	svm_free(p, SIZE);
}

/* What lies beside it may not be written; that is for nobody to suffer from. */
static void test_beside(void)
{
	uint32_t syncobj = npu_syncobj(ctx.fd, 0);
	char *p = svm_anon(2 * SIZE, SVM_SMALL);
	struct npu_cb cb = fill(p + SIZE, 5);

	/* Only read so far, so that a write would have to make pages. */
	assert_words((uint32_t *)(p + SIZE), 0);
	igt_assert_eq(mprotect(p, SIZE, PROT_READ), 0);
	igt_assert_eq(submit(&cb, p, 2 * SIZE, syncobj), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, syncobj), 0);
	assert_words((uint32_t *)(p + SIZE), 5);
	assert_words((uint32_t *)p, 0);
	cb = fill(p, 6);
	igt_assert_eq(submit(&cb, p, 2 * SIZE, syncobj), 0);
	igt_assert_eq(npu_fence_result(ctx.fd, syncobj), -EFAULT);
	assert_words((uint32_t *)p, 0);
	svm_free(p, 2 * SIZE);
	npu_syncobj_destroy(ctx.fd, syncobj);
}

/* Ranges are for mirrors: what else they name, or too much of it. */
static void test_ranges(void)
{
	enum { PARTS = 8, COPIES = 1024 };
	static struct drm_npu_range ranges[COPIES];
	struct npu_ctx other;
	struct drm_npu_submit arg = { .num_ranges = 1, .ranges = (uintptr_t)ranges };
	char *p = svm_anon(2 * PARTS * PAGE, SVM_SMALL);
	uint64_t va = SVM_END + MIB(64);
	struct npu_cb cb;

	/* A VM that mirrors nothing. */
	npu_ctx_open(&other);
	cb = npu_begin(&other);
	npu_cmd_nop(&cb);
	arg.queue_id = other.queue;
	arg.vm_id = other.vm;
	arg.commands = cb.va;
	arg.size = npu_cb_size(&cb);
	ranges[0] = (struct drm_npu_range) { .va = svm_va(p), .size = PAGE };
	__sync_synchronize();
	igt_assert_eq(npu_ioctl(other.fd, DRM_IOCTL_NPU_SUBMIT, &arg), 0);

	/* Every second page, over and over. */
	memset(p, 1, 2 * PARTS * PAGE);
	for (int i = 0; i < PARTS; i++)
		igt_assert_eq(npu_mirror(other.fd, other.vm, va + 2 * i * PAGE, p + 2 * i * PAGE,
					 PAGE, 0), 0);
	for (int i = 0; i < COPIES; i++)
		ranges[i] = (struct drm_npu_range) { .va = va, .size = 2 * PARTS * PAGE };
	arg.num_ranges = COPIES;
	igt_assert_eq(npu_ioctl(other.fd, DRM_IOCTL_NPU_SUBMIT, &arg), -E2BIG);
	arg.num_ranges = COPIES / 2;
	igt_assert_eq(npu_ioctl(other.fd, DRM_IOCTL_NPU_SUBMIT, &arg), 0);
	npu_ctx_close(&other);
	svm_free(p, 2 * PARTS * PAGE);
}

/* Advice that takes memory out of the page table waits for jobs that need it, and for no others. */
static void test_advised(void)
{
	jobs_beside(advise_on, 4);
}

static void test_errors(void)
{
	uint32_t syncobj = npu_syncobj(ctx.fd, 0);
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct npu_cb cb = fill(p, 1);

	igt_assert_eq(submit(&cb, p + 8, SIZE, syncobj), -EINVAL);
	igt_assert_eq(submit(&cb, p, SIZE + 8, syncobj), -EINVAL);
	igt_assert_eq(submit(&cb, (void *)(1ull << 48), PAGE, syncobj), -ERANGE);
	igt_assert_eq(munmap(p + SIZE / 2, PAGE), 0);
	igt_assert_eq(submit(&cb, p, SIZE, syncobj), -EFAULT);
	igt_assert_eq(munmap(p, SIZE / 2), 0);
	igt_assert_eq(munmap(p + SIZE / 2 + PAGE, SIZE / 2 - PAGE), 0);
	npu_assert_alive(&ctx);
	npu_syncobj_destroy(ctx.fd, syncobj);
}

int igt_main()
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {
		{ "named", test_named },
		{ "given-up", test_given_up },
		{ "disturbed", test_disturbed },
		{ "many", test_many },
		{ "behind", test_behind },
		{ "beside", test_beside },
		{ "ranges", test_ranges },
		{ "advised", test_advised },
		{ "errors", test_errors },
	};

	igt_fixture() {
		npu_ctx_open(&ctx);
		igt_require_f(!(npu_device_info(ctx.fd).caps & DRM_GMEM_CAP_FAULTS),
			      "the device can fault\n");
		/* All that a program has, but for the buffers of the test. */
		igt_assert_eq(npu_mirror(ctx.fd, ctx.vm, SVM_START, (void *)SVM_START,
					 SVM_END - SVM_START, 0), 0);
	}
	for (unsigned int i = 0; i < ARRAY_LEN(tests); i++) {
		igt_describe_f("held memory: %s", tests[i].name);
		igt_subtest(tests[i].name)
			tests[i].run();
	}
	igt_fixture()
		npu_ctx_close(&ctx);
}
