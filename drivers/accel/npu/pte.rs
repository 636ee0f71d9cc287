// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Page table entries; their format is in Documentation/accel/npu/mmu.rst.

use gmem_vm::{
    Access,
    FaultAccess,
    Location,
    MapAttrs, //
};
use kernel::{
    bits::{
        bit_u64,
        genmask_u64, //
    },
    prelude::*,
    sizes::{
        SZ_2M,
        SZ_4K,
        SZ_64K, //
    }, //
};

/// Sizes of leaves.
pub(crate) const PAGE_SIZES: u64 = SZ_4K as u64 | SZ_64K as u64 | SZ_2M as u64;

const VALID: u64 = bit_u64(0);
const WRITE: u64 = bit_u64(1);
const EXEC: u64 = bit_u64(2);
const LEAF: u64 = bit_u64(3);
const HOST: u64 = bit_u64(4);
const CONT: u64 = bit_u64(5);
const SPARSE: u64 = bit_u64(59);
const CACHE_SHIFT: u32 = 6;
const ACCESSED: u64 = bit_u64(8);
const COMPRESSION_SHIFT: u32 = 60;
const ADDRESS: u64 = genmask_u64(12..=51);

/// Attributes of a mapping that are the NPU's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Attrs {
    /// Cache policy, 0 to 2.
    cache: u8,
    /// Compression class, 0 to 3.
    compression: u8,
}

impl MapAttrs for Attrs {
    fn from_uapi(bits: u64) -> Result<Self> {
        let cache = (bits & 3) as u8;
        if bits >> 4 != 0 || cache == 3 {
            return Err(EINVAL);
        }
        Ok(Self {
            cache,
            compression: (bits >> 2) as u8,
        })
    }

    fn to_uapi(self) -> u64 {
        u64::from(self.cache) | u64::from(self.compression) << 2
    }
}

/// An entry of a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pte(u64);

impl Pte {
    pub(crate) const INVALID: Self = Self(0);

    /// A leaf of any size.
    pub(crate) fn leaf(location: Location, access: Access, attrs: Attrs) -> Self {
        let mut bits = VALID | LEAF | (location.address() & ADDRESS);
        bits |= match location {
            Location::Device(_) => 0,
            Location::Host(_) => HOST,
            Location::Sparse => SPARSE,
        };
        if access.write {
            bits |= WRITE;
        }
        if access.exec {
            bits |= EXEC;
        }
        bits |= u64::from(attrs.cache) << CACHE_SHIFT;
        bits |= u64::from(attrs.compression) << COMPRESSION_SHIFT;
        Self(bits)
    }

    /// A pointer to the table at this local address.
    pub(crate) fn table(local: u64) -> Self {
        Self(VALID | (local & ADDRESS))
    }

    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    pub(crate) const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    pub(crate) const fn is_cont(self) -> bool {
        self.is_valid() && self.0 & CONT != 0
    }

    /// Whether the device has cached the translation since that was last cleared.
    pub(crate) const fn is_accessed(self) -> bool {
        self.is_valid() && self.0 & ACCESSED != 0
    }

    /// As if the device had not cached it.
    pub(crate) const fn without_accessed(self) -> Self {
        Self(self.0 & !ACCESSED)
    }

    /// Whether a leaf allows an access; an invalid one allows none.
    pub(crate) const fn permits(self, access: FaultAccess) -> bool {
        let needed = match access {
            FaultAccess::Read => VALID,
            FaultAccess::Write => VALID | WRITE,
            FaultAccess::Fetch => VALID | EXEC,
        };
        self.0 & needed == needed
    }

    /// Sparse leaves are never part of a larger one.
    pub(crate) const fn with_cont(self, cont: bool) -> Self {
        if cont && self.0 & SPARSE == 0 {
            Self(self.0 | CONT)
        } else {
            Self(self.0 & !CONT)
        }
    }

    /// The leaf for an address `bytes` further on in the same run.
    pub(crate) const fn advance(self, bytes: u64) -> Self {
        if self.0 & SPARSE != 0 {
            return self;
        }
        Self(self.0 + bytes)
    }
}

#[kunit_tests(npu_pte)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_the_manual_says() -> Result {
        let access = Access {
            write: true,
            exec: true,
        };
        let attrs = Attrs::from_uapi(2 | 3 << 2)?;
        let pte = Pte::leaf(Location::Host(0x8_1234_5000), access, attrs);
        assert_eq!(pte.raw(), 0x3000_0008_1234_509f);
        let pte = Pte::leaf(
            Location::Device(0x20_0000),
            Access::default(),
            Attrs::default(),
        );
        assert_eq!(pte.raw(), 0x20_0009);
        assert_eq!(pte.with_cont(true).raw(), 0x20_0029);
        assert_eq!(pte.advance(0x1000).raw(), 0x20_1009);
        let sparse = Pte::leaf(Location::Sparse, access, Attrs::default());
        assert_eq!(sparse.raw(), 0x0800_0000_0000_000f);
        assert_eq!(sparse.advance(0x1000).with_cont(true), sparse);
        assert_eq!(Pte::table(0x7000).raw(), 0x7001);
        assert!(!Pte::INVALID.is_valid() && !Pte::from_raw(0x20).is_cont());
        Ok(())
    }

    #[test]
    fn a_leaf_permits_what_it_says() {
        use FaultAccess::*;
        let all = [Read, Write, Fetch];
        for (write, exec) in [(false, false), (true, false), (false, true), (true, true)] {
            let access = Access { write, exec };
            for location in [
                Location::Device(0x1000),
                Location::Host(0x1000),
                Location::Sparse,
            ] {
                let pte = Pte::leaf(location, access, Attrs::default());
                assert_eq!(all.map(|a| pte.permits(a)), [true, write, exec]);
            }
        }
        assert_eq!(all.map(|a| Pte::INVALID.permits(a)), [false; 3]);
        // What an invalid entry has in its other bits means nothing.
        assert_eq!(all.map(|a| Pte::from_raw(!VALID).permits(a)), [false; 3]);
    }

    #[test]
    fn unknown_attributes_are_refused() {
        assert!(Attrs::from_uapi(3).is_err_and(|e| e == EINVAL));
        assert!(Attrs::from_uapi(1 << 4).is_err_and(|e| e == EINVAL));
        assert!(Attrs::from_uapi(1 << 63).is_err_and(|e| e == EINVAL));
    }
}
