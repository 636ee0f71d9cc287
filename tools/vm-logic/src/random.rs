// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Random changes of mappings and attributes against naive models.

use crate::{
    attrs::{Attr, AttrKind, AttrMap, AttrSet, KINDS},
    driver::Access,
    mapping::{Backing, Mapping, MappingTree, Needs, Removed},
    prelude::{ENOMEM, fail_after, warnings},
    range::VaRange,
    range_map::{RangeMap, Stock, Value},
};
use proptest::prelude::*;

const PAGES: u64 = 96;

/// A value that is the same everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plain(u8);

impl Value for Plain {
    fn advance(&self, _bytes: u64) -> Self {
        *self
    }

    fn continues(&self, _bytes: u64, next: &Self) -> bool {
        self == next
    }
}

/// One change of a batch: pages from `first`, `count` of them.
#[derive(Clone, Debug)]
struct Change {
    first: u64,
    count: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Unmap,
    Map {
        object: Option<u32>,
        page: u64,
        write: bool,
    },
}

impl Change {
    fn range(&self) -> VaRange {
        VaRange::new(self.first << 12, self.count << 12).expect("not empty")
    }

    fn mapping(&self) -> Option<Mapping<u32, u8>> {
        let What::Map {
            object,
            page,
            write,
        } = self.what
        else {
            return None;
        };
        Some(Mapping {
            range: self.range(),
            backing: Backing {
                object,
                offset: if object.is_some() { page << 12 } else { 0 },
                access: Access { write, exec: false },
                attrs: 0,
            },
        })
    }
}

fn change() -> impl Strategy<Value = Change> {
    let what = prop_oneof![
        1 => Just(What::Unmap),
        // Few objects and offsets, so that neighbours often continue each other.
        3 => (prop::option::weighted(0.8, 0..2u32), 0..PAGES, any::<bool>())
            .prop_map(|(object, page, write)| What::Map { object, page, write }),
    ];
    (0..PAGES, 1..=PAGES, what, any::<bool>()).prop_map(|(first, count, mut what, same)| {
        let count = if count % 2 == 0 {
            count
        } else {
            1 + count / 16
        }
        .min(PAGES - first);
        // Often what is mapped there anyway, or beside it.
        if let (What::Map { page, .. }, true) = (&mut what, same) {
            *page = first;
        }
        Change { first, count, what }
    })
}

/// What a page is mapped to: object, page of it, whether it may be written.
type Page = Option<(Option<u32>, u64, bool)>;

fn pages(tree: &MappingTree<u32, u8>) -> Vec<Page> {
    let mut pages = vec![None; PAGES as usize];
    for entry in tree.iter() {
        for page in entry.range.start() >> 12..entry.range.end() >> 12 {
            let backing = entry.value;
            let behind = (page << 12) - entry.range.start();
            let at = backing
                .object
                .map_or(0, |_| (backing.offset + behind) >> 12);
            pages[page as usize] = Some((backing.object, at, backing.access.write));
        }
    }
    pages
}

/// As few mappings as say what the pages say.
fn runs(pages: &[Page]) -> usize {
    let continues = |a: &Page, b: &Page| match (a, b) {
        (Some((Some(o), p, w)), Some((Some(q), r, x))) => o == q && p + 1 == *r && w == x,
        (Some((None, _, w)), Some((None, _, x))) => w == x,
        _ => false,
    };
    let mapped = pages.iter().filter(|p| p.is_some()).count();
    mapped - pages.windows(2).filter(|w| continues(&w[0], &w[1])).count()
}

/// Does a batch. Err if an allocation failed.
fn apply(tree: &mut MappingTree<u32, u8>, batch: &[Change]) -> crate::prelude::Result<usize> {
    let (mut needs, mut removed) = (Needs::default(), Removed::default());
    for change in batch {
        tree.count(&mut needs, change.range());
    }
    tree.reserve(&needs, &mut removed)?;
    // From here on nothing may be allocated.
    fail_after(Some(0));
    for change in batch {
        match change.mapping() {
            Some(mapping) => tree.insert(&mut removed, mapping),
            None => tree.remove(&mut removed, change.range()),
        }
    }
    fail_after(None);
    tree.trim();
    Ok(removed.len())
}

fn apply_naively(pages: &mut [Page], batch: &[Change]) {
    for change in batch {
        for i in 0..change.count {
            pages[(change.first + i) as usize] = match change.what {
                What::Unmap => None,
                What::Map {
                    object,
                    page,
                    write,
                } => Some((object, object.map_or(0, |_| page + i), write)),
            };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn mappings_agree_with_a_naive_model(
        batches in prop::collection::vec(prop::collection::vec(change(), 1..6), 1..60),
    ) {
        let mut tree = MappingTree::new();
        let mut model = vec![None; PAGES as usize];
        for batch in &batches {
            apply(&mut tree, batch).expect("memory");
            apply_naively(&mut model, batch);
            let seen = pages(&tree);
            prop_assert_eq!(&seen, &model);
            prop_assert_eq!(tree.len(), runs(&model));
        }
        prop_assert_eq!(warnings(), 0);
    }

    #[test]
    fn a_stock_of_what_is_lacking_is_enough(
        batches in prop::collection::vec(
            (prop::collection::vec((0..4000u64, 1..60u64, any::<Option<u8>>()), 1..60), 0..40usize),
            1..40,
        ),
    ) {
        let mut map = RangeMap::new();
        let mut model = vec![None; 4096];
        for (changes, keep) in &batches {
            let mut stock = Stock::new();
            stock.fill(map.lacks(changes.len())).expect("memory");
            map.supply(&mut stock);
            // As under a lock, where there is none.
            fail_after(Some(0));
            for &(start, size, value) in changes {
                let range = VaRange::new(start, size).expect("not empty");
                match value {
                    Some(value) => map.set(range, Plain(value % 4), |_| ()),
                    None => map.clear(range, |_| ()),
                }
                let value = value.map(|value| Plain(value % 4));
                model[start as usize..(start + size) as usize].fill(value);
            }
            fail_after(None);
            map.surplus(*keep, &mut stock);
        }
        for (address, value) in model.iter().enumerate() {
            let found = map.get(address as u64).map(|entry| *entry.value);
            prop_assert_eq!(found, *value);
        }
        prop_assert_eq!(warnings(), 0);
    }

    #[test]
    fn a_batch_that_gets_no_memory_changes_nothing(
        before in prop::collection::vec(change(), 0..40),
        batch in prop::collection::vec(change(), 1..20),
    ) {
        let mut tree = MappingTree::new();
        apply(&mut tree, &before).expect("memory");
        let was = pages(&tree);
        for allocations in 0.. {
            fail_after(Some(allocations));
            let result = apply(&mut tree, &batch);
            fail_after(None);
            match result {
                Ok(_) => break,
                Err(error) => prop_assert_eq!(error, ENOMEM),
            }
            prop_assert_eq!(&pages(&tree), &was);
        }
        let mut model = was;
        apply_naively(&mut model, &batch);
        prop_assert_eq!(pages(&tree), model);
    }

    #[test]
    fn attributes_agree_with_a_naive_model(
        changes in prop::collection::vec(
            (0..PAGES, 1..=PAGES, prop::collection::vec((0..KINDS, 0..2u64), 0..4)), 1..80),
    ) {
        let mut map = AttrMap::new();
        let mut model = vec![AttrSet::DEFAULT; PAGES as usize];
        for (first, count, attrs) in &changes {
            let last = (first + count).min(PAGES);
            let range = VaRange::from_bounds(first << 12, last << 12).expect("not empty");
            let valid: Vec<_> = attrs.iter().filter_map(|(kind, value)| {
                Attr::new(AttrKind::ALL[*kind] as u32, *value, |_| true, |_| Ok(())).ok()
            }).collect();
            let pages = &mut model[*first as usize..last as usize];
            if valid.is_empty() {
                map.advise(range, &[], true).expect("memory");
                pages.fill(AttrSet::DEFAULT);
            } else {
                map.advise(range, &valid, false).expect("memory");
                for page in pages {
                    *page = valid.iter().fold(*page, |set, attr| set.with(*attr));
                }
            }
            let mut rest = VaRange::from_bounds(0, PAGES << 12);
            let mut ranges = 0;
            while let Some(range) = rest {
                let (set, part) = map.get(range);
                for page in part.start() >> 12..part.end() >> 12 {
                    prop_assert_eq!(&set, &model[page as usize]);
                }
                ranges += usize::from(set != AttrSet::DEFAULT);
                rest = VaRange::from_bounds(part.end(), range.end());
            }
            prop_assert_eq!(map.len(), ranges);
            let runs = model.iter().zip(std::iter::once(&AttrSet::DEFAULT).chain(&model))
                .filter(|(a, b)| **a != AttrSet::DEFAULT && a != b).count();
            prop_assert_eq!(map.len(), runs);
        }
        prop_assert_eq!(warnings(), 0);
    }
}
