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
	QUEUE_CREATE, QUEUE_DESTROY, SUBMIT, JOB_STATUS, QUERY, IOCTLS,
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
};

/* What bad values are made of. */
static struct scene {
	struct npu_ctx ctx;
	struct npu_bo bo;		/* 64 KiB of tagged device memory, mapped */
	uint32_t dead_vm, dead_queue, dead_bo;
	uint32_t others_vm, others_queue, others_bo;
	uint64_t va_start, va_end;
	uint64_t mem_free;
	uint64_t completed;
	struct drm_gmem_bind_op op;
} scene;

static void scene_open(void)
{
	struct npu_ctx *ctx = &scene.ctx;
	struct drm_gmem_query_device info;
	int other = npu_open();

	npu_ctx_open(ctx);
	scene.bo = npu_bo(ctx, KIB(64), NPU_DEVICE, 0);
	npu_bo_tag(ctx, scene.bo.handle, KIB(64), 1);
	igt_assert_eq(npu_vm_create(ctx->fd, &scene.dead_vm), 0);
	igt_assert_eq(npu_vm_destroy(ctx->fd, scene.dead_vm), 0);
	igt_assert_eq(npu_queue_create(ctx->fd, &scene.dead_queue), 0);
	igt_assert_eq(npu_queue_destroy(ctx->fd, scene.dead_queue), 0);
	igt_assert_eq(npu_bo_create(ctx->fd, KIB(64), NPU_HOST, &scene.dead_bo), 0);
	igt_assert_eq(npu_bo_close(ctx->fd, scene.dead_bo), 0);

	/* Another file has more of everything than this one: the last of each is its own alone. */
	for (int i = 0; i < 16; i++) {
		igt_assert_eq(npu_vm_create(other, &scene.others_vm), 0);
		igt_assert_eq(npu_queue_create(other, &scene.others_queue), 0);
		igt_assert_eq(npu_bo_create(other, PAGE, NPU_HOST, &scene.others_bo), 0);
	}

	info = npu_device_info(ctx->fd);
	scene.va_start = info.va_start;
	scene.va_end = info.va_end;
	scene.op = npu_op_map(scene.bo.handle, scene.bo.va + KIB(8), 0, KIB(4));
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

/* All is as it was: memory, mappings, queue. */
static void assert_unchanged(void)
{
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

#define ALL32	0xffffffffull

static const struct bad query_device[] = {
	{ FIELD(drm_gmem_query_device, flags), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_query_device, pad), EACH_BIT(ALL32) },
	{}
};

static const struct bad vm_create[] = {
	{ FIELD(drm_gmem_vm_create, flags), EACH_BIT(ALL32) },
	{}
};

static const struct bad vm_destroy[] = {
	{ FIELD(drm_gmem_vm_destroy, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_vm_destroy, vm_id), IS(0x12345, -ENOENT) },
	{ FIELD(drm_gmem_vm_destroy, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_vm_destroy, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_vm_destroy, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_vm_destroy, pad), EACH_BIT(ALL32) },
	{}
};

static const struct bad bo_create[] = {
	{ FIELD(drm_gmem_bo_create, size), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(1, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(4095, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(4097, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(65536 + 8, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS((1ull << 40) + 4096, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(1ull << 41, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(1ull << 63, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(~0ull << 12, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(~0ull, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, size), IS(1ull << 40, -ENOSPC) },
	{ FIELD(drm_gmem_bo_create, flags), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), IS(3, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), IS(4, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), IS(6, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), IS(7, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), EACH_BIT(ALL32 & ~7ull) },
	{}
};

static const struct bad bo_mmap[] = {
	{ FIELD(drm_gmem_bo_mmap, handle), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_bo_mmap, handle), IS(0x12345, -ENOENT) },
	{ FIELD(drm_gmem_bo_mmap, handle), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_bo_mmap, handle), ID(dead_bo) },
	{ FIELD(drm_gmem_bo_mmap, handle), ID(others_bo) },
	{ FIELD(drm_gmem_bo_mmap, handle), .error = -EPERM, .kind = VARIABLE,
	  .id = &scene.bo.handle },
	{ FIELD(drm_gmem_bo_mmap, flags), EACH_BIT(ALL32) },
	{}
};

static const struct bad bind[] = {
	{ FIELD(drm_gmem_bind, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_bind, vm_id), IS(0x12345, -ENOENT) },
	{ FIELD(drm_gmem_bind, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_bind, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_bind, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_bind, flags), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_bind, num_ops), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_ops), IS(4097, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_ops), IS(1u << 31, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_ops), IS(ALL32, -EINVAL) },
	{ FIELD(drm_gmem_bind, pad), EACH_BIT(ALL32) },
	{}
};

static const struct bad unbind[] = {
	{ FIELD(drm_gmem_unbind, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_unbind, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_unbind, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_unbind, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_unbind, flags), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_unbind, va), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_unbind, va), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_unbind, va), IS((1ull << 48) - KIB(60), -ERANGE) },
	{ FIELD(drm_gmem_unbind, va), IS(1ull << 63, -ERANGE) },
	{ FIELD(drm_gmem_unbind, va), IS(~0ull << 12, -ERANGE) },
	{ FIELD(drm_gmem_unbind, size), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_unbind, size), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_unbind, size), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_unbind, size), IS(1ull << 63, -ERANGE) },
	{ FIELD(drm_gmem_unbind, size), IS(~0ull << 12, -ERANGE) },
	{}
};

static const struct bad queue_create[] = {
	{ FIELD(drm_npu_queue_create, flags), EACH_BIT(ALL32) },
	{}
};

static const struct bad queue_destroy[] = {
	{ FIELD(drm_npu_queue_destroy, queue_id), IS(0, -ENOENT) },
	{ FIELD(drm_npu_queue_destroy, queue_id), IS(0x12345, -ENOENT) },
	{ FIELD(drm_npu_queue_destroy, queue_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_npu_queue_destroy, queue_id), ID(dead_queue) },
	{ FIELD(drm_npu_queue_destroy, queue_id), ID(others_queue) },
	{ FIELD(drm_npu_queue_destroy, pad), EACH_BIT(ALL32) },
	{}
};

static const struct bad submit[] = {
	{ FIELD(drm_npu_submit, queue_id), IS(0, -ENOENT) },
	{ FIELD(drm_npu_submit, queue_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_npu_submit, queue_id), ID(dead_queue) },
	{ FIELD(drm_npu_submit, queue_id), ID(others_queue) },
	{ FIELD(drm_npu_submit, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_npu_submit, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_npu_submit, vm_id), ID(dead_vm) },
	{ FIELD(drm_npu_submit, vm_id), ID(others_vm) },
	{ FIELD(drm_npu_submit, commands), EACH_BIT(7) },
	{ FIELD(drm_npu_submit, commands), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_npu_submit, commands), IS(1ull << 63, -ERANGE) },
	{ FIELD(drm_npu_submit, commands), IS(~7ull, -ERANGE) },
	{ FIELD(drm_npu_submit, size), IS(0, -EINVAL) },
	{ FIELD(drm_npu_submit, size), EACH_BIT(7) },
	{ FIELD(drm_npu_submit, size), IS(MIB(1) + 8, -EINVAL) },
	{ FIELD(drm_npu_submit, size), IS(MIB(2), -EINVAL) },
	{ FIELD(drm_npu_submit, size), IS(1u << 31, -EINVAL) },
	{ FIELD(drm_npu_submit, size), IS(ALL32 & ~7ull, -EINVAL) },
	{ FIELD(drm_npu_submit, flags), EACH_BIT(ALL32) },
	{ FIELD(drm_npu_submit, num_syncs), IS(65, -EINVAL) },
	{ FIELD(drm_npu_submit, num_syncs), IS(1u << 31, -EINVAL) },
	{ FIELD(drm_npu_submit, num_syncs), IS(ALL32, -EINVAL) },
	{ FIELD(drm_npu_submit, num_syncs), IS(1, -EFAULT) },	/* syncs is 0 */
	{ FIELD(drm_npu_submit, pad), EACH_BIT(ALL32) },
	{ FIELD(drm_npu_submit, syncs), EACH_BIT(0x8000000000001001ull) },
	{}
};

static const struct bad job_status[] = {
	{ FIELD(drm_npu_job_status, queue_id), IS(0, -ENOENT) },
	{ FIELD(drm_npu_job_status, queue_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_npu_job_status, queue_id), ID(dead_queue) },
	{ FIELD(drm_npu_job_status, queue_id), ID(others_queue) },
	{ FIELD(drm_npu_job_status, pad), EACH_BIT(ALL32) },
	{}
};

static const struct bad query[] = {
	{ FIELD(drm_npu_query, flags), EACH_BIT(ALL32) },
	{}
};

static const struct bad *const tables[IOCTLS] = {
	query_device, vm_create, vm_destroy, bo_create, bo_mmap, bind, unbind,
	queue_create, queue_destroy, submit, job_status, query,
};

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
	}
}

/* Fields that only the kernel writes don't matter. */
static void test_out_fields(void)
{
	static const enum which calls[] = { QUERY_DEVICE, BO_MMAP, JOB_STATUS, QUERY };
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

		igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_VM_CREATE, &vm), 0);
		igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_BO_CREATE, &bo), 0);
		igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_QUEUE_CREATE, &queue), 0);
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
