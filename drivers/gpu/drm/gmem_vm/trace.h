/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Tracepoints of gmem_vm, called from Rust by the functions in trace.c.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM gmem_vm

#if !defined(_GMEM_VM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _GMEM_VM_TRACE_H

#include <linux/tracepoint.h>

/* A batch was queued: its range covers all that it changes. */
TRACE_EVENT(gmem_vm_bind,
	TP_PROTO(u64 context, u64 seqno, u64 start, u64 end, u32 ops),
	TP_ARGS(context, seqno, start, end, ops),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(u64, seqno)
		__field(u64, start)
		__field(u64, end)
		__field(u32, ops)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->seqno = seqno;
		__entry->start = start;
		__entry->end = end;
		__entry->ops = ops;
	),
	TP_printk("fence=%llu:%llu range=%#llx-%#llx ops=%u", __entry->context,
		  __entry->seqno, __entry->start, __entry->end, __entry->ops)
);

/* A batch is done, and its fence is about to be signalled. */
TRACE_EVENT(gmem_vm_bind_done,
	TP_PROTO(u64 context, u64 seqno, int error),
	TP_ARGS(context, seqno, error),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(u64, seqno)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->seqno = seqno;
		__entry->error = error;
	),
	TP_printk("fence=%llu:%llu error=%d", __entry->context, __entry->seqno, __entry->error)
);

/* A run was mapped in a page table. */
TRACE_EVENT(gmem_vm_map,
	TP_PROTO(u64 start, u64 end, u32 where, u64 address, u32 access),
	TP_ARGS(start, end, where, address, access),
	TP_STRUCT__entry(
		__field(u64, start)
		__field(u64, end)
		__field(u32, where)
		__field(u64, address)
		__field(u32, access)
	),
	TP_fast_assign(
		__entry->start = start;
		__entry->end = end;
		__entry->where = where;
		__entry->address = address;
		__entry->access = access;
	),
	TP_printk("range=%#llx-%#llx %s address=%#llx r%s%s", __entry->start, __entry->end,
		  __print_symbolic(__entry->where, { 0, "sparse" }, { 1, "host" }, { 2, "device" }),
		  __entry->address, __entry->access & 1 ? "w" : "-",
		  __entry->access & 2 ? "x" : "-")
);

DECLARE_EVENT_CLASS(gmem_vm_range,
	TP_PROTO(u64 start, u64 end),
	TP_ARGS(start, end),
	TP_STRUCT__entry(
		__field(u64, start)
		__field(u64, end)
	),
	TP_fast_assign(
		__entry->start = start;
		__entry->end = end;
	),
	TP_printk("range=%#llx-%#llx", __entry->start, __entry->end)
);

/* A range was unmapped in a page table. */
DEFINE_EVENT(gmem_vm_range, gmem_vm_unmap, TP_PROTO(u64 start, u64 end), TP_ARGS(start, end));

/* A batch was committed; the device was told to forget the range, if it could know it. */
DEFINE_EVENT(gmem_vm_range, gmem_vm_flush, TP_PROTO(u64 start, u64 end), TP_ARGS(start, end));

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
