// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Arrays in user memory, and what the user may do.

use kernel::{
    bindings,
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

/// Writes an array to a user address.
///
/// # Errors
///
/// `EFAULT` if the address is not writable or not one; some of it may have been written then.
pub fn write_array<T: IntoBytes + zerocopy::Immutable>(ptr: u64, array: &[T]) -> Result {
    let address = usize::try_from(ptr).map_err(|_| EFAULT)?;
    let bytes = array.as_bytes();

    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .writer()
        .write_slice(bytes)
}

/// Whether the calling process may keep memory from being moved (`CAP_IPC_LOCK`).
pub fn may_lock_memory() -> bool {
    // SAFETY: May be called in process context, of which this is one.
    unsafe { bindings::capable(bindings::CAP_IPC_LOCK as c_int) }
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

#[kunit_tests(gmem_vm_kapi_user)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_from_nowhere() {
        assert!(read_array::<u64>(0, 0).is_ok_and(|array| array.is_empty()));
        assert!(read_array::<u64>(u64::MAX, 0).is_ok_and(|array| array.is_empty()));
    }

    #[test]
    fn bad_addresses() {
        // Neither the null pointer, nor kernel memory, nor the end of everything.
        let on_stack = 1u64;

        for address in [
            0,
            core::ptr::from_ref(&on_stack).addr() as u64,
            u64::MAX - 7,
        ] {
            assert!(read_array::<u64>(address, 1).is_err_and(|e| e == EFAULT));
        }
    }

    #[test]
    fn absurd_sizes() {
        assert!(read_array::<u64>(4096, usize::MAX).is_err_and(|e| e == ENOMEM));
        assert!(read_array::<u64>(4096, usize::MAX / 8).is_err_and(|e| e == ENOMEM));
    }
}
