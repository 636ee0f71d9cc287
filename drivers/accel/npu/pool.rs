// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Jobs that are ready to run, and wait for a compute queue.
//!
//! Any compute queue that has nothing to do takes the next: a job that blocks one of them delays
//! nobody as long as another is free.
//!
//! Locks: one spinlock, a leaf.

use crate::hw_queue::{
    Descriptor,
    Entry,
    EntryNode, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        Arc,
        SpinLock, //
    }, //
};

struct Ready {
    entries: RBTree<u64, (Descriptor, Entry)>,
    next_key: u64,
}

/// A job that left the pool, in the node that held it there.
pub(crate) type Popped = RBTreeNode<u64, (Descriptor, Entry)>;

/// Jobs that are ready to run, in the order in which they became so.
#[pin_data]
pub(crate) struct Pool {
    #[pin]
    ready: SpinLock<Ready>,
}

impl Pool {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                ready <- new_spinlock!(Ready {
                    entries: RBTree::new(),
                    next_key: 0,
                }, "npu::Pool::ready"),
            }),
            GFP_KERNEL,
        )
    }

    /// Adds a job.
    pub(crate) fn push(&self, node: EntryNode, descriptor: Descriptor, entry: Entry) {
        let mut ready = self.ready.lock();
        let key = ready.next_key;
        ready.next_key += 1;
        ready
            .entries
            .insert(node.into_node(key, (descriptor, entry)));
    }

    /// Takes the first job, with a key that grows.
    pub(crate) fn pop(&self) -> Option<(u64, Popped)> {
        let mut ready = self.ready.lock();
        let key = *ready.entries.cursor_front()?.current().0;
        Some((key, ready.entries.remove_node(&key)?))
    }
}
