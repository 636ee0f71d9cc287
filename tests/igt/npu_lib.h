/* SPDX-License-Identifier: MIT */
#ifndef NPU_LIB_H
#define NPU_LIB_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <drm/npu_accel.h>

#include "igt.h"
#include "npu_cmd.h"

#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))
#define KIB(n)		((uint64_t)(n) << 10)
#define MIB(n)		((uint64_t)(n) << 20)
#define GIB(n)		((uint64_t)(n) << 30)
#define PAGE		KIB(4)

/* The three placements a buffer object can have. */
#define NPU_HOST	DRM_GMEM_BO_HOST
#define NPU_DEVICE	DRM_GMEM_BO_DEVICE
#define NPU_VISIBLE	(DRM_GMEM_BO_DEVICE | DRM_GMEM_BO_CPU_VISIBLE)
/* Keeps memory from others: what is not pinned leaves for what comes. */
#define NPU_PINNED	(DRM_GMEM_BO_DEVICE | DRM_GMEM_BO_PINNED)

/* Why a job failed, as struct drm_npu_job_status gives it. */
enum {
	NPU_NOT_MAPPED = 1,
	NPU_NOT_WRITABLE = 2,
	NPU_NOT_EXECUTABLE = 3,
	NPU_OUTSIDE = 4,

	/* Which access it was. */
	NPU_READ = 1,
	NPU_WRITE = 2,
	NPU_FETCH = 4,

	NPU_BAD_OPCODE = 1,
	NPU_BAD_SIZE = 2,
	NPU_BAD_RESERVED = 3,
	NPU_BAD_ALIGNMENT = 4,
	NPU_BAD_OPERAND = 5,
};

static inline uint64_t npu_round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) / to * to;
}

static inline uint64_t npu_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t npu_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* npu_lib.c: the device and its ioctls. Wrappers return 0 or -errno. */

unsigned int npu_scale(unsigned int count);
uint64_t npu_seed(void);
uint64_t npu_random(uint64_t *state);

int npu_devices(void);
const char *npu_device_bdf(int index);
int npu_device_under_test(void);
int npu_open_bdf(const char *bdf);
int npu_open(void);

int npu_ioctl(int fd, unsigned long request, void *arg);
struct drm_gmem_query_device npu_device_info(int fd);
struct drm_npu_query npu_facts(int fd);
bool npu_can_fault(int fd);
uint64_t npu_mem_free(int fd);
void npu_assert_mem_free(int fd, uint64_t expected);
void npu_assert_mem_at_least(int fd, uint64_t expected);

int npu_vm_create(int fd, uint32_t *vm);
int npu_vm_destroy(int fd, uint32_t vm);
int npu_bo_create(int fd, uint64_t size, uint32_t flags, uint32_t *handle);
int npu_bo_close(int fd, uint32_t handle);
int npu_bo_offset(int fd, uint32_t handle, uint64_t *offset);
void *npu_bo_cpu(int fd, uint32_t handle, uint64_t size);
int npu_bind(int fd, uint32_t vm, const struct drm_gmem_bind_op *ops, uint32_t count);
int npu_map(int fd, uint32_t vm, uint32_t handle, uint64_t va, uint64_t bo_offset,
	    uint64_t size, uint32_t flags);
int npu_unmap(int fd, uint32_t vm, uint64_t va, uint64_t size);
int npu_queue_create(int fd, uint32_t *queue);
int npu_queue_destroy(int fd, uint32_t queue);
int npu_submit_raw(int fd, uint32_t queue, uint32_t vm, uint64_t commands, uint32_t size,
		   const struct drm_gmem_sync *syncs, uint32_t count);
int npu_job_status(int fd, uint32_t queue, struct drm_npu_job_status *status);

static inline struct drm_gmem_bind_op npu_op_map(uint32_t handle, uint64_t va,
						 uint64_t bo_offset, uint64_t size)
{
	return (struct drm_gmem_bind_op) {
		.op = DRM_GMEM_BIND_OP_MAP_BO, .handle = handle,
		.va = va, .bo_offset = bo_offset, .size = size,
	};
}

static inline struct drm_gmem_bind_op npu_op_unmap(uint64_t va, uint64_t size)
{
	return (struct drm_gmem_bind_op) {
		.op = DRM_GMEM_BIND_OP_UNMAP, .va = va, .size = size,
	};
}

static inline struct drm_gmem_bind_op npu_op_sparse(uint64_t va, uint64_t size)
{
	return (struct drm_gmem_bind_op) {
		.op = DRM_GMEM_BIND_OP_MAP_SPARSE, .va = va, .size = size,
	};
}

/* Synchronisation objects and sync files. */

int npu_syncobj_create(int fd, uint32_t flags, uint32_t *handle);
int npu_syncobj_destroy(int fd, uint32_t handle);
int npu_syncobj_wait(int fd, uint32_t handle);
int npu_syncobj_poll(int fd, uint32_t handle);
int npu_syncobj_wait_point(int fd, uint32_t handle, uint64_t point, uint32_t flags);
int npu_syncobj_poll_point(int fd, uint32_t handle, uint64_t point);
int npu_syncobj_signal_point(int fd, uint32_t handle, uint64_t point);
int npu_syncobj_query(int fd, uint32_t handle, uint64_t *point);
int npu_syncobj_reset(int fd, uint32_t handle);
int npu_syncobj_signal(int fd, uint32_t handle);
int npu_syncobj_export(int fd, uint32_t handle);
int npu_syncobj_import(int fd, int shared_fd, uint32_t *handle);
int npu_sync_file_export(int fd, uint32_t handle);
int npu_sync_file_import(int fd, uint32_t handle, int sync_file);
int npu_sync_file_wait(int sync_file);
int npu_sync_file_status(int sync_file);
int npu_fence_result(int fd, uint32_t handle);

static inline struct drm_gmem_sync npu_wait_for(uint32_t handle)
{
	return (struct drm_gmem_sync) { .handle = handle };
}

static inline struct drm_gmem_sync npu_signal(uint32_t handle)
{
	return (struct drm_gmem_sync) { .handle = handle, .flags = DRM_GMEM_SYNC_SIGNAL };
}

static inline struct drm_gmem_sync npu_wait_point(uint32_t handle, uint64_t point)
{
	return (struct drm_gmem_sync) {
		.handle = handle, .flags = DRM_GMEM_SYNC_TIMELINE, .point = point,
	};
}

static inline struct drm_gmem_sync npu_signal_point(uint32_t handle, uint64_t point)
{
	return (struct drm_gmem_sync) {
		.handle = handle, .point = point,
		.flags = DRM_GMEM_SYNC_SIGNAL | DRM_GMEM_SYNC_TIMELINE,
	};
}

/* npu_job.c: one client with all it takes to run jobs. */

struct npu_bo {
	uint32_t handle;
	uint64_t size;
	uint64_t va;	/* 0: not mapped */
	void *cpu;	/* NULL: the CPU can't see it */
};

struct npu_ctx {
	int fd;
	uint32_t vm;
	uint32_t queue;
	uint32_t syncobj;
	struct npu_bo cmds;
	struct npu_bo cells;
	uint32_t cmds_at;
	uint32_t cells_at;
	uint64_t va_at;
	uint64_t va_end;
	uint64_t seqno;				/* jobs submitted to @queue */
	struct drm_npu_job_status status;	/* of the last job that npu_run() saw */
};

/* A u64 that both CPU and device see. */
struct npu_cell {
	volatile uint64_t *cpu;
	uint64_t va;
};

void npu_ctx_init(struct npu_ctx *ctx, int fd);
void npu_ctx_fini(struct npu_ctx *ctx);
void npu_ctx_open(struct npu_ctx *ctx);
void npu_ctx_close(struct npu_ctx *ctx);
void npu_ctx_drop(struct npu_ctx *ctx);

uint64_t npu_va(struct npu_ctx *ctx, uint64_t size, uint64_t align);
struct npu_bo npu_bo(struct npu_ctx *ctx, uint64_t size, uint32_t placement, uint32_t bind_flags);
void npu_bo_free(struct npu_ctx *ctx, struct npu_bo *bo);
struct npu_cell npu_cell(struct npu_ctx *ctx, uint64_t value);

struct npu_cb npu_begin(struct npu_ctx *ctx);
int npu_submit(struct npu_ctx *ctx, const struct npu_cb *cb, uint32_t queue,
	       const struct drm_gmem_sync *syncs, uint32_t count);
int npu_run(struct npu_ctx *ctx, const struct npu_cb *cb);
int npu_read(struct npu_ctx *ctx, uint64_t va, uint64_t *value);
int npu_write(struct npu_ctx *ctx, uint64_t va, uint64_t value);
void npu_assert_alive(struct npu_ctx *ctx);
void npu_assert_fault(struct npu_ctx *ctx, int result, uint64_t va, uint32_t reason);

/* A job that runs until it is told to end, or until the driver loses patience. */
struct npu_blocker {
	struct npu_cell started;
	struct npu_cell gate;
	uint32_t syncobj;
};

void npu_block(struct npu_ctx *ctx, uint32_t queue, struct npu_blocker *blocker);
void npu_block_submit(struct npu_ctx *ctx, uint32_t queue, struct npu_blocker *blocker);
void npu_block_started(const struct npu_blocker *blocker);
int npu_unblock(struct npu_ctx *ctx, struct npu_blocker *blocker);
void npu_retry(bool (*attempt)(void *arg), void *arg);

/* npu_vm.c: binds with syncs, bind queues, advice, and reading all of it back. */

int npu_map_sparse(int fd, uint32_t vm, uint64_t va, uint64_t size, uint32_t flags);
int npu_bind_queue_create(int fd, uint32_t vm, uint32_t *queue);
int npu_bind_queue_destroy(int fd, uint32_t queue);
int npu_bind_async(struct npu_ctx *ctx, uint32_t queue, const struct drm_gmem_bind_op *ops,
		   uint32_t count, const struct drm_gmem_sync *syncs, uint32_t num_syncs);
int npu_bind_once(struct npu_ctx *ctx, uint32_t queue, const struct drm_gmem_bind_op *ops,
		  uint32_t count, const struct drm_gmem_sync *syncs, uint32_t num_syncs);
int npu_advise(int fd, uint32_t vm, uint64_t va, uint64_t size, uint32_t flags,
	       const struct drm_gmem_attr *attrs, uint32_t count);
int npu_query_range(int fd, uint32_t vm, uint64_t *va, uint64_t *size,
		    struct drm_gmem_range *ranges, uint32_t *count);
unsigned int npu_ranges(struct npu_ctx *ctx, uint64_t va, uint64_t size,
			struct drm_gmem_range *ranges, unsigned int room);
struct drm_gmem_range npu_range_at(struct npu_ctx *ctx, uint64_t va);
uint32_t npu_syncobj(int fd, uint32_t flags);
int npu_submit_copy(struct npu_ctx *ctx, uint32_t queue, uint64_t to, uint64_t from,
		    const struct drm_gmem_sync *syncs, uint32_t count);

/* A fence that the test signals when it likes, unless that takes more than ten seconds. */
struct npu_hold {
	struct npu_ctx ctx;	/* a file of its own, with jobs that wait */
	struct npu_cell gate;
	int sync_file;
};

void npu_hold(struct npu_hold *hold);
uint32_t npu_hold_syncobj(const struct npu_hold *hold, int fd);
void npu_assert_held(const struct npu_hold *hold);
void npu_release(struct npu_hold *hold);

/* npu_tag.c: pages that say which page of which object they are. */

uint64_t npu_tag(uint32_t id, uint64_t page);
void npu_bo_tag(struct npu_ctx *ctx, uint32_t handle, uint64_t size, uint32_t id);
void npu_read_many(struct npu_ctx *ctx, const uint64_t *va, uint64_t *value, unsigned int count);
void npu_assert_tags(struct npu_ctx *ctx, uint64_t va, uint64_t pages, uint32_t id, uint64_t first);
void npu_assert_unmapped(struct npu_ctx *ctx, uint64_t va);
bool npu_is_filled(struct npu_ctx *ctx, uint32_t handle, uint64_t size, uint32_t pattern);
void npu_fill(struct npu_ctx *ctx, uint32_t handle, uint64_t size, uint32_t pattern);

/* npu_dmabuf.c: dma-bufs, those of buffer objects and those that others export. */

struct npu_dmabuf {
	int fd;
	uint64_t size;
	volatile uint64_t *cpu;	/* its memory; in another order if it was given one */
};

struct npu_dmabufs {
	unsigned int buffers;
	unsigned int attached;
};

int npu_export(int fd, uint32_t handle);
int npu_import(int fd, int dmabuf, uint32_t *handle);
struct npu_dmabuf npu_udmabuf(uint64_t size, unsigned int memfd_flags,
			      uint64_t (*order)(uint64_t page, uint64_t pages));
struct npu_dmabuf npu_heap(uint64_t size);
void npu_dmabuf_free(struct npu_dmabuf *buf);
void npu_dmabuf_tag(const struct npu_dmabuf *buf, uint32_t id);
struct npu_dmabufs npu_dmabufs(void);
void npu_assert_dmabufs(struct npu_dmabufs expected);

/* npu_inject.c: the device's registers, for what no driver would do. */

#define NPU_REG_ID		0x0000
#define NPU_REG_VERSION		0x0004
#define NPU_REG_CAPS		0x0018
#define NPU_CAPS_INJECT		(1u << 1)

enum npu_inject {
	NPU_INJECT_IRQ_DROP = 0x2000,
	NPU_INJECT_IRQ_DELAY = 0x2004,
	NPU_INJECT_COPY_ERROR = 0x2008,
	NPU_INJECT_HANG = 0x200c,
	NPU_INJECT_FAULT_FULL = 0x2010,
	NPU_INJECT_SKIP_TLB = 0x2014,
	NPU_INJECT_DIE = 0x2018,
	NPU_INJECT_COPY_HANG = 0x201c,
};

volatile uint32_t *npu_registers(const char *bdf);
uint32_t npu_reg(volatile uint32_t *regs, unsigned int offset);
void npu_inject(volatile uint32_t *regs, enum npu_inject what, uint32_t value);
void npu_inject_nothing(volatile uint32_t *regs);
int npu_sysfs_write(const char *path, const char *text);
void npu_fail_require(void);
void npu_fail_nth(unsigned int n);
unsigned int npu_fail_left(void);
bool npu_driver_of(const char *bdf, char *name, size_t size);
int npu_module_load(const char *path);
int npu_module_unload(const char *name);

#endif /* NPU_LIB_H */
