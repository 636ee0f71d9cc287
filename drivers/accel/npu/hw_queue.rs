// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A hardware queue: its ring, what is in it and what waits for it.
//!
//! Everything that was given to a queue ends exactly once, and in order: when the device says so,
//! when the watchdog kills it (it ran too long, or its owner is gone), or when the device goes
//! away. The watchdog also looks for completions itself, so that a lost interrupt costs time and
//! nothing else.
//!
//! Locks: `order`, a mutex, serialises completion; `inner`, a spinlock, is taken inside it. Both
//! are taken in the signalling path: nothing allocates under them.

use crate::{
    copy::CopyPart,
    driver::Hardware,
    hw::Hw,
    job::Job,
    pool::Pool,
    workers::Workers, //
};
use gmem_vm::kapi::{
    dma_fence::SignallingSection,
    work::DelayedHandle, //
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
/// How often the watchdog looks, in milliseconds.
const WATCHDOG_MS: u32 = 100;

/// 64-bit words of a descriptor.
const WORDS: usize = 8;

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
    /// How long it was in the hardware, in nanoseconds.
    pub(crate) ran: u64,
}

impl Outcome {
    pub(crate) fn error(error: Error) -> Self {
        Self {
            result: Err(error),
            reason: 0,
            detail: 0,
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
    /// When the first entry in the ring came to be the first.
    since: Instant<Monotonic>,
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
                    since: Instant::now(),
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
                outcome.ran = u64::try_from(inner.since.elapsed().as_nanos()).unwrap_or(0);
                inner.in_flight -= 1;
                inner.head = inner.head.wrapping_add(1);
                inner.since = Instant::now();
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
            let descriptor = *descriptor;
            let ring = inner.ring.as_ref()?;
            if write_descriptor(ring, inner.tail, descriptor).is_err() {
                break;
            }
            // The descriptor before the doorbell.
            barrier::dma_mb(barrier::Write);
            if inner.in_flight == 0 {
                inner.since = Instant::now();
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
        let limit = Delta::from_millis(i64::from(self.timeout_ms));
        (inner.since.elapsed() > limit).then_some(ETIMEDOUT)
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
                this.workers.enqueue(hardware);
            }
            this.arm_watchdog(WATCHDOG_MS);
            return;
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
