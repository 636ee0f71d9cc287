// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory that a user has locked, as `RLIMIT_MEMLOCK` bounds it.
//!
//! C header: [`include/linux/sched/user.h`](srctree/include/linux/sched/user.h)

use core::ptr::NonNull;
use kernel::{
    bindings,
    page::PAGE_SHIFT,
    prelude::*, //
};

// Inline in the kernel; in `memlock.c`.
extern "C" {
    fn gmem_vm_memlock_user() -> *mut bindings::user_struct;
    fn gmem_vm_memlock_limit() -> usize;
    fn gmem_vm_memlock_charge(user: *mut bindings::user_struct, pages: usize, limit: usize)
        -> bool;
    fn gmem_vm_memlock_uncharge(user: *mut bindings::user_struct, pages: usize);
}

/// A counted reference to a user.
///
/// # Invariants
///
/// The pointer is valid, and one reference is ours.
struct User(NonNull<bindings::user_struct>);

// SAFETY: The user's counts are atomic, and a reference may be dropped anywhere.
unsafe impl Send for User {}
// SAFETY: As above.
unsafe impl Sync for User {}

impl User {
    /// Of the calling process.
    fn current() -> Option<Self> {
        // SAFETY: There is a current task, and it has a user.
        // INVARIANT: The reference is new.
        NonNull::new(unsafe { gmem_vm_memlock_user() }).map(Self)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::free_uid(self.0.as_ptr()) };
    }
}

/// How much a process may lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limit {
    /// As much as it likes (`CAP_IPC_LOCK`).
    None,
    /// So many bytes, together with all else that its user has.
    Bytes(usize),
}

/// Memory that is charged to a user, given back when this is dropped, in any context.
pub struct Locked {
    /// Whoever charged something first; none as long as nothing is charged.
    user: Option<User>,
    /// Of whoever asked last.
    limit: Limit,
    /// What is charged, which is all but what came without a limit.
    pages: usize,
}

impl Locked {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            user: None,
            limit: Limit::Bytes(0),
            pages: 0,
        }
    }

    /// Takes over the limit of the calling process. To be called where it asks for memory to be locked; what is
    /// charged later for the same reason need not be charged by it.
    pub fn ask(&mut self) {
        // SAFETY: There is a current task.
        self.limit = match unsafe { bindings::capable(bindings::CAP_IPC_LOCK as c_int) } {
            true => Limit::None,
            // SAFETY: As above.
            false => Limit::Bytes(unsafe { gmem_vm_memlock_limit() }),
        };
        if self.pages == 0 {
            self.user = None;
        }
    }

    /// Charges so many pages: to the user of the calling process, if nothing is charged yet.
    ///
    /// # Errors
    ///
    /// `EPERM` if nothing may be locked at all, `ENOMEM` if not that much.
    pub fn charge(&mut self, pages: usize) -> Result {
        let limit = match self.limit {
            _ if pages == 0 => return Ok(()),
            Limit::None => return Ok(()),
            Limit::Bytes(0) => return Err(EPERM),
            Limit::Bytes(bytes) => bytes >> PAGE_SHIFT,
        };
        if self.user.is_none() {
            self.user = User::current();
        }
        let user = self.user.as_ref().ok_or(EPERM)?;

        // SAFETY: By the type invariant of `User` it is valid.
        if !unsafe { gmem_vm_memlock_charge(user.0.as_ptr(), pages, limit) } {
            return Err(ENOMEM);
        }

        self.pages += pages;
        Ok(())
    }

    /// Gives back what is charged above so many pages.
    pub fn keep(&mut self, pages: usize) {
        let excess = self.pages.saturating_sub(pages);
        if let Some(user) = self.user.as_ref().filter(|_| excess > 0) {
            // SAFETY: By the type invariant of `User` it is valid; so much was charged to it.
            unsafe { gmem_vm_memlock_uncharge(user.0.as_ptr(), excess) };
            self.pages -= excess;
        }
    }
}

impl Default for Locked {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.keep(0);
    }
}
