/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
#ifndef _UAPI_DRM_GMEM_VM_H_
#define _UAPI_DRM_GMEM_VM_H_

#include <drm/drm.h>

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * DOC: Structures shared by all drivers that embed gmem_vm
 *
 * Each driver gives these structures ioctl numbers of its own; what they mean is
 * the same everywhere, because their handlers live in the framework.
 *
 * Common rules:
 *
 * - Addresses, offsets and sizes are in bytes.
 * - Reserved fields (@pad) must be zero, and flag bits that have no name must be zero:
 *   -EINVAL otherwise.
 * - A user pointer that can't be read or written gives -EFAULT.
 * - An id or handle that doesn't exist gives -ENOENT.
 * - After the device was removed every call gives -ENODEV.
 * - A call that fails has changed nothing. The one exception: if the argument itself can be
 *   read but not written (-EFAULT), what the call created is there, and goes with the file.
 */

/**
 * struct drm_gmem_query_device - what the device can do and what it has
 *
 * All fields are written by the kernel, but @flags and @pad.
 *
 * Errors: -EINVAL.
 */
struct drm_gmem_query_device {
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @pad: reserved, must be zero. */
	__u32 pad;
	/** @page_sizes: bit n is set if the device can map pages of 2^n bytes. */
	__u64 page_sizes;
	/** @va_start: first device address that can be mapped. */
	__u64 va_start;
	/** @va_end: end of the device's address space (exclusive). */
	__u64 va_end;
	/** @mem_total: bytes of device memory, 0 if the device has none. */
	__u64 mem_total;
	/** @mem_visible: bytes of device memory that the CPU can map. */
	__u64 mem_visible;
	/**
	 * @mem_free: bytes of device memory that are free at this moment. Page tables take from
	 * it too, so not all of it can be had as buffer objects.
	 */
	__u64 mem_free;
	/** @caps: bit mask of DRM_GMEM_CAP_*. */
	__u64 caps;
/** @DRM_GMEM_CAP_FAULTS: the device serves page faults, jobs may touch what isn't mapped yet. */
#define DRM_GMEM_CAP_FAULTS		(1ull << 0)
};

/**
 * struct drm_gmem_vm_create - create a device address space
 *
 * A VM belongs to the file that made it and dies with the file. It is empty: the
 * device can reach nothing that wasn't bound into it.
 *
 * Errors: -EINVAL, -ENOMEM (host memory), -ENOSPC (device memory for the page table, or
 * 1024 VMs exist in this file).
 */
struct drm_gmem_vm_create {
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @vm_id: out: id of the VM, unique in this file, never 0. */
	__u32 vm_id;
};

/**
 * struct drm_gmem_vm_destroy - destroy a device address space
 *
 * Ends all its mappings at once; no new jobs can be submitted. Jobs that were submitted before
 * still run, and end with -EFAULT where they touch what is gone.
 *
 * Errors: -EINVAL, -ENOENT.
 */
struct drm_gmem_vm_destroy {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @pad: reserved, must be zero. */
	__u32 pad;
};

/**
 * struct drm_gmem_bo_create - create a buffer object
 *
 * Its contents are zero, whoever owned the memory before.
 *
 * Errors: -EINVAL (flags; size zero, not a multiple of the CPU's and of the device's smallest
 * page size, or above 2^40), -ENOMEM (host memory), -ENOSPC (device memory), -EIO (the device
 * failed to clear its memory), -EOPNOTSUPP (host memory that the device can't reach as it is),
 * -EINTR (killed meanwhile).
 */
struct drm_gmem_bo_create {
	/** @size: bytes, a multiple of the CPU's and of the device's smallest page size. */
	__u64 size;
	/** @flags: exactly one of DEVICE and HOST; CPU_VISIBLE only with DEVICE. */
	__u32 flags;
/** @DRM_GMEM_BO_DEVICE: in device memory. */
#define DRM_GMEM_BO_DEVICE		(1u << 0)
/** @DRM_GMEM_BO_HOST: in host memory. */
#define DRM_GMEM_BO_HOST		(1u << 1)
/**
 * @DRM_GMEM_BO_CPU_VISIBLE: in the part of device memory that the CPU can map; without
 * it bo_mmap of an object in device memory gives -EPERM. -ENOSPC if that part is full or
 * the device has none.
 */
#define DRM_GMEM_BO_CPU_VISIBLE		(1u << 2)
	/** @handle: out: GEM handle, never 0. */
	__u32 handle;
};

/**
 * struct drm_gmem_bo_mmap - get the offset to mmap() a buffer object at
 *
 * The offset is for mmap() on the same device file, MAP_SHARED only (-EINVAL).
 *
 * Errors: -EINVAL, -ENOENT, -EPERM (in device memory and not CPU_VISIBLE).
 */
struct drm_gmem_bo_mmap {
	/** @handle: GEM handle. */
	__u32 handle;
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @offset: out: what to pass to mmap(). */
	__u64 offset;
};

/**
 * struct drm_gmem_bind_op - one operation of an array given to bind
 *
 * MAP_BO replaces whatever was mapped in its range; what it overlaps only in part keeps
 * the rest. UNMAP of a range without mappings is no error.
 *
 * Errors: -EINVAL (unknown op or flag; @va, @size or @bo_offset not a multiple of the smallest
 * page size; @size zero; a field that the op doesn't use not zero), -ERANGE (@va + @size
 * overflows or lies outside the device's address space; @bo_offset + @size beyond the object),
 * -ENOENT (@handle).
 */
struct drm_gmem_bind_op {
	/** @op: one of DRM_GMEM_BIND_OP_*. */
	__u32 op;
/** @DRM_GMEM_BIND_OP_MAP_BO: map [@bo_offset, @bo_offset + @size) of @handle at @va. */
#define DRM_GMEM_BIND_OP_MAP_BO		0
/** @DRM_GMEM_BIND_OP_UNMAP: unmap [@va, @va + @size); @handle, @bo_offset, @flags, @attrs are 0. */
#define DRM_GMEM_BIND_OP_UNMAP		1
	/** @flags: bit mask of DRM_GMEM_BIND_*. */
	__u32 flags;
/** @DRM_GMEM_BIND_READONLY: the device may not write. */
#define DRM_GMEM_BIND_READONLY		(1u << 0)
/** @DRM_GMEM_BIND_EXEC: the device may fetch commands. */
#define DRM_GMEM_BIND_EXEC		(1u << 1)
	/** @handle: GEM handle. */
	__u32 handle;
	/** @pad: reserved, must be zero. */
	__u32 pad;
	/** @va: device address. */
	__u64 va;
	/** @size: bytes. */
	__u64 size;
	/** @bo_offset: where in the object the range begins. */
	__u64 bo_offset;
	/** @attrs: attributes of the driver's own, in its header; unknown ones give -EINVAL. */
	__u64 attrs;
};

/**
 * struct drm_gmem_bind - change the mappings of a VM
 *
 * The operations take effect in order, together: if one can't be done, none is.
 * When the call returns the device uses the new mappings only.
 *
 * Errors: -EINVAL (also: @num_ops zero or above 4096), -ENOENT (VM), -EFAULT, -ENOMEM,
 * -ENOSPC (device memory for page tables), those of the operations, and -EIO if the
 * device didn't confirm the change: the VM is unusable then, and the device was given up,
 * so that all else gives -ENODEV.
 */
struct drm_gmem_bind {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @num_ops: number of operations, 1 to 4096. */
	__u32 num_ops;
	/** @pad: reserved, must be zero. */
	__u32 pad;
	/** @ops: user pointer to an array of struct drm_gmem_bind_op. */
	__u64 ops;
};

/**
 * struct drm_gmem_unbind - unmap a range of a VM
 *
 * The same as a bind of one UNMAP.
 *
 * Errors: as bind.
 */
struct drm_gmem_unbind {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @va: device address, a multiple of the smallest page size. */
	__u64 va;
	/** @size: bytes, a multiple of the smallest page size, not zero. */
	__u64 size;
};

/**
 * struct drm_gmem_sync - a point to wait for or to signal
 */
struct drm_gmem_sync {
	/** @handle: DRM syncobj handle; -ENOENT if it doesn't exist. */
	__u32 handle;
	/** @flags: bit mask of DRM_GMEM_SYNC_*. */
	__u32 flags;
/** @DRM_GMEM_SYNC_SIGNAL: signal it when done; otherwise wait for it before beginning. */
#define DRM_GMEM_SYNC_SIGNAL		(1u << 0)
/** @DRM_GMEM_SYNC_TIMELINE: @point counts. */
#define DRM_GMEM_SYNC_TIMELINE		(1u << 1)
	/**
	 * @point: timeline point, not zero with TIMELINE, zero without (-EINVAL). To wait for a
	 * point that nobody has submitted yet gives -EINVAL, as for any syncobj without a fence.
	 */
	__u64 point;
};

#if defined(__cplusplus)
}
#endif

#endif /* _UAPI_DRM_GMEM_VM_H_ */
