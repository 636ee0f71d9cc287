// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Random numbers that are the same each time: SplitMix64, and what is drawn with them.

/// Random numbers.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below another, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.any()) * u128::from(end)) >> 64) as u64
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.any() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Brings something into any order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// Zipf's distribution: the k-th of some is drawn in proportion to 1 / k^s.
pub struct Zipf {
    /// How likely it is that none behind each is drawn, up to a factor.
    sums: Vec<f64>,
}

impl Zipf {
    /// Of so many, which must not be none.
    pub fn new(count: u64, s: f64) -> Self {
        let weights = (1..=count).map(|k| (k as f64).powf(-s));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self {
            sums: sums.collect(),
        }
    }

    /// Draws one, counted from 0.
    pub fn draw(&self, random: &mut Random) -> u64 {
        let most = self.sums.len() - 1;
        let at = random.unit() * self.sums[most];
        self.sums.partition_point(|sum| *sum <= at).min(most) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_draws_the_first_ones_most() {
        let (zipf, mut random) = (Zipf::new(4, 1.0), Random::new(7));
        let mut drawn = [0u32; 4];
        for _ in 0..25_000 {
            drawn[zipf.draw(&mut random) as usize] += 1;
        }
        // 1 : 1/2 : 1/3 : 1/4 of 25/12.
        for (drawn, expected) in drawn.into_iter().zip([12_000, 6_000, 4_000, 3_000]) {
            assert!(drawn.abs_diff(expected) < 300);
        }
    }

    #[test]
    fn shuffling_loses_nothing() {
        let mut all: Vec<_> = (0..100).collect();
        Random::new(3).shuffle(&mut all);
        assert_ne!(all, (0..100).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
