// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ATTENTION`, against naive f64.

use crate::arithmetic::{close, get, numbers, put};
use crate::card::*;
use crate::tables::*;

const Q: u64 = 0x10_0000;
const K: u64 = 0x20_0000;
const V: u64 = 0x30_0000;
const MASK: u64 = 0x40_0000;
const OUT: u64 = 0x50_0000;

#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    seq: usize,
    heads: usize,
    dim: usize,
    ld: usize,
}

impl Shape {
    fn width(&self) -> usize {
        if self.ld == 0 {
            self.heads * self.dim
        } else {
            self.ld
        }
    }

    fn len(&self) -> usize {
        self.batch * self.seq * self.width()
    }
}

fn reference(s: &Shape, q: &[f32], k: &[f32], v: &[f32], mask: &[f32], scale: f64) -> Vec<f64> {
    let width = s.width();
    let mut out = vec![f64::NAN; s.len()];
    for b in 0..s.batch {
        for h in 0..s.heads {
            let at = |m: &[f32], t: usize, d: usize| {
                f64::from(m[(b * s.seq + t) * width + h * s.dim + d])
            };
            for i in 0..s.seq {
                let score =
                    |j: usize| scale * (0..s.dim).map(|d| at(q, i, d) * at(k, j, d)).sum::<f64>();
                let counts: Vec<usize> =
                    (0..s.seq).filter(|j| mask[b * s.seq + j] != 0.0).collect();
                let top = counts.iter().map(|j| score(*j)).fold(f64::MIN, f64::max);
                let weight = |j: usize| (score(j) - top).exp();
                let sum: f64 = counts.iter().map(|j| weight(*j)).sum();
                for d in 0..s.dim {
                    let total: f64 = counts.iter().map(|j| weight(*j) * at(v, *j, d)).sum();
                    let value = if counts.is_empty() { 0.0 } else { total / sum };
                    out[(b * s.seq + i) * width + h * s.dim + d] = value;
                }
            }
        }
    }
    out
}

fn check(space: &Space<'_>, s: &Shape, out: u64, mask: Option<Vec<f32>>) {
    let card = space.card;
    let (q, k, v) = (
        numbers(s.len(), 1),
        numbers(s.len(), 2),
        numbers(s.len(), 3),
    );
    put(card, Q, &q);
    put(card, K, &k);
    put(card, V, &v);
    let before = numbers(s.len(), 4);
    if out == OUT {
        put(card, OUT, &before);
    }
    let scale = 0.7;
    let all = vec![1.0; s.batch * s.seq];
    if let Some(mask) = &mask {
        put(card, MASK, mask);
    }
    let size = |n: usize| W(n as u32);
    let fields = [
        D(out),
        D(Q),
        D(K),
        D(V),
        D(if mask.is_some() { MASK } else { 0 }),
        size(s.batch),
        size(s.seq),
        size(s.heads),
        size(s.dim),
        size(s.ld),
        F(scale),
    ];
    space.ok(&Commands::new().raw(0x16, 0, &fields));
    let expected = reference(
        s,
        &q,
        &k,
        &v,
        mask.as_ref().unwrap_or(&all),
        f64::from(scale),
    );
    let actual = get(card, out, s.len());
    for r in 0..s.batch * s.seq {
        let row = r * s.width()..r * s.width() + s.heads * s.dim;
        close("out", &actual[row.clone()], &expected[row.clone()]);
        if out == OUT {
            let gap = row.end..(r + 1) * s.width();
            assert_eq!(
                actual[gap.clone()],
                before[gap],
                "what lies between rows stays"
            );
        }
    }
}

#[test]
fn shapes() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    for s in [
        Shape {
            batch: 1,
            seq: 1,
            heads: 1,
            dim: 1,
            ld: 0,
        },
        Shape {
            batch: 2,
            seq: 13,
            heads: 3,
            dim: 8,
            ld: 0,
        },
        Shape {
            batch: 2,
            seq: 9,
            heads: 2,
            dim: 5,
            ld: 17,
        },
        Shape {
            batch: 1,
            seq: 100,
            heads: 1,
            dim: 32,
            ld: 32,
        },
    ] {
        check(&space, &s, OUT, None);
        let mask: Vec<f32> = (0..s.batch * s.seq)
            .map(|i| if i % 4 == 1 { 0.0 } else { 1.0 })
            .collect();
        check(&space, &s, OUT, Some(mask));
    }
}

#[test]
fn in_place() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let s = Shape {
        batch: 2,
        seq: 13,
        heads: 3,
        dim: 8,
        ld: 0,
    };
    for out in [Q, K, V] {
        check(&space, &s, out, None);
    }
}

#[test]
fn a_sequence_without_tokens_gives_zeros() {
    let card = Card::new();
    card.start();
    let space = Space::new(&card).data();
    let s = Shape {
        batch: 2,
        seq: 5,
        heads: 2,
        dim: 4,
        ld: 0,
    };
    let mask = (0..10).map(|i| if i < 5 { 0.0 } else { 1.0 }).collect();
    check(&space, &s, OUT, Some(mask));
}
