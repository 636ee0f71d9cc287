// SPDX-License-Identifier: MIT
/* One client can't see or touch what is another's, present or past. */

#include <signal.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Isolation of clients from each other");

#define SECRET	0x5ec7e75eu

/*
 * Objects until there is no more room but for page tables; says how many bytes
 * they are.
 */
static uint64_t take_all(struct npu_ctx *ctx, uint32_t placement, uint32_t *bo, uint64_t *size,
			 unsigned int room, unsigned int *count)
{
	uint64_t total = 0;
	uint32_t reserve;

	*count = 0;
	igt_assert_eq(npu_bo_create(ctx->fd, npu_round_up(npu_mem_free(ctx->fd) / 256, KIB(64)),
				    NPU_PINNED, &reserve), 0);
	for (uint64_t piece = MIB(4); piece >= KIB(64); piece /= 4) {
		while (*count < room && !npu_bo_create(ctx->fd, piece,
							  placement | NPU_PINNED, &bo[*count])) {
			size[(*count)++] = piece;
			total += piece;
		}
	}
	igt_assert_eq(npu_bo_close(ctx->fd, reserve), 0);
	return total;
}

/* Device memory, full of one client's secrets, is zero for the next. */
static void test_cleared(uint32_t placement, bool killed)
{
	static uint32_t bo[256];
	static uint64_t size[256];
	struct npu_ctx ctx;
	unsigned int count;
	uint64_t total;
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	igt_require(placement != NPU_VISIBLE || npu_device_info(base).mem_visible);
	igt_fork(child, 1) {
		npu_ctx_open(&ctx);
		take_all(&ctx, placement, bo, size, ARRAY_LEN(bo), &count);
		for (unsigned int i = 0; i < count; i++)
			npu_fill(&ctx, bo[i], size[i], SECRET);
		if (killed)
			for (;;)
				pause();
	}
	if (killed) {
		/* It has finished when the device is full and its counters stand still. */
		uint64_t last = ~0ull;

		for (int i = 0; i < 600; i++) {
			uint64_t now = npu_facts(base).bytes_written;

			if (now == last && npu_mem_free(base) < before / 2)
				break;
			last = now;
			usleep(200000);
		}
		igt_kill_children(SIGKILL);
		igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
	} else {
		igt_waitchildren();
	}
	npu_assert_mem_free(base, before);

	npu_ctx_open(&ctx);
	total = take_all(&ctx, placement, bo, size, ARRAY_LEN(bo), &count);
	igt_info("%llu KiB to look at\n", (unsigned long long)total >> 10);
	for (unsigned int i = 0; i < count; i++)
		igt_assert(npu_is_filled(&ctx, bo[i], size[i], 0));
	npu_ctx_close(&ctx);
	npu_assert_mem_free(base, before);
	close(base);
}

/* Host memory as well. */
static void test_cleared_host(void)
{
	struct npu_ctx ctx;
	uint32_t bo[8];

	igt_fork(child, 1) {
		npu_ctx_open(&ctx);
		for (int i = 0; i < 8; i++) {
			igt_assert_eq(npu_bo_create(ctx.fd, MIB(4), NPU_HOST, &bo[i]), 0);
			npu_fill(&ctx, bo[i], MIB(4), SECRET);
		}
	}
	igt_waitchildren();
	npu_ctx_open(&ctx);
	for (int i = 0; i < 8; i++) {
		igt_assert_eq(npu_bo_create(ctx.fd, MIB(4), NPU_HOST, &bo[i]), 0);
		igt_assert(npu_is_filled(&ctx, bo[i], MIB(4), 0));
	}
	npu_ctx_close(&ctx);
}

/* Ids are the file's own, for every call that takes one. */
static void test_ids(void)
{
	struct npu_ctx ctx, mine;
	uint32_t vm, queue, bo, syncobj;
	struct drm_npu_job_status status;
	struct drm_gmem_sync sync;
	uint64_t offset;

	npu_ctx_open(&ctx);
	npu_ctx_open(&mine);
	for (int i = 0; i < 8; i++) {
		igt_assert_eq(npu_vm_create(ctx.fd, &vm), 0);
		igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
		igt_assert_eq(npu_bo_create(ctx.fd, PAGE, NPU_HOST, &bo), 0);
		igt_assert_eq(npu_syncobj_create(ctx.fd, DRM_SYNCOBJ_CREATE_SIGNALED, &syncobj), 0);
	}
	igt_assert_eq(npu_vm_destroy(mine.fd, vm), -ENOENT);
	igt_assert_eq(npu_queue_destroy(mine.fd, queue), -ENOENT);
	igt_assert_eq(npu_job_status(mine.fd, queue, &status), -ENOENT);
	igt_assert_eq(npu_bo_offset(mine.fd, bo, &offset), -ENOENT);
	igt_assert_eq(npu_bo_close(mine.fd, bo), -EINVAL);
	igt_assert_eq(npu_map(mine.fd, vm, mine.cells.handle, GIB(1), 0, PAGE, 0), -ENOENT);
	igt_assert_eq(npu_map(mine.fd, mine.vm, bo, GIB(1), 0, PAGE, 0), -ENOENT);
	igt_assert_eq(npu_unmap(mine.fd, vm, GIB(1), PAGE), -ENOENT);
	igt_assert_eq(npu_submit_raw(mine.fd, queue, mine.vm, mine.cmds.va, 8, NULL, 0), -ENOENT);
	igt_assert_eq(npu_submit_raw(mine.fd, mine.queue, vm, mine.cmds.va, 8, NULL, 0), -ENOENT);
	sync = npu_wait_for(syncobj);
	igt_assert_eq(npu_submit_raw(mine.fd, mine.queue, mine.vm, mine.cmds.va, 8, &sync, 1), -ENOENT);
	npu_assert_alive(&mine);

	/* And they are all still there. */
	igt_assert_eq(npu_vm_destroy(ctx.fd, vm), 0);
	igt_assert_eq(npu_queue_destroy(ctx.fd, queue), 0);
	igt_assert_eq(npu_bo_close(ctx.fd, bo), 0);
	npu_ctx_close(&ctx);
	npu_ctx_close(&mine);
}

/* An address that means something to one means nothing to another, cached or not. */
static void test_addresses(void)
{
	struct npu_ctx ctx, spy;
	struct npu_bo bo;

	npu_ctx_open(&ctx);
	npu_ctx_open(&spy);
	bo = npu_bo(&ctx, MIB(2), NPU_DEVICE, 0);
	bo.va = GIB(11);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo.handle, bo.va, 0, MIB(2), 0), 0);
	for (unsigned int round = 0; round < npu_scale(10); round++) {
		uint64_t at = bo.va + round * KIB(68), value;

		igt_assert_eq(npu_write(&ctx, at, npu_tag(7, round)), 0);
		npu_assert_unmapped(&spy, at);
		igt_assert_eq(npu_read(&ctx, at, &value), 0);
		igt_assert_eq_u64(value, npu_tag(7, round));
	}
	npu_ctx_close(&spy);
	npu_ctx_close(&ctx);
}

/* Both use the same addresses for their own, at the same time. */
static void test_same_addresses(void)
{
	igt_fork(child, 6) {
		struct npu_ctx ctx;
		uint32_t bo;

		npu_ctx_open(&ctx);
		igt_assert_eq(npu_bo_create(ctx.fd, KIB(256), child & 1 ? NPU_HOST : NPU_DEVICE, &bo), 0);
		npu_bo_tag(&ctx, bo, KIB(256), child);
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, GIB(13), 0, KIB(256), 0), 0);
		for (unsigned int i = 0; i < npu_scale(8); i++) {
			npu_assert_tags(&ctx, GIB(13), 64, child, 0);
			igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, GIB(13) + KIB(64), KIB(64),
					      KIB(64), 0), 0);
		}
		npu_ctx_close(&ctx);
	}
	igt_waitchildren();
}

/* A dead client's root table is soon another's; its mappings never are. */
static void test_dead_mappings(void)
{
	for (unsigned int round = 0; round < npu_scale(8); round++) {
		struct npu_ctx ctx;

		igt_fork(child, 1) {
			struct npu_ctx victim;
			uint32_t bo;

			npu_ctx_open(&victim);
			igt_assert_eq(npu_bo_create(victim.fd, MIB(2), NPU_DEVICE, &bo), 0);
			igt_assert_eq(npu_map(victim.fd, victim.vm, bo, GIB(17), 0, MIB(2), 0), 0);
			for (int i = 0; i < 4; i++)
				igt_assert_eq(npu_write(&victim, GIB(17) + i * KIB(100) / 8 * 8, SECRET), 0);
		}
		igt_waitchildren();
		npu_ctx_open(&ctx);
		for (int i = 0; i < 4; i++)
			npu_assert_unmapped(&ctx, GIB(17) + i * KIB(100) / 8 * 8);
		npu_ctx_close(&ctx);
	}
}

/* A job's results go where its own VM says, whatever other VMs its file has. */
static void test_vm_of_job(void)
{
	struct npu_ctx a, b;
	uint32_t bo[2];
	uint64_t value;

	npu_ctx_open(&a);
	npu_ctx_init(&b, a.fd);
	for (int i = 0; i < 2; i++)
		igt_assert_eq(npu_bo_create(a.fd, PAGE, NPU_DEVICE, &bo[i]), 0);
	igt_assert_eq(npu_map(a.fd, a.vm, bo[0], GIB(19), 0, PAGE, 0), 0);
	igt_assert_eq(npu_map(a.fd, b.vm, bo[1], GIB(19), 0, PAGE, 0), 0);
	for (unsigned int i = 0; i < npu_scale(10); i++) {
		igt_assert_eq(npu_write(&a, GIB(19), 2 * i), 0);
		igt_assert_eq(npu_write(&b, GIB(19), 2 * i + 1), 0);
		igt_assert_eq(npu_read(&a, GIB(19), &value), 0);
		igt_assert_eq_u64(value, 2 * i);
		igt_assert_eq(npu_read(&b, GIB(19), &value), 0);
		igt_assert_eq_u64(value, 2 * i + 1);
	}
	npu_ctx_fini(&b);
	npu_ctx_close(&a);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Device memory that a client left behind is zero for the next");
	igt_subtest("cleared-device")
		test_cleared(NPU_DEVICE, false);

	igt_describe("CPU-visible device memory that a client left behind is zero for the next");
	igt_subtest("cleared-visible")
		test_cleared(NPU_VISIBLE, false);

	igt_describe("Device memory of a client that was killed is zero for the next");
	igt_subtest("cleared-killed")
		test_cleared(NPU_DEVICE, true);

	igt_describe("Host memory that a client left behind is zero for the next");
	igt_subtest("cleared-host")
		test_cleared_host();

	igt_describe("Ids and handles of another file don't exist");
	igt_subtest("ids")
		test_ids();

	igt_describe("Addresses of another client's VM can't be reached");
	igt_subtest("addresses")
		test_addresses();

	igt_describe("Several clients use the same addresses at once");
	igt_subtest("same-addresses")
		test_same_addresses();

	igt_describe("Mappings of a dead client don't come back in a new VM");
	igt_subtest("dead-mappings")
		test_dead_mappings();

	igt_describe("Jobs of two VMs of one file see their own VM only");
	igt_subtest("vm-of-job")
		test_vm_of_job();
}
