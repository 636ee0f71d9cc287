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
#[rustfmt::skip] // the kernel formats its own
pub mod attrs;
pub mod evict;
#[path = "../../../drivers/gpu/drm/gmem_vm/mapping.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod mapping;
#[path = "../../../drivers/gpu/drm/gmem_vm/range.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod range;
#[path = "../../../drivers/gpu/drm/gmem_vm/range_map.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod range_map;
#[path = "../../../drivers/gpu/drm/gmem_vm/range_set.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod range_set;
#[path = "../../../drivers/gpu/drm/gmem_vm/sort.rs"]
#[rustfmt::skip] // the kernel formats its own
pub mod sort;

/// What the files use of the kernel's allocators.
pub mod alloc {
    pub use crate::prelude::Flags;
}

/// What the files use of the kernel's pages.
pub mod page {
    /// Bytes of a page.
    pub const PAGE_SIZE: usize = 4096;
}

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
