// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of the book of mirrors.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_mirror)]
mod suite {
    use super::super::*;

    // The assertions have a `Location` of their own.
    use Location as At;

    const PAGE: u64 = PAGE_SIZE as u64;

    fn pages(start: u64, end: u64) -> Result<VaRange> {
        VaRange::from_bounds(start * PAGE, end * PAGE).ok_or(EINVAL)
    }

    fn view(va: u64, cpu: VaRange) -> View {
        View {
            distance: va.wrapping_sub(cpu.start()),
            cpu,
        }
    }

    fn mirrored(cpu: u64) -> Mirrored<u8> {
        Mirrored {
            cpu: cpu * PAGE,
            access: Access::default(),
            attrs: 0,
        }
    }

    /// A book with some mirrors: device page, process page, pages.
    fn book(all: &[(u64, u64, u64)]) -> Result<Mirrors<u8>> {
        let mut mirrors = Mirrors::new();
        for (va, cpu, count) in all {
            mirrors.ranges.reserve(1)?;
            mirrors
                .ranges
                .set(pages(*va, va + count)?, mirrored(*cpu), |_| ());
            let mut room = KVec::with_capacity(2 * mirrors.views().max(1), GFP_KERNEL)?;
            assert!(mirrors.add_view(va * PAGE, pages(*cpu, cpu + count)?, &mut room)?);
        }
        Ok(mirrors)
    }

    fn device_range(mirrors: &Mirrors<u8>, view: usize, cpu: VaRange) -> Option<Option<VaRange>> {
        mirrors.device_range(view, &cpu).map(|(_, range)| range)
    }

    #[test]
    fn a_view_finds_the_device_addresses() -> Result {
        // Ahead and behind.
        for (va, cpu) in [(100, 10), (10, 100), (50, 50)] {
            let view = view(va * PAGE, pages(cpu, cpu + 8)?);
            let device = |start, end| -> Result<_> { Ok(view.device(&pages(start, end)?)) };
            assert_eq!(device(cpu, cpu + 8)?, Some(pages(va, va + 8)?));
            assert_eq!(device(cpu + 2, cpu + 3)?, Some(pages(va + 2, va + 3)?));
            // As far as it goes.
            assert_eq!(device(cpu - 5, cpu + 1)?, Some(pages(va, va + 1)?));
            assert_eq!(device(cpu + 7, cpu + 20)?, Some(pages(va + 7, va + 8)?));
            assert_eq!(device(0, cpu + 100)?, Some(pages(va, va + 8)?));
            assert_eq!(device(cpu + 8, cpu + 9)?, None);
            assert_eq!(device(cpu - 1, cpu)?, None);
        }
        Ok(())
    }

    #[test]
    fn all_that_there_is_can_change() -> Result {
        // What a process that ends is told of.
        let all = VaRange::from_bounds(0, u64::MAX).ok_or(EINVAL)?;
        let top = (1 << 47) / PAGE;
        let view = view(0, pages(top - 4, top)?);
        assert_eq!(view.device(&all), Some(pages(0, 4)?));
        Ok(())
    }

    #[test]
    fn views_do_not_run_out() -> Result {
        let mut mirrors = Mirrors::<u8>::new();
        let mut room = KVec::with_capacity(MAX_VIEWS, GFP_KERNEL)?;
        for i in 0..MAX_VIEWS as u64 {
            assert!(mirrors.add_view(i * PAGE, pages(1, 2)?, &mut room)?);
        }
        // One that is known needs none, one that is not can't be had.
        assert!(mirrors.add_view(7 * PAGE, pages(1, 3)?, &mut room)?);
        let more = mirrors.add_view(1 << 40, pages(1, 2)?, &mut room);
        assert!(more.is_err_and(|e| e == ENOSPC));
        // It is always worth while to sweep then.
        assert!(mirrors.views() >= mirrors.sweep_at);
        mirrors.sweep_views();
        assert_eq!(mirrors.views(), 0);
        assert!(mirrors.sweep_at <= MAX_VIEWS);
        Ok(())
    }

    #[test]
    fn views_of_one_distance_are_one() -> Result {
        let mut mirrors = book(&[(100, 10, 4), (110, 20, 4), (200, 10, 4)])?;
        assert_eq!(mirrors.views(), 2);
        let range = |i, start, end| Ok::<_, Error>(device_range(&mirrors, i, pages(start, end)?));
        // With what lies between.
        assert_eq!(range(0, 0, 100)?, Some(Some(pages(100, 114)?)));
        assert_eq!(range(1, 0, 100)?, Some(Some(pages(200, 204)?)));
        assert_eq!(range(1, 20, 24)?, Some(None));
        assert_eq!(range(2, 20, 24)?, None);
        // One more needs room, one that is there does not.
        let mut none = KVec::new();
        while mirrors.add_view(PAGE << (20 + mirrors.views()), pages(1, 2)?, &mut none)? {}
        let before = mirrors.views();
        assert!(mirrors.add_view(100 * PAGE, pages(10, 50)?, &mut none)?);
        let mut room = KVec::with_capacity(2 * before, GFP_KERNEL)?;
        assert!(mirrors.add_view(1 << 40, pages(1, 2)?, &mut room)?);
        assert_eq!(mirrors.views(), before + 1);
        assert_eq!(
            device_range(&mirrors, 0, pages(0, 100)?),
            Some(Some(pages(100, 140)?))
        );
        Ok(())
    }

    #[test]
    fn sweeping_forgets_what_is_not_mirrored() -> Result {
        let mut mirrors = book(&[(100, 10, 4), (200, 10, 4), (300, 10, 4)])?;
        mirrors.sweep_views();
        assert_eq!((mirrors.views(), mirrors.sweep_at), (3, 16));
        mirrors.ranges.reserve(2)?;
        mirrors.ranges.clear(pages(200, 204)?, |_| ());
        // Another distance at the same device addresses.
        mirrors.ranges.set(pages(300, 304)?, mirrored(50), |_| ());
        mirrors.sweep_views();
        assert_eq!(mirrors.views(), 1);
        assert_eq!(
            device_range(&mirrors, 0, pages(0, 100)?),
            Some(Some(pages(100, 104)?))
        );
        // A part is enough.
        mirrors.ranges.reserve(1)?;
        mirrors.ranges.clear(pages(101, 104)?, |_| ());
        mirrors.sweep_views();
        assert_eq!(mirrors.views(), 1);
        mirrors.ranges.reserve(1)?;
        mirrors.ranges.clear(pages(0, 1000)?, |_| ());
        mirrors.sweep_views();
        assert_eq!(mirrors.views(), 0);
        Ok(())
    }

    #[test]
    fn mirrors_that_continue_each_other_are_one() -> Result {
        let mut mirrors = book(&[(0, 10, 4), (4, 14, 4)])?;
        assert_eq!(mirrors.ranges.len(), 1);
        mirrors.ranges.reserve(3)?;
        mirrors.ranges.set(pages(8, 9)?, mirrored(30), |_| ());
        assert_eq!(mirrors.ranges.len(), 2);
        let writable = Mirrored {
            access: Access {
                write: true,
                exec: false,
            },
            ..mirrored(31)
        };
        mirrors.ranges.set(pages(9, 10)?, writable, |_| ());
        assert_eq!(mirrors.ranges.len(), 3);
        let other = Mirrored {
            attrs: 1,
            ..mirrored(9)
        };
        mirrors.ranges.set(pages(20, 21)?, other, |_| ());
        assert_eq!(mirrors.ranges.len(), 4);
        Ok(())
    }

    #[test]
    fn frames_are_counted_and_cut() -> Result {
        let frame = |location, cpu: u64, write| Frame {
            location,
            cpu: cpu * PAGE,
            write,
        };
        let mut mirrors = Mirrors::<u8>::new();
        mirrors.frames.reserve(16)?;
        let mut set = |start, end, value| -> Result<usize> {
            mirrors.set_frame(pages(start, end)?, value, true);
            Ok(mirrors.frames.len())
        };
        assert_eq!(set(0, 4, frame(At::Device(0), 10, true)), Ok(1));
        // On in device memory, in the process, and with the same permission: or not.
        assert_eq!(set(4, 8, frame(At::Device(4 * PAGE), 14, true)), Ok(1));
        assert_eq!(set(8, 9, frame(At::Device(9 * PAGE), 18, true)), Ok(2));
        assert_eq!(set(9, 10, frame(At::Host(10 * PAGE), 19, true)), Ok(3));
        assert_eq!(set(10, 11, frame(At::Host(11 * PAGE), 20, false)), Ok(4));
        assert_eq!(set(11, 12, frame(At::Host(12 * PAGE), 22, false)), Ok(5));
        assert_eq!((mirrors.mapped, mirrors.resident), (12 * PAGE, 9 * PAGE));
        assert!(mirrors.has(9 * PAGE, true) && mirrors.has(10 * PAGE + 5, false));
        assert!(!mirrors.has(10 * PAGE, true) && !mirrors.has(12 * PAGE, false));
        mirrors.clear_frames(pages(2, 3)?);
        assert_eq!((mirrors.mapped, mirrors.frames.len()), (11 * PAGE, 6));
        assert_eq!(mirrors.resident, 8 * PAGE);
        let rest = mirrors.frames.get(3 * PAGE).map(|e| *e.value);
        assert_eq!(rest, Some(frame(At::Device(3 * PAGE), 13, true)));
        // Holes don't count.
        mirrors.clear_frames(pages(1, 10)?);
        assert_eq!((mirrors.mapped, mirrors.frames.len()), (3 * PAGE, 3));
        assert_eq!(mirrors.resident, PAGE);
        // What takes the place of something counts instead of it.
        mirrors.set_frame(pages(0, 1)?, frame(At::Host(0), 10, true), false);
        assert_eq!((mirrors.mapped, mirrors.resident), (3 * PAGE, 0));
        mirrors.set_frame(pages(0, 2)?, frame(At::Device(0), 10, true), false);
        assert_eq!((mirrors.mapped, mirrors.resident), (4 * PAGE, 2 * PAGE));
        mirrors.clear_frames(pages(0, 100)?);
        assert_eq!((mirrors.mapped, mirrors.resident), (0, 0));
        assert_eq!(mirrors.frames.len(), 0);
        Ok(())
    }

    #[test]
    fn what_was_unmapped_merges() -> Result {
        let mut list = Unmapped::new()?;
        for (start, end) in [(5, 6), (6, 8), (4, 5), (10, 12), (8, 10)] {
            list.push(pages(start, end)?);
        }
        // With the last one only.
        let expected = [pages(4, 8)?, pages(8, 12)?];
        assert_eq!(list.ranges(), (&expected[..], true));
        list.clear();
        assert_eq!(list.ranges(), (&[][..], true));
        Ok(())
    }

    #[test]
    fn too_much_that_was_unmapped_is_known() -> Result {
        let mut list = Unmapped::new()?;
        let most = list.0.capacity() as u64;
        assert!(most >= UNMAPPED as u64);
        for i in 0..most - 1 {
            list.push(pages(2 * i, 2 * i + 1)?);
        }
        assert!(list.ranges().1);
        for i in most - 1..most + 10 {
            list.push(pages(2 * i, 2 * i + 1)?);
            // It may be that this was the last, or that there were others.
            assert!(!list.ranges().1);
        }
        assert_eq!(list.ranges().0.len() as u64, most);
        Ok(())
    }

    #[test]
    fn a_list_that_was_taken_can_be_put_back() -> Result {
        let mut mirrors = Mirrors::<u8>::new();
        let mut spare = Unmapped::new()?;
        // Nobody wants to know.
        mirrors.take_unmapped(&mut spare);
        mirrors.put_unmapped(&spare);
        mirrors.unmapped = Some(Unmapped::new()?);
        let push = |mirrors: &mut Mirrors<u8>, start, end| -> Result {
            let list = mirrors.unmapped.as_mut().ok_or(EINVAL)?;
            list.push(pages(start, end)?);
            Ok(())
        };
        push(&mut mirrors, 1, 2)?;
        mirrors.take_unmapped(&mut spare);
        assert_eq!(spare.ranges().0, &[pages(1, 2)?]);
        push(&mut mirrors, 5, 6)?;
        mirrors.put_unmapped(&spare);
        spare.clear();
        mirrors.take_unmapped(&mut spare);
        assert_eq!(spare.ranges(), (&[pages(5, 6)?, pages(1, 2)?][..], true));
        Ok(())
    }
}
