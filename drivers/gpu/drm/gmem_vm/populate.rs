// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Bringing mirrored memory into the device's page table, and before that to where it should be.
//!
//! One range at a time goes through three steps: pages move ([`crate::transfer`]), as far as they can; a snapshot is
//! taken of where they are ([`kapi::hmm`](crate::kapi::hmm)), wherever that is in the end; and the page table
//! is written from it under the table lock, if nothing has changed meanwhile, and else the snapshot is taken
//! anew. Nobody waits for anybody here: any number of these run at once in one VM, and the process changes
//! its memory as it likes.
//!
//! Locks: that of the process's memory map while pages move and while the snapshot is taken, then the table
//! lock; never both.

use crate::{
    attach::Process,
    driver::{
        Access,
        Driver, //
    },
    evict::policy::Priority,
    kapi::{
        area::{
            users,
            MemoryMap, //
        },
        hmm::{
            Buffer,
            PageRun,
            Place,
            Snapshot,
            Valid,
            Want, //
        },
        trace::Why, //
    },
    latency::{
        since,
        Phase, //
    },
    mirror::{
        Frame,
        Mirrored,
        Watcher,
        KEEP_CUTS, //
    },
    object::Location,
    page_table::{
        Basis,
        Change,
        MapRun,
        PageTable,
        PendingFlush, //
    },
    range::VaRange,
    range_map::{
        Stock,
        Value, //
    },
    transfer::bytes,
    vm::{
        Attrs,
        Tables,
        Vm, //
    }, //
};
use core::{
    ffi::c_void,
    ops::Range, //
};
use kernel::{
    mm::virt::flags,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::Relaxed,
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// How often a snapshot is taken anew before the range is given up for now.
const TRIES: usize = 8;

/// Bytes, aligned, of which none is written by the device without all of them being so from then on.
const GROUP: usize = 64 << 10;

/// Where pages should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// Wherever they are.
    Stay,
    /// In device memory.
    Device,
    /// In host memory.
    Host,
}

/// A range to be brought into the page table.
pub(crate) struct Order<A> {
    /// The device addresses, multiples of the page.
    pub(crate) block: VaRange,
    /// What the block mirrors.
    pub(crate) mirrored: Mirrored<A>,
    /// The part of it that must be there in the end, or an error says why not.
    pub(crate) wanted: VaRange,
    /// What must be possible there.
    pub(crate) want: Want,
    /// Whether memory that is wanted is made if it was never touched.
    pub(crate) makes: bool,
    /// Where pages should be.
    pub(crate) goal: Goal,
    /// What the device may do, where the process may.
    pub(crate) access: Access,
    /// The driver's own attributes.
    pub(crate) attrs: A,
    /// How soon it shall leave the device again.
    pub(crate) priority: Priority,
    /// Whether it shall stay there.
    pub(crate) pin: bool,
    /// Nobody needs what is in it.
    pub(crate) blank: bool,
    /// What has come to the device up to this time may make room for it ([`Vm::device_time`]).
    pub(crate) evicts: u64,
    /// What it is brought in for.
    pub(crate) why: Why,
    /// Since when this has been so, by the count of changes of what was advised.
    pub(crate) advised: u64,
}

impl<A: Copy + PartialEq> Order<A> {
    /// The process's addresses for device addresses of the block.
    pub(crate) fn cpu(&self, range: &VaRange) -> Range<usize> {
        let start = self.mirrored.cpu + (range.start() - self.block.start());
        start as usize..(start + range.size()) as usize
    }

    /// Whether a page is written for which this is, or lies beside one that is.
    pub(crate) fn writes_near(&self, address: usize) -> bool {
        let wanted = self.cpu(&self.wanted);
        self.want == Want::Write
            && address >= wanted.start & !(GROUP - 1)
            && address < wanted.end.next_multiple_of(GROUP)
    }

    /// The device addresses for addresses of the process.
    fn device(&self, address: usize, size: usize) -> Option<VaRange> {
        let offset = (address as u64).checked_sub(self.mirrored.cpu)?;
        VaRange::new(self.block.start() + offset, size as u64).ok()
    }
}

/// What bringing in a range has done.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Done {
    /// Bytes that were moved or made.
    pub(crate) moved: u64,
    /// Bytes of the block that the page table has.
    pub(crate) mapped: u64,
    /// Bytes that were not copied to the device, since nobody needs what is in them.
    pub(crate) blank: u64,
}

type Plan<D> = <<D as Driver>::PageTable as PageTable>::Plan;

/// Why a snapshot did not make it into the page table.
enum Miss {
    /// Something has changed: take another.
    Stale,
    /// The block is not mirrored any more as it was.
    Other,
    /// It can't be done.
    Failed(Error),
}

impl From<Error> for Miss {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

/// A part of the block as the page table is to have it.
struct Piece {
    range: VaRange,
    frame: Frame,
    /// Where that was found.
    run: PageRun,
}

impl Piece {
    /// The piece in parts of so many bytes, of which its size is a multiple.
    fn parts(&self, step: u64) -> impl Iterator<Item = Self> + '_ {
        let offsets = (0..self.range.size()).step_by(step as usize);
        offsets.filter_map(move |offset| {
            Some(Self {
                range: VaRange::new(self.range.start() + offset, step).ok()?,
                frame: self.frame.advance(offset),
                run: self.run,
            })
        })
    }
}

impl<D: Driver> Vm<D> {
    /// Brings a range into the page table.
    ///
    /// Process context, sleeps; no locks may be held.
    ///
    /// # Errors
    ///
    /// `EFAULT`: what is wanted isn't there; `EPERM`: it may not be written; `EAGAIN`: it is mirrored no more, or
    /// not in the same way, or something was advised meanwhile; `EBUSY`: it changes all the time; `ESRCH`: the process has ended; `ENOMEM`,
    /// `ENOSPC` (page tables), `EIO`, `ENODEV`, `EINTR`.
    pub(crate) fn populate(
        &self,
        process: &Process<D>,
        buffer: &mut Buffer,
        order: &Order<Attrs<D>>,
    ) -> Result<Done> {
        let mut done = Done::default();
        self.populate_into(process, buffer, order, &mut done)?;
        Ok(done)
    }

    /// As [`populate`](Self::populate), and adds to what was done also if it fails in the end.
    pub(crate) fn populate_into(
        &self,
        process: &Process<D>,
        buffer: &mut Buffer,
        order: &Order<Attrs<D>>,
        done: &mut Done,
    ) -> Result {
        // Before anything is moved for an access that can't be.
        self.check_access(process, order)?;
        match order.goal {
            Goal::Stay => (),
            Goal::Device => {
                self.bring_unpinned(process, buffer, order)?;
                self.make_room(process, buffer, order)?;
                // What does not move is mapped where it is.
                self.move_to_device(process, order, done)?;
            }
            Goal::Host => self.move_to_host(process, order, done)?,
        }
        let began = Instant::now();
        for attempt in 0..TRIES {
            let taken = Snapshot::take(
                process.open(order.cpu(&order.block))?,
                buffer,
                order.cpu(&order.wanted),
                order.want,
                self.process_memory_id(),
            );
            let mut snapshot = match taken {
                Ok(snapshot) => snapshot,
                Err(e) if e == EBUSY => continue,
                Err(e) => return Err(e),
            };
            self.leave_dead(&mut snapshot, order);
            self.protect_copied(&mut snapshot, order);
            match self.commit(snapshot, order, began, attempt > 0) {
                Ok(mapped) => {
                    done.mapped += mapped;
                    return Ok(());
                }
                Err(Miss::Stale) => self.tables.lock().mirrors.counts.retries += 1,
                Err(Miss::Other) => return Err(EAGAIN),
                Err(Miss::Failed(e)) => return Err(e),
            }
        }
        Err(EBUSY)
    }

    /// Whether the process itself may do what is wanted, as far as its memory map says. `EFAULT`, `EPERM`, `ESRCH`.
    pub(crate) fn check_access(&self, process: &Process<D>, order: &Order<Attrs<D>>) -> Result {
        if order.want == Want::Look {
            return Ok(());
        }
        let at = order.cpu(&order.wanted).start;
        let users = users(process.mm()).ok_or(ESRCH)?;
        let map = MemoryMap::lock(&users);
        match map.next_area(at).filter(|area| area.start() <= at) {
            None => Err(EFAULT),
            Some(area) if area.flags() & (flags::IO | flags::PFNMAP) != 0 => Err(EFAULT),
            Some(area) if area.flags() & flags::READ == 0 => Err(EFAULT),
            Some(area) if order.want == Want::Write && area.flags() & flags::WRITE == 0 => {
                Err(EPERM)
            }
            Some(_) => Ok(()),
        }
    }

    /// By which the kernel knows memory of the VM's device.
    pub(crate) fn process_memory_id(&self) -> *const c_void {
        let pages = self.device.process_pages();
        pages.map_or(core::ptr::null(), |pages| pages.id())
    }

    /// What the host has a copy of is not to be written; where the device wants to, there are no copies any more.
    fn protect_copied(&self, snapshot: &mut Snapshot<'_, '_, Watcher<D>>, order: &Order<Attrs<D>>) {
        let Some(pages) = self.device.process_pages() else {
            return;
        };
        let copies = pages.owner().copies();
        snapshot.protect(|address, pfn| {
            let Some(page) = pages.index(pfn) else {
                return false;
            };
            if order.writes_near(address) {
                drop(copies.take(page));
            }
            // None comes where a page is mapped, so what is not here now never will be.
            copies.has(page)
        });
    }

    /// Writes the page table from a snapshot; returns how many bytes of the block it has then. `began`: when the first one
    /// was taken; `careful`: it was tried before, and may have been the tables that changed.
    fn commit(
        &self,
        snapshot: Snapshot<'_, '_, Watcher<D>>,
        order: &Order<Attrs<D>>,
        began: Instant<Monotonic>,
        careful: bool,
    ) -> Result<u64, Miss> {
        let mut plan = Plan::<D>::default();
        let room = D::PageTable::make_room(&mut plan, order.block, Change::Map);
        let basis = if careful {
            Basis::Unknown(0)
        } else {
            Basis::Current
        };
        let mapper = self.device.mapper();
        let by_page = mapper.is_some_and(|mapper| mapper.needs_unmap());
        let (lacks, epoch, is_new) = {
            let mut tables = self.tables.lock();
            let Tables {
                page_table,
                mirrors,
                planned,
                epoch,
                ..
            } = &mut *tables;
            room?;
            let valid = snapshot.look().ok_or(Miss::Stale)?;
            let mut runs = 0;
            let is_new = mirrors.frames.first_overlap(&order.block).is_none();
            for piece in pieces(self, &valid, order) {
                // Where each page has an address of its own, none is large.
                let own = by_page && matches!(piece.frame.location, Location::Host(_));
                let step = if own {
                    PAGE_SIZE as u64
                } else {
                    piece.range.size()
                };
                for part in piece.parts(step) {
                    page_table.plan_map(&mut plan, &order.run(&part), basis);
                    runs += 1;
                }
            }
            page_table.plan_stock(&mut plan);
            *planned += 1;
            let lacks = if is_new {
                mirrors.frames.lacks_for_row(runs, KEEP_CUTS)
            } else {
                mirrors.frames.lacks(runs + KEEP_CUTS)
            };
            (lacks, *epoch, is_new)
        };
        let mut stock = Stock::new();
        let filled = stock.fill(lacks);
        let prepared = filled.and_then(|()| D::prepare_tables(&self.device, plan));

        let mut tables = self.tables.lock();
        let tables_ref = &mut *tables;
        tables_ref.planned -= 1;
        let Tables {
            page_table,
            mirrors,
            epoch: now,
            ..
        } = tables_ref;
        // Nothing may sleep any more once there is a bus.
        let valid = snapshot.validate();
        let bus = mapper.and_then(|mapper| Some((mapper.needs_unmap(), mapper.bus()?)));
        let (mut prepared, (needs_unmap, bus)) = match (prepared, bus) {
            (Ok(prepared), Some(bus)) => (prepared, bus),
            (Err(e), _) => return Err(e.into()),
            (Ok(prepared), None) => {
                drop((valid, tables));
                drop(prepared);
                return Err(ENODEV.into());
            }
        };
        mirrors.frames.supply(&mut stock);
        let as_before = !mirrors.closed && mirrors.advised == order.advised;
        let same = as_before
            && mirrors
                .ranges
                .get(order.block.start())
                .is_some_and(|entry| {
                    let here = entry.value.cpu + (order.block.start() - entry.range.start());
                    here == order.mirrored.cpu
                        && entry.range.end() >= order.block.end()
                        && entry.value.access == order.mirrored.access
                        && entry.value.attrs == order.mirrored.attrs
                });
        let is_empty = mirrors.frames.first_overlap(&order.block).is_none();
        let current = (careful || *now == epoch) && (is_empty || !is_new);
        let mut hull: Option<VaRange> = None;
        let mut failed = None;
        let mut mapped = 0;
        let Some(valid) = valid.filter(|_| same && current) else {
            drop(bus);
            mirrors.frames.surplus(2 * KEEP_CUTS, &mut stock);
            drop(tables);
            drop((prepared, stock));
            return Err(if same { Miss::Stale } else { Miss::Other });
        };
        for piece in pieces(self, &valid, order) {
            self.live(piece.frame.location, piece.range.size());
            mapped += piece.range.size();
            let frames = &mirrors.frames;
            let is_there = !is_empty
                && frames.get(piece.range.start()).is_some_and(|e| {
                    let frame = e.value.advance(piece.range.start() - e.range.start());
                    e.range.end() >= piece.range.end()
                        && frame.write == piece.frame.write
                        && frame.cpu == piece.frame.cpu
                });
            if is_there {
                continue;
            }
            let is_writable = || frames.overlaps(piece.range).any(|e| e.value.write);
            if order.access.write && !piece.frame.write && is_writable() {
                // There was a copy when the snapshot was taken, and is none since somebody writes. What the process itself
                // must not write any more has no frame.
                failed = Some(Miss::Stale);
                break;
            }
            let Location::Host(_) = piece.frame.location else {
                if frames.lacks(1) > 0 {
                    failed = Some(Miss::Stale);
                    break;
                }
                page_table.map(&mut prepared, &order.run(&piece));
                mirrors.set_frame(piece.range, piece.frame, is_empty);
                hull = Some(piece.range.hull_with(hull));
                continue;
            };
            if piece.frame.write {
                valid.mark_dirty(&piece.run);
            }
            // With an IOMMU each page can be given back by itself; without, there is nothing to give back.
            let step = if needs_unmap {
                PAGE_SIZE as u64
            } else {
                piece.range.size()
            };
            for mut part in piece.parts(step) {
                let range = part.range;
                if mirrors.frames.lacks(1) > 0 {
                    // Others have used what was brought along.
                    failed = Some(Miss::Stale);
                    break;
                }
                let known = mirrors
                    .frames
                    .get(range.start())
                    .filter(|_| needs_unmap)
                    .map(|e| e.value.advance(range.start() - e.range.start()).location);
                let phys = part.frame.location.address();
                part.frame.location = match known {
                    Some(location) => location,
                    None => match bus.map(phys, step as usize) {
                        Ok(address) => Location::Host(address),
                        Err(e) => {
                            failed = Some(Miss::Failed(e));
                            break;
                        }
                    },
                };
                if order.goal == Goal::Device && !mirrors.frames.overlaps(range).any(|_| true) {
                    mirrors.counts.stayed += range.size();
                }
                page_table.map(&mut prepared, &order.run(&part));
                mirrors.set_frame(range, part.frame, is_empty);
                hull = Some(range.hull_with(hull));
            }
            if failed.is_some() {
                break;
            }
        }
        drop(bus);
        // From here on the table has it, and changes find it there.
        drop(valid);
        page_table.stock(&mut prepared);
        mirrors.frames.surplus(2 * KEEP_CUTS, &mut stock);
        if order.block.size() >= crate::bind::largest::<D>() {
            // A large page may have taken the place of a table.
            *now += 1;
        }
        if hull.is_some() {
            mirrors.trace(self.number);
        }
        let flush = page_table.flush(prepared, hull.unwrap_or(order.block), None);
        drop(tables);
        let latency = self.device.latency();
        if failed.is_none() {
            latency.add(Phase::Commit, since(began));
        }
        let (flushed, garbage) = latency.time(Phase::Flush, || flush.wait());
        drop((garbage, stock));
        if flushed.is_err() {
            self.failed.store(true, Relaxed);
            return Err(EIO.into());
        }
        failed.map_or(Ok(mapped), Err)
    }
}

impl<A: Copy + PartialEq> Order<A> {
    fn run(&self, piece: &Piece) -> MapRun<A> {
        MapRun {
            range: piece.range,
            location: piece.frame.location,
            access: Access {
                write: piece.frame.write,
                exec: self.access.exec,
            },
            attrs: self.attrs,
        }
    }
}

/// What of a snapshot is to be in the page table. Host memory has its physical address, as that of the device is
/// known only once it is mapped.
fn pieces<'a, D: Driver>(
    vm: &'a Vm<D>,
    valid: &'a Valid<'_, '_>,
    order: &'a Order<Attrs<D>>,
) -> impl Iterator<Item = Piece> + 'a {
    valid.runs().filter_map(move |run| {
        let location = match run.place {
            Place::Host(phys) => Location::Host(phys),
            Place::Device(pfn) => {
                let index = vm.device.process_pages()?.index(pfn)?;
                Location::Device(bytes(index))
            }
        };
        Some(Piece {
            range: order.device(run.address, run.size)?,
            frame: Frame {
                location,
                cpu: run.address as u64,
                write: run.write && order.access.write,
            },
            run,
        })
    })
}
