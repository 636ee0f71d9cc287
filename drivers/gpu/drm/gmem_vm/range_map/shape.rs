// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The shape of a [`RangeMap`]: how its nodes come and go as entries do.

use super::{
    node::{
        Inner,
        Leaf,
        Node,
        Slot,
        Spares, //
    },
    RangeMap, //
};
use crate::range::VaRange;
use kernel::prelude::*;

impl<V> RangeMap<V> {
    /// Puts a root above the one that there is, or an empty leaf where there is none.
    fn grow(&mut self) -> Option<()> {
        let mut root = self.spares.take()?;
        self.nodes += 1;
        match self.root.take() {
            None => *root = Node::Leaf(Leaf::new()),
            Some(old) => {
                *root = Node::Inner(Inner::root(old));
                self.inners += 1;
                self.height += 1;
            }
        }
        self.root = Some(root);
        Some(())
    }

    /// Inserts an entry that nothing overlaps and that continues nothing, wherever it belongs.
    ///
    /// Nodes that are full are split on the way down, so that there is room for the other half in the
    /// one above. It is one descent, and no more nodes are split than [`reserve`](Self::reserve)
    /// counts on: one of each level.
    pub(super) fn insert_slowly(&mut self, range: VaRange, value: V) -> Option<()> {
        if self.root.as_ref().is_none_or(|root| root.is_full()) {
            self.grow()?;
        }
        let (start, end) = (range.start(), range.end());
        let mut node = self.root.as_mut()?;
        loop {
            match &mut **node {
                Node::Inner(inner) => {
                    let mut i = inner.child(start);
                    let child = inner.children[i].as_mut()?;
                    if child.is_full() {
                        let mut next = self.spares.take()?;
                        let bound = child.split(start, &mut next);
                        self.nodes += 1;
                        self.inners += usize::from(matches!(&*next, Node::Inner(_)));
                        inner.insert_behind(i, bound, next);
                        i += usize::from(bound <= start);
                    }
                    // What lies below the next child starts behind this entry.
                    inner.raise_end(i, end);
                    node = inner.children[i].as_mut()?;
                }
                Node::Leaf(leaf) => {
                    leaf.insert(leaf.behind(start), start, Slot { end, value });
                    self.len += 1;
                    return Some(());
                }
                Node::Spare(_) => return None,
            }
        }
    }

    /// Removes the entry at an index of the leaf that has an address, below a node; merges nodes
    /// that became low.
    fn remove_below(node: &mut Node<V>, address: u64, freed: &mut Freed<'_, V>) -> Option<V> {
        let inner = match node {
            Node::Leaf(leaf) => {
                let at = leaf.behind(address).checked_sub(1)?;
                return leaf.remove(at);
            }
            Node::Inner(inner) => inner,
            Node::Spare(_) => return None,
        };
        let i = inner.child(address);
        let child = inner.children[i].as_mut()?;
        let value = Self::remove_below(child, address, freed);
        if child.is_empty() {
            if let Some(child) = inner.remove(i) {
                freed.put(child);
            }
        } else if child.is_low() {
            // With the neighbour behind, else with the one before.
            if !Self::merge(inner, i, freed) && i > 0 {
                Self::merge(inner, i - 1, freed);
            }
        }
        value
    }

    /// Merges a child with the one behind it, if both fit into one.
    fn merge(inner: &mut Inner<V>, i: usize, freed: &mut Freed<'_, V>) -> bool {
        if i + 1 >= inner.len {
            return false;
        }
        let (left, right) = inner.children.split_at_mut(i + 1);
        let (Some(a), Some(b)) = (&mut left[i], &mut right[0]) else {
            return false;
        };
        if !a.absorb(b) {
            return false;
        }
        if let Some(child) = inner.remove(i + 1) {
            freed.put(child);
        }
        true
    }

    /// Removes the entry that has an address.
    pub(super) fn remove_slowly(&mut self, address: u64) -> Option<V> {
        let mut freed = Freed {
            spares: &mut self.spares,
            leaves: 0,
            inners: 0,
        };
        let value = Self::remove_below(self.root.as_mut()?, address, &mut freed);
        let (leaves, mut inners) = (freed.leaves, freed.inners);
        self.len -= usize::from(value.is_some());
        // A root with one child is none; one that is empty is none either.
        while let Some(mut root) = self.root.take() {
            match &mut *root {
                Node::Inner(inner) if inner.len <= 1 => {
                    self.root = inner.children[0].take();
                    self.height -= 1;
                    inners += 1;
                    self.spares.put(root);
                }
                Node::Leaf(leaf) if leaf.len == 0 => {
                    self.nodes -= 1;
                    self.spares.put(root);
                }
                _ => {
                    self.root = Some(root);
                    break;
                }
            }
        }
        self.inners -= inners;
        self.nodes -= leaves + inners;
        value
    }
}

/// Where a removal puts nodes, and how many.
struct Freed<'a, V> {
    spares: &'a mut Spares<V>,
    leaves: usize,
    inners: usize,
}

impl<V> Freed<'_, V> {
    fn put(&mut self, node: KBox<Node<V>>) {
        match &*node {
            Node::Leaf(_) => self.leaves += 1,
            Node::Inner(_) => self.inners += 1,
            Node::Spare(_) => (),
        }
        self.spares.put(node);
    }
}
