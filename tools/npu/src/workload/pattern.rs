// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which block is accessed how, in which order.

use super::random::{Random, Zipf};

/// One access to all of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Which block.
    pub block: usize,
    /// Is it written? It is read otherwise.
    pub write: bool,
}

/// A kind of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Reads one block after the other, from the first one again in each round.
    Cyclic,
    /// The same with only each 16th block, from each of the first 16 on.
    Strided,
    /// Any block, as likely as any other; a quarter are writes.
    Random,
    /// Any block, some much more likely than others; a tenth are writes.
    Zipf,
    /// A model of which only a part is used for each token, another one each time.
    Experts,
}

/// How far apart strided accesses are, in blocks.
const STRIDE: usize = 16;

/// Parts of which each token uses [`CHOSEN`].
const EXPERTS: usize = 16;

/// How many parts a token uses.
const CHOSEN: usize = 2;

/// The accesses to so many blocks. A round is a pass, a token, or so many accesses as there are blocks.
pub fn accesses(pattern: Pattern, blocks: usize, rounds: usize, seed: u64) -> Vec<Access> {
    let mut random = Random::new(seed);
    let read = |block| Access {
        block,
        write: false,
    };
    match pattern {
        Pattern::Cyclic => (0..rounds).flat_map(|_| 0..blocks).map(read).collect(),
        Pattern::Strided => (0..rounds)
            .flat_map(|_| 0..STRIDE.min(blocks))
            .flat_map(|first| (first..blocks).step_by(STRIDE))
            .map(read)
            .collect(),
        Pattern::Random => (0..rounds * blocks)
            .map(|_| Access {
                block: random.below(blocks),
                write: random.fraction() < 0.25,
            })
            .collect(),
        Pattern::Zipf => {
            let (zipf, places) = (Zipf::new(blocks, 0.99), random.order(blocks));
            (0..rounds * blocks)
                .map(|_| Access {
                    block: places[zipf.pick(&mut random)],
                    write: random.fraction() < 0.1,
                })
                .collect()
        }
        Pattern::Experts => {
            let expert = blocks / (EXPERTS + 4);
            let shared = blocks - EXPERTS * expert;
            let (zipf, places) = (Zipf::new(EXPERTS, 1.0), random.order(EXPERTS));
            let mut token = || {
                let mut chosen = Vec::new();
                while chosen.len() < CHOSEN {
                    let next = places[zipf.pick(&mut random)];
                    if !chosen.contains(&next) {
                        chosen.push(next);
                    }
                }
                let blocks = chosen.into_iter().flat_map(move |next| {
                    let first = shared + next * expert;
                    first..first + expert
                });
                (0..shared).chain(blocks)
            };
            (0..rounds).flat_map(|_| token()).map(read).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(pattern: Pattern, blocks: usize, rounds: usize) -> Vec<usize> {
        let accesses = accesses(pattern, blocks, rounds, 5);
        accesses.iter().map(|access| access.block).collect()
    }

    /// How often each block is accessed, the most often first.
    fn sorted_counts(accesses: &[Access], blocks: usize) -> Vec<usize> {
        let mut counts = vec![0; blocks];
        accesses.iter().for_each(|access| counts[access.block] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }

    fn writes(accesses: &[Access]) -> usize {
        accesses.iter().filter(|access| access.write).count()
    }

    #[test]
    fn rounds_are_in_order() {
        assert_eq!(blocks(Pattern::Cyclic, 3, 2), [0, 1, 2, 0, 1, 2]);
        let strided = blocks(Pattern::Strided, 36, 1);
        assert_eq!(strided[..8], [0, 16, 32, 1, 17, 33, 2, 18]);
        assert_eq!(strided[strided.len() - 4..], [14, 30, 15, 31]);
        for pattern in [Pattern::Cyclic, Pattern::Strided] {
            for count in [1, 15, 16, 100] {
                let mut all = blocks(pattern, count, 3);
                assert_eq!(all[..count], all[2 * count..]);
                all.truncate(count);
                all.sort_unstable();
                assert!(all.iter().enumerate().all(|(i, block)| i == *block));
                assert_eq!(writes(&accesses(pattern, count, 3, 5)), 0);
            }
        }
    }

    #[test]
    fn random_ones_depend_on_the_seed_alone() {
        for pattern in [Pattern::Random, Pattern::Zipf, Pattern::Experts] {
            let take = |seed| accesses(pattern, 1000, 2, seed);
            assert_eq!(take(1), take(1));
            assert_ne!(take(1), take(2));
            assert!(take(1).iter().all(|access| access.block < 1000));
        }
    }

    #[test]
    fn random_is_even_and_zipf_is_not() {
        let random = accesses(Pattern::Random, 1000, 4, 1);
        assert_eq!(random.len(), 4000);
        assert!((900..1100).contains(&writes(&random)));
        assert!(sorted_counts(&random, 1000)[0] < 20);

        let zipf = accesses(Pattern::Zipf, 1000, 6, 1);
        assert_eq!(zipf.len(), 6000);
        assert!((500..700).contains(&writes(&zipf)));
        let counts = sorted_counts(&zipf, 1000);
        // A tenth of the blocks has two thirds of the accesses.
        let hot: usize = counts[..100].iter().sum();
        assert!((3800..4400).contains(&hot), "{hot}");
        // They are not side by side.
        let mut hottest: Vec<usize> = (0..1000).collect();
        hottest.sort_by_key(|b| zipf.iter().filter(|a| a.block == *b).count());
        assert!(hottest[999].abs_diff(hottest[998]) > 1);
    }

    #[test]
    fn tokens_use_all_that_is_shared_and_two_experts() {
        let (count, rounds) = (205, 32);
        let all = accesses(Pattern::Experts, count, rounds, 9);
        let (expert, shared) = (10, 45);
        let token = shared + 2 * expert;
        assert_eq!(all.len(), rounds * token);
        let mut used = [0; EXPERTS];
        for token in all.chunks(token) {
            let order: Vec<usize> = token.iter().map(|access| access.block).collect();
            assert!(order[..shared].iter().enumerate().all(|(i, b)| i == *b));
            let experts: Vec<usize> = order[shared..]
                .chunks(expert)
                .map(|blocks| {
                    assert!(blocks.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                    assert_eq!((blocks[0] - shared) % expert, 0);
                    (blocks[0] - shared) / expert
                })
                .collect();
            assert_ne!(experts[0], experts[1]);
            experts.iter().for_each(|expert| used[*expert] += 1);
        }
        used.sort_unstable();
        assert!(used[15] >= 12 && used[0] <= 3, "{used:?}");
    }
}
