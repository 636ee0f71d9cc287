/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
#ifndef _UAPI_DRM_NPU_ACCEL_H_
#define _UAPI_DRM_NPU_ACCEL_H_

#include <drm/drm.h>
#include <drm/gmem_vm.h>

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * DOC: The NPU's ioctls
 *
 * The device node is /dev/accel/accelN. Memory is managed by the common structures of
 * gmem_vm.h; jobs and queues are the NPU's own. Commands are described in
 * Documentation/accel/npu/commands.rst.
 */

/* Attributes of a mapping, in struct drm_gmem_bind_op.attrs. */

/** NPU_ATTR_CACHE_*: cache policy, bits [1:0]; 3 is refused. */
#define NPU_ATTR_CACHE_WRITE_BACK	(0ull << 0)
#define NPU_ATTR_CACHE_UNCACHED		(1ull << 0)
#define NPU_ATTR_CACHE_WRITE_THROUGH	(2ull << 0)
/** NPU_ATTR_COMPRESSION: compression class 0 to 3, bits [3:2]. */
#define NPU_ATTR_COMPRESSION(class)	((__u64)(class) << 2)

/**
 * struct drm_npu_queue_create - create a queue
 *
 * Jobs of a queue run in the order of their submission; queues are independent of each other.
 *
 * Errors: -EINVAL, -ENOMEM, -ENOSPC (256 queues exist in this file).
 */
struct drm_npu_queue_create {
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @queue_id: out: id of the queue, unique in this file, never 0. */
	__u32 queue_id;
};

/**
 * struct drm_npu_queue_destroy - destroy a queue
 *
 * Jobs that haven't started end with -ECANCELED; a running one is killed and ends with -ECANCELED.
 *
 * Errors: -EINVAL, -ENOENT.
 */
struct drm_npu_queue_destroy {
	/** @queue_id: the queue. */
	__u32 queue_id;
	/** @pad: reserved, must be zero. */
	__u32 pad;
};

/**
 * struct drm_npu_range - a range of device addresses
 */
struct drm_npu_range {
	/** @va: device address, a multiple of the smallest page size. */
	__u64 va;
	/** @size: bytes, a multiple of the smallest page size, not zero. */
	__u64 size;
};

/**
 * struct drm_npu_submit - submit a job
 *
 * A job is a run of commands that lie in the VM's memory, mapped with EXEC. Its fence is
 * attached to each syncobj that @syncs names with SIGNAL. A job that ends badly signals its fence
 * with an error: -EFAULT (it touched what isn't mapped, or not in that way, or what could not be
 * brought in), -EINVAL (bad
 * command), -ETIMEDOUT (it ran longer than the timeout of the device, 2 s by default, not counting
 * the time its page faults took; or could not access a page for 20 s),
 * -ECANCELED (its queue or file was closed), -EIO or -ENODEV (the device failed or went away).
 * drm_npu_job_status tells the same of a queue's last failed job. What a job waits for only
 * orders it: it runs as well after a fence that was signalled with an error.
 *
 * Errors: -EINVAL (also: @commands not a multiple of 8; @size zero, not a multiple of 8 or above
 * 1 MiB; @num_syncs above 64), -ERANGE (commands outside the address space), -ENOENT (VM, queue,
 * syncobj), -EFAULT, -ENOMEM, -EBUSY (1024 jobs of this queue have not ended), -EIO (the VM is
 * unusable after a failed bind). For @ranges also -EINVAL (@num_ranges above 1024; not multiples of the smallest
 * page size; a size of zero), -ERANGE (outside the address space), and on a device that cannot fault -EFAULT (no memory
 * that the job may use), -E2BIG (mirrored in more than 4096 pieces), -ESRCH (the process whose memory it is has ended), -ENOSPC (device memory for page
 * tables), -EBUSY (the memory changes all the time), -EINTR (a signal, while 16 jobs of the VM hold
 * memory and one of them must end first; or the calling process is being killed).
 */
struct drm_npu_submit {
	/** @queue_id: the queue. */
	__u32 queue_id;
	/** @vm_id: the VM. */
	__u32 vm_id;
	/** @commands: device address of the commands, a multiple of 8. */
	__u64 commands;
	/** @size: bytes of commands, a multiple of 8, 8 to 1 MiB. */
	__u32 size;
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @num_syncs: number of syncs, 0 to 64. */
	__u32 num_syncs;
	/** @num_ranges: number of ranges, 0 to 1024. */
	__u32 num_ranges;
	/** @syncs: user pointer to an array of struct drm_gmem_sync, 0 if @num_syncs is 0. */
	__u64 syncs;
	/**
	 * @ranges: user pointer to an array of struct drm_npu_range, 0 if @num_ranges is 0: mirrored memory
	 * that the job touches, commands included. A device that cannot fault needs it: the memory is
	 * mapped before the job starts, and stays until it has ended. Others check it, and ignore it so far.
	 */
	__u64 ranges;
};

/**
 * struct drm_npu_job_status - how the last failed job of a queue ended
 *
 * Errors: -EINVAL, -ENOENT.
 */
struct drm_npu_job_status {
	/** @queue_id: the queue. */
	__u32 queue_id;
	/** @error: out: errno of the last job that failed (positive), 0 if none has. */
	__u32 error;
	/** @seqno: out: which job, counting this queue's submissions from 1; 0 if none failed. */
	__u64 seqno;
	/**
	 * @detail: out: for EFAULT a device address in the page (of the device's smallest size)
	 * that the job could not access; for EINVAL the offset of the command in bytes; otherwise 0.
	 */
	__u64 detail;
	/**
	 * @reason: out: for EFAULT 1 not mapped, 2 not writable, 3 not executable, 4 outside the
	 * address space; for EINVAL 1 unknown opcode, 2 wrong size, 3 reserved field, 4 misaligned,
	 * 5 operand out of range; otherwise 0.
	 */
	__u32 reason;
	/**
	 * @access: in: must be zero; out: for EFAULT 1 read, 2 write, 4 command fetch, or 0 where the
	 * device did not say (it does if it can fault, DRM_GMEM_CAP_FAULTS); otherwise 0.
	 */
	__u32 access;
	/** @completed: out: number of jobs of this queue that have ended, in whatever way. */
	__u64 completed;
};

/**
 * struct drm_npu_query - facts about the device that gmem_vm doesn't know
 *
 * Errors: -EINVAL.
 */
struct drm_npu_query {
	/** @flags: none defined, must be zero. */
	__u32 flags;
	/** @version: out: the device's VERSION register. */
	__u32 version;
	/** @num_queues: out: number of hardware compute queues. */
	__u32 num_queues;
	/** @job_timeout_ms: out: longest time a job may run, in milliseconds. */
	__u32 job_timeout_ms;
	/** @timestamp: out: the device's clock, in nanoseconds. */
	__u64 timestamp;
	/** @jobs_ok: out: jobs that ended well since the device was reset. */
	__u64 jobs_ok;
	/** @jobs_failed: out: jobs that didn't. */
	__u64 jobs_failed;
	/** @tlb_hits: out: translations found in the device's TLB. */
	__u64 tlb_hits;
	/** @tlb_misses: out: translations that took a walk. */
	__u64 tlb_misses;
	/** @tlb_invalidations: out: TLB invalidations done. */
	__u64 tlb_invalidations;
	/** @bytes_read: out: bytes read by jobs. */
	__u64 bytes_read;
	/** @bytes_written: out: bytes written by jobs. */
	__u64 bytes_written;
	/** @bytes_to_device: out: bytes copied from host to device memory by the copy queue. */
	__u64 bytes_to_device;
	/** @bytes_to_host: out: bytes copied from device to host memory by the copy queue. */
	__u64 bytes_to_host;
	/** @bytes_cleared: out: bytes filled by the copy queue. */
	__u64 bytes_cleared;
};

#define DRM_NPU_QUERY_DEVICE		0x00
#define DRM_NPU_VM_CREATE		0x01
#define DRM_NPU_VM_DESTROY		0x02
#define DRM_NPU_BO_CREATE		0x03
#define DRM_NPU_BO_MMAP			0x04
#define DRM_NPU_BIND			0x05
#define DRM_NPU_UNBIND			0x06
#define DRM_NPU_QUEUE_CREATE		0x07
#define DRM_NPU_QUEUE_DESTROY		0x08
#define DRM_NPU_SUBMIT			0x09
#define DRM_NPU_JOB_STATUS		0x0a
#define DRM_NPU_QUERY			0x0b
#define DRM_NPU_BIND_QUEUE_CREATE	0x0c
#define DRM_NPU_BIND_QUEUE_DESTROY	0x0d
#define DRM_NPU_ADVISE			0x0e
#define DRM_NPU_QUERY_RANGE		0x0f
#define DRM_NPU_PREFETCH		0x10
#define DRM_NPU_VM_STATS		0x11
#define DRM_NPU_DISCARD			0x12

#define DRM_IOCTL_NPU_QUERY_DEVICE	DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_QUERY_DEVICE, struct drm_gmem_query_device)
#define DRM_IOCTL_NPU_VM_CREATE		DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_VM_CREATE, struct drm_gmem_vm_create)
#define DRM_IOCTL_NPU_VM_DESTROY	DRM_IOW(DRM_COMMAND_BASE + DRM_NPU_VM_DESTROY, struct drm_gmem_vm_destroy)
#define DRM_IOCTL_NPU_BO_CREATE		DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_BO_CREATE, struct drm_gmem_bo_create)
#define DRM_IOCTL_NPU_BO_MMAP		DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_BO_MMAP, struct drm_gmem_bo_mmap)
#define DRM_IOCTL_NPU_BIND		DRM_IOW(DRM_COMMAND_BASE + DRM_NPU_BIND, struct drm_gmem_bind)
#define DRM_IOCTL_NPU_UNBIND		DRM_IOW(DRM_COMMAND_BASE + DRM_NPU_UNBIND, struct drm_gmem_unbind)
#define DRM_IOCTL_NPU_QUEUE_CREATE	DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_QUEUE_CREATE, struct drm_npu_queue_create)
#define DRM_IOCTL_NPU_QUEUE_DESTROY	DRM_IOW(DRM_COMMAND_BASE + DRM_NPU_QUEUE_DESTROY, struct drm_npu_queue_destroy)
#define DRM_IOCTL_NPU_SUBMIT		DRM_IOW(DRM_COMMAND_BASE + DRM_NPU_SUBMIT, struct drm_npu_submit)
#define DRM_IOCTL_NPU_JOB_STATUS	DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_JOB_STATUS, struct drm_npu_job_status)
#define DRM_IOCTL_NPU_QUERY		DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_QUERY, struct drm_npu_query)
#define DRM_IOCTL_NPU_BIND_QUEUE_CREATE	DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_BIND_QUEUE_CREATE, struct drm_gmem_bind_queue_create)
#define DRM_IOCTL_NPU_BIND_QUEUE_DESTROY DRM_IOW(DRM_COMMAND_BASE + DRM_NPU_BIND_QUEUE_DESTROY, struct drm_gmem_bind_queue_destroy)
#define DRM_IOCTL_NPU_ADVISE		DRM_IOW(DRM_COMMAND_BASE + DRM_NPU_ADVISE, struct drm_gmem_advise)
#define DRM_IOCTL_NPU_QUERY_RANGE	DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_QUERY_RANGE, struct drm_gmem_query_range)
#define DRM_IOCTL_NPU_PREFETCH		DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_PREFETCH, struct drm_gmem_prefetch)
#define DRM_IOCTL_NPU_VM_STATS		DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_VM_STATS, struct drm_gmem_vm_stats)
#define DRM_IOCTL_NPU_DISCARD		DRM_IOWR(DRM_COMMAND_BASE + DRM_NPU_DISCARD, struct drm_gmem_discard)

#if defined(__cplusplus)
}
#endif

#endif /* _UAPI_DRM_NPU_ACCEL_H_ */
