// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What comes back soon stays, and what has come but once goes: LIRS, as far as a device can be asked what it
//! has accessed.
//!
//! Most chunks are *hot*: they stay. The others, a few, are *cold*: memory that comes takes the place of the cold chunk that has not been
//! accessed for longest. It becomes hot itself if it came back sooner than it is since the hot chunk was accessed that has
//! not been for longest, which is cold then; or if it was accessed again while it was cold. So of data that is gone through
//! in a loop and does not fit all stays but a few chunks, through which the rest goes; a scan drives nothing out; and what
//! is used often stays.
//!
//! After S. Jiang and X. Zhang, "LIRS: an efficient low inter-reference recency set replacement policy"
//! (SIGMETRICS 2002), with times of [`Clock`] for its stack.

use super::policy::{
    Clock,
    Facts,
    Policy, //
};
use kernel::prelude::*;

/// Low inter-reference recency set.
pub struct Lirs;

impl Policy for Lirs {
    fn asks(&self) -> bool {
        true
    }

    fn has_hot(&self) -> bool {
        true
    }

    fn worth(&self, facts: &Facts, _clock: &Clock) -> u64 {
        const HOT: u64 = 1 << 63;
        facts.needed | if facts.hot { HOT } else { 0 }
    }

    fn accessed(&self, facts: &mut Facts, clock: &Clock) {
        facts.needed = clock.now;
        facts.hot = true;
    }
}

/// The hot chunks of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HotSet {
    /// How many there are.
    pub count: usize,
    /// The one that was not accessed for longest: when it was, and which it is.
    pub oldest: Option<(u64, usize)>,
}

impl HotSet {
    /// Of chunks that have memory, by their number.
    pub fn of<'a>(chunks: impl Iterator<Item = (usize, &'a Facts)>) -> Self {
        let hot = chunks.filter(|(_, facts)| facts.hot);
        hot.fold(Self::default(), |set, (i, facts)| {
            let this = (facts.needed, i);
            Self {
                count: set.count + 1,
                oldest: Some(set.oldest.map_or(this, |oldest| oldest.min(this))),
            }
        })
    }

    /// The hot chunk that has to be asked whether it was accessed before memory comes that was needed at `last`: it may
    /// have to be cold then.
    pub fn to_ask(&self, last: Option<u64>) -> Option<usize> {
        let (needed, chunk) = self.oldest?;
        last.filter(|&last| needed < last).map(|_| chunk)
    }

    /// Whether memory that was needed at `last`, if that is known, is hot as it comes; `most` chunks may be, and of
    /// the oldest it is known that it was not accessed (`is_idle`).
    pub fn admits(&self, last: Option<u64>, most: usize, is_idle: bool) -> bool {
        self.count < most || (is_idle && self.to_ask(last).is_some())
    }
}

#[kunit_tests(gmem_vm_evict_lirs)]
mod tests {
    use super::*;

    fn facts(needed: u64, hot: bool) -> Facts {
        Facts {
            needed,
            hot,
            ..Facts::default()
        }
    }

    #[test]
    fn cold_chunks_go_first() {
        let clock = Clock { now: 100 };
        let worth = |needed, hot| Lirs.worth(&facts(needed, hot), &clock);
        assert!(worth(99, false) < worth(1, true));
        assert!(worth(1, false) < worth(2, false));
        assert!(worth(1, true) < worth(2, true));
    }

    #[test]
    fn what_was_accessed_is_hot() {
        let mut cold = facts(3, false);
        Lirs.accessed(&mut cold, &Clock { now: 9 });
        assert_eq!(cold, facts(9, true));
    }

    #[test]
    fn the_oldest_is_found() {
        let all = [
            facts(5, true),
            facts(1, false),
            facts(3, true),
            facts(3, true),
        ];
        let set = HotSet::of(all.iter().enumerate());
        assert_eq!((set.count, set.oldest), (3, Some((3, 2))));
        assert_eq!(HotSet::of(all[1..2].iter().enumerate()), HotSet::default());
    }

    #[test]
    fn what_came_back_soon_is_hot() {
        let all = [facts(5, true), facts(3, true)];
        let set = HotSet::of(all.iter().enumerate());
        // There is room.
        assert!(set.admits(None, 3, false));
        // It came back sooner than the oldest was used, or did not.
        assert!(set.admits(Some(4), 2, true));
        assert!(!set.admits(Some(4), 2, false));
        assert!(!set.admits(Some(3), 2, true));
        assert!(!set.admits(None, 2, true));
        assert_eq!(set.to_ask(Some(4)), Some(1));
        assert_eq!(set.to_ask(Some(3)), None);
        assert_eq!(HotSet::default().to_ask(Some(4)), None);
    }
}
