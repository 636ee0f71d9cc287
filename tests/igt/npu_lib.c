// SPDX-License-Identifier: MIT
/* The device and its ioctls: thin wrappers that return 0 or -errno. */

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <linux/sync_file.h>

#include "npu_lib.h"

/* What hangs shall fail; nothing that works takes this long, on however slow a machine. */
#define PATIENCE_S	120

unsigned int npu_scale(unsigned int count)
{
	const char *env = getenv("NPU_TEST_SCALE");
	double scaled = count * (env ? strtod(env, NULL) : 1.0);

	return scaled < 1 ? 1 : (unsigned int)scaled;
}

/* NPU_TEST_SEED, to repeat a run, else a new one. */
uint64_t npu_seed(void)
{
	const char *env = getenv("NPU_TEST_SEED");
	uint64_t seed;

	if (env)
		seed = strtoull(env, NULL, 0);
	else
		igt_assert_eq(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
	igt_info("NPU_TEST_SEED=%#llx\n", (unsigned long long)seed);
	return seed;
}

/* splitmix64 */
uint64_t npu_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* Finding the device. */

#define MAX_DEVICES	16
static char bdfs[MAX_DEVICES][32];
static int minors[MAX_DEVICES];

static bool attr_is(int accel, const char *attr, unsigned long value)
{
	char path[128], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/accel/accel%d/device/%s", accel, attr);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		text[0] = 0;
	fclose(f);
	return strtoul(text, NULL, 16) == value;
}

/* Looks for NPUs; they are in the order of their PCI addresses. */
int npu_devices(void)
{
	DIR *dir = opendir("/sys/class/accel");
	struct dirent *entry;
	int count = 0;

	while (dir && count < MAX_DEVICES && (entry = readdir(dir))) {
		char path[64], target[PATH_MAX], bdf[32];
		int accel, at;
		ssize_t len;

		if (sscanf(entry->d_name, "accel%d", &accel) != 1 ||
		    !attr_is(accel, "vendor", 0x1b36) || !attr_is(accel, "device", 0x4e50))
			continue;
		snprintf(path, sizeof(path), "/sys/class/accel/accel%d/device", accel);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = 0;
		snprintf(bdf, sizeof(bdf), "%s", strrchr(target, '/') + 1);

		for (at = count; at > 0 && strcmp(bdfs[at - 1], bdf) > 0; at--) {
			strcpy(bdfs[at], bdfs[at - 1]);
			minors[at] = minors[at - 1];
		}
		strcpy(bdfs[at], bdf);
		minors[at] = accel;
		count++;
	}
	if (dir)
		closedir(dir);
	return count;
}

/* PCI address of the NPU with this index, as of the last npu_devices(). */
const char *npu_device_bdf(int index)
{
	return bdfs[index];
}

/* Index of the NPU that NPU_DEVICE names, by default the first; -1 without any. */
int npu_device_under_test(void)
{
	const char *node = getenv("NPU_DEVICE");
	int count = npu_devices();

	for (int i = 0; i < count && node; i++) {
		char name[32];

		snprintf(name, sizeof(name), "/dev/accel/accel%d", minors[i]);
		if (!strcmp(name, node))
			return i;
	}
	return count && !node ? 0 : -1;
}

/* The node of a device can change when its driver is bound again. */
int npu_open_bdf(const char *bdf)
{
	int count = npu_devices();

	for (int i = 0; i < count; i++) {
		char name[32];
		int fd;

		if (strcmp(bdfs[i], bdf))
			continue;
		snprintf(name, sizeof(name), "/dev/accel/accel%d", minors[i]);
		fd = open(name, O_RDWR | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	return -ENOENT;
}

/* Opens the device under test; without one the test is skipped. */
int npu_open(void)
{
	static char bdf[32];
	int fd, index;

	if (!bdf[0]) {
		index = npu_device_under_test();
		igt_require_f(index >= 0, "no NPU\n");
		strcpy(bdf, bdfs[index]);
	}
	fd = npu_open_bdf(bdf);
	igt_assert_fd(fd);
	return fd;
}

/* ioctls */

int npu_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret < 0 && (errno == EINTR || errno == EAGAIN));
	return ret < 0 ? -errno : 0;
}

struct drm_gmem_query_device npu_device_info(int fd)
{
	struct drm_gmem_query_device q = {};

	igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_QUERY_DEVICE, &q), 0);
	return q;
}

struct drm_npu_query npu_facts(int fd)
{
	struct drm_npu_query q = {};

	igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_NPU_QUERY, &q), 0);
	return q;
}

bool npu_can_fault(int fd)
{
	return npu_device_info(fd).caps & DRM_GMEM_CAP_FAULTS;
}

uint64_t npu_mem_free(int fd)
{
	return npu_device_info(fd).mem_free;
}

/* What dies with a fence or a process is freed a little later; what leaks, never. */
void npu_assert_mem_free(int fd, uint64_t expected)
{
	for (int ms = 0; ms < 20000 && npu_mem_free(fd) != expected; ms += 5)
		usleep(5000);
	igt_assert_eq_u64(npu_mem_free(fd), expected);
}

void npu_assert_mem_at_least(int fd, uint64_t expected)
{
	for (int ms = 0; ms < 20000 && npu_mem_free(fd) < expected; ms += 5)
		usleep(5000);
	igt_assert_lte_u64(expected, npu_mem_free(fd));
}

int npu_vm_create(int fd, uint32_t *vm)
{
	struct drm_gmem_vm_create arg = {};
	int ret = npu_ioctl(fd, DRM_IOCTL_NPU_VM_CREATE, &arg);

	*vm = ret ? 0 : arg.vm_id;
	igt_assert(ret || arg.vm_id);
	return ret;
}

int npu_vm_destroy(int fd, uint32_t vm)
{
	struct drm_gmem_vm_destroy arg = { .vm_id = vm };

	return npu_ioctl(fd, DRM_IOCTL_NPU_VM_DESTROY, &arg);
}

int npu_bo_create(int fd, uint64_t size, uint32_t flags, uint32_t *handle)
{
	struct drm_gmem_bo_create arg = { .size = size, .flags = flags };
	int ret = npu_ioctl(fd, DRM_IOCTL_NPU_BO_CREATE, &arg);

	*handle = ret ? 0 : arg.handle;
	igt_assert(ret || arg.handle);
	return ret;
}

int npu_bo_close(int fd, uint32_t handle)
{
	struct drm_gem_close arg = { .handle = handle };

	return npu_ioctl(fd, DRM_IOCTL_GEM_CLOSE, &arg);
}

int npu_bo_offset(int fd, uint32_t handle, uint64_t *offset)
{
	struct drm_gmem_bo_mmap arg = { .handle = handle };
	int ret = npu_ioctl(fd, DRM_IOCTL_NPU_BO_MMAP, &arg);

	*offset = arg.offset;
	return ret;
}

void *npu_bo_cpu(int fd, uint32_t handle, uint64_t size)
{
	uint64_t offset;
	void *cpu;

	igt_assert_eq(npu_bo_offset(fd, handle, &offset), 0);
	cpu = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
	igt_assert_f(cpu != MAP_FAILED, "mmap: %m\n");
	return cpu;
}

int npu_bind(int fd, uint32_t vm, const struct drm_gmem_bind_op *ops, uint32_t count)
{
	struct drm_gmem_bind arg = { .vm_id = vm, .num_ops = count, .ops = (uintptr_t)ops };

	return npu_ioctl(fd, DRM_IOCTL_NPU_BIND, &arg);
}

int npu_map(int fd, uint32_t vm, uint32_t handle, uint64_t va, uint64_t bo_offset,
	    uint64_t size, uint32_t flags)
{
	struct drm_gmem_bind_op op = npu_op_map(handle, va, bo_offset, size);

	op.flags = flags;
	return npu_bind(fd, vm, &op, 1);
}

int npu_unmap(int fd, uint32_t vm, uint64_t va, uint64_t size)
{
	struct drm_gmem_unbind arg = { .vm_id = vm, .va = va, .size = size };

	return npu_ioctl(fd, DRM_IOCTL_NPU_UNBIND, &arg);
}

int npu_queue_create(int fd, uint32_t *queue)
{
	struct drm_npu_queue_create arg = {};
	int ret = npu_ioctl(fd, DRM_IOCTL_NPU_QUEUE_CREATE, &arg);

	*queue = ret ? 0 : arg.queue_id;
	igt_assert(ret || arg.queue_id);
	return ret;
}

int npu_queue_destroy(int fd, uint32_t queue)
{
	struct drm_npu_queue_destroy arg = { .queue_id = queue };

	return npu_ioctl(fd, DRM_IOCTL_NPU_QUEUE_DESTROY, &arg);
}

int npu_submit_raw(int fd, uint32_t queue, uint32_t vm, uint64_t commands, uint32_t size,
		   const struct drm_gmem_sync *syncs, uint32_t count)
{
	struct drm_npu_submit arg = {
		.queue_id = queue, .vm_id = vm, .commands = commands, .size = size,
		.num_syncs = count, .syncs = count ? (uintptr_t)syncs : 0,
	};

	return npu_ioctl(fd, DRM_IOCTL_NPU_SUBMIT, &arg);
}

int npu_job_status(int fd, uint32_t queue, struct drm_npu_job_status *status)
{
	*status = (struct drm_npu_job_status) { .queue_id = queue };
	return npu_ioctl(fd, DRM_IOCTL_NPU_JOB_STATUS, status);
}

/* Synchronisation objects */

static int64_t deadline(unsigned int seconds)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec + seconds) * 1000000000ll + now.tv_nsec;
}

int npu_syncobj_create(int fd, uint32_t flags, uint32_t *handle)
{
	struct drm_syncobj_create arg = { .flags = flags };
	int ret = npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_CREATE, &arg);

	*handle = arg.handle;
	return ret;
}

int npu_syncobj_destroy(int fd, uint32_t handle)
{
	struct drm_syncobj_destroy arg = { .handle = handle };

	return npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_DESTROY, &arg);
}

static int wait_until(int fd, uint32_t handle, int64_t when)
{
	struct drm_syncobj_wait arg = {
		.handles = (uintptr_t)&handle, .count_handles = 1, .timeout_nsec = when,
	};

	return npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_WAIT, &arg);
}

int npu_syncobj_wait(int fd, uint32_t handle)
{
	return wait_until(fd, handle, deadline(PATIENCE_S));
}

/* -ETIME if it isn't signalled yet */
int npu_syncobj_poll(int fd, uint32_t handle)
{
	return wait_until(fd, handle, 0);
}

static int wait_point_until(int fd, uint32_t handle, uint64_t point, uint32_t flags, int64_t when)
{
	struct drm_syncobj_timeline_wait arg = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&point, .count_handles = 1,
		.timeout_nsec = when, .flags = flags,
	};

	return npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, &arg);
}

int npu_syncobj_wait_point(int fd, uint32_t handle, uint64_t point, uint32_t flags)
{
	return wait_point_until(fd, handle, point, flags, deadline(PATIENCE_S));
}

int npu_syncobj_poll_point(int fd, uint32_t handle, uint64_t point)
{
	return wait_point_until(fd, handle, point, 0, 0);
}

int npu_syncobj_signal_point(int fd, uint32_t handle, uint64_t point)
{
	struct drm_syncobj_timeline_array arg = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&point, .count_handles = 1,
	};

	return npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, &arg);
}

int npu_syncobj_query(int fd, uint32_t handle, uint64_t *point)
{
	struct drm_syncobj_timeline_array arg = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)point, .count_handles = 1,
	};

	return npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_QUERY, &arg);
}

int npu_syncobj_reset(int fd, uint32_t handle)
{
	struct drm_syncobj_array arg = { .handles = (uintptr_t)&handle, .count_handles = 1 };

	return npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_RESET, &arg);
}

int npu_syncobj_signal(int fd, uint32_t handle)
{
	struct drm_syncobj_array arg = { .handles = (uintptr_t)&handle, .count_handles = 1 };

	return npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_SIGNAL, &arg);
}

static int handle_to_fd(int fd, uint32_t handle, uint32_t flags)
{
	struct drm_syncobj_handle arg = { .handle = handle, .flags = flags, .fd = -1 };
	int ret = npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, &arg);

	return ret ? ret : arg.fd;
}

/* The object itself, for another file to share. */
int npu_syncobj_export(int fd, uint32_t handle)
{
	return handle_to_fd(fd, handle, 0);
}

int npu_syncobj_import(int fd, int shared_fd, uint32_t *handle)
{
	struct drm_syncobj_handle arg = { .fd = shared_fd };
	int ret = npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &arg);

	*handle = arg.handle;
	return ret;
}

/* The fence it holds at this moment. */
int npu_sync_file_export(int fd, uint32_t handle)
{
	return handle_to_fd(fd, handle, DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE);
}

int npu_sync_file_import(int fd, uint32_t handle, int sync_file)
{
	struct drm_syncobj_handle arg = {
		.handle = handle, .fd = sync_file,
		.flags = DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE,
	};

	return npu_ioctl(fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &arg);
}

int npu_sync_file_wait(int sync_file)
{
	struct pollfd p = { .fd = sync_file, .events = POLLIN };
	int ret;

	do {
		ret = poll(&p, 1, PATIENCE_S * 1000);
	} while (ret < 0 && errno == EINTR);
	return ret == 1 ? 0 : ret ? -errno : -ETIME;
}

/* 0: not signalled, 1: signalled, negative: signalled with this error */
int npu_sync_file_status(int sync_file)
{
	struct sync_file_info info = {};

	igt_assert_eq(npu_ioctl(sync_file, SYNC_IOC_FILE_INFO, &info), 0);
	return info.status;
}

/* Waits for the fence in a binary syncobj: 0 or the error it was signalled with. */
int npu_fence_result(int fd, uint32_t handle)
{
	int sync_file = npu_sync_file_export(fd, handle);
	int status;

	igt_assert_fd(sync_file);
	igt_assert_eq(npu_sync_file_wait(sync_file), 0);
	status = npu_sync_file_status(sync_file);
	igt_assert_neq(status, 0);
	close(sync_file);
	return status < 0 ? status : 0;
}
