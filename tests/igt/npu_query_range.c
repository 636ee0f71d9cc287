// SPDX-License-Identifier: MIT
/* What query_range says of mappings: what, how, where, in as few entries as possible. */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Reading back what is mapped");

static uint32_t new_bo(struct npu_ctx *ctx, uint64_t size, uint32_t placement)
{
	uint32_t bo;

	igt_assert_eq(npu_bo_create(ctx->fd, size, placement, &bo), 0);
	return bo;
}

static void assert_range(const struct drm_gmem_range *r, uint64_t va, uint64_t size,
			 uint32_t mapping, uint32_t residency, uint64_t bo_offset)
{
	igt_assert_eq_u64(r->va, va);
	igt_assert_eq_u64(r->size, size);
	igt_assert_eq_u32(r->mapping, mapping);
	igt_assert_eq_u32(r->residency, residency);
	igt_assert_eq_u64(r->bo_offset, bo_offset);
}

static void assert_none(const struct drm_gmem_range *r, uint64_t va, uint64_t size)
{
	assert_range(r, va, size, DRM_GMEM_MAPPING_NONE, DRM_GMEM_RESIDENT_NOWHERE, 0);
	igt_assert_eq_u32(r->flags, 0);
	igt_assert_eq_u64(r->attrs, 0);
}

/* Where nothing is mapped one entry says so, and no more than that is written. */
static void test_nothing(void)
{
	struct drm_gmem_query_device info;
	struct drm_gmem_range range[4];
	uint64_t va, size;
	uint32_t vm, count = 4;
	int fd = npu_open();

	info = npu_device_info(fd);
	va = info.va_start;
	size = info.va_end - info.va_start;
	igt_assert_eq(npu_vm_create(fd, &vm), 0);
	memset(range, 0xee, sizeof(range));
	igt_assert_eq(npu_query_range(fd, vm, &va, &size, range, &count), 0);
	igt_assert_eq(count, 1);
	igt_assert_eq_u64(va, info.va_end);
	igt_assert_eq_u64(size, 0);
	assert_none(&range[0], info.va_start, info.va_end - info.va_start);
	for (size_t i = sizeof(range[0]); i < sizeof(range); i++)
		igt_assert_eq(((uint8_t *)range)[i], 0xee);

	va = info.va_end - PAGE;
	size = PAGE;
	igt_assert_eq(npu_query_range(fd, vm, &va, &size, range, &count), 0);
	assert_none(&range[0], info.va_end - PAGE, PAGE);
	close(fd);
}

/* Each kind of mapping, with all that is known of it. */
static void test_kinds(void)
{
	const uint64_t attrs = NPU_ATTR_CACHE_WRITE_THROUGH | NPU_ATTR_COMPRESSION(2);
	struct drm_gmem_bind_op ops[5];
	struct drm_gmem_range range[10];
	struct npu_ctx ctx;
	uint32_t host, device;
	uint64_t va;

	npu_ctx_open(&ctx);
	host = new_bo(&ctx, MIB(1), NPU_HOST);
	device = new_bo(&ctx, MIB(1), NPU_DEVICE);
	va = npu_va(&ctx, MIB(16), MIB(2));
	ops[0] = npu_op_map(host, va + PAGE, KIB(64), KIB(128));
	ops[1] = npu_op_map(device, va + MIB(2), KIB(12), KIB(76));
	ops[1].flags = DRM_GMEM_BIND_READONLY;
	ops[1].attrs = attrs;
	ops[2] = npu_op_map(device, va + MIB(2) + KIB(76), 0, PAGE);
	ops[2].flags = DRM_GMEM_BIND_READONLY | DRM_GMEM_BIND_EXEC;
	ops[3] = npu_op_sparse(va + MIB(4), MIB(4));
	ops[4] = npu_op_sparse(va + MIB(9), PAGE);
	ops[4].flags = DRM_GMEM_BIND_READONLY;
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 5), 0);

	igt_assert_eq(npu_ranges(&ctx, va, MIB(16), range, 10), 10);
	assert_none(&range[0], va, PAGE);
	assert_range(&range[1], va + PAGE, KIB(128), DRM_GMEM_MAPPING_BO, DRM_GMEM_RESIDENT_HOST,
		     KIB(64));
	igt_assert_eq_u32(range[1].flags, 0);
	igt_assert_eq_u64(range[1].attrs, 0);
	assert_none(&range[2], va + KIB(132), MIB(2) - KIB(132));
	assert_range(&range[3], va + MIB(2), KIB(76), DRM_GMEM_MAPPING_BO, DRM_GMEM_RESIDENT_DEVICE,
		     KIB(12));
	igt_assert_eq_u32(range[3].flags, DRM_GMEM_BIND_READONLY);
	igt_assert_eq_u64(range[3].attrs, attrs);
	assert_range(&range[4], va + MIB(2) + KIB(76), PAGE, DRM_GMEM_MAPPING_BO,
		     DRM_GMEM_RESIDENT_DEVICE, 0);
	igt_assert_eq_u32(range[4].flags, DRM_GMEM_BIND_READONLY | DRM_GMEM_BIND_EXEC);
	igt_assert_eq_u64(range[4].attrs, 0);
	assert_none(&range[5], va + MIB(2) + KIB(80), MIB(2) - KIB(80));
	assert_range(&range[6], va + MIB(4), MIB(4), DRM_GMEM_MAPPING_SPARSE,
		     DRM_GMEM_RESIDENT_NOWHERE, 0);
	igt_assert_eq_u32(range[6].flags, 0);
	assert_none(&range[7], va + MIB(8), MIB(1));
	assert_range(&range[8], va + MIB(9), PAGE, DRM_GMEM_MAPPING_SPARSE,
		     DRM_GMEM_RESIDENT_NOWHERE, 0);
	igt_assert_eq_u32(range[8].flags, DRM_GMEM_BIND_READONLY);
	assert_none(&range[9], va + MIB(9) + PAGE, MIB(7) - PAGE);

	/* A range that begins and ends in the middle of mappings. */
	igt_assert_eq(npu_ranges(&ctx, va + KIB(68), MIB(2) - KIB(60), range, 10), 3);
	assert_range(&range[0], va + KIB(68), KIB(64), DRM_GMEM_MAPPING_BO, DRM_GMEM_RESIDENT_HOST,
		     KIB(128));
	assert_range(&range[2], va + MIB(2), KIB(8), DRM_GMEM_MAPPING_BO, DRM_GMEM_RESIDENT_DEVICE,
		     KIB(12));
	igt_assert_eq(npu_ranges(&ctx, va + MIB(5), PAGE, range, 1), 1);
	assert_range(&range[0], va + MIB(5), PAGE, DRM_GMEM_MAPPING_SPARSE,
		     DRM_GMEM_RESIDENT_NOWHERE, 0);

	/* Of an object that was closed, too; not of one that's unmapped. */
	igt_assert_eq(npu_bo_close(ctx.fd, device), 0);
	igt_assert_eq(npu_ranges(&ctx, va + MIB(2), PAGE, range, 1), 1);
	assert_range(&range[0], va + MIB(2), PAGE, DRM_GMEM_MAPPING_BO, DRM_GMEM_RESIDENT_DEVICE,
		     KIB(12));
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, MIB(16)), 0);
	igt_assert_eq(npu_ranges(&ctx, va, MIB(16), range, 10), 1);
	assert_none(&range[0], va, MIB(16));
	npu_ctx_close(&ctx);
}

/* In the part of device memory that the CPU can map. */
static void test_visible(void)
{
	struct drm_gmem_range range;
	struct npu_ctx ctx;
	struct npu_bo bo;

	npu_ctx_open(&ctx);
	igt_require(npu_device_info(ctx.fd).mem_visible >= MIB(4));
	bo = npu_bo(&ctx, MIB(2), NPU_VISIBLE, 0);
	igt_assert_eq(npu_ranges(&ctx, bo.va, bo.size, &range, 1), 1);
	assert_range(&range, bo.va, bo.size, DRM_GMEM_MAPPING_BO, DRM_GMEM_RESIDENT_DEVICE, 0);
	npu_bo_free(&ctx, &bo);
	npu_ctx_close(&ctx);
}

/* Mapped page by page in any order, it's one entry; cut apart and mended, too. */
static void test_merge(uint32_t placement)
{
	enum { PAGES = 64 };
	struct drm_gmem_range range[8];
	uint64_t seed = npu_seed(), va;
	unsigned int order[PAGES];
	struct npu_ctx ctx;
	uint32_t bo = 0;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(2), MIB(2));
	if (placement)
		bo = new_bo(&ctx, (PAGES + 1) * PAGE, placement);
	for (int i = 0; i < PAGES; i++) {
		unsigned int j = npu_random(&seed) % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (int i = 0; i < PAGES; i++) {
		uint64_t at = order[i] * PAGE;
		struct drm_gmem_bind_op op = bo ? npu_op_map(bo, va + at, at, PAGE) :
						  npu_op_sparse(va + at, PAGE);

		igt_assert_eq(npu_bind(ctx.fd, ctx.vm, &op, 1), 0);
	}
	igt_assert_eq(npu_ranges(&ctx, va, PAGES * PAGE, range, 8), 1);
	igt_assert_eq_u64(range[0].bo_offset, 0);

	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + 9 * PAGE, 2 * PAGE), 0);
	igt_assert_eq(npu_ranges(&ctx, va, PAGES * PAGE, range, 8), 3);
	igt_assert_eq_u64(range[2].bo_offset, bo ? 11 * PAGE : 0);
	igt_assert_eq(bo ? npu_map(ctx.fd, ctx.vm, bo, va + 9 * PAGE, 9 * PAGE, 2 * PAGE, 0) :
		      npu_map_sparse(ctx.fd, ctx.vm, va + 9 * PAGE, 2 * PAGE, 0), 0);
	igt_assert_eq(npu_ranges(&ctx, va, PAGES * PAGE, range, 8), 1);

	/* With other rights it's another. */
	igt_assert_eq(bo ? npu_map(ctx.fd, ctx.vm, bo, va + PAGE, PAGE, PAGE,
				   DRM_GMEM_BIND_READONLY) :
		      npu_map_sparse(ctx.fd, ctx.vm, va + PAGE, PAGE, DRM_GMEM_BIND_READONLY), 0);
	igt_assert_eq(npu_ranges(&ctx, va, PAGES * PAGE, range, 8), 3);
	npu_ctx_close(&ctx);
}

/* What doesn't continue its neighbour stays an entry of its own. */
static void test_no_merge(void)
{
	struct drm_gmem_bind_op ops[7];
	struct drm_gmem_range range[8];
	struct npu_ctx ctx;
	uint32_t a, b;
	uint64_t va;

	npu_ctx_open(&ctx);
	a = new_bo(&ctx, KIB(64), NPU_DEVICE);
	b = new_bo(&ctx, KIB(64), NPU_DEVICE);
	va = npu_va(&ctx, MIB(2), MIB(2));
	ops[0] = npu_op_map(a, va, 0, PAGE);
	ops[1] = npu_op_map(b, va + PAGE, PAGE, PAGE);		/* another object */
	ops[2] = npu_op_map(b, va + 2 * PAGE, 3 * PAGE, PAGE);	/* another place */
	ops[3] = npu_op_map(b, va + 3 * PAGE, 4 * PAGE, PAGE);	/* other attributes */
	ops[3].attrs = NPU_ATTR_COMPRESSION(1);
	ops[4] = npu_op_map(b, va + 4 * PAGE, 5 * PAGE, PAGE);	/* other rights */
	ops[4].attrs = NPU_ATTR_COMPRESSION(1);
	ops[4].flags = DRM_GMEM_BIND_EXEC;
	ops[5] = npu_op_sparse(va + 5 * PAGE, PAGE);
	ops[6] = npu_op_map(b, va + 6 * PAGE, 0, PAGE);
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 7), 0);
	igt_assert_eq(npu_ranges(&ctx, va, 7 * PAGE, range, 8), 7);
	for (int i = 0; i < 7; i++) {
		assert_range(&range[i], va + i * PAGE, PAGE, i == 5 ? DRM_GMEM_MAPPING_SPARSE :
			     DRM_GMEM_MAPPING_BO, i == 5 ? DRM_GMEM_RESIDENT_NOWHERE :
			     DRM_GMEM_RESIDENT_DEVICE, ops[i].bo_offset);
		igt_assert_eq_u32(range[i].flags, ops[i].flags);
		igt_assert_eq_u64(range[i].attrs, ops[i].attrs);
	}
	npu_ctx_close(&ctx);
}

/* A few entries at a time give the same as all at once. */
static void test_continue(void)
{
	enum { PAGES = 600 };
	struct drm_gmem_bind_op *ops = calloc(PAGES, sizeof(*ops));
	struct drm_gmem_range *all = calloc(2 * PAGES, sizeof(*all));
	struct drm_gmem_range part[601];
	static const uint32_t rooms[] = { 1, 2, 7, 600, 601 };
	struct npu_ctx ctx;
	unsigned int n;
	uint32_t bo;
	uint64_t va;

	igt_assert(ops && all);
	npu_ctx_open(&ctx);
	bo = new_bo(&ctx, PAGES * PAGE, NPU_DEVICE);
	va = npu_va(&ctx, MIB(8), MIB(2));
	for (int i = 0; i < PAGES; i++)
		ops[i] = i % 3 ? npu_op_map(bo, va + i * PAGE, (PAGES - 1 - i) * PAGE, PAGE) :
				 npu_op_unmap(va + i * PAGE, PAGE);
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, PAGES), 0);
	n = npu_ranges(&ctx, va, MIB(8), all, 2 * PAGES);
	igt_assert_eq(n, PAGES + 1);
	for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
		uint64_t at = va, left = MIB(8);
		unsigned int seen = 0;

		while (left) {
			uint32_t count = rooms[i];

			igt_assert_eq(npu_query_range(ctx.fd, ctx.vm, &at, &left, part, &count), 0);
			igt_assert_lte(1, count);
			igt_assert_lte(seen + count, n);
			igt_assert_eq(count, npu_min(rooms[i], n - seen));
			igt_assert(!memcmp(part, all + seen, count * sizeof(*part)));
			seen += count;
			igt_assert_eq_u64(at, all[seen - 1].va + all[seen - 1].size);
			igt_assert_eq_u64(at + left, va + MIB(8));
		}
		igt_assert_eq(seen, n);
	}
	npu_ctx_close(&ctx);
	free(ops);
	free(all);
}

static void test_bad(void)
{
	struct drm_gmem_query_device info;
	struct drm_gmem_range *room = calloc(65537, sizeof(*room));
	uint64_t va, start;
	struct npu_ctx ctx;

	igt_assert(room);
	npu_ctx_open(&ctx);
	info = npu_device_info(ctx.fd);
	start = npu_va(&ctx, MIB(2), MIB(2));

#define TRY(va_, size_, count_, error) \
	do { \
		uint64_t size__ = (size_); \
		uint32_t count__ = (count_); \
		va = (va_); \
		igt_assert_eq(npu_query_range(ctx.fd, ctx.vm, &va, &size__, room, &count__), error); \
		if (error) { \
			igt_assert_eq_u64(va, va_); \
			igt_assert_eq_u64(size__, size_); \
			igt_assert_eq_u32(count__, count_); \
		} \
	} while (0)

	TRY(start, MIB(1), 0, -EINVAL);
	TRY(start, MIB(1), 65537, -EINVAL);
	TRY(start, MIB(1), 1u << 31, -EINVAL);
	TRY(start, MIB(1), ~0u, -EINVAL);
	TRY(start, MIB(1), 65536, 0);
	TRY(start, 0, 1, -EINVAL);
	for (int bit = 0; bit < 12; bit++) {
		TRY(start + (1 << bit), MIB(1), 1, -EINVAL);
		TRY(start, MIB(1) + (1 << bit), 1, -EINVAL);
	}
	TRY(info.va_end, PAGE, 1, -ERANGE);
	TRY(info.va_end - PAGE, 2 * PAGE, 1, -ERANGE);
	TRY(start, info.va_end, 1, -ERANGE);
	TRY(start, -PAGE, 1, -ERANGE);
	TRY(-PAGE, PAGE, 1, -ERANGE);
	if (info.va_start)
		TRY(info.va_start - PAGE, 2 * PAGE, 1, -ERANGE);
#undef TRY
	npu_ctx_close(&ctx);
	free(room);
}

/* Entries that can't be written, or not all of them. */
static void test_fault(void)
{
	const size_t fit = PAGE / sizeof(struct drm_gmem_range);
	static const uint64_t bad[] = {
		0, 8, 0x7ffffffff000ull, 0x800000000000ull, 0xffff888000000000ull, ~7ull,
	};
	struct drm_gmem_bind_op ops[64];
	struct npu_ctx ctx;
	char *pages;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(2), MIB(2));
	for (int i = 0; i < 64; i++) {
		ops[i] = npu_op_sparse(va + i * PAGE, PAGE);
		ops[i].flags = i & 1 ? DRM_GMEM_BIND_READONLY : 0;
	}
	igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 64), 0);
	pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	igt_assert(pages != MAP_FAILED);
	igt_assert_eq(mprotect(pages + PAGE, PAGE, PROT_READ), 0);
	igt_assert(fit < 32);
	for (size_t i = 0; i <= ARRAY_LEN(bad) + 1; i++) {
		uint64_t at = va, size = 64 * PAGE;
		uint32_t count = fit + 2;
		uintptr_t where;

		/* The last two: memory that can't be written, or not to its end. */
		if (i < ARRAY_LEN(bad))
			where = bad[i];
		else
			where = (uintptr_t)pages + (i == ARRAY_LEN(bad) ? PAGE : 0);
		igt_assert_eq(npu_query_range(ctx.fd, ctx.vm, &at, &size,
					      (struct drm_gmem_range *)where, &count), -EFAULT);
		igt_assert_eq_u64(at, va);
		igt_assert_eq_u64(size, 64 * PAGE);
		igt_assert_eq(count, (int)fit + 2);
	}
	/* As many as there is room for in the first page; and at any address in it. */
	for (int shift = 0; shift < 2; shift++) {
		uint64_t at = va, size = 64 * PAGE;
		uint32_t count = fit - shift;
		struct drm_gmem_range first;

		igt_assert_eq(npu_query_range(ctx.fd, ctx.vm, &at, &size,
					      (struct drm_gmem_range *)(pages + 3 * shift), &count),
			      0);
		igt_assert_eq_u64(at, va + count * PAGE);
		memcpy(&first, pages + 3 * shift, sizeof(first));
		igt_assert_eq_u64(first.va, va);
		igt_assert_eq_u64(first.size, PAGE);
	}
	igt_assert_eq(munmap(pages, 2 * PAGE), 0);
	npu_ctx_close(&ctx);
}

/* What is mapped at a page of the model. */
struct page {
	unsigned int bo;	/* 0: nothing, 1: sparse, 2: in device memory, 3: in host memory */
	uint32_t flags;
	uint64_t offset, attrs;
};

/* Against an array of pages, by which every entry can be foretold. */
static void test_random(void)
{
	enum { PAGES = 128 };
	static const struct { uint32_t op, mapping, residency; } kinds[4] = {
		{ DRM_GMEM_BIND_OP_UNMAP, DRM_GMEM_MAPPING_NONE, DRM_GMEM_RESIDENT_NOWHERE },
		{ DRM_GMEM_BIND_OP_MAP_SPARSE, DRM_GMEM_MAPPING_SPARSE, DRM_GMEM_RESIDENT_NOWHERE },
		{ DRM_GMEM_BIND_OP_MAP_BO, DRM_GMEM_MAPPING_BO, DRM_GMEM_RESIDENT_DEVICE },
		{ DRM_GMEM_BIND_OP_MAP_BO, DRM_GMEM_MAPPING_BO, DRM_GMEM_RESIDENT_HOST },
	};
	static struct page model[PAGES];
	struct drm_gmem_range range[PAGES];
	uint64_t seed = npu_seed(), va;
	struct npu_ctx ctx;
	uint32_t bo[4];

	memset(model, 0, sizeof(model));
	npu_ctx_open(&ctx);
	for (int i = 2; i < 4; i++)
		bo[i] = new_bo(&ctx, PAGES * PAGE, i & 1 ? NPU_HOST : NPU_DEVICE);
	va = npu_va(&ctx, MIB(2), MIB(2)) + MIB(2) - PAGES / 2 * PAGE;
	for (unsigned int step = 0; step < npu_scale(800); step++) {
		unsigned int first = npu_random(&seed) % PAGES;
		unsigned int count = 1 + npu_random(&seed) % npu_min(PAGES - first, 40), n, at = 0;
		struct drm_gmem_bind_op op = npu_op_unmap(va + first * PAGE, count * PAGE);
		struct page page = { .bo = npu_random(&seed) % 4 };

		if (page.bo)
			page.flags = npu_random(&seed) % 4 ? 0 : DRM_GMEM_BIND_READONLY;
		if (page.bo > 1) {
			/* Often where it would be if all were one mapping. */
			page.offset = npu_random(&seed) % 2 ? first * PAGE :
				      npu_random(&seed) % (PAGES - count) * PAGE;
			page.attrs = npu_random(&seed) % 4 ? 0 : NPU_ATTR_CACHE_UNCACHED;
			op.handle = bo[page.bo];
		}
		op.op = kinds[page.bo].op;
		op.flags = page.flags;
		op.bo_offset = page.offset;
		op.attrs = page.attrs;
		igt_assert_eq(npu_bind(ctx.fd, ctx.vm, &op, 1), 0);
		for (unsigned int i = 0; i < count; i++) {
			model[first + i] = page;
			if (page.bo > 1)
				page.offset += PAGE;
		}

		n = npu_ranges(&ctx, va, PAGES * PAGE, range, PAGES);
		for (unsigned int i = 0; i < n; i++) {
			const struct page *p = &model[at], *end;

			igt_assert_eq_u32(range[i].flags, p->flags);
			igt_assert_eq_u64(range[i].attrs, p->attrs);

			/* It ends exactly where the model has a page that doesn't continue it. */
			for (end = p + 1; end < model + PAGES; end++)
				if (end->bo != p->bo || end->flags != p->flags ||
				    end->attrs != p->attrs ||
				    end->offset != p->offset + (p->bo > 1 ? (end - p) * PAGE : 0))
					break;
			assert_range(&range[i], va + at * PAGE, (end - p) * PAGE,
				     kinds[p->bo].mapping, kinds[p->bo].residency, p->offset);
			at += end - p;
		}
		igt_assert_eq(at, PAGES);
	}
	npu_ctx_close(&ctx);
}

int igt_main()
{
	static const struct {
		const char *name, *what;
		void (*run)(void);
	} tests[] = {
		{ "nothing", "Where nothing is mapped one entry says so", test_nothing },
		{ "kinds", "Objects, sparse memory and gaps, and what is known of them", test_kinds },
		{ "visible", "Memory that the CPU can map is device memory", test_visible },
		{ "no-merge", "What doesn't continue its neighbour is another entry", test_no_merge },
		{ "continue", "A range can be read a few entries at a time", test_continue },
		{ "bad", "Ranges and numbers that can't be are refused", test_bad },
		{ "fault", "Entries that can't be written give -EFAULT", test_fault },
		{ "random", "Random mappings, compared with a model page by page", test_random },
	};

	igt_fixture()
		close(npu_open());

	for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
		igt_describe(tests[i].what);
		igt_subtest_f("%s", tests[i].name)
			tests[i].run();
	}

	igt_describe("Device memory mapped page by page is one entry in the end");
	igt_subtest("merge-device")
		test_merge(NPU_DEVICE);

	igt_describe("Host memory mapped page by page is one entry in the end");
	igt_subtest("merge-host")
		test_merge(NPU_HOST);

	igt_describe("Sparse memory mapped page by page is one entry in the end");
	igt_subtest("merge-sparse")
		test_merge(0);
}
