// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Plain memory of the process.

use std::ops::Range;

use crate::bo::Mapping;
use crate::buffer::page_size;
use crate::error::Result;
use crate::sys::SharedMemory;

/// Memory of the process's heap, as `malloc()` gives it, for a device that
/// [mirrors the process](crate::Vm::mirror_process).
///
/// The device finds it at the address that the CPU has it at. It may begin and end anywhere in a
/// page, and share that with other allocations.
///
/// To drop it is to `free()` it, and then it may be anyone's: the jobs that touch it must have
/// ended, or their address space be gone.
#[derive(Debug)]
pub struct Heap(Mapping);

impl Heap {
    /// Takes `size` bytes of zeros, at least one, at a multiple of 16.
    ///
    /// Errors: [`NOMEM`](rustix::io::Errno::NOMEM).
    pub fn new(size: usize) -> Result<Self> {
        SharedMemory::allocate(size).map(|memory| Self(Mapping(memory)))
    }

    /// Its address, for the CPU and for the device.
    pub fn address(&self) -> u64 {
        self.0.0.address()
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.0.len() as u64
    }

    /// The addresses of the pages that it lies in, for what takes whole pages only.
    pub fn pages(&self) -> Range<u64> {
        pages(self.address()..self.address() + self.size(), page_size())
    }

    /// What reads and writes it while the device may do so too.
    pub fn cpu(&self) -> &Mapping {
        &self.0
    }
}

/// The range, and what else is in its first and last page.
fn pages(range: Range<u64>, page: u64) -> Range<u64> {
    range.start / page * page..range.end.next_multiple_of(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zero_and_lies_in_its_pages() {
        for size in [0, 1, 100, 4096, 1 << 20] {
            let heap = Heap::new(size).unwrap();
            assert_eq!(heap.size(), size.max(1) as u64);
            assert_eq!(heap.address() % 16, 0);
            let pages = heap.pages();
            assert!(pages.start <= heap.address());
            assert!(pages.end >= heap.address() + heap.size());
            let values = heap.cpu().values_at::<u8>(0, size).unwrap();
            assert!(values.iter().all(|byte| *byte == 0));
            if let Some(last) = size.checked_sub(8) {
                heap.cpu().write_at(last, &[7u64]).unwrap();
                assert_eq!(heap.cpu().value_at::<u64>(last).unwrap(), 7);
            }
        }
        assert!(Heap::new(usize::MAX).unwrap_err().is_out_of_memory());
        assert!(
            Heap::new(isize::MAX as usize - 15)
                .unwrap_err()
                .is_out_of_memory()
        );
    }

    #[test]
    fn pages_are_whole() {
        assert_eq!(pages(0x1000..0x2000, 0x1000), 0x1000..0x2000);
        assert_eq!(pages(0x1fff..0x2001, 0x1000), 0x1000..0x3000);
        assert_eq!(pages(0x1010..0x1020, 0x1000), 0x1000..0x2000);
    }
}
