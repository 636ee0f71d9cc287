// SPDX-License-Identifier: MIT
/* Memory that stays on the device, and what it is charged to. */

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Pinned memory");

#define USER	65533	/* nobody else's */

static struct svm s;

/* Memory of the device. */
static uint64_t memory(void)
{
	return npu_device_info(s.ctx.fd).mem_total;
}

/* What is pinned counts as so much, at least: a 128th of the memory, within limits. */
static uint64_t chunk(void)
{
	uint64_t size = KIB(64);

	if (memory() >= 32 * MIB(2))
		return MIB(2);
	while (2 * size <= memory() / 128)
		size *= 2;
	return size;
}

static int pin_of(struct svm *of, const void *p, uint64_t size, bool on)
{
	return svm_advise(of, p, size, DRM_GMEM_ATTR_PINNED, on);
}

static int pin(const void *p, uint64_t size, bool on)
{
	return pin_of(&s, p, size, on);
}

static uint64_t is_pinned(const void *p)
{
	return npu_range_at(&s.ctx, svm_va(p)).advice[DRM_GMEM_ATTR_PINNED];
}

/* Memory that begins where a chunk does, and is never what it was before it was mapped. */
static char *aligned(uint64_t size)
{
	uint64_t all = size + chunk();
	char *p = svm_anon(all, SVM_SMALL), *start = (char *)npu_round_up(svm_va(p), chunk());

	if (start > p)
		svm_free(p, start - p);
	svm_free(start + size, p + all - (start + size));
	return start;
}

/* Reads and writes memory by jobs, over and over, in pieces. */
static void thrash_of(struct svm *of, char *p, uint64_t size, unsigned int rounds)
{
	for (unsigned int round = 0; round < rounds; round++)
		for (uint64_t at = 0; at < size; at += KIB(256)) {
			igt_assert_eq(svm_write(of, p + at, KIB(256), round + at), 0);
			svm_assert_device(of, p + at, KIB(256), round + at);
		}
}

static void thrash(unsigned int rounds)
{
	const uint64_t size = 2 * memory();
	char *p = svm_anon(size, SVM_DEFAULT);

	thrash_of(&s, p, size, rounds);
	svm_free(p, size);
}

/* All that may be pinned stays, whoever else needs memory; and whoever does gets along. */
static void test_stays(void)
{
	const uint64_t size = memory() / 2;
	char *p = aligned(size);

	for (int fault = 0; fault < 2; fault++) {
		svm_put(p, size, 1);
		igt_assert_eq(pin(p, size, true), 0);
		if (fault) {
			/* It may need more than one try, as others keep theirs for a while. */
			for (int i = 0; i < 20 && svm_where(&s, p, size).device < size; i++)
				for (uint64_t at = 0; at < size; at += KIB(64))
					igt_assert_eq(svm_read(&s, p + at, KIB(64)), 0);
			svm_assert_on_device(&s, p, size);
		} else {
			svm_to_device(&s, p, size);
		}
		igt_fork(child, 1) {
			struct svm own;
			char *q;

			svm_open(&own);
			q = svm_anon(2 * memory(), SVM_DEFAULT);
			thrash_of(&own, q, 2 * memory(), 1);
			svm_close(&own);
		}
		thrash(1);
		igt_waitchildren();
		svm_assert_on_device(&s, p, size);
		svm_assert_device(&s, p, size, 1);
		/* What was shared with the child is copied by the CPU as it is written. */
		igt_assert_eq(svm_write(&s, p, size, 2), 0);
		svm_to_device(&s, p, size);
		thrash(1);
		svm_assert_on_device(&s, p, size);
		svm_assert_cpu(p, size, 2);
		igt_assert_eq(pin(p, size, false), 0);
	}
	svm_free(p, size);
}

/* What was there before stays from then on, and what is no more pinned goes. */
static void test_changes(void)
{
	const uint64_t size = memory() / 4;
	char *p = aligned(size);

	igt_assert_eq(svm_write(&s, p, size, 1), 0);
	svm_to_device(&s, p, size);
	igt_assert_eq(pin(p, size, true), 0);
	svm_assert_device(&s, p, size, 1);
	svm_to_device(&s, p, size);
	thrash(1);
	svm_assert_on_device(&s, p, size);
	/* To be pinned once more does nothing. */
	igt_assert_eq(pin(p, size / 2, true), 0);
	svm_assert_on_device(&s, p, size);

	/* Half of it. */
	igt_assert_eq(svm_write(&s, p, size, 2), 0);
	igt_assert_eq(pin(p, size / 2, false), 0);
	svm_assert_on_device(&s, p + size / 2, size / 2);
	svm_to_device(&s, p, size / 2);
	thrash(1);
	svm_assert_on_device(&s, p + size / 2, size / 2);
	igt_assert_lt_u64(svm_where(&s, p, size / 2).device, size / 2);
	svm_assert_device(&s, p, size, 2);

	/* All of it, by all attributes. */
	igt_assert_eq(npu_advise(s.ctx.fd, s.ctx.vm, svm_va(p), size, DRM_GMEM_ADVISE_RESET, NULL,
				 0), 0);
	thrash(1);
	igt_assert_lt_u64(svm_where(&s, p, size).device, size / 2);
	svm_assert_cpu(p, size, 2);
	svm_free(p, size);
}

/* It stays before it goes anywhere else, but for who asks for it. */
static void test_precedence(void)
{
	const uint64_t size = chunk();
	char *p = aligned(size);

	svm_put(p, size, 1);
	igt_assert_eq(pin(p, size, true), 0);
	svm_to_device(&s, p, size);
	igt_assert_eq(svm_advise(&s, p, size, DRM_GMEM_ATTR_PREFERRED_LOCATION,
				 DRM_GMEM_LOCATION_HOST), 0);
	svm_assert_device(&s, p, size, 1);
	igt_assert_eq(svm_prefetch(&s, p, size, DRM_GMEM_LOCATION_DEFAULT), 0);
	svm_assert_on_device(&s, p, size);
	svm_to_host(&s, p, size);
	svm_assert_device(&s, p, size, 1);
	svm_assert_where(&s, p, size, host);
	svm_to_device(&s, p, size);
	svm_assert_cpu(p, size, 1);
	svm_assert_where(&s, p, size, host);
	igt_assert_eq(npu_advise(s.ctx.fd, s.ctx.vm, svm_va(p), size, DRM_GMEM_ADVISE_RESET, NULL,
				 0), 0);
	svm_free(p, size);
}

/* Half of the memory, of all VMs together, in whole chunks. */
static void test_device_limit(void)
{
	const uint64_t most = memory() / 2;
	char *p = aligned(2 * most + chunk());
	struct svm other;

	svm_open(&other);
	igt_assert_eq(pin(p, most + PAGE, true), -ENOMEM);
	igt_assert_eq_u64(is_pinned(p), 0);
	igt_assert_eq(pin(p, most, true), 0);
	igt_assert_eq(pin(p + most, PAGE, true), -ENOMEM);
	igt_assert_eq_u64(is_pinned(p + most), 0);
	igt_assert_eq(pin_of(&other, p, PAGE, true), -ENOMEM);
	/* All of an array or nothing. */
	for (int i = 0; i < 2; i++) {
		const struct drm_gmem_attr attrs[] = {
			{ .kind = i ? DRM_GMEM_ATTR_PINNED : DRM_GMEM_ATTR_FOLLOW, .value = 1 },
			{ .kind = i ? DRM_GMEM_ATTR_FOLLOW : DRM_GMEM_ATTR_PINNED, .value = 1 },
		};

		igt_assert_eq(npu_advise(s.ctx.fd, s.ctx.vm, svm_va(p) + most, PAGE, 0, attrs, 2),
			      -ENOMEM);
		igt_assert_eq_u64(npu_range_at(&s.ctx, svm_va(p) + most)
				  .advice[DRM_GMEM_ATTR_FOLLOW], 0);
	}
	igt_assert_eq(pin(p + most - chunk(), chunk(), false), 0);
	igt_assert_eq(pin_of(&other, p, PAGE, true), 0);
	igt_assert_eq(pin(p + most, PAGE, true), -ENOMEM);
	igt_assert_eq(pin_of(&other, p, PAGE, false), 0);
	igt_assert_eq(pin(p, most, false), 0);

	/* A page counts as the chunk that has it. */
	for (uint64_t at = 0; at < most; at += chunk())
		igt_assert_eq(pin(p + 2 * at + PAGE, PAGE, true), 0);
	igt_assert_eq(pin(p + 2 * most, PAGE, true), -ENOMEM);
	igt_assert_eq(pin(p, chunk(), true), 0);
	igt_assert_eq(npu_advise(s.ctx.fd, s.ctx.vm, svm_va(p), 2 * most, DRM_GMEM_ADVISE_RESET,
				 NULL, 0), 0);

	/* What goes without being unpinned is given back, too. */
	igt_assert_eq(pin_of(&other, p, most, true), 0);
	igt_assert_eq(pin(p, PAGE, true), -ENOMEM);
	svm_close(&other);
	igt_assert_eq(pin(p, most, true), 0);
	igt_assert_eq(svm_advise(&s, p, most, DRM_GMEM_ATTR_AUTO_RESET, 1), 0);
	svm_open(&other);
	igt_assert_eq(pin_of(&other, p, PAGE, true), -ENOMEM);
	svm_free(p, 2 * most + chunk());
	igt_assert_eq_u64(is_pinned(p), 0);
	igt_assert_eq(pin_of(&other, p, most, true), 0);
	svm_close(&other);
}

/* What a VM had is as any other memory after its end. */
static void test_vm_end(void)
{
	const uint64_t size = memory() / 2;
	char *p = aligned(size);
	struct svm other;

	svm_open(&other);
	igt_assert_eq(pin_of(&other, p, size, true), 0);
	igt_assert_eq(svm_write(&other, p, size, 1), 0);
	svm_to_device(&other, p, size);
	thrash(1);
	svm_assert_on_device(&s, p, size);
	svm_close(&other);
	thrash(2);
	igt_assert_lt_u64(svm_where(&s, p, size).device, size / 2);
	svm_assert_cpu(p, size, 1);
	svm_free(p, size);
}

/* Becomes a user that may lock so many bytes. */
static void become_user(uint64_t bytes)
{
	const struct rlimit limit = { .rlim_cur = bytes, .rlim_max = bytes };

	igt_assert_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	igt_assert_eq(setresuid(USER, USER, USER), 0);
}

/* What a user may lock bounds what it pins. */
static void test_user_limit(void)
{
	const uint64_t most = 4 * chunk();
	volatile uint32_t *flags = svm_flags();
	pid_t child;

	igt_fork(limited, 1) {
		struct svm own, other;
		char *p;

		svm_open(&own);
		svm_open(&other);
		p = aligned(2 * most);
		/* Root is not bounded. */
		igt_assert_eq(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit) { 0, most }), 0);
		igt_assert_eq(pin_of(&own, p, most, true), 0);
		igt_assert_eq(pin_of(&own, p, most, false), 0);
		become_user(most);
		igt_assert_eq(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit) { 0, most }), 0);
		igt_assert_eq(pin_of(&own, p, PAGE, true), -EPERM);
		igt_assert_eq(pin_of(&own, p, PAGE, false), 0);
		igt_assert_eq(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit) { 100, most }), 0);
		igt_assert_eq(pin_of(&own, p, PAGE, true), -ENOMEM);
		igt_assert_eq(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit) { most, most }), 0);

		igt_assert_eq(pin_of(&own, p, most + PAGE, true), -ENOMEM);
		igt_assert_eq(pin_of(&own, p, most, true), 0);
		/* Once. */
		igt_assert_eq(pin_of(&own, p, most, true), 0);
		igt_assert_eq(pin_of(&own, p + most, PAGE, true), -ENOMEM);
		igt_assert_eq(pin_of(&other, p + most, PAGE, true), -ENOMEM);
		igt_assert_eq(pin_of(&own, p + PAGE, PAGE, false), 0);
		igt_assert_eq(pin_of(&other, p + most, PAGE, true), 0);
		igt_assert_eq(pin_of(&own, p + PAGE, PAGE, true), -ENOMEM);
		svm_close(&other);
		igt_assert_eq(pin_of(&own, p + PAGE, PAGE, true), 0);

		/* With the memory, and with all attributes. */
		igt_assert_eq(svm_advise(&own, p, most, DRM_GMEM_ATTR_AUTO_RESET, 1), 0);
		svm_free(p, PAGE);
		igt_assert_eq(pin_of(&own, p + most, PAGE, true), 0);
		igt_assert_eq(npu_advise(own.ctx.fd, own.ctx.vm, svm_va(p), 2 * most,
					 DRM_GMEM_ADVISE_RESET, NULL, 0), 0);

		/* What grows and can't be charged is not pinned. */
		svm_free(p + most, most);
		igt_assert_eq(pin_of(&own, p + PAGE, most - PAGE, true), 0);
		igt_assert_eq(svm_advise(&own, p + PAGE, most - PAGE, DRM_GMEM_ATTR_FOLLOW, 1), 0);
		igt_assert(mremap(p + PAGE, most - PAGE, most, 0) == p + PAGE);
		igt_assert_eq_u64(npu_range_at(&own.ctx, svm_va(p + most))
				  .advice[DRM_GMEM_ATTR_PINNED], 1);
		igt_assert(mremap(p + PAGE, most, most + PAGE, 0) == p + PAGE);
		igt_assert_eq_u64(npu_range_at(&own.ctx, svm_va(p + most + PAGE))
				  .advice[DRM_GMEM_ATTR_PINNED], 0);
		igt_assert_eq_u64(npu_range_at(&own.ctx, svm_va(p + most + PAGE))
				  .advice[DRM_GMEM_ATTR_FOLLOW], 1);
	}
	igt_waitchildren();

	/* Killed with all that it may have; and so was the one before. */
	for (int i = 0; i < 3; i++) {
		child = fork();
		igt_assert_lte(0, child);
		if (child == 0) {
			struct svm own;
			char *p;

			svm_open(&own);
			p = aligned(most);
			become_user(most);
			igt_assert_eq(pin_of(&own, p, most, true), 0);
			igt_assert_eq(svm_write(&own, p, most, i), 0);
			flags[i] = 1;
			pause();
			_exit(0);
		}
		svm_await(&flags[i], 1);
		igt_assert_eq(kill(child, SIGKILL), 0);
		igt_assert_eq(waitpid(child, NULL, 0), child);
	}
	svm_flags_free(flags);
}

/* A VM that ends in another process, of another user, than the one that pinned. */
static void test_inherited(void)
{
	const uint64_t most = 2 * chunk();
	volatile uint32_t *flags = svm_flags();
	char *p = aligned(2 * most);
	struct svm other;
	pid_t child;

	svm_open(&other);
	child = fork();
	igt_assert_lte(0, child);
	if (child == 0) {
		become_user(most);
		igt_assert_eq(pin_of(&other, p, most, true), 0);
		_exit(0);
	}
	svm_assert_child(child, 0);
	child = fork();
	igt_assert_lte(0, child);
	if (child == 0) {
		struct svm own;

		svm_open(&own);
		become_user(most);
		igt_assert_eq(pin_of(&own, p, PAGE, true), -ENOMEM);
		flags[0] = 1;
		if (!svm_reached(&flags[1], 1))
			_exit(2);
		igt_assert_eq(pin_of(&own, p, most, true), 0);
		_exit(0);
	}
	svm_await(&flags[0], 1);
	svm_close(&other);
	flags[1] = 1;
	svm_assert_child(child, 0);
	svm_flags_free(flags);
	svm_free(p, 2 * most);
}

static volatile bool over;

static void *change(void *arg)
{
	uint64_t seed = npu_seed(), size = memory() / 2;

	while (!over) {
		uint64_t at = npu_random(&seed) % (size / PAGE) * PAGE;
		uint64_t part = npu_min(PAGE << npu_random(&seed) % 9, size - at);
		int ret = pin((char *)arg + at, part, npu_random(&seed) % 2);

		if (ret)
			return "advice was refused";
		usleep(5000);
	}
	return NULL;
}

/* Pinned and not, again and again, as jobs run and all of the memory is needed. */
static void test_race(void)
{
	const uint64_t size = memory() / 2;
	char *p = aligned(size);
	pthread_t threads[2];
	uint64_t end;

	over = false;
	for (int i = 0; i < 2; i++)
		svm_thread(&threads[i], change, p);
	end = svm_seconds() + npu_scale(15);
	for (unsigned int round = 0; round < 2 || svm_seconds() < end; round++) {
		for (uint64_t at = 0; at < size; at += KIB(128))
			igt_assert_eq(svm_write(&s, p + at, KIB(128), round + at), 0);
		if (round < 1)
			thrash(1);
		for (uint64_t at = 0; at < size; at += KIB(128)) {
			svm_assert_device(&s, p + at, KIB(128), round + at);
			if (round % 2)
				svm_assert_cpu(p + at, KIB(128), round + at);
		}
	}
	over = true;
	for (int i = 0; i < 2; i++)
		svm_join(threads[i]);
	igt_assert_eq(pin(p, size, true), 0);
	svm_to_device(&s, p, size);
	thrash(1);
	svm_assert_on_device(&s, p, size);
	svm_free(p, size);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		{ "stays", "Under pressure pinned memory stays", test_stays },
		{ "changes", "Memory that is there is pinned, and no more", test_changes },
		{ "precedence", "Pinned, and preferred elsewhere", test_precedence },
		{ "device-limit", "Half of the memory may be pinned", test_device_limit },
		{ "vm-end", "With the VM it ends", test_vm_end },
		{ "user-limit", "What a user may lock", test_user_limit },
		{ "inherited", "A VM that ends in another process", test_inherited },
		{ "race", "Advice changes as jobs run", test_race },
	};

	igt_fixture()
		close(npu_open());

	svm_run(&s, tests, ARRAY_LEN(tests));
}
