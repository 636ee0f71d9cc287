// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Translation, and translation faults that end the job.

use crate::card::*;
use crate::tables::*;

const VA: u64 = 0x1234_4000_0000;

#[test]
fn all_page_sizes_in_both_memories() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    for (i, (size, host)) in [0x1000u64, 0x1_0000, 0x20_0000]
        .into_iter()
        .flat_map(|s| [(s, false), (s, true)])
        .enumerate()
    {
        let va = VA + ((i as u64) << 30);
        let (base, bits) = if host { (BUS, ON_HOST) } else { (0, 0) };
        let address = 0x40_0000;
        match size {
            0x1000 => space.leaf(va, base + address, RW | bits),
            0x1_0000 => space.medium(va, base + address, RW | bits),
            _ => space.large(va, base + address, RW | bits),
        }
        let pattern = 0x0101_0101 * (i as u32 + 1);
        // A word at the start, one in the middle, one at the end.
        let places = [0, size / 2 + 8, size - 4];
        let commands = places
            .iter()
            .fold(Commands::new(), |c, at| c.fill(va + at, 4, pattern));
        space.ok(&commands);
        for at in places {
            let read = if host {
                card.host_read(address + at, 4)
            } else {
                card.local_read(address + at, 4)
            };
            assert_eq!(
                read,
                pattern.to_le_bytes(),
                "{size:#x} host {host} at {at:#x}"
            );
            assert_eq!(space.load(va + at), pattern);
        }
    }
}

#[test]
fn one_access_crosses_many_pages() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    // Pages in no order, of both memories.
    for page in 0..64u64 {
        let frame = (page * 37) % 64;
        let (address, bits) = if page % 3 == 0 {
            (BUS + FREE + frame * 0x1000, ON_HOST)
        } else {
            (frame * 0x1000, 0)
        };
        space.leaf(VA + page * 0x1000, address, RW | bits);
    }
    space.large(VA + 0x4000_0000, 0x20_0000, RW);
    let data: Vec<u8> = (0..63u32 << 12).map(|i| ((i * 7) >> 3) as u8).collect();
    card.local_write(0x20_0000, &data);
    let from = VA + 0x4000_0000;
    let scattered = VA + 0x7ff;
    let commands = Commands::new()
        .copy(scattered, from, data.len() as u64)
        .copy(from + 0x10_0000, scattered, data.len() as u64);
    space.ok(&commands);
    assert_eq!(card.local_read(0x30_0000, data.len()), data);
}

#[test]
fn sparse_reads_zero_and_drops_writes() {
    let card = Card::new();
    card.start();
    card.local_write(0, &[0xff; 0x1000]);
    let space = Space::new(&card).data();
    space.leaf(VA, 0, RW | SPARSE);
    space.large(VA + 0x20_0000, 0, RW | SPARSE);
    for va in [VA, VA + 0x20_0000] {
        space.ok(&Commands::new()
            .fill(va, 0x1000, 7)
            .fill(0x1000, 0x1000, 9)
            .copy(0x1000, va, 0x1000));
        assert_eq!(card.local_read(0x1000, 0x1000), [0; 0x1000]);
        assert_eq!(card.local_read(0, 0x1000), [0xff; 0x1000]);
        // Words are read and written at once, and are as sparse.
        space.ok(&Commands::new().write(va, 5).wait(va, 0));
    }
    assert_eq!(space.get(VA, 0), RW | SPARSE | ACCESSED | DIRTY);
    // Reading is always allowed, writing is not.
    space.leaf(VA + 0x1000, 0, RO | SPARSE);
    assert_eq!(space.load(VA + 0x1000), 0);
    let fill = Commands::new().fill(VA + 0x1000, 4, 0);
    assert_eq!(space.run(&fill).outcome(), (2, 2, VA + 0x1000));
}

#[test]
fn every_reason_ends_the_job() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    space.leaf(VA, 0x1000, RO);
    let run = |c: Commands| space.run(&c).outcome();
    // No entry on any level.
    for va in [
        0x8000_0000_0000,
        VA + (1 << 30),
        VA + (1 << 21),
        VA + 0x5000,
    ] {
        assert_eq!(run(Commands::new().copy(0, va, 4)), (2, 1, va));
        assert_eq!(run(Commands::new().fill(va, 4, 0)), (2, 1, va));
    }
    assert_eq!(
        run(Commands::new().fill(VA + 0x10, 4, 0)),
        (2, 2, VA + 0x10)
    );
    assert_eq!(run(Commands::new().copy(0, 1 << 48, 4)), (2, 4, 1 << 48));
    assert_eq!(run(Commands::new().fill(!3, 4, 0)), (2, 4, !3));
    // An access that leaves the address space.
    let end = (1u64 << 48) - 0x1000;
    space.leaf(end, 0x2000, RW);
    assert_eq!(run(Commands::new().fill(end, 0x2000, 1)), (2, 4, 1 << 48));
    assert_eq!(card.local_read(0x2000, 0x1000), [1, 0, 0, 0].repeat(0x400));
    // Commands need a page that can be executed, and one that exists.
    assert_eq!(
        card.run(1, &job(space.pgd, 0x1000, 8, 0)).outcome(),
        (2, 3, 0x1000)
    );
    assert_eq!(
        card.run(1, &job(space.pgd, 0x8000_0000_0000, 8, 0))
            .outcome(),
        (2, 1, 0x8000_0000_0000)
    );
    assert_eq!(
        card.run(1, &job(space.pgd, 1 << 48, 8, 0)).outcome(),
        (2, 4, 1 << 48)
    );
    assert_eq!(
        card.run(1, &job(space.pgd, !7, 16, 0)).outcome(),
        (2, 4, !7)
    );
    assert_eq!(card.r64(reg::FAULTS), card.r64(reg::JOBS_OTHER));
    assert_eq!(card.r32(reg::EVENT), 0, "nothing is in the fault ring");
    card.no_error();
}

#[test]
fn a_fault_tells_the_very_byte() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card);
    space.leaf(VA, 0x1000, RW);
    // What came before the page that is missing was written.
    let outcome = space
        .run(&Commands::new().fill(VA + 0xff0, 0x20, 0x55aa_55aa))
        .outcome();
    assert_eq!(outcome, (2, 1, VA + 0x1000));
    assert_eq!(card.local_read(0x1ff0, 16), [0xaa, 0x55].repeat(8));
}

#[test]
fn commands_can_cross_pages() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    // 511 NOPs, then a command of which the header is the end of its page.
    let commands = (0..511)
        .fold(Commands::new(), |c, _| c.nop())
        .write(0x1000, 77);
    space.ok(&commands);
    assert_eq!(card.local_u64(0x1000), 77);
    assert_eq!(card.r64(reg::COMMANDS), 512);
}
