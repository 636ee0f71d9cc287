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

/// Returns the system's workqueue for work that may run anywhere (`system_dfl_wq`).
///
/// It stays, so that work may drop the last reference to anything; the queues of that name in the kernel crate are
/// deprecated.
pub fn system() -> &'static Queue {
    // SAFETY: `system_dfl_wq` is a C global, written before there are modules, and always available.
    unsafe { Queue::from_raw(bindings::system_dfl_wq) }
}

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

#[kunit_tests(gmem_vm_kapi_work)]
mod tests {
    use super::*;
    use kernel::{
        impl_has_delayed_work,
        impl_has_work,
        new_delayed_work,
        new_work,
        sync::{
            atomic::{
                Acquire,
                Atomic,
                Full, //
            },
            Completion, //
        },
        time::{
            delay::fsleep,
            msecs_to_jiffies,
            Delta, //
        },
        workqueue::DelayedWork, //
    };

    /// Work that takes a while.
    #[pin_data]
    struct Item {
        #[pin]
        work: Work<Item, 1>,
        #[pin]
        delayed: DelayedWork<Item, 2>,
        #[pin]
        started: Completion,
        begun: Atomic<u32>,
        ended: Atomic<u32>,
        ms: i64,
    }

    impl_has_work! {
        impl HasWork<Self, 1> for Item { self.work }
    }

    impl_has_delayed_work! {
        impl HasDelayedWork<Self, 2> for Item { self.delayed }
    }

    impl Item {
        fn new(ms: i64) -> Result<Arc<Self>> {
            Arc::pin_init(
                pin_init!(Self {
                    work <- new_work!("Item::work"),
                    delayed <- new_delayed_work!("Item::delayed"),
                    started <- Completion::new(),
                    begun: Atomic::new(0),
                    ended: Atomic::new(0),
                    ms,
                }),
                GFP_KERNEL,
            )
        }

        fn work(&self) {
            self.begun.fetch_add(1, Full);
            self.started.complete_all();
            fsleep(Delta::from_millis(self.ms));
            self.ended.fetch_add(1, Full);
        }

        fn runs(&self) -> (u32, u32) {
            (self.begun.load(Acquire), self.ended.load(Acquire))
        }
    }

    impl WorkItem<1> for Item {
        type Pointer = Arc<Self>;

        fn run(this: Arc<Self>) {
            this.work();
        }
    }

    impl WorkItem<2> for Item {
        type Pointer = Arc<Self>;

        fn run(this: Arc<Self>) {
            this.work();
        }
    }

    /// Whether nobody else has a reference.
    fn is_last(item: Arc<Item>) -> bool {
        Arc::into_unique_or_drop(item).is_some()
    }

    #[test]
    fn cancel_what_is_not_queued() -> Result {
        let item = Item::new(0)?;

        assert!(!cancel_sync::<_, 1>(&item));
        assert!(!cancel_delayed_sync::<_, 2>(&item));
        assert!(is_last(item));
        Ok(())
    }

    #[test]
    fn cancel_what_waits_for_its_timer() -> Result {
        let item = Item::new(0)?;

        assert!(system()
            .enqueue_delayed::<_, 2>(item.clone(), msecs_to_jiffies(1_000_000))
            .is_ok());
        assert!(system().enqueue_delayed::<_, 2>(item.clone(), 0).is_err());
        assert!(cancel_delayed_sync::<_, 2>(&item));
        assert!(!cancel_delayed_sync::<_, 2>(&item));
        assert_eq!(item.runs(), (0, 0));
        assert!(is_last(item));
        Ok(())
    }

    #[test]
    fn cancel_what_runs() -> Result {
        let item = Item::new(20)?;

        assert!(system().enqueue::<_, 1>(item.clone()).is_ok());
        item.started.wait_for_completion();
        assert!(!cancel_sync::<_, 1>(&item));
        assert_eq!(item.runs(), (1, 1));
        assert!(is_last(item));
        Ok(())
    }

    #[test]
    fn cancel_what_runs_and_is_queued_again() -> Result {
        let item = Item::new(20)?;

        assert!(system().enqueue::<_, 1>(item.clone()).is_ok());
        item.started.wait_for_completion();
        assert!(system().enqueue::<_, 1>(item.clone()).is_ok());
        assert!(cancel_sync::<_, 1>(&item));
        assert_eq!(item.runs(), (1, 1));
        assert!(is_last(item));
        Ok(())
    }

    #[test]
    fn cancel_what_is_queued_anywhere() -> Result {
        for i in 0..200 {
            let item = Item::new(0)?;

            assert!(system().enqueue::<_, 1>(item.clone()).is_ok());
            if i % 2 == 0 {
                kernel::time::delay::udelay(Delta::from_micros(i % 40));
            }
            let cancelled = cancel_sync::<_, 1>(&item);
            assert_eq!(item.runs(), if cancelled { (0, 0) } else { (1, 1) });
            assert!(is_last(item));
        }
        Ok(())
    }

    #[test]
    fn queue_waits_when_dropped() -> Result {
        let queue = OwnedQueue::new(c"gmem-vm-kunit")?;
        let items = [Item::new(5)?, Item::new(10)?, Item::new(0)?];

        for item in &items {
            assert!(queue.enqueue::<_, 1>(item.clone()).is_ok());
        }
        drop(queue);
        for item in items {
            assert_eq!(item.runs(), (1, 1));
            assert!(is_last(item));
        }
        Ok(())
    }

    #[test]
    fn delayed_handle_runs_its_work() -> Result {
        let queue = Arc::new(OwnedQueue::new(c"gmem-vm-kunit")?, GFP_KERNEL)?;
        let item = Item::new(0)?;
        let handle = DelayedHandle::<_, 2>::new(queue.clone(), item.clone());

        assert!(handle.enqueue(1));
        item.started.wait_for_completion();
        drop(handle);
        assert_eq!(item.runs(), (1, 1));
        assert!(is_last(item));
        assert!(Arc::into_unique_or_drop(queue).is_some());
        Ok(())
    }

    #[test]
    fn dropped_delayed_handle_cancels() -> Result {
        let queue = Arc::new(OwnedQueue::new(c"gmem-vm-kunit")?, GFP_KERNEL)?;
        let item = Item::new(0)?;
        let handle = DelayedHandle::<_, 2>::new(queue.clone(), item.clone());

        assert!(handle.enqueue(msecs_to_jiffies(1_000_000)));
        assert!(!handle.enqueue(0));
        // The handle keeps the queue.
        drop(queue);
        drop(handle);
        assert_eq!(item.runs(), (0, 0));
        assert!(is_last(item));
        Ok(())
    }
}
