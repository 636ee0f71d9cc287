// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The transformer as commands of the NPU.

use npu::CommandBuffer;
use npu::command::{Attention, Gather, Gemm, LayerNorm, MeanPool};

use super::config::Config;
use super::layout::Addresses;

/// Where a batch's vectors are, as device addresses. A row has as many elements as a token's
/// vector has, if nothing else is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activations {
    /// In: a token number for each row, u32.
    pub ids: u64,
    /// In: a token type for each row, u32.
    pub types: u64,
    /// In: a position for each row, u32.
    pub positions: u64,
    /// In: a 1 or 0 for each row, f32.
    pub mask: u64,
    /// What goes from layer to layer.
    pub hidden: u64,
    /// Queries of attention.
    pub query: u64,
    /// Keys of attention.
    pub key: u64,
    /// Values of attention.
    pub value: u64,
    /// What attention finds.
    pub context: u64,
    /// What is added to `hidden`.
    pub change: u64,
    /// The wide rows of the feed-forward half: `intermediate_size` elements.
    pub inner: u64,
    /// Out: a row for each sentence.
    pub output: u64,
    /// Out: two u64, the device's time before and after.
    pub times: u64,
}

/// The most work for one job, in multiplications: jobs must be short enough for the device's
/// timeout, and leave the device to others.
const JOB_WORK: u64 = 100_000_000;

/// What an element of a simple command counts as, in multiplications.
const SIMPLE: u64 = 8;

/// Writes the commands for `batch` sentences of `seq` tokens, cut into jobs that run in order.
pub fn plan(
    config: &Config,
    weights: &Addresses,
    at: &Activations,
    batch: usize,
    seq: usize,
) -> Vec<CommandBuffer> {
    let mut plan = Plan {
        config,
        weights,
        at,
        batch: batch as u32,
        seq: seq as u32,
        rows: (batch * seq) as u32,
        hidden: config.hidden_size as u32,
        jobs: vec![CommandBuffer::new()],
        work: 0,
    };
    plan.step(0).timestamp(at.times);
    plan.embeddings();
    for layer in 0..config.num_hidden_layers {
        plan.attention(&format!("encoder.layer.{layer}.attention."));
        plan.feed_forward(&format!("encoder.layer.{layer}."));
    }
    plan.sentences();
    plan.step(0).timestamp(at.times + 8);
    plan.jobs
}

struct Plan<'a> {
    config: &'a Config,
    weights: &'a Addresses,
    at: &'a Activations,
    batch: u32,
    seq: u32,
    rows: u32,
    hidden: u32,
    jobs: Vec<CommandBuffer>,
    /// Of the last job.
    work: u64,
}

impl Plan<'_> {
    /// The job for a command of so much work.
    fn step(&mut self, work: u64) -> &mut CommandBuffer {
        if self.work > 0 && self.work + work > JOB_WORK {
            self.jobs.push(CommandBuffer::new());
            self.work = 0;
        }
        self.work += work;
        self.jobs.last_mut().expect("there is always one")
    }

    /// A simple command on `elements`.
    fn simple(&mut self, elements: u64) -> &mut CommandBuffer {
        self.step(elements * SIMPLE)
    }

    /// Elements of all rows of `cols`.
    fn elements(&self, cols: u32) -> u64 {
        u64::from(self.rows) * u64::from(cols)
    }

    /// y = x * transpose(weight) + bias, with `inputs` and `outputs` elements in a row.
    fn linear(&mut self, name: &str, y: u64, x: u64, inputs: u32, outputs: u32) {
        let weight = self.weights.of(&format!("{name}.weight"));
        let bias = self.weights.of(&format!("{name}.bias"));
        let (rows, count) = (self.rows, self.elements(outputs));
        self.step(count * u64::from(inputs)).gemm(&Gemm {
            c: y,
            a: x,
            b: weight,
            m: rows,
            n: outputs,
            k: inputs,
            b_transposed: true,
            ..Gemm::default()
        });
        self.simple(count).bias(y, y, bias, rows, outputs);
    }

    /// hidden = norm(x).
    fn norm(&mut self, name: &str, x: u64) {
        let norm = LayerNorm {
            y: self.at.hidden,
            x,
            gamma: self.weights.of(&format!("{name}.weight")),
            beta: self.weights.of(&format!("{name}.bias")),
            rows: self.rows,
            cols: self.hidden,
            eps: self.config.layer_norm_eps as f32,
        };
        self.simple(self.elements(self.hidden)).layer_norm(&norm);
    }

    /// hidden = norm(hidden + change).
    fn add_and_norm(&mut self, name: &str) {
        let (at, count) = (self.at, self.elements(self.hidden));
        self.simple(count)
            .add(at.change, at.change, at.hidden, count);
        self.norm(name, at.change);
    }

    /// hidden = norm(word + position + type).
    fn embeddings(&mut self) {
        let (at, config) = (self.at, self.config);
        let count = self.elements(self.hidden);
        let tables = [
            ("word", at.change, at.ids, config.vocab_size),
            (
                "position",
                at.query,
                at.positions,
                config.max_position_embeddings,
            ),
            ("token_type", at.key, at.types, config.type_vocab_size),
        ];
        for (name, y, index, table_rows) in tables {
            let gather = Gather {
                y,
                table: self
                    .weights
                    .of(&format!("embeddings.{name}_embeddings.weight")),
                index,
                count: self.rows,
                cols: self.hidden,
                table_rows: table_rows as u32,
            };
            self.simple(count).gather(&gather);
        }
        self.simple(count)
            .add(at.change, at.change, at.query, count);
        self.simple(count).add(at.change, at.change, at.key, count);
        self.norm("embeddings.LayerNorm", at.change);
    }

    /// The first half of a layer.
    fn attention(&mut self, prefix: &str) {
        let (at, hidden, head) = (self.at, self.hidden, self.config.head_size());
        for (name, y) in [("query", at.query), ("key", at.key), ("value", at.value)] {
            self.linear(
                &format!("{prefix}self.{name}"),
                y,
                at.hidden,
                hidden,
                hidden,
            );
        }
        let attention = Attention {
            out: at.context,
            q: at.query,
            k: at.key,
            v: at.value,
            mask: at.mask,
            batch: self.batch,
            seq: self.seq,
            heads: self.config.num_attention_heads as u32,
            head_dim: head as u32,
            ld: 0,
            scale: 1.0 / (head as f32).sqrt(),
        };
        let work = 2 * self.elements(hidden) * u64::from(self.seq);
        self.step(work).attention(&attention);
        self.linear(
            &format!("{prefix}output.dense"),
            at.change,
            at.context,
            hidden,
            hidden,
        );
        self.add_and_norm(&format!("{prefix}output.LayerNorm"));
    }

    /// The second half of a layer.
    fn feed_forward(&mut self, prefix: &str) {
        let (at, hidden) = (self.at, self.hidden);
        let inner = self.config.intermediate_size as u32;
        let count = self.elements(inner);
        self.linear(
            &format!("{prefix}intermediate.dense"),
            at.inner,
            at.hidden,
            hidden,
            inner,
        );
        self.simple(count).gelu(at.inner, at.inner, count);
        self.linear(
            &format!("{prefix}output.dense"),
            at.change,
            at.inner,
            inner,
            hidden,
        );
        self.add_and_norm(&format!("{prefix}output.LayerNorm"));
    }

    /// output = a vector of length 1 for each sentence.
    fn sentences(&mut self) {
        let (at, batch, hidden) = (self.at, self.batch, self.hidden);
        let pool = MeanPool {
            y: at.output,
            x: at.hidden,
            mask: at.mask,
            batch,
            seq: self.seq,
            cols: hidden,
        };
        self.simple(self.elements(hidden)).mean_pool(&pool);
        let count = u64::from(batch) * u64::from(hidden);
        self.simple(count)
            .normalize(at.output, at.output, batch, hidden);
    }
}
