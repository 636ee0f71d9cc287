// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Bringing weights to where the device uses them.

use std::time::Duration;

use npu::{Arena, Buffer, CommandBuffer, Device, MapOptions, Memory, Queue, Timeline};

use super::Result;
use super::layout::Group;
use super::weights::Weights;

/// Bytes that are read from the file at once.
const CHUNK: usize = 2 << 20;

/// Chunks under way: the CPU fills one while the device copies the other.
const SLOTS: usize = 2;

/// Where a chunk's commands begin in their buffer.
const COMMAND_STRIDE: usize = 64;

/// Brings weights to buffers: directly if the CPU can reach the buffer, else by way of host memory
/// and the device's COPY command.
#[derive(Debug)]
pub struct Uploader<'a> {
    weights: &'a Weights,
    timeout: Duration,
    queue: Queue,
    timeline: Timeline,
    /// Value of the timeline when all that was submitted is done.
    submitted: u64,
    /// Only there once it is needed.
    staging: Option<Staging>,
    chunk: Vec<u8>,
}

#[derive(Debug)]
struct Staging {
    data: Buffer,
    commands: Buffer,
}

impl<'a> Uploader<'a> {
    /// An uploader from a file of weights.
    pub fn new(device: &Device, weights: &'a Weights, timeout: Duration) -> Result<Self> {
        Ok(Self {
            weights,
            timeout,
            queue: Queue::new(device)?,
            timeline: Timeline::new(device)?,
            submitted: 0,
            staging: None,
            chunk: vec![0; CHUNK],
        })
    }

    /// Creates a buffer for a group in the first of `places` that has room, and fills it.
    pub fn place(&mut self, arena: &mut Arena, group: &Group, places: &[Memory]) -> Result<Buffer> {
        let buffer = buffer_in(arena, group.size, places)?;
        for start in (0..group.size).step_by(CHUNK) {
            let end = group.size.min(start + CHUNK);
            for piece in group.pieces(start..end) {
                let target = &mut self.chunk[piece.to..piece.to + piece.length];
                let tensor = piece.tensor;
                self.weights
                    .read_bytes(&tensor.name, &tensor.shape, piece.from, target)?;
            }
            match buffer.cpu() {
                Ok(mapping) => mapping.write_at(start, &self.chunk[..end - start])?,
                Err(_) => self.stage(arena, buffer.va() + start as u64, end - start)?,
            }
        }
        Ok(buffer)
    }

    /// Copies the first bytes of the chunk to a device address.
    fn stage(&mut self, arena: &mut Arena, to: u64, length: usize) -> Result<()> {
        if self.staging.is_none() {
            self.staging = Some(Staging {
                data: arena.buffer(SLOTS * CHUNK, Memory::Host)?,
                commands: arena.buffer_with(
                    SLOTS * COMMAND_STRIDE,
                    Memory::Host,
                    MapOptions::COMMANDS,
                )?,
            });
        }
        let staging = self.staging.as_ref().expect("made above");
        let next = self.submitted + 1;
        // The slot was last used SLOTS chunks ago.
        if let Some(last) = next.checked_sub(SLOTS as u64).filter(|last| *last > 0) {
            self.timeline.wait(last, self.timeout)?;
        }
        let slot = (next % SLOTS as u64) as usize;
        let (data, code) = (slot * CHUNK, slot * COMMAND_STRIDE);
        staging.data.cpu()?.write_at(data, &self.chunk[..length])?;
        let mut commands = CommandBuffer::new();
        commands.copy(to, staging.data.va() + data as u64, length as u64);
        staging
            .commands
            .cpu()?
            .write_at(code, commands.as_bytes())?;
        self.queue
            .job(
                arena.vm(),
                staging.commands.va() + code as u64,
                commands.len(),
            )
            .signal(self.timeline.point(next))
            .submit()?;
        self.submitted = next;
        Ok(())
    }

    /// Waits until all is where it should be.
    pub fn finish(self, arena: &mut Arena) -> Result<()> {
        if let Some(staging) = self.staging {
            self.timeline.wait(self.submitted, self.timeout)?;
            if let Some(error) = self.queue.status()?.failed {
                return Err(npu::Error::from(error).into());
            }
            arena.release(staging.data)?;
            arena.release(staging.commands)?;
        }
        Ok(())
    }
}

/// A buffer in the first of `places` that has room.
pub fn buffer_in(arena: &mut Arena, size: usize, places: &[Memory]) -> Result<Buffer> {
    let mut last = None;
    for memory in places {
        match arena.buffer(size, *memory) {
            Err(error) if error.is_out_of_memory() => last = Some(error),
            result => return Ok(result?),
        }
    }
    Err(last.expect("there is a place to try").into())
}
