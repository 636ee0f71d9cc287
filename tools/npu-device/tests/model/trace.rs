// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The trace of what jobs access.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use npu_device::trace::Trace;

use crate::card::*;
use crate::tables::*;

/// Where a trace goes.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn card() -> (Card, Self) {
        let output = Output::default();
        let trace = Trace::new(Box::new(output.clone()));
        (Card::traced(config(), Some(trace)), output)
    }

    /// What was traced since the last call, but for the root and the fetching of commands.
    fn take(&self, pgd: u64) -> Vec<String> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(text).unwrap();
        let fetch = format!("r {pgd:x} {:x}", CODE_VA >> 16);
        text.lines()
            .filter(|line| *line != fetch)
            .map(|line| line.replace(&format!(" {pgd:x}"), ""))
            .collect()
    }
}

#[test]
fn what_a_job_accesses() {
    let (card, output) = Output::card();
    card.start();
    let space = Space::new(&card).data();
    space.ok(&Commands::new().fill(0x3_0000, 0x1_0004, 7));
    // A completion is seen after what led to it.
    assert_eq!(output.take(space.pgd), ["space", "w 3", "w 4"]);
    space.ok(&Commands::new().copy(0x5_0000, 0x3_fff8, 16));
    assert_eq!(output.take(space.pgd), ["r 3", "r 4", "w 5"]);
    space.ok(&Commands::new().write(0x6_0000, 1).wait(0x6_0000, 1));
    assert_eq!(output.take(space.pgd), ["w 6", "r 6"]);
}

#[test]
fn what_is_no_access_by_a_job() {
    let (card, output) = Output::card();
    card.start();
    let space = Space::new(&card);
    space.leaf(0, 0, VALID | LEAF | WRITE | SPARSE);
    space.ok(&Commands::new().fill(0, 8, 7));
    assert_eq!(output.take(space.pgd), ["space"]);
    let outcome = card.run(0, &transfer(3, 0, 0, 0x1000, 64)).outcome();
    assert_eq!(outcome, OK);
    assert!(output.take(space.pgd).is_empty());
}

#[test]
fn a_fault_is_recorded_when_it_is_over() {
    let (card, output) = Output::card();
    card.start_faults(4);
    let space = Space::new(&card);
    // The second of two blocks lacks its last page.
    for page in 0..31 {
        space.leaf(page << 12, page << 12, RW);
    }
    let index = card.submit(1, &space.job(&Commands::new().fill(0, 0x2_0000, 7), 0));
    card.await_state(1, 3);
    assert_eq!(output.take(space.pgd), ["space", "w 0", "w 1"]);
    space.leaf(31 << 12, 31 << 12, RW);
    card.w32(reg::FAULT_REPLAY, 1);
    assert_eq!(card.finish(1, index).outcome(), OK);
    assert!(output.take(space.pgd).is_empty());
    // Nor is what was never done.
    let index = card.submit(1, &space.job(&Commands::new().fill(0x2_0000, 8, 7), 0));
    card.await_state(1, 3);
    card.w32(reg::FAULT_CANCEL, 1);
    assert_ne!(card.finish(1, index).outcome(), OK);
    assert!(output.take(space.pgd).is_empty());
}

#[test]
fn the_next_space_with_the_same_root_is_another() {
    let (card, output) = Output::card();
    card.start();
    let fill = Commands::new().fill(0, 8, 7);
    let space = Space::new(&card).data();
    space.ok(&fill);
    assert_eq!(output.take(space.pgd), ["space", "w 0"]);
    // Something else is mapped, and something else invalidated.
    space.flush(0, 1 << 21);
    card.invalidate(0xd0_0000, 0, 1 << 48);
    space.ok(&fill);
    assert_eq!(output.take(space.pgd), ["w 0"]);
    // All of it goes, and another one comes.
    let root = card.local_read(space.pgd, 4096);
    card.local_write(space.pgd, &[0; 4096]);
    space.flush(0, 1 << 48);
    card.local_write(space.pgd, &root);
    space.ok(&fill);
    assert_eq!(output.take(space.pgd), ["space", "w 0"]);
    card.reset();
    card.start();
    space.ok(&fill);
    assert_eq!(output.take(space.pgd), ["space", "w 0"]);
}
