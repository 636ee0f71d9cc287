// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The part of a device's memory that the CPU sees through a PCI BAR, for mapping it into
//! processes.

use super::pci::is_memory_bar;
use kernel::{
    device,
    drm::gem::{
        Caching,
        Fault, //
    },
    page::PAGE_SHIFT,
    pci,
    prelude::*, //
};

/// A BAR behind which there is device memory.
///
/// # Invariants
///
/// `start..start + size` is the resource of a memory BAR, and no registers are behind it.
pub struct Aperture {
    start: u64,
    size: u64,
}

impl Aperture {
    /// The aperture that is BAR number `bar` of a device.
    ///
    /// The BAR must contain nothing but memory. Nothing is mapped or requested for the kernel.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device has no such BAR of memory, or it does not fill whole pages.
    pub fn new(pdev: &pci::Device<device::Bound>, bar: u32) -> Result<Self> {
        if !is_memory_bar(pdev, bar)? {
            return Err(EINVAL);
        }
        let size = pdev.resource_len(bar)?;
        // INVARIANT: This is the resource; that it is memory is the caller's word, which is not a
        // matter of soundness: a wrong one gives processes access to the device, not to the
        // kernel's memory.
        Ok(Self {
            start: pdev.resource_start(bar)?,
            size,
        })
    }

    /// Bytes the CPU can see.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Resolves a CPU fault with the page at a local address of the device's memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the aperture does not reach there; `ENOMEM`.
    pub fn insert_page(&self, fault: &Fault<'_>, local: u64) -> Result {
        if local >= self.size {
            return Err(EINVAL);
        }
        let pfn = usize::try_from((self.start + local) >> PAGE_SHIFT)?;
        // SAFETY: By the type invariant the frame is device memory behind a BAR, no memory of the
        // kernel's; and the core takes mappings down when the device is unplugged.
        unsafe { fault.insert_pfn(fault.page(), pfn, Caching::WriteCombine) }
    }
}
