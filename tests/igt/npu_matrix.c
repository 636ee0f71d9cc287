// SPDX-License-Identifier: MIT
/* Commands that compute with matrices and sequences. */

#include <math.h>
#include <string.h>

#include "npu_arena.h"

IGT_TEST_DESCRIPTION("Commands that compute with matrices and sequences, against a CPU reference");

static void gemm(uint32_t m, uint32_t n, uint32_t k, uint32_t pad, uint32_t flags, uint32_t type,
		 float alpha, float beta)
{
	uint32_t a_rows = flags & NPU_GEMM_TRANS_A ? k : m, a_cols = flags & NPU_GEMM_TRANS_A ? m : k;
	uint32_t b_rows = flags & NPU_GEMM_TRANS_B ? n : k, b_cols = flags & NPU_GEMM_TRANS_B ? k : n;
	uint32_t lda = a_cols + pad, ldb = b_cols + 2 * pad, ldc = n + 3 * pad;
	struct operand *a, *b, *c;
	struct npu_cb cb;

	arena_reset();
	a = type ? arena_bf16(&opnd[0], a_rows * lda) : arena_f32(&opnd[0], a_rows * lda);
	b = type ? arena_bf16(&opnd[1], b_rows * ldb) : arena_f32(&opnd[1], b_rows * ldb);
	/* If beta is 0 C isn't read: NaNs in it must not show. */
	c = beta ? arena_f32(&opnd[2], m * ldc) : arena_result(&opnd[2], m * ldc);
	if (!beta)
		memset(arena.before + c->at, 0xff, 4 * m * ldc);
	cb = arena_begin();
	npu_cmd_gemm(&cb, &(struct npu_gemm) {
		.c = c->va, .a = a->va, .b = b->va, .m = m, .n = n, .k = k,
		.lda = pad ? lda : 0, .ldb = pad ? ldb : 0, .ldc = pad ? ldc : 0,
		.type = type, .alpha = alpha, .beta = beta, .flags = flags,
	});
	arena_run(&cb);
	for (uint32_t i = 0; i < m; i++) {
		for (uint32_t j = 0; j < n; j++) {
			double sum = 0;

			for (uint32_t l = 0; l < k; l++)
				sum += a->v[flags & NPU_GEMM_TRANS_A ? l * lda + i : i * lda + l] *
				       b->v[flags & NPU_GEMM_TRANS_B ? j * ldb + l : l * ldb + j];
			sum *= alpha;
			if (beta)
				sum += beta * c->v[i * ldc + j];
			arena_check("gemm", c, i * ldc + j, sum);
		}
	}
	arena_check_rest(c, m, n, ldc);
}

static void test_gemm(uint32_t type)
{
	static const struct { uint32_t m, n, k; } dims[] = {
		{ 1, 1, 1 }, { 1, 7, 3 }, { 5, 1, 9 }, { 3, 4, 5 }, { 17, 19, 23 }, { 33, 31, 65 },
	};

	for (size_t i = 0; i < ARRAY_LEN(dims); i++)
		for (uint32_t flags = 0; flags < 4; flags++)
			gemm(dims[i].m, dims[i].n, dims[i].k, (i + flags) % 3, flags, type,
			     flags & 1 ? 1.0f : -0.75f, i & 1 ? 0.0f : 1.5f);
}

/* C may be A, as long as it is all of A. */
static void test_gemm_in_place(void)
{
	const uint32_t n = 9;
	struct operand *a, *b;
	struct npu_cb cb;

	arena_reset();
	a = arena_f32(&opnd[0], n * n);
	b = arena_f32(&opnd[1], n * n);
	cb = arena_begin();
	npu_cmd_gemm(&cb, &(struct npu_gemm) {
		.c = a->va, .a = a->va, .b = b->va, .m = n, .n = n, .k = n, .alpha = 1,
	});
	arena_run(&cb);
	for (uint32_t i = 0; i < n * n; i++) {
		double sum = 0;

		for (uint32_t l = 0; l < n; l++)
			sum += a->v[i / n * n + l] * b->v[l * n + i % n];
		arena_check("gemm in place", a, i, sum);
	}
	arena_check_rest(a, n, n, n);
}

static void test_gather(void)
{
	static const struct { uint32_t count, cols, rows; } cases[] = {
		{ 1, 1, 1 }, { 5, 3, 2 }, { 100, 7, 50 }, { 3, 1025, 4 }, { 1500, 1, 1000 },
	};

	for (size_t s = 0; s < ARRAY_LEN(cases); s++) {
		uint32_t count = cases[s].count, cols = cases[s].cols;
		struct operand *table, *index, *y;
		struct npu_cb cb;

		arena_reset();
		table = arena_f32(&opnd[0], cases[s].rows * cols);
		index = arena_place(&opnd[1], count, 4);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t row = i ? npu_random(&arena.seed) % cases[s].rows : cases[s].rows - 1;

			index->v[i] = row;
			memcpy(arena.before + index->at + 4 * i, &row, 4);
		}
		y = arena_result(&opnd[2], count * cols);
		cb = arena_begin();
		npu_cmd_gather(&cb, y->va, table->va, index->va, count, cols, cases[s].rows);
		arena_run(&cb);
		for (uint32_t i = 0; i < count * cols; i++)
			igt_assert(arena_got(y, i) == table->v[(uint32_t)index->v[i / cols] * cols + i % cols]);
		arena_check_rest(y, 1, count * cols, 0);
	}
}

static void attention(uint32_t batch, uint32_t seq, uint32_t heads, uint32_t dim, uint32_t pad,
		      bool masked, bool in_place)
{
	uint32_t width = heads * dim, ld = width + pad;
	struct operand *q, *k, *v, *mask = NULL, *out;
	const float scale = 0.37f;
	struct npu_cb cb;

	arena_reset();
	q = arena_f32(&opnd[0], batch * seq * ld);
	k = arena_f32(&opnd[1], batch * seq * ld);
	v = arena_f32(&opnd[2], batch * seq * ld);
	if (masked)
		mask = arena_mask(&opnd[3], batch, seq);
	out = in_place ? q : arena_result(&opnd[4], batch * seq * ld);
	cb = arena_begin();
	npu_cmd_attention(&cb, &(struct npu_attention) {
		.out = out->va, .q = q->va, .k = k->va, .v = v->va, .mask = mask ? mask->va : 0,
		.batch = batch, .seq = seq, .heads = heads, .head_dim = dim, .ld = pad ? ld : 0,
		.scale = scale,
	});
	arena_run(&cb);
	for (uint32_t bh = 0; bh < batch * heads; bh++) {
		uint32_t first = bh / heads * seq, col = bh % heads * dim;

		for (uint32_t i = 0; i < seq; i++) {
			double p[64];

			for (uint32_t j = 0; j < seq; j++) {
				p[j] = 0;
				for (uint32_t d = 0; d < dim; d++)
					p[j] += q->v[(first + i) * ld + col + d] *
						k->v[(first + j) * ld + col + d];
				p[j] *= scale;
				if (mask && !mask->v[first + j])
					p[j] = -INFINITY;
			}
			softmax(p, seq);
			for (uint32_t d = 0; d < dim; d++) {
				double sum = 0;

				for (uint32_t j = 0; j < seq; j++)
					sum += p[j] * v->v[(first + j) * ld + col + d];
				arena_check("attention", out, (first + i) * ld + col + d, sum);
			}
		}
	}
	arena_check_rest(out, batch * seq, width, ld);
}

static void test_meanpool(void)
{
	static const struct { uint32_t batch, seq, cols; } cases[] = {
		{ 1, 1, 1 }, { 2, 3, 5 }, { 3, 17, 33 }, { 1, 5, 1025 },
	};

	for (size_t s = 0; s < ARRAY_LEN(cases); s++) {
		uint32_t batch = cases[s].batch, seq = cases[s].seq, cols = cases[s].cols;
		struct operand *x, *mask, *y;
		struct npu_cb cb;

		arena_reset();
		x = arena_f32(&opnd[0], batch * seq * cols);
		mask = arena_mask(&opnd[1], batch, seq);
		/* A sequence without tokens gives zeros. */
		for (uint32_t i = 0; i < seq && batch > 1; i++)
			arena_set(mask, i, 0);
		y = arena_result(&opnd[2], batch * cols);
		cb = arena_begin();
		npu_cmd_meanpool(&cb, y->va, x->va, mask->va, batch, seq, cols);
		arena_run(&cb);
		for (uint32_t i = 0; i < batch * cols; i++) {
			double sum = 0, tokens = 0;

			for (uint32_t t = i / cols * seq; t < (i / cols + 1) * seq; t++) {
				tokens += mask->v[t];
				sum += mask->v[t] * x->v[t * cols + i % cols];
			}
			arena_check("meanpool", y, i, tokens ? sum / tokens : 0);
		}
		arena_check_rest(y, 1, batch * cols, 0);
	}
}

int igt_main()
{
	igt_fixture()
		arena_open();

	igt_describe("GEMM of f32, transposed or not, with and without leading dimensions");
	igt_subtest("gemm-f32")
		test_gemm(0);

	igt_describe("GEMM of bf16");
	igt_subtest("gemm-bf16")
		test_gemm(1);

	igt_describe("GEMM whose result replaces A");
	igt_subtest("gemm-in-place")
		test_gemm_in_place();

	igt_describe("GATHER picks the rows it's told to, bit by bit");
	igt_subtest("gather")
		test_gather();

	igt_describe("ATTENTION, with and without a mask, of one head and several");
	igt_subtest("attention") {
		attention(1, 1, 1, 1, 0, false, false);
		attention(1, 5, 1, 3, 0, false, false);
		attention(2, 7, 3, 5, 0, true, false);
		attention(3, 17, 2, 8, 3, true, false);
		attention(1, 33, 4, 16, 0, false, false);
	}

	igt_describe("ATTENTION whose result replaces Q");
	igt_subtest("attention-in-place")
		attention(2, 9, 2, 6, 1, true, true);

	igt_describe("MEANPOOL over the tokens of a mask");
	igt_subtest("meanpool")
		test_meanpool();
}
