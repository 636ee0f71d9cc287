// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a VM shows of a process's memory, and what of that the device has mapped.
//!
//! [`Mirrors`] is the book of it, in extents: which device addresses mirror which addresses of the process, and for
//! those that are in the device's page table, where the memory is. It follows the page table and so
//! lives under the table lock, where nothing is allocated: nodes for its maps are brought along
//! ([`Stock`](crate::range_map::Stock)), and where none are left, more is forgotten than had to be, which the device faults in again.
//!
//! [`Watcher`] is told of all changes of the process's memory before they happen, and takes what they concern out
//! of the page table, to the page. It starts the device's invalidation in the notifier's first pass, and waits
//! for it in the second.

use crate::{
    attach::MAX_VIEWS,
    driver::{
        Access,
        Driver, //
    },
    evict::VmCounts,
    hold::Holds,
    kapi::{
        dma::Mapper,
        dma_fence::Fence,
        mmu_notifier::{
            Cause,
            Event,
            Invalidate, //
        },
        trace,
        vec::enlarge, //
    },
    latency::{
        since,
        Phase, //
    },
    object::Location,
    page_table::{
        PageTable,
        PendingFlush, //
    },
    range::VaRange,
    range_map::{
        RangeMap,
        Value, //
    },
    vm::{
        Tables,
        Vm, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Relaxed,
        Arc, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// Changes of the frames for which nodes are kept: cuts that the process makes while no fault is served.
pub(crate) const KEEP_CUTS: usize = 4;
/// Ranges of unmapped memory that are kept apart.
const UNMAPPED: usize = 64;

/// What a range of device addresses mirrors.
#[derive(Clone)]
pub(crate) struct Mirrored<A> {
    /// Address of the first byte in the process.
    pub(crate) cpu: u64,
    /// What the device may do, where the process may.
    pub(crate) access: Access,
    /// The driver's own attributes.
    pub(crate) attrs: A,
}

impl<A: Copy + PartialEq> Value for Mirrored<A> {
    fn advance(&self, bytes: u64) -> Self {
        Self {
            cpu: self.cpu + bytes,
            ..self.clone()
        }
    }

    fn continues(&self, bytes: u64, next: &Self) -> bool {
        self.cpu + bytes == next.cpu && self.access == next.access && self.attrs == next.attrs
    }
}

/// What the device's page table has for a range of mirrored addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    /// Where the first byte is.
    pub(crate) location: Location,
    /// Its address in the process.
    pub(crate) cpu: u64,
    /// The device may write.
    pub(crate) write: bool,
}

impl Frame {
    /// Whether it is in device memory.
    fn is_resident(&self) -> bool {
        matches!(self.location, Location::Device(_))
    }
}

impl Value for Frame {
    fn advance(&self, bytes: u64) -> Self {
        Self {
            location: self.location.advance(bytes),
            cpu: self.cpu + bytes,
            write: self.write,
        }
    }

    fn continues(&self, bytes: u64, next: &Self) -> bool {
        self.advance(bytes) == *next
    }
}

/// Mirrors with the same distance between device and process addresses.
#[derive(Clone, Copy)]
pub(crate) struct View {
    /// Device address minus process address, modulo 2^64.
    distance: u64,
    /// Addresses of the process that are mirrored at that distance, and what lies between.
    cpu: VaRange,
}

impl View {
    /// The device addresses for a range of the process, as far as they can be mirrored.
    fn device(&self, cpu: &VaRange) -> Option<VaRange> {
        let cpu = cpu.intersect(&self.cpu)?;
        let start = cpu.start().wrapping_add(self.distance);
        VaRange::new(start, cpu.size()).ok()
    }
}

/// Counts of a VM; see `struct drm_gmem_vm_stats`.
#[derive(Clone, Copy, Zeroable)]
pub(crate) struct Counts {
    pub(crate) faults: u64,
    pub(crate) merged: u64,
    pub(crate) bad: u64,
    pub(crate) retries: u64,
    pub(crate) invalidations: u64,
    pub(crate) to_device: u64,
    pub(crate) made: u64,
    pub(crate) stayed: u64,
}

impl Counts {
    const NONE: Self = pin_init::zeroed();
}

/// Parts of the process's memory that were unmapped, since someone asked.
#[derive(Default)]
pub(crate) struct Unmapped(KVec<VaRange>);

impl Unmapped {
    /// Makes room, so that nothing need be allocated when memory is unmapped. `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(KVec::with_capacity(UNMAPPED, GFP_KERNEL)?))
    }

    fn push(&mut self, range: VaRange) {
        if let Some(last) = self.0.last_mut() {
            if last.end() == range.start() || range.end() == last.start() {
                *last = last.hull(&range);
                return;
            }
        }
        let _ = self.0.push_within_capacity(range);
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// All that was unmapped, and whether that is all.
    pub(crate) fn ranges(&self) -> (&[VaRange], bool) {
        (&self.0, self.0.len() < self.0.capacity())
    }
}

/// The book of a VM's mirrors, under its table lock.
pub(crate) struct Mirrors<A> {
    /// What is mirrored, by device address.
    pub(crate) ranges: RangeMap<Mirrored<A>>,
    /// What of that the page table has, by device address.
    pub(crate) frames: RangeMap<Frame>,
    views: KVec<View>,
    /// With so many views it is time to look which are still there.
    pub(crate) sweep_at: usize,
    /// Changes of `ranges` that were queued and not done.
    pub(crate) promised: usize,
    /// Counts changes of what was advised.
    pub(crate) advised: u64,
    /// What jobs need that can't fault.
    pub(crate) holds: Holds,
    /// Who has taken frames out and waits for the device.
    pub(crate) flushing: usize,
    /// No more frames may come.
    pub(crate) closed: bool,
    /// Bytes in `frames`.
    pub(crate) mapped: u64,
    /// Those of them that are in device memory.
    pub(crate) resident: u64,
    pub(crate) counts: Counts,
    /// What the evictor had done when it forgot the VM.
    pub(crate) evicted: VmCounts,
    /// Only if someone wants to know.
    pub(crate) unmapped: Option<Unmapped>,
}

impl<A: Copy + PartialEq> Mirrors<A> {
    pub(crate) const fn new() -> Self {
        Self {
            ranges: RangeMap::new(),
            frames: RangeMap::new(),
            views: KVec::new(),
            sweep_at: 16,
            promised: 0,
            advised: 0,
            holds: Holds::new(),
            flushing: 0,
            closed: false,
            mapped: 0,
            resident: 0,
            counts: Counts::NONE,
            evicted: pin_init::zeroed(),
            unmapped: None,
        }
    }

    /// Host memory for keeping book, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.ranges.bytes() + self.frames.bytes() + self.views.capacity() * size_of::<View>()
    }

    /// Takes note that some of the process's memory may be mirrored at some device addresses. `false` if there is
    /// no room: bring more. `ENOSPC` if there are [`MAX_VIEWS`].
    pub(crate) fn add_view(
        &mut self,
        va: u64,
        cpu: VaRange,
        room: &mut KVec<View>,
    ) -> Result<bool> {
        let distance = va.wrapping_sub(cpu.start());
        if let Some(view) = self.views.iter_mut().find(|view| view.distance == distance) {
            view.cpu = view.cpu.hull(&cpu);
            return Ok(true);
        }
        if self.views.len() >= MAX_VIEWS {
            return Err(ENOSPC);
        }
        enlarge(&mut self.views, room);
        let view = View { distance, cpu };
        Ok(self.views.push_within_capacity(view).is_ok())
    }

    pub(crate) fn views(&self) -> usize {
        self.views.len()
    }

    /// Forgets views of which nothing is mirrored any more.
    pub(crate) fn sweep_views(&mut self) {
        let Self { views, ranges, .. } = self;
        views.retain(|view| {
            let Some(device) = view.device(&view.cpu) else {
                return false;
            };
            let of = |range: &VaRange, cpu: u64| range.start().wrapping_sub(cpu) == view.distance;
            ranges.overlaps(device).any(|e| of(&e.range, e.value.cpu))
        });
        self.sweep_at = (2 * self.views.len()).clamp(16, MAX_VIEWS);
    }

    /// Exchanges the list of what was unmapped for an empty one.
    pub(crate) fn take_unmapped(&mut self, empty: &mut Unmapped) {
        if let Some(list) = &mut self.unmapped {
            core::mem::swap(list, empty);
        }
    }

    /// Puts a list back that was taken.
    pub(crate) fn put_unmapped(&mut self, taken: &Unmapped) {
        if let Some(list) = &mut self.unmapped {
            for range in &taken.0 {
                list.push(*range);
            }
        }
    }

    /// The device addresses of a range of the process in one view, if there are any, and the distance; `None` behind
    /// the last view.
    pub(crate) fn device_range(
        &self,
        view: usize,
        cpu: &VaRange,
    ) -> Option<(u64, Option<VaRange>)> {
        let view = self.views.get(view)?;
        Some((view.distance, view.device(cpu)))
    }

    /// Lets a trace tell what the page table of a VM has.
    pub(crate) fn trace(&self, vm: u64) {
        trace::resident(vm, self.resident, self.mapped);
    }

    /// Takes note of what the page table has for a range; `is_new`: it had nothing there.
    pub(crate) fn set_frame(&mut self, range: VaRange, frame: Frame, is_new: bool) {
        if !is_new {
            self.discount(range);
        }
        self.mapped += range.size();
        if frame.is_resident() {
            self.resident += range.size();
        }
        self.frames.set(range, frame, |_| ());
    }

    /// Counts what the page table has for a range no more.
    fn discount(&mut self, range: VaRange) {
        for entry in self.frames.overlaps(range) {
            let size = entry.range.intersect(&range).map_or(0, |part| part.size());
            self.mapped -= size;
            if entry.value.is_resident() {
                self.resident -= size;
            }
        }
    }

    /// Forgets what the page table had for a range.
    fn clear_frames(&mut self, range: VaRange) {
        self.discount(range);
        self.frames.clear(range, |_| ());
    }

    /// Whether the page table has an address, for reading or also for writing.
    pub(crate) fn has(&self, va: u64, write: bool) -> bool {
        self.frames.get(va).is_some_and(|e| e.value.write || !write)
    }
}

/// Gives the DMA addresses of a range back.
fn unmap(mapper: &Mapper, frames: &RangeMap<Frame>, range: VaRange) {
    // Of a device that is unbound all was given back.
    let Some(bus) = mapper.bus() else {
        return;
    };
    for entry in frames.overlaps(range) {
        let (Location::Host(address), Some(part)) =
            (entry.value.location, entry.range.intersect(&range))
        else {
            continue;
        };
        let skip = part.start() - entry.range.start();
        for offset in (0..part.size()).step_by(PAGE_SIZE) {
            bus.unmap(address + skip + offset, PAGE_SIZE);
        }
    }
}

type Prepared<D> = <<D as Driver>::PageTable as PageTable>::Prepared;

impl<D: Driver> Tables<D> {
    /// Takes what lies in a range of device addresses, and `fits`, out of the page table; `hull` grows to what must
    /// be flushed with `prepared`.
    ///
    /// Where addresses have to be given back, that has been done, and waited for, when this returns.
    pub(crate) fn zap(
        &mut self,
        mapper: Option<&Mapper>,
        range: VaRange,
        fits: impl Fn(&VaRange, &Frame) -> bool,
        prepared: &mut Prepared<D>,
        hull: &mut Option<VaRange>,
    ) -> Result {
        let Some(mapper) = mapper.filter(|mapper| mapper.needs_unmap()) else {
            self.zap_parts(range, fits, prepared, hull);
            return Ok(());
        };
        // As a whole, so that nothing is zapped beside them: each page has an address of its own.
        let mut zapped = None;
        let mut token = Prepared::<D>::default();
        for entry in self.mirrors.frames.overlaps(range) {
            if fits(&entry.range, entry.value) {
                let gone = self.page_table.zap(&mut token, entry.range);
                zapped = Some(gone.hull_with(zapped));
            }
        }
        let Some(zapped) = zapped else {
            return Ok(());
        };
        *hull = Some(zapped.hull_with(*hull));
        let (flushed, garbage) = self.page_table.flush(token, zapped, None).wait();
        // Nothing was prepared, so nothing is freed here.
        drop(garbage);
        let mut rest = Some(range);
        while let Some(left) = rest {
            let Some((whole, fit)) = self
                .mirrors
                .frames
                .first_overlap(&left)
                .map(|e| (e.range, fits(&e.range, e.value)))
            else {
                break;
            };
            rest = VaRange::from_bounds(whole.end(), range.end());
            if fit {
                unmap(mapper, &self.mirrors.frames, whole);
                self.mirrors.clear_frames(whole);
            }
        }
        flushed
    }

    /// As [`zap`](Self::zap), where no addresses have to be given back.
    fn zap_parts(
        &mut self,
        range: VaRange,
        fits: impl Fn(&VaRange, &Frame) -> bool,
        prepared: &mut Prepared<D>,
        hull: &mut Option<VaRange>,
    ) {
        let mut rest = Some(range);
        while let Some(left) = rest {
            let frames = &self.mirrors.frames;
            let can_cut = frames.lacks(1) == 0;
            let mut found = frames.overlaps(left).map(|e| {
                let whole = e.range;
                let part = if can_cut {
                    whole.intersect(&left)
                } else {
                    Some(whole)
                };
                let part = part.filter(|_| fits(&whole, e.value));
                let resident = part.filter(|_| e.value.is_resident());
                (whole, part, resident.map_or(0, |part| part.size()))
            });
            let Some((whole, part, mut resident)) = found.next() else {
                break;
            };
            rest = VaRange::from_bounds(whole.end(), range.end());
            let Some(mut part) = part else {
                continue;
            };
            // All that lie in a row go at once.
            for (whole, next, more) in found {
                let Some(next) = next.filter(|next| next.start() == part.end()) else {
                    break;
                };
                part = part.hull(&next);
                resident += more;
                rest = VaRange::from_bounds(whole.end(), range.end());
            }
            let gone = self.page_table.zap(prepared, part);
            *hull = Some(gone.hull_with(*hull));
            if gone == part {
                self.mirrors.mapped -= gone.size();
                self.mirrors.resident -= resident;
                self.mirrors.frames.clear(gone, |_| ());
            } else {
                self.mirrors.clear_frames(gone);
            }
        }
    }
}

impl<D: Driver> Vm<D> {
    /// Takes what is mirrored in a range of device addresses out of the page table, so that it comes back as it is
    /// advised by then. Waits for jobs that can't do without.
    ///
    /// Process context, sleeps; no locks may be held.
    pub(crate) fn forget(&self, range: VaRange) {
        // Who has read the advice before, and has not opened a window yet, finds out by this.
        self.tables.lock().mirrors.advised += 1;
        let mut rest = Some(range);
        while let Some(left) = rest {
            let Some(found) = self.next_mirrored(&left) else {
                return;
            };
            let Some(part) = found.range.intersect(&left) else {
                return;
            };
            rest = VaRange::from_bounds(part.end(), range.end());
            let Ok(cpu) = VaRange::new(found.cpu(part.start()), part.size()) else {
                return;
            };
            // No new ones come meanwhile, so this ends.
            self.tables.lock().mirrors.holds.begin_change();
            self.wait_for_jobs(&cpu);
            let taken = self.invalidate(cpu, trace::Cause::Advice);
            self.tables.lock().mirrors.holds.end_change();
            if let Some(taken) = taken {
                self.finish_invalidate(taken);
            }
        }
    }

    /// The fence of a job that needs a range of the process, if there is one. Jobs that are not there yet must begin
    /// anew.
    fn announce(&self, cpu: &VaRange) -> Option<ARef<Fence>> {
        self.tables.lock().mirrors.holds.changes(cpu)
    }

    /// Waits for all jobs that need a range of the process. The driver bounds each.
    fn wait_for_jobs(&self, cpu: &VaRange) {
        while let Some(fence) = self.announce(cpu) {
            let _ = fence.wait(false, None);
        }
    }

    /// Waits until the device has forgotten what was taken out, counted as `flushing`.
    pub(crate) fn finish_flush(&self, flush: <D::PageTable as PageTable>::Flush) -> Result {
        let latency = self.device.latency();
        let (flushed, garbage) = latency.time(Phase::Flush, || flush.wait());
        self.tables.lock().mirrors.flushing -= 1;
        // Nothing was prepared, so nothing is freed here.
        drop(garbage);
        flushed
    }

    fn finish_invalidate(&self, taken: Taken<<D::PageTable as PageTable>::Flush>) {
        if self.finish_flush(taken.flush).is_err() {
            self.failed.store(true, Relaxed);
        }
        if let Some(began) = taken.began {
            self.device.latency().add(Phase::Invalidate, since(began));
        }
    }

    /// Takes part of the process's memory out of the page table; returns what has to be waited for.
    fn invalidate(
        &self,
        cpu: VaRange,
        cause: trace::Cause,
    ) -> Option<Taken<<D::PageTable as PageTable>::Flush>> {
        let began = Instant::now();
        let unmapped = cause == trace::Cause::Unmap;
        let mapper = self.device.mapper();
        let mut prepared = Prepared::<D>::default();
        let (mut hull, mut around) = (None, None::<VaRange>);
        let mut tables = self.tables.lock();
        if let Some(list) = tables.mirrors.unmapped.as_mut().filter(|_| unmapped) {
            list.push(cpu);
        }
        let mapped = tables.mirrors.mapped;
        for i in 0..tables.mirrors.views.len() {
            let view = tables.mirrors.views[i];
            let Some(range) = view.device(&cpu) else {
                continue;
            };
            around = Some(range.hull_with(around));
            let of_view = |range: &VaRange, frame: &Frame| {
                range.start().wrapping_sub(frame.cpu) == view.distance
            };
            let zapped = tables.zap(mapper, range, of_view, &mut prepared, &mut hull);
            if zapped.is_err() {
                self.failed.store(true, Relaxed);
            }
        }
        let took = hull.is_some();
        if took {
            let mirrors = &mut tables.mirrors;
            mirrors.counts.invalidations += 1;
            let (range, bytes) = (cpu.start()..cpu.end(), mapped - mirrors.mapped);
            let left = (mirrors.resident, mirrors.mapped);
            trace::invalidate(self.number, range, bytes, cause, left);
        } else if tables.mirrors.flushing == 0 {
            return None;
        }
        // Nothing is mapped, but someone has just taken it out, and still waits for the device: another callback,
        // an unbind (which may have taken the view away, too), or the end of the mirror.
        let hull = hull.or(around).unwrap_or(Self::range());
        tables.mirrors.flushing += 1;
        Some(Taken {
            flush: tables.page_table.flush(prepared, hull, None),
            began: took.then_some(began),
        })
    }
}

/// What is told of changes of the process's memory.
pub(crate) struct Watcher<D: Driver> {
    pub(crate) vm: Arc<Vm<D>>,
}

/// What was taken out of the page table, and the device may still know.
pub(crate) struct Taken<F> {
    flush: F,
    /// When; not if somebody else has.
    began: Option<Instant<Monotonic>>,
}

/// What has to be waited for before memory may change.
pub(crate) enum Pending<F> {
    /// That the device has forgotten it.
    Flush(Taken<F>),
    /// Jobs that need it; then it is taken out.
    Jobs(VaRange, trace::Cause),
}

impl<D: Driver> Invalidate for Watcher<D> {
    type Pending = Pending<<D::PageTable as PageTable>::Flush>;

    /// But for jobs of a device that can't fault, nothing is waited for but the device, which is bounded; and the
    /// table lock is held over no allocation: so it need not be asked whether it may block.
    fn start(&self, event: &Event<'_>) -> Result<Option<Self::Pending>> {
        let range = event.range();
        let Some(cpu) = VaRange::from_bounds(range.start as u64, range.end as u64) else {
            return Ok(None);
        };
        let cause = match event.cause() {
            Cause::Unmap => trace::Cause::Unmap,
            _ => trace::Cause::Change,
        };
        if self.vm.announce(&cpu).is_some() {
            return if event.is_blockable() {
                Ok(Some(Pending::Jobs(cpu, cause)))
            } else {
                Err(EAGAIN)
            };
        }
        Ok(self.vm.invalidate(cpu, cause).map(Pending::Flush))
    }

    fn finish(&self, pending: Self::Pending) {
        let taken = match pending {
            Pending::Flush(taken) => taken,
            Pending::Jobs(cpu, cause) => {
                self.vm.wait_for_jobs(&cpu);
                match self.vm.invalidate(cpu, cause) {
                    Some(taken) => taken,
                    None => return,
                }
            }
        };
        self.vm.finish_invalidate(taken);
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
