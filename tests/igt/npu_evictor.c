// SPDX-License-Identifier: MIT
/* What debugfs says of the evictor of the device under test, and lets one set. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "npu_svm.h"

static void path_of(const char *file, char *path, size_t size)
{
	snprintf(path, size, "/sys/kernel/debug/gmem_vm-%s/%s",
		 npu_device_bdf(npu_device_under_test()), file);
}

/* A number of the first line of the file "memory", as "evictions="; 0 as long as there is no evictor. */
uint64_t npu_evictor_count(const char *name)
{
	char path[256], text[512], *at;

	path_of("memory", path, sizeof(path));
	igt_assert_eq(svm_text(path, text, sizeof(text)), 0);
	if (!text[0])
		return 0;
	at = strstr(text, name);
	igt_assert_f(at, "%s is not in: %s\n", name, text);
	return strtoull(at + strlen(name), NULL, 10);
}

/* 0, or an error. */
int npu_evictor_set_policy(const char *name)
{
	char path[256];

	path_of("evict_policy", path, sizeof(path));
	return npu_sysfs_write(path, name);
}
