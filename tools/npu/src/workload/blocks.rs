// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A pattern of accesses to blocks.
//!
//! A block is read by a product of a row with it, of which every number of the block is a part, and
//! written by a fill. All numbers are whole and their sums below 2^24, so that they come out the same in
//! whatever order they are added.

use std::ops::Range;

use npu::command::Gemm;

use super::contents::Contents;
use super::memory::Memory;
use super::op::Op;
use super::pattern::Access;
use super::{BLOCK, Error, NUMBERS, Result, Work};

/// Rows and columns of a block.
const ROWS: usize = NUMBERS / COLS;
const COLS: usize = 4;

/// How many different factors there are: no divisor of the rows in a page, so that pages
/// can be told from each other.
const FACTORS: usize = 63;

/// The factor of a row.
fn factor(row: usize) -> usize {
    row % FACTORS + 1
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Whatever the process has there, which is nothing if the device does not read it.
    First,
    /// One number again and again.
    Filled(u8),
}

/// An access, and what it meets or leaves.
type Step = (Access, State);

/// A pattern on memory of its own.
#[derive(Debug)]
pub struct Blocks {
    memory: Memory,
    /// The factors, and a row of results for each access.
    beside: Memory,
    blocks: usize,
    accesses: Vec<Access>,
    contents: Contents,
}

impl Blocks {
    /// Takes the memory.
    pub fn new(blocks: usize, accesses: Vec<Access>, seed: u64) -> Result<Self> {
        Ok(Self {
            memory: Memory::new(blocks as u64 * BLOCK)?,
            beside: Memory::new(((ROWS + accesses.len() * COLS) * 4) as u64)?,
            blocks,
            accesses,
            contents: Contents::whole(seed, 64),
        })
    }

    fn address(&self, block: usize) -> u64 {
        self.memory.start() + block as u64 * BLOCK
    }

    /// Where an access leaves its result, if it is one that reads.
    fn result(&self, access: usize) -> u64 {
        self.beside.start() + ((ROWS + access * COLS) * 4) as u64
    }

    /// The accesses, each with what the block holds then.
    fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let mut states = vec![State::First; self.blocks];
        self.accesses.iter().map(move |access| {
            let state = &mut states[access.block];
            if access.write {
                *state = State::Filled(match *state {
                    State::First => (1 + access.block % 63) as u8,
                    State::Filled(number) => number % 63 + 1,
                });
            }
            (*access, *state)
        })
    }

    /// What a block holds in the end; nothing for those that were not accessed.
    fn last(&self) -> Vec<Option<State>> {
        let mut last = vec![None; self.blocks];
        for (access, state) in self.steps() {
            last[access.block] = Some(state);
        }
        last
    }

    /// What reading a block in some state must give.
    fn sums(&self, block: usize, state: State) -> [u32; COLS] {
        match state {
            State::First => {
                let mut sums = [0; COLS];
                let numbers = self.contents.from(block * NUMBERS).take(NUMBERS);
                for (i, number) in numbers.enumerate() {
                    sums[i % COLS] += number as u32 * factor(i / COLS) as u32;
                }
                sums
            }
            State::Filled(number) => {
                let factors: usize = (0..ROWS).map(factor).sum();
                [u32::from(number) * factors as u32; COLS]
            }
        }
    }

    fn check_reads(&self) -> Result<usize> {
        let mut first_sums = vec![None; self.blocks];
        let mut reads = 0;
        for (i, (access, state)) in self.steps().enumerate() {
            if access.write {
                continue;
            }
            let expected = match state {
                State::First => {
                    *first_sums[access.block].get_or_insert_with(|| self.sums(access.block, state))
                }
                filled @ State::Filled(_) => self.sums(access.block, filled),
            };
            let found = self.beside.read(self.result(i), COLS)?;
            if found != expected.map(|sum| sum as f32) {
                return Err(Error::Wrong(format!(
                    "access {i} reads block {} ({state:?}): {found:?} instead of {expected:?}",
                    access.block
                )));
            }
            reads += 1;
        }
        Ok(reads)
    }

    fn check_writes(&self) -> Result<usize> {
        let mut written = 0;
        for (block, state) in self.last().into_iter().enumerate() {
            let Some(State::Filled(number)) = state else {
                continue;
            };
            let found = self.memory.read(self.address(block), NUMBERS)?;
            if let Some(at) = found.iter().position(|found| *found != f32::from(number)) {
                return Err(Error::Wrong(format!(
                    "block {block} has {} at offset {} instead of {number}",
                    found[at],
                    at * 4
                )));
            }
            written += 1;
        }
        Ok(written)
    }
}

impl Work for Blocks {
    fn data(&self) -> Range<u64> {
        self.memory.range()
    }

    fn beside(&self) -> Range<u64> {
        self.beside.range()
    }

    fn prepare(&self) -> Result {
        let factors: Vec<f32> = (0..ROWS).map(|row| factor(row) as f32).collect();
        self.beside.write(self.beside.start(), &factors)?;
        let mut seen = vec![false; self.blocks];
        for access in &self.accesses {
            let block = access.block;
            if !std::mem::replace(&mut seen[block], true) && !access.write {
                let first = block * NUMBERS;
                self.memory
                    .fill(self.address(block), &self.contents, first, NUMBERS)?;
            }
        }
        Ok(())
    }

    fn ops(&self) -> Box<dyn Iterator<Item = Op> + '_> {
        Box::new(self.steps().enumerate().map(|(i, (access, state))| {
            let at = self.address(access.block);
            match state {
                State::Filled(number) if access.write => Op::Fill {
                    at,
                    count: NUMBERS as u64,
                    value: number.into(),
                },
                _ => Op::Gemm(Gemm {
                    c: self.result(i),
                    a: self.beside.start(),
                    b: at,
                    m: 1,
                    n: COLS as u32,
                    k: ROWS as u32,
                    ..Default::default()
                }),
            }
        }))
    }

    fn check(&self) -> Result<String> {
        let (reads, written) = (self.check_reads()?, self.check_writes()?);
        Ok(format!(
            "{reads} reads gave the right sums, {written} blocks have what was written last"
        ))
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
    fn sums_are_exact() {
        let factors: usize = (0..ROWS).map(factor).sum();
        assert!(factors * 63 < 1 << 24);
        let rows_of_a_page = 4096 / 4 / COLS;
        assert!((1..16).all(|page| factor(page * rows_of_a_page) != factor(0)));
    }

    #[test]
    fn only_what_is_read_first_is_prepared() {
        let access = |block, write| Access { block, write };
        let accesses = vec![
            access(0, false),
            access(1, true),
            access(1, false),
            access(1, true),
            access(0, true),
        ];
        let work = Blocks::new(3, accesses, 1).unwrap();
        work.prepare().unwrap();
        let untouched = |block| {
            let numbers = work.memory.read(work.address(block), NUMBERS).unwrap();
            numbers.iter().all(|number| *number == 0.0)
        };
        assert!(!untouched(0) && untouched(1) && untouched(2));
        let states: Vec<State> = work.steps().map(|(_, state)| state).collect();
        assert_eq!(
            states,
            [
                State::First,
                State::Filled(2),
                State::Filled(2),
                State::Filled(3),
                State::Filled(1)
            ]
        );
        assert_eq!(
            work.last(),
            [Some(State::Filled(1)), Some(State::Filled(3)), None]
        );
    }
}
