// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! PCI config space.

use npu_device::pci::Pci;

fn u32_at(pci: &Pci, offset: u64) -> u32 {
    let mut data = [0; 4];
    pci.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn set(pci: &mut Pci, offset: u64, value: u32) {
    pci.write(offset, &value.to_le_bytes());
}

fn new() -> Pci {
    Pci::new(0x20000, 256 << 20, 6)
}

#[test]
fn identity() {
    let mut pci = new();
    assert_eq!(u32_at(&pci, 0x00), 0x4e50_1b36);
    assert_eq!(u32_at(&pci, 0x08), 0x1200_0001);
    assert_eq!(u32_at(&pci, 0x2c), 0x4e50_1b36);
    assert_eq!(u32_at(&pci, 0x3c), 0);
    set(&mut pci, 0, 0);
    set(&mut pci, 8, 0);
    assert_eq!(u32_at(&pci, 0x00), 0x4e50_1b36);
    assert_eq!(u32_at(&pci, 0x08), 0x1200_0001);
}

#[test]
fn sizing_of_bars() {
    let mut pci = new();
    for (bar, sized) in [
        (0x10, 0xfffe_0000u32),
        (0x14, 0),
        (0x18, 0xf000_000c),
        (0x1c, 0xffff_ffff),
        (0x20, 0xffff_f000),
        (0x24, 0),
        (0x30, 0),
    ] {
        set(&mut pci, bar, u32::MAX);
        assert_eq!(u32_at(&pci, bar), sized, "{bar:#x}");
    }
    set(&mut pci, 0x10, 0xfebc_1234);
    assert_eq!(u32_at(&pci, 0x10), 0xfebc_0000);
    let mut pci = Pci::new(0x20000, 0, 6);
    for bar in [0x18, 0x1c] {
        set(&mut pci, bar, u32::MAX);
        assert_eq!(u32_at(&pci, bar), 0, "no aperture, no BAR 2");
    }
    let mut pci = Pci::new(0x20000, 8 << 30, 6);
    set(&mut pci, 0x18, u32::MAX);
    set(&mut pci, 0x1c, u32::MAX);
    assert_eq!((u32_at(&pci, 0x18), u32_at(&pci, 0x1c)), (0xc, 0xffff_fffe));
}

#[test]
fn capabilities() {
    let mut pci = new();
    assert_eq!((u32_at(&pci, 0x04) >> 16) & 0x10, 0x10);
    let mut found = Vec::new();
    let mut at = u64::from(u32_at(&pci, 0x34) & 0xff);
    while at != 0 {
        let header = u32_at(&pci, at);
        found.push((header & 0xff, at));
        at = u64::from((header >> 8) & 0xff);
    }
    assert_eq!(found, [(0x10, 0x40), (0x11, 0x80)]);
    // An endpoint of version 2.
    assert_eq!(u32_at(&pci, 0x40) >> 16, 0x0002);
    // Six vectors, the table at 0 and pending bits at 0x800 of BAR 4.
    assert_eq!(u32_at(&pci, 0x80) >> 16, 5);
    assert_eq!((u32_at(&pci, 0x84), u32_at(&pci, 0x88)), (4, 0x804));
    set(&mut pci, 0x80, u32::MAX);
    assert_eq!(u32_at(&pci, 0x80), 0xc005_0011);
    // No extended capabilities, and nothing behind the end.
    assert_eq!(u32_at(&pci, 0x100), 0);
    assert_eq!(u32_at(&pci, 0xffe), 0);
    set(&mut pci, 0xffe, 1);
}

#[test]
fn bus_master_enable() {
    let mut pci = new();
    assert!(!pci.bus_master());
    pci.write(4, &[0xff, 0xff]);
    assert!(pci.bus_master());
    assert_eq!(u32_at(&pci, 4) & 0xffff, 0x0546);
    pci.reset();
    assert!(!pci.bus_master());
    assert_eq!(u32_at(&pci, 4) & 0xffff, 0);
}
