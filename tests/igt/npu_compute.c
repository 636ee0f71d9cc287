// SPDX-License-Identifier: MIT
/* Commands that compute element by element and row by row. */

#include <math.h>
#include <string.h>

#include "npu_arena.h"

IGT_TEST_DESCRIPTION("Commands that compute by element and by row, against a CPU reference");

static const struct { uint32_t rows, cols; } shapes[] = {
	{ 1, 1 }, { 1, 5 }, { 7, 1 }, { 3, 11 }, { 13, 129 }, { 2, 2049 },
};

static void test_bias(bool in_place)
{
	for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
		uint32_t rows = shapes[s].rows, cols = shapes[s].cols;
		struct operand *x, *bias, *y;
		struct npu_cb cb;

		arena_reset();
		x = arena_f32(&opnd[0], rows * cols);
		bias = arena_f32(&opnd[1], cols);
		y = in_place ? x : arena_result(&opnd[2], rows * cols);
		cb = arena_begin();
		npu_cmd_bias(&cb, y->va, x->va, bias->va, rows, cols);
		arena_run(&cb);
		for (uint32_t i = 0; i < rows * cols; i++)
			arena_check("bias", y, i, x->v[i] + bias->v[i % cols]);
		arena_check_rest(y, 1, rows * cols, 0);
	}
}

static void test_gelu(bool in_place)
{
	static const uint32_t counts[] = { 1, 2, 3, 17, 1023, 3000 };

	for (size_t s = 0; s < 2 * ARRAY_LEN(counts); s++) {
		uint32_t count = counts[s / 2], flags = s & 1 ? NPU_GELU_TANH : 0;
		struct operand *x, *y;
		struct npu_cb cb;

		arena_reset();
		x = arena_f32(&opnd[0], count);
		for (uint32_t i = 0; i < count; i++)
			arena_set(x, i, 6 * x->v[i]);
		y = in_place ? x : arena_result(&opnd[1], count);
		cb = arena_begin();
		npu_cmd_gelu(&cb, y->va, x->va, count, flags);
		arena_run(&cb);
		for (uint32_t i = 0; i < count; i++) {
			double v = x->v[i];
			double inner = sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);

			arena_check(flags ? "gelu by tanh" : "gelu by erf", y, i,
			      0.5 * v * (1 + (flags ? tanh(inner) : erf(v / sqrt(2)))));
		}
		arena_check_rest(y, 1, count, 0);
	}
}

static void test_softmax(bool in_place)
{
	for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
		uint32_t rows = shapes[s].rows, cols = shapes[s].cols;
		struct operand *x, *y;
		struct npu_cb cb;

		arena_reset();
		x = arena_f32(&opnd[0], rows * cols);
		/* One row is so large that exp() alone would overflow. */
		for (uint32_t i = 0; i < cols; i++)
			arena_set(x, i, x->v[i] + 200);
		y = in_place ? x : arena_result(&opnd[1], rows * cols);
		cb = arena_begin();
		npu_cmd_softmax(&cb, y->va, x->va, rows, cols);
		arena_run(&cb);
		for (uint32_t row = 0; row < rows; row++) {
			softmax(&x->v[row * cols], cols);
			for (uint32_t i = row * cols; i < (row + 1) * cols; i++)
				arena_check("softmax", y, i, x->v[i]);
		}
		arena_check_rest(y, 1, rows * cols, 0);
	}
}

static void test_layernorm(bool in_place)
{
	const float eps = 1e-3f;

	for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
		uint32_t rows = shapes[s].rows, cols = shapes[s].cols;
		struct operand *x, *gamma, *beta, *y;
		struct npu_cb cb;

		arena_reset();
		x = arena_f32(&opnd[0], rows * cols);
		gamma = arena_f32(&opnd[1], cols);
		beta = arena_f32(&opnd[2], cols);
		y = in_place ? x : arena_result(&opnd[3], rows * cols);
		cb = arena_begin();
		npu_cmd_layernorm(&cb, y->va, x->va, gamma->va, beta->va, rows, cols, eps);
		arena_run(&cb);
		for (uint32_t row = 0; row < rows; row++) {
			double *v = &x->v[row * cols], mean = 0, var = 0;

			for (uint32_t i = 0; i < cols; i++)
				mean += v[i] / cols;
			for (uint32_t i = 0; i < cols; i++)
				var += (v[i] - mean) * (v[i] - mean) / cols;
			for (uint32_t i = 0; i < cols; i++)
				arena_check("layernorm", y, row * cols + i,
				      (v[i] - mean) / sqrt(var + eps) * gamma->v[i] + beta->v[i]);
		}
		arena_check_rest(y, 1, rows * cols, 0);
	}
}

static void test_normalize(bool in_place)
{
	for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
		uint32_t rows = shapes[s].rows, cols = shapes[s].cols;
		struct operand *x, *y;
		struct npu_cb cb;

		arena_reset();
		x = arena_f32(&opnd[0], rows * cols);
		/* A row of zeros stays one. */
		for (uint32_t i = 0; i < cols && rows > 1; i++)
			arena_set(x, i, 0);
		y = in_place ? x : arena_result(&opnd[1], rows * cols);
		cb = arena_begin();
		npu_cmd_normalize(&cb, y->va, x->va, rows, cols);
		arena_run(&cb);
		for (uint32_t row = 0; row < rows; row++) {
			double norm = 0;

			for (uint32_t i = row * cols; i < (row + 1) * cols; i++)
				norm += x->v[i] * x->v[i];
			norm = fmax(sqrt(norm), 1e-12);
			for (uint32_t i = row * cols; i < (row + 1) * cols; i++)
				arena_check("normalize", y, i, x->v[i] / norm);
		}
		arena_check_rest(y, 1, rows * cols, 0);
	}
}

static void test_add(int in_place)
{
	static const uint32_t counts[] = { 1, 2, 3, 100, 1025, 5000 };

	for (size_t s = 0; s < ARRAY_LEN(counts); s++) {
		uint32_t count = counts[s];
		struct operand *a, *b, *y;
		struct npu_cb cb;

		arena_reset();
		a = arena_f32(&opnd[0], count);
		b = arena_f32(&opnd[1], count);
		y = in_place == 1 ? a : in_place == 2 ? b : arena_result(&opnd[2], count);
		cb = arena_begin();
		npu_cmd_add(&cb, y->va, a->va, b->va, count);
		arena_run(&cb);
		for (uint32_t i = 0; i < count; i++)
			arena_check("add", y, i, a->v[i] + b->v[i]);
		arena_check_rest(y, 1, count, 0);
	}
}

int igt_main()
{
	igt_fixture()
		arena_open();

	igt_describe("BIAS adds a row to every row");
	igt_subtest("bias") {
		test_bias(false);
		test_bias(true);
	}

	igt_describe("GELU, by erf and by tanh");
	igt_subtest("gelu") {
		test_gelu(false);
		test_gelu(true);
	}

	igt_describe("SOFTMAX of each row, large values included");
	igt_subtest("softmax") {
		test_softmax(false);
		test_softmax(true);
	}

	igt_describe("LAYERNORM of each row");
	igt_subtest("layernorm") {
		test_layernorm(false);
		test_layernorm(true);
	}

	igt_describe("ADD of two vectors, also in place");
	igt_subtest("add") {
		for (int in_place = 0; in_place < 3; in_place++)
			test_add(in_place);
	}

	igt_describe("NORMALIZE of each row, zeros included");
	igt_subtest("normalize") {
		test_normalize(false);
		test_normalize(true);
	}
}
