// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Device memory for pages of processes.
//!
//! Takes chunks from the device's [`Memory`](crate::memory::Memory), which buffer objects take from
//! too, and gives their pages to processes ([`kapi::device_private`](crate::kapi::device_private)) by
//! one or as a huge folio. A chunk whose pages are all free goes back. As long as a chunk is out, there is a
//! reference to the device: its memory has what processes need. What makes room where there is none is
//! [`crate::evict`].
//!
//! A chunk has as many pages as a huge folio if the memory has 32 of that size. Else it is a 128th of the memory, but no less than 64
//! KiB: the finer, the nearer to what is used the evictor keeps.
//!
//! Locks: `state`, a mutex, then the memory lock. Pages are freed in any context, without a lock; giving
//! chunks back is the work of the system's workqueue, since it may drop the last reference to the device.

use crate::{
    device::DeviceRef,
    discard::Dead,
    driver::Driver,
    evict::{
        history::Cause,
        lirs::HotSet,
        policy::{
            self,
            Facts,
            Policy,
            Priority, //
        },
        Evictor, //
    },
    kapi::{
        device_private::{
            Claim,
            DeviceMemory,
            DevicePages, //
        },
        host_copy::HostCopies,
        lock::{
            new_mutex,
            new_work, //
        },
        migrate::{
            Migration,
            Source,
            HUGE_ORDER,
            HUGE_SIZE, //
        },
        shrinker::Shrinker,
        trace::Why,
        work::{
            cancel_sync,
            system, //
        }, //
    },
    latency::Phase,
    memory::MemoryBlock,
    pin::Allowed,
    range::VaRange,
    transfer::{
        bytes,
        Transfer, //
    }, //
};
use core::ops::Range;
use kernel::{
    drm,
    impl_has_work,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// Most pages of a chunk: those of a huge folio.
const HUGE: usize = 1 << HUGE_ORDER;
/// Fewest pages of a chunk.
const LEAST: usize = 16;
/// Chunks that there are at least if they are huge.
const HUGE_CHUNKS: usize = 32;
/// Chunks that there should be if they are not.
const SMALL_CHUNKS: usize = 128;
/// Blocks that are remembered of those that have memory in one chunk.
pub(crate) const HOMES: usize = 4;
/// How often a device that is there is asked to copy back what it has, 10 ms apart, before that counts as lost.
const LOST_TRIES: usize = 500;
/// What the CPU touches comes back in blocks of so many bytes, aligned, if it is small pages.
const AROUND: usize = 64 << 10;

/// Device memory for pages of processes.
pub type Pages<D> = DevicePages<Pool<D>>;

/// A block of a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Home {
    /// By which the VM is known: its number.
    pub(crate) vm: usize,
    /// The device addresses.
    pub(crate) block: VaRange,
    /// What the first of them mirrors, and whose that is, by the address of his memory map.
    pub(crate) cpu: u64,
    pub(crate) mm: usize,
}

/// A chunk that is ours.
pub(crate) struct Chunk {
    /// Keeps the memory.
    _block: MemoryBlock,
    pub(crate) facts: Facts,
    /// The VM whose memory stays in it ([`crate::pin`]), if it has any.
    pub(crate) pin: Option<usize>,
    /// Blocks that have memory in it, the last ones.
    pub(crate) homes: [Option<Home>; HOMES],
    /// Someone is about to evict it.
    pub(crate) leaving: bool,
    /// Who has tried last, by number.
    pub(crate) tried: u64,
    /// What is accessed now is not what it was filled for.
    pub(crate) ready: bool,
    /// It was asked, and not accessed since it was last known to be needed.
    pub(crate) idle: bool,
}

/// Brings memory of a block to the device: who claims pages for it.
pub(crate) struct Visit {
    pub(crate) home: Home,
    pub(crate) priority: Priority,
    /// If it comes to stay: how many chunks the VM may have for that.
    pub(crate) pin: Option<Arc<Allowed>>,
    /// Since the first claim: when that block was needed before it was evicted, if it was.
    pub(crate) need: Option<Option<u64>>,
}

impl Visit {
    /// The VM whose memory comes to stay, if it does.
    fn pin_of(&self) -> Option<usize> {
        self.pin.as_ref().map(|_| self.home.vm)
    }
}

pub(crate) struct State<D: Driver> {
    /// For each place of a chunk, that chunk, if it is ours.
    pub(crate) chunks: KVVec<Option<Chunk>>,
    /// How many are.
    held: usize,
    /// The chunk that small pages came from last.
    recent: usize,
    /// While there is a chunk.
    device: Option<DeviceRef<D>>,
    /// The driver is being unbound: no more are taken.
    pub(crate) closed: bool,
    /// What the evictor knows.
    pub(crate) evictor: Evictor,
}

/// The chunks.
#[pin_data]
struct Chunks<D: Driver> {
    #[pin]
    state: Mutex<State<D>>,
    /// Pages of a chunk, a power of two.
    size: usize,
    /// The last blocks that came stay: so many.
    kept: usize,
    /// Pages of each chunk that are not free.
    used: KVVec<Atomic<usize>>,
    /// What pages were in the host, as long as the device has not written to them.
    copies: Arc<HostCopies>,
    /// Pages of which nobody needs what is in them.
    dead: Dead,
    /// Pages that came back to the host, for whatever reason: copied, and not copied.
    back: (Atomic<u64>, Atomic<u64>),
    _shrinker: Shrinker<HostCopies>,
    #[pin]
    give_back: Work<Chunks<D>>,
}

impl_has_work! {
    impl{D: Driver} HasWork<Self> for Chunks<D> { self.give_back }
}

/// What the pages of a device belong to.
pub struct Pool<D: Driver>(Arc<Chunks<D>>);

impl<D: Driver> Chunks<D> {
    fn pages_of(&self, chunk: usize) -> Range<usize> {
        chunk * self.size..(chunk + 1) * self.size
    }

    fn used(&self, chunk: usize) -> usize {
        self.used
            .get(chunk)
            .map_or(self.size, |used| used.load(Relaxed))
    }

    /// Takes a chunk from the device's memory.
    fn grow(&self, state: &mut State<D>, device: &drm::Device<D>) -> Option<usize> {
        let block = device.memory()?.alloc_chunk(bytes(self.size)).ok()?;
        let (local, _) = block.runs().next()?;
        let chunk = (local >> PAGE_SHIFT) as usize / self.size;
        *state.chunks.get_mut(chunk)? = Some(Chunk {
            _block: block,
            facts: Facts::default(),
            pin: None,
            homes: [None; HOMES],
            leaving: false,
            tried: 0,
            ready: false,
            idle: false,
        });
        state.held += 1;
        state.device.get_or_insert_with(|| device.into());
        Some(chunk)
    }

    /// A chunk that is ours and fulfils a condition: what is known of it, and how many of its pages are used.
    fn find(&self, state: &State<D>, fits: impl Fn(&Chunk, usize) -> bool) -> Option<usize> {
        let of = |chunk: &usize| {
            let ours = state.chunks[*chunk].as_ref();
            ours.is_some_and(|c| !c.leaving && fits(c, self.used(*chunk)))
        };
        Some(state.recent)
            .filter(|recent| *recent < state.chunks.len())
            .filter(of)
            .or_else(|| (0..state.chunks.len()).find(of))
    }

    /// A chunk of which all pages are free.
    fn find_empty(&self, state: &mut State<D>, device: &drm::Device<D>) -> Option<usize> {
        self.find(state, |_, used| used == 0)
            .or_else(|| self.grow(state, device))
    }

    /// Takes note that a chunk gets memory of a block; `is_first`: it had none.
    fn fill(
        &self,
        state: &mut State<D>,
        chunk: usize,
        is_first: bool,
        visit: &mut Visit,
        policy: &dyn Policy,
    ) {
        let evictor = &mut state.evictor;
        let last = *visit.need.get_or_insert_with(|| evictor.need(&visit.home));
        let now = evictor.clock.now;
        let Some(ours) = state.chunk(chunk) else {
            return;
        };
        if is_first {
            // It may have been in use before.
            (ours.facts, ours.homes) = (Facts::default(), [None; HOMES]);
            ours.facts.taken = now;
            ours.pin = visit.pin_of();
        }
        let facts = &mut ours.facts;
        (facts.filled, facts.needed) = (now, now);
        (ours.ready, ours.idle) = (false, false);
        facts.priority = if is_first {
            visit.priority
        } else {
            facts.priority.max(visit.priority)
        };
        if !ours.homes.contains(&Some(visit.home)) {
            ours.homes.rotate_right(1);
            ours.homes[0] = Some(visit.home);
        }
        if is_first && visit.pin.is_none() && policy.has_hot() {
            self.admit(state, chunk, last);
        }
    }

    /// Makes a chunk hot, if what comes into it is worth that.
    fn admit(&self, state: &mut State<D>, chunk: usize, last: Option<u64>) {
        let (hot, most) = self.hot_set(state);
        let is_idle = hot.oldest.and_then(|(_, i)| Some(state.chunk(i)?.idle));
        if !hot.admits(last, most, is_idle.unwrap_or(false)) {
            return;
        }
        if let Some(ours) = state.chunk(chunk) {
            ours.facts.hot = true;
        }
        self.cool(state);
    }

    /// The chunks that are hot, and how many may be.
    fn hot_set(&self, state: &State<D>) -> (HotSet, usize) {
        let ours = state.chunks.iter().enumerate();
        let facts = ours
            .filter_map(|(i, chunk)| Some((i, chunk.as_ref()?)))
            .filter(|(i, chunk)| self.used(*i) > 0 && chunk.pin.is_none())
            .map(|(i, chunk)| (i, &chunk.facts));
        let held = state.held.saturating_sub(self.pinned(state, |_| true));
        (HotSet::of(facts), held.saturating_sub(self.kept + 1))
    }

    /// Chunks whose memory stays there, of VMs that fulfil a condition.
    fn pinned(&self, state: &State<D>, of: impl Fn(usize) -> bool) -> usize {
        let ours = state.chunks.iter().enumerate();
        ours.filter(|(i, c)| self.used(*i) > 0 && c.as_ref().and_then(|c| c.pin).is_some_and(&of))
            .count()
    }

    /// Whether whoever brings memory in may take one more chunk.
    fn may_take(&self, state: &State<D>, visit: &Visit) -> bool {
        let Some(allowed) = &visit.pin else {
            return true;
        };
        self.pinned(state, |vm| vm == visit.home.vm) < allowed.chunks()
    }

    /// Makes chunks cold that are too many to be hot.
    fn cool(&self, state: &mut State<D>) {
        loop {
            let (hot, most) = self.hot_set(state);
            let oldest = hot.oldest.filter(|_| hot.count > most);
            let Some(chunk) = oldest.and_then(|(_, i)| state.chunk(i)) else {
                return;
            };
            chunk.facts.hot = false;
        }
    }

    /// Gives a chunk back, if it is ours and all of its pages are free.
    fn drop_chunk(&self, chunk: usize) -> bool {
        let mut state = self.state.lock();
        let gone = match state.chunks.get_mut(chunk) {
            Some(ours) if self.used(chunk) == 0 => ours.take(),
            _ => None,
        };
        state.held -= usize::from(gone.is_some());
        // The last reference to the device goes with the work that frees always start.
        drop(state);
        gone.is_some()
    }

    /// Gives chunks back of which all pages are free.
    fn shrink(&self) {
        let mut state = self.state.lock();
        let state_ref = &mut *state;
        for (chunk, ours) in state_ref.chunks.iter_mut().enumerate() {
            if ours.is_some() && self.used(chunk) == 0 {
                *ours = None;
                state_ref.held -= 1;
            }
        }
        let device = match state.held {
            0 => state.device.take(),
            _ => None,
        };
        drop(state);
        drop(device);
    }
}

impl<D: Driver> State<D> {
    /// A chunk, if it is ours.
    pub(crate) fn chunk(&mut self, chunk: usize) -> Option<&mut Chunk> {
        self.chunks.get_mut(chunk)?.as_mut()
    }
}

impl<D: Driver> WorkItem for Chunks<D> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.shrink();
    }
}

impl<D: Driver> Pool<D> {
    /// Whether so many bytes of memory have a chunk.
    pub(crate) fn fits(size: u64) -> bool {
        size >= bytes(LEAST)
    }

    /// Pages of a chunk where there are so many.
    fn chunk_size(pages: usize) -> usize {
        match (pages / SMALL_CHUNKS).checked_ilog2() {
            _ if pages / HUGE >= HUGE_CHUNKS => HUGE,
            Some(order) => (1 << order).clamp(LEAST, HUGE),
            None => LEAST,
        }
    }

    /// For a device with so many bytes of memory; takes 8 bytes for each page of it. `ENOMEM`.
    pub(crate) fn new(size: u64) -> Result<Self> {
        let pages = usize::try_from(size)? >> PAGE_SHIFT;
        let size = Self::chunk_size(pages);
        let (mut chunks, mut used) = (KVVec::new(), KVVec::new());
        for _ in 0..pages / size {
            chunks.push(None, GFP_KERNEL)?;
            used.push(Atomic::new(0), GFP_KERNEL)?;
        }
        let kept = policy::kept(pages / size);
        let dead = Dead::new(pages / size, size)?;
        let copies = Arc::new(HostCopies::new(pages)?, GFP_KERNEL)?;
        let shrinker = Shrinker::new(c"gmem_vm-copies", copies.clone())?;
        let chunks = Arc::pin_init(
            try_pin_init!(Chunks {
                state <- new_mutex!(State {
                    chunks,
                    held: 0,
                    recent: 0,
                    device: None,
                    closed: false,
                    evictor: Evictor::new(pages / size),
                }, "gmem_vm::Pool::state"),
                size,
                kept,
                used,
                copies,
                dead,
                back: (Atomic::new(0), Atomic::new(0)),
                _shrinker: shrinker,
                give_back <- new_work!("gmem_vm::Pool::give_back"),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self(chunks))
    }

    /// Gives chunks back that are not used any more, without waiting for the work that does.
    pub(crate) fn trim(&self) {
        self.0.shrink();
    }

    /// Bytes of device memory that processes have.
    pub(crate) fn used(&self) -> usize {
        let used = |chunk: &Atomic<usize>| chunk.load(Relaxed);
        self.0.used.iter().map(used).sum::<usize>() * PAGE_SIZE
    }

    /// Takes a huge folio's pages. `None` if there are none.
    pub(crate) fn claim_huge(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        visit: &mut Visit,
    ) -> Option<Claim<Self>> {
        let chunks = &pages.owner().0;
        if chunks.size < HUGE {
            return None;
        }
        let mut state = chunks.state.lock();
        if state.closed {
            return None;
        }
        if !chunks.may_take(&state, visit) {
            return None;
        }
        let chunk = chunks.find_empty(&mut state, device)?;
        let claim = pages.claim(chunks.pages_of(chunk))?;
        chunks.copies.free(chunks.pages_of(chunk));
        chunks.dead.clear(chunks.pages_of(chunk));
        let before = chunks.used.get(chunk)?.fetch_add(HUGE, Full);
        let policy = device.evict_policy().policy();
        chunks.fill(&mut state, chunk, before == 0, visit, policy);
        Some(claim)
    }

    /// Takes pages in a row, at most so many. `None` if there are none.
    pub(crate) fn claim(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        most: usize,
        visit: &mut Visit,
    ) -> Option<Claim<Self>> {
        let chunks = &pages.owner().0;
        let mut state = chunks.state.lock();
        if state.closed {
            return None;
        }
        // So that the device can map them as one.
        let may_take = chunks.may_take(&state, visit);
        let whole = match may_take && most >= chunks.size {
            true => chunks.find_empty(&mut state, device),
            false => None,
        };
        let pin = visit.pin_of();
        let has_room = |c: &Chunk, used| used > 0 && used < chunks.size && c.pin == pin;
        let chunk = whole
            .or_else(|| chunks.find(&state, has_room))
            .or_else(|| match may_take {
                true => chunks.find_empty(&mut state, device),
                false => None,
            })?;
        state.recent = chunk;
        let found = pages.find_free(chunks.pages_of(chunk), most)?;
        let count = found.len();
        let claim = pages.claim(found.clone())?;
        // Whoever frees them has not done so yet, perhaps, and it is somebody else's copy.
        chunks.dead.clear(found.clone());
        chunks.copies.free(found);
        let before = chunks.used.get(chunk)?.fetch_add(count, Full);
        let policy = device.evict_policy().policy();
        chunks.fill(&mut state, chunk, before == 0, visit, policy);
        Some(claim)
    }

    /// Takes chunks until so many bytes are free in ours, if there are any; returns how many are.
    pub(crate) fn reserve(&self, device: &drm::Device<D>, wanted: u64) -> u64 {
        self.reserve_for(device, wanted, None)
    }

    /// As [`reserve`](Self::reserve), for memory of a VM that comes to stay.
    pub(crate) fn reserve_for(
        &self,
        device: &drm::Device<D>,
        wanted: u64,
        pin: Option<usize>,
    ) -> u64 {
        let mut state = self.0.state.lock();
        if state.closed {
            return 0;
        }
        let ours = state.chunks.iter().enumerate();
        let mut free = ours
            .filter_map(|(i, chunk)| Some((self.0.used(i), chunk.as_ref()?)))
            .filter(|(used, chunk)| !chunk.leaving && (*used == 0 || chunk.pin == pin))
            .map(|(used, _)| bytes(self.0.size.saturating_sub(used)))
            .sum();
        while free < wanted && self.0.grow(&mut state, device).is_some() {
            free += bytes(self.0.size);
        }
        free
    }

    /// What pages were in the host. One that has a copy must not be written, so one may be put only before its page is
    /// mapped, and has to be taken before it is mapped writable.
    pub(crate) fn copies(&self) -> &HostCopies {
        &self.0.copies
    }

    /// Which pages are dead ([`crate::discard`]).
    pub(crate) fn dead(&self) -> &Dead {
        &self.0.dead
    }

    /// Takes note that pages come back to the host: so many are copied, and so many are not.
    pub(crate) fn count_back(&self, copied: usize, dropped: usize) {
        self.0.back.0.fetch_add(copied as u64, Relaxed);
        self.0.back.1.fetch_add(dropped as u64, Relaxed);
    }

    /// How many bytes have come back to the host by now: copied, and not copied.
    pub(crate) fn back(&self) -> (u64, u64) {
        let bytes = |pages: &Atomic<u64>| pages.load(Relaxed) << PAGE_SHIFT;
        (bytes(&self.0.back.0), bytes(&self.0.back.1))
    }

    /// How many of the blocks that came last are not evicted for others ([`policy::kept`]).
    pub(crate) fn kept(&self) -> usize {
        self.0.kept
    }

    /// The chunks that are hot, and how many may be.
    pub(crate) fn hot_set(&self, state: &State<D>) -> (HotSet, usize) {
        self.0.hot_set(state)
    }

    /// Makes chunks cold that are too many to be hot.
    pub(crate) fn cool(&self, state: &mut State<D>) {
        self.0.cool(state);
    }

    /// Takes note that the CPU has touched what a migration has collected.
    fn count_touched(&self, pages: &Pages<D>, migration: &Migration<'_>) {
        let mut state = self.0.state.lock();
        let (mut page, mut last) = (0, None);
        while let Some(slot) = migration.next(page) {
            page = slot.page + (1 << slot.order);
            let Source::Pages(pfn) = slot.source else {
                continue;
            };
            let chunk = pages.index(pfn).map(|index| index / self.0.size);
            if core::mem::replace(&mut last, chunk) == chunk {
                continue;
            }
            let homes = chunk.and_then(|chunk| Some(state.chunk(chunk)?.homes));
            for home in homes.iter().flatten().flatten() {
                let (start, mm) = (migration.start() as u64, migration.mm());
                let range = VaRange::new(start, bytes(migration.pages()));
                let cpu = VaRange::new(home.cpu, home.block.size());
                let (Ok(range), Ok(cpu)) = (range, cpu) else {
                    continue;
                };
                if home.mm == mm && range.intersect(&cpu).is_some() {
                    let evictor = &mut state.evictor;
                    evictor.leave(home.vm, &home.block, Cause::Cpu);
                }
            }
        }
    }

    /// Whether pages, so many in a row from each of these on, are all in chunks whose memory stays.
    pub(crate) fn are_pinned(&self, runs: &[(usize, usize)]) -> bool {
        let state = self.0.state.lock();
        let size = self.0.size;
        let chunks = |&(page, count): &(usize, usize)| page / size..(page + count).div_ceil(size);
        let mut chunks = runs.iter().flat_map(chunks);
        chunks.all(|i| {
            let chunk = state.chunks.get(i).and_then(|chunk| chunk.as_ref());
            chunk.is_some_and(|chunk| chunk.pin.is_some())
        })
    }

    /// Lets the memory of a VM stay in no more chunks than are allowed. Those that have least are as any other from now on.
    pub(crate) fn limit_pinned(&self, vm: usize, allowed: &Allowed) {
        let mut state = self.0.state.lock();
        let most = allowed.chunks();
        let mut count = self.0.pinned(&state, |of| of == vm);
        while count > most {
            let ours = state.chunks.iter().enumerate();
            let least = ours
                .filter(|(_, c)| c.as_ref().is_some_and(|c| c.pin == Some(vm)))
                .map(|(i, _)| (self.0.used(i), i))
                .filter(|(used, _)| *used > 0)
                .min();
            let Some(chunk) = least.and_then(|(_, i)| state.chunk(i)) else {
                return;
            };
            chunk.pin = None;
            count -= 1;
        }
    }

    /// Bytes of a chunk of a memory of so many bytes.
    pub(crate) fn chunk_bytes_of(size: u64) -> u64 {
        bytes(Self::chunk_size((size >> PAGE_SHIFT) as usize))
    }

    /// Bytes of a chunk.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        bytes(self.0.size)
    }

    /// What the lock protects.
    pub(crate) fn state(&self) -> impl core::ops::DerefMut<Target = State<D>> + '_ {
        self.0.state.lock()
    }

    /// Pages of a chunk that are not free.
    pub(crate) fn used_of(&self, chunk: usize) -> usize {
        self.0.used(chunk)
    }

    /// Gives a chunk back, if all of its pages are free. `false` if it is not ours, or no more.
    pub(crate) fn give_back(&self, chunk: usize) -> bool {
        self.0.drop_chunk(chunk)
    }

    /// Brings what processes have in a chunk back to the host; returns how many pages. `EBUSY`: none.
    pub(crate) fn bring_chunk_back(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        chunk: usize,
        lost: bool,
        why: Why,
    ) -> Result<usize> {
        let part = pages.owner().0.pages_of(chunk);
        let local = bytes(part.start)..bytes(part.end);
        let latency = device.latency();
        let mut migration = latency.time(Phase::Collect, || Migration::evict(pages, part))?;
        let back = Transfer::new(device, pages)?.to_host(&mut migration, lost)?;
        back.trace(0, local, why);
        let moved = migration.commit();
        match moved.pages {
            0 => Err(EBUSY),
            pages => Ok(pages),
        }
    }

    /// Brings all that processes have in device memory back to the host, and takes none any more. What a device
    /// that is gone had is zero then.
    ///
    /// Process context; waits for those who use the pages at this moment.
    pub(crate) fn close(pages: &Arc<Pages<D>>, device: &drm::Device<D>) {
        let chunks = &pages.owner().0;
        chunks.state.lock().closed = true;
        let mut tries = 0;
        loop {
            // A device that is gone does not copy, nor does one that has failed to for long enough.
            let lost = !D::is_present(device) || tries > LOST_TRIES;
            tries += 1;
            for chunk in 0..chunks.used.len() {
                if chunks.used(chunk) != 0 {
                    // What fails is tried again below.
                    let _ = Self::bring_chunk_back(pages, device, chunk, lost, Why::Close);
                }
            }
            if pages.owner().used() == 0 {
                break;
            }
            // Someone has a page for a moment, or there is no memory.
            fsleep(Delta::from_millis(10));
        }
        cancel_sync::<_, 0>(chunks);
        chunks.shrink();
    }
}

impl<D: Driver> Drop for Pool<D> {
    fn drop(&mut self) {
        // All pages are free, and nobody frees any more; the work has no reference to the device that could be the
        // last, as there is no chunk.
        cancel_sync::<_, 0>(&self.0);
    }
}

impl<D: Driver> DeviceMemory for Pool<D> {
    fn freed(&self, pages: Range<usize>) {
        self.0.dead.clear(pages.clone());
        self.0.copies.free(pages.clone());
        // They are of one folio or one claim, and so of one chunk.
        let Some(used) = self.0.used.get(pages.start / self.0.size) else {
            return;
        };
        if used.fetch_sub(pages.len(), Full) == pages.len() {
            let _ = system().enqueue::<_, 0>(self.0.clone());
        }
    }

    fn around(&self, folio: Range<usize>, area: Range<usize>) -> Range<usize> {
        if folio.len() >= HUGE_SIZE {
            return folio;
        }
        let start = folio.start & !(AROUND - 1);
        start.max(area.start)..(start + AROUND).min(area.end)
    }

    fn bring_back(pages: &Pages<D>, migration: &mut Migration<'_>) -> Result {
        // There is a page, so there is a chunk.
        let device = pages.owner().0.state.lock().device.clone().ok_or(ENODEV)?;
        let start = migration.start() as u64;
        let back = Transfer::new(&device, pages)?.to_host(migration, false)?;
        back.trace(0, start..start + bytes(migration.pages()), Why::Cpu);
        pages.owner().count_touched(pages, migration);
        Ok(())
    }
}
