// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of the range map against a naive model, and of its shape.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_range_map)]
mod suite {
    use super::super::{
        node::LEAF,
        *, //
    };

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
                assert!(self.0[at as usize..range.start() as usize]
                    .iter()
                    .all(|v| v.is_none()));
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
                    assert!((leaf.len..LEAF).all(|i| leaf.entry(i).is_none()));
                    assert!(leaf.is_sound());
                    let mut at = floor;
                    for i in 0..leaf.len {
                        let end = leaf.slot(i).map_or(0, |s| s.end);
                        assert!(leaf.starts[i] >= at && end > leaf.starts[i]);
                        at = end;
                    }
                    assert!(at <= limit);
                    n[0] += leaf.len;
                    n[1] += 1;
                }
                Node::Spare(_) => panic!(),
                Node::Inner(inner) => {
                    assert!(inner.len > 0 && level > 0);
                    assert!(inner.children[inner.len..].iter().all(|c| c.is_none()));
                    assert_eq!([inner.bounds[0], inner.bounds[inner.len]], [floor, limit]);
                    assert!(inner.bounds[inner.len + 1..].iter().all(|b| *b == u64::MAX));
                    for i in 0..inner.len {
                        let (floor, limit) = (inner.bounds[i], inner.bounds[i + 1]);
                        assert!(floor < limit);
                        if let Some(child) = &inner.children[i] {
                            walk(child, floor, limit, level - 1, n);
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
                let nodes = map.nodes + map.spares.len;
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
                // None was allocated since.
                assert_eq!(map.nodes + map.spares.len, nodes);
            }
            check_shape(&map);
        }
        Ok(())
    }

    /// What a map has, as if under a lock: nothing is allocated but what was brought.
    fn nodes(map: &RangeMap<Count>, stock: &Stock<Count>) -> usize {
        map.nodes + map.spares.len + stock.0.len
    }

    #[test]
    fn a_stock_of_what_is_lacking_is_enough() -> Result {
        let mut random = Random(0x51f1_5eed);
        for n in [64, 512, 4096] {
            let mut map = RangeMap::new();
            let mut model = Model::new(n)?;
            for _ in 0..400 {
                // Dense and sparse ones by turns, as many as a block of a mirror has.
                let changes = 1 + random.next(40);
                let longest = 1 + random.next(n / 8);
                let mut stock = Stock::new();
                let lacks = map.lacks(changes);
                stock.fill(lacks)?;
                assert_eq!(stock.0.len, lacks);
                let before = nodes(&map, &stock);
                map.supply(&mut stock);
                assert_eq!((stock.0.len, map.lacks(changes)), (0, 0));
                for left in (0..changes).rev() {
                    let start = random.next(n);
                    let size = 1 + random.next(longest.min(n - start));
                    let range = VaRange::new(start as u64, size as u64)?;
                    let value = (random.next(4) > 0)
                        .then(|| Count(random.next(3) as u8, (start + random.next(2)) as u64));
                    match value {
                        Some(value) => map.set(range, value, |_| ()),
                        None => map.clear(range, |_| ()),
                    }
                    model.set(range, value);
                    // What is there is enough for the others too.
                    assert!(left == 0 || map.spares.len > 0);
                }
                check_shape(&map);
                // None came from elsewhere.
                assert_eq!(nodes(&map, &stock), before);
                let keep = random.next(20);
                map.surplus(keep, &mut stock);
                assert_eq!(nodes(&map, &stock), before);
                assert!(map.spares.len <= map.needed(keep));
                // Only what is of no use is taken.
                assert!(stock.0.len == 0 || map.lacks(keep) == 0);
            }
            model.check(&map);
        }
        Ok(())
    }

    #[test]
    fn a_stock_is_moved_whole_and_kept_at_will() -> Result {
        let mut map = RangeMap::<Count>::new();
        let mut stock = Stock::default();
        // Nothing from nothing.
        map.supply(&mut stock);
        map.surplus(0, &mut stock);
        assert_eq!((map.spares.len, stock.0.len), (0, 0));
        let lacks = map.lacks(100);
        assert!(lacks >= 200);
        stock.fill(lacks)?;
        // It has them already.
        stock.fill(lacks)?;
        stock.fill(3)?;
        assert_eq!(stock.0.len, lacks);
        map.supply(&mut stock);
        assert_eq!((map.spares.len, stock.0.len), (lacks, 0));
        assert_eq!((map.lacks(100), map.lacks(50)), (0, 0));
        assert!(map.lacks(101) > 0);
        map.surplus(100, &mut stock);
        assert_eq!(stock.0.len, 0);
        map.surplus(50, &mut stock);
        assert_eq!(map.spares.len + stock.0.len, lacks);
        assert_eq!(map.lacks(50), 0);
        assert!(map.lacks(51) > 0);
        Ok(())
    }

    #[test]
    fn few_nodes_are_enough_for_a_row() -> Result {
        let mut random = Random(11);
        let mut map = RangeMap::new();
        for _ in 0..1000 {
            let first = random.next(20_000) as u64;
            let (ranges, gap) = (1 + random.next(600), 1 + random.next(2) as u64);
            let row = VaRange::new(first, ranges as u64 * gap)?;
            map.reserve(1)?;
            map.clear(row, |_| ());
            // No more than it takes.
            map.spares.trim(0);
            let mut stock = Stock::new();
            stock.fill(map.lacks_for_row(ranges, 0))?;
            map.supply(&mut stock);
            let len = map.len();
            for i in 0..ranges as u64 {
                let at = first + i * gap;
                // Never continued.
                map.set(VaRange::new(at, 1)?, Count(at as u8 & 1, at * 3), |_| ());
            }
            assert_eq!(map.len(), len + ranges);
        }
        check_shape(&map);
        Ok(())
    }

    #[test]
    fn a_gap_behind_full_leaves_is_filled_from_its_end() -> Result {
        let mut map = RangeMap::new();
        let below = (0..4 * LEAF as u64).map(|i| 2 * i);
        let above = (0..4000).rev().map(|i| 10_000 + 2 * i);
        for at in Iterator::chain(below, above) {
            map.reserve(1)?;
            map.set(VaRange::new(at, 1)?, Count(0, 0), |_| ());
        }
        check_shape(&map);
        // Not a leaf for each.
        assert!(map.nodes * LEAF < map.len() * 3 / 2);
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
