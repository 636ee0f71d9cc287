// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Random numbers.
//!
//! C header: [`include/linux/random.h`](srctree/include/linux/random.h)

use core::mem::size_of;
use kernel::bindings;

/// A random number. Any context.
pub fn random() -> u64 {
    let mut number = 0_u64;

    // SAFETY: The pointer is valid for writes of this many bytes.
    unsafe { bindings::get_random_bytes((&raw mut number).cast(), size_of::<u64>()) };

    number
}
