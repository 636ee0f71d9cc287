// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Sorting. What `core` has can panic on an order that is none, in a way that objtool does not know.

use kernel::prelude::*;

/// Sorts in place, without recursion. Not stable.
pub fn heapsort<T: Ord>(items: &mut [T]) {
    fn sift_down<T: Ord>(items: &mut [T], mut parent: usize) {
        loop {
            let mut child = 2 * parent + 1;
            if child + 1 < items.len() && items[child] < items[child + 1] {
                child += 1;
            }
            if child >= items.len() || items[parent] >= items[child] {
                return;
            }
            items.swap(parent, child);
            parent = child;
        }
    }
    for parent in (0..items.len() / 2).rev() {
        sift_down(items, parent);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        sift_down(&mut items[..end], 0);
    }
}

#[kunit_tests(gmem_vm_sort)]
mod tests {
    use super::*;

    #[test]
    fn heapsort_sorts() -> Result {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for n in 0..200_usize {
            let mut items = KVec::new();
            for _ in 0..n {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                items.push(state & 0x7f, GFP_KERNEL)?;
            }
            let sum: u64 = items.iter().sum();
            heapsort(&mut items);
            assert!(items.windows(2).all(|w| w[0] <= w[1]));
            assert_eq!(items.iter().sum::<u64>(), sum);
        }
        Ok(())
    }
}
