// SPDX-License-Identifier: MIT
/* The driver is unbound or unloaded, with and without somebody using it. */

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Unbinding the driver and unloading its module");

static char bdf[32];
static char driver[64];

static const char *module_path(void)
{
	const char *env = getenv("NPU_KO");

	return env ? env : "/lab/modules/npu.ko";
}

static int driver_write(const char *what)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver, what);
	return npu_sysfs_write(path, bdf);
}

static void find_device(void)
{
	int index = npu_device_under_test();

	igt_require_f(index >= 0, "no NPU\n");
	igt_require_f(geteuid() == 0, "only root can do that\n");
	snprintf(bdf, sizeof(bdf), "%s", npu_device_bdf(index));
	igt_require(npu_driver_of(bdf, driver, sizeof(driver)));
}

/* Whatever a failed subtest has left: the module is there and the driver is bound. */
static void restore(void)
{
	char name[64];

	if (access("/sys/module/npu", F_OK))
		npu_module_load(module_path());
	if (!npu_driver_of(bdf, name, sizeof(name)))
		driver_write("bind");
}

static void open_ctx(struct npu_ctx *ctx)
{
	int fd = npu_open_bdf(bdf);

	igt_assert_fd(fd);
	npu_ctx_init(ctx, fd);
}

static void assert_works(void)
{
	struct npu_ctx ctx;

	open_ctx(&ctx);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

static void assert_every_call_fails(int fd)
{
	static const unsigned long requests[] = {
		DRM_IOCTL_VERSION, DRM_IOCTL_GEM_CLOSE, DRM_IOCTL_SYNCOBJ_CREATE,
		DRM_IOCTL_NPU_QUERY_DEVICE, DRM_IOCTL_NPU_VM_CREATE, DRM_IOCTL_NPU_VM_DESTROY,
		DRM_IOCTL_NPU_BO_CREATE, DRM_IOCTL_NPU_BO_MMAP, DRM_IOCTL_NPU_BIND,
		DRM_IOCTL_NPU_UNBIND, DRM_IOCTL_NPU_QUEUE_CREATE, DRM_IOCTL_NPU_QUEUE_DESTROY,
		DRM_IOCTL_NPU_SUBMIT, DRM_IOCTL_NPU_JOB_STATUS, DRM_IOCTL_NPU_QUERY,
	};
	uint8_t arg[256] = {};

	for (size_t i = 0; i < ARRAY_LEN(requests); i++)
		igt_assert_eq(npu_ioctl(fd, requests[i], arg), -ENODEV);
}

/* A module that somebody uses stays. */
static void test_busy(void)
{
	volatile uint64_t *cpu;
	struct npu_ctx ctx;
	struct npu_bo bo;

	open_ctx(&ctx);
	igt_assert_eq(npu_module_unload("npu"), -EWOULDBLOCK);
	igt_assert_eq(npu_module_unload("gmem_vm"), -EWOULDBLOCK);
	npu_assert_alive(&ctx);

	/* A mapping is a user, too. */
	bo = npu_bo(&ctx, PAGE, NPU_HOST, 0);
	cpu = bo.cpu;
	*cpu = 4711;
	bo.cpu = NULL;
	close(ctx.fd);
	igt_assert_eq(npu_module_unload("npu"), -EWOULDBLOCK);
	igt_assert_eq_u64(*cpu, 4711);
	igt_assert_eq(munmap((void *)cpu, PAGE), 0);
	igt_assert_eq(munmap(ctx.cmds.cpu, ctx.cmds.size), 0);
	igt_assert_eq(munmap(ctx.cells.cpu, ctx.cells.size), 0);
	assert_works();
}

/* What has just been closed may take a moment. */
static int unload(void)
{
	int ret = -EWOULDBLOCK;

	for (int i = 0; i < 200 && ret == -EWOULDBLOCK; i++) {
		ret = npu_module_unload("npu");
		if (ret)
			usleep(50000);
	}
	return ret;
}

static void test_reload(void)
{
	igt_require_f(access(module_path(), R_OK) == 0, "%s: %m\n", module_path());
	for (unsigned int i = 0; i < npu_scale(3); i++) {
		int fd;

		assert_works();
		igt_assert_eq(unload(), 0);
		fd = npu_open_bdf(bdf);
		igt_assert(fd < 0);
		igt_assert_eq(npu_module_load(module_path()), 0);
	}
	assert_works();
}

/* A fence in somebody's hands either keeps the module or does without it. */
static void test_reload_fence(void)
{
	struct npu_ctx ctx;
	int good, bad, ret;

	igt_require_f(access(module_path(), R_OK) == 0, "%s: %m\n", module_path());
	open_ctx(&ctx);
	npu_assert_alive(&ctx);
	good = npu_sync_file_export(ctx.fd, ctx.syncobj);
	igt_assert_eq(npu_write(&ctx, GIB(50), 0), -EFAULT);
	bad = npu_sync_file_export(ctx.fd, ctx.syncobj);
	igt_assert(good >= 0 && bad >= 0);
	npu_ctx_close(&ctx);
	ret = npu_module_unload("npu");
	igt_info("unload with fences in use: %d\n", ret);
	igt_assert(ret == 0 || ret == -EWOULDBLOCK);
	igt_assert_eq(npu_sync_file_status(good), 1);
	igt_assert_eq(npu_sync_file_status(bad), -EFAULT);
	close(good);
	close(bad);
	if (ret)
		igt_assert_eq(unload(), 0);
	igt_assert_eq(npu_module_load(module_path()), 0);
	assert_works();
}

static void test_unbind_idle(void)
{
	for (unsigned int i = 0; i < npu_scale(3); i++) {
		assert_works();
		igt_assert_eq(driver_write("unbind"), 0);
		igt_assert(npu_open_bdf(bdf) < 0);
		igt_assert_eq(driver_write("bind"), 0);
	}
	assert_works();
}

/* A file that's open when the device goes: every call fails, and it can be closed. */
static void test_unbind_open(void)
{
	struct npu_ctx ctx, fresh;
	struct npu_bo bo;

	open_ctx(&ctx);
	bo = npu_bo(&ctx, MIB(1), NPU_DEVICE, 0);
	npu_fill(&ctx, bo.handle, bo.size, 1);
	igt_assert_eq(driver_write("unbind"), 0);
	assert_every_call_fails(ctx.fd);
	igt_assert_eq(driver_write("bind"), 0);

	/* The old file stays dead beside a new one. */
	open_ctx(&fresh);
	npu_assert_alive(&fresh);
	assert_every_call_fails(ctx.fd);
	npu_ctx_drop(&ctx);
	npu_assert_alive(&fresh);
	npu_ctx_close(&fresh);
}

static void assert_gone(int sync_file)
{
	int status;

	igt_assert_eq(npu_sync_file_wait(sync_file), 0);
	status = npu_sync_file_status(sync_file);
	igt_assert_f(status == -ENODEV || status == -EIO, "fence status %d\n", status);
	close(sync_file);
}

/* Jobs that run, jobs behind them, and jobs that wait for a fence all come to an end. */
static void test_unbind_jobs(void)
{
	struct npu_blocker blocker;
	int sync_file[10];
	struct npu_ctx ctx;
	uint32_t waiting;

	open_ctx(&ctx);
	igt_assert_eq(npu_queue_create(ctx.fd, &waiting), 0);
	npu_block(&ctx, ctx.queue, &blocker);
	sync_file[0] = npu_sync_file_export(ctx.fd, blocker.syncobj);
	for (int i = 1; i < 10; i++) {
		struct drm_gmem_sync syncs[] = {
			npu_signal(ctx.syncobj), npu_wait_for(blocker.syncobj),
		};
		struct npu_cb cb = npu_begin(&ctx);

		npu_cmd_nop(&cb);
		igt_assert_eq(npu_submit(&ctx, &cb, i & 1 ? ctx.queue : waiting, syncs,
					 i & 1 ? 1 : 2), 0);
		sync_file[i] = npu_sync_file_export(ctx.fd, ctx.syncobj);
		igt_assert_fd(sync_file[i]);
	}
	igt_assert_eq(driver_write("unbind"), 0);
	for (int i = 0; i < 10; i++)
		assert_gone(sync_file[i]);
	assert_every_call_fails(ctx.fd);
	npu_ctx_drop(&ctx);
	igt_assert_eq(driver_write("bind"), 0);
	assert_works();
}

static sigjmp_buf bus_jump;

static void on_bus_error(int sig)
{
	(void)sig;
	siglongjmp(bus_jump, 1);
}

/* True if touching the address gives SIGBUS. */
static bool bus_error(volatile uint64_t *p, bool write)
{
	struct sigaction act = { .sa_handler = on_bus_error }, old;
	volatile bool failed = true;

	sigaction(SIGBUS, &act, &old);
	if (!sigsetjmp(bus_jump, 1)) {
		if (write)
			*p = 1;
		else
			(void)*p;
		failed = false;
	}
	sigaction(SIGBUS, &old, NULL);
	return failed;
}

/* Device memory that was mapped is gone; what was host memory may stay, but not crash. */
static void test_unbind_mmap(void)
{
	struct npu_bo visible = {}, host;
	struct npu_ctx ctx;
	uint64_t offset;
	bool has_visible;
	void *again;

	open_ctx(&ctx);
	has_visible = npu_device_info(ctx.fd).mem_visible >= MIB(1);
	host = npu_bo(&ctx, KIB(64), NPU_HOST, 0);
	igt_assert_eq(npu_bo_offset(ctx.fd, host.handle, &offset), 0);
	*(volatile uint64_t *)host.cpu = 1;
	if (has_visible) {
		visible = npu_bo(&ctx, KIB(64), NPU_VISIBLE, 0);
		*(volatile uint64_t *)visible.cpu = 1;
	}
	igt_assert_eq(driver_write("unbind"), 0);
	if (has_visible) {
		volatile uint64_t *cpu = visible.cpu;

		igt_assert(bus_error(cpu, false));
		igt_assert(bus_error(cpu, true));
		igt_assert(bus_error(cpu + 512 * 15, false));	/* never touched before */
	}
	igt_info("host memory gives %s\n", bus_error(host.cpu, true) ? "SIGBUS" : "data");
	bus_error((uint64_t *)host.cpu + 512 * 15, true);
	again = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ctx.fd, offset);
	igt_assert(again == MAP_FAILED);
	igt_assert_eq(errno, ENODEV);

	igt_assert_eq(driver_write("bind"), 0);
	if (has_visible)
		igt_assert(bus_error(visible.cpu, false));
	close(ctx.fd);
	if (has_visible) {
		igt_assert(bus_error(visible.cpu, false));
		igt_assert_eq(munmap(visible.cpu, visible.size), 0);
	}
	igt_assert_eq(munmap(host.cpu, host.size), 0);
	igt_assert_eq(munmap(ctx.cmds.cpu, ctx.cmds.size), 0);
	igt_assert_eq(munmap(ctx.cells.cpu, ctx.cells.size), 0);
	assert_works();
}

/* Calls of all kinds until the device is gone: each works or says so. */
static void use_until_gone(int child, volatile uint32_t *ready)
{
	struct npu_ctx ctx;

	open_ctx(&ctx);
	*ready = 1;
	for (int i = 0;; i++) {
		struct drm_gmem_sync sync = npu_signal(ctx.syncobj);
		struct npu_cb cb = npu_begin(&ctx);
		int ret, sync_file;
		uint32_t bo;

		npu_cmd_write(&cb, ctx.cells.va, i);
		ret = npu_submit(&ctx, &cb, ctx.queue, &sync, 1);
		if (!ret) {
			sync_file = npu_sync_file_export(ctx.fd, ctx.syncobj);
			ret = sync_file < 0 ? sync_file : 0;
			if (!ret) {
				igt_assert_eq(npu_sync_file_wait(sync_file), 0);
				close(sync_file);
			}
		}
		if (!ret)
			ret = npu_bo_create(ctx.fd, KIB(64), child & 1 ? NPU_HOST : NPU_DEVICE, &bo);
		if (!ret)
			ret = npu_map(ctx.fd, ctx.vm, bo, GIB(21), 0, KIB(64), 0);
		if (!ret)
			ret = npu_bo_close(ctx.fd, bo);
		if (ret) {
			igt_assert_f(ret == -ENODEV || ret == -EIO, "error %d\n", ret);
			break;
		}
	}
	assert_every_call_fails(ctx.fd);
	npu_ctx_drop(&ctx);
}

static void test_unbind_load(void)
{
	volatile uint32_t *ready = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t seed = npu_seed();

	igt_assert(ready != MAP_FAILED);
	for (unsigned int round = 0; round < npu_scale(4); round++) {
		for (int i = 0; i < 4; i++)
			ready[i] = 0;
		igt_fork(child, 4)
			use_until_gone(child, &ready[child]);
		for (int i = 0; i < 4; i++)
			for (int ms = 0; !ready[i] && ms < 60000; ms++)
				usleep(1000);
		usleep(npu_random(&seed) % 100000);
		igt_assert_eq(driver_write("unbind"), 0);
		igt_waitchildren();
		igt_assert_eq(driver_write("bind"), 0);
		assert_works();
	}
}

/* Objects, mappings and jobs that are cleaned up only after the device is gone. */
static void test_unbind_exit(void)
{
	volatile uint32_t *go = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	igt_assert(go != MAP_FAILED);
	igt_fork(child, 3) {
		struct npu_blocker blocker;
		struct npu_ctx ctx;
		struct npu_bo bo;

		open_ctx(&ctx);
		bo = npu_bo(&ctx, MIB(1), child ? NPU_HOST : NPU_DEVICE, 0);
		npu_bo_tag(&ctx, bo.handle, bo.size, child);
		npu_block_submit(&ctx, ctx.queue, &blocker);
		go[1 + child] = 1;
		while (!go[0])
			usleep(1000);
	}
	for (int i = 1; i < 4; i++)
		for (int ms = 0; !go[i] && ms < 60000; ms++)
			usleep(1000);
	igt_assert_eq(driver_write("unbind"), 0);
	igt_assert_eq(driver_write("bind"), 0);
	go[0] = 1;
	igt_waitchildren();
	assert_works();
}

#define TRACING "/sys/kernel/tracing/"

/* How often a table of memory was unmapped for the device, since it was traced. */
static unsigned int unmapped(void)
{
	FILE *f = fopen(TRACING "trace", "r");
	unsigned int count = 0;
	char wanted[64], *line = NULL;
	size_t size = 0;

	igt_assert_f(f, "trace: %m\n");
	snprintf(wanted, sizeof(wanted), "dma_unmap_sg: %s ", bdf);
	while (getline(&line, &size, f) > 0)
		count += !!strstr(line, wanted);
	free(line);
	fclose(f);
	return count;
}

/* Imported memory: the mapping for the device ends with it, the dma-buf with the file. */
static void test_unbind_import(void)
{
	struct npu_dmabufs before = npu_dmabufs(), held = before;
	struct npu_dmabuf buf = npu_udmabuf(KIB(256), 0, NULL);
	struct npu_blocker blocker;
	struct npu_ctx ctx;
	struct npu_cb cb;
	uint32_t handle;
	uint64_t va;
	int fd;

	igt_require_f(npu_sysfs_write(TRACING "events/dma/dma_unmap_sg/enable", "1") == 0,
		      "no tracefs\n");
	igt_assert_eq(npu_sysfs_write(TRACING "buffer_size_kb", "1024"), 0);
	close(open(TRACING "trace", O_WRONLY | O_TRUNC));
	open_ctx(&ctx);
	igt_assert_eq(npu_import(ctx.fd, buf.fd, &handle), 0);
	va = npu_va(&ctx, buf.size, MIB(2));
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, handle, va, 0, buf.size, 0), 0);
	igt_assert_eq(npu_write(&ctx, va, 0x1234), 0);
	npu_block(&ctx, ctx.queue, &blocker);
	cb = npu_begin(&ctx);
	npu_cmd_fill(&cb, va, buf.size, 1);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, NULL, 0), 0);

	igt_assert_eq(unmapped(), 0);
	igt_assert_eq(driver_write("unbind"), 0);
	igt_assert_eq(unmapped(), 1);
	held.buffers++;
	held.attached++;
	npu_assert_dmabufs(held);
	igt_assert_eq(npu_import(ctx.fd, buf.fd, &handle), -ENODEV);
	igt_assert_eq_u64(buf.cpu[0], 0x1234);
	igt_assert_eq(driver_write("bind"), 0);

	/* The new device is another one, and can have it as well. */
	fd = npu_open_bdf(bdf);
	igt_assert_fd(fd);
	igt_assert_eq(npu_import(fd, buf.fd, &handle), 0);
	held.attached++;
	npu_assert_dmabufs(held);
	close(fd);
	igt_assert_eq(unmapped(), 2);
	npu_dmabuf_free(&buf);
	npu_ctx_drop(&ctx);
	npu_assert_dmabufs(before);
	/* Once is enough. */
	igt_assert_eq(unmapped(), 2);
	assert_works();
}

int igt_main()
{
	static const struct {
		const char *name, *what;
		void (*run)(void);
	} tests[] = {
		{ "unload-busy", "A module in use can't be unloaded", test_busy },
		{ "reload", "The module can be unloaded and loaded again", test_reload },
		{ "reload-fence", "Fences survive the module, or keep it", test_reload_fence },
		{ "unbind-idle", "The driver can be unbound and bound again", test_unbind_idle },
		{ "unbind-open", "After unbind, calls on an open file give -ENODEV", test_unbind_open },
		{ "unbind-jobs", "Unbind ends all jobs with an error", test_unbind_jobs },
		{ "unbind-mmap", "After unbind, mapped device memory gives SIGBUS", test_unbind_mmap },
		{ "unbind-load", "Unbind while several processes use the device", test_unbind_load },
		{ "unbind-import", "After unbind, imported memory is let go", test_unbind_import },
		{ "unbind-exit", "Processes that exit after unbind clean up", test_unbind_exit },
	};

	igt_fixture()
		find_device();

	for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
		igt_describe(tests[i].what);
		igt_subtest_f("%s", tests[i].name) {
			restore();
			tests[i].run();
		}
	}

	/* The node gets its old name back once nobody holds it any more. */
	igt_fixture() {
		npu_sysfs_write(TRACING "events/dma/dma_unmap_sg/enable", "0");
		restore();
		driver_write("unbind");
		driver_write("bind");
	}
}
