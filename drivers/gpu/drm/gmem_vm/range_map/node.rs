// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The nodes of a [`RangeMap`](super::RangeMap): what each holds, and how that moves between them.

use super::Entry;
use crate::range::VaRange;
use kernel::{
    alloc::Flags,
    prelude::*,
    warn_on, //
};

/// Entries of a leaf: with values of 24 bytes it fills 512 bytes.
pub(super) const LEAF: usize = 12;
/// Children of an inner node, of the same size.
pub(super) const INNER: usize = 30;
/// The last one of a full node.
const LAST: usize = INNER - 1;
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
/// `order` has the numbers of their slots, four bits each: that of the entry i in bits 4i and up; all
/// bits above are set. The bits of `free` are the slots that are empty.
pub(super) struct Leaf<V> {
    pub(super) len: usize,
    /// So that an entry never moves while others come and go.
    order: u64,
    free: u64,
    pub(super) starts: [u64; LEAF],
    slots: [Option<Slot<V>>; LEAF],
}

/// As `order` is if slots lie as their entries do.
const IN_ORDER: u64 = 0xfedc_ba98_7654_3210;

/// The bits of `order` below an index.
const fn below(at: usize) -> u64 {
    (1 << (4 * at)) - 1
}

impl<V> Leaf<V> {
    pub(super) const fn new() -> Self {
        const { assert!(LEAF < 16) };
        Self {
            len: 0,
            order: u64::MAX,
            free: (1 << LEAF) - 1,
            starts: [u64::MAX; LEAF],
            slots: [const { None }; LEAF],
        }
    }

    /// Index of the first entry that starts behind an address.
    #[inline(always)]
    pub(super) fn behind(&self, address: u64) -> usize {
        rank(&self.starts, address)
    }

    fn place(&self, at: usize) -> usize {
        (self.order >> (4 * at)) as usize & 15
    }

    pub(super) fn slot(&self, at: usize) -> Option<&Slot<V>> {
        self.slots.get(self.place(at))?.as_ref()
    }

    pub(super) fn slot_mut(&mut self, at: usize) -> Option<&mut Slot<V>> {
        let place = self.place(at);
        self.slots.get_mut(place)?.as_mut()
    }

    /// Inserts an entry; there must be room.
    pub(super) fn insert(&mut self, at: usize, start: u64, slot: Slot<V>) {
        let place = self.free.trailing_zeros() as usize;
        let Some(free @ None) = self.slots.get_mut(place) else {
            return;
        };
        *free = Some(slot);
        self.free &= self.free - 1;
        // INVARIANT: The slot comes in at its place, those of what lies behind move up.
        let before = self.order & below(at);
        let behind = self.order ^ before;
        self.order = before | (behind << 4) | ((place as u64) << (4 * at));
        let mut next = start;
        for key in self.starts[at..=self.len].iter_mut() {
            next = core::mem::replace(key, next);
        }
        self.len += 1;
    }

    /// Removes an entry. Inline, since callers need a part of the value only.
    #[inline(always)]
    pub(super) fn remove(&mut self, at: usize) -> Option<V> {
        let place = self.place(at);
        let slot = self.slots.get_mut(place)?.take()?;
        self.free |= 1 << place;
        // INVARIANT: The slot leaves its place, those of what lies behind move down.
        let mask = below(at);
        self.order = (self.order & mask) | ((self.order >> 4) & !mask) | (15 << 60);
        self.len -= 1;
        let mut last = u64::MAX;
        for key in self.starts[at..=self.len].iter_mut().rev() {
            last = core::mem::replace(key, last);
        }
        Some(slot.value)
    }

    /// Moves all entries from `at` on to another leaf, which is empty.
    fn split(&mut self, at: usize, upper: &mut Self) {
        let mut order = self.order >> (4 * at);
        self.order |= !below(at);
        let places = upper.starts.iter_mut().zip(upper.slots.iter_mut());
        for (from, (start, to)) in self.starts[at..].iter_mut().zip(places) {
            let place = order & 15;
            let Some(slot) = self.slots.get_mut(place as usize) else {
                break;
            };
            *start = core::mem::replace(from, u64::MAX);
            core::mem::swap(to, slot);
            self.free |= 1 << place;
            order >>= 4;
        }
        let moved = self.len - at;
        upper.len = moved;
        upper.free &= !0 << moved;
        upper.order = IN_ORDER | !below(moved);
        self.len = at;
    }

    /// Takes in all entries of the next leaf, which is done with then; there must be room.
    fn absorb(&mut self, next: &mut Self) {
        for i in 0..next.len {
            let place = next.place(i);
            if let Some(slot) = next.slots.get_mut(place).and_then(Option::take) {
                self.insert(self.len, next.starts[i], slot);
            }
        }
    }

    /// Whether all but the entries is as the invariants say.
    #[cfg(any(test, CONFIG_KUNIT = "y"))]
    pub(super) fn is_sound(&self) -> bool {
        let empty = |i: usize| self.slots[i].is_none();
        (0..LEAF).all(|i| empty(i) == (self.free & (1 << i) != 0))
            && self.free.count_ones() as usize == LEAF - self.len
            && (self.len..LEAF).all(|i| self.starts[i] == u64::MAX && self.place(i) == 15)
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
/// The first `len` children are there and not empty, all others are not. The entries below child i
/// lie in `bounds[i]..bounds[i + 1]`, and where the child is an inner node, its first and last bound
/// are the same as these. So one look at the last inner node tells the bounds of a leaf. Bounds of
/// children that are not there are `u64::MAX`.
pub(super) struct Inner<V> {
    pub(super) len: usize,
    pub(super) bounds: [u64; INNER + 1],
    pub(super) children: [Option<KBox<Node<V>>>; INNER],
}

impl<V> Inner<V> {
    const fn new() -> Self {
        Self {
            len: 0,
            bounds: [u64::MAX; INNER + 1],
            children: [const { None }; INNER],
        }
    }

    /// A node for all addresses, with one child.
    pub(super) fn root(child: KBox<Node<V>>) -> Self {
        let mut this = Self::new();
        this.bounds[0] = 0;
        this.children[0] = Some(child);
        this.len = 1;
        this
    }

    /// Index of the child that has an address.
    #[inline(always)]
    pub(super) fn child(&self, address: u64) -> usize {
        let [_, bounds @ .., _] = &self.bounds;
        rank(bounds, address)
    }

    /// Inserts a child behind another one, which now ends where it begins.
    pub(super) fn insert_behind(&mut self, i: usize, bound: u64, child: KBox<Node<V>>) {
        self.bounds.copy_within(i + 1..=self.len, i + 2);
        self.bounds[i + 1] = bound;
        let mut next = Some(child);
        for child in self.children[i + 1..=self.len].iter_mut() {
            core::mem::swap(child, &mut next);
        }
        self.len += 1;
    }

    /// Lets a child go on to an address at least, and the next one begin there.
    pub(super) fn raise_end(&mut self, i: usize, end: u64) {
        if self.bounds[i + 1] < end {
            self.bounds[i + 1] = end;
            if let Some(Some(next)) = self.children.get_mut(i + 1) {
                next.set_floor(end);
            }
        }
    }

    /// Removes a child that is empty. Its neighbour gets its addresses.
    pub(super) fn remove(&mut self, i: usize) -> Option<KBox<Node<V>>> {
        // The bound between both.
        let gone = i.max(1);
        self.bounds.copy_within(gone + 1..=self.len, gone);
        self.bounds[self.len] = u64::MAX;
        let mut last = None;
        for child in self.children[i..self.len].iter_mut().rev() {
            core::mem::swap(child, &mut last);
        }
        self.len -= 1;
        match i.checked_sub(1).map(|before| &mut self.children[before]) {
            Some(Some(before)) => before.set_limit(self.bounds[i]),
            _ => {
                if let Some(behind) = &mut self.children[0] {
                    behind.set_floor(self.bounds[0]);
                }
            }
        }
        last
    }

    /// Moves all children from `at` on to another node, which is empty. Gives where they begin.
    fn split(&mut self, at: usize, upper: &mut Self) -> u64 {
        let bound = self.bounds[at];
        upper.bounds[0] = bound;
        upper.take_from(at, self);
        bound
    }

    /// Takes in all children from `at` on of the node behind, which begins where this one ends.
    fn take_from(&mut self, at: usize, next: &mut Self) {
        for i in at..next.len {
            self.children[self.len] = next.children[i].take();
            self.len += 1;
            self.bounds[self.len] = core::mem::replace(&mut next.bounds[i + 1], u64::MAX);
        }
        next.len = at;
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

    pub(super) fn is_full(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len == LEAF,
            Node::Inner(inner) => inner.len == INNER,
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

    /// Says where the entries below begin at the earliest.
    fn set_floor(&mut self, floor: u64) {
        if let Node::Inner(inner) = self {
            inner.bounds[0] = floor;
            if let Some(first) = &mut inner.children[0] {
                first.set_floor(floor);
            }
        }
    }

    /// Says where the entries below end at the latest.
    fn set_limit(&mut self, limit: u64) {
        if let Node::Inner(inner) = self {
            inner.bounds[inner.len] = limit;
            if let Some(Some(last)) = inner.children[..inner.len].last_mut() {
                last.set_limit(limit);
            }
        }
    }

    /// Takes in all that `next`, the neighbour behind this node, has, unless there is no room.
    pub(super) fn absorb(&mut self, next: &mut Self) -> bool {
        match (self, next) {
            (Node::Leaf(a), Node::Leaf(b)) if a.len + b.len <= LEAF => a.absorb(b),
            (Node::Inner(a), Node::Inner(b)) if a.len + b.len <= INNER => a.take_from(0, b),
            _ => return false,
        }
        true
    }

    /// Moves about half of what this node has to `next`, which is set aside and becomes the neighbour
    /// behind it. Gives where that begins: an entry that starts at `start` has room in the one of both
    /// that then has that address.
    pub(super) fn split(&mut self, start: u64, next: &mut Self) -> u64 {
        match self {
            Node::Leaf(leaf) => {
                *next = Node::Leaf(Leaf::new());
                let Node::Leaf(upper) = next else {
                    return start;
                };
                // Whoever goes on at either end finds room there, and leaves full leaves behind. All of
                // the gap behind the last entry goes along, lest each that is filled from its end
                // takes a leaf.
                let half = match leaf.behind(start) {
                    LEAF => return leaf.slot(LEAF - 1).map_or(start, |last| last.end),
                    0 => 0,
                    _ => LEAF / 2,
                };
                leaf.split(half, upper);
                upper.starts[0]
            }
            Node::Inner(inner) => {
                *next = Node::Inner(Inner::new());
                let Node::Inner(upper) = next else {
                    return start;
                };
                // As above, but each needs a quarter before it is full: `reserve` counts on that.
                let half = match inner.child(start) {
                    LAST => INNER - INNER / 4,
                    _ => INNER / 2,
                };
                inner.split(half, upper)
            }
            Node::Spare(_) => start,
        }
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

    /// Allocates one more. `ENOMEM`.
    pub(super) fn add(&mut self, flags: Flags) -> Result {
        // Not new(), which would copy all of a node of which only two words matter.
        let node = KBox::new_uninit(flags)?;
        self.first = Some(node.write(Node::Spare(self.first.take())));
        self.len += 1;
        Ok(())
    }

    pub(super) fn take(&mut self) -> Option<KBox<Node<V>>> {
        let mut node = match self.first.take() {
            Some(node) => node,
            None => {
                // Not reached, as long as `reserve` counts right.
                warn_on!(true);
                self.add(GFP_ATOMIC).ok()?;
                self.first.take()?
            }
        };
        if let Node::Spare(next) = &mut *node {
            core::mem::swap(next, &mut self.first);
            self.len = self.len.saturating_sub(1);
        }
        Some(node)
    }

    /// Gives back all but so many.
    #[cold]
    pub(super) fn trim(&mut self, most: usize) {
        while self.len > most {
            drop(self.take());
        }
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
