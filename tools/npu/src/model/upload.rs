// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Bringing weights to where the device uses them.

use std::time::Duration;

use npu::{CommandBuffer, Device, Queue, Timeline};

use super::Result;
use super::layout::Group;
use super::store::{Block, Store};
use super::weights::Weights;

/// Bytes that are read from the file at once.
const CHUNK: usize = 2 << 20;

/// Chunks under way: the CPU fills one while the device copies the other.
const SLOTS: usize = 2;

/// Where a chunk's commands begin in their buffer.
const COMMAND_STRIDE: usize = 64;

/// Brings weights to blocks: directly if the CPU can reach the block, else by way of host memory
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
    data: Block,
    commands: Block,
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

    /// Takes a block for a group and fills it.
    pub fn place(&mut self, store: &mut Store, group: &Group) -> Result<Block> {
        let block = store.main(group.size)?;
        for start in (0..group.size).step_by(CHUNK) {
            let end = group.size.min(start + CHUNK);
            for piece in group.pieces(start..end) {
                let target = &mut self.chunk[piece.to..piece.to + piece.length];
                let tensor = piece.tensor;
                self.weights
                    .read_bytes(&tensor.name, &tensor.shape, piece.from, target)?;
            }
            match block.cpu() {
                Ok(mapping) => mapping.write_at(start, &self.chunk[..end - start])?,
                Err(_) => self.stage(store, &block, start, end - start)?,
            }
        }
        Ok(block)
    }

    /// Copies the first bytes of the chunk to byte `offset` of a block.
    fn stage(
        &mut self,
        store: &mut Store,
        block: &Block,
        offset: usize,
        length: usize,
    ) -> Result<()> {
        if self.staging.is_none() {
            self.staging = Some(Staging {
                data: store.shared(SLOTS * CHUNK)?,
                commands: store.commands(SLOTS * COMMAND_STRIDE)?,
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
        let from = staging.data.va() + data as u64;
        commands.copy(block.va() + offset as u64, from, length as u64);
        staging
            .commands
            .cpu()?
            .write_at(code, commands.as_bytes())?;
        let touched = [block, &staging.data, &staging.commands];
        let code = staging.commands.va() + code as u64;
        store
            .job(&self.queue, code, commands.len(), touched)
            .signal(self.timeline.point(next))
            .submit()?;
        self.submitted = next;
        Ok(())
    }

    /// Waits until all is where it should be.
    pub fn finish(self, store: &mut Store) -> Result<()> {
        if let Some(staging) = self.staging {
            self.timeline.wait(self.submitted, self.timeout)?;
            if let Some(error) = self.queue.status()?.failed {
                return Err(npu::Error::from(error).into());
            }
            store.release(staging.data)?;
            store.release(staging.commands)?;
        }
        Ok(())
    }
}
