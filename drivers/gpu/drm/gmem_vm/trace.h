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

/* A VM begins to mirror the memory of the process that does this. */
TRACE_EVENT(gmem_vm_attach,
	TP_PROTO(u64 vm),
	TP_ARGS(vm),
	TP_STRUCT__entry(
		__field(u64, vm)
	),
	TP_fast_assign(
		__entry->vm = vm;
	),
	TP_printk("vm=%llu", __entry->vm)
);

/*
 * What the page table of a VM has of the process's memory has changed, but by an
 * invalidation, which tells by itself: bytes in all, and those of them that are in device
 * memory. By the sum, so that a trace need not be complete.
 */
TRACE_EVENT(gmem_vm_resident,
	TP_PROTO(u64 vm, u64 resident, u64 mirrored),
	TP_ARGS(vm, resident, mirrored),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, resident)
		__field(u64, mirrored)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->resident = resident;
		__entry->mirrored = mirrored;
	),
	TP_printk("vm=%llu resident=%llu mirrored=%llu", __entry->vm, __entry->resident,
		  __entry->mirrored)
);

/*
 * A fault was served. Bytes moved are those that were copied to the device or back, or made
 * there; wait is from the report until the service began, took how long it was, in ns.
 */
TRACE_EVENT(gmem_vm_fault,
	TP_PROTO(u64 vm, u64 va, u32 access, u64 moved, u64 wait, u64 took, int error),
	TP_ARGS(vm, va, access, moved, wait, took, error),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, va)
		__field(u32, access)
		__field(u64, moved)
		__field(u64, wait)
		__field(u64, took)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->va = va;
		__entry->access = access;
		__entry->moved = moved;
		__entry->wait = wait;
		__entry->took = took;
		__entry->error = error;
	),
	TP_printk("vm=%llu va=%#llx %s moved=%llu wait=%llu took=%llu error=%d", __entry->vm,
		  __entry->va,
		  __print_symbolic(__entry->access, { 0, "read" }, { 1, "write" }, { 2, "fetch" }),
		  __entry->moved, __entry->wait, __entry->took, __entry->error)
);

/* Why memory moved. */
#define GMEM_VM_WHY \
	{ 0, "fault" }, { 1, "prefetch" }, { 2, "job" }, { 3, "advice" }, { 4, "cpu" }, \
	{ 5, "evict" }, { 6, "close" }

/* Memory of a process moved to the device: copied, and made there. Addresses are the process's. */
TRACE_EVENT(gmem_vm_to_device,
	TP_PROTO(u64 vm, u64 start, u64 end, u64 copied, u64 made, u32 why),
	TP_ARGS(vm, start, end, copied, made, why),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, start)
		__field(u64, end)
		__field(u64, copied)
		__field(u64, made)
		__field(u32, why)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->start = start;
		__entry->end = end;
		__entry->copied = copied;
		__entry->made = made;
		__entry->why = why;
	),
	TP_printk("vm=%llu cpu=%#llx-%#llx copied=%llu made=%llu why=%s", __entry->vm,
		  __entry->start, __entry->end, __entry->copied, __entry->made,
		  __print_symbolic(__entry->why, GMEM_VM_WHY))
);

/*
 * Memory of a process came back to the host: copied, and dropped, as the host still had it.
 * What the CPU touches, and what is evicted, is of no VM; the latter has local addresses.
 */
TRACE_EVENT(gmem_vm_to_host,
	TP_PROTO(u64 vm, u64 start, u64 end, u64 copied, u64 dropped, u32 why),
	TP_ARGS(vm, start, end, copied, dropped, why),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, start)
		__field(u64, end)
		__field(u64, copied)
		__field(u64, dropped)
		__field(u32, why)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->start = start;
		__entry->end = end;
		__entry->copied = copied;
		__entry->dropped = dropped;
		__entry->why = why;
	),
	TP_printk("vm=%llu %s=%#llx-%#llx copied=%llu dropped=%llu why=%s", __entry->vm,
		  __entry->why >= 5 ? "local" : "cpu",
		  __entry->start, __entry->end, __entry->copied, __entry->dropped,
		  __print_symbolic(__entry->why, GMEM_VM_WHY))
);

/*
 * A chunk of device memory was chosen and evicted, or could not be: how many pages, of which
 * VM and from which device address on is the block that came into it last, how many blocks
 * are known to have memory there, and for what room was made.
 */
TRACE_EVENT(gmem_vm_evict,
	TP_PROTO(u64 vm, u64 va, u32 homes, u64 chunk, u64 start, u64 end, u64 pages, u32 policy,
		 u32 room, int error),
	TP_ARGS(vm, va, homes, chunk, start, end, pages, policy, room, error),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, va)
		__field(u32, homes)
		__field(u64, chunk)
		__field(u64, start)
		__field(u64, end)
		__field(u64, pages)
		__field(u32, policy)
		__field(u32, room)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->va = va;
		__entry->homes = homes;
		__entry->chunk = chunk;
		__entry->start = start;
		__entry->end = end;
		__entry->pages = pages;
		__entry->policy = policy;
		__entry->room = room;
		__entry->error = error;
	),
	TP_printk("vm=%llu va=%#llx homes=%u chunk=%llu local=%#llx-%#llx pages=%llu policy=%s for=%s error=%d",
		  __entry->vm, __entry->va, __entry->homes, __entry->chunk, __entry->start,
		  __entry->end, __entry->pages,
		  /* In the order of PolicyKind in evict/policy.rs. */
		  __print_symbolic(__entry->policy, { 0, "lirs" }, { 1, "lru" }, { 2, "uvm" },
				   { 3, "gmem" }),
		  __print_symbolic(__entry->room, { 0, "process" }, { 1, "object" }),
		  __entry->error)
);

/*
 * Memory of a buffer object has moved, or could not: to its file, from there to the device, or
 * it is used in the host, for there was no room.
 */
TRACE_EVENT(gmem_vm_object,
	TP_PROTO(u64 bytes, u32 where, int error),
	TP_ARGS(bytes, where, error),
	TP_STRUCT__entry(
		__field(u64, bytes)
		__field(u32, where)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->bytes = bytes;
		__entry->where = where;
		__entry->error = error;
	),
	TP_printk("bytes=%llu to=%s error=%d", __entry->bytes,
		  __print_symbolic(__entry->where, { 0, "file" }, { 1, "host" }, { 2, "device" }),
		  __entry->error)
);

/*
 * The process's memory is about to change, or what was advised of it has: so many bytes that
 * lie there were taken out of the page table, which has resident and mirrored bytes now.
 * Addresses are the process's.
 */
TRACE_EVENT(gmem_vm_invalidate,
	TP_PROTO(u64 vm, u64 start, u64 end, u64 taken, u32 cause, u64 resident, u64 mirrored),
	TP_ARGS(vm, start, end, taken, cause, resident, mirrored),
	TP_STRUCT__entry(
		__field(u64, vm)
		__field(u64, start)
		__field(u64, end)
		__field(u64, taken)
		__field(u32, cause)
		__field(u64, resident)
		__field(u64, mirrored)
	),
	TP_fast_assign(
		__entry->vm = vm;
		__entry->start = start;
		__entry->end = end;
		__entry->taken = taken;
		__entry->cause = cause;
		__entry->resident = resident;
		__entry->mirrored = mirrored;
	),
	TP_printk("vm=%llu cpu=%#llx-%#llx taken=%llu cause=%s resident=%llu mirrored=%llu",
		  __entry->vm, __entry->start, __entry->end, __entry->taken,
		  __print_symbolic(__entry->cause, { 0, "change" }, { 1, "unmap" },
				   { 2, "advice" }),
		  __entry->resident, __entry->mirrored)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
