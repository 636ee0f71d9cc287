// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! When blocks of a VM were needed, also those that are not on the device any more.
//!
//! Plain bookkeeping; lives under the lock of [`crate::device_pages`].

use super::policy::{
    average,
    Clock, //
};
use crate::{
    range::VaRange,
    range_map::{
        RangeMap,
        Value, //
    }, //
};
use kernel::prelude::*;

/// What is known of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    /// When it was needed last.
    needed: u64,
    /// How long that took of late, if it happened more than once.
    interval: u64,
    /// Some of it was evicted since.
    evicted: bool,
}

impl Value for Seen {
    fn advance(&self, _bytes: u64) -> Self {
        *self
    }

    fn continues(&self, _bytes: u64, next: &Self) -> bool {
        self == next
    }
}

/// When blocks of a VM were needed.
pub struct History {
    seen: RangeMap<Seen>,
    most: usize,
}

impl History {
    /// Nothing is known; of so many blocks something can be. If it is more, all is forgotten, and begins anew.
    pub const fn new(most: usize) -> Self {
        Self {
            seen: RangeMap::new(),
            most,
        }
    }

    /// Host memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.seen.bytes()
    }

    /// Takes note that a block is needed now; returns how long that takes, of late, or 0. `ENOMEM`.
    pub fn need(&mut self, block: VaRange, clock: &Clock) -> Result<Need> {
        let before = self.seen.first_overlap(&block).map(|e| *e.value);
        let mut interval = before.map_or(0, |seen| seen.interval);
        let mut again = false;
        if let Some(seen) = before.filter(|seen| seen.evicted) {
            again = true;
            let passed = clock.now.saturating_sub(seen.needed).max(1);
            interval = average(interval, passed);
        }
        self.set(block, clock.now, interval, false)?;
        Ok(Need { interval, again })
    }

    /// Takes note that something of a block was evicted, and what was known of it then. `ENOMEM`.
    pub fn evict(&mut self, block: VaRange, needed: u64, interval: u64) -> Result {
        self.set(block, needed, interval, true)
    }

    fn set(&mut self, block: VaRange, needed: u64, interval: u64, evicted: bool) -> Result {
        if self.seen.len() >= self.most {
            self.seen = RangeMap::new();
        }
        self.seen.reserve(1)?;
        let seen = Seen {
            needed,
            interval,
            evicted,
        };
        self.seen.set(block, seen, |_| ());
        self.seen.trim();
        Ok(())
    }
}

/// How a block was needed before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// How long it takes until it is needed again, of late; 0 if that has not happened.
    pub interval: u64,
    /// It was evicted before.
    pub again: bool,
}

#[kunit_tests(gmem_vm_evict_history)]
mod tests {
    use super::*;

    fn block(number: u64) -> Result<VaRange> {
        VaRange::new(number << 21, 1 << 21)
    }

    #[test]
    fn only_what_was_evicted_is_needed_again() -> Result {
        let (mut history, mut clock) = (History::new(100), Clock::default());
        clock.now = 5;
        assert_eq!(history.need(block(1)?, &clock)?, Need::default());
        // More of it comes.
        clock.now = 6;
        assert_eq!(history.need(block(1)?, &clock)?, Need::default());
        history.evict(block(1)?, 6, 0)?;
        clock.now = 16;
        let again = history.need(block(1)?, &clock)?;
        assert_eq!((again.interval, again.again), (10, true));
        // Once more, and sooner; the others know nothing of that.
        history.evict(block(1)?, 16, 10)?;
        clock.now = 20;
        assert_eq!(history.need(block(1)?, &clock)?.interval, 7);
        assert_eq!(history.need(block(2)?, &clock)?, Need::default());
        assert_eq!(history.need(block(1)?, &clock)?.interval, 7);
        Ok(())
    }

    #[test]
    fn not_too_much_is_remembered() -> Result {
        let (mut history, clock) = (History::new(4), Clock::default());
        for i in 0..100 {
            let clock = Clock { now: i };
            history.need(block(i)?, &clock)?;
            assert!(history.seen.len() <= 4);
        }
        assert!(!history.need(block(7)?, &clock)?.again);
        Ok(())
    }

    #[test]
    fn parts_of_blocks_are_told_apart() -> Result {
        let (mut history, mut clock) = (History::new(100), Clock { now: 1 });
        let half = |i: u64| VaRange::new(i << 20, 1 << 20);
        history.need(half(0)?, &clock)?;
        history.need(half(1)?, &clock)?;
        history.evict(half(1)?, 1, 0)?;
        clock.now = 4;
        assert!(!history.need(half(0)?, &clock)?.again);
        assert_eq!(history.need(half(1)?, &clock)?.interval, 3);
        Ok(())
    }
}
