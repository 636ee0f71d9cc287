// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Host memory, as the device reaches it over the bus.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// A bus address the device cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBusAddress(pub u64);

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The device reads host memory.
    Read,
    /// The device writes host memory.
    Write,
}

struct Region {
    base: u64,
    size: u64,
    map: MmapRegion,
    writable: bool,
}

/// The host memory that was mapped for the device.
#[derive(Default)]
pub struct Dma {
    regions: RwLock<Vec<Region>>,
    bus_master: AtomicBool,
}

/// A moment in which mappings cannot go away: unmapping waits until all views are dropped.
pub struct View<'a>(RwLockReadGuard<'a, Vec<Region>>);

impl Dma {
    /// Sets Bus Master Enable; without it no address is reachable. Clearing waits for accesses.
    pub fn set_bus_master(&self, on: bool) {
        let _regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        self.bus_master.store(on, Ordering::Relaxed);
    }

    /// Makes `size` bytes of `file` reachable at bus address `base`.
    pub fn map(
        &self,
        file: File,
        offset: u64,
        base: u64,
        size: u64,
        writable: bool,
    ) -> io::Result<()> {
        const READ: i32 = 1;
        const WRITE: i32 = 2;
        const SHARED: i32 = 1;
        let overlaps = |r: &Region| base < r.base + r.size && r.base < base + size;
        if size == 0 || base.checked_add(size).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map = MmapRegionBuilder::new(size as usize)
            .with_file_offset(FileOffset::new(file, offset))
            .with_mmap_prot(if writable { READ | WRITE } else { READ })
            .with_mmap_flags(SHARED)
            .build()
            .map_err(io::Error::other)?;
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        if regions.iter().any(overlaps) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        regions.push(Region {
            base,
            size,
            map,
            writable,
        });
        Ok(())
    }

    /// Takes away all mappings inside a range, after accesses in flight have ended.
    pub fn unmap(&self, base: u64, size: u64) {
        let end = base.saturating_add(size);
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        regions.retain(|r| r.base < base || r.base + r.size > end);
    }

    /// Takes away all mappings.
    pub fn unmap_all(&self) {
        self.regions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Begins a short access.
    pub fn view(&self) -> View<'_> {
        View(self.regions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads host memory.
    pub fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), BadBusAddress> {
        let view = self.view();
        let mut done = 0;
        while done < buf.len() {
            let slice = view.slice(
                self,
                address + done as u64,
                (buf.len() - done) as u64,
                Direction::Read,
            )?;
            done += slice.copy_to(&mut buf[done..]);
        }
        Ok(())
    }

    /// Writes host memory.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), BadBusAddress> {
        let view = self.view();
        let mut done = 0;
        while done < data.len() {
            let slice = view.slice(
                self,
                address + done as u64,
                (data.len() - done) as u64,
                Direction::Write,
            )?;
            slice.copy_from(&data[done..]);
            done += slice.len();
        }
        Ok(())
    }
}

impl View<'_> {
    /// The memory at `address`: `len` bytes or fewer, but at least one.
    pub fn slice(
        &self,
        dma: &Dma,
        address: u64,
        len: u64,
        direction: Direction,
    ) -> Result<VolatileSlice<'_>, BadBusAddress> {
        if !dma.bus_master.load(Ordering::Relaxed) {
            return Err(BadBusAddress(address));
        }
        let region = self
            .0
            .iter()
            .find(|r| address >= r.base && address - r.base < r.size)
            .filter(|r| r.writable || direction == Direction::Read)
            .ok_or(BadBusAddress(address))?;
        let offset = address - region.base;
        let len = len.min(region.size - offset);
        region
            .map
            .get_slice(offset as usize, len as usize)
            .map_err(|_| BadBusAddress(address))
    }
}
