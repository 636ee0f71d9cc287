// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the PCI abstractions of the kernel crate do not have.

use kernel::{
    bindings,
    container_of,
    device,
    pci,
    prelude::*,
    sync::aref::ARef, //
};

/// The `struct pci_dev` of a device.
fn as_raw(pdev: &pci::Device) -> *mut bindings::pci_dev {
    let dev: &device::Device = pdev.as_ref();

    // SAFETY: The device is embedded in a `struct pci_dev`, by the type invariant of `pci::Device`.
    unsafe { container_of!(dev.as_raw(), bindings::pci_dev, dev) }
}

/// Whether a BAR is one of memory and fills whole pages.
///
/// # Errors
///
/// `EINVAL` if there is no such BAR.
pub fn is_memory_bar(pdev: &pci::Device<device::Bound>, bar: u32) -> Result<bool> {
    let start = pdev.resource_start(bar)?;
    let len = pdev.resource_len(bar)?;

    // SAFETY: The device is valid, and has a resource of this index, since `resource_start()` says so.
    let flags = unsafe { (*as_raw(pdev)).resource[bar as usize].flags };

    let page = kernel::page::PAGE_SIZE as u64;
    Ok(flags & bindings::IORESOURCE_MEM as usize != 0 && len != 0 && (start | len) % page == 0)
}

/// The right of a device to access memory by itself, which can be taken away.
pub struct BusMaster(ARef<pci::Device>);

impl BusMaster {
    /// Of a device that was made bus master.
    pub fn new(pdev: &pci::Device<device::Bound>) -> Self {
        let pdev: &pci::Device = pdev;
        Self(pdev.into())
    }

    /// Makes the device unable to read or write host memory, or to raise interrupts.
    ///
    /// Accesses config space. May be called in any context, also when the device is gone.
    pub fn clear(&self) {
        // SAFETY: We hold a reference to the device.
        unsafe { bindings::pci_clear_master(as_raw(&self.0)) };
    }
}
