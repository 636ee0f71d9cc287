// SPDX-License-Identifier: MIT
/* The device's registers and the driver's modules: what only root can reach. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "npu_lib.h"

#define BAR0_SIZE	KIB(128)

/* Maps BAR 0; skips the test where that can't be done. */
volatile uint32_t *npu_registers(const char *bdf)
{
	char path[96];
	void *regs;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", bdf);
	fd = open(path, O_RDWR | O_CLOEXEC);
	igt_require_f(fd >= 0, "%s: %m\n", path);
	regs = mmap(NULL, BAR0_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	igt_require_f(regs != MAP_FAILED, "%s: mmap: %m\n", path);
	return regs;
}

uint32_t npu_reg(volatile uint32_t *regs, unsigned int offset)
{
	return regs[offset / 4];
}

void npu_inject(volatile uint32_t *regs, enum npu_inject what, uint32_t value)
{
	igt_require_f(npu_reg(regs, NPU_REG_CAPS) & NPU_CAPS_INJECT,
		      "the device was started without --inject\n");
	regs[what / 4] = value;
}

void npu_inject_nothing(volatile uint32_t *regs)
{
	static const enum npu_inject all[] = {
		NPU_INJECT_IRQ_DROP, NPU_INJECT_IRQ_DELAY, NPU_INJECT_COPY_ERROR,
		NPU_INJECT_HANG, NPU_INJECT_FAULT_FULL, NPU_INJECT_SKIP_TLB, NPU_INJECT_COPY_HANG,
	};

	if (!(npu_reg(regs, NPU_REG_CAPS) & NPU_CAPS_INJECT))
		return;
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		regs[all[i] / 4] = 0;
}

int npu_sysfs_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* The kernel's name for the driver of a PCI device; false if it has none. */
bool npu_driver_of(const char *bdf, char *name, size_t size)
{
	char path[96], target[256];
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", bdf);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return false;
	target[len] = 0;
	snprintf(name, size, "%s", strrchr(target, '/') + 1);
	return true;
}

int npu_module_load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret;
}

int npu_module_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

/* Allocation failures of this thread. */

static int fail_nth = -1;

/* Allocations that may sleep fail as well, and nobody is told but us. */
void npu_fail_require(void)
{
	static const struct { const char *path, *value; } settings[] = {
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
	};

	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	igt_require_f(fail_nth >= 0, "the kernel has no fault injection\n");
	for (size_t i = 0; i < ARRAY_LEN(settings); i++)
		igt_require_f(npu_sysfs_write(settings[i].path, settings[i].value) == 0,
			      "%s can't be set\n", settings[i].path);
}

/* The allocation that fails, counted from 1; 0: none. */
void npu_fail_nth(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	igt_assert_eq((int)pwrite(fail_nth, text, len, 0), len);
}

/* How many allocations are left until the one that fails; 0: it has. */
unsigned int npu_fail_left(void)
{
	char text[16] = "";

	igt_assert(pread(fail_nth, text, sizeof(text) - 1, 0) > 0);
	return strtoul(text, NULL, 10);
}
