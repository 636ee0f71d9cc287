// SPDX-License-Identifier: MIT
/* What the kernel does with memory by itself: swap, compaction, merging, limits, pins. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Mirrored memory and the kernel's memory management");

#define SIZE	MIB(2)
#define KSM	"/sys/kernel/mm/ksm/"
#define GROUPS	"/sys/fs/cgroup/"

static struct svm s;

static void test_swap(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL), path[320];

	svm_swap_on(path, sizeof(path));
	for (int round = 0; round < 4; round++) {
		uint64_t swapped = 0;

		/* From the host, mapped by the device or not. */
		svm_put(p, SIZE, round);
		if (round & 1)
			svm_to_host(&s, p, SIZE);
		for (int i = 0; i < 100 && swapped < SIZE / PAGE / 2; i++) {
			igt_assert_eq(madvise(p, SIZE, MADV_PAGEOUT), 0);
			swapped = svm_swapped(p, SIZE);
		}
		igt_info("%llu of %llu pages swapped out\n", (unsigned long long)swapped,
			 (unsigned long long)(SIZE / PAGE));
		igt_assert_lt_u64(0, swapped);
		svm_assert_off_device(&s, p, SIZE);
		if (round & 2) {
			igt_assert_eq(svm_write(&s, p, SIZE / 2, 9), 0);
			svm_assert_cpu(p, SIZE / 2, 9);
			igt_assert_eq(svm_read(&s, p + SIZE / 2, SIZE / 2), 0);
			igt_assert_eq_u64(svm_find_at(s.stage.cpu, SIZE / 2, round, SIZE / 2), ~0ull);
		} else {
			svm_assert_device(&s, p, SIZE, round);
			svm_assert_cpu(p, SIZE, round);
		}

		/* What is on the device is out of reach for swap, and stays right. */
		svm_put(p, SIZE, round + 10);
		/* But for pages that are still on their way to the disk. */
		igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEVICE), 0);
		igt_assert_lte_u64(SIZE / 2, svm_where(&s, p, SIZE).device);
		madvise(p, SIZE, MADV_PAGEOUT);
		svm_assert_device(&s, p, SIZE, round + 10);
		svm_assert_cpu(p, SIZE, round + 10);
	}

	/* What the device writes to pages in the host is not lost when they are swapped out. */
	igt_assert_eq(svm_advise(&s, p, SIZE, DRM_GMEM_ATTR_ACCESS, DRM_GMEM_ACCESS_IN_PLACE), 0);
	for (int round = 0; round < 3; round++) {
		igt_assert_eq(svm_write(&s, p, SIZE, 30 + round), 0);
		svm_assert_where(&s, p, SIZE, host);
		igt_assert_eq(madvise(p, SIZE, MADV_PAGEOUT), 0);
		svm_assert_device(&s, p, SIZE, 30 + round);
		igt_assert_eq(madvise(p, SIZE, MADV_PAGEOUT), 0);
		svm_assert_cpu(p, SIZE, 30 + round);
	}

	/* In the middle of it all swap goes away. */
	igt_assert_eq(svm_write(&s, p, SIZE, 40), 0);
	igt_assert_eq(madvise(p, SIZE, MADV_PAGEOUT), 0);
	igt_assert_f(swapoff(path) == 0, "swapoff: %m\n");
	svm_assert_device(&s, p, SIZE, 40);
	svm_assert_cpu(p, SIZE, 40);
	svm_free(p, SIZE);
}

/* Pages move in the host while the device has them mapped. */
static void test_compaction(void)
{
	enum { PIECES = 24 };
	char *p[PIECES];
	uint64_t seed = npu_seed();

	for (int i = 0; i < PIECES; i++) {
		p[i] = svm_anon(MIB(1), SVM_SMALL);
		svm_put(p[i], MIB(1), i);
		igt_assert_eq(svm_advise(&s, p[i], MIB(1), DRM_GMEM_ATTR_ACCESS,
					 DRM_GMEM_ACCESS_IN_PLACE), 0);
		svm_assert_device(&s, p[i], MIB(1), i);
		svm_assert_where(&s, p[i], MIB(1), host);
	}
	for (unsigned int round = 0; round < npu_scale(6); round++) {
		/* Holes of a page, for others to move there or away. */
		for (int i = 0; i < PIECES; i++)
			for (uint64_t at = round * PAGE; at < MIB(1); at += 16 * PAGE)
				igt_assert_eq(madvise(p[i] + at, PAGE, MADV_DONTNEED), 0);
		igt_require_f(npu_sysfs_write("/proc/sys/vm/compact_memory", "1") == 0,
			      "no compaction\n");
		for (int i = 0; i < PIECES; i++) {
			uint64_t write = npu_random(&seed) % 256 * PAGE;

			igt_assert_eq(svm_write(&s, p[i] + write, PAGE, i), 0);
			igt_assert_eq(svm_read(&s, p[i], MIB(1)), 0);
			igt_assert_eq_u64(svm_find_at((char *)s.stage.cpu + write, PAGE, i, 0), ~0ull);
			igt_assert(!memcmp(s.stage.cpu, p[i], MIB(1)));
			svm_put(p[i], MIB(1), i);
			svm_assert_device(&s, p[i], MIB(1), i);
		}
	}
	for (int i = 0; i < PIECES; i++)
		svm_free(p[i], MIB(1));
}

/* Small pages become a huge one and again small ones under the device. */
static void test_collapse(void)
{
	char *p = svm_anon(SIZE, SVM_DEFAULT);

	for (int round = 0; round < 4; round++) {
		igt_assert_eq(madvise(p, SIZE, MADV_NOHUGEPAGE), 0);
		igt_assert_eq(madvise(p, SIZE, MADV_DONTNEED), 0);
		svm_put(p, SIZE, round);
		igt_assert_eq(svm_prefetch(&s, p, SIZE, round & 1 ? DRM_GMEM_LOCATION_DEVICE :
					   DRM_GMEM_LOCATION_HOST), 0);
		igt_assert_eq(madvise(p, SIZE, MADV_HUGEPAGE), 0);
		/* Pages on a device can't be collapsed. */
		if (madvise(p, SIZE, MADV_COLLAPSE))
			igt_assert_f(round & 1, "MADV_COLLAPSE: %m\n");
		svm_assert_device(&s, p, SIZE, round);
		svm_to_host(&s, p, SIZE);
		igt_assert_f(madvise(p, SIZE, MADV_COLLAPSE) == 0, "MADV_COLLAPSE: %m\n");
		svm_assert_device(&s, p, SIZE, round);

		/* One page of it goes, and its protection differs. */
		igt_assert_eq(madvise(p + MIB(1), PAGE, MADV_DONTNEED), 0);
		igt_assert_eq(mprotect(p + KIB(64), PAGE, PROT_READ), 0);
		svm_assert_device_bytes(&s, p + MIB(1), PAGE, 0);
		svm_assert_fault(&s, svm_poke(&s, p + KIB(64), 0), p + KIB(64), NPU_NOT_WRITABLE,
				 NPU_WRITE);
		svm_assert_device(&s, p, MIB(1), round);
		igt_assert_eq(mprotect(p + KIB(64), PAGE, PROT_READ | PROT_WRITE), 0);
	}
	svm_free(p, SIZE);
}

/* Equal pages become one; who writes gets a page of its own. */
static void test_ksm(void)
{
	const uint64_t size = KIB(256);
	char *p = svm_anon(size, SVM_SMALL), *q = svm_anon(size, SVM_SMALL);
	uint64_t merged;

	igt_require_f(npu_sysfs_write(KSM "run", "1") == 0, "no KSM\n");
	npu_sysfs_write(KSM "sleep_millisecs", "0");
	npu_sysfs_write(KSM "pages_to_scan", "5000");
	for (int on_device = 0; on_device < 2; on_device++) {
		uint64_t to = on_device ? DRM_GMEM_LOCATION_DEVICE : DRM_GMEM_LOCATION_HOST;

		svm_put(p, size, 1);
		svm_put(q, size, 1);
		/* Mapped, so that the device must notice. */
		igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_HOST), 0);
		igt_assert_eq(svm_prefetch(&s, q, size, to), 0);
		svm_assert_device(&s, p, size, 1);
		igt_assert_eq(madvise(p, size, MADV_MERGEABLE), 0);
		igt_assert_eq(madvise(q, size, MADV_MERGEABLE), 0);
		merged = 0;
		for (int ms = 0; ms < 30000 && merged < size / PAGE && !on_device; ms += 10) {
			merged = svm_number(KSM "pages_sharing");
			usleep(10000);
		}
		if (!on_device)
			igt_assert_lt_u64(0, merged);
		igt_info("%llu pages merged\n", (unsigned long long)merged);
		/* Merged pages don't move; those on the device have not been merged. */
		igt_assert_eq(svm_prefetch(&s, q, size, DRM_GMEM_LOCATION_DEVICE), 0);
		if (on_device)
			svm_assert_on_device(&s, q, size);
		svm_assert_device(&s, p, size, 1);
		svm_assert_device(&s, q, size, 1);
		igt_assert_eq(svm_write(&s, p, size, 2), 0);
		svm_assert_cpu(q, size, 1);
		svm_assert_cpu(p, size, 2);
		svm_put(q, size, 3);
		svm_assert_device(&s, q, size, 3);
		svm_assert_device(&s, p, size, 2);
		igt_assert_eq(madvise(p, size, MADV_UNMERGEABLE), 0);
		igt_assert_eq(madvise(q, size, MADV_UNMERGEABLE), 0);
		svm_assert_device(&s, q, size, 3);
		svm_assert_device(&s, p, size, 2);
	}
	npu_sysfs_write(KSM "run", "2");
	npu_sysfs_write(KSM "run", "0");
	svm_free(p, size);
	svm_free(q, size);
}

/* Missing pages that another thread brings: for reads, writes and a prefetch. */
static void test_uffd_missing(void)
{
	const uint64_t size = 16 * PAGE;
	char *p = svm_anon(size, SVM_SMALL);
	struct svm_uffd u = { .fd = svm_uffd_open() };

	svm_uffd_register(u.fd, p, size, UFFDIO_REGISTER_MODE_MISSING);
	svm_uffd_start(&u, 0x42);
	igt_assert_eq(svm_touch(&s, p), 0);
	igt_assert_eq(*(uint8_t *)s.stage.cpu, 0x42);
	igt_assert_eq(svm_poke(&s, p + PAGE, 0x11), 0);
	igt_assert_eq_u64(*(volatile uint64_t *)(p + PAGE), 0x11);
	igt_assert_eq_u64(*(volatile uint64_t *)(p + PAGE + 8), 0x4242424242424242ull);
	svm_assert_device_bytes(&s, p + 2 * PAGE, 6 * PAGE, 0x42);
	svm_assert_cpu_bytes(p + 2 * PAGE, 6 * PAGE, 0x42);

	/* A prefetch leaves it to the process, too. */
	igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_DEVICE), 0);
	svm_assert_device_bytes(&s, p + 2 * PAGE, size - 2 * PAGE, 0x42);
	igt_assert_eq_u32(u.missing, size / PAGE);

	/* Dropped, they are missing again. */
	igt_assert_eq(madvise(p, size, MADV_DONTNEED), 0);
	svm_assert_device_bytes(&s, p, size, 0x42);
	igt_assert_eq_u32(u.missing, 2 * size / PAGE);
	svm_uffd_stop(&u);
	close(u.fd);
	svm_assert_device_bytes(&s, p, size, 0x42);
	svm_free(p, size);
}

/* Writes that another thread is told about first, wherever the page is. */
static void test_uffd_wp(void)
{
	const uint64_t size = 16 * PAGE;
	char *p = svm_anon(size, SVM_SMALL);
	struct svm_uffd u = { .fd = svm_uffd_open() };

	svm_put(p, size, 1);
	svm_uffd_register(u.fd, p, size, UFFDIO_REGISTER_MODE_WP);
	for (int round = 0; round < 4; round++) {
		igt_assert_eq(svm_prefetch(&s, p, size, round & 1 ? DRM_GMEM_LOCATION_DEVICE :
					   DRM_GMEM_LOCATION_HOST), 0);
		/* Written just before, so that the device's TLB permits it. */
		igt_assert_eq(svm_write(&s, p, size, 1), 0);
		svm_uffd_protect(u.fd, p, size, true);
		svm_uffd_start(&u, 0);
		svm_assert_device(&s, p, size, 1);
		igt_assert_eq_u32(u.wp, 0);
		igt_assert_eq(svm_poke(&s, p + 3 * PAGE, 7), 0);
		igt_assert_lte(1, (int)u.wp);
		igt_assert_lte((int)u.wp, (int)(size / PAGE));
		igt_assert_eq_u64(*(volatile uint64_t *)(p + 3 * PAGE), 7);
		igt_assert_eq(svm_write(&s, p, size, 2), 0);
		igt_assert_lte((int)(size / PAGE), (int)u.wp);
		svm_uffd_stop(&u);
		svm_assert_cpu(p, size, 2);
	}
	igt_assert_eq_u32(u.missing, 0);
	close(u.fd);
	svm_free(p, size);
}

/* System calls read and write what is on the device. */
static void test_syscalls(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL), *data = malloc(SIZE);
	int file = svm_temp_file("/tmp", SIZE);

	igt_assert(data);
	for (int round = 0; round < 2; round++) {
		svm_put(p, SIZE, round);
		svm_to_device(&s, p, SIZE);
		igt_assert_eq(pwrite(file, p, SIZE, 0), SIZE);
		igt_assert_eq(pread(file, data, SIZE, 0), SIZE);
		svm_assert_cpu(data, SIZE, round);
		svm_assert_device(&s, p, SIZE, round);

		svm_put(data, SIZE, round + 10);
		igt_assert_eq(pwrite(file, data, SIZE, 0), SIZE);
		svm_to_device(&s, p, SIZE);
		igt_assert_eq(pread(file, p, SIZE, 0), SIZE);
		svm_assert_device(&s, p, SIZE, round + 10);
		svm_assert_cpu(p, SIZE, round + 10);
	}
	close(file);
	free(data);
	svm_free(p, SIZE);
}

/* Pages in a pipe are pinned: they stay until it is read; what is in it then is what is there then. */
static void test_vmsplice(void)
{
	const uint64_t size = 8 * PAGE;
	char *p = svm_anon(size, SVM_SMALL), data[PAGE];
	int pipes[2];

	igt_assert_eq(pipe(pipes), 0);
	igt_assert_eq(svm_advise(&s, p, size, DRM_GMEM_ATTR_GRANULARITY, 12), 0);
	svm_put(p, size, 1);
	svm_to_device(&s, p, size);
	for (uint64_t at = 0; at < size; at += 2 * PAGE) {
		struct iovec v = { .iov_base = p + at, .iov_len = PAGE };

		igt_assert_eq(vmsplice(pipes[1], &v, 1, 0), PAGE);
	}
	for (int round = 0; round < 2; round++) {
		igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_DEVICE), 0);
		igt_assert_eq_u64(s.prefetch.mapped, size);
		for (uint64_t at = 0; at < size; at += 2 * PAGE) {
			svm_assert_where(&s, p + at, PAGE, host);
			svm_assert_where(&s, p + at + PAGE, PAGE, device);
		}
		svm_assert_device(&s, p, size, 1);
	}

	/* The device writes to the pinned page itself, and who reads the pipe sees it. */
	igt_assert_eq(svm_write(&s, p, size, 2), 0);
	for (uint64_t at = 0; at < size; at += 2 * PAGE) {
		igt_assert_eq(read(pipes[0], data, PAGE), PAGE);
		igt_assert_eq_u64(svm_find_at(data, PAGE, 2, at), ~0ull);
	}
	svm_assert_device(&s, p, size, 2);
	svm_to_device(&s, p, size);
	svm_assert_cpu(p, size, 2);
	close(pipes[0]);
	close(pipes[1]);
	svm_free(p, size);
}

/* A disk reads and writes what is on the device, or was. */
static void test_direct_io(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL), *data = aligned_alloc(PAGE, SIZE), path[320];
	bool writable = svm_scratch_disk(path, sizeof(path)) && (!swapoff(path) || errno == EINVAL);
	int disk = open(writable ? path : "/dev/vda",
			(writable ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);

	igt_require_f(disk >= 0, "no disk: %m\n");
	igt_assert(data);
	for (int round = 0; round < 3; round++) {
		svm_put(p, SIZE, round);
		svm_to_device(&s, p, SIZE);
		if (writable) {
			igt_assert_eq(pwrite(disk, p, SIZE, MIB(1)), SIZE);
			igt_assert_eq(pread(disk, data, SIZE, MIB(1)), SIZE);
			svm_assert_cpu(data, SIZE, round);
			svm_assert_device(&s, p, SIZE, round);
			svm_put(data, SIZE, round + 10);
			igt_assert_eq(pwrite(disk, data, SIZE, MIB(1)), SIZE);
		}
		svm_to_device(&s, p, SIZE);
		igt_assert_eq(pread(disk, data, SIZE, MIB(1)), SIZE);
		igt_assert_eq(pread(disk, p, SIZE, MIB(1)), SIZE);
		igt_assert_eq(svm_read(&s, p, SIZE), 0);
		igt_assert(!memcmp(s.stage.cpu, data, SIZE));
		igt_assert(!memcmp(p, data, SIZE));
	}
	close(disk);
	free(data);
	svm_free(p, SIZE);
}

/* Others look at and write to the process's memory. */
static void test_proc_mem(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	volatile uint32_t *flags = svm_flags();
	char path[32];

	svm_put(p, SIZE, 1);
	svm_to_device(&s, p, SIZE);
	snprintf(path, sizeof(path), "/proc/%d/mem", getpid());
	igt_fork(child, 1) {
		char *data = malloc(SIZE);
		int mem = open(path, O_RDWR | O_CLOEXEC);

		igt_assert_f(mem >= 0, "%s: %m\n", path);
		igt_assert(data);
		igt_assert_eq(pread(mem, data, SIZE, svm_va(p)), SIZE);
		svm_assert_cpu(data, SIZE, 1);
		svm_put(data, SIZE, 2);
		igt_assert_eq(pwrite(mem, data, SIZE, svm_va(p)), SIZE);
		flags[0] = 1;
		/* Its own copy is what it was. */
		svm_assert_cpu(p, SIZE, 1);
	}
	svm_await(&flags[0], 1);
	svm_assert_device(&s, p, SIZE, 2);
	igt_waitchildren();
	svm_assert_cpu(p, SIZE, 2);
	svm_flags_free(flags);
	svm_free(p, SIZE);
}

/* Files that tell about memory tell, and change nothing. */
static void test_procfs(void)
{
	static const char *const files[] = {
		"/proc/self/smaps", "/proc/self/smaps_rollup", "/proc/self/maps",
		"/proc/self/status", "/proc/self/statm", "/proc/meminfo", "/proc/vmstat",
		"/proc/pagetypeinfo", "/proc/buddyinfo", "/proc/zoneinfo",
	};
	char *p = svm_anon(SIZE, SVM_SMALL), *text = malloc(MIB(1));
	unsigned char vec[SIZE / PAGE];

	igt_assert(text);
	svm_put(p, SIZE, 1);
	svm_to_device(&s, p, SIZE);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		int file = open(files[i], O_RDONLY | O_CLOEXEC);

		while (file >= 0 && read(file, text, MIB(1)) > 0)
			;
		close(file);
	}
	igt_assert_eq(mincore(p, SIZE, vec), 0);
	svm_assert_on_device(&s, p, SIZE);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_cpu(p, SIZE, 1);
	free(text);
	svm_free(p, SIZE);
}

static void group_write(const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), GROUPS "npu-svm/%s", file);
	igt_require_f(npu_sysfs_write(path, text) == 0, "%s can't be written\n", path);
}

static uint64_t group_event(const char *what)
{
	char text[512], *at;

	igt_assert_eq(svm_text(GROUPS "npu-svm/memory.events", text, sizeof(text)), 0);
	at = strstr(text, what);
	return at ? strtoull(at + strlen(what), NULL, 10) : 0;
}

/* Memory that faults of the device make counts for the group of the process, and is limited. */
static void test_memcg(void)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	npu_sysfs_write(GROUPS "cgroup.subtree_control", "+memory");
	igt_require_f(mkdir(GROUPS "npu-svm", 0755) == 0 || errno == EEXIST, "no cgroup: %m\n");
	group_write("memory.max", "100663296");
	npu_sysfs_write(GROUPS "npu-svm/memory.swap.max", "0");
	for (int way = 0; way < 2; way++) {
		uint64_t kills = group_event("oom_kill ");
		int status;

		igt_fork(child, 1) {
			uint64_t size = way ? MIB(256) : MIB(16);
			struct svm mine;
			char pid[16], *p;

			snprintf(pid, sizeof(pid), "%d", getpid());
			group_write("cgroup.procs", pid);
			svm_open(&mine);
			p = svm_anon(size, SVM_SMALL);
			igt_assert_eq(svm_advise(&mine, p, size, DRM_GMEM_ATTR_ACCESS,
						 DRM_GMEM_ACCESS_IN_PLACE), 0);
			for (uint64_t at = 0; at < size; at += MIB(4)) {
				int ret = svm_write(&mine, p + at, MIB(4), at);

				/* Too much: the job fails, unless the process is killed. */
				if (ret) {
					igt_assert(way && ret == -EFAULT);
					igt_assert_lte_u64(MIB(32), at);
					exit(55);
				}
			}
			igt_assert(!way);
			for (uint64_t at = 0; at < size; at += MIB(4))
				svm_assert_device(&mine, p + at, MIB(4), at);
			igt_assert_lte_u64(size, svm_number(GROUPS "npu-svm/memory.current"));
			svm_to_device(&mine, p, MIB(8));
			for (uint64_t at = 0; at < size; at += MIB(4))
				svm_assert_cpu(p + at, MIB(4), at);
			svm_close(&mine);
		}
		status = __igt_waitchildren();
		if (way) {
			igt_info("beyond the limit: status %d, %llu killed\n", status,
				 (unsigned long long)(group_event("oom_kill ") - kills));
			igt_assert(status == 55 || status == 128 + SIGKILL);
		} else {
			igt_assert_eq(status, 0);
			igt_assert_eq_u64(group_event("oom_kill "), kills);
		}
		npu_assert_mem_free(base, before);
	}
	/* Empty groups can be removed at once; those with memory can be, too, but live on. */
	igt_assert_f(rmdir(GROUPS "npu-svm") == 0, "rmdir: %m\n");
	close(base);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		{ "swap", "Swapped out and in", test_swap },
		{ "compaction", "Compaction moves pages in the host", test_compaction },
		{ "collapse", "Huge pages are made and split", test_collapse },
		{ "ksm", "Equal pages are merged", test_ksm },
		{ "uffd-missing", "Missing pages of a userfaultfd", test_uffd_missing },
		{ "uffd-wp", "Write-protected pages of a userfaultfd", test_uffd_wp },
		{ "syscalls", "read() and write() on what is on the device", test_syscalls },
		{ "vmsplice", "Pinned pages stay where they are", test_vmsplice },
		{ "direct-io", "Direct I/O on what is on the device", test_direct_io },
		{ "proc-mem", "Another process reads and writes what is on the device",
		  test_proc_mem },
		{ "procfs", "Files that tell about memory", test_procfs },
	};

	igt_fixture()
		close(npu_open());

	svm_run(&s, tests, ARRAY_LEN(tests));

	igt_describe("A limit of memory, within and beyond");
	igt_subtest("memcg")
		test_memcg();
}
