// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of the model against the manual. They drive the register interface as a driver would, with
//! host memory and event descriptors of their own; none depends on how long anything takes.

mod arithmetic;
mod attention;
mod bad_commands;
mod card;
mod commands;
mod copy;
mod dma;
mod errors;
mod faults;
mod inject;
mod interrupts;
mod kill;
mod mmu;
mod pci;
mod process;
mod pte;
mod queues;
mod registers;
mod tables;
mod tlb;
mod trace;
