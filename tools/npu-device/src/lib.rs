// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A model of the NPU that `Documentation/accel/npu` describes.
//!
//! [`Device`] is the card: registers go in and out, queues run on threads of their own, host memory
//! is reached through [`dma::Dma`] and interrupts leave through event descriptors. It knows nothing
//! of virtual machines; [`server`] puts it on a vfio-user socket.
//!
//! | module | what it models |
//! |---|---|
//! | [`device`], [`registers`], [`regs`] | the register file and how reset, errors and interrupts work |
//! | [`memory`], [`dma`], [`space`] | local memory, host memory, and both together |
//! | [`pte`], [`walk`], [`tlb`], [`mmu`] | page tables, their walk, the cache of translations, accesses |
//! | [`queue`], [`copy`], [`compute`], [`fault`] | what the queues do |
//! | [`commands`] | what a job's commands do |
//! | [`trace`] | what jobs access, written down |
//! | [`pci`], [`server`], [`guard`] | config space, and the vfio-user side |

#![forbid(unsafe_code)]

pub mod commands;
pub mod compute;
pub mod copy;
pub mod counters;
pub mod device;
pub mod dma;
pub mod error;
pub mod fault;
pub mod guard;
pub mod invalidate;
pub mod irq;
pub mod memory;
pub mod mmu;
pub mod pci;
pub mod pte;
pub mod queue;
pub mod registers;
pub mod regs;
pub mod server;
pub mod space;
pub mod state;
pub mod tlb;
pub mod trace;
pub mod walk;

pub use device::{Config, Device};
