// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`BindQueue`]: batches of changes that wait to be done, in order.
//!
//! A VM has one of its own and as many as userspace makes. A queue does one batch at a time; queues
//! are independent of each other. All that happens here between a batch's fence and its signal
//! neither allocates nor takes a lock that is held over an allocation; what is left of a batch is
//! freed by other work, since freeing takes such locks.
//!
//! Locks: `current`, a mutex, makes batches be done one at a time, and the lock of the tables is
//! taken inside; `freeing`, a mutex, is held while batches are freed, outside of all locks that takes;
//! `state`, a spinlock, is a leaf.

use crate::{
    bind::BindJob,
    chain::Chain,
    device::DeviceRef,
    driver::Driver,
    kapi::{
        dma_fence::{
            Fence,
            FenceOps,
            FenceReservation,
            SignallingSection,
            Timeline,
            Wake, //
        },
        lock::{
            new_mutex,
            new_spinlock,
            new_work, //
        },
        work::cancel_sync, //
    },
};
use kernel::{
    impl_has_work,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        aref::ARef,
        Arc,
        Mutex,
        SpinLock, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// Fences of batches.
pub(crate) struct BindFence;

impl FenceOps for BindFence {
    const DRIVER_NAME: &'static CStr = c"gmem_vm";
    const TIMELINE_NAME: &'static CStr = c"gmem_vm-bind";
}

/// Room for a batch in a queue.
pub(crate) type Node<D> = RBTreeNodeReservation<u64, KBox<BindJob<D>>>;

struct State<D: Driver> {
    /// By number.
    pending: RBTree<u64, KBox<BindJob<D>>>,
    /// Number of batches that were ever queued.
    queued: u64,
    /// Its VM was destroyed: batches are cancelled.
    closed: bool,
    /// No more batches will come.
    destroyed: bool,
    /// Batches that are done and wait to be freed.
    retired: Chain<BindJob<D>>,
}

/// A bind queue.
#[pin_data]
pub struct BindQueue<D: Driver> {
    timeline: Timeline<BindFence>,
    #[pin]
    state: SpinLock<State<D>>,
    /// The batch that is next, if it was not ready.
    #[pin]
    current: Mutex<Option<KBox<BindJob<D>>>>,
    /// Held while batches are freed, so that who finds none left knows that they are.
    #[pin]
    freeing: Mutex<()>,
    #[pin]
    advance: Work<BindQueue<D>, 0>,
    #[pin]
    free: Work<BindQueue<D>, 1>,
    device: DeviceRef<D>,
}

impl_has_work! {
    impl{D: Driver} HasWork<Self, 0> for BindQueue<D> { self.advance }
    impl{D: Driver} HasWork<Self, 1> for BindQueue<D> { self.free }
}

impl<D: Driver> BindQueue<D> {
    /// An empty queue. `ENOMEM`.
    pub(crate) fn new(device: DeviceRef<D>) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                timeline: Timeline::new(),
                state <- new_spinlock!(State {
                    pending: RBTree::new(),
                    queued: 0,
                    closed: false,
                    destroyed: false,
                    retired: Chain::new(),
                }, "gmem_vm::BindQueue::state"),
                current <- new_mutex!(None, "gmem_vm::BindQueue::current"),
                freeing <- new_mutex!((), "gmem_vm::BindQueue::freeing"),
                advance <- new_work!("gmem_vm::BindQueue::advance"),
                free <- new_work!("gmem_vm::BindQueue::free"),
                device,
            }),
            GFP_KERNEL,
        )
    }

    /// The context of its fences.
    pub(crate) fn context(&self) -> u64 {
        self.timeline.context()
    }

    /// Allocates room for a batch.
    pub(crate) fn reserve(&self) -> Result<Node<D>> {
        RBTreeNodeReservation::new(GFP_KERNEL)
    }

    /// Queues a batch and publishes its fence; to be followed by [`kick`](Self::kick) or
    /// [`advance`](Self::advance). Batches are in the order in which the caller's VM lock was taken.
    pub(crate) fn push(
        &self,
        node: Node<D>,
        mut job: KBox<BindJob<D>>,
        reservation: FenceReservation<BindFence>,
    ) -> ARef<Fence> {
        let mut state = self.state.lock();
        // Under the lock: fences are in the order of batches.
        let pending = reservation.publish(&self.timeline);
        let fence = pending.fence();
        job.set_fence(pending);
        state.queued += 1;
        let key = state.queued;
        state.pending.insert(node.into_node(key, job));
        fence
    }

    /// Lets a worker go on. Any context, but only while the VM is not closed, which the VM lock tells,
    /// or from a waiter: closing waits for what was queued before.
    pub(crate) fn kick(self: &Arc<Self>) {
        let _ = self.device.workers().bind.enqueue::<_, 0>(self.clone());
    }

    fn pop(&self) -> Option<KBox<BindJob<D>>> {
        let mut state = self.state.lock();
        let key = *state.pending.cursor_front()?.current().0;
        state.pending.remove(&key)
    }

    /// Does all batches that are ready, in order. In the signalling path.
    pub(crate) fn advance(&self) {
        let _signalling = SignallingSection::new();
        let mut current = self.current.lock();
        loop {
            if current.is_none() {
                *current = self.pop();
            }
            let Some(job) = (*current).as_mut() else {
                return;
            };
            let cancelled = self.state.lock().closed;
            if !cancelled && !job.is_ready() {
                return;
            }
            job.execute(cancelled);
            if let Some(job) = current.take() {
                self.state.lock().retired.push(job);
            }
        }
    }

    /// Frees what is left of batches that are done, unless that is for [`finish`](Self::finish) to do. May sleep; not in the
    /// signalling path.
    pub(crate) fn free_retired(&self) {
        // What was cancelled has objects that the page table still maps.
        self.free_if(|state| !state.closed);
    }

    fn free_if(&self, may: impl FnOnce(&State<D>) -> bool) {
        let _freeing = self.freeing.lock();
        let retired = {
            let mut state = self.state.lock();
            match may(&state) {
                true => core::mem::take(&mut state.retired),
                false => return,
            }
        };
        drop(retired);
    }

    /// From now on batches are cancelled. Only for a VM that takes no more.
    pub(crate) fn refuse(&self) {
        self.state.lock().closed = true;
    }

    /// After [`refuse`](Self::refuse), cancels all batches that are not done, and waits for the one
    /// that is being done. Their objects and tables are kept until [`finish`](Self::finish).
    pub(crate) fn cancel(self: &Arc<Self>) {
        cancel_sync::<_, 0>(self);
        self.advance();
    }

    /// Frees all that [`cancel`](Self::cancel) kept; no work is left behind.
    pub(crate) fn finish(self: &Arc<Self>) {
        cancel_sync::<_, 1>(self);
        self.free_if(|_| true);
        // What a waiter queued before it was dropped.
        cancel_sync::<_, 0>(self);
    }

    /// Refuses new batches.
    pub(crate) fn destroy(&self) {
        self.state.lock().destroyed = true;
    }

    /// Whether it was [destroyed](Self::destroy). Settled for who holds the VM lock.
    pub(crate) fn is_destroyed(&self) -> bool {
        self.state.lock().destroyed
    }

    /// Whether it has nothing to do and nothing to free.
    pub(crate) fn is_idle(&self) -> bool {
        let current = self.current.lock();
        let state = self.state.lock();
        current.is_none() && state.pending.is_empty() && state.retired.is_empty()
    }
}

impl<D: Driver> Wake for BindQueue<D> {
    fn wake(this: &Arc<Self>) {
        this.kick();
    }
}

impl<D: Driver> WorkItem<0> for BindQueue<D> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.advance();
        if !this.state.lock().closed {
            let _ = this.device.workers().free.enqueue::<_, 1>(this.clone());
        }
    }
}

impl<D: Driver> WorkItem<1> for BindQueue<D> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.free_retired();
    }
}
