// SPDX-License-Identifier: MIT
/* hmm-tests.c on the NPU: jobs read and write all kinds of memory. */

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "npu_hmm.h"

IGT_TEST_DESCRIPTION("The scenarios of hmm-tests.c: what jobs read and write");

#define SIZE	HMM_BUFFER_SIZE

/* A VM with a mirror and nothing done with it. */
static void test_open_close(void)
{
	struct drm_gmem_vm_stats stats;
	int base = npu_open();
	uint64_t before = npu_mem_free(base);
	struct svm s;

	svm_open(&s);
	stats = svm_stats(&s);
	igt_assert_eq_u64(stats.faults | stats.to_device | stats.made | stats.stayed, 0);
	igt_assert_eq_u64(stats.mirrored | stats.extents, 0);
	svm_close(&s);
	npu_assert_mem_free(base, before);
	close(base);
}

/* Pages that were never touched, the zero page and written ones, that the CPU may only read. */
static void test_anon_read(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct svm s;

	svm_open(&s);
	svm_put(p + 2 * PAGE, SIZE - 2 * PAGE, 1);
	igt_assert_eq(mprotect(p, SIZE, PROT_READ), 0);
	igt_assert_eq(((volatile char *)p)[PAGE], 0);

	igt_assert_eq(svm_read(&s, p, SIZE), 0);
	igt_assert_eq_u64(svm_find_byte(s.stage.cpu, 2 * PAGE, 0), ~0ull);
	igt_assert_eq_u64(svm_find((char *)s.stage.cpu + 2 * PAGE, SIZE - 2 * PAGE, 1), ~0ull);
	igt_assert_eq_u64(svm_where(&s, p, SIZE).nowhere, 0);
	svm_assert_on_device(&s, p + 2 * PAGE, SIZE - 2 * PAGE);
	igt_assert_lt_u64(0, svm_stats(&s).faults);
	igt_assert_eq_u64(svm_stats(&s).bad, 0);

	/* The CPU may not write, so neither may the device. */
	svm_assert_fault(&s, svm_poke(&s, p + 5 * PAGE, 0), p + 5 * PAGE, NPU_NOT_WRITABLE,
			 NPU_WRITE);
	svm_assert_cpu_bytes(p, 2 * PAGE, 0);
	svm_assert_cpu(p + 2 * PAGE, SIZE - 2 * PAGE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

static void test_anon_read_prot(void)
{
	char *p = svm_anon(SIZE, SVM_DEFAULT);
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	igt_assert_eq(mprotect(p, SIZE, PROT_NONE), 0);
	svm_assert_fault(&s, svm_read(&s, p, SIZE), p, NPU_NOT_MAPPED, NPU_READ);
	svm_assert_where(&s, p, SIZE, nowhere);
	igt_assert_eq_u64(svm_stats(&s).bad, 1);

	/* Nothing was read. */
	igt_assert_eq_u64(svm_find_byte(s.stage.cpu, SIZE, 0x5a), ~0ull);
	igt_assert_eq(mprotect(p, SIZE, PROT_READ), 0);
	svm_assert_cpu(p, SIZE, 1);
	svm_assert_device(&s, p, SIZE, 1);
	npu_assert_alive(&s.ctx);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* Memory that nobody touched before. */
static void test_anon_write(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct drm_gmem_vm_stats stats;
	struct svm s;

	svm_open(&s);
	igt_assert_eq(svm_write(&s, p, SIZE, 1), 0);
	svm_assert_on_device(&s, p, SIZE);
	stats = svm_stats(&s);
	igt_assert_lt_u64(0, stats.faults);
	igt_assert_lte_u64(SIZE, stats.made);
	igt_assert_lte_u64(SIZE, stats.mirrored);
	igt_assert_lt_u64(0, stats.bytes);

	svm_assert_cpu(p, SIZE, 1);
	svm_assert_off_device(&s, p, SIZE);
	igt_assert_eq_u64(svm_present(p, SIZE), SIZE / PAGE);
	svm_free(p, SIZE);
	svm_close(&s);
}

static void test_anon_write_prot(void)
{
	char *p = svm_anon(SIZE, SVM_DEFAULT);
	struct svm s;

	svm_open(&s);
	igt_assert_eq(mprotect(p, SIZE, PROT_READ), 0);
	igt_assert_eq(svm_read(&s, p, PAGE), 0);
	igt_assert_eq_u64(svm_find_byte(s.stage.cpu, PAGE, 0), ~0ull);
	svm_assert_fault(&s, svm_write(&s, p, SIZE, 1), p, NPU_NOT_WRITABLE, NPU_WRITE);
	svm_assert_cpu_bytes(p, SIZE, 0);

	igt_assert_eq(mprotect(p, SIZE, PROT_READ | PROT_WRITE), 0);
	igt_assert_eq(svm_write(&s, p, SIZE, 1), 0);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* A child's device writes to what it inherited: the parent's stays as it was. */
static void test_anon_write_child(void)
{
	for (int variant = 0; variant < 8; variant++) {
		bool migrate = variant & 1, huge = variant & 2, cpu_first = variant & 4;
		uint64_t size = huge ? MIB(2) : SIZE;
		char *p = svm_anon(size, huge ? SVM_HUGE : SVM_SMALL);
		struct svm s;

		svm_open(&s);
		svm_put(p, size, 1);
		if (migrate)
			svm_to_device(&s, p, size);
		igt_fork(child, 1) {
			struct svm mine;

			svm_open(&mine);
			if (cpu_first)
				svm_assert_cpu(p, size, 1);
			svm_assert_device(&mine, p, size, 1);
			igt_assert_eq(svm_write(&mine, p, size, 2), 0);
			svm_assert_cpu(p, size, 2);
			svm_assert_device(&mine, p, size, 2);
			svm_close(&mine);
		}
		igt_waitchildren();
		svm_assert_device(&s, p, size, 1);
		svm_assert_cpu(p, size, 1);
		svm_free(p, size);
		svm_close(&s);
	}
}

static void test_anon_write_child_shared(void)
{
	char *p = svm_map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	struct svm s;

	igt_assert(p);
	svm_open(&s);
	svm_put(p, SIZE, 1);
	svm_assert_device(&s, p, SIZE, 1);
	igt_fork(child, 1) {
		struct svm mine;

		svm_open(&mine);
		svm_assert_cpu(p, SIZE, 1);
		svm_assert_device(&mine, p, SIZE, 1);
		igt_assert_eq(svm_write(&mine, p, SIZE, 2), 0);
		svm_assert_cpu(p, SIZE, 2);
		svm_assert_where(&mine, p, SIZE, host);
		svm_close(&mine);
	}
	igt_waitchildren();
	svm_assert_device(&s, p, SIZE, 2);
	svm_assert_cpu(p, SIZE, 2);
	svm_assert_where(&s, p, SIZE, host);
	svm_free(p, SIZE);
	svm_close(&s);
}

static void test_anon_write_huge(void)
{
	char *p = svm_anon(MIB(2), SVM_HUGE);
	struct svm s;

	svm_open(&s);
	igt_assert_eq(svm_write(&s, p, MIB(2), 1), 0);
	svm_assert_on_device(&s, p, MIB(2));
	svm_assert_cpu(p, MIB(2), 1);
	svm_free(p, MIB(2));
	svm_close(&s);
}

#define HUGE_PAGES	"/proc/sys/vm/nr_hugepages"

/* A page of hugetlb; *@before for put_hugetlb(). */
static char *get_hugetlb(uint64_t *before)
{
	char *p, text[24];

	*before = svm_number(HUGE_PAGES);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)*before + 2);
	igt_require_f(npu_sysfs_write(HUGE_PAGES, text) == 0, "no huge pages of hugetlb\n");
	p = svm_map(MIB(2), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	igt_require_f(p, "no huge page of hugetlb is free\n");
	return p;
}

static void put_hugetlb(char *p, uint64_t before)
{
	char text[24];

	svm_free(p, MIB(2));
	snprintf(text, sizeof(text), "%llu", (unsigned long long)before);
	npu_sysfs_write(HUGE_PAGES, text);
}

static void test_anon_write_hugetlbfs(void)
{
	uint64_t before;
	char *p = get_hugetlb(&before);
	struct svm s;

	svm_open(&s);
	igt_assert_eq(svm_write(&s, p, MIB(2), 1), 0);
	svm_assert_where(&s, p, MIB(2), host);
	svm_assert_cpu(p, MIB(2), 1);
	svm_assert_where(&s, p, MIB(2), host);
	svm_put(p, MIB(2), 2);
	svm_assert_device(&s, p, MIB(2), 2);
	put_hugetlb(p, before);
	svm_close(&s);
}

static void test_file_read(void)
{
	int file = svm_temp_file("/tmp", SIZE);
	char *p = svm_map(SIZE, PROT_READ, MAP_SHARED, file), *data = malloc(SIZE);
	struct svm s;

	igt_assert(p && data);
	svm_open(&s);
	svm_put(data, SIZE, 1);
	igt_assert_eq(pwrite(file, data, SIZE, 0), SIZE);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_where(&s, p, SIZE, host);

	/* What is written to the file by others is seen at once. */
	svm_put(data, SIZE, 2);
	igt_assert_eq(pwrite(file, data, SIZE, 0), SIZE);
	svm_assert_device(&s, p, SIZE, 2);
	svm_free(p, SIZE);
	free(data);
	close(file);
	svm_close(&s);
}

static void test_file_write(void)
{
	int file = svm_temp_file("/tmp", SIZE);
	char *p = svm_map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file), *data = malloc(SIZE);
	struct svm s;

	igt_assert(p && data);
	svm_open(&s);
	igt_assert_eq(svm_write(&s, p, SIZE, 1), 0);
	svm_assert_where(&s, p, SIZE, host);
	svm_assert_cpu(p, SIZE, 1);
	igt_assert_eq(pread(file, data, SIZE, 0), SIZE);
	svm_assert_cpu(data, SIZE, 1);
	svm_free(p, SIZE);
	free(data);
	close(file);
	svm_close(&s);
}

static void test_anon_read_multiple(void)
{
	struct svm s;

	svm_open(&s);
	for (int i = 0; i < HMM_TIMES; i++) {
		char *p = svm_anon(SIZE, SVM_DEFAULT);

		svm_put(p, SIZE, i);
		svm_assert_device(&s, p, SIZE, i);
		svm_assert_on_device(&s, p, SIZE);
		svm_free(p, SIZE);
	}
	svm_close(&s);
}

/* A thread that unmaps the second half of a buffer once the device has begun to read it. */
struct teardown {
	char *p;
	volatile uint64_t *started;
	uint64_t spin;
	volatile int failed;
};

static void *unmap_half(void *arg)
{
	struct teardown *t = arg;

	for (int ms = 0; !*t->started && ms < 60000; ms++)
		usleep(1000);
	for (volatile uint64_t i = 0; i < t->spin; i++)
		;
	t->failed = munmap(t->p + SIZE / 2, SIZE / 2);
	return NULL;
}

static void test_anon_teardown(void)
{
	unsigned int faults = 0;
	uint64_t seed = npu_seed();
	struct svm s;

	svm_open(&s);
	for (int i = 0; i < HMM_TIMES; i++) {
		char *p = svm_anon(SIZE, SVM_SMALL);
		struct npu_cell cell = npu_cell(&s.ctx, 0);
		struct teardown t = {
			.p = p, .started = cell.cpu, .spin = npu_random(&seed) % 3000000,
		};
		struct npu_cb cb;
		pthread_t thread;
		uint64_t valid = SIZE;
		int result;

		svm_put(p, SIZE, i);
		memset(s.stage.cpu, 0x5a, SIZE);
		svm_thread(&thread, unmap_half, &t);
		cb = npu_begin(&s.ctx);
		npu_cmd_write(&cb, cell.va, 1);
		npu_cmd_copy(&cb, s.stage.va, svm_va(p), SIZE);
		result = npu_run(&s.ctx, &cb);
		svm_join(thread);
		igt_assert_eq(t.failed, 0);

		/* What came before the access that failed was read, and rightly so. */
		if (result) {
			uint64_t at = s.ctx.status.detail & ~(PAGE - 1);

			igt_assert_lte_u64(svm_va(p) + SIZE / 2, at);
			igt_assert_lt_u64(at, svm_va(p) + SIZE);
			svm_assert_fault(&s, result, (char *)at, NPU_NOT_MAPPED, NPU_READ);
			valid = at - svm_va(p);
			faults++;
		}
		igt_assert_eq_u64(svm_find(s.stage.cpu, valid, i), ~0ull);
		svm_assert_fault(&s, svm_touch(&s, p + SIZE / 2), p + SIZE / 2, NPU_NOT_MAPPED,
				 NPU_READ);
		svm_assert_cpu(p, SIZE / 2, i);
		svm_free(p, SIZE / 2);
	}
	igt_info("%u of %d jobs met the hole\n", faults, HMM_TIMES);
	svm_close(&s);
}

/* Memory without pages of its own, VM_IO and VM_PFNMAP: not for the device, and only for that job. */
static void test_mixedmap(void)
{
	static const uint32_t placements[] = { NPU_HOST, NPU_VISIBLE };
	struct svm s;

	svm_open(&s);
	for (size_t i = 0; i < ARRAY_LEN(placements); i++) {
		uint64_t offset;
		uint32_t bo;
		char *p;

		if (npu_bo_create(s.ctx.fd, KIB(64), placements[i], &bo)) {
			igt_assert(placements[i] == NPU_VISIBLE);
			continue;
		}
		igt_assert_eq(npu_bo_offset(s.ctx.fd, bo, &offset), 0);
		p = mmap(NULL, KIB(64), PROT_READ | PROT_WRITE, MAP_SHARED, s.ctx.fd, offset);
		igt_assert(p != MAP_FAILED);
		svm_put(p, KIB(64), 1);
		svm_assert_where(&s, p, KIB(64), nowhere);
		svm_assert_fault(&s, svm_touch(&s, p), p, NPU_NOT_MAPPED, NPU_READ);
		svm_assert_fault(&s, svm_poke(&s, p + PAGE, 0), p + PAGE, NPU_NOT_MAPPED,
				 NPU_WRITE);
		igt_assert_eq(svm_prefetch(&s, p, KIB(64), DRM_GMEM_LOCATION_DEVICE), 0);
		igt_assert_eq_u64(s.prefetch.moved | s.prefetch.mapped, 0);
		svm_assert_where(&s, p, KIB(64), nowhere);
		svm_assert_cpu(p, KIB(64), 1);
		npu_assert_alive(&s.ctx);
		igt_assert_eq(munmap(p, KIB(64)), 0);
		igt_assert_eq(npu_bo_close(s.ctx.fd, bo), 0);
	}
	svm_close(&s);
}

/* What query_range says of all kinds of pages; it makes none of them come. */
static void test_snapshot(void)
{
	char *p = svm_anon(7 * PAGE, SVM_SMALL);
	uint64_t faults;
	struct hmm2 h;

	hmm2_open(&h);
	/* Page 0 can't be read, 1 is a hole, 2 zero and read-only, 3 read-only, 4 and up written. */
	igt_assert_eq(munmap(p + PAGE, PAGE), 0);
	for (int i = 3; i < 7; i++)
		svm_put(p + i * PAGE, PAGE, i);
	igt_assert_eq(mprotect(p, PAGE, PROT_NONE), 0);
	igt_assert_eq(mprotect(p + 2 * PAGE, 2 * PAGE, PROT_READ), 0);
	igt_assert_eq(((volatile char *)p)[2 * PAGE], 0);
	for (int i = 0; i < 2; i++)
		igt_assert_eq(svm_advise(&h.s[i], p, 7 * PAGE, DRM_GMEM_ATTR_GRANULARITY, 12), 0);
	svm_to_device(&h.s[0], p + 5 * PAGE, PAGE);
	svm_to_device(&h.s[1], p + 6 * PAGE, PAGE);

	faults = svm_stats(&h.s[0]).faults;
	svm_assert_where(&h.s[0], p, 2 * PAGE, nowhere);
	igt_assert_eq_u64(svm_where(&h.s[0], p + 2 * PAGE, 3 * PAGE).device, 0);
	svm_assert_where(&h.s[0], p + 5 * PAGE, PAGE, device);
	if (!h.same)
		svm_assert_off_device(&h.s[0], p + 6 * PAGE, PAGE);
	igt_assert_eq_u64(svm_stats(&h.s[0]).faults, faults);
	igt_assert_eq_u64(svm_present(p + 2 * PAGE, 3 * PAGE), 3);
	igt_assert_eq_u64(svm_present(p + 5 * PAGE, 2 * PAGE), 0);

	/* What a job may do with each of them. */
	svm_assert_fault(&h.s[0], svm_touch(&h.s[0], p), p, NPU_NOT_MAPPED, NPU_READ);
	svm_assert_fault(&h.s[0], svm_touch(&h.s[0], p + PAGE), p + PAGE, NPU_NOT_MAPPED, NPU_READ);
	svm_assert_device_bytes(&h.s[0], p + 2 * PAGE, PAGE, 0);
	svm_assert_fault(&h.s[0], svm_poke(&h.s[0], p + 2 * PAGE, 1), p + 2 * PAGE,
			 NPU_NOT_WRITABLE, NPU_WRITE);
	svm_assert_device(&h.s[0], p + 3 * PAGE, PAGE, 3);
	svm_assert_fault(&h.s[0], svm_poke(&h.s[0], p + 3 * PAGE, 1), p + 3 * PAGE,
			 NPU_NOT_WRITABLE, NPU_WRITE);
	for (int i = 4; i < 7; i++) {
		svm_assert_device(&h.s[0], p + i * PAGE, PAGE, i);
		igt_assert_eq(svm_write(&h.s[0], p + i * PAGE, PAGE, i + 10), 0);
		svm_assert_device(&h.s[1], p + i * PAGE, PAGE, i + 10);
		svm_assert_cpu(p + i * PAGE, PAGE, i + 10);
	}
	svm_free(p, PAGE);
	svm_free(p + 2 * PAGE, 5 * PAGE);
	hmm2_close(&h);
}

/* A huge page is mapped as one, for reading and writing and for reading only. */
static void test_compound(void)
{
	struct drm_gmem_range range;
	struct drm_gmem_vm_stats stats;
	uint64_t before;
	char *p = get_hugetlb(&before);
	struct svm s;

	svm_open(&s);
	svm_put(p, MIB(2), 1);
	for (int round = 0; round < 2; round++) {
		igt_assert_eq(svm_prefetch(&s, p, MIB(2), DRM_GMEM_LOCATION_DEVICE), 0);
		igt_assert_eq_u64(s.prefetch.moved, 0);
		igt_assert_eq_u64(s.prefetch.mapped, MIB(2));
		igt_assert_eq(npu_ranges(&s.ctx, svm_va(p), MIB(2), &range, 1), 1);
		igt_assert_eq_u32(range.mapping, DRM_GMEM_MAPPING_MIRROR);
		igt_assert_eq_u32(range.residency, DRM_GMEM_RESIDENT_HOST);
		stats = svm_stats(&s);
		igt_assert_eq_u64(stats.mirrored, MIB(2));
		igt_assert_eq_u64(stats.extents, 1);
		svm_assert_device(&s, p, MIB(2), 1);
		if (round == 0) {
			igt_assert_eq(svm_poke(&s, p + MIB(1), 0x1234), 0);
			igt_assert_eq_u64(*(volatile uint64_t *)(p + MIB(1)), 0x1234);
			svm_put(p, MIB(2), 1);
			igt_assert_eq(mprotect(p, MIB(2), PROT_READ), 0);
		} else {
			svm_assert_fault(&s, svm_poke(&s, p + MIB(1), 0x1234), p + MIB(1),
					 NPU_NOT_WRITABLE, NPU_WRITE);
		}
	}
	svm_assert_cpu(p, MIB(2), 1);
	put_hugetlb(p, before);
	svm_close(&s);
}

/* Two devices, or two clients of one, read the same memory, which moves to one of them. */
static void test_double_map(void)
{
	const uint64_t size = 6 * PAGE;
	char *p = svm_anon(size, SVM_SMALL);
	struct hmm2 h;

	hmm2_open(&h);
	svm_put(p, size, 1);
	igt_assert_eq(mprotect(p, size, PROT_READ), 0);
	for (int i = 0; i < 2; i++)
		svm_assert_device(&h.s[i], p, size, 1);
	svm_to_device(&h.s[1], p, size);
	svm_assert_device(&h.s[0], p, size, 1);
	svm_assert_device(&h.s[1], p, size, 1);

	/* Each sees what the other writes. */
	igt_assert_eq(mprotect(p, size, PROT_READ | PROT_WRITE), 0);
	for (int i = 0; i < 8; i++) {
		igt_assert_eq(svm_write(&h.s[i & 1], p, size, 2 + i), 0);
		svm_assert_device(&h.s[~i & 1], p, size, 2 + i);
		if (i & 4)
			svm_assert_cpu(p, size, 2 + i);
	}
	svm_free(p, size);
	hmm2_close(&h);
}

static void test_userfaultfd_read(void)
{
	const uint64_t size = 4 * PAGE;
	char *p = svm_anon(size, SVM_SMALL);
	struct svm_uffd u = { .fd = svm_uffd_open() };
	struct svm s;

	svm_open(&s);
	svm_uffd_register(u.fd, p, size, UFFDIO_REGISTER_MODE_MISSING);
	svm_uffd_start(&u, 0xab);
	svm_assert_device_bytes(&s, p, size, 0xab);
	igt_assert_eq_u32(u.missing, size / PAGE);
	svm_assert_cpu_bytes(p, size, 0xab);
	svm_uffd_stop(&u);
	close(u.fd);
	svm_free(p, size);
	svm_close(&s);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		HMM_TEST("open_close", test_open_close),
		HMM_TEST("anon_read", test_anon_read),
		HMM_TEST("anon_read_prot", test_anon_read_prot),
		HMM_TEST("anon_write", test_anon_write),
		HMM_TEST("anon_write_prot", test_anon_write_prot),
		HMM_TEST("anon_write_child", test_anon_write_child),
		HMM_TEST("anon_write_child_shared", test_anon_write_child_shared),
		HMM_TEST("anon_write_huge", test_anon_write_huge),
		HMM_TEST("anon_write_hugetlbfs", test_anon_write_hugetlbfs),
		HMM_TEST("file_read", test_file_read),
		HMM_TEST("file_write", test_file_write),
		HMM_TEST("anon_read_multiple", test_anon_read_multiple),
		HMM_TEST("anon_teardown", test_anon_teardown),
		HMM_TEST("mixedmap", test_mixedmap),
		HMM_TEST("snapshot", test_snapshot),
		HMM_TEST("compound", test_compound),
		HMM_TEST("double_map", test_double_map),
		HMM_TEST("userfaultfd_read", test_userfaultfd_read),
	};

	igt_fixture()
		close(npu_open());

	svm_run(NULL, tests, ARRAY_LEN(tests));
}
