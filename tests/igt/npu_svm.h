/* SPDX-License-Identifier: MIT */
#ifndef NPU_SVM_H
#define NPU_SVM_H

#include <pthread.h>

#include "npu_lib.h"

/*
 * Jobs on plain pointers: a VM that mirrors the address space of the process, device address
 * and CPU address being the same. Objects have the addresses below, where no program's memory is.
 */

#define SVM_START	GIB(64)
#define SVM_END		((1ull << 47) - PAGE)	/* the end of what the CPU gives to processes */
#define SVM_STAGE	MIB(4)

enum svm_pages {
	SVM_DEFAULT,	/* as the system does */
	SVM_SMALL,	/* no transparent huge pages */
	SVM_HUGE,
};

struct svm {
	struct npu_ctx ctx;
	struct npu_bo stage;			/* what jobs read, and what they write from */
	struct drm_gmem_prefetch prefetch;	/* the last one */
};

/* Bytes of a range by where they are. */
struct svm_where {
	uint64_t nowhere, host, device;
};

static inline uint64_t svm_va(const volatile void *p)
{
	return (uintptr_t)p;
}

static inline struct drm_gmem_bind_op npu_op_mirror(uint64_t va, const void *cpu, uint64_t size)
{
	return (struct drm_gmem_bind_op) {
		.op = DRM_GMEM_BIND_OP_MAP_MIRROR, .va = va, .bo_offset = svm_va(cpu), .size = size,
	};
}

/* Wrappers return 0 or -errno. */
int npu_mirror(int fd, uint32_t vm, uint64_t va, const void *cpu, uint64_t size, uint32_t flags);
int npu_prefetch(int fd, struct drm_gmem_prefetch *arg);
int npu_vm_stats(int fd, uint32_t vm, struct drm_gmem_vm_stats *stats);

void svm_init(struct svm *s, int fd);
void svm_init_bare(struct svm *s, int fd);
void svm_fini(struct svm *s);
void svm_open(struct svm *s);
void svm_open_bare(struct svm *s);
void svm_close(struct svm *s);
void svm_drop(struct svm *s);
int svm_open_device(int index);

/* A subtest, and what it is about. */
struct svm_test {
	const char *name, *what;
	void (*test)(void);
};

void svm_run(struct svm *s, const struct svm_test *tests, size_t count);

/* Memory of the process. */
void *svm_map(uint64_t size, int prot, int flags, int fd);
void *svm_anon(uint64_t size, enum svm_pages pages);
void svm_free(void *p, uint64_t size);
int svm_temp_file(const char *dir, uint64_t size);
uint64_t svm_pagemap(const void *p);
uint64_t svm_present(const void *p, uint64_t size);
uint64_t svm_swapped(const void *p, uint64_t size);

/* Words that say of which seed and where they are. */
uint64_t svm_word(uint64_t seed, uint64_t i);
void svm_put(void *p, uint64_t size, uint64_t seed);
uint64_t svm_find(const void *p, uint64_t size, uint64_t seed);
uint64_t svm_find_byte(const void *p, uint64_t size, uint8_t byte);

/* Jobs: 0, or the error that the job ended with. */
int svm_read(struct svm *s, const void *p, uint64_t size);
int svm_write(struct svm *s, void *p, uint64_t size, uint64_t seed);
int svm_fill(struct svm *s, void *p, uint64_t size, uint32_t pattern);
int svm_copy(struct svm *s, void *to, const void *from, uint64_t size);
int svm_compare(struct svm *s, const void *a, const void *b, uint64_t size, uint64_t *at);
int svm_touch(struct svm *s, const volatile void *p);
int svm_poke(struct svm *s, volatile void *p, uint64_t value);

int svm_prefetch(struct svm *s, const void *p, uint64_t size, uint64_t location);
struct svm_where svm_where(struct svm *s, const void *p, uint64_t size);
struct drm_gmem_vm_stats svm_stats(struct svm *s);
int svm_advise(struct svm *s, const void *p, uint64_t size, uint32_t kind, uint64_t value);

/* Helpers for processes and threads; threads must leave all asserting to the test's own. */
volatile uint32_t *svm_flags(void);
void svm_flags_free(volatile uint32_t *flags);
bool svm_reached(volatile uint32_t *flag, uint32_t value);
void svm_await(volatile uint32_t *flag, uint32_t value);
pid_t svm_fork(void);
int svm_wait_child(pid_t pid);
void svm_thread(pthread_t *thread, void *(*body)(void *), void *arg);
void svm_join(pthread_t thread);
uint64_t svm_seconds(void);
int svm_text(const char *path, char *text, size_t size);
uint64_t svm_number(const char *path);

/* As igt_assert, with the line of who uses it. */
#define svm_fail_(f...)	igt_fail_here_("memory", f)

#define svm_assert_cpu(p_, size_, seed_) \
	do { \
		const void *svm_p_ = (p_); \
		uint64_t svm_s_ = (seed_), svm_at_ = svm_find(svm_p_, (size_), svm_s_); \
		if (svm_at_ != ~0ull) \
			svm_fail_("the CPU finds %#llx at " #p_ " + %#llx, not %#llx\n", \
				  ((unsigned long long *)svm_p_)[svm_at_ / 8], \
				  (unsigned long long)svm_at_, \
				  (unsigned long long)svm_word(svm_s_, svm_at_ / 8)); \
	} while (0)

#define svm_assert_cpu_bytes(p_, size_, byte_) \
	do { \
		const void *svm_p_ = (p_); \
		uint64_t svm_at_ = svm_find_byte(svm_p_, (size_), (byte_)); \
		if (svm_at_ != ~0ull) \
			svm_fail_("the CPU finds %#x at " #p_ " + %#llx, not %#x\n", \
				  ((uint8_t *)svm_p_)[svm_at_], (unsigned long long)svm_at_, \
				  (unsigned int)(byte_)); \
	} while (0)

/* Reads all of a range by jobs, a stage at a time. */
#define svm_assert_device_(s, p_, size_, find, what, fmt) \
	do { \
		const char *svm_d_ = (const void *)(p_); \
		uint64_t svm_left_ = (size_), svm_done_ = 0; \
		while (svm_left_) { \
			uint64_t svm_n_ = npu_min(svm_left_, SVM_STAGE), svm_a_; \
			int svm_r_ = svm_read(s, svm_d_ + svm_done_, svm_n_); \
			if (svm_r_) \
				svm_fail_("reading " #p_ " + %#llx by a job: %d, address %#llx, " \
					  "reason %u, access %u\n", \
					  (unsigned long long)svm_done_, svm_r_, \
					  (unsigned long long)(s)->ctx.status.detail, \
					  (s)->ctx.status.reason, (s)->ctx.status.access); \
			svm_a_ = find; \
			if (svm_a_ != ~0ull) \
				svm_fail_("the device finds " fmt " at " #p_ " + %#llx\n", \
					  what((const char *)(s)->stage.cpu + svm_a_), \
					  (unsigned long long)(svm_done_ + svm_a_)); \
			svm_left_ -= svm_n_; \
			svm_done_ += svm_n_; \
		} \
	} while (0)

#define svm_u64_(p)	(*(unsigned long long *)(p))
#define svm_u8_(p)	(*(uint8_t *)(p))
#define svm_assert_device(s, p, size, seed) \
	svm_assert_device_(s, p, size, \
			   svm_find_at((s)->stage.cpu, svm_n_, seed, svm_done_), svm_u64_, "%#llx")
#define svm_assert_device_bytes(s, p, size, byte) \
	svm_assert_device_(s, p, size, svm_find_byte((s)->stage.cpu, svm_n_, byte), svm_u8_, "%#x")

uint64_t svm_find_at(const void *p, uint64_t size, uint64_t seed, uint64_t at);

/* All of a range is in one place. */
#define svm_assert_where(s, p_, size_, place) \
	do { \
		uint64_t svm_size_ = (size_); \
		struct svm_where svm_w_ = svm_where(s, p_, svm_size_); \
		if (svm_w_.place != svm_size_) \
			svm_fail_(#p_ ": of %#llx bytes %#llx are nowhere, %#llx in the host, %#llx " \
				  "on the device, not all: " #place "\n", \
				  (unsigned long long)svm_size_, (unsigned long long)svm_w_.nowhere, \
				  (unsigned long long)svm_w_.host, \
				  (unsigned long long)svm_w_.device); \
	} while (0)

/* In device memory, by query_range and by the CPU's page table. */
#define svm_assert_on_device(s, p, size) \
	do { \
		svm_assert_where(s, p, size, device); \
		igt_assert_eq_u64(svm_present(p, size), 0); \
	} while (0)

#define svm_assert_off_device(s, p, size) \
	igt_assert_eq_u64(svm_where(s, p, size).device, 0)

#define svm_to_device(s, p, size) \
	do { \
		igt_assert_eq(svm_prefetch(s, p, size, DRM_GMEM_LOCATION_DEVICE), 0); \
		svm_assert_on_device(s, p, size); \
	} while (0)

#define svm_to_host(s, p, size) \
	do { \
		igt_assert_eq(svm_prefetch(s, p, size, DRM_GMEM_LOCATION_HOST), 0); \
		svm_assert_where(s, p, size, host); \
	} while (0)

/* The last job ended by an access to @p's page that it may not have. */
#define svm_assert_fault(s, result, p, reason_, access_) \
	do { \
		int svm_r_ = (result); \
		const struct drm_npu_job_status *svm_st_ = &(s)->ctx.status; \
		igt_assert_eq(svm_r_, -EFAULT); \
		igt_assert_eq_u64(svm_st_->detail & ~(PAGE - 1), \
				  (uintptr_t)(p) & ~(PAGE - 1)); \
		igt_assert_eq_u32(svm_st_->access, access_); \
		igt_assert_eq_u32(svm_st_->reason, reason_); \
	} while (0)

#define svm_assert_child(pid, expected)	igt_assert_eq(svm_wait_child(pid), expected)

/* npu_evictor.c: what debugfs says of the evictor. */

uint64_t npu_evictor_count(const char *name);
int npu_evictor_set_policy(const char *name);

/* npu_svm_swap.c: a disk to swap to, and memory that is swapped out. */

bool svm_scratch_disk(char *path, size_t size);
void svm_swap_on(char *path, size_t size);
void svm_group_make(void);
void svm_group_join(void);
uint64_t svm_group_swap_out(uint64_t bytes);

/* npu_svm_uffd.c: page faults that a thread of the test answers. */

struct svm_uffd {
	int fd, stop;
	pthread_t thread;
	char *page;			/* what missing pages get */
	volatile uint32_t missing, wp;	/* faults answered */
	volatile int error;
};

int svm_uffd_open(void);
void svm_uffd_register(int uffd, void *p, uint64_t size, uint64_t mode);
void svm_uffd_protect(int uffd, void *p, uint64_t size, bool on);
void svm_uffd_start(struct svm_uffd *u, uint8_t byte);
void svm_uffd_stop(struct svm_uffd *u);

#endif /* NPU_SVM_H */
