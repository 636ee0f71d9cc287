/* SPDX-License-Identifier: MIT */
#ifndef NPU_CMD_H
#define NPU_CMD_H

#include <stdint.h>
#include <string.h>

/* Encoders for the commands of Documentation/accel/npu/commands.rst. */

enum {
	NPU_CMD_NOP = 0x00,
	NPU_CMD_FILL = 0x01,
	NPU_CMD_COPY = 0x02,
	NPU_CMD_COMPARE = 0x03,
	NPU_CMD_WRITE = 0x04,
	NPU_CMD_TIMESTAMP = 0x05,
	NPU_CMD_WAIT = 0x06,
	NPU_CMD_GEMM = 0x10,
	NPU_CMD_BIAS = 0x11,
	NPU_CMD_GELU = 0x12,
	NPU_CMD_SOFTMAX = 0x13,
	NPU_CMD_LAYERNORM = 0x14,
	NPU_CMD_GATHER = 0x15,
	NPU_CMD_ATTENTION = 0x16,
	NPU_CMD_ADD = 0x17,
	NPU_CMD_MEANPOOL = 0x18,
	NPU_CMD_NORMALIZE = 0x19,
};

#define NPU_GEMM_TRANS_A	(1u << 0)
#define NPU_GEMM_TRANS_B	(1u << 1)
#define NPU_GELU_TANH		(1u << 0)
#define NPU_COMPARE_EQUAL	(~0ull)

/* Commands under construction: @p moves up from @start, which the device sees at @va. */
struct npu_cb {
	uint64_t *start;
	uint64_t *p;
	uint64_t *end;
	uint64_t va;
};

static inline uint32_t npu_cb_size(const struct npu_cb *cb)
{
	return (uint32_t)((cb->p - cb->start) * sizeof(uint64_t));
}

static inline uint64_t npu_u32s(uint32_t low, uint32_t high)
{
	return low | (uint64_t)high << 32;
}

static inline uint32_t npu_f32(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

/* Begins a command of @units words, all zero but the header; the caller fills in the rest. */
static inline uint64_t *npu_cmd(struct npu_cb *cb, unsigned int opcode, unsigned int units,
				uint32_t flags)
{
	uint64_t *c = cb->p;

	igt_assert(units >= 1 && c + units <= cb->end);
	memset(c, 0, units * sizeof(*c));
	c[0] = opcode | (uint64_t)units << 16 | (uint64_t)flags << 32;
	cb->p += units;
	return c;
}

static inline uint64_t *npu_cmd_nop(struct npu_cb *cb)
{
	return npu_cmd(cb, NPU_CMD_NOP, 1, 0);
}

static inline uint64_t *npu_cmd_fill(struct npu_cb *cb, uint64_t dst, uint64_t size,
				     uint32_t pattern)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_FILL, 4, 0);

	c[1] = dst;
	c[2] = size;
	c[3] = pattern;
	return c;
}

static inline uint64_t *npu_cmd_copy(struct npu_cb *cb, uint64_t dst, uint64_t src, uint64_t size)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_COPY, 4, 0);

	c[1] = dst;
	c[2] = src;
	c[3] = size;
	return c;
}

static inline uint64_t *npu_cmd_compare(struct npu_cb *cb, uint64_t result, uint64_t a,
					uint64_t b, uint64_t size)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_COMPARE, 5, 0);

	c[1] = result;
	c[2] = a;
	c[3] = b;
	c[4] = size;
	return c;
}

static inline uint64_t *npu_cmd_write(struct npu_cb *cb, uint64_t dst, uint64_t value)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_WRITE, 3, 0);

	c[1] = dst;
	c[2] = value;
	return c;
}

static inline uint64_t *npu_cmd_timestamp(struct npu_cb *cb, uint64_t dst)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_TIMESTAMP, 2, 0);

	c[1] = dst;
	return c;
}

static inline uint64_t *npu_cmd_wait(struct npu_cb *cb, uint64_t src, uint64_t value)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_WAIT, 3, 0);

	c[1] = src;
	c[2] = value;
	return c;
}

struct npu_gemm {
	uint64_t c, a, b;
	uint32_t m, n, k, lda, ldb, ldc, type;
	float alpha, beta;
	uint32_t flags;
};

static inline uint64_t *npu_cmd_gemm(struct npu_cb *cb, const struct npu_gemm *g)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_GEMM, 9, g->flags);

	c[1] = g->c;
	c[2] = g->a;
	c[3] = g->b;
	c[4] = npu_u32s(g->m, g->n);
	c[5] = npu_u32s(g->k, g->lda);
	c[6] = npu_u32s(g->ldb, g->ldc);
	c[7] = npu_u32s(g->type, npu_f32(g->alpha));
	c[8] = npu_u32s(npu_f32(g->beta), 0);
	return c;
}

static inline uint64_t *npu_cmd_bias(struct npu_cb *cb, uint64_t y, uint64_t x, uint64_t bias,
				     uint32_t rows, uint32_t cols)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_BIAS, 5, 0);

	c[1] = y;
	c[2] = x;
	c[3] = bias;
	c[4] = npu_u32s(rows, cols);
	return c;
}

static inline uint64_t *npu_cmd_gelu(struct npu_cb *cb, uint64_t y, uint64_t x, uint64_t count,
				     uint32_t flags)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_GELU, 4, flags);

	c[1] = y;
	c[2] = x;
	c[3] = count;
	return c;
}

static inline uint64_t *npu_cmd_softmax(struct npu_cb *cb, uint64_t y, uint64_t x,
					uint32_t rows, uint32_t cols)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_SOFTMAX, 4, 0);

	c[1] = y;
	c[2] = x;
	c[3] = npu_u32s(rows, cols);
	return c;
}

static inline uint64_t *npu_cmd_layernorm(struct npu_cb *cb, uint64_t y, uint64_t x,
					  uint64_t gamma, uint64_t beta,
					  uint32_t rows, uint32_t cols, float eps)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_LAYERNORM, 7, 0);

	c[1] = y;
	c[2] = x;
	c[3] = gamma;
	c[4] = beta;
	c[5] = npu_u32s(rows, cols);
	c[6] = npu_f32(eps);
	return c;
}

static inline uint64_t *npu_cmd_gather(struct npu_cb *cb, uint64_t y, uint64_t table,
				       uint64_t index, uint32_t count, uint32_t cols,
				       uint32_t table_rows)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_GATHER, 6, 0);

	c[1] = y;
	c[2] = table;
	c[3] = index;
	c[4] = npu_u32s(count, cols);
	c[5] = table_rows;
	return c;
}

struct npu_attention {
	uint64_t out, q, k, v, mask;
	uint32_t batch, seq, heads, head_dim, ld;
	float scale;
};

static inline uint64_t *npu_cmd_attention(struct npu_cb *cb, const struct npu_attention *a)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_ATTENTION, 9, 0);

	c[1] = a->out;
	c[2] = a->q;
	c[3] = a->k;
	c[4] = a->v;
	c[5] = a->mask;
	c[6] = npu_u32s(a->batch, a->seq);
	c[7] = npu_u32s(a->heads, a->head_dim);
	c[8] = npu_u32s(a->ld, npu_f32(a->scale));
	return c;
}

static inline uint64_t *npu_cmd_add(struct npu_cb *cb, uint64_t y, uint64_t a, uint64_t b,
				    uint64_t count)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_ADD, 5, 0);

	c[1] = y;
	c[2] = a;
	c[3] = b;
	c[4] = count;
	return c;
}

static inline uint64_t *npu_cmd_meanpool(struct npu_cb *cb, uint64_t y, uint64_t x, uint64_t mask,
					 uint32_t batch, uint32_t seq, uint32_t cols)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_MEANPOOL, 6, 0);

	c[1] = y;
	c[2] = x;
	c[3] = mask;
	c[4] = npu_u32s(batch, seq);
	c[5] = cols;
	return c;
}

static inline uint64_t *npu_cmd_normalize(struct npu_cb *cb, uint64_t y, uint64_t x,
					  uint32_t rows, uint32_t cols)
{
	uint64_t *c = npu_cmd(cb, NPU_CMD_NORMALIZE, 4, 0);

	c[1] = y;
	c[2] = x;
	c[3] = npu_u32s(rows, cols);
	return c;
}

#endif /* NPU_CMD_H */
