// SPDX-License-Identifier: MIT
/* What fdinfo, debugfs and tracefs show is what there is. */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("fdinfo, debugfs and tracepoints");

#define TRACING "/sys/kernel/tracing/"

static char text[1 << 20];

/* Reads all of a file into @text. */
static void slurp(const char *path)
{
	size_t len = 0;
	ssize_t got;
	int fd = open(path, O_RDONLY);

	igt_assert_f(fd >= 0, "%s: %m\n", path);
	while ((got = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += got;
	igt_assert_f(got == 0, "%s: %m\n", path);
	text[len] = 0;
	close(fd);
}

/* The number behind @key in the fdinfo of @fd. */
static uint64_t fdinfo(int fd, const char *key)
{
	char path[64];
	char *line;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	slurp(path);
	line = strstr(text, key);
	igt_assert_f(line, "no %s in\n%s", key, text);
	return strtoull(line + strlen(key), NULL, 10);
}

static void test_fdinfo(void)
{
	struct npu_ctx ctx;
	struct npu_blocker blocker;
	struct npu_bo bo;
	uint64_t busy, memory;

	npu_ctx_open(&ctx);
	busy = fdinfo(ctx.fd, "drm-engine-compute:");
	igt_assert(strstr(text, "drm-driver:\tnpu\n"));
	igt_assert(strstr(text, "drm-client-id:"));
	igt_assert(strstr(text, "drm-pdev:"));
	igt_assert_eq_u64(fdinfo(ctx.fd, "drm-engine-capacity-compute:"),
			  npu_facts(ctx.fd).num_queues);
	memory = fdinfo(ctx.fd, "drm-total-memory:");
	bo = npu_bo(&ctx, MIB(1), NPU_HOST, 0);
	igt_assert_eq_u64(fdinfo(ctx.fd, "drm-total-memory:"), memory + 1024);
	/* A job that ended was busy for some time. */
	npu_block(&ctx, ctx.queue, &blocker);
	igt_assert_eq(npu_unblock(&ctx, &blocker), 0);
	igt_assert_lt_u64(busy, fdinfo(ctx.fd, "drm-engine-compute:"));
	npu_bo_free(&ctx, &bo);
	npu_ctx_close(&ctx);
}

/* What fdinfo says of mirrored memory is what vm_stats says, and what was done. */
static void test_mirrored(void)
{
	const uint64_t size = MIB(1);
	struct drm_gmem_vm_stats stats;
	uint64_t faults, to_device, refaults;
	struct svm s;
	void *p;

	svm_open(&s);
	faults = fdinfo(s.ctx.fd, "gmem-faults:");
	to_device = fdinfo(s.ctx.fd, "gmem-to-device:");
	refaults = fdinfo(s.ctx.fd, "gmem-refaults:");
	p = svm_anon(size, SVM_SMALL);
	svm_put(p, size, 1);
	igt_assert_eq(svm_read(&s, p, size), 0);
	svm_to_device(&s, p, size);
	igt_assert_lte_u64(size >> 10, fdinfo(s.ctx.fd, "gmem-resident-device:"));
	igt_assert_lte_u64(to_device + (size >> 10), fdinfo(s.ctx.fd, "gmem-to-device:"));
	if (npu_device_info(s.ctx.fd).caps & DRM_GMEM_CAP_FAULTS)
		igt_assert_lt_u64(faults, fdinfo(s.ctx.fd, "gmem-faults:"));
	stats = svm_stats(&s);
	igt_assert_eq_u64(fdinfo(s.ctx.fd, "gmem-faults:"), stats.faults);
	igt_assert_eq_u64(fdinfo(s.ctx.fd, "gmem-mirrored:"), stats.mirrored >> 10);
	igt_assert_eq_u64(fdinfo(s.ctx.fd, "gmem-to-device:"), stats.to_device >> 10);
	igt_assert_eq_u64(fdinfo(s.ctx.fd, "gmem-made:"), stats.made >> 10);
	fdinfo(s.ctx.fd, "gmem-evicted:");
	igt_assert_lte_u64(refaults, fdinfo(s.ctx.fd, "gmem-refaults:"));
	svm_to_host(&s, p, size);
	igt_assert_eq_u64(fdinfo(s.ctx.fd, "gmem-resident-device:"), 0);

	/* What was done stays when the VM goes, what there is does not. */
	faults = fdinfo(s.ctx.fd, "gmem-faults:");
	igt_assert_eq(npu_vm_destroy(s.ctx.fd, s.ctx.vm), 0);
	igt_assert_eq_u64(fdinfo(s.ctx.fd, "gmem-mirrored:"), 0);
	igt_assert_eq_u64(fdinfo(s.ctx.fd, "gmem-faults:"), faults);
	svm_free(p, size);
	svm_drop(&s);
}

/* The file in the debugfs directory of the device under test. */
static void debugfs(const char *file)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/kernel/debug/gmem_vm-%s/%s",
		 npu_device_bdf(npu_device_under_test()), file);
	slurp(path);
}

static unsigned int lines(void)
{
	unsigned int n = 0;

	for (const char *at = text; (at = strchr(at, '\n')); at++)
		n++;
	return n;
}

static void test_debugfs(void)
{
	const struct drm_gmem_attr attr = { .kind = DRM_GMEM_ATTR_PINNED, .value = 1 };
	struct npu_ctx ctx;
	struct npu_bo bo;
	uint64_t sparse;
	unsigned int before;
	char line[128];

	debugfs("vms");
	before = lines();
	npu_ctx_open(&ctx);
	debugfs("vms");
	igt_assert_eq(lines(), before + 1);
	bo = npu_bo(&ctx, MIB(2), NPU_DEVICE, DRM_GMEM_BIND_READONLY);
	sparse = npu_va(&ctx, MIB(2), MIB(2));
	igt_assert_eq(npu_map_sparse(ctx.fd, ctx.vm, sparse, MIB(2), 0), 0);
	igt_assert_eq(npu_advise(ctx.fd, ctx.vm, sparse, MIB(2), 0, &attr, 1), 0);

	debugfs("mappings");
	/* Rust writes a zero with its prefix. */
	snprintf(line, sizeof(line), " %#llx %#llx bo 0x0 r-- 0x0\n",
		 (unsigned long long)bo.va, (unsigned long long)(bo.va + MIB(2)));
	igt_assert_f(strstr(text, line), "no '%s' in\n%s", line, text);
	snprintf(line, sizeof(line), " %#llx %#llx sparse 0x0 rw- 0x0\n",
		 (unsigned long long)sparse, (unsigned long long)(sparse + MIB(2)));
	igt_assert_f(strstr(text, line), "no '%s' in\n%s", line, text);

	debugfs("objects");
	snprintf(line, sizeof(line), " %#llx %#llx 0x200000 Device ",
		 (unsigned long long)bo.va, (unsigned long long)(bo.va + MIB(2)));
	igt_assert_f(strstr(text, line), "no '%s' in\n%s", line, text);

	debugfs("attrs");
	snprintf(line, sizeof(line), " %#llx %#llx Pinned=0x1\n",
		 (unsigned long long)sparse, (unsigned long long)(sparse + MIB(2)));
	igt_assert_f(strstr(text, line), "no '%s' in\n%s", line, text);

	debugfs("page_tables");
	igt_assert_lte(2, lines());
	npu_ctx_close(&ctx);
	debugfs("vms");
	igt_assert_eq(lines(), before);
}

static void write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	igt_assert_f(fd >= 0, "%s: %m\n", path);
	igt_assert_eq(write(fd, value, strlen(value)), strlen(value));
	close(fd);
}

static void test_trace(void)
{
	struct npu_ctx ctx;
	struct npu_bo bo;
	char line[128];

	igt_require_f(!access(TRACING "events/gmem_vm/enable", W_OK), "no tracefs\n");
	npu_ctx_open(&ctx);
	bo = npu_bo(&ctx, PAGE, NPU_HOST, 0);
	write_file(TRACING "trace", "");
	write_file(TRACING "events/gmem_vm/enable", "1");
	igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, bo.va, PAGE), 0);
	igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo.handle, bo.va, 0, PAGE, 0), 0);
	write_file(TRACING "events/gmem_vm/enable", "0");
	slurp(TRACING "trace");
	snprintf(line, sizeof(line), "range=%#llx-%#llx", (unsigned long long)bo.va,
		 (unsigned long long)(bo.va + PAGE));
	for (int i = 0; i < 4; i++) {
		static const char * const events[] = {
			"gmem_vm_bind: fence=", "gmem_vm_unmap: ", "gmem_vm_map: ", "gmem_vm_flush: ",
		};
		const char *event = strstr(text, events[i]);

		igt_assert_f(event, "no %s in\n%s", events[i], text);
		igt_assert_f(strstr(event, line), "no %s of %s in\n%s", events[i], line, text);
	}
	igt_assert(strstr(text, "gmem_vm_bind_done: "));
	npu_ctx_close(&ctx);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("fdinfo names the driver, counts busy time and memory");
	igt_subtest("fdinfo")
		test_fdinfo();

	igt_describe("fdinfo counts mirrored memory and what moved");
	igt_subtest("mirrored")
		test_mirrored();

	igt_describe("debugfs lists VMs, mappings, objects, attributes and page tables");
	igt_subtest("debugfs")
		test_debugfs();

	igt_describe("Bind, map, unmap and flush leave a trace");
	igt_subtest("trace")
		test_trace();
}
