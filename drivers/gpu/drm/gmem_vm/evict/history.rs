// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! When blocks of a VM were needed, also those that are not on the device any more.
//!
//! Plain bookkeeping; lives under the lock of [`crate::device_pages`].

use super::policy::Clock;
use crate::{
    range::VaRange,
    range_map::{
        RangeMap,
        Value, //
    }, //
};
use kernel::prelude::*;

/// Blocks of a VM that are remembered for each chunk that there is.
const REMEMBERED: usize = 16;
/// Blocks of a VM that are remembered at least.
const REMEMBERED_LEAST: usize = 256;

/// What is known of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    /// When it was needed last.
    needed: u64,
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

    /// For a VM of a device with so many chunks.
    pub fn for_chunks(chunks: usize) -> Self {
        Self::new((REMEMBERED * chunks).max(REMEMBERED_LEAST))
    }

    /// Host memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.seen.bytes()
    }

    /// When a block was needed last, if it was evicted since.
    pub fn last(&self, block: &VaRange) -> Option<u64> {
        let seen = self.seen.first_overlap(block)?.value;
        seen.evicted.then_some(seen.needed)
    }

    /// Takes note that a block is needed now; returns what [`last`](Self::last) said. `ENOMEM`.
    pub fn need(&mut self, block: VaRange, clock: &Clock) -> Result<Option<u64>> {
        let last = self.last(&block);
        self.set(block, clock.now, false)?;
        Ok(last)
    }

    /// Takes note that something of a block was evicted, and when it was needed. `ENOMEM`.
    pub fn evict(&mut self, block: VaRange, needed: u64) -> Result {
        self.set(block, needed, true)
    }

    fn set(&mut self, block: VaRange, needed: u64, evicted: bool) -> Result {
        if self.seen.len() >= self.most {
            self.seen = RangeMap::new();
        }
        self.seen.reserve(1)?;
        self.seen.set(block, Seen { needed, evicted }, |_| ());
        self.seen.trim();
        Ok(())
    }
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
        assert_eq!(history.need(block(1)?, &clock)?, None);
        // More of it comes.
        clock.now = 6;
        assert_eq!(history.need(block(1)?, &clock)?, None);
        history.evict(block(1)?, 6)?;
        clock.now = 16;
        assert_eq!(history.last(&block(1)?), Some(6));
        assert_eq!(history.need(block(1)?, &clock)?, Some(6));
        assert_eq!(history.last(&block(1)?), None);
        // The others know nothing of that.
        assert_eq!(history.need(block(2)?, &clock)?, None);
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
        assert_eq!(history.need(block(7)?, &clock)?, None);
        Ok(())
    }

    #[test]
    fn parts_of_blocks_are_told_apart() -> Result {
        let (mut history, mut clock) = (History::new(100), Clock { now: 1 });
        let half = |i: u64| VaRange::new(i << 20, 1 << 20);
        history.need(half(0)?, &clock)?;
        history.need(half(1)?, &clock)?;
        history.evict(half(1)?, 1)?;
        clock.now = 4;
        assert_eq!(history.need(half(0)?, &clock)?, None);
        assert_eq!(history.need(half(1)?, &clock)?, Some(1));
        Ok(())
    }
}
