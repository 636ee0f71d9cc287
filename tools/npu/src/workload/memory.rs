// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory of the process by its addresses.

use std::ops::Range;

use npu::Heap;

use super::contents::Contents;
use super::{NUMBERS, Result};

/// Memory that begins at a multiple of 2 MiB, so that what comes to the device at a time does not
/// depend on what `malloc()` found.
const ALIGN: u64 = 2 << 20;

/// Plain memory of the process, of which nothing was touched yet.
///
/// The jobs that touch it must have ended before it is dropped.
#[derive(Debug)]
pub struct Memory {
    heap: Heap,
    range: Range<u64>,
}

impl Memory {
    /// Takes `size` bytes, in whole pages.
    pub fn new(size: u64) -> Result<Self> {
        let size = size.max(1).next_multiple_of(npu::page_size());
        let heap = Heap::new((size + ALIGN) as usize)?;
        let start = heap.address().next_multiple_of(ALIGN);
        Ok(Self {
            heap,
            range: start..start + size,
        })
    }

    /// Where it begins.
    pub fn start(&self) -> u64 {
        self.range.start
    }

    /// Its addresses.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    fn offset(&self, address: u64) -> usize {
        (address - self.heap.address()) as usize
    }

    /// Writes bytes.
    pub fn write_bytes(&self, address: u64, bytes: &[u8]) -> Result {
        Ok(self.heap.cpu().write_at(self.offset(address), bytes)?)
    }

    /// Writes numbers.
    pub fn write(&self, address: u64, numbers: &[f32]) -> Result {
        Ok(self.heap.cpu().write_at(self.offset(address), numbers)?)
    }

    /// Reads numbers.
    pub fn read(&self, address: u64, count: usize) -> Result<Vec<f32>> {
        Ok(self.heap.cpu().values_at(self.offset(address), count)?)
    }

    /// Writes `count` numbers of `contents`, from place `first` of it on.
    pub fn fill(&self, address: u64, contents: &Contents, first: usize, count: usize) -> Result {
        // As much as a cache has room for.
        let mut numbers = contents.from(first);
        let mut piece = Vec::with_capacity(NUMBERS);
        for done in (0..count).step_by(NUMBERS) {
            piece.clear();
            piece.extend(numbers.by_ref().take(NUMBERS.min(count - done)));
            self.write(address + done as u64 * 4, &piece)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_by_address() {
        let memory = Memory::new(5000).unwrap();
        let range = memory.range();
        assert_eq!((range.start % ALIGN, range.end - range.start), (0, 8192));
        let contents = Contents::whole(1, 64);
        memory.fill(range.start + 8, &contents, 16, 100).unwrap();
        assert_eq!(
            memory.read(range.start + 12, 99).unwrap(),
            contents.values(17, 99)
        );
        assert!(memory.write(range.end + ALIGN, &[1.0]).is_err());
    }
}
