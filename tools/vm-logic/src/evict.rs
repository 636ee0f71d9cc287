// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What decides about eviction; the mechanism needs a kernel.

#[path = "../../../drivers/gpu/drm/gmem_vm/evict/gmem.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod gmem;
#[path = "../../../drivers/gpu/drm/gmem_vm/evict/history.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod history;
#[path = "../../../drivers/gpu/drm/gmem_vm/evict/lirs.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod lirs;
#[path = "../../../drivers/gpu/drm/gmem_vm/evict/lru.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod lru;
#[path = "../../../drivers/gpu/drm/gmem_vm/evict/policy.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod policy;
#[path = "../../../drivers/gpu/drm/gmem_vm/evict/share.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod share;
#[path = "../../../drivers/gpu/drm/gmem_vm/evict/uvm.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod uvm;
