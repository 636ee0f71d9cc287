// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A sentence-embedding transformer (BERT with mean pooling, as all-MiniLM-L6-v2) on the NPU.
//!
//! [`config`], [`weights`] and [`tokens`] read the model's files. [`store`] gives out memory, [`plan`]
//! writes the commands, [`engine`] runs them. [`mod@reference`] computes the same on the CPU and
//! shares none of it.

pub mod config;
pub mod engine;
pub mod layout;
pub mod plan;
pub mod reference;
pub mod store;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod upload;
pub mod vectors;
pub mod weights;

/// What is wrong with a model or with what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file isn't what it should be.
    #[error("{path}: {problem}")]
    Format {
        /// Which file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A sentence can't be tokenised.
    #[error("cannot tokenise \"{sentence}\": {problem}")]
    Tokens {
        /// The sentence.
        sentence: String,
        /// What the tokeniser says.
        problem: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] npu::Error),
}

/// This module's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Reads a file, with its name in the error.
fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::File {
        path: path.display().to_string(),
        error,
    })
}

/// An error about a file's contents.
fn format_error(path: &std::path::Path, problem: impl ToString) -> Error {
    Error::Format {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}
