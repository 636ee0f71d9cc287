// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The benchmark of mirrors: moves memory of this process to a device and back,
 * and lets the device access it, by gmem_vm and by test_hmm. Prints what each
 * took, once for each repetition:
 *
 *	svm CASE SIDE KIND BATCH PAGES TICKS
 *
 * KIND is page, scattered (pages of which none lies behind the one before) or folio
 * (of 2 MiB), BATCH the pages given to one ioctl, PAGES all
 * of them. SIDE is gmem_vm, gmem_vm-nocopy (its device copies nothing) or test_hmm.
 * Besides:
 *
 *	svm-cost WHAT PAGES TICKS	what hardware would do
 *	svm-faults CASE SIDE PAGES FAULTS
 *	svm-book LAYOUT MIRRORED EXTENTS BYTES
 *	svm-queues SIDE QUEUES CPUS PAGES FAULTS TICKS NANOSECONDS
 *
 * `svm` alone runs in a guest with one processor and -icount shift=0, where the TSC
 * counts instructions; `svm queues` in one with several.
 */

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include "sides.h"
#include "svm.h"

#define SIZE		(64UL << 20)
#define REPEAT		4
#define QUEUE_SIZE	(8UL << 20)

static uint64_t now(void)
{
	uint64_t ticks;

	_mm_lfence();
	ticks = __rdtsc();
	_mm_lfence();
	return ticks;
}

static void sysfs(const char *path, const char *value)
{
	FILE *file = fopen(path, "w");

	if (!file || fputs(value, file) < 0 || fclose(file))
		die("%s", path);
}

/* Memory of a kind, aligned to a folio; not touched yet. */
static char *new_region(size_t size, bool folio)
{
	char *all = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	char *start = (char *)(((uintptr_t)all + HUGE - 1) & ~(HUGE - 1));

	if (all == MAP_FAILED)
		die("mmap");
	munmap(all, start - all);
	munmap(start + size, all + HUGE - start);
	if (madvise(start, size, folio ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		die("madvise");
	return start;
}

/* As fill(), so that pages in a row don't lie in a row. */
static void scatter(char *region, size_t size)
{
	size_t i, n = size / PAGE, step = 7919;

	/* The page allocator gives pages in a row to those who ask one after the other. */
	for (i = 0; i < n; i++)
		region[i * step % n * PAGE] = 1;
}

static void fill(char *region, size_t size)
{
	size_t at;

	for (at = 0; at < size; at += PAGE)
		*(uint64_t *)(region + at) = (uintptr_t)region + at;
}

static void check(char *region, size_t size)
{
	size_t at;

	for (at = 0; at < size; at += PAGE)
		if (*(uint64_t *)(region + at) != (uintptr_t)region + at)
			die("wrong data at %#zx", at);
}

/* Fails unless all of the region is mapped by folios, or nothing of it. */
static void check_folios(char *region, size_t size, bool folio)
{
	unsigned long start, end, huge = 0, kib;
	FILE *file = fopen("/proc/self/smaps", "r");
	char line[256];
	bool in = false;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start < (uintptr_t)region + size && (uintptr_t)region < end;
		else if (in && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			huge += kib << 10;
	}
	if (!file || huge != (folio ? size : 0))
		die("%lu of %zu bytes in folios", huge, size);
	fclose(file);
}

static void report(const char *what, const char *side, const char *kind, size_t batch,
		   uint64_t ticks)
{
	printf("svm %s %s %s %zu %lu %lu\n", what, side, kind, batch / PAGE, SIZE / PAGE, ticks);
}

static uint64_t by_batches(void (*f)(char *at, size_t size), char *region, size_t batch)
{
	uint64_t start = now();
	size_t at;

	for (at = 0; at < SIZE; at += batch)
		f(region + at, batch);
	return now() - start;
}

static void migrate(const struct side *side, const char *name, const char *kind, size_t batch)
{
	bool data = strcmp(name, "gmem_vm-nocopy") != 0, folio = !strcmp(kind, "folio");
	uint64_t start, device, verify, host, touch;
	char *region;
	size_t at;
	int i;

	for (i = 0; i <= REPEAT; i++) {
		region = new_region(SIZE, folio);
		if (!strcmp(kind, "scattered"))
			scatter(region, SIZE);
		fill(region, SIZE);
		check_folios(region, SIZE, folio);
		side->attach(region, SIZE, false);
		device = by_batches(side->to_device, region, batch);
		verify = side->verify ? by_batches(side->verify, region, batch) : 0;
		host = by_batches(side->to_host, region, batch);
		check_folios(region, SIZE, folio);
		if (data)
			check(region, SIZE);
		side->to_device(region, SIZE);
		start = now();
		for (at = 0; at < SIZE; at += PAGE)
			*(volatile char *)(region + at);
		touch = now() - start;
		check_folios(region, SIZE, folio);
		if (data)
			check(region, SIZE);
		side->detach();
		munmap(region, SIZE);
		/* The first time warms up. */
		if (!i)
			continue;
		report("to-device", name, kind, batch, device);
		report("to-host", name, kind, batch, host);
		if (side->verify)
			report("verify", name, kind, batch, verify);
		if (batch == HUGE)
			report("cpu-touch", name, kind, PAGE, touch);
	}
}

static void migrate_all(const char *kind, size_t batch)
{
	migrate(&gmem, "gmem_vm", kind, batch);
	gmem_skip_copies(true);
	migrate(&gmem, "gmem_vm-nocopy", kind, batch);
	gmem_skip_copies(false);
	migrate(&test_hmm, "test_hmm", kind, batch);
}

/* The device accesses what lies in the host; a second time, when all is there. */
static void device_faults(const struct side *side, const char *name, const char *what,
			  bool in_place, bool write, bool touched, size_t batch)
{
	uint64_t start, first, second, faults;
	char *region;
	size_t at;
	int i;

	for (i = 0; i <= REPEAT; i++) {
		region = new_region(SIZE, false);
		if (touched)
			fill(region, SIZE);
		side->attach(region, SIZE, in_place);
		faults = 0;
		start = now();
		for (at = 0; at < SIZE; at += batch)
			faults += side->touch(region + at, batch, write, 0);
		first = now() - start;
		start = now();
		for (at = 0; at < SIZE; at += batch)
			if (side->touch(region + at, batch, write, 0))
				die("%s: faults again", what);
		second = now() - start;
		side->detach();
		munmap(region, SIZE);
		if (!i)
			continue;
		report(what, name, "page", batch, first - second);
		printf("svm-faults %s %s %lu %lu\n", what, name, SIZE / PAGE, faults);
	}
}

static void costs(void)
{
	static const char *const names[SVM_COSTS] = {
		[SVM_COST_COPY] = "copy",
		[SVM_COST_ALLOC] = "alloc-page",
		[SVM_COST_FREE] = "free-page",
		[SVM_COST_ALLOC_HUGE] = "alloc-folio",
		[SVM_COST_FREE_HUGE] = "free-folio",
	};
	uint64_t start;
	unsigned int i, j;

	for (i = 0; i < SVM_COSTS; i++)
		for (j = 0; j <= REPEAT; j++) {
			uint64_t ticks = gmem_cost(i, SIZE / PAGE);

			if (j)
				printf("svm-cost %s %lu %lu\n", names[i], SIZE / PAGE, ticks);
		}
	for (j = 0; j < REPEAT; j++) {
		start = now();
		for (i = 0; i < 1000; i++)
			test_hmm_nothing();
		printf("svm-cost ioctl 1000 %lu\n", now() - start);
	}
}

static void book(const char *layout)
{
	uint64_t bytes, extents, mirrored;

	gmem_book(&bytes, &extents, &mirrored);
	printf("svm-book %s %lu %lu %lu\n", layout, mirrored, extents, bytes);
}

static void bookkeeping(size_t size)
{
	size_t i, n = size / PAGE;
	char *region;

	region = new_region(size, true);
	fill(region, size);
	gmem.attach(region, size, false);
	gmem_map_in_place(region, size);
	gmem.to_host(region, size);
	book("host-folios");
	gmem.to_device(region, size);
	book("device-folios");
	gmem.detach();
	munmap(region, size);

	region = new_region(size, false);
	fill(region, size);
	gmem.attach(region, size, false);
	gmem.to_device(region, size);
	book("device-pages");
	gmem.detach();
	munmap(region, size);

	region = new_region(size, false);
	scatter(region, size);
	gmem.attach(region, size, true);
	gmem_map_in_place(region, size);
	book("host-pages-scattered");
	for (i = 0; i < n; i += 2)
		gmem.to_device(region + i * PAGE, PAGE);
	gmem_map_in_place(region, size);
	book("every-other-page");
	gmem.detach();
	munmap(region, size);
}

struct queue {
	pthread_t thread;
	pthread_barrier_t *barrier;
	const struct side *side;
	char *region;
	unsigned int number;
	unsigned int cpus;
	size_t batch;
	uint64_t faults;
};

static void *run_queue(void *arg)
{
	struct queue *queue = arg;
	cpu_set_t cpus;
	size_t at;

	CPU_ZERO(&cpus);
	CPU_SET(queue->number % queue->cpus, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity");
	pthread_barrier_wait(queue->barrier);
	for (at = 0; at < QUEUE_SIZE; at += queue->batch)
		queue->faults += queue->side->touch(queue->region + at, queue->batch, false,
						    queue->number);
	pthread_barrier_wait(queue->barrier);
	return NULL;
}

static void queues(const struct side *side, const char *name, unsigned int n, size_t batch)
{
	unsigned int cpus = sysconf(_SC_NPROCESSORS_ONLN), i;
	struct timespec start, end;
	pthread_barrier_t barrier;
	struct queue queues[8];
	uint64_t ticks, faults = 0;
	char *region = new_region(n * QUEUE_SIZE, false);

	fill(region, n * QUEUE_SIZE);
	side->attach(region, n * QUEUE_SIZE, true);
	pthread_barrier_init(&barrier, NULL, n + 1);
	for (i = 0; i < n; i++) {
		queues[i] = (struct queue) {
			.barrier = &barrier,
			.side = side,
			.region = region + i * QUEUE_SIZE,
			.number = i,
			.cpus = cpus,
			.batch = batch,
		};
		if (pthread_create(&queues[i].thread, NULL, run_queue, &queues[i]))
			die("pthread_create");
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	ticks = now();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	ticks = now() - ticks;
	clock_gettime(CLOCK_MONOTONIC, &end);
	for (i = 0; i < n; i++) {
		pthread_join(queues[i].thread, NULL);
		faults += queues[i].faults;
	}
	side->detach();
	munmap(region, n * QUEUE_SIZE);
	printf("svm-queues %s %u %u %lu %lu %lu %ld\n", name, n, cpus, n * QUEUE_SIZE / PAGE,
	       faults, ticks,
	       (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec);
}

/* Whether one instruction takes one tick. */
static void calibrate(void)
{
	uint64_t n = 1000 * 1000, start = now();

	asm volatile("1: dec %0\n\tjnz 1b" : "+r" (n) : : "cc");
	start = now() - start;
	printf("svm-calibration 2000000 %lu\n", start);
	if (start < 2000000 || start > 2020000) {
		fprintf(stderr, "svm: the TSC does not count instructions\n");
		exit(1);
	}
}

static void run_all(void)
{
	static const size_t batches[] = { SIZE, HUGE, 16 * PAGE, PAGE };
	size_t i;

	calibrate();
	costs();
	for (i = 0; i < sizeof(batches) / sizeof(*batches); i++)
		migrate_all("page", batches[i]);
	migrate_all("scattered", HUGE);
	migrate_all("folio", SIZE);
	migrate_all("folio", HUGE);
	gmem_skip_copies(true);
	device_faults(&gmem, "gmem_vm-nocopy", "fault-by-page", true, false, true, PAGE);
	device_faults(&test_hmm, "test_hmm", "fault-by-page", true, false, true, PAGE);
	device_faults(&gmem, "gmem_vm-nocopy", "fault-new-page", true, true, false, PAGE);
	device_faults(&test_hmm, "test_hmm", "fault-new-page", true, true, false, PAGE);
	device_faults(&gmem, "gmem_vm-nocopy", "fault-in-order", false, false, true, SIZE);
	device_faults(&test_hmm, "test_hmm", "fault-in-order", false, false, true, SIZE);
	gmem_skip_copies(false);
	bookkeeping(SIZE / 4);
	bookkeeping(SIZE);
}

int main(int argc, char **argv)
{
	struct sched_param priority = { .sched_priority = 1 };
	unsigned int n;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sysfs("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	/* Nobody else may make folios of pages. */
	sysfs("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "4000000000");
	gmem_open();
	test_hmm_open();
	if (argc == 2 && !strcmp(argv[1], "queues")) {
		for (n = 1; n <= 4; n *= 2) {
			queues(&gmem, "gmem_vm", n, PAGE);
			queues(&test_hmm, "test_hmm", n, PAGE);
		}
	} else {
		/* Only interrupts shall come between. */
		if (sched_setscheduler(0, SCHED_FIFO, &priority))
			die("sched_setscheduler");
		run_all();
	}
	test_hmm_close();
	printf("svm ended\n");
	return 0;
}
