// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What tests need of a process: memory of its own, and a device that has memory for it.
//!
//! A test runs in a kernel thread of its own. [`Process`] gives that an address space, which goes as the
//! thread ends, and so after all that the test leaves.

use super::{
    area::MemoryMap,
    device_private::{
        Claim,
        DeviceMemory,
        DevicePages,
        LockedFolio, //
    },
    migrate::{
        Migration,
        Moved,
        Slot,
        Source,
        HUGE_SIZE, //
    },
    work::system, //
};
use core::ops::{
    Deref,
    Range, //
};
use kernel::{
    bindings,
    error::to_result,
    impl_has_work,
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex, new_work,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            AtomicFlag,
            Full,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::NotThreadSafe,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
    workqueue::{
        Work,
        WorkItem, //
    },
};

const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const MAP_SHARED: usize = 1;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 0x20;

/// Waits until something is so. `ETIMEDOUT` after ten seconds.
pub(super) fn wait_until(mut done: impl FnMut() -> bool) -> Result {
    for _ in 0..1000 {
        if done() {
            return Ok(());
        }
        fsleep(Delta::from_millis(10));
    }
    Err(ETIMEDOUT)
}

/// The process that this thread is.
pub(super) struct Process {
    mm: ARef<Mm>,
    _nts: NotThreadSafe,
}

impl Process {
    /// Makes this thread one.
    pub(super) fn new() -> Result<Self> {
        // SAFETY: This is a thread of KUnit, which ends soon.
        to_result(unsafe { bindings::kunit_attach_mm() })?;
        let mm = kernel::current!().mm().map(|mm| ARef::from(&**mm));
        Ok(Self {
            mm: mm.ok_or(ESRCH)?,
            _nts: NotThreadSafe,
        })
    }

    /// Keeps its memory.
    pub(super) fn users(&self) -> Result<ARef<MmWithUser>> {
        self.mm.mmget_not_zero().ok_or(ESRCH)
    }

    /// Ends the process: it loses its memory. The thread goes on without.
    pub(super) fn end(self) {
        // SAFETY: The thread uses this memory, has one reference to it, and gives it away.
        unsafe {
            bindings::kthread_unuse_mm(self.mm.as_raw());
            bindings::mmput(self.mm.as_raw());
        }
    }

    fn mmap(file: *mut bindings::file, size: usize, prot: usize, flags: usize) -> Result<usize> {
        // SAFETY: The thread has an address space; the file is valid, if there is one.
        let address = unsafe { bindings::vm_mmap(file, 0, size, prot, flags, 0) };
        match isize::try_from(address) {
            Ok(_) => Ok(address),
            Err(_) => Err(ENOMEM),
        }
    }

    fn munmap(start: usize, size: usize) -> Result {
        if size == 0 {
            return Ok(());
        }
        // SAFETY: The thread has an address space, and nobody refers to its memory but by address.
        to_result(unsafe { bindings::vm_munmap(start, size) })
    }

    /// Maps anonymous memory that lies as a huge page does.
    fn map_aligned(&self, pages: usize, prot: usize) -> Result<Memory<'_>> {
        let (size, flags) = (pages * PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS);
        let all = Self::mmap(core::ptr::null_mut(), size + HUGE_SIZE, prot, flags)?;
        let start = all.next_multiple_of(HUGE_SIZE);
        Self::munmap(all, start - all)?;
        Self::munmap(start + size, all + HUGE_SIZE - start)?;
        Ok(Memory {
            _process: self,
            start,
            pages,
        })
    }

    /// Maps anonymous memory: fewer pages than a huge one has, or as many and aligned.
    pub(super) fn map(&self, pages: usize) -> Result<Memory<'_>> {
        self.map_aligned(pages, PROT_READ | PROT_WRITE)
    }

    /// As [`map`](Self::map), and [filled](Memory::fill).
    pub(super) fn map_filled(&self, pages: usize) -> Result<Memory<'_>> {
        let memory = self.map(pages)?;
        memory.fill()?;
        Ok(memory)
    }

    /// As [`map`](Self::map); it can only be read.
    pub(super) fn map_read_only(&self, pages: usize) -> Result<Memory<'_>> {
        self.map_aligned(pages, PROT_READ)
    }

    /// As [`map`](Self::map); it can't be used at all.
    pub(super) fn map_nothing(&self, pages: usize) -> Result<Memory<'_>> {
        self.map_aligned(pages, 0)
    }

    /// Maps a file.
    pub(super) fn map_file(&self, pages: usize) -> Result<Memory<'_>> {
        let size = pages * PAGE_SIZE;

        // SAFETY: The name is valid.
        let file = kernel::error::from_err_ptr(unsafe {
            bindings::shmem_file_setup(c"kunit".as_char_ptr(), size as i64, Default::default())
        })?;

        let start = Self::mmap(file, size, PROT_READ | PROT_WRITE, MAP_SHARED);

        // SAFETY: This reference is ours; the mapping has one of its own.
        unsafe { bindings::fput(file) };

        Ok(Memory {
            _process: self,
            start: start?,
            pages,
        })
    }
}

impl Deref for Process {
    type Target = Mm;

    fn deref(&self) -> &Mm {
        &self.mm
    }
}

/// Memory of the process, unmapped in the end.
pub(super) struct Memory<'a> {
    _process: &'a Process,
    start: usize,
    pages: usize,
}

impl Memory<'_> {
    /// Address of a page.
    pub(super) fn address(&self, page: usize) -> usize {
        self.start + page * PAGE_SIZE
    }

    /// Addresses of pages.
    pub(super) fn range(&self, pages: Range<usize>) -> Range<usize> {
        self.address(pages.start)..self.address(pages.end)
    }

    /// Addresses of all.
    pub(super) fn all(&self) -> Range<usize> {
        self.range(0..self.pages)
    }

    fn end_of(&self, page: usize) -> usize {
        self.address(page + 1) - size_of::<u64>()
    }

    /// Writes to the beginning and the end of a page.
    pub(super) fn write(&self, page: usize, value: u64) -> Result {
        for (address, value) in [(self.address(page), value), (self.end_of(page), !value)] {
            UserSlice::new(UserPtr::from_addr(address), size_of::<u64>())
                .writer()
                .write(&value)?;
        }
        Ok(())
    }

    /// Reads the beginning of a page.
    pub(super) fn read(&self, page: usize) -> Result<u64> {
        UserSlice::new(UserPtr::from_addr(self.address(page)), size_of::<u64>())
            .reader()
            .read()
    }

    /// Whether a page has what was written there.
    pub(super) fn has(&self, page: usize, value: u64) -> bool {
        let end = UserSlice::new(UserPtr::from_addr(self.end_of(page)), size_of::<u64>())
            .reader()
            .read::<u64>();
        self.read(page) == Ok(value) && end == Ok(!value)
    }

    /// Writes to each page what it is then to have; see [`check`](Self::check).
    pub(super) fn fill(&self) -> Result {
        (0..self.pages).try_for_each(|page| self.write(page, 0x1234_5678_0000 + page as u64))
    }

    /// Whether each page has what it was filled with.
    pub(super) fn check(&self) -> bool {
        (0..self.pages).all(|page| self.has(page, 0x1234_5678_0000 + page as u64))
    }

    /// Unmaps pages.
    pub(super) fn unmap(&self, pages: Range<usize>) -> Result {
        Process::munmap(self.address(pages.start), pages.len() * PAGE_SIZE)
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        let _ = self.unmap(0..self.pages);
    }
}

/// Drops what is in pages of a process.
pub(super) fn zap(users: &MmWithUser, range: Range<usize>) -> Result {
    let map = MemoryMap::lock(users);
    let area = map.next_area(range.start).ok_or(EFAULT)?;
    area.zap_vma_range(range.start, range.len());
    Ok(())
}

/// As [`zap`], by another thread.
pub(super) struct ZapLater(Pin<KBox<Zapper>>);

impl ZapLater {
    pub(super) fn new(users: ARef<MmWithUser>, range: Range<usize>) -> Result<Self> {
        let zapper = KBox::pin_init(
            pin_init!(Zapper {
                work <- new_work!("Zapper::work"),
                users,
                range,
            }),
            GFP_KERNEL,
        )?;
        Ok(Self(zapper))
    }

    /// Allocates nothing.
    pub(super) fn start(self) {
        system().enqueue(self.0);
    }
}

#[pin_data]
struct Zapper {
    #[pin]
    work: Work<Zapper>,
    users: ARef<MmWithUser>,
    range: Range<usize>,
}

impl_has_work! {
    impl HasWork<Self> for Zapper { self.work }
}

impl WorkItem for Zapper {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        let _ = zap(&this.users, this.range.clone());
    }
}

/// Drops something in another thread, when that gets to it.
pub(super) fn drop_later(pages: LocalPages) -> Result<End> {
    let is_over = Arc::new(AtomicFlag::new(false), GFP_KERNEL)?;
    let theirs = is_over.clone();
    let dropper = KBox::pin_init(
        pin_init!(Dropper {
            work <- new_work!("Dropper::work"),
            pages: Some(pages),
            is_over: theirs,
        }),
        GFP_KERNEL,
    )?;
    system().enqueue(dropper);
    Ok(End(is_over))
}

/// Whether something was dropped.
pub(super) struct End(Arc<AtomicFlag>);

impl End {
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn wait(&self) -> Result {
        wait_until(|| self.is_over())
    }
}

#[pin_data]
struct Dropper {
    #[pin]
    work: Work<Dropper>,
    pages: Option<LocalPages>,
    is_over: Arc<AtomicFlag>,
}

impl_has_work! {
    impl HasWork<Self> for Dropper { self.work }
}

impl WorkItem for Dropper {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Pin<KBox<Self>>) {
        drop(this.as_mut().project().pages.take());
        this.is_over.store(true, Relaxed);
    }
}

/// A page of host memory, for as long as it is used.
fn with_page<R>(pfn: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
    // SAFETY: Tests give page frames that have a page, which is theirs. It is unmapped below.
    let bytes = unsafe {
        let address = bindings::kmap_local_page(bindings::pfn_to_page(pfn));
        core::slice::from_raw_parts_mut(address.cast::<u8>(), PAGE_SIZE)
    };
    let result = f(bytes);

    // SAFETY: It was mapped above.
    unsafe { bindings::kunmap_local(bytes.as_ptr().cast()) };
    result
}

/// What host memory begins with, at a physical address that a page of the test has.
pub(super) fn peek(phys: u64) -> u64 {
    with_page((phys >> PAGE_SHIFT) as usize, |bytes| first(bytes))
}

fn first(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// How a [`Local`] behaves.
#[derive(Clone, Copy, Default)]
pub(super) struct Manners {
    /// Bytes that go together when the CPU touches one.
    pub(super) around: usize,
    /// Brings back by small pages what is huge.
    pub(super) split: bool,
    /// Brings nothing back: loses it.
    pub(super) broken: bool,
}

#[pin_data]
struct Inner {
    #[pin]
    bytes: Mutex<KVVec<u8>>,
    manners: Manners,
    freed: Atomic<usize>,
    touched: Atomic<usize>,
}

/// The memory of a device, which is a part of the host's; the CPU does what a copy engine would.
#[derive(Clone)]
pub(super) struct Local(Arc<Inner>);

pub(super) type LocalPages = Arc<DevicePages<Local>>;

impl Local {
    pub(super) fn pages(count: usize, manners: Manners) -> Result<LocalPages> {
        let bytes = KVVec::from_elem(0xdb, count * PAGE_SIZE, GFP_KERNEL)?;
        let inner = Arc::pin_init(
            pin_init!(Inner {
                bytes <- new_mutex!(bytes, "kunit::Local::bytes"),
                manners,
                freed: Atomic::new(0),
                touched: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
        DevicePages::new(count, c"gmem_vm-kunit", Self(inner))
    }

    /// How many pages were freed.
    pub(super) fn freed(&self) -> usize {
        self.0.freed.load(Relaxed)
    }

    /// How often the CPU touched what is here.
    pub(super) fn touched(&self) -> usize {
        self.0.touched.load(Relaxed)
    }

    /// What a page begins with.
    pub(super) fn peek(&self, page: usize) -> u64 {
        first(&self.0.bytes.lock()[page * PAGE_SIZE..])
    }

    /// Writes the first word of a page.
    pub(super) fn poke(&self, page: usize, value: u64) {
        let word = &mut self.0.bytes.lock()[page * PAGE_SIZE..][..8];
        word.copy_from_slice(&value.to_ne_bytes());
    }

    /// Copies what is in the host, or zeroes, to a page.
    fn bring(&self, page: usize, source: Source) {
        let bytes = &mut self.0.bytes.lock()[page * PAGE_SIZE..][..PAGE_SIZE];
        match source {
            Source::Nothing => bytes.fill(0),
            Source::Pages(pfn) => with_page(pfn, |host| bytes.copy_from_slice(host)),
        }
    }

    fn take(&self, page: usize, pfn: usize) {
        let bytes = self.0.bytes.lock();
        with_page(pfn, |host| {
            host.copy_from_slice(&bytes[page * PAGE_SIZE..][..PAGE_SIZE])
        });
    }

    /// Gives a slot a place in device memory that was claimed.
    pub(super) fn place(
        pages: &LocalPages,
        migration: &mut Migration<'_>,
        slot: &Slot,
        claim: &mut Claim<Self>,
    ) -> Result {
        let folio = claim.folio(slot.order).ok_or(ENOSPC)?;
        let index = pages.index(folio.pfn()).ok_or(EINVAL)?;
        for (i, part) in slot.split().enumerate() {
            pages.owner().bring(index + i, part.source);
        }
        migration.set(slot, folio);
        Ok(())
    }

    /// Gives a slot a place in host memory.
    pub(super) fn send(
        pages: &DevicePages<Self>,
        migration: &mut Migration<'_>,
        slot: &Slot,
    ) -> Result {
        let Source::Pages(pfn) = slot.source else {
            return Err(EINVAL);
        };
        let index = pages.index(pfn).ok_or(EINVAL)?;
        let folio = LockedFolio::new(slot.order, pages.node(), false, false)?;
        for page in 0..1 << slot.order {
            pages.owner().take(index + page, folio.pfn() + page);
        }
        migration.set(slot, folio);
        Ok(())
    }

    /// Gives all that was collected a place in host memory.
    pub(super) fn send_all(
        pages: &DevicePages<Self>,
        migration: &mut Migration<'_>,
        split: bool,
    ) -> Result {
        let mut page = 0;
        while let Some(slot) = migration.next(page) {
            page = slot.page + (1 << slot.order);
            if split {
                slot.split()
                    .try_for_each(|slot| Self::send(pages, migration, &slot))?;
            } else {
                Self::send(pages, migration, &slot)?;
            }
        }
        Ok(())
    }

    /// Moves pages of a process, that lie in one area, to device memory that begins with a page; those that `wanted`
    /// says, by number.
    pub(super) fn move_here(
        pages: &LocalPages,
        process: &Process,
        range: Range<usize>,
        to: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Moved> {
        Self::move_here_with(pages, process, range, to, wanted, |m| m.commit())
    }

    /// As [`move_here`](Self::move_here), with the end of it.
    pub(super) fn move_here_with(
        pages: &LocalPages,
        process: &Process,
        range: Range<usize>,
        to: usize,
        wanted: impl Fn(usize) -> bool,
        commit: impl FnOnce(Migration<'_>) -> Moved,
    ) -> Result<Moved> {
        let users = process.users()?;
        let map = MemoryMap::lock(&users);
        let area = map.next_area(range.start).ok_or(EFAULT)?;
        let mut migration = Migration::to_device(area, range, pages.id())?;
        let mut page = 0;
        while let Some(slot) = migration.next(page) {
            page = slot.page + (1 << slot.order);
            let all = slot.page..page;
            if all.clone().all(&wanted) {
                let at = to + slot.page;
                let mut claim = pages.claim(at..at + all.len()).ok_or(ENOSPC)?;
                Self::place(pages, &mut migration, &slot, &mut claim)?;
                continue;
            }
            for slot in slot.split().filter(|slot| wanted(slot.page)) {
                let at = to + slot.page;
                let mut claim = pages.claim(at..at + 1).ok_or(ENOSPC)?;
                Self::place(pages, &mut migration, &slot, &mut claim)?;
            }
        }
        Ok(commit(migration))
    }

    /// Moves pages of a process that are here to the host.
    pub(super) fn move_back(
        pages: &LocalPages,
        process: &Process,
        range: Range<usize>,
        split: bool,
    ) -> Result<Moved> {
        let users = process.users()?;
        let map = MemoryMap::lock(&users);
        let area = map.next_area(range.start).ok_or(EFAULT)?;
        let mut migration = Migration::to_host(area, range, pages.id())?;
        Self::send_all(pages, &mut migration, split)?;
        Ok(migration.commit())
    }
}

impl DeviceMemory for Local {
    fn freed(&self, pages: Range<usize>) {
        self.0.freed.fetch_add(pages.len(), Full);
    }

    fn around(&self, folio: Range<usize>, area: Range<usize>) -> Range<usize> {
        let size = self.0.manners.around.max(PAGE_SIZE);
        let start = folio.start & !(size - 1);
        start.max(area.start)..(start + size).max(folio.end).min(area.end)
    }

    fn bring_back(pages: &DevicePages<Self>, migration: &mut Migration<'_>) -> Result {
        let inner = &pages.owner().0;
        inner.touched.fetch_add(1, Full);
        if inner.manners.broken {
            return Err(EIO);
        }
        Self::send_all(pages, migration, inner.manners.split)
    }
}
