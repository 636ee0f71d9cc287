// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The page table, as gmem_vm writes it: two levels, of which the lower goes only by a prune.
//!
//! All under the lock of the tables, but for [`Prepared::new`] and what drops tables.

use crate::hardware::{
    Frame,
    Hardware,
    ATTRS_SHIFT,
    ENTRIES,
    EXEC,
    PAGE,
    SPARSE,
    TABLE_SPAN,
    VALID,
    WRITE, //
};
use gmem_vm::{
    chain::{
        Chain,
        Link, //
    },
    page_table::Stats,
    Basis,
    Change,
    FaultAccess,
    Location,
    MapAttrs,
    MapRun,
    PendingFlush,
    VaRange, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    warn_on, //
};

/// The driver's attributes of a mapping: a number that the device would make something of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attrs(u8);

impl MapAttrs for Attrs {
    fn from_uapi(bits: u64) -> Result<Self> {
        match u8::try_from(bits) {
            Ok(n @ 0..16) => Ok(Self(n)),
            _ => Err(EINVAL),
        }
    }

    fn to_uapi(self) -> u64 {
        self.0.into()
    }
}

/// The entry for a page.
pub(crate) fn leaf(run: &MapRun<Attrs>, location: Location) -> u64 {
    let flag = |set, bit| if set { bit } else { 0 };
    VALID
        | flag(run.access.write, WRITE)
        | flag(run.access.exec, EXEC)
        | flag(location == Location::Sparse, SPARSE)
        | u64::from(run.attrs.0) << ATTRS_SHIFT
        | location.address()
}

/// Which tables changes lack: a bit for each entry of the root table.
#[derive(Default)]
pub(crate) struct Plan([u64; ENTRIES / 64]);

/// A table of pages.
pub(crate) struct Table {
    frame: Frame,
    /// Entries that are valid.
    used: usize,
    next: Option<KBox<Table>>,
}

impl Link for Table {
    fn next(&mut self) -> &mut Option<KBox<Self>> {
        &mut self.next
    }
}

/// Tables set aside for commits, and those that were pruned.
#[derive(Default)]
pub(crate) struct Prepared {
    spare: Chain<Table>,
    retired: Chain<Table>,
}

impl Prepared {
    /// Allocates the tables of a plan. `ENOMEM`, `ENOSPC`.
    pub(crate) fn new(hardware: &Arc<Hardware>, plan: Plan) -> Result<Self> {
        let mut prepared = Self::default();
        for _ in 0..plan.0.iter().map(|bits| bits.count_ones()).sum() {
            let table = Table {
                frame: Frame::new(hardware)?,
                used: 0,
                next: None,
            };
            prepared.spare.push(KBox::new(table, GFP_KERNEL)?);
        }
        Ok(prepared)
    }
}

/// The page table of a VM.
pub(crate) struct PageTable {
    hardware: Arc<Hardware>,
    root: Frame,
    tables: KVVec<Option<KBox<Table>>>,
}

impl PageTable {
    /// `ENOMEM`, `ENOSPC`
    pub(crate) fn new(hardware: &Arc<Hardware>) -> Result<Self> {
        let mut tables = KVVec::with_capacity(ENTRIES, GFP_KERNEL)?;
        for _ in 0..ENTRIES {
            tables.push(None, GFP_KERNEL)?;
        }
        Ok(Self {
            hardware: hardware.clone(),
            root: Frame::new(hardware)?,
            tables,
        })
    }

    /// Makes the entries for a range invalid.
    fn clear(&mut self, range: VaRange) {
        for index in tables(range) {
            let (Some(table), Some(span)) = (&mut self.tables[index], covered(index)) else {
                continue;
            };
            let part = span.intersect(&range).unwrap_or(span);
            let first = ((part.start() - span.start()) / PAGE) as usize;
            for entry in first..first + (part.size() / PAGE) as usize {
                if table.frame.read(entry) != 0 {
                    table.used -= 1;
                    table.frame.write(entry, 0);
                }
            }
        }
    }

    fn start_flush(&self, range: VaRange, garbage: Prepared) -> Flush {
        Flush {
            hardware: self.hardware.clone(),
            root: self.root.number(),
            range,
            garbage,
        }
    }
}

/// Indices of the tables that a range touches.
fn tables(range: VaRange) -> core::ops::RangeInclusive<usize> {
    (range.start() / TABLE_SPAN) as usize..=((range.end() - 1) / TABLE_SPAN) as usize
}

/// The addresses that a table covers.
fn covered(index: usize) -> Option<VaRange> {
    VaRange::new(TABLE_SPAN * index as u64, TABLE_SPAN).ok()
}

/// An invalidation that the device was told of.
pub(crate) struct Flush {
    hardware: Arc<Hardware>,
    root: u32,
    range: VaRange,
    garbage: Prepared,
}

impl PendingFlush for Flush {
    type Garbage = Prepared;

    fn wait(self) -> (Result, Prepared) {
        let result = self.hardware.invalidate(self.root, self.range);
        (result, self.garbage)
    }
}

impl gmem_vm::PageTable for PageTable {
    type Attrs = Attrs;
    type Plan = Plan;
    type Prepared = Prepared;
    type Flush = Flush;
    /// Number of the frame that the root table is in.
    type Root = u32;

    fn root(&self) -> u32 {
        self.root.number()
    }

    fn make_room(_plan: &mut Plan, _range: VaRange, _change: Change) -> Result {
        Ok(())
    }

    fn plan_map(&self, plan: &mut Plan, run: &MapRun<Attrs>, _basis: Basis) {
        // The basis does not matter: tables go by a prune only.
        for index in tables(run.range) {
            if self.tables[index].is_none() {
                plan.0[index / 64] |= 1 << (index % 64);
            }
        }
    }

    fn plan_unmap(&self, _plan: &mut Plan, _range: VaRange, _basis: Basis) {
        // No page is larger than the smallest, so none is split.
    }

    fn map(&mut self, prepared: &mut Prepared, run: &MapRun<Attrs>) {
        for page in run.leaves(PAGE) {
            let index = (page.va / TABLE_SPAN) as usize;
            let slot = &mut self.tables[index];
            if slot.is_none() {
                *slot = prepared.spare.pop();
            }
            let Some(table) = slot else {
                warn_on!(true);
                return;
            };
            self.root
                .write(index, u64::from(table.frame.number()) << 16 | VALID);
            let entry = (page.va / PAGE) as usize % ENTRIES;
            if table.frame.read(entry) == 0 {
                table.used += 1;
            }
            table.frame.write(entry, leaf(run, page.location));
        }
    }

    fn unmap(&mut self, _prepared: &mut Prepared, range: VaRange) {
        self.clear(range);
    }

    fn zap(&mut self, _prepared: &mut Prepared, range: VaRange) -> VaRange {
        // The process may give back less than a page of the device, which then goes as a whole.
        let zapped = range.align_outward(PAGE);
        self.clear(zapped);
        zapped
    }

    fn permits(&self, va: u64, access: FaultAccess) -> bool {
        let Some(Some(table)) = self.tables.get((va / TABLE_SPAN) as usize) else {
            return false;
        };
        let needed = match access {
            FaultAccess::Read => VALID,
            FaultAccess::Write => VALID | WRITE,
            FaultAccess::Fetch => VALID | EXEC,
        };
        table.frame.read((va / PAGE) as usize % ENTRIES) & needed == needed
    }

    fn stats(&self) -> Stats {
        let tables = 1 + self.tables.iter().flatten().count();
        Stats {
            tables,
            bytes: 8 * (tables * ENTRIES) as u64,
        }
    }

    fn flush(&mut self, mut prepared: Prepared, range: VaRange, prune: Option<VaRange>) -> Flush {
        let mut flushed = range;
        for index in prune.into_iter().flat_map(tables) {
            let slot = &mut self.tables[index];
            if slot.as_ref().is_none_or(|table| table.used != 0) {
                continue;
            }
            self.root.write(index, 0);
            // The walk may remember where the table was.
            flushed = covered(index).map_or(flushed, |span| flushed.hull(&span));
            if let Some(table) = slot.take() {
                prepared.retired.push(table);
            }
        }
        self.start_flush(flushed, prepared)
    }
}
