// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How the framework writes a device's page table.
//!
//! A change goes through four stages. *Planning* looks at the tables as they are and takes note of
//! what a change will lack; it allocates nothing, so that it may hold the lock of the tables.
//! *Preparing* allocates what was planned, may sleep and fail, and touches nothing that the device
//! sees. *Committing* can do none of that: it takes all it needs out of the
//! [`PageTable::Prepared`] token. The token is the only way in, so a commit that wasn't prepared does
//! not compile. The *flush* ends with the device using the new mappings only.
//!
//! ```text
//!   make_room                    (may allocate, no lock)
//!   plan_map / plan_unmap        (any number, same order as the commits; table lock)
//!        |  Plan
//!   Driver::prepare_tables       (may allocate, sleep, fail; no table lock)
//!        |  Prepared
//!   map / unmap                  (infallible; the device may see old and new; table lock)
//!        |  Prepared
//!   flush                        (starts the invalidation; table lock) -> Flush
//!        |
//!   Flush::wait                  (no lock) -> garbage, to be freed where that is allowed
//! ```
//!
//! Everything from the commit on stands between a fence and its signal ([`crate::bind_queue`]).
//!
//! A partial change of a large page splits it; at no moment may an address outside the changed
//! range fault.

use crate::{
    driver::{
        Access,
        FaultAccess,
        MapAttrs, //
    },
    object::Location,
    range::VaRange, //
};
use kernel::prelude::*;

/// A run of device addresses to be mapped to a run of memory, both contiguous.
#[derive(Clone, Copy, Debug)]
pub struct MapRun<A> {
    /// The device addresses, multiples of the granule.
    pub range: VaRange,
    /// Where the first byte is; a multiple of the granule. `Sparse`: reads give 0, writes vanish. Every
    /// driver must be able to map that.
    pub location: Location,
    /// What the device may do.
    pub access: Access,
    /// The driver's own attributes.
    pub attrs: A,
}

impl<A> MapRun<A> {
    /// Cuts the run into pages of the sizes in `page_sizes` (a bit mask as in
    /// [`crate::driver::Caps`]), each the largest that alignment of both sides and the rest of the
    /// run allow. Bounds and location must be multiples of the smallest.
    pub fn leaves(&self, page_sizes: u64) -> Leaves {
        Leaves {
            va: self.range.start(),
            end: self.range.end(),
            location: self.location,
            page_sizes,
        }
    }
}

/// One page to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Device address.
    pub va: u64,
    /// Where it is.
    pub location: Location,
    /// Bytes, a power of two; `va` and the location's address are multiples of it.
    pub size: u64,
}

/// Iterator over the pages of a run; see [`MapRun::leaves`].
pub struct Leaves {
    va: u64,
    end: u64,
    location: Location,
    page_sizes: u64,
}

impl Iterator for Leaves {
    type Item = Leaf;

    fn next(&mut self) -> Option<Leaf> {
        if self.va >= self.end {
            return None;
        }
        // A size 2^n fits if n is at most the number of low zero bits both addresses have, and
        // 2^n at most what is left.
        let alignment = (self.va | self.location.address()).trailing_zeros().min(63);
        let largest = alignment.min((self.end - self.va).ilog2());
        let fitting = self.page_sizes & (u64::MAX >> (63 - largest));
        // Misaligned input ends here rather than map more than the run.
        let size = 1 << fitting.checked_ilog2()?;
        let leaf = Leaf {
            va: self.va,
            location: self.location,
            size,
        };
        self.va += size;
        self.location = self.location.advance(size);
        Some(leaf)
    }
}

/// What a plan may assume about the tables that exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Basis {
    /// The page table as it is now.
    Current,
    /// Changes that come before this one, in the same batch or in another that is not done yet, cover
    /// a whole largest page here: any table of the smallest pages may be missing by then. The number
    /// counts those changes of the batch: what was set aside under the same number will still be
    /// there.
    Unknown(u32),
}

/// A device page table.
///
/// All methods but `make_room` and `root` are called in process context with the lock of the tables held. Dropping it frees its
/// tables; by then nothing is mapped and the flush of the last unmap was waited for.
pub trait PageTable: Send + Unpin + Sized {
    /// The driver's own attributes of a mapping.
    type Attrs: MapAttrs;

    /// What changes will lack.
    type Plan: Default + Send;

    /// All that commits can need; dropping it gives back what was not used.
    type Prepared: Default + Send;

    /// An invalidation that was started.
    type Flush: PendingFlush;

    /// What a job needs to know to run in this address space, usually the address of the root
    /// table.
    type Root: Copy + Send + Sync;

    /// The root, fixed for the life of the page table.
    fn root(&self) -> Self::Root;

    /// Makes room in a plan for one more change of a range, so that planning it need not allocate.
    /// Called without the lock, may sleep. `ENOMEM`.
    fn make_room(plan: &mut Self::Plan, range: VaRange, change: Change) -> Result;

    /// Takes note of what a later [`map`](Self::map) of the same run can need. Does not allocate or
    /// sleep.
    ///
    /// Tables above those of the smallest pages that are there now will be there then: they go only
    /// by a `prune` of [`flush`](Self::flush).
    fn plan_map(&self, plan: &mut Self::Plan, run: &MapRun<Self::Attrs>, basis: Basis);

    /// Takes note of what a later [`unmap`](Self::unmap) of the same range can need: tables to split
    /// the large pages at its ends. Does not allocate or sleep.
    fn plan_unmap(&self, plan: &mut Self::Plan, range: VaRange, basis: Basis);

    /// Maps a run, replacing what was there. Does not allocate, sleep or fail.
    fn map(&mut self, prepared: &mut Self::Prepared, run: &MapRun<Self::Attrs>);

    /// Unmaps a range, all or part of which may not be mapped. Does not allocate, sleep or fail.
    ///
    /// The end of a VM is an unmap of all there is, with an empty token and not planned.
    fn unmap(&mut self, prepared: &mut Self::Prepared, range: VaRange);

    /// Unmaps a range by making entries invalid and nothing else. Returns what was unmapped: the range, and what
    /// lies in one large page with part of it, unless that page could be split with what was put in
    /// [stock](Self::stock). To be followed by a [`flush`](Self::flush) of that with this token, which is an
    /// empty one.
    ///
    /// For what the process does with memory that is mirrored, so it may be called while memory is being
    /// reclaimed: does not allocate, free, sleep or fail. Tables stay where they are.
    fn zap(&mut self, prepared: &mut Self::Prepared, range: VaRange) -> VaRange;

    /// Takes note of what the stock for [`zap`](Self::zap) lacks. Does not allocate or sleep; a plan has
    /// room for it if [`make_room`](Self::make_room) was called.
    fn plan_stock(&self, _plan: &mut Self::Plan) {}

    /// Puts in stock what was planned for that. Does not allocate, sleep or fail.
    fn stock(&mut self, _prepared: &mut Self::Prepared) {}

    /// Whether the device has accessed any of a range of mapped memory since that was last asked; to be followed by a
    /// [`flush`](Self::flush) of that with this token if so, without which it need not say so again. `false` if the hardware does
    /// not say. Does not allocate or sleep.
    fn take_accessed(&mut self, _prepared: &mut Self::Prepared, _range: VaRange) -> bool {
        false
    }

    /// Whether an access to an address is allowed. Does not sleep.
    fn permits(&self, va: u64, access: FaultAccess) -> bool;

    /// How much it takes now. May be slow.
    fn stats(&self) -> Stats;

    /// Starts making the device forget what it cached of `range`, which covers all that was
    /// committed with this token. Where only invalid entries were changed and the hardware caches none
    /// of those, there is nothing to start; but what others started before and what is not over yet must be waited
    /// for in any case: they may have made these entries invalid.
    /// Does not allocate, free or sleep: what the token still holds goes along with the flush.
    ///
    /// With `prune`, also takes empty tables out of that range: no change is planned that counts on
    /// them.
    fn flush(
        &mut self,
        prepared: Self::Prepared,
        range: VaRange,
        prune: Option<VaRange>,
    ) -> Self::Flush;
}

/// How much a page table takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Number of tables.
    pub tables: usize,
    /// Bytes of memory, wherever the device has its tables.
    pub bytes: u64,
}

/// A kind of change to be planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A range is mapped.
    Map,
    /// A range is unmapped.
    Unmap,
}

/// An invalidation that was started and not yet waited for.
#[must_use = "memory may not be reused before the invalidation completed"]
pub trait PendingFlush: Send {
    /// Tables that became empty and what was prepared in vain.
    ///
    /// Freeing it takes locks under which memory is allocated; so this is for the framework to drop,
    /// outside of any signalling section.
    type Garbage: Send;

    /// Waits until the device uses nothing that was cached before, and has performed all accesses
    /// that did. Bounded. Process context. Neither allocates nor frees.
    ///
    /// # Errors
    ///
    /// `EIO` if the device did not confirm in time, `ENODEV` if it is gone. Either way the driver has
    /// made sure that it accesses nothing any more.
    fn wait(self) -> (Result, Self::Garbage);
}

#[kunit_tests(gmem_vm_page_table)]
mod tests {
    use super::*;

    const SIZES: u64 = 0x1000 | 0x1_0000 | 0x20_0000;

    fn run(va: u64, address: u64, size: u64) -> Result<MapRun<()>> {
        Ok(MapRun {
            range: VaRange::new(va, size)?,
            location: Location::Device(address),
            access: Access::default(),
            attrs: (),
        })
    }

    /// Number of leaves of each of the three sizes, checking that they tile the run.
    fn count(run: &MapRun<()>) -> [u32; 3] {
        let mut n = [0; 3];
        let (mut va, mut at) = (run.range.start(), run.location);
        for leaf in run.leaves(SIZES) {
            assert_eq!((leaf.va, leaf.location), (va, at));
            assert_eq!((leaf.va | leaf.location.address()) % leaf.size, 0);
            va += leaf.size;
            at = at.advance(leaf.size);
            n[match leaf.size {
                0x1000 => 0,
                0x1_0000 => 1,
                _ => 2,
            }] += 1;
        }
        assert_eq!(va, run.range.end());
        n
    }

    #[test]
    fn leaves_follow_alignment_of_both_sides() -> Result {
        assert_eq!(count(&run(0x20_0000, 0x40_0000, 0x20_0000)?), [0, 0, 1]);
        assert_eq!(count(&run(0x20_0000, 0x41_0000, 0x20_0000)?), [0, 32, 0]);
        assert_eq!(count(&run(0x20_0000, 0x40_1000, 0x1_0000)?), [16, 0, 0]);
        assert_eq!(count(&run(0xf000, 0xf000, 0x2_2000)?), [2, 2, 0]);
        assert_eq!(count(&run(0x1f_f000, 0x1f_f000, 0x20_2000)?), [2, 0, 1]);
        assert_eq!(count(&run(0, 0, 0x1000)?), [1, 0, 0]);
        Ok(())
    }

    #[test]
    fn one_page_size_only() -> Result {
        let run = run(0, 0, 0x4_0000)?;
        assert_eq!(run.leaves(0x1_0000).count(), 4);
        Ok(())
    }
}
