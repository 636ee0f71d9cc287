// SPDX-License-Identifier: MIT
/* Processes that end, or become another program, in the middle of something. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Mirrors of processes that end");

#define SIZE	MIB(4)

/* What a program started by execve() is to look at: file, VM, queue, syncobj, commands, address. */
#define EXEC_ENV	"NPU_SVM_EXEC"

/* Runs before main() in the program that this one becomes: the process is there, the memory is not. */
__attribute__((constructor)) static void executed(void)
{
	struct drm_npu_job_status status;
	struct drm_gmem_prefetch prefetch;
	struct drm_gmem_bind_op op;
	const char *env = getenv(EXEC_ENV);
	unsigned int fd, vm, queue, syncobj;
	unsigned long long commands, va;
	struct drm_gmem_sync sync;
	int sync_file;

	if (!env)
		return;
	if (sscanf(env, "%u %u %u %u %llu %llu", &fd, &vm, &queue, &syncobj, &commands, &va) != 6)
		_exit(20);

	op = npu_op_mirror(GIB(8), NULL, PAGE);
	if (npu_bind(fd, vm, &op, 1) != -EXDEV)
		_exit(21);
	prefetch = (struct drm_gmem_prefetch) {
		.vm_id = vm, .va = va, .size = PAGE, .location = DRM_GMEM_LOCATION_DEVICE,
	};
	if (npu_prefetch(fd, &prefetch) != -ESRCH)
		_exit(22);

	/* A job that the old program prepared: it reads its memory. */
	sync = npu_signal(syncobj);
	if (npu_submit_raw(fd, queue, vm, commands, 32, &sync, 1))
		_exit(23);
	sync_file = npu_sync_file_export(fd, syncobj);
	if (sync_file < 0 || npu_sync_file_wait(sync_file) ||
	    npu_sync_file_status(sync_file) != -EFAULT)
		_exit(24);
	if (npu_job_status(fd, queue, &status) || status.error != EFAULT ||
	    (status.detail & ~(PAGE - 1)) != va || status.access != NPU_READ)
		_exit(25);
	_exit(7);
}

/* The device has part of it, and a job is at work on it. */
static void busy(struct svm *s, char *p, uint64_t size)
{
	struct npu_cell cell = npu_cell(&s->ctx, 0);
	struct npu_cb cb = npu_begin(&s->ctx);

	svm_put(p, size, 1);
	svm_to_device(s, p, size / 2);
	npu_cmd_write(&cb, cell.va, 1);
	for (int i = 0; i < 64; i++)
		npu_cmd_copy(&cb, svm_va(p) + size / 2, svm_va(p), size / 2);
	igt_assert_eq(npu_submit(&s->ctx, &cb, s->ctx.queue, NULL, 0), 0);
	for (int ms = 0; !*cell.cpu && ms < 60000; ms++)
		usleep(1000);
	igt_assert_eq_u64(*cell.cpu, 1);
}

/* All is as before for everybody else. */
static void assert_nothing_left(int base, uint64_t before)
{
	struct svm s;
	char *p;

	npu_assert_mem_free(base, before);
	svm_open(&s);
	p = svm_anon(KIB(64), SVM_DEFAULT);
	svm_put(p, KIB(64), 3);
	svm_assert_device(&s, p, KIB(64), 3);
	svm_assert_cpu(p, KIB(64), 3);
	svm_free(p, KIB(64));
	svm_close(&s);
	npu_assert_mem_free(base, before);
}

/* Exits with memory on the device, with or without jobs at work on it. */
static void test_exit(bool working)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	for (int round = 0; round < 3; round++) {
		igt_fork(child, 2) {
			char *p = svm_anon(SIZE, child ? SVM_HUGE : SVM_SMALL);
			struct svm s;

			svm_open(&s);
			if (working) {
				busy(&s, p, SIZE);
			} else {
				svm_put(p, SIZE, 1);
				svm_to_device(&s, p, SIZE);
			}
			if (round == 1)
				svm_drop(&s);
		}
		igt_waitchildren();
	}
	assert_nothing_left(base, before);
	close(base);
}

/* The memory outlives file and VM; the process goes on. */
static void test_close(void)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	for (int way = 0; way < 3; way++) {
		char *p = svm_anon(SIZE, SVM_DEFAULT);
		struct svm s, other;

		svm_open(&s);
		if (way == 0) {
			svm_put(p, SIZE, 1);
			svm_to_device(&s, p, SIZE);
			igt_assert_eq(npu_vm_destroy(s.ctx.fd, s.ctx.vm), 0);
		} else {
			busy(&s, p, SIZE);
			if (way == 1)
				igt_assert_eq(npu_vm_destroy(s.ctx.fd, s.ctx.vm), 0);
			svm_put(p, SIZE / 2, 1);
		}
		svm_drop(&s);

		/* Another client takes it over from wherever it is. */
		svm_open(&other);
		svm_assert_device(&other, p, SIZE / 2, 1);
		svm_assert_cpu(p, SIZE / 2, 1);
		if (way == 0)
			svm_assert_cpu(p, SIZE, 1);
		svm_to_device(&other, p, SIZE);
		svm_close(&other);
		svm_assert_cpu(p, SIZE / 2, 1);
		svm_free(p, SIZE);
		npu_assert_mem_free(base, before);
	}
	close(base);
}

static void test_exec(bool working)
{
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	for (int round = 0; round < 2; round++) {
		igt_fork(child, 1) {
			char *p = svm_anon(SIZE, SVM_SMALL), env[128];
			struct npu_cb cb;
			struct svm s;

			svm_open(&s);
			if (working) {
				busy(&s, p, SIZE);
			} else {
				svm_put(p, SIZE, 1);
				svm_to_device(&s, p, SIZE);
			}
			cb = npu_begin(&s.ctx);
			npu_cmd_copy(&cb, s.stage.va, svm_va(p), PAGE);
			igt_assert_eq_u32(npu_cb_size(&cb), 32);
			igt_assert_eq(fcntl(s.ctx.fd, F_SETFD, round ? FD_CLOEXEC : 0), 0);
			if (round) {
				execl("/bin/sh", "sh", "-c", "exit 7", NULL);
			} else {
				snprintf(env, sizeof(env), "%d %u %u %u %llu %llu", s.ctx.fd,
					 s.ctx.vm, s.ctx.queue, s.ctx.syncobj,
					 (unsigned long long)cb.va, (unsigned long long)svm_va(p));
				setenv(EXEC_ENV, env, 1);
				execl("/proc/self/exe", "executed", NULL);
			}
			_exit(30);
		}
		igt_assert_eq(__igt_waitchildren(), 7);
	}
	assert_nothing_left(base, before);
	close(base);
}

/* Killed while the device waits for a page that nobody is going to bring. */
static void test_killed_in_fault(void)
{
	volatile uint32_t *flags = svm_flags();
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	for (unsigned int round = 0; round < npu_scale(3); round++) {
		char *q = svm_anon(KIB(64), SVM_SMALL);
		struct svm s;

		flags[0] = 0;
		igt_fork(child, 1) {
			char *p = svm_anon(SIZE, SVM_SMALL);
			int uffd = svm_uffd_open();
			struct npu_cell cell;
			struct npu_cb cb;
			struct svm mine;

			svm_open(&mine);
			svm_uffd_register(uffd, p, SIZE, UFFDIO_REGISTER_MODE_MISSING);
			cell = npu_cell(&mine.ctx, 0);
			cb = npu_begin(&mine.ctx);
			npu_cmd_write(&cb, cell.va, 1);
			npu_cmd_copy(&cb, mine.stage.va, svm_va(p), PAGE);
			igt_assert_eq(npu_submit(&mine.ctx, &cb, mine.ctx.queue, NULL, 0), 0);
			/* The fault has come as far as the process. */
			for (;;) {
				struct uffd_msg msg;

				if (read(uffd, &msg, sizeof(msg)) == sizeof(msg))
					break;
				usleep(1000);
			}
			flags[0] = 1;
			for (;;)
				pause();
		}
		svm_await(&flags[0], 1);

		/* Others are served meanwhile. */
		svm_open(&s);
		svm_put(q, KIB(64), round);
		svm_assert_device(&s, q, KIB(64), round);
		igt_kill_children(SIGKILL);
		igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
		svm_assert_cpu(q, KIB(64), round);
		svm_assert_device(&s, q, KIB(64), round);
		svm_free(q, KIB(64));
		svm_close(&s);
	}
	svm_flags_free(flags);
	assert_nothing_left(base, before);
	close(base);
}

/* Killed at any moment of one of these. */
enum doing { FAULTING, MIGRATING, UNMAPPING, DOING };

static const char *const doings[DOING] = { "faulting", "migrating", "unmapping" };

static void do_for_ever(enum doing doing, volatile uint32_t *started)
{
	uint64_t round = 0;
	struct svm s;

	svm_open(&s);
	for (;; round++) {
		char *p = svm_anon(SIZE, round & 1 ? SVM_HUGE : SVM_SMALL);

		svm_put(p, SIZE, round);
		*started = 1;
		for (int i = 0; i < 3; i++) {
			switch (doing) {
			case FAULTING:
				svm_assert_device(&s, p, SIZE, round);
				svm_assert_cpu(p, SIZE, round);
				break;
			case MIGRATING:
				igt_assert_eq(svm_prefetch(&s, p, SIZE,
							   DRM_GMEM_LOCATION_DEVICE), 0);
				igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_HOST), 0);
				break;
			default:
				igt_assert_eq(svm_prefetch(&s, p, SIZE,
							   DRM_GMEM_LOCATION_DEVICE), 0);
				igt_assert_eq(madvise(p, SIZE, MADV_DONTNEED), 0);
			}
		}
		svm_free(p, SIZE);
	}
}

static void test_killed_anywhere(enum doing doing)
{
	volatile uint32_t *flags = svm_flags();
	uint64_t seed = npu_seed();
	int base = npu_open();
	uint64_t before = npu_mem_free(base);

	for (unsigned int round = 0; round < npu_scale(10); round++) {
		flags[0] = flags[1] = 0;
		igt_fork(child, 2)
			do_for_ever(doing, &flags[child]);
		svm_await(&flags[0], 1);
		svm_await(&flags[1], 1);
		usleep(npu_random(&seed) % 150000);
		igt_kill_children(SIGKILL);
		igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
	}
	svm_flags_free(flags);
	assert_nothing_left(base, before);
	close(base);
}

/* A signal in the middle of a prefetch loses nothing. */
static volatile sig_atomic_t signals;

static void count_signal(int sig)
{
	(void)sig;
	signals++;
}

static void *send_signals(void *arg)
{
	volatile uint32_t *stop = arg;
	pid_t pid = getpid();

	while (!*stop) {
		kill(pid, SIGUSR1);
		usleep(2000);
	}
	return NULL;
}

static void test_signals(void)
{
	struct sigaction action = { .sa_handler = count_signal }, old;
	char *p = svm_anon(SIZE, SVM_SMALL);
	unsigned int interrupted = 0;
	volatile uint32_t stop = 0;
	pthread_t thread;
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	signals = 0;
	igt_assert_eq(sigaction(SIGUSR1, &action, &old), 0);
	svm_thread(&thread, send_signals, (void *)&stop);
	for (unsigned int i = 0; i < npu_scale(40); i++) {
		struct drm_gmem_prefetch arg = {
			.vm_id = s.ctx.vm, .va = svm_va(p), .size = SIZE,
			.location = i & 1 ? DRM_GMEM_LOCATION_HOST : DRM_GMEM_LOCATION_DEVICE,
		};
		int ret = ioctl(s.ctx.fd, DRM_IOCTL_NPU_PREFETCH, &arg) ? -errno : 0;

		igt_assert(ret == 0 || ret == -EINTR);
		interrupted += ret == -EINTR;
		if (!ret)
			igt_assert_eq_u64(arg.mapped, SIZE);
	}
	stop = 1;
	svm_join(thread);
	igt_assert_eq(sigaction(SIGUSR1, &old, NULL), 0);
	igt_info("%d signals, %u prefetches interrupted\n", (int)signals, interrupted);
	igt_assert_lt(0, signals);
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_cpu(p, SIZE, 1);
	svm_free(p, SIZE);
	svm_close(&s);
}

int igt_main()
{
	igt_fixture()
		close(npu_open());

	igt_describe("Processes exit with memory on the device");
	igt_subtest("exit")
		test_exit(false);

	igt_describe("Processes exit while jobs work on their memory");
	igt_subtest("exit-working")
		test_exit(true);

	igt_describe("VM and file go, the memory stays");
	igt_subtest("close")
		test_close();

	igt_describe("execve with memory on the device; the VM has no process any more");
	igt_subtest("exec")
		test_exec(false);

	igt_describe("execve while jobs work on the memory");
	igt_subtest("exec-working")
		test_exec(true);

	igt_describe("A process killed in the middle of a fault of its job");
	igt_subtest("killed-in-fault")
		test_killed_in_fault();

	igt_describe("Processes killed at random moments leave nothing behind");
	igt_subtest_with_dynamic("killed-anywhere") {
		for (enum doing doing = 0; doing < DOING; doing++)
			igt_dynamic(doings[doing])
				test_killed_anywhere(doing);
	}

	igt_describe("Signals interrupt a prefetch");
	igt_subtest("signals")
		test_signals();
}
