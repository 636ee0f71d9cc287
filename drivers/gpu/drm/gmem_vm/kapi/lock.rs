// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Locks and work in generic types.
//!
//! What the kernel crate's macros make there has one lock class, in the crate that defines the type, but a name
//! in each crate that uses it. Lockdep wants both to be the same place, and warns as soon as two modules do.
//! Here the name lies where the class does.

/// A name that is in one place only.
macro_rules! static_name {
    ($name:literal) => {{
        static NAME: &::kernel::str::CStr = ::kernel::c_str!($name);
        NAME
    }};
}
pub(crate) use static_name;

/// As that of [`kernel::sync`].
macro_rules! new_mutex {
    ($inner:expr, $name:literal $(,)?) => {
        ::kernel::sync::Mutex::new(
            $inner,
            $crate::kapi::lock::static_name!($name),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_mutex;

/// As that of [`kernel::sync`].
macro_rules! new_spinlock {
    ($inner:expr, $name:literal $(,)?) => {
        ::kernel::sync::SpinLock::new(
            $inner,
            $crate::kapi::lock::static_name!($name),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_spinlock;

/// As that of [`kernel::workqueue`].
macro_rules! new_work {
    ($name:literal $(,)?) => {
        ::kernel::workqueue::Work::new(
            $crate::kapi::lock::static_name!($name),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_work;
