// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu selftest`: the shortest way through the driver, one printed line a step.

mod binds;
mod fences;
mod mirror;

use std::fmt::Debug;
use std::time::Duration;

use npu::{Bo, CommandBuffer, Device, Error, Fence, JobFailure, MapOptions, Memory, Queue, Vm};

use super::{Result, human, say};

/// What `npu selftest` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Bytes of each buffer, a multiple of the page size.
    #[arg(long, default_value_t = 1 << 20)]
    size: u64,

    /// Seconds to wait for a job.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

/// Device addresses; far enough apart for any reasonable size.
const COMMANDS: u64 = 0x1_0000_0000;
const RESULT: u64 = 0x2_0000_0000;
const FIRST: u64 = 0x10_0000_0000;
const SECOND: u64 = 0x20_0000_0000;
const NOWHERE: u64 = 0x70_0000_0000;

/// What all steps share: an address space with a page for commands and one for results.
struct Setup<'a> {
    device: &'a Device,
    args: &'a Args,
    vm: Vm,
    queue: Queue,
    commands: npu::Mapping,
    result: npu::Mapping,
}

/// Tests the device; the first failure ends it.
pub fn run(args: &Args, device: &Device) -> Result {
    let driver = device.driver()?;
    ok(&format!(
        "driver {} at {}",
        driver.name,
        device.path().display()
    ));
    let info = device.info()?;
    ok(&format!("device memory {}", human::bytes(info.mem_total)));
    let setup = Setup::new(device, args)?;

    setup.run("empty job", |commands| _ = commands.nop())?;
    setup.run("write", |commands| {
        _ = commands.write(RESULT, 0x0123_4567_89ab_cdef)
    })?;
    expect(
        "value",
        setup.result.value_at::<u64>(0)?,
        0x0123_4567_89ab_cdef,
    )?;

    for memory in Memory::ALL {
        // Two buffers, and room for page tables.
        let wanted = args.size * 3;
        let available = match memory {
            Memory::Host => u64::MAX,
            Memory::Device => info.mem_free,
            Memory::DeviceVisible => info.mem_free.min(info.mem_visible),
        };
        if available < wanted {
            let (wanted, available) = (human::bytes(wanted), human::bytes(available));
            skip(&format!("{memory}: needs {wanted}, has {available}"));
        } else {
            setup.memory(memory)?;
        }
    }
    setup.fences()?;
    setup.queues()?;
    setup.sparse()?;
    setup.asynchronous()?;
    setup.mirror()?;
    setup.fault()?;
    setup.bad_command()?;
    ok("all done");
    Ok(())
}

impl<'a> Setup<'a> {
    fn new(device: &'a Device, args: &'a Args) -> Result<Self> {
        let page = npu::page_size();
        let vm = Vm::new(device)?;
        ok("address space");
        let (commands, result) = (
            Bo::new(device, page, Memory::Host)?,
            Bo::new(device, page, Memory::Host)?,
        );
        let setup = Self {
            commands: commands.map()?,
            result: result.map()?,
            queue: Queue::new(device)?,
            vm,
            device,
            args,
        };
        ok("buffers and queue");
        setup
            .vm
            .bind()
            .map(&commands, COMMANDS, MapOptions::COMMANDS)
            .map(&result, RESULT, MapOptions::default())
            .commit()?;
        ok("bind");
        Ok(setup)
    }

    /// How long to wait for what must happen.
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.args.timeout)
    }

    /// Runs one job and waits for it.
    fn job(&self, fill: impl FnOnce(&mut CommandBuffer)) -> npu::Result<()> {
        let mut commands = CommandBuffer::new();
        fill(&mut commands);
        self.commands.write_at(0, commands.as_bytes())?;
        let fence = Fence::new(self.device)?;
        let job = self
            .queue
            .job(&self.vm, COMMANDS, commands.len())
            .signal(&fence)
            .submit()?;
        fence.wait(self.timeout())?;
        self.queue.result(job)
    }

    fn run(&self, what: &str, fill: impl FnOnce(&mut CommandBuffer)) -> Result {
        self.job(fill).map_err(|error| format!("{what}: {error}"))?;
        ok(what);
        Ok(())
    }

    /// Fill, copy and compare two buffers.
    fn memory(&self, memory: Memory) -> Result {
        let size = self.args.size;
        let first = Bo::new(self.device, size, memory)?;
        let second = Bo::new(self.device, size, memory)?;
        let none = MapOptions::default();
        self.vm
            .bind()
            .map(&first, FIRST, none)
            .map(&second, SECOND, none)
            .commit()?;

        self.run(&format!("{memory}: a new buffer is zero"), |commands| {
            // Equal to itself, one word further on: all words are as the first one.
            commands
                .compare(RESULT, FIRST, FIRST + 8, size - 8)
                .copy(RESULT + 8, FIRST, 8);
        })?;
        expect(
            "first difference",
            self.result.value_at::<u64>(0)?,
            u64::MAX,
        )?;
        expect("first word", self.result.value_at::<u64>(8)?, 0)?;

        let (pattern, last) = (0xa5a5_0ff0_u32, size - 4);
        self.run(&format!("{memory}: fill, copy, compare"), |commands| {
            commands
                .fill(FIRST, size, pattern)
                .copy(SECOND, FIRST, size)
                .compare(RESULT, FIRST, SECOND, size)
                .fill(SECOND + last, 4, !pattern)
                .compare(RESULT + 8, FIRST, SECOND, size)
                .copy(RESULT + 16, FIRST + last, 4);
        })?;
        expect(
            "first difference",
            self.result.value_at::<u64>(0)?,
            u64::MAX,
        )?;
        expect("first difference", self.result.value_at::<u64>(8)?, last)?;
        expect("last word", self.result.value_at::<u32>(16)?, pattern)?;

        if memory.is_cpu_visible() {
            let mapping = first.map()?;
            expect("word at the start", mapping.value_at::<u32>(0)?, pattern)?;
            expect(
                "word at the end",
                mapping.value_at::<u32>(last as usize)?,
                pattern,
            )?;
            mapping.write_at(0, &[1u32, 2, 3])?;
            self.run(
                &format!("{memory}: the device sees what the CPU wrote"),
                |commands| {
                    commands.copy(RESULT, FIRST, 12);
                },
            )?;
            expect("words", self.result.values_at::<u32>(0, 3)?, vec![1, 2, 3])?;
        }
        self.vm.unbind(FIRST..FIRST + size)?;
        self.vm.unbind(SECOND..SECOND + size)?;
        ok(&format!("{memory}: unbind"));
        Ok(())
    }

    /// An address that isn't mapped must end the job, and only the job.
    fn fault(&self) -> Result {
        let what = "a job that touches nothing";
        match self.failure(what, |commands| _ = commands.fill(NOWHERE, 4, 1))? {
            JobFailure::Fault {
                address: NOWHERE,
                reason: 1,
                ..
            } => {}
            other => return Err(format!("{what} ended because {other}").into()),
        }
        ok(&format!("{what} ends with a fault"));
        self.run("and the next one runs", |commands| {
            _ = commands.write(RESULT, 7)
        })?;
        expect("value", self.result.value_at::<u64>(0)?, 7)
    }

    /// So must a command that isn't one.
    fn bad_command(&self) -> Result {
        let what = "a job with a command that is none";
        let unknown = [0xff, 0xff, 1, 0, 0, 0, 0, 0];
        match self.failure(what, |commands| _ = commands.nop().raw(&unknown))? {
            JobFailure::BadCommand {
                offset: 8,
                reason: 1,
            } => {}
            other => return Err(format!("{what} ended because {other}").into()),
        }
        ok(&format!("{what} ends where it stands"));
        self.run("and the next one runs", |commands| _ = commands.nop())
    }

    /// Runs a job that must fail, and says why it did.
    fn failure(&self, what: &str, fill: impl FnOnce(&mut CommandBuffer)) -> Result<JobFailure> {
        match self.job(fill) {
            Err(Error::Job(error)) => Ok(error.cause),
            Err(error) => Err(error.into()),
            Ok(()) => Err(format!("{what} ended well").into()),
        }
    }
}

/// The exit status tells whether all went well, also when nobody reads the lines.
fn ok(what: &str) {
    _ = say(format_args!("ok    {what}"));
}

fn skip(what: &str) {
    _ = say(format_args!("skip  {what}"));
}

fn expect<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Result {
    if got == wanted {
        return Ok(());
    }
    Err(format!("{what}: {got:#x?} instead of {wanted:#x?}").into())
}
