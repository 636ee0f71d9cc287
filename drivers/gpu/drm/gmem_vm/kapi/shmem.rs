// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The shmem file of a GEM object: host memory that can be swapped out, as long as nobody has pinned it.
//!
//! C header: [`include/linux/shmem_fs.h`](srctree/include/linux/shmem_fs.h)

use super::{
    gem::{
        mapping,
        shmem_file,
        Pages,
        UserMapping, //
    },
    memcg::MemCg, //
};
use kernel::{
    bindings,
    drm::gem::{
        BaseObject,
        Caching,
        Fault,
        IntoGEMObject, //
    },
    fs::File,
    page::PAGE_SHIFT,
    prelude::*,
    sync::aref::ARef, //
};

/// The shmem file of a GEM object. It refers to the object's memory but not to the object.
///
/// # Invariants
///
/// `file` is a shmem file, of at least `bytes` bytes.
pub struct ShmemFile {
    file: ARef<File>,
    bytes: usize,
    /// Whose its pages are.
    memcg: MemCg,
}

impl ShmemFile {
    /// That of an object, whose pages the calling process is charged for. `EINVAL` if it has none.
    pub fn of(obj: &impl IntoGEMObject) -> Result<Self> {
        // INVARIANT: The file of a GEM object is one of shmem, of the object's size.
        Ok(Self {
            file: shmem_file(obj)?,
            bytes: obj.size(),
            memcg: MemCg::of_current(),
        })
    }

    /// Allocates, or swaps in, and pins all of its pages. What has no contents is zero.
    ///
    /// Sleeps; only a fatal signal interrupts it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, for which the OOM killer isn't asked, also if it is more than half of all memory; `EINTR` if the
    /// process is being killed.
    pub fn pin(&self) -> Result<PinnedPages> {
        super::gem::check_size(self.bytes)?;

        self.memcg.charge(|| {
            Ok(PinnedPages {
                user: None,
                // SAFETY: It is a shmem file by the type invariant.
                pages: unsafe { Pages::pin_file(self.file.clone(), self.bytes)? },
            })
        })
    }

    /// Frees its pages, with what is in them: all is zero then. Those that are pinned stay with who pinned them.
    /// Sleeps.
    pub fn discard(&self) {
        // SAFETY: The inode is that of a shmem file by the type invariant.
        unsafe { bindings::shmem_truncate_range((*mapping(&self.file)).host, 0, u64::MAX) };
    }
}

/// All pages of a [`ShmemFile`], which stay where they are; they count as written to when this is dropped.
pub struct PinnedPages {
    // In this order, nobody uses the pages when they are put.
    user: Option<UserMapping>,
    pages: Pages,
}

impl PinnedPages {
    /// Physically contiguous runs: offset in the file, address, and size in bytes; in order, without gaps.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64, usize)> + '_ {
        let bytes = |pages: usize| (pages as u64) << PAGE_SHIFT;
        self.pages.runs().iter().map(move |run| {
            let size = run.pages << PAGE_SHIFT;
            (bytes(run.page), bytes(run.pfn), size)
        })
    }

    /// Resolves a fault of userspace on the object with the page it faulted on, which is removed from the page tables
    /// of userspace before it is put.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such page, or pages were mapped as those of another object before; `ENOMEM`.
    pub fn insert_page(&mut self, fault: &Fault<'_>) -> Result {
        let page = fault.page();
        let user = self.user.get_or_insert_with(|| UserMapping::new(fault));
        let pfn = self.pages.pfn(page).filter(|_| user.is_of(fault));

        // SAFETY: The page is ordinary memory, and that of an object which userspace may access. It stays pinned
        // until `user` is dropped, which removes it from the page tables.
        unsafe { fault.insert_pfn(page, pfn.ok_or(EINVAL)?, Caching::WriteBack) }
    }
}
