// SPDX-License-Identifier: MIT
/* Where commands that compute are tested; npu_arena.h explains. */

#include <math.h>
#include <string.h>

#include "npu_arena.h"

struct arena arena;
struct operand opnd[6];

void arena_open(void)
{
	struct npu_ctx *ctx = &arena.ctx;
	struct drm_gmem_bind_op ops[ARENA_SIZE / PAGE];
	uint32_t bo[2];

	npu_ctx_open(ctx);
	arena.seed = npu_seed();
	arena.stage = npu_bo(ctx, ARENA_SIZE, NPU_HOST, 0);
	arena.va = npu_va(ctx, ARENA_SIZE, KIB(64));
	igt_assert_eq(npu_bo_create(ctx->fd, ARENA_SIZE, NPU_DEVICE, &bo[0]), 0);
	igt_assert_eq(npu_bo_create(ctx->fd, ARENA_SIZE, NPU_HOST, &bo[1]), 0);
	for (unsigned int i = 0; i < ARENA_SIZE / PAGE; i++)
		ops[i] = npu_op_map(bo[i & 1], arena.va + i * PAGE, i * 37 % 64 * PAGE, PAGE);
	igt_assert_eq(npu_bind(ctx->fd, ctx->vm, ops, ARENA_SIZE / PAGE), 0);
}

void arena_reset(void)
{
	memset(arena.before, 0xa5, ARENA_SIZE);
	arena.at = 0;
}

static float random_f32(void)
{
	return (int64_t)(npu_random(&arena.seed) >> 40) / (float)(1 << 23) - 1.0f;
}

/* Room for @count elements of @size bytes, across the end of a page. */
struct operand *arena_place(struct operand *o, uint32_t count, uint32_t size)
{
	igt_assert(count <= ARRAY_LEN(o->v));
	o->at = (uint32_t)npu_round_up(arena.at, PAGE) + PAGE - 3 * size;
	o->va = arena.va + o->at;
	o->count = count;
	arena.at = o->at + count * size;
	igt_assert(arena.at <= ARENA_SIZE);
	return o;
}

/* Element @i as it is when the job begins. */
void arena_set(struct operand *o, uint32_t i, float f)
{
	o->v[i] = f;
	memcpy(arena.before + o->at + 4 * i, &f, 4);
}

struct operand *arena_f32(struct operand *o, uint32_t count)
{
	arena_place(o, count, 4);
	for (uint32_t i = 0; i < count; i++)
		arena_set(o, i, random_f32());
	return o;
}

struct operand *arena_bf16(struct operand *o, uint32_t count)
{
	arena_place(o, count, 2);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t bits = npu_f32(random_f32()) & 0xffff0000;
		uint16_t half = bits >> 16;
		float f;

		memcpy(&f, &bits, 4);
		o->v[i] = f;
		memcpy(arena.before + o->at + 2 * i, &half, 2);
	}
	return o;
}

/* Each element is 0 or 1; at least one of each row is 1. */
struct operand *arena_mask(struct operand *o, uint32_t rows, uint32_t cols)
{
	arena_place(o, rows * cols, 4);
	for (uint32_t i = 0; i < rows * cols; i++)
		arena_set(o, i, i % cols == cols / 2 || npu_random(&arena.seed) & 1);
	return o;
}

/* A result's place, with something in it. */
struct operand *arena_result(struct operand *o, uint32_t count)
{
	arena_place(o, count, 4);
	memset(arena.before + o->at, 0x5a, 4 * count);
	return o;
}

struct npu_cb arena_begin(void)
{
	struct npu_cb cb;

	memcpy(arena.stage.cpu, arena.before, ARENA_SIZE);
	cb = npu_begin(&arena.ctx);
	npu_cmd_copy(&cb, arena.va, arena.stage.va, ARENA_SIZE);
	return cb;
}

void arena_run(struct npu_cb *cb)
{
	npu_cmd_copy(cb, arena.stage.va, arena.va, ARENA_SIZE);
	igt_assert_eq(npu_run(&arena.ctx, cb), 0);
}

/* Element @i of what the job left at @o. */
float arena_got(const struct operand *o, uint32_t i)
{
	float f;

	memcpy(&f, (uint8_t *)arena.stage.cpu + o->at + 4 * i, 4);
	return f;
}

void arena_check(const char *what, const struct operand *o, uint32_t i, double expected)
{
	double value = arena_got(o, i);

	igt_assert_f(fabs(value - expected) <= 1e-5 * fmax(1.0, fabs(expected)),
		     "%s: element %u is %.9g instead of %.9g\n", what, i, value, expected);
}

/* Nothing but the result has changed: @rows of @cols elements, @ld apart. */
void arena_check_rest(const struct operand *o, uint32_t rows, uint32_t cols, uint32_t ld)
{
	uint8_t *now = arena.stage.cpu;

	for (uint32_t row = 0; row < rows; row++)
		memcpy(arena.before + o->at + 4ull * row * ld, now + o->at + 4ull * row * ld, 4 * cols);
	igt_assert(!memcmp(arena.before, now, ARENA_SIZE));
}

void softmax(double *v, uint32_t count)
{
	double max = v[0], sum = 0;

	for (uint32_t i = 1; i < count; i++)
		max = fmax(max, v[i]);
	for (uint32_t i = 0; i < count; i++)
		sum += v[i] = exp(v[i] - max);
	for (uint32_t i = 0; i < count; i++)
		v[i] /= sum;
}
