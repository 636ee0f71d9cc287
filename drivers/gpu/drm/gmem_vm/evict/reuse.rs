// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is expected to be needed last goes first, as Belady's optimum does that knows the future.
//!
//! What came back after some time is expected after that time once more. So of data that is gone through in a
//! loop and does not fit the part that was just used is evicted, which will be needed last, and the rest stays;
//! what is used often stays; and what was expected and has not come is the less worth the later it is. Of what never
//! came back it is only known since when it was not needed: as much is expected of the future, which is least recently
//! used. What has just come is being used.
//!
//! Where a job goes back to memory that it has used a moment ago, this evicts too early what has just come:
//! `Documentation/gpu/gmem_vm/eviction.rst` has figures.

use super::policy::{
    average,
    Clock,
    Facts,
    Policy, //
};
use kernel::prelude::*;

/// Blocks that have to come after a chunk was filled before it is evicted: until then it is being used.
const GRACE: u64 = 4;

/// By when it was needed before.
pub struct Reuse;

impl Reuse {
    /// In how long it is expected to be needed.
    fn expected(facts: &Facts, clock: &Clock) -> u64 {
        let age = clock.now.saturating_sub(facts.needed);
        if clock.now.saturating_sub(facts.filled) < GRACE {
            return 0;
        }
        match facts.interval {
            0 => age,
            // Whatever is late is expected to be as late once more.
            interval => interval.abs_diff(age),
        }
    }
}

impl Policy for Reuse {
    fn asks(&self) -> bool {
        true
    }

    fn worth(&self, facts: &Facts, clock: &Clock) -> u64 {
        u64::MAX - Self::expected(facts, clock)
    }

    fn accessed(&self, facts: &mut Facts, clock: &Clock) {
        let age = clock.now.saturating_sub(facts.needed);
        match facts.interval {
            // Since it was asked last: when, nobody knows.
            0 => {
                facts.interval = age;
                facts.needed = clock.now;
            }
            // As expected, once or several times.
            interval if age >= interval => facts.needed += age / interval * interval,
            // Sooner.
            interval => {
                facts.interval = average(interval, age).max(1);
                facts.needed = clock.now;
            }
        }
    }
}

#[kunit_tests(gmem_vm_evict_reuse)]
mod tests {
    use super::*;

    const BLOCKS: usize = 64;

    /// How many of some blocks have to be brought in, in the order given, where only so many fit.
    fn misses(policy: &dyn Policy, fit: usize, order: impl Iterator<Item = usize>) -> usize {
        let mut clock = Clock::default();
        let mut here = [None::<Facts>; BLOCKS];
        let mut needed = [None::<(u64, u64)>; BLOCKS];
        let mut touched = [false; BLOCKS];
        let mut count = 0;
        for block in order {
            touched[block] = true;
            if here[block].is_some() {
                continue;
            }
            count += 1;
            clock.now += 1;
            while here.iter().flatten().count() >= fit {
                let worth = |facts: &Facts| policy.worth(facts, &clock);
                let Some(least) = (0..BLOCKS)
                    .filter_map(|i| Some((here[i].as_ref().map(worth)?, i)))
                    .min()
                    .map(|(_, i)| i)
                else {
                    break;
                };
                if let Some(facts) = here[least].as_mut().filter(|_| policy.asks()) {
                    if core::mem::take(&mut touched[least]) && facts.needed + 1 < clock.now {
                        policy.accessed(facts, &clock);
                        continue;
                    }
                }
                needed[least] = here[least].map(|facts| (facts.needed, facts.interval));
                here[least] = None;
            }
            let interval = match needed[block] {
                Some((last, interval)) => average(interval, clock.now - last),
                None => 0,
            };
            touched[block] = false;
            here[block] = Some(Facts {
                taken: clock.now,
                filled: clock.now,
                needed: clock.now,
                interval,
                ..Facts::default()
            });
        }
        count
    }

    #[test]
    fn most_of_a_loop_stays() {
        use super::super::lru::Lru;
        let order = || (0..20).flat_map(|_| 0..48);
        // All of it, each time.
        assert_eq!(misses(&Lru, 32, order()), 20 * 48);
        // The optimum is 48, and then 17 each time. The second time nothing is known yet.
        assert!(misses(&Reuse, 32, order()) <= 2 * 48 + 18 * (17 + 2 * GRACE as usize));
    }

    #[test]
    fn what_is_used_often_stays() {
        use super::super::uvm::Uvm;
        // A few between all others of a stream that comes back rarely.
        let order = || (0..10).flat_map(|_| (4..64).flat_map(|i| [i % 4, i]));
        let often = misses(&Reuse, 16, order());
        assert!(often <= misses(&Uvm, 16, order()));
        assert!(often <= 10 * 60 + 16);
    }

    #[test]
    fn what_is_late_is_worth_less() {
        let clock = Clock { now: 100 };
        let worth = |needed, interval| {
            let facts = Facts {
                needed,
                interval,
                ..Facts::default()
            };
            Reuse.worth(&facts, &clock)
        };
        // Soon, later, and not when it was expected.
        assert!(worth(95, 6) > worth(95, 60));
        assert!(worth(95, 6) > worth(40, 6));
        // Of what never came back the last one.
        assert!(worth(95, 0) > worth(90, 0));
        // What has just come is not evicted.
        let new = Facts {
            filled: 99,
            needed: 99,
            interval: 1000,
            ..Facts::default()
        };
        assert_eq!(Reuse.worth(&new, &clock), u64::MAX);
    }
}
