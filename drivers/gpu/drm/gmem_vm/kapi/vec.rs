// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What vectors need that live under a lock.

use kernel::{
    alloc::Allocator,
    prelude::*, //
};

/// Exchanges a vector's room for a larger one, which was allocated without the lock; does nothing if it is not larger.
/// `room` is to be freed without the lock, too. Neither allocates nor sleeps.
pub fn enlarge<T, A: Allocator>(vec: &mut Vec<T, A>, room: &mut Vec<T, A>) {
    if room.capacity() > vec.capacity() {
        core::mem::swap(vec, room);
        for item in room.drain_all() {
            // Cannot fail: there is room for more than that.
            let _ = vec.push_within_capacity(item);
        }
    }
}

/// Takes an item out; the last one takes its place. `None` if there is none. Does not sleep.
pub fn swap_remove<T, A: Allocator>(vec: &mut Vec<T, A>, at: usize) -> Option<T> {
    let last = vec.len().checked_sub(1).filter(|last| at <= *last)?;
    vec.swap(at, last);
    vec.pop()
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(gmem_vm_kapi_vec)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_keeps_all() -> Result {
        let mut vec = KVec::with_capacity(2, GFP_KERNEL)?;
        while vec.len() < vec.capacity() {
            vec.push_within_capacity(vec.len()).map_err(|_| ENOMEM)?;
        }
        let full = vec.len();

        let mut smaller = KVec::new();
        enlarge(&mut vec, &mut smaller);
        assert_eq!(vec.capacity(), full);

        let mut room = KVec::with_capacity(4 * full, GFP_KERNEL)?;
        enlarge(&mut vec, &mut room);
        assert!(vec.capacity() >= 4 * full);
        assert!(vec.iter().copied().eq(0..full));
        assert!(room.is_empty());
        Ok(())
    }

    #[test]
    fn the_last_takes_the_place_of_what_was_taken() -> Result {
        let mut vec = KVec::new();
        assert!(swap_remove(&mut vec, 0).is_none());
        for i in 0..4 {
            vec.push(i, GFP_KERNEL)?;
        }
        assert_eq!(swap_remove(&mut vec, 4), None);
        assert_eq!(swap_remove(&mut vec, 1), Some(1));
        assert!(vec.iter().copied().eq([0, 3, 2]));
        assert_eq!(swap_remove(&mut vec, 2), Some(2));
        assert!(vec.iter().copied().eq([0, 3]));
        Ok(())
    }
}
