// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the registers hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::ProgrammingError;

/// `EVENT.FAULT`.
pub const EVENT_FAULT: u32 = 1 << 0;
/// `EVENT.ERROR`.
pub const EVENT_ERROR: u32 = 1 << 1;
/// `EVENT.TLB`.
pub const EVENT_TLB: u32 = 1 << 2;
/// All of them.
pub const EVENTS: u32 = EVENT_FAULT | EVENT_ERROR | EVENT_TLB;

/// All ones in `TLB_PGD`.
pub const EVERY_ROOT: u64 = u64::MAX;
/// Invalidations that may be outstanding.
pub const OUTSTANDING: usize = 16;

/// The TLB commands.
#[derive(Default)]
pub struct TlbCommands {
    /// `TLB_PGD`.
    pub pgd: u64,
    /// `TLB_START`.
    pub start: u64,
    /// `TLB_END`.
    pub end: u64,
    /// `TLB_DONE`.
    pub done: u32,
    /// What was started and is not done; the first may be under way.
    pub pending: VecDeque<Invalidation>,
    /// The first of them is under way.
    pub busy: bool,
}

/// An invalidation that was started.
#[derive(Clone, Copy)]
pub struct Invalidation {
    /// `None` is every root.
    pub pgd: Option<u64>,
    /// First address.
    pub start: u64,
    /// First address after the range.
    pub end: u64,
    /// What `TLB_DONE` shall read.
    pub ticket: u32,
    /// Whether `EVENT.TLB` shall be raised.
    pub notify: bool,
}

/// The fault ring.
#[derive(Default)]
pub struct FaultRing {
    /// `FAULT_BASE`.
    pub base: u64,
    /// `FAULT_SIZE`.
    pub size: u32,
    /// `FAULT_HEAD`.
    pub head: u32,
    /// `FAULT_TAIL`.
    pub tail: u32,
}

impl FaultRing {
    /// Whether both registers were written.
    pub fn is_set_up(&self) -> bool {
        self.base != 0 && self.size != 0
    }

    /// Whether there is no room for a record.
    pub fn is_full(&self) -> bool {
        self.tail.wrapping_sub(self.head) >= 1 << self.size
    }

    /// Bus address of the next record.
    pub fn slot(&self) -> u64 {
        self.base + u64::from(self.tail & ((1 << self.size) - 1)) * 64
    }
}

/// What software answered to a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Try again.
    Replay,
    /// End the job.
    Cancel,
}

/// A queue.
#[derive(Default)]
pub struct Queue {
    /// `RING_BASE`.
    pub base: u64,
    /// `RING_SIZE`.
    pub size: u32,
    /// `QUEUE_CONTROL.ENABLE`.
    pub enable: bool,
    /// `QUEUE_CONTROL.KILL`.
    pub kill: bool,
    /// `TAIL`.
    pub tail: u32,
    /// `HEAD`.
    pub head: u32,
    /// `HEAD_WRITEBACK`.
    pub writeback: u64,
    /// A descriptor is being executed.
    pub busy: bool,
    /// It waits on a fault.
    pub waiting: bool,
    /// The answer to that, once it is there.
    pub answer: Option<Answer>,
    /// Tells the queue's thread to end what it does: kill, reset, halt or shutdown.
    pub stop: Arc<AtomicBool>,
}

impl Queue {
    /// Whether the ring was set up.
    pub fn is_set_up(&self) -> bool {
        self.base != 0 && self.size != 0
    }

    /// Descriptors of the ring.
    pub fn descriptors(&self) -> u32 {
        if self.size == 0 { 0 } else { 1 << self.size }
    }

    /// Disabled, and the last descriptor has ended.
    pub fn is_disabled(&self) -> bool {
        !self.enable && !self.busy
    }

    /// Back to power-on.
    fn reset(&mut self) {
        *self = Queue {
            stop: Arc::clone(&self.stop),
            ..Queue::default()
        };
    }
}

/// The fault injection registers.
#[derive(Default)]
#[allow(missing_docs, reason = "errors.rst says what each does")]
pub struct Inject {
    pub irq_drop: u32,
    pub irq_delay: u32,
    pub copy_error: u32,
    pub hang: u32,
    pub fault_full: Option<Instant>,
    pub skip_tlb: u32,
    pub copy_hang: u32,
}

/// Counts an injection down, and tells whether it takes effect.
pub fn take(n: &mut u32) -> bool {
    let active = *n > 0;
    *n = n.saturating_sub(1);
    active
}

/// Everything that a reset puts back.
#[derive(Default)]
pub struct State {
    /// `CONTROL.ENABLE`.
    pub enable: bool,
    /// `CONTROL.FAULT_MODE`.
    pub fault_mode: bool,
    /// `CONTROL.RESET`.
    pub resetting: bool,
    /// `EVENT`.
    pub event: u32,
    /// `WINDOW_BASE`.
    pub window: u64,
    /// The first programming error; the device is halted.
    pub error: Option<ProgrammingError>,
    /// The TLB commands.
    pub tlb: TlbCommands,
    /// The fault ring.
    pub ring: FaultRing,
    /// 0 is the copy queue, 1 + i compute queue i.
    pub queues: Vec<Queue>,
    /// The fault injection registers.
    pub inject: Inject,
    /// The process is about to end.
    pub shutdown: bool,
}

impl State {
    /// The state at power-on of a device with `queues` compute queues.
    pub fn new(queues: usize) -> Self {
        State {
            queues: (0..=queues).map(|_| Queue::default()).collect(),
            ..State::default()
        }
    }

    /// Whether a queue may begin its next descriptor.
    pub fn may_run(&self, queue: usize) -> bool {
        let q = &self.queues[queue];
        let may = self.enable && !self.resetting && self.error.is_none() && !self.shutdown;
        may && q.enable && !q.kill && q.head != q.tail
    }

    /// Whether nothing is under way that a reset would have to wait for.
    pub fn is_quiet(&self) -> bool {
        !self.tlb.busy && self.queues.iter().all(|q| !q.busy)
    }

    /// Tells all queues to end what they do.
    pub fn stop_all(&self) {
        for queue in &self.queues {
            queue.stop.store(true, Ordering::Release);
        }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        let mut queues = std::mem::take(&mut self.queues);
        queues.iter_mut().for_each(Queue::reset);
        *self = State {
            queues,
            shutdown: self.shutdown,
            ..State::default()
        };
    }
}
