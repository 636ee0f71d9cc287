// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory that stays on the device once it is there, as userspace advised, and what that is charged to.
//!
//! Pinned pages have chunks of device memory of their own ([`crate::device_pages`]), those of each VM, which the
//! evictor leaves alone. They can't be more than the VM was charged for: so whatever becomes of the pages, what all VMs
//! keep others from is bounded by what is charged.
//!
//! What is charged are addresses, as attributes hold for addresses, whatever is there: to a user's limit of locked
//! memory by the page, and to the device by the chunk, for each that has a pinned address if addresses are cut into
//! chunks. It follows the attributes, under the VM lock, whoever changes them and wherever. With the VM it all goes.
//!
//! What was on the device before it was pinned, or no more pinned, goes to the host, and comes back in the new way.
//!
//! Locks: under the VM lock; to bring memory back, the process's memory map, not inside of that.

use crate::{
    attach::Process,
    attrs::{
        AttrKind,
        AttrMap,
        AttrSet, //
    },
    device::Device,
    device_pages::{
        Pages,
        Pool, //
    },
    driver::Driver,
    kapi::{
        hmm::{
            Buffer,
            Place,
            Snapshot,
            Want, //
        },
        memlock::Locked,
        migrate::Migration, //
    },
    populate::Order,
    range::VaRange,
    transfer::Transfer,
    vm::{
        Attrs,
        Space,
        Vm, //
    }, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// The device may have pinned one part in so many of its memory.
const PART: usize = 2;

/// How much is pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sum {
    pages: usize,
    chunks: usize,
}

/// Adds ranges up, in the order of their addresses.
#[derive(Default)]
struct Adder {
    sum: Sum,
    /// The first chunk that was not counted yet.
    next: u64,
}

impl Adder {
    fn add(&mut self, range: VaRange, chunk: u64) {
        let first = (range.start() / chunk).max(self.next);
        self.next = range.end().div_ceil(chunk);
        self.sum.chunks += self.next.saturating_sub(first) as usize;
        self.sum.pages += (range.size() >> PAGE_SHIFT) as usize;
    }
}

/// What a change of attributes does to what is pinned.
#[derive(Default)]
pub(crate) struct Change {
    /// What was pinned where it could make a difference, and what will be.
    before: Sum,
    after: Sum,
    /// What is pinned and was not, or the other way round.
    parts: KVVec<VaRange>,
}

impl Change {
    /// Of giving a range other attributes.
    pub(crate) fn of(
        attrs: &AttrMap,
        range: VaRange,
        chunk: u64,
        new: impl Fn(AttrSet) -> AttrSet,
    ) -> Result<Self> {
        let is_pinned = |set: &AttrSet| set.get(AttrKind::Pinned) != 0;
        let (mut before, mut after) = (Adder::default(), Adder::default());
        let mut parts = KVVec::<VaRange>::new();
        // What shares a chunk with the range counts, too.
        let window = range.align_outward(chunk);
        let cuts = [
            VaRange::from_bounds(window.start(), range.start()),
            Some(range),
            VaRange::from_bounds(range.end(), window.end()),
        ];
        for cut in cuts.into_iter().flatten() {
            let mut rest = Some(cut);
            while let Some(left) = rest {
                let (old, part) = attrs.get(left);
                rest = VaRange::from_bounds(part.end(), cut.end());
                let set = if range.contains(&part) { new(old) } else { old };
                if is_pinned(&old) {
                    before.add(part, chunk);
                }
                if is_pinned(&set) {
                    after.add(part, chunk);
                }
                if is_pinned(&old) == is_pinned(&set) {
                    continue;
                }
                match parts.last_mut() {
                    Some(last) if last.end() == part.start() => *last = last.hull(&part),
                    _ => parts.push(part, GFP_KERNEL_ACCOUNT)?,
                }
            }
        }
        Ok(Self {
            before: before.sum,
            after: after.sum,
            parts,
        })
    }

    /// Whether it does anything.
    pub(crate) fn is_none(&self) -> bool {
        self.parts.is_empty()
    }
}

/// How many chunks a VM may have pinned. Read under the lock of [`crate::device_pages`], where that is all that counts.
pub(crate) struct Allowed(Atomic<usize>);

impl Allowed {
    /// None.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self(Atomic::new(0)), GFP_KERNEL)?)
    }

    /// How many at this moment.
    pub(crate) fn chunks(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// What a VM has pinned, and what that is charged to; under the VM lock.
#[derive(Default)]
pub(crate) struct Pinned {
    sum: Sum,
    locked: Locked,
}

impl Pinned {
    /// Takes over the limit of the calling process, which asks for memory to be pinned.
    pub(crate) fn ask(&mut self) {
        self.locked.ask();
    }
}

impl<D: Driver> Device<D> {
    /// Charges chunks, if there may be so many more. `ENOMEM`.
    fn charge_pinned(&self, chunks: usize) -> Result {
        let size = self.memory().map_or(0, |memory| memory.size());
        let all = size.checked_div(self.pin_unit()).unwrap_or(0);
        let most = all as usize / PART;
        let mut now = self.pinned.load(Relaxed);
        loop {
            let new = now.checked_add(chunks).filter(|&new| new <= most);
            match self.pinned.cmpxchg(now, new.ok_or(ENOMEM)?, Full) {
                Ok(_) => return Ok(()),
                Err(other) => now = other,
            }
        }
    }

    fn uncharge_pinned(&self, chunks: usize) {
        self.pinned.fetch_sub(chunks, Full);
    }

    /// Bytes of a chunk.
    fn pin_unit(&self) -> u64 {
        Pool::<D>::chunk_bytes_of(self.memory().map_or(0, |memory| memory.size()))
    }
}

impl<D: Driver> Vm<D> {
    /// Changes attributes, as `new` says of those of each address in a range and `apply` does, and charges what is pinned
    /// by that or gives it back; returns what has changed. All of it is done, or nothing.
    ///
    /// # Errors
    ///
    /// `EPERM`, `ENOMEM`: it can't be charged. Those of `apply`.
    pub(crate) fn change_pinned(
        &self,
        space: &mut Space<D>,
        range: VaRange,
        new: impl Fn(AttrSet) -> AttrSet,
        apply: impl FnOnce(&mut AttrMap) -> Result,
    ) -> Result<Change> {
        let Space { attrs, pinned, .. } = space;
        let change = Change::of(attrs, range, self.device.pin_unit(), new)?;
        let more = Sum {
            pages: change.after.pages.saturating_sub(change.before.pages),
            chunks: change.after.chunks.saturating_sub(change.before.chunks),
        };
        self.device.charge_pinned(more.chunks)?;
        let done = pinned.locked.charge(more.pages);
        match done.and_then(|()| apply(attrs)) {
            Ok(()) => {
                let sum = &mut pinned.sum;
                sum.pages = sum.pages + change.after.pages - change.before.pages;
                sum.chunks = sum.chunks + change.after.chunks - change.before.chunks;
                self.allowed.0.store(sum.chunks, Relaxed);
                let less = change.before.chunks.saturating_sub(change.after.chunks);
                self.device.uncharge_pinned(less);
                pinned.locked.keep(sum.pages);
                Ok(change)
            }
            Err(e) => {
                self.device.uncharge_pinned(more.chunks);
                pinned.locked.keep(pinned.sum.pages);
                Err(e)
            }
        }
    }

    /// Lets what the VM has pinned stay only as far as it is allowed to: after that has become less, and what is not pinned
    /// any more is gone, as far as it can be.
    pub(crate) fn limit_pinned(&self) {
        if let Some(pages) = self.device.process_pages() {
            pages.owner().limit_pinned(self.number(), &self.allowed);
        }
    }

    /// Gives all back that is charged, as the VM ends. What it has pinned is as any other memory from then on.
    pub(crate) fn end_pinned(&self, space: &mut Space<D>) {
        let pinned = core::mem::take(&mut space.pinned);
        self.allowed.0.store(0, Relaxed);
        self.limit_pinned();
        self.device.uncharge_pinned(pinned.sum.chunks);
    }

    /// Brings what lies on the device to the host where a change of attributes is about it. What is in use just now stays
    /// for the time being.
    ///
    /// Process context, sleeps; no locks may be held.
    pub(crate) fn carry_out(&self, change: &Change) {
        self.bring_changed(change);
        self.limit_pinned();
    }

    fn bring_changed(&self, change: &Change) {
        let (Some(pages), Some(process)) = (self.device.process_pages(), self.subscription())
        else {
            return;
        };
        for part in &change.parts {
            let mut rest = Some(*part);
            while let Some(left) = rest {
                let Some(found) = self.next_mirrored(&left) else {
                    break;
                };
                let Some(here) = found.range.intersect(&left) else {
                    break;
                };
                rest = VaRange::from_bounds(here.end(), part.end());
                let start = found.cpu(here.start()) as usize;
                let brought = self.each_area(
                    &process,
                    start..start + here.size() as usize,
                    |area, range| {
                        let Ok(mut migration) = Migration::to_host(area, range, pages.id()) else {
                            return Ok(());
                        };
                        Transfer::new(&self.device, pages)?.to_host(&mut migration, false)?;
                        let _ = migration.commit();
                        Ok(())
                    },
                );
                self.count_left(&here);
                if brought.is_err() {
                    // Nobody is there any more, or there is no memory for it in the host.
                    return;
                }
            }
        }
    }

    /// Whether memory that an order wants pinned is on the device already, and is not.
    pub(crate) fn is_elsewhere(
        &self,
        pages: &Arc<Pages<D>>,
        process: &Process<D>,
        buffer: &mut Buffer,
        order: &Order<Attrs<D>>,
    ) -> Result<bool> {
        let cpu = order.cpu(&order.block);
        let (start, id) = (cpu.start, self.process_memory_id());
        // Looked at once the snapshot is gone, whose lock is an inner one.
        let mut found = KVVec::with_capacity(cpu.len() >> PAGE_SHIFT, GFP_KERNEL)?;
        let snapshot =
            match Snapshot::take(process.open(cpu)?, buffer, start..start, Want::Look, id) {
                Ok(snapshot) => snapshot,
                Err(e) if e == EBUSY || e == EFAULT => return Ok(false),
                Err(e) => return Err(e),
            };
        for run in snapshot.look().iter().flat_map(|valid| valid.runs()) {
            if let Place::Device(pfn) = run.place {
                let count = run.size >> PAGE_SHIFT;
                // There is room for all.
                let _ = found.push_within_capacity((pages.index(pfn).ok_or(EINVAL)?, count));
            }
        }
        drop(snapshot);
        Ok(!pages.owner().are_pinned(&found))
    }
}

#[kunit_tests(gmem_vm_pin)]
mod tests {
    use super::*;
    use crate::attrs::Attr;

    const CHUNK: u64 = 16 << 12;

    fn range(start: u64, end: u64) -> Result<VaRange> {
        VaRange::from_bounds(start << 12, end << 12).ok_or(EINVAL)
    }

    fn pin(map: &mut AttrMap, part: VaRange, on: bool) -> Result<Change> {
        let attr = Attr::new(AttrKind::Pinned as u32, on.into(), |_| true, |_| Ok(()))?;
        let change = Change::of(map, part, CHUNK, |set| set.with(attr))?;
        map.advise(part, &[attr], false)?;
        Ok(change)
    }

    fn sums(change: &Change) -> (isize, isize) {
        let less = |a: usize, b: usize| a as isize - b as isize;
        (
            less(change.after.pages, change.before.pages),
            less(change.after.chunks, change.before.chunks),
        )
    }

    #[test]
    fn chunks_count_once() -> Result {
        let mut map = AttrMap::new();
        assert_eq!(sums(&pin(&mut map, range(1, 2)?, true)?), (1, 1));
        // Again, beside it, and in the same chunk.
        assert_eq!(sums(&pin(&mut map, range(1, 2)?, true)?), (0, 0));
        assert_eq!(sums(&pin(&mut map, range(2, 3)?, true)?), (1, 0));
        assert_eq!(sums(&pin(&mut map, range(8, 16)?, true)?), (8, 0));
        // Across a boundary.
        assert_eq!(sums(&pin(&mut map, range(15, 17)?, true)?), (1, 1));
        assert_eq!(sums(&pin(&mut map, range(0, 64)?, true)?), (53, 2));
        // A part of a chunk stays.
        assert_eq!(sums(&pin(&mut map, range(1, 63)?, false)?), (-62, -2));
        assert_eq!(sums(&pin(&mut map, range(0, 64)?, false)?), (-2, -2));
        Ok(())
    }

    #[test]
    fn only_what_changes_is_told() -> Result {
        let mut map = AttrMap::new();
        assert!(pin(&mut map, range(0, 9)?, false)?.is_none());
        let change = pin(&mut map, range(4, 6)?, true)?;
        assert_eq!(&change.parts[..], &[range(4, 6)?]);
        assert!(pin(&mut map, range(4, 6)?, true)?.is_none());
        let exec = Attr::new(AttrKind::Exec as u32, 1, |_| true, |_| Ok(()))?;
        map.advise(range(7, 8)?, &[exec], false)?;
        let change = pin(&mut map, range(0, 9)?, true)?;
        assert_eq!(&change.parts[..], &[range(0, 4)?, range(6, 9)?]);
        // All of it is one, whatever else was advised.
        let change = pin(&mut map, range(0, 20)?, false)?;
        assert_eq!(&change.parts[..], &[range(0, 9)?]);
        assert_eq!(sums(&change), (-9, -1));
        Ok(())
    }
}
