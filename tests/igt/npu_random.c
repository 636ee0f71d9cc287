// SPDX-License-Identifier: MIT
/*
 * Random changes of an address space, compared after each step with a model:
 * an array with one entry a page. Two views must agree with it: query_range,
 * and what the device itself finds by its page table.
 *
 * Each run says its seed first, and differs from all others. To repeat one:
 *
 *   NPU_TEST_SEED=0x... npu_random --run-subtest sync
 *
 * A subtest ends after OPS operations or, unless it repeats one, after so many
 * SECONDS: allocating is slow on a debug kernel. NPU_TEST_SCALE is a factor for
 * both.
 */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Random changes of an address space, compared with a model");

#define OPS		40000
#define SECONDS		10

/*
 * Three blocks of 2 MiB and two halves. The second block ends where both the
 * root's entries and those of the levels below change.
 */
#define WINDOW		2048u		/* pages */
#define HALF		256u		/* pages before the first border of 2 MiB */
#define BORDER		GIB(512)
#define BASE		(BORDER - (HALF + 1024) * PAGE)

#define MAX_OPS		64
#define MAX_BATCHES	8		/* in one step */
#define BIND_QUEUES	4
#define BALLAST		16
#define WRITES		16

/* Of the largest, page i + HALF can be at the window's page i, for all i: they fit 2 MiB pages. */
static const struct {
	uint32_t pages, placement;
} objects[] = {
	{ WINDOW + HALF, NPU_PINNED }, { 1041, NPU_PINNED }, { 512, NPU_PINNED },
	{ 35, NPU_PINNED }, { WINDOW + HALF, NPU_HOST }, { 515, NPU_HOST }, { 64, NPU_HOST },
};

#define OBJECTS		ARRAY_LEN(objects)

/* Values of the attributes besides 0. */
static const uint64_t advice[DRM_GMEM_ATTR_COUNT][2] = {
	[DRM_GMEM_ATTR_PREFERRED_LOCATION] = { DRM_GMEM_LOCATION_HOST, DRM_GMEM_LOCATION_DEVICE },
	[DRM_GMEM_ATTR_ACCESS] = { DRM_GMEM_ACCESS_NONE, DRM_GMEM_ACCESS_IN_PLACE },
	[DRM_GMEM_ATTR_READ_MOSTLY] = { 1, 1 },
	[DRM_GMEM_ATTR_ALWAYS_MAPPED] = { 1, 1 },
	[DRM_GMEM_ATTR_READ_ONLY] = { 1, 1 },
	[DRM_GMEM_ATTR_EXEC] = { 1, 1 },
	[DRM_GMEM_ATTR_ATOMICS] = { DRM_GMEM_ATOMICS_DEVICE, DRM_GMEM_ATOMICS_CPU },
	[DRM_GMEM_ATTR_GRANULARITY] = { 12, 30 },
	[DRM_GMEM_ATTR_MIGRATION_POLICY] = { DRM_GMEM_MIGRATE_SYSTEM, DRM_GMEM_MIGRATE_SYSTEM },
	[DRM_GMEM_ATTR_PINNED] = { 1, 1 },
	[DRM_GMEM_ATTR_EVICTION_PRIORITY] = { 1, 2 },
	[DRM_GMEM_ATTR_AUTO_RESET] = { 1, 1 },
	[DRM_GMEM_ATTR_FOLLOW] = { 1, 1 },
	[DRM_GMEM_ATTR_DRIVER] = { NPU_ATTR_CACHE_WRITE_THROUGH, NPU_ATTR_COMPRESSION(3) },
};

enum mode {
	SYNC,		/* one batch at a time */
	QUEUES,		/* several in different queues, often kept from being done */
	SCARCE,		/* one at a time, with hardly any device memory for page tables */
	EVICT,		/* one at a time, while objects leave the device all the time */
	EVICT_QUEUES,	/* several, of objects that do */
};

static bool has_queues(enum mode mode)
{
	return mode == QUEUES || mode == EVICT_QUEUES;
}

static bool evicts(enum mode mode)
{
	return mode == EVICT || mode == EVICT_QUEUES;
}

/* What is mapped at a page: object @what - OBJECT, or one of these. */
enum { NOTHING, SPARSE, OBJECT };

struct page {
	uint32_t what;
	uint32_t flags;
	uint64_t offset;
	uint64_t attrs;
};

struct batch {
	struct drm_gmem_bind_op ops[MAX_OPS];
	unsigned int count;
	unsigned int queue;		/* index */
	bool async;
	int result;
};

static struct run {
	struct npu_ctx ctx;
	uint64_t first_seed, seed;
	struct npu_bo bo[OBJECTS];	/* mapped as a whole outside the window, too */
	struct npu_bo code;
	struct npu_bo words;		/* two of each page, then those of check_writes() */
	uint32_t bind_queue[BIND_QUEUES];
	uint32_t syncobj[MAX_BATCHES];
	uint32_t hold_queue;
	uint32_t ballast[BALLAST];

	/* The model. */
	struct page page[WINDOW];
	uint64_t advice[WINDOW][DRM_GMEM_ATTR_COUNT];

	/* What random_range() chooses from: how many grains, and which pages. */
	unsigned int kinds;
	uint32_t focus, spread;

	/* What the last step did. */
	unsigned int step;
	struct batch batch[MAX_BATCHES];
	unsigned int batches;
	struct drm_gmem_advise advise;	/* of no size: none */
	struct drm_gmem_attr attrs[4];

	unsigned int ops, refused;	/* operations done, batches refused */
	unsigned int no_room, held;	/* refused with -ENOSPC, steps whose hold lasted */
	bool leaves;			/* objects may leave the device */
} run;

static uint64_t below(struct run *r, uint64_t n)
{
	return npu_random(&r->seed) % n;
}

static uint64_t va_of(uint32_t page)
{
	return BASE + page * PAGE;
}

static void print_step(const struct run *r, uint32_t page)
{
	static const char * const names[] = { "map", "unmap", "sparse", "nonsense" };
	const struct page *p = &r->page[page < WINDOW ? page : 0];

	for (unsigned int b = 0; b < r->batches; b++) {
		const struct batch *batch = &r->batch[b];

		igt_info("bind of %u in queue %u%s: %d\n", batch->count, batch->queue,
			 batch->async ? ", asynchronous" : "", batch->result);
		for (unsigned int i = 0; i < batch->count; i++) {
			const struct drm_gmem_bind_op *op = &batch->ops[i];
			unsigned int object = 0;

			while (object < OBJECTS && r->bo[object].handle != op->handle)
				object++;
			igt_info("  %2u: %s page %lld + %lld: object %d at page %lld, flags %#x, "
				 "attrs %#llx\n", i, names[op->op],
				 (long long)(op->va - BASE) / (int)PAGE,
				 (long long)(op->size / PAGE), op->handle ? (int)object : -1,
				 (long long)(op->bo_offset / PAGE), op->flags,
				 (unsigned long long)op->attrs);
		}
	}
	if (r->advise.size)
		igt_info("advise page %lld + %lld: flags %#x\n",
			 (long long)(r->advise.va - BASE) / (int)PAGE,
			 (long long)(r->advise.size / PAGE), r->advise.flags);
	for (unsigned int i = 0; r->advise.size && i < r->advise.num_attrs; i++)
		igt_info("  %u = %#llx\n", r->attrs[i].kind, (unsigned long long)r->attrs[i].value);
	igt_info("by the model page %u is %s %d at page %llu, flags %#x, attrs %#llx\n", page,
		 p->what == NOTHING ? "nothing" : p->what == SPARSE ? "sparse" : "object",
		 (int)p->what - OBJECT, (unsigned long long)(p->offset / PAGE), p->flags,
		 (unsigned long long)p->attrs);
}

/* Asserts something about a page of the window, telling what led to a failure; looks twice. */
#define expect(r, page_, cond, fmt, args...) \
	do { \
		if (!(cond)) { \
			print_step(r, page_); \
			igt_assert_f(cond, "NPU_TEST_SEED=%#llx, step %u, page %u, %#llx: " fmt, \
				     (unsigned long long)(r)->first_seed, (r)->step, (page_), \
				     (unsigned long long)va_of(page_), ## args); \
		} \
	} while (0)

/*
 * Often where larger pages begin and end, or nearly there. What is as large as 2 MiB is to be rare:
 * the small ones need something that they can cut up.
 */
static void random_range(struct run *r, uint32_t *start, uint32_t *pages)
{
	static const uint32_t grains[] = { 1, 1, 16, 512 };
	uint32_t grain = grains[below(r, r->kinds)];
	uint32_t places = npu_max(r->spread / grain, 1);

	*start = ((r->focus / grain + below(r, places)) * grain + HALF) % WINDOW;
	if (grain == 1)
		*pages = below(r, 3) ? 1 : 1 + below(r, 20);
	else if (grain == 16)
		*pages = grain * (1 + below(r, below(r, 8) ? 3 : 40));
	else
		*pages = grain * (1 + below(r, 3));
	if (grain > 1 && below(r, 4) == 0) {
		*start += below(r, 3) - (*start ? 1 : 0);
		*pages += below(r, 3) - 1;
	}
	*pages = npu_min(*pages, WINDOW - *start);
}

/*
 * Changes of one bind have something in common: one of three may have pages of 64 KiB, one of
 * twelve those of 2 MiB as well. Every other one is all over the window, so that its flush covers
 * most of it.
 */
static void random_kind(struct run *r)
{
	bool local = below(r, 2);

	r->kinds = below(r, 12) ? below(r, 3) ? 2 : 3 : 4;
	r->focus = local ? below(r, WINDOW) : 0;
	r->spread = local ? 64 : WINDOW;
}

static struct drm_gmem_bind_op random_map(struct run *r, uint32_t start, uint32_t pages)
{
	static const uint32_t grains[] = { 1, 16, 512 };
	const struct page *before = start ? &r->page[start - 1] : NULL;
	uint32_t object = below(r, OBJECTS), first, room;
	struct drm_gmem_bind_op op;
	uint32_t grain;

	/* What continues the mapping before it becomes one with it. */
	if (before && before->what >= OBJECT && below(r, 4) == 0) {
		object = before->what - OBJECT;
		first = before->offset / PAGE + 1;
		if (first < objects[object].pages) {
			pages = npu_min(pages, objects[object].pages - first);
			op = npu_op_map(r->bo[object].handle, va_of(start), first * PAGE,
					pages * PAGE);
			op.flags = before->flags;
			op.attrs = before->attrs;
			return op;
		}
	}

	/*
	 * Where the page would be if all of the object were mapped at once, or somewhere else,
	 * as far off a larger page's border as its address or not.
	 */
	pages = npu_min(pages, objects[object].pages);
	room = objects[object].pages - pages;
	grain = grains[below(r, ARRAY_LEN(grains))];
	first = start + HALF;
	if (first > room || below(r, 2))
		first = below(r, room + 1) / grain * grain + (start + HALF) % grain;
	first = npu_min(first, room);
	op = npu_op_map(r->bo[object].handle, va_of(start), first * PAGE, pages * PAGE);
	if (below(r, 4) == 0)
		op.flags |= DRM_GMEM_BIND_READONLY;
	if (below(r, 8) == 0)
		op.flags |= DRM_GMEM_BIND_EXEC;
	if (below(r, 4) == 0)
		op.attrs = below(r, 3) | NPU_ATTR_COMPRESSION(below(r, 4));
	return op;
}

static struct drm_gmem_bind_op random_op(struct run *r)
{
	struct drm_gmem_bind_op op;
	uint32_t start, pages;

	random_range(r, &start, &pages);
	switch (below(r, 8)) {
	case 0 ... 1:
		return npu_op_unmap(va_of(start), pages * PAGE);
	case 2:
		op = npu_op_sparse(va_of(start), pages * PAGE);
		op.flags = below(r, 3) ? 0 : DRM_GMEM_BIND_READONLY;
		return op;
	default:
		return random_map(r, start, pages);
	}
}

/* An operation that can't be done, and the error that it gives. */
static int bad_op(struct run *r, struct drm_gmem_bind_op *op)
{
	*op = npu_op_map(r->bo[0].handle, va_of(below(r, WINDOW)), 0, PAGE);
	switch (below(r, 7)) {
	case 0:
		op->handle = ~0u;
		return -ENOENT;
	case 1:
		op->bo_offset = objects[0].pages * PAGE;
		return -ERANGE;
	case 2:
		op->va = npu_device_info(r->ctx.fd).va_end;
		return -ERANGE;
	case 3:
		op->size = 0;
		return -EINVAL;
	case 4:
		op->op = DRM_GMEM_BIND_OP_MAP_MIRROR + 1;
		return -EINVAL;
	case 5:
		op->va += 1;
		return -EINVAL;
	default:
		op->attrs = 3;
		return -EINVAL;
	}
}

static void apply(struct run *r, const struct drm_gmem_bind_op *op)
{
	uint32_t start = (op->va - BASE) / PAGE, pages = op->size / PAGE;
	struct page page = { .flags = op->flags, .offset = op->bo_offset, .attrs = op->attrs };

	if (op->op == DRM_GMEM_BIND_OP_MAP_SPARSE)
		page.what = SPARSE;
	for (size_t i = 0; op->op == DRM_GMEM_BIND_OP_MAP_BO && i < OBJECTS; i++)
		if (r->bo[i].handle == op->handle)
			page.what = OBJECT + i;
	for (uint32_t i = start; i < start + pages; i++) {
		r->page[i] = page;
		if (page.what >= OBJECT)
			page.offset += PAGE;
	}
}

/* One bind; what syncs there are wait for earlier ones of this step, and for the hold. */
static void random_batch(struct run *r, enum mode mode, const uint32_t *hold)
{
	struct batch *batch = &r->batch[r->batches];
	struct drm_gmem_sync syncs[3];
	unsigned int num_syncs = 0;
	uint32_t queue;
	int expected = 0;

	random_kind(r);
	batch->count = 1 + below(r, r->kinds == 4 ? 8 : below(r, 3) ? MAX_OPS : 3);
	for (unsigned int i = 0; i < batch->count; i++)
		batch->ops[i] = random_op(r);
	batch->queue = mode == QUEUES ? below(r, BIND_QUEUES) : 0;
	batch->async = mode == QUEUES && (hold || below(r, 4));
	queue = r->bind_queue[batch->queue];
	if (mode == QUEUES) {
		if (hold && below(r, 2))
			syncs[num_syncs++] = npu_wait_for(*hold);
		if (r->batches && below(r, 3) == 0)
			syncs[num_syncs++] = npu_wait_for(r->syncobj[below(r, r->batches)]);
		syncs[num_syncs++] = npu_signal(r->syncobj[r->batches]);
	}

	/* What can't be done is the more telling the later it comes. */
	if (below(r, 12) == 0) {
		switch (below(r, 8)) {
		case 0:
			queue = ~0u;
			expected = -ENOENT;
			break;
		case 1:
			num_syncs = npu_max(num_syncs, 1);
			syncs[num_syncs - 1] = npu_signal(~0u);
			expected = -ENOENT;
			break;
		default:
			expected = bad_op(r, &batch->ops[below(r, 2) ? batch->count - 1 :
							 below(r, batch->count)]);
		}
	}

	batch->result = (batch->async ? npu_bind_async : npu_bind_once)(&r->ctx, queue, batch->ops,
									batch->count, syncs,
									num_syncs);
	r->batches++;
	if (batch->result) {
		r->refused++;
		if (mode == SCARCE && batch->result == -ENOSPC && !expected)
			r->no_room++;
		else
			expect(r, 0, batch->result == expected, "bind gave %d instead of %d\n",
			       batch->result, expected);
		return;
	}
	expect(r, 0, !expected, "bind didn't fail with %d\n", expected);
	for (unsigned int i = 0; i < batch->count; i++)
		apply(r, &batch->ops[i]);
	r->ops += batch->count;
}

static void random_advice(struct run *r)
{
	uint32_t start, pages;
	bool bad = below(r, 8) == 0;
	int ret;

	random_kind(r);
	random_range(r, &start, &pages);
	r->advise = (struct drm_gmem_advise) { .va = va_of(start), .size = pages * PAGE };
	r->advise.num_attrs = below(r, ARRAY_LEN(r->attrs) + 1);
	if (!r->advise.num_attrs || below(r, 4) == 0)
		r->advise.flags = DRM_GMEM_ADVISE_RESET;
	for (unsigned int i = 0; i < r->advise.num_attrs; i++) {
		uint32_t kind = below(r, DRM_GMEM_ATTR_COUNT);

		r->attrs[i] = (struct drm_gmem_attr) {
			.kind = kind, .value = below(r, 3) ? advice[kind][below(r, 2)] : 0,
		};
	}
	bad &= r->advise.num_attrs > 0;
	if (bad)
		r->attrs[r->advise.num_attrs - 1].kind = DRM_GMEM_ATTR_COUNT;
	ret = npu_advise(r->ctx.fd, r->ctx.vm, r->advise.va, r->advise.size, r->advise.flags,
			 r->attrs, r->advise.num_attrs);
	expect(r, start, ret == (bad ? -EINVAL : 0), "advise: %d\n", ret);
	for (uint32_t i = start; !bad && i < start + pages; i++) {
		if (r->advise.flags)
			memset(r->advice[i], 0, sizeof(r->advice[i]));
		for (unsigned int j = 0; j < r->advise.num_attrs; j++)
			r->advice[i][r->attrs[j].kind] = r->attrs[j].value;
	}
}

/* The page behind the last of which the same can be said as of one. */
static uint32_t same_until(const struct run *r, uint32_t page)
{
	const struct page *p = &r->page[page];
	uint64_t offset = p->offset;
	uint32_t end;

	for (end = page + 1; end < WINDOW; end++) {
		const struct page *next = &r->page[end];

		offset += p->what >= OBJECT ? PAGE : 0;
		if (next->what != p->what || next->flags != p->flags || next->attrs != p->attrs ||
		    next->offset != offset ||
		    memcmp(r->advice[end], r->advice[page], sizeof(r->advice[page])))
			break;
	}
	return end;
}

static void check_range(struct run *r, uint32_t page, uint32_t end,
			const struct drm_gmem_range *range)
{
	const struct page *p = &r->page[page];
	uint32_t mapping = DRM_GMEM_MAPPING_NONE, residency = DRM_GMEM_RESIDENT_NOWHERE;

	if (p->what == SPARSE) {
		mapping = DRM_GMEM_MAPPING_SPARSE;
	} else if (p->what >= OBJECT) {
		mapping = DRM_GMEM_MAPPING_BO;
		residency = objects[p->what - OBJECT].placement == NPU_HOST ?
			    DRM_GMEM_RESIDENT_HOST : DRM_GMEM_RESIDENT_DEVICE;
	}
	expect(r, page, range->va == va_of(page), "its entry begins at %#llx\n",
	       (unsigned long long)range->va);
	expect(r, page, range->size == (end - page) * PAGE, "%llu pages are one entry, not %u\n",
	       (unsigned long long)(range->size / PAGE), end - page);
	expect(r, page, range->mapping == mapping, "mapping is %u, not %u\n", range->mapping,
	       mapping);
	expect(r, page, range->flags == p->flags, "flags are %#x, not %#x\n", range->flags,
	       p->flags);
	if (r->leaves && range->residency == DRM_GMEM_RESIDENT_HOST)
		residency = DRM_GMEM_RESIDENT_HOST;
	expect(r, page, range->residency == residency, "residency is %u, not %u\n",
	       range->residency, residency);
	expect(r, page, range->bo_offset == p->offset, "offset is %#llx, not %#llx\n",
	       (unsigned long long)range->bo_offset, (unsigned long long)p->offset);
	expect(r, page, range->attrs == p->attrs, "attrs are %#llx, not %#llx\n",
	       (unsigned long long)range->attrs, (unsigned long long)p->attrs);
	for (int i = 0; i < 16; i++) {
		uint64_t value = i < DRM_GMEM_ATTR_COUNT ? r->advice[page][i] : 0;

		expect(r, page, range->advice[i] == value, "advice %d is %#llx, not %#llx\n", i,
		       (unsigned long long)range->advice[i], (unsigned long long)value);
	}
	expect(r, page, range->pad == 0, "pad is %#x\n", range->pad);
}

/* What query_range says, in pieces of some size. */
static void check_ranges(struct run *r)
{
	static struct drm_gmem_range ranges[WINDOW];
	static const uint32_t rooms[] = { 100, 333, 500, WINDOW };
	uint32_t room = below(r, 24) ? rooms[below(r, ARRAY_LEN(rooms))] : 1 + below(r, 9);
	uint64_t va = BASE, left = WINDOW * PAGE;
	uint32_t page = 0, end;

	while (page < WINDOW) {
		uint32_t count = room;
		int ret = npu_query_range(r->ctx.fd, r->ctx.vm, &va, &left, ranges, &count);

		expect(r, page, ret == 0 && count >= 1 && count <= room,
		       "query_range: %d, %u of %u\n", ret, count, room);
		for (uint32_t i = 0; i < count && page < WINDOW; i++, page = end) {
			end = same_until(r, page);
			check_range(r, page, end, &ranges[i]);
		}
		expect(r, page, va == va_of(page) && left == (WINDOW - page) * PAGE,
		       "query_range got to %#llx, %#llx left\n", (unsigned long long)va,
		       (unsigned long long)left);
	}
}

static struct npu_cb begin(struct run *r)
{
	return (struct npu_cb) {
		.start = r->code.cpu, .p = r->code.cpu, .va = r->code.va,
		.end = (uint64_t *)r->code.cpu + r->code.size / sizeof(uint64_t),
	};
}

/* Runs commands that must not fault. */
static void must_run(struct run *r, const struct npu_cb *cb, const char *what)
{
	int result = npu_run(&r->ctx, cb);
	uint64_t at = r->ctx.status.detail;
	uint32_t page = result == -EFAULT && at >= BASE && at < va_of(WINDOW) ?
			(at - BASE) / PAGE : 0;

	expect(r, page, result == 0, "%s ended with %d, reason %u at %#llx\n", what, result,
	       r->ctx.status.reason, (unsigned long long)at);
}

static bool is_mapped(const struct run *r, uint32_t page)
{
	return page < WINDOW && r->page[page].what != NOTHING;
}

static uint64_t tag_at(const struct page *page)
{
	return page->what >= OBJECT ? npu_tag(page->what - OBJECT, page->offset / PAGE) : 0;
}

/*
 * The first and last word of every page that is mapped, as the device finds them. It begins
 * anywhere: what it reads last is what it still has in its TLB at the next step.
 */
static void check_memory(struct run *r)
{
	const uint64_t *words = r->words.cpu;
	uint32_t first = below(r, WINDOW);
	struct npu_cb cb = begin(r);

	memset(r->words.cpu, 0xff, WINDOW * 16);
	for (uint32_t n = 0; n < WINDOW; n++) {
		uint32_t page = (first + n) % WINDOW;
		uint64_t to = r->words.va + page * 16;
		bool joins;

		if (!is_mapped(r, page))
			continue;
		if (!n || !page || !is_mapped(r, page - 1))
			npu_cmd_copy(&cb, to, va_of(page), 8);
		/* Its last word, together with the first of the next page. */
		joins = n + 1 < WINDOW && is_mapped(r, page + 1);
		npu_cmd_copy(&cb, to + 8, va_of(page + 1) - 8, joins ? 16 : 8);
	}
	if (cb.p == cb.start)
		return;
	must_run(r, &cb, "reading");
	for (uint32_t page = 0; page < WINDOW; page++) {
		uint64_t tag = is_mapped(r, page) ? tag_at(&r->page[page]) : ~0ull;

		for (int i = 0; i < 2; i++)
			expect(r, page, words[2 * page + i] == tag,
			       "the device finds %#llx in its %s word, not %#llx\n",
			       (unsigned long long)words[2 * page + i], i ? "last" : "first",
			       (unsigned long long)tag);
	}
}

/* What the device writes through the window is in the objects; in sparse memory it's gone. */
static void check_writes(struct run *r)
{
	const uint64_t *words = (uint64_t *)r->words.cpu + 2 * WINDOW;
	uint32_t page[WRITES], n = 0;
	struct npu_cb cb = begin(r);

	for (int i = 0; i < 2 * WRITES && n < WRITES; i++) {
		uint32_t at = below(r, WINDOW);
		const struct page *p = &r->page[at];

		if (p->what == NOTHING || p->flags & DRM_GMEM_BIND_READONLY)
			continue;
		/* Over the tag: check_memory() would see it. */
		if (p->what == SPARSE) {
			npu_cmd_write(&cb, va_of(at), ~0ull);
			continue;
		}
		/* The second word, with the same value if it's the same page of the object. */
		npu_cmd_write(&cb, va_of(at) + 8, tag_at(p) ^ (uint64_t)r->step << 40);
		page[n++] = at;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct page *p = &r->page[page[i]];

		npu_cmd_copy(&cb, r->words.va + WINDOW * 16 + i * 8,
			     r->bo[p->what - OBJECT].va + p->offset + 8, 8);
	}
	if (cb.p == cb.start)
		return;
	must_run(r, &cb, "writing");
	for (uint32_t i = 0; i < n; i++) {
		const struct page *p = &r->page[page[i]];
		uint64_t value = tag_at(p) ^ (uint64_t)r->step << 40, seen = words[i];
		const char *cpu = r->bo[p->what - OBJECT].cpu;

		expect(r, page[i], seen == value, "the object has %#llx, not %#llx\n",
		       (unsigned long long)seen, (unsigned long long)value);
		if (cpu)
			seen = ((const uint64_t *)(cpu + p->offset))[1];
		expect(r, page[i], seen == value, "the CPU finds %#llx, not %#llx\n",
		       (unsigned long long)seen, (unsigned long long)value);
	}
}

/* Something that the device may not do with a page. */
static void check_fault(struct run *r)
{
	uint32_t at = below(r, WINDOW), reason;
	struct npu_cb cb = begin(r);
	const char *what;
	struct page *p;
	int result;

	/* Most often at the edge of what was changed last. */
	if (r->batches && below(r, 4)) {
		const struct batch *batch = &r->batch[below(r, r->batches)];
		const struct drm_gmem_bind_op *op = &batch->ops[below(r, batch->count)];

		at = (op->va - BASE + below(r, 2) * op->size) / PAGE - below(r, 2);
		at = at < WINDOW ? at : 0;
	}
	p = &r->page[at];
	if (p->what == NOTHING && below(r, 2)) {
		what = "reading what is not mapped";
		reason = NPU_NOT_MAPPED;
		npu_cmd_copy(&cb, r->words.va, va_of(at) + below(r, PAGE), 1);
	} else if (p->what == NOTHING || (p->flags & DRM_GMEM_BIND_READONLY && below(r, 2))) {
		what = "writing where that's not allowed";
		reason = p->what == NOTHING ? NPU_NOT_MAPPED : NPU_NOT_WRITABLE;
		npu_cmd_write(&cb, va_of(at), ~0ull);
	} else {
		/* Tags are no commands, but they get fetched. */
		what = "running a tag";
		reason = p->flags & DRM_GMEM_BIND_EXEC ? 0 : NPU_NOT_EXECUTABLE;
		cb.va = va_of(at);
		cb.p++;
	}
	result = npu_run(&r->ctx, &cb);
	if (!reason) {
		expect(r, at, result == -EINVAL, "%s: %d\n", what, result);
		return;
	}
	expect(r, at, result == -EFAULT, "%s: %d instead of a fault\n", what, result);
	expect(r, at, r->ctx.status.reason == reason, "%s: reason is %u, not %u\n", what,
	       r->ctx.status.reason, reason);
	expect(r, at, (r->ctx.status.detail & ~(PAGE - 1)) == va_of(at), "%s: fault at %#llx\n",
	       what, (unsigned long long)r->ctx.status.detail);
}

/* Lets the memory that is left for page tables grow or shrink by a page. */
static void shift_ballast(struct run *r)
{
	uint32_t *bo = &r->ballast[below(r, BALLAST)];
	int ret;

	if (*bo) {
		igt_assert_eq(npu_bo_close(r->ctx.fd, *bo), 0);
		*bo = 0;
		return;
	}
	ret = npu_bo_create(r->ctx.fd, PAGE, NPU_PINNED, bo);
	igt_assert(ret == 0 || ret == -ENOSPC);
}

/* Takes all device memory but what the ballast has. */
static void fill_memory(struct run *r)
{
	uint32_t bo;

	for (int i = 0; i < BALLAST; i++)
		igt_assert_eq(npu_bo_create(r->ctx.fd, PAGE, NPU_PINNED, &r->ballast[i]), 0);
	for (uint64_t size = MIB(32); size >= PAGE; size /= 2)
		while (!npu_bo_create(r->ctx.fd, size, NPU_PINNED, &bo))
			;
}

static void random_step(struct run *r, enum mode mode)
{
	bool hold = has_queues(mode) && below(r, 2);
	struct npu_blocker blocker;
	unsigned int batches = has_queues(mode) ? 1 + below(r, MAX_BATCHES) : 1;

	r->step++;
	r->batches = 0;
	r->advise.size = 0;
	if (mode == SCARCE)
		shift_ballast(r);
	if (hold)
		npu_block_submit(&r->ctx, r->hold_queue, &blocker);
	for (unsigned int i = 0; i < batches; i++)
		random_batch(r, mode, hold ? &blocker.syncobj : NULL);
	if (below(r, 6) == 0)
		random_advice(r);
	check_ranges(r);
	/* If it timed out before, nothing was held: that's no error, now and then. */
	if (hold)
		r->held += !npu_unblock(&r->ctx, &blocker);
	for (unsigned int i = 0; mode == QUEUES && i < r->batches; i++) {
		int result = npu_fence_result(r->ctx.fd, r->syncobj[i]);

		expect(r, 0, result == 0, "the fence of bind %u has %d\n", i, result);
	}

	if (below(r, 4) == 0)
		check_writes(r);
	if (below(r, 4) == 0)
		check_fault(r);
	check_memory(r);
}

/* Takes all memory, again and again. */
static void drive_out(void)
{
	int fd = npu_open();
	uint64_t size = npu_device_info(fd).mem_total / 8;

	for (;;) {
		uint32_t bo[8];

		for (int i = 0; i < 8; i++)
			if (npu_bo_create(fd, size, NPU_DEVICE, &bo[i]))
				bo[i] = 0;
		for (int i = 0; i < 8; i++)
			if (bo[i])
				npu_bo_close(fd, bo[i]);
		usleep(20000);
	}
}

static void test_random(enum mode mode)
{
	const unsigned int ops = npu_scale(OPS);
	struct run *r = &run;
	uint64_t mem_free, restored = npu_evictor_count("restored=");
	time_t end;

	*r = (struct run) { .first_seed = npu_seed() };
	r->seed = r->first_seed;
	npu_ctx_open(&r->ctx);
	igt_require(npu_device_info(r->ctx.fd).mem_total >= MIB(32));
	/* What others had may still be on its way back. */
	npu_assert_mem_at_least(r->ctx.fd, MIB(24));
	igt_require(npu_device_info(r->ctx.fd).va_end >= va_of(WINDOW));
	for (size_t i = 0; i < OBJECTS; i++) {
		uint32_t placement = objects[i].placement;

		if (evicts(mode))
			placement &= ~DRM_GMEM_BO_PINNED;
		r->bo[i] = npu_bo(&r->ctx, objects[i].pages * PAGE, placement, 0);
		npu_bo_tag(&r->ctx, r->bo[i].handle, r->bo[i].size, i);
	}
	r->code = npu_bo(&r->ctx, KIB(256), NPU_HOST, DRM_GMEM_BIND_READONLY | DRM_GMEM_BIND_EXEC);
	r->words = npu_bo(&r->ctx, WINDOW * 16 + PAGE, NPU_HOST, 0);
	if (has_queues(mode)) {
		igt_assert_eq(npu_queue_create(r->ctx.fd, &r->hold_queue), 0);
		for (int i = 1; i < BIND_QUEUES; i++)
			igt_assert_eq(npu_bind_queue_create(r->ctx.fd, r->ctx.vm,
							    &r->bind_queue[i]), 0);
		for (int i = 0; i < MAX_BATCHES; i++) {
			/* That of a refused batch can be waited for like any. */
			r->syncobj[i] = npu_syncobj(r->ctx.fd, DRM_SYNCOBJ_CREATE_SIGNALED);
		}
	}
	if (mode == SCARCE)
		fill_memory(r);
	r->leaves = evicts(mode);
	if (evicts(mode)) {
		/* Which does not care that our objects are in use. */
		igt_assert_eq(npu_evictor_set_policy("uvm"), 0);
		igt_fork(child, 1)
			drive_out();
	}
	mem_free = npu_mem_free(r->ctx.fd);
	end = time(NULL) + npu_scale(SECONDS);

	while (r->ops < ops && (time(NULL) <= end || getenv("NPU_TEST_SEED")))
		random_step(r, mode);
	igt_info("%u steps, %u operations, %u binds refused, %u steps held back\n", r->step,
		 r->ops, r->refused, r->held);
	if (!getenv("NPU_TEST_SEED")) {
		igt_assert(mode != SCARCE || r->no_room);
		igt_assert(!has_queues(mode) || r->held);
	}
	if (evicts(mode)) {
		igt_kill_children(SIGKILL);
		igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
		igt_assert_eq(npu_evictor_set_policy("lirs"), 0);
		restored = npu_evictor_count("restored=") - restored;
		igt_info("objects came back %llu times\n", (unsigned long long)restored);
		igt_assert(getenv("NPU_TEST_SEED") || restored);
	}

	/* All that was taken for page tables comes back. */
	igt_assert_eq(npu_unmap(r->ctx.fd, r->ctx.vm, BASE, WINDOW * PAGE), 0);
	memset(r->page, 0, sizeof(r->page));
	check_ranges(r);
	if (mode == SYNC || mode == QUEUES)
		npu_assert_mem_free(r->ctx.fd, mem_free);
	/* What is mapped keeps the file, and all that is in it. */
	for (size_t i = 0; i < OBJECTS; i++)
		if (r->bo[i].cpu)
			igt_assert_eq(munmap(r->bo[i].cpu, r->bo[i].size), 0);
	igt_assert_eq(munmap(r->code.cpu, r->code.size), 0);
	igt_assert_eq(munmap(r->words.cpu, r->words.size), 0);
	npu_ctx_close(&r->ctx);
}

static bool can_fault(void)
{
	int fd = npu_open();
	bool can = npu_can_fault(fd);

	close(fd);
	return can;
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Arrays of operations, one at a time");
	igt_subtest("sync")
		test_random(SYNC);

	igt_describe("Arrays in several bind queues at once, held back by a job or not");
	igt_subtest("queues")
		test_random(QUEUES);

	igt_describe("Arrays for which there is often no memory: they are done or not done");
	igt_subtest("scarce")
		test_random(SCARCE);

	igt_describe("Arrays, one at a time, of objects that leave the device and come back");
	igt_subtest("evict") {
		igt_require(can_fault());
		test_random(EVICT);
	}

	igt_describe("The same in several queues");
	igt_subtest("evict-queues") {
		igt_require(can_fault());
		test_random(EVICT_QUEUES);
	}
}
