/* SPDX-License-Identifier: MIT */
#ifndef NPU_BAD_FIELDS_H
#define NPU_BAD_FIELDS_H

/*
 * What each field of each ioctl may not be, and the errno that it gives. Only for
 * npu_bad_input.c, in the middle of which it's included.
 */

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
	{ FIELD(drm_gmem_bo_create, flags), IS(8, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), IS(10, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), IS(12, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), IS(15, -EINVAL) },
	{ FIELD(drm_gmem_bo_create, flags), EACH_BIT(ALL32 & ~15ull) },
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
	{ FIELD(drm_gmem_bind, flags), EACH_BIT(ALL32 & ~DRM_GMEM_BIND_ASYNC) },
	{ FIELD(drm_gmem_bind, num_ops), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_ops), IS(4097, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_ops), IS(1u << 31, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_ops), IS(ALL32, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_syncs), IS(65, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_syncs), IS(1u << 31, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_syncs), IS(ALL32, -EINVAL) },
	{ FIELD(drm_gmem_bind, num_syncs), IS(1, -EFAULT) },	/* syncs is 0 */
	{ FIELD(drm_gmem_bind, ops), IS(0, -EFAULT) },
	{ FIELD(drm_gmem_bind, syncs), EACH_BIT(0x8000000000001001ull) },
	{ FIELD(drm_gmem_bind, queue_id), IS(0x12345, -ENOENT) },
	{ FIELD(drm_gmem_bind, queue_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_bind, queue_id), ID(dead_bind_queue) },
	{ FIELD(drm_gmem_bind, queue_id), ID(others_bind_queue) },
	{ FIELD(drm_gmem_bind, queue_id), ID(other_vms_bind_queue) },
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
	{ FIELD(drm_npu_submit, num_ranges), IS(1025, -EINVAL) },
	{ FIELD(drm_npu_submit, num_ranges), IS(1u << 31, -EINVAL) },
	{ FIELD(drm_npu_submit, num_ranges), IS(ALL32, -EINVAL) },
	{ FIELD(drm_npu_submit, num_ranges), IS(1, -EFAULT) },	/* ranges is 0 */
	{ FIELD(drm_npu_submit, syncs), EACH_BIT(0x8000000000001001ull) },
	{ FIELD(drm_npu_submit, ranges), EACH_BIT(0x8000000000001001ull) },
	{}
};

static const struct bad job_status[] = {
	{ FIELD(drm_npu_job_status, queue_id), IS(0, -ENOENT) },
	{ FIELD(drm_npu_job_status, queue_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_npu_job_status, queue_id), ID(dead_queue) },
	{ FIELD(drm_npu_job_status, queue_id), ID(others_queue) },
	{ FIELD(drm_npu_job_status, access), EACH_BIT(ALL32) },
	{}
};

static const struct bad query[] = {
	{ FIELD(drm_npu_query, flags), EACH_BIT(ALL32) },
	{}
};

static const struct bad bind_queue_create[] = {
	{ FIELD(drm_gmem_bind_queue_create, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_bind_queue_create, vm_id), IS(0x12345, -ENOENT) },
	{ FIELD(drm_gmem_bind_queue_create, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_bind_queue_create, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_bind_queue_create, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_bind_queue_create, flags), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_bind_queue_create, pad), EACH_BIT(ALL32) },
	{}
};

static const struct bad bind_queue_destroy[] = {
	{ FIELD(drm_gmem_bind_queue_destroy, queue_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_bind_queue_destroy, queue_id), IS(0x12345, -ENOENT) },
	{ FIELD(drm_gmem_bind_queue_destroy, queue_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_bind_queue_destroy, queue_id), ID(dead_bind_queue) },
	{ FIELD(drm_gmem_bind_queue_destroy, queue_id), ID(others_bind_queue) },
	{ FIELD(drm_gmem_bind_queue_destroy, pad), EACH_BIT(ALL32) },
	{}
};

static const struct bad advise[] = {
	{ FIELD(drm_gmem_advise, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_advise, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_advise, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_advise, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_advise, flags), EACH_BIT(ALL32 & ~DRM_GMEM_ADVISE_RESET) },
	{ FIELD(drm_gmem_advise, va), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_advise, va), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_advise, va), IS((1ull << 48) - KIB(60), -ERANGE) },
	{ FIELD(drm_gmem_advise, va), IS(1ull << 63, -ERANGE) },
	{ FIELD(drm_gmem_advise, va), IS(~0ull << 12, -ERANGE) },
	{ FIELD(drm_gmem_advise, size), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_advise, size), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_advise, size), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_advise, size), IS(~0ull << 12, -ERANGE) },
	{ FIELD(drm_gmem_advise, num_attrs), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_advise, num_attrs), IS(65, -EINVAL) },
	{ FIELD(drm_gmem_advise, num_attrs), IS(1u << 31, -EINVAL) },
	{ FIELD(drm_gmem_advise, num_attrs), IS(ALL32, -EINVAL) },
	{ FIELD(drm_gmem_advise, pad), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_advise, attrs), IS(0, -EFAULT) },
	{ FIELD(drm_gmem_advise, attrs), IS(~7ull, -EFAULT) },
	{}
};

static const struct bad query_range[] = {
	{ FIELD(drm_gmem_query_range, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_query_range, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_query_range, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_query_range, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_query_range, flags), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_query_range, va), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_query_range, va), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_query_range, va), IS((1ull << 48) - KIB(60), -ERANGE) },
	{ FIELD(drm_gmem_query_range, va), IS(1ull << 63, -ERANGE) },
	{ FIELD(drm_gmem_query_range, va), IS(~0ull << 12, -ERANGE) },
	{ FIELD(drm_gmem_query_range, size), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_query_range, size), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_query_range, size), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_query_range, size), IS(~0ull << 12, -ERANGE) },
	{ FIELD(drm_gmem_query_range, num_ranges), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_query_range, num_ranges), IS(65537, -EINVAL) },
	{ FIELD(drm_gmem_query_range, num_ranges), IS(1u << 31, -EINVAL) },
	{ FIELD(drm_gmem_query_range, num_ranges), IS(ALL32, -EINVAL) },
	{ FIELD(drm_gmem_query_range, pad), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_query_range, ranges), IS(0, -EFAULT) },
	{ FIELD(drm_gmem_query_range, ranges), IS(~7ull, -EFAULT) },
	{}
};

static const struct bad prefetch[] = {
	{ FIELD(drm_gmem_prefetch, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_prefetch, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_prefetch, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_prefetch, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_prefetch, flags), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_prefetch, va), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_prefetch, va), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_prefetch, va), IS((1ull << 48) - KIB(60), -ERANGE) },
	{ FIELD(drm_gmem_prefetch, va), IS(1ull << 63, -ERANGE) },
	{ FIELD(drm_gmem_prefetch, va), IS(~0ull << 12, -ERANGE) },
	{ FIELD(drm_gmem_prefetch, size), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_prefetch, size), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_prefetch, size), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_prefetch, size), IS(~0ull << 12, -ERANGE) },
	{ FIELD(drm_gmem_prefetch, location), EACH_BIT(ALL32) },
	{ FIELD(drm_gmem_prefetch, location), IS(DRM_GMEM_LOCATION_HOST | 1, -EINVAL) },
	{ FIELD(drm_gmem_prefetch, location), IS(DRM_GMEM_LOCATION_HOST_NODE(0), -EINVAL) },
	{ FIELD(drm_gmem_prefetch, location), IS(DRM_GMEM_LOCATION_HOST_NODE(1), -EINVAL) },
	{ FIELD(drm_gmem_prefetch, location), IS(4ull << 32, -EINVAL) },
	{ FIELD(drm_gmem_prefetch, location), IS(1ull << 63, -EINVAL) },
	{ FIELD(drm_gmem_prefetch, location), IS(~0ull, -EINVAL) },
	{}
};

static const struct bad vm_stats[] = {
	{ FIELD(drm_gmem_vm_stats, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_vm_stats, vm_id), IS(0x12345, -ENOENT) },
	{ FIELD(drm_gmem_vm_stats, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_vm_stats, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_vm_stats, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_vm_stats, flags), EACH_BIT(ALL32) },
	{}
};

static const struct bad discard[] = {
	{ FIELD(drm_gmem_discard, vm_id), IS(0, -ENOENT) },
	{ FIELD(drm_gmem_discard, vm_id), IS(ALL32, -ENOENT) },
	{ FIELD(drm_gmem_discard, vm_id), ID(dead_vm) },
	{ FIELD(drm_gmem_discard, vm_id), ID(others_vm) },
	{ FIELD(drm_gmem_discard, flags), EACH_BIT(ALL32 & ~3ull) },
	{ FIELD(drm_gmem_discard, flags), IS(DRM_GMEM_DISCARD_UNDO | DRM_GMEM_DISCARD_PREFETCH, -EINVAL) },
	{ FIELD(drm_gmem_discard, va), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_discard, va), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_discard, va), IS((1ull << 48) - KIB(60), -ERANGE) },
	{ FIELD(drm_gmem_discard, va), IS(1ull << 63, -ERANGE) },
	{ FIELD(drm_gmem_discard, va), IS(~0ull << 12, -ERANGE) },
	{ FIELD(drm_gmem_discard, size), IS(0, -EINVAL) },
	{ FIELD(drm_gmem_discard, size), EACH_BIT(0xfff) },
	{ FIELD(drm_gmem_discard, size), IS(1ull << 48, -ERANGE) },
	{ FIELD(drm_gmem_discard, size), IS(~0ull << 12, -ERANGE) },
	{}
};

static const struct bad *const tables[IOCTLS] = {
	query_device, vm_create, vm_destroy, bo_create, bo_mmap, bind, unbind,
	queue_create, queue_destroy, submit, job_status, query,
	bind_queue_create, bind_queue_destroy, advise, query_range, prefetch, vm_stats,
	discard,
};

#endif /* NPU_BAD_FIELDS_H */
