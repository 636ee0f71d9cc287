// SPDX-License-Identifier: MIT
/* Memory that runs out: precise errors, nothing lost, everything comes back. */

#include <stdlib.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Buffer objects when memory runs out");

/* Sizes that can't be had give -ENOSPC or -ENOMEM and change nothing. */
static void test_too_big(uint32_t placement, int error)
{
	int fd = npu_open();
	struct drm_gmem_query_device info = npu_device_info(fd);
	uint64_t limit = placement == NPU_VISIBLE ? info.mem_visible : info.mem_total;
	const uint64_t sizes[] = {
		limit + PAGE, 2 * limit, npu_max(limit, MIB(2)) * 16, GIB(64), 1ull << 40,
	};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t size = npu_round_up(npu_max(sizes[i], PAGE), PAGE);
		uint32_t bo;

		igt_assert_eq(npu_bo_create(fd, size, placement, &bo), error);
		igt_assert_eq_u64(npu_mem_free(fd), info.mem_free);
	}
	close(fd);
}

static uint64_t host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * PAGE;
}

/* Nor does asking for more host memory than there is take the machine down. */
static void test_too_big_host(void)
{
	const uint64_t sizes[] = {
		1ull << 40, 1ull << 38, npu_round_up(4 * host_memory(), MIB(2)),
	};
	int fd = npu_open();
	uint64_t before = npu_mem_free(fd);

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint32_t bo;

		igt_assert_eq(npu_bo_create(fd, sizes[i], NPU_HOST, &bo), -ENOMEM);
		igt_assert_eq_u64(npu_mem_free(fd), before);
	}
	close(fd);
}

/* Without an aperture nothing can be CPU-visible. */
static void test_no_aperture(void)
{
	int fd = npu_open();
	uint32_t bo;

	igt_require(npu_device_info(fd).mem_visible == 0);
	igt_assert_eq(npu_bo_create(fd, PAGE, NPU_VISIBLE, &bo), -ENOSPC);
	igt_assert_eq(npu_bo_create(fd, PAGE, NPU_DEVICE, &bo), 0);
	close(fd);
}

struct hoard {
	uint32_t *handle;
	uint64_t *size;
	unsigned int count, room;
};

static void hoard_add(struct hoard *hoard, uint32_t handle, uint64_t size)
{
	if (hoard->count == hoard->room) {
		hoard->room = hoard->room ? 2 * hoard->room : 64;
		hoard->handle = realloc(hoard->handle, hoard->room * sizeof(*hoard->handle));
		hoard->size = realloc(hoard->size, hoard->room * sizeof(*hoard->size));
		igt_assert(hoard->handle && hoard->size);
	}
	hoard->handle[hoard->count] = handle;
	hoard->size[hoard->count++] = size;
}

/* Takes all there is, for good, in pieces that get smaller and smaller. */
static void hoard_fill(int fd, uint32_t placement, struct hoard *hoard)
{
	for (uint64_t size = MIB(4); size >= PAGE; size /= 4) {
		for (;;) {
			uint32_t bo;
			int ret = npu_bo_create(fd, size, placement | NPU_PINNED, &bo);

			if (ret) {
				igt_assert_eq(ret, -ENOSPC);
				break;
			}
			hoard_add(hoard, bo, size);
		}
	}
}

static void hoard_free(int fd, struct hoard *hoard)
{
	for (unsigned int i = 0; i < hoard->count; i++)
		if (hoard->handle[i])
			igt_assert_eq(npu_bo_close(fd, hoard->handle[i]), 0);
	free(hoard->handle);
	free(hoard->size);
	*hoard = (struct hoard) {};
}

static void test_fill_up(uint32_t placement)
{
	struct hoard hoard = {};
	uint64_t before, total = 0;
	struct npu_ctx ctx;
	uint32_t bo;

	npu_ctx_open(&ctx);
	before = npu_mem_free(ctx.fd);
	igt_require(placement != NPU_VISIBLE || npu_device_info(ctx.fd).mem_visible);
	for (int round = 0; round < 2; round++) {
		hoard_fill(ctx.fd, placement, &hoard);
		for (unsigned int i = 0; i < hoard.count; i++)
			total += hoard.size[i];
		igt_info("%u objects, %llu KiB, %llu KiB are left\n", hoard.count,
			 (unsigned long long)total >> 10,
			 (unsigned long long)npu_mem_free(ctx.fd) >> 10);
		if (placement == NPU_DEVICE)
			igt_assert_eq_u64(npu_mem_free(ctx.fd), 0);

		/* What is there goes on working, and host memory isn't concerned. */
		npu_assert_alive(&ctx);
		igt_assert_eq(npu_bo_create(ctx.fd, MIB(1), NPU_HOST, &bo), 0);
		igt_assert_eq(npu_bo_close(ctx.fd, bo), 0);

		/* One back, one again. */
		igt_assert_eq(npu_bo_close(ctx.fd, hoard.handle[0]), 0);
		igt_assert_eq(npu_bo_create(ctx.fd, hoard.size[0], placement | NPU_PINNED,
					    &hoard.handle[0]), 0);

		hoard_free(ctx.fd, &hoard);
		npu_assert_mem_free(ctx.fd, before);
		total = 0;
	}
	npu_ctx_close(&ctx);
}

/* When it's full, those who want page tables hear of it, too. */
static void test_full_vm(void)
{
	struct hoard hoard = {};
	struct npu_ctx ctx;
	uint64_t before;
	uint32_t vm[64];
	int ret = 0, n;

	npu_ctx_open(&ctx);
	before = npu_mem_free(ctx.fd);
	hoard_fill(ctx.fd, NPU_DEVICE, &hoard);
	for (n = 0; n < 64 && !ret; n++)
		ret = npu_vm_create(ctx.fd, &vm[n]);
	igt_assert_eq(ret, -ENOSPC);
	for (n -= 2; n >= 0; n--)
		igt_assert_eq(npu_vm_destroy(ctx.fd, vm[n]), 0);
	npu_assert_alive(&ctx);
	hoard_free(ctx.fd, &hoard);
	npu_assert_mem_free(ctx.fd, before);
	npu_ctx_close(&ctx);
}

/* A bind that lacks memory for page tables does nothing at all. */
static void test_full_bind(void)
{
	struct drm_gmem_bind_op ops[8];
	struct hoard hoard = {};
	int base = npu_open();
	uint64_t before = npu_mem_free(base), full;
	struct npu_ctx ctx;
	struct npu_bo bo;

	npu_ctx_open(&ctx);
	bo = npu_bo(&ctx, KIB(64), NPU_PINNED, 0);
	npu_bo_tag(&ctx, bo.handle, bo.size, 1);
	hoard_fill(ctx.fd, NPU_DEVICE, &hoard);
	full = npu_mem_free(ctx.fd);

	/* The first operations would take mappings away, the last ones need tables. */
	ops[0] = npu_op_unmap(bo.va, PAGE);
	ops[1] = npu_op_map(bo.handle, bo.va + PAGE, 0, PAGE);
	for (int i = 2; i < 8; i++)
		ops[i] = npu_op_map(bo.handle, GIB(600) * i, 0, PAGE);
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 8), -ENOSPC);
	igt_assert_eq_u64(npu_mem_free(ctx.fd), full);
	npu_assert_tags(&ctx, bo.va, 16, 1, 0);
	for (int i = 2; i < 8; i++)
		npu_assert_unmapped(&ctx, GIB(600) * i);

	hoard_free(ctx.fd, &hoard);
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 8), 0);
	npu_assert_tags(&ctx, GIB(600) * 7, 1, 1, 0);
	npu_ctx_drop(&ctx);
	npu_assert_mem_free(base, before);
	close(base);
}

/* A bind takes what page tables it needs, not one for each page. */
static void test_tight_bind(void)
{
	struct hoard hoard = {};
	struct drm_gmem_bind_op ops[2];
	struct npu_ctx ctx;
	uint32_t bo, spare;
	uint64_t va;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(4), NPU_HOST, &bo), 0);
	npu_bo_tag(&ctx, bo, MIB(4), 1);
	va = npu_va(&ctx, MIB(4), MIB(2));
	igt_assert_eq(npu_bo_create(ctx.fd, KIB(128), NPU_PINNED, &spare), 0);
	hoard_fill(ctx.fd, NPU_DEVICE, &hoard);
	igt_assert_eq(npu_bo_close(ctx.fd, spare), 0);
	for (int i = 0; i < 3; i++) {
		ops[0] = npu_op_unmap(va, MIB(4));
		ops[1] = npu_op_map(bo, va, 0, MIB(4));
		igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 2), 0);
		npu_assert_tags(&ctx, va, MIB(4) / PAGE, 1, 0);
	}
	hoard_free(ctx.fd, &hoard);
	npu_ctx_close(&ctx);
}

/* Free memory in pieces is free memory. */
static void test_fragmented(void)
{
	struct hoard hoard = {};
	uint64_t freed = 0, some;
	struct npu_ctx ctx;
	uint32_t bo;

	npu_ctx_open(&ctx);
	some = npu_min(npu_mem_free(ctx.fd) / 2, MIB(8));
	for (uint64_t at = 0; at + KIB(64) <= some; at += KIB(64)) {
		igt_assert_eq(npu_bo_create(ctx.fd, KIB(64), NPU_PINNED, &bo), 0);
		hoard_add(&hoard, bo, KIB(64));
	}
	for (unsigned int i = 0; i < hoard.count; i++)
		npu_fill(&ctx, hoard.handle[i], KIB(64), i);
	hoard_fill(ctx.fd, NPU_DEVICE, &hoard);
	for (unsigned int i = 0; i < hoard.count && hoard.size[i] == KIB(64); i += 2) {
		igt_assert_eq(npu_bo_close(ctx.fd, hoard.handle[i]), 0);
		hoard.handle[i] = 0;
		freed += KIB(64);
	}
	freed -= KIB(64);	/* for page tables */
	igt_assert_eq(npu_bo_create(ctx.fd, freed, NPU_DEVICE, &bo), 0);
	igt_assert(npu_is_filled(&ctx, bo, freed, 0));
	npu_fill(&ctx, bo, freed, 0x12345678);
	igt_assert(npu_is_filled(&ctx, bo, freed, 0x12345678));
	igt_assert(npu_is_filled(&ctx, hoard.handle[1], KIB(64), 1));
	igt_assert_eq(npu_bo_close(ctx.fd, bo), 0);
	hoard_free(ctx.fd, &hoard);
	npu_ctx_close(&ctx);
}

static void test_leak(void)
{
	static const uint32_t placement[] = { NPU_HOST, NPU_DEVICE, NPU_VISIBLE };
	int fd = npu_open();
	struct drm_gmem_query_device info = npu_device_info(fd);
	uint64_t seed = npu_seed();
	uint32_t bo[16] = {};

	for (unsigned int i = 0; i < npu_scale(300); i++) {
		unsigned int at = npu_random(&seed) % 16;
		uint32_t where = placement[npu_random(&seed) % (info.mem_visible ? 3 : 2)];
		uint64_t size = (1 + npu_random(&seed) % 64) * PAGE;

		if (bo[at])
			igt_assert_eq(npu_bo_close(fd, bo[at]), 0);
		igt_assert_eq(npu_bo_create(fd, size, where, &bo[at]), 0);
	}
	for (int i = 0; i < 16; i++)
		if (bo[i])
			igt_assert_eq(npu_bo_close(fd, bo[i]), 0);
	npu_assert_mem_free(fd, info.mem_free);
	close(fd);
}

/* A file closed with a lot in it. */
static void test_close_full(void)
{
	int base = npu_open(), fd = npu_open();
	uint64_t before = npu_mem_free(base);
	struct hoard hoard = {};

	hoard_fill(fd, NPU_DEVICE, &hoard);
	close(fd);
	npu_assert_mem_free(base, before);
	close(base);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("More than the device has gives -ENOSPC");
	igt_subtest("too-big-device")
		test_too_big(NPU_DEVICE, -ENOSPC);

	igt_describe("More than the CPU can see gives -ENOSPC");
	igt_subtest("too-big-visible")
		test_too_big(NPU_VISIBLE, -ENOSPC);

	igt_describe("More than the host has gives -ENOMEM");
	igt_subtest("too-big-host")
		test_too_big_host();

	igt_describe("CPU_VISIBLE on a device without an aperture gives -ENOSPC");
	igt_subtest("no-aperture")
		test_no_aperture();

	igt_describe("Device memory can be used to the last page and comes back");
	igt_subtest("fill-up-device")
		test_fill_up(NPU_DEVICE);

	igt_describe("So can what the CPU sees of it");
	igt_subtest("fill-up-visible")
		test_fill_up(NPU_VISIBLE);

	igt_describe("A VM for which there is no memory isn't created");
	igt_subtest("full-vm-create")
		test_full_vm();

	igt_describe("A bind for which there is no memory changes nothing");
	igt_subtest("full-bind")
		test_full_bind();

	igt_describe("A bind that replaces 4 MiB does with little memory for page tables");
	igt_subtest("tight-bind")
		test_tight_bind();

	igt_describe("An object can be made of scattered memory");
	igt_subtest("fragmented")
		test_fragmented();

	igt_describe("Random creation and closing leaves nothing behind");
	igt_subtest("leak")
		test_leak();

	igt_describe("A file that owns all device memory gives it back when closed");
	igt_subtest("close-full")
		test_close_full();
}
