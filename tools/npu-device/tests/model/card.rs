// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A card with host memory and interrupts, and what a driver needs to use it.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use npu_device::trace::Trace;
use npu_device::{Config, Device};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// Bus address of host memory.
pub const BUS: u64 = 0x4000_0000;
/// Bytes of host memory.
pub const HOST: u64 = 8 << 20;
/// Bytes of local memory, unless a test chooses otherwise.
pub const MEMORY: u64 = 16 << 20;

/// Registers.
pub mod reg {
    pub const ID: u64 = 0x000;
    pub const CONTROL: u64 = 0x01c;
    pub const STATUS: u64 = 0x020;
    pub const EVENT: u64 = 0x024;
    pub const WINDOW_BASE: u64 = 0x028;
    pub const TIMESTAMP: u64 = 0x030;
    pub const ERROR_CODE: u64 = 0x038;
    pub const ERROR_SOURCE: u64 = 0x03c;
    pub const ERROR_DETAIL: u64 = 0x040;
    pub const TLB_PGD: u64 = 0x080;
    pub const TLB_START: u64 = 0x088;
    pub const TLB_END: u64 = 0x090;
    pub const TLB_COMMAND: u64 = 0x098;
    pub const TLB_DONE: u64 = 0x09c;
    pub const FAULT_BASE: u64 = 0x0c0;
    pub const FAULT_SIZE: u64 = 0x0c8;
    pub const FAULT_HEAD: u64 = 0x0cc;
    pub const FAULT_TAIL: u64 = 0x0d0;
    pub const FAULT_REPLAY: u64 = 0x0d4;
    pub const FAULT_CANCEL: u64 = 0x0d8;
    pub const COPY: u64 = 0x1000;
    pub const COMPUTE: u64 = 0x1080;
    pub const STRIDE: u64 = 0x80;
    pub const RING_BASE: u64 = 0x00;
    pub const RING_SIZE: u64 = 0x08;
    pub const QUEUE_CONTROL: u64 = 0x0c;
    pub const TAIL: u64 = 0x10;
    pub const HEAD: u64 = 0x14;
    pub const HEAD_WRITEBACK: u64 = 0x18;
    pub const QUEUE_STATE: u64 = 0x20;
    pub const INJECT_IRQ_DROP: u64 = 0x2000;
    pub const INJECT_IRQ_DELAY: u64 = 0x2004;
    pub const INJECT_COPY_ERROR: u64 = 0x2008;
    pub const INJECT_HANG: u64 = 0x200c;
    pub const INJECT_FAULT_FULL: u64 = 0x2010;
    pub const INJECT_SKIP_TLB: u64 = 0x2014;
    pub const INJECT_DIE: u64 = 0x2018;
    pub const INJECT_COPY_HANG: u64 = 0x201c;
    pub const JOBS_OK: u64 = 0x3000;
    pub const JOBS_OTHER: u64 = 0x3008;
    pub const COMMANDS: u64 = 0x3010;
    pub const TLB_HITS: u64 = 0x3018;
    pub const TLB_MISSES: u64 = 0x3020;
    pub const FAULTS: u64 = 0x3028;
    pub const INVALIDATIONS: u64 = 0x3030;
    pub const FROM_HOST: u64 = 0x3038;
    pub const TO_HOST: u64 = 0x3040;
    pub const LOCAL: u64 = 0x3048;
    pub const FILLED: u64 = 0x3050;
    pub const READ: u64 = 0x3058;
    pub const WRITTEN: u64 = 0x3060;
    pub const WINDOW: u64 = 0x10000;
}

pub const ENABLE: u32 = 1;
pub const KILL: u32 = 2;
pub const FAULT_MODE: u32 = 2;
pub const RESET: u32 = 1 << 31;
pub const STATUS_READY: u32 = 1;
pub const STATUS_BUSY: u32 = 2;
pub const STATUS_ERROR: u32 = 4;

/// Where rings lie in host memory, one page of 64 descriptors a queue; 0 is the copy queue.
pub fn ring(queue: usize) -> u64 {
    0x1000 * (1 + queue as u64)
}

/// log2 of a ring's descriptors.
pub const RING_LOG: u32 = 6;
/// Where the fault ring lies in host memory.
pub const FAULT_RING: u64 = 0x20000;
/// Host memory that tests can use as they like.
pub const FREE: u64 = 0x100000;

/// How a descriptor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub status: u32,
    pub error: u32,
    pub detail: u64,
    pub start: u64,
    pub end: u64,
}

impl Completion {
    pub fn outcome(&self) -> (u32, u32, u64) {
        (self.status, self.error, self.detail)
    }
}

pub const OK: (u32, u32, u64) = (1, 0, 0);
pub const KILLED: (u32, u32, u64) = (4, 0, 0);

pub struct Card {
    pub device: Device,
    host: MmapRegion,
    pub host_file: File,
    irqs: Vec<File>,
    pub died: Arc<AtomicBool>,
}

pub fn config() -> Config {
    Config {
        memory: MEMORY,
        aperture: MEMORY,
        queues: 4,
        faults: true,
        inject: true,
    }
}

/// Waits for something; a test that would wait for ever fails instead.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(50));
    }
}

impl Card {
    pub fn new() -> Self {
        Card::with(config())
    }

    pub fn with(config: Config) -> Self {
        Card::traced(config, None)
    }

    pub fn traced(config: Config, trace: Option<Trace>) -> Self {
        let died = Arc::new(AtomicBool::new(false));
        let die = Arc::clone(&died);
        let die = Box::new(move || die.store(true, Ordering::Release));
        let device = Device::traced(config, die, trace).expect("the configuration is good");
        let host_file = File::from(memfd_create("host", MemfdFlags::CLOEXEC).unwrap());
        host_file.set_len(HOST).unwrap();
        let mapped = FileOffset::new(host_file.try_clone().unwrap(), 0);
        let host = MmapRegion::from_file(mapped, HOST as usize).unwrap();
        device
            .space
            .dma
            .map(host_file.try_clone().unwrap(), 0, BUS, HOST, true)
            .unwrap();
        device.space.dma.set_bus_master(true);
        let irqs: Vec<File> = (0..device.interrupts.count())
            .map(|vector| {
                let file = File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
                device
                    .interrupts
                    .connect(vector, Some(file.try_clone().unwrap()));
                file
            })
            .collect();
        Card {
            device,
            host,
            host_file,
            irqs,
            died,
        }
    }

    pub fn r32(&self, offset: u64) -> u32 {
        let mut data = [0xaa; 4];
        self.device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub fn r64(&self, offset: u64) -> u64 {
        let mut data = [0xaa; 8];
        self.device.read(offset, &mut data);
        u64::from_le_bytes(data)
    }

    pub fn w32(&self, offset: u64, value: u32) {
        self.device.write(offset, &value.to_le_bytes());
    }

    pub fn w64(&self, offset: u64, value: u64) {
        self.device.write(offset, &value.to_le_bytes());
    }

    /// `ERROR_CODE`, `ERROR_SOURCE` and `ERROR_DETAIL`.
    pub fn error(&self) -> (u32, u32, u64) {
        (
            self.r32(reg::ERROR_CODE),
            self.r32(reg::ERROR_SOURCE),
            self.r64(reg::ERROR_DETAIL),
        )
    }

    pub fn no_error(&self) {
        assert_eq!(self.error(), (0, 0, 0));
    }

    /// Waits for a programming error.
    pub fn await_error(&self) -> (u32, u32, u64) {
        until("there is an error", || {
            self.r32(reg::STATUS) & STATUS_ERROR != 0
        });
        until("all has halted", || {
            self.r32(reg::STATUS) & STATUS_BUSY == 0
        });
        self.error()
    }

    pub fn reset(&self) {
        self.w32(reg::CONTROL, RESET);
        until("the reset is done", || self.r32(reg::CONTROL) & RESET == 0);
    }

    /// Register offset of a queue's block; 0 is the copy queue.
    pub fn block(queue: usize) -> u64 {
        if queue == 0 {
            reg::COPY
        } else {
            reg::COMPUTE + (queue as u64 - 1) * reg::STRIDE
        }
    }

    pub fn q32(&self, queue: usize, register: u64) -> u32 {
        self.r32(Card::block(queue) + register)
    }

    pub fn set_q32(&self, queue: usize, register: u64, value: u32) {
        self.w32(Card::block(queue) + register, value);
    }

    pub fn set_q64(&self, queue: usize, register: u64, value: u64) {
        self.w64(Card::block(queue) + register, value);
    }

    /// Sets the ring of a queue up.
    pub fn set_up(&self, queue: usize) {
        self.set_q64(queue, reg::RING_BASE, BUS + ring(queue));
        self.set_q32(queue, reg::RING_SIZE, RING_LOG);
    }

    /// Sets all rings up, and lets all queues run.
    pub fn start(&self) {
        self.start_with(0);
    }

    /// The same with replayable faults, and a fault ring of `1 << log` records.
    pub fn start_faults(&self, log: u32) {
        self.w64(reg::FAULT_BASE, BUS + FAULT_RING);
        self.w32(reg::FAULT_SIZE, log);
        self.start_with(FAULT_MODE);
    }

    fn start_with(&self, mode: u32) {
        self.w32(reg::CONTROL, ENABLE | mode);
        for queue in 0..=self.device.config.queues {
            self.set_up(queue);
            self.set_q32(queue, reg::QUEUE_CONTROL, ENABLE);
        }
        self.no_error();
    }

    pub fn host_write(&self, at: u64, data: &[u8]) {
        self.host
            .get_slice(at as usize, data.len())
            .unwrap()
            .write_slice(data, 0)
            .unwrap();
    }

    pub fn host_read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.host
            .get_slice(at as usize, len)
            .unwrap()
            .read_slice(&mut data, 0)
            .unwrap();
        data
    }

    pub fn host_u32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.host_read(at, 4).try_into().unwrap())
    }

    pub fn host_u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.host_read(at, 8).try_into().unwrap())
    }

    pub fn local_write(&self, at: u64, data: &[u8]) {
        let slice = self
            .device
            .space
            .local
            .slice(at, data.len() as u64)
            .unwrap();
        slice.write_slice(data, 0).unwrap();
    }

    pub fn local_read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        let slice = self.device.space.local.slice(at, len as u64).unwrap();
        slice.read_slice(&mut data, 0).unwrap();
        data
    }

    pub fn local_u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.local_read(at, 8).try_into().unwrap())
    }

    pub fn set_local_u64(&self, at: u64, value: u64) {
        self.local_write(at, &value.to_le_bytes());
    }

    /// Host address of the descriptor of a free-running index.
    pub fn slot(queue: usize, index: u32) -> u64 {
        ring(queue) + u64::from(index % (1 << RING_LOG)) * 64
    }

    /// Puts a descriptor into the ring, and returns its index. The doorbell is not rung.
    pub fn put(&self, queue: usize, index: u32, descriptor: &[u8; 64]) {
        self.host_write(Card::slot(queue, index), descriptor);
    }

    /// Submits a descriptor, and returns its index.
    pub fn submit(&self, queue: usize, descriptor: &[u8; 64]) -> u32 {
        let index = self.q32(queue, reg::TAIL);
        self.put(queue, index, descriptor);
        self.set_q32(queue, reg::TAIL, index.wrapping_add(1));
        index
    }

    /// Whether a descriptor was completed.
    pub fn is_done(&self, queue: usize, index: u32) -> bool {
        (self.q32(queue, reg::HEAD).wrapping_sub(index) as i32) > 0
    }

    /// Waits until a descriptor was completed.
    pub fn finish(&self, queue: usize, index: u32) -> Completion {
        until("the descriptor is completed", || {
            let error = self.error();
            assert_eq!(
                error,
                (0, 0, 0),
                "a programming error hinders the descriptor"
            );
            self.is_done(queue, index)
        });
        self.completion(queue, index)
    }

    /// The completion fields of a descriptor.
    pub fn completion(&self, queue: usize, index: u32) -> Completion {
        let at = Card::slot(queue, index) + 0x20;
        Completion {
            status: self.host_u32(at),
            error: self.host_u32(at + 4),
            detail: self.host_u64(at + 8),
            start: self.host_u64(at + 0x10),
            end: self.host_u64(at + 0x18),
        }
    }

    /// Submits a descriptor and waits for it.
    pub fn run(&self, queue: usize, descriptor: &[u8; 64]) -> Completion {
        let index = self.submit(queue, descriptor);
        self.finish(queue, index)
    }

    pub fn kill(&self, queue: usize) {
        self.set_q32(queue, reg::QUEUE_CONTROL, KILL | ENABLE);
        until("the kill is done", || {
            self.q32(queue, reg::QUEUE_CONTROL) & KILL == 0
        });
    }

    /// Waits for a state of a queue.
    pub fn await_state(&self, queue: usize, state: u32) {
        until("the queue has a state", || {
            self.q32(queue, reg::QUEUE_STATE) == state
        });
    }

    /// Starts a TLB invalidation.
    pub fn start_invalidation(&self, pgd: u64, start: u64, end: u64, command: u32) {
        self.w64(reg::TLB_PGD, pgd);
        self.w64(reg::TLB_START, start);
        self.w64(reg::TLB_END, end);
        self.w32(reg::TLB_COMMAND, command);
    }

    /// Invalidates, and waits until that is done.
    pub fn invalidate(&self, pgd: u64, start: u64, end: u64) {
        let ticket = self.r32(reg::TLB_DONE) + 1;
        self.start_invalidation(pgd, start, end, ticket);
        until("the invalidation is done", || {
            self.r32(reg::TLB_DONE) == ticket
        });
    }

    /// How often a vector was raised since it was last asked for.
    pub fn interrupts(&self, vector: usize) -> u64 {
        let mut count = [0; 8];
        match (&self.irqs[vector]).read_exact(&mut count) {
            Ok(()) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    pub fn await_interrupt(&self, vector: usize) {
        until("the interrupt is raised", || self.interrupts(vector) > 0);
    }
}

/// A descriptor of a compute job.
pub fn job(pgd: u64, commands: u64, size: u32, cookie: u32) -> [u8; 64] {
    let mut d = [0; 64];
    d[0x00..0x04].copy_from_slice(&1u32.to_le_bytes());
    d[0x08..0x10].copy_from_slice(&pgd.to_le_bytes());
    d[0x10..0x18].copy_from_slice(&commands.to_le_bytes());
    d[0x18..0x1c].copy_from_slice(&size.to_le_bytes());
    d[0x1c..0x20].copy_from_slice(&cookie.to_le_bytes());
    d
}

/// A descriptor of the copy queue.
pub fn transfer(opcode: u32, flags: u32, src: u64, dst: u64, size: u64) -> [u8; 64] {
    let mut d = [0; 64];
    d[0x00..0x04].copy_from_slice(&opcode.to_le_bytes());
    d[0x04..0x08].copy_from_slice(&flags.to_le_bytes());
    d[0x08..0x10].copy_from_slice(&src.to_le_bytes());
    d[0x10..0x18].copy_from_slice(&dst.to_le_bytes());
    d[0x18..0x20].copy_from_slice(&size.to_le_bytes());
    d
}

/// The same descriptor with an interrupt.
pub fn with_irq(mut descriptor: [u8; 64]) -> [u8; 64] {
    descriptor[4] |= 1;
    descriptor
}
