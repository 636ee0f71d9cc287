// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Driver for the NPU, gmem_vm's reference hardware (Documentation/accel/npu).
//!
//! | file | what is in it |
//! |---|---|
//! | [`driver`] | the device as a whole; what gmem_vm and DRM are told: begin here |
//! | [`pci`] | probe and remove; all `unsafe` of the driver |
//! | [`page_table`] [`pte`] | the hardware's page table |
//! | [`hw`] [`regs`] | registers, local memory, TLB invalidation |
//! | [`hw_queue`] [`pool`] [`irq`] [`workers`] | hardware queues, their completion and their watchdog |
//! | [`fault_ring`] | faults as the device reports them |
//! | [`copy`] | the copy queue |
//! | [`client`] [`queue`] [`job`] [`uapi`] | queues and jobs as userspace sees them |
//!
//! # Locking
//!
//! From the outside in; memory is never allocated under those marked *, which are taken in the
//! signalling path:
//!
//! 1. the VM lock of gmem_vm, then its memory lock
//! 2. `copy::CopyQueue::submit`
//! 3. `hw::Hw::maintenance`
//! 4. `hw_queue::HwQueue::order` *
//! 5. `hw_queue::HwQueue::inner` *, then `queue::Queue::state` * and `pool::Pool` *
//! 6. `hw::Hw::tlb` *, `hw::Hw::window` *, `fault_ring::FaultRing::state` *

#![deny(unsafe_code)]

mod client;
mod copy;
mod driver;
mod fault_ring;
mod hw;
mod hw_queue;
mod irq;
mod job;
mod page_table;
#[allow(unsafe_code)]
mod pci;
mod pool;
mod pte;
mod queue;
mod regs;
mod uapi;
mod workers;

kernel::module_pci_driver! {
    type: pci::NpuPci,
    name: "npu",
    authors: ["gmem_vm developers"],
    description: "NPU reference accelerator",
    license: "Dual MIT/GPL",
    params: {
        faults: bool {
            default: true,
            description: "Let jobs wait for memory that is not mapped, if the device can",
        },
    },
}
