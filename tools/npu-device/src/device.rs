// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The card: its parts, its threads, and what concerns all of them: errors, events and reset.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::counters::Counters;
use crate::error::ProgrammingError;
use crate::irq::Interrupts;
use crate::mmu::Mmu;
use crate::space::Space;
use crate::state::{self, EVENT_ERROR, State};
use crate::trace::Trace;
use crate::{invalidate, queue};

/// What is chosen when the device starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of local memory.
    pub memory: u64,
    /// Bytes of the aperture, 0 if there is none.
    pub aperture: u64,
    /// Compute queues.
    pub queues: usize,
    /// Replayable faults can be enabled.
    pub faults: bool,
    /// The fault injection registers exist.
    pub inject: bool,
}

/// The smallest local memory and aperture, and the unit of the memory's size.
pub const UNIT: u64 = 2 << 20;
/// The most compute queues.
pub const MAX_QUEUES: usize = 16;

impl Config {
    /// The largest aperture onto `memory` bytes.
    pub fn largest_aperture(memory: u64) -> u64 {
        if memory == 0 { 0 } else { 1 << memory.ilog2() }
    }

    /// Says what is wrong, if something is.
    pub fn check(&self) -> Result<(), String> {
        if self.memory < UNIT || self.memory % UNIT != 0 {
            return Err("the memory must be a multiple of 2M, and at least that".into());
        }
        let largest = Config::largest_aperture(self.memory);
        let aperture = self.aperture;
        if aperture != 0 && (aperture < UNIT || !aperture.is_power_of_two() || aperture > largest) {
            return Err(format!(
                "the aperture must be 0 or a power of two from 2M to {}M with this memory",
                largest >> 20
            ));
        }
        if self.queues == 0 || self.queues > MAX_QUEUES {
            return Err(format!("there must be 1 to {MAX_QUEUES} compute queues"));
        }
        Ok(())
    }
}

/// What `INJECT_DIE` does.
pub type Die = Box<dyn Fn() + Send + Sync>;

/// All parts of the card but its threads.
pub struct Shared {
    /// What was chosen at start.
    pub config: Config,
    /// Memory.
    pub space: Arc<Space>,
    /// Address translation.
    pub mmu: Mmu,
    /// Counters.
    pub counters: Arc<Counters>,
    /// Interrupts.
    pub interrupts: Interrupts,
    pub(crate) die: Die,
    started: Instant,
    state: Mutex<State>,
    /// One for each of the queues' threads.
    queue_wake: Vec<Condvar>,
    tlb_wake: Condvar,
    reset_done: Condvar,
}

/// Who waits for the state to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// The thread of a queue.
    Queue(usize),
    /// The thread that performs TLB invalidations.
    Tlb,
    /// Whoever waits for a reset to be done.
    Reset,
}

/// The card, running. Dropping it stops its threads.
pub struct Device {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::ops::Deref for Device {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Device {
    /// Powers a card on. `die` is what `INJECT_DIE` calls.
    pub fn new(config: Config, die: Die) -> io::Result<Self> {
        Device::traced(config, die, None)
    }

    /// The same; what its jobs access is traced, if there is a trace.
    pub fn traced(config: Config, die: Die, trace: Option<Trace>) -> io::Result<Self> {
        config.check().map_err(io::Error::other)?;
        let space = Arc::new(Space::new(config.memory)?);
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            config,
            mmu: Mmu::new(Arc::clone(&space), Arc::clone(&counters), trace),
            space,
            counters,
            interrupts: Interrupts::new(2 + config.queues),
            die,
            started: Instant::now(),
            state: Mutex::new(State::new(config.queues)),
            queue_wake: (0..=config.queues).map(|_| Condvar::new()).collect(),
            tlb_wake: Condvar::new(),
            reset_done: Condvar::new(),
        });
        let mut device = Device {
            shared,
            threads: Vec::new(),
        };
        device.spawn("interrupts", |shared| shared.interrupts.run())?;
        device.spawn("tlb", invalidate::run)?;
        device.spawn("copy", |shared| queue::run(shared, 0))?;
        for i in 0..config.queues {
            device.spawn(&format!("compute-{i}"), move |shared| {
                queue::run(shared, 1 + i)
            })?;
        }
        Ok(device)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(&Shared) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || run(&shared))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Resets the device, and returns when that is done: what the bus does.
    pub fn reset(&self) {
        let mut state = self.lock();
        self.begin_reset(&mut state);
        while state.resetting {
            state = self.wait(state, Waiter::Reset);
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.shutdown = true;
        state.stop_all();
        drop(state);
        self.notify_queues();
        self.notify(Waiter::Tlb);
        self.interrupts.shutdown();
        for thread in self.threads.drain(..) {
            // A panic was already reported on standard error.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Nanoseconds since the device started.
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn condvar(&self, waiter: Waiter) -> &Condvar {
        match waiter {
            Waiter::Queue(queue) => &self.queue_wake[queue],
            Waiter::Tlb => &self.tlb_wake,
            Waiter::Reset => &self.reset_done,
        }
    }

    /// Waits until there may be something new.
    pub(crate) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        waiter: Waiter,
    ) -> MutexGuard<'a, State> {
        self.condvar(waiter)
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be something new, or some time has passed.
    pub(crate) fn wait_for<'a>(
        &self,
        state: MutexGuard<'a, State>,
        waiter: Waiter,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        let wait = self.condvar(waiter).wait_timeout(state, time);
        wait.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes a waiter up.
    pub(crate) fn notify(&self, waiter: Waiter) {
        self.condvar(waiter).notify_all();
    }

    /// Wakes the threads of all queues up.
    pub(crate) fn notify_queues(&self) {
        self.queue_wake.iter().for_each(Condvar::notify_all);
    }

    /// Raises a vector, as far as injections let it.
    pub(crate) fn raise(&self, state: &mut State, vector: usize) {
        if state::take(&mut state.inject.irq_drop) {
            log::debug!("interrupt {vector} dropped");
        } else if state.inject.irq_delay > 0 {
            let delay = Duration::from_millis(state.inject.irq_delay.into());
            self.interrupts.raise_later(vector, delay);
        } else {
            self.interrupts.raise(vector);
        }
    }

    /// Sets a bit of `EVENT`.
    pub(crate) fn event(&self, state: &mut State, bit: u32) {
        if state.event & bit == 0 {
            state.event |= bit;
            self.raise(state, 0);
        }
    }

    /// Reports a programming error and halts the device.
    pub(crate) fn error(&self, state: &mut State, error: ProgrammingError) {
        if state.resetting {
            return;
        }
        log::error!("{error}");
        if state.error.is_none() {
            state.error = Some(error);
            state.stop_all();
            self.event(state, EVENT_ERROR);
            self.notify_queues();
        }
    }

    /// Begins a reset. It is done when all threads have ended what they do.
    pub(crate) fn begin_reset(&self, state: &mut State) {
        state.resetting = true;
        state.stop_all();
        state.tlb.pending.clear();
        self.finish_reset(state);
        self.notify_queues();
    }

    /// Ends a reset, if one is under way and nothing hinders it.
    pub(crate) fn finish_reset(&self, state: &mut State) {
        if state.resetting && state.is_quiet() {
            self.mmu.reset();
            self.interrupts.cancel();
            self.counters.reset();
            state.reset();
            log::debug!("reset");
            self.notify(Waiter::Reset);
        }
    }
}
