// SPDX-License-Identifier: MIT
/* The device can be opened, introduces itself, and runs a job. */

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Opening the NPU and running a first job");

static void test_version(void)
{
	char name[32] = "", date[32] = "", desc[128] = "";
	struct drm_version v = {
		.name_len = sizeof(name) - 1, .name = name,
		.date_len = sizeof(date) - 1, .date = date,
		.desc_len = sizeof(desc) - 1, .desc = desc,
	};
	int fd = npu_open();

	igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_VERSION, &v), 0);
	igt_info("%s %d.%d.%d: %s\n", name, v.version_major, v.version_minor,
		 v.version_patchlevel, desc);
	igt_assert_eq(strcmp(name, "npu"), 0);
	close(fd);
}

static uint64_t get_cap(int fd, uint64_t capability)
{
	struct drm_get_cap cap = { .capability = capability };

	igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_GET_CAP, &cap), 0);
	return cap.value;
}

/* Smallest thing there is: an object, a mapping, a job, its result. */
static void hello(int fd)
{
	uint64_t va = npu_round_up(npu_max(npu_device_info(fd).va_start, PAGE), PAGE);
	uint32_t vm, queue, bo, syncobj;
	struct drm_gmem_sync sync;
	uint64_t *cpu;

	igt_assert_eq(npu_vm_create(fd, &vm), 0);
	igt_assert_eq(npu_queue_create(fd, &queue), 0);
	igt_assert_eq(npu_bo_create(fd, PAGE, NPU_HOST, &bo), 0);
	igt_assert_eq(npu_map(fd, vm, bo, va, 0, PAGE, DRM_GMEM_BIND_EXEC), 0);
	igt_assert_eq(npu_syncobj_create(fd, 0, &syncobj), 0);

	cpu = npu_bo_cpu(fd, bo, PAGE);
	cpu[0] = NPU_CMD_WRITE | 3 << 16;
	cpu[1] = va + 64;
	cpu[2] = 0x0123456789abcdefull;
	sync = npu_signal(syncobj);
	igt_assert_eq(npu_submit_raw(fd, queue, vm, va, 24, &sync, 1), 0);
	igt_assert_eq(npu_fence_result(fd, syncobj), 0);
	igt_assert_eq_u64(*(volatile uint64_t *)&cpu[8], 0x0123456789abcdefull);
	igt_assert_eq(munmap(cpu, PAGE), 0);
}

static void test_many_opens(void)
{
	int fd[32], order[32];
	int base = npu_open();
	uint64_t before = npu_mem_free(base);
	uint64_t seed = npu_seed();

	for (int i = 0; i < 32; i++) {
		uint32_t vm, queue, bo;

		fd[i] = npu_open();
		order[i] = i;
		igt_assert_eq(npu_vm_create(fd[i], &vm), 0);
		igt_assert_eq(npu_queue_create(fd[i], &queue), 0);
		igt_assert_eq(npu_bo_create(fd[i], PAGE, NPU_DEVICE, &bo), 0);
	}
	hello(fd[31]);
	for (int i = 31; i > 0; i--) {
		int j = npu_random(&seed) % (i + 1), tmp = order[i];

		order[i] = order[j];
		order[j] = tmp;
	}
	for (int i = 0; i < 32; i++)
		close(fd[order[i]]);
	npu_assert_mem_free(base, before);
	close(base);
}

/* The file lives as long as somebody has it open. */
static void test_dup(void)
{
	int base = npu_open(), fd = npu_open(), copy;
	uint64_t before = npu_mem_free(base), during;
	uint32_t bo;

	igt_assert_eq(npu_bo_create(fd, KIB(64), NPU_DEVICE, &bo), 0);
	during = npu_mem_free(base);
	igt_assert_lt_u64(during, before);
	copy = dup(fd);
	igt_assert_fd(copy);
	close(fd);
	igt_assert_eq_u64(npu_mem_free(base), during);
	igt_fork(child, 1)
		hello(copy);
	igt_waitchildren();
	hello(copy);
	close(copy);
	npu_assert_mem_free(base, before);
	close(base);
}

static void test_client_repeats(void)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	for (unsigned int i = 0; i < npu_scale(10); i++) {
		struct npu_ctx ctx;

		npu_ctx_open(&ctx);
		npu_assert_alive(&ctx);
		if (i & 1)
			npu_ctx_close(&ctx);
		else
			npu_ctx_drop(&ctx);
	}
	npu_assert_mem_free(base, before);
	close(base);
}

static void test_prime_and_flink(void)
{
	struct drm_prime_handle prime = { .fd = -1 };
	struct drm_gem_open named = { .name = 1 };
	int fd = npu_open();
	uint64_t before = npu_mem_free(fd);
	uint32_t bo;

	igt_assert_eq(npu_bo_create(fd, KIB(64), NPU_DEVICE, &bo), 0);
	prime.handle = bo;
	prime.flags = DRM_CLOEXEC | DRM_RDWR;
	if (npu_ioctl(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) == 0) {
		struct drm_prime_handle back = { .fd = prime.fd };

		igt_assert_eq(npu_ioctl(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &back), 0);
		igt_assert_eq_u32(back.handle, bo);
		close(prime.fd);
	}
	igt_assert_neq(npu_ioctl(fd, DRM_IOCTL_GEM_OPEN, &named), 0);
	igt_assert_eq(npu_bo_close(fd, bo), 0);
	npu_assert_mem_free(fd, before);
	close(fd);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("The device can be opened and closed again and again");
	igt_subtest("open-close") {
		for (unsigned int i = 0; i < npu_scale(50); i++)
			close(npu_open());
	}

	igt_describe("DRM_IOCTL_VERSION names the driver");
	igt_subtest("version")
		test_version();

	igt_describe("The driver has synchronisation objects, with timelines");
	igt_subtest("capabilities") {
		int fd = npu_open();

		igt_assert_eq_u64(get_cap(fd, DRM_CAP_SYNCOBJ), 1);
		igt_assert_eq_u64(get_cap(fd, DRM_CAP_SYNCOBJ_TIMELINE), 1);
		close(fd);
	}

	igt_describe("A job of one command writes what it should");
	igt_subtest("hello") {
		int fd = npu_open();

		hello(fd);
		close(fd);
	}

	igt_describe("All of it works without any privilege");
	igt_subtest("unprivileged") {
		int fd = npu_open();

		igt_fork(child, 1) {
			igt_drop_root();
			hello(fd);
		}
		igt_waitchildren();
		close(fd);
	}

	igt_describe("32 files at once, closed in random order, leave nothing behind");
	igt_subtest("many-opens")
		test_many_opens();

	igt_describe("A duplicated and an inherited file keep what the file owns");
	igt_subtest("dup-and-fork")
		test_dup();

	igt_describe("Clients that clean up and clients that don't leave nothing behind");
	igt_subtest("client-repeats")
		test_client_repeats();

	igt_describe("What DRM offers for sharing buffers does no harm");
	igt_subtest("prime-and-flink")
		test_prime_and_flink();
}
