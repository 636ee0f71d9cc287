// SPDX-License-Identifier: MIT
/* Binds that still wait when a signal comes, or when their VM, file or process ends. */

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Binds that wait, and signals, VMs, files and processes that end");

/* A bind without ASYNC, or an unbind, in a thread of its own; nothing is asserted there. */
struct waiter {
	pthread_t thread;
	struct npu_ctx *ctx;
	uint32_t queue;
	struct drm_gmem_bind_op op;
	struct drm_gmem_sync sync;
	int result;
	int sync_file;		/* what it has to wait for */
	bool early;		/* it returned before */
};

static void *waiter_run(void *arg)
{
	struct waiter *w = arg;

	if (w->op.op == DRM_GMEM_BIND_OP_UNMAP)
		w->result = npu_unmap(w->ctx->fd, w->ctx->vm, w->op.va, w->op.size);
	else
		w->result = npu_bind_once(w->ctx, w->queue, &w->op, 1, &w->sync,
					  w->sync.handle ? 1 : 0);
	w->early = npu_sync_file_status(w->sync_file) == 0;
	close(w->sync_file);
	return NULL;
}

/* What is queued counts as done. */
static bool waiter_is_queued(const struct waiter *w)
{
	struct drm_gmem_range range = npu_range_at(w->ctx, w->op.va);

	if (w->op.op == DRM_GMEM_BIND_OP_UNMAP)
		return range.mapping == DRM_GMEM_MAPPING_NONE;
	return range.mapping == DRM_GMEM_MAPPING_BO && range.bo_offset == w->op.bo_offset;
}

/* Returns once its bind is queued. */
static void waiter_start(struct waiter *w, struct npu_ctx *ctx, const struct npu_hold *hold,
			 struct drm_gmem_bind_op op)
{
	w->ctx = ctx;
	w->op = op;
	w->sync_file = dup(hold->sync_file);
	igt_assert_fd(w->sync_file);
	igt_assert_eq(pthread_create(&w->thread, NULL, waiter_run, w), 0);
	for (int ms = 0; !waiter_is_queued(w) && ms < 60000; ms++)
		usleep(1000);
	igt_assert(waiter_is_queued(w));
}

static void waiter_join(struct waiter *w)
{
	igt_assert_eq(pthread_join(w->thread, NULL), 0);
}

/* A client whose VM's own queue waits for a hold. */
struct scene {
	struct npu_ctx ctx;
	struct npu_hold hold;
	uint32_t bo;		/* 64 KiB, tagged */
	uint64_t va;		/* 8 MiB; once the hold is released, bo's second page is there */
	uint32_t wait, done;
};

static void scene_init(struct scene *s, int fd)
{
	struct drm_gmem_bind_op op;
	struct drm_gmem_sync syncs[2];

	npu_ctx_init(&s->ctx, fd);
	igt_assert_eq(npu_bo_create(fd, KIB(64), NPU_DEVICE, &s->bo), 0);
	npu_bo_tag(&s->ctx, s->bo, KIB(64), 1);
	s->va = npu_va(&s->ctx, MIB(8), MIB(2));
	s->wait = npu_hold_syncobj(&s->hold, fd);
	s->done = npu_syncobj(fd, 0);
	syncs[0] = npu_wait_for(s->wait);
	syncs[1] = npu_signal(s->done);
	op = npu_op_map(s->bo, s->va, PAGE, PAGE);
	igt_assert_eq(npu_bind_async(&s->ctx, 0, &op, 1, syncs, 2), 0);
}

/* What comes behind a bind that waits, and overlaps it, waits too. */
static void test_wait(bool own_fence)
{
	struct waiter w = {};
	struct scene s;

	npu_hold(&s.hold);
	scene_init(&s, npu_open());
	if (own_fence) {
		/* Elsewhere, and first in its queue. */
		igt_assert_eq(npu_bind_queue_create(s.ctx.fd, s.ctx.vm, &w.queue), 0);
		w.sync = npu_wait_for(s.wait);
		waiter_start(&w, &s.ctx, &s.hold, npu_op_map(s.bo, s.va + MIB(4), 2 * PAGE, PAGE));
	} else {
		waiter_start(&w, &s.ctx, &s.hold, npu_op_map(s.bo, s.va, 2 * PAGE, PAGE));
	}
	npu_assert_unmapped(&s.ctx, w.op.va);
	igt_assert_eq(npu_syncobj_poll(s.ctx.fd, s.done), -ETIME);
	npu_release(&s.hold);
	waiter_join(&w);
	igt_assert_eq(w.result, 0);
	igt_assert(!w.early);
	igt_assert_eq(npu_fence_result(s.ctx.fd, s.done), 0);
	npu_assert_tags(&s.ctx, w.op.va, 1, 1, 2);
	npu_ctx_close(&s.ctx);
}

/* An unbind is a bind in the VM's own queue: it comes behind all that's there, wherever that is. */
static void test_wait_unbind(void)
{
	struct drm_gmem_bind_op op;
	struct waiter w = {};
	struct scene s;
	uint32_t queue;

	npu_hold(&s.hold);
	scene_init(&s, npu_open());
	op = npu_op_map(s.bo, s.va + MIB(4), 0, PAGE);
	igt_assert_eq(npu_bind_queue_create(s.ctx.fd, s.ctx.vm, &queue), 0);
	igt_assert_eq(npu_bind_once(&s.ctx, queue, &op, 1, NULL, 0), 0);
	waiter_start(&w, &s.ctx, &s.hold, npu_op_unmap(op.va, PAGE));
	npu_assert_tags(&s.ctx, op.va, 1, 1, 0);
	npu_release(&s.hold);
	waiter_join(&w);
	igt_assert_eq(w.result, 0);
	igt_assert(!w.early);
	npu_assert_unmapped(&s.ctx, op.va);
	igt_assert_eq(npu_fence_result(s.ctx.fd, s.done), 0);
	npu_ctx_close(&s.ctx);
}

static void ignore(int sig)
{
	(void)sig;
}

/* Interrupted, it says so, and is done later all the same. */
static void test_interrupted(void)
{
	struct sigaction action = { .sa_handler = ignore }, old;
	struct waiter w = {};
	struct scene s;

	igt_assert_eq(sigaction(SIGUSR1, &action, &old), 0);
	npu_hold(&s.hold);
	scene_init(&s, npu_open());
	waiter_start(&w, &s.ctx, &s.hold, npu_op_map(s.bo, s.va, 2 * PAGE, PAGE));
	igt_assert_eq(pthread_kill(w.thread, SIGUSR1), 0);
	waiter_join(&w);
	igt_assert_eq(w.result, -EINTR);
	npu_assert_held(&s.hold);
	npu_assert_unmapped(&s.ctx, s.va);
	igt_assert_eq_u64(npu_range_at(&s.ctx, s.va).bo_offset, 2 * PAGE);
	npu_release(&s.hold);
	igt_assert_eq(npu_fence_result(s.ctx.fd, s.done), 0);

	/* Behind it in the queue. */
	igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, s.va + PAGE, PAGE), 0);
	npu_assert_tags(&s.ctx, s.va, 1, 1, 2);
	igt_assert_eq(sigaction(SIGUSR1, &old, NULL), 0);
	npu_ctx_close(&s.ctx);
}

/*
 * Binds of a VM that's destroyed end with -ECANCELED, in whatever queue and whoever waits; also
 * one that waits for nothing but another of them, which it overlaps.
 */
static void test_vm_destroy(bool overlap)
{
	struct drm_gmem_sync syncs[3];
	struct drm_gmem_bind_op op;
	struct npu_ctx other;
	struct waiter w = {};
	uint32_t queue, line, done[8], job;
	uint64_t before;
	struct scene s;
	int base = npu_open();

	before = npu_mem_free(base);
	npu_hold(&s.hold);
	scene_init(&s, npu_open());
	npu_ctx_init(&other, s.ctx.fd);
	waiter_start(&w, &s.ctx, &s.hold, npu_op_map(s.bo, s.va, 2 * PAGE, PAGE));
	line = npu_syncobj(s.ctx.fd, 0);
	for (int i = 0; i < 8; i++) {
		done[i] = npu_syncobj(s.ctx.fd, 0);
		syncs[0] = npu_signal(done[i]);
		syncs[1] = npu_signal_point(line, i + 1);
		syncs[2] = npu_wait_for(s.wait);
		op = npu_op_map(s.bo, s.va + MIB(4) * i, 0, KIB(64));
		igt_assert_eq(npu_bind_queue_create(s.ctx.fd, s.ctx.vm, &queue), 0);
		igt_assert_eq(npu_bind_async(&s.ctx, queue, &op, 1, syncs, overlap && !i ? 2 : 3),
			      0);
	}
	/* A job of another VM that waits for one of them. */
	job = npu_syncobj(s.ctx.fd, 0);
	syncs[0] = npu_wait_point(line, 8);
	syncs[1] = npu_signal(job);
	igt_assert_eq(npu_submit_copy(&other, other.queue, other.cells.va, other.cells.va, syncs, 2),
		      0);

	igt_assert_eq(npu_vm_destroy(s.ctx.fd, s.ctx.vm), 0);
	waiter_join(&w);
	igt_assert_eq(w.result, -ECANCELED);
	igt_assert_eq(npu_fence_result(s.ctx.fd, s.done), -ECANCELED);
	for (int i = 0; i < 8; i++)
		igt_assert_eq(npu_fence_result(s.ctx.fd, done[i]), -ECANCELED);
	igt_assert_eq(npu_syncobj_wait_point(s.ctx.fd, line, 8, 0), 0);
	igt_assert_eq(npu_fence_result(s.ctx.fd, job), 0);
	npu_assert_held(&s.hold);
	igt_assert_eq(npu_bind_once(&s.ctx, 0, &op, 1, NULL, 0), -ENOENT);
	igt_assert_eq(npu_bind_async(&s.ctx, queue, &op, 1, NULL, 0), -ENOENT);
	npu_assert_alive(&other);
	npu_release(&s.hold);
	npu_assert_alive(&other);
	npu_ctx_drop(&s.ctx);
	igt_assert_eq(munmap(other.cmds.cpu, other.cmds.size), 0);
	igt_assert_eq(munmap(other.cells.cpu, other.cells.size), 0);
	npu_assert_mem_free(base, before);
	close(base);
}

/* A file takes its binds along: their fences, wherever they are, end with -ECANCELED. */
static void test_close(void)
{
	int base = npu_open(), sync_file;
	uint64_t before = npu_mem_free(base);
	struct drm_gmem_bind_op op;
	uint32_t queue;
	struct scene s;

	npu_hold(&s.hold);
	scene_init(&s, npu_open());
	sync_file = npu_sync_file_export(s.ctx.fd, s.done);
	igt_assert_fd(sync_file);
	for (int i = 0; i < 16; i++) {
		struct drm_gmem_sync wait = npu_wait_for(s.wait);

		op = npu_op_map(s.bo, s.va + GIB(1) * i, 0, KIB(64));
		igt_assert_eq(npu_bind_queue_create(s.ctx.fd, s.ctx.vm, &queue), 0);
		igt_assert_eq(npu_bind_async(&s.ctx, i & 1 ? queue : 0, &op, 1, &wait, 1), 0);
	}
	npu_ctx_drop(&s.ctx);
	igt_assert_eq(npu_sync_file_wait(sync_file), 0);
	igt_assert_eq(npu_sync_file_status(sync_file), -ECANCELED);
	npu_release(&s.hold);
	close(sync_file);
	npu_assert_mem_free(base, before);
	close(base);
}

/* A bind waits for another that ends with its file: it is done. */
static void test_foreign(void)
{
	struct drm_gmem_sync syncs[2];
	struct drm_gmem_bind_op op;
	struct npu_ctx other;
	int sync_file;
	uint32_t bo, done;
	uint64_t va;
	struct scene s;

	npu_hold(&s.hold);
	scene_init(&s, npu_open());
	npu_ctx_open(&other);
	sync_file = npu_sync_file_export(s.ctx.fd, s.done);
	igt_assert_fd(sync_file);
	done = npu_syncobj(other.fd, 0);
	syncs[0] = npu_wait_for(npu_syncobj(other.fd, 0));
	syncs[1] = npu_signal(done);
	igt_assert_eq(npu_sync_file_import(other.fd, syncs[0].handle, sync_file), 0);
	close(sync_file);
	igt_assert_eq(npu_bo_create(other.fd, PAGE, NPU_HOST, &bo), 0);
	npu_bo_tag(&other, bo, PAGE, 5);
	va = npu_va(&other, PAGE, MIB(2));
	op = npu_op_map(bo, va, 0, PAGE);
	igt_assert_eq(npu_bind_async(&other, 0, &op, 1, syncs, 2), 0);
	npu_assert_unmapped(&other, va);
	npu_ctx_drop(&s.ctx);
	igt_assert_eq(npu_fence_result(other.fd, done), 0);
	npu_assert_tags(&other, va, 1, 5, 0);
	npu_release(&s.hold);
	npu_ctx_close(&other);
}

/* Memory that parent and children share, to tell each other how far they are. */
static volatile uint32_t *shared_flag(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	igt_assert(p != MAP_FAILED);
	return p;
}

/* A process ends with binds that wait, by a signal or of its own accord. */
static void test_process(bool killed)
{
	volatile uint32_t *ready = shared_flag();
	int base = npu_open();
	uint64_t before = npu_mem_free(base);
	struct npu_hold hold;
	struct npu_ctx ctx;

	for (unsigned int round = 0; round < npu_scale(3); round++) {
		*ready = 0;
		npu_hold(&hold);
		igt_fork(child, 1) {
			struct scene s = { .hold = hold };
			struct drm_gmem_bind_op op;
			struct drm_gmem_sync wait;
			struct waiter w = {};
			uint32_t queue;

			scene_init(&s, npu_open());
			wait = npu_wait_for(s.wait);
			op = npu_op_sparse(s.va, GIB(1));
			igt_assert_eq(npu_bind_queue_create(s.ctx.fd, s.ctx.vm, &queue), 0);
			for (int i = 0; i < 32; i++)
				igt_assert_eq(npu_bind_async(&s.ctx, i & 1 ? queue : 0, &op, 1,
							     &wait, 1), 0);
			/* One that waits in the kernel. */
			waiter_start(&w, &s.ctx, &hold, npu_op_map(s.bo, s.va, 2 * PAGE, PAGE));
			*ready = 1;
			while (killed)
				pause();
			_exit(0);
		}
		if (killed) {
			for (int ms = 0; !*ready && ms < 60000; ms++)
				usleep(1000);
			igt_assert(*ready);
			igt_kill_children(SIGKILL);
			igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
		} else {
			igt_waitchildren();
		}
		npu_release(&hold);
	}
	npu_ctx_open(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
	npu_assert_mem_free(base, before);
	igt_assert_eq(munmap((void *)ready, PAGE), 0);
	close(base);
}

/* The same file, whose VMs come and go while their binds wait. */
static void test_vms_churn(void)
{
	int base = npu_open(), fd = npu_open();
	uint64_t before = npu_mem_free(base);
	struct npu_hold hold;
	uint32_t bo, wait;

	npu_hold(&hold);
	wait = npu_hold_syncobj(&hold, fd);
	igt_assert_eq(npu_bo_create(fd, MIB(1), NPU_DEVICE, &bo), 0);
	for (int i = 0; i < 100; i++) {
		struct npu_ctx ctx = { .fd = fd };
		struct drm_gmem_sync syncs[2] = {
			npu_signal(npu_syncobj(fd, 0)), npu_wait_for(wait),
		};
		struct drm_gmem_bind_op ops[3] = {
			npu_op_map(bo, GIB(1), 0, MIB(1)),
			npu_op_sparse(GIB(2), GIB(1)),
			npu_op_unmap(GIB(1) + KIB(64), GIB(1)),
		};

		igt_assert_eq(npu_vm_create(fd, &ctx.vm), 0);
		igt_assert_eq(npu_bind_async(&ctx, 0, ops, 3, syncs, i % 3 ? 2 : 1), 0);
		igt_assert_eq(npu_vm_destroy(fd, ctx.vm), 0);
		if (i % 3)
			igt_assert_eq(npu_fence_result(fd, syncs[0].handle), -ECANCELED);
		else
			npu_fence_result(fd, syncs[0].handle);
	}
	npu_assert_held(&hold);
	close(fd);
	npu_release(&hold);
	npu_assert_mem_free(base, before);
	close(base);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("A bind without ASYNC waits for one that it overlaps");
	igt_subtest("wait")
		test_wait(false);

	igt_describe("A bind without ASYNC waits for its own fences");
	igt_subtest("wait-fence")
		test_wait(true);

	igt_describe("An unbind waits for all that's in the VM's own queue");
	igt_subtest("wait-unbind")
		test_wait_unbind();

	igt_describe("A bind that's interrupted while it waits gives -EINTR and is done later");
	igt_subtest("interrupted")
		test_interrupted();

	igt_describe("Binds that wait end with -ECANCELED when their VM is destroyed");
	igt_subtest("vm-destroy")
		test_vm_destroy(false);

	igt_describe("So does a bind that waits for another one of that VM only");
	igt_subtest("vm-destroy-overlap")
		test_vm_destroy(true);

	igt_describe("Binds that wait end with -ECANCELED when their file is closed");
	igt_subtest("close")
		test_close();

	igt_describe("A bind that waits for one of a file that's closed is done");
	igt_subtest("foreign")
		test_foreign();

	igt_describe("A process that's killed with binds that wait leaves nothing behind");
	igt_subtest("killed")
		test_process(true);

	igt_describe("A process that exits with binds that wait leaves nothing behind");
	igt_subtest("exit")
		test_process(false);

	igt_describe("VMs destroyed one after the other while their binds wait");
	igt_subtest("vms-churn")
		test_vms_churn();
}
