// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Kill, disable and reset: whatever a queue does, it ends.

use crate::card::*;
use crate::tables::*;

const VA: u64 = 0x5000_0000;

/// Kills a job, and checks that it was, that the queue stopped, and that it goes on behind it.
fn kill(card: &Card, space: &Space<'_>, commands: &Commands, state: u32) {
    let index = card.submit(1, &space.job(commands, 0));
    let next = card.submit(1, &space.job_at(15, &Commands::new().write(0x2000, 42), 0));
    card.await_state(1, state);
    card.kill(1);
    assert_eq!(card.q32(1, reg::QUEUE_CONTROL), 0);
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 0);
    assert_eq!(card.q32(1, reg::HEAD), index + 1);
    assert_eq!(card.completion(1, index).outcome(), KILLED);
    assert!(!card.is_done(1, next));
    card.set_local_u64(0x2000, 0);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    assert_eq!(card.finish(1, next).outcome(), OK);
    assert_eq!(card.local_u64(0x2000), 42);
    card.no_error();
}

#[test]
fn whatever_a_job_does() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    kill(&card, &space, &Commands::new().wait(0x1000, 1), 2);
    // A fault whose record is written, and one whose record has no room.
    kill(&card, &space, &Commands::new().fill(VA, 4, 0), 3);
    card.w32(reg::INJECT_FAULT_FULL, u32::MAX);
    kill(&card, &space, &Commands::new().fill(VA, 4, 0), 3);
    // A hang.
    card.w32(reg::INJECT_HANG, 1);
    kill(&card, &space, &Commands::new().nop(), 2);
    assert_eq!(card.r64(reg::JOBS_OTHER), 4);
}

#[test]
fn long_commands() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    // 4 GiB of one page again and again: a table that points to itself is not possible, but 2 MiB
    // leaves that all name the same memory are.
    let base = 0x10_0000_0000;
    for i in 0..2048 {
        space.large(base + (i << 21), 0x20_0000, RW);
    }
    let size = 4 << 30;
    kill(&card, &space, &Commands::new().fill(base, size, 7), 2);
    kill(&card, &space, &Commands::new().copy(base, base, size), 2);
    kill(
        &card,
        &space,
        &Commands::new().compare(0x1000, base, base, size),
        2,
    );
    // Minutes of arithmetic.
    let (m, n, k) = (16384, 16384, 16384);
    let dimensions = [
        W(m),
        W(n),
        W(k),
        W(0),
        W(0),
        W(0),
        W(0),
        F(1.0),
        F(0.0),
        W(0),
    ];
    let mut fields = vec![D(base), D(base + 0x1000), D(base + 0x2000)];
    fields.extend(dimensions);
    kill(&card, &space, &Commands::new().raw(0x10, 0, &fields), 2);
    let fields = [
        D(base),
        D(base),
        D(base),
        D(base),
        D(0),
        W(1),
        W(65536),
        W(1),
        W(64),
        W(0),
        F(1.0),
    ];
    kill(&card, &space, &Commands::new().raw(0x16, 0, &fields), 2);
    kill(
        &card,
        &space,
        &Commands::new().raw(0x12, 0, &[D(base), D(base), D(1 << 30)]),
        2,
    );
    kill(
        &card,
        &space,
        &Commands::new().raw(0x13, 0, &[D(base), D(base), W(1 << 14), W(1 << 16)]),
        2,
    );
}

#[test]
fn an_idle_queue_only_stops() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    card.set_q32(1, reg::QUEUE_CONTROL, KILL);
    assert_eq!(card.q32(1, reg::QUEUE_CONTROL), 0);
    let index = card.submit(1, &space.job(&Commands::new().nop(), 0));
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 0);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    assert_eq!(card.finish(1, index).outcome(), OK);
}

#[test]
fn a_killed_descriptor_raises_its_interrupt() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    card.submit(3, &with_irq(space.job(&Commands::new().wait(0x1000, 1), 0)));
    card.await_state(3, 2);
    card.kill(3);
    card.await_interrupt(4);
}

#[test]
fn the_control_register_is_taken_until_the_kill_is_done() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let dma = &card.device.space.dma;
    card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0));
    card.await_state(1, 2);
    std::thread::scope(|scope| {
        // See errors::tlb_overflow: once the job's access is held up, so is its end.
        let view = dma.view();
        scope.spawn(|| dma.unmap(0, 0x1000));
        let held = || {
            let hits = card.r64(reg::TLB_HITS);
            std::thread::sleep(std::time::Duration::from_millis(20));
            hits == card.r64(reg::TLB_HITS)
        };
        until("the job is held up", held);
        card.set_q32(1, reg::QUEUE_CONTROL, KILL);
        assert_eq!(card.q32(1, reg::QUEUE_CONTROL), KILL | ENABLE);
        card.set_q32(1, reg::QUEUE_CONTROL, KILL);
        card.no_error();
        card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
        assert_eq!(card.error(), (5, 0, Card::block(1) + reg::QUEUE_CONTROL));
        drop(view);
    });
}

#[test]
fn disabling_lets_the_descriptor_finish() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    // By the queue.
    let first = card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0));
    let second = card.submit(1, &space.job_at(1, &Commands::new().nop(), 0));
    card.await_state(1, 2);
    card.set_q32(1, reg::QUEUE_CONTROL, 0);
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 2);
    card.set_local_u64(0x1000, 1);
    card.await_state(1, 0);
    assert_eq!(card.completion(1, first).outcome(), OK);
    assert!(!card.is_done(1, second));
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    card.finish(1, second);
    // By the device.
    card.set_local_u64(0x1000, 0);
    let first = card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0));
    let second = card.submit(1, &space.job_at(1, &Commands::new().nop(), 0));
    card.await_state(1, 2);
    card.w32(reg::CONTROL, 0);
    assert_eq!(card.r32(reg::STATUS), STATUS_READY | STATUS_BUSY);
    card.set_local_u64(0x1000, 1);
    until("it is not busy", || card.r32(reg::STATUS) == STATUS_READY);
    assert!(card.is_done(1, first) && !card.is_done(1, second));
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 1);
    card.w32(reg::CONTROL, ENABLE);
    card.finish(1, second);
}

#[test]
fn a_reset_ends_jobs_without_a_trace() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    card.w32(reg::INJECT_HANG, 4);
    card.w32(reg::INJECT_COPY_HANG, 1);
    let submitted = [
        (0, card.submit(0, &transfer(3, 4, 0, BUS + FREE, 64))),
        (
            1,
            card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0)),
        ),
        (
            2,
            card.submit(2, &space.job_at(2, &Commands::new().fill(VA, 4, 0), 0)),
        ),
        (
            3,
            card.submit(3, &space.job_at(3, &Commands::new().nop(), 0)),
        ),
    ];
    card.await_state(2, 3);
    until("all are at work", || {
        [0, 1, 3]
            .iter()
            .all(|q| card.q32(*q, reg::QUEUE_STATE) == 2)
    });
    card.reset();
    assert_eq!(card.r32(reg::STATUS), STATUS_READY);
    for (queue, index) in submitted {
        assert_eq!(card.completion(queue, index).status, 0);
        assert_eq!(card.q32(queue, reg::HEAD), 0);
        assert_eq!(card.q32(queue, reg::QUEUE_STATE), 0);
        assert_eq!(card.interrupts(queue + 1), 0);
    }
    assert_eq!(card.host_read(FREE, 64), [0; 64]);
    card.start();
    space.ok(&Commands::new().nop());
}

#[test]
fn the_bus_resets_too() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0));
    card.await_state(1, 2);
    card.device.reset();
    assert_eq!(card.r32(reg::STATUS), STATUS_READY);
    assert_eq!(card.q32(1, reg::RING_SIZE), 0);
}

#[test]
fn a_card_at_work_can_be_dropped() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    card.w32(reg::INJECT_HANG, 4);
    card.submit(1, &space.job(&Commands::new().wait(0x1000, 1), 0));
    card.submit(2, &space.job_at(2, &Commands::new().fill(VA, 4, 0), 0));
    card.submit(3, &space.job_at(3, &Commands::new().nop(), 0));
    card.await_state(2, 3);
}
