// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Looking at a process's memory as the CPU maps it, and making the CPU map it.
//!
//! # No page table entry from a stale snapshot
//!
//! What the CPU maps can be read only where it is so, which the types see to:
//!
//! - A [`Snapshot`] is taken through a [`Window`], which was opened before and has its range. It has no way to be
//!   read by itself.
//! - [`Snapshot::look`] and [`Snapshot::validate`] give a [`Valid`] only if the window is fresh. That holds the lock
//!   which every change takes before it happens, in [`Invalidate::start`]'s caller, whatever its owner does.
//! - [`Valid::runs`] borrows from that. So page table entries are written while nothing can change, and a change
//!   that comes later finds them there, for [`Invalidate::start`] to take out.
//! - A snapshot is validated once: that closes the window and consumes both.
//!
//! None of these compiles:
//!
//! ```compile_fail,E0599
//! // Read what was not validated.
//! fn write(table: &mut Table, snapshot: &Snapshot<'_, '_, Watcher>) {
//!     table.map(snapshot.runs());
//! }
//! ```
//!
//! ```compile_fail,E0382
//! // Read it once more when it may have changed.
//! fn write(table: &mut Table, snapshot: Snapshot<'_, '_, Watcher>) {
//!     let valid = snapshot.validate();
//!     let again = snapshot.validate();
//! }
//! ```
//!
//! ```compile_fail,E0597
//! // Let go of the lock, and read on.
//! fn write(table: &mut Table, snapshot: Snapshot<'_, '_, Watcher>) {
//!     let runs = match snapshot.validate() {
//!         Some(valid) => valid.runs(),
//!         None => return,
//!     };
//!     table.map(runs);
//! }
//! ```
//!
//! ```compile_fail,E0499
//! // Take a snapshot into room in which another is still read.
//! fn write(table: &mut Table, buffer: &mut Buffer, a: Window<'_, Watcher>, b: Window<'_, Watcher>) {
//!     let first = Snapshot::take(a, buffer, 0..0, Want::Look, core::ptr::null());
//!     let second = Snapshot::take(b, buffer, 0..0, Want::Look, core::ptr::null());
//!     drop(first);
//! }
//! ```
//!
//! What is left to who writes page tables is not to carry addresses out of there in variables of his own: they are
//! numbers, as those of [`PageRun`] must be for the hardware to take them.
//!
//! C header: [`include/linux/hmm.h`](srctree/include/linux/hmm.h)

use super::{
    area::users,
    migrate::HUGE_ORDER,
    mmu_notifier::{
        Fresh,
        Invalidate,
        Subscription,
        Window, //
    }, //
};
use core::{
    ffi::c_void,
    ops::Range, //
};
use kernel::{
    bindings,
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    time::msecs_to_jiffies, //
};

const VALID: usize = bindings::hmm_pfn_flags_HMM_PFN_VALID;
const WRITE: usize = bindings::hmm_pfn_flags_HMM_PFN_WRITE;
const FLAGS: usize = bindings::hmm_pfn_flags_HMM_PFN_FLAGS;
const REQ_FAULT: usize = bindings::hmm_pfn_flags_HMM_PFN_REQ_FAULT;
const REQ_WRITE: usize = bindings::hmm_pfn_flags_HMM_PFN_REQ_WRITE;
const ORDER_SHIFT: usize = bindings::hmm_pfn_flags_HMM_PFN_ORDER_SHIFT;
const ORDER_MASK: usize = 0x1f;
const HUGE_PAGES: usize = 1 << HUGE_ORDER;

/// How long changes may keep us from a snapshot, in milliseconds.
const PATIENCE: u32 = bindings::HMM_RANGE_DEFAULT_TIMEOUT;
/// How often what was wanted may be gone again.
const TRIES: usize = 16;

/// What is wanted of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// To see what the CPU maps.
    Look,
    /// That it can be read.
    Read,
    /// That it can be written.
    Write,
}

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In host memory, at this physical address.
    Host(u64),
    /// In the device memory whose owner was named, with this page frame number.
    Device(usize),
}

/// Pages in a row that are alike and lie in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRun {
    /// Address of the first one in the process.
    pub address: usize,
    /// Bytes.
    pub size: usize,
    /// Where the first one is.
    pub place: Place,
    /// The process may write.
    pub write: bool,
}

/// The room that a snapshot takes, to be used again.
#[derive(Default)]
pub struct Buffer(KVVec<usize>);

impl Buffer {
    /// Empty.
    pub const fn new() -> Self {
        Self(KVVec::new())
    }

    /// The first of some entries that are not as `flags` say, and those behind it up to one that is.
    fn next_missing(&self, entries: Range<usize>, flags: usize) -> Option<Range<usize>> {
        let all = self.0.get(entries.clone())?;
        let is_missing = |entry: &usize| entry & flags != flags;
        let first = all.iter().position(is_missing)?;
        let count = all[first..].iter().take_while(|e| is_missing(e)).count();
        let start = entries.start + first;
        Some(start..start + count)
    }

    /// One entry for each page, all of them empty.
    fn fill(&mut self, pages: usize) -> Result {
        self.0.clear();
        self.0.reserve(pages, GFP_KERNEL)?;
        self.0.resize(pages, 0, GFP_KERNEL)?;
        Ok(())
    }
}

/// What the page tables of the CPU had in a range, at some moment.
///
/// It can be read if nothing has changed since, and for as long as nothing can; see the [module](self).
#[must_use]
pub struct Snapshot<'w, 'b, T: Invalidate> {
    buffer: &'b mut Buffer,
    window: Window<'w, T>,
}

impl<'w, 'b, T: Invalidate> Snapshot<'w, 'b, T> {
    /// Makes the CPU map `wanted`, a part of the window's range, and takes a snapshot of the whole. The range may
    /// have holes outside of what is wanted, of which nothing is made. `owner` is that of device memory whose pages shall be left where they
    /// are; those of others are brought to the host.
    ///
    /// Process context; sleeps, takes the mmap lock, and waits for changes that are under way, for as long as
    /// the process's own faults would. If it fails, the window is closed.
    ///
    /// # Errors
    ///
    /// `EFAULT` if what is wanted can't be had there: nothing is mapped, or what isn't memory; `EPERM` if
    /// it may not be read or written; `EBUSY` if it changes all the time; `EINTR` if the caller is being killed;
    /// `ESRCH` if the process has ended; `ENOMEM`.
    pub fn take(
        window: Window<'w, T>,
        buffer: &'b mut Buffer,
        wanted: Range<usize>,
        want: Want,
        owner: *const c_void,
    ) -> Result<Self> {
        Self::fault(
            window.subscription(),
            buffer,
            &window.range(),
            &wanted,
            want,
            owner,
        )?;
        Ok(Self { buffer, window })
    }

    /// The range must be that of a window.
    fn fault(
        subscription: &Subscription<T>,
        buffer: &mut Buffer,
        range: &Range<usize>,
        wanted: &Range<usize>,
        want: Want,
        owner: *const c_void,
    ) -> Result {
        let flags = match want {
            Want::Look => 0,
            Want::Read => REQ_FAULT,
            Want::Write => REQ_FAULT | REQ_WRITE,
        };
        let start = (wanted.start & !(PAGE_SIZE - 1)).clamp(range.start, range.end);
        let end = wanted.end.min(range.end).next_multiple_of(PAGE_SIZE);
        let wanted = start..end.max(start);
        let entries =
            (wanted.start - range.start) >> PAGE_SHIFT..(wanted.end - range.start) >> PAGE_SHIFT;

        buffer.fill(range.len() >> PAGE_SHIFT)?;
        // Whoever has the process's memory keeps its page tables: they go with the last user.
        let _users = users(subscription.mm()).ok_or(ESRCH)?;
        // HMM looks at the whole, and is asked for exactly what is missing. In one call it would fault also what lies
        // behind, and as it begins anew take for a wish what it has found before.
        for _ in 0..TRIES {
            Self::walk(subscription, &mut buffer.0, range, 0, owner)?;
            let mut at = entries.start;
            let mut is_complete = true;
            while let Some(missing) = buffer.next_missing(at..entries.end, flags) {
                is_complete = false;
                at = missing.end;
                let address = |entry: usize| range.start + (entry << PAGE_SHIFT);
                let part = address(missing.start)..address(missing.end);
                // As if memory of the device were someone else's: of its owner's HMM would give a page that may not be
                // written, and be content.
                let none = core::ptr::null();
                Self::walk(subscription, &mut buffer.0[missing], &part, flags, none)?;
            }
            if is_complete {
                return Ok(());
            }
        }
        Err(EBUSY)
    }

    /// Lets HMM go over a part of a window's range, whose entries these are, with the same wishes for all.
    fn walk(
        subscription: &Subscription<T>,
        pfns: &mut [usize],
        range: &Range<usize>,
        flags: usize,
        owner: *const c_void,
    ) -> Result {
        if pfns.len() != range.len() >> PAGE_SHIFT {
            return Err(EINVAL);
        }
        let mut raw = bindings::hmm_range {
            notifier: subscription.as_raw(),
            notifier_seq: 0,
            start: range.start,
            end: range.end,
            hmm_pfns: pfns.as_mut_ptr(),
            default_flags: flags,
            pfn_flags_mask: 0,
            dev_private_owner: owner.cast_mut(),
        };
        // SAFETY: The notifier is registered, the caller keeps the users of the process's memory, and the array has an
        // entry for each page of the range, which is made of whole pages since it is a part of a window's. This
        // waits for changes that were begun before it was called.
        to_result(unsafe {
            bindings::hmm_range_fault_unlocked_timeout(&mut raw, msecs_to_jiffies(PATIENCE))
        })?;

        // Of a huge folio in device memory that does not begin with the range, HMM gives the first page's number for
        // the first one of the range. Huge folios are aligned on both sides.
        for (i, entry) in pfns.iter_mut().enumerate() {
            let order = (*entry >> ORDER_SHIFT) & ORDER_MASK;
            if *entry & VALID != 0 && order >= HUGE_ORDER as usize {
                let page = (range.start >> PAGE_SHIFT) + i;
                *entry = *entry & !(HUGE_PAGES - 1) | page & (HUGE_PAGES - 1);
            }
        }
        Ok(())
    }

    /// Takes the permission to write away where `must` says so, given the address and the page frame number.
    pub fn protect(&mut self, mut must: impl FnMut(usize, usize) -> bool) {
        let start = self.window.range().start;
        for (i, entry) in self.buffer.0.iter_mut().enumerate() {
            let is_writable = *entry & (VALID | WRITE) == VALID | WRITE;
            if is_writable && must(start + i * PAGE_SIZE, *entry & !FLAGS) {
                *entry &= !WRITE;
            }
        }
    }

    /// Forgets pages where `must` says so, given the address and the page frame number.
    pub fn leave_out(&mut self, mut must: impl FnMut(usize, usize) -> bool) {
        let start = self.window.range().start;
        for (i, entry) in self.buffer.0.iter_mut().enumerate() {
            if *entry & VALID != 0 && must(start + i * PAGE_SIZE, *entry & !FLAGS) {
                *entry = 0;
            }
        }
    }

    /// What was seen, if it is still so; to make ready for what [`validate`](Self::validate) will give.
    pub fn look(&self) -> Option<Valid<'_, '_>> {
        // INVARIANT: The snapshot was taken through this window.
        Some(Valid {
            _fresh: self.window.fresh()?,
            pfns: &self.buffer.0,
            start: self.window.range().start,
        })
    }

    /// What was seen, if it is still so. Closes the window.
    pub fn validate(self) -> Option<Valid<'w, 'b>> {
        let start = self.window.range().start;
        // INVARIANT: The snapshot was taken through this window.
        Some(Valid {
            _fresh: self.window.close()?,
            pfns: &self.buffer.0,
            start,
        })
    }
}

/// What the page tables of the CPU have in a range, for as long as this lives. While it does, what holds for
/// [`Fresh`] holds for its owner.
///
/// # Invariants
///
/// `pfns` has what HMM found from `start` on, through the window that is fresh.
pub struct Valid<'w, 'b> {
    _fresh: Fresh<'w>,
    pfns: &'b [usize],
    start: usize,
}

impl Valid<'_, '_> {
    /// The pages that are there, in runs that are as long as can be, in order.
    pub fn runs(&self) -> Runs<'_> {
        Runs {
            pfns: self.pfns,
            address: self.start,
        }
    }

    /// Says that pages of a [run](Self::runs) that are in host memory will be written by someone who can't say so by
    /// himself, which is what the page tables of the CPU are for otherwise: a page of theirs may be writable and
    /// clean. Does not sleep.
    ///
    /// Once is enough: nothing cleans a page before [`Invalidate`] was called for it. Pages of files that count those
    /// that are dirty are not writable in the first place while they are clean.
    pub fn mark_dirty(&self, run: &PageRun) {
        /// The page is anonymous, or shared memory: marking it takes no locks.
        const SWAPBACKED: usize = 1 << bindings::pageflags_PG_swapbacked;

        // Not by what the run says: anybody can make one.
        let first = run.address.saturating_sub(self.start) >> PAGE_SHIFT;
        let last = first.saturating_add(run.size >> PAGE_SHIFT);
        let mut pfns = self
            .pfns
            .get(first..last.min(self.pfns.len()))
            .unwrap_or_default();
        while let Some(&entry) = pfns.first() {
            if entry & VALID == 0 || Runs::is_device(entry) {
                pfns = &pfns[1..];
                continue;
            }
            let pfn = entry & !FLAGS;

            // SAFETY: By the type invariant the CPU maps the page, and does so until we are told, which waits for the
            // lock that is held. So it stays, as a part of its folio.
            let rest = unsafe {
                let folio = bindings::page_folio(bindings::pfn_to_page(pfn));
                let flags = (*folio.cast::<bindings::page>()).flags.f;
                if flags & SWAPBACKED != 0 {
                    bindings::folio_mark_dirty(folio);
                }
                bindings::folio_pfn(folio) + bindings::folio_nr_pages(folio) - pfn
            };
            pfns = pfns.get(rest..).unwrap_or_default();
        }
    }
}

/// Iterator over runs of pages; see [`Valid::runs`].
///
/// # Invariants
///
/// `pfns` are those of a [`Valid`] that lives.
pub struct Runs<'a> {
    pfns: &'a [usize],
    address: usize,
}

impl Runs<'_> {
    fn is_device(entry: usize) -> bool {
        let pfn = entry & !FLAGS;

        // SAFETY: HMM has found it mapped, so that it has a `struct page`. By the type invariant of `Valid`, of which
        // this borrows, it still is, so that the page is not unplugged.
        unsafe { bindings::is_device_private_page(bindings::pfn_to_page(pfn)) }
    }
}

impl Iterator for Runs<'_> {
    type Item = PageRun;

    fn next(&mut self) -> Option<PageRun> {
        let skip = self.pfns.iter().position(|entry| entry & VALID != 0)?;
        self.address += skip * PAGE_SIZE;
        let pfns = &self.pfns[skip..];
        let first = pfns[0];
        let is_device = Self::is_device(first);
        // The order of a mapping is the same for all pages of it, and says that they lie in a row; but it
        // need not be the same for two that do.
        const SAME: usize = VALID | WRITE;
        let mut pages = 1;
        while let Some(&entry) = pfns.get(pages) {
            let continues =
                entry & SAME == first & SAME && entry & !FLAGS == (first & !FLAGS) + pages;
            // Two kinds of memory can lie side by side: at the edge of a section.
            if !continues
                || ((entry & !FLAGS) % SECTION == 0 && Self::is_device(entry) != is_device)
            {
                break;
            }
            pages += 1;
        }
        let run = PageRun {
            address: self.address,
            size: pages * PAGE_SIZE,
            place: if is_device {
                Place::Device(first & !FLAGS)
            } else {
                Place::Host(((first & !FLAGS) as u64) << PAGE_SHIFT)
            },
            write: first & WRITE != 0,
        };
        self.pfns = &pfns[pages..];
        self.address += run.size;
        Some(run)
    }
}

/// Pages between two places where one kind of memory can end and another begin, at least.
const SECTION: usize = 512;

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
