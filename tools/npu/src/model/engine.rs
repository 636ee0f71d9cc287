// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The model on the device: its memory, and running batches.

use std::time::Duration;

use npu::{CommandBuffer, Device, Queue, Timeline, VmStats};

use super::Result;
use super::config::Config;
use super::layout::{Addresses, groups};
use super::plan::{Activations, plan};
use super::store::{Block, Source, Store, Usage};
use super::tokens::Batch;
use super::upload::Uploader;
use super::weights::Weights;

/// What the engine must have room for, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most tokens of a batch, padding included.
    pub rows: usize,
    /// Most sentences of a batch.
    pub sentences: usize,
    /// What its memory is.
    pub source: Source,
    /// Longest wait for the device.
    pub timeout: Duration,
}

/// A model whose weights the device has.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    options: Options,
    // Dropped before the blocks, so that a job that still runs finds nothing in their place.
    queue: Queue,
    store: Store,
    timeline: Timeline,
    /// Value of the timeline when all that was submitted is done.
    submitted: u64,
    addresses: Addresses,
    /// Held for as long as commands name them.
    weights: Vec<Block>,
    scratch: Block,
    io: Io,
    commands: Block,
    at: Activations,
    device_time: Duration,
    jobs: u64,
}

/// What CPU and device exchange: a block, and offsets in it.
#[derive(Debug)]
struct Io {
    block: Block,
    ids: usize,
    types: usize,
    positions: usize,
    mask: usize,
    output: usize,
    times: usize,
}

/// Hands out offsets in a block that is yet to be taken.
#[derive(Debug, Default)]
struct Offsets {
    size: usize,
}

impl Offsets {
    /// Room for `count` 32-bit values.
    fn take(&mut self, count: usize) -> usize {
        let at = self.size.next_multiple_of(256);
        self.size = at + count * 4;
        at
    }
}

impl Engine {
    /// Takes the memory and brings the weights.
    pub fn load(
        device: &Device,
        config: &Config,
        weights: &Weights,
        options: Options,
    ) -> Result<Self> {
        let groups = groups(config);
        for tensor in groups.iter().flat_map(|group| &group.tensors) {
            weights.check(&tensor.name, &tensor.shape)?;
        }
        let mut store = Store::new(device, options.source.clone())?;
        let mut at = Activations::default();
        let io = Io::new(&mut store, config, &options, &mut at)?;
        // Activations are touched most: they come first where there is little room.
        let scratch = scratch(&mut store, config, &options, &mut at)?;

        let mut uploader = Uploader::new(device, weights, options.timeout)?;
        let mut addresses = Addresses::default();
        let mut blocks = Vec::new();
        for group in &groups {
            let block = uploader.place(&mut store, group)?;
            addresses.add(group, block.va());
            blocks.push(block);
        }
        uploader.finish(&mut store)?;

        // Every batch has the same number of commands, they are only cut in other places.
        let jobs = plan(config, &addresses, &at, options.sentences, 1);
        let size = jobs.iter().map(CommandBuffer::len).sum();
        Ok(Self {
            config: config.clone(),
            queue: Queue::new(device)?,
            timeline: Timeline::new(device)?,
            submitted: 0,
            addresses,
            weights: blocks,
            scratch,
            io,
            commands: store.commands(size)?,
            at,
            store,
            device_time: Duration::ZERO,
            jobs: 0,
            options,
        })
    }

    /// Computes the vectors of a batch's sentences.
    pub fn run(&mut self, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let sentences = batch.members.len();
        assert!(batch.rows() <= self.options.rows && sentences <= self.options.sentences);
        self.io.write(batch)?;
        let jobs = plan(
            &self.config,
            &self.addresses,
            &self.at,
            sentences,
            batch.length,
        );
        self.submit(&jobs)?;
        self.timeline.wait(self.submitted, self.options.timeout)?;
        // The queue has run nothing but this engine's jobs, and no failure went unseen.
        if let Some(error) = self.queue.status()?.failed {
            return Err(npu::Error::from(error).into());
        }
        self.device_time += self.io.elapsed()?;
        self.jobs += jobs.len() as u64;
        self.io.read(sentences, self.config.hidden_size)
    }

    /// Submits jobs; the queue keeps them in order.
    fn submit(&mut self, jobs: &[CommandBuffer]) -> Result<()> {
        // All at once: memory of the heap would go back and forth if it were written while jobs run.
        let bytes: Vec<u8> = jobs
            .iter()
            .flat_map(CommandBuffer::as_bytes)
            .copied()
            .collect();
        self.commands.cpu()?.write_at(0, &bytes)?;
        let mut commands = self.commands.va();
        for job in jobs {
            self.store
                .job(&self.queue, commands, job.len(), self.blocks())
                .signal(self.timeline.point(self.submitted + 1))
                .submit()?;
            self.submitted += 1;
            commands += job.len() as u64;
        }
        Ok(())
    }

    /// What holds everything but weights.
    fn work(&self) -> [&Block; 3] {
        [&self.scratch, &self.io.block, &self.commands]
    }

    /// All that jobs touch.
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.weights.iter().chain(self.work())
    }

    /// Memory that holds weights.
    pub fn weight_usage(&self) -> Usage {
        Usage::of(&self.weights)
    }

    /// Memory that holds everything else.
    pub fn work_usage(&self) -> Usage {
        Usage::of(self.work())
    }

    /// What mirroring has done, if the memory is the heap's.
    pub fn stats(&self) -> Result<Option<VmStats>> {
        self.store.stats()
    }

    /// Jobs run.
    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Time from the beginning of batches' first jobs to the end of their last, by the device's
    /// clock.
    pub fn device_time(&self) -> Duration {
        self.device_time
    }
}

/// Takes the block of what only the device touches.
fn scratch(
    store: &mut Store,
    config: &Config,
    options: &Options,
    at: &mut Activations,
) -> Result<Block> {
    let mut offsets = Offsets::default();
    let row = options.rows * config.hidden_size;
    let narrow = [
        &mut at.hidden,
        &mut at.query,
        &mut at.key,
        &mut at.value,
        &mut at.context,
        &mut at.change,
    ]
    .map(|address| (offsets.take(row), address));
    let inner = offsets.take(options.rows * config.intermediate_size);
    let block = store.main(offsets.size)?;
    for (offset, address) in narrow {
        *address = block.va() + offset as u64;
    }
    at.inner = block.va() + inner as u64;
    Ok(block)
}

impl Io {
    fn new(
        store: &mut Store,
        config: &Config,
        options: &Options,
        at: &mut Activations,
    ) -> Result<Self> {
        let mut offsets = Offsets::default();
        let [ids, types, positions, mask] = [(); 4].map(|()| offsets.take(options.rows));
        let output = offsets.take(options.sentences * config.hidden_size);
        let times = offsets.take(4);
        let block = store.shared(offsets.size)?;
        let address = |offset: usize| block.va() + offset as u64;
        at.ids = address(ids);
        at.types = address(types);
        at.positions = address(positions);
        at.mask = address(mask);
        at.output = address(output);
        at.times = address(times);
        Ok(Self {
            ids,
            types,
            positions,
            mask,
            output,
            times,
            block,
        })
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let cpu = self.block.cpu()?;
        cpu.write_at(self.ids, &batch.ids)?;
        cpu.write_at(self.types, &batch.types)?;
        cpu.write_at(self.positions, &batch.positions)?;
        Ok(cpu.write_at(self.mask, &batch.mask)?)
    }

    fn read(&self, sentences: usize, size: usize) -> Result<Vec<Vec<f32>>> {
        let values = self
            .block
            .cpu()?
            .values_at::<f32>(self.output, sentences * size)?;
        Ok(values.chunks_exact(size).map(<[f32]>::to_vec).collect())
    }

    fn elapsed(&self) -> Result<Duration> {
        let times = self.block.cpu()?.values_at::<u64>(self.times, 2)?;
        Ok(Duration::from_nanos(times[1].saturating_sub(times[0])))
    }
}
