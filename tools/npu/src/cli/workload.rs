// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu workload`: loads that are larger than the device's memory, to see what becomes of them.

mod tenants;

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use npu::{Device, Location};

use super::{Result, say};
use crate::workload::blocks::Blocks;
use crate::workload::figures::Figures;
use crate::workload::gemm::Product;
use crate::workload::pattern::{Pattern, accesses};
use crate::workload::runner::Runner;
use crate::workload::transformer::Transformer;
use crate::workload::{BLOCK, Error, Work};

/// What `npu workload` takes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The last line of the output has what it cost, for scripts: bytes and counts from the first job to the end \
of the last one, as DRM_GMEM_VM_STATS and the file gmem_vm-DEVICE/memory of debugfs give them. The latter \
(evictions, to_host and what follows) are the whole device's; without debugfs they are left out. \
left is what was then copied to the host so that all data is there again. accesses counts blocks of 64 KiB, \
data says where they are.")]
pub struct Args {
    /// What is done.
    #[arg(value_enum)]
    name: Name,

    /// How much memory it is done with: bytes, or with K, M or G behind.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: u64,

    /// How often: passes, tokens, or accesses for each block. Each load has a number of its own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: Option<u32>,

    /// What is random depends on this alone.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Compare what the device computed and wrote with what the CPU computes.
    #[arg(long)]
    verify: bool,

    /// For tenants: the size that the victim's memory is 0.45 of; by default the device's memory.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,

    /// For tenants: the victim alone.
    #[arg(long)]
    alone: bool,
}

/// Loads by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Reads all blocks in order, twice.
    Sequential,
    /// The same six times.
    Cyclic,
    /// Reads each 16th block, from each of the first 16 on, three times.
    Strided,
    /// Accesses any block, four times as often as there are blocks; a quarter are writes.
    Random,
    /// Accesses some blocks much more often than others (Zipf, s = 0.99), six times as often as there are blocks; a
    /// tenth are writes.
    Zipf,
    /// Multiplies matrices, tile by tile.
    Gemm,
    /// Twelve layers of a transformer read eight groups of tokens, each of which adds to a cache and looks at all of it.
    Transformer,
    /// Reads what is shared by 16 experts and then two of them, chosen anew for each of 32 tokens.
    Moe,
    /// Two processes: a victim goes round 50 times in less than half of the device's memory, while another reads
    /// all of --size again and again.
    Tenants,
    /// The other process of tenants: reads all blocks in order until its standard input ends.
    #[value(hide = true)]
    Aggressor,
}

impl Name {
    /// As on the command line.
    fn text(self) -> String {
        let value = self.to_possible_value().expect("none is skipped");
        value.get_name().to_string()
    }

    /// How many rounds it has if nothing is said.
    fn rounds(self) -> usize {
        match self {
            Self::Gemm | Self::Aggressor => 1,
            Self::Sequential => 2,
            Self::Strided => 3,
            Self::Random => 4,
            Self::Cyclic | Self::Zipf => 6,
            Self::Transformer => 8,
            Self::Moe => 32,
            Self::Tenants => 50,
        }
    }
}

impl Args {
    fn rounds(&self) -> usize {
        self.rounds.map_or(self.name.rounds(), |n| n as usize)
    }

    /// A pattern on `size` bytes.
    fn blocks(&self, pattern: Pattern, size: u64) -> Result<Box<dyn Work>> {
        let blocks = (size / BLOCK) as usize;
        // Parts of an expert's size are a twentieth.
        let least = if pattern == Pattern::Experts { 20 } else { 1 };
        if blocks < least {
            return Err(Error::TooSmall(least as u64 * BLOCK).into());
        }
        let accesses = accesses(pattern, blocks, self.rounds(), self.seed);
        Ok(Box::new(Blocks::new(blocks, accesses, self.seed)?))
    }

    fn work(&self) -> Result<Box<dyn Work>> {
        let pattern = match self.name {
            Name::Sequential | Name::Cyclic | Name::Aggressor => Pattern::Cyclic,
            Name::Strided => Pattern::Strided,
            Name::Random => Pattern::Random,
            Name::Zipf => Pattern::Zipf,
            Name::Moe => Pattern::Experts,
            Name::Gemm => {
                let blocks = (self.size / BLOCK) as usize;
                return Ok(Box::new(Product::new(blocks, self.rounds(), self.seed)?));
            }
            Name::Transformer => {
                let work = Transformer::new(self.size, self.rounds(), self.seed)?;
                return Ok(Box::new(work));
            }
            Name::Tenants => unreachable!("its victim is another's business"),
        };
        self.blocks(pattern, self.size)
    }
}

/// Runs a load and prints what it cost.
pub fn run(args: &Args, device: &Device) -> Result {
    if args.name != Name::Tenants && (args.memory.is_some() || args.alone) {
        return Err("--memory and --alone are for tenants".into());
    }
    match args.name {
        Name::Tenants => tenants::run(args, device),
        Name::Aggressor => tenants::aggressor(args, device),
        _ => {
            let work = args.work()?;
            work.prepare()?;
            let done = Done::run(device, &*work)?;
            let checked = check(args, &*work);
            say(done.line(&args.name.text(), &[]))?;
            checked
        }
    }
}

/// Checks what a load has left, if that is asked for.
fn check(args: &Args, work: &dyn Work) -> Result {
    if args.verify {
        say(work.check()?)?;
    }
    Ok(())
}

/// What a load cost.
struct Done {
    data: Range<u64>,
    accesses: u64,
    jobs: u64,
    counts: Vec<(String, u64)>,
    time: Duration,
}

impl Done {
    /// Runs a load that was prepared.
    fn run(device: &Device, work: &dyn Work) -> Result<Self> {
        let mut runner = Runner::new(device, work)?;
        let before = Before::new(device, &runner)?;
        runner.run(work.ops())?;
        before.done(device, work, &runner)
    }

    /// All of it, with some more behind the name.
    fn line(&self, name: &str, more: &[(&str, u64)]) -> String {
        let mut line = format!("workload={name}");
        let mut add = |name: &str, value: u64| write!(line, " {name}={value}").expect("text grows");
        more.iter().for_each(|(name, value)| add(name, *value));
        let size = self.data.end - self.data.start;
        add("size", size);
        add("blocks", size / BLOCK);
        add("accesses", self.accesses);
        add("jobs", self.jobs);
        self.counts
            .iter()
            .for_each(|(name, value)| add(name, *value));
        let Range { start, end } = &self.data;
        let seconds = self.time.as_secs_f64();
        write!(line, " seconds={seconds:.3} data={start:#x}-{end:#x}").expect("text grows");
        line
    }
}

/// What there was before a load began.
struct Before {
    figures: Figures,
    accesses: u64,
    jobs: u64,
    started: Instant,
}

impl Before {
    fn new(device: &Device, runner: &Runner) -> Result<Self> {
        Ok(Self {
            figures: Figures::read(device, runner.vm())?,
            accesses: runner.accesses(),
            jobs: runner.jobs(),
            started: Instant::now(),
        })
    }

    /// What has come since, of which all has ended.
    fn done(self, device: &Device, work: &dyn Work, runner: &Runner) -> Result<Done> {
        let time = self.started.elapsed();
        let data = work.data();
        let end = Figures::read(device, runner.vm())?;
        let mut counts = end.since(&self.figures);
        // What was written is wanted in the end.
        runner.vm().prefetch(data.clone(), Location::Host)?;
        let left = Figures::read(device, runner.vm())?.since(&end);
        let left = left.into_iter().find(|(name, _)| name == "to_host");
        counts.extend(left.map(|(_, bytes)| ("left".to_string(), bytes)));
        Ok(Done {
            counts,
            data,
            accesses: runner.accesses() - self.accesses,
            jobs: runner.jobs() - self.jobs,
            time,
        })
    }
}

/// A size on the command line.
fn size(text: &str) -> std::result::Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a number, or one with K, M or G behind".to_string())?;
    match number.checked_mul(1 << shift) {
        Some(size) if size <= 1 << 40 => Ok(size),
        _ => Err("that is too much".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["4096", "64K", "16M", "2g"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [4096, 64 << 10, 16 << 20, 2 << 30]);
        for text in [
            "",
            "M",
            "1.5M",
            "-1",
            "1T",
            "16 M",
            "99999999999G",
            "\u{e4}",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_is_pairs() {
        let done = Done {
            data: 0x10000..0x1010000,
            accesses: 512,
            jobs: 32,
            counts: vec![("faults".into(), 7), ("evictions".into(), 3)],
            time: Duration::from_millis(1250),
        };
        assert_eq!(
            done.line("x", &[("memory", 5)]),
            "workload=x memory=5 size=16777216 blocks=256 accesses=512 jobs=32 faults=7 evictions=3 seconds=1.250 data=0x10000-0x1010000"
        );
    }
}
