// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`IdMap`]: ids that userspace sees.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    }, //
};

/// A bounded map from small ids to values.
///
/// Ids start at 1, grow, and are reused only after 2^32 - 1 of them, so that a stale id is noticed.
/// Takes no locks.
pub struct IdMap<T> {
    map: RBTree<u32, T>,
    len: usize,
    limit: usize,
    next: u32,
}

impl<T> IdMap<T> {
    /// An empty map that will hold at most `limit` values, fewer than 2^31.
    pub fn new(limit: usize) -> Self {
        Self {
            map: RBTree::new(),
            len: 0,
            limit,
            next: 1,
        }
    }

    /// Stores a value under a new id, never 0.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the map is full, `ENOMEM`.
    pub fn insert(&mut self, value: T) -> Result<u32> {
        if self.len >= self.limit {
            return Err(ENOSPC);
        }
        while self.next == 0 || self.map.get(&self.next).is_some() {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.map.insert(RBTreeNode::new(id, value, GFP_KERNEL)?);
        self.len += 1;
        self.next = id.wrapping_add(1);
        Ok(id)
    }

    /// The value of an id.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.map.get(&id)
    }

    /// Takes a value out.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.map.remove(&id)?;
        self.len -= 1;
        Some(value)
    }

    /// Drops all values that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        let gone = |map: &RBTree<u32, T>| map.iter().find(|(_, v)| !keep(v)).map(|(id, _)| *id);
        while let Some(id) = gone(&self.map) {
            self.remove(id);
        }
    }

    /// Takes some value out, until there are none.
    pub fn pop(&mut self) -> Option<T> {
        let id = *self.map.cursor_front()?.current().0;
        self.remove(id)
    }

    /// All values, by id.
    pub fn values(&self) -> impl Iterator<Item = &T> + '_ {
        self.map.values()
    }
}

#[kunit_tests(gmem_vm_id_map)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_not_reused_at_once() -> Result {
        let mut map = IdMap::new(2);
        let a = map.insert('a')?;
        let b = map.insert('b')?;
        assert!(a != 0 && b != 0 && a != b);
        assert!(map.insert('c').is_err_and(|e| e == ENOSPC));
        assert_eq!(map.remove(a), Some('a'));
        assert_eq!(map.remove(a), None);
        let c = map.insert('c')?;
        assert!(c != a && c != b);
        assert_eq!((map.get(b), map.get(c)), (Some(&'b'), Some(&'c')));
        Ok(())
    }

    #[test]
    fn ids_wrap_around_what_is_taken() -> Result {
        let mut map = IdMap::new(8);
        assert_eq!(map.insert(0)?, 1);
        map.next = u32::MAX;
        assert_eq!(map.insert(1)?, u32::MAX);
        assert_eq!(map.insert(2)?, 2);
        assert_eq!(map.values().count(), 3);
        map.retain(|value| *value != 1);
        assert_eq!((map.values().count(), map.get(u32::MAX)), (2, None));
        while map.pop().is_some() {}
        assert_eq!(map.len, 0);
        Ok(())
    }
}
