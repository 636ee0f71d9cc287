// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Operands of commands that compute: matrices in virtual memory, read and written in blocks.

use std::ops::Range;

use half::bf16;

use super::{aligned, operand_size};
use crate::compute::{BadCommand, Job, Stop};

/// The largest dimension.
const LARGEST_DIMENSION: u32 = 1 << 24;
/// Elements that commands without much arithmetic handle at a time.
const BLOCK: u64 = 64 << 10;

/// Checks a dimension.
pub fn dimension(value: u32) -> Result<u64, BadCommand> {
    if (1..=LARGEST_DIMENSION).contains(&value) {
        Ok(value.into())
    } else {
        Err(BadCommand::OutOfRange)
    }
}

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floating point.
    F32,
    /// Its upper half.
    Bf16,
}

impl Element {
    fn size(self) -> u64 {
        match self {
            Element::F32 => 4,
            Element::Bf16 => 2,
        }
    }
}

/// A row-major matrix in virtual memory.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    va: u64,
    rows: u64,
    cols: u64,
    ld: u64,
    element: Element,
}

impl Matrix {
    /// A matrix whose rows lie back to back, of f32.
    pub fn new(va: u64, rows: u64, cols: u64) -> Result<Self, BadCommand> {
        Matrix::with(va, rows, cols, 0, Element::F32)
    }

    /// A matrix with a distance `ld` between rows, 0 for back to back.
    pub fn with(
        va: u64,
        rows: u64,
        cols: u64,
        ld: u32,
        element: Element,
    ) -> Result<Self, BadCommand> {
        aligned(va, element.size())?;
        let ld = if ld == 0 { cols } else { ld.into() };
        if ld < cols {
            return Err(BadCommand::OutOfRange);
        }
        let elements = (rows - 1).saturating_mul(ld).saturating_add(cols);
        operand_size(elements.saturating_mul(element.size()))?;
        Ok(Matrix {
            va,
            rows,
            cols,
            ld,
            element,
        })
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many columns.
    pub fn cols(&self) -> u64 {
        self.cols
    }

    /// Rows in blocks of a handy size.
    pub fn row_blocks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        blocks(self.rows, (BLOCK / self.cols).max(1))
    }

    /// Columns in blocks of a handy size.
    pub fn col_blocks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        blocks(self.cols, BLOCK)
    }

    /// The runs of memory that a block consists of: address and length in elements.
    fn runs(&self, rows: Range<u64>, cols: Range<u64>) -> impl Iterator<Item = (u64, usize)> {
        let width = cols.end - cols.start;
        let height = rows.end - rows.start;
        let dense = width == self.ld;
        let (count, len) = if dense {
            (1, width * height)
        } else {
            (height, width)
        };
        let Matrix {
            va, ld, element, ..
        } = *self;
        (0..count).map(move |i| {
            let index = (rows.start + i) * ld + cols.start;
            (va.saturating_add(index * element.size()), len as usize)
        })
    }

    /// Reads a block.
    pub fn read_block(
        &self,
        job: &Job<'_>,
        rows: Range<u64>,
        cols: Range<u64>,
    ) -> Result<Vec<f32>, Stop> {
        let len = (rows.end - rows.start) * (cols.end - cols.start);
        let mut values = vec![0.0; len as usize];
        let mut rest = values.as_mut_slice();
        for (va, len) in self.runs(rows, cols) {
            let (run, behind) = rest.split_at_mut(len);
            rest = behind;
            match self.element {
                Element::F32 => job.read(va, bytemuck::cast_slice_mut(run))?,
                Element::Bf16 => {
                    let mut raw = vec![bf16::ZERO; len];
                    job.read(va, bytemuck::cast_slice_mut(&mut raw))?;
                    run.iter_mut()
                        .zip(raw)
                        .for_each(|(to, from)| *to = from.to_f32());
                }
            }
        }
        Ok(values)
    }

    /// Reads some rows.
    pub fn read_rows(&self, job: &Job<'_>, rows: Range<u64>) -> Result<Vec<f32>, Stop> {
        self.read_block(job, rows, 0..self.cols)
    }

    /// Reads all of it.
    pub fn read(&self, job: &Job<'_>) -> Result<Vec<f32>, Stop> {
        self.read_rows(job, 0..self.rows)
    }

    /// Writes a block of f32.
    pub fn write_block(
        &self,
        job: &Job<'_>,
        rows: Range<u64>,
        cols: Range<u64>,
        values: &[f32],
    ) -> Result<(), Stop> {
        debug_assert_eq!(self.element, Element::F32);
        let mut rest = values;
        for (va, len) in self.runs(rows, cols) {
            let (run, behind) = rest.split_at(len);
            rest = behind;
            job.write(va, bytemuck::cast_slice(run))?;
        }
        Ok(())
    }

    /// Writes some rows of f32.
    pub fn write_rows(&self, job: &Job<'_>, rows: Range<u64>, values: &[f32]) -> Result<(), Stop> {
        self.write_block(job, rows, 0..self.cols, values)
    }
}

/// Divides `0..end` into ranges of up to `step`.
pub fn blocks(end: u64, step: u64) -> impl Iterator<Item = Range<u64>> {
    (0..end)
        .step_by(step as usize)
        .map(move |start| start..(start + step).min(end))
}
