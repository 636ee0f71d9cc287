// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`RangeSet`]: which addresses a batch of changes touches.

use crate::{
    range::VaRange,
    sort::heapsort, //
};
use kernel::prelude::*;

/// A set of addresses, made once.
///
/// # Invariants
///
/// Ranges are sorted, and neither overlap nor touch.
pub struct RangeSet(KVVec<VaRange>);

impl RangeSet {
    /// The addresses of some ranges. `ENOMEM`.
    pub fn new(ranges: impl ExactSizeIterator<Item = VaRange>) -> Result<Self> {
        let mut set = KVVec::with_capacity(ranges.len(), GFP_KERNEL)?;
        for range in ranges {
            set.push(range, GFP_KERNEL)?;
        }
        heapsort(&mut set);
        // What touches the last one that is kept is joined to it.
        let mut kept = 0;
        for i in 1..set.len() {
            let range = set[i];
            if set[kept].end() >= range.start() {
                set[kept] = set[kept].hull(&range);
            } else {
                kept += 1;
                set[kept] = range;
            }
        }
        set.truncate(kept + 1);
        // INVARIANT: Sorted, and what touched was joined.
        Ok(Self(set))
    }

    /// Whether it has an address of a range.
    pub fn overlaps(&self, range: &VaRange) -> bool {
        let first = self.0.partition_point(|r| r.end() <= range.start());
        self.0.get(first).is_some_and(|r| r.start() < range.end())
    }

    /// Whether both have an address in common.
    pub fn meets(&self, other: &Self) -> bool {
        if self.0.len() > other.0.len() {
            return other.meets(self);
        }
        // Most have nothing to do with each other, which their bounds tell.
        let apart = match (self.hull(), other.hull()) {
            (Some(a), Some(b)) => a.intersect(&b).is_none(),
            _ => true,
        };
        !apart && self.0.iter().any(|range| other.overlaps(range))
    }

    /// All between its first and its last address.
    fn hull(&self) -> Option<VaRange> {
        Some(self.0.first()?.hull(self.0.last()?))
    }
}

#[kunit_tests(gmem_vm_range_set)]
mod tests {
    use super::*;

    fn set(bounds: &[(u64, u64)]) -> Result<RangeSet> {
        let mut ranges = KVec::new();
        for (start, end) in bounds {
            ranges.push(
                VaRange::from_bounds(*start, *end).ok_or(EINVAL)?,
                GFP_KERNEL,
            )?;
        }
        RangeSet::new(ranges.iter().copied())
    }

    #[test]
    fn what_lies_between_is_not_in_it() -> Result {
        let a = set(&[(30, 40), (0, 10), (10, 20)])?;
        assert_eq!(a.0.len(), 2);
        assert!(a.meets(&set(&[(19, 21)])?) && a.meets(&set(&[(20, 25), (39, 60)])?));
        assert!(!a.meets(&set(&[(20, 30)])?) && !a.meets(&set(&[(40, 50), (25, 26)])?));
        assert!(a.overlaps(&VaRange::new(5, 100)?) && !a.overlaps(&VaRange::new(22, 3)?));
        assert!(!set(&[])?.meets(&a));
        Ok(())
    }
}
