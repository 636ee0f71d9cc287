// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The tracepoints of gmem_vm, as functions that Rust can call, from this module and
 * from those that embed it (kapi/trace.rs).
 */

#include <linux/export.h>
#include <linux/types.h>

#define CREATE_TRACE_POINTS
#include "trace.h"

void gmem_vm_trace_bind(u64 context, u64 seqno, u64 start, u64 end, u32 ops);
void gmem_vm_trace_bind_done(u64 context, u64 seqno, int error);
void gmem_vm_trace_map(u64 start, u64 end, u32 where, u64 address, u32 access);
void gmem_vm_trace_unmap(u64 start, u64 end);
void gmem_vm_trace_flush(u64 start, u64 end);
void gmem_vm_trace_attach(u64 vm);
void gmem_vm_trace_resident(u64 vm, u64 resident, u64 mirrored);
void gmem_vm_trace_fault(u64 vm, u64 va, u32 access, u64 moved, u64 wait, u64 took, int error);
void gmem_vm_trace_to_device(u64 vm, u64 start, u64 end, u64 copied, u64 made, u32 why);
void gmem_vm_trace_to_host(u64 vm, u64 start, u64 end, u64 copied, u64 dropped, u32 why);
void gmem_vm_trace_evict(u64 vm, u64 va, u32 homes, u64 chunk, u64 start, u64 end, u64 pages,
			 u32 policy, u32 room, int error);
void gmem_vm_trace_object(u64 bytes, u32 where, int error);
void gmem_vm_trace_invalidate(u64 vm, u64 start, u64 end, u64 taken, u32 cause, u64 resident,
			      u64 mirrored);

void gmem_vm_trace_bind(u64 context, u64 seqno, u64 start, u64 end, u32 ops)
{
	trace_gmem_vm_bind(context, seqno, start, end, ops);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_bind);

void gmem_vm_trace_bind_done(u64 context, u64 seqno, int error)
{
	trace_gmem_vm_bind_done(context, seqno, error);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_bind_done);

void gmem_vm_trace_map(u64 start, u64 end, u32 where, u64 address, u32 access)
{
	trace_gmem_vm_map(start, end, where, address, access);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_map);

void gmem_vm_trace_unmap(u64 start, u64 end)
{
	trace_gmem_vm_unmap(start, end);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_unmap);

void gmem_vm_trace_flush(u64 start, u64 end)
{
	trace_gmem_vm_flush(start, end);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_flush);

void gmem_vm_trace_attach(u64 vm)
{
	trace_gmem_vm_attach(vm);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_attach);

void gmem_vm_trace_resident(u64 vm, u64 resident, u64 mirrored)
{
	trace_gmem_vm_resident(vm, resident, mirrored);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_resident);

void gmem_vm_trace_fault(u64 vm, u64 va, u32 access, u64 moved, u64 wait, u64 took, int error)
{
	trace_gmem_vm_fault(vm, va, access, moved, wait, took, error);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_fault);

void gmem_vm_trace_to_device(u64 vm, u64 start, u64 end, u64 copied, u64 made, u32 why)
{
	trace_gmem_vm_to_device(vm, start, end, copied, made, why);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_to_device);

void gmem_vm_trace_to_host(u64 vm, u64 start, u64 end, u64 copied, u64 dropped, u32 why)
{
	trace_gmem_vm_to_host(vm, start, end, copied, dropped, why);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_to_host);

void gmem_vm_trace_evict(u64 vm, u64 va, u32 homes, u64 chunk, u64 start, u64 end, u64 pages,
			 u32 policy, u32 room, int error)
{
	trace_gmem_vm_evict(vm, va, homes, chunk, start, end, pages, policy, room, error);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_evict);

void gmem_vm_trace_invalidate(u64 vm, u64 start, u64 end, u64 taken, u32 cause, u64 resident,
			      u64 mirrored)
{
	trace_gmem_vm_invalidate(vm, start, end, taken, cause, resident, mirrored);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_invalidate);

void gmem_vm_trace_object(u64 bytes, u32 where, int error)
{
	trace_gmem_vm_object(bytes, where, error);
}
EXPORT_SYMBOL_GPL(gmem_vm_trace_object);
