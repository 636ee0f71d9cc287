// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where memory of a process is, as its page tables say: not what the device has of it, but what is true.
//!
//! Locks: those of a snapshot ([`crate::populate`]).

use crate::{
    driver::Driver,
    kapi::{
        hmm::{
            Buffer,
            Place,
            Snapshot,
            Want, //
        },
        migrate::within_huge, //
    },
    uapi,
    vm::Vm, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};

/// How often a range is looked at anew if it changes.
const TRIES: usize = 8;

/// A part of a process's memory that is in one kind of place.
#[derive(Clone, Copy)]
struct Part {
    start: u64,
    end: u64,
    residency: u32,
}

/// Looks at one block after the other, and remembers the last one.
#[derive(Default)]
pub(crate) struct Residency {
    buffer: Buffer,
    parts: KVVec<Part>,
}

impl Residency {
    /// Where the start of a range of the process is, by `DRM_GMEM_RESIDENT_*`, and up to which address that
    /// holds, at least.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it changes all the time; `EINTR`: the process is being killed; `ENOMEM`.
    pub(crate) fn at<D: Driver>(&mut self, vm: &Vm<D>, cpu: u64, end: u64) -> Result<(u32, u64)> {
        let known = |part: &&Part| part.start <= cpu && cpu < part.end;
        if let Some(part) = self.parts.iter().find(known) {
            return Ok((part.residency, part.end.min(end)));
        }
        self.parts.clear();
        let (start, size) = match vm.next_used(cpu, end - cpu) {
            Ok(Some(found)) => found,
            // Nothing, or nobody.
            Ok(None) => return Ok((0, end)),
            Err(e) if e == ESRCH => return Ok((0, end)),
            Err(e) => return Err(e),
        };
        if start > cpu {
            return Ok((0, start));
        }
        self.look(vm, start, start + within_huge(start, size))?;
        match self.parts.first() {
            Some(part) => Ok((part.residency, part.end)),
            None => Ok((0, end)),
        }
    }

    /// Finds out about a block that has memory of one area.
    fn look<D: Driver>(&mut self, vm: &Vm<D>, start: u64, end: u64) -> Result {
        let Some(subscription) = vm.subscription() else {
            return self.push(start, end, 0);
        };
        let range = start as usize..end as usize;
        for _ in 0..TRIES {
            // Before there is a window that would have to be closed.
            let mut parts = KVVec::with_capacity((range.len() >> PAGE_SHIFT) + 1, GFP_KERNEL)?;
            let taken = Snapshot::take(
                subscription.open(range.clone())?,
                &mut self.buffer,
                range.start..range.start,
                Want::Look,
                vm.process_memory_id(),
            );
            let snapshot = match taken {
                Ok(snapshot) => snapshot,
                Err(e) if e == EBUSY => continue,
                // What can't be looked at is not memory.
                Err(e) if e == EFAULT || e == ESRCH => return self.push(start, end, 0),
                Err(e) => return Err(e),
            };
            let Some(valid) = snapshot.validate() else {
                continue;
            };
            let mut at = start;
            for run in valid.runs() {
                let first = run.address as u64;
                if first > at {
                    add(&mut parts, at, first, 0);
                }
                at = first + run.size as u64;
                let residency = match run.place {
                    Place::Host(_) => uapi::RESIDENT_HOST,
                    Place::Device(_) => uapi::RESIDENT_DEVICE,
                };
                add(&mut parts, first, at, residency);
            }
            if at < end {
                add(&mut parts, at, end, 0);
            }
            drop(valid);
            self.parts = parts;
            return Ok(());
        }
        Err(EBUSY)
    }

    fn push(&mut self, start: u64, end: u64, residency: u32) -> Result {
        let part = Part {
            start,
            end,
            residency,
        };
        self.parts.push(part, GFP_KERNEL)?;
        Ok(())
    }
}

/// Adds a part, for which there is room.
fn add(parts: &mut KVVec<Part>, start: u64, end: u64, residency: u32) {
    if let Some(last) = parts.last_mut().filter(|last| last.residency == residency) {
        last.end = end;
        return;
    }
    let _ = parts.push_within_capacity(Part {
        start,
        end,
        residency,
    });
}
