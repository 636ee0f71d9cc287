// SPDX-License-Identifier: MIT
/*
 * Holes in mappings. What a mapping loses in part keeps the rest, whatever
 * page size the device maps it with: 4 KiB, 64 KiB or 2 MiB.
 */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Partial unmap and partial replacement");

static const struct split {
	const char *name;
	uint64_t size;		/* of the mapping */
	uint64_t va_shift;	/* its distance from a multiple of 2 MiB */
	uint64_t hole;		/* where the hole begins */
	uint64_t hole_size;
} splits[] = {
	{ "4k-head",		KIB(32),	0,	0,		KIB(4) },
	{ "4k-middle",		KIB(32),	0,	KIB(12),	KIB(8) },
	{ "4k-tail",		KIB(32),	0,	KIB(28),	KIB(4) },
	{ "64k-head",		KIB(192),	0,	0,		KIB(4) },
	{ "64k-middle",		KIB(192),	0,	KIB(64 + 28),	KIB(8) },
	{ "64k-tail",		KIB(192),	0,	KIB(188),	KIB(4) },
	{ "64k-one-leaf",	KIB(192),	0,	KIB(64),	KIB(64) },
	{ "64k-two-halves",	KIB(192),	0,	KIB(32),	KIB(64) },
	{ "64k-shifted",	KIB(192),	KIB(4),	KIB(60),	KIB(4) },
	{ "2m-head",		MIB(2),		0,	0,		KIB(4) },
	{ "2m-head-64k",	MIB(2),		0,	0,		KIB(64) },
	{ "2m-middle",		MIB(2),		0,	MIB(1) + KIB(4), KIB(4) },
	{ "2m-middle-64k",	MIB(2),		0,	MIB(1),		KIB(64) },
	{ "2m-tail",		MIB(2),		0,	MIB(2) - KIB(4), KIB(4) },
	{ "2m-most",		MIB(2),		0,	KIB(4),		MIB(2) - KIB(8) },
	{ "2m-one-of-two",	MIB(4),		0,	0,		MIB(2) },
	{ "2m-two-halves",	MIB(4),		0,	MIB(1),		MIB(2) },
	{ "2m-border",		MIB(4),		0,	MIB(2) - KIB(4), KIB(8) },
	{ "2m-and-some",	MIB(2) + KIB(68), KIB(64), MIB(1),	KIB(68) },
};

/* Everything around the hole: the pages next to it and a sample of the others. */
static void check_around(struct npu_ctx *ctx, const struct split *s, uint64_t va)
{
	uint64_t pages = s->size / PAGE, first = s->hole / PAGE;
	uint64_t end = first + s->hole_size / PAGE;
	uint64_t at[160] = {}, value[160], tag[160];
	unsigned int n = 0;

	for (uint64_t page = 0; page < pages; page++) {
		bool near = page + 18 >= first && page < end + 18;

		if ((page >= first && page < end) || (!near && page % 31 && page != pages - 1))
			continue;
		igt_assert(n < ARRAY_LEN(at));
		at[n] = va + page * PAGE + (page & 1 ? PAGE - 8 : 0);
		tag[n++] = npu_tag(1, page);
	}
	npu_read_many(ctx, at, value, n);
	for (unsigned int i = 0; i < n; i++)
		igt_assert_f(value[i] == tag[i], "at +%#llx: %#llx instead of %#llx\n",
			     (unsigned long long)(at[i] - va), (unsigned long long)value[i],
			     (unsigned long long)tag[i]);
}

struct scene {
	struct npu_ctx ctx;
	uint32_t bo;
	uint64_t va;
};

static void scene_open(struct scene *scene, const struct split *s, uint32_t placement)
{
	npu_ctx_open(&scene->ctx);
	igt_assert_eq(npu_bo_create(scene->ctx.fd, s->size, placement, &scene->bo), 0);
	npu_bo_tag(&scene->ctx, scene->bo, s->size, 1);
	scene->va = npu_va(&scene->ctx, s->size + MIB(2), MIB(2)) + s->va_shift;
	igt_assert_eq(npu_map(scene->ctx.fd, scene->ctx.vm, scene->bo, scene->va, 0, s->size, 0), 0);
	/* Have the device cache what is there. */
	npu_assert_tags(&scene->ctx, scene->va, s->size / PAGE, 1, 0);
}

static void test_unmap(const struct split *s, uint32_t placement)
{
	struct scene scene;
	struct npu_ctx *ctx = &scene.ctx;
	uint64_t hole, end;

	scene_open(&scene, s, placement);
	hole = scene.va + s->hole;
	end = hole + s->hole_size;
	igt_assert_eq(npu_unmap(ctx->fd, ctx->vm, hole, s->hole_size), 0);
	check_around(ctx, s, scene.va);
	npu_assert_unmapped(ctx, hole);
	npu_assert_unmapped(ctx, end - PAGE);
	npu_assert_unmapped(ctx, hole + s->hole_size / 2);

	/* The neighbours can be written, too. */
	if (s->hole) {
		igt_assert_eq(npu_write(ctx, hole - 8, 1), 0);
		igt_assert_eq(npu_write(ctx, hole - 8, npu_tag(1, s->hole / PAGE - 1)), 0);
	}

	/* Filled again with what was there, it is as it was. */
	igt_assert_eq(npu_map(ctx->fd, ctx->vm, scene.bo, hole, s->hole, s->hole_size, 0), 0);
	npu_assert_tags(ctx, scene.va, s->size / PAGE, 1, 0);
	igt_assert_eq(npu_unmap(ctx->fd, ctx->vm, scene.va, s->size), 0);
	npu_assert_unmapped(ctx, scene.va);
	npu_assert_unmapped(ctx, hole);
	npu_ctx_close(ctx);
}

static void test_replace(const struct split *s, uint32_t placement, uint32_t by)
{
	struct scene scene;
	struct npu_ctx *ctx = &scene.ctx;
	uint64_t hole, pages = s->hole_size / PAGE;
	uint32_t other;

	scene_open(&scene, s, placement);
	hole = scene.va + s->hole;
	igt_assert_eq(npu_bo_create(ctx->fd, s->hole_size + PAGE, by, &other), 0);
	npu_bo_tag(ctx, other, s->hole_size + PAGE, 2);

	/* From an offset that fits no large page, then from one that may. */
	for (int offset = 1; offset >= 0; offset--) {
		igt_assert_eq(npu_map(ctx->fd, ctx->vm, other, hole, offset * PAGE,
				      s->hole_size, 0), 0);
		npu_assert_tags(ctx, hole, pages, 2, offset);
		check_around(ctx, s, scene.va);
	}

	/* The first object is still mapped around it. */
	igt_assert_eq(npu_bo_close(ctx->fd, scene.bo), 0);
	check_around(ctx, s, scene.va);
	igt_assert_eq(npu_unmap(ctx->fd, ctx->vm, hole, s->hole_size), 0);
	npu_assert_unmapped(ctx, hole);
	check_around(ctx, s, scene.va);
	npu_ctx_close(ctx);
}

/* A mapping taken apart page by page, from the outside in, and put together again. */
static void test_page_by_page(uint32_t placement)
{
	const uint64_t pages = 64;
	struct npu_ctx ctx;
	uint64_t va;
	uint32_t bo;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(2), placement, &bo), 0);
	npu_bo_tag(&ctx, bo, MIB(2), 1);
	va = npu_va(&ctx, MIB(2), MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, MIB(2), 0), 0);
	for (uint64_t i = 0; i < pages / 2 - 1; i++) {
		igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + i * PAGE, PAGE), 0);
		igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + (pages - 1 - i) * PAGE, PAGE), 0);
		npu_assert_tags(&ctx, va + (i + 1) * PAGE, pages - 2 * (i + 1), 1, i + 1);
	}
	npu_assert_unmapped(&ctx, va);
	npu_assert_unmapped(&ctx, va + (pages / 2 - 2) * PAGE);
	npu_assert_tags(&ctx, va + pages * PAGE, MIB(2) / PAGE - pages, 1, pages);
	for (uint64_t i = 0; i < pages; i++)
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va + i * PAGE, i * PAGE, PAGE, 0), 0);
	npu_assert_tags(&ctx, va, MIB(2) / PAGE, 1, 0);
	npu_ctx_close(&ctx);
}

/* Rights that differ within what could be one large page. */
static void test_rights(void)
{
	struct npu_ctx ctx;
	uint64_t va;
	uint32_t bo;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, MIB(2), NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, MIB(2), 1);
	va = npu_va(&ctx, MIB(2), MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, MIB(2), 0), 0);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va + KIB(64), KIB(64), KIB(64),
			      DRM_GMEM_BIND_READONLY), 0);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va + MIB(1), MIB(1), PAGE,
			      DRM_GMEM_BIND_READONLY), 0);
	npu_assert_tags(&ctx, va, MIB(2) / PAGE, 1, 0);
	igt_assert_eq(npu_write(&ctx, va + KIB(60), npu_tag(1, 15)), 0);
	for (uint64_t at = KIB(64); at < KIB(128); at += KIB(20))
		npu_assert_fault(&ctx, npu_write(&ctx, va + at, 0), va + at, NPU_NOT_WRITABLE);
	igt_assert_eq(npu_write(&ctx, va + KIB(128), npu_tag(1, 32)), 0);
	igt_assert_eq(npu_write(&ctx, va + MIB(1) - 8, npu_tag(1, 255)), 0);
	npu_assert_fault(&ctx, npu_write(&ctx, va + MIB(1), 0), va + MIB(1), NPU_NOT_WRITABLE);
	igt_assert_eq(npu_write(&ctx, va + MIB(1) + PAGE, npu_tag(1, 257)), 0);
	npu_assert_tags(&ctx, va, MIB(2) / PAGE, 1, 0);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("A hole in a mapping of device memory leaves its neighbours alone");
	igt_subtest_with_dynamic("unmap") {
		for (size_t i = 0; i < ARRAY_LEN(splits); i++)
			igt_dynamic(splits[i].name)
				test_unmap(&splits[i], NPU_DEVICE);
	}

	igt_describe("Another object in the middle of a mapping leaves the rest alone");
	igt_subtest_with_dynamic("replace") {
		for (size_t i = 0; i < ARRAY_LEN(splits); i++)
			igt_dynamic(splits[i].name)
				test_replace(&splits[i], NPU_DEVICE, i & 1 ? NPU_HOST : NPU_DEVICE);
	}

	igt_describe("Holes in mappings of host memory leave their neighbours alone");
	igt_subtest("unmap-host") {
		for (size_t i = 0; i < ARRAY_LEN(splits); i += 4)
			test_unmap(&splits[i], NPU_HOST);
	}

	igt_describe("Device memory in the middle of host memory, and the other way round");
	igt_subtest("replace-host") {
		for (size_t i = 2; i < ARRAY_LEN(splits); i += 4)
			test_replace(&splits[i], NPU_HOST, NPU_DEVICE);
	}

	igt_describe("A mapping of device memory can be taken apart page by page");
	igt_subtest("page-by-page-device")
		test_page_by_page(NPU_DEVICE);

	igt_describe("A mapping of host memory can be taken apart page by page");
	igt_subtest("page-by-page-host")
		test_page_by_page(NPU_HOST);

	igt_describe("Rights are kept page by page");
	igt_subtest("rights")
		test_rights();
}
