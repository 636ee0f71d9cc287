// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The register file: offsets, widths, modes, values.

use npu_device::Config;

use crate::card::*;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Ro,
    Rw,
    Wo,
}
use Mode::{Ro, Rw, Wo};

/// The registers of the manual for 4 compute queues, with injection.
fn map() -> Vec<(u64, usize, Mode)> {
    let mut map = vec![
        (0x000, 4, Ro),
        (0x004, 4, Ro),
        (0x008, 8, Ro),
        (0x010, 8, Ro),
        (0x018, 4, Ro),
        (0x01c, 4, Rw),
        (0x020, 4, Ro),
        (0x024, 4, Rw),
        (0x028, 8, Rw),
        (0x030, 8, Ro),
        (0x038, 4, Ro),
        (0x03c, 4, Ro),
        (0x040, 8, Ro),
        (0x080, 8, Rw),
        (0x088, 8, Rw),
        (0x090, 8, Rw),
        (0x098, 4, Wo),
        (0x09c, 4, Ro),
        (0x0c0, 8, Rw),
        (0x0c8, 4, Rw),
        (0x0cc, 4, Rw),
        (0x0d0, 4, Ro),
        (0x0d4, 4, Wo),
        (0x0d8, 4, Wo),
    ];
    for queue in 0..5 {
        let block = 0x1000 + queue * 0x80;
        let registers = [
            (0x00, 8, Rw),
            (0x08, 4, Rw),
            (0x0c, 4, Rw),
            (0x10, 4, Rw),
            (0x14, 4, Ro),
        ];
        map.extend(registers.map(|(offset, width, mode)| (block + offset, width, mode)));
        map.extend([(block + 0x18, 8, Rw), (block + 0x20, 4, Ro)]);
    }
    map.extend((0..8).map(|i| (0x2000 + i * 4, 4, Rw)));
    map.extend((0..13).map(|i| (0x3000 + i * 8, 8, Ro)));
    map
}

#[test]
fn identity() {
    let card = Card::new();
    assert_eq!(card.r32(reg::ID), 0x3155_504e);
    assert_eq!(card.r32(0x004) >> 16, 1);
    assert_eq!(card.r64(0x008), MEMORY);
    assert_eq!(card.r64(0x010), MEMORY);
    assert_eq!(card.r32(0x018), 1 | 2 | (4 << 8) | (48 << 16));
    assert_eq!(card.r32(reg::STATUS), STATUS_READY);
    card.no_error();
}

#[test]
fn capabilities_follow_the_configuration() {
    let plain = Config {
        faults: false,
        inject: false,
        queues: 1,
        aperture: 0,
        ..config()
    };
    let card = Card::with(plain);
    assert_eq!(card.r32(0x018), (1 << 8) | (48 << 16));
    assert_eq!(card.r64(0x010), 0);
    card.no_error();
    // The block of a second queue and that of injection do not exist.
    for offset in [0x1100, 0x2000] {
        card.r32(offset);
        assert_eq!(card.error(), (1, 0, offset));
        card.reset();
    }
}

#[test]
fn configurations_are_checked() {
    let good = config();
    assert!(good.check().is_ok());
    assert!(
        Config {
            memory: 6 << 20,
            aperture: 4 << 20,
            ..good
        }
        .check()
        .is_ok()
    );
    for bad in [
        Config {
            memory: 0,
            aperture: 0,
            ..good
        },
        Config {
            memory: 3 << 20,
            aperture: 0,
            ..good
        },
        Config {
            aperture: 1 << 20,
            ..good
        },
        Config {
            aperture: 6 << 20,
            ..good
        },
        Config {
            aperture: MEMORY * 2,
            ..good
        },
        Config { queues: 0, ..good },
        Config { queues: 17, ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

#[test]
fn reads_of_every_offset_and_width() {
    let card = Card::new();
    let map = map();
    for offset in 0..0x4000 {
        for width in [1, 2, 4, 8] {
            let mut data = [0xaa; 8];
            card.device.read(offset, &mut data[..width]);
            let expected = match map.iter().find(|r| r.0 == offset && r.1 == width) {
                Some((_, _, Wo)) => (3, 0, offset),
                Some(_) => (0, 0, 0),
                None => (1, 0, offset),
            };
            assert_eq!(card.error(), expected, "offset {offset:#x} width {width}");
            if expected.0 != 0 {
                assert_eq!(data[..width], [0; 8][..width], "bad reads give 0");
                card.reset();
            }
        }
    }
}

#[test]
fn writes_of_every_offset_and_width() {
    let card = Card::new();
    let map = map();
    for offset in 0..0x4000 {
        for width in [1, 2, 4, 8] {
            let expected = match map.iter().find(|r| r.0 == offset && r.1 == width) {
                Some((_, _, Ro)) => (2, 0, offset),
                Some(_) => continue,
                None => (1, 0, offset),
            };
            card.device.write(offset, &[0; 8][..width]);
            assert_eq!(card.error(), expected, "offset {offset:#x} width {width}");
            card.reset();
        }
    }
}

#[test]
fn the_end_of_bar_0_is_the_end() {
    let card = Card::new();
    card.r32(0x1fffc);
    card.no_error();
    card.r32(0x20000);
    assert_eq!(card.error(), (1, 0, 0x20000));
    card.reset();
    card.r64(0xfffc);
    assert_eq!(card.error(), (1, 0, 0xfffc));
}

#[test]
fn reserved_bits_and_bad_values() {
    const TOO_FAR: u64 = 1 << 52;
    let card = Card::new();
    let bad32 = [
        (reg::CONTROL, 4),
        (reg::CONTROL, 1 << 30),
        (reg::EVENT, 8),
        (reg::TLB_COMMAND, 0),
        (reg::TLB_COMMAND, 1 << 31),
        (reg::FAULT_SIZE, 3),
        (reg::FAULT_SIZE, 13),
        (reg::FAULT_HEAD, 1),
        (reg::FAULT_REPLAY, 1 << 4),
        (reg::FAULT_CANCEL, 1 << 31),
        (reg::INJECT_HANG, 1 << 4),
        (reg::INJECT_DIE, 1),
        (reg::COPY + reg::RING_SIZE, 3),
        (reg::COMPUTE + reg::RING_SIZE, 13),
        (reg::COMPUTE + reg::QUEUE_CONTROL, 4),
    ];
    for (offset, value) in bad32 {
        card.w32(offset, value);
        assert_eq!(card.error(), (4, 0, offset), "{value:#x}");
        card.reset();
    }
    let bad64 = [
        (reg::WINDOW_BASE, 0x8000),
        (reg::WINDOW_BASE, MEMORY),
        (reg::TLB_PGD, 0x800),
        (reg::TLB_PGD, MEMORY),
        (reg::TLB_START, 0x800),
        (reg::TLB_START, 1 << 48),
        (reg::TLB_END, 0x800),
        (reg::TLB_END, (1 << 48) + 0x1000),
        (reg::FAULT_BASE, 0x800),
        (reg::FAULT_BASE, TOO_FAR),
        (reg::COPY + reg::RING_BASE, 0x800),
        (reg::COMPUTE + reg::RING_BASE, TOO_FAR),
        (reg::COMPUTE + reg::HEAD_WRITEBACK, 0x20),
        (reg::COMPUTE + reg::HEAD_WRITEBACK, TOO_FAR),
    ];
    for (offset, value) in bad64 {
        card.w64(offset, value);
        assert_eq!(card.error(), (4, 0, offset), "{value:#x}");
        card.reset();
    }
}

#[test]
fn an_invalidation_needs_a_range() {
    let card = Card::new();
    card.start_invalidation(u64::MAX, 0x2000, 0x2000, 1);
    assert_eq!(card.error(), (4, 0, reg::TLB_END));
}

#[test]
fn written_values_can_be_read() {
    let card = Card::new();
    for (offset, value) in [
        (reg::WINDOW_BASE, 0x30000),
        (reg::TLB_PGD, 0x5000),
        (reg::TLB_PGD, u64::MAX),
        (reg::TLB_START, 0xffff_ffff_f000),
        (reg::TLB_END, 1 << 48),
        (reg::FAULT_BASE, BUS),
        (reg::COPY + reg::RING_BASE, BUS),
        (
            reg::COMPUTE + 3 * reg::STRIDE + reg::HEAD_WRITEBACK,
            BUS + 0x40,
        ),
    ] {
        card.w64(offset, value);
        assert_eq!(card.r64(offset), value, "{offset:#x}");
    }
    for (offset, value) in [
        (reg::FAULT_SIZE, 4),
        (reg::FAULT_SIZE, 12),
        (reg::COMPUTE + reg::RING_SIZE, 4),
        (reg::COPY + reg::RING_SIZE, 12),
        (reg::COPY + reg::QUEUE_CONTROL, ENABLE),
        (reg::CONTROL, ENABLE | FAULT_MODE),
    ] {
        card.w32(offset, value);
        assert_eq!(card.r32(offset), value, "{offset:#x}");
    }
    card.no_error();
}

#[test]
fn state_rules() {
    let card = Card::new();
    let bad_state = |offset| {
        assert_eq!(card.error(), (5, 0, offset));
        card.reset();
    };
    // Nothing can be enabled before its ring is set up.
    card.w32(reg::CONTROL, ENABLE | FAULT_MODE);
    bad_state(reg::CONTROL);
    card.set_q32(1, reg::QUEUE_CONTROL, ENABLE);
    bad_state(Card::block(1) + reg::QUEUE_CONTROL);
    // The fault mode and ring are fixed while the device is enabled.
    card.start();
    card.w32(reg::CONTROL, ENABLE | FAULT_MODE);
    bad_state(reg::CONTROL);
    card.start_faults(4);
    card.w32(reg::CONTROL, 0);
    bad_state(reg::CONTROL);
    card.start();
    card.w64(reg::FAULT_BASE, BUS);
    bad_state(reg::FAULT_BASE);
    card.start();
    card.w32(reg::FAULT_SIZE, 4);
    bad_state(reg::FAULT_SIZE);
    // A ring is fixed while its queue is enabled.
    for queue in [0, 4] {
        card.start();
        card.set_q64(queue, reg::RING_BASE, BUS);
        bad_state(Card::block(queue) + reg::RING_BASE);
        card.start();
        card.set_q32(queue, reg::RING_SIZE, 4);
        bad_state(Card::block(queue) + reg::RING_SIZE);
        card.start();
        card.set_q64(queue, reg::HEAD_WRITEBACK, BUS);
        bad_state(Card::block(queue) + reg::HEAD_WRITEBACK);
    }
    // A ring does not shrink below what it holds.
    card.set_up(1);
    card.set_q32(1, reg::TAIL, 17);
    card.set_q32(1, reg::RING_SIZE, 4);
    bad_state(Card::block(1) + reg::RING_SIZE);
}

#[test]
fn a_device_without_faults_has_no_fault_mode() {
    let card = Card::with(Config {
        faults: false,
        ..config()
    });
    card.w64(reg::FAULT_BASE, BUS);
    card.w32(reg::FAULT_SIZE, 4);
    card.w32(reg::CONTROL, FAULT_MODE);
    assert_eq!(card.error(), (4, 0, reg::CONTROL));
}

#[test]
fn reset_returns_to_power_on_but_for_memory() {
    let card = Card::new();
    let fresh: Vec<u64> = snapshot(&card);
    card.start_faults(5);
    card.w64(reg::WINDOW_BASE, 0x10000);
    card.w64(reg::TLB_PGD, 0x3000);
    card.invalidate(0x3000, 0x1000, 0x2000);
    card.set_q64(0, reg::HEAD_WRITEBACK, 0);
    card.w32(reg::INJECT_IRQ_DROP, 7);
    card.local_write(0x1234, b"kept");
    let nop = transfer(3, 0, 0, 0x2000, 64);
    card.reset();
    card.start();
    card.run(0, &nop);
    // Bits that are written together with it are ignored.
    card.w32(reg::CONTROL, u32::MAX);
    until("the reset is done", || card.r32(reg::CONTROL) & RESET == 0);
    assert_eq!(snapshot(&card), fresh);
    assert_eq!(card.local_read(0x1234, 4), b"kept");
}

/// All registers that can be read but the time.
fn snapshot(card: &Card) -> Vec<u64> {
    let map = map();
    let readable = map.iter().filter(|r| r.2 != Wo && r.0 != reg::TIMESTAMP);
    readable
        .map(|&(offset, width, _)| match width {
            4 => card.r32(offset).into(),
            _ => card.r64(offset),
        })
        .collect()
}

#[test]
fn time_passes() {
    let card = Card::new();
    let first = card.r64(reg::TIMESTAMP);
    until("time has passed", || card.r64(reg::TIMESTAMP) > first);
    // A reset does not turn it back.
    card.reset();
    assert!(card.r64(reg::TIMESTAMP) > first);
}

#[test]
fn the_window_reaches_all_memory() {
    let card = Card::new();
    card.local_write(0xff_1000, &[1, 2, 3, 4, 5, 6, 7, 8]);
    card.w64(reg::WINDOW_BASE, 0xff_0000);
    assert_eq!(card.r64(reg::WINDOW + 0x1000), 0x0807_0605_0403_0201);
    assert_eq!(card.r32(reg::WINDOW + 0x1002), 0x0605_0403);
    let mut byte = [0];
    card.device.read(reg::WINDOW + 0x1007, &mut byte);
    assert_eq!(byte, [8]);
    card.w64(reg::WINDOW + 0xfff8, 0x1122_3344_5566_7788);
    assert_eq!(card.local_u64(0xff_fff8), 0x1122_3344_5566_7788);
    card.device.write(reg::WINDOW, &[9]);
    assert_eq!(card.local_read(0xff_0000, 2), [9, 0]);
    card.no_error();
}
