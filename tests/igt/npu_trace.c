// SPDX-License-Identifier: MIT
/* What tracepoints and latency say of memory that moves is what is counted elsewhere. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Tracepoints and latencies of mirrored memory");

/* An instance of our own: nobody else's events are in it, and nobody is disturbed. */
#define INSTANCE	"/sys/kernel/tracing/instances/igt-npu-trace"
#define TEXT_SIZE	MIB(32)

static char *text;
static struct svm s;

static void slurp(const char *path, char *to, size_t size)
{
	size_t len = 0;
	ssize_t got;
	int fd = open(path, O_RDONLY);

	igt_assert_f(fd >= 0, "%s: %m\n", path);
	while ((got = read(fd, to + len, size - 1 - len)) > 0)
		len += got;
	igt_assert_f(got == 0 && len < size - 1, "%s: %zd, %zu bytes\n", path, got, len);
	to[len] = 0;
	close(fd);
}

static void put(const char *file, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), INSTANCE "/%s", file);
	fd = open(path, O_WRONLY | O_TRUNC);
	igt_assert_f(fd >= 0, "%s: %m\n", path);
	igt_assert_eq(write(fd, value, strlen(value)), strlen(value));
	close(fd);
}

static void trace_begin(void)
{
	/* Opening it empties it. */
	put("trace", "");
	put("events/gmem_vm/enable", "1");
}

/* Ends the trace and reads it; nothing of it may be lost. */
static void trace_end(void)
{
	unsigned long long there, written;
	char *header;

	put("events/gmem_vm/enable", "0");
	slurp(INSTANCE "/trace", text, TEXT_SIZE);
	header = strstr(text, "entries-in-buffer/entries-written: ");
	igt_assert(header);
	header = strchr(header, ':') + 1;
	igt_assert_eq(sscanf(header, "%llu/%llu", &there, &written), 2);
	igt_assert_eq_u64(there, written);
}

/* The next event of this name behind @at, which is NULL for the first. */
static const char *next(const char *at, const char *name)
{
	char what[64];
	const char *found;

	snprintf(what, sizeof(what), ": gmem_vm_%s: ", name);
	found = strstr(at ?: text, what);
	return found ? found + strlen(what) - 1 : NULL;
}

#define for_each_event(at, name) \
	for (const char *at = NULL; (at = next(at, name));)

/* What stands behind @key in the line of an event. */
static const char *field(const char *event, const char *key)
{
	const char *end = strchr(event, '\n'), *found;
	char what[32];

	snprintf(what, sizeof(what), " %s=", key);
	found = strstr(event, what);
	igt_assert_f(found && end && found < end, "no %s in%.*s\n", key,
		     (int)(end ? end - event : 80), event);
	return found + strlen(what);
}

static uint64_t number(const char *event, const char *key)
{
	return strtoull(field(event, key), NULL, 0);
}

static bool is(const char *event, const char *key, const char *value)
{
	const char *at = field(event, key);
	size_t len = strlen(value);

	return !strncmp(at, value, len) && (at[len] == ' ' || at[len] == '\n');
}

static uint64_t count(const char *name)
{
	uint64_t n = 0;

	for_each_event(e, name)
		n++;
	return n;
}

/* The sum of a field over all events of a name. */
static uint64_t sum(const char *name, const char *key)
{
	uint64_t all = 0;

	for_each_event(e, name)
		all += number(e, key);
	return all;
}

static void debugfs(const char *file, char *to, size_t size)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/kernel/debug/gmem_vm-%s/%s",
		 npu_device_bdf(npu_device_under_test()), file);
	slurp(path, to, size);
}

/* A number of the first line of the file "memory". */
static uint64_t evictor(const char *name)
{
	static char memory[1 << 16];
	char *at;

	debugfs("memory", memory, sizeof(memory));
	at = strstr(memory, name);
	igt_assert_f(at, "%s is not in: %s\n", name, memory);
	return strtoull(at + strlen(name), NULL, 10);
}

/* What a phase has in the file "latency", whose buckets must have just that. */
static uint64_t latency(const char *phase)
{
	static char all[1 << 16];
	char what[32], *at, *end;
	uint64_t times, total, found = 0, least = 0;

	debugfs("latency", all, sizeof(all));
	snprintf(what, sizeof(what), "\n%s ", phase);
	at = strstr(all, what);
	igt_assert_f(at, "%s is not in: %s\n", phase, all);
	times = strtoull(at + strlen(what), &at, 10);
	total = strtoull(at, &at, 10);
	end = strchr(at, '\n');
	igt_assert(end);
	while (at < end) {
		uint64_t from = strtoull(at, &at, 10), n;

		igt_assert_eq(*at, ':');
		n = strtoull(at + 1, &at, 10);
		igt_assert_lt_u64(0, n);
		/* A power of two, each larger than the one before; the first begins at 0. */
		igt_assert_eq_u64(from & (from - 1) & -(uint64_t)!!from, 0);
		found += n;
		least += from * n;
	}
	igt_assert_eq_u64(found, times);
	/* Counters of what runs at the moment are read one after the other: nothing does. */
	igt_assert_lte_u64(least, total);
	igt_assert(!times || total < 2 * least + 2 * times);
	return times;
}

/* The VM, by its number in traces. */
static uint64_t our_vm(void)
{
	const char *attach = next(NULL, "attach");

	igt_assert(attach);
	igt_assert_eq_u64(count("attach"), 1);
	return number(attach, "vm");
}

/* A service may be a little behind the job, which another one had answered. */
static void settle(uint64_t served)
{
	for (int i = 0; i < 500 && latency("serve") - served != svm_stats(&s).faults; i++)
		usleep(10000);
}

static void open_traced(void)
{
	trace_begin();
	svm_open(&s);
}

static void test_fault(void)
{
	uint64_t served = latency("serve"), vm, faults = 0;
	char *p = svm_anon(PAGE, SVM_SMALL);

	memset(p, 1, PAGE);
	open_traced();
	igt_assert_eq(svm_fill(&s, p, PAGE, 2), 0);
	settle(served);
	trace_end();
	vm = our_vm();
	for_each_event(e, "fault") {
		igt_assert_eq_u64(number(e, "vm"), vm);
		igt_assert(is(e, "error", "0"));
		if ((number(e, "va") & ~(PAGE - 1)) != svm_va(p) || !number(e, "moved"))
			continue;
		/* The first access to the page, and all of what is there to move. */
		igt_assert_eq_u64(number(e, "moved"), PAGE);
		igt_assert(strstr(e, " write ") < strchr(e, '\n'));
		faults++;
	}
	igt_assert_eq_u64(faults, 1);
	igt_assert_eq_u64(count("fault"), svm_stats(&s).faults);
	igt_assert_eq_u64(sum("to_device", "copied"), PAGE);
	for_each_event(e, "to_device") {
		uint64_t start = strtoull(field(e, "cpu"), NULL, 0);

		igt_assert_lte_u64(start, svm_va(p));
		igt_assert(is(e, "why", "fault"));
		igt_assert_eq_u64(number(e, "vm"), vm);
	}
	svm_drop(&s);

	/* An access that may not be. */
	igt_assert_eq(mprotect(p, PAGE, PROT_NONE), 0);
	open_traced();
	igt_assert_eq(svm_fill(&s, p, PAGE, 2), -EFAULT);
	trace_end();
	faults = 0;
	for_each_event(e, "fault")
		faults += is(e, "error", "-14") && (number(e, "va") & ~(PAGE - 1)) == svm_va(p);
	igt_assert_eq_u64(faults, 1);
	svm_drop(&s);
	svm_free(p, PAGE);
}

/* A sum over what moved to the host for one reason. */
static uint64_t back(const char *why)
{
	uint64_t bytes = 0;

	for_each_event(e, "to_host")
		if (is(e, "why", why))
			bytes += number(e, "copied") + number(e, "dropped");
	return bytes;
}

static void test_moves(void)
{
	const uint64_t size = KIB(256);
	uint64_t to_host = evictor("to_host="), dropped = evictor("dropped="), vm;
	struct drm_gmem_vm_stats stats;
	char *p = svm_anon(size, SVM_SMALL);

	svm_put(p, size, 1);
	open_traced();
	svm_to_device(&s, p, size);
	svm_to_host(&s, p, size);
	svm_to_device(&s, p, size);
	/* The CPU takes it back. */
	svm_assert_cpu(p, size, 1);
	svm_to_device(&s, p, size);
	igt_assert_eq(svm_advise(&s, p, size, DRM_GMEM_ATTR_ACCESS, 1), 0);
	igt_assert_eq(munmap(p, size / 2), 0);
	stats = svm_stats(&s);
	trace_end();

	vm = our_vm();
	igt_assert_eq_u64(sum("to_device", "copied"), 3 * size);
	igt_assert_eq_u64(sum("to_device", "copied"), stats.to_device);
	for_each_event(e, "to_device") {
		igt_assert(is(e, "why", "prefetch"));
		igt_assert_eq_u64(number(e, "vm"), vm);
	}
	igt_assert_eq_u64(back("prefetch"), size);
	igt_assert_eq_u64(back("cpu"), size);
	igt_assert_eq_u64(sum("to_host", "copied"), evictor("to_host=") - to_host);
	igt_assert_eq_u64(sum("to_host", "dropped"), evictor("dropped=") - dropped);
	igt_assert_eq_u64(count("invalidate"), stats.invalidations);
	/* What was advised took all of it out, so that nothing was left for munmap() to. */
	to_host = 0;
	for_each_event(e, "invalidate") {
		igt_assert(!is(e, "cause", "unmap"));
		to_host += is(e, "cause", "advice") ? number(e, "taken") : 0;
	}
	igt_assert_eq_u64(to_host, size);
	svm_drop(&s);
	svm_free(p + size / 2, size / 2);
}

static void test_unmap(void)
{
	const uint64_t size = KIB(128);
	uint64_t taken = 0, resident = 0;
	char *p = svm_anon(size, SVM_SMALL);

	svm_put(p, size, 1);
	open_traced();
	svm_to_device(&s, p, size);
	igt_assert_eq(munmap(p, size / 2), 0);
	trace_end();
	for_each_event(e, "invalidate")
		if (is(e, "cause", "unmap")) {
			igt_assert_eq_u64(number(e, "vm"), our_vm());
			taken += number(e, "taken");
			resident = number(e, "resident");
		}
	igt_assert_eq_u64(taken, size / 2);
	igt_assert_eq_u64(resident, size / 2);
	svm_drop(&s);
	svm_free(p + size / 2, size / 2);
}

/* What the last event says that the VM has on the device. */
static uint64_t last_resident(uint64_t vm)
{
	static const char * const names[] = { "resident", "invalidate" };
	const char *last = NULL;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for_each_event(e, names[i])
			if (number(e, "vm") == vm && (!last || e > last))
				last = e;
	igt_assert(last);
	return number(last, "resident");
}

/* Twice around in more than there is room for: all counts are those of others. */
static void test_pressure(void)
{
	static const char * const counters[] = { "evictions=", "failed=", "to_host=", "dropped=" };
	uint64_t memory, size, before[4], now[4], phases[4], vm, evicted = 0, failed = 0;
	struct drm_gmem_vm_stats stats;
	char *p;

	svm_open(&s);
	memory = npu_device_info(s.ctx.fd).mem_total;
	svm_drop(&s);
	igt_require_f(memory <= MIB(8), "chunks are larger, and it would take long\n");
	size = 2 * memory;
	p = svm_anon(size, SVM_SMALL);
	svm_put(p, size, 1);
	for (int i = 0; i < 4; i++)
		before[i] = evictor(counters[i]);
	phases[0] = latency("serve");
	phases[1] = latency("wait");
	phases[2] = latency("invalidate");
	phases[3] = latency("make_room");

	open_traced();
	for (int round = 0; round < 2; round++)
		for (uint64_t at = 0; at < size; at += MIB(1))
			igt_assert_eq(svm_fill(&s, p + at, MIB(1), round), 0);
	settle(phases[0]);
	stats = svm_stats(&s);
	trace_end();
	vm = our_vm();
	for (int i = 0; i < 4; i++)
		now[i] = evictor(counters[i]) - before[i];

	igt_assert_eq_u64(count("fault"), stats.faults);
	igt_assert_eq_u64(sum("to_device", "copied"), stats.to_device);
	igt_assert_eq_u64(sum("to_device", "made"), stats.made);
	igt_assert_eq_u64(sum("fault", "moved"), stats.to_device + stats.made);
	igt_assert_eq_u64(count("invalidate"), stats.invalidations);
	igt_assert_eq_u64(sum("to_host", "copied"), now[2]);
	igt_assert_eq_u64(sum("to_host", "dropped"), now[3]);
	for_each_event(e, "evict") {
		uint64_t local = number(e, "local"), va = number(e, "va");

		igt_assert(is(e, "for", "process"));
		igt_assert(is(e, "policy", "lirs"));
		igt_assert_eq_u64(number(e, "vm"), vm);
		igt_assert_lt_u64(local, memory);
		igt_assert_eq_u64(local, number(e, "chunk") * KIB(64));
		if (!is(e, "error", "0")) {
			igt_assert_eq_u64(number(e, "pages"), 0);
			failed++;
			continue;
		}
		igt_assert(number(e, "pages") > 0 && number(e, "pages") <= 16);
		/* Commands are mirrored, too, but not what was filled first. */
		evicted += va >= svm_va(p) && va < svm_va(p) + size ? 1 : 0;
	}
	igt_assert_eq_u64(failed, now[1]);
	igt_assert_eq_u64(count("evict") - failed, now[0]);
	/* At least so much had to go as had no room. */
	igt_assert_lte_u64(memory / KIB(64), evicted);
	igt_assert_eq_u64(back("evict"), now[2] + now[3]);
	for_each_event(e, "resident")
		igt_assert_lte_u64(number(e, "resident"), memory);

	/* Phases count the same, and their buckets have what they count. */
	igt_assert_eq_u64(latency("serve") - phases[0], stats.faults);
	igt_assert_eq_u64(latency("wait") - phases[1], stats.faults);
	igt_assert_eq_u64(latency("invalidate") - phases[2], stats.invalidations);
	igt_assert_lt_u64(phases[3], latency("make_room"));
	igt_assert_lte_u64(latency("commit"), latency("flush"));
	igt_assert_lt_u64(0, latency("collect"));
	igt_assert_lt_u64(0, latency("copy"));

	/* A buffer object takes room, too. */
	trace_begin();
	{
		struct npu_bo bo = npu_bo(&s.ctx, MIB(1), NPU_DEVICE, 0);

		trace_end();
		igt_assert_lt_u64(0, count("evict"));
		for_each_event(e, "evict")
			igt_assert(is(e, "for", "object"));
		igt_assert_eq_u64(last_resident(vm), svm_where(&s, p, size).device);
		npu_bo_free(&s.ctx, &bo);
	}
	/* The end of the VM is in the trace. */
	trace_begin();
	svm_drop(&s);
	trace_end();
	igt_assert_eq_u64(last_resident(vm), 0);
	svm_free(p, size);
}

int igt_main()
{
	igt_fixture() {
		int fd = npu_open();

		igt_require_f(!mkdir(INSTANCE, 0700) || errno == EEXIST, "no tracefs: %m\n");
		put("buffer_size_kb", "8192");
		text = malloc(TEXT_SIZE);
		igt_assert(text);
		igt_require(npu_can_fault(fd));
		close(fd);
		/* Files of the device that are there once something was mirrored. */
		svm_open(&s);
		svm_drop(&s);
	}

	igt_describe("A fault tells where it was, what it moved and how it ended");
	igt_subtest("fault")
		test_fault();

	igt_describe("Migrations tell what moved, where and why");
	igt_subtest("moves")
		test_moves();

	igt_describe("An invalidation tells what was taken out, and what is left");
	igt_subtest("unmap")
		test_unmap();

	igt_describe("On a full device events and latencies are as many as what is counted");
	igt_subtest("pressure")
		test_pressure();

	igt_fixture()
		rmdir(INSTANCE);
}
