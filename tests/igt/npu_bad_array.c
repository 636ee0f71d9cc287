// SPDX-License-Identifier: MIT
/*
 * Every field of the elements of the arrays that BIND, SUBMIT and ADVISE take,
 * with values it may not have, at every place of the array.
 */

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Bad values in arrays of operations and of syncs");

static struct scene {
	struct npu_ctx ctx;
	uint32_t a, b;			/* 2 MiB of tagged device memory each */
	uint64_t va;			/* 4 MiB; a is mapped in the first half */
	uint32_t dead, others;
	uint32_t empty, done, point, dead_sync, others_sync;
	uint64_t va_end, va_start, mem_free;
} scene;

static void scene_open(void)
{
	struct npu_ctx *ctx = &scene.ctx;
	struct drm_gmem_query_device info;
	int other = npu_open();

	npu_ctx_open(ctx);
	igt_assert_eq(npu_bo_create(ctx->fd, MIB(2), NPU_DEVICE, &scene.a), 0);
	igt_assert_eq(npu_bo_create(ctx->fd, MIB(2), NPU_DEVICE, &scene.b), 0);
	npu_bo_tag(ctx, scene.a, MIB(2), 1);
	npu_bo_tag(ctx, scene.b, MIB(2), 2);
	scene.va = npu_va(ctx, MIB(4), MIB(2));
	igt_assert_eq(npu_map(ctx->fd, ctx->vm, scene.a, scene.va, 0, MIB(2), 0), 0);
	igt_assert_eq(npu_bo_create(ctx->fd, PAGE, NPU_HOST, &scene.dead), 0);
	igt_assert_eq(npu_bo_close(ctx->fd, scene.dead), 0);
	igt_assert_eq(npu_syncobj_create(ctx->fd, 0, &scene.empty), 0);
	igt_assert_eq(npu_syncobj_create(ctx->fd, 0, &scene.done), 0);
	igt_assert_eq(npu_syncobj_create(ctx->fd, 0, &scene.point), 0);
	igt_assert_eq(npu_syncobj_signal_point(ctx->fd, scene.point, 10), 0);
	igt_assert_eq(npu_syncobj_create(ctx->fd, DRM_SYNCOBJ_CREATE_SIGNALED, &scene.dead_sync), 0);
	igt_assert_eq(npu_syncobj_destroy(ctx->fd, scene.dead_sync), 0);
	for (int i = 0; i < 16; i++) {
		igt_assert_eq(npu_bo_create(other, PAGE, NPU_HOST, &scene.others), 0);
		igt_assert_eq(npu_syncobj_create(other, DRM_SYNCOBJ_CREATE_SIGNALED,
						 &scene.others_sync), 0);
	}
	npu_assert_alive(ctx);
	info = npu_device_info(ctx->fd);
	scene.va_start = info.va_start;
	scene.va_end = info.va_end;
	scene.mem_free = info.mem_free;
}

/* The mappings are those of the beginning. */
static void assert_unchanged(void)
{
	igt_assert_eq_u64(npu_mem_free(scene.ctx.fd), scene.mem_free);
	npu_assert_tags(&scene.ctx, scene.va, 32, 1, 0);
	npu_assert_tags(&scene.ctx, scene.va + MIB(2) - KIB(64), 16, 1, 512 - 16);
	npu_assert_unmapped(&scene.ctx, scene.va + MIB(2));
}

/* Tries @bad at each place among operations that could be done. */
static void try_op(struct drm_gmem_bind_op bad, int error)
{
	const struct drm_gmem_bind_op good[] = {
		npu_op_map(scene.b, scene.va + KIB(64), 0, KIB(64)),
		npu_op_unmap(scene.va + KIB(4), KIB(8)),
	};

	for (int at = 0; at < 3; at++) {
		struct drm_gmem_bind_op ops[3];
		int ret;

		for (int i = 0, next = 0; i < 3; i++)
			ops[i] = i == at ? bad : good[next++];
		ret = npu_bind(scene.ctx.fd, scene.ctx.vm, ops, 3);
		igt_assert_f(ret == error, "op %u flags %#x handle %u pad %#x va %#llx size %#llx "
			     "bo_offset %#llx attrs %#llx at %d: %d instead of %d\n",
			     bad.op, bad.flags, bad.handle, bad.pad, bad.va, bad.size,
			     bad.bo_offset, bad.attrs, at, ret, error);
	}
	igt_assert_eq_u64(npu_mem_free(scene.ctx.fd), scene.mem_free);
}

static struct drm_gmem_bind_op map_op(void)
{
	return npu_op_map(scene.b, scene.va + MIB(2), KIB(64), KIB(64));
}

static struct drm_gmem_bind_op unmap_op(void)
{
	return npu_op_unmap(scene.va, KIB(64));
}

static struct drm_gmem_bind_op sparse_op(void)
{
	return npu_op_sparse(scene.va + MIB(1), KIB(64));
}

#define TRY_OP(base, field, value, error) \
	do { \
		struct drm_gmem_bind_op op_ = base(); \
		op_.field = (value); \
		try_op(op_, error); \
	} while (0)

#define TRY_OP_BITS(base, field, mask, error) \
	do { \
		for (int bit_ = 0; bit_ < 64; bit_++) \
			if ((uint64_t)(mask) & 1ull << bit_) \
				TRY_OP(base, field, base().field | 1ull << bit_, error); \
	} while (0)

static void test_op(void)
{
	static const uint32_t ops[] = { 4, 5, 7, 8, 100, 0x10000, 0x80000000, 0xffffffff };

	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		TRY_OP(map_op, op, ops[i], -EINVAL);
		TRY_OP(unmap_op, op, ops[i], -EINVAL);
	}
	/* Others have no use for the object. */
	TRY_OP(map_op, op, DRM_GMEM_BIND_OP_UNMAP, -EINVAL);
	TRY_OP(map_op, op, DRM_GMEM_BIND_OP_MAP_SPARSE, -EINVAL);
	TRY_OP(map_op, op, DRM_GMEM_BIND_OP_MAP_MIRROR, -EINVAL);
}

static void test_op_flags(void)
{
	const uint32_t known = DRM_GMEM_BIND_READONLY | DRM_GMEM_BIND_EXEC;

	TRY_OP_BITS(map_op, flags, ~known, -EINVAL);
	TRY_OP_BITS(unmap_op, flags, 0xffffffff, -EINVAL);
	TRY_OP_BITS(sparse_op, flags, ~DRM_GMEM_BIND_READONLY, -EINVAL);
}

static void test_op_handle(void)
{
	TRY_OP(map_op, handle, 0, -ENOENT);
	TRY_OP(map_op, handle, 0x12345, -ENOENT);
	TRY_OP(map_op, handle, 0xffffffff, -ENOENT);
	TRY_OP(map_op, handle, scene.dead, -ENOENT);
	TRY_OP(map_op, handle, scene.others, -ENOENT);
	TRY_OP(unmap_op, handle, scene.a, -EINVAL);
	TRY_OP(unmap_op, handle, 0x12345, -EINVAL);
	TRY_OP(sparse_op, handle, scene.a, -EINVAL);
	TRY_OP(sparse_op, handle, 0x12345, -EINVAL);
}

static void test_op_pad(void)
{
	TRY_OP_BITS(map_op, pad, 0xffffffff, -EINVAL);
	TRY_OP_BITS(unmap_op, pad, 0xffffffff, -EINVAL);
	TRY_OP_BITS(sparse_op, pad, 0xffffffff, -EINVAL);
}

static void test_op_va(void)
{
	const uint64_t end = scene.va_end;

	TRY_OP_BITS(map_op, va, 0xfff, -EINVAL);
	TRY_OP_BITS(unmap_op, va, 0xfff, -EINVAL);
	TRY_OP_BITS(sparse_op, va, 0xfff, -EINVAL);
	TRY_OP(map_op, va, end, -ERANGE);
	TRY_OP(map_op, va, end - KIB(60), -ERANGE);
	TRY_OP(map_op, va, end + GIB(1), -ERANGE);
	TRY_OP(map_op, va, 1ull << 63, -ERANGE);
	TRY_OP(map_op, va, -KIB(64), -ERANGE);
	TRY_OP(map_op, va, -KIB(4), -ERANGE);
	TRY_OP(unmap_op, va, end, -ERANGE);
	TRY_OP(unmap_op, va, end - KIB(60), -ERANGE);
	TRY_OP(unmap_op, va, -KIB(4), -ERANGE);
	TRY_OP(sparse_op, va, end, -ERANGE);
	TRY_OP(sparse_op, va, end - KIB(60), -ERANGE);
	TRY_OP(sparse_op, va, -KIB(4), -ERANGE);
	if (scene.va_start) {
		TRY_OP(map_op, va, scene.va_start - PAGE, -ERANGE);
		TRY_OP(map_op, va, 0, -ERANGE);
		TRY_OP(unmap_op, va, scene.va_start - PAGE, -ERANGE);
		TRY_OP(sparse_op, va, scene.va_start - PAGE, -ERANGE);
	}
}

static void test_op_size(void)
{
	TRY_OP(map_op, size, 0, -EINVAL);
	TRY_OP(unmap_op, size, 0, -EINVAL);
	TRY_OP(sparse_op, size, 0, -EINVAL);
	TRY_OP(sparse_op, size, (1ull << 40) + PAGE, -EINVAL);
	TRY_OP(sparse_op, size, 1ull << 47, -EINVAL);
	TRY_OP_BITS(map_op, size, 0xfff, -EINVAL);
	TRY_OP_BITS(unmap_op, size, 0xfff, -EINVAL);
	TRY_OP_BITS(sparse_op, size, 0xfff, -EINVAL);
	TRY_OP(map_op, size, MIB(2), -ERANGE);		/* bo_offset isn't 0 */
	TRY_OP(map_op, size, MIB(2) - KIB(60), -ERANGE);
	TRY_OP(map_op, size, GIB(1), -ERANGE);
	TRY_OP(map_op, size, 1ull << 48, -ERANGE);
	TRY_OP(map_op, size, -KIB(64), -ERANGE);
	TRY_OP(map_op, size, -KIB(4), -ERANGE);
	TRY_OP(unmap_op, size, scene.va_end, -ERANGE);
	TRY_OP(unmap_op, size, -KIB(4), -ERANGE);
}

static void test_op_bo_offset(void)
{
	TRY_OP_BITS(map_op, bo_offset, 0xfff, -EINVAL);
	TRY_OP(map_op, bo_offset, MIB(2), -ERANGE);
	TRY_OP(map_op, bo_offset, MIB(2) - KIB(60), -ERANGE);
	TRY_OP(map_op, bo_offset, GIB(4), -ERANGE);
	TRY_OP(map_op, bo_offset, 1ull << 63, -ERANGE);
	TRY_OP(map_op, bo_offset, -KIB(64), -ERANGE);
	TRY_OP(map_op, bo_offset, -KIB(4), -ERANGE);
	TRY_OP(unmap_op, bo_offset, KIB(4), -EINVAL);
	TRY_OP(unmap_op, bo_offset, 1, -EINVAL);
	TRY_OP_BITS(sparse_op, bo_offset, ~0ull, -EINVAL);
}

static void test_op_attrs(void)
{
	TRY_OP(map_op, attrs, 3, -EINVAL);
	TRY_OP(map_op, attrs, 3 | NPU_ATTR_COMPRESSION(2), -EINVAL);
	TRY_OP_BITS(map_op, attrs, ~0xfull, -EINVAL);
	TRY_OP_BITS(unmap_op, attrs, ~0ull, -EINVAL);
	TRY_OP_BITS(sparse_op, attrs, ~0ull, -EINVAL);
}

/* Syncs */

static int submit_nop(const struct drm_gmem_sync *syncs, uint32_t count)
{
	struct npu_cb cb = npu_begin(&scene.ctx);

	npu_cmd_nop(&cb);
	return npu_submit(&scene.ctx, &cb, scene.ctx.queue, syncs, count);
}

/* Who takes syncs. */
static enum { SUBMIT, BIND, BIND_ASYNC } taker;

static int give_syncs(const struct drm_gmem_sync *syncs, uint32_t count)
{
	struct drm_gmem_bind_op op = unmap_op();

	switch (taker) {
	case BIND:
		return npu_bind_once(&scene.ctx, 0, &op, 1, syncs, count);
	case BIND_ASYNC:
		return npu_bind_async(&scene.ctx, 0, &op, 1, syncs, count);
	default:
		return submit_nop(syncs, count);
	}
}

/* Tries @bad at each place among syncs that could be done; none of them may be signalled. */
static void try_sync(struct drm_gmem_sync bad, int error)
{
	const struct drm_gmem_sync good[] = {
		npu_signal(scene.done),
		npu_signal_point(scene.point, 20),
	};

	for (int at = 0; at < 3; at++) {
		struct drm_gmem_sync syncs[3];
		int ret;

		for (int i = 0, next = 0; i < 3; i++)
			syncs[i] = i == at ? bad : good[next++];
		ret = give_syncs(syncs, 3);
		igt_assert_f(ret == error, "sync of %u, flags %#x, point %#llx at %d: %d instead of %d\n",
			     bad.handle, bad.flags, bad.point, at, ret, error);
		igt_assert_eq(npu_syncobj_poll(scene.ctx.fd, scene.done), -EINVAL);
		igt_assert_eq(npu_syncobj_poll_point(scene.ctx.fd, scene.point, 20), -EINVAL);
	}
}

static void test_sync(void)
{
	static const uint32_t handles[] = { 0, 0x12345, 0xffffffff };
	struct drm_gmem_sync sync;

	for (int bit = 2; bit < 32; bit++) {
		sync = npu_signal(scene.empty);
		sync.flags |= 1u << bit;
		try_sync(sync, -EINVAL);
		sync = npu_wait_point(scene.point, 10);
		sync.flags |= 1u << bit;
		try_sync(sync, -EINVAL);
	}
	for (size_t i = 0; i < ARRAY_LEN(handles); i++) {
		try_sync(npu_wait_for(handles[i]), -ENOENT);
		try_sync(npu_signal(handles[i]), -ENOENT);
		try_sync(npu_wait_point(handles[i], 10), -ENOENT);
		try_sync(npu_signal_point(handles[i], 10), -ENOENT);
	}
	try_sync(npu_wait_for(scene.dead_sync), -ENOENT);
	try_sync(npu_signal(scene.dead_sync), -ENOENT);
	try_sync(npu_wait_for(scene.others_sync), -ENOENT);
	try_sync(npu_signal(scene.others_sync), -ENOENT);

	/* A point with TIMELINE and only with TIMELINE. */
	try_sync(npu_wait_point(scene.point, 0), -EINVAL);
	try_sync(npu_signal_point(scene.point, 0), -EINVAL);
	sync = npu_signal(scene.empty);
	for (int bit = 0; bit < 64; bit += 9) {
		sync.point = 1ull << bit;
		try_sync(sync, -EINVAL);
	}

	/* Nothing to wait for yet. */
	try_sync(npu_wait_for(scene.empty), -EINVAL);
	try_sync(npu_wait_point(scene.empty, 1), -EINVAL);
	try_sync(npu_wait_point(scene.point, 11), -EINVAL);
	try_sync(npu_wait_point(scene.point, ~0ull), -EINVAL);
	igt_assert_eq(npu_syncobj_poll(scene.ctx.fd, scene.empty), -EINVAL);
}

static void test_bind_sync(void)
{
	taker = BIND;
	test_sync();
	taker = BIND_ASYNC;
	test_sync();
	taker = SUBMIT;
}

/* Tries @bad at each place among attributes that could be set. */
static void try_attr(struct drm_gmem_attr bad)
{
	for (int at = 0; at < 3; at++) {
		struct drm_gmem_attr attrs[3] = {
			{ .kind = DRM_GMEM_ATTR_PINNED, .value = 1 },
			{ .kind = DRM_GMEM_ATTR_GRANULARITY, .value = 21 },
			{ .kind = DRM_GMEM_ATTR_DRIVER, .value = NPU_ATTR_CACHE_UNCACHED },
		};
		struct drm_gmem_range range;

		attrs[at] = bad;
		igt_assert_eq(npu_advise(scene.ctx.fd, scene.ctx.vm, scene.va, MIB(1), 0, attrs, 3),
			      -EINVAL);
		igt_assert_eq(npu_ranges(&scene.ctx, scene.va, MIB(2), &range, 1), 1);
		for (int i = 0; i < DRM_GMEM_ATTR_COUNT; i++)
			igt_assert_eq_u64(range.advice[i], 0);
	}
}

static void test_attr(void)
{
	for (uint32_t kind = 0; kind < DRM_GMEM_ATTR_COUNT; kind++) {
		for (int bit = 0; bit < 32; bit++) {
			try_attr((struct drm_gmem_attr) { .kind = kind, .pad = 1u << bit });
			try_attr((struct drm_gmem_attr) {
				.kind = kind, .value = 1ull << (bit + 32) | 1,
			});
			if (1u << bit >= DRM_GMEM_ATTR_COUNT)
				try_attr((struct drm_gmem_attr) { .kind = kind | 1u << bit });
		}
		try_attr((struct drm_gmem_attr) { .kind = kind, .value = ~0ull });
	}
	for (uint32_t kind = DRM_GMEM_ATTR_COUNT; kind < 32; kind++)
		try_attr((struct drm_gmem_attr) { .kind = kind, .value = 1 });
}

int igt_main()
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = {
		{ "op", test_op }, { "op-flags", test_op_flags }, { "op-handle", test_op_handle },
		{ "op-pad", test_op_pad }, { "op-va", test_op_va }, { "op-size", test_op_size },
		{ "op-bo-offset", test_op_bo_offset }, { "op-attrs", test_op_attrs },
		{ "sync", test_sync }, { "bind-sync", test_bind_sync }, { "attr", test_attr },
	};

	igt_fixture()
		scene_open();

	for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
		igt_describe("One bad element gives its errno, and the array changes nothing");
		igt_subtest_f("%s", tests[i].name) {
			tests[i].run();
			assert_unchanged();
		}
	}
}
