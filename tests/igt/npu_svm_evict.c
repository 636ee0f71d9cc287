// SPDX-License-Identifier: MIT
/* Far more memory than the device has: what leaves it for what, and that all of it is right. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Mirrored memory under permanent pressure");

static const char *const policies[] = { "lirs", "lru", "uvm", "gmem" };

static struct svm s;

/* Memory of the device. */
static uint64_t memory(void)
{
	return npu_device_info(s.ctx.fd).mem_total;
}

static int debugfs(const char *file, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/gmem_vm-%s/%s",
		 npu_device_bdf(npu_device_under_test()), file);
	fd = open(path, flags);
	igt_assert_f(fd >= 0, "%s: %m\n", path);
	return fd;
}

/* 0, or an error. */
static int set_policy(const char *name)
{
	int fd = debugfs("evict_policy", O_WRONLY), ret = 0;

	if (write(fd, name, strlen(name)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* A number of the first line of the file "memory". */
static uint64_t count(const char *name)
{
	char text[512], *at;
	int fd = debugfs("memory", O_RDONLY);
	ssize_t len = read(fd, text, sizeof(text) - 1);

	close(fd);
	igt_assert_lt(0, (int)len);
	text[len] = 0;
	at = strstr(text, name);
	igt_assert_f(at, "%s is not in: %s\n", name, text);
	return strtoull(at + strlen(name), NULL, 10);
}

static void test_policies(void)
{
	char name[32];

	for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
		int fd;
		ssize_t len;

		igt_assert_eq(set_policy(policies[i]), 0);
		fd = debugfs("evict_policy", O_RDONLY);
		len = read(fd, name, sizeof(name) - 1);
		close(fd);
		igt_assert_lt(0, (int)len);
		name[len - 1] = 0;
		igt_assert_f(!strcmp(name, policies[i]), "%s, not %s\n", name, policies[i]);
	}
	igt_assert_eq(set_policy("lirs\n"), 0);
	igt_assert_eq(set_policy("mru"), -EINVAL);
	igt_assert_eq(set_policy(""), -EINVAL);
	igt_assert_eq(set_policy("\n"), -EINVAL);
	igt_assert_eq(set_policy("a name that nothing has"), -EINVAL);
	igt_assert_eq(set_policy("\xff"), -EINVAL);
}

/* Written and read by jobs, block by block; then by the CPU. */
static void test_policy(const char *policy, uint64_t most)
{
	uint64_t size = npu_max(npu_min(16 * memory(), most), 2 * memory());
	uint64_t evictions = count("evictions="), step = MIB(1);
	char *p = svm_anon(size, SVM_DEFAULT);

	igt_assert_eq(set_policy(policy), 0);
	for (uint64_t at = 0; at < size; at += step)
		igt_assert_eq(svm_write(&s, p + at, step, at), 0);
	for (uint64_t at = 0; at < size; at += step)
		svm_assert_device(&s, p + at, step, at);
	igt_info("%llu chunks evicted, %llu blocks came back\n",
		 (unsigned long long)(count("evictions=") - evictions),
		 (unsigned long long)count("refaults="));
	igt_assert_lt_u64(evictions, count("evictions="));
	for (uint64_t at = 0; at < size; at += step)
		svm_assert_cpu(p + at, step, at);
	igt_assert_eq(set_policy("lirs"), 0);
	svm_free(p, size);
}

/* Reads memory over and over, in order; returns how many bytes came to the device. */
static uint64_t loop(char *p, uint64_t size, unsigned int rounds)
{
	uint64_t before = svm_stats(&s).to_device;

	for (unsigned int round = 0; round < rounds; round++)
		for (uint64_t at = 0; at < size; at += KIB(512))
			igt_assert_eq(svm_read(&s, p + at, KIB(512)), 0);
	return svm_stats(&s).to_device - before;
}

/* What is used in a loop and does not fit stays for the most part. */
static void test_loop(void)
{
	uint64_t size = memory() * 3 / 2, moved[2];

	for (int i = 0; i < 2; i++) {
		char *p = svm_anon(size, SVM_DEFAULT);

		igt_assert_eq(set_policy(i ? "lru" : "lirs"), 0);
		svm_put(p, size, i);
		moved[i] = loop(p, size, 6);
		svm_assert_cpu(p, size, i);
		svm_free(p, size);
	}
	igt_assert_eq(set_policy("lirs"), 0);
	igt_info("%llu KiB moved, by lru %llu KiB\n", (unsigned long long)moved[0] >> 10,
		 (unsigned long long)moved[1] >> 10);
	igt_assert_lt_u64(moved[0], moved[1]);
}

/* Writes to a file of procfs. */
static void drop_caches(void)
{
	igt_assert_eq(npu_sysfs_write("/proc/sys/vm/drop_caches", "2"), 0);
}

/* What the device only reads is not copied back; what it writes is, and as it is there. */
static void test_clean(void)
{
	const uint64_t size = memory() * 3 / 2, one = KIB(256);
	uint64_t bytes, dropped;
	char *p = svm_anon(size, SVM_DEFAULT);

	svm_put(p, size, 1);
	bytes = count("to_host=");
	dropped = count("dropped=");
	loop(p, size, 2);
	igt_assert_lt_u64(dropped, count("dropped="));
	igt_assert_eq_u64(count("to_host="), bytes);
	svm_assert_cpu(p, size, 1);

	/* Read, then written, by the device. */
	for (uint64_t at = 0; at < size; at += 4 * one) {
		igt_assert_eq(svm_read(&s, p + at, one), 0);
		igt_assert_eq(svm_write(&s, p + at, one, 7), 0);
	}
	loop(p, size, 1);
	igt_assert_lt_u64(bytes, count("to_host="));
	for (uint64_t at = 0; at < size; at += 4 * one)
		svm_assert_cpu(p + at, one, 7);

	/* Memory that the host keeps for it is given up if it is short of some. */
	svm_put(p, size, 1);
	loop(p, memory() / 2, 1);
	igt_assert_lt_u64(0, count("copies="));
	for (int i = 0; i < 100 && count("copies="); i++)
		drop_caches();
	igt_assert_eq_u64(count("copies="), 0);
	bytes = count("to_host=");
	loop(p, size, 1);
	igt_assert_lt_u64(bytes, count("to_host="));
	svm_assert_cpu(p, size, 1);

	/* Who does not keep it copies. */
	igt_assert_eq(set_policy("uvm"), 0);
	svm_put(p, size, 1);
	bytes = count("to_host=");
	dropped = count("dropped=");
	loop(p, size, 2);
	igt_assert_eq_u64(count("dropped="), dropped);
	igt_assert_lt_u64(bytes, count("to_host="));
	svm_assert_cpu(p, size, 1);
	igt_assert_eq(set_policy("lirs"), 0);
	svm_free(p, size);
}

/* Memory that was used once makes room for what is used again and again, also if it was there first. */
static void test_phases(void)
{
	const uint64_t size = memory() * 2, part = memory() / 2;
	char *p = svm_anon(size, SVM_DEFAULT), *q = svm_anon(part, SVM_DEFAULT);

	for (size_t i = 0; i < 2; i++) {
		igt_assert_eq(set_policy(policies[i]), 0);
		svm_put(p, size, 1);
		svm_put(q, part, 2);
		loop(p, size, 1);
		/* At the latest the third time all of it stays. */
		loop(q, part, 3);
		igt_assert_eq_u64(loop(q, part, 3), 0);
		svm_assert_device(&s, q, part, 2);
	}
	igt_assert_eq(set_policy("lirs"), 0);
	svm_free(p, size);
	svm_free(q, part);
}

/* What was advised to go first does, and what was advised to go last stays. */
static void test_priority(void)
{
	uint64_t size = memory() / 4 / KIB(512) * KIB(512);
	char *first = svm_anon(size, SVM_DEFAULT), *last = svm_anon(size, SVM_DEFAULT);
	char *other = svm_anon(2 * size, SVM_DEFAULT);

	igt_assert_eq(svm_advise(&s, first, size, DRM_GMEM_ATTR_EVICTION_PRIORITY, 1), 0);
	igt_assert_eq(svm_advise(&s, last, size, DRM_GMEM_ATTR_EVICTION_PRIORITY, 2), 0);
	igt_assert_eq(svm_write(&s, last, size, 1), 0);
	igt_assert_eq(svm_write(&s, first, size, 2), 0);
	igt_assert_eq_u64(svm_where(&s, last, size).device, size);
	for (uint64_t at = 0; at < 2 * size; at += KIB(512))
		igt_assert_eq(svm_write(&s, other + at, KIB(512), at), 0);
	igt_assert_lt_u64(svm_where(&s, first, size).device, size);
	igt_assert_eq_u64(svm_where(&s, last, size).device, size);
	svm_assert_cpu(first, size, 2);
	svm_assert_cpu(last, size, 1);
	svm_free(first, size);
	svm_free(last, size);
	svm_free(other, 2 * size);
}

/* A prefetch of more than there is room for brings what fits, and does not evict what it brought. */
static void test_prefetch(void)
{
	uint64_t size = 2 * memory();
	char *p = svm_anon(size, SVM_DEFAULT);

	for (uint64_t at = 0; at < size; at += MIB(1))
		svm_put(p + at, MIB(1), 1);
	igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(s.prefetch.mapped, size);
	igt_assert_lt_u64(memory() / 2, s.prefetch.moved);
	igt_assert_eq(svm_prefetch(&s, p + size / 2, size / 2, DRM_GMEM_LOCATION_DEVICE), 0);
	for (uint64_t at = 0; at < size; at += MIB(1))
		svm_assert_device(&s, p + at, MIB(1), 1);
	svm_free(p, size);
}

/* Uses more memory than there is, until it is told to end; returns whether all was right. */
static bool churn(uint64_t size, volatile uint32_t *go, unsigned int rounds)
{
	struct svm own;
	char *p;

	svm_open(&own);
	p = svm_anon(size, SVM_DEFAULT);
	*go = 1;
	for (unsigned int round = 0; round < rounds; round++) {
		for (uint64_t at = 0; at < size; at += KIB(512))
			igt_assert_eq(svm_write(&own, p + at, KIB(512), round + at), 0);
		for (uint64_t at = 0; at < size; at += KIB(512))
			svm_assert_device(&own, p + at, KIB(512), round + at);
	}
	svm_free(p, size);
	svm_close(&own);
	return true;
}

/* What has left the device goes on to the swap disk, and comes back from there. */
static void test_swap(void)
{
	char path[320];

	svm_group_make();
	svm_swap_on(path, sizeof(path));
	igt_fork(child, 1) {
		uint64_t size = MIB(24), step = KIB(512);
		struct svm own;
		char *p;

		svm_group_join();
		svm_open(&own);
		p = svm_anon(size, SVM_DEFAULT);
		for (int round = 0; round < 2; round++) {
			uint64_t swapped;

			for (uint64_t at = 0; at < size; at += step)
				igt_assert_eq(svm_write(&own, p + at, step, at + round), 0);
			swapped = svm_group_swap_out(size / 2);
			igt_info("%llu KiB swapped out\n", (unsigned long long)swapped >> 10);
			igt_assert_lte_u64(size / 2, swapped);
			for (uint64_t at = 0; at < size; at += step)
				svm_assert_device(&own, p + at, step, at + round);
			svm_group_swap_out(size / 2);
			for (uint64_t at = 0; at < size; at += step)
				svm_assert_cpu(p + at, step, at + round);
		}
		svm_free(p, size);
		svm_close(&own);
	}
	igt_waitchildren();
	igt_assert_eq(swapoff(path), 0);
}

/* Each needs more than all of it. */
static void test_two_processes(void)
{
	uint64_t size = memory() + memory() / 4;
	volatile uint32_t *flags = svm_flags();

	igt_fork(child, 2)
		churn(size, &flags[child], 2);
	igt_waitchildren();
	svm_flags_free(flags);
}

/* Killed in the middle of it, it is gone, and so is what it had. */
static void test_killed(void)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base), seed = npu_seed();

	for (int i = 0; i < 4; i++) {
		volatile uint32_t *flags = svm_flags();
		pid_t child = fork();

		igt_assert(child >= 0);
		if (child == 0) {
			churn(2 * memory(), flags, ~0u);
			_exit(0);
		}
		svm_await(&flags[0], 1);
		usleep(npu_random(&seed) % 1000000);
		igt_assert_eq(kill(child, SIGKILL), 0);
		igt_assert_eq(waitpid(child, NULL, 0), child);
		svm_flags_free(flags);
	}
	npu_assert_mem_free(base, before);
	close(base);
}

/* Faults and refaults of a range, and the parts of it that have last left the device for some reason. */
static struct drm_gmem_range told(const char *p, uint64_t size, uint32_t why)
{
	struct drm_gmem_range sum = {}, ranges[256];
	unsigned int count = npu_ranges(&s.ctx, svm_va(p), size, ranges, ARRAY_LEN(ranges));

	for (unsigned int i = 0; i < count; i++) {
		sum.faults += ranges[i].faults;
		sum.refaults += ranges[i].refaults;
		if (ranges[i].evicted == why)
			sum.size += ranges[i].size;
		igt_assert_eq_u32(ranges[i].pad2, 0);
	}
	return sum;
}

static void touch_all(const char *p, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += KIB(64))
		igt_assert_eq(svm_read(&s, p + at, KIB(64)), 0);
}

/* What has become of memory, and why it was evicted last. */
static void test_told(void)
{
	const uint64_t size = memory() / 4, all = 2 * memory();
	char *p = svm_anon(size + KIB(64), SVM_SMALL), *q = svm_anon(all, SVM_DEFAULT);
	char *start = (char *)npu_round_up(svm_va(p), KIB(64));
	uint64_t faults, refaults;
	uint32_t bo[64];
	unsigned int bos = 0;

	igt_assert_eq_u64(told(start, size, DRM_GMEM_EVICTED_NEVER).size, size);
	igt_assert_eq_u64(told(start, size, 0).faults, 0);
	svm_put(start, size, 1);
	touch_all(start, size);
	faults = told(start, size, 0).faults;
	igt_assert_lt_u64(0, faults);
	igt_assert_lte_u64(faults, svm_stats(&s).faults);
	igt_assert_eq_u64(told(start, size, 0).refaults, 0);
	igt_assert_eq_u64(told(start, size, DRM_GMEM_EVICTED_NEVER).size, size);

	/* Others need room; then it comes back. */
	touch_all(q, all);
	touch_all(q, all);
	igt_assert_lt_u64(0, told(start, size, DRM_GMEM_EVICTED_MEMORY).size);
	touch_all(start, size);
	igt_assert_lt_u64(0, told(start, size, 0).refaults);
	igt_assert_lt_u64(faults, told(start, size, 0).faults);
	svm_free(q, all);

	svm_to_device(&s, start, size);
	refaults = told(start, size, 0).refaults;
	svm_assert_cpu(start, size, 1);
	igt_assert_eq_u64(told(start, size, DRM_GMEM_EVICTED_CPU).size, size);
	svm_to_device(&s, start, size);
	svm_to_host(&s, start, size);
	igt_assert_eq_u64(told(start, size, DRM_GMEM_EVICTED_ADVICE).size, size);
	/* Neither is the evictor's doing. */
	svm_to_device(&s, start, size);
	igt_assert_eq_u64(told(start, size, 0).refaults, refaults);

	while (bos < ARRAY_LEN(bo) &&
	       !npu_bo_create(s.ctx.fd, memory() / 16, NPU_DEVICE, &bo[bos]))
		bos++;
	igt_assert_lt_u64(0, told(start, size, DRM_GMEM_EVICTED_OBJECT).size);
	while (bos)
		igt_assert_eq(npu_bo_close(s.ctx.fd, bo[--bos]), 0);

	/* An object has nothing of that. */
	igt_assert_eq_u64(npu_range_at(&s.ctx, s.stage.va).faults, 0);
	igt_assert_eq_u32(npu_range_at(&s.ctx, s.stage.va).evicted, 0);
	svm_free(p, size + KIB(64));
}

int igt_main()
{
	static const struct svm_test tests[] = {
		{ "policies", "Policies by name", test_policies },
		{ "loop", "Memory that is used in a loop", test_loop },
		{ "phases", "Memory that is used again after other memory was", test_phases },
		{ "clean", "Memory that the device only reads", test_clean },
		{ "priority", "What was advised of eviction", test_priority },
		{ "prefetch", "A prefetch of more than fits", test_prefetch },
		{ "swap", "What has left the device is swapped out", test_swap },
		{ "told", "What has become of memory, and why", test_told },
		{ "two-processes", "Two processes that need all of it", test_two_processes },
		{ "killed", "Processes killed under pressure", test_killed },
	};

	igt_fixture() {
		struct svm warm;

		close(npu_open());
		/* The evictor is there once something was mirrored. */
		svm_open(&warm);
		svm_close(&warm);
	}

	svm_run(&s, tests, ARRAY_LEN(tests));

	igt_describe("Far more memory than there is, by each policy");
	igt_subtest_with_dynamic("policy") {
		for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
			igt_dynamic(policies[i]) {
				svm_open(&s);
				test_policy(policies[i], i ? MIB(16) : MIB(64));
				svm_close(&s);
			}
		}
	}
}
