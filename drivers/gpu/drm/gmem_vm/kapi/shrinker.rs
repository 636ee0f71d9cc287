// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Being asked to give up host memory that is not needed.
//!
//! C header: [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h)

use core::ptr::NonNull;
use kernel::{
    bindings,
    ffi::c_ulong,
    prelude::*,
    sync::Arc, //
};

/// What can be given up.
///
/// Both calls come while memory is being reclaimed: nothing may be allocated there, nor any lock taken under which
/// something is.
pub trait Shrink: Send + Sync + 'static {
    /// How many objects there are.
    fn count(&self) -> usize;

    /// Gives up to so many objects up. Returns how many.
    fn scan(&self, most: usize) -> usize;
}

/// Asks a [`Shrink`] as long as it lives. Dropping it waits for calls that are running: process context.
///
/// # Invariants
///
/// `raw` is registered, and its private data is what `of` points to.
pub struct Shrinker<T: Shrink> {
    raw: NonNull<bindings::shrinker>,
    _of: Arc<T>,
}

// SAFETY: Shrinkers may be freed by any thread; the rest is an `Arc` of what is `Send` and `Sync`.
unsafe impl<T: Shrink> Send for Shrinker<T> {}
// SAFETY: There is nothing to be done by a shared reference.
unsafe impl<T: Shrink> Sync for Shrinker<T> {}

impl<T: Shrink> Shrinker<T> {
    /// Begins to ask. The name is for debugfs. Process context, sleeps; `ENOMEM`.
    pub fn new(name: &CStr, of: Arc<T>) -> Result<Self> {
        // SAFETY: Both strings end with a zero, and the first one takes the second as its only argument.
        let raw = unsafe { bindings::shrinker_alloc(0, c"%s".as_char_ptr(), name.as_char_ptr()) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;

        // SAFETY: It is valid, and not registered yet, so that it is ours. What the callbacks are given lives until it
        // is freed, by `drop`.
        unsafe {
            (*raw.as_ptr()).count_objects = Some(Self::count);
            (*raw.as_ptr()).scan_objects = Some(Self::scan);
            (*raw.as_ptr()).seeks = bindings::DEFAULT_SEEKS as i32;
            (*raw.as_ptr()).private_data = core::ptr::from_ref(&*of).cast_mut().cast();
            bindings::shrinker_register(raw.as_ptr());
        }
        // INVARIANT: It was just registered.
        Ok(Self { raw, _of: of })
    }

    extern "C" fn count(
        raw: *mut bindings::shrinker,
        _control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: Set by `new`, and valid as long as there are calls.
        let of = unsafe { &*(*raw).private_data.cast::<T>() };

        match of.count() {
            0 => EMPTY,
            count => count,
        }
    }

    extern "C" fn scan(
        raw: *mut bindings::shrinker,
        control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: As above; the core gives a valid control.
        let (of, most) = unsafe { (&*(*raw).private_data.cast::<T>(), (*control).nr_to_scan) };

        match of.scan(most) {
            0 => STOP,
            count => count,
        }
    }
}

/// `SHRINK_STOP`, of which there are no bindings.
const STOP: c_ulong = c_ulong::MAX;
/// `SHRINK_EMPTY`.
const EMPTY: c_ulong = c_ulong::MAX - 1;

impl<T: Shrink> Drop for Shrinker<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; waits until nobody calls it any more.
        unsafe { bindings::shrinker_free(self.raw.as_ptr()) };
    }
}
