// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory control groups: who is charged for memory that somebody else allocates.
//!
//! C header: [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use core::ffi::c_void;

extern "C" {
    fn gmem_vm_memcg_get() -> *mut c_void;
    fn gmem_vm_memcg_put(memcg: *mut c_void);
    fn gmem_vm_memcg_enter(memcg: *mut c_void) -> *mut c_void;
    fn gmem_vm_memcg_leave(before: *mut c_void);
}

/// A memory control group.
///
/// # Invariants
///
/// We own a reference to it, or it is null: there are none.
pub struct MemCg(*mut c_void);

// SAFETY: A group can be charged and released from any thread.
unsafe impl Send for MemCg {}

// SAFETY: A shared reference only lets threads be charged to it.
unsafe impl Sync for MemCg {}

impl MemCg {
    /// That of the calling process.
    pub fn of_current() -> Self {
        // INVARIANT: The function gives us a reference.
        //
        // SAFETY: Process context; a thread without memory of its own has the group that is all.
        Self(unsafe { gmem_vm_memcg_get() })
    }

    /// Charges this one for what the current thread allocates in `f` for userspace. Process context.
    pub fn charge<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: The group is valid by the type invariant, for longer than `f` runs.
        let before = unsafe { gmem_vm_memcg_enter(self.0) };
        let result = f();

        // SAFETY: The same thread, as calls of this nest; a group that was active before is so for whoever made it.
        unsafe { gmem_vm_memcg_leave(before) };
        result
    }
}

impl Drop for MemCg {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { gmem_vm_memcg_put(self.0) };
    }
}
