// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Moving the memory of processes to other pages, in host memory or in that of a device.
//!
//! A [`Migration`] has collected pages: they are locked, and mapped nowhere; who touches them waits. Its owner gives
//! each a destination, and copies; then it [commits](Migration::commit), or drops it, and all is as it was. What
//! has no destination stays where it is, so a migration may succeed in part.
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

use super::{
    area::Area,
    device_private::{
        DeviceMemory,
        DevicePages,
        LockedFolio, //
    },
    host_copy::HostCopy, //
};
use core::{
    ffi::c_void,
    marker::PhantomData,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

// Inline in the kernel; in `host_copy.c`.
extern "C" {
    fn gmem_vm_has_left(pfn: usize) -> bool;
}

const VALID: usize = bindings::MIGRATE_PFN_VALID as usize;
const MIGRATE: usize = bindings::MIGRATE_PFN_MIGRATE as usize;
const WRITE: usize = bindings::MIGRATE_PFN_WRITE as usize;
const COMPOUND: usize = bindings::MIGRATE_PFN_COMPOUND as usize;
const SHIFT: u32 = bindings::MIGRATE_PFN_SHIFT;

/// log2 of the pages of the one large folio there is.
pub const HUGE_ORDER: u32 = 9;
/// Bytes of it.
pub const HUGE_SIZE: usize = PAGE_SIZE << HUGE_ORDER;

/// How many of some bytes from an address on lie where one huge page can have them all.
pub const fn within_huge(address: u64, bytes: u64) -> u64 {
    let left = HUGE_SIZE as u64 - address % HUGE_SIZE as u64;
    if left < bytes {
        left
    } else {
        bytes
    }
}

/// What a part of a range has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nothing yet: it reads as zeroes.
    Nothing,
    /// Pages, from this page frame number on.
    Pages(usize),
}

/// A page, or a large folio, that was collected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Which page of the range is the first.
    pub page: usize,
    /// log2 of the pages.
    pub order: u32,
    /// What is there.
    pub source: Source,
    /// The process that it was collected from may write it as it is, which means that no other one has it. Not known of
    /// [a device's pages](Migration::evict).
    pub write: bool,
}

impl Slot {
    /// The pages one by one.
    pub fn split(self) -> impl Iterator<Item = Self> {
        (0..1usize << self.order).map(move |i| Self {
            page: self.page + i,
            order: 0,
            source: match self.source {
                Source::Nothing => Source::Nothing,
                Source::Pages(pfn) => Source::Pages(pfn + i),
            },
            write: self.write,
        })
    }
}

/// Pages of a process, or of a device, that are about to move.
///
/// # Invariants
///
/// - `raw` was set up with `src` and `dst`, which have an entry for each page of the range, and neither finalized
///   nor changed since but by adding destinations. It has no `vma` if it is pages of a device that were collected.
/// - Each destination in `dst` is the first page of a folio, of order [`HUGE_ORDER`] if it says so and else of order 0,
///   whose lock and one reference are ours.
#[must_use]
pub struct Migration<'a> {
    raw: bindings::migrate_vma,
    src: KVVec<usize>,
    dst: KVVec<usize>,
    /// The area stays, as the process's memory map is locked; or the pages of the device do.
    _of: PhantomData<&'a ()>,
}

/// How a migration went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Pages that were there and are somewhere else now.
    pub pages: usize,
    /// Pages that are new.
    pub made: usize,
}

fn entries(pages: usize) -> Result<(KVVec<usize>, KVVec<usize>)> {
    let new = || -> Result<KVVec<usize>> {
        let mut entries = KVVec::with_capacity(pages, GFP_KERNEL)?;
        entries.resize(pages, 0, GFP_KERNEL)?;
        Ok(entries)
    };
    Ok((new()?, new()?))
}

/// Leaves pages out of which what was in them has moved on: as the CPU faults on one, its fault holds on to it for a
/// moment longer than the process does.
///
/// # Safety
///
/// They must have been collected by `migrate_device_pfns`, and be neither finalized nor changed.
#[inline(never)]
unsafe fn leave_out_moved(src: &mut [usize]) {
    const BOTH: usize = VALID | MIGRATE;
    for entry in src.iter_mut().filter(|entry| **entry & BOTH == BOTH) {
        // SAFETY: By the requirements the page is locked, and valid.
        if unsafe { gmem_vm_has_left(*entry >> SHIFT) } {
            *entry &= !MIGRATE;
        }
    }
}

impl<'a> Migration<'a> {
    fn collect(
        area: Area<'a>,
        range: Range<usize>,
        owner: *const c_void,
        select: u32,
        fault: Option<NonNull<bindings::page>>,
    ) -> Result<Self> {
        if (range.start | range.end) % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        let pages = range.len() >> PAGE_SHIFT;
        let (mut src, mut dst) = entries(pages)?;
        let mut raw = bindings::migrate_vma {
            vma: area.as_ptr(),
            src: src.as_mut_ptr(),
            dst: dst.as_mut_ptr(),
            start: range.start,
            end: range.end,
            pgmap_owner: owner.cast_mut(),
            flags: select as usize,
            fault_page: fault.map_or(core::ptr::null_mut(), |page| page.as_ptr()),
            ..Default::default()
        };

        // SAFETY: The area is valid and its memory map locked; the arrays have an entry for each page of the range,
        // which is made of whole pages, and which the call checks to lie in the area.
        to_result(unsafe { bindings::migrate_vma_setup(&mut raw) })?;

        // INVARIANT: It was just set up. There are no destinations yet.
        Ok(Self {
            raw,
            src,
            dst,
            _of: PhantomData,
        })
    }

    /// Collects what lies in host memory, or nowhere, of a range of an area; in huge folios where they are and the
    /// range has the whole of them.
    ///
    /// Process context, sleeps. Everybody who uses the pages is told ([`super::mmu_notifier`]) before this returns,
    /// with `owner` as a hint. What is pinned or in use by someone else at this moment is left out.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is empty, doesn't lie in the area or isn't made of whole pages, or the area's memory
    /// can't be moved to a device at all: huge pages of hugetlbfs, DAX, I/O memory; `ENOMEM`.
    pub fn to_device(area: Area<'a>, range: Range<usize>, owner: *const c_void) -> Result<Self> {
        let select = bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM
            | bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_COMPOUND;
        Self::collect(area, range, owner, select, None)
    }

    /// Collects what lies in the memory of a device, by the name of its owner, of a range of an area.
    ///
    /// As [`to_device`](Self::to_device).
    pub fn to_host(area: Area<'a>, range: Range<usize>, owner: *const c_void) -> Result<Self> {
        Self::back(area, range, owner, None)
    }

    /// As [`to_host`](Self::to_host), also for a page that was touched, which the caller has locked.
    pub(super) fn back(
        area: Area<'a>,
        range: Range<usize>,
        owner: *const c_void,
        fault: Option<NonNull<bindings::page>>,
    ) -> Result<Self> {
        let select = bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_DEVICE_PRIVATE
            | bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_COMPOUND;
        Self::collect(area, range, owner, select, fault)
    }

    /// Collects pages of a device's memory, wherever they are mapped. What is free is left out, as is a huge folio
    /// of which the range has not all, and what someone uses at this moment.
    ///
    /// The range of the migration is made of these pages only. A huge folio can't be split then: it moves to a huge
    /// one or stays.
    ///
    /// Process context, sleeps. `ENOMEM`.
    pub fn evict<T: DeviceMemory>(pages: &'a DevicePages<T>, range: Range<usize>) -> Result<Self> {
        let mut src = KVVec::new();
        pages.each_live(range, |pfn| Ok(src.push(pfn, GFP_KERNEL)?))?;
        let count = src.len();
        let mut dst = KVVec::new();
        dst.resize(count, 0, GFP_KERNEL)?;

        // SAFETY: These are page frame numbers of the device, whose pages exist as long as `pages` does.
        to_result(unsafe { bindings::migrate_device_pfns(src.as_mut_ptr(), count) })?;

        // SAFETY: What was collected is locked, and valid.
        unsafe { leave_out_moved(&mut src) };

        // INVARIANT: It was just set up, and has no area.
        Ok(Self {
            raw: bindings::migrate_vma {
                src: src.as_mut_ptr(),
                dst: dst.as_mut_ptr(),
                npages: count,
                ..Default::default()
            },
            src,
            dst,
            _of: PhantomData,
        })
    }

    /// Whether a huge folio may be given destinations page by page.
    pub fn splits(&self) -> bool {
        !self.raw.vma.is_null()
    }

    /// Pages of the range.
    pub fn pages(&self) -> usize {
        self.src.len()
    }

    /// Address of the first page in the process; 0 if pages of a device were collected.
    pub fn start(&self) -> usize {
        self.raw.start
    }

    /// The address of the memory map of the process whose pages were collected, by which it can be told from others; 0 if pages
    /// of a device were.
    pub fn mm(&self) -> usize {
        // SAFETY: By the type invariants the area is valid if there is one, and lives as long as `self`.
        unsafe { self.raw.vma.as_ref() }.map_or(0, |area| area.vm_mm.addr())
    }

    /// What was collected, from a page on: that page or one behind it.
    pub fn next(&self, page: usize) -> Option<Slot> {
        let found = self
            .src
            .get(page..)?
            .iter()
            .position(|e| e & MIGRATE != 0)?;
        let page = page + found;
        let entry = self.src[page];
        Some(Slot {
            page,
            order: if entry & COMPOUND != 0 { HUGE_ORDER } else { 0 },
            source: if entry & VALID != 0 {
                Source::Pages(entry >> SHIFT)
            } else {
                Source::Nothing
            },
            write: entry & (VALID | WRITE) == VALID | WRITE,
        })
    }

    /// The page frame numbers of single pages that were collected, from a page on.
    pub fn singles(&self, page: usize) -> impl Iterator<Item = usize> + '_ {
        let entries = self.src.get(page..).unwrap_or_default();
        entries
            .iter()
            .filter(|&e| e & (MIGRATE | COMPOUND) == MIGRATE)
            .map(|e| e >> SHIFT)
    }

    /// Gives a destination to what was collected, or to one page of it. Another kind than fits is dropped. Of a huge
    /// folio that is given destinations page by page, nothing moves unless its first page has one.
    pub fn set(&mut self, slot: &Slot, folio: LockedFolio) {
        let fits = folio.order() == slot.order
            && (slot.order == 0 || slot.order == HUGE_ORDER)
            && self.dst.get(slot.page) == Some(&0)
            && slot.page + (1 << slot.order) <= self.dst.len();
        if !fits {
            return;
        }
        let order = folio.order();
        // INVARIANT: The lock and the reference go along; slots are of these two orders, or nothing fits.
        self.dst[slot.page] = folio.into_pfn() << SHIFT
            | VALID
            | self.src[slot.page] & WRITE
            | if order > 0 { COMPOUND } else { 0 };
    }

    /// Takes the destination back that a page of the range was given.
    pub fn unset(&mut self, page: usize) {
        let Some(entry) = self.dst.get_mut(page) else {
            return;
        };
        let entry = core::mem::take(entry);
        if entry & VALID != 0 {
            let order = if entry & COMPOUND != 0 { HUGE_ORDER } else { 0 };
            // SAFETY: By the type invariant it is a folio of ours; it is not any more in `dst`.
            drop(unsafe { LockedFolio::from_pfn(entry >> SHIFT, order) });
        }
    }

    /// Makes small holes of a huge one of which pages are to be made one by one: the core inserts all of them if the
    /// first one has a destination, which it takes for granted of the others, and else none.
    fn split_holes(&mut self) {
        let mut page = 0;
        while let Some(slot) = self.next(page) {
            page = slot.page + (1 << slot.order);
            let is_hole = slot.order > 0 && slot.source == Source::Nothing;
            if is_hole && self.dst[slot.page] & COMPOUND == 0 {
                // INVARIANT: It is what would have been collected without huge folios.
                self.src[slot.page..page].fill(MIGRATE);
            }
        }
    }

    /// Moves what has got a destination, and lets all be used again. The contents must have been copied by now, or
    /// cleared where there was nothing: the process gets them as they are.
    pub fn commit(self) -> Moved {
        self.commit_with(None)
    }

    /// As [`commit`](Self::commit). What pages of host memory were before that moved by one is not freed, but given to
    /// `keep`, with the number of the page in the range and the page frame number of where it is now. Not called
    /// for others.
    ///
    /// Nobody can use a page where it is now before that call returns.
    pub fn commit_keeping(self, mut keep: impl FnMut(usize, usize, HostCopy)) -> Moved {
        self.commit_with(Some(&mut keep))
    }

    fn commit_with(mut self, mut keep: Option<&mut dyn FnMut(usize, usize, HostCopy)>) -> Moved {
        self.split_holes();
        let count = self.src.len();

        // SAFETY: By the type invariants, it was set up by what goes with either, and all destinations are locked.
        unsafe {
            if self.raw.vma.is_null() {
                bindings::migrate_device_pages(self.src.as_mut_ptr(), self.dst.as_mut_ptr(), count);
            } else {
                bindings::migrate_vma_pages(&mut self.raw);
            }
        }
        let mut moved = Moved::default();
        let is_host = !self.raw.vma.is_null()
            && self.raw.flags & bindings::migrate_vma_direction_MIGRATE_VMA_SELECT_SYSTEM as usize
                != 0;
        for (page, (src, dst)) in self.src.iter().zip(&self.dst).enumerate() {
            if src & MIGRATE != 0 && dst & VALID != 0 {
                let keep = keep
                    .as_mut()
                    .filter(|_| is_host && src & VALID != 0 && (src | dst) & COMPOUND == 0);
                if let Some(keep) = keep {
                    // SAFETY: What was collected of the host has moved, and is not finalized.
                    if let Some(copy) = unsafe { HostCopy::of_source(src >> SHIFT) } {
                        keep(page, dst >> SHIFT, copy);
                    }
                }
                let pages = if dst & COMPOUND != 0 {
                    1 << HUGE_ORDER
                } else {
                    1
                };
                if src & VALID != 0 {
                    moved.pages += pages;
                } else {
                    moved.made += pages;
                }
            }
        }
        // Unlocks and puts also what was not used.
        self.finalize();
        // INVARIANT: What is not there need not be finalized.
        (self.src, self.dst) = (KVVec::new(), KVVec::new());
        moved
    }

    /// Lets all be used again; afterwards `src` and `dst` are of no use.
    fn finalize(&mut self) {
        if self.src.is_empty() {
            return;
        }
        // SAFETY: By the type invariants; who calls this doesn't use the entries any more.
        unsafe {
            if self.raw.vma.is_null() {
                let count = self.src.len();
                bindings::migrate_device_finalize(
                    self.src.as_mut_ptr(),
                    self.dst.as_mut_ptr(),
                    count,
                );
            } else {
                bindings::migrate_vma_finalize(&mut self.raw);
            }
        }
    }
}

impl Drop for Migration<'_> {
    fn drop(&mut self) {
        for page in 0..self.dst.len() {
            self.unset(page);
        }
        self.finalize();
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
