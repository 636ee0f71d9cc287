// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The selftest's steps with memory that isn't there, and with binds that jobs wait for.

use npu::{
    Attr, BindQueue, Bo, CommandBuffer, MapOptions, Mapped, Memory, RangeInfo, Residency, Timeline,
};

use super::{COMMANDS, FIRST, RESULT, Result, SECOND, Setup, expect, ok};

impl Setup<'_> {
    /// Sparse memory, and advice about some of it, as the kernel reads both back.
    pub(super) fn sparse(&self) -> Result {
        let page = npu::page_size();
        let (start, middle, end) = (FIRST, FIRST + page, FIRST + 16 * page);
        self.vm.bind().sparse(start..end).commit()?;
        self.run("sparse memory", |commands| {
            commands
                .fill(start, end - start, 0x5eed_5eed)
                .write(RESULT, u64::MAX)
                .copy(RESULT, middle, 8);
        })?;
        expect("word", self.result.value_at::<u64>(0)?, 0)?;

        let advice = Attr::Granularity(Some(16));
        self.vm.advise(middle..end, &[advice], false)?;
        let sparse = |range, advice| RangeInfo {
            range,
            mapped: Mapped::Sparse { read_only: false },
            advice,
            faults: 0,
            refaults: 0,
            evicted: None,
        };
        expect(
            "ranges",
            self.vm.query_range(start..end)?,
            vec![
                sparse(start..middle, vec![]),
                sparse(middle..end, vec![advice]),
            ],
        )?;
        self.vm.advise(start..end, &[], true)?;
        expect(
            "ranges",
            self.vm.query_range(start..end)?,
            vec![sparse(start..end, vec![])],
        )?;
        self.vm.unbind(start..end)?;
        ok("advice");
        Ok(())
    }

    /// A bind, a job that waits for it, and a bind that waits for the job.
    pub(super) fn asynchronous(&self) -> Result {
        let page = npu::page_size();
        let bo = Bo::new(self.device, page, Memory::Host)?;
        let mapping = bo.map()?;
        let range = SECOND..SECOND + page;
        let queue = BindQueue::new(&self.vm)?;
        let timeline = Timeline::new(self.device)?;
        let options = MapOptions::default();
        let mut commands = CommandBuffer::new();
        commands.write(SECOND + 8, 0xb01d_b01d);
        self.commands.write_at(0, commands.as_bytes())?;

        self.vm
            .bind()
            .map(&bo, SECOND, options)
            .on(&queue)
            .signal(timeline.point(1))
            .commit_async()?;
        let job = self
            .queue
            .job(&self.vm, COMMANDS, commands.len())
            .wait(timeline.point(1))
            .signal(timeline.point(2))
            .submit()?;
        let mapped = self.vm.query_range(range.clone())?;
        self.vm
            .bind()
            .unmap(range.clone())
            .on(&queue)
            .wait_for(timeline.point(2))
            .signal(timeline.point(3))
            .commit_async()?;
        timeline.wait(3, self.timeout())?;
        self.queue.result(job)?;
        expect("word", mapping.value_at::<u64>(8)?, 0xb01d_b01d)?;
        let info = |mapped| {
            vec![RangeInfo {
                range: range.clone(),
                mapped,
                advice: vec![],
                faults: 0,
                refaults: 0,
                evicted: None,
            }]
        };
        let there = Mapped::Bo {
            offset: 0,
            residency: Residency::Host,
            options,
        };
        expect("ranges", mapped, info(there))?;
        let left = self.vm.query_range(range.clone())?;
        expect("ranges", left, info(Mapped::Nothing))?;
        ok("binds and jobs that wait for each other");
        Ok(())
    }
}
