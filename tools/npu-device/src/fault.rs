// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Translation faults: the record in the fault ring, and the wait for an answer.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::device::{Shared, Waiter};
use crate::error::{Code, ProgrammingError};
use crate::mmu::{Access, Reason};
use crate::queue::{Abandoned, Outcome};
use crate::state::{Answer, EVENT_FAULT, State};

/// Bytes of a record.
pub const RECORD: usize = 64;

/// A fault, as its record gives it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The address that does not translate.
    pub va: u64,
    /// Root table.
    pub pgd: u64,
    /// What was tried.
    pub access: Access,
    /// Why it failed.
    pub reason: Reason,
    /// Compute queue.
    pub queue: usize,
    /// Of the job's descriptor.
    pub cookie: u32,
    /// Bytes from `va` on that will be accessed in order.
    pub len: u64,
}

impl Fault {
    fn record(&self, time: u64) -> [u8; RECORD] {
        let page = self.va & !0xfff;
        let mut record = [0; RECORD];
        record[0x00..0x08].copy_from_slice(&page.to_le_bytes());
        record[0x08..0x10].copy_from_slice(&self.pgd.to_le_bytes());
        record[0x10..0x14].copy_from_slice(&(self.access as u32).to_le_bytes());
        record[0x14..0x18].copy_from_slice(&(self.reason as u32).to_le_bytes());
        record[0x18..0x1c].copy_from_slice(&(self.queue as u32).to_le_bytes());
        record[0x1c..0x20].copy_from_slice(&self.cookie.to_le_bytes());
        record[0x20..0x28].copy_from_slice(&time.to_le_bytes());
        record[0x28..0x30].copy_from_slice(&(self.va - page + self.len).to_le_bytes());
        record
    }
}

/// Why a faulting access is not retried.
pub enum Ended {
    /// The job has this outcome.
    Outcome(Outcome),
    /// The job has none.
    Abandoned(Abandoned),
}

/// Handles a fault of a compute queue; returns when the access shall be retried.
pub fn handle(device: &Shared, fault: &Fault) -> Result<(), Ended> {
    let faulted = Ended::Outcome(Outcome::fault(fault.reason as u32, fault.va));
    let mut state = device.lock();
    if !state.fault_mode {
        return Err(faulted);
    }
    let index = 1 + fault.queue;
    let mut recorded = false;
    state.queues[index].waiting = true;
    state.queues[index].answer = None;
    let result = loop {
        let queue = &state.queues[index];
        if queue.stop.load(Ordering::Acquire) {
            break Err(Ended::Abandoned(Abandoned::Stopped));
        }
        match queue.answer {
            Some(Answer::Replay) => break Ok(()),
            Some(Answer::Cancel) => break Err(faulted),
            None => {}
        }
        if !recorded && !is_full(&mut state) {
            if let Err(error) = write_record(device, &mut state, fault) {
                break Err(Ended::Abandoned(Abandoned::Error(error)));
            }
            recorded = true;
            continue;
        }
        let waiter = Waiter::Queue(index);
        state = match state.inject.fault_full {
            Some(until) if !recorded => {
                let left = until.saturating_duration_since(Instant::now());
                device.wait_for(state, waiter, left)
            }
            _ => device.wait(state, waiter),
        };
    };
    state.queues[index].waiting = false;
    state.queues[index].answer = None;
    result
}

/// Whether the ring is full, or counts as full by injection.
fn is_full(state: &mut State) -> bool {
    state.inject.fault_full = state
        .inject
        .fault_full
        .filter(|until| *until > Instant::now());
    state.inject.fault_full.is_some() || state.ring.is_full()
}

fn write_record(device: &Shared, state: &mut State, fault: &Fault) -> Result<(), ProgrammingError> {
    let record = fault.record(device.now());
    device
        .space
        .dma
        .write(state.ring.slot(), &record)
        .map_err(|bad| ProgrammingError::mmu(Code::BadBusAddress, bad.0))?;
    state.ring.tail = state.ring.tail.wrapping_add(1);
    device.event(state, EVENT_FAULT);
    Ok(())
}
