// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Page-table entries: what the walk accepts.

use crate::card::*;
use crate::tables::*;

const VA: u64 = 0x4000_0000;

/// Reads from `VA`, which must be a programming error of the MMU.
fn error(card: &Card, space: &Space<'_>) -> (u32, u64) {
    card.submit(1, &space.job(&Commands::new().copy(VA, VA, 4), 0));
    let (code, source, detail) = card.await_error();
    assert_eq!(source, 0x100);
    (code, detail)
}

/// Sets an entry at a level, and returns the error it is, with whether the detail is its address.
fn bad(level: u32, entry: u64) -> (u32, bool) {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    let at = space.entry(VA, level);
    card.set_local_u64(at, entry);
    let (code, detail) = error(&card, &space);
    (code, detail == at)
}

#[test]
fn reserved_bits() {
    let leaf = VALID | LEAF;
    for entry in [
        leaf | (1 << 10),
        leaf | (1 << 11),
        leaf | (1 << 58),
        leaf | (1 << 62),
        leaf | (1 << 63),
    ] {
        assert_eq!(bad(0, entry), (9, true), "{entry:#x}");
        assert_eq!(bad(1, entry), (9, true), "{entry:#x}");
    }
    // The reserved cache policy, CONT in a 2 MiB leaf, sparse leaves with an address or CONT.
    assert_eq!(bad(0, leaf | (3 << 6)), (9, true));
    assert_eq!(bad(1, leaf | CONT), (9, true));
    assert_eq!(bad(0, leaf | SPARSE | 0x1000), (9, true));
    assert_eq!(bad(0, leaf | SPARSE | ON_HOST), (9, true));
    assert_eq!(bad(0, leaf | SPARSE | CONT), (9, true));
    assert_eq!(bad(1, leaf | SPARSE | 0x20_0000), (9, true));
    // Leaves where tables must be, and the other way round.
    assert_eq!(bad(3, leaf), (9, true));
    assert_eq!(bad(2, leaf), (9, true));
    assert_eq!(bad(0, VALID | 0x1000), (9, true));
    // Everything but VALID and ADDRESS in an entry that points to a table.
    for bit in [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 52, 57, 58, 59, 60, 63] {
        assert_eq!(
            bad(2, VALID | 0xd0_0000 | (1 << bit)),
            (9, true),
            "bit {bit}"
        );
    }
}

#[test]
fn addresses() {
    let leaf = VALID | LEAF;
    assert_eq!(bad(0, leaf | MEMORY), (10, true));
    assert_eq!(bad(1, leaf | MEMORY), (10, true));
    assert_eq!(bad(1, leaf | 0x1000), (10, true), "not aligned to 2 MiB");
    assert_eq!(bad(1, leaf | ON_HOST | 0x1000), (10, true));
    for level in 1..=3 {
        let card = Card::new();
        card.start();
        let space = Space::new(&card);
        space.set(VA, level, VALID | MEMORY);
        assert_eq!(error(&card, &space), (12, MEMORY));
    }
    // The root.
    let card = Card::new();
    card.start();
    card.submit(1, &job(MEMORY, 0, 8, 0));
    assert_eq!(card.await_error(), (12, 0x100, MEMORY));
    // A bus address that is not reachable.
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    space.leaf(VA, BUS + HOST, RW | ON_HOST);
    assert_eq!(error(&card, &space), (14, BUS + HOST));
}

#[test]
fn software_bits_cache_and_compression_are_taken() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    for (i, bits) in [0x3f << 52, 1 << 6, 2 << 6, 1 << 60, 3 << 60]
        .into_iter()
        .enumerate()
    {
        let va = VA + i as u64 * 0x1000;
        space.leaf(va, 0x1000, RW | bits);
        space.ok(&Commands::new().fill(va, 4, i as u32));
        assert_eq!(space.get(va, 0), 0x1000 | RW | bits | ACCESSED | DIRTY);
    }
    // An invalid entry may hold anything.
    space.set(VA, 0, !VALID);
    space.flush(VA, 0x1000);
    assert_eq!(
        space.run(&Commands::new().fill(VA, 4, 0)).outcome(),
        (2, 1, VA)
    );
}

#[test]
fn accessed_and_dirty() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    for (level, size) in [(0, 0x1000), (1, 0x20_0000)] {
        space.set(VA, level, RW);
        space.flush(VA, size);
        space.load(VA);
        assert_eq!(space.get(VA, level), RW | ACCESSED);
        // The read has cached it; the first write walks again.
        space.ok(&Commands::new().fill(VA + 8, 4, 1));
        assert_eq!(space.get(VA, level), RW | ACCESSED | DIRTY);
        // Cleared without an invalidation, they stay clear; with one, they are set again.
        space.set(VA, level, RW);
        space.ok(&Commands::new().fill(VA + 8, 4, 1));
        assert_eq!(space.get(VA, level), RW);
        space.flush(VA, size);
        space.ok(&Commands::new().fill(VA + 8, 4, 1));
        assert_eq!(space.get(VA, level), RW | ACCESSED | DIRTY);
        space.set(VA, level, 0);
        space.flush(VA, size);
    }
    // Commands are accessed too.
    let entry = space.get(CODE_VA, 0);
    assert_eq!(entry & (ACCESSED | DIRTY), ACCESSED);
}

#[test]
fn a_64k_leaf_has_accessed_and_dirty_for_each_4k() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    space.medium(VA, 0x10000, RW);
    let marks = || -> Vec<u64> {
        (0..16)
            .map(|i| (space.get(VA + i * 0x1000, 0) >> 8) & 3)
            .collect()
    };
    let mut expected = vec![0; 16];
    assert_eq!(marks(), expected);
    space.load(VA + 0x3000);
    expected[3] = 1;
    assert_eq!(marks(), expected);
    space.ok(&Commands::new().fill(VA + 0x4ffc, 8, 7));
    expected[4] = 3;
    expected[5] = 3;
    assert_eq!(marks(), expected);
    space.ok(&Commands::new()
        .fill(VA + 0x3000, 4, 7)
        .copy(VA + 0x8000, VA + 0xf000, 4));
    expected[3] = 3;
    expected[8] = 3;
    expected[15] = 1;
    assert_eq!(marks(), expected);
    assert_eq!(card.local_read(0x14ffc, 8), [7, 0, 0, 0, 7, 0, 0, 0]);
    // Once they are set, one translation serves all of it.
    space.ok(&Commands::new().fill(VA, 0x10000, 9));
    let misses = card.r64(reg::TLB_MISSES);
    space.ok(&Commands::new().fill(VA, 0x10000, 10));
    assert_eq!(card.r64(reg::TLB_MISSES), misses);
}

#[test]
fn cont_mismatches() {
    let address = 0x10000;
    let good = RW | CONT;
    for (index, entry) in [
        (5, address + 0x6000 + good),             // a wrong address
        (0, (address + good) & !WRITE),           // another permission
        (15, address + 0xf000 + good + (1 << 6)), // another cache policy
        (7, address + 0x7000 + good + (1 << 52)), // another software bit
        (7, (address + 0x7000 + good) | ON_HOST), // another memory
    ] {
        let card = Card::new();
        card.start();
        let space = Space::new(&card);
        space.medium(VA, address, RW);
        // The walk begins at another entry than the one that does not fit.
        let va = VA + 0x1000;
        let at = space.entry(VA + index * 0x1000, 0);
        card.set_local_u64(at, entry);
        card.submit(1, &space.job(&Commands::new().fill(va, 4, 0), 0));
        assert_eq!(card.await_error(), (11, 0x100, at), "entry {index}");
    }
    // The first address is no multiple of 64 KiB.
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    space.medium(VA, 0x1000, RW);
    let at = space.entry(VA, 0);
    assert_eq!(error(&card, &space), (11, at));
}

#[test]
fn marks_and_missing_cont_do_not_break_a_64k_leaf() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    space.medium(VA, 0x10000, RW);
    // As while it is split or made: CONT is there in some, and marks differ.
    for i in 0..8 {
        space.leaf(
            VA + i * 0x1000,
            0x10000 + i * 0x1000,
            RW | if i % 2 == 0 { DIRTY } else { 0 },
        );
    }
    space.ok(&Commands::new().fill(VA, 0x10000, 3));
    assert_eq!(
        card.local_read(0x10000, 0x10000),
        [3, 0, 0, 0].repeat(0x4000)
    );
    card.no_error();
}

#[test]
fn a_64k_leaf_with_invalid_entries_translates_by_4k() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    space.medium(VA, 0x10000, RW);
    space.set(VA + 0x9000, 0, 0);
    space.ok(&Commands::new()
        .fill(VA, 0x9000, 1)
        .fill(VA + 0xa000, 0x6000, 1));
    let outcome = space
        .run(&Commands::new().fill(VA + 0x9000, 4, 1))
        .outcome();
    assert_eq!(outcome, (2, 1, VA + 0x9000));
    // Nothing of 64 KiB was cached: the entry is seen as soon as it is there.
    space.leaf(VA + 0x9000, 0x19000, RW | CONT);
    space.ok(&Commands::new().fill(VA + 0x9000, 0x1000, 1));
    card.no_error();
}
