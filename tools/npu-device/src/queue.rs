// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The thread of a queue: takes descriptors from the ring, executes and completes them.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::{Shared, Waiter};
use crate::dma::BadBusAddress;
use crate::error::{Code, ProgrammingError, Source};
use crate::state::State;
use crate::{compute, copy};

/// Bytes of a descriptor.
pub const DESCRIPTOR: usize = 64;
/// Offset of the completion fields.
pub const COMPLETION: usize = 0x20;
/// `flags.IRQ`.
pub const FLAG_IRQ: u32 = 1 << 0;

/// How a descriptor ended, as its completion fields give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `status`.
    pub status: u32,
    /// `error`.
    pub error: u32,
    /// `detail`.
    pub detail: u64,
}

#[allow(missing_docs, reason = "queues.rst says what each means")]
impl Outcome {
    pub const OK: Outcome = Outcome::new(1, 0, 0);
    pub const KILLED: Outcome = Outcome::new(4, 0, 0);

    const fn new(status: u32, error: u32, detail: u64) -> Self {
        Outcome {
            status,
            error,
            detail,
        }
    }

    pub fn fault(reason: u32, va: u64) -> Self {
        Outcome::new(2, reason, va)
    }

    pub fn bad_command(error: u32, offset: u64) -> Self {
        Outcome::new(3, error, offset)
    }

    pub fn copy_error(address: u64) -> Self {
        Outcome::new(5, 1, address)
    }
}

/// Why a descriptor has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// It was killed, or the device halts, resets or shuts down.
    Stopped,
    /// It is, or met, a programming error.
    Error(ProgrammingError),
}

/// A descriptor as it lies in the ring.
pub struct Descriptor([u8; DESCRIPTOR]);

impl Descriptor {
    /// The 32-bit field at an offset.
    pub fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.0[offset + i]))
    }

    /// The 64-bit field at an offset.
    pub fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0[offset + i]))
    }

    fn is_fresh(&self) -> bool {
        self.0[COMPLETION..].iter().all(|b| *b == 0)
    }
}

/// A descriptor being executed.
struct Work {
    address: u64,
    index: u32,
    start: u64,
}

/// Executes the descriptors of queue `queue`, where 0 is the copy queue, until shutdown.
pub fn run(device: &Shared, queue: usize) {
    let mut state = device.lock();
    while !state.shutdown {
        if !state.may_run(queue) {
            state = device.wait(state, Waiter::Queue(queue));
            continue;
        }
        let q = &mut state.queues[queue];
        let slot = q.head & (q.descriptors() - 1);
        let work = Work {
            address: q.base + u64::from(slot) * DESCRIPTOR as u64,
            index: q.head,
            start: device.now(),
        };
        q.busy = true;
        q.stop.store(false, Ordering::Release);
        let stop = q.stop.clone();
        drop(state);
        let mut irq = false;
        let result = execute(device, queue, &work, &stop, &mut irq);
        if queue > 0 {
            device.mmu.flush_trace();
        }
        state = complete(device, device.lock(), queue, &work, result, irq);
    }
}

fn execute(
    device: &Shared,
    queue: usize,
    work: &Work,
    stop: &AtomicBool,
    irq: &mut bool,
) -> Result<Outcome, Abandoned> {
    let mut bytes = [0; DESCRIPTOR];
    let source = Source::queue(queue);
    device
        .space
        .dma
        .read(work.address, &mut bytes)
        .map_err(|bad| unreachable_bus(source, bad))?;
    let descriptor = Descriptor(bytes);
    *irq = descriptor.u32(4) & FLAG_IRQ != 0;
    let bad_descriptor = Abandoned::Error(ProgrammingError {
        code: Code::BadDescriptor,
        source,
        detail: work.index.into(),
    });
    if !descriptor.is_fresh() {
        return Err(bad_descriptor);
    }
    match queue.checked_sub(1) {
        None => {
            let request = copy::Request::decode(&descriptor).ok_or(bad_descriptor)?;
            copy::execute(device, &request, stop)
        }
        Some(index) => {
            let job =
                compute::Job::decode(device, index, &descriptor, stop).ok_or(bad_descriptor)?;
            job.execute()
        }
    }
}

/// A bus address that a queue cannot reach.
pub fn unreachable_bus(source: Source, bad: BadBusAddress) -> Abandoned {
    Abandoned::Error(ProgrammingError {
        code: Code::BadBusAddress,
        source,
        detail: bad.0,
    })
}

/// Ends a descriptor. The state stays locked, so that nothing is written once a reset or an error
/// has ended the queue.
fn complete<'a>(
    device: &'a Shared,
    mut state: MutexGuard<'a, State>,
    queue: usize,
    work: &Work,
    result: Result<Outcome, Abandoned>,
    irq: bool,
) -> MutexGuard<'a, State> {
    if let Err(Abandoned::Error(error)) = result {
        device.error(&mut state, error);
    }
    let halted = state.error.is_some() || state.resetting || state.shutdown;
    let killed = state.queues[queue].kill;
    let outcome = match result {
        _ if halted => None,
        Ok(outcome) => Some(outcome),
        Err(_) => Some(Outcome::KILLED),
    };
    if let Some(outcome) = outcome {
        if let Err(bad) = write_back(device, &mut state, queue, work, outcome) {
            let Abandoned::Error(error) = unreachable_bus(Source::queue(queue), bad) else {
                unreachable!("a bad bus address is an error");
            };
            device.error(&mut state, error);
        } else {
            if queue > 0 {
                compute::count(device, outcome);
            }
            if irq {
                device.raise(&mut state, queue + 1);
            }
        }
    }
    let q = &mut state.queues[queue];
    q.busy = false;
    if killed {
        q.kill = false;
        q.enable = false;
    }
    device.finish_reset(&mut state);
    state
}

/// Writes the completion fields, then `HEAD`.
fn write_back(
    device: &Shared,
    state: &mut State,
    queue: usize,
    work: &Work,
    outcome: Outcome,
) -> Result<(), BadBusAddress> {
    let mut fields = [0; DESCRIPTOR - COMPLETION];
    fields[0x00..0x04].copy_from_slice(&outcome.status.to_le_bytes());
    fields[0x04..0x08].copy_from_slice(&outcome.error.to_le_bytes());
    fields[0x08..0x10].copy_from_slice(&outcome.detail.to_le_bytes());
    fields[0x10..0x18].copy_from_slice(&work.start.to_le_bytes());
    fields[0x18..0x20].copy_from_slice(&device.now().to_le_bytes());
    device
        .space
        .dma
        .write(work.address + COMPLETION as u64, &fields)?;
    std::sync::atomic::fence(Ordering::SeqCst);
    let q = &mut state.queues[queue];
    q.head = q.head.wrapping_add(1);
    if q.writeback != 0 {
        device.space.dma.write(q.writeback, &q.head.to_le_bytes())?;
    }
    Ok(())
}
