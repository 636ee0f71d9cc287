// SPDX-License-Identifier: MIT
/* hmm-tests.c on the NPU: memory that moves to the device and back. */

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "npu_hmm.h"

IGT_TEST_DESCRIPTION("The scenarios of hmm-tests.c: migration");

#define SIZE	HMM_BUFFER_SIZE

/* Goes to the device as a whole, as the ioctl, query_range and the CPU's page table say. */
static void migrate_all(struct svm *s, char *p, uint64_t size)
{
	uint64_t copied = svm_stats(s).to_device, made = svm_stats(s).made;

	svm_to_device(s, p, size);
	igt_assert_eq_u64(s->prefetch.moved, size);
	igt_assert_eq_u64(s->prefetch.mapped, size);
	igt_assert_eq_u64(svm_swapped(p, size), size / PAGE);
	igt_assert_eq_u64(svm_stats(s).to_device - copied + svm_stats(s).made - made, size);
}

static void test_migrate(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	uint64_t faults;
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	migrate_all(&s, p, SIZE);

	/* The device finds it there, without a fault. */
	faults = svm_stats(&s).faults;
	svm_assert_device(&s, p, SIZE, 1);
	igt_assert_eq_u64(svm_stats(&s).faults, faults);
	svm_assert_on_device(&s, p, SIZE);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* Private copies of a file's pages are nobody else's, and move; the file stays as it is. */
static void test_migrate_file_private(void)
{
	int file = svm_temp_file("/tmp", SIZE);
	char *p = svm_map(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file), *data = malloc(SIZE);
	struct svm s;

	igt_assert(p && data);
	svm_open(&s);
	svm_put(data, SIZE, 7);
	igt_assert_eq(pwrite(file, data, SIZE, 0), SIZE);
	svm_put(p, SIZE, 1);
	migrate_all(&s, p, SIZE);
	svm_assert_device(&s, p, SIZE, 1);
	igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
	svm_assert_cpu(p, SIZE, 2);
	igt_assert_eq(pread(file, data, SIZE, 0), SIZE);
	svm_assert_cpu(data, SIZE, 7);
	svm_free(p, SIZE);
	free(data);
	close(file);
	svm_close(&s);
}

/* Half of it comes back; then the mixture goes to the device. */
static void test_migrate_fault(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	migrate_all(&s, p, SIZE);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_cpu(p, SIZE / 2, 1);
	svm_assert_off_device(&s, p, SIZE / 2);
	svm_assert_on_device(&s, p + SIZE - PAGE, PAGE);
	svm_to_device(&s, p, SIZE);
	igt_assert_lte_u64(SIZE / 2, s.prefetch.moved);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* The client goes away while its memory is on the device. */
static void test_migrate_release(void)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	for (int way = 0; way < 3; way++) {
		char *p = svm_anon(SIZE, way & 1 ? SVM_SMALL : SVM_HUGE);
		struct svm s;

		svm_open(&s);
		svm_put(p, SIZE, way);
		migrate_all(&s, p, SIZE);
		svm_assert_device(&s, p, SIZE, way);
		if (way == 0)
			igt_assert_eq(npu_vm_destroy(s.ctx.fd, s.ctx.vm), 0);
		else if (way == 1)
			svm_close(&s);
		else
			svm_drop(&s);
		svm_assert_cpu(p, SIZE / 2, way);
		svm_free(p, SIZE);
		if (way == 0)
			svm_drop(&s);
		npu_assert_mem_free(base, before);
	}
	close(base);
}

static void test_migrate_shared(void)
{
	char *p = svm_map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	struct svm s;

	igt_assert(p);
	svm_open(&s);
	svm_put(p, SIZE, 1);
	igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(s.prefetch.moved, 0);
	igt_assert_eq_u64(s.prefetch.mapped, SIZE);
	svm_assert_where(&s, p, SIZE, host);
	igt_assert_eq_u64(svm_present(p, SIZE), SIZE / PAGE);
	igt_assert_lte_u64(SIZE, svm_stats(&s).stayed);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* Page 0 can't be read, 1 is a hole, 2 zero and read-only, 3 read-only, 4 and 5 written. */
static void test_migrate_mixed(void)
{
	char *p = svm_anon(6 * PAGE, SVM_SMALL);
	struct hmm2 h;

	hmm2_open(&h);
	igt_assert_eq(mprotect(p, 6 * PAGE, PROT_NONE), 0);
	igt_assert_eq(svm_prefetch(&h.s[1], p, 6 * PAGE, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(h.s[1].prefetch.moved | h.s[1].prefetch.mapped, 0);
	igt_assert_eq(munmap(p + PAGE, PAGE), 0);
	igt_assert_eq(svm_prefetch(&h.s[1], p, 3 * PAGE, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(h.s[1].prefetch.moved | h.s[1].prefetch.mapped, 0);
	svm_assert_where(&h.s[1], p, 3 * PAGE, nowhere);

	igt_assert_eq(mprotect(p + 2 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE), 0);
	for (int i = 3; i < 6; i++)
		svm_put(p + i * PAGE, PAGE, i);
	igt_assert_eq(mprotect(p + 2 * PAGE, 2 * PAGE, PROT_READ), 0);
	igt_assert_eq(((volatile char *)p)[2 * PAGE], 0);
	migrate_all(&h.s[1], p + 2 * PAGE, 4 * PAGE);

	/* What is on one device can go to another; for a second client of the same it's there. */
	igt_assert_eq(svm_prefetch(&h.s[0], p + 5 * PAGE, PAGE, DRM_GMEM_LOCATION_DEVICE), 0);
	if (h.same)
		igt_assert_eq_u64(h.s[0].prefetch.moved, 0);
	svm_assert_device(&h.s[0], p + 5 * PAGE, PAGE, 5);
	svm_assert_device_bytes(&h.s[1], p + 2 * PAGE, PAGE, 0);
	for (int i = 3; i < 6; i++)
		svm_assert_device(&h.s[1], p + i * PAGE, PAGE, i);
	svm_assert_cpu_bytes(p + 2 * PAGE, PAGE, 0);
	for (int i = 3; i < 6; i++)
		svm_assert_cpu(p + i * PAGE, PAGE, i);
	svm_free(p, PAGE);
	svm_free(p + 2 * PAGE, 4 * PAGE);
	hmm2_close(&h);
}

static void test_migrate_multiple(void)
{
	struct svm s;

	svm_open(&s);
	for (int i = 0; i < HMM_TIMES; i++) {
		char *p = svm_anon(SIZE, SVM_SMALL);

		svm_put(p, SIZE, i);
		migrate_all(&s, p, SIZE);
		svm_assert_device(&s, p, SIZE, i);
		/* By faults of the CPU, or by request. */
		if (i & 1) {
			svm_to_host(&s, p, SIZE);
			igt_assert_eq_u64(s.prefetch.moved, SIZE);
			igt_assert_eq_u64(svm_present(p, SIZE), SIZE / PAGE);
		}
		svm_assert_cpu(p, SIZE, i);
		svm_assert_off_device(&s, p, SIZE);
		svm_free(p, SIZE);
	}
	svm_close(&s);
}

/* The device has memory for itself, with its atomics, until the CPU touches it. */
static void test_exclusive(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	volatile uint64_t *words = (uint64_t *)p;
	struct svm s;

	svm_open(&s);
	igt_assert_eq(svm_advise(&s, p, SIZE, DRM_GMEM_ATTR_ATOMICS, DRM_GMEM_ATOMICS_DEVICE), 0);
	svm_put(p, SIZE, 1);
	migrate_all(&s, p, SIZE);
	svm_assert_device(&s, p, SIZE, 1);
	for (uint64_t i = 0; i < SIZE / 8; i++)
		igt_assert_eq_u64(words[i]++, svm_word(1, i));
	svm_assert_off_device(&s, p, SIZE);
	for (uint64_t i = 0; i < SIZE / 8; i++)
		igt_assert_eq_u64(words[i], svm_word(1, i) + 1);

	/* The device sees what the CPU has made of it. */
	igt_assert_eq(svm_read(&s, p, SIZE), 0);
	for (uint64_t i = 0; i < SIZE / 8; i++)
		igt_assert_eq_u64(((uint64_t *)s.stage.cpu)[i], svm_word(1, i) + 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

static void test_exclusive_mprotect(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct svm s;

	svm_open(&s);
	igt_assert_eq(svm_advise(&s, p, SIZE, DRM_GMEM_ATTR_ATOMICS, DRM_GMEM_ATOMICS_DEVICE), 0);
	svm_put(p, SIZE, 1);
	migrate_all(&s, p, SIZE);
	igt_assert_eq(svm_poke(&s, p, svm_word(1, 0)), 0);
	igt_assert_eq(mprotect(p, SIZE, PROT_READ), 0);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_fault(&s, svm_write(&s, p, SIZE, 2), p, NPU_NOT_WRITABLE, NPU_WRITE);
	svm_assert_fault(&s, svm_poke(&s, p + SIZE - 8, 2), p + SIZE - 8, NPU_NOT_WRITABLE,
			 NPU_WRITE);
	svm_assert_cpu(p, SIZE, 1);
	igt_assert_eq(mprotect(p, SIZE, PROT_READ | PROT_WRITE), 0);
	igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
	svm_assert_cpu(p, SIZE, 2);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* Parent and child both count on from what was on the device when they parted. */
static void test_exclusive_cow(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	volatile uint64_t *words = (uint64_t *)p;
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	migrate_all(&s, p, SIZE);
	igt_fork(child, 1) {
		for (uint64_t i = 0; i < SIZE / 8; i++)
			igt_assert_eq_u64(words[i]++, svm_word(1, i));
		for (uint64_t i = 0; i < SIZE / 8; i++)
			igt_assert_eq_u64(words[i], svm_word(1, i) + 1);
	}
	for (uint64_t i = 0; i < SIZE / 8; i++)
		igt_assert_eq_u64(words[i]++, svm_word(1, i));
	for (uint64_t i = 0; i < SIZE / 8; i++)
		igt_assert_eq_u64(words[i], svm_word(1, i) + 1);
	igt_waitchildren();
	igt_assert_eq(svm_read(&s, p, SIZE), 0);
	for (uint64_t i = 0; i < SIZE / 8; i++)
		igt_assert_eq_u64(((uint64_t *)s.stage.cpu)[i], svm_word(1, i) + 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* The kernel gets at the pages by itself, in four ways: they come back, and are right. */
static void test_gup_test(void)
{
	const uint64_t size = 4 * PAGE;
	char *p = svm_anon(size, SVM_SMALL), *data = aligned_alloc(PAGE, size);
	int pipes[2], mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	int disk = open("/dev/vda", O_RDONLY | O_DIRECT | O_CLOEXEC);
	struct iovec v = { .iov_base = p + PAGE, .iov_len = PAGE };
	struct svm s;

	igt_assert_fd(mem);
	igt_assert(data);
	svm_open(&s);
	igt_assert_eq(svm_advise(&s, p, size, DRM_GMEM_ATTR_GRANULARITY, 12), 0);
	svm_put(p, size, 1);
	migrate_all(&s, p, size);
	svm_assert_device(&s, p, size, 1);

	/* get_user_pages_remote() */
	igt_assert_eq(pread(mem, data, PAGE, svm_va(p)), PAGE);
	svm_assert_off_device(&s, p, PAGE);
	igt_assert_eq_u64(svm_find(data, PAGE, 1), ~0ull);

	/* get_user_pages_fast(), and the page stays pinned for a while. */
	igt_assert_eq(pipe(pipes), 0);
	igt_assert_eq(vmsplice(pipes[1], &v, 1, 0), PAGE);
	svm_assert_off_device(&s, p + PAGE, PAGE);
	igt_assert_eq(read(pipes[0], data, PAGE), PAGE);
	igt_assert(!memcmp(data, p + PAGE, PAGE));
	igt_assert_eq_u64(svm_find_at(p + PAGE, PAGE, 1, PAGE), ~0ull);
	close(pipes[0]);
	close(pipes[1]);

	/* pin_user_pages_fast(), for a disk to write to it. */
	if (disk >= 0) {
		igt_assert_eq(pread(disk, p + 2 * PAGE, PAGE, 0), PAGE);
		svm_assert_off_device(&s, p + 2 * PAGE, PAGE);
		igt_assert_eq(pread(disk, data, PAGE, 0), PAGE);
		igt_assert(!memcmp(data, p + 2 * PAGE, PAGE));
		igt_assert_eq(svm_read(&s, p + 2 * PAGE, PAGE), 0);
		igt_assert(!memcmp(data, s.stage.cpu, PAGE));
		close(disk);
	} else {
		igt_info("no /dev/vda: no direct I/O\n");
	}

	/* populate */
	igt_assert_eq(madvise(p + 3 * PAGE, PAGE, MADV_POPULATE_WRITE), 0);
	svm_assert_off_device(&s, p + 3 * PAGE, PAGE);
	igt_assert_eq_u64(svm_find_at(p + 3 * PAGE, PAGE, 1, 3 * PAGE), ~0ull);
	svm_assert_cpu(p, 2 * PAGE, 1);
	close(mem);
	free(data);
	svm_free(p, size);
	svm_close(&s);
}

/* The parent writes to pages on the device while a child has them too. */
static void test_cow_in_device(void)
{
	const uint64_t size = 4 * PAGE;
	char *p = svm_anon(size, SVM_SMALL);
	struct svm s;

	svm_open(&s);
	svm_put(p, size, 1);
	migrate_all(&s, p, size);
	igt_fork(child, 1)
		for (;;)
			pause();
	svm_put(p, size, 2);
	svm_assert_off_device(&s, p, size);
	svm_assert_device(&s, p, size, 2);

	/* By the device instead, while they are shared. */
	svm_put(p, size, 3);
	igt_assert_eq(svm_write(&s, p, size, 4), 0);
	igt_kill_children(SIGKILL);
	igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
	svm_assert_cpu(p, size, 4);
	svm_assert_off_device(&s, p, size);
	svm_free(p, size);
	svm_close(&s);
}

static void test_migrate_partial_unmap_fault(void)
{
	static const uint64_t offsets[] = { 0, MIB(2) / 4, MIB(2) / 2 };
	const uint64_t size = MIB(2), hole = MIB(1);
	struct svm s;

	svm_open(&s);
	for (int huge = 0; huge < 2; huge++) {
		for (size_t j = 0; j < ARRAY_LEN(offsets); j++) {
			char *p = svm_anon(size, huge ? SVM_HUGE : SVM_SMALL);
			uint64_t at = offsets[j];

			svm_put(p, size, j);
			migrate_all(&s, p, size);
			svm_assert_device(&s, p, size, j);
			svm_free(p + at, hole);

			/* First what the device finds, then the CPU, all around the hole. */
			svm_assert_fault(&s, svm_touch(&s, p + at), p + at, NPU_NOT_MAPPED,
					 NPU_READ);
			svm_assert_fault(&s, svm_poke(&s, p + at + hole - 8, 0), p + at + hole - 8,
					 NPU_NOT_MAPPED, NPU_WRITE);
			igt_assert_eq(svm_read(&s, p, at), 0);
			igt_assert_eq_u64(svm_find(s.stage.cpu, at, j), ~0ull);
			igt_assert_eq(svm_read(&s, p + at + hole, size - at - hole), 0);
			igt_assert_eq_u64(svm_find_at(s.stage.cpu, size - at - hole, j, at + hole),
					  ~0ull);
			svm_assert_cpu(p, at, j);
			igt_assert_eq_u64(svm_find_at(p + at + hole, size - at - hole, j,
						      at + hole), ~0ull);
			igt_assert_eq(munmap(p, size), 0);
		}
	}
	svm_close(&s);
}

/* Moves memory to another address, before or after it went to the device. */
static void remap_once(struct svm *s, uint64_t offset, bool huge, bool dont_unmap, bool before)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (dont_unmap ? MREMAP_DONTUNMAP : 0);
	const uint64_t size = MIB(2);
	char *room = svm_anon(8 * size, huge ? SVM_HUGE : SVM_SMALL), *from = room, *to, *p = from;

	svm_free(room + size, 7 * size);
	to = from + size + offset;
	svm_put(from, size, 1);
	if (before)
		igt_assert((p = mremap(from, size, size, flags, to)) == to);
	migrate_all(s, p, size);
	svm_assert_device(s, p, size, 1);
	if (!before)
		igt_assert((p = mremap(from, size, size, flags, to)) == to);

	/* The device finds it at its new address, and at the old one nothing or zeros. */
	svm_assert_device(s, p, size, 1);
	if (dont_unmap)
		svm_assert_device_bytes(s, from, size, 0);
	else
		svm_assert_fault(s, svm_touch(s, from), from, NPU_NOT_MAPPED, NPU_READ);
	igt_assert_eq(svm_poke(s, p + size - 8, svm_word(1, size / 8 - 1)), 0);
	svm_assert_cpu(p, size, 1);
	if (dont_unmap) {
		svm_assert_cpu_bytes(from, size, 0);
		svm_free(from, size);
	}
	svm_free(p, size);
}

static void test_migrate_remap_fault(void)
{
	static const uint64_t offsets[] = { 0, MIB(2) / 4, MIB(2) / 2 };
	struct svm s;

	svm_open(&s);
	for (int variant = 0; variant < 8; variant++)
		for (size_t j = 0; j < ARRAY_LEN(offsets); j++)
			remap_once(&s, offsets[j], variant & 1, variant & 2, variant & 4);
	svm_close(&s);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		HMM_TEST("migrate", test_migrate),
		HMM_TEST("migrate_file_private", test_migrate_file_private),
		HMM_TEST("migrate_fault", test_migrate_fault),
		HMM_TEST("migrate_release", test_migrate_release),
		HMM_TEST("migrate_shared", test_migrate_shared),
		HMM_TEST("migrate_mixed", test_migrate_mixed),
		HMM_TEST("migrate_multiple", test_migrate_multiple),
		HMM_TEST("exclusive", test_exclusive),
		HMM_TEST("exclusive_mprotect", test_exclusive_mprotect),
		HMM_TEST("exclusive_cow", test_exclusive_cow),
		HMM_TEST("hmm_gup_test", test_gup_test),
		HMM_TEST("hmm_cow_in_device", test_cow_in_device),
		HMM_TEST("migrate_partial_unmap_fault", test_migrate_partial_unmap_fault),
		HMM_TEST("migrate_remap_fault", test_migrate_remap_fault),
	};

	igt_fixture()
		close(npu_open());

	svm_run(NULL, tests, ARRAY_LEN(tests));
}
