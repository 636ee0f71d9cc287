// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the device is told to do: commands, of which it is known what they touch.

use std::ops::Range;

use npu::CommandBuffer;
use npu::command::{Gemm, LayerNorm};

use super::BLOCK;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Writes a number again and again.
    Fill {
        /// Where to.
        at: u64,
        /// How many.
        count: u64,
        /// The number.
        value: f32,
    },
    /// Copies numbers.
    Copy {
        /// Where to.
        to: u64,
        /// Where from.
        from: u64,
        /// How many.
        count: u64,
    },
    /// Multiplies matrices.
    Gemm(Gemm),
    /// Adds numbers to others.
    Add {
        /// The others.
        to: u64,
        /// The numbers.
        other: u64,
        /// How many.
        count: u64,
    },
    /// Gaussian error linear unit, in place.
    Gelu {
        /// Where.
        at: u64,
        /// How many.
        count: u64,
    },
    /// Softmax of each row, in place.
    Softmax {
        /// Where.
        at: u64,
        /// Rows.
        rows: u32,
        /// Columns.
        cols: u32,
    },
    /// Norm of each row.
    LayerNorm(LayerNorm),
}

/// Memory that a command touches: rows at a distance, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Where it begins.
    pub at: u64,
    /// How many rows.
    pub rows: u64,
    /// Bytes of a row.
    pub row: u64,
    /// Bytes from the beginning of a row to that of the next.
    pub distance: u64,
    /// Is it read?
    pub read: bool,
    /// Is it written?
    pub written: bool,
}

/// How an operand is touched: read, written.
const READ: (bool, bool) = (true, false);
const WRITTEN: (bool, bool) = (false, true);
const BOTH: (bool, bool) = (true, true);

impl Operand {
    /// A matrix with `ld` numbers from row to row, 0 if the rows lie back to back.
    fn matrix(at: u64, rows: u32, cols: u32, ld: u32, (read, written): (bool, bool)) -> Self {
        let distance = if ld == 0 { cols } else { ld };
        let (rows, row, distance) = if distance == cols {
            let size = u64::from(rows) * u64::from(cols) * 4;
            (1, size, size)
        } else {
            (rows.into(), u64::from(cols) * 4, u64::from(distance) * 4)
        };
        Self {
            at,
            rows,
            row,
            distance,
            read,
            written,
        }
    }

    /// Numbers without gaps.
    fn dense(at: u64, count: u64, (read, written): (bool, bool)) -> Self {
        Self {
            at,
            rows: 1,
            row: count * 4,
            distance: count * 4,
            read,
            written,
        }
    }

    /// Its rows.
    pub fn rows(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let Self {
            at, row, distance, ..
        } = *self;
        (0..self.rows).map(move |i| at + i * distance..at + i * distance + row)
    }

    /// The blocks of `data` that it touches.
    pub fn blocks(&self, data: &Range<u64>) -> u64 {
        let mut count = 0;
        // End of what was counted.
        let mut counted = 0;
        for row in self.rows() {
            if row.start < data.start || row.end > data.end {
                continue;
            }
            let first = ((row.start - data.start) / BLOCK).max(counted);
            let end = (row.end - data.start).div_ceil(BLOCK);
            count += end.saturating_sub(first);
            counted = counted.max(end);
        }
        count
    }
}

impl Op {
    /// What it touches.
    pub fn operands(&self) -> Vec<Operand> {
        match *self {
            Self::Fill { at, count, .. } => vec![Operand::dense(at, count, WRITTEN)],
            Self::Copy { to, from, count } => vec![
                Operand::dense(from, count, READ),
                Operand::dense(to, count, WRITTEN),
            ],
            Self::Gemm(gemm) => {
                let stored = |transposed, rows, cols| {
                    if transposed {
                        (cols, rows)
                    } else {
                        (rows, cols)
                    }
                };
                let (a_rows, a_cols) = stored(gemm.a_transposed, gemm.m, gemm.k);
                let (b_rows, b_cols) = stored(gemm.b_transposed, gemm.k, gemm.n);
                let c = if gemm.beta == 0.0 { WRITTEN } else { BOTH };
                vec![
                    Operand::matrix(gemm.a, a_rows, a_cols, gemm.lda, READ),
                    Operand::matrix(gemm.b, b_rows, b_cols, gemm.ldb, READ),
                    Operand::matrix(gemm.c, gemm.m, gemm.n, gemm.ldc, c),
                ]
            }
            Self::Add { to, other, count } => vec![
                Operand::dense(other, count, READ),
                Operand::dense(to, count, BOTH),
            ],
            Self::Gelu { at, count } => vec![Operand::dense(at, count, BOTH)],
            Self::Softmax { at, rows, cols } => vec![Operand::matrix(at, rows, cols, 0, BOTH)],
            Self::LayerNorm(norm) => vec![
                Operand::matrix(norm.gamma, 1, norm.cols, 0, READ),
                Operand::matrix(norm.beta, 1, norm.cols, 0, READ),
                Operand::matrix(norm.x, norm.rows, norm.cols, 0, READ),
                Operand::matrix(norm.y, norm.rows, norm.cols, 0, WRITTEN),
            ],
        }
    }

    /// How much work it is, in multiplications.
    pub fn work(&self) -> u64 {
        // Moving a number takes as long as some of them.
        let moved: u64 = self.operands().iter().map(|o| o.rows * o.row / 4).sum();
        match self {
            Self::Gemm(gemm) => moved + u64::from(gemm.m) * u64::from(gemm.n) * u64::from(gemm.k),
            _ => moved * 4,
        }
    }

    /// Adds it to a job.
    pub fn encode(&self, commands: &mut CommandBuffer) {
        match *self {
            Self::Fill { at, count, value } => commands.fill(at, count * 4, value.to_bits()),
            Self::Copy { to, from, count } => commands.copy(to, from, count * 4),
            Self::Gemm(gemm) => commands.gemm(&gemm),
            Self::Add { to, other, count } => commands.add(to, to, other, count),
            Self::Gelu { at, count } => commands.gelu(at, at, count),
            Self::Softmax { at, rows, cols } => commands.softmax(at, at, rows, cols),
            Self::LayerNorm(norm) => commands.layer_norm(&norm),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_once() {
        let data = 0x10_0000..0x10_0000 + 10 * BLOCK;
        let blocks = |at, rows, cols, ld| {
            Operand::matrix(data.start + at, rows, cols, ld, READ).blocks(&data)
        };
        assert_eq!(blocks(0, 128, 128, 0), 1);
        assert_eq!(blocks(4, 128, 128, 0), 2);
        assert_eq!(blocks(0, 128, 64, 128), 1);
        assert_eq!(blocks(0, 129, 64, 128), 2);
        // Each row in another block, but for two.
        assert_eq!(blocks(BLOCK - 8, 3, 4, 1 << 15), 6);
        assert_eq!(blocks(0, 1, 1 << 20, 0), 0);
        assert_eq!(Operand::dense(8, 16, READ).blocks(&data), 0);
    }

    #[test]
    fn operands_are_as_stored() {
        let gemm = Gemm {
            c: 0x1000,
            a: 0x2000,
            b: 0x3000,
            m: 2,
            n: 3,
            k: 5,
            ldc: 10,
            b_transposed: true,
            ..Default::default()
        };
        let operands = Op::Gemm(gemm).operands();
        assert_eq!(operands[0], Operand::dense(0x2000, 10, READ));
        assert_eq!(operands[1], Operand::dense(0x3000, 15, READ));
        let rows: Vec<Range<u64>> = operands[2].rows().collect();
        assert_eq!(rows, [0x1000..0x100c, 0x1028..0x1034]);
        assert!(!operands[2].read && operands[2].written);
        assert_eq!(Op::Gemm(gemm).work(), 30 + 10 + 15 + 6);
    }
}
