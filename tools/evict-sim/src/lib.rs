// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Eviction on the host: what the best there could be costs, and what the kernel's policies cost.
//!
//! | module | what it has |
//! |---|---|
//! | [`trace`] | accesses of a device, as `npu-device --trace` writes them |
//! | [`mod@belady`] | the optimum, which knows the future |
//! | [`policy`] | the kernel's policies, in a model of the evictor |
//! | [`workload`] | traces that are made up |
//! | [`table`] | all of them, compared |

#![forbid(unsafe_code)]

pub mod belady;
pub mod policy;
pub mod random;
pub mod table;
pub mod trace;
pub mod workload;

pub use belady::belady;
pub use policy::simulate;
pub use trace::Access;

/// What a run costs; all of it in blocks, but for `accesses`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Accesses.
    pub accesses: u64,
    /// Blocks that were accessed.
    pub distinct: u64,
    /// Blocks that were copied to the device.
    pub to_device: u64,
    /// Blocks that were copied to the host.
    pub to_host: u64,
    /// How often a block was accessed that was not on the device.
    pub misses: u64,
}

impl Cost {
    /// Blocks that were copied.
    pub fn moved(&self) -> u64 {
        self.to_device + self.to_host
    }
}
