// SPDX-License-Identifier: MIT
/*
 * Many threads that bind, submit, query and destroy in the same VMs at once, at
 * random. What each call may return is known; what the device sees is not, but
 * it must come to an end and leave nothing behind.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Binds, jobs and destruction from many threads at once");

enum { THREADS = 8, VMS = 2, QUEUES = 8, BOS = 8, SYNCOBJS = 16 };

#define SPACE	MIB(16)		/* where all of them bind, in each VM */
#define CODE	GIB(4)		/* where each VM has the commands */

/* One file and what is in it; ids come and go at any time. */
static struct shared {
	int fd;
	uint32_t queue;			/* for jobs */
	uint32_t code;			/* an object with commands */
	uint32_t code_size;
	atomic_uint vm[VMS];
	atomic_uint bind_queue[QUEUES];	/* of VM i % VMS, unless that has been replaced */
	atomic_uint bo[BOS];
	uint32_t syncobj[SYNCOBJS];
	atomic_bool closed;		/* the file may be gone */
} shared;

struct worker {
	pthread_t thread;
	uint64_t seed;
	unsigned int steps;
	unsigned int calls, refused;
	const char *what;		/* the call that returned what it may not, */
	int ret;			/* and what that was */
};

static uint64_t below(struct worker *w, uint64_t n)
{
	return npu_random(&w->seed) % n;
}

/* Takes note of a result that's neither success nor one of @allowed. */
static void check(struct worker *w, const char *what, int ret, const int *allowed)
{
	w->calls++;
	if (!ret)
		return;
	w->refused++;
	/* The file is closed: that's all. */
	if (ret == -EBADF && atomic_load(&shared.closed)) {
		w->steps = 0;
		return;
	}
	for (; *allowed; allowed++)
		if (ret == *allowed)
			return;
	if (!w->what) {
		w->what = what;
		w->ret = ret;
	}
}

#define CHECK(what, ret, ...)	check(w, what, ret, (const int[]) { __VA_ARGS__, 0 })

static unsigned int random_syncs(struct worker *w, struct drm_gmem_sync *syncs)
{
	unsigned int count = below(w, 3);

	for (unsigned int i = 0; i < count; i++) {
		uint32_t handle = shared.syncobj[below(w, SYNCOBJS)];

		syncs[i] = below(w, 2) ? npu_signal(handle) : npu_wait_for(handle);
	}
	return count;
}

static void random_bind(struct worker *w)
{
	unsigned int vm = below(w, VMS), slot = below(w, QUEUES / VMS) * VMS + vm;
	struct npu_ctx ctx = { .fd = shared.fd, .vm = atomic_load(&shared.vm[vm]) };
	uint32_t queue = below(w, 3) ? atomic_load(&shared.bind_queue[slot]) : 0;
	unsigned int count = 1 + below(w, 4), num_syncs;
	struct drm_gmem_bind_op ops[4];
	struct drm_gmem_sync syncs[2];
	bool async = below(w, 8);
	int ret;

	for (unsigned int i = 0; i < count; i++) {
		uint64_t size = PAGE << below(w, 10), va = MIB(2) + below(w, SPACE / PAGE) * PAGE;

		switch (below(w, 4)) {
		case 0:
			ops[i] = npu_op_unmap(va, size);
			break;
		case 1:
			ops[i] = npu_op_sparse(va, size);
			break;
		default:
			ops[i] = npu_op_map(atomic_load(&shared.bo[below(w, BOS)]), va, 0, size);
		}
		ops[i].flags = ops[i].op != DRM_GMEM_BIND_OP_UNMAP && below(w, 4) == 0 ?
			       DRM_GMEM_BIND_READONLY : 0;
	}
	num_syncs = random_syncs(w, syncs);
	ret = (async ? npu_bind_async : npu_bind_once)(&ctx, queue, ops, count, syncs, num_syncs);
	/* Objects, queues and VMs may be gone, or go meanwhile. */
	if (async)
		CHECK("bind, asynchronous", ret, -ENOENT, -ENOSPC);
	else
		CHECK("bind", ret, -ENOENT, -ENOSPC, -ECANCELED);
}

static void random_submit(struct worker *w)
{
	struct drm_gmem_sync syncs[2];
	unsigned int count = random_syncs(w, syncs);

	CHECK("submit", npu_submit_raw(shared.fd, shared.queue,
				       atomic_load(&shared.vm[below(w, VMS)]), CODE,
				       shared.code_size, syncs, count), -ENOENT);
}

static void random_advice(struct worker *w)
{
	struct drm_gmem_attr attr = { .kind = DRM_GMEM_ATTR_PINNED, .value = below(w, 2) };
	uint32_t vm = atomic_load(&shared.vm[below(w, VMS)]);
	uint64_t va = MIB(2) + below(w, SPACE / PAGE) * PAGE;

	int ret = npu_advise(shared.fd, vm, va, PAGE << below(w, 10), 0, &attr, 1);

	/* All VMs together may have half of the memory pinned, and not more. */
	if (attr.value)
		CHECK("advise", ret, -ENOENT, -ENOMEM);
	else
		CHECK("advise, unpin", ret, -ENOENT);
}

static void random_query(struct worker *w)
{
	struct drm_gmem_range ranges[64];
	uint64_t va = MIB(2), size = SPACE;
	uint32_t count = 1 + below(w, 64);

	CHECK("query_range", npu_query_range(shared.fd, atomic_load(&shared.vm[below(w, VMS)]), &va,
					     &size, ranges, &count), -ENOENT);
}

static int make_bo(atomic_uint *slot, uint32_t flags)
{
	struct drm_gmem_bo_create bo = { .size = PAGE << 9, .flags = flags };
	struct drm_gem_close gone = {};
	int ret = npu_ioctl(shared.fd, DRM_IOCTL_NPU_BO_CREATE, &bo);

	gone.handle = atomic_exchange(slot, ret ? 0 : bo.handle);
	if (gone.handle)
		npu_ioctl(shared.fd, DRM_IOCTL_GEM_CLOSE, &gone);
	return ret;
}

static int make_vm(atomic_uint *slot)
{
	struct drm_gmem_vm_create vm = {};
	struct npu_ctx ctx = { .fd = shared.fd };
	struct drm_gmem_bind_op op = npu_op_map(shared.code, CODE, 0, PAGE);
	int ret = npu_ioctl(shared.fd, DRM_IOCTL_NPU_VM_CREATE, &vm);
	uint32_t gone;

	if (ret)
		return ret;
	ctx.vm = vm.vm_id;
	op.flags = DRM_GMEM_BIND_EXEC | DRM_GMEM_BIND_READONLY;
	ret = npu_bind_once(&ctx, 0, &op, 1, NULL, 0);
	gone = atomic_exchange(slot, ctx.vm);
	if (gone)
		ret = ret ? ret : npu_vm_destroy(shared.fd, gone);
	return ret;
}

static int make_queue(unsigned int slot)
{
	struct drm_gmem_bind_queue_create queue = { .vm_id = atomic_load(&shared.vm[slot % VMS]) };
	int ret = npu_ioctl(shared.fd, DRM_IOCTL_NPU_BIND_QUEUE_CREATE, &queue);
	uint32_t gone = atomic_exchange(&shared.bind_queue[slot], ret ? 0 : queue.queue_id);

	/* Its VM may be gone, and the queue with it. */
	if (gone)
		npu_bind_queue_destroy(shared.fd, gone);
	return ret;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;

	for (unsigned int i = 0; i < w->steps && !w->what; i++) {
		switch (below(w, 64)) {
		case 0:
			CHECK("vm_create", make_vm(&shared.vm[below(w, VMS)]), -ENOSPC);
			break;
		case 1 ... 3:
			CHECK("bind_queue_create", make_queue(below(w, QUEUES)), -ENOENT);
			break;
		case 4 ... 6:
			CHECK("bo_create", make_bo(&shared.bo[below(w, BOS)],
						   below(w, 2) ? NPU_HOST : NPU_DEVICE), -ENOSPC);
			break;
		case 7 ... 9:
			random_advice(w);
			break;
		case 10 ... 12:
			random_query(w);
			break;
		case 13 ... 28:
			random_submit(w);
			break;
		default:
			random_bind(w);
		}
	}
	return NULL;
}

/* Threads at work on one file; it is closed when they are, or before they are through. */
static void test_storm(bool close_early)
{
	int base = npu_open(), sync_file[SYNCOBJS];
	uint64_t seed = npu_seed(), before = npu_mem_free(base);
	unsigned int calls = 0, refused = 0;
	struct worker worker[THREADS];
	struct npu_ctx ctx;
	struct npu_cb cb;

	for (unsigned int round = 0; round < npu_scale(close_early ? 4 : 1); round++) {
		npu_ctx_open(&ctx);
		shared.fd = ctx.fd;
		igt_assert_eq(npu_queue_create(ctx.fd, &shared.queue), 0);
		shared.code = ctx.cmds.handle;
		atomic_store(&shared.closed, false);

		/* Copies from one end of the range to the other, as far as that is mapped. */
		cb = npu_begin(&ctx);
		npu_cmd_copy(&cb, MIB(2) + SPACE - KIB(64), MIB(2), KIB(64));
		shared.code_size = npu_cb_size(&cb);
		for (int i = 0; i < SYNCOBJS; i++)
			shared.syncobj[i] = npu_syncobj(ctx.fd, DRM_SYNCOBJ_CREATE_SIGNALED);
		for (int i = 0; i < VMS; i++) {
			atomic_store(&shared.vm[i], 0);
			igt_assert_eq(make_vm(&shared.vm[i]), 0);
		}
		for (int i = 0; i < QUEUES; i++) {
			atomic_store(&shared.bind_queue[i], 0);
			igt_assert_eq(make_queue(i), 0);
		}
		for (int i = 0; i < BOS; i++) {
			atomic_store(&shared.bo[i], 0);
			igt_assert_eq(make_bo(&shared.bo[i], i & 1 ? NPU_HOST : NPU_DEVICE), 0);
		}

		for (int i = 0; i < THREADS; i++) {
			worker[i] = (struct worker) {
				.seed = npu_random(&seed), .steps = close_early ? 1u << 30 : 250,
			};
			igt_assert_eq(pthread_create(&worker[i].thread, NULL, worker_run,
						     &worker[i]), 0);
		}
		if (close_early) {
			usleep(npu_random(&seed) % 200000);
			atomic_store(&shared.closed, true);
			npu_ctx_drop(&ctx);
		}
		for (int i = 0; i < THREADS; i++) {
			igt_assert_eq(pthread_join(worker[i].thread, NULL), 0);
			igt_assert_f(!worker[i].what, "%s: %d\n", worker[i].what, worker[i].ret);
			calls += worker[i].calls;
			refused += worker[i].refused;
		}
		if (close_early)
			continue;

		/* All that was published comes to an end. */
		for (int i = 0; i < SYNCOBJS; i++) {
			sync_file[i] = npu_sync_file_export(ctx.fd, shared.syncobj[i]);
			igt_assert_fd(sync_file[i]);
		}
		for (int i = 0; i < SYNCOBJS; i++) {
			igt_assert_eq(npu_sync_file_wait(sync_file[i]), 0);
			close(sync_file[i]);
		}
		npu_assert_alive(&ctx);
		npu_ctx_drop(&ctx);
	}
	igt_info("%u calls, of which %u were refused\n", calls, refused);
	npu_ctx_open(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
	npu_assert_mem_free(base, before);
	close(base);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Threads bind, submit, query, create and destroy on one file, at random");
	igt_subtest("storm")
		test_storm(false);

	igt_describe("The file is closed while threads bind, submit, query, create and destroy");
	igt_subtest("storm-close")
		test_storm(true);
}
