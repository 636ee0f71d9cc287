// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`VaRange`]: a checked range of device addresses.

use kernel::prelude::*;

/// A half-open, non-empty range of device addresses, in bytes; in the order of where they start.
///
/// # Invariants
///
/// `start < end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VaRange {
    start: u64,
    end: u64,
}

impl VaRange {
    /// The range of `size` bytes at `start`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `size` is zero, `ERANGE` if the end overflows.
    #[inline]
    pub fn new(start: u64, size: u64) -> Result<Self> {
        if size == 0 {
            return Err(EINVAL);
        }
        let end = start.checked_add(size).ok_or(ERANGE)?;
        // INVARIANT: `size` is not zero and the sum did not overflow.
        Ok(Self { start, end })
    }

    /// The range from `start` to `end`, or `None` if that is empty.
    pub const fn from_bounds(start: u64, end: u64) -> Option<Self> {
        if start < end {
            // INVARIANT: Just checked.
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// First address.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// First address after the range.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes in the range; never zero.
    pub const fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Whether both bounds are multiples of `align`, a power of two.
    pub const fn is_aligned(&self, align: u64) -> bool {
        (self.start | self.end) & (align - 1) == 0
    }

    /// Whether all of `other` lies inside.
    pub const fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// What both have in common.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        Self::from_bounds(self.start.max(other.start), self.end.min(other.end))
    }

    /// The smallest range that covers both.
    pub fn hull(&self, other: &Self) -> Self {
        // INVARIANT: `min` does not raise the start nor `max` lower the end.
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The smallest range that covers this one and another, if there is another.
    pub fn hull_with(&self, other: Option<Self>) -> Self {
        other.map_or(*self, |other| other.hull(self))
    }

    /// The smallest range with bounds that are multiples of `align`, a power of two, that covers
    /// this one. Its end saturates at the last multiple that an address can have.
    pub fn align_outward(&self, align: u64) -> Self {
        let mask = align - 1;
        // INVARIANT: The start does not grow; the end does not shrink, except where it saturates,
        // and then it is still above any aligned start that is not itself the last multiple.
        Self {
            start: self.start & !mask,
            end: self
                .end
                .checked_add(mask)
                .map_or(!mask, |e| e & !mask)
                .max(self.end),
        }
    }
}

#[kunit_tests(gmem_vm_range)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked() {
        assert!(VaRange::new(0x1000, 0).is_err_and(|e| e == EINVAL));
        assert!(VaRange::new(u64::MAX, 2).is_err_and(|e| e == ERANGE));
        assert!(VaRange::new(u64::MAX - 1, 1).is_ok());
        assert!(VaRange::from_bounds(5, 5).is_none());
    }

    #[test]
    fn set_operations() -> Result {
        let a = VaRange::new(0x1000, 0x3000)?;
        let b = VaRange::new(0x3000, 0x4000)?;
        assert_eq!(a.intersect(&b), VaRange::from_bounds(0x3000, 0x4000));
        assert_eq!(a.hull(&b), VaRange::new(0x1000, 0x6000)?);
        assert_eq!(a.hull_with(Some(b)), a.hull(&b));
        assert_eq!(a.hull_with(None), a);
        assert!(a.intersect(&VaRange::new(0x4000, 1)?).is_none());
        assert!(a.contains(&VaRange::new(0x2000, 0x2000)?));
        assert!(!a.contains(&b));
        assert_eq!(
            VaRange::new(0x1fffff, 2)?.align_outward(0x20_0000),
            VaRange::new(0, 0x40_0000)?
        );
        assert!(a.is_aligned(0x1000) && !a.is_aligned(0x2000));
        Ok(())
    }
}
