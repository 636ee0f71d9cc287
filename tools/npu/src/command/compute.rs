// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Operands of the commands that have many.

use super::Fields;

/// Element type of a [`Gemm`]'s A and B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GemmType {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16; C is still f32.
    Bf16,
}

/// `GEMM`: C = alpha * op(A) * op(B) + beta * C, with C of m x n, op(A) of m x k, op(B) of k x n.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Address of C.
    pub c: u64,
    /// Address of A.
    pub a: u64,
    /// Address of B.
    pub b: u64,
    /// Rows of C.
    pub m: u32,
    /// Columns of C.
    pub n: u32,
    /// Columns of op(A).
    pub k: u32,
    /// Elements between rows of A as stored; 0 = the row's length.
    pub lda: u32,
    /// Elements between rows of B as stored; 0 = the row's length.
    pub ldb: u32,
    /// Elements between rows of C; 0 = the row's length.
    pub ldc: u32,
    /// Is A stored as k x m?
    pub a_transposed: bool,
    /// Is B stored as n x k?
    pub b_transposed: bool,
    /// Element type of A and B.
    pub kind: GemmType,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of the old C, which is read only if this is not 0.
    pub beta: f32,
}

impl Default for Gemm {
    fn default() -> Self {
        Self {
            c: 0,
            a: 0,
            b: 0,
            m: 0,
            n: 0,
            k: 0,
            lda: 0,
            ldb: 0,
            ldc: 0,
            a_transposed: false,
            b_transposed: false,
            kind: GemmType::F32,
            alpha: 1.0,
            beta: 0.0,
        }
    }
}

impl Gemm {
    pub(super) fn flags(&self) -> u32 {
        u32::from(self.a_transposed) | (u32::from(self.b_transposed) << 1)
    }

    pub(super) fn fields(&self) -> Fields {
        Fields::new()
            .u64(self.c)
            .u64(self.a)
            .u64(self.b)
            .u32(self.m)
            .u32(self.n)
            .u32(self.k)
            .u32(self.lda)
            .u32(self.ldb)
            .u32(self.ldc)
            .u32(match self.kind {
                GemmType::F32 => 0,
                GemmType::Bf16 => 1,
            })
            .f32(self.alpha)
            .f32(self.beta)
            .u32(0)
    }
}

/// `LAYERNORM`: y = (x - mean) / sqrt(variance + eps) * gamma + beta, by row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerNorm {
    /// Address of the result.
    pub y: u64,
    /// Address of the rows.
    pub x: u64,
    /// Address of a row of factors.
    pub gamma: u64,
    /// Address of a row of summands.
    pub beta: u64,
    /// Number of rows.
    pub rows: u32,
    /// Elements in a row.
    pub cols: u32,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    pub(super) fn fields(&self) -> Fields {
        Fields::new()
            .u64(self.y)
            .u64(self.x)
            .u64(self.gamma)
            .u64(self.beta)
            .u32(self.rows)
            .u32(self.cols)
            .f32(self.eps)
            .u32(0)
    }
}

/// `GATHER`: y\[i\] = table\[index\[i\]\], by row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gather {
    /// Address of the result.
    pub y: u64,
    /// Address of the table.
    pub table: u64,
    /// Address of u32 row numbers.
    pub index: u64,
    /// How many rows to pick.
    pub count: u32,
    /// Elements in a row.
    pub cols: u32,
    /// Rows of the table.
    pub table_rows: u32,
}

impl Gather {
    pub(super) fn fields(&self) -> Fields {
        Fields::new()
            .u64(self.y)
            .u64(self.table)
            .u64(self.index)
            .u32(self.count)
            .u32(self.cols)
            .u32(self.table_rows)
            .u32(0)
    }
}

/// `ATTENTION`: out = softmax(Q * transpose(K) * scale + mask) * V, for each sequence and head.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attention {
    /// Address of the result.
    pub out: u64,
    /// Address of Q: batch * seq rows of heads * head_dim elements, as K, V and the result.
    pub q: u64,
    /// Address of K.
    pub k: u64,
    /// Address of V.
    pub v: u64,
    /// 0, or the address of batch * seq f32: 1 = the token counts, 0 = it doesn't.
    pub mask: u64,
    /// Number of sequences.
    pub batch: u32,
    /// Tokens in a sequence.
    pub seq: u32,
    /// Number of heads.
    pub heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Elements between rows; 0 = heads * head_dim.
    pub ld: u32,
    /// Factor of the scores.
    pub scale: f32,
}

impl Attention {
    pub(super) fn fields(&self) -> Fields {
        Fields::new()
            .u64(self.out)
            .u64(self.q)
            .u64(self.k)
            .u64(self.v)
            .u64(self.mask)
            .u32(self.batch)
            .u32(self.seq)
            .u32(self.heads)
            .u32(self.head_dim)
            .u32(self.ld)
            .f32(self.scale)
    }
}

/// `MEANPOOL`: y\[b\] = the mean of x\[b * seq + t\] over the tokens t with mask\[b\]\[t\] = 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeanPool {
    /// Address of the result.
    pub y: u64,
    /// Address of the tokens' rows.
    pub x: u64,
    /// Address of batch * seq f32.
    pub mask: u64,
    /// Number of sequences.
    pub batch: u32,
    /// Tokens in a sequence.
    pub seq: u32,
    /// Elements in a row.
    pub cols: u32,
}

impl MeanPool {
    pub(super) fn fields(&self) -> Fields {
        Fields::new()
            .u64(self.y)
            .u64(self.x)
            .u64(self.mask)
            .u32(self.batch)
            .u32(self.seq)
            .u32(self.cols)
            .u32(0)
    }
}
