// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The command line.

mod embed;
mod human;
mod info;
mod plot;
mod reference;
mod remap;
mod selftest;
mod table;
mod text;
mod top;
mod touch;
mod trace;
mod workload;

use std::fmt::Display;
use std::io::{ErrorKind, Write as _, stdout};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use npu::Device;

/// What a subcommand returns; the error is printed.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Look at the NPU, test it, run a model on it.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The device file; the first one of the npu driver if not given.
    #[arg(long, global = true, value_name = "FILE")]
    device: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what the device is, has and did.
    Info(info::Args),
    /// Let the device fill, copy and compare each kind of memory.
    Selftest(selftest::Args),
    /// Remap single pages of a large reservation and count the TLB invalidations. Takes some 110 MiB of
    /// device memory for page tables.
    Remap(remap::Args),
    /// Fill new memory of the process by one job and count the faults.
    Touch(touch::Args),
    /// Compute sentences' vectors on the NPU and show which sentences are alike.
    Embed(embed::Args),
    /// Show who has memory on the device and what moves, again and again.
    Top(top::Args),
    /// Record what the framework does while a command runs.
    Trace(trace::Args),
    /// Draw a picture of such a record: what was on the device when, and what moved. Needs no NPU.
    Plot(plot::Args),
    /// Run a load that may be larger than the device's memory and count what moved.
    Workload(workload::Args),
    /// Compute sentences' vectors on the CPU, for embed to check against. Needs no NPU.
    Reference(reference::Args),
}

/// Runs what the command line asks for.
pub fn run() -> Result {
    let cli = Cli::parse();
    let device = || match &cli.device {
        Some(path) => Device::open(path),
        None => Device::find(),
    };
    match &cli.command {
        Command::Info(args) => info::run(args, &device()?),
        Command::Selftest(args) => selftest::run(args, &device()?),
        Command::Remap(args) => remap::run(args, &device()?),
        Command::Touch(args) => touch::run(args, &device()?),
        Command::Embed(args) => embed::run(args, device),
        Command::Top(args) => top::run(args, &device()?),
        Command::Trace(args) => trace::run(args, device),
        Command::Plot(args) => plot::run(args),
        Command::Workload(args) => workload::run(args, &device()?),
        Command::Reference(args) => reference::run(args),
    }
}

/// Prints lines. That nobody reads on is no error, and no reason to stop.
fn say(lines: impl Display) -> Result {
    match writeln!(stdout(), "{lines}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write the output: {error}").into())
        }
        _ => Ok(()),
    }
}
