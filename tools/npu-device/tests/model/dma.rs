// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Host memory: mapping, unmapping, and who waits for whom.

use std::sync::atomic::{AtomicBool, Ordering};

use npu_device::dma::BadBusAddress;

use crate::card::*;

#[test]
fn accesses_cross_mappings_and_meet_holes() {
    let card = Card::new();
    let dma = &card.device.space.dma;
    let more = || card.host_file.try_clone().unwrap();
    // The same file again, behind the first mapping.
    dma.map(more(), 0x1000, BUS + HOST, 0x1000, true).unwrap();
    dma.write(BUS + HOST - 4, b"abcdefgh").unwrap();
    assert_eq!(card.host_read(HOST - 4, 4), b"abcd");
    assert_eq!(card.host_read(0x1000, 4), b"efgh");
    let mut back = [0; 8];
    dma.read(BUS + HOST - 4, &mut back).unwrap();
    assert_eq!(&back, b"abcdefgh");
    let end = BUS + HOST + 0x1000;
    assert_eq!(dma.read(end - 4, &mut back), Err(BadBusAddress(end)));
    // Mappings do not overlap, are not empty, and do not wrap.
    assert!(dma.map(more(), 0, BUS + 0x1000, 0x1000, true).is_err());
    assert!(dma.map(more(), 0, 0, 0, true).is_err());
    assert!(dma.map(more(), 0, !0xfff, 0x2000, true).is_err());
    dma.unmap(BUS + HOST, 0x1000);
    assert_eq!(
        dma.read(BUS + HOST, &mut back),
        Err(BadBusAddress(BUS + HOST))
    );
    dma.unmap_all();
    assert_eq!(dma.read(BUS, &mut back), Err(BadBusAddress(BUS)));
}

#[test]
fn read_only_memory_cannot_be_written() {
    let card = Card::new();
    let dma = &card.device.space.dma;
    dma.map(
        card.host_file.try_clone().unwrap(),
        0,
        0x1000,
        0x1000,
        false,
    )
    .unwrap();
    let mut byte = [0];
    assert!(dma.read(0x1000, &mut byte).is_ok());
    assert_eq!(dma.write(0x1000, &byte), Err(BadBusAddress(0x1000)));
}

#[test]
fn unmapping_waits_for_accesses() {
    let card = Card::new();
    let dma = &card.device.space.dma;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let view = dma.view();
        scope.spawn(|| {
            dma.unmap_all();
            assert!(ended.load(Ordering::Acquire));
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        ended.store(true, Ordering::Release);
        drop(view);
    });
}
