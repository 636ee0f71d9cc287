// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of fences and of what waits for them.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_kapi_dma_fence)]
mod suite {
    use super::super::*;
    use crate::kapi::work::system;
    use kernel::{
        c_str,
        new_work,
        sync::atomic::Full,
        workqueue::{
            impl_has_work,
            Work,
            WorkItem, //
        }, //
    };

    struct Ops;

    impl FenceOps for Ops {
        const DRIVER_NAME: &'static CStr = c_str!("kunit");
        const TIMELINE_NAME: &'static CStr = c_str!("kunit-timeline");
    }

    fn publish(timeline: &Timeline<Ops>) -> Result<PendingFence<Ops>> {
        Ok(FenceReservation::new(GFP_KERNEL)?.publish(timeline))
    }

    /// Counts how often it was woken.
    struct Counter(Atomic<u32>);

    impl Counter {
        fn new() -> Result<Arc<Self>> {
            Ok(Arc::new(Self(Atomic::new(0)), GFP_KERNEL)?)
        }

        fn get(&self) -> u32 {
            self.0.load(Acquire)
        }
    }

    impl Wake for Counter {
        fn wake(this: &Arc<Self>) {
            this.0.fetch_add(1, Full);
        }
    }

    /// Signals a fence from a worker.
    #[pin_data]
    struct Signaller {
        #[pin]
        work: Work<Signaller>,
        pending: Option<PendingFence<Ops>>,
        delay_us: i64,
    }

    impl_has_work! {
        impl HasWork<Self> for Signaller { self.work }
    }

    impl WorkItem for Signaller {
        type Pointer = Pin<KBox<Self>>;

        fn run(mut this: Pin<KBox<Self>>) {
            kernel::time::delay::fsleep(kernel::time::Delta::from_micros(this.delay_us));
            if let Some(pending) = this.as_mut().project().pending.take() {
                pending.signal(Ok(()));
            }
        }
    }

    fn signal_later(pending: PendingFence<Ops>, delay_us: i64) -> Result {
        let signaller = KBox::pin_init(
            pin_init!(Signaller {
                work <- new_work!("Signaller::work"),
                pending: Some(pending),
                delay_us,
            }),
            GFP_KERNEL,
        )?;
        system().enqueue(signaller);
        Ok(())
    }

    #[test]
    fn stub_is_signaled() {
        let fence = Fence::signaled_stub();

        assert!(fence.is_signaled());
        assert!(fence.status() == Some(Ok(())));
        assert!(fence.wait(true, Some(0)).is_ok());
    }

    #[test]
    fn signal_without_error() -> Result {
        let timeline = Timeline::new();
        let pending = publish(&timeline)?;
        let fence = pending.fence();

        assert!(!fence.is_signaled());
        assert!(fence.status().is_none());

        pending.signal(Ok(()));

        assert!(fence.is_signaled());
        assert!(fence.status() == Some(Ok(())));
        Ok(())
    }

    #[test]
    fn signal_with_error() -> Result {
        let timeline = Timeline::new();
        let pending = publish(&timeline)?;
        let fence = pending.fence();

        pending.signal(Err(EIO));

        assert!(fence.is_signaled());
        assert!(fence.status() == Some(Err(EIO)));
        assert!(fence.wait(true, None).is_ok());
        Ok(())
    }

    #[test]
    fn dropped_obligation_is_an_error() -> Result {
        let timeline = Timeline::new();
        let pending = publish(&timeline)?;
        let fence = pending.fence();

        drop(pending);

        assert!(fence.status() == Some(Err(ECANCELED)));
        Ok(())
    }

    #[test]
    fn reservation_can_be_dropped() -> Result {
        drop(FenceReservation::<Ops>::new(GFP_KERNEL)?);
        Ok(())
    }

    #[test]
    fn timelines_are_ordered_and_distinct() -> Result {
        let timeline = Timeline::new();
        let other = Timeline::new();
        let fences = [
            publish(&timeline)?,
            publish(&timeline)?,
            publish(&timeline)?,
        ];
        let other_fence = publish(&other)?;

        for (i, fence) in fences.iter().enumerate() {
            assert_eq!(fence.fence().seqno(), i as u64 + 1);
            assert_eq!(fence.fence().context(), timeline.context());
        }
        assert_eq!(other_fence.fence().seqno(), 1);
        assert!(other_fence.fence().context() != timeline.context());
        Ok(())
    }

    #[test]
    fn fence_outlives_its_timeline() -> Result {
        let pending = publish(&Timeline::new())?;
        let fence = pending.fence();

        pending.signal(Ok(()));

        assert_eq!(fence.seqno(), 1);
        assert!(fence.is_signaled());
        Ok(())
    }

    #[test]
    fn wait_times_out() -> Result {
        let pending = publish(&Timeline::new())?;
        let fence = pending.fence();

        assert!(fence.wait(true, Some(0)) == Err(ETIMEDOUT));
        assert!(fence.wait(false, Some(2)) == Err(ETIMEDOUT));
        Ok(())
    }

    #[test]
    fn wait_for_another_thread() -> Result {
        let pending = publish(&Timeline::new())?;
        let fence = pending.fence();

        signal_later(pending, 5_000)?;

        assert!(fence.wait(false, None).is_ok());
        assert!(fence.status() == Some(Ok(())));
        Ok(())
    }

    #[test]
    fn waiters_are_woken_once() -> Result {
        let counter = Counter::new()?;
        let pending = publish(&Timeline::new())?;
        let mut first = FenceWaiter::new(pending.fence(), counter.clone(), GFP_KERNEL)?;
        let mut second = FenceWaiter::new(pending.fence(), counter.clone(), GFP_KERNEL)?;

        assert!(first.as_mut().arm());
        assert!(second.as_mut().arm());
        assert!(first.as_mut().arm());
        assert_eq!(counter.get(), 0);

        pending.signal(Ok(()));

        assert_eq!(counter.get(), 2);
        assert!(first.fence().is_signaled());
        assert!(first.as_mut().arm());
        drop(first);
        drop(second);
        assert_eq!(counter.get(), 2);
        Ok(())
    }

    #[test]
    fn waiter_after_the_signal_is_not_woken() -> Result {
        let counter = Counter::new()?;
        let pending = publish(&Timeline::new())?;
        let mut waiter = FenceWaiter::new(pending.fence(), counter.clone(), GFP_KERNEL)?;

        pending.signal(Ok(()));

        assert!(!waiter.as_mut().arm());
        assert!(!waiter.as_mut().arm());
        drop(waiter);
        assert_eq!(counter.get(), 0);
        Ok(())
    }

    #[test]
    fn dropped_waiter_is_not_woken() -> Result {
        let counter = Counter::new()?;
        let pending = publish(&Timeline::new())?;
        let mut armed = FenceWaiter::new(pending.fence(), counter.clone(), GFP_KERNEL)?;
        let unarmed = FenceWaiter::new(pending.fence(), counter.clone(), GFP_KERNEL)?;

        assert!(armed.as_mut().arm());
        drop(armed);
        drop(unarmed);
        pending.signal(Ok(()));

        assert_eq!(counter.get(), 0);
        // The waiters have not kept anything.
        assert!(Arc::into_unique_or_drop(counter).is_some());
        Ok(())
    }

    #[test]
    fn waiter_dropped_while_it_is_woken() -> Result {
        let timeline = Timeline::new();

        for i in 0..200 {
            let counter = Counter::new()?;
            let pending = publish(&timeline)?;
            let fence = pending.fence();
            let mut waiter = FenceWaiter::new(fence.clone(), counter.clone(), GFP_KERNEL)?;

            assert!(waiter.as_mut().arm());
            signal_later(pending, 0)?;
            kernel::time::delay::udelay(kernel::time::Delta::from_micros(i % 40));
            drop(waiter);

            // Whatever has happened by now, nothing else happens.
            let woken = counter.get();
            assert!(fence.wait(false, None).is_ok());
            assert!(woken <= 1);
            assert_eq!(counter.get(), woken);
        }
        Ok(())
    }

    #[test]
    fn signalling_sections_nest() -> Result {
        let pending = publish(&Timeline::new())?;
        let fence = pending.fence();

        let outer = SignallingSection::new();
        {
            let _inner = SignallingSection::new();
            pending.signal(Ok(()));
        }
        drop(outer);

        assert!(fence.is_signaled());
        // Lockdep knows that the section is over: this may sleep.
        assert!(fence.wait(false, None).is_ok());
        Ok(())
    }
}
