// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory that is shared with other drivers and devices as dma-bufs.
//!
//! What is imported is kept by the GEM object: the attachment until the object is released, the DMA
//! mapping until then or until the device is unbound, whatever happens first (see
//! [`gem::DriverObject::import`]). Both are as it should be: a mapping belongs to a device that is
//! bound to its driver, which has stopped the hardware by then; the attachment does not, and the
//! object can outlive the device in the hands of a process. So there is nothing to hold here.
//!
//! # Fences
//!
//! An attachment is static: the exporter leaves the memory where it is while it is mapped, and to map
//! it waits for what the exporter itself does there (`DMA_RESV_USAGE_KERNEL`: moves, clearing). Other
//! fences of the reservation object are not looked at, and none are added: who shares memory tells
//! the others by syncobjs when it may be used.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)

use super::gem::HostPages;
use kernel::{
    bindings,
    dma::DmaAddress,
    drm::{
        self,
        gem::{
            self,
            BaseObject, //
        }, //
    },
    page::PAGE_SHIFT,
    prelude::*, //
};

/// Returns the runs of a dma-buf that is imported, as the device sees them: address and size in
/// bytes, in order.
///
/// # Errors
///
/// `EOPNOTSUPP` if CPU and device would not see each other's writes (bounce buffers, or a device that
/// isn't cache-coherent).
pub fn runs<'a, D: drm::Driver>(
    device: &drm::Device<D, drm::Registered>,
    import: &'a gem::Import<'_>,
) -> Result<impl Iterator<Item = (DmaAddress, u64)> + 'a> {
    // SAFETY: A DRM device is valid, and so is its parent, which doesn't change.
    let parent = unsafe { (*device.as_raw()).dev };

    for entry in import.sg_table().iter() {
        // SAFETY: The parent device is valid, and bound as long as its DRM device is registered. The
        // address is one that is mapped for it.
        if unsafe { bindings::dma_need_sync(parent, entry.dma_address()) } {
            return Err(EOPNOTSUPP);
        }
    }

    Ok(import
        .sg_table()
        .iter()
        .map(|entry| (entry.dma_address(), entry.dma_len())))
}

/// Returns the host pages of an object, for another device.
///
/// `pages_of` finds them in the object's data.
///
/// # Errors
///
/// - `EOPNOTSUPP` if the object has none;
/// - `EINVAL` if they are less than the object;
/// - `ENOMEM`
pub fn exported_pages<T: gem::DriverObject>(
    object: &gem::Object<T>,
    pages_of: for<'a> fn(&'a T) -> Option<&'a HostPages>,
) -> Result<gem::ExportedPages> {
    let pages = pages_of(object).ok_or(EOPNOTSUPP)?;
    let count = object.size() >> PAGE_SHIFT;
    let pfns = (0..count).map_while(|page| pages.pfn(page));

    // SAFETY: The pages are ordinary memory with a `struct page`, of a shmem file or allocated for
    // this object, and meant for userspace. They are pinned as long as the `HostPages` live. These
    // live as long as the object is shared: `pages_of` gives a reference to them that is as good as
    // any to the object's data, for however long somebody has that. Only who owns the data alone can
    // drop them; that is the release of the object.
    unsafe { gem::ExportedPages::new(object, pfns) }
}
