// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A trace of what jobs access, for `evict-sim`.
//!
//! Text, a record a line, all numbers hexadecimal:
//!
//! | record | means |
//! |---|---|
//! | `space ID` | an address space is used for the first time, or the first time since it was empty |
//! | `r ID BLOCK` | a block was read, or commands were fetched from it |
//! | `w ID BLOCK` | a block was written |
//!
//! `ID` is the local address of the root table, which another address space may have later: hence `space`. One that
//! ends is seen as its translations are invalidated while its root table has no valid entry, as a driver has to
//! before it uses the table for something else. `BLOCK` is the virtual address divided by 64 KiB. A
//! record that would be the same as the one before is left out, and so is what is sparse, since there is no
//! memory. An access that faults is recorded when it succeeds.
//!
//! What a job has done is in the file before its completion or a fault can be seen; while it goes on, all but the
//! last second of that.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::mmu::Access;

/// log2 of a block's bytes.
const BLOCK: u32 = 16;
/// How long a record may wait for the next ones.
const PATIENCE: Duration = Duration::from_secs(1);

/// A trace that is being written.
pub struct Trace(Mutex<Writer>);

struct Writer {
    /// `None` once writing has failed.
    output: Option<BufWriter<Box<dyn Write + Send>>>,
    /// Roots of the address spaces that were begun.
    spaces: HashSet<u64>,
    /// Root, block, and whether it was written.
    last: Option<(u64, u64, bool)>,
    flushed: Instant,
}

impl Trace {
    /// A trace in a new file, or in place of what an old one has.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Trace::new(Box::new(File::create(path)?)))
    }

    /// A trace that goes anywhere.
    pub fn new(output: Box<dyn Write + Send>) -> Self {
        Trace(Mutex::new(Writer {
            output: Some(BufWriter::new(output)),
            spaces: HashSet::new(),
            last: None,
            flushed: Instant::now(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an access of `len` bytes, at least one, that was performed.
    pub fn access(&self, pgd: u64, va: u64, len: u64, access: Access) {
        self.lock().access(pgd, va, len, access == Access::Write);
    }

    /// Translations of a root were invalidated, or of all: what `is_empty` now begins anew if it is used again.
    pub fn invalidated(&self, pgd: Option<u64>, is_empty: impl Fn(u64) -> bool) {
        let mut writer = self.lock();
        let before = writer.spaces.len();
        let is_meant = |space: u64| pgd.is_none_or(|pgd| pgd == space);
        writer
            .spaces
            .retain(|space| !(is_meant(*space) && is_empty(*space)));
        if writer.spaces.len() != before {
            writer.last = None;
        }
    }

    /// Lets others see what was recorded.
    pub fn flush(&self) {
        self.lock().try_to(Writer::flush);
    }
}

impl Writer {
    fn access(&mut self, pgd: u64, va: u64, len: u64, write: bool) {
        for block in va >> BLOCK..=(va + (len - 1)) >> BLOCK {
            if self.last != Some((pgd, block, write)) {
                self.last = Some((pgd, block, write));
                self.try_to(|writer| writer.record(pgd, block, write));
            }
        }
        if self.flushed.elapsed() >= PATIENCE {
            self.try_to(Writer::flush);
        }
    }

    fn record(&mut self, pgd: u64, block: u64, write: bool) -> io::Result<()> {
        let is_new = self.spaces.insert(pgd);
        if let Some(output) = &mut self.output {
            if is_new {
                writeln!(output, "space {pgd:x}")?;
            }
            let kind = if write { 'w' } else { 'r' };
            writeln!(output, "{kind} {pgd:x} {block:x}")?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        self.output.as_mut().map_or(Ok(()), Write::flush)
    }

    /// Half a trace is none: what fails is not tried again.
    fn try_to(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) {
        if let Err(error) = write(self) {
            log::error!("the trace ends here: {error}");
            if let Some(output) = self.output.take() {
                // Without writing what it still has.
                let _ = output.into_parts();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What was written, and whether writing fails.
    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<(Vec<u8>, bool)>>);

    impl Write for Output {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let mut inner = self.0.lock().expect("no panic");
            if inner.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inner.0.extend(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").0.clone()).expect("text")
        }
    }

    fn trace() -> (Trace, Output) {
        let output = Output::default();
        (Trace::new(Box::new(output.clone())), output)
    }

    fn lines(trace: &Trace, output: &Output) -> Vec<String> {
        trace.flush();
        output.text().lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_access_is_a_line() {
        let (trace, output) = trace();
        trace.access(0x1000, 0x1234_5678, 4, Access::Read);
        trace.access(0x1000, 0x1234_5678, 4, Access::Write);
        trace.access(0x2000, 0x7f00_0000_0000, 8, Access::Fetch);
        let expected = [
            "space 1000",
            "r 1000 1234",
            "w 1000 1234",
            "space 2000",
            "r 2000 7f000000",
        ];
        assert_eq!(lines(&trace, &output), expected);
    }

    #[test]
    fn the_same_is_left_out() {
        let (trace, output) = trace();
        for va in [0x1_0000, 0x1_fff8, 0x2_0000, 0x1_0000] {
            trace.access(0, va, 8, Access::Read);
        }
        // Fetching is reading.
        trace.access(0, 0x1_8000, 8, Access::Fetch);
        trace.access(0x1000, 0x1_8000, 8, Access::Read);
        let expected = [
            "space 0",
            "r 0 1",
            "r 0 2",
            "r 0 1",
            "space 1000",
            "r 1000 1",
        ];
        assert_eq!(lines(&trace, &output), expected);
    }

    #[test]
    fn an_access_may_have_several_blocks() {
        let (trace, output) = trace();
        trace.access(0, 0x1_ffff, 0x1_0002, Access::Write);
        trace.access(0, 0xffff_ffff_f000, 0x1000, Access::Read);
        let expected = ["space 0", "w 0 1", "w 0 2", "w 0 3", "r 0 ffffffff"];
        assert_eq!(lines(&trace, &output), expected);
    }

    #[test]
    fn what_was_empty_begins_anew() {
        let (trace, output) = trace();
        let access = |pgd| trace.access(pgd, 0, 8, Access::Read);
        access(0x1000);
        access(0x2000);
        // Another one, and one that has something.
        trace.invalidated(Some(0x3000), |_| true);
        trace.invalidated(Some(0x2000), |_| false);
        access(0x2000);
        trace.invalidated(Some(0x2000), |pgd| pgd == 0x2000);
        access(0x2000);
        access(0x1000);
        trace.invalidated(None, |pgd| pgd == 0x1000);
        access(0x2000);
        access(0x1000);
        let expected = [
            "space 1000",
            "r 1000 0",
            "space 2000",
            "r 2000 0",
            "space 2000",
            "r 2000 0",
            "r 1000 0",
            "r 2000 0",
            "space 1000",
            "r 1000 0",
        ];
        assert_eq!(lines(&trace, &output), expected);
    }

    #[test]
    fn records_do_not_wait_for_ever() {
        let (trace, output) = trace();
        trace.access(0, 0, 8, Access::Read);
        assert_eq!(output.text(), "");
        let long_ago = Instant::now().checked_sub(PATIENCE);
        trace.lock().flushed = long_ago.expect("the machine has run for a second");
        // Though there is nothing new.
        trace.access(0, 0, 8, Access::Read);
        assert_eq!(output.text(), "space 0\nr 0 0\n");
    }

    #[test]
    fn a_full_disk_ends_it() {
        let (trace, output) = trace();
        output.0.lock().expect("no panic").1 = true;
        trace.access(0, 0, 8, Access::Read);
        trace.flush();
        output.0.lock().expect("no panic").1 = false;
        trace.access(0, 0x1_0000, 8, Access::Read);
        assert!(lines(&trace, &output).is_empty());
    }
}
