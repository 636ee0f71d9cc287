// SPDX-License-Identifier: MIT
/*
 * Coherence: threads of the CPU and queues of the NPU work on one array. Each word in it has one
 * writer at a time, but its page many. Who takes a word finds what the last one left there, by a
 * shadow that only the CPU knows, and leaves something new. Meanwhile other threads move the pages
 * to and fro, unmap and map what nobody uses at the moment, protect it, fork.
 *
 * Each run says its seed first, and differs from all others; with threads, one with the same seed
 * is similar, not the same:
 *
 *   NPU_TEST_SEED=0x... npu_svm_litmus --run-subtest small
 *
 * A subtest ends after STEPS words or, unless it repeats one, after so many SECONDS. NPU_TEST_SCALE is
 * a factor for both.
 */

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Coherence of CPU and NPU on memory that moves");

#define STEPS		1000000
#define SECONDS		25

#define PAGES		1024u
#define WORDS		8u		/* in a page that are used */
#define SLOTS		(PAGES * WORDS)
#define BATCH		24u		/* words in one job */

#define CPUS		2
#define NPUS		4		/* queues: the last one is of another VM */
#define DISTURBERS	2

enum disturbance {
	TO_DEVICE, TO_HOST, PAGEOUT, IN_PLACE, REPLACE, HOLE, DONTNEED, MOVE, PROTECT, FORK,
	DISTURBANCES,
};

static const char *const names[DISTURBANCES] = {
	"to the device", "to the host", "paged out", "advised", "replaced", "unmapped", "dropped",
	"moved", "protected", "forks",
};

/* A queue, and what it takes to run jobs in it from a thread. */
struct worker {
	struct svm *s;
	struct npu_bo code, result;
	uint32_t queue, syncobj;
	uint64_t jobs;
};

struct actor {
	pthread_t thread;
	uint64_t seed;
	uint64_t steps, ticks;
	uint64_t count[DISTURBANCES];
	struct worker worker;
};

static struct run {
	struct svm s[2];
	char *p, *spare;			/* the array; where parts of it are moved to */
	bool fixed;				/* advice does not change */
	int pages[PAGES];			/* who uses a page: so many, or -1: one alone */
	int slots[SLOTS];			/* 1: somebody's */
	uint64_t shadow[SLOTS];
	struct actor cpu[CPUS], npu[NPUS], disturber[DISTURBERS];

	volatile bool stop;
	volatile uint64_t steps;
	uint64_t limit, end;
	int failed;
	char failure[512];
} run;

/* The first failure counts. */
__attribute__((format(printf, 1, 2)))
static void fail(const char *fmt, ...)
{
	va_list args;

	if (!__atomic_exchange_n(&run.failed, 1, __ATOMIC_ACQ_REL)) {
		va_start(args, fmt);
		vsnprintf(run.failure, sizeof(run.failure), fmt, args);
		va_end(args);
	}
	run.stop = true;
}

static uint64_t below(struct actor *a, uint64_t n)
{
	return npu_random(&a->seed) % n;
}

static volatile uint64_t *word(uint32_t slot)
{
	uint32_t page = slot / WORDS, at = slot % WORDS;

	/* Others in each page, on other lines. */
	return (uint64_t *)(run.p + page * PAGE) + (at * 64 + page % 64);
}

/* Which word it is, who wrote it, and the how manieth time. */
static uint64_t successor(uint64_t value, uint32_t slot, uint32_t writer)
{
	return (uint64_t)(slot + 1) << 44 | (uint64_t)writer << 36 |
	       ((value + 1) & ((1ull << 36) - 1));
}

static bool page_get(uint32_t page)
{
	int users = __atomic_load_n(&run.pages[page], __ATOMIC_RELAXED);

	while (users >= 0)
		if (__atomic_compare_exchange_n(&run.pages[page], &users, users + 1, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
	return false;
}

static void page_put(uint32_t page)
{
	__atomic_fetch_sub(&run.pages[page], 1, __ATOMIC_RELEASE);
}

/* Takes a word that is nobody's, and a share of its page. */
static bool slot_get(uint32_t slot)
{
	if (!page_get(slot / WORDS))
		return false;
	if (!__atomic_exchange_n(&run.slots[slot], 1, __ATOMIC_ACQUIRE))
		return true;
	page_put(slot / WORDS);
	return false;
}

static void slot_put(uint32_t slot)
{
	__atomic_store_n(&run.slots[slot], 0, __ATOMIC_RELEASE);
	page_put(slot / WORDS);
}

/* Takes pages as a whole, if nobody uses any of them. */
static bool pages_get(uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		int nobody = 0;

		if (__atomic_compare_exchange_n(&run.pages[first + i], &nobody, -1, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		while (i--)
			__atomic_store_n(&run.pages[first + i], 0, __ATOMIC_RELEASE);
		return false;
	}
	return true;
}

static void pages_put(uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		__atomic_store_n(&run.pages[first + i], 0, __ATOMIC_RELEASE);
}

/* They are zero from now on. */
static void pages_zeroed(uint32_t first, uint32_t count)
{
	memset(&run.shadow[first * WORDS], 0, count * WORDS * sizeof(run.shadow[0]));
}

static bool done(struct actor *a, uint64_t steps)
{
	a->steps += steps;
	if (steps && __atomic_add_fetch(&run.steps, steps, __ATOMIC_RELAXED) >= run.limit)
		run.stop = true;
	if (run.end && a->ticks++ % 64 == 0 && svm_seconds() >= run.end)
		run.stop = true;
	return run.stop;
}

/* Near others, mostly: pages that everybody wants. */
static uint32_t random_slot(struct actor *a)
{
	uint32_t hot = run.steps / 4096 * 37 % PAGES;
	uint32_t page = below(a, 4) ? (hot + below(a, 48)) % PAGES : below(a, PAGES);

	return page * WORDS + below(a, WORDS);
}

static void *cpu_thread(void *arg)
{
	struct actor *a = arg;
	uint32_t id = 1 + (a - run.cpu);

	while (!done(a, 1)) {
		uint32_t slot = random_slot(a);
		uint64_t seen;

		if (!slot_get(slot)) {
			sched_yield();
			continue;
		}
		seen = *word(slot);
		if (seen != run.shadow[slot])
			fail("CPU %u finds %#llx at word %u of page %u (%p), not %#llx\n", id,
			     (unsigned long long)seen, slot % WORDS, slot / WORDS, (void *)word(slot),
			     (unsigned long long)run.shadow[slot]);
		run.shadow[slot] = successor(seen, slot, id);
		*word(slot) = run.shadow[slot];
		slot_put(slot);
		/* As much the others' turn as ours. */
		if (below(a, 64) == 0)
			sched_yield();
	}
	return NULL;
}

static struct npu_cb worker_begin(struct worker *w)
{
	return (struct npu_cb) {
		.start = w->code.cpu, .p = w->code.cpu,
		.end = (uint64_t *)((char *)w->code.cpu + w->code.size), .va = w->code.va,
	};
}

/* Runs a job that leaves its number behind at its end: 0, or how it ended. */
static int worker_run(struct worker *w, struct npu_cb *cb)
{
	volatile uint64_t *number = w->result.cpu;
	struct drm_gmem_sync sync = npu_signal(w->syncobj);
	struct drm_npu_job_status status;
	int ret;

	npu_cmd_write(cb, w->result.va, ++w->jobs);
	__sync_synchronize();
	ret = npu_submit_raw(w->s->ctx.fd, w->queue, w->s->ctx.vm, cb->va, npu_cb_size(cb), &sync,
			     1);
	if (ret) {
		fail("submit: %d\n", ret);
		return ret;
	}
	ret = npu_syncobj_wait(w->s->ctx.fd, w->syncobj);
	if (ret) {
		fail("a job did not end: %d\n", ret);
		return ret;
	}
	if (*number == w->jobs)
		return 0;
	ret = npu_job_status(w->s->ctx.fd, w->queue, &status);
	if (ret || status.seqno != w->jobs || !status.error) {
		fail("job %llu did not come to its end, but did not fail\n",
		     (unsigned long long)w->jobs);
		return -EIO;
	}
	return -(int)status.error;
}

static void worker_failed(const struct worker *w, const char *what, int result)
{
	struct drm_npu_job_status status = {};

	npu_job_status(w->s->ctx.fd, w->queue, &status);
	fail("%s: %d, at %#llx, reason %u, access %u\n", what, result,
	     (unsigned long long)status.detail, status.reason, status.access);
}

/* Takes many words at once, for one job. */
static void *npu_thread(void *arg)
{
	struct actor *a = arg;
	struct worker *w = &a->worker;
	uint32_t id = 100 + (a - run.npu);
	volatile uint64_t *before = (uint64_t *)w->result.cpu + 1, *after = before + BATCH;
	uint64_t before_va = w->result.va + 8, after_va = before_va + BATCH * 8;

	while (!done(a, 0)) {
		uint32_t slots[BATCH], count = 0;
		struct npu_cb cb;
		int result;

		for (uint32_t i = 0; i < BATCH; i++) {
			uint32_t slot = random_slot(a);

			if (slot_get(slot))
				slots[count++] = slot;
		}
		cb = worker_begin(w);
		for (uint32_t i = 0; i < count; i++) {
			uint64_t va = svm_va(word(slots[i]));
			uint64_t value = successor(run.shadow[slots[i]], slots[i], id);

			before[i] = after[i] = ~0ull;
			npu_cmd_copy(&cb, before_va + i * 8, va, 8);
			npu_cmd_write(&cb, va, value);
			npu_cmd_copy(&cb, after_va + i * 8, va, 8);
		}
		result = worker_run(w, &cb);
		if (result && !run.failed)
			worker_failed(w, "a job on words of its own", result);
		for (uint32_t i = 0; i < count && !run.failed; i++) {
			uint64_t value = successor(run.shadow[slots[i]], slots[i], id);

			if (before[i] != run.shadow[slots[i]] || after[i] != value)
				fail("NPU queue %u finds %#llx at word %u of page %u (%p), not %#llx, "
				     "and leaves %#llx, not %#llx\n", id - 100,
				     (unsigned long long)before[i], slots[i] % WORDS,
				     slots[i] / WORDS, (void *)word(slots[i]),
				     (unsigned long long)run.shadow[slots[i]],
				     (unsigned long long)after[i], (unsigned long long)value);
			run.shadow[slots[i]] = value;
		}
		for (uint32_t i = 0; i < count; i++)
			slot_put(slots[i]);
		done(a, count);
	}
	return NULL;
}

/* In pages that nobody else uses: what the device may do with a word, and must not. */
static void probe(struct worker *w, char *p, bool readable)
{
	struct npu_cb cb = worker_begin(w);
	int result;

	npu_cmd_write(&cb, svm_va(p), ~0ull);
	result = worker_run(w, &cb);
	if (result != -EFAULT && !run.failed)
		fail("a write to %p, where that's not allowed: %d\n", (void *)p, result);
	cb = worker_begin(w);
	npu_cmd_copy(&cb, w->result.va + 8, svm_va(p), 8);
	result = worker_run(w, &cb);
	if (result != (readable ? 0 : -EFAULT) && !run.failed)
		fail("a read of %p, which %s be read: %d\n", (void *)p, readable ? "may" : "can't",
		     result);
}

/* Changes pages that are nobody else's for the moment. */
static void disturb_exclusive(struct actor *a, enum disturbance what, uint32_t first, uint32_t count)
{
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char *p = run.p + first * PAGE, *away = run.spare + first * PAGE;
	uint64_t size = count * PAGE;
	bool right = true;

	switch (what) {
	case REPLACE:
		right = mmap(p, size, prot, flags | MAP_FIXED, -1, 0) == p;
		pages_zeroed(first, count);
		break;
	case HOLE:
		right = !munmap(p, size);
		if (below(a, 2))
			probe(&a->worker, p + below(a, count) * PAGE, false);
		right &= mmap(p, size, prot, flags | MAP_FIXED_NOREPLACE, -1, 0) == p;
		pages_zeroed(first, count);
		break;
	case DONTNEED:
		right = !madvise(p, size, MADV_DONTNEED);
		pages_zeroed(first, count);
		break;
	case MOVE:
		right = mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, away) == away;
		if (below(a, 2))
			probe(&a->worker, p + below(a, count) * PAGE, false);
		right &= mremap(away, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, p) == p;
		break;
	default:
		right = !mprotect(p, size, PROT_READ);
		if (below(a, 2))
			probe(&a->worker, p + below(a, count) * PAGE, true);
		right &= !mprotect(p, size, prot);
	}
	if (!right)
		fail("%u pages at %p can't be %s: %s\n", count, (void *)p, names[what],
		     strerror(errno));
}

/* Each word is its own or zero, and stays what it was when the processes parted. */
static int check_copy(void)
{
	static uint64_t seen[SLOTS];

	for (int round = 0; round < 2; round++) {
		for (uint32_t slot = 0; slot < SLOTS; slot++) {
			uint64_t value;

			/* It may have been a hole just then. */
			if (__atomic_load_n(&run.pages[slot / WORDS], __ATOMIC_RELAXED) < 0)
				continue;
			value = *word(slot);
			if (value && value >> 44 != slot + 1)
				return 1;
			if (round && value != seen[slot])
				return 2;
			seen[slot] = value;
		}
	}
	return 0;
}

static void disturb_fork(void)
{
	int status;
	pid_t pid = fork();

	if (pid < 0) {
		fail("fork: %s\n", strerror(errno));
		return;
	}
	if (!pid)
		_exit(check_copy());
	status = svm_wait_child(pid);
	if (status)
		fail("a child ended with %d: 1 a word of another place, 2 a word that changed\n",
		     status);
}

static void *disturber_thread(void *arg)
{
	struct actor *a = arg;

	while (!done(a, 0)) {
		uint32_t count = below(a, 4) ? 1 + below(a, 16) : 1 + below(a, 300);
		uint32_t hot = run.steps / 4096 * 37 % PAGES;
		uint32_t first = below(a, 2) ? hot : below(a, PAGES);
		enum disturbance what = below(a, DISTURBANCES);
		struct svm *s = &run.s[below(a, 2)];
		struct drm_gmem_prefetch prefetch;
		struct drm_gmem_attr attr;
		int ret = 0;

		if (what >= REPLACE && what <= PROTECT)
			count = 1 + count % 16;
		first = npu_min(first, PAGES - count);
		prefetch = (struct drm_gmem_prefetch) {
			.vm_id = s->ctx.vm, .va = svm_va(run.p + first * PAGE), .size = count * PAGE,
			.location = what == TO_DEVICE ? DRM_GMEM_LOCATION_DEVICE :
				    DRM_GMEM_LOCATION_HOST,
		};
		switch (what) {
		case TO_DEVICE:
		case TO_HOST:
			if (run.fixed)
				continue;
			ret = npu_prefetch(s->ctx.fd, &prefetch);
			break;
		case PAGEOUT:
			madvise(run.p + first * PAGE, count * PAGE, MADV_PAGEOUT);
			break;
		case IN_PLACE:
			if (run.fixed)
				continue;
			attr.kind = DRM_GMEM_ATTR_ACCESS;
			attr.pad = 0;
			attr.value = below(a, 2) ? DRM_GMEM_ACCESS_IN_PLACE :
						   DRM_GMEM_ACCESS_DEFAULT;
			ret = npu_advise(s->ctx.fd, s->ctx.vm, prefetch.va, prefetch.size, 0, &attr, 1);
			break;
		case FORK:
			if (below(a, 8))
				continue;
			disturb_fork();
			break;
		default:
			/* Nobody's pages are found by looking a little further. */
			for (int i = 0; i < 16 && !pages_get(first, count); i++) {
				first = (first + 19) % (PAGES - count);
				if (i == 15)
					count = 0;
			}
			if (!count)
				continue;
			disturb_exclusive(a, what, first, count);
			pages_put(first, count);
		}
		if (ret)
			fail("%u pages %s: %d\n", count, names[what], ret);
		a->count[what]++;
	}
	return NULL;
}

static void worker_init(struct worker *w, struct svm *s)
{
	w->s = s;
	w->code = npu_bo(&s->ctx, KIB(16), NPU_HOST, DRM_GMEM_BIND_READONLY | DRM_GMEM_BIND_EXEC);
	w->result = npu_bo(&s->ctx, PAGE, NPU_HOST, 0);
	igt_assert_eq(npu_queue_create(s->ctx.fd, &w->queue), 0);
	w->syncobj = npu_syncobj(s->ctx.fd, 0);
}

/* All that is in the array, words and what is between them, by the device and by the CPU. */
static void check_all(struct svm *s)
{
	uint64_t *want = calloc(PAGES, PAGE);

	igt_assert(want);
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		want[((char *)word(slot) - run.p) / 8] = run.shadow[slot];
	for (uint64_t at = 0; at < PAGES * PAGE; at += SVM_STAGE) {
		uint64_t n = npu_min(SVM_STAGE, PAGES * PAGE - at);

		igt_assert_eq(svm_read(s, run.p + at, n), 0);
		igt_assert(!memcmp(s->stage.cpu, (char *)want + at, n));
	}
	igt_assert(!memcmp(run.p, want, PAGES * PAGE));
	free(want);
}

enum mode { SMALL, HUGE, HOST, DEVICES };

static void test_litmus(enum mode mode)
{
	uint64_t seed = npu_seed(), cpu = 0, npu = 0, total = 0;
	bool repeat = getenv("NPU_TEST_SEED");
	struct drm_gmem_vm_stats stats;

	igt_require_f(mode != DEVICES || npu_devices() >= 2, "it takes two NPUs\n");
	memset(&run, 0, sizeof(run));
	run.p = svm_anon(PAGES * PAGE, mode == HUGE ? SVM_HUGE : SVM_SMALL);
	run.spare = svm_anon(PAGES * PAGE, SVM_SMALL);
	run.fixed = mode == HOST;
	run.limit = npu_scale(STEPS);
	run.end = repeat ? 0 : svm_seconds() + npu_scale(SECONDS);
	for (int i = 0; i < 2; i++) {
		svm_init(&run.s[i], mode == DEVICES ? svm_open_device(i) : npu_open());
		if (mode == HOST)
			igt_assert_eq(svm_advise(&run.s[i], run.p, PAGES * PAGE, DRM_GMEM_ATTR_ACCESS,
						 DRM_GMEM_ACCESS_IN_PLACE), 0);
	}
	for (int i = 0; i < NPUS; i++)
		worker_init(&run.npu[i].worker, &run.s[i == NPUS - 1]);
	for (int i = 0; i < DISTURBERS; i++)
		worker_init(&run.disturber[i].worker, &run.s[i]);
	for (int i = 0; i < CPUS; i++)
		run.cpu[i].seed = npu_random(&seed);
	for (int i = 0; i < NPUS; i++)
		run.npu[i].seed = npu_random(&seed);
	for (int i = 0; i < DISTURBERS; i++)
		run.disturber[i].seed = npu_random(&seed);

	for (int i = 0; i < CPUS; i++)
		svm_thread(&run.cpu[i].thread, cpu_thread, &run.cpu[i]);
	for (int i = 0; i < NPUS; i++)
		svm_thread(&run.npu[i].thread, npu_thread, &run.npu[i]);
	for (int i = 0; i < DISTURBERS; i++)
		svm_thread(&run.disturber[i].thread, disturber_thread, &run.disturber[i]);
	for (int i = 0; i < CPUS; i++) {
		svm_join(run.cpu[i].thread);
		cpu += run.cpu[i].steps;
	}
	for (int i = 0; i < NPUS; i++) {
		svm_join(run.npu[i].thread);
		npu += run.npu[i].steps;
	}
	for (int i = 0; i < DISTURBERS; i++)
		svm_join(run.disturber[i].thread);
	igt_assert_f(!run.failed, "%s", run.failure);

	igt_info("%llu words by the CPU, %llu by the NPU\n", (unsigned long long)cpu,
		 (unsigned long long)npu);
	for (int what = 0; what < DISTURBANCES; what++) {
		uint64_t count = 0;

		for (int i = 0; i < DISTURBERS; i++)
			count += run.disturber[i].count[what];
		igt_info("%6llu times %s\n", (unsigned long long)count, names[what]);
		total += count;
	}
	stats = svm_stats(&run.s[0]);
	igt_info("%llu faults, %llu merged, %llu bad, %llu retries, %llu invalidations\n",
		 stats.faults, stats.merged, stats.bad, stats.retries, stats.invalidations);
	if (!repeat) {
		igt_assert_lt_u64(0, cpu);
		igt_assert_lt_u64(0, npu);
		igt_assert_lt_u64(0, total);
	}
	check_all(&run.s[0]);
	check_all(&run.s[1]);
	svm_free(run.p, PAGES * PAGE);
	svm_free(run.spare, PAGES * PAGE);
	for (int i = 0; i < 2; i++)
		svm_drop(&run.s[i]);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Small pages");
	igt_subtest("small")
		test_litmus(SMALL);

	igt_describe("Huge pages");
	igt_subtest("huge")
		test_litmus(HUGE);

	igt_describe("Pages that stay in the host");
	igt_subtest("host")
		test_litmus(HOST);

	igt_describe("Two NPUs");
	igt_subtest("devices")
		test_litmus(DEVICES);
}
