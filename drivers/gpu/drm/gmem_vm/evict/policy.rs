// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What decides which memory leaves a device that is full.
//!
//! A [`Policy`] sees [`Facts`] of chunks of device memory and says which to evict first. It decides, and touches
//! nothing: no page, no lock, no table. Time is counted in blocks that were brought to the device, so that it stands
//! still as long as all is there that is needed.
//!
//! | policy | file | evicts |
//! |---|---|---|
//! | `lru`, the default | `evict/lru.rs` | what the device has not accessed for longest |
//! | `reuse` | `evict/reuse.rs` | what is expected to be needed last, by when it was needed before |
//! | `uvm` | `evict/uvm.rs` | what has come longest ago |
//! | `gmem` | `evict/gmem.rs` | what was there first, 32 MiB at a time |

use super::{
    gmem::Gmem,
    lru::Lru,
    reuse::Reuse,
    uvm::Uvm, //
};
use kernel::prelude::*;

/// What is known of a chunk of device memory. Times are those of [`Clock`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// When it was taken.
    pub taken: u64,
    /// When memory came into it last.
    pub filled: u64,
    /// When the device was last seen to need it.
    pub needed: u64,
    /// How long it took until it was needed again, of late; 0 if that has not happened.
    pub interval: u64,
    /// What userspace advised.
    pub priority: Priority,
}

/// How soon memory is evicted, as advised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Priority {
    /// Before all others.
    First,
    /// As the policy decides.
    #[default]
    Normal,
    /// After all others.
    Last,
}

/// The time of a device, for its policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    /// Blocks that were brought to the device so far.
    pub now: u64,
}

/// The mean of what was so far, if anything was, and something new.
pub(super) fn average(old: u64, new: u64) -> u64 {
    match old {
        0 => new,
        old => old / 2 + new / 2 + (old & new & 1),
    }
}

/// Decides what leaves a device that is full.
pub trait Policy {
    /// Bytes to be evicted at a time, if nobody needs more.
    fn batch(&self) -> u64 {
        0
    }

    /// Whether it wants to be told what the device has accessed.
    fn asks(&self) -> bool {
        false
    }

    /// Whether the host keeps what moves to the device, as long as it is not written there, so that it need not be copied
    /// when it comes back.
    fn keeps_copies(&self) -> bool {
        true
    }

    /// What a chunk is worth: the least goes first.
    fn worth(&self, facts: &Facts, clock: &Clock) -> u64;

    /// Takes note that the device has accessed a chunk since that was last asked.
    fn accessed(&self, facts: &mut Facts, clock: &Clock) {
        facts.needed = clock.now;
    }
}

/// The policies there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PolicyKind {
    /// Least recently accessed.
    #[default]
    Lru,
    /// By when it was needed before.
    Reuse,
    /// As UVM does: least recently migrated.
    Uvm,
    /// As GMEM does: first in, first out.
    Gmem,
}

impl PolicyKind {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Lru, "lru"),
        (Self::Reuse, "reuse"),
        (Self::Uvm, "uvm"),
        (Self::Gmem, "gmem"),
    ];

    /// The policy.
    pub fn policy(self) -> &'static (dyn Policy + Sync) {
        match self {
            Self::Reuse => &Reuse,
            Self::Lru => &Lru,
            Self::Uvm => &Uvm,
            Self::Gmem => &Gmem,
        }
    }

    /// By name.
    pub fn of_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name)?;
        Some(found.0)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(kind, _)| *kind == self);
        found.map_or("", |(_, name)| name)
    }
}

#[kunit_tests(gmem_vm_evict_policy)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_name() {
        for (kind, name) in PolicyKind::ALL {
            assert!(PolicyKind::of_name(name) == Some(kind));
            assert_eq!(kind.name(), name);
        }
        assert!(PolicyKind::of_name("mru").is_none());
        assert!(PolicyKind::of_name("").is_none());
    }

    #[test]
    fn averages_follow_what_comes() {
        assert_eq!(average(0, 7), 7);
        assert_eq!(average(7, 7), 7);
        assert_eq!(average(4, 8), 6);
        assert_eq!(average(u64::MAX, u64::MAX), u64::MAX);
    }
}
