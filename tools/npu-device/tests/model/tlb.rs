// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The TLB: it caches, and forgets when it is told.

use crate::card::*;
use crate::tables::*;

const VA: u64 = 0x4000_0000;

/// Local memory whose every 4 KiB begin with their own number.
fn numbered(card: &Card) {
    for page in 0..0x800 {
        card.local_write(page * 0x1000, &(page as u32).to_le_bytes());
    }
}

#[test]
fn stale_until_invalidated() {
    let card = Card::new();
    card.start();
    numbered(&card);
    let space = Space::new(&card);
    let map = |size: u64, address: u64| match size {
        0x1000 => space.leaf(VA, address, RO),
        0x1_0000 => space.medium(VA, address, RO),
        _ => space.large(VA, address, RO),
    };
    for size in [0x1000, 0x1_0000, 0x20_0000] {
        map(size, size);
        assert_eq!(u64::from(space.load(VA)), size >> 12);
        map(size, 2 * size);
        assert_eq!(
            u64::from(space.load(VA)),
            size >> 12,
            "the old translation is cached"
        );
        // Neither another range nor another root helps.
        space.flush(VA + size, size);
        space.flush(VA - 0x1000, 0x1000);
        card.invalidate(space.pgd - 0x1000, VA, VA + size);
        assert_eq!(u64::from(space.load(VA)), size >> 12);
        // Any part of the range does.
        space.flush(VA + size - 0x1000, 0x1000);
        assert_eq!(u64::from(space.load(VA)), (2 * size) >> 12);
        map(size, size);
        card.invalidate(u64::MAX, 0, 1 << 48);
        assert_eq!(u64::from(space.load(VA)), size >> 12);
        for i in 0..16 {
            space.set(VA + i * 0x1000, if size > 0x1_0000 { 1 } else { 0 }, 0);
        }
        space.flush(VA, size);
    }
}

#[test]
fn a_removed_page_can_be_used_until_invalidated() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    space.leaf(VA, 0x1000, RW);
    let fill = Commands::new().fill(VA, 4, 1);
    space.ok(&fill);
    space.set(VA, 0, 0);
    space.ok(&fill);
    space.flush(VA, 0x1000);
    assert_eq!(space.run(&fill).outcome(), (2, 1, VA));
    // Taking a permission away needs an invalidation too.
    space.leaf(VA, 0x1000, RW);
    space.ok(&fill);
    space.leaf(VA, 0x1000, RO);
    space.ok(&fill);
    space.flush(VA, 0x1000);
    assert_eq!(space.run(&fill).outcome(), (2, 2, VA));
}

#[test]
fn more_needs_no_invalidation() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    // Invalid entries are not cached.
    let fill = Commands::new().fill(VA, 4, 1);
    assert_eq!(space.run(&fill).outcome(), (2, 1, VA));
    space.leaf(VA, 0x1000, RO);
    space.load(VA);
    // An access that the cached translation does not permit walks again.
    space.leaf(VA, 0x1000, RW);
    space.ok(&fill);
}

#[test]
fn roots_do_not_mix() {
    let card = Card::new();
    card.start();
    numbered(&card);
    let one = Space::new(&card);
    let two = Space::at(&card, 0xd0_0000);
    one.leaf(VA, 0x1000, RO);
    two.leaf(VA, 0x2000, RO);
    for _ in 0..3 {
        assert_eq!((one.load(VA), two.load(VA)), (1, 2));
    }
    one.leaf(VA, 0x3000, RO);
    two.leaf(VA, 0x4000, RO);
    one.flush(VA, 0x1000);
    assert_eq!((one.load(VA), two.load(VA)), (3, 2));
    card.invalidate(u64::MAX, VA, VA + 0x1000);
    assert_eq!((one.load(VA), two.load(VA)), (3, 4));
}

#[test]
fn it_holds_512_translations() {
    let card = Card::new();
    card.start();
    numbered(&card);
    let space = Space::new(&card);
    space.leaf(VA, 0x1000, RO);
    assert_eq!(space.load(VA), 1);
    space.leaf(VA, 0x2000, RO);
    let others = VA + 0x20_0000;
    for i in 0..512 {
        space.leaf(others + i * 0x1000, 0x1000, RO);
    }
    space.ok(&Commands::new().compare(0x7e00_0000_0000, others, others, 400 << 12));
    assert_eq!(space.load(VA), 1, "others fit beside it");
    space.ok(&Commands::new().compare(0x7e00_0000_0000, others, others, 512 << 12));
    assert_eq!(space.load(VA), 2, "others took its place");
}

#[test]
fn hits_and_misses_are_counted() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let fill = Commands::new().fill(0x1000, 0x2000, 1);
    space.ok(&fill);
    // The commands' page, fetched in two parts, and the data, under one 2 MiB leaf.
    assert_eq!((card.r64(reg::TLB_HITS), card.r64(reg::TLB_MISSES)), (1, 2));
    space.ok(&fill);
    assert_eq!((card.r64(reg::TLB_HITS), card.r64(reg::TLB_MISSES)), (4, 2));
    card.invalidate(u64::MAX, 0, 1 << 48);
    assert_eq!(card.r64(reg::INVALIDATIONS), 1);
    space.ok(&fill);
    assert_eq!((card.r64(reg::TLB_HITS), card.r64(reg::TLB_MISSES)), (5, 4));
}

#[test]
fn invalidations_complete_in_order_and_tell() {
    let card = Card::new();
    for ticket in 1..=10 {
        card.start_invalidation(u64::MAX, 0, 0x1000, ticket);
    }
    until("all are done", || card.r32(reg::TLB_DONE) == 10);
    assert_eq!(card.r32(reg::EVENT), 0);
    card.start_invalidation(u64::MAX, 0, 0x1000, (1 << 31) | 0x7fff_ffff);
    card.await_interrupt(0);
    assert_eq!(card.r32(reg::TLB_DONE), 0x7fff_ffff);
    assert_eq!(card.r32(reg::EVENT), 4);
    // The event is still set: no new interrupt.
    card.start_invalidation(u64::MAX, 0, 0x1000, (1 << 31) | 1);
    until("it is done", || card.r32(reg::TLB_DONE) == 1);
    assert_eq!(card.interrupts(0), 0);
    card.w32(reg::EVENT, 4);
    assert_eq!(card.r32(reg::EVENT), 0);
    card.start_invalidation(u64::MAX, 0, 0x1000, (1 << 31) | 2);
    card.await_interrupt(0);
    card.no_error();
}

#[test]
fn an_invalidation_waits_for_accesses_in_flight() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let index = card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0));
    card.await_state(1, 2);
    let dma = &card.device.space.dma;
    std::thread::scope(|scope| {
        // See errors::tlb_overflow for how an access comes to stay in flight.
        let view = dma.view();
        scope.spawn(|| dma.unmap(0, 0x1000));
        let mut ticket = 0;
        until("an invalidation waits", || {
            ticket += 1;
            card.start_invalidation(space.pgd, 0, 0x1000, ticket);
            std::thread::sleep(std::time::Duration::from_millis(5));
            card.r32(reg::TLB_DONE) != ticket
        });
        drop(view);
        until("it is done", || card.r32(reg::TLB_DONE) == ticket);
    });
    card.set_local_u64(0x1000, 1);
    assert_eq!(card.finish(1, index).outcome(), OK);
}

#[test]
fn a_page_can_be_taken_away_under_load() {
    const PAGES: u64 = 16;
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    for page in 0..PAGES {
        space.leaf(VA + page * 0x1000, 0x10_0000 + page * 0x1000, RW);
    }
    // A queue writes the pages all the time. Each is replaced, and once the invalidation is done,
    // its old memory must stay as it is.
    let mut busy = Commands::new();
    for i in 0..500 {
        busy = busy.fill(VA, PAGES << 12, i);
    }
    let busy = busy.wait(VA, 0);
    for round in 0..20 {
        let index = card.submit(1, &space.job(&busy, 0));
        let old = 0x10_0000 + (round % 2) * 0x10_0000;
        let new = 0x30_0000 - old;
        for page in 0..PAGES {
            let va = VA + page * 0x1000;
            space.leaf(va, new + page * 0x1000, RW);
            space.flush(va, 0x1000);
            card.local_write(old + page * 0x1000, &[0xee; 0x1000]);
        }
        assert_eq!(card.finish(1, index).outcome(), OK);
        assert_eq!(
            card.local_read(old, (PAGES << 12) as usize),
            vec![0xee; (PAGES << 12) as usize]
        );
    }
}
