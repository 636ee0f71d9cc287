// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The structures of `include/uapi/drm/npu_accel.h`, where their fields are documented.

use kernel::prelude::*;

/// See `struct drm_npu_queue_create`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct QueueCreate {
    pub(crate) flags: u32,
    pub(crate) queue_id: u32,
}

/// See `struct drm_npu_queue_destroy`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct QueueDestroy {
    pub(crate) queue_id: u32,
    pub(crate) pad: u32,
}

/// See `struct drm_npu_range`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct Range {
    pub(crate) va: u64,
    pub(crate) size: u64,
}

/// See `struct drm_npu_submit`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct Submit {
    pub(crate) queue_id: u32,
    pub(crate) vm_id: u32,
    pub(crate) commands: u64,
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) num_syncs: u32,
    pub(crate) num_ranges: u32,
    pub(crate) syncs: u64,
    pub(crate) ranges: u64,
}

/// See `struct drm_npu_job_status`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct JobStatus {
    pub(crate) queue_id: u32,
    pub(crate) error: u32,
    pub(crate) seqno: u64,
    pub(crate) detail: u64,
    pub(crate) reason: u32,
    pub(crate) access: u32,
    pub(crate) completed: u64,
}

/// See `struct drm_npu_query`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub(crate) struct Query {
    pub(crate) flags: u32,
    pub(crate) version: u32,
    pub(crate) num_queues: u32,
    pub(crate) job_timeout_ms: u32,
    pub(crate) timestamp: u64,
    pub(crate) jobs_ok: u64,
    pub(crate) jobs_failed: u64,
    pub(crate) tlb_hits: u64,
    pub(crate) tlb_misses: u64,
    pub(crate) tlb_invalidations: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) bytes_to_device: u64,
    pub(crate) bytes_to_host: u64,
    pub(crate) bytes_cleared: u64,
}

// Numbers of the ioctls, from `DRM_COMMAND_BASE` on.
pub(crate) const QUERY_DEVICE: u32 = 0x00;
pub(crate) const VM_CREATE: u32 = 0x01;
pub(crate) const VM_DESTROY: u32 = 0x02;
pub(crate) const BO_CREATE: u32 = 0x03;
pub(crate) const BO_MMAP: u32 = 0x04;
pub(crate) const BIND: u32 = 0x05;
pub(crate) const UNBIND: u32 = 0x06;
pub(crate) const QUEUE_CREATE: u32 = 0x07;
pub(crate) const QUEUE_DESTROY: u32 = 0x08;
pub(crate) const SUBMIT: u32 = 0x09;
pub(crate) const JOB_STATUS: u32 = 0x0a;
pub(crate) const QUERY: u32 = 0x0b;
pub(crate) const BIND_QUEUE_CREATE: u32 = 0x0c;
pub(crate) const BIND_QUEUE_DESTROY: u32 = 0x0d;
pub(crate) const ADVISE: u32 = 0x0e;
pub(crate) const QUERY_RANGE: u32 = 0x0f;
pub(crate) const PREFETCH: u32 = 0x10;
pub(crate) const VM_STATS: u32 = 0x11;
pub(crate) const DISCARD: u32 = 0x12;
