// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The model and the sentences that `npu embed` and `npu reference` share.

use std::fs;
use std::path::PathBuf;

use super::Result;
use crate::model::config::Config;
use crate::model::tokens::{Tokens, tokenise};

/// Sentences for those who give none.
const BUILT_IN: &str = include_str!("../../sentences.txt");

/// Which model, and what to read to it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model's directory: config.json, model.safetensors, tokenizer.json.
    #[arg(long, value_name = "DIR", default_value = "/model")]
    pub model: PathBuf,

    /// A file of sentences, one a line; lines that begin with # don't count.
    #[arg(long, value_name = "TEXT")]
    file: Option<PathBuf>,

    /// Sentences; 16 built-in ones if none are given.
    #[arg(value_name = "SENTENCE")]
    sentences: Vec<String>,
}

/// What [`Args`] name.
#[derive(Debug)]
pub struct Input {
    /// The model's dimensions.
    pub config: Config,
    /// The sentences.
    pub sentences: Vec<String>,
    /// The same, as the model sees them.
    pub tokens: Vec<Tokens>,
}

impl Args {
    /// Reads the model's dimensions and the sentences.
    pub fn load(&self) -> Result<Input> {
        let mut sentences = self.sentences.clone();
        if let Some(path) = &self.file {
            let text =
                fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            sentences.extend(lines(&text));
        } else if sentences.is_empty() {
            sentences.extend(lines(BUILT_IN));
        }
        if sentences.is_empty() {
            return Err("there is no sentence to read".into());
        }
        let config = Config::load(&self.model)?;
        let tokens = tokenise(&self.model, &config, &sentences)?;
        Ok(Input {
            config,
            sentences,
            tokens,
        })
    }
}

fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_do_not_count() {
        let text = "# no\n\n one \r\ntwo # too\n";
        assert_eq!(lines(text).collect::<Vec<_>>(), ["one", "two # too"]);
        assert_eq!(lines(BUILT_IN).count(), 16);
    }
}
