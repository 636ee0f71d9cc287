// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which range of a VM is bound to which range of an object.
//!
//! [`MappingTree`] is plain bookkeeping: it knows no page table and takes no locks (it lives under
//! the VM lock). Like the page table it changes in two halves: everything a change can need is set
//! aside in a [`Reservation`] first, and the change itself cannot fail. What a change removes is
//! not dropped but kept in the reservation, since an object must outlive the flush of its last
//! mapping.

use crate::{
    driver::Access,
    range::VaRange, //
};
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

/// A range of a VM bound to a range of an object of type `O`, with driver attributes `A`.
#[derive(Clone)]
pub struct Mapping<O, A> {
    /// The device addresses.
    pub range: VaRange,
    /// What is mapped.
    pub object: O,
    /// Offset into the object, in bytes, of the first address.
    pub offset: u64,
    /// What the device may do.
    pub access: Access,
    /// The driver's own attributes.
    pub attrs: A,
}

impl<O: Clone, A: Copy> Mapping<O, A> {
    /// The part of this mapping that covers `range`, which lies inside it.
    fn part(&self, range: VaRange) -> Self {
        Self {
            range,
            object: self.object.clone(),
            offset: self.offset + (range.start() - self.range.start()),
            access: self.access,
            attrs: self.attrs,
        }
    }
}

/// All that a batch of changes to a [`MappingTree`] can need, and what it removed.
pub struct Reservation<O, A> {
    nodes: KVec<RBTreeNodeReservation<u64, Mapping<O, A>>>,
    /// How many objects the batch can remove at most.
    removals: usize,
    removed: KVVec<O>,
}

impl<O, A> Default for Reservation<O, A> {
    fn default() -> Self {
        Self {
            nodes: KVec::new(),
            removals: 0,
            removed: KVVec::new(),
        }
    }
}

impl<O, A> Reservation<O, A> {
    fn reserve(&mut self, nodes: usize, removals: usize) -> Result {
        for _ in 0..nodes {
            self.nodes
                .push(RBTreeNodeReservation::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        // A later change of the batch can remove what an earlier one inserted.
        self.removals += nodes + removals;
        let free = self.removed.capacity() - self.removed.len();
        if free < self.removals {
            self.removed.reserve(self.removals, GFP_KERNEL)?;
        }
        Ok(())
    }

    fn keep(&mut self, object: O) {
        // Cannot fail: `reserve` counted every mapping that can be removed. Should the count ever
        // be wrong, the object is leaked rather than freed under a stale translation.
        if let Err(e) = self.removed.push_within_capacity(object) {
            pr_err!("gmem_vm: removal was not reserved, leaking an object\n");
            core::mem::forget(e.0);
        }
    }

    /// Number of objects that were removed so far.
    pub fn removed(&self) -> usize {
        self.removed.len()
    }
}

/// The mappings of a VM, by address.
///
/// # Invariants
///
/// Each mapping's key is the start of its range; ranges do not overlap.
pub struct MappingTree<O, A> {
    tree: RBTree<u64, Mapping<O, A>>,
}

impl<O: Clone, A: Copy> Default for MappingTree<O, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Clone, A: Copy> MappingTree<O, A> {
    /// An empty tree.
    pub fn new() -> Self {
        Self {
            tree: RBTree::new(),
        }
    }

    /// All mappings, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping<O, A>> + '_ {
        self.tree.values()
    }

    /// The first mapping that has an address in common with `range`.
    pub fn first_overlap(&self, range: &VaRange) -> Option<&Mapping<O, A>> {
        let overlaps = |m: &&Mapping<O, A>| m.range.intersect(range).is_some();
        let Some(cursor) = self.tree.cursor_lower_bound(&range.start()) else {
            return self
                .tree
                .cursor_back()
                .and_then(|c| self.tree.get(c.current().0))
                .filter(overlaps);
        };
        // Of those that begin below the range only the last can reach into it.
        let before = cursor.peek_prev().map(|(key, _)| *key);
        before
            .and_then(|key| self.tree.get(&key))
            .filter(overlaps)
            .or_else(|| self.tree.get(cursor.current().0).filter(overlaps))
    }

    /// Number of mappings that have an address in common with `range`.
    pub fn overlaps(&self, range: &VaRange) -> usize {
        let mut n = 0;
        let mut rest = Some(*range);
        while let Some(mapping) = rest.and_then(|r| self.first_overlap(&r)) {
            n += 1;
            rest = VaRange::from_bounds(mapping.range.end(), range.end());
        }
        n
    }

    /// Sets aside what a later [`insert`](Self::insert) at `range` can need. `ENOMEM`.
    pub fn prepare_insert(&self, reservation: &mut Reservation<O, A>, range: &VaRange) -> Result {
        reservation.reserve(2, self.overlaps(range))
    }

    /// Sets aside what a later [`remove`](Self::remove) of `range` can need. `ENOMEM`.
    pub fn prepare_remove(&self, reservation: &mut Reservation<O, A>, range: &VaRange) -> Result {
        reservation.reserve(1, self.overlaps(range))
    }

    /// Inserts a mapping, replacing whatever was in its range. Must have been prepared.
    pub fn insert(&mut self, reservation: &mut Reservation<O, A>, mapping: Mapping<O, A>) {
        let range = mapping.range;
        self.remove(reservation, &range);
        self.link(reservation, mapping);
    }

    /// Removes all that lies in `range`; what lies in it only in part keeps the rest. Must have
    /// been prepared.
    pub fn remove(&mut self, reservation: &mut Reservation<O, A>, range: &VaRange) {
        while let Some(key) = self.first_overlap(range).map(|m| m.range.start()) {
            let Some(mapping) = self.tree.get_mut(&key) else {
                return;
            };
            let tail = VaRange::from_bounds(range.end(), mapping.range.end())
                .map(|tail| mapping.part(tail));
            if let Some(head) = VaRange::from_bounds(key, range.start()) {
                // INVARIANT: The mapping keeps its start and shrinks.
                mapping.range = head;
            } else if let Some(mapping) = self.tree.remove(&key) {
                reservation.keep(mapping.object);
            }
            if let Some(tail) = tail {
                self.link(reservation, tail);
            }
        }
    }

    fn link(&mut self, reservation: &mut Reservation<O, A>, mapping: Mapping<O, A>) {
        match reservation.nodes.pop() {
            // INVARIANT: Callers emptied the range before.
            Some(node) => drop(
                self.tree
                    .insert(node.into_node(mapping.range.start(), mapping)),
            ),
            None => {
                pr_err!("gmem_vm: mapping was not reserved\n");
                reservation.keep(mapping.object);
            }
        }
    }
}

#[kunit_tests(gmem_vm_mapping)]
mod tests {
    use super::*;

    const PAGES: usize = 64;

    /// What a page is mapped to: object, page of the object, writable.
    type Model = [Option<(u32, u64, bool)>; PAGES];

    fn pages(first: usize, n: usize) -> Result<VaRange> {
        VaRange::new((first as u64) << 12, (n as u64) << 12)
    }

    /// The tree must say of every page what the model says, and be in order.
    fn check(tree: &MappingTree<u32, ()>, model: &Model) -> Result {
        let mut seen: Model = [None; PAGES];
        let mut last = 0;
        for m in tree.iter() {
            assert!(m.range.start() >= last);
            last = m.range.end();
            for page in m.range.start() >> 12..m.range.end() >> 12 {
                let offset = (m.offset + (page << 12) - m.range.start()) >> 12;
                seen[page as usize] = Some((m.object, offset, m.access.write));
            }
        }
        assert!(seen == *model);
        for (i, page) in model.iter().enumerate() {
            assert_eq!(tree.first_overlap(&pages(i, 1)?).is_some(), page.is_some());
        }
        Ok(())
    }

    #[test]
    fn random_changes_agree_with_a_naive_model() -> Result {
        let mut tree = MappingTree::new();
        let mut model: Model = [None; PAGES];
        // A fixed sequence: xorshift from a printed seed.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % n as u64) as usize
        };
        for step in 0..2000 {
            let first = random(PAGES);
            let range = pages(first, 1 + random(PAGES - first))?;
            let slots = first..(range.end() >> 12) as usize;
            let mut reservation = Reservation::default();
            if random(3) == 0 {
                tree.prepare_remove(&mut reservation, &range)?;
                tree.remove(&mut reservation, &range);
                model[slots].fill(None);
            } else {
                let offset = random(1000) as u64;
                let access = Access {
                    write: random(2) == 0,
                    exec: false,
                };
                tree.prepare_insert(&mut reservation, &range)?;
                tree.insert(
                    &mut reservation,
                    Mapping {
                        range,
                        object: step,
                        offset: offset << 12,
                        access,
                        attrs: (),
                    },
                );
                for (i, slot) in model[slots].iter_mut().enumerate() {
                    *slot = Some((step, offset + i as u64, access.write));
                }
            }
            check(&tree, &model)?;
        }
        Ok(())
    }

    #[test]
    fn a_batch_is_prepared_before_any_of_it_is_done() -> Result {
        let mut tree = MappingTree::new();
        let mut reservation = Reservation::default();
        let mapping = |object: u32, first, n| -> Result<Mapping<u32, ()>> {
            Ok(Mapping {
                range: pages(first, n)?,
                object,
                offset: 0,
                access: Access::default(),
                attrs: (),
            })
        };
        // The second splits the first, the third removes them all: none exists when the batch is
        // prepared.
        tree.prepare_insert(&mut reservation, &pages(0, 10)?)?;
        tree.prepare_insert(&mut reservation, &pages(4, 2)?)?;
        tree.prepare_remove(&mut reservation, &pages(0, 10)?)?;
        tree.insert(&mut reservation, mapping(1, 0, 10)?);
        tree.insert(&mut reservation, mapping(2, 4, 2)?);
        assert_eq!(tree.iter().count(), 3);
        tree.remove(&mut reservation, &pages(0, 10)?);
        assert_eq!(tree.iter().count(), 0);
        assert_eq!(reservation.removed(), 3);
        Ok(())
    }
}
