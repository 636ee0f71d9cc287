// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Device memory for pages of processes.
//!
//! Takes chunks from the device's [`Memory`](crate::memory::Memory), which buffer objects take from
//! too, and gives their pages to processes ([`kapi::device_private`](crate::kapi::device_private)) by
//! one or as a huge folio. A chunk whose pages are all free goes back. As long as a chunk is out, there is a
//! reference to the device: its memory has what processes need.
//!
//! Locks: `state`, a mutex, then the memory lock. Pages are freed in any context, without a lock; giving
//! chunks back is the work of the system's workqueue, since it may drop the last reference to the device.

use crate::{
    device::DeviceRef,
    driver::Driver,
    kapi::{
        device_private::{
            Claim,
            DeviceMemory,
            DevicePages, //
        },
        lock::{
            new_mutex,
            new_work, //
        },
        migrate::{
            Migration,
            HUGE_ORDER,
            HUGE_SIZE, //
        },
        work::{
            cancel_sync,
            system, //
        }, //
    },
    memory::MemoryBlock,
    transfer::Transfer, //
};
use core::ops::Range;
use kernel::{
    drm,
    impl_has_work,
    page::PAGE_SIZE,
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

/// Pages of a chunk: those of a huge folio.
const CHUNK: usize = 1 << HUGE_ORDER;
/// How often a device that is there is asked to copy back what it has, 10 ms apart, before that counts as lost.
const LOST_TRIES: usize = 500;
/// What the CPU touches comes back in blocks of so many bytes, aligned, if it is small pages.
const AROUND: usize = 64 << 10;

/// Device memory for pages of processes.
pub type Pages<D> = DevicePages<Pool<D>>;

struct State<D: Driver> {
    /// For each place of a chunk, that chunk, if it is ours.
    blocks: KVVec<Option<MemoryBlock>>,
    /// How many are.
    held: usize,
    /// The chunk that small pages came from last.
    recent: usize,
    /// While there is a chunk.
    device: Option<DeviceRef<D>>,
    /// The driver is being unbound: no more are taken.
    closed: bool,
}

/// The chunks.
#[pin_data]
struct Chunks<D: Driver> {
    #[pin]
    state: Mutex<State<D>>,
    /// Pages of each chunk that are not free.
    used: KVVec<Atomic<usize>>,
    #[pin]
    give_back: Work<Chunks<D>>,
}

impl_has_work! {
    impl{D: Driver} HasWork<Self> for Chunks<D> { self.give_back }
}

/// What the pages of a device belong to.
pub struct Pool<D: Driver>(Arc<Chunks<D>>);

fn pages_of(chunk: usize) -> Range<usize> {
    chunk * CHUNK..(chunk + 1) * CHUNK
}

impl<D: Driver> Chunks<D> {
    fn used(&self, chunk: usize) -> usize {
        self.used
            .get(chunk)
            .map_or(CHUNK, |used| used.load(Relaxed))
    }

    /// Takes a chunk from the device's memory.
    fn grow(&self, state: &mut State<D>, device: &drm::Device<D>) -> Option<usize> {
        let block = device.memory()?.alloc_chunk(HUGE_SIZE as u64).ok()?;
        let (local, _) = block.runs().next()?;
        let chunk = local as usize / HUGE_SIZE;
        *state.blocks.get_mut(chunk)? = Some(block);
        state.held += 1;
        state.device.get_or_insert_with(|| device.into());
        Some(chunk)
    }

    /// A chunk that is ours and fulfils a condition.
    fn find(&self, state: &State<D>, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let of = |chunk: &usize| state.blocks[*chunk].is_some() && fits(self.used(*chunk));
        Some(state.recent)
            .filter(|recent| *recent < state.blocks.len())
            .filter(of)
            .or_else(|| (0..state.blocks.len()).find(of))
    }

    /// Gives a chunk back, if it is ours and all of its pages are free.
    fn drop_chunk(&self, chunk: usize) -> bool {
        let mut state = self.state.lock();
        let gone = match state.blocks.get_mut(chunk) {
            Some(block) if self.used(chunk) == 0 => block.take(),
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
        for (chunk, block) in state_ref.blocks.iter_mut().enumerate() {
            if block.is_some() && self.used(chunk) == 0 {
                *block = None;
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

impl<D: Driver> WorkItem for Chunks<D> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.shrink();
    }
}

impl<D: Driver> Pool<D> {
    /// Whether so much memory has a chunk.
    pub(crate) fn fits(size: u64) -> bool {
        size >= HUGE_SIZE as u64
    }

    /// For a device with so many bytes of memory. `ENOMEM`.
    pub(crate) fn new(size: u64) -> Result<Self> {
        let chunks = usize::try_from(size)? / HUGE_SIZE;
        let (mut blocks, mut used) = (KVVec::new(), KVVec::new());
        for _ in 0..chunks {
            blocks.push(None, GFP_KERNEL)?;
            used.push(Atomic::new(0), GFP_KERNEL)?;
        }
        let chunks = Arc::pin_init(
            try_pin_init!(Chunks {
                state <- new_mutex!(State {
                    blocks,
                    held: 0,
                    recent: 0,
                    device: None,
                    closed: false,
                }, "gmem_vm::Pool::state"),
                used,
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
    ) -> Option<Claim<Self>> {
        let chunks = &pages.owner().0;
        let mut state = chunks.state.lock();
        if state.closed {
            return None;
        }
        let chunk = chunks
            .find(&state, |used| used == 0)
            .or_else(|| chunks.grow(&mut state, device))?;
        let claim = pages.claim(pages_of(chunk))?;
        chunks.used.get(chunk)?.fetch_add(CHUNK, Full);
        Some(claim)
    }

    /// Takes pages in a row, at most so many. `None` if there are none.
    pub(crate) fn claim(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        most: usize,
    ) -> Option<Claim<Self>> {
        // So that the device can map them as one.
        if most >= CHUNK {
            if let Some(claim) = Self::claim_huge(pages, device) {
                return Some(claim);
            }
        }
        let chunks = &pages.owner().0;
        let mut state = chunks.state.lock();
        if state.closed {
            return None;
        }
        let chunk = chunks
            .find(&state, |used| used > 0 && used < CHUNK)
            .or_else(|| chunks.find(&state, |used| used == 0))
            .or_else(|| chunks.grow(&mut state, device))?;
        state.recent = chunk;
        let found = pages.find_free(pages_of(chunk), most)?;
        let count = found.len();
        let claim = pages.claim(found)?;
        chunks.used.get(chunk)?.fetch_add(count, Full);
        Some(claim)
    }

    /// Brings a chunk of what processes have in device memory back to the host, so that its memory can be had for
    /// something else. `false` if there is none that could be.
    ///
    /// Process context, sleeps; none of a VM's table locks may be held.
    pub(crate) fn give_up_chunk(pages: &Arc<Pages<D>>, device: &drm::Device<D>) -> bool {
        let chunks = &pages.owner().0;
        for chunk in 0..chunks.used.len() {
            let was_used = chunks.used(chunk) > 0;
            if was_used && Self::bring_chunk_back(pages, device, chunk, false).is_err() {
                continue;
            }
            // If it isn't ours to give back any more, the work that frees start has done so.
            if chunks.used(chunk) == 0 && (chunks.drop_chunk(chunk) || was_used) {
                return true;
            }
        }
        false
    }

    fn bring_chunk_back(
        pages: &Arc<Pages<D>>,
        device: &drm::Device<D>,
        chunk: usize,
        lost: bool,
    ) -> Result {
        let mut migration = Migration::evict(pages, pages_of(chunk))?;
        Transfer::new(device, pages)?.to_host(&mut migration, lost)?;
        let moved = migration.commit();
        if moved.pages == 0 {
            return Err(EBUSY);
        }
        Ok(())
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
                    let _ = Self::bring_chunk_back(pages, device, chunk, lost);
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
        // They are of one folio or one claim, and so of one chunk.
        let Some(used) = self.0.used.get(pages.start / CHUNK) else {
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
        Transfer::new(&device, pages)?.to_host(migration, false)
    }
}
