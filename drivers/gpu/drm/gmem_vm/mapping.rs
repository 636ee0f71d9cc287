// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which range of a VM is bound to which range of an object.
//!
//! [`MappingTree`] is plain bookkeeping: it knows no page table and takes no locks (it lives under
//! the VM lock). It changes in two halves: everything a batch of changes can need is set aside
//! first, and the changes themselves cannot fail. What they remove is not dropped but kept in
//! [`Removed`], since an object must outlive the flush of its last mapping; so is a reference to what
//! they only cut, whose other mappings may be gone before that flush.
//!
//! Neighbours merge if they continue each other, in the object and in all that they let the device
//! do; so a range that was bound page by page is one mapping in the end.

use crate::{
    driver::Access,
    range::VaRange,
    range_map::{
        Entry,
        RangeMap,
        Value, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    warn_on, //
};

/// A counted reference to what can be mapped.
pub trait ObjectRef: Clone {
    /// Whether both are the same object.
    fn is_same(&self, other: &Self) -> bool;
}

/// What a range is bound to: an object of type `O`, with driver attributes `A`.
#[derive(Clone)]
pub struct Backing<O, A> {
    /// What is mapped; none for sparse memory, which is nowhere: reads give zero, writes vanish.
    pub object: Option<O>,
    /// Offset into the object, in bytes, of the first address; 0 if there is none.
    pub offset: u64,
    /// What the device may do.
    pub access: Access,
    /// The driver's own attributes.
    pub attrs: A,
}

impl<O: ObjectRef, A: Copy + PartialEq> Value for Backing<O, A> {
    fn advance(&self, bytes: u64) -> Self {
        Self {
            offset: match self.object {
                Some(_) => self.offset + bytes,
                None => 0,
            },
            ..self.clone()
        }
    }

    fn continues(&self, bytes: u64, next: &Self) -> bool {
        let contiguous = match (&self.object, &next.object) {
            (Some(a), Some(b)) => self.offset + bytes == next.offset && a.is_same(b),
            (None, None) => true,
            _ => false,
        };
        contiguous && self.access == next.access && self.attrs == next.attrs
    }
}

/// A range of a VM and what it is bound to.
#[derive(Clone)]
pub struct Mapping<O, A> {
    /// The device addresses.
    pub range: VaRange,
    /// What they are bound to.
    pub backing: Backing<O, A>,
}

/// Objects of which a batch of changes removed mappings or parts of them from a [`MappingTree`], with
/// room for all that it can remove.
pub struct Removed<O> {
    /// A small batch allocates nothing.
    first: [Option<O>; 4],
    /// None if no more fit there: also an empty vector takes some work to drop.
    others: Option<KVVec<O>>,
    len: usize,
}

impl<O> Default for Removed<O> {
    fn default() -> Self {
        Self {
            first: [const { None }; 4],
            others: None,
            len: 0,
        }
    }
}

impl<O> Removed<O> {
    /// Makes room for so many. `ENOMEM`.
    #[inline]
    fn reserve(&mut self, objects: usize) -> Result {
        match objects.checked_sub(self.first.len()) {
            None | Some(0) => Ok(()),
            Some(others) => self.reserve_others(others),
        }
    }

    #[cold]
    fn reserve_others(&mut self, others: usize) -> Result {
        let room = self.others.get_or_insert(KVVec::new());
        if others > room.capacity() {
            room.reserve(others - room.len(), GFP_KERNEL)?;
        }
        Ok(())
    }

    fn keep(&mut self, object: O) {
        self.len += 1;
        if let Some(slot) = self.first.get_mut(self.len - 1) {
            *slot = Some(object);
            return;
        }
        // Cannot fail: `reserve` counted every mapping that can be removed. Should the count ever
        // be wrong, the object is leaked rather than freed under a stale translation.
        let left = match &mut self.others {
            Some(others) => others.push_within_capacity(object).err().map(|e| e.0),
            None => Some(object),
        };
        if let Some(object) = left {
            warn_on!(true);
            core::mem::forget(object);
        }
    }

    /// The objects that were removed so far.
    pub fn iter(&self) -> impl Iterator<Item = &O> {
        let others = self.others.iter().flat_map(|others| others.iter());
        Iterator::chain(self.first.iter().flatten(), others)
    }

    /// Number of objects that were removed so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was removed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What a batch of changes to a [`MappingTree`] can need; filled change by change, in order.
#[derive(Default)]
pub struct Needs {
    changes: usize,
    removals: usize,
}

/// The mappings of a VM, by address.
pub struct MappingTree<O, A> {
    map: RangeMap<Backing<O, A>>,
}

impl<O: ObjectRef, A: Copy + PartialEq> Default for MappingTree<O, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: ObjectRef, A: Copy + PartialEq> MappingTree<O, A> {
    /// An empty tree.
    pub const fn new() -> Self {
        Self {
            map: RangeMap::new(),
        }
    }

    /// Number of mappings.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Host memory that the tree takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.map.bytes()
    }

    /// All mappings, by address.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_, Backing<O, A>>> + '_ {
        self.map.iter()
    }

    /// The mapping that has an address.
    #[inline]
    pub fn get(&self, address: u64) -> Option<Entry<'_, Backing<O, A>>> {
        self.map.get(address)
    }

    /// The first mapping that has an address in common with a range.
    pub fn first_overlap(&self, range: &VaRange) -> Option<Entry<'_, Backing<O, A>>> {
        self.map.first_overlap(range)
    }

    /// All mappings that have an address in common with a range, by address.
    pub fn overlaps(&self, range: VaRange) -> impl Iterator<Item = Entry<'_, Backing<O, A>>> + '_ {
        self.map.overlaps(range)
    }

    /// Counts what a later [`insert`](Self::insert) or [`remove`](Self::remove) of a range can need,
    /// behind the changes counted before.
    #[inline]
    pub fn count(&self, needs: &mut Needs, range: VaRange) {
        // Each mapping that was there is removed once, or cut by some changes and then removed; and an
        // earlier change can have added two that this one removes or cuts.
        needs.changes += 1;
        // No mapping is smaller than a page: of a few pages the most is known without a look, and is
        // nothing that would have to be allocated.
        let pages = (range.size() as usize).div_ceil(PAGE_SIZE);
        needs.removals += if pages <= 4 {
            pages
        } else {
            self.count_overlaps(needs, range)
        };
        if needs.changes > 1 {
            needs.removals += 4;
        }
    }

    fn count_overlaps(&self, needs: &Needs, range: VaRange) -> usize {
        let most = self.len() + 4 * needs.changes;
        let left = most.saturating_sub(needs.removals);
        self.map.overlaps(range).take(left).count()
    }

    /// Sets aside what was counted. `ENOMEM`: nothing has changed.
    #[inline]
    pub fn reserve(&mut self, needs: &Needs, removed: &mut Removed<O>) -> Result {
        removed.reserve(needs.removals)?;
        self.map.reserve(needs.changes)
    }

    /// Gives back what was set aside and not needed. Not for a section that fences depend on.
    #[inline]
    pub fn trim(&mut self) {
        self.map.trim();
    }

    /// Inserts a mapping, replacing whatever was in its range. Must have been reserved.
    pub fn insert(&mut self, removed: &mut Removed<O>, mapping: Mapping<O, A>) {
        self.map.set(mapping.range, mapping.backing, |backing| {
            if let Some(object) = backing.object {
                removed.keep(object);
            }
        });
    }

    /// Removes all that lies in a range; what lies in it only in part keeps the rest. Must have
    /// been reserved.
    pub fn remove(&mut self, removed: &mut Removed<O>, range: VaRange) {
        self.map.clear(range, |backing| {
            if let Some(object) = backing.object {
                removed.keep(object);
            }
        });
    }
}

#[kunit_tests(gmem_vm_mapping)]
mod tests {
    use super::*;

    impl ObjectRef for u32 {
        fn is_same(&self, other: &Self) -> bool {
            self == other
        }
    }

    type Tree = MappingTree<u32, ()>;

    fn pages(first: usize, n: usize) -> Result<VaRange> {
        VaRange::new((first as u64) << 12, (n as u64) << 12)
    }

    fn mapping(
        object: Option<u32>,
        offset: u64,
        first: usize,
        n: usize,
    ) -> Result<Mapping<u32, ()>> {
        Ok(Mapping {
            range: pages(first, n)?,
            backing: Backing {
                object,
                offset,
                access: Access::default(),
                attrs: (),
            },
        })
    }

    /// Inserts and returns how many objects were removed.
    fn insert(tree: &mut Tree, mapping: Mapping<u32, ()>) -> Result<usize> {
        let (mut needs, mut removed) = (Needs::default(), Removed::default());
        tree.count(&mut needs, mapping.range);
        tree.reserve(&needs, &mut removed)?;
        tree.insert(&mut removed, mapping);
        Ok(removed.len())
    }

    #[test]
    fn neighbours_that_continue_each_other_merge() -> Result {
        let mut tree = Tree::new();
        insert(&mut tree, mapping(Some(1), 0, 0, 1)?)?;
        insert(&mut tree, mapping(Some(1), 0x2000, 2, 1)?)?;
        assert_eq!(tree.len(), 2);
        insert(&mut tree, mapping(Some(1), 0x1000, 1, 1)?)?;
        assert_eq!(tree.len(), 1);
        // Another object, another place, another access, sparse.
        insert(&mut tree, mapping(Some(2), 0x3000, 3, 1)?)?;
        insert(&mut tree, mapping(Some(2), 0x3000, 4, 1)?)?;
        let mut writable = mapping(Some(2), 0x4000, 5, 1)?;
        writable.backing.access.write = true;
        insert(&mut tree, writable)?;
        insert(&mut tree, mapping(None, 0, 6, 1)?)?;
        assert_eq!(tree.len(), 5);
        insert(&mut tree, mapping(None, 0, 7, 9)?)?;
        assert_eq!(tree.len(), 5);
        Ok(())
    }

    #[test]
    fn a_split_keeps_both_ends_in_place() -> Result {
        let mut tree = Tree::new();
        insert(&mut tree, mapping(Some(1), 0x10000, 0, 10)?)?;
        // A reference to what was cut is kept.
        assert_eq!(insert(&mut tree, mapping(Some(2), 0, 4, 2)?)?, 1);
        let seen = |page| -> Result<Option<(u32, u64, u64)>> {
            let at = (page as u64) << 12;
            Ok(tree.get(at).and_then(|e| {
                let offset = e.value.offset + at - e.range.start();
                Some((e.value.object?, offset, e.range.size()))
            }))
        };
        assert_eq!(seen(3)?, Some((1, 0x13000, 0x4000)));
        assert_eq!(seen(5)?, Some((2, 0x1000, 0x2000)));
        assert_eq!(seen(6)?, Some((1, 0x16000, 0x4000)));
        Ok(())
    }

    #[test]
    fn a_batch_is_reserved_before_any_of_it_is_done() -> Result {
        let mut tree = Tree::new();
        let (mut needs, mut removed) = (Needs::default(), Removed::default());
        // The second splits the first, the third removes them all: none exists when the batch is
        // counted.
        tree.count(&mut needs, pages(0, 10)?);
        tree.count(&mut needs, pages(4, 2)?);
        tree.count(&mut needs, pages(0, 10)?);
        tree.reserve(&needs, &mut removed)?;
        tree.insert(&mut removed, mapping(Some(1), 0, 0, 10)?);
        tree.insert(&mut removed, mapping(Some(2), 0, 4, 2)?);
        assert_eq!(tree.len(), 3);
        tree.remove(&mut removed, pages(0, 10)?);
        assert!(tree.is_empty());
        // One was cut before.
        assert_eq!(removed.len(), 4);
        Ok(())
    }
}
