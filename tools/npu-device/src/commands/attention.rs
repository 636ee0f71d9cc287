// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ATTENTION`

use ndarray::linalg::general_mat_mul;

use super::Command;
use super::gemm::{view, view_mut};
use super::operand::{Element, Matrix, blocks, dimension};
use super::rows::softmax_row;
use crate::compute::{Job, Stop};

/// Scores that are held at a time.
const SCORES: u64 = 1 << 20;
/// Multiplications between two looks at whether to stop.
const WORK: u64 = 1 << 30;

/// `ATTENTION`
pub fn attention(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (out, q, k, v) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
    let mask = fields.u64();
    let (batch, seq, heads, head_dim) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
    let (ld, scale) = (fields.u32(), fields.f32());
    let (batch, seq) = (dimension(batch)?, dimension(seq)?);
    let (heads, head_dim) = (dimension(heads)?, dimension(head_dim)?);
    let matrix = |va| Matrix::with(va, batch * seq, heads * head_dim, ld, Element::F32);
    let (out, q, k, v) = (matrix(out)?, matrix(q)?, matrix(k)?, matrix(v)?);
    let mask = if mask == 0 {
        None
    } else {
        Some(Matrix::new(mask, batch, seq)?)
    };

    let height = (SCORES / seq).min(WORK / (seq * head_dim)).max(1);
    for b in 0..batch {
        let ignored: Vec<usize> = match mask {
            Some(mask) => {
                let mask = mask.read_rows(job, b..b + 1)?;
                mask.iter()
                    .enumerate()
                    .filter(|(_, m)| **m == 0.0)
                    .map(|(t, _)| t)
                    .collect()
            }
            None => Vec::new(),
        };
        let tokens = b * seq..(b + 1) * seq;
        for head in 0..heads {
            let cols = head * head_dim..(head + 1) * head_dim;
            let keys = k.read_block(job, tokens.clone(), cols.clone())?;
            let values = v.read_block(job, tokens.clone(), cols.clone())?;
            for block in blocks(seq, height) {
                job.check()?;
                let count = block.end - block.start;
                let rows = tokens.start + block.start..tokens.start + block.end;
                let mut queries = q.read_block(job, rows.clone(), cols.clone())?;
                let mut scores = vec![0.0; (count * seq) as usize];
                general_mat_mul(
                    scale,
                    &view(&queries, count, head_dim),
                    &view(&keys, seq, head_dim).reversed_axes(),
                    0.0,
                    &mut view_mut(&mut scores, count, seq),
                );
                for row in scores.chunks_exact_mut(seq as usize) {
                    ignored.iter().for_each(|&t| row[t] = f32::NEG_INFINITY);
                    softmax_row(row);
                }
                general_mat_mul(
                    1.0,
                    &view(&scores, count, seq),
                    &view(&values, seq, head_dim),
                    0.0,
                    &mut view_mut(&mut queries, count, head_dim),
                );
                out.write_block(job, rows, cols.clone(), &queries)?;
            }
        }
    }
    Ok(())
}
