// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The model without a device: a tiny one, and an interpreter of commands.

mod interpreter;
mod tiny;

use self::interpreter::Interpreter;
use self::tiny::TinyModel;
use super::config::Config;
use super::layout::{Addresses, groups};
use super::plan::{Activations, plan};
use super::tokens::{Batch, Tokens, tokenise};
use super::weights::Weights;
use super::{reference, vectors};

const BASE: u64 = 0x7_0000_0000;

/// Sentences of different lengths, token by token.
fn sentences() -> Vec<Tokens> {
    [
        &[2, 9, 3][..],
        &[2, 17, 29, 0, 5, 11, 3],
        &[2, 4, 4, 3],
        &[2, 8, 7, 6, 5, 4, 3, 2, 1, 3],
    ]
    .iter()
    .map(|ids| Tokens {
        ids: ids.to_vec(),
        types: ids.iter().map(|id| u32::from(*id == 5)).collect(),
    })
    .collect()
}

/// Runs a batch as the engine does, but on the interpreter.
fn interpret(model: &TinyModel, batch: &Batch) -> Vec<Vec<f32>> {
    let (config, weights) = (&model.config, Weights::open(model.path()).unwrap());
    let mut memory = Interpreter::new(BASE, 1 << 20);
    let mut next = BASE;
    let mut take = |size: usize| {
        let at = next.next_multiple_of(64);
        next = at + size as u64;
        at
    };
    let mut addresses = Addresses::default();
    for group in groups(config) {
        let va = take(group.size);
        addresses.add(&group, va);
        for tensor in &group.tensors {
            let mut bytes = vec![0; tensor.size()];
            weights
                .read_bytes(&tensor.name, &tensor.shape, 0, &mut bytes)
                .unwrap();
            memory.write(va + tensor.offset as u64, &bytes);
        }
    }
    let rows = batch.rows();
    let [hidden, query, key, value, context, change] =
        [(); 6].map(|()| take(rows * config.hidden_size * 4));
    let [ids, types, positions, mask] = [(); 4].map(|()| take(rows * 4));
    let (inner, output) = (
        take(rows * config.intermediate_size * 4),
        take(batch.members.len() * config.hidden_size * 4),
    );
    let times = take(16);
    let at = Activations {
        ids,
        types,
        positions,
        mask,
        hidden,
        query,
        key,
        value,
        context,
        change,
        inner,
        output,
        times,
    };
    memory.write(ids, bytemuck::cast_slice(&batch.ids));
    memory.write(types, bytemuck::cast_slice(&batch.types));
    memory.write(positions, bytemuck::cast_slice(&batch.positions));
    memory.write(mask, bytemuck::cast_slice(&batch.mask));
    for job in plan(config, &addresses, &at, batch.members.len(), batch.length) {
        memory.run(job.as_bytes());
    }
    assert_eq!(memory.read::<u64>(times, 2), [1000, 2000]);
    let values = memory.read::<f32>(output, batch.members.len() * config.hidden_size);
    values
        .chunks_exact(config.hidden_size)
        .map(<[f32]>::to_vec)
        .collect()
}

#[test]
fn the_commands_compute_what_the_reference_does() {
    let model = TinyModel::new();
    let sentences = sentences();
    let expected = reference::vectors(model.path(), &model.config, &sentences).unwrap();
    for vector in &expected {
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
    // All in one batch, two batches, and each by itself.
    for (max_rows, count) in [(1000, 1), (20, 2), (1, 4)] {
        let batches = Batch::split(&sentences, max_rows);
        assert_eq!(batches.len(), count);
        let mut found = vec![Vec::new(); sentences.len()];
        for batch in &batches {
            for (member, vector) in batch.members.iter().zip(interpret(&model, batch)) {
                found[*member] = vector;
            }
        }
        let difference = reference::largest_difference(&found, &expected).unwrap();
        assert!(difference < 1e-5, "{difference}");
    }
    assert!(reference::largest_difference(&expected[..2], &expected[2..]).unwrap() > 0.01);
}

#[test]
fn differences_are_not_overlooked() {
    let rows = |values: [f32; 3]| vec![values.to_vec()];
    let plain = rows([1.0, 2.0, 3.0]);
    let difference = |other: Vec<Vec<f32>>| reference::largest_difference(&plain, &other);
    assert_eq!(difference(rows([1.0, 2.5, 2.75])).unwrap(), 0.5);
    assert!(difference(rows([1.0, f32::NAN, 9.0])).unwrap().is_nan());
    assert!(difference(vec![vec![1.0]]).is_err());
    assert!(difference(Vec::new()).is_err());
}

#[test]
fn jobs_are_cut_but_not_changed() {
    let config = Config {
        hidden_size: 384,
        intermediate_size: 1536,
        num_hidden_layers: 6,
        num_attention_heads: 12,
        vocab_size: 30522,
        max_position_embeddings: 512,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        hidden_act: "gelu".into(),
        max_tokens: 256,
    };
    let mut addresses = Addresses::default();
    groups(&config)
        .iter()
        .for_each(|group| addresses.add(group, 0));
    let jobs = |batch, seq| plan(&config, &addresses, &Activations::default(), batch, seq);
    let bytes = |batch, seq| {
        jobs(batch, seq)
            .iter()
            .map(npu::CommandBuffer::len)
            .sum::<usize>()
    };
    let (small, large) = (jobs(1, 4), jobs(16, 64));
    assert_eq!(small.len(), 1);
    assert!(large.len() > 20 && large.iter().all(|job| !job.is_empty()));
    assert_eq!(bytes(1, 4), bytes(16, 64));
    assert!(bytes(16, 64) < npu::CommandBuffer::MAX_LEN);
}

#[test]
fn pieces_cover_a_group() {
    let model = TinyModel::new();
    for group in groups(&model.config) {
        for chunk in [64, 1000, 1 << 20] {
            let mut seen = vec![0u8; group.size];
            for start in (0..group.size).step_by(chunk) {
                let end = group.size.min(start + chunk);
                for piece in group.pieces(start..end) {
                    let at = start + piece.to;
                    assert_eq!(at, piece.tensor.offset + piece.from);
                    assert!(at + piece.length <= end);
                    seen[at..at + piece.length]
                        .iter_mut()
                        .for_each(|seen| *seen += 1);
                }
            }
            for tensor in &group.tensors {
                assert!(
                    seen[tensor.offset..][..tensor.size()]
                        .iter()
                        .all(|seen| *seen == 1)
                );
            }
            let total: usize = group.tensors.iter().map(|tensor| tensor.size()).sum();
            assert_eq!(seen.iter().filter(|seen| **seen > 0).count(), total);
        }
    }
}

#[test]
fn sentences_become_tokens() {
    let model = TinyModel::new();
    assert_eq!(model.config.max_tokens, 10);
    let sentences = ["The cats sit.", "a", "", "cat ".repeat(50).as_str()].map(String::from);
    let tokens = tokenise(model.path(), &model.config, &sentences).unwrap();
    assert_eq!(tokens[0].ids, [2, 4, 5, 8, 10, 11, 3]);
    assert_eq!(tokens[0].types, [0; 7]);
    assert_eq!(tokens[1].ids, [2, 1, 3]);
    assert_eq!(tokens[2].ids, [2, 3]);
    assert_eq!(tokens[3].ids, [2, 5, 5, 5, 5, 5, 5, 5, 5, 3]);
}

#[test]
fn batches_are_padded() {
    let batches = Batch::split(&sentences(), 14);
    let members: Vec<&[usize]> = batches
        .iter()
        .map(|batch| batch.members.as_slice())
        .collect();
    assert_eq!(members, [&[0, 2][..], &[1], &[3]]);
    assert_eq!(batches[0].length, 4);
    assert_eq!(batches[0].ids, [2, 9, 3, 0, 2, 4, 4, 3]);
    assert_eq!(batches[0].mask, [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    assert_eq!(batches[0].positions, [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(batches[1].types, [0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn broken_models_are_refused() {
    let model = TinyModel::new();
    let weights = Weights::open(model.path()).unwrap();
    let name = "encoder.layer.0.output.dense.bias";
    let wrong_shape = weights.check(name, &[25]).unwrap_err().to_string();
    assert!(
        wrong_shape.ends_with("has shape [24], not [25]"),
        "{wrong_shape}"
    );
    assert!(weights.check("pooler.dense.bias", &[24]).is_err());

    let file = model.file("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    for length in [0, 7, 8, 100, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..length]).unwrap();
        assert!(Weights::open(model.path()).is_err(), "{length} bytes");
    }

    let config = std::fs::read_to_string(model.file("config.json")).unwrap();
    let changes = [
        ("\"gelu\"", "\"relu\""),
        ("attention_heads\": 3", "attention_heads\": 5"),
        ("40", "0"),
    ];
    for (old, new) in changes {
        std::fs::write(model.file("config.json"), config.replace(old, new)).unwrap();
        assert!(Config::load(model.path()).is_err(), "{new}");
    }
    assert!(vectors::load(&model.file("config.json"), &[]).is_err());
}
