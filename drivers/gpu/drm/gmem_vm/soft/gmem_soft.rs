// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! gmem_vm embedded by a device that is nothing but software.
//!
//! It is as unlike the NPU as the traits allow: no local memory, one page size of 64 KiB, no faults, a
//! page table of two levels in table memory of its own. What is here is all that the
//! framework needs; KUnit runs it, and a driver author can begin with it. It has no userspace: for
//! ioctls, probe and copies see drivers/accel/npu.
//!
//! | file | what is in it |
//! |---|---|
//! | [`driver`] | what gmem_vm and DRM are told |
//! | [`page_table`] | how the page table is written |
//! | [`hardware`] | what would be hardware: table memory, the walk, a TLB that really caches |
//! | [`faux`] | making a device; all `unsafe` of the driver |
//! | `tests` `random` | KUnit |
//!
//! The random tests take the module parameters `seed` and `ops`.

#![deny(unsafe_code)]

use kernel::prelude::*;

mod driver;
#[allow(unsafe_code)]
mod faux;
mod hardware;
mod page_table;
mod random;
mod tests;

/// The module; it makes devices for its tests only.
struct GmemSoft;

impl kernel::Module for GmemSoft {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}

module! {
    type: GmemSoft,
    name: "gmem_soft",
    authors: ["gmem_vm developers"],
    description: "gmem_vm over a device in software, for KUnit",
    license: "Dual MIT/GPL",
    params: {
        seed: u64 {
            default: 0,
            description: "Seed of the random tests; 0 for another one each time",
        },
        ops: u64 {
            default: 1_000_000,
            description: "Operations of the random tests",
        },
    },
}
