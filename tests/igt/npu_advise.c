// SPDX-License-Identifier: MIT
/* Advice about ranges of a VM, as query_range reads it back. */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Advice: values, ranges, splitting and merging");

#define END	(~0ull - 1)	/* no value of any attribute */

/* What the header allows, and what is next to it. */
static const struct kind {
	const char *name;
	uint64_t valid[8], invalid[8];		/* END behind the last */
} kinds[DRM_GMEM_ATTR_COUNT] = {
	[DRM_GMEM_ATTR_PREFERRED_LOCATION] = { "preferred-location",
		{ DRM_GMEM_LOCATION_DEFAULT, DRM_GMEM_LOCATION_HOST, DRM_GMEM_LOCATION_HOST_NODE(0),
		  DRM_GMEM_LOCATION_DEVICE, END },
		{ 1, DRM_GMEM_LOCATION_HOST + 1, DRM_GMEM_LOCATION_HOST_NODE(0x7fffffff),
		  DRM_GMEM_LOCATION_HOST_NODE(~0u), DRM_GMEM_LOCATION_DEVICE + 1, 4ull << 32,
		  1ull << 63, END } },
	[DRM_GMEM_ATTR_ACCESS] = { "access",
		{ DRM_GMEM_ACCESS_DEFAULT, DRM_GMEM_ACCESS_NONE, DRM_GMEM_ACCESS_MIGRATE,
		  DRM_GMEM_ACCESS_IN_PLACE, END }, { 4, 256, 1ull << 32, END } },
	[DRM_GMEM_ATTR_READ_MOSTLY] = { "read-mostly", { 0, 1, END }, { 2, 256, 257, END } },
	[DRM_GMEM_ATTR_ALWAYS_MAPPED] = { "always-mapped", { 0, 1, END }, { 2, 256, 257, END } },
	[DRM_GMEM_ATTR_READ_ONLY] = { "read-only", { 0, 1, END }, { 2, 256, 257, END } },
	[DRM_GMEM_ATTR_EXEC] = { "exec", { 0, 1, END }, { 2, 256, 257, END } },
	[DRM_GMEM_ATTR_ATOMICS] = { "atomics",
		{ DRM_GMEM_ATOMICS_UNDEFINED, DRM_GMEM_ATOMICS_DEVICE, DRM_GMEM_ATOMICS_GLOBAL,
		  DRM_GMEM_ATOMICS_CPU, END }, { 4, 256, 1ull << 32, END } },
	[DRM_GMEM_ATTR_GRANULARITY] = { "granularity",
		{ 0, 12, 13, 21, 29, 30, END }, { 1, 11, 31, 64, 256 + 12, 1ull << 32, END } },
	[DRM_GMEM_ATTR_MIGRATION_POLICY] = { "migration-policy",
		{ DRM_GMEM_MIGRATE_ALL, DRM_GMEM_MIGRATE_SYSTEM, END }, { 2, 256, 257, END } },
	[DRM_GMEM_ATTR_PINNED] = { "pinned", { 0, 1, END }, { 2, 256, 257, END } },
	[DRM_GMEM_ATTR_EVICTION_PRIORITY] = { "eviction-priority",
		{ 0, 1, 2, END }, { 3, 256, 1ull << 32, END } },
	[DRM_GMEM_ATTR_AUTO_RESET] = { "auto-reset", { 0, 1, END }, { 2, 256, 257, END } },
	[DRM_GMEM_ATTR_FOLLOW] = { "follow", { 0, 1, END }, { 2, 256, 257, END } },
	[DRM_GMEM_ATTR_DRIVER] = { "driver",
		{ 0, NPU_ATTR_CACHE_UNCACHED, NPU_ATTR_CACHE_WRITE_THROUGH, NPU_ATTR_COMPRESSION(3),
		  NPU_ATTR_CACHE_WRITE_THROUGH | NPU_ATTR_COMPRESSION(3), END },
		{ 3, 3 | NPU_ATTR_COMPRESSION(1), 16, 1ull << 32, 1ull << 63, END } },
};

static struct drm_gmem_attr attr(uint32_t kind, uint64_t value)
{
	return (struct drm_gmem_attr) { .kind = kind, .value = value };
}

static int advise(struct npu_ctx *ctx, uint64_t va, uint64_t size, uint32_t kind, uint64_t value)
{
	struct drm_gmem_attr a = attr(kind, value);

	return npu_advise(ctx->fd, ctx->vm, va, size, 0, &a, 1);
}

static int reset(struct npu_ctx *ctx, uint64_t va, uint64_t size)
{
	return npu_advise(ctx->fd, ctx->vm, va, size, DRM_GMEM_ADVISE_RESET, NULL, 0);
}

/* Entries of a range; each has nothing mapped. */
static unsigned int entries(struct npu_ctx *ctx, uint64_t va, uint64_t size,
			    struct drm_gmem_range *ranges, unsigned int room)
{
	unsigned int count = npu_ranges(ctx, va, size, ranges, room);

	for (unsigned int i = 0; i < count; i++)
		igt_assert_eq_u32(ranges[i].mapping, DRM_GMEM_MAPPING_NONE);
	return count;
}

static void assert_default(const struct drm_gmem_range *range)
{
	for (int i = 0; i < DRM_GMEM_ATTR_COUNT; i++)
		igt_assert_eq_u64(range->advice[i], 0);
}

/* At first, and wherever nothing was advised, one entry says so. */
static void test_default(void)
{
	struct drm_gmem_query_device info;
	struct drm_gmem_range range[4];
	struct npu_ctx ctx;
	uint32_t vm;

	npu_ctx_open(&ctx);
	info = npu_device_info(ctx.fd);
	vm = ctx.vm;
	igt_assert_eq(npu_vm_create(ctx.fd, &ctx.vm), 0);
	igt_assert_eq(entries(&ctx, info.va_start, info.va_end - info.va_start, range, 4), 1);
	assert_default(&range[0]);
	igt_assert_eq(advise(&ctx, info.va_start, info.va_end - info.va_start,
			     DRM_GMEM_ATTR_READ_MOSTLY, 1), 0);
	igt_assert_eq(entries(&ctx, info.va_start, info.va_end - info.va_start, range, 4), 1);
	igt_assert_eq_u64(range[0].advice[DRM_GMEM_ATTR_READ_MOSTLY], 1);
	/* More than there can be on a device. */
	igt_assert_eq(advise(&ctx, info.va_start, info.va_end - info.va_start,
			     DRM_GMEM_ATTR_PINNED, 1), -ENOMEM);
	igt_assert_eq(entries(&ctx, info.va_start, info.va_end - info.va_start, range, 4), 1);
	igt_assert_eq_u64(range[0].advice[DRM_GMEM_ATTR_PINNED], 0);
	igt_assert_eq(advise(&ctx, info.va_start, info.va_end - info.va_start,
			     DRM_GMEM_ATTR_READ_MOSTLY, 0), 0);
	igt_assert_eq(entries(&ctx, info.va_start, info.va_end - info.va_start, range, 4), 1);
	assert_default(&range[0]);
	igt_assert_eq(npu_vm_destroy(ctx.fd, ctx.vm), 0);
	ctx.vm = vm;
	npu_ctx_close(&ctx);
}

/* Each value that an attribute can have is there again, and no other one is touched. */
static void test_values(uint32_t kind)
{
	struct drm_gmem_range range[3];
	struct npu_ctx ctx;
	uint64_t va, last = 0;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(4), MIB(2));
	for (const uint64_t *value = kinds[kind].valid; *value != END; value++) {
		igt_assert_eq(advise(&ctx, va + MIB(1), MIB(1) + PAGE, kind, *value), 0);
		last = *value;
		igt_assert_eq(entries(&ctx, va, MIB(4), range, 3), last ? 3 : 1);
		igt_assert_eq_u64(range[last ? 1 : 0].advice[kind], last);
		for (int i = 0; i < DRM_GMEM_ATTR_COUNT; i++)
			if (i != (int)kind)
				igt_assert_eq_u64(range[last ? 1 : 0].advice[i], 0);
		if (last) {
			igt_assert_eq_u64(range[1].va, va + MIB(1));
			igt_assert_eq_u64(range[1].size, MIB(1) + PAGE);
			assert_default(&range[0]);
			assert_default(&range[2]);
		}
	}
	for (const uint64_t *value = kinds[kind].invalid; *value != END; value++) {
		igt_assert_eq(advise(&ctx, va, MIB(2), kind, *value), -EINVAL);
		igt_assert_eq(entries(&ctx, va, MIB(4), range, 3), 3);
		igt_assert_eq_u64(range[1].advice[kind], last);
		igt_assert_eq_u64(range[1].va, va + MIB(1));
	}
	igt_assert_eq(advise(&ctx, va, MIB(2), kind, ~0ull), -EINVAL);
	igt_assert_eq(reset(&ctx, va, MIB(4)), 0);
	igt_assert_eq(entries(&ctx, va, MIB(4), range, 3), 1);
	assert_default(&range[0]);
	npu_ctx_close(&ctx);
}

/* Attributes that don't exist. */
static void test_kinds(void)
{
	static const uint32_t bad[] = {
		DRM_GMEM_ATTR_COUNT, DRM_GMEM_ATTR_COUNT + 1, 16, 64, 256, 1u << 31, ~0u,
	};
	struct drm_gmem_range range;
	struct npu_ctx ctx;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(2), MIB(2));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		for (uint64_t value = 0; value < 2; value++)
			igt_assert_eq(advise(&ctx, va, MIB(1), bad[i], value), -EINVAL);
	igt_assert_eq(entries(&ctx, va, MIB(2), &range, 1), 1);
	assert_default(&range);
	npu_ctx_close(&ctx);
}

/* Attributes are set in order, all of them or none; 64 at most. */
static void test_array(void)
{
	struct drm_gmem_attr attrs[65];
	struct drm_gmem_range range[3];
	struct npu_ctx ctx;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(2), MIB(2));
	for (int i = 0; i < DRM_GMEM_ATTR_COUNT; i++)
		attrs[i] = attr(i, kinds[i].valid[1]);
	igt_assert_eq(npu_advise(ctx.fd, ctx.vm, va, MIB(1), 0, attrs, DRM_GMEM_ATTR_COUNT), 0);
	igt_assert_eq(entries(&ctx, va, MIB(2), range, 3), 2);
	for (int i = 0; i < DRM_GMEM_ATTR_COUNT; i++)
		igt_assert_eq_u64(range[0].advice[i], kinds[i].valid[1]);
	igt_assert_eq(reset(&ctx, va, MIB(2)), 0);

	/* One that can't be, at each place. */
	for (int at = 0; at < DRM_GMEM_ATTR_COUNT; at++) {
		const struct drm_gmem_attr bad[] = {
			attr(at, kinds[at].invalid[0]),
			attr(DRM_GMEM_ATTR_COUNT, 0),
			{ .kind = at, .pad = 1 },
		};
		struct drm_gmem_attr good = attrs[at];

		for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
			attrs[at] = bad[i];
			for (uint32_t flags = 0; flags <= DRM_GMEM_ADVISE_RESET; flags++)
				igt_assert_eq(npu_advise(ctx.fd, ctx.vm, va, MIB(1), flags, attrs,
							 DRM_GMEM_ATTR_COUNT), -EINVAL);
			igt_assert_eq(entries(&ctx, va, MIB(2), range, 3), 1);
			assert_default(&range[0]);
		}
		attrs[at] = good;
	}

	/* The last of several values counts. */
	for (int i = 0; i < 65; i++)
		attrs[i] = attr(DRM_GMEM_ATTR_GRANULARITY, 12 + i % 19);
	igt_assert_eq(npu_advise(ctx.fd, ctx.vm, va, MIB(1), 0, attrs, 65), -EINVAL);
	igt_assert_eq(entries(&ctx, va, MIB(2), range, 3), 1);
	igt_assert_eq(npu_advise(ctx.fd, ctx.vm, va, MIB(1), 0, attrs, 64), 0);
	igt_assert_eq(entries(&ctx, va, MIB(2), range, 3), 2);
	igt_assert_eq_u64(range[0].advice[DRM_GMEM_ATTR_GRANULARITY], 12 + 63 % 19);
	npu_ctx_close(&ctx);
}

/* RESET comes before the attributes of the same call, and needs none. */
static void test_reset(void)
{
	const struct drm_gmem_attr pinned = attr(DRM_GMEM_ATTR_PINNED, 1);
	struct drm_gmem_range range[4];
	struct npu_ctx ctx;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(4), MIB(2));
	igt_assert_eq(advise(&ctx, va, MIB(4), DRM_GMEM_ATTR_ACCESS, DRM_GMEM_ACCESS_IN_PLACE), 0);
	igt_assert_eq(npu_advise(ctx.fd, ctx.vm, va, MIB(2), 0, NULL, 0), -EINVAL);
	igt_assert_eq(npu_advise(ctx.fd, ctx.vm, va + MIB(1), MIB(1), DRM_GMEM_ADVISE_RESET,
				 &pinned, 1), 0);
	igt_assert_eq(reset(&ctx, va + MIB(3), PAGE), 0);
	igt_assert_eq(entries(&ctx, va, MIB(3) + PAGE, range, 4), 4);
	igt_assert_eq_u64(range[0].advice[DRM_GMEM_ATTR_ACCESS], DRM_GMEM_ACCESS_IN_PLACE);
	igt_assert_eq_u64(range[1].advice[DRM_GMEM_ATTR_ACCESS], 0);
	igt_assert_eq_u64(range[1].advice[DRM_GMEM_ATTR_PINNED], 1);
	igt_assert_eq_u64(range[2].advice[DRM_GMEM_ATTR_ACCESS], DRM_GMEM_ACCESS_IN_PLACE);
	igt_assert_eq_u64(range[2].advice[DRM_GMEM_ATTR_PINNED], 0);
	assert_default(&range[3]);
	igt_assert_eq_u64(range[3].va, va + MIB(3));
	igt_assert_eq(reset(&ctx, va, MIB(4)), 0);
	igt_assert_eq(reset(&ctx, va, MIB(4)), 0);
	igt_assert_eq(entries(&ctx, va, MIB(4), range, 4), 1);
	assert_default(&range[0]);
	npu_ctx_close(&ctx);
}

/* What overlaps in part is split; neighbours that become equal are one again. */
static void test_split_merge(void)
{
	struct drm_gmem_range range[8];
	struct npu_ctx ctx;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(2), MIB(2));
	igt_assert_eq(advise(&ctx, va, KIB(64), DRM_GMEM_ATTR_PINNED, 1), 0);
	igt_assert_eq(advise(&ctx, va + KIB(32), KIB(64), DRM_GMEM_ATTR_GRANULARITY, 16), 0);
	igt_assert_eq(entries(&ctx, va, KIB(128), range, 8), 4);
	for (int i = 0; i < 4; i++) {
		igt_assert_eq_u64(range[i].size, KIB(32));
		igt_assert_eq_u64(range[i].advice[DRM_GMEM_ATTR_PINNED], i < 2);
		igt_assert_eq_u64(range[i].advice[DRM_GMEM_ATTR_GRANULARITY],
				  i == 1 || i == 2 ? 16 : 0);
	}
	/* A part of one says what the whole says. */
	igt_assert_eq(entries(&ctx, va + KIB(36), KIB(8), range, 8), 1);
	igt_assert_eq_u64(range[0].advice[DRM_GMEM_ATTR_PINNED], 1);

	igt_assert_eq(advise(&ctx, va + KIB(64), KIB(32), DRM_GMEM_ATTR_PINNED, 1), 0);
	igt_assert_eq(entries(&ctx, va, KIB(128), range, 8), 3);
	igt_assert_eq(advise(&ctx, va, KIB(32), DRM_GMEM_ATTR_GRANULARITY, 16), 0);
	igt_assert_eq(entries(&ctx, va, KIB(128), range, 8), 2);
	igt_assert_eq_u64(range[0].size, KIB(96));

	/* Page by page, every other one first. */
	igt_assert_eq(reset(&ctx, va, MIB(2)), 0);
	for (int odd = 1; odd >= 0; odd--) {
		for (int i = odd; i < 8; i += 2)
			igt_assert_eq(advise(&ctx, va + i * PAGE, PAGE, DRM_GMEM_ATTR_FOLLOW, 1),
				      0);
		igt_assert_eq(entries(&ctx, va, 8 * PAGE, range, 8), odd ? 8 : 1);
	}
	igt_assert_eq(entries(&ctx, va - PAGE, 10 * PAGE, range, 8), 3);
	npu_ctx_close(&ctx);
}

/* Advice holds for addresses, not for what is mapped there. */
static void test_mappings(void)
{
	struct drm_gmem_range range[8];
	struct npu_ctx ctx;
	struct npu_bo bo;

	npu_ctx_open(&ctx);
	bo = npu_bo(&ctx, MIB(1), NPU_DEVICE, 0);
	npu_bo_tag(&ctx, bo.handle, bo.size, 1);
	igt_assert_eq(advise(&ctx, bo.va + KIB(64), KIB(64), DRM_GMEM_ATTR_EVICTION_PRIORITY, 2),
		      0);
	igt_assert_eq(advise(&ctx, bo.va + KIB(64), KIB(64), DRM_GMEM_ATTR_READ_ONLY, 1), 0);
	for (int round = 0; round < 4; round++) {
		bool mapped = !(round & 1);

		igt_assert_eq(npu_ranges(&ctx, bo.va, bo.size, range, 8), 3);
		for (int i = 0; i < 3; i++) {
			igt_assert_eq_u32(range[i].mapping, mapped ? DRM_GMEM_MAPPING_BO :
					  DRM_GMEM_MAPPING_NONE);
			igt_assert_eq_u64(range[i].bo_offset, mapped ? range[i].va - bo.va : 0);
			igt_assert_eq_u64(range[i].advice[DRM_GMEM_ATTR_EVICTION_PRIORITY],
					  i == 1 ? 2 : 0);
		}
		igt_assert_eq_u64(range[1].va, bo.va + KIB(64));
		igt_assert_eq_u64(range[1].size, KIB(64));
		/* For memory of the process: an object's mapping is as it was. */
		if (mapped) {
			npu_assert_tags(&ctx, bo.va, bo.size / PAGE, 1, 0);
			igt_assert_eq(npu_write(&ctx, bo.va + KIB(64), npu_tag(1, 16)), 0);
			igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, bo.va, bo.size), 0);
		} else {
			igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo.handle, bo.va, 0, bo.size, 0), 0);
		}
	}
	npu_ctx_close(&ctx);
}

static void test_per_vm(void)
{
	struct drm_gmem_range range;
	struct npu_ctx a, b;
	uint64_t va = GIB(9);

	npu_ctx_open(&a);
	npu_ctx_init(&b, a.fd);
	igt_assert_eq(advise(&a, va, MIB(1), DRM_GMEM_ATTR_PINNED, 1), 0);
	igt_assert_eq(advise(&b, va, MIB(1), DRM_GMEM_ATTR_FOLLOW, 1), 0);
	igt_assert_eq(entries(&a, va, MIB(1), &range, 1), 1);
	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_PINNED], 1);
	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_FOLLOW], 0);
	igt_assert_eq(entries(&b, va, MIB(1), &range, 1), 1);
	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_PINNED], 0);
	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_FOLLOW], 1);
	npu_ctx_fini(&b);
	npu_ctx_init(&b, a.fd);
	igt_assert_eq(entries(&b, va, MIB(1), &range, 1), 1);
	assert_default(&range);
	npu_ctx_fini(&b);
	npu_ctx_close(&a);
}

static void test_ranges(void)
{
	struct drm_gmem_query_device info;
	struct drm_gmem_range range[3];
	struct npu_ctx ctx;
	uint64_t va;

	npu_ctx_open(&ctx);
	info = npu_device_info(ctx.fd);
	va = npu_va(&ctx, MIB(2), MIB(2));
	for (int bit = 0; bit < 12; bit++) {
		igt_assert_eq(advise(&ctx, va + (1 << bit), PAGE, DRM_GMEM_ATTR_PINNED, 1),
			      -EINVAL);
		igt_assert_eq(advise(&ctx, va, PAGE + (1 << bit), DRM_GMEM_ATTR_PINNED, 1),
			      -EINVAL);
	}
	igt_assert_eq(advise(&ctx, va, 0, DRM_GMEM_ATTR_PINNED, 1), -EINVAL);
	igt_assert_eq(reset(&ctx, va, 0), -EINVAL);
	igt_assert_eq(advise(&ctx, info.va_end, PAGE, DRM_GMEM_ATTR_PINNED, 1), -ERANGE);
	igt_assert_eq(advise(&ctx, info.va_end - PAGE, 2 * PAGE, DRM_GMEM_ATTR_PINNED, 1), -ERANGE);
	igt_assert_eq(advise(&ctx, va, info.va_end, DRM_GMEM_ATTR_PINNED, 1), -ERANGE);
	igt_assert_eq(advise(&ctx, va, -PAGE, DRM_GMEM_ATTR_PINNED, 1), -ERANGE);
	igt_assert_eq(advise(&ctx, -PAGE, PAGE, DRM_GMEM_ATTR_PINNED, 1), -ERANGE);
	igt_assert_eq(reset(&ctx, info.va_end, PAGE), -ERANGE);
	if (info.va_start)
		igt_assert_eq(advise(&ctx, info.va_start - PAGE, 2 * PAGE, DRM_GMEM_ATTR_PINNED, 1),
			      -ERANGE);
	igt_assert_eq(entries(&ctx, va, MIB(2), range, 3), 1);
	assert_default(&range[0]);

	/* To the very ends it's fine. */
	igt_assert_eq(advise(&ctx, info.va_start, PAGE, DRM_GMEM_ATTR_PINNED, 1), 0);
	igt_assert_eq(advise(&ctx, info.va_end - PAGE, PAGE, DRM_GMEM_ATTR_PINNED, 1), 0);
	igt_assert_eq(entries(&ctx, info.va_end - MIB(1), MIB(1), range, 3), 2);
	igt_assert_eq_u64(range[1].va, info.va_end - PAGE);
	igt_assert_eq_u64(range[1].advice[DRM_GMEM_ATTR_PINNED], 1);
	npu_ctx_close(&ctx);
}

/* Against an array of pages, by which every entry can be foretold. */
static void test_random(void)
{
	enum { PAGES = 64 };
	static uint64_t model[PAGES][DRM_GMEM_ATTR_COUNT];
	struct drm_gmem_range range[PAGES];
	uint64_t seed = npu_seed(), va;
	struct npu_ctx ctx;

	memset(model, 0, sizeof(model));
	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(2), MIB(2));
	for (unsigned int step = 0; step < npu_scale(1500); step++) {
		unsigned int first = npu_random(&seed) % PAGES, count, n, page = 0;
		uint32_t kind = npu_random(&seed) % 3 + DRM_GMEM_ATTR_ATOMICS;
		uint64_t value = kinds[kind].valid[npu_random(&seed) % 2];
		bool clear = npu_random(&seed) % 8 == 0;
		struct drm_gmem_attr a = attr(kind, value);

		count = 1 + npu_random(&seed) % (PAGES - first);
		igt_assert_eq(npu_advise(ctx.fd, ctx.vm, va + first * PAGE, count * PAGE,
					 clear ? DRM_GMEM_ADVISE_RESET : 0, &a, 1), 0);
		for (unsigned int i = first; i < first + count; i++) {
			if (clear)
				memset(model[i], 0, sizeof(model[i]));
			model[i][kind] = value;
		}

		n = entries(&ctx, va, PAGES * PAGE, range, PAGES);
		for (unsigned int i = 0; i < n; i++) {
			if (i)
				igt_assert(memcmp(range[i].advice, range[i - 1].advice,
						  sizeof(model[0])));
			for (uint64_t left = range[i].size; left; left -= PAGE, page++)
				igt_assert(!memcmp(range[i].advice, model[page], sizeof(model[0])));
		}
		igt_assert_eq(page, PAGES);
	}
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Without advice all addresses are one entry of defaults");
	igt_subtest("default")
		test_default();

	igt_describe("Each attribute takes the values it can have and refuses all others");
	igt_subtest_with_dynamic("values") {
		for (uint32_t kind = 0; kind < DRM_GMEM_ATTR_COUNT; kind++)
			igt_dynamic(kinds[kind].name)
				test_values(kind);
	}

	igt_describe("Attributes that don't exist are refused");
	igt_subtest("kinds")
		test_kinds();

	igt_describe("Arrays are set in order, all or nothing, up to 64");
	igt_subtest("array")
		test_array();

	igt_describe("RESET sets everything else to its default");
	igt_subtest("reset")
		test_reset();

	igt_describe("Ranges split where they have to and merge where they can");
	igt_subtest("split-merge")
		test_split_merge();

	igt_describe("Advice survives mappings, and changes none of an object");
	igt_subtest("mappings")
		test_mappings();

	igt_describe("Each VM has its own advice");
	igt_subtest("per-vm")
		test_per_vm();

	igt_describe("Ranges have to be whole pages inside the address space");
	igt_subtest("ranges")
		test_ranges();

	igt_describe("Random advice, compared with a model page by page");
	igt_subtest("random")
		test_random();
}
