// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! DMA fences.
//!
//! A fence says that something asynchronous has ended, well or not. Whoever publishes one must
//! signal it, in bounded time and whatever happens; the types here make that an obligation which
//! can be moved but not lost:
//!
//! 1. [`FenceReservation::new`] allocates, and may fail;
//! 2. [`FenceReservation::publish`] makes it a fence of a [`Timeline`] and cannot fail;
//! 3. the resulting [`PendingFence`] is [signalled](PendingFence::signal) once; if it is dropped
//!    instead, the fence is signalled with `ECANCELED`.
//!
//! [`FenceWaiter`] calls back when a fence signals. [`SignallingSection`] tells lockdep which code
//! fences depend on.
//!
//! # Lifetime of the module
//!
//! A fence can outlive the module it comes from: it is found in syncobjs, sync files and dma-bufs.
//! The fences made here have neither a `release` nor a `wait` operation and use the lock inside of
//! `struct dma_fence`. `dma_fence_signal()` therefore detaches them from their operations, and
//! `dma_fence_free()`, which is not part of any module, frees them. Who read the operations before
//! did so within an RCU read-side critical section, and a module's text and data are only freed a
//! grace period after its exit function. So a module can be unloaded safely as soon as all its
//! [`PendingFence`]s are gone, and all its [`FenceWaiter`]s. (As with everything that the kernel
//! calls back, leaking one of them with [`core::mem::forget`] and then unloading the module is not
//! safe.)
//!
//! C header: [`include/linux/dma-fence.h`](srctree/include/linux/dma-fence.h)

use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    alloc::Flags,
    bindings,
    container_of,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            Acquire,
            Atomic,
            AtomicFlag,
            Relaxed,
            Release, //
        },
        rcu,
        Arc, //
    },
    time::Jiffies,
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};

/// Longest time that can be waited, which `schedule_timeout()` takes for no limit.
const MAX_SCHEDULE_TIMEOUT: isize = isize::MAX;

/// A DMA fence.
///
/// # Invariants
///
/// `self.0` is an initialized `struct dma_fence` with a non-zero reference count.
#[repr(transparent)]
pub struct Fence(Opaque<bindings::dma_fence>);

// SAFETY: A `struct dma_fence` is reference counted and can be released from any thread.
unsafe impl Send for Fence {}

// SAFETY: All methods of a shared `Fence` are synchronized by `struct dma_fence` itself.
unsafe impl Sync for Fence {}

// SAFETY: `dma_fence_get()` and `dma_fence_put()` maintain the reference count of a
// `struct dma_fence`, which lives until it is zero.
unsafe impl AlwaysRefCounted for Fence {
    fn inc_ref(&self) {
        // SAFETY: The shared reference guarantees that the reference count is not zero.
        unsafe { bindings::dma_fence_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The safety requirements guarantee that the reference count is not zero.
        unsafe { bindings::dma_fence_put(obj.cast().as_ptr()) };
    }
}

impl Fence {
    /// Creates a reference to a [`Fence`] from a raw pointer.
    ///
    /// # Safety
    ///
    /// For the duration of `'a`, `ptr` must point at an initialized `struct dma_fence` whose
    /// reference count is not zero.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::dma_fence) -> &'a Self {
        // INVARIANT: The fence is valid by the safety requirements of this function.
        //
        // CAST: `Self` is a transparent wrapper of `struct dma_fence`.
        //
        // SAFETY: The pointer is valid for `'a` by the safety requirements of this function.
        unsafe { &*ptr.cast() }
    }

    /// Takes over a reference that C code has given away.
    ///
    /// # Safety
    ///
    /// `ptr` must point at an initialized `struct dma_fence`, and the caller must own one count of
    /// its references, which it gives to the returned value.
    pub(super) unsafe fn adopt(ptr: NonNull<bindings::dma_fence>) -> ARef<Self> {
        // SAFETY: The fence is valid, and the caller gives us its reference.
        unsafe { ARef::from_raw(ptr.cast()) }
    }

    /// Returns a raw pointer to the underlying `struct dma_fence`.
    pub fn as_raw(&self) -> *mut bindings::dma_fence {
        self.0.get()
    }

    /// Returns a fence that has been signalled.
    pub fn signaled_stub() -> ARef<Self> {
        // SAFETY: `dma_fence_get_stub()` has no requirements.
        let ptr = unsafe { bindings::dma_fence_get_stub() };

        // SAFETY: `dma_fence_get_stub()` never returns `NULL`, but a reference to a static fence
        // that was initialized while the kernel booted. The reference is ours.
        unsafe { Self::adopt(NonNull::new_unchecked(ptr)) }
    }

    /// Returns whether the fence has been signalled.
    ///
    /// Can be called in any context.
    pub fn is_signaled(&self) -> bool {
        // SAFETY: The fence is valid by the type invariant.
        unsafe { bindings::dma_fence_is_signaled(self.as_raw()) }
    }

    /// Returns how what the fence stands for has ended, or `None` if it has not been signalled.
    ///
    /// Can be called in any context.
    pub fn status(&self) -> Option<Result> {
        // SAFETY: The fence is valid by the type invariant.
        match unsafe { bindings::dma_fence_get_status(self.as_raw()) } {
            0 => None,
            errno if errno < 0 => Some(Err(Error::from_errno(errno))),
            _ => Some(Ok(())),
        }
    }

    /// Waits until the fence has been signalled.
    ///
    /// [`Ok`] says that it has, not how; see [`status`](Self::status). `None` waits without a limit;
    /// a wait that is not interruptible and has no limit must be for fences of a driver that is
    /// known to signal them.
    ///
    /// Sleeps.
    ///
    /// # Errors
    ///
    /// - `ERESTARTSYS` if `interruptible`, and a signal is pending;
    /// - `ETIMEDOUT` if the time is over.
    pub fn wait(&self, interruptible: bool, timeout: Option<Jiffies>) -> Result {
        let timeout = timeout.map_or(MAX_SCHEDULE_TIMEOUT, |jiffies| {
            isize::try_from(jiffies).unwrap_or(MAX_SCHEDULE_TIMEOUT)
        });

        // SAFETY: The fence is valid by the type invariant, and the timeout is not negative.
        let ret =
            unsafe { bindings::dma_fence_wait_timeout(self.as_raw(), interruptible, timeout) };

        match ret {
            0 => Err(ETIMEDOUT),
            ret if ret > 0 => Ok(()),
            ret if ret == ERESTARTSYS.to_errno() as isize => Err(ERESTARTSYS),
            // Fences with a `wait` operation of their own may return other errors, which are to be
            // taken for a signal.
            _ => Ok(()),
        }
    }

    /// Returns the position of the fence within its [`context`](Self::context).
    pub fn seqno(&self) -> u64 {
        // SAFETY: The fence is valid by the type invariant, and this field is constant.
        unsafe { (*self.as_raw()).seqno }
    }

    /// Returns the number of the context the fence belongs to; fences of one context are ordered.
    pub fn context(&self) -> u64 {
        // SAFETY: The fence is valid by the type invariant, and this field is constant.
        unsafe { (*self.as_raw()).context }
    }
}

/// What is known of the fences of a driver.
///
/// Both names show up in debugfs and in trace events.
pub trait FenceOps: 'static + Send + Sync {
    /// Name of the driver.
    const DRIVER_NAME: &'static CStr;

    /// Name of the timelines.
    const TIMELINE_NAME: &'static CStr;
}

/// The C operations for a [`FenceOps`].
struct OpsTable<O>(PhantomData<O>);

impl<O: FenceOps> OpsTable<O> {
    /// No `release` and no `wait`: see the [module](self) on why.
    const OPS: bindings::dma_fence_ops = bindings::dma_fence_ops {
        get_driver_name: Some(Self::driver_name),
        get_timeline_name: Some(Self::timeline_name),
        ..pin_init::zeroed()
    };

    extern "C" fn driver_name(_fence: *mut bindings::dma_fence) -> *const c_char {
        O::DRIVER_NAME.as_char_ptr()
    }

    extern "C" fn timeline_name(_fence: *mut bindings::dma_fence) -> *const c_char {
        O::TIMELINE_NAME.as_char_ptr()
    }
}

/// A context: fences that are signalled in the order they were published.
///
/// Numbers are given by [`FenceReservation::publish`]. It is up to its callers that fences are
/// signalled in the same order; usually a lock is held while a fence is published and put into the
/// queue that it will be signalled from.
pub struct Timeline<O: FenceOps> {
    context: u64,
    last: Atomic<u64>,
    _ops: PhantomData<fn() -> O>,
}

impl<O: FenceOps> Timeline<O> {
    /// Creates a timeline without fences.
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            // SAFETY: `dma_fence_context_alloc()` only wants a non-zero number.
            context: unsafe { bindings::dma_fence_context_alloc(1) },
            last: Atomic::new(0),
            _ops: PhantomData,
        }
    }

    /// Returns the number of the context.
    pub fn context(&self) -> u64 {
        self.context
    }

    /// Returns the next sequence number; the first is 1.
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Relaxed).wrapping_add(1)
    }
}

/// The memory of a fence that has not been published.
///
/// So that submitting work has nothing left that can fail once its fence can be seen.
pub struct FenceReservation<O: FenceOps> {
    memory: KBox<MaybeUninit<bindings::dma_fence>>,
    _ops: PhantomData<fn() -> O>,
}

// SAFETY: This is memory that nobody else knows of.
unsafe impl<O: FenceOps> Send for FenceReservation<O> {}

// SAFETY: A shared `FenceReservation` does not allow anything.
unsafe impl<O: FenceOps> Sync for FenceReservation<O> {}

impl<O: FenceOps> FenceReservation<O> {
    /// Allocates the memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub fn new(flags: Flags) -> Result<Self> {
        Ok(Self {
            memory: KBox::new_uninit(flags)?,
            _ops: PhantomData,
        })
    }

    /// Makes the reservation the next fence of a timeline.
    ///
    /// Callers must serialise this with what decides on the order of signalling; see [`Timeline`].
    pub fn publish(self, timeline: &Timeline<O>) -> PendingFence<O> {
        let ptr = KBox::into_raw(self.memory).cast::<bindings::dma_fence>();

        // SAFETY:
        // - `ptr` is valid for writes, and nobody else knows it.
        // - The operations are a constant of this module, and no longer referred to once the fence
        //   has been signalled and a grace period has passed.
        // - Without a lock given, the fence uses its own.
        unsafe {
            bindings::dma_fence_init64(
                ptr,
                const { &OpsTable::<O>::OPS },
                core::ptr::null_mut(),
                timeline.context,
                timeline.next(),
            )
        };

        // SAFETY: The pointer comes from a box, so it isn't `NULL`; the fence is initialized, with a
        // reference count of one, which is ours. Its memory comes from `kmalloc()`, so
        // `dma_fence_free()` can free it.
        let fence = unsafe { Fence::adopt(NonNull::new_unchecked(ptr)) };

        // INVARIANT: The fence was just made with the operations of `O`, and nobody else can signal
        // it.
        PendingFence {
            fence,
            _ops: PhantomData,
        }
    }
}

/// The obligation to signal a fence, exactly once.
///
/// Dropping it signals the fence with `ECANCELED`.
///
/// # Invariants
///
/// `fence` was made by [`FenceReservation::publish`] and has not been signalled.
#[must_use = "dropping it signals the fence with an error"]
pub struct PendingFence<O: FenceOps> {
    fence: ARef<Fence>,
    _ops: PhantomData<fn() -> O>,
}

impl<O: FenceOps> PendingFence<O> {
    /// Returns the fence, for others to wait for.
    pub fn fence(&self) -> ARef<Fence> {
        self.fence.clone()
    }

    /// Signals the fence.
    ///
    /// Runs the callbacks of all its waiters, with interrupts disabled. Can be called in any
    /// context.
    pub fn signal(self, result: Result) {
        let this = ManuallyDrop::new(self);

        // SAFETY: `this` is neither dropped nor used again.
        let fence = unsafe { core::ptr::read(&this.fence) };

        Self::complete(&fence, result);
    }

    /// Signals a fence that has not been signalled.
    fn complete(fence: &Fence, result: Result) {
        if let Err(e) = result {
            // SAFETY: The fence is valid; it has not been signalled, so nobody looks at its error
            // yet, and only we set it.
            unsafe { bindings::dma_fence_set_error(fence.as_raw(), e.to_errno()) };
        }

        // SAFETY: The fence is valid.
        unsafe { bindings::dma_fence_signal(fence.as_raw()) };
    }
}

impl<O: FenceOps> Drop for PendingFence<O> {
    fn drop(&mut self) {
        Self::complete(&self.fence, Err(ECANCELED));
    }
}

/// Something that can be woken by a [`FenceWaiter`].
pub trait Wake: Send + Sync + 'static {
    /// A fence was signalled.
    ///
    /// Called with the lock of the fence held and interrupts disabled. It must not sleep, must not
    /// touch the fence or another fence's lock, hence not signal any, and must not drop the
    /// [`FenceWaiter`] it is called by. Normally it queues work.
    fn wake(this: &Arc<Self>);
}

/// A callback for when a fence is signalled.
///
/// # Invariants
///
/// If `armed`, `dma_fence_add_callback()` has succeeded for `fence` and `cb` once. `done` is set when
/// the callback has run, as the last thing it does.
#[pin_data(PinnedDrop)]
pub struct FenceWaiter<T: Wake> {
    #[pin]
    cb: Opaque<bindings::dma_fence_cb>,
    fence: ARef<Fence>,
    target: Arc<T>,
    armed: bool,
    done: AtomicFlag,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A callback can be added and removed on any thread. `Arc<T>` can be sent, as `Wake` requires
// `T: Send + Sync`.
unsafe impl<T: Wake> Send for FenceWaiter<T> {}

// SAFETY: A shared `FenceWaiter` only gives access to its fence, which is `Sync`.
unsafe impl<T: Wake> Sync for FenceWaiter<T> {}

impl<T: Wake> FenceWaiter<T> {
    /// Allocates a waiter. Nothing happens before it is [armed](Self::arm).
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub fn new(fence: ARef<Fence>, target: Arc<T>, flags: Flags) -> Result<Pin<KBox<Self>>> {
        // INVARIANT: The waiter is not armed.
        KBox::pin_init::<Error>(
            try_pin_init!(Self {
                cb: Opaque::uninit(),
                fence,
                target,
                armed: false,
                done: AtomicFlag::new(false),
                _pin: PhantomPinned,
            }),
            flags,
        )
    }

    /// Returns the fence.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Installs the callback.
    ///
    /// Returns `true` if [`Wake::wake`] has been or will be called, which happens exactly once unless
    /// the waiter is dropped before. Returns `false` if the fence has been signalled already; then
    /// it is not called. Calling this again has no effect, and returns `true` if it did before.
    pub fn arm(self: Pin<&mut Self>) -> bool {
        // SAFETY: Nothing is moved out of `this`.
        let this = unsafe { self.get_unchecked_mut() };

        if this.armed {
            return true;
        }

        // SAFETY: The fence is valid. `cb` is pinned, and not installed by the type invariant. It
        // stays there until it has been called or removed, which `drop()` ensures.
        let ret = unsafe {
            bindings::dma_fence_add_callback(
                this.fence.as_raw(),
                this.cb.get(),
                Some(Self::callback),
            )
        };

        // INVARIANT: Zero says that the callback has been added.
        this.armed = ret == 0;
        this.armed
    }

    /// The callback of the `struct dma_fence_cb`.
    extern "C" fn callback(_fence: *mut bindings::dma_fence, cb: *mut bindings::dma_fence_cb) {
        // SAFETY: `cb` was given to `dma_fence_add_callback()` by `arm()`, hence it is in a
        // `FenceWaiter<T>`.
        let this = unsafe { container_of!(Opaque::cast_from(cb), Self, cb) };

        // SAFETY: The waiter can't be freed before `done` is set or this function has returned; and
        // `target` is never written.
        T::wake(unsafe { &(*this).target });

        // SAFETY: As above. The waiter may be freed as soon as this is done, and isn't used then.
        unsafe { &(*this).done }.store(true, Release);
    }
}

#[pinned_drop]
impl<T: Wake> PinnedDrop for FenceWaiter<T> {
    fn drop(self: Pin<&mut Self>) {
        if !self.armed {
            return;
        }

        // The lock of a fence may be its driver's, which keeps it for a grace period after the
        // signal only.
        let _guard = rcu::read_lock();

        // Pairs with the release in `callback()`.
        if !self.done.load(Acquire) {
            // SAFETY: The fence is valid, and `cb` was added to it. This waits for a callback that
            // is running, which holds the lock of the fence.
            unsafe { bindings::dma_fence_remove_callback(self.fence.as_raw(), self.cb.get()) };
        }
    }
}

/// A section of code that fences depend on.
///
/// Everything on the way from where a fence can be seen to where it is signalled belongs into such a
/// section. Lockdep, if enabled, then complains about what must not happen there: allocations that
/// may wait for reclaim, and locks that are held elsewhere while a fence is waited for. Sections
/// nest.
#[must_use = "the section ends when this is dropped"]
pub struct SignallingSection {
    cookie: bool,
    _not_send: NotThreadSafe,
}

impl SignallingSection {
    /// Begins a section.
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            // SAFETY: Can be called in any context.
            cookie: unsafe { bindings::dma_fence_begin_signalling() },
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for SignallingSection {
    fn drop(&mut self) {
        // SAFETY: The cookie comes from `dma_fence_begin_signalling()` on this thread.
        unsafe { bindings::dma_fence_end_signalling(self.cookie) };
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
