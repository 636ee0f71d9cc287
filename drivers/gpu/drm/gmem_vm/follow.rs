// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Attributes that follow what the process does with its memory.
//!
//! Attributes hold for addresses, whatever is there. With `AUTO_RESET` they go when the process unmaps or moves
//! what was there; with `FOLLOW` they also hold for what an area grows by, if they held for its end. Neither
//! happens as the process's memory changes, where nothing can be allocated, but when someone next wants to know:
//! everything that reads or sets attributes of a VM [settles](Vm::settle) first.
//!
//! Locks: under the VM lock; takes the lock of the process's memory map and, not inside of that, the table
//! lock.

use crate::{
    attrs::{
        Attr,
        AttrKind,
        AttrMap,
        AttrSet, //
    },
    driver::Driver,
    kapi::{
        area::{
            users,
            MemoryMap, //
        },
        signal::check_killed,
        vec::swap_remove, //
    },
    mirror::Unmapped,
    object::ObjectHandle,
    range::VaRange,
    vm::{
        Space,
        Vm, //
    }, //
};
use kernel::prelude::*;

/// Most places of a VM where attributes follow; others are forgotten.
const MOST: usize = 4096;

/// What has to be known to follow, under the VM lock.
#[derive(Default)]
pub(crate) struct Follow {
    /// To be exchanged for the list of what was unmapped.
    spare: Option<Unmapped>,
    /// Device addresses where an area ended when attributes were set up to there that shall follow.
    ends: KVVec<u64>,
}

impl<D: Driver> Space<D> {
    /// Address in the process of what a device address mirrors.
    fn mirrored(&self, va: u64) -> Option<u64> {
        let entry = self.mappings.get(va)?;
        match entry.value.object {
            Some(ObjectHandle::Mirror) => Some(entry.value.offset + (va - entry.range.start())),
            _ => None,
        }
    }

    /// What of a range is mirrored, at one distance or at any, and from which address of the process on. `ENOMEM`.
    fn mirrors(&self, range: VaRange, distance: Option<u64>) -> Result<KVVec<(VaRange, u64)>> {
        let mut found = KVVec::new();
        for entry in self.mappings.overlaps(range) {
            let Some(ObjectHandle::Mirror) = entry.value.object else {
                continue;
            };
            let cpu = entry.value.offset;
            let Some(part) = entry.range.intersect(&range) else {
                continue;
            };
            let here = entry.range.start().wrapping_sub(cpu);
            if distance.is_none_or(|distance| distance == here) {
                let cpu = cpu + (part.start() - entry.range.start());
                found.push((part, cpu), GFP_KERNEL)?;
            }
        }
        Ok(found)
    }

    /// Resets the attributes in a range that go when memory does.
    fn reset(&mut self, vm: &Vm<D>, range: VaRange) -> Result {
        let mut rest = Some(range);
        while let Some(left) = rest {
            let (set, part) = self.attrs.get(left);
            if set.get(AttrKind::AutoReset) != 0 {
                let change = vm.change_pinned(
                    self,
                    part,
                    |_| AttrSet::DEFAULT,
                    |map| map.advise(part, &[], true),
                )?;
                if !change.is_none() {
                    // The memory is not there any more.
                    vm.limit_pinned();
                }
            }
            rest = VaRange::from_bounds(part.end(), range.end());
        }
        Ok(())
    }
}

impl<D: Driver> Vm<D> {
    /// Lets the attributes follow all that the process has done so far.
    ///
    /// `ENOMEM`: not all of it was done; it will be the next time.
    pub(crate) fn settle(&self, space: &mut Space<D>) -> Result {
        if space.follow.spare.is_some() {
            self.reset_unmapped(space)?;
        }
        if !space.follow.ends.is_empty() {
            self.follow_grown(space)?;
        }
        Ok(())
    }

    /// Takes note of what was advised for a range, which has just been set.
    pub(crate) fn remember(&self, space: &mut Space<D>, range: VaRange) -> Result {
        let (mut follows, mut resets) = (false, false);
        let mut rest = Some(range);
        while let Some(left) = rest {
            let (set, part) = space.attrs.get(left);
            follows |= set.get(AttrKind::Follow) != 0;
            resets |= set.get(AttrKind::AutoReset) != 0;
            rest = VaRange::from_bounds(part.end(), range.end());
        }
        if resets && space.follow.spare.is_none() {
            self.watch_unmapped()?;
            space.follow.spare = Some(Unmapped::new()?);
        }
        if follows && space.follow.ends.len() < MOST {
            // Of what was set the end alone can grow: what lies before it is followed by something.
            let end = range.end();
            let cpu = space.mirrored(end - 1);
            let is_end = |cpu: u64| self.area_end(cpu).map(|found| found == Some(cpu + 1));
            if cpu.map_or(Ok(false), is_end)? && !space.follow.ends.contains(&end) {
                space.follow.ends.push(end, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// End of the area that has an address of the process.
    fn area_end(&self, cpu: u64) -> Result<Option<u64>> {
        let Some(subscription) = self.subscription() else {
            return Ok(None);
        };
        let Some(users) = users(subscription.mm()) else {
            return Ok(None);
        };
        let map = MemoryMap::lock(&users);
        let area = map.next_area(cpu as usize);
        Ok(area
            .filter(|area| area.start() as u64 <= cpu)
            .map(|area| area.end() as u64))
    }

    fn reset_unmapped(&self, space: &mut Space<D>) -> Result {
        let Some(mut list) = space.follow.spare.take() else {
            return Ok(());
        };
        self.tables.lock().mirrors.take_unmapped(&mut list);
        let result = self.reset_listed(space, &list);
        if result.is_err() {
            self.tables.lock().mirrors.put_unmapped(&list);
        }
        list.clear();
        space.follow.spare = Some(list);
        result
    }

    fn reset_listed(&self, space: &mut Space<D>, list: &Unmapped) -> Result {
        let (ranges, complete) = list.ranges();
        if !complete {
            return self.reset_missing(space);
        }
        for cpu in ranges {
            let mut view = 0;
            loop {
                let found = self.tables.lock().mirrors.device_range(view, cpu);
                let Some((distance, range)) = found else {
                    break;
                };
                if let Some(range) = range {
                    for part in &space.mirrors(range, Some(distance))? {
                        space.reset(self, part.0)?;
                    }
                }
                view += 1;
            }
        }
        Ok(())
    }

    /// Too much was unmapped to be listed: resets where nothing is.
    fn reset_missing(&self, space: &mut Space<D>) -> Result {
        for (range, cpu) in &space.mirrors(Self::range(), None)? {
            let (mut at, end) = (*cpu, *cpu + range.size());
            while at < end {
                check_killed()?;
                let (used, size) = match self.next_used(at, end - at) {
                    Ok(found) => found.unwrap_or((end, 0)),
                    Err(e) if e == ESRCH => (end, 0),
                    Err(e) => return Err(e),
                };
                let start = range.start() + (at - *cpu);
                if let Some(gap) = VaRange::from_bounds(start, start + (used - at)) {
                    space.reset(self, gap)?;
                }
                at = used + size;
            }
        }
        Ok(())
    }

    /// Gives a range the attributes of what lies before it, up to where something was advised already; returns where that
    /// is. What can't be charged is not pinned.
    fn grow(&self, space: &mut Space<D>, range: VaRange, set: AttrSet) -> Result<u64> {
        let part = match space.attrs.get(range) {
            (AttrSet::DEFAULT, part) => part,
            _ => return Ok(range.start()),
        };
        let fill = |map: &mut AttrMap, set| map.fill(part, set).map(drop);
        let grown = self.change_pinned(space, part, |_| set, |map| fill(map, set));
        if grown.is_err() {
            // Whether that was it or not.
            fill(&mut space.attrs, set.with(Attr::NOT_PINNED))?;
        }
        Ok(part.end())
    }

    fn follow_grown(&self, space: &mut Space<D>) -> Result {
        let mut i = 0;
        while let Some(&end) = space.follow.ends.get(i) {
            let set = space.attrs.at(end - 1);
            let cpu = space.mirrored(end - 1);
            let Some(cpu) = cpu.filter(|_| set.get(AttrKind::Follow) != 0) else {
                swap_remove(&mut space.follow.ends, i);
                continue;
            };
            if let Some(grown) = self.area_end(cpu)?.filter(|&area| area > cpu + 1) {
                let mapping = space.mappings.get(end - 1).map(|entry| entry.range);
                let behind = VaRange::from_bounds(end, end + (grown - (cpu + 1)))
                    .and_then(|range| range.intersect(&mapping?));
                if let Some(range) = behind {
                    space.follow.ends[i] = self.grow(space, range, set)?;
                }
            }
            i += 1;
        }
        Ok(())
    }
}
