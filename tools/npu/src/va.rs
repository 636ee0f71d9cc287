// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which device addresses are free.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::{Error, Result};

/// Hands out ranges of device addresses: the lowest that fit.
///
/// It knows nothing of mappings; the kernel doesn't know of it.
#[derive(Clone, Debug)]
pub struct VaAllocator {
    /// Free ranges by their start; no two touch.
    free: BTreeMap<u64, u64>,
    range: Range<u64>,
}

impl VaAllocator {
    /// An allocator of the addresses of `range`.
    pub fn new(range: Range<u64>) -> Self {
        let mut free = BTreeMap::new();
        if !range.is_empty() {
            free.insert(range.start, range.end);
        }
        Self { free, range }
    }

    /// Takes `size` bytes at a multiple of `align`, a power of two.
    pub fn alloc(&mut self, size: u64, align: u64) -> Result<u64> {
        assert!(
            align.is_power_of_two(),
            "alignment {align} is no power of two"
        );
        let fit = self.free.iter().find_map(|(&start, &end)| {
            let at = start.checked_next_multiple_of(align)?;
            (size > 0 && at.checked_add(size)? <= end).then_some((start, end, at))
        });
        let (start, end, at) = fit.ok_or(Error::AddressSpace { size, align })?;
        self.free.remove(&start);
        if start < at {
            self.free.insert(start, at);
        }
        if at + size < end {
            self.free.insert(at + size, end);
        }
        Ok(at)
    }

    /// Takes `size` bytes, aligned to the largest of `pages` that isn't larger than `size`, so that
    /// the device can use large pages.
    pub fn alloc_for_pages(&mut self, size: u64, pages: &[u64]) -> Result<u64> {
        let smallest = pages.iter().min().copied().unwrap_or(1);
        let align = pages
            .iter()
            .copied()
            .filter(|page| *page <= size)
            .max()
            .unwrap_or(smallest);
        self.alloc(size, align)
    }

    /// Gives a range back.
    ///
    /// # Panics
    ///
    /// If any of it is free already or was never the allocator's.
    pub fn free(&mut self, at: u64, size: u64) {
        let (mut start, mut end) = (at, at.checked_add(size).expect("range overflows"));
        assert!(
            self.range.start <= start && start < end && end <= self.range.end,
            "{start:#x}..{end:#x} lies outside {:#x}..{:#x}",
            self.range.start,
            self.range.end
        );
        if let Some((&before, &before_end)) = self.free.range(..end).next_back() {
            assert!(before_end <= start, "{start:#x}..{end:#x} is freed twice");
            if before_end == start {
                start = before;
            }
        }
        if let Some(after_end) = self.free.remove(&end) {
            end = after_end;
        }
        self.free.insert(start, end);
    }

    /// Bytes that are free, in however many pieces.
    pub fn available(&self) -> u64 {
        self.free.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_lowest_that_fits() {
        let mut va = VaAllocator::new(0x1000..0x10000);
        assert_eq!(va.alloc(0x1000, 0x1000).unwrap(), 0x1000);
        assert_eq!(va.alloc(0x2000, 0x4000).unwrap(), 0x4000);
        assert_eq!(va.alloc(0x2000, 0x1000).unwrap(), 0x2000);
        assert_eq!(va.alloc(0x1000, 0x1000).unwrap(), 0x6000);
        assert_eq!(va.available(), 0x9000);
    }

    #[test]
    fn merges_what_is_freed() {
        let mut va = VaAllocator::new(0..0x4000);
        let at: Vec<u64> = (0..4).map(|_| va.alloc(0x1000, 0x1000).unwrap()).collect();
        assert!(va.alloc(1, 1).is_err());
        for i in [1, 3, 0, 2] {
            va.free(at[i], 0x1000);
        }
        assert_eq!(va.alloc(0x4000, 0x1000).unwrap(), 0);
    }

    #[test]
    fn aligns_for_large_pages() {
        let pages = [0x1000, 0x10000, 0x200000];
        let mut va = VaAllocator::new(0x1000..1 << 32);
        assert_eq!(va.alloc_for_pages(0x3000, &pages).unwrap(), 0x1000);
        assert_eq!(va.alloc_for_pages(0x10000, &pages).unwrap(), 0x10000);
        assert_eq!(va.alloc_for_pages(0x201000, &pages).unwrap(), 0x200000);
        assert_eq!(va.alloc_for_pages(0x10, &pages).unwrap(), 0x4000);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut va = VaAllocator::new(0x1000..0x3000);
        assert!(matches!(
            va.alloc(0x1001, 0x2000),
            Err(Error::AddressSpace { .. })
        ));
        assert!(va.alloc(0, 1).is_err());
        assert!(va.alloc(u64::MAX, 1).is_err());
        assert!(va.alloc(1, 1 << 63).is_err());
        assert_eq!(va.available(), 0x2000);
        assert!(VaAllocator::new(5..5).alloc(1, 1).is_err());
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_double_free_is_noticed() {
        let mut va = VaAllocator::new(0..0x4000);
        let at = va.alloc(0x2000, 1).unwrap();
        va.free(at, 0x1000);
        va.free(at, 0x2000);
    }

    /// Against a plain array of which pages are taken.
    #[test]
    fn agrees_with_a_bitmap() {
        let mut va = VaAllocator::new(0..64);
        let mut taken = [false; 64];
        let mut live: Vec<(u64, u64)> = Vec::new();
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..5000 {
            if random(2) == 0 || live.is_empty() {
                let (size, align) = (1 + random(9), 1 << random(4));
                let expected = (0..64).step_by(align as usize).find(|at| {
                    at + size <= 64 && (*at..at + size).all(|page| !taken[page as usize])
                });
                let got = va.alloc(size, align).ok();
                assert_eq!(got, expected);
                if let Some(at) = got {
                    live.push((at, size));
                    taken[at as usize..(at + size) as usize].fill(true);
                }
            } else {
                let (at, size) = live.swap_remove(random(live.len() as u64) as usize);
                va.free(at, size);
                taken[at as usize..(at + size) as usize].fill(false);
            }
            let free = taken.iter().filter(|taken| !**taken).count() as u64;
            assert_eq!(va.available(), free);
        }
    }
}
