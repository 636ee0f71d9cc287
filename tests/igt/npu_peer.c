// SPDX-License-Identifier: MIT
/* Two NPUs that share host memory: objects of one are imported by the other. */

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Buffer objects shared between two NPUs");

static char bdf[2][32];

static void find_devices(void)
{
	int count = npu_devices();

	igt_require_f(count >= 2, "it takes two NPUs\n");
	for (int i = 0; i < 2; i++)
		snprintf(bdf[i], sizeof(bdf[i]), "%s", npu_device_bdf(i));
}

static void open_ctx(struct npu_ctx *ctx, int device)
{
	int fd = npu_open_bdf(bdf[device]);

	igt_assert_fd(fd);
	npu_ctx_init(ctx, fd);
}

static int bind_driver(int device, const char *what)
{
	static char driver[64];
	char path[160];

	if (!driver[0])
		igt_assert(npu_driver_of(bdf[device], driver, sizeof(driver)));
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver, what);
	return npu_sysfs_write(path, bdf[device]);
}

/* An object of the exporter in host memory, tagged. */
static struct npu_bo tagged(struct npu_ctx *ctx, uint64_t size, uint32_t id)
{
	struct npu_bo bo = npu_bo(ctx, size, NPU_HOST, 0);

	npu_bo_tag(ctx, bo.handle, size, id);
	return bo;
}

/* Imports an object of the other device, and maps it. */
static uint64_t map_import(struct npu_ctx *ctx, int dmabuf, uint64_t size, uint32_t *handle)
{
	uint64_t va = npu_va(ctx, size, MIB(2));

	igt_assert_eq(npu_import(ctx->fd, dmabuf, handle), 0);
	igt_assert_eq(npu_map(ctx->fd, ctx->vm, *handle, va, 0, size, 0), 0);
	return va;
}

/* Both devices and the CPU see what each of them writes. */
static void test_share(int from)
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_ctx exporter, importer;
	uint64_t va, value, *cpu;
	uint32_t handle;
	struct npu_bo bo;
	int dmabuf;

	open_ctx(&exporter, from);
	open_ctx(&importer, !from);
	bo = tagged(&exporter, MIB(3), 5);
	dmabuf = npu_export(exporter.fd, bo.handle);
	va = map_import(&importer, dmabuf, bo.size, &handle);
	close(dmabuf);
	igt_assert_eq(npu_dmabufs().attached, before.attached + 1);
	npu_assert_tags(&importer, va, bo.size / PAGE, 5, 0);

	cpu = bo.cpu;
	for (uint64_t at = 0; at < bo.size; at += KIB(68)) {
		igt_assert_eq(npu_write(&importer, va + at, at + 1), 0);
		igt_assert_eq(npu_read(&exporter, bo.va + at, &value), 0);
		igt_assert_eq_u64(value, at + 1);
		igt_assert_eq_u64(cpu[at / 8], at + 1);
		cpu[at / 8] = at + 2;
		igt_assert_eq(npu_read(&importer, va + at, &value), 0);
		igt_assert_eq_u64(value, at + 2);
	}

	/* The importer keeps what the exporter has closed. */
	npu_ctx_close(&exporter);
	npu_assert_tags(&importer, va + PAGE, 16, 5, 1);
	igt_assert_eq(npu_bo_close(importer.fd, handle), 0);
	npu_assert_tags(&importer, va + PAGE, 16, 5, 1);
	npu_ctx_close(&importer);
	igt_assert_eq(munmap(bo.cpu, bo.size), 0);
	npu_assert_dmabufs(before);
}

/* Device memory is for its own device. */
static void test_device_memory(void)
{
	static const uint32_t placements[] = { NPU_DEVICE, NPU_VISIBLE };
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_ctx exporter, importer;

	open_ctx(&exporter, 0);
	open_ctx(&importer, 1);
	for (size_t i = 0; i < ARRAY_LEN(placements); i++) {
		uint32_t handle, theirs;
		int dmabuf;

		if (placements[i] == NPU_VISIBLE && !npu_device_info(exporter.fd).mem_visible)
			continue;
		igt_assert_eq(npu_bo_create(exporter.fd, KIB(64), placements[i], &handle), 0);
		dmabuf = npu_export(exporter.fd, handle);
		igt_assert_eq(npu_import(importer.fd, dmabuf, &theirs), -EOPNOTSUPP);
		igt_assert_eq(npu_import(exporter.fd, dmabuf, &theirs), 0);
		igt_assert_eq_u32(theirs, handle);
		igt_assert_eq(npu_bo_close(exporter.fd, handle), 0);
		close(dmabuf);
	}
	npu_assert_alive(&importer);
	npu_ctx_close(&exporter);
	npu_ctx_close(&importer);
	npu_assert_dmabufs(before);
}

/* There and back it is the same object; and what both imported is the same memory. */
static void test_chain(void)
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_dmabuf foreign = npu_udmabuf(KIB(64), 0, NULL);
	struct npu_ctx ctx[2];
	uint64_t va[2], value;
	uint32_t handle[2], back;
	struct npu_bo bo;
	int dmabuf;

	open_ctx(&ctx[0], 0);
	open_ctx(&ctx[1], 1);
	bo = tagged(&ctx[0], KIB(64), 6);
	dmabuf = npu_export(ctx[0].fd, bo.handle);
	igt_assert_eq(npu_import(ctx[1].fd, dmabuf, &handle[1]), 0);
	close(dmabuf);
	dmabuf = npu_export(ctx[1].fd, handle[1]);
	igt_assert_eq(npu_import(ctx[0].fd, dmabuf, &back), 0);
	igt_assert_eq_u32(back, bo.handle);
	close(dmabuf);

	va[0] = map_import(&ctx[0], foreign.fd, foreign.size, &handle[0]);
	dmabuf = npu_export(ctx[0].fd, handle[0]);
	va[1] = map_import(&ctx[1], dmabuf, foreign.size, &handle[1]);
	close(dmabuf);
	igt_assert_eq(npu_write(&ctx[0], va[0] + PAGE, 0xabcd), 0);
	igt_assert_eq(npu_read(&ctx[1], va[1] + PAGE, &value), 0);
	igt_assert_eq_u64(value, 0xabcd);
	igt_assert_eq_u64(foreign.cpu[PAGE / 8], 0xabcd);
	npu_bo_free(&ctx[0], &bo);
	npu_ctx_close(&ctx[0]);
	npu_ctx_close(&ctx[1]);
	npu_dmabuf_free(&foreign);
	npu_assert_dmabufs(before);
}

/* The exporter's driver goes: its memory stays where somebody uses it, and can still be imported. */
static void test_unbind_exporter(void)
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_ctx exporter, importer, late;
	uint32_t handle;
	struct npu_bo bo;
	uint64_t va, value;
	int dmabuf;

	open_ctx(&exporter, 0);
	open_ctx(&importer, 1);
	bo = tagged(&exporter, MIB(1), 7);
	dmabuf = npu_export(exporter.fd, bo.handle);
	va = map_import(&importer, dmabuf, bo.size, &handle);
	igt_assert_eq(bind_driver(0, "unbind"), 0);
	npu_assert_tags(&importer, va, bo.size / PAGE, 7, 0);
	npu_ctx_drop(&exporter);
	igt_assert_eq(munmap(bo.cpu, bo.size), 0);
	npu_assert_tags(&importer, va, bo.size / PAGE, 7, 0);

	open_ctx(&late, 1);
	va = map_import(&late, dmabuf, bo.size, &handle);
	npu_assert_tags(&late, va, bo.size / PAGE, 7, 0);
	igt_assert_eq(npu_write(&late, va, 0x5678), 0);
	npu_ctx_close(&importer);

	/* The exporter comes back as another device, for which it is memory of a stranger. */
	igt_assert_eq(bind_driver(0, "bind"), 0);
	open_ctx(&exporter, 0);
	va = map_import(&exporter, dmabuf, bo.size, &handle);
	igt_assert_eq(npu_read(&exporter, va, &value), 0);
	igt_assert_eq_u64(value, 0x5678);
	close(dmabuf);
	npu_ctx_close(&late);
	npu_assert_tags(&exporter, va + PAGE, bo.size / PAGE - 1, 7, 1);
	npu_ctx_close(&exporter);
	npu_assert_dmabufs(before);
}

/* The importer's driver goes, with jobs on it: the exporter doesn't notice. */
static void test_unbind_importer(void)
{
	struct npu_dmabufs before = npu_dmabufs();
	struct npu_ctx exporter, importer;
	struct npu_blocker blocker;
	uint32_t handle;
	struct npu_bo bo;
	int dmabuf;

	open_ctx(&exporter, 0);
	open_ctx(&importer, 1);
	bo = tagged(&exporter, MIB(1), 8);
	dmabuf = npu_export(exporter.fd, bo.handle);
	map_import(&importer, dmabuf, bo.size, &handle);
	close(dmabuf);
	npu_block(&importer, importer.queue, &blocker);
	igt_assert_eq(bind_driver(1, "unbind"), 0);
	npu_assert_tags(&exporter, bo.va, bo.size / PAGE, 8, 0);
	npu_bo_free(&exporter, &bo);
	npu_ctx_close(&exporter);
	npu_ctx_drop(&importer);
	npu_assert_dmabufs(before);
	igt_assert_eq(bind_driver(1, "bind"), 0);
	open_ctx(&importer, 1);
	npu_assert_alive(&importer);
	npu_ctx_close(&importer);
}

/* Each allocation of an import fails once, those of the exporter among them. */
static void test_alloc_fail(void)
{
	struct npu_ctx exporter, importer;
	struct npu_dmabufs before;
	unsigned int n, left = 0;
	uint32_t handle;
	struct npu_bo bo;
	int dmabuf, ret;

	npu_fail_require();
	open_ctx(&exporter, 0);
	open_ctx(&importer, 1);
	bo = tagged(&exporter, MIB(1), 9);
	dmabuf = npu_export(exporter.fd, bo.handle);
	before = npu_dmabufs();
	for (n = 1; n < 400 && !left; n++) {
		npu_fail_nth(n);
		ret = npu_import(importer.fd, dmabuf, &handle);
		left = npu_fail_left();
		npu_fail_nth(0);
		igt_assert_f(ret == 0 || ret == -ENOMEM, "allocation %u: %d\n", n, ret);
		if (!ret)
			igt_assert_eq(npu_bo_close(importer.fd, handle), 0);
		npu_assert_dmabufs(before);
	}
	igt_info("%u allocations\n", n - 2);
	igt_assert_lt(0, left);
	close(dmabuf);
	npu_ctx_close(&exporter);
	npu_ctx_close(&importer);
	igt_assert_eq(munmap(bo.cpu, bo.size), 0);
}

int igt_main()
{
	igt_fixture()
		find_devices();

	for (int from = 0; from < 2; from++) {
		igt_describe("Host memory of one NPU is used by both, and by the CPU");
		igt_subtest_f("share-%d", from)
			test_share(from);
	}

	igt_describe("Device memory is refused to the other device");
	igt_subtest("device-memory")
		test_device_memory();

	igt_describe("Dma-bufs that go on to the next device");
	igt_subtest("chain")
		test_chain();

	igt_describe("The exporter's driver is unbound while the other NPU uses its memory");
	igt_subtest("unbind-exporter")
		test_unbind_exporter();

	igt_describe("The importer's driver is unbound while it uses the memory");
	igt_subtest("unbind-importer")
		test_unbind_importer();

	igt_describe("Each of an import's allocations may fail");
	igt_subtest("alloc-fail")
		test_alloc_fail();

	igt_fixture() {
		char name[64];

		for (int i = 0; i < 2; i++)
			if (!npu_driver_of(bdf[i], name, sizeof(name)))
				bind_driver(i, "bind");
	}
}
