// SPDX-License-Identifier: MIT
/* Commands that are wrong: the job ends, says where and why, and hurts nobody. */

#include <unistd.h>

#include "npu_lib.h"

IGT_TEST_DESCRIPTION("Bad commands and faults, as job_status reports them");

struct place {
	struct npu_ctx ctx;
	struct npu_bo data;	/* 64 KiB, mapped, writable */
};

/* What follows a wrong command's header: small valid operands. */
static uint64_t *any(struct npu_cb *cb, unsigned int opcode, uint32_t flags, uint64_t va)
{
	static const unsigned int units[] = {
		[NPU_CMD_NOP] = 1, [NPU_CMD_FILL] = 4, [NPU_CMD_COPY] = 4, [NPU_CMD_COMPARE] = 5,
		[NPU_CMD_WRITE] = 3, [NPU_CMD_TIMESTAMP] = 2, [NPU_CMD_WAIT] = 3,
		[NPU_CMD_GEMM] = 9, [NPU_CMD_BIAS] = 5, [NPU_CMD_GELU] = 4, [NPU_CMD_SOFTMAX] = 4,
		[NPU_CMD_LAYERNORM] = 7, [NPU_CMD_GATHER] = 6, [NPU_CMD_ATTENTION] = 9,
		[NPU_CMD_ADD] = 5, [NPU_CMD_MEANPOOL] = 6, [NPU_CMD_NORMALIZE] = 4,
	};
	struct npu_gemm gemm = {
		.c = va, .a = va + 1024, .b = va + 2048, .m = 2, .n = 2, .k = 2, .alpha = 1,
	};
	struct npu_attention attention = {
		.out = va, .q = va + 1024, .k = va + 2048, .v = va + 3072,
		.batch = 1, .seq = 2, .heads = 1, .head_dim = 2, .scale = 1,
	};
	uint64_t *c;

	switch (opcode) {
	case NPU_CMD_FILL:
		c = npu_cmd_fill(cb, va, 16, 0);
		break;
	case NPU_CMD_COPY:
		c = npu_cmd_copy(cb, va, va + 1024, 16);
		break;
	case NPU_CMD_COMPARE:
		c = npu_cmd_compare(cb, va, va + 1024, va + 2048, 16);
		break;
	case NPU_CMD_GEMM:
		c = npu_cmd_gemm(cb, &gemm);
		break;
	case NPU_CMD_BIAS:
		c = npu_cmd_bias(cb, va, va + 1024, va + 2048, 2, 2);
		break;
	case NPU_CMD_GELU:
		c = npu_cmd_gelu(cb, va, va + 1024, 2, 0);
		break;
	case NPU_CMD_SOFTMAX:
		c = npu_cmd_softmax(cb, va, va + 1024, 2, 2);
		break;
	case NPU_CMD_LAYERNORM:
		c = npu_cmd_layernorm(cb, va, va + 1024, va + 2048, va + 3072, 2, 2, 1e-5f);
		break;
	case NPU_CMD_GATHER:
		c = npu_cmd_gather(cb, va, va + 1024, va + 2048, 2, 2, 4);
		break;
	case NPU_CMD_ATTENTION:
		c = npu_cmd_attention(cb, &attention);
		break;
	case NPU_CMD_ADD:
		c = npu_cmd_add(cb, va, va + 1024, va + 2048, 2);
		break;
	case NPU_CMD_MEANPOOL:
		c = npu_cmd_meanpool(cb, va, va + 1024, va + 2048, 1, 2, 2);
		break;
	case NPU_CMD_NORMALIZE:
		c = npu_cmd_normalize(cb, va, va + 1024, 2, 2);
		break;
	default:
		c = npu_cmd(cb, opcode, opcode < ARRAY_LEN(units) && units[opcode] ?
			    units[opcode] : 1, 0);
		if (npu_cb_size(cb) && cb->p - c > 1)
			c[1] = va;
	}
	c[0] |= (uint64_t)flags << 32;
	return c;
}

static const unsigned int opcodes[] = {
	NPU_CMD_NOP, NPU_CMD_FILL, NPU_CMD_COPY, NPU_CMD_COMPARE, NPU_CMD_WRITE,
	NPU_CMD_TIMESTAMP, NPU_CMD_WAIT, NPU_CMD_GEMM, NPU_CMD_BIAS, NPU_CMD_GELU,
	NPU_CMD_SOFTMAX, NPU_CMD_LAYERNORM, NPU_CMD_GATHER, NPU_CMD_ATTENTION, NPU_CMD_ADD,
	NPU_CMD_MEANPOOL, NPU_CMD_NORMALIZE,
};

static void place_open(struct place *place)
{
	npu_ctx_open(&place->ctx);
	place->data = npu_bo(&place->ctx, KIB(64), NPU_HOST, 0);
}

/*
 * Runs @bad between two good commands: the one before has been done, the one
 * after hasn't, and job_status tells where the wrong one stands.
 */
struct job {
	struct npu_cell before, after;
	struct npu_cb cb;
	uint64_t offset;
};

static struct job job_begin(struct place *place)
{
	struct job job = {
		.before = npu_cell(&place->ctx, 0),
		.after = npu_cell(&place->ctx, 0),
		.cb = npu_begin(&place->ctx),
	};

	npu_cmd_nop(&job.cb);
	npu_cmd_write(&job.cb, job.before.va, 1);
	job.offset = npu_cb_size(&job.cb);
	return job;
}

static void job_end(struct place *place, struct job *job, const char *what, uint32_t reason)
{
	struct npu_ctx *ctx = &place->ctx;
	int result;

	npu_cmd_write(&job->cb, job->after.va, 1);
	result = npu_run(ctx, &job->cb);
	igt_assert_f(result == -EINVAL && ctx->status.reason == reason &&
		     ctx->status.detail == job->offset,
		     "%s: result %d, reason %u instead of %u, offset %#llx instead of %#llx\n",
		     what, result, ctx->status.reason, reason,
		     (unsigned long long)ctx->status.detail, (unsigned long long)job->offset);
	igt_assert_eq_u64(*job->before.cpu, 1);
	igt_assert_eq_u64(*job->after.cpu, 0);
}

static void test_opcode(struct place *place)
{
	static const unsigned int bad[] = { 0x07, 0x0f, 0x1a, 0x20, 0xff, 0x100, 0x101, 0xffff };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct job job = job_begin(place);

		npu_cmd(&job.cb, bad[i], 2, 0);
		job_end(place, &job, "opcode", NPU_BAD_OPCODE);
	}
}

/* Each command with one unit more, one less, and none at all. */
static void test_size(struct place *place)
{
	for (size_t i = 0; i < ARRAY_LEN(opcodes); i++) {
		for (int how = 0; how < 3; how++) {
			struct job job = job_begin(place);
			uint64_t *c = any(&job.cb, opcodes[i], 0, place->data.va);
			uint64_t units = c[0] >> 16 & 0xffff;
			char what[32];

			snprintf(what, sizeof(what), "size of %#x", opcodes[i]);
			units = how == 0 ? 0 : how == 1 ? units + 1 : units - 1;
			c[0] = (c[0] & ~0xffff0000ull) | units << 16;
			job_end(place, &job, what, NPU_BAD_SIZE);
		}
	}
}

/* A last command that would go on beyond the job. */
static void test_size_beyond(struct place *place)
{
	struct npu_ctx *ctx = &place->ctx;
	struct npu_cb cb = npu_begin(ctx);

	npu_cmd_nop(&cb);
	npu_cmd_write(&cb, place->data.va, 1);
	cb.p--;
	igt_assert_eq(npu_run(ctx, &cb), -EINVAL);
	igt_assert_eq_u32(ctx->status.reason, NPU_BAD_SIZE);
	igt_assert_eq_u64(ctx->status.detail, 8);
	igt_assert_eq_u64(*(volatile uint64_t *)place->data.cpu, 0);
}

/* Every bit of the flags that has no meaning, for each command. */
static void test_flags(struct place *place)
{
	for (size_t i = 0; i < ARRAY_LEN(opcodes); i++) {
		uint32_t known = opcodes[i] == NPU_CMD_GEMM ? 3 : opcodes[i] == NPU_CMD_GELU;
		unsigned int stride = i % 4 ? 5 : 1;

		for (unsigned int bit = i % stride; bit < 32; bit += stride) {
			struct job job;
			char what[32];

			if (known & 1u << bit)
				continue;
			job = job_begin(place);
			snprintf(what, sizeof(what), "flag %u of %#x", bit, opcodes[i]);
			any(&job.cb, opcodes[i], 1u << bit, place->data.va);
			job_end(place, &job, what, NPU_BAD_RESERVED);
		}
	}
}

static void test_reserved(struct place *place)
{
	static const struct { unsigned int opcode, word, shift; } fields[] = {
		{ NPU_CMD_FILL, 3, 32 }, { NPU_CMD_GEMM, 8, 32 }, { NPU_CMD_LAYERNORM, 6, 32 },
		{ NPU_CMD_GATHER, 5, 32 }, { NPU_CMD_MEANPOOL, 5, 32 },
	};

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		for (unsigned int bit = 0; bit < 32; bit += 31) {
			struct job job = job_begin(place);
			uint64_t *c = any(&job.cb, fields[i].opcode, 0, place->data.va);
			char what[32];

			snprintf(what, sizeof(what), "reserved of %#x", fields[i].opcode);
			c[fields[i].word] |= 1ull << (fields[i].shift + bit);
			job_end(place, &job, what, NPU_BAD_RESERVED);
		}
	}
}

struct field {
	unsigned int opcode, word, shift, bits;
	uint64_t value;
};

static void test_fields(struct place *place, const struct field *fields, size_t count,
			uint32_t reason)
{
	for (size_t i = 0; i < count; i++) {
		const struct field *f = &fields[i];
		uint64_t mask = f->bits == 64 ? ~0ull : (1ull << f->bits) - 1;
		struct job job = job_begin(place);
		uint64_t *c = any(&job.cb, f->opcode, 0, place->data.va);
		uint64_t value = f->bits == 64 && f->value < 8 ? c[f->word] + f->value : f->value;
		char what[64];

		snprintf(what, sizeof(what), "command %#x, word %u, value %#llx", f->opcode,
			 f->word, (unsigned long long)value);
		c[f->word] = (c[f->word] & ~(mask << f->shift)) | (value & mask) << f->shift;
		job_end(place, &job, what, reason);
	}
}

/* Addresses a little off what their commands ask for. */
static const struct field misaligned[] = {
	{ NPU_CMD_FILL, 1, 0, 64, 1 }, { NPU_CMD_FILL, 1, 0, 64, 2 },
	{ NPU_CMD_COMPARE, 1, 0, 64, 4 }, { NPU_CMD_COMPARE, 1, 0, 64, 1 },
	{ NPU_CMD_WRITE, 1, 0, 64, 4 }, { NPU_CMD_WRITE, 1, 0, 64, 1 },
	{ NPU_CMD_TIMESTAMP, 1, 0, 64, 4 }, { NPU_CMD_WAIT, 1, 0, 64, 4 },
	{ NPU_CMD_GEMM, 1, 0, 64, 2 }, { NPU_CMD_GEMM, 2, 0, 64, 1 }, { NPU_CMD_GEMM, 3, 0, 64, 2 },
	{ NPU_CMD_BIAS, 1, 0, 64, 2 }, { NPU_CMD_BIAS, 2, 0, 64, 2 }, { NPU_CMD_BIAS, 3, 0, 64, 1 },
	{ NPU_CMD_GELU, 1, 0, 64, 2 }, { NPU_CMD_GELU, 2, 0, 64, 1 },
	{ NPU_CMD_SOFTMAX, 1, 0, 64, 2 }, { NPU_CMD_SOFTMAX, 2, 0, 64, 2 },
	{ NPU_CMD_LAYERNORM, 1, 0, 64, 2 }, { NPU_CMD_LAYERNORM, 4, 0, 64, 1 },
	{ NPU_CMD_GATHER, 1, 0, 64, 2 }, { NPU_CMD_GATHER, 2, 0, 64, 2 },
	{ NPU_CMD_GATHER, 3, 0, 64, 2 },
	{ NPU_CMD_ATTENTION, 1, 0, 64, 2 }, { NPU_CMD_ATTENTION, 4, 0, 64, 1 },
	{ NPU_CMD_ADD, 1, 0, 64, 2 }, { NPU_CMD_ADD, 2, 0, 64, 2 }, { NPU_CMD_ADD, 3, 0, 64, 1 },
	{ NPU_CMD_MEANPOOL, 1, 0, 64, 2 }, { NPU_CMD_MEANPOOL, 3, 0, 64, 2 },
	{ NPU_CMD_NORMALIZE, 1, 0, 64, 2 }, { NPU_CMD_NORMALIZE, 2, 0, 64, 1 },
};

#define TOO_MANY	((1u << 24) + 1)

static const struct field out_of_range[] = {
	{ NPU_CMD_GEMM, 4, 0, 32, 0 }, { NPU_CMD_GEMM, 4, 0, 32, TOO_MANY },
	{ NPU_CMD_GEMM, 4, 32, 32, 0 }, { NPU_CMD_GEMM, 4, 32, 32, TOO_MANY },
	{ NPU_CMD_GEMM, 5, 0, 32, 0 }, { NPU_CMD_GEMM, 5, 0, 32, TOO_MANY },
	{ NPU_CMD_GEMM, 5, 32, 32, 1 },		/* lda below k */
	{ NPU_CMD_GEMM, 6, 0, 32, 1 },		/* ldb below n */
	{ NPU_CMD_GEMM, 6, 32, 32, 1 },		/* ldc below n */
	{ NPU_CMD_GEMM, 7, 0, 32, 2 },		/* type */
	{ NPU_CMD_GEMM, 7, 0, 32, ~0u },
	{ NPU_CMD_BIAS, 4, 0, 32, 0 }, { NPU_CMD_BIAS, 4, 32, 32, 0 },
	{ NPU_CMD_BIAS, 4, 0, 32, TOO_MANY }, { NPU_CMD_BIAS, 4, 32, 32, TOO_MANY },
	{ NPU_CMD_SOFTMAX, 3, 0, 32, 0 }, { NPU_CMD_SOFTMAX, 3, 32, 32, TOO_MANY },
	{ NPU_CMD_LAYERNORM, 5, 0, 32, 0 }, { NPU_CMD_LAYERNORM, 5, 32, 32, TOO_MANY },
	{ NPU_CMD_GATHER, 4, 0, 32, 0 }, { NPU_CMD_GATHER, 4, 32, 32, TOO_MANY },
	{ NPU_CMD_GATHER, 5, 0, 32, 0 }, { NPU_CMD_GATHER, 5, 0, 32, TOO_MANY },
	{ NPU_CMD_ATTENTION, 6, 0, 32, 0 }, { NPU_CMD_ATTENTION, 6, 32, 32, TOO_MANY },
	{ NPU_CMD_ATTENTION, 7, 0, 32, 0 }, { NPU_CMD_ATTENTION, 7, 32, 32, TOO_MANY },
	{ NPU_CMD_ATTENTION, 8, 0, 32, 1 },	/* ld below heads * head_dim */
	{ NPU_CMD_MEANPOOL, 4, 0, 32, 0 }, { NPU_CMD_MEANPOOL, 4, 32, 32, TOO_MANY },
	{ NPU_CMD_MEANPOOL, 5, 0, 32, 0 },
	{ NPU_CMD_NORMALIZE, 3, 0, 32, 0 }, { NPU_CMD_NORMALIZE, 3, 32, 32, TOO_MANY },
	/* more than 4 GiB */
	{ NPU_CMD_BIAS, 4, 0, 64, 1ull << 24 | 1ull << 56 },
	{ NPU_CMD_SOFTMAX, 3, 0, 64, 1ull << 24 | 1ull << 56 },
	{ NPU_CMD_GEMM, 4, 0, 64, 1ull << 24 | 1ull << 56 },
};

/* An index beyond the table is found out only on the way. */
static void test_gather_index(struct place *place)
{
	static const uint32_t bad[] = { 4, 5, 0x7fffffff, ~0u };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct job job = job_begin(place);
		uint32_t *index = (uint32_t *)((char *)place->data.cpu + 2048);

		index[0] = 3;
		index[1] = bad[i];
		any(&job.cb, NPU_CMD_GATHER, 0, place->data.va);
		job_end(place, &job, "index", NPU_BAD_OPERAND);
	}
}

/* Commands that run into a page that isn't there, at their beginning and on the way. */
static void test_faults(struct place *place)
{
	struct npu_ctx *ctx = &place->ctx;
	uint64_t end = place->data.va + place->data.size, half = end - PAGE / 2;
	struct npu_cb cb = npu_begin(ctx);

	npu_cmd_fill(&cb, half, PAGE, 5);
	npu_assert_fault(ctx, npu_run(ctx, &cb), end, NPU_NOT_MAPPED);
	cb = npu_begin(ctx);
	npu_cmd_copy(&cb, end - 3, place->data.va, 7);
	npu_assert_fault(ctx, npu_run(ctx, &cb), end, NPU_NOT_MAPPED);
	cb = npu_begin(ctx);
	npu_cmd_copy(&cb, place->data.va, end - 3, 7);
	npu_assert_fault(ctx, npu_run(ctx, &cb), end, NPU_NOT_MAPPED);
	cb = npu_begin(ctx);
	npu_cmd_wait(&cb, end + GIB(9), 1);
	npu_assert_fault(ctx, npu_run(ctx, &cb), end + GIB(9), NPU_NOT_MAPPED);
	cb = npu_begin(ctx);
	npu_cmd_add(&cb, place->data.va, place->data.va, half, PAGE / 4);
	npu_assert_fault(ctx, npu_run(ctx, &cb), end, NPU_NOT_MAPPED);
	cb = npu_begin(ctx);
	npu_cmd_softmax(&cb, half, place->data.va, 1, PAGE / 4);
	npu_assert_fault(ctx, npu_run(ctx, &cb), end, NPU_NOT_MAPPED);

	/* Commands that aren't mapped to their end. */
	igt_assert_eq(npu_map(ctx->fd, ctx->vm, place->data.handle, place->data.va, 0,
			      place->data.size, DRM_GMEM_BIND_EXEC), 0);
	((uint64_t *)place->data.cpu)[KIB(64) / 8 - 1] = NPU_CMD_NOP | 1 << 16;
	igt_assert_eq(npu_submit_raw(ctx->fd, ctx->queue, ctx->vm, end - 8, 16,
				     &(struct drm_gmem_sync) { .handle = ctx->syncobj,
				     .flags = DRM_GMEM_SYNC_SIGNAL }, 1), 0);
	ctx->seqno++;
	igt_assert_eq(npu_fence_result(ctx->fd, ctx->syncobj), -EFAULT);
	igt_assert_eq(npu_job_status(ctx->fd, ctx->queue, &ctx->status), 0);
	npu_assert_fault(ctx, -EFAULT, end, NPU_NOT_MAPPED);
}

int igt_main()
{
	static struct place place;

	igt_fixture()
		place_open(&place);

	igt_describe("Unknown opcodes end the job with error 1");
	igt_subtest("opcode")
		test_opcode(&place);

	igt_describe("A size that isn't the command's ends the job with error 2");
	igt_subtest("size")
		test_size(&place);

	igt_describe("A command that doesn't fit into the job ends it with error 2");
	igt_subtest("size-beyond-job")
		test_size_beyond(&place);

	igt_describe("Unknown flags end the job with error 3");
	igt_subtest("flags")
		test_flags(&place);

	igt_describe("Reserved fields that aren't zero end the job with error 3");
	igt_subtest("reserved")
		test_reserved(&place);

	igt_describe("Misaligned operands end the job with error 4");
	igt_subtest("misaligned")
		test_fields(&place, misaligned, ARRAY_LEN(misaligned), NPU_BAD_ALIGNMENT);

	igt_describe("Operands out of range end the job with error 5");
	igt_subtest("out-of-range")
		test_fields(&place, out_of_range, ARRAY_LEN(out_of_range), NPU_BAD_OPERAND);

	igt_describe("An index beyond the table ends the job with error 5");
	igt_subtest("gather-index")
		test_gather_index(&place);

	igt_describe("A command that leaves what's mapped ends the job there");
	igt_subtest("faults")
		test_faults(&place);

	igt_describe("After all that the queue still works");
	igt_subtest("alive") {
		npu_assert_alive(&place.ctx);
		npu_ctx_close(&place.ctx);
	}
}
