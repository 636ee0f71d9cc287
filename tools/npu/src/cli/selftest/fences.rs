// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The selftest's steps with fences, and with two queues at once.

use std::time::Duration;

use npu::{CommandBuffer, Error, Fence, Queue, SyncPoint, Timeline, wait_all, wait_any};

use super::{COMMANDS, RESULT, Result, Setup, expect, ok};

/// What a wait that must not succeed is given.
const SHORT: Duration = Duration::from_millis(20);

/// Where the second queue's commands begin in the page of commands.
const OTHER: usize = 2048;

impl Setup<'_> {
    /// Fences and timelines without a job.
    pub(super) fn fences(&self) -> Result {
        let timeout = self.timeout();
        let fence = Fence::signalled(self.device)?;
        fence.wait(timeout)?;
        fence.reset()?;
        must_time_out(fence.wait(SHORT))?;
        fence.signal()?;
        fence.wait(timeout)?;
        ok("fences from the CPU");

        let timeline = Timeline::new(self.device)?;
        expect("value", timeline.value()?, 0)?;
        timeline.signal(2)?;
        timeline.wait(1, timeout)?;
        must_time_out(timeline.wait(3, SHORT))?;
        let points = [timeline.point(3), timeline.point(2)];
        expect("first signalled", wait_any(&points, timeout)?, 1)?;
        must_time_out(wait_all(&points, SHORT))?;
        expect("value", timeline.value()?, 2)?;
        ok("timelines from the CPU");
        Ok(())
    }

    /// A job that can end only because one of another queue runs at the same time, and a third
    /// that begins only when both have ended.
    pub(super) fn queues(&self) -> Result {
        let other = Queue::new(self.device)?;
        let timeline = Timeline::new(self.device)?;
        let fence = Fence::new(self.device)?;

        let mut waits = CommandBuffer::new();
        waits.wait(RESULT + 64, 5).write(RESULT + 72, 6);
        let mut writes = CommandBuffer::new();
        writes.write(RESULT + 64, 5);
        self.result.write_at(64, &[0u64; 2])?;
        self.commands.write_at(0, waits.as_bytes())?;
        self.commands.write_at(OTHER, writes.as_bytes())?;

        let waiting = self
            .queue
            .job(&self.vm, COMMANDS, waits.len())
            .signal(timeline.point(1))
            .submit()?;
        let writing = other
            .job(&self.vm, COMMANDS + OTHER as u64, writes.len())
            .signal(&fence)
            .submit()?;
        let last = other
            .job(&self.vm, COMMANDS + OTHER as u64, writes.len())
            .wait(timeline.point(1))
            .wait(&fence)
            .signal(timeline.point(2))
            .submit()?;
        let all = [
            SyncPoint::from(&fence),
            timeline.point(1),
            timeline.point(2),
        ];
        wait_all(&all, self.timeout())?;
        self.queue.result(waiting)?;
        other.result(writing)?;
        other.result(last)?;
        expect("value", self.result.value_at::<u64>(72)?, 6)?;
        expect("value", timeline.value()?, 2)?;
        expect("jobs", other.status()?.completed, 2)?;
        ok("two queues at once, and a job that waits for both");
        Ok(())
    }
}

fn must_time_out(result: npu::Result<()>) -> Result {
    match result {
        Err(Error::Timeout) => Ok(()),
        other => Err(format!("a wait that can't end ended with {other:?}").into()),
    }
}
