// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The two sides: gmem_vm, by bench_svm.ko, and the kernel's test_hmm.ko.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "sides.h"
#include "svm.h"

/* From lib/test_hmm_uapi.h, which no package has. */
struct hmm_dmirror_cmd {
	uint64_t addr;
	uint64_t ptr;
	uint64_t npages;
	uint64_t cpages;
	uint64_t faults;
};

#define HMM_DMIRROR_READ		_IOWR('H', 0x00, struct hmm_dmirror_cmd)
#define HMM_DMIRROR_WRITE		_IOWR('H', 0x01, struct hmm_dmirror_cmd)
#define HMM_DMIRROR_MIGRATE_TO_DEV	_IOWR('H', 0x02, struct hmm_dmirror_cmd)
#define HMM_DMIRROR_MIGRATE_TO_SYS	_IOWR('H', 0x03, struct hmm_dmirror_cmd)
#define HMM_DMIRROR_FLAGS		_IOWR('H', 0x08, struct hmm_dmirror_cmd)

/* The device's addresses of the region begin here. */
#define VA_START	(16UL << 20)

static int gmem_fd, dmirror_fd;
static uint32_t vm_id;
static char *region, *bounce;
static size_t bounce_size;

static void gmem_ioctl(unsigned long number, void *arg, const char *name)
{
	if (ioctl(gmem_fd, number, arg))
		die("%s", name);
}

static uint64_t device_address(char *at)
{
	return VA_START + (at - region);
}

void gmem_open(void)
{
	gmem_fd = open("/dev/accel/accel0", O_RDWR | O_CLOEXEC);
	if (gmem_fd < 0)
		die("/dev/accel/accel0");
}

static void gmem_attach(char *at, size_t size, bool in_place)
{
	struct drm_gmem_vm_create create = {};
	struct drm_gmem_bind_op op = {
		.op = DRM_GMEM_BIND_OP_MAP_MIRROR,
		.va = VA_START,
		.size = size,
		.bo_offset = (uintptr_t)at,
	};
	struct drm_gmem_attr attrs[] = {
		{ .kind = DRM_GMEM_ATTR_ACCESS, .value = DRM_GMEM_ACCESS_IN_PLACE },
		{ .kind = DRM_GMEM_ATTR_GRANULARITY, .value = 12 },
	};
	struct drm_gmem_bind bind = { .num_ops = 1, .ops = (uintptr_t)&op };
	struct drm_gmem_advise advise = {
		.va = VA_START,
		.size = size,
		.num_attrs = 2,
		.attrs = (uintptr_t)attrs,
	};

	gmem_ioctl(SVM_VM_CREATE, &create, "VM_CREATE");
	vm_id = create.vm_id;
	region = at;
	bind.vm_id = vm_id;
	gmem_ioctl(SVM_BIND, &bind, "BIND");
	advise.vm_id = vm_id;
	if (in_place)
		gmem_ioctl(SVM_ADVISE, &advise, "ADVISE");
}

static void gmem_detach(void)
{
	struct drm_gmem_vm_destroy destroy = { .vm_id = vm_id };

	gmem_ioctl(SVM_VM_DESTROY, &destroy, "VM_DESTROY");
}

static void gmem_prefetch(char *at, size_t size, uint64_t location, const char *name)
{
	struct drm_gmem_prefetch prefetch = {
		.vm_id = vm_id,
		.va = device_address(at),
		.size = size,
		.location = location,
	};

	gmem_ioctl(SVM_PREFETCH, &prefetch, name);
	if (location && prefetch.moved != size)
		die("%s: %llu of %zu bytes moved", name, prefetch.moved, size);
	if (prefetch.mapped != size)
		die("%s: %llu of %zu bytes mapped", name, prefetch.mapped, size);
}

static void gmem_to_device(char *at, size_t size)
{
	gmem_prefetch(at, size, DRM_GMEM_LOCATION_DEVICE, "PREFETCH to the device");
}

static void gmem_to_host(char *at, size_t size)
{
	gmem_prefetch(at, size, DRM_GMEM_LOCATION_HOST, "PREFETCH to the host");
}

void gmem_map_in_place(char *at, size_t size)
{
	gmem_prefetch(at, size, DRM_GMEM_LOCATION_DEFAULT, "PREFETCH");
}

static uint64_t gmem_touch(char *at, size_t size, bool write, unsigned int queue)
{
	struct svm_touch touch = {
		.vm_id = vm_id,
		.queue = queue,
		.va = device_address(at),
		.size = size,
		.write = write,
	};

	gmem_ioctl(SVM_TOUCH, &touch, "TOUCH");
	return touch.faults;
}

void gmem_skip_copies(bool skip)
{
	struct svm_copying copying = { .skip = skip };

	gmem_ioctl(SVM_COPYING, &copying, "COPYING");
}

void gmem_copies(uint64_t *copies, uint64_t *bytes)
{
	struct svm_copying copying = {};

	gmem_ioctl(SVM_COPYING, &copying, "COPYING");
	*copies = copying.copies;
	*bytes = copying.bytes;
}

uint64_t gmem_cost(unsigned int what, uint64_t pages)
{
	struct svm_cost cost = { .what = what, .pages = pages };

	gmem_ioctl(SVM_COST, &cost, "COST");
	if (!cost.ticks)
		die("COST %u", what);
	return cost.ticks;
}

void gmem_book(uint64_t *bytes, uint64_t *extents, uint64_t *mirrored)
{
	struct drm_gmem_vm_stats stats = { .vm_id = vm_id };

	gmem_ioctl(SVM_VM_STATS, &stats, "VM_STATS");
	*bytes = stats.bytes;
	*extents = stats.extents;
	*mirrored = stats.mirrored;
}

const struct side gmem = {
	.name = "gmem_vm",
	.attach = gmem_attach,
	.detach = gmem_detach,
	.to_device = gmem_to_device,
	.to_host = gmem_to_host,
	.touch = gmem_touch,
};

static uint64_t dmirror(unsigned long number, char *at, size_t size, const char *name)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)at,
		.ptr = (uintptr_t)(bounce + (at - region)),
		.npages = size / PAGE,
	};

	if (ioctl(dmirror_fd, number, &cmd))
		die("%s", name);
	return cmd.cpages == size / PAGE ? cmd.faults : ~0ULL;
}

void test_hmm_open(void)
{
	dmirror_fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	if (dmirror_fd < 0)
		die("/dev/hmm_dmirror0");
}

void test_hmm_close(void)
{
	close(dmirror_fd);
}

static void test_hmm_attach(char *at, size_t size, bool in_place)
{
	(void)in_place;
	region = at;
	bounce_size = size;
	bounce = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (bounce == MAP_FAILED)
		die("mmap");
}

static void test_hmm_detach(void)
{
	munmap(bounce, bounce_size);
}

static void test_hmm_to_device(char *at, size_t size)
{
	if (dmirror(HMM_DMIRROR_MIGRATE_TO_DEV, at, size, "MIGRATE_TO_DEV") == ~0ULL)
		die("MIGRATE_TO_DEV: not all");
}

static void test_hmm_to_host(char *at, size_t size)
{
	/* It counts a folio as one page. */
	dmirror(HMM_DMIRROR_MIGRATE_TO_SYS, at, size, "MIGRATE_TO_SYS");
}

static void test_hmm_verify(char *at, size_t size)
{
	if (dmirror(HMM_DMIRROR_READ, at, size, "READ"))
		die("READ: not all");
}

static uint64_t test_hmm_touch(char *at, size_t size, bool write, unsigned int queue)
{
	uint64_t faults;

	(void)queue;
	faults = write ? dmirror(HMM_DMIRROR_WRITE, at, size, "WRITE")
		       : dmirror(HMM_DMIRROR_READ, at, size, "READ");
	if (faults == ~0ULL)
		die("READ or WRITE: not all");
	return faults;
}

void test_hmm_nothing(void)
{
	/* Two pages: it takes the number for flags, of which 2 is none. */
	dmirror(HMM_DMIRROR_FLAGS, region, 2 * PAGE, "FLAGS");
}

const struct side test_hmm = {
	.name = "test_hmm",
	.attach = test_hmm_attach,
	.detach = test_hmm_detach,
	.to_device = test_hmm_to_device,
	.to_host = test_hmm_to_host,
	.verify = test_hmm_verify,
	.touch = test_hmm_touch,
};
