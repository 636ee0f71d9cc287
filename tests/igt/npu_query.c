// SPDX-License-Identifier: MIT
/* What the device says about itself is sane, and its figures move as they should. */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Figures of QUERY_DEVICE and QUERY");

static void test_device(void)
{
	int fd = npu_open();
	struct drm_gmem_query_device q = npu_device_info(fd);

	igt_info("page sizes %#llx, va %#llx-%#llx, memory %llu KiB, visible %llu, free %llu, caps %#llx\n",
		 q.page_sizes, q.va_start, q.va_end, q.mem_total >> 10, q.mem_visible >> 10,
		 q.mem_free >> 10, q.caps);
	igt_assert_eq_u64(q.page_sizes, 1 << 12 | 1 << 16 | 1 << 21);
	igt_assert_eq_u64(q.va_start % PAGE, 0);
	igt_assert_eq_u64(q.va_end, 1ull << 48);
	igt_assert_lt_u64(q.va_start, q.va_end);
	igt_assert_lt_u64((uintptr_t)&q, q.mirror_end);
	igt_assert_eq_u64(q.mirror_end % 4096, 0);
	igt_assert_lt_u64(0, q.mem_total);
	igt_assert_lte_u64(q.mem_visible, q.mem_total);
	igt_assert_lte_u64(q.mem_free, q.mem_total);
	igt_assert_eq_u64(q.caps & ~DRM_GMEM_CAP_FAULTS, 0);
	close(fd);
}

static void test_npu(void)
{
	int fd = npu_open();
	struct drm_npu_query q = npu_facts(fd);
	uint64_t last = q.timestamp;

	igt_info("version %#x, %u queues, job timeout %u ms\n", q.version, q.num_queues,
		 q.job_timeout_ms);
	igt_assert_eq_u32(q.version >> 16, 1);
	igt_assert(q.num_queues >= 1 && q.num_queues <= 16);
	igt_assert_neq_u32(q.job_timeout_ms, 0);
	for (int i = 0; i < 20; i++) {
		uint64_t now = npu_facts(fd).timestamp;

		igt_assert_lt_u64(last, now);
		last = now;
	}
	close(fd);
}

static void test_hardware(void)
{
	int index = npu_device_under_test();
	volatile uint32_t *regs = npu_registers(npu_device_bdf(index));
	int fd = npu_open();
	struct drm_npu_query q = npu_facts(fd);

	igt_assert_eq_u32(npu_reg(regs, NPU_REG_ID), 0x3155504e);
	igt_assert_eq_u32(npu_reg(regs, NPU_REG_VERSION), q.version);
	igt_assert_eq_u32(npu_reg(regs, NPU_REG_CAPS) >> 8 & 0xff, q.num_queues);
	close(fd);
}

/* Device memory is accounted for as objects come and go. */
static void test_mem_free(uint32_t placement)
{
	static const uint64_t sizes[] = {
		KIB(4), KIB(8), KIB(12), KIB(64), KIB(68), MIB(1), MIB(2), MIB(2) + KIB(4), MIB(5),
	};
	int fd = npu_open();
	uint64_t before = npu_mem_free(fd);
	uint32_t handle[ARRAY_LEN(sizes)];
	uint64_t left = before;

	igt_require(placement != NPU_VISIBLE || npu_device_info(fd).mem_visible >= MIB(16));
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t now;

		igt_assert_eq(npu_bo_create(fd, sizes[i], placement, &handle[i]), 0);
		now = npu_mem_free(fd);
		if (placement == NPU_HOST)
			igt_assert_eq_u64(now, before);
		else
			igt_assert_lte_u64(sizes[i], left - now);
		left = now;
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		igt_assert_eq(npu_bo_close(fd, handle[i]), 0);
		if (placement != NPU_HOST)
			igt_assert_lte_u64(left + sizes[i], npu_mem_free(fd));
		left = npu_mem_free(fd);
	}
	igt_assert_eq_u64(left, before);
	close(fd);
}

static void test_vm_memory(void)
{
	int fd = npu_open();
	uint64_t before = npu_mem_free(fd);
	struct npu_ctx ctx;

	npu_ctx_init(&ctx, fd);
	for (int i = 0; i < 16; i++)
		igt_assert_eq(npu_map(fd, ctx.vm, ctx.cells.handle, GIB(513) * (i + 1), 0, PAGE, 0), 0);
	igt_assert_lt_u64(npu_mem_free(fd), before);
	npu_assert_alive(&ctx);
	npu_ctx_fini(&ctx);
	npu_assert_mem_free(fd, before);
	close(fd);
}

static void test_job_counters(void)
{
	struct drm_npu_query before, after;
	struct npu_ctx ctx;
	struct npu_bo bo;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	bo = npu_bo(&ctx, KIB(64), NPU_DEVICE, 0);

	before = npu_facts(ctx.fd);
	cb = npu_begin(&ctx);
	npu_cmd_fill(&cb, bo.va, KIB(64), 1);
	npu_cmd_copy(&cb, ctx.cells.va, bo.va, KIB(32));
	for (int i = 0; i < 3; i++)
		igt_assert_eq(npu_run(&ctx, &cb), 0);
	after = npu_facts(ctx.fd);
	igt_assert_lte_u64(before.jobs_ok + 3, after.jobs_ok);
	igt_assert_eq_u64(before.jobs_failed, after.jobs_failed);
	igt_assert_lte_u64(before.bytes_written + 3 * KIB(96), after.bytes_written);
	igt_assert_lte_u64(before.bytes_read + 3 * KIB(32), after.bytes_read);

	before = after;
	npu_assert_unmapped(&ctx, bo.va + KIB(64));
	after = npu_facts(ctx.fd);
	igt_assert_lte_u64(before.jobs_failed + 2, after.jobs_failed);
	npu_ctx_close(&ctx);
}

static void test_tlb_counters(void)
{
	struct drm_npu_query before, after;
	struct npu_ctx ctx;
	struct npu_bo bo;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	bo = npu_bo(&ctx, KIB(64), NPU_HOST, 0);
	npu_assert_alive(&ctx);

	before = npu_facts(ctx.fd);
	cb = npu_begin(&ctx);
	for (int i = 0; i < 64; i++)
		npu_cmd_write(&cb, bo.va + 8 * i, i);
	igt_assert_eq(npu_run(&ctx, &cb), 0);
	after = npu_facts(ctx.fd);
	igt_assert_lt_u64(before.tlb_misses, after.tlb_misses);
	igt_assert_lt_u64(before.tlb_hits, after.tlb_hits);

	before = after;
	npu_bo_free(&ctx, &bo);
	after = npu_facts(ctx.fd);
	igt_assert_lt_u64(before.tlb_invalidations, after.tlb_invalidations);
	npu_ctx_close(&ctx);
}

/* Objects in device memory begin as zeros: somebody has to have filled them. */
static void test_cleared_counter(void)
{
	int fd = npu_open();
	uint64_t before = npu_facts(fd).bytes_cleared, after;
	uint32_t bo;

	for (int i = 0; i < 4; i++) {
		igt_assert_eq(npu_bo_create(fd, MIB(1), NPU_DEVICE, &bo), 0);
		igt_assert_eq(npu_bo_close(fd, bo), 0);
	}
	after = npu_facts(fd).bytes_cleared;
	igt_assert_lt_u64(before, after);
	close(fd);
}

static void test_vm_limit(void)
{
	static uint32_t vm[1024];
	int fd = npu_open(), other = npu_open();
	uint64_t before = npu_mem_free(other);
	uint32_t extra;

	igt_require(before >= MIB(16));
	for (int i = 0; i < 1024; i++) {
		igt_assert_eq(npu_vm_create(fd, &vm[i]), 0);
		for (int j = i & ~7; j < i; j++)
			igt_assert_neq_u32(vm[i], vm[j]);
	}
	igt_assert_eq(npu_vm_create(fd, &extra), -ENOSPC);
	igt_assert_eq(npu_vm_create(other, &extra), 0);
	igt_assert_eq(npu_vm_destroy(other, extra), 0);
	igt_assert_eq(npu_vm_destroy(fd, vm[500]), 0);
	igt_assert_eq(npu_vm_create(fd, &vm[500]), 0);
	igt_assert_eq(npu_vm_create(fd, &extra), -ENOSPC);
	close(fd);
	npu_assert_mem_free(other, before);
	close(other);
}

static void test_queue_limit(void)
{
	uint32_t queue[256], extra;
	struct npu_ctx ctx;
	int fd = npu_open();

	for (int i = 0; i < 256; i++) {
		igt_assert_eq(npu_queue_create(fd, &queue[i]), 0);
		for (int j = 0; j < i; j++)
			igt_assert_neq_u32(queue[i], queue[j]);
	}
	igt_assert_eq(npu_queue_create(fd, &extra), -ENOSPC);

	/* The limit is the file's own. */
	npu_ctx_open(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);

	igt_assert_eq(npu_queue_destroy(fd, queue[17]), 0);
	igt_assert_eq(npu_queue_create(fd, &queue[17]), 0);
	igt_assert_eq(npu_queue_create(fd, &extra), -ENOSPC);
	for (int i = 0; i < 256; i++)
		igt_assert_eq(npu_queue_destroy(fd, queue[i]), 0);
	close(fd);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Page sizes, address space and memory are what the hardware has");
	igt_subtest("device")
		test_device();

	igt_describe("Version, queues and timeout are sane, the clock goes forward");
	igt_subtest("npu")
		test_npu();

	igt_describe("What the driver says agrees with the device's registers");
	igt_subtest("hardware")
		test_hardware();

	igt_describe("mem_free follows objects in device memory");
	igt_subtest("mem-free-device")
		test_mem_free(NPU_DEVICE);

	igt_describe("mem_free follows objects in CPU-visible device memory");
	igt_subtest("mem-free-visible")
		test_mem_free(NPU_VISIBLE);

	igt_describe("Objects in host memory take no device memory");
	igt_subtest("mem-free-host")
		test_mem_free(NPU_HOST);

	igt_describe("Page tables take device memory and give it back");
	igt_subtest("mem-free-vm")
		test_vm_memory();

	igt_describe("Jobs and their bytes are counted");
	igt_subtest("job-counters")
		test_job_counters();

	igt_describe("TLB hits, misses and invalidations are counted");
	igt_subtest("tlb-counters")
		test_tlb_counters();

	igt_describe("The copy queue's fills are counted");
	igt_subtest("cleared-counter")
		test_cleared_counter();

	igt_describe("A file can have 1024 VMs and no more");
	igt_subtest("vm-limit")
		test_vm_limit();

	igt_describe("A file can have 256 queues and no more");
	igt_subtest("queue-limit")
		test_queue_limit();
}
