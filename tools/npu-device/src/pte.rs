// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Page-table entries.

use crate::error::Code;

const VALID: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXEC: u64 = 1 << 2;
const LEAF: u64 = 1 << 3;
const HOST: u64 = 1 << 4;
const CONT: u64 = 1 << 5;
const CACHE_SHIFT: u32 = 6;
const CACHE_RESERVED: u64 = 3;
/// `ACCESSED`.
pub const ACCESSED: u64 = 1 << 8;
/// `DIRTY`.
pub const DIRTY: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const SPARSE: u64 = 1 << 59;
const COMPRESSION_SHIFT: u32 = 60;
const LEAF_RESERVED: u64 = (3 << 10) | (1 << 58) | (3 << 62);

/// Bytes of a table.
pub const TABLE_SIZE: u64 = 4096;
/// Bits of a virtual address.
pub const VA_BITS: u32 = 48;

/// What an entry at `level` covers, in bytes.
pub fn cover(level: u32) -> u64 {
    4096 << (9 * level)
}

/// Local address of the entry for `va` in a table of `level`.
pub fn slot(table: u64, level: u32, va: u64) -> u64 {
    table + ((va >> (12 + 9 * level)) & 511) * 8
}

/// A page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pte(pub u64);

#[allow(missing_docs, reason = "mmu.rst names the bits")]
impl Pte {
    pub fn valid(self) -> bool {
        self.0 & VALID != 0
    }

    pub fn leaf(self) -> bool {
        self.0 & LEAF != 0
    }

    pub fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    pub fn executable(self) -> bool {
        self.0 & EXEC != 0
    }

    pub fn host(self) -> bool {
        self.0 & HOST != 0
    }

    pub fn cont(self) -> bool {
        self.0 & CONT != 0
    }

    pub fn sparse(self) -> bool {
        self.0 & SPARSE != 0
    }

    pub fn cache(self) -> u8 {
        ((self.0 >> CACHE_SHIFT) & 3) as u8
    }

    pub fn compression(self) -> u8 {
        ((self.0 >> COMPRESSION_SHIFT) & 3) as u8
    }

    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }

    /// Checks a valid entry of `level` by itself. Whether its address exists is another matter.
    pub fn check(self, level: u32) -> Result<(), Code> {
        let leaf_allowed = level <= 1;
        let table_allowed = level >= 1;
        if !self.leaf() {
            let reserved = !(VALID | ADDRESS);
            return if table_allowed && self.0 & reserved == 0 {
                Ok(())
            } else {
                Err(Code::ReservedPte)
            };
        }
        let bad_cache = u64::from(self.cache()) == CACHE_RESERVED;
        let bad_cont = self.cont() && (level != 0 || self.sparse());
        let bad_sparse = self.sparse() && (self.host() || self.address() != 0);
        if !leaf_allowed || self.0 & LEAF_RESERVED != 0 || bad_cache || bad_cont || bad_sparse {
            return Err(Code::ReservedPte);
        }
        if self.address() & (cover(level) - 1) != 0 {
            Err(Code::BadPteAddress)
        } else {
            Ok(())
        }
    }

    /// Whether `self` and `other`, `pages` behind it, can belong to one 64 KiB leaf.
    pub fn continues(self, other: Pte, pages: i64) -> bool {
        let ignored = ACCESSED | DIRTY | CONT | ADDRESS;
        let expected = self.address().wrapping_add_signed(pages * 4096);
        other.0 & !ignored == self.0 & !ignored && other.address() == expected
    }
}
