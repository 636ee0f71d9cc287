// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Bringing mirrored memory in before the device faults on it, because someone asks.

use crate::{
    attrs::{
        LOCATION_DEVICE,
        LOCATION_HOST, //
    },
    driver::Driver,
    kapi::{
        area::{
            users,
            MemoryMap, //
        },
        hmm::Buffer,
        migrate::within_huge,
        signal::check_killed,
        trace::Why, //
    },
    populate::{
        Done,
        Goal,
        Order, //
    },
    range::VaRange,
    uapi,
    vm::{
        Attrs,
        Vm, //
    }, //
};
use kernel::prelude::*;

/// How often a block is tried anew.
const TRIES: usize = 8;

/// Where to, by `DRM_GMEM_LOCATION_*`. `None`: as advised. `EINVAL`.
pub(crate) fn goal(location: u64) -> Result<Option<Goal>> {
    match location {
        0 => Ok(None),
        LOCATION_HOST => Ok(Some(Goal::Host)),
        LOCATION_DEVICE => Ok(Some(Goal::Device)),
        _ => Err(EINVAL),
    }
}

impl<D: Driver> Vm<D> {
    /// Brings mirrored memory to where it should be, and into the page table; see `struct
    /// drm_gmem_prefetch`.
    pub(crate) fn prefetch(&self, range: VaRange, goal: Option<Goal>) -> Result<Done> {
        self.bring(range, goal, |_| ())
    }

    /// As [`prefetch`](Self::prefetch), with orders changed as the caller likes.
    pub(crate) fn bring(
        &self,
        range: VaRange,
        goal: Option<Goal>,
        change: impl Fn(&mut Order<Attrs<D>>),
    ) -> Result<Done> {
        self.check()?;
        let mut buffer = Buffer::new();
        // Not what it brings itself.
        let evicts = self.device_time();
        let mut all = Done::default();
        let mut rest = Some(range);
        let mut tries = 0;
        while let Some(left) = rest {
            check_killed()?;
            let Some(found) = self.next_mirrored(&left) else {
                break;
            };
            let part = found.range.intersect(&left).ok_or(EFAULT)?;
            // Where the process has nothing, there is nothing to do, and a great deal of it.
            let Some((cpu, size)) = self.next_used(found.cpu(part.start()), part.size())? else {
                rest = VaRange::from_bounds(part.end(), range.end());
                continue;
            };
            let start = found.range.start() + (cpu - found.mirrored.cpu);
            let block = VaRange::new(start, within_huge(cpu, size))?;
            let advised = self.advised();
            let (advice, block) = self.advice_of(block)?;
            let behind = VaRange::from_bounds(block.end(), range.end());
            let treatment = self.treatment(&advice, &found);
            if treatment.none {
                rest = behind;
                continue;
            }
            let mut order = treatment.order(&found, block, advised)?;
            order.goal = goal.unwrap_or(order.goal);
            order.evicts = evicts;
            order.why = Why::Prefetch;
            change(&mut order);
            let process = self.subscription().ok_or(ESRCH)?;
            match self.populate(&process, &mut buffer, &order) {
                Ok(done) => {
                    all.moved += done.moved;
                    all.mapped += done.mapped;
                    all.blank += done.blank;
                }
                // Other mirrors or other advice than before: look again.
                Err(e) if (e == EAGAIN || e == EBUSY) && tries < TRIES => {
                    tries += 1;
                    continue;
                }
                // Whoever changes it all the time does not need it on the device.
                Err(e) if e == EAGAIN || e == EBUSY => (),
                Err(e) => return Err(e),
            }
            tries = 0;
            rest = behind;
        }
        Ok(all)
    }

    /// The next part of a range of the process's addresses that has an area: address and bytes.
    pub(crate) fn next_used(&self, cpu: u64, size: u64) -> Result<Option<(u64, u64)>> {
        let subscription = self.subscription().ok_or(ESRCH)?;
        let users = users(subscription.mm()).ok_or(ESRCH)?;
        let map = MemoryMap::lock(&users);
        let Some(area) = map.next_area(cpu as usize) else {
            return Ok(None);
        };
        let start = cpu.max(area.start() as u64);
        let end = (cpu + size).min(area.end() as u64);
        Ok(end
            .checked_sub(start)
            .filter(|&s| s > 0)
            .map(|size| (start, size)))
    }

    /// What mirroring has done; see `struct drm_gmem_vm_stats`.
    pub(crate) fn stats(&self, vm_id: u32) -> uapi::VmStats {
        let tables = self.tables.lock();
        let mirrors = &tables.mirrors;
        let counts = mirrors.counts;
        uapi::VmStats {
            vm_id,
            flags: 0,
            faults: counts.faults,
            merged: counts.merged,
            bad: counts.bad,
            retries: counts.retries,
            invalidations: counts.invalidations,
            to_device: counts.to_device,
            made: counts.made,
            stayed: counts.stayed,
            mirrored: mirrors.mapped,
            extents: mirrors.frames.len() as u64,
            bytes: mirrors.bytes() as u64,
        }
    }
}
