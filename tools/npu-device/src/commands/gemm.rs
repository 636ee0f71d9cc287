// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `GEMM`

use ndarray::ArrayView2;
use ndarray::ArrayViewMut2;
use ndarray::linalg::general_mat_mul;

use super::Command;
use super::operand::{Element, Matrix, blocks, dimension};
use crate::compute::{BadCommand, Job, Stop};

const TRANSPOSE_A: u32 = 1 << 0;
const TRANSPOSE_B: u32 = 1 << 1;
/// The flags it has.
pub const FLAGS: u32 = TRANSPOSE_A | TRANSPOSE_B;

/// Multiplications between two looks at whether to stop.
const WORK: u64 = 1 << 30;
/// Elements of a block of A or C.
const BLOCK: u64 = 1 << 24;

/// A dense block of f32 as a matrix.
pub fn view(values: &[f32], rows: u64, cols: u64) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows as usize, cols as usize), values)
        .expect("a block has as many values as it was read with")
}

/// The same, to be written.
pub fn view_mut(values: &mut [f32], rows: u64, cols: u64) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows as usize, cols as usize), values)
        .expect("a block has as many values as it was made with")
}

/// `GEMM`
pub fn gemm(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let transposed = |flag: u32| command.flags() & flag != 0;
    let (transpose_a, transpose_b) = (transposed(TRANSPOSE_A), transposed(TRANSPOSE_B));
    let mut fields = command.fields();
    let (c_va, a_va, b_va) = (fields.u64(), fields.u64(), fields.u64());
    let (m, n, k) = (fields.u32(), fields.u32(), fields.u32());
    let (lda, ldb, ldc) = (fields.u32(), fields.u32(), fields.u32());
    let element = match fields.u32() {
        0 => Element::F32,
        1 => Element::Bf16,
        _ => return Err(BadCommand::OutOfRange.into()),
    };
    let (alpha, beta) = (fields.f32(), fields.f32());
    fields.reserved()?;
    let (m, n, k) = (dimension(m)?, dimension(n)?, dimension(k)?);
    let stored = |transpose, rows, cols| {
        if transpose {
            (cols, rows)
        } else {
            (rows, cols)
        }
    };
    let (a_rows, a_cols) = stored(transpose_a, m, k);
    let (b_rows, b_cols) = stored(transpose_b, k, n);
    let a = Matrix::with(a_va, a_rows, a_cols, lda, element)?;
    let b = Matrix::with(b_va, b_rows, b_cols, ldb, element)?;
    let c = Matrix::with(c_va, m, n, ldc, Element::F32)?;

    // A block of C is written after the block of A for the same rows was read. Where A is both
    // transposed and the result, all of it is read before.
    let height = (WORK / (k * n)).min(BLOCK / k.max(n)).max(1);
    let height = if transpose_a && a_va == c_va {
        m
    } else {
        height
    };
    let b_values = b.read(job)?;
    let b_view = view(&b_values, b_rows, b_cols);
    let b_view = if transpose_b {
        b_view.reversed_axes()
    } else {
        b_view
    };
    for rows in blocks(m, height) {
        job.check()?;
        let count = rows.end - rows.start;
        let a_values = if transpose_a {
            a.read_block(job, 0..k, rows.clone())?
        } else {
            a.read_rows(job, rows.clone())?
        };
        let (block_rows, block_cols) = stored(transpose_a, count, k);
        let a_view = view(&a_values, block_rows, block_cols);
        let a_view = if transpose_a {
            a_view.reversed_axes()
        } else {
            a_view
        };
        let mut values = if beta == 0.0 {
            vec![0.0; (count * n) as usize]
        } else {
            c.read_rows(job, rows.clone())?
        };
        general_mat_mul(
            alpha,
            &a_view,
            &b_view,
            beta,
            &mut view_mut(&mut values, count, n),
        );
        c.write_rows(job, rows, &values)?;
    }
    Ok(())
}
