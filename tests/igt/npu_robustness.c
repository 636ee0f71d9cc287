// SPDX-License-Identifier: MIT
/* Hardware that misbehaves: what the device's fault injection offers. */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Lost interrupts, hangs, copy errors");

static volatile uint32_t *regs;

static void require_injection(void)
{
	int index = npu_device_under_test();

	igt_require(index >= 0);
	regs = npu_registers(npu_device_bdf(index));
	igt_require_f(npu_reg(regs, NPU_REG_CAPS) & NPU_CAPS_INJECT,
		      "the device was started without --inject\n");
	npu_inject_nothing(regs);
}

static void start(struct npu_ctx *ctx)
{
	npu_inject_nothing(regs);
	npu_ctx_open(ctx);
	npu_assert_alive(ctx);
}

static uint32_t all_queues(int fd)
{
	return (1u << npu_facts(fd).num_queues) - 1;
}

/* A job whose interrupt is lost has still been done, and counts as done well. */
static void test_irq_lost(void)
{
	struct npu_ctx ctx;

	start(&ctx);
	for (unsigned int i = 0; i < npu_scale(2); i++) {
		npu_inject(regs, NPU_INJECT_IRQ_DROP, 1);
		npu_assert_alive(&ctx);
		npu_inject(regs, NPU_INJECT_IRQ_DROP, 0);
		npu_assert_alive(&ctx);
	}
	igt_assert_eq_u64(ctx.status.seqno, 0);
	npu_ctx_close(&ctx);
}

/* So for many jobs in a row. */
static void test_irqs_lost(void)
{
	struct drm_gmem_sync sync;
	struct npu_cell cell;
	struct npu_ctx ctx;

	start(&ctx);
	cell = npu_cell(&ctx, 0);
	npu_inject(regs, NPU_INJECT_IRQ_DROP, 6);
	for (int i = 1; i <= 20; i++) {
		struct npu_cb cb = npu_begin(&ctx);

		npu_cmd_write(&cb, cell.va, i);
		sync = npu_signal(ctx.syncobj);
		igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, i == 20), 0);
	}
	igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), 0);
	igt_assert_eq_u64(*cell.cpu, 20);
	igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
	igt_assert_eq_u64(ctx.status.seqno, 0);
	igt_assert_eq_u64(ctx.status.completed, 20 + 1);
	npu_inject_nothing(regs);
	npu_ctx_close(&ctx);
}

/* Clearing and TLB invalidations get over it, too. */
static void test_irq_lost_memory(void)
{
	struct npu_ctx ctx;
	uint32_t bo;

	start(&ctx);
	for (unsigned int i = 0; i < npu_scale(2); i++) {
		uint64_t va = npu_va(&ctx, MIB(1), MIB(2));

		npu_inject(regs, NPU_INJECT_IRQ_DROP, 1);
		igt_assert_eq(npu_bo_create(ctx.fd, MIB(1), NPU_DEVICE, &bo), 0);
		npu_inject(regs, NPU_INJECT_IRQ_DROP, 0);
		igt_assert(npu_is_filled(&ctx, bo, MIB(1), 0));
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, MIB(1), 0), 0);
		igt_assert_eq(npu_write(&ctx, va, 1), 0);
		npu_inject(regs, NPU_INJECT_IRQ_DROP, 1);
		igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, MIB(1)), 0);
		npu_inject(regs, NPU_INJECT_IRQ_DROP, 0);
		npu_assert_unmapped(&ctx, va);
		igt_assert_eq(npu_bo_close(ctx.fd, bo), 0);
	}
	npu_ctx_close(&ctx);
}

static void test_irq_delay(void)
{
	struct npu_ctx ctx;
	struct npu_bo bo;

	start(&ctx);
	npu_inject(regs, NPU_INJECT_IRQ_DELAY, 30);
	for (unsigned int i = 0; i < npu_scale(5); i++) {
		npu_assert_alive(&ctx);
		bo = npu_bo(&ctx, KIB(64), NPU_DEVICE, 0);
		igt_assert_eq(npu_write(&ctx, bo.va, i), 0);
		npu_bo_free(&ctx, &bo);
	}
	npu_inject_nothing(regs);
	for (int i = 0; i < 5; i++)
		npu_assert_alive(&ctx);
	igt_assert_eq_u64(ctx.status.seqno, 0);
	npu_ctx_close(&ctx);
}

/* The device hangs in a job: it times out, and only it. */
static void test_hang(void)
{
	struct npu_ctx ctx, other;

	start(&ctx);
	npu_ctx_open(&other);
	for (unsigned int i = 0; i < npu_scale(2); i++) {
		struct drm_gmem_sync sync = npu_signal(ctx.syncobj);
		struct npu_cb cb = npu_begin(&ctx);

		npu_cmd_nop(&cb);
		npu_inject(regs, NPU_INJECT_HANG, all_queues(ctx.fd));
		igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
		for (int ms = 0; npu_reg(regs, NPU_INJECT_HANG) == all_queues(ctx.fd) && ms < 60000; ms++)
			usleep(1000);
		npu_inject(regs, NPU_INJECT_HANG, 0);
		if (npu_facts(ctx.fd).num_queues > 1)
			npu_assert_alive(&other);
		igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), -ETIMEDOUT);
		igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
		igt_assert_eq_u32(ctx.status.error, ETIMEDOUT);
		igt_assert_eq_u64(ctx.status.seqno, ctx.seqno);
		npu_assert_alive(&ctx);
		npu_assert_alive(&other);
	}
	npu_ctx_close(&other);
	npu_ctx_close(&ctx);
}

/* Every hardware queue hangs at once. */
static void test_hang_all(void)
{
	struct npu_ctx ctx;
	uint32_t queue[16], done[16];
	unsigned int n;

	start(&ctx);
	n = npu_facts(ctx.fd).num_queues;
	npu_inject(regs, NPU_INJECT_HANG, all_queues(ctx.fd));
	for (unsigned int i = 0; i < n; i++) {
		struct npu_cb cb = npu_begin(&ctx);
		struct drm_gmem_sync sync;

		igt_assert_eq(npu_queue_create(ctx.fd, &queue[i]), 0);
		igt_assert_eq(npu_syncobj_create(ctx.fd, 0, &done[i]), 0);
		sync = npu_signal(done[i]);
		npu_cmd_nop(&cb);
		igt_assert_eq(npu_submit(&ctx, &cb, queue[i], &sync, 1), 0);
	}
	for (unsigned int i = 0; i < n; i++)
		igt_assert_eq(npu_fence_result(ctx.fd, done[i]), -ETIMEDOUT);
	igt_assert_eq_u32(npu_reg(regs, NPU_INJECT_HANG), 0);
	for (unsigned int i = 0; i < 4; i++)
		npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

/* A hung job can be got rid of by destroying its queue or closing its file. */
static void test_hang_close(bool whole_file)
{
	struct npu_ctx ctx, other;
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	start(&ctx);
	for (unsigned int i = 0; i < 2; i++) {
		struct npu_cb cb = npu_begin(&ctx);
		uint32_t queue;

		igt_assert_eq(npu_queue_create(ctx.fd, &queue), 0);
		npu_cmd_nop(&cb);
		npu_inject(regs, NPU_INJECT_HANG, all_queues(ctx.fd));
		igt_assert_eq(npu_submit(&ctx, &cb, queue, NULL, 0), 0);
		for (int ms = 0; npu_reg(regs, NPU_INJECT_HANG) == all_queues(ctx.fd) && ms < 60000; ms++)
			usleep(1000);
		npu_inject(regs, NPU_INJECT_HANG, 0);
		if (!whole_file) {
			igt_assert_eq(npu_queue_destroy(ctx.fd, queue), 0);
			npu_assert_alive(&ctx);
		}
	}
	npu_ctx_drop(&ctx);
	npu_assert_mem_free(base, before);
	npu_ctx_open(&other);
	npu_assert_alive(&other);
	npu_ctx_close(&other);
	close(base);
}

/* Memory that can't be cleared isn't given to anybody, nor lost. */
static void test_copy_error(bool hang)
{
	enum npu_inject what = hang ? NPU_INJECT_COPY_HANG : NPU_INJECT_COPY_ERROR;
	struct npu_ctx ctx;
	uint64_t before;

	start(&ctx);
	before = npu_mem_free(ctx.fd);
	for (unsigned int i = 0; i < npu_scale(hang ? 1 : 3); i++) {
		uint32_t bo;
		int ret;

		npu_inject(regs, what, 1);
		ret = npu_bo_create(ctx.fd, MIB(1), NPU_DEVICE, &bo);
		npu_inject(regs, what, 0);
		igt_assert_eq(ret, -EIO);
		npu_assert_mem_free(ctx.fd, before);

		igt_assert_eq(npu_bo_create(ctx.fd, MIB(1), NPU_DEVICE, &bo), 0);
		igt_assert(npu_is_filled(&ctx, bo, MIB(1), 0));
		igt_assert_eq(npu_bo_close(ctx.fd, bo), 0);
		before = npu_mem_free(ctx.fd);
		npu_assert_alive(&ctx);
	}
	npu_ctx_close(&ctx);
}

/*
 * The device's TLB is real: if invalidations do nothing, a job sees what was
 * mapped before. This is what npu_remap would notice a driver without them by.
 */
static void test_tlb_matters(void)
{
	struct npu_ctx ctx;
	uint32_t bo[3];
	uint64_t va, value;

	start(&ctx);
	for (int i = 0; i < 3; i++) {
		igt_assert_eq(npu_bo_create(ctx.fd, PAGE, NPU_DEVICE, &bo[i]), 0);
		npu_bo_tag(&ctx, bo[i], PAGE, i);
	}
	va = npu_va(&ctx, PAGE, PAGE);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[0], va, 0, PAGE, 0), 0);
	igt_assert_eq(npu_read(&ctx, va, &value), 0);
	igt_assert_eq_u64(value, npu_tag(0, 0));

	npu_inject(regs, NPU_INJECT_SKIP_TLB, 1000);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[1], va, 0, PAGE, 0), 0);
	igt_assert_lt_u64(npu_reg(regs, NPU_INJECT_SKIP_TLB), 1000);
	igt_assert_eq(npu_read(&ctx, va, &value), 0);
	npu_inject(regs, NPU_INJECT_SKIP_TLB, 0);
	igt_assert_eq_u64(value, npu_tag(0, 0));

	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[2], va, 0, PAGE, 0), 0);
	igt_assert_eq(npu_read(&ctx, va, &value), 0);
	igt_assert_eq_u64(value, npu_tag(2, 0));
	npu_ctx_close(&ctx);
}

static void start_faults(struct npu_ctx *ctx)
{
	start(ctx);
	igt_require_f(npu_can_fault(ctx->fd), "the device can't fault\n");
}

static void assert_faults(struct npu_ctx *ctx)
{
	npu_assert_fault(ctx, npu_write(ctx, GIB(77), 0), GIB(77), NPU_NOT_MAPPED);
	igt_assert_eq_u32(ctx->status.access, NPU_WRITE);
}

/* A fault whose interrupt is lost is answered all the same, and so is the next one. */
static void test_irq_lost_fault(void)
{
	struct npu_ctx ctx;

	start_faults(&ctx);
	for (unsigned int i = 0; i < npu_scale(3); i++) {
		npu_inject(regs, NPU_INJECT_IRQ_DROP, 1);
		assert_faults(&ctx);
		npu_inject(regs, NPU_INJECT_IRQ_DROP, 0);
		assert_faults(&ctx);
		npu_assert_alive(&ctx);
	}
	npu_ctx_close(&ctx);
}

/* A fault for which there is no room waits for it. */
static void test_fault_ring_full(void)
{
	struct npu_ctx ctx;

	start_faults(&ctx);
	npu_inject(regs, NPU_INJECT_FAULT_FULL, 300);
	assert_faults(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

/* A job whose fault nobody hears of is killed in time; what comes after it is not taken for it. */
static void test_fault_unheard(void)
{
	struct npu_ctx ctx;

	start_faults(&ctx);
	npu_inject(regs, NPU_INJECT_FAULT_FULL, 10000);
	igt_assert_eq(npu_write(&ctx, GIB(77), 0), -ETIMEDOUT);
	igt_assert_eq_u32(ctx.status.access, 0);
	npu_assert_alive(&ctx);
	npu_inject(regs, NPU_INJECT_FAULT_FULL, 0);
	assert_faults(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		require_injection();

	igt_describe("A lost interrupt delays a job, no more");
	igt_subtest("irq-lost")
		test_irq_lost();

	igt_describe("Several lost interrupts in a row");
	igt_subtest("irqs-lost")
		test_irqs_lost();

	igt_describe("Lost interrupts while memory is cleared and unmapped");
	igt_subtest("irq-lost-memory")
		test_irq_lost_memory();

	igt_describe("A lost interrupt delays the answer to a fault, no more");
	igt_subtest("irq-lost-fault")
		test_irq_lost_fault();

	igt_describe("A full fault ring loses nothing");
	igt_subtest("fault-ring-full")
		test_fault_ring_full();

	igt_describe("A job that waits on a fault for ever is killed");
	igt_subtest("fault-unheard")
		test_fault_unheard();

	igt_describe("Interrupts that come late do no harm");
	igt_subtest("irq-delay")
		test_irq_delay();

	igt_describe("A job in which the device hangs times out, and only it");
	igt_subtest("hang")
		test_hang();

	igt_describe("All hardware queues hang at once");
	igt_subtest("hang-all")
		test_hang_all();

	igt_describe("A queue whose job hangs can be destroyed");
	igt_subtest("hang-destroy")
		test_hang_close(false);

	igt_describe("A file whose jobs hang can be closed");
	igt_subtest("hang-close")
		test_hang_close(true);

	igt_describe("An error while memory is cleared gives -EIO and loses nothing");
	igt_subtest("copy-error")
		test_copy_error(false);

	igt_describe("A hang while memory is cleared gives -EIO and loses nothing");
	igt_subtest("copy-hang")
		test_copy_error(true);

	igt_describe("Without TLB invalidations a job would see old mappings");
	igt_subtest("tlb-matters")
		test_tlb_matters();

	igt_fixture()
		npu_inject_nothing(regs);
}
