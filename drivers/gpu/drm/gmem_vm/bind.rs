// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Changing the mappings of a VM: all of a batch or none.
//!
//! [`Vm::bind`] does everything that could fail, for the whole batch, under the VM lock; changes the
//! mapping tree, which cannot fail any more; and hands what has to be done to the page table to a
//! [`BindQueue`], as a [`BindJob`] with a fence. The tree is what will be, the page table follows. Ops
//! of different queues whose ranges have a largest page in common depend on each other's fences, so
//! the page table sees them in the order of the tree.
//!
//! [`BindJob::execute`] is the rest, between the fence and its signal: it writes the page table under
//! the table lock, then waits for one flush, whatever the number of operations. What was unmapped is
//! kept in the job until it is freed, which is after the flush.
//!
//! Objects that a batch maps stay where they are until it is done, and those that it concerns are in the page table
//! before it is queued ([`crate::absent`]).
//!
//! Locks: the VM lock, then the table lock, never the other way; the latter is never held over an
//! allocation.

use crate::{
    bind_queue::{
        BindFence,
        BindQueue, //
    },
    bo_memory::BoPins,
    chain::Link,
    dependencies::Dependencies,
    device::Device,
    driver::{
        Access,
        Driver, //
    },
    kapi::{
        dma::Mapper,
        dma_fence::{
            Fence,
            FenceReservation,
            PendingFence, //
        },
        signal::check_killed,
        trace, //
    },
    mapping::{
        Backing,
        Mapping,
        Needs,
        Removed, //
    },
    mirror::Mirrored,
    object::{
        Location,
        Object,
        ObjectHandle, //
    },
    page_table::{
        Basis,
        Change,
        MapRun,
        PageTable,
        PendingFlush, //
    },
    range::VaRange,
    range_map::Stock,
    range_set::RangeSet,
    sync::Syncs,
    vm::{
        Attachment,
        Attrs,
        Space,
        Tables,
        Vm, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Relaxed,
        Arc, //
    }, //
};

/// How often room is made for the page tables of a batch, which others may take.
const TRIES: usize = 64;

/// Most batches of a VM that are not done.
pub const MAX_PENDING: usize = 4096;

/// What a range of a VM of driver `D` is bound to.
pub type BoBacking<D> = Backing<ObjectHandle<D>, Attrs<D>>;
/// A mapping in a VM of driver `D`.
pub type BoMapping<D> = Mapping<ObjectHandle<D>, Attrs<D>>;

/// One change. Ranges and offsets are multiples of the granule, ranges lie in the address space,
/// and a mapped range lies in its object: the ioctl has checked all this ([`crate::ioctl::bind`]).
pub enum BindOp<D: Driver> {
    /// Map a range of an object, or nothing sparsely, replacing what was there.
    Map(BoMapping<D>),
    /// Unmap a range.
    Unmap(VaRange),
}

impl<D: Driver> BindOp<D> {
    /// All that it changes.
    pub(crate) fn range(&self) -> VaRange {
        match self {
            Self::Map(mapping) => mapping.range,
            Self::Unmap(range) => *range,
        }
    }
}

/// The logical page table of what a mapping shows, as it is now; none of sparse memory and mirrors.
fn object_of<D: Driver>(mapping: &BoMapping<D>) -> Option<Arc<Object>> {
    mapping.backing.object.as_ref()?.object()
}

/// The contiguous runs of a mapping.
fn runs<'a, D: Driver>(
    mapping: &'a BoMapping<D>,
    object: &'a Option<Arc<Object>>,
) -> impl Iterator<Item = MapRun<Attrs<D>>> + 'a {
    runs_of::<D>(mapping.range, &mapping.backing, object.as_deref())
}

/// The contiguous runs of a range that shows an object.
pub(crate) fn runs_of<'a, D: Driver>(
    range: VaRange,
    backing: &'a BoBacking<D>,
    object: Option<&'a Object>,
) -> impl Iterator<Item = MapRun<Attrs<D>>> + 'a {
    let run = |range, location| MapRun {
        range,
        location,
        access: backing.access,
        attrs: backing.attrs,
    };
    let sparse = match backing.object {
        None => Some(run(range, Location::Sparse)),
        Some(_) => None,
    };
    let extents = object.into_iter().flat_map(move |object| {
        object
            .runs(backing.offset, range.size())
            .filter_map(move |extent| {
                let start = range.start() + (extent.offset - backing.offset);
                let part = VaRange::from_bounds(start, start + extent.size)?;
                Some(run(part, extent.location))
            })
    });
    Iterator::chain(sparse.into_iter(), extents)
}

/// Whether some of what a mapping covers is nowhere.
fn has_holes<D: Driver>(mapping: &BoMapping<D>, object: &Option<Arc<Object>>) -> bool {
    runs::<D>(mapping, object)
        .map(|run| run.range.size())
        .sum::<u64>()
        != mapping.range.size()
}

type Plan<D> = <<D as Driver>::PageTable as PageTable>::Plan;
type Prepared<D> = <<D as Driver>::PageTable as PageTable>::Prepared;
type Garbage<D> = <<<D as Driver>::PageTable as PageTable>::Flush as PendingFlush>::Garbage;

/// The largest page, in bytes.
pub(crate) const fn largest<D: Driver>() -> u64 {
    1 << D::CAPS.page_sizes.ilog2()
}

/// The part of a batch that has to do with the page table.
pub(crate) struct BindJob<D: Driver> {
    vm: Arc<Vm<D>>,
    ops: KVVec<BindOp<D>>,
    /// All that the operations change.
    hull: VaRange,
    prepared: Option<Prepared<D>>,
    /// What is mapped stays in its place.
    pins: BoPins<D>,
    dependencies: Dependencies<BindQueue<D>>,
    fence: Option<PendingFence<BindFence>>,
    /// Objects that must outlive the flush, and not move before.
    removed: Removed<ObjectHandle<D>>,
    garbage: Option<Garbage<D>>,
    /// Changes of what is mirrored for which room was made.
    promised: usize,
    /// Room for these that was not needed.
    stock: Stock<Mirrored<Attrs<D>>>,
    next: Option<KBox<BindJob<D>>>,
}

impl<D: Driver> Link for BindJob<D> {
    fn next(&mut self) -> &mut Option<KBox<Self>> {
        &mut self.next
    }
}

impl<D: Driver> Drop for BindJob<D> {
    fn drop(&mut self) {
        for memory in self.removed.iter().filter_map(ObjectHandle::memory) {
            memory.let_go();
        }
    }
}

impl<D: Driver> BindJob<D> {
    /// Makes the job answerable for a fence.
    pub(crate) fn set_fence(&mut self, fence: PendingFence<BindFence>) {
        self.fence = Some(fence);
    }

    /// Whether all it waits for has signalled; if not, its queue will be woken when that may have
    /// changed.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.dependencies.are_over()
    }

    /// Does the job, or not if it was cancelled, and signals its fence. In the signalling path.
    pub(crate) fn execute(&mut self, cancelled: bool) {
        let mapper = self.vm.device.mapper();
        let mut tables = self.vm.tables.lock();
        tables.planned -= 1;
        tables.mirrors.promised -= self.promised;
        let result = if cancelled {
            drop(tables);
            Err(ECANCELED)
        } else {
            let mut prepared = self.prepared.take().unwrap_or_default();
            let mut hull = Some(self.hull);
            let mut given_back = Ok(());
            let mapped = tables.mirrors.mapped;
            for op in &self.ops {
                given_back = given_back.and(tables.mirror(mapper, &mut prepared, op, &mut hull));
                tables.apply(&mut prepared, op);
            }
            if given_back.is_err() {
                self.vm.failed.store(true, Relaxed);
            }
            let promised = tables.mirrors.promised;
            tables.mirrors.ranges.surplus(promised + 1, &mut self.stock);
            tables.epoch += 1;
            // Until the device has confirmed, callbacks that find these frames gone have to wait as well.
            let took_frames = tables.mirrors.mapped != mapped;
            tables.mirrors.flushing += usize::from(took_frames);
            if took_frames {
                tables.mirrors.trace(self.vm.number);
            }
            let flush = tables.flush(prepared, hull.unwrap_or(self.hull));
            drop(tables);
            let (flushed, garbage) = flush.wait();
            if took_frames {
                self.vm.tables.lock().mirrors.flushing -= 1;
            }
            self.garbage = Some(garbage);
            if flushed.is_err() {
                self.vm.failed.store(true, Relaxed);
            }
            flushed.map_err(|_| EIO)
        };
        if let Some(pending) = self.fence.take() {
            let fence = pending.fence();
            trace::bind_done((fence.context(), fence.seqno()), result);
            pending.signal(result);
        }
    }
}

impl<D: Driver> Tables<D> {
    /// Lets the book of mirrors follow a change: what the page table had of them goes.
    fn mirror(
        &mut self,
        mapper: Option<&Mapper>,
        prepared: &mut Prepared<D>,
        op: &BindOp<D>,
        hull: &mut Option<VaRange>,
    ) -> Result {
        let range = op.range();
        let mirrored = match op {
            BindOp::Map(mapping) => match mapping.backing.object {
                Some(ObjectHandle::Mirror) => Some(Mirrored {
                    cpu: mapping.backing.offset,
                    access: mapping.backing.access,
                    attrs: mapping.backing.attrs,
                }),
                _ => None,
            },
            BindOp::Unmap(_) => None,
        };
        let result = if self.mirrors.frames.is_empty() {
            Ok(())
        } else {
            self.zap(mapper, range, |_, _| true, prepared, hull)
        };
        match mirrored {
            Some(mirrored) => self.mirrors.ranges.set(range, mirrored, |_| ()),
            None if self.mirrors.ranges.is_empty() => (),
            None => self.mirrors.ranges.clear(range, |_| ()),
        }
        result
    }

    fn apply(&mut self, prepared: &mut Prepared<D>, op: &BindOp<D>) {
        match op {
            BindOp::Map(mapping) => {
                // Not the last reference: the object stays where it is until this is done.
                let object = object_of::<D>(mapping);
                if has_holes::<D>(mapping, &object) {
                    self.unmap(prepared, mapping.range);
                }
                for run in runs::<D>(mapping, &object) {
                    self.map(prepared, &run);
                }
            }
            BindOp::Unmap(range) => self.unmap(prepared, *range),
        }
    }

    fn map(&mut self, prepared: &mut Prepared<D>, run: &MapRun<Attrs<D>>) {
        let location = match run.location {
            Location::Sparse => trace::Where::Sparse,
            Location::Host(_) => trace::Where::Host,
            Location::Device(_) => trace::Where::Device,
        };
        let Access { write, exec } = run.access;
        let (start, end) = (run.range.start(), run.range.end());
        trace::map(start, end, location, run.location.address(), write, exec);
        self.page_table.map(prepared, run);
    }

    fn unmap(&mut self, prepared: &mut Prepared<D>, range: VaRange) {
        trace::unmap(range.start(), range.end());
        self.page_table.unmap(prepared, range);
    }

    /// Starts the flush of what was applied. Once nothing is planned, empty tables go too.
    fn flush(
        &mut self,
        prepared: Prepared<D>,
        hull: VaRange,
    ) -> <D::PageTable as PageTable>::Flush {
        let mut prune = Some(self.prune.take().map_or(hull, |p| p.hull(&hull)));
        if self.planned > 0 {
            self.prune = prune.take();
        }
        trace::flush(hull.start(), hull.end());
        self.page_table.flush(prepared, hull, prune)
    }

    /// Takes note of what a batch will lack; `pending` says whether another batch that is not done
    /// changes something in a range.
    fn plan(&self, plan: &mut Plan<D>, ops: &[BindOp<D>], pending: impl Fn(&VaRange) -> bool) {
        let largest = largest::<D>();
        // Where earlier operations may have taken tables away: only one that covers a largest page
        // as a whole can.
        let mut unknown: Option<VaRange> = None;
        let mut changes = 0;
        for op in ops {
            let range = op.range();
            let around = range.align_outward(largest);
            let basis = match unknown.and_then(|u| u.intersect(&around)) {
                Some(_) => Basis::Unknown(changes),
                None if pending(&around) => Basis::Unknown(0),
                None => Basis::Current,
            };
            match op {
                BindOp::Map(mapping) => {
                    let object = object_of::<D>(mapping);
                    if has_holes::<D>(mapping, &object) {
                        self.page_table.plan_unmap(plan, range, basis);
                    }
                    for run in runs::<D>(mapping, &object) {
                        self.page_table.plan_map(plan, &run, basis);
                    }
                }
                BindOp::Unmap(_) => self.page_table.plan_unmap(plan, range, basis),
            }
            if range.size() >= largest {
                changes += 1;
                unknown = Some(around.hull_with(unknown));
            }
        }
    }
}

/// Makes room for the plan of a batch.
fn make_room<D: Driver>(plan: &mut Plan<D>, ops: &[BindOp<D>]) -> Result {
    for op in ops {
        match op {
            BindOp::Map(mapping) => {
                let object = object_of::<D>(mapping);
                if has_holes::<D>(mapping, &object) {
                    D::PageTable::make_room(plan, mapping.range, Change::Unmap)?;
                }
                // A mirror may have all addresses there are, and maps none of them yet.
                if runs::<D>(mapping, &object).next().is_some() {
                    D::PageTable::make_room(plan, mapping.range, Change::Map)?;
                }
            }
            BindOp::Unmap(range) => D::PageTable::make_room(plan, *range, Change::Unmap)?,
        }
    }
    Ok(())
}

impl<D: Driver> Space<D> {
    /// Forgets pending batches that are done; of many, only now and then.
    fn sweep(&mut self) {
        if self.pending.len() < self.sweep_at {
            return;
        }
        self.pending.retain(|(_, fence)| !fence.is_signaled());
        // A few are looked at each time: a plan is larger where batches are pending.
        self.sweep_at = match self.pending.len() {
            few @ 0..16 => few.min(1),
            many => 2 * many,
        };
    }
}

impl<D: Driver> Vm<D> {
    /// Queues a batch of changes, to be done in order, all or none, once all that `syncs` has to
    /// wait for has signalled and the queue has done what it was given before; a worker does it. The
    /// returned fence, which `syncs` publishes too, signals when the device uses the new mappings only.
    ///
    /// Process context, may sleep; takes the VM lock.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` (device memory for page tables), `ENOENT` (VM destroyed), `EIO` (the device
    /// did not confirm an earlier change), `EBUSY` ([`MAX_PENDING`] are not done), `EINTR` (the
    /// process is being killed): nothing was changed. The fence's error is `EIO` if the
    /// device does not confirm this one, and the VM is unusable then; `ECANCELED` if the VM was
    /// destroyed before.
    pub fn bind(
        self: &Arc<Self>,
        queue: &Arc<BindQueue<D>>,
        ops: KVVec<BindOp<D>>,
        syncs: Syncs,
    ) -> Result<ARef<Fence>> {
        self.enqueue(queue, ops, syncs, BindQueue::kick)
    }

    /// Queues a batch; `and_then` is called under the VM lock.
    fn enqueue(
        self: &Arc<Self>,
        queue: &Arc<BindQueue<D>>,
        ops: KVVec<BindOp<D>>,
        mut syncs: Syncs,
        and_then: impl FnOnce(&Arc<BindQueue<D>>),
    ) -> Result<ARef<Fence>> {
        let Some(hull) = ops.iter().map(BindOp::range).reduce(|a, b| a.hull(&b)) else {
            return Err(EINVAL);
        };
        let around = |op: &BindOp<D>| op.range().align_outward(largest::<D>());
        let touched = RangeSet::new(ops.iter().map(around))?;
        let pins = self.pin_objects(&ops)?;
        let reservation = FenceReservation::new(GFP_KERNEL)?;
        let node = queue.reserve()?;
        let mut dependencies = Dependencies::new();
        dependencies.add_all(syncs.take_waits(), queue)?;
        let mut job = KBox::new(
            BindJob {
                vm: self.clone(),
                ops,
                hull,
                prepared: None,
                pins,
                dependencies,
                fence: None,
                removed: Removed::default(),
                garbage: None,
                promised: 0,
                stock: Stock::new(),
                next: None,
            },
            GFP_KERNEL,
        )?;

        let mut tries = 0;
        let mut space = loop {
            match self.prepare_batch(queue, &touched, &mut job)? {
                Some(space) => break space,
                // Not with the VM lock, which keeps the VM's objects where they are.
                None if tries < TRIES && Device::relieve(&self.device) => tries += 1,
                None => return Err(ENOSPC),
            }
            check_killed()?;
        };

        // From here on nothing can fail.
        let BindJob { ops, removed, .. } = &mut *job;
        for op in ops.iter() {
            match op {
                BindOp::Map(mapping) => space.mappings.insert(removed, mapping.clone()),
                BindOp::Unmap(range) => space.mappings.remove(removed, *range),
            }
        }
        for memory in removed.iter().filter_map(ObjectHandle::memory) {
            memory.hold();
        }
        space.mappings.trim();
        let count = ops.len();
        let fence = queue.push(node, job, reservation);
        let id = (fence.context(), fence.seqno());
        trace::bind(id, hull.start(), hull.end(), count);
        // Cannot fail: room was made above.
        let _ = space.pending.push_within_capacity((touched, fence.clone()));
        and_then(queue);
        drop(space);
        syncs.publish(&fence);
        Ok(fence)
    }

    /// Does for a batch all that can fail; returns with the VM lock held, so that it can be queued. Whatever the error,
    /// nothing was changed. `None`: there is no device memory for page tables; it may be tried again.
    fn prepare_batch(
        self: &Arc<Self>,
        queue: &Arc<BindQueue<D>>,
        touched: &RangeSet,
        job: &mut BindJob<D>,
    ) -> Result<Option<impl core::ops::DerefMut<Target = Space<D>> + '_>> {
        let mut plan = Plan::<D>::default();
        make_room::<D>(&mut plan, &job.ops)?;
        let mut space = self.lock_for(&job.ops, &mut job.pins)?;
        self.check_space(&space)?;
        if queue.is_destroyed() {
            return Err(ENOENT);
        }
        space.sweep();
        if space.pending.len() >= MAX_PENDING {
            space.sweep_at = 0;
            space.sweep();
        }
        if space.pending.len() >= MAX_PENDING {
            return Err(EBUSY);
        }
        // Batches that will have changed something here by then. The newest first: of each other queue
        // that is the one to wait for.
        let mut before = KVVec::new();
        for (i, (ranges, fence)) in space.pending.iter().enumerate().rev() {
            if ranges.meets(touched) {
                before.push(i, GFP_KERNEL)?;
                if fence.context() != queue.context() {
                    job.dependencies.add_ordered(fence, queue)?;
                }
            }
        }
        space.pending.reserve(1, GFP_KERNEL)?;
        let mut needs = Needs::default();
        for op in &job.ops {
            space.mappings.count(&mut needs, op.range());
        }
        space.mappings.reserve(&needs, &mut job.removed)?;
        self.add_views(&job.ops)?;
        let attached = !matches!(&*self.attachment.lock(), Attachment::None);
        job.promised = if attached { job.ops.len() } else { 0 };
        let lacks = {
            let mut tables = self.tables.lock();
            tables.planned += 1;
            tables.mirrors.promised += job.promised;
            let pending =
                |range: &VaRange| before.iter().any(|&i| space.pending[i].0.overlaps(range));
            tables.plan(&mut plan, &job.ops, pending);
            match job.promised {
                0 => 0,
                _ => tables.mirrors.ranges.lacks(tables.mirrors.promised),
            }
        };
        let prepared = match job.stock.fill(lacks) {
            Ok(()) => match D::prepare_tables(&self.device, plan) {
                Err(e) if e == ENOSPC => Ok(None),
                prepared => prepared.map(Some),
            },
            Err(e) => Err(e),
        };
        if !matches!(prepared, Ok(Some(_))) {
            let mut tables = self.tables.lock();
            tables.planned -= 1;
            tables.mirrors.promised -= job.promised;
        }
        job.prepared = prepared?;
        if job.prepared.is_none() {
            return Ok(None);
        }
        if lacks > 0 {
            self.tables.lock().mirrors.ranges.supply(&mut job.stock);
        }
        Ok(Some(space))
    }

    /// As [`bind`](Self::bind), but returns when it is done.
    ///
    /// # Errors
    ///
    /// As for `bind`, `EIO` if the device did not confirm the change, and `EINTR` if a signal came
    /// while it waited for other fences: then the batch will be done all the same.
    pub fn bind_and_wait(
        self: &Arc<Self>,
        queue: &Arc<BindQueue<D>>,
        ops: KVVec<BindOp<D>>,
        syncs: Syncs,
    ) -> Result {
        let fence = self.enqueue(queue, ops, syncs, |_| ())?;
        // What is ready is done here, and freed here, rather than by a worker.
        queue.advance();
        queue.free_retired();
        if !fence.is_signaled() {
            let space = self.space.lock();
            // Once it is closed, nothing may be queued any more, and all batches end by themselves.
            if !space.closed {
                queue.kick();
            }
            drop(space);
            fence.wait(true, None).map_err(|_| EINTR)?;
        }
        fence.status().unwrap_or(Ok(()))
    }

    /// Ends all mappings and refuses new ones; jobs that still run here will find nothing mapped.
    /// Batches that were not done are cancelled.
    ///
    /// Process context, may sleep; takes the VM lock. Cannot fail.
    pub fn close(&self) {
        let queues = {
            let mut space = self.space.lock();
            if space.closed {
                return;
            }
            space.closed = true;
            core::mem::take(&mut space.queues)
        };
        self.unmirror();
        // All of them before any batch ends, which could let one of another queue go on.
        self.default_queue.refuse();
        queues.iter().for_each(|queue| queue.refuse());
        self.default_queue.cancel();
        queues.iter().for_each(BindQueue::cancel);
        let mut prepared = Prepared::<D>::default();
        // A range that covers whole mappings splits no page and needs nothing set aside.
        let all = Self::range();
        let flush = {
            let mut tables = self.tables.lock();
            tables.unmap(&mut prepared, all);
            tables.prune = Some(all);
            tables.flush(prepared, all)
        };
        let (flushed, garbage) = flush.wait();
        if flushed.is_err() {
            pr_debug!("gmem_vm: the device did not confirm the end of a VM\n");
        }
        // Nothing is mapped any more: tables and objects can go.
        drop(garbage);
        self.default_queue.finish();
        queues.iter().for_each(BindQueue::finish);
        let (mappings, attrs, absent) = {
            let mut space = self.space.lock();
            self.end_pinned(&mut space);
            (
                core::mem::take(&mut space.mappings),
                core::mem::take(&mut space.attrs),
                core::mem::take(&mut space.absent),
            )
        };
        drop((mappings, attrs, absent));
        self.device.forget_vm(self);
    }
}
