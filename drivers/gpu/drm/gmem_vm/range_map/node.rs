// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The nodes of a [`RangeMap`](super::RangeMap): what each holds, and how that moves between them.

use super::Entry;
use crate::range::VaRange;
use kernel::{
    prelude::*,
    warn_on, //
};

/// Entries of a leaf: with values of 24 bytes it fills 512 bytes.
pub(super) const LEAF: usize = 12;
/// Children of an inner node, of the same size.
pub(super) const INNER: usize = 31;
/// A node with less than this is merged with a neighbour if there is room.
pub(super) const LEAF_LOW: usize = LEAF / 3;
pub(super) const INNER_LOW: usize = INNER / 3;

/// How many of the keys are not above an address. They grow; those that are not taken are `u64::MAX`,
/// which no address in a range is.
///
/// Unrolled, without a branch that depends on a key, and with indices that are known to be inside.
#[inline(always)]
pub(super) fn rank<const N: usize>(keys: &[u64; N], address: u64) -> usize {
    const { assert!(N < 32) };
    let mut base = 0;
    // The first step leaves less than a power of two.
    let mut step = (N + 1).next_power_of_two() / 2;
    let first = N + 1 - step;
    if keys[first - 1] <= address {
        base = first;
    }
    step /= 2;
    while step > 0 {
        if keys[base + step - 1] <= address {
            base += step;
        }
        step /= 2;
    }
    base
}

pub(super) struct Slot<V> {
    pub(super) end: u64,
    pub(super) value: V,
}

/// # Invariants
///
/// `starts` of the `len` entries grow, and each entry ends where the next one starts or before.
/// `order` has the indices of all slots, four bits each: that of the entry i in bits 4i and up, and
/// behind those of the entries those of the empty slots.
pub(super) struct Leaf<V> {
    pub(super) len: usize,
    /// So that an entry never moves while others come and go.
    pub(super) order: u64,
    pub(super) starts: [u64; LEAF],
    pub(super) slots: [Option<Slot<V>>; LEAF],
}

/// The numbers of a leaf's slots, as they lie, and behind them one that no slot has.
pub(super) const IN_ORDER: u64 = 0xffff_ba98_7654_3210;

/// The bits of `order` below an index.
const fn below(at: usize) -> u64 {
    (1 << (4 * at)) - 1
}

impl<V> Leaf<V> {
    pub(super) const fn new() -> Self {
        const { assert!(LEAF <= 12) };
        Self {
            len: 0,
            order: IN_ORDER,
            starts: [u64::MAX; LEAF],
            slots: [const { None }; LEAF],
        }
    }

    /// Index of the first entry that starts behind an address.
    #[inline(always)]
    pub(super) fn behind(&self, address: u64) -> usize {
        rank(&self.starts, address)
    }

    pub(super) fn place(&self, at: usize) -> usize {
        (self.order >> (4 * at)) as usize & 15
    }

    pub(super) fn slot(&self, at: usize) -> Option<&Slot<V>> {
        self.slots.get(self.place(at))?.as_ref()
    }

    pub(super) fn slot_mut(&mut self, at: usize) -> Option<&mut Slot<V>> {
        let place = self.place(at);
        self.slots.get_mut(place)?.as_mut()
    }

    pub(super) fn insert(&mut self, at: usize, start: u64, slot: Slot<V>) {
        let place = self.place(self.len);
        if let Some(free) = self.slots.get_mut(place) {
            *free = Some(slot);
        }
        let (before, all) = (below(at), below(self.len + 1));
        // INVARIANT: The first free slot comes in at its place, those of what lies behind move up.
        self.order = (self.order & (before | !all))
            | ((place as u64) << (4 * at))
            | (((self.order & !before) << 4) & all);
        let mut next = start;
        for key in self.starts[at..=self.len].iter_mut() {
            next = core::mem::replace(key, next);
        }
        self.len += 1;
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<V> {
        let place = self.place(at);
        let slot = self.slots.get_mut(place)?.take();
        let (before, all) = (below(at), below(self.len));
        self.len -= 1;
        // INVARIANT: The empty slot becomes the first free one, those of what lies behind move down.
        self.order = (self.order & (before | !all))
            | ((place as u64) << (4 * self.len))
            | (((self.order & all) >> 4) & !before);
        let mut last = u64::MAX;
        for key in self.starts[at..=self.len].iter_mut().rev() {
            last = core::mem::replace(key, last);
        }
        slot.map(|slot| slot.value)
    }

    /// Moves all entries from `at` on to the end of another leaf.
    pub(super) fn move_to(&mut self, at: usize, other: &mut Self) {
        for i in at..self.len {
            let place = self.place(i);
            if let Some(slot) = self.slots.get_mut(place).and_then(Option::take) {
                other.insert(other.len, self.starts[i], slot);
            }
            self.starts[i] = u64::MAX;
        }
        self.len = at;
    }

    pub(super) fn entry(&self, at: usize) -> Option<Entry<'_, V>> {
        let slot = self.slot(at)?;
        Some(Entry {
            range: VaRange::from_bounds(*self.starts.get(at)?, slot.end)?,
            value: &slot.value,
        })
    }
}

/// # Invariants
///
/// The first `len` children are there and not empty, all others are not. All entries below child i
/// lie in `bounds[i]..bounds[i + 1]`; `bounds[0]` does not count, and the last child's entries end
/// where the node's do.
pub(super) struct Inner<V> {
    pub(super) len: usize,
    pub(super) bounds: [u64; INNER],
    pub(super) children: [Option<KBox<Node<V>>>; INNER],
}

impl<V> Inner<V> {
    pub(super) const fn new() -> Self {
        Self {
            len: 0,
            bounds: [u64::MAX; INNER],
            children: [const { None }; INNER],
        }
    }

    /// Index of the child that has an address.
    pub(super) fn child(&self, address: u64) -> usize {
        match self.bounds.last_chunk::<{ INNER - 1 }>() {
            Some(bounds) => rank(bounds, address),
            None => 0,
        }
    }

    /// Where the entries of a child end at the latest, if those of the node do so at `limit`.
    pub(super) fn limit(&self, child: usize, limit: u64) -> u64 {
        if child + 1 < self.len {
            self.bounds[child + 1]
        } else {
            limit
        }
    }

    pub(super) fn insert(&mut self, at: usize, bound: u64, child: KBox<Node<V>>) {
        self.bounds.copy_within(at..self.len, at + 1);
        self.bounds[at] = bound;
        self.children[at..=self.len].rotate_right(1);
        self.children[at] = Some(child);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<KBox<Node<V>>> {
        let child = self.children[at].take();
        self.bounds.copy_within(at + 1..self.len, at);
        self.children[at..self.len].rotate_left(1);
        self.len -= 1;
        self.bounds[self.len] = u64::MAX;
        child
    }

    pub(super) fn move_to(&mut self, at: usize, other: &mut Self) {
        for i in at..self.len {
            other.bounds[other.len] = self.bounds[i];
            other.children[other.len] = self.children[i].take();
            other.len += 1;
            self.bounds[i] = u64::MAX;
        }
        self.len = at;
    }
}

pub(super) enum Node<V> {
    Leaf(Leaf<V>),
    Inner(Inner<V>),
    /// Set aside, with the next of those; the rest of the memory is not touched.
    Spare(Option<KBox<Node<V>>>),
}

impl<V> Node<V> {
    pub(super) fn is_low(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len < LEAF_LOW,
            Node::Inner(inner) => inner.len < INNER_LOW,
            Node::Spare(_) => false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len == 0,
            Node::Inner(inner) => inner.len == 0,
            Node::Spare(_) => false,
        }
    }

    /// Takes in all that `next`, the neighbour behind this node, has, unless there is no room.
    /// `bound` is where its entries begin at the earliest.
    pub(super) fn absorb(&mut self, next: &mut Self, bound: u64) -> bool {
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

/// Nodes set aside, in a chain.
pub(super) struct Spares<V> {
    pub(super) first: Option<KBox<Node<V>>>,
    pub(super) len: usize,
}

impl<V> Spares<V> {
    pub(super) const fn new() -> Self {
        Self {
            first: None,
            len: 0,
        }
    }

    pub(super) fn put(&mut self, mut node: KBox<Node<V>>) {
        *node = Node::Spare(self.first.take());
        self.first = Some(node);
        self.len += 1;
    }

    pub(super) fn take(&mut self) -> Option<KBox<Node<V>>> {
        let mut node = match self.first.take() {
            Some(node) => node,
            None => {
                // Not reached, as long as `reserve` counts right.
                warn_on!(true);
                KBox::new(Node::Spare(None), GFP_ATOMIC).ok()?
            }
        };
        if let Node::Spare(next) = &mut *node {
            self.first = next.take();
            self.len = self.len.saturating_sub(1);
        }
        Some(node)
    }

    pub(super) fn leaf(&mut self) -> Option<KBox<Node<V>>> {
        let mut node = self.take()?;
        *node = Node::Leaf(Leaf::new());
        Some(node)
    }

    pub(super) fn inner(&mut self) -> Option<KBox<Node<V>>> {
        let mut node = self.take()?;
        *node = Node::Inner(Inner::new());
        Some(node)
    }
}

impl<V> Drop for Spares<V> {
    fn drop(&mut self) {
        // One by one: a chain dropped as a whole would recurse.
        while let Some(mut node) = self.first.take() {
            if let Node::Spare(next) = &mut *node {
                self.first = next.take();
            }
        }
    }
}
