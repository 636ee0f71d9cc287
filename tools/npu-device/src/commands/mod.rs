// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The commands of a job.

mod attention;
mod elementwise;
mod gemm;
mod memory;
mod operand;
mod rows;

use crate::compute::{BadCommand, Job, Stop};

/// What is fixed about a kind of command.
pub struct Kind {
    /// Length in units of 8 bytes.
    pub units: u16,
    /// Flags that may be set.
    pub flags: u32,
    /// What it does.
    pub execute: fn(&Job<'_>, &Command) -> Result<(), Stop>,
}

impl Kind {
    const fn new(
        units: u16,
        flags: u32,
        execute: fn(&Job<'_>, &Command) -> Result<(), Stop>,
    ) -> Self {
        Kind {
            units,
            flags,
            execute,
        }
    }
}

/// The kind that an opcode names.
pub fn find(opcode: u16) -> Option<Kind> {
    Some(match opcode {
        0x00 => Kind::new(1, 0, |_, _| Ok(())),
        0x01 => Kind::new(4, 0, memory::fill),
        0x02 => Kind::new(4, 0, memory::copy),
        0x03 => Kind::new(5, 0, memory::compare),
        0x04 => Kind::new(3, 0, memory::write),
        0x05 => Kind::new(2, 0, memory::timestamp),
        0x06 => Kind::new(3, 0, memory::wait),
        0x10 => Kind::new(9, gemm::FLAGS, gemm::gemm),
        0x11 => Kind::new(5, 0, rows::bias),
        0x12 => Kind::new(4, elementwise::GELU_TANH, elementwise::gelu),
        0x13 => Kind::new(4, 0, rows::softmax),
        0x14 => Kind::new(7, 0, rows::layernorm),
        0x15 => Kind::new(6, 0, rows::gather),
        0x16 => Kind::new(9, 0, attention::attention),
        0x17 => Kind::new(5, 0, elementwise::add),
        0x18 => Kind::new(6, 0, rows::meanpool),
        0x19 => Kind::new(4, 0, rows::normalize),
        _ => return None,
    })
}

/// A command as it lies in memory.
pub struct Command(Vec<u8>);

impl Command {
    /// Takes the bytes of a command, header included.
    pub fn new(bytes: Vec<u8>) -> Self {
        Command(bytes)
    }

    /// The flags of the header.
    pub fn flags(&self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.0[4 + i]))
    }

    /// Reads the fields behind the header.
    fn fields(&self) -> Fields<'_> {
        Fields(&self.0[8..])
    }
}

/// The fields of a command, read in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = rest;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.take())
    }

    /// A field that must be zero.
    fn reserved(&mut self) -> Result<(), BadCommand> {
        if self.u32() == 0 {
            Ok(())
        } else {
            Err(BadCommand::Reserved)
        }
    }
}

/// Refuses an address or size that is not a multiple of `to`.
fn aligned(value: u64, to: u64) -> Result<(), BadCommand> {
    if value % to == 0 {
        Ok(())
    } else {
        Err(BadCommand::Misaligned)
    }
}

/// The largest operand.
const LARGEST_OPERAND: u64 = 4 << 30;

/// Refuses an operand of more bytes than are allowed.
fn operand_size(bytes: u64) -> Result<(), BadCommand> {
    if bytes <= LARGEST_OPERAND {
        Ok(())
    } else {
        Err(BadCommand::OutOfRange)
    }
}
