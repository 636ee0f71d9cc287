// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compute jobs: their memory accesses, and the loop over their commands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::commands::{self, Command};
use crate::counters::Counter;
use crate::device::{Shared, Waiter};
use crate::fault::{self, Ended, Fault};
use crate::mmu::{Access, AccessError};
use crate::pte::TABLE_SIZE;
use crate::queue::{Abandoned, Descriptor, FLAG_IRQ, Outcome};

const OPCODE_JOB: u32 = 1;
const LARGEST: u32 = 1 << 20;
/// How often `WAIT` looks.
const POLL: Duration = Duration::from_micros(50);

/// What is wrong with a command, as the descriptor's `error` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "queues.rst says what each means")]
pub enum BadCommand {
    Opcode = 1,
    Size = 2,
    Reserved = 3,
    Misaligned = 4,
    OutOfRange = 5,
}

/// Why a command did not finish.
pub enum Stop {
    /// It is wrong.
    Bad(BadCommand),
    /// The job has ended.
    Ended(Ended),
}

impl From<BadCommand> for Stop {
    fn from(bad: BadCommand) -> Self {
        Stop::Bad(bad)
    }
}

/// A job that is being executed.
pub struct Job<'a> {
    device: &'a Shared,
    queue: usize,
    stop: &'a AtomicBool,
    pgd: u64,
    commands: u64,
    size: u64,
    cookie: u32,
}

/// Counts a job that has ended.
pub fn count(device: &Shared, outcome: Outcome) {
    let ok = outcome.status == Outcome::OK.status;
    device.counters.add(
        if ok {
            Counter::JobsOk
        } else {
            Counter::JobsOther
        },
        1,
    );
}

impl<'a> Job<'a> {
    /// Decodes a descriptor of compute queue `queue`, if it is well formed.
    pub fn decode(
        device: &'a Shared,
        queue: usize,
        descriptor: &Descriptor,
        stop: &'a AtomicBool,
    ) -> Option<Self> {
        let (opcode, flags) = (descriptor.u32(0), descriptor.u32(4));
        let (pgd, commands, size) = (
            descriptor.u64(8),
            descriptor.u64(0x10),
            descriptor.u32(0x18),
        );
        let well_formed = opcode == OPCODE_JOB
            && flags & !FLAG_IRQ == 0
            && pgd % TABLE_SIZE == 0
            && commands % 8 == 0
            && size % 8 == 0
            && (8..=LARGEST).contains(&size);
        well_formed.then_some(Job {
            device,
            queue,
            stop,
            pgd,
            commands,
            size: size.into(),
            cookie: descriptor.u32(0x1c),
        })
    }

    /// Executes all commands.
    pub fn execute(&self) -> Result<Outcome, Abandoned> {
        self.hang()?;
        let mut offset = 0;
        while offset < self.size {
            match self.step(offset) {
                Ok(len) => offset += len,
                Err(Stop::Bad(bad)) => return Ok(Outcome::bad_command(bad as u32, offset)),
                Err(Stop::Ended(Ended::Outcome(outcome))) => return Ok(outcome),
                Err(Stop::Ended(Ended::Abandoned(abandoned))) => return Err(abandoned),
            }
        }
        Ok(Outcome::OK)
    }

    /// Hangs, if that is injected.
    fn hang(&self) -> Result<(), Abandoned> {
        let mut state = self.device.lock();
        let bit = 1 << self.queue;
        if state.inject.hang & bit == 0 {
            return Ok(());
        }
        state.inject.hang &= !bit;
        while !self.stop.load(Ordering::Acquire) {
            state = self.device.wait(state, Waiter::Queue(1 + self.queue));
        }
        Err(Abandoned::Stopped)
    }

    /// Fetches and executes the command at an offset, and returns its length.
    fn step(&self, offset: u64) -> Result<u64, Stop> {
        let mut header = [0; 8];
        self.fetch(offset, &mut header)?;
        let opcode = u16::from_le_bytes([header[0], header[1]]);
        let units = u16::from_le_bytes([header[2], header[3]]);
        let kind = commands::find(opcode).ok_or(BadCommand::Opcode)?;
        let len = u64::from(units) * 8;
        if units != kind.units || offset + len > self.size {
            return Err(BadCommand::Size.into());
        }
        let mut bytes = vec![0; len as usize];
        bytes[..8].copy_from_slice(&header);
        self.fetch(offset + 8, &mut bytes[8..])?;
        let command = Command::new(bytes);
        if command.flags() & !kind.flags != 0 {
            return Err(BadCommand::Reserved.into());
        }
        (kind.execute)(self, &command)?;
        self.device.counters.add(Counter::Commands, 1);
        Ok(len)
    }

    fn fetch(&self, offset: u64, buf: &mut [u8]) -> Result<(), Stop> {
        self.read_as(self.commands.saturating_add(offset), buf, 0, Access::Fetch)
    }

    /// The time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.device.now()
    }

    /// Returns early if the job shall end. Long commands call it between pieces of their work.
    pub fn check(&self) -> Result<(), Stop> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Stop::Ended(Ended::Abandoned(Abandoned::Stopped)));
        }
        Ok(())
    }

    /// Lets a while pass, unless the job shall end.
    pub fn pause(&self) -> Result<(), Stop> {
        self.check()?;
        std::thread::sleep(POLL);
        self.check()
    }

    /// Reads memory.
    pub fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Stop> {
        self.read_part(va, buf, 0)
    }

    /// Reads memory of which `behind` more bytes will be read in order.
    pub fn read_part(&self, va: u64, buf: &mut [u8], behind: u64) -> Result<(), Stop> {
        self.read_as(va, buf, behind, Access::Read)?;
        self.device.counters.add(Counter::Read, buf.len() as u64);
        Ok(())
    }

    fn read_as(&self, va: u64, buf: &mut [u8], behind: u64, access: Access) -> Result<(), Stop> {
        let mut done = 0;
        while done < buf.len() {
            let at = va.saturating_add(done as u64);
            let rest = &mut buf[done..];
            let len = rest.len() as u64;
            done += self.retry(at, len + behind, access, || {
                self.device.mmu.read((self.pgd, at), rest, access)
            })?;
        }
        Ok(())
    }

    /// Writes memory.
    pub fn write(&self, va: u64, data: &[u8]) -> Result<(), Stop> {
        self.write_part(va, data, 0)
    }

    /// Writes memory of which `behind` more bytes will be written in order.
    pub fn write_part(&self, va: u64, data: &[u8], behind: u64) -> Result<(), Stop> {
        let mut done = 0;
        while done < data.len() {
            let at = va.saturating_add(done as u64);
            let rest = &data[done..];
            let access = || self.device.mmu.write((self.pgd, at), rest);
            done += self.retry(at, rest.len() as u64 + behind, Access::Write, access)?;
        }
        self.device
            .counters
            .add(Counter::Written, data.len() as u64);
        Ok(())
    }

    /// Reads an aligned 64-bit word at once.
    pub fn load(&self, va: u64) -> Result<u64, Stop> {
        let access = || self.device.mmu.load((self.pgd, va));
        let value = self.retry(va, 8, Access::Read, access)?;
        self.device.counters.add(Counter::Read, 8);
        Ok(value)
    }

    /// Writes an aligned 64-bit word at once.
    pub fn store(&self, va: u64, value: u64) -> Result<(), Stop> {
        let access = || self.device.mmu.store((self.pgd, va), value);
        self.retry(va, 8, Access::Write, access)?;
        self.device.counters.add(Counter::Written, 8);
        Ok(())
    }

    /// Performs an access, of `len` bytes with those that will follow in order, again after each
    /// fault that software answers by a replay.
    fn retry<T>(
        &self,
        va: u64,
        len: u64,
        access: Access,
        mut perform: impl FnMut() -> Result<T, AccessError>,
    ) -> Result<T, Stop> {
        loop {
            self.check()?;
            match perform() {
                Ok(value) => return Ok(value),
                Err(AccessError::Error(error)) => {
                    return Err(Stop::Ended(Ended::Abandoned(Abandoned::Error(error))));
                }
                Err(AccessError::Fault(reason)) => {
                    let Job {
                        pgd, cookie, queue, ..
                    } = *self;
                    let fault = Fault {
                        va,
                        pgd,
                        access,
                        reason,
                        queue,
                        cookie,
                        len,
                    };
                    self.device.mmu.flush_trace();
                    fault::handle(self.device, &fault).map_err(Stop::Ended)?;
                }
            }
        }
    }
}
