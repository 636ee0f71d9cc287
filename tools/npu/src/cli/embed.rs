// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu embed`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use npu::{Counters, Device, Memory, VmStats};

use super::text::Input;
use super::{Result, human, say, table, text};
use crate::model::Error;
use crate::model::engine::{Engine, Options};
use crate::model::store::{Source, Usage};
use crate::model::tokens::Batch;
use crate::model::weights::Weights;
use crate::model::{reference, vectors};
use crate::workload::figures::{self, Counts};

/// Most tokens of a batch, padding included.
const ROWS: usize = 1024;

/// What `npu embed` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    text: text::Args,

    /// Compare the vectors with those of this file, which npu reference wrote.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,

    /// Compare the vectors with those computed by the CPU, here and now.
    #[arg(long)]
    check: bool,

    /// Largest difference from the reference that is no error.
    #[arg(long, default_value_t = 1e-4)]
    tolerance: f64,

    /// Write the vectors to this file, as npu reference does.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What weights, commands and all else are kept in.
    #[arg(long, value_enum, default_value_t = Kind::Malloc)]
    memory: Kind,

    /// Where weights shall be with --memory bo, by default in device memory; host memory takes what
    /// doesn't fit.
    #[arg(long, value_enum)]
    place: Option<Place>,

    /// Seconds to wait for the device.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

/// Kinds of memory on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// What malloc() gives: the device sees all of the process, and pages move as they are used.
    Malloc,
    /// Buffer objects, bound one by one.
    Bo,
}

/// Places of buffer objects on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Place {
    /// Device memory, filled by the device itself.
    Device,
    /// Device memory that the CPU can reach, filled by the CPU.
    Visible,
    /// Host memory.
    Host,
}

impl Place {
    fn order(self) -> Vec<Memory> {
        match self {
            Self::Device => vec![Memory::Device, Memory::Host],
            Self::Visible => vec![Memory::DeviceVisible, Memory::Device, Memory::Host],
            Self::Host => vec![Memory::Host],
        }
    }
}

/// What computing the vectors took.
struct Figures {
    sentences: usize,
    tokens: usize,
    weights: Usage,
    work: Usage,
    jobs: u64,
    load: Duration,
    run: Duration,
    device: Duration,
    mirror: Option<VmStats>,
    evictor: Option<Evicted>,
    before: Counters,
    after: Counters,
}

impl Args {
    /// What the model's memory is to be.
    fn source(&self) -> Result<Source> {
        match (self.memory, self.place) {
            (Kind::Malloc, None) => Ok(Source::Heap),
            (Kind::Malloc, Some(_)) => Err("--place is for buffer objects: add --memory bo".into()),
            (Kind::Bo, place) => Ok(Source::Buffers(place.unwrap_or(Place::Device).order())),
        }
    }
}

/// Computes vectors on the NPU, shows how alike the sentences are, and checks the vectors.
pub fn run(args: &Args, device: impl FnOnce() -> npu::Result<Device>) -> Result {
    let source = args.source()?;
    let input = args.text.load()?;
    // A reference that can't be used should be known before the work, not after.
    let expected = match &args.reference {
        Some(path) => Some(vectors::load(path, &input.sentences)?),
        None => None,
    };
    let (found, figures) = compute(args, source, &input, &device()?)?;
    say(table::similarities(&input.sentences, &found))?;
    say(figures.text().trim_end())?;
    if let Some(path) = &args.output {
        vectors::save(path, &input.sentences, &found)?;
    }
    if let Some(expected) = expected {
        check("the reference", &found, &expected, args.tolerance)?;
    }
    if args.check {
        let started = Instant::now();
        let expected = reference::vectors(&args.text.model, &input.config, &input.tokens)?;
        let what = format!("the CPU ({:.1} s)", started.elapsed().as_secs_f64());
        check(&what, &found, &expected, args.tolerance)?;
    }
    Ok(())
}

fn compute(
    args: &Args,
    source: Source,
    input: &Input,
    device: &Device,
) -> Result<(Vec<Vec<f32>>, Figures)> {
    let before = device.counters()?;
    let evictor = figures::evictor(device);
    let batches = Batch::split(&input.tokens, ROWS);
    let options = Options {
        rows: batches.iter().map(Batch::rows).max().unwrap_or(0),
        sentences: batches
            .iter()
            .map(|batch| batch.members.len())
            .max()
            .unwrap_or(0),
        source,
        timeout: Duration::from_secs(args.timeout),
    };
    let started = Instant::now();
    let weights = Weights::open(&args.text.model)?;
    let mut engine =
        Engine::load(device, &input.config, &weights, options).map_err(|error| match error {
            Error::Device(npu::Error::NoMirrors { .. }) => {
                format!("{error}; --memory bo needs none").into()
            }
            _ => Box::<dyn std::error::Error>::from(error),
        })?;
    let load = started.elapsed();

    let started = Instant::now();
    let mut found = vec![Vec::new(); input.sentences.len()];
    for batch in &batches {
        for (member, vector) in batch.members.iter().zip(engine.run(batch)?) {
            found[*member] = vector;
        }
    }
    let figures = Figures {
        sentences: input.sentences.len(),
        tokens: input.tokens.iter().map(|tokens| tokens.ids.len()).sum(),
        weights: engine.weight_usage(),
        work: engine.work_usage(),
        jobs: engine.jobs(),
        load,
        run: started.elapsed(),
        device: engine.device_time(),
        mirror: engine.stats()?,
        evictor: Evicted::since(&evictor, &figures::evictor(device)),
        before,
        after: device.counters()?,
    };
    Ok((found, figures))
}

/// Compares vectors and says how far apart they are.
fn check(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f64) -> Result {
    let difference = reference::largest_difference(found, expected)?;
    // Written so that what is not a number fails.
    if difference <= tolerance {
        let count = found.len();
        return say(format_args!(
            "{:<12} {count} vectors agree with {what}: largest difference {difference:.1e}, \
             tolerance {tolerance:.0e}",
            "check"
        ));
    }
    Err(format!(
        "the vectors differ from {what} by {difference:.1e}, more than the tolerance of \
         {tolerance:.0e}"
    )
    .into())
}

impl Figures {
    fn text(&self) -> String {
        let since = |counter: fn(&Counters) -> u64| {
            counter(&self.after).wrapping_sub(counter(&self.before))
        };
        let (hits, misses) = (since(|c| c.tlb_hits), since(|c| c.tlb_misses));
        let usage = |usage: Usage| match self.mirror {
            Some(_) => format!("{} from malloc()", human::bytes(usage.heap)),
            None => format!(
                "{} device, {} host",
                human::bytes(usage.device),
                human::bytes(usage.host)
            ),
        };
        let mut rows = vec![
            (
                "sentences",
                format!("{}, {} tokens", self.sentences, self.tokens),
            ),
            ("weights", usage(self.weights)),
            ("work", usage(self.work)),
            (
                "jobs",
                format!(
                    "{} for the model, {} in all, {} failed",
                    self.jobs,
                    since(|c| c.jobs_ok),
                    since(|c| c.jobs_failed)
                ),
            ),
            (
                "moved",
                format!(
                    "{} read, {} written",
                    human::bytes(since(|c| c.bytes_read)),
                    human::bytes(since(|c| c.bytes_written))
                ),
            ),
            (
                "TLB",
                format!(
                    "{} hits, {} misses ({} hit), {} invalidations",
                    human::count(hits),
                    human::count(misses),
                    human::percent(hits, hits + misses),
                    human::count(since(|c| c.tlb_invalidations))
                ),
            ),
            (
                "time",
                format!(
                    "{:.2} s to bring the weights, {:.2} s to compute, {:.2} s of it on the device",
                    self.load.as_secs_f64(),
                    self.run.as_secs_f64(),
                    self.device.as_secs_f64()
                ),
            ),
        ];
        if let Some(stats) = &self.mirror {
            rows.push(("mirror", mirror(stats)));
        }
        if let Some(evicted) = &self.evictor {
            rows.push(("evicted", evicted.text()));
        }
        human::rows(&rows)
    }
}

/// What the device's evictor has done.
struct Evicted {
    chunks: u64,
    to_host: u64,
    dropped: u64,
    refaults: u64,
}

impl Evicted {
    /// Between two moments; `None` if that is nothing, or nobody knows.
    fn since(before: &Counts, after: &Counts) -> Option<Self> {
        let count = |name: &str| {
            let of = |counts: &Counts| counts.iter().find(|(n, _)| n == name).map(|(_, n)| *n);
            // Before the first mirror there is no evictor.
            Some(of(after)?.saturating_sub(of(before).unwrap_or(0)))
        };
        let chunks = count("evictions").filter(|&chunks| chunks > 0)?;
        Some(Self {
            chunks,
            to_host: count("to_host")?,
            dropped: count("dropped")?,
            refaults: count("refaults")?,
        })
    }

    fn text(&self) -> String {
        format!(
            "{} times; {} copied to the host, {} not, as the host still had it; {} blocks came back",
            human::count(self.chunks),
            human::bytes(self.to_host),
            human::bytes(self.dropped),
            human::count(self.refaults)
        )
    }
}

/// What became of the heap.
fn mirror(stats: &VmStats) -> String {
    format!(
        "{} faults, {} merged; {} to the device, {} made there, {} stayed; {} in {} extents",
        human::count(stats.faults),
        human::count(stats.merged),
        human::bytes(stats.to_device),
        human::bytes(stats.made),
        human::bytes(stats.stayed),
        human::bytes(stats.mirrored),
        human::count(stats.extents)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_evicted_is_one_line() {
        let counts = |numbers: [u64; 4]| {
            let names = ["evictions", "to_host", "dropped", "refaults"].map(str::to_string);
            names.into_iter().zip(numbers).collect::<Counts>()
        };
        let before = counts([1, 0, 0, 0]);
        let after = counts([1235, 5 << 20, 70 << 20, 9]);
        assert_eq!(
            Evicted::since(&before, &after).unwrap().text(),
            "1 234 times; 5 MiB copied to the host, 70 MiB not, as the host still had it; \
             9 blocks came back"
        );
        assert!(Evicted::since(&after, &after).is_none());
        assert!(Evicted::since(&after, &Counts::new()).is_none());
        assert_eq!(Evicted::since(&Counts::new(), &after).unwrap().refaults, 9);
    }

    #[test]
    fn what_moved_is_one_line() {
        let stats = VmStats {
            faults: 1234,
            merged: 5,
            to_device: 86 << 20,
            made: 4096,
            mirrored: 87 << 20,
            extents: 44,
            ..Default::default()
        };
        assert_eq!(
            mirror(&stats),
            "1 234 faults, 5 merged; 86 MiB to the device, 4 KiB made there, 0 B stayed; \
             87 MiB in 44 extents"
        );
    }
}
