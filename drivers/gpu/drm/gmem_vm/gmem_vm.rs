// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! gmem_vm: address spaces and memory for DRM/accel drivers.
//!
//! A driver embeds this crate, describes its hardware by two traits, and gets device address
//! spaces, buffer objects in device and host memory, and the ioctls that manage them. Nothing of
//! core MM is changed.
//!
//! # Where to begin
//!
//! A driver author reads [`driver`] (what the hardware must offer), [`page_table`] (how its page
//! table is written) and [`ioctl`] (what userspace calls), in this order.
//!
//! | layer | modules | knows |
//! |---|---|---|
//! | driver surface | [`driver`] [`page_table`] [`ioctl`] [`mod@file`] [`fault`] [`hold`] [`sync`] [`dependencies`] | what an author calls |
//! | seeing it | [`debugfs`] [`usage`] [`latency`] [`kapi::trace`] | what to show |
//! | advice | [`attrs`] [`follow`] [`pin`] [`prefetch`] [`discard`] | what userspace wants of a range |
//! | eviction | [`evict`] | what leaves a device that is full |
//! | mirrors | [`attach`] [`mirror`] [`populate`] [`placement`] [`transfer`] [`device_pages`] [`residency`] | memory of processes, where it is, how it moves |
//! | mechanism | [`device`] [`memory`] [`object`] [`bo`] [`mapping`] [`vm`] [`bind`] [`bind_queue`] [`query`] | where every page is |
//! | structures | [`range`] [`range_map`] [`range_set`] [`id_map`] [`chain`] [`sort`] | nothing of the above |
//! | kernel API | [`kapi`] | what the kernel crate does not have yet |
//!
//! Each uses only those below it. `unsafe` stands in [`kapi`] alone.
//!
//! # Locking
//!
//! In this order, each optional:
//!
//! 1. the VMs of a file ([`mod@file`], a mutex), or the list of VMs ([`device::Device`], a mutex), then the VM lock ([`vm::Vm`], a mutex): mappings
//!    and attributes of one VM; then the locks of [`attach`], and the memory map lock of a process;
//! 2. the lock of [`device_pages`], a mutex, and the memory lock (inside [`memory::Memory`], a mutex): the buddy allocator;
//! 3. `current` of a [`bind_queue`], a mutex: who does the queue's batches;
//! 4. the table lock ([`vm::Vm`], a mutex): the page table of one VM, and what it has of mirrors; core MM takes
//!    it by a callback, with any of its own locks held;
//! 5. locks of the driver's hardware, which are spinlocks.
//!
//! Nothing is allocated under 3 and 4, which stand between fences and their signals; neither of the
//! first two is taken there. Preparing a bind may allocate; committing it cannot, which the types of
//! [`page_table`] enforce and lockdep proves.

#![deny(unsafe_code)]
#![warn(missing_docs)]

use kernel::prelude::*;

pub mod absent;
pub mod attach;
pub mod attrs;
pub mod bind;
pub mod bind_queue;
pub mod bo;
pub mod bo_memory;
pub mod chain;
pub mod debugfs;
pub mod dependencies;
pub mod device;
pub mod device_pages;
pub mod discard;
pub mod driver;
pub mod evict;
pub mod fault;
pub mod file;
pub mod follow;
pub mod hold;
pub mod id_map;
pub mod ioctl;
#[allow(unsafe_code)]
pub mod kapi;
pub mod latency;
pub mod mapping;
pub mod memory;
pub mod mirror;
pub mod object;
pub mod page_table;
pub mod pin;
pub mod placement;
pub mod populate;
pub mod prefetch;
pub mod query;
pub mod range;
pub mod range_map;
pub mod range_set;
pub mod residency;
pub mod sort;
pub mod sync;
pub mod transfer;
pub mod uapi;
pub mod usage;
pub mod vm;

pub use self::{
    attach::MirrorGuard,
    bo::{
        Bo,
        BoObject, //
    },
    device::{
        Device,
        DeviceRef, //
    },
    driver::{
        Access,
        Caps,
        CopyOp,
        CopySource,
        Driver,
        FaultAccess,
        Faults,
        MapAttrs,
        Verdict, //
    },
    fault::Fault,
    file::File,
    hold::Hold,
    memory::{
        Memory,
        MemoryBlock, //
    },
    object::{
        Extent,
        Location,
        ObjectHandle, //
    },
    page_table::{
        Basis,
        Change,
        MapRun,
        PageTable,
        PendingFlush, //
    },
    range::VaRange,
    vm::Vm, //
};

/// The module of the framework itself: a library, it registers nothing.
struct GmemVm;

impl kernel::Module for GmemVm {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}

module! {
    type: GmemVm,
    name: "gmem_vm",
    authors: ["gmem_vm developers"],
    description: "Address spaces and memory for DRM/accel drivers",
    license: "Dual MIT/GPL",
    params: {
        unmap: bool {
            default: false,
            description: "Give DMA addresses back page by page, as behind an IOMMU, where there is none (for tests)",
        },
    },
}
