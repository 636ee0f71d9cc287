// SPDX-License-Identifier: MIT
/* Sparse mappings: reads give zero, writes vanish, and there is no memory behind them. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Sparse mappings");

#define STAGE	KIB(256)

/* Has the device copy a range out: all of it is zero. */
static void assert_zero(struct npu_ctx *ctx, const struct npu_bo *stage, uint64_t va, uint64_t size)
{
	uint8_t *bytes = stage->cpu;

	for (uint64_t n; size; va += n, size -= n) {
		struct npu_cb cb = npu_begin(ctx);

		n = npu_min(size, stage->size - PAGE);
		memset(bytes, 0xa5, n + 1);
		npu_cmd_copy(&cb, stage->va, va, n);
		igt_assert_eq(npu_run(ctx, &cb), 0);
		igt_assert_f(bytes[0] == 0 && !memcmp(bytes, bytes + 1, n - 1),
			     "not all zero in the %#llx bytes at %#llx\n",
			     (unsigned long long)n, (unsigned long long)va);
		igt_assert_eq(bytes[n], 0xa5);
	}
}

/* Around each border of a page, of a 64 KiB and of a 2 MiB block that lies in the range. */
static void assert_zero_at_borders(struct npu_ctx *ctx, const struct npu_bo *stage, uint64_t va,
				   uint64_t size)
{
	static const uint64_t steps[] = { PAGE, KIB(64), MIB(2) };

	assert_zero(ctx, stage, va, npu_min(size, PAGE));
	assert_zero(ctx, stage, va + size - 24, 24);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		uint64_t at = npu_round_up(va + 1, steps[i]);

		for (int n = 0; n < 3 && at < va + size; n++, at += steps[i])
			assert_zero(ctx, stage, at - 13, npu_min(va + size - (at - 13), 27));
	}
}

static void test_read(void)
{
	static const uint64_t sizes[] = {
		PAGE, KIB(64), KIB(76), MIB(2), MIB(2) + KIB(68), MIB(6),
	};
	static const uint64_t shifts[] = { 0, KIB(4), KIB(60) };
	struct npu_bo stage;
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	stage = npu_bo(&ctx, STAGE, NPU_HOST, 0);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		for (size_t j = 0; j < ARRAY_LEN(shifts); j++) {
			uint64_t va = npu_va(&ctx, sizes[i] + MIB(4), MIB(2)) + MIB(2) + shifts[j];

			igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, sizes[i], 0), 0);
			assert_zero_at_borders(&ctx, &stage, va, sizes[i]);
			npu_assert_unmapped(&ctx, va - PAGE);
			npu_assert_unmapped(&ctx, va + sizes[i]);
			if (i == ARRAY_LEN(sizes) - 1)
				assert_zero(&ctx, &stage, va, sizes[i]);
			igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, sizes[i]), 0);
			npu_assert_unmapped(&ctx, va);
			npu_assert_unmapped(&ctx, va + sizes[i] - PAGE);
		}
	}
	npu_bo_free(&ctx, &stage);
	npu_ctx_close(&ctx);
}

/* Writes go nowhere: not into the range, its neighbours, or anybody else's memory. */
static void test_write(void)
{
	const uint64_t size = MIB(2) + KIB(128);
	uint64_t va, value;
	struct npu_bo stage, bystander;
	uint32_t before, behind;
	struct npu_ctx ctx;
	struct npu_cb cb;

	npu_ctx_open(&ctx);
	stage = npu_bo(&ctx, STAGE, NPU_HOST, 0);
	bystander = npu_bo(&ctx, MIB(4), NPU_DEVICE, 0);
	npu_bo_tag(&ctx, bystander.handle, bystander.size, 3);
	igt_assert_eq(npu_bo_create(ctx.fd, KIB(64), NPU_DEVICE, &before), 0);
	igt_assert_eq(npu_bo_create(ctx.fd, KIB(64), NPU_HOST, &behind), 0);
	npu_bo_tag(&ctx, before, KIB(64), 1);
	npu_bo_tag(&ctx, behind, KIB(64), 2);
	va = npu_va(&ctx, size + MIB(4), MIB(2)) + MIB(2);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, before, va - KIB(64), 0, KIB(64), 0), 0);
	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, size, 0), 0);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, behind, va + size, 0, KIB(64), 0), 0);

	cb = npu_begin(&ctx);
	npu_cmd_fill(&cb, va, size, 0xdeadbeef);
	for (uint64_t at = 0; at < size; at += KIB(60))
		npu_cmd_write(&cb, va + at, ~0ull);
	npu_cmd_copy(&cb, va + KIB(32), bystander.va, MIB(1));
	igt_assert_eq(npu_run(&ctx, &cb), 0);
	assert_zero(&ctx, &stage, va, size);
	npu_assert_tags(&ctx, va - KIB(64), 16, 1, 0);
	npu_assert_tags(&ctx, va + size, 16, 2, 0);
	npu_assert_tags(&ctx, bystander.va, bystander.size / PAGE, 3, 0);

	/* What reaches into a neighbour arrives there, and only there. */
	cb = npu_begin(&ctx);
	npu_cmd_fill(&cb, va - 16, 32, 0x11111111);
	npu_cmd_fill(&cb, va + size - 16, 32, 0x22222222);
	igt_assert_eq(npu_run(&ctx, &cb), 0);
	assert_zero(&ctx, &stage, va, size);
	igt_assert_eq(npu_read(&ctx, va - 8, &value), 0);
	igt_assert_eq_u64(value, 0x1111111111111111ull);
	igt_assert_eq(npu_read(&ctx, va - 24, &value), 0);
	igt_assert_eq_u64(value, 0);
	igt_assert_eq(npu_read(&ctx, va + size + 8, &value), 0);
	igt_assert_eq_u64(value, 0x2222222222222222ull);
	igt_assert_eq(npu_read(&ctx, va + size + 16, &value), 0);
	igt_assert_eq_u64(value, 0);
	npu_bo_free(&ctx, &stage);
	npu_ctx_close(&ctx);
}

static const struct hole {
	const char *name;
	uint64_t at, size;	/* in 6 MiB of another kind */
} holes[] = {
	{ "page-first", 0, PAGE },
	{ "page", KIB(100), PAGE },
	{ "64k", KIB(128), KIB(64) },
	{ "64k-shifted", KIB(132), KIB(64) },
	{ "page-border", MIB(2) - PAGE, 2 * PAGE },
	{ "2m", MIB(2), MIB(2) },
	{ "2m-shifted", MIB(1), MIB(2) },
	{ "2m-and-some", MIB(2) - KIB(68), MIB(2) + KIB(72) },
	{ "last", MIB(6) - KIB(64), KIB(64) },
	{ "all", 0, MIB(6) },
};

/* The pages of object 1 from @from to @to, without reading each of them. */
static void assert_some_tags(struct npu_ctx *ctx, uint64_t va, uint64_t from, uint64_t to)
{
	uint64_t pages = (to - from) / PAGE, n = npu_min(pages, 20);

	if (!n)
		return;
	npu_assert_tags(ctx, va + from, n, 1, from / PAGE);
	npu_assert_tags(ctx, va + to - n * PAGE, n, 1, to / PAGE - n);
}

/* A sparse range in the middle of an object, and the object in its place again. */
static void test_in_object(const struct hole *h, uint32_t placement)
{
	const uint64_t size = MIB(6), end = h->at + h->size;
	struct npu_bo stage;
	struct npu_ctx ctx;
	uint64_t va;
	uint32_t bo;

	npu_ctx_open(&ctx);
	stage = npu_bo(&ctx, STAGE, NPU_HOST, 0);
	igt_assert_eq(npu_bo_create(ctx.fd, size, placement, &bo), 0);
	npu_bo_tag(&ctx, bo, size, 1);
	va = npu_va(&ctx, size, MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, size, 0), 0);
	assert_some_tags(&ctx, va, 0, size);

	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va + h->at, h->size, 0), 0);
	assert_zero_at_borders(&ctx, &stage, va + h->at, h->size);
	igt_assert_eq(npu_write(&ctx, va + h->at, 1), 0);
	igt_assert_eq(npu_write(&ctx, va + end - 8, 1), 0);
	assert_some_tags(&ctx, va, 0, h->at);
	assert_some_tags(&ctx, va, end, size);

	/* What was written went nowhere: the object is as it was. */
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va + h->at, h->at, h->size, 0), 0);
	npu_assert_tags(&ctx, va, size / PAGE, 1, 0);
	npu_bo_free(&ctx, &stage);
	npu_ctx_close(&ctx);
}

/* An object in the middle of a sparse range, then a hole there, then sparse again. */
static void test_around_object(const struct hole *h, uint32_t placement)
{
	const uint64_t size = MIB(6), end = h->at + h->size;
	struct npu_bo stage;
	struct npu_ctx ctx;
	uint64_t va;
	uint32_t bo;

	npu_ctx_open(&ctx);
	stage = npu_bo(&ctx, STAGE, NPU_HOST, 0);
	igt_assert_eq(npu_bo_create(ctx.fd, size, placement, &bo), 0);
	npu_bo_tag(&ctx, bo, size, 1);
	va = npu_va(&ctx, size, MIB(2));
	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, size, 0), 0);
	assert_zero_at_borders(&ctx, &stage, va, size);

	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va + h->at, h->at, h->size, 0), 0);
	assert_some_tags(&ctx, va, h->at, end);
	if (h->at)
		assert_zero_at_borders(&ctx, &stage, va, h->at);
	if (end < size)
		assert_zero_at_borders(&ctx, &stage, va + end, size - end);

	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + h->at, h->size), 0);
	npu_assert_unmapped(&ctx, va + h->at);
	npu_assert_unmapped(&ctx, va + end - PAGE);
	if (h->at)
		assert_zero(&ctx, &stage, va + h->at - PAGE, PAGE);
	if (end < size)
		assert_zero(&ctx, &stage, va + end, PAGE);
	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va + h->at, h->size, 0), 0);
	assert_zero(&ctx, &stage, va, size);
	npu_bo_free(&ctx, &stage);
	npu_ctx_close(&ctx);
}

/* The holes of a sparse 2 MiB leaf and its neighbours. */
static void test_partial_unmap(const struct hole *h)
{
	const uint64_t size = MIB(6), end = h->at + h->size;
	struct npu_bo stage;
	struct npu_ctx ctx;
	uint64_t va;

	npu_ctx_open(&ctx);
	stage = npu_bo(&ctx, STAGE, NPU_HOST, 0);
	va = npu_va(&ctx, size, MIB(2));
	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, size, 0), 0);
	assert_zero_at_borders(&ctx, &stage, va, size);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + h->at, h->size), 0);
	npu_assert_unmapped(&ctx, va + h->at);
	npu_assert_unmapped(&ctx, va + h->at + h->size / 2);
	npu_assert_unmapped(&ctx, va + end - PAGE);
	if (h->at) {
		igt_assert_eq(npu_write(&ctx, va + h->at - 8, 1), 0);
		assert_zero(&ctx, &stage, va, h->at);
	}
	if (end < size) {
		igt_assert_eq(npu_write(&ctx, va + end, 1), 0);
		assert_zero(&ctx, &stage, va + end, size - end);
	}
	npu_bo_free(&ctx, &stage);
	npu_ctx_close(&ctx);
}

/* Writes to a READONLY one end the job; commands can be fetched from none. */
static void test_rights(void)
{
	static const uint64_t sizes[] = { PAGE, KIB(64), MIB(2) };
	struct npu_bo stage;
	struct npu_ctx ctx;

	npu_ctx_open(&ctx);
	stage = npu_bo(&ctx, STAGE, NPU_HOST, 0);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t va = npu_va(&ctx, sizes[i], MIB(2)), last = va + sizes[i] - PAGE;
		struct drm_gmem_sync sync = npu_signal(ctx.syncobj);

		for (int round = 0; round < 2; round++) {
			igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, sizes[i],
						     DRM_GMEM_BIND_READONLY), 0);
			assert_zero(&ctx, &stage, va, sizes[i]);
			npu_assert_fault(&ctx, npu_write(&ctx, va, 1), va, NPU_NOT_WRITABLE);
			npu_assert_fault(&ctx, npu_write(&ctx, last, 1), last, NPU_NOT_WRITABLE);
			igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, sizes[i], 0), 0);
			igt_assert_eq(npu_write(&ctx, va, 1), 0);
			igt_assert_eq(npu_write(&ctx, last, 1), 0);
			assert_zero(&ctx, &stage, va, sizes[i]);
		}

		/* A part with other rights than the rest. */
		igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, last, PAGE, DRM_GMEM_BIND_READONLY),
			      0);
		npu_assert_fault(&ctx, npu_write(&ctx, last, 1), last, NPU_NOT_WRITABLE);
		if (last > va)
			igt_assert_eq(npu_write(&ctx, last - 8, 1), 0);
		assert_zero(&ctx, &stage, va, sizes[i]);

		igt_assert_eq(npu_submit_raw(ctx.fd, ctx.queue, ctx.vm, va, 8, &sync, 1), 0);
		ctx.seqno++;
		igt_assert_eq(npu_fence_result(ctx.fd, ctx.syncobj), -EFAULT);
		igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
		npu_assert_fault(&ctx, -EFAULT, va, NPU_NOT_EXECUTABLE);
	}
	npu_bo_free(&ctx, &stage);
	npu_ctx_close(&ctx);
}

/* A reservation of 64 GiB takes page tables only; objects come and go in it. */
static void test_reservation(void)
{
	const unsigned int n = npu_scale(100);
	const uint64_t tables = MIB(1);	/* plenty for large pages, next to nothing for small ones */
	uint64_t seed = npu_seed(), before, va, *at = calloc(n, sizeof(*at));
	uint64_t *value = calloc(n, sizeof(*value));
	struct npu_bo stage;
	struct npu_ctx ctx;
	uint32_t bo[2];

	igt_assert(at && value);
	npu_ctx_open(&ctx);
	igt_require(npu_mem_free(ctx.fd) >= MIB(8) + n * PAGE);
	stage = npu_bo(&ctx, STAGE, NPU_HOST, 0);
	for (int i = 0; i < 2; i++) {
		igt_assert_eq(npu_bo_create(ctx.fd, MIB(2), i ? NPU_HOST : NPU_DEVICE, &bo[i]), 0);
		npu_bo_tag(&ctx, bo[i], MIB(2), i);
	}
	va = npu_va(&ctx, GIB(64), GIB(1));
	before = npu_mem_free(ctx.fd);
	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, GIB(64), 0), 0);
	igt_assert_lte_u64(before - tables, npu_mem_free(ctx.fd));

	for (unsigned int i = 0; i < n; i++) {
		/* Each in 2 MiB of its own; some close to the one before. */
		uint64_t huge = (GIB(64) / n & ~(MIB(2) - 1)) * i;

		at[i] = va + huge + (i & 1 ? 0 : npu_random(&seed) % 512 * PAGE);
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[i & 1], at[i], i % 512 * PAGE, PAGE, 0),
			      0);
	}
	igt_assert_lte_u64(before - tables - n * PAGE, npu_mem_free(ctx.fd));
	npu_read_many(&ctx, at, value, n);
	for (unsigned int i = 0; i < n; i++)
		igt_assert_eq_u64(value[i], npu_tag(i & 1, i % 512));
	for (unsigned int i = 0; i < n; i += 7) {
		uint64_t huge = at[i] & ~(MIB(2) - 1);

		assert_zero(&ctx, &stage, huge, at[i] - huge);
		assert_zero(&ctx, &stage, at[i] + PAGE, huge + MIB(2) - at[i] - PAGE);
	}

	/* Half of them go one by one, the rest with all else. */
	for (unsigned int i = 0; i < n; i += 2) {
		igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, at[i], PAGE, 0), 0);
		assert_zero(&ctx, &stage, at[i], PAGE);
	}
	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, GIB(64), 0), 0);
	for (unsigned int i = 0; i < n; i++)
		assert_zero(&ctx, &stage, at[i], PAGE);
	npu_assert_mem_at_least(ctx.fd, before - tables);
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, GIB(64)), 0);
	npu_assert_unmapped(&ctx, va);
	npu_assert_unmapped(&ctx, at[n - 1]);
	npu_assert_mem_at_least(ctx.fd, before - tables);
	npu_bo_free(&ctx, &stage);
	npu_ctx_close(&ctx);
	free(at);
	free(value);
}

/* As much as there may be in one operation. */
static void test_largest(void)
{
	const uint64_t size = 1ull << 40;
	struct npu_bo stage;
	struct npu_ctx ctx;
	uint64_t va;

	npu_ctx_open(&ctx);
	igt_require(npu_mem_free(ctx.fd) >= MIB(16));
	stage = npu_bo(&ctx, STAGE, NPU_HOST, 0);
	va = npu_va(&ctx, size, size);
	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, va, size, 0), 0);
	for (uint64_t at = PAGE; at < size; at *= 2)
		assert_zero(&ctx, &stage, va + at - 8, 16);
	assert_zero(&ctx, &stage, va + size - 8, 8);
	npu_assert_unmapped(&ctx, va - PAGE);
	npu_assert_unmapped(&ctx, va + size);
	npu_bo_free(&ctx, &stage);
	npu_ctx_close(&ctx);
}

static void test_bad(void)
{
	struct drm_gmem_bind_op op;
	struct npu_ctx ctx;
	uint64_t va, before;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, GIB(64), GIB(1));
	before = npu_mem_free(ctx.fd);

#define TRY(field, value, error) \
	do { \
		op = npu_op_sparse(va, MIB(2)); \
		op.field = (value); \
		igt_assert_eq(npu_bind(ctx.fd, ctx.vm, &op, 1), error); \
	} while (0)

	TRY(handle, 1, -EINVAL);
	TRY(handle, ctx.cells.handle, -EINVAL);
	TRY(handle, ~0u, -EINVAL);
	TRY(bo_offset, 1, -EINVAL);
	TRY(bo_offset, PAGE, -EINVAL);
	TRY(bo_offset, 1ull << 63, -EINVAL);
	TRY(attrs, NPU_ATTR_CACHE_UNCACHED, -EINVAL);
	TRY(attrs, NPU_ATTR_COMPRESSION(3), -EINVAL);
	TRY(attrs, 1ull << 63, -EINVAL);
	TRY(flags, DRM_GMEM_BIND_EXEC, -EINVAL);
	TRY(flags, DRM_GMEM_BIND_EXEC | DRM_GMEM_BIND_READONLY, -EINVAL);
	TRY(flags, 4, -EINVAL);
	TRY(flags, 1u << 31, -EINVAL);
	TRY(pad, 1, -EINVAL);
	TRY(va, va + 1, -EINVAL);
	TRY(va, va + 2048, -EINVAL);
	TRY(size, 0, -EINVAL);
	TRY(size, PAGE + 1, -EINVAL);
	TRY(size, PAGE / 2, -EINVAL);
	TRY(size, (1ull << 40) + PAGE, -EINVAL);
	TRY(size, 1ull << 41, -EINVAL);
	TRY(va, 0, -ERANGE);
	TRY(va, npu_device_info(ctx.fd).va_end - MIB(1), -ERANGE);
	TRY(va, 1ull << 63, -ERANGE);
	TRY(va, -MIB(1), -ERANGE);
#undef TRY

	igt_assert_eq_u64(npu_mem_free(ctx.fd), before);
	npu_assert_unmapped(&ctx, va);
	igt_assert_eq_u32(npu_range_at(&ctx, va).mapping, DRM_GMEM_MAPPING_NONE);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Reads of sparse memory give zero, whatever its size and alignment");
	igt_subtest("read")
		test_read();

	igt_describe("Writes to sparse memory vanish and harm nothing");
	igt_subtest("write")
		test_write();

	igt_describe("A sparse range in the middle of an object leaves the rest, and what it hides");
	igt_subtest_with_dynamic("in-object") {
		for (size_t i = 0; i < ARRAY_LEN(holes); i++)
			igt_dynamic(holes[i].name)
				test_in_object(&holes[i], i & 1 ? NPU_HOST : NPU_DEVICE);
	}

	igt_describe("An object in the middle of a sparse range leaves the rest sparse");
	igt_subtest_with_dynamic("around-object") {
		for (size_t i = 0; i < ARRAY_LEN(holes); i++)
			igt_dynamic(holes[i].name)
				test_around_object(&holes[i], i & 1 ? NPU_DEVICE : NPU_HOST);
	}

	igt_describe("What a sparse mapping loses in part keeps the rest, also of a 2 MiB leaf");
	igt_subtest_with_dynamic("partial-unmap") {
		for (size_t i = 0; i < ARRAY_LEN(holes); i++)
			igt_dynamic(holes[i].name)
				test_partial_unmap(&holes[i]);
	}

	igt_describe("READONLY sparse memory can't be written, and none can be executed");
	igt_subtest("rights")
		test_rights();

	igt_describe("64 GiB of sparse memory take page tables only, with objects here and there");
	igt_subtest("reservation")
		test_reservation();

	igt_describe("One operation can map 2^40 bytes");
	igt_subtest("largest")
		test_largest();

	igt_describe("Fields that sparse mappings don't use are zero, and sizes have limits");
	igt_subtest("bad")
		test_bad();
}
