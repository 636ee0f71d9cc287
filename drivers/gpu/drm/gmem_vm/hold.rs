// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory held for jobs of a device that cannot fault.
//!
//! What such a job touches must be in the page table before it starts, and stay until it has ended. [`Vm::hold`] brings
//! it in; the job's fence is published by [`Hold::publish`], in the same breath in which it is found that nothing
//! was taken out again. From then on whoever changes that memory waits for the fence first.
//!
//! Locks: the table lock, under which the fence is published; the driver's own are inside of it.

use crate::{
    attach::Process,
    driver::Driver,
    kapi::{
        dma_fence::Fence,
        hmm::{
            Buffer,
            Want, //
        },
        migrate::within_huge,
        signal::check_killed,
        trace::Why,
        vec::{
            enlarge,
            swap_remove, //
        }, //
    },
    populate::Goal,
    range::VaRange,
    vm::Vm, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How often memory is brought in anew if it is taken out before the job is there.
const TRIES: usize = 64;

/// Jobs of a VM that hold memory at a time: who changes it may have to wait for all of them, each for as long as the
/// driver lets it run, and what it waits for.
const MOST: usize = 16;
/// Ranges of the process that one of them may hold.
const PARTS: usize = 4096;

/// Memory of the process that a job needs.
struct Held {
    number: u64,
    cpu: KVVec<VaRange>,
    /// Some of it was taken out, before there was a fence.
    stale: bool,
    /// Of the job; none as long as it is not there.
    fence: Option<ARef<Fence>>,
}

impl Held {
    fn meets(&self, range: &VaRange) -> bool {
        self.cpu.iter().any(|cpu| cpu.intersect(range).is_some())
    }

    fn is_over(&self) -> bool {
        self.fence.as_ref().is_some_and(|fence| fence.is_signaled())
    }
}

/// For whom one more has to wait.
enum Crowd {
    /// For nobody.
    None,
    /// For a job.
    Job(ARef<Fence>),
    /// For those that are not there yet, and soon will be, or give up.
    Soon,
}

/// All memory that is held in a VM, under its table lock.
#[derive(Default)]
pub(crate) struct Holds {
    all: KVec<Held>,
    last: u64,
    /// How many are about to change memory, and let no job be there before they have.
    changing: usize,
}

impl Holds {
    pub(crate) const fn new() -> Self {
        Self {
            all: KVec::new(),
            last: 0,
            changing: 0,
        }
    }

    /// Adds memory to be held, if there is room or enough is brought.
    fn add(&mut self, cpu: &mut Option<KVVec<VaRange>>, room: &mut KVec<Held>) -> Option<u64> {
        enlarge(&mut self.all, room);
        if self.all.len() == self.all.capacity() {
            return None;
        }
        self.last += 1;
        let held = Held {
            number: self.last,
            cpu: cpu.take()?,
            stale: false,
            fence: None,
        };
        self.all.push_within_capacity(held).ok()?;
        Some(self.last)
    }

    fn find(&mut self, number: u64) -> Option<&mut Held> {
        self.all.iter_mut().find(|held| held.number == number)
    }

    /// Takes out what is held no more, one at a time, to be freed without the lock.
    fn take(&mut self, over: impl Fn(&Held) -> bool) -> Option<Held> {
        let at = self.all.iter().position(over)?;
        swap_remove(&mut self.all, at)
    }

    /// Whether another may hold memory, and if not, for whom it has to wait.
    fn crowd(&self) -> Crowd {
        let held = || self.all.iter().filter(|held| !held.is_over());
        match held().find_map(|held| held.fence.as_ref()) {
            _ if held().count() < MOST => Crowd::None,
            Some(fence) => Crowd::Job(fence.clone()),
            None => Crowd::Soon,
        }
    }

    /// Whether a job that is there needs any of a range.
    pub(crate) fn needs(&self, range: &VaRange) -> bool {
        let mut there = self.all.iter().filter(|held| held.fence.is_some());
        there.any(|held| !held.is_over() && held.meets(range))
    }

    /// Lets no job be there, until [`end_change`](Self::end_change).
    pub(crate) fn begin_change(&mut self) {
        self.changing += 1;
    }

    pub(crate) fn end_change(&mut self) {
        self.changing -= 1;
    }

    /// A job that must end before a range may change. What waits for its job is told that it was taken out.
    pub(crate) fn changes(&mut self, range: &VaRange) -> Option<ARef<Fence>> {
        let mut first = None;
        for held in self.all.iter_mut().filter(|held| held.meets(range)) {
            match &held.fence {
                None => held.stale = true,
                Some(fence) if first.is_none() && !fence.is_signaled() => {
                    first = Some(fence.clone());
                }
                Some(_) => (),
            }
        }
        first
    }
}

/// Memory that was brought in for a job.
pub struct Hold<D: Driver> {
    vm: Arc<Vm<D>>,
    number: u64,
}

impl<D: Driver> Hold<D> {
    /// Lets the job be there: `publish` makes its fence, under the table lock, so it neither allocates nor
    /// sleeps.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if the memory was taken out again: nothing was published. Those of `publish`.
    pub fn publish(self, publish: impl FnOnce() -> Result<ARef<Fence>>) -> Result<ARef<Fence>> {
        let mut tables = self.vm.tables.lock();
        let holds = &mut tables.mirrors.holds;
        if holds.changing > 0 {
            return Err(EAGAIN);
        }
        let held = holds.find(self.number).ok_or(EAGAIN)?;
        if held.stale {
            return Err(EAGAIN);
        }
        let fence = publish()?;
        held.fence = Some(fence.clone());
        Ok(fence)
    }
}

impl<D: Driver> Drop for Hold<D> {
    fn drop(&mut self) {
        // Unless it has a fence now.
        let unused = |held: &Held| held.number == self.number && held.fence.is_none();
        let held = self.vm.tables.lock().mirrors.holds.take(unused);
        drop(held);
    }
}

impl<D: Driver> Vm<D> {
    /// Brings memory in for a job that is about to be submitted, if the device can't do so by faults. What of the
    /// ranges isn't mirrored is left alone. While 16 jobs of the VM hold memory, waits for one of them to end.
    ///
    /// Process context, sleeps; no locks may be held.
    ///
    /// # Errors
    ///
    /// `EFAULT`: a mirrored part has no memory, or none that the device may use; `ESRCH`: the process has
    /// ended; `EBUSY`: it changes all the time; `E2BIG`: it is in more than 4096 pieces; `ERESTARTSYS`, `EINTR`, `ENOMEM`, `ENOSPC` (page tables), `EIO`, `ENODEV`.
    pub fn hold(self: &Arc<Self>, ranges: &[VaRange]) -> Result<Option<Hold<D>>> {
        if ranges.is_empty() || self.can_fault() {
            return Ok(None);
        }
        let cpu = self.mirrored_at(ranges)?;
        if cpu.is_empty() {
            return Ok(None);
        }
        let mut cpu = Some(cpu);
        let mut room = KVec::new();
        let number = loop {
            let (over, crowd, wanted) = {
                let holds = &mut self.tables.lock().mirrors.holds;
                let over = holds.take(Held::is_over);
                let crowd = match holds.crowd() {
                    Crowd::None if holds.changing > 0 => Crowd::Soon,
                    crowd => crowd,
                };
                if over.is_none() && matches!(crowd, Crowd::None) {
                    if let Some(number) = holds.add(&mut cpu, &mut room) {
                        break number;
                    }
                }
                (over, crowd, 2 * holds.all.capacity().max(4))
            };
            match crowd {
                // Freed without the lock; there may be more.
                _ if over.is_some() => (),
                Crowd::None => room = KVec::with_capacity(wanted, GFP_KERNEL)?,
                Crowd::Job(fence) => fence.wait(true, None)?,
                Crowd::Soon => {
                    check_killed()?;
                    fsleep(Delta::from_millis(1));
                }
            }
        };
        let hold = Hold {
            vm: self.clone(),
            number,
        };
        let process = self.subscription().ok_or(ESRCH)?;
        let mut buffer = Buffer::new();
        // Nothing that it has brought itself makes room.
        let before = self.device_time();
        for range in ranges {
            self.bring_in(&process, &mut buffer, *range, Some(before))?;
        }
        // Moving memory is a change of it, of which we are told like anybody. From here on nothing moves, so what
        // changes is somebody's doing.
        if let Some(held) = self.tables.lock().mirrors.holds.find(number) {
            held.stale = false;
        }
        for range in ranges {
            self.bring_in(&process, &mut buffer, *range, None)?;
        }
        Ok(Some(hold))
    }

    /// The addresses of the process that some ranges mirror. `E2BIG`, `ENOMEM`, `EINTR`.
    fn mirrored_at(&self, ranges: &[VaRange]) -> Result<KVVec<VaRange>> {
        let mut all = KVVec::<VaRange>::new();
        for range in ranges {
            let mut rest = Some(*range);
            while let Some(left) = rest {
                check_killed()?;
                let Some(found) = self.next_mirrored(&left) else {
                    break;
                };
                let part = found.range.intersect(&left).ok_or(EFAULT)?;
                let cpu = VaRange::new(found.cpu(part.start()), part.size())?;
                let count = all.len();
                match all.last_mut() {
                    Some(last) if last.end() == cpu.start() => *last = last.hull(&cpu),
                    _ if count >= PARTS => return Err(E2BIG),
                    _ => all.push(cpu, GFP_KERNEL_ACCOUNT)?,
                }
                rest = VaRange::from_bounds(part.end(), left.end());
            }
        }
        Ok(all)
    }

    /// Whether the page table has all of a block, in the way that is wanted.
    fn has_all(&self, block: &VaRange, write: bool) -> bool {
        let tables = self.tables.lock();
        let frames = &tables.mirrors.frames;
        frames.covered(*block) == block.size()
            && (!write || frames.overlaps(*block).all(|entry| entry.value.write))
    }

    /// Brings all of a range in that is mirrored; before that to where it should be, if so asked, where what has come
    /// before some time may make room for it, unless it is there already: moving memory is a change of it, for which other jobs would have to end that need it.
    fn bring_in(
        &self,
        process: &Process<D>,
        buffer: &mut Buffer,
        range: VaRange,
        moves: Option<u64>,
    ) -> Result {
        let mut rest = Some(range);
        let mut tries = 0;
        while let Some(left) = rest {
            check_killed()?;
            let Some(found) = self.next_mirrored(&left) else {
                break;
            };
            let part = found.range.intersect(&left).ok_or(EFAULT)?;
            // No more than one area, since another may be read-only.
            let cpu = found.cpu(part.start());
            let size = match self.next_used(cpu, part.size())? {
                Some((start, size)) if start == cpu => within_huge(cpu, size),
                _ => return Err(EFAULT),
            };
            let advised = self.advised();
            let (advice, block) = self.advice_of(VaRange::new(part.start(), size)?)?;
            let treatment = self.treatment(&advice, &found);
            if treatment.none {
                return Err(EFAULT);
            }
            let mut order = treatment.order(&found, block, advised)?;
            order.evicts = moves.unwrap_or(0);
            order.why = Why::Job;
            order.want = match order.access.write {
                true => Want::Write,
                false => Want::Read,
            };
            match self.check_access(process, &order) {
                // The process itself may not write: nor will the device.
                Err(e) if e == EPERM => order.want = Want::Read,
                result => result?,
            }
            if moves.is_none() {
                order.goal = Goal::Stay;
            } else if self.has_all(&block, order.want == Want::Write) {
                rest = VaRange::from_bounds(block.end(), range.end());
                continue;
            }
            let mut done = self.populate(process, buffer, &order);
            if done.as_ref().is_err_and(|e| *e == EPERM) {
                // It may meanwhile be another area.
                order.want = Want::Read;
                done = self.populate(process, buffer, &order);
            }
            match done {
                Ok(_) => rest = VaRange::from_bounds(block.end(), range.end()),
                Err(e) if (e == EAGAIN || e == EBUSY) && tries < TRIES => tries += 1,
                Err(e) if e == EAGAIN => return Err(EBUSY),
                Err(e) if e == EPERM => return Err(EFAULT),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
