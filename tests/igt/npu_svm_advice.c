// SPDX-License-Identifier: MIT
/* What was advised about mirrored memory is what happens to it. */

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Attributes of mirrored memory");

#define SIZE	MIB(4)

static struct svm s;

static void advise(const void *p, uint64_t size, uint32_t kind, uint64_t value)
{
	igt_assert_eq(svm_advise(&s, p, size, kind, value), 0);
}

/* Where jobs leave memory that they read and write, and where a prefetch by advice puts it. */
static void assert_goes(char *p, uint64_t size, bool device)
{
	svm_put(p, size, 1);
	svm_assert_device(&s, p, size, 1);
	if (device)
		svm_assert_on_device(&s, p, size);
	else
		svm_assert_where(&s, p, size, host);
	igt_assert_eq(svm_write(&s, p, size, 2), 0);
	if (!device) {
		svm_assert_where(&s, p, size, host);
		igt_assert_eq_u64(svm_present(p, size), size / PAGE);
	}
	svm_assert_cpu(p, size, 2);
	if (!device)
		svm_assert_where(&s, p, size, host);

	/* By request to the other place, and by advice back again. */
	if (device)
		svm_to_host(&s, p, size);
	else
		svm_to_device(&s, p, size);
	igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_DEFAULT), 0);
	igt_assert_eq_u64(s.prefetch.moved, size);
	if (device)
		svm_assert_on_device(&s, p, size);
	else
		svm_assert_where(&s, p, size, host);
	svm_assert_device(&s, p, size, 2);
	svm_assert_cpu(p, size, 2);
}

/* Two attributes that say where: which of them counts. */
static void test_location(void)
{
	static const struct {
		uint64_t access, preferred;
		bool device;
	} cases[] = {
		{ DRM_GMEM_ACCESS_DEFAULT, DRM_GMEM_LOCATION_DEFAULT, true },
		{ DRM_GMEM_ACCESS_DEFAULT, DRM_GMEM_LOCATION_DEVICE, true },
		{ DRM_GMEM_ACCESS_DEFAULT, DRM_GMEM_LOCATION_HOST, false },
		{ DRM_GMEM_ACCESS_DEFAULT, DRM_GMEM_LOCATION_HOST_NODE(0), false },
		{ DRM_GMEM_ACCESS_MIGRATE, DRM_GMEM_LOCATION_DEFAULT, true },
		{ DRM_GMEM_ACCESS_MIGRATE, DRM_GMEM_LOCATION_DEVICE, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *p = svm_anon(MIB(2), i & 1 ? SVM_HUGE : SVM_SMALL);

		advise(p, MIB(2), DRM_GMEM_ATTR_ACCESS, cases[i].access);
		advise(p, MIB(2), DRM_GMEM_ATTR_PREFERRED_LOCATION, cases[i].preferred);
		assert_goes(p, MIB(2), cases[i].device);
		igt_assert_eq(npu_advise(s.ctx.fd, s.ctx.vm, svm_va(p), MIB(2),
					 DRM_GMEM_ADVISE_RESET, NULL, 0), 0);
		assert_goes(p, MIB(2), true);
		svm_free(p, MIB(2));
	}
}

/* In place: nothing moves by itself, not from the host and not from the device. */
static void test_in_place(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	uint64_t to_device;

	advise(p, SIZE, DRM_GMEM_ATTR_ACCESS, DRM_GMEM_ACCESS_IN_PLACE);
	advise(p, SIZE, DRM_GMEM_ATTR_PREFERRED_LOCATION, DRM_GMEM_LOCATION_DEVICE);
	svm_put(p, SIZE, 1);
	to_device = svm_stats(&s).to_device;
	svm_assert_device(&s, p, SIZE, 1);
	igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
	svm_assert_where(&s, p, SIZE, host);
	igt_assert_eq_u64(svm_stats(&s).to_device, to_device);
	igt_assert_eq_u64(svm_present(p, SIZE), SIZE / PAGE);
	svm_assert_cpu(p, SIZE, 2);

	/* Both sides at once, word by word, without anything moving. */
	for (int i = 0; i < 64; i++) {
		volatile uint64_t *word = (uint64_t *)(p + i * KIB(64)) + i;

		igt_assert_eq(svm_poke(&s, word, i), 0);
		igt_assert_eq_u64(*word, i);
		*word = i + 1;
		igt_assert_eq(svm_read(&s, (void *)word, 8), 0);
		igt_assert_eq_u64(*(uint64_t *)s.stage.cpu, i + 1);
	}
	igt_assert_eq_u64(svm_stats(&s).to_device, to_device);
	svm_assert_where(&s, p, SIZE, host);

	/* Never touched before. */
	igt_assert_eq(madvise(p, SIZE, MADV_DONTNEED), 0);
	igt_assert_eq(svm_write(&s, p, SIZE, 3), 0);
	svm_assert_where(&s, p, SIZE, host);
	svm_assert_cpu(p, SIZE, 3);

	/* By request it goes to the device, and stays there, till the CPU takes it. */
	svm_to_device(&s, p, SIZE);
	igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEFAULT), 0);
	igt_assert_eq_u64(s.prefetch.moved, 0);
	svm_assert_device(&s, p, SIZE, 3);
	svm_assert_on_device(&s, p, SIZE);
	svm_assert_cpu(p, SIZE, 3);
	svm_assert_device(&s, p, SIZE, 3);
	svm_assert_where(&s, p, SIZE, host);
	svm_free(p, SIZE);
}

/* A part is advised: only that part is where it was advised to be. */
static void test_part(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	const uint64_t at = MIB(1) + 3 * PAGE, size = MIB(1);

	advise(p + at, size, DRM_GMEM_ATTR_ACCESS, DRM_GMEM_ACCESS_IN_PLACE);
	svm_put(p, SIZE, 1);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_where(&s, p + at, size, host);
	svm_assert_on_device(&s, p, at);
	svm_assert_on_device(&s, p + at + size, SIZE - at - size);
	igt_assert_eq_u64(svm_present(p + at, size), size / PAGE);
	igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
	svm_assert_cpu(p, SIZE, 2);
	igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEFAULT), 0);
	svm_assert_where(&s, p + at, size, host);
	svm_assert_on_device(&s, p, at);
	svm_free(p, SIZE);
}

/* No access at all: an error for the job, whatever is there, and no prefetch. */
static void test_none(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);

	svm_put(p, SIZE, 1);
	svm_to_device(&s, p, SIZE);
	advise(p + MIB(1), MIB(1), DRM_GMEM_ATTR_ACCESS, DRM_GMEM_ACCESS_NONE);
	svm_assert_fault(&s, svm_touch(&s, p + MIB(1)), p + MIB(1), NPU_NOT_MAPPED, NPU_READ);
	svm_assert_fault(&s, svm_poke(&s, p + MIB(2) - 8, 0), p + MIB(2) - 8, NPU_NOT_MAPPED,
			 NPU_WRITE);
	svm_assert_device(&s, p, MIB(1), 1);
	igt_assert_eq(svm_read(&s, p + MIB(2), MIB(2)), 0);
	igt_assert_eq_u64(svm_find_at(s.stage.cpu, MIB(2), 1, MIB(2)), ~0ull);
	svm_assert_cpu(p, SIZE, 1);
	advise(p + MIB(1), MIB(1), DRM_GMEM_ATTR_ACCESS, DRM_GMEM_ACCESS_DEFAULT);
	svm_assert_device(&s, p, SIZE, 1);
	svm_free(p, SIZE);
}

/* The device may not write, though the CPU and the mapping may. */
static void test_read_only(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);

	for (int place = 0; place < 2; place++) {
		svm_put(p, SIZE, 1);
		igt_assert_eq(svm_prefetch(&s, p, SIZE, place ? DRM_GMEM_LOCATION_DEVICE :
					   DRM_GMEM_LOCATION_HOST), 0);
		/* Written by the device before, so that its TLB permits it. */
		igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
		advise(p + MIB(1), MIB(1), DRM_GMEM_ATTR_READ_ONLY, 1);
		svm_assert_fault(&s, svm_poke(&s, p + MIB(1), 0), p + MIB(1), NPU_NOT_WRITABLE,
				 NPU_WRITE);
		svm_assert_fault(&s, svm_poke(&s, p + MIB(2) - 8, 0), p + MIB(2) - 8,
				 NPU_NOT_WRITABLE, NPU_WRITE);
		igt_assert_eq(svm_poke(&s, p + MIB(2), svm_word(2, MIB(2) / 8)), 0);
		svm_assert_device(&s, p, SIZE, 2);
		svm_assert_cpu(p, SIZE, 2);
		svm_put(p, SIZE, 3);
		svm_assert_device(&s, p, SIZE, 3);
		advise(p + MIB(1), MIB(1), DRM_GMEM_ATTR_READ_ONLY, 0);
		igt_assert_eq(svm_write(&s, p, SIZE, 4), 0);
		svm_assert_cpu(p, SIZE, 4);
	}
	svm_free(p, SIZE);
}

static int run_at(char *p, uint64_t value)
{
	struct npu_cell cell = npu_cell(&s.ctx, 0);
	struct npu_cb cb = { .start = (uint64_t *)p, .p = (uint64_t *)p,
			     .end = (uint64_t *)(p + PAGE), .va = svm_va(p) };
	int result;

	npu_cmd_write(&cb, cell.va, value);
	result = npu_run(&s.ctx, &cb);
	igt_assert_eq_u64(*cell.cpu, result ? 0 : value);
	return result;
}

/* Commands may be fetched where that was advised, though the mapping has no EXEC. */
static void test_exec(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);

	svm_assert_fault(&s, run_at(p, 1), p, NPU_NOT_EXECUTABLE, NPU_FETCH);
	advise(p, PAGE, DRM_GMEM_ATTR_EXEC, 1);
	igt_assert_eq(run_at(p, 2), 0);
	svm_assert_fault(&s, run_at(p + PAGE, 3), p + PAGE, NPU_NOT_EXECUTABLE, NPU_FETCH);
	advise(p, PAGE, DRM_GMEM_ATTR_EXEC, 0);
	svm_assert_fault(&s, run_at(p, 4), p, NPU_NOT_EXECUTABLE, NPU_FETCH);
	svm_free(p, SIZE);
}

/* So much moves at a time as was advised: the block around what was touched, and no more. */
static void test_granularity(void)
{
	static const unsigned int shifts[] = { 12, 16, 18, 21 };

	for (size_t i = 0; i < ARRAY_LEN(shifts); i++) {
		uint64_t block = 1ull << shifts[i], start;
		char *p = svm_anon(3 * MIB(2), SVM_SMALL), *touched = p + MIB(2) + 37 * PAGE + 24;

		svm_put(p, 3 * MIB(2), 1);
		advise(p, 3 * MIB(2), DRM_GMEM_ATTR_GRANULARITY, shifts[i]);
		igt_assert_eq(svm_touch(&s, touched), 0);
		start = (svm_va(touched) & ~(block - 1)) - svm_va(p);
		svm_assert_on_device(&s, p + start, block);
		svm_assert_off_device(&s, p, start);
		svm_assert_off_device(&s, p + start + block, 3 * MIB(2) - start - block);
		igt_assert_eq_u64(svm_present(p, 3 * MIB(2)), (3 * MIB(2) - block) / PAGE);
		svm_assert_device(&s, p, 3 * MIB(2), 1);
		svm_assert_on_device(&s, p, 3 * MIB(2));
		svm_assert_cpu(p, 3 * MIB(2), 1);
		svm_free(p, 3 * MIB(2));
	}
}

/* What is brought in with a page is there, or it is not made. */
static void test_granularity_made(void)
{
	char *p = svm_anon(8 * MIB(2), SVM_SMALL);

	advise(p, 8 * MIB(2), DRM_GMEM_ATTR_GRANULARITY, 24);
	igt_assert_eq(svm_write(&s, p + 9 * MIB(1), PAGE, 1), 0);
	igt_assert_eq_u64(svm_present(p, 8 * MIB(2)) + svm_swapped(p, 8 * MIB(2)), 1);
	svm_free(p, 8 * MIB(2));
}

/* With the memory go its attributes, if that was advised; else they stay for what comes there. */
static void test_auto_reset(void)
{
	for (int automatic = 0; automatic < 2; automatic++) {
		char *p = svm_anon(SIZE, SVM_SMALL);
		struct drm_gmem_range range[3];

		advise(p, SIZE, DRM_GMEM_ATTR_AUTO_RESET, automatic);
		advise(p, SIZE, DRM_GMEM_ATTR_ACCESS, DRM_GMEM_ACCESS_IN_PLACE);
		svm_put(p, SIZE, 1);
		svm_assert_device(&s, p, SIZE, 1);

		/* Neither moving to and fro nor dropping is unmapping. */
		svm_to_device(&s, p, SIZE);
		svm_assert_cpu(p, SIZE, 1);
		igt_assert_eq(madvise(p, PAGE, MADV_DONTNEED), 0);
		igt_assert_eq_u64(npu_range_at(&s.ctx, svm_va(p)).advice[DRM_GMEM_ATTR_ACCESS],
				  DRM_GMEM_ACCESS_IN_PLACE);

		svm_free(p + MIB(1), MIB(1));
		for (int i = 0; i < 3; i++)
			range[i] = npu_range_at(&s.ctx, svm_va(p) + MIB(1) - PAGE + i * MIB(1) +
						(i == 2 ? PAGE : 0));
		igt_assert_eq_u64(range[0].advice[DRM_GMEM_ATTR_ACCESS], DRM_GMEM_ACCESS_IN_PLACE);
		igt_assert_eq_u64(range[1].advice[DRM_GMEM_ATTR_ACCESS],
				  automatic ? 0 : DRM_GMEM_ACCESS_IN_PLACE);
		igt_assert_eq_u64(range[1].advice[DRM_GMEM_ATTR_AUTO_RESET], 0);
		igt_assert_eq_u64(range[2].advice[DRM_GMEM_ATTR_ACCESS], DRM_GMEM_ACCESS_IN_PLACE);
		igt_assert_eq_u64(range[2].advice[DRM_GMEM_ATTR_AUTO_RESET], automatic);

		/* New memory in its place. */
		igt_assert(mmap(p + MIB(1), MIB(1), PROT_READ | PROT_WRITE, MAP_PRIVATE |
				MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + MIB(1));
		igt_assert_eq(madvise(p + MIB(1), MIB(1), MADV_NOHUGEPAGE), 0);
		svm_put(p, SIZE, 2);
		svm_assert_device(&s, p, SIZE, 2);
		svm_assert_where(&s, p, MIB(1), host);
		svm_assert_where(&s, p + MIB(2), MIB(2), host);
		if (automatic)
			svm_assert_on_device(&s, p + MIB(1), MIB(1));
		else
			svm_assert_where(&s, p + MIB(1), MIB(1), host);
		svm_free(p, SIZE);
		igt_assert_eq(npu_advise(s.ctx.fd, s.ctx.vm, svm_va(p), SIZE,
					 DRM_GMEM_ADVISE_RESET, NULL, 0), 0);
	}
}

/* Memory that grows takes its attributes with it, if that was advised. */
static void test_follow(void)
{
	for (int follow = 0; follow < 2; follow++) {
		char *p = svm_anon(SIZE, SVM_SMALL);
		struct drm_gmem_range range;

		svm_free(p + MIB(2), MIB(2));
		advise(p, MIB(2), DRM_GMEM_ATTR_FOLLOW, follow);
		advise(p, MIB(2), DRM_GMEM_ATTR_ACCESS, DRM_GMEM_ACCESS_IN_PLACE);
		svm_put(p, MIB(2), 1);
		svm_assert_device(&s, p, MIB(2), 1);
		igt_assert(mremap(p, MIB(2), SIZE, 0) == p);

		/* It's noticed when the device comes there. */
		svm_put(p + MIB(2), MIB(2), 2);
		svm_assert_device(&s, p + MIB(2), MIB(2), 2);
		if (follow)
			svm_assert_where(&s, p + MIB(2), MIB(2), host);
		else
			svm_assert_on_device(&s, p + MIB(2), MIB(2));
		range = npu_range_at(&s.ctx, svm_va(p) + SIZE - PAGE);
		igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_ACCESS],
				  follow ? DRM_GMEM_ACCESS_IN_PLACE : 0);
		range = npu_range_at(&s.ctx, svm_va(p) + SIZE);
		igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_ACCESS], 0);
		svm_assert_device(&s, p, MIB(2), 1);
		svm_free(p, SIZE);
		igt_assert_eq(npu_advise(s.ctx.fd, s.ctx.vm, svm_va(p), SIZE,
					 DRM_GMEM_ADVISE_RESET, NULL, 0), 0);
	}
}

/* Attributes that permit rather than demand: whatever they do, what is read is what was written. */
static void test_others(void)
{
	static const struct {
		uint32_t kind;
		uint64_t value;
	} cases[] = {
		{ DRM_GMEM_ATTR_READ_MOSTLY, 1 },
		{ DRM_GMEM_ATTR_ALWAYS_MAPPED, 1 },
		{ DRM_GMEM_ATTR_PINNED, 1 },
		{ DRM_GMEM_ATTR_EVICTION_PRIORITY, 1 },
		{ DRM_GMEM_ATTR_EVICTION_PRIORITY, 2 },
		{ DRM_GMEM_ATTR_MIGRATION_POLICY, DRM_GMEM_MIGRATE_SYSTEM },
		{ DRM_GMEM_ATTR_ATOMICS, DRM_GMEM_ATOMICS_GLOBAL },
		{ DRM_GMEM_ATTR_ATOMICS, DRM_GMEM_ATOMICS_CPU },
		{ DRM_GMEM_ATTR_DRIVER, NPU_ATTR_CACHE_UNCACHED },
		{ DRM_GMEM_ATTR_DRIVER, NPU_ATTR_CACHE_WRITE_THROUGH | NPU_ATTR_COMPRESSION(2) },
	};
	char *p = svm_anon(SIZE, SVM_SMALL);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		advise(p, SIZE, cases[i].kind, cases[i].value);
		svm_put(p, SIZE, i);
		svm_assert_device(&s, p, SIZE, i);
		svm_assert_cpu(p, SIZE, i);
		svm_assert_device(&s, p, SIZE, i);
		igt_assert_eq(svm_write(&s, p, SIZE, i + 20), 0);
		svm_assert_cpu(p, SIZE, i + 20);
		svm_put(p, SIZE, i + 40);
		svm_assert_device(&s, p, SIZE, i + 40);
		igt_assert_eq_u64(npu_range_at(&s.ctx, svm_va(p)).advice[cases[i].kind],
				  cases[i].value);
		igt_assert_eq(npu_advise(s.ctx.fd, s.ctx.vm, svm_va(p), SIZE,
					 DRM_GMEM_ADVISE_RESET, NULL, 0), 0);
	}
	svm_free(p, SIZE);
}

/* Advice changes at random under jobs, wherever pages are. */
static void test_random(void)
{
	enum { BLOCKS = 16 };
	const uint64_t block = SIZE / BLOCKS;
	bool in_place[BLOCKS] = {}, fixed[BLOCKS] = {}, to_host[BLOCKS] = {};
	uint64_t seed = npu_seed(), version[BLOCKS];
	char *p = svm_anon(SIZE, SVM_SMALL);

	for (uint64_t b = 0; b < BLOCKS; b++) {
		version[b] = b;
		svm_put(p + b * block, block, b);
	}
	for (unsigned int step = 0; step < npu_scale(300); step++) {
		uint64_t b = npu_random(&seed) % BLOCKS;
		char *q = p + b * block;

		switch (npu_random(&seed) % 6) {
		case 0:
			in_place[b] = !in_place[b];
			advise(q, block, DRM_GMEM_ATTR_ACCESS, in_place[b] ?
			       DRM_GMEM_ACCESS_IN_PLACE : DRM_GMEM_ACCESS_DEFAULT);
			to_host[b] = false;
			break;
		case 1:
			fixed[b] = !fixed[b];
			to_host[b] = false;
			advise(q, block, DRM_GMEM_ATTR_READ_ONLY, fixed[b]);
			break;
		case 2:
			version[b] = 1000 + step;
			svm_put(q, block, version[b]);
			break;
		case 3:
			if (fixed[b]) {
				uint64_t at = npu_random(&seed) % (block / 8) * 8;

				svm_assert_fault(&s, svm_poke(&s, q + at, 0), q + at,
						 NPU_NOT_WRITABLE, NPU_WRITE);
			} else {
				version[b] = 1000 + step;
				igt_assert_eq(svm_write(&s, q, block, version[b]), 0);
			}
			break;
		case 4:
			to_host[b] = npu_random(&seed) % 2;
			igt_assert_eq(svm_prefetch(&s, q, block, to_host[b] ?
						   DRM_GMEM_LOCATION_HOST :
						   DRM_GMEM_LOCATION_DEVICE), 0);
			break;
		default:
			svm_assert_cpu(q, block, version[b]);
			svm_assert_device(&s, q, block, version[b]);
			/* What a prefetch has mapped in the host stays until something changes. */
			if (in_place[b])
				svm_assert_where(&s, q, block, host);
			else if (!to_host[b])
				svm_assert_where(&s, q, block, device);
		}
	}
	for (uint64_t b = 0; b < BLOCKS; b++) {
		svm_assert_device(&s, p + b * block, block, version[b]);
		svm_assert_cpu(p + b * block, block, version[b]);
	}
	svm_free(p, SIZE);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		{ "location", "Where pages should be", test_location },
		{ "in-place", "Pages stay where they are", test_in_place },
		{ "part", "A part is advised", test_part },
		{ "none", "No access", test_none },
		{ "read-only", "No writes of the device", test_read_only },
		{ "exec", "Commands are fetched where it was advised", test_exec },
		{ "granularity", "How much moves at a time", test_granularity },
		{ "granularity-made", "Nothing is made that was only brought in besides",
		  test_granularity_made },
		{ "auto-reset", "Attributes go with the memory", test_auto_reset },
		{ "follow", "Attributes grow with the memory", test_follow },
		{ "others", "All others change nothing of what is read", test_others },
		{ "random", "Advice changes at random under jobs", test_random },
	};

	igt_fixture()
		close(npu_open());

	svm_run(&s, tests, ARRAY_LEN(tests));
}
