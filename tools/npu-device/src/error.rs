// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Programming errors: what only a wrong driver can cause.

use std::fmt;

/// Code of a programming error, as `ERROR_CODE` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "errors.rst says what each means")]
pub enum Code {
    BadOffset = 1,
    ReadOnly = 2,
    WriteOnly = 3,
    ReservedBits = 4,
    BadState = 5,
    RingOverflow = 6,
    TlbOverflow = 7,
    BadDescriptor = 8,
    ReservedPte = 9,
    BadPteAddress = 10,
    ContMismatch = 11,
    BadTableAddress = 12,
    BadLocalAddress = 13,
    BadBusAddress = 14,
}

impl Code {
    /// The name in errors.rst, and what the detail is.
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Code::BadOffset => ("BAD_OFFSET", "register offset"),
            Code::ReadOnly => ("READ_ONLY", "register offset"),
            Code::WriteOnly => ("WRITE_ONLY", "register offset"),
            Code::ReservedBits => ("RESERVED_BITS", "register offset"),
            Code::BadState => ("BAD_STATE", "register offset"),
            Code::RingOverflow => ("RING_OVERFLOW", "TAIL"),
            Code::TlbOverflow => ("TLB_OVERFLOW", "ticket"),
            Code::BadDescriptor => ("BAD_DESCRIPTOR", "index"),
            Code::ReservedPte => ("RESERVED_PTE", "entry at local address"),
            Code::BadPteAddress => ("BAD_PTE_ADDRESS", "entry at local address"),
            Code::ContMismatch => ("CONT_MISMATCH", "entry at local address"),
            Code::BadTableAddress => ("BAD_TABLE_ADDRESS", "table at local address"),
            Code::BadLocalAddress => ("BAD_LOCAL_ADDRESS", "local address"),
            Code::BadBusAddress => ("BAD_BUS_ADDRESS", "bus address"),
        }
    }
}

/// What reported an error, as `ERROR_SOURCE` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(pub u32);

impl Source {
    /// A register access.
    pub const REGISTER: Source = Source(0);
    /// The MMU.
    pub const MMU: Source = Source(0x100);

    /// Queue `index`, where 0 is the copy queue and 1 + i compute queue i.
    pub fn queue(index: usize) -> Source {
        Source(index as u32 + 1)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Source::REGISTER => f.write_str("register access"),
            Source(1) => f.write_str("copy queue"),
            Source::MMU => f.write_str("MMU"),
            Source(n) => write!(f, "compute queue {}", n - 2),
        }
    }
}

/// A programming error, complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgrammingError {
    /// What happened.
    pub code: Code,
    /// Who saw it.
    pub source: Source,
    /// Offset, address or value that was wrong.
    pub detail: u64,
}

impl ProgrammingError {
    /// An error that a register access caused.
    pub fn register(code: Code, detail: u64) -> Self {
        ProgrammingError {
            code,
            source: Source::REGISTER,
            detail,
        }
    }

    /// An error that the MMU met.
    pub fn mmu(code: Code, detail: u64) -> Self {
        ProgrammingError {
            code,
            source: Source::MMU,
            detail,
        }
    }
}

impl fmt::Display for ProgrammingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, what) = self.code.describe();
        write!(
            f,
            "programming error {name} from {}: {what} {:#x}",
            self.source, self.detail
        )
    }
}
