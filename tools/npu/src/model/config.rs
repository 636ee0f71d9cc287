// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The model's dimensions, from `config.json`.

use std::path::Path;

use serde::Deserialize;

use super::{Result, format_error, read};

/// Dimensions of a BERT model.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Config {
    /// Elements of a token's vector.
    pub hidden_size: usize,
    /// Elements between the two products of a layer's feed-forward half.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Heads of attention.
    pub num_attention_heads: usize,
    /// Tokens known.
    pub vocab_size: usize,
    /// Positions known.
    pub max_position_embeddings: usize,
    /// Token types known.
    pub type_vocab_size: usize,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f64,
    /// The activation function.
    pub hidden_act: String,
    /// The most tokens of a sentence that count; the rest is cut off.
    #[serde(skip)]
    pub max_tokens: usize,
}

/// What `sentence_bert_config.json` adds.
#[derive(Debug, Deserialize)]
struct SentenceConfig {
    max_seq_length: usize,
}

impl Config {
    /// Reads the files of a model's directory.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let mut config: Self =
            serde_json::from_slice(&read(&path)?).map_err(|error| format_error(&path, error))?;
        config.max_tokens = config.max_position_embeddings;

        let extra = directory.join("sentence_bert_config.json");
        if extra.exists() {
            let limit: SentenceConfig = serde_json::from_slice(&read(&extra)?)
                .map_err(|error| format_error(&extra, error))?;
            config.max_tokens = config.max_tokens.min(limit.max_seq_length);
        }
        config
            .check()
            .map_err(|problem| format_error(&path, problem))?;
        Ok(config)
    }

    /// Elements of an attention head.
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            self.hidden_size,
            self.intermediate_size,
            self.num_attention_heads,
            self.vocab_size,
            self.max_tokens,
            self.type_vocab_size,
        ];
        if sizes.iter().any(|size| !(1..=1 << 24).contains(size)) {
            return Err("a dimension is zero or too large".into());
        }
        if self.hidden_size % self.num_attention_heads != 0 {
            return Err("the heads don't divide the hidden size".into());
        }
        if self.max_tokens < 2 {
            return Err("no room for a token between the first and the last one".into());
        }
        if self.hidden_act != "gelu" {
            return Err(format!(
                "activation '{}' is not supported, only gelu",
                self.hidden_act
            ));
        }
        Ok(())
    }
}
