// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! When blocks of a VM were needed, also those that are not on the device any more; and what has become of them, for who
//! wants to know ([`Told`]).
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

/// Why memory has left the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum Cause {
    /// It has not.
    #[default]
    None = 0,
    /// Memory of a process needed room.
    Memory = 1,
    /// A buffer object or a page table did.
    Object = 2,
    /// It was advised so, or asked for.
    Advice = 3,
    /// The CPU accessed it.
    Cpu = 4,
}

/// What has become of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// Faults that were served for it.
    pub faults: u32,
    /// How often it came back after it was evicted.
    pub refaults: u32,
    /// Why it has last left the device.
    pub cause: Cause,
}

/// What is known of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    /// When it was needed last.
    needed: u64,
    /// Some of it was evicted since.
    evicted: bool,
    told: Told,
}

impl Value for Seen {
    fn advance(&self, _bytes: u64) -> Self {
        *self
    }

    fn continues(&self, _bytes: u64, next: &Self) -> bool {
        // What is counted of two is not what is counted of one.
        self == next && (self.told.faults, self.told.refaults) == (0, 0)
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
        let mut told = self.carried(&block);
        told.refaults = told.refaults.saturating_add(last.is_some().into());
        self.set(block, clock.now, false, told)?;
        Ok(last)
    }

    /// Takes note that something of a block was evicted, when it was needed, and why. `ENOMEM`.
    pub fn evict(&mut self, block: VaRange, needed: u64, cause: Cause) -> Result {
        let mut told = self.carried(&block);
        told.cause = cause;
        self.set(block, needed, true, told)
    }

    /// Takes note that a fault was served for a block that is on the device. `ENOMEM`.
    pub fn fault(&mut self, block: &VaRange) -> Result {
        self.tell(block, |told| told.faults = told.faults.saturating_add(1))
    }

    /// Takes note that something of a range has left the device, though not for others. `ENOMEM`.
    pub fn leave(&mut self, range: &VaRange, cause: Cause) -> Result {
        self.tell(range, |told| told.cause = cause)
    }

    /// What is known of the blocks that have something of a range, in sum; of which the last one that was needed says
    /// why it has left the device.
    pub fn told(&self, range: VaRange) -> Told {
        let mut latest = None;
        let mut all = Told::default();
        for entry in self.seen.overlaps(range) {
            let (seen, told) = (entry.value, &entry.value.told);
            all.faults = all.faults.saturating_add(told.faults);
            all.refaults = all.refaults.saturating_add(told.refaults);
            if told.cause != Cause::None && latest.is_none_or(|latest| latest <= seen.needed) {
                (latest, all.cause) = (Some(seen.needed), told.cause);
            }
        }
        all
    }

    /// What was told of blocks that a new one takes the place of. Those of which something is left tell it themselves.
    fn carried(&self, block: &VaRange) -> Told {
        let mut all = Told::default();
        for entry in self.seen.overlaps(*block) {
            let told = &entry.value.told;
            if told.cause != Cause::None {
                all.cause = told.cause;
            }
            if block.contains(&entry.range) {
                all.faults = all.faults.saturating_add(told.faults);
                all.refaults = all.refaults.saturating_add(told.refaults);
            }
        }
        all
    }

    /// Changes what is told of known blocks that have something of a range.
    fn tell(&mut self, range: &VaRange, change: impl Fn(&mut Told)) -> Result {
        let mut rest = Some(*range);
        while let Some(left) = rest {
            let Some(entry) = self.seen.first_overlap(&left) else {
                break;
            };
            let (block, mut seen) = (entry.range, *entry.value);
            change(&mut seen.told);
            self.seen.reserve(1)?;
            self.seen.set(block, seen, |_| ());
            rest = VaRange::from_bounds(block.end(), range.end());
        }
        self.seen.trim();
        Ok(())
    }

    fn set(&mut self, block: VaRange, needed: u64, evicted: bool, told: Told) -> Result {
        if self.seen.len() >= self.most {
            self.seen = RangeMap::new();
        }
        self.seen.reserve(1)?;
        let seen = Seen {
            needed,
            evicted,
            told,
        };
        self.seen.set(block, seen, |_| ());
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
        history.evict(block(1)?, 6, Cause::Memory)?;
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
    fn what_has_become_of_blocks_is_told() -> Result {
        let (mut history, mut clock) = (History::new(100), Clock { now: 1 });
        let told = |history: &History, range| {
            let told = history.told(range);
            (told.faults, told.refaults, told.cause)
        };
        // What is not known is not told of.
        history.fault(&block(1)?)?;
        assert_eq!(told(&history, block(1)?), (0, 0, Cause::None));
        for i in 1..4 {
            clock.now += 1;
            history.need(block(i)?, &clock)?;
            history.fault(&block(i)?)?;
            history.evict(block(i)?, 2, Cause::Memory)?;
        }
        // Though they are alike by now.
        let all = block(1)?.hull(&block(3)?);
        assert_eq!(told(&history, all), (3, 0, Cause::Memory));
        clock.now = 9;
        history.need(block(2)?, &clock)?;
        history.fault(&block(2)?)?;
        history.leave(&block(2)?, Cause::Cpu)?;
        assert_eq!(told(&history, block(2)?), (2, 1, Cause::Cpu));
        assert_eq!(told(&history, all), (4, 1, Cause::Cpu));
        assert_eq!(told(&history, block(3)?), (1, 0, Cause::Memory));
        // Only the evictor's doing is what memory comes back after.
        assert_eq!(history.last(&block(2)?), None);
        // One takes the place of several, or of a part of one.
        history.need(block(1)?.hull(&block(2)?), &clock)?;
        assert_eq!(told(&history, all).0, 4);
        history.need(VaRange::new(block(3)?.start(), 1 << 20)?, &clock)?;
        assert_eq!(told(&history, all).0, 4);
        Ok(())
    }

    #[test]
    fn parts_of_blocks_are_told_apart() -> Result {
        let (mut history, mut clock) = (History::new(100), Clock { now: 1 });
        let half = |i: u64| VaRange::new(i << 20, 1 << 20);
        history.need(half(0)?, &clock)?;
        history.need(half(1)?, &clock)?;
        history.evict(half(1)?, 1, Cause::Memory)?;
        clock.now = 4;
        assert_eq!(history.need(half(0)?, &clock)?, None);
        assert_eq!(history.need(half(1)?, &clock)?, Some(1));
        Ok(())
    }
}
