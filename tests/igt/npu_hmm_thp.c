// SPDX-License-Identifier: MIT
/* hmm-tests.c on the NPU: transparent huge pages. */

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "npu_hmm.h"

IGT_TEST_DESCRIPTION("The scenarios of hmm-tests.c: transparent huge pages");

#define THP	MIB(2)

static void migrate_all(struct svm *s, char *p, uint64_t size)
{
	svm_to_device(s, p, size);
	igt_assert_eq_u64(s->prefetch.moved, size);
	igt_assert_eq_u64(svm_swapped(p, size), size / PAGE);
}

/* Never touched, and by the CPU only to be read. */
static void test_empty(void)
{
	char *p = svm_anon(THP, SVM_HUGE);
	struct svm s;

	svm_open(&s);
	igt_assert_eq(mprotect(p, THP, PROT_READ), 0);
	migrate_all(&s, p, THP);
	igt_assert_lte_u64(THP, svm_stats(&s).made);
	svm_assert_device_bytes(&s, p, THP, 0);
	svm_assert_fault(&s, svm_poke(&s, p + PAGE, 1), p + PAGE, NPU_NOT_WRITABLE, NPU_WRITE);
	svm_assert_cpu_bytes(p, THP, 0);
	svm_free(p, THP);
	svm_close(&s);
}

/* The huge zero page. */
static void test_zero(void)
{
	char *p = svm_anon(THP, SVM_HUGE);
	struct svm s;

	svm_open(&s);
	igt_assert_eq(mprotect(p, THP, PROT_READ), 0);
	igt_assert_eq(*(volatile char *)p, 0);
	migrate_all(&s, p, THP);
	svm_assert_device_bytes(&s, p, THP, 0);
	svm_assert_cpu_bytes(p, THP, 0);

	/* It is not the zero page any more: the device may write, and nobody else sees it. */
	igt_assert_eq(mprotect(p, THP, PROT_READ | PROT_WRITE), 0);
	migrate_all(&s, p, THP);
	igt_assert_eq(svm_write(&s, p, THP, 1), 0);
	svm_assert_cpu(p, THP, 1);
	svm_free(p, THP);
	p = svm_anon(THP, SVM_HUGE);
	svm_assert_device_bytes(&s, p, THP, 0);
	svm_assert_cpu_bytes(p, THP, 0);
	svm_free(p, THP);
	svm_close(&s);
}

/* Given up while it is on the device: each page has what it had or zeros; the memory comes back. */
static void test_free(void)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);
	char *p = svm_anon(THP, SVM_HUGE);
	struct svm s;

	svm_open(&s);
	svm_put(p, THP, 1);
	migrate_all(&s, p, THP);
	svm_assert_device(&s, p, THP, 1);
	igt_assert_eq(madvise(p, THP, MADV_FREE), 0);
	for (uint64_t at = 0; at < THP; at += PAGE)
		igt_assert(svm_find_at(p + at, PAGE, 1, at) == ~0ull ||
			   svm_find_byte(p + at, PAGE, 0) == ~0ull);
	igt_assert_eq(svm_write(&s, p, THP, 2), 0);
	svm_assert_cpu(p, THP, 2);
	migrate_all(&s, p, THP);
	svm_free(p, THP);
	svm_close(&s);
	npu_assert_mem_free(base, before);
	close(base);
}

static void test_fault(void)
{
	char *p = svm_anon(THP, SVM_DEFAULT);
	struct svm s;

	svm_open(&s);
	svm_put(p, THP, 1);
	igt_assert_f(madvise(p, THP, MADV_COLLAPSE) == 0, "MADV_COLLAPSE: %m\n");
	migrate_all(&s, p, THP);
	igt_info("a huge page lies in %llu extents on the device\n",
		 (unsigned long long)svm_stats(&s).extents);
	svm_assert_device(&s, p, THP, 1);
	svm_assert_on_device(&s, p, THP);
	svm_assert_cpu(p, THP, 1);
	svm_assert_off_device(&s, p, THP);
	svm_free(p, THP);
	svm_close(&s);
}

/*
 * Lets one allocation after the other fail while memory goes to a place: the call says that there was no
 * memory, or did without it. Either way nothing is lost.
 */
static void fail_each(struct svm *s, char *p, uint64_t size, uint64_t location, uint64_t seed)
{
	const unsigned int most = npu_scale(150);
	unsigned int n, failed = 0, left = 0;

	for (n = 1; n <= most && !left; n++) {
		int ret;

		if (location == DRM_GMEM_LOCATION_HOST)
			igt_assert_eq(svm_prefetch(s, p, size, DRM_GMEM_LOCATION_DEVICE), 0);
		else
			igt_assert_eq(svm_prefetch(s, p, size, DRM_GMEM_LOCATION_HOST), 0);
		npu_fail_nth(n);
		ret = svm_prefetch(s, p, size, location);
		left = npu_fail_left();
		npu_fail_nth(0);
		igt_assert_f(ret == 0 || ret == -ENOMEM, "with allocation %u failing: %d\n", n, ret);
		failed += ret != 0;
		if (seed)
			svm_assert_device(s, p, size, seed);
		else
			svm_assert_device_bytes(s, p, size, 0);
	}
	igt_info("%u allocations to %s, %u times -ENOMEM\n", n - 2,
		 location == DRM_GMEM_LOCATION_HOST ? "the host" : "the device", failed);
	igt_assert_lt(2, n);

	/* One page, by a fault of the CPU. */
	igt_assert_eq(svm_prefetch(s, p, size, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(((volatile uint64_t *)p)[1024], seed ? svm_word(seed, 1024) : 0);
	if (seed)
		svm_assert_cpu(p, size, seed);
	else
		svm_assert_cpu_bytes(p, size, 0);
}

static void test_err(void)
{
	char *p = svm_anon(THP, SVM_HUGE);
	struct svm s;

	npu_fail_require();
	svm_open(&s);
	svm_put(p, THP, 1);
	fail_each(&s, p, THP, DRM_GMEM_LOCATION_DEVICE, 1);
	svm_free(p, THP);
	p = svm_anon(THP, SVM_HUGE);
	svm_put(p, THP, 2);
	fail_each(&s, p, THP, DRM_GMEM_LOCATION_HOST, 2);
	svm_free(p, THP);
	npu_assert_alive(&s.ctx);
	svm_close(&s);
}

static void test_zero_err(void)
{
	struct svm s;

	npu_fail_require();
	svm_open(&s);
	for (int touched = 0; touched < 2; touched++) {
		char *p = svm_anon(THP, SVM_HUGE);

		igt_assert_eq(mprotect(p, THP, PROT_READ), 0);
		if (touched)
			igt_assert_eq(*(volatile char *)p, 0);
		fail_each(&s, p, THP, touched ? DRM_GMEM_LOCATION_HOST : DRM_GMEM_LOCATION_DEVICE,
			  0);
		svm_free(p, THP);
	}
	npu_assert_alive(&s.ctx);
	svm_close(&s);
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000.0 + now.tv_nsec / 1000000.0;
}

static void test_benchmark(void)
{
	static const uint64_t sizes[] = {
		THP / 4, THP / 2, THP, 2 * THP, 4 * THP, 8 * THP, 128 * THP,
	};
	struct svm s;

	svm_open(&s);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t size = sizes[i];

		if (size + MIB(16) > npu_mem_free(s.ctx.fd)) {
			igt_info("%llu KiB: more than the device has\n",
				 (unsigned long long)size >> 10);
			continue;
		}
		for (int huge = 1; huge >= 0; huge--) {
			char *p = svm_anon(size, huge ? SVM_HUGE : SVM_SMALL);
			double to_device = 0, to_host = 0, start;

			svm_put(p, size, i);
			/* The first round only warms up. */
			for (int round = 0; round < 4; round++) {
				start = now_ms();
				igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_DEVICE), 0);
				to_device += round ? now_ms() - start : 0;
				igt_assert_eq_u64(s.prefetch.moved, size);
				svm_assert_where(&s, p, size, device);
				start = now_ms();
				igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_HOST), 0);
				to_host += round ? now_ms() - start : 0;
				igt_assert_eq_u64(s.prefetch.moved, size);
				svm_assert_where(&s, p, size, host);
			}
			svm_assert_cpu(p, size, i);
			igt_info("%6llu KiB of %s pages: %.3f ms to the device, %.3f ms to the host\n",
				 (unsigned long long)size >> 10, huge ? "huge " : "small",
				 to_device / 3, to_host / 3);
			svm_free(p, size);
		}
	}
	svm_close(&s);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		HMM_TEST("migrate_anon_huge_empty", test_empty),
		HMM_TEST("migrate_anon_huge_zero", test_zero),
		HMM_TEST("migrate_anon_huge_free", test_free),
		HMM_TEST("migrate_anon_huge_fault", test_fault),
		HMM_TEST("migrate_anon_huge_err", test_err),
		HMM_TEST("migrate_anon_huge_zero_err", test_zero_err),
		HMM_TEST("benchmark_thp_migration", test_benchmark),
	};

	igt_fixture()
		close(npu_open());

	svm_run(NULL, tests, ARRAY_LEN(tests));
}
