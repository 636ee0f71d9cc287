// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The workqueues of a device: one in the signalling path, one for what frees memory.
//!
//! All deferred work of the driver runs here, so that unbinding can wait for all of it. May be used
//! in any context.

use gmem_vm::kapi::work::{
    DelayedHandle,
    OwnedQueue, //
};
use kernel::{
    prelude::*,
    revocable::Revocable,
    sync::Arc,
    workqueue::{
        HasDelayedWork,
        RawWorkItem,
        WorkItem, //
    }, //
};

/// The workqueues, until they are stopped.
#[pin_data]
pub(crate) struct Workers {
    #[pin]
    queue: Revocable<Arc<OwnedQueue>>,
    /// For what frees memory, and so may wait for fences that the other one signals.
    #[pin]
    cleanup: Revocable<Arc<OwnedQueue>>,
}

impl Workers {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let queue = Arc::new(OwnedQueue::new(c"npu")?, GFP_KERNEL)?;
        let cleanup = Arc::new(OwnedQueue::new(c"npu-cleanup")?, GFP_KERNEL)?;
        Arc::pin_init(
            try_pin_init!(Self {
                queue <- Revocable::new(queue),
                cleanup <- Revocable::new(cleanup),
            }),
            GFP_KERNEL,
        )
    }

    /// Queues work, unless it is queued already or the workers were stopped.
    pub(crate) fn enqueue<W, const ID: u64>(&self, work: W)
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        self.queue.try_access_with(|queue| {
            let _ = queue.enqueue(work);
        });
    }

    /// Queues work that frees memory, unless it is queued already or the workers were stopped.
    pub(crate) fn enqueue_cleanup<W, const ID: u64>(&self, work: W)
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        self.cleanup.try_access_with(|queue| {
            let _ = queue.enqueue(work);
        });
    }

    /// The right to queue delayed work here. To be dropped before [`stop`](Self::stop).
    pub(crate) fn delayed<T>(&self, item: Arc<T>) -> Option<DelayedHandle<T>>
    where
        T: WorkItem<Pointer = Arc<T>> + HasDelayedWork<T> + Send + Sync + 'static,
    {
        let queue = self.queue.try_access()?.clone();
        Some(DelayedHandle::new(queue, item))
    }

    /// Waits for all work and refuses new work. Sleeps.
    pub(crate) fn stop(&self) {
        self.queue.revoke();
        self.cleanup.revoke();
    }
}
