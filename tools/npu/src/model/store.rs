// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where the model's memory comes from: the process's heap, or buffer objects.

use npu::{
    Arena, Buffer, Device, Heap, MapOptions, Mapping, Memory, Queue, Submission, Vm, VmStats,
};

use super::Result;

/// What the model's memory is to be.
#[derive(Clone, Debug)]
pub enum Source {
    /// Plain memory from `malloc()`, which the device sees where the CPU does.
    Heap,
    /// Buffer objects: for weights and activations of the first of these kinds that has room.
    Buffers(Vec<Memory>),
}

/// An address space, and the memory that it gives out.
#[derive(Debug)]
pub enum Store {
    /// The heap.
    Heap {
        /// All of the process.
        vm: Vm,
        /// Do jobs have to name the memory that they touch?
        named: bool,
    },
    /// Buffer objects.
    Buffers {
        /// What finds addresses for them.
        arena: Arena,
        /// Where weights and activations go, what is wanted most first.
        places: Vec<Memory>,
    },
}

/// Memory that has an address on the device, and contents of zero at first.
///
/// The jobs that touch it must have ended, or its store be gone, before it is dropped.
#[derive(Debug)]
pub enum Block {
    /// Of the heap.
    Heap(Heap),
    /// A buffer object.
    Buffer(Buffer),
}

/// Bytes in each kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the heap, wherever its pages are.
    pub heap: u64,
    /// Of buffer objects in device memory.
    pub device: u64,
    /// Of buffer objects in host memory.
    pub host: u64,
}

impl Store {
    /// A store with an address space of its own.
    pub fn new(device: &Device, source: Source) -> Result<Self> {
        Ok(match source {
            Source::Heap => {
                let vm = Vm::new(device)?;
                vm.mirror_process(MapOptions {
                    exec: true,
                    ..Default::default()
                })?;
                let named = !device.info()?.faults;
                Self::Heap { vm, named }
            }
            Source::Buffers(places) => Self::Buffers {
                arena: Arena::new(device)?,
                places,
            },
        })
    }

    /// Memory that the device uses most. The CPU may not reach it.
    pub fn main(&mut self, size: usize) -> Result<Block> {
        let Self::Buffers { arena, places } = self else {
            return self.shared(size);
        };
        let mut last = None;
        for memory in places {
            match arena.buffer(size, *memory) {
                Err(error) if error.is_out_of_memory() => last = Some(error),
                result => return Ok(Block::Buffer(result?)),
            }
        }
        Err(last.expect("there is a place to try").into())
    }

    /// Memory for what CPU and device exchange.
    pub fn shared(&mut self, size: usize) -> Result<Block> {
        self.block(size, MapOptions::default())
    }

    /// Memory that the device may fetch commands from, and that the CPU writes.
    pub fn commands(&mut self, size: usize) -> Result<Block> {
        self.block(size, MapOptions::COMMANDS)
    }

    fn block(&mut self, size: usize, options: MapOptions) -> Result<Block> {
        Ok(match self {
            Self::Heap { .. } => Block::Heap(Heap::new(size)?),
            Self::Buffers { arena, .. } => {
                Block::Buffer(arena.buffer_with(size, Memory::Host, options)?)
            }
        })
    }

    /// Gives memory back that no job touches any more.
    pub fn release(&mut self, block: Block) -> Result<()> {
        match (self, block) {
            (Self::Buffers { arena, .. }, Block::Buffer(buffer)) => arena.release(buffer)?,
            (_, block) => drop(block),
        }
        Ok(())
    }

    /// Begins a job of commands at a device address, which touches no other blocks than `blocks`.
    pub fn job<'a>(
        &'a self,
        queue: &'a Queue,
        commands: u64,
        size: usize,
        blocks: impl IntoIterator<Item = &'a Block>,
    ) -> Submission<'a> {
        let job = queue.job(self.vm(), commands, size);
        if !matches!(self, Self::Heap { named: true, .. }) {
            return job;
        }
        blocks.into_iter().fold(job, |job, block| match block {
            Block::Heap(heap) => job.touches(heap.pages()),
            Block::Buffer(_) => job,
        })
    }

    /// What mirroring has done, if the memory is the heap's.
    pub fn stats(&self) -> Result<Option<VmStats>> {
        Ok(match self {
            Self::Heap { vm, .. } => Some(vm.stats()?),
            Self::Buffers { .. } => None,
        })
    }

    fn vm(&self) -> &Vm {
        match self {
            Self::Heap { vm, .. } => vm,
            Self::Buffers { arena, .. } => arena.vm(),
        }
    }
}

impl Block {
    /// Its device address.
    pub fn va(&self) -> u64 {
        match self {
            Self::Heap(heap) => heap.address(),
            Self::Buffer(buffer) => buffer.va(),
        }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Heap(heap) => heap.size(),
            Self::Buffer(buffer) => buffer.size(),
        }
    }

    /// How the CPU gets at it, an error if it can't.
    pub fn cpu(&self) -> npu::Result<&Mapping> {
        match self {
            Self::Heap(heap) => Ok(heap.cpu()),
            Self::Buffer(buffer) => buffer.cpu(),
        }
    }
}

impl Usage {
    /// What blocks take together.
    pub fn of<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Self {
        let mut usage = Self::default();
        for block in blocks {
            let kind = match block {
                Block::Heap(_) => &mut usage.heap,
                Block::Buffer(buffer) if buffer.memory().is_device() => &mut usage.device,
                Block::Buffer(_) => &mut usage.host,
            };
            *kind += block.size();
        }
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_the_heap_are_plain_memory() {
        let blocks = [100, 1 << 20].map(|size| Block::Heap(Heap::new(size).unwrap()));
        let usage = Usage::of(&blocks);
        assert_eq!(
            (usage.heap, usage.device, usage.host),
            (100 + (1 << 20), 0, 0)
        );
        for block in &blocks {
            block.cpu().unwrap().write_at(8, &[block.va()]).unwrap();
            let Block::Heap(heap) = block else { panic!() };
            assert_eq!(heap.address(), block.va());
            assert_eq!(heap.cpu().value_at::<u64>(8).unwrap(), block.va());
        }
    }
}
