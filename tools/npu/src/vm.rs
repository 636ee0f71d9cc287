// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Device address spaces and what is bound into them.

use std::ops::Range;
use std::sync::Arc;

use crate::bo::Bo;
use crate::device::{Device, Inner};
use crate::error::{Error, Operation, Result};
use crate::{sys, uapi};

/// A device address space. It is empty at first: the device reaches only what is bound into it.
#[derive(Debug)]
pub struct Vm {
    device: Arc<Inner>,
    id: u32,
}

impl Vm {
    /// Creates an address space.
    pub fn new(device: &Device) -> Result<Self> {
        let argument = uapi::VmCreate::default();
        let created = device.call(Operation::VmCreate, |fd| sys::vm_create(fd, argument))?;
        Ok(Self {
            device: device.inner().clone(),
            id: created.vm_id,
        })
    }

    /// Its id, unique in its device file.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn device(&self) -> &Arc<Inner> {
        &self.device
    }

    /// Begins a list of changes that take effect together.
    pub fn bind(&self) -> Bind<'_> {
        Bind {
            vm: self,
            ops: Vec::new(),
        }
    }

    /// Unmaps a range of device addresses.
    pub fn unbind(&self, range: Range<u64>) -> Result<()> {
        let size = range.end.saturating_sub(range.start);
        let argument = uapi::Unbind {
            vm_id: self.id,
            flags: 0,
            va: range.start,
            size,
        };
        self.device
            .call(Operation::Unbind, |fd| sys::unbind(fd, argument))
            .map(drop)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It fails only if the device is gone, and the address space with it.
        let _ = sys::vm_destroy(
            self.device.fd(),
            uapi::VmDestroy {
                vm_id: self.id,
                pad: 0,
            },
        );
    }
}

/// How the device caches a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Reads and writes are cached.
    #[default]
    WriteBack,
    /// Nothing is cached.
    Uncached,
    /// Reads are cached.
    WriteThrough,
}

/// What the device may do with a mapping, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapOptions {
    /// The device may not write.
    pub read_only: bool,
    /// The device may fetch commands.
    pub exec: bool,
    /// Cache policy.
    pub cache: Cache,
    /// Compression class, 0 to 3.
    pub compression: u8,
}

impl MapOptions {
    /// For commands: the device may fetch them but not change them.
    pub const COMMANDS: Self = Self {
        read_only: true,
        exec: true,
        cache: Cache::WriteBack,
        compression: 0,
    };

    fn flags(self) -> u32 {
        u32::from(self.read_only) * uapi::BIND_READONLY + u32::from(self.exec) * uapi::BIND_EXEC
    }

    fn attrs(self) -> u64 {
        let cache = match self.cache {
            Cache::WriteBack => uapi::ATTR_CACHE_WRITE_BACK,
            Cache::Uncached => uapi::ATTR_CACHE_UNCACHED,
            Cache::WriteThrough => uapi::ATTR_CACHE_WRITE_THROUGH,
        };
        cache | uapi::attr_compression(self.compression)
    }
}

/// Changes to an address space, made together by [`Bind::commit`]: all of them or none.
#[derive(Debug)]
#[must_use = "nothing changes before commit()"]
pub struct Bind<'vm> {
    vm: &'vm Vm,
    ops: Vec<Op>,
}

/// An operation, and the error that will be reported for it if it can't even be asked for.
type Op = Result<uapi::BindOp, &'static str>;

impl Bind<'_> {
    /// Maps all of a buffer at `va`.
    pub fn map(self, bo: &Bo, va: u64, options: MapOptions) -> Self {
        self.map_part(bo, 0..bo.size(), va, options)
    }

    /// Maps a part of a buffer at `va`.
    pub fn map_part(mut self, bo: &Bo, part: Range<u64>, va: u64, options: MapOptions) -> Self {
        self.ops.push(if Arc::ptr_eq(bo.device(), &self.vm.device) {
            Ok(uapi::BindOp {
                op: uapi::BIND_OP_MAP_BO,
                flags: options.flags(),
                handle: bo.handle(),
                pad: 0,
                va,
                size: part.end.saturating_sub(part.start),
                bo_offset: part.start,
                attrs: options.attrs(),
            })
        } else {
            Err("the buffer")
        });
        self
    }

    /// Unmaps a range.
    pub fn unmap(mut self, range: Range<u64>) -> Self {
        self.ops.push(Ok(uapi::BindOp {
            op: uapi::BIND_OP_UNMAP,
            va: range.start,
            size: range.end.saturating_sub(range.start),
            ..Default::default()
        }));
        self
    }

    /// Makes the changes. When it returns, the device uses the new mappings only.
    pub fn commit(self) -> Result<()> {
        let ops: Vec<uapi::BindOp> = self
            .ops
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|what| Error::OtherDevice { what })?;
        self.vm
            .device
            .call(Operation::Bind, |fd| sys::bind(fd, self.vm.id, &ops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_encoded_as_the_header_says() {
        let options = MapOptions::default();
        assert_eq!((options.flags(), options.attrs()), (0, 0));
        let options = MapOptions::COMMANDS;
        assert_eq!((options.flags(), options.attrs()), (3, 0));
        let options = MapOptions {
            exec: true,
            cache: Cache::WriteThrough,
            compression: 3,
            ..Default::default()
        };
        assert_eq!((options.flags(), options.attrs()), (2, 0b1110));
    }
}
