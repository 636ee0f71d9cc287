// SPDX-License-Identifier: MIT
/* Memory whose contents are not needed any more: zero or old, but never lost once written, and never another's. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Discarded memory");

#define SIZE	MIB(1)

static struct svm s;
static struct drm_gmem_discard last;

static int discard_of(struct svm *of, const void *p, uint64_t size, uint32_t flags)
{
	last = (struct drm_gmem_discard) {
		.vm_id = of->ctx.vm, .flags = flags, .va = svm_va(p), .size = size,
	};
	return npu_ioctl(of->ctx.fd, DRM_IOCTL_NPU_DISCARD, &last);
}

/* Returns how many bytes were discarded, or retained. */
static uint64_t discard(const void *p, uint64_t size)
{
	igt_assert_eq(discard_of(&s, p, size, 0), 0);
	igt_assert_eq_u64(last.retained, 0);
	return last.discarded;
}

static uint64_t undo(const void *p, uint64_t size)
{
	igt_assert_eq(discard_of(&s, p, size, DRM_GMEM_DISCARD_UNDO), 0);
	igt_assert_eq_u64(last.discarded, 0);
	return last.retained;
}

static uint64_t replace(const void *p, uint64_t size)
{
	igt_assert_eq(discard_of(&s, p, size, DRM_GMEM_DISCARD_PREFETCH), 0);
	igt_assert_eq_u64(last.retained, 0);
	return last.discarded;
}

static uint64_t memory(void)
{
	return npu_device_info(s.ctx.fd).mem_total;
}

/* A number of the first line of the file "memory". */
static uint64_t count(const char *name)
{
	char path[256], text[512], *at;
	int fd;
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/kernel/debug/gmem_vm-%s/memory",
		 npu_device_bdf(npu_device_under_test()));
	fd = open(path, O_RDONLY);
	igt_assert_f(fd >= 0, "%s: %m\n", path);
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	igt_assert_lt(0, (int)len);
	text[len] = 0;
	at = strstr(text, name);
	igt_assert_f(at, "%s is not in: %s\n", name, text);
	return strtoull(at + strlen(name), NULL, 10);
}

/* Uses as much memory on the device as there is, twice. */
static void thrash(struct svm *of)
{
	const uint64_t size = 2 * memory();
	char *p = svm_anon(size, SVM_DEFAULT);

	for (uint64_t at = 0; at < size; at += KIB(256))
		igt_assert_eq(svm_fill(of, p + at, KIB(256), 0xbadbad00), 0);
	svm_free(p, size);
}

#define assert_zero(p, size)	igt_assert_eq_u64(svm_find_byte(p, size, 0), ~0ull)

/* Pages of small and, where the device has room for them, of huge folios. */
static char *made(uint64_t size, int huge, uint64_t seed)
{
	char *p = svm_anon(size, huge ? SVM_HUGE : SVM_SMALL);

	igt_assert_eq(svm_write(&s, p, size, seed), 0);
	svm_to_device(&s, p, size);
	return p;
}

/* The CPU finds zeroes, for which nothing is copied. */
static void test_touch(void)
{
	for (int huge = 0; huge < 2; huge++) {
		const uint64_t size = npu_min(MIB(2), memory() / 2);
		char *p = made(size, huge, 1);
		uint64_t to_host = count("to_host="), spared = count("discarded=");

		igt_assert_eq_u64(discard(p, size), size);
		igt_assert_eq_u64(discard(p, size), 0);
		svm_assert_on_device(&s, p, size);
		assert_zero(p, size);
		igt_assert_eq_u64(count("to_host="), to_host);
		igt_assert_eq_u64(count("discarded=") - spared, size);
		svm_assert_where(&s, p, size, host);
		/* It is as any other now. */
		svm_put(p, size, 2);
		svm_assert_device(&s, p, size, 2);
		igt_assert_eq(svm_write(&s, p, size, 3), 0);
		svm_assert_cpu(p, size, 3);
		igt_assert_lte_u64(to_host + size, count("to_host="));
		svm_free(p, size);
	}
}

/* A part dies, the rest is as it was; also of what the host has kept a copy of. */
static void test_part(void)
{
	for (int kept = 0; kept < 2; kept++) {
		char *p = svm_anon(SIZE, SVM_SMALL);
		const uint64_t at = KIB(64) + PAGE, size = SIZE / 2;

		svm_put(p, SIZE, 1);
		igt_assert_eq(svm_read(&s, p, SIZE), 0);
		if (!kept)
			igt_assert_eq(svm_write(&s, p, SIZE, 1), 0);
		svm_to_device(&s, p, SIZE);
		igt_assert_eq_u64(discard(p + at, size), size);
		igt_assert_eq_u64(svm_find(p, at, 1), ~0ull);
		assert_zero(p + at, size);
		igt_assert_eq_u64(svm_find_at(p + at + size, SIZE - at - size, 1, at + size),
				  ~0ull);
		svm_free(p, SIZE);
	}
}

/* It leaves a full device first, and nothing is copied for that. */
static void test_first(void)
{
	const uint64_t size = memory() / 4;
	char *kept = made(size, 0, 1), *dead = made(size, 0, 2), *other;
	uint64_t to_host, spared = count("discarded=");

	igt_assert_eq_u64(discard(dead, size), size);
	to_host = count("to_host=");
	/* More than is free, and no more than that and what is dead. */
	other = svm_anon(memory() * 5 / 8, SVM_SMALL);
	for (uint64_t at = 0; at < memory() * 5 / 8; at += KIB(64))
		igt_assert_eq(svm_fill(&s, other + at, KIB(64), 3), 0);
	igt_assert_lt_u64(spared, count("discarded="));
	igt_assert_eq_u64(count("to_host="), to_host);
	svm_assert_on_device(&s, kept, size);
	igt_assert_lt_u64(svm_where(&s, dead, size).device, size);

	thrash(&s);
	igt_assert_eq_u64(svm_where(&s, dead, size).device, 0);
	igt_assert_eq_u64(count("discarded=") - spared, size);
	assert_zero(dead, size);
	svm_assert_cpu(kept, size, 1);
	svm_free(kept, size);
	svm_free(dead, size);
	svm_free(other, memory() * 5 / 8);
}

/* What the device accesses is there again, page by page. */
static void test_revive(void)
{
	char *p = made(SIZE, 0, 1);
	uint64_t to_host;

	igt_assert_eq_u64(discard(p, SIZE), SIZE);
	igt_assert_eq(svm_read(&s, p + KIB(64), PAGE), 0);
	igt_assert_eq_u64(svm_find_at(s.stage.cpu, PAGE, 1, KIB(64)), ~0ull);
	igt_assert_eq(svm_poke(&s, p + KIB(128), 77), 0);
	igt_assert_eq_u64(discard(p, SIZE), 2 * PAGE);
	igt_assert_eq(svm_read(&s, p + KIB(64), PAGE), 0);
	igt_assert_eq(svm_poke(&s, p + KIB(128), 78), 0);
	to_host = count("to_host=");
	igt_assert_eq_u64(*(uint64_t *)(p + KIB(128)), 78);
	igt_assert_eq_u64(svm_find_at(p + KIB(128) + 8, PAGE - 8, 1, KIB(128) + 8), ~0ull);
	igt_assert_eq_u64(svm_find_at(p + KIB(64), PAGE, 1, KIB(64)), ~0ull);
	igt_assert_eq_u64(count("to_host=") - to_host, 2 * PAGE);
	assert_zero(p, KIB(64));
	assert_zero(p + KIB(68), KIB(60));
	assert_zero(p + KIB(132), SIZE - KIB(132));

	/* All of it. */
	igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
	svm_to_device(&s, p, SIZE);
	igt_assert_eq_u64(discard(p, SIZE), SIZE);
	svm_assert_device(&s, p, SIZE, 2);
	igt_assert_eq_u64(undo(p, SIZE), 0);
	svm_assert_cpu(p, SIZE, 2);
	svm_free(p, SIZE);
}

/* Needed after all. */
static void test_undo(void)
{
	for (int huge = 0; huge < 2; huge++) {
		const uint64_t size = npu_min(MIB(2), memory() / 2);
		char *p = made(size, huge, 1);
		uint64_t retained;

		igt_assert_eq_u64(undo(p, size), 0);
		igt_assert_eq_u64(discard(p, size), size);
		igt_assert_eq_u64(undo(p, size), size);
		igt_assert_eq_u64(undo(p, size), 0);
		svm_assert_cpu(p, size, 1);

		/* A part is lost by then. */
		igt_assert_eq(svm_write(&s, p, size, 2), 0);
		svm_to_device(&s, p, size);
		igt_assert_eq_u64(discard(p, size), size);
		assert_zero(p + size / 2, size / 2);
		/* The CPU's first touch brings up to 64 KiB around it back. */
		retained = undo(p, size);
		if (!huge) {
			igt_assert_lte_u64(size / 2 - KIB(64), retained);
			igt_assert_lte_u64(retained, size / 2);
			svm_assert_cpu(p, size / 2 - KIB(64), 2);
		}
		assert_zero(p + size / 2, size / 2);
		svm_free(p, size);
	}
}

/* What is in the host stays there, but for who wants it on the device without. */
static void test_host(void)
{
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct drm_gmem_vm_stats stats;

	igt_assert_eq_u64(discard(p, SIZE), 0);
	svm_put(p, SIZE, 1);
	igt_assert_eq_u64(discard(p, SIZE), 0);
	igt_assert_eq_u64(undo(p, SIZE), 0);
	svm_assert_cpu(p, SIZE, 1);

	stats = svm_stats(&s);
	igt_assert_eq_u64(replace(p, SIZE), SIZE);
	svm_assert_on_device(&s, p, SIZE);
	igt_assert_eq_u64(svm_stats(&s).to_device, stats.to_device);
	igt_assert_eq_u64(svm_stats(&s).made - stats.made, SIZE);
	svm_assert_device_bytes(&s, p, SIZE, 0);
	assert_zero(p, SIZE);

	/* Half of it is there, and discarded. */
	svm_put(p, SIZE, 2);
	svm_to_device(&s, p, SIZE / 2);
	igt_assert_eq_u64(discard(p, SIZE), SIZE / 2);
	igt_assert_eq_u64(replace(p, SIZE), SIZE / 2);
	igt_assert_eq_u64(undo(p, SIZE), 0);
	svm_assert_on_device(&s, p, SIZE);
	svm_assert_device(&s, p, SIZE / 2, 2);
	svm_assert_device_bytes(&s, p + SIZE / 2, SIZE / 2, 0);
	igt_assert_eq(svm_write(&s, p, SIZE, 3), 0);
	thrash(&s);
	svm_assert_cpu(p, SIZE, 3);
	svm_free(p, SIZE);
}

/* What two processes have is neither's to discard. */
static void test_fork(void)
{
	for (int host = 0; host < 2; host++) {
		char *p = made(SIZE, 0, 1);
		volatile uint32_t *flags = svm_flags();
		pid_t child;

		if (host)
			svm_to_host(&s, p, SIZE);
		child = svm_fork();
		if (child == 0) {
			bool right;

			if (!svm_reached(&flags[0], 1))
				_exit(2);
			right = svm_find(p, SIZE, 1) == ~0ull;
			svm_put(p, SIZE / 2, 3);
			flags[1] = 1;
			if (!svm_reached(&flags[0], 2))
				_exit(2);
			right &= svm_find(p, SIZE / 2, 3) == ~0ull;
			right &= svm_find_at(p + SIZE / 2, SIZE / 2, 1, SIZE / 2) == ~0ull;
			_exit(right ? 0 : 1);
		}
		igt_assert_eq_u64(host ? replace(p, SIZE) : discard(p, SIZE), 0);
		svm_assert_device(&s, p, SIZE, 1);
		flags[0] = 1;
		svm_await(&flags[1], 1);
		svm_assert_device(&s, p, SIZE, 1);
		/* The parent writes half of it: that is its own by now. */
		igt_assert_eq(svm_write(&s, p, SIZE / 2, 2), 0);
		svm_to_device(&s, p, SIZE);
		igt_assert_eq_u64(discard(p, SIZE), SIZE / 2);
		thrash(&s);
		flags[0] = 2;
		svm_assert_child(child, 0);
		assert_zero(p, SIZE / 2);
		igt_assert_eq_u64(svm_find_at(p + SIZE / 2, SIZE / 2, 1, SIZE / 2), ~0ull);
		svm_free(p, SIZE);
		svm_flags_free(flags);
	}
}

/* A child that comes later has what its parent has, whatever that is. */
static void test_fork_dead(void)
{
	char *p = made(SIZE, 0, 1);
	pid_t child;

	igt_assert_eq_u64(discard(p, SIZE), SIZE);
	child = svm_fork();
	if (child == 0) {
		if (svm_find_byte(p, SIZE / 2, 0) != ~0ull)
			_exit(1);
		svm_put(p, SIZE / 2, 2);
		_exit(svm_find(p, SIZE / 2, 2) == ~0ull ? 0 : 1);
	}
	svm_assert_child(child, 0);
	assert_zero(p, SIZE / 2);
	igt_assert_eq_u64(undo(p, SIZE), SIZE / 2);
	igt_assert_eq_u64(svm_find_at(p + SIZE / 2, SIZE / 2, 1, SIZE / 2), ~0ull);
	svm_free(p, SIZE);
}

/* Who has it mapped as well writes to it, and that is not lost. */
static void test_two_vms(void)
{
	char *p = made(SIZE, 0, 1);
	struct svm other;

	svm_open(&other);
	svm_assert_device(&other, p, SIZE, 1);
	for (int i = 2; i < 6; i++) {
		igt_assert_eq_u64(discard(p, SIZE), SIZE);
		igt_assert_eq(svm_write(&other, p, SIZE, i), 0);
		svm_assert_device(&s, p, SIZE, i);
	}
	thrash(&s);
	svm_assert_cpu(p, SIZE, 5);

	igt_assert_eq(svm_write(&s, p, SIZE, 6), 0);
	svm_to_device(&s, p, SIZE);
	igt_assert_eq_u64(discard(p, SIZE), SIZE);
	igt_assert_eq(discard_of(&other, p, SIZE, DRM_GMEM_DISCARD_UNDO), 0);
	igt_assert_eq_u64(last.retained, SIZE);
	svm_close(&other);
	svm_assert_cpu(p, SIZE, 6);
	svm_free(p, SIZE);
}

/* What is mirrored to be read only is not changed. */
static void test_read_only(void)
{
	struct svm bare;
	char *p;

	svm_open_bare(&bare);
	p = made(SIZE, 0, 1);
	igt_assert_eq(discard_of(&bare, p, SIZE, 0), 0);
	igt_assert_eq_u64(last.discarded, 0);
	igt_assert_eq(npu_mirror(bare.ctx.fd, bare.ctx.vm, svm_va(p), p, SIZE,
				 DRM_GMEM_BIND_READONLY), 0);
	igt_assert_eq(discard_of(&bare, p, SIZE, 0), -EPERM);
	igt_assert_eq(discard_of(&bare, p, SIZE, DRM_GMEM_DISCARD_PREFETCH), -EPERM);
	igt_assert_eq(discard_of(&bare, p, SIZE, DRM_GMEM_DISCARD_UNDO), 0);
	igt_assert_eq_u64(last.retained, 0);
	/* Nor what the process may not write. */
	igt_assert_eq(mprotect(p, SIZE / 2, PROT_READ), 0);
	igt_assert_eq_u64(discard(p, SIZE), SIZE / 2);
	igt_assert_eq_u64(svm_find(p, SIZE / 2, 1), ~0ull);
	assert_zero(p + SIZE / 2, SIZE / 2);
	svm_close(&bare);
	svm_free(p, SIZE);
}

/* What comes after is not lost, though all of the memory is needed by others. */
static void test_write_after(void)
{
	const unsigned int pages = SIZE / PAGE;
	volatile uint32_t *flags = svm_flags();
	uint64_t seed = npu_seed(), *values = calloc(pages, sizeof(*values));
	bool *known = calloc(pages, sizeof(*known));
	char *p = made(SIZE, 0, 0);
	pid_t child = svm_fork();

	igt_assert(values && known);
	if (child == 0) {
		struct svm own;

		svm_open(&own);
		while (!flags[0])
			thrash(&own);
		svm_close(&own);
		_exit(0);
	}
	for (unsigned int i = 0; i < npu_scale(600); i++) {
		unsigned int page = npu_random(&seed) % pages;
		unsigned int n = 1 + npu_random(&seed) % npu_min(16, pages - page);
		volatile uint64_t *word = (uint64_t *)(p + page * PAGE);

		switch (npu_random(&seed) % 4) {
		case 0:
			igt_assert_eq(discard_of(&s, p + page * PAGE, n * PAGE,
						 npu_random(&seed) % 2 ?
						 DRM_GMEM_DISCARD_PREFETCH : 0), 0);
			memset(known + page, 0, n * sizeof(*known));
			break;
		case 1:
			igt_assert_eq(svm_poke(&s, word, i), 0);
			values[page] = i;
			known[page] = true;
			break;
		case 2:
			if (known[page]) {
				igt_assert_eq_u64(*word, values[page]);
			} else {
				/* Once it was read it is what it is. */
				values[page] = *word;
				known[page] = true;
				igt_assert(!values[page] || values[page] < npu_scale(600) ||
					   values[page] == svm_word(0, page * PAGE / 8));
			}
			break;
		default:
			igt_assert_eq(svm_read(&s, (void *)word, 8), 0);
			if (known[page])
				igt_assert_eq_u64(*(uint64_t *)s.stage.cpu, values[page]);
			values[page] = *(uint64_t *)s.stage.cpu;
			known[page] = true;
			igt_assert_neq_u64(values[page], 0xbadbad00badbad00);
		}
	}
	flags[0] = 1;
	svm_assert_child(child, 0);
	svm_flags_free(flags);
	svm_free(p, SIZE);
	free(values);
	free(known);
}

static struct {
	char *p;
	volatile bool over;
	const char *volatile wrong;
} race;

/* Whether a page is one of what it may be: zero, or what jobs fill it with. */
static bool is_own(const volatile uint32_t *words)
{
	for (unsigned int i = 0; i < PAGE / 4; i++)
		if (words[i] && (words[i] & 0xffff0000) != 0x0a0a0000)
			return false;
	return true;
}

static void *touch(void *arg)
{
	uint64_t seed = (uintptr_t)arg + 1;

	while (!race.over) {
		char *page = race.p + npu_random(&seed) % (SIZE / PAGE) * PAGE;

		if (!is_own((uint32_t *)page))
			race.wrong = "the CPU has found what is nobody's";
		usleep(2000);
	}
	return NULL;
}

static void *drop(void *arg)
{
	uint64_t seed = (uintptr_t)arg + 1;

	while (!race.over) {
		uint64_t at = npu_random(&seed) % (SIZE / PAGE) * PAGE;
		struct drm_gmem_discard d = {
			.vm_id = s.ctx.vm, .flags = npu_random(&seed) % 3, .va = svm_va(race.p) + at,
			.size = npu_min(PAGE << npu_random(&seed) % 8, SIZE - at),
		};

		if (npu_ioctl(s.ctx.fd, DRM_IOCTL_NPU_DISCARD, &d))
			race.wrong = "an error of discard";
		usleep(5000);
	}
	return NULL;
}

/* All at once, in the face of another process that needs all of the memory. */
static void test_race(void)
{
	volatile uint32_t *flags = svm_flags();
	pthread_t threads[4];
	pid_t child = svm_fork();
	uint64_t end;

	if (child == 0) {
		struct svm own;

		svm_open(&own);
		while (!flags[0])
			thrash(&own);
		svm_close(&own);
		_exit(0);
	}
	race.p = svm_anon(SIZE, SVM_SMALL);
	race.over = false;
	race.wrong = NULL;
	for (uintptr_t i = 0; i < ARRAY_LEN(threads); i++)
		svm_thread(&threads[i], i % 2 ? touch : drop, (void *)i);
	end = svm_seconds() + npu_scale(15);
	for (unsigned int i = 0; svm_seconds() < end; i++) {
		char *p = race.p + i * 37 % (SIZE / KIB(64)) * KIB(64);

		igt_assert_eq(svm_fill(&s, p, KIB(64), 0x0a0a0000 + (i & 0xffff)), 0);
		p = race.p + i * 11 % (SIZE / KIB(64)) * KIB(64);
		igt_assert_eq(svm_read(&s, p, KIB(64)), 0);
		for (uint64_t at = 0; at < KIB(64); at += PAGE)
			igt_assert(is_own((uint32_t *)((char *)s.stage.cpu + at)));
	}
	race.over = true;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		svm_join(threads[i]);
	igt_assert_f(!race.wrong, "%s\n", race.wrong);
	flags[0] = 1;
	svm_assert_child(child, 0);
	igt_assert_eq(svm_write(&s, race.p, SIZE, 5), 0);
	svm_assert_cpu(race.p, SIZE, 5);
	svm_free(race.p, SIZE);
	svm_flags_free(flags);
}

/* Killed with memory that is discarded, and while it does that. */
static void test_killed(void)
{
	uint64_t before = npu_mem_free(s.ctx.fd), seed = npu_seed();

	for (int i = 0; i < 4; i++) {
		volatile uint32_t *flags = svm_flags();
		pid_t child = svm_fork();

		if (child == 0) {
			struct svm own;
			char *p;

			svm_open(&own);
			p = svm_anon(memory() / 2, SVM_DEFAULT);
			for (;;) {
				svm_write(&own, p, memory() / 2, 1);
				discard_of(&own, p, memory() / 2, 0);
				flags[0] = 1;
			}
		}
		svm_await(&flags[0], 1);
		usleep(npu_random(&seed) % 200000);
		igt_assert_eq(kill(child, SIGKILL), 0);
		igt_assert_eq(waitpid(child, NULL, 0), child);
		svm_flags_free(flags);
	}
	npu_assert_mem_free(s.ctx.fd, before);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		{ "touch", "The CPU finds zeroes, and nothing is copied", test_touch },
		{ "part", "A part is discarded", test_part },
		{ "first", "What is discarded leaves a full device first", test_first },
		{ "revive", "What the device accesses is there again", test_revive },
		{ "undo", "Contents that are needed after all", test_undo },
		{ "host", "Memory in the host, and without it on the device", test_host },
		{ "fork", "What two processes have is left alone", test_fork },
		{ "fork-dead", "A child of a process with discarded memory", test_fork_dead },
		{ "two-vms", "Memory that another VM has mapped", test_two_vms },
		{ "read-only", "Memory that may not be written", test_read_only },
		{ "write-after", "What comes after is not lost", test_write_after },
		{ "race", "Jobs, the CPU and discards at once", test_race },
		{ "killed", "Processes that are killed", test_killed },
	};

	igt_fixture() {
		struct svm warm;

		close(npu_open());
		svm_open(&warm);
		svm_close(&warm);
	}

	svm_run(&s, tests, ARRAY_LEN(tests));
}
