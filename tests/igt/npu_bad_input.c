// SPDX-License-Identifier: MIT
/*
 * Every field of every ioctl with values it may not have: each gives its
 * errno, and nothing has changed.
 */

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Bad values in each field of each ioctl");

enum which {
	QUERY_DEVICE, VM_CREATE, VM_DESTROY, BO_CREATE, BO_MMAP, BIND, UNBIND,
	QUEUE_CREATE, QUEUE_DESTROY, SUBMIT, JOB_STATUS, QUERY,
	BIND_QUEUE_CREATE, BIND_QUEUE_DESTROY, ADVISE, QUERY_RANGE, PREFETCH, VM_STATS,
	DISCARD, IOCTLS,
};

static const struct {
	const char *name;
	unsigned long request;
} ioctls[IOCTLS] = {
	[QUERY_DEVICE] = { "query-device", DRM_IOCTL_NPU_QUERY_DEVICE },
	[VM_CREATE] = { "vm-create", DRM_IOCTL_NPU_VM_CREATE },
	[VM_DESTROY] = { "vm-destroy", DRM_IOCTL_NPU_VM_DESTROY },
	[BO_CREATE] = { "bo-create", DRM_IOCTL_NPU_BO_CREATE },
	[BO_MMAP] = { "bo-mmap", DRM_IOCTL_NPU_BO_MMAP },
	[BIND] = { "bind", DRM_IOCTL_NPU_BIND },
	[UNBIND] = { "unbind", DRM_IOCTL_NPU_UNBIND },
	[QUEUE_CREATE] = { "queue-create", DRM_IOCTL_NPU_QUEUE_CREATE },
	[QUEUE_DESTROY] = { "queue-destroy", DRM_IOCTL_NPU_QUEUE_DESTROY },
	[SUBMIT] = { "submit", DRM_IOCTL_NPU_SUBMIT },
	[JOB_STATUS] = { "job-status", DRM_IOCTL_NPU_JOB_STATUS },
	[QUERY] = { "query", DRM_IOCTL_NPU_QUERY },
	[BIND_QUEUE_CREATE] = { "bind-queue-create", DRM_IOCTL_NPU_BIND_QUEUE_CREATE },
	[BIND_QUEUE_DESTROY] = { "bind-queue-destroy", DRM_IOCTL_NPU_BIND_QUEUE_DESTROY },
	[ADVISE] = { "advise", DRM_IOCTL_NPU_ADVISE },
	[QUERY_RANGE] = { "query-range", DRM_IOCTL_NPU_QUERY_RANGE },
	[PREFETCH] = { "prefetch", DRM_IOCTL_NPU_PREFETCH },
	[VM_STATS] = { "vm-stats", DRM_IOCTL_NPU_VM_STATS },
	[DISCARD] = { "discard", DRM_IOCTL_NPU_DISCARD },
};

union arg {
	struct drm_gmem_query_device query_device;
	struct drm_gmem_vm_create vm_create;
	struct drm_gmem_vm_destroy vm_destroy;
	struct drm_gmem_bo_create bo_create;
	struct drm_gmem_bo_mmap bo_mmap;
	struct drm_gmem_bind bind;
	struct drm_gmem_unbind unbind;
	struct drm_npu_queue_create queue_create;
	struct drm_npu_queue_destroy queue_destroy;
	struct drm_npu_submit submit;
	struct drm_npu_job_status job_status;
	struct drm_npu_query query;
	struct drm_gmem_bind_queue_create bind_queue_create;
	struct drm_gmem_bind_queue_destroy bind_queue_destroy;
	struct drm_gmem_advise advise;
	struct drm_gmem_query_range query_range;
	struct drm_gmem_prefetch prefetch;
	struct drm_gmem_vm_stats vm_stats;
	struct drm_gmem_discard discard;
};

/* What bad values are made of. */
static struct scene {
	struct npu_ctx ctx;
	struct npu_bo bo;		/* 64 KiB of tagged device memory, mapped */
	uint32_t bind_queue;
	uint32_t dead_vm, dead_queue, dead_bo, dead_bind_queue;
	uint32_t others_vm, others_queue, others_bo, others_bind_queue;
	uint32_t other_vms_bind_queue;	/* of this file */
	uint64_t va_start, va_end;
	uint64_t mem_free;
	uint64_t completed;
	struct drm_gmem_bind_op op;
	struct drm_gmem_attr attr;
	struct drm_gmem_range range;
} scene;

static void scene_open(void)
{
	struct npu_ctx *ctx = &scene.ctx;
	struct drm_gmem_query_device info;
	int other = npu_open();
	uint32_t vm;

	npu_ctx_open(ctx);
	scene.bo = npu_bo(ctx, KIB(64), NPU_DEVICE, 0);
	npu_bo_tag(ctx, scene.bo.handle, KIB(64), 1);
	igt_assert_eq(npu_vm_create(ctx->fd, &scene.dead_vm), 0);
	igt_assert_eq(npu_vm_destroy(ctx->fd, scene.dead_vm), 0);
	igt_assert_eq(npu_queue_create(ctx->fd, &scene.dead_queue), 0);
	igt_assert_eq(npu_queue_destroy(ctx->fd, scene.dead_queue), 0);
	igt_assert_eq(npu_bo_create(ctx->fd, KIB(64), NPU_HOST, &scene.dead_bo), 0);
	igt_assert_eq(npu_bo_close(ctx->fd, scene.dead_bo), 0);
	igt_assert_eq(npu_bind_queue_create(ctx->fd, ctx->vm, &scene.bind_queue), 0);
	igt_assert_eq(npu_bind_queue_create(ctx->fd, ctx->vm, &scene.dead_bind_queue), 0);
	igt_assert_eq(npu_bind_queue_destroy(ctx->fd, scene.dead_bind_queue), 0);
	igt_assert_eq(npu_vm_create(ctx->fd, &vm), 0);
	igt_assert_eq(npu_bind_queue_create(ctx->fd, vm, &scene.other_vms_bind_queue), 0);

	/* Another file has more of everything than this one: the last of each is its own alone. */
	for (int i = 0; i < 16; i++) {
		igt_assert_eq(npu_vm_create(other, &scene.others_vm), 0);
		igt_assert_eq(npu_queue_create(other, &scene.others_queue), 0);
		igt_assert_eq(npu_bo_create(other, PAGE, NPU_HOST, &scene.others_bo), 0);
		igt_assert_eq(npu_bind_queue_create(other, scene.others_vm,
						    &scene.others_bind_queue), 0);
	}

	info = npu_device_info(ctx->fd);
	scene.va_start = info.va_start;
	scene.va_end = info.va_end;
	scene.op = npu_op_map(scene.bo.handle, scene.bo.va + KIB(8), 0, KIB(4));
	scene.attr = (struct drm_gmem_attr) { .kind = DRM_GMEM_ATTR_PINNED, .value = 1 };
}

/* A call that would work; for those that would change something it's a change one can see. */
static union arg valid(enum which which)
{
	union arg arg = {};

	switch (which) {
	case VM_DESTROY:
		arg.vm_destroy.vm_id = scene.ctx.vm;
		break;
	case BO_CREATE:
		arg.bo_create.size = KIB(64);
		arg.bo_create.flags = NPU_DEVICE;
		break;
	case BO_MMAP:
		arg.bo_mmap.handle = scene.ctx.cells.handle;
		break;
	case BIND:
		arg.bind.vm_id = scene.ctx.vm;
		arg.bind.num_ops = 1;
		arg.bind.ops = (uintptr_t)&scene.op;
		break;
	case UNBIND:
		arg.unbind.vm_id = scene.ctx.vm;
		arg.unbind.va = scene.bo.va;
		arg.unbind.size = KIB(64);
		break;
	case QUEUE_DESTROY:
		arg.queue_destroy.queue_id = scene.ctx.queue;
		break;
	case SUBMIT:
		arg.submit.queue_id = scene.ctx.queue;
		arg.submit.vm_id = scene.ctx.vm;
		arg.submit.commands = scene.ctx.cmds.va;
		arg.submit.size = 8;
		break;
	case JOB_STATUS:
		arg.job_status.queue_id = scene.ctx.queue;
		break;
	case BIND_QUEUE_CREATE:
		arg.bind_queue_create.vm_id = scene.ctx.vm;
		break;
	case BIND_QUEUE_DESTROY:
		arg.bind_queue_destroy.queue_id = scene.bind_queue;
		break;
	case ADVISE:
		arg.advise.vm_id = scene.ctx.vm;
		arg.advise.va = scene.bo.va;
		arg.advise.size = KIB(64);
		arg.advise.num_attrs = 1;
		arg.advise.attrs = (uintptr_t)&scene.attr;
		break;
	case QUERY_RANGE:
		arg.query_range.vm_id = scene.ctx.vm;
		arg.query_range.va = scene.bo.va;
		arg.query_range.size = KIB(64);
		arg.query_range.num_ranges = 1;
		arg.query_range.ranges = (uintptr_t)&scene.range;
		break;
	case PREFETCH:	/* of what is no mirror: nothing happens */
		arg.prefetch.vm_id = scene.ctx.vm;
		arg.prefetch.va = scene.bo.va;
		arg.prefetch.size = KIB(64);
		break;
	case VM_STATS:
		arg.vm_stats.vm_id = scene.ctx.vm;
		break;
	case DISCARD:	/* as with a prefetch */
		arg.discard.vm_id = scene.ctx.vm;
		arg.discard.va = scene.bo.va;
		arg.discard.size = KIB(64);
		break;
	default:
		break;
	}
	return arg;
}

static uint64_t completed(void)
{
	struct drm_npu_job_status status;

	igt_assert_eq(npu_job_status(scene.ctx.fd, scene.ctx.queue, &status), 0);
	return status.completed;
}

static void snapshot(void)
{
	npu_assert_alive(&scene.ctx);
	scene.mem_free = npu_mem_free(scene.ctx.fd);
	scene.completed = completed();
}

/* All is as it was: memory, mappings, queues, advice. */
static void assert_unchanged(void)
{
	struct drm_gmem_bind_op op = npu_op_unmap(scene.bo.va + KIB(64), PAGE);
	struct drm_gmem_range range;

	igt_assert_eq(npu_ranges(&scene.ctx, scene.bo.va, KIB(64), &range, 1), 1);
	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_PINNED], 0);
	igt_assert_eq(npu_bind_once(&scene.ctx, scene.bind_queue, &op, 1, NULL, 0), 0);
	igt_assert_eq_u64(npu_mem_free(scene.ctx.fd), scene.mem_free);
	igt_assert_eq_u64(completed(), scene.completed);
	npu_assert_tags(&scene.ctx, scene.bo.va, 16, 1, 0);
	npu_assert_unmapped(&scene.ctx, scene.bo.va + KIB(64));
	snapshot();
}

#define FIELD(type, name)	offsetof(struct type, name), sizeof(((struct type *)0)->name)

struct bad {
	size_t offset, size;
	int error;
	enum { VALUE, BITS, VARIABLE } kind;
	uint64_t value;			/* BITS: each of these is tried alone */
	const uint32_t *id;		/* VARIABLE: known when the test runs */
};

#define IS(v, e)	.error = e, .kind = VALUE, .value = v
#define EACH_BIT(v)	.error = -EINVAL, .kind = BITS, .value = v
#define ID(name)	.error = -ENOENT, .kind = VARIABLE, .id = &scene.name

static void try_one(enum which which, const struct bad *bad, uint64_t value)
{
	union arg arg = valid(which);
	int ret;

	memcpy((char *)&arg + bad->offset, &value, bad->size);
	ret = npu_ioctl(scene.ctx.fd, ioctls[which].request, &arg);
	igt_assert_f(ret == bad->error, "%s, field at %zu, value %#llx: %d instead of %d\n",
		     ioctls[which].name, bad->offset, (unsigned long long)value, ret, bad->error);
	igt_assert_eq_u64(npu_mem_free(scene.ctx.fd), scene.mem_free);
}

static void try_field(enum which which, const struct bad *bad)
{
	union arg arg = valid(which);
	uint64_t original = 0;

	memcpy(&original, (char *)&arg + bad->offset, bad->size);
	switch (bad->kind) {
	case VALUE:
		try_one(which, bad, bad->value);
		break;
	case BITS:
		for (int bit = 0; bit < 64; bit++)
			if (bad->value & 1ull << bit)
				try_one(which, bad, original | 1ull << bit);
		break;
	case VARIABLE:
		try_one(which, bad, *bad->id);
		break;
	}
}

#include "npu_bad_fields.h"

/* Ranges whose bounds are known when the test runs. */
static void test_commands_range(void)
{
	union arg arg = valid(SUBMIT);

	arg.submit.commands = scene.va_end - 8;
	arg.submit.size = 16;
	igt_assert_eq(npu_ioctl(scene.ctx.fd, ioctls[SUBMIT].request, &arg), -ERANGE);
	if (scene.va_start) {
		arg.submit.commands = scene.va_start - 8;
		igt_assert_eq(npu_ioctl(scene.ctx.fd, ioctls[SUBMIT].request, &arg), -ERANGE);
		arg = valid(UNBIND);
		arg.unbind.va = scene.va_start - PAGE;
		igt_assert_eq(npu_ioctl(scene.ctx.fd, ioctls[UNBIND].request, &arg), -ERANGE);
		arg = valid(ADVISE);
		arg.advise.va = scene.va_start - PAGE;
		igt_assert_eq(npu_ioctl(scene.ctx.fd, ioctls[ADVISE].request, &arg), -ERANGE);
		arg = valid(QUERY_RANGE);
		arg.query_range.va = scene.va_start - PAGE;
		igt_assert_eq(npu_ioctl(scene.ctx.fd, ioctls[QUERY_RANGE].request, &arg), -ERANGE);
		arg = valid(PREFETCH);
		arg.prefetch.va = scene.va_start - PAGE;
		igt_assert_eq(npu_ioctl(scene.ctx.fd, ioctls[PREFETCH].request, &arg), -ERANGE);
		arg = valid(DISCARD);
		arg.discard.va = scene.va_start - PAGE;
		igt_assert_eq(npu_ioctl(scene.ctx.fd, ioctls[DISCARD].request, &arg), -ERANGE);
	}
}

/* Fields that only the kernel writes don't matter. */
static void test_out_fields(void)
{
	static const enum which calls[] = {
		QUERY_DEVICE, BO_MMAP, JOB_STATUS, QUERY, PREFETCH, VM_STATS, DISCARD,
	};
	int fd = npu_open();

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		union arg arg = valid(calls[i]);

		switch (calls[i]) {
		case QUERY_DEVICE:
			memset(&arg.query_device.page_sizes, 0xff,
			       sizeof(arg.query_device) - offsetof(struct drm_gmem_query_device,
								   page_sizes));
			break;
		case BO_MMAP:
			arg.bo_mmap.offset = ~0ull;
			break;
		case JOB_STATUS:
			arg.job_status.error = ~0u;
			arg.job_status.seqno = ~0ull;
			arg.job_status.detail = ~0ull;
			arg.job_status.reason = ~0u;
			arg.job_status.completed = ~0ull;
			break;
		case PREFETCH:
			arg.prefetch.moved = ~0ull;
			arg.prefetch.mapped = ~0ull;
			break;
		case DISCARD:
			arg.discard.discarded = ~0ull;
			arg.discard.retained = ~0ull;
			break;
		case VM_STATS:
			memset(&arg.vm_stats.faults, 0xff,
			       sizeof(arg.vm_stats) - offsetof(struct drm_gmem_vm_stats, faults));
			break;
		default:
			memset(&arg.query.version, 0xff,
			       sizeof(arg.query) - offsetof(struct drm_npu_query, version));
			break;
		}
		igt_assert_eq(npu_ioctl(scene.ctx.fd, ioctls[calls[i]].request, &arg), 0);
	}

	{
		struct drm_gmem_vm_create vm = { .vm_id = ~0u };
		struct drm_gmem_bo_create bo = { .size = PAGE, .flags = NPU_HOST, .handle = ~0u };
		struct drm_npu_queue_create queue = { .queue_id = ~0u };
		struct drm_gmem_bind_queue_create bind_queue = { .queue_id = ~0u };

		igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_VM_CREATE, &vm), 0);
		igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_BO_CREATE, &bo), 0);
		igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_QUEUE_CREATE, &queue), 0);
		bind_queue.vm_id = vm.vm_id;
		igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_BIND_QUEUE_CREATE, &bind_queue), 0);
		igt_assert_eq(npu_bind_queue_destroy(fd, bind_queue.queue_id), 0);
		igt_assert_eq(npu_vm_destroy(fd, vm.vm_id), 0);
		igt_assert_eq(npu_bo_close(fd, bo.handle), 0);
		igt_assert_eq(npu_queue_destroy(fd, queue.queue_id), 0);
	}
	close(fd);
}

int igt_main()
{
	igt_fixture() {
		scene_open();
		snapshot();
	}

	for (enum which which = 0; which < IOCTLS; which++) {
		igt_describe("Values that a field may not have give their errno and change nothing");
		igt_subtest_f("%s", ioctls[which].name) {
			for (const struct bad *bad = tables[which]; bad->size; bad++)
				try_field(which, bad);
			assert_unchanged();
		}
	}

	igt_describe("Ranges that leave the address space give -ERANGE");
	igt_subtest("ranges") {
		test_commands_range();
		assert_unchanged();
	}

	igt_describe("What stands in fields that the kernel writes doesn't matter");
	igt_subtest("out-fields") {
		test_out_fields();
		assert_unchanged();
	}
}
