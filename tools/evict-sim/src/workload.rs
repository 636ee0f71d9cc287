// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Traces that are made up: how programs go through their data.

use crate::Access;
use crate::random::{Random, Zipf};

/// The fewest blocks of which each part of the data gets one.
pub const LEAST: u64 = 32;
/// Layers of a transformer.
const LAYERS: u64 = 12;
/// Tokens that a transformer makes.
const TOKENS: u64 = 8;
/// Experts of a mixture.
const EXPERTS: u64 = 16;
/// Experts that a token needs.
const CHOSEN: usize = 2;
/// Tokens that a mixture of experts makes.
const MOE_TOKENS: u64 = 32;

/// A way to go through some blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// All in order, twice.
    Sequential,
    /// All in order, six times.
    Cyclic,
    /// Each 16th, from each of the first 16; three times.
    Strided,
    /// Any; a quarter is written.
    Random,
    /// Any, some of them more often than others; a tenth is written.
    Zipf,
    /// The product of two matrices in tiles of a block, row by row.
    Gemm,
    /// The weights of all layers in order for each token, a cache that grows, and activations.
    Transformer,
    /// Weights that all tokens need, and those of two experts of 16.
    Moe,
}

impl Workload {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Sequential, "sequential"),
        (Self::Cyclic, "cyclic"),
        (Self::Strided, "strided"),
        (Self::Random, "random"),
        (Self::Zipf, "zipf"),
        (Self::Gemm, "gemm"),
        (Self::Transformer, "transformer"),
        (Self::Moe, "moe"),
    ];

    /// By name.
    pub fn of_name(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name)?;
        Some(found.0)
    }

    /// The accesses to so many blocks, which must be [`LEAST`] or more.
    pub fn accesses(self, blocks: u64, seed: u64) -> Vec<Access> {
        let mut random = Random::new(seed);
        let mut trace = Trace::default();
        match self {
            Self::Sequential => trace.passes(2, 0..blocks),
            Self::Cyclic => trace.passes(6, 0..blocks),
            Self::Strided => {
                let order = (0..16).flat_map(|first| (first..blocks).step_by(16));
                trace.passes(3, order);
            }
            Self::Random => {
                for _ in 0..4 * blocks {
                    let write = random.below(4) == 0;
                    trace.access(random.below(blocks), write);
                }
            }
            Self::Zipf => zipf(&mut trace, blocks, &mut random),
            Self::Gemm => gemm(&mut trace, blocks),
            Self::Transformer => transformer(&mut trace, blocks),
            Self::Moe => moe(&mut trace, blocks, &mut random),
        }
        trace.0.dedup();
        trace.0
    }
}

#[derive(Default)]
struct Trace(Vec<Access>);

impl Trace {
    fn access(&mut self, block: u64, write: bool) {
        self.0.push(Access { block, write });
    }

    fn read(&mut self, block: u64) {
        self.access(block, false);
    }

    fn write(&mut self, block: u64) {
        self.access(block, true);
    }

    fn passes(&mut self, count: u64, order: impl Iterator<Item = u64> + Clone) {
        for _ in 0..count {
            order.clone().for_each(|block| self.read(block));
        }
    }

    /// Reads weights, with activations read before each of them and written after it.
    fn layer(&mut self, weights: impl Iterator<Item = u64>, activations: &Activations) {
        for (i, weight) in weights.enumerate() {
            let i = i as u64 % activations.count;
            self.read(activations.first + i);
            self.read(weight);
            self.write(activations.first + (i + 1) % activations.count);
        }
    }
}

/// The blocks of activations.
struct Activations {
    first: u64,
    count: u64,
}

/// The part of some that a number of equal parts has, of which each has one at least.
fn part(all: u64, parts: u64, number: u64) -> std::ops::Range<u64> {
    let start = all * number / parts;
    start..(all * (number + 1) / parts).max(start + 1)
}

fn zipf(trace: &mut Trace, blocks: u64, random: &mut Random) {
    let zipf = Zipf::new(blocks, 0.99);
    let mut order: Vec<_> = (0..blocks).collect();
    random.shuffle(&mut order);
    for _ in 0..6 * blocks {
        let write = random.below(10) == 0;
        trace.access(order[zipf.draw(random) as usize], write);
    }
}

fn gemm(trace: &mut Trace, blocks: u64) {
    let n = (blocks / 3).isqrt();
    let (b, c) = (n * n, 2 * n * n);
    for i in 0..n {
        for j in 0..n {
            for k in 0..n {
                trace.read(i * n + k);
                trace.read(b + k * n + j);
                if k > 0 {
                    trace.read(c + i * n + j);
                }
                trace.write(c + i * n + j);
            }
        }
    }
}

fn transformer(trace: &mut Trace, blocks: u64) {
    let weights = blocks * 9 / 10;
    let activations = Activations {
        first: weights,
        count: (blocks / 100).max(2),
    };
    let cache = weights + activations.count;
    // What is left has the cache: a block or more for each token of each layer if it is that much, or else
    // a block has several.
    let place = |layer: u64, token: u64| {
        let places = part(blocks - cache, LAYERS * TOKENS, layer * TOKENS + token);
        places.map(move |place| cache + place)
    };
    for token in 0..TOKENS {
        for layer in 0..LAYERS {
            let weights = part(weights, LAYERS, layer);
            trace.layer(weights, &activations);
            place(layer, token).for_each(|block| trace.write(block));
            for earlier in 0..token {
                place(layer, earlier).for_each(|block| trace.read(block));
            }
        }
    }
}

fn moe(trace: &mut Trace, blocks: u64, random: &mut Random) {
    let activations = Activations {
        first: 0,
        count: (blocks / 50).max(2),
    };
    let (first, shared) = (activations.count, blocks / 5);
    let experts = first + shared;
    let zipf = Zipf::new(EXPERTS, 1.0);
    let mut order: Vec<_> = (0..EXPERTS).collect();
    random.shuffle(&mut order);
    for _ in 0..MOE_TOKENS {
        trace.layer(first..experts, &activations);
        let mut chosen = Vec::new();
        while chosen.len() < CHOSEN {
            let expert = order[zipf.draw(random) as usize];
            if !chosen.contains(&expert) {
                chosen.push(expert);
            }
        }
        for expert in chosen {
            let weights = part(blocks - experts, EXPERTS, expert);
            trace.layer(weights.map(|block| experts + block), &activations);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace;

    #[test]
    fn each_has_its_name() {
        for (workload, name) in Workload::ALL {
            assert_eq!(Workload::of_name(name), Some(workload));
        }
        assert_eq!(Workload::of_name("mru"), None);
    }

    #[test]
    fn each_has_as_many_blocks_as_asked_for() {
        for (workload, name) in Workload::ALL {
            for blocks in [32, 64, 160, 192, 256, 512, 2048] {
                let run = workload.accesses(blocks, 1);
                let distinct = trace::distinct(&run);
                assert!(run.iter().all(|a| a.block < blocks), "{name}");
                // Of matrices there are three squares; what is rare may not come at all.
                assert!(distinct * 10 >= blocks * 6, "{name} {blocks} {distinct}");
            }
        }
    }

    #[test]
    fn a_seed_makes_the_same() {
        for (workload, _) in Workload::ALL {
            assert_eq!(workload.accesses(200, 7), workload.accesses(200, 7));
        }
        let random = |seed| Workload::Random.accesses(200, seed);
        assert_ne!(random(1), random(2));
    }

    #[test]
    fn a_product_reads_what_it_adds_to() {
        // Two by two: A is 0 to 3, B 4 to 7, C 8 to 11.
        let run = Workload::Gemm.accesses(12, 0);
        let text: Vec<_> = run
            .iter()
            .map(|a| format!("{}{}", if a.write { "w" } else { "r" }, a.block))
            .collect();
        assert_eq!(text[..7], ["r0", "r4", "w8", "r1", "r6", "r8", "w8"]);
        assert_eq!(run.len(), 2 * 2 * 7);
    }

    #[test]
    fn parts_are_all_there_is() {
        let parts: Vec<_> = (0..12).flat_map(|i| part(57, 12, i)).collect();
        assert_eq!(parts, (0..57).collect::<Vec<_>>());
        // Shared where there are too few.
        assert!((0..96).all(|i| part(5, 96, i).count() == 1));
    }
}
