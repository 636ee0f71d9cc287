// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A job: commands to be run in a VM by a queue.
//!
//! Whatever happens, its fence is signalled once, in the order of submission. A job is freed
//! outside of the signalling path, since its VM's last reference may go with it.

use crate::{
    driver::Npu,
    hw_queue::{
        Descriptor,
        EntryNode,
        Outcome,
        FLAG_IRQ, //
    },
    queue::Queue, //
};
use gmem_vm::{
    kapi::dma_fence::{
        Fence,
        FenceOps,
        FenceWaiter,
        PendingFence, //
    },
    Vm, //
};
use kernel::{
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex,
        SpinLock, //
    }, //
};

const OP_JOB: u32 = 1;

/// Fences of jobs.
pub(crate) struct JobFence;

impl FenceOps for JobFence {
    const DRIVER_NAME: &'static CStr = c"npu";
    const TIMELINE_NAME: &'static CStr = c"npu-queue";
}

/// What a job waits for.
struct Dependencies {
    waiters: KVec<Pin<KBox<FenceWaiter<Queue>>>>,
    /// The first that has not signalled yet.
    next: usize,
    /// Whether that one will wake us.
    armed: bool,
}

/// What a job has until it takes it along to the next stage.
#[derive(Default)]
struct Parts {
    fence: Option<PendingFence<JobFence>>,
    node: Option<EntryNode>,
    /// Links jobs that have ended.
    next: Option<Arc<Job>>,
}

/// A job.
#[pin_data]
pub(crate) struct Job {
    queue: Arc<Queue>,
    vm: Arc<Vm<Npu>>,
    commands: u64,
    size: u32,
    #[pin]
    dependencies: Mutex<Dependencies>,
    #[pin]
    parts: SpinLock<Parts>,
}

impl Job {
    /// A job of `size` bytes of commands at a device address, which waits for some fences.
    pub(crate) fn new(
        queue: Arc<Queue>,
        vm: Arc<Vm<Npu>>,
        commands: u64,
        size: u32,
        waits: KVec<ARef<Fence>>,
    ) -> Result<Arc<Self>> {
        let mut waiters = KVec::with_capacity(waits.len(), GFP_KERNEL)?;
        for fence in waits {
            waiters.push(
                FenceWaiter::new(fence, queue.clone(), GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }
        let node = Some(EntryNode::new(GFP_KERNEL)?);
        Arc::pin_init(
            try_pin_init!(Self {
                queue,
                vm,
                commands,
                size,
                dependencies <- new_mutex!(Dependencies {
                    waiters,
                    next: 0,
                    armed: false,
                }, "npu::Job::dependencies"),
                parts <- new_spinlock!(Parts {
                    fence: None,
                    node,
                    next: None,
                }, "npu::Job::parts"),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes the job answerable for a fence.
    pub(crate) fn set_fence(&self, fence: PendingFence<JobFence>) {
        self.parts.lock().fence = Some(fence);
    }

    /// Whether all it waits for has signalled; if not, its queue will be woken when that may have
    /// changed.
    ///
    /// Only the queue's worker calls this.
    pub(crate) fn is_ready(&self) -> bool {
        let mut deps = self.dependencies.lock();
        loop {
            let (next, armed) = (deps.next, deps.armed);
            let Some(waiter) = deps.waiters.get_mut(next) else {
                return true;
            };
            if armed {
                if !waiter.fence().is_signaled() {
                    return false;
                }
            } else if waiter.as_mut().arm() {
                deps.armed = true;
                return false;
            }
            deps.next += 1;
            deps.armed = false;
        }
    }

    /// Whether its queue was closed.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.queue.is_closed()
    }

    /// Room in a hardware queue, once.
    pub(crate) fn take_node(&self) -> Option<EntryNode> {
        self.parts.lock().node.take()
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor {
            opcode: OP_JOB,
            flags: FLAG_IRQ,
            operands: [self.vm.root(), self.commands, self.size.into()],
        }
    }

    /// Ends the job. Called in the signalling path, in order.
    pub(crate) fn complete(this: Arc<Self>, mut outcome: Outcome) {
        // A file that is closed loses its jobs and its mappings together; which of the two ended the
        // job first means nothing. That the device is gone does.
        if outcome.result.is_err_and(|e| e != ENODEV) && this.is_cancelled() {
            outcome = Outcome::error(ECANCELED);
        }
        let fence = this.parts.lock().fence.take();
        let queue = this.queue.clone();
        queue.finished(&outcome);
        if let Some(fence) = fence {
            fence.signal(outcome.result);
        }
        // Only now the next job can be handed over: fences signal in order.
        queue.retire(this);
    }

    /// Links a job that has ended to those that ended before.
    pub(crate) fn link(&self, next: Option<Arc<Job>>) {
        self.parts.lock().next = next;
    }

    /// Undoes [`link`](Self::link).
    pub(crate) fn unlink(&self) -> Option<Arc<Job>> {
        self.parts.lock().next.take()
    }
}
