// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Host memory of GEM objects.
//!
//! C header: [`include/drm/drm_gem.h`](srctree/include/drm/drm_gem.h)

use super::signal::check_killed;
use core::{
    mem::MaybeUninit,
    num::NonZero,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::{
        self,
        Device, //
    },
    devres::Devres,
    dma::DmaAddress,
    drm::gem::{
        BaseObject,
        Caching,
        Fault,
        IntoGEMObject, //
    },
    error::{
        from_err_ptr,
        to_result, //
    },
    fs::File,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            AtomicFlag,
            Full,
            Relaxed, //
        },
        Arc,
        SetOnce, //
    }, //
};

/// How many pages a fault maps at most, all of them within one aligned block of this many.
const FAULT_AROUND: usize = 16;

const DMA_BIDIRECTIONAL: bindings::dma_data_direction =
    bindings::dma_data_direction::DMA_BIDIRECTIONAL;

/// Physically contiguous pages.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Index of the first page in the object.
    pub(super) page: usize,
    pub(super) pfn: usize,
    pub(super) pages: usize,
}

/// Pages that stay where they are: pinned ones of shmem, or of folios that nobody else knows.
///
/// # Invariants
///
/// - `file` is a shmem file.
/// - `runs` covers the object from its beginning, in the order of its pages, and we own one
///   reference to each folio in there. With a `file` they are the file's, without one nobody else
///   has a reference but who maps them.
pub(super) struct Pages {
    file: Option<ARef<File>>,
    runs: KVVec<Run>,
}

impl Pages {
    /// All pages of an object, in blocks of `granule` bytes that are each contiguous and aligned.
    fn new(obj: &impl IntoGEMObject, granule: usize) -> Result<Self> {
        check_size(obj.size())?;

        if granule > PAGE_SIZE {
            Self::allocate(obj, granule)
        } else {
            Self::pin(obj)
        }
    }

    /// Allocates folios of `granule` bytes, which is what shmem doesn't promise to have.
    fn allocate(obj: &impl IntoGEMObject, granule: usize) -> Result<Self> {
        if !granule.is_power_of_two() || obj.size() % granule != 0 {
            return Err(EINVAL);
        }

        // INVARIANT: There are no runs yet.
        let mut this = Self {
            file: None,
            runs: KVVec::new(),
        };
        let pages = granule >> PAGE_SHIFT;
        for page in (0..obj.size() >> PAGE_SHIFT).step_by(pages) {
            check_killed()?;
            // So that nothing fails once there is a folio.
            this.runs.reserve(1, GFP_KERNEL | __GFP_NOWARN)?;

            // SAFETY: These flags may be used where sleeping is possible, as it is here.
            let first = NonNull::new(unsafe {
                bindings::alloc_pages(
                    bindings::GFP_KERNEL_ACCOUNT
                        | bindings::__GFP_ZERO
                        | bindings::__GFP_RETRY_MAYFAIL
                        | bindings::__GFP_NOWARN
                        | 1 << bindings::___GFP_COMP_BIT,
                    pages.ilog2(),
                )
            })
            .ok_or(ENOMEM)?;

            // SAFETY: The page is valid.
            let pfn = unsafe { bindings::page_to_pfn(first.as_ptr()) };

            // INVARIANT: The next pages of the object; the only reference to their folio is ours.
            this.push(Run { page, pfn, pages })?;
        }

        Ok(this)
    }

    /// Adds a run behind the last one. There must be room.
    fn push(&mut self, run: Run) -> Result {
        match self.runs.last_mut() {
            Some(last) if last.pfn + last.pages == run.pfn => last.pages += run.pages,
            _ => self.runs.push_within_capacity(run).map_err(|_| ENOMEM)?,
        }

        Ok(())
    }

    /// Pins all shmem pages of an object.
    fn pin(obj: &impl IntoGEMObject) -> Result<Self> {
        // SAFETY: This is the file of an object.
        unsafe { Self::pin_file(shmem_file(obj)?, obj.size()) }
    }

    /// Pins the pages of so many bytes of a file.
    ///
    /// # Safety
    ///
    /// It must be a shmem file.
    pub(super) unsafe fn pin_file(file: ARef<File>, bytes: usize) -> Result<Self> {
        let mapping = mapping(&file);

        // INVARIANT: It is a shmem file by the requirements of this function; there are no runs yet.
        let mut this = Self {
            file: Some(file),
            runs: KVVec::new(),
        };

        // SAFETY: The mapping is valid as long as the file is.
        unsafe { bindings::mapping_set_unevictable(mapping) };

        let end = bytes >> PAGE_SHIFT;
        let mut page = 0;
        while page < end {
            // SAFETY: The mapping is that of `this.file`.
            page += unsafe { this.pin_folio(mapping, page, end)? };
        }

        Ok(this)
    }

    /// Pins the folio of the first page that isn't pinned yet. Returns how many pages of it there
    /// are from there on, `end` excluded.
    ///
    /// # Safety
    ///
    /// `mapping` must be that of `self.file`.
    unsafe fn pin_folio(
        &mut self,
        mapping: *mut bindings::address_space,
        page: usize,
        end: usize,
    ) -> Result<usize> {
        check_killed()?;

        // So that nothing fails once there is a reference.
        self.runs.reserve(1, GFP_KERNEL | __GFP_NOWARN)?;

        // SAFETY: The mapping is valid, and one of a shmem file by the type invariant.
        let folio = from_err_ptr(unsafe {
            bindings::shmem_read_folio_gfp(
                mapping,
                page,
                bindings::mapping_gfp_mask(mapping)
                    | bindings::__GFP_RETRY_MAYFAIL
                    | bindings::__GFP_NOWARN,
            )
        })?;

        // SAFETY: We have got a reference to a folio that contains this page of the mapping.
        let pfn = unsafe { bindings::page_to_pfn(bindings::folio_file_page(folio, page)) };

        // SAFETY: The folio of this page is `folio`, and ours.
        let pages = unsafe { pages_left(pfn) }.min(end - page);

        // INVARIANT: The next pages of the file and the reference to their folio go into `runs`.
        self.push(Run { page, pfn, pages })?;

        Ok(pages)
    }

    /// The runs, in order, without gaps.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The page frame number of a page.
    pub(super) fn pfn(&self, page: usize) -> Option<usize> {
        let after = self.runs.partition_point(|run| run.page <= page);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let offset = page - run.page;

        (offset < run.pages).then_some(run.pfn + offset)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // SAFETY: The mapping is valid as long as the file is.
            unsafe { bindings::mapping_clear_unevictable(mapping(file)) };
        }

        let mut batch = FolioBatch::new();
        for run in &self.runs {
            let end = run.pfn + run.pages;
            let mut pfn = run.pfn;
            while pfn < end {
                // SAFETY: By the type invariant, we own a reference to the folio of this page, which
                // can't have been split or merged meanwhile.
                unsafe {
                    let next = pfn + pages_left(pfn);
                    let folio = bindings::page_folio(bindings::pfn_to_page(pfn));
                    match self.file {
                        Some(_) => batch.put_dirty(folio),
                        None => bindings::folio_put(folio),
                    }
                    pfn = next;
                }
            }
        }
    }
}

/// The shmem file of an object. `EINVAL` if it has none.
pub(super) fn shmem_file(obj: &impl IntoGEMObject) -> Result<ARef<File>> {
    // SAFETY: The object is valid, and this field of it is constant.
    let filp = NonNull::new(unsafe { (*obj.as_raw()).filp }).ok_or(EINVAL)?;

    // SAFETY: The object holds a reference to the file, which isn't in any table of file
    // descriptors, so that nobody uses `fdget_pos()` on it.
    Ok(unsafe { File::from_raw_file(filp.as_ptr()) }.into())
}

/// The page cache of a file.
pub(super) fn mapping(file: &File) -> *mut bindings::address_space {
    // SAFETY: The file is valid, and this field of it is constant.
    unsafe { (*file.as_ptr()).f_mapping }
}

/// How many pages there are in a folio from one of them on.
///
/// # Safety
///
/// The caller must own a reference to the folio that the page `pfn` is in.
unsafe fn pages_left(pfn: usize) -> usize {
    // SAFETY: The page and its folio are valid by the requirements of this function.
    unsafe {
        let folio = bindings::page_folio(bindings::pfn_to_page(pfn));

        bindings::folio_pfn(folio) + bindings::folio_nr_pages(folio) - pfn
    }
}

/// Fails with `ENOMEM` if an object of this many bytes is more than the host's memory should hold.
pub fn check_size(bytes: usize) -> Result {
    if bytes > ram_bytes() / 2 {
        return Err(ENOMEM);
    }

    Ok(())
}

/// All memory there is, in bytes.
fn ram_bytes() -> usize {
    let mut info = MaybeUninit::<bindings::sysinfo>::zeroed();

    // SAFETY: `info` is valid for writes, and all of its bytes are initialized.
    let info = unsafe {
        bindings::si_meminfo(info.as_mut_ptr());
        info.assume_init()
    };

    info.totalram.saturating_mul(info.mem_unit as usize)
}

/// Folios that are to be put.
///
/// # Invariants
///
/// We own a reference to each folio in the batch, which is initialized.
struct FolioBatch(bindings::folio_batch);

impl FolioBatch {
    fn new() -> Self {
        // INVARIANT: All zero is what `folio_batch_init()` makes it: empty.
        Self(pin_init::zeroed())
    }

    /// Puts a folio that may have been written to, now or later.
    ///
    /// # Safety
    ///
    /// The caller must own a reference to the folio, which it gives away.
    unsafe fn put_dirty(&mut self, folio: *mut bindings::folio) {
        // INVARIANT: The reference to the folio becomes that of the batch.
        //
        // SAFETY: The folio is valid by the requirements of this method, and the batch by the type
        // invariant, which also has room, since it is emptied as soon as it is full.
        let room = unsafe {
            bindings::folio_mark_dirty(folio);
            bindings::folio_mark_accessed(folio);
            bindings::folio_batch_add(&mut self.0, folio)
        };

        if room == 0 {
            self.release();
        }
    }

    fn release(&mut self) {
        // INVARIANT: `__folio_batch_release()` puts the references and empties the batch.
        //
        // SAFETY: The batch is valid and not empty. The folios are those of a mapping that isn't
        // unevictable any more.
        unsafe {
            bindings::check_move_unevictable_folios(&mut self.0);
            bindings::__folio_batch_release(&mut self.0);
        }
    }
}

impl Drop for FolioBatch {
    fn drop(&mut self) {
        if self.0.nr != 0 {
            self.release();
        }
    }
}

/// A part of an object that is contiguous for the device.
#[derive(Clone, Copy)]
struct DmaRun {
    offset: u64,
    address: DmaAddress,
    bytes: usize,
}

/// Pages, and where the device sees them.
struct Table {
    pages: Pages,
    dma: KVVec<DmaRun>,
}

/// The DMA mapping of a [`Table`].
///
/// # Invariants
///
/// - `dev` is bound as long as this exists.
/// - All runs in `table.dma` are mapped for `dev`, unless `unmapped`.
struct DmaMapping {
    dev: ARef<Device>,
    table: Arc<Table>,
    unmapped: AtomicFlag,
}

impl DmaMapping {
    /// Maps pages. Also says where.
    fn new(pages: Pages, dev: &Device<device::Bound>) -> Result<(Devres<Self>, Arc<Table>)> {
        let table = Self::map(pages, dev)?;

        // INVARIANT: The device is bound, and `Devres` drops this before it is not; all runs of the
        // table have just been mapped.
        let mapping = Self {
            dev: dev.into(),
            table: table.clone(),
            unmapped: AtomicFlag::new(false),
        };

        // Should this fail, then `mapping` is dropped.
        Ok((Devres::new(dev, mapping)?, table))
    }

    fn map(pages: Pages, dev: &Device<device::Bound>) -> Result<Arc<Table>> {
        // SAFETY: The device is valid.
        let max = unsafe { bindings::dma_max_mapping_size(dev.as_raw()) } >> PAGE_SHIFT;
        let max = NonZero::new(max).unwrap_or(NonZero::<usize>::MIN);

        let count = pages.runs.iter().map(|run| run.pages / max + 1).sum();
        let dma = KVVec::with_capacity(count, GFP_KERNEL | __GFP_NOWARN)?;
        let mut table = kernel::sync::UniqueArc::new(Table { pages, dma }, GFP_KERNEL)?;
        let Table { pages, dma } = &mut *table;

        for run in &pages.runs {
            let mut done = 0;
            while done < run.pages {
                let count = max.get().min(run.pages - done);

                if let Err(e) = Self::map_run(dev, dma, run, done, count) {
                    // SAFETY: All runs in `dma` were mapped for the device, which is bound.
                    unsafe { Self::unmap_runs(dev.as_raw(), dma) };
                    return Err(e);
                }

                done += count;
            }
        }

        Ok(table.into())
    }

    /// Maps some pages of a run, and adds them to `dma`.
    fn map_run(
        dev: &Device<device::Bound>,
        dma: &mut KVVec<DmaRun>,
        run: &Run,
        first: usize,
        count: usize,
    ) -> Result {
        let bytes = count * PAGE_SIZE;

        // SAFETY: The device is bound. The pages are pinned and contiguous, and stay so until they
        // are unmapped.
        let address = unsafe {
            bindings::dma_map_page(
                dev.as_raw(),
                bindings::pfn_to_page(run.pfn + first),
                0,
                bytes,
                DMA_BIDIRECTIONAL,
            )
        };

        // SAFETY: The device is valid, and the address comes from `dma_map_page()`.
        to_result(unsafe { bindings::dma_mapping_error(dev.as_raw(), address) })?;

        dma.push(
            DmaRun {
                offset: ((run.page + first) as u64) << PAGE_SHIFT,
                address,
                bytes,
            },
            GFP_KERNEL,
        )
        .inspect_err(|_| {
            // SAFETY: This was just mapped.
            unsafe { bindings::dma_unmap_page(dev.as_raw(), address, bytes, DMA_BIDIRECTIONAL) }
        })?;

        // SAFETY: The device is valid, and the address is mapped.
        if unsafe { bindings::dma_need_sync(dev.as_raw(), address) } {
            return Err(EOPNOTSUPP);
        }

        Ok(())
    }

    /// # Safety
    ///
    /// All of `runs` must be mapped for `dev`, which must be bound.
    unsafe fn unmap_runs(dev: *mut bindings::device, runs: &[DmaRun]) {
        for run in runs {
            // SAFETY: By the requirements of this function.
            unsafe { bindings::dma_unmap_page(dev, run.address, run.bytes, DMA_BIDIRECTIONAL) };
        }
    }

    /// Undoes the mapping, unless that has been done.
    fn unmap(&self) {
        // INVARIANT: If this was the first to set the flag, then nothing is mapped any more when this
        // returns; nobody relies on that while it does not.
        if self.unmapped.xchg(true, Full) {
            return;
        }

        // SAFETY: The device is bound and the runs are mapped by the type invariants.
        unsafe { Self::unmap_runs(self.dev.as_raw(), &self.table.dma) };
    }
}

impl Drop for DmaMapping {
    fn drop(&mut self) {
        self.unmap();
    }
}

/// A range of a DRM device's address space for userspace.
#[derive(Clone, Copy, PartialEq)]
struct UserRange {
    dev: NonNull<bindings::drm_device>,
    start: u64,
    size: u64,
}

impl UserRange {
    /// The range that the object of a fault has.
    fn of(fault: &Fault<'_>) -> Self {
        // SAFETY: The type invariants of `Fault` guarantee that all of this is valid: the VMA of the
        // fault, the object that `mmap()` stored there, and the device of that. The offset of an
        // object is constant once it has been mapped.
        unsafe {
            let vma = (*fault.as_raw()).__bindgen_anon_1.vma;
            let obj = (*vma).vm_private_data.cast::<bindings::drm_gem_object>();

            Self {
                dev: NonNull::new_unchecked((*obj).dev),
                start: (*obj).vma_node.vm_node.start << PAGE_SHIFT,
                size: (*obj).vma_node.vm_node.size << PAGE_SHIFT,
            }
        }
    }
}

/// A range that has pages mapped in processes; dropping it removes them.
///
/// # Invariants
///
/// We own a reference to `range.dev`.
pub struct UserMapping {
    range: UserRange,
}

// SAFETY: A `struct drm_device` can be used and released from any thread.
unsafe impl Send for UserMapping {}

// SAFETY: A shared `UserMapping` can be compared only.
unsafe impl Sync for UserMapping {}

impl UserMapping {
    /// The range of the object of a fault.
    pub fn new(fault: &Fault<'_>) -> Self {
        let range = UserRange::of(fault);

        // SAFETY: The device is valid during the fault.
        unsafe { bindings::drm_dev_get(range.dev.as_ptr()) };

        // INVARIANT: We have just taken a reference.
        Self { range }
    }

    /// Whether it is that of the object of a fault.
    pub fn is_of(&self, fault: &Fault<'_>) -> bool {
        self.range == UserRange::of(fault)
    }
}

impl Drop for UserMapping {
    fn drop(&mut self) {
        // If there is another object now at the same offset, then its pages fault once more.
        //
        // SAFETY: By the type invariant the device is valid, and so is its inode.
        unsafe {
            let dev = self.range.dev.as_ptr();

            bindings::unmap_mapping_range(
                (*(*dev).anon_inode).i_mapping,
                self.range.start as bindings::loff_t,
                self.range.size as bindings::loff_t,
                1,
            );
            bindings::drm_dev_put(dev);
        }
    }
}

/// The pages of a GEM object, pinned and mapped for a device to read and write.
///
/// It refers to the object's memory but not to the object, so it can be part of the object.
///
/// # Unbinding
///
/// A DMA mapping belongs to a device that is bound to a driver. What [`runs`](Self::runs) says is
/// valid until the first of these happens:
///
/// - [`revoke`](Self::revoke), with which a driver takes the mapping away when the device does not
///   use it any more;
/// - the unbinding of the device, which revokes what is left by itself;
/// - the drop of this.
///
/// So the mapping is undone exactly once, and while the device is bound; nobody has to remember it.
/// The pages stay until this is dropped, which can be at any later time.
///
/// # Coherence
///
/// CPU and device see each other's writes without further ado. Where they would not (bounce buffers,
/// or a device that isn't cache-coherent) [`new`](Self::new) fails.
pub struct HostPages {
    // In this order, nobody uses the pages when the last reference to `table` is dropped.
    user: SetOnce<UserMapping>,
    mapping: Devres<DmaMapping>,
    table: Arc<Table>,
}

impl HostPages {
    /// Allocates, or swaps in, and pins all pages of an object, and maps them for DMA.
    ///
    /// Pages that had no contents are zero. They are those of the object's shmem file, unless the
    /// device's smallest page, of `granule` bytes, is larger than the CPU's: then they are allocated
    /// in blocks of that size, since pages of shmem can lie anywhere.
    ///
    /// Sleeps; only a fatal signal interrupts it. The pages are accounted to the calling process.
    ///
    /// # Errors
    ///
    /// - `ENOMEM` if there is not enough memory, for which the OOM killer isn't asked, or if the
    ///   object is larger than half of all memory;
    /// - `EINTR` if the process is being killed;
    /// - `EINVAL` if the object has no shmem file, or blocks of `granule` bytes do not make up its size;
    /// - `EOPNOTSUPP` if CPU and device would not see each other's writes.
    pub fn new(
        obj: &impl IntoGEMObject,
        dev: &Device<device::Bound>,
        granule: usize,
    ) -> Result<Self> {
        let (mapping, table) = DmaMapping::new(Pages::new(obj, granule)?, dev)?;

        Ok(Self {
            user: SetOnce::new(),
            mapping,
            table,
        })
    }

    /// Returns the parts that are contiguous for the device: offset in the object, address, and size
    /// in bytes.
    ///
    /// In the order of their offsets, without gaps. There are none if the mapping was
    /// [revoked](Self#unbinding); it is up to the caller to make sure that this does not happen while
    /// the device uses an address.
    pub fn runs(&self) -> impl Iterator<Item = (u64, DmaAddress, u64)> + '_ {
        let mapped = self
            .mapping
            .try_access_with(|mapping| !mapping.unmapped.load(Relaxed))
            .unwrap_or(false);
        let runs = if mapped { &self.table.dma[..] } else { &[] };

        runs.iter()
            .map(|run| (run.offset, run.address, run.bytes as u64))
    }

    /// Returns the page frame number of a page of the object.
    pub fn pfn(&self, page: usize) -> Option<usize> {
        self.table.pages.pfn(page)
    }

    /// Undoes the DMA mapping, if that has not been done yet. The device must not use it any more.
    ///
    /// Does not sleep.
    pub fn revoke(&self) {
        self.mapping.try_access_with(DmaMapping::unmap);
    }

    /// Resolves a fault of userspace on the object with the page it faulted on, and with some of its
    /// neighbours.
    ///
    /// The pages are removed from the page tables of userspace before they are put, at the latest.
    ///
    /// # Errors
    ///
    /// - `EINVAL` if the object has no such page, or pages were mapped as those of another object
    ///   before;
    /// - `EAGAIN` if another thread resolves the first fault right now;
    /// - `ENOMEM`
    pub fn insert_page(&self, fault: &Fault<'_>) -> Result {
        let page = fault.page();

        match self.user.as_ref() {
            Some(known) if known.is_of(fault) => {}
            Some(_) => return Err(EINVAL),
            None => {
                if !self.user.populate(UserMapping::new(fault)) {
                    return Err(EAGAIN);
                }
            }
        }

        self.insert(fault, page)?;

        let block = page - page % FAULT_AROUND;
        for neighbour in block..block + FAULT_AROUND {
            if neighbour != page && self.insert(fault, neighbour).is_err() {
                continue;
            }
        }

        Ok(())
    }

    fn insert(&self, fault: &Fault<'_>, page: usize) -> Result {
        let pfn = self.pfn(page).ok_or(EINVAL)?;

        // SAFETY: The page is ordinary memory, and that of an object which userspace may access. It
        // stays pinned until `user` is dropped, which removes it from the page tables.
        unsafe { fault.insert_pfn(page, pfn, Caching::WriteBack) }
    }
}
