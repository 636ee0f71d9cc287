// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A tiny model with random weights, in files as a real one has them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::model::config::Config;
use crate::model::layout::groups;

const CONFIG: &str = r#"{
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
    "vocab_size": 30, "max_position_embeddings": 12, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "hidden_act": "gelu", "model_type": "bert"
}"#;

/// A directory with a model, removed when dropped.
pub struct TinyModel {
    directory: PathBuf,
    pub config: Config,
}

impl TinyModel {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("npu-tiny-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("config.json"), CONFIG).unwrap();
        std::fs::write(
            directory.join("sentence_bert_config.json"),
            r#"{"max_seq_length": 10}"#,
        )
        .unwrap();
        std::fs::write(directory.join("tokenizer.json"), tokenizer()).unwrap();
        let config = Config::load(&directory).unwrap();
        let model = Self { directory, config };
        model.write_weights();
        model
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write_weights(&self) {
        let mut random = Random(1);
        let mut tensors = Vec::new();
        for tensor in groups(&self.config)
            .into_iter()
            .flat_map(|group| group.tensors)
        {
            // Norms near 1, so that values stay in range; everything else near 0.
            let centre = if tensor.name.ends_with("LayerNorm.weight") {
                1.0
            } else {
                0.0
            };
            let count = tensor.shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|_| centre + random.next()).collect();
            tensors.push((tensor.name, tensor.shape, values));
        }
        let views = tensors.iter().map(|(name, shape, values)| {
            let bytes = bytemuck::cast_slice(values);
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        std::fs::write(self.file("model.safetensors"), bytes).unwrap();
    }
}

impl Drop for TinyModel {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Numbers between -0.5 and 0.5.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}

/// A WordPiece tokeniser of a few words, padding and truncating as the real one's file says.
fn tokenizer() -> String {
    let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog", "s", "##s", "##ing", "sit", ".",
    ];
    let vocabulary: serde_json::Map<String, serde_json::Value> = words
        .iter()
        .enumerate()
        .map(|(i, word)| ((*word).to_string(), i.into()))
        .collect();
    serde_json::json!({
        "version": "1.0",
        "truncation": {
            "max_length": 128, "strategy": "LongestFirst", "stride": 0, "direction": "Right"
        },
        "padding": {
            "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
        },
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary
        }
    })
    .to_string()
}
