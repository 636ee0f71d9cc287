// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A transformer that reads a text: in each round a few more tokens go through all layers, each of
//! which adds their keys and values to its cache and looks at all that are there.
//!
//! The device does all of it. The CPU computes one token of each layer in each round again, from what
//! the device had before that layer, so that no difference grows from layer to layer.

mod shape;

use std::ops::Range;

use npu::command::{Gemm, LayerNorm};

use self::shape::{LAYERS, Shape, Tensor};
use super::contents::Contents;
use super::memory::Memory;
use super::op::Op;
use super::random::mix;
use super::{Error, Result, Work};

/// The most numbers of a matrix that one command reads: larger ones are read in pieces, so that jobs stay
/// short and the device asks for its memory piece by piece.
const PIECE: usize = 1 << 18;

/// Added to the variance by layer norms.
const EPSILON: f32 = 1e-5;

/// Largest difference between the device's numbers, which are about 1, and the CPU's.
const TOLERANCE: f64 = 1e-3;

/// A transformer with weights of no meaning.
#[derive(Debug)]
pub struct Transformer {
    shape: Shape,
    memory: Memory,
    /// What goes into the first layer in each round, then what comes out of each layer.
    beside: Memory,
    seed: u64,
}

impl Transformer {
    /// Takes the memory for a transformer of `size` bytes that reads in so many rounds.
    pub fn new(size: u64, rounds: usize, seed: u64) -> Result<Self> {
        let shape = Shape::new(size, rounds)?;
        let logged = rounds * (1 + LAYERS) * shape.tokens * shape.hidden;
        Ok(Self {
            memory: Memory::new(shape.size() as u64)?,
            beside: Memory::new(logged as u64 * 4)?,
            shape,
            seed,
        })
    }

    /// The address of the data's number at some place.
    fn at(&self, place: usize) -> u64 {
        self.memory.start() + place as u64 * 4
    }

    /// Where all tokens of a round are as they come out of a layer, 0 for what goes into the first.
    fn log(&self, round: usize, layer: usize) -> u64 {
        let place = (round * (1 + LAYERS) + layer) * self.shape.tokens * self.shape.hidden;
        self.beside.start() + place as u64 * 4
    }

    /// Numbers of a vector of all tokens.
    fn count(&self) -> u64 {
        (self.shape.tokens * self.shape.hidden) as u64
    }

    fn weight(&self, layer: usize, tensor: Tensor) -> u64 {
        self.at(self.shape.weight(layer, tensor))
    }

    /// What a weight is.
    fn contents(&self, layer: usize, tensor: Tensor) -> Contents {
        let seed = mix(self.seed ^ (((layer * 16 + tensor as usize) as u64) << 32));
        match tensor {
            Tensor::Factor1 | Tensor::Factor2 => Contents::about(seed, 1.0, 0.25),
            Tensor::Summand1 | Tensor::Summand2 => Contents::about(seed, 0.0, 0.25),
            // So that what comes out is about as large as what goes in.
            _ => {
                let (_, inputs) = self.shape.dimensions(tensor);
                Contents::about(seed, 0.0, (3.0 / inputs as f32).sqrt())
            }
        }
    }

    /// y = x * transpose(weight), for all tokens.
    fn linear(&self, ops: &mut Vec<Op>, y: u64, x: u64, layer: usize, tensor: Tensor) {
        let (outputs, inputs) = self.shape.dimensions(tensor);
        let step = (PIECE / inputs).max(1);
        for first in (0..outputs).step_by(step) {
            ops.push(Op::Gemm(Gemm {
                c: y + first as u64 * 4,
                a: x,
                b: self.weight(layer, tensor) + (first * inputs) as u64 * 4,
                m: self.shape.tokens as u32,
                n: step.min(outputs - first) as u32,
                k: inputs as u32,
                ldc: outputs as u32,
                b_transposed: true,
                ..Default::default()
            }));
        }
    }

    /// Adds to the tokens what a half of a layer makes of them.
    fn join(&self, ops: &mut Vec<Op>, layer: usize, factor: Tensor, summand: Tensor) {
        let (x, change) = (self.at(self.shape.x()), self.at(self.shape.change()));
        ops.push(Op::Add {
            to: x,
            other: change,
            count: self.count(),
        });
        ops.push(Op::LayerNorm(LayerNorm {
            y: x,
            x,
            gamma: self.weight(layer, factor),
            beta: self.weight(layer, summand),
            rows: self.shape.tokens as u32,
            cols: self.shape.hidden as u32,
            eps: EPSILON,
        }));
    }

    /// A layer in a round.
    fn layer(&self, round: usize, layer: usize) -> Vec<Op> {
        let shape = &self.shape;
        let (tokens, hidden) = (shape.tokens, shape.hidden);
        let [x, query, context, change] =
            [shape.x(), shape.query(), shape.context(), shape.change()].map(|at| self.at(at));
        let (scores, inner) = (self.at(shape.scores()), self.at(shape.inner()));
        let (keys, values) = (self.at(shape.keys(layer)), self.at(shape.values(layer)));
        let new = (round * tokens * hidden) as u64 * 4;
        let seen = (round + 1) * tokens;
        let mut ops = Vec::new();
        self.linear(&mut ops, query, x, layer, Tensor::Query);
        self.linear(&mut ops, keys + new, x, layer, Tensor::Key);
        self.linear(&mut ops, values + new, x, layer, Tensor::Value);
        ops.push(Op::Gemm(Gemm {
            c: scores,
            a: query,
            b: keys,
            m: tokens as u32,
            n: seen as u32,
            k: hidden as u32,
            b_transposed: true,
            alpha: self.scale(),
            ..Default::default()
        }));
        ops.push(Op::Softmax {
            at: scores,
            rows: tokens as u32,
            cols: seen as u32,
        });
        ops.push(Op::Gemm(Gemm {
            c: context,
            a: scores,
            b: values,
            m: tokens as u32,
            n: hidden as u32,
            k: seen as u32,
            ..Default::default()
        }));
        self.linear(&mut ops, change, context, layer, Tensor::Output);
        self.join(&mut ops, layer, Tensor::Factor1, Tensor::Summand1);
        self.linear(&mut ops, inner, x, layer, Tensor::Up);
        ops.push(Op::Gelu {
            at: inner,
            count: (tokens * shape.inner) as u64,
        });
        self.linear(&mut ops, change, inner, layer, Tensor::Down);
        self.join(&mut ops, layer, Tensor::Factor2, Tensor::Summand2);
        ops.push(Op::Copy {
            to: self.log(round, layer + 1),
            from: x,
            count: self.count(),
        });
        ops
    }

    fn scale(&self) -> f32 {
        1.0 / (self.shape.hidden as f32).sqrt()
    }
}

/// The larger one of two differences; what is not a number is larger than all.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// What the CPU computes.
impl Transformer {
    /// A weight times a vector.
    fn apply(&self, layer: usize, tensor: Tensor, x: &[f32]) -> Vec<f32> {
        let (outputs, inputs) = self.shape.dimensions(tensor);
        let contents = self.contents(layer, tensor);
        let mut weights = contents.from(0);
        (0..outputs)
            .map(|_| {
                let row = weights.by_ref().take(inputs);
                row.zip(x).map(|(w, x)| w * x).sum()
            })
            .collect()
    }

    /// Adds a change to a token, and norms it.
    fn joined(&self, layer: usize, x: &mut [f32], change: &[f32], norm: (Tensor, Tensor)) {
        let factors = self.contents(layer, norm.0).values(0, x.len());
        let summands = self.contents(layer, norm.1).values(0, x.len());
        x.iter_mut()
            .zip(change)
            .for_each(|(x, change)| *x += change);
        let count = x.len() as f64;
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let variance = x
            .iter()
            .map(|x| (f64::from(*x) - mean).powi(2))
            .sum::<f64>()
            / count;
        let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        for (x, (factor, summand)) in x.iter_mut().zip(factors.iter().zip(&summands)) {
            *x = ((f64::from(*x) - mean) * scale) as f32 * factor + summand;
        }
    }

    /// A token's row of what the device has.
    fn row(&self, memory: &Memory, at: u64, token: usize) -> Result<Vec<f32>> {
        let hidden = self.shape.hidden;
        memory.read(at + (token * hidden) as u64 * 4, hidden)
    }

    /// How far the device's key, value or result of one token is from what it should be.
    fn difference(&self, round: usize, layer: usize, token: usize) -> Result<f64> {
        let shape = &self.shape;
        let mut x = self.row(&self.beside, self.log(round, layer), token)?;
        let far = |found: &[f32], expected: &[f32]| {
            let pairs = found.iter().zip(expected);
            let differences = pairs.map(|(found, expected)| f64::from((found - expected).abs()));
            differences.fold(0.0, worse)
        };
        let own = round * shape.tokens + token;
        let (keys, values) = (self.at(shape.keys(layer)), self.at(shape.values(layer)));
        let key = self.row(&self.memory, keys, own)?;
        let value = self.row(&self.memory, values, own)?;
        let mut worst = vec![
            far(&key, &self.apply(layer, Tensor::Key, &x)),
            far(&value, &self.apply(layer, Tensor::Value, &x)),
        ];

        let query = self.apply(layer, Tensor::Query, &x);
        let mut scores = Vec::new();
        for seen in 0..(round + 1) * shape.tokens {
            let key = self.row(&self.memory, keys, seen)?;
            let score: f32 = query.iter().zip(&key).map(|(q, k)| q * k).sum();
            scores.push(f64::from(score * self.scale()).exp());
        }
        let sum: f64 = scores.iter().sum();
        let mut context = vec![0.0; shape.hidden];
        for (seen, score) in scores.iter().enumerate() {
            let value = self.row(&self.memory, values, seen)?;
            let part = (score / sum) as f32;
            context
                .iter_mut()
                .zip(&value)
                .for_each(|(c, v)| *c += part * v);
        }
        let change = self.apply(layer, Tensor::Output, &context);
        self.joined(layer, &mut x, &change, (Tensor::Factor1, Tensor::Summand1));

        let mut inner = self.apply(layer, Tensor::Up, &x);
        let half = std::f64::consts::FRAC_1_SQRT_2;
        for value in &mut inner {
            *value = (f64::from(*value) * 0.5 * (1.0 + libm::erf(f64::from(*value) * half))) as f32;
        }
        let change = self.apply(layer, Tensor::Down, &inner);
        self.joined(layer, &mut x, &change, (Tensor::Factor2, Tensor::Summand2));
        let found = self.row(&self.beside, self.log(round, layer + 1), token)?;
        worst.push(far(&found, &x));
        Ok(worst.into_iter().fold(0.0, worse))
    }
}

impl Work for Transformer {
    fn data(&self) -> Range<u64> {
        self.memory.range()
    }

    fn beside(&self) -> Range<u64> {
        self.beside.range()
    }

    fn prepare(&self) -> Result {
        for layer in 0..LAYERS {
            for tensor in Tensor::ALL {
                let (rows, cols) = self.shape.dimensions(tensor);
                let contents = self.contents(layer, tensor);
                self.memory
                    .fill(self.weight(layer, tensor), &contents, 0, rows * cols)?;
            }
        }
        for round in 0..self.shape.rounds {
            let contents = Contents::about(mix(self.seed + round as u64), 0.0, 1.75);
            let count = self.count() as usize;
            self.beside.fill(self.log(round, 0), &contents, 0, count)?;
        }
        Ok(())
    }

    fn ops(&self) -> Box<dyn Iterator<Item = Op> + '_> {
        Box::new((0..self.shape.rounds).flat_map(move |round| {
            let enter = Op::Copy {
                to: self.at(self.shape.x()),
                from: self.log(round, 0),
                count: self.count(),
            };
            let layers = (0..LAYERS).flat_map(move |layer| self.layer(round, layer));
            std::iter::once(enter).chain(layers)
        }))
    }

    fn check(&self) -> Result<String> {
        let mut most = 0.0f64;
        for round in 0..self.shape.rounds {
            for layer in 0..LAYERS {
                let token = (round * 7 + layer * 5) % self.shape.tokens;
                let difference = self.difference(round, layer, token)?;
                if difference.is_nan() || difference > TOLERANCE {
                    return Err(Error::Wrong(format!(
                        "token {token} of round {round} differs by {difference:.1e} after layer {layer}"
                    )));
                }
                most = most.max(difference);
            }
        }
        Ok(format!(
            "a token of each of {LAYERS} layers in {} rounds is as computed by the CPU: largest difference {most:.1e}",
            self.shape.rounds
        ))
    }

    #[cfg(test)]
    fn memories(&self) -> [&Memory; 2] {
        [&self.memory, &self.beside]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operands(work: &Transformer) -> Vec<super::super::op::Operand> {
        work.ops().flat_map(|op| op.operands()).collect()
    }

    #[test]
    fn what_is_read_was_prepared_or_written() {
        let work = Transformer::new(4 << 20, 3, 1).unwrap();
        let (data, start) = (work.data(), work.memory.start());
        // Weights are there from the beginning.
        let mut there = vec![false; ((data.end - data.start) / 4) as usize];
        there[..work.shape.weights()].fill(true);
        for operand in operands(&work) {
            for row in operand.rows().filter(|row| data.contains(&row.start)) {
                assert!(row.end <= data.end);
                let places = ((row.start - start) / 4) as usize..((row.end - start) / 4) as usize;
                if operand.read {
                    assert!(there[places.clone()].iter().all(|there| *there));
                }
                if operand.written {
                    assert!(places.start >= work.shape.weights());
                    there[places].fill(true);
                }
            }
        }
        // The cache is full in the end.
        assert!(there[..work.shape.x()].iter().all(|there| *there));
    }

    #[test]
    fn weights_are_read_in_order_in_each_round() {
        let work = Transformer::new(4 << 20, 3, 1).unwrap();
        let end = work.at(work.shape.weights());
        let reads: Vec<u64> = operands(&work)
            .iter()
            .filter(|operand| operand.at >= work.memory.start() && operand.at < end)
            .map(|operand| operand.at)
            .collect();
        let rounds: Vec<&[u64]> = reads.chunks(reads.len() / 3).collect();
        assert_eq!(rounds.len(), 3);
        assert!(rounds.iter().all(|round| *round == rounds[0]));
        assert!(rounds[0].windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_large_matrix_is_read_in_pieces() {
        let work = Transformer::new(256 << 20, 8, 1).unwrap();
        let mut ops = Vec::new();
        work.linear(&mut ops, 0, 0, 0, Tensor::Up);
        let (outputs, inputs) = work.shape.dimensions(Tensor::Up);
        assert!(ops.len() > 2 && ops.len() <= outputs * inputs / PIECE + 2);
        let rows = ops.iter().map(|op| match op {
            Op::Gemm(gemm) => gemm.n as usize,
            _ => panic!(),
        });
        assert_eq!(rows.sum::<usize>(), outputs);
    }
}
