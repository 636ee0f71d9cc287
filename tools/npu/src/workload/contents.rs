// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What memory holds at first: numbers that can be told from where they are.

use super::random::number_at;

/// How many different numbers there are.
const DIFFERENT: usize = 64;

/// A sequence of numbers, each known by its place.
#[derive(Clone, Debug)]
pub struct Contents {
    seed: u64,
    numbers: [f32; DIFFERENT],
}

impl Contents {
    /// Whole numbers below `end`, which is at most 64.
    pub fn whole(seed: u64, end: usize) -> Self {
        assert!((1..=DIFFERENT).contains(&end));
        Self {
            seed,
            numbers: std::array::from_fn(|i| (i % end) as f32),
        }
    }

    /// Numbers up to `spread` away from `middle`.
    pub fn about(seed: u64, middle: f32, spread: f32) -> Self {
        let half = (DIFFERENT - 1) as f32 / 2.0;
        Self {
            seed,
            numbers: std::array::from_fn(|i| middle + (i as f32 - half) / half * spread),
        }
    }

    /// The numbers from place `first` on, which is a multiple of 8.
    pub fn from(&self, first: usize) -> impl Iterator<Item = f32> + '_ {
        debug_assert_eq!(first % 8, 0);
        (first as u64 / 8..)
            .flat_map(|place| number_at(self.seed, place).to_le_bytes())
            .map(|byte| self.numbers[usize::from(byte) % DIFFERENT])
    }

    /// `count` numbers from place `first` on.
    pub fn values(&self, first: usize, count: usize) -> Vec<f32> {
        let before = first % 8;
        self.from(first - before).skip(before).take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_tell_numbers() {
        let contents = Contents::whole(3, 64);
        let all = contents.values(0, 1000);
        for first in [0, 1, 7, 8, 100] {
            assert_eq!(contents.values(first, 50), all[first..first + 50]);
        }
        assert!(
            all.iter()
                .all(|v| (0.0..64.0).contains(v) && v.fract() == 0.0)
        );
        assert!(all.contains(&0.0) && all.contains(&63.0));
        assert_ne!(Contents::whole(4, 64).values(0, 50), all[..50]);
        assert!(
            Contents::whole(3, 16)
                .values(0, 500)
                .iter()
                .all(|v| *v < 16.0)
        );
    }

    #[test]
    fn numbers_lie_about_the_middle() {
        let values = Contents::about(1, 2.0, 0.5).values(0, 10_000);
        let mean = values.iter().sum::<f32>() / 10_000.0;
        assert!((mean - 2.0).abs() < 0.02);
        let (least, most) = values
            .iter()
            .fold((9f32, 0f32), |(a, b), v| (a.min(*v), b.max(*v)));
        assert_eq!((least, most), (1.5, 2.5));
    }
}
