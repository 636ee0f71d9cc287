// SPDX-License-Identifier: MIT
/* Page faults that a thread of the test answers. */

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "npu_svm.h"

int svm_uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	igt_require_f(fd >= 0, "no userfaultfd: %m\n");
	igt_assert_f(ioctl(fd, UFFDIO_API, &api) == 0, "UFFDIO_API: %m\n");
	return fd;
}

void svm_uffd_register(int uffd, void *p, uint64_t size, uint64_t mode)
{
	struct uffdio_register arg = {
		.range = { .start = svm_va(p), .len = size }, .mode = mode,
	};
	int ret = ioctl(uffd, UFFDIO_REGISTER, &arg);

	igt_require_f(ret == 0 || errno != EINVAL || mode == UFFDIO_REGISTER_MODE_MISSING,
		      "no userfaultfd of this kind\n");
	igt_assert_f(ret == 0, "UFFDIO_REGISTER: %m\n");
}

void svm_uffd_protect(int uffd, void *p, uint64_t size, bool on)
{
	struct uffdio_writeprotect arg = {
		.range = { .start = svm_va(p), .len = size },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	igt_assert_f(ioctl(uffd, UFFDIO_WRITEPROTECT, &arg) == 0, "UFFDIO_WRITEPROTECT: %m\n");
}

/* Answers one fault; the mapping may be gone by then, or somebody else was quicker. */
static int answer(struct svm_uffd *u, const struct uffd_msg *msg)
{
	uint64_t at = msg->arg.pagefault.address & ~(PAGE - 1);

	if (msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
		struct uffdio_writeprotect arg = { .range = { .start = at, .len = PAGE } };

		u->wp++;
		return ioctl(u->fd, UFFDIO_WRITEPROTECT, &arg) ? -errno : 0;
	} else {
		struct uffdio_copy arg = { .dst = at, .src = svm_va(u->page), .len = PAGE };

		u->missing++;
		return ioctl(u->fd, UFFDIO_COPY, &arg) && errno != EEXIST ? -errno : 0;
	}
}

static void *serve(void *arg)
{
	struct svm_uffd *u = arg;

	for (;;) {
		struct pollfd p[2] = {
			{ .fd = u->fd, .events = POLLIN }, { .fd = u->stop, .events = POLLIN },
		};
		struct uffd_msg msg;
		ssize_t len;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			return NULL;
		len = read(u->fd, &msg, sizeof(msg));
		if (len < 0 && errno == EAGAIN)
			continue;
		if (len != sizeof(msg) || msg.event != UFFD_EVENT_PAGEFAULT)
			break;
		u->error = answer(u, &msg);
		if (u->error)
			return NULL;
	}
	u->error = -errno;
	return NULL;
}

/* Answers the faults of @u->fd from now on: missing pages get @byte. */
void svm_uffd_start(struct svm_uffd *u, uint8_t byte)
{
	u->missing = u->wp = 0;
	u->error = 0;
	u->page = aligned_alloc(PAGE, PAGE);
	igt_assert(u->page);
	memset(u->page, byte, PAGE);
	u->stop = eventfd(0, EFD_CLOEXEC);
	igt_assert_fd(u->stop);
	svm_thread(&u->thread, serve, u);
}

void svm_uffd_stop(struct svm_uffd *u)
{
	uint64_t one = 1;

	igt_assert_eq((int)write(u->stop, &one, 8), 8);
	svm_join(u->thread);
	close(u->stop);
	free(u->page);
	igt_assert_eq(u->error, 0);
}
