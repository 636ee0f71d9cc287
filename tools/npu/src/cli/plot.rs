// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu plot`: a picture of what `npu trace` has recorded.
//!
//! [`event`] reads a line, [`history`] makes series of all of them, [`picture`] draws these.

mod event;
mod history;
mod picture;

use std::fs;
use std::path::PathBuf;

use self::history::History;
use super::Result;

/// What `npu plot` takes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
On top is what each VM has of its process's memory on the device, one on the other; below when the device \
faulted and when memory was evicted, the darker the more; and at the bottom how many bytes were copied to the \
device and made there, and to the host and dropped.")]
pub struct Args {
    /// What npu trace has written, or the file trace of tracefs.
    #[arg(value_name = "TRACE")]
    trace: PathBuf,

    /// Where to draw it, as SVG.
    #[arg(short, long, value_name = "FILE", default_value = "residency.svg")]
    output: PathBuf,
}

/// Draws a trace.
pub fn run(args: &Args) -> Result {
    let name = args.trace.display();
    let text = fs::read(&args.trace).map_err(|error| format!("cannot read {name}: {error}"))?;
    // Names of processes may be anything.
    let text = String::from_utf8_lossy(&text);
    let history = History::read(&text).map_err(|error| format!("{name}: {error}"))?;
    let picture = picture::draw(&history)?;
    let output = args.output.display();
    fs::write(&args.output, picture).map_err(|error| format!("cannot write {output}: {error}"))?;
    Ok(())
}
