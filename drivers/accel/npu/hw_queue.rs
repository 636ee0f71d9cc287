// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A hardware queue: its ring, what is in it and what waits for it.
//!
//! Everything that was given to a queue ends exactly once, and in order: when the device says so,
//! when the watchdog kills it (it ran too long, or its owner is gone), or when the device goes
//! away. The watchdog also looks for completions itself, so that a lost interrupt costs time and
//! nothing else.
//!
//! # Faults
//!
//! A job that touches what is not mapped waits, if the device can fault, until the fault is answered.
//! The answer takes memory, whose reclaim may wait for fences, the job's own among them. That it is
//! allowed between a fence and its signal all the same is the watchdog's work: it ends a job that
//! did not get on for the time it may take. Getting on is a replay at another address than the last
//! one, and each of those is an access done that will not be done again, of the finitely many that a
//! job has. The watchdog neither waits for an answer nor allocates, and what it calls doesn't; so a job
//! whose fault can't be served, for want of memory that only its own end gives back, ends by it, and
//! all who wait for its fence wait for a bounded time.
//!
//! A fault is known again by a ticket: the key of the job, and the queue. Keys are never used twice,
//! and are looked at under the lock under which jobs end. So an answer that comes late meets nobody
//! else.
//!
//! Locks: `order`, a mutex, serialises completion; `inner`, a spinlock, is taken inside it. Both
//! are taken in the signalling path: nothing allocates under them.

use crate::{
    copy::CopyPart,
    driver::{
        Hardware,
        Npu, //
    },
    fault_ring::{
        access_code,
        Record, //
    },
    hw::Hw,
    job::Job,
    pool::Pool,
    regs::COPY_QUEUE,
    workers::Workers, //
};
use gmem_vm::{
    kapi::{
        dma_fence::SignallingSection,
        work::DelayedHandle, //
    },
    Fault,
    FaultAccess,
    Verdict, //
};
use kernel::{
    device,
    dma::Coherent,
    impl_has_delayed_work,
    io::{
        io_read,
        io_write, //
    },
    new_delayed_work,
    new_mutex,
    new_spinlock,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sizes::SZ_4K,
    sync::{
        barrier,
        Arc,
        Mutex,
        SpinLock, //
    },
    time::{
        msecs_to_jiffies,
        Delta,
        Instant,
        Monotonic, //
    },
    workqueue::{
        DelayedWork,
        WorkItem, //
    }, //
};

/// log2 of a ring's number of descriptors.
const RING_LOG2: u32 = 6;
const RING_LEN: u32 = 1 << RING_LOG2;
/// Longest time in which a job may do nothing but fault on one page, in milliseconds. Others may wait for its
/// fence, and nothing that ends it then needs memory.
const FAULT_TIMEOUT_MS: u32 = 20_000;
/// How often the watchdog looks, in milliseconds.
const WATCHDOG_MS: u32 = 100;

/// 64-bit words of a descriptor.
const WORDS: usize = 8;

/// Bits of a ticket that say which queue.
const TICKET_QUEUE_BITS: u32 = 8;

/// The index of the queue that a ticket is of.
pub(crate) fn queue_of(ticket: u64) -> usize {
    (ticket & ((1 << TICKET_QUEUE_BITS) - 1)) as usize
}

/// What software writes of a descriptor of any queue; see Documentation/accel/npu/queues.rst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) opcode: u32,
    pub(crate) flags: u32,
    /// The three words that follow; what they mean is up to the opcode.
    pub(crate) operands: [u64; 3],
}

/// Flag of a descriptor: raise the interrupt.
pub(crate) const FLAG_IRQ: u32 = 1 << 0;

/// How a descriptor ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result,
    /// The device's own words.
    pub(crate) reason: u32,
    pub(crate) detail: u64,
    /// What it could not do, as a number ([`access_code`]); 0 if the device did not say.
    pub(crate) access: u32,
    /// How long it was in the hardware, in nanoseconds.
    pub(crate) ran: u64,
}

impl Outcome {
    pub(crate) fn error(error: Error) -> Self {
        Self {
            result: Err(error),
            reason: 0,
            detail: 0,
            access: 0,
            ran: 0,
        }
    }

    fn from_device(status: u32, reason: u32, detail: u64, killed: Error) -> Self {
        Self {
            result: match status {
                1 => Ok(()),
                2 => Err(EFAULT),
                3 => Err(EINVAL),
                4 => Err(killed),
                _ => Err(EIO),
            },
            reason,
            detail,
            access: 0,
            ran: 0,
        }
    }
}

/// What a descriptor belongs to.
pub(crate) enum Entry {
    Job(Arc<Job>),
    Copy(CopyPart),
}

impl Entry {
    /// Whether nobody wants it any more.
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Job(job) => job.is_cancelled(),
            Self::Copy(_) => false,
        }
    }

    /// Called in the signalling path, in order.
    fn complete(self, outcome: Outcome) {
        match self {
            Self::Job(job) => Job::complete(job, outcome),
            Self::Copy(part) => part.complete(outcome),
        }
    }
}

/// Room for one entry, allocated ahead.
pub(crate) type EntryNode = RBTreeNodeReservation<u64, (Descriptor, Entry)>;

/// The ring as the device sees it.
struct Ring {
    descriptors: Coherent<[u64]>,
    head: Coherent<[u32]>,
}

/// What became of the first entry in the ring so far.
#[derive(Clone, Copy)]
struct First {
    /// When it came to be the first.
    since: Instant<Monotonic>,
    /// When it last got on, as far as can be seen.
    progress: Instant<Monotonic>,
    /// Since when it waits for an answer to a fault.
    asked: Option<Instant<Monotonic>>,
    /// How long it has waited for answers since it last got on, in nanoseconds.
    waited: i64,
    /// The page and access of its last fault.
    fault: Option<(u64, FaultAccess)>,
    /// The page that it was last told to try again.
    replayed: Option<u64>,
}

impl First {
    fn now() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            progress: now,
            asked: None,
            waited: 0,
            fault: None,
            replayed: None,
        }
    }

    /// Takes note that it tries again what faulted.
    fn replay(&mut self) {
        let page = self.fault.map(|(page, _)| page);
        if let Some(asked) = self.asked.take() {
            self.waited += asked.elapsed().as_nanos();
        }
        // The same again is no progress: it may go on like that forever.
        if self.replayed != page {
            self.replayed = page;
            self.progress = Instant::now();
            self.waited = 0;
        }
    }

    /// Whether it has not got on for too long. Memory for what it touches takes as long as it takes, in an access
    /// up to [`FAULT_TIMEOUT_MS`].
    fn is_stuck(&self, timeout_ms: u32) -> bool {
        let ms = |ms: u32| Delta::from_millis(i64::from(ms)).as_nanos();
        let elapsed = self.progress.elapsed().as_nanos();
        elapsed > ms(FAULT_TIMEOUT_MS)
            || (self.asked.is_none() && elapsed - self.waited > ms(timeout_ms))
    }

    /// Adds to how it ended what is known here.
    fn finish(&self, outcome: &mut Outcome) {
        outcome.ran = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(0);
        let page = outcome.detail & !(SZ_4K as u64 - 1);
        if let (Err(EFAULT), Some((va, access))) = (outcome.result, self.fault) {
            if va == page {
                outcome.access = access_code(access);
            }
        }
    }
}

struct Inner {
    /// Taken away when the driver is unbound.
    ring: Option<Ring>,
    /// All that was given and has not ended, by order; the first `in_flight` are in the ring.
    entries: RBTree<u64, (Descriptor, Entry)>,
    /// Key of the next entry to be given to us.
    next_key: u64,
    /// Key of the next entry to go into the ring.
    next_submit: u64,
    in_flight: u32,
    head: u32,
    tail: u32,
    /// Nothing goes into the ring: the watchdog kills, or the device is being reset.
    stopped: bool,
    /// Why the watchdog killed.
    kill_reason: Error,
    /// Of the first entry in the ring.
    first: First,
    /// What arms the watchdog, while the queue is started.
    watchdog: Option<DelayedHandle<HwQueue>>,
    /// Who can reset the device, while the queue is started.
    hardware: Option<Arc<Hardware>>,
}

/// A hardware queue.
#[pin_data]
pub(crate) struct HwQueue {
    hw: Arc<Hw>,
    workers: Arc<Workers>,
    /// Where it gets entries when it has none.
    pool: Option<Arc<Pool>>,
    /// Index of its registers.
    index: usize,
    /// Descriptors that may be in the ring at a time.
    depth: u32,
    timeout_ms: u32,
    #[pin]
    order: Mutex<()>,
    #[pin]
    inner: SpinLock<Inner>,
    #[pin]
    watchdog: DelayedWork<HwQueue>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for HwQueue { self.watchdog }
}

impl HwQueue {
    /// Makes a queue; `start` must follow. With a depth of 1 a kill always hits what it is meant
    /// for.
    pub(crate) fn new(
        dev: &device::Device<device::Bound>,
        hw: Arc<Hw>,
        workers: Arc<Workers>,
        pool: Option<Arc<Pool>>,
        index: usize,
        depth: u32,
        timeout_ms: u32,
    ) -> Result<Arc<Self>> {
        let ring = Ring {
            descriptors: Coherent::zeroed_slice(dev, WORDS * RING_LEN as usize, GFP_KERNEL)?,
            head: Coherent::zeroed_slice(dev, 16, GFP_KERNEL)?,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                hw,
                workers,
                pool,
                index,
                depth: depth.min(RING_LEN),
                timeout_ms,
                order <- new_mutex!((), "npu::HwQueue::order"),
                inner <- new_spinlock!(Inner {
                    ring: Some(ring),
                    entries: RBTree::new(),
                    next_key: 0,
                    next_submit: 0,
                    in_flight: 0,
                    head: 0,
                    tail: 0,
                    stopped: false,
                    kill_reason: EIO,
                    first: First::now(),
                    watchdog: None,
                    hardware: None,
                }, "npu::HwQueue::inner"),
                watchdog <- new_delayed_work!("npu::HwQueue::watchdog"),
            }),
            GFP_KERNEL,
        )
    }

    /// Starts the queue, until [`stop`](Self::stop).
    pub(crate) fn start(self: &Arc<Self>, hardware: Arc<Hardware>) {
        let watchdog = self.workers.delayed(self.clone());
        let mut inner = self.inner.lock();
        inner.watchdog = watchdog;
        inner.hardware = Some(hardware);
        drop(inner);
        self.program();
    }

    /// Tells the device about the ring, empty as it is after a reset.
    fn program(&self) {
        let mut inner = self.inner.lock();
        inner.head = 0;
        inner.tail = 0;
        inner.stopped = false;
        if let Some(ring) = &inner.ring {
            let _ = write_head(ring, 0);
            self.hw.start_queue(
                self.index,
                ring.descriptors.dma_address(),
                RING_LOG2,
                ring.head.dma_address(),
            );
        }
    }

    /// Gives an entry to the queue, which has no pool.
    pub(crate) fn push(&self, node: EntryNode, descriptor: Descriptor, entry: Entry) {
        {
            let mut inner = self.inner.lock();
            let key = inner.next_key;
            inner.next_key += 1;
            inner
                .entries
                .insert(node.into_node(key, (descriptor, entry)));
        }
        self.pump();
    }

    /// Ends what has ended and starts what can start.
    pub(crate) fn pump(&self) {
        let _signalling = SignallingSection::new();
        let order = self.order.lock();
        loop {
            // Not in the loop's head: the lock must be free when the entry completes.
            let ended = self.step(&mut self.inner.lock());
            match ended {
                Some((entry, outcome)) => entry.complete(outcome),
                None => break,
            }
        }
        let busy = self.inner.lock().in_flight != 0;
        drop(order);
        if busy {
            self.arm_watchdog(WATCHDOG_MS);
        }
    }

    fn arm_watchdog(&self, ms: u32) {
        if let Some(watchdog) = &self.inner.lock().watchdog {
            watchdog.enqueue(msecs_to_jiffies(ms));
        }
    }

    /// Takes an entry from the pool if there is none.
    fn refill(&self, inner: &mut Inner) {
        if inner.entries.is_empty() {
            if let Some((key, node)) = self.pool.as_ref().and_then(|pool| pool.pop()) {
                inner.next_submit = key;
                inner.next_key = key + 1;
                inner.entries.insert(node);
            }
        }
    }

    /// Starts what can start, until something has ended; returns that.
    fn step(&self, inner: &mut Inner) -> Option<(Entry, Outcome)> {
        if self.hw.is_gone() {
            inner.in_flight = 0;
            self.refill(inner);
            inner.next_submit = inner.next_key;
            return take_first(inner, Outcome::error(ENODEV));
        }
        if inner.in_flight != 0 {
            if let Some(mut outcome) = completed(inner) {
                inner.first.finish(&mut outcome);
                inner.in_flight -= 1;
                inner.head = inner.head.wrapping_add(1);
                inner.first = First::now();
                return take_first(inner, outcome);
            }
        }
        while !inner.stopped {
            self.refill(inner);
            let key = inner.next_submit;
            let Some((descriptor, entry)) = inner.entries.get(&key) else {
                break;
            };
            if entry.is_cancelled() {
                // Behind others it waits for them, so that everything ends in order.
                if inner.in_flight != 0 {
                    break;
                }
                inner.next_submit += 1;
                return take_first(inner, Outcome::error(ECANCELED));
            }
            if inner.in_flight >= self.depth {
                break;
            }
            let mut descriptor = *descriptor;
            if self.pool.is_some() {
                // The job's cookie, by which its faults are known.
                descriptor.operands[2] |= u64::from(cookie(key)) << 32;
            }
            let ring = inner.ring.as_ref()?;
            if write_descriptor(ring, inner.tail, descriptor).is_err() {
                break;
            }
            // The descriptor before the doorbell.
            barrier::dma_mb(barrier::Write);
            if inner.in_flight == 0 {
                inner.first = First::now();
            }
            inner.tail = inner.tail.wrapping_add(1);
            inner.in_flight += 1;
            inner.next_submit += 1;
            self.hw.ring_doorbell(self.index, inner.tail);
        }
        None
    }

    /// Whether the first entry in the ring has to be killed, and why.
    fn must_kill(&self, inner: &Inner) -> Option<Error> {
        if inner.in_flight == 0 {
            return None;
        }
        let first = inner.entries.cursor_front()?;
        if first.current().1 .1.is_cancelled() {
            return Some(ECANCELED);
        }
        inner.first.is_stuck(self.timeout_ms).then_some(ETIMEDOUT)
    }

    /// The fault that the job in the ring waits on, by its record; none if it is another's, or nobody
    /// wants the job any more.
    pub(crate) fn fault(&self, record: &Record) -> Option<Fault<Npu>> {
        let access = record.access()?;
        let mut inner = self.inner.lock();
        let (key, entry) = running(&inner)?;
        let vm = match entry {
            Entry::Job(job) if cookie(key) == record.cookie && !job.is_cancelled() => {
                job.vm().clone()
            }
            _ => return None,
        };
        inner.first.fault = Some((record.va, access));
        inner.first.asked = Some(Instant::now());
        Some(Fault {
            vm,
            va: record.va,
            access,
            len: record.len,
            ticket: self.ticket(key),
        })
    }

    /// Answers a fault, if the job that it is of has not ended.
    pub(crate) fn answer(&self, ticket: u64, verdict: Verdict) {
        let mut inner = self.inner.lock();
        let current = running(&inner).map(|(key, _)| self.ticket(key));
        if current != Some(ticket) {
            return;
        }
        if verdict == Verdict::Replay {
            inner.first.replay();
        }
        // In the lock, so that the job can't end before, and the next one take the answer for its own.
        if let Some(compute) = self.index.checked_sub(COPY_QUEUE + 1) {
            self.hw.answer_fault(compute, verdict);
        }
    }

    fn ticket(&self, key: u64) -> u64 {
        key << TICKET_QUEUE_BITS | self.index as u64
    }

    /// Stops giving entries to the device; for a reset.
    pub(crate) fn pause(&self) {
        self.inner.lock().stopped = true;
    }

    /// Ends what was in the ring when the device was reset, then starts anew.
    pub(crate) fn restart(&self) {
        {
            let _signalling = SignallingSection::new();
            let _order = self.order.lock();
            loop {
                let ended = {
                    let mut inner = self.inner.lock();
                    if inner.in_flight == 0 {
                        break;
                    }
                    inner.in_flight -= 1;
                    take_first(&mut inner, Outcome::error(EIO))
                };
                if let Some((entry, outcome)) = ended {
                    entry.complete(outcome);
                }
            }
        }
        self.program();
    }

    /// Cancels the watchdog for good. Sleeps.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.lock();
        let watchdog = inner.watchdog.take();
        let hardware = inner.hardware.take();
        drop(inner);
        drop((watchdog, hardware));
    }

    /// Gives the ring's memory back; the device was stopped and the queue is empty.
    pub(crate) fn release(&self) {
        let ring = self.inner.lock().ring.take();
        drop(ring);
    }
}

impl WorkItem for HwQueue {
    type Pointer = Arc<Self>;

    /// The watchdog.
    fn run(this: Arc<Self>) {
        this.hw.probe_presence();
        this.pump();
        if this.hw.has_error() {
            // Its interrupt may be lost.
            if let Some(hardware) = this.inner.lock().hardware.clone() {
                this.workers.enqueue::<_, 0>(hardware);
            }
            this.arm_watchdog(WATCHDOG_MS);
            return;
        }
        if this.pool.is_some() && this.hw.faults().has_records(&this.hw) {
            // As may theirs. They take memory, so that is not for us.
            if let Some(hardware) = this.inner.lock().hardware.clone() {
                this.workers.enqueue_cleanup::<_, 1>(hardware);
            }
        }
        // A reset meanwhile would end what is to be killed.
        let maintenance = this.hw.maintain();
        let reason = {
            let mut inner = this.inner.lock();
            let reason = this.must_kill(&inner);
            if let Some(reason) = reason {
                inner.stopped = true;
                inner.kill_reason = reason;
            }
            reason
        };
        if let Some(reason) = reason {
            if reason == ETIMEDOUT {
                dev_warn!(
                    this.hw.dev(),
                    "queue {}: killing a job that takes too long\n",
                    this.index
                );
            }
            match this.hw.kill(this.index) {
                Ok(()) => {
                    this.pump();
                    this.hw.resume(this.index);
                    this.inner.lock().stopped = false;
                }
                Err(e) => {
                    // A device that does not even do this is lost.
                    dev_err!(
                        this.hw.dev(),
                        "queue {} can't be killed: {:?}\n",
                        this.index,
                        e
                    );
                    this.hw.fence_off();
                }
            }
        }
        drop(maintenance);
        this.pump();
    }
}

/// How the first descriptor in the ring ended, if it has.
fn completed(inner: &Inner) -> Option<Outcome> {
    let ring = inner.ring.as_ref()?;
    if read_head(ring).ok()? == inner.head {
        return None;
    }
    // The completion fields after the head.
    barrier::dma_mb(barrier::Read);
    read_outcome(ring, inner.head, inner.kill_reason).ok()
}

/// The first entry in the ring, with its key.
fn running(inner: &Inner) -> Option<(u64, &Entry)> {
    if inner.in_flight == 0 {
        return None;
    }
    let (key, (_, entry)) = inner.entries.iter().next()?;
    Some((*key, entry))
}

/// The cookie of a job. It tells the job from what ran in the same queue not too long ago.
fn cookie(key: u64) -> u32 {
    // CAST: The low half tells enough.
    key as u32
}

fn take_first(inner: &mut Inner, outcome: Outcome) -> Option<(Entry, Outcome)> {
    let key = *inner.entries.cursor_front()?.current().0;
    let (_, entry) = inner.entries.remove(&key)?;
    Some((entry, outcome))
}

/// Index in the ring's words of a word of a descriptor.
fn word(descriptor: u32, word: usize) -> usize {
    (descriptor % RING_LEN) as usize * WORDS + word
}

fn write_descriptor(ring: &Ring, at: u32, descriptor: Descriptor) -> Result {
    let words = &ring.descriptors;
    let [a, b, c] = descriptor.operands;
    let head = u64::from(descriptor.opcode) | u64::from(descriptor.flags) << 32;
    for (i, value) in [head, a, b, c, 0, 0, 0, 0].into_iter().enumerate() {
        io_write!(words, [try: word(at, i)], value.to_le());
    }
    Ok(())
}

fn read_outcome(ring: &Ring, at: u32, killed: Error) -> Result<Outcome> {
    let words = &ring.descriptors;
    let status = u64::from_le(io_read!(words, [try: word(at, 4)]));
    let detail = u64::from_le(io_read!(words, [try: word(at, 5)]));
    // CAST: The word holds two fields of 32 bits.
    Ok(Outcome::from_device(
        status as u32,
        (status >> 32) as u32,
        detail,
        killed,
    ))
}

fn read_head(ring: &Ring) -> Result<u32> {
    let head = &ring.head;
    Ok(u32::from_le(io_read!(head, [try: 0])))
}

fn write_head(ring: &Ring, value: u32) -> Result {
    let head = &ring.head;
    io_write!(head, [try: 0], value.to_le());
    Ok(())
}

#[kunit_tests(npu_hw_queue)]
mod tests {
    use super::*;

    const PAGE: u64 = SZ_4K as u64;

    fn fault(first: &mut First, va: u64) {
        first.fault = Some((va, FaultAccess::Write));
    }

    #[test]
    fn another_address_is_progress() {
        let mut first = First::now();
        let mut replay = |va| {
            let before = first.progress;
            fault(&mut first, va);
            // Clocks are finer than that.
            while before.elapsed() < Delta::from_micros(2) {}
            first.replay();
            !(first.progress - before).is_zero()
        };
        assert!(replay(PAGE));
        assert!(!replay(PAGE));
        assert!(replay(2 * PAGE));
        assert!(!replay(2 * PAGE));
        assert!(replay(PAGE));
    }

    #[test]
    fn the_access_is_told_of_the_fault_that_ended_it() {
        let mut first = First::now();
        let mut end = |status, detail| {
            let mut outcome = Outcome::from_device(status, 1, detail, ETIMEDOUT);
            fault(&mut first, PAGE);
            first.finish(&mut outcome);
            outcome.access
        };
        assert_eq!(end(2, PAGE + 8), 2);
        assert_eq!(end(2, 2 * PAGE), 0);
        assert_eq!(end(3, PAGE), 0);
        assert_eq!(end(4, 0), 0);
    }
}
