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

use crate::range::VaRange;
use kernel::{
    prelude::*,
    warn_on, //
};

/// Entries of a leaf: with values of 24 bytes it fills 512 bytes.
const LEAF: usize = 12;
/// Children of an inner node, of the same size.
const INNER: usize = 31;
/// A node with less than this is merged with a neighbour if there is room.
const LEAF_LOW: usize = LEAF / 3;
const INNER_LOW: usize = INNER / 3;
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

struct Slot<V> {
    end: u64,
    value: V,
}

/// # Invariants
///
/// The first `len` slots are taken and all others are empty; `starts` of the taken ones grow, and
/// each slot ends where the next one starts or before.
struct Leaf<V> {
    len: usize,
    starts: [u64; LEAF],
    slots: [Option<Slot<V>>; LEAF],
}

impl<V> Leaf<V> {
    const fn new() -> Self {
        Self {
            len: 0,
            starts: [0; LEAF],
            slots: [const { None }; LEAF],
        }
    }

    /// Index of the first entry that starts behind an address.
    fn behind(&self, address: u64) -> usize {
        self.starts[..self.len].partition_point(|&start| start <= address)
    }

    fn insert(&mut self, at: usize, start: u64, slot: Slot<V>) {
        self.starts.copy_within(at..self.len, at + 1);
        self.starts[at] = start;
        self.slots[at..=self.len].rotate_right(1);
        self.slots[at] = Some(slot);
        self.len += 1;
    }

    fn remove(&mut self, at: usize) -> Option<V> {
        let slot = self.slots[at].take();
        self.starts.copy_within(at + 1..self.len, at);
        self.slots[at..self.len].rotate_left(1);
        self.len -= 1;
        slot.map(|slot| slot.value)
    }

    /// Moves all entries from `at` on to the end of another leaf.
    fn move_to(&mut self, at: usize, other: &mut Self) {
        for i in at..self.len {
            other.starts[other.len] = self.starts[i];
            other.slots[other.len] = self.slots[i].take();
            other.len += 1;
        }
        self.len = at;
    }

    fn entry(&self, at: usize) -> Option<Entry<'_, V>> {
        let slot = self.slots.get(at)?.as_ref()?;
        Some(Entry {
            range: VaRange::from_bounds(self.starts[at], slot.end)?,
            value: &slot.value,
        })
    }
}

/// # Invariants
///
/// The first `len` children are there and not empty, all others are not. All entries below child i
/// lie in `bounds[i]..bounds[i + 1]`; `bounds[0]` does not count, and the last child's entries end
/// where the node's do.
struct Inner<V> {
    len: usize,
    bounds: [u64; INNER],
    children: [Option<KBox<Node<V>>>; INNER],
}

impl<V> Inner<V> {
    const fn new() -> Self {
        Self {
            len: 0,
            bounds: [0; INNER],
            children: [const { None }; INNER],
        }
    }

    /// Index of the child that has an address.
    fn child(&self, address: u64) -> usize {
        self.bounds[1..self.len].partition_point(|&bound| bound <= address)
    }

    /// Where the entries of a child end at the latest, if those of the node do so at `limit`.
    fn limit(&self, child: usize, limit: u64) -> u64 {
        if child + 1 < self.len {
            self.bounds[child + 1]
        } else {
            limit
        }
    }

    fn insert(&mut self, at: usize, bound: u64, child: KBox<Node<V>>) {
        self.bounds.copy_within(at..self.len, at + 1);
        self.bounds[at] = bound;
        self.children[at..=self.len].rotate_right(1);
        self.children[at] = Some(child);
        self.len += 1;
    }

    fn remove(&mut self, at: usize) -> Option<KBox<Node<V>>> {
        let child = self.children[at].take();
        self.bounds.copy_within(at + 1..self.len, at);
        self.children[at..self.len].rotate_left(1);
        self.len -= 1;
        child
    }

    fn move_to(&mut self, at: usize, other: &mut Self) {
        for i in at..self.len {
            other.bounds[other.len] = self.bounds[i];
            other.children[other.len] = self.children[i].take();
            other.len += 1;
        }
        self.len = at;
    }
}

enum Node<V> {
    Leaf(Leaf<V>),
    Inner(Inner<V>),
}

impl<V> Node<V> {
    fn is_low(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len < LEAF_LOW,
            Node::Inner(inner) => inner.len < INNER_LOW,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len == 0,
            Node::Inner(inner) => inner.len == 0,
        }
    }

    /// Takes in all that `next`, the neighbour behind this node, has, unless there is no room.
    /// `bound` is where its entries begin at the earliest.
    fn absorb(&mut self, next: &mut Self, bound: u64) -> bool {
        match (self, next) {
            (Node::Leaf(a), Node::Leaf(b)) if a.len + b.len <= LEAF => b.move_to(0, a),
            (Node::Inner(a), Node::Inner(b)) if a.len + b.len <= INNER => {
                b.bounds[0] = bound;
                b.move_to(0, a);
            }
            _ => return false,
        }
        true
    }
}

/// Nodes set aside. They are chained by their first children.
struct Spares<V> {
    first: Option<KBox<Node<V>>>,
    len: usize,
}

impl<V> Spares<V> {
    const fn new() -> Self {
        Self {
            first: None,
            len: 0,
        }
    }

    fn put(&mut self, mut node: KBox<Node<V>>) {
        let mut inner = Inner::new();
        inner.children[0] = self.first.take();
        *node = Node::Inner(inner);
        self.first = Some(node);
        self.len += 1;
    }

    fn take(&mut self) -> Option<KBox<Node<V>>> {
        let mut node = match self.first.take() {
            Some(node) => node,
            None => {
                // Not reached, as long as `reserve` counts right.
                warn_on!(true);
                KBox::new(Node::Leaf(Leaf::new()), GFP_ATOMIC).ok()?
            }
        };
        if let Node::Inner(inner) = &mut *node {
            self.first = inner.children[0].take();
            self.len = self.len.saturating_sub(1);
        }
        Some(node)
    }

    fn leaf(&mut self) -> Option<KBox<Node<V>>> {
        let mut node = self.take()?;
        *node = Node::Leaf(Leaf::new());
        Some(node)
    }

    fn inner(&mut self) -> Option<KBox<Node<V>>> {
        let mut node = self.take()?;
        *node = Node::Inner(Inner::new());
        Some(node)
    }
}

impl<V> Drop for Spares<V> {
    fn drop(&mut self) {
        // One by one: a chain dropped as a whole would recurse.
        while let Some(mut node) = self.first.take() {
            if let Node::Inner(inner) = &mut *node {
                self.first = inner.children[0].take();
            }
        }
    }
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

    /// The leaf that has an address, and where its entries end at the latest.
    fn leaf(&self, address: u64) -> Option<(&Leaf<V>, u64)> {
        let mut node = self.root.as_ref()?;
        let mut limit = u64::MAX;
        loop {
            match &**node {
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
    pub fn get(&self, address: u64) -> Option<Entry<'_, V>> {
        let (leaf, _) = self.leaf(address)?;
        let at = leaf.behind(address).checked_sub(1)?;
        leaf.entry(at).filter(|entry| entry.range.end() > address)
    }

    /// The first entry that has an address in common with a range.
    pub fn first_overlap(&self, range: &VaRange) -> Option<Entry<'_, V>> {
        let (leaf, limit) = self.leaf(range.start())?;
        let behind = leaf.behind(range.start());
        if let Some(at) = behind.checked_sub(1) {
            if let Some(entry) = leaf.entry(at).filter(|e| e.range.end() > range.start()) {
                return Some(entry);
            }
        }
        let next = if behind < leaf.len {
            leaf.entry(behind)
        } else if limit < range.end() {
            // No leaf is empty, so it is the first one of the next.
            self.leaf(limit)?.0.entry(0)
        } else {
            None
        };
        next.filter(|entry| entry.range.start() < range.end())
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
    pub fn reserve(&mut self, changes: usize) -> Result {
        // A change adds two entries at most: its own, and the rest of one that it cut in two.
        let entries = 2 * changes;
        // Each entry can split one leaf. It can also split one inner node of each level; but in the
        // long run it takes half a node's worth of children to split one again.
        let inners = (entries * (self.height + 1))
            .min(self.inners + entries / (INNER / 4) + self.height + 2);
        while self.spares.len < entries + inners {
            self.spares
                .put(KBox::new(Node::Leaf(Leaf::new()), GFP_KERNEL)?);
        }
        Ok(())
    }

    /// Gives back most of what was reserved and not needed.
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
                if i + 1 <= half {
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
            if i > 0 && leaf.slots[i - 1].as_ref().is_some_and(|s| s.end > at) {
                i -= 1;
            } else if i == leaf.len {
                // The next leaf, if that is not behind the range.
                at = limit;
                continue;
            }
            let first = leaf.starts[i];
            if first >= end {
                return;
            }
            let Some(slot) = &mut leaf.slots[i] else {
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
                        if let Some(tail) = VaRange::from_bounds(end, last) {
                            self.insert(tail, value);
                        }
                    }
                }
                (false, true) => {
                    leaf.starts[i] = end;
                    let rest = slot.value.advance(end - first);
                    removed(core::mem::replace(&mut slot.value, rest));
                }
                (false, false) => {
                    let value = if leaf.len > LEAF_LOW {
                        let value = leaf.remove(i);
                        self.len -= 1;
                        value
                    } else {
                        self.remove_slowly(first)
                    };
                    if let Some(value) = value {
                        removed(value);
                    }
                }
            }
        }
    }

    /// Sets a range to a value, replacing what was there as [`clear`](Self::clear) does.
    pub fn set(&mut self, range: VaRange, value: V, removed: impl FnMut(V)) {
        self.clear(range, removed);
        self.join(range, value);
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
                    if let Some(slot) = &mut leaf.slots[at - 1] {
                        slot.end = range.end();
                    }
                    return;
                }
                (false, true) => {
                    leaf.starts[at] = range.start();
                    if let Some(slot) = &mut leaf.slots[at] {
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

#[kunit_tests(gmem_vm_range_map)]
mod tests {
    use super::*;

    /// A value with a name, that counts on.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Count(u8, u64);

    impl Value for Count {
        fn advance(&self, bytes: u64) -> Self {
            Self(self.0, self.1 + bytes)
        }

        fn continues(&self, bytes: u64, next: &Self) -> bool {
            self.advance(bytes) == *next
        }
    }

    /// What each of the first addresses has.
    struct Model(KVVec<Option<Count>>);

    impl Model {
        fn new(addresses: usize) -> Result<Self> {
            Ok(Self(KVVec::from_elem(None, addresses, GFP_KERNEL)?))
        }

        fn set(&mut self, range: VaRange, value: Option<Count>) {
            for at in range.start()..range.end() {
                self.0[at as usize] = value.map(|v| v.advance(at - range.start()));
            }
        }

        /// The map must have what the model has, in as few entries as that takes.
        fn check(&self, map: &RangeMap<Count>) {
            let mut at = 0;
            let mut entries = 0;
            let mut last: Option<Count> = None;
            for entry in map.iter() {
                let range = entry.range;
                assert!(range.start() >= at && range.end() <= self.0.len() as u64);
                assert!(
                    self.0[at as usize..range.start() as usize]
                        .iter()
                        .all(|v| v.is_none())
                );
                if range.start() > at {
                    last = None;
                }
                assert!(last.is_none_or(|l| l != *entry.value));
                for (i, value) in self.0[range.start() as usize..range.end() as usize]
                    .iter()
                    .enumerate()
                {
                    assert_eq!(*value, Some(entry.value.advance(i as u64)));
                }
                at = range.end();
                last = Some(entry.value.advance(range.size()));
                entries += 1;
            }
            assert!(self.0[at as usize..].iter().all(|v| v.is_none()));
            assert_eq!(map.len(), entries);
        }
    }

    /// What the tree says of itself is so: counts, bounds and that no node is empty.
    fn check_shape(map: &RangeMap<Count>) {
        fn walk(node: &Node<Count>, floor: u64, limit: u64, level: usize, n: &mut [usize; 3]) {
            match node {
                Node::Leaf(leaf) => {
                    assert_eq!(level, 0);
                    assert!(leaf.len > 0);
                    assert!(leaf.slots[leaf.len..].iter().all(|s| s.is_none()));
                    let mut at = floor;
                    for i in 0..leaf.len {
                        let end = leaf.slots[i].as_ref().map_or(0, |s| s.end);
                        assert!(leaf.starts[i] >= at && end > leaf.starts[i]);
                        at = end;
                    }
                    assert!(at <= limit);
                    n[0] += leaf.len;
                    n[1] += 1;
                }
                Node::Inner(inner) => {
                    assert!(inner.len > 0 && level > 0);
                    assert!(inner.children[inner.len..].iter().all(|c| c.is_none()));
                    for i in 0..inner.len {
                        let floor = if i > 0 { inner.bounds[i] } else { floor };
                        if let Some(child) = &inner.children[i] {
                            walk(child, floor, inner.limit(i, limit), level - 1, n);
                        }
                    }
                    n[1] += 1;
                    n[2] += 1;
                }
            }
        }
        let mut n = [0; 3];
        if let Some(root) = &map.root {
            walk(root, 0, u64::MAX, map.height, &mut n);
        }
        assert_eq!(n, [map.len, map.nodes, map.inners]);
    }

    struct Random(u64);

    impl Random {
        /// Below `n`.
        fn next(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % n as u64) as usize
        }
    }

    /// Random changes of a map of `n` addresses, at most `longest` at a time.
    fn random_changes(seed: u64, n: usize, steps: usize, longest: usize) -> Result {
        let mut random = Random(seed);
        let mut map = RangeMap::new();
        let mut model = Model::new(n)?;
        for step in 0..steps {
            let start = random.next(n);
            let size = 1 + random.next(longest.min(n - start));
            let range = VaRange::new(start as u64, size as u64)?;
            let value = (random.next(3) > 0).then(|| {
                // Often what continues a neighbour.
                Count(random.next(2) as u8, (start + random.next(2)) as u64)
            });
            map.reserve(1)?;
            let mut gone = 0;
            match value {
                Some(value) => map.set(range, value, |_| gone += 1),
                None => map.clear(range, |_| gone += 1),
            }
            model.set(range, value);
            // Comparing all is what takes the time.
            if n <= 64 || step % 32 == 0 {
                model.check(&map);
                check_shape(&map);
            }
            map.trim();
        }
        model.check(&map);
        Ok(())
    }

    #[test]
    fn random_changes_of_few_addresses() -> Result {
        random_changes(0x9e37_79b9_7f4a_7c15, 64, 3000, 64)
    }

    #[test]
    fn random_changes_of_many_addresses() -> Result {
        random_changes(0x2545_f491_4f6c_dd1d, 2048, 20000, 3)
    }

    #[test]
    fn reserved_nodes_are_enough() -> Result {
        for n in [1, 10, 100, 1000] {
            let mut map = RangeMap::new();
            let mut random = Random(n as u64);
            for round in 0..8 {
                map.reserve(n)?;
                let spare = map.spares.len;
                for i in 0..n {
                    // Up, down, and anywhere.
                    let at = match round % 3 {
                        0 => round * 10000 + 4 * i,
                        1 => (round + 1) * 10000 - 4 * i,
                        _ => 4 * random.next(25000),
                    };
                    let range = VaRange::new(at as u64, 3)?;
                    map.set(range, Count(i as u8, random.next(1000) as u64), |_| ());
                }
                assert!(spare > 0);
            }
            check_shape(&map);
        }
        Ok(())
    }

    #[test]
    fn full_and_empty_in_any_direction() -> Result {
        for direction in 0..3 {
            let mut map = RangeMap::new();
            let mut random = Random(7);
            let order = |i: u64, random: &mut Random| match direction {
                0 => i,
                1 => 3999 - i,
                _ => random.next(4000) as u64,
            };
            for i in 0..4000 {
                let at = order(i, &mut random) * 2;
                map.reserve(1)?;
                map.set(VaRange::new(at, 1)?, Count(0, 0), |_| ());
            }
            check_shape(&map);
            // Sequential changes leave full nodes behind.
            assert!(direction == 2 || map.nodes * LEAF < map.len() * 3 / 2);
            for i in 0..4000 {
                let at = order(i, &mut random) * 2;
                map.reserve(1)?;
                map.clear(VaRange::new(at, 1)?, |_| ());
            }
            check_shape(&map);
            map.trim();
            if direction < 2 {
                assert!(map.is_empty() && map.nodes == 0 && map.bytes() < 16 << 10);
            }
        }
        Ok(())
    }
}
