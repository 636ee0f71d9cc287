// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Faults of the device.
//!
//! The driver reports them from its interrupt thread ([`Device::report_fault`]) and gets an answer to
//! each ([`Driver::answer_fault`]). Those of one VM that lie in one block are served by one
//! [`Service`], one after the other, so that what the first one brought in answers the others; services of
//! different blocks, and of different VMs, run in parallel.
//!
//! Serving a fault allocates memory, while the job's fence waits. So nobody may wait for such a job for ever: it is
//! the driver that bounds it, by killing a job whose faults get no answer, for which it needs no memory.
//!
//! Locks: `faults` of a VM, a mutex, is a leaf.

use crate::{
    attach::Process,
    attrs::{
        AttrKind,
        AttrSet,
        LOCATION_DEVICE,
        LOCATION_HOST, //
    },
    device::Device,
    device_pages::Pages,
    driver::{
        Access,
        Driver,
        FaultAccess,
        MapAttrs,
        Verdict, //
    },
    evict::{
        policy::Priority,
        priority, //
    },
    kapi::{
        hmm::{
            Buffer,
            Want, //
        },
        lock::new_work,
        module::ModuleRef,
        signal::check_killed,
        trace,
        work::system, //
    },
    latency::{
        since,
        Phase, //
    },
    mirror::Mirrored,
    page_table::PageTable,
    populate::{
        Done,
        Goal,
        Order, //
    },
    range::VaRange,
    vm::{
        Attrs,
        Vm, //
    }, //
};
use kernel::{
    drm,
    impl_has_work,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// log2 of the bytes that are brought in together, if nothing else was advised.
const BLOCK_SHIFT: u64 = 21;
/// The same where that does not hold still for long enough; then it is a page.
const FEW_SHIFT: u64 = 16;
/// Most bytes that one fault brings in, if the device says that it will access as many in order.
const MOST: u64 = 8 << 20;
/// How long the device waits while more is brought in than what it waits for, in milliseconds.
const FAVOUR: i64 = 1000;
/// How often a fault is looked at anew before the device may try again.
const TRIES: usize = 8;

/// Most refused accesses that are remembered, for as many queues of the device.
const REFUSED: usize = 64;
/// How long the end of a VM waits for services that run, in milliseconds.
const PATIENCE: u32 = 500;

/// A fault, as the driver reports it.
pub struct Fault<D: Driver> {
    /// The address space of the job.
    pub vm: Arc<Vm<D>>,
    /// The address.
    pub va: u64,
    /// What the device tried.
    pub access: FaultAccess,
    /// Bytes from the address on that it will access in order, as far as the hardware knows; a hint.
    pub len: u64,
    /// By which the driver knows the fault again ([`Driver::answer_fault`]).
    pub ticket: u64,
}

/// A fault that waits for its service.
struct Waiting {
    va: u64,
    access: FaultAccess,
    len: u64,
    ticket: u64,
    /// When it was reported.
    since: Instant<Monotonic>,
}

/// What a service works with.
struct Serving {
    buffer: Buffer,
    /// For one fault.
    done: Done,
}

/// A VM's faults.
pub(crate) struct Faults<D: Driver> {
    services: KVec<(Arc<Service<D>>, KVec<Waiting>)>,
    /// Tickets and pages of accesses that were refused to a page that is there, and are tried once more.
    refused: KVec<(u64, u64)>,
    closed: bool,
}

impl<D: Driver> Faults<D> {
    pub(crate) const fn new() -> Self {
        Self {
            services: KVec::new(),
            refused: KVec::new(),
            closed: false,
        }
    }

    /// Adds a fault; returns the service that has to be started for it, if there is none yet.
    fn add(&mut self, fault: Fault<D>) -> Result<Option<Arc<Service<D>>>> {
        if self.closed {
            return Err(ENOENT);
        }
        let block = fault.va >> BLOCK_SHIFT;
        let waiting = Waiting {
            va: fault.va,
            access: fault.access,
            len: fault.len,
            ticket: fault.ticket,
            since: Instant::now(),
        };
        if let Some((_, queue)) = self.services.iter_mut().find(|(s, _)| s.block == block) {
            queue.push(waiting, GFP_KERNEL)?;
            return Ok(None);
        }
        let module = ModuleRef::of(&fault.vm.device);
        let service = Arc::pin_init(
            pin_init!(Service {
                vm: fault.vm,
                block,
                work <- new_work!("gmem_vm::Service::work"),
                _module: module,
            }),
            GFP_KERNEL,
        )?;
        let mut queue = KVec::with_capacity(1, GFP_KERNEL)?;
        queue.push(waiting, GFP_KERNEL)?;
        self.services.push((service.clone(), queue), GFP_KERNEL)?;
        Ok(Some(service))
    }

    /// Whether an access to a page shall be tried again although it is refused: the page may have come since the
    /// device found it missing, and it is the device that says what is wrong with an access.
    fn once_more(&mut self, ticket: u64, page: u64) -> bool {
        if let Some(at) = self
            .refused
            .iter()
            .position(|&known| known == (ticket, page))
        {
            let _ = self.refused.remove(at);
            return false;
        }
        if self.refused.len() >= REFUSED {
            let _ = self.refused.remove(0);
        }
        self.refused.push((ticket, page), GFP_KERNEL).is_ok()
    }

    /// The next fault of a service, and whether it need not be served any more; if there is none, the service is
    /// over.
    fn next(&mut self, service: &Service<D>) -> Option<(Waiting, bool)> {
        let at = self
            .services
            .iter()
            .position(|(s, _)| core::ptr::eq(&**s, service))?;
        match self.services[at].1.remove(0) {
            Ok(fault) => Some((fault, self.closed)),
            Err(_) => {
                let _ = self.services.remove(at);
                None
            }
        }
    }
}

/// Serves the faults in one block of a VM, one after the other.
#[pin_data]
pub(crate) struct Service<D: Driver> {
    vm: Arc<Vm<D>>,
    block: u64,
    #[pin]
    work: Work<Service<D>>,
    /// Nobody waits for the service for ever, so it keeps its code. The last to be dropped.
    _module: Option<ModuleRef>,
}

impl_has_work! {
    impl{D: Driver} HasWork<Self> for Service<D> { self.work }
}

impl<D: Driver> WorkItem for Service<D> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut serving = Serving {
            buffer: Buffer::new(),
            done: Done::default(),
        };
        loop {
            let next = this.vm.faults.lock().next(&this);
            let Some((fault, is_over)) = next else {
                return;
            };
            let verdict = if is_over {
                Verdict::Fail
            } else {
                this.vm.serve_timed(&mut serving, &fault)
            };
            D::answer_fault(&this.vm.device, fault.ticket, verdict);
        }
    }
}

impl<D: Driver> Device<D> {
    /// Takes a fault of the device, to be answered later. From an interrupt thread; may allocate.
    pub fn report_fault(device: &drm::Device<D>, fault: Fault<D>) {
        let (vm, ticket) = (fault.vm.clone(), fault.ticket);
        vm.tables.lock().mirrors.counts.faults += 1;
        let added = {
            let mut faults = vm.faults.lock();
            faults.add(fault).map(|service| {
                if let Some(service) = service {
                    // Under the lock: the VM's end finds it there, and queued.
                    let _ = system().enqueue::<_, 0>(service);
                }
            })
        };
        if added.is_err() {
            D::answer_fault(device, ticket, Verdict::Fail);
        }
    }
}

/// How a range of a VM is to be treated.
pub(crate) struct Treatment {
    pub(crate) goal: Goal,
    write: bool,
    exec: bool,
    pub(crate) none: bool,
    driver: u64,
    shift: u64,
    priority: Priority,
    pin: bool,
}

impl Treatment {
    /// What was advised, for an address that mirrors with `mirrored`; `shift`: log2 of the bytes that are brought in
    /// together if nothing was.
    fn of<A>(advice: &AttrSet, mirrored: &Mirrored<A>, shift: u64) -> Self {
        /// Values of `DRM_GMEM_ACCESS_*`.
        const NONE: u64 = 1;
        const IN_PLACE: u64 = 3;
        let access = advice.get(AttrKind::Access);
        let pin = advice.get(AttrKind::Pinned) != 0;
        let goal = match advice.get(AttrKind::PreferredLocation) {
            _ if access == IN_PLACE => Goal::Stay,
            // What is on the device stays there.
            LOCATION_HOST..LOCATION_DEVICE if pin => Goal::Stay,
            LOCATION_DEVICE => Goal::Device,
            LOCATION_HOST..LOCATION_DEVICE => Goal::Host,
            _ => Goal::Device,
        };
        Self {
            goal,
            write: mirrored.access.write && advice.get(AttrKind::ReadOnly) == 0,
            exec: mirrored.access.exec || advice.get(AttrKind::Exec) != 0,
            none: access == NONE,
            driver: advice.get(AttrKind::Driver),
            shift: match advice.get(AttrKind::Granularity) {
                0 => shift,
                shift => shift,
            },
            priority: priority(advice),
            pin,
        }
    }

    /// What the device may do.
    pub(crate) fn access(&self) -> Access {
        Access {
            write: self.write,
            exec: self.exec,
        }
    }

    /// The driver's own attributes: what was advised, if anything was, and else those of the mirror.
    fn attrs<A: MapAttrs>(&self, mirrored: &Mirrored<A>) -> Result<A> {
        match self.driver {
            0 => Ok(mirrored.attrs),
            advised => A::from_uapi(advised),
        }
    }

    /// To bring a block in, a part of what was found, where it should be; as far as the process has it. `advised` is
    /// from before the advice was read.
    pub(crate) fn order<A: MapAttrs>(
        &self,
        found: &Found<A>,
        block: VaRange,
        advised: u64,
    ) -> Result<Order<A>> {
        Ok(Order {
            block,
            access: self.access(),
            attrs: self.attrs(&found.mirrored)?,
            advised,
            mirrored: Mirrored {
                cpu: found.cpu(block.start()),
                ..found.mirrored.clone()
            },
            wanted: block,
            want: Want::Look,
            makes: true,
            goal: self.goal,
            priority: self.priority,
            pin: self.pin,
            blank: false,
            evicts: u64::MAX,
            why: trace::Why::Fault,
        })
    }
}

/// What was brought in for a fault.
struct Served {
    block: VaRange,
    /// What was advised to be brought in with it.
    around: VaRange,
}

/// What is at an address.
pub(crate) struct Found<A> {
    /// The device addresses that mirror in the same way.
    pub(crate) range: VaRange,
    pub(crate) mirrored: Mirrored<A>,
}

impl<A> Found<A> {
    /// The process's address for a device address.
    pub(crate) fn cpu(&self, va: u64) -> u64 {
        self.mirrored.cpu + (va - self.range.start())
    }
}

impl<D: Driver> Vm<D> {
    /// What was advised for the start of a range, and for how much of it that holds.
    pub(crate) fn advice_of(&self, range: VaRange) -> Result<(AttrSet, VaRange)> {
        let mut space = self.space.lock();
        self.settle(&mut space)?;
        Ok(space.attrs.get(range))
    }

    /// How what was found is to be treated, by what was advised there.
    pub(crate) fn treatment(&self, advice: &AttrSet, found: &Found<Attrs<D>>) -> Treatment {
        // What fits into a chunk, so that of a small memory not much is given for one access.
        let chunk = |pages: &Arc<Pages<D>>| pages.owner().chunk_bytes().ilog2().into();
        let shift = self.device.process_pages().map_or(BLOCK_SHIFT, chunk);
        Treatment::of(advice, &found.mirrored, shift)
    }

    /// Whether the page table has mirrored memory at an address.
    fn has(&self, va: u64) -> bool {
        self.tables.lock().mirrors.has(va, false)
    }

    /// How often what was advised has changed. To be asked before that is read.
    pub(crate) fn advised(&self) -> u64 {
        self.tables.lock().mirrors.advised
    }

    /// What was advised for an address.
    fn advice(&self, va: u64) -> Result<AttrSet> {
        let mut space = self.space.lock();
        self.settle(&mut space)?;
        Ok(space.attrs.at(va))
    }

    /// The mirror that has an address.
    fn mirrored(&self, va: u64) -> Option<Found<Attrs<D>>> {
        let tables = self.tables.lock();
        let entry = tables.mirrors.ranges.get(va)?;
        Some(Found {
            range: entry.range,
            mirrored: entry.value.clone(),
        })
    }

    /// The first mirror in a range.
    pub(crate) fn next_mirrored(&self, range: &VaRange) -> Option<Found<Attrs<D>>> {
        let tables = self.tables.lock();
        let entry = tables.mirrors.ranges.first_overlap(range)?;
        Some(Found {
            range: entry.range,
            mirrored: entry.value.clone(),
        })
    }

    /// Serves a fault, and tells how long it took.
    fn serve_timed(&self, serving: &mut Serving, fault: &Waiting) -> Verdict {
        let latency = self.device.latency();
        let (wait, began) = (since(fault.since), Instant::now());
        latency.add(Phase::Wait, wait);
        serving.done = Done::default();
        let result = self.serve(serving, fault);
        let took = since(began);
        latency.add(Phase::Serve, took);
        let (access, moved) = (fault.access as u32, serving.done.moved);
        trace::fault(self.number, fault.va, access, moved, (wait, took), result);
        match result {
            Ok(()) => Verdict::Replay,
            Err(_) => Verdict::Fail,
        }
    }

    /// Serves a fault. An error ends the job.
    fn serve(&self, serving: &mut Serving, fault: &Waiting) -> Result {
        let mut result = Err(EBUSY);
        for _ in 0..TRIES {
            result = self.try_serve(serving, fault);
            match result {
                Ok(()) => (),
                // Other mirrors or other advice than before: look again.
                Err(e) if e == EAGAIN => {
                    result = Ok(());
                    continue;
                }
                // It changes too fast; the device will be back.
                Err(e) if e == EBUSY => result = Ok(()),
                Err(e) if e == EFAULT || e == EPERM => {
                    let page = fault.va & !(PAGE_SIZE as u64 - 1);
                    if self.has(page) && self.faults.lock().once_more(fault.ticket, page) {
                        result = Ok(());
                    }
                }
                Err(e) => {
                    dev_dbg!(
                        self.device.as_ref(),
                        "fault at {:#x} ({:?}): {:?}\n",
                        fault.va,
                        fault.access,
                        e
                    );
                }
            }
            break;
        }
        if result.is_err() {
            self.tables.lock().mirrors.counts.bad += 1;
        }
        result
    }

    /// `EFAULT` if the access is bad.
    fn try_serve(&self, serving: &mut Serving, fault: &Waiting) -> Result {
        let write = fault.access == FaultAccess::Write;
        {
            let mut tables = self.tables.lock();
            let tables = &mut *tables;
            let mirrored = tables.mirrors.ranges.get(fault.va).is_some();
            // Another fault may have brought it in; and what isn't mirrored may be mapped by now.
            let there = if mirrored && fault.access != FaultAccess::Fetch {
                tables.mirrors.has(fault.va, write)
            } else {
                tables.page_table.permits(fault.va, fault.access)
            };
            if there {
                tables.mirrors.counts.merged += 1;
                return Ok(());
            }
        }
        // What is queued to be mapped there is not mapped yet.
        let Some(found) = self.mirrored(fault.va) else {
            return self.bring_object_at(fault.va, fault.access);
        };
        let process = self.subscription().ok_or(EFAULT)?;
        let unit = PAGE_SIZE as u64;
        let page = fault.va & !(unit - 1);
        let end = fault.va.saturating_add(fault.len.clamp(1, MOST));
        let end = end.next_multiple_of(unit).min(found.range.end());
        let served =
            self.serve_block(&process, serving, &found, page, (page, end), fault.access)?;
        let (mut around, done) = (served.around, served.block);
        if let Some(ahead) = VaRange::from_bounds(done.end(), end) {
            around = around.hull(&ahead);
        }
        // The rest is a favour, of which nobody depends.
        let began = Instant::<Monotonic>::now();
        let mut at = around.start();
        let mut brought = done.size();
        while at < around.end() && began.elapsed().as_millis() < FAVOUR {
            if at >= done.start() && at < done.end() {
                at = done.end();
                continue;
            }
            if !self.may_favour(brought) {
                break;
            }
            check_killed()?;
            match self.serve_block(&process, serving, &found, at, (page, end), fault.access) {
                Ok(served) => {
                    at = served.block.end();
                    brought += served.block.size();
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Whether more may be brought in than what the device waits for: if there is room, or as long as it does not drive itself
    /// out.
    fn may_favour(&self, brought: u64) -> bool {
        let Some(pages) = self.device.process_pages() else {
            return true;
        };
        let pool = pages.owner();
        let chunk = pool.chunk_bytes();
        brought < chunk * (pool.kept() as u64 / 2) || pool.reserve(&self.device, chunk) >= chunk
    }

    /// Brings in the block that has an address, so that the device can access what of it lies from `page` up to
    /// `end`.
    fn serve_block(
        &self,
        process: &Process<D>,
        Serving { buffer, done }: &mut Serving,
        found: &Found<Attrs<D>>,
        at: u64,
        (page, end): (u64, u64),
        access: FaultAccess,
    ) -> Result<Served> {
        let advised = self.advised();
        let advice = self.advice(at)?;
        let treatment = self.treatment(&advice, found);
        let refused = match access {
            FaultAccess::Read => false,
            FaultAccess::Write => !treatment.write,
            FaultAccess::Fetch => !treatment.exec,
        };
        if treatment.none || (refused && self.has(at)) {
            return Err(EFAULT);
        }
        // No more at a time than one page table has.
        let mut shift = treatment.shift.min(BLOCK_SHIFT);
        let around = self.block(found, at, treatment.shift)?;
        let (block, mut order, mut result) = loop {
            let block = self.block(found, at, shift)?;
            let wanted = VaRange::from_bounds(at.max(page), end).and_then(|w| w.intersect(&block));
            let mut order = treatment.order(found, block, advised)?;
            order.makes = wanted.is_some();
            if let Some(wanted) = wanted {
                order.wanted = wanted;
                order.want = match access {
                    // Once it can be read, the device knows what is wrong.
                    FaultAccess::Write if !refused => Want::Write,
                    _ => Want::Read,
                };
            }
            let result = self.populate_into(process, buffer, &order, done);
            if result.as_ref().is_err_and(|e| *e == EBUSY) && shift > PAGE_SHIFT as u64 {
                // All of it does not hold still for long enough, and most of it is not what the device waits for.
                shift = match shift > FEW_SHIFT {
                    true => FEW_SHIFT,
                    false => PAGE_SHIFT as u64,
                };
                continue;
            }
            break (block, order, result);
        };
        let is_bad = result.as_ref().is_err_and(|e| *e == EFAULT || *e == EPERM);
        if is_bad && order.wanted.size() > PAGE_SIZE as u64 {
            // It may be something behind that is bad: that is for another fault to find out.
            order.wanted = VaRange::new(order.wanted.start(), PAGE_SIZE as u64)?;
            result = self.populate_into(process, buffer, &order, done);
        }
        if result.as_ref().is_err_and(|e| *e == EPERM) && !self.tables.lock().mirrors.has(at, false)
        {
            // Once it can be read, the device knows what is wrong.
            order.want = Want::Read;
            result = self.populate_into(process, buffer, &order, done);
        }
        if result.is_ok() && order.makes {
            self.count_fault(process, &order);
        }
        result.map(|()| Served { block, around })
    }

    /// The block that an address is brought in with: aligned where it is in the process, mirrored and advised in
    /// the same way.
    fn block(&self, found: &Found<Attrs<D>>, va: u64, shift: u64) -> Result<VaRange> {
        let offset = found.cpu(va) & ((1 << shift) - 1);
        let start = va.saturating_sub(offset);
        let end = va.saturating_add((1 << shift) - offset);
        let block = VaRange::from_bounds(start, end).ok_or(EFAULT)?;
        let block = block.intersect(&found.range).ok_or(EFAULT)?;
        Ok(self.space.lock().attrs.alike(va, block))
    }

    /// Refuses new faults, and answers those that wait. Gives services that run some time to end; what is still
    /// under way then can't do anything to the page table any more, once [`Mirrors::closed`] is set.
    ///
    /// [`Mirrors::closed`]: crate::mirror::Mirrors
    pub(crate) fn end_faults(&self) {
        self.faults.lock().closed = true;
        loop {
            let next = {
                let mut faults = self.faults.lock();
                let mut queues = faults.services.iter_mut().map(|(_, queue)| queue);
                queues.find_map(|queue| queue.pop())
            };
            match next {
                Some(fault) => D::answer_fault(&self.device, fault.ticket, Verdict::Fail),
                None => break,
            }
        }
        // A service can be in a fault of the process's memory that the process itself would have to serve
        // (userfaultfd, FUSE), and this may be the end of the process: so it is not waited for.
        for _ in 0..PATIENCE {
            if self.faults.lock().services.is_empty() {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
    }
}
