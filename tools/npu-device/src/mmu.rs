// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Accesses by virtual address.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use vm_memory::{Bytes, VolatileSlice};

use crate::counters::{Counter, Counters};
use crate::dma::Direction;
use crate::error::ProgrammingError;
use crate::pte::{Pte, TABLE_SIZE};
use crate::space::Space;
use crate::tlb::{Run, Tlb};
use crate::trace::Trace;
use crate::walk::walk;

/// What an access does, as a fault record gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Access {
    /// Reads an operand.
    Read = 1,
    /// Writes a result.
    Write = 2,
    /// Fetches commands.
    Fetch = 4,
}

/// Why there is no translation, as a fault record gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "mmu.rst says what each means")]
pub enum Reason {
    Invalid = 1,
    NotWritable = 2,
    NotExecutable = 3,
    OutOfRange = 4,
}

/// Why an access was not performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// A translation fault.
    Fault(Reason),
    /// A programming error.
    Error(ProgrammingError),
}

impl From<Reason> for AccessError {
    fn from(reason: Reason) -> Self {
        AccessError::Fault(reason)
    }
}

/// The longest piece of an access that an invalidation may have to wait for.
const PIECE: u64 = 1 << 20;

/// The MMU, shared by all compute queues.
pub struct Mmu {
    space: Arc<Space>,
    counters: Arc<Counters>,
    tlb: Mutex<Tlb>,
    /// Held for reading from translation to the end of the access, so that who holds it for writing
    /// knows that no access is under way.
    flight: RwLock<()>,
    trace: Option<Trace>,
}

impl Mmu {
    /// An MMU with an empty TLB, whose accesses may be traced.
    pub fn new(space: Arc<Space>, counters: Arc<Counters>, trace: Option<Trace>) -> Self {
        Mmu {
            space,
            counters,
            tlb: Mutex::default(),
            flight: RwLock::default(),
            trace,
        }
    }

    fn tlb(&self) -> MutexGuard<'_, Tlb> {
        self.tlb.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn translate(&self, pgd: u64, va: u64, access: Access) -> Result<Run, AccessError> {
        if let Some(run) = self.tlb().lookup(pgd, va, access) {
            self.counters.add(Counter::TlbHits, 1);
            return Ok(run);
        }
        self.counters.add(Counter::TlbMisses, 1);
        match walk(&self.space.local, pgd, va, access) {
            Ok(entry) => {
                self.tlb().insert(entry);
                Ok(entry
                    .run(va, access)
                    .expect("the walk permits the access it was made for"))
            }
            Err(error) => {
                if matches!(error, AccessError::Fault(_)) {
                    self.counters.add(Counter::Faults, 1);
                }
                Err(error)
            }
        }
    }

    /// Performs an access of up to `len` bytes: as much of it as one translation covers. `perform`
    /// gets the memory, or the number of bytes where it is sparse.
    fn access(
        &self,
        (pgd, va): (u64, u64),
        len: u64,
        access: Access,
        perform: impl FnOnce(Result<VolatileSlice<'_>, u64>),
    ) -> Result<usize, AccessError> {
        let _flight = self.flight.read().unwrap_or_else(PoisonError::into_inner);
        let run = self.translate(pgd, va, access)?;
        let len = len.min(run.len).min(PIECE);
        let Some(place) = run.target else {
            perform(Err(len));
            return Ok(len as usize);
        };
        let direction = if access == Access::Write {
            Direction::Write
        } else {
            Direction::Read
        };
        let view = self.space.dma.view();
        let slice = self
            .space
            .slice(&view, place, len, direction)
            .map_err(|(code, detail)| AccessError::Error(ProgrammingError::mmu(code, detail)))?;
        let len = slice.len();
        perform(Ok(slice));
        if let Some(trace) = &self.trace {
            trace.access(pgd, va, len as u64, access);
        }
        Ok(len)
    }

    /// Reads the first bytes of `buf`, and returns how many.
    pub fn read(
        &self,
        at: (u64, u64),
        buf: &mut [u8],
        access: Access,
    ) -> Result<usize, AccessError> {
        self.access(at, buf.len() as u64, access, |memory| match memory {
            Ok(slice) => {
                slice.copy_to(buf);
            }
            Err(len) => buf[..len as usize].fill(0),
        })
    }

    /// Writes the first bytes of `data`, and returns how many.
    pub fn write(&self, at: (u64, u64), data: &[u8]) -> Result<usize, AccessError> {
        self.access(at, data.len() as u64, Access::Write, |memory| {
            if let Ok(slice) = memory {
                slice.copy_from(data);
            }
        })
    }

    /// Reads an aligned 64-bit word at once.
    pub fn load(&self, at: (u64, u64)) -> Result<u64, AccessError> {
        let mut value = 0;
        self.access(at, 8, Access::Read, |memory| {
            if let Ok(slice) = memory {
                value = slice.load(0, Ordering::Acquire).unwrap_or_default();
            }
        })?;
        Ok(value)
    }

    /// Writes an aligned 64-bit word at once, after everything written before.
    pub fn store(&self, at: (u64, u64), value: u64) -> Result<(), AccessError> {
        self.access(at, 8, Access::Write, |memory| {
            if let Ok(slice) = memory {
                // Range and alignment hold, as pages are aligned.
                let _ = slice.store(value, 0, Ordering::Release);
            }
        })
        .map(drop)
    }

    /// Drops the translations of a range, and returns when all accesses that used one have ended.
    pub fn invalidate(&self, pgd: Option<u64>, start: u64, end: u64) {
        let _alone = self.flight.write().unwrap_or_else(PoisonError::into_inner);
        self.tlb().invalidate(pgd, start, end);
        if let Some(trace) = &self.trace {
            trace.invalidated(pgd, |pgd| self.is_empty(pgd));
        }
    }

    /// Whether a root table has no valid entry.
    fn is_empty(&self, pgd: u64) -> bool {
        let mut entries = (pgd..pgd + TABLE_SIZE).step_by(8);
        entries.all(|at| !Pte(self.space.local.load(at)).valid())
    }

    /// Lets others see what was traced.
    pub fn flush_trace(&self) {
        if let Some(trace) = &self.trace {
            trace.flush();
        }
    }

    /// Drops all translations.
    pub fn reset(&self) {
        let _alone = self.flight.write().unwrap_or_else(PoisonError::into_inner);
        self.tlb().clear();
        if let Some(trace) = &self.trace {
            trace.invalidated(None, |_| true);
        }
    }
}
