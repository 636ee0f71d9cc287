// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Keeping a driver's module in memory.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)

use core::ptr::NonNull;
use kernel::{
    bindings,
    drm, //
};

/// A reference to a module, for work that nobody waits for.
///
/// # Invariants
///
/// The pointer is valid, and one reference is ours.
pub struct ModuleRef(NonNull<bindings::module>);

// SAFETY: References to a module are taken and dropped by any thread.
unsafe impl Send for ModuleRef {}
// SAFETY: There is nothing to be done with a shared one.
unsafe impl Sync for ModuleRef {}

impl ModuleRef {
    /// Of the module of a device's driver. `None` if it is built in, or being unloaded.
    pub fn of<D: drm::Driver>(device: &drm::Device<D>) -> Option<Self> {
        // SAFETY: A DRM device has a driver with file operations, which live as long as the code that calls this.
        let owner = unsafe { (*(*(*device.as_raw()).driver).fops).owner };

        let owner = NonNull::new(owner)?;

        // SAFETY: The module is there, as its code is running.
        if unsafe { bindings::try_module_get(owner.as_ptr()) } {
            // INVARIANT: We have just got it.
            Some(Self(owner))
        } else {
            None
        }
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::module_put(self.0.as_ptr()) };
    }
}
