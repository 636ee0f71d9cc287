// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! As Huawei's GMEM does, for comparison: first in, first out, 16 pages of 2 MiB at a time (`gm_page.c`).

use super::policy::{
    Clock,
    Facts,
    Policy, //
};

/// First in, first out.
pub struct Gmem;

impl Policy for Gmem {
    fn batch(&self) -> u64 {
        16 << 21
    }

    fn keeps_copies(&self) -> bool {
        false
    }

    fn is_fair(&self) -> bool {
        false
    }

    fn worth(&self, facts: &Facts, _clock: &Clock) -> u64 {
        facts.taken
    }
}
