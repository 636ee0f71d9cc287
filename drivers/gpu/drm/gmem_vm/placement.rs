// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Moving a block of mirrored memory to where it should be, before it is brought into the page table
//! ([`crate::populate`]); as far as it can move, and there is room.
//!
//! Locks: that of the process's memory map while pages move.

use crate::{
    attach::Process,
    device_pages::{
        Home,
        Pool,
        Visit, //
    },
    driver::Driver,
    kapi::{
        area::{
            users,
            Area,
            MemoryMap, //
        },
        hmm::{
            Buffer,
            Place,
            Snapshot,
            Want, //
        },
        host_copy::HostCopy,
        migrate::{
            within_huge,
            Migration, //
        },
        signal::check_killed,
        trace::{
            self,
            Why, //
        }, //
    },
    latency::Phase,
    populate::{
        Done,
        Order, //
    },
    transfer::{
        bytes,
        Transfer, //
    },
    vm::{
        Attrs,
        Vm, //
    }, //
};
use core::ops::Range;
use kernel::{
    mm::virt::flags,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

impl<D: Driver> Vm<D> {
    /// By which the evictor knows an order's block.
    pub(crate) fn home(&self, process: &Process<D>, order: &Order<Attrs<D>>) -> Home {
        Home {
            vm: self.number(),
            block: order.block,
            cpu: order.mirrored.cpu,
            mm: process.mm().as_raw().addr(),
        }
    }

    /// Makes room for what of a block is not on the device, and can be.
    pub(crate) fn make_room(
        &self,
        process: &Process<D>,
        buffer: &mut Buffer,
        order: &Order<Attrs<D>>,
    ) -> Result {
        let Some(pages) = self.device.process_pages() else {
            return Ok(());
        };
        let size = order.block.size();
        let pin = order.pin.then(|| self.number());
        let available = pages.owner().reserve_for(&self.device, size, pin);
        if available >= size {
            return Ok(());
        }
        let cpu = order.cpu(&order.block);
        let mut movable = 0;
        self.each_area(process, cpu.clone(), |area, range| {
            if can_move(&area) && area.is_anonymous() {
                movable += range.len() as u64;
            }
            Ok(())
        })?;
        if movable == 0 {
            return Ok(());
        }
        let (start, id) = (cpu.start, self.process_memory_id());
        let taken = Snapshot::take(process.open(cpu)?, buffer, start..start, Want::Look, id);
        let mut missing = if order.makes { order.wanted.size() } else { 0 };
        match taken {
            Ok(snapshot) => {
                for run in snapshot.look().iter().flat_map(|valid| valid.runs()) {
                    match run.place {
                        Place::Host(_) => missing += run.size as u64,
                        Place::Device(_) => movable = movable.saturating_sub(run.size as u64),
                    }
                }
            }
            Err(e) if e == EBUSY || e == EFAULT => (),
            Err(e) => return Err(e),
        }
        let wanted = missing.min(movable);
        if wanted > available {
            let (device, home) = (&self.device, self.home(process, order));
            let wanted = (wanted, pin);
            let make_room = || Pool::make_room(pages, device, &home, wanted, order.evicts);
            device.latency().time(Phase::MakeRoom, make_room)?;
        }
        Ok(())
    }

    /// Moves what can move to device memory. Adds how many bytes are there now that were not, or were not at all; and how many
    /// of them were not copied although they were there.
    pub(crate) fn move_to_device(
        &self,
        process: &Process<D>,
        order: &Order<Attrs<D>>,
        done: &mut Done,
    ) -> Result {
        let Some(pages) = self.device.process_pages() else {
            return Ok(());
        };
        let latency = self.device.latency();
        let transfer = Transfer::new(&self.device, pages)?;
        let cpu = order.cpu(&order.block);
        let wanted = order.cpu(&order.wanted);
        let mut visit = Visit {
            home: self.home(process, order),
            priority: order.priority,
            pin: order.pin.then(|| self.allowed.clone()),
            need: None,
        };
        let mut counts = (0, 0);
        let mut blank = 0;
        let keeps = !order.blank && self.device.evict_policy().policy().keeps_copies();
        let result = self.each_area(process, cpu, |area, range| {
            if !can_move(&area) {
                return Ok(());
            }
            // What cannot move at all, or not now, is mapped where it is.
            let collect = || Migration::to_device(area, range.clone(), pages.id());
            let Ok(mut migration) = latency.time(Phase::Collect, collect) else {
                return Ok(());
            };
            let make = |page: usize| {
                let at = range.start + (page << PAGE_SHIFT);
                order.makes && at + PAGE_SIZE > wanted.start && at < wanted.end
            };
            let moves = transfer.to_device(pages, &mut migration, make, &mut visit, order.blank);
            let left_out = match moves {
                Ok(pages) => pages,
                Err(e) if e == ENODEV => return Err(e),
                Err(_) => return Ok(()),
            };
            let first = range.start;
            let keep = |page: usize, pfn: usize, copy: HostCopy| {
                let at = first + (page << PAGE_SHIFT);
                match pages.index(pfn) {
                    Some(index) if !order.writes_near(at) => {
                        pages.owner().copies().put(index, copy)
                    }
                    _ => drop(copy),
                }
            };
            let moved = match keeps {
                true => migration.commit_keeping(keep),
                false => migration.commit(),
            };
            let left_out = left_out.min(moved.pages);
            blank += bytes(left_out);
            let (copied, made) = (bytes(moved.pages - left_out), bytes(moved.made + left_out));
            counts.0 += copied;
            counts.1 += made;
            if copied + made > 0 {
                let cpu = range.start as u64..range.end as u64;
                trace::to_device(self.number, cpu, copied, made, order.why);
            }
            Ok(())
        });
        let mut tables = self.tables.lock();
        let all = &mut tables.mirrors.counts;
        all.to_device += counts.0;
        all.made += counts.1;
        done.moved += counts.0 + counts.1;
        done.blank += blank;
        result
    }

    /// Moves what is to stay on the device, and came there otherwise, to the host, so that it comes back to stay.
    pub(crate) fn bring_unpinned(
        &self,
        process: &Process<D>,
        buffer: &mut Buffer,
        order: &Order<Attrs<D>>,
    ) -> Result {
        match self.device.process_pages().filter(|_| order.pin) {
            Some(pages) if self.is_elsewhere(pages, process, buffer, order)? => {
                self.move_to_host(process, order, &mut Done::default())
            }
            _ => Ok(()),
        }
    }

    /// Moves what is in device memory to the host. Adds how many bytes.
    pub(crate) fn move_to_host(
        &self,
        process: &Process<D>,
        order: &Order<Attrs<D>>,
        done: &mut Done,
    ) -> Result {
        let Some(pages) = self.device.process_pages() else {
            return Ok(());
        };
        let latency = self.device.latency();
        let transfer = Transfer::new(&self.device, pages)?;
        let before = done.moved;
        let why = match order.why {
            Why::Prefetch => Why::Prefetch,
            _ => Why::Advice,
        };
        self.each_area(process, order.cpu(&order.block), |area, range| {
            let cpu = range.start as u64..range.end as u64;
            let collect = || Migration::to_host(area, range, pages.id());
            let Ok(mut migration) = latency.time(Phase::Collect, collect) else {
                return Ok(());
            };
            let back = transfer.to_host(&mut migration, false)?;
            back.trace(self.number, cpu, why);
            done.moved += bytes(migration.commit().pages);
            Ok(())
        })?;
        if done.moved > before {
            self.count_left(&order.block);
        }
        Ok(())
    }

    /// Does something for each area of the process's memory map, as far as it lies in a range, by pieces no larger
    /// than a huge folio, with the memory map locked.
    pub(crate) fn each_area(
        &self,
        process: &Process<D>,
        range: Range<usize>,
        mut f: impl FnMut(Area<'_>, Range<usize>) -> Result,
    ) -> Result {
        let users = users(process.mm()).ok_or(ESRCH)?;
        let mut at = range.start;
        while at < range.end {
            check_killed()?;
            let end = at + within_huge(at as u64, (range.end - at) as u64) as usize;
            {
                let map = MemoryMap::lock(&users);
                let mut from = at;
                while let Some(area) = map.next_area(from).filter(|a| a.start() < end) {
                    let part = area.start().max(from)..area.end().min(end);
                    from = part.end;
                    f(area, part)?;
                    if from >= end {
                        break;
                    }
                }
            }
            at = end;
        }
        Ok(())
    }
}

/// Whether memory of an area may be in device memory, as far as the area says.
fn can_move(area: &Area<'_>) -> bool {
    // Pages that KSM has merged are in its tree by their number, and mapped by that into other processes, which
    // nobody can do with device memory: `migrate_vma` does not know.
    area.flags() & flags::READ != 0 && area.flags() & flags::MERGEABLE == 0
}
