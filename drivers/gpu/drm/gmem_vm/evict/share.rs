// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Whose memory makes room where several processes use a device.
//!
//! A process is who has memory of its own: one that forks is two. Each may have its fair share, which is as much as any other: who has more makes room first, and from who has no more
//! nothing is taken for others that he has needed of late. What he has not needed for as long as it takes to fill all of the
//! memory once is anybody's: a share that is not used is no one's.
//!
//! Plain arithmetic, for the evictor to ask chunk by chunk; the [`super::policy`] decides among those that it names first.

use kernel::prelude::*;

/// When the memory of a chunk may make room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Turn {
    /// Before others.
    First,
    /// If there is nothing else.
    Later,
}

/// How the memory of a device is shared at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    /// Chunks that are each one's own.
    fair: usize,
    /// What was needed since then was needed of late.
    recent: u64,
}

impl Shares {
    /// Of so many chunks among so many processes, at a time by [`super::policy::Clock`].
    pub fn new(chunks: usize, processes: usize, now: u64) -> Self {
        Self {
            fair: chunks.div_ceil(processes.max(1)),
            recent: now.saturating_sub(chunks as u64),
        }
    }

    /// When a chunk may make room whose owner has `owned` chunks, and has needed this one at `needed`; `own`: it is his
    /// own that he needs room for. `None`: not at all.
    pub fn turn(&self, owned: usize, needed: u64, own: bool) -> Option<Turn> {
        match (owned > self.fair, own) {
            (true, _) => Some(Turn::First),
            (false, true) => Some(Turn::Later),
            (false, false) if needed >= self.recent => None,
            (false, false) => Some(Turn::First),
        }
    }
}

#[kunit_tests(gmem_vm_evict_share)]
mod tests {
    use super::*;

    const NOW: u64 = 1000;

    #[test]
    fn who_has_most_makes_room() {
        let shares = Shares::new(64, 2, NOW);
        // For another, and for himself.
        assert_eq!(shares.turn(33, NOW, false), Some(Turn::First));
        assert_eq!(shares.turn(33, NOW, true), Some(Turn::First));
        // Who has no more than his share keeps that from others, and uses it again himself at last.
        assert_eq!(shares.turn(32, NOW, false), None);
        assert_eq!(shares.turn(32, NOW, true), Some(Turn::Later));
    }

    #[test]
    fn what_is_not_needed_is_no_share() {
        let shares = Shares::new(64, 2, NOW);
        assert_eq!(shares.turn(8, NOW - 64, false), None);
        assert_eq!(shares.turn(8, NOW - 65, false), Some(Turn::First));
    }

    #[test]
    fn who_is_alone_has_all() {
        let shares = Shares::new(64, 1, NOW);
        assert_eq!(shares.turn(64, NOW, true), Some(Turn::Later));
        assert_eq!(Shares::new(64, 0, 3), Shares::new(64, 1, 3));
    }

    #[test]
    fn many_have_little() {
        let shares = Shares::new(4, 9, NOW);
        assert_eq!(shares.turn(1, NOW, false), None);
        assert_eq!(shares.turn(2, NOW, false), Some(Turn::First));
        // Nobody is above his share for what can't be divided.
        assert_eq!(Shares::new(65, 2, NOW).turn(33, NOW, false), None);
    }
}
