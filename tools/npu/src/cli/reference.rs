// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu reference`.

use std::path::PathBuf;
use std::time::Instant;

use super::{Result, say, text};
use crate::model::{reference, vectors};

/// What `npu reference` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    text: text::Args,

    /// Where to write the vectors.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Computes vectors on the CPU and writes them to a file.
pub fn run(args: &Args) -> Result {
    let started = Instant::now();
    let input = args.text.load()?;
    let found = reference::vectors(&args.text.model, &input.config, &input.tokens)?;
    vectors::save(&args.output, &input.sentences, &found)?;
    say(format_args!(
        "{} vectors of {} elements in {:.1} s: {}",
        found.len(),
        input.config.hidden_size,
        started.elapsed().as_secs_f64(),
        args.output.display()
    ))
}
