// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Every command against its bytes, written down from the manual.

use super::*;

/// What the builder made, as the 32-bit words that the manual's tables give.
fn check(build: impl FnOnce(&mut CommandBuffer), words: &[u32]) {
    let mut commands = CommandBuffer::new();
    build(&mut commands);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(commands.as_bytes(), bytes);
    // The size in the header is the command's own.
    assert_eq!((words[0] >> 16) as usize * 8, commands.len());
}

const A: u64 = 0x1111_2222_3333_4444;
const B: u64 = 0x5555_6666_7777_8888;
const C: u64 = 0x9999_aaaa_bbbb_cccc;
const D: u64 = 0xdddd_eeee_ffff_0000;
const A_LO: u32 = 0x3333_4444;
const A_HI: u32 = 0x1111_2222;
const B_LO: u32 = 0x7777_8888;
const B_HI: u32 = 0x5555_6666;
const C_LO: u32 = 0xbbbb_cccc;
const C_HI: u32 = 0x9999_aaaa;
const D_LO: u32 = 0xffff_0000;
const D_HI: u32 = 0xdddd_eeee;

#[test]
fn memory_commands() {
    check(|c| _ = c.nop(), &[0x0001_0000, 0]);
    check(
        |c| _ = c.fill(A, B, 0xabcd),
        &[0x0004_0001, 0, A_LO, A_HI, B_LO, B_HI, 0xabcd, 0],
    );
    check(
        |c| _ = c.copy(A, B, C),
        &[0x0004_0002, 0, A_LO, A_HI, B_LO, B_HI, C_LO, C_HI],
    );
    check(
        |c| _ = c.compare(A, B, C, D),
        &[
            0x0005_0003,
            0,
            A_LO,
            A_HI,
            B_LO,
            B_HI,
            C_LO,
            C_HI,
            D_LO,
            D_HI,
        ],
    );
    check(
        |c| _ = c.write(A, B),
        &[0x0003_0004, 0, A_LO, A_HI, B_LO, B_HI],
    );
    check(|c| _ = c.timestamp(A), &[0x0002_0005, 0, A_LO, A_HI]);
    check(
        |c| _ = c.wait(A, B),
        &[0x0003_0006, 0, A_LO, A_HI, B_LO, B_HI],
    );
}

#[test]
fn gemm() {
    let gemm = Gemm {
        c: A,
        a: B,
        b: C,
        m: 1,
        n: 2,
        k: 3,
        lda: 4,
        ldb: 5,
        ldc: 6,
        b_transposed: true,
        kind: GemmType::Bf16,
        alpha: 0.5,
        ..Gemm::default()
    };
    let mut words = [
        0x0009_0010,
        2,
        A_LO,
        A_HI,
        B_LO,
        B_HI,
        C_LO,
        C_HI,
        1,
        2,
        3,
        4,
        5,
        6,
        1,
        0x3f00_0000,
        0,
        0,
    ];
    check(|c| _ = c.gemm(&gemm), &words);
    let gemm = Gemm {
        a_transposed: true,
        b_transposed: false,
        kind: GemmType::F32,
        alpha: 1.0,
        beta: -2.0,
        ..gemm
    };
    (words[1], words[14], words[15], words[16]) = (1, 0, 0x3f80_0000, 0xc000_0000);
    check(|c| _ = c.gemm(&gemm), &words);
}

#[test]
fn row_commands() {
    check(
        |c| _ = c.bias(A, B, C, 3, 4),
        &[0x0005_0011, 0, A_LO, A_HI, B_LO, B_HI, C_LO, C_HI, 3, 4],
    );
    check(
        |c| _ = c.gelu(A, B, C),
        &[0x0004_0012, 0, A_LO, A_HI, B_LO, B_HI, C_LO, C_HI],
    );
    check(
        |c| _ = c.gelu_tanh(A, B, C),
        &[0x0004_0012, 1, A_LO, A_HI, B_LO, B_HI, C_LO, C_HI],
    );
    check(
        |c| _ = c.softmax(A, B, 3, 4),
        &[0x0004_0013, 0, A_LO, A_HI, B_LO, B_HI, 3, 4],
    );
    check(
        |c| _ = c.add(A, B, C, D),
        &[
            0x0005_0017,
            0,
            A_LO,
            A_HI,
            B_LO,
            B_HI,
            C_LO,
            C_HI,
            D_LO,
            D_HI,
        ],
    );
    check(
        |c| _ = c.normalize(A, B, 3, 4),
        &[0x0004_0019, 0, A_LO, A_HI, B_LO, B_HI, 3, 4],
    );
    let norm = LayerNorm {
        y: A,
        x: B,
        gamma: C,
        beta: D,
        rows: 3,
        cols: 4,
        eps: 1.0,
    };
    check(
        |c| _ = c.layer_norm(&norm),
        &[
            0x0007_0014,
            0,
            A_LO,
            A_HI,
            B_LO,
            B_HI,
            C_LO,
            C_HI,
            D_LO,
            D_HI,
            3,
            4,
            0x3f80_0000,
            0,
        ],
    );
}

#[test]
fn token_commands() {
    let gather = Gather {
        y: A,
        table: B,
        index: C,
        count: 3,
        cols: 4,
        table_rows: 5,
    };
    check(
        |c| _ = c.gather(&gather),
        &[
            0x0006_0015,
            0,
            A_LO,
            A_HI,
            B_LO,
            B_HI,
            C_LO,
            C_HI,
            3,
            4,
            5,
            0,
        ],
    );
    let pool = MeanPool {
        y: A,
        x: B,
        mask: C,
        batch: 3,
        seq: 4,
        cols: 5,
    };
    check(
        |c| _ = c.mean_pool(&pool),
        &[
            0x0006_0018,
            0,
            A_LO,
            A_HI,
            B_LO,
            B_HI,
            C_LO,
            C_HI,
            3,
            4,
            5,
            0,
        ],
    );
    let attention = Attention {
        out: A,
        q: B,
        k: C,
        v: D,
        mask: A,
        batch: 1,
        seq: 2,
        heads: 3,
        head_dim: 4,
        ld: 5,
        scale: 2.0,
    };
    check(
        |c| _ = c.attention(&attention),
        &[
            0x0009_0016,
            0,
            A_LO,
            A_HI,
            B_LO,
            B_HI,
            C_LO,
            C_HI,
            D_LO,
            D_HI,
            A_LO,
            A_HI,
            1,
            2,
            3,
            4,
            5,
            0x4000_0000,
        ],
    );
}

#[test]
fn commands_lie_back_to_back() {
    let mut commands = CommandBuffer::new();
    commands.nop().write(8, 9).raw(&[0xff; 8]);
    assert_eq!(commands.len(), 8 + 24 + 8);
    assert_eq!(commands.as_bytes()[8..12], [4, 0, 3, 0]);
    commands.clear();
    assert!(commands.is_empty());
}

#[test]
fn opcodes_have_numbers() {
    for number in 0..=u16::MAX {
        if let Some(opcode) = Opcode::from_number(number) {
            assert_eq!(opcode as u16, number);
        }
    }
    assert_eq!(Opcode::from_number(0x07), None);
    assert_eq!(Opcode::from_number(0x1a), None);
}
