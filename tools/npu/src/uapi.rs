// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The uAPI's structures and ioctl numbers, as `include/uapi/drm/gmem_vm.h`, `npu_accel.h` and
//! the kernel's `drm.h` define them.
//!
//! The names are those of the headers without their `drm_` prefix; the headers say what each
//! field means. A test compiles the headers and compares every size, offset and number.

#![allow(missing_docs)]

/// `DRM_IOWR(nr, T)`.
const fn iowr<T>(nr: u32) -> u32 {
    ioc(3, nr, size_of::<T>())
}

/// `DRM_IOW(nr, T)`.
const fn iow<T>(nr: u32) -> u32 {
    ioc(1, nr, size_of::<T>())
}

const fn ioc(direction: u32, nr: u32, size: usize) -> u32 {
    (direction << 30) | ((size as u32) << 16) | ((b'd' as u32) << 8) | nr
}

/// Defines structures of integers only, zero by default.
macro_rules! structures {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $(pub $field: $type,)* }
    )*};
}

structures! {
    /// `struct drm_version`.
    Version {
        version_major: i32,
        version_minor: i32,
        version_patchlevel: i32,
        name_len: usize,
        name: usize,
        date_len: usize,
        date: usize,
        desc_len: usize,
        desc: usize,
    }

    /// `struct drm_gem_close`.
    GemClose { handle: u32, pad: u32, }

    /// `struct drm_syncobj_create`.
    SyncobjCreate { handle: u32, flags: u32, }

    /// `struct drm_syncobj_destroy`.
    SyncobjDestroy { handle: u32, pad: u32, }

    /// `struct drm_syncobj_wait`.
    SyncobjWait {
        handles: u64,
        timeout_nsec: i64,
        count_handles: u32,
        flags: u32,
        first_signaled: u32,
        pad: u32,
        deadline_nsec: u64,
    }

    /// `struct drm_syncobj_timeline_wait`.
    SyncobjTimelineWait {
        handles: u64,
        points: u64,
        timeout_nsec: i64,
        count_handles: u32,
        flags: u32,
        first_signaled: u32,
        pad: u32,
        deadline_nsec: u64,
    }

    /// `struct drm_syncobj_array`.
    SyncobjArray { handles: u64, count_handles: u32, pad: u32, }

    /// `struct drm_syncobj_timeline_array`.
    SyncobjTimelineArray { handles: u64, points: u64, count_handles: u32, flags: u32, }

    /// `struct drm_gmem_query_device`.
    QueryDevice {
        flags: u32,
        pad: u32,
        page_sizes: u64,
        va_start: u64,
        va_end: u64,
        mem_total: u64,
        mem_visible: u64,
        mem_free: u64,
        caps: u64,
        mirror_end: u64,
    }

    /// `struct drm_gmem_vm_create`.
    VmCreate { flags: u32, vm_id: u32, }

    /// `struct drm_gmem_vm_destroy`.
    VmDestroy { vm_id: u32, pad: u32, }

    /// `struct drm_gmem_bo_create`.
    BoCreate { size: u64, flags: u32, handle: u32, }

    /// `struct drm_gmem_bo_mmap`.
    BoMmap { handle: u32, flags: u32, offset: u64, }

    /// `struct drm_gmem_bind_op`.
    BindOp {
        op: u32,
        flags: u32,
        handle: u32,
        pad: u32,
        va: u64,
        size: u64,
        bo_offset: u64,
        attrs: u64,
    }

    /// `struct drm_gmem_bind`.
    Bind {
        vm_id: u32,
        flags: u32,
        num_ops: u32,
        num_syncs: u32,
        ops: u64,
        syncs: u64,
        queue_id: u32,
        pad: u32,
    }

    /// `struct drm_gmem_bind_queue_create`.
    BindQueueCreate { vm_id: u32, flags: u32, queue_id: u32, pad: u32, }

    /// `struct drm_gmem_bind_queue_destroy`.
    BindQueueDestroy { queue_id: u32, pad: u32, }

    /// `struct drm_gmem_unbind`.
    Unbind { vm_id: u32, flags: u32, va: u64, size: u64, }

    /// `struct drm_gmem_sync`.
    Sync { handle: u32, flags: u32, point: u64, }

    /// `struct drm_gmem_attr`.
    Attr { kind: u32, pad: u32, value: u64, }

    /// `struct drm_gmem_advise`.
    Advise {
        vm_id: u32,
        flags: u32,
        va: u64,
        size: u64,
        num_attrs: u32,
        pad: u32,
        attrs: u64,
    }

    /// `struct drm_gmem_range`.
    RangeEntry {
        va: u64,
        size: u64,
        mapping: u32,
        flags: u32,
        residency: u32,
        pad: u32,
        bo_offset: u64,
        attrs: u64,
        advice: [u64; 16],
        faults: u64,
        refaults: u64,
        evicted: u32,
        pad2: u32,
    }

    /// `struct drm_gmem_query_range`.
    QueryRange {
        vm_id: u32,
        flags: u32,
        va: u64,
        size: u64,
        num_ranges: u32,
        pad: u32,
        ranges: u64,
    }

    /// `struct drm_gmem_prefetch`.
    Prefetch {
        vm_id: u32,
        flags: u32,
        va: u64,
        size: u64,
        location: u64,
        moved: u64,
        mapped: u64,
    }

    /// `struct drm_gmem_discard`.
    Discard {
        vm_id: u32,
        flags: u32,
        va: u64,
        size: u64,
        discarded: u64,
        retained: u64,
    }

    /// `struct drm_gmem_vm_stats`.
    VmStats {
        vm_id: u32,
        flags: u32,
        faults: u64,
        merged: u64,
        bad: u64,
        retries: u64,
        invalidations: u64,
        to_device: u64,
        made: u64,
        stayed: u64,
        mirrored: u64,
        extents: u64,
        bytes: u64,
    }

    /// `struct drm_npu_queue_create`.
    QueueCreate { flags: u32, queue_id: u32, }

    /// `struct drm_npu_queue_destroy`.
    QueueDestroy { queue_id: u32, pad: u32, }

    /// `struct drm_npu_range`.
    Range { va: u64, size: u64, }

    /// `struct drm_npu_submit`.
    Submit {
        queue_id: u32,
        vm_id: u32,
        commands: u64,
        size: u32,
        flags: u32,
        num_syncs: u32,
        num_ranges: u32,
        syncs: u64,
        ranges: u64,
    }

    /// `struct drm_npu_job_status`.
    JobStatus {
        queue_id: u32,
        error: u32,
        seqno: u64,
        detail: u64,
        reason: u32,
        access: u32,
        completed: u64,
    }

    /// `struct drm_npu_query`.
    Query {
        flags: u32,
        version: u32,
        num_queues: u32,
        job_timeout_ms: u32,
        timestamp: u64,
        jobs_ok: u64,
        jobs_failed: u64,
        tlb_hits: u64,
        tlb_misses: u64,
        tlb_invalidations: u64,
        bytes_read: u64,
        bytes_written: u64,
        bytes_to_device: u64,
        bytes_to_host: u64,
        bytes_cleared: u64,
    }
}

pub const CAP_FAULTS: u64 = 1 << 0;

pub const BO_DEVICE: u32 = 1 << 0;
pub const BO_HOST: u32 = 1 << 1;
pub const BO_CPU_VISIBLE: u32 = 1 << 2;

pub const BIND_OP_MAP_BO: u32 = 0;
pub const BIND_OP_UNMAP: u32 = 1;
pub const BIND_OP_MAP_SPARSE: u32 = 2;
pub const BIND_OP_MAP_MIRROR: u32 = 3;
pub const BIND_READONLY: u32 = 1 << 0;
pub const BIND_EXEC: u32 = 1 << 1;
pub const BIND_ASYNC: u32 = 1 << 0;

pub const SYNC_SIGNAL: u32 = 1 << 0;
pub const SYNC_TIMELINE: u32 = 1 << 1;

pub const ATTR_PREFERRED_LOCATION: u32 = 0;
pub const ATTR_ACCESS: u32 = 1;
pub const ATTR_READ_MOSTLY: u32 = 2;
pub const ATTR_ALWAYS_MAPPED: u32 = 3;
pub const ATTR_READ_ONLY: u32 = 4;
pub const ATTR_EXEC: u32 = 5;
pub const ATTR_ATOMICS: u32 = 6;
pub const ATTR_GRANULARITY: u32 = 7;
pub const ATTR_MIGRATION_POLICY: u32 = 8;
pub const ATTR_PINNED: u32 = 9;
pub const ATTR_EVICTION_PRIORITY: u32 = 10;
pub const ATTR_AUTO_RESET: u32 = 11;
pub const ATTR_FOLLOW: u32 = 12;
pub const ATTR_DRIVER: u32 = 13;
pub const ATTR_COUNT: u32 = 14;

pub const LOCATION_DEFAULT: u64 = 0;
pub const LOCATION_HOST: u64 = 1 << 32;
/// `DRM_GMEM_LOCATION_HOST_NODE(node)`.
pub const fn location_host_node(node: u32) -> u64 {
    (2 << 32) | node as u64
}
pub const LOCATION_DEVICE: u64 = 3 << 32;

pub const ACCESS_DEFAULT: u64 = 0;
pub const ACCESS_NONE: u64 = 1;
pub const ACCESS_MIGRATE: u64 = 2;
pub const ACCESS_IN_PLACE: u64 = 3;

pub const ATOMICS_UNDEFINED: u64 = 0;
pub const ATOMICS_DEVICE: u64 = 1;
pub const ATOMICS_GLOBAL: u64 = 2;
pub const ATOMICS_CPU: u64 = 3;

pub const MIGRATE_ALL: u64 = 0;
pub const MIGRATE_SYSTEM: u64 = 1;

pub const ADVISE_RESET: u32 = 1 << 0;

pub const DISCARD_UNDO: u32 = 1 << 0;
pub const DISCARD_PREFETCH: u32 = 1 << 1;

pub const MAPPING_NONE: u32 = 0;
pub const MAPPING_BO: u32 = 1;
pub const MAPPING_SPARSE: u32 = 2;
pub const MAPPING_MIRROR: u32 = 3;

pub const RESIDENT_NOWHERE: u32 = 0;
pub const RESIDENT_HOST: u32 = 1;
pub const RESIDENT_DEVICE: u32 = 2;

pub const EVICTED_NEVER: u32 = 0;
pub const EVICTED_MEMORY: u32 = 1;
pub const EVICTED_OBJECT: u32 = 2;
pub const EVICTED_ADVICE: u32 = 3;
pub const EVICTED_CPU: u32 = 4;

pub const ATTR_CACHE_WRITE_BACK: u64 = 0;
pub const ATTR_CACHE_UNCACHED: u64 = 1;
pub const ATTR_CACHE_WRITE_THROUGH: u64 = 2;
/// `NPU_ATTR_COMPRESSION(class)`.
pub const fn attr_compression(class: u8) -> u64 {
    (class as u64) << 2
}

pub const SYNCOBJ_CREATE_SIGNALED: u32 = 1 << 0;
pub const SYNCOBJ_WAIT_FLAGS_WAIT_ALL: u32 = 1 << 0;
pub const SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT: u32 = 1 << 1;

pub const IOCTL_VERSION: u32 = iowr::<Version>(0x00);
pub const IOCTL_GEM_CLOSE: u32 = iow::<GemClose>(0x09);
pub const IOCTL_SYNCOBJ_CREATE: u32 = iowr::<SyncobjCreate>(0xbf);
pub const IOCTL_SYNCOBJ_DESTROY: u32 = iowr::<SyncobjDestroy>(0xc0);
pub const IOCTL_SYNCOBJ_WAIT: u32 = iowr::<SyncobjWait>(0xc3);
pub const IOCTL_SYNCOBJ_RESET: u32 = iowr::<SyncobjArray>(0xc4);
pub const IOCTL_SYNCOBJ_SIGNAL: u32 = iowr::<SyncobjArray>(0xc5);
pub const IOCTL_SYNCOBJ_TIMELINE_WAIT: u32 = iowr::<SyncobjTimelineWait>(0xca);
pub const IOCTL_SYNCOBJ_QUERY: u32 = iowr::<SyncobjTimelineArray>(0xcb);
pub const IOCTL_SYNCOBJ_TIMELINE_SIGNAL: u32 = iowr::<SyncobjTimelineArray>(0xcd);

/// `DRM_COMMAND_BASE`.
const BASE: u32 = 0x40;
pub const IOCTL_NPU_QUERY_DEVICE: u32 = iowr::<QueryDevice>(BASE);
pub const IOCTL_NPU_VM_CREATE: u32 = iowr::<VmCreate>(BASE + 0x01);
pub const IOCTL_NPU_VM_DESTROY: u32 = iow::<VmDestroy>(BASE + 0x02);
pub const IOCTL_NPU_BO_CREATE: u32 = iowr::<BoCreate>(BASE + 0x03);
pub const IOCTL_NPU_BO_MMAP: u32 = iowr::<BoMmap>(BASE + 0x04);
pub const IOCTL_NPU_BIND: u32 = iow::<Bind>(BASE + 0x05);
pub const IOCTL_NPU_UNBIND: u32 = iow::<Unbind>(BASE + 0x06);
pub const IOCTL_NPU_QUEUE_CREATE: u32 = iowr::<QueueCreate>(BASE + 0x07);
pub const IOCTL_NPU_QUEUE_DESTROY: u32 = iow::<QueueDestroy>(BASE + 0x08);
pub const IOCTL_NPU_SUBMIT: u32 = iow::<Submit>(BASE + 0x09);
pub const IOCTL_NPU_JOB_STATUS: u32 = iowr::<JobStatus>(BASE + 0x0a);
pub const IOCTL_NPU_QUERY: u32 = iowr::<Query>(BASE + 0x0b);
pub const IOCTL_NPU_BIND_QUEUE_CREATE: u32 = iowr::<BindQueueCreate>(BASE + 0x0c);
pub const IOCTL_NPU_BIND_QUEUE_DESTROY: u32 = iow::<BindQueueDestroy>(BASE + 0x0d);
pub const IOCTL_NPU_ADVISE: u32 = iow::<Advise>(BASE + 0x0e);
pub const IOCTL_NPU_QUERY_RANGE: u32 = iowr::<QueryRange>(BASE + 0x0f);
pub const IOCTL_NPU_PREFETCH: u32 = iowr::<Prefetch>(BASE + 0x10);
pub const IOCTL_NPU_VM_STATS: u32 = iowr::<VmStats>(BASE + 0x11);
pub const IOCTL_NPU_DISCARD: u32 = iowr::<Discard>(BASE + 0x12);
