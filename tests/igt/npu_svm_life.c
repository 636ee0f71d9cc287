// SPDX-License-Identifier: MIT
/* What a process does with its memory: the device follows at once. */

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Mirrored memory that is unmapped, protected, moved, dropped");

#define SIZE	MIB(4)

/* Where pages are when something happens to them. */
static const struct place {
	const char *name;
	enum svm_pages pages;
	uint64_t location;	/* 0: where jobs take them to */
} places[] = {
	{ "host", SVM_SMALL, DRM_GMEM_LOCATION_HOST },
	{ "host-huge", SVM_HUGE, DRM_GMEM_LOCATION_HOST },
	{ "device", SVM_SMALL, DRM_GMEM_LOCATION_DEVICE },
	{ "device-huge", SVM_HUGE, DRM_GMEM_LOCATION_DEVICE },
	{ "touched", SVM_DEFAULT, 0 },
};

static const struct {
	uint64_t at, size;
} parts[] = {
	{ 0, PAGE }, { SIZE - PAGE, PAGE }, { KIB(64), KIB(64) }, { MIB(1) + PAGE, 3 * PAGE },
	{ MIB(2), MIB(2) }, { MIB(2) - KIB(64), KIB(128) }, { PAGE, SIZE - 2 * PAGE },
};

/* Tagged memory that the device has mapped; what is in its TLB would be used. */
static char *placed(struct svm *s, const struct place *place, uint64_t seed)
{
	char *p = svm_anon(SIZE, place->pages);

	svm_put(p, SIZE, seed);
	if (place->location)
		igt_assert_eq(svm_prefetch(s, p, SIZE, place->location), 0);
	svm_assert_device(s, p, SIZE, seed);
	return p;
}

/* All but a part of it is as it was, for the device and for the CPU. */
static void assert_rest(struct svm *s, char *p, uint64_t at, uint64_t size, uint64_t seed)
{
	uint64_t end = at + size;

	igt_assert_eq(svm_read(s, p, at), 0);
	igt_assert_eq_u64(svm_find(s->stage.cpu, at, seed), ~0ull);
	igt_assert_eq(svm_read(s, p + end, SIZE - end), 0);
	igt_assert_eq_u64(svm_find_at(s->stage.cpu, SIZE - end, seed, end), ~0ull);
	igt_assert_eq_u64(svm_find(p, at, seed), ~0ull);
	igt_assert_eq_u64(svm_find_at(p + end, SIZE - end, seed, end), ~0ull);
}

/* Neither to be read nor written, at both ends. */
static void assert_gone(struct svm *s, char *p, uint64_t size)
{
	svm_assert_fault(s, svm_touch(s, p), p, NPU_NOT_MAPPED, NPU_READ);
	svm_assert_fault(s, svm_poke(s, p + size - 8, 0), p + size - 8, NPU_NOT_MAPPED, NPU_WRITE);
}

static void test_munmap(struct svm *s, const struct place *place)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		char *p = placed(s, place, i), *part = p + parts[i].at;

		svm_free(part, parts[i].size);
		assert_gone(s, part, parts[i].size);
		assert_rest(s, p, parts[i].at, parts[i].size, i);
		igt_assert_eq(munmap(p, SIZE), 0);
		assert_gone(s, p, SIZE);
	}
}

/* Something else in its place is seen at once. */
static void test_replace(struct svm *s, const struct place *place)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		char *p = placed(s, place, i), *part = p + parts[i].at;
		uint64_t size = parts[i].size;

		igt_assert(mmap(part, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
				MAP_FIXED, -1, 0) == part);
		svm_assert_device_bytes(s, part, size, 0);
		igt_assert_eq(svm_write(s, part, size, 99), 0);
		svm_assert_cpu(part, size, 99);
		assert_rest(s, p, parts[i].at, size, i);
		svm_free(p, SIZE);
	}
}

static void test_mprotect(struct svm *s, const struct place *place)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		char *p = placed(s, place, i), *part = p + parts[i].at;
		uint64_t size = parts[i].size, at = parts[i].at;

		/* Written by the device, so that its TLB permits it. */
		igt_assert_eq(svm_poke(s, part, svm_word(i, at / 8)), 0);
		igt_assert_eq(mprotect(part, size, PROT_READ), 0);
		svm_assert_fault(s, svm_poke(s, part, 0), part, NPU_NOT_WRITABLE, NPU_WRITE);
		igt_assert_eq(svm_read(s, part, size), 0);
		igt_assert_eq_u64(svm_find_at(s->stage.cpu, size, i, at), ~0ull);
		svm_assert_fault(s, svm_poke(s, part + size - 8, 0), part + size - 8,
				 NPU_NOT_WRITABLE, NPU_WRITE);

		igt_assert_eq(mprotect(part, size, PROT_NONE), 0);
		assert_gone(s, part, size);
		assert_rest(s, p, at, size, i);

		igt_assert_eq(mprotect(part, size, PROT_READ | PROT_WRITE), 0);
		igt_assert_eq(svm_read(s, part, size), 0);
		igt_assert_eq_u64(svm_find_at(s->stage.cpu, size, i, at), ~0ull);
		igt_assert_eq(svm_poke(s, part, 1234), 0);
		igt_assert_eq_u64(*(volatile uint64_t *)part, 1234);
		assert_rest(s, p, at, size, i);
		svm_free(p, SIZE);
	}
}

static void test_mremap_move(struct svm *s, const struct place *place)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		char *p = placed(s, place, i), *part = p + parts[i].at;
		char *to = svm_anon(SIZE, SVM_DEFAULT);
		uint64_t size = parts[i].size;

		/* What lay there before is dropped. */
		svm_put(to, SIZE, 50);
		svm_assert_device(s, to, SIZE, 50);
		igt_assert(mremap(part, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
		assert_gone(s, part, size);
		assert_rest(s, p, parts[i].at, size, i);
		igt_assert_eq(svm_read(s, to, size), 0);
		igt_assert_eq_u64(svm_find_at(s->stage.cpu, size, i, parts[i].at), ~0ull);
		igt_assert_eq(svm_read(s, to + size, SIZE - size), 0);
		igt_assert_eq_u64(svm_find_at(s->stage.cpu, SIZE - size, 50, size), ~0ull);
		igt_assert_eq(svm_poke(s, to, 4321), 0);
		igt_assert_eq_u64(*(volatile uint64_t *)to, 4321);
		igt_assert_eq_u64(svm_find_at(to + PAGE, size - PAGE, i, parts[i].at + PAGE), ~0ull);
		svm_free(to, SIZE);
		igt_assert_eq(munmap(p, SIZE), 0);
	}
}

/* In place, to another place, and back to less. */
static void test_mremap_size(struct svm *s, const struct place *place)
{
	char *room = svm_anon(2 * SIZE, SVM_SMALL), *p, *q;

	svm_free(room, 2 * SIZE);
	p = placed(s, place, 1);
	q = mremap(p, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	igt_assert(q == room);
	svm_assert_device(s, q, SIZE, 1);
	assert_gone(s, q + SIZE, SIZE);
	igt_assert(mremap(q, SIZE, 2 * SIZE, 0) == q);
	svm_assert_device_bytes(s, q + SIZE, SIZE, 0);
	igt_assert_eq(svm_write(s, q + SIZE, SIZE, 2), 0);
	svm_assert_device(s, q, SIZE, 1);
	igt_assert(mremap(q, 2 * SIZE, SIZE + PAGE, 0) == q);
	assert_gone(s, q + SIZE + PAGE, SIZE - PAGE);
	svm_assert_device(s, q + SIZE, PAGE, 2);

	/* With nothing behind it it has to move to grow. */
	igt_assert(mmap(q + SIZE + PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
			MAP_FIXED_NOREPLACE, -1, 0) == q + SIZE + PAGE);
	p = mremap(q, SIZE + PAGE, 3 * SIZE, MREMAP_MAYMOVE);
	igt_assert(p != MAP_FAILED && p != q);
	assert_gone(s, q, SIZE + PAGE);
	svm_assert_device(s, p, SIZE, 1);
	svm_assert_device(s, p + SIZE, PAGE, 2);
	svm_assert_device_bytes(s, p + SIZE + PAGE, 2 * SIZE - PAGE, 0);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, 3 * SIZE);
	svm_free(q + SIZE + PAGE, PAGE);
}

static void test_dontneed(struct svm *s, const struct place *place)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		char *p = placed(s, place, i), *part = p + parts[i].at;
		uint64_t size = parts[i].size;

		igt_assert_eq(madvise(part, size, MADV_DONTNEED), 0);
		svm_assert_device_bytes(s, part, size, 0);
		assert_rest(s, p, parts[i].at, size, i);
		igt_assert_eq(svm_write(s, part, size, 60), 0);
		igt_assert_eq(madvise(part, size, MADV_DONTNEED), 0);
		svm_assert_cpu_bytes(part, size, 0);
		svm_free(p, SIZE);
	}
}

/* Each page has what it had or is zero, once the kernel has taken it; what is written stays. */
static void test_madv_free(struct svm *s, const struct place *place)
{
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		char *p = placed(s, place, i), *part = p + parts[i].at;
		uint64_t size = parts[i].size, at = parts[i].at;

		igt_assert_eq(madvise(part, size, MADV_FREE), 0);
		if (i & 1)
			madvise(part, size, MADV_PAGEOUT);
		igt_assert_eq(svm_read(s, part, size), 0);
		for (uint64_t o = 0; o < size; o += PAGE)
			igt_assert(svm_find_at((char *)s->stage.cpu + o, PAGE, i, at + o) == ~0ull ||
				   svm_find_byte((char *)s->stage.cpu + o, PAGE, 0) == ~0ull);
		igt_assert_eq(madvise(part, size, MADV_FREE), 0);
		igt_assert_eq(svm_write(s, part, size, 70), 0);
		svm_assert_device(s, part, size, 70);
		madvise(part, size, MADV_PAGEOUT);
		svm_assert_cpu(part, size, 70);
		assert_rest(s, p, at, size, i);
		svm_free(p, SIZE);
	}
}

/* Dropped, and unmapped, memory on the device is free for others. */
static void test_freed(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	uint64_t before, there;
	struct svm s;

	svm_open(&s);
	/* Page tables stay until the end of the VM. */
	svm_to_device(&s, p, SIZE);
	svm_to_host(&s, p, SIZE);
	before = npu_mem_free(s.ctx.fd);
	for (int way = 0; way < 4; way++) {
		svm_put(p, SIZE, way);
		svm_to_device(&s, p, SIZE);
		there = npu_mem_free(s.ctx.fd);
		igt_assert_lte_u64(there + SIZE, before);
		if (way == 0)
			svm_to_host(&s, p, SIZE);
		else if (way == 1)
			svm_assert_cpu(p, SIZE, way);
		else if (way == 2)
			igt_assert_eq(madvise(p, SIZE, MADV_DONTNEED), 0);
		else
			svm_free(p, SIZE);
		npu_assert_mem_at_least(s.ctx.fd, there + SIZE);
	}
	svm_close(&s);
}

/* Memory comes and goes as in any program; in the end nothing is missing. */
static void churn(uint64_t seed)
{
	enum { BLOCKS = 16 };
	struct block {
		char *p;
		uint64_t size, seed;
	} block[BLOCKS] = {};
	struct svm s;

	svm_open(&s);
	for (unsigned int i = 0; i < npu_scale(150); i++) {
		struct block *b = &block[npu_random(&seed) % BLOCKS];

		if (b->p) {
			svm_assert_device(&s, b->p, b->size, b->seed);
			if (npu_random(&seed) % 2)
				svm_assert_cpu(b->p, b->size, b->seed);
			svm_free(b->p, b->size);
		}
		b->size = PAGE << npu_random(&seed) % 10;
		b->p = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		igt_assert(b->p != MAP_FAILED);
		b->seed = i;
		if (npu_random(&seed) % 2)
			svm_put(b->p, b->size, b->seed);
		else
			igt_assert_eq(svm_write(&s, b->p, b->size, b->seed), 0);
		if (npu_random(&seed) % 4 == 0)
			igt_assert_eq(svm_prefetch(&s, b->p, b->size, npu_random(&seed) % 2 ?
						   DRM_GMEM_LOCATION_HOST :
						   DRM_GMEM_LOCATION_DEVICE), 0);
	}
	for (int i = 0; i < BLOCKS; i++) {
		if (!block[i].p)
			continue;
		svm_assert_cpu(block[i].p, block[i].size, block[i].seed);
		svm_free(block[i].p, block[i].size);
	}
	svm_close(&s);
}

static void test_churn(void)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base), seed = npu_seed();

	/*
	 * Other memory of the process may go to the device with what lies next to it, and stays
	 * there; also what the child has from us, which then is on the device for both.
	 */
	igt_fork(child, 1)
		churn(seed);
	igt_waitchildren();
	npu_assert_mem_at_least(base, before - MIB(4));
	close(base);
}

/* Several bad accesses at once: each queue's record is its own. */
static void test_bad_access(void)
{
	enum { QUEUES = 4, ROUNDS = 6 };
	char *p = svm_anon(SIZE, SVM_SMALL), *code;
	struct drm_npu_job_status status;
	uint32_t queue[QUEUES], syncobj[QUEUES];
	uint64_t seed = npu_seed();
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	code = p + MIB(2);
	igt_assert_eq(mprotect(p + MIB(1), PAGE, PROT_READ), 0);
	svm_free(p + MIB(3), PAGE);
	for (int i = 0; i < QUEUES; i++) {
		igt_assert_eq(npu_queue_create(s.ctx.fd, &queue[i]), 0);
		syncobj[i] = npu_syncobj(s.ctx.fd, 0);
	}
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t at[QUEUES];

		for (int i = 0; i < QUEUES; i++) {
			struct drm_gmem_sync sync = npu_signal(syncobj[i]);
			struct npu_cb cb = npu_begin(&s.ctx);

			switch ((i + round) % QUEUES) {
			case 0:		/* reads where nothing is */
				at[i] = svm_va(p) + MIB(3) + npu_random(&seed) % PAGE;
				npu_cmd_copy(&cb, s.stage.va, at[i], 1);
				break;
			case 1:		/* writes to where nothing is, from the page before on */
				at[i] = svm_va(p) + MIB(3);
				npu_cmd_fill(&cb, at[i] - KIB(4), KIB(8), 0);
				break;
			case 2:		/* writes what may only be read */
				at[i] = svm_va(p) + MIB(1) + npu_random(&seed) % 512 * 8;
				npu_cmd_copy(&cb, s.stage.va, at[i], 8);
				npu_cmd_write(&cb, at[i], 0);
				break;
			default:	/* commands where they may not be */
				at[i] = svm_va(code) + npu_random(&seed) % 500 * 8;
				cb.va = at[i];
				cb.p++;
			}
			igt_assert_eq(npu_submit(&s.ctx, &cb, queue[i], &sync, 1), 0);
		}
		for (int i = 0; i < QUEUES; i++) {
			static const struct {
				uint32_t reason, access;
			} want[QUEUES] = {
				{ NPU_NOT_MAPPED, NPU_READ }, { NPU_NOT_MAPPED, NPU_WRITE },
				{ NPU_NOT_WRITABLE, NPU_WRITE }, { NPU_NOT_EXECUTABLE, NPU_FETCH },
			};
			int kind = (i + round) % QUEUES;

			igt_assert_eq(npu_fence_result(s.ctx.fd, syncobj[i]), -EFAULT);
			igt_assert_eq(npu_job_status(s.ctx.fd, queue[i], &status), 0);
			igt_assert_eq_u32(status.error, EFAULT);
			igt_assert_eq_u64(status.seqno, round + 1);
			igt_assert_eq_u64(status.detail & ~(PAGE - 1), at[i] & ~(PAGE - 1));
			igt_assert_eq_u32(status.access, want[kind].access);
			igt_assert_eq_u32(status.reason, want[kind].reason);
		}
		npu_assert_alive(&s.ctx);
		/* The fill came as far as the page before. */
		svm_assert_cpu_bytes(p + MIB(3) - KIB(4), KIB(4), 0);
	}
	igt_assert_eq_u64(svm_stats(&s).bad, QUEUES * ROUNDS);
	svm_assert_cpu(p, MIB(3) - KIB(4), 1);
	igt_assert_eq(munmap(p, SIZE), 0);
	svm_close(&s);
}

/* The same page is touched by many queues at once. */
static void test_many_queues(void)
{
	enum { QUEUES = 8 };
	char *p = svm_anon(SIZE, SVM_SMALL);
	uint32_t queue[QUEUES], syncobj[QUEUES];
	struct drm_gmem_vm_stats stats;
	struct svm s;

	svm_open(&s);
	for (int i = 0; i < QUEUES; i++) {
		igt_assert_eq(npu_queue_create(s.ctx.fd, &queue[i]), 0);
		syncobj[i] = npu_syncobj(s.ctx.fd, 0);
	}
	for (unsigned int round = 0; round < npu_scale(8); round++) {
		svm_put(p, SIZE, round);
		for (int i = 0; i < QUEUES; i++) {
			struct drm_gmem_sync sync = npu_signal(syncobj[i]);
			struct npu_cb cb = npu_begin(&s.ctx);

			/* Each a line of every page. */
			for (uint64_t at = 0; at < SIZE; at += PAGE)
				npu_cmd_write(&cb, svm_va(p) + at + i * 64, round * QUEUES + i);
			igt_assert_eq(npu_submit(&s.ctx, &cb, queue[i], &sync, 1), 0);
		}
		for (int i = 0; i < QUEUES; i++)
			igt_assert_eq(npu_fence_result(s.ctx.fd, syncobj[i]), 0);
		for (uint64_t w = 0; w < SIZE / 8; w++) {
			uint64_t in_page = w % 512, line = in_page / 8;
			uint64_t want = line < QUEUES && in_page % 8 == 0 ? round * QUEUES + line :
					svm_word(round, w);

			igt_assert_eq_u64(((volatile uint64_t *)p)[w], want);
		}
	}
	stats = svm_stats(&s);
	igt_info("%llu faults, %llu of them merged, %llu retries\n", stats.faults, stats.merged,
		 stats.retries);
	igt_assert_eq_u64(stats.bad, 0);
	svm_free(p, SIZE);
	svm_close(&s);
}

struct neighbour {
	char *page;
	volatile uint32_t *stop;
};

static void *neighbour_thread(void *arg)
{
	struct neighbour *n = arg;

	for (uint64_t i = 0; !*n->stop; i++) {
		madvise(n->page, PAGE, MADV_DONTNEED);
		*(volatile uint64_t *)n->page = i;
	}
	return NULL;
}

/* What changes all the time keeps the device from nothing but itself. */
static void test_restless(void)
{
	volatile uint32_t *flags = svm_flags();
	pthread_t thread;
	struct svm s;

	svm_open(&s);
	for (int in_place = 0; in_place < 2; in_place++) {
		struct neighbour n = { .stop = &flags[in_place] };
		char *p = svm_anon(MIB(2), SVM_SMALL);

		if (in_place)
			igt_assert_eq(svm_advise(&s, p, MIB(2), DRM_GMEM_ATTR_ACCESS,
						 DRM_GMEM_ACCESS_IN_PLACE), 0);
		n.page = p + MIB(1) - PAGE;
		svm_thread(&thread, neighbour_thread, &n);
		for (uint64_t at = 0; at < MIB(2); at += MIB(1))
			igt_assert_eq(svm_write(&s, p + at, MIB(1) - PAGE, at), 0);
		for (uint64_t at = 0; at < MIB(2); at += MIB(1))
			svm_assert_device(&s, p + at, MIB(1) - PAGE, at);
		*n.stop = 1;
		svm_join(thread);
		for (uint64_t at = 0; at < MIB(2); at += MIB(1))
			svm_assert_cpu(p + at, MIB(1) - PAGE, at);
		svm_free(p, MIB(2));
	}
	svm_close(&s);
	svm_flags_free(flags);
}

int igt_main()
{
	static const struct {
		const char *name, *what;
		void (*test)(struct svm *s, const struct place *place);
	} tests[] = {
		{ "munmap", "Parts are unmapped", test_munmap },
		{ "replace", "Parts are replaced by other memory", test_replace },
		{ "mprotect", "Parts are protected, and again not", test_mprotect },
		{ "mremap-move", "Parts are moved to other addresses", test_mremap_move },
		{ "mremap-size", "Memory grows and shrinks", test_mremap_size },
		{ "dontneed", "Parts are dropped by MADV_DONTNEED", test_dontneed },
		{ "madv-free", "Parts are given up by MADV_FREE", test_madv_free },
	};

	igt_fixture()
		close(npu_open());

	for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
		igt_describe(tests[i].what);
		igt_subtest_with_dynamic(tests[i].name) {
			for (size_t j = 0; j < ARRAY_LEN(places); j++) {
				igt_dynamic(places[j].name) {
					struct svm s;

					svm_open(&s);
					tests[i].test(&s, &places[j]);
					svm_close(&s);
				}
			}
		}
	}

	igt_describe("Device memory is free again when what was there has gone or come back");
	igt_subtest("freed")
		test_freed();

	igt_describe("Memory is mapped, used and unmapped at random");
	igt_subtest("churn")
		test_churn();

	igt_describe("What job_status tells of bad accesses, by several queues at once");
	igt_subtest("bad-access")
		test_bad_access();

	igt_describe("Several queues fault on the same pages");
	igt_subtest("many-queues")
		test_many_queues();

	igt_describe("A page is given up and made all the time while a job writes those beside it");
	igt_subtest("restless")
		test_restless();
}
