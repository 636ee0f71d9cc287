// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Page tables, commands, and jobs made of both.

use std::cell::Cell;

use crate::card::{Card, Completion, job};

pub const VALID: u64 = 1 << 0;
pub const WRITE: u64 = 1 << 1;
pub const EXEC: u64 = 1 << 2;
pub const LEAF: u64 = 1 << 3;
pub const ON_HOST: u64 = 1 << 4;
pub const CONT: u64 = 1 << 5;
pub const ACCESSED: u64 = 1 << 8;
pub const DIRTY: u64 = 1 << 9;
pub const SPARSE: u64 = 1 << 59;
/// A leaf that can be read and written.
pub const RW: u64 = VALID | LEAF | WRITE;
/// A leaf that can be read.
pub const RO: u64 = VALID | LEAF;

/// Where tables lie in local memory.
const TABLES: u64 = 0xc0_0000;
/// Where commands lie in local memory, and at which VA.
const CODE: u64 = 0xb0_0000;
pub const CODE_VA: u64 = 0x7f00_0000_0000;

/// An address space on a card.
pub struct Space<'a> {
    pub card: &'a Card,
    pub pgd: u64,
    next: Cell<u64>,
}

impl<'a> Space<'a> {
    /// An address space that has commands at `CODE_VA` and nothing else.
    pub fn new(card: &'a Card) -> Self {
        Space::at(card, TABLES)
    }

    /// One whose tables begin elsewhere.
    pub fn at(card: &'a Card, tables: u64) -> Self {
        let space = Space {
            card,
            pgd: tables,
            next: Cell::new(tables + 0x1000),
        };
        for i in 0..16 {
            space.leaf(CODE_VA + i * 0x1000, CODE + i * 0x1000, VALID | LEAF | EXEC);
        }
        space
    }

    /// Local address of the entry of `level` for `va`; tables on the way are made.
    pub fn entry(&self, va: u64, level: u32) -> u64 {
        let mut table = self.pgd;
        for at in (level + 1..4).rev() {
            let slot = table + ((va >> (12 + 9 * at)) & 511) * 8;
            let mut entry = self.card.local_u64(slot);
            if entry & VALID == 0 {
                entry = self.next.get() | VALID;
                self.next.set(self.next.get() + 0x1000);
                self.card.set_local_u64(slot, entry);
            }
            table = entry & 0x000f_ffff_ffff_f000;
        }
        table + ((va >> (12 + 9 * level)) & 511) * 8
    }

    pub fn set(&self, va: u64, level: u32, entry: u64) {
        self.card.set_local_u64(self.entry(va, level), entry);
    }

    pub fn get(&self, va: u64, level: u32) -> u64 {
        self.card.local_u64(self.entry(va, level))
    }

    /// A 4 KiB leaf.
    pub fn leaf(&self, va: u64, address: u64, bits: u64) {
        self.set(va, 0, address | bits);
    }

    /// A 64 KiB leaf.
    pub fn medium(&self, va: u64, address: u64, bits: u64) {
        for i in 0..16 {
            self.leaf(va + i * 0x1000, address + i * 0x1000, bits | CONT);
        }
    }

    /// A 2 MiB leaf.
    pub fn large(&self, va: u64, address: u64, bits: u64) {
        self.set(va, 1, address | bits);
    }

    /// Maps the first 8 MiB of local memory at VA 0.
    pub fn data(self) -> Self {
        for i in 0..4 {
            self.large(i << 21, i << 21, RW);
        }
        self
    }

    pub fn flush(&self, va: u64, len: u64) {
        self.card.invalidate(self.pgd, va, va + len);
    }

    /// Puts commands in place, and returns the descriptor of their job.
    pub fn job(&self, commands: &Commands, cookie: u32) -> [u8; 64] {
        self.job_at(0, commands, cookie)
    }

    /// The same at a page of the code area, for jobs that are there together.
    pub fn job_at(&self, page: u64, commands: &Commands, cookie: u32) -> [u8; 64] {
        self.card.local_write(CODE + page * 0x1000, &commands.0);
        job(
            self.pgd,
            CODE_VA + page * 0x1000,
            commands.0.len() as u32,
            cookie,
        )
    }

    /// Runs commands on compute queue 0.
    pub fn run(&self, commands: &Commands) -> Completion {
        self.card.run(1, &self.job(commands, 0))
    }

    /// Runs commands that must succeed.
    pub fn ok(&self, commands: &Commands) {
        assert_eq!(self.run(commands).outcome(), crate::card::OK);
    }

    /// Reads a u32 through the device: copies it to the start of a page that is mapped for that.
    pub fn load(&self, va: u64) -> u32 {
        const PROBE: u64 = 0xa0_0000;
        const PROBE_VA: u64 = 0x7e00_0000_0000;
        self.leaf(PROBE_VA, PROBE, RW);
        self.ok(&Commands::new().copy(PROBE_VA, va, 4));
        u32::from_le_bytes(self.card.local_read(PROBE, 4).try_into().unwrap())
    }
}

/// A field of a command.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    W(u32),
    D(u64),
    F(f32),
}

pub use Field::{D, F, W};

/// Commands of a job.
#[derive(Clone, Debug, Default)]
pub struct Commands(pub Vec<u8>);

impl Commands {
    pub fn new() -> Self {
        Commands::default()
    }

    /// Any command.
    pub fn raw(mut self, opcode: u16, flags: u32, fields: &[Field]) -> Self {
        let mut body = Vec::new();
        for field in fields {
            match field {
                W(v) => body.extend(v.to_le_bytes()),
                D(v) => body.extend(v.to_le_bytes()),
                F(v) => body.extend(v.to_le_bytes()),
            }
        }
        self.0.extend(opcode.to_le_bytes());
        self.0.extend(((body.len() / 8 + 1) as u16).to_le_bytes());
        self.0.extend(flags.to_le_bytes());
        self.0.extend(body);
        self
    }

    pub fn nop(self) -> Self {
        self.raw(0x00, 0, &[])
    }

    pub fn fill(self, dst: u64, size: u64, pattern: u32) -> Self {
        self.raw(0x01, 0, &[D(dst), D(size), W(pattern), W(0)])
    }

    pub fn copy(self, dst: u64, src: u64, size: u64) -> Self {
        self.raw(0x02, 0, &[D(dst), D(src), D(size)])
    }

    pub fn compare(self, result: u64, a: u64, b: u64, size: u64) -> Self {
        self.raw(0x03, 0, &[D(result), D(a), D(b), D(size)])
    }

    pub fn write(self, dst: u64, value: u64) -> Self {
        self.raw(0x04, 0, &[D(dst), D(value)])
    }

    pub fn timestamp(self, dst: u64) -> Self {
        self.raw(0x05, 0, &[D(dst)])
    }

    pub fn wait(self, src: u64, value: u64) -> Self {
        self.raw(0x06, 0, &[D(src), D(value)])
    }
}
