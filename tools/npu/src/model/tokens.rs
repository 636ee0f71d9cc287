// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From sentences to token numbers, by the model's `tokenizer.json`.

use std::path::Path;

use tokenizers::{Tokenizer, TruncationParams};

use super::config::Config;
use super::{Error, Result, format_error};

/// A sentence as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Token numbers, the special first and last ones included.
    pub ids: Vec<u32>,
    /// The type of each token: which part of a pair it is of.
    pub types: Vec<u32>,
}

/// Reads the tokeniser of a model's directory and applies it to sentences.
pub fn tokenise(directory: &Path, config: &Config, sentences: &[String]) -> Result<Vec<Tokens>> {
    let path = directory.join("tokenizer.json");
    let mut tokenizer = Tokenizer::from_file(&path).map_err(|error| format_error(&path, error))?;
    // Batches are padded later, to what each needs.
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(Some(TruncationParams {
            max_length: config.max_tokens,
            ..Default::default()
        }))
        .map_err(|error| format_error(&path, error))?;
    sentences
        .iter()
        .map(|sentence| {
            let encoding = tokenizer
                .encode_fast(sentence.as_str(), true)
                .map_err(|error| Error::Tokens {
                    sentence: sentence.clone(),
                    problem: error.to_string(),
                })?;
            let tokens = Tokens {
                ids: encoding.get_ids().into(),
                types: encoding.get_type_ids().into(),
            };
            if tokens
                .ids
                .iter()
                .any(|id| *id as usize >= config.vocab_size)
            {
                return Err(format_error(&path, "its tokens are not the model's"));
            }
            Ok(tokens)
        })
        .collect()
}

/// Sentences of similar length, padded to the same one.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Which sentences these are.
    pub members: Vec<usize>,
    /// Tokens of each, padding included.
    pub length: usize,
    /// Token numbers, 0 for padding: a row for each sentence, as below.
    pub ids: Vec<u32>,
    /// Token types.
    pub types: Vec<u32>,
    /// Positions.
    pub positions: Vec<u32>,
    /// 1 for a token, 0 for padding.
    pub mask: Vec<f32>,
}

impl Batch {
    /// Sorts sentences by length into batches of at most `max_rows` tokens, padding included. A
    /// sentence that is longer is a batch of its own.
    pub fn split(sentences: &[Tokens], max_rows: usize) -> Vec<Self> {
        let mut order: Vec<usize> = (0..sentences.len()).collect();
        order.sort_by_key(|index| sentences[*index].ids.len());
        let mut batches: Vec<Vec<usize>> = Vec::new();
        for index in order {
            let length = sentences[index].ids.len();
            match batches.last_mut() {
                Some(batch) if (batch.len() + 1) * length <= max_rows => batch.push(index),
                _ => batches.push(vec![index]),
            }
        }
        batches
            .into_iter()
            .map(|members| Self::pad(sentences, members))
            .collect()
    }

    fn pad(sentences: &[Tokens], members: Vec<usize>) -> Self {
        let lengths = members.iter().map(|index| sentences[*index].ids.len());
        let length = lengths.max().unwrap_or(0);
        let mut batch = Self {
            length,
            ids: Vec::new(),
            types: Vec::new(),
            positions: Vec::new(),
            mask: Vec::new(),
            members,
        };
        for index in &batch.members {
            let tokens = &sentences[*index];
            for position in 0..length {
                batch
                    .ids
                    .push(tokens.ids.get(position).copied().unwrap_or(0));
                batch
                    .types
                    .push(tokens.types.get(position).copied().unwrap_or(0));
                batch.positions.push(position as u32);
                batch.mask.push(if position < tokens.ids.len() {
                    1.0
                } else {
                    0.0
                });
            }
        }
        batch
    }

    /// Tokens of all sentences, padding included.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }
}
