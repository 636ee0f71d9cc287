// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Making room in the memory of a device that is full.
//!
//! One evictor per device, for all VMs and processes: it knows what is in each chunk of [`Pool`], asks a
//! [`Policy`] what to evict, and brings that back to the host. Who needs room calls
//! [`Pool::make_room`] before he locks anything: several do so at a time, each with a victim of its own.
//!
//! Nothing here waits for ever, and there is no progress that depends on it: whoever gets no room uses memory where it
//! is. A chunk is tried once for each who needs room. Evicting it is told to all who have it mapped, as any
//! other change of the process's memory.
//!
//! Whether the device has accessed a chunk its page tables tell, if the driver can say
//! ([`PageTable::take_accessed`]). That is asked of chunks that are
//! about to be evicted, and once after memory came into a chunk, as the access for which it came tells nothing.
//!
//! Locks: that of [`crate::device_pages`]; to ask for accesses, and not inside of that, the list of VMs and then a
//! table lock.

use crate::{
    attrs::{
        AttrKind,
        AttrSet, //
    },
    device_pages::{
        Chunk,
        Home,
        Pages,
        Pool,
        State,
        HOMES, //
    },
    driver::Driver,
    kapi::signal::check_killed,
    mirror::Frame,
    object::Location,
    page_table::{
        PageTable,
        PendingFlush, //
    },
    range::VaRange,
    range_map::Entry,
    transfer::bytes,
    vm::Vm, //
};
use core::ops::Range;
use kernel::{
    drm,
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

pub mod gmem;
pub mod history;
pub mod lirs;
pub mod lru;
pub mod policy;
pub mod uvm;

use self::{
    history::History,
    policy::{
        Clock,
        Facts,
        Policy,
        Priority,
        ASKED,
        READIED,
        SETTLED, //
    },
};

/// Chunks that may be in use by someone else at the moment, before room is given up.
const BUSY: usize = 8;
/// How long chunks are waited for that others are about to evict, in milliseconds.
const PATIENCE: u32 = 100;

/// What the evictor has done since the device was there.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Chunks of which something was evicted.
    pub(crate) evictions: u64,
    /// Chunks that were chosen, and could not be evicted.
    pub(crate) failed: u64,
    /// Blocks that came back after they had been evicted.
    pub(crate) refaults: u64,
    /// Chunks that stayed since the device had accessed them.
    pub(crate) spared: u64,
}

/// What the evictor has done to a VM.
#[derive(Clone, Copy, Default, Zeroable)]
pub(crate) struct VmCounts {
    /// Bytes that it brought back to the host, copied or not.
    pub(crate) bytes: u64,
    /// Blocks that came back after they had been evicted.
    pub(crate) refaults: u64,
}

/// What the evictor knows of a VM.
pub(crate) struct Known {
    vm: usize,
    history: History,
    pub(crate) counts: VmCounts,
}

/// What the evictor of a device knows, under the lock of [`crate::device_pages`].
pub(crate) struct Evictor {
    pub(crate) clock: Clock,
    pub(crate) counts: Counts,
    /// Counts who needs room.
    round: u64,
    vms: KVec<Known>,
    /// Chunks that the device has room for.
    chunks: usize,
}

impl Evictor {
    /// For so many chunks.
    pub(crate) fn new(chunks: usize) -> Self {
        Self {
            clock: Clock::default(),
            counts: Counts::default(),
            round: 0,
            vms: KVec::new(),
            chunks,
        }
    }

    /// What is known of a VM, if anything is.
    fn known(&mut self, vm: usize) -> Option<&mut Known> {
        self.vms.iter_mut().find(|known| known.vm == vm)
    }

    /// What it has done to a VM that it knows.
    pub(crate) fn counts_of(&mut self, vm: usize) -> Option<VmCounts> {
        self.known(vm).map(|known| known.counts)
    }

    /// Begins to remember the blocks of a VM, until it is [forgotten](Self::forget). `ENOMEM`.
    pub(crate) fn remember(&mut self, vm: usize) -> Result {
        if self.known(vm).is_none() {
            let known = Known {
                vm,
                history: History::for_chunks(self.chunks),
                counts: VmCounts::default(),
            };
            self.vms.push(known, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// When a block was needed last, if it was evicted since.
    fn last(&mut self, home: &Home) -> Option<u64> {
        self.known(home.vm)?.history.last(&home.block)
    }

    /// Takes note that a block comes to the device; returns when it was needed before it was evicted, if it was.
    pub(crate) fn need(&mut self, home: &Home) -> Option<u64> {
        self.clock.now += 1;
        let clock = self.clock;
        let known = self.known(home.vm)?;
        // What can't be remembered is not known.
        let last = known.history.need(home.block, &clock).ok().flatten();
        known.counts.refaults += u64::from(last.is_some());
        self.counts.refaults += u64::from(last.is_some());
        last
    }

    /// Forgets what it knows of a VM.
    pub(crate) fn forget(&mut self, vm: usize) -> Option<Known> {
        let at = self.vms.iter().position(|known| known.vm == vm)?;
        self.vms.remove(at).ok()
    }

    /// Host memory for keeping book, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.vms.iter().map(|known| known.history.bytes()).sum()
    }
}

/// What userspace advised.
pub(crate) fn priority(advice: &AttrSet) -> Priority {
    match advice.get(AttrKind::EvictionPriority) {
        1 => Priority::First,
        2 => Priority::Last,
        _ => Priority::Normal,
    }
}

/// A chunk that someone may evict, who alone may.
struct Victim {
    chunk: usize,
    homes: [Option<Home>; HOMES],
    facts: Facts,
    /// Whether it is known since when it was not accessed.
    ready: bool,
}

impl Victim {
    fn new(number: usize, chunk: &Chunk) -> Self {
        Self {
            chunk: number,
            homes: chunk.homes,
            facts: chunk.facts,
            ready: chunk.ready,
        }
    }
}

impl<D: Driver> State<D> {
    /// The chunk that is worth least, was not tried in this round, and filled before some time.
    fn choose(
        &mut self,
        policy: &dyn Policy,
        round: u64,
        before: u64,
        used: impl Fn(usize) -> bool,
    ) -> Option<Victim> {
        let clock = self.evictor.clock;
        let ours = self.chunks.iter().enumerate();
        let (_, chunk) = ours
            .filter_map(|(i, chunk)| Some((i, chunk.as_ref()?)))
            .filter(|(i, c)| !c.leaving && c.tried < round && c.facts.filled <= before && used(*i))
            .map(|(i, c)| ((c.facts.priority, policy.worth(&c.facts, &clock)), i))
            .min()?;
        let ours = self.chunk(chunk)?;
        ours.leaving = true;
        Some(Victim::new(chunk, ours))
    }

    /// Chunks whose first access is over.
    fn settled(&mut self) -> [Option<Victim>; READIED] {
        let now = self.evictor.clock.now;
        let mut found = [const { None }; READIED];
        let ours = self.chunks.iter_mut().enumerate();
        let fresh = ours
            .filter_map(|(i, chunk)| Some((i, chunk.as_mut()?)))
            .filter(|(_, c)| !c.ready && !c.leaving && c.facts.filled + SETTLED <= now);
        for (slot, (chunk, ours)) in found.iter_mut().zip(fresh) {
            ours.ready = true;
            *slot = Some(Victim::new(chunk, ours));
        }
        found
    }
}

impl<D: Driver> Pool<D> {
    /// Makes room for so many bytes of a block, as far as that is possible by evicting what has come before some time.
    ///
    /// Process context, sleeps; no lock of a VM may be held. `EINTR` if the process is being killed.
    pub(crate) fn make_room(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        home: &Home,
        wanted: u64,
        before: u64,
    ) -> Result {
        let pool = pages.owner();
        let policy = device.evict_policy().policy();
        let batch = policy.batch();
        if policy.has_hot() {
            pool.age(device, home);
        }
        let round = pool.begin_round();
        let now = pool.state().evictor.clock.now;
        let settled = now.saturating_sub(pool.kept() as u64);
        let before = before.min(settled);
        let (mut evicted, mut busy) = (0, 0);
        loop {
            let available = pool.reserve(device, wanted);
            let is_enough = available >= wanted && (evicted == 0 || evicted >= batch);
            if is_enough {
                return Ok(());
            }
            check_killed()?;
            let Some(victim) = pool.next_victim(device, round, before, u64::MAX, true) else {
                // What stays for being new must not stay for ever.
                pool.state().evictor.clock.now += 1;
                return Ok(());
            };
            match Self::evict(pages, device, &victim, round) {
                Ok(pages) => evicted += bytes(pages),
                Err(e) if e == EBUSY && busy < BUSY => busy += 1,
                // The next one would fare no better, and memory is as well used where it is.
                Err(_) => return Ok(()),
            }
        }
    }

    /// Evicts a chunk that ends at a local address or before, so that its memory can be had for something else than memory
    /// of processes. `false` if there is none that could be.
    ///
    /// Process context, sleeps; no table lock may be held.
    pub(crate) fn give_up_chunk(pages: &Arc<Pages<D>>, device: &drm::Device<D>, end: u64) -> bool {
        let pool = pages.owner();
        let size = pool.chunk_bytes();
        for _ in 0..PATIENCE {
            let chunks = pool.state().chunks.len().min((end / size) as usize);
            if (0..chunks).any(|chunk| pool.used_of(chunk) == 0 && pool.give_back(chunk)) {
                return true;
            }
            let round = pool.begin_round();
            while let Some(victim) = pool.next_victim(device, round, u64::MAX, end, false) {
                // If it isn't ours to give back any more, the work that frees start has done so.
                match Self::evict(pages, device, &victim, round) {
                    Ok(_) if pool.used_of(victim.chunk) == 0 => {
                        pool.give_back(victim.chunk);
                        return true;
                    }
                    Err(e) if e != EBUSY => return false,
                    _ => (),
                }
            }
            let is_leaving = |chunk: &Option<_>| chunk.as_ref().is_some_and(|c: &Chunk| c.leaving);
            if !pool.state().chunks.iter().take(chunks).any(is_leaving) {
                return false;
            }
            // Someone else is about to evict one.
            fsleep(Delta::from_millis(1));
        }
        false
    }

    fn begin_round(&self) -> u64 {
        let evictor = &mut self.state().evictor;
        evictor.round += 1;
        evictor.round
    }

    /// The next chunk to be evicted: filled before some time, and ending at a local address or before. With `asks`, may
    /// ask VMs what was accessed, and leaves out what jobs hold that can't fault.
    fn next_victim(
        &self,
        device: &drm::Device<D>,
        round: u64,
        before: u64,
        end: u64,
        asks: bool,
    ) -> Option<Victim> {
        let policy = device.evict_policy().policy();
        let policy_asks = asks && policy.asks();
        let fits = |chunk| self.used_of(chunk) > 0 && self.memory_of(chunk).end <= end;
        if policy_asks {
            let settled = self.state().settled();
            for victim in settled.iter().flatten() {
                self.was_accessed(device, victim);
            }
        }
        let mut asked = 0;
        loop {
            let victim = self.state().choose(policy, round, before, fits)?;
            if asks && self.is_held(device, &victim) {
                if let Some(chunk) = self.state().chunk(victim.chunk) {
                    chunk.leaving = false;
                    chunk.tried = round;
                }
                continue;
            }
            if !policy_asks || !victim.ready || asked == ASKED {
                return Some(victim);
            }
            asked += 1;
            if !self.was_accessed(device, &victim) {
                return Some(victim);
            }
            let mut state = self.state();
            let clock = state.evictor.clock;
            if let Some(chunk) = state.chunk(victim.chunk) {
                let known = chunk.facts;
                policy.accessed(&mut chunk.facts, &clock);
                if chunk.facts == known {
                    // It would be chosen again.
                    return Some(victim);
                }
                chunk.leaving = false;
                chunk.idle = false;
                state.evictor.counts.spared += 1;
            }
            if policy.has_hot() {
                self.cool(&mut state);
            }
        }
    }

    /// Finds out whether the hot chunk that was not accessed for longest still is, if a block that comes could take its place.
    fn age(&self, device: &drm::Device<D>, home: &Home) {
        for _ in 0..ASKED {
            let oldest = {
                let mut state = self.state();
                let last = state.evictor.last(home);
                let (hot, _) = self.hot_set(&state);
                let oldest = hot.to_ask(last);
                oldest.and_then(|i| {
                    let chunk = state.chunk(i).filter(|c| !c.leaving && !c.idle)?;
                    Some(Victim::new(i, chunk))
                })
            };
            let Some(oldest) = oldest else {
                return;
            };
            let accessed = self.was_accessed(device, &oldest);
            let mut state = self.state();
            let now = state.evictor.clock.now;
            let Some(chunk) = state.chunk(oldest.chunk) else {
                return;
            };
            chunk.idle = !accessed;
            if !accessed {
                return;
            }
            chunk.facts.needed = now;
        }
    }

    /// Whether the device has accessed a chunk since that was last asked.
    fn was_accessed(&self, device: &drm::Device<D>, victim: &Victim) -> bool {
        let memory = self.memory_of(victim.chunk);
        let homes = victim.homes.iter().flatten();
        homes.fold(false, |accessed, home| {
            let vm = find_vm(device, home.vm);
            accessed | vm.is_some_and(|vm| vm.take_accessed(home.block, &memory))
        })
    }

    /// Whether a job that can't fault has its memory in a chunk: evicting it would wait for that.
    fn is_held(&self, device: &drm::Device<D>, victim: &Victim) -> bool {
        let memory = self.memory_of(victim.chunk);
        victim.homes.iter().flatten().any(|home| {
            let vm = find_vm(device, home.vm).filter(|vm| !vm.can_fault());
            vm.is_some_and(|vm| vm.holds_any(home.block, &memory))
        })
    }

    /// The local addresses of a chunk.
    fn memory_of(&self, chunk: usize) -> Range<u64> {
        let size = self.chunk_bytes();
        chunk as u64 * size..(chunk as u64 + 1) * size
    }

    /// Evicts a chunk. Returns how many pages.
    fn evict(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        victim: &Victim,
        round: u64,
    ) -> Result<usize> {
        let result = Self::bring_chunk_back(pages, device, victim.chunk, false);
        let mut state = pages.owner().state();
        let state = &mut *state;
        match &result {
            Ok(_) => state.evictor.counts.evictions += 1,
            Err(_) => state.evictor.counts.failed += 1,
        }
        // Unless it was given back meanwhile.
        if let Some(chunk) = state.chunk(victim.chunk) {
            chunk.leaving = false;
            chunk.tried = round;
        }
        if let Ok(pages) = &result {
            for (i, home) in victim.homes.iter().flatten().enumerate() {
                // Of a VM that has ended nothing is kept.
                if let Some(known) = state.evictor.known(home.vm) {
                    // What can't be remembered is not known.
                    let _ = known.history.evict(home.block, victim.facts.needed);
                    // All of it counts for who came last: as a rule a chunk is filled by one block.
                    if i == 0 {
                        known.counts.bytes += bytes(*pages);
                    }
                }
            }
        }
        result
    }
}

impl<D: Driver> Vm<D> {
    /// By which the evictor knows it.
    pub(crate) fn number(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// The time of the device, by which it is known what has come to it before.
    pub(crate) fn device_time(&self) -> u64 {
        let pages = self.device.process_pages();
        pages.map_or(0, |pages| pages.owner().state().evictor.clock.now)
    }

    /// Whether a job needs what lies of a block in a part of its memory.
    fn holds_any(&self, block: VaRange, memory: &Range<u64>) -> bool {
        let tables = self.tables.lock();
        let mirrors = &tables.mirrors;
        let mut held = mirrors.frames.overlaps(block).filter_map(|entry| {
            let part = part_in(&entry, memory)?;
            let cpu = entry.value.cpu + (part.start() - entry.range.start());
            Some(mirrors.holds.needs(&VaRange::new(cpu, part.size()).ok()?))
        });
        held.any(|is_needed| is_needed)
    }

    /// Whether the device has accessed what lies of a block in a part of its memory since that was last asked.
    ///
    /// Process context, sleeps; no table lock may be held.
    fn take_accessed(&self, block: VaRange, memory: &Range<u64>) -> bool {
        let mut prepared = <D::PageTable as PageTable>::Prepared::default();
        let mut hull = None::<VaRange>;
        let flush = {
            let mut tables = self.tables.lock();
            let tables = &mut *tables;
            for entry in tables.mirrors.frames.overlaps(block) {
                let Some(part) = part_in(&entry, memory) else {
                    continue;
                };
                if tables.page_table.take_accessed(&mut prepared, part) {
                    hull = Some(part.hull_with(hull));
                }
            }
            hull.map(|hull| tables.page_table.flush(prepared, hull, None))
        };
        let Some(flush) = flush else {
            return false;
        };
        // Until then the device need not say so of what it has cached.
        let (flushed, garbage) = flush.wait();
        drop(garbage);
        if flushed.is_err() {
            self.failed.store(true, Relaxed);
        }
        true
    }
}

/// The device addresses of an entry whose memory lies in a part of the device's.
fn part_in(entry: &Entry<'_, Frame>, memory: &Range<u64>) -> Option<VaRange> {
    let Location::Device(at) = entry.value.location else {
        return None;
    };
    let from = entry.range.start() + memory.start.saturating_sub(at);
    let to = entry.range.start() + memory.end.checked_sub(at)?;
    VaRange::from_bounds(from, to.min(entry.range.end()))
}

/// The VM that the evictor knows by a number, if it is not closed.
fn find_vm<D: Driver>(device: &drm::Device<D>, number: usize) -> Option<Arc<Vm<D>>> {
    let vms = device.vms().lock();
    let mut vms = vms.iter().map(|(_, vm)| vm);
    vms.find(|vm| vm.number() == number).cloned()
}
