/* SPDX-License-Identifier: MIT */
#ifndef NPU_ARENA_H
#define NPU_ARENA_H

#include "npu_lib.h"

/*
 * Where commands that compute are tested. Operands lie in an arena whose pages
 * come from two objects in turn, so that neighbouring addresses have nothing to
 * do with each other, and each begins a few elements before a page's end. The
 * arena is copied in and out as a whole: what a command writes beside its
 * result is noticed. References are computed in double precision.
 */
#define ARENA_SIZE	KIB(256)

/* An operand: where it is, and the values it had when the job began. */
struct operand {
	uint32_t at;		/* offset in the arena */
	uint64_t va;
	uint32_t count;
	double v[8192];
};

struct arena {
	struct npu_ctx ctx;
	struct npu_bo stage;
	uint64_t va;
	uint8_t before[ARENA_SIZE];
	uint32_t at;
	uint64_t seed;
};

extern struct arena arena;
extern struct operand opnd[6];

void arena_open(void);
void arena_reset(void);
struct operand *arena_place(struct operand *o, uint32_t count, uint32_t size);
struct operand *arena_f32(struct operand *o, uint32_t count);
struct operand *arena_bf16(struct operand *o, uint32_t count);
struct operand *arena_mask(struct operand *o, uint32_t rows, uint32_t cols);
struct operand *arena_result(struct operand *o, uint32_t count);
void arena_set(struct operand *o, uint32_t i, float f);
struct npu_cb arena_begin(void);
void arena_run(struct npu_cb *cb);
float arena_got(const struct operand *o, uint32_t i);
void arena_check(const char *what, const struct operand *o, uint32_t i, double expected);
void arena_check_rest(const struct operand *o, uint32_t rows, uint32_t cols, uint32_t ld);
void softmax(double *v, uint32_t count);

#endif /* NPU_ARENA_H */
