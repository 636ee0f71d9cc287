// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `evict-sim`: what eviction costs on a trace of accesses.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use evict_sim::policy::Setup;
use evict_sim::table::{Options, Table};
use evict_sim::workload::{LEAST, Workload};
use evict_sim::{Access, Cost, belady, simulate, trace};
use vm_logic::evict::policy::PolicyKind;

/// What eviction costs on a trace of accesses, as npu-device --trace writes it: at best, and with the
/// kernel's policies.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What each subcommand needs.
#[derive(Args)]
struct Sizes {
    /// Device memory
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: u64,

    /// What is brought and evicted at once: a multiple of 64K
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = size)]
    blocks_of: u64,

    /// Addresses of a run's data: nothing else is looked at. Given once for each run, in order
    #[arg(long, value_name = "START-END", value_parser = range)]
    data: Vec<Range<u64>>,
}

#[derive(Subcommand)]
enum Command {
    /// Show the optimum, which knows the future
    Belady {
        #[command(flatten)]
        sizes: Sizes,

        /// The trace; - is standard input
        trace: PathBuf,
    },

    /// Show what a policy of the kernel costs
    Policy {
        #[command(flatten)]
        sizes: Sizes,

        /// Its name
        #[arg(long, value_name = "NAME", value_parser = policy)]
        policy: PolicyKind,

        /// The last blocks that came, which stay; as many as in the kernel, if it is not given
        #[arg(long, value_name = "N")]
        kept: Option<u64>,

        /// Copy back what was not written, too, whatever the policy is
        #[arg(long)]
        copy_clean: bool,

        /// The trace; - is standard input
        trace: PathBuf,
    },

    /// Write a trace that is made up
    Gen {
        /// sequential, cyclic, strided, random, zipf, gemm, transformer or moe
        #[arg(value_name = "NAME", value_parser = workload)]
        workload: Workload,

        /// Device memory
        #[arg(long, value_name = "SIZE", value_parser = size)]
        memory: u64,

        /// The data, in units of the memory
        #[arg(long, value_name = "R")]
        ratio: f64,

        /// For what is random
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },

    /// Compare all policies on all traces that can be made up
    Table {
        /// Device memory
        #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = size)]
        memory: u64,

        /// The last blocks that came, which stay; as many as in the kernel, if it is not given
        #[arg(long, value_name = "N")]
        kept: Option<u64>,

        /// Copy back what was not written, too, whatever the policy is
        #[arg(long)]
        copy_clean: bool,

        /// For what is random
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
}

/// Parses a size with an optional suffix K, M or G.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "not a number of bytes; K, M or G may follow".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

fn policy(name: &str) -> Result<PolicyKind, String> {
    PolicyKind::of_name(name).ok_or_else(|| {
        let names = PolicyKind::ALL.map(|(_, name)| name);
        format!("there are {}", names.join(", "))
    })
}

/// `0x10000-0x20000`.
fn range(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let range = text
        .split_once('-')
        .and_then(|(start, end)| Some(number(start)?..number(end)?));
    range.ok_or_else(|| "a range is two addresses, as in 0x10000-0x20000".into())
}

fn workload(name: &str) -> Result<Workload, String> {
    Workload::of_name(name).ok_or_else(|| {
        let names = Workload::ALL.map(|(_, name)| name);
        format!("there are {}", names.join(", "))
    })
}

/// The blocks of a memory.
fn blocks(memory: u64, block: u64) -> Result<u64, String> {
    match memory / block {
        0 => Err("the memory has no block".into()),
        blocks => Ok(blocks),
    }
}

impl Sizes {
    fn blocks(&self) -> Result<u64, String> {
        if self.blocks_of == 0 || self.blocks_of % trace::BLOCK != 0 {
            return Err("blocks must have a multiple of 64K".into());
        }
        blocks(self.memory, self.blocks_of)
    }

    /// Accesses of a run without those that are not to its data.
    fn only_data(&self, number: usize, run: &[Access]) -> Vec<Access> {
        let Some(data) = self.data.get(number) else {
            return run.to_vec();
        };
        let blocks = data.start / trace::BLOCK..data.end.div_ceil(trace::BLOCK);
        let only = run.iter().filter(|access| blocks.contains(&access.block));
        only.copied().collect()
    }

    /// Prints what each run of a trace costs.
    fn report(&self, path: &Path, cost: impl Fn(&[Access]) -> Cost) -> Result<(), Box<dyn Error>> {
        let runs = if path == Path::new("-") {
            trace::parse(io::stdin().lock())?
        } else {
            let shown = path.display();
            let file = File::open(path).map_err(|e| format!("cannot open {shown}: {e}"))?;
            trace::parse(BufReader::new(file))?
        };
        let mut output = io::stdout().lock();
        for (number, run) in runs.iter().enumerate() {
            let run = self.only_data(number, run);
            let run = trace::coarsen(&run, self.blocks_of / trace::BLOCK);
            let cost = cost(&run);
            writeln!(
                output,
                "run {}: accesses {} distinct {} to_device {} to_host {} misses {}",
                number + 1,
                cost.accesses,
                cost.distinct * self.blocks_of,
                cost.to_device * self.blocks_of,
                cost.to_host * self.blocks_of,
                cost.misses,
            )?;
        }
        Ok(())
    }
}

fn run(command: &Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Belady { sizes, trace } => {
            let capacity = sizes.blocks()?;
            sizes.report(trace, |run| belady(run, capacity))
        }
        Command::Policy {
            sizes,
            policy,
            kept,
            copy_clean,
            trace,
        } => {
            let setup = Setup::new(*policy, sizes.blocks()?, sizes.blocks_of);
            let setup = setup.but(*kept, *copy_clean);
            sizes.report(trace, |run| simulate(run, policy.policy(), setup))
        }
        Command::Gen {
            workload,
            memory,
            ratio,
            seed,
        } => {
            let blocks = (blocks(*memory, trace::BLOCK)? as f64 * ratio).round();
            if !(LEAST as f64..1e9).contains(&blocks) {
                return Err("the data must have 2M or more, and no more than 60T".into());
            }
            let run = workload.accesses(blocks as u64, *seed);
            let mut output = BufWriter::new(io::stdout().lock());
            trace::write(&mut output, &run)?;
            Ok(output.flush()?)
        }
        Command::Table {
            memory,
            kept,
            copy_clean,
            seed,
        } => {
            let blocks = blocks(*memory, trace::BLOCK)?;
            if blocks < 2 * LEAST {
                return Err("the memory must have 4M or more".into());
            }
            let options = Options {
                kept: *kept,
                copy_clean: *copy_clean,
                seed: *seed,
            };
            let table = Table::new(blocks, trace::BLOCK, options);
            Ok(writeln!(io::stdout(), "{table}")?)
        }
    }
}

/// Whether nobody reads on, which is no reason to complain.
fn is_closed(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Err(error) if !is_closed(error.as_ref()) => {
            eprintln!("evict-sim: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
