// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Buffer objects and their CPU mappings.

use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::device::{Device, Inner};
use crate::error::{Operation, Result};
use crate::{sys, uapi};

/// Where a buffer object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    /// In host memory.
    Host,
    /// In device memory, anywhere.
    Device,
    /// In the part of device memory that the CPU can map.
    DeviceVisible,
}

impl Memory {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Host, Self::Device, Self::DeviceVisible];

    /// Can the CPU map it?
    pub fn is_cpu_visible(self) -> bool {
        self != Self::Device
    }

    /// In device memory of either kind?
    pub fn is_device(self) -> bool {
        self != Self::Host
    }

    fn flags(self) -> u32 {
        match self {
            Self::Host => uapi::BO_HOST,
            Self::Device => uapi::BO_DEVICE,
            Self::DeviceVisible => uapi::BO_DEVICE | uapi::BO_CPU_VISIBLE,
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Host => "host memory",
            Self::Device => "device memory",
            Self::DeviceVisible => "CPU-visible device memory",
        })
    }
}

/// A buffer object. Its memory is freed when nothing uses it any more: this handle, mappings of
/// the CPU or of the device, jobs.
#[derive(Debug)]
pub struct Bo {
    device: Arc<Inner>,
    handle: u32,
    size: u64,
    memory: Memory,
}

impl Bo {
    /// Creates a buffer of zeros. `size` is a multiple of the CPU's page size.
    pub fn new(device: &Device, size: u64, memory: Memory) -> Result<Self> {
        let argument = uapi::BoCreate {
            size,
            flags: memory.flags(),
            handle: 0,
        };
        let created = device.call(Operation::BoCreate, |fd| sys::bo_create(fd, argument))?;
        Ok(Self {
            device: device.inner().clone(),
            handle: created.handle,
            size,
            memory,
        })
    }

    /// Its GEM handle.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where it lies.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    pub(crate) fn device(&self) -> &Arc<Inner> {
        &self.device
    }

    /// Maps all of it for the CPU.
    pub fn map(&self) -> Result<Mapping> {
        let argument = uapi::BoMmap {
            handle: self.handle,
            ..Default::default()
        };
        let offset = self
            .device
            .call(Operation::BoMmap, |fd| sys::bo_mmap(fd, argument))?
            .offset;
        Ok(Mapping(sys::SharedMemory::map(
            self.device.fd(),
            offset,
            self.size as usize,
        )?))
    }
}

impl Drop for Bo {
    fn drop(&mut self) {
        // It fails only if the device is gone, and the handle with it.
        let _ = sys::gem_close(
            self.device.fd(),
            uapi::GemClose {
                handle: self.handle,
                pad: 0,
            },
        );
    }
}

/// Memory that the device shares, as the CPU sees it: a buffer object's, which outlives the handle,
/// or [of the heap](crate::Heap).
///
/// The device may change this memory at any time, so there are no references into it: bytes are
/// copied in and out. What a job wrote can be read once its fence was waited for.
#[derive(Debug)]
pub struct Mapping(pub(crate) sys::SharedMemory);

impl Mapping {
    /// Its size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Copies `source` to byte `offset` of it.
    pub fn write_at<T: NoUninit>(&self, offset: usize, source: &[T]) -> Result<()> {
        self.0.write(offset, bytemuck::cast_slice(source))
    }

    /// Copies from byte `offset` of it to `target`.
    pub fn read_at<T: AnyBitPattern + NoUninit>(
        &self,
        offset: usize,
        target: &mut [T],
    ) -> Result<()> {
        self.0.read(offset, bytemuck::cast_slice_mut(target))
    }

    /// Reads one value.
    pub fn value_at<T: AnyBitPattern + NoUninit>(&self, offset: usize) -> Result<T> {
        let mut value = [T::zeroed()];
        self.read_at(offset, &mut value)?;
        Ok(value[0])
    }

    /// Reads `count` values.
    pub fn values_at<T: AnyBitPattern + NoUninit>(
        &self,
        offset: usize,
        count: usize,
    ) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); count];
        self.read_at(offset, &mut values)?;
        Ok(values)
    }
}
