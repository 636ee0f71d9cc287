// SPDX-License-Identifier: MIT
/* Jobs on plain pointers: VMs that mirror the process, and what happens to its memory. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "npu_svm.h"

#define PATIENCE_MS	120000

int npu_mirror(int fd, uint32_t vm, uint64_t va, const void *cpu, uint64_t size, uint32_t flags)
{
	struct drm_gmem_bind_op op = npu_op_mirror(va, cpu, size);

	op.flags = flags;
	return npu_bind(fd, vm, &op, 1);
}

int npu_prefetch(int fd, struct drm_gmem_prefetch *arg)
{
	return npu_ioctl(fd, DRM_IOCTL_NPU_PREFETCH, arg);
}

int npu_vm_stats(int fd, uint32_t vm, struct drm_gmem_vm_stats *stats)
{
	*stats = (struct drm_gmem_vm_stats) { .vm_id = vm };
	return npu_ioctl(fd, DRM_IOCTL_NPU_VM_STATS, stats);
}

/* A VM without a mirror. */
void svm_init_bare(struct svm *s, int fd)
{
	*s = (struct svm) {};
	igt_require_f(npu_device_info(fd).caps & DRM_GMEM_CAP_FAULTS,
		      "the device serves no page faults\n");
	npu_ctx_init(&s->ctx, fd);
	s->stage = npu_bo(&s->ctx, SVM_STAGE, NPU_HOST, 0);
}

/* A VM that mirrors all there is. */
void svm_init(struct svm *s, int fd)
{
	svm_init_bare(s, fd);
	igt_assert_eq(npu_mirror(fd, s->ctx.vm, SVM_START, (void *)SVM_START, SVM_END - SVM_START,
				 0), 0);
}

void svm_fini(struct svm *s)
{
	npu_bo_free(&s->ctx, &s->stage);
	npu_ctx_fini(&s->ctx);
}

void svm_open(struct svm *s)
{
	svm_init(s, npu_open());
}

void svm_open_bare(struct svm *s)
{
	svm_init_bare(s, npu_open());
}

void svm_close(struct svm *s)
{
	int fd = s->ctx.fd;

	svm_fini(s);
	close(fd);
}

/* Leaves it to the kernel to end the VM with its file. */
void svm_drop(struct svm *s)
{
	igt_assert_eq(munmap(s->stage.cpu, s->stage.size), 0);
	npu_ctx_drop(&s->ctx);
}

/* Runs subtests, each with a client of its own in @s, if they share one; it must still work afterwards. */
void svm_run(struct svm *s, const struct svm_test *tests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		igt_describe(tests[i].what);
		igt_subtest(tests[i].name) {
			if (s)
				svm_open(s);
			tests[i].test();
			if (s) {
				npu_assert_alive(&s->ctx);
				svm_close(s);
			}
		}
	}
}

/* The NPU with this index, or the one under test if there are not so many. */
int svm_open_device(int index)
{
	int fd;

	if (index >= npu_devices())
		return npu_open();
	fd = npu_open_bdf(npu_device_bdf(index));
	igt_assert_fd(fd);
	return fd;
}

/* Memory */

/* At a multiple of 2 MiB, with a page to each side that is never mapped. */
void *svm_map(uint64_t size, int prot, int flags, int fd)
{
	uint64_t room = npu_round_up(size, PAGE) + 2 * MIB(2);
	char *start, *p;

	start = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	igt_assert_f(start != MAP_FAILED, "mmap: %m\n");
	p = (char *)npu_round_up(svm_va(start) + PAGE, MIB(2));
	igt_assert(svm_va(p) >= SVM_START && svm_va(p) + size <= SVM_END);
	igt_assert_eq(munmap(start, room), 0);
	if (mmap(p, size, prot, flags | MAP_FIXED_NOREPLACE, fd, 0) != p)
		return NULL;
	return p;
}

void *svm_anon(uint64_t size, enum svm_pages pages)
{
	void *p = svm_map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	igt_assert_f(p, "mmap: %m\n");
	if (pages != SVM_DEFAULT)
		igt_assert_eq(madvise(p, size, pages == SVM_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE),
			      0);
	return p;
}

void svm_free(void *p, uint64_t size)
{
	igt_assert_eq(munmap(p, size), 0);
}

/* A file without a name, of zeros. */
int svm_temp_file(const char *dir, uint64_t size)
{
	int fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

	igt_assert_f(fd >= 0, "%s: %m\n", dir);
	igt_assert_eq(ftruncate(fd, size), 0);
	return fd;
}

/* What /proc/self/pagemap says of a page: bit 63 present, bit 62 swapped, or on a device. */
uint64_t svm_pagemap(const void *p)
{
	static int fd = -1;
	static pid_t owner;
	uint64_t entry;

	if (fd < 0 || owner != getpid()) {
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		igt_assert_fd(fd);
		owner = getpid();
	}
	igt_assert_eq((int)pread(fd, &entry, 8, svm_va(p) / PAGE * 8), 8);
	return entry;
}

static uint64_t count_pages(const void *p, uint64_t size, int bit)
{
	uint64_t count = 0;

	for (uint64_t at = 0; at < size; at += PAGE)
		count += svm_pagemap((const char *)p + at) >> bit & 1;
	return count;
}

/* Pages that the CPU's page table has. */
uint64_t svm_present(const void *p, uint64_t size)
{
	return count_pages(p, size, 63);
}

/* Pages that the CPU has to get from somewhere. */
uint64_t svm_swapped(const void *p, uint64_t size)
{
	return count_pages(p, size, 62);
}

/* Contents */

/* splitmix64 of both */
uint64_t svm_word(uint64_t seed, uint64_t i)
{
	uint64_t state = seed * 0xd1342543de82ef95ull + i * 0x9e3779b97f4a7c15ull;

	return npu_random(&state) | 1;
}

void svm_put(void *p, uint64_t size, uint64_t seed)
{
	volatile uint64_t *words = p;

	for (uint64_t i = 0; i < size / 8; i++)
		words[i] = svm_word(seed, i);
}

/* Where what svm_put() put isn't any more; ~0: nowhere. @at: where in it @p is. */
uint64_t svm_find_at(const void *p, uint64_t size, uint64_t seed, uint64_t at)
{
	const volatile uint64_t *words = p;

	for (uint64_t i = 0; i < size / 8; i++)
		if (words[i] != svm_word(seed, at / 8 + i))
			return i * 8;
	return ~0ull;
}

uint64_t svm_find(const void *p, uint64_t size, uint64_t seed)
{
	return svm_find_at(p, size, seed, 0);
}

uint64_t svm_find_byte(const void *p, uint64_t size, uint8_t byte)
{
	const volatile uint64_t *words = p;

	for (uint64_t i = 0; i < size / 8; i++)
		for (int b = 0; words[i] != byte * 0x0101010101010101ull && b < 8; b++)
			if (((const volatile uint8_t *)p)[i * 8 + b] != byte)
				return i * 8 + b;
	return ~0ull;
}

/* Jobs */

/* Copies to the stage, which is no tag and no zero before. */
int svm_read(struct svm *s, const void *p, uint64_t size)
{
	struct npu_cb cb = npu_begin(&s->ctx);

	igt_assert(size <= SVM_STAGE);
	memset(s->stage.cpu, 0x5a, size);
	npu_cmd_copy(&cb, s->stage.va, svm_va(p), size);
	return npu_run(&s->ctx, &cb);
}

/* Writes what svm_put() would, by jobs of a stage each. */
int svm_write(struct svm *s, void *p, uint64_t size, uint64_t seed)
{
	int result = 0;

	for (uint64_t at = 0; !result && at < size; at += SVM_STAGE) {
		uint64_t n = npu_min(size - at, SVM_STAGE);
		volatile uint64_t *words = s->stage.cpu;
		struct npu_cb cb = npu_begin(&s->ctx);

		for (uint64_t i = 0; i < n / 8; i++)
			words[i] = svm_word(seed, at / 8 + i);
		npu_cmd_copy(&cb, svm_va(p) + at, s->stage.va, n);
		result = npu_run(&s->ctx, &cb);
	}
	return result;
}

int svm_fill(struct svm *s, void *p, uint64_t size, uint32_t pattern)
{
	struct npu_cb cb = npu_begin(&s->ctx);

	npu_cmd_fill(&cb, svm_va(p), size, pattern);
	return npu_run(&s->ctx, &cb);
}

int svm_copy(struct svm *s, void *to, const void *from, uint64_t size)
{
	struct npu_cb cb = npu_begin(&s->ctx);

	npu_cmd_copy(&cb, svm_va(to), svm_va(from), size);
	return npu_run(&s->ctx, &cb);
}

/* @at: where they differ first, NPU_COMPARE_EQUAL if nowhere. */
int svm_compare(struct svm *s, const void *a, const void *b, uint64_t size, uint64_t *at)
{
	struct npu_cell cell = npu_cell(&s->ctx, 0);
	struct npu_cb cb = npu_begin(&s->ctx);
	int result;

	npu_cmd_compare(&cb, cell.va, svm_va(a), svm_va(b), size);
	result = npu_run(&s->ctx, &cb);
	*at = *cell.cpu;
	return result;
}

/* Reads a byte, which is in the stage then. */
int svm_touch(struct svm *s, const volatile void *p)
{
	return svm_read(s, (const void *)p, 1);
}

int svm_poke(struct svm *s, volatile void *p, uint64_t value)
{
	return npu_write(&s->ctx, svm_va(p), value);
}

int svm_prefetch(struct svm *s, const void *p, uint64_t size, uint64_t location)
{
	int ret;

	s->prefetch = (struct drm_gmem_prefetch) {
		.vm_id = s->ctx.vm, .va = svm_va(p), .size = size, .location = location,
	};
	ret = npu_prefetch(s->ctx.fd, &s->prefetch);
	if (!ret) {
		igt_assert_lte_u64(s->prefetch.moved, size);
		igt_assert_lte_u64(s->prefetch.mapped, size);
	}
	return ret;
}

/* Where a mirrored range is; device and CPU address are the same. */
struct svm_where svm_where(struct svm *s, const void *p, uint64_t size)
{
	static struct drm_gmem_range ranges[256];
	struct svm_where where = {};
	uint64_t at = svm_va(p), rest = size, end = at + size;

	while (rest) {
		uint32_t count = ARRAY_LEN(ranges);
		uint64_t va = at;

		igt_assert_eq(npu_query_range(s->ctx.fd, s->ctx.vm, &at, &rest, ranges, &count), 0);
		igt_assert_lte(1, count);
		igt_assert_eq_u64(at + rest, end);
		for (uint32_t i = 0; i < count; i++) {
			const struct drm_gmem_range *r = &ranges[i];

			igt_assert_eq_u64(r->va, va);
			igt_assert_lt_u64(0, r->size);
			igt_assert_eq_u32(r->mapping, DRM_GMEM_MAPPING_MIRROR);
			igt_assert_eq_u64(r->bo_offset, va);
			if (r->residency == DRM_GMEM_RESIDENT_NOWHERE)
				where.nowhere += r->size;
			else if (r->residency == DRM_GMEM_RESIDENT_HOST)
				where.host += r->size;
			else
				where.device += r->size;
			igt_assert_lte_u64(r->residency, DRM_GMEM_RESIDENT_DEVICE);
			va += r->size;
		}
		igt_assert_eq_u64(va, at);
	}
	return where;
}

struct drm_gmem_vm_stats svm_stats(struct svm *s)
{
	struct drm_gmem_vm_stats stats;

	igt_assert_eq(npu_vm_stats(s->ctx.fd, s->ctx.vm, &stats), 0);
	igt_assert_lte_u64(stats.merged, stats.faults);
	igt_assert_lte_u64(stats.bad, stats.faults);
	igt_assert_lte_u64(stats.extents * PAGE, stats.mirrored);
	return stats;
}

int svm_advise(struct svm *s, const void *p, uint64_t size, uint32_t kind, uint64_t value)
{
	struct drm_gmem_attr attr = { .kind = kind, .value = value };

	return npu_advise(s->ctx.fd, s->ctx.vm, svm_va(p), size, 0, &attr, 1);
}

/* Processes and threads */

/* A page that parent and children share, to tell each other how far they are. */
volatile uint32_t *svm_flags(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	igt_assert(p != MAP_FAILED);
	return p;
}

void svm_flags_free(volatile uint32_t *flags)
{
	igt_assert_eq(munmap((void *)flags, PAGE), 0);
}

/* Whether one of those that the flag might depend on has failed by now. */
static bool child_failed(void)
{
	siginfo_t info = {};

	return !waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid &&
	       (info.si_code != CLD_EXITED || info.si_status);
}

/* Waits until the flag has come to a value, or it is clear that it won't. */
bool svm_reached(volatile uint32_t *flag, uint32_t value)
{
	for (int ms = 0; *flag < value && ms < PATIENCE_MS && !child_failed(); ms++)
		usleep(1000);
	return *flag >= value;
}

void svm_await(volatile uint32_t *flag, uint32_t value)
{
	igt_assert_f(svm_reached(flag, value), "still at %u of %u\n", *flag, value);
}

/* A child that says by its exit status how it went; asserts must not leave it. */
pid_t svm_fork(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	igt_assert_f(pid >= 0, "fork: %m\n");
	return pid;
}

/* Exit status, 128 + signal, or -ETIME if it did not end, and was killed. */
int svm_wait_child(pid_t pid)
{
	int status;

	for (int ms = 0; ms < PATIENCE_MS; ms++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		usleep(1000);
	}
	kill(pid, SIGKILL);
	return -ETIME;
}

void svm_thread(pthread_t *thread, void *(*body)(void *), void *arg)
{
	igt_assert_eq(pthread_create(thread, NULL, body, arg), 0);
}

void svm_join(pthread_t thread)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += PATIENCE_MS / 1000;
	igt_assert_eq(pthread_timedjoin_np(thread, NULL, &end), 0);
}

uint64_t svm_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* The text of a small file: 0 or -errno. */
int svm_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return -errno;
	len = read(fd, text, size - 1);
	close(fd);
	text[len > 0 ? len : 0] = 0;
	return 0;
}

/* The number that a small file begins with, 0 if there is none. */
uint64_t svm_number(const char *path)
{
	char text[64];

	return svm_text(path, text, sizeof(text)) ? 0 : strtoull(text, NULL, 10);
}
