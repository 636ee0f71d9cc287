// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Copying what a migration has collected, by the device's copy engine.
//!
//! Gives each page a new place and copies all of them as one batch, in runs that are as long as can be. Takes no
//! locks of the framework but those of memory; it is called also as the CPU faults.

use crate::{
    device::Device,
    device_pages::{
        Pages,
        Pool,
        Visit, //
    },
    driver::{
        CopyOp,
        CopySource,
        Driver, //
    },
    kapi::{
        device_private::{
            Claim,
            HostPages,
            LockedFolio, //
        },
        dma::Mapper,
        host_copy::HostCopy,
        migrate::{
            Migration,
            Slot,
            Source, //
        },
        trace, //
    },
    latency::Phase,
    object::Location, //
};
use core::ops::Range;
use kernel::{
    drm,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
};

/// Pages to be copied from one row to another.
#[derive(Clone, Copy)]
struct Run {
    /// First page of the device.
    device: usize,
    /// Page frame number of the first one of the host; none where there is nothing yet.
    host: Option<usize>,
    pages: usize,
}

/// What is to be copied.
#[derive(Default)]
struct Runs(KVVec<Run>);

impl Runs {
    /// Pages of all of them.
    fn pages(&self) -> usize {
        self.0.iter().map(|run| run.pages).sum()
    }

    fn push(&mut self, device: usize, host: Option<usize>, pages: usize) -> Result {
        if let Some(last) = self.0.last_mut() {
            let continues = match (last.host, host) {
                (Some(a), Some(b)) => a + last.pages == b,
                (None, None) => true,
                _ => false,
            };
            if continues && last.device + last.pages == device {
                last.pages += pages;
                return Ok(());
            }
        }
        let run = Run {
            device,
            host,
            pages,
        };
        self.0.push(run, GFP_KERNEL)?;
        Ok(())
    }
}

/// Who takes device memory, and what is left of what he took last.
struct Taker<'a, D: Driver> {
    pages: &'a Arc<Pages<D>>,
    claim: Option<Claim<Pool<D>>>,
    visit: &'a mut Visit,
    /// Nobody needs what is in what he brings.
    blank: bool,
    /// Pages that were there and are not copied for that.
    left_out: usize,
}

/// Pages that came back to the host.
pub(crate) struct Back {
    copied: usize,
    /// Not copied, as the host still had what is in them.
    dropped: usize,
}

impl Back {
    /// Lets a trace tell; as [`trace::to_host`].
    pub(crate) fn trace(&self, vm: u64, range: Range<u64>, why: trace::Why) {
        if self.copied + self.dropped > 0 {
            trace::to_host(vm, range, bytes(self.copied), bytes(self.dropped), why);
        }
    }
}

/// How pages get from host to device memory and back.
pub(crate) struct Transfer<'a, D: Driver> {
    device: &'a drm::Device<D>,
    pages: &'a Pages<D>,
    mapper: &'a Mapper,
}

impl<'a, D: Driver> Transfer<'a, D> {
    /// For pages of a device. `ENODEV` if it mirrors nothing.
    pub(crate) fn new(device: &'a drm::Device<D>, pages: &'a Pages<D>) -> Result<Self> {
        Ok(Self {
            device,
            pages,
            mapper: device.mapper().ok_or(ENODEV)?,
        })
    }

    /// Copies, in the direction given.
    fn copy(&self, runs: &Runs, to_device: bool) -> Result {
        if runs.0.is_empty() {
            return Ok(());
        }
        let mut ops = KVVec::with_capacity(runs.0.len(), GFP_KERNEL)?;
        let size = |run: &Run| run.pages << PAGE_SHIFT;
        let mut mapped = Ok(());
        {
            let bus = self.mapper.bus().ok_or(ENODEV)?;
            for run in &runs.0 {
                let local = Location::Device((run.device << PAGE_SHIFT) as u64);
                let host = match run
                    .host
                    .map(|pfn| bus.map((pfn << PAGE_SHIFT) as u64, size(run)))
                {
                    Some(Ok(address)) => Some(Location::Host(address)),
                    Some(Err(e)) => {
                        mapped = Err(e);
                        break;
                    }
                    None => None,
                };
                let (source, destination) = match (host, to_device) {
                    (Some(host), true) => (CopySource::At(host), local),
                    (Some(host), false) => (CopySource::At(local), host),
                    (None, _) => (CopySource::Fill(0), local),
                };
                let op = CopyOp {
                    source,
                    destination,
                    size: size(run) as u64,
                };
                // There is room for all.
                let _ = ops.push_within_capacity(op);
            }
        }
        let latency = self.device.latency();
        let copy = || latency.time(Phase::Copy, || Device::copy(self.device, &ops));
        let copied = mapped.and_then(|()| copy());
        if let Some(bus) = self.mapper.bus().filter(|_| self.mapper.needs_unmap()) {
            for op in &ops {
                let source = match op.source {
                    CopySource::At(location) => location,
                    CopySource::Fill(_) => Location::Sparse,
                };
                for location in [source, op.destination] {
                    if let Location::Host(address) = location {
                        bus.unmap(address, op.size as usize);
                    }
                }
            }
        }
        copied
    }

    /// Gives all that was collected host memory and copies it there, unless the host still has it, or nobody needs it.
    /// With `lost`, what the device does not copy any more becomes zero. Returns what came, if all is committed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EIO`, `ENODEV`: the device did not copy.
    pub(crate) fn to_host(&self, migration: &mut Migration<'_>, lost: bool) -> Result<Back> {
        let mut runs = Runs::default();
        let (node, zeroed) = (self.pages.node(), lost);
        let (mut fresh, mut blank) = (HostPages::new(), HostPages::new());
        let mut page = 0;
        let (mut dropped, mut spared) = (0, 0);
        let pool = self.pages.owner();
        while let Some(slot) = migration.next(page) {
            page = slot.page + (1 << slot.order);
            if slot.order > 0 {
                // What was collected without a process is not split by the core.
                let must = !migration.splits();
                let is_dead = self.is_dead(&slot);
                match LockedFolio::new(slot.order, node, zeroed || is_dead, must) {
                    Ok(folio) if is_dead => {
                        migration.set(&slot, folio);
                        spared += 1 << slot.order;
                        continue;
                    }
                    Ok(folio) => {
                        self.send_back(migration, &slot, folio, &mut runs)?;
                        continue;
                    }
                    Err(e) if must => return Err(e),
                    Err(_) => (),
                }
            }
            for (i, part) in slot.split().enumerate() {
                let here = (1 << slot.order) - i;
                if self.is_dead(&part) {
                    blank.fill(|| here + self.dead(migration, page), node, true)?;
                    migration.set(&part, blank.take().ok_or(ENOMEM)?);
                    spared += 1;
                    continue;
                }
                let kept = self.index(&part).and_then(|i| pool.copies().take(i));
                if let Some(folio) = kept.and_then(HostCopy::into_folio) {
                    migration.set(&part, folio);
                    dropped += 1;
                    continue;
                }
                fresh.fill(|| here + self.uncopied(migration, page), node, zeroed)?;
                let folio = fresh.take().ok_or(ENOMEM)?;
                self.send_back(migration, &part, folio, &mut runs)?;
            }
        }
        match self.copy(&runs, false) {
            Err(e) if !lost => Err(e),
            _ => {
                let copied = runs.pages();
                pool.count_back(copied, dropped);
                pool.dead().count_spared(spared);
                Ok(Back { copied, dropped })
            }
        }
    }

    /// Which page of the device a slot is.
    fn index(&self, slot: &Slot) -> Option<usize> {
        match slot.source {
            Source::Pages(pfn) => self.pages.index(pfn),
            Source::Nothing => None,
        }
    }

    /// Whether nobody needs what is in a slot.
    fn is_dead(&self, slot: &Slot) -> bool {
        let dead = self.pages.owner().dead();
        let index = self.index(slot);
        index.is_some_and(|index| dead.has_all(index..index + (1 << slot.order)))
    }

    /// How many single pages were collected, from a page on, that are dead.
    fn dead(&self, migration: &Migration<'_>, page: usize) -> usize {
        let dead = self.pages.owner().dead();
        let index = |pfn: usize| self.pages.index(pfn);
        let all = migration.singles(page);
        all.filter(|&pfn| index(pfn).is_some_and(|i| dead.has(i)))
            .count()
    }

    /// How many single pages were collected, from a page on, of which the host has no copy.
    fn uncopied(&self, migration: &Migration<'_>, page: usize) -> usize {
        let copies = self.pages.owner().copies();
        migration
            .singles(page)
            .filter(|&pfn| self.pages.index(pfn).is_none_or(|i| !copies.has(i)))
            .count()
    }

    fn send_back(
        &self,
        migration: &mut Migration<'_>,
        slot: &Slot,
        folio: LockedFolio,
        runs: &mut Runs,
    ) -> Result {
        let Source::Pages(pfn) = slot.source else {
            return Ok(());
        };
        let device = self.pages.index(pfn).ok_or(EINVAL)?;
        runs.push(device, Some(folio.pfn()), 1 << slot.order)?;
        migration.set(slot, folio);
        Ok(())
    }

    /// Gives what was collected device memory, of these pages, and copies it there. What has no pages yet is made if
    /// `make` says so of that page of the range. `visit` is what it comes for. With `blank` nobody needs what is in it: what no
    /// other process has is filled with zeroes, and how many pages that are is returned.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EIO`, `ENODEV`: the device did not copy. Device memory that is full is no error.
    pub(crate) fn to_device(
        &self,
        pages: &Arc<Pages<D>>,
        migration: &mut Migration<'_>,
        make: impl Fn(usize) -> bool,
        visit: &mut Visit,
        blank: bool,
    ) -> Result<usize> {
        let mut runs = Runs::default();
        let mut taker = Taker {
            pages,
            claim: None,
            visit,
            blank,
            left_out: 0,
        };
        let mut page = 0;
        while let Some(slot) = migration.next(page) {
            page = slot.page + (1 << slot.order);
            if slot.order == 0 {
                self.bring(&mut taker, migration, slot, &make, &mut runs)?;
                continue;
            }
            let wanted = slot.source != Source::Nothing || make(slot.page);
            let folio = wanted
                .then(|| Pool::claim_huge(pages, self.device, taker.visit)?.folio(slot.order))
                .flatten();
            match folio {
                Some(folio) => self.place(&mut taker, migration, &slot, folio, &mut runs)?,
                None => {
                    for slot in slot.split() {
                        self.bring(&mut taker, migration, slot, &make, &mut runs)?;
                    }
                }
            }
        }
        self.copy(&runs, true)?;
        Ok(taker.left_out)
    }

    /// Gives one page a place.
    fn bring(
        &self,
        taker: &mut Taker<'_, D>,
        migration: &mut Migration<'_>,
        slot: Slot,
        make: &impl Fn(usize) -> bool,
        runs: &mut Runs,
    ) -> Result {
        if slot.source == Source::Nothing && !make(slot.page) {
            return Ok(());
        }
        if taker.claim.as_ref().is_none_or(|claim| claim.left() == 0) {
            let left = migration.pages() - slot.page;
            taker.claim = Pool::claim(taker.pages, self.device, left, taker.visit);
        }
        match taker.claim.as_mut().and_then(|claim| claim.folio(0)) {
            Some(folio) => self.place(taker, migration, &slot, folio, runs),
            // It is mapped where it is.
            None => Ok(()),
        }
    }

    fn place(
        &self,
        taker: &mut Taker<'_, D>,
        migration: &mut Migration<'_>,
        slot: &Slot,
        folio: LockedFolio,
        runs: &mut Runs,
    ) -> Result {
        let device = self.pages.index(folio.pfn()).ok_or(EINVAL)?;
        let host = match slot.source {
            Source::Nothing => None,
            Source::Pages(_) if taker.blank && slot.write => {
                taker.left_out += 1 << slot.order;
                None
            }
            Source::Pages(pfn) => Some(pfn),
        };
        runs.push(device, host, 1 << slot.order)?;
        migration.set(slot, folio);
        Ok(())
    }
}

/// Bytes of so many pages.
pub(crate) const fn bytes(pages: usize) -> u64 {
    (pages * PAGE_SIZE) as u64
}
