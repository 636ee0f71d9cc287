// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Commands that treat every row by itself. Sums over a row are accumulated in f64.

use super::operand::{Matrix, dimension};
use super::{Command, Fields, aligned, operand_size};
use crate::compute::{BadCommand, Job, Stop};

/// Norms below this count as this.
const SMALLEST_NORM: f64 = 1e-12;

/// Applies a function to every row of `x`, and writes the result to `y`.
fn map_rows(
    job: &Job<'_>,
    y: &Matrix,
    x: &Matrix,
    function: impl Fn(&mut [f32]),
) -> Result<(), Stop> {
    for rows in x.row_blocks() {
        let mut values = x.read_rows(job, rows.clone())?;
        values
            .chunks_exact_mut(x.cols() as usize)
            .for_each(&function);
        y.write_rows(job, rows, &values)?;
    }
    Ok(())
}

/// Reads the two dimensions of a matrix.
fn shape(fields: &mut Fields<'_>) -> Result<(u64, u64), BadCommand> {
    let (rows, cols) = (fields.u32(), fields.u32());
    Ok((dimension(rows)?, dimension(cols)?))
}

/// `BIAS`
pub fn bias(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (y, x, bias) = (fields.u64(), fields.u64(), fields.u64());
    let (rows, cols) = shape(&mut fields)?;
    let (y, x) = (Matrix::new(y, rows, cols)?, Matrix::new(x, rows, cols)?);
    let bias = Matrix::new(bias, 1, cols)?.read(job)?;
    map_rows(job, &y, &x, |row| {
        row.iter_mut().zip(&bias).for_each(|(v, b)| *v += b)
    })
}

/// The softmax of a row, in place. A row of negative infinities alone gives zeros.
pub fn softmax_row(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        // NaNs, which are no maximum, stay.
        row.iter_mut()
            .filter(|v| !v.is_nan())
            .for_each(|v| *v = 0.0);
        return;
    }
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - largest).exp();
        sum += f64::from(*value);
    }
    let factor = (1.0 / sum) as f32;
    row.iter_mut().for_each(|v| *v *= factor);
}

/// `SOFTMAX`
pub fn softmax(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (y, x) = (fields.u64(), fields.u64());
    let (rows, cols) = shape(&mut fields)?;
    map_rows(
        job,
        &Matrix::new(y, rows, cols)?,
        &Matrix::new(x, rows, cols)?,
        softmax_row,
    )
}

/// `LAYERNORM`
pub fn layernorm(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (y, x, gamma, beta) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
    let (rows, cols) = (fields.u32(), fields.u32());
    let eps = f64::from(fields.f32());
    fields.reserved()?;
    let (rows, cols) = (dimension(rows)?, dimension(cols)?);
    let (y, x) = (Matrix::new(y, rows, cols)?, Matrix::new(x, rows, cols)?);
    let (gamma, beta) = (Matrix::new(gamma, 1, cols)?, Matrix::new(beta, 1, cols)?);
    let (gamma, beta) = (gamma.read(job)?, beta.read(job)?);
    map_rows(job, &y, &x, |row| {
        let n = row.len() as f64;
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = row
            .iter()
            .map(|v| (f64::from(*v) - mean).powi(2))
            .sum::<f64>()
            / n;
        let factor = 1.0 / (variance + eps).sqrt();
        for ((value, gamma), beta) in row.iter_mut().zip(&gamma).zip(&beta) {
            *value = ((f64::from(*value) - mean) * factor) as f32 * gamma + beta;
        }
    })
}

/// `NORMALIZE`
pub fn normalize(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (y, x) = (fields.u64(), fields.u64());
    let (rows, cols) = shape(&mut fields)?;
    map_rows(
        job,
        &Matrix::new(y, rows, cols)?,
        &Matrix::new(x, rows, cols)?,
        |row| {
            let norm = row
                .iter()
                .map(|v| f64::from(*v).powi(2))
                .sum::<f64>()
                .sqrt();
            let factor = 1.0 / norm.max(SMALLEST_NORM);
            row.iter_mut()
                .for_each(|v| *v = (f64::from(*v) * factor) as f32);
        },
    )
}

/// `GATHER`
pub fn gather(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (y, table, index) = (fields.u64(), fields.u64(), fields.u64());
    let (count, cols, table_rows) = (fields.u32(), fields.u32(), fields.u32());
    fields.reserved()?;
    let (count, cols) = (dimension(count)?, dimension(cols)?);
    let y = Matrix::new(y, count, cols)?;
    let table = Matrix::new(table, dimension(table_rows)?, cols)?;
    aligned(index, 4)?;
    operand_size(count * 4)?;
    for rows in y.row_blocks() {
        let mut indices = vec![0u32; (rows.end - rows.start) as usize];
        let at = index.saturating_add(rows.start * 4);
        job.read(at, bytemuck::cast_slice_mut(&mut indices))?;
        let mut values = Vec::with_capacity(indices.len() * cols as usize);
        for i in indices.into_iter().map(u64::from) {
            if i >= table.rows() {
                return Err(BadCommand::OutOfRange.into());
            }
            values.extend(table.read_rows(job, i..i + 1)?);
        }
        y.write_rows(job, rows, &values)?;
    }
    Ok(())
}

/// `MEANPOOL`
pub fn meanpool(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (y, x, mask) = (fields.u64(), fields.u64(), fields.u64());
    let (batch, seq, cols) = (fields.u32(), fields.u32(), fields.u32());
    fields.reserved()?;
    let (batch, seq, cols) = (dimension(batch)?, dimension(seq)?, dimension(cols)?);
    let y = Matrix::new(y, batch, cols)?;
    let x = Matrix::new(x, batch * seq, cols)?;
    let mask = Matrix::new(mask, batch, seq)?;
    for b in 0..batch {
        let mask = mask.read_rows(job, b..b + 1)?;
        let mut sums = vec![0.0; cols as usize];
        let mut tokens = 0.0;
        for (t, _) in mask.iter().enumerate().filter(|(_, m)| **m != 0.0) {
            let row = b * seq + t as u64;
            let values = x.read_rows(job, row..row + 1)?;
            sums.iter_mut()
                .zip(values)
                .for_each(|(sum, v)| *sum += f64::from(v));
            tokens += 1.0;
        }
        let factor = if tokens == 0.0 { 0.0 } else { 1.0 / tokens };
        let means: Vec<f32> = sums
            .into_iter()
            .map(|sum: f64| (sum * factor) as f32)
            .collect();
        y.write_rows(job, b..b + 1, &means)?;
    }
    Ok(())
}
