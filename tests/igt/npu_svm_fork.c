// SPDX-License-Identifier: MIT
/* Processes that part: each goes on with its own copy, whoever writes first. */

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Mirrored memory and fork");

#define SIZE	MIB(2)

enum writer { PARENT_CPU, PARENT_DEVICE, CHILD_CPU, CHILD_DEVICE, WRITERS };

static const char *const writers[WRITERS] = {
	"parent-cpu", "parent-device", "child-cpu", "child-device",
};

static void put(struct svm *s, char *p, bool device, uint64_t seed)
{
	if (device)
		igt_assert_eq(svm_write(s, p, SIZE, seed), 0);
	else
		svm_put(p, SIZE, seed);
}

/* By device and CPU, in either order. */
static void check(struct svm *s, char *p, bool device_first, uint64_t seed)
{
	for (int i = 0; i < 2; i++) {
		if (device_first == (i == 0))
			svm_assert_device(s, p, SIZE, seed);
		else
			svm_assert_cpu(p, SIZE, seed);
	}
}

/* One of them writes first, while the other looks on; then the other writes. */
static void cow_once(enum writer writer, unsigned int variant)
{
	bool migrated = variant & 1, device_first = variant & 2, huge = variant & 4;
	char *p = svm_anon(SIZE, huge ? SVM_HUGE : SVM_SMALL);
	bool childs = writer >= CHILD_CPU, device = writer & 1;
	volatile uint32_t *step = svm_flags();
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	if (migrated)
		svm_to_device(&s, p, SIZE);
	else
		svm_to_host(&s, p, SIZE);
	igt_fork(child, 1) {
		struct svm mine;

		svm_open(&mine);
		svm_await(step, 1);
		if (childs)
			put(&mine, p, device, 2);
		*step = 2;
		svm_await(step, 3);
		check(&mine, p, device_first, childs ? 2 : 1);
		put(&mine, p, !device, 3);
		*step = 4;
		svm_await(step, 5);
		check(&mine, p, !device_first, 3);
		svm_close(&mine);
	}
	*step = 1;
	svm_await(step, 2);
	if (!childs)
		put(&s, p, device, 2);
	check(&s, p, device_first, childs ? 1 : 2);
	*step = 3;
	svm_await(step, 4);
	check(&s, p, !device_first, childs ? 1 : 2);
	put(&s, p, device, 4);
	*step = 5;
	igt_waitchildren();
	check(&s, p, device_first, 4);
	svm_flags_free(step);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* What the child does first with a page that's on the device is to read it. */
static void test_child_reads(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	svm_to_device(&s, p, SIZE);
	igt_fork(child, 3) {
		/* From both ends, and from all of them at once. */
		for (uint64_t i = 0; i < SIZE / 8; i++) {
			uint64_t w = child & 1 ? SIZE / 8 - 1 - i : i;

			igt_assert_eq_u64(((volatile uint64_t *)p)[w], svm_word(1, w));
		}
	}
	svm_assert_device(&s, p, SIZE, 1);
	igt_waitchildren();
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* Grandchildren: what is shared by many, and given up by one after the other. */
static void test_generations(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	svm_to_device(&s, p, SIZE);
	igt_fork(child, 1) {
		struct svm mine;
		pid_t pid;

		svm_open(&mine);
		igt_assert_eq(svm_write(&mine, p, SIZE / 2, 2), 0);
		pid = svm_fork();
		if (!pid) {
			/* Half of the parent's, half of the grandparent's. */
			bool right = svm_find(p, SIZE / 2, 2) == ~0ull &&
				     svm_find_at(p + SIZE / 2, SIZE / 2, 1, SIZE / 2) == ~0ull;

			svm_put(p, SIZE, 3);
			_exit(right && svm_find(p, SIZE, 3) == ~0ull ? 0 : 1);
		}
		igt_assert_eq(svm_write(&mine, p + SIZE / 2, SIZE / 2, 4), 0);
		svm_assert_child(pid, 0);
		svm_assert_cpu(p, SIZE / 2, 2);
		svm_assert_cpu(p + SIZE / 2, SIZE / 2, 4);
		svm_close(&mine);
	}
	igt_waitchildren();
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* MADV_DONTFORK and MADV_WIPEONFORK. */
static void test_advised(void)
{
	char *gone = svm_anon(SIZE, SVM_DEFAULT), *wiped = svm_anon(SIZE, SVM_DEFAULT);
	struct svm s;

	svm_open(&s);
	svm_put(gone, SIZE, 1);
	svm_put(wiped, SIZE, 2);
	igt_assert_eq(madvise(gone, SIZE, MADV_DONTFORK), 0);
	igt_assert_eq(madvise(wiped, SIZE, MADV_WIPEONFORK), 0);
	svm_to_device(&s, gone, SIZE);
	svm_to_device(&s, wiped, SIZE);
	igt_fork(child, 1) {
		struct svm mine;

		svm_open(&mine);
		svm_assert_fault(&mine, svm_touch(&mine, gone), gone, NPU_NOT_MAPPED, NPU_READ);
		svm_assert_device_bytes(&mine, wiped, SIZE, 0);
		igt_assert_eq(svm_write(&mine, wiped, SIZE, 3), 0);
		svm_assert_cpu(wiped, SIZE, 3);
		svm_close(&mine);
	}
	igt_waitchildren();
	svm_assert_on_device(&s, gone, SIZE);
	svm_assert_device(&s, gone, SIZE, 1);
	svm_assert_device(&s, wiped, SIZE, 2);
	svm_assert_cpu(gone, SIZE, 1);
	svm_assert_cpu(wiped, SIZE, 2);
	svm_free(gone, SIZE);
	svm_free(wiped, SIZE);
	svm_close(&s);
}

/* Forks while the device writes: a child sees each word as it once was, and the parent the last. */
static void test_while_writing(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct svm s;

	svm_open(&s);
	memset(p, 0, SIZE);
	for (unsigned int round = 1; round <= npu_scale(12); round++) {
		struct drm_gmem_sync sync = npu_signal(s.ctx.syncobj);
		struct npu_cell cell = npu_cell(&s.ctx, 0);
		struct npu_cb cb = npu_begin(&s.ctx);
		pid_t pid;

		npu_cmd_write(&cb, cell.va, 1);
		for (int i = 0; i < 4; i++)
			npu_cmd_fill(&cb, svm_va(p) + i * SIZE / 4, SIZE / 4, round);
		igt_assert_eq(npu_submit(&s.ctx, &cb, s.ctx.queue, &sync, 1), 0);
		for (int ms = 0; !*cell.cpu && ms < 60000; ms++)
			usleep(1000);
		pid = svm_fork();
		if (!pid) {
			/* Words of this round and of the one before, and no others; they do not change. */
			static uint32_t seen[SIZE / 4];
			volatile uint32_t *words = (uint32_t *)p;
			int bad = 0;

			for (uint64_t i = 0; i < SIZE / 4; i++) {
				seen[i] = words[i];
				bad |= seen[i] != round && seen[i] != round - 1;
			}
			for (uint64_t i = 0; i < SIZE / 4; i++)
				bad |= seen[i] != words[i];
			_exit(bad);
		}
		igt_assert_eq(npu_fence_result(s.ctx.fd, s.ctx.syncobj), 0);
		svm_assert_child(pid, 0);
		for (uint64_t i = 0; i < SIZE / 4; i++)
			igt_assert_eq_u32(((volatile uint32_t *)p)[i], round);
	}
	svm_free(p, SIZE);
	svm_close(&s);
}

/* vfork: the child is on the parent's memory. */
static void test_vfork(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct svm s;
	pid_t pid;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	svm_to_device(&s, p, SIZE);
	fflush(NULL);
	pid = vfork();
	if (!pid)
		_exit(((volatile uint64_t *)p)[77] == svm_word(1, 77) ? 5 : 6);
	igt_assert_lt(0, pid);
	svm_assert_child(pid, 5);
	svm_assert_device(&s, p, SIZE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* Many processes on the memory that one left them, all with jobs. */
static void test_many(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	int base = npu_open();
	uint64_t before = npu_mem_free(base);
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	svm_to_device(&s, p, SIZE);
	igt_fork(child, 6) {
		struct svm mine;

		svm_open(&mine);
		svm_assert_device(&mine, p, SIZE, 1);
		for (unsigned int i = 0; i < npu_scale(4); i++) {
			put(&mine, p, (child + i) & 1, 100 * child + i);
			check(&mine, p, i & 2, 100 * child + i);
		}
		/* Some leave it to the kernel. */
		if (child & 1)
			svm_close(&mine);
	}
	igt_waitchildren();
	check(&s, p, true, 1);
	svm_free(p, SIZE);
	svm_close(&s);
	npu_assert_mem_free(base, before);
	close(base);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		{ "child-reads", "Children read what is on the device", test_child_reads },
		{ "generations", "A child's child", test_generations },
		{ "advised", "MADV_DONTFORK and MADV_WIPEONFORK", test_advised },
		{ "while-writing", "Forks while the device writes", test_while_writing },
		{ "vfork", "A child on its parent's memory", test_vfork },
		{ "many", "Many children with jobs of their own", test_many },
	};

	igt_fixture()
		close(npu_open());

	igt_describe("Who writes first after a fork gets a copy of its own");
	igt_subtest_with_dynamic("cow") {
		for (enum writer writer = 0; writer < WRITERS; writer++)
			igt_dynamic(writers[writer])
				for (unsigned int variant = 0; variant < 8; variant++)
					cow_once(writer, variant);
	}

	svm_run(NULL, tests, ARRAY_LEN(tests));
}
