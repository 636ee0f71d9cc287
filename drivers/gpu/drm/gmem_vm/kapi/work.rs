// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Workqueues that are destroyed, and work that is cancelled.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::ptr::NonNull;
use kernel::{
    bindings,
    container_of,
    prelude::*,
    sync::Arc,
    time::Jiffies,
    workqueue::{
        HasDelayedWork,
        HasWork,
        Queue,
        RawWorkItem,
        Work,
        WorkItem, //
    }, //
};

/// Cancels work, and waits until it does not run any more.
///
/// If it was queued, the reference that the queue held is dropped; returns whether that was the
/// case. The work may be queued again at any time, and may queue itself, unless that is prevented by
/// other means.
///
/// Sleeps. Must not be called by the work itself, which would wait for itself forever.
pub fn cancel_sync<T, const ID: u64>(item: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    let ptr = Arc::as_ptr(item);

    // SAFETY: `ptr` points at a valid `T`.
    let work = unsafe { T::raw_get_work(ptr.cast_mut()) };

    // SAFETY: `raw_get_work()` returned a pointer to a valid work item.
    let pending = unsafe { bindings::cancel_work_sync(Work::raw_get(work)) };

    if pending {
        // SAFETY: The work was queued and has been taken from the queue. As `T::Pointer` is
        // `Arc<T>`, that was done by `Arc<T>::__enqueue()`, which turned a reference into a pointer
        // for `T::Pointer::run()`, which will not be called now. So the reference is ours.
        drop(unsafe { Arc::from_raw(ptr) });
    }

    pending
}

/// Cancels delayed work, and waits until it does not run any more; see [`cancel_sync`].
pub fn cancel_delayed_sync<T, const ID: u64>(item: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    let ptr = Arc::as_ptr(item);

    // SAFETY: `ptr` points at a valid `T`.
    let work = unsafe { T::raw_get_work(ptr.cast_mut()) };

    // SAFETY: `raw_get_work()` returned a pointer to a valid work item, which by the requirements of
    // `HasDelayedWork` is in a `struct delayed_work`.
    let dwork = unsafe { container_of!(Work::raw_get(work), bindings::delayed_work, work) };

    // SAFETY: The pointer is valid, see above.
    let pending = unsafe { bindings::cancel_delayed_work_sync(dwork) };

    if pending {
        // SAFETY: As in `cancel_sync()`; it doesn't matter whether the work was waiting for its
        // timer or in a queue.
        drop(unsafe { Arc::from_raw(ptr) });
    }

    pending
}

/// A workqueue of one's own.
///
/// It is unbound, and has a rescuer, so that fences and memory reclaim may depend on it.
///
/// Dropping it waits for all work that is queued, including what that queues itself, and destroys
/// it. It must not be dropped by its own work. Delayed work goes through a [`DelayedHandle`], which
/// makes sure that no timer queues work that is no longer there.
///
/// # Invariants
///
/// `self.0` is a valid workqueue, which nobody else destroys.
pub struct OwnedQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A workqueue can be used and destroyed from any thread.
unsafe impl Send for OwnedQueue {}

// SAFETY: Queueing is synchronized by the workqueue itself.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Creates a workqueue.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The format and its argument are valid strings, which are copied.
        let ptr = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_MEM_RECLAIM,
                0,
                name.as_char_ptr(),
            )
        };

        // INVARIANT: The workqueue has just been made.
        Ok(Self(NonNull::new(ptr).ok_or(ENOMEM)?))
    }

    /// Queues work, unless it is queued already; see [`Queue::enqueue`].
    pub fn enqueue<W, const ID: u64>(&self, work: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        self.queue().enqueue(work)
    }

    /// Returns the queue. Only for what is over, or cancelled, when this one is dropped.
    fn queue(&self) -> &Queue {
        // SAFETY: By the type invariant the workqueue is valid, until `self` is dropped.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the workqueue is valid, and there are no references to it
        // any more. No timer is going to queue anything either: `DelayedHandle`, which alone queues
        // delayed work here, has a reference to `self` until it has cancelled that.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// The right to queue an item of delayed work in an [`OwnedQueue`].
///
/// Dropping it [cancels](cancel_delayed_sync) the work; hence it sleeps, and the work itself must
/// not drop it.
///
/// # Invariants
///
/// The work is in `queue`, waits to be, or runs, only as long as this exists, unless it was queued by
/// other means.
pub struct DelayedHandle<T, const ID: u64 = 0>
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID> + Send + Sync + 'static,
{
    queue: Arc<OwnedQueue>,
    item: Arc<T>,
}

impl<T, const ID: u64> DelayedHandle<T, ID>
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID> + Send + Sync + 'static,
{
    /// Allows to queue `item` in `queue`.
    pub fn new(queue: Arc<OwnedQueue>, item: Arc<T>) -> Self {
        Self { queue, item }
    }

    /// Returns the item.
    pub fn item(&self) -> &Arc<T> {
        &self.item
    }

    /// Queues the work after a delay. Returns `false` if it was queued already.
    ///
    /// Can be called in any context.
    pub fn enqueue(&self, delay: Jiffies) -> bool {
        self.queue
            .queue()
            .enqueue_delayed(self.item.clone(), delay)
            .is_ok()
    }
}

impl<T, const ID: u64> Drop for DelayedHandle<T, ID>
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID> + Send + Sync + 'static,
{
    fn drop(&mut self) {
        cancel_delayed_sync(&self.item);
    }
}
