/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The ioctls of bench_svm.ko: gmem_vm's own, and what drives the device.
 * device.rs repeats the structures.
 */
#ifndef BENCH_SVM_H
#define BENCH_SVM_H

#include <drm/gmem_vm.h>

/**
 * struct svm_touch - lets the device access each page of a range, in order
 *
 * Waits at each access that faults, as a hardware queue does. @faults: out: how
 * many did. No two calls may use one @queue (0 to 7) at a time.
 */
struct svm_touch {
	__u32 vm_id;
	__u32 queue;
	__u64 va;
	__u64 size;
	__u32 write;
	__u32 pad;
	__u64 faults;
};

/**
 * struct svm_copying - copies are made, or skipped (@skip)
 *
 * @copies, @bytes: out: how many the framework asked for so far, made or skipped.
 */
struct svm_copying {
	__u64 skip;
	__u64 copies;
	__u64 bytes;
};

/**
 * struct svm_cost - what takes so many @ticks, for so many @pages
 */
struct svm_cost {
	__u32 what;
	__u32 pad;
	__u64 pages;
	__u64 ticks;
};

enum svm_cost_of {
	/* copy_highpage() of each */
	SVM_COST_COPY,
	/* allocating and freeing each, and by huge folio */
	SVM_COST_ALLOC,
	SVM_COST_FREE,
	SVM_COST_ALLOC_HUGE,
	SVM_COST_FREE_HUGE,
	SVM_COSTS,
};

#define SVM_IOCTL(dir, nr, type)	DRM_##dir(DRM_COMMAND_BASE + (nr), type)
#define SVM_VM_CREATE	SVM_IOCTL(IOWR, 0, struct drm_gmem_vm_create)
#define SVM_VM_DESTROY	SVM_IOCTL(IOW, 1, struct drm_gmem_vm_destroy)
#define SVM_BIND	SVM_IOCTL(IOW, 2, struct drm_gmem_bind)
#define SVM_UNBIND	SVM_IOCTL(IOW, 3, struct drm_gmem_unbind)
#define SVM_ADVISE	SVM_IOCTL(IOW, 4, struct drm_gmem_advise)
#define SVM_PREFETCH	SVM_IOCTL(IOWR, 5, struct drm_gmem_prefetch)
#define SVM_VM_STATS	SVM_IOCTL(IOWR, 6, struct drm_gmem_vm_stats)
#define SVM_TOUCH	SVM_IOCTL(IOWR, 7, struct svm_touch)
#define SVM_COPYING	SVM_IOCTL(IOWR, 8, struct svm_copying)
#define SVM_COST	SVM_IOCTL(IOWR, 9, struct svm_cost)

#endif
