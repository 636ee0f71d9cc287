// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What `fdinfo` shows of an open file: memory of processes that its VMs mirror, in sum.
//!
//! | line | is |
//! |---|---|
//! | `gmem-resident-device` | memory of the process in device memory that a page table has |
//! | `gmem-mirrored` | memory of the process that a page table has, wherever it is |
//! | `gmem-faults` | faults of the device |
//! | `gmem-to-device` | what was copied to device memory |
//! | `gmem-made` | what was made there, zeroed, since the process had nothing yet |
//! | `gmem-evicted` | what the evictor brought back to the host, copied or not |
//! | `gmem-refaults` | blocks that came back after they had been evicted |
//!
//! Memory is in KiB. But for the first two lines all only grow, also when a VM is destroyed. A chunk of device
//! memory that has blocks of several VMs is `evicted` from the one whose block came last.
//!
//! Nothing is walked or allocated. Locks: the file's table of VMs, and in it for each VM that of
//! [`crate::device_pages`], and in that the table lock.

use crate::{
    driver::Driver,
    file::File,
    vm::Vm, //
};
use core::ops::AddAssign;
use kernel::{
    drm,
    drm_print,
    prelude::*, //
};

/// What VMs have of their processes' memory, and what it took. Memory is in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    resident: u64,
    mirrored: u64,
    faults: u64,
    to_device: u64,
    made: u64,
    evicted: u64,
    refaults: u64,
}

impl Usage {
    /// What is left of it when the VM has ended.
    pub(crate) fn ended(self) -> Self {
        Self {
            resident: 0,
            mirrored: 0,
            ..self
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.resident += other.resident;
        self.mirrored += other.mirrored;
        self.faults += other.faults;
        self.to_device += other.to_device;
        self.made += other.made;
        self.evicted += other.evicted;
        self.refaults += other.refaults;
    }
}

impl<D: Driver> Vm<D> {
    /// What it has and has done. Process context, sleeps.
    pub(crate) fn usage(&self) -> Usage {
        let pages = self.device.process_pages();
        let mut state = pages.map(|pages| pages.owner().state());
        let tables = self.tables.lock();
        let mirrors = &tables.mirrors;
        let known = state.as_mut();
        let known = known.and_then(|state| state.evictor.counts_of(self.number()));
        let evictor = known.unwrap_or(mirrors.evicted);
        Usage {
            resident: mirrors.resident,
            mirrored: mirrors.mapped,
            faults: mirrors.counts.faults,
            to_device: mirrors.counts.to_device,
            made: mirrors.counts.made,
            evicted: evictor.bytes,
            refaults: evictor.refaults,
        }
    }
}

impl<D: Driver> File<D> {
    /// Prints the lines of [`usage`](self). To be called in the driver's `show_fdinfo`.
    pub fn show_usage(&self, printer: &drm::Printer) {
        let usage = self.usage();
        for (key, bytes) in [
            ("resident-device", usage.resident),
            ("mirrored", usage.mirrored),
            ("to-device", usage.to_device),
            ("made", usage.made),
            ("evicted", usage.evicted),
        ] {
            drm_print!(printer, "gmem-{}:\t{} KiB\n", key, bytes >> 10);
        }
        for (key, count) in [("faults", usage.faults), ("refaults", usage.refaults)] {
            drm_print!(printer, "gmem-{}:\t{}\n", key, count);
        }
    }
}

#[kunit_tests(gmem_vm_usage)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_vm_has_nothing_but_a_past() {
        let usage = Usage {
            resident: 1,
            mirrored: 2,
            faults: 3,
            to_device: 4,
            made: 5,
            evicted: 6,
            refaults: 7,
        };
        let mut sum = usage;
        sum += usage.ended();
        let expected = Usage {
            resident: 1,
            mirrored: 2,
            faults: 6,
            to_device: 8,
            made: 10,
            evicted: 12,
            refaults: 14,
        };
        assert_eq!(sum, expected);
    }
}
