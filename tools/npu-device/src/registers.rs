// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What reading and writing a register does.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vm_memory::Bytes;

use crate::device::{Shared, Waiter};
use crate::error::{Code, ProgrammingError};
use crate::pte::VA_BITS;
use crate::regs::{self, InjectReg, Mode, QueueReg, Reg, WINDOW, WINDOW_SIZE};
use crate::state::{Answer, EVENTS, EVERY_ROOT, Invalidation, OUTSTANDING, State};

const ID: u32 = 0x3155_504e;
const VERSION: u32 = 1 << 16;
const CONTROL_ENABLE: u32 = 1 << 0;
const CONTROL_FAULT_MODE: u32 = 1 << 1;
const CONTROL_RESET: u32 = 1 << 31;
const STATUS_READY: u32 = 1 << 0;
const STATUS_BUSY: u32 = 1 << 1;
const STATUS_ERROR: u32 = 1 << 2;
const TLB_NOTIFY: u32 = 1 << 31;
const QUEUE_ENABLE: u32 = 1 << 0;
const QUEUE_KILL: u32 = 1 << 1;
const BUS_ADDRESS_BITS: u32 = 52;
const RING_SIZES: std::ops::RangeInclusive<u64> = 4..=12;
const DIE: u64 = 0xdead;

/// Why a write is refused. `At` names another register than the one that was written.
enum Refusal {
    Code(Code),
    At(Code, u64),
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Refusal::Code(code)
    }
}

/// Refuses a write unless a condition holds.
fn require(condition: bool, code: Code) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(code.into()) }
}

fn aligned(value: u64, to: u64) -> bool {
    value % to == 0
}

fn bus_address(value: u64, to: u64) -> bool {
    aligned(value, to) && value >> BUS_ADDRESS_BITS == 0
}

impl Shared {
    /// A read of BAR 0.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(place) = self.window(offset, data.len()) {
            if let Some(slice) = self.space.local.slice(place, data.len() as u64) {
                // The range was checked.
                let _ = slice.read_slice(data, 0);
            }
            return;
        }
        let mut state = self.lock();
        let spec = match self.decode(offset, data.len()) {
            Ok(spec) if spec.mode != Mode::WriteOnly => spec,
            Ok(_) => {
                let error = ProgrammingError::register(Code::WriteOnly, offset);
                return self.error(&mut state, error);
            }
            Err(error) => return self.error(&mut state, error),
        };
        let value = self.read_register(&state, spec.reg);
        data.copy_from_slice(&value.to_le_bytes()[..spec.width]);
    }

    /// A write to BAR 0.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if let Some(place) = self.window(offset, data.len()) {
            if let Some(slice) = self.space.local.slice(place, data.len() as u64) {
                // The range was checked.
                let _ = slice.write_slice(data, 0);
            }
            return;
        }
        let mut state = self.lock();
        if state.resetting {
            return;
        }
        let spec = match self.decode(offset, data.len()) {
            Ok(spec) if spec.mode != Mode::ReadOnly => spec,
            Ok(_) => {
                let error = ProgrammingError::register(Code::ReadOnly, offset);
                return self.error(&mut state, error);
            }
            Err(error) => return self.error(&mut state, error),
        };
        let mut bytes = [0; 8];
        bytes[..data.len()].copy_from_slice(data);
        let value = u64::from_le_bytes(bytes);
        match self.write_register(&mut state, spec.reg, value) {
            Ok(()) => {}
            Err(Refusal::At(code, detail)) => {
                self.error(&mut state, ProgrammingError::register(code, detail));
            }
            Err(Refusal::Code(code)) => {
                self.error(&mut state, ProgrammingError::register(code, offset));
            }
        }
    }

    /// The local address that an access goes to, if it is to the window.
    fn window(&self, offset: u64, len: usize) -> Option<u64> {
        let inside = offset.checked_sub(WINDOW)?;
        (inside + len as u64 <= WINDOW_SIZE).then(|| self.lock().window + inside)
    }

    fn decode(&self, offset: u64, len: usize) -> Result<regs::Spec, ProgrammingError> {
        regs::decode(offset, self.config.queues, self.config.inject)
            .filter(|spec| spec.width == len)
            .ok_or(ProgrammingError::register(Code::BadOffset, offset))
    }

    fn caps(&self) -> u32 {
        let bits = [(self.config.faults, 1), (self.config.inject, 2)];
        let flags: u32 = bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
        flags | ((self.config.queues as u32) << 8) | (VA_BITS << 16)
    }

    fn read_register(&self, state: &State, reg: Reg) -> u64 {
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        let word = match reg {
            Reg::Id => ID,
            Reg::Version => VERSION,
            Reg::MemSize => return self.config.memory,
            Reg::ApertureSize => return self.config.aperture,
            Reg::Caps => self.caps(),
            Reg::Control => {
                flag(state.enable, CONTROL_ENABLE)
                    | flag(state.fault_mode, CONTROL_FAULT_MODE)
                    | flag(state.resetting, CONTROL_RESET)
            }
            Reg::Status => {
                flag(!state.resetting, STATUS_READY)
                    | flag(state.queues.iter().any(|q| q.busy), STATUS_BUSY)
                    | flag(state.error.is_some(), STATUS_ERROR)
            }
            Reg::Event => state.event,
            Reg::WindowBase => return state.window,
            Reg::Timestamp => return self.now(),
            Reg::ErrorCode => state.error.map_or(0, |e| e.code as u32),
            Reg::ErrorSource => state.error.map_or(0, |e| e.source.0),
            Reg::ErrorDetail => return state.error.map_or(0, |e| e.detail),
            Reg::TlbPgd => return state.tlb.pgd,
            Reg::TlbStart => return state.tlb.start,
            Reg::TlbEnd => return state.tlb.end,
            Reg::TlbDone => state.tlb.done,
            Reg::FaultBase => return state.ring.base,
            Reg::FaultSize => state.ring.size,
            Reg::FaultHead => state.ring.head,
            Reg::FaultTail => state.ring.tail,
            Reg::TlbCommand | Reg::FaultReplay | Reg::FaultCancel => 0,
            Reg::Queue(queue, reg) => return read_queue(state, queue, reg),
            Reg::Counter(index) => return self.counters.get(index),
            Reg::Inject(reg) => read_injection(state, reg),
        };
        word.into()
    }

    fn write_register(&self, state: &mut State, reg: Reg, value: u64) -> Result<(), Refusal> {
        let word = value as u32;
        match reg {
            Reg::Control => return self.write_control(state, word),
            Reg::Event => {
                require(word & !EVENTS == 0, Code::ReservedBits)?;
                state.event &= !word;
            }
            Reg::WindowBase => {
                let good = aligned(value, WINDOW_SIZE) && value < self.config.memory;
                require(good, Code::ReservedBits)?;
                state.window = value;
            }
            Reg::TlbPgd => {
                let root = aligned(value, 4096) && value < self.config.memory;
                require(root || value == EVERY_ROOT, Code::ReservedBits)?;
                state.tlb.pgd = value;
            }
            Reg::TlbStart => {
                let good = aligned(value, 4096) && value < 1 << VA_BITS;
                require(good, Code::ReservedBits)?;
                state.tlb.start = value;
            }
            Reg::TlbEnd => {
                let good = aligned(value, 4096) && value <= 1 << VA_BITS;
                require(good, Code::ReservedBits)?;
                state.tlb.end = value;
            }
            Reg::TlbCommand => {
                start_invalidation(state, word)?;
                self.notify(Waiter::Tlb);
            }
            Reg::FaultBase => {
                require(!state.enable, Code::BadState)?;
                require(bus_address(value, 4096), Code::ReservedBits)?;
                state.ring.base = value;
                state.ring.head = 0;
                state.ring.tail = 0;
            }
            Reg::FaultSize => {
                require(!state.enable, Code::BadState)?;
                require(RING_SIZES.contains(&value), Code::ReservedBits)?;
                state.ring.size = word;
            }
            Reg::FaultHead => {
                let ring = &mut state.ring;
                let consumed = word.wrapping_sub(ring.head) <= ring.tail.wrapping_sub(ring.head);
                require(consumed, Code::ReservedBits)?;
                ring.head = word;
                // Queues may wait for room.
                self.notify_queues();
            }
            Reg::FaultReplay => return self.answer(state, word, Answer::Replay),
            Reg::FaultCancel => return self.answer(state, word, Answer::Cancel),
            Reg::Queue(queue, reg) => return self.write_queue(state, queue, reg, value),
            Reg::Inject(reg) => return self.write_injection(state, reg, value),
            _ => unreachable!("the register is read-only"),
        }
        Ok(())
    }

    fn write_control(&self, state: &mut State, value: u32) -> Result<(), Refusal> {
        if value & CONTROL_RESET != 0 {
            self.begin_reset(state);
            return Ok(());
        }
        require(
            value & !(CONTROL_ENABLE | CONTROL_FAULT_MODE) == 0,
            Code::ReservedBits,
        )?;
        let fault_mode = value & CONTROL_FAULT_MODE != 0;
        require(self.config.faults || !fault_mode, Code::ReservedBits)?;
        require(
            fault_mode == state.fault_mode || !state.enable,
            Code::BadState,
        )?;
        require(!fault_mode || state.ring.is_set_up(), Code::BadState)?;
        state.enable = value & CONTROL_ENABLE != 0;
        state.fault_mode = fault_mode;
        self.notify_queues();
        Ok(())
    }

    fn answer(&self, state: &mut State, queues: u32, answer: Answer) -> Result<(), Refusal> {
        require(queues >> self.config.queues == 0, Code::ReservedBits)?;
        for (i, queue) in state.queues.iter_mut().skip(1).enumerate() {
            if queues & (1 << i) != 0 && queue.waiting {
                queue.answer = Some(answer);
                self.notify(Waiter::Queue(1 + i));
            }
        }
        Ok(())
    }

    fn write_queue(
        &self,
        state: &mut State,
        index: usize,
        reg: QueueReg,
        value: u64,
    ) -> Result<(), Refusal> {
        let queue = &mut state.queues[index];
        let word = value as u32;
        match reg {
            QueueReg::RingBase => {
                require(queue.is_disabled(), Code::BadState)?;
                require(bus_address(value, 4096), Code::ReservedBits)?;
                queue.base = value;
                queue.head = 0;
                queue.tail = 0;
            }
            QueueReg::RingSize => {
                require(queue.is_disabled(), Code::BadState)?;
                require(RING_SIZES.contains(&value), Code::ReservedBits)?;
                let outstanding = queue.tail.wrapping_sub(queue.head);
                require(outstanding <= 1 << word, Code::BadState)?;
                queue.size = word;
            }
            QueueReg::Control => {
                require(word & !(QUEUE_ENABLE | QUEUE_KILL) == 0, Code::ReservedBits)?;
                if word & QUEUE_KILL != 0 {
                    queue.kill = queue.busy;
                    queue.enable = queue.enable && queue.busy;
                    queue.stop.store(true, Ordering::Release);
                } else {
                    let enable = word & QUEUE_ENABLE != 0;
                    require(!queue.kill, Code::BadState)?;
                    require(!enable || queue.is_set_up(), Code::BadState)?;
                    queue.enable = enable;
                }
                self.notify(Waiter::Queue(index));
            }
            QueueReg::Tail => {
                let outstanding = word.wrapping_sub(queue.head);
                let fits = outstanding <= queue.descriptors();
                if !fits {
                    return Err(Refusal::At(Code::RingOverflow, word.into()));
                }
                queue.tail = word;
                self.notify(Waiter::Queue(index));
            }
            QueueReg::HeadWriteback => {
                require(queue.is_disabled(), Code::BadState)?;
                require(bus_address(value, 64), Code::ReservedBits)?;
                queue.writeback = value;
            }
            QueueReg::Head | QueueReg::State => unreachable!("the register is read-only"),
        }
        Ok(())
    }

    fn write_injection(
        &self,
        state: &mut State,
        reg: InjectReg,
        value: u64,
    ) -> Result<(), Refusal> {
        let inject = &mut state.inject;
        let word = value as u32;
        match reg {
            InjectReg::IrqDrop => inject.irq_drop = word,
            InjectReg::IrqDelay => inject.irq_delay = word,
            InjectReg::CopyError => inject.copy_error = word,
            InjectReg::Hang => {
                require(word >> self.config.queues == 0, Code::ReservedBits)?;
                inject.hang = word;
            }
            InjectReg::FaultFull => {
                inject.fault_full = Some(Instant::now() + Duration::from_millis(value));
                self.notify_queues();
            }
            InjectReg::SkipTlb => inject.skip_tlb = word,
            InjectReg::Die => {
                require(value == 0 || value == DIE, Code::ReservedBits)?;
                if value == DIE {
                    (self.die)();
                }
            }
            InjectReg::CopyHang => inject.copy_hang = word,
        }
        Ok(())
    }
}

fn start_invalidation(state: &mut State, value: u32) -> Result<(), Refusal> {
    const TLB_END: u64 = 0x90;
    let tlb = &mut state.tlb;
    let ticket = value & !TLB_NOTIFY;
    require(ticket != 0, Code::ReservedBits)?;
    if tlb.end <= tlb.start {
        return Err(Refusal::At(Code::ReservedBits, TLB_END));
    }
    if tlb.pending.len() == OUTSTANDING {
        return Err(Refusal::At(Code::TlbOverflow, ticket.into()));
    }
    tlb.pending.push_back(Invalidation {
        pgd: (tlb.pgd != EVERY_ROOT).then_some(tlb.pgd),
        start: tlb.start,
        end: tlb.end,
        ticket,
        notify: value & TLB_NOTIFY != 0,
    });
    Ok(())
}

fn read_queue(state: &State, index: usize, reg: QueueReg) -> u64 {
    let queue = &state.queues[index];
    let word = match reg {
        QueueReg::RingBase => return queue.base,
        QueueReg::HeadWriteback => return queue.writeback,
        QueueReg::RingSize => queue.size,
        QueueReg::Control => u32::from(queue.enable) | if queue.kill { QUEUE_KILL } else { 0 },
        QueueReg::Tail => queue.tail,
        QueueReg::Head => queue.head,
        QueueReg::State => match queue {
            _ if state.error.is_some() => 4,
            q if q.waiting => 3,
            q if q.busy => 2,
            q if q.enable => 1,
            _ => 0,
        },
    };
    word.into()
}

fn read_injection(state: &State, reg: InjectReg) -> u32 {
    let inject = &state.inject;
    match reg {
        InjectReg::IrqDrop => inject.irq_drop,
        InjectReg::IrqDelay => inject.irq_delay,
        InjectReg::CopyError => inject.copy_error,
        InjectReg::Hang => inject.hang,
        InjectReg::FaultFull => inject.fault_full.map_or(0, |until| {
            until
                .saturating_duration_since(Instant::now())
                .as_nanos()
                .div_ceil(1_000_000) as u32
        }),
        InjectReg::SkipTlb => inject.skip_tlb,
        InjectReg::Die => 0,
        InjectReg::CopyHang => inject.copy_hang,
    }
}
