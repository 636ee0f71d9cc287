// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`Dependencies`]: the fences that a batch or a job waits for.
//!
//! They are filled where memory may be allocated, and looked at in the signalling path.

use crate::kapi::dma_fence::{
    Fence,
    FenceWaiter,
    Wake, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// Fences to be waited for, one after the other, by a `T` that each wakes.
pub struct Dependencies<T: Wake> {
    waiters: KVec<Pin<KBox<FenceWaiter<T>>>>,
    /// The first that has not been found signalled.
    next: usize,
    /// Whether that one will wake us.
    armed: bool,
}

impl<T: Wake> Default for Dependencies<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Wake> Dependencies<T> {
    /// Nothing to wait for.
    pub const fn new() -> Self {
        Self {
            waiters: KVec::new(),
            next: 0,
            armed: false,
        }
    }

    /// Adds some fences; `target` will be woken when one may be over. `ENOMEM`.
    pub fn add_all(
        &mut self,
        fences: impl IntoIterator<Item = ARef<Fence>>,
        target: &Arc<T>,
    ) -> Result {
        for fence in fences {
            let waiter = FenceWaiter::new(fence, target.clone(), GFP_KERNEL)?;
            self.waiters.push(waiter, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Adds a fence whose context signals in the order of numbers that do not wrap: of several of
    /// one context, the last is waited for. `ENOMEM`.
    pub fn add_ordered(&mut self, fence: &ARef<Fence>, target: &Arc<T>) -> Result {
        let same = |w: &Pin<KBox<FenceWaiter<T>>>| w.fence().context() == fence.context();
        match self.waiters.iter_mut().find(|w| same(w)) {
            Some(waiter) if waiter.fence().seqno() >= fence.seqno() => Ok(()),
            Some(waiter) => {
                *waiter = FenceWaiter::new(fence.clone(), target.clone(), GFP_KERNEL)?;
                Ok(())
            }
            None => self.add_all([fence.clone()], target),
        }
    }

    /// Whether all have signalled; if not, the target will be woken when that may have changed.
    ///
    /// For one thread at a time. Neither sleeps nor allocates.
    pub fn are_over(&mut self) -> bool {
        loop {
            let Some(waiter) = self.waiters.get_mut(self.next) else {
                return true;
            };
            if self.armed {
                if !waiter.fence().is_signaled() {
                    return false;
                }
            } else if waiter.as_mut().arm() {
                self.armed = true;
                return false;
            }
            self.next += 1;
            self.armed = false;
        }
    }
}
