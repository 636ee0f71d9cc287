// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Buffer objects that are mapped in a VM, but of which its page table has nothing.
//!
//! When memory of an object is about to move ([`crate::bo_memory`]) it is taken out of all page tables, and each VM takes note
//! of it: [`Space::absent`]. It comes back when the device touches it, which is a fault, or when a bind is about to
//! change something of it. So a batch that is queued finds the page table as the mapping tree says, and
//! what it concerns stays until it is done. Of an object all mappings in a VM are in the page table, or none.
//!
//! That needs a device that can fault: else nothing that is mapped is taken out.
//!
//! Locks: memory of an object, then the VM lock, then the table lock. The evictor tries all but the last.

use crate::{
    bind::{
        largest,
        runs_of,
        BindOp, //
    },
    bo_memory::{
        BoMemory,
        BoPins, //
    },
    device::Device,
    driver::{
        Driver,
        FaultAccess, //
    },
    kapi::signal::check_killed,
    mapping::Backing,
    object::ObjectHandle,
    page_table::{
        Basis,
        Change,
        PageTable,
        PendingFlush, //
    },
    range::VaRange,
    vm::{
        Attrs,
        Space,
        Vm, //
    }, //
};
use kernel::{
    drm,
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    }, //
};

/// How often room is made for page tables, which others may take.
const TRIES: usize = 16;

/// Takes memory of an object out of all page tables.
///
/// Process context, sleeps; waits for no lock but table locks. `EBUSY` if some VM can't be without, or is in use; what was taken out of
/// others comes back as it is touched. `ENOMEM`.
pub(crate) fn hide<D: Driver>(device: &drm::Device<D>, memory: &Arc<BoMemory<D>>) -> Result {
    each_vm(device, |vm| vm.hide(memory))
}

/// Whether the device is known to have accessed memory of an object since that was last asked. Not every VM can be asked at
/// any moment.
pub(crate) fn was_accessed<D: Driver>(device: &drm::Device<D>, memory: &Arc<BoMemory<D>>) -> bool {
    let mut accessed = false;
    // From a VM that is in use it can't be taken anyway.
    let _ = each_vm(device, |vm| {
        accessed |= vm.has_accessed(memory)?;
        Ok(())
    });
    accessed
}

fn each_vm<D: Driver>(device: &drm::Device<D>, mut f: impl FnMut(&Arc<Vm<D>>) -> Result) -> Result {
    let mut vms = KVec::new();
    {
        let all = device.vms().try_lock().ok_or(EBUSY)?;
        for (_, vm) in all.iter() {
            vms.push(vm.clone(), GFP_KERNEL)?;
        }
    }
    vms.iter().try_for_each(&mut f)
}

/// Whether a mapping shows memory of an object.
fn shows<D: Driver>(
    backing: &Backing<ObjectHandle<D>, Attrs<D>>,
    memory: &Arc<BoMemory<D>>,
) -> bool {
    let of = backing.object.as_ref().and_then(ObjectHandle::memory);
    of.is_some_and(|of| Arc::ptr_eq(of, memory))
}

impl<D: Driver> Space<D> {
    /// The mappings that show memory of an object.
    fn showing<'a>(
        &'a self,
        memory: &'a Arc<BoMemory<D>>,
    ) -> impl Iterator<Item = (VaRange, &'a Backing<ObjectHandle<D>, Attrs<D>>)> + 'a {
        let all = self.mappings.iter();
        all.filter(move |e| shows(e.value, memory))
            .map(|e| (e.range, e.value))
    }

    fn is_absent(&self, memory: &Arc<BoMemory<D>>) -> bool {
        self.absent.iter().any(|other| Arc::ptr_eq(other, memory))
    }

    /// What is absent and concerns a batch.
    fn absent_in(&self, ops: &[BindOp<D>]) -> Option<Arc<BoMemory<D>>> {
        if self.absent.is_empty() {
            return None;
        }
        let absent = |backing: &Backing<ObjectHandle<D>, Attrs<D>>| {
            let memory = backing.object.as_ref().and_then(ObjectHandle::memory)?;
            self.is_absent(memory).then(|| memory.clone())
        };
        ops.iter().find_map(|op| {
            let mapped = match op {
                BindOp::Map(mapping) => absent(&mapping.backing),
                BindOp::Unmap(_) => None,
            };
            let mut there = self.mappings.overlaps(op.range());
            mapped.or_else(|| there.find_map(|entry| absent(entry.value)))
        })
    }
}

impl<D: Driver> Vm<D> {
    /// Takes memory of an object out of the page table.
    fn hide(&self, memory: &Arc<BoMemory<D>>) -> Result {
        let mut space = self.space.try_lock().ok_or(EBUSY)?;
        // A batch that is queued may have taken the last mapping, and the page table still has it; so does that of a VM that
        // ends, whose batches are done by no one.
        if memory.is_held() || space.closed {
            return Err(EBUSY);
        }
        if space.showing(memory).next().is_none() || space.is_absent(memory) {
            return Ok(());
        }
        if !self.can_fault() {
            return Err(EBUSY);
        }
        space.absent.push(memory.clone(), GFP_KERNEL)?;
        let mut prepared = <D::PageTable as PageTable>::Prepared::default();
        let mut hull = None::<VaRange>;
        let flush = {
            let mut tables = self.tables.lock();
            for (range, _) in space.showing(memory) {
                let gone = tables.page_table.zap(&mut prepared, range);
                hull = Some(gone.hull_with(hull));
            }
            hull.map(|hull| tables.page_table.flush(prepared, hull, None))
        };
        // With the VM lock: nothing comes back before the device has confirmed.
        let Some(flush) = flush else {
            return Ok(());
        };
        let (flushed, garbage) = flush.wait();
        drop(garbage);
        if flushed.is_err() {
            // Either way it accesses nothing of it any more.
            self.failed.store(true, Relaxed);
        }
        Ok(())
    }

    /// Whether the device has accessed memory of an object here. `EBUSY`.
    fn has_accessed(&self, memory: &Arc<BoMemory<D>>) -> Result<bool> {
        let space = self.space.try_lock().ok_or(EBUSY)?;
        let mut prepared = <D::PageTable as PageTable>::Prepared::default();
        let mut hull = None::<VaRange>;
        let flush = {
            let mut tables = self.tables.lock();
            for (range, _) in space.showing(memory) {
                if tables.page_table.take_accessed(&mut prepared, range) {
                    hull = Some(range.hull_with(hull));
                }
            }
            hull.map(|hull| tables.page_table.flush(prepared, hull, None))
        };
        let Some(flush) = flush else {
            return Ok(false);
        };
        let (flushed, garbage) = flush.wait();
        drop(garbage);
        if flushed.is_err() {
            self.failed.store(true, Relaxed);
        }
        Ok(true)
    }

    /// Serves a fault at an address where an object is mapped that is absent. `EFAULT` if there is none; else as
    /// [`bring_object`](Self::bring_object).
    pub(crate) fn bring_object_at(&self, va: u64, access: FaultAccess) -> Result {
        let memory = {
            let space = self.space.lock();
            let entry = space.mappings.get(va).ok_or(EFAULT)?;
            let object = entry.value.object.as_ref().ok_or(EFAULT)?;
            let memory = object.memory().ok_or(EFAULT)?;
            if !space.is_absent(memory) {
                // Someone may just have brought it.
                return match self.tables.lock().page_table.permits(va, access) {
                    true => Ok(()),
                    false => Err(EFAULT),
                };
            }
            memory.clone()
        };
        self.bring_object(&memory)
    }

    /// Brings memory of an object back to where the device can use it, and into the page table.
    ///
    /// Process context, sleeps; no locks may be held.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EIO` (the VM is destroyed, or unusable); `ENOMEM`; `ENOSPC` (device memory for page tables); `EINTR`; `EIO`, `ENODEV`:
    /// the device did not copy.
    fn bring_object(&self, memory: &Arc<BoMemory<D>>) -> Result {
        // Until it is in the page table.
        let mut state = memory.lock();
        memory.bring_back(&self.device, &mut state, true)?;
        let mut result = self.show(memory);
        for _ in 0..TRIES {
            // Not with the VM lock, which keeps its objects where they are.
            let is_full = result.is_err_and(|e| e == ENOSPC);
            if !is_full || !Device::relieve(&self.device) {
                break;
            }
            result = self.show(memory);
        }
        result
    }

    /// Puts memory of an object, which is locked, into the page table.
    fn show(&self, memory: &Arc<BoMemory<D>>) -> Result {
        let mut space = self.space.lock();
        self.check_space(&space)?;
        if !space.is_absent(memory) {
            return Ok(());
        }
        let object = memory.object();
        let mut plan = <D::PageTable as PageTable>::Plan::default();
        let mut hull = None::<VaRange>;
        for (range, _) in space.showing(memory) {
            D::PageTable::make_room(&mut plan, range, Change::Map)?;
            hull = Some(range.hull_with(hull));
        }
        let runs = || {
            let all = space.showing(memory);
            all.flat_map(|(range, backing)| runs_of::<D>(range, backing, Some(&object)))
        };
        {
            let mut tables = self.tables.lock();
            tables.planned += 1;
            for run in runs() {
                let around = run.range.align_outward(largest::<D>());
                let mut pending = space.pending.iter();
                let basis = match pending.any(|(ranges, _)| ranges.overlaps(&around)) {
                    true => Basis::Unknown(0),
                    false => Basis::Current,
                };
                tables.page_table.plan_map(&mut plan, &run, basis);
            }
        }
        let prepared = D::prepare_tables(&self.device, plan);
        let flush = {
            let mut tables = self.tables.lock();
            tables.planned -= 1;
            let mut prepared = prepared?;
            for run in runs() {
                tables.page_table.map(&mut prepared, &run);
            }
            // A large page may have taken the place of a table.
            tables.epoch += 1;
            tables
                .page_table
                .flush(prepared, hull.unwrap_or(Self::range()), None)
        };
        let (flushed, garbage) = flush.wait();
        drop(garbage);
        space.absent.retain(|other| !Arc::ptr_eq(other, memory));
        if flushed.is_err() {
            self.failed.store(true, Relaxed);
            return Err(EIO);
        }
        Ok(())
    }

    /// Keeps the objects that a batch maps in their places.
    pub(crate) fn pin_objects(&self, ops: &[BindOp<D>]) -> Result<BoPins<D>> {
        let mut pins = BoPins::new(&self.device);
        for op in ops {
            let BindOp::Map(mapping) = op else {
                continue;
            };
            let object = mapping.backing.object.as_ref();
            if let Some(memory) = object.and_then(ObjectHandle::memory) {
                pins.add(&self.device, memory)?;
            }
        }
        Ok(pins)
    }

    /// Locks the VM, with all in the page table that a batch concerns, which is kept in its place. Errors are those of
    /// [`bring_object`](Self::bring_object).
    pub(crate) fn lock_for(
        &self,
        ops: &[BindOp<D>],
        pins: &mut BoPins<D>,
    ) -> Result<impl core::ops::DerefMut<Target = Space<D>> + '_> {
        loop {
            let absent = {
                let space = self.space.lock();
                match space.absent_in(ops) {
                    Some(memory) => memory,
                    None => return Ok(space),
                }
            };
            check_killed()?;
            pins.add(&self.device, &absent)?;
            self.bring_object(&absent)?;
        }
    }
}
