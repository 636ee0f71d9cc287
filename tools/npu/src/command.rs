// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Building the commands of a job, as `Documentation/accel/npu/commands.rst` describes them.
//!
//! Addresses are device addresses, sizes are in bytes, dimensions in elements. Nothing is checked
//! here: a command that the device refuses ends its job with an error that tells its offset.

mod compute;
mod opcode;
#[cfg(test)]
mod tests;

pub use compute::{Attention, Gather, Gemm, GemmType, LayerNorm, MeanPool};
pub use opcode::Opcode;

/// Bytes in a command unit.
const UNIT: usize = 8;

/// The commands of one job.
///
/// ```
/// let mut commands = npu::CommandBuffer::new();
/// commands.fill(0x10000, 4096, 0).copy(0x20000, 0x10000, 4096);
/// assert_eq!(commands.len(), 64);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandBuffer {
    bytes: Vec<u8>,
}

impl CommandBuffer {
    /// The most that one job can have.
    pub const MAX_LEN: usize = 1 << 20;

    /// No commands.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes that the device reads.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Is there no command?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes all commands.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a command: its header and its fields.
    fn push(&mut self, opcode: Opcode, flags: u32, fields: Fields) -> &mut Self {
        let size = UNIT + fields.bytes.len();
        debug_assert_eq!(size, opcode.units() as usize * UNIT, "{opcode:?}");
        self.bytes.extend((opcode as u16).to_le_bytes());
        self.bytes.extend(opcode.units().to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(fields.bytes);
        self
    }

    /// Adds bytes that are no known command, to see what the device says to them.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// `NOP`: nothing.
    pub fn nop(&mut self) -> &mut Self {
        self.push(Opcode::Nop, 0, Fields::new())
    }

    /// `FILL`: writes `pattern` again and again. `dst` and `size` are multiples of 4.
    pub fn fill(&mut self, dst: u64, size: u64, pattern: u32) -> &mut Self {
        let fields = Fields::new().u64(dst).u64(size).u32(pattern).u32(0);
        self.push(Opcode::Fill, 0, fields)
    }

    /// `COPY`: copies bytes. The ranges don't overlap.
    pub fn copy(&mut self, dst: u64, src: u64, size: u64) -> &mut Self {
        self.push(Opcode::Copy, 0, Fields::new().u64(dst).u64(src).u64(size))
    }

    /// `COMPARE`: writes to `result` the offset of the first byte that differs between `a` and
    /// `b`, or [`u64::MAX`].
    pub fn compare(&mut self, result: u64, a: u64, b: u64, size: u64) -> &mut Self {
        let fields = Fields::new().u64(result).u64(a).u64(b).u64(size);
        self.push(Opcode::Compare, 0, fields)
    }

    /// `WRITE`: writes 64 bits, after all that precedes.
    pub fn write(&mut self, dst: u64, value: u64) -> &mut Self {
        self.push(Opcode::Write, 0, Fields::new().u64(dst).u64(value))
    }

    /// `TIMESTAMP`: writes the device's time in nanoseconds.
    pub fn timestamp(&mut self, dst: u64) -> &mut Self {
        self.push(Opcode::Timestamp, 0, Fields::new().u64(dst))
    }

    /// `WAIT`: waits until the 64 bits at `src` are at least `value`.
    pub fn wait(&mut self, src: u64, value: u64) -> &mut Self {
        self.push(Opcode::Wait, 0, Fields::new().u64(src).u64(value))
    }

    /// `GEMM`: C = alpha * op(A) * op(B) + beta * C.
    pub fn gemm(&mut self, gemm: &Gemm) -> &mut Self {
        self.push(Opcode::Gemm, gemm.flags(), gemm.fields())
    }

    /// `BIAS`: adds `bias` to each row of `x`.
    pub fn bias(&mut self, y: u64, x: u64, bias: u64, rows: u32, cols: u32) -> &mut Self {
        let fields = Fields::new().u64(y).u64(x).u64(bias).u32(rows).u32(cols);
        self.push(Opcode::Bias, 0, fields)
    }

    /// `GELU` with the error function.
    pub fn gelu(&mut self, y: u64, x: u64, count: u64) -> &mut Self {
        self.push(Opcode::Gelu, 0, Fields::new().u64(y).u64(x).u64(count))
    }

    /// `GELU` by the approximation with the hyperbolic tangent.
    pub fn gelu_tanh(&mut self, y: u64, x: u64, count: u64) -> &mut Self {
        self.push(Opcode::Gelu, 1, Fields::new().u64(y).u64(x).u64(count))
    }

    /// `SOFTMAX` of each row.
    pub fn softmax(&mut self, y: u64, x: u64, rows: u32, cols: u32) -> &mut Self {
        self.push(
            Opcode::Softmax,
            0,
            Fields::new().u64(y).u64(x).u32(rows).u32(cols),
        )
    }

    /// `LAYERNORM` of each row.
    pub fn layer_norm(&mut self, norm: &LayerNorm) -> &mut Self {
        self.push(Opcode::LayerNorm, 0, norm.fields())
    }

    /// `GATHER`: picks rows of a table.
    pub fn gather(&mut self, gather: &Gather) -> &mut Self {
        self.push(Opcode::Gather, 0, gather.fields())
    }

    /// `ATTENTION`: softmax(Q * transpose(K) * scale + mask) * V.
    pub fn attention(&mut self, attention: &Attention) -> &mut Self {
        self.push(Opcode::Attention, 0, attention.fields())
    }

    /// `ADD`: y = a + b.
    pub fn add(&mut self, y: u64, a: u64, b: u64, count: u64) -> &mut Self {
        self.push(
            Opcode::Add,
            0,
            Fields::new().u64(y).u64(a).u64(b).u64(count),
        )
    }

    /// `MEANPOOL`: the mean of each sequence's tokens.
    pub fn mean_pool(&mut self, pool: &MeanPool) -> &mut Self {
        self.push(Opcode::MeanPool, 0, pool.fields())
    }

    /// `NORMALIZE`: scales each row to length 1.
    pub fn normalize(&mut self, y: u64, x: u64, rows: u32, cols: u32) -> &mut Self {
        self.push(
            Opcode::Normalize,
            0,
            Fields::new().u64(y).u64(x).u32(rows).u32(cols),
        )
    }
}

/// Fields of a command, little endian, without gaps.
#[derive(Debug, Default)]
struct Fields {
    bytes: Vec<u8>,
}

impl Fields {
    fn new() -> Self {
        Self::default()
    }

    fn u32(mut self, value: u32) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn f32(mut self, value: f32) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }
}
