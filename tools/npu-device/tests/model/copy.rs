// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The copy queue.

use crate::card::*;

const COPY: u32 = 2;
const FILL: u32 = 3;
const SRC_HOST: u32 = 2;
const DST_HOST: u32 = 4;

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[test]
fn all_directions() {
    let card = Card::new();
    card.start();
    // More than a piece, and no power of two.
    let data = bytes((5 << 20) / 2 + 24);
    let len = data.len() as u64;
    card.host_write(FREE + 8, &data);
    for (flags, src, dst) in [
        (SRC_HOST, BUS + FREE + 8, 0x30_0008),
        (0, 0x30_0008, 0x80_0010),
        (DST_HOST, 0x80_0010, BUS + FREE + 0x40_0000),
    ] {
        assert_eq!(
            card.run(0, &transfer(COPY, flags, src, dst, len)).outcome(),
            OK
        );
    }
    assert_eq!(card.host_read(FREE + 0x40_0000, data.len()), data);
    let counters = [reg::FROM_HOST, reg::LOCAL, reg::TO_HOST, reg::FILLED].map(|c| card.r64(c));
    assert_eq!(counters, [len, len, len, 0]);
    card.host_write(FREE, &[0; 64]);
    let host = transfer(COPY, SRC_HOST | DST_HOST, BUS + FREE + 8, BUS + FREE, 8);
    assert_eq!(card.run(0, &host).outcome(), OK);
    assert_eq!(card.host_read(FREE, 8), card.host_read(FREE + 8, 8));
    assert_eq!(card.r64(reg::TO_HOST), len + 8);
}

#[test]
fn fills() {
    let card = Card::new();
    card.start();
    let pattern = 0x0123_4567_89ab_cdefu64;
    let len = (3 << 20) + 8;
    assert_eq!(
        card.run(0, &transfer(FILL, 0, pattern, 0x8, len)).outcome(),
        OK
    );
    assert_eq!(
        card.local_read(8, len as usize),
        pattern.to_le_bytes().repeat(len as usize / 8)
    );
    assert_eq!(card.local_u64(0), 0);
    assert_eq!(card.local_u64(8 + len), 0);
    assert_eq!(
        card.run(0, &transfer(FILL, DST_HOST, pattern, BUS + FREE, 16))
            .outcome(),
        OK
    );
    assert_eq!(card.host_read(FREE, 16), pattern.to_le_bytes().repeat(2));
    assert_eq!(card.r64(reg::FILLED), len + 16);
}

#[test]
fn neighbours_are_no_overlap() {
    let card = Card::new();
    card.start();
    card.local_write(0x1000, &bytes(64));
    for (src, dst) in [(0x1000, 0x1040), (0x1040, 0x1000)] {
        assert_eq!(card.run(0, &transfer(COPY, 0, src, dst, 64)).outcome(), OK);
    }
    // The same number is another place in the other memory.
    card.device.space.dma.unmap_all();
    let file = card.host_file.try_clone().unwrap();
    card.device.space.dma.map(file, 0, 0, HOST, true).unwrap();
    card.reset();
    card.w32(reg::CONTROL, ENABLE);
    card.set_q64(0, reg::RING_BASE, ring(0));
    card.set_q32(0, reg::RING_SIZE, RING_LOG);
    card.set_q32(0, reg::QUEUE_CONTROL, ENABLE);
    let same = FREE;
    card.host_write(same, b"12345678");
    assert_eq!(
        card.run(0, &transfer(COPY, SRC_HOST, same, same, 8))
            .outcome(),
        OK
    );
    assert_eq!(card.local_read(same, 8), b"12345678");
}

#[test]
fn the_whole_of_local_memory() {
    let card = Card::new();
    card.start();
    assert_eq!(card.run(0, &transfer(FILL, 0, !0, 0, MEMORY)).outcome(), OK);
    assert_eq!(card.local_u64(MEMORY - 8), !0);
}

#[test]
fn kill_and_go_on() {
    let card = Card::new();
    card.start();
    card.w32(reg::INJECT_COPY_HANG, 1);
    let hung = card.submit(0, &with_irq(transfer(FILL, 0, 1, 0, 64)));
    let next = card.submit(0, &transfer(FILL, 0, 2, 0x1000, 64));
    card.await_state(0, 2);
    until("the copy hangs", || card.r32(reg::INJECT_COPY_HANG) == 0);
    card.kill(0);
    assert_eq!(card.completion(0, hung).outcome(), KILLED);
    card.await_interrupt(1);
    assert_eq!(card.local_u64(0), 0);
    card.set_q32(0, reg::QUEUE_CONTROL, ENABLE);
    assert_eq!(card.finish(0, next).outcome(), OK);
    assert_eq!(card.local_u64(0x1000), 2);
}
