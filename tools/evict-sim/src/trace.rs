// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Accesses of a device, as `npu-device --trace` writes them.
//!
//! A record a line, all numbers hexadecimal: `space ID` as an address space begins, `r ID BLOCK` and
//! `w ID BLOCK` as it is accessed, where a block has 64 KiB. Each `space` begins a run of its own, since
//! another process may get the same number later. What follows `#` says nothing.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, BufRead, Write};

/// Bytes of a block of a trace.
pub const BLOCK: u64 = 64 << 10;

/// An access to a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// The block's number.
    pub block: u64,
    /// It is written.
    pub write: bool,
}

/// Why a trace could not be read.
#[derive(Debug)]
pub enum Error {
    /// Reading failed.
    Io(io::Error),
    /// A line is no record: its number.
    Line(usize),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read the trace: {error}"),
            Self::Line(line) => write!(f, "line {line} of the trace is no record"),
        }
    }
}

impl std::error::Error for Error {}

enum Record {
    Space(u64),
    Access(u64, Access),
}

fn record(line: &str) -> Option<Record> {
    let mut words = line.split_ascii_whitespace();
    let kind = words.next()?;
    let mut number = || u64::from_str_radix(words.next()?, 16).ok();
    let space = number()?;
    let record = match kind {
        "space" => Record::Space(space),
        "r" | "w" => {
            let (block, write) = (number()?, kind == "w");
            Record::Access(space, Access { block, write })
        }
        _ => return None,
    };
    words.next().is_none().then_some(record)
}

/// Reads a trace: the accesses of each run that has some, in the order in which they began.
///
/// A process that is killed may leave half a line at the end, which is left out.
pub fn parse(input: impl BufRead) -> Result<Vec<Vec<Access>>, Error> {
    let mut runs = Vec::<Vec<Access>>::new();
    let mut current = HashMap::new();
    let mut lines = input.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let line = line?;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match record(line) {
            Some(Record::Space(space)) => drop(current.remove(&space)),
            Some(Record::Access(space, access)) => {
                let run = *current.entry(space).or_insert_with(|| {
                    runs.push(Vec::new());
                    runs.len() - 1
                });
                runs[run].push(access);
            }
            None if lines.peek().is_none() => {}
            None => return Err(Error::Line(number + 1)),
        }
    }
    Ok(runs)
}

/// Writes a trace of one run.
pub fn write(output: &mut impl Write, run: &[Access]) -> io::Result<()> {
    writeln!(output, "space 0")?;
    for Access { block, write } in run {
        let kind = if *write { 'w' } else { 'r' };
        writeln!(output, "{kind} 0 {block:x}")?;
    }
    Ok(())
}

/// The same accesses to blocks that are so many times larger.
pub fn coarsen(run: &[Access], times: u64) -> Vec<Access> {
    let larger = |access: &Access| Access {
        block: access.block / times,
        ..*access
    };
    let mut run: Vec<_> = run.iter().map(larger).collect();
    run.dedup();
    run
}

/// How many blocks a run accesses.
pub fn distinct(run: &[Access]) -> u64 {
    run.iter().map(|a| a.block).collect::<HashSet<_>>().len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn read(block: u64) -> Access {
        Access {
            block,
            write: false,
        }
    }

    const fn written(block: u64) -> Access {
        Access { block, write: true }
    }

    #[test]
    fn spaces_are_told_apart() {
        let text = "# some\nspace 1000\nspace 2000\nr 1000 7f\nw 2000 7f\nr 1000 80 # here\n\
                    space 1000\nw 1000 7f\nr 2000 1\n";
        let runs = parse(text.as_bytes()).expect("a trace");
        let expected = [
            vec![read(0x7f), read(0x80)],
            vec![written(0x7f), read(1)],
            vec![written(0x7f)],
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn only_the_last_line_may_be_cut_off() {
        for cut in ["r", "r 1", "spac", "r 1 "] {
            let text = format!("r 1 2\n{cut}");
            assert_eq!(parse(text.as_bytes()).expect("a trace"), [vec![read(2)]]);
            let text = format!("{cut}\nr 1 2\n");
            assert!(matches!(parse(text.as_bytes()), Err(Error::Line(1))));
        }
        assert!(matches!(
            parse(&b"r 1 2 3\nr 1 2\n"[..]),
            Err(Error::Line(1))
        ));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let run = vec![read(1), written(0xabc), read(1)];
        let mut text = Vec::new();
        write(&mut text, &run).expect("memory");
        assert_eq!(parse(&text[..]).expect("a trace"), [run]);
    }

    #[test]
    fn larger_blocks_are_fewer() {
        let run = [read(1), read(3), written(2), read(4), read(1)];
        assert_eq!(coarsen(&run, 4), [read(0), written(0), read(1), read(0)]);
        assert_eq!(distinct(&run), 4);
    }
}
