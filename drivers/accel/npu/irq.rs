// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Interrupts: one vector for events, one for each queue. All are served by threads.

use crate::{
    driver::Hardware,
    hw_queue::HwQueue, //
};
use kernel::{
    irq::{
        IrqReturn,
        ThreadedHandler, //
    },
    prelude::*,
    sync::Arc, //
};

/// What a vector is for.
enum Source {
    Events(Arc<Hardware>),
    Queue(Arc<HwQueue>),
}

/// The handler of a vector.
pub(crate) struct Handler(Source);

impl Handler {
    /// The handler of a vector by its number.
    pub(crate) fn new(hardware: &Arc<Hardware>, vector: usize) -> Result<Self> {
        Ok(Self(match vector.checked_sub(1) {
            None => Source::Events(hardware.clone()),
            Some(queue) => Source::Queue(hardware.hw_queue(queue).ok_or(EINVAL)?.clone()),
        }))
    }
}

impl ThreadedHandler for Handler {
    fn handle_threaded(&self) -> IrqReturn {
        match &self.0 {
            Source::Queue(queue) => queue.pump(),
            Source::Events(hardware) => hardware.handle_events(),
        }
        IrqReturn::Handled
    }
}
