// SPDX-License-Identifier: MIT
/* Too little device memory: what does not fit stays in the host, and jobs work all the same. */

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Mirrored memory and a full device");

#define SIZE	MIB(4)
#define MOST	256

static struct svm s;
static uint32_t ballast[MOST];
static unsigned int ballasts;

/* Takes device memory until so much is left. */
static void leave(uint64_t rest)
{
	for (uint64_t size = MIB(32); size >= KIB(64); size /= 2) {
		while (ballasts < MOST && npu_mem_free(s.ctx.fd) >= rest + size) {
			if (npu_bo_create(s.ctx.fd, size, NPU_PINNED, &ballast[ballasts]))
				break;
			ballasts++;
		}
	}
	igt_info("%llu KiB of device memory are left\n",
		 (unsigned long long)npu_mem_free(s.ctx.fd) >> 10);
}

/* Gives back so many pieces of 2 MiB, all else being taken by smaller ones or not at all. */
static void leave_pieces(unsigned int pieces)
{
	uint32_t piece[8];

	igt_assert(pieces <= ARRAY_LEN(piece));
	for (unsigned int i = 0; i < pieces; i++)
		igt_assert_eq(npu_bo_create(s.ctx.fd, MIB(2), NPU_PINNED, &piece[i]), 0);
	leave(0);
	for (unsigned int i = 0; i < pieces; i++)
		igt_assert_eq(npu_bo_close(s.ctx.fd, piece[i]), 0);
}

static void give_back(void)
{
	while (ballasts)
		igt_assert_eq(npu_bo_close(s.ctx.fd, ballast[--ballasts]), 0);
}

/* Nothing fits: everything is used where it is. */
static void test_full(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL), *q;
	uint64_t stayed;

	/* Page tables are made first: they need device memory, too. */
	svm_put(p, SIZE, 1);
	svm_to_host(&s, p, SIZE);
	leave(0);
	stayed = svm_stats(&s).stayed;
	igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(s.prefetch.mapped, SIZE);
	igt_assert_lt_u64(s.prefetch.moved, SIZE);
	igt_assert_lt_u64(stayed, svm_stats(&s).stayed);
	svm_assert_device(&s, p, SIZE, 1);
	igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
	igt_assert_lt_u64(0, svm_where(&s, p, SIZE).host);
	igt_assert_eq_u64(svm_where(&s, p, SIZE).nowhere, 0);
	svm_assert_cpu(p, SIZE, 2);

	/* Never touched. */
	igt_assert_eq(madvise(p, SIZE, MADV_DONTNEED), 0);
	svm_assert_device_bytes(&s, p, SIZE, 0);
	igt_assert_eq(svm_write(&s, p, SIZE, 3), 0);
	svm_assert_cpu(p, SIZE, 3);

	/* Once there is room it comes. */
	give_back();
	svm_to_device(&s, p, SIZE);
	svm_assert_device(&s, p, SIZE, 3);
	q = svm_anon(SIZE, SVM_SMALL);
	svm_put(q, SIZE, 4);
	svm_assert_device(&s, q, SIZE, 4);
	svm_assert_on_device(&s, q, SIZE);
	svm_free(q, SIZE);
	svm_free(p, SIZE);
}

/* A part fits. */
static void test_partly(void)
{
	for (int huge = 0; huge < 2; huge++) {
		const uint64_t size = MIB(8);
		char *p = svm_anon(size, huge ? SVM_HUGE : SVM_SMALL);
		struct svm_where where;

		svm_put(p, size, huge);
		svm_to_host(&s, p, size);
		leave_pieces(2);
		svm_assert_device(&s, p, size, huge);
		igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_DEVICE), 0);
		where = svm_where(&s, p, size);
		igt_info("%llu KiB on the device, %llu KiB in the host\n",
			 (unsigned long long)where.device >> 10, (unsigned long long)where.host >> 10);
		igt_assert_eq_u64(where.nowhere, 0);
		igt_assert_lt_u64(0, where.host);
		igt_assert_lt_u64(0, where.device);
		igt_assert_eq(svm_write(&s, p, size, 10 + huge), 0);
		svm_assert_device(&s, p, size, 10 + huge);
		svm_assert_cpu(p, size, 10 + huge);
		give_back();
		svm_free(p, size);
	}
}

/* What has no room for its page table has no way to be used: an error for the job, not for others. */
static void test_no_tables(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	uint32_t page[MOST];
	unsigned int pages = 0;
	int result;

	svm_put(p, SIZE, 1);
	leave(0);
	while (pages < MOST && !npu_bo_create(s.ctx.fd, PAGE, NPU_PINNED, &page[pages]))
		pages++;
	result = svm_touch(&s, p + MIB(1));
	igt_info("without memory for page tables a job ends with %d\n", result);
	igt_assert(result == 0 || result == -EFAULT);
	if (!result)
		igt_assert_eq(*(uint8_t *)s.stage.cpu, *(volatile uint8_t *)(p + MIB(1)));
	npu_assert_alive(&s.ctx);
	while (pages)
		igt_assert_eq(npu_bo_close(s.ctx.fd, page[--pages]), 0);
	give_back();
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_on_device(&s, p, SIZE);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, SIZE);
}

/* More memory than the device has is used by one job after the other. */
static void test_more_than_there_is(void)
{
	uint64_t size = npu_round_up(npu_device_info(s.ctx.fd).mem_total * 3 / 2, MIB(4));
	char *p;

	igt_require_f(size <= MIB(256), "the device has too much memory for this\n");
	p = svm_anon(size, SVM_DEFAULT);
	for (uint64_t at = 0; at < size; at += MIB(4))
		igt_assert_eq(svm_write(&s, p + at, MIB(4), at), 0);
	igt_assert_lt_u64(0, svm_where(&s, p, size).device);
	for (uint64_t at = 0; at < size; at += MIB(4))
		svm_assert_device(&s, p + at, MIB(4), at);
	for (uint64_t at = 0; at < size; at += MIB(4))
		svm_assert_cpu(p + at, MIB(4), at);
	svm_free(p, size);
}

/* Objects still get what is free, and mirrored memory what objects leave. */
static void test_beside_objects(void)
{
	uint64_t seed = npu_seed(), before, most;
	enum { OBJECTS = 12, BLOCKS = 8 };
	char *p = svm_anon(BLOCKS * MIB(4), SVM_DEFAULT);
	uint32_t bo[OBJECTS] = {};
	uint64_t version[BLOCKS] = {};

	before = npu_mem_free(s.ctx.fd);
	most = npu_max(before / OBJECTS / 2, MIB(1));
	for (uint64_t b = 0; b < BLOCKS; b++)
		svm_put(p + b * MIB(4), MIB(4), 0);
	for (unsigned int i = 0; i < npu_scale(60); i++) {
		unsigned int at = npu_random(&seed) % OBJECTS, b = npu_random(&seed) % BLOCKS;

		if (bo[at])
			igt_assert_eq(npu_bo_close(s.ctx.fd, bo[at]), 0);
		bo[at] = 0;
		if (npu_random(&seed) % 3) {
			uint64_t size = npu_round_up(most << npu_random(&seed) % 3, PAGE);
			int ret = npu_bo_create(s.ctx.fd, size, NPU_DEVICE, &bo[at]);

			igt_assert(ret == 0 || ret == -ENOSPC);
			if (!ret)
				npu_fill(&s.ctx, bo[at], npu_min(size, KIB(64)), i);
		}
		if (npu_random(&seed) % 2) {
			version[b] = i + 1;
			igt_assert_eq(svm_write(&s, p + b * MIB(4), MIB(4), version[b]), 0);
		} else if (npu_random(&seed) % 2) {
			svm_assert_cpu(p + b * MIB(4), MIB(4), version[b]);
		}
		b = npu_random(&seed) % BLOCKS;
		svm_assert_device(&s, p + b * MIB(4), MIB(4), version[b]);
	}
	for (unsigned int at = 0; at < OBJECTS; at++)
		if (bo[at])
			igt_assert_eq(npu_bo_close(s.ctx.fd, bo[at]), 0);
	for (unsigned int b = 0; b < BLOCKS; b++)
		svm_assert_cpu(p + b * MIB(4), MIB(4), version[b]);
	svm_free(p, BLOCKS * MIB(4));
}

int igt_main()
{
	static const struct {
		const char *name, *what;
		void (*test)(void);
	} tests[] = {
		{ "full", "No room at all: memory is used where it is", test_full },
		{ "partly", "A part goes to the device, the rest is used where it is", test_partly },
		{ "no-tables", "No room for page tables either", test_no_tables },
		{ "more-than-there-is", "More memory than the device has", test_more_than_there_is },
		{ "beside-objects", "Objects and mirrored memory share the device's",
		  test_beside_objects },
	};

	igt_fixture()
		close(npu_open());

	for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
		igt_describe(tests[i].what);
		igt_subtest(tests[i].name) {
			uint64_t before;
			int base;

			/* What a test that failed has left. */
			if (s.ctx.fd)
				svm_drop(&s);
			ballasts = 0;
			base = npu_open();
			before = npu_mem_free(base);
			svm_open(&s);
			tests[i].test();
			npu_assert_alive(&s.ctx);
			svm_close(&s);
			s = (struct svm) {};
			npu_assert_mem_free(base, before);
			close(base);
		}
	}
}
