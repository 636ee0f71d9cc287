// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fault injection.

use std::sync::atomic::Ordering;

use crate::card::*;
use crate::tables::*;

const FILL: u32 = 3;

#[test]
fn dropped_interrupts() {
    let card = Card::new();
    card.start();
    card.w32(reg::INJECT_IRQ_DROP, 2);
    let fill = with_irq(transfer(FILL, 0, 0, 0, 8));
    card.run(0, &fill);
    card.run(0, &fill);
    assert_eq!(card.r32(reg::INJECT_IRQ_DROP), 0);
    assert_eq!(card.interrupts(1), 0);
    card.run(0, &fill);
    card.await_interrupt(1);
    // Any vector: here that of events, whose bit is set all the same.
    card.w32(reg::INJECT_IRQ_DROP, 1);
    card.start_invalidation(u64::MAX, 0, 0x1000, (1 << 31) | 1);
    until("the event is set", || card.r32(reg::EVENT) == 4);
    assert_eq!(card.interrupts(0), 0);
}

#[test]
fn late_interrupts() {
    let card = Card::new();
    card.start();
    card.w32(reg::INJECT_IRQ_DELAY, 30);
    let before = card.r64(reg::TIMESTAMP);
    card.run(0, &with_irq(transfer(FILL, 0, 0, 0, 8)));
    card.await_interrupt(1);
    assert!(card.r64(reg::TIMESTAMP) - before >= 30_000_000);
    assert_eq!(
        card.r32(reg::INJECT_IRQ_DELAY),
        30,
        "it does not count down"
    );
    // A reset forgets those that are under way.
    card.w32(reg::INJECT_IRQ_DELAY, u32::MAX);
    card.run(0, &with_irq(transfer(FILL, 0, 0, 0, 8)));
    card.reset();
    assert_eq!(card.r32(reg::INJECT_IRQ_DELAY), 0);
}

#[test]
fn copy_errors() {
    let card = Card::new();
    card.start();
    card.w32(reg::INJECT_COPY_ERROR, 2);
    for left in [1, 0] {
        let completion = card.run(0, &transfer(FILL, 0, 7, 0x1000, 8));
        assert_eq!(completion.outcome(), (5, 1, 0x1000));
        assert_eq!(card.r32(reg::INJECT_COPY_ERROR), left);
    }
    assert_eq!(card.local_u64(0x1000), 0);
    assert_eq!(card.run(0, &transfer(FILL, 0, 7, 0x1000, 8)).outcome(), OK);
    card.no_error();
}

#[test]
fn hangs() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    card.w32(reg::INJECT_HANG, 0b0101);
    let nop = space.job(&Commands::new().nop(), 0);
    let index = card.submit(1, &nop);
    until("the bit is clear", || card.r32(reg::INJECT_HANG) == 0b0100);
    assert_eq!(card.run(2, &nop).outcome(), OK);
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 2);
    card.kill(1);
    assert_eq!(card.completion(1, index).outcome(), KILLED);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    assert_eq!(card.run(1, &nop).outcome(), OK);
}

#[test]
fn a_ring_that_counts_as_full() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    card.w32(reg::INJECT_FAULT_FULL, 3_600_000);
    assert!((1..=3_600_000).contains(&card.r32(reg::INJECT_FAULT_FULL)));
    card.submit(1, &space.job(&Commands::new().fill(1 << 32, 4, 0), 0));
    card.await_state(1, 3);
    assert_eq!(card.r32(reg::FAULT_TAIL), 0);
    // The time is set anew, and passes.
    card.w32(reg::INJECT_FAULT_FULL, 20);
    until("the record is written", || card.r32(reg::FAULT_TAIL) == 1);
    until("the time is over", || card.r32(reg::INJECT_FAULT_FULL) == 0);
    card.kill(1);
}

#[test]
fn skipped_invalidations() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    card.local_write(0x1000, &[1]);
    card.local_write(0x2000, &[2]);
    let va = 1 << 32;
    space.leaf(va, 0x1000, RO);
    assert_eq!(space.load(va), 1);
    space.leaf(va, 0x2000, RO);
    card.w32(reg::INJECT_SKIP_TLB, 2);
    for left in [1, 0] {
        space.flush(va, 0x1000);
        assert_eq!(card.r32(reg::INJECT_SKIP_TLB), left);
        assert_eq!(space.load(va), 1);
    }
    space.flush(va, 0x1000);
    assert_eq!(space.load(va), 2);
}

#[test]
fn death() {
    let card = Card::new();
    card.w32(reg::INJECT_DIE, 0);
    assert!(!card.died.load(Ordering::Acquire));
    card.w32(reg::INJECT_DIE, 0xdead);
    assert!(card.died.load(Ordering::Acquire));
    card.no_error();
}
