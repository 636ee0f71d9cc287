// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! As NVIDIA's UVM does, for comparison.
//!
//! Its list is called LRU, but a 2 MiB chunk goes to the end of it only as memory comes in, never as it is accessed
//! (`uvm_pmm_gpu.c`, their bug 1765193).

use super::policy::{
    Clock,
    Facts,
    Policy, //
};

/// Least recently migrated.
pub struct Uvm;

impl Policy for Uvm {
    fn keeps_copies(&self) -> bool {
        false
    }

    fn is_fair(&self) -> bool {
        false
    }

    fn worth(&self, facts: &Facts, _clock: &Clock) -> u64 {
        facts.filled
    }
}
