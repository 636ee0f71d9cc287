// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The device as registers: bringing it up, local memory as the CPU reaches it, TLB invalidation,
//! and whether the device is still there.
//!
//! Every access fails softly once the driver is unbound or the card was pulled: nothing above needs
//! to care.
//!
//! Locks: `tlb` and `window` are leaf spinlocks; `maintenance` is a mutex, outside of those of the
//! queues, and `fenced` one inside of it.

use crate::{
    fault_ring::FaultRing,
    module_parameters,
    pci::APERTURE_BAR,
    regs::*, //
};
use gmem_vm::{
    kapi::pci::BusMaster,
    VaRange,
    Verdict, //
};
use kernel::{
    device,
    io::{
        poll::read_poll_timeout,
        register::Array,
        Io, //
    },
    new_mutex,
    new_spinlock,
    pci::{
        self,
        Bar,
        DevresBar, //
    },
    prelude::*,
    processor::cpu_relax,
    sync::{
        aref::ARef,
        atomic::{
            AtomicFlag,
            Full,
            Relaxed, //
        },
        Mutex,
        SpinLock, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// Longest time the device may take to do what it was told, except to run a job.
const PATIENCE: Delta = Delta::from_millis(2000);
/// Invalidations that may be outstanding.
const TLB_OUTSTANDING: u32 = 16;
/// Tickets are 1 to this, then 1 again.
const TICKET_MAX: u32 = 0x7fff_ffff;

/// Facts that never change while the device is bound.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) version: u32,
    pub(crate) mem_size: u64,
    pub(crate) aperture_size: u64,
    pub(crate) compute_queues: usize,
    /// It reports faults and waits, rather than end the job.
    pub(crate) faults: bool,
}

#[derive(Default)]
struct Tlb {
    /// Ticket that was given last, 0 = none yet.
    issued: u32,
    /// Last ticket known to be done.
    done: u32,
    /// The device is being reset, which does all invalidations that are outstanding.
    resetting: bool,
}

/// Where the window is.
struct Window {
    /// `None`: unknown.
    base: Option<u64>,
    /// The device is being reset, which moves it.
    resetting: bool,
}

/// The device as registers.
#[pin_data]
pub(crate) struct Hw {
    dev: ARef<device::Device>,
    bar: DevresBar<BAR0_SIZE>,
    aperture: Option<DevresBar>,
    facts: Facts,
    gone: AtomicFlag,
    #[pin]
    tlb: SpinLock<Tlb>,
    #[pin]
    window: SpinLock<Window>,
    #[pin]
    faults: FaultRing,
    bus_master: BusMaster,
    /// Whether the device was given up.
    #[pin]
    fenced: Mutex<bool>,
    /// Held while the device is being reset and while a queue is killed: both take more than one
    /// register.
    #[pin]
    maintenance: Mutex<()>,
}

impl Hw {
    /// Maps the BARs, resets the device and reads what it is. `ENODEV` if it is not an NPU we know.
    pub(crate) fn new(pdev: &pci::Device<device::Bound>) -> Result<impl PinInit<Self, Error>> {
        let bar = pdev.iomap_region_sized::<BAR0_SIZE>(0, c"npu")?;
        let version = (&bar).read(VERSION);
        if u32::from((&bar).read(ID).value()) != ID_MAGIC || u32::from(version.major()) != 1 {
            dev_err!(pdev, "not a device this driver knows\n");
            return Err(ENODEV);
        }
        reset(&bar)?;
        let caps = (&bar).read(CAPS);
        let facts = Facts {
            version: u32::from(version),
            mem_size: read_wide!(&bar, MEM_SIZE),
            aperture_size: read_wide!(&bar, APERTURE_SIZE),
            compute_queues: usize::from(caps.compute_queues().cast::<u8>().get()),
            faults: caps.faults() && module_parameters::faults.value(),
        };
        if facts.compute_queues == 0 || facts.compute_queues >= MAX_QUEUES {
            return Err(ENODEV);
        }
        let aperture = if facts.aperture_size != 0 {
            Some(
                pdev.iomap_region(APERTURE_BAR, c"npu-memory")?
                    .into_devres()?,
            )
        } else {
            None
        };
        let bar = bar.into_devres()?;
        let dev: ARef<device::Device> = pdev.as_ref().into();
        let bus_master = BusMaster::new(pdev);
        let faults = FaultRing::new(pdev.as_ref(), facts.faults)?;
        Ok(try_pin_init!(Self {
            dev,
            bar,
            aperture,
            facts,
            gone: AtomicFlag::new(false),
            tlb <- new_spinlock!(Tlb::default(), "npu::tlb"),
            window <- new_spinlock!(Window {
                base: None,
                resetting: false,
            }, "npu::window"),
            faults <- faults,
            bus_master,
            fenced <- new_mutex!(false, "npu::fenced"),
            maintenance <- new_mutex!((), "npu::maintenance"),
        }))
    }

    pub(crate) fn dev(&self) -> &device::Device {
        &self.dev
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn faults(&self) -> &FaultRing {
        &self.faults
    }

    /// Gives access to the registers, unless the device is gone.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Bar<'_, BAR0_SIZE>) -> R) -> Option<R> {
        if self.is_gone() {
            return None;
        }
        let bar = self.bar.try_access()?;
        Some(f(&bar))
    }

    /// Whether the device was removed, or the driver is being unbound.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Gives the device up: from now on no register is touched any more, and the device touches no
    /// memory of the host. Waits until it has stopped, or takes the bus away from it. Sleeps.
    pub(crate) fn fence_off(&self) {
        let mut fenced = self.fenced.lock();
        // Once is enough, and twice too much: the device may have a new driver by then.
        if *fenced {
            return;
        }
        let stopped = self.reset();
        self.bus_master.clear();
        *fenced = true;
        if !self.gone.xchg(true, Full) {
            if let Err(e) = stopped {
                dev_err!(self.dev, "given up, it does not stop: {:?}\n", e);
            }
        }
    }

    /// Keeps others from resetting the device or killing a queue.
    pub(crate) fn maintain(&self) -> impl Drop + '_ {
        self.maintenance.lock()
    }

    /// Whether a programming error has halted the device.
    pub(crate) fn has_error(&self) -> bool {
        self.with(|bar| bar.read(STATUS).error()).unwrap_or(false)
    }

    /// Asks the device whether it is there. One that isn't answers all ones.
    pub(crate) fn probe_presence(&self) -> bool {
        let present = self
            .with(|bar| u32::from(bar.read(ID).value()) == ID_MAGIC)
            .unwrap_or(false);
        if !present && !self.gone.xchg(true, Full) {
            dev_err!(self.dev, "the device is gone\n");
        }
        present
    }

    /// Resets the device; all but its memory is as after power-on. `ENODEV`, `ETIMEDOUT`.
    pub(crate) fn reset(&self) -> Result {
        if !self.probe_presence() {
            return Err(ENODEV);
        }
        self.tlb.lock().resetting = true;
        self.window.lock().resetting = true;
        self.faults.pause();
        self.with(|bar| bar.write_reg(CONTROL::zeroed().with_reset(true)));
        let done = self.poll(|bar| !bar.read(CONTROL).reset());
        let mut window = self.window.lock();
        window.base = None;
        window.resetting = false;
        drop(window);
        let mut tlb = self.tlb.lock();
        if done.is_ok() {
            tlb.done = tlb.issued;
        }
        tlb.resetting = false;
        done
    }

    /// Lets the queues of a device run that was reset.
    pub(crate) fn enable(&self) {
        let faults = self.faults.program(self);
        let control = CONTROL::zeroed().with_enable(true).with_fault_mode(faults);
        self.with(|bar| bar.write_reg(control));
    }

    /// Lets the queues stop once their current descriptors are done.
    pub(crate) fn disable(&self) {
        self.with(|bar| {
            // The mode may not change on the way.
            let mode = bar.read(CONTROL).fault_mode();
            bar.write_reg(CONTROL::zeroed().with_fault_mode(mode));
        });
    }

    /// Waits until a condition on registers holds. Sleeps. `ENODEV` if the device is gone,
    /// `ETIMEDOUT`.
    pub(crate) fn poll(&self, condition: impl Fn(&Bar<'_, BAR0_SIZE>) -> bool) -> Result {
        let polled = read_poll_timeout(
            || self.with(&condition).ok_or(ENODEV),
            |&done| done,
            Delta::from_micros(50),
            PATIENCE,
        );
        // A device that is gone satisfies some conditions and never others.
        if !self.probe_presence() {
            return Err(ENODEV);
        }
        polled.map(|_| ())
    }

    /// Writes a 64-bit word of local memory.
    pub(crate) fn write64(&self, local: u64, value: u64) {
        if self.is_gone() {
            return;
        }
        match self
            .aperture
            .as_ref()
            .filter(|_| local < self.facts.aperture_size)
        {
            Some(aperture) => {
                if let Some(aperture) = aperture.try_access() {
                    let _ = (&*aperture).try_write64(value, local as usize);
                }
            }
            None => self.through_window(local, |bar, offset| {
                let _ = bar.try_write64(value, offset);
            }),
        }
    }

    /// Reads a 64-bit word of local memory; 0 if the device is gone.
    pub(crate) fn read64(&self, local: u64) -> u64 {
        let mut value = 0;
        match self
            .aperture
            .as_ref()
            .filter(|_| local < self.facts.aperture_size)
        {
            Some(aperture) => {
                if let Some(aperture) = aperture.try_access() {
                    value = (&*aperture).try_read64(local as usize).unwrap_or(0);
                }
            }
            None => self.through_window(local, |bar, offset| {
                value = bar.try_read64(offset).unwrap_or(0);
            }),
        }
        value
    }

    fn through_window(&self, local: u64, access: impl FnOnce(&Bar<'_, BAR0_SIZE>, usize)) {
        let base = local & !(WINDOW_SIZE - 1);
        let start: Instant<Monotonic> = Instant::now();
        let mut window = self.window.lock();
        while window.resetting && start.elapsed() < PATIENCE {
            drop(window);
            cpu_relax();
            window = self.window.lock();
        }
        self.with(|bar| {
            if window.base != Some(base) {
                write_wide!(bar, WINDOW_BASE, base);
                window.base = Some(base);
            }
            access(bar, WINDOW + (local - base) as usize);
        });
    }

    /// Starts the invalidation of a range under a root table. Does not sleep.
    pub(crate) fn start_invalidate(&self, pgd: u64, range: VaRange) -> Invalidation {
        let start: Instant<Monotonic> = Instant::now();
        loop {
            let mut tlb = self.tlb.lock();
            if tlb.resetting {
                // The reset invalidates; to be waited for like all that was issued before it.
                return Invalidation::Ticket(tlb.issued);
            }
            let outstanding = tlb.issued.wrapping_sub(tlb.done) & TICKET_MAX;
            if outstanding < TLB_OUTSTANDING {
                let ticket = tlb.issued % TICKET_MAX + 1;
                let issued = self.with(|bar| {
                    write_wide!(bar, TLB_PGD, pgd);
                    write_wide!(bar, TLB_START, range.start());
                    write_wide!(bar, TLB_END, range.end());
                    bar.write_reg(TLB_COMMAND::from(ticket));
                });
                if issued.is_none() {
                    return Invalidation::Gone;
                }
                tlb.issued = ticket;
                return Invalidation::Ticket(ticket);
            }
            drop(tlb);
            if self.read_done().is_none() || start.elapsed() > PATIENCE {
                return Invalidation::Gone;
            }
        }
    }

    /// The invalidation that was started last, if it may not be done. Does not sleep.
    pub(crate) fn last_invalidation(&self) -> Option<Invalidation> {
        let tlb = self.tlb.lock();
        let done = tlb.issued == tlb.done && !tlb.resetting;
        (!done).then_some(Invalidation::Ticket(tlb.issued))
    }

    /// Reads which ticket is done, and remembers it. `None` if the device is gone.
    fn read_done(&self) -> Option<u32> {
        let done = self.with(|bar| u32::from(bar.read(TLB_DONE)))?;
        if done > TICKET_MAX {
            return None;
        }
        let mut tlb = self.tlb.lock();
        // Two readers may come here in the wrong order: only go forward. 0 is no ticket, but what the
        // device starts with after a reset.
        if !tlb.resetting && done != 0 && is_past(done, tlb.done) {
            tlb.done = done;
        }
        Some(tlb.done)
    }

    /// Whether an invalidation is done. `None` if the device is gone.
    fn is_invalidated(&self, ticket: u32) -> Option<bool> {
        let done = self.read_done()?;
        Some(!self.tlb.lock().resetting && !is_past(ticket, done))
    }

    /// Waits for an invalidation. `ENODEV` if the device is gone; `EIO` if it did not answer in time,
    /// and was given up for that: it accesses no memory of the host any more.
    pub(crate) fn finish_invalidate(&self, invalidation: Invalidation) -> Result {
        let Invalidation::Ticket(ticket) = invalidation else {
            let _maintenance = self.maintain();
            self.fence_off();
            return Err(ENODEV);
        };
        let done = read_poll_timeout(
            || self.is_invalidated(ticket).ok_or(ENODEV),
            |&done| done,
            Delta::from_micros(50),
            PATIENCE,
        );
        if done.is_ok() {
            return Ok(());
        }
        if !self.is_gone() {
            dev_err!(self.dev, "TLB invalidation {} was not confirmed\n", ticket);
        }
        // Not while others reset it, to let it run.
        let _maintenance = self.maintain();
        self.fence_off();
        Err(EIO)
    }

    /// Reports a programming error that the device latched.
    pub(crate) fn report_error(&self) {
        self.with(|bar| {
            dev_err!(
                self.dev,
                "programming error {} from {:#x}, detail {:#x}\n",
                u32::from(bar.read(ERROR_CODE)),
                u32::from(bar.read(ERROR_SOURCE)),
                read_wide!(bar, ERROR_DETAIL)
            )
        });
    }

    /// Sets a queue's ring up and enables the queue; head and tail are zero then.
    pub(crate) fn start_queue(&self, queue: usize, ring: u64, log2: u32, writeback: u64) {
        self.with(|bar| {
            if let (Some(control), Some(base), Some(size), Some(head)) = (
                QUEUE_CONTROL::try_at(queue),
                RING_BASE::try_at(queue),
                RING_SIZE::try_at(queue),
                HEAD_WRITEBACK::try_at(queue),
            ) {
                bar.write(size, RING_SIZE::from(log2));
                write_wide!(bar, base, ring);
                write_wide!(bar, head, writeback);
                bar.write(control, QUEUE_CONTROL::zeroed().with_enable(true));
            }
        });
    }

    /// Tells a queue about new descriptors.
    pub(crate) fn ring_doorbell(&self, queue: usize, tail: u32) {
        self.with(|bar| {
            if let Some(at) = TAIL::try_at(queue) {
                bar.write(at, TAIL::from(tail));
            }
        });
    }

    /// Answers the fault that a compute queue waits on, if it does.
    pub(crate) fn answer_fault(&self, queue: usize, verdict: Verdict) {
        let queues = 1 << queue;
        self.with(|bar| match verdict {
            Verdict::Replay => bar.write_reg(FAULT_REPLAY::from(queues)),
            Verdict::Fail => bar.write_reg(FAULT_CANCEL::from(queues)),
        });
    }

    /// Kills what a queue executes, and lets it go on with the next descriptor when told to.
    /// Sleeps.
    pub(crate) fn kill(&self, queue: usize) -> Result {
        let at = || QUEUE_CONTROL::try_at(queue);
        self.with(|bar| {
            if let Some(at) = at() {
                bar.write(
                    at,
                    QUEUE_CONTROL::zeroed().with_enable(true).with_kill(true),
                );
            }
        });
        self.poll(|bar| at().is_none_or(|at| !bar.read(at).kill()))
    }

    /// Lets a queue that was killed go on.
    pub(crate) fn resume(&self, queue: usize) {
        self.with(|bar| {
            if let Some(at) = QUEUE_CONTROL::try_at(queue) {
                bar.write(at, QUEUE_CONTROL::zeroed().with_enable(true));
            }
        });
    }
}

/// An invalidation that was started.
#[derive(Clone, Copy)]
#[must_use]
pub(crate) enum Invalidation {
    Ticket(u32),
    Gone,
}

/// Whether ticket `a` comes after ticket `b`, both at most half the number space apart.
fn is_past(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b) & TICKET_MAX;
    distance != 0 && distance < TICKET_MAX / 2
}

fn reset(bar: &Bar<'_, BAR0_SIZE>) -> Result {
    bar.write_reg(CONTROL::zeroed().with_reset(true));
    read_poll_timeout(
        || Ok(bar.read(CONTROL)),
        |control| !control.reset(),
        Delta::from_micros(100),
        PATIENCE,
    )?;
    Ok(())
}

#[kunit_tests(npu_hw)]
mod tests {
    use super::*;

    #[test]
    fn tickets_wrap() {
        assert!(is_past(2, 1) && !is_past(1, 2) && !is_past(7, 7));
        assert!(is_past(1, TICKET_MAX) && !is_past(TICKET_MAX, 1));
        assert!(is_past(TICKET_MAX, TICKET_MAX - 1));
    }
}
