// SPDX-License-Identifier: MIT
/*
 * The device disappears without a word, as a card does that's pulled. It
 * doesn't come back, so it's the last NPU of at least two, or the one that
 * NPU_DEVICE names; and this is the last of the tests.
 */

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Surprise removal");

static char victim[32];
static char survivor[32];

static void choose(void)
{
	int count = npu_devices(), index = npu_device_under_test();

	if (!getenv("NPU_DEVICE")) {
		igt_require_f(count >= 2, "one NPU has to be left\n");
		index = count - 1;
	}
	igt_require(index >= 0);
	snprintf(victim, sizeof(victim), "%s", npu_device_bdf(index));
	for (int i = 0; i < count; i++)
		if (i != index && !survivor[0])
			snprintf(survivor, sizeof(survivor), "%s", npu_device_bdf(i));
}

static void open_ctx(struct npu_ctx *ctx, const char *bdf)
{
	int fd = npu_open_bdf(bdf);

	igt_assert_fd(fd);
	npu_ctx_init(ctx, fd);
}

static void assert_survivor(void)
{
	struct npu_ctx ctx;

	if (!survivor[0])
		return;
	open_ctx(&ctx, survivor);
	npu_assert_alive(&ctx);
	npu_ctx_close(&ctx);
}

static bool is_gone(int error)
{
	return error == -ENODEV || error == -EIO;
}

/* Sooner or later the driver notices, and then every call says so. */
static void await_enodev(int fd)
{
	struct drm_gmem_query_device q;
	int ret = 0;

	for (int ms = 0; ret != -ENODEV && ms < 60000; ms += 10) {
		memset(&q, 0, sizeof(q));
		ret = npu_ioctl(fd, DRM_IOCTL_NPU_QUERY_DEVICE, &q);
		if (!ret)
			usleep(10000);
	}
	igt_assert_eq(ret, -ENODEV);
}

static void run_jobs(volatile uint32_t *ready)
{
	struct npu_ctx ctx;
	int ret = 0;

	open_ctx(&ctx, victim);
	for (int i = 0; !ret; i++) {
		struct drm_gmem_sync sync = npu_signal(ctx.syncobj);
		struct npu_cb cb = npu_begin(&ctx);
		int sync_file;

		npu_cmd_write(&cb, ctx.cells.va, i);
		ret = npu_submit(&ctx, &cb, ctx.queue, &sync, 1);
		if (ret)
			break;
		sync_file = npu_sync_file_export(ctx.fd, ctx.syncobj);
		if (sync_file < 0) {
			ret = sync_file;
			break;
		}
		igt_assert_eq(npu_sync_file_wait(sync_file), 0);
		ret = npu_sync_file_status(sync_file);
		ret = ret == 1 ? 0 : ret;
		close(sync_file);
		*ready = 1;
	}
	igt_assert_f(is_gone(ret), "error %d\n", ret);
	await_enodev(ctx.fd);
	npu_ctx_drop(&ctx);
}

static void use_memory(volatile uint32_t *ready)
{
	struct npu_ctx ctx;
	int ret = 0;

	open_ctx(&ctx, victim);
	while (!ret) {
		uint32_t bo;

		ret = npu_bo_create(ctx.fd, KIB(256), NPU_DEVICE, &bo);
		if (!ret)
			ret = npu_map(ctx.fd, ctx.vm, bo, GIB(23), 0, KIB(256), 0);
		if (!ret)
			ret = npu_unmap(ctx.fd, ctx.vm, GIB(23), KIB(128));
		if (!ret)
			ret = npu_bo_close(ctx.fd, bo);
		*ready = 1;
	}
	igt_assert_f(is_gone(ret), "error %d\n", ret);
	await_enodev(ctx.fd);
	npu_ctx_drop(&ctx);
}

static sigjmp_buf bus_jump;

static void on_bus_error(int sig)
{
	(void)sig;
	siglongjmp(bus_jump, 1);
}

/* What it reads doesn't matter; that it comes back does. */
static void touch(volatile uint64_t *p)
{
	struct sigaction act = { .sa_handler = on_bus_error }, old;

	sigaction(SIGBUS, &act, &old);
	if (!sigsetjmp(bus_jump, 1)) {
		(void)*p;
		*p = 1;
	}
	sigaction(SIGBUS, &old, NULL);
}

static void test_die(void)
{
	volatile uint32_t *ready = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile uint32_t *regs = npu_registers(victim);
	struct npu_dmabuf buf = npu_udmabuf(KIB(64), 0, NULL), late;
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_blocker blocker;
	struct npu_bo visible = {};
	struct drm_gmem_bind_op unmap;
	struct drm_gmem_sync syncs[2];
	uint32_t unbound;
	uint32_t handle;
	int running, queued;
	struct drm_gmem_sync sync;
	struct npu_ctx ctx;
	struct npu_cb cb;

	igt_assert(ready != MAP_FAILED);
	igt_require_f(npu_reg(regs, NPU_REG_CAPS) & NPU_CAPS_INJECT,
		      "the device was started without --inject\n");
	open_ctx(&ctx, victim);
	if (npu_device_info(ctx.fd).mem_visible)
		visible = npu_bo(&ctx, KIB(64), NPU_VISIBLE, 0);
	igt_assert_eq(npu_import(ctx.fd, buf.fd, &handle), 0);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, handle, GIB(31), 0, buf.size, 0), 0);
	igt_fork(child, 4) {
		if (child & 1)
			use_memory(&ready[child]);
		else
			run_jobs(&ready[child]);
	}
	for (int i = 0; i < 4; i++)
		for (int ms = 0; !ready[i] && ms < 60000; ms++)
			usleep(1000);
	npu_block(&ctx, ctx.queue, &blocker);
	running = npu_sync_file_export(ctx.fd, blocker.syncobj);
	cb = npu_begin(&ctx);
	npu_cmd_nop(&cb);
	sync = npu_signal(ctx.syncobj);
	igt_assert_eq(npu_submit(&ctx, &cb, ctx.queue, &sync, 1), 0);
	queued = npu_sync_file_export(ctx.fd, ctx.syncobj);
	igt_assert(running >= 0 && queued >= 0);
	/* This unbind comes when the device is gone: nobody can say that it let go of the page. */
	unmap = npu_op_unmap(GIB(31) + PAGE, PAGE);
	unbound = npu_syncobj(ctx.fd, 0);
	syncs[0] = npu_wait_for(blocker.syncobj);
	syncs[1] = npu_signal(unbound);
	igt_assert_eq(npu_bind_async(&ctx, 0, &unmap, 1, syncs, 2), 0);

	npu_inject(regs, NPU_INJECT_DIE, 0xdead);

	igt_assert_eq(npu_sync_file_wait(running), 0);
	igt_assert_eq(npu_sync_file_wait(queued), 0);
	igt_info("the running job: %d, the one behind it: %d\n", npu_sync_file_status(running),
		 npu_sync_file_status(queued));
	igt_assert(is_gone(npu_sync_file_status(running)));
	igt_assert(is_gone(npu_sync_file_status(queued)));
	igt_assert_eq(npu_fence_result(ctx.fd, unbound), -EIO);
	await_enodev(ctx.fd);
	igt_waitchildren();
	late = npu_udmabuf(KIB(64), 0, NULL);
	igt_assert_eq(npu_import(ctx.fd, late.fd, &handle), -ENODEV);
	npu_dmabuf_free(&late);
	if (visible.cpu) {
		touch(visible.cpu);
		igt_assert_eq(munmap(visible.cpu, visible.size), 0);
	}
	assert_survivor();
	close(running);
	close(queued);
	npu_ctx_drop(&ctx);
	npu_assert_dmabufs(before);
	npu_dmabuf_free(&buf);
	assert_survivor();
}

/* The module can go, and comes back for those that are still there. */
static void test_reload(void)
{
	const char *env = getenv("NPU_KO"), *path = env ? env : "/lab/modules/npu.ko";
	int ret = -EWOULDBLOCK;

	igt_require_f(access(path, R_OK) == 0, "%s: %m\n", path);
	for (int i = 0; i < 200 && ret == -EWOULDBLOCK; i++) {
		ret = npu_module_unload("npu");
		if (ret)
			usleep(50000);
	}
	igt_assert_eq(ret, 0);
	igt_assert_eq(npu_module_load(path), 0);
	igt_assert(npu_open_bdf(victim) < 0);
	assert_survivor();
}

int igt_main()
{
	igt_fixture()
		choose();

	igt_describe("The device goes while it's used: jobs end, calls fail, nothing hangs");
	igt_subtest("die")
		test_die();

	igt_describe("The module of a device that went can be unloaded and loaded");
	igt_subtest("reload")
		test_reload();
}
