// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which vector is raised when.

use crate::card::*;
use crate::tables::*;

#[test]
fn each_queue_has_its_own() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for queue in 0..5 {
        let plain = match queue {
            0 => transfer(3, 0, 0, 0x1000, 8),
            _ => space.job(&Commands::new().nop(), 0),
        };
        card.run(queue, &plain);
        card.run(queue, &with_irq(plain));
        card.await_interrupt(1 + queue);
        for vector in 0..6 {
            assert_eq!(
                card.interrupts(vector),
                0,
                "vector {vector} after queue {queue}"
            );
        }
    }
}

#[test]
fn it_comes_after_the_completion() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for i in 1..200 {
        let index = card.submit(
            2,
            &with_irq(space.job(&Commands::new().write(0x1000, i), 0)),
        );
        card.await_interrupt(3);
        assert!(card.is_done(2, index));
        assert_eq!(card.completion(2, index).outcome(), OK);
        assert_eq!(card.local_u64(0x1000), i);
    }
}

#[test]
fn events_are_edges() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card);
    // Two bits, two edges.
    card.submit(1, &space.job(&Commands::new().fill(0, 4, 0), 0));
    card.await_interrupt(0);
    card.start_invalidation(u64::MAX, 0, 0x1000, (1 << 31) | 1);
    card.await_interrupt(0);
    assert_eq!(card.r32(reg::EVENT), 5);
    // Clearing one leaves the other.
    card.w32(reg::EVENT, 1);
    assert_eq!(card.r32(reg::EVENT), 4);
    assert_eq!(card.interrupts(0), 0);
}

#[test]
fn a_vector_without_descriptor_is_lost() {
    let card = Card::new();
    card.start();
    card.device.interrupts.connect(1, None);
    assert_eq!(
        card.run(0, &with_irq(transfer(3, 0, 0, 0, 8))).outcome(),
        OK
    );
    assert_eq!(card.interrupts(1), 0);
}
