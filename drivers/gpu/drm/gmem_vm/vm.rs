// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`Vm`]: a device address space.
//!
//! Owns the mappings and the page table, which always say the same; both change only in
//! [`crate::bind`], under the VM lock. A job that runs in a VM holds a reference, so that the root
//! table lives; destroying the VM ends its mappings at once and refuses new ones.

use crate::{
    bo::BoObject,
    device::DeviceRef,
    driver::Driver,
    mapping::MappingTree,
    page_table::PageTable,
    range::VaRange, //
};
use kernel::{
    drm,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};

/// Driver attributes of a mapping of driver `D`.
pub type Attrs<D> = <<D as Driver>::PageTable as PageTable>::Attrs;
/// What a job needs to know of an address space of driver `D`.
pub type Root<D> = <<D as Driver>::PageTable as PageTable>::Root;

/// Whether a VM can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It can.
    Live,
    /// The device did not confirm a change: what it has cached is unknown.
    Failed,
    /// It was destroyed.
    Closed,
}

impl State {
    /// `EIO` for a VM that failed, `ENOENT` for one that was destroyed.
    pub(crate) fn check(self) -> Result {
        match self {
            Self::Live => Ok(()),
            Self::Failed => Err(EIO),
            Self::Closed => Err(ENOENT),
        }
    }
}

/// What the VM lock protects.
pub(crate) struct Space<D: Driver> {
    pub(crate) mappings: MappingTree<ARef<BoObject<D>>, Attrs<D>>,
    pub(crate) page_table: D::PageTable,
    pub(crate) state: State,
}

/// A device address space.
#[pin_data]
pub struct Vm<D: Driver> {
    root: Root<D>,
    #[pin]
    pub(crate) space: Mutex<Space<D>>,
    /// Behind the page table, which needs it.
    _device: DeviceRef<D>,
}

impl<D: Driver> Vm<D> {
    /// Creates an empty address space. `ENOMEM`, `ENOSPC` (device memory for the root table).
    pub fn new(device: &drm::Device<D>) -> Result<Arc<Self>> {
        let page_table = D::new_page_table(device)?;
        Arc::pin_init(
            try_pin_init!(Self {
                root: page_table.root(),
                space <- new_mutex!(Space {
                    mappings: MappingTree::new(),
                    page_table,
                    state: State::Live,
                }, "gmem_vm::Vm"),
                _device: device.into(),
            }),
            GFP_KERNEL,
        )
    }

    /// What a job needs to know to run here.
    pub fn root(&self) -> Root<D> {
        self.root
    }

    /// Fails if no job may be submitted here any more: `EIO` after a bind that the device did not
    /// confirm, `ENOENT` after the VM was destroyed.
    pub fn check(&self) -> Result {
        self.space.lock().state.check()
    }

    /// The whole range that can be mapped.
    pub fn range() -> VaRange {
        const {
            match VaRange::from_bounds(D::CAPS.va_start, D::CAPS.va_end) {
                Some(range) => range,
                None => panic!("CAPS: the address space is empty"),
            }
        }
    }
}
