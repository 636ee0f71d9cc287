// SPDX-License-Identifier: MIT
/* Bind queues: independence, order where ranges overlap, limits, and their end. */

#include <stdlib.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Bind queues: order, independence, limits");

enum { MAX_QUEUES = 64, MAX_FILE_QUEUES = 4096 };

/* One client with some tagged objects and a range to bind them in. */
struct scene {
	struct npu_ctx ctx;
	uint32_t bo[4];		/* 64 KiB each, tagged with its index */
	uint64_t va;		/* 32 MiB */
	struct npu_hold hold;
	uint32_t wait;		/* signalled when the hold is released */
};

static void scene_open(struct scene *s)
{
	npu_ctx_open(&s->ctx);
	for (int i = 0; i < 4; i++) {
		igt_assert_eq(npu_bo_create(s->ctx.fd, KIB(64), i & 1 ? NPU_HOST : NPU_DEVICE,
					    &s->bo[i]), 0);
		npu_bo_tag(&s->ctx, s->bo[i], KIB(64), i);
	}
	s->va = npu_va(&s->ctx, MIB(32), MIB(2));
}

static void scene_hold(struct scene *s)
{
	npu_hold(&s->hold);
	s->wait = npu_hold_syncobj(&s->hold, s->ctx.fd);
}

static uint32_t queue_create(struct scene *s)
{
	uint32_t queue;

	igt_assert_eq(npu_bind_queue_create(s->ctx.fd, s->ctx.vm, &queue), 0);
	return queue;
}

/* Queues operations that wait, if they are to; returns what will be signalled. */
static uint32_t queue_ops(struct scene *s, uint32_t queue, const struct drm_gmem_bind_op *ops,
			  uint32_t count, bool held)
{
	struct drm_gmem_sync syncs[2];

	syncs[0] = npu_signal(npu_syncobj(s->ctx.fd, 0));
	syncs[1] = npu_wait_for(s->wait);
	igt_assert_eq(npu_bind_async(&s->ctx, queue, ops, count, syncs, held ? 2 : 1), 0);
	return syncs[0].handle;
}

/* The same for one object, mapped as a whole. */
static uint32_t queue_map(struct scene *s, uint32_t queue, int bo, uint64_t va, bool held)
{
	struct drm_gmem_bind_op op = npu_op_map(s->bo[bo], va, 0, KIB(64));

	return queue_ops(s, queue, &op, 1, held);
}

static void assert_done(struct scene *s, uint32_t done)
{
	igt_assert_eq(npu_fence_result(s->ctx.fd, done), 0);
}

static void assert_not_done(struct scene *s, uint32_t done)
{
	igt_assert_eq(npu_syncobj_poll(s->ctx.fd, done), -ETIME);
	npu_assert_held(&s->hold);
}

static void test_create(void)
{
	uint32_t queue[8], other;
	struct scene s;
	uint32_t vm;

	scene_open(&s);
	igt_assert_eq(npu_vm_create(s.ctx.fd, &vm), 0);
	for (int i = 0; i < 8; i++) {
		igt_assert_eq(npu_bind_queue_create(s.ctx.fd, i & 1 ? vm : s.ctx.vm, &queue[i]), 0);
		for (int j = 0; j < i; j++)
			igt_assert_neq_u32(queue[i], queue[j]);
	}
	for (int i = 0; i < 8; i += 2)
		assert_done(&s, queue_map(&s, queue[i], i / 2, s.va + i * KIB(64), false));
	for (int i = 0; i < 8; i += 2)
		npu_assert_tags(&s.ctx, s.va + i * KIB(64), 16, i / 2, 0);
	for (int i = 0; i < 8; i++) {
		igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, queue[i]), 0);
		igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, queue[i]), -ENOENT);
	}

	/* Not even a new one has an id that another had just before. */
	other = queue_create(&s);
	for (int i = 0; i < 8; i++)
		igt_assert_neq_u32(other, queue[i]);
	npu_ctx_close(&s.ctx);
}

static void test_not_found(void)
{
	struct drm_gmem_bind_op op;
	uint32_t mine, dead, other_vms, other_files = 0, vm;
	struct npu_ctx other;
	struct scene s;

	scene_open(&s);
	npu_ctx_open(&other);
	igt_assert_eq(npu_vm_create(s.ctx.fd, &vm), 0);
	mine = queue_create(&s);
	dead = queue_create(&s);
	igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, dead), 0);
	igt_assert_eq(npu_bind_queue_create(s.ctx.fd, vm, &other_vms), 0);
	for (int i = 0; i < 16; i++)
		igt_assert_eq(npu_bind_queue_create(other.fd, other.vm, &other_files), 0);

	op = npu_op_map(s.bo[1], s.va, 0, KIB(64));
	for (int async = 0; async < 2; async++) {
		const uint32_t bad[] = { dead, other_vms, other_files, 0x12345, ~0u };

		for (size_t i = 0; i < ARRAY_LEN(bad); i++)
			igt_assert_eq((async ? npu_bind_async : npu_bind_once)
				      (&s.ctx, bad[i], &op, 1, NULL, 0), -ENOENT);
	}
	npu_assert_unmapped(&s.ctx, s.va);
	igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, other_files), -ENOENT);
	igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, dead), -ENOENT);
	igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, 0), -ENOENT);

	/* A queue goes with its VM. */
	igt_assert_eq(npu_vm_destroy(s.ctx.fd, vm), 0);
	igt_assert_eq(npu_bind_queue_create(s.ctx.fd, vm, &other_vms), -ENOENT);
	igt_assert_eq(npu_bind_once(&s.ctx, mine, &op, 1, NULL, 0), 0);
	npu_assert_tags(&s.ctx, s.va, 16, 1, 0);
	npu_ctx_close(&s.ctx);
	npu_ctx_close(&other);
}

/* One queue waits; others, and the VM's own, go on elsewhere. */
static void test_independent(bool own)
{
	uint32_t a, b, done;
	struct scene s;

	scene_open(&s);
	scene_hold(&s);
	a = own ? 0 : queue_create(&s);
	b = queue_create(&s);
	done = queue_map(&s, a, 1, s.va, true);
	for (int i = 0; i < 8; i++) {
		uint64_t va = s.va + MIB(2) * (i + 1);

		assert_done(&s, queue_map(&s, own || i & 1 ? b : 0, i % 4, va, false));
		npu_assert_tags(&s.ctx, va, 16, i % 4, 0);
	}
	assert_not_done(&s, done);
	npu_assert_unmapped(&s.ctx, s.va);
	assert_not_done(&s, done);
	npu_release(&s.hold);
	assert_done(&s, done);
	npu_assert_tags(&s.ctx, s.va, 16, 1, 0);
	npu_ctx_close(&s.ctx);
}

/* An array's operations are far apart: what is between them is not theirs. */
static void test_between(void)
{
	struct drm_gmem_bind_op ops[2];
	uint32_t a, b, done;
	struct scene s;

	scene_open(&s);
	scene_hold(&s);
	a = queue_create(&s);
	b = queue_create(&s);
	ops[0] = npu_op_map(s.bo[1], s.va, 0, KIB(64));
	ops[1] = npu_op_map(s.bo[1], s.va + MIB(30), 0, KIB(64));
	done = queue_ops(&s, a, ops, 2, true);
	assert_done(&s, queue_map(&s, b, 2, s.va + MIB(16), false));
	assert_not_done(&s, done);
	npu_release(&s.hold);
	assert_done(&s, done);
	npu_assert_tags(&s.ctx, s.va, 16, 1, 0);
	npu_assert_tags(&s.ctx, s.va + MIB(16), 16, 2, 0);
	npu_assert_tags(&s.ctx, s.va + MIB(30), 16, 1, 0);
	npu_ctx_close(&s.ctx);
}

/* Where ranges overlap, or share a large page, what was queued first is done first. */
static void test_overlap(uint64_t shift)
{
	uint32_t queue[3], done[4];
	struct scene s;

	scene_open(&s);
	scene_hold(&s);
	queue[0] = queue_create(&s);
	queue[1] = 0;
	queue[2] = queue_create(&s);
	done[0] = queue_map(&s, queue[0], 1, s.va, true);
	done[1] = queue_map(&s, queue[1], 2, s.va + shift, false);
	done[2] = queue_map(&s, queue[2], 3, s.va + 2 * shift, false);
	/* Elsewhere, but behind another in the same queue. */
	done[3] = queue_map(&s, queue[2], 0, s.va + MIB(8), false);
	/* What doesn't overlap shows that there was time for the others. */
	assert_done(&s, queue_map(&s, queue_create(&s), 0, s.va + MIB(16), false));
	npu_assert_unmapped(&s.ctx, s.va);
	npu_assert_unmapped(&s.ctx, s.va + 2 * shift);
	npu_assert_unmapped(&s.ctx, s.va + MIB(8));
	for (int i = 0; i < 4; i++)
		assert_not_done(&s, done[i]);
	npu_release(&s.hold);
	for (int i = 3; i >= 0; i--)
		assert_done(&s, done[i]);
	npu_assert_tags(&s.ctx, s.va, npu_min(KIB(64), shift) / PAGE, shift ? 1 : 3, 0);
	npu_assert_tags(&s.ctx, s.va + shift, npu_min(KIB(64), shift) / PAGE, shift ? 2 : 3, 0);
	npu_assert_tags(&s.ctx, s.va + 2 * shift, 16, 3, 0);
	npu_assert_tags(&s.ctx, s.va + MIB(8), 16, 0, 0);
	npu_ctx_close(&s.ctx);
}

/* One page, bound by several queues in turn: the last bind wins. */
static void test_order(bool held)
{
	enum { QUEUES = 5, N = 300 };
	uint32_t queue[QUEUES] = {}, done = 0;
	struct scene s;

	scene_open(&s);
	if (held)
		scene_hold(&s);
	for (int i = 1; i < QUEUES; i++)
		queue[i] = queue_create(&s);
	for (int i = 0; i < N; i++) {
		struct drm_gmem_bind_op op = npu_op_map(s.bo[i % 4], s.va, i % 16 * PAGE, PAGE);
		struct drm_gmem_sync syncs[2] = { npu_signal(s.ctx.syncobj), npu_wait_for(s.wait) };

		igt_assert_eq(npu_bind_async(&s.ctx, queue[i * 7 % QUEUES], &op, 1, syncs,
					     held && !i ? 2 : 1), 0);
		done = syncs[0].handle;
	}
	if (held) {
		assert_not_done(&s, done);
		npu_release(&s.hold);
	}
	assert_done(&s, done);
	npu_assert_tags(&s.ctx, s.va, 1, (N - 1) % 4, (N - 1) % 16);
	npu_ctx_close(&s.ctx);
}

/* Operations of a queue that's destroyed are done all the same. */
static void test_destroy_held(void)
{
	struct drm_gmem_bind_op op;
	uint32_t queue, done[3];
	struct scene s;

	scene_open(&s);
	scene_hold(&s);
	queue = queue_create(&s);
	for (int i = 0; i < 3; i++)
		done[i] = queue_map(&s, queue, i + 1, s.va + i * MIB(2), !i);
	igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, queue), 0);
	op = npu_op_map(s.bo[0], s.va, 0, PAGE);
	igt_assert_eq(npu_bind_async(&s.ctx, queue, &op, 1, NULL, 0), -ENOENT);
	for (int i = 0; i < 3; i++)
		assert_not_done(&s, done[i]);
	npu_assert_unmapped(&s.ctx, s.va + MIB(2));

	/* It still holds up who overlaps. */
	queue = queue_map(&s, 0, 0, s.va, false);
	assert_not_done(&s, queue);
	npu_release(&s.hold);
	assert_done(&s, queue);
	for (int i = 0; i < 3; i++) {
		assert_done(&s, done[i]);
		npu_assert_tags(&s.ctx, s.va + i * MIB(2), 16, i ? i + 1 : 0, 0);
	}
	npu_ctx_close(&s.ctx);
}

/* A queue for one bind each, destroyed while it's at work. */
static void test_churn(void)
{
	uint32_t done[32];
	struct scene s;

	scene_open(&s);
	for (unsigned int i = 0; i < npu_scale(200); i++) {
		uint32_t queue = queue_create(&s);
		uint64_t va = s.va + i % 32 * KIB(64);

		if (i >= 32)
			assert_done(&s, done[i % 32]);
		done[i % 32] = queue_map(&s, queue, i % 4, va, false);
		igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, queue), 0);
	}
	for (unsigned int i = 0; i < npu_min(32, npu_scale(200)); i++)
		assert_done(&s, done[i]);
	npu_assert_alive(&s.ctx);
	npu_ctx_close(&s.ctx);
}

/* 64 queues of a VM, used, destroyed, and made anew. */
static void test_limit(void)
{
	uint32_t queue[MAX_QUEUES], done[MAX_QUEUES], vm, extra;
	struct scene s;

	scene_open(&s);
	igt_assert_eq(npu_vm_create(s.ctx.fd, &vm), 0);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < MAX_QUEUES; i++)
			queue[i] = queue_create(&s);
		for (int i = 0; i < 2; i++)
			igt_assert_eq(npu_bind_queue_create(s.ctx.fd, s.ctx.vm, &extra), -ENOSPC);
		igt_assert_eq(npu_bind_queue_create(s.ctx.fd, vm, &extra), 0);
		igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, extra), 0);

		/* All of them at once, and the VM's own. */
		for (int i = 0; i < MAX_QUEUES; i++)
			done[i] = queue_map(&s, queue[i], (i + round) % 4, s.va + i * KIB(64), false);
		assert_done(&s, queue_map(&s, 0, round, s.va + MIB(16), false));
		for (int i = 0; i < MAX_QUEUES; i++) {
			assert_done(&s, done[i]);
			npu_assert_tags(&s.ctx, s.va + i * KIB(64), 1, (i + round) % 4, 0);
		}
		/* The place of one that's destroyed is free. */
		igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, queue[round]), 0);
		queue[round] = queue_create(&s);
		for (int i = 0; i < MAX_QUEUES; i++)
			igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, queue[i]), 0);
	}
	npu_ctx_close(&s.ctx);
}

/* 4096 queues of a file. */
static void test_file_limit(void)
{
	enum { VMS = MAX_FILE_QUEUES / MAX_QUEUES + 1 };
	uint32_t vm[VMS], *queue = calloc(MAX_FILE_QUEUES, sizeof(*queue)), extra;
	uint64_t before;
	int fd = npu_open(), other = npu_open();

	igt_assert(queue);
	before = npu_mem_free(other);
	for (int i = 0; i < VMS; i++)
		igt_assert_eq(npu_vm_create(fd, &vm[i]), 0);
	for (int i = 0; i < MAX_FILE_QUEUES; i++)
		igt_assert_eq(npu_bind_queue_create(fd, vm[i / MAX_QUEUES], &queue[i]), 0);
	igt_assert_eq(npu_bind_queue_create(fd, vm[0], &extra), -ENOSPC);
	igt_assert_eq(npu_bind_queue_create(fd, vm[VMS - 1], &extra), -ENOSPC);
	igt_assert_eq(npu_bind_queue_destroy(fd, queue[0]), 0);
	igt_assert_eq(npu_bind_queue_create(fd, vm[VMS - 1], &queue[0]), 0);
	igt_assert_eq(npu_bind_queue_create(fd, vm[VMS - 1], &extra), -ENOSPC);
	close(fd);
	npu_assert_mem_free(other, before);
	close(other);
	free(queue);
}

/* VMs that are destroyed with their queues leave nothing behind. */
static void test_vm_destroy(void)
{
	int fd = npu_open();
	uint64_t before = npu_mem_free(fd);

	for (int i = 0; i < 2 * MAX_FILE_QUEUES / MAX_QUEUES; i++) {
		uint32_t vm, queue;

		igt_assert_eq(npu_vm_create(fd, &vm), 0);
		for (int j = 0; j < MAX_QUEUES; j++)
			igt_assert_eq(npu_bind_queue_create(fd, vm, &queue), 0);
		igt_assert_eq(npu_vm_destroy(fd, vm), 0);
	}
	npu_assert_mem_free(fd, before);
	close(fd);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Bind queues can be created, used and destroyed");
	igt_subtest("create")
		test_create();

	igt_describe("Queues that don't exist, or are another VM's or file's, are refused");
	igt_subtest("not-found")
		test_not_found();

	igt_describe("A queue that waits holds up no other one, nor the VM's own");
	igt_subtest("independent")
		test_independent(false);

	igt_describe("The VM's own queue holds up no other one");
	igt_subtest("independent-own")
		test_independent(true);

	igt_describe("An array that waits holds up nobody between its operations");
	igt_subtest("between")
		test_between();

	igt_describe("What overlaps is done in the order in which it was queued");
	igt_subtest("overlap")
		test_overlap(0);

	igt_describe("What shares a large page is done in the order in which it was queued");
	igt_subtest("overlap-page")
		test_overlap(KIB(512));

	igt_describe("Of many binds of a page by several queues the last one wins");
	igt_subtest("order")
		test_order(false);

	igt_describe("Of many binds of a page by several queues that had to wait the last one wins");
	igt_subtest("order-held")
		test_order(true);

	igt_describe("What was queued in a queue that's destroyed is done all the same");
	igt_subtest("destroy-held")
		test_destroy_held();

	igt_describe("Queues made for one bind each");
	igt_subtest("churn")
		test_churn();

	igt_describe("A VM can have 64 bind queues, again and again");
	igt_subtest("limit")
		test_limit();

	igt_describe("A file can have 4096 bind queues");
	igt_subtest("file-limit")
		test_file_limit();

	igt_describe("The bind queues of a VM that's destroyed are gone");
	igt_subtest("vm-destroy")
		test_vm_destroy();
}
