// SPDX-License-Identifier: MIT
/*
 * Pages that say which page of which object they are. Each page of a tagged
 * object holds its tag in its first and in its last eight bytes.
 */

#include <string.h>
#include <sys/mman.h>

#include "npu_lib.h"

#define CHUNK	512	/* pages tagged or read by one job */

uint64_t npu_tag(uint32_t id, uint64_t page)
{
	return 0x7a00000000000000ull | (uint64_t)id << 32 | page;
}

/* Tags an object by way of a mapping of its own, so that it needn't be mapped already. */
void npu_bo_tag(struct npu_ctx *ctx, uint32_t handle, uint64_t size, uint32_t id)
{
	uint64_t va = npu_va(ctx, size, PAGE);
	uint64_t pages = size / PAGE;

	igt_assert_eq(npu_map(ctx->fd, ctx->vm, handle, va, 0, size, 0), 0);
	for (uint64_t page = 0; page < pages;) {
		struct npu_cb cb = npu_begin(ctx);

		for (int i = 0; i < CHUNK && page < pages; i++, page++) {
			npu_cmd_write(&cb, va + page * PAGE, npu_tag(id, page));
			npu_cmd_write(&cb, va + page * PAGE + PAGE - 8, npu_tag(id, page));
		}
		igt_assert_eq(npu_run(ctx, &cb), 0);
	}
	igt_assert_eq(npu_unmap(ctx->fd, ctx->vm, va, size), 0);
	ctx->va_at = va;
}

/* Has the device read many u64s; all must be mapped. */
void npu_read_many(struct npu_ctx *ctx, const uint64_t *va, uint64_t *value, unsigned int count)
{
	struct npu_cell cell[CHUNK];

	while (count) {
		unsigned int n = count < CHUNK ? count : CHUNK;
		struct npu_cb cb = npu_begin(ctx);

		for (unsigned int i = 0; i < n; i++) {
			cell[i] = npu_cell(ctx, 0);
			npu_cmd_copy(&cb, cell[i].va, va[i], 8);
		}
		igt_assert_eq(npu_run(ctx, &cb), 0);
		for (unsigned int i = 0; i < n; i++)
			value[i] = *cell[i].cpu;
		va += n;
		value += n;
		count -= n;
	}
}

/* At @va the device sees the pages of object @id from page @first on. */
void npu_assert_tags(struct npu_ctx *ctx, uint64_t va, uint64_t pages, uint32_t id, uint64_t first)
{
	for (uint64_t done = 0; done < pages; done += CHUNK / 2) {
		unsigned int n = npu_min(pages - done, CHUNK / 2);
		uint64_t at[CHUNK], value[CHUNK];

		for (unsigned int i = 0; i < n; i++) {
			at[2 * i] = va + (done + i) * PAGE;
			at[2 * i + 1] = at[2 * i] + PAGE - 8;
		}
		npu_read_many(ctx, at, value, 2 * n);
		for (unsigned int i = 0; i < 2 * n; i++)
			igt_assert_f(value[i] == npu_tag(id, first + done + i / 2),
				     "at %#llx is %#llx instead of %#llx\n",
				     (unsigned long long)at[i], (unsigned long long)value[i],
				     (unsigned long long)npu_tag(id, first + done + i / 2));
	}
}

/* Neither reading nor writing there works. */
void npu_assert_unmapped(struct npu_ctx *ctx, uint64_t va)
{
	uint64_t value;

	npu_assert_fault(ctx, npu_read(ctx, va, &value), va, NPU_NOT_MAPPED);
	igt_assert_eq_u64(value, ~0ull);
	npu_assert_fault(ctx, npu_write(ctx, va, 0), va, NPU_NOT_MAPPED);
}

/* Compares a whole object with a pattern, on the device. */
bool npu_is_filled(struct npu_ctx *ctx, uint32_t handle, uint64_t size, uint32_t pattern)
{
	const uint64_t step = KIB(256);
	struct npu_bo ref = npu_bo(ctx, step, NPU_HOST, 0);
	uint64_t va = npu_va(ctx, size, PAGE);
	bool filled = true;

	for (uint64_t i = 0; i < step / 4; i++)
		((uint32_t *)ref.cpu)[i] = pattern;
	igt_assert_eq(npu_map(ctx->fd, ctx->vm, handle, va, 0, size, DRM_GMEM_BIND_READONLY), 0);
	for (uint64_t at = 0; at < size;) {
		struct npu_cb cb = npu_begin(ctx);
		struct npu_cell cell[64];
		int n;

		for (n = 0; n < 64 && at < size; n++, at += step) {
			cell[n] = npu_cell(ctx, 0);
			npu_cmd_compare(&cb, cell[n].va, va + at, ref.va,
					npu_min(step, size - at));
		}
		igt_assert_eq(npu_run(ctx, &cb), 0);
		while (n--)
			filled &= *cell[n].cpu == NPU_COMPARE_EQUAL;
	}
	igt_assert_eq(npu_unmap(ctx->fd, ctx->vm, va, size), 0);
	npu_bo_free(ctx, &ref);
	return filled;
}

void npu_fill(struct npu_ctx *ctx, uint32_t handle, uint64_t size, uint32_t pattern)
{
	uint64_t va = npu_va(ctx, size, PAGE);
	struct npu_cb cb = npu_begin(ctx);

	igt_assert_eq(npu_map(ctx->fd, ctx->vm, handle, va, 0, size, 0), 0);
	npu_cmd_fill(&cb, va, size, pattern);
	igt_assert_eq(npu_run(ctx, &cb), 0);
	igt_assert_eq(npu_unmap(ctx->fd, ctx->vm, va, size), 0);
}
