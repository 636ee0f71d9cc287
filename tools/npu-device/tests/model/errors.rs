// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Programming errors: what they latch, and how the device halts.

use crate::card::*;
use crate::tables::{Commands, Space};

#[test]
fn the_first_error_stays() {
    let card = Card::new();
    card.r32(0xffc);
    card.w32(reg::ID, 0);
    assert_eq!(card.error(), (1, 0, 0xffc));
    assert_eq!(card.r32(reg::STATUS), STATUS_READY | STATUS_ERROR);
    assert_eq!(card.r32(reg::EVENT), 2);
    assert_eq!(card.interrupts(0), 1);
    for queue in 0..5 {
        assert_eq!(card.q32(queue, reg::QUEUE_STATE), 4);
    }
    // Reads still work.
    assert_eq!(card.r32(reg::ID), 0x3155_504e);
    card.reset();
    card.no_error();
    assert_eq!(card.q32(0, reg::QUEUE_STATE), 0);
    assert_eq!(card.r32(reg::EVENT), 0);
}

#[test]
fn nothing_completes_on_a_halted_device() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    // One queue is at work, another has something to do.
    let waiting = card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0));
    card.await_state(1, 2);
    card.w32(reg::ID, 0);
    until("all has halted", || {
        card.r32(reg::STATUS) & STATUS_BUSY == 0
    });
    card.set_local_u64(0x1000, 1);
    let idle = card.submit(2, &space.job_at(1, &Commands::new().nop(), 0));
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 4);
    for (queue, index) in [(1, waiting), (2, idle)] {
        assert!(!card.is_done(queue, index));
        assert_eq!(card.completion(queue, index).status, 0);
    }
    // Invalidations go on, so that memory can be given back.
    card.invalidate(u64::MAX, 0, 0x1000);
    assert_eq!(card.error(), (2, 0, reg::ID));
    card.reset();
    assert_eq!(card.completion(1, waiting).status, 0);
    card.start();
    space.ok(&Commands::new().nop());
}

#[test]
fn ring_overflow() {
    let card = Card::new();
    card.set_up(2);
    card.set_q32(2, reg::TAIL, 64);
    card.no_error();
    card.set_q32(2, reg::TAIL, 65);
    assert_eq!(card.error(), (6, 0, 65));
    card.reset();
    // Behind HEAD is far ahead of it.
    card.set_up(0);
    card.set_q32(0, reg::TAIL, u32::MAX);
    assert_eq!(card.error(), (6, 0, u64::from(u32::MAX)));
    card.reset();
    // A ring that was not set up holds nothing.
    card.set_q32(0, reg::TAIL, 1);
    assert_eq!(card.error(), (6, 0, 1));
}

#[test]
fn tlb_overflow() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0));
    card.w64(reg::TLB_PGD, u64::MAX);
    card.w64(reg::TLB_END, 0x1000);
    let dma = &card.device.space.dma;
    std::thread::scope(|scope| {
        // Someone who wants to unmap host memory, and cannot yet, holds new accesses up. So soon the
        // job's is in flight for as long as we like, and invalidations wait for it.
        let view = dma.view();
        scope.spawn(|| dma.unmap(0, 0x1000));
        let mut ticket = 0;
        until("17 are outstanding", || {
            ticket += 1;
            card.w32(reg::TLB_COMMAND, ticket);
            card.r32(reg::ERROR_CODE) != 0
        });
        assert_eq!(card.error(), (7, 0, ticket.into()));
        // Those that began before the access was in flight may be done by now.
        assert!((ticket - 17..ticket).contains(&card.r32(reg::TLB_DONE)));
        drop(view);
    });
    until("the others are done", || {
        card.r64(reg::INVALIDATIONS) == card.error().2 - 1
    });
}

#[test]
fn bad_descriptors_of_compute_queues() {
    let good = job(0x1000, 0x1000, 8, 0);
    let broken: &[(usize, u8)] = &[
        (0x00, 2), // opcode
        (0x00, 0),
        (0x04, 2), // reserved flag
        (0x07, 0x80),
        (0x08, 8), // pgd misaligned
        (0x10, 4), // commands misaligned
        (0x18, 0), // size
        (0x18, 12),
        (0x1a, 0x11), // size 1 MiB + 64 KiB + 8
        (0x20, 1),    // completion fields
        (0x3f, 1),
    ];
    for &(offset, value) in broken {
        let card = Card::new();
        card.start();
        let mut descriptor = good;
        descriptor[offset] = value;
        card.submit(3, &descriptor);
        assert_eq!(card.await_error(), (8, 4, 0), "byte {offset:#x} = {value}");
        assert_eq!(card.q32(3, reg::HEAD), 0);
    }
}

#[test]
fn bad_descriptors_of_the_copy_queue() {
    let broken = [
        transfer(1, 0, 0, 0x1000, 8),
        transfer(4, 0, 0, 0x1000, 8),
        transfer(2, 8, 0, 0x1000, 8),
        transfer(3, 2, 0, 0x1000, 8),
        transfer(2, 0, 4, 0x1000, 8),
        transfer(2, 0, 0, 0x1004, 8),
        transfer(3, 0, 4, 0x1004, 8),
        transfer(2, 0, 0, 0x1000, 0),
        transfer(2, 0, 0, 0x1000, 12),
        transfer(2, 0, 0, 0x1000, (1 << 32) + 8),
        transfer(2, 0, 0x1000, 0x1008, 16),
        transfer(2, 6, BUS + 0x1008, BUS + 0x1000, 16),
    ];
    for descriptor in broken {
        let card = Card::new();
        card.start();
        card.run(0, &transfer(3, 0, 0, 0, 8));
        card.submit(0, &descriptor);
        assert_eq!(card.await_error(), (8, 1, 1), "{descriptor:x?}");
    }
}

#[test]
fn bad_addresses_of_the_copy_queue() {
    let far = MEMORY - 8;
    for (descriptor, code, detail) in [
        (transfer(2, 0, far, 0x1000, 16), 13, far),
        (transfer(2, 0, 0x1000, far, 16), 13, far),
        (transfer(3, 0, 0, MEMORY, 8), 13, MEMORY),
        (transfer(3, 0, 0, !7, 8), 13, !7),
        (transfer(2, 2, BUS + HOST, 0, 8), 14, BUS + HOST),
        (transfer(2, 4, 0, BUS + HOST - 8, 16), 14, BUS + HOST),
        (transfer(3, 4, 0, BUS - 8, 16), 14, BUS - 8),
    ] {
        let card = Card::new();
        card.start();
        card.submit(0, &descriptor);
        assert_eq!(card.await_error(), (code, 1, detail), "{descriptor:x?}");
    }
}

#[test]
fn no_bus_master_no_bus() {
    let card = Card::new();
    card.start();
    card.device.space.dma.set_bus_master(false);
    card.submit(0, &transfer(3, 0, 0, 0, 8));
    assert_eq!(card.await_error(), (14, 1, BUS + ring(0)));
    card.reset();
    // A ring, a head and a fault ring that nobody can write.
    card.device.space.dma.set_bus_master(true);
    card.start();
    card.w32(reg::CONTROL, 0);
    card.set_q32(1, reg::QUEUE_CONTROL, 0);
    card.set_q64(1, reg::HEAD_WRITEBACK, 0x40);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    card.w32(reg::CONTROL, ENABLE);
    let space = Space::new(&card);
    card.submit(1, &space.job(&Commands::new().nop(), 0));
    assert_eq!(card.await_error(), (14, 2, 0x40));
    card.reset();
    card.w64(reg::FAULT_BASE, BUS + HOST);
    card.w32(reg::FAULT_SIZE, 4);
    card.w32(reg::CONTROL, ENABLE | FAULT_MODE);
    card.set_up(1);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    card.submit(1, &space.job(&Commands::new().fill(0, 4, 0), 0));
    assert_eq!(card.await_error(), (14, 0x100, BUS + HOST));
}
