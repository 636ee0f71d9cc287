// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the device has not accessed for longest goes first.
//!
//! Right where what was needed lately will be needed soon; the worst there is where more than fits is gone through
//! again and again.

use super::policy::{
    Clock,
    Facts,
    Policy, //
};

/// Least recently accessed.
pub struct Lru;

impl Policy for Lru {
    fn asks(&self) -> bool {
        true
    }

    fn worth(&self, facts: &Facts, _clock: &Clock) -> u64 {
        facts.needed
    }
}
