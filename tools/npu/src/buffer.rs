// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Buffers that device and CPU can use at once: a buffer object, bound and mapped.

use crate::bind::MapOptions;
use crate::bo::{Bo, Mapping, Memory};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::va::VaAllocator;
use crate::vm::Vm;

/// The CPU's page size in bytes: buffers are multiples of it.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// An address space that finds addresses for its buffers by itself.
#[derive(Debug)]
pub struct Arena {
    device: Device,
    vm: Vm,
    va: VaAllocator,
    page_sizes: Vec<u64>,
}

/// A buffer object with its device address and, if the CPU can reach it, its CPU mapping.
#[derive(Debug)]
pub struct Buffer {
    bo: Bo,
    va: u64,
    mapping: Option<Mapping>,
}

impl Arena {
    /// A new address space.
    pub fn new(device: &Device) -> Result<Self> {
        let info = device.info()?;
        // Address 0 means "none" to some commands.
        let first = info.page_sizes.iter().max().copied().unwrap_or(1);
        Ok(Self {
            device: device.clone(),
            vm: Vm::new(device)?,
            va: VaAllocator::new(info.va_start.max(first)..info.va_end),
            page_sizes: info.page_sizes,
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The address space.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// A buffer of at least `size` bytes, in whole pages.
    pub fn buffer(&mut self, size: usize, memory: Memory) -> Result<Buffer> {
        self.buffer_with(size, memory, MapOptions::default())
    }

    /// A buffer that the device has mapped in a certain way.
    pub fn buffer_with(
        &mut self,
        size: usize,
        memory: Memory,
        options: MapOptions,
    ) -> Result<Buffer> {
        let size = (size as u64).max(1).next_multiple_of(page_size());
        let bo = Bo::new(&self.device, size, memory)?;
        let mapping = if memory.is_cpu_visible() {
            Some(bo.map()?)
        } else {
            None
        };
        let va = self.va.alloc_for_pages(size, &self.page_sizes)?;
        if let Err(error) = self.vm.bind().map(&bo, va, options).commit() {
            self.va.free(va, size);
            return Err(error);
        }
        Ok(Buffer { bo, va, mapping })
    }

    /// Unbinds a buffer and gives its addresses back. A buffer that is only dropped stays bound
    /// as long as the address space lives.
    pub fn release(&mut self, buffer: Buffer) -> Result<()> {
        let size = buffer.bo.size();
        self.vm.unbind(buffer.va..buffer.va + size)?;
        self.va.free(buffer.va, size);
        Ok(())
    }
}

impl Buffer {
    /// Its device address.
    pub fn va(&self) -> u64 {
        self.va
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.bo.size()
    }

    /// Where it lies.
    pub fn memory(&self) -> Memory {
        self.bo.memory()
    }

    /// The buffer object.
    pub fn bo(&self) -> &Bo {
        &self.bo
    }

    /// Its CPU mapping, an error if the CPU can't reach it.
    pub fn cpu(&self) -> Result<&Mapping> {
        self.mapping.as_ref().ok_or(Error::NotMapped)
    }
}
