// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Loads without a device: naive loops do what it would.

use npu::command::{Gemm, LayerNorm};

use super::blocks::Blocks;
use super::gemm::Product;
use super::memory::Memory;
use super::op::Op;
use super::pattern::{Pattern, accesses};
use super::transformer::Transformer;
use super::{BLOCK, Error, Work};

/// The memory of a load, by address.
struct Naive<'a>(&'a dyn Work);

impl Naive<'_> {
    fn memory(&self, at: u64) -> &Memory {
        let memories = self.0.memories();
        let found = memories.into_iter().find(|m| m.range().contains(&at));
        found.expect("no other memory is touched")
    }

    fn read(&self, at: u64, count: usize) -> Vec<f32> {
        self.memory(at).read(at, count).unwrap()
    }

    fn write(&self, at: u64, numbers: &[f32]) {
        self.memory(at).write(at, numbers).unwrap();
    }

    fn update(&self, at: u64, count: usize, function: impl FnOnce(&mut [f32])) {
        let mut numbers = self.read(at, count);
        function(&mut numbers);
        self.write(at, &numbers);
    }

    fn run(&self) {
        self.0.prepare().unwrap();
        self.0.ops().for_each(|op| self.execute(op));
    }

    fn execute(&self, op: Op) {
        match op {
            Op::Fill { at, count, value } => self.write(at, &vec![value; count as usize]),
            Op::Copy { to, from, count } => self.write(to, &self.read(from, count as usize)),
            Op::Gemm(gemm) => self.gemm(&gemm),
            Op::Add { to, other, count } => {
                let other = self.read(other, count as usize);
                self.update(to, count as usize, |numbers| {
                    numbers.iter_mut().zip(&other).for_each(|(n, o)| *n += o);
                });
            }
            Op::Gelu { at, count } => self.update(at, count as usize, |numbers| {
                let half = std::f32::consts::FRAC_1_SQRT_2;
                let gelu = |n: &mut f32| *n *= 0.5 * (1.0 + libm::erff(*n * half));
                numbers.iter_mut().for_each(gelu);
            }),
            Op::Softmax { at, rows, cols } => {
                self.update(at, (rows * cols) as usize, |numbers| {
                    for row in numbers.chunks_exact_mut(cols as usize) {
                        row.iter_mut().for_each(|n| *n = n.exp());
                        let sum: f32 = row.iter().sum();
                        row.iter_mut().for_each(|n| *n /= sum);
                    }
                });
            }
            Op::LayerNorm(norm) => self.layer_norm(&norm),
        }
    }

    fn gemm(&self, gemm: &Gemm) {
        let (m, n, k) = (gemm.m as usize, gemm.n as usize, gemm.k as usize);
        assert_eq!((gemm.lda, gemm.ldb, gemm.a_transposed), (0, 0, false));
        let (a, b) = (self.read(gemm.a, m * k), self.read(gemm.b, n * k));
        let ldc = if gemm.ldc == 0 { n } else { gemm.ldc as usize };
        for row in 0..m {
            self.update(gemm.c + (row * ldc) as u64 * 4, n, |c| {
                for (column, c) in c.iter_mut().enumerate() {
                    let b_at = |i| {
                        if gemm.b_transposed {
                            column * k + i
                        } else {
                            i * n + column
                        }
                    };
                    let sum: f32 = (0..k).map(|i| a[row * k + i] * b[b_at(i)]).sum();
                    let old = if gemm.beta == 0.0 {
                        0.0
                    } else {
                        gemm.beta * *c
                    };
                    *c = gemm.alpha * sum + old;
                }
            });
        }
    }

    fn layer_norm(&self, norm: &LayerNorm) {
        let cols = norm.cols as usize;
        let (gamma, beta) = (self.read(norm.gamma, cols), self.read(norm.beta, cols));
        let mut numbers = self.read(norm.x, norm.rows as usize * cols);
        for row in numbers.chunks_exact_mut(cols) {
            let mean = row.iter().sum::<f32>() / cols as f32;
            let variance = row.iter().map(|n| (n - mean).powi(2)).sum::<f32>() / cols as f32;
            for (i, n) in row.iter_mut().enumerate() {
                *n = (*n - mean) / (variance + norm.eps).sqrt() * gamma[i] + beta[i];
            }
        }
        self.write(norm.y, &numbers);
    }

    /// Adds 1 to a number.
    fn spoil(&self, at: u64) {
        self.update(at, 1, |number| number[0] += 1.0);
    }
}

fn is_wrong(work: &dyn Work) -> bool {
    matches!(work.check(), Err(Error::Wrong(_)))
}

#[test]
fn patterns_give_what_is_expected_and_nothing_else() {
    for pattern in [
        Pattern::Cyclic,
        Pattern::Strided,
        Pattern::Random,
        Pattern::Zipf,
        Pattern::Experts,
    ] {
        let work = Blocks::new(24, accesses(pattern, 24, 2, 7), 7).unwrap();
        let naive = Naive(&work);
        assert!(is_wrong(&work));
        naive.run();
        work.check().unwrap();

        // A number that the last access to its block met or left.
        let last = work.ops().last().unwrap();
        let at = last
            .operands()
            .into_iter()
            .find(|o| work.data().contains(&o.at))
            .unwrap()
            .at;
        match last {
            Op::Gemm(gemm) => {
                naive.spoil(at + BLOCK - 4);
                naive.execute(last);
                assert!(is_wrong(&work));
                naive.update(at + BLOCK - 4, 1, |number| number[0] -= 1.0);
                naive.execute(last);
                work.check().unwrap();
                naive.spoil(gemm.c + 4);
            }
            _ => naive.spoil(at + BLOCK - 4),
        }
        assert!(is_wrong(&work));
    }
}

#[test]
fn a_product_is_checked() {
    let work = Product::new(12, 2, 3).unwrap();
    let naive = Naive(&work);
    naive.run();
    work.check().unwrap();
    naive.spoil(work.data().end - 4 * 1000);
    assert!(is_wrong(&work));
}

#[test]
fn a_transformer_is_checked() {
    let work = Transformer::new(2 << 20, 2, 3).unwrap();
    let naive = Naive(&work);
    naive.run();
    work.check().unwrap();
    // The last layer of the last round has gone wrong.
    let Some(Op::Copy { to, .. }) = work.ops().last() else {
        panic!()
    };
    let tokens = work.ops().find_map(|op| match op {
        Op::LayerNorm(norm) => Some((norm.rows, norm.cols)),
        _ => None,
    });
    let (rows, cols) = tokens.unwrap();
    let before: Vec<f32> = naive.read(to, (rows * cols) as usize);
    assert!(before.iter().all(|number| number.abs() < 10.0));
    (0..rows).for_each(|row| naive.spoil(to + u64::from(row * cols) * 4));
    assert!(is_wrong(&work));
}
