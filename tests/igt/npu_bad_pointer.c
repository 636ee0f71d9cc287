// SPDX-License-Identifier: MIT
/* Bad user pointers, structures of other sizes, and ioctls that don't exist. */

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Bad pointers, sizes and numbers of ioctls");

static const unsigned long requests[] = {
	DRM_IOCTL_NPU_QUERY_DEVICE, DRM_IOCTL_NPU_VM_CREATE, DRM_IOCTL_NPU_VM_DESTROY,
	DRM_IOCTL_NPU_BO_CREATE, DRM_IOCTL_NPU_BO_MMAP, DRM_IOCTL_NPU_BIND,
	DRM_IOCTL_NPU_UNBIND, DRM_IOCTL_NPU_QUEUE_CREATE, DRM_IOCTL_NPU_QUEUE_DESTROY,
	DRM_IOCTL_NPU_SUBMIT, DRM_IOCTL_NPU_JOB_STATUS, DRM_IOCTL_NPU_QUERY,
	DRM_IOCTL_NPU_BIND_QUEUE_CREATE, DRM_IOCTL_NPU_BIND_QUEUE_DESTROY,
	DRM_IOCTL_NPU_ADVISE, DRM_IOCTL_NPU_QUERY_RANGE, DRM_IOCTL_NPU_PREFETCH,
	DRM_IOCTL_NPU_VM_STATS, DRM_IOCTL_NPU_DISCARD,
};

static struct scene {
	struct npu_ctx ctx;
	uint32_t bo;
	uint64_t va;
	uint64_t mem_free;
	char *edge;		/* two pages, of which the second can't be touched */
} scene;

static void scene_open(void)
{
	npu_ctx_open(&scene.ctx);
	igt_assert_eq(npu_bo_create(scene.ctx.fd, KIB(64), NPU_DEVICE, &scene.bo), 0);
	npu_bo_tag(&scene.ctx, scene.bo, KIB(64), 1);
	scene.va = npu_va(&scene.ctx, KIB(64), KIB(64));
	igt_assert_eq(npu_map(scene.ctx.fd, scene.ctx.vm, scene.bo, scene.va, 0, KIB(64), 0), 0);
	npu_assert_alive(&scene.ctx);
	scene.mem_free = npu_mem_free(scene.ctx.fd);
	scene.edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	igt_assert(scene.edge != MAP_FAILED);
	igt_assert_eq(mprotect(scene.edge + PAGE, PAGE, PROT_NONE), 0);
}

static void assert_unchanged(void)
{
	igt_assert_eq_u64(npu_mem_free(scene.ctx.fd), scene.mem_free);
	npu_assert_tags(&scene.ctx, scene.va, 16, 1, 0);
	npu_assert_unmapped(&scene.ctx, scene.va + KIB(64));
}

/* No address that the caller can't read; the last ones are the kernel's. */
static const uint64_t bad_addresses[] = {
	0, 8, 0x7ffffffff000ull, 0x800000000000ull, 0xffff888000000000ull,
	0xffffffff81000000ull, ~0ull << 12, ~7ull,
};

static void test_arg(void)
{
	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		for (size_t j = 0; j < ARRAY_LEN(bad_addresses); j++)
			igt_assert_eq(npu_ioctl(scene.ctx.fd, requests[i],
						(void *)(uintptr_t)bad_addresses[j]), -EFAULT);
		/* Its end can't be read. */
		igt_assert_eq(npu_ioctl(scene.ctx.fd, requests[i], scene.edge + PAGE - 4), -EFAULT);
		igt_assert_eq(npu_ioctl(scene.ctx.fd, requests[i], scene.edge + PAGE), -EFAULT);
	}
}

static void test_ops_pointer(void)
{
	struct drm_gmem_bind_op *ops = (void *)(scene.edge + PAGE - 2 * sizeof(*ops));
	struct drm_gmem_bind bind = { .vm_id = scene.ctx.vm };

	for (size_t i = 0; i < ARRAY_LEN(bad_addresses); i++) {
		static const uint32_t counts[] = { 1, 2, 4096 };

		for (size_t j = 0; j < ARRAY_LEN(counts); j++) {
			bind.ops = bad_addresses[i];
			bind.num_ops = counts[j];
			igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_BIND, &bind), -EFAULT);
		}
	}

	/* Two operations can be read, the third can't: none is done. */
	ops[0] = npu_op_unmap(scene.va, KIB(4));
	ops[1] = npu_op_unmap(scene.va + KIB(8), KIB(4));
	bind.ops = (uintptr_t)ops;
	for (bind.num_ops = 3; bind.num_ops < 4096; bind.num_ops *= 5)
		igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_BIND, &bind), -EFAULT);
	assert_unchanged();

	/* An array needn't be aligned. */
	ops = memmove((char *)ops - 3, ops, 2 * sizeof(*ops));
	bind.ops = (uintptr_t)ops;
	bind.num_ops = 2;
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_BIND, &bind), 0);
	npu_assert_unmapped(&scene.ctx, scene.va);
	igt_assert_eq(npu_map(scene.ctx.fd, scene.ctx.vm, scene.bo, scene.va, 0, KIB(64), 0), 0);
}

static void test_syncs_pointer(void)
{
	struct drm_gmem_sync *syncs = (void *)(scene.edge + PAGE - sizeof(*syncs));
	struct npu_cb cb = npu_begin(&scene.ctx);
	struct drm_npu_submit submit;
	uint32_t done;

	npu_cmd_nop(&cb);
	submit = (struct drm_npu_submit) {
		.queue_id = scene.ctx.queue, .vm_id = scene.ctx.vm, .commands = cb.va, .size = 8,
	};
	for (size_t i = 0; i < ARRAY_LEN(bad_addresses); i++) {
		submit.syncs = bad_addresses[i];
		for (submit.num_syncs = 1; submit.num_syncs <= 64; submit.num_syncs += 21)
			igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_SUBMIT, &submit), -EFAULT);
	}
	igt_assert_eq(npu_syncobj_create(scene.ctx.fd, 0, &done), 0);
	syncs[0] = npu_signal(done);
	submit.syncs = (uintptr_t)syncs;
	submit.num_syncs = 2;
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_SUBMIT, &submit), -EFAULT);
	igt_assert_eq(npu_syncobj_poll(scene.ctx.fd, done), -EINVAL);
	submit.num_syncs = 1;
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_SUBMIT, &submit), 0);
	scene.ctx.seqno++;
	igt_assert_eq(npu_fence_result(scene.ctx.fd, done), 0);
}

/* The same for a bind: no operation is done either. */
static void test_bind_syncs_pointer(void)
{
	struct drm_gmem_sync *syncs = (void *)(scene.edge + PAGE - sizeof(*syncs));
	struct drm_gmem_bind_op op = npu_op_unmap(scene.va, KIB(4));
	struct drm_gmem_bind bind = {
		.vm_id = scene.ctx.vm, .num_ops = 1, .ops = (uintptr_t)&op,
	};
	uint32_t done = npu_syncobj(scene.ctx.fd, 0);

	for (bind.flags = 0; bind.flags <= DRM_GMEM_BIND_ASYNC; bind.flags++) {
		for (size_t i = 0; i < ARRAY_LEN(bad_addresses); i++) {
			bind.syncs = bad_addresses[i];
			for (bind.num_syncs = 1; bind.num_syncs <= 64; bind.num_syncs += 21)
				igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_BIND, &bind),
					      -EFAULT);
		}
		syncs[0] = npu_signal(done);
		bind.syncs = (uintptr_t)syncs;
		bind.num_syncs = 2;
		igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_BIND, &bind), -EFAULT);
		igt_assert_eq(npu_syncobj_poll(scene.ctx.fd, done), -EINVAL);
		assert_unchanged();
	}

	/* An array needn't be aligned. */
	syncs = memmove((char *)syncs - 3, syncs, sizeof(*syncs));
	bind.flags = DRM_GMEM_BIND_ASYNC;
	bind.syncs = (uintptr_t)syncs;
	bind.num_syncs = 1;
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_BIND, &bind), 0);
	igt_assert_eq(npu_fence_result(scene.ctx.fd, done), 0);
	npu_assert_unmapped(&scene.ctx, scene.va);
	igt_assert_eq(npu_map(scene.ctx.fd, scene.ctx.vm, scene.bo, scene.va, 0, KIB(64), 0), 0);
}

static void test_attrs_pointer(void)
{
	struct drm_gmem_attr *attrs = (void *)(scene.edge + PAGE - sizeof(*attrs));
	struct drm_gmem_advise advise = { .vm_id = scene.ctx.vm, .va = scene.va, .size = PAGE };
	struct drm_gmem_range range;

	*attrs = (struct drm_gmem_attr) { .kind = DRM_GMEM_ATTR_PINNED, .value = 1 };
	for (size_t i = 0; i <= ARRAY_LEN(bad_addresses); i++) {
		/* At last one that can be read and one that can't. */
		advise.attrs = i < ARRAY_LEN(bad_addresses) ? bad_addresses[i] : (uintptr_t)attrs;
		for (advise.num_attrs = 2; advise.num_attrs <= 64; advise.num_attrs += 31)
			igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_ADVISE, &advise),
				      -EFAULT);
	}
	igt_assert_eq(npu_ranges(&scene.ctx, scene.va, KIB(64), &range, 1), 1);
	igt_assert_eq_u64(range.advice[DRM_GMEM_ATTR_PINNED], 0);

	attrs = memmove((char *)attrs - 3, attrs, sizeof(*attrs));
	advise.attrs = (uintptr_t)attrs;
	advise.num_attrs = 1;
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_ADVISE, &advise), 0);
	igt_assert_eq_u64(npu_range_at(&scene.ctx, scene.va).advice[DRM_GMEM_ATTR_PINNED], 1);
	igt_assert_eq(npu_advise(scene.ctx.fd, scene.ctx.vm, scene.va, PAGE, DRM_GMEM_ADVISE_RESET,
				 NULL, 0), 0);
}

static void test_ranges_pointer(void)
{
	struct drm_npu_range *ranges = (void *)(scene.edge + PAGE - sizeof(*ranges));
	struct npu_cb cb = npu_begin(&scene.ctx);
	struct drm_gmem_sync sync;
	struct drm_npu_submit submit;
	uint32_t done = npu_syncobj(scene.ctx.fd, 0);

	npu_cmd_nop(&cb);
	sync = npu_signal(done);
	submit = (struct drm_npu_submit) {
		.queue_id = scene.ctx.queue, .vm_id = scene.ctx.vm, .commands = cb.va, .size = 8,
		.num_syncs = 1, .syncs = (uintptr_t)&sync,
	};
	*ranges = (struct drm_npu_range) { .va = scene.va, .size = KIB(64) };
	for (size_t i = 0; i <= ARRAY_LEN(bad_addresses); i++) {
		/* At last one that can be read and one that can't. */
		submit.ranges = i < ARRAY_LEN(bad_addresses) ? bad_addresses[i] : (uintptr_t)ranges;
		for (submit.num_ranges = 2; submit.num_ranges <= 1024; submit.num_ranges += 511)
			igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_SUBMIT, &submit),
				      -EFAULT);
	}
	igt_assert_eq(npu_syncobj_poll(scene.ctx.fd, done), -EINVAL);

	ranges = memmove((char *)ranges - 3, ranges, sizeof(*ranges));
	submit.ranges = (uintptr_t)ranges;
	submit.num_ranges = 1;
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_SUBMIT, &submit), 0);
	scene.ctx.seqno++;
	igt_assert_eq(npu_fence_result(scene.ctx.fd, done), 0);
}

/* Structures that the caller can read but not write. */
static void test_readonly(void)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct drm_gmem_bind_op op = npu_op_unmap(scene.va + KIB(64), PAGE);
	struct drm_gmem_bind bind = { .vm_id = scene.ctx.vm, .num_ops = 1 };
	struct drm_gmem_query_range query = {
		.vm_id = scene.ctx.vm, .va = scene.va, .size = PAGE, .num_ranges = 1,
	};
	struct drm_gmem_range range;

	igt_assert(page != MAP_FAILED);
	memcpy(page, &op, sizeof(op));
	igt_assert_eq(mprotect(page, PAGE, PROT_READ), 0);
	bind.ops = (uintptr_t)page;
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_BIND, &bind), 0);

	igt_assert_eq(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
	memset(page, 0, PAGE);
	igt_assert_eq(mprotect(page, PAGE, PROT_READ), 0);
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_QUERY_DEVICE, page), -EFAULT);
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_QUERY, page), -EFAULT);

	igt_assert_eq(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
	query.ranges = (uintptr_t)&range;
	memcpy(page, &query, sizeof(query));
	igt_assert_eq(mprotect(page, PAGE, PROT_READ), 0);
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IOCTL_NPU_QUERY_RANGE, page), -EFAULT);
	igt_assert_eq(munmap(page, PAGE), 0);
}

static unsigned long resized(unsigned long request, size_t size)
{
	return (request & ~((unsigned long)_IOC_SIZEMASK << _IOC_SIZESHIFT)) |
	       (unsigned long)size << _IOC_SIZESHIFT;
}

/* A structure that ends early counts as if zeros followed, and nothing beyond it is written. */
static void test_truncated(void)
{
	union {
		struct drm_gmem_query_device device;
		struct drm_npu_query query;
		struct drm_gmem_bo_create bo;
		struct drm_gmem_bind bind;
		struct drm_gmem_bo_mmap mmap;
		struct drm_npu_submit submit;
		struct drm_gmem_unbind unbind;
		struct drm_gmem_bind_queue_create bind_queue;
		struct drm_gmem_advise advise;
		struct drm_gmem_query_range range;
		uint8_t bytes[256];
	} arg;
	int fd = scene.ctx.fd;
	struct drm_gmem_bind_op op;
	struct npu_cb cb;

	for (size_t size = 0; size < sizeof(struct drm_gmem_query_device); size += 8) {
		memset(&arg, 0xee, sizeof(arg));
		memset(&arg, 0, size);
		igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_QUERY_DEVICE, size), &arg), 0);
		for (size_t i = size; i < sizeof(arg); i++)
			igt_assert_eq(arg.bytes[i], 0xee);
	}
	for (size_t size = 0; size < sizeof(struct drm_npu_query); size += 4) {
		memset(&arg, 0xee, sizeof(arg));
		memset(&arg, 0, size);
		igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_QUERY, size), &arg), 0);
		for (size_t i = size; i < sizeof(arg); i++)
			igt_assert_eq(arg.bytes[i], 0xee);
	}

	arg.bo = (struct drm_gmem_bo_create) { .size = PAGE, .flags = NPU_DEVICE };
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BO_CREATE, 8), &arg), -EINVAL);
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BO_CREATE, 0), &arg), -EINVAL);
	arg.bind = (struct drm_gmem_bind) { .vm_id = scene.ctx.vm, .num_ops = 1, .ops = 4096 };
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BIND, 16), &arg), -EFAULT);
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BIND, 8), &arg), -EINVAL);

	/* Without syncs and a queue a bind ends before them. */
	op = npu_op_unmap(scene.va + KIB(64), PAGE);
	arg.bind = (struct drm_gmem_bind) {
		.vm_id = scene.ctx.vm, .num_ops = 1, .ops = (uintptr_t)&op,
		.syncs = ~0ull, .queue_id = ~0u, .pad = ~0u,
	};
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BIND, 24), &arg), 0);
	arg.bind.num_syncs = 1;
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BIND, 24), &arg), -EFAULT);

	arg.bind_queue = (struct drm_gmem_bind_queue_create) { .vm_id = scene.ctx.vm };
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BIND_QUEUE_CREATE, 0), &arg), -ENOENT);

	/* Without attributes an advise can only reset. */
	arg.advise = (struct drm_gmem_advise) {
		.vm_id = scene.ctx.vm, .va = scene.va, .size = PAGE,
		.num_attrs = ~0u, .pad = ~0u, .attrs = ~0ull,
	};
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_ADVISE, 24), &arg), -EINVAL);
	arg.advise.flags = DRM_GMEM_ADVISE_RESET;
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_ADVISE, 24), &arg), 0);
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_ADVISE, 16), &arg), -EINVAL);

	arg.range = (struct drm_gmem_query_range) {
		.vm_id = scene.ctx.vm, .va = scene.va, .size = PAGE, .num_ranges = 1,
	};
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_QUERY_RANGE, 32), &arg), -EFAULT);
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_QUERY_RANGE, 24), &arg), -EINVAL);
	arg.mmap = (struct drm_gmem_bo_mmap) { .handle = scene.ctx.cells.handle };
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BO_MMAP, 4), &arg), 0);
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_BO_MMAP, 0), &arg), -ENOENT);
	arg.unbind = (struct drm_gmem_unbind) {
		.vm_id = scene.ctx.vm, .va = scene.va, .size = PAGE,
	};
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_UNBIND, 16), &arg), -EINVAL);

	/* Without syncs a submit ends before them. */
	cb = npu_begin(&scene.ctx);
	npu_cmd_nop(&cb);
	arg.submit = (struct drm_npu_submit) {
		.queue_id = scene.ctx.queue, .vm_id = scene.ctx.vm, .commands = cb.va, .size = 8,
		.flags = 0, .num_syncs = ~0u, .num_ranges = ~0u, .syncs = ~0ull, .ranges = ~0ull,
	};
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_SUBMIT, 24), &arg), 0);
	scene.ctx.seqno++;
	igt_assert_eq(npu_ioctl(fd, resized(DRM_IOCTL_NPU_SUBMIT, 16), &arg), -EINVAL);
	npu_assert_alive(&scene.ctx);
}

/* What follows a structure is none of the driver's business. */
static void test_oversize(void)
{
	uint8_t arg[512];

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct drm_gmem_query_device *device = (void *)arg;

		if (requests[i] != DRM_IOCTL_NPU_QUERY_DEVICE && requests[i] != DRM_IOCTL_NPU_QUERY)
			continue;
		memset(arg, 0x77, sizeof(arg));
		memset(arg, 0, _IOC_SIZE(requests[i]));
		igt_assert_eq(npu_ioctl(scene.ctx.fd, resized(requests[i], sizeof(arg)), arg), 0);
		if (requests[i] == DRM_IOCTL_NPU_QUERY_DEVICE)
			igt_assert_eq_u64(device->mem_free, scene.mem_free);
	}
	memset(arg, 0x77, sizeof(arg));
	memset(arg, 0, sizeof(struct drm_gmem_vm_destroy));
	igt_assert_eq(npu_ioctl(scene.ctx.fd, resized(DRM_IOCTL_NPU_VM_DESTROY, sizeof(arg)), arg),
		      -ENOENT);
}

/* Numbers behind the last, other types, other directions. */
static void test_unknown(void)
{
	uint8_t arg[256] = {};

	for (unsigned int nr = DRM_NPU_DISCARD + 1; nr < DRM_COMMAND_END - DRM_COMMAND_BASE; nr++) {
		igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IO(DRM_COMMAND_BASE + nr), arg), -EINVAL);
		igt_assert_eq(npu_ioctl(scene.ctx.fd, _IOC(_IOC_READ | _IOC_WRITE, DRM_IOCTL_BASE,
							   DRM_COMMAND_BASE + nr, 64), arg), -EINVAL);
	}
	igt_assert_eq(npu_ioctl(scene.ctx.fd, _IOWR('x', DRM_COMMAND_BASE, uint64_t), arg), -ENOTTY);

	/* Without a direction nothing is copied in: all is zero. */
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IO(DRM_COMMAND_BASE + DRM_NPU_VM_DESTROY), arg),
		      -ENOENT);
	igt_assert_eq(npu_ioctl(scene.ctx.fd, DRM_IO(DRM_COMMAND_BASE + DRM_NPU_QUERY_DEVICE), arg),
		      0);
}

int igt_main()
{
	static const struct {
		const char *name, *what;
		void (*run)(void);
	} tests[] = {
		{ "arg", "A structure that can't be read gives -EFAULT", test_arg },
		{ "ops", "Operations that can't be read give -EFAULT, and none is done",
		  test_ops_pointer },
		{ "syncs", "Syncs that can't be read give -EFAULT, and none is signalled",
		  test_syncs_pointer },
		{ "bind-syncs", "Syncs of a bind that can't be read give -EFAULT",
		  test_bind_syncs_pointer },
		{ "attrs", "Attributes that can't be read give -EFAULT, and none is set",
		  test_attrs_pointer },
		{ "ranges", "Ranges of a submit that can't be read give -EFAULT",
		  test_ranges_pointer },
		{ "readonly", "A result that can't be written gives -EFAULT", test_readonly },
		{ "truncated", "Shorter structures count as filled up with zeros", test_truncated },
		{ "oversize", "Longer structures are taken for what is known of them", test_oversize },
		{ "unknown", "Ioctls that don't exist are refused", test_unknown },
	};

	igt_fixture()
		scene_open();

	for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
		igt_describe(tests[i].what);
		igt_subtest_f("%s", tests[i].name) {
			tests[i].run();
			assert_unchanged();
		}
	}
}
