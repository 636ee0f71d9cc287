// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The register map: which register is at an offset, how wide it is, and what may be done to it.

use crate::counters;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "registers.rst says what each is")]
pub enum Reg {
    Id,
    Version,
    MemSize,
    ApertureSize,
    Caps,
    Control,
    Status,
    Event,
    WindowBase,
    Timestamp,
    ErrorCode,
    ErrorSource,
    ErrorDetail,
    TlbPgd,
    TlbStart,
    TlbEnd,
    TlbCommand,
    TlbDone,
    FaultBase,
    FaultSize,
    FaultHead,
    FaultTail,
    FaultReplay,
    FaultCancel,
    /// A register of queue 0, the copy queue, or 1 + i, compute queue i.
    Queue(usize, QueueReg),
    Counter(usize),
    Inject(InjectReg),
}

/// A register of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "registers.rst says what each is")]
pub enum QueueReg {
    RingBase,
    RingSize,
    Control,
    Tail,
    Head,
    HeadWriteback,
    State,
}

/// A fault injection register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "errors.rst says what each does")]
pub enum InjectReg {
    IrqDrop,
    IrqDelay,
    CopyError,
    Hang,
    FaultFull,
    SkipTlb,
    Die,
    CopyHang,
}

/// What may be done to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reading only.
    ReadOnly,
    /// Both.
    ReadWrite,
    /// Writing only.
    WriteOnly,
}

/// A register, how it is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Which it is.
    pub reg: Reg,
    /// Bytes.
    pub width: usize,
    /// What may be done.
    pub mode: Mode,
}

/// Offset of the window in BAR 0.
pub const WINDOW: u64 = 0x10000;
/// Bytes of the window.
pub const WINDOW_SIZE: u64 = 0x10000;
/// Bytes of BAR 0.
pub const BAR0_SIZE: u64 = WINDOW + WINDOW_SIZE;

const QUEUES: u64 = 0x1000;
const QUEUE_STRIDE: u64 = 0x80;
const INJECT: u64 = 0x2000;
const COUNTERS: u64 = 0x3000;

use Mode::{ReadOnly as RO, ReadWrite as RW, WriteOnly as WO};

const GLOBAL: &[(u64, usize, Mode, Reg)] = &[
    (0x000, 4, RO, Reg::Id),
    (0x004, 4, RO, Reg::Version),
    (0x008, 8, RO, Reg::MemSize),
    (0x010, 8, RO, Reg::ApertureSize),
    (0x018, 4, RO, Reg::Caps),
    (0x01c, 4, RW, Reg::Control),
    (0x020, 4, RO, Reg::Status),
    (0x024, 4, RW, Reg::Event),
    (0x028, 8, RW, Reg::WindowBase),
    (0x030, 8, RO, Reg::Timestamp),
    (0x038, 4, RO, Reg::ErrorCode),
    (0x03c, 4, RO, Reg::ErrorSource),
    (0x040, 8, RO, Reg::ErrorDetail),
    (0x080, 8, RW, Reg::TlbPgd),
    (0x088, 8, RW, Reg::TlbStart),
    (0x090, 8, RW, Reg::TlbEnd),
    (0x098, 4, WO, Reg::TlbCommand),
    (0x09c, 4, RO, Reg::TlbDone),
    (0x0c0, 8, RW, Reg::FaultBase),
    (0x0c8, 4, RW, Reg::FaultSize),
    (0x0cc, 4, RW, Reg::FaultHead),
    (0x0d0, 4, RO, Reg::FaultTail),
    (0x0d4, 4, WO, Reg::FaultReplay),
    (0x0d8, 4, WO, Reg::FaultCancel),
];

const QUEUE: &[(u64, usize, Mode, QueueReg)] = &[
    (0x00, 8, RW, QueueReg::RingBase),
    (0x08, 4, RW, QueueReg::RingSize),
    (0x0c, 4, RW, QueueReg::Control),
    (0x10, 4, RW, QueueReg::Tail),
    (0x14, 4, RO, QueueReg::Head),
    (0x18, 8, RW, QueueReg::HeadWriteback),
    (0x20, 4, RO, QueueReg::State),
];

const INJECTION: [InjectReg; 8] = [
    InjectReg::IrqDrop,
    InjectReg::IrqDelay,
    InjectReg::CopyError,
    InjectReg::Hang,
    InjectReg::FaultFull,
    InjectReg::SkipTlb,
    InjectReg::Die,
    InjectReg::CopyHang,
];

/// Finds the register that begins at `offset` on a device with `queues` compute queues.
pub fn decode(offset: u64, queues: usize, inject: bool) -> Option<Spec> {
    if let Some(&(_, width, mode, reg)) = GLOBAL.iter().find(|r| r.0 == offset) {
        return Some(Spec { reg, width, mode });
    }
    let blocks = (1 + queues as u64) * QUEUE_STRIDE;
    if (QUEUES..QUEUES + blocks).contains(&offset) {
        let queue = ((offset - QUEUES) / QUEUE_STRIDE) as usize;
        let inside = (offset - QUEUES) % QUEUE_STRIDE;
        let &(_, width, mode, reg) = QUEUE.iter().find(|r| r.0 == inside)?;
        return Some(Spec {
            reg: Reg::Queue(queue, reg),
            width,
            mode,
        });
    }
    if inject && offset >= INJECT && offset % 4 == 0 {
        if let Some(&reg) = INJECTION.get(((offset - INJECT) / 4) as usize) {
            return Some(Spec {
                reg: Reg::Inject(reg),
                width: 4,
                mode: RW,
            });
        }
    }
    let counter = (offset.checked_sub(COUNTERS)? / 8) as usize;
    (offset % 8 == 0 && counter < counters::COUNT).then_some(Spec {
        reg: Reg::Counter(counter),
        width: 8,
        mode: RO,
    })
}
