// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The NPU's page table, as gmem_vm writes it.
//!
//! Tables lie in device memory. What has children (levels 3 to 1) is shadowed in host memory; level
//! 0 is not, its entries are read back where a 64 KiB leaf has to be split.
//!
//! Large leaves are made and split without a moment in which an address outside the change is not
//! mapped, by the rules of Documentation/accel/npu/mmu.rst. A change that nothing was set aside for,
//! a zap, splits 2 MiB leaves with tables in stock while there are some.
//!
//! All under the lock of the tables; what allocates and frees tables takes the memory lock, outside
//! of it.

use crate::{
    driver::NpuDevice,
    hw::{
        Hw,
        Invalidation, //
    },
    pte::{
        Attrs,
        Pte,
        PAGE_SIZES, //
    },
};
use gmem_vm::{
    chain::{
        Chain,
        Link, //
    },
    kapi::signal::check_killed,
    page_table::Stats,
    sort::heapsort,
    Basis,
    Change,
    FaultAccess,
    Location,
    MapRun,
    MemoryBlock,
    PendingFlush,
    VaRange, //
};
use kernel::{
    prelude::*,
    sizes::{
        SZ_2M,
        SZ_4K,
        SZ_64K, //
    },
    sync::{
        aref::ARef,
        Arc, //
    },
    warn_on, //
};

mod zap;

use self::zap::{
    Stock,
    Zap, //
};

const PAGE: u64 = SZ_4K as u64;
const BIG: u64 = SZ_64K as u64;
const HUGE: u64 = SZ_2M as u64;
const ENTRIES: usize = 512;
/// Entries of a 64 KiB leaf.
const GROUP: usize = 16;
/// Level of the root table.
const ROOT_LEVEL: u32 = 3;
/// First address that does not translate.
const VA_END: u64 = coverage(ROOT_LEVEL + 1);

/// Bytes that an entry of a table of this level covers.
const fn coverage(level: u32) -> u64 {
    PAGE << (9 * level)
}

/// Index of the entry for an address in a table of this level.
const fn index(va: u64, level: u32) -> usize {
    (va >> (12 + 9 * level)) as usize % ENTRIES
}

/// What a table above level 0 has in one entry.
enum Slot {
    Empty,
    Leaf(Pte),
    Table(KBox<Table>),
}

/// A table, in device memory, with its shadow.
pub(crate) struct Table {
    block: MemoryBlock,
    /// Entries that are valid.
    used: usize,
    /// One for each entry, none at level 0.
    slots: KVVec<Slot>,
    next: Option<KBox<Table>>,
}

impl Table {
    /// Allocates a table, all entries invalid.
    fn new(device: &NpuDevice, level: u32) -> Result<KBox<Self>> {
        // Where the CPU can reach it directly, if there is room.
        let memory = device.memory().ok_or(ENOSPC)?;
        let block = memory
            .alloc(PAGE, true)
            .or_else(|_| gmem_vm::Device::alloc_memory(device, PAGE, false))?;
        let mut slots = KVVec::new();
        if level > 0 {
            slots.reserve(ENTRIES, GFP_KERNEL)?;
            for _ in 0..ENTRIES {
                slots.push(Slot::Empty, GFP_KERNEL)?;
            }
        }
        let table = KBox::new(
            Self {
                block,
                used: 0,
                slots,
                next: None,
            },
            GFP_KERNEL,
        )?;
        let hw = device.hardware().hw();
        for entry in 0..ENTRIES {
            table.write(hw, entry, Pte::INVALID);
        }
        Ok(table)
    }

    fn local(&self) -> u64 {
        self.block.runs().next().map_or(0, |(local, _)| local)
    }

    fn write(&self, hw: &Hw, entry: usize, pte: Pte) {
        hw.write64(self.local() + 8 * entry as u64, pte.raw());
    }

    fn read(&self, hw: &Hw, entry: usize) -> Pte {
        Pte::from_raw(hw.read64(self.local() + 8 * entry as u64))
    }

    /// Fills a level-0 table with what a 2 MiB leaf maps. Nothing points to the table yet, so the order
    /// of the writes does not matter.
    fn fill(&mut self, hw: &Hw, leaf: Pte) {
        for i in 0..ENTRIES {
            self.write(hw, i, leaf.advance(PAGE * i as u64).with_cont(true));
        }
        self.used = ENTRIES;
    }
}

impl Link for Table {
    fn next(&mut self) -> &mut Option<KBox<Self>> {
        &mut self.next
    }
}

/// Which tables changes lack.
#[derive(Default)]
pub(crate) struct Plan {
    /// Level in the low bits of the address that a table covers, and the number of the basis. One
    /// can be there more than once.
    keys: KVVec<(u64, u32)>,
    /// The last one of each level: addresses come mostly in order.
    last: [Option<(u64, u32)>; ROOT_LEVEL as usize],
    /// How many keys there is room for, at least.
    room: usize,
    /// How many tables the stock lacks.
    stock: usize,
}

impl Plan {
    /// Takes note of the table of this level that covers an address.
    fn note(&mut self, va: u64, level: u32, basis: Basis) {
        let number = match basis {
            Basis::Current => 0,
            Basis::Unknown(number) => number,
        };
        let key = ((va & !(coverage(level + 1) - 1)) | u64::from(level), number);
        let last = &mut self.last[level as usize];
        if *last == Some(key) {
            return;
        }
        *last = Some(key);
        let noted = self.keys.push_within_capacity(key);
        warn_on!(noted.is_err());
    }
}

/// Tables set aside for commits, and those that commits made unreachable.
#[derive(Default)]
pub(crate) struct Prepared {
    /// Level 0.
    leaf_tables: Chain<Table>,
    /// Levels 1 and 2.
    directories: Chain<Table>,
    /// Level 0, for the stock.
    stock: Chain<Table>,
    retired: Chain<Table>,
    /// What the device may have cached was changed: making invalid entries valid needs no flush.
    stale: bool,
}

impl Prepared {
    /// Allocates the tables of a plan. `EINTR` if the process is killed meanwhile: there may be many.
    pub(crate) fn new(device: &NpuDevice, mut plan: Plan) -> Result<Self> {
        let mut prepared = Self::default();
        let mut last = None;
        heapsort(&mut plan.keys);
        for key in &plan.keys {
            if last == Some(key) {
                continue;
            }
            last = Some(key);
            check_killed()?;
            let level = (key.0 & (PAGE - 1)) as u32;
            let table = Table::new(device, level)?;
            if level == 0 {
                prepared.leaf_tables.push(table);
            } else {
                prepared.directories.push(table);
            }
        }
        for _ in 0..plan.stock {
            // Without it a zap only takes more away than it has to, and no change fails for that.
            let Ok(table) = Table::new(device, 0) else {
                break;
            };
            prepared.stock.push(table);
        }
        Ok(prepared)
    }

    fn take(&mut self, level: u32) -> Option<KBox<Table>> {
        if level == 0 {
            self.leaf_tables.pop()
        } else {
            self.directories.pop()
        }
    }
}

/// The page table of a VM.
pub(crate) struct PageTable {
    device: ARef<NpuDevice>,
    root: KBox<Table>,
    stock: Stock,
}

/// An invalidation under way.
pub(crate) struct Flush {
    hw: Arc<Hw>,
    /// None if there was nothing to forget.
    invalidation: Option<Invalidation>,
    garbage: Prepared,
}

impl PendingFlush for Flush {
    /// The tables that became empty, and those that were set aside in vain.
    type Garbage = Prepared;

    fn wait(self) -> (Result, Prepared) {
        let result = match self.invalidation {
            Some(invalidation) => self.hw.finish_invalidate(invalidation),
            None => Ok(()),
        };
        (result, self.garbage)
    }
}

impl PageTable {
    pub(crate) fn new(device: &NpuDevice) -> Result<Self> {
        Ok(Self {
            device: device.into(),
            root: Table::new(device, ROOT_LEVEL)?,
            stock: Stock::default(),
        })
    }

    /// The level-1 table that covers an address, and what its entry for the address has.
    fn find(&self, va: u64) -> (u32, &Slot) {
        let mut table = &self.root;
        let mut level = ROOT_LEVEL;
        loop {
            match &table.slots[index(va, level)] {
                Slot::Table(child) if level > 1 => {
                    table = child;
                    level -= 1;
                }
                slot => return (level, slot),
            }
        }
    }

    /// The level-1 table that covers an address, if it is there.
    fn directory(&self, va: u64) -> Option<&Table> {
        let mut table = &self.root;
        for level in (2..=ROOT_LEVEL).rev() {
            match &table.slots[index(va, level)] {
                Slot::Table(child) => table = child,
                _ => return None,
            }
        }
        Some(table)
    }

    /// Takes note of all tables that a 4 KiB leaf at an address (`small` false: a 2 MiB leaf) lacks.
    fn note(&self, plan: &mut Plan, va: u64, small: bool, basis: Basis) {
        // Only level-0 tables can vanish before the commit.
        let (level, slot) = self.find(va);
        // The entry found is in a table of `level`, so tables are missing from the level below on;
        // down to level 1, and for small leaves to 0.
        for missing in (1..level).rev() {
            plan.note(va, missing, Basis::Current);
        }
        let exists = level == 1 && matches!(slot, Slot::Table(_));
        if small && (basis != Basis::Current || !exists) {
            plan.note(va, 0, basis);
        }
    }
}

/// A range cut where an address is a multiple of `span`, a power of two.
fn parts(range: VaRange, span: u64) -> impl Iterator<Item = VaRange> {
    let mut at = range.start();
    core::iter::from_fn(move || {
        let end = (at | (span - 1)).saturating_add(1).min(range.end());
        let part = VaRange::from_bounds(at, end)?;
        at = end;
        Some(part)
    })
}

/// A commit: everything it needs, under names.
struct Commit<'a> {
    hw: &'a Hw,
    prepared: &'a mut Prepared,
}

impl Commit<'_> {
    /// The level-1 table for an address, making it and those above it if they are missing.
    fn directory<'t>(&mut self, root: &'t mut KBox<Table>, va: u64) -> Option<&'t mut KBox<Table>> {
        let mut table = root;
        for level in (2..=ROOT_LEVEL).rev() {
            let entry = index(va, level);
            if !matches!(table.slots[entry], Slot::Table(_)) {
                let Some(child) = self.prepared.take(level - 1) else {
                    warn_on!(true);
                    return None;
                };
                table.write(self.hw, entry, Pte::table(child.local()));
                table.used += 1;
                table.slots[entry] = Slot::Table(child);
            }
            let Slot::Table(child) = &mut table.slots[entry] else {
                return None;
            };
            table = child;
        }
        Some(table)
    }

    /// Puts something else into an entry of a level-1 table, by one write; a table that was there
    /// is retired.
    fn replace(&mut self, directory: &mut Table, entry: usize, slot: Slot) {
        let pte = match &slot {
            Slot::Empty => Pte::INVALID,
            Slot::Leaf(pte) => *pte,
            Slot::Table(table) => Pte::table(table.local()),
        };
        directory.write(self.hw, entry, pte);
        let was = !matches!(directory.slots[entry], Slot::Empty);
        let is = !matches!(slot, Slot::Empty);
        directory.used = directory.used + usize::from(is) - usize::from(was);
        self.prepared.stale |= was;
        if let Slot::Table(old) = core::mem::replace(&mut directory.slots[entry], slot) {
            self.prepared.retired.push(old);
        }
    }

    /// The level-0 table in an entry of a level-1 table, made if missing; a 2 MiB leaf there is
    /// split.
    fn leaf_table<'t>(&mut self, directory: &'t mut Table, entry: usize) -> Option<&'t mut Table> {
        if !matches!(directory.slots[entry], Slot::Table(_)) {
            let Some(mut table) = self.prepared.take(0) else {
                warn_on!(true);
                return None;
            };
            if let Slot::Leaf(pte) = directory.slots[entry] {
                table.fill(self.hw, pte);
            }
            self.replace(directory, entry, Slot::Table(table));
        }
        match &mut directory.slots[entry] {
            Slot::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Splits the 64 KiB leaf that an entry of a level-0 table belongs to, if it does.
    fn split_group(&mut self, table: &Table, entry: usize) {
        let first = entry - entry % GROUP;
        if table.used != 0 && table.read(self.hw, first).is_cont() {
            self.prepared.stale = true;
            for i in first..first + GROUP {
                let pte = table.read(self.hw, i);
                table.write(self.hw, i, pte.with_cont(false));
            }
        }
    }

    fn set(&mut self, table: &mut Table, entry: usize, pte: Pte) {
        // Reading device memory is slow, and pointless where there is nothing.
        let was = table.used != 0 && table.read(self.hw, entry).is_valid();
        if was || pte.is_valid() {
            table.write(self.hw, entry, pte);
        }
        table.used = table.used + usize::from(pte.is_valid()) - usize::from(was);
        self.prepared.stale |= was;
    }

    /// Unmaps part of a 2 MiB block.
    fn clear(&mut self, table: &mut Table, range: VaRange) {
        let first = index(range.start(), 0);
        let last = index(range.end() - 1, 0);
        for edge in [first, last + 1] {
            // A group that lies wholly inside needs splitting too: its entries go one by one.
            if edge % GROUP != 0 {
                self.split_group(table, edge);
            }
        }
        for entry in first..=last {
            if entry % GROUP == 0 {
                self.split_group(table, entry);
            }
            self.set(table, entry, Pte::INVALID);
        }
    }
}

impl Table {
    /// Number of tables from this one on.
    fn count(&self) -> usize {
        let below = self.slots.iter().map(|slot| match slot {
            Slot::Table(child) => child.count(),
            _ => 0,
        });
        1 + below.sum::<usize>()
    }

    /// Retires the empty tables below this one, of `level`, on the way to the addresses of a range;
    /// returns whether this one is empty then.
    ///
    /// `flushed` grows to what the retired tables cover: a walk may be on its way through them.
    fn prune(
        &mut self,
        hw: &Hw,
        retired: &mut Chain<Table>,
        level: u32,
        range: VaRange,
        flushed: &mut VaRange,
    ) -> bool {
        if level == 0 {
            return self.used == 0;
        }
        for entry in index(range.start(), level)..=index(range.end() - 1, level) {
            let Slot::Table(child) = &mut self.slots[entry] else {
                continue;
            };
            // The part of the range that lies in this entry's table.
            let span = coverage(level);
            let base = (range.start() & !(coverage(level + 1) - 1)) + span * entry as u64;
            let Some(covered) = VaRange::from_bounds(base, base + span) else {
                continue;
            };
            let part = covered.intersect(&range);
            if part.is_some_and(|part| child.prune(hw, retired, level - 1, part, flushed)) {
                self.write(hw, entry, Pte::INVALID);
                self.used -= 1;
                *flushed = flushed.hull(&covered);
                if let Slot::Table(child) = core::mem::replace(&mut self.slots[entry], Slot::Empty)
                {
                    retired.push(child);
                }
            }
        }
        self.used == 0
    }
}

impl gmem_vm::PageTable for PageTable {
    type Attrs = Attrs;
    type Plan = Plan;
    type Prepared = Prepared;
    type Flush = Flush;
    /// Local address of the root table.
    type Root = u64;

    fn root(&self) -> u64 {
        self.root.local()
    }

    fn make_room(plan: &mut Plan, range: VaRange, change: Change) -> Result {
        plan.room += match change {
            // At each level as many tables as the range touches.
            Change::Map => (1..=ROOT_LEVEL)
                .map(|level| {
                    let shift = coverage(level).ilog2();
                    (((range.end() - 1) >> shift) - (range.start() >> shift) + 1) as usize
                })
                .sum(),
            // One at each end, where a large leaf may have to be split.
            Change::Unmap => 2,
        };
        let room = plan.room - plan.keys.len();
        plan.keys.reserve(room, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        Ok(())
    }

    fn plan_map(&self, plan: &mut Plan, run: &MapRun<Attrs>, basis: Basis) {
        for block in parts(run.range, HUGE) {
            let location = run.location.advance(block.start() - run.range.start());
            let huge = block.size() == HUGE && location.address() % HUGE == 0;
            self.note(plan, block.start(), !huge, basis);
        }
    }

    fn plan_unmap(&self, plan: &mut Plan, range: VaRange, basis: Basis) {
        let mut ends = [Some(range.start()), Some(range.end())];
        if (range.start() ^ (range.end() - 1)) & !(HUGE - 1) == 0 {
            // Both ends in one block: a split there serves both.
            ends[1] = None;
            if range.is_aligned(HUGE) {
                ends[0] = None;
            }
        }
        for va in ends
            .into_iter()
            .flatten()
            .filter(|va| va % HUGE != 0 || range.size() < HUGE)
        {
            let splits = match basis {
                Basis::Unknown(_) => true,
                Basis::Current => matches!(self.find(va.min(range.end() - 1)), (1, Slot::Leaf(_))),
            };
            if splits {
                plan.note(va.min(range.end() - 1), 0, basis);
            }
        }
    }

    fn stats(&self) -> Stats {
        let tables = self.root.count() + self.stock.count();
        Stats {
            tables,
            bytes: tables as u64 * PAGE,
        }
    }

    fn map(&mut self, prepared: &mut Prepared, run: &MapRun<Attrs>) {
        let npu = self.device.hardware();
        let mut commit = Commit {
            hw: npu.hw(),
            prepared,
        };
        let sizes = match run.location {
            // There are no sparse leaves of 64 KiB.
            Location::Sparse => PAGE_SIZES & !BIG,
            _ => PAGE_SIZES,
        };
        for leaf in run.leaves(sizes) {
            let Some(directory) = commit.directory(&mut self.root, leaf.va) else {
                return;
            };
            let pte = Pte::leaf(leaf.location, run.access, run.attrs);
            let entry = index(leaf.va, 1);
            if leaf.size == HUGE {
                commit.replace(directory, entry, Slot::Leaf(pte));
                continue;
            }
            let Some(table) = commit.leaf_table(directory, entry) else {
                return;
            };
            let first = index(leaf.va, 0);
            commit.split_group(table, first);
            let pages = (leaf.size / PAGE) as usize;
            for i in 0..pages {
                commit.set(table, first + i, pte.advance(PAGE * i as u64));
            }
            if leaf.size == BIG {
                // Only once all sixteen are there: a walk that meets one of them checks the others.
                for i in 0..pages {
                    let pte = table.read(commit.hw, first + i);
                    table.write(commit.hw, first + i, pte.with_cont(true));
                }
            }
        }
    }

    fn unmap(&mut self, prepared: &mut Prepared, range: VaRange) {
        let npu = self.device.hardware();
        let mut commit = Commit {
            hw: npu.hw(),
            prepared,
        };
        unmap(&mut commit, &mut self.root, ROOT_LEVEL, range);
    }

    fn zap(&mut self, prepared: &mut Prepared, range: VaRange) -> VaRange {
        let npu = self.device.hardware();
        let commit = Commit {
            hw: npu.hw(),
            prepared,
        };
        Zap::new(commit, &mut self.stock, range).run(&mut self.root)
    }

    fn plan_stock(&self, plan: &mut Plan) {
        // A number, so that there is always room for it.
        plan.stock = self.stock.lacks();
    }

    fn stock(&mut self, prepared: &mut Prepared) {
        self.stock.refill(&mut prepared.stock);
    }

    fn take_accessed(&mut self, prepared: &mut Prepared, range: VaRange) -> bool {
        let npu = self.device.hardware();
        let hw = npu.hw();
        let mut accessed = false;
        for block in parts(range, HUGE) {
            let Some(directory) = self.directory(block.start()) else {
                continue;
            };
            let (table, first, last) = match &directory.slots[index(block.start(), 1)] {
                Slot::Empty => continue,
                Slot::Leaf(_) => {
                    let entry = index(block.start(), 1);
                    (directory, entry, entry)
                }
                Slot::Table(table) => {
                    let last = index(block.end() - 1, 0);
                    (&**table, index(block.start(), 0), last)
                }
            };
            for entry in first..=last {
                let pte = table.read(hw, entry);
                if pte.is_accessed() {
                    accessed = true;
                    // What the device sets meanwhile is lost; of that nobody uses more than this bit.
                    table.write(hw, entry, pte.without_accessed());
                }
            }
        }
        prepared.stale |= accessed;
        accessed
    }

    fn permits(&self, va: u64, access: FaultAccess) -> bool {
        if va >= VA_END {
            return false;
        }
        let pte = match self.find(va).1 {
            Slot::Leaf(pte) => *pte,
            Slot::Table(table) => table.read(self.device.hardware().hw(), index(va, 0)),
            Slot::Empty => Pte::INVALID,
        };
        pte.permits(access)
    }

    fn flush(&mut self, mut prepared: Prepared, range: VaRange, prune: Option<VaRange>) -> Flush {
        let npu = self.device.hardware();
        // Where a large leaf was split the whole of it has to go.
        let mut flushed = range.align_outward(HUGE);
        if let Some(prune) = prune {
            self.root.prune(
                npu.hw(),
                &mut prepared.retired,
                ROOT_LEVEL,
                prune,
                &mut flushed,
            );
        }
        // Of a device that is gone, entries read as invalid: then the flush has to make sure that it
        // accesses nothing any more.
        let stale = prepared.stale || !prepared.retired.is_empty() || npu.hw().is_gone();
        let invalidation = if stale {
            Some(npu.hw().start_invalidate(self.root.local(), flushed))
        } else {
            // Whoever made the same invalid before may still be waiting.
            npu.hw().last_invalidation()
        };
        Flush {
            hw: npu.hw_arc(),
            invalidation,
            garbage: prepared,
        }
    }
}

/// Unmaps a range that lies in a table of `level`.
fn unmap(commit: &mut Commit<'_>, table: &mut KBox<Table>, level: u32, range: VaRange) {
    let span = coverage(level);
    for part in parts(range, span) {
        let entry = index(part.start(), level);
        let whole = part.size() == span;
        match &mut table.slots[entry] {
            Slot::Empty => (),
            _ if whole && level == 1 => commit.replace(table, entry, Slot::Empty),
            Slot::Table(child) if level > 1 => unmap(commit, child, level - 1, part),
            _ => {
                if let Some(leaves) = commit.leaf_table(table, entry) {
                    commit.clear(leaves, part);
                }
            }
        }
    }
}

#[kunit_tests(npu_page_table)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_room_for_what_it_was_told() -> Result {
        let (mut plan, mut room) = (Plan::default(), 0);
        for (start, size) in [(HUGE - PAGE, 3 * HUGE), (1 << 39, 1 << 31), (PAGE, PAGE)] {
            let range = VaRange::new(start, size)?;
            <PageTable as gmem_vm::PageTable>::make_room(&mut plan, range, Change::Map)?;
            // As if no table were there.
            for block in parts(range, HUGE) {
                for level in (0..ROOT_LEVEL).rev() {
                    plan.note(block.start(), level, Basis::Current);
                }
            }
            assert!(plan.keys.len() > room && plan.keys.len() <= plan.room);
            room = plan.keys.len();
        }
        Ok(())
    }

    #[test]
    fn a_range_is_cut_at_multiples() -> Result {
        let range = VaRange::new(HUGE - PAGE, HUGE + 2 * PAGE)?;
        let mut expected = HUGE - PAGE;
        let mut sizes = [PAGE, HUGE, PAGE].into_iter();
        for part in parts(range, HUGE) {
            assert_eq!(part.start(), expected);
            assert_eq!(Some(part.size()), sizes.next());
            expected = part.end();
        }
        assert!(sizes.next().is_none());
        // The last address there is.
        let last = VaRange::new(VA_END - PAGE, PAGE)?;
        assert_eq!(parts(last, VA_END).count(), 1);
        Ok(())
    }
}
