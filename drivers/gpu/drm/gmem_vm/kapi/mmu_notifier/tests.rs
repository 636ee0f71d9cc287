// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of subscriptions, with a process that changes its memory, and of windows.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_kapi_mmu_notifier)]
mod suite {
    use super::super::{
        super::testing::{
            wait_until,
            zap,
            Process,
            ZapLater, //
        },
        *, //
    };
    use kernel::{
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
        time::{
            delay::fsleep,
            Delta, //
        }, //
    };

    /// What was told.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Told {
        Start(usize, usize, Cause),
        Finish(usize),
    }

    /// Takes note of all calls.
    #[pin_data]
    struct Log {
        #[pin]
        told: Mutex<KVec<(u32, Told)>>,
        /// Second passes wait until there were so many first ones.
        wait_for: usize,
        starts: Atomic<usize>,
        finishes: Atomic<usize>,
        timeouts: Atomic<usize>,
    }

    impl Log {
        fn new(wait_for: usize) -> Result<Arc<Self>> {
            let told = KVec::with_capacity(256, GFP_KERNEL)?;
            Arc::pin_init(
                pin_init!(Self {
                    told <- new_mutex!(told, "kunit::Log::told"),
                    wait_for,
                    starts: Atomic::new(0),
                    finishes: Atomic::new(0),
                    timeouts: Atomic::new(0),
                }),
                GFP_KERNEL,
            )
        }

        fn push(&self, name: u32, told: Told) {
            let _ = self.told.lock().push_within_capacity((name, told));
        }

        /// Takes the next out.
        fn next(&self) -> Option<(u32, Told)> {
            let mut told = self.told.lock();
            if told.is_empty() {
                return None;
            }
            told.remove(0).ok()
        }
    }

    /// One who subscribes.
    struct Listener {
        name: u32,
        log: Arc<Log>,
        two_passes: bool,
    }

    impl Invalidate for Listener {
        type Pending = usize;

        fn start(&self, event: &Event<'_>) -> Result<Option<usize>> {
            let range = event.range();
            assert!(event.is_blockable());
            self.log.push(
                self.name,
                Told::Start(range.start, range.end, event.cause()),
            );
            self.log.starts.fetch_add(1, Full);
            Ok(self.two_passes.then_some(range.start))
        }

        fn finish(&self, start: usize) {
            if wait_until(|| self.log.starts.load(Relaxed) >= self.log.wait_for).is_err() {
                self.log.timeouts.fetch_add(1, Full);
            }
            self.log.push(self.name, Told::Finish(start));
            self.log.finishes.fetch_add(1, Full);
        }
    }

    fn listen(
        process: &Process,
        range: Range<usize>,
        name: u32,
        log: &Arc<Log>,
    ) -> Result<Arc<Subscription<Listener>>> {
        let listener = Listener {
            name,
            log: log.clone(),
            two_passes: true,
        };
        Subscription::new(process, range, listener)
    }

    #[test]
    fn an_unmap_is_told_in_two_passes() -> Result {
        let process = Process::new()?;
        let memory = process.map_filled(16)?;
        let log = Log::new(0)?;
        let subscription = listen(&process, memory.all(), 1, &log)?;
        assert_eq!(subscription.mm().as_raw(), process.as_raw());
        assert_eq!(subscription.owner().name, 1);
        memory.unmap(4..6)?;
        let (start, end) = (memory.address(4), memory.address(6));
        assert_eq!(log.next(), Some((1, Told::Start(start, end, Cause::Unmap))));
        assert_eq!(log.next(), Some((1, Told::Finish(start))));
        assert_eq!(log.next(), None);
        Ok(())
    }

    #[test]
    fn other_changes_are_told_to_the_page() -> Result {
        let process = Process::new()?;
        let memory = process.map_filled(16)?;
        let log = Log::new(0)?;
        let _subscription = listen(&process, memory.all(), 1, &log)?;
        let users = process.users()?;
        zap(&users, memory.range(3..5))?;
        let (start, end) = (memory.address(3), memory.address(5));
        assert_eq!(
            log.next(),
            Some((1, Told::Start(start, end, Cause::Change)))
        );
        assert_eq!(log.next(), Some((1, Told::Finish(start))));
        // Nothing is there: that may change without a word.
        assert_eq!(memory.read(4), Ok(0));
        assert_eq!(log.next(), None);
        // The zero page goes for another.
        memory.write(4, 1)?;
        let (start, end) = (memory.address(4), memory.address(5));
        assert_eq!(
            log.next(),
            Some((1, Told::Start(start, end, Cause::Change)))
        );
        assert_eq!(log.next(), Some((1, Told::Finish(start))));
        assert_eq!(log.next(), None);
        Ok(())
    }

    #[test]
    fn only_the_range_is_told_of() -> Result {
        let process = Process::new()?;
        let memory = process.map_filled(16)?;
        let log = Log::new(0)?;
        let _subscription = listen(&process, memory.range(4..8), 1, &log)?;
        memory.unmap(2..4)?;
        memory.unmap(8..9)?;
        assert_eq!(log.next(), None);
        // All of what changes, also what lies outside.
        memory.unmap(7..12)?;
        let told = Told::Start(memory.address(7), memory.address(12), Cause::Unmap);
        assert_eq!(log.next(), Some((1, told)));
        Ok(())
    }

    #[test]
    fn all_first_passes_come_before_the_second_ones() -> Result {
        let process = Process::new()?;
        let memory = process.map_filled(4)?;
        let log = Log::new(0)?;
        let _one = listen(&process, memory.all(), 1, &log)?;
        let _two = listen(&process, memory.all(), 2, &log)?;
        let lazy = Listener {
            name: 3,
            log: log.clone(),
            two_passes: false,
        };
        let _three = Subscription::new(&process, memory.all(), lazy)?;
        memory.unmap(0..1)?;
        for _ in 0..3 {
            assert!(log
                .next()
                .is_some_and(|(_, told)| matches!(told, Told::Start(..))));
        }
        for _ in 0..2 {
            let (name, told) = log.next().ok_or(EINVAL)?;
            assert_eq!(told, Told::Finish(memory.address(0)));
            assert!(name != 3);
        }
        assert_eq!(log.next(), None);
        Ok(())
    }

    #[test]
    fn more_changes_at_a_time_than_there_is_room_for() -> Result {
        const CHANGES: usize = FINISHES + 2;
        let process = Process::new()?;
        let memory = process.map_filled(2 * CHANGES)?;
        // No second pass ends before all first ones have begun.
        let log = Log::new(CHANGES)?;
        let subscription = listen(&process, memory.all(), 1, &log)?;
        for i in 0..CHANGES {
            ZapLater::new(process.users()?, memory.range(2 * i..2 * i + 1))?.start();
        }
        wait_until(|| log.finishes.load(Relaxed) == CHANGES)?;
        assert_eq!(log.timeouts.load(Relaxed), 0);
        // Each was finished once.
        let mut seen = 0u64;
        while let Some((_, told)) = log.next() {
            if let Told::Finish(start) = told {
                seen |= 1 << ((start - memory.address(0)) / PAGE_SIZE);
            }
        }
        assert_eq!(seen, (0..CHANGES).fold(0, |bits, i| bits | 1 << (2 * i)));
        // All of the room is free again.
        wait_until(|| subscription.finishes.iter().all(|f| !f.busy.load(Relaxed)))
    }

    #[test]
    fn the_end_waits_for_callbacks_and_is_the_end() -> Result {
        let process = Process::new()?;
        let memory = process.map_filled(4)?;
        let log = Log::new(2)?;
        let subscription = listen(&process, memory.all(), 1, &log)?;
        ZapLater::new(process.users()?, memory.range(0..1))?.start();
        wait_until(|| log.starts.load(Relaxed) == 1)?;
        // Lets the second pass end, in a while: it asks now and then.
        log.starts.fetch_add(1, Full);
        drop(subscription);
        assert_eq!(log.finishes.load(Relaxed), 1);
        memory.unmap(1..2)?;
        assert_eq!(log.starts.load(Relaxed), 2);
        assert_eq!(log.timeouts.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn a_process_that_ends() -> Result {
        let process = Process::new()?;
        let log = Log::new(0)?;
        let mm: ARef<Mm> = (&*process).into();
        let subscription = listen(&process, 0..PAGE_SIZE, 1, &log)?;
        process.end();
        assert_eq!(
            log.next(),
            Some((1, Told::Start(0, usize::MAX, Cause::Release)))
        );
        assert_eq!(log.next(), Some((1, Told::Finish(0))));
        assert_eq!(log.next(), None);
        let listener = Listener {
            name: 2,
            log,
            two_passes: true,
        };
        assert!(Subscription::new(&mm, 0..PAGE_SIZE, listener).is_err_and(|e| e == ESRCH));
        // It can be opened, but there is nothing to be seen.
        let window = subscription.open(0..PAGE_SIZE)?;
        assert!(window.fresh().is_some());
        Ok(())
    }

    #[test]
    fn ranges_that_are_none() -> Result {
        let process = Process::new()?;
        let log = Log::new(0)?;
        let listener = |name| Listener {
            name,
            log: log.clone(),
            two_passes: true,
        };
        #[allow(clippy::reversed_empty_ranges)]
        for range in [0..0, PAGE_SIZE..0] {
            assert!(Subscription::new(&process, range, listener(1)).is_err_and(|e| e == EINVAL));
        }
        let page = |n| n * PAGE_SIZE;
        let subscription = listen(&process, page(4)..page(8), 1, &log)?;
        #[allow(clippy::reversed_empty_ranges)]
        for range in [
            page(3)..page(5),
            page(7)..page(9),
            page(5)..page(5),
            page(6)..page(5),
            page(4)..page(5) + 1,
            page(4) + 1..page(5),
            0..page(1),
        ] {
            assert!(subscription.open(range).is_err_and(|e| e == EINVAL));
        }
        let window = subscription.open(page(4)..page(8))?;
        assert_eq!(window.range(), page(4)..page(8));
        Ok(())
    }

    #[test]
    fn a_window_knows_what_changed_in_it() -> Result {
        let process = Process::new()?;
        let memory = process.map_filled(16)?;
        let log = Log::new(0)?;
        let subscription = listen(&process, memory.all(), 1, &log)?;
        let open = |pages| subscription.open(memory.range(pages));
        let (a, b, c) = (open(0..4)?, open(4..8)?, open(4..5)?);
        // More than there is room for at first.
        let mut others = KVec::new();
        for _ in 0..100 {
            others.push(open(12..16)?, GFP_KERNEL)?;
        }
        assert!(a.fresh().is_some());
        memory.unmap(5..7)?;
        assert!(a.fresh().is_some());
        assert!(b.fresh().is_none());
        assert!(c.fresh().is_some());
        // Opened after the change.
        let d = open(4..8)?;
        assert!(d.fresh().is_some());
        memory.unmap(3..5)?;
        assert!(a.close().is_none());
        assert!(b.close().is_none());
        assert!(c.close().is_none());
        assert!(d.fresh().is_none());
        for other in others.drain_all() {
            assert!(other.close().is_some());
        }
        drop(d);
        // None is left behind.
        assert!(subscription.windows.lock().open.is_empty());
        Ok(())
    }

    #[test]
    fn a_change_waits_for_who_reads() -> Result {
        let process = Process::new()?;
        let memory = process.map_filled(4)?;
        let log = Log::new(0)?;
        let subscription = listen(&process, memory.all(), 1, &log)?;
        let window = subscription.open(memory.all())?;
        let zap = ZapLater::new(process.users()?, memory.range(0..1))?;
        let fresh = window.fresh().ok_or(EINVAL)?;
        zap.start();
        fsleep(Delta::from_millis(100));
        assert_eq!(log.starts.load(Relaxed), 0);
        drop(fresh);
        wait_until(|| log.finishes.load(Relaxed) == 1)?;
        assert!(window.close().is_none());
        Ok(())
    }

    #[test]
    fn windows_by_themselves() -> Result {
        let mut windows = Windows::new();
        assert_eq!(windows.open(&(0x1000..0x2000)), None);
        enlarge(&mut windows.open, &mut KVec::with_capacity(3, GFP_KERNEL)?);
        let open = |windows: &mut Windows, range| windows.open(&range).ok_or(EINVAL);
        let a = open(&mut windows, 0x1000..0x2000)?;
        let b = open(&mut windows, 0x2000..0x8000)?;
        windows.invalidate(&(0x2000..0x3000));
        let c = open(&mut windows, 0x2000..0x3000)?;
        let before = windows.open.capacity();
        enlarge(
            &mut windows.open,
            &mut KVec::with_capacity(2 * before, GFP_KERNEL)?,
        );
        assert!(windows.is_fresh(a) && !windows.is_fresh(b));
        assert!(windows.close(a));
        assert!(!windows.close(a) && !windows.is_fresh(a));
        assert!(!windows.close(b));
        windows.invalidate(&(0x3000..0x4000));
        windows.invalidate(&(0..0x2000));
        assert!(windows.close(c));
        Ok(())
    }
}
