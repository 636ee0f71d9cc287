// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! [`File`]: one open file of the device, with the VMs it made.
//!
//! Locks: the table of VMs is under a leaf mutex, never held while a VM is used.

use crate::{
    driver::Driver,
    id_map::IdMap,
    vm::Vm, //
};
use kernel::{
    drm,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// Most VMs that a file can have at a time.
pub const MAX_VMS: usize = 1024;

/// The VMs of a file; dropping it closes them.
struct Vms<D: Driver>(IdMap<Arc<Vm<D>>>);

impl<D: Driver> Drop for Vms<D> {
    fn drop(&mut self) {
        while let Some(vm) = self.0.pop() {
            vm.close();
        }
    }
}

/// One open file.
#[pin_data]
pub struct File<D: Driver> {
    // Declared, and so dropped, before the VMs: the jobs end before their address space does.
    #[pin]
    client: D::Client,
    #[pin]
    vms: Mutex<Vms<D>>,
}

impl<D: Driver> File<D> {
    /// The driver's own state of this file.
    pub fn client(&self) -> &D::Client {
        &self.client
    }

    /// The VM with this id. `ENOENT`.
    pub fn vm(&self, id: u32) -> Result<Arc<Vm<D>>> {
        self.vms.lock().0.get(id).cloned().ok_or(ENOENT)
    }

    /// Gives a VM to the file. `ENOSPC` if it has [`MAX_VMS`], `ENOMEM`.
    pub(crate) fn add_vm(&self, vm: Arc<Vm<D>>) -> Result<u32> {
        self.vms.lock().0.insert(vm)
    }

    /// Takes a VM from the file. `ENOENT`.
    pub(crate) fn take_vm(&self, id: u32) -> Result<Arc<Vm<D>>> {
        self.vms.lock().0.remove(id).ok_or(ENOENT)
    }
}

impl<D: Driver> drm::file::DriverFile for File<D> {
    type Driver = D;

    fn open(device: &drm::Device<D>) -> Result<Pin<KBox<Self>>> {
        KBox::try_pin_init(
            try_pin_init!(Self {
                client <- D::open(device),
                vms <- new_mutex!(Vms(IdMap::new(MAX_VMS)), "gmem_vm::File::vms"),
            }),
            GFP_KERNEL,
        )
    }
}
