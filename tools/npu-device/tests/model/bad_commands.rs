// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Jobs that end with `BAD_COMMAND`.

use crate::card::*;
use crate::tables::*;

const OPCODE: u32 = 1;
const SIZE: u32 = 2;
const RESERVED: u32 = 3;
const MISALIGNED: u32 = 4;
const RANGE: u32 = 5;

/// Opcodes, their units and flags.
const KINDS: [(u16, u16, u32); 17] = [
    (0x00, 1, 0),
    (0x01, 4, 0),
    (0x02, 4, 0),
    (0x03, 5, 0),
    (0x04, 3, 0),
    (0x05, 2, 0),
    (0x06, 3, 0),
    (0x10, 9, 3),
    (0x11, 5, 0),
    (0x12, 4, 1),
    (0x13, 4, 0),
    (0x14, 7, 0),
    (0x15, 6, 0),
    (0x16, 9, 0),
    (0x17, 5, 0),
    (0x18, 6, 0),
    (0x19, 4, 0),
];

/// Runs a command behind one that is good, and returns the error of the job.
fn error(space: &Space<'_>, opcode: u16, flags: u32, fields: &[Field]) -> u32 {
    let completion = space.run(&Commands::new().nop().raw(opcode, flags, fields));
    assert_eq!(
        (completion.status, completion.detail),
        (3, 8),
        "{opcode:#x} {fields:?}"
    );
    completion.error
}

#[test]
fn opcodes_sizes_and_flags() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for opcode in (0..=0x30).chain([0x100, 0xffff]) {
        let Some((_, units, flags)) = KINDS.into_iter().find(|kind| kind.0 == opcode) else {
            assert_eq!(error(&space, opcode, 0, &[D(0)]), OPCODE, "{opcode:#x}");
            continue;
        };
        let body = |units: u16| vec![D(0); units as usize - 1];
        assert_eq!(
            error(&space, opcode, 0, &body(units + 1)),
            SIZE,
            "{opcode:#x}"
        );
        if units > 1 {
            assert_eq!(
                error(&space, opcode, 0, &body(units - 1)),
                SIZE,
                "{opcode:#x}"
            );
        }
        for bit in (0..32).filter(|bit| flags & (1 << bit) == 0) {
            assert_eq!(
                error(&space, opcode, 1 << bit, &body(units)),
                RESERVED,
                "{opcode:#x}"
            );
        }
        // A command that the job's size cuts off.
        let mut cut = Commands::new().nop().raw(opcode, 0, &body(units));
        cut.0.truncate(cut.0.len() - 8);
        if units > 1 {
            assert_eq!(space.run(&cut).outcome(), (3, SIZE, 8), "{opcode:#x}");
        }
    }
    // A size of 0 is no endless loop.
    let nothing = Commands([0; 8].to_vec());
    assert_eq!(space.run(&nothing).outcome(), (3, SIZE, 0));
    assert_eq!(card.r64(reg::JOBS_OTHER), card.r64(reg::COMMANDS) + 1);
    card.no_error();
}

#[test]
fn memory_commands() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let far = (4 << 30) + 4;
    for (opcode, fields, expected) in [
        (0x01, vec![D(0), D(4), W(0), W(1)], RESERVED),
        (0x01, vec![D(2), D(4), W(0), W(0)], MISALIGNED),
        (0x01, vec![D(0), D(6), W(0), W(0)], MISALIGNED),
        (0x01, vec![D(0), D(far), W(0), W(0)], RANGE),
        (0x02, vec![D(0), D(0), D(far)], RANGE),
        (0x03, vec![D(4), D(0), D(0), D(1)], MISALIGNED),
        (0x03, vec![D(0), D(0), D(0), D(far)], RANGE),
        (0x04, vec![D(4), D(0)], MISALIGNED),
        (0x05, vec![D(4)], MISALIGNED),
        (0x06, vec![D(4), D(0)], MISALIGNED),
    ] {
        assert_eq!(
            error(&space, opcode, 0, &fields),
            expected,
            "{opcode:#x} {fields:?}"
        );
    }
}

/// Fields of every arithmetic command that would be good.
fn good() -> Vec<(u16, Vec<Field>)> {
    let one = F(1.0);
    vec![
        (
            0x10,
            vec![
                D(0),
                D(0),
                D(0),
                W(2),
                W(2),
                W(2),
                W(0),
                W(0),
                W(0),
                W(0),
                one,
                one,
                W(0),
            ],
        ),
        (0x11, vec![D(0), D(0), D(0), W(2), W(2)]),
        (0x12, vec![D(0), D(0), D(2)]),
        (0x13, vec![D(0), D(0), W(2), W(2)]),
        (0x14, vec![D(0), D(0), D(0), D(0), W(2), W(2), one, W(0)]),
        (0x15, vec![D(0), D(0), D(0x1000), W(2), W(2), W(2), W(0)]),
        (
            0x16,
            vec![
                D(0),
                D(0),
                D(0),
                D(0),
                D(0),
                W(2),
                W(2),
                W(2),
                W(2),
                W(0),
                one,
            ],
        ),
        (0x17, vec![D(0), D(0), D(0), D(2)]),
        (0x18, vec![D(0), D(0), D(0), W(2), W(2), W(2), W(0)]),
        (0x19, vec![D(0), D(0), W(2), W(2)]),
    ]
}

#[test]
fn every_field_of_arithmetic() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for (opcode, fields) in good() {
        space.ok(&Commands::new().raw(opcode, 0, &fields));
        let with = |i: usize, field: Field| {
            let mut fields = fields.clone();
            fields[i] = field;
            error(&space, opcode, 0, &fields)
        };
        // What the fields behind the dimensions are.
        let ld = match opcode {
            0x10 => 6..9,
            0x16 => 9..10,
            _ => 0..0,
        };
        let reserved = [0x10, 0x14, 0x15, 0x18]
            .contains(&opcode)
            .then_some(fields.len() - 1);
        for (i, field) in fields.iter().enumerate() {
            let context = format!("{opcode:#x} field {i}");
            match field {
                F(_) => {}
                W(_) if Some(i) == reserved => assert_eq!(with(i, W(1)), RESERVED, "{context}"),
                // Shorter than a row.
                W(_) if ld.contains(&i) => assert_eq!(with(i, W(1)), RANGE, "{context}"),
                // The type.
                W(_) if opcode == 0x10 && i == 9 => assert_eq!(with(i, W(2)), RANGE, "{context}"),
                W(_) => {
                    assert_eq!(with(i, W(0)), RANGE, "{context}");
                    assert_eq!(with(i, W((1 << 24) + 1)), RANGE, "{context}");
                }
                // A count.
                D(2) => {
                    assert_eq!(with(i, D(0)), RANGE, "{context}");
                    assert_eq!(with(i, D((1 << 30) + 1)), RANGE, "{context}");
                    assert_eq!(with(i, D(!0)), RANGE, "{context}");
                }
                D(va) => assert_eq!(with(i, D(va + 2)), MISALIGNED, "{context}"),
            }
        }
    }
    card.no_error();
}

#[test]
fn operands_of_more_than_4_gib() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let big = 1 << 16;
    for (opcode, fields) in [
        (0x11, vec![D(0), D(0), D(0), W(big), W(big)]),
        (0x13, vec![D(0), D(0), W(1 << 24), W(1 << 24)]),
        (0x15, vec![D(0), D(0), D(0), W(1), W(big), W(big), W(0)]),
        (
            0x16,
            vec![
                D(0),
                D(0),
                D(0),
                D(0),
                D(0),
                W(1 << 24),
                W(1 << 24),
                W(1 << 24),
                W(1 << 24),
                W(0),
                F(1.0),
            ],
        ),
        (
            0x18,
            vec![D(0), D(0), D(0), W(1 << 24), W(1 << 24), W(1 << 24), W(0)],
        ),
        // A distance between rows that makes it long.
        (
            0x10,
            vec![
                D(0),
                D(0),
                D(0),
                W(2),
                W(2),
                W(2),
                W(1 << 31),
                W(0),
                W(0),
                W(0),
                F(1.0),
                F(0.0),
                W(0),
            ],
        ),
    ] {
        assert_eq!(
            error(&space, opcode, 0, &fields),
            RANGE,
            "{opcode:#x} {fields:?}"
        );
    }
    // bf16 is aligned to 2.
    let bf16 = [
        D(0x1000),
        D(2),
        D(6),
        W(1),
        W(1),
        W(1),
        W(0),
        W(0),
        W(0),
        W(1),
        F(1.0),
        F(0.0),
        W(0),
    ];
    space.ok(&Commands::new().raw(0x10, 0, &bf16));
}

#[test]
fn gather_checks_every_index() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let gather = [D(0x1000), D(0x2000), D(0x3000), W(3), W(1), W(8), W(0)];
    card.local_write(0x3000, &[7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(error(&space, 0x15, 0, &gather), RANGE);
    card.local_write(0x3004, &[6]);
    space.ok(&Commands::new().raw(0x15, 0, &gather));
}

#[test]
fn what_came_before_was_done() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let commands = Commands::new()
        .write(0x1000, 1)
        .raw(0xff, 0, &[])
        .write(0x1000, 2);
    assert_eq!(space.run(&commands).outcome(), (3, OPCODE, 24));
    assert_eq!(card.local_u64(0x1000), 1);
    assert_eq!(card.r64(reg::COMMANDS), 1);
}
