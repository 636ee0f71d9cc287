// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * drm_gpuvm's side of the bind benchmark: the bookkeeping of a driver that binds
 * synchronously, in the cheapest way that the API allows.
 *
 * Locking: the VM's dma_resv is the only lock. All buffer objects share it, as
 * those local to a VM do, so that it guards the tree and the objects' lists of
 * mappings at once (DRM_GPUVM_RESV_PROTECTED). With DRM_GPUVM_IMMEDIATE_MODE a
 * driver would need a VM lock and, for every vm_bo and link, the object's
 * gpuva.lock besides. Without an acquire context a dma_resv is a mutex: each
 * operation takes one, as on the other side.
 *
 * Allocation: the mappings that an operation can add are allocated before it
 * begins, three for a map (itself, what is left before and behind it), two for
 * an unmap. What it does not use is kept for the next instead of freed, so that
 * an operation allocates only as many as the one before used. Removed mappings
 * are freed on the spot; a driver with a device to flush would queue them.
 *
 * References: an operation begins with one on the object, as a handle's lookup
 * gives.
 */

#include <linux/device/faux.h>
#include <linux/dma-resv.h>
#include <linux/slab.h>
#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_gem.h>
#include <drm/drm_gpuvm.h>
#include "bench.h"

/* What gmem_vm's Access is: the device may write. */
#define BENCH_VA_WRITE	DRM_GPUVA_USERBITS

#define SPARES		3

struct bench_bo {
	struct drm_gem_object base;
	u32 index;
};

#define to_bench_bo(obj) container_of(obj, struct bench_bo, base)

struct bench_vm {
	struct drm_gpuvm base;
	struct bench_bo *bos[BIND_BOS];
	u64 replaced;
	unsigned int spares;
	struct drm_gpuva *spare[SPARES];
};

#define to_bench_vm(gpuvm) container_of(gpuvm, struct bench_vm, base)

/* What the steps of one operation share. */
struct bench_steps {
	struct bench_vm *vm;
	struct drm_gpuvm_bo *vm_bo;
	bool replaced;
};

static struct faux_device *faux;
static struct drm_device *drm;

static int prepare(struct bench_vm *vm, unsigned int n)
{
	struct drm_gpuva *va;

	while (vm->spares < n) {
		va = kzalloc_obj(*va);
		if (!va)
			return -ENOMEM;
		vm->spare[vm->spares++] = va;
	}
	return 0;
}

static int step_map(struct drm_gpuva_op *op, void *priv)
{
	struct bench_steps *steps = priv;
	struct bench_vm *vm = steps->vm;
	struct drm_gpuva *va = vm->spare[--vm->spares];

	va->flags = BENCH_VA_WRITE;
	drm_gpuva_map(&vm->base, va, &op->map);
	drm_gpuva_link(va, steps->vm_bo);
	return 0;
}

static int step_remap(struct drm_gpuva_op *op, void *priv)
{
	struct bench_steps *steps = priv;
	struct bench_vm *vm = steps->vm;
	struct drm_gpuva *va = op->remap.unmap->va, *prev = NULL, *next = NULL;

	steps->replaced = true;
	if (op->remap.prev) {
		prev = vm->spare[--vm->spares];
		prev->flags = va->flags;
	}
	if (op->remap.next) {
		next = vm->spare[--vm->spares];
		next->flags = va->flags;
	}
	drm_gpuva_remap(prev, next, &op->remap);
	/* Before the old one is unlinked, so that the vm_bo stays. */
	if (prev)
		drm_gpuva_link(prev, va->vm_bo);
	if (next)
		drm_gpuva_link(next, va->vm_bo);
	drm_gpuva_unlink(va);
	kfree(va);
	return 0;
}

static int step_unmap(struct drm_gpuva_op *op, void *priv)
{
	struct bench_steps *steps = priv;
	struct drm_gpuva *va = op->unmap.va;

	steps->replaced = true;
	drm_gpuva_unmap(&op->unmap);
	drm_gpuva_unlink(va);
	kfree(va);
	return 0;
}

static void vm_free(struct drm_gpuvm *gpuvm)
{
	kfree(to_bench_vm(gpuvm));
}

static const struct drm_gpuvm_ops vm_ops = {
	.vm_free = vm_free,
	.sm_step_map = step_map,
	.sm_step_remap = step_remap,
	.sm_step_unmap = step_unmap,
};

static void bo_free(struct drm_gem_object *obj)
{
	drm_gem_private_object_fini(obj);
	kfree(to_bench_bo(obj));
}

static const struct drm_gem_object_funcs bo_funcs = {
	.free = bo_free,
};

static void gpuvm_destroy(void *data)
{
	struct bench_vm *vm = data;
	struct bench_steps steps = { .vm = vm };
	unsigned int i;

	dma_resv_lock(drm_gpuvm_resv(&vm->base), NULL);
	drm_gpuvm_sm_unmap(&vm->base, &steps, BIND_FIRST << PAGE_SHIFT, BIND_PAGES << PAGE_SHIFT);
	dma_resv_unlock(drm_gpuvm_resv(&vm->base));
	while (vm->spares)
		kfree(vm->spare[--vm->spares]);
	for (i = 0; i < BIND_BOS; i++) {
		if (vm->bos[i])
			drm_gem_object_put(&vm->bos[i]->base);
	}
	drm_gpuvm_put(&vm->base);
}

static void *gpuvm_create(void)
{
	struct drm_gem_object *resv_obj = drm_gpuvm_resv_object_alloc(drm);
	struct bench_vm *vm = kzalloc_obj(*vm);
	struct bench_bo *bo;
	u32 i;

	if (!resv_obj || !vm) {
		if (resv_obj)
			drm_gem_object_put(resv_obj);
		kfree(vm);
		return NULL;
	}
	drm_gpuvm_init(&vm->base, "bench", DRM_GPUVM_RESV_PROTECTED, drm, resv_obj,
		       BIND_FIRST << PAGE_SHIFT, BIND_PAGES << PAGE_SHIFT, 0, 0, &vm_ops);
	drm_gem_object_put(resv_obj);

	for (i = 0; i < BIND_BOS; i++) {
		bo = kzalloc_obj(*bo);
		if (!bo) {
			gpuvm_destroy(vm);
			return NULL;
		}
		bo->index = i;
		bo->base.funcs = &bo_funcs;
		bo->base.resv = drm_gpuvm_resv(&vm->base);
		drm_gem_private_object_init(drm, &bo->base, BIND_BO_PAGES << PAGE_SHIFT);
		vm->bos[i] = bo;
	}
	return vm;
}

static int gpuvm_map(void *data, u64 page, u64 pages, u32 bo, u64 bo_page)
{
	struct bench_vm *vm = data;
	struct drm_gem_object *obj = &vm->bos[bo]->base;
	struct bench_steps steps = { .vm = vm };
	struct drm_gpuvm_map_req req = {
		.map.va.addr = page << PAGE_SHIFT,
		.map.va.range = pages << PAGE_SHIFT,
		.map.gem.obj = obj,
		.map.gem.offset = bo_page << PAGE_SHIFT,
	};
	int ret;

	drm_gem_object_get(obj);
	dma_resv_lock(drm_gpuvm_resv(&vm->base), NULL);
	ret = prepare(vm, 3);
	if (ret)
		goto unlock;
	steps.vm_bo = drm_gpuvm_bo_obtain_locked(&vm->base, obj);
	if (IS_ERR(steps.vm_bo)) {
		ret = PTR_ERR(steps.vm_bo);
		goto unlock;
	}
	ret = drm_gpuvm_sm_map(&vm->base, &steps, &req);
	vm->replaced += steps.replaced;
	drm_gpuvm_bo_put(steps.vm_bo);
unlock:
	dma_resv_unlock(drm_gpuvm_resv(&vm->base));
	drm_gem_object_put(obj);
	return ret;
}

static int gpuvm_unmap(void *data, u64 page, u64 pages)
{
	struct bench_vm *vm = data;
	struct bench_steps steps = { .vm = vm };
	int ret;

	dma_resv_lock(drm_gpuvm_resv(&vm->base), NULL);
	ret = prepare(vm, 2);
	if (!ret)
		ret = drm_gpuvm_sm_unmap(&vm->base, &steps, page << PAGE_SHIFT,
					 pages << PAGE_SHIFT);
	vm->replaced += steps.replaced;
	dma_resv_unlock(drm_gpuvm_resv(&vm->base));
	return ret;
}

static u64 gpuvm_replaced(void *data)
{
	struct bench_vm *vm = data;

	return vm->replaced;
}

static u64 gpuvm_lookup(void *data, u64 page)
{
	struct bench_vm *vm = data;
	struct drm_gpuva *va;
	u64 addr = page << PAGE_SHIFT, value = 0;

	dma_resv_lock(drm_gpuvm_resv(&vm->base), NULL);
	va = drm_gpuva_find_first(&vm->base, addr, PAGE_SIZE);
	if (va)
		value = bind_value(to_bench_bo(va->gem.obj)->index,
				   (va->gem.offset + addr - va->va.addr) >> PAGE_SHIFT);
	dma_resv_unlock(drm_gpuvm_resv(&vm->base));
	return value;
}

static u64 gpuvm_digest(void *data)
{
	struct bench_vm *vm = data;
	struct drm_gpuva *va;
	u64 sum = 0;

	drm_gpuvm_for_each_va(va, &vm->base) {
		sum += bind_digest(va->va.addr >> PAGE_SHIFT, va->va.range >> PAGE_SHIFT,
				   to_bench_bo(va->gem.obj)->index, va->gem.offset >> PAGE_SHIFT);
	}
	return sum;
}

static u64 gpuvm_len(void *data)
{
	struct bench_vm *vm = data;
	struct drm_gpuva *va;
	u64 n = 0;

	drm_gpuvm_for_each_va(va, &vm->base)
		n++;
	return n;
}

static u64 gpuvm_bytes(void *data)
{
	struct bench_vm *vm = data;
	struct drm_gpuvm_bo *vm_bo;
	u64 n = 0;
	u32 i;

	dma_resv_lock(drm_gpuvm_resv(&vm->base), NULL);
	for (i = 0; i < BIND_BOS; i++) {
		drm_gem_for_each_gpuvm_bo(vm_bo, &vm->bos[i]->base)
			n++;
	}
	dma_resv_unlock(drm_gpuvm_resv(&vm->base));
	return n * kmalloc_size_roundup(sizeof(*vm_bo)) +
	       (gpuvm_len(vm) + vm->spares) * kmalloc_size_roundup(sizeof(struct drm_gpuva));
}

const struct bind_side bind_gpuvm = {
	.name = "drm_gpuvm",
	.create = gpuvm_create,
	.destroy = gpuvm_destroy,
	.map = gpuvm_map,
	.unmap = gpuvm_unmap,
	.lookup = gpuvm_lookup,
	.digest = gpuvm_digest,
	.len = gpuvm_len,
	.bytes = gpuvm_bytes,
	.replaced = gpuvm_replaced,
};

static const struct drm_driver driver = {
	.driver_features = DRIVER_GEM,
	.name = "bench",
	.desc = "bind benchmark",
};

/* A device that userspace never sees: a GEM object must have one. */
int bind_gpuvm_init(void)
{
	faux = faux_device_create("bench_bind", NULL, NULL);
	if (!faux)
		return -ENODEV;
	drm = drm_dev_alloc(&driver, &faux->dev);
	if (IS_ERR(drm)) {
		faux_device_destroy(faux);
		return PTR_ERR(drm);
	}
	return 0;
}

void bind_gpuvm_exit(void)
{
	drm_dev_put(drm);
	faux_device_destroy(faux);
}
