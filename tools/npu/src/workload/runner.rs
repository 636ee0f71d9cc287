// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Making jobs of operations, a few at a time.

use std::ops::Range;
use std::time::Duration;

use npu::{Attr, CommandBuffer, Device, Location, MapOptions, Queue, Timeline, Vm};

use super::memory::Memory;
use super::op::Op;
use super::{Error, Result, Work};

/// Operations of a job.
const OPS: usize = 16;

/// The most work of a job that has more than one, in multiplications: short enough for the device's
/// timeout on a slow machine.
const WORK: u64 = 100_000_000;

/// Jobs in flight.
const DEPTH: u64 = 2;

/// Longest wait for a job. Other processes may have the device meanwhile.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Runs one load, whose memory lives as long as this does.
#[derive(Debug)]
pub struct Runner {
    // Dropped first: jobs that still run end with it.
    queue: Queue,
    vm: Vm,
    timeline: Timeline,
    commands: Memory,
    data: Range<u64>,
    jobs: u64,
    accesses: u64,
}

impl Runner {
    /// An address space that is the process's, for a load.
    pub fn new(device: &Device, work: &dyn Work) -> Result<Self> {
        if !device.info()?.faults {
            return Err(Error::NoFaults);
        }
        let vm = Vm::new(device)?;
        vm.mirror_process(MapOptions {
            exec: true,
            ..Default::default()
        })?;
        let commands = Memory::new(DEPTH * Self::slot())?;
        // What is no data would go back and forth with every job.
        for range in [commands.range(), work.beside()] {
            vm.advise(range, &[Attr::PreferredLocation(Location::Host)], false)?;
        }
        Ok(Self {
            queue: Queue::new(device)?,
            timeline: Timeline::new(device)?,
            commands,
            data: work.data(),
            vm,
            jobs: 0,
            accesses: 0,
        })
    }

    /// Room for a job's commands.
    fn slot() -> u64 {
        npu::page_size()
    }

    /// The address space.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Jobs run.
    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Accesses to blocks of data.
    pub fn accesses(&self) -> u64 {
        self.accesses
    }

    /// Does what is listed, and waits for it.
    pub fn run(&mut self, ops: impl Iterator<Item = Op>) -> Result {
        let mut job = CommandBuffer::new();
        let (mut count, mut work) = (0, 0);
        for op in ops {
            if count == OPS || (count > 0 && work + op.work() > WORK) {
                self.submit(&job)?;
                job.clear();
                (count, work) = (0, 0);
            }
            op.encode(&mut job);
            count += 1;
            work += op.work();
            let operands = op.operands();
            self.accesses += operands.iter().map(|o| o.blocks(&self.data)).sum::<u64>();
        }
        if count > 0 {
            self.submit(&job)?;
        }
        self.wait(self.jobs)
    }

    /// Submits a job; the queue keeps them in order.
    fn submit(&mut self, job: &CommandBuffer) -> Result {
        // Its place was another's until that ended.
        if self.jobs >= DEPTH {
            self.wait(self.jobs + 1 - DEPTH)?;
        }
        let commands = self.commands.start() + self.jobs % DEPTH * Self::slot();
        self.commands.write_bytes(commands, job.as_bytes())?;
        self.queue
            .job(&self.vm, commands, job.len())
            .signal(self.timeline.point(self.jobs + 1))
            .submit()?;
        self.jobs += 1;
        Ok(())
    }

    /// Waits until so many jobs have ended, all of them well.
    fn wait(&self, jobs: u64) -> Result {
        if jobs == 0 {
            return Ok(());
        }
        self.timeline.wait(jobs, TIMEOUT)?;
        // The queue has run nothing but these.
        match self.queue.status()?.failed {
            Some(error) => Err(npu::Error::from(error).into()),
            None => Ok(()),
        }
    }
}
