// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The same transformer on the CPU, to check the NPU against.
//!
//! Written for clarity from the model's definition, apart from [`plan`](super::plan): it takes one
//! sentence at a time without any padding, and computes in f64 with plain loops.

use std::path::Path;
use std::thread;

use super::config::Config;
use super::tokens::Tokens;
use super::weights::Weights;
use super::{Error, Result};

/// Rows of numbers.
type Rows = Vec<Vec<f64>>;

/// A learned linear map: `weight` has a row for each output.
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn load(weights: &Weights, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let shape = [outputs, inputs];
        Ok(Self {
            weight: weights.read_values(&format!("{name}.weight"), &shape, 0, outputs * inputs)?,
            bias: weights.read_values(&format!("{name}.bias"), &[outputs], 0, outputs)?,
        })
    }

    fn apply(&self, input: &[f64]) -> Vec<f64> {
        let rows = self.weight.chunks_exact(input.len());
        rows.zip(&self.bias)
            .map(|(row, bias)| {
                let products = row.iter().zip(input).map(|(w, x)| f64::from(*w) * x);
                products.sum::<f64>() + f64::from(*bias)
            })
            .collect()
    }
}

/// A learned normalisation.
struct Norm {
    factor: Vec<f32>,
    summand: Vec<f32>,
    epsilon: f64,
}

impl Norm {
    fn load(weights: &Weights, name: &str, config: &Config) -> Result<Self> {
        let size = config.hidden_size;
        Ok(Self {
            factor: weights.read_values(&format!("{name}.weight"), &[size], 0, size)?,
            summand: weights.read_values(&format!("{name}.bias"), &[size], 0, size)?,
            epsilon: config.layer_norm_eps,
        })
    }

    fn apply(&self, row: &mut [f64]) {
        let size = row.len() as f64;
        let mean = row.iter().sum::<f64>() / size;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size;
        let scale = 1.0 / (variance + self.epsilon).sqrt();
        for (x, (factor, summand)) in row.iter_mut().zip(self.factor.iter().zip(&self.summand)) {
            *x = (*x - mean) * scale * f64::from(*factor) + f64::from(*summand);
        }
    }
}

/// One layer's weights.
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
    heads: usize,
}

impl Layer {
    fn load(weights: &Weights, config: &Config, index: usize) -> Result<Self> {
        let (size, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear = |part, inputs, outputs| Linear::load(weights, &name(part), inputs, outputs);
        Ok(Self {
            query: linear("attention.self.query", size, size)?,
            key: linear("attention.self.key", size, size)?,
            value: linear("attention.self.value", size, size)?,
            attention_output: linear("attention.output.dense", size, size)?,
            attention_norm: Norm::load(weights, &name("attention.output.LayerNorm"), config)?,
            up: linear("intermediate.dense", size, wide)?,
            down: linear("output.dense", wide, size)?,
            output_norm: Norm::load(weights, &name("output.LayerNorm"), config)?,
            heads: config.num_attention_heads,
        })
    }

    fn apply(&self, tokens: &mut Rows) {
        let found = self.attend(tokens);
        for (token, found) in tokens.iter_mut().zip(found) {
            add(token, &self.attention_output.apply(&found));
            self.attention_norm.apply(token);
            let mut wide = self.up.apply(token);
            wide.iter_mut().for_each(|x| *x = gelu(*x));
            add(token, &self.down.apply(&wide));
            self.output_norm.apply(token);
        }
    }

    /// What each token finds in all tokens.
    fn attend(&self, tokens: &Rows) -> Rows {
        let all = |linear: &Linear| -> Rows { tokens.iter().map(|t| linear.apply(t)).collect() };
        let (queries, keys, values) = (all(&self.query), all(&self.key), all(&self.value));
        let head_size = tokens[0].len() / self.heads;
        let find = |query: &Vec<f64>| {
            let mut found = Vec::with_capacity(query.len());
            for head in 0..self.heads {
                let part = head * head_size..(head + 1) * head_size;
                let scores = keys.iter().map(|key| {
                    dot(&query[part.clone()], &key[part.clone()]) / (head_size as f64).sqrt()
                });
                let shares = softmax(scores.collect());
                found.extend(part.map(|i| {
                    shares
                        .iter()
                        .zip(&values)
                        .map(|(share, value)| share * value[i])
                        .sum::<f64>()
                }));
            }
            found
        };
        queries.iter().map(find).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], summand: &[f64]) {
    to.iter_mut()
        .zip(summand)
        .for_each(|(to, summand)| *to += summand);
}

fn softmax(mut scores: Vec<f64>) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores
        .iter_mut()
        .for_each(|score| *score = (*score - largest).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    scores
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))
}

/// The sum of the three embeddings of each token, normalised.
fn embed(weights: &Weights, config: &Config, sentence: &Tokens) -> Result<Rows> {
    let size = config.hidden_size;
    let row = |name: &str, rows: usize, index: usize| -> Result<Vec<f64>> {
        let name = format!("embeddings.{name}_embeddings.weight");
        let values = weights.read_values(&name, &[rows, size], index * size, size)?;
        Ok(values.into_iter().map(f64::from).collect())
    };
    let norm = Norm::load(weights, "embeddings.LayerNorm", config)?;
    let tokens = sentence.ids.iter().zip(&sentence.types).enumerate();
    tokens
        .map(|(position, (id, kind))| {
            let mut token = row("word", config.vocab_size, *id as usize)?;
            add(
                &mut token,
                &row("position", config.max_position_embeddings, position)?,
            );
            add(
                &mut token,
                &row("token_type", config.type_vocab_size, *kind as usize)?,
            );
            norm.apply(&mut token);
            Ok(token)
        })
        .collect()
}

/// The mean of the tokens, scaled to length 1.
fn pool(tokens: &Rows) -> Vec<f32> {
    let mut mean = vec![0.0; tokens[0].len()];
    tokens.iter().for_each(|token| add(&mut mean, token));
    mean.iter_mut().for_each(|x| *x /= tokens.len() as f64);
    let length = dot(&mean, &mean).sqrt().max(1e-12);
    mean.iter().map(|x| (x / length) as f32).collect()
}

/// Computes the vector of each sentence.
pub fn vectors(directory: &Path, config: &Config, sentences: &[Tokens]) -> Result<Vec<Vec<f32>>> {
    let weights = Weights::open(directory)?;
    let mut states: Vec<Rows> = sentences
        .iter()
        .map(|sentence| embed(&weights, config, sentence))
        .collect::<Result<_>>()?;
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    // A layer's weights at a time: they are most of the memory.
    for index in 0..config.num_hidden_layers {
        let layer = Layer::load(&weights, config, index)?;
        let share = states.len().div_ceil(threads).max(1);
        thread::scope(|scope| {
            for part in states.chunks_mut(share) {
                scope.spawn(|| part.iter_mut().for_each(|state| layer.apply(state)));
            }
        });
    }
    Ok(states.iter().map(pool).collect())
}

/// The largest difference between any two elements; not a number if any is not.
pub fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> Result<f64> {
    let sizes = |rows: &[Vec<f32>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
    if sizes(a) != sizes(b) {
        return Err(Error::Format {
            path: "reference".into(),
            problem: "the vectors have another number or size".into(),
        });
    }
    let differences = a.iter().flatten().zip(b.iter().flatten());
    Ok(differences
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
        .fold(0.0, |most, new| {
            // max() would drop what is not a number.
            if new.is_nan() || new > most {
                new
            } else {
                most
            }
        }))
}
