// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Queues as userspace sees them.
//!
//! A [`Queue`] holds its jobs until what they wait for has signalled, and then hands them, in
//! order, to a hardware queue that it may share with others. Only so many at a time, so that one
//! busy queue does not keep the others waiting.
//!
//! Locks: `state`, a spinlock, is a leaf; it is taken in the signalling path.

use crate::{
    driver::{
        Hardware,
        Npu, //
    },
    hw_queue::{
        Entry,
        Outcome, //
    },
    job::{
        Job,
        JobFence, //
    }, //
};
use gmem_vm::{
    kapi::dma_fence::{
        Fence,
        FenceReservation,
        SignallingSection,
        Timeline,
        Wake, //
    },
    sync::Syncs,
    Hold, //
};
use kernel::{
    impl_has_work,
    new_spinlock,
    new_work,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// Most jobs of a queue that have not ended: memory for them is the kernel's.
const MAX_JOBS: u64 = 1024;

/// How the last job that failed did so.
#[derive(Clone, Copy, Default)]
pub(crate) struct Failure {
    pub(crate) errno: u32,
    pub(crate) seqno: u64,
    pub(crate) reason: u32,
    pub(crate) detail: u64,
    pub(crate) access: u32,
}

struct State {
    /// Jobs that were not handed over, by number.
    pending: RBTree<u64, Arc<Job>>,
    /// Number of jobs submitted.
    submitted: u64,
    /// Number of jobs that have ended.
    completed: u64,
    /// Number of jobs that have been freed.
    freed: u64,
    /// A job was handed over and has not ended.
    handed: bool,
    last_failure: Failure,
    closed: bool,
    /// Jobs that have ended and wait to be freed.
    retired: Option<Arc<Job>>,
}

/// A queue.
#[pin_data]
pub(crate) struct Queue {
    hardware: Arc<Hardware>,
    /// How long jobs of its file have been in the hardware, in nanoseconds.
    busy: Arc<Atomic<u64>>,
    timeline: Timeline<JobFence>,
    #[pin]
    state: SpinLock<State>,
    #[pin]
    kick: Work<Queue, 0>,
    #[pin]
    free: Work<Queue, 1>,
}

impl_has_work! {
    impl HasWork<Self, 0> for Queue { self.kick }
    impl HasWork<Self, 1> for Queue { self.free }
}

impl Queue {
    pub(crate) fn new(hardware: &Arc<Hardware>, busy: Arc<Atomic<u64>>) -> Result<Arc<Self>> {
        let hardware = hardware.clone();
        let queue = Arc::pin_init(
            try_pin_init!(Self {
                hardware,
                busy,
                timeline: Timeline::new(),
                state <- new_spinlock!(State {
                    pending: RBTree::new(),
                    submitted: 0,
                    completed: 0,
                    freed: 0,
                    handed: false,
                    last_failure: Failure::default(),
                    closed: false,
                    retired: None,
                }, "npu::Queue::state"),
                kick <- new_work!("npu::Queue::kick"),
                free <- new_work!("npu::Queue::free"),
            }),
            GFP_KERNEL,
        )?;
        Ok(queue)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Submits a job; its fence is put where `syncs` says. `ENOENT` if the queue was closed,
    /// `EBUSY` if [`MAX_JOBS`] of its jobs have not ended, `ENOMEM`; `EAGAIN` if what is held for it was taken out
    /// again.
    pub(crate) fn submit(
        self: &Arc<Self>,
        job: Arc<Job>,
        syncs: &mut Syncs,
        hold: Option<Hold<Npu>>,
    ) -> Result {
        let reservation = FenceReservation::new(GFP_KERNEL)?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let publish = || -> Result<ARef<Fence>> {
            let mut state = self.state.lock();
            if state.closed {
                return Err(ENOENT);
            }
            if state.submitted - state.completed >= MAX_JOBS {
                return Err(EBUSY);
            }
            // Under the lock: fences are in the order of jobs.
            let pending = reservation.publish(&self.timeline);
            let fence = pending.fence();
            job.set_fence(pending);
            state.submitted += 1;
            let seqno = state.submitted;
            state.pending.insert(node.into_node(seqno, job));
            Ok(fence)
        };
        let fence = match hold {
            Some(hold) => hold.publish(publish)?,
            None => publish()?,
        };
        syncs.publish(&fence);
        self.hardware.workers().enqueue::<_, 0>(self.clone());
        Ok(())
    }

    /// Hands the next job over if it is ready and none is under way.
    fn hand_over(&self) {
        let _signalling = SignallingSection::new();
        loop {
            let (job, closed) = {
                let state = self.state.lock();
                let Some(cursor) = state.pending.cursor_front() else {
                    return;
                };
                if state.handed {
                    return;
                }
                (cursor.current().1.clone(), state.closed)
            };
            if !closed && !job.is_ready() {
                return;
            }
            {
                let mut state = self.state.lock();
                let Some(key) = state.pending.cursor_front().map(|c| *c.current().0) else {
                    return;
                };
                state.handed = true;
                // Before the job can end: the last reference to it must not be dropped here, in the
                // signalling path.
                drop(state.pending.remove(&key));
            }
            if let Some(room) = job.take_node() {
                let descriptor = job.descriptor();
                self.hardware.run_job(room, descriptor, Entry::Job(job));
            }
        }
    }

    /// Takes note that a job has ended. In the signalling path.
    pub(crate) fn finished(&self, outcome: &Outcome) {
        self.busy.fetch_add(outcome.ran, Relaxed);
        let mut state = self.state.lock();
        state.completed += 1;
        if let Err(e) = outcome.result {
            state.last_failure = Failure {
                errno: e.to_errno().unsigned_abs(),
                seqno: state.completed,
                reason: outcome.reason,
                detail: outcome.detail,
                access: outcome.access,
            };
        }
    }

    /// Frees a job later, and lets the next one go on.
    pub(crate) fn retire(self: &Arc<Self>, job: Arc<Job>) {
        {
            let mut state = self.state.lock();
            state.handed = false;
            job.link(state.retired.take());
            state.retired = Some(job);
        }
        self.hardware
            .workers()
            .enqueue_cleanup::<_, 1>(self.clone());
        self.hardware.workers().enqueue::<_, 0>(self.clone());
    }

    /// Frees the jobs that have ended. May sleep.
    pub(crate) fn free_retired(&self) {
        let mut next = self.state.lock().retired.take();
        let mut freed = 0;
        while let Some(job) = next {
            next = job.unlink();
            drop(job);
            freed += 1;
        }
        self.state.lock().freed += freed;
    }

    /// How the last job that failed did so, and how many have ended.
    pub(crate) fn status(&self) -> (Failure, u64) {
        let state = self.state.lock();
        (state.last_failure, state.completed)
    }

    /// Refuses new jobs and ends those there are, without waiting for it.
    pub(crate) fn close(self: &Arc<Self>) {
        self.state.lock().closed = true;
        // The watchdog of the hardware queue finds and kills those that run.
        self.hardware.workers().enqueue::<_, 0>(self.clone());
    }

    /// Ends all jobs of a device that is gone. The workers were stopped.
    pub(crate) fn abort(self: &Arc<Self>) {
        self.state.lock().closed = true;
        loop {
            // Each job pushed ends at once, which makes room for the next.
            self.hand_over();
            if self.state.lock().pending.is_empty() {
                break;
            }
        }
        self.free_retired();
    }

    /// Whether a closed queue has no jobs left, not even to be freed.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.state.lock();
        state.closed && state.freed == state.submitted
    }
}

impl Wake for Queue {
    fn wake(this: &Arc<Self>) {
        this.hardware.workers().enqueue::<_, 0>(this.clone());
    }
}

impl WorkItem<0> for Queue {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.hand_over();
    }
}

impl WorkItem<1> for Queue {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.free_retired();
        if this.is_drained() {
            this.hardware.forget_drained_queues();
        }
    }
}
