// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Areas of a process's memory map, with the map locked.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use core::ops::Deref;
use kernel::{
    bindings,
    mm::{
        virt::VmaRef,
        Mm,
        MmWithUser,
        MmWithUserAsync,
        MmapReadGuard, //
    },
    sync::aref::ARef, //
};

/// Keeps a process's memory for a while. `None` if the process has ended.
///
/// Should it end meanwhile, taking down its memory is not for whoever drops this to wait for, under whatever locks.
pub fn users(mm: &Mm) -> Option<ARef<MmWithUserAsync>> {
    mm.mmget_not_zero().map(MmWithUser::into_mmput_async)
}

/// A process's memory map, locked for reading.
pub struct MemoryMap<'a> {
    _guard: MmapReadGuard<'a>,
    mm: &'a MmWithUser,
}

impl<'a> MemoryMap<'a> {
    /// Locks it. Sleeps.
    pub fn lock(mm: &'a MmWithUser) -> Self {
        Self {
            _guard: mm.mmap_read_lock(),
            mm,
        }
    }

    /// The first area that ends behind an address.
    pub fn next_area(&self, address: usize) -> Option<Area<'_>> {
        // SAFETY: The memory map is locked for reading; any address will do.
        let vma = unsafe { bindings::find_vma(self.mm.as_raw(), address) };
        if vma.is_null() {
            return None;
        }
        // SAFETY: It was found in a map that stays locked for as long as `self` is borrowed.
        Some(unsafe { Area::from_raw(vma) })
    }
}

/// An area of a memory map.
///
/// # Invariants
///
/// For as long as this lives the whole memory map is locked, for reading at least. (Of a mere [`VmaRef`] it may be the
/// area alone.)
#[derive(Clone, Copy)]
pub struct Area<'a>(&'a VmaRef);

impl Area<'_> {
    /// # Safety
    ///
    /// `vma` must be valid, and its memory map stay locked for the lifetime that is chosen.
    pub(super) unsafe fn from_raw(vma: *mut bindings::vm_area_struct) -> Self {
        // INVARIANT: By the requirements.
        //
        // SAFETY: As above.
        Self(unsafe { VmaRef::from_raw(vma) })
    }

    /// Whether it has memory of the process alone, of no file and no driver.
    pub fn is_anonymous(&self) -> bool {
        // SAFETY: The area is valid, and as its memory map is locked `vm_ops` does not change.
        unsafe { (*self.0.as_ptr()).vm_ops.is_null() }
    }
}

impl Deref for Area<'_> {
    type Target = VmaRef;

    fn deref(&self) -> &VmaRef {
        self.0
    }
}

/// End of the addresses that the CPU gives to a process.
pub fn task_size(mm: &Mm) -> usize {
    // SAFETY: The process's memory is valid. The field is written before the process runs in it.
    unsafe { (*mm.as_raw()).__bindgen_anon_1.task_size }
}
