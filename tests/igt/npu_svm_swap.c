// SPDX-License-Identifier: MIT
/* A disk to swap to, and memory that is swapped out. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "npu_svm.h"

#define GROUP	"/sys/fs/cgroup/npu-swap/"

/* A disk that nobody uses, to be overwritten: its serial number says "scratch". */
bool svm_scratch_disk(char *path, size_t size)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		char name[300], serial[64];

		snprintf(name, sizeof(name), "/sys/block/%s/serial", entry->d_name);
		found = !svm_text(name, serial, sizeof(serial)) && !strncmp(serial, "scratch", 7);
		if (found)
			snprintf(path, size, "/dev/%s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* Lets the kernel swap to the scratch disk: its first page says that one may. */
void svm_swap_on(char *path, size_t size)
{
	struct {
		char boot[1024];
		uint32_t version, last_page, bad_pages;
	} *header;
	char *page = aligned_alloc(PAGE, PAGE);
	uint64_t bytes;
	int disk;

	igt_require_f(svm_scratch_disk(path, size), "the guest has no scratch disk to swap to\n");
	igt_assert(page);
	disk = open(path, O_RDWR | O_CLOEXEC);
	igt_assert_f(disk >= 0, "%s: %m\n", path);
	bytes = lseek(disk, 0, SEEK_END);
	igt_assert_lte_u64(MIB(16), bytes);
	memset(page, 0, PAGE);
	header = (void *)page;
	header->version = 1;
	header->last_page = bytes / PAGE - 1;
	memcpy(page + PAGE - 10, "SWAPSPACE2", 10);
	igt_assert_eq(pwrite(disk, page, PAGE, 0), PAGE);
	igt_assert_eq(fsync(disk), 0);
	close(disk);
	free(page);
	swapoff(path);
	igt_assert_f(swapon(path, 0) == 0, "swapon %s: %m\n", path);
}

/* Makes a memory control group for processes whose memory is to be swapped out. */
void svm_group_make(void)
{
	npu_sysfs_write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	igt_require_f(mkdir(GROUP, 0755) == 0 || errno == EEXIST, "no cgroup: %m\n");
}

/* Puts the calling process into that. */
void svm_group_join(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	igt_assert_eq(npu_sysfs_write(GROUP "cgroup.procs", pid), 0);
}

/* Has so many bytes of the group swapped out, at least; says how many are. */
uint64_t svm_group_swap_out(uint64_t bytes)
{
	uint64_t swapped = 0;

	for (int i = 0; i < 200 && swapped < bytes; i++) {
		npu_sysfs_write(GROUP "memory.reclaim", "4M");
		swapped = svm_number(GROUP "memory.swap.current");
	}
	return swapped;
}
