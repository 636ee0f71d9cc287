// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Device address spaces.

use std::ops::Range;
use std::sync::Arc;

use crate::bind::Bind;
use crate::device::{Device, Inner};
use crate::error::{Operation, Result};
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
        Bind::new(self)
    }

    /// Unmaps a range of device addresses, once all is done that was committed before without a
    /// [`BindQueue`](crate::BindQueue).
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
