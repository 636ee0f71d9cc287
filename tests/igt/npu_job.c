// SPDX-License-Identifier: MIT
/* One client of the device with all it takes to run jobs. */

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

#define CMDS_SIZE	KIB(512)
#define JOB_SIZE	KIB(64)		/* the most that one job's commands take */
#define CELLS_SIZE	KIB(64)

/* A VM, a queue, room for commands and for results, in a file that's open already. */
void npu_ctx_init(struct npu_ctx *ctx, int fd)
{
	struct drm_gmem_query_device info = npu_device_info(fd);

	*ctx = (struct npu_ctx) {
		.fd = fd,
		.va_at = npu_round_up(npu_max(info.va_start, MIB(2)), MIB(2)),
		.va_end = info.va_end,
	};
	igt_assert_eq(npu_vm_create(fd, &ctx->vm), 0);
	igt_assert_eq(npu_queue_create(fd, &ctx->queue), 0);
	igt_assert_eq(npu_syncobj_create(fd, 0, &ctx->syncobj), 0);
	ctx->cmds = npu_bo(ctx, CMDS_SIZE, NPU_HOST, DRM_GMEM_BIND_READONLY | DRM_GMEM_BIND_EXEC);
	ctx->cells = npu_bo(ctx, CELLS_SIZE, NPU_HOST, 0);
}

void npu_ctx_fini(struct npu_ctx *ctx)
{
	npu_bo_free(ctx, &ctx->cmds);
	npu_bo_free(ctx, &ctx->cells);
	igt_assert_eq(npu_syncobj_destroy(ctx->fd, ctx->syncobj), 0);
	igt_assert_eq(npu_queue_destroy(ctx->fd, ctx->queue), 0);
	igt_assert_eq(npu_vm_destroy(ctx->fd, ctx->vm), 0);
}

void npu_ctx_open(struct npu_ctx *ctx)
{
	npu_ctx_init(ctx, npu_open());
}

void npu_ctx_close(struct npu_ctx *ctx)
{
	npu_ctx_fini(ctx);
	close(ctx->fd);
}

/* Leaves it to the kernel; a mapping would keep the file. */
void npu_ctx_drop(struct npu_ctx *ctx)
{
	igt_assert_eq(munmap(ctx->cmds.cpu, ctx->cmds.size), 0);
	igt_assert_eq(munmap(ctx->cells.cpu, ctx->cells.size), 0);
	close(ctx->fd);
}

/* Device addresses nobody else uses, with a hole of at least a page behind them. */
uint64_t npu_va(struct npu_ctx *ctx, uint64_t size, uint64_t align)
{
	uint64_t va = npu_round_up(ctx->va_at, align);

	ctx->va_at = va + npu_round_up(size, PAGE) + PAGE;
	igt_assert(ctx->va_at <= ctx->va_end);
	return va;
}

/* An object, mapped on the device, and for the CPU where that's possible. */
struct npu_bo npu_bo(struct npu_ctx *ctx, uint64_t size, uint32_t placement, uint32_t bind_flags)
{
	struct npu_bo bo = { .size = size };

	igt_assert_eq(npu_bo_create(ctx->fd, size, placement, &bo.handle), 0);
	if (placement == NPU_HOST || placement & DRM_GMEM_BO_CPU_VISIBLE)
		bo.cpu = npu_bo_cpu(ctx->fd, bo.handle, size);
	bo.va = npu_va(ctx, size, size >= MIB(2) ? MIB(2) : KIB(64));
	igt_assert_eq(npu_map(ctx->fd, ctx->vm, bo.handle, bo.va, 0, size, bind_flags), 0);
	return bo;
}

void npu_bo_free(struct npu_ctx *ctx, struct npu_bo *bo)
{
	if (bo->cpu)
		igt_assert_eq(munmap(bo->cpu, bo->size), 0);
	if (bo->va)
		igt_assert_eq(npu_unmap(ctx->fd, ctx->vm, bo->va, bo->size), 0);
	igt_assert_eq(npu_bo_close(ctx->fd, bo->handle), 0);
	*bo = (struct npu_bo) {};
}

/* Cells are taken in turn: one is safe until 8192 others have been taken. */
struct npu_cell npu_cell(struct npu_ctx *ctx, uint64_t value)
{
	struct npu_cell cell = {
		.cpu = (volatile uint64_t *)((char *)ctx->cells.cpu + ctx->cells_at),
		.va = ctx->cells.va + ctx->cells_at,
	};

	ctx->cells_at = (ctx->cells_at + sizeof(uint64_t)) % CELLS_SIZE;
	*cell.cpu = value;
	return cell;
}

/* Begins a job's commands; it must be submitted before the next is begun. */
struct npu_cb npu_begin(struct npu_ctx *ctx)
{
	struct npu_cb cb;

	if (ctx->cmds_at + JOB_SIZE > CMDS_SIZE)
		ctx->cmds_at = 0;
	cb.start = cb.p = (uint64_t *)((char *)ctx->cmds.cpu + ctx->cmds_at);
	cb.end = cb.start + JOB_SIZE / sizeof(uint64_t);
	cb.va = ctx->cmds.va + ctx->cmds_at;
	return cb;
}

int npu_submit(struct npu_ctx *ctx, const struct npu_cb *cb, uint32_t queue,
	       const struct drm_gmem_sync *syncs, uint32_t count)
{
	int ret;

	__sync_synchronize();
	ret = npu_submit_raw(ctx->fd, queue, ctx->vm, cb->va, npu_cb_size(cb), syncs, count);
	if (ret)
		return ret;
	if (queue == ctx->queue)
		ctx->seqno++;
	ctx->cmds_at += npu_round_up(npu_cb_size(cb), 64);
	return 0;
}

/* Runs the commands to their end: 0, or the error that their job ended with. */
int npu_run(struct npu_ctx *ctx, const struct npu_cb *cb)
{
	struct drm_gmem_sync sync = npu_signal(ctx->syncobj);
	int result;

	igt_assert_eq(npu_submit(ctx, cb, ctx->queue, &sync, 1), 0);
	result = npu_fence_result(ctx->fd, ctx->syncobj);

	/* job_status tells the same. */
	igt_assert_eq(npu_job_status(ctx->fd, ctx->queue, &ctx->status), 0);
	igt_assert_lte_u64(ctx->status.completed, ctx->seqno);
	if (result) {
		igt_assert_eq_u64(ctx->status.seqno, ctx->seqno);
		igt_assert_eq((int)ctx->status.error, -result);
	} else {
		igt_assert_neq_u64(ctx->status.seqno, ctx->seqno);
	}
	return result;
}

int npu_read(struct npu_ctx *ctx, uint64_t va, uint64_t *value)
{
	struct npu_cell cell = npu_cell(ctx, ~0ull);
	struct npu_cb cb = npu_begin(ctx);
	int result;

	npu_cmd_copy(&cb, cell.va, va, sizeof(uint64_t));
	result = npu_run(ctx, &cb);
	*value = *cell.cpu;
	return result;
}

int npu_write(struct npu_ctx *ctx, uint64_t va, uint64_t value)
{
	struct npu_cb cb = npu_begin(ctx);

	npu_cmd_write(&cb, va, value);
	return npu_run(ctx, &cb);
}

/* Jobs still run and do what they should. */
void npu_assert_alive(struct npu_ctx *ctx)
{
	struct npu_cell from = npu_cell(ctx, 0), to = npu_cell(ctx, 0);
	struct npu_cb cb = npu_begin(ctx);

	npu_cmd_write(&cb, from.va, 0x600d600d600dull);
	npu_cmd_copy(&cb, to.va, from.va, 8);
	igt_assert_eq(npu_run(ctx, &cb), 0);
	igt_assert_eq_u64(*to.cpu, 0x600d600d600dull);
}

/* The job that npu_run() saw last ended by touching @va's page in a way it may not. */
void npu_assert_fault(struct npu_ctx *ctx, int result, uint64_t va, uint32_t reason)
{
	igt_assert_eq(result, -EFAULT);
	igt_assert_eq_u32(ctx->status.reason, reason);
	igt_assert_eq_u64(ctx->status.detail & ~(PAGE - 1), va & ~(PAGE - 1));
	if (!npu_can_fault(ctx->fd)) {
		/* The completion does not tell. */
		igt_assert_eq_u32(ctx->status.access, 0);
		return;
	}
	switch (ctx->status.access) {
	case NPU_READ:
		igt_assert(reason == NPU_NOT_MAPPED || reason == NPU_OUTSIDE);
		break;
	case NPU_WRITE:
		igt_assert_neq(reason, NPU_NOT_EXECUTABLE);
		break;
	case NPU_FETCH:
		igt_assert_neq(reason, NPU_NOT_WRITABLE);
		break;
	default:
		igt_assert_f(false, "access %u\n", ctx->status.access);
	}
}

/* Submits a job that waits for its gate to open. */
void npu_block_submit(struct npu_ctx *ctx, uint32_t queue, struct npu_blocker *blocker)
{
	struct drm_gmem_sync sync;
	struct npu_cb cb;

	blocker->started = npu_cell(ctx, 0);
	blocker->gate = npu_cell(ctx, 0);
	igt_assert_eq(npu_syncobj_create(ctx->fd, 0, &blocker->syncobj), 0);

	sync = npu_signal(blocker->syncobj);
	cb = npu_begin(ctx);
	npu_cmd_write(&cb, blocker->started.va, 1);
	npu_cmd_wait(&cb, blocker->gate.va, 1);
	igt_assert_eq(npu_submit(ctx, &cb, queue, &sync, 1), 0);
}

/* Returns once the device is in the job. */
void npu_block_started(const struct npu_blocker *blocker)
{
	for (int ms = 0; !*blocker->started.cpu && ms < 60000; ms++)
		usleep(1000);
	igt_assert_eq_u64(*blocker->started.cpu, 1);
}

void npu_block(struct npu_ctx *ctx, uint32_t queue, struct npu_blocker *blocker)
{
	npu_block_submit(ctx, queue, blocker);
	npu_block_started(blocker);
}

/* Opens the gate: 0, or -ETIMEDOUT if the driver lost patience before. */
int npu_unblock(struct npu_ctx *ctx, struct npu_blocker *blocker)
{
	int result;

	*blocker->gate.cpu = 1;
	result = npu_fence_result(ctx->fd, blocker->syncobj);
	igt_assert_eq(npu_syncobj_destroy(ctx->fd, blocker->syncobj), 0);
	return result;
}

/*
 * For what has to happen while a blocker runs: on a slow machine the job timeout may
 * come first. Then the attempt returns false and has shown nothing.
 */
void npu_retry(bool (*attempt)(void *arg), void *arg)
{
	for (int i = 0; i < 5; i++) {
		if (attempt(arg))
			return;
		igt_info("the blocked job timed out first, once more\n");
	}
	igt_assert_f(false, "the blocked job always timed out first: others have to wait for it, "
		     "or the machine is too slow\n");
}
