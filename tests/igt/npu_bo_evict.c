// SPDX-License-Identifier: MIT
/* More buffer objects than the device has memory for: they leave it for each other and come back. */

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Buffer objects that leave a device that is full");

#define MOST	64

static struct svm s;

static uint64_t memory(void)
{
	return npu_device_info(s.ctx.fd).mem_total;
}

static uint64_t count(const char *name)
{
	return npu_evictor_count(name);
}

static void set_policy(const char *name)
{
	igt_assert_eq(npu_evictor_set_policy(name), 0);
}

/* Objects that are together a multiple of what the device has. */
struct crowd {
	struct npu_bo bo[MOST];
	unsigned int count;
	uint64_t pages;
};

static void crowd_make(struct crowd *crowd, unsigned int times, uint32_t placement)
{
	uint64_t size = npu_round_up(npu_max(times * memory() / MOST, KIB(128)), PAGE);

	crowd->pages = size / PAGE;
	crowd->count = npu_min(MOST, npu_max(times * memory() / size, 2));
	for (unsigned int i = 0; i < crowd->count; i++) {
		crowd->bo[i] = npu_bo(&s.ctx, size, placement, 0);
		npu_bo_tag(&s.ctx, crowd->bo[i].handle, size, i);
	}
	igt_info("%u objects of %llu KiB\n", crowd->count, (unsigned long long)size >> 10);
}

static void crowd_check(struct crowd *crowd)
{
	for (unsigned int i = 0; i < crowd->count; i++)
		npu_assert_tags(&s.ctx, crowd->bo[i].va, crowd->pages, i, 0);
}

static void crowd_free(struct crowd *crowd)
{
	for (unsigned int i = 0; i < crowd->count; i++)
		npu_bo_free(&s.ctx, &crowd->bo[i]);
}

static uint32_t residency(const struct npu_bo *bo)
{
	return npu_range_at(&s.ctx, bo->va).residency;
}

/* What was written by jobs is there, wherever it was meanwhile. */
static void test_policy(const char *policy)
{
	uint64_t before = npu_mem_free(s.ctx.fd), spilled = count("spilled="), restored;
	unsigned int host = 0;
	struct crowd crowd;

	set_policy(policy);
	crowd_make(&crowd, 3, NPU_DEVICE);
	igt_assert_lt_u64(spilled, count("spilled="));
	spilled = count("spilled=");
	restored = count("restored=");
	for (unsigned int i = 0; i < crowd.count; i++)
		host += residency(&crowd.bo[i]) == DRM_GMEM_RESIDENT_HOST;
	igt_assert_lt(crowd.count / 2, host);
	crowd_check(&crowd);
	igt_assert_lt_u64(spilled, count("spilled="));
	igt_assert_lt_u64(restored, count("restored="));
	crowd_free(&crowd);
	set_policy("lirs");
	npu_assert_mem_at_least(s.ctx.fd, before);
}

/* The CPU finds it, too, and what the CPU writes the device finds. */
static void test_cpu(void)
{
	struct crowd crowd;

	igt_require(npu_device_info(s.ctx.fd).mem_visible == memory());
	crowd_make(&crowd, 2, NPU_VISIBLE);
	for (int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < crowd.count; i++) {
			volatile uint64_t *word = crowd.bo[i].cpu;

			for (uint64_t page = 0; page < crowd.pages; page += 7) {
				igt_assert_eq_u64(word[page * PAGE / 8], npu_tag(i, page));
				word[page * PAGE / 8 + 1] = i + page + round;
			}
		}
		for (unsigned int i = 0; i < crowd.count; i++) {
			volatile uint64_t *word = crowd.bo[i].cpu;
			uint64_t value;

			igt_assert_eq(npu_read(&s.ctx, crowd.bo[i].va + 8, &value), 0);
			igt_assert_eq_u64(value, i + round);
			igt_assert_eq(npu_write(&s.ctx, crowd.bo[i].va + 16, ~i), 0);
			igt_assert_eq_u64(word[2], (uint64_t)~i);
		}
		crowd_check(&crowd);
	}
	crowd_free(&crowd);
}

/* Objects and memory of the process make room for each other. */
static void test_mixed(void)
{
	uint64_t size = 2 * memory(), step = KIB(256);
	char *p = svm_anon(size, SVM_DEFAULT);
	struct crowd crowd;

	svm_put(p, size, 1);
	crowd_make(&crowd, 2, NPU_DEVICE);
	for (int round = 0; round < 2; round++) {
		for (uint64_t at = 0; at < size; at += step) {
			unsigned int i = at / step % crowd.count;

			igt_assert_eq(svm_write(&s, p + at, step, at + round), 0);
			npu_assert_tags(&s.ctx, crowd.bo[i].va, crowd.pages, i, 0);
		}
		for (uint64_t at = 0; at < size; at += step)
			svm_assert_device(&s, p + at, step, at + round);
	}
	for (uint64_t at = 0; at < size; at += step)
		svm_assert_cpu(p + at, step, at + 1);
	crowd_check(&crowd);
	crowd_free(&crowd);
	svm_free(p, size);
}

/* A job that needs more than there is uses some of it where it is. */
static void test_two_in_a_job(void)
{
	uint64_t size = npu_round_up(memory() * 3 / 4, PAGE);
	struct npu_bo a = npu_bo(&s.ctx, size, NPU_DEVICE, 0);
	struct npu_bo b;
	struct npu_cb cb;

	npu_bo_tag(&s.ctx, a.handle, size, 1);
	b = npu_bo(&s.ctx, size, NPU_DEVICE, 0);
	for (int round = 0; round < 2; round++) {
		cb = npu_begin(&s.ctx);
		npu_cmd_copy(&cb, b.va, a.va, size);
		npu_cmd_copy(&cb, a.va, b.va, size);
		igt_assert_eq(npu_run(&s.ctx, &cb), 0);
	}
	npu_assert_tags(&s.ctx, a.va, size / PAGE, 1, 0);
	npu_assert_tags(&s.ctx, b.va, size / PAGE, 1, 0);
	npu_bo_free(&s.ctx, &a);
	npu_assert_tags(&s.ctx, b.va, size / PAGE, 1, 0);
	npu_bo_free(&s.ctx, &b);
}

/* Drives all out that may go: what is used by a job only now and then would stay otherwise. */
static void drive_out(void)
{
	struct crowd crowd;

	set_policy("lru");
	crowd_make(&crowd, 2, NPU_DEVICE);
	crowd_free(&crowd);
	set_policy("lirs");
}

/* It comes back as it was mapped: several times, in parts, for reading only. */
static void test_mappings(void)
{
	struct npu_bo bo = npu_bo(&s.ctx, MIB(1), NPU_DEVICE, 0);
	uint64_t va = npu_va(&s.ctx, MIB(4), MIB(2)), other;
	uint32_t vm;

	npu_bo_tag(&s.ctx, bo.handle, bo.size, 1);
	igt_assert_eq(npu_map(s.ctx.fd, s.ctx.vm, bo.handle, va, KIB(512), KIB(256),
			      DRM_GMEM_BIND_READONLY), 0);
	igt_assert_eq(npu_map(s.ctx.fd, s.ctx.vm, bo.handle, va + KIB(256), 0, MIB(1), 0), 0);
	igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, va + KIB(512), KIB(64)), 0);
	igt_assert_eq(npu_vm_create(s.ctx.fd, &vm), 0);
	igt_assert_eq(npu_map(s.ctx.fd, vm, bo.handle, va, 0, MIB(1), 0), 0);
	for (int round = 0; round < 3; round++) {
		drive_out();
		igt_assert_eq(residency(&bo), DRM_GMEM_RESIDENT_HOST);
		/* Each time another mapping brings it back. */
		other = round == 1 ? va : va + KIB(256);
		if (round < 2)
			npu_assert_tags(&s.ctx, other, 16, 1, round == 1 ? 128 : 0);
		else
			npu_assert_fault(&s.ctx, npu_write(&s.ctx, va, 0), va, NPU_NOT_WRITABLE);
		npu_assert_tags(&s.ctx, bo.va, 256, 1, 0);
		npu_assert_tags(&s.ctx, va, 64, 1, 128);
		npu_assert_tags(&s.ctx, va + KIB(256), 64, 1, 0);
		npu_assert_unmapped(&s.ctx, va + KIB(512));
		npu_assert_tags(&s.ctx, va + KIB(576), 128, 1, 80);
	}
	igt_assert_eq(npu_vm_destroy(s.ctx.fd, vm), 0);
	npu_bo_free(&s.ctx, &bo);
}

/* Binds of what has left, and over it. */
static void test_bind(void)
{
	struct npu_bo a = npu_bo(&s.ctx, MIB(1), NPU_DEVICE, 0);
	struct npu_bo b = npu_bo(&s.ctx, MIB(1), NPU_DEVICE, 0);
	uint64_t va = npu_va(&s.ctx, MIB(2), MIB(2));

	npu_bo_tag(&s.ctx, a.handle, a.size, 1);
	npu_bo_tag(&s.ctx, b.handle, b.size, 2);
	for (int round = 0; round < 2; round++) {
		drive_out();
		igt_assert_eq(npu_map(s.ctx.fd, s.ctx.vm, a.handle, va, 0, MIB(1), 0), 0);
		npu_assert_tags(&s.ctx, va, 256, 1, 0);
		drive_out();
		igt_assert_eq(npu_map(s.ctx.fd, s.ctx.vm, b.handle, va + KIB(512), KIB(512), KIB(64), 0),
			      0);
		npu_assert_tags(&s.ctx, va, 128, 1, 0);
		npu_assert_tags(&s.ctx, va + KIB(512), 16, 2, 128);
		npu_assert_tags(&s.ctx, va + KIB(576), 112, 1, 144);
		drive_out();
		igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, va + PAGE, PAGE), 0);
		npu_assert_unmapped(&s.ctx, va + PAGE);
		npu_assert_tags(&s.ctx, va, 1, 1, 0);
		npu_assert_tags(&s.ctx, va + 2 * PAGE, 126, 1, 2);
		drive_out();
		igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, va, MIB(2)), 0);
		npu_assert_unmapped(&s.ctx, va);
	}
	npu_bo_free(&s.ctx, &a);
	npu_bo_free(&s.ctx, &b);
}

/* A bind may concern more than fits at a time. */
static void test_bind_all(void)
{
	struct drm_gmem_bind_op ops[MOST];
	struct crowd crowd;
	uint64_t va, size;

	crowd_make(&crowd, 3, NPU_DEVICE);
	size = crowd.pages * PAGE;
	va = npu_va(&s.ctx, crowd.count * size, MIB(2));
	for (int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < crowd.count; i++)
			ops[i] = npu_op_map(crowd.bo[i].handle, va + i * size, 0, size);
		igt_assert_eq(npu_bind(s.ctx.fd, s.ctx.vm, ops, crowd.count), 0);
		for (unsigned int i = 0; i < crowd.count; i++)
			npu_assert_tags(&s.ctx, va + i * size, crowd.pages, i, 0);
		igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, va, crowd.count * size), 0);
		npu_assert_unmapped(&s.ctx, va);
		crowd_check(&crowd);
	}
	crowd_free(&crowd);
}

/* A VM that ends with binds that nobody does leaves nothing mapped of what moves meanwhile. */
static void test_vm_end(void)
{
	struct npu_bo bo = npu_bo(&s.ctx, KIB(256), NPU_DEVICE, 0);

	npu_bo_tag(&s.ctx, bo.handle, bo.size, 1);
	for (int round = 0; round < 2; round++) {
		struct drm_gmem_bind_op op;
		struct drm_gmem_sync sync;
		struct crowd crowd;
		struct npu_hold hold;
		uint32_t vm, queue;

		npu_hold(&hold);
		igt_assert_eq(npu_vm_create(s.ctx.fd, &vm), 0);
		igt_assert_eq(npu_bind_queue_create(s.ctx.fd, vm, &queue), 0);
		igt_assert_eq(npu_map(s.ctx.fd, vm, bo.handle, GIB(1), 0, bo.size, 0), 0);
		for (int i = 0; i < 64; i++) {
			struct drm_gmem_bind bind = {
				.vm_id = vm, .flags = DRM_GMEM_BIND_ASYNC, .num_ops = 1,
				.num_syncs = 1, .queue_id = queue,
			};

			op = npu_op_unmap(GIB(1) + i * PAGE, PAGE);
			sync = npu_wait_for(npu_hold_syncobj(&hold, s.ctx.fd));
			bind.ops = (uintptr_t)&op;
			bind.syncs = (uintptr_t)&sync;
			igt_assert_eq(npu_ioctl(s.ctx.fd, DRM_IOCTL_NPU_BIND, &bind), 0);
			npu_syncobj_destroy(s.ctx.fd, sync.handle);
		}
		igt_assert_eq(npu_vm_destroy(s.ctx.fd, vm), 0);
		npu_release(&hold);
		set_policy("uvm");
		crowd_make(&crowd, 2, NPU_DEVICE);
		set_policy("lirs");
		crowd_check(&crowd);
		crowd_free(&crowd);
		npu_assert_tags(&s.ctx, bo.va, 64, 1, 0);
	}
	npu_bo_free(&s.ctx, &bo);
}

/* A job that came before a bind finds what was there before, also if that has left the device by then. */
static void test_queued_bind(void)
{
	struct npu_bo old = npu_bo(&s.ctx, KIB(256), NPU_DEVICE, 0);
	struct npu_bo new = npu_bo(&s.ctx, KIB(256), NPU_DEVICE, 0);
	struct npu_cell seen = npu_cell(&s.ctx, 0);
	struct drm_gmem_sync sync[2];
	struct crowd crowd;
	struct npu_hold hold;
	struct drm_gmem_bind_op op;
	uint32_t queue, binds, done;
	uint64_t va, value;
	struct npu_cb cb;

	npu_bo_tag(&s.ctx, old.handle, old.size, 1);
	npu_bo_tag(&s.ctx, new.handle, new.size, 2);
	drive_out();
	igt_assert_eq(npu_queue_create(s.ctx.fd, &queue), 0);
	igt_assert_eq(npu_bind_queue_create(s.ctx.fd, s.ctx.vm, &binds), 0);
	done = npu_syncobj(s.ctx.fd, 0);
	npu_hold(&hold);

	/* The job waits for us, the bind for the job. */
	cb = npu_begin(&s.ctx);
	npu_cmd_copy(&cb, seen.va, old.va + 8 * PAGE, 8);
	npu_cmd_write(&cb, old.va + 16 * PAGE + 64, 99);
	sync[0] = npu_wait_for(npu_hold_syncobj(&hold, s.ctx.fd));
	sync[1] = npu_signal(done);
	igt_assert_eq(npu_submit(&s.ctx, &cb, queue, sync, 2), 0);
	sync[0] = npu_wait_for(done);
	op = npu_op_map(new.handle, old.va, 0, new.size);
	igt_assert_eq(npu_bind_async(&s.ctx, binds, &op, 1, sync, 1), 0);
	set_policy("lru");
	crowd_make(&crowd, 2, NPU_DEVICE);
	npu_assert_held(&hold);
	npu_release(&hold);
	igt_assert_eq(npu_fence_result(s.ctx.fd, done), 0);
	igt_assert_eq_u64(*seen.cpu, npu_tag(1, 8));
	crowd_check(&crowd);
	crowd_free(&crowd);
	set_policy("lirs");
	npu_assert_tags(&s.ctx, old.va, 64, 2, 0);
	/* What it wrote went to the object, and not to what its memory was given to. */
	va = npu_va(&s.ctx, old.size, PAGE);
	igt_assert_eq(npu_map(s.ctx.fd, s.ctx.vm, old.handle, va, 0, old.size, 0), 0);
	igt_assert_eq(npu_read(&s.ctx, va + 16 * PAGE + 64, &value), 0);
	igt_assert_eq_u64(value, 99);
	npu_assert_tags(&s.ctx, va, 64, 1, 0);
	igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, va, old.size), 0);
	igt_assert_eq(npu_bind_queue_destroy(s.ctx.fd, binds), 0);
	igt_assert_eq(npu_queue_destroy(s.ctx.fd, queue), 0);
	npu_syncobj_destroy(s.ctx.fd, done);
	npu_bo_free(&s.ctx, &old);
	npu_bo_free(&s.ctx, &new);
}

/* Commands are fetched from where they are. */
static void test_commands(void)
{
	struct npu_bo bo = npu_bo(&s.ctx, KIB(64), NPU_VISIBLE, DRM_GMEM_BIND_EXEC);
	struct npu_cell cell = npu_cell(&s.ctx, 0);
	struct npu_cb cb = { .start = bo.cpu, .p = bo.cpu, .va = bo.va };
	struct drm_gmem_sync sync;
	uint32_t done = npu_syncobj(s.ctx.fd, 0);

	cb.end = cb.start + KIB(64) / 8;
	npu_cmd_write(&cb, cell.va, 77);
	drive_out();
	igt_assert_eq(residency(&bo), DRM_GMEM_RESIDENT_HOST);
	sync = npu_signal(done);
	igt_assert_eq(npu_submit_raw(s.ctx.fd, s.ctx.queue, s.ctx.vm, bo.va, npu_cb_size(&cb), &sync, 1),
		      0);
	s.ctx.seqno++;
	igt_assert_eq(npu_fence_result(s.ctx.fd, done), 0);
	igt_assert_eq_u64(*cell.cpu, 77);
	npu_syncobj_destroy(s.ctx.fd, done);
	npu_bo_free(&s.ctx, &bo);
}

/* What is pinned stays, and is not for everybody. */
static void test_pinned(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct npu_bo bo = npu_bo(&s.ctx, memory() / 2, NPU_PINNED, 0);
	uint32_t handle;

	npu_bo_tag(&s.ctx, bo.handle, bo.size, 1);
	for (int round = 0; round < 2; round++) {
		uint64_t restored = count("restored=");

		drive_out();
		igt_assert_eq(residency(&bo), DRM_GMEM_RESIDENT_DEVICE);
		npu_assert_tags(&s.ctx, bo.va, bo.size / PAGE, 1, 0);
		igt_assert_lte_u64(restored, count("restored="));
	}
	/* The other half can't hold that. */
	igt_assert_eq(npu_bo_create(s.ctx.fd, memory() * 3 / 4, NPU_DEVICE, &handle), -ENOSPC);
	igt_assert_eq(npu_bo_create(s.ctx.fd, PAGE, NPU_HOST | DRM_GMEM_BO_PINNED, &handle), -EINVAL);
	igt_assert_eq(npu_bo_create(s.ctx.fd, PAGE, DRM_GMEM_BO_PINNED, &handle), -EINVAL);
	igt_fork(child, 1) {
		struct __user_cap_data_struct caps[2];

		igt_assert_eq(syscall(SYS_capget, &head, caps), 0);
		caps[0].effective &= ~(1u << CAP_IPC_LOCK);
		igt_assert_eq(syscall(SYS_capset, &head, caps), 0);
		igt_assert_eq(npu_bo_create(s.ctx.fd, PAGE, NPU_PINNED, &handle), -EPERM);
		igt_assert_eq(npu_bo_create(s.ctx.fd, PAGE, NPU_DEVICE, &handle), 0);
		igt_assert_eq(npu_bo_close(s.ctx.fd, handle), 0);
	}
	igt_waitchildren();
	npu_bo_free(&s.ctx, &bo);
}

/* A copy that fails while an object leaves or comes loses nothing. */
static void test_copy_error(void)
{
	volatile uint32_t *regs = npu_registers(npu_device_bdf(npu_device_under_test()));
	struct crowd crowd;
	uint64_t value;

	crowd_make(&crowd, 2, NPU_DEVICE);
	for (int i = 0; i < 4; i++) {
		uint32_t handle;
		int ret;

		npu_inject(regs, NPU_INJECT_COPY_ERROR, 1);
		ret = npu_bo_create(s.ctx.fd, memory() / 2, NPU_DEVICE, &handle);
		npu_inject(regs, NPU_INJECT_COPY_ERROR, 0);
		igt_assert_f(!ret || ret == -EIO || ret == -ENOSPC, "%d\n", ret);
		if (!ret)
			igt_assert_eq(npu_bo_close(s.ctx.fd, handle), 0);
		/* A job whose object can't come fails, and that alone. */
		npu_inject(regs, NPU_INJECT_COPY_ERROR, 1);
		ret = npu_read(&s.ctx, crowd.bo[i % crowd.count].va, &value);
		npu_inject(regs, NPU_INJECT_COPY_ERROR, 0);
		igt_assert_f(!ret || ret == -EFAULT, "%d\n", ret);
		crowd_check(&crowd);
	}
	crowd_free(&crowd);
}

/* What has left the device can be swapped out, and comes back from there. */
static void test_swap(void)
{
	char path[320];

	svm_group_make();
	svm_swap_on(path, sizeof(path));
	igt_fork(child, 1) {
		struct crowd crowd;
		uint64_t swapped;

		svm_group_join();
		svm_open(&s);
		crowd_make(&crowd, 3, NPU_DEVICE);
		for (int round = 0; round < 2; round++) {
			swapped = svm_group_swap_out(memory());
			igt_info("%llu KiB swapped out\n", (unsigned long long)swapped >> 10);
			igt_assert_lte_u64(memory(), swapped);
			crowd_check(&crowd);
		}
		crowd_free(&crowd);
		svm_close(&s);
	}
	igt_waitchildren();
	igt_assert_eq(swapoff(path), 0);
}

/* Processes that each have more than all, and bind and unbind all the time; some are killed. */
static void test_processes(void)
{
	int base = npu_open();
	uint64_t before;

	drive_out();
	before = npu_mem_free(base);
	igt_fork(child, 4) {
		uint64_t seed = npu_seed() + child, size = npu_round_up(memory() / 6, PAGE);
		uint32_t bo[8], id[8];
		struct npu_ctx ctx;

		npu_ctx_open(&ctx);
		for (int i = 0; i < 8; i++) {
			igt_assert_eq(npu_bo_create(ctx.fd, size, NPU_DEVICE, &bo[i]), 0);
			id[i] = 8 * child + i;
			npu_bo_tag(&ctx, bo[i], size, id[i]);
		}
		for (unsigned int step = 0; step < npu_scale(12); step++) {
			unsigned int at = npu_random(&seed) % 8;
			uint64_t va = npu_va(&ctx, size, PAGE);

			igt_assert_eq(npu_map(ctx.fd, ctx.vm, bo[at], va, 0, size, 0), 0);
			npu_assert_tags(&ctx, va, size / PAGE, id[at], 0);
			if (npu_random(&seed) % 2)
				igt_assert_eq(npu_unmap(ctx.fd, ctx.vm, va, size), 0);
			if (npu_random(&seed) % 4 == 0) {
				igt_assert_eq(npu_bo_close(ctx.fd, bo[at]), 0);
				igt_assert_eq(npu_bo_create(ctx.fd, size, NPU_DEVICE, &bo[at]), 0);
				npu_bo_tag(&ctx, bo[at], size, id[at]);
			}
			if (child == 3 && step == 6)
				raise(SIGKILL);
		}
		npu_ctx_close(&ctx);
	}
	igt_assert_eq(__igt_waitchildren(), 128 + SIGKILL);
	npu_assert_mem_at_least(base, before);
	close(base);
	npu_assert_alive(&s.ctx);
}

static const struct svm_test tests[] = {
	{ "cpu", "The CPU sees what has left the device, and what has come back", test_cpu },
	{ "mixed", "Objects and memory of processes make room for each other", test_mixed },
	{ "two-in-a-job", "Two objects that don't fit together work in one job", test_two_in_a_job },
	{ "mappings", "An object comes back to all of its mappings, and to no more", test_mappings },
	{ "bind", "Binds of and over what has left the device", test_bind },
	{ "bind-all", "Binds of more objects than fit at a time", test_bind_all },
	{ "vm-end", "A VM that ends with binds that are not done", test_vm_end },
	{ "queued-bind", "A bind that is queued does not hide what jobs before it see",
	  test_queued_bind },
	{ "commands", "Commands in an object that has left the device are executed", test_commands },
	{ "pinned", "A pinned object stays, which takes CAP_IPC_LOCK", test_pinned },
	{ "swap", "What has left the device is swapped out", test_swap },
	{ "copy-error", "Copies that fail lose nothing", test_copy_error },
	{ "processes", "Processes that each have more than the device, some of them killed",
	  test_processes },
};

int igt_main()
{
	static const char *const policies[] = { "lirs", "lru", "uvm", "gmem" };

	igt_fixture() {
		struct svm warm;

		svm_open(&warm);
		igt_require(npu_can_fault(warm.ctx.fd));
		svm_close(&warm);
	}

	svm_run(&s, tests, ARRAY_LEN(tests));

	igt_describe("Contents survive, by each policy");
	igt_subtest_with_dynamic("policy") {
		for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
			igt_dynamic(policies[i]) {
				svm_open(&s);
				test_policy(policies[i]);
				svm_close(&s);
			}
		}
	}
}
