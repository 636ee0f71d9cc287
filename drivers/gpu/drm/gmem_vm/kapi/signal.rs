// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Signals.
//!
//! C header: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use kernel::{
    bindings,
    prelude::*, //
};

/// Fails with `EINTR` if the current process is being killed. For what takes long and has no better
/// way to end early: other signals, which may come over and over, do not end it. Process context.
pub fn check_killed() -> Result {
    // SAFETY: The current task is valid.
    if unsafe { bindings::fatal_signal_pending(kernel::current!().as_ptr()) } != 0 {
        return Err(EINTR);
    }

    Ok(())
}
