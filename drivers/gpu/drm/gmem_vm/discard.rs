// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory whose contents nobody needs any more, as userspace said.
//!
//! A page in device memory can be *dead*, which [`Dead`] has a bit for: it is mapped by no device then, and if it goes to the
//! host nothing is copied, but the process gets zeroes. A device that accesses it finds it as it is, and from then on it
//! is a page as any other. What keeps that right:
//!
//! - A page dies while it is collected by a migration, with the process's memory map locked: locked, mapped nowhere, and all who
//!   had it mapped have been told, those of other VMs and processes as well. So nobody has it mapped when that is over.
//! - It lives again as it is mapped, under the table lock, from a snapshot that is valid. To move or die a page has
//!   to be taken out of the table again first. So who moves it knows what it is.
//! - Only what the process may write as it is dies: what a fork has left to two processes is written by neither.
//! - A page that belongs to nobody is not dead, from before it is given to anybody.
//!
//! A page that is not where it was when it died does not exist: its bit goes as it is freed. What the host had kept of
//! it goes as it dies.
//!
//! Locks: those of a migration, or of a snapshot ([`crate::populate`]). [`Dead`] needs none, in any context.

use crate::{
    driver::Driver,
    kapi::{
        hmm::{
            Buffer,
            Place,
            Snapshot,
            Want, //
        },
        migrate::{
            within_huge,
            Migration,
            Source, //
        },
        signal::check_killed, //
    },
    mirror::Watcher,
    object::Location,
    populate::{
        Goal,
        Order, //
    },
    range::VaRange,
    transfer::bytes,
    vm::{
        Attrs,
        Vm, //
    }, //
};
use core::ops::Range;
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    }, //
};

/// Pages of a word of the map.
const WORD: usize = 64;
/// How often a range is looked at anew if it changes.
const TRIES: usize = 8;

/// Which pages of a device are dead.
pub(crate) struct Dead {
    words: KVVec<Atomic<u64>>,
    /// How many of each chunk: no less than there are.
    counts: KVVec<Atomic<usize>>,
    /// Pages of a chunk.
    chunk: usize,
    /// How many of all: no less than there are.
    all: Atomic<usize>,
    /// Pages that were not copied to the host as they were dead.
    spared: Atomic<u64>,
}

impl Dead {
    /// None, of so many chunks. `ENOMEM`.
    pub(crate) fn new(chunks: usize, chunk: usize) -> Result<Self> {
        let words = (chunks * chunk).div_ceil(WORD);
        let mut this = Self {
            words: KVVec::with_capacity(words, GFP_KERNEL)?,
            counts: KVVec::with_capacity(chunks, GFP_KERNEL)?,
            chunk,
            all: Atomic::new(0),
            spared: Atomic::new(0),
        };
        for _ in 0..words {
            this.words.push(Atomic::new(0), GFP_KERNEL)?;
        }
        for _ in 0..chunks {
            this.counts.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(this)
    }

    /// Whether a page is.
    pub(crate) fn has(&self, page: usize) -> bool {
        let word = self.words.get(page / WORD);
        word.is_some_and(|word| word.load(Relaxed) >> (page % WORD) & 1 != 0)
    }

    /// Whether all of some pages are.
    pub(crate) fn has_all(&self, mut pages: Range<usize>) -> bool {
        !self.is_empty() && pages.all(|page| self.has(page))
    }

    /// Whether none is.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.load(Relaxed) == 0
    }

    /// How many of a chunk are, at most.
    pub(crate) fn of_chunk(&self, chunk: usize) -> usize {
        self.counts
            .get(chunk)
            .map_or(0, |count| count.load(Relaxed))
    }

    /// Counts that some pages, of one chunk, more are.
    fn count(&self, page: usize, more: usize) {
        self.all.fetch_add(more, Full);
        if let Some(count) = self.counts.get(page / self.chunk) {
            count.fetch_add(more, Full);
        }
    }

    fn uncount(&self, page: usize, less: usize) {
        self.all.fetch_sub(less, Full);
        if let Some(count) = self.counts.get(page / self.chunk) {
            count.fetch_sub(less, Full);
        }
    }

    /// Changes the bits of pages; returns how many were otherwise.
    fn change(&self, pages: Range<usize>, to: bool) -> usize {
        let mut at = pages.start;
        let mut changed = 0;
        while at < pages.end {
            // A chunk has no part of a word, or several have all of it.
            let unit = WORD.min(self.chunk);
            let end = pages.end.min((at / unit + 1) * unit);
            let bits = (u64::MAX >> (WORD - (end - at))) << (at % WORD);
            let Some(word) = self.words.get(at / WORD) else {
                break;
            };
            if to {
                // Whoever finds a bit finds it counted.
                self.count(at, end - at);
            }
            let mut old = word.load(Relaxed);
            while let Err(other) =
                word.cmpxchg(old, if to { old | bits } else { old & !bits }, Full)
            {
                old = other;
            }
            let were = (old & bits).count_ones() as usize;
            // Counted are now those that are set, and no more.
            self.uncount(at, were);
            changed += if to { end - at - were } else { were };
            at = end;
        }
        changed
    }

    /// Lets pages die; returns how many had not yet.
    fn set(&self, pages: Range<usize>) -> usize {
        self.change(pages, true)
    }

    /// Lets pages live; returns how many had not.
    pub(crate) fn clear(&self, pages: Range<usize>) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.change(pages, false)
    }

    /// Takes note that so many pages went to the host without being copied.
    pub(crate) fn count_spared(&self, pages: usize) {
        self.spared.fetch_add(pages as u64, Relaxed);
    }

    /// How many bytes have.
    pub(crate) fn spared(&self) -> u64 {
        self.spared.load(Relaxed) << PAGE_SHIFT
    }
}

/// What is to be done about the contents of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Discard {
    /// Nobody needs them.
    Drop,
    /// Nobody needs them, and the memory is wanted on the device.
    Replace,
    /// Somebody does, as far as they are still there.
    Keep,
}

/// What that did, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Discarded {
    pub(crate) discarded: u64,
    pub(crate) retained: u64,
}

impl<D: Driver> Vm<D> {
    /// Says whether the contents of mirrored memory are needed; see `struct drm_gmem_discard`.
    pub(crate) fn discard(&self, range: VaRange, what: Discard) -> Result<Discarded> {
        self.check()?;
        let mut done = Discarded::default();
        let mut rest = Some(range);
        let mut buffer = Buffer::new();
        while let Some(left) = rest {
            check_killed()?;
            let Some(found) = self.next_mirrored(&left) else {
                break;
            };
            let part = found.range.intersect(&left).ok_or(EFAULT)?;
            rest = VaRange::from_bounds(part.end(), range.end());
            if what != Discard::Keep && !found.mirrored.access.write {
                return Err(EPERM);
            }
            if what == Discard::Replace {
                done.discarded += self.bring_blank(part)?;
                continue;
            }
            let (mut at, end) = (
                found.cpu(part.start()),
                found.cpu(part.start()) + part.size(),
            );
            while let Some((cpu, size)) = self.next_used(at, end - at)? {
                check_killed()?;
                let block = cpu as usize..(cpu + within_huge(cpu, size)) as usize;
                at = block.end as u64;
                match what {
                    Discard::Keep => done.retained += self.revive(&mut buffer, block)?,
                    _ => done.discarded += self.kill(block)?,
                }
                if at >= end {
                    break;
                }
            }
        }
        Ok(done)
    }

    /// Lets what of a range of the process is on the device die; returns how many bytes did.
    fn kill(&self, cpu: Range<usize>) -> Result<u64> {
        let (Some(pages), Some(process)) = (self.device.process_pages(), self.subscription())
        else {
            return Ok(0);
        };
        let pool = pages.owner();
        let mut count = 0;
        self.each_area(&process, cpu, |area, range| {
            let migration = match Migration::to_host(area, range, pages.id()) {
                Ok(migration) => migration,
                Err(e) if e == ENOMEM => return Err(e),
                // There is nothing of the device.
                Err(_) => return Ok(()),
            };
            let mut page = 0;
            while let Some(slot) = migration.next(page) {
                page = slot.page + (1 << slot.order);
                let Source::Pages(pfn) = slot.source else {
                    continue;
                };
                let Some(index) = pages.index(pfn).filter(|_| slot.write) else {
                    continue;
                };
                let these = index..index + (1 << slot.order);
                pool.copies().free(these.clone());
                count += pool.dead().set(these);
            }
            // They all stay where they are.
            drop(migration);
            Ok(())
        })?;
        Ok(bytes(count))
    }

    /// Lets what of a range of the process is dead live; returns how many bytes were.
    fn revive(&self, buffer: &mut Buffer, cpu: Range<usize>) -> Result<u64> {
        let (Some(pages), Some(process)) = (self.device.process_pages(), self.subscription())
        else {
            return Ok(0);
        };
        let dead = pages.owner().dead();
        for _ in 0..TRIES {
            check_killed()?;
            let window = process.open(cpu.clone())?;
            let (none, id) = (cpu.start..cpu.start, self.process_memory_id());
            let snapshot = match Snapshot::take(window, buffer, none, Want::Look, id) {
                Ok(snapshot) => snapshot,
                Err(e) if e == EBUSY => continue,
                // It was unmapped meanwhile.
                Err(e) if e == EFAULT => return Ok(0),
                Err(e) => return Err(e),
            };
            // As long as that is there, nobody moves them who was not told yet.
            let Some(valid) = snapshot.validate() else {
                continue;
            };
            let mut count = 0;
            for run in valid.runs() {
                if let Place::Device(pfn) = run.place {
                    let index = pages.index(pfn).ok_or(EINVAL)?;
                    count += dead.clear(index..index + (run.size >> PAGE_SHIFT));
                }
            }
            return Ok(bytes(count));
        }
        Err(EBUSY)
    }

    /// Brings a mirrored range to the device; returns how many bytes were not copied from the host for that.
    fn bring_blank(&self, range: VaRange) -> Result<u64> {
        let blank = |order: &mut Order<Attrs<D>>| order.blank = true;
        Ok(self.bring(range, Some(Goal::Device), blank)?.blank)
    }

    /// Leaves out of a snapshot what is dead and was not asked for.
    pub(crate) fn leave_dead(
        &self,
        snapshot: &mut Snapshot<'_, '_, Watcher<D>>,
        order: &Order<Attrs<D>>,
    ) {
        let Some(pages) = self.device.process_pages() else {
            return;
        };
        let dead = pages.owner().dead();
        if dead.is_empty() {
            return;
        }
        let wanted = order.cpu(&order.wanted);
        let is_wanted = |at: usize| order.makes && at < wanted.end && at + PAGE_SIZE > wanted.start;
        snapshot.leave_out(|address, pfn| {
            !is_wanted(address) && pages.index(pfn).is_some_and(|page| dead.has(page))
        });
    }

    /// Lets what is about to be mapped live, with a snapshot that is valid and the table lock held.
    pub(crate) fn live(&self, location: Location, size: u64) {
        let (Location::Device(at), Some(pages)) = (location, self.device.process_pages()) else {
            return;
        };
        let first = (at >> PAGE_SHIFT) as usize;
        let count = (size >> PAGE_SHIFT) as usize;
        pages.owner().dead().clear(first..first + count);
    }
}

#[kunit_tests(gmem_vm_discard)]
mod tests {
    use super::*;

    #[test]
    fn pages_die_once_and_live_once() -> Result {
        for chunk in [16, 64, 512] {
            let dead = Dead::new(4, chunk)?;
            assert!(dead.is_empty() && !dead.has(3));
            assert_eq!(dead.set(3..chunk), chunk - 3);
            assert_eq!(dead.set(1..4), 2);
            assert!(!dead.has(0) && dead.has(1) && dead.has(chunk - 1) && !dead.has(chunk));
            assert_eq!((dead.of_chunk(0), dead.of_chunk(1)), (chunk - 1, 0));
            assert!(dead.has_all(1..chunk) && !dead.has_all(0..chunk));
            assert_eq!(dead.clear(0..2), 1);
            assert_eq!(dead.clear(0..2), 0);
            assert_eq!(dead.of_chunk(0), chunk - 2);
            // More than one chunk at a time.
            assert_eq!(dead.set(chunk..3 * chunk + 1), 2 * chunk + 1);
            assert_eq!((dead.of_chunk(2), dead.of_chunk(3)), (chunk, 1));
            assert_eq!(dead.clear(0..4 * chunk), 3 * chunk - 1);
            assert!(dead.is_empty() && dead.of_chunk(0) + dead.of_chunk(3) == 0);
        }
        Ok(())
    }
}
