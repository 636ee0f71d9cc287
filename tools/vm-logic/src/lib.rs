// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The pure logic of gmem_vm, tested on the host.
//!
//! These are the kernel module's own files; [`prelude`] stands in for the kernel crate. Their KUnit
//! tests run here too, and `tests/` has what would take too long in a guest: millions of random
//! changes against naive models, shrunk by proptest if one disagrees, and the failure of each
//! allocation.

extern crate self as kernel;

pub mod prelude;

#[path = "../../../drivers/gpu/drm/gmem_vm/attrs.rs"]
pub mod attrs;
#[path = "../../../drivers/gpu/drm/gmem_vm/mapping.rs"]
pub mod mapping;
#[path = "../../../drivers/gpu/drm/gmem_vm/range.rs"]
pub mod range;
#[path = "../../../drivers/gpu/drm/gmem_vm/range_map.rs"]
pub mod range_map;
#[path = "../../../drivers/gpu/drm/gmem_vm/range_set.rs"]
pub mod range_set;
#[path = "../../../drivers/gpu/drm/gmem_vm/sort.rs"]
pub mod sort;

/// What the files use of the driver surface.
pub mod driver {
    /// What a mapping lets the device do.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Access {
        /// The device may write.
        pub write: bool,
        /// The device may fetch commands.
        pub exec: bool,
    }
}

#[cfg(test)]
mod random;
