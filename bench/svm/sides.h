/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What both sides of the benchmark can do with memory of this process.
 */
#ifndef BENCH_SVM_SIDES_H
#define BENCH_SVM_SIDES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE		4096UL
#define HUGE		(2UL << 20)

/**
 * struct side - a device that mirrors this process
 *
 * Each call is one ioctl, and ends the program if that fails or does less than
 * all of it. @attach: the region is the one that the device will be asked about
 * until @detach. @in_place: pages stay in the host, and only the page that faults
 * is brought in; else as the side does of itself.
 */
struct side {
	const char *name;
	void (*attach)(char *region, size_t size, bool in_place);
	void (*detach)(void);
	void (*to_device)(char *at, size_t size);
	void (*to_host)(char *at, size_t size);
	/* What to_device() does besides, to verify; NULL if nothing. */
	void (*verify)(char *at, size_t size);
	/* The device accesses each page; gives the number of faults. */
	uint64_t (*touch)(char *at, size_t size, bool write, unsigned int queue);
};

extern const struct side gmem, test_hmm;

void gmem_open(void);
void gmem_skip_copies(bool skip);
/* Copies so far, and bytes of them. */
void gmem_copies(uint64_t *copies, uint64_t *bytes);
/* Ticks of one of enum svm_cost_of. */
uint64_t gmem_cost(unsigned int what, uint64_t pages);
/* Bytes of bookkeeping, and extents and bytes that are mirrored. */
void gmem_book(uint64_t *bytes, uint64_t *extents, uint64_t *mirrored);
/* Moves a part without counting on all of it being moved. */
void gmem_map_in_place(char *at, size_t size);
void test_hmm_open(void);
void test_hmm_close(void);
/* An ioctl that does nothing. */
void test_hmm_nothing(void);

#define die(...) do { \
	fprintf(stderr, "svm: " __VA_ARGS__); \
	fprintf(stderr, ": %m\n"); \
	exit(1); \
} while (0)

#endif
