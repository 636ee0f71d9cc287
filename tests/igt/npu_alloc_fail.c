// SPDX-License-Identifier: MIT
/*
 * Every allocation that an ioctl makes fails once. The call then gives -ENOMEM
 * or -ENOSPC, or does without; it never leaks, and never does half of what it
 * should.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Allocation failures in each ioctl");

static struct scene {
	struct npu_ctx ctx;
	uint32_t a, b;		/* 128 KiB of tagged device memory each */
	uint64_t va;		/* where a is mapped */
	uint64_t far;		/* where nothing is, nor a page table */
	uint32_t id;		/* what the call made */
	uint32_t done, ready, line;
	uint64_t point;		/* of line: the next one */
	uint32_t bind_queue;
	uint64_t advised;	/* where FOLLOW is set */
	struct npu_cb cb;
	struct npu_dmabuf foreign;
	struct npu_dmabufs dmabufs;
} scene;

static void scene_open(void)
{
	const struct drm_gmem_attr follow = { .kind = DRM_GMEM_ATTR_FOLLOW, .value = 1 };
	struct npu_ctx *ctx = &scene.ctx;

	npu_ctx_open(ctx);
	igt_assert_eq(npu_bo_create(ctx->fd, KIB(128), NPU_PINNED, &scene.a), 0);
	igt_assert_eq(npu_bo_create(ctx->fd, KIB(128), NPU_PINNED, &scene.b), 0);
	npu_bo_tag(ctx, scene.a, KIB(128), 1);
	npu_bo_tag(ctx, scene.b, KIB(128), 2);
	scene.va = npu_va(ctx, MIB(4), MIB(2));
	igt_assert_eq(npu_map(ctx->fd, ctx->vm, scene.a, scene.va, 0, KIB(128), 0), 0);
	scene.far = GIB(3000);
	igt_assert_eq(npu_syncobj_create(ctx->fd, 0, &scene.done), 0);
	igt_assert_eq(npu_syncobj_create(ctx->fd, DRM_SYNCOBJ_CREATE_SIGNALED, &scene.ready), 0);
	igt_assert_eq(npu_syncobj_create(ctx->fd, 0, &scene.line), 0);
	scene.point = 1;
	igt_assert_eq(npu_bind_queue_create(ctx->fd, ctx->vm, &scene.bind_queue), 0);
	scene.advised = npu_va(ctx, MIB(1), MIB(2));
	igt_assert_eq(npu_advise(ctx->fd, ctx->vm, scene.advised, MIB(1), 0, &follow, 1), 0);
	scene.foreign = npu_udmabuf(KIB(64), 0, NULL);
	scene.dmabufs = npu_dmabufs();
	npu_assert_alive(ctx);
}

static void assert_mapped(void)
{
	npu_assert_tags(&scene.ctx, scene.va, 32, 1, 0);
}

/* The calls: what to do, what must hold if it failed, how to undo it if it didn't. */

static int do_query(void)
{
	struct drm_gmem_query_device q = {};

	return npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_QUERY_DEVICE, &q);
}

static int do_facts(void)
{
	struct drm_npu_query q = {};

	return npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_QUERY, &q);
}

static int do_vm(void)
{
	return npu_vm_create(scene.ctx.fd, &scene.id);
}

static void undo_vm(void)
{
	igt_assert_eq(npu_vm_destroy(scene.ctx.fd, scene.id), 0);
}

static int do_device_bo(void)
{
	return npu_bo_create(scene.ctx.fd, KIB(76), NPU_DEVICE, &scene.id);
}

static int do_visible_bo(void)
{
	return npu_bo_create(scene.ctx.fd, KIB(76), NPU_VISIBLE, &scene.id);
}

static int do_host_bo(void)
{
	return npu_bo_create(scene.ctx.fd, KIB(76), NPU_HOST, &scene.id);
}

static void undo_bo(void)
{
	igt_assert_eq(npu_bo_close(scene.ctx.fd, scene.id), 0);
}

static int do_import(void)
{
	return npu_import(scene.ctx.fd, scene.foreign.fd, &scene.id);
}

static void undo_import(void)
{
	struct npu_dmabufs attached = scene.dmabufs;

	attached.attached++;
	npu_assert_dmabufs(attached);
	undo_bo();
	npu_assert_dmabufs(scene.dmabufs);
}

/* Of a new object: one that was exported remembers its dma-buf. */
static int do_export(void)
{
	struct drm_prime_handle arg = { .flags = O_CLOEXEC };
	int ret = npu_bo_create(scene.ctx.fd, PAGE, NPU_HOST, &arg.handle);

	if (ret)
		return ret;
	ret = npu_ioctl(scene.ctx.fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &arg);
	igt_assert_eq(npu_bo_close(scene.ctx.fd, arg.handle), 0);
	scene.id = arg.fd;
	return ret;
}

static void undo_export(void)
{
	close(scene.id);
	npu_assert_dmabufs(scene.dmabufs);
}

static void failed_sharing(void)
{
	npu_assert_dmabufs(scene.dmabufs);
}

static int do_mmap_offset(void)
{
	uint64_t offset;

	return npu_bo_offset(scene.ctx.fd, scene.ctx.cells.handle, &offset);
}

static int do_bind_far(void)
{
	return npu_map(scene.ctx.fd, scene.ctx.vm, scene.b, scene.far, 0, KIB(128), 0);
}

static void failed_far(void)
{
	npu_assert_unmapped(&scene.ctx, scene.far);
}

static void undo_far(void)
{
	npu_assert_tags(&scene.ctx, scene.far, 32, 2, 0);
	igt_assert_eq(npu_unmap(scene.ctx.fd, scene.ctx.vm, scene.far, KIB(128)), 0);
	scene.far += GIB(3);
}

/* Cuts one mapping, replaces a part of it, and makes another, in one go. */
static int do_bind_array(void)
{
	struct drm_gmem_bind_op ops[] = {
		npu_op_unmap(scene.va + KIB(8), KIB(4)),
		npu_op_map(scene.b, scene.va + KIB(20), KIB(4), KIB(8)),
		npu_op_unmap(scene.va + KIB(64), KIB(64)),
		npu_op_map(scene.b, scene.va + MIB(2), 0, KIB(128)),
	};

	return npu_bind(scene.ctx.fd, scene.ctx.vm, ops, ARRAY_LEN(ops));
}

static void failed_array(void)
{
	assert_mapped();
	npu_assert_unmapped(&scene.ctx, scene.va + MIB(2));
}

static void undo_array(void)
{
	npu_assert_tags(&scene.ctx, scene.va, 2, 1, 0);
	npu_assert_unmapped(&scene.ctx, scene.va + KIB(8));
	npu_assert_tags(&scene.ctx, scene.va + KIB(20), 2, 2, 1);
	npu_assert_unmapped(&scene.ctx, scene.va + KIB(64));
	npu_assert_tags(&scene.ctx, scene.va + MIB(2), 32, 2, 0);
	igt_assert_eq(npu_unmap(scene.ctx.fd, scene.ctx.vm, scene.va, MIB(4)), 0);
	igt_assert_eq(npu_map(scene.ctx.fd, scene.ctx.vm, scene.a, scene.va, 0, KIB(128), 0), 0);
}

static int do_unbind(void)
{
	return npu_unmap(scene.ctx.fd, scene.ctx.vm, scene.va + KIB(40), KIB(8));
}

static void undo_unbind(void)
{
	npu_assert_unmapped(&scene.ctx, scene.va + KIB(40));
	npu_assert_tags(&scene.ctx, scene.va + KIB(48), 20, 1, 12);
	igt_assert_eq(npu_map(scene.ctx.fd, scene.ctx.vm, scene.a, scene.va + KIB(40), KIB(40),
			      KIB(8), 0), 0);
}

/* A mapping where no table is, and another that has to be split, behind a fence. */
static int do_bind_async(void)
{
	struct drm_gmem_bind_op ops[] = {
		npu_op_map(scene.b, scene.far, 0, KIB(128)),
		npu_op_sparse(scene.far + GIB(1), MIB(4)),
		npu_op_unmap(scene.va + KIB(8), KIB(4)),
	};
	struct drm_gmem_sync syncs[] = {
		npu_wait_for(scene.ready), npu_signal(scene.done),
		npu_signal_point(scene.line, scene.point),
	};

	return npu_bind_async(&scene.ctx, scene.bind_queue, ops, ARRAY_LEN(ops), syncs, 3);
}

static void failed_bind_async(void)
{
	struct drm_gmem_range range;

	igt_assert_eq(npu_syncobj_poll(scene.ctx.fd, scene.done), -EINVAL);
	igt_assert_eq(npu_syncobj_poll_point(scene.ctx.fd, scene.line, scene.point), -EINVAL);
	assert_mapped();
	failed_far();
	igt_assert_eq(npu_ranges(&scene.ctx, scene.far, GIB(2), &range, 1), 1);
	igt_assert_eq_u32(range.mapping, DRM_GMEM_MAPPING_NONE);
}

static void undo_bind_async(void)
{
	igt_assert_eq(npu_fence_result(scene.ctx.fd, scene.done), 0);
	igt_assert_eq(npu_syncobj_poll_point(scene.ctx.fd, scene.line, scene.point++), 0);
	igt_assert_eq(npu_syncobj_reset(scene.ctx.fd, scene.done), 0);
	npu_assert_unmapped(&scene.ctx, scene.va + KIB(8));
	igt_assert_eq(npu_unmap(scene.ctx.fd, scene.ctx.vm, scene.far + GIB(1), MIB(4)), 0);
	igt_assert_eq(npu_map(scene.ctx.fd, scene.ctx.vm, scene.a, scene.va + KIB(8), KIB(8),
			      KIB(4), 0), 0);
	undo_far();
}

static int do_bind_queue(void)
{
	return npu_bind_queue_create(scene.ctx.fd, scene.ctx.vm, &scene.id);
}

static void undo_bind_queue(void)
{
	igt_assert_eq(npu_bind_queue_destroy(scene.ctx.fd, scene.id), 0);
}

/* Sets an attribute in the middle of a range that has another. */
static int do_advise(void)
{
	struct drm_gmem_attr attr = { .kind = DRM_GMEM_ATTR_PINNED, .value = 1 };

	return npu_advise(scene.ctx.fd, scene.ctx.vm, scene.advised + PAGE, PAGE, 0, &attr, 1);
}

static void failed_advise(void)
{
	struct drm_gmem_range range;

	igt_assert_eq(npu_ranges(&scene.ctx, scene.advised, MIB(1), &range, 1), 1);
	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_FOLLOW], 1);
	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_PINNED], 0);
}

static void undo_advise(void)
{
	struct drm_gmem_range range = npu_range_at(&scene.ctx, scene.advised + PAGE);
	struct drm_gmem_attr attr = { .kind = DRM_GMEM_ATTR_PINNED };

	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_PINNED], 1);
	igt_assert_eq(npu_advise(scene.ctx.fd, scene.ctx.vm, scene.advised, MIB(1), 0, &attr, 1),
		      0);
	failed_advise();
}

static int do_query_range(void)
{
	struct drm_gmem_range ranges[64];
	uint64_t va = scene.va, size = MIB(4);
	uint32_t count = 64;

	return npu_query_range(scene.ctx.fd, scene.ctx.vm, &va, &size, ranges, &count);
}

static int do_queue(void)
{
	return npu_queue_create(scene.ctx.fd, &scene.id);
}

static void undo_queue(void)
{
	igt_assert_eq(npu_queue_destroy(scene.ctx.fd, scene.id), 0);
}

static int do_submit(void)
{
	struct drm_gmem_sync syncs[] = { npu_wait_for(scene.ready), npu_signal(scene.done) };

	return npu_submit(&scene.ctx, &scene.cb, scene.ctx.queue, syncs, 2);
}

static void failed_submit(void)
{
	igt_assert_eq(npu_syncobj_poll(scene.ctx.fd, scene.done), -EINVAL);
}

static void undo_submit(void)
{
	igt_assert_eq(npu_fence_result(scene.ctx.fd, scene.done), 0);
	igt_assert_eq(npu_syncobj_reset(scene.ctx.fd, scene.done), 0);
}

static int do_status(void)
{
	struct drm_npu_job_status status;

	return npu_job_status(scene.ctx.fd, scene.ctx.queue, &status);
}

static int do_open(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", scene.ctx.fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	scene.id = fd;
	return fd < 0 ? -errno : 0;
}

static void undo_open(void)
{
	close(scene.id);
}

static void nothing(void)
{
}

static const struct call {
	const char *name;
	int (*run)(void);
	void (*failed)(void);
	void (*undo)(void);
	bool keeps_tables;	/* undone, its page tables may still be there */
} calls[] = {
	{ "query-device", do_query, nothing, nothing, false },
	{ "query", do_facts, nothing, nothing, false },
	{ "vm-create", do_vm, nothing, undo_vm, false },
	{ "bo-create-device", do_device_bo, nothing, undo_bo, false },
	{ "bo-create-visible", do_visible_bo, nothing, undo_bo, false },
	{ "bo-create-host", do_host_bo, nothing, undo_bo, false },
	{ "bo-mmap", do_mmap_offset, nothing, nothing, false },
	{ "import", do_import, failed_sharing, undo_import, false },
	{ "export", do_export, failed_sharing, undo_export, false },
	{ "bind-far", do_bind_far, failed_far, undo_far, true },
	{ "bind-array", do_bind_array, failed_array, undo_array, true },
	{ "unbind", do_unbind, assert_mapped, undo_unbind, true },
	{ "bind-async", do_bind_async, failed_bind_async, undo_bind_async, true },
	{ "bind-queue-create", do_bind_queue, nothing, undo_bind_queue, false },
	{ "advise", do_advise, failed_advise, undo_advise, false },
	{ "query-range", do_query_range, nothing, nothing, false },
	{ "queue-create", do_queue, nothing, undo_queue, false },
	{ "submit", do_submit, failed_submit, undo_submit, false },
	{ "job-status", do_status, nothing, nothing, false },
	{ "open", do_open, nothing, undo_open, false },
};

static void test_call(const struct call *call)
{
	const unsigned int max = npu_scale(400);
	unsigned int n, failures = 0, left = 0;
	int fd = scene.ctx.fd;
	uint64_t before;

	igt_require(call->run != do_visible_bo || npu_device_info(fd).mem_visible);

	/* Once without: what is allocated for the first time only is there then. */
	scene.cb = npu_begin(&scene.ctx);
	npu_cmd_nop(&scene.cb);
	igt_assert_eq(call->run(), 0);
	call->undo();
	before = npu_mem_free(fd);

	for (n = 1; n <= max && !left; n++) {
		int ret;

		scene.cb = npu_begin(&scene.ctx);
		npu_cmd_nop(&scene.cb);
		npu_fail_nth(n);
		ret = call->run();
		left = npu_fail_left();
		npu_fail_nth(0);
		if (ret) {
			igt_assert_f(ret == -ENOMEM || ret == -ENOSPC, "allocation %u: %d\n", n, ret);
			igt_assert_eq(left, 0);
			npu_assert_mem_free(fd, before);
			call->failed();
			failures++;
			continue;
		}
		call->undo();
		if (call->keeps_tables)
			before = npu_mem_free(fd);
		else
			npu_assert_mem_free(fd, before);
	}
	igt_info("%u allocations, %u of them needed\n", n - 2, failures);
	npu_assert_alive(&scene.ctx);
	assert_mapped();
}

/* After all these failures nothing is left in the device's memory. */
static void test_rest(void)
{
	int base = npu_open();
	uint64_t before;
	struct npu_ctx ctx;

	npu_dmabuf_free(&scene.foreign);
	npu_ctx_close(&scene.ctx);
	before = npu_mem_free(base);
	for (int i = 0; i < 3; i++) {
		npu_ctx_open(&ctx);
		npu_assert_alive(&ctx);
		npu_ctx_close(&ctx);
	}
	npu_assert_mem_free(base, before);
	igt_assert_eq_u64(npu_mem_free(base), before);
	close(base);
}

int igt_main()
{
	igt_fixture() {
		npu_fail_require();
		scene_open();
	}

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		igt_describe("Each of a call's allocations may fail");
		igt_subtest_f("%s", calls[i].name)
			test_call(&calls[i]);
	}

	igt_describe("Afterwards all memory is there again");
	igt_subtest("rest")
		test_rest();
}
