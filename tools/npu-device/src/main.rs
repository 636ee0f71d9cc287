// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu-device`: the NPU as a process that serves a virtual machine over vfio-user.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use npu_device::trace::Trace;
use npu_device::{Config, Device, guard, server};

/// Exit status when `INJECT_DIE` ended the process.
const DIED: i32 = 66;

/// The NPU as a process that serves one virtual machine over vfio-user.
///
/// It listens on a Unix socket, serves the first client that connects, and ends when that client
/// has gone. Programming errors of the driver go to standard error, one line each; RUST_LOG=debug
/// shows more, RUST_LOG=trace every register access.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Unix socket to listen on; must not exist
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,

    /// Local memory: a multiple of 2M
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size)]
    memory: u64,

    /// Aperture onto local memory: a power of two of at least 2M, or 0 for none [default: the
    /// largest that fits the memory]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    aperture: Option<u64>,

    /// Compute queues, 1 to 16
    #[arg(long, value_name = "N", default_value_t = 4)]
    queues: usize,

    /// Be a device that has no replayable faults
    #[arg(long)]
    no_faults: bool,

    /// Offer the fault injection registers
    #[arg(long)]
    inject: bool,

    /// Write what jobs access to a file, for evict-sim
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Serve the socket from this process alone. Register accesses are faster, but QEMU may abort if
    /// this process dies before it
    #[arg(long)]
    no_guard: bool,

    /// Be the guard of another process
    #[arg(long, value_name = "NAME", hide = true)]
    guard_of: Option<String>,
}

/// Parses a size with an optional suffix K, M or G.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'k', 'M', 'm', 'G', 'g']) {
        Some(digits) => (
            digits,
            match text.as_bytes()[digits.len()].to_ascii_uppercase() {
                b'K' => 10,
                b'M' => 20,
                _ => 30,
            },
        ),
        None => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "not a number of bytes; K, M or G may follow".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    if let Some(name) = &arguments.guard_of {
        return guard::run(&arguments.socket, name).map_err(|e| format!("the guard failed: {e}"));
    }
    let config = Config {
        memory: arguments.memory,
        aperture: arguments
            .aperture
            .unwrap_or(Config::largest_aperture(arguments.memory)),
        queues: arguments.queues,
        faults: !arguments.no_faults,
        inject: arguments.inject,
    };
    config.check()?;
    let die = Box::new(|| std::process::exit(DIED));
    let trace = match &arguments.trace {
        Some(path) => {
            let shown = path.display();
            let trace = Trace::create(path);
            Some(trace.map_err(|e| format!("cannot write the trace {shown}: {e}"))?)
        }
        None => None,
    };
    let device =
        Device::traced(config, die, trace).map_err(|e| format!("cannot make the device: {e}"))?;
    server::serve(Arc::new(device), &arguments.socket, !arguments.no_guard)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("npu-device: {message}");
            ExitCode::FAILURE
        }
    }
}
