// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What userspace advised about ranges of a VM: an interval map, apart from mappings.
//!
//! Attributes are state, not commands: they stay where they were set, whatever is mapped there or is
//! not, until they are set to something else. Setting one leaves the others as they are. Equal
//! neighbours merge on every change, and what has all defaults is not stored.
//!
//! What each means, its values and its precedence are documented in `include/uapi/drm/gmem_vm.h`,
//! where they have their numbers. [`AttrMap`] is plain bookkeeping and lives under the VM lock.

use crate::{
    range::VaRange,
    range_map::{
        Entry,
        RangeMap,
        Value, //
    }, //
};
use kernel::prelude::*;

/// One attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum AttrKind {
    /// Where pages should be.
    PreferredLocation = 0,
    /// How the device gets at pages that are elsewhere.
    Access = 1,
    /// Whether there may be a copy for each reader.
    ReadMostly = 2,
    /// Whether the device's mapping is kept when pages move.
    AlwaysMapped = 3,
    /// Whether the device may not write.
    ReadOnly = 4,
    /// Whether the device may fetch commands.
    Exec = 5,
    /// Which atomic accesses have to work.
    Atomics = 6,
    /// How much is migrated at a time.
    Granularity = 7,
    /// Which pages migrate to the preferred location.
    MigrationPolicy = 8,
    /// Whether pages stay in device memory.
    Pinned = 9,
    /// How soon pages are evicted.
    EvictionPriority = 10,
    /// Whether unmapping the CPU's memory resets all of them.
    AutoReset = 11,
    /// Whether they follow when the CPU's memory grows.
    Follow = 12,
    /// The driver's own.
    Driver = 13,
}

/// Number of attributes.
pub const KINDS: usize = 14;

/// Allowed values of an attribute, which begin with its default.
enum Values {
    /// From 0, the default, to this.
    UpTo(u64),
    /// 0, the default, or from the first to the second.
    ZeroOr(u64, u64),
    /// A location: what it is in the high half, and which one in the low half.
    Location,
    /// What the driver allows.
    Driver,
}

impl AttrKind {
    /// All attributes, by number.
    pub const ALL: [Self; KINDS] = [
        Self::PreferredLocation,
        Self::Access,
        Self::ReadMostly,
        Self::AlwaysMapped,
        Self::ReadOnly,
        Self::Exec,
        Self::Atomics,
        Self::Granularity,
        Self::MigrationPolicy,
        Self::Pinned,
        Self::EvictionPriority,
        Self::AutoReset,
        Self::Follow,
        Self::Driver,
    ];

    const fn values(self) -> Values {
        match self {
            Self::PreferredLocation => Values::Location,
            Self::Access | Self::Atomics => Values::UpTo(3),
            Self::Granularity => Values::ZeroOr(12, 30),
            Self::EvictionPriority => Values::UpTo(2),
            Self::Driver => Values::Driver,
            Self::ReadMostly
            | Self::AlwaysMapped
            | Self::ReadOnly
            | Self::Exec
            | Self::MigrationPolicy
            | Self::Pinned
            | Self::AutoReset
            | Self::Follow => Values::UpTo(1),
        }
    }
}

/// Host memory as a [`AttrKind::PreferredLocation`], on any node.
pub const LOCATION_HOST: u64 = 1 << 32;
/// Host memory on the NUMA node in the low half.
pub const LOCATION_HOST_NODE: u64 = 2 << 32;
/// Memory of this device.
pub const LOCATION_DEVICE: u64 = 3 << 32;

/// An attribute and its value, both checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    kind: AttrKind,
    value: u64,
}

impl Attr {
    /// Checks an attribute as userspace gave it; `node` says whether a NUMA node exists, and `driver`
    /// checks the driver's own.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown attribute or a value that it cannot have.
    pub fn new(
        kind: u32,
        value: u64,
        node: impl FnOnce(u32) -> bool,
        driver: impl FnOnce(u64) -> Result,
    ) -> Result<Self> {
        let kind = *AttrKind::ALL.get(kind as usize).ok_or(EINVAL)?;
        let valid = match kind.values() {
            Values::UpTo(last) => value <= last,
            Values::ZeroOr(first, last) => value == 0 || (first <= value && value <= last),
            Values::Location => match value & !0xffff_ffff {
                LOCATION_HOST_NODE => node(value as u32),
                _ => matches!(value, 0 | LOCATION_HOST | LOCATION_DEVICE),
            },
            Values::Driver => {
                driver(value)?;
                true
            }
        };
        if !valid {
            return Err(EINVAL);
        }
        Ok(Self { kind, value })
    }
}

impl Attr {
    /// Pages stay in device memory.
    pub const PINNED: Self = Self {
        kind: AttrKind::Pinned,
        value: 1,
    };
    /// Pages need not stay in device memory.
    pub const NOT_PINNED: Self = Self {
        kind: AttrKind::Pinned,
        value: 0,
    };

    /// What attributes become by setting some, in order, after all others were set to their defaults, if `reset`.
    pub fn apply(attrs: &[Self], reset: bool, old: AttrSet) -> AttrSet {
        let base = if reset { AttrSet::DEFAULT } else { old };
        attrs.iter().fold(base, |set, attr| set.with(*attr))
    }

    /// Whether it says how the page table of a device has memory that is mirrored, or where that is.
    pub fn is_seen_in_page_table(&self) -> bool {
        matches!(
            self.kind,
            AttrKind::PreferredLocation
                | AttrKind::Access
                | AttrKind::ReadOnly
                | AttrKind::Exec
                | AttrKind::Pinned
                | AttrKind::Driver
        )
    }
}

/// A value for each attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AttrSet {
    location: u64,
    driver: u64,
    /// The others, each of which fits into a byte.
    small: [u8; KINDS],
}

impl AttrSet {
    /// All defaults.
    pub const DEFAULT: Self = Self {
        location: 0,
        driver: 0,
        small: [0; KINDS],
    };

    /// The value of an attribute.
    pub fn get(&self, kind: AttrKind) -> u64 {
        match kind {
            AttrKind::PreferredLocation => self.location,
            AttrKind::Driver => self.driver,
            _ => self.small[kind as usize].into(),
        }
    }

    /// This with another value of one attribute.
    pub fn with(mut self, attr: Attr) -> Self {
        match attr.kind {
            AttrKind::PreferredLocation => self.location = attr.value,
            AttrKind::Driver => self.driver = attr.value,
            // Their values were checked, and are below 256.
            kind => self.small[kind as usize] = attr.value as u8,
        }
        self
    }
}

impl Value for AttrSet {
    fn advance(&self, _bytes: u64) -> Self {
        *self
    }

    fn continues(&self, _bytes: u64, next: &Self) -> bool {
        self == next
    }
}

/// The attributes of a VM, by address.
#[derive(Default)]
pub struct AttrMap {
    map: RangeMap<AttrSet>,
}

impl AttrMap {
    /// Everything has its default.
    pub const fn new() -> Self {
        Self {
            map: RangeMap::new(),
        }
    }

    /// Number of ranges with attributes that are not all defaults.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether everything has its default.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Host memory that the map takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    /// The attributes at an address, and the largest part of `range`, which has that address, that
    /// begins there and has the same.
    pub fn get(&self, range: VaRange) -> (AttrSet, VaRange) {
        match self.map.first_overlap(&range) {
            None => (AttrSet::DEFAULT, range),
            Some(entry) => match VaRange::from_bounds(range.start(), entry.range.start()) {
                Some(gap) => (AttrSet::DEFAULT, gap),
                None => (*entry.value, entry.range.intersect(&range).unwrap_or(range)),
            },
        }
    }

    /// The attributes at an address.
    pub fn at(&self, address: u64) -> AttrSet {
        self.map
            .get(address)
            .map_or(AttrSet::DEFAULT, |entry| *entry.value)
    }

    /// The largest part of a range around one of its addresses that has the same attributes as that.
    pub fn alike(&self, address: u64, range: VaRange) -> VaRange {
        let found = match self.map.get(address) {
            Some(entry) => Some(entry.range),
            None => {
                let end = |entry: Entry<'_, AttrSet>| entry.range.end();
                let before = VaRange::from_bounds(range.start(), address);
                let before = before.and_then(|r| self.map.overlaps(r).map(end).last());
                let behind = VaRange::from_bounds(address, range.end());
                let behind = behind.and_then(|r| Some(self.map.first_overlap(&r)?.range.start()));
                VaRange::from_bounds(
                    before.unwrap_or(range.start()),
                    behind.unwrap_or(range.end()),
                )
            }
        };
        found.and_then(|r| r.intersect(&range)).unwrap_or(range)
    }

    /// Sets all attributes at the beginning of a range, up to where something was advised already; returns where
    /// that is. `ENOMEM`.
    pub fn fill(&mut self, range: VaRange, set: AttrSet) -> Result<u64> {
        let (old, part) = self.get(range);
        if old != AttrSet::DEFAULT {
            return Ok(range.start());
        }
        if set == old {
            return Ok(part.end());
        }
        self.map.reserve(1)?;
        self.map.set(part, set, |_| ());
        self.map.trim();
        Ok(part.end())
    }

    /// Sets attributes in a range, in order. All others are set to their defaults, if `reset`, or
    /// left as they are.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: nothing has changed.
    pub fn advise(&mut self, range: VaRange, attrs: &[Attr], reset: bool) -> Result {
        // A gap before each entry, and one behind the last.
        let pieces = 2 * self.map.overlaps(range).count() + 1;
        self.map.reserve(pieces)?;
        let mut rest = Some(range);
        while let Some(range) = rest {
            let (old, piece) = self.get(range);
            let new = Attr::apply(attrs, reset, old);
            if new != old {
                if new == AttrSet::DEFAULT {
                    self.map.clear(piece, |_| ());
                } else {
                    self.map.set(piece, new, |_| ());
                }
            }
            rest = VaRange::from_bounds(piece.end(), range.end());
        }
        self.map.trim();
        Ok(())
    }
}

#[kunit_tests(gmem_vm_attrs)]
mod tests {
    use super::*;

    fn attr(kind: AttrKind, value: u64) -> Result<Attr> {
        Attr::new(kind as u32, value, |node| node < 2, |_| Ok(()))
    }

    fn range(start: u64, end: u64) -> Result<VaRange> {
        VaRange::from_bounds(start << 12, end << 12).ok_or(EINVAL)
    }

    #[test]
    fn values_are_checked() {
        let all = [
            (AttrKind::PreferredLocation, 0, true),
            (AttrKind::PreferredLocation, LOCATION_HOST, true),
            (AttrKind::PreferredLocation, LOCATION_HOST + 1, false),
            (AttrKind::PreferredLocation, LOCATION_HOST_NODE + 1, true),
            (AttrKind::PreferredLocation, LOCATION_HOST_NODE + 2, false),
            (AttrKind::PreferredLocation, LOCATION_DEVICE, true),
            (AttrKind::PreferredLocation, 4 << 32, false),
            (AttrKind::PreferredLocation, 1, false),
            (AttrKind::Access, 3, true),
            (AttrKind::Access, 4, false),
            (AttrKind::Granularity, 0, true),
            (AttrKind::Granularity, 11, false),
            (AttrKind::Granularity, 12, true),
            (AttrKind::Granularity, 30, true),
            (AttrKind::Granularity, 31, false),
            (AttrKind::EvictionPriority, 2, true),
            (AttrKind::EvictionPriority, 3, false),
            (AttrKind::Pinned, 1, true),
            (AttrKind::Pinned, 2, false),
            (AttrKind::Pinned, 256, false),
            (AttrKind::Driver, u64::MAX, true),
        ];
        for (kind, value, valid) in all {
            assert_eq!(attr(kind, value).is_ok(), valid);
        }
        assert!(Attr::new(KINDS as u32, 0, |_| true, |_| Ok(())).is_err_and(|e| e == EINVAL));
        let driver = AttrKind::Driver as u32;
        assert!(Attr::new(driver, 0, |_| true, |_| Err(EINVAL)).is_err_and(|e| e == EINVAL));
        for (i, kind) in AttrKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, i);
        }
    }

    #[test]
    fn one_attribute_leaves_the_others() -> Result {
        let mut map = AttrMap::new();
        map.advise(range(0, 10)?, &[attr(AttrKind::Pinned, 1)?], false)?;
        map.advise(range(5, 15)?, &[attr(AttrKind::Granularity, 16)?], false)?;
        assert_eq!(map.len(), 3);
        let (set, part) = map.get(range(6, 20)?);
        assert_eq!((set.get(AttrKind::Pinned), part), (1, range(6, 10)?));
        assert_eq!(set.get(AttrKind::Granularity), 16);
        let (set, part) = map.get(range(12, 20)?);
        assert_eq!((set.get(AttrKind::Pinned), part), (0, range(12, 15)?));
        assert_eq!(map.get(range(15, 20)?), (AttrSet::DEFAULT, range(15, 20)?));
        Ok(())
    }

    #[test]
    fn equal_neighbours_merge_and_defaults_vanish() -> Result {
        let mut map = AttrMap::new();
        for i in [0, 2, 1, 4, 3] {
            map.advise(range(i, i + 1)?, &[attr(AttrKind::Access, 2)?], false)?;
        }
        assert_eq!(map.len(), 1);
        map.advise(range(1, 3)?, &[attr(AttrKind::Access, 1)?], false)?;
        assert_eq!(map.len(), 3);
        map.advise(range(0, 9)?, &[attr(AttrKind::Access, 2)?], false)?;
        assert_eq!(map.len(), 1);
        map.advise(range(4, 9)?, &[attr(AttrKind::Access, 0)?], false)?;
        assert_eq!(map.get(range(0, 20)?).1, range(0, 4)?);
        map.advise(range(1, 2)?, &[], true)?;
        assert_eq!(map.len(), 2);
        map.advise(range(0, 20)?, &[], true)?;
        assert!(map.is_empty());
        Ok(())
    }

    #[test]
    fn alike_is_the_largest_part_around_an_address() -> Result {
        let mut map = AttrMap::new();
        map.advise(range(4, 6)?, &[attr(AttrKind::Pinned, 1)?], false)?;
        map.advise(
            range(6, 8)?,
            &[attr(AttrKind::Pinned, 0)?, attr(AttrKind::Exec, 1)?],
            false,
        )?;
        map.advise(range(12, 14)?, &[attr(AttrKind::Pinned, 1)?], false)?;
        let all = range(0, 20)?;
        for (page, part) in [
            (0, (0, 4)),
            (3, (0, 4)),
            (4, (4, 6)),
            (5, (4, 6)),
            (6, (6, 8)),
            (8, (8, 12)),
            (10, (8, 12)),
            (11, (8, 12)),
            (13, (12, 14)),
            (14, (14, 20)),
            (19, (14, 20)),
        ] {
            assert_eq!(map.alike(page << 12, all), range(part.0, part.1)?);
            // Any of its bytes will do.
            assert_eq!(map.alike((page << 12) + 0xfff, all), range(part.0, part.1)?);
        }
        // No more than was asked for.
        assert_eq!(map.alike(5 << 12, range(5, 7)?), range(5, 6)?);
        assert_eq!(map.alike(9 << 12, range(9, 11)?), range(9, 11)?);
        assert_eq!(map.alike(9 << 12, range(7, 11)?), range(8, 11)?);
        assert_eq!(map.alike(9 << 12, range(9, 13)?), range(9, 12)?);
        map.advise(all, &[], true)?;
        assert_eq!(map.alike(9 << 12, all), all);
        Ok(())
    }

    #[test]
    fn at_agrees_with_get() -> Result {
        let mut map = AttrMap::new();
        map.advise(range(2, 4)?, &[attr(AttrKind::Access, 3)?], false)?;
        map.advise(range(3, 6)?, &[attr(AttrKind::Driver, 77)?], false)?;
        for page in 0..8 {
            let (set, _) = map.get(range(page, 8)?);
            assert_eq!(map.at(page << 12), set);
            assert_eq!(map.at((page << 12) + 0xfff), set);
        }
        assert_eq!(map.at(3 << 12).get(AttrKind::Access), 3);
        assert_eq!(map.at(3 << 12).get(AttrKind::Driver), 77);
        assert_eq!(map.at(u64::MAX), AttrSet::DEFAULT);
        Ok(())
    }

    #[test]
    fn fill_stops_at_what_was_advised() -> Result {
        let mut map = AttrMap::new();
        let set = AttrSet::DEFAULT.with(attr(AttrKind::Follow, 1)?);
        map.advise(range(2, 4)?, &[attr(AttrKind::Follow, 1)?], false)?;
        map.advise(range(8, 10)?, &[attr(AttrKind::Pinned, 1)?], false)?;
        // On from what is the same, with which it merges.
        assert_eq!(map.fill(range(4, 12)?, set)?, 8 << 12);
        assert_eq!(map.len(), 2);
        assert_eq!(map.alike(4 << 12, range(0, 20)?), range(2, 8)?);
        // Something is there.
        assert_eq!(map.fill(range(8, 12)?, set)?, 8 << 12);
        assert_eq!(map.fill(range(5, 12)?, set)?, 5 << 12);
        assert_eq!(map.at(9 << 12).get(AttrKind::Follow), 0);
        // Nothing is behind.
        assert_eq!(map.fill(range(10, 11)?, set)?, 11 << 12);
        assert_eq!(map.at(11 << 12), AttrSet::DEFAULT);
        // Defaults are not stored.
        let before = map.len();
        assert_eq!(map.fill(range(15, 16)?, AttrSet::DEFAULT)?, 16 << 12);
        assert_eq!(map.len(), before);
        Ok(())
    }
}
