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
    dependencies::Dependencies,
    kapi::dma_fence::{
        Fence,
        FenceOps,
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
    dependencies: Mutex<Dependencies<Queue>>,
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
        let mut dependencies = Dependencies::new();
        dependencies.add_all(waits, &queue)?;
        let node = Some(EntryNode::new(GFP_KERNEL)?);
        Arc::pin_init(
            try_pin_init!(Self {
                queue,
                vm,
                commands,
                size,
                dependencies <- new_mutex!(dependencies, "npu::Job::dependencies"),
                parts <- new_spinlock!(Parts {
                    fence: None,
                    node,
                    next: None,
                }, "npu::Job::parts"),
            }),
            GFP_KERNEL,
        )
    }

    /// The address space it runs in.
    pub(crate) fn vm(&self) -> &Arc<Vm<Npu>> {
        &self.vm
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
        self.dependencies.lock().are_over()
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
