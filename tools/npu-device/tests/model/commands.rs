// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Commands that move data, and that synchronise.

use crate::card::*;
use crate::tables::*;

fn bytes(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[test]
fn fill() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for (dst, size) in [
        (0x1000, 4),
        (0x1ffc, 8),
        (0x3004, 0x5_0004),
        (0x10_0000, 0x30_0000),
    ] {
        card.local_write(dst - 4, &[0xff; 4]);
        card.local_write(dst + size, &[0xff; 4]);
        space.ok(&Commands::new().fill(dst, size, 0x0403_0201));
        assert_eq!(
            card.local_read(dst, size as usize),
            [1, 2, 3, 4].repeat(size as usize / 4)
        );
        assert_eq!(card.local_read(dst - 4, 4), [0xff; 4]);
        assert_eq!(card.local_read(dst + size, 4), [0xff; 4]);
    }
    // Nothing is touched, so nothing can fault.
    space.ok(&Commands::new().fill(1 << 40, 0, 1));
}

#[test]
fn copy() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for (dst, src, size) in [
        (0x20_0000, 0x10_0000, 1),
        (0x20_0003, 0x10_0005, 0x1_0001),
        (0x40_0001, 0x10_0fff, 0x10_0000),
    ] {
        let data = bytes(size, dst as u32);
        card.local_write(src, &data);
        card.local_write(dst - 1, &[0xee]);
        card.local_write(dst + size as u64, &[0xee]);
        space.ok(&Commands::new().copy(dst, src, size as u64));
        assert_eq!(card.local_read(dst, size), data);
        assert_eq!(card.local_read(dst - 1, 1), [0xee]);
        assert_eq!(card.local_read(dst + size as u64, 1), [0xee]);
    }
    space.ok(&Commands::new().copy(1 << 40, 1 << 41, 0));
}

#[test]
fn compare() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let size = 0x9_0001usize;
    let data = bytes(size, 7);
    let (a, b) = (0x10_0001u64, 0x20_0002u64);
    let result = |size: usize| {
        space.ok(&Commands::new().compare(0x8, a, b, size as u64));
        card.local_u64(8)
    };
    card.local_write(a, &data);
    card.local_write(b, &data);
    assert_eq!(result(size), !0);
    assert_eq!(result(0), !0);
    for at in [size - 1, 0x4_0000, 0x3_ffff, 1, 0] {
        card.local_write(b + at as u64, &[data[at] ^ 1]);
        assert_eq!(result(size), at as u64);
        assert_eq!(result(at), !0);
    }
}

#[test]
fn write_timestamp_and_wait() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    space.ok(&Commands::new()
        .timestamp(0x10)
        .write(0x18, 0x0102_0304_0506_0708)
        .timestamp(0x20));
    assert_eq!(card.local_u64(0x18), 0x0102_0304_0506_0708);
    assert!(card.local_u64(0x10) <= card.local_u64(0x20));
    // It compares without sign, and greater is as good as equal.
    card.set_local_u64(0x28, !0);
    space.ok(&Commands::new().wait(0x28, 1 << 63));
    // The CPU ends a wait through the window.
    let index = card.submit(
        1,
        &space.job(&Commands::new().wait(0x30, 3).write(0x38, 1), 0),
    );
    card.w64(reg::WINDOW + 0x30, 2);
    assert!(!card.is_done(1, index));
    card.w64(reg::WINDOW + 0x30, 3);
    assert_eq!(card.finish(1, index).outcome(), OK);
    assert_eq!(card.local_u64(0x38), 1);
    // And in host memory.
    space.leaf(1 << 32, BUS + FREE, RO | ON_HOST);
    let index = card.submit(1, &space.job(&Commands::new().wait(1 << 32, 1), 0));
    card.host_write(FREE, &[1]);
    assert_eq!(card.finish(1, index).outcome(), OK);
}

#[test]
fn commands_run_in_order() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let commands = Commands::new()
        .nop()
        .fill(0x1000, 64, 0xaaaa_aaaa)
        .copy(0x2000, 0x1000, 64)
        .fill(0x1000, 32, 0xbbbb_bbbb)
        .compare(0x3000, 0x1000, 0x2000, 64)
        .copy(0x1000, 0x3000, 8);
    space.ok(&commands);
    assert_eq!(card.local_u64(0x3000), 0);
    assert_eq!(card.local_u64(0x1000), 0);
    assert_eq!(card.local_u64(0x2000), 0xaaaa_aaaa_aaaa_aaaa);
    assert_eq!(card.r64(reg::COMMANDS), 6);
}

#[test]
fn bytes_are_counted() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    space.ok(&Commands::new()
        .fill(0x1000, 100, 0)
        .copy(0x1000, 0x2000, 1000));
    assert_eq!((card.r64(reg::READ), card.r64(reg::WRITTEN)), (1000, 1100));
    space.ok(&Commands::new()
        .compare(0x1000, 0x2000, 0x3000, 16)
        .write(0x1000, 0)
        .wait(0x1000, 0));
    assert_eq!((card.r64(reg::READ), card.r64(reg::WRITTEN)), (1040, 1116));
    card.reset();
    assert_eq!((card.r64(reg::READ), card.r64(reg::WRITTEN)), (0, 0));
}
