// SPDX-License-Identifier: MIT
/* Buffer objects: creation, contents, and the CPU's view of them. */

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Buffer objects and their CPU mappings");

static const struct {
	const char *name;
	uint32_t flags;
} placements[] = {
	{ "host", NPU_HOST }, { "device", NPU_DEVICE }, { "visible", NPU_VISIBLE },
};

static void require_placement(int fd, uint32_t placement, uint64_t size)
{
	if (placement == NPU_VISIBLE)
		igt_require_f(npu_device_info(fd).mem_visible >= size,
			      "too little device memory is CPU-visible\n");
}

/* Every size can be had, and begins as zeros. */
static void test_create(uint32_t placement)
{
	static const uint64_t sizes[] = {
		KIB(4), KIB(8), KIB(12), KIB(60), KIB(64), KIB(68), KIB(256), MIB(1),
		MIB(2) - KIB(4), MIB(2), MIB(2) + KIB(4), MIB(4) + KIB(64) + KIB(4),
	};
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	require_placement(ctx.fd, placement, MIB(8));
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint32_t bo;

		igt_assert_eq(npu_bo_create(ctx.fd, sizes[i], placement, &bo), 0);
		igt_assert(npu_is_filled(&ctx, bo, sizes[i], 0));
		npu_fill(&ctx, bo, sizes[i], 0xdeadbeef);
		igt_assert(npu_is_filled(&ctx, bo, sizes[i], 0xdeadbeef));
		igt_assert_eq(npu_bo_close(ctx.fd, bo), 0);
	}
	npu_ctx_close(&ctx);
}

/* Zeros also where something else was just before. */
static void test_zero_again(uint32_t placement)
{
	static const uint64_t sizes[] = { KIB(4), KIB(16), KIB(64), KIB(100), MIB(2) };
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	require_placement(ctx.fd, placement, MIB(8));
	for (unsigned int i = 0; i < npu_scale(10); i++) {
		uint64_t size = sizes[i % ARRAY_LEN(sizes)];
		uint32_t bo[2];

		for (int j = 0; j < 2; j++)
			igt_assert_eq(npu_bo_create(ctx.fd, size, placement, &bo[j]), 0);
		for (int j = 0; j < 2; j++) {
			igt_assert(npu_is_filled(&ctx, bo[j], size, 0));
			npu_fill(&ctx, bo[j], size, 0xa5a5a5a5 + i);
		}
		for (int j = 0; j < 2; j++)
			igt_assert_eq(npu_bo_close(ctx.fd, bo[j]), 0);
	}
	npu_ctx_close(&ctx);
}

static void test_zero_for_cpu(uint32_t placement)
{
	int fd = npu_open();

	require_placement(fd, placement, MIB(1));
	for (unsigned int i = 0; i < npu_scale(8); i++) {
		const uint64_t size = KIB(68);
		uint64_t *cpu;
		uint32_t bo;

		igt_assert_eq(npu_bo_create(fd, size, placement, &bo), 0);
		cpu = npu_bo_cpu(fd, bo, size);
		for (uint64_t j = 0; j < size / 8; j++) {
			igt_assert_eq_u64(cpu[j], 0);
			cpu[j] = 0xbad0bad0bad0bad0ull;
		}
		igt_assert_eq(munmap(cpu, size), 0);
		igt_assert_eq(npu_bo_close(fd, bo), 0);
	}
	close(fd);
}

/* CPU and device see one memory, in both directions, without any ceremony. */
static void test_coherent(uint32_t placement)
{
	const uint64_t size = KIB(68);
	volatile uint64_t *cpu, *again;
	struct npu_ctx ctx;
	struct npu_bo bo;

	npu_ctx_open(&ctx);
	require_placement(ctx.fd, placement, MIB(1));
	bo = npu_bo(&ctx, size, placement, 0);
	cpu = bo.cpu;
	again = npu_bo_cpu(ctx.fd, bo.handle, size);
	for (unsigned int round = 0; round < npu_scale(2); round++) {
		struct npu_cb cb;

		for (uint64_t i = 0; i < size / 8; i += 61)
			cpu[i] = npu_tag(round, i);
		for (uint64_t i = 0; i < size / 8; i += 61)
			igt_assert_eq_u64(again[i], npu_tag(round, i));
		for (uint64_t i = 0; i < size / 8; i += 61 * 37) {
			uint64_t value;

			igt_assert_eq(npu_read(&ctx, bo.va + 8 * i, &value), 0);
			igt_assert_eq_u64(value, npu_tag(round, i));
		}
		cb = npu_begin(&ctx);
		for (uint64_t i = 0; i < size / 8; i += 61)
			npu_cmd_write(&cb, bo.va + 8 * i, ~npu_tag(round, i));
		igt_assert_eq(npu_run(&ctx, &cb), 0);
		for (uint64_t i = 0; i < size / 8; i += 61)
			igt_assert_eq_u64(cpu[i], ~npu_tag(round, i));
	}
	igt_assert_eq(munmap((void *)again, size), 0);
	npu_bo_free(&ctx, &bo);
	npu_ctx_close(&ctx);
}

static void test_mmap_private(uint32_t placement)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int fd = npu_open();
	uint64_t offset;
	uint32_t bo;

	require_placement(fd, placement, MIB(1));
	igt_assert_eq(npu_bo_create(fd, KIB(64), placement, &bo), 0);
	igt_assert_eq(npu_bo_offset(fd, bo, &offset), 0);
	for (size_t i = 0; i < ARRAY_LEN(prots); i++) {
		void *cpu = mmap(NULL, KIB(64), prots[i], MAP_PRIVATE, fd, offset);

		igt_assert(cpu == MAP_FAILED);
		igt_assert_eq(errno, EINVAL);
	}
	close(fd);
}

/* Parts can be mapped; what isn't there can't. */
static void test_mmap_parts(uint32_t placement)
{
	const uint64_t size = KIB(64);
	uint64_t *whole, *part, offset;
	int fd = npu_open();
	uint32_t bo;

	require_placement(fd, placement, MIB(1));
	igt_assert_eq(npu_bo_create(fd, size, placement, &bo), 0);
	whole = npu_bo_cpu(fd, bo, size);
	for (int i = 0; i < 16; i++)
		whole[i * 512] = npu_tag(1, i);

	/* The beginning of the object, which is what its offset names. */
	part = npu_bo_cpu(fd, bo, PAGE);
	igt_assert_eq_u64(*part, npu_tag(1, 0));
	igt_assert_eq(munmap(part, PAGE), 0);

	igt_assert_eq(npu_bo_offset(fd, bo, &offset), 0);
	part = mmap(NULL, size + PAGE, PROT_READ, MAP_SHARED, fd, offset);
	igt_assert(part == MAP_FAILED);
	igt_assert_eq(errno, EINVAL);
	part = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, offset + size);
	igt_assert(part == MAP_FAILED);

	/* A hole in the middle leaves both sides as they were. */
	igt_assert_eq(munmap((char *)whole + 5 * PAGE, 3 * PAGE), 0);
	for (int i = 0; i < 16; i++)
		if (i < 5 || i >= 8)
			igt_assert_eq_u64(whole[i * 512], npu_tag(1, i));
	igt_assert_eq(munmap(whole, 5 * PAGE), 0);
	igt_assert_eq(munmap((char *)whole + 8 * PAGE, 8 * PAGE), 0);
	close(fd);
}

static void test_mmap_fork(uint32_t placement)
{
	const uint64_t size = KIB(64);
	volatile uint64_t *cpu;
	int fd = npu_open();
	uint32_t bo;

	require_placement(fd, placement, MIB(1));
	igt_assert_eq(npu_bo_create(fd, size, placement, &bo), 0);
	cpu = npu_bo_cpu(fd, bo, size);
	for (int i = 0; i < 16; i++)
		cpu[i * 512] = npu_tag(2, i);
	igt_fork(child, 4) {
		close(fd);
		for (int i = 0; i < 16; i++)
			igt_assert_eq_u64(cpu[i * 512], npu_tag(2, i));
		cpu[child * 512 + 7] = npu_tag(3, child);
	}
	igt_waitchildren();
	for (int i = 0; i < 4; i++)
		igt_assert_eq_u64(cpu[i * 512 + 7], npu_tag(3, i));
	close(fd);
}

/* A mapping keeps its object, whatever else is closed. */
static void test_mmap_outlives(uint32_t placement, bool file)
{
	const uint64_t size = MIB(1);
	int base = npu_open(), fd = npu_open();
	uint64_t before = npu_mem_free(base);
	volatile uint64_t *cpu;
	uint32_t bo;

	require_placement(base, placement, MIB(2));
	igt_assert_eq(npu_bo_create(fd, size, placement, &bo), 0);
	cpu = npu_bo_cpu(fd, bo, size);
	cpu[0] = npu_tag(4, 0);
	if (file)
		close(fd);
	else
		igt_assert_eq(npu_bo_close(fd, bo), 0);
	igt_assert_eq_u64(cpu[0], npu_tag(4, 0));
	for (uint64_t i = 0; i < size; i += PAGE)
		cpu[i / 8] = npu_tag(5, i);
	for (uint64_t i = 0; i < size; i += PAGE)
		igt_assert_eq_u64(cpu[i / 8], npu_tag(5, i));
	if (placement == NPU_VISIBLE)
		igt_assert_lte_u64(npu_mem_free(base) + size, before);
	igt_assert_eq(munmap((void *)cpu, size), 0);
	npu_assert_mem_free(base, before);
	if (!file)
		close(fd);
	close(base);
}

static void test_mmap_invisible(void)
{
	int fd = npu_open();
	uint64_t offset;
	uint32_t bo;

	igt_assert_eq(npu_bo_create(fd, KIB(64), NPU_DEVICE, &bo), 0);
	igt_assert_eq(npu_bo_offset(fd, bo, &offset), -EPERM);
	close(fd);
}

/* Offsets are good for those who have the object. */
static void test_mmap_stranger(uint32_t placement)
{
	int fd = npu_open(), other = npu_open();
	uint64_t offset;
	uint32_t bo;
	void *cpu;

	require_placement(fd, placement, MIB(1));
	igt_assert_eq(npu_bo_create(fd, KIB(64), placement, &bo), 0);
	igt_assert_eq(npu_bo_offset(fd, bo, &offset), 0);
	cpu = mmap(NULL, KIB(64), PROT_READ, MAP_SHARED, other, offset);
	igt_assert(cpu == MAP_FAILED);
	igt_assert_eq(errno, EACCES);

	igt_assert_eq(npu_bo_close(fd, bo), 0);
	cpu = mmap(NULL, KIB(64), PROT_READ, MAP_SHARED, fd, offset);
	igt_assert(cpu == MAP_FAILED);
	close(fd);
	close(other);
}

static sigjmp_buf fault_jump;

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(fault_jump, 1);
}

/* mprotect() holds for these mappings as for any other. */
static void test_mprotect(uint32_t placement)
{
	struct sigaction act = { .sa_handler = on_fault }, old;
	volatile uint64_t *cpu;
	int fd = npu_open();
	uint32_t bo;

	require_placement(fd, placement, MIB(1));
	igt_assert_eq(npu_bo_create(fd, KIB(64), placement, &bo), 0);
	cpu = npu_bo_cpu(fd, bo, KIB(64));
	cpu[0] = npu_tag(6, 0);
	igt_assert_eq(mprotect((void *)cpu, PAGE, PROT_READ), 0);
	sigaction(SIGSEGV, &act, &old);
	if (!sigsetjmp(fault_jump, 1)) {
		cpu[0] = 0;
		igt_assert_f(false, "wrote to a page without PROT_WRITE\n");
	}
	sigaction(SIGSEGV, &old, NULL);
	igt_assert_eq_u64(cpu[0], npu_tag(6, 0));
	cpu[512] = npu_tag(6, 1);
	igt_assert_eq_u64(cpu[512], npu_tag(6, 1));
	close(fd);
}

static void test_close_twice(void)
{
	int fd = npu_open();
	uint64_t offset;
	uint32_t bo;

	igt_assert_eq(npu_bo_create(fd, PAGE, NPU_HOST, &bo), 0);
	igt_assert_eq(npu_bo_close(fd, bo), 0);
	igt_assert_eq(npu_bo_close(fd, bo), -EINVAL);
	igt_assert_eq(npu_bo_offset(fd, bo, &offset), -ENOENT);
	close(fd);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	for (size_t i = 0; i < ARRAY_LEN(placements); i++) {
		uint32_t flags = placements[i].flags;
		const char *name = placements[i].name;

		igt_describe("Objects of all sizes can be had and are zero");
		igt_subtest_f("create-%s", name)
			test_create(flags);

		igt_describe("Memory that somebody has used is zero again");
		igt_subtest_f("zero-again-%s", name)
			test_zero_again(flags);

		if (flags == NPU_DEVICE)
			continue;

		igt_describe("The CPU sees zeros in a new object, too");
		igt_subtest_f("zero-for-cpu-%s", name)
			test_zero_for_cpu(flags);

		igt_describe("What CPU or device writes, the other sees");
		igt_subtest_f("coherent-%s", name)
			test_coherent(flags);

		igt_describe("MAP_PRIVATE is refused");
		igt_subtest_f("mmap-private-%s", name)
			test_mmap_private(flags);

		igt_describe("Parts of objects can be mapped, nothing beyond them");
		igt_subtest_f("mmap-parts-%s", name)
			test_mmap_parts(flags);

		igt_describe("A mapping is shared with child processes");
		igt_subtest_f("mmap-fork-%s", name)
			test_mmap_fork(flags);

		igt_describe("A mapping outlives its handle");
		igt_subtest_f("mmap-outlives-handle-%s", name)
			test_mmap_outlives(flags, false);

		igt_describe("A mapping outlives its file");
		igt_subtest_f("mmap-outlives-file-%s", name)
			test_mmap_outlives(flags, true);

		igt_describe("An offset is of no use to another file, nor after the object is gone");
		igt_subtest_f("mmap-stranger-%s", name)
			test_mmap_stranger(flags);

		igt_describe("mprotect() works on mappings of objects");
		igt_subtest_f("mprotect-%s", name)
			test_mprotect(flags);
	}

	igt_describe("Device memory without CPU_VISIBLE can't be mapped");
	igt_subtest("mmap-invisible")
		test_mmap_invisible();

	igt_describe("A handle that was closed is gone");
	igt_subtest("close-twice")
		test_close_twice();
}
