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
 * - A call that fails has changed nothing. The exceptions: if the argument itself can be read but
 *   not written (-EFAULT), what the call created is there, and goes with the file; -EIO and
 *   -EINTR of a bind, see struct drm_gmem_bind; a bind of a mirror that fails may have attached the VM to the
 *   process; and a prefetch that fails may be done in part.
 */

/**
 * DOC: Memory that is shared
 *
 * Buffer objects are exported and imported as dma-bufs, by DRM_IOCTL_PRIME_HANDLE_TO_FD and
 * DRM_IOCTL_PRIME_FD_TO_HANDLE:
 *
 * - An object of the same device is the same object in each file that imports it.
 * - An object in host memory can be imported by other drivers and devices. One in device memory
 *   can't: they get -EOPNOTSUPP.
 * - A dma-buf of another driver or device becomes an object that can be bound, queried and
 *   exported as any other; to export it gives the original dma-buf. Its memory stays where it is,
 *   in the host, until the last handle and the last mapping are gone.
 * - The CPU maps an imported dma-buf, not the object: bo_mmap gives -EPERM. It tells the
 *   exporter about its accesses by DMA_BUF_IOCTL_SYNC. Whether a dma-buf was exported with O_RDWR
 *   says what the CPU may map, not what devices may do.
 * - The fences of a dma-buf are neither waited for nor added to: whoever shares memory tells the
 *   others by syncobjs when to use it. Only what the exporter itself still does to the memory, as
 *   moving it, is waited for, before the import returns.
 *
 * Errors of an import: -EBADF, -EINVAL (no dma-buf; its size is not a multiple of the CPU's and of
 * the device's smallest page size, or above 2^40), -EOPNOTSUPP (device memory of another device;
 * memory that the device can't reach as it is, because it's scattered in pieces smaller than
 * the device's smallest page, or reached by bounce buffers only), -ENOMEM, and those of the
 * exporter.
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
	/** @mirror_end: end of the calling process's addresses that a mirror can show (exclusive). */
	__u64 mirror_end;
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
 * When device memory is full, what is there and was not used for longest makes room: memory of processes
 * that is mirrored, and objects in device memory, which go to host memory that can be swapped out. They come
 * back as the device or the CPU touches them, or as they are bound; if there is no room then, the device
 * uses them where they are. An object does not leave while a bind of it is not done, nor, on a device that
 * can't fault, once it was bound; nor if the device's smallest page is larger than the CPU's.
 *
 * Errors: -EINVAL (flags; size zero, not a multiple of the CPU's and of the device's smallest
 * page size, or above 2^40), -ENOMEM (host memory), -ENOSPC (device memory: what is there can't
 * leave), -EPERM (PINNED without CAP_IPC_LOCK), -EIO (the device failed to clear its memory),
 * -EOPNOTSUPP (host memory that the device can't reach as it is), -EINTR (killed meanwhile).
 */
struct drm_gmem_bo_create {
	/** @size: bytes, a multiple of the CPU's and of the device's smallest page size. */
	__u64 size;
	/** @flags: exactly one of DEVICE and HOST; CPU_VISIBLE and PINNED only with DEVICE. */
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
/**
 * @DRM_GMEM_BO_PINNED: never leaves device memory. -EPERM without CAP_IPC_LOCK: it is
 * taken from all others.
 */
#define DRM_GMEM_BO_PINNED		(1u << 3)
	/** @handle: out: GEM handle, never 0. */
	__u32 handle;
};

/**
 * struct drm_gmem_bo_mmap - get the offset to mmap() a buffer object at
 *
 * The offset is for mmap() on the same device file, MAP_SHARED only (-EINVAL).
 *
 * Errors: -EINVAL, -ENOENT, -EPERM (in device memory and not CPU_VISIBLE; imported from another
 * driver or device).
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
 * The MAP operations replace whatever was mapped in their range; what it overlaps only in part
 * keeps the rest. UNMAP of a range without mappings is no error. Mappings that continue each
 * other, in the object and in all they let the device do, are one from then on.
 *
 * Errors: -EINVAL (unknown op or flag; @va, @size or @bo_offset not a multiple of the smallest
 * page size; @size zero; a field that the op doesn't use not zero),
 * -ERANGE (@va + @size overflows or lies outside the device's address space; @bo_offset + @size
 * beyond the object), -ENOENT (@handle).
 */
struct drm_gmem_bind_op {
	/** @op: one of DRM_GMEM_BIND_OP_*. */
	__u32 op;
/** @DRM_GMEM_BIND_OP_MAP_BO: map [@bo_offset, @bo_offset + @size) of @handle at @va. */
#define DRM_GMEM_BIND_OP_MAP_BO		0
/** @DRM_GMEM_BIND_OP_UNMAP: unmap [@va, @va + @size); @handle, @bo_offset, @flags, @attrs are 0. */
#define DRM_GMEM_BIND_OP_UNMAP		1
/**
 * @DRM_GMEM_BIND_OP_MAP_SPARSE: let reads of [@va, @va + @size) give zero, and writes vanish,
 * without memory behind it; @handle, @bo_offset, @attrs are 0.
 */
#define DRM_GMEM_BIND_OP_MAP_SPARSE	2
/**
 * @DRM_GMEM_BIND_OP_MAP_MIRROR: let the device see [@bo_offset, @bo_offset + @size) of the calling
 * process's own address space at [@va, @va + @size), whatever is or will be mapped there; @handle
 * is 0, @bo_offset the CPU address. Nothing need be mapped yet: pages come as the device touches
 * them, and follow all that the process does with its memory. The first such operation attaches
 * the VM to the process; one from another process gives -EXDEV, from a process that is exiting
 * -ESRCH, on a device that cannot mirror -EOPNOTSUPP, with more than 1024 distances between @va and
 * @bo_offset in the VM -ENOSPC. The process's range must end at drm_gmem_query_device.mirror_end or
 * before (-ERANGE).
 * Whoever has the file may then let jobs read and write that process's memory.
 */
#define DRM_GMEM_BIND_OP_MAP_MIRROR	3
	/** @flags: bit mask of DRM_GMEM_BIND_*. */
	__u32 flags;
/** @DRM_GMEM_BIND_READONLY: the device may not write. */
#define DRM_GMEM_BIND_READONLY		(1u << 0)
/** @DRM_GMEM_BIND_EXEC: the device may fetch commands. Not for MAP_SPARSE. */
#define DRM_GMEM_BIND_EXEC		(1u << 1)
	/** @handle: GEM handle. */
	__u32 handle;
	/** @pad: reserved, must be zero. */
	__u32 pad;
	/** @va: device address. */
	__u64 va;
	/** @size: bytes. */
	__u64 size;
	/** @bo_offset: where in the object the range begins; of a mirror the CPU address. */
	__u64 bo_offset;
	/** @attrs: attributes of the driver's own, in its header; unknown ones give -EINVAL. */
	__u64 attrs;
};

/**
 * struct drm_gmem_bind - change the mappings of a VM
 *
 * The operations take effect in order, together: if one can't be done, none is. All that can
 * fail is done before the call returns, also with ASYNC; afterwards only the device itself can
 * fail.
 *
 * Without ASYNC the device uses the new mappings only when the call returns. With ASYNC the call
 * returns once the operations are queued; they are done when all syncs without SIGNAL have
 * signalled and all that was queued in the same bind queue before is done. Those with SIGNAL
 * get a fence that signals when the device uses the new mappings only. What syncs are waited for
 * only orders: their errors are not looked at.
 *
 * Operations of one queue are done in order. Those of different queues are done in order too
 * where their ranges, in largest pages, have something in common, and independently otherwise.
 *
 * Errors: -EINVAL (also: @num_ops zero or above 4096, @num_syncs above 64, all MAP operations
 * together, but for mirrors, above 2^40 bytes), -ENOENT (VM, queue, syncobj; @queue_id is another VM's), -EFAULT,
 * -ENOMEM, -ENOSPC (device memory for page tables), -EBUSY (4096 calls in this VM are not done),
 * those of the operations, and -EIO if the device didn't confirm the change: the VM is unusable
 * then, and the device was given up, so that all else gives -ENODEV. Without ASYNC also
 * -ECANCELED (the VM was destroyed meanwhile), and -EINTR: a signal came while the call waited for
 * other fences; the operations are queued and will be done.
 *
 * Errors of the fence: -EIO, as above; -ECANCELED (the VM was destroyed before).
 */
struct drm_gmem_bind {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: bit mask of DRM_GMEM_BIND_ASYNC. */
	__u32 flags;
/** @DRM_GMEM_BIND_ASYNC: return once the operations are queued. */
#define DRM_GMEM_BIND_ASYNC		(1u << 0)
	/** @num_ops: number of operations, 1 to 4096. */
	__u32 num_ops;
	/** @num_syncs: number of syncs, 0 to 64. */
	__u32 num_syncs;
	/** @ops: user pointer to an array of struct drm_gmem_bind_op. */
	__u64 ops;
	/** @syncs: user pointer to an array of struct drm_gmem_sync, 0 if @num_syncs is 0. */
	__u64 syncs;
	/** @queue_id: a bind queue of the VM, 0 for the one that every VM has. */
	__u32 queue_id;
	/** @pad: reserved, must be zero. */
	__u32 pad;
};

/**
 * struct drm_gmem_bind_queue_create - create a bind queue
 *
 * For operations that need not wait for those of other queues.
 *
 * It goes with its VM.
 *
 * Errors: -EINVAL, -ENOENT (VM), -ENOMEM, -ENOSPC (64 exist in this VM, counting destroyed ones with
 * operations that are not done, or 4096 in this file), -EIO (the VM is unusable).
 */
struct drm_gmem_bind_queue_create {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @queue_id: out: id of the bind queue, unique in this file, never 0. */
	__u32 queue_id;
	/** @pad: reserved, must be zero. */
	__u32 pad;
};

/**
 * struct drm_gmem_bind_queue_destroy - destroy a bind queue
 *
 * Operations that were queued in it will be done all the same.
 *
 * Errors: -EINVAL, -ENOENT.
 */
struct drm_gmem_bind_queue_destroy {
	/** @queue_id: the bind queue. */
	__u32 queue_id;
	/** @pad: reserved, must be zero. */
	__u32 pad;
};

/**
 * struct drm_gmem_unbind - unmap a range of a VM
 *
 * The same as a bind of one UNMAP in the VM's own queue, without ASYNC.
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

/**
 * enum drm_gmem_attr_kind - what can be advised about a range of a VM
 *
 * Attributes are state, not commands. They hold for addresses, whatever is mapped there or is
 * not, until they are set to something else; unmapping leaves them. Each has a default, 0. An
 * attribute that another one overrides is kept, and takes effect once that one is gone.
 *
 * Those marked (mirror) are for memory of a process that a VM mirrors, and take effect at once on what is
 * mapped there. Those marked (later) are only kept and read back so far. None says anything of buffer
 * objects.
 *
 * Precedence, where several say where a page should be: PINNED, then ACCESS of IN_PLACE or NONE,
 * then READ_MOSTLY, then PREFERRED_LOCATION, then the default, which is the device that touches the
 * page. MIGRATION_POLICY and GRANULARITY say what moves and how much at a time once it is clear where
 * to. READ_ONLY and EXEC restrict or permit, whatever the mapping says: the device may write if
 * both allow it.
 */
enum drm_gmem_attr_kind {
	/** @DRM_GMEM_ATTR_PREFERRED_LOCATION: where pages should be: DRM_GMEM_LOCATION_*. (mirror) */
	DRM_GMEM_ATTR_PREFERRED_LOCATION = 0,
	/** @DRM_GMEM_ATTR_ACCESS: how the device gets at them: DRM_GMEM_ACCESS_*. (mirror) */
	DRM_GMEM_ATTR_ACCESS = 1,
	/**
	 * @DRM_GMEM_ATTR_READ_MOSTLY: 1: each device that reads may have a copy; a write makes the
	 * page one again. (later)
	 */
	DRM_GMEM_ATTR_READ_MOSTLY = 2,
	/** @DRM_GMEM_ATTR_ALWAYS_MAPPED: 1: the device's mapping is renewed at once when pages move. (later) */
	DRM_GMEM_ATTR_ALWAYS_MAPPED = 3,
	/** @DRM_GMEM_ATTR_READ_ONLY: 1: the device may not write. (mirror) */
	DRM_GMEM_ATTR_READ_ONLY = 4,
	/** @DRM_GMEM_ATTR_EXEC: 1: the device may fetch commands. (mirror) */
	DRM_GMEM_ATTR_EXEC = 5,
	/** @DRM_GMEM_ATTR_ATOMICS: which atomic accesses have to work: DRM_GMEM_ATOMICS_*. (later) */
	DRM_GMEM_ATTR_ATOMICS = 6,
	/**
	 * @DRM_GMEM_ATTR_GRANULARITY: log2 of the bytes that one fault brings in, 12 to 30; 0: what the
	 * device is best at. (mirror)
	 */
	DRM_GMEM_ATTR_GRANULARITY = 7,
	/** @DRM_GMEM_ATTR_MIGRATION_POLICY: which pages move: DRM_GMEM_MIGRATE_*. (later) */
	DRM_GMEM_ATTR_MIGRATION_POLICY = 8,
	/**
	 * @DRM_GMEM_ATTR_PINNED: 1: once in device memory, pages stay there, whoever else needs room. They leave it
	 * only if the CPU touches them, as they are unmapped or written after a fork, or by a prefetch to
	 * the host. What is on the device already as this changes goes to the host, and comes back as any other
	 * memory does. (mirror)
	 *
	 * It is charged for all addresses that have it, whatever is there, as long as they have it and the VM exists:
	 * to the user who first pinned something in this VM, by the byte (RLIMIT_MEMLOCK; with CAP_IPC_LOCK nothing is
	 * charged), and to the device in chunks (2 MiB if its memory has 32 of them, and else a power of two near
	 * a 128th of it, 64 KiB at least): each chunk of addresses counts that has one. All VMs together may
	 * have half of the device's memory pinned. What FOLLOW would add and can't be charged is not pinned.
	 */
	DRM_GMEM_ATTR_PINNED = 9,
	/** @DRM_GMEM_ATTR_EVICTION_PRIORITY: 0 normal, 1 evict first, 2 evict last. (mirror) */
	DRM_GMEM_ATTR_EVICTION_PRIORITY = 10,
	/** @DRM_GMEM_ATTR_AUTO_RESET: 1: when the process unmaps memory, its attributes are reset. (mirror) */
	DRM_GMEM_ATTR_AUTO_RESET = 11,
	/** @DRM_GMEM_ATTR_FOLLOW: 1: when the process's memory grows, so do its attributes. (mirror) */
	DRM_GMEM_ATTR_FOLLOW = 12,
	/** @DRM_GMEM_ATTR_DRIVER: attributes of the driver's own, as in drm_gmem_bind_op.attrs. (mirror) */
	DRM_GMEM_ATTR_DRIVER = 13,
	/** @DRM_GMEM_ATTR_COUNT: number of attributes. */
	DRM_GMEM_ATTR_COUNT = 14,
};

/** DRM_GMEM_LOCATION_DEFAULT: wherever they are used. */
#define DRM_GMEM_LOCATION_DEFAULT	0ull
/** DRM_GMEM_LOCATION_HOST: host memory, any node. */
#define DRM_GMEM_LOCATION_HOST		(1ull << 32)
/** DRM_GMEM_LOCATION_HOST_NODE: host memory of a NUMA node; so far the same as DRM_GMEM_LOCATION_HOST. */
#define DRM_GMEM_LOCATION_HOST_NODE(n)	((2ull << 32) | (__u32)(n))
/** DRM_GMEM_LOCATION_DEVICE: memory of this device. */
#define DRM_GMEM_LOCATION_DEVICE	(3ull << 32)

/** DRM_GMEM_ACCESS_DEFAULT: as the device can. */
#define DRM_GMEM_ACCESS_DEFAULT		0
/** DRM_GMEM_ACCESS_NONE: not at all, an access is an error. */
#define DRM_GMEM_ACCESS_NONE		1
/** DRM_GMEM_ACCESS_MIGRATE: pages come to the device; so far the same as DRM_GMEM_ACCESS_DEFAULT. */
#define DRM_GMEM_ACCESS_MIGRATE		2
/** DRM_GMEM_ACCESS_IN_PLACE: pages stay where they are. */
#define DRM_GMEM_ACCESS_IN_PLACE	3

/** DRM_GMEM_ATOMICS_UNDEFINED: none have to. */
#define DRM_GMEM_ATOMICS_UNDEFINED	0
/** DRM_GMEM_ATOMICS_DEVICE: among accesses of this device. */
#define DRM_GMEM_ATOMICS_DEVICE		1
/** DRM_GMEM_ATOMICS_GLOBAL: among accesses of all devices and the CPU. */
#define DRM_GMEM_ATOMICS_GLOBAL		2
/** DRM_GMEM_ATOMICS_CPU: among accesses of the CPU. */
#define DRM_GMEM_ATOMICS_CPU		3

/** DRM_GMEM_MIGRATE_ALL: pages wherever they are. */
#define DRM_GMEM_MIGRATE_ALL		0
/** DRM_GMEM_MIGRATE_SYSTEM: pages in host memory only, not those of another device. */
#define DRM_GMEM_MIGRATE_SYSTEM		1

/**
 * struct drm_gmem_attr - an attribute and its value
 */
struct drm_gmem_attr {
	/** @kind: one of enum drm_gmem_attr_kind; others give -EINVAL. */
	__u32 kind;
	/** @pad: reserved, must be zero. */
	__u32 pad;
	/** @value: as documented for @kind; others give -EINVAL. */
	__u64 value;
};

/**
 * struct drm_gmem_advise - set attributes of a range of a VM
 *
 * The attributes are set in order; those that are not named stay as they are. All are set, or
 * none.
 *
 * Errors: -EINVAL (@va or @size not a multiple of the smallest page size; @size zero; @num_attrs above
 * 64; @num_attrs zero without RESET), -ERANGE (outside the device's address space), -ENOENT (VM),
 * -EIO (the VM is unusable), -EFAULT, -EPERM (PINNED, and the limit of locked memory is 0), -ENOMEM (also more
 * PINNED than the user or the device may have; also as what follows a growing area could not be noted: then the
 * attributes are set).
 */
struct drm_gmem_advise {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: bit mask of DRM_GMEM_ADVISE_RESET. */
	__u32 flags;
/** @DRM_GMEM_ADVISE_RESET: set all attributes to their defaults first. */
#define DRM_GMEM_ADVISE_RESET		(1u << 0)
	/** @va: device address, a multiple of the smallest page size. */
	__u64 va;
	/** @size: bytes, a multiple of the smallest page size, not zero. */
	__u64 size;
	/** @num_attrs: number of attributes, 0 to 64. */
	__u32 num_attrs;
	/** @pad: reserved, must be zero. */
	__u32 pad;
	/** @attrs: user pointer to an array of struct drm_gmem_attr, 0 if @num_attrs is 0. */
	__u64 attrs;
};

/**
 * struct drm_gmem_range - what query_range says of addresses that have all in common
 *
 * All fields are written by the kernel.
 */
struct drm_gmem_range {
	/** @va: first device address. */
	__u64 va;
	/** @size: bytes. */
	__u64 size;
	/** @mapping: what is mapped. */
	__u32 mapping;
/** @DRM_GMEM_MAPPING_NONE: nothing. */
#define DRM_GMEM_MAPPING_NONE		0
/** @DRM_GMEM_MAPPING_BO: a buffer object. */
#define DRM_GMEM_MAPPING_BO		1
/** @DRM_GMEM_MAPPING_SPARSE: no memory. */
#define DRM_GMEM_MAPPING_SPARSE		2
/** @DRM_GMEM_MAPPING_MIRROR: memory of the process that the VM is attached to. */
#define DRM_GMEM_MAPPING_MIRROR		3
	/** @flags: how it is mapped: bit mask of DRM_GMEM_BIND_READONLY and DRM_GMEM_BIND_EXEC. */
	__u32 flags;
	/** @residency: where it is. */
	__u32 residency;
/** @DRM_GMEM_RESIDENT_NOWHERE: nowhere. */
#define DRM_GMEM_RESIDENT_NOWHERE	0
/** @DRM_GMEM_RESIDENT_HOST: in host memory. */
#define DRM_GMEM_RESIDENT_HOST		1
/** @DRM_GMEM_RESIDENT_DEVICE: in memory of this device. */
#define DRM_GMEM_RESIDENT_DEVICE	2
	/** @pad: zero. */
	__u32 pad;
	/**
	 * @bo_offset: where in the buffer object the range begins, of a mirror the CPU address; 0 if there
	 * is none.
	 */
	__u64 bo_offset;
	/** @attrs: the driver's own attributes of the mapping, as they were given to bind. */
	__u64 attrs;
	/** @advice: values of the attributes, by enum drm_gmem_attr_kind; the others are 0. */
	__u64 advice[16];
	/**
	 * @faults: of a mirror, faults of the device that were served here, but for those that another one's service
	 * answered. This, @refaults and @evicted are kept for blocks of addresses that come to the device
	 * together, and are of all blocks that have some of the range. 16 blocks are remembered for each chunk of
	 * device memory, 256 at least; with more than that, all of the VM are forgotten, and all begins anew.
	 * So counts can go back.
	 */
	__u64 faults;
	/** @refaults: of a mirror, how often blocks came to the device again after they had been evicted. */
	__u64 refaults;
	/** @evicted: of a mirror, why memory has last left the device, of the block that was needed last. */
	__u32 evicted;
/** @DRM_GMEM_EVICTED_NEVER: none has, as far as is known. */
#define DRM_GMEM_EVICTED_NEVER		0
/** @DRM_GMEM_EVICTED_MEMORY: memory of a process needed room. */
#define DRM_GMEM_EVICTED_MEMORY		1
/** @DRM_GMEM_EVICTED_OBJECT: a buffer object, or a page table, needed room. */
#define DRM_GMEM_EVICTED_OBJECT		2
/** @DRM_GMEM_EVICTED_ADVICE: by prefetch to the host, or as was advised. */
#define DRM_GMEM_EVICTED_ADVICE		3
/** @DRM_GMEM_EVICTED_CPU: the CPU accessed it. */
#define DRM_GMEM_EVICTED_CPU		4
	/** @pad2: zero. */
	__u32 pad2;
};

/**
 * struct drm_gmem_query_range - read back what is mapped, where it is, and what was advised
 *
 * Writes one entry for each part of the range that has all in common, by address, also for what is
 * not mapped. What was queued by bind counts as done.
 *
 * Of a mirror, where its memory is at this moment is read from the page tables of its process; it may be
 * somewhere else by the time this returns.
 *
 * Errors: -EINVAL (as advise; @num_ranges zero or above 65536), -ERANGE, -ENOENT (VM), -EFAULT, -ENOMEM,
 * -EBUSY (the process's memory changes all the time), -EINTR (the calling process is being killed), -EIO
 * (the VM is unusable).
 */
struct drm_gmem_query_range {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @va: device address, a multiple of the smallest page size; out: where the last entry ends. */
	__u64 va;
	/** @size: bytes, a multiple of the smallest page size; out: how many are left behind @va. */
	__u64 size;
	/** @num_ranges: entries that there is room for, 1 to 65536; out: how many were written. */
	__u32 num_ranges;
	/** @pad: reserved, must be zero. */
	__u32 pad;
	/** @ranges: user pointer to an array of struct drm_gmem_range. */
	__u64 ranges;
};

/**
 * struct drm_gmem_prefetch - bring mirrored memory to where it should be
 *
 * Moves what can move of a mirrored range to @location, and prepares the device's page table for what it
 * finds in the end, wherever that is, so that the device doesn't fault on it. Memory that was never touched
 * is made, if it is to be on the device. What cannot move (memory of files, shared memory, huge pages of
 * hugetlb, pages that are pinned, or with no room left on the device) stays where it is, which is
 * no error; nor are parts without memory, or without a mirror. Advice of where pages should be is not
 * looked at, unless @location is DRM_GMEM_LOCATION_DEFAULT.
 *
 * Returns when it is done: making memory may have to wait for other memory to be freed, for which no
 * fence may stand.
 *
 * Errors: -EINVAL (@va or @size not a multiple of the smallest page size; @size zero; @location),
 * -ERANGE (outside the device's address space), -ENOENT (VM), -ENOMEM, -ENOSPC (device memory for page
 * tables), -EINTR (the calling process is being killed), -EIO or -ENODEV (the device failed or went away),
 * -ESRCH (the process whose memory it is has ended). Whichever it is, it may be done in part.
 */
struct drm_gmem_prefetch {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @va: device address, a multiple of the smallest page size. */
	__u64 va;
	/** @size: bytes, a multiple of the smallest page size, not zero. */
	__u64 size;
	/**
	 * @location: DRM_GMEM_LOCATION_HOST, DRM_GMEM_LOCATION_DEVICE, or DRM_GMEM_LOCATION_DEFAULT for what
	 * was advised, and else the device.
	 */
	__u64 location;
	/** @moved: out: bytes that were moved or made. */
	__u64 moved;
	/** @mapped: out: bytes that the device's page table has now. */
	__u64 mapped;
};

/**
 * struct drm_gmem_discard - say that the contents of mirrored memory are not needed
 *
 * What of a mirrored range is in device memory, and the process may write, becomes *discarded*: it is taken out
 * of the page tables of all devices, leaves device memory before anything else if there is no room, and when it
 * does, or the CPU touches it, nothing is copied: the process finds zeroes there. When a device accesses it before
 * that, it finds what was there, and it is not discarded any more. Until the first access after this it is
 * one or the other, but always the process's own; from then on it is memory as any other. An access that
 * is under way meanwhile may come before or after.
 *
 * What is in the host is left alone, and so is what a fork has left to two processes, unless one of them has
 * written it since: neither may change it for the other; what is in use by the kernel just now; and what is not memory of
 * the process, or not mirrored. None of that is an error.
 *
 * Errors: -EINVAL (@flags, also both; @va or @size not a multiple of the smallest page size; @size zero), -ERANGE
 * (outside the device's address space), -ENOENT (VM), -EPERM (without UNDO: a part is mirrored with
 * READONLY), -EBUSY (UNDO: the process's memory changes all the time), -ENOMEM, -EINTR (the calling process is being
 * killed), -ESRCH (the process whose memory it is has ended), -EIO (the VM is unusable). With PREFETCH also those of
 * struct drm_gmem_prefetch. Whichever it is, it may be done in part.
 */
struct drm_gmem_discard {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: at most one of DRM_GMEM_DISCARD_*. */
	__u32 flags;
/** @DRM_GMEM_DISCARD_UNDO: the contents are needed again, as far as they are still there. */
#define DRM_GMEM_DISCARD_UNDO		(1u << 0)
/**
 * @DRM_GMEM_DISCARD_PREFETCH: bring the range to the device, as a prefetch to DRM_GMEM_LOCATION_DEVICE, but
 * don't copy what is in the host: the device finds zeroes there. What is on the device already stays as it is, and
 * is not discarded. What does not come for lack of room, or since another process has it, too, keeps its
 * contents.
 */
#define DRM_GMEM_DISCARD_PREFETCH	(1u << 1)
	/** @va: device address, a multiple of the smallest page size. */
	__u64 va;
	/** @size: bytes, a multiple of the smallest page size, not zero. */
	__u64 size;
	/**
	 * @discarded: out: bytes that became discarded and were not; with PREFETCH those that came to the
	 * device without being copied.
	 */
	__u64 discarded;
	/** @retained: out: with UNDO, bytes that were discarded, have all of their contents, and are not any more. */
	__u64 retained;
};

/**
 * struct drm_gmem_vm_stats - what mirroring has done in a VM
 *
 * All but @mirrored, @extents and @bytes count from the VM's creation and never go back.
 *
 * Errors: -EINVAL, -ENOENT (VM).
 */
struct drm_gmem_vm_stats {
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @faults: out: faults that the device reported. */
	__u64 faults;
	/** @merged: out: of these, those that another one's service answered. */
	__u64 merged;
	/** @bad: out: of these, those that ended a job. */
	__u64 bad;
	/** @retries: out: how often a service began anew, because the process's memory changed meanwhile. */
	__u64 retries;
	/** @invalidations: out: changes of the process's memory that concerned what the device had mapped. */
	__u64 invalidations;
	/** @to_device: out: bytes copied to device memory. */
	__u64 to_device;
	/** @made: out: bytes of device memory made for what was never touched. */
	__u64 made;
	/** @stayed: out: bytes that should have come to the device and could not. */
	__u64 stayed;
	/** @mirrored: out: bytes of mirrors that the device's page table has now. */
	__u64 mirrored;
	/** @extents: out: contiguous extents these lie in. */
	__u64 extents;
	/** @bytes: out: host memory for keeping book of them, in bytes. */
	__u64 bytes;
};

#if defined(__cplusplus)
}
#endif

#endif /* _UAPI_DRM_GMEM_VM_H_ */
