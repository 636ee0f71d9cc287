// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Kernel interfaces that the kernel crate has no abstraction of yet.
//!
//! Each module wraps one C interface, is written as it could stand in the kernel crate, and knows
//! nothing of the framework above it. All unsafe code of the framework is in here.
//!
//! | module | wraps |
//! |---|---|
//! | [`aperture`] | device memory behind a PCI BAR, mapped to userspace |
//! | [`dma_fence`] | `struct dma_fence`: signalling, waiting, callbacks, lockdep annotations |
//! | [`gem`] | the pages of a GEM object, their DMA mapping, their mapping to userspace |
//! | [`ioctl`] | tables of DRM ioctls whose argument types are not the kernel's |
//! | [`pci`] | kinds of BARs, bus mastering |
//! | [`prime`] | dma-bufs of others as GEM objects, pages of GEM objects for others |
//! | [`random`] | random numbers |
//! | [`signal`] | whether the process is being killed |
//! | [`syncobj`] | `struct drm_syncobj`, binary and timeline |
//! | [`trace`] | the tracepoints of trace.h |
//! | [`user`] | arrays in user memory |
//! | [`work`] | workqueues that are destroyed, work that is cancelled |

pub mod aperture;
pub mod dma_fence;
pub mod gem;
pub mod ioctl;
pub mod pci;
pub mod prime;
pub mod random;
pub mod signal;
pub mod syncobj;
pub mod trace;
pub mod user;
pub mod work;
