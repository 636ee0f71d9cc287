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
