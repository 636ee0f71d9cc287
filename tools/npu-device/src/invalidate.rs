// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The thread that performs TLB invalidations.

use crate::counters::Counter;
use crate::device::{Shared, Waiter};
use crate::state::{self, EVENT_TLB};

/// Performs invalidations in the order they were started, until shutdown.
pub fn run(device: &Shared) {
    let mut state = device.lock();
    loop {
        if state.shutdown {
            return;
        }
        let Some(&next) = state.tlb.pending.front() else {
            state = device.wait(state, Waiter::Tlb);
            continue;
        };
        state.tlb.busy = true;
        let skip = state::take(&mut state.inject.skip_tlb);
        drop(state);
        if !skip {
            device.mmu.invalidate(next.pgd, next.start, next.end);
        }
        state = device.lock();
        state.tlb.busy = false;
        if state.resetting {
            device.finish_reset(&mut state);
            continue;
        }
        state.tlb.pending.pop_front();
        state.tlb.done = next.ticket;
        device.counters.add(Counter::Invalidations, 1);
        if next.notify {
            device.event(&mut state, EVENT_TLB);
        }
    }
}
