// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! As much of the kernel's prelude as the pure logic uses, with allocations that can be made to
//! fail.

pub use kunit_shim::kunit_tests;

use std::{
    cell::Cell,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

/// An errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error(i32);

/// No memory.
pub const ENOMEM: Error = Error(12);
/// Invalid argument.
pub const EINVAL: Error = Error(22);
/// Out of range.
pub const ERANGE: Error = Error(34);
/// No space.
pub const ENOSPC: Error = Error(28);

/// The kernel's result.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// How an allocation may get its memory; of no meaning here.
#[derive(Clone, Copy)]
pub struct Flags;

/// May sleep.
pub const GFP_KERNEL: Flags = Flags;
/// May not.
pub const GFP_ATOMIC: Flags = Flags;

/// Counts what the kernel would warn of: no test may cause it.
#[macro_export]
macro_rules! warn_on {
    ($condition:expr) => {
        if $condition {
            $crate::prelude::count_warning();
        }
    };
}

thread_local! {
    static FAIL_AFTER: Cell<Option<usize>> = const { Cell::new(None) };
    static WARNINGS: Cell<usize> = const { Cell::new(0) };
}

/// Lets this thread's allocations fail after so many, or not at all.
pub fn fail_after(allocations: Option<usize>) {
    FAIL_AFTER.set(allocations);
}

/// How often this thread was to be warned of something.
pub fn warnings() -> usize {
    WARNINGS.get()
}

#[doc(hidden)]
pub fn count_warning() {
    WARNINGS.set(WARNINGS.get() + 1);
}

fn allocate() -> Result {
    match FAIL_AFTER.get() {
        Some(0) => return Err(ENOMEM),
        Some(n) => FAIL_AFTER.set(Some(n - 1)),
        None => (),
    }
    Ok(())
}

/// A box whose allocation can fail.
pub struct KBox<T>(Box<T>);

impl<T> KBox<T> {
    /// Allocates.
    pub fn new(value: T, _flags: Flags) -> Result<Self> {
        allocate()?;
        Ok(Self(Box::new(value)))
    }

    /// Allocates, for a value that comes later.
    pub fn new_uninit(_flags: Flags) -> Result<KBox<MaybeUninit<T>>> {
        allocate()?;
        Ok(KBox(Box::new(MaybeUninit::uninit())))
    }
}

impl<T> KBox<MaybeUninit<T>> {
    /// Puts the value in.
    pub fn write(self, value: T) -> KBox<T> {
        KBox(Box::new(value))
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A vector whose allocations can fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KVec<T>(Vec<T>);

/// The same: where the memory comes from makes no difference here.
pub type KVVec<T> = KVec<T>;

/// The element that there was no room for.
pub struct PushError<T>(pub T);

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> KVec<T> {
    /// Drops what is behind so many elements.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Allocates nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// With room for so many.
    pub fn with_capacity(n: usize, flags: Flags) -> Result<Self> {
        let mut this = Self::new();
        this.reserve(n, flags)?;
        Ok(this)
    }

    /// So many of the same.
    pub fn from_elem(value: T, n: usize, _flags: Flags) -> Result<Self>
    where
        T: Clone,
    {
        allocate()?;
        Ok(Self(vec![value; n]))
    }

    /// Elements that there is room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Makes room.
    pub fn reserve(&mut self, additional: usize, _flags: Flags) -> Result {
        if self.0.capacity() - self.0.len() < additional {
            allocate()?;
            self.0.reserve(additional);
        }
        Ok(())
    }

    /// Appends, making room.
    pub fn push(&mut self, value: T, flags: Flags) -> Result {
        self.reserve(1, flags)?;
        self.0.push(value);
        Ok(())
    }

    /// Appends if there is room.
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.0.len() == self.0.capacity() {
            return Err(PushError(value));
        }
        self.0.push(value);
        Ok(())
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
