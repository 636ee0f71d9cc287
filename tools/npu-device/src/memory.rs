// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The device's own memory: a memfd, so that the virtual machine can map it as the aperture.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Local memory. Pages are zero until they are written.
pub struct LocalMemory {
    map: MmapRegion,
    fd: RawFd,
}

impl LocalMemory {
    /// Makes a memory of `size` bytes.
    pub fn new(size: u64) -> io::Result<Self> {
        let file = File::from(memfd_create("npu-memory", MemfdFlags::CLOEXEC)?);
        file.set_len(size)?;
        let fd = file.as_raw_fd();
        let map = MmapRegion::from_file(FileOffset::new(file, 0), size as usize)
            .map_err(io::Error::other)?;
        Ok(LocalMemory { map, fd })
    }

    /// Bytes of memory.
    pub fn size(&self) -> u64 {
        self.map.size() as u64
    }

    /// The descriptor behind it, which lives as long as `self`.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Whether `len` bytes from `address` on exist.
    pub fn contains(&self, address: u64, len: u64) -> bool {
        address
            .checked_add(len)
            .is_some_and(|end| end <= self.size())
    }

    /// The bytes of a range, if they all exist.
    pub fn slice(&self, address: u64, len: u64) -> Option<VolatileSlice<'_>> {
        self.contains(address, len)
            .then(|| self.map.get_slice(address as usize, len as usize).ok())
            .flatten()
    }

    /// The aligned 64-bit word at `address`, which must exist.
    pub fn word(&self, address: u64) -> &AtomicU64 {
        self.map
            .get_atomic_ref::<AtomicU64>(address as usize)
            .expect("the caller checked range and alignment")
    }

    /// Reads a table entry.
    pub fn load(&self, address: u64) -> u64 {
        self.word(address).load(Ordering::Acquire)
    }
}
