// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Replayable faults: records, replay, cancel, and a ring that is full.

use crate::card::*;
use crate::tables::*;

const VA: u64 = 0x5000_0000;

#[derive(Debug, PartialEq, Eq)]
struct Record {
    va: u64,
    pgd: u64,
    access: u32,
    reason: u32,
    queue: u32,
    cookie: u32,
    len: u64,
}

/// The record of a free-running index in a ring of `1 << log`.
fn record(card: &Card, index: u32, log: u32) -> Record {
    let at = FAULT_RING + u64::from(index % (1 << log)) * 64;
    assert_eq!(card.host_read(at + 0x30, 16), [0; 16]);
    assert!(card.host_u64(at + 0x20) <= card.r64(reg::TIMESTAMP));
    Record {
        va: card.host_u64(at),
        pgd: card.host_u64(at + 8),
        access: card.host_u32(at + 0x10),
        reason: card.host_u32(at + 0x14),
        queue: card.host_u32(at + 0x18),
        cookie: card.host_u32(at + 0x1c),
        len: card.host_u64(at + 0x28),
    }
}

fn await_tail(card: &Card, tail: u32) {
    until("records are there", || card.r32(reg::FAULT_TAIL) == tail);
}

#[test]
fn every_reason_and_access() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    space.leaf(VA, 0x1000, RO);
    let data_job = |page, commands: Commands| space.job_at(page, &commands, 0xc0_ffee);
    let far = 1 << 48;
    let cases = [
        (
            data_job(0, Commands::new().copy(0, VA + 0x1008, 16)),
            (VA + 0x1000, 1, 1, 24),
        ),
        (
            data_job(1, Commands::new().fill(VA + 0x1000, 0x5000, 0)),
            (VA + 0x1000, 2, 1, 0x5000),
        ),
        (
            data_job(2, Commands::new().fill(VA + 4, 4, 0)),
            (VA, 2, 2, 8),
        ),
        (data_job(3, Commands::new().wait(far, 1)), (far, 1, 4, 8)),
        (job(space.pgd, 0x1000, 8, 0xc0_ffee), (0x1000, 4, 3, 8)),
        (
            job(space.pgd, VA + 0x2000, 8, 0xc0_ffee),
            (VA + 0x2000, 4, 1, 8),
        ),
    ];
    for (i, (descriptor, (va, access, reason, len))) in cases.into_iter().enumerate() {
        let queue = 1 + i % 4;
        let index = card.submit(queue, &descriptor);
        await_tail(&card, i as u32 + 1);
        let expected = Record {
            va,
            pgd: space.pgd,
            access,
            reason,
            queue: queue as u32 - 1,
            cookie: 0xc0_ffee,
            len,
        };
        assert_eq!(record(&card, i as u32, 4), expected);
        assert_eq!(card.r32(reg::EVENT), 1);
        assert_eq!(card.q32(queue, reg::QUEUE_STATE), 3);
        assert_eq!(card.r32(reg::STATUS), STATUS_READY | STATUS_BUSY);
        card.w32(reg::FAULT_HEAD, i as u32 + 1);
        card.w32(reg::FAULT_CANCEL, 1 << (queue - 1));
        let completion = card.finish(queue, index);
        assert_eq!((completion.status, completion.error), (2, reason));
        assert_eq!(
            completion.detail & !0xfff,
            va,
            "the detail is the exact address"
        );
    }
    assert_eq!(card.r64(reg::FAULTS), 6);
}

#[test]
fn one_event_for_many_records() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card);
    let fault = space.job(&Commands::new().fill(VA, 4, 0), 0);
    for queue in 1..=3 {
        card.submit(queue, &fault);
    }
    await_tail(&card, 3);
    assert_eq!(card.interrupts(0), 1);
    card.w32(reg::EVENT, 1);
    card.submit(4, &fault);
    await_tail(&card, 4);
    assert_eq!(card.interrupts(0), 1);
}

#[test]
fn replay_retries_that_one_access() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    space.leaf(VA, 0x10_0000, RW);
    space.leaf(VA + 0x2000, 0x10_2000, RW);
    card.local_write(0x1000, &[1; 0x3000]);
    let index = card.submit(1, &space.job(&Commands::new().copy(VA, 0x1000, 0x3000), 0));
    await_tail(&card, 1);
    // The first page is done; it is not done again, whatever happens to it.
    assert_eq!(card.local_read(0x10_0000, 0x1000), [1; 0x1000]);
    card.local_write(0x10_0000, &[2; 0x1000]);
    // A replay that comes too early faults again.
    card.w32(reg::FAULT_REPLAY, 1);
    await_tail(&card, 2);
    assert_eq!(record(&card, 0, 4), record(&card, 1, 4));
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 3);
    space.leaf(VA + 0x1000, 0x10_1000, RW);
    card.w32(reg::FAULT_REPLAY, 1);
    assert_eq!(card.finish(1, index).outcome(), OK);
    assert_eq!(card.local_read(0x10_0000, 0x1000), [2; 0x1000]);
    assert_eq!(card.local_read(0x10_1000, 0x2000), [1; 0x2000]);
    assert_eq!(card.r64(reg::JOBS_OK), 1);
}

#[test]
fn replay_walks_afresh() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    // The translation that forbids the write is cached.
    space.leaf(VA, 0x10_0000, RO);
    space.load(VA);
    let index = card.submit(1, &space.job(&Commands::new().fill(VA, 4, 7), 0));
    await_tail(&card, 1);
    space.leaf(VA, 0x10_0000, RW);
    card.w32(reg::FAULT_REPLAY, 1);
    assert_eq!(card.finish(1, index).outcome(), OK);
    assert_eq!(card.local_read(0x10_0000, 4), [7, 0, 0, 0]);
}

#[test]
fn commands_fault_in_page_by_page() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    let mut commands = Commands::new();
    for i in 0..300 {
        commands = commands.write(0x1000, i);
    }
    let index = card.submit(1, &space.job(&commands, 0));
    let mut faults = 0;
    let mut replay = |va: u64, address: u64| {
        faults += 1;
        await_tail(&card, faults);
        assert_eq!(record(&card, faults - 1, 4).va, va);
        space.leaf(va, address, VALID | LEAF | EXEC);
        card.w32(reg::FAULT_HEAD, faults);
        card.w32(reg::FAULT_REPLAY, 1);
    };
    assert_eq!(card.finish(1, index).outcome(), OK);
    assert_eq!(card.local_u64(0x1000), 299);
    // The same again from an address where nothing is mapped.
    let elsewhere = 0x6000_0000;
    let index = card.submit(1, &job(space.pgd, elsewhere, commands.0.len() as u32, 0));
    replay(elsewhere, 0xb0_0000);
    replay(elsewhere + 0x1000, 0xb0_1000);
    assert_eq!(card.finish(1, index).outcome(), OK);
    assert_eq!(card.r64(reg::COMMANDS), 600);
}

#[test]
fn answers_to_queues_that_do_not_wait_have_no_effect() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card);
    card.w32(reg::FAULT_REPLAY, 0xf);
    card.w32(reg::FAULT_CANCEL, 0xf);
    let index = card.submit(1, &space.job(&Commands::new().fill(VA, 4, 0), 0));
    await_tail(&card, 1);
    card.w32(reg::FAULT_CANCEL, 0xe);
    card.w32(reg::FAULT_REPLAY, 0xe);
    assert_eq!(card.q32(1, reg::QUEUE_STATE), 3);
    card.w32(reg::FAULT_CANCEL, 1);
    assert_eq!(card.finish(1, index).outcome(), (2, 1, VA));
    card.no_error();
}

#[test]
fn a_full_ring_loses_nothing() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    let fault = |queue: usize, n: u64| {
        let va = VA + n * 0x1000;
        card.submit(
            queue,
            &space.job_at(queue as u64, &Commands::new().fill(va, 4, 0), n as u32),
        )
    };
    // 16 records that nobody consumes.
    for n in 0..16 {
        let index = fault(1, n);
        await_tail(&card, n as u32 + 1);
        card.w32(reg::FAULT_CANCEL, 1);
        card.finish(1, index);
    }
    let indices = [fault(1, 100), fault(2, 101)];
    card.await_state(1, 3);
    card.await_state(2, 3);
    assert_eq!(card.r32(reg::FAULT_TAIL), 16);
    // Other queues go on.
    let other = card.submit(3, &space.job_at(3, &Commands::new().fill(0, 4, 0), 0));
    assert_eq!(card.finish(3, other).outcome(), OK);
    assert_eq!(card.r32(reg::FAULT_TAIL), 16);
    card.w32(reg::FAULT_HEAD, 1);
    await_tail(&card, 17);
    card.w32(reg::FAULT_HEAD, 16);
    await_tail(&card, 18);
    let mut seen = [record(&card, 16, 4).cookie, record(&card, 17, 4).cookie];
    seen.sort();
    assert_eq!(seen, [100, 101]);
    card.w32(reg::FAULT_CANCEL, 3);
    for (queue, index) in indices.into_iter().enumerate() {
        assert_eq!(card.finish(1 + queue, index).status, 2);
    }
    card.no_error();
}

#[test]
fn a_queue_that_waits_for_room_takes_answers() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card).data();
    card.w32(reg::INJECT_FAULT_FULL, u32::MAX);
    let job = space.job(&Commands::new().fill(VA, 4, 7), 0);
    let index = card.submit(1, &job);
    card.await_state(1, 3);
    card.w32(reg::FAULT_CANCEL, 1);
    assert_eq!(card.finish(1, index).outcome(), (2, 1, VA));
    let index = card.submit(1, &job);
    card.await_state(1, 3);
    space.leaf(VA, 0x1000, RW);
    card.w32(reg::FAULT_REPLAY, 1);
    assert_eq!(card.finish(1, index).outcome(), OK);
    assert_eq!(card.r32(reg::FAULT_TAIL), 0);
}

#[test]
fn the_head_only_advances_up_to_the_tail() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card);
    for n in 1..=3 {
        card.submit(1, &space.job(&Commands::new().fill(VA, 4, 0), 0));
        await_tail(&card, n);
        card.w32(reg::FAULT_CANCEL, 1);
        card.await_state(1, 1);
    }
    card.w32(reg::FAULT_HEAD, 2);
    card.w32(reg::FAULT_HEAD, 2);
    assert_eq!(card.r32(reg::FAULT_HEAD), 2);
    card.no_error();
    card.w32(reg::FAULT_HEAD, 1);
    assert_eq!(card.error(), (4, 0, reg::FAULT_HEAD));
}

#[test]
fn a_new_ring_begins_at_zero() {
    let card = Card::new();
    card.start_faults(4);
    let space = Space::new(&card);
    card.submit(1, &space.job(&Commands::new().fill(VA, 4, 0), 0));
    await_tail(&card, 1);
    card.kill(1);
    card.w32(reg::CONTROL, FAULT_MODE);
    card.w64(reg::FAULT_BASE, BUS + FAULT_RING);
    assert_eq!(
        (card.r32(reg::FAULT_HEAD), card.r32(reg::FAULT_TAIL)),
        (0, 0)
    );
    card.no_error();
}
