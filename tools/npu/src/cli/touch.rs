// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu touch`: how many faults it takes until the device has memory that nobody ever touched.

use std::time::Duration;

use npu::{CommandBuffer, Device, Heap, MapOptions, Queue, Vm};

use super::{Result, say};

/// What `npu touch` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// MiB of new memory of the process that one job fills.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    mib: u32,
}

const PATTERN: u32 = 0x0c0f_fee0;

/// Fills memory of the heap by one job.
pub fn run(args: &Args, device: &Device) -> Result {
    let (data, code) = (Heap::new((args.mib as usize) << 20)?, Heap::new(4096)?);
    let vm = Vm::new(device)?;
    vm.mirror_process(MapOptions {
        exec: true,
        ..Default::default()
    })?;
    let mut commands = CommandBuffer::new();
    commands.fill(data.address(), data.size(), PATTERN);
    code.cpu().write_at(0, commands.as_bytes())?;
    let queue = Queue::new(device)?;
    queue.run(&vm, code.address(), commands.len(), Duration::from_secs(60))?;
    let stats = vm.stats()?;
    let told = vm.query_range(data.pages())?;
    let evicted = told.iter().filter(|info| info.evicted.is_some());
    let evicted: u64 = evicted.map(|info| info.range.end - info.range.start).sum();
    let last = data.cpu().value_at::<u32>(data.size() as usize - 4)?;
    if data.cpu().value_at::<u32>(0)? != PATTERN || last != PATTERN {
        return Err("the memory does not have what the job filled it with".into());
    }
    say(format_args!(
        "{} MiB filled for the first time: {} faults, {} of them answered by others', {} MiB made on the device, \
         {} MiB in ranges of which some has left it again",
        args.mib,
        stats.faults,
        stats.merged,
        stats.made >> 20,
        evicted >> 20
    ))
}
