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
    bo_memory::BoMemory,
    device::Device,
    device_pages::{
        Chunk,
        Home,
        Pages,
        Pool,
        State,
        HOMES, //
    },
    driver::Driver,
    kapi::{
        signal::check_killed,
        trace, //
    },
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
pub(crate) mod objects;
pub mod policy;
pub mod share;
pub mod uvm;

use self::{
    history::{
        Cause,
        History,
        Told, //
    },
    objects::Worth,
    policy::{
        Clock,
        Facts,
        Policy,
        Priority,
        ASKED,
        READIED,
        SETTLED, //
    },
    share::{
        Shares,
        Turn, //
    },
};

/// Chunks that may be in use by someone else at the moment, before room is given up.
const BUSY: usize = 8;
/// How long is waited for what others are about to evict or use at this moment, in milliseconds.
const PATIENCE: u32 = 100;

/// What the evictor has done since the device was there.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Chunks of which something was evicted.
    pub(crate) evictions: u64,
    /// Chunks and objects that were chosen, and could not be evicted.
    pub(crate) failed: u64,
    /// Blocks that came back after they had been evicted.
    pub(crate) refaults: u64,
    /// Chunks that stayed since the device had accessed them.
    pub(crate) spared: u64,
    /// Buffer objects that left the device.
    pub(crate) spilled: u64,
    /// Those that came back to it.
    pub(crate) restored: u64,
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
    /// By which its process is known: the address of its memory map.
    process: usize,
    /// Chunks that its memory came into last, as last counted.
    chunks: usize,
    history: History,
    pub(crate) counts: VmCounts,
}

/// What the evictor of a device knows, under the lock of [`crate::device_pages`].
pub(crate) struct Evictor {
    pub(crate) clock: Clock,
    pub(crate) counts: Counts,
    /// Bytes of objects that have come, less than a chunk's.
    pub(crate) came: u64,
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
            came: 0,
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

    /// Begins to remember the blocks of a VM of a process, until it is [forgotten](Self::forget). `ENOMEM`.
    pub(crate) fn remember(&mut self, vm: usize, process: usize) -> Result {
        if self.known(vm).is_none() {
            let known = Known {
                vm,
                process,
                chunks: 0,
                history: History::for_chunks(self.chunks),
                counts: VmCounts::default(),
            };
            self.vms.push(known, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The process of a VM.
    fn process_of(&self, vm: usize) -> Option<usize> {
        let known = self.vms.iter().find(|known| known.vm == vm)?;
        Some(known.process)
    }

    /// Chunks of a process, as last counted.
    fn owned(&self, process: usize) -> usize {
        let its = self.vms.iter().filter(|known| known.process == process);
        its.map(|known| known.chunks).sum()
    }

    /// How those share the memory who have some, and a process that needs some.
    fn shares(&self, process: usize) -> Shares {
        let all = || self.vms.iter().enumerate();
        let processes = all().filter(|(i, known)| {
            let is_first = !self.vms[..*i].iter().any(|k| k.process == known.process);
            is_first && (known.process == process || self.owned(known.process) > 0)
        });
        let chunks = all().map(|(_, known)| known.chunks).sum();
        Shares::new(chunks, processes.count(), self.clock.now)
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

    /// Takes note that a fault was served for a block.
    pub(crate) fn fault(&mut self, home: &Home) {
        if let Some(known) = self.known(home.vm) {
            // What can't be remembered is not known.
            let _ = known.history.fault(&home.block);
        }
    }

    /// Takes note that something of a range of a VM has left the device, though not for others.
    pub(crate) fn leave(&mut self, vm: usize, range: &VaRange, cause: Cause) {
        if let Some(known) = self.known(vm) {
            let _ = known.history.leave(range, cause);
        }
    }

    /// What has become of a range of a VM.
    pub(crate) fn told(&mut self, vm: usize, range: VaRange) -> Told {
        let known = self.known(vm);
        known.map_or(Told::default(), |known| known.history.told(range))
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
    worth: Worth,
    homes: [Option<Home>; HOMES],
    facts: Facts,
    /// Whether it is known since when it was not accessed.
    ready: bool,
}

impl Victim {
    fn new(number: usize, chunk: &Chunk) -> Self {
        Self {
            chunk: number,
            worth: (Priority::First, 0),
            homes: chunk.homes,
            facts: chunk.facts,
            ready: chunk.ready,
        }
    }
}

/// What is to be evicted.
#[expect(clippy::large_enum_variant)] // One at a time, on the stack.
enum Next<D: Driver> {
    Chunk(Victim),
    Object(Arc<BoMemory<D>>),
}

impl<D: Driver> State<D> {
    /// Counts the chunks of each VM: those of which the memory came last.
    fn count_chunks(&mut self, used: impl Fn(usize) -> bool) {
        let vms = &mut self.evictor.vms;
        vms.iter_mut().for_each(|known| known.chunks = 0);
        for (_, chunk) in self.chunks.iter().enumerate().filter(|(i, _)| used(*i)) {
            let home = chunk.as_ref().and_then(|chunk| chunk.homes[0].as_ref());
            let known = home.and_then(|home| vms.iter_mut().find(|known| known.vm == home.vm));
            if let Some(known) = known {
                known.chunks += 1;
            }
        }
    }

    /// The chunk that is worth least, was not tried in this round, and filled before some time, or one that is dead; for memory of a
    /// block, if that is known.
    fn choose(
        &mut self,
        policy: &dyn Policy,
        round: u64,
        before: u64,
        home: Option<&Home>,
        used: impl Fn(usize) -> bool,
        dead: impl Fn(usize) -> bool,
    ) -> Option<Victim> {
        let clock = self.evictor.clock;
        // Who is alone shares with no one.
        let is_shared = policy.is_fair() && self.evictor.vms.len() > 1;
        let home = home.filter(|_| is_shared);
        if home.is_some() {
            self.count_chunks(&used);
        }
        let evictor = &self.evictor;
        let process = home.and_then(|home| evictor.process_of(home.vm));
        let shares = process.map(|process| (process, evictor.shares(process)));
        let turn = |chunk: &Chunk| {
            let owner = chunk.homes[0].as_ref();
            let owner = owner.and_then(|home| evictor.process_of(home.vm));
            match (&shares, owner) {
                (Some((process, shares)), Some(owner)) => {
                    let owned = evictor.owned(owner);
                    shares.turn(owned, chunk.facts.needed, owner == *process)
                }
                _ => Some(Turn::First),
            }
        };
        let ours = self.chunks.iter().enumerate();
        let (.., worth, chunk) = ours
            .filter_map(|(i, chunk)| Some((i, chunk.as_ref()?)))
            .filter(|(i, c)| !c.leaving && c.pin.is_none() && used(*i))
            .filter(|(i, c)| c.tried < round && (c.facts.filled <= before || dead(*i)))
            .filter_map(|(i, c)| {
                let turn = match dead(i) {
                    true => None,
                    false => Some(turn(c)?),
                };
                let worth = (c.facts.priority, policy.worth(&c.facts, &clock));
                // What is dead is first.
                Some((turn, worth, i))
            })
            .min()?;
        let ours = self.chunk(chunk)?;
        ours.leaving = true;
        Some(Victim {
            worth,
            ..Victim::new(chunk, ours)
        })
    }

    /// Chunks whose first access is over.
    fn settled(&mut self) -> [Option<Victim>; READIED] {
        let now = self.evictor.clock.now;
        let mut found = [const { None }; READIED];
        let ours = self.chunks.iter_mut().enumerate();
        let fresh = ours
            .filter_map(|(i, chunk)| Some((i, chunk.as_mut()?)))
            .filter(|(_, c)| {
                !c.ready && !c.leaving && c.pin.is_none() && c.facts.filled + SETTLED <= now
            });
        for (slot, (chunk, ours)) in found.iter_mut().zip(fresh) {
            ours.ready = true;
            *slot = Some(Victim::new(chunk, ours));
        }
        found
    }
}

impl<D: Driver> Pool<D> {
    /// Makes room for so many bytes of a block, as far as that is possible by evicting what has come before some time;
    /// `pin`: its VM, if they come to stay.
    ///
    /// Process context, sleeps; no lock of a VM may be held. `EINTR` if the process is being killed.
    pub(crate) fn make_room(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        home: &Home,
        (wanted, pin): (u64, Option<usize>),
        before: u64,
    ) -> Result {
        let pool = pages.owner();
        let policy = device.evict_policy().policy();
        let batch = policy.batch();
        if policy.has_hot() {
            pool.age(device, home);
        }
        let round = pool.begin_round();
        let before = before.min(pool.settled());
        let (mut evicted, mut busy) = (0, 0);
        loop {
            let available = pool.reserve_for(device, wanted, pin);
            let is_enough = available >= wanted && (evicted == 0 || evicted >= batch);
            if is_enough {
                return Ok(());
            }
            check_killed()?;
            let Some(next) = pool.next(device, round, before, u64::MAX, Some(home)) else {
                // What stays for being new must not stay for ever.
                pool.state().evictor.clock.now += 1;
                return Ok(());
            };
            let freed = match next {
                Next::Chunk(victim) => {
                    Self::evict(pages, device, &victim, round, trace::Room::Process).map(bytes)
                }
                // If that can't leave another may.
                Next::Object(memory) => Ok(pool.spill(device, &memory, round).unwrap_or(0)),
            };
            match freed {
                Ok(bytes) => evicted += bytes,
                Err(e) if e == EBUSY && busy < BUSY => busy += 1,
                // The next one would fare no better, and memory is as well used where it is.
                Err(_) => return Ok(()),
            }
        }
    }

    /// Evicts a chunk that ends at a local address or before, so that its memory can be had for something else than memory
    /// of processes, or a buffer object that has memory below it; one that has come before some time. `false` if there is none that could be, or
    /// the process is being killed. `patient`: waits for objects that are in use at this moment, which some may be for the
    /// lock that the caller has.
    ///
    /// Process context, sleeps; no table lock may be held.
    pub(crate) fn give_up(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        end: u64,
        before: u64,
        patient: bool,
    ) -> bool {
        let pool = pages.owner();
        let size = pool.chunk_bytes();
        for _ in 0..PATIENCE {
            let chunks = pool.state().chunks.len().min((end / size) as usize);
            if (0..chunks).any(|chunk| pool.used_of(chunk) == 0 && pool.give_back(chunk)) {
                return true;
            }
            let round = pool.begin_round();
            let mut busy = false;
            while let Some(next) = pool.next(device, round, before, end, None) {
                let victim = match next {
                    Next::Chunk(victim) => victim,
                    Next::Object(memory) => match pool.spill(device, &memory, round) {
                        Ok(_) => return true,
                        Err(e) => {
                            busy |= patient && e == EBUSY;
                            if check_killed().is_err() {
                                return false;
                            }
                            continue;
                        }
                    },
                };
                // If it isn't ours to give back any more, the work that frees start has done so.
                match Self::evict(pages, device, &victim, round, trace::Room::Object) {
                    Ok(_) if pool.used_of(victim.chunk) == 0 => {
                        pool.give_back(victim.chunk);
                        return true;
                    }
                    Err(e) if e != EBUSY => return false,
                    _ => (),
                }
            }
            let is_leaving = |chunk: &Option<_>| chunk.as_ref().is_some_and(|c: &Chunk| c.leaving);
            if check_killed().is_err() {
                return false;
            }
            if !busy && !pool.state().chunks.iter().take(chunks).any(is_leaving) {
                return false;
            }
            // Someone else is about to evict one, or uses an object at this moment.
            fsleep(Delta::from_millis(1));
        }
        false
    }

    /// What has come up to this time need not stay for having come last.
    pub(crate) fn settled(&self) -> u64 {
        let now = self.state().evictor.clock.now;
        now.saturating_sub(self.kept() as u64)
    }

    /// What is to be evicted next: a chunk, as [`next_victim`](Self::next_victim) says, or a buffer object that is worth less.
    fn next(
        &self,
        device: &drm::Device<D>,
        round: u64,
        before: u64,
        end: u64,
        home: Option<&Home>,
    ) -> Option<Next<D>> {
        let policy = device.evict_policy().policy();
        let mut asked = 0;
        loop {
            let object = Device::choose_object(device, policy, round, before, end);
            let victim = self.next_victim(device, round, before, end, home);
            let Some((worth, memory)) = object else {
                return victim.map(Next::Chunk);
            };
            if let Some(victim) = victim {
                if victim.worth <= worth {
                    return Some(Next::Chunk(victim));
                }
                if let Some(chunk) = self.state().chunk(victim.chunk) {
                    chunk.leaving = false;
                }
            }
            if !policy.asks() || asked == ASKED || !Device::spares_object(device, policy, &memory) {
                return Some(Next::Object(memory));
            }
            asked += 1;
            self.state().evictor.counts.spared += 1;
        }
    }

    /// Evicts a buffer object. Returns how many bytes are free by that; errors are those of [`BoMemory::spill`].
    fn spill(&self, device: &drm::Device<D>, memory: &Arc<BoMemory<D>>, round: u64) -> Result<u64> {
        let result = memory.spill(device);
        let counts = &mut self.state().evictor.counts;
        match &result {
            Ok(_) => counts.spilled += 1,
            Err(_) => counts.failed += 1,
        }
        if result.is_err() {
            device.object_stayed(memory, round);
        }
        result
    }

    fn begin_round(&self) -> u64 {
        let evictor = &mut self.state().evictor;
        evictor.round += 1;
        evictor.round
    }

    /// The next chunk to be evicted: filled before some time, and ending at a local address or before. If it is for memory of a
    /// block, VMs may be asked what was accessed; what jobs hold that can't fault is left out, and what is the fair
    /// share of other processes.
    fn next_victim(
        &self,
        device: &drm::Device<D>,
        round: u64,
        before: u64,
        end: u64,
        home: Option<&Home>,
    ) -> Option<Victim> {
        let policy = device.evict_policy().policy();
        let asks = home.is_some();
        let policy_asks = asks && policy.asks();
        let fits = |chunk| self.used_of(chunk) > 0 && self.memory_of(chunk).end <= end;
        let dead = |chunk| self.dead().of_chunk(chunk) >= self.used_of(chunk);
        if policy_asks {
            let settled = self.state().settled();
            for victim in settled.iter().flatten() {
                self.was_accessed(device, victim);
            }
        }
        let mut asked = 0;
        loop {
            let victim = self
                .state()
                .choose(policy, round, before, home, fits, dead)?;
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
        let hottest = self.hot_set(&self.state()).0.oldest;
        Device::age_object(device, hottest.map_or(0, |(needed, _)| needed));
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
        room: trace::Room,
    ) -> Result<usize> {
        let why = trace::Why::Evict;
        let cause = match room {
            trace::Room::Process => Cause::Memory,
            trace::Room::Object => Cause::Object,
        };
        let result = Self::bring_chunk_back(pages, device, victim.chunk, false, why);
        let home = victim.homes.iter().flatten().next();
        trace::evict(&trace::Eviction {
            home: home.map_or((0, 0), |home| (home.vm as u64, home.block.start())),
            homes: victim.homes.iter().flatten().count(),
            chunk: victim.chunk,
            local: pages.owner().memory_of(victim.chunk),
            policy: device.evict_policy() as u32,
            room,
            result,
        });
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
                    let _ = known.history.evict(home.block, victim.facts.needed, cause);
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
        self.number as usize
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
