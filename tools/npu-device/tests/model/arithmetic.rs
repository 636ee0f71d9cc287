// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Commands that compute, against naive f64.

use half::bf16;

use crate::card::*;
use crate::tables::*;

/// Numbers between -1 and 1 that repeat exactly.
pub fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        (f64::from(x) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    };
    (0..len).map(|_| next()).collect()
}

pub fn put(card: &Card, at: u64, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    card.local_write(at, &bytes);
}

pub fn get(card: &Card, at: u64, len: usize) -> Vec<f32> {
    let bytes = card.local_read(at, len * 4);
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// Compares with a tolerance relative to the size of the numbers.
pub fn close(what: &str, actual: &[f32], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let difference = (f64::from(*a) - e).abs();
        assert!(
            difference <= 2e-5 * (1.0 + e.abs()),
            "{what}[{i}]: {a} instead of {e}"
        );
    }
}

/// A place for an operand, and one for another.
const X: u64 = 0x10_0000;
const A: u64 = 0x20_0000;
const B: u64 = 0x30_0000;
const Y: u64 = 0x40_0000;

/// Puts rows at a distance of `ld`, with something between that must not matter.
fn put_rows(card: &Card, at: u64, values: &[f32], cols: usize, ld: usize) {
    for (r, row) in values.chunks_exact(cols).enumerate() {
        let mut padded = row.to_vec();
        padded.resize(ld, f32::NAN);
        put(card, at + (r * ld * 4) as u64, &padded);
    }
}

struct Gemm {
    m: usize,
    n: usize,
    k: usize,
    transpose: (bool, bool),
    pad: (usize, usize, usize),
    bf16: bool,
    alpha: f32,
    beta: f32,
}

fn gemm(space: &Space<'_>, g: &Gemm) {
    let card = space.card;
    let (m, n, k) = (g.m, g.n, g.k);
    let (mut a, mut b) = (numbers(m * k, 1), numbers(k * n, 2));
    let c = numbers(m * n, 3);
    if g.bf16 {
        a.iter_mut()
            .chain(&mut b)
            .for_each(|v| *v = bf16::from_f32(*v).to_f32());
    }
    let (a_cols, b_cols) = (
        if g.transpose.0 { m } else { k },
        if g.transpose.1 { k } else { n },
    );
    let (lda, ldb, ldc) = (a_cols + g.pad.0, b_cols + g.pad.1, n + g.pad.2);
    if g.bf16 {
        for (at, values) in [(A, &a), (B, &b)] {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect();
            card.local_write(at, &bytes);
        }
    } else {
        put_rows(card, A, &a, a_cols, lda);
        put_rows(card, B, &b, b_cols, ldb);
    }
    // C holds no numbers where it may not be read.
    let before = if g.beta == 0.0 {
        vec![f32::NAN; m * n]
    } else {
        c.clone()
    };
    put_rows(card, Y, &before, n, ldc);
    let optional = |ld: usize, pad: usize| W(if pad == 0 { 0 } else { ld as u32 });
    let flags = u32::from(g.transpose.0) | (u32::from(g.transpose.1) << 1);
    let fields = [
        D(Y),
        D(A),
        D(B),
        W(m as u32),
        W(n as u32),
        W(k as u32),
        optional(lda, g.pad.0),
        optional(ldb, g.pad.1),
        optional(ldc, g.pad.2),
        W(g.bf16.into()),
        F(g.alpha),
        F(g.beta),
        W(0),
    ];
    space.ok(&Commands::new().raw(0x10, flags, &fields));
    let mut expected = Vec::new();
    for i in 0..m {
        for j in 0..n {
            let term = |l: usize| {
                let a = if g.transpose.0 {
                    a[l * m + i]
                } else {
                    a[i * k + l]
                };
                let b = if g.transpose.1 {
                    b[j * k + l]
                } else {
                    b[l * n + j]
                };
                f64::from(a) * f64::from(b)
            };
            let sum: f64 = (0..k).map(term).sum();
            let old = if g.beta == 0.0 {
                0.0
            } else {
                f64::from(g.beta) * f64::from(c[i * n + j])
            };
            expected.push(f64::from(g.alpha) * sum + old);
        }
    }
    let actual: Vec<f32> = (0..m)
        .flat_map(|r| get(card, Y + (r * ldc * 4) as u64, n))
        .collect();
    close("C", &actual, &expected);
    // What lies between the rows of C stays.
    if g.pad.2 > 0 {
        assert!(
            get(card, Y + (n * 4) as u64, g.pad.2)
                .iter()
                .all(|v| v.is_nan())
        );
    }
}

#[test]
fn gemm_of_all_kinds() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for transpose in [(false, false), (true, false), (false, true), (true, true)] {
        for bf16 in [false, true] {
            let pad = if bf16 { (0, 0, 0) } else { (3, 1, 5) };
            let base = Gemm {
                m: 7,
                n: 5,
                k: 9,
                transpose,
                pad,
                bf16,
                alpha: 1.0,
                beta: 0.0,
            };
            gemm(&space, &base);
            gemm(
                &space,
                &Gemm {
                    alpha: -0.5,
                    beta: 2.0,
                    ..base
                },
            );
            gemm(
                &space,
                &Gemm {
                    m: 1,
                    n: 1,
                    k: 1,
                    pad: (0, 0, 0),
                    ..base
                },
            );
            gemm(
                &space,
                &Gemm {
                    m: 129,
                    n: 65,
                    k: 257,
                    pad: (0, 0, 0),
                    ..base
                },
            );
        }
    }
}

#[test]
fn gemm_in_place() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let n = 33;
    let (a, b) = (numbers(n * n, 4), numbers(n * n, 5));
    for (flags, c) in [(0, A), (0, B), (1, A), (3, A), (3, B)] {
        put(&card, A, &a);
        put(&card, B, &b);
        let size = W(n as u32);
        let fields = [
            D(c),
            D(A),
            D(B),
            size,
            size,
            size,
            W(0),
            W(0),
            W(0),
            W(0),
            F(1.0),
            F(0.0),
            W(0),
        ];
        space.ok(&Commands::new().raw(0x10, flags, &fields));
        let at = |v: &[f32], t: u32, i: usize, j: usize| {
            f64::from(if flags & t != 0 {
                v[j * n + i]
            } else {
                v[i * n + j]
            })
        };
        let element = |e: usize| {
            (0..n)
                .map(|l| at(&a, 1, e / n, l) * at(&b, 2, l, e % n))
                .sum::<f64>()
        };
        close(
            "C",
            &get(&card, c, n * n),
            &(0..n * n).map(element).collect::<Vec<_>>(),
        );
    }
}

fn rows(values: &[f32], cols: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let wide = |row: &[f32]| row.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    values
        .chunks_exact(cols)
        .flat_map(|row| f(&wide(row)))
        .collect()
}

/// Shapes with one row, one column, and more than a block.
const SHAPES: [(usize, usize); 5] = [(1, 1), (1, 300), (300, 1), (37, 53), (300, 400)];

#[test]
fn bias() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for (r, c) in SHAPES {
        let (x, b) = (numbers(r * c, 6), numbers(c, 7));
        for y in [Y, X] {
            put(&card, X, &x);
            put(&card, A, &b);
            let fields = [D(y), D(X), D(A), W(r as u32), W(c as u32)];
            space.ok(&Commands::new().raw(0x11, 0, &fields));
            let expected: Vec<f64> = (0..r * c)
                .map(|i| f64::from(x[i]) + f64::from(b[i % c]))
                .collect();
            close("y", &get(&card, y, r * c), &expected);
        }
    }
}

/// erf by its series, which converges everywhere.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn gelu() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let mut x = numbers(70_000, 8);
    x.iter_mut().for_each(|v| *v *= 5.0);
    x[..4].copy_from_slice(&[0.0, -100.0, 100.0, -0.0]);
    for flags in [0, 1] {
        put(&card, X, &x);
        space.ok(&Commands::new().raw(0x12, flags, &[D(Y), D(X), D(x.len() as u64)]));
        let f = |v: &f32| {
            let v = f64::from(*v);
            let inner = if flags == 0 {
                erf(v / 2f64.sqrt())
            } else {
                ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh()
            };
            v * 0.5 * (1.0 + inner)
        };
        close(
            "y",
            &get(&card, Y, x.len()),
            &x.iter().map(f).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn softmax() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for (r, c) in SHAPES {
        let mut x = numbers(r * c, 9);
        x.iter_mut().for_each(|v| *v *= 90.0);
        put(&card, X, &x);
        space.ok(&Commands::new().raw(0x13, 0, &[D(Y), D(X), W(r as u32), W(c as u32)]));
        let expected = rows(&x, c, |row| {
            let top = row.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = row.iter().map(|v| (v - top).exp()).sum();
            row.iter().map(|v| (v - top).exp() / sum).collect()
        });
        close("y", &get(&card, Y, r * c), &expected);
    }
    // Minus infinity is a weight of zero, and nothing but that gives zeros.
    let inf = f32::NEG_INFINITY;
    put(&card, X, &[inf, 1.0, inf, 1.0, inf, inf, inf, inf]);
    space.ok(&Commands::new().raw(0x13, 0, &[D(X), D(X), W(2), W(4)]));
    assert_eq!(get(&card, X, 8), [0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn layernorm() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let eps = 1e-5f32;
    for (r, c) in SHAPES {
        let (x, gamma, beta) = (numbers(r * c, 10), numbers(c, 11), numbers(c, 12));
        put(&card, X, &x);
        put(&card, A, &gamma);
        put(&card, B, &beta);
        let fields = [
            D(Y),
            D(X),
            D(A),
            D(B),
            W(r as u32),
            W(c as u32),
            F(eps),
            W(0),
        ];
        space.ok(&Commands::new().raw(0x14, 0, &fields));
        let expected = rows(&x, c, |row| {
            let n = row.len() as f64;
            let mean = row.iter().sum::<f64>() / n;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            let scale = (variance + f64::from(eps)).sqrt();
            let one = |(i, v): (usize, &f64)| {
                (v - mean) / scale * f64::from(gamma[i]) + f64::from(beta[i])
            };
            row.iter().enumerate().map(one).collect()
        });
        close("y", &get(&card, Y, r * c), &expected);
    }
}

#[test]
fn gather() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let table_rows = 50;
    for (count, c) in SHAPES {
        let table = numbers(table_rows * c, 13);
        let index: Vec<u32> = (0..count as u32)
            .map(|i| i * 17 % table_rows as u32)
            .collect();
        put(&card, X, &table);
        let bytes: Vec<u8> = index.iter().flat_map(|i| i.to_le_bytes()).collect();
        card.local_write(A, &bytes);
        let fields = [
            D(Y),
            D(X),
            D(A),
            W(count as u32),
            W(c as u32),
            W(table_rows as u32),
            W(0),
        ];
        space.ok(&Commands::new().raw(0x15, 0, &fields));
        let expected: Vec<f32> = index
            .iter()
            .flat_map(|&i| table[i as usize * c..][..c].to_vec())
            .collect();
        assert_eq!(get(&card, Y, count * c), expected);
    }
}

#[test]
fn add() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let n = 70_001;
    let (a, b) = (numbers(n, 14), numbers(n, 15));
    let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    for y in [Y, A, B] {
        put(&card, A, &a);
        put(&card, B, &b);
        space.ok(&Commands::new().raw(0x17, 0, &[D(y), D(A), D(B), D(n as u64)]));
        assert_eq!(get(&card, y, n), expected);
    }
}

#[test]
fn meanpool() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let (batch, seq, c) = (3, 17, 70);
    let x = numbers(batch * seq * c, 16);
    // The last sequence has no tokens.
    let mask: Vec<f32> = (0..batch * seq)
        .map(|i| if i < 2 * seq && i % 3 != 1 { 1.0 } else { 0.0 })
        .collect();
    put(&card, X, &x);
    put(&card, A, &mask);
    let fields = [
        D(Y),
        D(X),
        D(A),
        W(batch as u32),
        W(seq as u32),
        W(c as u32),
        W(0),
    ];
    space.ok(&Commands::new().raw(0x18, 0, &fields));
    let mut expected = Vec::new();
    for b in 0..batch {
        let tokens: Vec<usize> = (0..seq).filter(|t| mask[b * seq + t] == 1.0).collect();
        for j in 0..c {
            let sum: f64 = tokens
                .iter()
                .map(|t| f64::from(x[(b * seq + t) * c + j]))
                .sum();
            expected.push(if tokens.is_empty() {
                0.0
            } else {
                sum / tokens.len() as f64
            });
        }
    }
    close("y", &get(&card, Y, batch * c), &expected);
}

#[test]
fn normalize() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for (r, c) in SHAPES {
        let mut x = numbers(r * c, 17);
        x[..c].fill(0.0);
        put(&card, X, &x);
        space.ok(&Commands::new().raw(0x19, 0, &[D(X), D(X), W(r as u32), W(c as u32)]));
        let expected = rows(&x, c, |row| {
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
            row.iter().map(|v| v / norm).collect()
        });
        close("y", &get(&card, X, r * c), &expected);
    }
}
