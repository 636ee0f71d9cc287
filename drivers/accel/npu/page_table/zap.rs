// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Taking mappings away with nothing set aside for it, while memory may be being reclaimed.
//!
//! Owns the [`Stock`] of tables with which 2 MiB leaves are split. Without one a leaf goes as a whole, which
//! costs faults later but is never wrong. All under the lock of the tables; nothing is allocated or
//! freed.

use super::{
    coverage,
    index,
    parts,
    Commit,
    Slot,
    Table,
    HUGE,
    ROOT_LEVEL, //
};
use crate::pte::Pte;
use gmem_vm::{
    chain::Chain,
    VaRange, //
};
use kernel::prelude::*;

/// Tables in stock: two zaps that each meet a 2 MiB leaf in part at both ends.
const SIZE: usize = 4;

/// Level-0 tables for zaps, which have nothing set aside for them.
#[derive(Default)]
pub(super) struct Stock {
    tables: Chain<Table>,
    count: usize,
}

impl Stock {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn take(&mut self) -> Option<KBox<Table>> {
        let table = self.tables.pop()?;
        self.count -= 1;
        Some(table)
    }

    /// How many there is room for.
    pub(super) fn lacks(&self) -> usize {
        SIZE - self.count
    }

    /// Takes what there is room for out of a chain.
    pub(super) fn refill(&mut self, from: &mut Chain<Table>) {
        while self.lacks() != 0 {
            let Some(table) = from.pop() else {
                return;
            };
            self.tables.push(table);
            self.count += 1;
        }
    }
}

/// A zap: a commit, what it can split with, and how far it went.
pub(super) struct Zap<'a> {
    commit: Commit<'a>,
    stock: &'a mut Stock,
    range: VaRange,
    /// What is not mapped any more.
    zapped: VaRange,
}

impl<'a> Zap<'a> {
    pub(super) fn new(commit: Commit<'a>, stock: &'a mut Stock, range: VaRange) -> Self {
        Self {
            commit,
            stock,
            range,
            zapped: range,
        }
    }

    /// Makes all entries for the range invalid; returns what is not mapped any more.
    pub(super) fn run(mut self, root: &mut Table) -> VaRange {
        self.clear(root, ROOT_LEVEL, self.range);
        self.zapped
    }

    /// Makes the entries for a range that lies in a table of `level` invalid.
    fn clear(&mut self, table: &mut Table, level: u32, range: VaRange) {
        for part in parts(range, coverage(level)) {
            let entry = index(part.start(), level);
            match &mut table.slots[entry] {
                Slot::Empty => (),
                Slot::Table(child) if level > 1 => self.clear(child, level - 1, part),
                Slot::Table(leaves) => self.commit.clear(leaves, part),
                Slot::Leaf(pte) => {
                    let pte = *pte;
                    self.clear_leaf(table, entry, pte, part);
                }
            }
        }
    }

    /// Makes a 2 MiB leaf invalid, or if possible only the part that is meant.
    fn clear_leaf(&mut self, directory: &mut Table, entry: usize, pte: Pte, part: VaRange) {
        let whole = part.align_outward(HUGE);
        let spare = if part == whole {
            None
        } else {
            self.stock.take()
        };
        let Some(mut table) = spare else {
            self.zapped = self.zapped.hull(&whole);
            return self.commit.replace(directory, entry, Slot::Empty);
        };
        table.fill(self.commit.hw, pte);
        self.commit.replace(directory, entry, Slot::Table(table));
        if let Slot::Table(table) = &mut directory.slots[entry] {
            self.commit.clear(table, part);
        }
    }
}

#[kunit_tests(npu_page_table_zap)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_stock_lacks_all() {
        let mut stock = Stock::default();
        assert_eq!(stock.lacks(), SIZE);
        assert!(stock.take().is_none());
        stock.refill(&mut Chain::new());
        assert_eq!(stock.lacks(), SIZE);
    }
}
