// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Commands that move data, and that synchronise.

use super::{Command, aligned, operand_size};
use crate::compute::{Job, Stop};

/// Bytes that are handled at a time.
const PIECE: u64 = 256 << 10;

/// The pieces of a range: offset, length, and how many bytes lie behind it.
fn pieces(size: u64) -> impl Iterator<Item = (u64, usize, u64)> {
    (0..size).step_by(PIECE as usize).map(move |at| {
        let len = (size - at).min(PIECE);
        (at, len as usize, size - at - len)
    })
}

/// `FILL`
pub fn fill(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (dst, size, pattern) = (fields.u64(), fields.u64(), fields.u32());
    fields.reserved()?;
    aligned(dst, 4)?;
    aligned(size, 4)?;
    operand_size(size)?;
    let data = pattern.to_le_bytes().repeat((size.min(PIECE) / 4) as usize);
    for (at, len, behind) in pieces(size) {
        job.write_part(dst.saturating_add(at), &data[..len], behind)?;
    }
    Ok(())
}

/// `COPY`
pub fn copy(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (dst, src, size) = (fields.u64(), fields.u64(), fields.u64());
    operand_size(size)?;
    let mut data = vec![0; size.min(PIECE) as usize];
    for (at, len, behind) in pieces(size) {
        job.read_part(src.saturating_add(at), &mut data[..len], behind)?;
        job.write_part(dst.saturating_add(at), &data[..len], behind)?;
    }
    Ok(())
}

/// `COMPARE`
pub fn compare(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (result, a, b, size) = (fields.u64(), fields.u64(), fields.u64(), fields.u64());
    aligned(result, 8)?;
    operand_size(size)?;
    let mut first = u64::MAX;
    let mut left = vec![0; size.min(PIECE) as usize];
    let mut right = left.clone();
    for (at, len, behind) in pieces(size) {
        job.read_part(a.saturating_add(at), &mut left[..len], behind)?;
        job.read_part(b.saturating_add(at), &mut right[..len], behind)?;
        if left[..len] != right[..len] {
            let same = (0..len).take_while(|&i| left[i] == right[i]).count();
            first = at + same as u64;
            break;
        }
    }
    job.store(result, first)
}

/// `WRITE`
pub fn write(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (dst, value) = (fields.u64(), fields.u64());
    aligned(dst, 8)?;
    job.store(dst, value)
}

/// `TIMESTAMP`
pub fn timestamp(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let dst = command.fields().u64();
    aligned(dst, 8)?;
    job.store(dst, job.now())
}

/// `WAIT`
pub fn wait(job: &Job<'_>, command: &Command) -> Result<(), Stop> {
    let mut fields = command.fields();
    let (src, value) = (fields.u64(), fields.u64());
    aligned(src, 8)?;
    while job.load(src)? < value {
        job.pause()?;
    }
    Ok(())
}
