// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The tracepoints of gmem_vm, group `gmem_vm` in tracefs.
//!
//! They are defined in `trace.h`; what each tells stands there. Can be called in any context.

use core::ops::Range;
use kernel::prelude::*;

extern "C" {
    fn gmem_vm_trace_bind(context: u64, seqno: u64, start: u64, end: u64, ops: u32);
    fn gmem_vm_trace_bind_done(context: u64, seqno: u64, error: c_int);
    fn gmem_vm_trace_map(start: u64, end: u64, location: u32, address: u64, access: u32);
    fn gmem_vm_trace_unmap(start: u64, end: u64);
    fn gmem_vm_trace_flush(start: u64, end: u64);
    fn gmem_vm_trace_attach(vm: u64);
    fn gmem_vm_trace_resident(vm: u64, resident: u64, mirrored: u64);
    fn gmem_vm_trace_fault(
        vm: u64,
        va: u64,
        access: u32,
        moved: u64,
        wait: u64,
        took: u64,
        error: c_int,
    );
    fn gmem_vm_trace_to_device(vm: u64, start: u64, end: u64, copied: u64, made: u64, why: u32);
    fn gmem_vm_trace_to_host(vm: u64, start: u64, end: u64, copied: u64, dropped: u64, why: u32);
    fn gmem_vm_trace_evict(
        vm: u64,
        va: u64,
        homes: u32,
        chunk: u64,
        start: u64,
        end: u64,
        pages: u64,
        policy: u32,
        room: u32,
        error: c_int,
    );
    fn gmem_vm_trace_object(bytes: u64, location: u32, error: c_int);
    fn gmem_vm_trace_invalidate(
        vm: u64,
        start: u64,
        end: u64,
        taken: u64,
        cause: u32,
        resident: u64,
        mirrored: u64,
    );
}

/// Memory of a run that was mapped.
#[derive(Clone, Copy)]
pub enum Where {
    /// None.
    Sparse = 0,
    /// The host's.
    Host = 1,
    /// The device's.
    Device = 2,
}

/// Why memory moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The device faulted.
    Fault = 0,
    /// Userspace prefetched it.
    Prefetch = 1,
    /// A job needs it that can't fault.
    Job = 2,
    /// It was advised to be in the host, as was found by one of these.
    Advice = 3,
    /// The CPU touched it.
    Cpu = 4,
    /// Room was needed.
    Evict = 5,
    /// The driver is being unbound.
    Close = 6,
}

/// For what room is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// Memory of a process.
    Process = 0,
    /// A buffer object or a page table.
    Object = 1,
}

/// Why something was taken out of a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The process's memory changes, or moves.
    Change = 0,
    /// It is unmapped.
    Unmap = 1,
    /// What was advised changes.
    Advice = 2,
}

/// A chunk of device memory that was chosen to be evicted.
pub struct Eviction {
    /// The VM whose block came into it last, and that block's first device address.
    pub home: (u64, u64),
    /// How many blocks are known to have memory in it.
    pub homes: usize,
    /// Its number.
    pub chunk: usize,
    /// Its local addresses.
    pub local: Range<u64>,
    /// Number of the policy that chose it.
    pub policy: u32,
    /// For what.
    pub room: Room,
    /// How many pages came back to the host, or why none did.
    pub result: Result<usize>,
}

fn errno<T>(result: &Result<T>) -> c_int {
    result.as_ref().err().map_or(0, |e| e.to_errno())
}

/// A batch was queued, with this fence, that has `ops` operations, all within a range.
pub fn bind(fence: (u64, u64), start: u64, end: u64, ops: usize) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_bind(fence.0, fence.1, start, end, ops as u32) };
}

/// A batch is done.
pub fn bind_done(fence: (u64, u64), result: Result) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_bind_done(fence.0, fence.1, errno(&result)) };
}

/// A run was mapped.
pub fn map(start: u64, end: u64, location: Where, address: u64, write: bool, exec: bool) {
    let access = u32::from(write) | u32::from(exec) << 1;
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_map(start, end, location as u32, address, access) };
}

/// A range was unmapped.
pub fn unmap(start: u64, end: u64) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_unmap(start, end) };
}

/// A batch was committed to the page table; the driver has started a flush, if one is needed.
pub fn flush(start: u64, end: u64) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_flush(start, end) };
}

/// A VM begins to mirror the calling process.
pub fn attach(vm: u64) {
    // SAFETY: It is a plain number.
    unsafe { gmem_vm_trace_attach(vm) };
}

/// A page table has so many bytes of a process now, so many of them in device memory.
pub fn resident(vm: u64, resident: u64, mirrored: u64) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_resident(vm, resident, mirrored) };
}

/// A fault was served, for which so many bytes moved; `access` is 0 for a read, 1 for a write, 2 for a fetch; `wait`
/// and `took` are in nanoseconds.
pub fn fault(vm: u64, va: u64, access: u32, moved: u64, (wait, took): (u64, u64), result: Result) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_fault(vm, va, access, moved, wait, took, errno(&result)) };
}

/// Memory moved to the device, so many bytes of it copied and so many made there.
pub fn to_device(vm: u64, cpu: Range<u64>, copied: u64, made: u64, why: Why) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_to_device(vm, cpu.start, cpu.end, copied, made, why as u32) };
}

/// Memory came back to the host, so many bytes of it copied and so many dropped. What is evicted or closed has local
/// addresses; the VM is 0 if it is of none.
pub fn to_host(vm: u64, range: Range<u64>, copied: u64, dropped: u64, why: Why) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_to_host(vm, range.start, range.end, copied, dropped, why as u32) };
}

/// A chunk was evicted, or could not be.
pub fn evict(eviction: &Eviction) {
    let Eviction { home, local, .. } = eviction;
    // SAFETY: All arguments are plain numbers.
    unsafe {
        gmem_vm_trace_evict(
            home.0,
            home.1,
            eviction.homes as u32,
            eviction.chunk as u64,
            local.start,
            local.end,
            *eviction.result.as_ref().unwrap_or(&0) as u64,
            eviction.policy,
            eviction.room as u32,
            errno(&eviction.result),
        )
    };
}

/// Memory of a buffer object moved, or could not; `Sparse`: to its file.
pub fn object(bytes: u64, location: Where, result: Result) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_object(bytes, location as u32, errno(&result)) };
}

/// So many bytes of a range of the process were taken out of a page table; `left` as for [`resident`].
pub fn invalidate(vm: u64, cpu: Range<u64>, taken: u64, cause: Cause, left: (u64, u64)) {
    let (start, end, cause) = (cpu.start, cpu.end, cause as u32);
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_invalidate(vm, start, end, taken, cause, left.0, left.1) };
}
