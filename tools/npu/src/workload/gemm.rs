// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! C = A * B by tiles of a block each, the sums of a tile of C one after the other.

use std::ops::Range;

use npu::command::Gemm;

use super::contents::Contents;
use super::memory::Memory;
use super::op::Op;
use super::random::number_at;
use super::{BLOCK, Error, NUMBERS, Result, Work};

/// Rows and columns of a tile.
const SIDE: usize = 128;

/// What the numbers of A and B are below, so that all sums are whole numbers that f32 has.
const END: usize = 16;

/// Three square matrices, tile by tile in rows of tiles: A, B, C.
#[derive(Debug)]
pub struct Product {
    memory: Memory,
    beside: Memory,
    /// Tiles in a row.
    tiles: usize,
    rounds: usize,
    seed: u64,
    /// Of A and B, which lie behind each other.
    contents: Contents,
}

/// The tiles (i, j, k) in the order in which C(i, j) += A(i, k) * B(k, j) is computed.
fn order(tiles: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..tiles).flat_map(move |i| (0..tiles).flat_map(move |j| (0..tiles).map(move |k| (i, j, k))))
}

impl Product {
    /// Takes the memory for the largest matrices that so many blocks have room for.
    pub fn new(blocks: usize, rounds: usize, seed: u64) -> Result<Self> {
        let tiles = (blocks / 3).isqrt();
        if tiles == 0 {
            return Err(Error::TooSmall(3 * BLOCK));
        }
        Ok(Self {
            memory: Memory::new((3 * tiles * tiles) as u64 * BLOCK)?,
            beside: Memory::new(1)?,
            tiles,
            rounds,
            seed,
            contents: Contents::whole(seed, END),
        })
    }

    /// The number of a tile of a matrix, counted from A's first.
    fn tile(&self, matrix: usize, row: usize, column: usize) -> usize {
        (matrix * self.tiles + row) * self.tiles + column
    }

    fn address(&self, tile: usize) -> u64 {
        self.memory.start() + tile as u64 * BLOCK
    }

    /// A matrix times a vector; `tile` gives the numbers of a tile of the matrix.
    fn apply(
        &self,
        vector: &[i64],
        mut tile: impl FnMut(usize, usize) -> Result<Vec<f32>>,
    ) -> Result<Vec<i64>> {
        let mut result = vec![0; vector.len()];
        for row in 0..self.tiles {
            for column in 0..self.tiles {
                let numbers = tile(row, column)?;
                let part = &vector[column * SIDE..][..SIDE];
                let sums = &mut result[row * SIDE..][..SIDE];
                for (sum, numbers) in sums.iter_mut().zip(numbers.chunks_exact(SIDE)) {
                    let products = numbers.iter().zip(part).map(|(n, x)| *n as i64 * x);
                    *sum += products.sum::<i64>();
                }
            }
        }
        Ok(result)
    }

    /// What A or B has in a tile.
    fn first(&self, matrix: usize, row: usize, column: usize) -> Result<Vec<f32>> {
        let place = self.tile(matrix, row, column) * NUMBERS;
        Ok(self.contents.values(place, NUMBERS))
    }
}

impl Work for Product {
    fn data(&self) -> Range<u64> {
        self.memory.range()
    }

    fn beside(&self) -> Range<u64> {
        self.beside.range()
    }

    fn prepare(&self) -> Result {
        let count = 2 * self.tiles * self.tiles * NUMBERS;
        self.memory
            .fill(self.memory.start(), &self.contents, 0, count)
    }

    fn ops(&self) -> Box<dyn Iterator<Item = Op> + '_> {
        let all = (0..self.rounds).flat_map(|_| order(self.tiles));
        Box::new(all.map(|(i, j, k)| {
            Op::Gemm(Gemm {
                a: self.address(self.tile(0, i, k)),
                b: self.address(self.tile(1, k, j)),
                c: self.address(self.tile(2, i, j)),
                m: SIDE as u32,
                n: SIDE as u32,
                k: SIDE as u32,
                beta: if k == 0 { 0.0 } else { 1.0 },
                ..Default::default()
            })
        }))
    }

    /// Any vector times C is the same vector times B and then A, and nearly always not if a number of C
    /// is wrong.
    fn check(&self) -> Result<String> {
        let side = self.tiles * SIDE;
        let vector: Vec<i64> = (0..side as u64)
            .map(|i| (number_at(!self.seed, i) % 256) as i64)
            .collect();
        let product = self.apply(&vector, |i, j| self.first(1, i, j))?;
        let expected = self.apply(&product, |i, j| self.first(0, i, j))?;
        let found = self.apply(&vector, |i, j| {
            self.memory.read(self.address(self.tile(2, i, j)), NUMBERS)
        })?;
        match (0..side).find(|row| found[*row] != expected[*row]) {
            Some(row) => Err(Error::Wrong(format!(
                "row {row} of C times a vector is {} instead of {}",
                found[row], expected[row]
            ))),
            None => Ok(format!(
                "all {side} rows of C times a vector are the same as by A and B"
            )),
        }
    }

    #[cfg(test)]
    fn memories(&self) -> [&Memory; 2] {
        [&self.memory, &self.beside]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_come_one_after_the_other() {
        let all: Vec<_> = order(3).collect();
        assert_eq!(all.len(), 27);
        assert_eq!(all[..4], [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)]);
        assert_eq!(all[26], (2, 2, 2));
    }

    #[test]
    fn tiles_are_blocks_of_three_matrices() {
        let work = Product::new(13, 1, 1).unwrap();
        assert_eq!(work.tiles, 2);
        let start = work.memory.start();
        let ops: Vec<Op> = work.ops().collect();
        let Op::Gemm(last) = ops[7] else { panic!() };
        let blocks = [last.a, last.b, last.c].map(|at| (at - start) / BLOCK);
        assert_eq!(blocks, [3, 7, 11]);
        assert_eq!(last.beta, 1.0);
        assert!(matches!(ops[6], Op::Gemm(gemm) if gemm.beta == 0.0));
        assert!(
            ops.iter()
                .all(|op| op.operands().iter().all(|o| o.blocks(&work.data()) == 1))
        );
        assert!(Product::new(2, 1, 1).is_err());
    }

    #[test]
    fn only_a_and_b_are_prepared() {
        let work = Product::new(3, 1, 1).unwrap();
        work.prepare().unwrap();
        let zeros = |tile| {
            let numbers = work.memory.read(work.address(tile), NUMBERS).unwrap();
            numbers.iter().all(|number| *number == 0.0)
        };
        assert_eq!([0, 1, 2].map(zeros), [false, false, true]);
        // An exact sum of a whole row of the largest matrices there can be.
        assert!((END - 1).pow(2) * SIDE * 500 < 1 << 24);
    }
}
