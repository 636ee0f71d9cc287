// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Changing the mappings of a VM: all of a batch or none.
//!
//! First everything that could fail, for the whole batch; then the changes to mappings and page
//! table, which cannot; then one flush, whatever the number of operations; then, once the device
//! has confirmed, what was unmapped is let go. All of it under the VM lock.

use crate::{
    bo::BoObject,
    driver::Driver,
    mapping::{
        Mapping,
        Reservation, //
    },
    page_table::{
        Basis,
        MapRun,
        PageTable,
        PendingFlush, //
    },
    range::VaRange,
    vm::{
        Attrs,
        Space,
        State,
        Vm, //
    }, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// One change. Ranges and offsets are multiples of the granule, ranges lie in the address space,
/// and a mapped range lies in its object: the ioctl has checked all this ([`crate::ioctl::bind`]).
pub enum BindOp<D: Driver> {
    /// Map a range of an object, replacing what was there.
    Map(Mapping<ARef<BoObject<D>>, Attrs<D>>),
    /// Unmap a range.
    Unmap(VaRange),
}

impl<D: Driver> BindOp<D> {
    fn range(&self) -> VaRange {
        match self {
            Self::Map(mapping) => mapping.range,
            Self::Unmap(range) => *range,
        }
    }
}

/// The contiguous runs of a mapping.
fn runs<D: Driver>(
    mapping: &Mapping<ARef<BoObject<D>>, Attrs<D>>,
) -> impl Iterator<Item = MapRun<Attrs<D>>> + '_ {
    mapping
        .object
        .object()
        .runs(mapping.offset, mapping.range.size())
        .filter_map(|extent| {
            let start = mapping.range.start() + (extent.offset - mapping.offset);
            Some(MapRun {
                range: VaRange::from_bounds(start, start + extent.size)?,
                location: extent.location,
                access: mapping.access,
                attrs: mapping.attrs,
            })
        })
}

/// Whether some of what a mapping covers is nowhere.
fn has_holes<D: Driver>(mapping: &Mapping<ARef<BoObject<D>>, Attrs<D>>) -> bool {
    runs::<D>(mapping).map(|run| run.range.size()).sum::<u64>() != mapping.range.size()
}

type Prepared<D> = <<D as Driver>::PageTable as PageTable>::Prepared;
type Nodes<D> = Reservation<ARef<BoObject<D>>, Attrs<D>>;

impl<D: Driver> Space<D> {
    /// Does everything about a batch that can fail.
    fn prepare(&self, ops: &[BindOp<D>]) -> Result<(Prepared<D>, Nodes<D>)> {
        let largest = 1 << D::CAPS.page_sizes.ilog2();
        let mut prepared = Prepared::<D>::default();
        let mut nodes = Nodes::<D>::default();
        // Where earlier operations may have taken tables away: only one that covers a largest page
        // as a whole can.
        let mut unknown: Option<VaRange> = None;
        let mut changes = 0;
        for op in ops {
            let range = op.range();
            let around = range.align_outward(largest);
            let basis = match unknown.and_then(|u| u.intersect(&around)) {
                Some(_) => Basis::Unknown(changes),
                None => Basis::Current,
            };
            match op {
                BindOp::Map(mapping) => {
                    self.mappings.prepare_insert(&mut nodes, &range)?;
                    if has_holes::<D>(mapping) {
                        self.page_table.prepare_unmap(&mut prepared, range, basis)?;
                    }
                    for run in runs::<D>(mapping) {
                        self.page_table.prepare_map(&mut prepared, &run, basis)?;
                    }
                }
                BindOp::Unmap(_) => {
                    self.mappings.prepare_remove(&mut nodes, &range)?;
                    self.page_table.prepare_unmap(&mut prepared, range, basis)?;
                }
            }
            if range.size() >= largest {
                changes += 1;
                unknown = Some(unknown.map_or(around, |u| u.hull(&around)));
            }
        }
        Ok((prepared, nodes))
    }

    /// Does a prepared batch.
    fn commit(&mut self, prepared: &mut Prepared<D>, nodes: &mut Nodes<D>, ops: KVVec<BindOp<D>>) {
        for op in ops {
            match op {
                BindOp::Map(mapping) => {
                    if has_holes::<D>(&mapping) {
                        self.page_table.unmap(prepared, mapping.range);
                    }
                    for run in runs::<D>(&mapping) {
                        self.page_table.map(prepared, &run);
                    }
                    self.mappings.insert(nodes, mapping);
                }
                BindOp::Unmap(range) => {
                    self.page_table.unmap(prepared, range);
                    self.mappings.remove(nodes, &range);
                }
            }
        }
    }
}

impl<D: Driver> Vm<D> {
    /// Does a batch of changes, in order, all or none. When it returns the device uses the new
    /// mappings only.
    ///
    /// Process context, may sleep; takes the VM lock.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` (device memory for page tables), `ENOENT` (VM destroyed): nothing was
    /// changed. `EIO`: the device did not confirm the change, now or at an earlier bind; the VM is
    /// unusable.
    pub fn bind(&self, ops: KVVec<BindOp<D>>) -> Result {
        let mut space = self.space.lock();
        space.state.check()?;
        let Some(hull) = ops.iter().map(BindOp::range).reduce(|a, b| a.hull(&b)) else {
            return Ok(());
        };
        let (mut prepared, mut nodes) = space.prepare(&ops)?;
        space.commit(&mut prepared, &mut nodes, ops);
        let (flushed, garbage) = space.page_table.flush(prepared, hull).wait();
        if flushed.is_err() {
            space.state = State::Failed;
        }
        drop(space);
        // Tables and objects may be freed only now.
        drop(garbage);
        drop(nodes);
        flushed.map_err(|_| EIO)
    }

    /// Ends all mappings and refuses new ones; jobs that still run here will find nothing mapped.
    ///
    /// Process context, may sleep; takes the VM lock. Cannot fail.
    pub fn close(&self) {
        let mut space = self.space.lock();
        if space.state == State::Closed {
            return;
        }
        let mut prepared = Prepared::<D>::default();
        // A range that covers whole mappings splits no page and needs nothing set aside.
        let all = Self::range();
        space.page_table.unmap(&mut prepared, all);
        let (flushed, garbage) = space.page_table.flush(prepared, all).wait();
        space.state = State::Closed;
        let mappings = core::mem::take(&mut space.mappings);
        drop(space);
        drop(garbage);
        if flushed.is_err() {
            pr_debug!("gmem_vm: the device did not confirm the end of a VM\n");
        }
        drop(mappings);
    }
}
