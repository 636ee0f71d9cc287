// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The bind benchmark: plays traces of map, unmap and lookup through gmem_vm's
 * mapping tree (bench_gmem.rs) and through drm_gpuvm (bench_gpuvm.c), and logs
 * what each took:
 *
 *	bind SIDE TRACE N OPS INSTRUCTIONS MAPPINGS BYTES DIGEST
 *
 * N is the number of mappings that the trace is about, OPS how many operations
 * (of pair and churn: pairs of a map and an unmap) were timed; MAPPINGS and BYTES
 * are those before or after them, whichever were more. Besides, for a side whose
 * driver has to flush the TLB for each operation that took something away:
 *
 *	bind-replaced SIDE TRACE OPS HOW_MANY_DID
 *
 * Neither side writes a page table: that is the driver's, and the same under
 * both. A trace is recorded before anything is timed and played from memory.
 *
 * It runs in a guest with -icount shift=0, where the TSC counts instructions
 * (calibrate() refuses any other clock). What the loop that plays a trace takes
 * itself is measured with a side that does nothing, and subtracted.
 */

#define pr_fmt(fmt) fmt

#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <asm/tsc.h>
#include "bench.h"

#define MAX_OPS		(1200 * 1000)
/* Pages of the large mappings, 2 MiB. */
#define LARGE		512ULL

enum bind_kind { MAP, UNMAP, LOOKUP };

struct bind_op {
	enum bind_kind kind;
	u32 bo;
	u64 page;
	u64 pages;
	u64 bo_page;
};

struct trace {
	struct bind_op *ops;
	u32 len;
	/* Those before it bring the VM into the state that the trace is about. */
	u32 timed;
	/* How many count as one. */
	u32 unit;
	/* How many mappings it is about. */
	u64 n;
	u64 random;
};

u64 bind_digest(u64 page, u64 pages, u32 bo, u64 bo_page)
{
	u64 i, x, sum = 0;

	for (i = 0; i < pages; i++) {
		x = (page + i) * 0x9e3779b97f4a7c15ULL + bind_value(bo, bo_page + i);
		x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9ULL;
		sum += x ^ (x >> 29);
	}
	return sum;
}

/* xorshift64: numbers below n. */
static u64 random_below(struct trace *t, u64 n)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return t->random % n;
}

/* A permutation of the reservation's pages that looks random. */
static u64 place(u64 i)
{
	u64 mask = BIND_PAGES - 1;

	i &= mask;
	i = ((i ^ (i >> 13)) * 0x9e3779b1) & mask;
	i = ((i ^ (i >> 11)) * 0x85ebca6b) & mask;
	return i ^ (i >> 12);
}

static void record(struct trace *t, enum bind_kind kind, u64 page, u64 pages, u32 bo, u64 bo_page)
{
	if (t->len++ >= MAX_OPS)
		return;
	t->ops[t->len - 1] = (struct bind_op) {
		.kind = kind,
		.bo = bo,
		.page = BIND_FIRST + page,
		.pages = pages,
		.bo_page = bo_page,
	};
}

static void unmap(struct trace *t, u64 page)
{
	record(t, UNMAP, page, 1, 0, 0);
}

static void lookup(struct trace *t, u64 page)
{
	record(t, LOOKUP, page, 1, 0, 0);
}

/* A page whose neighbours never continue it: they are every other page of a BO. */
static void map_page(struct trace *t, u64 page)
{
	record(t, MAP, page, 1, 1 + random_below(t, BIND_BOS - 1), 2 * page);
}

/* Object 0 is for large mappings only: no page punched into one continues it. */
static void map_large(struct trace *t, u64 page)
{
	record(t, MAP, page, LARGE, 0, 2 * page);
}

static void sequential(struct trace *t, bool contiguous, bool unmapping)
{
	u64 i;

	for (i = 0; i < t->n; i++) {
		if (contiguous)
			record(t, MAP, i, 1, 1, i);
		else
			map_page(t, i);
	}
	if (!unmapping)
		return;
	t->timed = t->len;
	for (i = 0; i < t->n; i++)
		unmap(t, i);
}

static void sequential_map(struct trace *t)
{
	sequential(t, false, false);
}

static void sequential_unmap(struct trace *t)
{
	sequential(t, false, true);
}

static void contiguous_map(struct trace *t)
{
	sequential(t, true, false);
}

static void contiguous_unmap(struct trace *t)
{
	sequential(t, true, true);
}

/* The whole reservation is mapped; single pages of it are mapped to something else. */
static void random_remap(struct trace *t)
{
	u64 i, page;

	for (i = 0; i < t->n; i++)
		map_large(t, i * LARGE);
	t->timed = t->len;
	for (i = 0; i < 50000; i++) {
		page = random_below(t, BIND_PAGES);
		if (random_below(t, 4))
			map_page(t, page);
		else
			unmap(t, page);
	}
}

/* A large mapping is cut into pieces and then replaced as a whole, over and over. */
static void split_heavy(struct trace *t)
{
	u64 i, j, page, large;

	for (i = 0; i < t->n; i++)
		map_large(t, i * LARGE);
	t->timed = t->len;
	for (i = 0; i < 2000; i++) {
		large = random_below(t, t->n) * LARGE;
		map_large(t, large);
		for (j = 0; j < 16; j++) {
			page = large + 1 + random_below(t, LARGE - 2);
			if (j % 2)
				unmap(t, page);
			else
				map_page(t, page);
		}
	}
}

static void live(struct trace *t)
{
	u64 i;

	for (i = 0; i < t->n; i++)
		map_page(t, place(i));
	t->timed = t->len;
}

/* One more mapping at a random place, gone at once. */
static void pair(struct trace *t)
{
	u64 i, page;

	live(t);
	t->unit = 2;
	for (i = 0; i < 20000; i++) {
		page = place(t->n + random_below(t, BIND_PAGES - t->n));
		map_page(t, page);
		unmap(t, page);
	}
}

/* One more mapping at a random place, and the oldest goes. */
static void churn(struct trace *t)
{
	u64 i;

	live(t);
	t->unit = 2;
	for (i = 0; i < 20000; i++) {
		map_page(t, place(t->n + i));
		unmap(t, place(i));
	}
}

static void lookup_hit(struct trace *t)
{
	u64 i;

	live(t);
	for (i = 0; i < 20000; i++)
		lookup(t, place(random_below(t, t->n)));
}

static void lookup_miss(struct trace *t)
{
	u64 i;

	live(t);
	for (i = 0; i < 20000; i++)
		lookup(t, place(t->n + random_below(t, BIND_PAGES - t->n)));
}

static const struct {
	const char *name;
	void (*record)(struct trace *t);
	/* How many mappings, if one number is enough. */
	u64 n;
} traces[] = {
	{ "sequential-map", sequential_map, 20000 },
	{ "sequential-unmap", sequential_unmap, 20000 },
	{ "sequential-contiguous-map", contiguous_map, 20000 },
	{ "sequential-contiguous-unmap", contiguous_unmap, 20000 },
	{ "random-remap", random_remap, BIND_PAGES / LARGE },
	{ "split-heavy", split_heavy, 64 },
	{ "pair", pair },
	{ "churn", churn },
	{ "lookup", lookup_hit },
	{ "lookup-miss", lookup_miss },
};

static const u64 numbers[] = { 1000, 10 * 1000, 100 * 1000, 1000 * 1000 };

/* The side that does nothing. */
static void *nothing_create(void)
{
	return ZERO_SIZE_PTR;
}

static void nothing_destroy(void *vm)
{
}

static int nothing_map(void *vm, u64 page, u64 pages, u32 bo, u64 bo_page)
{
	return 0;
}

static int nothing_unmap(void *vm, u64 page, u64 pages)
{
	return 0;
}

static u64 nothing_lookup(void *vm, u64 page)
{
	return 0;
}

static u64 nothing_count(void *vm)
{
	return 0;
}

static const struct bind_side bind_nothing = {
	.name = "nothing",
	.create = nothing_create,
	.destroy = nothing_destroy,
	.map = nothing_map,
	.unmap = nothing_unmap,
	.lookup = nothing_lookup,
	.digest = nothing_count,
	.len = nothing_count,
	.bytes = nothing_count,
};

static const struct bind_side bind_gmem = {
	.name = "gmem_vm",
	.create = gmem_create,
	.destroy = gmem_destroy,
	.map = gmem_map,
	.unmap = gmem_unmap,
	.lookup = gmem_lookup,
	.digest = gmem_digest,
	.len = gmem_len,
	.bytes = gmem_bytes,
};

/* Plays a part of a trace; gives the first error. Adds to the clock what it took. */
static noinline int play(const struct bind_side *side, void *vm, const struct trace *t,
			 u32 from, u32 to, u64 *sum, u64 *clock)
{
	const struct bind_op *op, *end = &t->ops[to];
	u64 start = rdtsc_ordered(), seen = 0;
	int ret = 0;

	for (op = &t->ops[from]; op < end && !ret; op++) {
		switch (op->kind) {
		case MAP:
			ret = side->map(vm, op->page, op->pages, op->bo, op->bo_page);
			break;
		case UNMAP:
			ret = side->unmap(vm, op->page, op->pages);
			break;
		case LOOKUP:
			seen += side->lookup(vm, op->page);
			break;
		}
	}
	*clock += rdtsc_ordered() - start;
	*sum += seen;
	return ret;
}

/* Plays a trace in a new VM; logs what it took if the loop was measured before. */
static int measure(const struct bind_side *side, const char *name, const struct trace *t, u64 *loop)
{
	u64 len, bytes, took = 0, untimed = 0, sum = 0, replaced = 0;
	void *vm;
	int ret;

	vm = side->create();
	if (!vm)
		return -ENOMEM;
	ret = play(side, vm, t, 0, t->timed, &sum, &untimed);
	if (ret)
		goto out;
	len = side->len(vm);
	bytes = side->bytes(vm);
	if (side->replaced)
		replaced = side->replaced(vm);
	/* Only interrupts shall come between. */
	sched_set_fifo(current);
	ret = play(side, vm, t, t->timed, t->len, &sum, &took);
	sched_set_normal(current, 0);
	if (ret)
		goto out;
	if (side->len(vm) > len) {
		len = side->len(vm);
		bytes = side->bytes(vm);
	}
	sum += side->digest(vm);
	if (*loop)
		pr_info("bind %s %s %llu %u %llu %llu %llu %016llx\n", side->name, name, t->n,
			(t->len - t->timed) / t->unit, took - *loop, len, bytes, sum);
	else
		*loop = took;
	if (side->replaced)
		pr_info("bind-replaced %s %s %u %llu\n", side->name, name, t->len - t->timed,
			side->replaced(vm) - replaced);
out:
	side->destroy(vm);
	cond_resched();
	return ret;
}

static int run_trace(struct trace *t, const char *name, void (*record)(struct trace *t), u64 n)
{
	u64 loop = 0;
	int ret;

	*t = (struct trace) { .ops = t->ops, .n = n, .unit = 1, .random = 0x2545f4914f6cdd1dULL };
	record(t);
	if (t->len > MAX_OPS)
		return -E2BIG;
	ret = measure(&bind_nothing, name, t, &loop);
	if (!ret)
		ret = measure(&bind_gmem, name, t, &loop);
	if (!ret)
		ret = measure(&bind_gpuvm, name, t, &loop);
	return ret;
}

/* Whether one instruction takes one tick. */
static int calibrate(void)
{
	u64 n = 1000 * 1000, start, took;
	unsigned long flags;

	local_irq_save(flags);
	start = rdtsc_ordered();
	asm volatile("1: dec %0\n\tjnz 1b" : "+r" (n) : : "cc");
	took = rdtsc_ordered() - start;
	local_irq_restore(flags);
	pr_info("bind calibration: %llu ticks for 2000000 instructions\n", took);
	return took >= 2000000 && took < 2001000 ? 0 : -ENODEV;
}

static int __init bench_bind_init(void)
{
	struct trace t = {};
	unsigned int i, j;
	int ret;

	ret = calibrate();
	if (ret)
		return ret;
	t.ops = vmalloc_array(MAX_OPS, sizeof(*t.ops));
	if (!t.ops)
		return -ENOMEM;
	ret = bind_gpuvm_init();
	if (ret)
		goto free;

	for (i = 0; i < ARRAY_SIZE(traces) && !ret; i++) {
		if (traces[i].n)
			ret = run_trace(&t, traces[i].name, traces[i].record, traces[i].n);
		for (j = 0; j < ARRAY_SIZE(numbers) && !traces[i].n && !ret; j++)
			ret = run_trace(&t, traces[i].name, traces[i].record, numbers[j]);
	}
	pr_info("bind ended: %d\n", ret);

	bind_gpuvm_exit();
free:
	vfree(t.ops);
	return ret;
}
module_init(bench_bind_init);

static void __exit bench_bind_exit(void)
{
}
module_exit(bench_bind_exit);

MODULE_DESCRIPTION("Benchmark of gmem_vm's mappings against drm_gpuvm");
MODULE_LICENSE("Dual MIT/GPL");
