// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The structures of `include/uapi/drm/gmem_vm.h`, where their fields are documented.
//!
//! That they have neither padding nor invalid bit patterns is proved by the derives.

#![allow(missing_docs)]

use kernel::prelude::*;

/// See `struct drm_gmem_query_device`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct QueryDevice {
    pub flags: u32,
    pub pad: u32,
    pub page_sizes: u64,
    pub va_start: u64,
    pub va_end: u64,
    pub mem_total: u64,
    pub mem_visible: u64,
    pub mem_free: u64,
    pub caps: u64,
    pub mirror_end: u64,
}

/// `DRM_GMEM_CAP_FAULTS`
pub const CAP_FAULTS: u64 = 1 << 0;

/// See `struct drm_gmem_vm_create`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct VmCreate {
    pub flags: u32,
    pub vm_id: u32,
}

/// See `struct drm_gmem_vm_destroy`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct VmDestroy {
    pub vm_id: u32,
    pub pad: u32,
}

/// See `struct drm_gmem_bo_create`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct BoCreate {
    pub size: u64,
    pub flags: u32,
    pub handle: u32,
}

/// `DRM_GMEM_BO_DEVICE`
pub const BO_DEVICE: u32 = 1 << 0;
/// `DRM_GMEM_BO_HOST`
pub const BO_HOST: u32 = 1 << 1;
/// `DRM_GMEM_BO_CPU_VISIBLE`
pub const BO_CPU_VISIBLE: u32 = 1 << 2;

/// `DRM_GMEM_BO_PINNED`
pub const BO_PINNED: u32 = 1 << 3;

/// See `struct drm_gmem_bo_mmap`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct BoMmap {
    pub handle: u32,
    pub flags: u32,
    pub offset: u64,
}

/// See `struct drm_gmem_bind_op`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct BindOp {
    pub op: u32,
    pub flags: u32,
    pub handle: u32,
    pub pad: u32,
    pub va: u64,
    pub size: u64,
    pub bo_offset: u64,
    pub attrs: u64,
}

/// `DRM_GMEM_BIND_OP_MAP_BO`
pub const BIND_OP_MAP_BO: u32 = 0;
/// `DRM_GMEM_BIND_OP_UNMAP`
pub const BIND_OP_UNMAP: u32 = 1;
/// `DRM_GMEM_BIND_OP_MAP_SPARSE`
pub const BIND_OP_MAP_SPARSE: u32 = 2;
/// `DRM_GMEM_BIND_OP_MAP_MIRROR`
pub const BIND_OP_MAP_MIRROR: u32 = 3;
/// `DRM_GMEM_BIND_READONLY`
pub const BIND_READONLY: u32 = 1 << 0;
/// `DRM_GMEM_BIND_EXEC`
pub const BIND_EXEC: u32 = 1 << 1;

/// See `struct drm_gmem_bind`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Bind {
    pub vm_id: u32,
    pub flags: u32,
    pub num_ops: u32,
    pub num_syncs: u32,
    pub ops: u64,
    pub syncs: u64,
    pub queue_id: u32,
    pub pad: u32,
}

/// `DRM_GMEM_BIND_ASYNC`
pub const BIND_ASYNC: u32 = 1 << 0;

/// See `struct drm_gmem_bind_queue_create`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct BindQueueCreate {
    pub vm_id: u32,
    pub flags: u32,
    pub queue_id: u32,
    pub pad: u32,
}

/// See `struct drm_gmem_bind_queue_destroy`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct BindQueueDestroy {
    pub queue_id: u32,
    pub pad: u32,
}

/// See `struct drm_gmem_unbind`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Unbind {
    pub vm_id: u32,
    pub flags: u32,
    pub va: u64,
    pub size: u64,
}

/// See `struct drm_gmem_sync`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Sync {
    pub handle: u32,
    pub flags: u32,
    pub point: u64,
}

/// `DRM_GMEM_SYNC_SIGNAL`
pub const SYNC_SIGNAL: u32 = 1 << 0;
/// `DRM_GMEM_SYNC_TIMELINE`
pub const SYNC_TIMELINE: u32 = 1 << 1;

/// See `struct drm_gmem_attr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Attr {
    pub kind: u32,
    pub pad: u32,
    pub value: u64,
}

/// See `struct drm_gmem_advise`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Advise {
    pub vm_id: u32,
    pub flags: u32,
    pub va: u64,
    pub size: u64,
    pub num_attrs: u32,
    pub pad: u32,
    pub attrs: u64,
}

/// `DRM_GMEM_ADVISE_RESET`
pub const ADVISE_RESET: u32 = 1 << 0;

/// Room for values of attributes in [`Range`].
pub const ADVICE: usize = 16;

/// See `struct drm_gmem_range`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, zerocopy_derive::Immutable)]
#[repr(C)]
pub struct Range {
    pub va: u64,
    pub size: u64,
    pub mapping: u32,
    pub flags: u32,
    pub residency: u32,
    pub pad: u32,
    pub bo_offset: u64,
    pub attrs: u64,
    pub advice: [u64; ADVICE],
    pub faults: u64,
    pub refaults: u64,
    pub evicted: u32,
    pub pad2: u32,
}

/// `DRM_GMEM_MAPPING_BO`
pub const MAPPING_BO: u32 = 1;
/// `DRM_GMEM_MAPPING_SPARSE`
pub const MAPPING_SPARSE: u32 = 2;
/// `DRM_GMEM_MAPPING_MIRROR`
pub const MAPPING_MIRROR: u32 = 3;
/// `DRM_GMEM_RESIDENT_HOST`
pub const RESIDENT_HOST: u32 = 1;
/// `DRM_GMEM_RESIDENT_DEVICE`
pub const RESIDENT_DEVICE: u32 = 2;

/// See `struct drm_gmem_query_range`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct QueryRange {
    pub vm_id: u32,
    pub flags: u32,
    pub va: u64,
    pub size: u64,
    pub num_ranges: u32,
    pub pad: u32,
    pub ranges: u64,
}

/// See `struct drm_gmem_prefetch`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Prefetch {
    pub vm_id: u32,
    pub flags: u32,
    pub va: u64,
    pub size: u64,
    pub location: u64,
    pub moved: u64,
    pub mapped: u64,
}

/// See `struct drm_gmem_discard`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Discard {
    pub vm_id: u32,
    pub flags: u32,
    pub va: u64,
    pub size: u64,
    pub discarded: u64,
    pub retained: u64,
}

/// `DRM_GMEM_DISCARD_UNDO`
pub const DISCARD_UNDO: u32 = 1 << 0;
/// `DRM_GMEM_DISCARD_PREFETCH`
pub const DISCARD_PREFETCH: u32 = 1 << 1;

/// See `struct drm_gmem_vm_stats`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes)]
#[repr(C)]
pub struct VmStats {
    pub vm_id: u32,
    pub flags: u32,
    pub faults: u64,
    pub merged: u64,
    pub bad: u64,
    pub retries: u64,
    pub invalidations: u64,
    pub to_device: u64,
    pub made: u64,
    pub stayed: u64,
    pub mirrored: u64,
    pub extents: u64,
    pub bytes: u64,
}
