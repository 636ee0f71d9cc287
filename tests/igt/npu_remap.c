// SPDX-License-Identifier: MIT
/*
 * Mappings that change under a device that caches translations: when BIND
 * returns, no job may see what was mapped before.
 */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Changing mappings and the device's TLB");

enum how { REPLACE, UNBIND_BIND, ARRAY };

/* One address shows object after object; each job must see its own. */
static void test_stale(uint64_t size, enum how how)
{
	struct npu_ctx ctx;
	uint64_t va, pages = size / PAGE, at[3], value[3];
	uint32_t bo[3];

	npu_ctx_open(&ctx);
	for (int i = 0; i < 3; i++) {
		igt_assert_eq(npu_bo_create(ctx.fd, size, i == 2 ? NPU_HOST : NPU_DEVICE, &bo[i]), 0);
		npu_bo_tag(&ctx, bo[i], size, i);
	}
	va = npu_va(&ctx, size, MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[2], va, 0, size, 0), 0);
	for (unsigned int round = 0; round < npu_scale(60); round++) {
		unsigned int now = round % 3;
		uint64_t page = round * 7 % pages;
		struct drm_gmem_bind_op ops[2] = {
			npu_op_unmap(va, size),
			npu_op_map(bo[now], va, 0, size),
		};

		switch (how) {
		case REPLACE:
			igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[now], va, 0, size, 0), 0);
			break;
		case UNBIND_BIND:
			igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, size), 0);
			igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[now], va, 0, size, 0), 0);
			break;
		case ARRAY:
			igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, 2), 0);
			break;
		}
		at[0] = va;
		at[1] = va + page * PAGE;
		at[2] = va + size - 8;
		npu_read_many(&ctx, at, value, 3);
		igt_assert_eq_u64(value[0], npu_tag(now, 0));
		igt_assert_eq_u64(value[1], npu_tag(now, page));
		igt_assert_eq_u64(value[2], npu_tag(now, pages - 1));
	}
	npu_ctx_close(&ctx);
}

/* What was unmapped is out of reach at once; pages around it aren't. */
static void test_gone(uint64_t size)
{
	struct npu_ctx ctx;
	uint64_t va, pages = size / PAGE;
	uint32_t bo;

	npu_ctx_open(&ctx);
	igt_assert_eq(npu_bo_create(ctx.fd, size, NPU_DEVICE, &bo), 0);
	npu_bo_tag(&ctx, bo, size, 1);
	va = npu_va(&ctx, size, MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va, 0, size, 0), 0);
	for (unsigned int round = 0; round < npu_scale(25); round++) {
		uint64_t page = round * 5 % pages;

		npu_assert_tags(&ctx, va + page * PAGE, 1, 1, page);
		igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + page * PAGE, PAGE), 0);
		npu_assert_unmapped(&ctx, va + page * PAGE);
		if (page)
			npu_assert_tags(&ctx, va + (page - 1) * PAGE, 1, 1, page - 1);
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo, va + page * PAGE, page * PAGE, PAGE, 0), 0);
		npu_assert_tags(&ctx, va + page * PAGE, 1, 1, page);
	}
	npu_ctx_close(&ctx);
}

/* A VM that takes over a destroyed one's root table doesn't take over its translations. */
static void test_new_vm(void)
{
	int fd = npu_open();
	struct npu_ctx old, new;

	for (unsigned int round = 0; round < npu_scale(20); round++) {
		uint64_t va = GIB(7), value;
		uint32_t bo;

		npu_ctx_init(&old, fd);
		igt_assert_eq(npu_bo_create(fd, KIB(64), NPU_DEVICE, &bo), 0);
		igt_assert_eq(npu_map(fd, old.vm, bo, va, 0, KIB(64), 0), 0);
		igt_assert_eq(npu_write(&old, va, npu_tag(8, round)), 0);
		igt_assert_eq(npu_read(&old, va, &value), 0);
		igt_assert_eq_u64(value, npu_tag(8, round));
		npu_ctx_fini(&old);
		igt_assert_eq(npu_bo_close(fd, bo), 0);

		npu_ctx_init(&new, fd);
		npu_assert_unmapped(&new, va);
		igt_assert_eq(npu_bo_create(fd, KIB(64), NPU_DEVICE, &bo), 0);
		igt_assert_eq(npu_map(fd, new.vm, bo, va, 0, KIB(64), 0), 0);
		igt_assert_eq(npu_read(&new, va, &value), 0);
		igt_assert_eq_u64(value, 0);
		npu_ctx_fini(&new);
		igt_assert_eq(npu_bo_close(fd, bo), 0);
	}
	close(fd);
}

/* A job that runs all the while sees the change as well. */
static bool try_running(void *arg)
{
	const bool unmap = *(bool *)arg;
	struct npu_cell started, gate, first, second;
	struct drm_gmem_sync sync;
	uint32_t bo[2];
	struct npu_ctx ctx;
	struct npu_cb cb;
	uint64_t va;
	int result;

	npu_ctx_open(&ctx);
	for (int i = 0; i < 2; i++) {
		igt_assert_eq(npu_bo_create(ctx.fd, KIB(128), NPU_DEVICE, &bo[i]), 0);
		npu_bo_tag(&ctx, bo[i], KIB(128), i);
	}
	va = npu_va(&ctx, KIB(128), KIB(64));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[0], va, 0, KIB(128), 0), 0);

	started = npu_cell(&ctx, 0);
	gate = npu_cell(&ctx, 0);
	first = npu_cell(&ctx, 0);
	second = npu_cell(&ctx, 0);
	cb = npu_begin(&ctx);
	npu_cmd_copy(&cb, first.va, va + 5 * PAGE, 8);
	npu_cmd_write(&cb, started.va, 1);
	npu_cmd_wait(&cb, gate.va, 1);
	npu_cmd_copy(&cb, second.va, va + 5 * PAGE, 8);
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
	for (int ms = 0; !*started.cpu && ms < 60000; ms++)
		usleep(1000);

	if (unmap)
		igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va + 5 * PAGE, PAGE), 0);
	else
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[1], va, 0, KIB(128), 0), 0);
	*gate.cpu = 1;
	result = npu_fence_result(ctx.fd, ctx.syncobj);
	igt_assert_eq_u64(*first.cpu, npu_tag(0, 5));
	if (result != -ETIMEDOUT) {
		igt_assert_eq(npu_job_status(ctx.fd, ctx.queue, &ctx.status), 0);
		if (unmap) {
			npu_assert_fault(&ctx, result, va + 5 * PAGE, NPU_NOT_MAPPED);
			igt_assert_eq_u64(*second.cpu, 0);
		} else {
			igt_assert_eq(result, 0);
			igt_assert_eq_u64(*second.cpu, npu_tag(1, 5));
		}
	}
	npu_ctx_close(&ctx);
	return result != -ETIMEDOUT;
}

/* Memory that was unmapped and freed is never written again by jobs that still run. */
static void test_freed(void)
{
	struct npu_ctx ctx;
	uint64_t va;

	npu_ctx_open(&ctx);
	va = npu_va(&ctx, MIB(1), MIB(2));
	for (unsigned int round = 0; round < npu_scale(15); round++) {
		struct drm_gmem_sync sync = npu_signal(ctx.syncobj);
		uint32_t victim, next;
		struct npu_cb cb;
		int result;

		igt_assert_eq(npu_bo_create(ctx.fd, MIB(1), NPU_DEVICE, &victim), 0);
		igt_assert_eq(npu_map(ctx.fd, ctx.vm, victim, va, 0, MIB(1), 0), 0);
		cb = npu_begin(&ctx);
		for (int i = 0; i < 400; i++)
			npu_cmd_fill(&cb, va, MIB(1), 0xdddddddd);
		igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
		usleep(100 * round);
		igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, MIB(1)), 0);
		igt_assert_eq(npu_bo_close(ctx.fd, victim), 0);
		igt_assert_eq(npu_bo_create(ctx.fd, MIB(1), NPU_DEVICE, &next), 0);
		result = npu_fence_result(ctx.fd, ctx.syncobj);
		igt_assert(result == 0 || result == -EFAULT || result == -ETIMEDOUT);
		igt_assert(npu_is_filled(&ctx, next, MIB(1), 0));
		igt_assert_eq(npu_bo_close(ctx.fd, next), 0);
	}
	npu_ctx_close(&ctx);
}

/* Random changes, compared with a model that a child could have written. */

#define WINDOW	1536	/* pages: three tables of 2 MiB */
#define OBJECTS	5
#define EMPTY	(~0u)

struct model {
	uint32_t object[WINDOW];
	uint32_t page[WINDOW];
};

static const struct {
	uint64_t size;
	uint32_t placement;
} objects[OBJECTS] = {
	{ MIB(2), NPU_DEVICE }, { MIB(4), NPU_DEVICE }, { KIB(64), NPU_DEVICE },
	{ MIB(2), NPU_HOST }, { KIB(12), NPU_HOST },
};

/* Ranges of all sizes, often at the borders of large pages. */
static void random_range(uint64_t *seed, uint32_t *start, uint32_t *pages)
{
	static const uint32_t grain[] = { 1, 1, 16, 16, 512 };
	uint32_t g = grain[npu_random(seed) % ARRAY_LEN(grain)];

	*start = npu_random(seed) % (WINDOW / g) * g;
	*pages = (1 + npu_random(seed) % (g == 1 ? 40 : 512 / g)) * g;
	if (npu_random(seed) % 4 == 0)
		*pages += npu_random(seed) % 3;
	if (*start + *pages > WINDOW)
		*pages = WINDOW - *start;
}

static struct drm_gmem_bind_op random_op(uint64_t *seed, struct model *model, uint64_t va,
					 const uint32_t *bo)
{
	uint32_t start, pages, id, first;

	random_range(seed, &start, &pages);
	if (npu_random(seed) % 3 == 0) {
		for (uint32_t i = start; i < start + pages; i++)
			model->object[i] = EMPTY;
		return npu_op_unmap(va + start * PAGE, pages * PAGE);
	}
	id = npu_random(seed) % OBJECTS;
	pages = npu_min(pages, objects[id].size / PAGE);
	first = npu_random(seed) % (objects[id].size / PAGE - pages + 1);
	if (npu_random(seed) % 2)
		first = first / 16 * 16;
	for (uint32_t i = 0; i < pages; i++) {
		model->object[start + i] = id;
		model->page[start + i] = first + i;
	}
	return npu_op_map(bo[id], va + start * PAGE, first * PAGE, pages * PAGE);
}

static void check_model(struct npu_ctx *ctx, const struct model *model, uint64_t va,
			uint64_t *seed, unsigned int step)
{
	uint64_t at[WINDOW], value[WINDOW];
	uint32_t page[WINDOW];
	unsigned int n = 0, start = npu_random(seed) % step;

	for (unsigned int i = start; i < WINDOW; i += step) {
		if (model->object[i] == EMPTY)
			continue;
		page[n] = i;
		at[n++] = va + i * PAGE;
	}
	npu_read_many(ctx, at, value, n);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t tag = npu_tag(model->object[page[i]], model->page[page[i]]);

		igt_assert_f(value[i] == tag, "page %u is %#llx instead of %#llx\n", page[i],
			     (unsigned long long)value[i], (unsigned long long)tag);
	}
	for (int tries = 0; tries < 20; tries++) {
		unsigned int i = npu_random(seed) % WINDOW;
		uint64_t none;

		if (model->object[i] != EMPTY)
			continue;
		npu_assert_fault(ctx, npu_read(ctx, va + i * PAGE, &none), va + i * PAGE,
				 NPU_NOT_MAPPED);
		break;
	}
}

static void test_random(unsigned int max_ops, unsigned int rounds)
{
	static struct model model;
	uint64_t seed = npu_seed(), va;
	struct npu_ctx ctx;
	uint32_t bo[OBJECTS];

	npu_ctx_open(&ctx);
	igt_require(npu_mem_free(ctx.fd) >= MIB(8));
	for (int i = 0; i < OBJECTS; i++) {
		igt_assert_eq(npu_bo_create(ctx.fd, objects[i].size, objects[i].placement, &bo[i]), 0);
		npu_bo_tag(&ctx, bo[i], objects[i].size, i);
	}
	memset(model.object, 0xff, sizeof(model.object));
	va = npu_va(&ctx, WINDOW * PAGE, MIB(2));
	for (unsigned int round = 0; round < rounds; round++) {
		struct drm_gmem_bind_op ops[32];
		unsigned int n = 1 + npu_random(&seed) % max_ops;

		for (unsigned int i = 0; i < n; i++)
			ops[i] = random_op(&seed, &model, va, bo);
		igt_assert_eq(npu_bind(ctx.fd, ctx.vm, ops, n), 0);
		check_model(&ctx, &model, va, &seed, round % 16 == 15 ? 1 : 13);
	}
	check_model(&ctx, &model, va, &seed, 1);
	npu_assert_unmapped(&ctx, va - PAGE);
	npu_assert_unmapped(&ctx, va + WINDOW * PAGE);
	npu_ctx_close(&ctx);
}

int igt_main()
{
	static const struct {
		const char *name;
		uint64_t size;
	} sizes[] = { { "4k", KIB(4) }, { "64k", KIB(64) }, { "2m", MIB(2) } };
	static bool unmap = true, replace = false;

	igt_fixture()
		close(npu_open());

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		igt_describe("An object that replaces another is seen by the next job");
		igt_subtest_f("replace-%s", sizes[i].name)
			test_stale(sizes[i].size, REPLACE);

		igt_describe("Unbind, then bind: the next job sees the new object");
		igt_subtest_f("unbind-bind-%s", sizes[i].name)
			test_stale(sizes[i].size, UNBIND_BIND);

		igt_describe("Unmap and map in one array: the next job sees the new object");
		igt_subtest_f("array-%s", sizes[i].name)
			test_stale(sizes[i].size, ARRAY);

		igt_describe("A page that was unmapped can't be reached any more");
		igt_subtest_f("gone-%s", sizes[i].name)
			test_gone(sizes[i].size);
	}

	igt_describe("A new VM never shows what a destroyed one had mapped");
	igt_subtest("new-vm")
		test_new_vm();

	igt_describe("A job that's running sees a page replaced");
	igt_subtest("replace-while-running")
		npu_retry(try_running, &replace);

	igt_describe("A job that's running can't reach a page that was unmapped");
	igt_subtest("unmap-while-running")
		npu_retry(try_running, &unmap);

	igt_describe("A job that's running doesn't write to memory that was freed");
	igt_subtest("freed-while-running")
		test_freed();

	igt_describe("Random single operations agree with a model");
	igt_subtest("random")
		test_random(1, npu_scale(80));

	igt_describe("Random arrays of operations agree with a model");
	igt_subtest("random-arrays")
		test_random(32, npu_scale(30));
}
