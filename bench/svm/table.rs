// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The page table, in host memory: one root table of 512 entries, and for each entry of it a table of
//! 512 pages that is there from the beginning, so that nothing has to be planned or prepared. Without
//! a TLB: the device walks the table for each access.

use gmem_vm::{
    page_table::Stats,
    Basis,
    Change,
    FaultAccess,
    Location,
    MapRun,
    PendingFlush,
    VaRange, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    }, //
};

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4 << 10;
/// Bytes of a large page.
pub(crate) const LARGE: u64 = 2 << 20;
/// Entries of a table.
const ENTRIES: usize = 512;
/// Bytes of an address space.
pub(crate) const SPAN: u64 = LARGE * ENTRIES as u64;

const VALID: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXEC: u64 = 1 << 2;
const LOCAL: u64 = 1 << 3;
const TABLE: u64 = 1 << 4;

/// What the device walks.
pub(crate) struct Words(KVVec<Atomic<u64>>);

impl Words {
    fn new() -> Result<Arc<Self>> {
        let count = (ENTRIES + 1) * ENTRIES;
        let mut words = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            words.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Arc::new(Self(words), GFP_KERNEL)?)
    }

    fn root(&self, index: usize) -> &Atomic<u64> {
        &self.0[index]
    }

    fn table(&self, index: usize) -> &[Atomic<u64>] {
        &self.0[(index + 1) * ENTRIES..(index + 2) * ENTRIES]
    }

    /// Whether an access to an address is allowed.
    pub(crate) fn permits(&self, va: u64, access: FaultAccess) -> bool {
        let needed = match access {
            FaultAccess::Read => VALID,
            FaultAccess::Write => VALID | WRITE,
            FaultAccess::Fetch => VALID | EXEC,
        };
        let index = (va / LARGE) as usize;
        if index >= ENTRIES {
            return false;
        }
        let mut entry = self.root(index).load(Acquire);
        if entry & TABLE != 0 {
            entry = self.table(index)[(va / PAGE) as usize % ENTRIES].load(Acquire);
        }
        entry & needed == needed
    }
}

/// The page table of a VM.
pub(crate) struct PageTable {
    words: Arc<Words>,
    /// Tables in use.
    tables: usize,
}

impl PageTable {
    /// `ENOMEM`
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            words: Words::new()?,
            tables: 0,
        })
    }

    pub(crate) fn words(&self) -> &Arc<Words> {
        &self.words
    }

    /// The table for an entry of the root table; makes it from the large page that was there, if any.
    fn table(&mut self, index: usize) -> &[Atomic<u64>] {
        let root = self.words.root(index).load(Relaxed);
        if root & TABLE == 0 {
            for (i, word) in self.words.table(index).iter().enumerate() {
                let entry = match root {
                    0 => 0,
                    large => large + PAGE * i as u64,
                };
                word.store(entry, Relaxed);
            }
            self.words.root(index).store(TABLE, Release);
            self.tables += 1;
        }
        self.words.table(index)
    }

    fn set_large(&mut self, index: usize, entry: u64) {
        if self.words.root(index).load(Relaxed) & TABLE != 0 {
            self.tables -= 1;
        }
        self.words.root(index).store(entry, Release);
    }

    /// Makes the entries for a range invalid.
    fn clear(&mut self, range: VaRange) {
        let mut at = range.start();
        while at < range.end() {
            let index = (at / LARGE) as usize;
            let end = ((index as u64 + 1) * LARGE).min(range.end());
            if end - at == LARGE {
                self.set_large(index, 0);
            } else if self.words.root(index).load(Relaxed) != 0 {
                let first = (at / PAGE) as usize % ENTRIES;
                let count = ((end - at) / PAGE) as usize;
                for word in &self.table(index)[first..first + count] {
                    word.store(0, Release);
                }
            }
            at = end;
        }
    }
}

/// The entry for a page, but for its address.
fn bits(run: &MapRun<()>) -> u64 {
    let flag = |set, bit| if set { bit } else { 0 };
    VALID | flag(run.access.write, WRITE) | flag(run.access.exec, EXEC)
}

fn entry(bits: u64, location: Location) -> u64 {
    match location {
        Location::Device(address) => bits | LOCAL | address,
        location => bits | location.address(),
    }
}

/// Nothing is cached, so nothing has to be waited for.
pub(crate) struct Flush;

impl PendingFlush for Flush {
    type Garbage = ();

    fn wait(self) -> (Result, ()) {
        (Ok(()), ())
    }
}

impl gmem_vm::PageTable for PageTable {
    type Attrs = ();
    type Plan = ();
    type Prepared = ();
    type Flush = Flush;
    type Root = ();

    fn root(&self) {}

    fn make_room(_plan: &mut (), _range: VaRange, _change: Change) -> Result {
        Ok(())
    }

    fn plan_map(&self, _plan: &mut (), _run: &MapRun<()>, _basis: Basis) {}

    fn plan_unmap(&self, _plan: &mut (), _range: VaRange, _basis: Basis) {}

    fn map(&mut self, _prepared: &mut (), run: &MapRun<()>) {
        let bits = bits(run);
        for leaf in run.leaves(PAGE | LARGE) {
            let index = (leaf.va / LARGE) as usize;
            let entry = entry(bits, leaf.location);
            if leaf.size == LARGE {
                self.set_large(index, entry);
            } else {
                self.table(index)[(leaf.va / PAGE) as usize % ENTRIES].store(entry, Release);
            }
        }
    }

    fn unmap(&mut self, _prepared: &mut (), range: VaRange) {
        self.clear(range);
    }

    fn zap(&mut self, _prepared: &mut (), range: VaRange) -> VaRange {
        self.clear(range);
        range
    }

    fn permits(&self, va: u64, access: FaultAccess) -> bool {
        self.words.permits(va, access)
    }

    fn stats(&self) -> Stats {
        Stats {
            tables: 1 + self.tables,
            bytes: (8 * ENTRIES * (1 + self.tables)) as u64,
        }
    }

    fn flush(&mut self, _prepared: (), _range: VaRange, _prune: Option<VaRange>) -> Flush {
        Flush
    }
}
