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
#[path = "range_map/shape.rs"]
mod shape;
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[path = "range_map/tests.rs"]
mod tests;

use self::node::{
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
/// Changes at a time for which nodes are kept if as many come again and again: batches of that size
/// allocate and free none in the long run, for some 150 KiB.
const KEEP_CHANGES: usize = 128;

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

/// What keeps a change from being done in one leaf.
enum Obstacle {
    /// Nothing overlaps or is continued, but the leaf is full.
    Full,
    /// Entries that overlap it or are continued, of that leaf or of others.
    Others,
}

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
    /// The most changes at a time, of late.
    recent: usize,
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
            recent: 0,
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
                    limit = inner.bounds[i + 1];
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
                    (floor, limit) = (inner.bounds[i], inner.bounds[i + 1]);
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

    /// Bytes of a range that have a value.
    pub fn covered(&self, range: VaRange) -> u64 {
        self.overlaps(range)
            .filter_map(|entry| Some(entry.range.intersect(&range)?.size()))
            .sum()
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
        self.recent = changes.max(self.recent - self.recent.div_ceil(8));
        // More than that is never needed.
        if self.spares.len >= 2 * changes * (self.height + 2) {
            return Ok(());
        }
        self.reserve_slowly(changes)
    }

    #[cold]
    fn reserve_slowly(&mut self, changes: usize) -> Result {
        let needed = self.needed(changes);
        while self.spares.len < needed {
            self.spares.add(GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Nodes that so many changes can need.
    fn needed(&self, changes: usize) -> usize {
        // A change adds two entries at most: its own, and the rest of one that it cut in two.
        let entries = 2 * changes;
        // Each entry can split one leaf. It can also split one inner node of each level; but after the
        // split of one that was there, it takes INNER / 4 more children to split it or the other half
        // again. Summed up over all levels, that is less than a fifth more than the first of these
        // splits, and less than one for INNER / 5 entries.
        let inners = (entries * (self.height + 1))
            .min(self.inners + self.inners / 4 + entries / (INNER / 5) + self.height + 2);
        entries + inners
    }

    /// Gives back most of what was reserved and not needed, unless as much is likely to be needed
    /// again.
    #[inline]
    pub fn trim(&mut self) {
        let changes = self.recent.min(KEEP_CHANGES);
        let most = KEEP + 2 * (self.height + 2) + 2 * changes + changes / 8;
        if self.spares.len > most {
            self.spares.trim(most);
        }
    }
}

/// Nodes for a map that changes under a lock under which nothing may be allocated.
pub struct Stock<V>(Spares<V>);

impl<V> Stock<V> {
    /// None.
    pub const fn new() -> Self {
        Self(Spares::new())
    }

    /// Allocates nodes until there are so many. `ENOMEM`.
    pub fn fill(&mut self, nodes: usize) -> Result {
        while self.0.len < nodes {
            self.0.add(GFP_KERNEL)?;
        }
        Ok(())
    }
}

impl<V> Default for Stock<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> RangeMap<V> {
    /// How many nodes are missing for so many changes.
    pub fn lacks(&self, changes: usize) -> usize {
        self.needed(changes).saturating_sub(self.spares.len)
    }

    /// How many nodes are missing for setting so many ranges, one behind the other, where none are, and for so
    /// many changes besides. These are few, for an entry of a row splits a leaf only after half a leaf of others.
    pub fn lacks_for_row(&self, ranges: usize, changes: usize) -> usize {
        let leaves = ranges / (LEAF / 2) + 2;
        // As for leaves, with a quarter of an inner node; and one more of each level, and a new root.
        let inners = leaves / (INNER / 4 - 1) + 2 * (self.height + 2);
        (self.needed(changes) + leaves + inners).saturating_sub(self.spares.len)
    }

    /// Takes all of a stock, which may then be dropped under any lock.
    pub fn supply(&mut self, stock: &mut Stock<V>) {
        while stock.0.len > 0 {
            let Some(node) = stock.0.take() else {
                return;
            };
            self.spares.put(node);
        }
    }

    /// Puts what is not needed for so many changes into a stock, to be freed where that is allowed.
    pub fn surplus(&mut self, changes: usize, stock: &mut Stock<V>) {
        let most = self.needed(changes);
        while self.spares.len > most {
            let Some(node) = self.spares.take() else {
                return;
            };
            stock.0.put(node);
        }
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
            // The first that ends behind it: the last one to begin before, or the one behind that.
            let behind = leaf.behind(at);
            let before = behind
                .checked_sub(1)
                .and_then(|i| Some((i, leaf.slot(i)?.end)));
            let (mut i, mut last) = before.unwrap_or((behind, at));
            if last <= at {
                let Some(slot) = leaf.slot(behind) else {
                    // In the next leaf, if that is not behind the range.
                    at = limit;
                    continue;
                };
                (i, last) = (behind, slot.end);
            }
            let first = leaf.starts[i];
            if first >= end {
                return;
            }
            at = last;
            if start <= first && last <= end {
                // Whether to merge is asked once as a leaf gets low, and it is removed once empty.
                if leaf.len == 1 || leaf.len == LEAF_LOW {
                    if let Some(value) = self.remove_slowly(first) {
                        removed(value);
                    }
                    continue;
                }
                // All that can go at once.
                let mut gone = 0;
                loop {
                    if let Some(value) = leaf.remove(i) {
                        removed(value);
                    }
                    gone += 1;
                    if at >= end || leaf.len == 1 || leaf.len == LEAF_LOW {
                        break;
                    }
                    match leaf.slot(i) {
                        Some(slot) if slot.end <= end => at = slot.end,
                        _ => break,
                    }
                }
                self.len -= gone;
                continue;
            }
            let full = leaf.len == LEAF;
            let Some(slot) = leaf.slot_mut(i) else {
                return;
            };
            if start <= first {
                let rest = slot.value.advance(end - first);
                removed(core::mem::replace(&mut slot.value, rest));
                leaf.starts[i] = end;
                return;
            }
            slot.end = start;
            removed(slot.value.clone());
            if let Some(tail) = VaRange::from_bounds(end, last) {
                let value = slot.value.advance(end - first);
                if full {
                    self.insert_slowly(tail, value);
                } else {
                    leaf.insert(i + 1, end, Slot { end: last, value });
                    self.len += 1;
                }
            }
        }
    }

    /// Sets a range to a value, replacing what was there as [`clear`](Self::clear) does.
    pub fn set(&mut self, range: VaRange, value: V, mut removed: impl FnMut(V)) {
        match self.set_in_leaf(range, value, &mut removed) {
            Ok(()) => (),
            Err((Obstacle::Full, value)) => {
                self.insert_slowly(range, value);
            }
            Err((Obstacle::Others, value)) => {
                self.clear(range, removed);
                self.join(range, value);
            }
        }
    }

    /// [`set`](Self::set) where one leaf is all that it takes, with one descent: nothing or one entry
    /// is there, or one neighbour is continued. Else gives the value back and has changed nothing.
    #[inline(always)]
    fn set_in_leaf(
        &mut self,
        range: VaRange,
        value: V,
        removed: &mut impl FnMut(V),
    ) -> Result<(), (Obstacle, V)> {
        let (start, end) = (range.start(), range.end());
        let Some((leaf, floor, limit)) = self.leaf_mut(start) else {
            return Err((Obstacle::Full, value));
        };
        // A neighbour in another leaf could be continued.
        if end >= limit || start == floor {
            return Err((Obstacle::Others, value));
        }
        let free = LEAF - leaf.len;
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
        let mut continued = None;
        if let Some(last) = before {
            let first = leaf.starts[last];
            let Some(slot) = leaf.slot(last) else {
                return Err((Obstacle::Others, value));
            };
            if slot.end > start {
                at = last;
            }
            if slot.end >= start && slot.value.continues(start - first, &value) {
                continued = Some(last);
            }
        }
        let next = leaf.starts.get(at).copied().unwrap_or(u64::MAX);
        if next >= end {
            // Nothing is there.
            let continues = next == end
                && leaf
                    .slot(at)
                    .is_some_and(|slot| value.continues(range.size(), &slot.value));
            match (continued, continues) {
                (None, false) if free == 0 => return Err((Obstacle::Full, value)),
                (None, false) => {
                    leaf.insert(at, start, Slot { end, value });
                    self.len += 1;
                }
                (Some(last), false) => {
                    if let Some(slot) = leaf.slot_mut(last) {
                        slot.end = end;
                    }
                }
                (None, true) => {
                    leaf.starts[at] = start;
                    if let Some(slot) = leaf.slot_mut(at) {
                        slot.value = value;
                    }
                }
                (Some(_), true) => return Err((Obstacle::Others, value)),
            }
            return Ok(());
        }
        let Some(entry) = leaf.entry(at).filter(|_| continued.is_none()) else {
            return Err((Obstacle::Others, value));
        };
        let (first, last) = (entry.range.start(), entry.range.end());
        if last > end {
            let tail = entry.value.advance(end - first);
            if free < 2 || value.continues(range.size(), &tail) {
                return Err((Obstacle::Others, value));
            }
            let Some(slot) = leaf.slot_mut(at) else {
                return Err((Obstacle::Others, value));
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
            return Ok(());
        }
        let follows = leaf.entry(at + 1);
        if follows.is_some_and(|e| {
            e.range.start() < end
                || e.range.start() == end && value.continues(range.size(), e.value)
        }) {
            return Err((Obstacle::Others, value));
        }
        if first < start {
            if free == 0 {
                return Err((Obstacle::Others, value));
            }
            let Some(slot) = leaf.slot_mut(at) else {
                return Err((Obstacle::Others, value));
            };
            slot.end = start;
            removed(slot.value.clone());
            leaf.insert(at + 1, start, Slot { end, value });
            self.len += 1;
        } else {
            // The same range, or one inside that began behind it.
            leaf.starts[at] = start;
            let Some(slot) = leaf.slot_mut(at) else {
                return Err((Obstacle::Others, value));
            };
            slot.end = end;
            removed(core::mem::replace(&mut slot.value, value));
        }
        Ok(())
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
    fn join(&mut self, mut range: VaRange, mut value: V) {
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
