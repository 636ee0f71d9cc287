// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of migrations between the memory of a process and that of a device, which the CPU stands in for.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_kapi_migrate)]
mod suite {
    use super::super::{
        super::{
            area::MemoryMap,
            device_private::LockedFolio,
            host_copy::{
                HostCopies,
                HostCopy, //
            },
            shrinker::Shrink,
            testing::{
                Local,
                Manners,
                Process, //
            }, //
        },
        *, //
    };

    fn moved(pages: usize, made: usize) -> Moved {
        Moved { pages, made }
    }

    #[test]
    fn there_and_back_as_the_cpu_touches() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(16)?;
        let went = Local::move_here(&local, &process, memory.all(), 8, |_| true)?;
        assert_eq!(went, moved(16, 0));
        for page in 0..16 {
            assert_eq!(local.owner().peek(8 + page), 0x1234_5678_0000 + page as u64);
        }
        assert_eq!(local.owner().touched(), 0);
        assert!(memory.check());
        assert_eq!(local.owner().touched(), 16);
        assert_eq!(local.owner().freed(), 16);
        // They are at home now.
        assert!(memory.check());
        assert_eq!(local.owner().touched(), 16);
        Ok(())
    }

    #[test]
    fn what_lies_around_comes_along() -> Result {
        let process = Process::new()?;
        let manners = Manners {
            around: 8 * PAGE_SIZE,
            ..Default::default()
        };
        let local = Local::pages(64, manners)?;
        let memory = process.map_filled(20)?;
        assert_eq!(
            Local::move_here(&local, &process, memory.all(), 0, |_| true)?.pages,
            20
        );
        memory.write(3, 7)?;
        assert_eq!((local.owner().touched(), local.owner().freed()), (1, 8));
        // No more than there is.
        memory.write(18, 7)?;
        assert_eq!((local.owner().touched(), local.owner().freed()), (2, 12));
        assert!(memory.has(3, 7) && memory.has(18, 7));
        memory.fill()?;
        assert_eq!((local.owner().touched(), local.owner().freed()), (3, 20));
        Ok(())
    }

    #[test]
    fn back_at_will() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(16)?;
        Local::move_here(&local, &process, memory.all(), 0, |_| true)?;
        let back = Local::move_back(&local, &process, memory.range(4..8), false)?;
        assert_eq!(back, moved(4, 0));
        assert_eq!(local.owner().freed(), 4);
        // What is in the host already is left out.
        let back = Local::move_back(&local, &process, memory.all(), false)?;
        assert_eq!(back, moved(12, 0));
        assert!(memory.check());
        assert_eq!(local.owner().touched(), 0);
        Ok(())
    }

    #[test]
    fn what_was_kept_comes_back_without_a_copy() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(16)?;
        let copies = HostCopies::new(64)?;
        let keep = |page: usize, pfn: usize, copy: HostCopy| {
            assert_eq!(local.index(pfn), Some(8 + page));
            copies.put(8 + page, copy);
        };
        let commit = |migration: Migration<'_>| migration.commit_keeping(keep);
        // Of what was made there is none.
        let other = process.map(1)?;
        let went =
            Local::move_here_with(&local, &process, memory.range(0..15), 8, |_| true, commit)?;
        assert_eq!(went, moved(15, 0));
        let made = Local::move_here_with(&local, &process, other.all(), 40, |_| true, commit)?;
        assert_eq!(made, moved(0, 1));
        assert_eq!(copies.count(), 15);
        assert_eq!(copies.free(8..10), 2);
        assert_eq!(copies.scan(3), 3);
        assert!(!copies.has(12) && copies.has(13) && !copies.has(40));

        // What the device has is not what comes back where there is a copy.
        for page in 0..15 {
            local.owner().poke(8 + page, 77);
        }
        {
            let users = process.users()?;
            let map = MemoryMap::lock(&users);
            let area = map.next_area(memory.address(0)).ok_or(EFAULT)?;
            let mut migration = Migration::to_host(area, memory.range(0..15), local.id())?;
            for page in 5..15 {
                let slot = migration.next(page).ok_or(EINVAL)?;
                let folio = copies.take(8 + page).and_then(HostCopy::into_folio);
                migration.set(&slot, folio.ok_or(EINVAL)?);
            }
            assert_eq!(migration.commit(), moved(10, 0));
        }
        assert_eq!(copies.count(), 0);
        for page in 0..15u64 {
            let word = if page < 5 {
                77
            } else {
                0x1234_5678_0000 + page
            };
            assert_eq!(memory.read(page as usize)?, word);
        }
        // They are pages like any other.
        memory.fill()?;
        Local::move_here(&local, &process, memory.range(0..15), 8, |_| true)?;
        assert_eq!(memory.read(7)?, 0x1234_5678_0007);
        Ok(())
    }

    #[test]
    fn what_has_no_destination_stays() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(16)?;
        let went = Local::move_here(&local, &process, memory.all(), 0, |page| page % 3 == 1)?;
        assert_eq!(went, moved(5, 0));
        assert!(memory.check());
        assert_eq!(local.owner().touched(), 5);
        Ok(())
    }

    #[test]
    fn holes_are_made_if_wanted() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map(16)?;
        memory.write(0, 5)?;
        // All zeroes, which is as good as nothing.
        assert_eq!(memory.read(1)?, 0);
        let went = Local::move_here(&local, &process, memory.all(), 0, |page| page < 4)?;
        assert_eq!(went, moved(1, 3));
        assert_eq!(local.owner().peek(2), 0);
        assert_eq!(memory.read(1)?, 0);
        assert_eq!(memory.read(2)?, 0);
        assert_eq!(local.owner().touched(), 2);
        // One that was not made.
        assert_eq!(memory.read(4)?, 0);
        assert_eq!(local.owner().touched(), 2);
        memory.write(3, 9)?;
        assert!(memory.has(3, 9) && memory.has(0, 5));
        assert_eq!(local.owner().freed(), 4);
        Ok(())
    }

    #[test]
    fn one_that_is_dropped_changes_nothing() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(16)?;
        memory.unmap(14..16)?;
        let users = process.users()?;
        {
            let map = MemoryMap::lock(&users);
            let area = map.next_area(memory.address(0)).ok_or(EFAULT)?;
            let range = memory.range(0..14);
            let mut migration = Migration::to_device(area, range.clone(), local.id())?;
            assert_eq!((migration.start(), migration.pages()), (range.start, 14));
            let mut claim = local.claim(0..14).ok_or(ENOSPC)?;
            for page in 0..10 {
                let slot = migration.next(page).ok_or(EINVAL)?;
                assert_eq!((slot.page, slot.order), (page, 0));
                Local::place(&local, &mut migration, &slot, &mut claim)?;
            }
            migration.unset(3);
            assert_eq!(local.owner().freed(), 1);
            // It has none any more, has not had one, and is none.
            migration.unset(3);
            migration.unset(12);
            migration.unset(14);
            assert_eq!(local.owner().freed(), 1);
        }
        assert_eq!(local.owner().freed(), 14);
        for page in 0..14 {
            assert!(memory.has(page, 0x1234_5678_0000 + page as u64));
        }
        assert_eq!(local.owner().touched(), 0);
        assert!(local.claim(0..64).is_some());
        Ok(())
    }

    #[test]
    fn other_kinds_than_fit_are_dropped() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(4)?;
        let users = process.users()?;
        {
            let map = MemoryMap::lock(&users);
            let area = map.next_area(memory.address(0)).ok_or(EFAULT)?;
            let mut migration = Migration::to_device(area, memory.all(), local.id())?;
            let mut claim = local.claim(0..16).ok_or(ENOSPC)?;
            let slot = migration.next(0).ok_or(EINVAL)?;
            let mut offer = |slot: &Slot, order| -> Result<usize> {
                let before = local.owner().freed();
                migration.set(slot, claim.folio(order).ok_or(ENOSPC)?);
                Ok(local.owner().freed() - before)
            };
            // Too large, whatever the slot says.
            assert_eq!(offer(&slot, 2), Ok(4));
            assert_eq!(offer(&Slot { order: 2, ..slot }, 2), Ok(4));
            // Fits, and then is taken.
            assert_eq!(offer(&slot, 0), Ok(0));
            assert_eq!(offer(&slot, 0), Ok(1));
            // Not there.
            assert_eq!(offer(&Slot { page: 4, ..slot }, 0), Ok(1));
            let page = usize::MAX;
            assert_eq!(offer(&Slot { page, ..slot }, 0), Ok(1));
            drop(migration);
        }
        assert!(memory.check());
        Ok(())
    }

    #[test]
    fn ranges_that_are_none() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(8)?;
        memory.unmap(6..8)?;
        let users = process.users()?;
        let map = MemoryMap::lock(&users);
        let area = map.next_area(memory.address(0)).ok_or(EFAULT)?;
        let (start, end) = (memory.address(0), memory.address(6));
        #[allow(clippy::reversed_empty_ranges)]
        for range in [
            start..start,
            end..start,
            start + 1..end,
            start..end - 1,
            start + 1..start + PAGE_SIZE + 1,
            start..end + PAGE_SIZE,
            start - PAGE_SIZE..end,
            end..end + PAGE_SIZE,
        ] {
            let collected = Migration::to_device(area, range.clone(), local.id());
            assert!(collected.is_err_and(|e| e == EINVAL));
            let collected = Migration::to_host(area, range, local.id());
            assert!(collected.is_err_and(|e| e == EINVAL));
        }
        Ok(())
    }

    #[test]
    fn memory_of_a_file_stays() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_file(8)?;
        (0..6).try_for_each(|page| memory.write(page, page as u64))?;
        let went = Local::move_here(&local, &process, memory.all(), 0, |_| true)?;
        assert_eq!(went, moved(0, 0));
        assert!((0..6).all(|page| memory.has(page, page as u64)));
        assert_eq!(local.owner().touched(), 0);
        assert!(local.claim(0..64).is_some());
        Ok(())
    }

    #[test]
    fn memory_of_another_device_is_left_alone() -> Result {
        let process = Process::new()?;
        let one = Local::pages(16, Manners::default())?;
        let two = Local::pages(16, Manners::default())?;
        let memory = process.map_filled(8)?;
        assert_eq!(
            Local::move_here(&one, &process, memory.all(), 0, |page| page < 4)?.pages,
            4
        );
        assert_eq!(
            Local::move_back(&two, &process, memory.all(), false)?,
            moved(0, 0)
        );
        assert_eq!(
            Local::move_here(&two, &process, memory.all(), 0, |_| true)?,
            moved(4, 0)
        );
        assert!(memory.check());
        assert_eq!((one.owner().freed(), two.owner().freed()), (4, 4));
        Ok(())
    }

    #[test]
    fn a_huge_folio_there_and_back() -> Result {
        let process = Process::new()?;
        let local = Local::pages(1024, Manners::default())?;
        let memory = process.map(512)?;
        // A huge hole first.
        let went = Local::move_here(&local, &process, memory.all(), 512, |_| true)?;
        assert_eq!(went, moved(0, 512));
        assert_eq!(local.owner().peek(512 + 77), 0);
        memory.write(77, 1)?;
        // All of it comes.
        assert_eq!((local.owner().touched(), local.owner().freed()), (1, 512));
        memory.fill()?;
        assert_eq!(local.owner().touched(), 1);
        // Now a huge folio of the host.
        let went = Local::move_here(&local, &process, memory.all(), 0, |_| true)?;
        assert_eq!(went, moved(512, 0));
        assert_eq!(local.owner().peek(511), 0x1234_5678_0000 + 511);
        let back = Local::move_back(&local, &process, memory.all(), false)?;
        assert_eq!(back, moved(512, 0));
        assert!(memory.check());
        assert_eq!((local.owner().touched(), local.owner().freed()), (1, 1024));
        Ok(())
    }

    #[test]
    fn a_huge_hole_is_made_in_part() -> Result {
        let process = Process::new()?;
        let local = Local::pages(512, Manners::default())?;
        for wanted in [[7, 300], [0, 511]] {
            let memory = process.map(512)?;
            let went = Local::move_here(&local, &process, memory.all(), 0, |page| {
                wanted.contains(&page)
            })?;
            assert_eq!(went, moved(0, 2));
            let before = (local.owner().touched(), local.owner().freed());
            assert_eq!(memory.read(wanted[0])?, 0);
            assert_eq!(memory.read(wanted[0] + 1)?, 0);
            let after = (local.owner().touched(), local.owner().freed());
            assert_eq!(after, (before.0 + 1, before.1 + 1));
        }
        assert_eq!(local.owner().freed(), 4);
        Ok(())
    }

    #[test]
    fn a_huge_folio_goes_to_many_small_ones() -> Result {
        let process = Process::new()?;
        let local = Local::pages(1024, Manners::default())?;
        let memory = process.map_filled(512)?;
        let went = Local::move_here(&local, &process, memory.all(), 512, |page| page != 511)?;
        // The last one has no place there.
        assert_eq!(went, moved(511, 0));
        assert_eq!(local.owner().peek(512 + 300), 0x1234_5678_0000 + 300);
        assert!(memory.check());
        assert_eq!((local.owner().touched(), local.owner().freed()), (511, 511));
        Ok(())
    }

    #[test]
    fn a_huge_folio_comes_back_as_many_small_ones() -> Result {
        let process = Process::new()?;
        let manners = Manners {
            split: true,
            ..Default::default()
        };
        let local = Local::pages(512, manners)?;
        let memory = process.map_filled(512)?;
        assert_eq!(
            Local::move_here(&local, &process, memory.all(), 0, |_| true)?.pages,
            512
        );
        assert!(memory.has(44, 0x1234_5678_0000 + 44));
        // As the CPU uses a page, that is all that can come at a time.
        assert!(local.owner().freed() > 0);
        assert!(memory.check());
        assert_eq!(local.owner().freed(), 512);
        let touched = local.owner().touched();
        // And at will; they may be small ones in the host by now.
        assert_eq!(
            Local::move_here(&local, &process, memory.all(), 0, |_| true)?.pages,
            512
        );
        let back = Local::move_back(&local, &process, memory.all(), true)?;
        assert_eq!(back, moved(512, 0));
        assert!(memory.check());
        assert_eq!(
            (local.owner().touched(), local.owner().freed()),
            (touched, 1024)
        );
        Ok(())
    }

    #[test]
    fn a_part_of_a_huge_folio() -> Result {
        let process = Process::new()?;
        let local = Local::pages(512, Manners::default())?;
        let memory = process.map_filled(512)?;
        assert_eq!(
            Local::move_here(&local, &process, memory.all(), 0, |_| true)?.pages,
            512
        );
        memory.unmap(0..100)?;
        let back = Local::move_back(&local, &process, memory.range(200..220), false)?;
        assert_eq!(back, moved(20, 0));
        for page in 100..512 {
            assert!(memory.has(page, 0x1234_5678_0000 + page as u64));
        }
        assert_eq!(local.owner().touched(), 512 - 100 - 20);
        assert_eq!(local.owner().freed(), 512);
        Ok(())
    }

    #[test]
    fn eviction_brings_pages_back() -> Result {
        let process = Process::new()?;
        let local = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(20)?;
        assert_eq!(
            Local::move_here(&local, &process, memory.all(), 10, |_| true)?.pages,
            20
        );
        {
            let mut migration = Migration::evict(&local, 0..15)?;
            assert_eq!((migration.start(), migration.pages()), (0, 5));
            Local::send_all(&local, &mut migration, false)?;
            assert_eq!(migration.commit(), moved(5, 0));
        }
        assert_eq!(local.owner().freed(), 5);
        {
            // Dropped: they stay.
            let mut migration = Migration::evict(&local, 20..usize::MAX)?;
            assert_eq!(migration.pages(), 10);
            Local::send_all(&local, &mut migration, false)?;
        }
        assert_eq!(local.owner().freed(), 5);
        #[allow(clippy::reversed_empty_ranges)]
        for nothing in [0..15, 30..64, 64..70, 5..5, 20..10] {
            let migration = Migration::evict(&local, nothing)?;
            assert_eq!(migration.pages(), 0);
            assert!(migration.next(0).is_none());
            assert_eq!(migration.commit(), moved(0, 0));
        }
        let mut migration = Migration::evict(&local, 0..64)?;
        Local::send_all(&local, &mut migration, false)?;
        assert_eq!(migration.commit(), moved(15, 0));
        assert!(memory.check());
        assert_eq!((local.owner().touched(), local.owner().freed()), (0, 20));
        Ok(())
    }

    #[test]
    fn eviction_of_a_huge_folio() -> Result {
        let process = Process::new()?;
        let local = Local::pages(1024, Manners::default())?;
        let memory = process.map_filled(512)?;
        assert_eq!(
            Local::move_here(&local, &process, memory.all(), 512, |_| true)?.pages,
            512
        );
        // Not a part of it, nor in parts.
        for part in [0..513, 600..700, 513..1024] {
            let migration = Migration::evict(&local, part)?;
            assert!(migration.next(0).is_none());
        }
        {
            let mut migration = Migration::evict(&local, 0..1024)?;
            assert_eq!(migration.next(0).map(|slot| slot.order), Some(HUGE_ORDER));
            Local::send_all(&local, &mut migration, true)?;
            assert_eq!(migration.commit(), moved(0, 0));
        }
        assert_eq!(local.owner().freed(), 0);
        let mut migration = Migration::evict(&local, 0..1024)?;
        Local::send_all(&local, &mut migration, false)?;
        assert_eq!(migration.commit(), moved(512, 0));
        assert!(memory.check());
        assert_eq!((local.owner().touched(), local.owner().freed()), (0, 512));
        Ok(())
    }

    #[test]
    fn eviction_finds_pages_where_a_huge_folio_was() -> Result {
        let process = Process::new()?;
        let local = Local::pages(512, Manners::default())?;
        drop(
            local
                .claim(0..512)
                .and_then(|mut claim| claim.folio(HUGE_ORDER))
                .ok_or(ENOSPC)?,
        );
        assert_eq!(local.owner().freed(), 512);
        let memory = process.map_filled(8)?;
        assert_eq!(
            Local::move_here(&local, &process, memory.all(), 16, |_| true)?.pages,
            8
        );
        let mut migration = Migration::evict(&local, 0..512)?;
        Local::send_all(&local, &mut migration, false)?;
        assert_eq!(migration.commit(), moved(8, 0));
        assert!(memory.check());
        assert_eq!(local.owner().touched(), 0);
        Ok(())
    }

    #[test]
    fn host_memory_can_go_to_other_host_memory() -> Result {
        let process = Process::new()?;
        let local = Local::pages(1, Manners::default())?;
        let memory = process.map_filled(4)?;
        let users = process.users()?;
        {
            let map = MemoryMap::lock(&users);
            let area = map.next_area(memory.address(0)).ok_or(EFAULT)?;
            let mut migration = Migration::to_device(area, memory.all(), local.id())?;
            let mut page = 0;
            while let Some(slot) = migration.next(page) {
                page = slot.page + 1;
                migration.set(&slot, LockedFolio::new(0, local.node(), true, false)?);
            }
            assert_eq!(migration.commit(), moved(4, 0));
        }
        // Nothing was copied.
        assert!((0..4).all(|page| memory.read(page) == Ok(0)));
        Ok(())
    }
}
