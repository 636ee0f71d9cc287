// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of pages in device memory: who has them, and what becomes of them.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_kapi_device_private)]
mod suite {
    use super::super::{
        super::{
            migrate::HUGE_ORDER,
            testing::{
                drop_later,
                peek,
                Local,
                LocalPages,
                Manners,
                Process, //
            }, //
        },
        *, //
    };
    use kernel::time::{
        delay::fsleep,
        Delta, //
    };

    fn pages(count: usize) -> Result<LocalPages> {
        Local::pages(count, Manners::default())
    }

    #[test]
    fn sizes_that_are_none() {
        let new = |count| {
            // Never asked for anything.
            let local = pages(1)?;
            DevicePages::new(count, c"kunit", local.owner().clone())
        };
        assert!(new(0).is_err_and(|e| e == EINVAL));
        assert!(new(usize::MAX / PAGE_SIZE + 1).is_err_and(|e| e == EINVAL));
        // More than there are addresses.
        assert!(new(usize::MAX / PAGE_SIZE / 2).is_err());
    }

    #[test]
    fn numbers_of_pages() -> Result {
        let pages = pages(100)?;
        assert_eq!(pages.count(), 100);
        for page in [0, 1, 99] {
            assert_eq!(pages.index(pages.pfn(page)), Some(page));
        }
        assert_eq!(pages.index(pages.pfn(0) - 1), None);
        assert_eq!(pages.index(pages.pfn(0) + 100), None);
        assert_eq!(pages.index(0), None);
        // For huge folios.
        assert_eq!(pages.pfn(0) % (1 << HUGE_ORDER), 0);
        Ok(())
    }

    #[test]
    fn claims_are_all_or_nothing() -> Result {
        let pages = pages(200)?;
        let claim = |range| pages.claim(range);
        let middle = claim(60..70).ok_or(ENOSPC)?;
        assert_eq!(middle.left(), 10);
        // Taken in part, at either end, in one word or another.
        for taken in [
            60..70,
            69..75,
            55..61,
            0..200,
            63..64,
            64..65,
            10..62,
            65..190,
        ] {
            assert!(claim(taken).is_none());
        }
        // Nothing is left of those.
        let before = claim(0..60).ok_or(ENOSPC)?;
        let behind = claim(70..200).ok_or(ENOSPC)?;
        assert!(claim(199..200).is_none());
        drop(behind);
        assert_eq!(pages.owner().freed(), 130);
        let last = claim(190..200).ok_or(ENOSPC)?;
        // Three words, of which the last is taken.
        assert!(claim(70..191).is_none());
        assert!(claim(70..190).is_some());
        drop((before, middle, last));
        assert!(claim(0..200).is_some());
        Ok(())
    }

    #[test]
    fn claims_of_what_is_not_there() -> Result {
        let pages = pages(100)?;
        #[allow(clippy::reversed_empty_ranges)]
        for range in [
            0..0,
            50..40,
            0..101,
            100..101,
            0..usize::MAX,
            usize::MAX - 1..usize::MAX,
        ] {
            assert!(pages.claim(range).is_none());
        }
        assert!(pages.claim(0..100).is_some());
        Ok(())
    }

    #[test]
    fn free_pages_are_found() -> Result {
        let pages = pages(300)?;
        let find = |part, most| pages.find_free(part, most);
        assert_eq!(find(0..300, 1), Some(0..1));
        assert_eq!(find(0..300, usize::MAX), Some(0..300));
        assert_eq!(find(290..usize::MAX, 64), Some(290..300));
        assert_eq!(find(5..10, 100), Some(5..10));
        assert_eq!(find(0..300, 0), None);
        assert_eq!(find(10..10, 5), None);
        assert_eq!(find(300..400, 5), None);
        // All of some words, and the edges of others.
        let _low = pages.claim(0..129).ok_or(ENOSPC)?;
        assert_eq!(find(0..300, 4), Some(129..133));
        assert_eq!(find(64..128, 4), None);
        assert_eq!(find(0..130, 4), Some(129..130));
        let _hole = pages.claim(131..256).ok_or(ENOSPC)?;
        assert_eq!(find(0..300, 10), Some(129..131));
        assert_eq!(find(131..300, 10), Some(256..266));
        let _high = pages.claim(256..300).ok_or(ENOSPC)?;
        assert_eq!(find(131..300, 10), None);
        Ok(())
    }

    #[test]
    fn folios_of_a_claim() -> Result {
        let pages = pages(32)?;
        let mut claim = pages.claim(1..16).ok_or(ENOSPC)?;
        // Not aligned.
        assert!(claim.folio(1).is_none());
        let one = claim.folio(0).ok_or(ENOSPC)?;
        assert_eq!((one.order(), pages.index(one.pfn())), (0, Some(1)));
        let two = claim.folio(1).ok_or(ENOSPC)?;
        assert_eq!((two.order(), pages.index(two.pfn())), (1, Some(2)));
        assert_eq!(claim.left(), 12);
        let four = claim.folio(2).ok_or(ENOSPC)?;
        let eight = claim.folio(3).ok_or(ENOSPC)?;
        assert_eq!(pages.index(eight.pfn()), Some(8));
        assert_eq!(claim.left(), 0);
        assert!(claim.folio(0).is_none());
        drop(claim);
        assert_eq!(pages.owner().freed(), 0);
        drop((one, four));
        assert_eq!(pages.owner().freed(), 5);
        assert!(pages.claim(0..9).is_none());
        assert!(pages.claim(4..8).is_some());
        drop((two, eight));
        assert!(pages.claim(0..32).is_some());
        // More than is left.
        let mut claim = pages.claim(0..3).ok_or(ENOSPC)?;
        assert!(claim.folio(2).is_none());
        assert_eq!(claim.left(), 3);
        Ok(())
    }

    #[test]
    fn memory_of_the_host() -> Result {
        let pages = pages(1)?;
        for order in [0, 1, 4] {
            let folio = LockedFolio::new(order, pages.node(), true, false)?;
            assert_eq!(folio.order(), order);
            assert_eq!(pages.index(folio.pfn()), None);
            for page in 0..1 << order {
                assert_eq!(peek(((folio.pfn() + page) << PAGE_SHIFT) as u64), 0);
            }
        }
        assert!(LockedFolio::new(30, pages.node(), true, false).is_err_and(|e| e == ENOMEM));
        Ok(())
    }

    #[test]
    fn many_pages_of_the_host() -> Result {
        let node = pages(1)?.node();
        let mut host = HostPages::new();
        assert!(host.take().is_none());
        assert!(host.fill(|| 0, node, true).is_err_and(|e| e == ENOMEM));
        host.fill(|| 100, node, true)?;
        // None are added while there are any.
        host.fill(|| usize::MAX, node, true)?;
        let mut all = KVec::new();
        for _ in 0..50 {
            let Some(folio) = host.take() else {
                break;
            };
            assert_eq!(folio.order(), 0);
            assert_eq!(peek((folio.pfn() << PAGE_SHIFT) as u64), 0);
            let is_other = |other: &LockedFolio| other.pfn() != folio.pfn();
            assert!(all.iter().all(is_other));
            all.push(folio, GFP_KERNEL)?;
        }
        assert!(!all.is_empty());
        // What is left is freed, and no more.
        drop(host);
        for folio in &all {
            assert_eq!(peek((folio.pfn() << PAGE_SHIFT) as u64), 0);
        }
        Ok(())
    }

    #[test]
    fn what_is_unmapped_is_free_again() -> Result {
        let process = Process::new()?;
        let pages = pages(64)?;
        let memory = process.map_filled(16)?;
        assert_eq!(
            Local::move_here(&pages, &process, memory.all(), 0, |_| true)?.pages,
            16
        );
        assert!(pages.claim(0..1).is_none());
        assert!(pages.claim(15..17).is_none());
        memory.unmap(4..8)?;
        assert_eq!(pages.owner().freed(), 4);
        assert_eq!(pages.find_free(0..64, 64), Some(4..8));
        assert!(pages.claim(4..8).is_some());
        drop(memory);
        assert_eq!(pages.owner().freed(), 4 + 4 + 12);
        assert!(pages.claim(0..64).is_some());
        assert_eq!(pages.owner().touched(), 0);
        Ok(())
    }

    #[test]
    fn the_end_waits_for_pages_and_can_bring_them_back() -> Result {
        let process = Process::new()?;
        let pages = pages(64)?;
        let local = pages.owner().clone();
        let memory = process.map_filled(16)?;
        assert_eq!(
            Local::move_here(&pages, &process, memory.all(), 0, |_| true)?.pages,
            16
        );
        // Somebody else drops the last reference, and has to wait.
        let end = drop_later(pages)?;
        fsleep(Delta::from_millis(100));
        assert!(!end.is_over());
        assert!(memory.check());
        assert_eq!((local.touched(), local.freed()), (16, 16));
        end.wait()
    }

    #[test]
    fn lost_data_is_an_error_and_stays_one() -> Result {
        let process = Process::new()?;
        let manners = Manners {
            broken: true,
            ..Default::default()
        };
        let pages = Local::pages(64, manners)?;
        let memory = process.map_filled(16)?;
        assert_eq!(
            Local::move_here(&pages, &process, memory.range(4..8), 0, |_| true)?.pages,
            4
        );
        assert!(memory.has(3, 0x1234_5678_0003));
        for _ in 0..2 {
            assert_eq!(memory.read(4), Err(EFAULT));
            assert_eq!(memory.write(5, 0), Err(EFAULT));
        }
        assert_eq!(pages.owner().touched(), 4);
        assert_eq!(pages.owner().freed(), 0);
        // It is there yet.
        assert_eq!(pages.owner().peek(0), 0x1234_5678_0004);
        Ok(())
    }
}
