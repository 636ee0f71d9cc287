// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of memory that is held for jobs.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_hold)]
mod suite {
    use super::super::*;
    use crate::kapi::dma_fence::{
        FenceOps,
        FenceReservation,
        PendingFence,
        Timeline, //
    };

    struct Ops;

    impl FenceOps for Ops {
        const DRIVER_NAME: &'static CStr = c"kunit";
        const TIMELINE_NAME: &'static CStr = c"kunit-hold";
    }

    fn range(start: u64, end: u64) -> Result<VaRange> {
        VaRange::from_bounds(start << 12, end << 12).ok_or(EINVAL)
    }

    /// Holds ranges; brings room if there is none.
    fn add(holds: &mut Holds, ranges: &[(u64, u64)]) -> Result<u64> {
        let mut cpu = KVVec::new();
        for (start, end) in ranges {
            cpu.push(range(*start, *end)?, GFP_KERNEL)?;
        }
        let mut cpu = Some(cpu);
        let mut room = KVec::with_capacity(holds.all.len() + 1, GFP_KERNEL)?;
        holds.add(&mut cpu, &mut room).ok_or(EINVAL)
    }

    fn publish(holds: &mut Holds, number: u64) -> Result<PendingFence<Ops>> {
        let pending = FenceReservation::new(GFP_KERNEL)?.publish(&Timeline::<Ops>::new());
        holds.find(number).ok_or(EINVAL)?.fence = Some(pending.fence());
        Ok(pending)
    }

    fn is_stale(holds: &mut Holds, number: u64) -> Option<bool> {
        Some(holds.find(number)?.stale)
    }

    #[test]
    fn room_is_brought() -> Result {
        let mut holds = Holds::new();
        let (mut cpu, mut none) = (Some(KVVec::new()), KVec::new());
        assert_eq!(holds.add(&mut cpu, &mut none), None);
        // It is not lost.
        assert!(cpu.is_some());
        let mut room = KVec::with_capacity(2, GFP_KERNEL)?;
        let number = holds.add(&mut cpu, &mut room).ok_or(EINVAL)?;
        assert!(cpu.is_none());
        // What is there stays as room grows.
        for i in 1..20 {
            assert_eq!(add(&mut holds, &[(i, i + 1)])?, number + i);
        }
        for i in 0..20 {
            assert_eq!(is_stale(&mut holds, number + i), Some(false));
        }
        assert!(holds.find(number + 20).is_none());
        Ok(())
    }

    #[test]
    fn jobs_that_are_not_there_begin_anew() -> Result {
        let mut holds = Holds::new();
        let one = add(&mut holds, &[(0, 4), (10, 12)])?;
        let two = add(&mut holds, &[(4, 8)])?;
        assert!(holds.changes(&range(8, 10)?).is_none());
        assert_eq!(is_stale(&mut holds, one), Some(false));
        assert!(holds.changes(&range(11, 20)?).is_none());
        assert_eq!(
            (is_stale(&mut holds, one), is_stale(&mut holds, two)),
            (Some(true), Some(false))
        );
        assert!(holds.changes(&range(3, 5)?).is_none());
        assert_eq!(is_stale(&mut holds, two), Some(true));
        Ok(())
    }

    #[test]
    fn changes_wait_for_jobs_that_are_there() -> Result {
        let mut holds = Holds::new();
        let one = add(&mut holds, &[(0, 4)])?;
        let two = add(&mut holds, &[(2, 8)])?;
        let three = add(&mut holds, &[(3, 5)])?;
        let first = publish(&mut holds, one)?;
        let second = publish(&mut holds, two)?;
        let change = range(3, 4)?;
        assert!(holds.changes(&range(8, 9)?).is_none());
        let fence = holds.changes(&change).ok_or(EINVAL)?;
        assert!(!fence.is_signaled());
        // Whoever is not there yet needs not be waited for.
        assert_eq!(is_stale(&mut holds, three), Some(true));
        assert_eq!(is_stale(&mut holds, one), Some(false));
        first.signal(Ok(()));
        assert!(fence.is_signaled());
        // Then the next one.
        let fence = holds.changes(&change).ok_or(EINVAL)?;
        assert!(!fence.is_signaled());
        // An error is an end, too.
        second.signal(Err(EIO));
        assert!(fence.is_signaled());
        assert!(holds.changes(&change).is_none());
        Ok(())
    }

    #[test]
    fn there_are_not_too_many() -> Result {
        let mut holds = Holds::new();
        let mut jobs = KVec::new();
        // Nobody is there yet.
        for i in 0..MOST as u64 {
            assert!(matches!(holds.crowd(), Crowd::None));
            add(&mut holds, &[(i, i + 1)])?;
        }
        assert!(matches!(holds.crowd(), Crowd::Soon));
        for number in 1..=MOST as u64 {
            jobs.push(publish(&mut holds, number)?, GFP_KERNEL)?;
        }
        let Crowd::Job(fence) = holds.crowd() else {
            return Err(EINVAL);
        };
        assert!(!fence.is_signaled());
        assert!(holds.needs(&range(3, 4)?) && !holds.needs(&range(100, 101)?));
        // Whichever ends makes room; the first is who is waited for.
        jobs.pop().ok_or(EINVAL)?.signal(Ok(()));
        assert!(!fence.is_signaled() && matches!(holds.crowd(), Crowd::None));
        let number = add(&mut holds, &[(0, 1)])?;
        jobs.push(publish(&mut holds, number)?, GFP_KERNEL)?;
        assert!(matches!(holds.crowd(), Crowd::Job(_)));
        jobs.remove(0).map_err(|_| EINVAL)?.signal(Err(EIO));
        assert!(fence.is_signaled() && matches!(holds.crowd(), Crowd::None));
        for job in jobs {
            job.signal(Ok(()));
        }
        assert!(!holds.needs(&range(3, 4)?));
        Ok(())
    }

    #[test]
    fn what_is_over_is_taken_out() -> Result {
        let mut holds = Holds::new();
        let one = add(&mut holds, &[(0, 4)])?;
        let two = add(&mut holds, &[(4, 8)])?;
        let three = add(&mut holds, &[(8, 12)])?;
        assert!(holds.take(Held::is_over).is_none());
        let pending = publish(&mut holds, two)?;
        assert!(holds.take(Held::is_over).is_none());
        pending.signal(Ok(()));
        assert_eq!(holds.take(Held::is_over).map(|held| held.number), Some(two));
        assert!(holds.take(Held::is_over).is_none());
        assert!(holds.find(two).is_none());
        assert!(holds.find(one).is_some() && holds.find(three).is_some());
        // There is room again.
        let (mut cpu, mut none) = (Some(KVVec::new()), KVec::new());
        assert!(holds
            .add(&mut cpu, &mut none)
            .is_some_and(|number| number > three));
        Ok(())
    }
}
