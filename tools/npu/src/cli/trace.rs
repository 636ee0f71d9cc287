// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu trace`: what gmem_vm does while a command runs.
//!
//! [`instance`] has the events, this lets the command run and writes them to a file.

mod instance;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use npu::Device;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::instance::Instance;
use super::Result;

/// How long to wait if there are no events at the moment.
const PAUSE: Duration = Duration::from_millis(20);

/// What `npu trace` takes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Needs root and tracefs. The events are those of all processes that use a gmem_vm device meanwhile: \
faults that are served, what moves to the device and back, what is evicted and invalidated, and what \
each VM has on the device after that; drivers/gpu/drm/gmem_vm/trace.h says what each tells. npu plot \
draws them. The tracefs instance npu-PID that they are recorded in is nobody else's, and goes in the end.")]
pub struct Args {
    /// Where to write the events, one a line.
    #[arg(short, long, value_name = "FILE", default_value = "npu.trace")]
    output: PathBuf,

    /// KiB of memory for events on each CPU, until they are written.
    #[arg(long, value_name = "KIB", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    buffer: u32,

    /// What to run; without, all is traced until Ctrl-C.
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

/// Traces a command.
pub fn run(args: &Args, device: impl FnOnce() -> npu::Result<Device>) -> Result {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let mut instance = Instance::new(Path::new(instance::TRACEFS), args.buffer)?;
    let mut file = create(&args.output)?;
    // For the picture; that there is no device is the command's business.
    let memory = device().and_then(|device| device.info()).ok();
    header(&mut file, args, memory.map(|info| info.mem_total))?;

    instance.enable(true)?;
    let mut running = match args.command.split_first() {
        Some((program, rest)) => Some(start(program, rest)?),
        None => None,
    };
    let written = record(&mut instance, &mut file, running.as_mut(), &mut signals);
    if let (Err(_), Some(child)) = (&written, &mut running) {
        // Nobody would know of it any more.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (mut events, status) = written?;
    instance.enable(false)?;
    while let Some(more) = instance.read_to(&mut file)? {
        events += more;
    }
    let lost = instance.lost()?;
    writeln!(file, "# lost={lost}").and_then(|()| file.flush())?;
    drop(instance);

    let name = args.output.display();
    match events {
        0 => eprintln!("npu: no events: nobody has used a device of gmem_vm"),
        _ => eprintln!("npu: {events} events in {name}; npu plot {name} draws them"),
    }
    if lost > 0 {
        eprintln!(
            "npu: LOST {lost} EVENTS: they came faster than they were written; --buffer has room for more"
        );
    }
    match status.filter(|status| !status.success()) {
        Some(status) => {
            Err(format!("{} ended with {status}", args.command[0].to_string_lossy()).into())
        }
        None => Ok(()),
    }
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path);
    let file = file.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(BufWriter::new(file))
}

/// What a picture should know besides the events.
fn header(file: &mut impl Write, args: &Args, memory: Option<u64>) -> Result {
    let words = args.command.iter().map(|word| word.to_string_lossy());
    let command = words.collect::<Vec<_>>().join(" ");
    writeln!(file, "# npu trace: {}", command.replace('\n', " "))?;
    if let Some(memory) = memory {
        writeln!(file, "# memory={memory}")?;
    }
    Ok(())
}

fn start(program: &OsString, rest: &[OsString]) -> Result<Child> {
    let child = Command::new(program).args(rest).spawn();
    child.map_err(|error| format!("cannot run {}: {error}", program.to_string_lossy()).into())
}

/// Writes events until the command ends, or a signal comes if there is none. Returns how many, and how it ended.
fn record(
    instance: &mut Instance,
    file: &mut impl Write,
    mut running: Option<&mut Child>,
    signals: &mut Signals,
) -> Result<(u64, Option<ExitStatus>)> {
    let (mut events, mut interrupts) = (0, 0);
    loop {
        // What comes before the end is still in the buffer then.
        if let Some(child) = &mut running {
            if let Some(status) = child.try_wait()? {
                return Ok((events, Some(status)));
            }
        }
        for signal in signals.pending() {
            let Some(child) = &mut running else {
                return Ok((events, None));
            };
            // The terminal's goes to the command as well; if that does not care, it is killed.
            interrupts += u32::from(signal == SIGINT);
            if interrupts > 1 {
                child.kill()?;
            } else if signal != SIGINT {
                kill_process(Pid::from_child(child), Signal::TERM)?;
            }
        }
        match instance.read_to(file)? {
            Some(more) => events += more,
            None => thread::sleep(PAUSE),
        }
    }
}
