// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The counters at 0x3000.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter, in the order of its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "registers.rst says what each counts")]
pub enum Counter {
    JobsOk,
    JobsOther,
    Commands,
    TlbHits,
    TlbMisses,
    Faults,
    Invalidations,
    CopiedFromHost,
    CopiedToHost,
    CopiedLocal,
    Filled,
    Read,
    Written,
}

/// How many counters there are.
pub const COUNT: usize = Counter::Written as usize + 1;

/// All counters.
#[derive(Default)]
pub struct Counters([AtomicU64; COUNT]);

impl Counters {
    /// Adds to a counter; it wraps.
    pub fn add(&self, counter: Counter, n: u64) {
        self.0[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Reads the counter of a register index.
    pub fn get(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Relaxed)
    }

    /// Sets all to zero.
    pub fn reset(&self) {
        for counter in &self.0 {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
