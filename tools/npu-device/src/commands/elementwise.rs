// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Commands that treat every element by itself.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use super::Command;
use super::operand::Matrix;
use crate::compute::{BadCommand, Job, Stop};

/// `GELU` flag: the approximation by tanh.
pub const GELU_TANH: u32 = 1 << 0;

/// A vector of `count` elements, as a matrix of one row.
fn vector(va: u64, count: u64) -> Result<Matrix, BadCommand> {
    if count == 0 {
        return Err(BadCommand::OutOfRange);
    }
    Matrix::new(va, 1, count)
}

fn gelu_erf(x: f32) -> f32 {
    x * 0.5 * (1.0 + libm::erff(x * FRAC_1_SQRT_2))
}

fn gelu_tanh(x: f32) -> f32 {
    x * 0.5 * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044_715 * x * x * x)).tanh())
}

/// `GELU`
pub fn gelu(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let function = if command.flags() & GELU_TANH != 0 {
        gelu_tanh
    } else {
        gelu_erf
    };
    let mut fields = command.fields();
    let (y, x, count) = (fields.u64(), fields.u64(), fields.u64());
    let (y, x) = (vector(y, count)?, vector(x, count)?);
    for cols in x.col_blocks() {
        let mut values = x.read_block(job, 0..1, cols.clone())?;
        values.iter_mut().for_each(|v| *v = function(*v));
        y.write_block(job, 0..1, cols, &values)?;
    }
    Ok(())
}

/// `ADD`
pub fn add(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (y, a, b, count) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
    let (y, a, b) = (vector(y, count)?, vector(a, count)?, vector(b, count)?);
    for cols in a.col_blocks() {
        let mut values = a.read_block(job, 0..1, cols.clone())?;
        let other = b.read_block(job, 0..1, cols.clone())?;
        values.iter_mut().zip(other).for_each(|(v, o)| *v += o);
        y.write_block(job, 0..1, cols, &values)?;
    }
    Ok(())
}
