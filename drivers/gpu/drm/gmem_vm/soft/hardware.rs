// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What would be hardware: memory for tables, the walk, and a TLB that really caches.
//!
//! Table memory is an array of words in frames of one table each. The walk reads it without a lock,
//! as a device would while the driver writes; what it found it remembers, entries and tables, until it
//! is told to forget. So a flush that is missing or too small gives wrong translations, and a table
//! that is given back too early is met with poison in it.

use gmem_vm::VaRange;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        SpinLock, //
    }, //
};

/// Bytes of a page.
pub(crate) const PAGE: u64 = 64 << 10;
/// Entries of a table.
pub(crate) const ENTRIES: usize = 1024;
/// Bytes that an entry of the root table covers.
pub(crate) const TABLE_SPAN: u64 = PAGE * ENTRIES as u64;
/// Bytes of an address space.
pub(crate) const SPAN: u64 = TABLE_SPAN * ENTRIES as u64;

/// An entry that is valid.
pub(crate) const VALID: u64 = 1 << 0;
/// The device may write.
pub(crate) const WRITE: u64 = 1 << 1;
/// The device may fetch commands.
pub(crate) const EXEC: u64 = 1 << 2;
/// There is no memory behind it.
pub(crate) const SPARSE: u64 = 1 << 3;
/// Where the driver's attributes are.
pub(crate) const ATTRS_SHIFT: u32 = 4;
/// What a table that was given back is full of: an entry with bits that none may have.
const POISON: u64 = VALID | 0xdead << 48;
/// The bits of an entry that must be zero.
const RESERVED: u64 = 0xffff << 48 | 0xff00;

/// Tables that the TLB has room for.
const TLB_TABLES: usize = 8;
/// Pages that the TLB has room for.
const TLB_PAGES: usize = 64;

/// What the walk remembers: the address that an entry covers from, the root, and the entry.
#[derive(Clone, Copy)]
struct Cached {
    root: u32,
    start: u64,
    entry: u64,
}

/// What the walk remembers, each where its address says.
struct Tlb {
    tables: [Option<Cached>; TLB_TABLES],
    pages: [Option<Cached>; TLB_PAGES],
}

/// A device.
#[pin_data]
pub(crate) struct Hardware {
    words: KVVec<Atomic<u64>>,
    /// Frames that nobody owns.
    #[pin]
    free: SpinLock<KVVec<u32>>,
    #[pin]
    tlb: SpinLock<Tlb>,
    flushes: Atomic<u64>,
    /// It confirms no flush.
    broken: Atomic<bool>,
}

impl Hardware {
    /// A device with memory for so many tables.
    pub(crate) fn new(frames: u32) -> Result<Arc<Self>> {
        let count = frames as usize * ENTRIES;
        let mut words = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            words.push(Atomic::new(POISON), GFP_KERNEL)?;
        }
        let mut free = KVVec::with_capacity(frames as usize, GFP_KERNEL)?;
        for number in (0..frames).rev() {
            free.push(number, GFP_KERNEL)?;
        }
        Arc::pin_init(
            try_pin_init!(Self {
                words,
                free <- new_spinlock!(free, "gmem_soft::Hardware::free"),
                tlb <- new_spinlock!(Tlb {
                    tables: [None; TLB_TABLES],
                    pages: [None; TLB_PAGES],
                }, "gmem_soft::Hardware::tlb"),
                flushes: Atomic::new(0),
                broken: Atomic::new(false),
            }),
            GFP_KERNEL,
        )
    }

    /// Number of frames that nobody owns.
    pub(crate) fn free_frames(&self) -> usize {
        self.free.lock().len()
    }

    /// Number of flushes so far.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Relaxed)
    }

    /// From now on the device confirms no flush, or does so again.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Relaxed);
    }

    fn word(&self, frame: u32, entry: usize) -> Result<u64> {
        let word = self.words.get(frame as usize * ENTRIES + entry);
        let word = word.ok_or(EFAULT)?.load(Acquire);
        if word & RESERVED != 0 {
            return Err(EFAULT);
        }
        Ok(word)
    }

    /// The entry with which the device accesses an address, 0 if there is none.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it met a table that is none.
    pub(crate) fn translate(&self, root: u32, va: u64) -> Result<u64> {
        self.translate_with(&mut self.tlb.lock(), root, va)
    }

    /// The entries for so many pages from an address on, each with the page's number.
    pub(crate) fn translate_pages(
        &self,
        root: u32,
        va: u64,
        pages: usize,
        mut f: impl FnMut(usize, u64) -> Result,
    ) -> Result {
        let mut tlb = self.tlb.lock();
        for page in 0..pages {
            f(
                page,
                self.translate_with(&mut tlb, root, va + PAGE * page as u64)?,
            )?;
        }
        Ok(())
    }

    fn translate_with(&self, tlb: &mut Tlb, root: u32, va: u64) -> Result<u64> {
        let page = va & !(PAGE - 1);
        let slot = (page / PAGE) as usize % TLB_PAGES;
        if let Some(entry) = lookup(&tlb.pages[slot], root, page) {
            return Ok(entry);
        }
        let span = va & !(TABLE_SPAN - 1);
        let table_slot = (span / TABLE_SPAN) as usize % TLB_TABLES;
        let table = match lookup(&tlb.tables[table_slot], root, span) {
            Some(table) => table,
            None => self.word(root, (va / TABLE_SPAN) as usize)?,
        };
        if table & VALID == 0 {
            return Ok(0);
        }
        tlb.tables[table_slot] = Some(Cached {
            root,
            start: span,
            entry: table,
        });
        let entry = self.word((table >> 16) as u32, (va / PAGE) as usize % ENTRIES)?;
        if entry & VALID != 0 {
            tlb.pages[slot] = Some(Cached {
                root,
                start: page,
                entry,
            });
        }
        Ok(entry)
    }

    /// Forgets what the walk remembers of a range. `EIO` if the device does not confirm it. (A driver of
    /// hardware has to cut that off then, since memory is freed, and to say that it is gone.)
    pub(crate) fn invalidate(&self, root: u32, range: VaRange) -> Result {
        self.flushes.add(1, Relaxed);
        let mut tlb = self.tlb.lock();
        let Tlb { tables, pages } = &mut *tlb;
        forget(tables, root, TABLE_SPAN, range);
        forget(pages, root, PAGE, range);
        if self.broken.load(Relaxed) {
            return Err(EIO);
        }
        Ok(())
    }
}

/// Forgets entries, for `size` bytes each, that have an address in common with a range.
fn forget(cached: &mut [Option<Cached>], root: u32, size: u64, range: VaRange) {
    for slot in cached {
        let stale =
            |c: &Cached| c.root == root && c.start < range.end() && range.start() < c.start + size;
        if slot.as_ref().is_some_and(stale) {
            *slot = None;
        }
    }
}

fn lookup(cached: &Option<Cached>, root: u32, start: u64) -> Option<u64> {
    let cached = cached.as_ref()?;
    (cached.root == root && cached.start == start).then_some(cached.entry)
}

/// Memory for a table, owned.
pub(crate) struct Frame {
    hardware: Arc<Hardware>,
    number: u32,
}

impl Frame {
    /// Takes a frame, all entries 0. `ENOSPC`.
    pub(crate) fn new(hardware: &Arc<Hardware>) -> Result<Self> {
        let number = hardware.free.lock().pop().ok_or(ENOSPC)?;
        let frame = Self {
            hardware: hardware.clone(),
            number,
        };
        frame.fill(0);
        Ok(frame)
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    fn word(&self, entry: usize) -> &Atomic<u64> {
        &self.hardware.words[self.number as usize * ENTRIES + entry]
    }

    pub(crate) fn write(&self, entry: usize, value: u64) {
        self.word(entry).store(value, Release);
    }

    pub(crate) fn read(&self, entry: usize) -> u64 {
        self.word(entry).load(Relaxed)
    }

    fn fill(&self, value: u64) {
        for entry in 0..ENTRIES {
            self.write(entry, value);
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.fill(POISON);
        let given = self.hardware.free.lock().push_within_capacity(self.number);
        // There is room for all frames there are.
        kernel::warn_on!(given.is_err());
    }
}
