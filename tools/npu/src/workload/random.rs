// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Numbers that look random and are the same again for the same seed.

/// Mixes the bits of a number (the finaliser of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The number at a place of a sequence.
pub fn number_at(seed: u64, place: u64) -> u64 {
    mix(seed.wrapping_add((place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    place: u64,
}

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        // Seeds that are near each other shall not give the same numbers a step apart.
        Self {
            seed: mix(seed),
            place: 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.place += 1;
        number_at(self.seed, self.place)
    }

    /// A number below `end`, which is small beside 2^64.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number from 0 to less than 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The numbers below `end` in any order.
    pub fn order(&mut self, end: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..end).collect();
        for i in (1..end).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

/// Zipf's distribution: the i-th of `count` (from 1) is as likely as 1 / i^s.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// For each, how likely it is or one before it.
    sums: Vec<f64>,
}

impl Zipf {
    /// The distribution of exponent `s`.
    pub fn new(count: usize, s: f64) -> Self {
        let mut sums: Vec<f64> = (1..=count)
            .scan(0.0, |sum, i| {
                *sum += (i as f64).powf(-s);
                Some(*sum)
            })
            .collect();
        let all = sums.last().copied().unwrap_or(1.0);
        sums.iter_mut().for_each(|sum| *sum /= all);
        Self { sums }
    }

    /// One of 0..count, of which the first are the most likely.
    pub fn pick(&self, random: &mut Random) -> usize {
        let point = random.fraction();
        let found = self.sums.partition_point(|sum| *sum <= point);
        found.min(self.sums.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_repeat() {
        let take = |seed| {
            let mut random = Random::new(seed);
            [(); 20].map(|()| random.below(1000))
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        assert_ne!(take(1)[1..], take(2)[..19]);
    }

    #[test]
    fn an_order_has_each_once() {
        let mut order = Random::new(7).order(100);
        assert_ne!(order[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, value)| i == *value));
    }

    #[test]
    fn the_first_are_the_most_likely() {
        let (zipf, mut random) = (Zipf::new(100, 0.99), Random::new(3));
        let mut counts = [0; 100];
        (0..100_000).for_each(|_| counts[zipf.pick(&mut random)] += 1);
        // A hundredth of them all has nearly a fifth.
        assert!((17_000..21_000).contains(&counts[0]), "{}", counts[0]);
        assert!((8_000..11_000).contains(&counts[1]), "{}", counts[1]);
        assert!((100..300).contains(&counts[99]), "{}", counts[99]);
    }
}
