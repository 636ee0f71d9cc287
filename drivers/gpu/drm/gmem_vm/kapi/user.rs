// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Arrays in user memory.

use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Reads an array of `count` elements at a user address.
///
/// The elements are read once; userspace may change its own later without any effect. The caller
/// bounds `count`: this much memory is allocated, accounted to the calling process.
///
/// # Errors
///
/// `EFAULT` if the address is not readable or not one, `ENOMEM`.
pub fn read_array<T: FromBytes>(ptr: u64, count: usize) -> Result<KVVec<T>> {
    let mut array = KVVec::new();
    if count == 0 {
        return Ok(array);
    }

    let bytes = size_of::<T>().checked_mul(count).ok_or(ENOMEM)?;
    let address = usize::try_from(ptr).map_err(|_| EFAULT)?;

    array.reserve(count, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;

    UserSlice::new(UserPtr::from_addr(address), bytes)
        .reader()
        .read_raw(as_bytes(&mut array.spare_capacity_mut()[..count]))?;

    // SAFETY: There is capacity for `count` elements; all of their bytes were just initialized, and
    // any bytes are a valid `T`.
    unsafe { array.inc_len(count) };

    Ok(array)
}

/// The memory of some elements.
fn as_bytes<T: FromBytes>(
    slice: &mut [core::mem::MaybeUninit<T>],
) -> &mut [core::mem::MaybeUninit<u8>] {
    let len = size_of_val(slice);

    // SAFETY: The slice is valid and ours for this lifetime; bytes need no alignment, and may be
    // left uninitialized or be written with anything.
    unsafe { core::slice::from_raw_parts_mut(slice.as_mut_ptr().cast(), len) }
}
