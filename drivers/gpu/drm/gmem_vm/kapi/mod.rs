// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Kernel interfaces that the kernel crate has no abstraction of yet.
//!
//! Each module wraps one C interface, is written as it could stand in the kernel crate, and knows
//! nothing of the framework above it. All unsafe code of the framework is in here.
//!
//! | module | wraps |
//! |---|---|
//! | [`aperture`] | device memory behind a PCI BAR, mapped to userspace |
//! | [`area`] | `struct vm_area_struct`, with the memory map locked |
//! | [`device_private`] | `struct dev_pagemap`: pages of processes in the memory of a device |
//! | [`dma`] | DMA addresses of pages that are not the device's |
//! | [`dma_fence`] | `struct dma_fence`: signalling, waiting, callbacks, lockdep annotations |
//! | [`gem`] | the pages of a GEM object, their DMA mapping, their mapping to userspace |
//! | [`hmm`] | `hmm_range_fault()`: what the CPU maps |
//! | [`host_copy`] | host pages that outlive their migration to a device |
//! | [`ioctl`] | tables of DRM ioctls whose argument types are not the kernel's |
//! | [`lock`] | locks in generic types |
//! | [`memcg`] | `struct mem_cgroup` |
//! | [`memlock`] | `user_struct.locked_vm`: memory that users have locked |
//! | [`migrate`] | `migrate_vma_*()` and `migrate_device_*()` |
//! | [`mmu_notifier`] | `struct mmu_interval_notifier`, in two passes |
//! | [`module`] | references to a module |
//! | [`pci`] | kinds of BARs, bus mastering |
//! | [`prime`] | dma-bufs of others as GEM objects, pages of GEM objects for others |
//! | [`random`] | random numbers |
//! | [`shmem`] | the shmem file of a GEM object |
//! | [`shrinker`] | `struct shrinker` |
//! | [`signal`] | whether the process is being killed |
//! | [`syncobj`] | `struct drm_syncobj`, binary and timeline |
//! | [`trace`] | the tracepoints of trace.h |
//! | [`user`] | arrays in user memory, what the user may do |
//! | [`vec`] | vectors that live under a lock |
//! | [`work`] | workqueues that are destroyed, work that is cancelled |

pub mod aperture;
pub mod area;
pub mod device_private;
pub mod dma;
pub mod dma_fence;
pub mod gem;
pub mod hmm;
pub mod host_copy;
pub mod ioctl;
pub mod lock;
pub mod memcg;
pub mod memlock;
pub mod migrate;
pub mod mmu_notifier;
pub mod module;
pub mod pci;
pub mod prime;
pub mod random;
pub mod shmem;
pub mod shrinker;
pub mod signal;
pub mod syncobj;
#[cfg(CONFIG_KUNIT = "y")]
mod testing;
pub mod trace;
pub mod user;
pub mod vec;
pub mod work;
