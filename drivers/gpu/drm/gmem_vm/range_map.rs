// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`RangeMap`]: values by range of addresses, in a B+ tree.
//!
//! Mappings ([`crate::mapping`]) and attributes ([`crate::attrs`]) are kept in one each. A range is
//! set to a value or to none, whatever was there before: what overlaps it in part is cut, and
//! neighbours of which one [continues](Value::continues) the other are one entry, always.
//!
//! A change has two halves. [`RangeMap::reserve`] allocates and can fail; [`RangeMap::set`] and
//! [`RangeMap::clear`] take the nodes they need from what was reserved, and cannot. What they
//! remove is handed to the caller, who knows when it may be dropped.
//!
//! Plain bookkeeping: takes no locks, knows no page table.
//!
//! # Why a B+ tree
//!
//! The kernel's interval trees have a node, an allocation and some twenty levels for each of a
//! million ranges. Here an entry is 40 bytes in a node of twelve, a million make five levels, and
//! most changes touch one node and allocate nothing (Documentation/gpu/gmem_vm/decisions.rst).

#[path = "range_map/node.rs"]
mod node;
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[path = "range_map/tests.rs"]
mod tests;

use self::node::{
    Inner,
    Leaf,
    Node,
    Slot,
    Spares,
    INNER,
    LEAF,
    LEAF_LOW, //
};
use crate::range::VaRange;
use kernel::prelude::*;

/// Nodes kept for later changes beyond what one small change can need.
const KEEP: usize = 4;

/// What a range can be set to.
pub trait Value: Clone {
    /// The value of what lies `bytes` behind the start of a range with this value.
    fn advance(&self, bytes: u64) -> Self;

    /// Whether a range with the value `next`, beginning where one of `bytes` with this value ends,
    /// is the same as one longer range.
    fn continues(&self, bytes: u64, next: &Self) -> bool;
}

/// An entry: a range and its value.
#[derive(Debug)]
pub struct Entry<'a, V> {
    /// The addresses.
    pub range: VaRange,
    /// What they are set to.
    pub value: &'a V,
}

/// A node that a change added behind another one: where its entries begin, and itself.
type Sibling<V> = Option<(u64, KBox<Node<V>>)>;

/// Values by range of addresses.
pub struct RangeMap<V> {
    root: Option<KBox<Node<V>>>,
    /// Levels of inner nodes.
    height: usize,
    /// Number of inner nodes.
    inners: usize,
    /// Number of nodes of both kinds.
    nodes: usize,
    len: usize,
    spares: Spares<V>,
}

impl<V> RangeMap<V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self {
            root: None,
            height: 0,
            inners: 0,
            nodes: 0,
            len: 0,
            spares: Spares::new(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Host memory that the map takes, in bytes, but for what its values point to.
    pub fn bytes(&self) -> usize {
        (self.nodes + self.spares.len) * size_of::<Node<V>>()
    }

    /// The leaf that has an address.
    fn find(&self, address: u64) -> Option<&Leaf<V>> {
        let mut node = self.root.as_ref()?;
        loop {
            match &**node {
                Node::Inner(inner) => node = inner.children[inner.child(address)].as_ref()?,
                Node::Leaf(leaf) => return Some(leaf),
                Node::Spare(_) => return None,
            }
        }
    }

    /// The leaf that has an address, and where its entries end at the latest.
    fn leaf(&self, address: u64) -> Option<(&Leaf<V>, u64)> {
        let mut node = self.root.as_ref()?;
        let mut limit = u64::MAX;
        loop {
            match &**node {
                Node::Spare(_) => return None,
                Node::Leaf(leaf) => return Some((leaf, limit)),
                Node::Inner(inner) => {
                    let i = inner.child(address);
                    limit = inner.limit(i, limit);
                    node = inner.children[i].as_ref()?;
                }
            }
        }
    }

    /// As [`leaf`](Self::leaf), with where the entries begin at the earliest before that.
    fn leaf_mut(&mut self, address: u64) -> Option<(&mut Leaf<V>, u64, u64)> {
        let mut node = self.root.as_mut()?;
        let (mut floor, mut limit) = (0, u64::MAX);
        loop {
            match &mut **node {
                Node::Spare(_) => return None,
                Node::Leaf(leaf) => return Some((leaf, floor, limit)),
                Node::Inner(inner) => {
                    let i = inner.child(address);
                    if i > 0 {
                        floor = inner.bounds[i];
                    }
                    limit = inner.limit(i, limit);
                    node = inner.children[i].as_mut()?;
                }
            }
        }
    }

    /// The entry that has an address.
    #[inline]
    pub fn get(&self, address: u64) -> Option<Entry<'_, V>> {
        let leaf = self.find(address)?;
        let at = leaf.behind(address).checked_sub(1)?;
        leaf.entry(at).filter(|entry| entry.range.end() > address)
    }

    /// The first entry that has an address in common with a range.
    pub fn first_overlap(&self, range: &VaRange) -> Option<Entry<'_, V>> {
        let leaf = self.find(range.start())?;
        let behind = leaf.behind(range.start());
        if let Some(at) = behind.checked_sub(1) {
            if let Some(entry) = leaf.entry(at).filter(|e| e.range.end() > range.start()) {
                return Some(entry);
            }
        }
        let next = if behind < leaf.len {
            leaf.entry(behind)
        } else {
            self.first_behind_leaf(range)
        };
        next.filter(|entry| entry.range.start() < range.end())
    }

    /// The first entry behind the leaf that has the start of a range, if that is not behind the range.
    #[cold]
    fn first_behind_leaf(&self, range: &VaRange) -> Option<Entry<'_, V>> {
        let (_, limit) = self.leaf(range.start())?;
        if limit < range.end() {
            // No leaf is empty, so it is the first one of the next.
            self.find(limit)?.entry(0)
        } else {
            None
        }
    }

    /// All entries that have an address in common with a range, in order.
    pub fn overlaps(&self, range: VaRange) -> impl Iterator<Item = Entry<'_, V>> + '_ {
        let mut rest = Some(range);
        core::iter::from_fn(move || {
            let entry = self.first_overlap(&rest?)?;
            rest = VaRange::from_bounds(entry.range.end(), range.end());
            Some(entry)
        })
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_, V>> + '_ {
        VaRange::from_bounds(0, u64::MAX)
            .into_iter()
            .flat_map(|all| self.overlaps(all))
    }

    /// Sets aside what `changes` calls of [`set`](Self::set) or [`clear`](Self::clear) can need,
    /// whatever is there by then. `ENOMEM`; nothing is lost by reserving in vain.
    #[inline]
    pub fn reserve(&mut self, changes: usize) -> Result {
        // More than that is never needed.
        if self.spares.len >= 2 * changes * (self.height + 2) {
            return Ok(());
        }
        self.reserve_slowly(changes)
    }

    fn reserve_slowly(&mut self, changes: usize) -> Result {
        // A change adds two entries at most: its own, and the rest of one that it cut in two.
        let entries = 2 * changes;
        // Each entry can split one leaf. It can also split one inner node of each level; but in the
        // long run it takes half a node's worth of children to split one again.
        let inners = (entries * (self.height + 1))
            .min(self.inners + entries / (INNER / 4) + self.height + 2);
        while self.spares.len < entries + inners {
            self.spares.put(KBox::new(Node::Spare(None), GFP_KERNEL)?);
        }
        Ok(())
    }

    /// Gives back most of what was reserved and not needed.
    #[inline]
    pub fn trim(&mut self) {
        while self.spares.len > KEEP + 2 * (self.height + 2) {
            drop(self.spares.take());
        }
    }

    /// Inserts below a node; nothing overlaps the entry.
    fn insert_below(
        node: &mut Node<V>,
        start: u64,
        slot: Slot<V>,
        added: &mut Added<'_, V>,
    ) -> Sibling<V> {
        match node {
            Node::Spare(_) => None,
            Node::Leaf(leaf) => Self::insert_in_leaf(leaf, start, slot, added),
            Node::Inner(inner) => {
                let i = inner.child(start);
                if i + 1 < inner.len && slot.end > inner.bounds[i + 1] {
                    // What lies below the next child starts behind this entry.
                    inner.bounds[i + 1] = slot.end;
                }
                let child = inner.children[i].as_mut()?;
                let (bound, sibling) = Self::insert_below(child, start, slot, added)?;
                if inner.len < INNER {
                    inner.insert(i + 1, bound, sibling);
                    return None;
                }
                let mut right = added.spares.inner()?;
                added.inners += 1;
                let Node::Inner(upper) = &mut *right else {
                    return None;
                };
                // Whoever goes on at the end finds room there, and leaves full nodes behind.
                let half = if i + 1 == INNER { INNER - 1 } else { INNER / 2 };
                inner.move_to(half, upper);
                let middle = upper.bounds[0];
                if i < half {
                    inner.insert(i + 1, bound, sibling);
                } else {
                    upper.insert(i + 1 - half, bound, sibling);
                }
                Some((middle, right))
            }
        }
    }

    fn insert_in_leaf(
        leaf: &mut Leaf<V>,
        start: u64,
        slot: Slot<V>,
        added: &mut Added<'_, V>,
    ) -> Sibling<V> {
        let at = leaf.behind(start);
        if leaf.len < LEAF {
            leaf.insert(at, start, slot);
            return None;
        }
        let mut right = added.spares.leaf()?;
        added.leaves += 1;
        let Node::Leaf(upper) = &mut *right else {
            return None;
        };
        // As with inner nodes, in either direction.
        let half = match at {
            LEAF => LEAF,
            0 => 0,
            _ => LEAF / 2,
        };
        leaf.move_to(half, upper);
        if at < half || half == 0 {
            leaf.insert(at, start, slot);
        } else {
            upper.insert(at - half, start, slot);
        }
        Some((upper.starts[0], right))
    }

    /// Inserts an entry that nothing overlaps and that continues nothing.
    fn insert_slowly(&mut self, range: VaRange, value: V) {
        let slot = Slot {
            end: range.end(),
            value,
        };
        let mut added = Added {
            spares: &mut self.spares,
            leaves: 0,
            inners: 0,
        };
        let root = match &mut self.root {
            Some(root) => root,
            None => {
                let Some(leaf) = added.spares.leaf() else {
                    return;
                };
                added.leaves += 1;
                self.root.insert(leaf)
            }
        };
        let sibling = Self::insert_below(root, range.start(), slot, &mut added);
        let (leaves, mut inners) = (added.leaves, added.inners);
        if let Some((bound, sibling)) = sibling {
            if let (Some(mut node), Some(old)) = (self.spares.inner(), self.root.take()) {
                if let Node::Inner(inner) = &mut *node {
                    inner.insert(0, 0, old);
                    inner.insert(1, bound, sibling);
                }
                self.root = Some(node);
                self.height += 1;
                inners += 1;
            }
        }
        self.inners += inners;
        self.nodes += leaves + inners;
        self.len += 1;
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
        let bound = inner.bounds[i + 1];
        let (left, right) = inner.children.split_at_mut(i + 1);
        let (Some(a), Some(b)) = (&mut left[i], &mut right[0]) else {
            return false;
        };
        if !a.absorb(b, bound) {
            return false;
        }
        if let Some(child) = inner.remove(i + 1) {
            freed.put(child);
        }
        true
    }

    /// Removes the entry that has an address.
    fn remove_slowly(&mut self, address: u64) -> Option<V> {
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

/// Where an insertion takes its nodes from, and how many it took.
struct Added<'a, V> {
    spares: &'a mut Spares<V>,
    leaves: usize,
    inners: usize,
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

impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Value> RangeMap<V> {
    /// Sets a range to no value. Entries that lie in it are removed; others keep what lies outside.
    /// The values of all of them, or copies where some is left, are given to `removed`, in order, one
    /// for each entry. Needs a [reserved](Self::reserve) change.
    pub fn clear(&mut self, range: VaRange, mut removed: impl FnMut(V)) {
        let (start, end) = (range.start(), range.end());
        let mut at = start;
        while at < end {
            let Some((leaf, _, limit)) = self.leaf_mut(at) else {
                return;
            };
            let mut i = leaf.behind(at);
            if i > 0 && leaf.slot(i - 1).is_some_and(|s| s.end > at) {
                i -= 1;
            } else if i == leaf.len {
                // The next leaf, if that is not behind the range.
                at = limit;
                continue;
            }
            let (first, len) = (leaf.starts[i], leaf.len);
            if first >= end {
                return;
            }
            let Some(slot) = leaf.slot_mut(i) else {
                return;
            };
            let last = slot.end;
            at = last;
            match (first < start, last > end) {
                (true, outside) => {
                    slot.end = start;
                    removed(slot.value.clone());
                    if outside {
                        let value = slot.value.advance(end - first);
                        if len < LEAF {
                            leaf.insert(i + 1, end, Slot { end: last, value });
                            self.len += 1;
                        } else if let Some(tail) = VaRange::from_bounds(end, last) {
                            self.insert(tail, value);
                        }
                    }
                }
                (false, true) => {
                    let rest = slot.value.advance(end - first);
                    removed(core::mem::replace(&mut slot.value, rest));
                    leaf.starts[i] = end;
                }
                // Whether to merge is asked once as a leaf gets low, and it is removed once empty.
                (false, false) if len > 1 && len != LEAF_LOW => {
                    // All that can go at once.
                    while leaf.len > 1 && leaf.len != LEAF_LOW && i < leaf.len {
                        match leaf.slot(i) {
                            Some(slot) if slot.end <= end => at = slot.end,
                            _ => break,
                        }
                        if let Some(value) = leaf.remove(i) {
                            removed(value);
                        }
                    }
                    let gone = len - leaf.len;
                    self.len -= gone;
                }
                (false, false) => {
                    if let Some(value) = self.remove_slowly(first) {
                        removed(value);
                    }
                }
            }
        }
    }

    /// Sets a range to a value, replacing what was there as [`clear`](Self::clear) does.
    pub fn set(&mut self, range: VaRange, value: V, mut removed: impl FnMut(V)) {
        if let Some(value) = self.set_in_leaf(range, value, &mut removed) {
            self.clear(range, removed);
            self.join(range, value);
        }
    }

    /// [`set`](Self::set) where one leaf is all that it takes, with one descent: nothing or one entry
    /// is there, and no neighbour is continued. Else gives the value back and has changed nothing.
    #[inline(always)]
    fn set_in_leaf(&mut self, range: VaRange, value: V, removed: &mut impl FnMut(V)) -> Option<V> {
        let (start, end) = (range.start(), range.end());
        let Some((leaf, floor, limit)) = self.leaf_mut(start) else {
            return Some(value);
        };
        // A neighbour in another leaf could be continued.
        if end >= limit || start == floor && floor > 0 {
            return Some(value);
        }
        let behind = leaf.behind(start);
        let mut at = behind;
        // The last that begins before the range: it has its start, ends there, or before.
        let mut before = behind.checked_sub(1);
        if let Some(last) = before {
            if leaf.starts[last] == start {
                at = last;
                before = last.checked_sub(1);
            }
        }
        if let Some(last) = before {
            let first = leaf.starts[last];
            let Some(slot) = leaf.slot(last) else {
                return Some(value);
            };
            if slot.end > start {
                at = last;
            }
            if slot.end >= start && slot.value.continues(start - first, &value) {
                return Some(value);
            }
        }
        let free = LEAF - leaf.len;
        let Some(entry) = leaf.entry(at) else {
            // Behind all entries of the leaf.
            if free == 0 {
                return Some(value);
            }
            leaf.insert(at, start, Slot { end, value });
            self.len += 1;
            return None;
        };
        let (first, last) = (entry.range.start(), entry.range.end());
        // What begins where it ends, or is cut there.
        if first >= end {
            if free == 0 || first == end && value.continues(range.size(), entry.value) {
                return Some(value);
            }
            leaf.insert(at, start, Slot { end, value });
            self.len += 1;
            return None;
        }
        if last > end {
            let tail = entry.value.advance(end - first);
            if free < 2 || value.continues(range.size(), &tail) {
                return Some(value);
            }
            let Some(slot) = leaf.slot_mut(at) else {
                return Some(value);
            };
            if first < start {
                slot.end = start;
                removed(slot.value.clone());
                leaf.insert(at + 1, start, Slot { end, value });
                leaf.insert(
                    at + 2,
                    end,
                    Slot {
                        end: last,
                        value: tail,
                    },
                );
                self.len += 2;
            } else {
                removed(core::mem::replace(&mut slot.value, tail));
                leaf.starts[at] = end;
                leaf.insert(at, start, Slot { end, value });
                self.len += 1;
            }
            return None;
        }
        let follows = leaf.entry(at + 1);
        if follows.is_some_and(|e| {
            e.range.start() < end
                || e.range.start() == end && value.continues(range.size(), e.value)
        }) {
            return Some(value);
        }
        if first < start {
            if free == 0 {
                return Some(value);
            }
            let Some(slot) = leaf.slot_mut(at) else {
                return Some(value);
            };
            slot.end = start;
            removed(slot.value.clone());
            leaf.insert(at + 1, start, Slot { end, value });
            self.len += 1;
        } else {
            // The same range, or one inside that began behind it.
            leaf.starts[at] = start;
            let Some(slot) = leaf.slot_mut(at) else {
                return Some(value);
            };
            slot.end = end;
            removed(core::mem::replace(&mut slot.value, value));
        }
        None
    }

    /// Inserts an entry that nothing overlaps and that continues nothing.
    fn insert(&mut self, range: VaRange, value: V) {
        if let Some((leaf, _, limit)) = self.leaf_mut(range.start()) {
            if leaf.len < LEAF && range.end() <= limit {
                let at = leaf.behind(range.start());
                let slot = Slot {
                    end: range.end(),
                    value,
                };
                leaf.insert(at, range.start(), slot);
                self.len += 1;
                return;
            }
        }
        self.insert_slowly(range, value);
    }

    /// Inserts an entry that nothing overlaps, as one with the neighbours that it continues.
    fn join(&mut self, range: VaRange, value: V) {
        let Some((leaf, floor, limit)) = self.leaf_mut(range.start()) else {
            return self.insert_slowly(range, value);
        };
        let at = leaf.behind(range.start());
        // A neighbour in the same leaf is looked at here, and others by their addresses.
        let far_before = at == 0 && floor == range.start() && floor > 0;
        let far_behind = at == leaf.len && limit <= range.end();
        let before = at > 0
            && leaf.entry(at - 1).is_some_and(|e| {
                e.range.end() == range.start() && e.value.continues(e.range.size(), &value)
            });
        let behind = leaf.entry(at).is_some_and(|e| {
            e.range.start() == range.end() && value.continues(range.size(), e.value)
        });
        if !far_before && !far_behind {
            match (before, behind) {
                (false, false) => {
                    if leaf.len < LEAF && range.end() <= limit {
                        let slot = Slot {
                            end: range.end(),
                            value,
                        };
                        leaf.insert(at, range.start(), slot);
                        self.len += 1;
                        return;
                    }
                    return self.insert_slowly(range, value);
                }
                (true, false) if range.end() <= limit => {
                    if let Some(slot) = leaf.slot_mut(at - 1) {
                        slot.end = range.end();
                    }
                    return;
                }
                (false, true) => {
                    leaf.starts[at] = range.start();
                    if let Some(slot) = leaf.slot_mut(at) {
                        slot.value = value;
                    }
                    return;
                }
                _ => (),
            }
        }
        self.join_slowly(range, value);
    }

    /// As [`join`](Self::join), wherever the neighbours are.
    fn join_slowly(&mut self, mut range: VaRange, mut value: V) {
        let behind = self
            .get(range.end())
            .filter(|e| e.range.start() == range.end() && value.continues(range.size(), e.value));
        if let Some(behind) = behind.map(|e| e.range) {
            drop(self.remove_slowly(behind.start()));
            range = range.hull(&behind);
        }
        let before = range.start().checked_sub(1).and_then(|last| self.get(last));
        let before = before.filter(|e| e.value.continues(e.range.size(), &value));
        if let Some(before) = before.map(|e| e.range) {
            if let Some(first) = self.remove_slowly(before.start()) {
                value = first;
            }
            range = range.hull(&before);
        }
        self.insert(range, value);
    }
}
