// SPDX-License-Identifier: MIT
/* Mirrors as mappings: what may be mapped where, by whom, and what comes of it. */

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npu_svm.h"

IGT_TEST_DESCRIPTION("Mirrors of a process's memory as mappings of a VM");

#define SIZE	MIB(2)
#define ALIAS	GIB(8)		/* a device address where no object is */

/* A VM without a mirror, and tagged memory. */
static char *open_bare(struct svm *s)
{
	char *p = svm_anon(SIZE, SVM_DEFAULT);

	svm_open_bare(s);
	svm_put(p, SIZE, 1);
	return p;
}

static void close_bare(struct svm *s, char *p)
{
	svm_free(p, SIZE);
	svm_close(s);
}

/* What a job reads at a device address. */
static int read_va(struct svm *s, uint64_t va, uint64_t size)
{
	return svm_read(s, (void *)va, size);
}

static void assert_va(struct svm *s, uint64_t va, uint64_t size, uint64_t seed, uint64_t at)
{
	igt_assert_eq(read_va(s, va, size), 0);
	igt_assert_eq_u64(svm_find_at(s->stage.cpu, size, seed, at), ~0ull);
}

/* Each bad operation at each place of an array: none of it is done. */
static void try_bad(struct svm *s, struct drm_gmem_bind_op bad, int error)
{
	for (int at = 0; at < 3; at++) {
		struct drm_gmem_bind_op ops[3] = {
			npu_op_mirror(ALIAS, (void *)SVM_START, SIZE),
			npu_op_mirror(ALIAS + SIZE, (void *)SVM_START, SIZE),
			npu_op_mirror(ALIAS + 2 * SIZE, (void *)SVM_START, SIZE),
		};
		int ret;

		ops[at] = bad;
		ret = npu_bind(s->ctx.fd, s->ctx.vm, ops, 3);
		igt_assert_f(ret == error, "flags %#x handle %u pad %#x va %#llx size %#llx bo_offset "
			     "%#llx attrs %#llx at %d: %d instead of %d\n", bad.flags, bad.handle,
			     bad.pad, bad.va, bad.size, bad.bo_offset, bad.attrs, at, ret, error);
		igt_assert_eq_u32(npu_range_at(&s->ctx, ALIAS).mapping, DRM_GMEM_MAPPING_NONE);
	}
}

#define TRY(field, value, error) \
	do { \
		struct drm_gmem_bind_op op_ = npu_op_mirror(ALIAS + SIZE, p, SIZE); \
		op_.field = (value); \
		try_bad(&s, op_, error); \
	} while (0)

static void test_errors(void)
{
	struct drm_gmem_query_device info;
	struct svm s;
	char *p = open_bare(&s);

	info = npu_device_info(s.ctx.fd);
	for (int bit = 0; bit < 12; bit++) {
		TRY(va, ALIAS + (1ull << bit), -EINVAL);
		TRY(size, SIZE + (1ull << bit), -EINVAL);
		TRY(bo_offset, svm_va(p) + (1ull << bit), -EINVAL);
	}
	for (int bit = 0; bit < 32; bit++) {
		if (!((DRM_GMEM_BIND_READONLY | DRM_GMEM_BIND_EXEC) & 1u << bit))
			TRY(flags, 1u << bit, -EINVAL);
		TRY(pad, 1u << bit, -EINVAL);
		TRY(handle, 1u << bit, -EINVAL);
	}
	TRY(handle, s.stage.handle, -EINVAL);
	TRY(size, 0, -EINVAL);
	TRY(attrs, 3, -EINVAL);
	TRY(attrs, 1ull << 63, -EINVAL);

	/* Device addresses. */
	TRY(va, info.va_end, -ERANGE);
	TRY(va, info.va_end - SIZE + PAGE, -ERANGE);
	TRY(va, -PAGE, -ERANGE);
	if (info.va_start)
		TRY(va, info.va_start - PAGE, -ERANGE);

	/* CPU addresses. */
	TRY(bo_offset, SVM_END - SIZE + PAGE, -ERANGE);
	TRY(bo_offset, SVM_END, -ERANGE);
	TRY(bo_offset, 1ull << 47, -ERANGE);
	TRY(bo_offset, 1ull << 63, -ERANGE);
	TRY(bo_offset, 0xffff888000000000ull, -ERANGE);
	TRY(bo_offset, -PAGE, -ERANGE);
	TRY(bo_offset, -SIZE, -ERANGE);

	/* To the very ends it's fine. */
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, ALIAS, NULL, SIZE, 0), 0);
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, info.va_end - PAGE, (void *)(SVM_END - PAGE),
				 PAGE, 0), 0);
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, info.va_start ?: PAGE, p, PAGE, 0), 0);
	assert_va(&s, info.va_start ?: PAGE, PAGE, 1, 0);
	svm_assert_fault(&s, read_va(&s, ALIAS, 8), ALIAS, NPU_NOT_MAPPED, NPU_READ);
	close_bare(&s, p);
}

/* The whole address space, in one operation. */
static void test_whole(void)
{
	struct drm_gmem_range range;
	struct svm_where where;
	struct svm s;
	char *p = open_bare(&s);

	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, SVM_START, (void *)SVM_START,
				 SVM_END - SVM_START, DRM_GMEM_BIND_EXEC), 0);
	where = svm_where(&s, (void *)SVM_START, SVM_END - SVM_START);
	igt_assert_eq_u64(where.device, 0);
	igt_assert_lte_u64(SIZE, where.host);
	igt_assert_eq_u32(npu_range_at(&s.ctx, svm_va(p)).flags, DRM_GMEM_BIND_EXEC);
	igt_assert_eq_u32(npu_range_at(&s.ctx, SVM_START).residency, DRM_GMEM_RESIDENT_NOWHERE);
	svm_assert_device(&s, p, SIZE, 1);
	igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, SVM_START, SVM_END - SVM_START), 0);
	igt_assert_eq(npu_ranges(&s.ctx, SVM_START, SVM_END - SVM_START, &range, 1), 1);
	igt_assert_eq_u32(range.mapping, DRM_GMEM_MAPPING_NONE);
	svm_assert_fault(&s, svm_touch(&s, p), p, NPU_NOT_MAPPED, NPU_READ);
	svm_assert_cpu(p, SIZE, 1);
	close_bare(&s, p);
}

/* What continues each other is one, what doesn't isn't. */
static void test_query(void)
{
	struct drm_gmem_range range[8];
	struct svm s;
	char *p = open_bare(&s);

	for (int i = 0; i < 4; i++)
		igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, ALIAS + i * KIB(64), p + i * KIB(64),
					 KIB(64), 0), 0);
	igt_assert_eq(npu_ranges(&s.ctx, ALIAS - PAGE, KIB(256) + 2 * PAGE, range, 8), 3);
	igt_assert_eq_u32(range[0].mapping, DRM_GMEM_MAPPING_NONE);
	igt_assert_eq_u32(range[1].mapping, DRM_GMEM_MAPPING_MIRROR);
	igt_assert_eq_u64(range[1].size, KIB(256));
	igt_assert_eq_u64(range[1].bo_offset, svm_va(p));
	igt_assert_eq_u32(range[2].mapping, DRM_GMEM_MAPPING_NONE);

	/* A part of it says its own address. */
	igt_assert_eq_u64(npu_range_at(&s.ctx, ALIAS + KIB(100)).bo_offset, svm_va(p) + KIB(100));

	/* Other rights, other memory, other attributes. */
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, ALIAS, p, KIB(64), DRM_GMEM_BIND_READONLY), 0);
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, ALIAS + KIB(128), p, KIB(64), 0), 0);
	igt_assert_eq(npu_ranges(&s.ctx, ALIAS, KIB(256), range, 8), 4);
	igt_assert_eq_u32(range[0].flags, DRM_GMEM_BIND_READONLY);
	igt_assert_eq_u64(range[1].bo_offset, svm_va(p) + KIB(64));
	igt_assert_eq_u64(range[2].bo_offset, svm_va(p));
	igt_assert_eq_u64(range[3].bo_offset, svm_va(p) + KIB(192));
	close_bare(&s, p);
}

/* Pages are where the mirror says, wherever that is on the device. */
static void test_elsewhere(void)
{
	static const uint64_t shifts[] = { 0, PAGE, KIB(64), MIB(1), MIB(2) + PAGE };
	struct svm s;
	char *p = open_bare(&s);

	for (size_t i = 0; i < ARRAY_LEN(shifts); i++) {
		uint64_t va = ALIAS + i * GIB(1) + shifts[i];
		struct drm_gmem_prefetch arg = {
			.vm_id = s.ctx.vm, .va = va, .size = SIZE,
			.location = DRM_GMEM_LOCATION_DEVICE,
		};

		svm_put(p, SIZE, i);
		igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, va, p, SIZE, 0), 0);
		assert_va(&s, va, SIZE, i, 0);
		igt_assert_eq(svm_present(p, SIZE), 0);
		svm_assert_cpu(p, SIZE, i);
		igt_assert_eq(npu_prefetch(s.ctx.fd, &arg), 0);
		igt_assert_eq_u64(arg.moved, SIZE);
		igt_assert_eq_u64(arg.mapped, SIZE);
		igt_assert_eq(svm_present(p, SIZE), 0);
		igt_assert_eq(svm_write(&s, (void *)va, SIZE, 10 + i), 0);
		svm_assert_cpu(p, SIZE, 10 + i);
		svm_assert_fault(&s, read_va(&s, va - 8, 8), va - 8, NPU_NOT_MAPPED, NPU_READ);
		svm_assert_fault(&s, read_va(&s, va + SIZE, 8), va + SIZE, NPU_NOT_MAPPED, NPU_READ);
		igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, va, SIZE), 0);
	}
	/* At its own address there is none. */
	svm_assert_fault(&s, svm_touch(&s, p), p, NPU_NOT_MAPPED, NPU_READ);
	close_bare(&s, p);
}

/* The same memory at several device addresses is the same memory. */
static void test_two_mirrors(void)
{
	uint64_t va[3] = { ALIAS, ALIAS + GIB(1) + KIB(68), ALIAS + GIB(600) };
	struct svm s;
	char *p = open_bare(&s);

	for (int i = 0; i < 3; i++)
		igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, va[i], p, SIZE, 0), 0);
	for (int round = 0; round < 9; round++) {
		struct drm_gmem_prefetch arg = {
			.vm_id = s.ctx.vm, .va = va[round / 3], .size = SIZE,
			.location = round & 1 ? DRM_GMEM_LOCATION_HOST : DRM_GMEM_LOCATION_DEVICE,
		};

		igt_assert_eq(svm_write(&s, (void *)va[round % 3], SIZE, round), 0);
		igt_assert_eq(npu_prefetch(s.ctx.fd, &arg), 0);
		for (int i = 0; i < 3; i++)
			assert_va(&s, va[i], SIZE, round, 0);
		igt_assert_eq(svm_write(&s, (void *)va[(round + 1) % 3], SIZE, 20 + round), 0);
		svm_assert_cpu(p, SIZE, 20 + round);
		svm_put(p, SIZE, 40 + round);
		for (int i = 0; i < 3; i++)
			assert_va(&s, va[i], SIZE, 40 + round, 0);
	}

	/* What the process unmaps is gone at all of them. */
	svm_free(p + MIB(1), PAGE);
	for (int i = 0; i < 3; i++)
		svm_assert_fault(&s, read_va(&s, va[i] + MIB(1), 8), va[i] + MIB(1), NPU_NOT_MAPPED,
				 NPU_READ);
	for (int i = 0; i < 3; i++)
		assert_va(&s, va[i] + MIB(1) + PAGE, PAGE, 48, MIB(1) + PAGE);
	close_bare(&s, p);
}

/* Two VMs of one process, and of one file. */
static void test_two_vms(void)
{
	char *p = svm_anon(SIZE, SVM_DEFAULT);
	struct svm a, b;

	svm_open(&a);
	svm_init(&b, a.ctx.fd);
	svm_put(p, SIZE, 1);
	svm_to_device(&a, p, SIZE);
	svm_assert_device(&b, p, SIZE, 1);
	for (int i = 0; i < 6; i++) {
		struct svm *one = i & 1 ? &a : &b, *other = i & 1 ? &b : &a;

		igt_assert_eq(svm_write(one, p, SIZE, 2 + i), 0);
		svm_assert_device(other, p, SIZE, 2 + i);
		if (i >= 2)
			svm_to_host(one, p, SIZE);
		svm_assert_device(other, p, SIZE, 2 + i);
		if (i >= 4)
			svm_to_device(other, p, SIZE);
		svm_assert_device(one, p, SIZE, 2 + i);
	}
	/* What one of them no longer mirrors the other still does. */
	igt_assert_eq(npu_unmap(a.ctx.fd, a.ctx.vm, svm_va(p), SIZE), 0);
	svm_assert_fault(&a, svm_touch(&a, p), p, NPU_NOT_MAPPED, NPU_READ);
	svm_assert_device(&b, p, SIZE, 7);
	svm_fini(&b);
	svm_assert_cpu(p, SIZE, 7);
	svm_free(p, SIZE);
	svm_close(&a);
}

/* The device may not write what it sees only to be read, wherever it is. */
static void test_readonly(void)
{
	static const uint64_t places[] = { DRM_GMEM_LOCATION_HOST, DRM_GMEM_LOCATION_DEVICE };
	struct svm s;
	char *p = open_bare(&s);

	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, DRM_GMEM_BIND_READONLY),
		      0);
	for (int i = 0; i < 2; i++) {
		igt_assert_eq(svm_prefetch(&s, p, SIZE, places[i]), 0);
		svm_assert_device(&s, p, SIZE, 1);
		svm_assert_fault(&s, svm_poke(&s, p + PAGE, 0), p + PAGE, NPU_NOT_WRITABLE,
				 NPU_WRITE);
		svm_assert_device(&s, p, SIZE, 1);
	}
	svm_assert_cpu(p, SIZE, 1);
	svm_put(p, SIZE, 2);
	svm_assert_device(&s, p, SIZE, 2);

	/* Another mirror of it may. */
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, ALIAS, p, SIZE, 0), 0);
	igt_assert_eq(svm_write(&s, (void *)ALIAS, SIZE, 3), 0);
	svm_assert_device(&s, p, SIZE, 3);
	svm_assert_cpu(p, SIZE, 3);
	close_bare(&s, p);
}

/* Runs a job whose commands are in memory of the process, to write to a cell. */
static int run_at(struct svm *s, char *p, uint64_t value)
{
	struct npu_cell cell = npu_cell(&s->ctx, 0);
	struct npu_cb cb = { .start = (uint64_t *)p, .p = (uint64_t *)p,
			     .end = (uint64_t *)(p + PAGE), .va = svm_va(p) };
	int result;

	npu_cmd_write(&cb, cell.va, value);
	result = npu_run(&s->ctx, &cb);
	igt_assert_eq_u64(*cell.cpu, result ? 0 : value);
	return result;
}

/* Commands are fetched from memory of the process if it was mapped so. */
static void test_exec(void)
{
	struct npu_cb hole;
	struct svm s;
	char *p = open_bare(&s);

	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, 0), 0);
	svm_assert_fault(&s, run_at(&s, p, 1), p, NPU_NOT_EXECUTABLE, NPU_FETCH);
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, DRM_GMEM_BIND_EXEC), 0);
	for (int i = 0; i < 8; i++) {
		igt_assert_eq(run_at(&s, p + i % 3 * PAGE, i + 1), 0);
		if (i & 1)
			svm_to_device(&s, p, SIZE);
	}
	/* Across a page that isn't there. */
	svm_free(p + PAGE, PAGE);
	igt_assert_eq(run_at(&s, p, 9), 0);
	igt_assert_eq(run_at(&s, p + 2 * PAGE, 10), 0);
	hole = (struct npu_cb) { .start = s.stage.cpu, .va = svm_va(p + PAGE) };
	hole.p = hole.start + 1;
	svm_assert_fault(&s, npu_run(&s.ctx, &hole), p + PAGE, NPU_NOT_MAPPED, NPU_FETCH);
	close_bare(&s, p);
}

/* A mirror's place is taken by an object, by nothing, by a mirror of something else, and back. */
static void test_replaced(void)
{
	struct svm s;
	char *p = open_bare(&s), *q = svm_anon(SIZE, SVM_DEFAULT);
	const uint64_t mid = svm_va(p) + MIB(1);
	uint32_t bo;

	igt_assert_eq(npu_bo_create(s.ctx.fd, KIB(128), NPU_DEVICE, &bo), 0);
	npu_bo_tag(&s.ctx, bo, KIB(128), 5);
	svm_put(q, SIZE, 2);
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, 0), 0);
	for (int round = 0; round < 2; round++) {
		svm_assert_device(&s, p, SIZE, 1);
		igt_assert_eq(npu_map(s.ctx.fd, s.ctx.vm, bo, mid, 0, KIB(128), 0), 0);
		npu_assert_tags(&s.ctx, mid, 32, 5, 0);
		assert_va(&s, svm_va(p), MIB(1), 1, 0);
		assert_va(&s, mid + KIB(128), SIZE - MIB(1) - KIB(128), 1, MIB(1) + KIB(128));
		igt_assert_eq(npu_bind(s.ctx.fd, s.ctx.vm,
				       (struct drm_gmem_bind_op[]) { npu_op_sparse(mid, KIB(64)) }, 1),
			      0);
		svm_assert_device_bytes(&s, p + MIB(1), KIB(64), 0);
		npu_assert_tags(&s.ctx, mid + KIB(64), 16, 5, 16);

		/* The process's own memory was never concerned. */
		igt_assert_eq(svm_fill(&s, p + MIB(1) + KIB(64), KIB(64), 0x77777777), 0);
		svm_assert_cpu(p, SIZE, 1);
		npu_bo_tag(&s.ctx, bo, KIB(128), 5);

		igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, mid, q + MIB(1), KIB(128), 0), 0);
		assert_va(&s, mid, KIB(128), 2, MIB(1));
		igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, mid, p + MIB(1), KIB(128), 0), 0);
		/* It is one mirror again. */
		svm_to_device(&s, p, SIZE);
	}
	svm_assert_device(&s, p, SIZE, 1);
	svm_assert_cpu(p, SIZE, 1);
	svm_assert_cpu(q, SIZE, 2);
	svm_free(q, SIZE);
	close_bare(&s, p);
}

/* A part is unmapped from the device; the memory stays what it was, wherever it was. */
static void test_unbind_part(void)
{
	static const struct {
		uint64_t at, size;
	} parts[] = {
		{ 0, PAGE }, { KIB(64), KIB(64) }, { MIB(1) - PAGE, 3 * PAGE }, { SIZE - PAGE, PAGE },
		{ KIB(4), MIB(1) },
	};
	struct svm s;
	char *p = open_bare(&s);

	for (int migrated = 0; migrated < 2; migrated++) {
		for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
			char *part = p + parts[i].at;
			uint64_t end = parts[i].at + parts[i].size;

			igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, 0), 0);
			svm_put(p, SIZE, i);
			if (migrated)
				svm_to_device(&s, p, SIZE);
			else
				svm_to_host(&s, p, SIZE);
			igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, svm_va(part), parts[i].size), 0);
			svm_assert_fault(&s, svm_touch(&s, part), part, NPU_NOT_MAPPED, NPU_READ);
			svm_assert_fault(&s, svm_poke(&s, p + end - 8, 0), p + end - 8,
					 NPU_NOT_MAPPED, NPU_WRITE);
			assert_va(&s, svm_va(p), parts[i].at, i, 0);
			assert_va(&s, svm_va(p) + end, SIZE - end, i, end);
			igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEVICE), 0);
			igt_assert_eq_u64(s.prefetch.mapped, SIZE - parts[i].size);
			svm_assert_cpu(p, SIZE, i);
		}
	}
	close_bare(&s, p);
}

/* Nothing need be there yet; what comes later is seen, and what comes after that. */
static void test_before_memory(void)
{
	struct svm s;
	char *p;

	svm_open(&s);
	p = svm_anon(SIZE, SVM_DEFAULT);
	svm_free(p, SIZE);
	for (int i = 0; i < 5; i++) {
		svm_assert_fault(&s, svm_touch(&s, p), p, NPU_NOT_MAPPED, NPU_READ);
		svm_assert_fault(&s, svm_poke(&s, p + PAGE, 0), p + PAGE, NPU_NOT_MAPPED, NPU_WRITE);
		igt_assert(mmap(p, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
				MAP_FIXED_NOREPLACE, -1, 0) == p);
		svm_assert_device_bytes(&s, p, SIZE, 0);
		igt_assert_eq(svm_write(&s, p, SIZE, i), 0);
		svm_assert_device(&s, p, SIZE, i);
		if (i & 1)
			svm_assert_cpu(p, SIZE, i);
		svm_free(p, SIZE);
	}
	svm_close(&s);
}

/* Bound behind a fence: till then there is nothing. */
static void test_async(void)
{
	struct drm_gmem_sync syncs[2];
	struct drm_gmem_bind_op op;
	struct npu_hold hold;
	struct svm s;
	char *p = open_bare(&s);
	uint32_t done;

	npu_hold(&hold);
	done = npu_syncobj(s.ctx.fd, 0);
	syncs[0] = npu_wait_for(npu_hold_syncobj(&hold, s.ctx.fd));
	syncs[1] = npu_signal(done);
	op = npu_op_mirror(svm_va(p), p, SIZE);
	igt_assert_eq(npu_bind_async(&s.ctx, 0, &op, 1, syncs, 2), 0);
	igt_assert_eq_u32(npu_range_at(&s.ctx, svm_va(p)).mapping, DRM_GMEM_MAPPING_MIRROR);
	svm_assert_fault(&s, svm_touch(&s, p), p, NPU_NOT_MAPPED, NPU_READ);
	npu_release(&hold);
	igt_assert_eq(npu_fence_result(s.ctx.fd, done), 0);
	svm_assert_device(&s, p, SIZE, 1);
	close_bare(&s, p);
}

/* A VM belongs to the process that mirrors itself in it first: other processes can't. */
static void test_other_process(void)
{
	volatile uint32_t *flags = svm_flags();
	struct svm s;
	char *p = open_bare(&s);
	uint32_t vm;

	/* The parent's. */
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, 0), 0);
	igt_fork(child, 1) {
		igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, 0), -EXDEV);
		igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, ALIAS, p, PAGE, 0), -EXDEV);
		/* Another VM of the same file may be the child's. */
		igt_assert_eq(npu_vm_create(s.ctx.fd, &vm), 0);
		igt_assert_eq(npu_mirror(s.ctx.fd, vm, svm_va(p), p, SIZE, 0), 0);
		flags[0] = vm;
		svm_await(&flags[1], 1);
	}
	svm_await(&flags[0], 1);
	igt_assert_eq(npu_mirror(s.ctx.fd, flags[0], ALIAS, p, SIZE, 0), -EXDEV);
	flags[1] = 1;
	igt_waitchildren();
	igt_assert_eq_u32(npu_range_at(&s.ctx, ALIAS).mapping, DRM_GMEM_MAPPING_NONE);
	svm_assert_device(&s, p, SIZE, 1);

	/* Its process has ended. */
	{
		struct drm_gmem_prefetch arg = {
			.vm_id = flags[0], .va = svm_va(p), .size = SIZE,
			.location = DRM_GMEM_LOCATION_DEVICE,
		};
		struct npu_ctx other = s.ctx;

		igt_assert_eq(npu_mirror(s.ctx.fd, flags[0], ALIAS, p, SIZE, 0), -EXDEV);
		igt_assert_eq(npu_prefetch(s.ctx.fd, &arg), -ESRCH);
		igt_assert_eq(npu_map(s.ctx.fd, flags[0], s.ctx.cmds.handle, s.ctx.cmds.va, 0,
				      s.ctx.cmds.size, DRM_GMEM_BIND_EXEC), 0);
		igt_assert_eq(npu_map(s.ctx.fd, flags[0], s.ctx.cells.handle, s.ctx.cells.va, 0,
				      s.ctx.cells.size, 0), 0);
		other.vm = flags[0];
		npu_assert_alive(&other);
		npu_assert_fault(&other, npu_write(&other, svm_va(p), 0), svm_va(p), NPU_NOT_MAPPED);
		s.ctx.seqno = other.seqno;
		igt_assert_eq(npu_vm_destroy(s.ctx.fd, flags[0]), 0);
	}
	svm_assert_cpu(p, SIZE, 1);
	svm_flags_free(flags);
	close_bare(&s, p);
}

/* A child's job in the parent's VM is on the parent's memory, not on what the child inherited. */
static void test_childs_job(void)
{
	char *p = svm_anon(SIZE, SVM_DEFAULT);
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	igt_fork(child, 1) {
		igt_assert_eq(svm_write(&s, p, SIZE, 2), 0);
		svm_assert_device(&s, p, SIZE, 2);
		svm_assert_cpu(p, SIZE, 1);
	}
	igt_waitchildren();
	s.ctx.seqno += 2;
	svm_assert_device(&s, p, SIZE, 2);
	svm_assert_cpu(p, SIZE, 2);
	svm_free(p, SIZE);
	svm_close(&s);
}

/* Prefetch takes what is a mirror, and leaves out what is not, or has no memory. */
static void test_prefetch(void)
{
	struct svm s;
	char *p = open_bare(&s);
	struct npu_bo bo = npu_bo(&s.ctx, PAGE, NPU_HOST, 0);

	/* No mirror at all. */
	igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(s.prefetch.moved | s.prefetch.mapped, 0);
	igt_assert_eq_u64(svm_present(p, SIZE), SIZE / PAGE);

	/* A mirror with an object, a hole in the mapping and a hole in the memory. */
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, 0), 0);
	igt_assert_eq(npu_map(s.ctx.fd, s.ctx.vm, bo.handle, svm_va(p) + 4 * PAGE, 0, PAGE, 0), 0);
	igt_assert_eq(npu_unmap(s.ctx.fd, s.ctx.vm, svm_va(p) + 8 * PAGE, 2 * PAGE), 0);
	svm_free(p + 16 * PAGE, PAGE);
	igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(s.prefetch.mapped, SIZE - 4 * PAGE);
	igt_assert_lte_u64(SIZE - 4 * PAGE, s.prefetch.moved);
	assert_va(&s, svm_va(p), 4 * PAGE, 1, 0);
	assert_va(&s, svm_va(p) + 5 * PAGE, 3 * PAGE, 1, 5 * PAGE);
	assert_va(&s, svm_va(p) + 17 * PAGE, SIZE - 17 * PAGE, 1, 17 * PAGE);
	svm_assert_cpu(p, 16 * PAGE, 1);

	/* Twice is no more than once; to where it is nothing moves. */
	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, svm_va(p), p, SIZE, 0), 0);
	for (int host = 0; host < 2; host++) {
		uint64_t to = host ? DRM_GMEM_LOCATION_HOST : DRM_GMEM_LOCATION_DEVICE;

		igt_assert_eq(svm_prefetch(&s, p, 16 * PAGE, to), 0);
		igt_assert_eq_u64(s.prefetch.moved, 16 * PAGE);
		igt_assert_eq(svm_prefetch(&s, p, 16 * PAGE, to), 0);
		igt_assert_eq_u64(s.prefetch.moved, 0);
		igt_assert_eq_u64(s.prefetch.mapped, 16 * PAGE);
	}

	/* By default to the device; never made if it is to be in the host. */
	igt_assert_eq(svm_prefetch(&s, p, 16 * PAGE, DRM_GMEM_LOCATION_DEFAULT), 0);
	svm_assert_on_device(&s, p, 16 * PAGE);
	igt_assert_eq(madvise(p, 16 * PAGE, MADV_DONTNEED), 0);
	igt_assert_eq(svm_prefetch(&s, p, 16 * PAGE, DRM_GMEM_LOCATION_HOST), 0);
	igt_assert_eq_u64(s.prefetch.moved, 0);
	igt_assert_eq(svm_prefetch(&s, p, 16 * PAGE, DRM_GMEM_LOCATION_DEVICE), 0);
	igt_assert_eq_u64(s.prefetch.moved, 16 * PAGE);
	svm_assert_device_bytes(&s, p, 16 * PAGE, 0);
	npu_bo_free(&s.ctx, &bo);
	igt_assert_eq(munmap(p, SIZE), 0);
	svm_close(&s);
}

/* Ranges that a job names: checked, and else a hint only. */
static void test_ranges(void)
{
	struct svm s;
	char *p = open_bare(&s);
	struct drm_gmem_query_device info = npu_device_info(s.ctx.fd);
	const struct {
		struct drm_npu_range range;
		int error;
	} cases[] = {
		{ { svm_va(p), SIZE }, 0 },
		{ { svm_va(p), PAGE }, 0 },
		{ { ALIAS, PAGE }, 0 },			/* no mirror there */
		{ { svm_va(p) - PAGE, PAGE }, 0 },	/* no memory there */
		{ { svm_va(p) + 8, PAGE }, -EINVAL },
		{ { svm_va(p), 8 }, -EINVAL },
		{ { svm_va(p), 0 }, -EINVAL },
		{ { info.va_end, PAGE }, -ERANGE },
		{ { svm_va(p), info.va_end }, -ERANGE },
		{ { -PAGE, PAGE }, -ERANGE },
	};

	igt_assert_eq(npu_mirror(s.ctx.fd, s.ctx.vm, SVM_START, (void *)SVM_START,
				 SVM_END - SVM_START, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct drm_npu_range ranges[2] = { { s.stage.va, SVM_STAGE }, cases[i].range };
		struct drm_gmem_sync sync = npu_signal(s.ctx.syncobj);
		struct npu_cb cb = npu_begin(&s.ctx);
		struct drm_npu_submit arg = {
			.queue_id = s.ctx.queue, .vm_id = s.ctx.vm, .commands = cb.va,
			.num_syncs = 1, .syncs = (uintptr_t)&sync,
			.num_ranges = 2, .ranges = (uintptr_t)ranges,
		};
		int ret;

		npu_cmd_copy(&cb, s.stage.va, svm_va(p), SIZE);
		arg.size = npu_cb_size(&cb);
		memset(s.stage.cpu, 0, SIZE);
		ret = npu_ioctl(s.ctx.fd, DRM_IOCTL_NPU_SUBMIT, &arg);
		igt_assert_f(ret == cases[i].error, "case %zu: %d instead of %d\n", i, ret,
			     cases[i].error);
		if (ret)
			continue;
		s.ctx.seqno++;
		igt_assert_eq(npu_fence_result(s.ctx.fd, s.ctx.syncobj), 0);
		igt_assert_eq_u64(svm_find(s.stage.cpu, SIZE, 1), ~0ull);
	}
	svm_assert_cpu(p, SIZE, 1);
	close_bare(&s, p);
}

/* Each number of vm_stats goes up by what belongs to it, and only then. */
static void test_stats(void)
{
	struct drm_gmem_vm_stats a, b;
	char *p = svm_anon(SIZE, SVM_SMALL);
	struct svm s;

	svm_open(&s);
	svm_put(p, SIZE, 1);
	a = svm_stats(&s);
	igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEVICE), 0);
	b = svm_stats(&s);
	igt_assert_eq_u64(b.to_device - a.to_device, SIZE);
	igt_assert_eq_u64(b.made - a.made, 0);
	igt_assert_eq_u64(b.faults - a.faults, 0);
	igt_assert_eq_u64(b.stayed - a.stayed, 0);
	igt_assert_eq_u64(b.mirrored - a.mirrored, SIZE);
	igt_assert_lt_u64(a.extents, b.extents);

	/* Read on the device: nothing to count. */
	a = b;
	svm_assert_device(&s, p, SIZE, 1);
	b = svm_stats(&s);
	igt_assert(!memcmp(&a, &b, sizeof(a)));

	/* The CPU takes a page back. */
	igt_assert_eq_u64(*(volatile uint64_t *)p, svm_word(1, 0));
	b = svm_stats(&s);
	igt_assert_lt_u64(a.invalidations, b.invalidations);
	igt_assert_lt_u64(b.mirrored, a.mirrored);
	igt_assert_eq(svm_touch(&s, p), 0);
	a = svm_stats(&s);
	igt_assert_lt_u64(b.faults, a.faults);
	igt_assert_lte_u64(b.to_device + PAGE, a.to_device);

	/* Never touched; bad. */
	igt_assert_eq(madvise(p, SIZE, MADV_DONTNEED), 0);
	igt_assert_eq_u64(svm_stats(&s).mirrored, a.mirrored - SIZE);
	igt_assert_eq(svm_prefetch(&s, p, SIZE, DRM_GMEM_LOCATION_DEVICE), 0);
	b = svm_stats(&s);
	igt_assert_eq_u64(b.made - a.made, SIZE);
	igt_assert_eq_u64(b.to_device, a.to_device);
	igt_assert_eq(svm_touch(&s, p - 8), -EFAULT);
	a = svm_stats(&s);
	igt_assert_eq_u64(a.bad - b.bad, 1);
	igt_assert_eq_u64(a.faults - b.faults, 1);
	svm_free(p, SIZE);
	a = svm_stats(&s);
	igt_assert_eq_u64(a.mirrored | a.extents, 0);
	svm_close(&s);
}

int igt_main()
{
	static const struct svm_test tests[] = {
		{ "errors", "What a mirror may not be, at each place of an array", test_errors },
		{ "whole", "The whole address space in one operation", test_whole },
		{ "query", "Mirrors are told, merged and told apart", test_query },
		{ "elsewhere", "Device addresses that are not the CPU's", test_elsewhere },
		{ "two-mirrors", "The same memory at several device addresses", test_two_mirrors },
		{ "two-vms", "The same memory in two VMs of a process", test_two_vms },
		{ "readonly", "A mirror that is only to be read", test_readonly },
		{ "exec", "Commands in memory of the process", test_exec },
		{ "replaced", "Objects, nothing and other memory in a mirror's place", test_replaced },
		{ "unbind-part", "A part of a mirror is unmapped", test_unbind_part },
		{ "before-memory", "A mirror of what is not there yet", test_before_memory },
		{ "async", "A mirror that is bound behind a fence", test_async },
		{ "other-process", "Mirrors of other processes, and of those that ended",
		  test_other_process },
		{ "childs-job", "A child's job in its parent's VM", test_childs_job },
		{ "prefetch", "What a prefetch takes and what it leaves out", test_prefetch },
		{ "ranges", "Ranges that a job names", test_ranges },
		{ "stats", "What is counted", test_stats },
	};

	igt_fixture()
		close(npu_open());

	svm_run(NULL, tests, ARRAY_LEN(tests));
}
