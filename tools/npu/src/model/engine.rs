// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The model on the device: its buffers, and running batches.

use std::time::Duration;

use npu::{Arena, Buffer, CommandBuffer, Device, MapOptions, Memory, Queue, Timeline};

use super::Result;
use super::config::Config;
use super::layout::{Addresses, groups};
use super::plan::{Activations, plan};
use super::tokens::Batch;
use super::upload::{Uploader, buffer_in};
use super::weights::Weights;

/// What the engine must have room for, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most tokens of a batch, padding included.
    pub rows: usize,
    /// Most sentences of a batch.
    pub sentences: usize,
    /// Memory for weights and activations, what is wanted most first.
    pub places: Vec<Memory>,
    /// Longest wait for the device.
    pub timeout: Duration,
}

/// Bytes in each kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In device memory.
    pub device: u64,
    /// In host memory.
    pub host: u64,
}

impl Usage {
    fn add(&mut self, buffer: &Buffer) {
        let kind = if buffer.memory().is_device() {
            &mut self.device
        } else {
            &mut self.host
        };
        *kind += buffer.size();
    }
}

/// A model whose weights the device has.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    options: Options,
    arena: Arena,
    queue: Queue,
    timeline: Timeline,
    /// Value of the timeline when all that was submitted is done.
    submitted: u64,
    addresses: Addresses,
    /// Held for as long as commands name them.
    weights: Vec<Buffer>,
    scratch: Buffer,
    io: Io,
    commands: Buffer,
    at: Activations,
    device_time: Duration,
    jobs: u64,
}

/// What CPU and device exchange: a buffer in host memory, and offsets in it.
#[derive(Debug)]
struct Io {
    buffer: Buffer,
    ids: usize,
    types: usize,
    positions: usize,
    mask: usize,
    output: usize,
    times: usize,
}

/// Hands out offsets in a buffer that is yet to be created.
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
    /// Creates the buffers and brings the weights.
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
        let mut arena = Arena::new(device)?;
        let mut at = Activations::default();
        let io = Io::new(&mut arena, config, &options, &mut at)?;
        // Activations are touched most: they come first where there is little room.
        let scratch = scratch(&mut arena, config, &options, &mut at)?;

        let mut uploader = Uploader::new(device, weights, options.timeout)?;
        let mut addresses = Addresses::default();
        let mut buffers = Vec::new();
        for group in &groups {
            let buffer = uploader.place(&mut arena, group, &options.places)?;
            addresses.add(group, buffer.va());
            buffers.push(buffer);
        }
        uploader.finish(&mut arena)?;

        // Every batch has the same number of commands, they are only cut in other places.
        let jobs = plan(config, &addresses, &at, options.sentences, 1);
        let size = jobs.iter().map(CommandBuffer::len).sum();
        Ok(Self {
            config: config.clone(),
            queue: Queue::new(device)?,
            timeline: Timeline::new(device)?,
            submitted: 0,
            addresses,
            weights: buffers,
            scratch,
            io,
            commands: arena.buffer_with(size, Memory::Host, MapOptions::COMMANDS)?,
            at,
            arena,
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
        let mut offset = 0;
        for job in jobs {
            self.commands.cpu()?.write_at(offset, job.as_bytes())?;
            self.queue
                .job(
                    self.arena.vm(),
                    self.commands.va() + offset as u64,
                    job.len(),
                )
                .signal(self.timeline.point(self.submitted + 1))
                .submit()?;
            self.submitted += 1;
            offset += job.len();
        }
        Ok(())
    }

    /// Memory that holds weights.
    pub fn weight_usage(&self) -> Usage {
        let mut usage = Usage::default();
        self.weights.iter().for_each(|buffer| usage.add(buffer));
        usage
    }

    /// Memory that holds everything else.
    pub fn work_usage(&self) -> Usage {
        let mut usage = Usage::default();
        [&self.scratch, &self.io.buffer, &self.commands]
            .iter()
            .for_each(|b| usage.add(b));
        usage
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

/// Creates the buffer of what only the device touches.
fn scratch(
    arena: &mut Arena,
    config: &Config,
    options: &Options,
    at: &mut Activations,
) -> Result<Buffer> {
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
    let buffer = buffer_in(arena, offsets.size, &options.places)?;
    for (offset, address) in narrow {
        *address = buffer.va() + offset as u64;
    }
    at.inner = buffer.va() + inner as u64;
    Ok(buffer)
}

impl Io {
    fn new(
        arena: &mut Arena,
        config: &Config,
        options: &Options,
        at: &mut Activations,
    ) -> Result<Self> {
        let mut offsets = Offsets::default();
        let [ids, types, positions, mask] = [(); 4].map(|()| offsets.take(options.rows));
        let output = offsets.take(options.sentences * config.hidden_size);
        let times = offsets.take(4);
        let buffer = arena.buffer(offsets.size, Memory::Host)?;
        let address = |offset: usize| buffer.va() + offset as u64;
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
            buffer,
        })
    }

    fn write(&self, batch: &Batch) -> Result<()> {
        let cpu = self.buffer.cpu()?;
        cpu.write_at(self.ids, &batch.ids)?;
        cpu.write_at(self.types, &batch.types)?;
        cpu.write_at(self.positions, &batch.positions)?;
        Ok(cpu.write_at(self.mask, &batch.mask)?)
    }

    fn read(&self, sentences: usize, size: usize) -> Result<Vec<Vec<f32>>> {
        let values = self
            .buffer
            .cpu()?
            .values_at::<f32>(self.output, sentences * size)?;
        Ok(values.chunks_exact(size).map(<[f32]>::to_vec).collect())
    }

    fn elapsed(&self) -> Result<Duration> {
        let times = self.buffer.cpu()?.values_at::<u64>(self.times, 2)?;
        Ok(Duration::from_nanos(times[1].saturating_sub(times[0])))
    }
}
