// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Interval notifiers: being told before a process's memory changes.
//!
//! A [`Subscription`] calls its owner back whenever something in a range of a process's addresses is
//! about to change. What was read from the page tables of the CPU may only be used if nothing has
//! changed since; a [`Window`] finds out, to the page, and [`super::hmm::Snapshot`] can't be read without.
//!
//! It may be used alone: nothing here knows what a device does with what it sees.
//!
//! C header: [`include/linux/mmu_notifier.h`](srctree/include/linux/mmu_notifier.h)

use super::{
    lock::new_mutex,
    vec::{
        enlarge,
        swap_remove, //
    }, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomPinned,
    ops::Range, //
};
use kernel::{
    bindings,
    container_of,
    error::to_result,
    mm::Mm,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            AtomicFlag,
            Full,
            Release, //
        },
        Arc,
        Mutex,
        MutexGuard, //
    },
    types::Opaque, //
};

/// Second passes that can be outstanding at a time. With more, the first pass does it all.
const FINISHES: usize = 4;

/// Why memory is about to change. A hint: moving memory is an unmap, too, and device memory that is
/// evicted is cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It is unmapped or moved.
    Unmap,
    /// The process is losing all of its memory.
    Release,
    /// It is migrated, by someone who named an owner of device memory.
    Migrate,
    /// Anything else: other pages, other permissions.
    Change,
}

/// A change that is about to happen.
///
/// # Invariants
///
/// It is one that the core told of, and has not happened yet.
pub struct Event<'a>(&'a bindings::mmu_notifier_range);

impl Event<'_> {
    /// The addresses.
    pub fn range(&self) -> Range<usize> {
        self.0.start..self.0.end
    }

    /// Whether the callback may sleep for long. It may take mutexes nonetheless, if it gets them.
    pub fn is_blockable(&self) -> bool {
        // SAFETY: A reference to a range is valid; the call only reads its flags.
        unsafe { bindings::mmu_notifier_range_blockable(self.0) }
    }

    /// Why.
    pub fn cause(&self) -> Cause {
        match self.0.event {
            bindings::mmu_notifier_event_MMU_NOTIFY_UNMAP => Cause::Unmap,
            bindings::mmu_notifier_event_MMU_NOTIFY_RELEASE => Cause::Release,
            bindings::mmu_notifier_event_MMU_NOTIFY_MIGRATE => Cause::Migrate,
            _ => Cause::Change,
        }
    }
}

/// What is told before memory changes.
///
/// Both calls may come while memory is being reclaimed: nothing may be allocated there, nor any lock
/// taken under which something is.
pub trait Invalidate: Send + Sync + 'static {
    /// What the first pass leaves to the second one.
    type Pending: Send;

    /// Stops all use of an event's range, or starts to. What is returned is passed to
    /// [`finish`](Self::finish) before anything changes, after the first pass of all who subscribed.
    ///
    /// All windows that meet the range are known to be stale by now, and no snapshot is being read.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if it would have to wait and the event is not [blockable](Event::is_blockable): then nothing
    /// changes. One that is blockable can't be refused.
    fn start(&self, event: &Event<'_>) -> Result<Option<Self::Pending>>;

    /// Waits until all use has stopped.
    fn finish(&self, pending: Self::Pending);
}

/// Room for what a first pass leaves.
///
/// # Invariants
///
/// Who has set `busy`, which was clear, may use `pending`, and the core `raw`, until he clears it.
#[repr(C)]
struct Finish<T: Invalidate> {
    raw: Opaque<bindings::mmu_interval_notifier_finish>,
    busy: AtomicFlag,
    pending: UnsafeCell<Option<T::Pending>>,
}

/// A callback for changes in a range of a process's addresses.
///
/// Dropping it waits for callbacks that are running: not under a lock they take, nor in one of them.
///
/// # Invariants
///
/// `raw` is registered, in this place, for `range` of `mm`, for as long as `self` lives.
#[pin_data(PinnedDrop)]
pub struct Subscription<T: Invalidate> {
    #[pin]
    raw: Opaque<bindings::mmu_interval_notifier>,
    mm: ARef<Mm>,
    range: Range<usize>,
    #[pin]
    windows: Mutex<Windows>,
    finishes: [Finish<T>; FINISHES],
    owner: T,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: Interval notifiers may be removed by any thread, `T` is `Send`, and so is a `T::Pending`.
unsafe impl<T: Invalidate> Send for Subscription<T> {}
// SAFETY: Interval notifiers may be used by any thread, and `T` is `Sync`. Of a `T::Pending`, which is only `Send`,
// there is never a reference but that of who has set `busy`.
unsafe impl<T: Invalidate> Sync for Subscription<T> {}

impl<T: Invalidate> Subscription<T> {
    const OPS: bindings::mmu_interval_notifier_ops = bindings::mmu_interval_notifier_ops {
        invalidate: None,
        invalidate_start: Some(Self::start),
        invalidate_finish: Some(Self::finish),
    };

    /// Subscribes to changes of `range` in a process's memory.
    ///
    /// Process context; sleeps, takes the mmap lock.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is empty; `ESRCH` if the process has ended; `ENOMEM`.
    pub fn new(mm: &Mm, range: Range<usize>, owner: T) -> Result<Arc<Self>> {
        if range.is_empty() {
            return Err(EINVAL);
        }
        let users = mm.mmget_not_zero().ok_or(ESRCH)?;
        let (start, length) = (range.start, range.len());

        Arc::pin_init(
            try_pin_init!(Self {
                mm: mm.into(),
                range,
                windows <- new_mutex!(Windows::new(), "mmu_notifier::Subscription::windows"),
                finishes: core::array::from_fn(|_| Finish {
                    raw: Opaque::zeroed(),
                    busy: AtomicFlag::new(false),
                    pending: UnsafeCell::new(None),
                }),
                owner,
                _pin: PhantomPinned,
                // INVARIANT: Registered as the last of all, so that nothing fails afterwards.
                //
                // SAFETY: The slot is valid and pinned. A callback that comes at once finds all else of `self`
                // initialised, and what `new` returns stays in its place until the notifier is removed, by
                // `drop`. `users` keeps the process's memory for the call; the core keeps its `mm`.
                raw <- Opaque::try_ffi_init(|slot| to_result(unsafe {
                    bindings::mmu_interval_notifier_insert(
                        slot, users.as_raw(), start, length, &Self::OPS,
                    )
                })),
            }),
            GFP_KERNEL,
        )
    }

    /// Whose memory it is.
    pub fn mm(&self) -> &Mm {
        &self.mm
    }

    /// What is called back.
    pub fn owner(&self) -> &T {
        &self.owner
    }

    /// Begins to look at a part of the range, with a view to use what is found.
    ///
    /// Process context, sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is empty, not made of whole pages, or not a part of what was subscribed to; `ENOMEM`.
    pub fn open(&self, range: Range<usize>) -> Result<Window<'_, T>> {
        let is_part = self.range.start <= range.start && range.end <= self.range.end;
        if range.is_empty() || !is_part || (range.start | range.end) % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        let mut room = KVec::new();
        loop {
            let wanted = {
                let mut windows = self.windows.lock();
                enlarge(&mut windows.open, &mut room);
                if let Some(number) = windows.open(&range) {
                    // INVARIANT: It was opened for this.
                    return Ok(Window {
                        subscription: self,
                        number,
                        range,
                    });
                }
                2 * windows.open.capacity().max(4)
            };
            room = KVec::with_capacity(wanted, GFP_KERNEL)?;
        }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::mmu_interval_notifier {
        self.raw.get()
    }

    /// # Safety
    ///
    /// `raw` must be the field of a `Self`, which lives for `'a`.
    unsafe fn from_raw<'a>(raw: *mut bindings::mmu_interval_notifier) -> &'a Self {
        // SAFETY: By the requirements; `Opaque` is transparent. There is no `&mut Self` meanwhile but the pinned one
        // of `drop`, which touches nothing but `raw`, of which it takes the address.
        unsafe { &*container_of!(Opaque::cast_from(raw), Self, raw) }
    }

    extern "C" fn start(
        raw: *mut bindings::mmu_interval_notifier,
        range: *const bindings::mmu_notifier_range,
        seq: usize,
        finish: *mut *mut bindings::mmu_interval_notifier_finish,
    ) -> bool {
        // SAFETY: Only subscriptions of this type have these operations, and they are removed, which waits for
        // their callbacks, before they go.
        let this = unsafe { Self::from_raw(raw) };

        // Before the windows are told: then who opens one is either found by this event, or waits for its
        // end before he looks.
        //
        // SAFETY: The notifier is valid, and this is its callback.
        unsafe { bindings::mmu_interval_set_seq(raw, seq) };

        // INVARIANT: This is where the core tells.
        //
        // SAFETY: The range is valid and constant during the call.
        let event = Event(unsafe { &*range });

        // Whoever reads what he saw through one of them is waited for; what he uses, `start` finds used.
        this.windows.lock().invalidate(&event.range());

        let pending = match this.owner.start(&event) {
            Ok(None) => return true,
            Ok(Some(pending)) => pending,
            Err(_) => return false,
        };
        match this.finishes.iter().find(|f| !f.busy.xchg(true, Full)) {
            None => this.owner.finish(pending),
            Some(slot) => {
                // SAFETY: We have set `busy`, so it is ours, by the type invariant.
                unsafe { *slot.pending.get() = Some(pending) };

                // SAFETY: `finish` is valid for writes during the call.
                unsafe { *finish = slot.raw.get() };
            }
        }
        true
    }

    extern "C" fn finish(raw: *mut bindings::mmu_interval_notifier_finish) {
        // SAFETY: The core has set the field to the subscription whose first pass returned `raw`, which it keeps
        // from being removed until this returns.
        let this = unsafe { Self::from_raw((*raw).notifier) };

        // SAFETY: What the first pass returned was that of a `Finish` of this subscription.
        let slot = unsafe { &*container_of!(Opaque::cast_from(raw), Finish<T>, raw) };

        // SAFETY: The first pass has set `busy` for us.
        let pending = unsafe { (*slot.pending.get()).take() };

        // INVARIANT: Neither is used any more; the core has taken `raw` off its list.
        slot.busy.store(false, Release);
        if let Some(pending) = pending {
            this.owner.finish(pending);
        }
    }
}

#[pinned_drop]
impl<T: Invalidate> PinnedDrop for Subscription<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is registered. Nobody uses it afterwards: this waits for callbacks
        // that are running.
        unsafe { bindings::mmu_interval_notifier_remove(self.raw.get()) };
    }
}

/// A range of a process's addresses that someone looks at.
struct Open {
    number: u64,
    start: usize,
    end: usize,
    /// Something in there has changed, or is about to.
    stale: bool,
}

/// The windows of a subscription.
///
/// They do what [`mmu_interval_read_retry()`] does, but to the page: a change elsewhere in a range of many
/// gigabytes makes nobody begin anew.
///
/// [`mmu_interval_read_retry()`]: srctree/include/linux/mmu_notifier.h
struct Windows {
    open: KVec<Open>,
    last: u64,
}

impl Windows {
    const fn new() -> Self {
        Self {
            open: KVec::new(),
            last: 0,
        }
    }

    /// Opens a window. `None` if there is no room.
    fn open(&mut self, range: &Range<usize>) -> Option<u64> {
        let number = self.last + 1;
        let open = Open {
            number,
            start: range.start,
            end: range.end,
            stale: false,
        };
        self.open.push_within_capacity(open).ok()?;
        self.last = number;
        Some(number)
    }

    fn invalidate(&mut self, range: &Range<usize>) {
        for open in &mut self.open {
            open.stale |= open.start < range.end && range.start < open.end;
        }
    }

    fn is_fresh(&self, number: u64) -> bool {
        let found = self.open.iter().find(|open| open.number == number);
        found.is_some_and(|open| !open.stale)
    }

    /// Closes a window. Says whether it was fresh.
    fn close(&mut self, number: u64) -> bool {
        let Some(at) = self.open.iter().position(|open| open.number == number) else {
            return false;
        };
        swap_remove(&mut self.open, at).is_some_and(|open| !open.stale)
    }
}

/// A range of a process's addresses that is being looked at; see [`Subscription::open`].
///
/// Opened before the first look, it says in the end whether anything has changed in its range since.
///
/// # Invariants
///
/// `number` is that of an open window of the subscription, for this range.
#[must_use]
pub struct Window<'a, T: Invalidate> {
    subscription: &'a Subscription<T>,
    number: u64,
    range: Range<usize>,
}

impl<'a, T: Invalidate> Window<'a, T> {
    /// Whose memory it is.
    pub fn subscription(&self) -> &'a Subscription<T> {
        self.subscription
    }

    /// The addresses.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Proof that nothing has changed in there, if that is so.
    pub fn fresh(&self) -> Option<Fresh<'_>> {
        let windows = self.subscription.windows.lock();
        // INVARIANT: Just found out.
        windows.is_fresh(self.number).then_some(Fresh(windows))
    }

    /// As [`fresh`](Self::fresh), and closes the window.
    pub fn close(self) -> Option<Fresh<'a>> {
        let (subscription, number) = (self.subscription, self.number);
        // It is closed here, under the lock that is kept.
        core::mem::forget(self);
        let mut windows = subscription.windows.lock();
        // INVARIANT: Just found out.
        windows.close(number).then_some(Fresh(windows))
    }
}

impl<T: Invalidate> Drop for Window<'_, T> {
    fn drop(&mut self) {
        self.subscription.windows.lock().close(self.number);
    }
}

/// Nothing has changed in a window since it was opened, nor will as long as this lives: who is about to change
/// something is told, and that waits for this.
///
/// So while this lives, nothing may be allocated, nor waited for what does, nor another window of the same
/// subscription be opened, asked or closed.
///
/// # Invariants
///
/// The window is not stale, as of when the lock was taken.
pub struct Fresh<'a>(#[expect(dead_code)] MutexGuard<'a, Windows>);

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
