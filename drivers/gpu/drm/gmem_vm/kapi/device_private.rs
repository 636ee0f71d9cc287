// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Pages of a process that lie in the memory of a device, which the CPU cannot reach.
//!
//! [`DevicePages`] gives the kernel a `struct page` for each page of a device's memory. A page in there belongs
//! either to nobody or to a process, whose memory it then is: it was put there by a
//! [migration](super::migrate), and goes back by one when the CPU touches it.
//!
//! Pages are numbered from 0 in the device, and have a page frame number in the kernel.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use super::{
    area::Area,
    migrate::Migration, //
};
use core::{
    ffi::{
        c_int,
        c_void, //
    },
    marker::PhantomPinned,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    container_of,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};

/// Pages of a word of the map of those in use.
const WORD: usize = 64;

/// What a device does for pages in its memory.
pub trait DeviceMemory: Send + Sync + Sized + 'static {
    /// Pages, of one folio or of one claim, belong to nobody any more; they may be claimed again already. Any
    /// context, also atomic.
    fn freed(&self, pages: Range<usize>);

    /// The range to be brought back when the CPU touches an address of a process: has that, as part of
    /// `folio`, the addresses that go together at least, and lies in `area`, which can be brought back
    /// together.
    fn around(&self, folio: Range<usize>, area: Range<usize>) -> Range<usize>;

    /// Gives host memory to pages that were collected, and copies what is in them. What it leaves out is tried again
    /// as long as the CPU wants it.
    ///
    /// Process context, may sleep and allocate, with the process's memory map locked. Whatever locks it takes must
    /// not be held where the process's memory is used: it is called as the CPU faults.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no host memory; all else means that the data is lost, for which the process
    /// gets a `SIGBUS`.
    fn bring_back(pages: &DevicePages<Self>, migration: &mut Migration<'_>) -> Result;
}

/// A `struct page` for each page of a device's memory.
///
/// Dropping the last reference waits until all pages are free, and brings none back by itself: first
/// [evict](Migration::evict) them. Process context; not where a process's memory map is locked, nor by who has a
/// [`LockedFolio`] of these pages.
///
/// # Invariants
///
/// - `raw` is registered, with the range of `region`, for as long as `self` lives. The range begins at a multiple of
///   the largest folio, with the page frame `first`, and has `count` pages at least.
/// - `used` has a bit for each of them, which is set from the claim of a page until it is free again.
#[pin_data(PinnedDrop)]
pub struct DevicePages<T: DeviceMemory> {
    #[pin]
    raw: Opaque<bindings::dev_pagemap>,
    region: NonNull<bindings::resource>,
    first: usize,
    count: usize,
    used: KVVec<Atomic<u64>>,
    owner: T,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: Pages are claimed and freed by atomic operations; the rest is constant. `T` is `Send` and `Sync`.
unsafe impl<T: DeviceMemory> Send for DevicePages<T> {}
// SAFETY: As above.
unsafe impl<T: DeviceMemory> Sync for DevicePages<T> {}

/// Physical addresses that nobody has.
struct Region(NonNull<bindings::resource>);

impl Region {
    fn new(size: usize, name: &'static CStr) -> Result<Self> {
        // SAFETY: The resource of all physical addresses is valid, the name lives for ever.
        let region = kernel::error::from_err_ptr(unsafe {
            bindings::request_free_mem_region(
                &raw mut bindings::iomem_resource,
                size,
                name.as_char_ptr(),
            )
        })?;

        Ok(Self(NonNull::new(region).ok_or(ENOMEM)?))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: The region is ours, and the only one to begin there.
        unsafe {
            let region = self.0.as_ref();
            bindings::__release_region(
                &raw mut bindings::iomem_resource,
                region.start,
                region.end - region.start + 1,
            );
        }
    }
}

impl<T: DeviceMemory> DevicePages<T> {
    const OPS: bindings::dev_pagemap_ops = bindings::dev_pagemap_ops {
        folio_free: Some(Self::folio_free),
        migrate_to_ram: Some(Self::migrate_to_ram),
        memory_failure: None,
        folio_split: None,
    };

    /// Makes pages for `count` pages of device memory.
    ///
    /// Process context, may sleep; takes 64 bytes of host memory for each, of at least 128 MiB worth of them.
    /// `name` is what `/proc/iomem` shows.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are none or too many; `ERANGE` (no physical addresses left), `ENOMEM`.
    pub fn new(count: usize, name: &'static CStr, owner: T) -> Result<Arc<Self>> {
        let size = count
            .checked_mul(PAGE_SIZE)
            .filter(|&size| size > 0)
            .ok_or(EINVAL)?;
        let region = Region::new(size, name)?;
        let words = count.div_ceil(WORD);
        let mut used = KVVec::with_capacity(words, GFP_KERNEL)?;
        for _ in 0..words {
            used.push(Atomic::new(0), GFP_KERNEL)?;
        }

        // SAFETY: The region is ours, and does not change.
        let (start, end) = unsafe { (region.0.as_ref().start, region.0.as_ref().end) };

        let this = Arc::pin_init(
            try_pin_init!(Self {
                region: region.0,
                first: (start >> PAGE_SHIFT) as usize,
                count,
                used,
                owner,
                _pin: PhantomPinned,
                // INVARIANT: Registered as the last of all, so that nothing fails afterwards. The core makes regions
                // of whole sections, so that any folio in there can be aligned.
                raw <- Opaque::try_ffi_init(|slot: *mut bindings::dev_pagemap| {
                    // SAFETY: The slot is valid for writes; all zeroes is what the core expects of the rest.
                    // Nobody knows the pages before one is claimed.
                    let mapped = unsafe {
                        slot.write_bytes(0, 1);
                        (*slot).type_ = bindings::memory_type_MEMORY_DEVICE_PRIVATE;
                        (*slot).ops = &Self::OPS;
                        (*slot).owner = slot.cast();
                        (*slot).nr_range = 1;
                        *(*slot).__bindgen_anon_1.range.as_mut() = bindings::range { start, end };
                        bindings::memremap_pages(slot, bindings::NUMA_NO_NODE)
                    };
                    kernel::error::from_err_ptr(mapped).map(drop)
                }),
            }),
            GFP_KERNEL,
        )?;
        // From here on it goes with `this`.
        core::mem::forget(region);
        Ok(this)
    }

    /// The device.
    pub fn owner(&self) -> &T {
        &self.owner
    }

    /// Number of pages.
    pub fn count(&self) -> usize {
        self.count
    }

    /// By which the core knows pages of this device.
    pub fn id(&self) -> *const c_void {
        self.raw.get().cast_const().cast()
    }

    /// The node whose memory is nearest to the device.
    pub fn node(&self) -> i32 {
        // SAFETY: The page exists for as long as `self` does.
        unsafe { bindings::page_to_nid(bindings::pfn_to_page(self.first)) }
    }

    /// Which page of the device has this page frame number.
    pub fn index(&self, pfn: usize) -> Option<usize> {
        pfn.checked_sub(self.first).filter(|&i| i < self.count)
    }

    /// The page frame number of a page of the device, which must be less than [`count`](Self::count).
    pub fn pfn(&self, index: usize) -> usize {
        self.first + index
    }

    /// Names page frames in a part of the memory that belong to somebody, in order; of a huge folio all of them.
    pub(super) fn each_live(
        &self,
        part: Range<usize>,
        mut f: impl FnMut(usize) -> Result,
    ) -> Result {
        let end = part.end.min(self.count);
        let mut at = part.start;
        while at < end {
            // SAFETY: The page exists for as long as `self` does. Its reference count may be read at any time; if
            // there are none, the rest of it may be what is left of a folio that it was part of once. What is said
            // of its order may be wrong by the time it is used.
            let pages = unsafe {
                let page = bindings::pfn_to_page(self.pfn(at));
                match Atomic::<i32>::from_ptr(&raw mut (*page)._refcount.counter).load(Relaxed) {
                    0 => 0,
                    _ => 1 << bindings::folio_order(page.cast()),
                }
            };
            for page in at..end.min(at + pages) {
                f(self.pfn(page))?;
            }
            at += pages.max(1);
        }
        Ok(())
    }

    /// Changes the bits of pages from one state to the other, all or none.
    fn change(&self, pages: &Range<usize>, to: bool) -> bool {
        let mut at = pages.start;
        while at < pages.end {
            let end = pages.end.min((at / WORD + 1) * WORD);
            let bits = (u64::MAX >> (WORD - (end - at))) << (at % WORD);
            let Some(word) = self.used.get(at / WORD) else {
                return false;
            };
            let (old, new) = if to { (0, bits) } else { (bits, 0) };
            let mut now = word.load(Relaxed);
            loop {
                if now & bits != old {
                    if to && at > pages.start {
                        self.change(&(pages.start..at), false);
                    }
                    return false;
                }
                match word.cmpxchg(now, now & !bits | new, Full) {
                    Ok(_) => break,
                    Err(other) => now = other,
                }
            }
            at = end;
        }
        true
    }

    /// Finds pages in a row that belong to nobody, at most `most`, in a part of the memory: the first there are.
    /// Someone else may claim them first.
    pub fn find_free(&self, part: Range<usize>, most: usize) -> Option<Range<usize>> {
        let is_free = |page: usize| {
            let word = self.used.get(page / WORD)?.load(Relaxed);
            (word >> (page % WORD) & 1 == 0).then_some(())
        };
        let end = part.end.min(self.count);
        let mut at = part.start;
        while at < end {
            if at % WORD == 0 && self.used.get(at / WORD)?.load(Relaxed) == u64::MAX {
                at += WORD;
            } else if is_free(at).is_none() {
                at += 1;
            } else {
                let last = at.saturating_add(most).min(end);
                let length = (at..last)
                    .take_while(|&page| is_free(page).is_some())
                    .count();
                // Nothing was asked for, or someone was faster.
                return (length > 0).then_some(at..at + length);
            }
        }
        None
    }

    /// Takes pages that belong to nobody, to be given to processes. `None` if one of them has an owner, or is
    /// not there.
    pub fn claim(self: &Arc<Self>, pages: Range<usize>) -> Option<Claim<T>> {
        if pages.is_empty() || pages.end > self.count || !self.change(&pages, true) {
            return None;
        }
        // INVARIANT: Their bits are set, by us.
        Some(Claim {
            pages: self.clone(),
            left: pages,
        })
    }

    /// # Safety
    ///
    /// The folio must be one of a `DevicePages<T>`, which exists.
    unsafe fn of<'a>(folio: *mut bindings::folio) -> &'a Self {
        // SAFETY: By the requirements. The pagemap is that of a `Self`, which lives until its pages are free. There is
        // no `&mut Self` meanwhile but the pinned one of `drop`, which takes nothing but the address of `raw` before
        // they are.
        unsafe {
            let raw = bindings::page_pgmap(bindings::folio_page(folio, 0));
            &*container_of!(Opaque::cast_from(raw), Self, raw)
        }
    }

    extern "C" fn folio_free(folio: *mut bindings::folio) {
        // SAFETY: The core calls this for pages of this kind only, and they keep the pagemap.
        let this = unsafe { Self::of(folio) };

        // SAFETY: The folio is valid, and not to be used by anyone else any more.
        let (pfn, order) = unsafe { (bindings::folio_pfn(folio), bindings::folio_order(folio)) };

        if let Some(index) = this.index(pfn) {
            let pages = index..index + (1 << order);
            this.change(&pages, false);
            this.owner.freed(pages);
        }
    }

    extern "C" fn migrate_to_ram(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        use bindings::{
            vm_fault_reason_VM_FAULT_OOM as OOM,
            vm_fault_reason_VM_FAULT_SIGBUS as SIGBUS, //
        };

        // SAFETY: The fault is valid; its page is one of ours, and locked with a reference by the caller, so
        // that it stays.
        let (this, order, address, area, page) = unsafe {
            let page = (*vmf).page;
            let folio = bindings::page_folio(page);
            // Of a folio that is mapped by pages, one is all that is known to be there.
            let order = if (*vmf).pte.is_null() {
                bindings::folio_order(folio)
            } else {
                0
            };
            let fault = &(*vmf).__bindgen_anon_1;
            // The memory map is locked: the core tries again so if only the area is.
            (
                Self::of(folio),
                order,
                fault.address,
                Area::from_raw(fault.vma),
                page,
            )
        };
        let size = PAGE_SIZE << order;
        let start = address & !(size - 1);
        let folio = start..start + size;
        let all = area.start()..area.end();
        let range = this.owner.around(folio.clone(), all.clone());
        let start = range.start.min(folio.start).max(all.start) & !(PAGE_SIZE - 1);
        let end = range.end.max(folio.end).min(all.end) & !(PAGE_SIZE - 1);
        // There may be no `Arc` of this any more: the last one waits for this page as it is dropped.
        let mut migration = match Migration::back(area, start..end, this.id(), NonNull::new(page)) {
            Ok(migration) => migration,
            Err(e) if e == ENOMEM => return OOM,
            Err(_) => return SIGBUS,
        };
        match T::bring_back(this, &mut migration) {
            Ok(()) => {
                // What could not be moved now is tried again with the next fault.
                migration.commit();
                0
            }
            Err(e) if e == ENOMEM => OOM,
            Err(_) => SIGBUS,
        }
    }
}

#[pinned_drop]
impl<T: DeviceMemory> PinnedDrop for DevicePages<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is registered. Waits for all pages to be free.
        unsafe { bindings::memunmap_pages(self.raw.get()) };

        drop(Region(self.region));
    }
}

/// Pages of a device that belong to nobody yet; what is left of them when this is dropped is free again.
///
/// # Invariants
///
/// The bits of `left` are set, and nobody else knows these pages.
pub struct Claim<T: DeviceMemory> {
    pages: Arc<DevicePages<T>>,
    left: Range<usize>,
}

impl<T: DeviceMemory> Claim<T> {
    /// Number of pages left.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// Takes the next `1 << order` of them. `None` if there are fewer left, or if they are not aligned.
    pub fn folio(&mut self, order: u32) -> Option<LockedFolio> {
        let (index, count) = (self.left.start, 1usize << order);
        if index % count != 0 || count > self.left.len() {
            return None;
        }
        // INVARIANT: These go over to the folio.
        self.left.start += count;

        // SAFETY: The pages are part of the pagemap, which is registered and, as there is an `Arc`, not on its way
        // out; and nobody else has them by the type invariant: they were never given away, or are free again. They
        // are aligned, since the first page frame is.
        let folio = unsafe {
            let page = bindings::pfn_to_page(self.pages.pfn(index));
            let folio = page.cast::<bindings::folio>();
            bindings::zone_device_folio_init(folio, self.pages.raw.get(), order);
            NonNull::new(folio)?
        };

        // INVARIANT: It was locked, with one reference, which is ours.
        Some(LockedFolio { folio, order })
    }
}

impl<T: DeviceMemory> Drop for Claim<T> {
    fn drop(&mut self) {
        if !self.left.is_empty() {
            self.pages.change(&self.left, false);
            self.pages.owner.freed(self.left.clone());
        }
    }
}

/// Pages of host memory for a process that nobody knows yet, those that lie in a row one behind the other.
///
/// # Invariants
///
/// Each pointer from `next` on is that of a page that was allocated by itself, whose only reference is ours.
pub struct HostPages {
    pages: KVVec<usize>,
    next: usize,
}

impl HostPages {
    /// None.
    pub const fn new() -> Self {
        Self {
            pages: KVVec::new(),
            next: 0,
        }
    }

    /// Allocates so many, or as many as can be had at once, unless there are some left; on a NUMA node or near it,
    /// zeroed if so asked, and else as with [`LockedFolio::new`].
    ///
    /// Process context, may sleep. `ENOMEM`.
    pub fn fill(&mut self, count: impl FnOnce() -> usize, node: i32, zeroed: bool) -> Result {
        if self.next < self.pages.len() {
            return Ok(());
        }
        let count = count();
        self.next = 0;
        self.pages.clear();
        self.pages.resize(count, 0, GFP_KERNEL)?;
        let mut gfp = bindings::GFP_HIGHUSER_MOVABLE | bindings::__GFP_NOWARN;
        if zeroed {
            gfp |= bindings::__GFP_ZERO;
        }

        // SAFETY: The array has room for so many pointers, which are all null, and as large as its elements.
        let got = unsafe {
            bindings::alloc_pages_bulk_noprof(
                gfp,
                node,
                core::ptr::null_mut(),
                c_int::try_from(count)?,
                self.pages.as_mut_ptr().cast(),
            )
        };
        // INVARIANT: So many were allocated, for us.
        self.pages.truncate(got);
        // The allocator gives first what it got back last, so that what was freed in order comes backwards.
        for run in self.pages.chunk_by_mut(|a, b| a > b) {
            run.reverse();
        }
        if got == 0 {
            Err(ENOMEM)
        } else {
            Ok(())
        }
    }

    /// Takes one.
    pub fn take(&mut self) -> Option<LockedFolio> {
        let page = *self.pages.get(self.next)? as *mut bindings::page;
        // INVARIANT: It goes over to the folio.
        self.next += 1;

        // SAFETY: By the type invariant the page is valid, and the first of its folio; nobody else has it.
        let folio = unsafe {
            let folio = bindings::page_folio(page);
            bindings::folio_lock(folio);
            NonNull::new(folio)?
        };

        // INVARIANT: It is locked now; its reference is ours.
        Some(LockedFolio { folio, order: 0 })
    }
}

impl Default for HostPages {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for HostPages {
    fn drop(&mut self) {
        while let Some(folio) = self.take() {
            drop(folio);
        }
    }
}

/// A folio that nobody knows yet, locked; dropping it frees it. It is for a [`Migration`], as a
/// [destination](Migration::set).
///
/// # Invariants
///
/// The folio is valid, of this order, locked, and the lock and one reference are ours.
pub struct LockedFolio {
    folio: NonNull<bindings::folio>,
    order: u32,
}

impl LockedFolio {
    /// Allocates host memory for a process: `1 << order` pages, on a NUMA node or near it, zeroed if so asked. If not,
    /// it has what others left there: fill it before a process gets it.
    ///
    /// Process context, sleeps. `ENOMEM`; large ones are not tried hard for.
    pub fn new(order: u32, node: i32, zeroed: bool, hard: bool) -> Result<Self> {
        let mut gfp = bindings::GFP_HIGHUSER_MOVABLE;
        if order > 0 {
            gfp |= 1 << bindings::___GFP_COMP_BIT
                | 1 << bindings::___GFP_NOMEMALLOC_BIT
                | if hard {
                    bindings::__GFP_RETRY_MAYFAIL
                } else {
                    1 << bindings::___GFP_NORETRY_BIT
                };
        }
        gfp |= bindings::__GFP_NOWARN;
        if zeroed {
            gfp |= bindings::__GFP_ZERO;
        }

        // SAFETY: No set of nodes is given, which the call allows.
        let folio =
            unsafe { bindings::__folio_alloc_noprof(gfp, order, node, core::ptr::null_mut()) };
        let folio = NonNull::new(folio).ok_or(ENOMEM)?;

        // SAFETY: The folio is new, so that nobody else has it.
        unsafe { bindings::folio_lock(folio.as_ptr()) };

        // INVARIANT: It is locked now; its first reference is ours.
        Ok(Self { folio, order })
    }

    /// log2 of its number of pages.
    pub fn order(&self) -> u32 {
        self.order
    }

    /// Its page frame number.
    pub fn pfn(&self) -> usize {
        // SAFETY: The folio is valid.
        unsafe { bindings::folio_pfn(self.folio.as_ptr()) }
    }

    /// Gives the lock and the reference away; returns the page frame number.
    pub(super) fn into_pfn(self) -> usize {
        let pfn = self.pfn();
        core::mem::forget(self);
        pfn
    }

    /// Undoes [`into_pfn`](Self::into_pfn).
    ///
    /// # Safety
    ///
    /// It must have come from there, and not have been taken back yet; `order` must be as it was.
    pub(super) unsafe fn from_pfn(pfn: usize, order: u32) -> Option<Self> {
        // SAFETY: The page is valid by the requirements.
        let folio = unsafe { bindings::page_folio(bindings::pfn_to_page(pfn)) };

        // INVARIANT: By the requirements.
        Some(Self {
            folio: NonNull::new(folio)?,
            order,
        })
    }
}

impl Drop for LockedFolio {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::folio_unlock(self.folio.as_ptr());
            bindings::folio_put(self.folio.as_ptr());
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
