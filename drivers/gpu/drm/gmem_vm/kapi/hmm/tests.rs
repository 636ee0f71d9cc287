// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of snapshots of a process's memory.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_kapi_hmm)]
mod suite {
    use super::super::{
        super::{
            mmu_notifier::Event,
            testing::{
                peek,
                zap,
                Local,
                Manners,
                Memory,
                Process, //
            }, //
        },
        *, //
    };
    use kernel::sync::Arc;

    /// Uses nothing, so has nothing to stop.
    struct Quiet;

    impl Invalidate for Quiet {
        type Pending = ();

        fn start(&self, _event: &Event<'_>) -> Result<Option<()>> {
            Ok(None)
        }

        fn finish(&self, _pending: ()) {}
    }

    fn subscribe(process: &Process) -> Result<Arc<Subscription<Quiet>>> {
        Subscription::new(process, 0..usize::MAX & !(PAGE_SIZE - 1), Quiet)
    }

    /// What is at each page of some memory: where, and whether it can be written.
    struct Seen(KVec<Option<(Place, bool)>>);

    impl Seen {
        fn new(pages: usize) -> Result<Self> {
            Ok(Self(KVec::from_elem(None, pages, GFP_KERNEL)?))
        }

        /// Allocates nothing: that must not be while the snapshot is valid.
        fn read(&mut self, valid: &Valid<'_, '_>, memory: &Memory<'_>) {
            self.0.fill(None);
            for run in valid.runs() {
                let first = (run.address - memory.address(0)) / PAGE_SIZE;
                for page in 0..run.size / PAGE_SIZE {
                    let place = match run.place {
                        Place::Host(phys) => Place::Host(phys + (page * PAGE_SIZE) as u64),
                        Place::Device(pfn) => Place::Device(pfn + page),
                    };
                    self.0[first + page] = Some((place, run.write));
                }
            }
        }

        /// What a page in the host has, and whether it can be written.
        fn host(&self, page: usize) -> Option<(u64, bool)> {
            match self.0[page]? {
                (Place::Host(phys), write) => Some((peek(phys), write)),
                _ => None,
            }
        }
    }

    /// Takes a snapshot of all, wants a part, and says what there is.
    fn see(
        subscription: &Subscription<Quiet>,
        memory: &Memory<'_>,
        wanted: Range<usize>,
        want: Want,
    ) -> Result<Seen> {
        let mut buffer = Buffer::new();
        let mut seen = Seen::new(memory.all().len() / PAGE_SIZE)?;
        // Making it be there may be a change itself.
        for _ in 0..3 {
            let window = subscription.open(memory.all())?;
            let wanted = memory.range(wanted.clone());
            let snapshot = Snapshot::take(window, &mut buffer, wanted, want, core::ptr::null())?;
            let Some(valid) = snapshot.look() else {
                continue;
            };
            seen.read(&valid, memory);
            drop(valid);
            // It is still so.
            assert!(snapshot.validate().is_some());
            return Ok(seen);
        }
        Err(EAGAIN)
    }

    #[test]
    fn what_is_there_is_seen() -> Result {
        let process = Process::new()?;
        let memory = process.map(8)?;
        let subscription = subscribe(&process)?;
        memory.write(0, 11)?;
        memory.write(1, 12)?;
        assert_eq!(memory.read(2)?, 0);
        memory.write(4, 15)?;
        let seen = see(&subscription, &memory, 0..0, Want::Look)?;
        assert_eq!(seen.host(0), Some((11, true)));
        assert_eq!(seen.host(1), Some((12, true)));
        // All zeroes, as long as nobody writes.
        assert_eq!(seen.host(2), Some((0, false)));
        assert_eq!(seen.host(4), Some((15, true)));
        // Nobody asked for it.
        for page in [3, 5, 6, 7] {
            assert_eq!(seen.0[page], None);
        }
        Ok(())
    }

    #[test]
    fn what_is_wanted_is_there() -> Result {
        let process = Process::new()?;
        let memory = process.map(8)?;
        let subscription = subscribe(&process)?;
        memory.write(0, 11)?;
        let seen = see(&subscription, &memory, 1..3, Want::Read)?;
        assert_eq!(seen.host(0), Some((11, true)));
        assert_eq!(seen.host(1), Some((0, false)));
        assert_eq!(seen.host(2), Some((0, false)));
        assert_eq!(seen.0[3], None);
        let seen = see(&subscription, &memory, 2..4, Want::Write)?;
        assert_eq!(seen.host(1), Some((0, false)));
        assert_eq!(seen.host(2), Some((0, true)));
        assert_eq!(seen.host(3), Some((0, true)));
        assert_eq!(seen.0[4], None);
        Ok(())
    }

    #[test]
    fn what_cannot_be_had() -> Result {
        let process = Process::new()?;
        let memory = process.map(8)?;
        let read_only = process.map_read_only(4)?;
        let nothing = process.map_nothing(4)?;
        let subscription = subscribe(&process)?;
        memory.fill()?;
        memory.unmap(2..4)?;
        let fails = |memory, wanted, want, error| {
            see(&subscription, memory, wanted, want).is_err_and(|e| e == error)
        };
        assert!(fails(&memory, 1..3, Want::Read, EFAULT));
        assert!(fails(&memory, 3..4, Want::Write, EFAULT));
        // A hole in what is not wanted is just that.
        let seen = see(&subscription, &memory, 4..8, Want::Write)?;
        assert_eq!((seen.0[2], seen.0[3]), (None, None));
        assert!(seen.host(1).is_some() && seen.host(4).is_some());
        assert!(fails(&read_only, 0..1, Want::Write, EPERM));
        let seen = see(&subscription, &read_only, 0..1, Want::Read)?;
        assert_eq!(seen.host(0), Some((0, false)));
        assert!(fails(&nothing, 0..1, Want::Read, EFAULT));
        assert!(see(&subscription, &nothing, 0..0, Want::Look).is_ok());
        Ok(())
    }

    #[test]
    fn a_process_that_has_ended() -> Result {
        let process = Process::new()?;
        let subscription = subscribe(&process)?;
        process.end();
        let mut buffer = Buffer::new();
        let window = subscription.open(0..PAGE_SIZE)?;
        let taken = Snapshot::take(window, &mut buffer, 0..0, Want::Look, core::ptr::null());
        assert!(taken.is_err_and(|e| e == ESRCH));
        Ok(())
    }

    #[test]
    fn a_stale_snapshot_is_refused() -> Result {
        let process = Process::new()?;
        let users = process.users()?;
        let memory = process.map_filled(16)?;
        let subscription = subscribe(&process)?;
        let mut buffer = Buffer::new();
        let mut other = Buffer::new();
        for pages in [4..8, 4..5, 7..8, 0..5, 6..16, 0..16] {
            let look = |buffer| {
                Snapshot::take(
                    subscription.open(memory.range(4..8))?,
                    buffer,
                    0..0,
                    Want::Look,
                    core::ptr::null(),
                )
            };
            let one = look(&mut buffer)?;
            let two = look(&mut other)?;
            assert!(one.look().is_some());
            zap(&users, memory.range(pages))?;
            assert!(one.look().is_none());
            assert!(one.validate().is_none());
            assert!(two.validate().is_none());
            memory.fill()?;
        }
        Ok(())
    }

    #[test]
    fn changes_elsewhere_do_not_matter() -> Result {
        let process = Process::new()?;
        let users = process.users()?;
        let memory = process.map_filled(16)?;
        let subscription = subscribe(&process)?;
        let mut buffer = Buffer::new();
        let snapshot = Snapshot::take(
            subscription.open(memory.range(4..8))?,
            &mut buffer,
            memory.range(4..8),
            Want::Write,
            core::ptr::null(),
        )?;
        zap(&users, memory.range(0..4))?;
        zap(&users, memory.range(8..9))?;
        memory.unmap(12..14)?;
        assert!(snapshot.look().is_some());
        let valid = snapshot.validate().ok_or(EAGAIN)?;
        assert_eq!(
            valid.runs().map(|run| run.size).sum::<usize>(),
            4 * PAGE_SIZE
        );
        assert_eq!(
            valid.runs().next().map(|run| run.address),
            Some(memory.address(4))
        );
        Ok(())
    }

    #[test]
    fn device_memory_is_seen_by_its_owner_only() -> Result {
        let process = Process::new()?;
        let pages = Local::pages(64, Manners::default())?;
        let memory = process.map_filled(8)?;
        let subscription = subscribe(&process)?;
        let moved = Local::move_here(&pages, &process, memory.range(2..5), 16, |_| true)?;
        assert_eq!(moved.pages, 3);
        let mut buffer = Buffer::new();
        let snapshot = Snapshot::take(
            subscription.open(memory.all())?,
            &mut buffer,
            memory.all(),
            Want::Write,
            pages.id(),
        )?;
        {
            let valid = snapshot.look().ok_or(EAGAIN)?;
            let run = valid
                .runs()
                .find(|run| matches!(run.place, Place::Device(_)));
            let expected = PageRun {
                address: memory.address(2),
                size: 3 * PAGE_SIZE,
                place: Place::Device(pages.pfn(16)),
                write: true,
            };
            assert_eq!(run, Some(expected));
        }
        assert_eq!(pages.owner().touched(), 0);
        // For others they are brought back.
        let seen = see(&subscription, &memory, 0..8, Want::Read)?;
        for page in 0..8 {
            assert!(seen.host(page).is_some());
        }
        assert!(pages.owner().touched() > 0);
        assert!(snapshot.validate().is_none());
        assert!(memory.check());
        Ok(())
    }

    #[test]
    fn a_part_of_a_huge_folio_of_the_device() -> Result {
        let process = Process::new()?;
        let pages = Local::pages(1024, Manners::default())?;
        let memory = process.map(512)?;
        let subscription = subscribe(&process)?;
        let moved = Local::move_here(&pages, &process, memory.all(), 512, |_| true)?;
        assert_eq!(moved.made, 512);
        let mut buffer = Buffer::new();
        for (first, count) in [(0, 512), (0, 1), (100, 7), (511, 1), (256, 256)] {
            let range = memory.range(first..first + count);
            let expected = PageRun {
                address: range.start,
                size: range.len(),
                place: Place::Device(pages.pfn(512 + first)),
                write: true,
            };
            for want in [Want::Look, Want::Read, Want::Write] {
                let window = subscription.open(range.clone())?;
                let snapshot =
                    Snapshot::take(window, &mut buffer, range.clone(), want, pages.id())?;
                let run = snapshot.validate().and_then(|valid| valid.runs().next());
                assert_eq!(run, Some(expected));
            }
        }
        Ok(())
    }

    #[test]
    fn runs_are_as_long_as_can_be() -> Result {
        let pages = Local::pages(64, Manners::default())?;
        let entry = |page, flags| pages.pfn(page) | VALID | flags;
        // As if from large pages of the CPU.
        let order = 1 << bindings::hmm_pfn_flags_HMM_PFN_ORDER_SHIFT;
        let pfns = [
            0,
            entry(1, WRITE),
            entry(2, WRITE | order),
            entry(3, 0),
            entry(4, 0),
            0,
            entry(5, 0),
            entry(7, 0),
            entry(6, WRITE),
            0,
        ];
        let mut runs = Runs {
            pfns: &pfns,
            address: 0,
        };
        let run = |at, count, page, write| {
            Some(PageRun {
                address: at * PAGE_SIZE,
                size: count * PAGE_SIZE,
                place: Place::Device(pages.pfn(page)),
                write,
            })
        };
        assert_eq!(runs.next(), run(1, 2, 1, true));
        assert_eq!(runs.next(), run(3, 2, 3, false));
        assert_eq!(runs.next(), run(6, 1, 5, false));
        assert_eq!(runs.next(), run(7, 1, 7, false));
        assert_eq!(runs.next(), run(8, 1, 6, true));
        assert_eq!(runs.next(), None);
        assert_eq!(runs.next(), None);
        Ok(())
    }
}
