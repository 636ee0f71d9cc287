// SPDX-License-Identifier: MIT
/* All kinds of memory that a process can have: what a job finds there, and what it may do. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Jobs on all kinds of memory of a process");

#define SIZE	MIB(1)

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

static struct svm s;

/* Memory that CPU and device can write: each sees what the other wrote. @stays: in the host. */
static void check_shared_use(char *p, uint64_t size, bool stays)
{
	uint64_t stayed = svm_stats(&s).stayed;

	svm_put(p, size, 1);
	svm_assert_device(&s, p, size, 1);
	if (stays)
		svm_assert_where(&s, p, size, host);
	else
		svm_assert_on_device(&s, p, size);
	igt_assert_eq(svm_write(&s, p, size, 2), 0);
	svm_assert_cpu(p, size, 2);
	igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(s.prefetch.moved, stays ? 0 : size);
	igt_assert_eq_u64(s.prefetch.mapped, size);
	svm_assert_device(&s, p, size, 2);
	svm_put(p, size, 3);
	svm_assert_device(&s, p, size, 3);
	igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_HOST), 0);
	svm_assert_where(&s, p, size, host);
	igt_assert_eq(svm_write(&s, p, size, 4), 0);
	svm_assert_cpu(p, size, 4);
	if (stays)
		igt_assert_lte_u64(stayed + size, svm_stats(&s).stayed);
}

static void test_anonymous(void)
{
	for (enum svm_pages pages = SVM_DEFAULT; pages <= SVM_HUGE; pages++) {
		char *p = svm_anon(MIB(2), pages);

		check_shared_use(p, MIB(2), false);
		svm_free(p, MIB(2));
	}
}

/* Memory of the program itself; jobs work on what has nothing to do with page borders. */
static uint64_t in_bss[3000];
static uint64_t in_data[3000] = { 1 };

static void check_words(uint64_t *words, uint64_t size)
{
	igt_require_f(svm_va(words) >= SVM_START, "the program is not where it usually is\n");
	svm_put(words, size, 5);
	svm_assert_device(&s, words, size, 5);
	igt_assert_eq(svm_write(&s, words, size, 6), 0);
	svm_assert_cpu(words, size, 6);
	svm_assert_device(&s, words, size, 6);
}

static void test_program(void)
{
	uint64_t on_stack[3000], *small = malloc(24000), *large = malloc(MIB(1) + 24);

	check_words(in_bss, sizeof(in_bss));
	check_words(in_data, sizeof(in_data));
	check_words(on_stack, sizeof(on_stack));
	check_words(small, 24000);
	check_words(large, MIB(1) + 24);
	free(small);
	free(large);
}

/* Code and constants: to be read only; the file stays as it is. */
static void test_text(void)
{
	const char *text = (const char *)(svm_va(&test_text) & ~(PAGE - 1));

	igt_require_f(svm_va(text) >= SVM_START, "the program is not where it usually is\n");
	igt_assert_eq(svm_read(&s, text, PAGE), 0);
	igt_assert(!memcmp(s.stage.cpu, text, PAGE));
	svm_assert_fault(&s, svm_poke(&s, (void *)text, 0), text, NPU_NOT_WRITABLE, NPU_WRITE);
	igt_assert_eq(svm_read(&s, text, PAGE), 0);
	igt_assert(!memcmp(s.stage.cpu, text, PAGE));
}

static void test_shared_anonymous(void)
{
	char *p = svm_map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	igt_assert(p);
	check_shared_use(p, SIZE, true);
	svm_free(p, SIZE);
}

/* A file of tmpfs, or of nowhere, mapped twice; both mappings and the file are one. */
static void check_shared_file(int file)
{
	char *p, *q, *data = malloc(SIZE);

	igt_assert(data);
	igt_assert_eq(ftruncate(file, SIZE), 0);
	p = svm_map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file);
	q = svm_map(SIZE, PROT_READ, MAP_SHARED, file);
	igt_assert(p && q);
	check_shared_use(p, SIZE, true);
	igt_assert_eq(svm_write(&s, p, SIZE, 7), 0);
	svm_assert_device(&s, q, SIZE, 7);
	svm_assert_cpu(q, SIZE, 7);
	igt_assert_eq(pread(file, data, SIZE, 0), SIZE);
	svm_assert_cpu(data, SIZE, 7);
	svm_assert_fault(&s, svm_poke(&s, q, 0), q, NPU_NOT_WRITABLE, NPU_WRITE);
	svm_put(data, SIZE, 8);
	igt_assert_eq(pwrite(file, data, SIZE, 0), SIZE);
	svm_assert_device(&s, p, SIZE, 8);

	/* What the device wrote last is still there for who maps it next. */
	igt_assert_eq(svm_write(&s, p, SIZE, 9), 0);
	svm_free(p, SIZE);
	svm_free(q, SIZE);
	p = svm_map(SIZE, PROT_READ, MAP_SHARED, file);
	svm_assert_cpu(p, SIZE, 9);
	svm_free(p, SIZE);
	free(data);
	close(file);
}

static void test_shared_file(void)
{
	check_shared_file(svm_temp_file("/tmp", SIZE));
}

static void test_memfd(void)
{
	int file = memfd_create("npu", MFD_CLOEXEC);

	igt_assert_fd(file);
	check_shared_file(file);
}

/* A device's write to a private mapping makes a copy of the page. */
static void test_private_file(void)
{
	int file = svm_temp_file("/tmp", SIZE);
	char *p = svm_map(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file), *data = malloc(SIZE);

	igt_assert(p && data);
	svm_put(data, SIZE, 1);
	igt_assert_eq(pwrite(file, data, SIZE, 0), SIZE);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_where(&s, p, SIZE, host);

	/* Every other page is written, and no longer the file's. */
	for (uint64_t at = 0; at < SIZE; at += 2 * PAGE)
		igt_assert_eq(svm_write(&s, p + at, PAGE, at), 0);
	svm_put(data, SIZE, 2);
	igt_assert_eq(pwrite(file, data, SIZE, 0), SIZE);
	for (uint64_t at = 0; at < SIZE; at += 2 * PAGE) {
		svm_assert_device(&s, p + at, PAGE, at);
		svm_assert_cpu(p + at, PAGE, at);
		igt_assert_eq_u64(svm_find_at(p + at + PAGE, PAGE, 2, at + PAGE), ~0ull);
	}
	igt_assert_eq(pread(file, data, SIZE, 0), SIZE);
	svm_assert_cpu(data, SIZE, 2);
	svm_free(p, SIZE);
	free(data);
	close(file);
}

/* A file of the root: read-only, and compressed on its disk. */
static void test_root_file(void)
{
	int file = open("/usr/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY | O_CLOEXEC);
	char *p, *data = malloc(SIZE);

	igt_require_f(file >= 0, "no libc.so.6: %m\n");
	igt_assert(data);
	p = svm_map(SIZE, PROT_READ, MAP_SHARED, file);
	igt_assert(p);
	for (int round = 0; round < 2; round++) {
		igt_assert_eq(pread(file, data, SIZE, 0), SIZE);
		igt_assert_eq(madvise(p, SIZE, MADV_DONTNEED), 0);
		npu_sysfs_write("/proc/sys/vm/drop_caches", "3");
		igt_assert_eq(svm_read(&s, p, SIZE), 0);
		igt_assert(!memcmp(s.stage.cpu, data, SIZE));
	}
	svm_assert_where(&s, p, SIZE, host);
	svm_assert_fault(&s, svm_poke(&s, p, 0), p, NPU_NOT_WRITABLE, NPU_WRITE);
	svm_free(p, SIZE);
	free(data);
	close(file);
}

/* Behind its end a file has no memory; with a hole it has zeros. */
static void test_truncated(void)
{
	int file = svm_temp_file("/tmp", SIZE);
	char *p = svm_map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file);

	igt_assert(p);
	svm_put(p, SIZE, 1);
	svm_assert_device(&s, p, SIZE, 1);
	igt_assert_eq(ftruncate(file, SIZE / 2), 0);
	svm_assert_fault(&s, svm_touch(&s, p + SIZE / 2), p + SIZE / 2, NPU_NOT_MAPPED, NPU_READ);
	svm_assert_fault(&s, svm_poke(&s, p + SIZE - 8, 0), p + SIZE - 8, NPU_NOT_MAPPED, NPU_WRITE);
	svm_assert_device(&s, p, SIZE / 2, 1);
	igt_assert_eq(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, KIB(64)), 0);
	svm_assert_device_bytes(&s, p + PAGE, KIB(64), 0);
	igt_assert_eq_u64(svm_find(p, PAGE, 1), ~0ull);
	igt_assert_eq(ftruncate(file, SIZE), 0);
	svm_assert_device_bytes(&s, p + SIZE / 2, SIZE / 2, 0);
	igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
	svm_assert_cpu(p, SIZE, 2);
	svm_free(p, SIZE);
	close(file);
}

/* Huge pages of hugetlb stay in the host, private and shared ones. */
static void test_hugetlb(void)
{
	static const char pages[] = "/proc/sys/vm/nr_hugepages";
	uint64_t before = svm_number(pages);
	char text[24], *p;
	int file;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)before + 3);
	igt_require_f(npu_sysfs_write(pages, text) == 0, "no huge pages of hugetlb\n");
	p = svm_map(MIB(2), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	igt_require_f(p, "no huge page is free\n");
	check_shared_use(p, MIB(2), true);

	/* After a fork a write makes a copy of the whole of it. */
	svm_put(p, MIB(2), 1);
	svm_assert_device(&s, p, MIB(2), 1);
	igt_fork(child, 1) {
		struct svm mine;

		svm_open(&mine);
		igt_assert_eq(svm_write(&mine, p, MIB(2), 2), 0);
		svm_assert_cpu(p, MIB(2), 2);
		svm_close(&mine);
	}
	igt_waitchildren();
	svm_assert_cpu(p, MIB(2), 1);
	svm_assert_device(&s, p, MIB(2), 1);
	svm_free(p, MIB(2));
	svm_assert_fault(&s, svm_touch(&s, p), p, NPU_NOT_MAPPED, NPU_READ);

	file = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	igt_assert_fd(file);
	igt_assert_eq(ftruncate(file, MIB(2)), 0);
	p = svm_map(MIB(2), PROT_READ | PROT_WRITE, MAP_SHARED, file);
	igt_require_f(p, "no huge page is free\n");
	check_shared_use(p, MIB(2), true);
	svm_free(p, MIB(2));
	close(file);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)before);
	npu_sysfs_write(pages, text);
}

/* Locked memory may move, but is never lost. */
static void test_mlock(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);

	igt_assert_eq(mlock(p, SIZE), 0);
	svm_put(p, SIZE, 1);
	svm_assert_device(&s, p, SIZE, 1);
	igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
	igt_assert_eq(munlock(p, SIZE), 0);
	igt_assert_eq(mlock2(p, SIZE, MLOCK_ONFAULT), 0);
	svm_assert_device(&s, p, SIZE, 2);
	svm_assert_cpu(p, SIZE, 2);
	svm_free(p, SIZE);
}

/* Pages that the process put up as guards. */
static void test_guard(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);

	svm_put(p, SIZE, 1);
	svm_assert_device(&s, p, SIZE, 1);
	igt_require_f(madvise(p + KIB(64), PAGE, MADV_GUARD_INSTALL) == 0, "no guard pages: %m\n");
	svm_assert_fault(&s, svm_touch(&s, p + KIB(64)), p + KIB(64), NPU_NOT_MAPPED, NPU_READ);
	svm_assert_fault(&s, svm_poke(&s, p + KIB(64), 0), p + KIB(64), NPU_NOT_MAPPED, NPU_WRITE);
	svm_assert_device(&s, p, KIB(64), 1);
	igt_assert_eq(svm_read(&s, p + KIB(68), SIZE - KIB(68)), 0);
	igt_assert_eq_u64(svm_find_at(s.stage.cpu, SIZE - KIB(68), 1, KIB(68)), ~0ull);
	igt_assert_eq(madvise(p + KIB(64), PAGE, MADV_GUARD_REMOVE), 0);
	svm_assert_device_bytes(&s, p + KIB(64), PAGE, 0);
	svm_free(p, SIZE);
}

/*
 * Memory that is a device's: an object in the host, and one in visible device memory. The job that
 * touches it ends; those of another queue go on.
 */
static void test_io(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL), *io[2];
	struct npu_bo bo = npu_bo(&s.ctx, KIB(64), NPU_HOST, 0), visible = {};
	uint32_t queue, syncobj = npu_syncobj(s.ctx.fd, 0);

	if (npu_device_info(s.ctx.fd).mem_visible)
		visible = npu_bo(&s.ctx, KIB(64), NPU_VISIBLE, 0);
	io[0] = bo.cpu;
	io[1] = visible.cpu;
	igt_assert_eq(npu_queue_create(s.ctx.fd, &queue), 0);
	svm_put(p, SIZE, 1);
	for (int i = 0; i < 2; i++) {
		struct drm_gmem_sync sync = npu_signal(syncobj);
		struct npu_cb cb;
		uint64_t was;

		if (!io[i])
			continue;
		cb = npu_begin(&s.ctx);
		npu_cmd_copy(&cb, s.stage.va + MIB(2), svm_va(p), SIZE);
		igt_assert_eq(npu_submit(&s.ctx, &cb, queue, &sync, 1), 0);
		svm_assert_fault(&s, svm_touch(&s, io[i]), io[i], NPU_NOT_MAPPED, NPU_READ);
		was = *(volatile uint64_t *)io[i];
		svm_assert_fault(&s, svm_poke(&s, io[i], ~was), io[i], NPU_NOT_MAPPED, NPU_WRITE);
		igt_assert_eq_u64(*(volatile uint64_t *)io[i], was);
		igt_assert_eq(svm_prefetch(&s, io[i], PAGE, DRM_GMEM_LOCATION_HOST), 0);
		igt_assert_eq_u64(s.prefetch.mapped, 0);
		igt_assert_eq(npu_fence_result(s.ctx.fd, syncobj), 0);
		igt_assert_eq_u64(svm_find((char *)s.stage.cpu + MIB(2), SIZE, 1), ~0ull);
	}
	npu_bo_free(&s.ctx, &bo);
	if (visible.cpu)
		npu_bo_free(&s.ctx, &visible);
	igt_assert_eq(npu_queue_destroy(s.ctx.fd, queue), 0);
	svm_free(p, SIZE);
}

/* One job across memory of many kinds, which begin and end anywhere. */
static void test_across(void)
{
	int file = svm_temp_file("/tmp", 4 * PAGE);
	char *p = svm_anon(32 * PAGE, SVM_SMALL);

	igt_assert(mmap(p + 4 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			file, 0) == p + 4 * PAGE);
	igt_assert(mmap(p + 12 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
			file, 0) == p + 12 * PAGE);
	igt_assert(mmap(p + 20 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 20 * PAGE);
	for (int round = 0; round < 4; round++) {
		/* The private pages of the file are written before it changes below them. */
		igt_assert_eq(svm_write(&s, p, 32 * PAGE, round), 0);
		svm_assert_device(&s, p, 32 * PAGE, round);
		svm_assert_where(&s, p + 4 * PAGE, 4 * PAGE, host);
		svm_assert_where(&s, p + 20 * PAGE, 4 * PAGE, host);
		/* After a prefetch to the host it is mapped there, and no fault takes it away. */
		if (round < 3)
			svm_assert_on_device(&s, p, 4 * PAGE);
		svm_assert_cpu(p, 32 * PAGE, round);
		svm_put(p, 32 * PAGE, 10 + round);
		svm_assert_device(&s, p, 32 * PAGE, 10 + round);
		if (round == 1)
			igt_assert_eq(svm_prefetch(&s, p, 32 * PAGE, DRM_GMEM_LOCATION_DEVICE), 0);
		else if (round == 2)
			igt_assert_eq(svm_prefetch(&s, p, 32 * PAGE, DRM_GMEM_LOCATION_HOST), 0);
	}
	svm_free(p, 32 * PAGE);
	close(file);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		{ "anonymous", "Private memory goes to the device", test_anonymous },
		{ "program", "Data, stack and heap of the program", test_program },
		{ "text", "Code of the program", test_text },
		{ "shared-anonymous", "Shared memory stays", test_shared_anonymous },
		{ "shared-file", "A file, shared", test_shared_file },
		{ "memfd", "A memfd, shared", test_memfd },
		{ "private-file", "A file, private", test_private_file },
		{ "root-file", "A file on a disk", test_root_file },
		{ "truncated", "Files without memory behind them", test_truncated },
		{ "hugetlb", "Huge pages of hugetlb", test_hugetlb },
		{ "mlock", "Locked memory", test_mlock },
		{ "guard", "Guard pages", test_guard },
		{ "io", "VM_IO and VM_PFNMAP are errors of that job only", test_io },
		{ "across", "One job across several kinds", test_across },
	};

	igt_fixture()
		close(npu_open());

	svm_run(&s, tests, ARRAY_LEN(tests));
}
