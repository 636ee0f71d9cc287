// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The optimum, which knows the future: MIN, by Belady.
//!
//! What is evicted is what will be needed last. That makes the fewest misses there can be; the bytes that
//! are copied are not always the fewest, as MIN evicts a block that has to be copied back rather than
//! one that need not if it will be needed only a little later. Of blocks that will not be needed at all it
//! evicts those first that need not.
//!
//! A block whose first access is a write is made on the device; one that is missed otherwise is copied there. A
//! block that was written since then is copied to the host as it is evicted, another is dropped. What
//! was written and is left in the end is copied to the host then: somebody wants it.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{Access, Cost, trace};

/// When a block will be needed that won't.
const NEVER: usize = usize::MAX;

/// For each access when the same block is accessed next.
fn next_uses(run: &[Access]) -> Vec<usize> {
    let mut last = HashMap::new();
    let mut next: Vec<_> = run
        .iter()
        .enumerate()
        .rev()
        .map(|(at, access)| last.insert(access.block, at).unwrap_or(NEVER))
        .collect();
    next.reverse();
    next
}

/// What a run costs at least where so many blocks fit, which must not be none.
pub fn belady(run: &[Access], capacity: u64) -> Cost {
    assert!(capacity > 0);
    let mut cost = Cost {
        accesses: run.len() as u64,
        distinct: trace::distinct(run),
        ..Cost::default()
    };
    // Of each block when it is needed next, and whether it was written.
    let mut here = HashMap::<u64, (usize, bool)>::new();
    // The same, the first victim last.
    let mut order = BTreeSet::<(usize, bool, u64)>::new();
    let mut known = HashSet::new();
    for (access, next) in run.iter().zip(next_uses(run)) {
        let Access { block, write } = *access;
        let is_new = known.insert(block);
        let before = here.remove(&block);
        if let Some((now, dirty)) = before {
            order.remove(&(now, !dirty, block));
        } else {
            cost.misses += 1;
            cost.to_device += u64::from(!(is_new && write));
            let is_full = here.len() as u64 == capacity;
            if let Some((_, clean, victim)) = is_full.then(|| order.pop_last()).flatten() {
                here.remove(&victim);
                cost.to_host += u64::from(!clean);
            }
        }
        let dirty = write || before.is_some_and(|(_, dirty)| dirty);
        here.insert(block, (next, dirty));
        order.insert((next, !dirty, block));
    }
    cost.to_host += here.values().filter(|(_, dirty)| *dirty).count() as u64;
    cost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Of `"r1 w2"`.
    fn run(text: &str) -> Vec<Access> {
        let access = |word: &str| Access {
            block: word[1..].parse().expect("a number"),
            write: word.starts_with('w'),
        };
        text.split_whitespace().map(access).collect()
    }

    /// To the device, to the host, misses.
    fn cost(text: &str, capacity: u64) -> (u64, u64, u64) {
        let cost = belady(&run(text), capacity);
        (cost.to_device, cost.to_host, cost.misses)
    }

    #[test]
    fn what_fits_comes_once() {
        assert_eq!(cost("r1 r2 r3 r1 r2 r3", 3), (3, 0, 3));
        assert_eq!(cost("", 1), (0, 0, 0));
    }

    #[test]
    fn what_is_needed_last_goes() {
        // 3 takes the place of 2, which then takes that of 1.
        assert_eq!(cost("r1 r2 r3 r1 r2 r3", 2), (4, 0, 4));
        // Belady's own example.
        let faults = cost(
            "r7 r0 r1 r2 r0 r3 r0 r4 r2 r3 r0 r3 r2 r1 r2 r0 r1 r7 r0 r1",
            3,
        );
        assert_eq!(faults, (9, 0, 9));
    }

    #[test]
    fn what_is_made_does_not_come() {
        assert_eq!(cost("w1 r1 w2", 2), (0, 2, 2));
        // Only the first time, and only if it was not read before.
        assert_eq!(cost("w1 r2 w1", 1), (2, 2, 3));
        assert_eq!(cost("r1 w1", 1), (1, 1, 1));
    }

    #[test]
    fn what_was_written_goes_back() {
        assert_eq!(cost("w1 r2 r3", 1), (2, 1, 3));
        assert_eq!(cost("r1 w1 r2 r1 r2", 1), (4, 1, 4));
        // It came back clean.
        assert_eq!(cost("w1 r2 r1 r2", 1), (3, 1, 4));
        // Of two that won't be needed the clean one goes.
        assert_eq!(cost("w1 r2 r3 w4 r4", 2), (2, 2, 4));
        assert_eq!(cost("r2 w1 r3", 2), (2, 1, 3));
        // But what will be needed last goes, clean or not.
        assert_eq!(cost("w1 r2 r3 r2 r1", 2), (3, 1, 4));
    }

    /// The fewest misses of all choices.
    fn fewest(run: &[Access], capacity: usize, here: &mut Vec<u64>) -> u64 {
        let Some((access, rest)) = run.split_first() else {
            return 0;
        };
        if here.contains(&access.block) {
            return fewest(rest, capacity, here);
        }
        if here.len() < capacity {
            here.push(access.block);
            let misses = fewest(rest, capacity, here);
            here.pop();
            return 1 + misses;
        }
        let try_victim = |victim| {
            let old = std::mem::replace(&mut here[victim], access.block);
            let misses = fewest(rest, capacity, here);
            here[victim] = old;
            misses
        };
        1 + (0..capacity).map(try_victim).min().unwrap_or(0)
    }

    #[test]
    fn no_choice_misses_less() {
        let mut random = Random::new(1);
        for _ in 0..3000 {
            let (len, blocks) = (1 + random.below(14), 2 + random.below(6));
            let access = |_| Access {
                block: random.below(blocks),
                write: random.below(3) == 0,
            };
            let run: Vec<_> = (0..len).map(access).collect();
            for capacity in 1..=4 {
                let found = belady(&run, capacity);
                assert_eq!(
                    found.misses,
                    fewest(&run, capacity as usize, &mut Vec::new()),
                    "{run:?}, {capacity}"
                );
                assert!(
                    found.to_device <= found.misses && found.to_host <= found.misses + capacity
                );
            }
        }
    }
}
