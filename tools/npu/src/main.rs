// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu`: looks at the NPU, tests it, and runs a model or other loads on it.

#![forbid(unsafe_code)]

mod cli;
mod model;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("npu: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("     because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}
