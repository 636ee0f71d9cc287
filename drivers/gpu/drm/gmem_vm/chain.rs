// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`Chain`]: boxes that are collected where nothing may be allocated or freed.
//!
//! A commit makes tables unreachable, and batches are done, between a fence and its signal. What is
//! left of them is linked through the boxes themselves and dropped later, one after the other: a list
//! of owning boxes dropped as a whole would recurse.

use kernel::prelude::*;

/// What has room for the link of a [`Chain`].
pub trait Link: Sized {
    /// The link: none, but while in a chain.
    fn next(&mut self) -> &mut Option<KBox<Self>>;
}

/// A last-in, first-out chain of boxes. Never allocates.
pub struct Chain<T: Link>(Option<KBox<T>>);

impl<T: Link> Default for Chain<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Link> Chain<T> {
    /// An empty chain.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a box.
    pub fn push(&mut self, mut item: KBox<T>) {
        *item.next() = self.0.take();
        self.0 = Some(item);
    }

    /// Takes the box that was added last.
    pub fn pop(&mut self) -> Option<KBox<T>> {
        let mut item = self.0.take()?;
        self.0 = item.next().take();
        Some(item)
    }
}

impl<T: Link> Drop for Chain<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[kunit_tests(gmem_vm_chain)]
mod tests {
    use super::*;

    struct Item(u32, Option<KBox<Item>>);

    impl Link for Item {
        fn next(&mut self) -> &mut Option<KBox<Self>> {
            &mut self.1
        }
    }

    #[test]
    fn last_in_first_out() -> Result {
        let mut chain = Chain::new();
        for number in 0..3 {
            chain.push(KBox::new(Item(number, None), GFP_KERNEL)?);
        }
        for number in (0..3).rev() {
            let item = chain.pop().ok_or(EINVAL)?;
            assert_eq!(item.0, number);
            assert!(item.1.is_none());
        }
        assert!(chain.is_empty());
        Ok(())
    }

    #[test]
    fn a_long_one_is_dropped_without_recursion() -> Result {
        let mut chain = Chain::new();
        for number in 0..100_000 {
            chain.push(KBox::new(Item(number, None), GFP_KERNEL)?);
        }
        Ok(())
    }
}
