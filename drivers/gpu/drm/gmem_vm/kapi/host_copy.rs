// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a page of a process was before it moved to a device, kept in host memory.
//!
//! As long as nobody writes to the page on the device, it says the same: then the page comes back without
//! being copied. A [`Migration`](super::migrate::Migration) [gives](super::migrate::Migration::commit_keeping) such copies as it moves
//! pages, [`HostCopies`] keeps them, and as a [`LockedFolio`] one is a destination again.
//!
//! Who keeps a copy has to know whether it is still true. The simplest rule is that a page that has one is not mapped
//! writable by the device.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{
    device_private::LockedFolio,
    shrinker::Shrink, //
};
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    }, //
};

/// Entries that are looked at at a time for memory to be given up.
const VISITED: usize = 1 << 16;

// Inline in the kernel; in `host_copy.c`.
extern "C" {
    fn gmem_vm_copy_may_stay(pfn: usize) -> bool;
    fn gmem_vm_copy_account(pfn: usize, pages: c_int);
    fn gmem_vm_copies_reclaimed(pages: usize);
}

/// Flags of a page that say what it was used for, but not whether it is sound.
const USED: usize = 1 << bindings::pageflags_PG_referenced
    | 1 << bindings::pageflags_PG_uptodate
    | 1 << bindings::pageflags_PG_dirty
    | 1 << bindings::pageflags_PG_workingset
    | 1 << bindings::pageflags_PG_checked
    | 1 << bindings::pageflags_PG_anon_exclusive
    | 1 << bindings::pageflags_PG_reclaim
    | 1 << bindings::pageflags_PG_swapbacked;

/// Its memory is not sound.
#[cfg(CONFIG_MEMORY_FAILURE)]
const POISONED: Option<usize> = Some(1 << bindings::pageflags_PG_hwpoison);
#[cfg(not(CONFIG_MEMORY_FAILURE))]
const POISONED: Option<usize> = None;

/// A page of host memory that belonged to a process, until that moved to a device; dropping it frees it, in any context.
///
/// # Invariants
///
/// The folio is valid, of one page, and has been the source of a migration that was done: it is mapped nowhere, on no
/// list and charged to nobody. One reference is ours, and all others are those of someone who only looks at it.
pub struct HostCopy(NonNull<bindings::folio>);

// SAFETY: A reference to a folio may be dropped anywhere; there is no other use of it while it is shared.
unsafe impl Send for HostCopy {}

impl HostCopy {
    /// Keeps a page that has been migrated. `None` if it is one of a large folio: the kernel counts those that are in
    /// use when they migrate and when they are freed, and a copy that comes back is freed less often. `None` also if it lies where all must
    /// be able to move at any time, since a copy can't.
    ///
    /// # Safety
    ///
    /// It must be a page of host memory that a migration has moved from, which is not finalized yet.
    pub(super) unsafe fn of_source(pfn: usize) -> Option<Self> {
        // SAFETY: By the requirements there is such a page, of which the migration has a reference.
        unsafe {
            let folio = bindings::page_folio(bindings::pfn_to_page(pfn));
            if bindings::folio_order(folio) > 0 || !gmem_vm_copy_may_stay(pfn) {
                return None;
            }
            bindings::folio_get(folio);
            gmem_vm_copy_account(pfn, 1);
            // INVARIANT: The migration unlocks it and drops its own reference, which was the last one but ours.
            NonNull::new(folio).map(Self)
        }
    }

    fn into_pfn(self) -> usize {
        // SAFETY: By the type invariant it is valid.
        let pfn = unsafe { bindings::folio_pfn(self.0.as_ptr()) };

        core::mem::forget(self);
        pfn
    }

    /// # Safety
    ///
    /// It must have come from [`into_pfn`](Self::into_pfn), and not have been taken back yet.
    unsafe fn from_pfn(pfn: usize) -> Option<Self> {
        // SAFETY: By the requirements the page is valid.
        let folio = unsafe { bindings::page_folio(bindings::pfn_to_page(pfn)) };

        // INVARIANT: By the requirements.
        NonNull::new(folio).map(Self)
    }

    /// Makes it a folio that nobody knows yet, with its contents. `None` if the memory has gone bad.
    ///
    /// Process context, may sleep: until those have gone who look at it.
    pub fn into_folio(self) -> Option<LockedFolio> {
        let folio = self.0.as_ptr();

        // SAFETY: By the type invariant the folio is valid, and nobody but us uses it; so its lock is ours when we have
        // it, by which its mapping may be changed. Its flags are changed atomically, as those change others who only
        // look at it.
        unsafe {
            bindings::folio_lock(folio);
            let page = folio.cast::<bindings::page>();
            let flags = Atomic::<usize>::from_ptr(&raw mut (*page).flags.f);
            let mut known = flags.load(Relaxed);
            loop {
                if POISONED.is_some_and(|poisoned| known & poisoned != 0) {
                    bindings::folio_unlock(folio);
                    return None;
                }
                match flags.cmpxchg(known, known & !USED, Full) {
                    Ok(_) => break,
                    Err(other) => known = other,
                }
            }
            // What it said of whom it belonged to.
            (*page).__bindgen_anon_1.__bindgen_anon_1.mapping = core::ptr::null_mut();
        }
        // SAFETY: It is locked, and by the type invariant a page of its own, whose reference goes along.
        unsafe {
            let pfn = self.into_pfn();
            gmem_vm_copy_account(pfn, -1);
            LockedFolio::from_pfn(pfn, 0)
        }
    }
}

impl Drop for HostCopy {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe {
            gmem_vm_copy_account(bindings::folio_pfn(self.0.as_ptr()), -1);
            bindings::folio_put(self.0.as_ptr());
        }
    }
}

/// Copies by the number of the page whose copy it is.
///
/// All calls are atomic and don't sleep, in any context.
///
/// # Invariants
///
/// An entry that is not 0 is one more than the page frame number of a [`HostCopy`], which belongs to it.
pub struct HostCopies {
    entries: KVVec<Atomic<usize>>,
    count: Atomic<usize>,
    /// Where memory is given up next.
    hand: Atomic<usize>,
}

impl HostCopies {
    /// For so many pages; 8 bytes each. `ENOMEM`.
    pub fn new(pages: usize) -> Result<Self> {
        let mut entries = KVVec::with_capacity(pages, GFP_KERNEL)?;
        for _ in 0..pages {
            entries.push(Atomic::new(0), GFP_KERNEL)?;
        }
        // INVARIANT: There are none.
        Ok(Self {
            entries,
            count: Atomic::new(0),
            hand: Atomic::new(0),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Whether there is one of a page.
    pub fn has(&self, page: usize) -> bool {
        let entry = self.entries.get(page);
        entry.is_some_and(|entry| entry.load(Relaxed) != 0)
    }

    fn exchange(&self, page: usize, new: usize) -> Option<HostCopy> {
        let old = self.entries.get(page)?.xchg(new, Full);
        let pfn = old.checked_sub(1)?;
        // SAFETY: By the type invariant it is one, which now is not in the entry any more.
        unsafe { HostCopy::from_pfn(pfn) }
    }

    /// Keeps the copy of a page.
    pub fn put(&self, page: usize, copy: HostCopy) {
        if page >= self.entries.len() {
            return;
        }
        self.count.fetch_add(1, Relaxed);
        // INVARIANT: It goes over to the entry.
        if self.exchange(page, copy.into_pfn() + 1).is_some() {
            self.count.fetch_sub(1, Relaxed);
        }
    }

    /// Takes the copy of a page, if there is one.
    pub fn take(&self, page: usize) -> Option<HostCopy> {
        if !self.has(page) {
            return None;
        }
        let copy = self.exchange(page, 0)?;
        self.count.fetch_sub(1, Relaxed);
        Some(copy)
    }

    /// Frees the copies of some pages. Returns how many there were.
    pub fn free(&self, pages: Range<usize>) -> usize {
        if self.count() == 0 {
            return 0;
        }
        pages.filter_map(|page| self.take(page)).count()
    }
}

impl Shrink for HostCopies {
    fn count(&self) -> usize {
        HostCopies::count(self)
    }

    fn scan(&self, most: usize) -> usize {
        let all = self.entries.len();
        let (mut page, mut freed) = (self.hand.load(Relaxed), 0);
        for _ in 0..all.min(VISITED) {
            if freed == most || self.count() == 0 {
                break;
            }
            page = if page + 1 < all { page + 1 } else { 0 };
            freed += usize::from(self.take(page).is_some());
        }
        self.hand.store(page, Relaxed);
        // SAFETY: A plain number.
        unsafe { gmem_vm_copies_reclaimed(freed) };
        freed
    }
}

impl Drop for HostCopies {
    fn drop(&mut self) {
        self.free(0..self.entries.len());
    }
}
