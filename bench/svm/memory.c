// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What is hardware in a real device, and neither side's work: memory, a copy
 * engine, and queues that wait for an answer to their fault. device.rs repeats
 * the prototypes; nothing checks that, so keep them together.
 */

#include <linux/completion.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <asm/tsc.h>

#define CHUNK_ORDER	9
#define CHUNK_SHIFT	(PAGE_SHIFT + CHUNK_ORDER)
#define QUEUES		8

/* The device's memory, in pieces of 2 MiB. */
static struct page **chunks;
static u64 num_chunks;

struct queue {
	struct completion answered;
	u32 verdict;
};

static struct queue queues[QUEUES];

void svm_memory_exit(void);
int svm_memory_init(u64 bytes);
void svm_memory_copy(u64 to, bool to_local, u64 from, bool from_local, u64 bytes);
void svm_memory_fill(u64 to, bool to_local, u64 pattern, u64 bytes);
u64 svm_memory_cost(u32 what, u64 pages);
void svm_queue_arm(u32 queue);
int svm_queue_wait(u32 queue, u32 *verdict);
void svm_queue_answer(u32 queue, u32 verdict);

void svm_memory_exit(void)
{
	u64 i;

	for (i = 0; i < num_chunks; i++)
		if (chunks[i])
			__free_pages(chunks[i], CHUNK_ORDER);
	vfree(chunks);
	chunks = NULL;
	num_chunks = 0;
}

int svm_memory_init(u64 bytes)
{
	u64 i;

	for (i = 0; i < QUEUES; i++)
		init_completion(&queues[i].answered);
	num_chunks = bytes >> CHUNK_SHIFT;
	chunks = vcalloc(num_chunks, sizeof(*chunks));
	if (!chunks) {
		num_chunks = 0;
		return -ENOMEM;
	}
	for (i = 0; i < num_chunks; i++) {
		chunks[i] = alloc_pages(GFP_KERNEL, CHUNK_ORDER);
		if (!chunks[i]) {
			svm_memory_exit();
			return -ENOMEM;
		}
	}
	return 0;
}

static struct page *page_at(u64 address, bool local)
{
	if (!local)
		return phys_to_page(address);
	return chunks[address >> CHUNK_SHIFT] +
		((address & ((1ULL << CHUNK_SHIFT) - 1)) >> PAGE_SHIFT);
}

void svm_memory_copy(u64 to, bool to_local, u64 from, bool from_local, u64 bytes)
{
	u64 at;

	for (at = 0; at < bytes; at += PAGE_SIZE)
		copy_highpage(page_at(to + at, to_local), page_at(from + at, from_local));
}

void svm_memory_fill(u64 to, bool to_local, u64 pattern, u64 bytes)
{
	u64 at;

	for (at = 0; at < bytes; at += PAGE_SIZE)
		memset64(page_address(page_at(to + at, to_local)), pattern, PAGE_SIZE / 8);
}

/*
 * Ticks that test_hmm's share of a hardware's work takes, for so many pages:
 * copy them, allocate what backs them, free that; by page and by huge folio.
 */
u64 svm_memory_cost(u32 what, u64 pages)
{
	unsigned int order = what >= 3 ? CHUNK_ORDER : 0;
	u64 i, start, allocated, freed, count = pages >> order;
	struct page **list;

	if (what == 0) {
		u64 half = num_chunks << CHUNK_ORDER >> 1;

		if (pages > half)
			return 0;
		start = rdtsc_ordered();
		for (i = 0; i < pages; i++)
			copy_highpage(page_at((half + i) << PAGE_SHIFT, true),
				      page_at(i << PAGE_SHIFT, true));
		return rdtsc_ordered() - start;
	}
	list = vcalloc(count, sizeof(*list));
	if (!list)
		return 0;
	start = rdtsc_ordered();
	for (i = 0; i < count; i++)
		list[i] = folio_page(folio_alloc(GFP_HIGHUSER, order), 0);
	allocated = rdtsc_ordered() - start;
	start = rdtsc_ordered();
	for (i = 0; i < count; i++)
		__free_pages(list[i], order);
	freed = rdtsc_ordered() - start;
	vfree(list);
	return what == 1 || what == 3 ? allocated : freed;
}

void svm_queue_arm(u32 queue)
{
	reinit_completion(&queues[queue % QUEUES].answered);
}

int svm_queue_wait(u32 queue, u32 *verdict)
{
	int ret = wait_for_completion_killable(&queues[queue % QUEUES].answered);

	*verdict = queues[queue % QUEUES].verdict;
	return ret;
}

void svm_queue_answer(u32 queue, u32 verdict)
{
	queues[queue % QUEUES].verdict = verdict;
	complete(&queues[queue % QUEUES].answered);
}
