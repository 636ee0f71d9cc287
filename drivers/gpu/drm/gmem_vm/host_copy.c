// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What of the memory management is inline and has no binding: for kapi/host_copy.rs
 * and kapi/migrate.rs.
 */

#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

bool gmem_vm_copy_may_stay(size_t pfn);
void gmem_vm_copy_account(size_t pfn, int pages);
void gmem_vm_copies_reclaimed(size_t pages);
bool gmem_vm_has_left(size_t pfn);

/* Whether nobody counts on it that the page can move: as in ZONE_MOVABLE or CMA. */
bool gmem_vm_copy_may_stay(size_t pfn)
{
	return folio_is_longterm_pinnable(pfn_folio(pfn));
}

/* A copy is memory that can be had if it is needed. */
void gmem_vm_copy_account(size_t pfn, int pages)
{
	mod_node_page_state(folio_pgdat(pfn_folio(pfn)), NR_KERNEL_MISC_RECLAIMABLE, pages);
}

/* Whoever reclaims memory learns that there is some. */
void gmem_vm_copies_reclaimed(size_t pages)
{
	mm_account_reclaimed_pages(pages);
}

/*
 * Whether what was in a page has moved on, and somebody only has not let go of the page yet. It must be locked. The
 * charge moves along with what is in it.
 */
bool gmem_vm_has_left(size_t pfn)
{
	return !mem_cgroup_disabled() && !folio_memcg_charged(pfn_folio(pfn));
}
