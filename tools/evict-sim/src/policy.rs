// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The kernel's policies, in a model of the evictor.
//!
//! The policies and the history of blocks are the kernel's own files; what `evict.rs` does with them needs a
//! kernel, and is done here once more: a chunk holds one block, and each access that misses is a fault
//! which makes room, brings its block and sets the accessed bit.
//!
//! A policy that is new needs nothing here.

use std::collections::{HashMap, HashSet};

use vm_logic::evict::history::{Cause, History};
use vm_logic::evict::lirs::HotSet;
use vm_logic::evict::policy::{self, ASKED, Clock, Facts, Policy, PolicyKind, READIED, SETTLED};
use vm_logic::range::VaRange;

use crate::{Access, Cost, trace};

/// What is simulated.
#[derive(Clone, Copy)]
pub struct Setup {
    /// Blocks that fit.
    pub capacity: u64,
    /// Bytes of a block.
    pub block: u64,
    /// The last blocks that came, which stay.
    pub kept: u64,
    /// What was not written is dropped.
    pub drops_clean: bool,
}

impl Setup {
    /// As the kernel would have it with a policy, for so many blocks of some bytes.
    pub fn new(kind: PolicyKind, capacity: u64, block: u64) -> Self {
        Self {
            capacity,
            block,
            kept: policy::kept(capacity as usize) as u64,
            drops_clean: kind.policy().keeps_copies(),
        }
    }

    /// With something else, where that is asked for: the last blocks that stay, and copying all back.
    pub fn but(mut self, kept: Option<u64>, copy_clean: bool) -> Self {
        self.kept = kept.unwrap_or(self.kept);
        self.drops_clean &= !copy_clean;
        self
    }
}

#[derive(Clone, Copy)]
struct Chunk {
    block: u64,
    facts: Facts,
    tried: u64,
    ready: bool,
    idle: bool,
    accessed: bool,
    dirty: bool,
}

/// The evictor and its device.
struct Device<'a> {
    policy: &'a dyn Policy,
    setup: Setup,
    clock: Clock,
    history: History,
    round: u64,
    chunks: Vec<Option<Chunk>>,
    /// The chunk of each block that is on the device.
    here: HashMap<u64, usize>,
    cost: Cost,
}

impl Device<'_> {
    fn range(&self, block: u64) -> VaRange {
        let size = self.setup.block;
        VaRange::new(block * size, size).expect("an address")
    }

    /// The chunk that is worth least, was not tried in this round, and filled before some time.
    fn choose(&self, before: u64) -> Option<usize> {
        let ours = self.chunks.iter().enumerate();
        let (_, chunk) = ours
            .filter_map(|(i, chunk)| Some((i, chunk.as_ref()?)))
            .filter(|(_, c)| c.tried < self.round && c.facts.filled <= before)
            .map(|(i, c)| {
                let worth = self.policy.worth(&c.facts, &self.clock);
                ((c.facts.priority, worth), i)
            })
            .min()?;
        Some(chunk)
    }

    /// Forgets the access for which chunks were filled.
    fn settle(&mut self) {
        let now = self.clock.now;
        let fresh = self.chunks.iter_mut().flatten();
        let fresh = fresh.filter(|c| !c.ready && c.facts.filled + SETTLED <= now);
        for chunk in fresh.take(READIED) {
            chunk.ready = true;
            chunk.accessed = false;
        }
    }

    fn next_victim(&mut self, before: u64) -> Option<usize> {
        if self.policy.asks() {
            self.settle();
        }
        let mut asked = 0;
        loop {
            let victim = self.choose(before)?;
            let chunk = self.chunks[victim].as_mut()?;
            if !self.policy.asks() || !chunk.ready || asked == ASKED {
                return Some(victim);
            }
            asked += 1;
            if !std::mem::take(&mut chunk.accessed) {
                return Some(victim);
            }
            let known = chunk.facts;
            self.policy.accessed(&mut chunk.facts, &self.clock);
            if chunk.facts == known {
                return Some(victim);
            }
            chunk.idle = false;
            if self.policy.has_hot() {
                self.cool();
            }
        }
    }

    fn free(&self) -> Option<usize> {
        self.chunks.iter().position(Option::is_none)
    }

    fn hot_set(&self) -> (HotSet, usize) {
        let ours = self.chunks.iter().enumerate();
        let facts = ours.filter_map(|(i, chunk)| Some((i, &chunk.as_ref()?.facts)));
        let kept = self.setup.kept as usize + 1;
        (HotSet::of(facts), self.chunks.len().saturating_sub(kept))
    }

    fn cool(&mut self) {
        loop {
            let (hot, most) = self.hot_set();
            let oldest = hot.oldest.filter(|_| hot.count > most);
            let Some(chunk) = oldest.and_then(|(_, i)| self.chunks[i].as_mut()) else {
                return;
            };
            chunk.facts.hot = false;
        }
    }

    fn age(&mut self, last: Option<u64>) {
        for _ in 0..ASKED {
            let (hot, _) = self.hot_set();
            let oldest = hot.to_ask(last).and_then(|i| self.chunks[i].as_mut());
            let Some(chunk) = oldest.filter(|chunk| !chunk.idle) else {
                return;
            };
            chunk.idle = !std::mem::take(&mut chunk.accessed);
            if chunk.idle {
                return;
            }
            chunk.facts.needed = self.clock.now;
        }
    }

    fn make_room(&mut self, block: u64) {
        if self.policy.has_hot() {
            let last = self.history.last(&self.range(block));
            self.age(last);
        }
        let batch = self.policy.batch();
        self.round += 1;
        let before = self.clock.now.saturating_sub(self.setup.kept);
        let mut evicted = 0;
        while self.here.len() == self.chunks.len() || (evicted > 0 && evicted < batch) {
            let Some(victim) = self.next_victim(before) else {
                self.clock.now += 1;
                return;
            };
            self.evict(victim);
            evicted += self.setup.block;
        }
    }

    fn evict(&mut self, chunk: usize) {
        let Some(gone) = self.chunks[chunk].take() else {
            return;
        };
        self.here.remove(&gone.block);
        self.cost.to_host += u64::from(gone.dirty || !self.setup.drops_clean);
        let range = self.range(gone.block);
        let known = self.history.evict(range, gone.facts.needed, Cause::Memory);
        known.expect("memory");
    }

    /// Brings a block, if there is room. Returns its chunk.
    fn bring(&mut self, block: u64) -> Option<usize> {
        let chunk = self.free()?;
        self.clock.now += 1;
        let (range, clock) = (self.range(block), self.clock);
        let last = self.history.need(range, &clock).expect("memory");
        let mut hot = false;
        if self.policy.has_hot() {
            let (set, most) = self.hot_set();
            let oldest = set.oldest.and_then(|(_, i)| self.chunks[i].as_ref());
            hot = set.admits(last, most, oldest.is_some_and(|chunk| chunk.idle));
        }
        self.chunks[chunk] = Some(Chunk {
            block,
            facts: Facts {
                taken: clock.now,
                filled: clock.now,
                needed: clock.now,
                hot,
                ..Facts::default()
            },
            tried: 0,
            ready: false,
            idle: false,
            accessed: false,
            dirty: false,
        });
        self.here.insert(block, chunk);
        if hot {
            self.cool();
        }
        Some(chunk)
    }

    fn access(&mut self, access: &Access, is_new: bool) {
        let Access { block, write } = *access;
        let found = self.here.get(&block).copied();
        let chunk = found.or_else(|| {
            self.cost.misses += 1;
            self.make_room(block);
            let chunk = self.bring(block);
            // What finds no room is accessed where it is, over the same bus.
            let is_made = is_new && write && chunk.is_some();
            self.cost.to_device += u64::from(!is_made);
            chunk
        });
        if let Some(chunk) = chunk.and_then(|chunk| self.chunks[chunk].as_mut()) {
            chunk.accessed = true;
            chunk.dirty |= write;
        }
    }
}

/// What a run costs with a policy. The rules are those of [`mod@crate::belady`].
pub fn simulate(run: &[Access], policy: &dyn Policy, setup: Setup) -> Cost {
    assert!(setup.capacity > 0);
    let chunks = setup.capacity as usize;
    let mut device = Device {
        policy,
        setup,
        clock: Clock::default(),
        history: History::for_chunks(chunks),
        round: 0,
        chunks: vec![None; chunks],
        here: HashMap::new(),
        cost: Cost {
            accesses: run.len() as u64,
            distinct: trace::distinct(run),
            ..Cost::default()
        },
    };
    let mut known = HashSet::new();
    for access in run {
        let is_new = known.insert(access.block);
        device.access(access, is_new);
    }
    let left = device.chunks.iter().flatten().filter(|chunk| chunk.dirty);
    device.cost.to_host += left.count() as u64;
    device.cost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belady;
    use crate::random::Random;

    fn setup(kind: PolicyKind, capacity: u64, kept: u64) -> Setup {
        Setup::new(kind, capacity, trace::BLOCK).but(Some(kept), false)
    }

    fn reads(blocks: impl IntoIterator<Item = u64>) -> Vec<Access> {
        let access = |block| Access {
            block,
            write: false,
        };
        blocks.into_iter().map(access).collect()
    }

    #[test]
    fn what_fits_costs_the_same() {
        let run = reads((0..6).flat_map(|_| 0..32));
        for (kind, _) in PolicyKind::ALL {
            let cost = simulate(&run, kind.policy(), setup(kind, 32, 4));
            assert_eq!(cost, belady(&run, 32));
        }
    }

    #[test]
    fn none_misses_less_than_the_optimum() {
        let mut random = Random::new(5);
        for _ in 0..50 {
            let access = |_| Access {
                block: random.below(48),
                write: random.below(4) == 0,
            };
            let run: Vec<_> = (0..400).map(access).collect();
            for (kind, _) in PolicyKind::ALL {
                let cost = simulate(&run, kind.policy(), setup(kind, 24, 4));
                assert!(cost.misses >= belady(&run, 24).misses);
            }
        }
    }

    #[test]
    fn a_loop_drives_all_of_itself_out() {
        let run = reads((0..4).flat_map(|_| 0..40));
        let cost = simulate(
            &run,
            PolicyKind::Lru.policy(),
            setup(PolicyKind::Lru, 32, 4),
        );
        assert_eq!((cost.to_device, cost.to_host), (160, 0));
        let cost = simulate(
            &run,
            PolicyKind::Uvm.policy(),
            setup(PolicyKind::Uvm, 32, 4),
        );
        assert_eq!((cost.to_device, cost.to_host), (160, 128));
        // All but the few that are cold stay.
        let cost = simulate(
            &run,
            PolicyKind::Lirs.policy(),
            setup(PolicyKind::Lirs, 32, 4),
        );
        let best = belady(&run, 32).to_device;
        assert!(cost.to_device <= best + 4 * 5, "{cost:?}, {best}");
        assert_eq!(cost.to_host, 0);
    }

    #[test]
    fn where_all_stays_memory_is_used_where_it_is() {
        let run = reads(0..12);
        let cost = simulate(&run, PolicyKind::Uvm.policy(), setup(PolicyKind::Uvm, 4, 8));
        // Time passes as no room is found, so that it is in the end.
        assert_eq!(cost.to_device, 12);
        assert!(cost.to_host < 8);
    }
}
