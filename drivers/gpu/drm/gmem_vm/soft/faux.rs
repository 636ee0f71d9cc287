// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Making a device. The one file of the driver with `unsafe`: promises to the driver core about the
//! lifetime of what it makes.

use crate::{
    driver::{
        Soft,
        SoftDevice, //
    },
    hardware::Hardware, //
};
use kernel::{
    bindings,
    device,
    drm,
    error::to_result,
    faux,
    prelude::*,
    sync::Arc, //
};

/// Runs a function with a device that is registered for so long.
pub(crate) fn with_device<R>(
    hardware: &Arc<Hardware>,
    f: impl FnOnce(&SoftDevice<drm::Registered>) -> Result<R>,
) -> Result<R> {
    let bus = faux::Registration::new(c"gmem_soft", None)?;
    let parent: &faux::Device<device::Bound> = bus.as_ref();
    let dev: &device::Device<device::Bound> = parent.as_ref();
    // The faux bus gives its devices no mask of their own: they do no DMA. Nor does this one, but what
    // it would be told are DMA addresses.
    //
    // SAFETY: The device is valid, and nobody else knows it yet.
    to_result(unsafe {
        let dev = dev.as_raw();
        (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask;
        bindings::dma_set_mask_and_coherent(dev, u64::MAX)
    })?;
    let data = gmem_vm::Device::new(hardware.clone(), None, None);
    let drm = drm::UnregisteredDevice::<Soft>::new(parent, data)?;
    // SAFETY: Dropped at the end of this function.
    let registration = unsafe { drm::Registration::new(dev, drm, Ok::<_, Error>(()), 0)? };
    // SAFETY: The device is valid; it is registered and its parent bound until `registration` and then
    // `bus` are dropped, which is after `f` has returned.
    let device = unsafe { SoftDevice::from_raw(registration.device().as_raw()) };
    f(device)
}
