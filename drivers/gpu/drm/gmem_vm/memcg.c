// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What of memory control groups is inline and has no binding: for kapi/memcg.rs.
 */

#include <linux/memcontrol.h>
#include <linux/sched/mm.h>

void *gmem_vm_memcg_get(void);
void gmem_vm_memcg_put(void *memcg);
void *gmem_vm_memcg_enter(void *memcg);
void gmem_vm_memcg_leave(void *before);

/* That of the calling process, with a reference; NULL if there are none. */
void *gmem_vm_memcg_get(void)
{
	return get_mem_cgroup_from_mm(current->mm);
}

void gmem_vm_memcg_put(void *memcg)
{
	mem_cgroup_put(memcg);
}

/* What is allocated from now on is charged to it; returns what leave() wants. */
void *gmem_vm_memcg_enter(void *memcg)
{
	return set_active_memcg(memcg);
}

void gmem_vm_memcg_leave(void *before)
{
	set_active_memcg(before);
}
