// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What decides which memory leaves a device that is full.
//!
//! A [`Policy`] sees [`Facts`] of chunks of device memory and says which to evict first. It decides, and touches
//! nothing: no page, no lock, no table. Time is counted in blocks that were brought to the device, so that it stands
//! still as long as all is there that is needed.
//!
//! | policy | file | evicts |
//! |---|---|---|
//! | `lirs`, the default | `evict/lirs.rs` | what has come once, and not what comes back |
//! | `lru` | `evict/lru.rs` | what the device has not accessed for longest |
//! | `uvm` | `evict/uvm.rs` | what has come longest ago |
//! | `gmem` | `evict/gmem.rs` | what was there first, 32 MiB at a time |

use super::{
    gmem::Gmem,
    lirs::Lirs,
    lru::Lru,
    uvm::Uvm, //
};
use kernel::prelude::*;

/// Chunks that are asked for accesses for each that is evicted, at most.
pub const ASKED: usize = 8;
/// Chunks that are made ready to be asked at a time.
pub const READIED: usize = 2;
/// Blocks that have to come after a chunk was filled before accesses are told from that for which it was.
pub const SETTLED: u64 = 2;

/// How many of the blocks that came last are not evicted for others, on a device with so many chunks. An access needs several at a
/// time, and would never have all of them where each drives another out. Whoever gets no room for that uses memory where
/// it is.
pub fn kept(chunks: usize) -> usize {
    (chunks / 32).clamp(4, 8)
}

/// What is known of a chunk of device memory. Times are those of [`Clock`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// When it was taken.
    pub taken: u64,
    /// When memory came into it last.
    pub filled: u64,
    /// When the device was last seen to need it.
    pub needed: u64,
    /// Whether it is one of those that stay, for a policy that tells them apart.
    pub hot: bool,
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

    /// Whether processes share the memory of a device fairly ([`super::share`]).
    fn is_fair(&self) -> bool {
        true
    }

    /// Whether some chunks are hot ([`super::lirs::HotSet`]).
    fn has_hot(&self) -> bool {
        false
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
    /// Low inter-reference recency set.
    #[default]
    Lirs,
    /// Least recently accessed.
    Lru,
    /// As UVM does: least recently migrated.
    Uvm,
    /// As GMEM does: first in, first out.
    Gmem,
}

impl PolicyKind {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Lirs, "lirs"),
        (Self::Lru, "lru"),
        (Self::Uvm, "uvm"),
        (Self::Gmem, "gmem"),
    ];

    /// The policy.
    pub fn policy(self) -> &'static (dyn Policy + Sync) {
        match self {
            Self::Lirs => &Lirs,
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
}
