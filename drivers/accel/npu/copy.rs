// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The copy queue: batches of copies with one fence.
//!
//! A batch too large for the queue goes in groups; all but the last are waited for, which also
//! bounds what is queued.
//!
//! Locks: `submit`, a mutex, keeps batches apart; it is held while a group is waited for and never
//! in the signalling path.

use crate::hw_queue::{
    Descriptor,
    Entry,
    EntryNode,
    HwQueue,
    Outcome,
    FLAG_IRQ, //
};
use gmem_vm::{
    kapi::dma_fence::{
        Fence,
        FenceOps,
        FenceReservation,
        PendingFence,
        Timeline, //
    },
    CopyOp,
    CopySource,
    Location, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// Longest time one copy may take, in milliseconds.
pub(crate) const TIMEOUT_MS: u32 = 10_000;
/// Descriptors of a group.
const GROUP: usize = 32;
/// Most bytes one descriptor copies.
const MAX_BYTES: u64 = 1 << 30;

const OP_COPY: u32 = 2;
const OP_FILL: u32 = 3;
const SRC_HOST: u32 = 1 << 1;
const DST_HOST: u32 = 1 << 2;

/// Fences of the copy queue.
pub(crate) struct CopyFence;

impl FenceOps for CopyFence {
    const DRIVER_NAME: &'static CStr = c"npu";
    const TIMELINE_NAME: &'static CStr = c"npu-copy";
}

/// What the descriptors of a group share.
struct Group {
    failed: AtomicFlag,
}

/// One descriptor of a group.
pub(crate) struct CopyPart {
    group: Arc<Group>,
    /// The last one signals the fence.
    fence: Option<PendingFence<CopyFence>>,
}

impl CopyPart {
    /// Called in the signalling path.
    pub(crate) fn complete(self, outcome: Outcome) {
        if outcome.result.is_err() {
            self.group.failed.store(true, Relaxed);
        }
        if let Some(fence) = self.fence {
            let result = match outcome.result {
                Ok(()) if self.group.failed.load(Relaxed) => Err(EIO),
                Err(e) if e != ENODEV => Err(EIO),
                result => result,
            };
            fence.signal(result);
        }
    }
}

/// The copy queue.
#[pin_data]
pub(crate) struct CopyQueue {
    queue: Arc<HwQueue>,
    #[pin]
    submit: Mutex<Timeline<CopyFence>>,
}

impl CopyQueue {
    pub(crate) fn new(queue: Arc<HwQueue>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            queue,
            submit <- new_mutex!(Timeline::new(), "npu::CopyQueue::submit"),
        })
    }

    pub(crate) fn hw_queue(&self) -> &Arc<HwQueue> {
        &self.queue
    }

    /// Queues a batch; see [`gmem_vm::Driver::copy`].
    pub(crate) fn copy(&self, batch: &[CopyOp]) -> Result<ARef<Fence>> {
        let mut descriptors = KVVec::new();
        for op in batch {
            let mut done = 0;
            while done < op.size {
                let size = (op.size - done).min(MAX_BYTES);
                descriptors.push(descriptor(op, done, size), GFP_KERNEL)?;
                done += size;
            }
        }
        let mut last: Option<ARef<Fence>> = None;
        let timeline = self.submit.lock();
        for group in descriptors.chunks(GROUP) {
            if let Some(fence) = last.take() {
                fence.wait(false, None)?;
                fence.status().unwrap_or(Err(EIO))?;
            }
            last = Some(self.submit_group(&timeline, group)?);
        }
        Ok(last.unwrap_or_else(Fence::signaled_stub))
    }

    fn submit_group(
        &self,
        timeline: &Timeline<CopyFence>,
        descriptors: &[Descriptor],
    ) -> Result<ARef<Fence>> {
        let mut nodes = KVec::<EntryNode>::with_capacity(descriptors.len(), GFP_KERNEL)?;
        for _ in descriptors {
            nodes.push(EntryNode::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let group = Arc::new(
            Group {
                failed: AtomicFlag::new(false),
            },
            GFP_KERNEL,
        )?;
        let reservation = FenceReservation::new(GFP_KERNEL)?;
        // Nothing fails from here on.
        let pending = reservation.publish(timeline);
        let fence = pending.fence();
        let mut pending = Some(pending);
        let count = descriptors.len();
        for (i, (node, mut descriptor)) in nodes
            .into_iter()
            .zip(descriptors.iter().copied())
            .enumerate()
        {
            let is_last = i + 1 == count;
            if is_last {
                descriptor.flags |= FLAG_IRQ;
            }
            let part = CopyPart {
                group: group.clone(),
                fence: if is_last { pending.take() } else { None },
            };
            self.queue.push(node, descriptor, Entry::Copy(part));
        }
        Ok(fence)
    }
}

fn descriptor(op: &CopyOp, done: u64, size: u64) -> Descriptor {
    let mut flags = 0;
    let (opcode, source) = match op.source {
        CopySource::Fill(pattern) => (OP_FILL, pattern),
        CopySource::At(location) => {
            if matches!(location, Location::Host(_)) {
                flags |= SRC_HOST;
            }
            (OP_COPY, location.address() + done)
        }
    };
    if matches!(op.destination, Location::Host(_)) {
        flags |= DST_HOST;
    }
    Descriptor {
        opcode,
        flags,
        operands: [source, op.destination.address() + done, size],
    }
}
