// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Attaching a VM to a process, whose memory it mirrors from then on.
//!
//! A VM is attached by the first bind of a mirror, for good. Until then neither it nor its device pays for
//! mirrors: the notifier, DMA addresses and the pages of device memory are made as they are needed.
//!
//! Locks: `attachment` of a VM, a mutex, outside of the process's memory map lock; `mirroring` of the device, a
//! mutex, inside of it.

use crate::{
    bind::BindOp,
    device::Device,
    device_pages::{
        Pages,
        Pool, //
    },
    driver::{
        Driver,
        Faults, //
    },
    kapi::{
        area::task_size,
        device_private::DevicePages,
        dma::Mapper,
        mmu_notifier::Subscription,
        signal::check_killed,
        trace, //
    },
    latency::Phase,
    memory::MemoryBlock,
    mirror::{
        Unmapped,
        Watcher, //
    },
    module_parameters,
    object::ObjectHandle,
    page_table::PageTable,
    range::VaRange,
    vm::{
        Attachment,
        Vm, //
    }, //
};
use kernel::{
    device,
    drm,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Relaxed,
        Arc, //
    }, //
};

/// The process that a VM mirrors.
pub(crate) type Process<D> = Arc<Subscription<Watcher<D>>>;

/// Part of a device's memory, one in so many, that is free if it is not short.
const SPARE: u64 = 8;

/// Most distances between a device address and what it mirrors in a VM: each is looked at whenever the process's memory
/// changes.
pub const MAX_VIEWS: usize = 1024;

/// What a device needs to mirror.
pub(crate) struct Mirroring<D: Driver> {
    mapper: Mapper,
    /// Its memory, if it has any that pages can be in.
    pages: Option<Arc<Pages<D>>>,
}

impl<D: Driver> Mirroring<D> {
    fn new(device: &drm::Device<D, drm::Registered>) -> Result<Self>
    where
        D::ParentDevice<device::Bound>: AsRef<device::Device<device::Bound>>,
    {
        let parent: &D::ParentDevice<device::Bound> = device.as_ref();
        let pages = match device.memory() {
            Some(memory) if Pool::<D>::fits(memory.size()) => {
                let count = usize::try_from(memory.size())? >> PAGE_SHIFT;
                let name = c"gmem_vm";
                Some(DevicePages::new(count, name, Pool::new(memory.size())?)?)
            }
            _ => None,
        };
        Ok(Self {
            mapper: Mapper::new(parent.as_ref(), module_parameters::unmap.value())?,
            pages,
        })
    }
}

impl<D: Driver> Device<D> {
    /// What gives DMA addresses to memory of processes, once something was mirrored.
    pub(crate) fn mapper(&self) -> Option<&Mapper> {
        self.mirroring.as_ref().map(|m| &m.mapper)
    }

    /// The memory of the device for pages of processes, once something was mirrored.
    pub(crate) fn process_pages(&self) -> Option<&Arc<Pages<D>>> {
        self.mirroring.as_ref()?.pages.as_ref()
    }

    /// Allocates device memory, as [`Memory::alloc`](crate::memory::Memory::alloc); if there is none, memory of processes and
    /// of buffer objects makes room for it.
    ///
    /// Process context, sleeps; the table lock of a VM must not be held. If the lock of a VM is, what that has bound stays.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `EINVAL`, `ENOMEM`; `EINTR` if the process is being killed.
    pub fn alloc_memory(device: &drm::Device<D>, size: u64, visible: bool) -> Result<MemoryBlock> {
        Self::alloc_instead(device, size, visible, u64::MAX, false)
    }

    /// As [`alloc_memory`](Self::alloc_memory); waits also for objects that others use at this moment. No lock may be held.
    pub(crate) fn alloc_patiently(
        device: &drm::Device<D>,
        size: u64,
        visible: bool,
    ) -> Result<MemoryBlock> {
        Self::alloc_instead(device, size, visible, u64::MAX, true)
    }

    /// As [`alloc_memory`](Self::alloc_memory); but what has come to the device last, and is needed with this perhaps, stays.
    pub(crate) fn alloc_settled(
        device: &drm::Device<D>,
        size: u64,
        visible: bool,
    ) -> Result<MemoryBlock> {
        let settled = device.process_pages().map(|pages| pages.owner().settled());
        Self::alloc_instead(device, size, visible, settled.unwrap_or(u64::MAX), false)
    }

    /// Makes some device memory free, for who could not while he held a lock of a VM. `false` if there is none to be had.
    ///
    /// Process context, sleeps.
    pub(crate) fn relieve(device: &drm::Device<D>) -> bool {
        let (Some(memory), Some(pages)) = (device.memory(), device.process_pages()) else {
            return false;
        };
        Pool::give_up(pages, device, memory.size(), u64::MAX, true)
    }

    /// Allocates device memory, for which may go what has come before some time.
    fn alloc_instead(
        device: &drm::Device<D>,
        size: u64,
        visible: bool,
        before: u64,
        patient: bool,
    ) -> Result<MemoryBlock> {
        let memory = device.memory().ok_or(ENOSPC)?;
        let end = memory.end(visible);
        let mut result = memory.alloc(size, visible);
        let Some(pages) = device.process_pages() else {
            return result;
        };
        // Whoever brings memory in at the same time may be faster, but not for ever. What goes may be as small as a page.
        let mut left = 2 * (end / pages.owner().chunk_bytes()) + size / D::CAPS.granule();
        while left > 0 && size <= end && result.as_ref().is_err_and(|e| *e == ENOSPC) {
            check_killed()?;
            let give_up = || Pool::give_up(pages, device, end, before, patient);
            if !device.latency().time(Phase::MakeRoom, give_up) {
                break;
            }
            result = memory.alloc(size, visible);
            left -= 1;
        }
        result
    }

    /// Makes what it takes to evict, which is the same as to mirror, before memory for an object of a size is allocated that may
    /// leave little. Where that fails, what is full is full.
    pub(crate) fn prepare_eviction(device: &drm::Device<D, drm::Registered>, size: u64)
    where
        D::ParentDevice<device::Bound>: AsRef<device::Device<device::Bound>>,
    {
        let Some(memory) = device.memory() else {
            return;
        };
        let is_short = memory.free() < size.saturating_add(memory.size() / SPARE);
        let can_evict = D::CAPS.granule() == PAGE_SIZE as u64;
        if is_short && can_evict && Self::prepare_mirroring(device).is_err() {
            dev_dbg!(device.as_ref(), "nothing can be evicted\n");
        }
    }

    /// Makes what it takes to mirror, once.
    fn prepare_mirroring(device: &drm::Device<D, drm::Registered>) -> Result
    where
        D::ParentDevice<device::Bound>: AsRef<device::Device<device::Bound>>,
    {
        let closed = device.mirroring_closed.lock();
        if *closed {
            return Err(ENODEV);
        }
        if device.mirroring.as_ref().is_none() {
            device.mirroring.populate(Mirroring::new(device)?);
        }
        Ok(())
    }

    /// Ends all mirrors, and brings what processes have in the device's memory back to the host.
    fn close_mirrors(device: &drm::Device<D>) {
        *device.mirroring_closed.lock() = true;
        let mut vms = KVec::new();
        for (_, vm) in device.vms().lock().iter() {
            // A VM that is left out ends with its file; it is only that nothing is said to the device then.
            let _ = vms.push(vm.clone(), GFP_KERNEL);
        }
        for vm in &vms {
            vm.unmirror();
        }
        Self::revoke_objects(device);
        if let Some(pages) = device.process_pages() {
            Pool::close(pages, device);
        }
    }
}

/// Ends all mirrors of a device when dropped, and brings back to the host what processes have in its memory; for a
/// driver to drop while the device still works, after no more ioctls come.
pub struct MirrorGuard<D: Driver>(ARef<drm::Device<D>>);

impl<D: Driver> MirrorGuard<D> {
    /// For a device.
    pub fn new(device: &drm::Device<D>) -> Self {
        Self(device.into())
    }
}

impl<D: Driver> Drop for MirrorGuard<D> {
    fn drop(&mut self) {
        Device::close_mirrors(&self.0);
    }
}

/// What a batch binds of the process's memory: device addresses, and the first address in the process.
fn mirrors<D: Driver>(ops: &[BindOp<D>]) -> impl Iterator<Item = (VaRange, u64)> + '_ {
    ops.iter().filter_map(|op| match op {
        BindOp::Map(mapping) => match mapping.backing.object {
            Some(ObjectHandle::Mirror) => Some((mapping.range, mapping.backing.offset)),
            _ => None,
        },
        BindOp::Unmap(_) => None,
    })
}

impl<D: Driver> Vm<D> {
    /// The subscription to the process's memory.
    pub(crate) fn subscription(&self) -> Option<Process<D>> {
        match &*self.attachment.lock() {
            Attachment::Process(subscription) => Some(subscription.clone()),
            _ => None,
        }
    }

    /// Attaches the VM to the calling process, if some of the operations bind a mirror.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`: the device's pages are larger than the CPU's; `EXDEV`: it is attached to another process;
    /// `ESRCH`: the process is exiting; `ERANGE`: not an address of a process; `ENODEV`, `ENOMEM`.
    pub(crate) fn attach(
        self: &Arc<Self>,
        device: &drm::Device<D, drm::Registered>,
        ops: &[BindOp<D>],
    ) -> Result
    where
        D::ParentDevice<device::Bound>: AsRef<device::Device<device::Bound>>,
    {
        if mirrors(ops).next().is_none() {
            return Ok(());
        }
        if D::CAPS.granule() != PAGE_SIZE as u64 {
            return Err(EOPNOTSUPP);
        }
        let task = kernel::current!();
        let mm = task.mm().ok_or(ESRCH)?;
        let limit = task_size(mm) as u64;
        let ends = |(range, cpu): (VaRange, u64)| cpu.checked_add(range.size());
        if mirrors(ops)
            .map(ends)
            .any(|end| end.is_none_or(|end| end > limit))
        {
            return Err(ERANGE);
        }
        Device::prepare_mirroring(device)?;
        {
            let mut attachment = self.attachment.lock();
            match &*attachment {
                Attachment::Closed => return Err(ENOENT),
                Attachment::Process(subscription) => {
                    if subscription.mm().as_raw() != mm.as_raw() {
                        return Err(EXDEV);
                    }
                }
                Attachment::None => {
                    let watcher = Watcher { vm: self.clone() };
                    let all = 0..usize::MAX & !(PAGE_SIZE - 1);
                    if let Some(pages) = self.device.process_pages() {
                        let process = mm.as_raw().addr();
                        let evictor = &mut pages.owner().state().evictor;
                        evictor.remember(self.number(), process)?;
                    }
                    *attachment = Attachment::Process(Subscription::new(mm, all, watcher)?);
                    trace::attach(self.number);
                }
            }
        }
        Ok(())
    }

    /// Lets callbacks find what a batch is about to mirror. With the VM lock held until the batch counts as
    /// planned, so that nobody takes these views, of which nothing is mirrored yet, for old ones. `ENOMEM`; `ENOSPC`
    /// if there are [`MAX_VIEWS`].
    pub(crate) fn add_views(&self, ops: &[BindOp<D>]) -> Result {
        if mirrors(ops).next().is_none() {
            return Ok(());
        }
        {
            // What was queued before has been done, so what is mirrored is all there is; but for this batch.
            let mut tables = self.tables.lock();
            if tables.planned == 0 && tables.mirrors.views() >= tables.mirrors.sweep_at {
                tables.mirrors.sweep_views();
            }
        }
        for (range, cpu) in mirrors(ops) {
            self.add_view(range.start(), VaRange::new(cpu, range.size())?)?;
        }
        Ok(())
    }

    fn add_view(&self, va: u64, cpu: VaRange) -> Result {
        let mut room = KVec::new();
        loop {
            let wanted = {
                let mut tables = self.tables.lock();
                if tables.mirrors.add_view(va, cpu, &mut room)? {
                    return Ok(());
                }
                2 * tables.mirrors.views().max(2)
            };
            room = KVec::with_capacity(wanted, GFP_KERNEL)?;
        }
    }

    /// Starts to take note of what the process unmaps. `ENOMEM`.
    pub(crate) fn watch_unmapped(&self) -> Result {
        let list = Unmapped::new()?;
        let mut tables = self.tables.lock();
        if tables.mirrors.unmapped.is_none() {
            tables.mirrors.unmapped = Some(list);
        }
        Ok(())
    }

    /// Ends the mirroring of the process, for good. What is in the page table of it is taken out, and faults are
    /// answered.
    pub(crate) fn unmirror(&self) {
        let was = core::mem::replace(&mut *self.attachment.lock(), Attachment::Closed);
        self.end_faults();
        let Attachment::Process(subscription) = was else {
            return;
        };
        let mapper = self.device.mapper();
        let mut prepared = <D::PageTable as PageTable>::Prepared::default();
        let mut hull = None;
        let flush = {
            let mut tables = self.tables.lock();
            tables.mirrors.closed = true;
            let all = |_: &VaRange, _: &_| true;
            let zapped = tables.zap(mapper, Self::range(), all, &mut prepared, &mut hull);
            if zapped.is_err() {
                self.failed.store(true, Relaxed);
            }
            // Until the device has confirmed, callbacks that find nothing any more have to wait as well.
            tables.mirrors.flushing += usize::from(hull.is_some());
            if hull.is_some() {
                tables.mirrors.trace(self.number);
            }
            hull.map(|hull| tables.page_table.flush(prepared, hull, None))
        };
        if let Some(flush) = flush {
            if self.finish_flush(flush).is_err() {
                pr_debug!("gmem_vm: the device did not confirm the end of a mirror\n");
            }
        }
        // Late, as it may wait for callbacks, which take the table lock.
        drop(subscription);
        if let Some(pages) = self.device.process_pages() {
            let known = {
                let mut state = pages.owner().state();
                let known = state.evictor.forget(self.number());
                if let Some(known) = &known {
                    // In the lock, so that they count at any time, and once.
                    self.tables.lock().mirrors.evicted = known.counts;
                }
                known
            };
            // Without the lock.
            drop(known);
        }
    }

    /// Whether device faults are all it takes to bring memory in.
    pub(crate) fn can_fault(&self) -> bool {
        matches!(D::CAPS.faults, Faults::Replayable) && D::can_fault(&self.device)
    }
}
