/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the two sides of the bind benchmark have in common. bench_gmem.rs repeats
 * the prototypes and BIND_BOS; nothing checks that, so keep them together.
 */
#ifndef BENCH_BIND_H
#define BENCH_BIND_H

#include <linux/bits.h>
#include <linux/types.h>

/* Buffer objects of a VM. They are numbers only: no page of one is ever touched. */
#define BIND_BOS	16

/* The reservation: 64 GiB at 64 GiB, in 4 KiB pages. */
#define BIND_FIRST	BIT_ULL(24)
#define BIND_PAGES	BIT_ULL(24)

/* A buffer object has as many pages. */
#define BIND_BO_PAGES	BIT_ULL(27)

/**
 * struct bind_side - an engine that keeps which pages are mapped to what
 *
 * All addresses and sizes are in pages. @map replaces whatever was there, @unmap
 * unmaps whatever is there; both give 0 or a negative error. @lookup gives
 * bind_value() of the page, 0 if it is not mapped. @digest adds up bind_digest()
 * of all that is mapped. @len is how many mappings that is to the engine, and
 * @bytes how much memory they take, without what every VM takes. @replaced is how
 * many operations so far took something away that was mapped, so that the TLB has
 * to be flushed; NULL if a flush is not for an operation alone.
 */
struct bind_side {
	const char *name;
	void *(*create)(void);
	void (*destroy)(void *vm);
	int (*map)(void *vm, u64 page, u64 pages, u32 bo, u64 bo_page);
	int (*unmap)(void *vm, u64 page, u64 pages);
	u64 (*lookup)(void *vm, u64 page);
	u64 (*digest)(void *vm);
	u64 (*len)(void *vm);
	u64 (*bytes)(void *vm);
	u64 (*replaced)(void *vm);
};

extern const struct bind_side bind_gpuvm;

/* In bench_gmem.rs. */
void *gmem_create(void);
void gmem_destroy(void *vm);
int gmem_map(void *vm, u64 page, u64 pages, u32 bo, u64 bo_page);
int gmem_unmap(void *vm, u64 page, u64 pages);
u64 gmem_lookup(void *vm, u64 page);
u64 gmem_digest(void *vm);
u64 gmem_len(void *vm);
u64 gmem_bytes(void *vm);

int bind_gpuvm_init(void);
void bind_gpuvm_exit(void);

/* A number for a range of pages that does not depend on how it is cut. */
u64 bind_digest(u64 page, u64 pages, u32 bo, u64 bo_page);

static inline u64 bind_value(u32 bo, u64 bo_page)
{
	return ((u64)bo << 32) + bo_page + 1;
}

#endif
