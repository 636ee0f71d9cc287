// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Rings: order, wrapping, completion, write-back.

use crate::card::*;
use crate::tables::*;

#[test]
fn descriptors_complete_in_order_around_the_ring() {
    let card = Card::new();
    card.start();
    card.set_q32(1, reg::QUEUE_CONTROL, 0);
    card.set_q64(1, reg::HEAD_WRITEBACK, BUS + FREE);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    let space = Space::new(&card).data();
    let mut index = 0;
    for round in 0..3 {
        // A full ring at once.
        for i in 0..64 {
            let commands = Commands::new()
                .write(0x1000, u64::from(index))
                .timestamp(0x2000 + i * 8);
            card.put(1, index, &space.job_at(0, &commands, index));
            index += 1;
            card.set_q32(1, reg::TAIL, index);
            if round == 2 {
                card.finish(1, index - 1);
            }
        }
        let last = card.finish(1, index - 1);
        assert!(last.start <= last.end);
        for i in index - 63..index {
            let (before, this) = (card.completion(1, i - 1), card.completion(1, i));
            assert_eq!(this.outcome(), OK);
            assert!(before.end <= this.start);
        }
        assert_eq!(card.q32(1, reg::HEAD), index);
        assert_eq!(card.q32(1, reg::TAIL), index);
        assert_eq!(card.host_u32(FREE), index);
    }
    assert_eq!(card.r64(reg::JOBS_OK), 192);
    assert_eq!(card.local_u64(0x1000), 191);
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 1);
}

#[test]
fn a_new_ring_begins_at_zero() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    space.ok(&Commands::new().nop());
    card.set_q32(1, reg::QUEUE_CONTROL, 0);
    card.await_state(1, 0);
    card.set_q64(1, reg::RING_BASE, BUS + ring(1));
    assert_eq!((card.q32(1, reg::HEAD), card.q32(1, reg::TAIL)), (0, 0));
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    space.ok(&Commands::new().nop());
    assert_eq!(card.q32(1, reg::HEAD), 1);
}

#[test]
fn completion_fields_tell_when() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let before = card.r64(reg::TIMESTAMP);
    let completion = space.run(&Commands::new().timestamp(0x1000));
    let inside = card.local_u64(0x1000);
    let after = card.r64(reg::TIMESTAMP);
    let times = [before, completion.start, inside, completion.end, after];
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn nothing_runs_before_it_is_enabled() {
    let card = Card::new();
    let space = Space::new(&card).data();
    card.set_up(1);
    let index = card.submit(1, &space.job(&Commands::new().write(0x1000, 1), 0));
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 0);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 1);
    assert_eq!(card.r32(reg::STATUS), STATUS_READY);
    assert!(!card.is_done(1, index));
    card.w32(reg::CONTROL, ENABLE);
    assert_eq!(card.finish(1, index).outcome(), OK);
}

#[test]
fn queues_are_independent_and_parallel() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    // Each of three waits for the one behind it, which only works if all run at a time.
    let link = |page: u64, from: u64, to: u64| {
        space.job_at(page, &Commands::new().wait(from, 5).write(to, 5), 0)
    };
    let a = card.submit(1, &link(1, 0x1000, 0x1008));
    let b = card.submit(2, &link(2, 0x1010, 0x1000));
    let c = card.submit(3, &link(3, 0x1018, 0x1010));
    until("they run", || {
        card.r32(reg::STATUS) == STATUS_READY | STATUS_BUSY
    });
    let d = card.submit(4, &space.job_at(4, &Commands::new().write(0x1018, 6), 0));
    for (queue, index) in [(1, a), (2, b), (3, c), (4, d)] {
        assert_eq!(card.finish(queue, index).outcome(), OK);
    }
    assert_eq!(card.local_u64(0x1008), 5);
}

#[test]
fn sixteen_queues() {
    let card = Card::with(npu_device::Config {
        queues: 16,
        ..config()
    });
    card.start();
    let space = Space::new(&card).data();
    for queue in 1..=16 {
        let job = space.job(&Commands::new().write(0x1000, queue), 0);
        let queue = queue as usize;
        assert_eq!(card.run(queue, &with_irq(job)).outcome(), OK);
        card.await_interrupt(1 + queue);
        assert_eq!(card.local_u64(0x1000), queue as u64);
    }
}

#[test]
fn the_tail_can_be_taken_back() {
    let card = Card::new();
    let space = Space::new(&card).data();
    card.set_up(1);
    card.submit(1, &space.job(&Commands::new().write(0x1000, 1), 0));
    card.submit(1, &space.job_at(1, &Commands::new().write(0x1000, 2), 0));
    card.set_q32(1, reg::TAIL, 1);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    card.w32(reg::CONTROL, ENABLE);
    card.finish(1, 0);
    assert_eq!(card.local_u64(0x1000), 1);
    assert_eq!(card.q32(1, reg::HEAD), 1);
}
