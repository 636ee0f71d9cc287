// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! DMA addresses of pages of a process, for as long as the device's driver is bound.
//!
//! Device and CPU use such memory at the same time, so there is nothing between: no bounce buffers, and no caches to be
//! flushed by hand. Where that can't be had, mapping fails.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use core::ops::Deref;
use kernel::{
    bindings,
    device::{
        self,
        Bound,
        Device, //
    },
    devres::Devres,
    dma::DmaAddress,
    prelude::*,
    sync::aref::ARef, //
};

/// Gives DMA addresses to physical memory, as long as the device is bound.
pub struct Mapper {
    bound: Devres<Bus>,
    needs_unmap: bool,
}

/// A device for which addresses can be had at this moment.
///
/// # Invariants
///
/// `dev` is bound while `self` can be got at.
pub struct Bus {
    dev: ARef<Device>,
    needs_unmap: bool,
}

const DIRECTION: bindings::dma_data_direction = bindings::dma_data_direction::DMA_BIDIRECTIONAL;

impl Mapper {
    /// For a device, whose driver has said what addresses it can use (`dma_set_mask()`).
    ///
    /// With `unmap`, addresses are to be given back even if that does nothing.
    ///
    /// Process context. `ENOMEM`.
    pub fn new(dev: &device::Device<Bound>, unmap: bool) -> Result<Self> {
        // SAFETY: The device is valid and bound.
        let needs_unmap = unmap || unsafe { bindings::dma_need_unmap(dev.as_raw()) };

        // INVARIANT: `Devres` gives access until the device is unbound.
        let bus = Bus {
            dev: dev.into(),
            needs_unmap,
        };
        Ok(Self {
            bound: Devres::new(dev, Ok::<_, Error>(bus))?,
            needs_unmap,
        })
    }

    /// Whether [`Bus::unmap`] does anything. If not, addresses hold for any part of what was mapped, and need
    /// not be given back.
    pub fn needs_unmap(&self) -> bool {
        self.needs_unmap
    }

    /// The device, unless it is unbound. As long as the guard is there, nothing may sleep.
    pub fn bus(&self) -> Option<impl Deref<Target = Bus> + '_> {
        self.bound.try_access()
    }
}

impl Bus {
    /// Maps physically contiguous memory of the host, `size` bytes, for reading and writing. Does not sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if the device can't reach it, or not without help.
    #[inline]
    pub fn map(&self, phys: u64, size: usize) -> Result<DmaAddress> {
        // SAFETY: The device is bound by the type invariant.
        let address =
            unsafe { bindings::dma_map_phys(self.dev.as_raw(), phys, size, DIRECTION, 0) };

        // SAFETY: As above.
        if unsafe { bindings::dma_mapping_error(self.dev.as_raw(), address) } != 0 {
            return Err(EIO);
        }
        if self.needs_sync(address) {
            // SAFETY: As above; it was just mapped.
            unsafe { bindings::dma_unmap_phys(self.dev.as_raw(), address, size, DIRECTION, 0) };
            return Err(EIO);
        }
        Ok(address)
    }

    /// Whether the device, or the CPU, sees a copy, or has to be told of what the other one wrote.
    fn needs_sync(&self, address: DmaAddress) -> bool {
        // SAFETY: The device is bound by the type invariant.
        unsafe { bindings::dma_need_sync(self.dev.as_raw(), address) }
    }

    /// Undoes a [`map`](Self::map) of the same size, or of each page of it. Does not sleep.
    ///
    /// What else still uses the address is the business of who gave it away: a device without an IOMMU
    /// can be told any address.
    #[inline]
    pub fn unmap(&self, address: DmaAddress, size: usize) {
        if self.needs_unmap && !self.needs_sync(address) {
            // SAFETY: The device is bound by the type invariant. It is no bounce buffer's address, as those need to be
            // synced, so that the CPU's memory is not touched: at most the device loses a mapping, and one that is
            // not there is refused by the IOMMU's driver.
            unsafe { bindings::dma_unmap_phys(self.dev.as_raw(), address, size, DIRECTION, 0) };
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod tests;
