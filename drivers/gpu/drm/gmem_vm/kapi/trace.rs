// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The tracepoints of gmem_vm, group `gmem_vm` in tracefs.
//!
//! They are defined in `trace.h`; what each tells stands there. Can be called in any context.

use kernel::prelude::*;

extern "C" {
    fn gmem_vm_trace_bind(context: u64, seqno: u64, start: u64, end: u64, ops: u32);
    fn gmem_vm_trace_bind_done(context: u64, seqno: u64, error: c_int);
    fn gmem_vm_trace_map(start: u64, end: u64, location: u32, address: u64, access: u32);
    fn gmem_vm_trace_unmap(start: u64, end: u64);
    fn gmem_vm_trace_flush(start: u64, end: u64);
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

/// A batch was queued, with this fence, that has `ops` operations, all within a range.
pub fn bind(fence: (u64, u64), start: u64, end: u64, ops: usize) {
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_bind(fence.0, fence.1, start, end, ops as u32) };
}

/// A batch is done.
pub fn bind_done(fence: (u64, u64), result: Result) {
    let error = result.err().map_or(0, |e| e.to_errno());
    // SAFETY: All arguments are plain numbers.
    unsafe { gmem_vm_trace_bind_done(fence.0, fence.1, error) };
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
