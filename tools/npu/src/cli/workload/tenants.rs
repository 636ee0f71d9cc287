// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Two processes on one device, of which one wants all of it.

use std::env;
use std::io::{BufRead, BufReader, Read, stdin};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use npu::Device;

use super::super::{Result, say};
use super::{Args, Before, Done, Name, check};
use crate::workload::BLOCK;
use crate::workload::op::Op;
use crate::workload::pattern::Pattern;
use crate::workload::runner::Runner;

/// What the aggressor says when it has the device's memory.
const RUNNING: &str = "running";

/// The victim, with an aggressor beside it or alone.
pub fn run(args: &Args, device: &Device) -> Result {
    let memory = match args.memory {
        Some(memory) => memory,
        None => device.info()?.mem_total,
    };
    let work = args.blocks(Pattern::Cyclic, memory * 45 / 100)?;
    work.prepare()?;
    let aggressor = match args.alone {
        true => None,
        false => Some(Aggressor::start(args, device)?),
    };
    let done = Done::run(device, &*work)?;
    if let Some(aggressor) = aggressor {
        say(aggressor.stop()?)?;
    }
    let checked = check(args, &*work);
    let beside = if args.alone {
        0
    } else {
        args.size / BLOCK * BLOCK
    };
    say(done.line(
        &args.name.text(),
        &[("memory", memory), ("aggressor", beside)],
    ))?;
    checked
}

/// The other process. It ends when its standard input does, which is when this is dropped at the
/// latest, or this process ends.
struct Aggressor {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Aggressor {
    /// Starts it, and returns when it has read all of its memory once.
    fn start(args: &Args, device: &Device) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("--device")
            .arg(device.path())
            .args(["workload", &Name::Aggressor.text()])
            .args(["--size", &args.size.to_string()])
            .args(["--seed", &args.seed.wrapping_add(1).to_string()])
            .args(args.verify.then_some("--verify"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().expect("it has a pipe");
        let mut aggressor = Self {
            child,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        aggressor.output.read_line(&mut line)?;
        if line.trim_end() == RUNNING {
            Ok(aggressor)
        } else {
            Err("the aggressor did not start".into())
        }
    }

    /// Ends it, and returns what it says of itself.
    fn stop(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(text.trim_end().into())
        } else {
            Err(format!("the aggressor ended badly: {status}").into())
        }
    }
}

impl Drop for Aggressor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        _ = self.child.wait();
    }
}

/// Reads blocks until standard input ends.
pub fn aggressor(args: &Args, device: &Device) -> Result {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    thread::spawn(move || {
        _ = stdin().read_to_end(&mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    let work = args.work()?;
    work.prepare()?;
    let mut runner = Runner::new(device, &*work)?;
    runner.run(work.ops())?;
    say(RUNNING)?;
    let before = Before::new(device, &runner)?;
    let go_on = |_: &Op| !ended.load(Ordering::Relaxed);
    while !ended.load(Ordering::Relaxed) {
        runner.run(work.ops().take_while(go_on))?;
    }
    let done = before.done(device, &*work, &runner)?;
    check(args, &*work)?;
    say(done.line(&args.name.text(), &[]))
}
