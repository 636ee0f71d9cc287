// SPDX-License-Identifier: MIT
/* Binds with syncs, bind queues, advice, and reading all of it back. */

#include <sys/ioctl.h>
#include <unistd.h>

#include "npu_lib.h"

int npu_map_sparse(int fd, uint32_t vm, uint64_t va, uint64_t size, uint32_t flags)
{
	struct drm_gmem_bind_op op = npu_op_sparse(va, size);

	op.flags = flags;
	return npu_bind(fd, vm, &op, 1);
}

int npu_bind_queue_create(int fd, uint32_t vm, uint32_t *queue)
{
	struct drm_gmem_bind_queue_create arg = { .vm_id = vm };
	int ret = npu_ioctl(fd, DRM_IOCTL_NPU_BIND_QUEUE_CREATE, &arg);

	*queue = ret ? 0 : arg.queue_id;
	igt_assert(ret || arg.queue_id);
	return ret;
}

int npu_bind_queue_destroy(int fd, uint32_t queue)
{
	struct drm_gmem_bind_queue_destroy arg = { .queue_id = queue };

	return npu_ioctl(fd, DRM_IOCTL_NPU_BIND_QUEUE_DESTROY, &arg);
}

/* Once: an interrupted bind is queued, and must not be queued again. */
static int bind(struct npu_ctx *ctx, uint32_t queue, uint32_t flags,
		const struct drm_gmem_bind_op *ops, uint32_t count,
		const struct drm_gmem_sync *syncs, uint32_t num_syncs)
{
	struct drm_gmem_bind arg = {
		.vm_id = ctx->vm, .flags = flags, .queue_id = queue,
		.num_ops = count, .ops = (uintptr_t)ops,
		.num_syncs = num_syncs, .syncs = num_syncs ? (uintptr_t)syncs : 0,
	};

	return ioctl(ctx->fd, DRM_IOCTL_NPU_BIND, &arg) < 0 ? -errno : 0;
}

int npu_bind_async(struct npu_ctx *ctx, uint32_t queue, const struct drm_gmem_bind_op *ops,
		   uint32_t count, const struct drm_gmem_sync *syncs, uint32_t num_syncs)
{
	return bind(ctx, queue, DRM_GMEM_BIND_ASYNC, ops, count, syncs, num_syncs);
}

/* Without ASYNC; -EINTR if a signal came. */
int npu_bind_once(struct npu_ctx *ctx, uint32_t queue, const struct drm_gmem_bind_op *ops,
		  uint32_t count, const struct drm_gmem_sync *syncs, uint32_t num_syncs)
{
	return bind(ctx, queue, 0, ops, count, syncs, num_syncs);
}

int npu_advise(int fd, uint32_t vm, uint64_t va, uint64_t size, uint32_t flags,
	       const struct drm_gmem_attr *attrs, uint32_t count)
{
	struct drm_gmem_advise arg = {
		.vm_id = vm, .flags = flags, .va = va, .size = size,
		.num_attrs = count, .attrs = count ? (uintptr_t)attrs : 0,
	};

	return npu_ioctl(fd, DRM_IOCTL_NPU_ADVISE, &arg);
}

/* One call: @va, @size and @count are what the kernel made of them. */
int npu_query_range(int fd, uint32_t vm, uint64_t *va, uint64_t *size,
		    struct drm_gmem_range *ranges, uint32_t *count)
{
	struct drm_gmem_query_range arg = {
		.vm_id = vm, .va = *va, .size = *size, .num_ranges = *count,
		.ranges = (uintptr_t)ranges,
	};
	int ret = npu_ioctl(fd, DRM_IOCTL_NPU_QUERY_RANGE, &arg);

	*va = arg.va;
	*size = arg.size;
	*count = arg.num_ranges;
	return ret;
}

/* All entries of a range, for which there is room; they follow each other without a gap. */
unsigned int npu_ranges(struct npu_ctx *ctx, uint64_t va, uint64_t size,
			struct drm_gmem_range *ranges, unsigned int room)
{
	uint64_t at = va, rest = size;
	uint32_t count = room;

	igt_assert_eq(npu_query_range(ctx->fd, ctx->vm, &at, &rest, ranges, &count), 0);
	igt_assert_lte(1, count);
	igt_assert_lte(count, room);
	igt_assert_eq_u64(at, va + size);
	igt_assert_eq_u64(rest, 0);
	for (unsigned int i = 0; i < count; i++) {
		igt_assert_eq_u64(ranges[i].va, va);
		igt_assert_lt_u64(0, ranges[i].size);
		igt_assert_eq_u32(ranges[i].pad, 0);
		igt_assert_eq_u64(ranges[i].advice[14] | ranges[i].advice[15], 0);
		va += ranges[i].size;
	}
	igt_assert_eq_u64(va, at);
	return count;
}

/* What is to be said of one page. */
struct drm_gmem_range npu_range_at(struct npu_ctx *ctx, uint64_t va)
{
	struct drm_gmem_range range;

	igt_assert_eq(npu_ranges(ctx, va, PAGE, &range, 1), 1);
	return range;
}

uint32_t npu_syncobj(int fd, uint32_t flags)
{
	uint32_t handle;

	igt_assert_eq(npu_syncobj_create(fd, flags, &handle), 0);
	return handle;
}

/* A job that takes eight bytes from one place to another. */
int npu_submit_copy(struct npu_ctx *ctx, uint32_t queue, uint64_t to, uint64_t from,
		    const struct drm_gmem_sync *syncs, uint32_t count)
{
	struct npu_cb cb = npu_begin(ctx);

	npu_cmd_copy(&cb, to, from, 8);
	return npu_submit(ctx, &cb, queue, syncs, count);
}

/*
 * A job may run for two seconds only: several of one queue wait for the same gate, and the
 * fence is that of the last.
 */
#define HOLD_JOBS	8

void npu_hold(struct npu_hold *hold)
{
	struct npu_ctx *ctx = &hold->ctx;

	npu_ctx_open(ctx);
	igt_require(npu_facts(ctx->fd).num_queues >= 2);
	hold->gate = npu_cell(ctx, 0);
	for (int i = 0; i < HOLD_JOBS; i++) {
		struct drm_gmem_sync sync = npu_signal(ctx->syncobj);
		struct npu_cb cb = npu_begin(ctx);

		npu_cmd_wait(&cb, hold->gate.va, 1);
		igt_assert_eq(npu_submit(ctx, &cb, ctx->queue, &sync, i == HOLD_JOBS - 1), 0);
	}
	hold->sync_file = npu_sync_file_export(ctx->fd, ctx->syncobj);
	igt_assert_fd(hold->sync_file);
}

/* A syncobj of file @fd with the fence in it. */
uint32_t npu_hold_syncobj(const struct npu_hold *hold, int fd)
{
	uint32_t handle = npu_syncobj(fd, 0);

	igt_assert_eq(npu_sync_file_import(fd, handle, hold->sync_file), 0);
	return handle;
}

/* To be asserted behind whatever must have been while the fence was not signalled. */
void npu_assert_held(const struct npu_hold *hold)
{
	igt_assert_f(npu_sync_file_status(hold->sync_file) == 0,
		     "the hold timed out first: others waited for it that should not, or the machine "
		     "is too slow\n");
}

void npu_release(struct npu_hold *hold)
{
	npu_assert_held(hold);
	*hold->gate.cpu = 1;
	igt_assert_eq(npu_sync_file_wait(hold->sync_file), 0);
	igt_assert_eq(npu_sync_file_status(hold->sync_file), 1);
	close(hold->sync_file);
	npu_ctx_close(&hold->ctx);
}
