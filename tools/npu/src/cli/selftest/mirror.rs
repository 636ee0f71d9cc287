// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The selftest's steps with memory of the process itself.

use npu::{
    CommandBuffer, Error, FaultAccess, Fence, Heap, JobFailure, Location, MapOptions, Mapped, Vm,
};

use super::{Result, Setup, expect, ok, skip};

/// What the CPU has from malloc(), and the device at the same addresses.
struct Mirror<'a> {
    setup: &'a Setup<'a>,
    // Dropped before the memory, so that a job that still runs finds nothing in its place.
    vm: Vm,
    commands: Heap,
    result: Heap,
    first: Heap,
    second: Heap,
    /// Do jobs have to name what they touch?
    named: bool,
}

impl Setup<'_> {
    /// Jobs on memory from malloc(), prefetches of it, and a pointer to nothing.
    pub(super) fn mirror(&self) -> Result {
        let info = self.device.info()?;
        let size = usize::try_from(self.args.size)?;
        let mirror = Mirror {
            setup: self,
            vm: Vm::new(self.device)?,
            commands: Heap::new(npu::page_size() as usize)?,
            result: Heap::new(8)?,
            first: Heap::new(size)?,
            second: Heap::new(size)?,
            named: !info.faults,
        };
        let options = MapOptions {
            exec: true,
            ..Default::default()
        };
        match mirror.vm.mirror_process(options) {
            Err(error @ Error::NoMirrors { .. }) => {
                skip(&format!("mirrored memory: {error}"));
                return Ok(());
            }
            range => _ = range?,
        }
        mirror.fill()?;
        mirror.compare()?;
        mirror.prefetch(info.mem_free >= 4 * self.args.size)?;
        mirror.bad_pointer(info.va_start.max(npu::page_size()))
    }
}

impl Mirror<'_> {
    /// Runs one job and waits for it.
    fn job(&self, fill: impl FnOnce(&mut CommandBuffer)) -> npu::Result<()> {
        let mut commands = CommandBuffer::new();
        fill(&mut commands);
        self.commands.cpu().write_at(0, commands.as_bytes())?;
        let queue = &self.setup.queue;
        let fence = Fence::new(self.setup.device)?;
        let mut job = queue
            .job(&self.vm, self.commands.address(), commands.len())
            .signal(&fence);
        if self.named {
            for heap in [&self.commands, &self.result, &self.first, &self.second] {
                job = job.touches(heap.pages());
            }
        }
        let job = job.submit()?;
        fence.wait(self.setup.timeout())?;
        queue.result(job)
    }

    /// A job fills what the CPU then reads.
    fn fill(&self) -> Result {
        let (first, pattern) = (&self.first, 0x5eed_cafe_u32);
        self.job(|commands| _ = commands.fill(first.address(), first.size(), pattern))?;
        expect_all(first, pattern)?;
        ok("mirrored memory: the CPU reads what a job wrote");
        Ok(())
    }

    /// The device compares what the CPU wrote.
    fn compare(&self) -> Result {
        let (first, second) = (&self.first, &self.second);
        let last = first.size() - 4;
        let words: Vec<u32> = (1..=(first.size() / 4) as u32).collect();
        first.cpu().write_at(0, &words)?;
        second.cpu().write_at(0, &words)?;
        expect("first difference", self.difference()?, u64::MAX)?;
        let other = !words[words.len() - 1];
        second.cpu().write_at(last as usize, &[other])?;
        expect("first difference", self.difference()?, last)?;
        ok("mirrored memory: a job sees what the CPU wrote");
        Ok(())
    }

    /// The first byte that differs between the buffers.
    fn difference(&self) -> Result<u64> {
        let (first, second) = (&self.first, &self.second);
        self.job(|commands| {
            let (a, b) = (first.address(), second.address());
            commands.compare(self.result.address(), a, b, first.size());
        })?;
        Ok(self.result.cpu().value_at::<u64>(0)?)
    }

    /// To the device and back, with all that was written in between.
    fn prefetch(&self, has_room: bool) -> Result {
        let (first, pattern) = (&self.first, 0x0ff5_e7ed_u32);
        let pages = first.pages();
        let size = pages.end - pages.start;
        let words: Vec<u32> = vec![!pattern; first.size() as usize / 4];
        first.cpu().write_at(0, &words)?;

        let done = self.vm.prefetch(pages.clone(), Location::Device)?;
        expect("bytes mapped", done.mapped, size)?;
        if has_room && done.moved == 0 {
            return Err("a prefetch to device memory with room moved nothing".into());
        }
        self.job(|commands| _ = commands.fill(first.address(), first.size() / 2, pattern))?;
        for info in self.vm.query_range(pages.clone())? {
            match info.mapped {
                Mapped::Mirror { address, .. } => expect("address", address, info.range.start)?,
                other => return Err(format!("mirrored memory reads back as {other:?}").into()),
            }
        }

        let done = self.vm.prefetch(pages, Location::Host)?;
        expect("bytes mapped", done.mapped, size)?;
        let middle = first.size() as usize / 2;
        expect("first word", first.cpu().value_at(0)?, pattern)?;
        expect(
            "word in the middle",
            first.cpu().value_at(middle - 4)?,
            pattern,
        )?;
        expect("next word", first.cpu().value_at(middle)?, !pattern)?;
        ok("mirrored memory: prefetched to the device and back");
        Ok(())
    }

    /// What is not there for the CPU isn't for the device: the job ends, and only the job.
    fn bad_pointer(&self, nowhere: u64) -> Result {
        let what = "a job with a bad pointer";
        match self.job(|commands| _ = commands.fill(nowhere, 4, 1)) {
            Err(Error::Job(error)) => match error.cause {
                JobFailure::Fault {
                    address,
                    access: Some(FaultAccess::Write),
                    ..
                } if address == nowhere => {}
                other => return Err(format!("{what} ended because {other}").into()),
            },
            Err(error) => return Err(error.into()),
            Ok(()) => return Err(format!("{what} ended well").into()),
        }
        self.job(|commands| _ = commands.write(self.result.address(), 9))?;
        expect("value", self.result.cpu().value_at::<u64>(0)?, 9)?;
        ok("mirrored memory: a bad pointer ends a job with its address");
        Ok(())
    }
}

/// All words of a buffer must be the same.
fn expect_all(heap: &Heap, word: u32) -> Result {
    let words = heap.cpu().values_at::<u32>(0, heap.size() as usize / 4)?;
    match words.iter().position(|found| *found != word) {
        Some(at) => expect(&format!("word {at}"), words[at], word),
        None => Ok(()),
    }
}
